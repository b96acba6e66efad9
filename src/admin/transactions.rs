//! What of transactions can be read from a partition.

use super::Admin;
use crate::error::Result;
use crate::log::AbortedTransaction;

impl Admin {
    /// The aborted transactions of a partition, in the order of their markers.
    ///
    /// # Errors
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition), and what reading
    /// the log gives.
    pub fn aborted_transactions(&self, topic: &str, partition: i32) -> Result<Vec<AbortedRange>> {
        let found = self.0.topic(topic)?.partition(partition)?;
        let aborted = found.aborted_transactions(0, i64::MAX)?;
        Ok(aborted.into_iter().map(AbortedRange).collect())
    }
}

/// A transaction that ended in an abort, as a row of Kafka's transaction index tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedRange(AbortedTransaction);

impl AbortedRange {
    /// Whose transaction it was.
    pub fn producer_id(&self) -> i64 {
        self.0.producer_id
    }

    /// Where it began in this partition.
    pub fn first_offset(&self) -> i64 {
        self.0.first_offset
    }

    /// The offset of its marker.
    pub fn last_offset(&self) -> i64 {
        self.0.last_offset
    }

    /// The last stable offset once the marker was written.
    pub fn last_stable_offset(&self) -> i64 {
        self.0.last_stable_offset
    }
}
