//! What a topic accepts: sizes, keys, timestamps, codecs. Kafka's validation on the leader path.

use super::append::{AppendOptions, Origin};
use crate::config::{Compression, LogConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{BatchFault, BatchHeader, Codec, RecordBatch, RecordInput, TimestampType};

/// What the settings say about appends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    max_message_bytes: usize,
    segment_bytes: usize,
    needs_key: bool,
    pub log_append_time: bool,
    before_max_ms: i64,
    after_max_ms: i64,
    pub flush_messages: i64,
    compression: Compression,
}

impl Rules {
    pub fn new(config: &LogConfig) -> Rules {
        Rules {
            max_message_bytes: config.max_message_bytes,
            segment_bytes: usize::try_from(config.segment_bytes).unwrap_or(usize::MAX),
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
        let in_time = self.log_append_time
            || timestamp == -1
            || (timestamp >= 0
                && now_ms.saturating_sub(timestamp) <= self.before_max_ms
                && timestamp.saturating_sub(now_ms) <= self.after_max_ms);
        if in_time && (has_key || !self.needs_key) {
            return Ok(());
        }
        Err(self.record_refused(in_time, timestamp, now_ms))
    }

    #[cold]
    fn record_refused(&self, in_time: bool, timestamp: i64, now_ms: i64) -> Error {
        // A bad timestamp wins over a missing key, as in Kafka.
        if in_time {
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

    /// Checks records that are to become one batch. A bad timestamp wins over a missing key.
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

    /// Checks a finished batch. Its records are looked at where the header cannot vouch for them.
    pub fn check_batch(&self, bytes: &[u8], options: AppendOptions) -> Result<Checked> {
        let batch = RecordBatch::parse(bytes).map_err(BatchFault::into_error)?;
        let header = batch.header();
        if batch.bytes().len() != bytes.len() {
            return Err(refused("an append is exactly one batch"));
        }
        if header.base_offset != 0 {
            return Err(refused("the base offset of a batch to be appended is 0"));
        }
        let codec = header.codec().map_err(BatchFault::into_error)?;
        let recompress = self.recompress(codec).filter(|_| !header.is_control());
        if recompress.is_none() || codec != Codec::None {
            self.check_size(bytes.len())?;
        }
        if !options.proven {
            batch.check_crc().map_err(BatchFault::into_error)?;
        }
        if options.origin == Origin::Client {
            self.check_client(header)?;
        }
        let checked = Checked {
            last_offset_delta: header.last_offset_delta,
            max_timestamp: header.max_timestamp,
            repack: recompress,
        };
        let vouched = options.proven
            && !self.needs_key
            && (self.log_append_time || self.before_max_ms == i64::MAX);
        if options.origin == Origin::Coordinator {
            return Ok(checked);
        }
        if vouched {
            self.check_record(true, header.max_timestamp, options.now_ms)?;
            return Ok(checked);
        }
        self.check_inside(&batch, checked, codec, options.now_ms)
    }

    fn check_client(&self, header: &BatchHeader) -> Result<()> {
        if header.is_control() {
            return Err(refused("a producer appends no control batch"));
        }
        let count = i64::from(header.records_count);
        if count <= 0 || i64::from(header.last_offset_delta) + 1 != count {
            return Err(refused("the records count does not fit the offsets of the batch"));
        }
        if header.has_producer_id() && header.base_sequence < 0 {
            return Err(refused("a batch with a producer id needs a base sequence"));
        }
        if header.timestamp_type() == TimestampType::LogAppendTime {
            let message = "a producer does not set the timestamp type LogAppendTime";
            return Err(Error::new(ErrorKind::InvalidTimestamp, message));
        }
        Ok(())
    }

    /// Checks every record. A batch whose offsets have holes, or whose header names another
    /// largest timestamp than its records have, is encoded anew.
    fn check_inside(
        &self,
        batch: &RecordBatch<'_>,
        mut checked: Checked,
        codec: Codec,
        now_ms: i64,
    ) -> Result<Checked> {
        let mut scratch = Vec::new();
        let mut first = None;
        let mut max_timestamp = -1;
        let mut dense = true;
        let records = batch.records(&mut scratch).map_err(BatchFault::into_error)?;
        for (offset, record) in (0..).zip(records) {
            let record = record.map_err(BatchFault::into_error)?;
            dense &= record.offset() == offset;
            max_timestamp = max_timestamp.max(record.timestamp());
            let outcome = self.check_record(record.key().is_some(), record.timestamp(), now_ms);
            if let Err(error) = outcome {
                if error.kind() == ErrorKind::InvalidTimestamp {
                    return Err(error);
                }
                first.get_or_insert(error);
            }
        }
        if let Some(error) = first {
            return Err(error);
        }
        if !dense || max_timestamp != checked.max_timestamp {
            checked.repack.get_or_insert((codec, None));
        }
        Ok(checked)
    }
}

/// What a batch is, once it was checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked {
    pub last_offset_delta: i32,
    pub max_timestamp: i64,
    /// The codec and the level that it has to be encoded with anew.
    pub repack: Option<(Codec, Option<i32>)>,
}

fn refused(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidRecord, message)
}
