//! A segment as a cleaning writes it, under names that end in `.cleaned` until it is complete.

use std::path::{Path, PathBuf};

use super::choice::SegmentToGroup;
use crate::error::{Error, Result};
use crate::log::files::names::{FileKind, FileStage, SegmentFileName};
use crate::log::producers::transactions::{AbortedTransaction, TransactionTracker};
use crate::log::scan::FoundBatch;
use crate::log::segment::derived::{DerivedFiles, Durability};
use crate::log::segment::state::{LastBatch, SegmentLayout, SegmentOrigin, SegmentState};
use crate::log::segment::summary::{SegmentIndexes, SegmentSummary};
use crate::record::BatchHeader;
use crate::storage::planted::{Planted, planted};
use crate::storage::{File, Storage};
use crate::sync::Arc;

/// What is put together is written once it has come to so many bytes.
const WRITE_BYTES: usize = 512 << 10;
/// What is as long as this is written as it is: a copy would cost more than the call.
const WHOLE_BYTES_MIN: usize = 32 << 10;

/// A segment in the making.
#[derive(Debug)]
pub(super) struct CleanedSegment {
    folder: PathBuf,
    base_offset: i64,
    file: Arc<dyn File>,
    /// What is not written yet, and where it begins.
    buffer: Vec<u8>,
    buffer_at: u64,
    /// Where the batches end that have their place.
    end: u64,
    /// The disk was asked for what lies before it.
    asked: u64,
    summary: SegmentSummary,
}

/// A segment whose files are complete and durable, but for their names.
#[derive(Debug)]
pub(in crate::log) struct FinishedSegment {
    pub state: SegmentState,
    pub indexes: SegmentIndexes,
    pub aborted: Vec<AbortedTransaction>,
    pub last_batch: Option<LastBatch>,
    /// Which files there are.
    pub kinds: Vec<FileKind>,
}

/// The path of a segment's file in a stage of its life.
pub(in crate::log) fn staged_path(
    folder: &Path,
    offset: i64,
    kind: FileKind,
    stage: FileStage,
) -> PathBuf {
    folder.join(SegmentFileName { offset, kind, stage }.to_string())
}

impl CleanedSegment {
    /// Makes the file; one that an earlier cleaning has left is emptied.
    ///
    /// # Errors
    /// `Io`, `StorageFull`.
    pub fn create(
        storage: &dyn Storage,
        folder: &Path,
        base_offset: i64,
        index_interval_bytes: u64,
    ) -> Result<CleanedSegment> {
        let path = staged_path(folder, base_offset, FileKind::Log, FileStage::Cleaned);
        let file = storage.create_cold(&path);
        let file = file.map_err(|e| Error::io(e, "cannot make the cleaned segment", &path))?;
        Ok(CleanedSegment {
            folder: folder.to_path_buf(),
            base_offset,
            file,
            buffer: Vec::new(),
            buffer_at: 0,
            end: 0,
            asked: 0,
            summary: SegmentSummary::new(base_offset, index_interval_bytes),
        })
    }

    /// Gives the next batch that stays, which has this header, its place. Its bytes come by
    /// [`CleanedSegment::put`], in the same order.
    pub fn place(&mut self, header: &BatchHeader) {
        // Which transactions were aborted is known already.
        let mut nobody = TransactionTracker::default();
        let found = FoundBatch { header: *header, position: self.end, control: None };
        self.summary.observe(&found, &mut nobody);
        self.end += header.size() as u64;
    }

    /// Adds the bytes of batches that have their place.
    ///
    /// # Errors
    /// `StorageFull`, `Io`.
    pub fn put(&mut self, batches: &[u8]) -> Result<()> {
        if self.buffer.is_empty() && batches.len() >= WHOLE_BYTES_MIN {
            return self.write(batches);
        }
        self.buffer.extend_from_slice(batches);
        if self.buffer.len() >= WRITE_BYTES { self.write_buffer() } else { Ok(()) }
    }

    /// Bytes of the batches that have their place.
    pub fn size_bytes(&self) -> u64 {
        self.end
    }

    /// What it has come to.
    pub fn size(&self) -> SegmentToGroup {
        let indexes = &self.summary.indexes;
        SegmentToGroup {
            base_offset: self.base_offset,
            size_bytes: self.end,
            index_bytes: indexes.offsets.size_bytes() as u64,
            time_index_bytes: indexes.times.size_bytes() as u64,
        }
    }

    fn write_buffer(&mut self) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.write(&buffer);
        buffer.clear();
        self.buffer = buffer;
        written
    }

    /// Writes behind what is written.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_at(self.buffer_at, bytes);
        written.map_err(|e| {
            let path =
                staged_path(&self.folder, self.base_offset, FileKind::Log, FileStage::Cleaned);
            Error::io(e, "cannot write the cleaned segment", &path)
        })?;
        self.buffer_at += bytes.len() as u64;
        let fresh = self.buffer_at - self.asked;
        if fresh >= WRITE_BYTES as u64 {
            self.file.begin_write_back(self.asked, fresh);
            self.asked = self.buffer_at;
        }
        Ok(())
    }

    /// Ends it with its index files, and syncs all of them.
    ///
    /// # Errors
    /// `StorageFull`, `Io`.
    pub fn finish(
        mut self,
        storage: &dyn Storage,
        aborted: Vec<AbortedTransaction>,
        origin: SegmentOrigin,
    ) -> Result<FinishedSegment> {
        self.write_buffer()?;
        self.summary.finish();
        let CleanedSegment { folder, base_offset, file, summary, .. } = self;
        let path_of = |kind| staged_path(&folder, base_offset, kind, FileStage::Cleaned);
        let mut files = vec![file];
        let mut derived = DerivedFiles { storage, durability: Durability::Collected(&mut files) };
        let proofs = derived.write_indexes(path_of, &summary.indexes, &aborted)?;
        // All is written before the first sync, as in a seal.
        for file in files.iter().skip(usize::from(planted(Planted::SwapBeforeSync))) {
            let path = path_of(FileKind::Log);
            let synced = file.sync_data();
            synced.map_err(|e| Error::io(e, "cannot sync the cleaned segment", &path))?;
        }
        let mut kinds = vec![FileKind::Log, FileKind::OffsetIndex, FileKind::TimeIndex];
        kinds.extend((!aborted.is_empty()).then_some(FileKind::TransactionIndex));
        let state = SegmentState {
            extent: summary.extent,
            proofs,
            sealed: true,
            layout: SegmentLayout::Sparse,
            origin,
            ..SegmentState::empty(base_offset)
        };
        let (indexes, last_batch) = (summary.indexes, summary.last_batch);
        Ok(FinishedSegment { state, indexes, aborted, last_batch, kinds })
    }
}

/// Removes what a cleaning has written of a segment that does not take its place.
pub(super) fn discard(storage: &dyn Storage, folder: &Path, base_offset: i64) {
    for kind in FileKind::ALL {
        let path = staged_path(folder, base_offset, kind, FileStage::Cleaned);
        match storage.remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                // The next opening of the log knows what it is, and leaves it out.
                tracing::warn!("cannot remove {}: {error}", path.display());
            }
            _ => {}
        }
    }
}
