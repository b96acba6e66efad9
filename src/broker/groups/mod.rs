//! The bridge between the pure group coordinator and the offsets topic: one lock around the
//! coordinator, its records appended to `__consumer_offsets`, its timers in the broker's queue.
//!
//! State is applied at the append, and an append that failed changes nothing. An answer that has
//! to wait for a sync waits outside the lock, and bells are rung outside it. Groups are loaded by
//! replay at the first use. In an attached directory they are shown as stored, and read on.

mod load;
mod notes;
mod store;

use super::inner::Shared;
use crate::config::TopicConfig;
use crate::error::Result;
use crate::group::{
    CommittedOffset, CoordinatorResult, DescribedGroup, GroupConfig, GroupCoordinator, JoinAnswer,
    JoinRequest, LeavingMember, ListedGroup, MemberRef, OffsetToCommit, PartitionOutcomes,
    SyncAnswer, SyncRequest, TopicShape,
};
use crate::log::Log;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, Rank, ranked_mutex};
use crate::time::{Event, Now, TimerKey};
use crate::topic::{OFFSETS_TOPIC, TopicPartition};
use load::Loading;
use std::collections::BTreeMap;
use std::time::Duration;
use store::Store;

/// What the broker keeps of its groups.
#[derive(Debug)]
pub(in crate::broker) struct GroupState {
    held: Mutex<Held>,
    watchers: Mutex<BTreeMap<Arc<str>, Vec<Arc<Event>>>>,
    /// After an unclean stop: no append to any log before offsets beyond its end were clamped.
    settled: AtomicBool,
}

/// What lies under the coordinator's lock.
#[derive(Debug)]
struct Held {
    coordinator: GroupCoordinator,
    loading: Loading,
    store: Store,
    timer: Option<TimerKey>,
}

impl GroupState {
    pub fn new(config: GroupConfig, settled: bool) -> GroupState {
        GroupState {
            held: ranked_mutex(
                Rank::Groups,
                Held {
                    coordinator: GroupCoordinator::new(config),
                    loading: Loading::default(),
                    store: Store::default(),
                    timer: None,
                },
            ),
            watchers: Mutex::new(BTreeMap::new()),
            settled: AtomicBool::new(settled),
        }
    }
}

/// Groups, as consumers and administrators use them.
#[derive(Debug, Clone)]
pub(crate) struct Groups(Arc<Shared>);

impl Groups {
    pub(in crate::broker) fn new(shared: Arc<Shared>) -> Groups {
        Groups(shared)
    }

    /// JoinGroup.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::join`], and of the append.
    pub fn join(&self, request: &JoinRequest) -> Result<JoinAnswer> {
        let shared = &self.0;
        let mut random = || shared.random();
        shared.write_groups(|groups, now| groups.join(request, now, &mut random))?
    }

    /// Whether a pending join has an answer.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::poll_join`].
    pub fn poll_join(&self, group: &str, member: &str) -> Result<JoinAnswer> {
        self.0.touch_groups(|groups, now| groups.poll_join(group, member, now))?
    }

    /// SyncGroup.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::sync`], and of the append.
    pub fn sync(&self, request: &SyncRequest) -> Result<SyncAnswer> {
        self.0.write_groups(|groups, now| groups.sync(request, now))?
    }

    /// Whether a pending sync has an answer.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::poll_sync`].
    pub fn poll_sync(&self, group: &str, member: &str) -> Result<SyncAnswer> {
        self.0.touch_groups(|groups, now| groups.poll_sync(group, member, now))?
    }

    /// Heartbeat; with `poll_deadline` also a sign of life until then.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::heartbeat`].
    pub fn heartbeat(&self, member: &MemberRef, poll_deadline: Option<Duration>) -> Result<()> {
        self.0.touch_groups(|groups, now| groups.heartbeat(member, poll_deadline, now))?
    }

    /// A sign of life until `poll_deadline`.
    pub fn touch(&self, group: &str, member: &str, poll_deadline: Duration) {
        // After the close nobody counts as alive anyway.
        drop(self.0.touch_groups(|groups, now| groups.touch(group, member, poll_deadline, now)));
    }

