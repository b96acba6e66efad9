//! What was written to a compacted log, and what has to be left of it: the plain map that the
//! suites hold a log against.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::IsolationLevel;
use crate::log::Log;
use crate::log::producers::entry::ProducerStamp;
use crate::log::producers::transactions::AbortedTransaction;
use crate::log::read::cursor::Cursor;
use crate::record::{ControlType, RecordBatch};

/// One record or marker as it was written. Their places are their offsets.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The offset of the first record of its batch.
    pub base: i64,
    pub timestamp: i64,
    pub key: Option<String>,
    pub value: Option<String>,
    pub stamp: Option<ProducerStamp>,
    pub marker: Option<ControlType>,
}

/// What one producer sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Sender {
    pub epoch: i16,
    pub next_sequence: i32,
    pub is_open: bool,
    /// Its last batch: the stamp, and where it went.
    pub last: Option<(ProducerStamp, std::ops::Range<i64>)>,
}

/// Everything that was written, and what cleanings may have done to it.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    pub entries: Vec<Entry>,
    /// Nothing at or above it was looked at by a cleaning.
    pub border: i64,
    /// Everything below was deleted, on request or by retention.
    pub start: i64,
    /// The earliest delete horizon that a record without a value can have been given.
    pub horizons: BTreeMap<i64, i64>,
    /// The time of the last cleaning.
    pub cleaned_ms: i64,
}

/// What became of records: a function of what was written.
#[derive(Debug, Default)]
struct Outcomes {
    aborted: BTreeSet<i64>,
    /// The marker of each record of a transaction that was ended.
    marker: BTreeMap<i64, i64>,
    open: BTreeSet<i64>,
    /// The latest record of each key that counts.
    latest: BTreeMap<String, i64>,
    stable: i64,
}

/// One record as a reader found it.
#[derive(Debug)]
pub(super) struct Found {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<String>,
    pub value: Option<String>,
    pub is_control: bool,
    /// The producer of a record in a transaction.
    pub transactional: Option<i64>,
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

impl Found {
    /// The records of these batches from `from` on.
    pub fn parse(mut bytes: &[u8], from: i64, found: &mut Vec<Found>) {
        while !bytes.is_empty() {
            let batch = RecordBatch::parse(bytes).unwrap();
            batch.check_crc().unwrap();
            let header = batch.header();
            let mut scratch = Vec::new();
            for record in batch.records(&mut scratch).unwrap().map(Result::unwrap) {
                if record.offset() >= from {
                    found.push(Found {
                        offset: record.offset(),
                        timestamp: record.timestamp(),
                        key: text(record.key()),
                        value: text(record.value()),
                        is_control: header.is_control(),
                        transactional: header.is_transactional().then_some(header.producer_id),
                    });
                }
            }
            bytes = &bytes[batch.bytes().len()..];
        }
    }

    /// Everything in a log.
    pub fn all(log: &Log) -> Vec<Found> {
        let from = log.log_start_offset().unwrap();
        let (mut cursor, mut found) = (Cursor::new(from), Vec::new());
        loop {
            let chunk = log.read(&mut cursor, 1 << 16, IsolationLevel::ReadUncommitted).unwrap();
            if chunk.is_empty() {
                return found;
            }
            Found::parse(chunk.bytes(), from, &mut found);
        }
    }
}

impl Outcomes {
    /// Of what was written, as far as it was not deleted.
    fn of(entries: &[Entry], start: i64) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let mut open: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for (offset, entry) in (0i64..).zip(entries) {
            let Some(stamp) = entry.stamp.filter(|stamp| stamp.transactional) else { continue };
            let Some(kind) = entry.marker else {
                open.entry(stamp.producer_id).or_default().push(offset);
                continue;
            };
            for record in open.remove(&stamp.producer_id).unwrap_or_default() {
                outcomes.marker.insert(record, offset);
                if kind == ControlType::Abort {
                    outcomes.aborted.insert(record);
                }
            }
        }
        outcomes.open = open.into_values().flatten().collect();
        let first = outcomes.open.first().copied();
        outcomes.stable = first.unwrap_or(entries.len() as i64).max(start);
        for (offset, entry) in (0i64..).zip(entries).skip(usize::try_from(start).unwrap()) {
            let counts = !outcomes.aborted.contains(&offset) && !outcomes.open.contains(&offset);
            if let Some(key) = entry.key.as_ref().filter(|_| counts) {
                outcomes.latest.insert(key.clone(), offset);
            }
        }
        outcomes
    }
}

impl History {
    pub fn end(&self) -> i64 {
        self.entries.len() as i64
    }

    /// The end of the log came back to `end`.
    pub fn cut(&mut self, end: i64, what: &str) {
        let whole = self.entries.get(end as usize).is_none_or(|entry| entry.base == end);
        assert!(whole, "{what}: {end} is inside a batch");
        self.entries.truncate(end as usize);
        self.horizons.retain(|offset, _| *offset < end);
    }

