//! From times to records: the segments of a log, as a search by time walks over them.
//!
//! Answers follow Kafka, odd ones included: a look-up by time searches only the first segment that
//! reaches the time, the largest timestamp is that of the segments also where its record lies
//! below the log start, and a control record can be the answer. What Kafka takes from a file's
//! modification time comes from the records here.

use crate::error::Result;
use crate::log::Log;
use crate::log::read::cursor::Place;
use crate::log::read::lookup::Reach;
use crate::log::read::steps::Steps;
use crate::log::read::{base_at, order_of};
use crate::log::segment::extent::SegmentExtent;
use crate::log::segment::times::{self, TimedSegment, TimestampAndOffset, Visit};
use crate::log::segment::{Segment, SegmentView};
use crate::record::{BatchHeader, RecordBatch};
use crate::sync::Arc;

/// One segment in a search.
struct SearchedSegment<'l> {
    log: &'l Log,
    segment: Arc<Segment>,
    extent: SegmentExtent,
}

impl Log {
    /// The first record with a timestamp at or above `timestamp`, if it lies below `upto`.
    ///
    /// # Errors
    /// Those of [`Log::fetch`].
    pub fn offset_for_time(&self, timestamp: i64, upto: i64) -> Result<Option<TimestampAndOffset>> {
        let start = self.opened()?.start.load();
        self.searching(|segments| {
            times::offset_for_time(segments, timestamp, start..upto, self.uncompressed_max())
        })
    }

    /// The first record with the largest timestamp that any header has, if it lies below `upto`;
    /// none where the first batch with such a header has lost it to compaction. Records below the
    /// log start count while their segment is there.
    ///
    /// # Errors
    /// Those of [`Log::fetch`].
    pub fn max_timestamp(&self, upto: i64) -> Result<Option<TimestampAndOffset>> {
        self.opened()?;
        let latest =
            self.searching(|segments| times::max_timestamp(segments, self.uncompressed_max()))?;
        Ok(latest.filter(|latest| latest.offset < upto))
    }

    /// Searches the segments, once more where one of them left the log meanwhile.
    fn searching<T>(&self, search: impl Fn(&[SearchedSegment<'_>]) -> Result<T>) -> Result<T> {
        loop {
            let extents = self.last_extent();
            let searched = |segment: Arc<Segment>| {
                let extent = extents.of(&segment);
                SearchedSegment { log: self, segment, extent }
            };
            let segments: Vec<_> = self.segments.all().into_iter().map(searched).collect();
            match search(&segments) {
                Err(_) if segments.iter().any(|s| !self.segments.holds(&s.segment)) => {}
                found => return found,
            }
        }
    }

    /// A walk that has come to `position`, where an index leads, and knows as far as it can which
    /// offset is due.
    fn steps_to(&self, view: &SegmentView, position: usize) -> Steps {
        let (segment, order) = (view.segment(), order_of(view));
        let reach = Reach {
            relative_offset: u32::MAX,
            position: u32::try_from(position).unwrap_or(u32::MAX),
        };
        let hint = self.entry_within(segment, reach).map(|entry| {
            (entry.position.into(), segment.base_offset + i64::from(entry.relative_offset))
        });
        let mut steps = Steps::from_hint(hint, order);
        while steps.position < position as u64 {
            let from = usize::try_from(steps.position).unwrap_or(usize::MAX);
            let bytes = view.region().read(from..view.readable());
            let Ok(header) = BatchHeader::parse(bytes) else { break };
            let own = steps.own_base(&header, || base_at(bytes, header.size()));
            steps.over(&header, own);
        }
        match steps.position == position as u64 {
            true => steps,
            false => Steps::unknown(position as u64, order),
        }
    }
}

impl TimedSegment for SearchedSegment<'_> {
    fn extent(&self) -> SegmentExtent {
        self.extent
    }

    fn offset_at(&self, timestamp: i64) -> Result<u32> {
        self.log.offset_hint(&self.segment, timestamp)
    }

    fn position_of(&self, relative: u32) -> Result<u64> {
        Ok(self.log.position_of(&self.segment, relative)?.position as u64)
    }

    fn walk(&self, position: u64, visit: &mut Visit<'_>) -> Result<()> {
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        let view = self.log.view(&self.segment)?;
        let stopped =
            self.log.reading(&view, position, || self.walk_readable(&view, position, visit))?;
        if !stopped && view.has_lost() {
            return Err(self.log.lost(&view));
        }
        Ok(())
    }
}

impl SearchedSegment<'_> {
    /// Returns whether `visit` has seen enough.
    fn walk_readable(
        &self,
        view: &SegmentView,
        mut position: usize,
        visit: &mut Visit<'_>,
    ) -> Result<bool> {
        let log = self.log;
        let limit = view.readable();
        let mut steps = log.steps_to(view, position);
        while position < limit {
            let place = || Place::at(view, position);
            let bytes = view.region().read(position..limit);
            let parsed = RecordBatch::parse(bytes);
            let batch = parsed.map_err(|fault| log.damaged(&place(), fault))?;
            let (size, found) = (batch.bytes().len(), batch.header().base_offset);
            let own = steps.own_base(batch.header(), || base_at(bytes, size));
            let placed = BatchHeader { base_offset: own.offset, ..*batch.header() };
            let go_on = visit(&placed, &mut |with| {
                if !own.holds {
                    let due = own.offset;
                    return Err(log.misplaced(&place(), found, due).with_offset(due));
                }
                let is_sound = view.segment().sound_end(position) >= position + size;
                let checked = if is_sound { Ok(()) } else { batch.check_crc() };
                checked.and_then(|()| with(&batch)).map_err(|fault| log.damaged(&place(), fault))
            })?;
            if !go_on {
                return Ok(true);
            }
            steps.over(batch.header(), own);
            position += size;
        }
        Ok(false)
    }
}
