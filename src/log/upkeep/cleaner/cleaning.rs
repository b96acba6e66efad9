//! One round of cleaning over one log, a bounded piece of work at a time: first the keys of its
//! dirty part are noted, then all segments up to the end of that are written anew, in groups, and
//! each group takes the place of its old segments as soon as it is complete.
//!
//! Nothing is locked in between. Readers, appends, retention and the removal of the topic go on;
//! where one of them took a segment away, the round ends without having changed it.

use std::collections::VecDeque;

use super::choice::{LogToClean, SegmentToGroup, joins_group};
use super::cleaned::{CleanedSegment, discard};
use super::filter::{CleanerStats, FilteredBatch, RecordFilter, RoundTimes};
use super::marks::RecordMarks;
use super::offset_map::OffsetMap;
use super::source::{COPIED_RUN_BYTES, NOTED_RUN_BYTES, Run, SegmentSource};
use super::transactions::CleanedTransactions;
use crate::error::Result;
use crate::log::Log;
use crate::log::producers::transactions::AbortedTransaction;
use crate::log::segment::Segment;
use crate::log::segment::state::SegmentOrigin;
use crate::record::BatchHeader;
use crate::storage::planted::{Planted, planted};
use crate::sync::Arc;

/// The broker's settings of cleaning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CleanerConfig {
    /// Bytes of memory for the keys of one round.
    pub dedupe_buffer_bytes: usize,
    /// How much of that may be filled, 0 to 1.
    pub load_factor: f64,
    /// Bytes that are read at once.
    pub io_buffer_bytes: usize,
}

/// The outcome of a round for its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CleanedLog {
    /// Everything below it was cleaned: the next first dirty offset.
    pub end_offset: i64,
    pub stats: CleanerStats,
    /// Bytes of the cleaned segments before and after.
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// How many keys its dirty part had.
    pub keys: usize,
    /// The keys did not all fit: the next round goes on where this one ended.
    pub is_partial: bool,
}

impl CleanedLog {
    /// What two rounds did, one behind the other.
    pub fn and(self, later: CleanedLog) -> CleanedLog {
        let stats = CleanerStats {
            bytes_read: self.stats.bytes_read + later.stats.bytes_read,
            bytes_written: self.stats.bytes_written + later.stats.bytes_written,
            records_read: self.stats.records_read + later.stats.records_read,
            records_written: self.stats.records_written + later.stats.records_written,
            invalid_records: self.stats.invalid_records + later.stats.invalid_records,
        };
        let (bytes_before, keys) = (self.bytes_before, self.keys + later.keys);
        CleanedLog { stats, bytes_before, keys, ..later }
    }
}

/// The stage of a round.
#[derive(Debug)]
enum RoundStage {
    /// Notes the keys of the segment at this place.
    Noting {
        at: usize,
        source: Option<SegmentSource>,
    },
    /// Writes groups of segments anew.
    Copying(Box<Copying>),
    Done,
}

#[derive(Debug, Default)]
struct Copying {
    /// Segments that wait for their turn.
    waiting: VecDeque<Arc<Segment>>,
    group: Option<Group>,
}

/// One group that is being written.
#[derive(Debug)]
struct Group {
    segments: Vec<Arc<Segment>>,
    /// The place of the segment that is read.
    at: usize,
    source: Option<SegmentSource>,
    /// Bytes of its segments.
    read: u64,
    cleaned: CleanedSegment,
    /// Below it are the records that replace those which go, the markers that decided the
    /// transactions which are cleaned, and the last batches of the producers.
    vouched_end: i64,
}

/// A round of cleaning over one log.
#[derive(Debug)]
pub(crate) struct Cleaning {
    log: Arc<Log>,
    to_clean: LogToClean,
    config: CleanerConfig,
    /// All that may be cleaned, oldest first.
    segments: Vec<Arc<Segment>>,
    /// Of the whole log.
    aborted: Vec<AbortedTransaction>,
    filter: RecordFilter,
    stage: RoundStage,
    is_partial: bool,
    bytes_before: u64,
    bytes_after: u64,
}

