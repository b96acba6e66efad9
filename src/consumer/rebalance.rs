//! A rebalance as the application sees it: when partitions are given up and taken, and what the
//! listener is told. The order of steps is that of Kafka's `ConsumerCoordinator`.

use super::Consumer;
use super::coordinator::ExchangeOutcome;
use super::listener::{ConsumerContext, Failure, Told};
use super::silence;
use super::subscription::Mode;
use crate::error::{Error, ErrorKind, Result};
use crate::group::protocol::Assignment;
use crate::time::Now;
use crate::topic::TopicPartition;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

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
        if self.subscription.mode() != Mode::Topics {
            return Ok(GroupTurn::Settled);
        }
        let deadline = now.mono.saturating_add(self.env.settings.max_poll_interval);
        self.membership.know_coordinator();
        self.membership.heartbeat(self.env.broker.groups()?, Some(deadline))?;
        self.membership.notice_changes(&self.env, &self.subscription);
        if !self.membership.is_rejoining() {
            return Ok(GroupTurn::Settled);
        }
        if self.membership.take_prepare() {
            self.join_prepare()?;
        }
        let step = self.membership.exchange(&self.env, &self.subscription)?;
        Ok(match step {
            ExchangeOutcome::Waiting => GroupTurn::Waiting,
            ExchangeOutcome::Moved => GroupTurn::Moved,
            ExchangeOutcome::Assigned(share) => {
                self.join_complete(&share)?;
                GroupTurn::Moved
            }
        })
    }

    /// Commits and gives up everything before the join: rebalances are eager.
    fn join_prepare(&mut self) -> Result<()> {
        if self.env.settings.auto_commit {
            self.subscription.states_mut().for_each(|(_, state)| state.is_leaving = true);
        }
        let (commits, by) = &mut self.committing();
        commits.auto_commit_before_rebalance(by);
        let owned: Vec<TopicPartition> = self.subscription.partitions().cloned().collect();
        let told = match self.membership.is_lost() {
            true if owned.is_empty() => return Ok(()),
            true => Told::Lost,
            false => Told::Revoked,
        };
        self.give_up(told, owned)
    }

    /// Tells the listener and empties the assignment.
    fn give_up(&mut self, told: Told, owned: Vec<TopicPartition>) -> Result<()> {
        let failure = self.tell(told, &owned);
        if !failure.as_ref().is_some_and(Failure::is_wakeup) {
            self.subscription.set_partitions(BTreeSet::new(), self.env.signal());
        }
        match failure {
            Some(failure) => Err(failure.into_error(told)),
            None => Ok(()),
        }
    }

    /// Takes the share that the leader gave.
    fn join_complete(&mut self, share: &[u8]) -> Result<()> {
        self.membership.settle();
        let partitions = Assignment::decode(share).map_err(|fault| {
            let message = format!("the group's leader sent an assignment that is none: {fault}");
            Error::new(ErrorKind::Kafka, message)
        })?;
        let partitions: BTreeSet<TopicPartition> = partitions.partitions.into_iter().collect();
        if partitions.iter().any(|p| !self.subscription.topics().contains(p.topic())) {
            // The subscription changed while the group was joining.
            self.membership.end_rejoin();
            self.membership.request_rejoin();
            return Ok(());
        }
        let added: Vec<TopicPartition> =
            partitions.iter().filter(|p| !self.subscription.contains(p)).cloned().collect();
        self.commits.restart_auto_commit(&self.env);
        self.subscription.set_partitions(partitions, self.env.signal());
        silence::tell_of_share(&self.env, &self.subscription);
        // Until the listener has succeeded the step is not over, and is taken again.
        if let Some(failure) = self.tell(Told::Assigned, &added) {
            return Err(failure.into_error(Told::Assigned));
        }
        self.membership.end_rejoin();
        Ok(())
    }

    /// What unsubscribing and closing do before they leave the group.
    pub(super) fn leave_prepare(&mut self) -> Result<()> {
        if self.subscription.mode() != Mode::Topics {
            return Ok(());
        }
        if let Ok(groups) = self.env.broker.groups() {
            // The outcome is the state of the member; what else fails is told by the next call.
            drop(self.membership.heartbeat(groups, None));
        }
        let owned: Vec<TopicPartition> = self.subscription.partitions().cloned().collect();
        if owned.is_empty() {
            return Ok(());
        }
        let lost = self.membership.is_lost() || self.membership.is_rebalancing();
        self.give_up(if lost { Told::Lost } else { Told::Revoked }, owned)
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
}
