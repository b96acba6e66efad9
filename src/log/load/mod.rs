//! Opening one partition, from files and what is known of them to borders and segments: recovery,
//! other programs' files, repairs, checks.
//!
//! [`open_partition`] reads and decides; it writes nothing. What has to change on disk (a tail to
//! cut, a half-done swap to finish) is kept as steps, and [`OpenedPartition::finish`] takes them
//! before the first append. Opening the same files again decides the same, however many of the
//! steps were taken (rule R11). The rules: `docs/format.md`, section Recovery.

pub(in crate::log) mod compacted_aborts;
pub(in crate::log) mod cut;
pub(crate) mod folder;
pub(in crate::log) mod foreign;
pub(in crate::log) mod foreign_indexes;
pub(in crate::log) mod inspect;
pub(in crate::log) mod lost_markers;
mod plan;
pub(in crate::log) mod producers;
pub(in crate::log) mod reader;
pub(in crate::log) mod recovery;
pub(in crate::log) mod repair;
pub(in crate::log) mod swaps;
mod tail;
pub(crate) mod verify;

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::log::files::leader_epochs::EpochChain;
use crate::log::finding::{Finding, FindingKind};
use crate::log::load::folder::Folder;
use crate::log::load::foreign as adoption;
use crate::log::load::lost_markers::LostMarkers;
use crate::log::load::recovery::Opened;
use crate::log::load::repair::Repairs;
use crate::log::producers::entries::ProducerEntries;
use crate::log::producers::transactions::{AbortedTransaction, TransactionTracker};
use crate::log::segment::state::{EndSnapshot, LastBatch, LogState, SegmentState, Trust};
use crate::log::segment::summary::{INDEX_INTERVAL_BYTES, SegmentIndexes};
use crate::storage::Storage;
use crate::sync::Arc;
use crate::topic::TopicPartition;

/// The terms of an opening, beside the state.
pub(crate) struct OpenOptions<'a> {
    /// The highest leader epoch that was durably taken. Batches of our own with a higher one are
    /// refused.
    pub epoch_max: i32,
    /// The partition's row of `log-start-offset-checkpoint`, in a foreign directory.
    pub log_start_checkpoint: Option<i64>,
    /// The partition's row of `recovery-point-offset-checkpoint`, in a foreign directory. It
    /// decides nothing and is named where the log ends below it.
    pub recovery_checkpoint: Option<i64>,
    /// Bytes of batches for each entry of a rebuilt index.
    pub index_interval_bytes: u64,
    /// The owner may be running. Every batch behind the recorded border then has its CRC checked.
    pub beside_owner: bool,
    /// Told how many bytes were read, each time some were, while a foreign partition is read.
    pub progress: Option<&'a mut dyn FnMut(u64)>,
}

impl Default for OpenOptions<'_> {
    fn default() -> Self {
        OpenOptions {
            epoch_max: i32::MAX,
            log_start_checkpoint: None,
            recovery_checkpoint: None,
            index_interval_bytes: INDEX_INTERVAL_BYTES,
            beside_owner: false,
            progress: None,
        }
    }
}

/// A segment as opening found it.
#[derive(Debug, Clone)]
pub(crate) struct OpenedSegment {
    /// Borders, times, and what is vouched for.
    pub state: SegmentState,
    /// Where its batches are: under another name than usual while a swap is half done.
    pub path: PathBuf,
    /// The length of the file; what lies above `state.size_bytes` is not part of the log.
    pub file_bytes: u64,
    /// Its indexes, if they were built while it was read; else
    /// [`crate::log::segment::indexes::load_indexes`] gives them.
    pub indexes: Option<Arc<SegmentIndexes>>,
    /// Aborted transactions whose marker lies in it, in order.
    pub aborted: Vec<AbortedTransaction>,
}

/// The work that opening was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OpenReport {
    /// Bytes of batches that were read.
    pub bytes_read: u64,
    /// Batches and records that were read and found valid.
    pub batches: u64,
    pub records: u64,
    /// Bytes behind the last valid batch that are not zeros, and files behind them.
    pub bytes_lost: u64,
    pub segments_lost: u64,
    /// The partition was read as one that another program wrote.
    pub foreign: bool,
    /// The highest producer id that was read.
    pub producer_id_max: Option<i64>,
}

