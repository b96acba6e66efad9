//! An attached reader beside a running owner, and on what others left.

use super::*;
use crate::config::IsolationLevel::{ReadCommitted, ReadUncommitted};
use crate::error::ErrorKind;
use crate::log::files::names::{FileKind, file_name};
use crate::log::read::cursor::{Chunk, Cursor};
use crate::log::read::plain::FetchLimits;
use crate::log::tests::{Bench, START_MS, read_all};
use crate::record::{
    BatchBuilder, Codec, RecordBatch, RecordInput, Stamp, encode_emptied, encode_single,
};
use crate::storage::{Heap, Storage};
use crate::time::Now;
use proptest::prelude::*;
use std::path::Path;

impl AttachedLog {
    /// What a fetch of at most `max_bytes` gives; the cursor goes on behind it.
    pub(in crate::log) fn read(
        &self,
        cursor: &mut Cursor,
        max_bytes: usize,
        isolation: IsolationLevel,
    ) -> Result<Chunk> {
        let chunk = self.fetch(cursor, isolation, FetchLimits::bytes(max_bytes))?;
        cursor.advance(chunk.size(), chunk.upto(), true);
        Ok(chunk)
    }
}

/// A reader beside the owner of the bench's log.
fn attach(bench: &Bench, state: LogState) -> AttachedLog {
    AttachedLog::new(
        bench.storage.clone(),
        bench.identity().dir,
        TopicPartition::new("orders", 0),
        state,
        Trust::SameBoot,
        (None, None),
    )
    .with_look_again(bench.look_again())
}

/// Every record from `from` on, as [`read_all`] has them of the owner.
fn follow(log: &AttachedLog, cursor: &mut Cursor, max_bytes: usize) -> Vec<(i64, i64, Vec<u8>)> {
    let from = cursor.offset();
    let mut found = Vec::new();
    loop {
        let chunk = log.read(cursor, max_bytes, ReadUncommitted).unwrap();
        if chunk.is_empty() {
            return found;
        }
        let mut rest = chunk.bytes();
        while !rest.is_empty() {
            let batch = RecordBatch::parse(rest).unwrap();
            rest = &rest[batch.bytes().len()..];
            let mut scratch = Vec::new();
            for record in batch.records(&mut scratch).unwrap().map(Result::unwrap) {
                if record.offset() >= from {
                    let value = record.value().unwrap_or_default().to_vec();
                    found.push((record.offset(), record.timestamp(), value));
                }
            }
        }
    }
}

#[test]
fn beside_a_running_owner_each_look_sees_more() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 3000;
        let owner = bench.new_log();
        let log = attach(bench, LogState::default());
        assert_eq!(log.log_end_offset().unwrap(), 0, "there is no folder yet");
        let mut cursor = Cursor::new(0);
        let mut seen = Vec::new();
        for round in 0..20 {
            for i in 0..13 {
                bench.append_at(&owner, &vec![b'v'; 20 + round * 10], START_MS + i);
            }
            if round % 4 == 0 {
                bench.run_work();
            }
            assert_eq!(log.log_end_offset().unwrap(), owner.log_end_offset().unwrap());
            seen.extend(follow(&log, &mut cursor, 700));
            assert_eq!(cursor.offset(), owner.log_end_offset().unwrap());
        }
        assert_eq!(seen, read_all(&owner, 0));
        let count = log.segment_count().unwrap();
        assert!(count > 5 && count == owner.segment_count().unwrap());
        assert_eq!(log.size_bytes().unwrap(), owner.size_bytes().unwrap());
        assert_eq!(follow(&log, &mut Cursor::new(100), 1 << 20), read_all(&owner, 100));
        // A reader that comes now, with what the owner's state file says, sees the same.
        let late = attach(bench, owner.state().unwrap());
        assert_eq!(follow(&late, &mut Cursor::new(7), 1), read_all(&owner, 7));
        for log in [&log, &late] {
            for time in (START_MS - 3..START_MS + 20).step_by(2) {
                for upto in [0, 5, 100, 260] {
                    let ours = log.offset_for_time(time, upto).unwrap();
                    let owners = owner.offset_for_time(time, upto).unwrap();
                    assert_eq!(ours, owners, "{time} {upto}");
                }
            }
            let owners = owner.max_timestamp(260).unwrap();
            let ours = log.max_timestamp(260).unwrap();
            assert_eq!(ours, owners);
            assert_eq!(log.end_for(ReadCommitted).unwrap(), 260);
        }
    });
}

