//! Committing: at once, with a callback later, and automatically.
//!
//! Every commit is made inline, so an asynchronous one is only asynchronous in when its callback
//! runs: inside a later poll or `commit_sync` of the same consumer, or inside a later
//! `commit_async` if some call between the two has asked a broker anything, which is when Kafka's
//! client reads answers; in the order of the commits, never inside the call that made it. The
//! heartbeats of a member read them, too, so there a poll some time later begins with them.

use super::coordinator::{Membership, commit_failed};
use super::env::ConsumerEnv;
use super::offsets::OffsetAndMetadata;
use super::subscription::{Mode, SubscriptionState};
use crate::broker::Groups;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::group::{MemberRef, OffsetToCommit, PartitionOutcomes};
use crate::probe::Point;
use crate::time::Now;
use crate::topic::TopicPartition;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

/// What a commit's callback is given: the offsets, and the outcome.
pub(super) type Callback = Box<dyn FnOnce(&Offsets, Result<()>) + Send>;

/// What one commit is of.
pub(super) type Offsets = BTreeMap<TopicPartition, OffsetAndMetadata>;

/// A commit whose callback has not run.
struct Completed {
    /// When it was made.
    at: Duration,
    offsets: Offsets,
    callback: Option<Callback>,
    outcome: Result<()>,
}

/// Commits that a consumer has made, and when it makes the next one by itself.
pub(super) struct Commits {
    completed: VecDeque<Completed>,
    /// How many of them, from the front, Kafka's client would have the answer of.
    answered: usize,
    next_auto_commit: Duration,
}

impl Commits {
    pub fn new(next_auto_commit: Duration) -> Commits {
        Commits { completed: VecDeque::new(), answered: 0, next_auto_commit }
    }

    /// Drops callbacks that nobody will run.
    pub fn forget(&mut self) {
        self.completed.clear();
        self.answered = 0;
    }

    /// A call asks a broker: the answers to all commits before it are read.
    pub fn read_answers(&mut self) {
        self.answered = self.completed.len();
    }

    /// Time has passed: the answers to the commits made before this moment are read.
    pub fn read_answers_before(&mut self, now: Duration) {
        let earlier = self.completed.iter().take_while(|completed| completed.at < now).count();
        self.answered = self.answered.max(earlier);
    }

    /// Commits at once, after the callbacks of all earlier commits have run.
    ///
    /// # Errors
    /// Those of [`Consumer::commit_sync`](super::Consumer::commit_sync).
    pub fn commit_now(&mut self, by: &mut Committer<'_>, offsets: &Offsets) -> Result<()> {
        self.run_answered();
        if offsets.is_empty() && self.completed.is_empty() {
            // Nobody is asked anything that a wakeup could interrupt.
            return Ok(());
        }
        if !by.membership.knows_coordinator() {
            by.env.check_wakeup()?;
            by.membership.know_coordinator();
        }
        self.run_callbacks();
        if offsets.is_empty() {
            return Ok(());
        }
        let outcome = by.commit(offsets);
        // As in Kafka the commit is under way by the time a wakeup is looked at.
        by.env.check_wakeup()?;
        outcome.map_err(|error| match error.kind() {
            ErrorKind::UnknownTopicOrPartition => {
                error.with_kafka_name(ErrorKind::Timeout.kafka_name())
            }
            _ => error,
        })
    }

