//! What is known about one partition before its folder is opened, and what closing gives back.
//!
//! The broker keeps a [`LogState`] per partition in its state file; [`Trust`] says how much of it
//! may be believed. Nothing here does I/O.

use crate::log::files::leader_epochs::EpochStart;
use crate::log::producers::transactions::{AbortedTransaction, OpenTransaction};
use crate::log::segment::extent::SegmentExtent;

/// The borders of one log as the state file keeps them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogState {
    /// The first offset that a reader may ask for.
    pub log_start_offset: i64,
    /// The offset of the next record.
    pub log_end_offset: i64,
    /// Everything below it is known to have been synced.
    pub recovery_point: i64,
    /// In ascending order of base offset; the last one is the active one.
    pub segments: Vec<SegmentState>,
    /// The last batch below `log_end_offset`, if the log has one. Recovery after a power cut
    /// begins behind it if `log_end_offset` is not above `recovery_point`, and else at the first
    /// byte of the segment that holds the recovery point: so borders are best recorded as they
    /// were when the sync began.
    pub last_batch: Option<LastBatch>,
    /// The first offset of each leader epoch, ascending in both.
    pub epochs: Vec<EpochStart>,
    /// Whether a transactional batch was ever written to it.
    pub transactional: bool,
    /// Transactions without an end below `log_end_offset`.
    pub open_transactions: Vec<OpenTransaction>,
    /// Aborted transactions whose marker lies in a segment without a proven `.txnindex`: that
    /// file is written when the segment is sealed. In order of `last_offset`.
    pub aborted: Vec<AbortedTransaction>,
    /// Whether a batch with a producer id was ever written to it.
    pub producers: bool,
    /// The snapshot that a close left behind the last batch of that time, if one is vouched for.
    pub end_snapshot: Option<EndSnapshot>,
    /// The log is damaged and read-only up to `log_end_offset`, or another program's bytes behind
    /// that wait to be set aside: the next open must read it anew, so that it stays so until it
    /// is repaired. The state file keeps this as a mark of its own.
    pub suspect: bool,
    /// A clean stop left the log so, and nothing was recorded of it since: all of these segments
    /// are there, from their first batch to their last, unless something happened to them.
    pub settled: bool,
}

impl LogState {
    /// Up to where the log must still be there: all that was recorded, unless pages may have been
    /// lost.
    pub fn proven_end(&self, trust: Trust) -> i64 {
        match trust {
            Trust::Clean | Trust::SameBoot => self.log_end_offset.max(self.recovery_point),
            Trust::New | Trust::OtherBoot | Trust::Foreign => self.recovery_point,
        }
    }

    /// Whether its segments are known to have had no hole: nobody but a life of ours has touched
    /// the directory since a clean stop recorded them.
    pub fn holds_whole(&self, trust: Trust) -> bool {
        match trust {
            Trust::Clean => true,
            Trust::SameBoot | Trust::OtherBoot => self.settled,
            Trust::New | Trust::Foreign => false,
        }
    }
}

/// One segment as the state file keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentState {
    pub extent: SegmentExtent,
    pub proofs: IndexProofs,
    /// The `.snapshot` file of the producers before its first batch, if its bytes are vouched
    /// for. Length 0 means that there was no producer, and no file.
    pub snapshot: Option<FileProof>,
    /// The file is cut to the length of its batches and will never be appended to.
    pub sealed: bool,
    pub layout: SegmentLayout,
    pub origin: SegmentOrigin,
}

/// The order in which the offsets of a segment follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentLayout {
    /// Each batch begins where the one before it ends: one that does not is damage (rule R3).
    Dense,
    /// Compaction may have taken any of them: a batch may begin behind the end of the one before.
    Sparse,
}

/// The program that wrote a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentOrigin {
    /// This crate did, from the first byte on.
    Ours,
    /// Another program did, or nobody can tell.
    Foreign,
}

impl SegmentLayout {
    #[inline]
    pub fn is_dense(self) -> bool {
        self == SegmentLayout::Dense
    }
}

impl SegmentState {
    /// Whether a later life may append to it, where it is the last one.
    pub fn is_resumable(&self) -> bool {
        self.layout == SegmentLayout::Dense && self.origin == SegmentOrigin::Ours
    }

    /// Another program's segment without a batch.
    pub fn foreign(base_offset: i64) -> SegmentState {
        let (layout, origin) = (SegmentLayout::Sparse, SegmentOrigin::Foreign);
        SegmentState { layout, origin, ..SegmentState::empty(base_offset) }
    }

    /// A segment of ours without a batch.
    pub fn empty(base_offset: i64) -> SegmentState {
        SegmentState {
            extent: SegmentExtent::empty(base_offset),
            proofs: IndexProofs::default(),
            snapshot: None,
            sealed: false,
            layout: SegmentLayout::Dense,
            origin: SegmentOrigin::Ours,
        }
    }
}

/// A `.snapshot` file that is not at the beginning of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndSnapshot {
    /// The number in the file's name: it knows the batches below.
    pub offset: i64,
    pub proof: FileProof,
}

/// The files that were written from the batches of a segment, where their bytes are vouched for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct IndexProofs {
    pub index: Option<FileProof>,
    pub time_index: Option<FileProof>,
    /// Length 0 means that there is no `.txnindex`.
    pub transaction_index: Option<FileProof>,
}

/// Length and CRC-32 (IEEE) of a derived file that may be believed while both still hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FileProof {
    pub len: u64,
    pub crc: u32,
}

impl FileProof {
    /// The proof of exactly these bytes.
    pub fn of(bytes: &[u8]) -> FileProof {
        FileProof { len: bytes.len() as u64, crc: crc32fast::hash(bytes) }
    }

    /// Whether these are the bytes that the proof was made of.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        *self == FileProof::of(bytes)
    }
}

/// The place of a log's last batch, and the CRC-32C that its header stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastBatch {
    /// Base offset of the segment that holds it.
    pub segment: i64,
    /// Where it begins in the file, in bytes.
    pub position: u64,
    /// Its base offset.
    pub base_offset: i64,
    pub crc: u32,
}

/// The share of a [`LogState`] that may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The partition has no folder yet.
    New,
    /// We closed it: everything holds, nothing is scanned.
    Clean,
    /// Our process died and the machine did not: the page cache survived, so only the last batch
    /// can be torn.
    SameBoot,
    /// The machine may have lost power: every segment above the recovery point is read and
    /// checked.
    OtherBoot,
    /// Another program wrote here, or our state contradicts the files: everything is read.
    Foreign,
}
