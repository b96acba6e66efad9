//! Giving up what lies behind damage, where the caller asked for it: the log ends before the
//! damage and can be written again.
//!
//! Nothing is deleted. Files behind the damaged one are renamed to `FILE.cut`, as are those that a
//! damaged result of a compaction was made of, and what follows the damage in its own file is
//! copied to `FILE.cut` before it is cut off. The decision is made like every other of an opening:
//! as steps that are taken before the first append, each of which may be taken twice.

use crate::error::{Error, ErrorKind, Result};
use crate::log::files::names::{FileKind, FileStage, file_name};
use crate::log::load::OpenedPartition;
use crate::log::load::folder::{Folder, FolderFile};
use crate::log::load::foreign as adoption;
use crate::log::load::repair::{Repairs, Step};
use crate::storage::Storage;
use crate::topic::TopicPartition;
use std::path::{Path, PathBuf};

/// Names that are tried for a file that is set aside.
const NAMES_MAX: u32 = 10_000;

impl OpenedPartition {
    /// Has a partition that is read-only after damage end before it. One whose format is not read
    /// is not damaged, and stays as it is, as does one behind a link.
    ///
    /// # Errors
    /// `Io`.
    pub(in crate::log) fn end_before_damage(
        &mut self,
        storage: &dyn Storage,
        folder: &Path,
        partition: &TopicPartition,
    ) -> Result<()> {
        let damaged = |error: &Error| error.kind() == ErrorKind::CorruptRecord;
        if self.link.is_some() || !self.read_only.as_ref().is_some_and(damaged) {
            return Ok(());
        }
        // The steps that finish half-done swaps are decided on already.
        let listed = Folder::list(storage, folder, partition)?;
        self.keep_sources(storage, &listed)?;
        let folder = listed.resolve(storage, &mut Repairs::default(), &mut Vec::new(), &[])?;
        self.set_aside_behind(storage, &folder)?;
        if let Some(last) = self.segments.last()
            && last.file_bytes > last.state.extent.size_bytes
        {
            // In this order: as long as the file is not cut, it tells that the log ended here.
            self.repairs.push(Step::Cut {
                path: folder.path.join(file_name(last.state.extent.base_offset, FileKind::Log)),
                len: last.state.extent.size_bytes,
                copy: true,
            });
        }
        self.given_up = self.read_only.take();
        if self.report.foreign {
            adoption::settle(self, &folder);
        } else {
            self.resumable = self.ends_resumable();
        }
        Ok(())
    }

    /// Where the damage is in the result of a compaction, the files that it was made of may have
    /// what it lost: they are renamed, too, before anything takes their place.
    fn keep_sources(&mut self, storage: &dyn Storage, listed: &Folder) -> Result<()> {
        let damaged = self.read_only.as_ref().and_then(Error::path);
        let of = |path: &Path| listed.files.iter().find(|file| file.path == path);
        if damaged.and_then(of).is_none_or(|file| file.name.stage != FileStage::Swap) {
            return Ok(());
        }
        let is_source = |file: &&FolderFile| {
            let stage = file.name.stage;
            let counted = matches!(stage, FileStage::Live | FileStage::Deleted);
            counted && file.name.kind == FileKind::Log && file.len > 0
        };
        let mut kept = Vec::new();
        for file in listed.files.iter().filter(is_source) {
            let from = &file.path;
            let goes = |step: &Step| match step {
                Step::Remove(path) | Step::Rename { to: path, .. } => path == from,
                _ => false,
            };
            if self.repairs.steps().any(goes) {
                let to = free_name(storage, &self.repairs, from)?;
                kept.push(Step::Rename { from: from.clone(), to });
            }
        }
        if !kept.is_empty() {
            kept.push(Step::SyncFolder(listed.path.clone()));
        }
        self.repairs.push_first(kept);
        Ok(())
    }

    /// Renames files with batches that are not part of the log, the last first, and removes what
    /// is derived from them, as well as snapshots of states that the log does not reach.
    fn set_aside_behind(&mut self, storage: &dyn Storage, folder: &Folder) -> Result<()> {
        let part = |file: &FolderFile| {
            let base = file.name.offset;
            self.segments
                .binary_search_by_key(&base, |found| found.state.extent.base_offset)
                .is_ok()
        };
        let behind: Vec<&FolderFile> = folder.logs().filter(|file| !part(file)).collect();
        for file in behind.into_iter().rev() {
            let from = file.settled_path();
            match file.len {
                0 => self.repairs.push(Step::Remove(from)),
                _ => {
                    let to = free_name(storage, &self.repairs, &from)?;
                    self.repairs.push(Step::Rename { from, to });
                }
            }
            for kind in [FileKind::OffsetIndex, FileKind::TimeIndex, FileKind::TransactionIndex] {
                if let Some(derived) = folder.file(file.name.offset, kind) {
                    self.repairs.push(Step::Remove(derived.settled_path()));
                }
            }
        }
        for file in &folder.files {
            let name = file.name;
            let beyond = name.offset > self.log_end_offset;
            if name.kind == FileKind::Snapshot && name.stage == FileStage::Live && beyond {
                self.repairs.push(Step::Remove(file.settled_path()));
            }
        }
        self.repairs.sync_folder(&folder.path);
        Ok(())
    }
}

/// `FILE.cut`, or the first of `FILE.cut.1` and so on that no earlier copy has, nor one of `steps`
/// gives.
fn free_name(storage: &dyn Storage, steps: &Repairs, path: &Path) -> Result<PathBuf> {
    for number in 0..NAMES_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(".cut");
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let free = PathBuf::from(name);
        let gives = |step: &Step| matches!(step, Step::Rename { to, .. } if *to == free);
        let is_there = storage.exists(&free);
        if !is_there.map_err(|e| Error::io(e, "cannot look for", &free))?
            && !steps.steps().any(gives)
        {
            return Ok(free);
        }
    }
    let text = "too many copies of earlier cuts; remove some";
    Err(Error::new(ErrorKind::Io, text).with_path(path))
}
