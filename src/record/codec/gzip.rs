//! Gzip (RFC 1952): one member is written, with the header of a JDK 16 or later; one or more are
//! read, and what follows the last one is ignored as Java does.

use std::io::Read;

use flate2::bufread::GzDecoder;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::{Refusal, make_room};

/// Magic, deflate, no flags, no time, no hint on the effort, unknown operating system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// The least room that is made at once.
const STEP_MIN: usize = 4 << 10;

pub(super) fn decompress(input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Refusal> {
    let mut rest = input;
    loop {
        let mut member = GzDecoder::new(rest);
        loop {
            // One byte beyond the limit tells that there is more.
            let step = input.len().max(STEP_MIN).min(limit - out.len() + 1);
            make_room(out, step, limit + 1);
            let room = out.capacity() - out.len();
            let read = member.by_ref().take(room as u64).read_to_end(out)?;
            if out.len() > limit {
                return Err(Refusal::TooLarge);
            }
            if read < room {
                break;
            }
        }
        rest = member.into_inner();
        if !rest.starts_with(&[0x1f, 0x8b]) {
            return Ok(());
        }
    }
}

pub(super) struct Encoder {
    deflate: Compress,
}

impl Encoder {
    pub(super) fn new(level: Option<i32>) -> Encoder {
        let level = level.and_then(|level| u32::try_from(level).ok());
        let level = level.map_or_else(Compression::default, Compression::new);
        Encoder { deflate: Compress::new(level, false) }
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        self.deflate.reset();
        out.extend_from_slice(&HEADER);
        loop {
            let eaten = usize::try_from(self.deflate.total_in()).unwrap_or(usize::MAX);
            let rest = input.get(eaten..).unwrap_or_default();
            out.reserve(rest.len() / 2 + 64);
            let status = self
                .deflate
                .compress_vec(rest, out, FlushCompress::Finish)
                .map_err(|error| error.to_string())?;
            if status == Status::StreamEnd {
                break;
            }
        }
        out.extend_from_slice(&crc32fast::hash(input).to_le_bytes());
        // The format stores the length modulo 2^32.
        out.extend_from_slice(&(input.len() as u32).to_le_bytes());
        Ok(())
    }
}
