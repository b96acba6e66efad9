//! Putting one record together as a batch: small fields are gathered in a buffer on the stack, so
//! that they are checksummed and stored in one piece, and large ones are passed through.
//!
//! There are three ways: all of it fits the buffer, all but the value does, or neither. They give
//! the same bytes; the tests hold them against the builder.
//!
//! Measured on touched pages, with size and stores into the region, ns a record: 36 for a value
//! of 10 bytes, 50 for 100, 97 for 1 KiB, of which the checksum is 9, 14 and 49.

use super::batch::{BATCH_OVERHEAD, BatchHeader, CRC_FROM};
use super::crc::{crc32c, crc32c_append, crc32c_append_few};
use super::encode::{RecordInput, Sink, body_size, zigzag_len};
use super::varint;

/// The checksummed part of a header, a key, and a field of [`STAGED_FIELD_MAX`]. More would be
/// zeroed by a call.
const SIZE: usize = 256;
/// From this length on it costs less to checksum and store a field where it is (10 ns for the
/// calls) than to copy it first.
const STAGED_FIELD_MAX: usize = 160;
/// The buffer of batches of many records: what is gathered is checksummed in one piece.
const MANY_SIZE: usize = 4096;
/// Records up to this size are gathered without a look at each field.
const STAGED_RECORD_MAX: usize = MANY_SIZE / 4;
/// Short fields are written as whole words, so this much has to be free behind the last one.
const WORD: usize = 8;
/// Where the payload begins in the buffer: behind the checksummed part of the header.
const PAYLOAD_AT: usize = BATCH_OVERHEAD - CRC_FROM;
/// The most bytes of payload that are gathered at once.
const PAYLOAD_MAX: usize = SIZE - PAYLOAD_AT - WORD;

/// Stores the payload of a batch of one record and returns the checksum of the batch. `body` is
/// the size of the record behind its length field.
#[inline]
pub(super) fn put_single(
    sink: &mut impl Sink,
    record: &RecordInput<'_>,
    body: usize,
    header: &BatchHeader,
) -> u32 {
    let payload = varint::len_u64(zigzag_len(body)) + body;
    let value = record.value.unwrap_or_default();
    let mut buffer = Buffer([0; SIZE]);
    // The checksum begins with the header: behind it, what was stored before is in its place.
    let mut staged = Staged::over(&mut buffer);
    // Attributes, timestamp delta and offset delta of the only record of a batch are all 0.
    staged.begin(body, 0, 3);
    if payload <= PAYLOAD_MAX && value.len() <= STAGED_FIELD_MAX {
        staged.nullable(record.key);
        staged.nullable(record.value);
        staged.headers(record);
        staged.put_header(header);
        let crc = crc32c(staged.bytes());
        sink.put(BATCH_OVERHEAD, staged.bytes().get(PAYLOAD_AT..).unwrap_or_default());
        return crc;
    }
    staged.put_header(header);
    if payload - value.len() > PAYLOAD_MAX {
        return Scattered { sink, staged, at: 0, crc: 0 }.put(record);
    }
    staged.nullable(record.key);
    // Without a value nothing would be larger than the rest, so there is one.
    staged.length(value.len());
    let crc = crc32c(staged.bytes());
    sink.put(BATCH_OVERHEAD, staged.bytes().get(PAYLOAD_AT..).unwrap_or_default());
    let crc = crc32c_append(crc, value);
    let value_at = CRC_FROM + staged.len;
    sink.put(value_at, value);
    let tail_at = value_at + value.len();
    if record.headers.is_empty() {
        sink.put(tail_at, &[0]);
        return crc32c_append_few(crc, &[0]);
    }
    staged.len = 0;
    staged.headers(record);
    sink.put(tail_at, staged.bytes());
    crc32c_append(crc, staged.bytes())
}

