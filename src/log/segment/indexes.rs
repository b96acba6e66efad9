//! Indexes of a segment that was not read at opening: from their files if these are vouched for,
//! else from the batches.
//!
//! An index file is believed only while length and CRC are those of the state file, its entries
//! are possible, and the batches it points at are there (rule R9). Everything else is rebuilt.

use std::path::Path;

use crate::error::{Error, Result};
use crate::log::files::checkpoint::read_file;
use crate::log::files::names::{FileKind, file_name};
use crate::log::finding::{Finding, FindingKind};
use crate::log::index::INDEX_SIZE_MAX;
use crate::log::index::offset_index::{IndexFault, OffsetIndex};
use crate::log::index::time_index::TimeIndex;
use crate::log::index::transaction_index;
use crate::log::producers::transactions::{AbortedTransaction, TransactionTracker};
use crate::log::scan::{
    BatchCursor, BatchExpectations, FoundBatch, LOOKUP_WINDOW_BYTES, Scanned, WALK_WINDOW_BYTES,
};
use crate::log::segment::order::BatchOrder;
use crate::log::segment::state::{FileProof, SegmentState};
use crate::log::segment::summary::{INDEX_ENTRIES_MAX, SegmentIndexes, SegmentSummary, relative};
use crate::storage::Storage;
use crate::storage::planted::{Planted, planted};

/// Above the size of any marker, which has a key of four bytes and a value of a few.
const MARKER_BYTES_MAX: usize = 256;

/// A derived file that something vouches for, looked at.
#[derive(Debug)]
pub(in crate::log) enum ProvenFile<T> {
    /// What is in it; it is as it was left.
    Believed(T),
    /// The reason why it is passed over.
    Doubted(IndexFault),
}

impl<T> From<std::result::Result<T, IndexFault>> for ProvenFile<T> {
    fn from(parsed: std::result::Result<T, IndexFault>) -> ProvenFile<T> {
        match parsed {
            Ok(content) => ProvenFile::Believed(content),
            Err(fault) => ProvenFile::Doubted(fault),
        }
    }
}

/// The indexes of a segment whose batches are in `log_path`, thinned to what is worth keeping in
/// memory, and what is to be told if a file had to be passed over.
///
/// # Errors
/// [`crate::ErrorKind::Io`].
pub(crate) fn load_indexes(
    storage: &dyn Storage,
    segment: &SegmentState,
    log_path: &Path,
    interval_bytes: u64,
) -> Result<(SegmentIndexes, Option<Finding>)> {
    let fault = match proven_indexes(storage, segment, log_path)? {
        ProvenFile::Believed(mut indexes) => {
            indexes.thin(INDEX_ENTRIES_MAX);
            return Ok((indexes, None));
        }
        ProvenFile::Doubted(fault) => fault,
    };
    let indexes = rebuild_indexes(storage, segment, log_path, interval_bytes)?;
    let vouched = segment.proofs.index.is_some() || segment.proofs.time_index.is_some();
    let finding = vouched.then(|| Finding {
        kind: FindingKind::DerivedFile,
        path: log_path.with_file_name(file_name(segment.extent.base_offset, FileKind::OffsetIndex)),
        position: None,
        offset: None,
        message: format!("the indexes of this segment are rebuilt: {fault}"),
    });
    Ok((indexes, finding))
}

/// Builds the indexes of a segment by walking over the headers of its batches.
///
/// Damage ends the walk: readers that start at the last entry find it themselves.
///
/// # Errors
/// [`crate::ErrorKind::Io`].
pub(crate) fn rebuild_indexes(
    storage: &dyn Storage,
    segment: &SegmentState,
    log_path: &Path,
    interval_bytes: u64,
) -> Result<SegmentIndexes> {
    let mut summary = SegmentSummary::new(segment.extent.base_offset, interval_bytes);
    let mut transactions = TransactionTracker::default();
    let order = BatchOrder::of(segment.layout, &segment.extent);
    let mut expected = order.begin();
    let mut sound = true;
    let mut take = |batch: &FoundBatch, following: Option<i64>| {
        // One that is not at its own place is damage (rule R3), and an entry for it would lead
        // readers to it by an offset that is not its own.
        sound &= order.due_instead(&batch.header, expected, || following).is_none();
        if sound {
            summary.observe(batch, &mut transactions);
            expected = Some(batch.header.next_offset());
        }
    };
    let mut held: Option<FoundBatch> = None;
    walk_markers(storage, log_path, segment.extent.size_bytes, |batch| {
        if let Some(before) = held.replace(*batch) {
            take(&before, Some(batch.header.base_offset));
        }
    })?;
    if let Some(last) = held {
        take(&last, None);
    }
    summary.finish();
    Ok(summary.indexes)
}

