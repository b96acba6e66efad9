//! Steps that opening decided on, taken before the first append to a partition.
//!
//! Each step may be taken twice, and a crash between any two leaves files from which opening
//! decides the same again (rule R11). Bytes of another program are copied before they are cut.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::log::files::names::file_name;
use crate::log::load::OpenedSegment;
use crate::log::scan::SCAN_WINDOW_BYTES;
use crate::log::segment::derived::{DerivedFiles, Durability};
use crate::log::segment::summary::SegmentIndexes;
use crate::storage::sync_latch::{SyncLatch, sync_error};
use crate::storage::{File, Storage};

/// One change of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::log) enum Step {
    Remove(PathBuf),
    /// Replaces what is there.
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    /// Cuts a file to `len` bytes. `copy` keeps what is cut off in `FILE.cut`.
    Cut {
        path: PathBuf,
        len: u64,
        copy: bool,
    },
    SyncFolder(PathBuf),
    /// Writes the three derived files of the segment with this base offset.
    WriteDerived {
        folder: PathBuf,
        base_offset: i64,
    },
}

/// Steps that are still to be taken, in order.
#[derive(Debug, Default)]
pub(in crate::log) struct Repairs {
    steps: VecDeque<Step>,
    /// After a failed sync, what was done so far may not be on the disk, and never will be known to
    /// be.
    syncs: SyncLatch,
}

impl Repairs {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The steps that are still to be taken, in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter()
    }

    pub fn push(&mut self, step: Step) {
        self.steps.push_back(step);
    }

    /// Has these steps taken before all others, in this order.
    pub fn push_first(&mut self, steps: Vec<Step>) {
        steps.into_iter().rev().for_each(|step| self.steps.push_front(step));
    }

    /// Makes the names so far durable, if there are steps that changed any.
    pub fn sync_folder(&mut self, folder: &Path) {
        if matches!(self.steps.back(), Some(Step::Remove(_) | Step::Rename { .. })) {
            self.push(Step::SyncFolder(folder.to_owned()));
        }
    }

    /// Takes all steps; what was taken is not taken again by the next call.
    pub fn run(&mut self, storage: &dyn Storage, segments: &mut [OpenedSegment]) -> Result<()> {
        self.syncs.check()?;
        while let Some(step) = self.steps.front() {
            self.syncs.note(take(storage, step, segments))?;
            self.steps.pop_front();
        }
        Ok(())
    }
}

fn take(storage: &dyn Storage, step: &Step, segments: &mut [OpenedSegment]) -> Result<()> {
    match step {
        Step::Remove(path) => match storage.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(error, "removing", path))
            }
            _ => Ok(()),
        },
        Step::Rename { from, to } => {
            match storage.rename(from, to) {
                Ok(()) => {}
                // Renamed by an earlier call that failed later on.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io(error, "renaming", from)),
            }
            for segment in segments.iter_mut().filter(|segment| segment.path == *from) {
                segment.path.clone_from(to);
            }
            Ok(())
        }
        Step::SyncFolder(path) => storage.sync_dir(path).map_err(|error| sync_failed(error, path)),
        Step::Cut { path, len, copy } => {
            cut(storage, path, *len, *copy)?;
            for segment in segments.iter_mut().filter(|segment| segment.path == *path) {
                segment.file_bytes = segment.file_bytes.min(*len);
            }
            Ok(())
        }
        Step::WriteDerived { folder, base_offset } => {
            let found = segments.iter_mut().find(|s| s.state.extent.base_offset == *base_offset);
            match found {
                Some(segment) => write_derived(storage, folder, segment),
                None => Ok(()),
            }
        }
    }
}

/// A step that failed in its sync is not taken again; one whose sync could not begin is.
fn sync_failed(error: io::Error, path: &Path) -> Error {
    sync_error(error, "syncing", path)
}

