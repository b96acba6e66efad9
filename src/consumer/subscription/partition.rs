//! One assigned partition: where it is read next, and what is known of its log.

use crate::broker::Partition;
use crate::config::OffsetReset;
use crate::consumer::reading::LogReader;
use crate::sync::{Arc, AtomicBool, Ordering};
use crate::time::Signal;
use crate::topic::TopicId;
use std::time::Duration;

/// Where a partition is read next.
///
/// ```text
/// Unset --committed offset--> At <--seek, reset found-- AwaitReset
///   |                          |                           ^
///   +--no commit, by policy----+---out of range, seek_to---+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::consumer) enum Position {
    /// Newly assigned: the committed offset was not asked for.
    Unset,
    /// There is no position until this is looked up.
    AwaitReset(ResetTo),
    /// The next offset to return.
    At(i64),
}

/// Where a reset goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::consumer) enum ResetTo {
    Beginning,
    End,
    /// The first record that is at most this old.
    Since(Duration),
}

impl ResetTo {
    /// None: the policy is to fail.
    pub fn policy(reset: OffsetReset) -> Option<ResetTo> {
        match reset {
            OffsetReset::Earliest => Some(ResetTo::Beginning),
            OffsetReset::Latest => Some(ResetTo::End),
            // Departure: D20. Every poll asks again where no record is young enough; Kafka waits
            // for `request.timeout.ms` before it does.
            OffsetReset::ByDuration(age) => Some(ResetTo::Since(age)),
            OffsetReset::None => None,
        }
    }
}

/// A partition's log, as it was found under one version of the metadata.
#[derive(Debug, Clone)]
pub(in crate::consumer) struct Source {
    pub topic_id: TopicId,
    pub partition: Partition,
}

/// One assigned partition.
#[derive(Debug)]
pub(in crate::consumer) struct PartitionState {
    pub position: Position,
    /// Partitions are fetched in the order of this number; one that returned something is given a
    /// new one.
    pub fetch_order: u64,
    pub paused: bool,
    /// An open transaction holds the committed offset: there is no position before its end.
    pub awaits_commit: bool,
    /// None: there is no such partition at present.
    pub source: Option<Source>,
    /// The topic that the position belongs to.
    pub topic_id: Option<TopicId>,
    /// The metadata version that `source` was looked up under.
    pub seen_version: Option<u64>,
    /// The place in the log that belongs to the position.
    pub reader: LogReader,
    /// The end at the last fetch, as the isolation level sees it.
    pub known_end: Option<i64>,
    /// The lag was asked for before the end was known: the next poll looks.
    pub end_asked: AtomicBool,
    /// The partition is about to be given up, after an automatic commit: no position is looked up
    /// for it any more.
    pub is_leaving: bool,
    /// What the fetch in progress may still return.
    pub fetch: Option<Fetch>,
    /// The log was asked to put this partition on the ready list, and did not so far as is known.
    pub watched: bool,
    /// The next turn looks at it.
    pub(super) awake: bool,
    /// Its place in the queue of fetches, where it is in it.
    pub queued: Option<u64>,
    /// A test holds fetches up until then.
    pub stalled_until: Option<Duration>,
}

/// A fetch of one partition that was begun: its records are returned, over several polls where
/// there are many, before the partition has to wait for its next turn.
#[derive(Debug, Clone, Copy)]
pub(in crate::consumer) struct Fetch {
    /// The place in the order in which fetches were begun.
    pub place: u64,
    /// The position that it goes on from; a seek makes it void.
    pub from: i64,
    /// The end of the log when it was begun.
    pub upto: i64,
    /// `max.partition.fetch.bytes` less what was returned. The first batch does not ask.
    pub bytes_left: usize,
    pub returned: bool,
    /// Others of the same fetch had taken what it may return.
    pub starved: bool,
}

impl PartitionState {
    pub fn new(fetch_order: u64) -> PartitionState {
        PartitionState {
            fetch_order,
            position: Position::Unset,
            paused: false,
            awaits_commit: false,
            source: None,
            topic_id: None,
            seen_version: None,
            reader: LogReader::new(0),
            known_end: None,
            end_asked: AtomicBool::new(false),
            is_leaving: false,
            fetch: None,
            watched: false,
            awake: false,
            queued: None,
            stalled_until: None,
        }
    }

    /// The next offset to return, where there is one.
    pub fn valid_position(&self) -> Option<i64> {
        match self.position {
            Position::At(offset) => Some(offset),
            _ => None,
        }
    }

    /// Moves to `offset`, wherever it was.
    pub fn seek(&mut self, offset: i64) {
        if self.position != Position::At(offset) {
            self.reader.seek(offset);
            self.fetch = None;
        }
        self.position = Position::At(offset);
    }

    /// Whether the fetch that was begun goes on where the position is.
    pub fn is_begun(&self) -> bool {
        self.source.is_some()
            && self.fetch.is_some_and(|fetch| self.position == Position::At(fetch.from))
    }

    /// Takes the end as it was just seen.
    pub fn know_end(&mut self, end: i64) {
        self.known_end = Some(end);
        // Relaxed: the partition is this call's alone.
        self.end_asked.store(false, Ordering::Relaxed);
    }

    /// Takes the signal back from the log.
    pub fn unwatch(&mut self, signal: &Arc<Signal>) {
        if std::mem::take(&mut self.watched)
            && let Some(source) = &self.source
        {
            source.partition.unwatch(signal);
        }
    }

    /// Erases the position until `to` is looked up.
    pub fn reset(&mut self, to: ResetTo) {
        self.position = Position::AwaitReset(to);
        self.fetch = None;
        self.reader.forget_batch();
    }
}
