//! LZ4 in its standard frame, as Kafka writes and accepts it: version 1, independent blocks. A
//! frame is written with blocks of 64 KiB, no content size and no checksums; read are all block
//! sizes, content sizes, and checksums of blocks and content, which are verified. Dependent
//! blocks and dictionaries are refused, as Kafka does. What follows the end mark is ignored.
//!
//! Departure: D43. Levels 1 to 17 are accepted and all compress alike, with the fast method that is
//! Kafka's default: no pure Rust implementation has the slow one.
//!
//! ```text
//! 04 22 4d 18 | FLG | BD | [content size u64] | HC
//!   | (size u32 | block | [xxh32])* | 0 u32 | [xxh32]
//! ```

use lz4_flex::block;

use super::{Refusal, make_room};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const FLG_VERSION: u8 = 0x40;
const FLG_VERSION_MASK: u8 = 0xc0;
const FLG_INDEPENDENT: u8 = 0x20;
const FLG_BLOCK_CHECKSUM: u8 = 0x10;
const FLG_CONTENT_SIZE: u8 = 0x08;
const FLG_CONTENT_CHECKSUM: u8 = 0x04;
/// Bit 1 is reserved, bit 0 announces a dictionary.
const FLG_REFUSED: u8 = 0x03;
/// Blocks of 64 KiB.
const BD_64_KIB: u8 = 0x40;
const BD_REFUSED: u8 = 0x8f;
const BLOCK_SIZE: usize = 64 << 10;
/// In a block's size: the block is stored as it is.
const STORED_BIT: u32 = 0x8000_0000;
/// A length byte of 255 stands for 255 bytes of a match.
const EXPANSION_MAX: usize = 255;

