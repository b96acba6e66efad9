//! Committing: at once, with a callback later, and automatically.
//!
//! Every commit is made inline, so an asynchronous one is only asynchronous in when its callback
//! runs: inside a later poll or `commit_sync` of the same consumer, or inside a later
//! `commit_async` if some call between the two has asked a broker anything, which is when Kafka's
//! client reads answers; in the order of the commits, never inside the call that made it.

use super::offsets::OffsetAndMetadata;
use super::rebalance::commit_failed;
use super::subscription::Mode;
use super::{Consumer, ConsumerRecord};
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
type Callback = Box<dyn FnOnce(&BTreeMap<TopicPartition, OffsetAndMetadata>, Result<()>) + Send>;

/// A commit whose callback has not run.
struct Completed {
    offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
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
}

impl fmt::Debug for Commits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commits")
            .field("callbacks", &self.completed.len())
            .field("next_auto_commit", &self.next_auto_commit)
            .finish()
    }
}

impl Consumer {
    /// Commits the positions of all assigned partitions: everything that polls returned so far
    /// counts as processed. A partition without a position (sought lazily) is left out.
    ///
    /// When this returns, the callbacks of all earlier asynchronous commits have run.
    ///
    /// # Durability
    /// As an append to the offsets topic: survives the death of the process at once, and power
    /// loss within `log.flush.interval.ms` or by that topic's settings.
    ///
    /// # Errors
    /// [`ErrorKind::CommitFailed`] when the member was put out of its group: the partitions may
    /// belong to others. [`ErrorKind::RebalanceInProgress`] between the member's rejoin and the
    /// end of the rebalance. [`ErrorKind::OffsetMetadataTooLarge`], where the other partitions
    /// were committed. [`ErrorKind::UnknownTopicOrPartition`], where the others were committed
    /// too. [`ErrorKind::InvalidGroupId`] without a group,
    /// [`ErrorKind::Wakeup`], [`ErrorKind::ReadOnly`] on an attached directory.
    ///
    /// Departure: D37. Metadata above 32,767 bytes is refused with the same error. The Java client
    /// fails in every call from there on.
    ///
    /// Departure: D9. Kafka's client retries an unknown partition until `default.api.timeout.ms`
    /// before it says the same.
    pub fn commit_sync(&mut self) -> Result<()> {
        self.check_open()?;
        self.group_id()?;
        let offsets = self.consumed();
        self.commit_now(&offsets)
    }