/// A partition, opened.
#[derive(Debug)]
pub(crate) struct OpenedPartition {
    /// Ascending by base offset. Some may be empty.
    pub segments: Vec<OpenedSegment>,
    pub log_start_offset: i64,
    pub log_end_offset: i64,
    /// Not above `log_end_offset`; opening never raises it, because a read proves nothing about
    /// what a power cut would leave.
    pub recovery_point: i64,
    pub epochs: EpochChain,
    /// Transactions without an end.
    pub transactions: TransactionTracker,
    /// The proof of markers that are missing, for who reads on.
    pub(in crate::log) lost_markers: LostMarkers,
    /// The state knew of transactions before the opening.
    pub transactional: bool,
    /// The producers of all batches, where all were read.
    pub producers: Option<ProducerEntries>,
    /// A batch with a producer id was ever seen.
    pub any_producer: bool,
    /// The snapshot that a close left, if it is vouched for.
    pub end_snapshot: Option<EndSnapshot>,
    pub last_batch: Option<LastBatch>,
    /// The last segment may be appended to; otherwise the next append begins a new one at
    /// `log_end_offset`.
    pub resumable: bool,
    /// Why nothing may be appended, and what a read at `log_end_offset` answers.
    pub read_only: Option<Error>,
    /// The folder, or a file of batches in it, is this symbolic link: nothing may be changed, and
    /// all of it is read.
    pub link: Option<PathBuf>,
    /// A compaction of ours is to be finished: the state file has to know its results before they
    /// get their names.
    pub swaps: bool,
    /// The damage that the log ends before, where the caller gave up what is behind it.
    pub given_up: Option<Error>,
    /// Files with batches, by base offset and length, that are not part of the log.
    pub left_out: Vec<(i64, u64)>,
    /// What is to be told, in the order it was found.
    pub findings: Vec<Finding>,
    pub report: OpenReport,
    pub(in crate::log) repairs: Repairs,
}

impl OpenedPartition {
    /// A log without a file, at `offset`.
    pub(in crate::log) fn empty(offset: i64) -> OpenedPartition {
        OpenedPartition {
            segments: Vec::new(),
            log_start_offset: offset,
            log_end_offset: offset,
            recovery_point: offset,
            epochs: EpochChain::default(),
            transactions: TransactionTracker::default(),
            lost_markers: LostMarkers::default(),
            transactional: false,
            producers: None,
            any_producer: false,
            end_snapshot: None,
            last_batch: None,
            resumable: false,
            read_only: None,
            link: None,
            swaps: false,
            given_up: None,
            left_out: Vec::new(),
            findings: Vec::new(),
            report: OpenReport::default(),
            repairs: Repairs::default(),
        }
    }

    /// Takes over what the listing of the folder tells beside its segments.
    fn note_folder(&mut self, folder: &Folder) {
        self.link.clone_from(&folder.link);
        if let Some(link) = &self.link {
            self.findings.push(Finding {
                kind: FindingKind::Link,
                path: link.clone(),
                position: None,
                offset: None,
                message: "a symbolic link: it is read, and the partition is read-only".into(),
            });
        }
        let segments = &self.segments;
        let known =
            |base| segments.binary_search_by_key(&base, |s| s.state.extent.base_offset).is_ok();
        self.left_out = folder
            .logs()
            .map(|file| (file.name.offset, file.len))
            .filter(|(base, _)| !known(*base))
            .collect();
    }

    /// Takes over what is recorded of producers and of their snapshots, as far as it is of this
    /// log: a file was synced before it was recorded, and what it tells of is below it.
    fn keep_snapshots_of(&mut self, state: &LogState) {
        self.any_producer |= state.producers;
        self.end_snapshot = state.end_snapshot.filter(|end| end.offset <= self.log_end_offset);
        for segment in &mut self.segments {
            let base = segment.state.extent.base_offset;
            let known =
                state.segments.binary_search_by_key(&base, |known| known.extent.base_offset);
            let known = known.ok().and_then(|at| state.segments.get(at));
            segment.state.snapshot = known.and_then(|known| known.snapshot);
        }
    }

    /// The border that read_committed readers stop at.
    #[cfg(any(test, fuzzing))]
    pub fn last_stable_offset(&self) -> i64 {
        self.transactions.last_stable_offset(self.log_start_offset, self.log_end_offset)
    }

