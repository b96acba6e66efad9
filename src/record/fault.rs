//! Why bytes are not a record batch, and which error that becomes.

use std::fmt;

use super::codec::{Codec, DECOMPRESSED_MAX_SETTING};
use super::varint::VarintFault;
use crate::error::{Error, ErrorKind};

/// The reason why bytes are not a (readable) record batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchFault {
    /// Fewer bytes than the batch declares: `needed` counts from its first byte. Where not even
    /// the length is there, `needed` is 12.
    Incomplete {
        /// Bytes from the start of the batch that are needed to go on.
        needed: usize,
    },
    /// The length field is 0: what a preallocated file holds behind its last batch. The caller
    /// decides whether only zeros follow.
    Zeros,
    /// The length field is negative or below the least for its format.
    BadLength(i32),
    /// Another format than version 2. Versions 0 and 1 are those of Kafka before 0.11.
    BadMagic(i8),
    /// The checksum does not fit the bytes.
    BadCrc {
        /// The checksum in the header.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The attributes name a codec that does not exist.
    BadAttributes(i16),
    /// The records do not follow the format, or are not as many as the header says.
    BadRecords(&'static str),
    /// The compressed records do not decompress.
    Compression(Codec, String),
    /// The compressed records decompress to more bytes than this limit. That is no damage.
    TooLarge(Codec, usize),
    /// The records are compressed with a codec that this build does not contain.
    CodecMissing(Codec),
}

impl BatchFault {
    /// The error for users: [`ErrorKind::UnsupportedFormat`] for the formats before version 2,
    /// [`ErrorKind::UnsupportedCompressionType`] for a codec that is not compiled in,
    /// [`ErrorKind::RecordTooLarge`] for more than a limit of ours, otherwise
    /// [`ErrorKind::CorruptRecord`]. The caller adds the place.
    pub fn into_error(self) -> Error {
        let kind = match self {
            BatchFault::BadMagic(0 | 1) => ErrorKind::UnsupportedFormat,
            BatchFault::CodecMissing(_) => ErrorKind::UnsupportedCompressionType,
            BatchFault::TooLarge(..) => ErrorKind::RecordTooLarge,
            _ => ErrorKind::CorruptRecord,
        };
        Error::new(kind, self.to_string())
    }
}

impl fmt::Display for BatchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchFault::Incomplete { needed } => {
                write!(f, "the batch is cut off, it needs {needed} bytes")
            }
            BatchFault::Zeros => f.write_str("zeros where a batch should begin"),
            BatchFault::BadLength(length) => write!(f, "batch length {length} is not possible"),
            BatchFault::BadMagic(magic @ (0 | 1)) => write!(
                f,
                "batch format {magic} is that of Kafka before 0.11; rewrite the topic with Kafka \
                 3.x first"
            ),
            BatchFault::BadMagic(magic) => write!(f, "unknown batch format {magic}"),
            BatchFault::BadCrc { stored, computed } => {
                write!(f, "checksum {computed:#010x}, expected {stored:#010x}")
            }
            BatchFault::BadAttributes(attributes) => {
                write!(f, "attributes {attributes:#06x} name no codec")
            }
            BatchFault::BadRecords(reason) => f.write_str(reason),
            BatchFault::Compression(codec, reason) => write!(f, "{codec} records: {reason}"),
            BatchFault::TooLarge(codec, limit) => write!(
                f,
                "{codec} records decompress to more than {limit} bytes; raise the broker's \
                 {DECOMPRESSED_MAX_SETTING}"
            ),
            BatchFault::CodecMissing(codec) => {
                write!(f, "this build has no {codec}; enable the feature \"{codec}\" of topiclite")
            }
        }
    }
}

impl std::error::Error for BatchFault {}

impl From<BatchFault> for Error {
    fn from(fault: BatchFault) -> Error {
        fault.into_error()
    }
}

impl From<VarintFault> for BatchFault {
    fn from(fault: VarintFault) -> BatchFault {
        BatchFault::BadRecords(fault.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_the_kind_that_tells_what_to_do() {
        let kind = |fault: BatchFault| fault.into_error().kind();
        assert_eq!(kind(BatchFault::BadMagic(0)), ErrorKind::UnsupportedFormat);
        assert_eq!(kind(BatchFault::BadMagic(1)), ErrorKind::UnsupportedFormat);
        assert_eq!(kind(BatchFault::BadMagic(3)), ErrorKind::CorruptRecord);
        assert_eq!(kind(BatchFault::Zeros), ErrorKind::CorruptRecord);
        assert_eq!(kind(BatchFault::Incomplete { needed: 61 }), ErrorKind::CorruptRecord);
        assert_eq!(
            kind(BatchFault::Compression(Codec::Gzip, String::new())),
            ErrorKind::CorruptRecord
        );
        let missing = BatchFault::CodecMissing(Codec::Zstd).into_error();
        assert_eq!(missing.kind(), ErrorKind::UnsupportedCompressionType);
        assert!(missing.message().contains("feature \"zstd\""), "{missing}");
    }
}
