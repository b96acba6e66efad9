//! Which records survive, rule by rule.

use super::super::filter::{FilteredBatch, RecordFilter, RoundTimes};
use super::super::marks::RecordMarks;
use super::super::offset_map::OffsetMap;
use super::super::transactions::CleanedTransactions;
use crate::log::producers::LastRecord;
use crate::log::producers::entries::ProducerEntries;
use crate::log::producers::transactions::{AbortedTransaction, TransactionTracker};
use crate::record::{
    BATCH_OVERHEAD, BatchBuilder, BatchHeader, Codec, ControlType, HeaderInput, RecordBatch,
    RecordInput, Stamp, encode_marker,
};

const NOW: i64 = 10_000;
const DAY: i64 = 86_400_000;

type Row<'a> = (&'a str, Option<&'a str>);

fn built(base: i64, rows: &[Row<'_>], codec: Codec, stamp: impl Fn(Stamp) -> Stamp) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec, None).unwrap();
    for (at, (key, value)) in (0..).zip(rows) {
        let record = RecordInput {
            timestamp: 1000 + base + at,
            key: Some(key.as_bytes()),
            value: value.map(str::as_bytes),
            headers: &[],
        };
        builder.append(&record).unwrap();
    }
    builder.finish(&stamp(Stamp::plain(base, 3))).unwrap().to_vec()
}

fn batch(base: i64, rows: &[Row<'_>]) -> Vec<u8> {
    built(base, rows, Codec::None, |stamp| stamp)
}

/// A batch of a transaction of producer `id`.
fn transactional(base: i64, id: i64, rows: &[Row<'_>]) -> Vec<u8> {
    built(base, rows, Codec::None, |stamp| stamp.producer(id, 0, 0).transactional())
}

fn marker(offset: i64, id: i64, kind: ControlType) -> Vec<u8> {
    encode_marker(kind, 0, 1000 + offset, &Stamp::plain(offset, 3).producer(id, 1, -1)).to_vec()
}

/// One round over a log.
struct Round {
    now_ms: i64,
    /// The first offset that is dirty.
    from: i64,
    upto: i64,
    keys_max: u64,
    producers: Vec<(i64, LastRecord)>,
}

impl Default for Round {
    fn default() -> Round {
        Round { now_ms: NOW, from: 0, upto: i64::MAX, keys_max: 1000, producers: Vec::new() }
    }
}

impl Round {
    fn at(now_ms: i64) -> Round {
        Round { now_ms, ..Round::default() }
    }

    /// What is left of the log, and the aborted transactions that are still listed: the same,
    /// however many batches are looked at before the first is decided about, and whether there is
    /// memory for marks or not.
    fn clean(
        &self,
        log: &[Vec<u8>],
        aborted: &[AbortedTransaction],
    ) -> (Vec<Vec<u8>>, Vec<AbortedTransaction>) {
        let alone = self.clean_in_runs(log, aborted, 1, 0);
        for run in [1, 2, 3, log.len().max(1)] {
            for marks in [0, 64, 1 << 20] {
                let cleaned = self.clean_in_runs(log, aborted, run, marks);
                assert_eq!(cleaned, alone, "runs of {run}, {marks} marks");
            }
        }
        alone
    }

    fn clean_in_runs(
        &self,
        log: &[Vec<u8>],
        aborted: &[AbortedTransaction],
        run: usize,
        marks: usize,
    ) -> (Vec<Vec<u8>>, Vec<AbortedTransaction>) {
        let times = RoundTimes {
            now_ms: self.now_ms,
            delete_retention_ms: DAY,
            first_uncleanable_offset: self.upto,
        };
        let map = OffsetMap::new(1 << 20, 0.9, self.keys_max, 7);
        let transactions = || CleanedTransactions::new(aborted.to_vec());
        // Two bits of marks, of one in 32 bytes.
        let marks = RecordMarks::new(self.from, u64::MAX, marks * 32 / 4);
        let mut filter = RecordFilter::new((map, marks), transactions(), times, 1 << 20);
        fn parse(bytes: &[u8]) -> RecordBatch<'_> {
            RecordBatch::parse(bytes).unwrap()
        }
        let mut runs = log.chunks(run);
        let whole = runs
            .all(|run| filter.note_keys(run.iter().map(|bytes| parse(bytes)), self.from).unwrap());
        if whole {
            filter.map.raise_latest_offset(self.upto.saturating_sub(1));
        }
        filter.transactions = transactions();
        filter.producers = self.producers.iter().copied().collect();
        let mut left = Vec::new();
        for run in log.chunks(run) {
            filter.look_at(run.iter().map(|bytes| parse(bytes))).unwrap();
            for bytes in run {
                match filter.filter(&parse(bytes)).unwrap() {
                    FilteredBatch::Gone => {}
                    FilteredBatch::Whole => left.push(bytes.clone()),
                    FilteredBatch::Rewritten(bytes) => left.push(bytes.to_vec()),
                }
            }
        }
        for bytes in &left {
            RecordBatch::parse(bytes).unwrap().check_crc().unwrap();
        }
        (left, filter.transactions.take_kept())
    }
}

fn clean(log: &[Vec<u8>]) -> Vec<Vec<u8>> {
    Round::default().clean(log, &aborted_in(log)).0
}

fn aborted_in(log: &[Vec<u8>]) -> Vec<AbortedTransaction> {
    let mut tracker = TransactionTracker::default();
    let observe = |bytes: &Vec<u8>| {
        let batch = RecordBatch::parse(bytes).unwrap();
        let kind = batch.control().unwrap().map(|control| control.kind);
        tracker.observe(batch.header(), kind)
    };
    log.iter().filter_map(observe).collect()
}

fn header(bytes: &[u8]) -> BatchHeader {
    BatchHeader::parse(bytes).unwrap()
}

/// Offset, timestamp, key and value of every record.
fn records(log: &[Vec<u8>]) -> Vec<(i64, i64, String, Option<String>)> {
    let mut found = Vec::new();
    for bytes in log {
        let batch = RecordBatch::parse(bytes).unwrap();
        if batch.header().is_control() {
            continue;
        }
        let mut scratch = Vec::new();
        for record in batch.records(&mut scratch).unwrap() {
            let record = record.unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let (key, value) = (text(record.key().unwrap()), record.value().map(text));
            found.push((record.offset(), record.timestamp(), key, value));
        }
    }
    found
}

fn offsets(log: &[Vec<u8>]) -> Vec<i64> {
    records(log).iter().map(|(offset, ..)| *offset).collect()
}

#[test]
pub(super) fn the_latest_record_of_each_key_stays_where_it_is() {
    let log = [
        batch(0, &[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))]),
        batch(3, &[("c", Some("1"))]),
        batch(4, &[("b", Some("2")), ("b", Some("3"))]),
    ];
    let left = clean(&log);
    let text = |text: &str| Some(text.to_owned());
    let expected = [
        (2, 1002, "a".to_owned(), text("2")),
        (3, 1003, "c".to_owned(), text("1")),
        (5, 1005, "b".to_owned(), text("3")),
    ];
    assert_eq!(records(&left), expected);
    assert_eq!(left[1], log[1], "what is whole is copied byte for byte");
    let (old, new) = (header(&log[0]), header(&left[0]));
    assert_eq!((new.base_offset, new.last_offset()), (0, 2), "the batch keeps its offsets");
    assert_eq!((new.leader_epoch, new.records_count), (old.leader_epoch, 1));
    assert_eq!(new.max_timestamp, 1002, "of the records that stay");
}

