//! The steps of the background work: each is given the time, does what is due, and returns.

use crate::broker::coordinator::Scope;
use crate::broker::core::BrokerCore;
use crate::broker::health::HeldRetention;
use crate::broker::meta::state_file::PartitionKey;
use crate::broker::topics::Topic;
use crate::config::{BrokerConfig, LogConfig};
use crate::error::Error;
use crate::group::GroupCoordinator;
use crate::log::{Log, Retained, Trust};
use crate::sync::{Arc, Mutex, Ordering};
use crate::time::{Clock, Now, Signal, TimerDriver};
use crate::topic::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC, TopicPartition};
use std::collections::BTreeMap;
use std::time::Duration;

/// How far the slowest protected group of a partition has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProtectedOffset {
    pub group: String,
    /// None where it has committed nothing, or that cannot be known.
    pub committed_offset: Option<i64>,
}

impl ProtectedOffset {
    /// The first offset that has to stay.
    fn keeps_from(&self) -> i64 {
        self.committed_offset.unwrap_or(0)
    }
}

/// How often recovery points go into the state file: a record of it costs a sync.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);

/// When a task runs next that runs again and again.
#[derive(Debug)]
pub(in crate::broker) struct Schedule {
    interval: Duration,
    next: Mutex<Duration>,
    pub signal: Signal,
}

impl Schedule {
    /// When retention runs.
    pub fn of_retention(clock: &Clock, config: &BrokerConfig) -> Schedule {
        Schedule::new(clock, config.initial_task_delay(), config.retention_check_interval())
    }

    /// When producers are looked at that were not heard of for long.
    pub fn of_producers(clock: &Clock, config: &BrokerConfig) -> Schedule {
        let interval = config.producer_expiration_check_interval();
        Schedule::new(clock, interval, interval)
    }

    /// When committed offsets are looked at that nobody may need any more.
    pub fn of_offsets(clock: &Clock, config: &BrokerConfig) -> Schedule {
        let interval = config.offsets_retention_check_interval();
        Schedule::new(clock, interval, interval)
    }

    /// When transactional ids that this life did not use so far are read, so that they expire.
    pub fn of_transactional_ids(clock: &Clock, config: &BrokerConfig) -> Schedule {
        let interval = config.transactional_id_check_interval();
        Schedule::new(clock, interval, interval)
    }

    fn new(clock: &Clock, delay: Duration, interval: Duration) -> Schedule {
        Schedule {
            interval: interval.max(Duration::from_millis(1)),
            next: Mutex::new(clock.monotonic().saturating_add(delay)),
            signal: Signal::new(),
        }
    }

    /// When it is due.
    pub fn next(&self) -> Option<Duration> {
        Some(*self.next.lock())
    }

    /// Whether it is due at `now`; then the next time is an interval later.
    fn take(&self, now: Now) -> bool {
        let mut next = self.next.lock();
        let due = *next <= now.mono;
        if due {
            *next = now.mono.saturating_add(self.interval);
        }
        due
    }
}

/// Logs that were flushed and whose recovery points are not recorded yet.
#[derive(Debug, Default)]
pub(in crate::broker) struct Recorded(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    logs: Vec<Arc<Log>>,
    last: Option<Duration>,
}

impl Pending {
    fn due(&self) -> Option<Duration> {
        let due = self.last.map_or(Duration::ZERO, |last| last.saturating_add(RECORD_INTERVAL));
        (!self.logs.is_empty()).then_some(due)
    }
}

impl BrokerCore {
    /// Flushes what is due, and records how far, at most once a second.
    pub fn flush_step(&self, now: Now) {
        let flushed = self.queue.flush_step(now);
        let mut logs = {
            let mut pending = self.recorded.0.lock();
            pending.logs.extend(flushed);
            if pending.due().is_none_or(|due| due > now.mono) {
                return;
            }
            pending.last = Some(now.mono);
            std::mem::take(&mut pending.logs)
        };
        logs.sort_by_cached_key(|log| key_of(log));
        logs.dedup_by(|a, b| Arc::ptr_eq(a, b));
        self.record(&logs);
    }

    /// When there is something to flush or to record.
    pub(in crate::broker) fn next_flush(&self) -> Option<Duration> {
        earliest(self.queue.next_flush(), self.recorded.0.lock().due())
    }

    fn record(&self, logs: &[Arc<Log>]) {
        let Some(owner) = &self.owner else { return };
        let logs: Vec<&Log> = logs.iter().map(|log| &**log).collect();
        if let Err(error) = owner.life.record(&logs, &[]) {
            self.health.background(None, error);
        }
    }

