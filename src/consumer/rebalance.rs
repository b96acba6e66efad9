//! Group membership inside a turn: when to rejoin, what the listener is told, how a leader
//! assigns. The order of steps is that of Kafka's `ConsumerCoordinator`.

use super::Consumer;
use super::coordinator::{GroupShape, MemberState, PROTOCOL_TYPE, Rejoin, Step};
use super::listener::{ConsumerContext, Failure, Told};
use super::subscription::Mode;
use crate::broker::Groups;
use crate::error::{Error, ErrorKind, Result};
use crate::group::assignor::MemberSubscription;
use crate::group::protocol::{Assignment, Subscription};
use crate::group::{JoinRequest, Joined, SyncRequest};
use crate::sync::Arc;
use crate::time::Now;
use crate::topic::TopicPartition;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What the coordinator's part of a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupTurn {
    /// The member is where it should be, or there is no group.
    Settled,
    /// An exchange was made: the next turn has more to do.
    Moved,
    /// Others have to move first.
    Waiting,
}

impl Consumer {
    /// Drives the membership by at most one exchange.
    pub(super) fn group_turn(&mut self, now: Now) -> Result<GroupTurn> {
        if self.subscription.mode != Mode::Topics {
            return Ok(GroupTurn::Settled);
        }
        let deadline = now.mono.saturating_add(self.settings.max_poll_interval);
        let broker = self.broker.clone();
        self.membership.coordinator_known = true;
        self.membership.heartbeat(broker.groups()?, Some(deadline))?;
        self.notice_changes();
        if !self.membership.is_rejoining() {
            return Ok(GroupTurn::Settled);
        }
        if self.membership.prepare_needed {
            // A failing listener is not told twice.
            self.membership.prepare_needed = false;
            self.join_prepare()?;
        }
        let step = self.exchange(broker.groups()?)?;
        Ok(match step {
            Step::Waiting => GroupTurn::Waiting,
            Step::Moved => GroupTurn::Moved,
            Step::Assigned(share) => {
                self.join_complete(&share)?;
                GroupTurn::Moved
            }
        })
    }

    /// Whether topics or the subscription changed in a way that asks for a rebalance.
    fn notice_changes(&mut self) {
        let topics_version = self.subscription.topics_version;
        if self.membership.compared_topics != Some(topics_version) {
            let topics = self.subscription.topics();
            if self.membership.joined_topics.as_ref().is_some_and(|joined| joined != topics) {
                self.membership.request_rejoin();
            } else {
                self.membership.compared_topics = Some(topics_version);
            }
        }
        let version = self.broker.metadata_version();
        if let Some(shape) = &self.membership.shape
            && shape.version != version
        {
            let names: Vec<Arc<str>> = shape.topics.keys().cloned().collect();
            let current = self.shape_of(names, version);
            let Some(shape) = &mut self.membership.shape else { return };
            if shape.topics == current.topics {
                shape.version = version;
            } else {
                self.membership.request_rejoin();
            }
        }
    }

    /// The partition counts of these topics; 0 for those that do not exist.
    fn shape_of(&self, names: impl IntoIterator<Item = Arc<str>>, version: u64) -> GroupShape {
        let count = |name: &str| self.broker.topic(name).map_or(0, |topic| topic.partition_count());
        let topics = names.into_iter().map(|name| (name.clone(), count(&name))).collect();
        GroupShape { topics, version }
    }

    fn exchange(&mut self, groups: &Groups) -> Result<Step> {
        let Some(reference) = self.membership.reference() else { return Ok(Step::Waiting) };
        let (group, id) = (&reference.group_id, &reference.member_id);
        match std::mem::replace(&mut self.membership.rejoin, Rejoin::Idle) {
            Rejoin::Idle => {
                let request = self.join_request(group.clone());
                self.membership.joined_topics = Some(self.subscription.topics().clone());
                self.membership.compared_topics = Some(self.subscription.topics_version);
                self.membership.state = MemberState::Preparing;
                if !std::mem::replace(&mut self.membership.signal_known, true) {
                    groups.watch(group, self.wakeup.signal());
                }
                let answer = groups.join(&request);
                self.membership.joined(answer, true)
            }
            Rejoin::Joining => {
                let answer = groups.poll_join(group, id);
                match self.membership.joined(answer, false)? {
                    // The sync is what Kafka's client sends as soon as it has the answer.
                    Step::Moved if matches!(self.membership.rejoin, Rejoin::Joined(_)) => {
                        self.exchange(groups)
                    }
                    step => Ok(step),
                }
            }
            Rejoin::Joined(joined) => {
                let assignments = match joined.is_leader() {
                    true => self.lead(&joined)?,
                    false => Vec::new(),
                };
                let answer = groups.sync(&SyncRequest {
                    member: reference,
                    protocol_type: Some(PROTOCOL_TYPE.into()),
                    protocol: Some(joined.protocol),
                    assignments,
                });
                self.membership.synced(answer, true)
            }
            Rejoin::Syncing => {
                let answer = groups.poll_sync(group, id);
                self.membership.synced(answer, false)
            }
            Rejoin::Assigned(share) => {
                self.membership.rejoin = Rejoin::Assigned(share.clone());
                Ok(Step::Assigned(share))
            }
        }
    }