impl Cleaning {
    /// A round over `segments`, which end at the first uncleanable offset.
    pub(in crate::log) fn new(
        log: Arc<Log>,
        to_clean: LogToClean,
        config: CleanerConfig,
        segments: Vec<Arc<Segment>>,
        (aborted, delete_retention_ms, now_ms): (Vec<AbortedTransaction>, i64, i64),
    ) -> Cleaning {
        let upto = to_clean.first_uncleanable_offset;
        let keys_max = u64::try_from(upto.saturating_sub(to_clean.first_dirty_offset)).unwrap_or(0);
        let map =
            OffsetMap::new(config.dedupe_buffer_bytes, config.load_factor, keys_max, log.env.seed);
        let marks =
            RecordMarks::new(to_clean.first_dirty_offset, keys_max, config.dedupe_buffer_bytes);
        let times = RoundTimes { now_ms, delete_retention_ms, first_uncleanable_offset: upto };
        let transactions = CleanedTransactions::new(aborted.clone());
        let at = segments
            .partition_point(|segment| segment.base_offset <= to_clean.first_dirty_offset)
            .saturating_sub(1);
        Cleaning {
            filter: RecordFilter::new((map, marks), transactions, times, log.env.uncompressed_max),
            log,
            to_clean,
            config,
            segments,
            aborted,
            stage: RoundStage::Noting { at, source: None },
            is_partial: false,
            bytes_before: 0,
            bytes_after: 0,
        }
    }

    /// The log that is cleaned.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Goes on until about `budget` bytes were read or written, or the round is over. Returns how
    /// many it were, and what the round did, once it is over; `Err` ends it, too. Of a round that
    /// somebody else's change cut short nothing is told.
    ///
    /// # Errors
    /// `CorruptRecord` where a segment is damaged; `StorageFull`, `Io`; those of the swap. The log
    /// is as it was, or some of its groups are cleaned, which changes nothing that readers see.
    pub fn advance(&mut self, budget: u64) -> (u64, Result<Option<CleanedLog>>) {
        let mut spent = 0;
        let outcome = self.work(budget, &mut spent);
        if outcome.is_err() {
            let taken_away = self.is_taken_away();
            self.end();
            if taken_away {
                return (spent, Ok(None));
            }
        }
        (spent, outcome.map_err(|error| self.log.at_home(error)))
    }

