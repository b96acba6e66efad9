//! What a consumer reads: the subscription, the partitions, and where it stands in each.
//!
//! A turn looks only at slots that are *awake*. A slot falls asleep once nothing but an append, a
//! change of the metadata or a call of the consumer can make something of it; the append puts it on
//! the ready list, the other two wake it. So a turn costs what happened, not what is assigned.

mod partition;

use crate::config::IsolationLevel;
use crate::error::{Error, ErrorKind, Result};
use crate::log::ReadyList;
use crate::sync::Arc;
use crate::time::Signal;
use crate::topic::TopicPartition;
pub(in crate::consumer) use partition::{Fetch, PartitionState, Position, ResetTo, Source};
use std::collections::{BTreeMap, BTreeSet};

/// How the partitions come about. The first use decides it, only unsubscribing takes it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::consumer) enum Mode {
    #[default]
    None,
    /// `subscribe`: the group assigns.
    Topics,
    /// `assign`: the caller names them.
    Partitions,
}

/// What a slot is known by while its partition is assigned.
pub(in crate::consumer) type SlotId = u32;

#[derive(Debug)]
struct Entry {
    partition: TopicPartition,
    slot: PartitionState,
}

/// The subscription and the assigned partitions.
#[derive(Debug)]
pub(in crate::consumer) struct Assignment {
    pub mode: Mode,
    topics: BTreeSet<Arc<str>>,
    ids: BTreeMap<TopicPartition, SlotId>,
    entries: Vec<Option<Entry>>,
    free: Vec<SlotId>,
    /// The slots that are awake, each once.
    awake: Vec<SlotId>,
    ready: Arc<ReadyList>,
    next_turn: u64,
    /// Raised by every change of topics or partitions.
    pub version: u64,
    /// Raised by every change of topics.
    pub topics_version: u64,
    /// Raised when the caller names other topics or partitions.
    pub names_version: u64,
}