    /// The member's handle is gone without leaving.
    pub fn stop_beating(&self, group: &str, member: &str) {
        // After the close nobody counts as alive anyway.
        drop(self.0.touch_groups(|groups, now| groups.stop_beating(group, member, now)));
    }

    /// LeaveGroup, one outcome a member.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::leave`]. A record that could not be stored is owed, and no
    /// error: the members are gone all the same.
    pub fn leave(&self, group: &str, leaving: &[LeavingMember]) -> Result<Vec<Result<()>>> {
        self.0.leave_group(group, leaving)
    }

    /// OffsetCommit, one outcome a partition.
    ///
    /// # Durability
    /// As the settings of the offsets topic say; by default as a send.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::commit`], and of the append.
    pub fn commit(
        &self,
        member: &MemberRef,
        offsets: &[OffsetToCommit],
    ) -> Result<PartitionOutcomes> {
        let shared = &self.0;
        let shape = |name: &str| shared.topic_shape(name);
        shared.write_groups(|groups, now| groups.commit(member, offsets, &shape, now))?
    }

    /// OffsetFetch for some partitions, one outcome each, in their order.
    ///
    /// # Errors
    /// Those of loading the groups.
    pub fn committed(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        require_stable: bool,
    ) -> Result<Vec<Result<Option<CommittedOffset>>>> {
        self.0.touch_groups(|groups, _| groups.committed(group, partitions, require_stable))
    }

    /// Every stored offset of a group.
    ///
    /// # Errors
    /// Those of loading the groups.
    pub fn list_offsets(&self, group: &str) -> Result<Vec<(TopicPartition, CommittedOffset)>> {
        self.0.touch_groups(|groups, _| groups.list_offsets(group))
    }

    /// Every group, by name.
    ///
    /// # Errors
    /// Those of loading the groups.
    pub fn list(&self) -> Result<Vec<ListedGroup>> {
        self.0.touch_groups(|groups, _| groups.list())
    }

    /// One group in full.
    ///
    /// # Errors
    /// `GroupIdNotFound`, and those of loading the groups.
    pub fn describe(&self, group: &str) -> Result<DescribedGroup> {
        let topics = self.0.topics.all();
        let name = |id: &_| {
            topics.iter().find(|topic| topic.id() == *id).map(|topic| topic.name().clone())
        };
        self.0.touch_groups(|groups, _| groups.describe(group, &name))?
    }

    /// Deletes a group and its offsets.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::delete_group`], and of the append.
    pub fn delete_group(&self, group: &str) -> Result<()> {
        self.0.write_groups(|groups, _| groups.delete_group(group))?
    }

    /// Deletes stored offsets, one outcome a partition.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::delete_offsets`], and of the append.
    pub fn delete_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<PartitionOutcomes> {
        let shared = &self.0;
        let shape = |name: &str| shared.topic_shape(name);
        shared.write_groups(|groups, _| groups.delete_offsets(group, partitions, &shape))?
    }

    /// Has `bell` rung whenever something happened in the group that its members may wait for,
    /// until it is taken back.
    pub fn watch(&self, group: &Arc<str>, bell: &Arc<Event>) {
        let mut watchers = self.0.groups.watchers.lock();
        let bells = watchers.entry(group.clone()).or_default();
        if !bells.iter().any(|known| Arc::ptr_eq(known, bell)) {
            bells.push(bell.clone());
        }
    }

    /// Takes a bell back.
    pub fn unwatch(&self, group: &str, bell: &Arc<Event>) {
        let mut watchers = self.0.groups.watchers.lock();
        if let Some(bells) = watchers.get_mut(group) {
            bells.retain(|known| !Arc::ptr_eq(known, bell));
            if bells.is_empty() {
                watchers.remove(group);
            }
        }
    }
}

/// What has to be made durable before an answer may be given.
type Sync = (Arc<Log>, i64);

impl Shared {
    /// What the coordinator has to know of a topic.
    fn topic_shape(&self, name: &str) -> Option<TopicShape> {
        let topic = self.topics.get(name).ok()?;
        Some(TopicShape { partitions: topic.partition_count(), id: topic.id() })
    }

