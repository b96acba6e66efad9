//! What a topic accepts: sizes, keys, timestamps, codecs. Kafka's validation on the leader path.

use crate::config::{Compression, LogConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Codec, RecordInput, TimestampType};
use crate::topic::is_internal;

/// The settings that decide about appends.
#[derive(Debug, Clone, Copy)]
pub(in crate::log) struct AppendRules {
    max_message_bytes: usize,
    segment_bytes: usize,
    pub needs_key: bool,
    pub log_append_time: bool,
    pub before_max_ms: i64,
    after_max_ms: i64,
    pub flush_messages: i64,
    compression: Compression,
}

impl AppendRules {
    /// The rules of a topic of this name. What a coordinator stores in an internal one may be
    /// larger than a segment, and then has one to itself: that a group becomes large does not
    /// depend on how soon the offsets topic rolls.
    pub fn new(topic: &str, config: &LogConfig) -> AppendRules {
        let segment_bytes = match is_internal(topic) {
            true => usize::MAX,
            false => usize::try_from(config.segment_bytes).unwrap_or(usize::MAX),
        };
        AppendRules {
            max_message_bytes: config.max_message_bytes,
            segment_bytes,
            needs_key: config.cleanup_compact,
            log_append_time: config.timestamp_type == TimestampType::LogAppendTime,
            before_max_ms: config.timestamp_before_max_ms,
            after_max_ms: config.timestamp_after_max_ms,
            flush_messages: config.flush_messages,
            compression: config.compression,
        }
    }

    /// The codec that a batch of `codec` has to be encoded with anew, if it has to.
    #[inline]
    pub fn recompress(&self, codec: Codec) -> Option<(Codec, Option<i32>)> {
        match self.compression {
            Compression::Stored(stored, level) if stored != codec => Some((stored, level)),
            _ => None,
        }
    }

    /// Checks the size of a batch as it comes, before the topic's codec.
    #[inline]
    pub fn check_arrived(&self, size: usize) -> Result<()> {
        match size > self.max_message_bytes {
            true => Err(self.too_large(size)),
            false => Ok(()),
        }
    }

    /// Checks the size of a batch as it is stored.
    #[inline]
    pub fn check_size(&self, size: usize) -> Result<()> {
        if size > self.max_message_bytes || size > self.segment_bytes {
            return Err(self.too_large(size));
        }
        Ok(())
    }

    #[cold]
    fn too_large(&self, size: usize) -> Error {
        if size > self.max_message_bytes {
            let max = self.max_message_bytes;
            let message = format!("a batch of {size} bytes exceeds max.message.bytes={max}");
            return Error::new(ErrorKind::RecordTooLarge, message);
        }
        let message =
            format!("a batch of {size} bytes exceeds segment.bytes={}", self.segment_bytes);
        Error::new(ErrorKind::RecordBatchTooLarge, message)
    }

    /// Checks what every record has to fulfil.
    #[inline]
    pub fn check_record(&self, has_key: bool, timestamp: i64, now_ms: i64) -> Result<()> {
        let age = now_ms.saturating_sub(timestamp);
        let in_time = self.log_append_time
            || timestamp == -1
            || (timestamp >= 0 && age <= self.before_max_ms && age >= -self.after_max_ms);
        if in_time && (has_key || !self.needs_key) {
            return Ok(());
        }
        Err(self.record_refused(has_key, timestamp, now_ms))
    }

    #[cold]
    fn record_refused(&self, has_key: bool, timestamp: i64, now_ms: i64) -> Error {
        // As in Kafka: of one record, a missing key is told before a bad timestamp.
        if self.needs_key && !has_key {
            let message = "a compacted topic accepts no record without a key";
            return Error::new(ErrorKind::InvalidRecord, message);
        }
        if timestamp < 0 {
            let message = format!("timestamp {timestamp} is negative; -1 stands for none");
            return Error::new(ErrorKind::InvalidTimestamp, message);
        }
        let message = format!(
            "timestamp {timestamp} is too far from the broker's {now_ms}: \
             message.timestamp.before.max.ms={}, message.timestamp.after.max.ms={}",
            self.before_max_ms, self.after_max_ms
        );
        Error::new(ErrorKind::InvalidTimestamp, message)
    }

    /// [`AppendRules::check_records`] of records whose smallest and largest timestamps are known:
    /// where both are in time, so are those between.
    #[inline]
    pub fn check_measured(
        &self,
        records: &[RecordInput<'_>],
        (min, max): (i64, i64),
        now_ms: i64,
    ) -> Result<()> {
        let in_time = |timestamp| self.check_record(true, timestamp, now_ms).is_ok();
        match !self.needs_key && min >= 0 && in_time(min) && in_time(max) {
            true => Ok(()),
            false => self.check_records(records, now_ms),
        }
    }

    /// Checks records that are to become one batch. A bad timestamp of one wins over a missing key
    /// of another.
    pub fn check_records(&self, records: &[RecordInput<'_>], now_ms: i64) -> Result<()> {
        let mut first = None;
        for record in records {
            if let Err(error) = self.check_record(record.key.is_some(), record.timestamp, now_ms) {
                if error.kind() == ErrorKind::InvalidTimestamp {
                    return Err(error);
                }
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }
}
