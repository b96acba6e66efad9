//! What was seen of a partition that somebody else owns.

use crate::config::IsolationLevel;
use crate::error::Error;
use crate::log::files::leader_epochs::EpochChain;
use crate::log::finding::Finding;
use crate::log::load::lost_markers::LostMarkers;
use crate::log::load::{OpenedPartition, OpenedSegment};
use crate::log::producers::transactions::TransactionTracker;
use crate::log::scan::BatchExpectations;
use crate::log::segment::state::SegmentState;
use crate::log::segment::summary::{INDEX_INTERVAL_BYTES, SegmentIndexes, SegmentSummary};
use crate::storage::File;
use crate::sync::{Arc, OnceLock};
use std::path::PathBuf;

/// The partition as it was seen so far.
#[derive(Debug)]
pub(super) struct AttachedView {
    /// Another one for each view of the partition: places in one are none in the next.
    pub(super) number: u64,
    pub(super) segments: Vec<AttachedSegment>,
    pub(super) log_start_offset: i64,
    pub(super) rules: BatchExpectations,
    pub(super) transactions: TransactionTracker,
    pub(super) lost_markers: LostMarkers,
    pub(super) epochs: EpochChain,
    /// Damage at the log end, as opening found it. A later look may find a valid batch there:
    /// then it was one in the making.
    pub(super) damage: Option<Error>,
    /// Files that opening left out, by base offset and length: they are not the next segment.
    pub(super) left_out: Vec<(i64, u64)>,
    pub(super) findings: Vec<Finding>,
    pub(super) files: Vec<(i64, Arc<dyn File>)>,
}

/// A segment, as it was when it was opened and as it was seen since.
#[derive(Debug)]
pub(super) struct AttachedSegment {
    pub(super) path: PathBuf,
    /// What was vouched for when it was opened; its borders are those of `summary`.
    pub(super) recorded: SegmentState,
    /// What was seen so far. Its lookups cover only what lies behind the recorded border.
    pub(super) summary: SegmentSummary,
    pub(super) below: Below,
}

/// The lookups of what lies below the recorded border, once they were needed.
pub(super) type Below = Arc<OnceLock<Arc<SegmentIndexes>>>;

impl AttachedView {
    pub(super) fn new(opened: OpenedPartition, number: u64) -> AttachedView {
        let mut rules = BatchExpectations::foreign(0, opened.log_end_offset, true);
        rules.epoch = opened.epochs.latest().unwrap_or(-1);
        AttachedView {
            number,
            log_start_offset: opened.log_start_offset,
            rules,
            transactions: opened.transactions,
            lost_markers: opened.lost_markers,
            epochs: opened.epochs,
            damage: opened.read_only,
            left_out: opened.left_out,
            findings: opened.findings,
            files: Vec::new(),
            segments: opened.segments.into_iter().map(AttachedSegment::new).collect(),
        }
    }

    pub(super) fn log_end(&self) -> i64 {
        self.rules.next_offset
    }

    pub(super) fn end_for(&self, isolation: IsolationLevel) -> i64 {
        match isolation {
            IsolationLevel::ReadUncommitted => self.log_end(),
            IsolationLevel::ReadCommitted => {
                self.transactions.last_stable_offset(self.log_start_offset, self.log_end())
            }
        }
    }

    pub(super) fn segment_at(&self, base_offset: i64) -> Option<usize> {
        self.segments.binary_search_by_key(&base_offset, |s| s.summary.extent.base_offset).ok()
    }
}

impl AttachedSegment {
    pub(super) fn new(opened: OpenedSegment) -> AttachedSegment {
        let mut summary = SegmentSummary::resume(&opened.state, None, INDEX_INTERVAL_BYTES);
        summary.aborted = opened.aborted;
        let below = match opened.indexes {
            Some(indexes) => OnceLock::from(indexes),
            None if opened.state.extent.size_bytes == 0 => OnceLock::from(Arc::default()),
            None => OnceLock::new(),
        };
        AttachedSegment {
            path: opened.path,
            recorded: opened.state,
            summary,
            below: Arc::new(below),
        }
    }
}