fn cut(storage: &dyn Storage, path: &Path, len: u64, copy: bool) -> Result<()> {
    let file = storage.open_cold(path).map_err(|e| Error::io(e, "opening", path))?;
    let present = file.len().map_err(|e| Error::io(e, "reading", path))?;
    if present > len {
        if copy {
            set_aside(storage, &*file, path, len, present)?;
        }
        file.set_len(len).map_err(|e| Error::io(e, "cutting", path))?;
    }
    // Also where an earlier call has cut: its sync is not known to have come to an end.
    file.sync_data().map_err(|e| sync_failed(e, path))
}

/// Copies the bytes of `file` from `from` to `to` into `FILE.cut`, or into `FILE.cut.1` and so on
/// where an earlier copy has other bytes.
fn set_aside(
    storage: &dyn Storage,
    file: &dyn File,
    path: &Path,
    from: u64,
    to: u64,
) -> Result<()> {
    for number in 0..u32::MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(".cut");
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let kept = PathBuf::from(name);
        let failed = |error| Error::io(error, "copying to", &kept);
        match storage.open(&kept) {
            Ok(present) => {
                if same_bytes(&*present, file, from, to).map_err(failed)? {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return copy_range(storage, file, from, to, &kept);
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Err(Error::new(ErrorKind::Io, "too many copies of earlier cuts; remove some").with_path(path))
}

fn copy_range(
    storage: &dyn Storage,
    file: &dyn File,
    from: u64,
    to: u64,
    kept: &Path,
) -> Result<()> {
    let failed = |error| Error::io(error, "copying to", kept);
    let mut tmp = kept.as_os_str().to_owned();
    tmp.push(".tmp");
    let tmp = Path::new(&tmp);
    let copy = storage.create_cold(tmp).map_err(failed)?;
    let mut at = from;
    let mut buffer = vec![0; SCAN_WINDOW_BYTES];
    while at < to {
        let len = usize::try_from(to - at).unwrap_or(usize::MAX).min(buffer.len());
        let chunk = buffer.get_mut(..len).unwrap_or_default();
        file.read_exact_at(at, chunk).map_err(failed)?;
        copy.write_at(at - from, chunk).map_err(failed)?;
        at += len as u64;
    }
    copy.sync_data().map_err(|error| sync_failed(error, tmp))?;
    drop(copy);
    storage.rename(tmp, kept).map_err(failed)?;
    let folder = kept.parent().unwrap_or(Path::new("."));
    storage.sync_dir(folder).map_err(|error| sync_failed(error, folder))
}

fn same_bytes(kept: &dyn File, file: &dyn File, from: u64, to: u64) -> io::Result<bool> {
    if kept.len()? != to - from {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; SCAN_WINDOW_BYTES], vec![0; SCAN_WINDOW_BYTES]);
    let mut at = from;
    while at < to {
        let len = usize::try_from(to - at).unwrap_or(usize::MAX).min(SCAN_WINDOW_BYTES);
        let (Some(a), Some(b)) = (a.get_mut(..len), b.get_mut(..len)) else {
            return Ok(false);
        };
        kept.read_exact_at(at - from, a)?;
        file.read_exact_at(at, b)?;
        if a != b {
            return Ok(false);
        }
        at += len as u64;
    }
    Ok(true)
}

/// Writes what was rebuilt for a segment, so that Kafka's tools and the next opening find it.
fn write_derived(storage: &dyn Storage, folder: &Path, segment: &mut OpenedSegment) -> Result<()> {
    if segment.state.extent.size_bytes > 0 {
        // The program that wrote it may have died before its pages reached the disk.
        let path = &segment.path;
        let log = storage.open_cold(path).map_err(|e| Error::io(e, "opening", path))?;
        log.sync_data().map_err(|e| sync_failed(e, path))?;
    }
    let empty = SegmentIndexes::default();
    let indexes = match &segment.indexes {
        Some(indexes) => indexes,
        None if segment.state.extent.size_bytes == 0 => &empty,
        None => return Ok(()),
    };
    let base_offset = segment.state.extent.base_offset;
    let path_of = |kind| folder.join(file_name(base_offset, kind));
    let mut files = DerivedFiles { storage, durability: Durability::Replaced };
    segment.state.proofs = files.write_indexes(path_of, indexes, &segment.aborted)?;
    segment.state.sealed = true;
    Ok(())
}
