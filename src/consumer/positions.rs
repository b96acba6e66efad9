//! Where reading starts: logs, committed offsets, reset policies.

use super::coordinator::Membership;
use super::env::ConsumerEnv;
use super::offsets::OffsetAndMetadata;
use super::silence;
use super::subscription::{Look, PartitionState, Position, ResetTo, Source, SubscriptionState};
use crate::config::IsolationLevel;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, AtomicBool, Ordering};
use crate::time::Signal;
use crate::topic::TopicPartition;
use std::collections::BTreeSet;

/// What became of the partitions without a position.
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// A committed offset is held by an open transaction.
    pub pending: bool,
    /// Why a reset found no place: the others are read before it is told.
    pub fault: Option<Error>,
}

/// Who finds logs and positions for assigned partitions.
#[derive(Debug, Default)]
pub(super) struct Positions {
    /// The versions of subscription and metadata that the logs were looked up under.
    sources_of: Option<(u64, u64)>,
    /// Some partition's end is to be looked at by the next poll.
    lag_asked: AtomicBool,
}

impl Positions {
    /// The version of the metadata that the logs were looked up under.
    pub fn metadata_version(&self) -> u64 {
        self.sources_of.map_or(0, |(_, version)| version)
    }

    /// Looks up the logs of assigned partitions where the metadata changed since.
    pub fn refresh_sources(
        &mut self,
        env: &ConsumerEnv,
        subscription: &mut SubscriptionState,
    ) -> Result<()> {
        let version = env.broker.metadata_version();
        if self.sources_of == Some((subscription.version(), version)) {
            return Ok(());
        }
        let create = env.settings.auto_create_topics;
        if create {
            for topic in subscription.topics() {
                // A name that cannot be is complained of elsewhere; what may not be made is
                // waited for.
                drop(env.broker.topic_or_create(topic));
            }
        }
        let policy = ResetTo::policy(env.settings.offset_reset);
        for (partition, state) in subscription.states_mut() {
            if state.seen_version == Some(version) {
                continue;
            }
            let topic = match create {
                true => env.broker.topic_or_create(partition.topic()),
                false => env.broker.topic(partition.topic()),
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
            state.place_in(source, policy, env.signal());
            state.seen_version = Some(version);
        }
        silence::tell_of_missing(env, subscription);
        // What was made meanwhile is looked at by the next turn, under its own version.
        self.sources_of = Some((subscription.version(), version));
        Ok(())
    }

    /// Gives a position to every partition that has none, where one is found.
    ///
    /// # Errors
    /// [`ErrorKind::NoOffsetForPartition`] that names all partitions without a commit, where the
    /// policy is to fail.
    pub fn fill(
        &self,
        env: &ConsumerEnv,
        subscription: &mut SubscriptionState,
        membership: &mut Membership,
    ) -> Result<Filled> {
        subscription.wake_ready();
        let pending = take_committed(env, subscription, membership)?;
        let policy = ResetTo::policy(env.settings.offset_reset);
        let mut without = BTreeSet::new();
        let mut begun = Vec::new();
        let is_default = !env.settings.offset_reset_is_set;
        let mut is_placed = true;
        subscription.look_at_awake(|look| {
            let state = &mut *look.state;
            if let Position::At(_) = state.position {
                return true;
            }
            is_placed = false;
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
        if is_placed {
            return Ok(Filled { pending, fault: None });
        }
        let isolation = env.isolation();
        let wall_ms = env.broker.clock().now().wall_ms;
        let mut fault = None;
        subscription.look_at_awake(|look| {
            if let Err(error) = look.resolve_reset(isolation, wall_ms) {
                let (topic, partition) = (look.partition.topic(), look.partition.partition());
                fault.get_or_insert(error.with_partition(topic, partition));
            }
            true
        });
        silence::tell_of_passed_over(env, subscription, &begun);
        Ok(Filled { pending, fault })
    }

    /// How many offsets lie between the position and the end as it was last seen; the next poll
    /// looks where it was not seen yet.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] when the partition is not assigned; the damage of a damaged one.
    pub fn lag(
        &self,
        subscription: &SubscriptionState,
        partition: &TopicPartition,
    ) -> Result<Option<i64>> {
        let state = subscription.assigned(partition)?;
        if let Some(damage) = state.source.as_ref().and_then(|found| found.partition.known_damage())
        {
            return Err(damage);
        }
        if state.known_end.is_none() {
            // Relaxed: this consumer's next poll looks, and nobody else.
            state.end_asked.store(true, Ordering::Relaxed);
            self.lag_asked.store(true, Ordering::Relaxed);
        }
        let lag = state.valid_position().zip(state.known_end);
        Ok(lag.map(|(position, end)| end.saturating_sub(position)))
    }

    /// Looks at the ends that a lag was asked for.
    pub fn learn_ends(
        &self,
        env: &ConsumerEnv,
        subscription: &mut SubscriptionState,
    ) -> Result<()> {
        // Relaxed: whoever asked has the consumer to itself, as this call has.
        if !self.lag_asked.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.lag_asked.store(false, Ordering::Relaxed);
        for (_, state) in subscription.states_mut() {
            if state.end_asked.load(Ordering::Relaxed)
                && let Some(source) = &state.source
            {
                let end = source.partition.readable_end(env.isolation())?;
                state.know_end(end);
            }
        }
        Ok(())
    }
}

/// Takes the committed offsets of newly assigned partitions: of all, or, while a transaction holds
/// an offset of one of them, of none, as Kafka's client asks for them together. Returns whether
/// they wait for such a transaction.
fn take_committed(
    env: &ConsumerEnv,
    subscription: &mut SubscriptionState,
    membership: &mut Membership,
) -> Result<bool> {
    let Some(group) = &env.group else { return Ok(false) };
    let mut new = Vec::new();
    subscription.look_at_awake(|look| {
        if look.state.is_unset() {
            new.push(look.partition.clone());
        }
        true
    });
    if new.is_empty() {
        return Ok(false);
    }
    let stored = env.broker.groups()?.committed(group, &new, true)?;
    membership.know_coordinator();
    let is_pending = |error: &Error| error.kind() == ErrorKind::UnstableOffsetCommit;
    let pending = stored.iter().any(|stored| stored.as_ref().is_err_and(is_pending));
    for (partition, stored) in new.iter().zip(stored) {
        let Some(state) = subscription.state_mut(partition) else { continue };
        state.awaits_commit = pending;
        match stored {
            Err(error) if !is_pending(&error) => return Err(error),
            Ok(Some(committed)) if !pending => state.seek(committed.offset),
            _ => {}
        }
    }
    Ok(pending)
}

/// What a reset does after the position was found out of range; the error where the policy is
/// to fail.
pub(super) fn out_of_range(
    env: &ConsumerEnv,
    subscription: &mut SubscriptionState,
    partition: &TopicPartition,
    error: Error,
) -> Result<()> {
    let isolation = env.isolation();
    let wall_ms = env.broker.clock().now().wall_ms;
    let Some(to) = ResetTo::policy(env.settings.offset_reset) else {
        let named = vec![(partition.topic().to_owned(), partition.partition())];
        return Err(error.with_partitions(named));
    };
    let Some(state) = subscription.state_mut(partition) else { return Ok(()) };
    state.reset(to);
    state.resolve_reset(isolation, wall_ms)?;
    silence::tell_of_reset(env, partition);
    Ok(())
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
    fn place_in(&mut self, source: Option<Source>, policy: Option<ResetTo>, signal: &Arc<Signal>) {
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
    pub(super) fn resolve_reset(&mut self, isolation: IsolationLevel, wall_ms: i64) -> Result<()> {
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
                log.offset_for_time(since, isolation)?.map(|found| found.offset)
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

pub(super) fn from_stored(stored: crate::group::CommittedOffset) -> OffsetAndMetadata {
    OffsetAndMetadata::stored(stored.offset, stored.leader_epoch, stored.metadata)
}