#[test]
fn what_a_killed_owner_left_is_read_whole() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 3000;
        let owner = bench.new_log();
        for i in 0..50 {
            bench.append_at(&owner, &[b'v'; 50], START_MS + i);
        }
        owner.flush().unwrap();
        let state = owner.state().unwrap();
        for i in 50..120 {
            bench.append_at(&owner, &[b'v'; 50], START_MS + i);
        }
        let expected = read_all(&owner, 0);
        drop(owner);
        let before = bench.names();
        for trust in [Trust::SameBoot, Trust::OtherBoot, Trust::Foreign] {
            let log = AttachedLog {
                start: Mutex::new(start(state.clone(), trust)),
                ..attach(bench, state.clone())
            };
            assert_eq!(follow(&log, &mut Cursor::new(0), 500), expected, "{trust:?}");
            assert_eq!(bench.names(), before, "a reader writes nothing");
        }
    });
}

fn start(state: LogState, trust: Trust) -> StartingPoint {
    StartingPoint { state, trust, log_start_checkpoint: None, recovery_checkpoint: None }
}

#[test]
fn retention_of_the_owner_moves_the_start() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 2000;
        bench.config.retention_ms = 1000;
        let owner = bench.new_log();
        for i in 0..100 {
            bench.append_at(&owner, &[b'v'; 50], START_MS + i * 10);
        }
        bench.run_work();
        let log = attach(bench, LogState::default());
        let mut cursor = Cursor::new(0);
        let first = log.read(&mut cursor, 300, ReadUncommitted).unwrap();
        assert!(!first.is_empty());
        let at = |ms: i64| Now { wall_ms: ms, ..Now::default() };
        let removed = owner.retention_step(at(START_MS + 1500)).unwrap();
        assert!(removed.segments_deleted > 1);
        assert_eq!(log.log_start_offset().unwrap(), removed.log_start_offset);
        let error = log.read(&mut cursor, 300, ReadUncommitted).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange);
        let mut cursor = Cursor::new(removed.log_start_offset);
        let rest = follow(&log, &mut cursor, 300);
        assert_eq!(rest, read_all(&owner, removed.log_start_offset));
        // All of it, the active segment included.
        owner.retention_step(at(START_MS + 1_000_000)).unwrap();
        assert_eq!(log.log_start_offset().unwrap(), 100);
        assert_eq!(log.log_end_offset().unwrap(), 100);
        bench.append(&owner, b"on");
        assert_eq!(follow(&log, &mut Cursor::new(100), 300).len(), 1);
    });
}

#[test]
fn a_file_that_vanishes_under_a_reader_is_no_error() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 1000;
        bench.config.retention_ms = 1000;
        let owner = bench.new_log();
        for i in 0..60 {
            bench.append_at(&owner, &[b'v'; 50], START_MS + i * 10);
        }
        bench.run_work();
        let log = attach(bench, LogState::default());
        log.log_end_offset().unwrap();
        let at = Now { wall_ms: START_MS + 1400, ..Now::default() };
        let start = owner.retention_step(at).unwrap().log_start_offset;
        assert!(start > 20);
        // The reader still believes in the files before, whose handles it never had.
        let error = log.read(&mut Cursor::new(0), 300, ReadUncommitted).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange);
        assert_eq!(log.log_start_offset().unwrap(), start);
        let found = log.offset_for_time(START_MS, 60).unwrap().unwrap();
        assert_eq!(found.offset, start);
    });
}

