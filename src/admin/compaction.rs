//! Cleaning on request, and how far partitions were cleaned.

use super::Admin;
use crate::error::Result;
use crate::log::{CleanedLog, CleaningScope};

impl Admin {
    /// Cleans the partitions of a compacted topic, whatever their dirty ratios: of each key the
    /// latest record stays. The active segments, records younger than `min.compaction.lag.ms` and
    /// what lies behind an open transaction are left. One outcome a partition.
    ///
    /// Without this, the broker cleans a log when more than `min.cleanable.dirty.ratio` of it is
    /// dirty (KIP-58, Kafka's `LogCleaner`).
    ///
    /// # Durability
    /// Survives power loss.
    ///
    /// # Errors
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition),
    /// [`InvalidTopic`](crate::ErrorKind::InvalidTopic);
    /// [`PolicyViolation`](crate::ErrorKind::PolicyViolation) when the topic's `cleanup.policy`
    /// does not compact; once the other partitions are cleaned,
    /// [`CorruptRecord`](crate::ErrorKind::CorruptRecord) for a damaged one, which is not, or
    /// [`StorageFull`](crate::ErrorKind::StorageFull),
    /// [`Io`](crate::ErrorKind::Io); [`ReadOnly`](crate::ErrorKind::ReadOnly) in an attached
    /// directory.
    ///
    /// # Examples
    /// ```
    /// use topiclite::{Broker, ProducerConfig, ProducerRecord, TopicConfig};
    /// let broker = Broker::in_memory()?;
    /// let compacted = TopicConfig::default().cleanup_policy(&["compact"]);
    /// broker.admin().create_topic("prices", 1, compacted)?;
    /// let producer = broker.producer(ProducerConfig::default())?;
    /// for price in ["1.20", "1.25", "1.30"] {
    ///     producer.send_sync(ProducerRecord::new("prices").key("tea").value(price))?;
    /// }
    /// let done = broker.admin().compact_now("prices")?;
    /// assert_eq!(done[0].records_removed(), 2);
    /// assert!(done[0].bytes_after() < done[0].bytes_before());
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    pub fn compact(&self, topic: &str) -> Result<Vec<Compaction>> {
        self.compacted(topic, CleaningScope::Settings)
    }

    /// As [`Admin::compact`], and active segments are closed before, so that their records are
    /// cleaned, too; `min.compaction.lag.ms` is not asked for.
    ///
    /// # Durability
    /// Survives power loss.
    ///
    /// # Errors
    /// As [`Admin::compact`].
    pub fn compact_now(&self, topic: &str) -> Result<Vec<Compaction>> {
        self.compacted(topic, CleaningScope::AllClosed)
    }

    fn compacted(&self, topic: &str, scope: CleaningScope) -> Result<Vec<Compaction>> {
        let outcomes = self.0.compact(topic, scope)?;
        let shown = |(partition, cleaned)| Compaction { partition, cleaned };
        Ok(outcomes.into_iter().map(shown).collect())
    }

    /// How far a partition was cleaned, and how much of it is dirty; also of a topic that is not
    /// compacted, of which all is. Opens the partition where it was not used before.
    ///
    /// # Errors
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition),
    /// [`InvalidTopic`](crate::ErrorKind::InvalidTopic); those of opening the partition.
    pub fn cleaning_status(&self, topic: &str, partition: i32) -> Result<CleaningStatus> {
        let topic = self.0.topic(topic)?;
        let status = self.0.cleaning_status(&topic, partition)?;
        Ok(CleaningStatus {
            first_dirty_offset: status.to_clean.first_dirty_offset,
            first_uncleanable_offset: status.to_clean.first_uncleanable_offset,
            cleanable_bytes: status.to_clean.cleanable_bytes,
            dirty_ratio: status.to_clean.cleanable_ratio(),
            segments: status.segments,
            last_cleaned_ms: status.last_cleaned_ms,
        })
    }
}

/// What [`Admin::compact`] did to one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compaction {
    partition: i32,
    cleaned: Option<CleanedLog>,
}

impl Compaction {
    /// The partition's number.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The offset up to which it was cleaned; None where there was nothing to clean.
    pub fn end_offset(&self) -> Option<i64> {
        self.cleaned.map(|cleaned| cleaned.end_offset)
    }

    /// Bytes of the segments that were written anew, as they were.
    pub fn bytes_before(&self) -> u64 {
        self.cleaned.map_or(0, |cleaned| cleaned.bytes_before)
    }

    /// Bytes of what they became.
    pub fn bytes_after(&self) -> u64 {
        self.cleaned.map_or(0, |cleaned| cleaned.bytes_after)
    }

    /// Records that went.
    pub fn records_removed(&self) -> u64 {
        self.cleaned.map_or(0, |cleaned| {
            cleaned.stats.records_read.saturating_sub(cleaned.stats.records_written)
        })
    }
}

/// The answer to [`Admin::cleaning_status`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CleaningStatus {
    first_dirty_offset: i64,
    first_uncleanable_offset: i64,
    cleanable_bytes: u64,
    dirty_ratio: f64,
    segments: usize,
    last_cleaned_ms: Option<i64>,
}

impl CleaningStatus {
    /// Below it each key was looked at by a cleaning.
    pub fn first_dirty_offset(&self) -> i64 {
        self.first_dirty_offset
    }

    /// Where the next cleaning would end: the active segment, that of an open transaction, or one
    /// with a record that is too young.
    pub fn first_uncleanable_offset(&self) -> i64 {
        self.first_uncleanable_offset
    }

    /// Bytes that the next cleaning would look at for the first time.
    pub fn cleanable_bytes(&self) -> u64 {
        self.cleanable_bytes
    }

    /// How much of what may be cleaned these are, from 0 to 1: above the topic's
    /// `min.cleanable.dirty.ratio` it is cleaned.
    pub fn dirty_ratio(&self) -> f64 {
        self.dirty_ratio
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// When it was cleaned last, in milliseconds since 1970; None where it never was, or that is
    /// not known.
    pub fn last_cleaned_ms(&self) -> Option<i64> {
        self.last_cleaned_ms
    }
}
