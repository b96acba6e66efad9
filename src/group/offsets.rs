//! Committed offsets: OffsetCommit with its rules, OffsetFetch, clamping, deletion of topics.

use super::Group;
use super::classic::GroupState;
use super::coordinator::{
    GroupCoordinator, check_group_length, rebalancing, refusal, unknown_member,
};
use super::records::{GroupRecord, OffsetValue};
use super::request::{
    CommittedOffset, MemberRef, OffsetToCommit, PartitionOutcomes, TopicLookup, TopicShape,
};
use super::result::{AfterAppend, CoordinatorResult, RecordAppend};
use super::unknown::{existing, is_of_unknown, refused_beside};
use crate::coordinator::TransactionStamp;
use crate::coordinator::hash::partition_for;
use crate::coordinator::wire::STRING_BYTES_MAX;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Now;
use crate::topic::{TopicId, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// An offset and where in the log its record stands.
#[derive(Debug, Clone)]
pub(super) struct StoredOffset {
    pub(super) value: OffsetValue,
    pub(super) record_offset: i64,
    /// A pending one was set back, and its record says otherwise.
    pub(super) is_clamped: bool,
}

/// The offsets of one group.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    stored: BTreeMap<Arc<str>, BTreeMap<i32, StoredOffset>>,
    /// Offsets of open transactions, by producer id.
    pending: BTreeMap<i64, BTreeMap<TopicPartition, StoredOffset>>,
    /// Offsets that were clamped and whose record says otherwise.
    clamped: BTreeSet<TopicPartition>,
}

/// An offset that lay beyond the end of its log, and was brought back to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClampedOffset {
    pub(crate) group: Arc<str>,
    pub(crate) partition: TopicPartition,
    pub(crate) committed: i64,
    pub(crate) log_end_offset: i64,
}

impl GroupCoordinator {
    /// OffsetCommit. One outcome per partition, those of unknown ones first; those that are
    /// accepted are stored together. A commit with generation -1 and no member id is that of a
    /// consumer without group management, or of an administrator.
    ///
    /// # Errors
    /// For the whole commit: `InvalidGroupId` (too long), `GroupIdNotFound`, `UnknownMemberId`,
    /// `FencedInstanceId`, `IllegalGeneration`, `RebalanceInProgress`; who is no member is told it
    /// beside unknown partitions for each of the others. Per partition: `UnknownTopicOrPartition`,
    /// `OffsetMetadataTooLarge`.
    pub(crate) fn commit(
        &mut self,
        member: &MemberRef,
        offsets: &[OffsetToCommit],
        topics: TopicLookup<'_>,
        now: Now,
    ) -> CoordinatorResult<Result<PartitionOutcomes>> {
        if let Err(error) = check_group_length(&member.group_id) {
            return CoordinatorResult::done(Err(error));
        }
        let mut records = match self.admit(member, offsets.len(), now) {
            Ok(records) => records,
            // A member's client knows that it is out before it asks anybody.
            Err(error) if !member.member_id.is_empty() => {
                return CoordinatorResult::done(Err(error));
            }
            Err(error) => return CoordinatorResult::done(refused_beside(error, offsets, topics)),
        };
        let before = records.len();
        let mut outcomes = Vec::with_capacity(offsets.len());
        let mut known: Option<(&Arc<str>, Option<TopicShape>)> = None;
        let mut is_known = true;
        for commit in offsets {
            let topic = commit.partition.topic_shared();
            let shape = match known {
                Some((name, shape)) if name == topic => shape,
                _ => topics(topic),
            };
            known = Some((topic, shape));
            let outcome = self.check_offset(commit, shape);
            is_known &= !is_of_unknown(&outcome);
            if let Ok(id) = outcome
                && !self.is_committed(member, commit, id)
            {
                records.push(offset_record(&member.group_id, commit, id, now));
            }
            outcomes.push((commit.partition.clone(), outcome.map(|_| ())));
        }
        if !is_known {
            outcomes.sort_by_key(|(_, outcome)| !is_of_unknown(outcome));
        }
        let mut step = CoordinatorResult::done(Ok(outcomes));
        if records.len() > before {
            step.appends.push(self.append(member.group_id.clone(), records, AfterAppend::Nothing));
        }
        step
    }

    /// Lets a member commit: what its group has to store before the offsets.
    fn admit(&mut self, member: &MemberRef, room: usize, now: Now) -> Result<Vec<GroupRecord>> {
        let mut records = Vec::with_capacity(room);
        match self.groups.get(&member.group_id) {
            Some(group) => {
                group.check_commit(member)?;
                records.extend(group.owed_record());
                if let Some((classic, mut context)) = self.enter(&member.group_id, now) {
                    classic.renew(&member.member_id, None, &mut context);
                }
            }
            None if member.generation_id >= 0 => {
                let why = "it does not exist, so it has no generation to commit in";
                return Err(refusal(ErrorKind::GroupIdNotFound, &member.group_id, why));
            }
            None => {}
        }
        Ok(records)
    }