    /// Commits `offsets`, of whatever partitions. An offset is the next record to read; it may be
    /// below the committed one, and beyond the end of the log.
    ///
    /// # Durability
    /// As [`Consumer::commit_sync`].
    ///
    /// # Errors
    /// As [`Consumer::commit_sync`], and [`ErrorKind::IllegalArgument`] for a negative offset.
    pub fn commit_sync_offsets(
        &mut self,
        offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<()> {
        self.check_open()?;
        check_offsets(offsets)?;
        self.group_id()?;
        self.commit_now(offsets)
    }

    /// Commits one record: its partition goes on behind it. For loops that commit each record, and
    /// for a batch of which only a part was done. Owned and shared records have the same
    /// [`topic_partition`](ConsumerRecord::topic_partition) and offset for
    /// [`Consumer::commit_sync_offsets`].
    ///
    /// # Durability
    /// As [`Consumer::commit_sync`].
    ///
    /// # Errors
    /// As [`Consumer::commit_sync`].
    pub fn commit_record(&mut self, record: &ConsumerRecord<'_>) -> Result<()> {
        let next = OffsetAndMetadata::new(record.offset().saturating_add(1));
        self.commit_sync_offsets(&BTreeMap::from([(record.topic_partition().clone(), next)]))
    }

    /// Commits the positions of all assigned partitions; a failure is only logged.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidGroupId`] without a group, [`ErrorKind::Closed`].
    pub fn commit_async(&mut self) -> Result<()> {
        self.check_open()?;
        self.group_id()?;
        let offsets = self.consumed();
        self.commit_later(offsets, None);
        Ok(())
    }

    /// [`Consumer::commit_async`] with a callback, which is told the offsets and the outcome. It
    /// runs inside the next poll or `commit_sync` of this consumer, after those of earlier commits,
    /// or inside a later `commit_async` that follows a lookup; not at all if the consumer is closed
    /// or dropped first. A commit made inside `assigned` has its callback run by the same poll.
    ///
    /// The outcome has the errors of [`Consumer::commit_sync`], except that a failure that may
    /// pass is [`ErrorKind::RetriableCommitFailed`]: nothing is tried again.
    ///
    /// # Errors
    /// As [`Consumer::commit_async`].
    pub fn commit_async_with<C>(&mut self, callback: C) -> Result<()>
    where
        C: FnOnce(&BTreeMap<TopicPartition, OffsetAndMetadata>, Result<()>) + Send + 'static,
    {
        self.check_open()?;
        self.group_id()?;
        let offsets = self.consumed();
        self.commit_later(offsets, Some(Box::new(callback)));
        Ok(())
    }

    /// [`Consumer::commit_async_with`] for `offsets`, as [`Consumer::commit_sync_offsets`] takes
    /// them.
    ///
    /// # Errors
    /// As [`Consumer::commit_async`], and [`ErrorKind::IllegalArgument`] for a negative offset.
    pub fn commit_async_offsets<C>(
        &mut self,
        offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
        callback: C,
    ) -> Result<()>
    where
        C: FnOnce(&BTreeMap<TopicPartition, OffsetAndMetadata>, Result<()>) + Send + 'static,
    {
        self.check_open()?;
        check_offsets(&offsets)?;
        self.group_id()?;
        self.commit_later(offsets, Some(Box::new(callback)));
        Ok(())
    }

    fn consumed(&self) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        self.subscription
            .states()
            .filter_map(|(partition, state)| {
                Some((partition.clone(), OffsetAndMetadata::new(state.valid_position()?)))
            })
            .collect()
    }

    fn commit_now(&mut self, offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>) -> Result<()> {
        self.run_answered();
        if !self.membership.coordinator_known {
            self.check_wakeup()?;
            self.membership.coordinator_known = true;
        }
        self.run_callbacks();
        if offsets.is_empty() {
            return Ok(());
        }
        let outcome = self.send_commit(offsets);
        // As in Kafka the commit is under way by the time a wakeup is looked at.
        self.check_wakeup()?;
        outcome.map_err(|error| match error.kind() {
            ErrorKind::UnknownTopicOrPartition => {
                error.with_kafka_name(ErrorKind::Timeout.kafka_name())
            }
            _ => error,
        })
    }

