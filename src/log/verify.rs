//! Reading all of a partition and saying what is not as it should be, and what the next append
//! would do about it. Nothing is written.
//!
//! Opening reads only what it has to. Here every batch of every segment is read and its CRC
//! checked, whatever is recorded of it, and the files derived from batches are compared with them.

use super::checkpoint::read_file;
use super::derived::load_indexes;
use super::finding::{Finding, FindingKind};
use super::names::{FileKind, file_name};
use super::offset_index::{ENTRY_SIZE, OffsetIndex};
use super::opening::{OpenOptions, OpenedPartition, OpenedSegment, open_partition};
use super::repair::Step;
use super::scan::{BatchCursor, WALK_WINDOW_BYTES};
use super::state::{LogState, Trust};
use crate::error::{Error, Result};
use crate::storage::Storage;
use crate::topic::TopicPartition;
use std::path::{Path, PathBuf};

/// The largest index file that is compared.
const INDEX_SIZE_MAX: u64 = 1 << 29;

/// A partition on the disk, and what is recorded of it.
#[derive(Debug)]
pub(crate) struct Verification<'a> {
    pub storage: &'a dyn Storage,
    pub folder: PathBuf,
    pub partition: &'a TopicPartition,
    pub state: &'a LogState,
    pub trust: Trust,
    pub log_start_checkpoint: Option<i64>,
    pub recovery_checkpoint: Option<i64>,
}

impl Verification<'_> {
    /// Reads everything. What is found is looked at twice, because an owner may have been in the
    /// middle of a batch.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub fn findings(&self) -> Result<Vec<Finding>> {
        let first = self.look()?;
        match first.iter().all(Finding::is_note) {
            true => Ok(first),
            false => self.look(),
        }
    }

    fn look(&self) -> Result<Vec<Finding>> {
        let as_recorded = self.open(self.state, self.trust)?;
        let mut findings = as_recorded.findings.clone();
        let nothing = LogState::default();
        let whole = self.open(&nothing, Trust::Foreign)?;
        for finding in whole.findings {
            let place = (&finding.path, finding.position);
            if !findings.iter().any(|known| (&known.path, known.position) == place) {
                findings.push(finding);
            }
        }
        for segment in &as_recorded.segments {
            let (_, fault) = load_indexes(self.storage, &segment.state, &segment.path, 1 << 12)?;
            findings.extend(fault);
            // An index that points into damage tells nothing that is not told already.
            let damaged = findings.iter().any(|found| found.path == segment.path);
            if !segment.state.by_us && !damaged {
                findings.extend(self.foreign_index(segment)?);
            }
        }
        Ok(findings)
    }

    fn open(&self, state: &LogState, trust: Trust) -> Result<OpenedPartition> {
        let start = self.log_start_checkpoint.unwrap_or(0).max(self.state.log_start_offset);
        let options = OpenOptions {
            log_start_checkpoint: Some(start),
            recovery_checkpoint: self.recovery_checkpoint,
            beside_owner: true,
            ..OpenOptions::default()
        };
        open_partition(self.storage, &self.folder, self.partition, state, trust, options)
    }

    /// What is wrong with the offset index of a segment that another program wrote.
    fn foreign_index(&self, segment: &OpenedSegment) -> Result<Option<Finding>> {
        let state = &segment.state;
        let path = segment.path.with_file_name(file_name(state.base_offset, FileKind::OffsetIndex));
        let Some(bytes) = read_file(self.storage, &path, INDEX_SIZE_MAX)? else {
            return Ok((state.size_bytes > 0).then(|| derived(&path, None, "missing")));
        };
        let written = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
        let written = written.next_multiple_of(ENTRY_SIZE).min(bytes.len());
        let entries = bytes.get(..written).unwrap_or_default();
        let last = u32::try_from(state.next_offset - 1 - state.base_offset).unwrap_or(0);
        let index = match OffsetIndex::parse(entries, state.size_bytes, last) {
            Ok(index) => index,
            Err(fault) => return Ok(Some(derived(&path, None, fault.0))),
        };
        let failed = |error| Error::io(error, "reading", &segment.path);
        let file = self.storage.open(&segment.path).map_err(failed)?;
        let mut cursor = BatchCursor::new(&*file, state.size_bytes, WALK_WINDOW_BYTES);
        for (number, entry) in index.entries().iter().enumerate() {
            let offset = state.base_offset + i64::from(entry.relative_offset);
            let header = cursor.header_at(entry.position.into()).map_err(failed)?;
            if !header.is_ok_and(|header| header.base_offset <= offset) {
                let position = (number * ENTRY_SIZE) as u64;
                return Ok(Some(derived(&path, Some(position), "it points at no batch")));
            }
        }
        Ok(None)
    }

    /// What the next append would do to the files before it writes, in order.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`]; `CorruptRecord` and `UnsupportedFormat` where the partition is
    /// read-only, and nothing would be done.
    pub fn repairs(&self) -> Result<Vec<PlannedRepair>> {
        let opened = self.open(self.state, self.trust)?;
        if let Some(error) = opened.read_only {
            return Err(error);
        }
        Ok(opened.repairs.steps().filter_map(PlannedRepair::of).collect())
    }
}

fn derived(path: &Path, position: Option<u64>, fault: &str) -> Finding {
    let message = format!("the offset index does not hold and is not believed: {fault}");
    Finding {
        kind: FindingKind::DerivedFile,
        path: path.to_owned(),
        position,
        offset: None,
        message,
    }
}

/// One change of a file that the next append to its partition makes before it writes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedRepair {
    /// The file.
    pub path: PathBuf,
    /// What is done to it: a lower-case sentence.
    pub action: String,
}

impl PlannedRepair {
    fn of(step: &Step) -> Option<PlannedRepair> {
        let (path, action) = match step {
            Step::Remove(path) => (path.clone(), "remove it".to_owned()),
            Step::Rename { from, to } => (from.clone(), format!("rename it to {}", to.display())),
            Step::Cut { path, len, copy: true } => {
                (path.clone(), format!("copy what is behind byte {len} to FILE.cut and cut it off"))
            }
            Step::Cut { path, len, copy: false } => (path.clone(), format!("cut it at byte {len}")),
            Step::WriteDerived { folder, base_offset } => {
                let path = folder.join(file_name(*base_offset, FileKind::OffsetIndex));
                (path, "write the indexes of this segment anew".to_owned())
            }
            Step::SyncFolder(_) => return None,
        };
        Some(PlannedRepair { path, action })
    }
}
