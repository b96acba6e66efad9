//! The header of a batch, a view of one batch in its bytes, and what is changed in place.
//!
//! ```text
//! at  size  field                   in CRC   at  size  field                     in CRC
//!  0     8  base offset             no       27     8  base timestamp            yes
//!  8     4  batch length (behind)   no       35     8  max timestamp             yes
//! 12     4  partition leader epoch  no       43     8  producer id               yes
//! 16     1  magic = 2               no       51     2  producer epoch            yes
//! 17     4  CRC-32C of [21, end)    -        53     4  base sequence             yes
//! 21     2  attributes              yes      57     4  records count             yes
//! 23     4  last offset delta       yes      61     -  records                   yes
//! ```

use std::fmt;

use super::codec::{self, Codec};
use super::control::ControlRecord;
use super::crc::crc32c;
use super::fault::BatchFault;
use super::records::Records;

/// The size of a batch header in bytes: what a batch costs beside its records.
pub const BATCH_OVERHEAD: usize = 61;
/// Base offset and length: the bytes that the length field does not count.
pub const LENGTH_PREFIX: usize = 12;
/// The version of the batch format that is read and written.
pub const MAGIC_V2: i8 = 2;

/// Where the sequence of the first record stands.
pub(super) const BASE_SEQUENCE_AT: usize = 53;
/// Where the bytes under the checksum begin.
pub(crate) const CRC_FROM: usize = 21;
/// The least value of the length field of a version 2 batch.
const LENGTH_MIN: i32 = 49;
/// The least value of the length field in versions 0 and 1.
const LEGACY_LENGTH_MIN: i32 = 14;

pub(super) const CODEC_MASK: i16 = 0x07;
pub(super) const LOG_APPEND_TIME_BIT: i16 = 0x08;
pub(super) const TRANSACTIONAL_BIT: i16 = 0x10;
pub(super) const CONTROL_BIT: i16 = 0x20;
pub(super) const DELETE_HORIZON_BIT: i16 = 0x40;

/// No producer id, epoch, sequence or timestamp.
pub const NONE: i64 = -1;

/// The giver of a batch's timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer, record by record.
    CreateTime,
    /// The log, at the append, one for the whole batch.
    LogAppendTime,
}

impl fmt::Display for TimestampType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        })
    }
}

/// The 61 bytes in front of a batch's records, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset that the deltas of the records count from. Not under the checksum.
    pub base_offset: i64,
    /// Bytes behind this field. Not under the checksum.
    pub batch_length: i32,
    /// The leader epoch at the append, -1 if there is none. Not under the checksum.
    pub leader_epoch: i32,
    /// The version of the format, 2. Not under the checksum.
    pub magic: i8,
    /// CRC-32C over everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type and flags.
    pub attributes: i16,
    /// Last offset minus base offset, also the last sequence minus the base sequence.
    pub last_offset_delta: i32,
    /// What the timestamp deltas count from, or the delete horizon.
    pub base_timestamp: i64,
    /// The largest timestamp of the records, or the append time; -1 if there is none.
    pub max_timestamp: i64,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// The epoch of the producer, or -1.
    pub producer_epoch: i16,
    /// The sequence of the first record, or -1.
    pub base_sequence: i32,
    /// How many records follow. 0 in a batch that compaction emptied and kept.
    pub records_count: i32,
}

impl BatchHeader {
    /// Decodes the header at the start of `bytes`; the records need not be there. The checksum
    /// is not looked at.
    ///
    /// # Errors
    /// [`BatchFault::Incomplete`] with fewer than 61 bytes, [`BatchFault::Zeros`],
    /// [`BatchFault::BadLength`] and [`BatchFault::BadMagic`].
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchFault> {
        if let Some(fixed) = bytes.first_chunk::<BATCH_OVERHEAD>() {
            let header = BatchHeader::decode(fixed);
            if header.magic == MAGIC_V2 && header.batch_length >= LENGTH_MIN {
                return Ok(header);
            }
        }
        Err(header_fault(bytes))
    }

    /// The fields of 61 bytes, whatever they hold.
    #[inline]
    fn decode(bytes: &[u8; BATCH_OVERHEAD]) -> BatchHeader {
        BatchHeader {
            base_offset: i64::from_be_bytes(field::<0, 8>(bytes)),
            batch_length: i32::from_be_bytes(field::<8, 4>(bytes)),
            leader_epoch: i32::from_be_bytes(field::<12, 4>(bytes)),
            magic: i8::from_be_bytes(field::<16, 1>(bytes)),
            crc: u32::from_be_bytes(field::<17, 4>(bytes)),
            attributes: i16::from_be_bytes(field::<21, 2>(bytes)),
            last_offset_delta: i32::from_be_bytes(field::<23, 4>(bytes)),
            base_timestamp: i64::from_be_bytes(field::<27, 8>(bytes)),
            max_timestamp: i64::from_be_bytes(field::<35, 8>(bytes)),
            producer_id: i64::from_be_bytes(field::<43, 8>(bytes)),
            producer_epoch: i16::from_be_bytes(field::<51, 2>(bytes)),
            base_sequence: i32::from_be_bytes(field::<53, 4>(bytes)),
            records_count: i32::from_be_bytes(field::<57, 4>(bytes)),
        }
    }

