//! Lazy decoding of the records of a batch: nothing is copied and nothing is allocated.
//!
//! No sequence of bytes makes this panic. A record is checked as it is decoded, its headers
//! included, so that the getters cannot fail. What the format allows and Kafka reads is read:
//! any negative length of a key or value is null, any attribute byte is ignored.
//!
//! ```text
//! record := length varint | attributes u8 | timestamp delta varlong | offset delta varint
//!           | key length varint | key | value length varint | value
//!           | headers count varint | header*
//! header := name length varint | name (UTF-8) | value length varint | value
//! ```

use std::borrow::Cow;
use std::fmt;
use std::iter::FusedIterator;

use super::batch::{BatchHeader, TimestampType};
use super::fault::BatchFault;
use super::varint;

/// The size of the smallest record: seven fields of one byte each.
const RECORD_SIZE_MIN: usize = 7;
/// The size of the smallest header: two lengths.
const HEADER_SIZE_MIN: usize = 2;

/// What is wrong with records whose offsets do not rise.
pub(crate) const OUT_OF_ORDER: BatchFault =
    BatchFault::BadRecords("the offsets of the records do not rise");

/// The records of a batch, in order. Ends behind the first error.
#[derive(Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
    remaining: u32,
    base_offset: i64,
    last_offset_delta: i32,
    base_timestamp: i64,
    append_time: Option<i64>,
}

impl<'a> Records<'a> {
    #[inline]
    pub(super) fn new(header: &BatchHeader, payload: &'a [u8]) -> Records<'a> {
        Records {
            rest: payload,
            remaining: u32::try_from(header.records_count).unwrap_or(0),
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            base_timestamp: header.base_timestamp,
            append_time: match header.timestamp_type() {
                TimestampType::CreateTime => None,
                TimestampType::LogAppendTime => Some(header.max_timestamp),
            },
        }
    }

    /// The records behind the first `records`, which take `bytes` of `payload`: what an iteration
    /// over the whole batch finds there. A place that is none gives an error or nothing.
    #[inline]
    pub(crate) fn resume(
        header: &BatchHeader,
        payload: &'a [u8],
        records: usize,
        bytes: usize,
    ) -> Records<'a> {
        let mut all = Records::new(header, payload);
        all.rest = payload.get(bytes..).unwrap_or_default();
        all.remaining = all.remaining.saturating_sub(u32::try_from(records).unwrap_or(u32::MAX));
        all
    }

