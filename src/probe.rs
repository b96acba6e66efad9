//! The one door through which a test watches a broker and steers it.
//!
//! The engine names the [`Point`]s at which something is about to happen, and the [`Event`]s that
//! did happen. Who listens is the module `testing`; in a build without feature `testing` a
//! [`Probe`] is a type without size whose calls do nothing, and with it a broker that nobody
//! listens to pays one comparison.

use crate::error::Result;
use crate::events::Event;
use crate::sync::Arc;
use crate::time;
use crate::topic::TopicPartition;
use std::fmt;
use std::time::Duration;

/// Something that is about to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point<'a> {
    /// A producer's batch goes into a partition.
    Append { topic: &'a str, partition: i32 },
    /// A partition's files are made durable.
    Sync { topic: &'a str, partition: i32 },
    /// A consumer takes records out of a partition that has some.
    Fetch { topic: &'a str, partition: i32 },
    /// A consumer commits offsets.
    Commit { group: &'a str, client_id: &'a str },
    /// A transaction takes a step.
    Transaction {
        step: TransactionStep,
        transactional_id: &'a str,
        /// Of the steps that are about one.
        partition: Option<&'a TopicPartition>,
        /// Of the steps that are about one.
        group: Option<&'a str>,
    },
}

/// A step of a transaction, as its coordinator takes it: it is done, or it is not. In between,
/// records are appended as outside of a transaction.
///
/// They stand in the order in which they are taken, and are the same where a timeout, a producer
/// that takes over, or the next life of the broker ends a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TransactionStep {
    /// The epoch of the transactional id is raised, so that its producers before are fenced. What
    /// they left open is aborted before, by steps of its own.
    Init,
    /// A partition comes to take part, before its first record.
    AddPartition,
    /// The partition of `__consumer_offsets` that keeps a group comes to take part.
    AddOffsets,
    /// The offsets of a group are stored. They are pending until the end.
    CommitOffsets,
    /// The commit or the abort is decided: its record is stored.
    Prepare,
    /// A partition gets its marker, which ends the transaction there. One step a partition.
    Marker,
    /// All partitions have their marker, and the record that says so is stored.
    Complete,
}

#[cfg(feature = "testing")]
impl TransactionStep {
    /// All of them, in order.
    pub const ALL: [TransactionStep; 7] = [
        TransactionStep::Init,
        TransactionStep::AddPartition,
        TransactionStep::AddOffsets,
        TransactionStep::CommitOffsets,
        TransactionStep::Prepare,
        TransactionStep::Marker,
        TransactionStep::Complete,
    ];
}

/// Its words in a journal.
impl fmt::Display for TransactionStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TransactionStep::Init => "init",
            TransactionStep::AddPartition => "add partition",
            TransactionStep::AddOffsets => "add offsets",
            TransactionStep::CommitOffsets => "commit offsets",
            TransactionStep::Prepare => "prepare",
            TransactionStep::Marker => "marker",
            TransactionStep::Complete => "complete",
        })
    }
}

