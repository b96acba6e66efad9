//! Variable-length integers as Kafka writes them: groups of seven bits, lowest first.
//!
//! Signed values are zigzag-mapped, so that small negative numbers stay short. Readers accept
//! every encoding of at most 5 bytes (32 bits) or 10 bytes (64 bits), shortest or not, and refuse
//! longer ones and those whose bits do not fit the type. Writers emit the shortest form.

use std::fmt;

/// The longest encoding of a 32-bit value, in bytes.
pub const MAX_LEN_32: usize = 5;
/// The longest encoding of a 64-bit value, in bytes.
pub const MAX_LEN_64: usize = 10;

/// The reason why bytes are not a variable-length integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VarintFault {
    /// The bytes end inside the integer.
    Truncated,
    /// More bytes or bits than the type can have.
    Overlong,
}

impl VarintFault {
    /// A sentence fragment for messages.
    pub fn reason(self) -> &'static str {
        match self {
            VarintFault::Truncated => "a variable-length integer is cut off",
            VarintFault::Overlong => "a variable-length integer is too long for its type",
        }
    }
}

impl fmt::Display for VarintFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for VarintFault {}

/// Maps a signed value to an unsigned one, small magnitudes first: 0, -1, 1, -2, 2, ...
#[inline]
pub const fn zigzag_32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)).cast_unsigned()
}

