//! The buffer in which a small batch is put together, and from which it is checksummed and stored
//! in one piece; large fields are passed through.
//!
//! Everything is written as aligned words of eight bytes, assembled in a register. The checksum
//! reads the same words, so that the processor forwards each from the store before it; with
//! stores of other sizes it would wait for the stores to reach the cache, which doubles the time
//! of a small batch.

use super::batch::{BATCH_OVERHEAD, BatchHeader, CRC_FROM};
use super::crc::{crc32c, crc32c_append, crc32c_append_few};
use super::encode::{Sink, zigzag_len};
use super::varint;

/// Header, some fields, and one field of [`STAGED_FIELD_MAX`].
const SIZE: usize = 192;
/// From this length on, a field is cheaper to checksum and store where it is than to copy first.
const STAGED_FIELD_MAX: usize = 64;
const WORD: usize = 8;
/// Where the batch begins in the buffer: its checksummed part, from byte 21 on, is aligned.
const BATCH_AT: usize = 3;
const PAYLOAD_AT: usize = BATCH_AT + BATCH_OVERHEAD;

/// The buffer's bytes, aligned for whole words.
#[repr(align(8))]
pub(super) struct Buffer([u8; SIZE]);

impl Buffer {
    #[inline]
    pub(super) fn new() -> Buffer {
        Buffer([0; SIZE])
    }
}

/// Gathers the payload behind a header.
pub(super) struct Packer<'s, S> {
    sink: &'s mut S,
    buffer: &'s mut Buffer,
    /// Where in the batch the bytes from `from` on belong.
    at: usize,
    crc: Option<u32>,
    /// The word that is being filled, from its low bits.
    word: u64,
    word_bits: u32,
    /// Bytes of the buffer that are filled with whole words.
    filled: usize,
}

impl<'s, S: Sink> Packer<'s, S> {
    #[inline]
    pub(super) fn new(
        sink: &'s mut S,
        buffer: &'s mut Buffer,
        header: &BatchHeader,
    ) -> Packer<'s, S> {
        let words = buffer.0.as_chunks_mut::<WORD>().0;
        let checked = words.iter_mut().skip((BATCH_AT + CRC_FROM) / WORD);
        for (to, from) in checked.zip(header.checked_words()) {
            *to = from.to_be_bytes();
        }
        Packer {
            sink,
            buffer,
            at: BATCH_OVERHEAD,
            crc: None,
            word: 0,
            word_bits: 0,
            filled: PAYLOAD_AT,
        }
    }

    /// Adds the `len` low bytes of `value`, at most eight, lowest first; the others are 0.
    #[inline]
    pub(super) fn push(&mut self, value: u64, len: u32) {
        self.word |= value << self.word_bits;
        let bits = self.word_bits + 8 * len;
        if bits < u64::BITS {
            self.word_bits = bits;
            return;
        }
        let room = u64::BITS - self.word_bits;
        self.store(self.word);
        self.word = value.checked_shr(room).unwrap_or(0);
        self.word_bits = bits - u64::BITS;
    }

    #[inline]
    fn store(&mut self, word: u64) {
        if self.filled == SIZE {
            self.flush();
        }
        if let Some(to) = self.buffer.0.get_mut(self.filled..self.filled + WORD) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        self.filled += WORD;
    }

    /// Adds a length as a zigzag integer.
    #[inline]
    pub(super) fn length(&mut self, length: usize) {
        let value = zigzag_len(length);
        if value < 0x80 {
            self.push(value, 1);
        } else if value < 0x4000 {
            self.push(value & 0x7f | 0x80 | (value >> 7) << 8, 2);
        } else {
            self.long_length(value);
        }
    }

    #[cold]
    fn long_length(&mut self, value: u64) {
        let mut bytes = [0; varint::MAX_LEN_64];
        let len = varint::write_u64(&mut bytes, value);
        for &byte in bytes.iter().take(len) {
            self.push(u64::from(byte), 1);
        }
    }

    /// Adds a field behind its length.
    #[inline]
    pub(super) fn nullable(&mut self, field: Option<&[u8]>) {
        match field {
            None => self.push(1, 1),
            Some(bytes) => {
                self.length(bytes.len());
                if bytes.len() <= STAGED_FIELD_MAX {
                    self.copy(bytes);
                } else {
                    self.pass(bytes);
                }
            }
        }
    }

    #[inline]
    fn copy(&mut self, bytes: &[u8]) {
        if self.filled + bytes.len() + WORD > SIZE {
            self.flush();
        }
        let (words, tail) = bytes.as_chunks::<WORD>();
        let shift = self.word_bits;
        let room = self.buffer.0.get_mut(self.filled..).unwrap_or_default();
        let mut word = self.word;
        for (to, from) in room.as_chunks_mut::<WORD>().0.iter_mut().zip(words) {
            let value = u64::from_le_bytes(*from);
            *to = (word | value << shift).to_le_bytes();
            // In two steps, because a shift by 64 is none.
            word = value >> 1 >> (63 - shift);
        }
        self.word = word;
        self.filled += words.len() * WORD;
        for &byte in tail {
            self.push(u64::from(byte), 1);
        }
    }

    #[inline(never)]
    fn pass(&mut self, bytes: &[u8]) {
        self.flush();
        let crc = self.crc.unwrap_or(0);
        self.crc = Some(crc32c_append(crc, bytes));
        self.sink.put(self.at, bytes);
        self.at += bytes.len();
    }

    /// Checksums and stores what is gathered.
    #[inline]
    fn flush(&mut self) {
        if self.word_bits > 0 {
            let bytes = self.word.to_le_bytes();
            if let Some(to) = self.buffer.0.get_mut(self.filled..self.filled + WORD) {
                to.copy_from_slice(&bytes);
            }
            self.filled += self.word_bits as usize / 8;
            self.word = 0;
            self.word_bits = 0;
        }
        let payload = match self.crc {
            None => {
                let checked = self.buffer.0.get(BATCH_AT + CRC_FROM..self.filled);
                self.crc = Some(crc32c(checked.unwrap_or_default()));
                self.buffer.0.get(PAYLOAD_AT..self.filled).unwrap_or_default()
            }
            Some(crc) => {
                let payload = self.buffer.0.get(..self.filled).unwrap_or_default();
                self.crc = Some(if payload.len() <= 8 {
                    crc32c_append_few(crc, payload)
                } else {
                    crc32c_append(crc, payload)
                });
                payload
            }
        };
        self.sink.put(self.at, payload);
        self.at += payload.len();
        self.filled = 0;
    }

    /// Stores the rest and returns the checksum of the batch.
    #[inline]
    pub(super) fn finish(&mut self) -> u32 {
        self.flush();
        self.crc.unwrap_or(0)
    }
}
