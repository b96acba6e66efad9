//! What administrators see and do: list, describe, delete.

use super::coordinator::{GroupCoordinator, refusal};
use super::records::GroupRecord;
use super::request::{DescribedGroup, GroupType, ListedGroup, PartitionOutcomes, TopicLookup};
use super::result::{AfterAppend, CoordinatorResult};
use super::{Group, GroupKind};
use crate::error::{Error, ErrorKind, Result};
use crate::topic::{TopicId, TopicPartition};
use std::sync::Arc;

impl GroupCoordinator {
    /// Every group, by name.
    pub(crate) fn list(&self) -> Vec<ListedGroup> {
        let listed = self.groups.values().map(|group| match &group.kind {
            GroupKind::Consumer(modern) => ListedGroup {
                group_id: group.id.clone(),
                group_type: GroupType::Consumer,
                protocol_type: "consumer".into(),
                state: modern.state_name(),
                members: modern.members.len(),
            },
            GroupKind::Classic(classic) => ListedGroup {
                group_id: group.id.clone(),
                group_type: GroupType::Classic,
                protocol_type: classic.protocol_type.clone().unwrap_or_default(),
                state: classic.state.name(),
                members: classic.members.len(),
            },
        });
        listed.collect()
    }

    /// One group in full. `names` finds the topic of an id, which stored groups of the newer
    /// protocol name topics by; what it does not find is left out.
    ///
    /// # Errors
    /// `GroupIdNotFound`.
    pub(crate) fn describe(
        &self,
        group: &str,
        names: &dyn Fn(&TopicId) -> Option<Arc<str>>,
    ) -> Result<DescribedGroup> {
        let group = self.groups.get(group).ok_or_else(|| not_found(group))?;
        Ok(match &group.kind {
            GroupKind::Classic(classic) => classic.describe(),
            GroupKind::Consumer(modern) => modern.describe(&group.id, names),
        })
    }

    /// Deletes a group and its offsets.
    ///
    /// # Errors
    /// In the response: `GroupIdNotFound`, `NonEmptyGroup`.
    pub(crate) fn delete_group(&mut self, id: &str) -> CoordinatorResult<Result<()>> {
        let Some(group) = self.groups.get(id) else {
            return CoordinatorResult::done(Err(not_found(id)));
        };
        if !group.has_no_members() {
            let why = "it has members; close them first";
            return CoordinatorResult::done(Err(refusal(ErrorKind::NonEmptyGroup, id, why)));
        }
        let partitions = group.offsets.partitions();
        let mut records: Vec<GroupRecord> =
            partitions.iter().map(|partition| tombstone(&group.id, partition)).collect();
        match &group.kind {
            GroupKind::Consumer(modern) => records.extend(modern.tombstones()),
            GroupKind::Classic(_) => {
                records.push(GroupRecord::Group { group: group.id.clone(), value: None })
            }
        }
        let append = self.append(group.id.clone(), records, AfterAppend::Nothing);
        CoordinatorResult { response: Ok(()), appends: vec![append] }
    }

    /// Deletes stored offsets, and those that open transactions hold, one outcome per partition;
    /// where there is none that is a success.
    ///
    /// # Errors
    /// As a whole `GroupIdNotFound`, `NonEmptyGroup` (members that are no consumers). Per
    /// partition `UnknownTopicOrPartition`, `GroupSubscribedToTopic`.
    pub(crate) fn delete_offsets(
        &mut self,
        id: &str,
        partitions: &[TopicPartition],
        topics: TopicLookup<'_>,
    ) -> CoordinatorResult<Result<PartitionOutcomes>> {
        let Some(group) = self.groups.get(id) else {
            return CoordinatorResult::done(Err(not_found(id)));
        };
        let live = !group.has_no_members();
        if live && !group.is_of_consumers() {
            let why = "it has members that are no consumers";
            return CoordinatorResult::done(Err(refusal(ErrorKind::NonEmptyGroup, id, why)));
        }
        let mut records: Vec<GroupRecord> = group.owed_record().into_iter().collect();
        let before = records.len();
        let mut outcomes = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let exists = topics(partition.topic())
                .is_some_and(|shape| (0..shape.partitions).contains(&partition.partition()));
            let outcome = if !exists {
                Err(about(ErrorKind::UnknownTopicOrPartition, "it does not exist", partition))
            } else if live && group.reads(partition.topic()) {
                let why = "a member of the group subscribes to the topic";
                Err(about(ErrorKind::GroupSubscribedToTopic, why, partition))
            } else {
                let offsets = &group.offsets;
                if offsets.get(partition).is_some() || offsets.is_pending(partition) {
                    records.push(tombstone(&group.id, partition));
                }
                Ok(())
            };
            outcomes.push((partition.clone(), outcome));
        }
        let mut step = CoordinatorResult::done(Ok(outcomes));
        if records.len() > before {
            step.appends.push(self.append(group.id.clone(), records, AfterAppend::Nothing));
        }
        step
    }
}

fn not_found(group: &str) -> Error {
    refusal(ErrorKind::GroupIdNotFound, group, "it does not exist")
}

fn about(kind: ErrorKind, why: &str, partition: &TopicPartition) -> Error {
    Error::new(kind, why).with_partition(partition.topic(), partition.partition())
}

fn tombstone(group: &Arc<str>, partition: &TopicPartition) -> GroupRecord {
    GroupRecord::Offset {
        group: group.clone(),
        topic: partition.topic_shared().clone(),
        partition: partition.partition(),
        value: None,
    }
}

impl Group {
    /// Whether its members are consumers, of either protocol.
    fn is_of_consumers(&self) -> bool {
        self.classic().is_none_or(|group| group.protocol_type.as_deref() == Some("consumer"))
    }

    /// Whether a member subscribes to the topic, or may do so for all that can be read.
    pub(super) fn reads(&self, topic: &str) -> bool {
        let subscribed = self.classic().and_then(|classic| classic.subscribed.as_ref());
        subscribed.is_none_or(|topics| topics.contains(topic))
    }
}