/// Calls `visit` with each batch of the file from its first byte to `size_bytes`, or to the first
/// header that is none, and returns where that is. CRCs are not looked at, control records are.
///
/// # Errors
/// [`crate::ErrorKind::Io`].
pub(in crate::log) fn walk_markers(
    storage: &dyn Storage,
    log_path: &Path,
    size_bytes: u64,
    mut visit: impl FnMut(&FoundBatch),
) -> Result<u64> {
    let failed = |error| Error::io(error, "reading", log_path);
    let file = storage.open(log_path).map_err(failed)?;
    let mut cursor = BatchCursor::new(&*file, size_bytes, WALK_WINDOW_BYTES);
    let mut position = 0;
    while let Scanned::Found(batch) = cursor.any_batch_at(position).map_err(failed)? {
        visit(&batch);
        position = batch.end();
    }
    Ok(position)
}

/// Calls `visit` with each batch of a segment, where what they say of transactions is to be
/// believed: each is where it is due, and what is as small as a marker has the CRC that it says.
/// Returns the first position that has no such batch, if there is one.
///
/// # Errors
/// [`crate::ErrorKind::Io`].
pub(in crate::log) fn walk_sound_markers(
    storage: &dyn Storage,
    log_path: &Path,
    segment: &SegmentState,
    mut visit: impl FnMut(&FoundBatch),
) -> Result<Option<u64>> {
    let failed = |error| Error::io(error, "reading", log_path);
    let (extent, dense) = (&segment.extent, segment.layout.is_dense());
    let file = storage.open(log_path).map_err(failed)?;
    let mut cursor = BatchCursor::new(&*file, extent.size_bytes, WALK_WINDOW_BYTES);
    let mut rules = BatchExpectations {
        exact: dense,
        far: true,
        ..BatchExpectations::foreign(extent.base_offset, extent.base_offset, false)
    };
    let mut position = 0;
    while position < extent.size_bytes {
        let Scanned::Found(batch) = cursor.batch_at(position, &rules).map_err(failed)? else {
            return Ok(Some(position));
        };
        let next = batch.header.next_offset();
        let small = batch.header.size() <= MARKER_BYTES_MAX;
        if next > extent.next_offset
            || (small && cursor.crc_fault(position, &batch.header).map_err(failed)?.is_some())
        {
            return Ok(Some(position));
        }
        visit(&batch);
        rules.advance(&batch.header);
        position = batch.end();
    }
    Ok((dense && rules.next_offset != extent.next_offset).then_some(position))
}

/// The aborted transactions of a segment with a vouched `.txnindex`.
///
/// # Errors
/// [`crate::ErrorKind::Io`].
pub(in crate::log) fn proven_aborted(
    storage: &dyn Storage,
    segment: &SegmentState,
    log_path: &Path,
    proof: FileProof,
) -> Result<ProvenFile<Vec<AbortedTransaction>>> {
    if proof.len == 0 {
        return Ok(ProvenFile::Believed(Vec::new()));
    }
    let name = file_name(segment.extent.base_offset, FileKind::TransactionIndex);
    let bytes = match proven_bytes(storage, &log_path.with_file_name(name), proof)? {
        ProvenFile::Believed(bytes) => bytes,
        ProvenFile::Doubted(fault) => return Ok(ProvenFile::Doubted(fault)),
    };
    let (base, next) = (segment.extent.base_offset, segment.extent.next_offset);
    Ok(transaction_index::parse(&bytes, base, next).into())
}

