//! What a partition knows of its producers.

use super::Admin;
use crate::error::Result;
use crate::log::producers::snapshot::SnapshotRow;

impl Admin {
    /// The producers with sequences that a partition knows, by id: those that sent within
    /// `producer.id.expiration.ms`, by the times of their records, and those with an open
    /// transaction. Source: Kafka's DescribeProducers.
    ///
    /// # Errors
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition);
    /// [`CorruptRecord`](crate::ErrorKind::CorruptRecord) where a batch that would tell cannot be
    /// read, and those of opening the partition.
    ///
    /// # Examples
    /// ```
    /// use topiclite::{Broker, ProducerConfig, ProducerRecord, TopicConfig};
    /// let broker = Broker::in_memory()?;
    /// broker.admin().create_topic("orders", 1, TopicConfig::default())?;
    /// assert!(broker.admin().describe_producers("orders", 0)?.is_empty());
    /// let config = ProducerConfig::default().with("enable.idempotence", "true")?;
    /// let producer = broker.producer(config)?;
    /// producer.send_sync(ProducerRecord::new("orders").value("an order"))?;
    /// let known = broker.admin().describe_producers("orders", 0)?;
    /// assert_eq!(known[0].last_sequence(), Some(0));
    /// assert_eq!(known[0].current_transaction_start_offset(), None);
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    pub fn describe_producers(&self, topic: &str, partition: i32) -> Result<Vec<ProducerState>> {
        let found = self.0.topic(topic)?.partition(partition)?;
        let now_ms = self.0.clock().now().wall_ms;
        let rows = found.producers(now_ms, self.0.config().producer_expiration_ms())?;
        Ok(rows.into_iter().map(ProducerState).collect())
    }
}

/// A producer as one partition knows it (Kafka's `ProducerState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerState(SnapshotRow);

impl ProducerState {
    /// The id that its batches carry.
    pub fn producer_id(&self) -> i64 {
        self.0.producer_id
    }

    /// The epoch of its last batch, or of the marker behind it.
    pub fn producer_epoch(&self) -> i16 {
        self.0.producer_epoch
    }

    /// The sequence of its last record; `None` where a marker was all that came under this epoch.
    pub fn last_sequence(&self) -> Option<i32> {
        Some(self.0.last_sequence).filter(|&sequence| sequence >= 0)
    }

    /// The largest timestamp of its last batch, or that of the marker behind it, in milliseconds
    /// since 1970.
    pub fn last_timestamp(&self) -> i64 {
        self.0.timestamp
    }

    /// The epoch of the coordinator that ended its last transaction here; `None` before.
    pub fn coordinator_epoch(&self) -> Option<i32> {
        Some(self.0.coordinator_epoch).filter(|&epoch| epoch >= 0)
    }

    /// Where its open transaction began in this partition.
    pub fn current_transaction_start_offset(&self) -> Option<i64> {
        Some(self.0.transaction_start).filter(|&offset| offset >= 0)
    }
}
