//! Looking at every byte of a partition's segments, whatever is wrong with some of them.
//!
//! Opening ends at the first damage, because nothing behind it may be served. A check goes on:
//! behind a batch that does not hold the next one that does is looked for, a sector that cannot be
//! read counts as zeros, and each file is read for itself.

use crate::error::{Error, ErrorKind, Result};
use crate::log::finding::{Finding, FindingKind};
use crate::log::load::folder::{Folder, FolderFile, SPECIAL};
use crate::log::scan::{
    BatchCursor, BatchExpectations, FoundBatch, Invalid, SCAN_WINDOW_BYTES, Scanned, Stop,
    continuation,
};
use crate::log::segment::state::SegmentState;
use crate::record::{BatchFault, RecordBatch};
use crate::storage::{File, Region, Storage};
use crate::sync::{Arc, Mutex};
use std::io;
use std::path::PathBuf;

/// What is read at once where a larger read failed.
const SECTOR_BYTES: u64 = 4096;

/// What is wrong with the batches of the files in `folder`, `segments` among them.
///
/// # Errors
/// None of a single file: what cannot be read is a finding.
pub(in crate::log) fn inspect(
    storage: &dyn Storage,
    folder: &Folder,
    segments: &[SegmentState],
    uncompressed_max: usize,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut files = folder.logs().peekable();
    while let Some(file) = files.next() {
        let base = file.name.offset;
        let dense = segments.iter().any(|s| s.extent.base_offset == base && s.layout.is_dense());
        let is_last = files.peek().is_none();
        let opened = segments.iter().find(|s| s.extent.base_offset == base);
        let opened_bytes = opened.map_or(0, |segment| segment.extent.size_bytes);
        let inspection = Inspection { file, dense, is_last, opened_bytes, uncompressed_max };
        match storage.open(&file.path) {
            Ok(open) => inspection.read(open, &mut findings)?,
            // The owner removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => findings.push(unreadable(file, None, &error)),
        }
    }
    Ok(findings)
}

/// A finding instead of an error that says that something cannot be read.
///
/// # Errors
/// Every other error.
pub(in crate::log) fn tell_unreadable(error: Error) -> Result<Finding> {
    match (error.kind(), error.path()) {
        (ErrorKind::Io, Some(path)) => Ok(Finding {
            kind: FindingKind::Unreadable,
            path: path.to_owned(),
            position: error.position(),
            offset: None,
            message: error.message().to_owned(),
        }),
        _ => Err(error),
    }
}

/// A FIFO, a socket or a device in the place of a file, which nobody opens.
pub(super) fn tell_special(path: PathBuf) -> Finding {
    Finding {
        kind: FindingKind::Unreadable,
        path,
        position: None,
        offset: None,
        message: SPECIAL.to_owned(),
    }
}

fn unreadable(file: &FolderFile, position: Option<u64>, error: &io::Error) -> Finding {
    Finding {
        kind: FindingKind::Unreadable,
        path: file.path.clone(),
        position,
        offset: None,
        message: format!("it cannot be read here: {error}"),
    }
}

/// The reading of one file.
struct Inspection<'a> {
    file: &'a FolderFile,
    dense: bool,
    is_last: bool,
    /// Below it, opening found something to vouch for offsets that are far from the base.
    opened_bytes: u64,
    uncompressed_max: usize,
}

impl Inspection<'_> {
    fn read(&self, open: Arc<dyn File>, findings: &mut Vec<Finding>) -> Result<()> {
        let patched = Patched { file: open, unread: Mutex::default() };
        let failed = |error| Error::io(error, "reading", &self.file.path);
        let base = self.file.name.offset;
        let mut rules = BatchExpectations::foreign(base, base, true);
        rules.exact = self.dense;
        let end = self.file.len;
        let mut cursor = BatchCursor::new(&patched, end, SCAN_WINDOW_BYTES);
        let (mut position, mut buffers) = (0, (Vec::new(), Vec::new()));
        loop {
            rules.far = position < self.opened_bytes;
            let stop = match cursor.batch_at(position, &rules).map_err(failed)? {
                Scanned::Found(batch) => {
                    findings.extend(self.look_into(&patched, &batch, &mut buffers));
                    rules.advance(&batch.header);
                    position = batch.end();
                    continue;
                }
                Scanned::Stopped(Stop::End | Stop::Zeros) => break,
                Scanned::Stopped(stop) => stop,
            };
            let next = continuation(&patched, position, end, &rules).map_err(failed)?;
            findings.push(self.damage(position, rules.next_offset, &stop, next.is_some()));
            let Some(next) = next else { break };
            rules.next_offset = next.header.base_offset;
            position = next.position;
        }
        let unread = std::mem::take(&mut *patched.unread.lock());
        findings.extend(unread.iter().map(|(at, error)| unreadable(self.file, Some(*at), error)));
        Ok(())
    }

    /// What is wrong with the records of a batch whose checksum is right.
    fn look_into(
        &self,
        file: &Patched,
        batch: &FoundBatch,
        (bytes, unpacked): &mut (Vec<u8>, Vec<u8>),
    ) -> Option<Finding> {
        bytes.resize(batch.header.size(), 0);
        file.read_exact_at(batch.position, bytes).ok()?;
        let checked = RecordBatch::parse(bytes)
            .and_then(|found| found.check_records(unpacked, self.uncompressed_max));
        let (kind, fault) = match checked {
            Ok(()) | Err(BatchFault::CodecMissing(_)) => return None,
            Err(fault @ BatchFault::TooLarge(..)) => (FindingKind::TooLarge, fault),
            Err(fault) => (FindingKind::Corrupt, fault),
        };
        Some(Finding {
            kind,
            path: self.file.path.clone(),
            position: Some(batch.position),
            offset: Some(batch.header.base_offset),
            message: fault.to_string(),
        })
    }

    fn damage(&self, position: u64, offset: i64, stop: &Stop, goes_on: bool) -> Finding {
        let kind = match stop {
            Stop::Invalid(Invalid::OldFormat(_)) => FindingKind::OldFormat,
            _ if goes_on || !self.is_last => FindingKind::Corrupt,
            _ => FindingKind::TornTail,
        };
        Finding {
            kind,
            path: self.file.path.clone(),
            position: Some(position),
            offset: Some(offset),
            message: stop.to_string(),
        }
    }
}

/// A file whose unreadable sectors read as zeros, which no batch begins with.
#[derive(Debug)]
struct Patched {
    file: Arc<dyn File>,
    /// The first of each run of them, and the last failure.
    unread: Mutex<Vec<(u64, io::Error)>>,
}

impl Patched {
    fn read_sector(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(SECTOR_BYTES - at % SECTOR_BYTES).unwrap_or(1).min(out.len());
        let Some(sector) = out.get_mut(..len) else { return Ok(0) };
        match self.file.read_at(at, sector) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                sector.fill(0);
                let mut unread = self.unread.lock();
                let known = unread
                    .iter()
                    .any(|(begin, _)| (*begin..=begin.saturating_add(SECTOR_BYTES)).contains(&at));
                if !known {
                    unread.push((at, error));
                }
                Ok(len)
            }
            outcome => outcome,
        }
    }
}

impl File for Patched {
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        match self.file.read_at(at, out) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => self.read_sector(at, out),
            outcome => outcome,
        }
    }

    fn region(&self) -> io::Result<&Region> {
        self.file.region()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(at, bytes)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn prepare(&self, len: u64, reserve: u64) -> io::Result<()> {
        self.file.prepare(len, reserve)
    }
}
