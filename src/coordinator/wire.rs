//! The primitive encodings of Kafka's messages: big-endian integers, strings, bytes, arrays.
//!
//! Reading never panics and never allocates more than the input is long: a count is believed only
//! as far as the bytes that are left could hold that many elements.

use std::sync::Arc;

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireFault {
    /// The bytes end inside a field.
    Short,
    /// A length or a count below the least that is allowed, or beyond the bytes that are left.
    BadLength,
    /// A string that is not UTF-8.
    NotUtf8,
    /// A null where the schema has none.
    UnexpectedNull,
    /// A variable-length integer of more than five bytes.
    BadVarint,
    /// A version that this crate does not know.
    UnknownVersion(i16),
    /// A number that names no state.
    UnknownState(i8),
}

impl std::fmt::Display for WireFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WireFault::Short => f.write_str("the bytes end inside a field"),
            WireFault::BadLength => f.write_str("a length does not fit the bytes"),
            WireFault::NotUtf8 => f.write_str("a string is not UTF-8"),
            WireFault::UnexpectedNull => f.write_str("a field is null that must not be"),
            WireFault::BadVarint => f.write_str("a variable-length integer is too long"),
            WireFault::UnknownVersion(version) => write!(f, "version {version} is not known"),
            WireFault::UnknownState(state) => write!(f, "state {state} is not known"),
        }
    }
}

pub(crate) type Wire<T> = std::result::Result<T, WireFault>;

/// Reads fields from the front of a slice.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    fn take(&mut self, len: usize) -> Wire<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(len).ok_or(WireFault::Short)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Wire<[u8; N]> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(WireFault::Short)?;
        self.rest = tail;
        Ok(*head)
    }

    pub(crate) fn int8(&mut self) -> Wire<i8> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub(crate) fn int16(&mut self) -> Wire<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(crate) fn int32(&mut self) -> Wire<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(crate) fn int64(&mut self) -> Wire<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(crate) fn uuid(&mut self) -> Wire<[u8; 16]> {
        self.array()
    }

    /// An unsigned varint of at most five bytes; not zigzag.
    pub(crate) fn uvarint(&mut self) -> Wire<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                return Err(WireFault::BadVarint);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireFault::BadVarint)
    }

    /// A string with a 16-bit length; -1 is null.
    pub(crate) fn nullable_string(&mut self) -> Wire<Option<&'a str>> {
        let len = self.int16()?;
        self.text(i64::from(len))
    }

    pub(crate) fn string(&mut self) -> Wire<&'a str> {
        self.nullable_string()?.ok_or(WireFault::UnexpectedNull)
    }

    /// A string with a varint length plus one; 0 is null.
    pub(crate) fn nullable_compact_string(&mut self) -> Wire<Option<&'a str>> {
        let len = self.uvarint()?;
        self.text(i64::from(len) - 1)
    }

    pub(crate) fn compact_string(&mut self) -> Wire<&'a str> {
        self.nullable_compact_string()?.ok_or(WireFault::UnexpectedNull)
    }

    fn text(&mut self, len: i64) -> Wire<Option<&'a str>> {
        match self.blob(len)? {
            Some(bytes) => std::str::from_utf8(bytes).map(Some).map_err(|_| WireFault::NotUtf8),
            None => Ok(None),
        }
    }

    fn blob(&mut self, len: i64) -> Wire<Option<&'a [u8]>> {
        match len {
            -1 => Ok(None),
            len => self.take(usize::try_from(len).map_err(|_| WireFault::BadLength)?).map(Some),
        }
    }

    /// Bytes with a 32-bit length; -1 is null.
    pub(crate) fn nullable_bytes(&mut self) -> Wire<Option<&'a [u8]>> {
        let len = self.int32()?;
        self.blob(i64::from(len))
    }

    /// Bytes with a varint length plus one; 0 is null.
    pub(crate) fn nullable_compact_bytes(&mut self) -> Wire<Option<&'a [u8]>> {
        let len = self.uvarint()?;
        self.blob(i64::from(len) - 1)
    }

    /// An array's count, for elements of at least `least` bytes each. Null reads as 0.
    pub(crate) fn count(&mut self, least: usize) -> Wire<usize> {
        match self.int32()? {
            -1 => Ok(0),
            count => self.checked_count(i64::from(count), least),
        }
    }

    /// A compact array's count, for elements of at least `least` bytes each. Null reads as 0.
    pub(crate) fn compact_count(&mut self, least: usize) -> Wire<usize> {
        match self.uvarint()? {
            0 => Ok(0),
            count => self.checked_count(i64::from(count) - 1, least),
        }
    }

    fn checked_count(&self, count: i64, least: usize) -> Wire<usize> {
        let count = usize::try_from(count).map_err(|_| WireFault::BadLength)?;
        if count > self.rest.len() / least.max(1) {
            return Err(WireFault::BadLength);
        }
        Ok(count)
    }

    /// Tagged fields: `each` is given the tag and the field's own bytes.
    pub(crate) fn tagged(&mut self, mut each: impl FnMut(u32, &'a [u8]) -> Wire<()>) -> Wire<()> {
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let size = self.uvarint()?;
            let size = usize::try_from(size).map_err(|_| WireFault::BadLength)?;
            each(tag, self.take(size)?)?;
        }
        Ok(())
    }

    pub(crate) fn skip_tagged(&mut self) -> Wire<()> {
        self.tagged(|_, _| Ok(()))
    }
}

