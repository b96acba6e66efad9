//! What a broker is opened with.

use crate::broker::directory::adopt::AdoptionProgress;
use crate::broker::{Broker, BrokerInner};
use crate::config::{BrokerConfig, Durability};
use crate::error::Result;
use crate::probe::Probe;
use crate::storage::{Fs, Heap, Storage};
use crate::sync::Arc;
use crate::time::Clock;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;

/// Told how far reading a directory that another program wrote has come.
pub(super) type ProgressCallback = Arc<dyn Fn(&AdoptionProgress) + Send + Sync>;

/// Settings of a broker: Kafka's properties, and what only a library has.
///
/// # Examples
/// ```
/// use topiclite::BrokerOptions;
/// use topiclite::time::VirtualClock;
/// let clock = VirtualClock::stepping();
/// let broker = BrokerOptions::from_properties([("num.partitions", "3")])?
///     .clock(clock.clock())
///     .seed(7)
///     .in_memory()?;
/// broker.admin().create_topic("orders", -1, Default::default())?;
/// assert_eq!(broker.admin().describe_topic("orders")?.partition_count(), 3);
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct BrokerOptions {
    pub(super) config: BrokerConfig,
    pub(super) clock: Option<Clock>,
    pub(super) seed: Option<u64>,
    pub(super) storage: Option<Arc<dyn Storage>>,
    pub(super) progress: Option<ProgressCallback>,
    pub(super) mapped_segments_max: Option<usize>,
    pub(super) unguarded: bool,
    pub(super) cut_damage: bool,
    pub(super) probe: Probe,
}

impl BrokerOptions {
    /// Kafka's defaults, except where `docs/kafka.md` lists a departure.
    pub fn new() -> BrokerOptions {
        BrokerOptions::default()
    }

    /// Takes broker properties by Kafka's names (`server.properties`).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) for an unknown key or a
    /// refused value.
    pub fn from_properties<K, V>(
        properties: impl IntoIterator<Item = (K, V)>,
    ) -> Result<BrokerOptions>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        Ok(BrokerOptions::new().config(BrokerConfig::from_properties(properties)?))
    }

    /// Replaces all properties.
    pub fn config(mut self, config: BrokerConfig) -> BrokerOptions {
        self.config = config;
        self
    }

    /// The clock that the broker and all its clients go by. Default: the system's. Under a
    /// virtual one the broker starts no thread, and what its threads would do is done inside the
    /// calls that let time pass.
    pub fn clock(mut self, clock: Clock) -> BrokerOptions {
        self.clock = Some(clock);
        self
    }

    /// The seed of everything random: topic ids, member ids, jitter. Default: drawn from the
    /// operating system; 0 under a virtual clock, so that a run can be repeated.
    pub fn seed(mut self, seed: u64) -> BrokerOptions {
        self.seed = Some(seed);
        self
    }

    /// What an acknowledged record survives in topics that do not say it themselves.
    pub fn durability(mut self, durability: Durability) -> BrokerOptions {
        self.config = self.config.durability(durability);
        self
    }

    /// Is told how far adoption has come, after each partition, on the thread that opens.
    pub fn progress(
        mut self,
        callback: impl Fn(&AdoptionProgress) + Send + Sync + 'static,
    ) -> BrokerOptions {
        self.progress = Some(Arc::new(callback));
        self
    }

    /// Whether a fault in a mapped segment is answered for. Default: yes.
    ///
    /// Segments are mapped into memory. Where a page of one cannot be had, because the disk is
    /// gone, a copy-on-write file system is full or somebody cut the file, the operating system
    /// sends the thread SIGBUS, which ends a process that does not expect it. The first broker
    /// that opens a directory installs a handler for the process: an append or a read that such a
    /// fault interrupts returns [`ErrorKind::StorageFull`](crate::ErrorKind::StorageFull) or
    /// [`ErrorKind::StorageFailed`](crate::ErrorKind::StorageFailed). Every other SIGBUS goes to
    /// the handler that was there before; one in records that a poll returned earlier first
    /// writes a line with the name of the file to the standard error. A program that installs a
    /// handler of its own later hands on what it does not know.
    ///
    /// With `false` this broker installs none, and its segments are not answered for. Only Linux
    /// has the handler.
    pub fn sigbus_handler(mut self, installed: bool) -> BrokerOptions {
        self.unguarded = !installed;
        self
    }

    /// Whether partitions that are read-only after damage end before it, and can be written again.
    /// Default: no.
    ///
    /// Nothing is deleted: before the first append, or with
    /// [`Admin::repair_partition`](crate::Admin::repair_partition), what lies behind the damage is
    /// copied to `FILE.cut` and cut off, and later files are renamed to that. Commits of groups
    /// beyond the new end are set back to it. What would be done:
    /// [`Admin::planned_repairs`](crate::Admin::planned_repairs).
    pub fn cut_damage(mut self, cut: bool) -> BrokerOptions {
        self.cut_damage = cut;
        self
    }

    /// Another medium than files, for tests.
    #[doc(hidden)]
    pub fn storage(mut self, storage: Arc<dyn Storage>) -> BrokerOptions {
        self.storage = Some(storage);
        self
    }

    /// Who watches and steers.
    #[cfg(feature = "testing")]
    pub(crate) fn probe(mut self, probe: Probe) -> BrokerOptions {
        self.probe = probe;
        self
    }

    /// How many sealed segments stay mapped between reads, for tests.
    #[doc(hidden)]
    pub fn mapped_segments_max(mut self, count: usize) -> BrokerOptions {
        self.mapped_segments_max = Some(count);
        self
    }

    /// Opens the directory for reading and writing: see [`Broker::open`].
    ///
    /// # Errors
    /// Those of [`Broker::open`], and
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) for a refused setting.
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Broker> {
        let storage = self.storage.clone().unwrap_or_else(|| self.files());
        BrokerInner::open(self, storage, dir.as_ref()).map(Broker::from_inner)
    }

    /// A broker whose records live in memory and end with it: see [`Broker::in_memory`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) for a refused setting.
    pub fn in_memory(self) -> Result<Broker> {
        let storage = self.storage.clone().unwrap_or_else(|| Arc::new(Heap::new()));
        BrokerInner::open(self, storage, Path::new("/topiclite")).map(Broker::from_inner)
    }

    /// Opens the directory for reading, beside its owner: see [`Broker::attach`].
    ///
    /// # Errors
    /// Those of [`Broker::attach`], and
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) for a refused setting.
    pub fn attach(self, dir: impl AsRef<Path>) -> Result<Broker> {
        let storage = self.storage.clone().unwrap_or_else(|| self.files());
        BrokerInner::attach(self, storage, dir.as_ref()).map(Broker::from_inner)
    }

    fn files(&self) -> Arc<dyn Storage> {
        Arc::new(if self.unguarded { Fs::without_guard() } else { Fs::new() })
    }

    /// The seed to use under `clock`.
    pub(super) fn seed_under(&self, clock: &Clock) -> u64 {
        match self.seed {
            Some(seed) => seed,
            None if clock.is_virtual() => 0,
            // The standard library's source of random keys is the operating system's.
            None => RandomState::new().build_hasher().finish(),
        }
    }
}

impl fmt::Debug for BrokerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerOptions")
            .field("config", &self.config)
            .field("clock", &self.clock)
            .field("seed", &self.seed)
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}
