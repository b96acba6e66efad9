//! Records become state: the one way in which a broker that opens learns of its groups.

use super::classic::{Awaiting, ClassicGroup, GroupState, Heartbeats, Member};
use super::coordinator::GroupCoordinator;
use super::modern::ModernGroup;
use super::offsets::StoredOffset;
use super::records::{GroupRecord, GroupValue, MemberValue, ModernKey, OffsetValue};
use super::request::Protocol;
use super::{Group, GroupKind};
use crate::coordinator::wire::WireFault;
use crate::events::RemovalReason;
use crate::record::{BatchFault, ControlType, RecordBatch};
use crate::time::Now;
use crate::topic::TopicPartition;
use std::sync::Arc;
use std::time::Duration;

/// Where a record stands in `__consumer_offsets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordPosition {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// The producer of a transactional batch; `None` for every other batch.
    pub(crate) producer_id: Option<i64>,
}

/// What became of the records of one batch.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct ReplayedBatch {
    /// Records that were applied, those of unknown types included.
    pub(crate) applied: usize,
    /// Records that could not be read, by offset. They were passed over.
    pub(crate) unreadable: Vec<(i64, WireFault)>,
}

impl GroupCoordinator {
    /// Applies a batch of one partition of `__consumer_offsets`: its records, or the marker of a
    /// control batch. Batches of a partition come in the order of the log. `scratch` is memory
    /// for compressed ones.
    ///
    /// # Errors
    /// [`BatchFault`] when the batch itself cannot be read; records before the fault have been
    /// applied.
    pub(crate) fn replay_batch(
        &mut self,
        partition: i32,
        batch: &RecordBatch<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<ReplayedBatch, BatchFault> {
        let header = batch.header();
        let mut out = ReplayedBatch::default();
        if let Some(control) = batch.control()? {
            if control.kind.is_marker() {
                let committed = control.kind == ControlType::Commit;
                self.replay_marker(partition, header.producer_id, committed);
            }
            return Ok(out);
        }
        let producer_id = header.is_transactional().then_some(header.producer_id);
        for record in batch.records(scratch)? {
            let record = record?;
            let offset = record.offset();
            match GroupRecord::decode(record.key().unwrap_or_default(), record.value()) {
                Ok(record) => {
                    self.replay(record, RecordPosition { partition, offset, producer_id });
                    out.applied += 1;
                }
                Err(fault) => out.unreadable.push((offset, fault)),
            }
        }
        Ok(out)
    }

    /// Applies a stored record. Records of one partition come in the order of the log.
    pub(crate) fn replay(&mut self, record: GroupRecord, at: RecordPosition) {
        match record {
            GroupRecord::Offset { group, topic, partition, value } => match value {
                Some(value) => self.replay_offset(group, topic, partition, value, at),
                None => {
                    if let Some(group) = self.groups.get_mut(&group) {
                        group.offsets.remove(&topic, partition);
                        group.offsets.drop_pending(&topic, partition);
                    }
                }
            },
            GroupRecord::Group { group, value } => match value {
                Some(value) => self.load(&group, &value),
                None => self.forget(&group),
            },
            GroupRecord::Modern { key, value } => self.replay_modern(&key, value.as_ref()),
            GroupRecord::Unknown(_) => {}
        }
    }

    /// A record of the newer protocol with content makes its group one of that protocol; the last
    /// one to go leaves what offsets there are.
    fn replay_modern(&mut self, key: &ModernKey, value: Option<&Arc<[u8]>>) {
        if value.is_some() {
            let group = self
                .groups
                .entry(key.group.clone())
                .or_insert_with_key(|id| Group::new(id.clone(), -1));
            if let Some(classic) = group.classic_mut() {
                classic.end(&mut self.timers);
                group.kind = GroupKind::Consumer(ModernGroup::default());
            }
        }
        let Some(group) = self.groups.get_mut(&key.group) else { return };
        let GroupKind::Consumer(modern) = &mut group.kind else { return };
        modern.replay(key, value);
        if modern.is_gone() {
            self.forget(&key.group);
        }
    }

    /// Takes over what a classic group's record says; offsets stay.
    fn load(&mut self, id: &Arc<str>, value: &GroupValue) {
        let group = self.groups.entry(id.clone()).or_insert_with(|| Group::new(id.clone(), -1));
        if group.classic().is_none() {
            group.kind = GroupKind::Classic(ClassicGroup::new(id.clone(), -1));
        }
        if let Some(classic) = group.classic_mut() {
            classic.load(value);
        }
    }

    fn replay_offset(
        &mut self,
        group: Arc<str>,
        topic: Arc<str>,
        partition: i32,
        value: OffsetValue,
        at: RecordPosition,
    ) {
        let stored = StoredOffset { value, record_offset: at.offset, is_clamped: false };
        let offsets = &mut self.group_or_new(&group).offsets;
        match at.producer_id {
            None => offsets.store(topic, partition, stored),
            Some(producer) => {
                offsets.hold(producer, TopicPartition::new(topic, partition), stored);
                let key = (at.partition, producer);
                self.open_transactions.entry(key).or_default().insert(group);
            }
        }
    }

    /// Applies an end-of-transaction marker of one partition of the offsets topic. Returns whether
    /// an offset counts by it that was set back to the end of its log.
    pub(crate) fn replay_marker(
        &mut self,
        partition: i32,
        producer_id: i64,
        committed: bool,
    ) -> bool {
        let mut is_owed = false;
        let groups = self.open_transactions.remove(&(partition, producer_id)).unwrap_or_default();
        for group in groups {
            if let Some(known) = self.groups.get_mut(&group) {
                is_owed |= known.offsets.end_transaction(producer_id, committed);
                self.moved.insert(group);
            }
        }
        is_owed
    }

    /// The broker begins to write to these partitions of the offsets topic, which ascend: whoever
    /// was a member of a group there in a former process is gone. Groups that
    /// thereby become empty have the next generation, and their record is owed. Static members
    /// keep their session, which begins at `now`.
    ///
    /// Departure: D6. In Kafka they stay until their sessions end. Their process is gone for
    /// certain.
    pub(crate) fn begin_life_in(&mut self, partitions: &[i32], now: Now) {
        let mut ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        ids.retain(|id| partitions.binary_search(&self.partition_of(id)).is_ok());
        for id in ids {
            if let Some(GroupKind::Consumer(modern)) =
                self.groups.get_mut(&id).map(|group| &mut group.kind)
            {
                modern.members.clear();
            }
            let Some((group, mut context)) = self.enter(&id, now) else { continue };
            let mut gone = Vec::new();
            for (id, member) in &mut group.members {
                if member.is_static() {
                    member.heartbeats = Heartbeats::Stopped { at: now.mono };
                    member.renewed_at = now.mono;
                } else {
                    gone.push(id.clone());
                }
            }
            for id in &gone {
                group.remove_member(id, Some(RemovalReason::ProcessGone), &mut context);
            }
            if !gone.is_empty() {
                group.rebalance_or_complete(&mut context);
            }
            group.arm_all(&mut context);
        }
        // The records of groups that became empty are not written now, but owed.
        drop(self.step(()));
    }

    /// As [`Self::begin_life_in`], in all partitions.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn begin_life(&mut self, now: Now) {
        let all: Vec<i32> = (0..self.config.offsets_topic_partitions).collect();
        self.begin_life_in(&all, now);
    }

