//! A compaction of our own that a crash interrupted, as recovery finishes it.
//!
//! How far it came is told by the names of its files, and [`Folder::resolve`] says what they stand
//! for, whoever compacted. What is recorded may be of before or of after, because the state file
//! is told once the results are named `.swap`, and before the old files go. So what takes the
//! place of recorded segments is read here, whole, and recovery goes on as if that were recorded.

use crate::error::Result;
use crate::log::files::names::FileStage;
use crate::log::finding::Finding;
use crate::log::load::folder::{Folder, FolderFile};
use crate::log::load::reader::{Begin, Pass};
use crate::log::load::repair::Repairs;
use crate::log::producers::transactions::AbortedTransaction;
use crate::log::scan::Stop;
use crate::log::segment::indexes::walk_markers;
use crate::log::segment::state::{LastBatch, LogState, SegmentLayout, SegmentOrigin, SegmentState};
use crate::storage::Storage;

/// The folder and what is recorded of it, with what was half done finished.
pub(in crate::log) struct Finished {
    pub folder: Folder,
    pub state: LogState,
    /// Results of the compaction behind all segments that are recorded, ascending.
    pub unrecorded: Vec<SegmentState>,
    /// The aborted transactions of its results.
    pub aborted: Vec<AbortedTransaction>,
    pub repairs: Repairs,
    pub findings: Vec<Finding>,
}

/// A result of the compaction.
struct SwapResult {
    state: SegmentState,
    aborted: Vec<AbortedTransaction>,
    last_batch: Option<LastBatch>,
}

/// Half-done files of a log of ours.
pub(in crate::log) enum Swapped {
    /// They stand for this.
    Finished(Box<Finished>),
    /// One of them is not as a compaction of ours leaves it.
    NotOurs(FolderFile),
}

/// Decides what half-done files of a log of ours stand for.
///
/// # Errors
/// [`crate::ErrorKind::Io`].
pub(in crate::log) fn finish(
    storage: &dyn Storage,
    folder: &Folder,
    state: &LogState,
    interval_bytes: u64,
) -> Result<Swapped> {
    let (mut repairs, mut findings) = (Repairs::default(), Vec::new());
    let folder = folder.clone().resolve(storage, &mut repairs, &mut findings, &state.segments)?;
    let mut results = Vec::new();
    for file in folder.logs().filter(|file| file.found_as() == FileStage::Swap) {
        match read(storage, &folder, file, state, interval_bytes)? {
            Some(swapped) => results.push(swapped),
            None => return Ok(Swapped::NotOurs(file.clone())),
        }
    }
    let aborted = results.iter().flat_map(|swapped| swapped.aborted.iter().copied()).collect();
    let (state, unrecorded) = put_in_place(state, results, &folder);
    let finished = Finished { folder, state, unrecorded, aborted, repairs, findings };
    Ok(Swapped::Finished(Box::new(finished)))
}

/// Reads a result whole; `None` where it has anything but valid batches, or where damage before it
/// hides which transactions are open there.
fn read(
    storage: &dyn Storage,
    folder: &Folder,
    file: &FolderFile,
    recorded: &LogState,
    interval_bytes: u64,
) -> Result<Option<SwapResult>> {
    let mut pass = Pass::new(storage, folder, interval_bytes);
    if recorded.transactional {
        // A transaction that was aborted here may have begun in any segment before.
        let base = file.name.offset;
        for earlier in folder.logs().take_while(|earlier| earlier.name.offset < base) {
            let transactions = &mut pass.transactions;
            let end = walk_markers(storage, &earlier.path, earlier.len, |batch| {
                transactions.observe(&batch.header, batch.marker());
            })?;
            // A result was read before. Another file may have been longer than its batches.
            let is_it = |known: &&SegmentState| known.extent.base_offset == earlier.name.offset;
            let known = recorded.segments.iter().find(is_it);
            if earlier.found_as() != FileStage::Swap
                && known.is_some_and(|known| end < known.extent.size_bytes)
            {
                return Ok(None);
            }
        }
    }
    pass.rules.next_offset = file.name.offset;
    let begin = Begin::FirstByte(SegmentLayout::Sparse, SegmentOrigin::Ours);
    let end = pass.read_segment(file, begin)?;
    let last_batch = pass.last_batch;
    Ok(pass.segments.pop().filter(|_| end.stop == Stop::End).map(|read| SwapResult {
        state: read.state,
        aborted: read.aborted,
        last_batch,
    }))
}

/// What is recorded, with the results in the place of what they were made of, and those of them
/// that stand behind it all.
fn put_in_place(
    state: &LogState,
    results: Vec<SwapResult>,
    folder: &Folder,
) -> (LogState, Vec<SegmentState>) {
    let mut state = state.clone();
    let (Some(first), Some(last)) = (results.first(), results.last()) else {
        return (state, Vec::new());
    };
    let begin = first.state.extent.base_offset;
    let end = results.iter().map(|swapped| swapped.state.extent.next_offset).max().unwrap_or(begin);
    let inside = |base: i64| (begin..end.max(begin + 1)).contains(&base);
    let last_recorded = state.segments.last().map(|segment| segment.extent.base_offset);
    let replaced = state.segments.iter().rfind(|segment| inside(segment.extent.base_offset));
    let upto = match replaced.copied() {
        Some(replaced) if Some(replaced.extent.base_offset) != last_recorded => {
            replaced.extent.next_offset
        }
        // It may have been appended to since: where the next file begins tells how far it went.
        replaced => {
            // A result without a batch has its own base offset for its end.
            let least = end.max(begin.saturating_add(1));
            let behind = folder.logs().map(|file| file.name.offset).find(|base| *base >= least);
            let recorded = replaced.map_or(end, |replaced| replaced.extent.next_offset);
            behind.unwrap_or(recorded)
        }
    };
    if state.last_batch.is_some_and(|last| inside(last.segment)) {
        let known = last.state.extent.next_offset <= state.log_end_offset;
        state.last_batch = last.last_batch.filter(|_| known);
    }
    state.segments.retain(|segment| !inside(segment.extent.base_offset));
    state.aborted.retain(|row| !(begin..upto).contains(&row.last_offset));
    let mut results: Vec<SegmentState> = results.into_iter().map(|result| result.state).collect();
    if let Some(last) = results.last_mut() {
        last.extent.next_offset = last.extent.next_offset.max(upto);
    }
    let recorded = |result: &SegmentState| last_recorded >= Some(result.extent.base_offset);
    let unrecorded = results.iter().copied().filter(|result| !recorded(result)).collect();
    state.segments.extend(results.iter().filter(|result| recorded(result)));
    state.segments.sort_by_key(|segment| segment.extent.base_offset);
    (state, unrecorded)
}
