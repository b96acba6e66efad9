//! Comparing the indexes that another program left beside a segment with the segment's batches.
//!
//! Nothing here believes them: what is not ours is read from the batches. But a directory that is
//! given back to Kafka is read through them, so a check of the files says where they do not hold.
//!
//! Departure: D12. A transaction index that is missing is rebuilt; Kafka shows the aborted records.

use crate::error::Result;
use crate::log::files::checkpoint::read_file;
use crate::log::files::names::{FileKind, file_name};
use crate::log::finding::{Finding, FindingKind};
use crate::log::index::INDEX_SIZE_MAX;
use crate::log::index::offset_index::{self, IndexFault, OffsetEntry, OffsetIndex};
use crate::log::index::time_index::{self, TimeEntry, TimeIndex};
use crate::log::index::transaction_index;
use crate::log::load::OpenedSegment;
use crate::log::producers::transactions::{AbortedTransaction, TransactionTracker};
use crate::log::scan::FoundBatch;
use crate::log::segment::indexes::walk_markers;
use crate::record::ControlType;
use crate::storage::Storage;
use std::path::PathBuf;

const AT_NO_BATCH: IndexFault = IndexFault("it points at no batch");
const OTHER_TIME: IndexFault = IndexFault("an entry is not the largest timestamp up to its offset");
const NO_ABORT: IndexFault = IndexFault("an entry names a marker that is no abort of its producer");
const NOT_LISTED: IndexFault = IndexFault("an aborted transaction of this segment is not in it");

/// What is wrong with the index files of one segment, at most one finding a file.
///
/// # Errors
/// [`crate::ErrorKind::Io`].
pub(in crate::log) fn check(
    storage: &dyn Storage,
    segment: &OpenedSegment,
) -> Result<Vec<Finding>> {
    let files = Files { storage, segment };
    let state = &segment.state;
    let last =
        state.extent.next_offset.saturating_sub(1).saturating_sub(state.extent.base_offset).max(0);
    let last = u32::try_from(last).unwrap_or(u32::MAX);
    let mut faults = Vec::new();
    let mut told = |kind, fault| faults.push((kind, fault));
    let offsets = files.parse(FileKind::OffsetIndex, &mut told, |bytes| {
        let entries = without_zeros(bytes, offset_index::ENTRY_SIZE);
        OffsetIndex::parse(entries, state.extent.size_bytes, last)
    })?;
    let times = files.parse(FileKind::TimeIndex, &mut told, |bytes| {
        TimeIndex::parse(without_zeros(bytes, time_index::ENTRY_SIZE), last, i64::MAX)
    })?;
    let rows = files.parse(FileKind::TransactionIndex, &mut told, |bytes| {
        transaction_index::parse(bytes, state.extent.base_offset, state.extent.next_offset)
    })?;
    let mut comparison = Comparison::of(state.extent.base_offset, offsets, times, rows);
    walk_markers(storage, &segment.path, state.extent.size_bytes, |batch| {
        comparison.observe(batch, &mut told);
    })?;
    comparison.finish(&mut told);
    let mut findings: Vec<Finding> = Vec::new();
    for (kind, fault) in faults {
        let path = files.path(kind);
        if !findings.iter().any(|finding| finding.path == path) {
            let message = format!("this index does not hold and is not believed: {}", fault.0);
            let kind = FindingKind::DerivedFile;
            findings.push(Finding { kind, path, position: None, offset: None, message });
        }
    }
    Ok(findings)
}

struct Files<'a> {
    storage: &'a dyn Storage,
    segment: &'a OpenedSegment,
}

