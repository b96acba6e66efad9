//! What is left of a batch when some of its records go, or when it gets a delete horizon.
//!
//! Base offset, last offset, producer, epoch, sequences, leader epoch, codec, timestamp type and
//! flags stay; records keep offset, timestamp, key, value and headers, byte for byte
//! (`MemoryRecords.buildRetainedRecordsInto`).

use std::fmt;

use super::batch::{
    BATCH_OVERHEAD, BatchHeader, CODEC_MASK, CONTROL_BIT, DELETE_HORIZON_BIT, LENGTH_PREFIX,
    LOG_APPEND_TIME_BIT, NONE, TRANSACTIONAL_BIT, TimestampType,
};
use super::codec::{Codec, Compressor, DECOMPRESSED_MAX};
use super::encode::{BATCH_SIZE_MAX, seal, zigzag_len};
use super::fault::BatchFault;
use super::records::Record;
use super::varint;
use crate::error::{Error, ErrorKind, Result};

/// Builds batches of records that stay, one after the other, in buffers that are used again.
#[derive(Default)]
pub(crate) struct RetainedBatch {
    header: Option<BatchHeader>,
    delete_horizon_ms: Option<i64>,
    /// 61 bytes for the header, then the records.
    plain: Vec<u8>,
    /// The finished batch, where it is compressed.
    packed: Vec<u8>,
    compressors: Vec<Compressor>,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
}

impl RetainedBatch {
    /// Begins with no record of the batch that has this header. With a delete horizon, from which
    /// its tombstones or its marker may go, the batch is stamped with that.
    pub fn begin(&mut self, header: &BatchHeader, delete_horizon_ms: Option<i64>) {
        self.header = Some(*header);
        self.delete_horizon_ms = delete_horizon_ms;
        self.plain.clear();
        self.plain.resize(BATCH_OVERHEAD, 0);
        self.base_timestamp = delete_horizon_ms.unwrap_or(NONE);
        self.max_timestamp = NONE;
        self.count = 0;
    }

    /// Keeps a record of the batch, the next one in order.
    ///
    /// # Errors
    /// `BadRecords` for an offset that the batch cannot have.
    pub fn push(&mut self, record: &Record<'_>) -> std::result::Result<(), BatchFault> {
        const OUTSIDE: BatchFault = BatchFault::BadRecords("a record lies outside its batch");
        let Some(header) = &self.header else { return Err(OUTSIDE) };
        let offset_delta = record.offset().wrapping_sub(header.base_offset);
        let offset_delta = i32::try_from(offset_delta).map_err(|_| OUTSIDE)?;
        if self.count == 0 && self.delete_horizon_ms.is_none() {
            self.base_timestamp = record.timestamp();
        }
        let timestamp_delta = record.timestamp().wrapping_sub(self.base_timestamp);
        let (headers, headers_count) = record.headers().raw();
        let count = zigzag_len(headers_count as usize);
        let field = |field: Option<&[u8]>| match field {
            None => 1,
            Some(bytes) => varint::len_u64(zigzag_len(bytes.len())) + bytes.len(),
        };
        let body = 1
            + varint::len_i64(timestamp_delta)
            + varint::len_i32(offset_delta)
            + field(record.key())
            + field(record.value())
            + varint::len_u64(count)
            + headers.len();
        let out = &mut self.plain;
        varint::put_u64(out, zigzag_len(body));
        out.push(0);
        varint::put_i64(out, timestamp_delta);
        varint::put_i32(out, offset_delta);
        for field in [record.key(), record.value()] {
            match field {
                None => varint::put_i32(out, -1),
                Some(bytes) => {
                    varint::put_u64(out, zigzag_len(bytes.len()));
                    out.extend_from_slice(bytes);
                }
            }
        }
        varint::put_u64(out, count);
        out.extend_from_slice(headers);
        self.max_timestamp = self.max_timestamp.max(record.timestamp());
        self.count += 1;
        Ok(())
    }

    /// The finished batch.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] without records, [`ErrorKind::UnsupportedCompressionType`] and
    /// [`ErrorKind::Kafka`] where the codec is missing or fails, [`ErrorKind::RecordTooLarge`]
    /// above 2 GiB.
    pub fn finish(&mut self) -> Result<&[u8]> {
        let Some(old) = self.header.take().filter(|_| self.count > 0) else {
            return Err(Error::new(ErrorKind::IllegalState, "a batch needs a record"));
        };
        let codec = self.pack(old.codec().map_err(BatchFault::into_error)?)?;
        let batch = if codec == Codec::None { &mut self.plain } else { &mut self.packed };
        if batch.len() > BATCH_SIZE_MAX {
            let message = format!("a batch of {} bytes exceeds 2 GiB", batch.len());
            return Err(Error::new(ErrorKind::RecordTooLarge, message));
        }
        let flags = LOG_APPEND_TIME_BIT | TRANSACTIONAL_BIT | CONTROL_BIT;
        let horizon = if self.delete_horizon_ms.is_some() { DELETE_HORIZON_BIT } else { 0 };
        let header = BatchHeader {
            batch_length: i32::try_from(batch.len() - LENGTH_PREFIX).unwrap_or(i32::MAX),
            attributes: old.attributes & flags | codec.id() & CODEC_MASK | horizon,
            base_timestamp: self.base_timestamp,
            max_timestamp: match old.timestamp_type() {
                TimestampType::CreateTime => self.max_timestamp,
                TimestampType::LogAppendTime => old.max_timestamp,
            },
            records_count: self.count,
            ..old
        };
        if let Some(front) = batch.first_chunk_mut::<BATCH_OVERHEAD>() {
            *front = header.encode();
        }
        seal(batch);
        Ok(batch)
    }

    /// Compresses the records into `packed` and returns the codec that the batch has.
    fn pack(&mut self, codec: Codec) -> Result<Codec> {
        let records = self.plain.get(BATCH_OVERHEAD..).unwrap_or_default();
        // What no reader of ours would decompress is not written compressed.
        if codec == Codec::None || records.len() > DECOMPRESSED_MAX {
            return Ok(Codec::None);
        }
        if !self.compressors.iter().any(|known| known.codec() == codec) {
            self.compressors.push(Compressor::new(codec, None)?);
        }
        self.packed.clear();
        self.packed.resize(BATCH_OVERHEAD, 0);
        for compressor in self.compressors.iter_mut().filter(|known| known.codec() == codec) {
            compressor.compress(records, &mut self.packed)?;
        }
        Ok(codec)
    }
}

/// Shows sizes.
impl fmt::Debug for RetainedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetainedBatch")
            .field("records", &self.count)
            .field("size", &self.plain.len())
            .finish_non_exhaustive()
    }
}
