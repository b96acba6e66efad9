//! Zstandard: one frame is written, with its content size; any number of frames are read, in one
//! pass into the output, which needs no window of its own whatever window a frame asks for.

use std::cell::RefCell;

use zstd::bulk::Compressor;
use zstd::zstd_safe::{self, DCtx};

use super::Refusal;

/// Kafka's default.
const LEVEL_DEFAULT: i32 = 3;
/// `ZSTD_error_dstSize_tooSmall`; zstd returns errors as negative sizes.
const OUTPUT_TOO_SMALL: usize = 0usize.wrapping_sub(70);
/// The first guess of how well records compress, and the growth when it was too low.
const GUESSED_RATIO: usize = 8;
const GROWTH: usize = 4;
const GUESS_MIN: usize = 4 << 10;

thread_local! {
    /// A decoder takes 7 us to make and 160 KiB, and 100 records take 6 us to decompress.
    static DECODER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

pub(super) fn decompress(input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Refusal> {
    // Taken out while it works: whatever happens meanwhile, nobody finds it in use.
    let kept = DECODER.try_with(RefCell::take).ok().flatten();
    let mut decoder = kept.or_else(DCtx::try_create).ok_or("no memory for a decoder")?;
    let done = decompress_with(&mut decoder, input, out, limit);
    // This fails only while the thread ends, and then the decoder goes with it.
    DECODER.try_with(|slot| slot.replace(Some(decoder))).ok();
    done
}

fn decompress_with(
    decoder: &mut DCtx<'_>,
    input: &[u8],
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<(), Refusal> {
    let mut space = input.len().saturating_mul(GUESSED_RATIO).max(GUESS_MIN).min(limit);
    loop {
        out.clear();
        // What is in the buffer is of no use, so it is not moved into a larger one.
        if out.capacity() < space {
            *out = Vec::new();
            out.reserve_exact(space);
        }
        // The buffer may have room from an earlier batch; the limit holds all the same.
        match decoder.decompress(out, input) {
            Ok(written) if written <= limit => return Ok(()),
            Ok(_) => return Err(Refusal::TooLarge),
            Err(OUTPUT_TOO_SMALL) if out.capacity() < limit => {
                space = out.capacity().saturating_mul(GROWTH).min(limit);
            }
            Err(OUTPUT_TOO_SMALL) => return Err(Refusal::TooLarge),
            Err(code) => return Err(zstd_safe::get_error_name(code).into()),
        }
    }
}

pub(super) struct Encoder {
    zstd: Compressor<'static>,
}

impl Encoder {
    pub(super) fn new(level: Option<i32>) -> Result<Encoder, crate::error::Error> {
        let zstd = Compressor::new(level.unwrap_or(LEVEL_DEFAULT)).map_err(|error| {
            crate::error::Error::new(
                crate::error::ErrorKind::Kafka,
                format!("making a zstd encoder: {error}"),
            )
        })?;
        Ok(Encoder { zstd })
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let start = out.len();
        out.resize(start + zstd_safe::compress_bound(input.len()), 0);
        let to = out.get_mut(start..).unwrap_or_default();
        let written = self.zstd.compress_to_buffer(input, to).map_err(|error| error.to_string())?;
        out.truncate(start + written);
        Ok(())
    }
}
