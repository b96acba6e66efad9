//! Batches of many records, with any codec, in buffers that are used again.

use std::fmt;

use super::batch::{BASE_SEQUENCE_AT, BATCH_OVERHEAD, DELETE_HORIZON_BIT};
use super::codec::{Codec, Compressor, DECOMPRESSED_MAX};
use super::encode::{
    BATCH_SIZE_MAX, Extent, RecordInput, Stamp, body_size, negative_timestamp, put_record, seal,
    zigzag_len,
};
use super::ratio::CompressionRatio;
use super::varint;
use crate::error::{Error, ErrorKind, Result};

/// Collects records and makes one batch of them.
///
/// # Examples
/// ```
/// use topiclite::record::{BatchBuilder, Codec, RecordBatch, RecordInput, Stamp};
///
/// let mut builder = BatchBuilder::new(Codec::None, None)?;
/// for value in ["one", "two"] {
///     let value = Some(value.as_bytes());
///     builder.append(&RecordInput { timestamp: 1000, value, ..RecordInput::default() })?;
/// }
/// let bytes = builder.finish(&Stamp::plain(42, 0))?;
///
/// let batch = RecordBatch::parse(bytes)?;
/// batch.check_crc()?;
/// let mut scratch = Vec::new();
/// let offsets: Vec<i64> =
///     batch.records(&mut scratch)?.map(|r| r.map(|r| r.offset())).collect::<Result<_, _>>()?;
/// assert_eq!(offsets, [42, 43]);
/// # Ok::<(), topiclite::Error>(())
/// ```
pub struct BatchBuilder {
    compressor: Compressor,
    /// 61 bytes for the header, then the records.
    plain: Vec<u8>,
    /// The finished batch, where it is compressed.
    packed: Vec<u8>,
    delete_horizon_ms: Option<i64>,
    base_timestamp: i64,
    max_timestamp: i64,
    last_offset_delta: i32,
    count: i32,
    /// What the batch had that was made last, where it was compressed.
    observed: CompressionRatio,
    ratio: CompressionRatio,
    /// The codec that the batch has that was made last.
    made: Codec,
}

impl BatchBuilder {
    /// A builder without records. `level` is the codec's own, `None` its default.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedCompressionType`] when the codec is not compiled in,
    /// [`ErrorKind::InvalidConfig`] for a level that it does not have.
    pub fn new(codec: Codec, level: Option<i32>) -> Result<BatchBuilder> {
        let mut builder = BatchBuilder {
            compressor: Compressor::new(codec, level)?,
            plain: Vec::new(),
            packed: Vec::new(),
            delete_horizon_ms: None,
            base_timestamp: -1,
            max_timestamp: -1,
            last_offset_delta: -1,
            count: 0,
            observed: CompressionRatio::default(),
            ratio: CompressionRatio::default(),
            made: Codec::None,
        };
        builder.clear();
        Ok(builder)
    }

    /// The codec.
    pub fn codec(&self) -> Codec {
        self.compressor.codec()
    }

    /// Adds a record behind the last one.
    ///
    /// # Errors
    /// As [`BatchBuilder::append_at`].
    pub fn append(&mut self, record: &RecordInput<'_>) -> Result<()> {
        let Some(offset_delta) = self.last_offset_delta.checked_add(1) else {
            return Err(Error::new(ErrorKind::IllegalArgument, "a batch has 2^31 offsets at most"));
        };
        self.append_at(offset_delta, record)
    }

    /// Adds a record at `offset_delta` behind the base offset; offsets in between stay unused, as
    /// compaction leaves them.
    ///
    /// # Errors
    /// Nothing is added on any: [`ErrorKind::IllegalArgument`] for an offset that is not above
    /// the last one, [`ErrorKind::InvalidTimestamp`] for a timestamp below -1, and
    /// [`ErrorKind::RecordTooLarge`] where the batch would exceed what its length field holds.
    pub fn append_at(&mut self, offset_delta: i32, record: &RecordInput<'_>) -> Result<()> {
        if offset_delta <= self.last_offset_delta {
            return Err(Error::new(
                ErrorKind::IllegalArgument,
                format!(
                    "offset delta {offset_delta} does not follow {}; offsets have to rise",
                    self.last_offset_delta
                ),
            ));
        }
        if record.timestamp < -1 {
            return Err(negative_timestamp(record.timestamp));
        }
        let base_timestamp = match (self.count, self.delete_horizon_ms) {
            (_, Some(horizon)) => horizon,
            (0, None) => record.timestamp,
            (_, None) => self.base_timestamp,
        };
        let timestamp_delta = record.timestamp.wrapping_sub(base_timestamp);
        let body = body_size(record, offset_delta, timestamp_delta);
        let size = varint::len_u64(zigzag_len(body)).saturating_add(body);
        if size > BATCH_SIZE_MAX.saturating_sub(self.plain.len()) {
            return Err(Error::new(
                ErrorKind::RecordTooLarge,
                format!("a record of {size} bytes exceeds the 2 GiB that a batch can hold"),
            ));
        }
        put_record(&mut self.plain, record, body, offset_delta, timestamp_delta);
        self.base_timestamp = base_timestamp;
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.last_offset_delta = offset_delta;
        self.count += 1;
        Ok(())
    }