    /// No records.
    pub(crate) const EMPTY: Records<'static> = Records {
        rest: &[],
        remaining: 0,
        base_offset: 0,
        last_offset_delta: -1,
        base_timestamp: 0,
        append_time: None,
    };

    /// The part of the payload that was not decoded.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many records the header says are left. The bytes may hold fewer.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.remaining as usize
    }

    /// Whether all can be decoded, offsets rise from the base offset up to the last one that the
    /// header names, and no bytes are left.
    pub(super) fn are_sound(mut self) -> bool {
        let mut last = self.base_offset.saturating_sub(1);
        while self.remaining > 0 {
            match self.decode() {
                Ok(record) if record.offset > last => last = record.offset,
                _ => return false,
            }
        }
        let last_offset = self.base_offset.wrapping_add(i64::from(self.last_offset_delta));
        self.rest.is_empty() && last <= last_offset
    }

    /// What a reader of all records would be told.
    ///
    /// # Errors
    /// [`BatchFault::BadRecords`].
    pub(crate) fn check(self) -> Result<(), BatchFault> {
        let mut before = None;
        for record in self {
            let offset = record?.offset;
            if before >= Some(offset) {
                return Err(OUT_OF_ORDER);
            }
            before = Some(offset);
        }
        Ok(())
    }

    /// Whether the header says that there may be a record with this offset.
    #[inline]
    fn covers(&self, offset: i64) -> bool {
        let delta = offset.wrapping_sub(self.base_offset);
        (0..=i64::from(self.last_offset_delta)).contains(&delta)
    }

    #[cold]
    fn fail(&mut self, fault: BatchFault) -> Option<Result<Record<'a>, BatchFault>> {
        self.rest = &[];
        self.remaining = 0;
        Some(Err(fault))
    }

    /// Decodes the next record; [`Records::remaining`] is not 0. For loops over well-formed
    /// batches: unlike `next` this is always compiled into them.
    ///
    /// # Errors
    /// [`BatchFault::BadRecords`]. The iteration is not over by that.
    #[inline(always)]
    pub(crate) fn decode(&mut self) -> Result<Record<'a>, BatchFault> {
        let start = self.rest.len();
        let (length, rest) = varint::read_i32(self.rest)?;
        let (body, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| rest.split_at_checked(length))
            .ok_or(BatchFault::BadRecords("a record is longer than what is left of its batch"))?;
        let (timestamp_delta, body) = match body {
            [_attributes, body @ ..] => varint::read_i64(body)?,
            [] => return Err(BatchFault::BadRecords("a record is empty")),
        };
        let (offset_delta, body) = varint::read_i32(body)?;
        let (key, body) = nullable(body)?;
        let (value, body) = nullable(body)?;
        let (count, body) = varint::read_i32(body)?;
        let count = u32::try_from(count)
            .map_err(|_| BatchFault::BadRecords("a record's headers count is negative"))?;
        let headers = Headers { rest: body, remaining: count };
        headers.check()?;
        self.rest = rest;
        self.remaining -= 1;
        Ok(Record {
            offset: self.base_offset.wrapping_add(i64::from(offset_delta)),
            timestamp: match self.append_time {
                None => self.base_timestamp.wrapping_add(timestamp_delta),
                Some(append_time) => append_time,
            },
            key,
            value,
            headers,
            encoded_size: start - rest.len(),
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchFault>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            if self.rest.is_empty() {
                return None;
            }
            return self.fail(BatchFault::BadRecords("bytes are left behind the last record"));
        }
        match self.decode() {
            Ok(record) if self.covers(record.offset) => Some(Ok(record)),
            // A position behind it would be none of this log.
            Ok(_) => self.fail(BatchFault::BadRecords("a record's offset is outside of its batch")),
            Err(fault) => self.fail(fault),
        }
    }

    /// The upper bound does not trust the header: it follows from the bytes.
    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let possible = self.rest.len() / RECORD_SIZE_MIN;
        // One item more for the error that ends a batch which is not as declared.
        (0, Some(possible.min(self.remaining()).saturating_add(1)))
    }
}

impl FusedIterator for Records<'_> {}

/// Bytes behind their length; a negative length is null.
#[inline]
fn nullable(bytes: &[u8]) -> Result<(Option<&[u8]>, &[u8]), BatchFault> {
    let (length, rest) = varint::read_i32(bytes)?;
    match usize::try_from(length) {
        Err(_) => Ok((None, rest)),
        Ok(length) => match rest.split_at_checked(length) {
            Some((field, rest)) => Ok((Some(field), rest)),
            None => Err(BatchFault::BadRecords("a field is longer than its record")),
        },
    }
}

/// One record, borrowed from its batch.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    offset: i64,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
    encoded_size: usize,
}

impl<'a> Record<'a> {
    /// The offset in the partition.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Milliseconds since 1970: the producer's, or the append time of the batch where the topic
    /// says so; -1 if there is none.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value. `None` is a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The headers, in the order in which they were written, repeated names included.
    #[inline]
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }

    /// The size in an uncompressed batch, its length field included.
    #[inline]
    pub fn encoded_size(&self) -> usize {
        self.encoded_size
    }
}

/// The headers of a record: a list with order and repetitions, checked when it was decoded.
/// Copying it starts a second, independent iteration.
#[derive(Clone, Copy)]
pub struct Headers<'a> {
    rest: &'a [u8],
    remaining: u32,
}

