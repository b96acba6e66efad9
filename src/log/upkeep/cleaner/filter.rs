//! Which records of a log survive a cleaning, batch by batch (`Cleaner.cleanInto`,
//! `MemoryRecords.filterTo`).
//!
//! Of each key the latest record stays. A tombstone stays until the delete horizon that its batch
//! is stamped with the first time a cleaning meets it. Aborted records go at once; a marker stays
//! while a record of its transaction is left, and then until a delete horizon of its own. Batches
//! keep their offsets; the last one of a producer stays without a record where its sequences would
//! be lost, and so does the last one of the round, which says where the log goes on.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::marks::{RecordMark, RecordMarks};
use super::offset_map::{KeyHash, NotedKey, OffsetMap};
use super::transactions::CleanedTransactions;
use crate::error::Result;
use crate::log::producers::LastRecord;
use crate::record::{BATCH_OVERHEAD, BatchHeader, RecordBatch, RetainedBatch, encode_emptied};
use crate::storage::planted::{Planted, planted};

/// The fate of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FilteredBatch<'b> {
    /// It goes.
    Gone,
    /// It stays as it is.
    Whole,
    /// These bytes take its place.
    Rewritten(&'b [u8]),
}

/// The worth of a batch without a surviving record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BatchRetention {
    /// Its header stays.
    RetainEmpty,
    /// It goes.
    DeleteEmpty,
}

/// The verdict on a batch before its records are looked at.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    retention: BatchRetention,
    /// All of its records go.
    discards_records: bool,
    /// The marker of a transaction of which nothing is left.
    is_marker_of_nothing: bool,
}

/// A batch that was looked at, and is not decided about yet.
#[derive(Debug, Clone)]
struct SeenBatch {
    verdict: Verdict,
    records: BatchRecords,
}

/// The records of a batch that was looked at.
#[derive(Debug, Clone)]
enum BatchRecords {
    /// Whatever they are, it is the same with all of them.
    Alike(SeenRecords),
    /// Which of the records that were seen are its own.
    Seen(Range<usize>),
}

/// A record as a first look at it has shown it.
#[derive(Debug, Clone, Copy)]
struct SeenRecord {
    fate: RecordFate,
    offset: i64,
    has_value: bool,
}

/// Whether a record stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordFate {
    Stays,
    Goes,
    /// The map says what becomes of it.
    Asked(KeyHash),
    /// It has no key: it stays where the round does not reach.
    Keyless,
}

/// A record whose key is to be noted.
#[derive(Debug, Clone, Copy)]
struct NotedRecord {
    key: KeyHash,
    offset: i64,
    has_value: bool,
}

/// The counts of what a cleaning has met and kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CleanerStats {
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub records_read: u64,
    pub records_written: u64,
    /// Records without a key, which go.
    pub invalid_records: u64,
}

/// The times and the border that one round goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoundTimes {
    /// The time at its beginning, in ms.
    pub now_ms: i64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// The first offset that the round does not clean.
    pub first_uncleanable_offset: i64,
}

/// The filter of records. One for all segments of a round, in their order.
#[derive(Debug)]
pub(super) struct RecordFilter {
    pub map: OffsetMap,
    marks: RecordMarks,
    pub transactions: CleanedTransactions,
    /// The last record of each producer that the log knows.
    pub producers: BTreeMap<i64, LastRecord>,
    pub times: RoundTimes,
    pub stats: CleanerStats,
    uncompressed_max: usize,
    scratch: Vec<u8>,
    /// The batches that are decided about next, and their records.
    seen_batches: VecDeque<SeenBatch>,
    seen: Vec<SeenRecord>,
    noted: Vec<NotedRecord>,
    /// Of each batch whose keys are noted, how many records were seen up to its end, and its last
    /// offset.
    seen_ends: Vec<(usize, i64)>,
    rewritten: RetainedBatch,
    emptied: [u8; BATCH_OVERHEAD],
}

impl RecordFilter {
    pub fn new(
        (map, marks): (OffsetMap, RecordMarks),
        transactions: CleanedTransactions,
        times: RoundTimes,
        uncompressed_max: usize,
    ) -> RecordFilter {
        RecordFilter {
            map,
            marks,
            transactions,
            producers: BTreeMap::new(),
            times,
            stats: CleanerStats::default(),
            uncompressed_max,
            scratch: Vec::new(),
            seen_batches: VecDeque::new(),
            seen: Vec::new(),
            noted: Vec::new(),
            seen_ends: Vec::new(),
            rewritten: RetainedBatch::default(),
            emptied: [0; BATCH_OVERHEAD],
        }
    }

