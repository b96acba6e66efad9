//! What a consumer reads: the subscription, the partitions, and where it stands in each.
//!
//! A turn looks only at partitions that are *awake*. One falls asleep once nothing but an append, a
//! change of the metadata or a call of the consumer can make something of it; the append puts it on
//! the ready list, the other two wake it. So a turn costs what happened, not what is assigned.

mod partition;

use crate::config::IsolationLevel;
use crate::consumer::offsets::OffsetAndMetadata;
use crate::error::{Error, ErrorKind, Result};
use crate::log::ReadyList;
use crate::storage::fetch_value;
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

/// What a partition is known by while it is assigned.
pub(in crate::consumer) type StateId = u32;

#[derive(Debug)]
struct Entry {
    partition: TopicPartition,
    state: PartitionState,
}

/// The subscription and the assigned partitions.
#[derive(Debug)]
pub(in crate::consumer) struct SubscriptionState {
    mode: Mode,
    topics: BTreeSet<Arc<str>>,
    ids: BTreeMap<TopicPartition, StateId>,
    entries: Vec<Option<Entry>>,
    free: Vec<StateId>,
    /// The partitions that are awake, each once.
    awake: Vec<StateId>,
    ready: Arc<ReadyList>,
    next_fetch_order: u64,
    version: u64,
    topics_version: u64,
    names_version: u64,
}

impl SubscriptionState {
    /// Nothing is assigned; `signal` is what the consumer waits on.
    pub fn new(signal: &Arc<Signal>) -> SubscriptionState {
        SubscriptionState {
            mode: Mode::None,
            topics: BTreeSet::new(),
            ids: BTreeMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            awake: Vec::new(),
            ready: Arc::new(ReadyList::new(signal.clone())),
            next_fetch_order: 0,
            version: 0,
            topics_version: 0,
            names_version: 0,
        }
    }

    /// How partitions come about at present.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Raised by every change of topics or partitions.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Raised by every change of topics.
    pub fn topics_version(&self) -> u64 {
        self.topics_version
    }

    /// Raised when the caller names other topics or partitions.
    pub fn names_version(&self) -> u64 {
        self.names_version
    }

    /// The positions of all assigned partitions that have one, to be committed.
    pub fn consumed(&self) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        let position = |(partition, state): (&TopicPartition, &PartitionState)| {
            Some((partition.clone(), OffsetAndMetadata::new(state.valid_position()?)))
        };
        self.states().filter_map(position).collect()
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
    pub fn set_partitions(&mut self, partitions: BTreeSet<TopicPartition>, signal: &Arc<Signal>) {
        if self.mode == Mode::Partitions && !self.ids.keys().eq(&partitions) {
            self.names_version += 1;
        }
        let SubscriptionState { ids, entries, free, awake, .. } = self;
        ids.retain(|partition, id| {
            let kept = partitions.contains(partition);
            if !kept && let Some(mut gone) = entry_at(entries, *id).and_then(Option::take) {
                gone.state.unwatch(signal);
                free.push(*id);
            }
            kept
        });
        awake.retain(|id| entry_at(entries, *id).is_some_and(|entry| entry.is_some()));
        self.ready.reserve(partitions.len());
        for partition in partitions {
            if !self.ids.contains_key(&partition) {
                let state = PartitionState::new(self.take_fetch_order());
                self.insert(partition, state);
            }
        }
        self.version += 1;
    }