impl<'a> Headers<'a> {
    /// No headers.
    pub const EMPTY: Headers<'static> = Headers { rest: &[], remaining: 0 };

    /// As they are stored, and how many there are.
    pub(crate) fn raw(&self) -> (&'a [u8], u32) {
        (self.rest, self.remaining)
    }

    /// What [`Headers::raw`] took apart, or a copy of it.
    pub(crate) fn from_raw(rest: &'a [u8], remaining: u32) -> Headers<'a> {
        Headers { rest, remaining }
    }

    /// How many headers there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.remaining as usize
    }

    /// There are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.remaining == 0
    }

    /// The headers in order.
    #[inline]
    pub fn iter(&self) -> HeadersIter<'a> {
        HeadersIter { headers: *self }
    }

    /// The last header of this name, as Kafka's `lastHeader`.
    pub fn last(&self, name: &str) -> Option<Header<'a>> {
        self.iter().filter(|header| header.name_bytes() == name.as_bytes()).last()
    }

    #[inline]
    fn check(mut self) -> Result<(), BatchFault> {
        if self.remaining as usize > self.rest.len() / HEADER_SIZE_MIN {
            return Err(BatchFault::BadRecords("more headers than bytes for them"));
        }
        while self.remaining > 0 {
            self.step()?;
        }
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(BatchFault::BadRecords("a record is longer than its fields"))
        }
    }

    /// Decodes one header; `remaining` is not 0.
    #[inline]
    fn step(&mut self) -> Result<Header<'a>, BatchFault> {
        let (name, rest) = nullable(self.rest)?;
        let name = name.ok_or(BatchFault::BadRecords("a header has no name"))?;
        let (value, rest) = nullable(rest)?;
        self.rest = rest;
        self.remaining -= 1;
        Ok(Header { name, value })
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = Header<'a>;
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> HeadersIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Headers<'a> {
    type Item = Header<'a>;
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> HeadersIter<'a> {
        self.iter()
    }
}

/// Iterates over [`Headers`].
#[derive(Debug, Clone)]
pub struct HeadersIter<'a> {
    headers: Headers<'a>,
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = Header<'a>;

    #[inline]
    fn next(&mut self) -> Option<Header<'a>> {
        if self.headers.remaining == 0 {
            return None;
        }
        // `check` walked these bytes, so the step cannot fail.
        self.headers.step().ok()
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.headers.len(), Some(self.headers.len()))
    }
}

impl ExactSizeIterator for HeadersIter<'_> {}
impl FusedIterator for HeadersIter<'_> {}

/// One header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    name: &'a [u8],
    value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// The name. Bytes that are not UTF-8 are replaced as Kafka's clients replace them; nothing
    /// is allocated otherwise.
    #[inline]
    pub fn name(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.name)
    }

    /// The name as it is stored.
    #[inline]
    pub fn name_bytes(&self) -> &'a [u8] {
        self.name
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }
}

/// Shows sizes, as every type here that holds what a record carries: it may be large, or secret.
impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp)
            .field("key_size", &self.key.map(<[u8]>::len))
            .field("value_size", &self.value.map(<[u8]>::len))
            .field("headers", &self.headers)
            .finish()
    }
}

/// Shows how many are to come, and the size of their bytes.
impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("base_offset", &self.base_offset)
            .field("remaining", &self.remaining)
            .field("size", &self.rest.len())
            .finish_non_exhaustive()
    }
}

/// Shows each header as [`Header`] does.
impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Shows the name and the size.
impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_header(f, &self.name(), self.value)
    }
}

/// A header as `Debug` shows it.
pub(super) fn write_header(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    value: Option<&[u8]>,
) -> fmt::Result {
    match value {
        Some(value) => write!(f, "{name:?}: {} bytes", value.len()),
        None => write!(f, "{name:?}: none"),
    }
}