    /// TxnOffsetCommit: as [`GroupCoordinator::commit`], in the producer's open transaction. What
    /// is accepted is pending until the transaction ends. Members are told apart as for a commit;
    /// a bare group id is accepted also while the group has members, and while it rebalances.
    ///
    /// # Errors
    /// For the whole commit: `InvalidGroupId` (too long), `UnknownMemberId`, `FencedInstanceId`,
    /// `IllegalGeneration`. Per partition: `UnknownTopicOrPartition`, `OffsetMetadataTooLarge`.
    pub(crate) fn commit_in_transaction(
        &mut self,
        member: &MemberRef,
        transaction: TransactionStamp,
        offsets: &[OffsetToCommit],
        topics: TopicLookup<'_>,
        now: Now,
    ) -> CoordinatorResult<Result<PartitionOutcomes>> {
        if let Err(error) = self.check_transactional(member) {
            return CoordinatorResult::done(Err(error));
        }
        let mut records = Vec::with_capacity(offsets.len());
        let mut outcomes = Vec::with_capacity(offsets.len());
        for commit in offsets {
            let outcome = self.check_offset(commit, topics(commit.partition.topic()));
            if let Ok(id) = outcome {
                records.push(offset_record(&member.group_id, commit, id, now));
            }
            outcomes.push((commit.partition.clone(), outcome.map(|_| ())));
        }
        let mut step = CoordinatorResult::done(Ok(outcomes));
        if !records.is_empty() {
            let append = self.append(member.group_id.clone(), records, AfterAppend::Nothing);
            step.appends.push(RecordAppend { transaction: Some(transaction), ..append });
        }
        step
    }

    fn check_transactional(&self, member: &MemberRef) -> Result<()> {
        check_group_length(&member.group_id)?;
        match self.groups.get(&member.group_id) {
            Some(group) => group.check_transactional_commit(member),
            None if member.generation_id >= 0 => {
                let why = "it does not exist, so it has no generation to commit in";
                Err(refusal(ErrorKind::IllegalGeneration, &member.group_id, why))
            }
            None => Ok(()),
        }
    }

    /// Whether a member commits what its group has committed, so that there is nothing to store.
    ///
    /// Departure: D46. Kafka stores it again. Offsets of a group with members do not expire, so
    /// that the time of the commit, all that would change, means nothing; without members it does.
    fn is_committed(&self, member: &MemberRef, commit: &OffsetToCommit, id: TopicId) -> bool {
        let partition = &commit.partition;
        let stored = self.groups.get(&member.group_id).and_then(|group| {
            // A pending one of a transaction would win over it, unless this one comes later.
            let is_open =
                group.offsets.clamped.contains(partition) || group.offsets.is_pending(partition);
            let stored = group.offsets.stored.get(partition.topic())?;
            stored.get(&partition.partition()).filter(|_| !is_open)
        });
        member.generation_id >= 0
            && stored.is_some_and(|stored| {
                stored.value.offset == commit.offset
                    && stored.value.leader_epoch == commit.leader_epoch
                    && stored.value.metadata == commit.metadata
                    && stored.value.topic_id.unwrap_or(TopicId::ZERO) == id
            })
    }

    fn check_offset(&self, commit: &OffsetToCommit, shape: Option<TopicShape>) -> Result<TopicId> {
        let partition = &commit.partition;
        let shape = existing(partition, shape)?;
        let limit = self.config.offset_metadata_max_bytes;
        // UTF-8 is never shorter than UTF-16 counted in units.
        let long = commit.metadata.len() > limit && commit.metadata.encode_utf16().count() > limit;
        let why = if long {
            format!("commit metadata is longer than offset.metadata.max.bytes = {limit}")
        } else if commit.metadata.len() > STRING_BYTES_MAX {
            format!("commit metadata of {} bytes: Kafka reads 32767", commit.metadata.len())
        } else {
            return Ok(shape.id);
        };
        Err(Error::new(ErrorKind::OffsetMetadataTooLarge, why)
            .with_partition(partition.topic(), partition.partition()))
    }