    /// Why nothing may be appended, if nothing may.
    pub fn refusal(&self) -> Option<Error> {
        let linked = |link: &PathBuf| {
            let message = "read-only: nothing is written, cut or removed through a symbolic link";
            Error::new(ErrorKind::ReadOnly, message).with_path(link.as_path())
        };
        self.read_only.clone().or_else(|| self.link.as_ref().map(linked))
    }

    /// Whether the log ends where its last segment does, and that may be appended to.
    pub(in crate::log) fn ends_resumable(&self) -> bool {
        self.segments.last().is_some_and(|last| {
            last.state.is_resumable() && last.state.extent.next_offset == self.log_end_offset
        })
    }

    /// Whether [`OpenedPartition::finish`] has anything to do.
    pub fn needs_finish(&self) -> bool {
        !self.repairs.is_empty()
    }

    /// Makes the files what opening decided they are: must succeed before the first append.
    ///
    /// Files that stand under the name of a half-done swap get their own name, segments that
    /// another program wrote get rebuilt indexes, tails are cut. `segments` is kept up to date.
    ///
    /// # Durability
    /// After `Ok` all of it survives power loss. After an error some of it may be done; another
    /// call goes on, except after a failed sync.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`], [`crate::ErrorKind::StorageFull`], and
    /// [`crate::ErrorKind::StorageFailed`] for good once a sync failed; the refusal, if there is
    /// one.
    pub fn finish(&mut self, storage: &dyn Storage) -> Result<()> {
        if let Some(error) = self.refusal() {
            return Err(error);
        }
        self.repairs.run(storage, &mut self.segments)?;
        if std::mem::take(&mut self.report.foreign) {
            // Each of its files was synced with its indexes.
            self.recovery_point = self.log_end_offset;
        }
        Ok(())
    }

    /// The state as of the opening.
    pub fn state(&self) -> LogState {
        LogState {
            log_start_offset: self.log_start_offset,
            log_end_offset: self.log_end_offset,
            recovery_point: self.recovery_point,
            segments: self.segments.iter().map(|segment| segment.state).collect(),
            last_batch: self.last_batch,
            epochs: self.epochs.starts().to_vec(),
            transactional: self.transactional || self.transactions.seen_any(),
            open_transactions: self.transactions.open(),
            producers: self.any_producer,
            end_snapshot: self.end_snapshot,
            aborted: self
                .segments
                .iter()
                .filter(|segment| segment.state.proofs.transaction_index.is_none())
                .flat_map(|segment| segment.aborted.iter().copied())
                .collect(),
            suspect: self.read_only.is_some(),
            settled: false,
        }
    }
}

/// Opens the partition in `folder`. Reads only; a missing folder is a log without files.
///
/// # Errors
/// [`crate::ErrorKind::Io`] where the disk does not answer. Damage is no error: it ends the log,
/// and `read_only` says whether it may be appended to.
pub(crate) fn open_partition(
    storage: &dyn Storage,
    folder: &Path,
    partition: &TopicPartition,
    state: &LogState,
    trust: Trust,
    mut options: OpenOptions<'_>,
) -> Result<OpenedPartition> {
    if trust == Trust::New {
        return Ok(OpenedPartition::empty(state.log_end_offset));
    }
    let folder = Folder::list(storage, folder, partition)?;
    let contradiction = match trust {
        Trust::New | Trust::Foreign => None,
        Trust::Clean | Trust::SameBoot | Trust::OtherBoot => {
            match recovery::open(storage, &folder, state, trust, &options)? {
                Opened::AsRecorded(mut opened) => {
                    opened.transactional = state.transactional;
                    opened.keep_snapshots_of(state);
                    opened.note_folder(&folder);
                    return Ok(*opened);
                }
                Opened::Contradicted(finding) => Some(finding),
            }
        }
    };
    let vouched = adoption::Vouched {
        proven_end: state.proven_end(trust),
        segments: if state.holds_whole(trust) { &state.segments } else { &[] },
        start: state.log_start_offset,
    };
    let mut opened = adoption::open(storage, &folder, state, &vouched, &mut options)?;
    opened.findings.splice(0..0, contradiction);
    opened.note_folder(&folder);
    Ok(opened)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