    /// The bytes of this header, exactly as it says (also the checksum).
    #[inline]
    pub fn encode(&self) -> [u8; BATCH_OVERHEAD] {
        let mut out = [0; BATCH_OVERHEAD];
        let [w0, w1, w2, a, b, c, d, e] = self.numbers();
        set::<0, 8>(&mut out, w0.1.to_be_bytes());
        set::<8, 8>(&mut out, w1.1.to_be_bytes());
        set::<16, 8>(&mut out, w2.1.to_be_bytes());
        set::<21, 8>(&mut out, a.1.to_be_bytes());
        set::<29, 8>(&mut out, b.1.to_be_bytes());
        set::<37, 8>(&mut out, c.1.to_be_bytes());
        set::<45, 8>(&mut out, d.1.to_be_bytes());
        set::<53, 8>(&mut out, e.1.to_be_bytes());
        out
    }

    /// The same as big-endian numbers, each with its place. That of the checksum and the next one
    /// overlap by three bytes, in which they agree.
    #[inline(always)]
    pub(crate) fn numbers(&self) -> [(usize, u64); 8] {
        let length = u64::from(self.batch_length.cast_unsigned());
        let leader_epoch = u64::from(self.leader_epoch.cast_unsigned());
        let magic = u64::from(self.magic.cast_unsigned());
        let [a, b, c, d, e] = self.checked_words();
        [
            (0, self.base_offset.cast_unsigned()),
            (8, length << 32 | leader_epoch),
            (16, magic << 56 | u64::from(self.crc) << 24 | a >> 40),
            (21, a),
            (29, b),
            (37, c),
            (45, d),
            (53, e),
        ]
    }

    /// The forty bytes of the header that are under the checksum, as big-endian words. Fields
    /// straddle them, so they are put together by shifts.
    #[inline(always)]
    pub(super) fn checked_words(&self) -> [u64; 5] {
        let attributes = u64::from(self.attributes.cast_unsigned());
        let last_offset_delta = u64::from(self.last_offset_delta.cast_unsigned());
        let base_timestamp = self.base_timestamp.cast_unsigned();
        let max_timestamp = self.max_timestamp.cast_unsigned();
        let producer_id = self.producer_id.cast_unsigned();
        let producer_epoch = u64::from(self.producer_epoch.cast_unsigned());
        let base_sequence = u64::from(self.base_sequence.cast_unsigned());
        let records_count = u64::from(self.records_count.cast_unsigned());
        [
            attributes << 48 | last_offset_delta << 16 | base_timestamp >> 48,
            base_timestamp << 16 | max_timestamp >> 48,
            max_timestamp << 16 | producer_id >> 48,
            producer_id << 16 | producer_epoch,
            base_sequence << 32 | records_count,
        ]
    }

    /// The size of the whole batch in bytes, header included.
    #[inline]
    pub fn size(&self) -> usize {
        LENGTH_PREFIX + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// The offset of the last record, or of where it was before compaction. Wraps where damaged
    /// fields do not add up.
    #[inline]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.wrapping_add(i64::from(self.last_offset_delta))
    }

    /// The offset behind the batch. A reader goes on here, whatever records it found.
    #[inline]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// [`BatchFault::BadAttributes`] for the ids 5 to 7.
    #[inline]
    pub fn codec(&self) -> Result<Codec, BatchFault> {
        let id = self.attributes & CODEC_MASK;
        Codec::from_id(id).ok_or(BatchFault::BadAttributes(self.attributes))
    }

    /// Who gave the timestamps.
    #[inline]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// The batch belongs to a transaction.
    #[inline]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// The batch holds a control record, which applications never see.
    #[inline]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// The records lie as they are read, and applications see them: neither compressed nor
    /// control.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.attributes & (CODEC_MASK | CONTROL_BIT) == 0
    }

    /// There is nothing but records to return: plain, dense, and of no transaction.
    #[inline]
    pub(crate) fn is_simple(&self) -> bool {
        self.is_plain() && !self.is_transactional() && self.is_dense() && self.records_count > 0
    }

    /// No offset is missing between the first record and the last.
    #[inline]
    pub(crate) fn is_dense(&self) -> bool {
        i64::from(self.last_offset_delta) + 1 == i64::from(self.records_count)
    }

    /// The time in ms from which compaction may drop the batch's tombstones or marker, once it
    /// has set one.
    #[inline]
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }

    /// The batch carries the id of an idempotent producer.
    #[inline]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NONE
    }

    /// The sequence of the last record, or -1 if the batch has none. Sequences wrap to 0 behind
    /// `i32::MAX`.
    #[inline]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }
}

