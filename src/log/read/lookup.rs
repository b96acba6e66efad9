//! From offsets and times to positions and records.
//!
//! Answers follow Kafka, odd ones included: a lookup by time searches only the first segment that
//! reaches the time, the largest timestamp is that of the segments also where its record lies
//! below the log start, and a control record can be the answer. What Kafka takes from a file's
//! modification time comes from the records here.

use crate::error::Result;
use crate::log::Log;
use crate::log::index::offset_index::OffsetEntry;
use crate::log::producers::transactions::{AbortedTransaction, collect_aborted};
use crate::log::read::cursor::Place;
use crate::log::read::{Steps, is_dense};
use crate::log::segment::extent::SegmentExtent;
use crate::log::segment::indexes::load_indexes;
use crate::log::segment::state::SegmentState;
use crate::log::segment::summary::SegmentIndexes;
use crate::log::segment::{Segment, SegmentView};
use crate::record::{BatchFault, BatchHeader, RecordBatch};
use crate::sync::Arc;

/// The log end, and the last segment with its extent, as they were at one moment.
#[derive(Debug, Clone)]
pub(in crate::log) struct LastExtent {
    end: i64,
    last: Option<(Arc<Segment>, SegmentExtent)>,
}

/// Where to begin to look for a batch.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::log) struct Hint {
    pub position: usize,
    /// The last offset of the batch there, where an index says it.
    pub last_offset: Option<i64>,
}

