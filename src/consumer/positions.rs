//! Where reading starts: committed offsets, reset policies, seeks.

use super::Consumer;
use super::offsets::OffsetAndMetadata;
use super::subscription::{Look, PartitionState, Position, ResetTo, Source};
use crate::config::IsolationLevel;
use crate::error::{Error, ErrorKind, Result};
use crate::topic::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What became of the partitions without a position.
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// A committed offset is held by an open transaction.
    pub pending: bool,
    /// Why a reset found no place: the others are read before it is told.
    pub fault: Option<Error>,
}

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
        self.check_wakeup()?;
        self.check_names(true)?;
        self.commits.read_answers();
        let deadline = self.api_deadline();
        loop {
            self.refresh_sources()?;
            let pending = self.fill_positions()?.pending || self.is_leaving(partition);
            if let Some(position) = self.subscription.assigned(partition)?.valid_position() {
                return Ok(position);
            }
            // What kept it from being found is told of this partition alone.
            let (isolation, now) = (self.settings.isolation_level, self.broker.clock().now());
            self.subscription.assigned_mut(partition)?.resolve_reset(isolation, now.wall_ms)?;
            if !pending || !self.back_off(deadline)? {
                self.partition_of(partition)?;
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
        let timeout = self.settings.api_timeout;
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
        let group = self.group_id()?.clone();
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.check_wakeup()?;
        self.check_names(true)?;
        self.commits.read_answers();
        self.membership.coordinator_known = true;
        let deadline = self.broker.clock().monotonic().saturating_add(timeout);
        let broker = self.broker.clone();
        let groups = broker.groups()?;
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
                    if !self.back_off(deadline)? {
                        return Err(
                            Error::new(ErrorKind::Timeout, error.to_string()).with_source(error)
                        );
                    }
                }
                found => return found,
            }
        }
    }

    pub(super) fn api_deadline(&self) -> Duration {
        self.broker.clock().monotonic().saturating_add(self.settings.api_timeout)
    }

    /// Waits before asking again; false when `deadline` has passed.
    pub(super) fn back_off(&self, deadline: Duration) -> Result<bool> {
        let clock = self.broker.clock();
        let now = clock.monotonic();
        if now >= deadline {
            return Ok(false);
        }
        let pause = self.settings.retry_backoff.max(Duration::from_millis(1));
        clock.park(self.wakeup.signal(), Some(now.saturating_add(pause).min(deadline)));
        self.check_wakeup()?;
        Ok(true)
    }

    /// Looks up the logs of assigned partitions where the metadata changed since.
    pub(super) fn refresh_sources(&mut self) -> Result<()> {
        let version = self.broker.metadata_version();
        if self.fetcher.sources_of == Some((self.subscription.version, version)) {
            return Ok(());
        }
        let create = self.settings.auto_create_topics;
        if create {
            for topic in self.subscription.topics() {
                // A name that cannot be is complained of elsewhere; what may not be made is
                // waited for.
                drop(self.broker.topic_or_create(topic));
            }
        }
        let policy = ResetTo::policy(self.settings.offset_reset);
        for (partition, state) in self.subscription.states_mut() {
            if state.seen_version == Some(version) {
                continue;
            }
            let topic = match create {
                true => self.broker.topic_or_create(partition.topic()),
                false => self.broker.topic(partition.topic()),
            };
            let found = topic.and_then(|topic| {
                let log = topic.partition(partition.partition())?;
                Ok(Source { topic_id: topic.id(), partition: log })
            });
            let source = match found {
                Ok(source) => Some(source),
                Err(error) if is_absent(&error) => None,
                Err(error) => return Err(error),
            };
            state.place_in(source, policy, self.wakeup.signal());
            state.seen_version = Some(version);
        }
        self.tell_of_missing();
        // What was made meanwhile is looked at by the next turn, under its own version.
        self.fetcher.sources_of = Some((self.subscription.version, version));
        Ok(())
    }

    /// Gives a position to every partition that has none, where one is found.
    ///
    /// # Errors
    /// [`ErrorKind::NoOffsetForPartition`] that names all partitions without a commit, where the
    /// policy is to fail.
    pub(super) fn fill_positions(&mut self) -> Result<Filled> {
        self.subscription.wake_ready();
        let pending = self.take_committed()?;
        let policy = ResetTo::policy(self.settings.offset_reset);
        let mut without = BTreeSet::new();
        let mut begun = Vec::new();
        let is_default = !self.settings.offset_reset_is_set;
        self.subscription.look_at_awake(|look| {
            let state = &mut *look.state;
            if state.is_unset() && !state.awaits_commit {
                match policy {
                    Some(to) => {
                        if is_default {
                            begun.push(look.partition.clone());
                        }
                        state.reset(to);
                    }
                    None => drop(without.insert(look.partition.clone())),
                }
            }
            true
        });
        if let Some(first) = without.first() {
            let fault = "there is no committed offset and auto.offset.reset is none; seek first";
            let named = |name: &TopicPartition| (name.topic().to_owned(), name.partition());
            return Err(Error::new(ErrorKind::NoOffsetForPartition, fault)
                .with_partition(first.topic(), first.partition())
                .with_partitions(without.iter().map(named).collect()));
        }
        let isolation = self.settings.isolation_level;
        let wall_ms = self.broker.clock().now().wall_ms;
        let mut fault = None;
        self.subscription.look_at_awake(|look| {
            if let Err(error) = look.resolve_reset(isolation, wall_ms) {
                let (topic, partition) = (look.partition.topic(), look.partition.partition());
                fault.get_or_insert(error.with_partition(topic, partition));
            }
            true
        });
        self.tell_of_passed_over(&begun);
        Ok(Filled { pending, fault })
    }

    /// Whether a partition without a position is about to be given up.
    fn is_leaving(&self, partition: &TopicPartition) -> bool {
        let state = self.subscription.assigned(partition);
        state.is_ok_and(|state| state.is_leaving && state.position == Position::Unset)
    }

    /// Takes the committed offsets of newly assigned partitions.
    fn take_committed(&mut self) -> Result<bool> {
        let Some(group) = self.membership.group_id() else { return Ok(false) };
        let mut new = Vec::new();
        self.subscription.look_at_awake(|look| {
            if look.state.is_unset() {
                new.push(look.partition.clone());
            }
            true
        });
        if new.is_empty() {
            return Ok(false);
        }
        let mut pending = false;
        let stored = self.broker.groups()?.committed(group, &new, true)?;
        self.membership.coordinator_known = true;
        for (partition, stored) in new.iter().zip(stored) {
            let Some(state) = self.subscription.state_mut(partition) else { continue };
            state.awaits_commit = false;
            match stored {
                Ok(Some(committed)) => state.seek(committed.offset),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::UnstableOffsetCommit => {
                    state.awaits_commit = true;
                    pending = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(pending)
    }

    /// What a reset does after the position was found out of range; the error where the policy is
    /// to fail.
    pub(super) fn out_of_range(&mut self, partition: &TopicPartition, error: Error) -> Result<()> {
        let isolation = self.settings.isolation_level;
        let wall_ms = self.broker.clock().now().wall_ms;
        let Some(to) = ResetTo::policy(self.settings.offset_reset) else {
            let named = vec![(partition.topic().to_owned(), partition.partition())];
            return Err(error.with_partitions(named));
        };
        let Some(state) = self.subscription.state_mut(partition) else { return Ok(()) };
        state.reset(to);
        state.resolve_reset(isolation, wall_ms)?;
        self.tell_of_reset(partition);
        Ok(())
    }
}

impl PartitionState {
    /// Whether a position is to be found for it.
    fn is_unset(&self) -> bool {
        self.position == Position::Unset && !self.is_leaving
    }

    /// Takes the log that the metadata names. A topic that was deleted and made again is another
    /// one: the position in the old one means nothing there, and the policy decides.
    ///
    /// Departure: D21. Kafka keeps the position while it is in range.
    fn place_in(
        &mut self,
        source: Option<Source>,
        policy: Option<ResetTo>,
        signal: &crate::sync::Arc<crate::time::Signal>,
    ) {
        let id = source.as_ref().map(|source| source.topic_id);
        if id.is_none() || id != self.topic_id {
            self.unwatch(signal);
            self.reader.seek(self.valid_position().unwrap_or(0));
            self.fetch = None;
        }
        if let (Some(new), Some(old)) = (id, self.topic_id)
            && new != old
            && let (Position::At(_), Some(to)) = (self.position, policy)
        {
            self.reset(to);
        }
        self.topic_id = id.or(self.topic_id);
        self.source = source;
    }

    /// Looks up where a reset goes, if one is asked for and there is such a place.
    fn resolve_reset(&mut self, isolation: IsolationLevel, wall_ms: i64) -> Result<()> {
        let (Position::AwaitReset(to), Some(source)) = (self.position, &self.source) else {
            return Ok(());
        };
        let log = &source.partition;
        let offset = match to {
            ResetTo::Beginning => Some(log.log_start_offset()?),
            ResetTo::End => Some(log.end_for(isolation)?),
            ResetTo::Since(age) => {
                let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                let since = wall_ms.saturating_sub(age_ms).max(0);
                log.offset_for_time(since, isolation)?.map(|(offset, _)| offset)
            }
        };
        if let Some(offset) = offset {
            self.seek(offset);
        }
        Ok(())
    }
}

impl Look<'_> {
    /// [`PartitionState::resolve_reset`], and again at the next append where there is no such
    /// place.
    fn resolve_reset(&mut self, isolation: IsolationLevel, wall_ms: i64) -> Result<()> {
        self.state.resolve_reset(isolation, wall_ms)?;
        while let (Position::AwaitReset(_), Some(source)) =
            (self.state.position, &self.state.source)
            && !self.state.watched
            && source.partition.tells()
        {
            let end = source.partition.readable_end(isolation)?;
            if !self.watch(end, isolation)? {
                // What was appended before the log was asked to tell.
                return self.state.resolve_reset(isolation, wall_ms);
            }
        }
        Ok(())
    }
}

/// A partition that is not there may come; other failures are told.
fn is_absent(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::UnknownTopicOrPartition | ErrorKind::InvalidTopic)
}

fn from_stored(stored: crate::group::CommittedOffset) -> OffsetAndMetadata {
    OffsetAndMetadata::stored(stored.offset, stored.leader_epoch, stored.metadata)
}