    /// Commits, and has a later call run the callback.
    pub fn commit_later(
        &mut self,
        by: &mut Committer<'_>,
        offsets: Offsets,
        callback: Option<Callback>,
    ) {
        self.run_answered();
        let outcome = match offsets.is_empty() {
            true => Ok(()),
            false => by.commit(&offsets).map_err(|error| match error.is_retriable() {
                // Kafka says that this one may be repeated. It helps once somebody makes the topic.
                _ if error.kind() == ErrorKind::UnknownTopicOrPartition => {
                    Error::new(error.kind(), format!("the commit cannot succeed: {error}"))
                        .with_kafka_name(ErrorKind::RetriableCommitFailed.kafka_name())
                        .with_source(error)
                }
                true => {
                    let message = format!("the commit may be repeated: {error}");
                    Error::new(ErrorKind::RetriableCommitFailed, message).with_source(error)
                }
                false => error,
            }),
        };
        if callback.is_none()
            && let Err(error) = &outcome
        {
            tracing::warn!(client = %by.env.client_id, %error, "an asynchronous commit failed");
        }
        let is_next = self.answered == self.completed.len();
        // Nobody is asked to commit nothing, or, once the coordinator is known, for a member that
        // is out of its group.
        let is_lost = by.membership.knows_coordinator()
            && outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::CommitFailed);
        self.answered += usize::from(is_next && (offsets.is_empty() || is_lost));
        let at = by.env.clock().monotonic();
        self.completed.push_back(Completed { at, offsets, callback, outcome });
    }

    /// Runs the callbacks of finished commits, oldest first.
    pub fn run_callbacks(&mut self) {
        self.read_answers();
        self.run_answered();
    }

    /// Those of them whose answers were read.
    pub fn run_answered(&mut self) {
        while self.answered > 0
            && let Some(completed) = self.completed.pop_front()
        {
            self.answered -= 1;
            if let Some(callback) = completed.callback {
                callback(&completed.offsets, completed.outcome);
            }
        }
    }

    /// When the next automatic commit is due, if there is one.
    pub fn next_auto_commit(&self, env: &ConsumerEnv) -> Option<Duration> {
        let pausing = env.settings.auto_commit_interval.is_zero();
        (env.settings.auto_commit && !pausing).then_some(self.next_auto_commit)
    }

    /// Counts the interval from the present moment on.
    pub fn restart_auto_commit(&mut self, env: &ConsumerEnv) {
        let now = env.clock().monotonic();
        self.next_auto_commit = now.saturating_add(env.settings.auto_commit_interval);
    }

    /// The commit of a poll, or of `assign`, once the interval is over.
    pub fn auto_commit_if_due(&mut self, by: &mut Committer<'_>, now: Now) {
        if !by.env.settings.auto_commit || now.mono < self.next_auto_commit {
            return;
        }
        self.next_auto_commit = now.mono.saturating_add(by.env.settings.auto_commit_interval);
        if let Err(error) = by.auto_commit()
            && error.is_retriable()
        {
            self.next_auto_commit = now.mono.saturating_add(by.env.settings.retry_backoff);
        }
    }

    /// The commit before partitions are given up, whatever the interval.
    pub fn auto_commit_before_rebalance(&mut self, by: &mut Committer<'_>) {
        if by.env.settings.auto_commit {
            // A failure is logged; the rebalance goes on, as it does in Kafka once its time is up.
            drop(by.auto_commit());
        }
    }

    /// The commit of a close.
    pub fn auto_commit_at_close(&mut self, by: &mut Committer<'_>) {
        if by.env.settings.auto_commit {
            self.run_callbacks();
            drop(by.auto_commit());
        }
    }
}

impl fmt::Debug for Commits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commits")
            .field("callbacks", &self.completed.len())
            .field("next_auto_commit", &self.next_auto_commit)
            .finish()
    }
}

/// Who commits: a member with its generation, or a reader of assigned partitions.
pub(super) struct Committer<'a> {
    pub env: &'a ConsumerEnv,
    pub subscription: &'a SubscriptionState,
    pub membership: &'a mut Membership,
}

