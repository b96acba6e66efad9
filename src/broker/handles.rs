//! The handle that users hold, and the handles that it makes.

use crate::admin::Admin;
use crate::broker::core::BrokerInner;
use crate::broker::directory::adopt::AdoptionReport;
use crate::broker::health::Health;
use crate::broker::options::BrokerOptions;
use crate::config::ProducerConfig;
use crate::error::Result;
use crate::producer::Producer;
use crate::sync::Arc;
use crate::time::Clock;
use std::path::Path;

/// A directory of topics, opened. Cheap to clone; all clones are the same broker.
///
/// A directory has one owner at a time, held by an operating-system lock. When the last handle
/// (this type, and everything made from it) is dropped without [`Broker::close`], threads are
/// stopped and the lock is freed, and the next open treats it as a process that died: nothing
/// acknowledged is lost.
///
/// Records are mapped into memory. Where the disk goes away, or another process truncates a file
/// of the directory, calls return [`ErrorKind::StorageFailed`](crate::ErrorKind::StorageFailed);
/// touching a record that was returned before, and whose bytes are gone, ends the process with
/// SIGBUS: see [`BrokerOptions::sigbus_handler`](crate::BrokerOptions::sigbus_handler).
///
/// # Examples
/// ```
/// use topiclite::{Broker, TopicConfig};
/// # let dir = tempfile::tempdir().unwrap();
/// let broker = Broker::open(dir.path().join("data"))?;
/// broker.admin().create_topic("orders", 3, TopicConfig::default())?;
/// assert_eq!(broker.admin().list_topics()?.len(), 1);
/// broker.close()?;
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Clone)]
pub struct Broker(Arc<BrokerInner>);

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Broker({})", self.0.dir.display())
    }
}

impl Broker {
    /// Opens a directory for reading and writing, and makes it if it is missing. The path is made
    /// absolute, and links in it are followed, once: what becomes of either later changes nothing.
    ///
    /// Departure: D35. A partition whose folder, or a segment of which, is a symbolic link is read
    /// and is read-only, and a file in the place of a new segment stays. Kafka writes, and deletes.
    ///
    /// Nothing is written but the lock file, and no partition's folder is touched, until they are
    /// used. A directory that Apache Kafka wrote is read whole and checked first.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`](crate::ErrorKind::Locked) names the process that owns the directory;
    /// [`ErrorKind::UnsupportedFormat`](crate::ErrorKind::UnsupportedFormat) when a newer version
    /// wrote it; [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub fn open(dir: impl AsRef<Path>) -> Result<Broker> {
        BrokerOptions::new().open(dir)
    }

    /// A broker whose records live in memory and end with it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when no thread can be started.
    pub fn in_memory() -> Result<Broker> {
        BrokerOptions::new().in_memory()
    }

    /// Opens a directory for reading, without the lock: beside its running owner, or what a killed
    /// one left. What writes gives [`ErrorKind::ReadOnly`](crate::ErrorKind::ReadOnly).
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when there is no such directory.
    pub fn attach(dir: impl AsRef<Path>) -> Result<Broker> {
        BrokerOptions::new().attach(dir)
    }

    pub(super) fn from_inner(inner: Arc<BrokerInner>) -> Broker {
        Broker(inner)
    }

    pub(crate) fn inner(&self) -> &Arc<BrokerInner> {
        &self.0
    }

    /// Topics, their settings and offsets, groups.
    pub fn admin(&self) -> Admin {
        Admin::new(self.0.clone())
    }

    /// Makes a producer.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) for settings that are refused
    /// or contradict each other, and [`ErrorKind::Kafka`](crate::ErrorKind::Kafka) over it where
    /// the Java client wraps it so; [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    pub fn producer(&self, config: ProducerConfig) -> Result<Producer> {
        Producer::new(self.0.clone(), &config)
    }

    /// The clock that everything in this broker goes by.
    pub fn clock(&self) -> &Clock {
        self.0.clock()
    }

    /// What went wrong so far.
    pub fn health(&self) -> Health {
        self.0.health()
    }

    /// Tells the recorder of the `metrics` facade the present value of every gauge. They are told
    /// at each pass of retention and of the cleaner besides, so that this is for a program that
    /// shows them at moments of its own. `docs/metrics.md` lists them.
    pub fn update_gauges(&self) {
        self.0.report_gauges();
    }

    /// What was found, if opening took over a directory that another program wrote.
    pub fn adoption(&self) -> Option<&AdoptionReport> {
        self.0.adoption()
    }

    /// Makes every record durable.
    ///
    /// # Durability
    /// Everything appended before the call survives power loss.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFailed`](crate::ErrorKind::StorageFailed) of the first partition whose
    /// sync failed; [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    pub fn flush(&self) -> Result<()> {
        self.0.flush()
    }

    /// Closes the directory in good order: all records durable, files cut to their length, the
    /// lock freed. Every handle made from this broker refuses everything afterwards. A second call
    /// does nothing.
    ///
    /// # Errors
    /// The first error of the close; else the first one of background work since the open.
    pub fn close(&self) -> Result<()> {
        self.0.close()
    }
}