#[test]
fn a_batch_without_a_record_left_goes() {
    let log = [batch(0, &[("a", Some("1"))]), batch(1, &[("a", Some("2"))])];
    assert_eq!(clean(&log), log[1..]);
}

#[test]
fn the_last_batch_of_a_round_stays_empty_and_says_where_the_log_goes_on() {
    let log = [
        transactional(0, 5, &[("a", Some("1"))]),
        marker(1, 5, ControlType::Commit),
        batch(2, &[("b", Some("1"))]),
        batch(3, &[("b", Some("2"))]),
    ];
    let ending = Round { from: 2, upto: 3, ..Round::default() };
    // The map is made with the log behind it: what is newer hides the last batch's record.
    let left = ending.clean(&log, &[]).0;
    assert_eq!(offsets(&left), [0, 3]);
    let empty = header(&left[2]);
    assert_eq!((empty.base_offset, empty.next_offset(), empty.records_count), (2, 3, 0));
    assert_eq!(left[2].len(), BATCH_OVERHEAD);
}

#[test]
fn the_last_batch_of_a_producer_stays_empty_with_its_sequences() {
    let codec = if Codec::Gzip.is_available() { Codec::Gzip } else { Codec::None };
    let idempotent = |base, sequence, rows: &[Row<'_>]| {
        built(base, rows, codec, |stamp| stamp.producer(9, 2, sequence))
    };
    let log = [
        idempotent(0, 20, &[("a", Some("1"))]),
        idempotent(1, 21, &[("a", Some("2")), ("b", Some("1"))]),
        batch(3, &[("a", Some("3")), ("b", Some("2"))]),
    ];
    let last = LastRecord { data_offset: Some(2), epoch: 2 };
    let round = Round { producers: vec![(9, last)], ..Round::default() };
    let left = round.clean(&log, &[]).0;
    assert_eq!(offsets(&left), [3, 4]);
    let empty = header(&left[0]);
    assert_eq!((empty.base_offset, empty.last_offset(), empty.records_count), (1, 2, 0));
    assert_eq!((empty.base_sequence, empty.last_sequence()), (21, 22));
    assert_eq!((empty.codec().unwrap(), empty.base_timestamp), (Codec::None, -1));
    assert_eq!(empty.max_timestamp, 1002);
    assert_eq!(clean(&log).len(), 1, "a producer that nobody knows any more has no say");
    // Of a producer that ended a transaction without a record since, the marker stays.
    let marked = [marker(0, 9, ControlType::Commit), batch(1, &[("a", Some("1"))])];
    let last = LastRecord { data_offset: None, epoch: 1 };
    let round = Round { producers: vec![(9, last)], ..Round::at(NOW + 2 * DAY) };
    let first = round.clean(&marked, &[]).0;
    let second = Round { now_ms: NOW + 4 * DAY, ..round }.clean(&first, &[]).0;
    assert_eq!(header(&second[0]).records_count, 0);
    assert!(header(&second[0]).is_control() && header(&second[0]).is_transactional());
    // It stays for as long as the producer is known, and its header tells the epoch.
    let round = Round { now_ms: NOW + 9 * DAY, producers: vec![(9, last)], ..Round::default() };
    assert_eq!(round.clean(&second, &[]).0, second);
    let mut known = ProducerEntries::default();
    known.replay(&header(&second[0]), None);
    assert_eq!(known.last_records(), [(9, last)].into());
    assert_eq!(Round::at(NOW + 9 * DAY).clean(&second, &[]).0, second[1..]);
}

