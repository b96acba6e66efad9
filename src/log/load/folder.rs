//! The files of a partition's folder, and what a half-done compaction or deletion makes of them.
//!
//! Apache Kafka finishes such operations when it starts (`LogLoader.load`).
//! [`Folder::resolve`] decides the same from the list of names; the removals and renames it
//! stands for become steps that are taken before the first append.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::log::files::names::{FileKind, FileStage, SegmentFileName};
use crate::log::finding::{Finding, FindingKind};
use crate::log::load::repair::{Repairs, Step};
use crate::log::scan::{BatchCursor, BatchExpectations, Scanned, WALK_WINDOW_BYTES};
use crate::log::segment::state::{LogState, SegmentLayout, SegmentOrigin, SegmentState, Trust};
use crate::storage::Storage;
use crate::topic::TopicPartition;

/// A partition's folder as it was listed.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub path: PathBuf,
    pub partition: TopicPartition,
    /// Segment files and snapshots of every stage, in order of offset.
    pub files: Vec<FolderFile>,
    /// The folder, or the first file of batches in it, where that is a symbolic link: then all of
    /// it is read and nothing is changed.
    pub link: Option<PathBuf>,
}

/// One segment file or snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FolderFile {
    pub name: SegmentFileName,
    pub path: PathBuf,
    pub len: u64,
}

impl FolderFile {
    /// The stage at which it was found; `name` has the one that stands for.
    pub fn found_as(&self) -> FileStage {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.and_then(SegmentFileName::parse).map_or(self.name.stage, |name| name.stage)
    }

    /// Where it will be once half-done swaps are finished: steps that come later find it there.
    pub fn settled_path(&self) -> PathBuf {
        self.path.with_file_name(self.name.to_string())
    }
}

/// The most bytes that a segment can have, one more than its positions reach: what a longer file
/// has behind them belongs to nothing, and may go on for as long as a file system lets it.
pub(in crate::log) const SEGMENT_BYTES_MAX: u64 = 1 << 31;

/// What is wrong with a special file.
pub(super) const SPECIAL: &str = "a FIFO, a socket or a device, where a file belongs; remove it";

impl Folder {
    /// The files that are longer than any segment.
    pub fn too_long(&self) -> Vec<Finding> {
        let long = self.logs().filter(|file| file.len >= SEGMENT_BYTES_MAX);
        long.map(|file| Finding {
            kind: FindingKind::TooLong,
            path: file.path.clone(),
            position: Some(SEGMENT_BYTES_MAX),
            offset: None,
            message: "no segment is longer: what is behind it is not looked at".to_owned(),
        })
        .collect()
    }

    /// Lists the folder; one that is missing has no files.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`], also where a FIFO, a socket or a device has the name of a file.
    pub fn list(storage: &dyn Storage, path: &Path, partition: &TopicPartition) -> Result<Folder> {
        let (folder, special) = Folder::list_beside_special(storage, path, partition)?;
        match special.into_iter().next() {
            None => Ok(folder),
            Some(path) => Err(Error::new(ErrorKind::Io, SPECIAL).with_path(path)),
        }
    }

