//! What went wrong since a broker was opened. The first error is kept for `close`; warnings are
//! kept up to a bound and counted beyond it.

use crate::error::{Error, ErrorKind, LockLost};
use crate::storage::NotBegun;
use crate::sync::{AtomicU64, Mutex, Ordering, Rank, ranked_mutex};
use crate::topic::TopicPartition;
use std::collections::BTreeMap;

/// Texts kept; what comes later is only counted.
const WARNINGS_MAX: usize = 1000;

/// The state of a broker, from [`Broker::health`](crate::Broker::health).
///
/// # Examples
/// ```
/// let broker = topiclite::Broker::in_memory()?;
/// assert!(broker.health().is_ok());
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Health {
    first_error: Option<Error>,
    partitions: BTreeMap<TopicPartition, Error>,
    warnings: Vec<String>,
    warning_count: u64,
    counters: Vec<(&'static str, u64)>,
    held: BTreeMap<TopicPartition, HeldRetention>,
}

/// What retention would have removed from a partition, had a protected group read it
/// (`retention.protected.groups`), as of the last pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRetention {
    pub(super) group: String,
    pub(super) committed_offset: Option<i64>,
    pub(super) segments: usize,
    pub(super) bytes: u64,
}

impl HeldRetention {
    /// The protected group that is the furthest behind.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// What it has committed of the partition; None where that is nothing, or is not known.
    pub fn committed_offset(&self) -> Option<i64> {
        self.committed_offset
    }

    /// How many segments are kept for it.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// How many bytes of batches they have.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Health {
    /// No background task failed and no partition is read-only.
    pub fn is_ok(&self) -> bool {
        self.first_error.is_none() && self.partitions.is_empty()
    }

    /// The first error of a background task, or of work that no caller waited for.
    pub fn first_error(&self) -> Option<&Error> {
        self.first_error.as_ref()
    }

    /// The partitions that cannot be written, or not read whole, and why.
    pub fn failed_partitions(&self) -> impl Iterator<Item = (&TopicPartition, &Error)> {
        self.partitions.iter()
    }

    /// Partitions whose retention is held back by a protected group, as of its last pass. They are
    /// well, and take more room than their settings of age and size say.
    pub fn held_retention(&self) -> impl Iterator<Item = (&TopicPartition, &HeldRetention)> {
        self.held.iter()
    }

    /// What was found or repaired and deserves a look: the first thousand.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.warnings.iter().map(String::as_str)
    }

    /// How many warnings there were in all.
    pub fn warning_count(&self) -> u64 {
        self.warning_count
    }

    /// Running totals since the broker was opened, by name.
    pub fn counters(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counters.iter().map(|(name, total)| (*name, *total))
    }

    /// One running total by name; 0 for a name that is not counted.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.iter().find(|(known, _)| *known == name).map_or(0, |(_, total)| *total)
    }
}

/// Totals that belong to no log.
#[derive(Debug, Default)]
pub(super) struct BrokerCounters {
    /// Committed offsets that lay beyond the end of their log after an unclean stop.
    pub clamped_offsets: AtomicU64,
    /// Bytes of batches of internal topics that coordinators read to learn their state.
    pub coordinator_bytes_loaded: AtomicU64,
}

impl BrokerCounters {
    /// Every total by name.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("clamped_offsets", self.clamped_offsets.load(Ordering::Relaxed)),
            ("coordinator_bytes_loaded", self.coordinator_bytes_loaded.load(Ordering::Relaxed)),
        ]
    }
}

/// Where everything inside a broker reports to.
#[derive(Debug)]
pub(crate) struct HealthLog(Mutex<Health>);

impl Default for HealthLog {
    fn default() -> HealthLog {
        HealthLog(ranked_mutex(Rank::Health, Health::default()))
    }
}

impl HealthLog {
    /// Keeps the first error that nobody waited for. What a lost lock made fail is none: the
    /// broker stops for that, and says so itself at its next look at the lock, or in its close.
    pub fn error(&self, error: Error) {
        tracing::error!(%error, "background work failed");
        if LockLost::caused(&error) {
            return;
        }
        self.0.lock().first_error.get_or_insert(error);
    }

    /// Keeps why the broker stopped, in front of what that made fail.
    pub fn stopped(&self, error: Error) {
        tracing::error!(%error, "the broker stopped");
        self.0.lock().first_error = Some(error);
    }

    /// Keeps an error of background work, of a partition's where one is named. On a full disk,
    /// and where there is no descriptor left, that is only a warning: such work is ahead of its
    /// time or comes again, and callers that need room are told themselves.
    pub fn background(&self, partition: Option<TopicPartition>, error: Error) {
        if error.kind() == ErrorKind::StorageFull {
            return self.warn_once(format!("background work waits for room: {error}"));
        }
        if NotBegun::caused(&error) {
            return self.warn_once(format!("background work waits for a descriptor: {error}"));
        }
        if let Some(partition) = partition.filter(|_| !LockLost::caused(&error)) {
            self.partition(partition, error.clone());
        }
        self.error(error);
    }

