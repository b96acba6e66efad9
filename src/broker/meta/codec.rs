//! The few primitives that the broker's own files are made of: big-endian integers, variable-length
//! ones, and byte strings with their length in front.
//!
//! Reading never panics and never allocates more than the input holds: a length is checked against
//! the bytes that are left before anything is reserved for it.

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub(in crate::broker) struct Encoder(Vec<u8>);

impl Encoder {
    pub fn new() -> Encoder {
        Encoder::default()
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn flag(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Seven bits a byte, the lowest first.
    pub fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Zigzag, then as [`Encoder::unsigned`].
    pub fn signed(&mut self, value: i64) {
        self.unsigned(((value << 1) ^ (value >> 63)) as u64);
    }

    pub fn fixed(&mut self, bytes: &[u8; 16]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.unsigned(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }
}

/// Takes values off the front of untrusted bytes; `None` where they end or make no sense.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn left(&self) -> usize {
        self.0.len()
    }

    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn u8(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub fn i32(&mut self) -> Option<i32> {
        i32::try_from(self.signed()?).ok()
    }

    /// A count of things that take at least `least` bytes each: never more than can follow.
    pub fn count(&mut self, least: usize) -> Option<usize> {
        let count = usize::try_from(self.unsigned()?).ok()?;
        (count <= self.0.len() / least.max(1)).then_some(count)
    }

    pub fn fixed(&mut self) -> Option<[u8; 16]> {
        self.take(16)?.try_into().ok()
    }

    pub fn text(&mut self) -> Option<&'a str> {
        let len = self.count(1)?;
        std::str::from_utf8(self.take(len)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = Encoder::new();
        let numbers = [0, 1, -1, 63, 64, -65, i64::MAX, i64::MIN, 1 << 40];
        for n in numbers {
            out.signed(n);
        }
        for n in [0, 127, 128, u64::MAX] {
            out.unsigned(n);
        }
        out.text("a topic");
        out.flag(true);
        out.u32(7);
        let bytes = out.bytes();
        let mut input = Decoder::new(&bytes);
        for n in numbers {
            assert_eq!(input.signed(), Some(n));
        }
        for n in [0, 127, 128, u64::MAX] {
            assert_eq!(input.unsigned(), Some(n));
        }
        assert_eq!(input.text(), Some("a topic"));
        assert_eq!(input.flag(), Some(true));
        assert_eq!(input.u32(), Some(7));
        assert!(input.is_empty());
        assert_eq!(input.u8(), None);
    }

    #[test]
    fn a_length_beyond_the_input_is_refused_before_it_is_believed() {
        let mut out = Encoder::new();
        out.unsigned(1 << 60);
        let bytes = out.bytes();
        assert_eq!(Decoder::new(&bytes).text(), None);
        assert_eq!(Decoder::new(&bytes).count(1), None);
        assert_eq!(Decoder::new(&[0xff; 10]).unsigned(), None);
        assert_eq!(Decoder::new(&[0x80; 20]).unsigned(), None);
    }
}