    /// [`Folder::list`] without the FIFOs, sockets and devices, and the paths of these.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub(super) fn list_beside_special(
        storage: &dyn Storage,
        path: &Path,
        partition: &TopicPartition,
    ) -> Result<(Folder, Vec<PathBuf>)> {
        let entries = match storage.list(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io(error, "listing", path)),
        };
        let (mut files, mut special) = (Vec::new(), Vec::new());
        let mut link = match storage.metadata(path) {
            Ok(entry) => entry.is_link.then(|| path.to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io(error, "looking at", path)),
        };
        for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
            let Some(name) = SegmentFileName::parse(&entry.name) else { continue };
            let path = path.join(&entry.name);
            if entry.is_special {
                special.push(path);
                continue;
            }
            if entry.is_link && name.kind == FileKind::Log {
                link.get_or_insert_with(|| path.clone());
            }
            files.push(FolderFile { name, path, len: entry.len.min(SEGMENT_BYTES_MAX) });
        }
        files.sort();
        special.sort();
        let folder = Folder { path: path.to_owned(), partition: partition.clone(), files, link };
        Ok((folder, special))
    }

    /// The `.log` files in use, ascending by base offset.
    pub fn logs(&self) -> impl Iterator<Item = &FolderFile> {
        self.files
            .iter()
            .filter(|file| file.name.kind == FileKind::Log && file.name.stage == FileStage::Live)
    }

    /// Whether files of an unfinished compaction lie here. Those of a deletion do not count: they
    /// are not part of the log any more.
    pub fn has_half_done_swap(&self) -> bool {
        self.files
            .iter()
            .any(|file| matches!(file.name.stage, FileStage::Cleaned | FileStage::Swap))
    }

    /// Whether there is any file of an operation that did not finish.
    pub fn is_half_done(&self) -> bool {
        self.files.iter().any(|file| file.name.stage != FileStage::Live)
    }

    /// Files of kind `kind` that belong to the segment (or the snapshot) at `offset`.
    pub fn file(&self, offset: i64, kind: FileKind) -> Option<&FolderFile> {
        let name = SegmentFileName::live(offset, kind);
        let at = self.files.binary_search_by_key(&name, |file| file.name).ok()?;
        self.files.get(at)
    }

    /// The folder as it is once every half-done operation is finished, and the steps to that.
    /// Files keep the path at which they are until the steps are taken. What is `recorded` says
    /// how far results reach whose last batches compaction took.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub(in crate::log) fn resolve(
        mut self,
        storage: &dyn Storage,
        repairs: &mut Repairs,
        findings: &mut Vec<Finding>,
        recorded: &[SegmentState],
    ) -> Result<Folder> {
        let stage = |stage: FileStage| move |file: &FolderFile| file.name.stage == stage;
        // Not all of a compaction's results were renamed to `.swap`: it did not happen.
        let incomplete_from = self
            .files
            .iter()
            .filter(|file| file.name.stage == FileStage::Cleaned)
            .map(|file| file.name.offset)
            .min()
            .unwrap_or(i64::MAX);
        let undone = |file: &FolderFile| {
            file.name.stage == FileStage::Swap && file.name.offset >= incomplete_from
        };
        self.drop_files(repairs, findings, "a deletion", stage(FileStage::Deleted));
        self.drop_files(repairs, findings, "a compaction that did not happen", undone);
        // The `.cleaned` files tell which `.swap` files do not count, so they go later.
        repairs.sync_folder(&self.path);
        self.drop_files(
            repairs,
            findings,
            "a compaction that did not happen",
            stage(FileStage::Cleaned),
        );

        let mut replaced: Option<(i64, i64)> = None;
        for file in self.files.iter().filter(|file| stage(FileStage::Swap)(file)) {
            if file.name.kind == FileKind::Log {
                let next = next_offset_of(storage, file)?;
                replaced = Some(match replaced {
                    None => (file.name.offset, next),
                    Some((first, last)) => (first.min(file.name.offset), last.max(next)),
                });
            }
        }
        if let Some((first, end)) = replaced {
            let merged = |offset: i64| {
                let holds = |row: &SegmentState| {
                    row.extent.base_offset < offset
                        && offset < row.extent.next_offset
                        && is_result(row)
                };
                recorded.iter().any(holds)
            };
            let old = |file: &FolderFile| {
                let offset = file.name.offset;
                let inside = (first..end).contains(&offset) || merged(offset);
                file.name.stage == FileStage::Live && inside
            };
            self.drop_files(repairs, findings, "a compaction, which is finished", old);
        }
        // A removal that a power cut undid must not bring an old segment back beside a new one.
        repairs.sync_folder(&self.path);
        self.finish_swaps(repairs, findings);
        repairs.sync_folder(&self.path);
        self.files.sort();
        Ok(self)
    }

    /// The index files without the batches that they are of.
    pub(in crate::log) fn orphan_indexes(&self) -> impl Iterator<Item = &FolderFile> {
        self.orphans().filter(|file| file.name.kind != FileKind::Snapshot)
    }

    /// The files in use that belong to a segment, where none is.
    fn orphans(&self) -> impl Iterator<Item = &FolderFile> {
        self.files.iter().filter(|file| {
            let is_live = file.name.stage == FileStage::Live && file.name.kind != FileKind::Log;
            is_live && self.file(file.name.offset, FileKind::Log).is_none()
        })
    }

    /// Has files removed that tell of segments which are not there, and are not to be taken for
    /// those of new ones: indexes, and snapshots below the log end but `end_snapshot`, which a
    /// close left (`LogLoader.loadSegmentFiles`, `ProducerStateManager.removeStraySnapshots`).
    pub(in crate::log) fn remove_orphans(
        &self,
        (log_end, end_snapshot): (i64, Option<i64>),
        repairs: &mut Repairs,
    ) {
        let is_needed =
            |offset: i64| offset >= log_end || end_snapshot.is_some_and(|end| end == offset);
        for file in self.orphans() {
            if file.name.kind != FileKind::Snapshot || !is_needed(file.name.offset) {
                repairs.push(Step::Remove(file.settled_path()));
            }
        }
        repairs.sync_folder(&self.path);
    }

    /// The folder without the segments that retention took out of the log, and was about to remove
    /// when the owner died, and these: files before the first segment that is recorded, wholly
    /// below the log start. `None` where there are none.
    pub(in crate::log) fn without_deleted(
        &self,
        state: &LogState,
        trust: Trust,
    ) -> (Option<Folder>, Deleted) {
        let first = match state.segments.first() {
            Some(first) if trust != Trust::Clean => first.extent.base_offset,
            _ => i64::MIN,
        };
        let is_left =
            |file: &&FolderFile| file.name.offset < first && file.name.stage == FileStage::Live;
        if first > state.log_start_offset || !self.files.iter().any(|file| is_left(&file)) {
            return (None, Deleted::default());
        }
        let (deleted, files) = self.files.iter().cloned().partition(|file| is_left(&file));
        (Some(Folder { files, ..self.clone() }), Deleted(deleted))
    }

    fn drop_files(
        &mut self,
        repairs: &mut Repairs,
        findings: &mut Vec<Finding>,
        what: &str,
        goes: impl Fn(&FolderFile) -> bool,
    ) {
        self.files.retain(|file| {
            if !goes(file) {
                return true;
            }
            repairs.push(Step::Remove(file.path.clone()));
            findings.push(half_done(file, format!("left over from {what}; it does not count")));
            false
        });
    }

    fn finish_swaps(&mut self, repairs: &mut Repairs, findings: &mut Vec<Finding>) {
        let mut swapped = Vec::new();
        for file in &mut self.files {
            if file.name.stage == FileStage::Swap {
                file.name.stage = FileStage::Live;
                let to = self.path.join(file.name.to_string());
                repairs.push(Step::Rename { from: file.path.clone(), to });
                findings.push(half_done(
                    file,
                    "the result of a compaction that was about to take its place".into(),
                ));
                swapped.push(file.name);
            }
        }
        // A rename replaces what has the name already.
        self.files
            .retain(|file| file.found_as() == FileStage::Swap || !swapped.contains(&file.name));
    }
}