/// The topic was deleted and made again before the first look: what is recorded of the first one
/// says nothing of the files of the second.
#[test]
fn what_is_recorded_of_a_topic_is_not_looked_for_in_another_one() {
    Bench::both(|bench| {
        let owner = bench.new_log();
        for _ in 0..20 {
            bench.append(&owner, b"long enough to be seen");
        }
        owner.flush().unwrap();
        let recorded = owner.state().unwrap();
        let id = bench.identity().topic_id;
        assert_eq!(attach(bench, recorded.clone()).of_topic(id).log_end_offset().unwrap(), 20);
        let other = attach(bench, recorded).of_topic(TopicId([9; 16]));
        let error = other.read(&mut Cursor::new(0), 300, ReadUncommitted).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownTopicOrPartition);
    });
}

/// A folder in memory with one file, as another program has it in the making.
fn written(bytes: &[u8]) -> (Heap, AttachedLog) {
    let heap = Heap::new();
    heap.create_dir(Path::new("/t-0")).unwrap();
    write(&heap, bytes);
    let log = AttachedLog::new(
        Arc::new(heap.clone()),
        PathBuf::from("/t-0"),
        TopicPartition::new("t", 0),
        LogState::default(),
        Trust::Foreign,
        (None, None),
    );
    (heap, log)
}

fn write(heap: &Heap, bytes: &[u8]) {
    let path = Path::new("/t-0/00000000000000000000.log");
    heap.create_cold(path).unwrap().write_at(0, bytes).unwrap();
}

fn batch(offset: i64, value: &[u8], stamp: &Stamp) -> Vec<u8> {
    let record = RecordInput { timestamp: offset, key: None, value: Some(value), headers: &[] };
    let mut bytes = Vec::new();
    encode_single(&mut bytes, &record, stamp);
    bytes
}

fn plain(offset: i64) -> Vec<u8> {
    batch(offset, &[7; 100], &Stamp::plain(offset, 0))
}

#[test]
fn a_batch_in_the_making_is_the_end_for_now() {
    let whole = [plain(0), plain(1), plain(2)].concat();
    let size = plain(0).len();
    for (what, cut) in [("the header", 20), ("the value", 100)] {
        let mut torn = whole.clone();
        torn[2 * size + cut..].fill(0);
        torn.extend([0; 500]);
        let (heap, log) = written(&torn);
        let mut cursor = Cursor::new(0);
        assert_eq!(follow(&log, &mut cursor, 1000).len(), 2, "{what}");
        assert_eq!(log.log_end_offset().unwrap(), 2, "{what}");
        write(&heap, &[whole.clone(), vec![0; 500]].concat());
        assert_eq!(follow(&log, &mut cursor, 1000).len(), 1, "{what}");
        assert_eq!(log.log_end_offset().unwrap(), 3, "{what}");
    }
}

#[test]
fn damage_is_an_error_once_all_before_it_was_read_and_goes_when_it_was_none() {
    let whole = [plain(0), plain(1), plain(2)].concat();
    let size = plain(0).len();
    let mut bad = whole.clone();
    bad[size + 80] ^= 1;
    let (heap, log) = written(&bad);
    let mut cursor = Cursor::new(0);
    assert_eq!(log.read(&mut cursor, 1000, ReadUncommitted).unwrap().upto(), 1);
    for _ in 0..2 {
        let error = log.read(&mut cursor, 1000, ReadUncommitted).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::CorruptRecord, Some(1)));
        assert_eq!(error.position(), Some(size as u64));
        assert_eq!(log.damage().unwrap().map(|e| e.kind()), Some(ErrorKind::CorruptRecord));
    }
    write(&heap, &whole);
    assert_eq!(follow(&log, &mut cursor, 1000).len(), 2);
    assert!(log.damage().unwrap().is_none());
}