    /// OffsetFetch for some partitions: `None` where nothing is stored, or a negative offset, which
    /// old clients stored for none; also when the group does not exist.
    ///
    /// # Errors
    /// `UnstableOffsetCommit` per partition, with `require_stable`, while an open transaction
    /// holds an offset for it.
    pub(crate) fn committed(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        require_stable: bool,
    ) -> Vec<Result<Option<CommittedOffset>>> {
        let offsets = self.groups.get(group).map(|group| &group.offsets);
        let committed = partitions.iter().map(|partition| {
            let Some(offsets) = offsets else { return Ok(None) };
            if require_stable && offsets.is_pending(partition) {
                let why = "an open transaction holds an offset for it";
                return Err(Error::new(ErrorKind::UnstableOffsetCommit, why)
                    .with_partition(partition.topic(), partition.partition()));
            }
            Ok(offsets.get(partition).and_then(StoredOffset::committed))
        });
        committed.collect()
    }

    /// Every stored offset of a group, by topic and partition; none when it does not exist.
    /// Offsets of open transactions are not waited for.
    pub(crate) fn list_offsets(&self, group: &str) -> Vec<(TopicPartition, CommittedOffset)> {
        let Some(group) = self.groups.get(group) else { return Vec::new() };
        let stored = group.offsets.iter();
        stored.filter_map(|(partition, stored)| Some((partition, stored.committed()?))).collect()
    }

    /// A topic was deleted: every group forgets its offsets, pending ones included.
    pub(crate) fn topic_deleted(&mut self, topic: &str) -> CoordinatorResult<()> {
        let mut step = CoordinatorResult::done(());
        for (id, group) in &self.groups {
            let mut partitions = group.offsets.partitions();
            partitions.retain(|partition| partition.topic() == topic);
            if partitions.is_empty() {
                continue;
            }
            let mut records: Vec<GroupRecord> = group.owed_record().into_iter().collect();
            records.extend(partitions.iter().map(|partition| GroupRecord::Offset {
                group: id.clone(),
                topic: partition.topic_shared().clone(),
                partition: partition.partition(),
                value: None,
            }));
            step.appends.push(self.append(id.clone(), records, AfterAppend::Nothing));
        }
        step
    }

    /// After an unclean stop, of the groups in these partitions of the offsets topic, which
    /// ascend: no offset may lie beyond the end of its log, or the group would skip what is
    /// written there next. `end` gives the log end offset of a partition that exists. The offsets
    /// count at once; their records are owed ([`Self::owed`]) and have to be stored before
    /// anything is appended to those logs. Those of open transactions are set back likewise, and
    /// their records are owed once a commit makes them count.
    ///
    /// Departure: D23. Kafka leaves them, and the group skips what is written there next.
    pub(crate) fn clamp_offsets(
        &mut self,
        partitions: &[i32],
        end: &dyn Fn(&TopicPartition) -> Option<i64>,
    ) -> Vec<ClampedOffset> {
        let mut out = Vec::new();
        let count = self.config.offsets_topic_partitions;
        for (id, group) in &mut self.groups {
            let partition = partition_for(id, count);
            if partitions.binary_search(&partition).is_err() {
                continue;
            }
            let Offsets { stored, pending, clamped } = &mut group.offsets;
            let stored = stored.iter_mut().flat_map(|(topic, partitions)| {
                let of = |partition: &i32| TopicPartition::new(topic.clone(), *partition);
                partitions.iter_mut().map(move |(number, stored)| (of(number), stored, false))
            });
            let pending = pending.values_mut().flatten();
            let pending = pending.map(|(partition, held)| (partition.clone(), held, true));
            for (partition, offset, is_pending) in stored.chain(pending) {
                let Some(log_end_offset) = end(&partition) else { continue };
                let committed = offset.value.offset;
                if committed <= log_end_offset {
                    continue;
                }
                offset.value.offset = log_end_offset;
                match is_pending {
                    true => offset.is_clamped = true,
                    false => drop(clamped.insert(partition.clone())),
                }
                let group = id.clone();
                out.push(ClampedOffset { group, partition, committed, log_end_offset });
            }
        }
        out
    }
}

fn offset_record(
    group: &Arc<str>,
    commit: &OffsetToCommit,
    topic_id: TopicId,
    now: Now,
) -> GroupRecord {
    GroupRecord::Offset {
        group: group.clone(),
        topic: commit.partition.topic_shared().clone(),
        partition: commit.partition.partition(),
        value: Some(OffsetValue {
            offset: commit.offset,
            leader_epoch: commit.leader_epoch,
            metadata: commit.metadata.clone(),
            commit_timestamp: now.wall_ms,
            expire_timestamp: None,
            topic_id: Some(topic_id).filter(|id| *id != TopicId::ZERO),
        }),
    }
}

impl Group {
    fn check_transactional_commit(&self, member: &MemberRef) -> Result<()> {
        if member.generation_id < 0 && self.has_no_members() {
            return Ok(());
        }
        let is_bare = member.generation_id < 0
            && member.member_id.is_empty()
            && member.group_instance_id.is_none();
        match self.classic() {
            _ if is_bare => Ok(()),
            Some(classic) => classic.validate_generation(member),
            None => Err(unknown_member(&self.id, &member.member_id)),
        }
    }