    /// Looks at batches that are decided about next, all of which were before: where their keys
    /// are in a map that is larger than the caches is waited for once.
    ///
    /// # Errors
    /// `CorruptRecord` for records that cannot be read, `UnsupportedCompressionType` and
    /// `RecordTooLarge` for those that this build, or its limits, cannot unpack.
    pub fn look_at<'b>(&mut self, batches: impl Iterator<Item = RecordBatch<'b>>) -> Result<()> {
        self.seen.clear();
        self.seen_batches.clear();
        for batch in batches {
            let verdict = self.judge(&batch)?;
            let records = match self.look_at_all(batch.header(), verdict) {
                Some(alike) => BatchRecords::Alike(alike),
                None => BatchRecords::Seen(self.look_at_each(&batch)?),
            };
            self.seen_batches.push_back(SeenBatch { verdict, records });
        }
        Ok(())
    }

    /// What becomes of the records of a batch where it is the same with all of them, and known
    /// without a look.
    #[inline]
    fn look_at_all(&self, header: &BatchHeader, verdict: Verdict) -> Option<SeenRecords> {
        let records = u32::try_from(header.records_count).unwrap_or(0);
        let all =
            |retained| SeenRecords { records: u64::from(records), retained, has_tombstone: false };
        if verdict.discards_records {
            // Nothing of what it holds matters any more.
            return Some(all(0));
        }
        if records == 0 || header.is_control() {
            return None;
        }
        let [latest, hidden] = self.marks.count(header.base_offset..=header.last_offset());
        match (latest == records && !planted(Planted::LastValueDropped), hidden == records) {
            (true, _) => Some(all(u64::from(records))),
            (_, true) => Some(all(0)),
            _ => None,
        }
    }

    /// Looks at each record of a batch; which of those that were seen they are.
    fn look_at_each(&mut self, batch: &RecordBatch<'_>) -> Result<Range<usize>> {
        let from = self.seen.len();
        let is_control = batch.header().is_control();
        for record in batch.records_below(&mut self.scratch, self.uncompressed_max)? {
            let record = record?;
            let fate = match (self.marks.of(record.offset()), record.key()) {
                _ if is_control => RecordFate::Stays,
                (RecordMark::Latest, _) if !planted(Planted::LastValueDropped) => RecordFate::Stays,
                (RecordMark::Hidden, _) => RecordFate::Goes,
                (_, Some(key)) => RecordFate::Asked(self.map.expect(key)),
                (_, None) => RecordFate::Keyless,
            };
            let (offset, has_value) = (record.offset(), record.value().is_some());
            self.seen.push(SeenRecord { fate, offset, has_value });
        }
        Ok(from..self.seen.len())
    }

    /// Decides about the next batch of the log, the first that was looked at and not decided
    /// about.
    ///
    /// # Errors
    /// As [`RecordFilter::look_at`].
    pub fn filter(&mut self, batch: &RecordBatch<'_>) -> Result<FilteredBatch<'_>> {
        if self.seen_batches.is_empty() {
            self.look_at(std::iter::once(*batch))?;
        }
        let Some(SeenBatch { verdict, records }) = self.seen_batches.pop_front() else {
            return Ok(FilteredBatch::Whole);
        };
        let header = batch.header();
        let size = batch.bytes().len() as u64;
        self.stats.bytes_read += size;
        let seen = match &records {
            BatchRecords::Alike(seen) => *seen,
            BatchRecords::Seen(records) => self.decide(header, records.clone()),
        };
        self.stats.records_read += seen.records;
        self.stats.records_written += seen.retained;
        if seen.retained == 0 {
            if verdict.retention == BatchRetention::DeleteEmpty {
                return Ok(FilteredBatch::Gone);
            }
            self.emptied = encode_emptied(header);
            self.stats.bytes_written += BATCH_OVERHEAD as u64;
            return Ok(FilteredBatch::Rewritten(&self.emptied));
        }
        let wants_horizon = seen.has_tombstone || verdict.is_marker_of_nothing;
        let new_horizon = (wants_horizon && header.delete_horizon_ms().is_none())
            .then(|| self.times.now_ms.saturating_add(self.times.delete_retention_ms));
        let records = match records {
            BatchRecords::Seen(records)
                if seen.retained < seen.records || new_horizon.is_some() =>
            {
                records
            }
            _ => {
                self.stats.bytes_written += size;
                return Ok(FilteredBatch::Whole);
            }
        };
        self.rewritten.begin(header, new_horizon.or(header.delete_horizon_ms()));
        let seen = self.seen.get(records).unwrap_or_default();
        let records = batch.records_below(&mut self.scratch, self.uncompressed_max)?;
        for (record, seen) in records.zip(seen) {
            if seen.fate == RecordFate::Stays {
                self.rewritten.push(&record?)?;
            }
        }
        let bytes = self.rewritten.finish()?;
        self.stats.bytes_written += bytes.len() as u64;
        Ok(FilteredBatch::Rewritten(bytes))
    }

    fn judge(&mut self, batch: &RecordBatch<'_>) -> Result<Verdict> {
        let header = batch.header();
        let (discards_records, is_marker_of_nothing) = if header.is_control() {
            let kind = batch.control()?.map(|control| control.kind);
            let nothing_left = self.transactions.meet_control(header, kind);
            let past = header.delete_horizon_ms().is_some_and(|at| at <= self.times.now_ms);
            let early = planted(Planted::MarkerDroppedBeforeData) && kind.is_some();
            (nothing_left && past || early, nothing_left)
        } else {
            (self.transactions.meet_records(header), false)
        };
        let is_last_of_round = header.next_offset() == self.times.first_uncleanable_offset;
        let retention = match self.is_last_of_producer(header) || is_last_of_round {
            true => BatchRetention::RetainEmpty,
            false => BatchRetention::DeleteEmpty,
        };
        Ok(Verdict { retention, discards_records, is_marker_of_nothing })
    }

    /// Whether the sequences of the batch's producer, or the epoch of its last marker, would be
    /// lost with it.
    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        if !header.has_producer_id() {
            return false;
        }
        let Some(last) = self.producers.get(&header.producer_id) else { return false };
        match last.data_offset {
            Some(offset) => header.last_offset() == offset,
            None => header.is_control() && header.producer_epoch == last.epoch,
        }
    }

    /// Decides about the records of a batch that were looked at.
    fn decide(&mut self, header: &BatchHeader, records: Range<usize>) -> SeenRecords {
        let mut counts = SeenRecords::default();
        for record in self.seen.get_mut(records).unwrap_or_default() {
            counts.records += 1;
            let stays = match record.fate {
                RecordFate::Stays => true,
                RecordFate::Goes => false,
                RecordFate::Asked(key) => {
                    retains(&self.map, self.times.now_ms, header, record, key)
                }
                RecordFate::Keyless => {
                    let is_beyond = record.offset > self.map.latest_offset();
                    self.stats.invalid_records += u64::from(!is_beyond);
                    is_beyond
                }
            };
            record.fate = if stays { RecordFate::Stays } else { RecordFate::Goes };
            counts.retained += u64::from(stays);
            counts.has_tombstone |= stays && !record.has_value;
        }
        counts
    }

    /// Notes the keys of batches below the end of the round. False where the map is full: then
    /// the round ends behind the last record that was noted.
    ///
    /// # Errors
    /// As [`RecordFilter::look_at`].
    pub fn note_keys<'b>(
        &mut self,
        batches: impl Iterator<Item = RecordBatch<'b>>,
        from: i64,
    ) -> Result<bool> {
        self.noted.clear();
        self.seen_ends.clear();
        for batch in batches {
            self.look_for_keys(&batch, from)?;
            self.seen_ends.push((self.noted.len(), batch.header().last_offset()));
        }
        let mut noted = self.noted.iter().enumerate().peekable();
        for (end, last_offset) in &self.seen_ends {
            while let Some((_, record)) = noted.next_if(|(at, _)| at < end) {
                let hidden = match self.map.put(record.key, record.offset) {
                    NotedKey::New => None,
                    NotedKey::Known { offset } => Some(offset),
                    NotedKey::NoRoom => return Ok(false),
                };
                self.marks.note(record.offset, record.has_value, hidden);
            }
            self.map.raise_latest_offset(*last_offset);
        }
        Ok(true)
    }

    /// Looks at the keys of a batch that are to be noted.
    fn look_for_keys(&mut self, batch: &RecordBatch<'_>, from: i64) -> Result<()> {
        let header = batch.header();
        if header.is_control() {
            let kind = batch.control()?.map(|control| control.kind);
            self.transactions.meet_control(header, kind);
        } else if !self.transactions.meet_records(header) {
            for record in batch.records_below(&mut self.scratch, self.uncompressed_max)? {
                let record = record?;
                let Some(key) = record.key().filter(|_| record.offset() >= from) else { continue };
                self.noted.push(NotedRecord {
                    key: self.map.expect(key),
                    offset: record.offset(),
                    has_value: record.value().is_some(),
                });
            }
        }
        Ok(())
    }
}

/// The outcome of a look at the records of a batch.
#[derive(Debug, Clone, Copy, Default)]
struct SeenRecords {
    records: u64,
    retained: u64,
    /// A record without a value is among those that stay.
    has_tombstone: bool,
}

/// Whether one record of a batch that is not a control batch stays.
#[inline]
fn retains(
    map: &OffsetMap,
    now_ms: i64,
    header: &BatchHeader,
    record: &SeenRecord,
    key: KeyHash,
) -> bool {
    if record.offset > map.latest_offset() {
        return true;
    }
    let latest = map.get(key);
    let is_latest = match planted(Planted::LastValueDropped) {
        true => latest.is_none_or(|latest| record.offset > latest),
        false => latest.is_none_or(|latest| record.offset >= latest),
    };
    let early = planted(Planted::TombstoneDroppedEarly);
    let is_wanted = || match header.delete_horizon_ms() {
        None => !early,
        Some(horizon) => now_ms < horizon && !early,
    };
    is_latest && (record.has_value || is_wanted())
}
