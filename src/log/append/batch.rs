//! Appending finished batches: of producers with sequences, of transactions, of another log.
//!
//! A batch brings its own header, so everything in it is checked before it is believed; where a
//! topic stores another codec, or the header is wrong, the records are encoded anew.

use crate::error::{Error, ErrorKind, Result};
use crate::log::Log;
use crate::log::append::validator::AppendRules;
use crate::log::append::{AppendOptions, AppendOrigin, Appended};
use crate::log::producers::entry::ProducerStamp;
use crate::record::{
    BatchBuilder, BatchFault, BatchHeader, Codec, HeaderInput, RecordBatch, RecordInput, Stamp,
    TimestampType, set_log_append_time,
};

impl AppendOptions {
    /// The same for a batch that this process's builder made.
    #[allow(dead_code, reason = "the seam of idempotent producers and imports")]
    pub fn proven(self) -> AppendOptions {
        AppendOptions { proven: true, ..self }
    }
}

impl Log {
    /// Appends a finished batch with base offset 0: validated, stamped, copied.
    ///
    /// # Durability
    /// As [`Log::append`].
    ///
    /// # Errors
    /// As [`Log::append`]; also `CorruptRecord` for bytes that are not one whole batch, and
    /// `UnsupportedCompressionType`.
    #[allow(dead_code, reason = "the seam of idempotent producers, transactions and imports")]
    pub fn append_batch(&self, batch: &mut [u8], options: AppendOptions) -> Result<Appended> {
        let rules = self.writer.lock().rules;
        let checked = rules.check_batch(batch, options).map_err(|error| self.at_home(error))?;
        let options = AppendOptions { producer: checked.producer, ..options };
        if let Some((codec, level)) = checked.repack {
            return self.append_repacked(batch, codec, level, options);
        }
        let mut max_timestamp = checked.max_timestamp;
        if rules.log_append_time {
            set_log_append_time(batch, options.now_ms);
            max_timestamp = options.now_ms;
        }
        self.store(batch, checked.last_offset_delta, max_timestamp, options)
    }

    /// Appends the records of a batch, encoded anew.
    #[cold]
    fn append_repacked(
        &self,
        batch: &[u8],
        codec: Codec,
        level: Option<i32>,
        options: AppendOptions,
    ) -> Result<Appended> {
        let fault = |fault: BatchFault| self.at_home(fault.into_error());
        let old = RecordBatch::parse(batch).map_err(fault)?;
        let mut scratch = Vec::new();
        let mut builder = BatchBuilder::new(codec, level)?;
        for record in old.records(&mut scratch).map_err(fault)? {
            let record = record.map_err(fault)?;
            let names: Vec<_> =
                record.headers().iter().map(|header| (header.name(), header.value())).collect();
            let headers: Vec<_> =
                names.iter().map(|(name, value)| HeaderInput { name, value: *value }).collect();
            builder.append(&RecordInput {
                timestamp: record.timestamp(),
                key: record.key(),
                value: record.value(),
                headers: &headers,
            })?;
        }
        self.finish(&mut builder, Stamp::plain(0, -1), options)
    }
}

impl AppendRules {
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
        self.check_arrived(bytes.len())?;
        if recompress.is_none() {
            self.check_size(bytes.len())?;
        }
        if !options.proven {
            batch.check_crc().map_err(BatchFault::into_error)?;
        }
        if options.origin == AppendOrigin::Client {
            self.check_client(header)?;
        }
        let checked = Checked {
            last_offset_delta: header.last_offset_delta,
            max_timestamp: header.max_timestamp,
            producer: ProducerStamp::of(header),
            repack: recompress,
        };
        let vouched = options.proven
            && !self.needs_key
            && (self.log_append_time || self.before_max_ms == i64::MAX);
        if options.origin == AppendOrigin::Coordinator {
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

/// A finished batch that was checked.
#[derive(Debug, Clone, Copy)]
pub(in crate::log) struct Checked {
    pub last_offset_delta: i32,
    pub max_timestamp: i64,
    /// Who sent it, where that is a producer with sequences.
    pub producer: Option<ProducerStamp>,
    /// The codec and the level that it has to be encoded with anew.
    pub repack: Option<(Codec, Option<i32>)>,
}

fn refused(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidRecord, message)
}