    fn commit_later(
        &mut self,
        offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
        callback: Option<Callback>,
    ) {
        self.run_answered();
        let outcome = match offsets.is_empty() {
            true => Ok(()),
            false => self.send_commit(&offsets).map_err(|error| match error.is_retriable() {
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
            tracing::warn!(client = %self.client_id, %error, "an asynchronous commit failed");
        }
        let is_next = self.commits.answered == self.commits.completed.len();
        // Nobody is asked to commit nothing, or for a member that is out of its group.
        let is_lost = outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::CommitFailed);
        self.commits.answered += usize::from(is_next && (offsets.is_empty() || is_lost));
        self.commits.completed.push_back(Completed { offsets, callback, outcome });
    }

    /// Runs the callbacks of finished commits, oldest first.
    pub(super) fn run_callbacks(&mut self) {
        self.commits.read_answers();
        self.run_answered();
    }

    /// Those of them whose answers were read.
    pub(super) fn run_answered(&mut self) {
        while self.commits.answered > 0
            && let Some(completed) = self.commits.completed.pop_front()
        {
            self.commits.answered -= 1;
            if let Some(callback) = completed.callback {
                callback(&completed.offsets, completed.outcome);
            }
        }
    }

    /// Makes a commit. The first refusal decides the outcome; partitions that were not refused
    /// are committed all the same.
    fn send_commit(&mut self, offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>) -> Result<()> {
        let outcome = self.make_commit(offsets);
        self.meter.committed(outcome.is_ok());
        if let (Err(error), Some(group)) = (&outcome, self.membership.group_id()) {
            self.broker.probe().note(|| Event::CommitFailed {
                group: group.clone(),
                client_id: self.client_id.clone(),
                error: error.kind(),
            });
        }
        outcome
    }

    fn make_commit(&mut self, offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>) -> Result<()> {
        let managed = self.subscription.mode == Mode::Topics;
        if managed {
            self.check_may_commit()?;
        }
        let reference =
            if managed { self.membership.reference() } else { self.membership.outsider() };
        let Some(reference) = reference else {
            return Err(self.group_id().err().unwrap_or_else(commit_failed));
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
        let broker = self.broker.clone();
        let outcomes = match self.commit_probed(broker.groups()?, &reference, &offsets) {
            Ok(outcomes) => outcomes,
            Err(error) => return Err(self.commit_refused(error, managed)),
        };
        outcomes.into_iter().try_for_each(|(_, outcome)| outcome)
    }

    /// Commits under the eyes of a test, if there is one.
    fn commit_probed(
        &self,
        groups: &Groups,
        member: &MemberRef,
        offsets: &[OffsetToCommit],
    ) -> Result<PartitionOutcomes> {
        let probe = self.broker.probe();
        if !probe.is_on() {
            return groups.commit(member, offsets);
        }
        let point = Point::Commit { group: &member.group_id, client_id: &self.client_id };
        probe.pause(point)?;
        self.check_alive()?;
        probe.check(point)?;
        let outcomes = groups.commit(member, offsets)?;
        for (committed, (_, outcome)) in offsets.iter().zip(&outcomes) {
            if outcome.is_ok() {
                probe.note(|| Event::Committed {
                    group: member.group_id.clone(),
                    client_id: self.client_id.clone(),
                    partition: committed.partition.clone(),
                    offset: committed.offset,
                });
            }
        }
        probe.reply(point)?;
        Ok(outcomes)
    }

    /// What a refusal of the whole commit means for the member.
    fn commit_refused(&mut self, error: Error, managed: bool) -> Error {
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

    /// When the next automatic commit is due, if there is one.
    pub(super) fn next_auto_commit(&self) -> Option<Duration> {
        let pausing = self.settings.auto_commit_interval.is_zero();
        (self.settings.auto_commit && !pausing).then_some(self.commits.next_auto_commit)
    }

    /// Counts the interval from the present moment on.
    pub(super) fn restart_auto_commit(&mut self) {
        let now = self.broker.clock().monotonic();
        self.commits.next_auto_commit = now.saturating_add(self.settings.auto_commit_interval);
    }

    /// The commit of a poll, or of `assign`, once the interval is over.
    pub(super) fn auto_commit_if_due(&mut self, now: Now) {
        if !self.settings.auto_commit || now.mono < self.commits.next_auto_commit {
            return;
        }
        self.commits.next_auto_commit = now.mono.saturating_add(self.settings.auto_commit_interval);
        if let Err(error) = self.auto_commit()
            && error.is_retriable()
        {
            self.commits.next_auto_commit = now.mono.saturating_add(self.settings.retry_backoff);
        }
    }

    /// The commit before partitions are given up, whatever the interval.
    pub(super) fn auto_commit_before_rebalance(&mut self) {
        if self.settings.auto_commit {
            // A failure is logged; the rebalance goes on, as it does in Kafka once its time is up.
            drop(self.auto_commit());
        }
    }

    /// The commit of a close.
    pub(super) fn auto_commit_at_close(&mut self) {
        if self.settings.auto_commit {
            self.run_callbacks();
            drop(self.auto_commit());
        }
    }

    fn auto_commit(&mut self) -> Result<()> {
        let offsets = self.consumed();
        if offsets.is_empty() || self.membership.group_id().is_none() {
            return Ok(());
        }
        self.send_commit(&offsets).inspect_err(|error| {
            tracing::warn!(client = %self.client_id, %error, "an automatic commit failed");
        })
    }
}

fn check_offsets(offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>) -> Result<()> {
    match offsets.iter().find(|(_, offset)| offset.offset() < 0) {
        None => Ok(()),
        Some((partition, offset)) => {
            Err(Error::new(ErrorKind::IllegalArgument, "an offset to commit is not negative")
                .with_partition(partition.topic(), partition.partition())
                .with_offset(offset.offset()))
        }
    }
}
