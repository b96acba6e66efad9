//! What the index says of batches ahead, held against a walk over them.

use super::*;
use crate::record::{BatchBuilder, Codec, ControlType, Stamp, encode_marker};
use proptest::prelude::*;

const ISOLATION: IsolationLevel = IsolationLevel::ReadUncommitted;

/// One append.
#[derive(Debug, Clone, Copy)]
enum Put {
    Alone {
        size: usize,
    },
    Together {
        count: usize,
        size: usize,
    },
    /// Finished before it came to the log, which does not look at what it holds.
    Finished,
    /// A control batch, which nobody is given.
    Marker,
}

fn put(bench: &Bench, log: &Log, put: Put) {
    let value = [b'v'; 400];
    let record = |size: usize| RecordInput {
        timestamp: START_MS,
        key: None,
        value: value.get(..size),
        headers: &[],
    };
    let mut options = AppendOptions::coordinator(bench.now_ms());
    match put {
        Put::Alone { size } => drop(log.append(&record(size), bench.options()).unwrap()),
        Put::Together { count, size } => {
            let records = vec![record(size); count];
            log.append_records(&records, Codec::None, None, bench.options()).unwrap();
        }
        Put::Finished => {
            let mut builder = BatchBuilder::new(Codec::None, None).unwrap();
            builder.append(&record(9)).unwrap();
            log.finish(&mut builder, Stamp::plain(0, -1), options).unwrap();
        }
        Put::Marker => {
            let stamp = Stamp::plain(0, 0).producer(7, 0, -1);
            let mut batch = encode_marker(ControlType::Commit, 0, START_MS, &stamp);
            options.proven = true;
            log.append_batch(&mut batch, options).unwrap();
        }
    }
}

/// A cursor that stands behind the batch which ends at `offset`, in the middle of a segment.
fn cursor_behind(log: &Log, offset: i64) -> Option<Cursor> {
    let mut cursor = Cursor::new(offset - 1);
    let chunk = log.read(&mut cursor, 1, ISOLATION).unwrap();
    (chunk.upto() == offset).then_some(cursor)
}

/// What is plain at the beginning of a window is what a walk finds there.
fn agrees(log: &Log, offset: i64, wanted: FetchLimits) -> Option<PlainPrefix> {
    let cursor = cursor_behind(log, offset)?;
    let chunk = log.known_ahead(&cursor, ISOLATION, wanted).unwrap()?;
    let plain = chunk.plain();
    let mut walked = PlainPrefix { next_offset: offset, ..PlainPrefix::default() };
    while walked.bytes < plain.bytes {
        let batch = RecordBatch::parse(&chunk.bytes()[walked.bytes..]).unwrap();
        assert!(batch.header().is_simple(), "{:?}", batch.header());
        assert_eq!(batch.header().base_offset, walked.next_offset);
        walked.bytes += batch.bytes().len();
        walked.records += batch.header().records_count as usize;
        walked.next_offset = batch.header().next_offset();
    }
    if plain.bytes == 0 {
        return None;
    }
    assert_eq!(plain, walked);
    assert!(plain.records <= wanted.records_max && plain.bytes <= wanted.bytes_max);
    Some(plain)
}

const MUCH: FetchLimits =
    FetchLimits { records_max: 100_000, bytes_max: 1 << 20, verify_bytes: 1 << 20 };

#[test]
fn of_records_that_were_sent_alone_the_index_tells_most() {
    for reopened in [false, true] {
        let bench = &mut Bench::files();
        bench.config.index_interval_bytes = 1024;
        let mut log = bench.new_log();
        for _ in 0..1000 {
            put(bench, &log, Put::Alone { size: 50 });
        }
        if reopened {
            log = bench.open(log.close().unwrap(), Trust::Clean);
            assert_eq!(agrees(&log, 10, MUCH), None, "nothing is proven");
            read_all(&log, 0);
        }
        let (some, all) = (FetchLimits { records_max: 200, ..MUCH }, 1000);
        let far = agrees(&log, 10, MUCH).unwrap();
        assert!((all - 30..all).contains(&far.next_offset), "{far:?}");
        let near = agrees(&log, 10, some).unwrap();
        assert!((170..=200).contains(&near.records), "{near:?}");
        let few = agrees(&log, 10, FetchLimits { bytes_max: 9000, ..MUCH }).unwrap();
        assert!((6000..=9000).contains(&few.bytes), "{few:?}");
        assert_eq!(agrees(&log, 10, FetchLimits { records_max: 1, ..MUCH }), None);
        assert_eq!(agrees(&log, 995, MUCH), None, "a walk over the rest is short");
    }
}

#[test]
fn what_is_not_plain_is_left_to_the_walk() {
    for odd in [Put::Marker, Put::Finished] {
        let bench = &mut Bench::heap();
        bench.config.index_interval_bytes = 1024;
        let log = bench.new_log();
        let many = || (0..500).for_each(|_| put(bench, &log, Put::Alone { size: 50 }));
        many();
        put(bench, &log, odd);
        many();
        assert_eq!(agrees(&log, 300, MUCH), None, "{odd:?}");
        assert!(agrees(&log, 501, MUCH).is_some(), "{odd:?} lies before it");
    }
}

#[test]
fn an_appender_that_holds_the_lock_is_not_waited_for() {
    let bench = &mut Bench::heap();
    bench.config.index_interval_bytes = 1024;
    let log = bench.new_log();
    (0..500).for_each(|_| put(bench, &log, Put::Alone { size: 50 }));
    let cursor = cursor_behind(&log, 10).unwrap();
    let plain = || {
        // Here, a thread of its own, as an appender would be.
        log.known_ahead(&cursor, ISOLATION, MUCH).unwrap().unwrap().plain()
    };
    let held = log.writer.lock();
    let (log_end, found) = std::thread::scope(|scope| {
        let reader = scope.spawn(plain);
        (held.next_offset, reader.join().unwrap())
    });
    assert_eq!((log_end, found), (500, PlainPrefix::default()));
    drop(held);
    assert!(plain().records > 400);
}

fn puts() -> impl Strategy<Value = Put> {
    prop_oneof![
        60 => (1usize..300).prop_map(|size| Put::Alone { size }),
        30 => (1usize..20, 1usize..100).prop_map(|(count, size)| Put::Together { count, size }),
        1 => Just(Put::Finished),
        1 => Just(Put::Marker),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_index_agrees_with_a_walk(
        batches in prop::collection::vec(puts(), 150..400),
        reopen_at in 0usize..400,
        interval in 1u64..5000,
        questions in prop::collection::vec((0.0..1.0f64, 1usize..3000, 1usize..200_000), 12),
    ) {
        let bench = &mut Bench::heap();
        bench.config.index_interval_bytes = interval;
        bench.config.segment_bytes = 40_000;
        let mut log = bench.new_log();
        for (number, batch) in batches.iter().enumerate() {
            if number == reopen_at {
                bench.run_work();
                log = bench.open(log.close().unwrap(), Trust::Clean);
            }
            put(bench, &log, *batch);
        }
        let end = log.log_end_offset().unwrap();
        for proven in [false, true] {
            for (place, records_max, bytes_max) in &questions {
                let offset = 1 + (place * (end - 1) as f64) as i64;
                let limits =
                    FetchLimits { records_max: *records_max, bytes_max: *bytes_max, ..MUCH };
                agrees(&log, offset, limits);
            }
            if !proven {
                read_all(&log, 0);
            }
        }
    }
}