    /// A cleaning looks at everything below `border`.
    pub fn clean(&mut self, border: i64, now_ms: i64, delete_retention_ms: i64) {
        self.border = self.border.max(border);
        self.cleaned_ms = now_ms;
        for (offset, entry) in (0i64..).zip(&self.entries) {
            if entry.value.is_none() && entry.marker.is_none() {
                self.horizons.entry(offset).or_insert(now_ms + delete_retention_ms);
            }
        }
    }

    /// What a producer sent.
    pub fn sender(&self, id: i64) -> Sender {
        let mut sender = Sender::default();
        for (offset, entry) in (0i64..).zip(&self.entries) {
            let Some(stamp) = entry.stamp.filter(|stamp| stamp.producer_id == id) else { continue };
            sender.epoch = stamp.producer_epoch;
            if entry.marker.is_some() {
                sender.next_sequence = 0;
                sender.is_open = false;
                continue;
            }
            sender.next_sequence = stamp.base_sequence + (offset - entry.base) as i32 + 1;
            sender.is_open = stamp.transactional;
            sender.last = Some((stamp, entry.base..offset + 1));
        }
        sender
    }

    /// Holds a log against what was written.
    pub fn hold(&self, log: &Log, what: &str) -> Vec<Found> {
        let start = log.log_start_offset().unwrap();
        let end = log.log_end_offset().unwrap();
        assert_eq!(end, self.end(), "{what}: log end");
        let found = Found::all(log);
        let outcomes = Outcomes::of(&self.entries, start);
        assert_eq!(log.last_stable_offset().unwrap(), outcomes.stable, "{what}: stable offset");
        self.hold_records(&found, start, &outcomes, what);
        let rows = log.aborted_transactions(start, end).unwrap();
        hold_aborts(&found, &rows, &outcomes, what);
        let times: BTreeSet<i64> = found.iter().map(|found| found.timestamp).collect();
        for time in times {
            let told = log.offset_for_time(time, end).unwrap().map(|told| told.offset);
            let scanned = found.iter().find(|found| found.timestamp >= time);
            // One segment alone is looked into, and what it held may be deleted or cleaned away.
            let same = told.is_none() || told == scanned.map(|found| found.offset);
            assert!(same, "{what}: time {time}, {told:?}, not {scanned:?}");
        }
        found
    }

    /// Holds the records that a reader from `start` finds against what was written.
    pub fn hold_found(&self, found: &[Found], start: i64, what: &str) {
        self.hold_records(found, start, &Outcomes::of(&self.entries, start), what);
    }

    fn hold_records(&self, found: &[Found], start: i64, outcomes: &Outcomes, what: &str) {
        let here: BTreeSet<i64> = found.iter().map(|found| found.offset).collect();
        let shown = || format!("{what}: {here:?}, start {start}, border {}", self.border);
        assert!(found.is_sorted_by(|a, b| a.offset < b.offset), "{}", shown());
        for found in found {
            let entry = &self.entries[found.offset as usize];
            let offset = found.offset;
            assert_eq!(found.timestamp, entry.timestamp, "{what}: {offset}");
            assert_eq!(found.is_control, entry.marker.is_some(), "{what}: {offset}");
            if !found.is_control {
                assert_eq!((&found.key, &found.value), (&entry.key, &entry.value), "{what}");
                if let Some(marker) = outcomes.marker.get(&offset) {
                    assert!(here.contains(marker), "{offset} lost its marker; {}", shown());
                }
            }
        }
        for offset in self.border.max(start)..self.end() {
            assert!(here.contains(&offset), "{offset} was not cleaned; {}", shown());
        }
        for offset in outcomes.open.range(start..) {
            assert!(here.contains(offset), "{offset} is of an open transaction; {}", shown());
        }
        for (key, offset) in &outcomes.latest {
            let over = self.horizons.get(offset).is_some_and(|at| *at <= self.cleaned_ms);
            assert!(here.contains(offset) || over, "the latest of {key}, {offset}; {}", shown());
        }
    }

    /// Holds a log against what may be left once all of it below `border` was cleaned as often as
    /// it takes: the latest record of each key, and nothing that was aborted.
    pub fn hold_settled(&self, log: &Log, what: &str) {
        let start = log.log_start_offset().unwrap();
        let outcomes = Outcomes::of(&self.entries, start);
        for found in self.hold(log, what) {
            if found.offset >= self.border || found.is_control {
                continue;
            }
            let key = found.key.as_ref().expect("a record without a key goes");
            assert_eq!(outcomes.latest[key], found.offset, "{what}: {key} is there twice");
            assert!(found.value.is_some(), "{what}: {key} is deleted, its horizon is over");
        }
    }
}

/// A reader of committed records leaves out those that were aborted, and no others.
fn hold_aborts(found: &[Found], rows: &[AbortedTransaction], outcomes: &Outcomes, what: &str) {
    for found in found.iter().filter(|found| !found.is_control) {
        let Some(id) = found.transactional else { continue };
        let covers = |row: &AbortedTransaction| {
            row.producer_id == id && (row.first_offset..row.last_offset).contains(&found.offset)
        };
        let covered = rows.iter().any(covers);
        let aborted = outcomes.aborted.contains(&found.offset);
        assert_eq!(covered, aborted, "{what}: {} by {rows:?}", found.offset);
    }
}
