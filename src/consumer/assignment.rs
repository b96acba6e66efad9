//! What a consumer reads: the subscription, the partitions, and where it stands in each.

use super::batches::{Partial, SizeHint};
use crate::broker::Partition;
use crate::config::OffsetReset;
use crate::error::{Error, ErrorKind, Result};
use crate::log::Cursor;
use crate::sync::Arc;
use crate::time::Event;
use crate::topic::{TopicId, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How the partitions come about. The first use decides it, only unsubscribing takes it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    #[default]
    None,
    /// `subscribe`: the group assigns.
    Topics,
    /// `assign`: the caller names them.
    Partitions,
}

/// Where a partition is read next.
///
/// ```text
/// Unset --committed offset--> At <--seek, reset found-- AwaitReset
///   |                          |                           ^
///   +--no commit, by policy----+---out of range, seek_to---+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// Newly assigned: the committed offset was not asked for.
    Unset,
    /// There is no position until this is looked up.
    AwaitReset(ResetTo),
    /// The next offset to return.
    At(i64),
}

/// Where a reset goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResetTo {
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
            OffsetReset::ByDuration(age) => Some(ResetTo::Since(age)),
            OffsetReset::None => None,
        }
    }
}

/// A partition's log, as it was found under one version of the metadata.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub topic_id: TopicId,
    pub partition: Partition,
}

/// One assigned partition.
#[derive(Debug)]
pub(super) struct Slot {
    pub position: Position,
    /// Partitions are fetched in the order of this number; one that returned something is given a
    /// new one.
    pub turn: u64,
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
    pub cursor: Cursor,
    /// The end at the last fetch, as the isolation level sees it.
    pub known_end: Option<i64>,
    /// What the fetch in progress may still return.
    pub ticket: Option<Ticket>,
    /// The batch that the position is in the middle of.
    pub partial: Option<Partial>,
    /// What a record takes, to read no more than can be returned.
    pub hint: SizeHint,
    /// The bell was left with the log.
    pub watched: bool,
    /// A test holds fetches up until then.
    pub stalled_until: Option<Duration>,
}

/// A fetch of one partition that was begun: its records are returned, over several polls where
/// there are many, before the partition has to wait for its next turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    /// The position that it goes on from; a seek makes it void.
    pub from: i64,
    /// The end of the log when it was begun.
    pub upto: i64,
    /// `max.partition.fetch.bytes` less what was returned. The first batch does not ask.
    pub bytes_left: usize,
    pub returned: bool,
}

impl Slot {
    fn new(turn: u64) -> Slot {
        Slot {
            turn,
            position: Position::Unset,
            paused: false,
            awaits_commit: false,
            source: None,
            topic_id: None,
            seen_version: None,
            cursor: Cursor::new(0),
            known_end: None,
            ticket: None,
            partial: None,
            hint: SizeHint::default(),
            watched: false,
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

    /// Moves to `offset`, wherever the slot was.
    pub fn seek(&mut self, offset: i64) {
        if self.position != Position::At(offset) {
            self.cursor = Cursor::new(offset);
            self.ticket = None;
            self.partial = None;
        }
        self.position = Position::At(offset);
    }

    /// Takes the bell back from the log.
    pub fn unwatch(&mut self, bell: &Arc<Event>) {
        if std::mem::take(&mut self.watched)
            && let Some(source) = &self.source
        {
            source.partition.unwatch(bell);
        }
    }

    /// Erases the position until `to` is looked up.
    pub fn reset(&mut self, to: ResetTo) {
        self.position = Position::AwaitReset(to);
        self.ticket = None;
        self.partial = None;
    }
}

/// The subscription and the assigned partitions.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    pub mode: Mode,
    topics: BTreeSet<Arc<str>>,
    slots: BTreeMap<TopicPartition, Slot>,
    next_turn: u64,
    /// Raised by every change of topics or partitions.
    pub version: u64,
}

impl Assignment {
    /// Takes `mode`, unless another one is in use.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`].
    pub fn enter(&mut self, mode: Mode) -> Result<()> {
        if self.mode != Mode::None && self.mode != mode {
            return Err(Error::new(
                ErrorKind::IllegalState,
                "subscribe and assign exclude each other; call unsubscribe first",
            ));
        }
        self.mode = mode;
        Ok(())
    }