impl Committer<'_> {
    /// Makes a commit. The first refusal decides the outcome; partitions that were not refused
    /// are committed all the same.
    fn commit(&mut self, offsets: &Offsets) -> Result<()> {
        let began = self.env.meter.times_commits().then(|| self.env.clock().monotonic());
        let outcome = self.send(offsets);
        let took = began.map(|began| self.env.clock().monotonic().saturating_sub(began));
        self.env.meter.committed(outcome.is_ok(), took);
        if let (Err(error), Some(group)) = (&outcome, &self.env.group) {
            self.env.broker.probe().note(|| Event::CommitFailed {
                group: group.clone(),
                client_id: self.env.client_id.clone(),
                error: error.kind(),
            });
        }
        outcome
    }

    fn send(&mut self, offsets: &Offsets) -> Result<()> {
        let managed = self.subscription.mode() == Mode::Topics;
        if managed {
            self.membership.check_may_commit()?;
        }
        let reference =
            if managed { self.membership.reference() } else { self.membership.outsider() };
        let Some(reference) = reference else {
            return Err(self.env.group_id().err().unwrap_or_else(commit_failed));
        };
        let offsets: Vec<OffsetToCommit> = offsets
            .iter()
            .map(|(partition, offset)| OffsetToCommit {
                partition: partition.clone(),
                offset: offset.offset(),
                leader_epoch: -1,
                metadata: offset.metadata_shared().clone(),
            })
            .collect();
        let groups = self.env.broker.groups()?;
        let outcomes = match self.send_probed(groups, &reference, &offsets) {
            Ok(outcomes) => outcomes,
            Err(error) => return Err(self.refused(error, managed)),
        };
        outcomes.into_iter().try_for_each(|(_, outcome)| outcome)
    }

    /// Commits under the eyes of a test, if there is one.
    fn send_probed(
        &self,
        groups: &Groups,
        member: &MemberRef,
        offsets: &[OffsetToCommit],
    ) -> Result<PartitionOutcomes> {
        let probe = self.env.broker.probe();
        if !probe.is_on() {
            return groups.commit(member, offsets);
        }
        let point = Point::Commit { group: &member.group_id, client_id: &self.env.client_id };
        probe.pause(point)?;
        self.env.check_alive()?;
        probe.check(point)?;
        let outcomes = groups.commit(member, offsets)?;
        for committed in offsets {
            let is_stored = |(partition, outcome): &(TopicPartition, Result<()>)| {
                *partition == committed.partition && outcome.is_ok()
            };
            if outcomes.iter().any(is_stored) {
                probe.note(|| Event::Committed {
                    group: member.group_id.clone(),
                    client_id: self.env.client_id.clone(),
                    partition: committed.partition.clone(),
                    offset: committed.offset,
                });
            }
        }
        probe.reply(point)?;
        Ok(outcomes)
    }

    /// What a refusal of the whole commit means for the member.
    fn refused(&mut self, error: Error, managed: bool) -> Error {
        match error.kind() {
            ErrorKind::RebalanceInProgress => {
                self.membership.request_rejoin();
                error
            }
            ErrorKind::UnknownMemberId
            | ErrorKind::IllegalGeneration
            | ErrorKind::GroupIdNotFound => {
                if managed {
                    self.membership.reset_generation(error.kind() == ErrorKind::IllegalGeneration);
                }
                commit_failed().with_source(error)
            }
            _ => error,
        }
    }

    /// Commits the positions; a failure is logged.
    fn auto_commit(&mut self) -> Result<()> {
        let offsets = self.subscription.consumed();
        if offsets.is_empty() || self.env.group.is_none() {
            return Ok(());
        }
        self.commit(&offsets).inspect_err(|error| {
            tracing::warn!(client = %self.env.client_id, %error, "an automatic commit failed");
        })
    }
}

/// Refuses what cannot be committed.
///
/// # Errors
/// [`ErrorKind::IllegalArgument`] for a negative offset.
pub(super) fn check_offsets(offsets: &Offsets) -> Result<()> {
    match offsets.iter().find(|(_, offset)| offset.offset() < 0) {
        None => Ok(()),
        Some((partition, offset)) => {
            Err(Error::new(ErrorKind::IllegalArgument, "an offset to commit is not negative")
                .with_partition(partition.topic(), partition.partition())
                .with_offset(offset.offset()))
        }
    }
}