    fn insert(&mut self, partition: TopicPartition, state: PartitionState) {
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            StateId::try_from(self.entries.len() - 1).unwrap_or(StateId::MAX)
        });
        if let Some(entry) = entry_at(&mut self.entries, id) {
            *entry = Some(Entry { partition: partition.clone(), state });
            self.ids.insert(partition, id);
            self.wake(id);
        }
    }

    /// A place behind all others in the order of fetches.
    pub fn take_fetch_order(&mut self) -> u64 {
        self.next_fetch_order += 1;
        self.next_fetch_order
    }

    /// Forgets everything.
    pub fn clear(&mut self, signal: &Arc<Signal>) {
        self.entries.iter_mut().flatten().for_each(|entry| entry.state.unwatch(signal));
        *self = SubscriptionState {
            version: self.version + 1,
            topics_version: self.topics_version + 1,
            names_version: self.names_version + 1,
            ready: self.ready.clone(),
            ..SubscriptionState::new(signal)
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
    pub fn states(&self) -> impl Iterator<Item = (&TopicPartition, &PartitionState)> {
        self.ids.iter().filter_map(|(partition, id)| {
            let entry = self.entries.get(*id as usize)?.as_ref()?;
            Some((partition, &entry.state))
        })
    }

    /// The same, to be changed: all are awake after it.
    pub fn states_mut(&mut self) -> impl Iterator<Item = (&TopicPartition, &mut PartitionState)> {
        self.wake_all();
        let mut entries: Vec<_> = self.entries.iter_mut().map(Option::as_mut).collect();
        self.ids.iter().filter_map(move |(partition, id)| {
            let entry = entries.get_mut(*id as usize)?.take()?;
            Some((partition, &mut entry.state))
        })
    }

    /// The state of a partition, to be changed: it is awake after it.
    pub fn state_mut(&mut self, partition: &TopicPartition) -> Option<&mut PartitionState> {
        let id = *self.ids.get(partition)?;
        self.wake(id);
        self.at(id).map(|(_, state)| state)
    }

    /// The state of an assigned partition.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] when it is not assigned.
    pub fn assigned(&self, partition: &TopicPartition) -> Result<&PartitionState> {
        let id = self.ids.get(partition).ok_or_else(|| not_assigned(partition))?;
        let entry = self.entries.get(*id as usize).and_then(Option::as_ref);
        entry.map(|entry| &entry.state).ok_or_else(|| not_assigned(partition))
    }

    /// The state of an assigned partition, to be changed: it is awake after it.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] when it is not assigned.
    pub fn assigned_mut(&mut self, partition: &TopicPartition) -> Result<&mut PartitionState> {
        self.state_mut(partition).ok_or_else(|| not_assigned(partition))
    }

    /// A partition with its state, which sleeps on if it sleeps.
    pub fn at(&mut self, id: StateId) -> Option<(&TopicPartition, &mut PartitionState)> {
        let entry = entry_at(&mut self.entries, id)?.as_mut()?;
        Some((&entry.partition, &mut entry.state))
    }

    /// Has the next turn look at a partition.
    pub fn wake(&mut self, id: StateId) {
        if let Some(Some(entry)) = entry_at(&mut self.entries, id)
            && !std::mem::replace(&mut entry.state.awake, true)
        {
            self.awake.push(id);
        }
    }

    fn wake_all(&mut self) {
        let SubscriptionState { ids, entries, awake, .. } = self;
        for id in ids.values() {
            if let Some(Some(entry)) = entry_at(entries, *id)
                && !std::mem::replace(&mut entry.state.awake, true)
            {
                awake.push(*id);
            }
        }
    }

    /// Wakes the partitions whose logs went on.
    pub fn wake_ready(&mut self) {
        let SubscriptionState { entries, awake, ready, .. } = self;
        ready.drain(|id| {
            if let Some(Some(entry)) = entry_at(entries, id) {
                entry.state.watched = false;
                if !std::mem::replace(&mut entry.state.awake, true) {
                    awake.push(id);
                }
            }
        });
    }

    /// Hands what the logs have put on the ready list to `take`, and nothing is made of it.
    #[cfg(all(test, not(loom)))]
    pub fn drain_ready(&mut self, take: impl FnMut(StateId)) {
        self.ready.drain(take);
    }

    /// The partitions that are awake.
    pub fn awake(&self) -> impl Iterator<Item = &PartitionState> {
        self.awake.iter().filter_map(|id| Some(&self.entries.get(*id as usize)?.as_ref()?.state))
    }

    /// Asks the processor for a partition that a fetch comes to, `turns` before it does: for what
    /// the step before made known where to find. Of its records only the first are looked at by a
    /// poll; those of the next poll's first partition are asked for with no turn before.
    pub fn fetch_ahead(&self, id: StateId, turns: usize) {
        let Some(entry) = self.entries.get(id as usize) else { return };
        if turns > 2 {
            return fetch_value(entry);
        }
        let Some(Entry { state, .. }) = entry else { return };
        let cursor = state.reader.cursor();
        if turns > 1 {
            cursor.fetch_place();
            if let Some(source) = &state.source {
                source.partition.fetch_ends();
                source.partition.fetch_watchers();
            }
        } else {
            cursor.fetch_bytes(turns == 0);
        }
    }

    /// Looks at each partition that is awake: it falls asleep unless `look` returns true.
    pub fn look_at_awake(&mut self, mut look: impl FnMut(&mut Look<'_>) -> bool) {
        let SubscriptionState { mode, topics, entries, awake, ready, .. } = self;
        let (mut at, mut stay) = (0, 0);
        while let Some(&id) = awake.get(at) {
            // What is in no cache is asked for some partitions before: waiting for it takes longer
            // than the look.
            let later = |turns| awake.get(at + turns).and_then(|id| entries.get(*id as usize));
            later(2 * LOOKS_AHEAD).into_iter().for_each(fetch_value);
            if let Some(Some(entry)) = later(LOOKS_AHEAD)
                && let Some(source) = &entry.state.source
            {
                source.partition.fetch_ends();
            }
            if let Some(Some(Entry { partition, state })) = entry_at(entries, id) {
                let wanted = *mode != Mode::Topics || topics.contains(partition.topic());
                state.awake = look(&mut Look { id, partition, state, wanted, ready });
                if state.awake {
                    awake.swap(stay, at);
                    stay += 1;
                }
            }
            at += 1;
        }
        awake.truncate(stay);
    }

    /// Looks at one partition: it is awake afterwards if `look` returns true, or if it was before.
    pub fn look_at(&mut self, id: StateId, look: impl FnOnce(&mut Look<'_>) -> bool) {
        let SubscriptionState { mode, topics, entries, awake, ready, .. } = self;
        let Some(Some(Entry { partition, state })) = entry_at(entries, id) else { return };
        let wanted = *mode != Mode::Topics || topics.contains(partition.topic());
        let stays = look(&mut Look { id, partition, state, wanted, ready });
        if stays && !std::mem::replace(&mut state.awake, true) {
            awake.push(id);
        }
    }
}

/// So many partitions ahead memory is asked for.
const LOOKS_AHEAD: usize = 6;

/// A partition that is looked at.
pub(in crate::consumer) struct Look<'a> {
    pub id: StateId,
    pub partition: &'a TopicPartition,
    pub state: &'a mut PartitionState,
    /// Records of it may be returned: a change of the subscription drops those of a topic at once,
    /// also while the partition is still assigned.
    pub wanted: bool,
    ready: &'a Arc<ReadyList>,
}

impl Look<'_> {
    /// Has the log put the partition on the ready list; true where it has gone on from `beyond`
    /// already.
    ///
    /// # Errors
    /// Those of the log.
    pub fn watch(&mut self, beyond: i64, isolation: IsolationLevel) -> Result<bool> {
        let Some(source) = self.state.source.as_ref().filter(|_| !self.state.watched) else {
            return Ok(false);
        };
        if source.partition.watch((self.ready, self.id), beyond, isolation)? {
            return Ok(true);
        }
        self.state.watched = true;
        Ok(false)
    }
}

fn entry_at(entries: &mut [Option<Entry>], id: StateId) -> Option<&mut Option<Entry>> {
    entries.get_mut(id as usize)
}

fn not_assigned(partition: &TopicPartition) -> Error {
    Error::new(ErrorKind::IllegalState, "the partition is not assigned to this consumer")
        .with_partition(partition.topic(), partition.partition())
}
