//! One segment as readers see it: where its bytes are, how far they go, what is known of them.
//!
//! A segment is active (one writer appends to it), retired (complete, its file not cut yet),
//! sealed (cut, synced, indexed), or closed: the last one, as recovery or a close left it.
//! What a reader holds is a [`SegmentView`]; it keeps the bytes in place whatever happens to the
//! file's name.

pub(in crate::log) mod active;
pub(in crate::log) mod derived;
pub(crate) mod extent;
pub(crate) mod indexes;
pub(in crate::log) mod mapped;
pub(in crate::log) mod order;
mod sound;
pub(crate) mod state;
pub(crate) mod summary;
pub(in crate::log) mod swap;
pub(crate) mod times;
mod view;

pub(crate) use view::SegmentView;

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::log::files::names::{FileKind, file_name};
use crate::log::producers::transactions::AbortedTransaction;
use crate::log::segment::extent::SegmentExtent;
use crate::log::segment::state::{
    FileProof, IndexProofs, SegmentLayout, SegmentOrigin, SegmentState,
};
use crate::log::segment::summary::SegmentIndexes;
use crate::storage::{File, Storage};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, Rank, ranked_mutex};

/// No ticket of the LRU.
const NO_TICKET: u64 = u64::MAX;

/// One file of batches.
#[derive(Debug)]
pub(crate) struct Segment {
    pub base_offset: i64,
    pub layout: SegmentLayout,
    pub origin: SegmentOrigin,
    path: PathBuf,
    /// Positions from here on were written by this process, or recovery checked them.
    own_from: AtomicU64,
    /// The range of positions below `own_from` whose batches were found sound: begin and end,
    /// 32 bits each.
    proven: AtomicU64,
    /// Where the last batch ends that is sound and not plain; see [`crate::log::plain`].
    not_plain_end: AtomicU64,
    ticket: AtomicU64,
    inner: Mutex<SegmentInner>,
}

/// The stage of a segment's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The last one, as recovery left it. Zeros, or a torn tail, may follow its batches.
    Closed,
    /// A writer has it; its extent is the writer's.
    Active,
    /// Complete. Zeros may follow its batches.
    Retired,
    /// Cut, synced, its index files written.
    Sealed,
}

/// The snapshot of the producers before a segment's first batch.
#[derive(Debug, Clone, Default)]
pub(crate) enum BaseSnapshot {
    /// Nothing that anybody vouches for.
    #[default]
    Unproven,
    /// The bytes of a file that is still to be written.
    Taken(Arc<Vec<u8>>),
    /// A file that is there; of length 0 for none, where there was no producer.
    Written(FileProof),
}

/// The part of a resumed segment whose index is not the writer's.
#[derive(Debug, Clone)]
pub(crate) struct Prefix {
    /// The segment as it was, with what vouches for its index files.
    pub state: SegmentState,
    pub indexes: Option<Arc<SegmentIndexes>>,
}

#[derive(Debug)]
struct SegmentInner {
    stage: Stage,
    extent: SegmentExtent,
    file: Option<Arc<dyn File>>,
    /// `file` is the handle of this life's writer, which may cut.
    appends: bool,
    indexes: Option<Arc<SegmentIndexes>>,
    /// What an earlier life appended to a segment that this one goes on with.
    prefix: Option<Prefix>,
    proofs: IndexProofs,
    aborted: Arc<Vec<AbortedTransaction>>,
    snapshot: BaseSnapshot,
    /// A sync covers all its bytes and its length.
    synced: bool,
    /// It is not part of the log any more, and its file's name may be another segment's.
    left: bool,
    /// Its file and its lookups stay, because others have its names, or will have.
    pinned: bool,
}

impl Segment {
    /// A new segment with a writer.
    pub fn active(dir: &Path, base_offset: i64, file: Arc<dyn File>) -> Segment {
        let state = SegmentState::empty(base_offset);
        let path = dir.join(file_name(base_offset, FileKind::Log));
        let segment = Segment::found(path, &state, Stage::Active);
        let mut inner = segment.inner.lock();
        inner.file = Some(file);
        inner.appends = true;
        drop(inner);
        segment.own_from.store(0, Ordering::Relaxed);
        segment
    }

    /// A segment as recovery, or the state file, describes it.
    pub fn found(path: PathBuf, state: &SegmentState, stage: Stage) -> Segment {
        Segment {
            base_offset: state.extent.base_offset,
            layout: state.layout,
            origin: state.origin,
            path,
            own_from: AtomicU64::new(state.extent.size_bytes),
            proven: AtomicU64::new(0),
            not_plain_end: AtomicU64::new(0),
            ticket: AtomicU64::new(NO_TICKET),
            inner: ranked_mutex(
                Rank::SegmentInner,
                SegmentInner {
                    stage,
                    extent: state.extent,
                    file: None,
                    appends: false,
                    indexes: None,
                    prefix: None,
                    proofs: state.proofs,
                    aborted: Arc::default(),
                    snapshot: state
                        .snapshot
                        .map_or_else(BaseSnapshot::default, BaseSnapshot::Written),
                    synced: stage == Stage::Sealed,
                    left: false,
                    pinned: false,
                },
            ),
        }
    }