/// Stores the payload of a batch of `records` and returns the checksum of the batch.
pub(super) fn put_many(
    sink: &mut impl Sink,
    records: &[RecordInput<'_>],
    header: &BatchHeader,
) -> u32 {
    let mut buffer = Buffer([0; MANY_SIZE]);
    let mut staged = Staged::over(&mut buffer);
    staged.put_header(header);
    let mut scattered = Scattered { sink, staged, at: 0, crc: 0 };
    for (offset_delta, record) in (0..).zip(records) {
        let timestamp_delta = record.timestamp.wrapping_sub(header.base_timestamp);
        let body = body_size(record, offset_delta, timestamp_delta);
        let (timestamp, offset) =
            (varint::zigzag_64(timestamp_delta), u64::from(varint::zigzag_32(offset_delta)));
        let is_short = timestamp < 0x80 && offset < 0x4000 && body <= STAGED_RECORD_MAX;
        if is_short && record.headers.is_empty() {
            scattered.room(body + 2 * WORD);
            let staged = &mut scattered.staged;
            // Attributes are 0.
            let (offset, len) = two_bytes(offset);
            staged.begin(body, timestamp << 8 | offset << 16, 2 + len);
            staged.nullable(record.key);
            staged.nullable(record.value);
            staged.push(0, 1);
            continue;
        }
        scattered.room(3 * WORD);
        scattered.staged.length(body);
        scattered.staged.push(0, 1);
        scattered.integer(timestamp);
        scattered.integer(offset);
        scattered.fields(record);
    }
    scattered.flush();
    scattered.crc
}

/// Aligned, so that the checksum reads the header in the words in which it was written, and need
/// not wait for the stores.
#[repr(align(64))]
struct Buffer<const N: usize>([u8; N]);

/// What is gathered. Every field is checked to fit before it comes here; one that does not is
/// left out, which the checksum of the batch shows.
struct Staged<'b, const N: usize> {
    buffer: &'b mut Buffer<N>,
    len: usize,
}

impl<'b, const N: usize> Staged<'b, N> {
    /// Begins behind the part of a header that is under the checksum.
    #[inline(always)]
    fn over(buffer: &'b mut Buffer<N>) -> Staged<'b, N> {
        Staged { buffer, len: PAYLOAD_AT }
    }

    /// Puts the part of `header` that is under the checksum in front.
    #[inline(always)]
    fn put_header(&mut self, header: &BatchHeader) {
        let (words, _) = self.buffer.0.as_chunks_mut::<WORD>();
        if let Some([a, b, c, d, e]) = words.first_chunk_mut() {
            let [v, w, x, y, z] = header.checked_words();
            *a = v.to_be_bytes();
            *b = w.to_be_bytes();
            *c = x.to_be_bytes();
            *d = y.to_be_bytes();
            *e = z.to_be_bytes();
        }
    }

    /// Begins a record: the length of its body, and the `len` bytes, at most 4, that stand before
    /// its key, lowest first.
    #[inline(always)]
    fn begin(&mut self, body: usize, fixed: u64, len: usize) {
        let length = zigzag_len(body);
        if length < 0x4000 {
            // In one word.
            let (length, length_len) = two_bytes(length);
            self.push(length | fixed << (8 * length_len), length_len + len);
        } else {
            self.integer(length);
            self.push(fixed, len);
        }
    }

    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        self.buffer.0.get(..self.len).unwrap_or_default()
    }

    /// Adds the `len` low bytes of `value`, lowest first. What is written above them is
    /// overwritten by what follows, or left out.
    #[inline(always)]
    fn push(&mut self, value: u64, len: usize) {
        if let Some(to) = self.buffer.0.get_mut(self.len..self.len + WORD) {
            to.copy_from_slice(&value.to_le_bytes());
        }
        self.len += len;
    }

    /// Adds a length as a zigzag integer.
    #[inline(always)]
    fn length(&mut self, length: usize) {
        self.integer(zigzag_len(length));
    }

    /// Adds an integer of at most 56 bits.
    #[inline(always)]
    fn integer(&mut self, value: u64) {
        if value < 0x4000 {
            let (bytes, len) = two_bytes(value);
            self.push(bytes, len);
        } else {
            let (bytes, len) = long_integer(value);
            self.push(bytes, len);
        }
    }

