//! What administrators see of groups, and do to them.

use super::Admin;
use crate::error::{Error, ErrorKind, Result};
use crate::group::{
    CommittedOffset, DescribedGroup, DescribedMember, LeavingMember, ListedGroup, MemberRef,
    OffsetToCommit,
};
use crate::sync::Arc;
use crate::topic::TopicPartition;
use std::collections::BTreeMap;

/// One outcome a partition.
pub type PartitionResults = BTreeMap<TopicPartition, Result<()>>;

impl Admin {
    /// Every group, by name. Where a partition of `__consumer_offsets` is damaged, groups that it
    /// keeps may be missing or older than they were: [`Broker::health`](crate::Broker::health)
    /// names the partition, and what is asked of one of its groups is
    /// [`CorruptRecord`](ErrorKind::CorruptRecord).
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when the offsets topic cannot be read;
    /// [`Closed`](ErrorKind::Closed).
    ///
    /// # Examples
    /// ```
    /// let broker = topiclite::Broker::in_memory()?;
    /// assert!(broker.admin().list_groups()?.is_empty());
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    pub fn list_groups(&self) -> Result<Vec<GroupListing>> {
        Ok(self.0.groups()?.list()?.into_iter().map(GroupListing).collect())
    }

    /// One group with its members.
    ///
    /// # Errors
    /// [`InvalidGroupId`](ErrorKind::InvalidGroupId) for no name,
    /// [`GroupIdNotFound`](ErrorKind::GroupIdNotFound);
    /// [`CorruptRecord`](ErrorKind::CorruptRecord) where the partition that keeps the group is
    /// damaged; and those of [`Admin::list_groups`].
    pub fn describe_group(&self, group: &str) -> Result<GroupDescription> {
        check_group(group)?;
        let described = self.0.groups()?.describe(group)?;
        let members = described.members.iter().cloned().map(MemberDescription).collect();
        Ok(GroupDescription { described, members })
    }

    /// The offsets that a group has committed; none when there is no such group. A negative one, as
    /// old clients left them, is none either. Offsets of open transactions are not waited for.
    ///
    /// # Errors
    /// [`CorruptRecord`](ErrorKind::CorruptRecord) where the partition that keeps the group is
    /// damaged, and those of [`Admin::list_groups`].
    pub fn list_group_offsets(&self, group: &str) -> Result<BTreeMap<TopicPartition, GroupOffset>> {
        let offsets = self.0.groups()?.list_offsets(group)?;
        Ok(offsets.into_iter().map(|(partition, stored)| (partition, stored.into())).collect())
    }