/// Who listens.
#[cfg(feature = "testing")]
pub(crate) trait Watcher: Send + Sync + fmt::Debug {
    /// Takes note of something.
    fn note(&self, event: Event);
    /// The error that it is to fail with.
    fn check(&self, point: Point<'_>) -> Result<()>;
    /// The error instead of the answer to what has succeeded.
    fn reply(&self, point: Point<'_>) -> Result<()>;
    /// Returns when the call may go on.
    fn pause(&self, point: Point<'_>) -> Result<()>;
    /// Until when it is to be as if there were nothing; `signal` rings when that ends earlier.
    fn hold(&self, point: Point<'_>, signal: &Arc<time::Signal>) -> Option<Duration>;
    /// Whether a call waits at this point.
    fn is_held(&self, point: Point<'_>) -> bool;
    /// A consumer was made; `signal` wakes it.
    fn born(&self, client_id: &Arc<str>, signal: &Arc<time::Signal>) -> KillSwitch;
}

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Probe {
    #[cfg(feature = "testing")]
    watcher: Option<Arc<dyn Watcher>>,
}

#[cfg(feature = "testing")]
impl Probe {
    /// A door with somebody behind it.
    pub fn new(watcher: Arc<dyn Watcher>) -> Probe {
        Probe { watcher: Some(watcher) }
    }

    /// Takes note of something that happened.
    #[inline]
    pub fn note(&self, event: impl FnOnce() -> Event) {
        if let Some(watcher) = &self.watcher {
            watcher.note(event());
        }
    }

    /// Whether anybody listens.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.watcher.is_some()
    }

    /// Fails where a test wants it to. May be called with locks held.
    ///
    /// # Errors
    /// The test's.
    #[inline]
    pub fn check(&self, point: Point<'_>) -> Result<()> {
        self.watcher.as_ref().map_or(Ok(()), |watcher| watcher.check(point))
    }

    /// Fails, although it was done, where a test wants the answer lost.
    ///
    /// # Errors
    /// The test's.
    #[inline]
    pub fn reply(&self, point: Point<'_>) -> Result<()> {
        self.watcher.as_ref().map_or(Ok(()), |watcher| watcher.reply(point))
    }

    /// Waits as long as a test wants it to. Called with no lock held.
    ///
    /// # Errors
    /// `Timeout` when the clock cannot move on and nobody can end the wait.
    #[inline]
    pub fn pause(&self, point: Point<'_>) -> Result<()> {
        self.watcher.as_ref().map_or(Ok(()), |watcher| watcher.pause(point))
    }

    /// Until when a partition is to look as if it had nothing. `Duration::MAX` is until it is
    /// released.
    #[inline]
    pub fn hold(&self, point: Point<'_>, signal: &Arc<time::Signal>) -> Option<Duration> {
        self.watcher.as_ref().and_then(|watcher| watcher.hold(point, signal))
    }

    /// Whether a call that began to wait here is waiting.
    #[inline]
    pub fn is_held(&self, point: Point<'_>) -> bool {
        self.watcher.as_ref().is_some_and(|watcher| watcher.is_held(point))
    }

    /// What a new consumer is held by.
    #[inline]
    pub fn born(&self, client_id: &Arc<str>, signal: &Arc<time::Signal>) -> KillSwitch {
        self.watcher
            .as_ref()
            .map_or_else(KillSwitch::default, |watcher| watcher.born(client_id, signal))
    }
}

#[cfg(not(feature = "testing"))]
#[allow(clippy::unused_self, clippy::unnecessary_wraps)] // The shape of the other build.
impl Probe {
    /// Nothing.
    #[inline(always)]
    pub fn note(&self, _: impl FnOnce() -> Event) {}

    /// Nobody does.
    #[inline(always)]
    pub fn is_on(&self) -> bool {
        false
    }

    /// Nothing.
    #[inline(always)]
    pub fn check(&self, _: Point<'_>) -> Result<()> {
        Ok(())
    }

    /// Nothing.
    #[inline(always)]
    pub fn reply(&self, _: Point<'_>) -> Result<()> {
        Ok(())
    }

    /// Nothing.
    #[inline(always)]
    pub fn pause(&self, _: Point<'_>) -> Result<()> {
        Ok(())
    }

    /// Nothing.
    #[inline(always)]
    pub fn hold(&self, _: Point<'_>, _: &Arc<time::Signal>) -> Option<Duration> {
        None
    }

    /// Nothing is.
    #[inline(always)]
    pub fn is_held(&self, _: Point<'_>) -> bool {
        false
    }

    /// Nothing.
    #[inline(always)]
    pub fn born(&self, _: &Arc<str>, _: &Arc<time::Signal>) -> KillSwitch {
        KillSwitch::default()
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Probe({})", if self.is_on() { "on" } else { "off" })
    }
}

/// How a test reaches one consumer.
#[derive(Debug, Clone, Default)]
pub(crate) struct KillSwitch {
    #[cfg(feature = "testing")]
    killed: Option<Arc<crate::sync::AtomicBool>>,
}

#[cfg(feature = "testing")]
impl KillSwitch {
    /// The consumer is dead once `killed` is set.
    pub fn new(killed: Arc<crate::sync::AtomicBool>) -> KillSwitch {
        KillSwitch { killed: Some(killed) }
    }

    /// Whether the consumer was killed from outside.
    #[inline]
    pub fn is_killed(&self) -> bool {
        // Acquire: pairs with the Release of the kill.
        self.killed.as_ref().is_some_and(|k| k.load(crate::sync::Ordering::Acquire))
    }
}

#[cfg(not(feature = "testing"))]
#[allow(clippy::unused_self)] // The shape of the other build.
impl KillSwitch {
    /// Nobody can.
    #[inline(always)]
    pub fn is_killed(&self) -> bool {
        false
    }
}
