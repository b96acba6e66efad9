//! Where a record was stored: what a send gives back.

use crate::record::RecordInput;

/// Where a record was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordMetadata {
    offset: i64,
    timestamp: i64,
    partition: i32,
    key_size: i32,
    value_size: i32,
}

impl RecordMetadata {
    #[inline]
    pub(in crate::producer) fn new(
        partition: i32,
        offset: i64,
        timestamp: i64,
        record: &RecordInput<'_>,
    ) -> RecordMetadata {
        let size = |field: Option<&[u8]>| match field {
            None => -1,
            Some(bytes) => i32::try_from(bytes.len()).unwrap_or(i32::MAX),
        };
        RecordMetadata {
            offset,
            timestamp,
            partition,
            key_size: size(record.key),
            value_size: size(record.value),
        }
    }

    /// The offset; -1 under `acks=0`.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The partition.
    #[inline]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The timestamp that was stored: the record's own, or the log's with `LogAppendTime`.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The size of the key in bytes, -1 for null.
    #[inline]
    pub fn serialized_key_size(&self) -> i32 {
        self.key_size
    }

    /// The size of the value in bytes, -1 for null.
    #[inline]
    pub fn serialized_value_size(&self) -> i32 {
        self.value_size
    }
}
