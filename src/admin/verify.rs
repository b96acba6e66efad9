//! What administrators ask about files: damage, and what would be done about it.

use super::Admin;
use crate::error::Result;
use crate::log::{Finding, PlannedRepair};
use std::collections::HashSet;

impl Admin {
    /// Reads everything of a partition, checks every CRC, and says what is not as it should be.
    /// Only for [`Broker::attach`](crate::Broker::attach); an owner may run beside it. Nothing is
    /// written.
    ///
    /// # Errors
    /// [`IllegalState`](crate::ErrorKind::IllegalState) in a broker that owns its directory;
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition);
    /// [`ReadOnly`](crate::ErrorKind::ReadOnly) when the partition's folder is missing. A file that
    /// cannot be read is a finding.
    pub fn verify_partition(&self, topic: &str, partition: i32) -> Result<Vec<Finding>> {
        let look = || self.0.verify(topic, partition, |files| files.findings());
        let mut findings = look()?;
        if !findings.iter().all(Finding::is_note) {
            // An owner may have been in the middle of a batch, or have put a cleaned segment in
            // the place of others. Damage is there at a second look, at what is recorded by then.
            let again: HashSet<Finding> = look()?.into_iter().collect();
            findings.retain(|found| found.is_note() || again.contains(found));
        }
        Ok(findings)
    }

    /// What [`Admin::repair_partition`] would do to a partition's files, also to those of a damaged
    /// one. Only for [`Broker::attach`](crate::Broker::attach); nothing is written.
    ///
    /// # Errors
    /// As [`Admin::verify_partition`], [`Io`](crate::ErrorKind::Io), and
    /// [`UnsupportedFormat`](crate::ErrorKind::UnsupportedFormat) where the partition is read-only
    /// because of that.
    pub fn planned_repairs(&self, topic: &str, partition: i32) -> Result<Vec<PlannedRepair>> {
        self.0.planned_repairs(topic, partition)
    }

    /// Makes a partition's files what opening found them to be, as the next append would: tails are
    /// cut, half-done work of Kafka is finished, indexes are written anew. A damaged partition ends
    /// before its damage where the directory was opened with
    /// [`BrokerOptions::cut_damage`](crate::BrokerOptions::cut_damage). Bytes of another program,
    /// and those behind damage, are copied to `FILE.cut` before they are cut off. Returns what was
    /// done; nothing for a partition that is as it should be. Where a partition of
    /// `__consumer_offsets` is repaired, groups are what is left there: members join again.
    ///
    /// # Durability
    /// Survives power loss once the broker is closed or flushed; a crash before leaves files of
    /// which the same call makes the same.
    ///
    /// # Errors
    /// [`ReadOnly`](crate::ErrorKind::ReadOnly) in an attached directory, and for a partition that
    /// stays read-only; [`CorruptRecord`](crate::ErrorKind::CorruptRecord) when the partition's
    /// folder is missing; [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition);
    /// [`Io`](crate::ErrorKind::Io), [`StorageFull`](crate::ErrorKind::StorageFull).
    ///
    /// # Examples
    /// ```
    /// let broker = topiclite::Broker::in_memory()?;
    /// broker.admin().create_topic("orders", 1, Default::default())?;
    /// assert!(broker.admin().repair_partition("orders", 0)?.is_empty());
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    pub fn repair_partition(&self, topic: &str, partition: i32) -> Result<Vec<PlannedRepair>> {
        self.0.repair_partition(topic, partition)
    }
}