    /// The path of its batches.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of one of its derived files.
    pub fn path_of(&self, kind: FileKind) -> PathBuf {
        self.path.with_file_name(file_name(self.base_offset, kind))
    }

    pub fn stage(&self) -> Stage {
        self.inner.lock().stage
    }

    /// How far it goes; of an active one only the writer knows.
    pub fn extent(&self) -> SegmentExtent {
        self.inner.lock().extent
    }

    /// The last one becomes the active one.
    pub fn resume(&self, file: Arc<dyn File>) {
        let state = self.state(None);
        let mut inner = self.inner.lock();
        assert_eq!(inner.stage, Stage::Closed, "only a segment without a writer can get one");
        inner.stage = Stage::Active;
        inner.file = Some(file);
        inner.appends = true;
        let indexes = inner.indexes.take();
        inner.prefix = (state.extent.size_bytes > 0).then_some(Prefix { state, indexes });
        // Also that of the transaction index: an abort that follows is in none of the files.
        inner.proofs = IndexProofs::default();
        inner.synced = false;
    }

    /// The writer is done with it and knows its extent.
    /// `indexes` has what the writer appended; a prefix comes on top.
    pub fn retire(&self, extent: SegmentExtent, indexes: SegmentIndexes) {
        let mut inner = self.inner.lock();
        assert_eq!(inner.stage, Stage::Active, "only the writer retires a segment");
        inner.stage = Stage::Retired;
        inner.extent = extent;
        inner.indexes = Some(Arc::new(indexes));
        inner.synced = false;
    }

    /// Its file is cut and synced and its index files have these proofs.
    pub fn seal(&self, proofs: IndexProofs) {
        let mut inner = self.inner.lock();
        inner.stage = Stage::Sealed;
        inner.proofs = proofs;
        inner.indexes = None;
        inner.prefix = None;
        inner.synced = true;
    }

    /// As [`Segment::seal`], but it may be appended to in another life.
    pub fn close(&self, proofs: IndexProofs) {
        let mut inner = self.inner.lock();
        inner.stage = Stage::Closed;
        inner.proofs = proofs;
        inner.prefix = None;
        inner.synced = true;
    }

    /// Notes that recovery left it complete but uncut.
    pub fn set_stage(&self, stage: Stage) {
        self.inner.lock().stage = stage;
    }

    pub fn is_synced(&self) -> bool {
        self.inner.lock().synced
    }

    pub fn set_synced(&self) {
        self.inner.lock().synced = true;
    }

    /// The aborted transactions whose marker lies here, where they are in memory.
    pub fn aborted(&self) -> Arc<Vec<AbortedTransaction>> {
        self.inner.lock().aborted.clone()
    }

    /// A transaction whose marker was stored here was aborted.
    pub fn add_aborted(&self, row: AbortedTransaction) {
        Arc::make_mut(&mut self.inner.lock().aborted).push(row);
    }

    /// Adds rows that are not known here, in order.
    pub fn remember_aborted(&self, rows: impl Iterator<Item = AbortedTransaction>) {
        let mut inner = self.inner.lock();
        let known = Arc::make_mut(&mut inner.aborted);
        known.extend(rows);
        known.sort_by_key(|row| row.last_offset);
        known.dedup_by_key(|row| row.last_offset);
    }

    /// It stands for offsets up to `upto`, whatever compaction left of them.
    pub fn reach(&self, upto: i64) {
        let mut inner = self.inner.lock();
        inner.extent.next_offset = inner.extent.next_offset.max(upto);
    }

    /// It is not part of the log any more: no file is opened for it from now on.
    pub fn leave(&self) {
        self.inner.lock().left = true;
    }

    pub fn has_left(&self) -> bool {
        self.inner.lock().left
    }

    pub fn set_aborted(&self, aborted: Vec<AbortedTransaction>) {
        self.inner.lock().aborted = Arc::new(aborted);
    }

    /// What it has of the producers before its first batch.
    pub fn snapshot(&self) -> BaseSnapshot {
        self.inner.lock().snapshot.clone()
    }

    pub fn set_snapshot(&self, snapshot: BaseSnapshot) {
        self.inner.lock().snapshot = snapshot;
    }

    /// The lookups, while they are in memory.
    pub fn indexes(&self) -> Option<Arc<SegmentIndexes>> {
        self.inner.lock().indexes.clone()
    }

    /// What an earlier life appended, where that has to be added to the lookups of the writer.
    pub fn prefix(&self) -> Option<Prefix> {
        self.inner.lock().prefix.clone()
    }

