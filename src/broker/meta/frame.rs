//! The frames of a framed file, and the header before them, to bytes and back.

use super::codec::{Decoder, Encoder};
use crate::error::{Error, ErrorKind, Result};

/// The version of the layout that this code writes, and the newest one it reads.
pub(super) const VERSION: u32 = 1;
/// Magic, version, generation and CRC.
pub(super) const HEADER_BYTES: usize = 8 + 4 + 4 + 4;
/// Length, sequence and CRC in front of each payload.
pub(super) const FRAME_BYTES: usize = 12;

/// Which file it is, by the eight bytes at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum FramedFileKind {
    Registry,
    State,
}

impl FramedFileKind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            FramedFileKind::Registry => b"TLREGIST",
            FramedFileKind::State => b"TLSTATES",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            FramedFileKind::Registry => "registry",
            FramedFileKind::State => "state file",
        }
    }
}

/// A file of these frames.
#[cfg(any(all(test, not(loom)), fuzzing))]
pub(in crate::broker) fn whole_file(
    kind: FramedFileKind,
    generation: u32,
    payloads: &[Vec<u8>],
) -> Vec<u8> {
    let mut bytes = header(kind, generation);
    for (sequence, payload) in (0..).zip(payloads) {
        bytes.extend(frame(generation, sequence, payload).unwrap_or_default());
    }
    bytes
}

pub(super) enum Fault {
    Version(u32),
    Damage(&'static str),
}

/// | offset | bytes | field |
/// | --- | --- | --- |
/// | 0 | 8 | magic |
/// | 8 | 4 | version |
/// | 12 | 4 | generation: raised by one each time the file is replaced |
/// | 16 | 4 | CRC-32 (IEEE) of the 16 bytes before |
pub(super) fn header(kind: FramedFileKind, generation: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(kind.magic());
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&generation.to_be_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

pub(super) fn read_header(kind: FramedFileKind, bytes: &[u8]) -> Result<u32, Fault> {
    let mut input = Decoder::new(bytes);
    let short = Fault::Damage("the header is short");
    let (Some(magic), Some(version), Some(generation), Some(crc)) =
        (input.take(8), input.u32(), input.u32(), input.u32())
    else {
        return Err(short);
    };
    let covered = bytes.get(..HEADER_BYTES - 4).ok_or(short)?;
    if magic != kind.magic() || crc32fast::hash(covered) != crc {
        return Err(Fault::Damage("the header is damaged"));
    }
    if version != VERSION {
        return Err(Fault::Version(version));
    }
    Ok(generation)
}

fn frame_crc(generation: u32, sequence: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.to_be_bytes());
    hasher.update(&sequence.to_be_bytes());
    hasher.update(&(payload.len() as u32).to_be_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// | offset | bytes | field |
/// | --- | --- | --- |
/// | 0 | 4 | length of the payload |
/// | 4 | 4 | sequence, from 0 in each generation |
/// | 8 | 4 | CRC-32 (IEEE) of generation, sequence, length and payload |
/// | 12 | | payload |
pub(super) fn frame(generation: u32, sequence: u32, payload: &[u8]) -> Result<Vec<u8>> {
    let Ok(len) = u32::try_from(payload.len()) else {
        return Err(Error::new(ErrorKind::IllegalArgument, "a frame holds at most 4 GiB"));
    };
    let mut out = Encoder::new();
    out.u32(len);
    out.u32(sequence);
    out.u32(frame_crc(generation, sequence, payload));
    let mut bytes = out.bytes();
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// The payload of the frame at the start of `bytes`, if it is frame `sequence`.
pub(super) fn read_frame(generation: u32, sequence: u32, bytes: &[u8]) -> Option<&[u8]> {
    let mut input = Decoder::new(bytes);
    let (len, found, crc) = (input.u32()?, input.u32()?, input.u32()?);
    if found != sequence {
        return None;
    }
    let payload = input.take(usize::try_from(len).ok()?)?;
    (frame_crc(generation, sequence, payload) == crc).then_some(payload)
}

/// Where a frame later than `sequence` begins in `bytes`, if there is one.
pub(super) fn find_frame(generation: u32, sequence: u32, bytes: &[u8]) -> Option<usize> {
    let limit = bytes.len() / FRAME_BYTES;
    (1..bytes.len()).find(|&at| {
        let Some(rest) = bytes.get(at..) else { return false };
        let Some(found) = rest.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes)
        else {
            return false;
        };
        let ahead = found.wrapping_sub(sequence) as usize;
        ahead > 0 && ahead <= limit && read_frame(generation, found, rest).is_some()
    })
}
