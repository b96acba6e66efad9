//! The requests of consumers and administrators, and what the broker asks of its groups.

use super::runtime::Scope;
use crate::broker::core::BrokerCore;
use crate::config::TopicConfig;
use crate::error::Result;
use crate::group::{
    CommittedOffset, CoordinatorResult, DescribedGroup, GroupCoordinator, JoinAnswer, JoinRequest,
    LeavingMember, ListedGroup, MemberRef, OffsetToCommit, PartitionOutcomes, SyncAnswer,
    SyncRequest, TopicShape,
};
use crate::sync::Arc;
use crate::time::{Now, Signal};
use crate::topic::{OFFSETS_TOPIC, TopicPartition};
use std::time::Duration;

/// Groups, as consumers and administrators use them.
#[derive(Debug, Clone)]
pub(crate) struct Groups(Arc<BrokerCore>);

impl Groups {
    pub(in crate::broker) fn new(shared: Arc<BrokerCore>) -> Groups {
        Groups(shared)
    }

    /// JoinGroup.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::join`], and of the append.
    pub fn join(&self, request: &JoinRequest) -> Result<JoinAnswer> {
        let shared = &self.0;
        let mut random = || shared.random();
        self.write_of(&request.group_id, |groups, now| groups.join(request, now, &mut random))?
    }

    /// Whether a pending join has an answer.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::poll_join`].
    pub fn poll_join(&self, group: &str, member: &str) -> Result<JoinAnswer> {
        self.read_of(group, |groups, now| groups.poll_join(group, member, now))
    }

    /// SyncGroup.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::sync`], and of the append.
    pub fn sync(&self, request: &SyncRequest) -> Result<SyncAnswer> {
        self.write_of(&request.member.group_id, |groups, now| groups.sync(request, now))?
    }

    /// Whether a pending sync has an answer.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::poll_sync`].
    pub fn poll_sync(&self, group: &str, member: &str) -> Result<SyncAnswer> {
        self.read_of(group, |groups, now| groups.poll_sync(group, member, now))
    }

    /// Heartbeat; with `poll_deadline` also a sign of life until then.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::heartbeat`].
    pub fn heartbeat(&self, member: &MemberRef, poll_deadline: Option<Duration>) -> Result<()> {
        self.read_of(&member.group_id, |groups, now| groups.heartbeat(member, poll_deadline, now))
    }

    /// A sign of life until `poll_deadline`.
    pub fn touch(&self, group: &str, member: &str, poll_deadline: Duration) {
        // After the close nobody counts as alive anyway.
        drop(self.read_of(group, |groups, now| {
            groups.touch(group, member, poll_deadline, now);
            Ok(())
        }));
    }

    /// The member's handle is gone without leaving.
    pub fn stop_beating(&self, group: &str, member: &str) {
        // After the close nobody counts as alive anyway.
        drop(self.read_of(group, |groups, now| {
            groups.stop_beating(group, member, now);
            Ok(())
        }));
    }

    /// LeaveGroup, one outcome a member.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::leave`]. A record that could not be stored is owed, and no
    /// error: the members are gone all the same.
    pub fn leave(&self, group: &str, leaving: &[LeavingMember]) -> Result<Vec<Result<()>>> {
        self.0.owner()?;
        self.0
            .groups
            .write_owed(Scope::Key(group), |groups, now| groups.leave(group, leaving, now))?
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
        self.write_of(&member.group_id, |groups, now| groups.commit(member, offsets, &shape, now))?
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
        self.read_of(group, |groups, _| Ok(groups.committed(group, partitions, require_stable)))
    }

    /// Every stored offset of a group.
    ///
    /// # Errors
    /// Those of loading the groups.
    pub fn list_offsets(&self, group: &str) -> Result<Vec<(TopicPartition, CommittedOffset)>> {
        self.read_of(group, |groups, _| Ok(groups.list_offsets(group)))
    }

