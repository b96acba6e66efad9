//! From offsets to positions: how far segments go, and what their indexes say.

use crate::error::Result;
use crate::log::index::offset_index::OffsetEntry;
use crate::log::producers::transactions::{AbortedTransaction, collect_aborted};
use crate::log::segment::Segment;
use crate::log::segment::extent::SegmentExtent;
use crate::log::segment::indexes::load_indexes;
use crate::log::segment::state::SegmentState;
use crate::log::segment::summary::SegmentIndexes;
use crate::log::segments::Segments;
use crate::log::{Log, Writer};
use crate::sync::{Arc, MutexGuard};

/// The log end, and the last segment with its extent, as they were at one moment.
#[derive(Debug, Clone)]
pub(in crate::log) struct LastExtent {
    end: i64,
    last: Option<(Arc<Segment>, SegmentExtent)>,
}

/// A place from which a batch is looked for.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::log) struct Hint {
    pub position: usize,
    /// The last offset of the batch there, where an index says it.
    pub last_offset: Option<i64>,
}

/// The last offset, relative to its segment, and the position that a lookup may lead to.
#[derive(Debug, Clone, Copy)]
pub(in crate::log) struct Reach {
    pub relative_offset: u32,
    pub position: u32,
}

impl LastExtent {
    pub fn end(&self) -> i64 {
        self.end
    }

    /// How far a segment goes, also while it is written.
    pub fn of(&self, segment: &Arc<Segment>) -> SegmentExtent {
        self.noted(segment).unwrap_or_else(|| segment.extent())
    }

    /// The extent at that moment, where it may have changed since.
    pub fn noted(&self, segment: &Arc<Segment>) -> Option<SegmentExtent> {
        let (last, extent) = self.last.as_ref()?;
        Arc::ptr_eq(last, segment).then_some(*extent)
    }

    /// Whether its segment is one of the log's still, and not another of the same base offset.
    pub fn is_listed(&self, segments: &Segments) -> bool {
        self.last.as_ref().is_none_or(|(last, _)| segments.holds(last))
    }

    /// Whether the segment was there.
    pub fn knows(&self, segment: &Segment) -> bool {
        self.last.as_ref().is_some_and(|(last, _)| segment.base_offset <= last.base_offset)
    }
}

impl Log {
    /// The log end and the extent of the last segment.
    pub(in crate::log) fn last_extent(&self) -> LastExtent {
        self.last_extent_in(&self.writer.lock())
    }

    pub(in crate::log) fn last_extent_in(&self, writer: &Writer) -> LastExtent {
        let end = writer.next_offset;
        let last = match &writer.active {
            Some(active) => Some((active.segment.clone(), active.extent())),
            None => self.segments.last().map(|last| (last.clone(), last.extent())),
        };
        LastExtent { end, last }
    }

    /// A position at or before the batch that holds `offset`.
    pub(in crate::log) fn position_hint(
        &self,
        segment: &Arc<Segment>,
        offset: i64,
    ) -> Result<Hint> {
        match u32::try_from(offset - segment.base_offset) {
            Ok(relative) if relative > 0 => self.position_of(segment, relative),
            _ => Ok(Hint::default()),
        }
    }

    pub(super) fn position_of(&self, segment: &Arc<Segment>, relative: u32) -> Result<Hint> {
        let entry = self
            .ask_indexes(segment, self.writer.lock(), |indexes| indexes.offsets.floor(relative))?;
        Ok(entry.map_or(Hint::default(), |entry| Hint {
            position: entry.position as usize,
            last_offset: Some(segment.base_offset + i64::from(entry.relative_offset)),
        }))
    }

    /// The last entry of the segment's index within reach, as far as that is in memory, or in
    /// files that are vouched for. `None` also while somebody appends.
    pub(in crate::log) fn entry_within(
        &self,
        segment: &Arc<Segment>,
        reach: Reach,
    ) -> Option<OffsetEntry> {
        let within = |indexes: &SegmentIndexes| {
            indexes.offsets.within(reach.relative_offset, reach.position)
        };
        self.ask_indexes(segment, self.writer.try_lock()?, within).ok().flatten()
    }