    /// Sets offsets of a group that has no members, and makes the group if there is none.
    ///
    /// Departure: D128. Where every partition is refused, no group is made. Kafka has one in memory
    /// until the next look for expired offsets, or a restart.
    ///
    /// # Durability
    /// As the settings of the offsets topic say; by default as a send.
    ///
    /// # Errors
    /// [`UnknownMemberId`](ErrorKind::UnknownMemberId) while the group has members, per partition
    /// where another one is unknown;
    /// [`InvalidGroupId`](ErrorKind::InvalidGroupId) for a name of more than 32,767 bytes; per
    /// partition
    /// [`UnknownTopicOrPartition`](ErrorKind::UnknownTopicOrPartition) and
    /// [`OffsetMetadataTooLarge`](ErrorKind::OffsetMetadataTooLarge).
    pub fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, GroupOffset>,
    ) -> Result<PartitionResults> {
        let nobody = MemberRef {
            group_id: group.into(),
            member_id: "".into(),
            group_instance_id: None,
            generation_id: -1,
        };
        let offsets: Vec<OffsetToCommit> = offsets
            .iter()
            .map(|(partition, offset)| OffsetToCommit {
                partition: partition.clone(),
                offset: offset.offset,
                leader_epoch: -1,
                metadata: offset.metadata.clone(),
            })
            .collect();
        Ok(self.0.groups()?.commit(&nobody, &offsets)?.into_iter().collect())
    }

    /// Deletes a group that has no members, with its offsets.
    ///
    /// # Durability
    /// As [`Admin::alter_group_offsets`].
    ///
    /// # Errors
    /// [`GroupIdNotFound`](ErrorKind::GroupIdNotFound),
    /// [`NonEmptyGroup`](ErrorKind::NonEmptyGroup).
    pub fn delete_group(&self, group: &str) -> Result<()> {
        self.0.groups()?.delete_group(group)
    }

    /// Deletes offsets of a group, also those that open transactions hold. Where there is none,
    /// that is a success.
    ///
    /// # Durability
    /// As [`Admin::alter_group_offsets`].
    ///
    /// # Errors
    /// [`InvalidGroupId`](ErrorKind::InvalidGroupId) for no name,
    /// [`GroupIdNotFound`](ErrorKind::GroupIdNotFound); per partition
    /// [`GroupSubscribedToTopic`](ErrorKind::GroupSubscribedToTopic) and
    /// [`UnknownTopicOrPartition`](ErrorKind::UnknownTopicOrPartition).
    pub fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<PartitionResults> {
        check_group(group)?;
        Ok(self.0.groups()?.delete_offsets(group, partitions)?.into_iter().collect())
    }

    /// Removes static members by their `group.instance.id`; the group rebalances.
    ///
    /// # Errors
    /// [`InvalidGroupId`](ErrorKind::InvalidGroupId) for no name;
    /// [`UnknownMemberId`](ErrorKind::UnknownMemberId) of the first that is not there.
    pub fn remove_members(&self, group: &str, instances: &[&str]) -> Result<()> {
        let leaving: Vec<LeavingMember> = instances
            .iter()
            .map(|instance| LeavingMember {
                member_id: "".into(),
                group_instance_id: Some((*instance).into()),
            })
            .collect();
        self.remove(group, &leaving)
    }

    /// Removes every member; the group is empty afterwards.
    ///
    /// # Errors
    /// [`IllegalArgument`](ErrorKind::IllegalArgument) where it is empty already;
    /// [`Kafka`](ErrorKind::Kafka) over [`GroupIdNotFound`](ErrorKind::GroupIdNotFound), or over
    /// [`InvalidGroupId`](ErrorKind::InvalidGroupId) for no name.
    pub fn remove_all_members(&self, group: &str) -> Result<()> {
        let named = check_group(group).and_then(|()| self.0.groups()?.describe(group));
        let described = named.map_err(|error| match error.kind() {
            ErrorKind::GroupIdNotFound | ErrorKind::InvalidGroupId => {
                let message = format!("its members cannot be told: {}", error.message());
                Error::new(ErrorKind::Kafka, message).with_source(error)
            }
            _ => error,
        })?;
        if described.members.is_empty() {
            let message = format!("group {group} has no members that could be removed");
            return Err(Error::new(ErrorKind::IllegalArgument, message));
        }
        let leaving: Vec<LeavingMember> = described
            .members
            .into_iter()
            .map(|member| LeavingMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
            })
            .collect();
        self.remove(group, &leaving)
    }

    fn remove(&self, group: &str, leaving: &[LeavingMember]) -> Result<()> {
        check_group(group)?;
        self.0.groups()?.leave(group, leaving)?.into_iter().collect()
    }
}

fn check_group(group: &str) -> Result<()> {
    match group.is_empty() {
        true => Err(Error::new(ErrorKind::InvalidGroupId, "a group id is not empty")),
        false => Ok(()),
    }
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing(ListedGroup);

impl GroupListing {
    /// The group's id.
    pub fn group_id(&self) -> &str {
        &self.0.group_id
    }

    /// `Classic` or `Consumer`.
    pub fn group_type(&self) -> &str {
        self.0.group_type.name()
    }

    /// `consumer`, or empty for a group that only ever committed.
    pub fn protocol_type(&self) -> &str {
        &self.0.protocol_type
    }

    /// `Empty`, `PreparingRebalance`, `CompletingRebalance` or `Stable`; groups of the newer
    /// protocol are also `Assigning` and `Reconciling`.
    pub fn state(&self) -> &str {
        self.0.state
    }

    /// How many members it has.
    pub fn member_count(&self) -> usize {
        self.0.members
    }
}

/// A group with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    described: DescribedGroup,
    members: Vec<MemberDescription>,
}

