//! From an offset to the batch that holds it.

use crate::error::{Error, ErrorKind, Result};
use crate::log::DELETED;
use crate::log::Log;
use crate::log::read::cursor::Place;
use crate::log::read::lookup::Hint;
use crate::log::read::steps::{StepPlace, Steps};
use crate::log::read::{base_at, order_of};
use crate::log::segment::{Segment, SegmentView};
use crate::record::RecordBatch;
use crate::sync::Arc;

impl Log {
    /// Where to go on when `place` has no batch for `offset`: behind a roll, a resumption or a
    /// hole. `None` if the bytes are not there yet.
    #[cold]
    pub(super) fn next_place(&self, place: &Place, offset: i64) -> Result<Option<Place>> {
        let next = self.locate(offset)?;
        let same = Arc::ptr_eq(place.view.segment(), next.view.segment());
        let moved = !same
            || next.position > place.position
            || next.view.limit() > place.view.limit().max(place.position);
        Ok(moved.then_some(next))
    }

    /// The place of the batch that holds `offset`, or of the first one behind it.
    ///
    /// # Errors
    /// `OffsetOutOfRange` if no segment holds it.
    pub(in crate::log) fn locate(&self, offset: i64) -> Result<Place> {
        self.opened()?;
        let mut segment = self.segments.floor(offset);
        while let Some(candidate) = segment {
            let found = match self.locate_in(&candidate, offset) {
                // It left the log since the look at the list.
                Err(_) if !self.segments.holds(&candidate) => {
                    segment = self.segments.floor(offset);
                    continue;
                }
                found => found?,
            };
            if let Some(place) = found {
                return Ok(place);
            }
            segment = self.segments.higher(candidate.base_offset);
            if segment.is_none() {
                // The end: the reader waits here for the next batch.
                let view = self.view(&candidate)?;
                let position = view.limit();
                return Ok(Place::at(&view, position));
            }
        }
        if let Some(refusal) = self.refusal().filter(|r| r.kind() == DELETED) {
            return Err(refusal);
        }
        let error = Error::new(ErrorKind::OffsetOutOfRange, "the log has no segment for it");
        Err(self.at_home(error.with_offset(offset)))
    }

    /// The place in this segment, if it has the batch.
    fn locate_in(&self, segment: &Arc<Segment>, offset: i64) -> Result<Option<Place>> {
        let view = self.view(segment)?;
        let from = self.position_hint(segment, offset)?;
        self.walk_to(&view, from, offset)
    }

    /// A view of a segment, mapped where it was not.
    pub(in crate::log) fn view(&self, segment: &Arc<Segment>) -> Result<SegmentView> {
        let (view, opened) =
            segment.view(&*self.env.storage).map_err(|error| self.at_home(error))?;
        if opened {
            self.env.mapped.touch(segment);
        }
        Ok(view)
    }

    /// The first batch from `hint` on whose last offset is not below `offset`.
    fn walk_to(&self, view: &SegmentView, hint: Hint, offset: i64) -> Result<Option<Place>> {
        if view.limit() == 0 {
            return Ok(None);
        }
        let found = self.reading(view, hint.position, || self.walk_readable(view, hint, offset))?;
        if found.is_none() && view.has_lost() {
            return Err(self.lost(view));
        }
        Ok(found)
    }

    fn walk_readable(&self, view: &SegmentView, hint: Hint, offset: i64) -> Result<Option<Place>> {
        let limit = view.readable();
        let order = order_of(view);
        let hint = hint.last_offset.map(|last| (hint.position as u64, last));
        let mut steps = Steps::from_hint(hint, order);
        let place = |found: StepPlace| {
            let position = usize::try_from(found.position).unwrap_or(usize::MAX);
            Place { expected: found.expected, ..Place::at(view, position) }
        };
        loop {
            let from = usize::try_from(steps.position).unwrap_or(usize::MAX);
            if from >= limit {
                return Ok(steps.at_end().map(place));
            }
            let bytes = view.region().read(from..limit);
            let batch = RecordBatch::parse(bytes)
                .map_err(|fault| self.damaged(&Place::at(view, from), fault))?;
            let following = || base_at(bytes, batch.bytes().len());
            if let Some(found) = steps.find(offset, batch.header(), following) {
                return Ok(Some(place(found)));
            }
        }
    }
}