fn proven_indexes(
    storage: &dyn Storage,
    segment: &SegmentState,
    log_path: &Path,
) -> Result<ProvenFile<SegmentIndexes>> {
    if planted(Planted::IndexTrustedAfterCrash) {
        return believe(storage, segment, log_path);
    }
    let (Some(offsets), Some(times)) = (segment.proofs.index, segment.proofs.time_index) else {
        return Ok(ProvenFile::Doubted(IndexFault("nothing vouches for their files")));
    };
    let path = |kind| log_path.with_file_name(file_name(segment.extent.base_offset, kind));
    let read = |kind, proof| proven_bytes(storage, &path(kind), proof);
    let offsets = match read(FileKind::OffsetIndex, offsets)? {
        ProvenFile::Believed(bytes) => bytes,
        ProvenFile::Doubted(fault) => return Ok(ProvenFile::Doubted(fault)),
    };
    let times = match read(FileKind::TimeIndex, times)? {
        ProvenFile::Believed(bytes) => bytes,
        ProvenFile::Doubted(fault) => return Ok(ProvenFile::Doubted(fault)),
    };
    let last = segment
        .extent
        .next_offset
        .saturating_sub(1)
        .saturating_sub(segment.extent.base_offset)
        .max(0);
    let last = u32::try_from(last).unwrap_or(u32::MAX);
    let parsed =
        OffsetIndex::parse(&offsets, segment.extent.size_bytes, last).and_then(|offsets| {
            let times = TimeIndex::parse(&times, last, segment.extent.max_timestamp)?;
            Ok(SegmentIndexes { offsets, times })
        });
    match parsed {
        Ok(indexes) if !points_at_batches(storage, segment, log_path, &indexes.offsets)? => {
            Ok(ProvenFile::Doubted(IndexFault("an entry does not fit the batch it points at")))
        }
        parsed => Ok(parsed.into()),
    }
}

/// Whether the first and the last entry point at batches that end as they say.
fn points_at_batches(
    storage: &dyn Storage,
    segment: &SegmentState,
    log_path: &Path,
    offsets: &OffsetIndex,
) -> Result<bool> {
    let (Some(first), Some(last)) = (offsets.entries().first(), offsets.entries().last()) else {
        return Ok(true);
    };
    let failed = |error| Error::io(error, "reading", log_path);
    let file = storage.open(log_path).map_err(failed)?;
    let mut cursor = BatchCursor::new(&*file, segment.extent.size_bytes, LOOKUP_WINDOW_BYTES);
    for entry in [first, last] {
        let header = cursor.header_at(u64::from(entry.position)).map_err(failed)?;
        let fits = header.found().is_some_and(|header| {
            relative(header.last_offset(), segment.extent.base_offset)
                == Some(entry.relative_offset)
        });
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The bytes of a derived file, if they are those that the proof was made of.
///
/// # Errors
/// [`crate::ErrorKind::Io`].
pub(in crate::log) fn proven_bytes(
    storage: &dyn Storage,
    path: &Path,
    proof: FileProof,
) -> Result<ProvenFile<Vec<u8>>> {
    if proof.len > INDEX_SIZE_MAX {
        return Ok(ProvenFile::Doubted(IndexFault("a file is larger than any index")));
    }
    match storage.metadata(path) {
        Ok(entry) if entry.len == proof.len => {}
        Ok(_) => {
            return Ok(ProvenFile::Doubted(IndexFault(
                "a file has another length than it was left with",
            )));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // A file without an entry need not be there.
            let nothing = proof == FileProof::of(&[]);
            return Ok(if nothing {
                ProvenFile::Believed(Vec::new())
            } else {
                ProvenFile::Doubted(IndexFault("a file is missing"))
            });
        }
        Err(error) => return Err(Error::io(error, "reading", path)),
    }
    let bytes = read_file(storage, path, proof.len)?.unwrap_or_default();
    Ok(if proof.fits(&bytes) {
        ProvenFile::Believed(bytes)
    } else {
        ProvenFile::Doubted(IndexFault("a file has other bytes than it was left with"))
    })
}

/// The planted bug: whatever the files say.
#[cold]
fn believe(
    storage: &dyn Storage,
    segment: &SegmentState,
    log_path: &Path,
) -> Result<ProvenFile<SegmentIndexes>> {
    let read = |kind| {
        let path = log_path.with_file_name(file_name(segment.extent.base_offset, kind));
        read_file(storage, &path, INDEX_SIZE_MAX)
    };
    let (Some(offsets), Some(times)) = (read(FileKind::OffsetIndex)?, read(FileKind::TimeIndex)?)
    else {
        return Ok(ProvenFile::Doubted(IndexFault("a file is missing")));
    };
    Ok(ProvenFile::Believed(SegmentIndexes {
        offsets: OffsetIndex::believe(&offsets),
        times: TimeIndex::believe(&times),
    }))
}
