//! Going on without a walk: how far there is nothing but records.
//!
//! Walking over the headers of batches that were sent one by one takes a reader as long as reading
//! them does: each header says where the next one lies, so each is a trip to memory. Where every
//! batch ahead is plain and offsets are dense, the offset index says how many records there are
//! up to one of its entries, and only what is behind that has to be walked.

use crate::log::Log;
use crate::log::read::cursor::Place;
use crate::log::read::lookup::Reach;
use crate::record::BatchHeader;

/// Where less than this is left, a walk costs less than the lookup.
const BYTES_MIN: usize = 16 << 10;

/// Batches at the beginning of a chunk that hold nothing but records to return: none is
/// compressed, of a transaction or a control batch, and none misses an offset inside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PlainPrefix {
    pub bytes: usize,
    pub records: usize,
    /// The offset behind the last of them.
    pub next_offset: i64,
}

/// The most that a reader wants at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FetchLimits {
    pub records_max: usize,
    /// The first batch does not ask.
    pub bytes_max: usize,
    /// How much to verify at once where nothing is known of the bytes; at least one batch.
    pub verify_bytes: usize,
}

impl FetchLimits {
    /// As many records as so many bytes hold.
    pub fn bytes(bytes_max: usize) -> FetchLimits {
        FetchLimits { records_max: usize::MAX, bytes_max, verify_bytes: bytes_max }
    }
}

impl Log {
    /// What begins at `place`, whose batch begins at `offset`, is plain and no more than `wanted`,
    /// as far as the index goes. Everything from there up to `limit` is known to be sound.
    ///
    /// It is a shortcut: `None` where anything is in its way, be it an appender that holds the
    /// lock of the index.
    pub(in crate::log) fn plain_ahead(
        &self,
        place: &Place,
        offset: i64,
        limit: usize,
        upto: i64,
        wanted: FetchLimits,
    ) -> Option<PlainPrefix> {
        let (from, segment) = (place.position, place.view.segment());
        let dense = segment.layout.is_dense();
        if limit.saturating_sub(from) < BYTES_MIN || !dense || segment.has_not_plain(from) {
            return None;
        }
        let header = |position| BatchHeader::parse(place.view.region().read(position..limit)).ok();
        if header(from)?.base_offset != offset {
            return None;
        }
        let records_max = i64::try_from(wanted.records_max).unwrap_or(i64::MAX);
        let last_offset = upto.min(offset.saturating_add(records_max)) - 1;
        let reach = Reach {
            relative_offset: u32::try_from(last_offset - segment.base_offset).ok()?,
            position: u32::try_from(limit.min(from.saturating_add(wanted.bytes_max))).ok()?,
        };
        let entry = self.entry_within(segment, reach)?;
        let position = entry.position as usize;
        if position <= from || position >= limit {
            return None;
        }
        // The index says where a batch begins and which offset is its last: the header has to
        // agree, and says which one is its first.
        let header = header(position)?;
        let agrees = header.last_offset() - segment.base_offset == i64::from(entry.relative_offset);
        let next_offset = header.base_offset;
        let records = usize::try_from(next_offset - offset).ok()?;
        (agrees && (1..=wanted.records_max).contains(&records)).then_some(PlainPrefix {
            bytes: position - from,
            records,
            next_offset,
        })
    }
}