#[test]
fn a_record_that_stays_in_a_batch_keeps_its_headers() {
    let headers = [
        HeaderInput { name: "h", value: Some(b"1") },
        HeaderInput { name: "h", value: None },
        HeaderInput { name: "", value: Some(b"") },
    ];
    let mut builder = BatchBuilder::new(Codec::None, None).unwrap();
    for (key, headers) in [("a", &[][..]), ("b", &headers[..])] {
        let (key, value) = (Some(key.as_bytes()), Some(&b"v"[..]));
        builder.append(&RecordInput { timestamp: 5, key, value, headers }).unwrap();
    }
    let whole = builder.finish(&Stamp::plain(0, 0)).unwrap().to_vec();
    let left = clean(&[whole.clone(), batch(2, &[("a", Some("2"))])]);
    let of = |bytes: &[u8], at: usize| {
        let batch = RecordBatch::parse(bytes).unwrap();
        let mut scratch = Vec::new();
        let record = batch.records(&mut scratch).unwrap().nth(at).unwrap().unwrap();
        format!("{:?}", record.headers().into_iter().collect::<Vec<_>>())
    };
    assert_eq!(of(&left[0], 0), of(&whole, 1));
    assert_eq!(offsets(&left), [1, 2]);
}

#[test]
pub(super) fn a_tombstone_stays_until_the_horizon_that_its_first_cleaning_sets() {
    let log = [batch(0, &[("a", Some("1")), ("b", Some("1"))]), batch(2, &[("a", None)])];
    let first = clean(&log);
    assert_eq!(offsets(&first), [1, 2], "it hides its key");
    let horizon = header(&first[1]).delete_horizon_ms();
    assert_eq!(horizon, Some(NOW + DAY));
    assert_eq!(header(&first[1]).base_timestamp, NOW + DAY);
    assert_eq!(records(&first)[1].1, 1002, "and keeps its own time");
    let again = Round::at(NOW + DAY - 1).clean(&first, &[]).0;
    assert_eq!(again, first, "the horizon does not move, and is not over one before it");
    let over = Round::at(NOW + DAY).clean(&first, &[]).0;
    assert_eq!(offsets(&over), [1]);
}