    /// Applies retention to every partition, if it is time for it.
    pub fn retention_step(&self, now: Now) {
        if self.owner.is_none() || !self.retention.take(now) {
            return;
        }
        for topic in self.topics.all() {
            self.retain(&topic, now);
        }
        self.report_gauges();
    }

    /// Has every partition that is open forget its expired producers, if it is time for it.
    pub fn producers_step(&self, now: Now) {
        if self.owner.is_none() || !self.producer_expiry.take(now) {
            return;
        }
        for topic in self.topics.all() {
            for (_, partition) in topic.opened() {
                if let Ok(log) = partition.log() {
                    log.expire_producers(now.wall_ms);
                }
            }
        }
    }

    /// When retention, or the look at producers, is due.
    pub(in crate::broker) fn next_upkeep(&self) -> Option<Duration> {
        earliest(self.retention.next(), self.producer_expiry.next())
    }

    fn retain(&self, topic: &Topic, now: Now) {
        let config = topic.log_config(&self.config);
        for number in 0..topic.partition_count() {
            // A partition that was not used in this life is opened only if something would go.
            let used = topic.is_opened(number);
            if !used && !self.may_expire(topic, number, &config, now) {
                continue;
            }
            let log = match topic.partition(number).and_then(|p| p.log().cloned()) {
                Ok(log) => log,
                // Deleted meanwhile.
                Err(_) => return,
            };
            let place = TopicPartition::new(topic.name().clone(), number);
            let protected = match config.protected_groups.is_empty() {
                true => None,
                false => self.protected_offset(&place, &config.protected_groups),
            };
            let upto = protected.as_ref().map_or(i64::MAX, ProtectedOffset::keeps_from);
            let outcome = log.retain_below(upto, now);
            if let Ok(retained) = &outcome
                && (protected.is_some() || self.health.is_held(&place))
            {
                self.note_held(&place, protected, retained);
            }
            match outcome {
                Ok(retained) if retained.segments_deleted > 0 => tracing::info!(
                    topic = %topic.name(),
                    partition = number,
                    segments = retained.segments_deleted,
                    bytes = retained.bytes_deleted,
                    log_start_offset = retained.log_start_offset,
                    "segments deleted by retention"
                ),
                Ok(_) => {}
                Err(error) => self.partition_failed(&log, error),
            }
        }
    }

    /// Tells what a pass found held back in a partition.
    fn note_held(
        &self,
        place: &TopicPartition,
        protected: Option<ProtectedOffset>,
        retained: &Retained,
    ) {
        let bytes = i64::try_from(retained.bytes_held).unwrap_or(i64::MAX);
        let name = "topiclite_log_retention_held_bytes";
        crate::meter::gauge_of(name, place.topic_shared(), place.partition(), bytes);
        let held = protected.filter(|_| retained.segments_held > 0);
        self.health.hold(
            place,
            held.map(|by| HeldRetention {
                group: by.group,
                committed_offset: by.committed_offset,
                segments: retained.segments_held,
                bytes: retained.bytes_held,
            }),
        );
    }

    /// The protected group that is the furthest behind in a partition. One whose offset cannot be
    /// known counts as one that has committed nothing: what it may not have read stays.
    pub(in crate::broker) fn protected_offset(
        &self,
        place: &TopicPartition,
        groups: &[String],
    ) -> Option<ProtectedOffset> {
        let offset = |group: &String| ProtectedOffset {
            group: group.clone(),
            committed_offset: self.committed_offset(group, place),
        };
        groups.iter().map(offset).min_by_key(ProtectedOffset::keeps_from)
    }

    fn committed_offset(&self, group: &str, place: &TopicPartition) -> Option<i64> {
        self.topics.get(OFFSETS_TOPIC).ok()?;
        let wanted = std::slice::from_ref(place);
        let read =
            self.groups.read_of(group, |groups, _| Ok(groups.committed(group, wanted, false)));
        let found = read.and_then(|mut all| all.pop().unwrap_or(Ok(None)));
        found
            .unwrap_or_else(|error| {
                let why = format!("what {group:?} committed of {place} is not known: {error}");
                self.health.warn_once(why);
                None
            })
            .map(|committed| committed.offset)
    }

