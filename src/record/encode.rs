//! Encoding straight into a log: one record as one batch, transaction markers, emptied batches.
//!
//! The sizes are computed first, because variable-length integers cannot be filled in later.

use super::batch::{
    BATCH_OVERHEAD, BatchHeader, CONTROL_BIT, CRC_FROM, DELETE_HORIZON_BIT, LENGTH_PREFIX,
    LOG_APPEND_TIME_BIT, MAGIC_V2, NONE, TRANSACTIONAL_BIT, TimestampType,
};
use super::codec::Codec;
use super::control::{ControlType, MARKER_BATCH_SIZE};
use super::crc::crc32c;
use super::pack::{put_many, put_single};
use super::records::write_header;
use super::varint;
use crate::error::{Error, ErrorKind, Result};
use std::fmt;

/// The target of an encoder. The log implements it over its region.
pub trait Sink {
    /// Stores `bytes` at `at`, counted from the start of the batch. Called once for each byte of
    /// the batch, the header last.
    fn put(&mut self, at: usize, bytes: &[u8]);

    /// Stores the header, the last of a batch.
    #[inline]
    fn put_header(&mut self, header: &BatchHeader) {
        self.put(0, &header.encode());
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.len() < end {
            self.resize(end, 0);
        }
        if let Some(to) = self.get_mut(at..end) {
            to.copy_from_slice(bytes);
        }
    }
}

/// One record as a producer gives it.
#[derive(Clone, Copy, Default)]
pub struct RecordInput<'a> {
    /// Milliseconds since 1970, or -1.
    pub timestamp: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value. `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, in order; names may repeat.
    pub headers: &'a [HeaderInput<'a>],
}

/// One header as a producer gives it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeaderInput<'a> {
    /// The name.
    pub name: &'a str,
    /// The value.
    pub value: Option<&'a [u8]>,
}

/// Shows sizes: what a record carries may be large, or secret.
impl fmt::Debug for RecordInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordInput")
            .field("timestamp", &self.timestamp)
            .field("key_size", &self.key.map(<[u8]>::len))
            .field("value_size", &self.value.map(<[u8]>::len))
            .field("headers", &self.headers)
            .finish()
    }
}

/// Shows the name and the size.
impl fmt::Debug for HeaderInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_header(f, self.name, self.value)
    }
}

/// The numbers that the log and the producer's state add to the records of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The offset of the first record.
    pub base_offset: i64,
    /// The leader epoch, -1 for none.
    pub leader_epoch: i32,
    /// Who gives the timestamps.
    pub timestamp_type: TimestampType,
    /// The append time in ms, used with [`TimestampType::LogAppendTime`] only.
    pub append_time_ms: i64,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// The producer's epoch, or -1.
    pub producer_epoch: i16,
    /// The sequence of the first record, or -1.
    pub base_sequence: i32,
    /// The batch belongs to a transaction.
    pub transactional: bool,
}

impl Stamp {
    /// A stamp without producer and with the records' own timestamps.
    #[inline]
    pub fn plain(base_offset: i64, leader_epoch: i32) -> Stamp {
        Stamp {
            base_offset,
            leader_epoch,
            timestamp_type: TimestampType::CreateTime,
            append_time_ms: NONE,
            producer_id: NONE,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
        }
    }

    /// The same with the log's append time for all records.
    #[inline]
    pub fn log_append_time(mut self, append_time_ms: i64) -> Stamp {
        self.timestamp_type = TimestampType::LogAppendTime;
        self.append_time_ms = append_time_ms;
        self
    }

    /// The same with an idempotent producer.
    #[inline]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Stamp {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// The same inside a transaction.
    #[inline]
    pub fn transactional(mut self) -> Stamp {
        self.transactional = true;
        self
    }

    #[inline]
    pub(super) fn attributes(&self, codec: Codec) -> i16 {
        let mut attributes = codec.id();
        if self.timestamp_type == TimestampType::LogAppendTime {
            attributes |= LOG_APPEND_TIME_BIT;
        }
        if self.transactional {
            attributes |= TRANSACTIONAL_BIT;
        }
        attributes
    }

    /// The header of a batch of `size` bytes, its checksum still 0.
    #[inline]
    pub(super) fn header(&self, size: usize, codec: Codec, extent: Extent) -> BatchHeader {
        assert!(size <= BATCH_SIZE_MAX, "a batch of {size} bytes does not fit its length field");
        BatchHeader {
            base_offset: self.base_offset,
            batch_length: i32::try_from(size - LENGTH_PREFIX).unwrap_or(i32::MAX),
            leader_epoch: self.leader_epoch,
            magic: MAGIC_V2,
            crc: 0,
            attributes: self.attributes(codec),
            last_offset_delta: extent.last_offset_delta,
            base_timestamp: extent.base_timestamp,
            max_timestamp: match self.timestamp_type {
                TimestampType::CreateTime => extent.max_timestamp,
                TimestampType::LogAppendTime => self.append_time_ms,
            },
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            records_count: extent.records_count,
        }
    }
}

/// The numbers that the records of a batch tell its header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) last_offset_delta: i32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    pub(super) records_count: i32,
}

/// The largest batch that its length field can express, in bytes.
pub const BATCH_SIZE_MAX: usize = i32::MAX as usize;

/// The exact size in bytes of the batch that [`encode_single`] makes.
#[inline]
pub fn single_batch_size(record: &RecordInput<'_>) -> usize {
    MeasuredSingle::of(record).size
}

/// The measures of one record as a batch of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MeasuredSingle {
    /// The size of the batch in bytes.
    pub size: usize,
    body: usize,
}

impl MeasuredSingle {
    /// Measures `record`.
    #[inline(always)]
    pub fn of(record: &RecordInput<'_>) -> MeasuredSingle {
        let body = body_size(record, 0, 0);
        MeasuredSingle { size: size_around(body), body }
    }
}

/// The size of the batch around one record with a body of this size.
#[inline(always)]
fn size_around(body: usize) -> usize {
    BATCH_OVERHEAD + varint::len_u64(zigzag_len(body)) + body
}

/// Encodes one record as one uncompressed batch. The header is put last, so that a reader which
/// sees it early finds the payload in place.
///
/// The caller has made sure that the batch, [`single_batch_size`], fits its log, and that the
/// timestamp is not below -1.
///
/// # Panics
/// If the batch would be larger than [`BATCH_SIZE_MAX`].
///
/// # Examples
/// ```
/// use topiclite::record::{RecordInput, Stamp, encode_single, single_batch_size};
///
/// let record = RecordInput { timestamp: 1000, value: Some(b"tea"), ..RecordInput::default() };
/// let mut bytes = Vec::new();
/// encode_single(&mut bytes, &record, &Stamp::plain(0, 0));
/// assert_eq!(bytes.len(), single_batch_size(&record));
/// ```
#[inline]
pub fn encode_single(sink: &mut impl Sink, record: &RecordInput<'_>, stamp: &Stamp) {
    encode_measured(sink, record, MeasuredSingle::of(record), stamp);
}