#[test]
fn rot_below_the_proven_end_shows_when_it_is_read() {
    let whole = [plain(0), plain(1), plain(2)].concat();
    let (heap, log) = written(&whole);
    assert_eq!(log.log_end_offset().unwrap(), 3);
    let mut bad = whole.clone();
    bad[plain(0).len() + 80] ^= 1;
    write(&heap, &bad);
    let mut cursor = Cursor::new(0);
    assert_eq!(log.read(&mut cursor, 1000, ReadUncommitted).unwrap().upto(), 1);
    let error = log.read(&mut cursor, 1000, ReadUncommitted).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptRecord);
    assert!(error.path().is_some());
    cursor.seek(2);
    assert_eq!(follow(&log, &mut cursor, 1000).len(), 1, "an application can go past it");
}

#[test]
fn a_batch_larger_than_asked_for_is_given_whole_and_the_isolation_bounds_the_rest() {
    let transactional = Stamp::plain(1, 0).producer(9, 0, 0).transactional();
    let bytes =
        [batch(0, &[1; 5000], &Stamp::plain(0, 0)), batch(1, b"open", &transactional)].concat();
    let (_, log) = written(&bytes);
    let mut cursor = Cursor::new(0);
    let chunk = log.read(&mut cursor, 10, ReadCommitted).unwrap();
    assert_eq!(chunk.bytes().len(), batch(0, &[1; 5000], &Stamp::plain(0, 0)).len());
    assert_eq!(chunk.share(0..3), bytes[..3]);
    assert!(log.read(&mut cursor, 10, ReadCommitted).unwrap().is_empty());
    assert_eq!(log.end_for(ReadCommitted).unwrap(), 1);
    assert_eq!(log.read(&mut cursor, 10, ReadUncommitted).unwrap().upto(), 2);
}

#[test]
fn reading_ends_where_compaction_left_nothing_before_the_end() {
    let (heap, log) = written(&plain(0));
    heap.create_cold(Path::new("/t-0/00000000000000000010.log")).unwrap();
    assert_eq!(log.log_end_offset().unwrap(), 10);
    let mut cursor = Cursor::new(0);
    assert_eq!(follow(&log, &mut cursor, 1000).len(), 1);
    assert_eq!(cursor.offset(), 10);
    let outside = log.read(&mut Cursor::new(11), 10, ReadUncommitted).unwrap_err();
    assert_eq!(outside.kind(), ErrorKind::OffsetOutOfRange);
}

/// One batch of a log for searches by time: what each record's time is, whether compaction
/// emptied it, the codec, how far the next batch is away, and whether a file ends behind it.
type Shape = (Vec<i64>, bool, bool, i64, bool);

/// A batch of such a log: the number of its segment, what its header says, and its records.
struct Shaped {
    segment: usize,
    max_timestamp: i64,
    records: Vec<(i64, i64)>,
}

/// A log of such batches that begins at `start`.
fn shaped(shapes: &[Shape], start: i64) -> (AttachedLog, Vec<Shaped>) {
    let heap = Heap::new();
    heap.create_dir(Path::new("/t-0")).unwrap();
    let (mut offset, mut base, mut bytes) = (0, 0, Vec::new());
    let (mut batches, mut segment) = (Vec::new(), 0);
    let put = |base: i64, bytes: &[u8]| {
        let path = Path::new("/t-0").join(file_name(base, FileKind::Log));
        heap.create_cold(&path).unwrap().write_at(0, bytes).unwrap();
    };
    for (times, emptied, compressed, gap, ends) in shapes {
        let lz4 = *compressed && cfg!(feature = "lz4");
        let codec = if lz4 { Codec::Lz4 } else { Codec::None };
        let mut builder = BatchBuilder::new(codec, None).unwrap();
        for &timestamp in times {
            let value = [7; 500];
            let record = RecordInput { timestamp, key: None, value: Some(&value), headers: &[] };
            builder.append(&record).unwrap();
        }
        let batch = builder.finish(&Stamp::plain(offset, 0)).unwrap();
        let max_timestamp = RecordBatch::parse(batch).unwrap().header().max_timestamp;
        let mut records = Vec::new();
        if *emptied {
            bytes.extend(encode_emptied(RecordBatch::parse(batch).unwrap().header()));
        } else {
            bytes.extend_from_slice(batch);
            records.extend((offset..).zip(times.iter().copied()));
        }
        batches.push(Shaped { segment, max_timestamp, records });
        offset += times.len() as i64 + gap;
        if *ends {
            put(base, &bytes);
            (base, bytes) = (offset, Vec::new());
            segment += 1;
        }
    }
    put(base, &bytes);
    let log = AttachedLog::new(
        Arc::new(heap),
        PathBuf::from("/t-0"),
        TopicPartition::new("t", 0),
        LogState::default(),
        Trust::Foreign,
        (Some(start), None),
    );
    (log, batches)
}

