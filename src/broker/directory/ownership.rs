//! What becomes of an owner whose lock file was taken away: another process may own the directory
//! as well, so it stops appending, says so in its health, and changes no file any more.
//!
//! The storage of an owner asks the lock before every change of a file. Appends are stores into
//! memory and ask nobody, so the lock is looked at once in a flush interval.

use crate::broker::core::{BrokerCore, Owner};
use crate::broker::directory::open::LOCK_FILE;
use crate::config::{BrokerConfig, TopicConfig};
use crate::error::Error;
use crate::storage::owned::DirectoryLock;
use crate::sync::{Arc, Mutex, OnceLock, Ordering};
use crate::time::Now;
use std::time::Duration;

/// The least often that the lock is looked at, where records are flushed seldom or never.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// The most often: a look is a system call.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// The lock of an owner, and when it is looked at.
#[derive(Debug)]
pub(in crate::broker) struct Ownership {
    pub lock: Arc<DirectoryLock>,
    interval: Duration,
    next: Mutex<Duration>,
    lost: OnceLock<Error>,
}

impl Ownership {
    pub fn new(lock: Arc<DirectoryLock>, config: &BrokerConfig) -> Ownership {
        let flush_ms = TopicConfig::default().log_config(config).flush_ms;
        let interval = Duration::from_millis(u64::try_from(flush_ms).unwrap_or(u64::MAX));
        let interval = interval.clamp(LOOK_INTERVAL_MIN, LOOK_INTERVAL_MAX);
        Ownership { lock, interval, next: Mutex::new(Duration::ZERO), lost: OnceLock::new() }
    }

    /// Whether it is time to look at `now`; then the next time is an interval later.
    fn take(&self, now: Now) -> bool {
        let mut next = self.next.lock();
        let due = *next <= now.mono;
        if due {
            *next = now.mono.saturating_add(self.interval);
        }
        due
    }
}

impl BrokerCore {
    /// Looks at the lock and at the disk, if it is time for it.
    pub(in crate::broker) fn lock_step(&self, now: Now) {
        let Some(owner) = &self.owner else { return };
        if owner.ownership.take(now) && !self.closed.load(Ordering::Acquire) {
            self.check_lock(owner);
            if owner.ownership.lost.get().is_none() {
                self.check_disk(owner);
            }
        }
    }

    /// When the next look is due; `None` where the lock cannot be lost.
    pub(in crate::broker) fn next_lock_look(&self) -> Option<Duration> {
        let ownership = &self.owner.as_ref()?.ownership;
        ownership.lock.can_be_lost().then(|| *ownership.next.lock())
    }

    /// Looks at the lock, and gives up all logs once it is lost.
    pub(in crate::broker) fn check_lock(&self, owner: &Owner) {
        let lost = &owner.ownership.lost;
        if lost.get().is_none() {
            let Err(error) = owner.ownership.lock.check() else { return };
            let error = Error::io(error, "this broker stopped", &self.dir.join(LOCK_FILE));
            self.health.stopped(lost.get_or_init(|| error).clone());
        }
        let Some(error) = lost.get() else { return };
        // Again at every look: a log may have been on its way to its first append at the last one.
        for topic in self.topics.all() {
            for (_, partition) in topic.opened() {
                if let Ok(log) = partition.log() {
                    log.give_up(error);
                }
            }
        }
    }
}
