//! What a log knew of producers before this life: the newest snapshot that is vouched for, and the
//! batches behind it.
//!
//! A snapshot is a cache (rule R9). One that does not hold is passed over for the next older one;
//! without any, every batch is read. Only headers and markers are looked at: checksums were, when
//! the log was opened, as far as anything could have happened to them.
//!
//! Departure: D65. Without a snapshot Kafka knows no producer after a clean stop, and takes what is
//! sent again a second time: here the batches tell.

use crate::error::{Error, ErrorKind, Result};
use crate::log::files::names::{FileKind, FileStage, file_name};
use crate::log::finding::{Finding, FindingKind};
use crate::log::load::folder::Folder;
use crate::log::producers::entries::ProducerEntries;
use crate::log::producers::snapshot::{self, SNAPSHOT_BYTES_MAX, SnapshotRow};
use crate::log::producers::transactions::TransactionTracker;
use crate::log::segment::indexes::{ProvenFile, proven_bytes, walk_markers};
use crate::log::segment::state::{EndSnapshot, FileProof, SegmentState};
use crate::storage::planted::{Planted, planted};
use crate::storage::{NotBegun, Storage};
use std::path::{Path, PathBuf};

/// A log as opening left it, with what vouches for its snapshots.
#[derive(Debug)]
pub(in crate::log) struct KnownLog<'a> {
    pub storage: &'a dyn Storage,
    pub folder: &'a Path,
    /// Ascending, each with the path of its batches.
    pub segments: &'a [(SegmentState, PathBuf)],
    pub end_snapshot: Option<EndSnapshot>,
}

impl KnownLog<'_> {
    /// The producers of all its batches, and what is to be told of snapshots that do not hold.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::CorruptRecord`] where the batches that would tell cannot be
    /// read: a producer that is not known to have sent a batch might have it stored twice.
    pub fn producers(&self) -> Result<(ProducerEntries, Vec<Finding>)> {
        let mut findings = Vec::new();
        let (mut entries, from) = self.newest_snapshot(&mut findings)?;
        for (segment, path) in self.segments {
            if segment.extent.next_offset <= from {
                continue;
            }
            let end = walk_markers(self.storage, path, segment.extent.size_bytes, |batch| {
                if batch.header.base_offset >= from {
                    entries.replay(&batch.header, batch.control);
                }
            })?;
            if end < segment.extent.size_bytes {
                let message = "no batch begins here, and it may be a producer's";
                return Err(Error::new(ErrorKind::CorruptRecord, message)
                    .with_path(path.as_path())
                    .with_position(end));
            }
        }
        Ok((entries, findings))
    }

    /// What the newest snapshot knows that holds, and the offset it was taken at.
    fn newest_snapshot(&self, findings: &mut Vec<Finding>) -> Result<(ProducerEntries, i64)> {
        if planted(Planted::SnapshotTrustedUnproven) {
            return self.believe_newest();
        }
        let at_base = self.segments.iter().rev().filter_map(|(segment, _)| {
            let proof = segment.snapshot?;
            Some(EndSnapshot { offset: segment.extent.base_offset, proof })
        });
        let first_to_read =
            self.segments.first().map_or(i64::MAX, |(first, _)| first.extent.base_offset);
        let at_end = self.end_snapshot.filter(|end| end.offset >= first_to_read);
        let mut candidates: Vec<EndSnapshot> = at_base.chain(at_end).collect();
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.offset));
        for EndSnapshot { offset, proof } in candidates {
            if proof == FileProof::default() {
                return Ok((ProducerEntries::default(), offset));
            }
            let path = self.folder.join(file_name(offset, FileKind::Snapshot));
            let fault = match proven_bytes(self.storage, &path, proof)? {
                ProvenFile::Believed(bytes) => match snapshot::parse(&bytes, offset) {
                    Ok(rows) => return Ok((ProducerEntries::of(&rows), offset)),
                    Err(fault) => fault.to_string(),
                },
                ProvenFile::Doubted(fault) => fault.to_string(),
            };
            let message = format!("its producers are read again from the batches: {fault}");
            let (kind, position) = (FindingKind::DerivedFile, None);
            findings.push(Finding { kind, path, position, offset: Some(offset), message });
        }
        Ok((ProducerEntries::default(), i64::MIN))
    }

    /// The planted bug: whatever file has the highest number.
    #[cold]
    fn believe_newest(&self) -> Result<(ProducerEntries, i64)> {
        let listed = self.storage.list(self.folder);
        let listed = listed.map_err(|error| Error::io(error, "listing", self.folder))?;
        let offset = |name: &str| name.strip_suffix(".snapshot")?.parse().ok();
        let newest: Option<i64> = listed.iter().filter_map(|entry| offset(&entry.name)).max();
        let Some(offset) = newest else { return Ok((ProducerEntries::default(), i64::MIN)) };
        let path = self.folder.join(file_name(offset, FileKind::Snapshot));
        let bytes = self.storage.read_file(&path, SNAPSHOT_BYTES_MAX).unwrap_or_default();
        Ok((ProducerEntries::of(&snapshot::believe(&bytes)), offset))
    }
}