    /// Has committed offsets expire, if it is time for it.
    pub fn offsets_step(&self, now: Now) {
        let due = self.owner.is_some() && self.offsets_expiry.take(now);
        if !due || self.topics.get(OFFSETS_TOPIC).is_err() {
            return;
        }
        let retention = self.config.offsets_retention();
        let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let protected: BTreeMap<Arc<str>, Arc<LogConfig>> = self
            .topics
            .all()
            .iter()
            .map(|topic| (topic.name().clone(), topic.log_config(&self.config)))
            .filter(|(_, config)| !config.protected_groups.is_empty())
            .collect();
        let keeps = |group: &str, topic: &str| {
            let config = protected.get(topic);
            config.is_some_and(|config| config.protected_groups.iter().any(|name| name == group))
        };
        let expire =
            |groups: &mut GroupCoordinator, now| groups.expire_offsets(now, retention_ms, &keeps);
        let expired =
            self.groups.load_all().and_then(|()| self.groups.write_owed(Scope::All, expire));
        match expired {
            Ok(0) => {}
            Ok(offsets) => tracing::info!(offsets, "committed offsets expired"),
            Err(error) => self.health.background(None, error),
        }
    }

    /// When offsets are looked at next; `None` as long as none was ever committed.
    pub(in crate::broker) fn next_offsets_step(&self) -> Option<Duration> {
        let kept = self.owner.is_some() && self.topics.get(OFFSETS_TOPIC).is_ok();
        self.offsets_expiry.next().filter(|_| kept)
    }

    /// Reads what a clean stop left of transactional ids and nobody asked for, if it is time for
    /// it: those that are not used any more expire with the others.
    pub fn transactional_ids_step(&self, now: Now) {
        if self.next_transactional_ids_step().is_none() || !self.transactional_ids.take(now) {
            return;
        }
        match self.transactions.load_all() {
            Ok(()) => self.transactional_ids_read.store(true, Ordering::Release),
            Err(error) => self.health.background(None, error),
        }
    }

    /// When that is; `None` before the life begins, and once all are read.
    pub(in crate::broker) fn next_transactional_ids_step(&self) -> Option<Duration> {
        let has_begun = self.owner.as_ref().is_some_and(|owner| owner.life.incarnation().is_some());
        let wanted = has_begun
            && !self.transactional_ids_read.load(Ordering::Acquire)
            && self.topics.get(TRANSACTIONS_TOPIC).is_ok();
        self.transactional_ids.next().filter(|_| wanted)
    }

    /// Whether what is recorded of an unused partition has something that retention would remove.
    fn may_expire(&self, topic: &Topic, partition: i32, config: &LogConfig, now: Now) -> bool {
        let Some(owner) = &self.owner else { return false };
        let (state, trust) = owner.life.state_of((topic.id(), partition));
        if trust == Trust::New {
            return false;
        }
        if trust != Trust::Clean {
            return true;
        }
        let sizes = || state.segments.iter().map(|segment| segment.extent.size_bytes);
        let Some(oldest) = state.segments.first().filter(|_| config.cleanup_delete) else {
            return false;
        };
        let age = now.wall_ms.saturating_sub(oldest.extent.max_timestamp);
        let old = config.retention_ms >= 0 && age > config.retention_ms;
        let limit = u64::try_from(config.retention_bytes).unwrap_or(u64::MAX);
        old || sizes().sum::<u64>() > limit
    }

    /// Reports an error of a partition that nobody waits for.
    pub(in crate::broker) fn partition_failed(&self, log: &Log, error: Error) {
        let id = log.identity();
        self.health.background(Some((id.topic.clone(), id.partition).into()), error);
    }

    /// Everything that is due at `now`, on this thread.
    pub fn background_step(&self, now: Now) {
        self.lock_step(now);
        self.queue.soon_step();
        if let Some(attached) = &self.attached {
            attached.watches.step();
        }
        self.timers.step(now);
        self.flush_step(now);
        self.retention_step(now);
        self.cleaner_step(now);
        self.producers_step(now);
        self.offsets_step(now);
        self.transactional_ids_step(now);
    }
}

impl TimerDriver for BrokerCore {
    fn next_deadline(&self) -> Option<Duration> {
        if self.closed.load(Ordering::Acquire) {
            return None;
        }
        let work = earliest(self.queue.next_deadline(), self.recorded.0.lock().due());
        let retaining = self.owner.is_some() && self.topics.len() > 0;
        let retention = self.next_upkeep().filter(|_| retaining);
        let now = self.clock.monotonic();
        let look = self.attached.as_ref().and_then(|attached| attached.watches.next_look(now));
        let expiry = earliest(self.next_offsets_step(), self.next_transactional_ids_step());
        let upkeep = earliest(retention, earliest(self.next_cleaning(), expiry));
        earliest(earliest(work, self.timers.next_deadline()), earliest(upkeep, look))
    }

    fn run_due(&self, now: Now) {
        self.background_step(now);
    }
}

pub(in crate::broker) fn earliest(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// The key of a log in the state file.
pub(in crate::broker) fn key_of(log: &Log) -> PartitionKey {
    let id = log.identity();
    (id.topic_id, id.partition)
}