/// The inverse of [`zigzag_32`].
#[inline]
pub const fn unzigzag_32(value: u32) -> i32 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Maps a signed value to an unsigned one, small magnitudes first.
#[inline]
pub const fn zigzag_64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag_64`].
#[inline]
pub const fn unzigzag_64(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// How many bytes [`put_u32`] appends.
#[inline]
pub const fn len_u32(value: u32) -> usize {
    len_u64(value as u64)
}

/// How many bytes [`put_u64`] appends.
#[inline(always)]
pub const fn len_u64(value: u64) -> usize {
    // Nearly all lengths and deltas: two comparisons that always go the same way.
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => (70 - value.leading_zeros()) as usize / 7,
    }
}

/// How many bytes [`put_i32`] appends.
#[inline]
pub const fn len_i32(value: i32) -> usize {
    len_u32(zigzag_32(value))
}

/// How many bytes [`put_i64`] appends.
#[inline]
pub const fn len_i64(value: i64) -> usize {
    len_u64(zigzag_64(value))
}

/// Appends an unsigned 32-bit value.
#[inline]
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    put_u64(out, u64::from(value));
}

/// Appends an unsigned 64-bit value.
#[inline]
pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_group(value) | 0x80);
        value >>= 7;
    }
    out.push(low_group(value));
}

/// Appends a zigzag 32-bit value.
#[inline]
pub fn put_i32(out: &mut Vec<u8>, value: i32) {
    put_u32(out, zigzag_32(value));
}

/// Appends a zigzag 64-bit value.
#[inline]
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, zigzag_64(value));
}

/// Writes an unsigned value to the start of `out` and returns its length in bytes, or 0 with
/// nothing useful written when `out` is too short.
#[inline]
pub fn write_u64(out: &mut [u8], mut value: u64) -> usize {
    let mut len = 0;
    for slot in out.iter_mut() {
        len += 1;
        if value < 0x80 {
            *slot = low_group(value);
            return len;
        }
        *slot = low_group(value) | 0x80;
        value >>= 7;
    }
    0
}

#[inline]
const fn low_group(value: u64) -> u8 {
    (value & 0x7f) as u8
}

/// Reads an unsigned 32-bit value and returns it with the bytes behind it.
///
/// # Errors
/// [`VarintFault`] when the bytes end too early, or the value does not fit.
#[inline(always)]
pub fn read_u32(bytes: &[u8]) -> Result<(u32, &[u8]), VarintFault> {
    // One byte holds what attributes, deltas and short keys need, two bytes the length of a
    // record up to 8 KiB; longer ones are rare enough for a loop.
    match bytes {
        [a, rest @ ..] if *a < 0x80 => Ok((u32::from(*a), rest)),
        [a, b, rest @ ..] if *b < 0x80 => Ok((u32::from(*a & 0x7f) | u32::from(*b) << 7, rest)),
        _ => {
            let (value, rest) = read_long(bytes, MAX_LEN_32)?;
            let value = u32::try_from(value).map_err(|_| VarintFault::Overlong)?;
            Ok((value, rest))
        }
    }
}

/// Reads an unsigned 64-bit value and returns it with the bytes behind it.
///
/// # Errors
/// [`VarintFault`] when the bytes end too early, or the value does not fit.
#[inline(always)]
pub fn read_u64(bytes: &[u8]) -> Result<(u64, &[u8]), VarintFault> {
    match bytes {
        [a, rest @ ..] if *a < 0x80 => Ok((u64::from(*a), rest)),
        [a, b, rest @ ..] if *b < 0x80 => Ok((u64::from(*a & 0x7f) | u64::from(*b) << 7, rest)),
        _ => read_long(bytes, MAX_LEN_64),
    }
}

/// Reads a zigzag 32-bit value and returns it with the bytes behind it.
///
/// # Errors
/// [`VarintFault`] when the bytes end too early, or the value does not fit.
#[inline(always)]
pub fn read_i32(bytes: &[u8]) -> Result<(i32, &[u8]), VarintFault> {
    let (value, rest) = read_u32(bytes)?;
    Ok((unzigzag_32(value), rest))
}

/// Reads a zigzag 64-bit value and returns it with the bytes behind it.
///
/// # Errors
/// [`VarintFault`] when the bytes end too early, or the value does not fit.
#[inline(always)]
pub fn read_i64(bytes: &[u8]) -> Result<(i64, &[u8]), VarintFault> {
    let (value, rest) = read_u64(bytes)?;
    Ok((unzigzag_64(value), rest))
}

fn read_long(bytes: &[u8], len_max: usize) -> Result<(u64, &[u8]), VarintFault> {
    let mut value = 0u64;
    let mut rest = bytes;
    for group in 0..len_max {
        let Some((&byte, behind)) = rest.split_first() else {
            return Err(VarintFault::Truncated);
        };
        rest = behind;
        let bits = u64::from(byte & 0x7f);
        // The tenth group has room for one bit only.
        if group == MAX_LEN_64 - 1 && bits > 1 {
            return Err(VarintFault::Overlong);
        }
        value |= bits << (7 * group);
        if byte < 0x80 {
            return Ok((value, rest));
        }
    }
    Err(VarintFault::Overlong)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_encodings_are_those_of_kafka() {
        let cases: [(i32, &[u8]); 9] = [
            (0, &[0x00]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in cases {
            let mut out = Vec::new();
            put_i32(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(len_i32(value), bytes.len(), "{value}");
            assert_eq!(read_i32(bytes), Ok((value, &[][..])), "{value}");
        }
        let mut out = Vec::new();
        put_i64(&mut out, i64::MIN);
        assert_eq!(out, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(read_i64(&out), Ok((i64::MIN, &[][..])));
    }

    #[test]
    fn forms_that_are_longer_than_needed_are_read_up_to_the_width_of_the_type() {
        assert_eq!(read_u32(&[0x80, 0x80, 0x80, 0x80, 0x00, 7]), Ok((0, &[7][..])));
        assert_eq!(read_u32(&[0x80; 6]), Err(VarintFault::Overlong));
        assert_eq!(read_u32(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), Err(VarintFault::Overlong));
        assert_eq!(read_u32(&[0xff, 0xff, 0xff, 0xff, 0x10]), Err(VarintFault::Overlong));
        let mut ten = [0x80; 10];
        ten[9] = 0;
        assert_eq!(read_u64(&ten), Ok((0, &[][..])));
        ten[9] = 1;
        assert_eq!(read_u64(&ten), Ok((1 << 63, &[][..])));
        ten[9] = 2;
        assert_eq!(read_u64(&ten), Err(VarintFault::Overlong));
        assert_eq!(read_u64(&[0x80; 11]), Err(VarintFault::Overlong));
    }

    #[test]
    fn a_cut_integer_is_told_from_an_overlong_one() {
        for len in 0..5 {
            assert_eq!(read_u32(&vec![0x80; len]), Err(VarintFault::Truncated), "{len}");
        }
        for len in 0..10 {
            assert_eq!(read_u64(&vec![0x80; len]), Err(VarintFault::Truncated), "{len}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_has_the_computed_length(
            value in any::<i64>(), shift in 0u32..64, tail in any::<[u8; 3]>(),
        ) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_i64(&mut out, value);
            prop_assert_eq!(out.len(), len_i64(value));
            let mut fixed = [0; MAX_LEN_64];
            let len = write_u64(&mut fixed, zigzag_64(value));
            prop_assert_eq!(&fixed[..len], &out[..]);
            prop_assert_eq!(write_u64(&mut fixed[..len - 1], zigzag_64(value)), 0);
            out.extend(tail);
            prop_assert_eq!(read_i64(&out), Ok((value, &tail[..])));
            if let Ok(narrow) = i32::try_from(value) {
                let mut out = Vec::new();
                put_i32(&mut out, narrow);
                prop_assert_eq!(out.len(), len_i32(narrow));
                out.extend(tail);
                prop_assert_eq!(read_i32(&out), Ok((narrow, &tail[..])));
            }
        }

        #[test]
        fn any_bytes_give_the_same_value_at_both_widths_or_are_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            if let Ok((narrow, rest)) = read_u32(&bytes) {
                prop_assert_eq!(read_u64(&bytes), Ok((u64::from(narrow), rest)));
                prop_assert!(bytes.len() - rest.len() <= MAX_LEN_32);
            }
            if let Ok((_, rest)) = read_u64(&bytes) {
                prop_assert!(bytes.len() - rest.len() <= MAX_LEN_64);
            }
        }
    }
}