/// What another program's log begins with: its newest snapshot that is not above `first`, the
/// first offset that its files hold, and that can be. The producers of batches that retention
/// removed are nowhere else.
///
/// # Errors
/// [`ErrorKind::Io`] where there is no descriptor left to read it.
pub(in crate::log) fn before(
    storage: &dyn Storage,
    folder: &Folder,
    first: i64,
) -> Result<(ProducerEntries, TransactionTracker)> {
    let mut rows = Vec::new();
    for offset in offsets(folder).rev().filter(|offset| *offset <= first) {
        if let Some((found, _)) = read(storage, folder, offset)? {
            rows = found;
            break;
        }
    }
    let open = snapshot::open_transactions(&rows);
    Ok((ProducerEntries::of(&rows), TransactionTracker::resume(&open)))
}

/// Another program's snapshot at `log_end`, if it says what all batches say.
///
/// # Errors
/// As [`before`].
pub(in crate::log) fn agreeing(
    storage: &dyn Storage,
    folder: &Folder,
    log_end: i64,
    rows: &[SnapshotRow],
) -> Result<Option<EndSnapshot>> {
    let found = match offsets(folder).any(|offset| offset == log_end) {
        true => read(storage, folder, log_end)?,
        false => None,
    };
    let agrees = found.filter(|(found, _)| found == rows);
    Ok(agrees.map(|(_, proof)| EndSnapshot { offset: log_end, proof }))
}

/// The highest producer id that another program's snapshots name.
///
/// # Errors
/// As [`before`].
pub(in crate::log) fn highest_id(storage: &dyn Storage, folder: &Folder) -> Result<Option<i64>> {
    let mut highest = None;
    for offset in offsets(folder) {
        let rows = read(storage, folder, offset)?.map(|(rows, _)| rows).unwrap_or_default();
        highest = highest.max(rows.last().map(|row| row.producer_id));
    }
    Ok(highest)
}

/// The offsets of the snapshots in use, ascending.
fn offsets(folder: &Folder) -> impl DoubleEndedIterator<Item = i64> {
    let snapshot = |kind, stage| kind == FileKind::Snapshot && stage == FileStage::Live;
    let files = folder.files.iter().filter(move |file| snapshot(file.name.kind, file.name.stage));
    files.map(|file| file.name.offset)
}

/// A snapshot that nothing vouches for but itself; `None` where it does not hold.
fn read(
    storage: &dyn Storage,
    folder: &Folder,
    offset: i64,
) -> Result<Option<(Vec<SnapshotRow>, FileProof)>> {
    let Some(file) = folder.file(offset, FileKind::Snapshot) else { return Ok(None) };
    match storage.read_file(&file.path, SNAPSHOT_BYTES_MAX) {
        Ok(bytes) => {
            let proof = FileProof::of(&bytes);
            Ok(snapshot::parse(&bytes, offset).ok().map(|rows| (rows, proof)))
        }
        Err(error) if NotBegun::is_in(&error) => Err(Error::io(error, "reading", &file.path)),
        Err(_) => Ok(None),
    }
}