    /// The leader's work: every member's share, encoded.
    #[allow(clippy::type_complexity)] // The shape of `SyncRequest::assignments`.
    fn lead(&mut self, joined: &Joined) -> Result<Vec<(Arc<str>, Arc<[u8]>)>> {
        let assignor =
            self.membership.assignors.find(&joined.protocol).cloned().ok_or_else(|| {
                let message =
                    format!("the group chose the assignor {}, which is not built", joined.protocol);
                Error::new(ErrorKind::InconsistentGroupProtocol, message)
            })?;
        let members: Vec<MemberSubscription> = joined
            .members
            .iter()
            .map(|member| MemberSubscription {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                // A member whose subscription is not readable wants nothing.
                subscription: Subscription::decode(&member.metadata).unwrap_or_default(),
            })
            .collect();
        // The version is read before the counts, so that a topic that grows in between is noticed
        // by the next turn.
        let version = self.broker.metadata_version();
        let names: BTreeSet<Arc<str>> =
            members.iter().flat_map(|member| member.subscription.topics.iter().cloned()).collect();
        let shape = self.shape_of(names, version);
        let shares = assignor.assign(&shape.topics, &members);
        self.membership.shape = Some(shape);
        let ids = members.iter().map(|member| member.member_id.clone());
        Ok(ids.zip(shares).map(|(id, share)| (id, Arc::from(share.encode()))).collect())
    }

    fn join_request(&self, group_id: Arc<str>) -> JoinRequest {
        let subscription = Subscription {
            topics: self.subscription.topics().iter().cloned().collect(),
            owned: self.subscription.partitions().cloned().collect(),
            generation_id: self.membership.generation.id,
            ..Subscription::default()
        };
        JoinRequest {
            group_id,
            member_id: self.membership.generation.member_id.clone(),
            group_instance_id: None,
            client_id: self.client_id.clone(),
            client_host: "localhost".into(),
            session_timeout: Duration::from_millis(
                u64::try_from(self.settings.session_timeout_ms).unwrap_or(0),
            ),
            rebalance_timeout: self.settings.max_poll_interval,
            protocol_type: PROTOCOL_TYPE.into(),
            protocols: self.membership.assignors.offers(&subscription),
        }
    }

    /// Commits and gives up everything before the join: rebalances are eager.
    fn join_prepare(&mut self) -> Result<()> {
        if self.settings.auto_commit {
            self.subscription.states_mut().for_each(|(_, state)| state.is_leaving = true);
        }
        self.auto_commit_before_rebalance();
        let owned: Vec<TopicPartition> = self.subscription.partitions().cloned().collect();
        let told = match self.membership.generation.is_lost() {
            true if owned.is_empty() => return Ok(()),
            true => Told::Lost,
            false => Told::Revoked,
        };
        self.give_up(told, owned)
    }

    /// Tells the listener and empties the assignment.
    fn give_up(&mut self, told: Told, owned: Vec<TopicPartition>) -> Result<()> {
        let failure = self.tell(told, &owned);
        if let Some(failure) = failure {
            if !failure.is_wakeup() {
                self.subscription.set_partitions(BTreeSet::new(), self.wakeup.signal());
            }
            return Err(failure.into_error(told));
        }
        self.subscription.set_partitions(BTreeSet::new(), self.wakeup.signal());
        Ok(())
    }