/// Files of segments that are not part of the log any more.
#[derive(Debug, Default)]
pub(in crate::log) struct Deleted(Vec<FolderFile>);

impl Deleted {
    /// Has them removed.
    pub fn finish(self, folder: &Path, repairs: &mut Repairs, findings: &mut Vec<Finding>) {
        for file in &self.0 {
            repairs.push(Step::Remove(file.path.clone()));
            findings.push(half_done(file, "left over from a deletion; it does not count".into()));
        }
        if !self.0.is_empty() {
            repairs.sync_folder(folder);
        }
    }
}

/// Whether it is recorded as what a compaction of ours left.
fn is_result(row: &SegmentState) -> bool {
    row.layout == SegmentLayout::Sparse && row.origin == SegmentOrigin::Ours
}

fn half_done(file: &FolderFile, message: String) -> Finding {
    Finding {
        kind: FindingKind::HalfDone,
        path: file.path.clone(),
        position: None,
        offset: None,
        message,
    }
}

/// The offset behind the last batch of a file whose batches are whole, by their headers.
fn next_offset_of(storage: &dyn Storage, file: &FolderFile) -> Result<i64> {
    let failed = |error| Error::io(error, "reading", &file.path);
    let open = storage.open(&file.path).map_err(failed)?;
    let mut cursor = BatchCursor::new(&*open, file.len, WALK_WINDOW_BYTES);
    let mut rules = BatchExpectations::foreign(file.name.offset, file.name.offset, false);
    let mut position = 0;
    while let Scanned::Found(batch) = cursor.batch_at(position, &rules).map_err(failed)? {
        rules.advance(&batch.header);
        position = batch.end();
    }
    Ok(rules.next_offset)
}