    fn group_or_new(&mut self, id: &Arc<str>) -> &mut Group {
        self.groups.entry(id.clone()).or_insert_with(|| Group::new(id.clone(), -1))
    }

    /// The group's record is gone; what is left of it are offsets, if there are any.
    fn forget(&mut self, id: &Arc<str>) {
        let Some(mut group) = self.groups.remove(id) else { return };
        if let Some(classic) = group.classic_mut() {
            classic.end(&mut self.timers);
        }
        if !group.offsets.is_empty() {
            let mut simple = Group::new(id.clone(), -1);
            std::mem::swap(&mut simple.offsets, &mut group.offsets);
            self.groups.insert(id.clone(), simple);
        }
    }
}

impl ClassicGroup {
    /// Takes over what a record says.
    fn load(&mut self, value: &GroupValue) {
        self.protocol_type = Some(value.protocol_type.clone()).filter(|kind| !kind.is_empty());
        self.generation_id = value.generation_id;
        self.protocol = value.protocol.clone();
        self.leader_id = value.leader_id.clone();
        self.state_timestamp = value.state_timestamp;
        self.state = if value.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        self.members.clear();
        self.instances.clear();
        self.supported.clear();
        self.owed = false;
        for stored in &value.members {
            let id = stored.member_id.clone();
            if let Some(instance) = &stored.group_instance_id {
                self.instances.insert(instance.clone(), id.clone());
            }
            let member = loaded_member(stored, value.protocol.as_ref());
            for protocol in &member.protocols {
                *self.supported.entry(protocol.name.clone()).or_default() += 1;
            }
            self.members.insert(id, member);
        }
        self.subscribed = self.subscribed_topics();
    }
}

fn loaded_member(stored: &MemberValue, protocol: Option<&Arc<str>>) -> Member {
    let timeout = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    Member {
        group_instance_id: stored.group_instance_id.clone(),
        client_id: stored.client_id.clone(),
        client_host: stored.client_host.clone(),
        session_timeout: timeout(stored.session_timeout_ms),
        rebalance_timeout: timeout(stored.rebalance_timeout_ms),
        protocols: vec![Protocol {
            name: protocol.cloned().unwrap_or_default(),
            metadata: stored.subscription.clone(),
        }],
        assignment: stored.assignment.clone(),
        awaiting: Awaiting::Nothing,
        join_answer: None,
        sync_answer: None,
        is_new: false,
        heartbeats: Heartbeats::Stopped { at: Duration::ZERO },
        renewed_at: Duration::ZERO,
        timer: None,
    }
}