    #[inline(always)]
    fn copy(&mut self, bytes: &[u8]) {
        if let Ok(word) = <[u8; WORD]>::try_from(bytes) {
            // Most keys of this length are numbers.
            return self.push(u64::from_le_bytes(word), WORD);
        }
        let end = self.len + bytes.len();
        if let Some(to) = self.buffer.0.get_mut(self.len..end) {
            to.copy_from_slice(bytes);
        }
        self.len = end;
    }

    #[inline(always)]
    fn nullable(&mut self, field: Option<&[u8]>) {
        match field {
            None => self.push(1, 1),
            Some(bytes) => {
                self.length(bytes.len());
                self.copy(bytes);
            }
        }
    }

    #[inline(always)]
    fn headers(&mut self, record: &RecordInput<'_>) {
        self.length(record.headers.len());
        for header in record.headers {
            self.nullable(Some(header.name.as_bytes()));
            self.nullable(header.value);
        }
    }
}

/// An integer below 0x4000 as its bytes, lowest first, and how many they are.
#[inline(always)]
fn two_bytes(value: u64) -> (u64, usize) {
    match value < 0x80 {
        true => (value, 1),
        false => (value & 0x7f | 0x80 | (value >> 7) << 8, 2),
    }
}

#[cold]
fn long_integer(value: u64) -> (u64, usize) {
    let mut bytes = [0; WORD];
    let len = varint::write_u64(&mut bytes, value);
    (u64::from_le_bytes(bytes), len)
}

/// Records that the buffer need not hold: it is stored whenever it is full, and long fields go
/// around it.
struct Scattered<'s, 'b, S, const N: usize> {
    sink: &'s mut S,
    staged: Staged<'b, N>,
    /// How much of the batch is stored; 0 as long as the buffer holds the header.
    at: usize,
    crc: u32,
}

impl<S: Sink, const N: usize> Scattered<'_, '_, S, N> {
    /// The only record of a batch.
    #[cold]
    fn put(mut self, record: &RecordInput<'_>) -> u32 {
        self.fields(record);
        self.flush();
        self.crc
    }

    /// Key, value and headers.
    #[inline]
    fn fields(&mut self, record: &RecordInput<'_>) {
        self.nullable(record.key);
        self.nullable(record.value);
        self.length(record.headers.len());
        for header in record.headers {
            self.nullable(Some(header.name.as_bytes()));
            self.nullable(header.value);
        }
    }

    /// Makes room for `bytes`.
    #[inline]
    fn room(&mut self, bytes: usize) {
        if self.staged.len + bytes > N {
            self.flush();
        }
    }

    #[inline]
    fn length(&mut self, length: usize) {
        self.room(WORD);
        self.staged.length(length);
    }

    /// Any integer, of up to ten bytes.
    #[inline]
    fn integer(&mut self, value: u64) {
        if value < 1 << 56 {
            self.room(WORD);
            return self.staged.integer(value);
        }
        let mut bytes = [0; varint::MAX_LEN_64];
        let len = varint::write_u64(&mut bytes, value);
        self.room(len);
        self.staged.copy(bytes.get(..len).unwrap_or_default());
    }

    #[inline]
    fn nullable(&mut self, field: Option<&[u8]>) {
        let Some(bytes) = field else {
            self.room(WORD);
            self.staged.push(1, 1);
            return;
        };
        self.length(bytes.len());
        if bytes.len() > N / 2 {
            self.flush();
            self.crc = crc32c_append(self.crc, bytes);
            self.sink.put(self.at, bytes);
            self.at += bytes.len();
            return;
        }
        self.room(bytes.len());
        self.staged.copy(bytes);
    }

    fn flush(&mut self) {
        let gathered = self.staged.bytes();
        if gathered.is_empty() {
            return;
        }
        if self.at == 0 {
            self.crc = crc32c(gathered);
            self.sink.put(BATCH_OVERHEAD, gathered.get(PAYLOAD_AT..).unwrap_or_default());
            self.at = CRC_FROM + gathered.len();
        } else {
            self.crc = crc32c_append(self.crc, gathered);
            self.sink.put(self.at, gathered);
            self.at += gathered.len();
        }
        self.staged.len = 0;
    }
}
