//! The one door through which a test watches a broker and steers it.
//!
//! The engine names the [`Point`]s at which something is about to happen, and the [`Event`]s that
//! did happen. Who listens is the module `testing`; in a build without feature `testing` a
//! [`Probe`] is a type without size whose calls do nothing, and with it a broker that nobody
//! listens to pays one comparison.

use crate::error::{ErrorKind, Result};
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
}

/// Why a member is not in its group any more, beside leaving it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutOut {
    /// No heartbeat for `session.timeout.ms`.
    SessionTimeout,
    /// No poll for `max.poll.interval.ms`.
    PollInterval,
    /// It did not join again before the rebalance timeout.
    DidNotRejoin,
    /// It did not fetch its assignment before the rebalance timeout.
    DidNotSync,
    /// The group has `group.max.size` members.
    GroupFull,
    /// The broker was opened anew, so the process that the member was in is dead.
    ProcessGone,
}

impl fmt::Display for PutOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PutOut::SessionTimeout => "session timeout",
            PutOut::PollInterval => "poll interval",
            PutOut::DidNotRejoin => "did not rejoin",
            PutOut::DidNotSync => "did not sync",
            PutOut::GroupFull => "group full",
            PutOut::ProcessGone => "process gone",
        })
    }
}

/// Something that happened in a broker. Its [`Display`](fmt::Display) is one line.
///
/// The broker's own topics are left out: commits and rebalances say what is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(not(feature = "testing"), expect(dead_code, reason = "some happen in tests only"))]
#[allow(missing_docs)] // The names are Kafka's; what is not plain is said.
pub enum Event {
    TopicCreated {
        topic: Arc<str>,
        partitions: i32,
    },
    TopicDeleted {
        topic: Arc<str>,
    },
    /// One batch; both offsets are inclusive.
    Appended {
        partition: TopicPartition,
        first_offset: i64,
        last_offset: i64,
    },
    AppendFailed {
        partition: TopicPartition,
        error: ErrorKind,
    },
    /// Everything below `upto` survives a power cut.
    Synced {
        partition: TopicPartition,
        upto: i64,
    },
    /// The partition is read-only from here on.
    SyncFailed {
        partition: TopicPartition,
        error: ErrorKind,
    },
    /// A poll returned `count` records of a partition, up to but not including `next_offset`.
    Delivered {
        client_id: Arc<str>,
        partition: TopicPartition,
        count: usize,
        next_offset: i64,
    },
    Committed {
        group: Arc<str>,
        client_id: Arc<str>,
        partition: TopicPartition,
        offset: i64,
    },
    CommitFailed {
        group: Arc<str>,
        client_id: Arc<str>,
        error: ErrorKind,
    },
    /// A new member was taken into the group.
    Joined {
        group: Arc<str>,
        client_id: Arc<str>,
    },
    /// Members have to join again.
    Rebalancing {
        group: Arc<str>,
    },
    /// All members have joined; the leader is asked for an assignment.
    GenerationBegan {
        group: Arc<str>,
        generation: i32,
        members: usize,
    },
    /// The leader's assignment counts; one event for each member.
    Assigned {
        group: Arc<str>,
        generation: i32,
        client_id: Arc<str>,
        partitions: Vec<TopicPartition>,
    },
    /// A member left by itself: it was closed, dropped or unsubscribed.
    Left {
        group: Arc<str>,
        client_id: Arc<str>,
    },
    /// A member was put out of its group.
    KickedOut {
        group: Arc<str>,
        client_id: Arc<str>,
        reason: PutOut,
    },
    /// Nobody is left in the group.
    Emptied {
        group: Arc<str>,
    },
    /// An injected fault struck: which, and where.
    Faulted {
        fault: String,
        at: String,
    },
    /// A call began to wait because of an injected fault.
    Stalled {
        at: String,
    },
    /// It goes on.
    Resumed {
        at: String,
    },
    /// A test killed a consumer.
    ConsumerKilled {
        client_id: Arc<str>,
    },
    /// A test stopped a consumer's heartbeats.
    ConsumerStalled {
        client_id: Arc<str>,
    },
    DiskFull,
    DiskFreed,
    /// The broker is gone without a close.
    Crashed {
        how: String,
    },
    /// What survived was opened.
    Opened,
}