    /// Keeps the lookups of the prefix.
    pub fn set_prefix_indexes(&self, indexes: Arc<SegmentIndexes>) {
        if let Some(prefix) = &mut self.inner.lock().prefix {
            prefix.indexes = Some(indexes);
        }
    }

    /// Keeps lookups that were read or built of all its batches.
    pub fn set_indexes(&self, indexes: Arc<SegmentIndexes>) {
        let mut inner = self.inner.lock();
        if inner.stage != Stage::Active {
            inner.indexes = Some(indexes);
            inner.prefix = None;
        }
    }

    /// What the state file is to keep of it.
    pub fn state(&self, extent: Option<SegmentExtent>) -> SegmentState {
        let inner = self.inner.lock();
        let extent = extent.unwrap_or(inner.extent);
        // What vouches for index files, or for the cut, does so for the extent of today.
        let current = extent == inner.extent && inner.stage != Stage::Active;
        let proofs = if current { inner.proofs } else { IndexProofs::default() };
        SegmentState {
            extent,
            proofs,
            snapshot: match inner.snapshot {
                BaseSnapshot::Written(proof) => Some(proof),
                BaseSnapshot::Unproven | BaseSnapshot::Taken(_) => None,
            },
            sealed: current && inner.stage == Stage::Sealed,
            layout: self.layout,
            origin: self.origin,
        }
    }

    /// The open file, if there is one.
    pub fn file(&self) -> Option<Arc<dyn File>> {
        self.inner.lock().file.clone()
    }

    /// The handle that may cut the file, if a writer of this life left one.
    pub fn appending_file(&self) -> Option<Arc<dyn File>> {
        let inner = self.inner.lock();
        inner.file.clone().filter(|_| inner.appends)
    }

    /// A view for a reader, with the file mapped. `true` if it had to be opened for it: the
    /// caller then moves the segment in the LRU.
    ///
    /// # Errors
    /// `OffsetOutOfRange` when it is not part of the log any more, else `Io`.
    pub fn view(self: &Arc<Self>, storage: &dyn Storage) -> Result<(SegmentView, bool)> {
        let mut inner = self.inner.lock();
        let opened = inner.file.is_none();
        if inner.file.is_none() {
            if inner.left {
                return Err(self.gone());
            }
            let file = storage.open(&self.path).map_err(|error| self.open_error(error))?;
            inner.file = Some(file);
        }
        let Some(file) = &inner.file else { return Err(self.gone()) };
        let region = file
            .region()
            .map_err(|error| Error::io(error, "cannot map the segment", &self.path))?
            .clone();
        let size = match inner.stage {
            Stage::Active => None,
            _ => Some(usize::try_from(inner.extent.size_bytes).unwrap_or(usize::MAX)),
        };
        drop(inner);
        Ok((SegmentView { segment: self.clone(), region, size }, opened))
    }

    fn open_error(&self, error: std::io::Error) -> Error {
        match error.kind() {
            std::io::ErrorKind::NotFound => self.gone(),
            _ => Error::io(error, "cannot open the segment", &self.path),
        }
    }

    /// What is wanted of it has to be looked for elsewhere.
    pub fn gone(&self) -> Error {
        Error::new(ErrorKind::OffsetOutOfRange, "the segment was deleted")
            .with_offset(self.base_offset)
            .with_path(&self.path)
    }

    /// Keeps the open file, and the lookups, whatever happens to the names.
    pub fn pin(&self, file: Arc<dyn File>) {
        let mut inner = self.inner.lock();
        inner.file.get_or_insert(file);
        inner.pinned = true;
    }

    /// Its names are its own again.
    pub fn unpin(&self) {
        self.inner.lock().pinned = false;
    }

    /// Lets the mapping go with the last reader, unless a writer or the sealing needs it.
    pub fn unmap(&self) {
        let mut inner = self.inner.lock();
        if !inner.pinned && matches!(inner.stage, Stage::Sealed | Stage::Closed) {
            inner.file = None;
            inner.appends = false;
            if inner.stage == Stage::Sealed {
                inner.indexes = None;
            }
        }
    }

    pub(in crate::log) fn swap_ticket(&self, ticket: u64) -> Option<u64> {
        let old = self.ticket.swap(ticket, Ordering::Relaxed);
        (old != NO_TICKET).then_some(old)
    }

    pub(in crate::log) fn take_ticket(&self) -> Option<u64> {
        self.swap_ticket(NO_TICKET)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn segment(size_bytes: u64) -> Segment {
        let extent = SegmentExtent { size_bytes, ..SegmentExtent::empty(0) };
        let state = SegmentState { extent, ..SegmentState::empty(0) };
        let path = PathBuf::from("t-0/00000000000000000000.log");
        Segment::found(path, &state, Stage::Closed)
    }

    #[test]
    fn derived_files_stand_beside_the_batches() {
        let path = segment(0).path_of(FileKind::TimeIndex);
        assert_eq!(path, Path::new("t-0/00000000000000000000.timeindex"));
    }
}
