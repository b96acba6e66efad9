//! How large a partition is.

use super::Admin;
use crate::error::{Error, Result};
use crate::topic::TopicPartition;
use std::io;

impl Admin {
    /// How large a partition is: its batches, and its files. Looks at the partition's folder, which
    /// opens it where it was not used before; an attached directory is looked at as it is by then.
    ///
    /// # Errors
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition),
    /// [`InvalidTopic`](crate::ErrorKind::InvalidTopic); [`Io`](crate::ErrorKind::Io).
    ///
    /// # Examples
    /// ```
    /// use topiclite::{Broker, ProducerConfig, ProducerRecord, TopicConfig};
    /// let broker = Broker::in_memory()?;
    /// broker.admin().create_topic("orders", 1, TopicConfig::default())?;
    /// assert_eq!(broker.admin().partition_size("orders", 0)?.disk_bytes(), 0);
    /// let producer = broker.producer(ProducerConfig::default())?;
    /// producer.send_sync(ProducerRecord::new("orders").value("one tea"))?;
    /// let size = broker.admin().partition_size("orders", 0)?;
    /// assert_eq!(size.batch_bytes(), 61 + 14);
    /// assert!(size.disk_bytes() > size.batch_bytes(), "segments are made ahead");
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    pub fn partition_size(&self, topic: &str, partition: i32) -> Result<PartitionSize> {
        let found = self.0.topic(topic)?.partition(partition)?;
        let place = TopicPartition::new(topic, partition);
        let at = |error: Error| error.with_partition(topic, partition);
        let batch_bytes = found.size_bytes().map_err(at)?;
        let folder = self.0.dir.join(place.to_string());
        let disk_bytes = match self.0.storage().list(&folder) {
            Ok(entries) => entries.iter().map(|entry| entry.allocated).sum(),
            // It comes with the first record.
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(at(Error::io(error, "cannot list the folder", &folder))),
        };
        Ok(PartitionSize { batch_bytes, disk_bytes })
    }
}

/// The answer to [`Admin::partition_size`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionSize {
    batch_bytes: u64,
    disk_bytes: u64,
}

impl PartitionSize {
    /// Bytes of the batches in its segments, those below the log start offset that retention has
    /// not removed yet included; of a damaged partition those before the damage.
    pub fn batch_bytes(&self) -> u64 {
        self.batch_bytes
    }

    /// Bytes that the disk holds for all files of its folder: also what is made ahead of the
    /// writer, indexes, and files that wait for their removal. In memory, the sizes of the files.
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }
}