/// Finds out why `bytes` do not begin with a header of version 2.
#[cold]
fn header_fault(bytes: &[u8]) -> BatchFault {
    let Some((prefix, rest)) = bytes.split_first_chunk::<LENGTH_PREFIX>() else {
        return BatchFault::Incomplete { needed: LENGTH_PREFIX };
    };
    let [.., a, b, c, d] = *prefix;
    let length = i32::from_be_bytes([a, b, c, d]);
    match length {
        0 => return BatchFault::Zeros,
        ..LEGACY_LENGTH_MIN => return BatchFault::BadLength(length),
        _ => {}
    }
    // The version stands at the same place in all formats, behind four bytes.
    match rest.get(4).map(|&magic| magic.cast_signed()) {
        Some(MAGIC_V2) if length < LENGTH_MIN => BatchFault::BadLength(length),
        Some(magic) if magic != MAGIC_V2 => BatchFault::BadMagic(magic),
        _ => BatchFault::Incomplete {
            needed: LENGTH_PREFIX + usize::try_from(length.max(LENGTH_MIN)).unwrap_or(0),
        },
    }
}

/// `N` bytes at `AT`: the bounds are checked when this is compiled.
#[inline]
fn field<const AT: usize, const N: usize>(bytes: &[u8; BATCH_OVERHEAD]) -> [u8; N] {
    const { assert!(AT + N <= BATCH_OVERHEAD) };
    // By chunks, because a copy of slices is a call where it is not inlined.
    bytes.get(AT..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

#[inline]
fn set<const AT: usize, const N: usize>(out: &mut [u8; BATCH_OVERHEAD], value: [u8; N]) {
    const { assert!(AT + N <= BATCH_OVERHEAD) };
    if let Some(to) = out.get_mut(AT..).and_then(<[u8]>::first_chunk_mut) {
        *to = value;
    }
}

/// One whole batch in borrowed bytes: exactly its own, header included.
#[derive(Clone, Copy)]
pub struct RecordBatch<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
    payload: &'a [u8],
}

/// Shows the header and the size.
impl fmt::Debug for RecordBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordBatch")
            .field("header", &self.header)
            .field("size", &self.bytes.len())
            .finish()
    }
}

