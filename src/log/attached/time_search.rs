//! The search by time, and the lookups of what was seen of a segment.

use super::{AttachedLog, AttachedSegment, AttachedView};
use crate::error::{Error, Result};
use crate::log::read::misplaced;
use crate::log::read::steps::Steps;
use crate::log::scan::{BatchCursor, LOOKUP_WINDOW_BYTES, Scanned};
use crate::log::segment::extent::SegmentExtent;
use crate::log::segment::indexes::load_indexes;
use crate::log::segment::order::BatchOrder;
use crate::log::segment::state::SegmentState;
use crate::log::segment::summary::{INDEX_INTERVAL_BYTES, SegmentIndexes};
use crate::log::segment::times::{self, TimedSegment, TimestampAndOffset, Visit};
use crate::record::{BatchFault, BatchHeader, RecordBatch};
use crate::sync::{Arc, Ordering};

impl AttachedLog {
    /// The first record at or after `timestamp` with an offset below `upto`.
    ///
    /// # Errors
    /// `Io`, `CorruptRecord`.
    pub fn offset_for_time(&self, timestamp: i64, upto: i64) -> Result<Option<TimestampAndOffset>> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            let from = seen.log_start_offset;
            let segments = log.timed(seen);
            times::offset_for_time(&segments, timestamp, from..upto, log.uncompressed_max)
        })
    }

    /// The record with the largest timestamp of all, also below the log start offset, if its
    /// offset is below `upto`.
    ///
    /// # Errors
    /// `Io`, `CorruptRecord`.
    pub fn max_timestamp(&self, upto: i64) -> Result<Option<TimestampAndOffset>> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            let latest = times::max_timestamp(&log.timed(seen), log.uncompressed_max)?;
            Ok(latest.filter(|latest| latest.offset < upto))
        })
    }

    pub(super) fn indexes(&self, seen: &AttachedView, at: usize) -> Result<Arc<SegmentIndexes>> {
        match seen.segments.get(at) {
            Some(segment) => self.timed_one(segment).indexes(),
            None => Ok(Arc::default()),
        }
    }

    /// The segments as a search by time wants them.
    pub(super) fn timed<'s>(&'s self, seen: &'s AttachedView) -> Vec<Timed<'s>> {
        seen.segments.iter().map(|segment| self.timed_one(segment)).collect()
    }

    pub(super) fn timed_one<'s>(&'s self, segment: &'s AttachedSegment) -> Timed<'s> {
        Timed { log: self, segment }
    }
}

/// One segment in a search.
pub(super) struct Timed<'s> {
    log: &'s AttachedLog,
    segment: &'s AttachedSegment,
}

impl TimedSegment for Timed<'_> {
    fn extent(&self) -> SegmentExtent {
        self.segment.summary.extent
    }

    fn offset_at(&self, timestamp: i64) -> Result<u32> {
        Ok(self.indexes()?.times.lookup(timestamp))
    }

    fn position_of(&self, relative: u32) -> Result<u64> {
        Ok(self.indexes()?.offsets.lookup(relative).into())
    }

    fn walk(&self, position: u64, visit: &mut Visit<'_>) -> Result<()> {
        let path = &self.segment.path;
        let failed = |error| Error::io(error, "reading", path);
        self.log.opened.store(true, Ordering::Relaxed);
        let file = self.log.storage.open(path).map_err(failed)?;
        let size = self.segment.summary.extent.size_bytes;
        let mut cursor = BatchCursor::new(&*file, size, LOOKUP_WINDOW_BYTES);
        let mut at = position;
        let mut steps = self.steps_to(&mut cursor, position)?;
        while let Scanned::Found(header) = cursor.header_at(at).map_err(failed)? {
            let following = cursor.header_at(at + header.size() as u64).map_err(failed)?;
            let following = following.found().map(|following| following.base_offset);
            let own = steps.own_base(&header, || following);
            let placed_header = BatchHeader { base_offset: own.offset, ..header };
            let go_on = visit(&placed_header, &mut |with| {
                let mut bytes = vec![0; header.size()];
                file.read_exact_at(at, &mut bytes).map_err(failed)?;
                let placed = |fault: BatchFault| {
                    self.log.here(fault.into_error().with_path(path).with_position(at))
                };
                let batch = RecordBatch::parse(&bytes).map_err(placed)?;
                batch.check_crc().map_err(placed)?;
                if !own.holds {
                    let (order, due) = (self.order(), own.offset);
                    let error = misplaced(order, header.base_offset, due).with_offset(due);
                    return Err(self.log.here(error.with_path(path).with_position(at)));
                }
                with(&batch).map_err(placed)
            })?;
            if !go_on {
                break;
            }
            steps.over(&header, own);
            at = steps.position;
        }
        Ok(())
    }
}

impl Timed<'_> {
    /// Both lookups of what was seen of the segment.
    pub(super) fn indexes(&self) -> Result<Arc<SegmentIndexes>> {
        let AttachedSegment { path, recorded, summary, below } = self.segment;
        let below = match below.get() {
            Some(below) => below.clone(),
            None => {
                let storage = &*self.log.storage;
                self.log.opened.store(true, Ordering::Relaxed);
                let (loaded, _) = load_indexes(storage, recorded, path, INDEX_INTERVAL_BYTES)?;
                below.get_or_init(|| Arc::new(loaded)).clone()
            }
        };
        if summary.extent.size_bytes == recorded.extent.size_bytes {
            return Ok(below);
        }
        let mut all = Arc::unwrap_or_clone(below);
        all.extend(&summary.indexes);
        Ok(Arc::new(all))
    }

    fn order(&self) -> BatchOrder {
        BatchOrder::of(self.segment.recorded.layout, &self.segment.summary.extent)
    }

    /// A walk that has come to `position`, where an index leads, and knows which offset is due.
    fn steps_to(&self, cursor: &mut BatchCursor<'_>, position: u64) -> Result<Steps> {
        let AttachedSegment { path, recorded, summary, .. } = self.segment;
        let upto = u32::try_from(position).unwrap_or(u32::MAX);
        let entry = self.indexes()?.offsets.within(u32::MAX, upto);
        let state = SegmentState { extent: summary.extent, ..*recorded };
        let mut steps = Steps::from_entry(entry, &state);
        while steps.position < position {
            let failed = |error| Error::io(error, "reading", path);
            let Scanned::Found(header) = cursor.header_at(steps.position).map_err(failed)? else {
                break;
            };
            let following = cursor.header_at(steps.position + header.size() as u64);
            let following = following.map_err(failed)?.found();
            let own = steps.own_base(&header, || following.map(|following| following.base_offset));
            steps.over(&header, own);
        }
        match steps.position == position {
            true => Ok(steps),
            false => Ok(Steps::unknown(position, self.order())),
        }
    }
}
