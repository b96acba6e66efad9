//! Reading all of a partition and saying what is not as it should be, and what the next append
//! would do about it. Nothing is written.
//!
//! Opening reads only what it has to. Here every batch of every segment is read and its CRC
//! checked, whatever is recorded of it and whatever is wrong with the one before, and the files
//! derived from batches are compared with them. What cannot be read hides nothing else.

use crate::error::{Error, Result};
use crate::log::files::names::{FileKind, FileStage, SegmentFileName, file_name};
use crate::log::finding::{Finding, FindingKind};
use crate::log::load::folder::Folder;
use crate::log::load::foreign_indexes;
use crate::log::load::inspect::{inspect, tell_special, tell_unreadable};
use crate::log::load::repair::Step;
use crate::log::load::{OpenOptions, OpenedPartition, open_partition};
use crate::log::segment::indexes::load_indexes;
use crate::log::segment::state::{LogState, SegmentOrigin, SegmentState, Trust};
use crate::log::segment::summary::INDEX_INTERVAL_BYTES;
use crate::storage::Storage;
use crate::topic::TopicPartition;
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

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
    /// What the records of one batch may decompress to, in bytes.
    pub uncompressed_max: usize,
}

impl Verification<'_> {
    /// Reads everything, once.
    ///
    /// # Errors
    /// None that is of a file or of the folder: what cannot be read is a finding.
    pub fn findings(&self) -> Result<Vec<Finding>> {
        let mut findings: Vec<Finding> = Vec::new();
        // As many as a folder has files, or batches.
        let mut places: HashSet<(OsString, Option<u64>)> = HashSet::new();
        let mut add = |found: Vec<Finding>| {
            for finding in found {
                if places.insert((finding.path.clone().into_os_string(), finding.position)) {
                    findings.push(finding);
                }
            }
        };
        let mut segments = Vec::new();
        match self.open(self.state, self.trust) {
            Ok(as_recorded) => {
                add(as_recorded.findings);
                segments = as_recorded.segments;
            }
            Err(error) => add(vec![tell_unreadable(error)?]),
        }
        let states: Vec<SegmentState> = segments.iter().map(|segment| segment.state).collect();
        let known = if segments.is_empty() { &self.state.segments } else { &states };
        match Folder::list_beside_special(self.storage, &self.folder, self.partition) {
            Ok((folder, special)) => {
                add(special.into_iter().map(tell_special).collect());
                add(folder.too_long());
                add(inspect(self.storage, &folder, known, self.uncompressed_max)?);
            }
            Err(error) => add(vec![tell_unreadable(error)?]),
        }
        match self.open(&LogState::default(), Trust::Foreign) {
            Ok(whole) => add(whole.findings),
            Err(error) => add(vec![tell_unreadable(error)?]),
        }
        let damaged: HashSet<OsString> =
            findings.iter().map(|found| found.path.clone().into_os_string()).collect();
        for segment in &segments {
            match load_indexes(self.storage, &segment.state, &segment.path, INDEX_INTERVAL_BYTES) {
                Ok((_, fault)) => findings.extend(fault),
                Err(error) => findings.push(tell_unreadable(error)?),
            }
            // An index that points into damage tells nothing that is not told already.
            let damaged = damaged.contains(segment.path.as_os_str());
            if segment.state.origin == SegmentOrigin::Foreign && !damaged {
                match foreign_indexes::check(self.storage, segment) {
                    Ok(found) => findings.extend(found),
                    Err(error) => findings.push(tell_unreadable(error)?),
                }
            }
        }
        // A cleaned segment's index files have their names last: until then those that have them
        // are of what it takes the place of.
        let swapped: HashSet<i64> = findings.iter().filter_map(swapped_in).collect();
        findings.retain(|found| {
            found.kind != FindingKind::DerivedFile
                || file_of(&found.path).is_none_or(|file| !swapped.contains(&file.offset))
        });
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

    /// What a repair would do to the files, in order: what the next append would do before it
    /// writes, and where damage keeps it from that, what it takes to end before the damage.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`]; `UnsupportedFormat` where the partition is read-only for that,
    /// and nothing would be done.
    pub fn repairs(&self) -> Result<Vec<PlannedRepair>> {
        let look = || {
            let mut opened = self.open(self.state, self.trust)?;
            opened.end_before_damage(self.storage, &self.folder, self.partition)?;
            Ok::<_, Error>(opened)
        };
        let mut opened = look()?;
        if opened.given_up.is_some() {
            // An owner may have been in the middle of a batch.
            opened = look()?;
        }
        if let Some(error) = opened.refusal() {
            return Err(error);
        }
        Ok(PlannedRepair::all(&opened, &self.folder))
    }
}

fn file_of(path: &Path) -> Option<SegmentFileName> {
    path.file_name().and_then(|name| name.to_str()).and_then(SegmentFileName::parse)
}

/// The base offset of a segment that a compaction puts in the place of others, if a finding is of
/// that.
fn swapped_in(found: &Finding) -> Option<i64> {
    let file = file_of(&found.path).filter(|_| found.kind == FindingKind::HalfDone)?;
    (file.stage == FileStage::Swap).then_some(file.offset)
}

/// One change of a file that a repair makes. Where the partition is not damaged, the next append
/// makes it as well, before it writes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedRepair {
    /// The file.
    pub path: PathBuf,
    /// What is done to it: a lower-case sentence.
    pub action: String,
}

impl PlannedRepair {
    /// Everything that is to be done to a partition, in order.
    pub(in crate::log) fn all(opened: &OpenedPartition, folder: &Path) -> Vec<PlannedRepair> {
        let given_up = opened.given_up.iter().map(|damage| PlannedRepair {
            path: folder.to_owned(),
            action: format!(
                "give up the records from offset {} on, which stay in files named .cut: {damage}",
                opened.log_end_offset
            ),
        });
        given_up.chain(opened.repairs.steps().filter_map(PlannedRepair::of)).collect()
    }

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