pub(super) fn decompress(input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Refusal> {
    let (frame, mut rest) = header(input)?;
    loop {
        let (size, behind) = little_endian(rest)?;
        if size == 0 {
            rest = behind;
            break;
        }
        let length = (size & !STORED_BIT) as usize;
        if length > frame.block_size_max {
            return Err(Refusal::Malformed(format!("a block of {length} bytes is too long")));
        }
        let (bytes, behind) =
            behind.split_at_checked(length).ok_or("a block is longer than the input")?;
        rest = behind;
        if frame.block_checksum {
            let (stored, behind) = little_endian(rest)?;
            rest = behind;
            if stored != xxh32(bytes) {
                return Err(Refusal::Malformed("the checksum of a block is wrong".to_owned()));
            }
        }
        let room = limit - out.len();
        if size & STORED_BIT != 0 {
            if length > room {
                return Err(Refusal::TooLarge);
            }
            make_room(out, length, limit);
            out.extend_from_slice(bytes);
        } else {
            expand(bytes, out, frame.block_size_max, room)?;
        }
    }
    if frame.content_checksum {
        let (stored, _) = little_endian(rest)?;
        if stored != xxh32(out) {
            return Err(Refusal::Malformed("the checksum of the content is wrong".to_owned()));
        }
    }
    match frame.content_size {
        Some(size) if size != out.len() as u64 => {
            Err(Refusal::Malformed("the content is not as long as declared".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Appends one compressed block of at most `block_size_max` and `room` bytes.
fn expand(
    bytes: &[u8],
    out: &mut Vec<u8>,
    block_size_max: usize,
    room: usize,
) -> Result<(), Refusal> {
    let start = out.len();
    let possible = block_size_max.min(bytes.len().saturating_mul(EXPANSION_MAX));
    let space = possible.min(room);
    make_room(out, space, start + room);
    out.resize(start + space, 0);
    let to = out.get_mut(start..).unwrap_or_default();
    match block::decompress_into(bytes, to) {
        Ok(written) => {
            out.truncate(start + written);
            Ok(())
        }
        Err(block::DecompressError::OutputTooSmall { .. }) if space < possible => {
            Err(Refusal::TooLarge)
        }
        Err(error) => Err(error.into()),
    }
}

struct Frame {
    block_size_max: usize,
    block_checksum: bool,
    content_checksum: bool,
    content_size: Option<u64>,
}

/// Decodes the frame's header and returns what is behind it.
fn header(input: &[u8]) -> Result<(Frame, &[u8]), Refusal> {
    let (magic, described) = input.split_first_chunk::<4>().ok_or("the frame is cut off")?;
    if *magic != MAGIC {
        return Err(Refusal::Malformed("no LZ4 frame begins here".to_owned()));
    }
    let (&[flg, bd], mut rest) =
        described.split_first_chunk::<2>().ok_or("the frame header is cut off")?;
    if flg & FLG_VERSION_MASK != FLG_VERSION || flg & FLG_REFUSED != 0 || bd & BD_REFUSED != 0 {
        return Err(Refusal::Malformed(format!("frame flags {flg:#04x} {bd:#04x} are refused")));
    }
    if flg & FLG_INDEPENDENT == 0 {
        return Err(Refusal::Malformed("blocks that depend on others are refused".to_owned()));
    }
    let block_size_max = match bd >> 4 {
        4 => BLOCK_SIZE,
        5 => 256 << 10,
        6 => 1 << 20,
        7 => 4 << 20,
        size => return Err(Refusal::Malformed(format!("block size {size} does not exist"))),
    };
    let mut content_size = None;
    if flg & FLG_CONTENT_SIZE != 0 {
        let (size, behind) = rest.split_first_chunk::<8>().ok_or("the frame header is cut off")?;
        content_size = Some(u64::from_le_bytes(*size));
        rest = behind;
    }
    let hashed = described.get(..described.len() - rest.len()).unwrap_or_default();
    let (&stored, rest) = rest.split_first().ok_or("the frame header is cut off")?;
    if stored != header_check(hashed) {
        return Err(Refusal::Malformed("the checksum of the frame header is wrong".to_owned()));
    }
    let frame = Frame {
        block_size_max,
        block_checksum: flg & FLG_BLOCK_CHECKSUM != 0,
        content_checksum: flg & FLG_CONTENT_CHECKSUM != 0,
        content_size,
    };
    Ok((frame, rest))
}

fn header_check(described: &[u8]) -> u8 {
    let [_, check, ..] = xxh32(described).to_le_bytes();
    check
}

fn little_endian(input: &[u8]) -> Result<(u32, &[u8]), Refusal> {
    let (bytes, rest) = input.split_first_chunk::<4>().ok_or("the frame is cut off")?;
    Ok((u32::from_le_bytes(*bytes), rest))
}

pub(super) struct Encoder {
    block: Vec<u8>,
}

impl Encoder {
    pub(super) fn new() -> Encoder {
        Encoder { block: Vec::new() }
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let described = [FLG_VERSION | FLG_INDEPENDENT, BD_64_KIB];
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&described);
        out.push(header_check(&described));
        for chunk in input.chunks(BLOCK_SIZE) {
            self.block.resize(block::get_maximum_output_size(chunk.len()), 0);
            let written =
                block::compress_into(chunk, &mut self.block).map_err(|error| error.to_string())?;
            let (size, bytes) = match self.block.get(..written) {
                Some(packed) if written < chunk.len() => (written as u32, packed),
                _ => (chunk.len() as u32 | STORED_BIT, chunk),
            };
            out.extend_from_slice(&size.to_le_bytes());
            out.extend_from_slice(bytes);
        }
        out.extend_from_slice(&0u32.to_le_bytes());
        Ok(())
    }
}

/// xxHash with 32 bits and seed 0, the checksum of LZ4 frames.
fn xxh32(bytes: &[u8]) -> u32 {
    const P1: u32 = 0x9e37_79b1;
    const P2: u32 = 0x85eb_ca77;
    const P3: u32 = 0xc2b2_ae3d;
    const P4: u32 = 0x27d4_eb2f;
    const P5: u32 = 0x1656_67b1;
    let word = |bytes: [u8; 4]| u32::from_le_bytes(bytes);
    let (stripes, tail) = bytes.as_chunks::<16>();
    let mut hash = P5;
    if !stripes.is_empty() {
        let mut lanes = [P1.wrapping_add(P2), P2, 0, P1.wrapping_neg()];
        for stripe in stripes {
            let (words, _) = stripe.as_chunks::<4>();
            for (lane, bytes) in lanes.iter_mut().zip(words) {
                let mixed = lane.wrapping_add(word(*bytes).wrapping_mul(P2));
                *lane = mixed.rotate_left(13).wrapping_mul(P1);
            }
        }
        let [a, b, c, d] = lanes;
        hash = a
            .rotate_left(1)
            .wrapping_add(b.rotate_left(7))
            .wrapping_add(c.rotate_left(12))
            .wrapping_add(d.rotate_left(18));
    }
    // The algorithm takes the length modulo 2^32.
    hash = hash.wrapping_add(bytes.len() as u32);
    let (words, tail) = tail.as_chunks::<4>();
    for bytes in words {
        hash = hash.wrapping_add(word(*bytes).wrapping_mul(P3)).rotate_left(17).wrapping_mul(P4);
    }
    for &byte in tail {
        hash = hash.wrapping_add(u32::from(byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ hash >> 15).wrapping_mul(P2);
    hash = (hash ^ hash >> 13).wrapping_mul(P3);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xxh32_has_its_published_values() {
        assert_eq!(xxh32(b""), 0x02cc_5d05);
        assert_eq!(xxh32(b"a"), 0x550d_7456);
        assert_eq!(xxh32(b"abc"), 0x32d1_53ff);
        assert_eq!(xxh32(b"Nobody inspects the spammish repetition"), 0xe229_3b2f);
    }
}
