//! What happens in a broker, as a test's journal tells it.
//!
//! An [`Event`] is named where it happens and shown through `probe`; nothing depends on whether
//! anybody takes it.

use crate::error::ErrorKind;
use crate::sync::Arc;
use crate::topic::TopicPartition;
use std::fmt;

/// Why a member is not in its group any more, beside leaving it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemovalReason {
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

impl RemovalReason {
    /// As the label of a metric.
    pub(crate) fn label(self) -> &'static str {
        match self {
            RemovalReason::SessionTimeout => "session_timeout",
            RemovalReason::PollInterval => "poll_interval",
            RemovalReason::DidNotRejoin => "did_not_rejoin",
            RemovalReason::DidNotSync => "did_not_sync",
            RemovalReason::GroupFull => "group_full",
            RemovalReason::ProcessGone => "process_gone",
        }
    }
}

impl fmt::Display for RemovalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RemovalReason::SessionTimeout => "session timeout",
            RemovalReason::PollInterval => "poll interval",
            RemovalReason::DidNotRejoin => "did not rejoin",
            RemovalReason::DidNotSync => "did not sync",
            RemovalReason::GroupFull => "group full",
            RemovalReason::ProcessGone => "process gone",
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
        reason: RemovalReason,
    },
    /// Nobody is left in the group.
    Emptied {
        group: Arc<str>,
    },
    /// A producer took a transactional id over. Those before it are fenced.
    ProducerInitialized {
        transactional_id: Arc<str>,
        producer_epoch: i16,
    },
    /// A partition takes part in a transaction from here on.
    PartitionAdded {
        transactional_id: Arc<str>,
        partition: TopicPartition,
    },
    /// The offsets of a group are committed with a transaction, and pending until it ends.
    OffsetsPending {
        transactional_id: Arc<str>,
        group: Arc<str>,
    },
    /// A transaction took longer than its timeout, and is aborted.
    TransactionTimedOut {
        transactional_id: Arc<str>,
    },
    /// It is decided how a transaction ends.
    TransactionDecided {
        transactional_id: Arc<str>,
        committed: bool,
    },
    /// A partition has the marker that ends a transaction there.
    MarkerWritten {
        transactional_id: Arc<str>,
        partition: TopicPartition,
        committed: bool,
    },
    /// All partitions of a transaction have their markers.
    TransactionEnded {
        transactional_id: Arc<str>,
        committed: bool,
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

impl Event {
    /// The line of an event of a transaction.
    fn tell_of_transaction(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::ProducerInitialized { transactional_id, producer_epoch } => {
                write!(f, "{transactional_id}: producer of epoch {producer_epoch}")
            }
            Event::PartitionAdded { transactional_id, partition } => {
                write!(f, "{transactional_id}: {partition} takes part")
            }
            Event::OffsetsPending { transactional_id, group } => {
                write!(f, "{transactional_id}: offsets of {group} pending")
            }
            Event::TransactionTimedOut { transactional_id } => {
                write!(f, "{transactional_id}: timed out")
            }
            Event::TransactionDecided { transactional_id, committed } => {
                write!(f, "{transactional_id}: {} decided", end_of(*committed))
            }
            Event::MarkerWritten { transactional_id, partition, committed } => {
                write!(f, "{transactional_id}: {} marker in {partition}", end_of(*committed))
            }
            Event::TransactionEnded { transactional_id, committed: true } => {
                write!(f, "{transactional_id}: committed")
            }
            Event::TransactionEnded { transactional_id, committed: false } => {
                write!(f, "{transactional_id}: aborted")
            }
            _ => Ok(()),
        }
    }
}

fn end_of(committed: bool) -> &'static str {
    if committed { "commit" } else { "abort" }
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
            Event::ProducerInitialized { .. }
            | Event::PartitionAdded { .. }
            | Event::OffsetsPending { .. }
            | Event::TransactionTimedOut { .. }
            | Event::TransactionDecided { .. }
            | Event::MarkerWritten { .. }
            | Event::TransactionEnded { .. } => self.tell_of_transaction(f),
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