    /// The topics subscribed to.
    pub fn topics(&self) -> &BTreeSet<Arc<str>> {
        &self.topics
    }

    /// Replaces the topics. False if they are the same.
    pub fn set_topics(&mut self, topics: BTreeSet<Arc<str>>) -> bool {
        if self.topics == topics {
            return false;
        }
        self.topics = topics;
        self.version += 1;
        true
    }

    /// Replaces the partitions. Those in both sets keep their state.
    pub fn set_partitions(&mut self, partitions: BTreeSet<TopicPartition>, bell: &Arc<Event>) {
        self.slots.retain(|partition, slot| {
            let kept = partitions.contains(partition);
            if !kept {
                slot.unwatch(bell);
            }
            kept
        });
        for partition in partitions {
            if !self.slots.contains_key(&partition) {
                let turn = self.take_turn();
                self.slots.insert(partition, Slot::new(turn));
            }
        }
        self.version += 1;
    }

    /// A place behind all others in the order of fetches.
    pub fn take_turn(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn
    }

    /// Forgets everything.
    pub fn clear(&mut self, bell: &Arc<Event>) {
        self.slots.values_mut().for_each(|slot| slot.unwatch(bell));
        let version = self.version + 1;
        *self = Assignment { version, ..Assignment::default() };
    }

    /// The assigned partitions, sorted.
    pub fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.slots.keys()
    }

    pub fn contains(&self, partition: &TopicPartition) -> bool {
        self.slots.contains_key(partition)
    }

    pub fn slots(&self) -> impl Iterator<Item = (&TopicPartition, &Slot)> {
        self.slots.iter()
    }

    /// The partitions whose records may be returned: a change of the subscription drops those of
    /// a topic at once, also while the partition is still assigned.
    pub fn wanted_mut(&mut self) -> impl Iterator<Item = (&TopicPartition, &mut Slot)> {
        let Assignment { mode, topics, slots, .. } = self;
        slots.iter_mut().filter(move |(partition, _)| {
            *mode != Mode::Topics || topics.contains(partition.topic())
        })
    }

    pub fn slots_mut(&mut self) -> impl Iterator<Item = (&TopicPartition, &mut Slot)> {
        self.slots.iter_mut()
    }

    pub fn slot(&self, partition: &TopicPartition) -> Option<&Slot> {
        self.slots.get(partition)
    }

    pub fn slot_mut(&mut self, partition: &TopicPartition) -> Option<&mut Slot> {
        self.slots.get_mut(partition)
    }

    /// The state of an assigned partition.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] when it is not assigned.
    pub fn assigned(&self, partition: &TopicPartition) -> Result<&Slot> {
        self.slots.get(partition).ok_or_else(|| not_assigned(partition))
    }

    /// The state of an assigned partition, to be changed.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] when it is not assigned.
    pub fn assigned_mut(&mut self, partition: &TopicPartition) -> Result<&mut Slot> {
        self.slots.get_mut(partition).ok_or_else(|| not_assigned(partition))
    }

    /// Whether the partition is one of [`Assignment::wanted_mut`].
    pub fn is_wanted(&self, partition: &TopicPartition) -> bool {
        self.mode != Mode::Topics || self.topics.contains(partition.topic())
    }
}

fn not_assigned(partition: &TopicPartition) -> Error {
    Error::new(ErrorKind::IllegalState, "the partition is not assigned to this consumer")
        .with_partition(partition.topic(), partition.partition())
}