    /// How many records were added.
    pub fn count(&self) -> usize {
        usize::try_from(self.count).unwrap_or(0)
    }

    /// There are no records.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The size in bytes that the batch has without compression.
    pub fn uncompressed_size(&self) -> usize {
        self.plain.len()
    }

    /// The size in bytes that the batch will have about: exact without a codec, else by the
    /// ratio that the batches before had, with Kafka's margin.
    pub fn estimated_size(&self) -> usize {
        if self.codec() == Codec::None {
            return self.plain.len();
        }
        BATCH_OVERHEAD + self.ratio.estimate(self.plain.len() - BATCH_OVERHEAD)
    }

    /// How well the batch compressed that was made last.
    pub(crate) fn observed_ratio(&self) -> CompressionRatio {
        self.observed
    }

    /// The bytes that `record` would add without compression.
    pub fn size_of_next(&self, record: &RecordInput<'_>) -> usize {
        let base = match (self.count, self.delete_horizon_ms) {
            (_, Some(horizon)) => horizon,
            (0, None) => record.timestamp,
            (_, None) => self.base_timestamp,
        };
        let body = body_size(
            record,
            self.last_offset_delta.saturating_add(1),
            record.timestamp.wrapping_sub(base),
        );
        varint::len_u64(zigzag_len(body)) + body
    }

    /// Makes the batch. The records stay until [`BatchBuilder::clear`], so that it can be made
    /// again with another stamp.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] without records, and [`ErrorKind::Kafka`] when the codec
    /// fails.
    pub fn finish(&mut self, stamp: &Stamp) -> Result<&[u8]> {
        if self.count == 0 {
            return Err(Error::new(ErrorKind::IllegalState, "a batch needs a record"));
        }
        let extent = Extent {
            last_offset_delta: self.last_offset_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            records_count: self.count,
        };
        let codec = self.pack()?;
        let batch = if codec == Codec::None { &mut self.plain } else { &mut self.packed };
        if batch.len() > BATCH_SIZE_MAX {
            return Err(Error::new(
                ErrorKind::RecordTooLarge,
                format!("a batch of {} bytes exceeds 2 GiB", batch.len()),
            ));
        }
        let mut header = stamp.header(batch.len(), codec, extent);
        if self.delete_horizon_ms.is_some() {
            header.attributes |= DELETE_HORIZON_BIT;
        }
        if let Some(front) = batch.first_chunk_mut::<BATCH_OVERHEAD>() {
            *front = header.encode();
        }
        seal(batch);
        self.made = codec;
        Ok(batch)
    }

    /// The batch of the last [`BatchBuilder::finish`].
    pub(crate) fn made(&self) -> &[u8] {
        if self.made == Codec::None { &self.plain } else { &self.packed }
    }

    /// The same with another sequence of its first record, without being compressed again.
    pub(crate) fn restamp(&mut self, base_sequence: i32) -> &[u8] {
        let batch = if self.made == Codec::None { &mut self.plain } else { &mut self.packed };
        if let Some(field) = batch.get_mut(BASE_SEQUENCE_AT..BASE_SEQUENCE_AT + 4) {
            field.copy_from_slice(&base_sequence.to_be_bytes());
        }
        seal(batch);
        batch
    }

    /// Compresses the records into `packed` and returns the codec that the batch has.
    fn pack(&mut self) -> Result<Codec> {
        let codec = self.codec();
        if codec == Codec::None {
            return Ok(codec);
        }
        let records = self.plain.get(BATCH_OVERHEAD..).unwrap_or_default();
        self.packed.clear();
        self.packed.resize(BATCH_OVERHEAD, 0);
        self.compressor.compress(records, &mut self.packed)?;
        let compressed = self.packed.len() - BATCH_OVERHEAD;
        self.observed = CompressionRatio::of(compressed, records.len());
        self.ratio = self.ratio.after(self.observed);
        // What no reader of ours would decompress is not written compressed.
        if records.len() > DECOMPRESSED_MAX {
            return Ok(Codec::None);
        }
        Ok(codec)
    }

    /// Gives the batch a delete horizon in ms, from which its tombstones may go. It takes the
    /// place of the base timestamp, so it has to come before the first record; `clear` removes it.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] when there are records.
    pub fn set_delete_horizon(&mut self, delete_horizon_ms: i64) -> Result<()> {
        if !self.is_empty() {
            return Err(Error::new(
                ErrorKind::IllegalState,
                "a delete horizon has to be set before the first record",
            ));
        }
        self.delete_horizon_ms = Some(delete_horizon_ms);
        self.base_timestamp = delete_horizon_ms;
        Ok(())
    }

    /// Removes the records and keeps the buffers.
    pub fn clear(&mut self) {
        self.plain.clear();
        self.plain.resize(BATCH_OVERHEAD, 0);
        self.packed.clear();
        self.delete_horizon_ms = None;
        self.base_timestamp = -1;
        self.max_timestamp = -1;
        self.last_offset_delta = -1;
        self.count = 0;
    }
}

impl fmt::Debug for BatchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchBuilder")
            .field("codec", &self.codec())
            .field("count", &self.count)
            .field("uncompressed_size", &self.plain.len())
            .finish_non_exhaustive()
    }
}