    /// Whether there is nothing left to do.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, RoundStage::Done)
    }

    /// Whether the segment that is read is not part of the log any more.
    fn is_taken_away(&self) -> bool {
        let reading = match &self.stage {
            RoundStage::Noting { at, .. } => self.segments.get(*at),
            RoundStage::Copying(copying) => {
                copying.group.as_ref().and_then(|group| group.segments.get(group.at))
            }
            RoundStage::Done => None,
        };
        reading.is_some_and(|reading| !self.log.segments.holds(reading))
    }

    /// Ends the round where it is. What was not complete is removed.
    pub fn end(&mut self) {
        if let RoundStage::Copying(copying) = std::mem::replace(&mut self.stage, RoundStage::Done)
            && let Some(Group { segments, cleaned, .. }) = copying.group
        {
            drop(cleaned);
            if let Some(first) = segments.first() {
                discard(&*self.log.env.storage, &self.log.id.dir, first.base_offset);
            }
        }
    }

    fn work(&mut self, budget: u64, spent: &mut u64) -> Result<Option<CleanedLog>> {
        while *spent < budget {
            match &self.stage {
                RoundStage::Noting { .. } => self.note(budget, spent)?,
                RoundStage::Copying(_) => {
                    if let Some(cleaned) = self.copy(budget, spent)? {
                        return Ok(Some(cleaned));
                    }
                }
                RoundStage::Done => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Notes keys, batch by batch.
    fn note(&mut self, budget: u64, spent: &mut u64) -> Result<()> {
        let RoundStage::Noting { at, source } = &mut self.stage else { return Ok(()) };
        let upto = self.to_clean.first_uncleanable_offset;
        let Some(segment) = self.segments.get(*at) else {
            self.filter.map.raise_latest_offset(upto.saturating_sub(1));
            return self.begin_copying();
        };
        let source = match source {
            Some(source) => source,
            None => {
                let storage = &*self.log.env.storage;
                source.insert(SegmentSource::open(storage, segment, self.config.io_buffer_bytes)?)
            }
        };
        while *spent < budget {
            let run = source.next_run(NOTED_RUN_BYTES)?;
            if run.is_empty() {
                let next = self.segments.get(*at + 1).map_or(upto, |next| next.base_offset);
                self.filter.map.raise_latest_offset(next.saturating_sub(1));
                let at = *at + 1;
                self.stage = RoundStage::Noting { at, source: None };
                return Ok(());
            }
            *spent += run.size_bytes();
            if !self.filter.note_keys(run.batches(), self.to_clean.first_dirty_offset)? {
                self.is_partial = true;
                return self.begin_copying();
            }
        }
        Ok(())
    }

    /// Everything that the map knows of is written anew, from the start of the log on.
    fn begin_copying(&mut self) -> Result<()> {
        let end = self.end_offset();
        let below = |segment: &&Arc<Segment>| segment.base_offset < end;
        let waiting = self.segments.iter().filter(below).cloned().collect();
        self.filter.transactions = CleanedTransactions::new(self.aborted.clone());
        self.stage = RoundStage::Copying(Box::new(Copying { waiting, group: None }));
        Ok(())
    }

    fn end_offset(&self) -> i64 {
        self.filter.map.latest_offset().saturating_add(1)
    }

    /// Writes batches that stay, group by group. `Some` once all groups have their place.
    fn copy(&mut self, budget: u64, spent: &mut u64) -> Result<Option<CleanedLog>> {
        let RoundStage::Copying(copying) = &mut self.stage else { return Ok(None) };
        if copying.group.is_none() {
            let Some(segment) = copying.waiting.pop_front() else {
                let cleaned = self.cleaned();
                self.stage = RoundStage::Done;
                return Ok(Some(cleaned));
            };
            // The later records of its keys may lie behind the group, in segments that no sync has
            // covered.
            let noted_end = self.filter.map.latest_offset().saturating_add(1);
            let vouched_end = {
                let writer = self.log.writer.lock();
                self.filter.producers = writer.producers.last_records();
                let any = writer.producers.any();
                let end = if any { writer.next_offset.max(noted_end) } else { noted_end };
                if planted(Planted::SwapBeforeMarkers) { 0 } else { end }
            };
            copying.group = Some(Group::begin(&self.log, segment, vouched_end)?);
        }
        let Some(group) = &mut copying.group else { return Ok(None) };
        while *spent < budget {
            let Some(segment) = group.segments.get(group.at) else {
                let upto = self.to_clean.first_uncleanable_offset;
                match group.takes_next(&self.log, &copying.waiting, upto) {
                    true => group.segments.extend(copying.waiting.pop_front()),
                    false => return self.swap().map(|()| None),
                }
                continue;
            };
            let source = match &mut group.source {
                Some(source) => source,
                None => {
                    let storage = &*self.log.env.storage;
                    let window = self.config.io_buffer_bytes;
                    group.source.insert(SegmentSource::open(storage, segment, window)?)
                }
            };
            let run = source.next_run(COPIED_RUN_BYTES)?;
            if run.is_empty() {
                group.source = None;
                group.at += 1;
                continue;
            }
            *spent += run.size_bytes() + copy_run(&mut self.filter, &mut group.cleaned, &run)?;
        }
        Ok(None)
    }

    /// The group that is complete takes the place of its old segments.
    fn swap(&mut self) -> Result<()> {
        let RoundStage::Copying(copying) = &mut self.stage else { return Ok(()) };
        let Some(group) = copying.group.take() else { return Ok(()) };
        let origin = group.origin();
        let Group { segments, cleaned, vouched_end, .. } = group;
        let aborted = self.filter.transactions.take_kept();
        let base = segments.first().map_or(0, |first| first.base_offset);
        let (storage, dir) = (&*self.log.env.storage, &self.log.id.dir);
        let swapped = cleaned.finish(storage, aborted, origin).and_then(|finished| {
            let (before, after) = (bytes_of(&segments), finished.state.extent.size_bytes);
            let swapped = self.log.swap_in(&segments, finished, vouched_end)?;
            Ok(swapped.then_some((before, after)))
        });
        match swapped {
            Ok(Some((before, after))) => {
                self.bytes_before += before;
                self.bytes_after += after;
                Ok(())
            }
            Ok(None) => {
                discard(storage, dir, base);
                self.stage = RoundStage::Done;
                Ok(())
            }
            Err(error) => {
                if !self.log.is_swapping(base) {
                    discard(storage, dir, base);
                }
                Err(error)
            }
        }
    }

    fn cleaned(&self) -> CleanedLog {
        CleanedLog {
            end_offset: self.end_offset().max(self.to_clean.first_dirty_offset),
            stats: self.filter.stats,
            bytes_before: self.bytes_before,
            bytes_after: self.bytes_after,
            keys: self.filter.map.len(),
            is_partial: self.is_partial,
        }
    }
}

/// Adds what stays of some batches to a segment. Returns how many bytes that is.
fn copy_run(filter: &mut RecordFilter, cleaned: &mut CleanedSegment, run: &Run<'_>) -> Result<u64> {
    filter.look_at(run.batches())?;
    let before = cleaned.size_bytes();
    // Batches that stay as they are, and lie one behind the other, are taken as one.
    let mut whole = 0..0;
    for (at, batch) in run.placed_batches() {
        match filter.filter(&batch)? {
            FilteredBatch::Gone => {}
            FilteredBatch::Whole => {
                if whole.end != at {
                    cleaned.put(run.bytes(whole))?;
                    whole = at..at;
                }
                cleaned.place(batch.header());
                whole.end += batch.bytes().len();
            }
            FilteredBatch::Rewritten(bytes) => {
                cleaned.put(run.bytes(whole))?;
                whole = 0..0;
                cleaned.place(&BatchHeader::parse(bytes)?);
                cleaned.put(bytes)?;
            }
        }
    }
    cleaned.put(run.bytes(whole))?;
    Ok(cleaned.size_bytes() - before)
}

/// Files that are not complete do not stay.
impl Drop for Cleaning {
    fn drop(&mut self) {
        self.end();
    }
}

impl Group {
    fn begin(log: &Log, segment: Arc<Segment>, vouched_end: i64) -> Result<Group> {
        let base_offset = segment.base_offset;
        let interval = log.writer.lock().config.index_interval_bytes;
        let storage = &*log.env.storage;
        let cleaned = CleanedSegment::create(storage, &log.id.dir, base_offset, interval)?;
        let read = size_of(&segment);
        Ok(Group { read, segments: vec![segment], at: 0, source: None, cleaned, vouched_end })
    }

    /// Whether the first of `waiting` goes into the same segment as those before it.
    fn takes_next(&mut self, log: &Log, waiting: &VecDeque<Arc<Segment>>, upto: i64) -> bool {
        let Some(next) = waiting.front() else { return false };
        let end = waiting.get(1).map_or(upto, |behind| behind.base_offset);
        let state = next.state(None);
        let size_bytes = state.extent.size_bytes;
        let config = log.writer.lock().config.clone();
        // One that is not sealed has no index files yet.
        let entries = size_bytes / config.index_interval_bytes.max(1) + 1;
        let sized = SegmentToGroup {
            base_offset: next.base_offset,
            size_bytes,
            index_bytes: state.proofs.index.map_or(entries * 8, |proof| proof.len),
            time_index_bytes: state.proofs.time_index.map_or(entries * 12, |proof| proof.len),
        };
        let joins = joins_group(&self.cleaned.size(), self.read, &sized, end, &config);
        if joins {
            self.read += sized.size_bytes;
        }
        joins
    }

    /// Theirs where one of its segments is.
    fn origin(&self) -> SegmentOrigin {
        match self.segments.iter().any(|s| s.origin == SegmentOrigin::Foreign) {
            true => SegmentOrigin::Foreign,
            false => SegmentOrigin::Ours,
        }
    }
}

fn size_of(segment: &Segment) -> u64 {
    segment.extent().size_bytes
}

fn bytes_of(segments: &[Arc<Segment>]) -> u64 {
    segments.iter().map(|segment| size_of(segment)).sum()
}