/// The latest record of the first segment is below the start, where Kafka finds it, too.
#[test]
fn the_latest_record_may_be_below_the_start() {
    let (log, _) = shaped(&[(vec![28, 5], false, false, 0, false)], 2);
    assert_eq!(log.log_start_offset().unwrap(), 2);
    assert_eq!(log.offset_for_time(0, 2).unwrap(), None);
    let found = log.max_timestamp(2).unwrap().unwrap();
    assert_eq!((found.offset, found.timestamp), (0, 28));
    assert_eq!(log.max_timestamp(0).unwrap(), None, "above the border");
}

/// Kafka's `ListOffsets` looks into the first segment that has a header which reaches the time, and
/// into the first batch of it with the largest timestamp of all.
#[test]
fn a_header_without_its_records_hides_what_is_later() {
    let shapes = [
        (vec![27], false, false, 0, false),
        (vec![29], true, false, 0, true),
        (vec![28, 29], false, false, 0, false),
    ];
    let (log, _) = shaped(&shapes, 0);
    assert_eq!(log.max_timestamp(9).unwrap(), None);
    for (time, found) in [(27, Some(0)), (28, None), (29, None), (30, None)] {
        let ours = log.offset_for_time(time, 9).unwrap();
        assert_eq!(ours.map(|found| found.offset), found, "{time}");
    }
}

/// What [`AttachedLog::offset_for_time`] finds, by a look at all records.
fn first_from(batches: &[Shaped], time: i64, start: i64, upto: i64) -> Option<(i64, i64)> {
    let segment = batches.iter().find(|batch| batch.max_timestamp >= time)?.segment;
    let in_it = batches.iter().filter(|batch| batch.segment == segment);
    let late = |record: &&(i64, i64)| record.1 >= time && record.0 >= start;
    in_it.flat_map(|b| &b.records).find(late).copied().filter(|record| record.0 < upto)
}

/// What [`AttachedLog::max_timestamp`] finds.
fn latest(batches: &[Shaped], upto: i64) -> Option<(i64, i64)> {
    let top = batches.iter().map(|b| b.max_timestamp).max().filter(|top| *top >= 0)?;
    let batch = batches.iter().find(|batch| batch.max_timestamp == top)?;
    batch.records.iter().find(|r| r.1 == top).copied().filter(|record| record.0 < upto)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_search_by_time_finds_what_a_look_at_every_record_finds(
        shapes in prop::collection::vec(
            (
                prop::collection::vec(-1i64..30, 1..4),
                prop::bool::weighted(0.1), any::<bool>(), 0i64..3, prop::bool::weighted(0.2),
            ),
            1..40,
        ),
        start in 0i64..30, upto in 0i64..150,
    ) {
        let (log, batches) = shaped(&shapes, start);
        let end = log.log_end_offset().unwrap();
        for upto in [upto, end] {
            for time in -2..31 {
                let ours = log.offset_for_time(time, upto).unwrap();
                let linear = first_from(&batches, time, start, upto);
                prop_assert_eq!(ours.map(|t| (t.offset, t.timestamp)), linear, "time {}", time);
            }
            let ours = log.max_timestamp(upto).unwrap();
            let linear = latest(&batches, upto);
            prop_assert_eq!(ours.map(|t| (t.offset, t.timestamp)), linear, "latest");
        }
    }
}