#[test]
fn a_tombstone_of_a_key_that_was_never_written_is_kept_as_long() {
    let log = [batch(0, &[("a", None)])];
    let first = clean(&log);
    assert_eq!(offsets(&first), [0]);
    assert_eq!(Round::at(NOW + DAY).clean(&first, &[]).0, Vec::<Vec<u8>>::new());
}

#[test]
fn a_tombstone_that_a_value_follows_goes_at_once() {
    let log = [batch(0, &[("a", None)]), batch(1, &[("a", Some("1"))])];
    assert_eq!(offsets(&clean(&log)), [1]);
}

#[test]
pub(super) fn aborted_records_go_and_hide_nothing() {
    let log = [
        batch(0, &[("a", Some("good"))]),
        transactional(1, 7, &[("a", Some("bad")), ("c", Some("bad"))]),
        marker(3, 7, ControlType::Abort),
        batch(4, &[("b", Some("1"))]),
    ];
    let aborted = aborted_in(&log);
    let (left, kept) = Round::default().clean(&log, &aborted);
    assert_eq!(offsets(&left), [0, 4]);
    assert!(header(&left[1]).is_control(), "the marker stays with its row");
    assert_eq!((left[1].clone(), kept), (log[2].clone(), aborted));
    // Nothing is left of it now: the marker gets a horizon, and its row goes.
    let (second, kept) = Round::default().clean(&left, &aborted_in(&log));
    assert_eq!((header(&second[1]).delete_horizon_ms(), kept.len()), (Some(NOW + DAY), 0));
    let early = Round::at(NOW + DAY - 1).clean(&second, &[]).0;
    assert_eq!(early, second);
    let third = Round::at(NOW + DAY).clean(&second, &[]).0;
    assert_eq!(third.len(), 2, "and goes with it");
}

#[test]
pub(super) fn a_commit_marker_stays_while_a_record_of_its_transaction_is_met() {
    let log = [
        transactional(0, 7, &[("a", Some("1"))]),
        marker(1, 7, ControlType::Commit),
        transactional(2, 7, &[("b", Some("1"))]),
        marker(3, 7, ControlType::Commit),
        batch(4, &[("a", Some("2"))]),
    ];
    let first = clean(&log);
    assert_eq!(first, log[1..], "the record was there in this round, so its marker stays");
    let second = clean(&first);
    assert_eq!(header(&second[0]).delete_horizon_ms(), Some(NOW + DAY));
    assert_eq!(second[1..], first[1..], "the other transaction has its record");
    let third = Round::at(NOW + 2 * DAY).clean(&second, &[]).0;
    assert_eq!(third, first[1..]);
}

#[test]
fn other_control_records_stay_and_an_emptied_one_goes() {
    let leader = marker(0, 7, ControlType::LeaderChange);
    let log = [leader.clone(), batch(1, &[("a", Some("1"))])];
    assert_eq!(Round::at(NOW + 9 * DAY).clean(&log, &[]).0, log);
    let emptied =
        crate::record::encode_emptied(&header(&marker(0, 7, ControlType::Abort))).to_vec();
    assert_eq!(clean(&[emptied, log[1].clone()]), log[1..]);
}

