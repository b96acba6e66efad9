//! What the owner of a partition does to its files while others read them: whether a compaction
//! has put other segments in the place of those that were seen.
//!
//! An owner records new segments before it removes the old ones and gives the new ones their
//! names. So a file that was opened by its name was the one that had been seen, unless something
//! else is recorded by then.

use super::{AttachedLog, AttachedSegment, AttachedView};
use crate::error::{Error, Result};
use crate::log::segment::state::{LogState, SegmentState, Trust};
use crate::sync::Ordering;
use std::io;

/// The question what the owner recorded since it was last asked; `None` where that is nothing.
pub(crate) struct LookAgain(pub Box<dyn Fn() -> Option<(LogState, Trust)> + Send + Sync>);

impl std::fmt::Debug for LookAgain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LookAgain")
    }
}

/// The state that the owner recorded last, and the checkpoints that stand beside it in a foreign
/// directory.
#[derive(Debug, Clone)]
pub(super) struct StartingPoint {
    pub state: LogState,
    pub trust: Trust,
    pub log_start_checkpoint: Option<i64>,
    pub recovery_checkpoint: Option<i64>,
}

impl AttachedLog {
    /// Takes over what the owner recorded since it was last asked; false where that is nothing.
    pub(super) fn ask_owner(&self) -> bool {
        let Some((state, trust)) = self.look_again.as_ref().and_then(|again| again.0()) else {
            return false;
        };
        let mut start = self.start.lock();
        (start.state, start.trust) = (state, trust);
        true
    }

    /// Whether the owner lets the log begin at `first`: it records that before it removes a file.
    /// Another program may record it later.
    pub(super) fn has_retained_from(&self, first: i64) -> bool {
        let recorded = || {
            let start = self.start.lock();
            start.trust == Trust::Foreign || start.state.log_start_offset >= first
        };
        recorded() || self.ask_owner() && recorded()
    }

    /// Whether files that were opened by their names since the last call may be others than those
    /// that were seen.
    pub(super) fn is_replaced(&self, seen: &AttachedView) -> bool {
        if !self.opened.swap(false, Ordering::Relaxed) || !self.ask_owner() {
            return false;
        }
        let start = self.start.lock();
        let recorded = start.state.segments.as_slice();
        let (Some(first), Some(last)) = (recorded.first(), recorded.last()) else { return false };
        let told = first.extent.base_offset..=last.extent.base_offset;
        let find = |base| recorded.binary_search_by_key(&base, |row| row.extent.base_offset).ok();
        let differs = |segment: &AttachedSegment| {
            let base = segment.summary.extent.base_offset;
            told.contains(&base)
                && find(base)
                    .and_then(|at| recorded.get(at))
                    .is_none_or(|row| is_another(segment, row))
        };
        seen.segments.iter().any(differs)
    }

    /// Looks whether the last file is still the one that its name leads to: behind one that was
    /// compacted the log may go on in no file that its end names.
    ///
    /// # Errors
    /// `NotFound` where it is not, which has the folder listed again.
    pub(super) fn check_last(&self, seen: &mut AttachedView) -> Result<()> {
        let Some(at) = seen.segments.len().checked_sub(1) else { return Ok(()) };
        let file = self.file(seen, at)?;
        let Some(segment) = seen.segments.get(at) else { return Ok(()) };
        let failed = |error| Error::io(error, "looking at", &segment.path);
        // This order: the file only grows, and is cut when the next one is there.
        let len = file.len().map_err(failed)?;
        let named = self.storage.metadata(&segment.path).map_err(failed)?.len;
        match named != len && file.len().map_err(failed)? == len {
            true => Err(failed(io::ErrorKind::NotFound.into())),
            false => Ok(()),
        }
    }
}

/// Whether what is recorded is not what was seen of a segment, but more of it.
fn is_another(segment: &AttachedSegment, row: &SegmentState) -> bool {
    let AttachedSegment { recorded, summary, .. } = segment;
    let both_sealed = row.sealed && recorded.sealed;
    row.layout != recorded.layout
        || row.sealed && row.extent.size_bytes < summary.extent.size_bytes
        || both_sealed && row != recorded
}