struct Names<'a>(&'a [TopicPartition]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (at, partition) in self.0.iter().enumerate() {
            write!(f, "{}{partition}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::TopicCreated { topic, partitions } => {
                write!(f, "created {topic} with {partitions} partitions")
            }
            Event::TopicDeleted { topic } => write!(f, "deleted {topic}"),
            Event::Appended { partition, first_offset, last_offset }
                if first_offset == last_offset =>
            {
                write!(f, "append {partition} at {first_offset}")
            }
            Event::Appended { partition, first_offset, last_offset } => {
                write!(f, "append {partition} at {first_offset} to {last_offset}")
            }
            Event::AppendFailed { partition, error } => {
                write!(f, "append {partition} failed: {}", error.name())
            }
            Event::Synced { partition, upto } => write!(f, "sync {partition} up to {upto}"),
            Event::SyncFailed { partition, error } => {
                write!(f, "sync {partition} failed: {}", error.name())
            }
            Event::Delivered { client_id, partition, count, next_offset } => {
                write!(f, "{client_id} polled {count} of {partition} up to {next_offset}")
            }
            Event::Committed { group, client_id, partition, offset } => {
                write!(f, "{group}: {client_id} committed {partition} at {offset}")
            }
            Event::CommitFailed { group, client_id, error } => {
                write!(f, "{group}: commit of {client_id} failed: {}", error.name())
            }
            Event::Joined { group, client_id } => write!(f, "{group}: {client_id} joined"),
            Event::Rebalancing { group } => write!(f, "{group}: rebalancing"),
            Event::GenerationBegan { group, generation, members } => {
                write!(f, "{group}: generation {generation} of {members}")
            }
            Event::Assigned { group, generation, client_id, partitions } => {
                let names = Names(partitions);
                write!(f, "{group}: {client_id} assigned {names} in generation {generation}")
            }
            Event::Left { group, client_id } => write!(f, "{group}: {client_id} left"),
            Event::KickedOut { group, client_id, reason } => {
                write!(f, "{group}: {client_id} kicked out: {reason}")
            }
            Event::Emptied { group } => write!(f, "{group}: empty"),
            Event::Faulted { fault, at } => write!(f, "fault: {fault}, at {at}"),
            Event::Stalled { at } => write!(f, "stalled: {at}"),
            Event::Resumed { at } => write!(f, "resumed: {at}"),
            Event::ConsumerKilled { client_id } => write!(f, "killed consumer {client_id}"),
            Event::ConsumerStalled { client_id } => write!(f, "stalled consumer {client_id}"),
            Event::DiskFull => f.write_str("disk full"),
            Event::DiskFreed => f.write_str("disk freed"),
            Event::Crashed { how } => write!(f, "crashed: {how}"),
            Event::Opened => f.write_str("opened"),
        }
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
    /// Until when it is to be as if there were nothing; `bell` rings when that ends earlier.
    fn hold(&self, point: Point<'_>, bell: &Arc<time::Event>) -> Option<Duration>;
    /// Whether a call waits at this point.
    fn is_held(&self, point: Point<'_>) -> bool;
    /// A consumer was made; `bell` wakes it.
    fn born(&self, client_id: &Arc<str>, bell: &Arc<time::Event>) -> Leash;
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
    pub fn hold(&self, point: Point<'_>, bell: &Arc<time::Event>) -> Option<Duration> {
        self.watcher.as_ref().and_then(|watcher| watcher.hold(point, bell))
    }

    /// Whether a call that began to wait here is waiting.
    #[inline]
    pub fn is_held(&self, point: Point<'_>) -> bool {
        self.watcher.as_ref().is_some_and(|watcher| watcher.is_held(point))
    }

    /// What a new consumer is held by.
    #[inline]
    pub fn born(&self, client_id: &Arc<str>, bell: &Arc<time::Event>) -> Leash {
        self.watcher.as_ref().map_or_else(Leash::default, |watcher| watcher.born(client_id, bell))
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
    pub fn hold(&self, _: Point<'_>, _: &Arc<time::Event>) -> Option<Duration> {
        None
    }

    /// Nothing is.
    #[inline(always)]
    pub fn is_held(&self, _: Point<'_>) -> bool {
        false
    }

    /// Nothing.
    #[inline(always)]
    pub fn born(&self, _: &Arc<str>, _: &Arc<time::Event>) -> Leash {
        Leash::default()
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Probe({})", if self.is_on() { "on" } else { "off" })
    }
}

/// How a test reaches one consumer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leash {
    #[cfg(feature = "testing")]
    killed: Option<Arc<crate::sync::AtomicBool>>,
}

#[cfg(feature = "testing")]
impl Leash {
    /// The consumer is dead once `killed` is set.
    pub fn new(killed: Arc<crate::sync::AtomicBool>) -> Leash {
        Leash { killed: Some(killed) }
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
impl Leash {
    /// Nobody can.
    #[inline(always)]
    pub fn is_killed(&self) -> bool {
        false
    }
}