#[test]
fn a_record_without_a_key_goes_and_is_counted() {
    let mut builder = BatchBuilder::new(Codec::None, None).unwrap();
    builder.append(&RecordInput { timestamp: 5, value: Some(b"v"), ..Default::default() }).unwrap();
    let keyless = builder.finish(&Stamp::plain(0, 0)).unwrap().to_vec();
    assert_eq!(clean(std::slice::from_ref(&keyless)), Vec::<Vec<u8>>::new());
    let map = OffsetMap::new(1024, 0.9, 1, 7);
    let times = RoundTimes { now_ms: 0, delete_retention_ms: 0, first_uncleanable_offset: 9 };
    let marks = RecordMarks::default();
    let transactions = CleanedTransactions::default();
    let mut filter = RecordFilter::new((map, marks), transactions, times, 1 << 20);
    let kept = filter.filter(&RecordBatch::parse(&keyless).unwrap()).unwrap();
    assert_eq!(kept, FilteredBatch::Whole, "nothing is known of what lies beyond the map");
}

#[test]
fn what_is_beyond_a_full_map_is_left_for_the_next_round() {
    let rows: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    let batches: Vec<Vec<u8>> = rows
        .iter()
        .chain(&rows)
        .enumerate()
        .map(|(at, key)| batch(at as i64, &[(key, Some("v"))]))
        .collect();
    let small = Round { keys_max: 8, ..Round::default() };
    let left = small.clean(&batches, &[]).0;
    assert_eq!(left, batches, "nothing that the map knows is hidden");
    let rest = Round { keys_max: 8, from: 40, ..Round::default() };
    let left = rest.clean(&batches, &[]).0;
    assert!(left.len() < batches.len() && left.len() > 40, "{}", left.len());
    assert_eq!(offsets(&left)[left.len() - 40..], (40..80).collect::<Vec<i64>>()[..]);
}

#[test]
fn a_tombstone_beyond_a_full_map_has_its_horizon_from_the_pass_that_meets_it() {
    let mut log: Vec<Vec<u8>> =
        (0..30).map(|n| batch(n, &[(&format!("k{n}"), Some("v"))])).collect();
    log.push(batch(30, &[("gone", None)]));
    let left = Round { keys_max: 8, ..Round::default() }.clean(&log, &[]).0;
    assert_eq!(left[..30], log[..30]);
    assert_eq!(header(&left[30]).delete_horizon_ms(), Some(NOW + DAY));
}

#[test]
fn a_transaction_that_the_same_producer_began_anew_is_its_own() {
    // The first one's marker went in an earlier cleaning, its row did not.
    let log = [
        batch(0, &[("a", Some("good"))]),
        transactional(10, 7, &[("a", Some("bad"))]),
        marker(11, 7, ControlType::Abort),
    ];
    let row = |first_offset, last_offset| AbortedTransaction {
        producer_id: 7,
        first_offset,
        last_offset,
        last_stable_offset: last_offset + 1,
    };
    let (left, kept) = Round::default().clean(&log, &[row(1, 3), row(10, 11)]);
    assert_eq!((offsets(&left), kept), (vec![0], vec![row(10, 11)]));
    // Also where no batch was met between the two.
    let (left, kept) = Round::default().clean(&log[1..], &[row(1, 9), row(10, 11)]);
    assert_eq!((offsets(&left), kept), (vec![], vec![row(10, 11)]));
    // And where one was.
    let log = [transactional(1, 7, &[("a", Some("bad"))]), log[1].clone(), log[2].clone()];
    let (left, kept) = Round::default().clean(&log, &[row(1, 3), row(10, 11)]);
    assert_eq!((offsets(&left), kept), (vec![], vec![row(10, 11)]));
}

#[test]
fn every_codec_and_the_logs_own_time_survive_a_rewrite() {
    for codec in Codec::ALL.into_iter().filter(|codec| codec.is_available()) {
        let stamp = |stamp: Stamp| stamp.log_append_time(77_000).producer(4, 1, 10);
        let rows = [("a", Some("1")), ("b", Some("1")), ("a", Some("2"))];
        let log = [built(0, &rows, codec, stamp)];
        let left = clean(&log);
        assert_eq!(offsets(&left), [1, 2]);
        let new = header(&left[0]);
        assert_eq!(new.codec().unwrap(), codec);
        assert_eq!((new.max_timestamp, records(&left)[0].1), (77_000, 77_000));
        assert_eq!((new.base_sequence, new.last_sequence()), (10, 12), "{codec}");
        assert_eq!(new.timestamp_type(), crate::record::TimestampType::LogAppendTime);
    }
}