    /// Every group, by name.
    ///
    /// # Errors
    /// Those of loading the groups.
    pub fn list(&self) -> Result<Vec<ListedGroup>> {
        self.read(|groups, _| groups.list())
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
        self.read_of(group, |groups, _| groups.describe(group, &name))
    }

    /// Deletes a group and its offsets.
    ///
    /// # Errors
    /// Those of [`GroupCoordinator::delete_group`], and of the append.
    pub fn delete_group(&self, group: &str) -> Result<()> {
        self.write_of(group, |groups, _| groups.delete_group(group))?
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
        self.write_of(group, |groups, _| groups.delete_offsets(group, partitions, &shape))?
    }

    /// Has `signal` rung whenever something happened in the group that its members may wait for,
    /// until it is taken back.
    pub fn watch(&self, group: &Arc<str>, signal: &Arc<Signal>) {
        self.0.groups.watch(group, signal);
    }

    /// Takes a signal back.
    pub fn unwatch(&self, group: &str, signal: &Arc<Signal>) {
        self.0.groups.unwatch(group, signal);
    }

    /// Runs a handler that stores nothing by itself, and is about one group.
    fn read_of<R>(
        &self,
        group: &str,
        handler: impl FnOnce(&mut GroupCoordinator, Now) -> Result<R>,
    ) -> Result<R> {
        self.look_again()?;
        self.0.groups.read_of(group, handler)
    }

    /// Runs a handler that stores nothing by itself.
    fn read<R>(&self, handler: impl FnOnce(&mut GroupCoordinator, Now) -> R) -> Result<R> {
        self.look_again()?;
        self.0.groups.read(handler)
    }

    /// Beside an owner, which may have made the offsets topic since.
    fn look_again(&self) -> Result<()> {
        self.0.check_open()?;
        self.0.refresh(self.0.topics.get(OFFSETS_TOPIC).is_err()).map(drop)
    }

    /// Runs a handler of one group and stores its records.
    fn write_of<R>(
        &self,
        group: &str,
        handler: impl FnOnce(&mut GroupCoordinator, Now) -> CoordinatorResult<R>,
    ) -> Result<R> {
        self.0.offsets_topic()?;
        self.0.groups.write_of(group, handler)
    }
}

impl BrokerCore {
    /// What the coordinator has to know of a topic.
    pub(super) fn topic_shape(&self, name: &str) -> Option<TopicShape> {
        let topic = self.topics.get(name).ok()?;
        Some(TopicShape { partitions: topic.partition_count(), id: topic.id() })
    }

    /// The offsets topic, made if it is missing.
    pub(super) fn offsets_topic(&self) -> Result<()> {
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
    pub(in crate::broker) fn groups_forget(&self, topic: &str) -> Result<()> {
        if topic == OFFSETS_TOPIC {
            self.groups.reset();
            return Ok(());
        }
        if self.topics.get(OFFSETS_TOPIC).is_err() {
            return Ok(());
        }
        self.owner()?;
        self.groups.write(|groups, _| groups.topic_deleted(topic))
    }

    /// After an unclean stop: before anything is appended to any log, offsets that lie beyond the
    /// end of theirs are set back, durably. Else a group would skip what is written there next.
    ///
    /// # Errors
    /// Those of loading the groups and of storing their records.
    pub(in crate::broker) fn settle_groups(&self) -> Result<()> {
        self.groups.settle(Scope::All, |settling| {
            // A process that died while it deleted a topic may not have stored that its offsets
            // are gone; a new topic of the name must not find them.
            let mut gone = self.owner()?.registry.deleted();
            gone.retain(|(_, live)| !live);
            for (topic, _) in &gone {
                let appends = settling.shard().topic_deleted(&topic.name).appends;
                settling.store(appends)?;
            }
            let owed = settling.shard().owed();
            settling.store(owed)?;
            if !gone.is_empty() {
                // It may have stored it and not synced it.
                self.flush_offsets()?;
            }
            Ok(())
        })
    }
}