impl Assignment {
    /// Nothing is assigned; `bell` is what the consumer waits on.
    pub fn new(bell: &Arc<Signal>) -> Assignment {
        Assignment {
            mode: Mode::None,
            topics: BTreeSet::new(),
            ids: BTreeMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            awake: Vec::new(),
            ready: Arc::new(ReadyList::new(bell.clone())),
            next_turn: 0,
            version: 0,
            topics_version: 0,
            names_version: 0,
        }
    }

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
        self.topics_version += 1;
        self.wake_all();
        self.names_version += 1;
        true
    }

    /// Replaces the partitions. Those in both sets keep their state.
    pub fn set_partitions(&mut self, partitions: BTreeSet<TopicPartition>, bell: &Arc<Signal>) {
        if self.mode == Mode::Partitions && !self.ids.keys().eq(&partitions) {
            self.names_version += 1;
        }
        let Assignment { ids, entries, free, awake, .. } = self;
        ids.retain(|partition, id| {
            let kept = partitions.contains(partition);
            if !kept && let Some(mut gone) = entry_at(entries, *id).and_then(Option::take) {
                gone.slot.unwatch(bell);
                free.push(*id);
            }
            kept
        });
        awake.retain(|id| entry_at(entries, *id).is_some_and(|entry| entry.is_some()));
        self.ready.reserve(partitions.len());
        for partition in partitions {
            if !self.ids.contains_key(&partition) {
                let slot = PartitionState::new(self.take_fetch_order());
                self.insert(partition, slot);
            }
        }
        self.version += 1;
    }

    fn insert(&mut self, partition: TopicPartition, slot: PartitionState) {
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            SlotId::try_from(self.entries.len() - 1).unwrap_or(SlotId::MAX)
        });
        if let Some(entry) = entry_at(&mut self.entries, id) {
            *entry = Some(Entry { partition: partition.clone(), slot });
            self.ids.insert(partition, id);
            self.wake(id);
        }
    }

    /// A place behind all others in the order of fetches.
    pub fn take_fetch_order(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn
    }

    /// Forgets everything.
    pub fn clear(&mut self, bell: &Arc<Signal>) {
        self.entries.iter_mut().flatten().for_each(|entry| entry.slot.unwatch(bell));
        *self = Assignment {
            version: self.version + 1,
            topics_version: self.topics_version + 1,
            names_version: self.names_version + 1,
            ready: self.ready.clone(),
            ..Assignment::new(bell)
        };
    }

    /// The assigned partitions, sorted.
    pub fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.ids.keys()
    }

    pub fn contains(&self, partition: &TopicPartition) -> bool {
        self.ids.contains_key(partition)
    }

    /// The assigned partitions, sorted, with their state.
    pub fn slots(&self) -> impl Iterator<Item = (&TopicPartition, &PartitionState)> {
        self.ids.iter().filter_map(|(partition, id)| {
            let entry = self.entries.get(*id as usize)?.as_ref()?;
            Some((partition, &entry.slot))
        })
    }

    /// The same, to be changed: all are awake after it.
    pub fn slots_mut(&mut self) -> impl Iterator<Item = (&TopicPartition, &mut PartitionState)> {
        self.wake_all();
        let mut entries: Vec<_> = self.entries.iter_mut().map(Option::as_mut).collect();
        self.ids.iter().filter_map(move |(partition, id)| {
            let entry = entries.get_mut(*id as usize)?.take()?;
            Some((partition, &mut entry.slot))
        })
    }

    /// The state of a partition, to be changed: it is awake after it.
    pub fn slot_mut(&mut self, partition: &TopicPartition) -> Option<&mut PartitionState> {
        let id = *self.ids.get(partition)?;
        self.wake(id);
        self.at(id).map(|(_, slot)| slot)
    }

    /// The state of an assigned partition.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] when it is not assigned.
    pub fn assigned(&self, partition: &TopicPartition) -> Result<&PartitionState> {
        let id = self.ids.get(partition).ok_or_else(|| not_assigned(partition))?;
        let entry = self.entries.get(*id as usize).and_then(Option::as_ref);
        entry.map(|entry| &entry.slot).ok_or_else(|| not_assigned(partition))
    }

    /// The state of an assigned partition, to be changed: it is awake after it.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] when it is not assigned.
    pub fn assigned_mut(&mut self, partition: &TopicPartition) -> Result<&mut PartitionState> {
        self.slot_mut(partition).ok_or_else(|| not_assigned(partition))
    }

    /// A slot, which sleeps on if it sleeps.
    pub fn at(&mut self, id: SlotId) -> Option<(&TopicPartition, &mut PartitionState)> {
        let entry = entry_at(&mut self.entries, id)?.as_mut()?;
        Some((&entry.partition, &mut entry.slot))
    }

    /// Has the next turn look at a slot.
    pub fn wake(&mut self, id: SlotId) {
        if let Some(Some(entry)) = entry_at(&mut self.entries, id)
            && !std::mem::replace(&mut entry.slot.awake, true)
        {
            self.awake.push(id);
        }
    }

    fn wake_all(&mut self) {
        let Assignment { ids, entries, awake, .. } = self;
        for id in ids.values() {
            if let Some(Some(entry)) = entry_at(entries, *id)
                && !std::mem::replace(&mut entry.slot.awake, true)
            {
                awake.push(*id);
            }
        }
    }

    /// Wakes the slots whose logs went on.
    pub fn wake_ready(&mut self) {
        let Assignment { entries, awake, ready, .. } = self;
        ready.drain(|id| {
            if let Some(Some(entry)) = entry_at(entries, id) {
                entry.slot.watched = false;
                if !std::mem::replace(&mut entry.slot.awake, true) {
                    awake.push(id);
                }
            }
        });
    }

    /// Hands what the logs have put on the ready list to `take`, and nothing is made of it.
    #[cfg(all(test, not(loom)))]
    pub fn drain_ready(&mut self, take: impl FnMut(SlotId)) {
        self.ready.drain(take);
    }

    /// The slots that are awake.
    pub fn awake(&self) -> impl Iterator<Item = &PartitionState> {
        self.awake.iter().filter_map(|id| Some(&self.entries.get(*id as usize)?.as_ref()?.slot))
    }

    /// Looks at each slot that is awake: it falls asleep unless `look` returns true.
    pub fn look_at_awake(&mut self, mut look: impl FnMut(&mut Look<'_>) -> bool) {
        let Assignment { mode, topics, entries, awake, ready, .. } = self;
        awake.retain(|id| {
            let Some(Some(entry)) = entry_at(entries, *id) else { return false };
            let wanted = *mode != Mode::Topics || topics.contains(entry.partition.topic());
            let Entry { partition, slot } = entry;
            let stays = look(&mut Look { id: *id, partition, slot, wanted, ready });
            slot.awake = stays;
            stays
        });
    }
}

/// A slot that is looked at.
pub(in crate::consumer) struct Look<'a> {
    pub id: SlotId,
    pub partition: &'a TopicPartition,
    pub slot: &'a mut PartitionState,
    /// Records of it may be returned: a change of the subscription drops those of a topic at once,
    /// also while the partition is still assigned.
    pub wanted: bool,
    ready: &'a Arc<ReadyList>,
}

impl Look<'_> {
    /// Has the log put the slot on the ready list; true where it has gone on from `beyond` already.
    ///
    /// # Errors
    /// Those of the log.
    pub fn watch(&mut self, beyond: i64, isolation: IsolationLevel) -> Result<bool> {
        let Some(source) = self.slot.source.as_ref().filter(|_| !self.slot.watched) else {
            return Ok(false);
        };
        if source.partition.watch((self.ready, self.id), beyond, isolation)? {
            return Ok(true);
        }
        self.slot.watched = true;
        Ok(false)
    }
}

fn entry_at(entries: &mut [Option<Entry>], id: SlotId) -> Option<&mut Option<Entry>> {
    entries.get_mut(id as usize)
}

fn not_assigned(partition: &TopicPartition) -> Error {
    Error::new(ErrorKind::IllegalState, "the partition is not assigned to this consumer")
        .with_partition(partition.topic(), partition.partition())
}
