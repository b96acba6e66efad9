//! Whole batches of a partition that somebody else owns: found, read and proven.

use super::range::{FetchRange, Foothold};
use super::{AttachedLog, AttachedView};
use crate::config::IsolationLevel;
use crate::error::{Error, ErrorKind, Result};
use crate::log::read::cursor::{Chunk, Cursor, Spot};
use crate::log::read::plain::FetchLimits;
use crate::log::read::steps::Steps;
use crate::log::scan::{BatchCursor, LOOKUP_WINDOW_BYTES, Scanned};
use crate::log::segment::order::BatchOrder;
use crate::log::segment::state::SegmentState;
use crate::log::segment::summary::relative;
use crate::storage::File;
use crate::sync::{Arc, Ordering};
use std::path::PathBuf;

/// How many files are kept open.
const FILES_MAX: usize = 4;

impl AttachedLog {
    /// Gives whole batches of one segment from the cursor on, verified and copied: as many as
    /// `limits.verify_bytes` holds, at least one if there is one below the end that `isolation`
    /// sees. The cursor stays before them. An empty chunk is the end for now; the cursor is there,
    /// also where compaction left no batch before it.
    ///
    /// # Errors
    /// `OffsetOutOfRange` below the log start and above the log end; `CorruptRecord` where the
    /// stored bytes are damaged, once everything before was read; a damaged log's damage at its
    /// end and anywhere behind; `Io`.
    pub fn fetch(
        &self,
        cursor: &mut Cursor,
        isolation: IsolationLevel,
        limits: FetchLimits,
    ) -> Result<Chunk> {
        self.with(|log, seen| {
            if cursor.offset() >= seen.end_for(isolation) {
                log.look_further(seen)?;
            }
            let (start, end) = (seen.log_start_offset, seen.log_end());
            let upto = seen.end_for(isolation);
            if let Some(damage) = seen.damage.as_ref().filter(|_| cursor.offset() >= upto) {
                return Err(damage.clone());
            }
            if cursor.offset() < start || cursor.offset() > end {
                let message = format!("the log has the offsets {start} to {end}");
                return Err(log
                    .here(Error::new(ErrorKind::OffsetOutOfRange, message))
                    .with_offset(cursor.offset()));
            }
            if cursor.offset() >= upto {
                return Ok(Chunk::empty(cursor.offset()));
            }
            log.fetch_below(seen, cursor, limits.verify_bytes, upto)
        })
    }

    /// The file, and the position in it, that a fetch of `cursor` goes on at, where that is known.
    pub fn file_at(&self, cursor: &Cursor) -> Option<(PathBuf, u64)> {
        let spot = cursor.spot?;
        let seen = self.seen.lock();
        let seen = seen.as_ref().filter(|seen| seen.number == spot.view)?;
        let segment = seen.segments.get(seen.segment_at(spot.segment)?)?;
        Some((segment.path.clone(), spot.position))
    }

    pub(super) fn fetch_below(
        &self,
        seen: &mut AttachedView,
        cursor: &mut Cursor,
        max_bytes: usize,
        upto: i64,
    ) -> Result<Chunk> {
        let offset = cursor.offset();
        let spot = cursor.spot.filter(|spot| spot.view == seen.number);
        let known = spot.and_then(|spot| Some((seen.segment_at(spot.segment)?, spot)));
        let (mut at, mut position, mut expected) = match known {
            Some((at, spot)) => (at, spot.position, spot.expected),
            None => self.locate(seen, offset)?,
        };
        while let Some(segment) = seen.segments.get(at) {
            if position >= segment.summary.extent.size_bytes {
                // The next segment, or an empty one that compaction left.
                at += 1;
                position = 0;
                expected = None;
                continue;
            }
            let extent = segment.summary.extent;
            let order = BatchOrder::of(segment.recorded.layout, &extent);
            let expected = expected.or(order.begin().filter(|_| position == 0));
            let (base, size) = (extent.base_offset, extent.size_bytes);
            let path = segment.path.clone();
            let file = self.file(seen, at)?;
            let place = Foothold { order, expected, wanted: offset };
            let wanted = FetchRange { position, end: size, max_bytes, upto, place };
            let (bytes, next) = wanted
                .read(&*file)
                .map_err(|error| self.here(error.with_path(&path)).with_offset(offset))?;
            let view = seen.number;
            cursor.spot = Some(Spot { segment: base, position, expected, view });
            let Some(next_offset) = next else {
                // The next batch lies behind what the reader may see: there is none before it.
                cursor.offset = upto;
                return Ok(Chunk::empty(upto));
            };
            return Ok(Chunk::read(bytes, next_offset));
        }
        // Compaction took all that was below the end: there is nothing to wait for.
        cursor.offset = upto;
        Ok(Chunk::empty(upto))
    }

    /// The segment and the position of the batch that holds `offset`, or of the first behind it,
    /// and the base offset that it has to have, where what lies before tells.
    pub(super) fn locate(
        &self,
        seen: &mut AttachedView,
        offset: i64,
    ) -> Result<(usize, u64, Option<i64>)> {
        let after = seen.segments.partition_point(|s| s.summary.extent.base_offset <= offset);
        let mut at = after.saturating_sub(1);
        while at < seen.segments.len() {
            let indexes = self.indexes(seen, at)?;
            let file = self.file(seen, at)?;
            let Some(segment) = seen.segments.get(at) else { break };
            let (base, size) =
                (segment.summary.extent.base_offset, segment.summary.extent.size_bytes);
            let failed = |error| Error::io(error, "reading", &segment.path);
            let relative = relative(offset, base).unwrap_or(0);
            let state = SegmentState { extent: segment.summary.extent, ..segment.recorded };
            let mut steps = Steps::from_entry(indexes.offsets.floor(relative), &state);
            let mut cursor = BatchCursor::new(&*file, size, LOOKUP_WINDOW_BYTES);
            while let Scanned::Found(header) = cursor.header_at(steps.position).map_err(failed)? {
                let behind = steps.position + header.size() as u64;
                let following = cursor.header_at(behind).map_err(failed)?.found();
                let following = || following.map(|following| following.base_offset);
                if let Some(found) = steps.find(offset, &header, following) {
                    return Ok((at, found.position, found.expected));
                }
            }
            if let Some(found) = steps.at_end() {
                return Ok((at, found.position, found.expected));
            }
            if steps.position < size {
                // The read there says what is wrong.
                return Ok((at, steps.position, None));
            }
            at += 1;
        }
        Ok((seen.segments.len(), 0, None))
    }

    /// The file of a segment, from the few that are kept open.
    pub(super) fn file(&self, seen: &mut AttachedView, at: usize) -> Result<Arc<dyn File>> {
        let Some(segment) = seen.segments.get(at) else {
            return Err(self.here(Error::new(ErrorKind::OffsetOutOfRange, "no such segment")));
        };
        let base = segment.summary.extent.base_offset;
        if let Some(found) = seen.files.iter().position(|(open, _)| *open == base) {
            let entry = seen.files.remove(found);
            seen.files.push(entry.clone());
            return Ok(entry.1);
        }
        self.opened.store(true, Ordering::Relaxed);
        let file = self
            .storage
            .open(&segment.path)
            .map_err(|error| Error::io(error, "opening", &segment.path))?;
        self.check_identity()?;
        if seen.files.len() >= FILES_MAX {
            seen.files.remove(0);
        }
        seen.files.push((base, file.clone()));
        Ok(file)
    }
}