    fn check_commit(&self, member: &MemberRef) -> Result<()> {
        if member.generation_id < 0 && self.has_no_members() {
            return Ok(());
        }
        let Some(classic) = self.classic() else {
            return Err(unknown_member(&self.id, &member.member_id));
        };
        let anonymous = member.generation_id < 0
            && member.member_id.is_empty()
            && member.group_instance_id.is_none();
        if anonymous {
            let why = "it has members, so only they may commit";
            return Err(refusal(ErrorKind::UnknownMemberId, &self.id, why));
        }
        classic.validate_generation(member)?;
        if classic.state == GroupState::CompletingRebalance {
            return Err(rebalancing(&self.id));
        }
        Ok(())
    }
}

impl StoredOffset {
    /// What clients are told. As for Kafka's clients, a negative offset is none.
    pub(super) fn committed(&self) -> Option<CommittedOffset> {
        (self.value.offset >= 0).then(|| CommittedOffset {
            offset: self.value.offset,
            leader_epoch: Some(self.value.leader_epoch).filter(|&epoch| epoch >= 0),
            metadata: self.value.metadata.clone(),
            commit_timestamp: self.value.commit_timestamp,
        })
    }
}

impl Offsets {
    pub(super) fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.pending.is_empty()
    }

    pub(super) fn get(&self, partition: &TopicPartition) -> Option<&StoredOffset> {
        self.stored.get(partition.topic())?.get(&partition.partition())
    }

    /// By topic and partition.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicPartition, &StoredOffset)> {
        self.stored.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(|(&partition, stored)| (TopicPartition::new(topic.clone(), partition), stored))
        })
    }

    /// Whether an open transaction has some.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn is_pending(&self, partition: &TopicPartition) -> bool {
        self.pending.values().any(|offsets| offsets.contains_key(partition))
    }

    pub(super) fn store(&mut self, topic: Arc<str>, partition: i32, stored: StoredOffset) {
        if !self.clamped.is_empty() {
            self.clamped.remove(&TopicPartition::new(topic.clone(), partition));
        }
        self.stored.entry(topic).or_default().insert(partition, stored);
    }

    pub(super) fn remove(&mut self, topic: &Arc<str>, partition: i32) {
        if let Some(partitions) = self.stored.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.stored.remove(topic);
            }
        }
        self.clamped.remove(&TopicPartition::new(topic.clone(), partition));
    }

    /// Forgets what open transactions hold for a partition.
    pub(super) fn drop_pending(&mut self, topic: &Arc<str>, partition: i32) {
        if self.pending.is_empty() {
            return;
        }
        let gone = TopicPartition::new(topic.clone(), partition);
        self.pending.retain(|_, offsets| {
            offsets.remove(&gone);
            !offsets.is_empty()
        });
    }

    pub(super) fn hold(&mut self, producer: i64, partition: TopicPartition, held: StoredOffset) {
        self.pending.entry(producer).or_default().insert(partition, held);
    }

    /// Ends a transaction. A pending offset counts unless the log has a newer record of it. Returns
    /// whether one does that was clamped.
    pub(super) fn end_transaction(&mut self, producer: i64, committed: bool) -> bool {
        let mut is_owed = false;
        for (partition, held) in self.pending.remove(&producer).unwrap_or_default() {
            let newer = self.get(&partition).is_some_and(|s| s.record_offset > held.record_offset);
            if committed && !newer {
                let is_clamped = held.is_clamped;
                self.store(partition.topic_shared().clone(), partition.partition(), held);
                if is_clamped {
                    self.clamped.insert(partition);
                    is_owed = true;
                }
            }
        }
        is_owed
    }

    /// Every partition with an offset, pending ones included.
    pub(super) fn partitions(&self) -> BTreeSet<TopicPartition> {
        let pending = self.pending.values().flat_map(|offsets| offsets.keys().cloned());
        self.iter().map(|(partition, _)| partition).chain(pending).collect()
    }

    /// What is stored, as records.
    pub(super) fn records(&self, group: &Arc<str>) -> Vec<GroupRecord> {
        let all = self.stored.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, stored)| GroupRecord::Offset {
                group: group.clone(),
                topic: topic.clone(),
                partition: *partition,
                value: Some(stored.value.clone()),
            })
        });
        all.collect()
    }

    pub(super) fn owed_records(&self, group: &Arc<str>) -> Vec<GroupRecord> {
        let owed = self.clamped.iter().filter_map(|partition| {
            Some(GroupRecord::Offset {
                group: group.clone(),
                topic: partition.topic_shared().clone(),
                partition: partition.partition(),
                value: Some(self.get(partition)?.value.clone()),
            })
        });
        owed.collect()
    }
}