impl GroupDescription {
    /// The group's id.
    pub fn group_id(&self) -> &str {
        &self.described.group_id
    }

    /// `Classic` or `Consumer`.
    pub fn group_type(&self) -> &str {
        self.described.group_type.name()
    }

    /// `consumer`, or empty for a group that only ever committed.
    pub fn protocol_type(&self) -> &str {
        &self.described.protocol_type
    }

    /// As [`GroupListing::state`].
    pub fn state(&self) -> &str {
        self.described.state
    }

    /// Raised by every rebalance.
    pub fn generation_id(&self) -> i32 {
        self.described.generation_id
    }

    /// The assignor; empty unless the group is stable.
    pub fn assignor(&self) -> &str {
        &self.described.protocol
    }

    /// The member that assigns.
    pub fn leader_id(&self) -> Option<&str> {
        self.described.leader_id.as_deref()
    }

    /// By member id.
    pub fn members(&self) -> &[MemberDescription] {
        &self.members
    }
}

/// A member of a described group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription(DescribedMember);

impl MemberDescription {
    /// The id that the coordinator gave.
    pub fn member_id(&self) -> &str {
        &self.0.member_id
    }

    /// The id that a static member gave itself.
    pub fn group_instance_id(&self) -> Option<&str> {
        self.0.group_instance_id.as_deref()
    }

    /// `client.id`.
    pub fn client_id(&self) -> &str {
        &self.0.client_id
    }

    /// Where the client is.
    pub fn host(&self) -> &str {
        &self.0.client_host
    }

    /// The partitions it owns; while a rebalance is under way, those it had.
    pub fn assignment(&self) -> &[TopicPartition] {
        &self.0.assignment
    }
}

/// An offset as a group has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    offset: i64,
    metadata: Arc<str>,
    leader_epoch: Option<i32>,
    commit_timestamp: Option<i64>,
}

impl GroupOffset {
    /// An offset to be set: the next one that the group is to read.
    ///
    /// # Errors
    /// [`IllegalArgument`](ErrorKind::IllegalArgument) below 0.
    pub fn new(offset: i64) -> Result<GroupOffset> {
        if offset < 0 {
            return Err(Error::new(ErrorKind::IllegalArgument, "an offset is not negative")
                .with_offset(offset));
        }
        let metadata = "".into();
        Ok(GroupOffset { offset, metadata, leader_epoch: None, commit_timestamp: None })
    }

    /// Text to be kept with it, up to `offset.metadata.max.bytes`.
    pub fn with_metadata(mut self, metadata: &str) -> GroupOffset {
        self.metadata = metadata.into();
        self
    }

    /// The next offset that the group reads.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The text kept with it.
    pub fn metadata(&self) -> &str {
        &self.metadata
    }

    /// The leader epoch that the commit named; commits of this crate name none.
    pub fn leader_epoch(&self) -> Option<i32> {
        self.leader_epoch
    }

    /// When it was committed, in milliseconds since 1970; None for one that is to be set.
    pub fn commit_timestamp(&self) -> Option<i64> {
        self.commit_timestamp
    }
}

impl From<CommittedOffset> for GroupOffset {
    fn from(stored: CommittedOffset) -> GroupOffset {
        GroupOffset {
            offset: stored.offset,
            metadata: stored.metadata,
            leader_epoch: stored.leader_epoch,
            commit_timestamp: Some(stored.commit_timestamp),
        }
    }
}
