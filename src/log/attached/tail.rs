//! The looks that follow the first: what was appended, rolled and removed since.

use super::{AttachedLog, AttachedSegment, AttachedView};
use crate::error::{Error, Result};
use crate::log::files::names::{FileKind, file_name};
use crate::log::read::cut_short;
use crate::log::scan::{BatchCursor, SCAN_WINDOW_BYTES, Scanned};
use crate::log::segment::state::{SegmentOrigin, SegmentState};
use crate::log::segment::summary::{INDEX_INTERVAL_BYTES, SegmentSummary};
use crate::sync::{Arc, OnceLock};

impl AttachedLog {
    /// Takes in what was appended since the last look.
    pub(super) fn look_further(&self, seen: &mut AttachedView) -> Result<()> {
        loop {
            self.read_tail(seen)?;
            if seen.damage.is_some() {
                return Ok(());
            }
            let next = seen.log_end();
            let last = seen.segments.last().map(|segment| segment.summary.extent.base_offset);
            let path = self.folder.join(file_name(next, FileKind::Log));
            let found = match self.storage.metadata(&path) {
                Ok(entry) => !seen.left_out.contains(&(next, entry.len)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
                Err(error) => return Err(Error::io(error, "looking for", &path)),
            };
            if !found || last == Some(next) {
                return self.check_last(seen);
            }
            let ours = |last: &AttachedSegment| last.recorded.origin == SegmentOrigin::Ours;
            let recorded = match seen.segments.last().is_none_or(ours) {
                true => SegmentState::empty(next),
                false => SegmentState::foreign(next),
            };
            seen.segments.push(AttachedSegment {
                path,
                recorded,
                summary: SegmentSummary::new(next, INDEX_INTERVAL_BYTES),
                below: Arc::new(OnceLock::from(Arc::default())),
            });
        }
    }

    pub(super) fn read_tail(&self, seen: &mut AttachedView) -> Result<()> {
        let Some(at) = seen.segments.len().checked_sub(1) else {
            return Ok(());
        };
        let file = self.file(seen, at)?;
        let AttachedView {
            segments,
            rules,
            transactions,
            lost_markers,
            epochs,
            damage,
            findings,
            ..
        } = seen;
        let Some(segment) = segments.get_mut(at) else {
            return Ok(());
        };
        let failed = |error| Error::io(error, "reading", &segment.path);
        let len = file.len().map_err(failed)?;
        if len < segment.summary.extent.size_bytes {
            damage.get_or_insert_with(|| self.here(cut_short(&segment.path, len)));
            return Ok(());
        }
        rules.segment = segment.summary.extent.base_offset;
        rules.exact = segment.recorded.layout.is_dense();
        rules.epochs_fall = segment.recorded.origin == SegmentOrigin::Foreign;
        // Only a batch in the making, whose offset is the next one, takes damage back.
        rules.exact |= damage.is_some();
        let mut cursor = BatchCursor::new(&*file, len, SCAN_WINDOW_BYTES);
        cursor.zeros_max_bytes = 0;
        let known = segment.summary.extent.size_bytes;
        // A stop of any kind is the end for now: the owner may be writing there.
        while let Scanned::Found(batch) =
            cursor.batch_at(segment.summary.extent.size_bytes, rules).map_err(failed)?
        {
            // What proves that a marker is missing is whole, and damage all the same.
            if lost_markers.observe(&batch.header, batch.control).is_err() {
                break;
            }
            segment.summary.observe(&batch, transactions);
            epochs.assign(batch.header.leader_epoch, batch.header.base_offset);
            rules.advance(&batch.header);
            *damage = None;
        }
        if segment.summary.extent.size_bytes > known {
            // What was told of the bytes there was of a batch in the making.
            findings.retain(|found| found.path != segment.path || found.position < Some(known));
        }
        Ok(())
    }

    /// Moves the log start if the owner removed the first segment.
    pub(super) fn notice_retention(&self, seen: &AttachedView) -> Result<()> {
        match seen.segments.first() {
            None => Ok(()),
            Some(first) => match self.storage.metadata(&first.path) {
                Ok(_) => Ok(()),
                Err(error) => Err(Error::io(error, "looking for", &first.path)),
            },
        }
    }

    /// Drops segments whose files are gone. Returns whether that explains what was missing.
    pub(super) fn list_again(&self, seen: &mut AttachedView) -> Result<bool> {
        let mut gone = 0;
        for segment in &seen.segments {
            let is_there = self.storage.exists(&segment.path);
            if is_there.map_err(|e| Error::io(e, "looking for", &segment.path))? {
                break;
            }
            if segment.path.extension().is_some_and(|ending| ending == "swap") {
                // It has its own name by now.
                return Ok(false);
            }
            gone += 1;
        }
        let Some(first) = seen.segments.get(gone).filter(|_| gone > 0) else {
            return Ok(false);
        };
        let first = first.summary.extent.base_offset;
        if !self.has_retained_from(first) {
            return Ok(false);
        }
        seen.log_start_offset = seen.log_start_offset.max(first);
        seen.files.retain(|(base, _)| *base >= first);
        seen.segments.drain(..gone);
        Ok(true)
    }
}