    /// Keeps what is wrong with a partition; the first report stands.
    pub fn partition(&self, partition: TopicPartition, error: Error) {
        let mut health = self.0.lock();
        health.partitions.entry(partition).or_insert_with_key(|partition| {
            tracing::error!(%partition, %error, "partition failed");
            error
        });
    }

    /// Forgets a partition that is gone.
    pub fn forget(&self, topic: &str) {
        let mut health = self.0.lock();
        health.partitions.retain(|partition, _| partition.topic() != topic);
        health.held.retain(|partition, _| partition.topic() != topic);
    }

    /// Whether retention was held back in a partition at its last pass.
    pub fn is_held(&self, partition: &TopicPartition) -> bool {
        self.0.lock().held.contains_key(partition)
    }

    /// Takes note of what retention found held back, `None` being nothing.
    pub fn hold(&self, partition: &TopicPartition, held: Option<HeldRetention>) {
        let Some(held) = held else {
            return drop(self.0.lock().held.remove(partition));
        };
        let known = match held.committed_offset {
            Some(_) => "has not read it",
            None => "has committed nothing of it",
        };
        let text = format!(
            "{partition}: retention keeps records for the protected group {:?}, which {known}",
            held.group
        );
        self.0.lock().held.insert(partition.clone(), held);
        self.warn_once(text);
    }

    /// Keeps a warning.
    pub fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        tracing::warn!("{text}");
        let mut health = self.0.lock();
        health.warning_count += 1;
        if health.warnings.len() < WARNINGS_MAX {
            health.warnings.push(text);
        }
    }

    /// Keeps a warning unless the same one is kept already.
    pub fn warn_once(&self, text: String) {
        let mut health = self.0.lock();
        if health.warnings.len() >= WARNINGS_MAX || health.warnings.contains(&text) {
            return;
        }
        health.warning_count += 1;
        health.warnings.push(text.clone());
        drop(health);
        tracing::warn!("{text}");
    }

    /// The first error that nobody waited for.
    pub fn first_error(&self) -> Option<Error> {
        self.0.lock().first_error.clone()
    }

    /// The report, with totals that are kept elsewhere.
    pub fn report(&self, counters: Vec<(&'static str, u64)>) -> Health {
        Health { counters, ..self.0.lock().clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_kept_and_warnings_are_bounded() {
        let log = HealthLog::default();
        assert!(log.report(Vec::new()).is_ok());
        log.error(Error::new(ErrorKind::Io, "first"));
        log.error(Error::new(ErrorKind::StorageFull, "second"));
        for n in 0..WARNINGS_MAX + 5 {
            log.warn(format!("warning {n}"));
        }
        let health = log.report(vec![("syncs", 3)]);
        assert!(!health.is_ok());
        assert_eq!(health.first_error().map(Error::kind), Some(ErrorKind::Io));
        assert_eq!(health.warnings().count(), WARNINGS_MAX);
        assert_eq!(health.warning_count(), WARNINGS_MAX as u64 + 5);
        assert_eq!((health.counter("syncs"), health.counter("rolls")), (3, 0));
    }

    #[test]
    fn what_a_lost_lock_made_fail_does_not_stand_for_the_stop() {
        let path = std::path::Path::new("/d/.lock");
        let lost = || Error::io(LockLost::refuse(), "cannot write", path);
        let log = HealthLog::default();
        log.background(Some(TopicPartition::new("t", 0)), lost());
        log.error(Error::new(ErrorKind::StorageFailed, "wrapped").with_source(lost()));
        assert!(log.report(Vec::new()).is_ok());
        log.stopped(lost());
        log.error(Error::new(ErrorKind::Io, "later"));
        assert_eq!(log.first_error().map(|error| error.kind()), Some(ErrorKind::Locked));
    }

    #[test]
    fn a_partition_is_named_once_with_its_first_error() {
        let log = HealthLog::default();
        let partition = TopicPartition::new("t", 1);
        log.partition(partition.clone(), Error::new(ErrorKind::StorageFailed, "sync"));
        log.partition(partition.clone(), Error::new(ErrorKind::Io, "later"));
        let health = log.report(Vec::new());
        let failed: Vec<_> = health.failed_partitions().map(|(p, e)| (p, e.kind())).collect();
        assert_eq!(failed, [(&partition, ErrorKind::StorageFailed)]);
        log.forget("t");
        assert!(log.report(Vec::new()).is_ok());
    }
}
