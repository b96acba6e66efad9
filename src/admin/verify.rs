//! What administrators ask about files: damage, and what would be done about it.

use super::Admin;
use crate::error::Result;
use crate::log::{Finding, PlannedRepair};

impl Admin {
    /// Reads everything of a partition, checks every CRC, and says what is not as it should be.
    /// Only for [`Broker::attach`](crate::Broker::attach); an owner may run beside it. Nothing is
    /// written.
    ///
    /// # Errors
    /// [`IllegalState`](crate::ErrorKind::IllegalState) in a broker that owns its directory;
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition);
    /// [`CorruptRecord`](crate::ErrorKind::CorruptRecord) when the partition's folder is missing;
    /// [`Io`](crate::ErrorKind::Io).
    pub fn verify_partition(&self, topic: &str, partition: i32) -> Result<Vec<Finding>> {
        self.0.verify(topic, partition, |files| files.findings())
    }

    /// What the next append to a partition would do to its files before it writes. Only for
    /// [`Broker::attach`](crate::Broker::attach); nothing is written.
    ///
    /// # Errors
    /// As [`Admin::verify_partition`], and the reason why a damaged partition is read-only.
    pub fn planned_repairs(&self, topic: &str, partition: i32) -> Result<Vec<PlannedRepair>> {
        self.0.verify(topic, partition, |files| files.repairs())
    }
}