    /// Runs a handler that stores nothing by itself; what fell due meanwhile is stored.
    fn touch_groups<R>(
        self: &Arc<Self>,
        handler: impl FnOnce(&mut GroupCoordinator, Now) -> R,
    ) -> Result<R> {
        self.check_open()?;
        let mut held = self.groups.held.lock();
        self.load_groups(&mut held)?;
        let now = self.clock.now();
        let mut syncs = Vec::new();
        if self.owner.is_some() {
            self.expire_groups(&mut held, now, &mut syncs);
        }
        let response = handler(&mut held.coordinator, now);
        self.leave_coordinator(held, syncs)?;
        Ok(response)
    }

    /// Runs a handler and stores its records.
    fn write_groups<R>(
        self: &Arc<Self>,
        handler: impl FnOnce(&mut GroupCoordinator, Now) -> CoordinatorResult<R>,
    ) -> Result<R> {
        self.offsets_topic()?;
        let mut held = self.groups.held.lock();
        self.load_groups(&mut held)?;
        let now = self.clock.now();
        let mut syncs = Vec::new();
        self.expire_groups(&mut held, now, &mut syncs);
        let step = handler(&mut held.coordinator, now);
        let mut outcome = Ok(());
        for append in step.appends {
            match self.store_group(&mut held, append, now) {
                Ok(sync) => syncs.extend(sync),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        self.leave_coordinator(held, syncs)?;
        outcome.map(|()| step.response)
    }

    fn leave_group(
        self: &Arc<Self>,
        group: &str,
        leaving: &[LeavingMember],
    ) -> Result<Vec<Result<()>>> {
        self.owner()?;
        let mut held = self.groups.held.lock();
        self.load_groups(&mut held)?;
        let now = self.clock.now();
        let mut syncs = Vec::new();
        self.expire_groups(&mut held, now, &mut syncs);
        let step = held.coordinator.leave(group, leaving, now);
        self.store_owed(&mut held, step.appends, now, &mut syncs);
        self.leave_coordinator(held, syncs)?;
        step.response
    }

    /// Runs what is due. Members are gone whether or not the record of it could be stored.
    fn expire_groups(&self, held: &mut Held, now: Now, syncs: &mut Vec<Sync>) {
        if held.coordinator.next_deadline().is_some_and(|deadline| deadline <= now.mono) {
            let step = held.coordinator.expire(now);
            self.store_owed(held, step.appends, now, syncs);
        }
    }

    /// Gives the lock up: timers are set before it, bells rung and syncs waited for after it.
    fn leave_coordinator(
        self: &Arc<Self>,
        mut held: crate::sync::MutexGuard<'_, Held>,
        syncs: Vec<Sync>,
    ) -> Result<()> {
        if self.owner.is_some() {
            self.set_group_timer(&mut held);
        }
        let moved = held.coordinator.take_moved();
        let events = held.coordinator.take_events();
        self.show_group_events(&events);
        drop(held);
        self.tell_group_events(&events);
        self.ring_groups(&moved);
        syncs.into_iter().try_for_each(|(log, upto)| log.make_durable(upto))
    }

    fn ring_groups(&self, moved: &[Arc<str>]) {
        if moved.is_empty() {
            return;
        }
        let watchers = self.groups.watchers.lock();
        let bells: Vec<Arc<Event>> =
            moved.iter().filter_map(|group| watchers.get(group)).flatten().cloned().collect();
        drop(watchers);
        bells.iter().for_each(|bell| bell.ring());
    }

    /// Wakes every member that waits for its group.
    pub(in crate::broker) fn ring_all_groups(&self) {
        let bells: Vec<_> = self.groups.watchers.lock().values().flatten().cloned().collect();
        bells.iter().for_each(|bell| bell.ring());
    }

    fn set_group_timer(self: &Arc<Self>, held: &mut Held) {
        let next = held.coordinator.next_deadline();
        let set = held.timer.map(TimerKey::deadline);
        // A timer that fires early does no harm, so it is only ever moved forward.
        if next.is_none_or(|next| set.is_some_and(|set| set <= next)) {
            return;
        }
        if let Some(key) = held.timer.take() {
            self.timers.cancel(key);
        }
        let weak = Arc::downgrade(self);
        held.timer = next.map(|deadline| {
            let task = move |now: Now| {
                if let Some(shared) = weak.upgrade() {
                    shared.groups_tick(now);
                }
            };
            self.timers.schedule(deadline, Box::new(task))
        });
    }

    /// What the timer of the groups does.
    fn groups_tick(self: &Arc<Self>, now: Now) {
        let mut held = self.groups.held.lock();
        held.timer = None;
        let mut syncs = Vec::new();
        self.expire_groups(&mut held, now, &mut syncs);
        // Nobody waits for these records; the flusher makes them durable.
        syncs.clear();
        // With nothing to wait for, this cannot fail.
        drop(self.leave_coordinator(held, syncs));
    }

    /// The offsets topic, made if it is missing.
    fn offsets_topic(&self) -> Result<()> {
        self.owner()?;
        if self.topics.get(OFFSETS_TOPIC).is_ok() {
            return Ok(());
        }
        let partitions = self.config.offsets_topic_partitions();
        let config = TopicConfig::of_offsets_topic(&self.config);
        self.internal_topic(OFFSETS_TOPIC, partitions, config).map(drop)
    }

    /// A topic was deleted: all groups forget its offsets. With the offsets topic itself, all
    /// groups are gone.
    pub(in crate::broker) fn groups_forget(self: &Arc<Self>, topic: &str) -> Result<()> {
        if topic == OFFSETS_TOPIC {
            let mut held = self.groups.held.lock();
            let config = self.group_config();
            if let Some(key) = held.timer.take() {
                self.timers.cancel(key);
            }
            held.coordinator = GroupCoordinator::new(config);
            held.loading = Loading::default();
            held.store.forget_logs();
            drop(held);
            self.ring_all_groups();
            return Ok(());
        }
        if self.topics.get(OFFSETS_TOPIC).is_err() {
            return Ok(());
        }
        self.write_groups(|groups, _| groups.topic_deleted(topic))
    }

    /// What the broker's settings say about groups.
    pub(in crate::broker) fn group_config(&self) -> GroupConfig {
        let topic = self.topics.get(OFFSETS_TOPIC).map(|topic| topic.partition_count());
        GroupConfig {
            min_session_timeout: self.config.group_min_session_timeout(),
            max_session_timeout: self.config.group_max_session_timeout(),
            initial_rebalance_delay: self.config.group_initial_rebalance_delay(),
            max_size: self.config.group_max_size(),
            offset_metadata_max_bytes: self.config.offset_metadata_max_bytes(),
            offsets_topic_partitions: topic
                .unwrap_or_else(|_| self.config.offsets_topic_partitions()),
        }
    }

    /// After an unclean stop: before anything is appended to any log, offsets that lie beyond the
    /// end of theirs are set back, durably. Else a group would skip what is written there next.
    ///
    /// # Errors
    /// Those of loading the groups and of storing their records.
    pub(in crate::broker) fn settle_groups(&self) -> Result<()> {
        // Acquire: pairs with the Release below.
        if self.groups.settled.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut held = self.groups.held.lock();
        if self.groups.settled.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.topics.get(OFFSETS_TOPIC).is_ok() {
            self.load_groups(&mut held)?;
            let now = self.clock.now();
            let mut syncs = Vec::new();
            // A process that died while it deleted a topic may not have stored that its offsets
            // are gone; a new topic of the name must not find them.
            let mut gone = self.owner()?.registry.deleted();
            gone.retain(|(_, live)| !live);
            for (topic, _) in &gone {
                let appends = held.coordinator.topic_deleted(&topic.name).appends;
                self.settle_appends(&mut held, appends, now, &mut syncs)?;
            }
            let owed = held.coordinator.owed();
            self.settle_appends(&mut held, owed, now, &mut syncs)?;
            for (log, upto) in syncs {
                // Under the lock: nobody may append anything, anywhere, before it is durable.
                log.make_durable(upto)?;
            }
            if !gone.is_empty() {
                // It may have stored it and not synced it.
                self.flush_offsets()?;
            }
        }
        self.groups.settled.store(true, Ordering::Release);
        Ok(())
    }
}