    /// Where to begin to look for a time: an offset, relative.
    pub(super) fn offset_hint(&self, segment: &Arc<Segment>, timestamp: i64) -> Result<u32> {
        let found = self.ask_indexes(segment, self.writer.lock(), |indexes| {
            Some(indexes.times.lookup(timestamp)).filter(|relative| *relative > 0)
        })?;
        Ok(found.unwrap_or(0))
    }

    /// Asks the lookups of a segment: the writer's where it has one, and where that knows nothing,
    /// those of what an earlier life appended; else those of the whole segment.
    fn ask_indexes<T>(
        &self,
        segment: &Arc<Segment>,
        writer: MutexGuard<'_, Writer>,
        ask: impl Fn(&SegmentIndexes) -> Option<T>,
    ) -> Result<Option<T>> {
        let active = writer.active.as_ref().filter(|a| Arc::ptr_eq(&a.segment, segment));
        let answer = active.map(|active| ask(active.indexes()));
        drop(writer);
        match answer {
            Some(Some(answer)) => Ok(Some(answer)),
            Some(None) => Ok(ask(&*self.prefix_of(segment)?)),
            None => Ok(ask(&*self.indexes_of(segment)?)),
        }
    }

    /// The lookups of what an earlier life appended to a segment that this one goes on with.
    fn prefix_of(&self, segment: &Arc<Segment>) -> Result<Arc<SegmentIndexes>> {
        let Some(prefix) = segment.prefix() else { return Ok(Arc::default()) };
        if let Some(indexes) = prefix.indexes {
            return Ok(indexes);
        }
        let indexes = Arc::new(self.load_indexes(segment, &prefix.state)?);
        segment.set_prefix_indexes(indexes.clone());
        Ok(indexes)
    }

    /// Both lookups of a segment that has no writer: from memory, from its files where they are
    /// vouched for, else from its batches.
    pub(in crate::log) fn indexes_of(&self, segment: &Arc<Segment>) -> Result<Arc<SegmentIndexes>> {
        let tail = segment.indexes();
        let indexes = match (tail, segment.prefix()) {
            (Some(whole), None) => return Ok(whole),
            (Some(tail), Some(_)) => {
                let mut whole = (*self.prefix_of(segment)?).clone();
                whole.extend(&tail);
                whole
            }
            (None, _) => self.load_indexes(segment, &segment.state(None))?,
        };
        let indexes = Arc::new(indexes);
        segment.set_indexes(indexes.clone());
        Ok(indexes)
    }

    fn load_indexes(&self, segment: &Segment, state: &SegmentState) -> Result<SegmentIndexes> {
        let interval = self.writer.lock().config.index_interval_bytes;
        let storage = &*self.env.storage;
        let (indexes, finding) = load_indexes(storage, state, segment.path(), interval)
            .map_err(|error| self.at_home(error))?;
        if segment.has_left() {
            // The files of that name may be those of the segment that took its place.
            return Err(self.at_home(segment.gone()));
        }
        if let Some(finding) = finding {
            self.env.counters.index_rebuilds.one();
            tracing::warn!("{finding}");
        }
        Ok(indexes)
    }

    /// The aborted transactions that may touch offsets in `from..upto`.
    ///
    /// # Errors
    /// Those of opening the folder.
    pub fn aborted_transactions(&self, from: i64, upto: i64) -> Result<Vec<AbortedTransaction>> {
        self.opened()?;
        let segments = self.segments.floor_and_above(from);
        let rows: Vec<_> = segments.iter().map(|segment| segment.aborted()).collect();
        Ok(collect_aborted(rows.iter().flat_map(|rows| rows.iter()), from, upto))
    }
}
