//! Snappy in the framing of snappy-java (xerial): a header of 16 bytes, then chunks of a
//! big-endian length and a raw block of up to 32 KiB. Without that header the whole input is read
//! as one raw block, which is what some other clients write.
//!
//! ```text
//! 82 "SNAPPY" 00 | version i32 = 1 | least compatible version i32 = 1 | (length i32 | block)*
//! ```

use snap::raw;

use super::{Refusal, make_room};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const VERSION: i32 = 1;
/// snappy-java's default.
const BLOCK_SIZE: usize = 32 << 10;
/// A copy element yields at most 64 bytes from 3.
const EXPANSION_MAX: usize = 22;

pub(super) fn decompress(input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Refusal> {
    if !input.starts_with(&MAGIC) {
        return block(input, out, limit);
    }
    let mut rest = header(input)?;
    while !rest.is_empty() {
        // Streams may be joined, each with its own header.
        if rest.starts_with(&MAGIC) {
            rest = header(rest)?;
            continue;
        }
        let (length, behind) = big_endian(rest)?;
        let (chunk, behind) = usize::try_from(length)
            .ok()
            .and_then(|length| behind.split_at_checked(length))
            .ok_or("a chunk is longer than the input")?;
        block(chunk, out, limit)?;
        rest = behind;
    }
    Ok(())
}

/// Checks the header at the start of `input` and returns what is behind it.
fn header(input: &[u8]) -> Result<&[u8], Refusal> {
    let rest = input.get(MAGIC.len()..).unwrap_or_default();
    let (version, rest) = big_endian(rest)?;
    let (_, rest) = big_endian(rest)?;
    if version < VERSION {
        return Err(Refusal::Malformed(format!("unknown version {version} of the framing")));
    }
    Ok(rest)
}

fn big_endian(input: &[u8]) -> Result<(i32, &[u8]), Refusal> {
    let (bytes, rest) = input.split_first_chunk::<4>().ok_or("the framing is cut off")?;
    Ok((i32::from_be_bytes(*bytes), rest))
}

/// Appends one raw block. Its length field is believed only as far as the block could fill it.
fn block(input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Refusal> {
    let length = raw::decompress_len(input)?;
    if length > input.len().saturating_mul(EXPANSION_MAX) {
        return Err(Refusal::Malformed("a block declares more than it can hold".to_owned()));
    }
    if length > limit - out.len() {
        return Err(Refusal::TooLarge);
    }
    let start = out.len();
    make_room(out, length, limit);
    out.resize(start + length, 0);
    let to = out.get_mut(start..).unwrap_or_default();
    let written = raw::Decoder::new().decompress(input, to)?;
    out.truncate(start + written);
    Ok(())
}

pub(super) struct Encoder {
    snappy: raw::Encoder,
}

impl Encoder {
    pub(super) fn new() -> Encoder {
        Encoder { snappy: raw::Encoder::new() }
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&VERSION.to_be_bytes());
        for chunk in input.chunks(BLOCK_SIZE) {
            let length_at = out.len();
            let start = length_at + 4;
            out.resize(start + raw::max_compress_len(chunk.len()), 0);
            let to = out.get_mut(start..).unwrap_or_default();
            let written = self.snappy.compress(chunk, to).map_err(|error| error.to_string())?;
            out.truncate(start + written);
            let length = i32::try_from(written).map_err(|error| error.to_string())?;
            if let Some(to) = out.get_mut(length_at..start) {
                to.copy_from_slice(&length.to_be_bytes());
            }
        }
        Ok(())
    }
}
