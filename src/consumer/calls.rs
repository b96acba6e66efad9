//! What users ask a consumer for: where it is and where to go on, commits, and questions about logs
//! that leave positions alone.

use super::Consumer;
use super::commits::{Callback, Commits, Committer, Offsets, check_offsets};
use super::offsets::{OffsetAndMetadata, OffsetAndTimestamp};
use super::positions::from_stored;
use super::reading::ConsumerRecord;
use super::subscription::{Position, ResetTo};
use crate::broker::Partition;
use crate::error::{Error, ErrorKind, Result};
use crate::topic::TopicPartition;
use std::collections::BTreeMap;
use std::time::Duration;

impl Consumer {
    /// The offset of the next record that a poll returns of this partition. Looks it up where
    /// there is none: the committed offset, else by `auto.offset.reset`.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] when the partition is not assigned;
    /// [`ErrorKind::NoOffsetForPartition`] without a commit and with the policy `none`, naming
    /// every such partition; [`ErrorKind::UnknownTopicOrPartition`] when it does not exist;
    /// [`ErrorKind::Timeout`] when there is nothing to start at: no record is young enough for the
    /// policy, or a transaction holds the committed offset; [`ErrorKind::CorruptRecord`] and
    /// [`ErrorKind::UnsupportedFormat`] where the policy leads behind damage;
    /// [`ErrorKind::Wakeup`].
    ///
    /// Inside `revoked`, where a commit is made by itself, a position that was not looked up before
    /// is not looked up any more: the call takes `default.api.timeout.ms` and fails with
    /// [`ErrorKind::Timeout`], as in Kafka.
    ///
    /// Departure: D9. What else cannot be found without another call's doing is said at once, where
    /// Kafka's client waits for `default.api.timeout.ms`.
    pub fn position(&mut self, partition: &TopicPartition) -> Result<i64> {
        self.check_open()?;
        if let Some(position) = self.subscription.assigned(partition)?.valid_position() {
            return Ok(position);
        }
        self.env.check_wakeup()?;
        self.check_names(true)?;
        self.commits.read_answers();
        let deadline = self.env.api_deadline();
        loop {
            self.positions.refresh_sources(&self.env, &mut self.subscription)?;
            let (subscription, membership) = (&mut self.subscription, &mut self.membership);
            let filled = self.positions.fill(&self.env, subscription, membership)?;
            let pending = filled.pending || self.is_leaving(partition);
            if let Some(position) = self.subscription.assigned(partition)?.valid_position() {
                return Ok(position);
            }
            // What kept it from being found is told of this partition alone.
            let (isolation, now) = (self.env.isolation(), self.env.clock().now());
            self.subscription.assigned_mut(partition)?.resolve_reset(isolation, now.wall_ms)?;
            if !pending || !self.env.back_off(deadline)? {
                self.env.partition(partition)?;
                let fault = "there is no position to start at; seek, or poll until there is one";
                return Err(Error::new(ErrorKind::Timeout, fault)
                    .with_partition(partition.topic(), partition.partition()));
            }
        }
    }