/// The longest string that Kafka reads, in bytes, also where the encoding has room for more
/// (`MessageGenerator`): a longer one in a record of `__consumer_offsets` loses it the partition.
pub(crate) const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// The beginning of a text that Kafka reads. Callers refuse what is longer; what was read from a
/// foreign record may be written anew, and is cut at a character boundary.
fn readable(text: &str) -> &str {
    let mut end = text.len().min(STRING_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// An owned copy of text that was read.
pub(crate) fn shared(text: &str) -> Arc<str> {
    Arc::from(text)
}

/// Appends fields to a buffer. A string is at most [`STRING_BYTES_MAX`] long; other lengths were
/// either read by [`Reader`] or are bounded by a setting far below the format's limits.
pub(crate) trait Put {
    fn put_int16(&mut self, value: i16);
    fn put_int32(&mut self, value: i32);
    fn put_int64(&mut self, value: i64);
    fn put_uvarint(&mut self, value: u32);
    fn put_string(&mut self, text: &str);
    fn put_nullable_string(&mut self, text: Option<&str>);
    fn put_compact_string(&mut self, text: &str);
    fn put_bytes(&mut self, bytes: &[u8]);
    fn put_nullable_bytes(&mut self, bytes: Option<&[u8]>);
    fn put_count(&mut self, count: usize);
    fn put_compact_count(&mut self, count: usize);
}

impl Put for Vec<u8> {
    fn put_int16(&mut self, value: i16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_int32(&mut self, value: i32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_int64(&mut self, value: i64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_string(&mut self, text: &str) {
        let text = readable(text);
        self.put_int16(text.len() as i16);
        self.extend_from_slice(text.as_bytes());
    }

    fn put_nullable_string(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.put_string(text),
            None => self.put_int16(-1),
        }
    }

    fn put_compact_string(&mut self, text: &str) {
        let text = readable(text);
        self.put_uvarint(text.len() as u32 + 1);
        self.extend_from_slice(text.as_bytes());
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_int32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        self.extend_from_slice(bytes);
    }

    fn put_nullable_bytes(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.put_bytes(bytes),
            None => self.put_int32(-1),
        }
    }

    fn put_count(&mut self, count: usize) {
        self.put_int32(i32::try_from(count).unwrap_or(i32::MAX));
    }

    fn put_compact_count(&mut self, count: usize) {
        self.put_uvarint(u32::try_from(count).map_or(u32::MAX, |count| count.saturating_add(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_reads_back_what_was_written() {
        for value in [0, 1, 127, 128, 300, 16_384, u32::MAX] {
            let mut bytes = Vec::new();
            bytes.put_uvarint(value);
            assert_eq!(Reader::new(&bytes).uvarint(), Ok(value));
        }
        assert_eq!(Reader::new(&[0x80; 6]).uvarint(), Err(WireFault::BadVarint));
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).uvarint(),
            Err(WireFault::BadVarint)
        );
        assert_eq!(Reader::new(&[0x80]).uvarint(), Err(WireFault::Short));
    }

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_refused() {
        assert_eq!(Reader::new(&[0x7f, 0xff, 0xff, 0xff, 0]).count(1), Err(WireFault::BadLength));
        assert_eq!(Reader::new(&[0, 0, 0, 2, 0, 0, 0, 0]).count(2), Ok(2));
        assert_eq!(Reader::new(&[0, 0, 0, 3, 0, 0, 0, 0]).count(2), Err(WireFault::BadLength));
        assert_eq!(Reader::new(&[0xff; 4]).count(8), Ok(0));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xfe]).count(1), Err(WireFault::BadLength));
    }

    #[test]
    fn null_and_negative_lengths_are_told_apart() {
        assert_eq!(Reader::new(&[0xff, 0xff]).nullable_string(), Ok(None));
        assert_eq!(Reader::new(&[0xff, 0xff]).string(), Err(WireFault::UnexpectedNull));
        assert_eq!(Reader::new(&[0xff, 0xfe]).nullable_string(), Err(WireFault::BadLength));
        assert_eq!(Reader::new(&[0, 1, 0xff]).string(), Err(WireFault::NotUtf8));
        assert_eq!(Reader::new(&[0]).nullable_compact_string(), Ok(None));
    }

    #[test]
    fn a_string_longer_than_kafka_reads_is_cut_between_characters() {
        let text = "\u{20ac}".repeat(11_000);
        let (mut plain, mut compact) = (Vec::new(), Vec::new());
        plain.put_string(&text);
        compact.put_compact_string(&text);
        let read = Reader::new(&plain).string().unwrap();
        assert_eq!(read.len(), 32_766);
        assert!(text.starts_with(read));
        assert_eq!(Reader::new(&compact).compact_string(), Ok(read));
    }
}
