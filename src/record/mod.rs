//! Record batches, format version 2, byte for byte as Apache Kafka reads and writes them.
//!
//! This module turns bytes into meaning and back: batch headers, records, headers, control
//! records, the four codecs, CRC-32C. It has no I/O, clock or lock. Reading borrows, never panics
//! on any bytes, and allocates only to decompress, within
//! [`DECOMPRESSED_MAX`]. The layout is in `docs/format.md`, section Record batches.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod batch;
mod builder;
mod codec;
mod control;
mod crc;
mod encode;
mod fault;
mod owned;
mod pack;
mod ratio;
mod records;
mod retained;
pub mod varint;

#[cfg(test)]
mod tests;

pub(crate) use batch::CRC_FROM;
pub use batch::{
    BATCH_OVERHEAD, BatchHeader, LENGTH_PREFIX, MAGIC_V2, NONE, RecordBatch, TimestampType,
    restamp, set_log_append_time,
};
pub use builder::BatchBuilder;
pub use codec::{Codec, DECOMPRESSED_MAX, DECOMPRESSED_MAX_SETTING};
pub use control::{ControlRecord, ControlType, MARKER_BATCH_SIZE};
pub use crc::{crc32c, crc32c_append};
pub use encode::{
    BATCH_SIZE_MAX, HeaderInput, RecordInput, Sink, Stamp, encode_emptied, encode_marker,
    encode_single, single_batch_size,
};
pub(crate) use encode::{Measured, MeasuredSingle, encode_many, encode_measured};
pub use fault::BatchFault;
pub use owned::{OwnedHeader, OwnedRecord};
pub(crate) use ratio::CompressionRatio;
pub(crate) use records::OUT_OF_ORDER;
pub use records::{Header, Headers, HeadersIter, Record, Records};
pub(crate) use retained::RetainedBatch;
