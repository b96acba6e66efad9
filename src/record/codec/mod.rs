//! The four compression codecs of Kafka's batches, each behind the cargo feature of its name.
//!
//! Reading is bounded: a limit is checked as output is produced, and buffers grow
//! with what was really produced, never by what a header claims. No input makes this panic.
//! Which framing is written and which are read is told in the file of each codec.
//!
//! Departure: D32. A batch decompresses to at most a limit; in Kafka to whatever memory holds.

use std::fmt;

use super::fault::BatchFault;
use crate::error::{Error, ErrorKind, Result};

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

/// How many bytes the records of a batch may decompress to unless another limit is given: 256 MiB,
/// however few they are compressed to. A batch that needs more is refused when it is read, and
/// written without compression when it is made here. A broker has the setting
/// [`DECOMPRESSED_MAX_SETTING`] for it.
pub const DECOMPRESSED_MAX: usize = 256 << 20;

/// The broker's setting for what a batch may decompress to.
pub const DECOMPRESSED_MAX_SETTING: &str = "log.batch.uncompressed.max.bytes";

/// The compression of a batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// Deflate in a gzip member.
    Gzip,
    /// Snappy blocks in xerial framing.
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// A zstd frame.
    Zstd,
}

impl Codec {
    /// All codecs, by id.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The number in a batch's attributes.
    #[inline]
    pub const fn id(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// The codec of this number.
    #[inline]
    pub const fn from_id(id: i16) -> Option<Codec> {
        match id {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// Kafka's name, which is that of the cargo feature too.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// The codec of this name.
    pub fn from_name(name: &str) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// This build contains the codec.
    pub const fn is_available(self) -> bool {
        match self {
            Codec::None => true,
            Codec::Gzip => cfg!(feature = "gzip"),
            Codec::Snappy => cfg!(feature = "snappy"),
            Codec::Lz4 => cfg!(feature = "lz4"),
            Codec::Zstd => cfg!(feature = "zstd"),
        }
    }

    /// The levels that Kafka accepts for it, or `None` where it has no levels.
    pub fn levels(self) -> Option<std::ops::RangeInclusive<i32>> {
        match self {
            Codec::None | Codec::Snappy => None,
            Codec::Gzip => Some(1..=9),
            Codec::Lz4 => Some(1..=17),
            Codec::Zstd => Some(-131_072..=22),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Replaces what is in `out` by the decompressed records, at most `limit` bytes.
pub(super) fn decompress(
    codec: Codec,
    input: &[u8],
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<(), BatchFault> {
    decompress_within(codec, input, out, limit, usize::MAX).map(drop)
}

/// [`decompress`] for a caller that has room for `room` bytes: false where the records take more,
/// which is nothing against them.
pub(super) fn decompress_within(
    codec: Codec,
    input: &[u8],
    out: &mut Vec<u8>,
    limit: usize,
    room: usize,
) -> Result<bool, BatchFault> {
    out.clear();
    // Below this the codecs' own buffers are larger.
    let own_limit = limit.max(LIMIT_MIN);
    let limit = own_limit.min(room);
    if limit == 0 {
        return Ok(false);
    }
    let done: Result<(), Refusal> = match codec {
        Codec::None => {
            out.extend_from_slice(input);
            Ok(())
        }
        #[cfg(feature = "gzip")]
        Codec::Gzip => gzip::decompress(input, out, limit),
        #[cfg(feature = "snappy")]
        Codec::Snappy => snappy::decompress(input, out, limit),
        #[cfg(feature = "lz4")]
        Codec::Lz4 => lz4::decompress(input, out, limit),
        #[cfg(feature = "zstd")]
        Codec::Zstd => zstd::decompress(input, out, limit),
        #[allow(unreachable_patterns, reason = "reached where a codec is not compiled in")]
        missing => return Err(BatchFault::CodecMissing(missing)),
    };
    match done {
        Ok(()) => Ok(true),
        Err(Refusal::TooLarge) if limit < own_limit => Ok(false),
        Err(Refusal::TooLarge) => Err(BatchFault::TooLarge(codec, limit)),
        Err(Refusal::Malformed(reason)) => Err(BatchFault::Compression(codec, reason)),
    }
}

/// Makes room for `more` bytes behind those of `out`: at least twice what it had, so that growing
/// costs little, and nothing beyond `limit`.
#[cfg_attr(
    not(any(feature = "gzip", feature = "snappy", feature = "lz4")),
    allow(dead_code, reason = "called by the codecs only")
)]
fn make_room(out: &mut Vec<u8>, more: usize, limit: usize) {
    let wanted = out.len().saturating_add(more);
    if wanted > out.capacity() {
        let grown = wanted.max(out.capacity().saturating_mul(2).min(limit));
        out.reserve_exact(grown - out.len());
    }
}

/// The least limit.
const LIMIT_MIN: usize = 1 << 16;

/// Why a codec gives up.
#[derive(Debug)]
#[cfg_attr(
    not(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")),
    allow(dead_code, reason = "made by the codecs only")
)]
enum Refusal {
    /// The limit is reached.
    TooLarge,
    /// The input does not follow the codec's format.
    Malformed(String),
}

impl<E: fmt::Display> From<E> for Refusal {
    fn from(reason: E) -> Refusal {
        Refusal::Malformed(reason.to_string())
    }
}

/// Compresses batches one after the other and keeps the codec's tables in between.
pub(super) struct Compressor {
    codec: Codec,
    state: State,
}

enum State {
    None,
    #[cfg(feature = "gzip")]
    Gzip(gzip::Encoder),
    #[cfg(feature = "snappy")]
    Snappy(Box<snappy::Encoder>),
    #[cfg(feature = "lz4")]
    Lz4(lz4::Encoder),
    #[cfg(feature = "zstd")]
    Zstd(zstd::Encoder),
}

impl Compressor {
    /// A compressor of `codec`. A level is ignored by codecs that have none.
    pub(super) fn new(codec: Codec, level: Option<i32>) -> Result<Compressor> {
        if !codec.is_available() {
            return Err(BatchFault::CodecMissing(codec).into_error());
        }
        // Kafka's name for "the default" in gzip.
        let level = if codec == Codec::Gzip { level.filter(|&level| level != -1) } else { level };
        if let (Some(level), Some(levels)) = (level, codec.levels())
            && !levels.contains(&level)
        {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("{codec} has no level {level}; use {} to {}", levels.start(), levels.end()),
            ));
        }
        let state = match codec {
            #[cfg(feature = "gzip")]
            Codec::Gzip => State::Gzip(gzip::Encoder::new(level)),
            #[cfg(feature = "snappy")]
            Codec::Snappy => State::Snappy(Box::new(snappy::Encoder::new())),
            #[cfg(feature = "lz4")]
            Codec::Lz4 => State::Lz4(lz4::Encoder::new()),
            #[cfg(feature = "zstd")]
            Codec::Zstd => State::Zstd(zstd::Encoder::new(level)?),
            _ => State::None,
        };
        Ok(Compressor { codec, state })
    }

    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    /// Appends the compressed form of `input` to `out`.
    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let done: std::result::Result<(), String> = match &mut self.state {
            State::None => {
                out.extend_from_slice(input);
                Ok(())
            }
            #[cfg(feature = "gzip")]
            State::Gzip(encoder) => encoder.compress(input, out),
            #[cfg(feature = "snappy")]
            State::Snappy(encoder) => encoder.compress(input, out),
            #[cfg(feature = "lz4")]
            State::Lz4(encoder) => encoder.compress(input, out),
            #[cfg(feature = "zstd")]
            State::Zstd(encoder) => encoder.compress(input, out),
        };
        done.map_err(|reason| {
            Error::new(ErrorKind::Kafka, format!("compressing with {}: {reason}", self.codec))
        })
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("codec", &self.codec).finish_non_exhaustive()
    }
}