    /// Takes the share that the leader gave.
    fn join_complete(&mut self, share: &[u8]) -> Result<()> {
        self.membership.settle();
        if !self.membership.leads() {
            // Only the leader watches the topics of the whole group.
            self.membership.shape = None;
        }
        let partitions = Assignment::decode(share).map_err(|fault| {
            let message = format!("the group's leader sent an assignment that is none: {fault}");
            Error::new(ErrorKind::Kafka, message)
        })?;
        let partitions: BTreeSet<TopicPartition> = partitions.partitions.into_iter().collect();
        if partitions.iter().any(|p| !self.subscription.topics().contains(p.topic())) {
            // The subscription changed while the group was joining.
            self.membership.rejoin = Rejoin::Idle;
            self.membership.prepare_needed = true;
            self.membership.request_rejoin();
            return Ok(());
        }
        let added: Vec<TopicPartition> =
            partitions.iter().filter(|p| !self.subscription.contains(p)).cloned().collect();
        self.restart_auto_commit();
        self.subscription.set_partitions(partitions, self.wakeup.signal());
        self.tell_of_share();
        // Until the listener has succeeded the step is not over, and is taken again.
        if let Some(failure) = self.tell(Told::Assigned, &added) {
            return Err(failure.into_error(Told::Assigned));
        }
        self.membership.rejoin = Rejoin::Idle;
        self.membership.prepare_needed = true;
        Ok(())
    }

    /// What unsubscribing and closing do before they leave the group.
    pub(super) fn leave_prepare(&mut self) -> Result<()> {
        if self.subscription.mode != Mode::Topics {
            return Ok(());
        }
        if let Ok(groups) = self.broker.clone().groups() {
            // The outcome is the state of the member; what else fails is told by the next call.
            drop(self.membership.heartbeat(groups, None));
        }
        let owned: Vec<TopicPartition> = self.subscription.partitions().cloned().collect();
        if owned.is_empty() {
            return Ok(());
        }
        let lost = self.membership.generation.is_lost() || self.membership.is_rebalancing();
        self.give_up(if lost { Told::Lost } else { Told::Revoked }, owned)
    }

    pub(super) fn leave_group(&mut self) {
        let broker = self.broker.clone();
        let Ok(groups) = broker.groups() else { return };
        self.membership.leave(groups);
        self.forget_signal(groups);
    }

    /// A poll that waits until `until` is polling all the while.
    pub(super) fn stay_alive(&self, until: Duration) {
        let interval = self.settings.max_poll_interval;
        if self.subscription.mode != Mode::Topics
            || !self.membership.has_joined()
            || until <= self.broker.clock().monotonic().saturating_add(interval)
        {
            return;
        }
        if let (Ok(groups), Some(member)) = (self.broker.groups(), self.membership.reference()) {
            let deadline = until.saturating_add(interval);
            groups.touch(&member.group_id, &member.member_id, deadline);
        }
    }

    /// Stops counting as alive without leaving.
    pub(super) fn stop_heartbeats(&mut self) {
        let broker = self.broker.clone();
        let Ok(groups) = broker.groups() else { return };
        if let Some(member) = self.membership.reference().filter(|_| self.membership.has_joined()) {
            groups.stop_beating(&member.group_id, &member.member_id);
        }
        self.forget_signal(groups);
    }

    fn forget_signal(&mut self, groups: &Groups) {
        if std::mem::take(&mut self.membership.signal_known)
            && let Some(group) = self.membership.group_id()
        {
            groups.unwatch(group, self.wakeup.signal());
        }
    }

    /// Calls the listener, if there is one.
    fn tell(&mut self, told: Told, partitions: &[TopicPartition]) -> Option<Failure> {
        let mut listener = self.listener.take()?;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let context = &mut ConsumerContext::new(self);
            match told {
                Told::Revoked => listener.on_partitions_revoked(context, partitions),
                Told::Assigned => listener.on_partitions_assigned(context, partitions),
                Told::Lost => listener.on_partitions_lost(context, partitions),
            }
        }));
        self.listener = Some(listener);
        match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Failure::Error(error)),
            Err(panic) => Some(Failure::Panic(panic)),
        }
    }

    /// Whether the member's state lets it commit; the error if not.
    pub(super) fn check_may_commit(&self) -> Result<()> {
        match self.membership.state {
            MemberState::Stable => Ok(()),
            MemberState::Preparing | MemberState::Completing => Err(Error::new(
                ErrorKind::RebalanceInProgress,
                "the group is rebalancing; poll until that is over, then commit again",
            )),
            MemberState::Unjoined => Err(commit_failed()),
        }
    }
}

pub(super) fn commit_failed() -> Error {
    Error::new(
        ErrorKind::CommitFailed,
        "this member is not in the group any more, its partitions may belong to others; poll more \
         often, or raise max.poll.interval.ms",
    )
}