    /// Reads on from `offset`. Nothing is checked but the sign: an offset that the log does not
    /// have is found out of range by the next poll.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalArgument`] for a negative offset, [`ErrorKind::IllegalState`] when the
    /// partition is not assigned.
    pub fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        if offset < 0 {
            return Err(Error::new(
                ErrorKind::IllegalArgument,
                "an offset to seek is not negative",
            )
            .with_partition(partition.topic(), partition.partition())
            .with_offset(offset));
        }
        self.check_open()?;
        self.subscription.assigned_mut(partition)?.seek(offset);
        Ok(())
    }

    /// [`Consumer::seek`] to a committed offset. Its text is not looked at.
    ///
    /// # Errors
    /// As [`Consumer::seek`].
    pub fn seek_with_metadata(
        &mut self,
        partition: &TopicPartition,
        offset: &OffsetAndMetadata,
    ) -> Result<()> {
        self.seek(partition, offset.offset())
    }

    /// Reads these partitions, or all assigned ones if none is named, from the log start on. The
    /// start is looked up by the next poll or [`Consumer::position`]; until then there is no
    /// position, and nothing to commit.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] for a partition that is not assigned.
    pub fn seek_to_beginning(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.seek_lazily(partitions, ResetTo::Beginning)
    }

    /// The same with the end, as the isolation level sees it.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] for a partition that is not assigned.
    pub fn seek_to_end(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.seek_lazily(partitions, ResetTo::End)
    }

    fn seek_lazily(&mut self, partitions: &[TopicPartition], to: ResetTo) -> Result<()> {
        self.check_open()?;
        if partitions.is_empty() {
            self.subscription.states_mut().for_each(|(_, state)| state.reset(to));
        }
        for partition in partitions {
            self.subscription.assigned_mut(partition)?.reset(to);
        }
        Ok(())
    }

    /// The committed offsets of these partitions, `None` where there is none. Waits for open
    /// transactions that hold an offset, at most `default.api.timeout.ms`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidGroupId`] without a group, [`ErrorKind::Timeout`],
    /// [`ErrorKind::Wakeup`].
    pub fn committed(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Option<OffsetAndMetadata>>> {
        let timeout = self.env.settings.api_timeout;
        self.committed_timeout(partitions, timeout)
    }

    /// [`Consumer::committed`] with a timeout of its own.
    ///
    /// # Errors
    /// As there.
    pub fn committed_timeout(
        &mut self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<BTreeMap<TopicPartition, Option<OffsetAndMetadata>>> {
        self.check_open()?;
        let group = self.env.group_id()?.clone();
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.env.check_wakeup()?;
        self.check_names(true)?;
        self.commits.read_answers();
        self.membership.know_coordinator();
        let deadline = self.env.clock().monotonic().saturating_add(timeout);
        let groups = self.env.broker.groups()?;
        loop {
            let stored = groups.committed(&group, partitions, true)?;
            let found: Result<BTreeMap<_, _>> = partitions
                .iter()
                .cloned()
                .zip(stored)
                .map(|(partition, stored)| Ok((partition, stored?.map(from_stored))))
                .collect();
            match found {
                Err(error) if error.kind() == ErrorKind::UnstableOffsetCommit => {
                    if !self.env.back_off(deadline)? {
                        return Err(
                            Error::new(ErrorKind::Timeout, error.to_string()).with_source(error)
                        );
                    }
                }
                found => return found,
            }
        }
    }

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
        self.env.group_id()?;
        let offsets = self.subscription.consumed();
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
        self.env.group_id()?;
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
    /// Departure: D85. It is made at once. Kafka's client makes one that comes before it has found
    /// its coordinator when a later call finds that.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidGroupId`] without a group, [`ErrorKind::Closed`].
    pub fn commit_async(&mut self) -> Result<()> {
        self.check_open()?;
        self.env.group_id()?;
        let offsets = self.subscription.consumed();
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
        self.env.group_id()?;
        let offsets = self.subscription.consumed();
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
        self.env.group_id()?;
        self.commit_later(offsets, Some(Box::new(callback)));
        Ok(())
    }

    /// The first offset of each partition, assigned or not.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTopicOrPartition`], at once; [`ErrorKind::Wakeup`].
    pub fn beginning_offsets(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.look_up(partitions.iter(), |_, log| log.log_start_offset())
    }

    /// The offset behind the last record of each partition, assigned or not: under read_committed
    /// the last stable offset, else the high watermark.
    ///
    /// # Errors
    /// As [`Consumer::beginning_offsets`]; [`ErrorKind::CorruptRecord`] and
    /// [`ErrorKind::UnsupportedFormat`] of a damaged partition, whose end nobody knows.
    pub fn end_offsets(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let isolation = self.env.isolation();
        let ends = self.look_up(partitions.iter(), |_, log| log.end_for(isolation))?;
        for (partition, end) in &ends {
            if let Some(state) = self.subscription.state_mut(partition) {
                state.know_end(*end);
            }
        }
        Ok(ends)
    }

    /// For each partition, assigned or not, the first offset whose record has at least this
    /// timestamp (milliseconds since 1970); `None` where no record has.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalArgument`] for a negative time; as [`Consumer::end_offsets`] where a
    /// damaged partition has no such record before its damage.
    pub fn offsets_for_times(
        &mut self,
        times: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, Option<OffsetAndTimestamp>>> {
        self.check_open()?;
        if let Some((partition, _)) = times.iter().find(|(_, time)| **time < 0) {
            return Err(Error::new(
                ErrorKind::IllegalArgument,
                "a time to look up is not negative",
            )
            .with_partition(partition.topic(), partition.partition()));
        }
        let isolation = self.env.isolation();
        self.look_up(times.keys(), |partition, log| {
            let time = times.get(partition).copied().unwrap_or(0);
            let found = log.offset_for_time(time, isolation)?;
            Ok(found.map(|found| OffsetAndTimestamp::new(found.offset, found.timestamp)))
        })
    }

    /// How many offsets lie between the position and the end as it was last seen: by a fetch or by
    /// [`Consumer::end_offsets`]. `None` without a position, and where the end was not seen yet:
    /// then the next poll looks, also where the partition is paused.
    ///
    /// Departure: D40. What [`Consumer::beginning_offsets`] and [`Consumer::offsets_for_times`]
    /// find is not taken for the end, as Kafka's client takes it.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] when the partition is not assigned;
    /// [`ErrorKind::CorruptRecord`] and [`ErrorKind::UnsupportedFormat`] when it is damaged.
    pub fn current_lag(&self, partition: &TopicPartition) -> Result<Option<i64>> {
        self.check_open()?;
        self.positions.lag(&self.subscription, partition)
    }

    fn look_up<'a, T>(
        &mut self,
        partitions: impl Iterator<Item = &'a TopicPartition>,
        ask: impl Fn(&TopicPartition, &Partition) -> Result<T>,
    ) -> Result<BTreeMap<TopicPartition, T>> {
        self.check_open()?;
        let mut partitions = partitions.peekable();
        if partitions.peek().is_some() {
            self.env.check_wakeup()?;
            self.check_names(true)?;
            self.commits.read_answers();
        }
        partitions
            .map(|partition| {
                let log = self.env.partition(partition)?;
                Ok((partition.clone(), ask(partition, &log)?))
            })
            .collect()
    }

    /// Whether a partition without a position is about to be given up.
    fn is_leaving(&self, partition: &TopicPartition) -> bool {
        let state = self.subscription.assigned(partition);
        state.is_ok_and(|state| state.is_leaving && state.position == Position::Unset)
    }

    /// The commits, and who makes them.
    pub(super) fn committing(&mut self) -> (&mut Commits, Committer<'_>) {
        let Consumer { env, subscription, membership, commits, .. } = self;
        (commits, Committer { env, subscription, membership })
    }

    fn commit_now(&mut self, offsets: &Offsets) -> Result<()> {
        let (commits, mut by) = self.committing();
        commits.commit_now(&mut by, offsets)
    }

    fn commit_later(&mut self, offsets: Offsets, callback: Option<Callback>) {
        let (commits, mut by) = self.committing();
        commits.commit_later(&mut by, offsets, callback);
    }
}