impl Files<'_> {
    fn path(&self, kind: FileKind) -> PathBuf {
        self.segment.path.with_file_name(file_name(self.segment.state.extent.base_offset, kind))
    }

    /// `None` where the file is absent or no index, which is told.
    fn parse<T>(
        &self,
        kind: FileKind,
        told: &mut impl FnMut(FileKind, IndexFault),
        parse: impl FnOnce(&[u8]) -> Result<T, IndexFault>,
    ) -> Result<Option<T>> {
        let bytes = match read_file(self.storage, &self.path(kind), INDEX_SIZE_MAX)? {
            Some(bytes) => bytes,
            // Kafka leaves a transaction index only where there was something to list.
            None if kind == FileKind::TransactionIndex => Vec::new(),
            None => {
                if self.segment.state.extent.size_bytes > 0 {
                    told(kind, IndexFault("it is missing"));
                }
                return Ok(None);
            }
        };
        Ok(parse(&bytes).map_err(|fault| told(kind, fault)).ok())
    }
}

/// The entries of a file that may be preallocated: Kafka cuts it when it closes the segment.
fn without_zeros(bytes: &[u8], entry_size: usize) -> &[u8] {
    let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
    let written = (bytes.len() - zeros).next_multiple_of(entry_size).min(bytes.len());
    bytes.get(..written).unwrap_or_default()
}

/// The place of a walk over the batches in each of the files.
struct Comparison {
    /// Position and offset of the entries that no batch was seen for, the next one last.
    offsets: Vec<(u64, i64)>,
    /// Offset and timestamp of the entries that no batch was seen for, the next one last.
    times: Vec<(i64, i64)>,
    rows: Option<Vec<AbortedTransaction>>,
    max_timestamp: i64,
    tracker: TransactionTracker,
}

impl Comparison {
    fn of(
        base_offset: i64,
        offsets: Option<OffsetIndex>,
        times: Option<TimeIndex>,
        rows: Option<Vec<AbortedTransaction>>,
    ) -> Comparison {
        let absolute = |relative: u32| base_offset + i64::from(relative);
        let (offsets, times) = (offsets.unwrap_or_default(), times.unwrap_or_default());
        let place = |entry: &OffsetEntry| (entry.position.into(), absolute(entry.relative_offset));
        let time = |entry: &TimeEntry| (absolute(entry.relative_offset), entry.timestamp);
        Comparison {
            offsets: offsets.entries().iter().rev().map(place).collect(),
            times: times.entries().iter().rev().map(time).collect(),
            rows,
            max_timestamp: -1,
            tracker: TransactionTracker::default(),
        }
    }

    fn observe(&mut self, batch: &FoundBatch, told: &mut impl FnMut(FileKind, IndexFault)) {
        let header = &batch.header;
        while let Some((position, offset)) = self.offsets.pop_if(|next| next.0 < batch.end()) {
            if position != batch.position || offset < header.base_offset {
                told(FileKind::OffsetIndex, AT_NO_BATCH);
            }
        }
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        while let Some((_, time)) = self.times.pop_if(|next| next.0 <= header.last_offset()) {
            if time != self.max_timestamp {
                told(FileKind::TimeIndex, OTHER_TIME);
            }
        }
        self.compare_transactions(batch, told);
    }

    fn compare_transactions(
        &mut self,
        batch: &FoundBatch,
        told: &mut impl FnMut(FileKind, IndexFault),
    ) {
        let header = &batch.header;
        let proven = self.tracker.observe(header, batch.marker());
        let Some(rows) = &self.rows else { return };
        let row = rows
            .binary_search_by_key(&header.last_offset(), |row| row.last_offset)
            .ok()
            .and_then(|at| rows.get(at));
        match row {
            Some(row) => {
                // A marker that compaction emptied says nothing against its row.
                let emptied = header.is_control() && batch.marker().is_none();
                let aborts = batch.marker() == Some(ControlType::Abort)
                    && row.producer_id == header.producer_id;
                if !emptied && !aborts {
                    told(FileKind::TransactionIndex, NO_ABORT);
                }
            }
            None if proven.is_some() => told(FileKind::TransactionIndex, NOT_LISTED),
            None => {}
        }
    }

    fn finish(&mut self, told: &mut impl FnMut(FileKind, IndexFault)) {
        if !self.offsets.is_empty() {
            told(FileKind::OffsetIndex, AT_NO_BATCH);
        }
        if !self.times.is_empty() {
            told(FileKind::TimeIndex, OTHER_TIME);
        }
    }
}
