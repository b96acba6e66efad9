//! What reading a segment's batches yields: borders, indexes, timestamps, transactions.
//!
//! The same collection serves a scan from the first byte (everything is known afterwards) and a
//! walk from a recorded border (the index of what lies below is then rebuilt when it is needed).

use crate::log::index::offset_index::OffsetIndex;
use crate::log::index::time_index::TimeIndex;
use crate::log::producers::transactions::{AbortedTransaction, TransactionTracker};
use crate::log::scan::FoundBatch;
use crate::log::segment::extent::SegmentExtent;
use crate::log::segment::state::{LastBatch, SegmentState};

/// Kafka's `index.interval.bytes`: one entry for so many bytes of batches.
pub(crate) const INDEX_INTERVAL_BYTES: u64 = 4096;
/// More entries than this are thinned, and the interval doubled: an index of a segment of 1 GiB
/// then costs at most 40 KiB of memory, and a lookup walks the headers of at most 1 MiB.
pub(crate) const INDEX_ENTRIES_MAX: usize = 2048;

/// The two sparse indexes of one segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SegmentIndexes {
    pub offsets: OffsetIndex,
    pub times: TimeIndex,
}

impl SegmentIndexes {
    /// Keeps at most `entries_max` entries in each, by dropping every second one as often as it
    /// takes: what is left is as true as before.
    pub fn thin(&mut self, entries_max: usize) {
        while self.offsets.thin(entries_max) {}
        while self.times.thin(entries_max) {}
    }

    /// Adds the entries of what lies behind.
    pub fn extend(&mut self, behind: &SegmentIndexes) {
        for entry in behind.offsets.entries() {
            self.offsets.push(entry.relative_offset, entry.position);
        }
        for entry in behind.times.entries() {
            self.times.push(entry.timestamp, entry.relative_offset);
        }
    }
}

/// One segment as reading its batches shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentSummary {
    pub extent: SegmentExtent,
    /// Entries for the batches that were read.
    pub indexes: SegmentIndexes,
    /// Transactions whose abort marker was read.
    pub aborted: Vec<AbortedTransaction>,
    pub last_batch: Option<LastBatch>,
    /// How many batches and records were read.
    pub batches: u64,
    pub records: u64,
    interval_bytes: u64,
    last_entry_position: u64,
}

impl SegmentSummary {
    /// A segment of which nothing was read yet.
    pub fn new(base_offset: i64, interval_bytes: u64) -> SegmentSummary {
        SegmentSummary {
            extent: SegmentExtent::empty(base_offset),
            indexes: SegmentIndexes::default(),
            aborted: Vec::new(),
            last_batch: None,
            batches: 0,
            records: 0,
            interval_bytes,
            last_entry_position: 0,
        }
    }

    /// Goes on behind a recorded border: borders and timestamps are known, entries below are not.
    pub fn resume(state: &SegmentState, last: Option<LastBatch>, interval: u64) -> SegmentSummary {
        SegmentSummary {
            extent: state.extent,
            last_batch: last.filter(|last| last.segment == state.extent.base_offset),
            last_entry_position: state.extent.size_bytes,
            ..SegmentSummary::new(state.extent.base_offset, interval)
        }
    }

    /// Takes note of the next batch.
    #[inline]
    pub fn observe(&mut self, batch: &FoundBatch, transactions: &mut TransactionTracker) {
        let header = &batch.header;
        self.extent.observe(header.last_offset(), header.max_timestamp, batch.end());
        if batch.position - self.last_entry_position > self.interval_bytes {
            self.push_entry(batch);
        }
        if let Some(row) = transactions.observe(header, batch.marker()) {
            self.aborted.push(row);
        }
        self.last_batch = Some(LastBatch {
            segment: self.extent.base_offset,
            position: batch.position,
            base_offset: header.base_offset,
            crc: header.crc,
        });
        self.batches += 1;
        self.records += u64::try_from(header.records_count).unwrap_or(0);
    }

    /// Ends the reading: the time index gets its last entry, as at Kafka's roll.
    pub fn finish(&mut self) {
        if self.extent.size_bytes > 0 {
            self.push_time();
        }
    }

    fn push_entry(&mut self, batch: &FoundBatch) {
        self.last_entry_position = batch.position;
        let relative = relative(batch.header.last_offset(), self.extent.base_offset);
        // A position that does not fit is found by walking from the last one that does.
        if let (Some(relative), Ok(position)) = (relative, i32::try_from(batch.position)) {
            self.indexes.offsets.push(relative, position.unsigned_abs());
            self.push_time();
            if self.indexes.offsets.thin(INDEX_ENTRIES_MAX) {
                self.interval_bytes = self.interval_bytes.saturating_mul(2).max(1);
            }
            self.indexes.times.thin(INDEX_ENTRIES_MAX);
        }
    }

    fn push_time(&mut self) {
        // Batches without timestamps say -1, and so does an index that knows nothing.
        if self.extent.max_timestamp < 0 {
            return;
        }
        if let Some(relative) = relative(self.extent.max_timestamp_offset, self.extent.base_offset)
        {
            self.indexes.times.push(self.extent.max_timestamp, relative);
        }
    }
}

/// An offset as the indexes of a segment keep it.
pub(crate) fn relative(offset: i64, base_offset: i64) -> Option<u32> {
    let relative = offset.checked_sub(base_offset)?;
    u32::try_from(relative).ok().filter(|relative| *relative <= i32::MAX.unsigned_abs())
}