/// [`encode_single`] of a record that was measured before.
#[inline(always)]
pub(crate) fn encode_measured(
    sink: &mut impl Sink,
    record: &RecordInput<'_>,
    MeasuredSingle { size, body }: MeasuredSingle,
    stamp: &Stamp,
) {
    let extent = Extent {
        last_offset_delta: 0,
        base_timestamp: record.timestamp,
        max_timestamp: record.timestamp,
        records_count: 1,
    };
    let mut header = stamp.header(size, Codec::None, extent);
    header.crc = put_single(sink, record, body, &header);
    sink.put_header(&header);
}

/// The measures of records as one batch that is not compressed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// The size of the batch in bytes.
    pub size: usize,
    /// The offset of the last record behind that of the first.
    pub last_offset_delta: i32,
    /// The largest timestamp.
    pub max_timestamp: i64,
    /// The smallest timestamp.
    pub min_timestamp: i64,
    base_timestamp: i64,
    count: i32,
}

impl Measured {
    /// Measures `records`.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] without records; [`ErrorKind::InvalidTimestamp`] below -1;
    /// [`ErrorKind::RecordTooLarge`] for more than the length field of a batch holds, or more
    /// records than it counts.
    pub fn of(records: &[RecordInput<'_>]) -> Result<Measured> {
        let Some(first) = records.first() else {
            return Err(Error::new(ErrorKind::IllegalState, "a batch needs a record"));
        };
        let mut size = BATCH_OVERHEAD;
        let (mut min_timestamp, mut max_timestamp) = (i64::MAX, -1);
        for (offset_delta, record) in (0..).zip(records) {
            if record.timestamp < -1 {
                return Err(negative_timestamp(record.timestamp));
            }
            min_timestamp = min_timestamp.min(record.timestamp);
            max_timestamp = max_timestamp.max(record.timestamp);
            let timestamp_delta = record.timestamp.wrapping_sub(first.timestamp);
            let body = body_size(record, offset_delta, timestamp_delta);
            size = size.saturating_add(varint::len_u64(zigzag_len(body))).saturating_add(body);
        }
        let count = i32::try_from(records.len()).ok().filter(|_| size <= BATCH_SIZE_MAX);
        let Some(count) = count else {
            let message = format!("a batch of {size} bytes exceeds 2 GiB");
            return Err(Error::new(ErrorKind::RecordTooLarge, message));
        };
        let last_offset_delta = count - 1;
        let base_timestamp = first.timestamp;
        Ok(Measured {
            size,
            last_offset_delta,
            max_timestamp,
            min_timestamp,
            base_timestamp,
            count,
        })
    }
}

#[cold]
pub(super) fn negative_timestamp(timestamp: i64) -> Error {
    let message = format!("timestamp {timestamp} is negative; -1 stands for none");
    Error::new(ErrorKind::InvalidTimestamp, message)
}

/// Encodes `records` as one batch without compression. `measured` is of these very records.
pub(crate) fn encode_many(
    sink: &mut impl Sink,
    records: &[RecordInput<'_>],
    measured: &Measured,
    stamp: &Stamp,
) {
    let extent = Extent {
        last_offset_delta: measured.last_offset_delta,
        base_timestamp: measured.base_timestamp,
        max_timestamp: measured.max_timestamp,
        records_count: measured.count,
    };
    let mut header = stamp.header(measured.size, Codec::None, extent);
    header.crc = put_many(sink, records, &header);
    sink.put_header(&header);
}

/// The zigzag form of a length, which is never negative.
#[inline]
pub(super) const fn zigzag_len(len: usize) -> u64 {
    (len as u64) << 1
}

/// The size of a record behind its length field.
#[inline(always)]
pub(super) fn body_size(
    record: &RecordInput<'_>,
    offset_delta: i32,
    timestamp_delta: i64,
) -> usize {
    let mut size = 1 + varint::len_i64(timestamp_delta) + varint::len_i32(offset_delta);
    size += nullable_size(record.key) + nullable_size(record.value);
    if record.headers.is_empty() { size + 1 } else { size + headers_size(record.headers) }
}

#[inline(never)]
fn headers_size(headers: &[HeaderInput<'_>]) -> usize {
    let mut size = varint::len_u64(zigzag_len(headers.len()));
    for header in headers {
        size += varint::len_u64(zigzag_len(header.name.len())) + header.name.len();
        size += nullable_size(header.value);
    }
    size
}

#[inline]
fn nullable_size(field: Option<&[u8]>) -> usize {
    match field {
        None => 1,
        Some(bytes) => varint::len_u64(zigzag_len(bytes.len())) + bytes.len(),
    }
}

/// Appends a record whose body has the size that [`body_size`] gave.
pub(super) fn put_record(
    out: &mut Vec<u8>,
    record: &RecordInput<'_>,
    body: usize,
    offset_delta: i32,
    timestamp_delta: i64,
) {
    varint::put_u64(out, zigzag_len(body));
    out.push(0);
    varint::put_i64(out, timestamp_delta);
    varint::put_i32(out, offset_delta);
    put_nullable(out, record.key);
    put_nullable(out, record.value);
    varint::put_u64(out, zigzag_len(record.headers.len()));
    for header in record.headers {
        put_nullable(out, Some(header.name.as_bytes()));
        put_nullable(out, header.value);
    }
}

fn put_nullable(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => varint::put_i32(out, -1),
        Some(bytes) => {
            varint::put_u64(out, zigzag_len(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

/// The batch of a transaction marker: one control record of the producer that `stamp` names.
///
/// Timestamps are `timestamp`, whatever the stamp says of append times; the base sequence is -1.
pub fn encode_marker(
    kind: ControlType,
    coordinator_epoch: i32,
    timestamp: i64,
    stamp: &Stamp,
) -> [u8; MARKER_BATCH_SIZE] {
    let [k0, k1] = kind.id().to_be_bytes();
    let [e0, e1, e2, e3] = coordinator_epoch.to_be_bytes();
    let key = [0, 0, k0, k1];
    let value = [0, 0, e0, e1, e2, e3];
    let record = RecordInput { timestamp, key: Some(&key), value: Some(&value), headers: &[] };
    let stamp = Stamp {
        timestamp_type: TimestampType::CreateTime,
        base_sequence: -1,
        transactional: true,
        ..*stamp
    };
    let mut batch = Vec::with_capacity(MARKER_BATCH_SIZE);
    encode_single(&mut batch, &record, &stamp);
    let mut out = [0; MARKER_BATCH_SIZE];
    for (to, from) in out.iter_mut().zip(&batch) {
        *to = *from;
    }
    if let Some(attributes) = out.get_mut(22) {
        *attributes |= CONTROL_BIT.to_be_bytes()[1];
    }
    seal(&mut out);
    out
}

/// What stays of a batch whose records compaction removed, but whose offsets or producer state it
/// has to keep: offsets, sequences, epoch, flags and max timestamp; no codec, no records.
pub fn encode_emptied(header: &BatchHeader) -> [u8; BATCH_OVERHEAD] {
    let kept = TRANSACTIONAL_BIT | CONTROL_BIT | LOG_APPEND_TIME_BIT;
    let emptied = BatchHeader {
        batch_length: (BATCH_OVERHEAD - LENGTH_PREFIX) as i32,
        attributes: header.attributes & kept & !DELETE_HORIZON_BIT,
        base_timestamp: NONE,
        records_count: 0,
        ..*header
    };
    let mut out = emptied.encode();
    seal(&mut out);
    out
}

/// Writes the checksum of a whole batch into its header.
pub(super) fn seal(batch: &mut [u8]) {
    let crc = crc32c(batch.get(CRC_FROM..).unwrap_or_default());
    if let Some(to) = batch.get_mut(17..CRC_FROM) {
        to.copy_from_slice(&crc.to_be_bytes());
    }
}
