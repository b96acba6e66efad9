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

/// So many bytes are written at once.
const WRITE_BYTES: usize = 512 << 10;

/// A segment in the making.
#[derive(Debug)]
pub(super) struct CleanedSegment {
    folder: PathBuf,
    base_offset: i64,
    file: Arc<dyn File>,
    /// What is not written yet, and where it begins.
    buffer: Vec<u8>,
    buffer_at: u64,
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
            summary: SegmentSummary::new(base_offset, index_interval_bytes),
        })
    }

    /// Adds a batch that stays, which has this header.
    ///
    /// # Errors
    /// `StorageFull`, `Io`.
    pub fn append(&mut self, header: &BatchHeader, batch: &[u8]) -> Result<()> {
        let position = self.buffer_at + self.buffer.len() as u64;
        // Which transactions were aborted is known already.
        let mut nobody = TransactionTracker::default();
        let found = FoundBatch { header: *header, position, control: None };
        self.summary.observe(&found, &mut nobody);
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    /// What it has come to.
    pub fn size(&self) -> SegmentToGroup {
        let indexes = &self.summary.indexes;
        SegmentToGroup {
            base_offset: self.base_offset,
            size_bytes: self.buffer_at + self.buffer.len() as u64,
            index_bytes: indexes.offsets.size_bytes() as u64,
            time_index_bytes: indexes.times.size_bytes() as u64,
        }
    }

    fn write(&mut self) -> Result<()> {
        let written = self.file.write_at(self.buffer_at, &self.buffer);
        written.map_err(|e| {
            let path =
                staged_path(&self.folder, self.base_offset, FileKind::Log, FileStage::Cleaned);
            Error::io(e, "cannot write the cleaned segment", &path)
        })?;
        let bytes = self.buffer.len() as u64;
        self.file.begin_write_back(self.buffer_at, bytes);
        self.buffer_at += bytes;
        self.buffer.clear();
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
        self.write()?;
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