/// Which of the batches that are wanted a search looks into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batches {
    First,
    All,
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

    pub(in crate::log) fn last_extent_in(&self, writer: &crate::log::Writer) -> LastExtent {
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

    fn position_of(&self, segment: &Arc<Segment>, relative: u32) -> Result<Hint> {
        let lookup = |indexes: &SegmentIndexes| match indexes.offsets.floor(relative) {
            Some(entry) => Hint {
                position: entry.position as usize,
                last_offset: Some(segment.base_offset + i64::from(entry.relative_offset)),
            },
            None => Hint::default(),
        };
        match self.writers_indexes(segment, lookup) {
            Some(Hint { position: 0, .. }) => Ok(lookup(&*self.prefix_of(segment)?)),
            Some(hint) => Ok(hint),
            None => Ok(lookup(&*self.indexes_of(segment)?)),
        }
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
        let writer = self.writer.try_lock()?;
        let active = writer.active.as_ref().filter(|a| Arc::ptr_eq(&a.segment, segment));
        let entry = active.map(|active| within(active.indexes()));
        drop(writer);
        match entry {
            Some(Some(entry)) => Some(entry),
            Some(None) => within(&*self.prefix_of(segment).ok()?),
            None => within(&*self.indexes_of(segment).ok()?),
        }
    }

    /// Where to begin to look for a time: an offset, relative.
    fn offset_hint(&self, segment: &Arc<Segment>, timestamp: i64) -> Result<u32> {
        let lookup = |indexes: &SegmentIndexes| indexes.times.lookup(timestamp);
        match self.writers_indexes(segment, lookup) {
            Some(0) => Ok(lookup(&*self.prefix_of(segment)?)),
            Some(relative) => Ok(relative),
            None => Ok(lookup(&*self.indexes_of(segment)?)),
        }
    }

    /// Asks the writer's lookups, if it has the segment.
    fn writers_indexes<T>(
        &self,
        segment: &Arc<Segment>,
        ask: impl Fn(&SegmentIndexes) -> T,
    ) -> Option<T> {
        let writer = self.writer.lock();
        let active = writer.active.as_ref()?;
        Arc::ptr_eq(&active.segment, segment).then(|| ask(active.indexes()))
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
                for entry in tail.offsets.entries() {
                    whole.offsets.push(entry.relative_offset, entry.position);
                }
                for entry in tail.times.entries() {
                    whole.times.push(entry.timestamp, entry.relative_offset);
                }
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

    /// The first record with a timestamp at or above `timestamp`, as offset and timestamp, if it
    /// lies below `upto`.
    ///
    /// # Errors
    /// Those of [`Log::fetch`].
    pub fn offset_for_time(&self, timestamp: i64, upto: i64) -> Result<Option<(i64, i64)>> {
        let borders = self.opened()?;
        let start = borders.start.load();
        let extents = self.last_extent();
        let reaches = |segment: &Arc<Segment>| {
            let extent = extents.of(segment);
            extent.size_bytes > 0 && extent.max_timestamp >= timestamp
        };
        let Some(segment) = self.segments.find(reaches) else {
            return Ok(None);
        };
        let floor = u32::try_from(start - segment.base_offset).unwrap_or(0);
        let relative = self.offset_hint(&segment, timestamp)?.max(floor);
        let hint = self.position_of(&segment, relative)?.position;
        let view = self.view(&segment)?;
        let found = self.find_record(
            &view,
            hint,
            |batch| batch.header().max_timestamp >= timestamp,
            |offset, time| time >= timestamp && offset >= start,
            Batches::All,
        )?;
        Ok(found.filter(|(offset, _)| *offset < upto))
    }

    /// The largest timestamp that any header has, and the offset of the first record that has it,
    /// if that lies below `upto`; none where the first batch with such a header has lost it to
    /// compaction. Records below the log start count while their segment is there.
    ///
    /// # Errors
    /// Those of [`Log::fetch`].
    pub fn max_timestamp(&self, upto: i64) -> Result<Option<(i64, i64)>> {
        self.opened()?;
        let extents = self.last_extent();
        let mut best: Option<(Arc<Segment>, SegmentExtent)> = None;
        for segment in self.segments.all() {
            let extent = extents.of(&segment);
            let higher = best.as_ref().is_none_or(|(_, b)| extent.max_timestamp > b.max_timestamp);
            if extent.max_timestamp >= 0 && higher {
                best = Some((segment, extent));
            }
        }
        let Some((segment, extent)) = best else { return Ok(None) };
        let (timestamp, last_offset) = (extent.max_timestamp, extent.max_timestamp_offset);
        let hint = self.position_hint(&segment, last_offset)?.position;
        let view = self.view(&segment)?;
        let found = self.find_record(
            &view,
            hint,
            |batch| batch.header().max_timestamp == timestamp,
            |_, time| time == timestamp,
            Batches::First,
        )?;
        Ok(found.filter(|(offset, _)| *offset < upto).map(|(offset, time)| (time, offset)))
    }

    /// The first record from `position` on that is wanted, in a batch that is.
    fn find_record(
        &self,
        view: &SegmentView,
        position: usize,
        batch_wanted: impl Fn(&RecordBatch<'_>) -> bool,
        wanted: impl Fn(i64, i64) -> bool,
        batches: Batches,
    ) -> Result<Option<(i64, i64)>> {
        let mut stopped = false;
        let found = self.reading(view, position, || {
            stopped = false;
            self.find_readable(view, position, &batch_wanted, &wanted, (batches, &mut stopped))
        })?;
        if found.is_none() && !stopped && view.has_lost() {
            return Err(self.lost(view));
        }
        Ok(found)
    }

    fn find_readable(
        &self,
        view: &SegmentView,
        mut position: usize,
        batch_wanted: &impl Fn(&RecordBatch<'_>) -> bool,
        wanted: &impl Fn(i64, i64) -> bool,
        (batches, stopped): (Batches, &mut bool),
    ) -> Result<Option<(i64, i64)>> {
        let limit = view.readable();
        let start = self.borders.start.load();
        let mut scratch = Vec::new();
        let mut due = self.due_at(view, position);
        while position < limit {
            let bytes = view.region().read(position..limit);
            let mut own = None;
            let found = RecordBatch::parse(bytes).and_then(|batch| {
                let size = batch.bytes().len();
                let (base, here) = (batch.header().base_offset, due);
                let delta = i64::from(batch.header().last_offset_delta);
                due = due.map(|due| due.saturating_add(delta).saturating_add(1));
                // What lies below the log start is nobody's to find, nor is its damage.
                let below = batches == Batches::All
                    && here.is_some_and(|due| due.saturating_add(delta) < start);
                if below || !batch_wanted(&batch) {
                    return Ok((size, None, false));
                }
                own = here.filter(|due| *due != base).map(|due| (base, due));
                if view.segment().sound_end(position) < position + size {
                    batch.check_crc()?;
                }
                let most = self.uncompressed_max();
                let found = first_record(&batch, &mut scratch, most, wanted)?;
                Ok((size, found, batches == Batches::First))
            });
            if let Some((found, due)) = own {
                let place = Place::at(view, position);
                return Err(self.misplaced(&place, found, due).with_offset(due));
            }
            match found {
                Ok((_, Some(record), _)) => return Ok(Some(record)),
                Ok((_, None, true)) => {
                    *stopped = true;
                    return Ok(None);
                }
                Ok((size, None, false)) => position += size,
                Err(fault) => {
                    return Err(self.damaged(&Place::at(view, position), fault));
                }
            }
        }
        Ok(None)
    }

    /// The base offset that is due at `position`, where an index leads, if offsets are dense.
    fn due_at(&self, view: &SegmentView, position: usize) -> Option<i64> {
        if !is_dense(view) {
            return None;
        }
        let segment = view.segment();
        let reach = Reach {
            relative_offset: u32::MAX,
            position: u32::try_from(position).unwrap_or(u32::MAX),
        };
        let entry = self.entry_within(segment, reach);
        let mut steps = Steps::from_entry(entry, &segment.state(None));
        while steps.position < position as u64 {
            let from = usize::try_from(steps.position).unwrap_or(usize::MAX);
            let bytes = view.region().read(from..view.readable());
            let header = BatchHeader::parse(bytes).ok()?;
            steps.over(&header);
        }
        let bytes = view.region().read(position..view.readable());
        let due = BatchHeader::parse(bytes).ok().map(|header| steps.own_base(&header));
        due.filter(|_| steps.position == position as u64)
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

fn first_record(
    batch: &RecordBatch<'_>,
    scratch: &mut Vec<u8>,
    limit: usize,
    wanted: &impl Fn(i64, i64) -> bool,
) -> Result<Option<(i64, i64)>, BatchFault> {
    for record in batch.records_below(scratch, limit)? {
        let record = record?;
        if wanted(record.offset(), record.timestamp()) {
            return Ok(Some((record.offset(), record.timestamp())));
        }
    }
    Ok(None)
}