impl<'a> RecordBatch<'a> {
    /// The first batch of `bytes`. The header is checked, the checksum is not.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`], and [`BatchFault::Incomplete`] when the batch is longer than
    /// `bytes`.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<RecordBatch<'a>, BatchFault> {
        let header = BatchHeader::parse(bytes)?;
        let needed = header.size();
        let Some(bytes) = bytes.get(..needed) else {
            return Err(BatchFault::Incomplete { needed });
        };
        let Some((_, payload)) = bytes.split_first_chunk::<BATCH_OVERHEAD>() else {
            return Err(BatchFault::Incomplete { needed: BATCH_OVERHEAD });
        };
        Ok(RecordBatch { header, bytes, payload })
    }

    /// The first batch of `bytes`, which has this header: what [`RecordBatch::parse`] found there.
    #[inline]
    pub(crate) fn of(header: &BatchHeader, bytes: &'a [u8]) -> Option<RecordBatch<'a>> {
        let bytes = bytes.get(..header.size())?;
        let (_, payload) = bytes.split_first_chunk::<BATCH_OVERHEAD>()?;
        Some(RecordBatch { header: *header, bytes, payload })
    }

    /// The decoded header.
    #[inline]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records as they are stored, compressed if they are.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Compares the checksum with the bytes. Base offset, length, leader epoch and version are
    /// not under it: the log checks them by what surrounds the batch.
    ///
    /// # Errors
    /// [`BatchFault::BadCrc`].
    #[inline]
    pub fn check_crc(&self) -> Result<(), BatchFault> {
        let computed = crc32c(self.bytes.get(CRC_FROM..).unwrap_or_default());
        if computed == self.header.crc {
            Ok(())
        } else {
            Err(BatchFault::BadCrc { stored: self.header.crc, computed })
        }
    }

    /// Whether the records can be decoded one after the other, with rising offsets that the header
    /// covers, and fill the batch. Compressed ones and control records are not looked at.
    pub(crate) fn has_sound_records(&self) -> bool {
        if !self.header.is_plain() {
            return true;
        }
        self.header.records_count >= 0 && Records::new(&self.header, self.payload).are_sound()
    }

    /// Looks into the batch as its readers do, at records that unpack to at most `limit` bytes.
    ///
    /// # Errors
    /// What they are told.
    pub(crate) fn check_records(
        &self,
        scratch: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), BatchFault> {
        match (self.header.is_control(), self.header.records_count) {
            (true, _) => self.control().map(drop),
            // As in Kafka, nobody looks into a batch without records.
            (false, 0) => Ok(()),
            (false, _) => self.records_below(scratch, limit)?.check(),
        }
    }

    /// Iterates over the records. Records that are not compressed are borrowed from the batch and
    /// `scratch` stays as it is; compressed ones are decompressed into `scratch`, which grows to
    /// at most [`DECOMPRESSED_MAX`](codec::DECOMPRESSED_MAX) bytes.
    ///
    /// # Errors
    /// [`BatchFault::BadAttributes`], [`BatchFault::BadRecords`] for a negative count,
    /// [`BatchFault::CodecMissing`], [`BatchFault::Compression`] and [`BatchFault::TooLarge`].
    /// Faults inside the records come from the iterator.
    #[inline]
    pub fn records<'b>(&self, scratch: &'b mut Vec<u8>) -> Result<Records<'b>, BatchFault>
    where
        'a: 'b,
    {
        self.records_below(scratch, codec::DECOMPRESSED_MAX)
    }

    /// [`RecordBatch::records`] with a limit of its own, at least 64 KiB, in bytes.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn records_below<'b>(
        &self,
        scratch: &'b mut Vec<u8>,
        limit: usize,
    ) -> Result<Records<'b>, BatchFault>
    where
        'a: 'b,
    {
        if self.header.records_count < 0 {
            return Err(BatchFault::BadRecords("the records count is negative"));
        }
        let codec = self.header.codec()?;
        let payload: &'b [u8] = if codec == Codec::None {
            self.payload
        } else {
            codec::decompress(codec, self.payload, scratch, limit)?;
            scratch
        };
        Ok(Records::new(&self.header, payload))
    }

    /// [`RecordBatch::records_below`] for a caller that has room for `room` bytes of them: `None`
    /// where compressed records take more, which is nothing against them.
    ///
    /// # Errors
    /// As [`RecordBatch::records`].
    pub(crate) fn records_within<'b>(
        &self,
        scratch: &'b mut Vec<u8>,
        limit: usize,
        room: usize,
    ) -> Result<Option<Records<'b>>, BatchFault>
    where
        'a: 'b,
    {
        let codec = self.header.codec()?;
        if codec == Codec::None || self.header.records_count < 0 {
            return self.records_below(scratch, limit).map(Some);
        }
        let whole = codec::decompress_within(codec, self.payload, scratch, limit, room)?;
        Ok(whole.then_some(Records::new(&self.header, scratch)))
    }

    /// The control record, where this is a control batch that still has one.
    ///
    /// # Errors
    /// As [`RecordBatch::records`], and [`BatchFault::BadRecords`] for one that is malformed.
    pub fn control(&self) -> Result<Option<ControlRecord>, BatchFault> {
        if !self.header.is_control() {
            return Ok(None);
        }
        let mut scratch = Vec::new();
        match self.records(&mut scratch)?.next() {
            None => Ok(None),
            Some(record) => ControlRecord::parse(&record?).map(Some),
        }
    }
}

/// Writes another base offset and leader epoch into a batch. Both are outside the checksum.
///
/// # Panics
/// If `batch` is shorter than a header.
#[inline]
pub fn restamp(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    let header = whole_header(batch);
    set::<0, 8>(header, base_offset.to_be_bytes());
    set::<12, 4>(header, leader_epoch.to_be_bytes());
}

/// Turns a batch into one with the log's append time, and writes its checksum anew. The codec and
/// the known flags stay, unknown attribute bits are dropped, as Kafka does.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn set_log_append_time(batch: &mut [u8], append_time_ms: i64) {
    let header = whole_header(batch);
    let known = CODEC_MASK | TRANSACTIONAL_BIT | CONTROL_BIT | DELETE_HORIZON_BIT;
    let attributes = i16::from_be_bytes(field::<21, 2>(header)) & known | LOG_APPEND_TIME_BIT;
    set::<21, 2>(header, attributes.to_be_bytes());
    set::<35, 8>(header, append_time_ms.to_be_bytes());
    let crc = crc32c(batch.get(CRC_FROM..).unwrap_or_default());
    set::<17, 4>(whole_header(batch), crc.to_be_bytes());
}

/// Only batches that were parsed or encoded here reach this, so a short one is a caller's bug.
#[allow(clippy::expect_used)]
fn whole_header(batch: &mut [u8]) -> &mut [u8; BATCH_OVERHEAD] {
    batch.first_chunk_mut().expect("a batch is at least a header long")
}
