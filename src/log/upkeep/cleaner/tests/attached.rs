//! A reader beside the owner, while that compacts.

use super::rounds::{CONFIG, compacted, put, round, values};
use crate::config::IsolationLevel;
use crate::log::attached::AttachedLog;
use crate::log::read::cursor::Cursor;
use crate::log::read::plain::FetchLimits;
use crate::log::segment::state::Trust;
use crate::log::tests::Bench;
use crate::log::{EpochGate, Log};
use crate::record::RecordBatch;
use crate::sync::Arc;
use crate::topic::TopicPartition;

/// What the owner's state file would tell this reader.
fn attach(bench: &Bench) -> AttachedLog {
    let first = bench.gate.recorded.lock().last().map(|row| row.1.clone()).unwrap_or_default();
    let folder = bench.identity().dir;
    let place = TopicPartition::new("orders", 0);
    let storage = bench.storage.clone();
    AttachedLog::new(storage, folder, place, first, Trust::SameBoot, (None, None))
        .with_look_again(bench.look_again())
}

/// The next batches: their offsets and values.
fn read_on(reader: &AttachedLog, cursor: &mut Cursor, max_bytes: usize) -> Vec<(i64, String)> {
    let limits = FetchLimits::bytes(max_bytes);
    let chunk = reader.fetch(cursor, IsolationLevel::ReadUncommitted, limits).unwrap();
    let (mut rest, from) = (chunk.bytes(), cursor.offset());
    let mut found = Vec::new();
    while !rest.is_empty() {
        let batch = RecordBatch::parse(rest).unwrap();
        batch.check_crc().unwrap();
        let mut scratch = Vec::new();
        for record in batch.records(&mut scratch).unwrap().map(Result::unwrap) {
            if record.offset() >= from {
                let value = String::from_utf8_lossy(record.value().unwrap_or(b"")).into_owned();
                found.push((record.offset(), value));
            }
        }
        rest = &rest[batch.bytes().len()..];
    }
    cursor.advance(chunk.size(), chunk.upto(), true);
    found
}

fn read_to_end(reader: &AttachedLog, from: i64) -> Vec<(i64, String)> {
    let mut cursor = Cursor::new(from);
    let mut found = Vec::new();
    loop {
        let before = cursor.offset();
        found.extend(read_on(reader, &mut cursor, 1 << 16));
        if cursor.offset() == before {
            return found;
        }
    }
}

fn record(bench: &Bench, log: &Arc<Log>) {
    log.flush().unwrap();
    bench.gate.record(log).unwrap();
}

#[test]
fn a_reader_beside_the_owner_goes_on_over_swaps_and_misses_nothing() {
    Bench::both(|bench| {
        let log = compacted(bench);
        for n in 0..60 {
            put(bench, &log, &format!("k{}", n % 20), Some(&format!("v{n}")));
        }
        bench.run_work();
        record(bench, &log);
        let reader = attach(bench);
        assert_eq!(read_to_end(&reader, 0), values(&log, 0));
        let (mut checkpoint, mut cursor, mut seen) = (None, Cursor::new(0), Vec::new());
        for life in 0..12 {
            for _ in 0..3 {
                seen.extend(read_on(&reader, &mut cursor, 100));
            }
            let place = cursor.offset();
            for n in 0..7 {
                put(bench, &log, &format!("k{}", (n + life) % 9), Some(&format!("{life}.{n}")));
            }
            bench.run_work();
            if life % 3 == 1 {
                record(bench, &log);
            }
            let done = round(&log, checkpoint, bench.now_ms(), CONFIG).unwrap().unwrap();
            checkpoint = Some(done.end_offset);
            let mut later = cursor.clone();
            let mut rest = Vec::new();
            loop {
                let before = later.offset();
                rest.extend(read_on(&reader, &mut later, 200));
                if later.offset() == before {
                    break;
                }
            }
            let survivors = values(&log, place);
            let missing: Vec<_> = survivors.iter().filter(|row| !rest.contains(row)).collect();
            assert!(missing.is_empty(), "life {life} from {place}: {missing:?} of {rest:?}");
            assert!(rest.windows(2).all(|pair| pair[0].0 < pair[1].0), "{rest:?}");
            assert_eq!(read_to_end(&reader, 0), values(&log, 0), "life {life}");
            assert_eq!(reader.log_end_offset().unwrap(), log.log_end_offset().unwrap());
            let time = bench.now_ms();
            let found = reader.offset_for_time(time, i64::MAX).unwrap().map(|found| found.offset);
            let owners = log.offset_for_time(time, i64::MAX).unwrap().map(|found| found.offset);
            assert_eq!(found, owners);
        }
        assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0), "{seen:?}");
        assert!(reader.findings().unwrap().iter().all(|finding| finding.kind.is_note()));
    });
}

#[test]
fn a_reader_that_waits_at_the_end_of_a_segment_that_was_merged_away_goes_on() {
    let mut bench = Bench::heap();
    let log = compacted(&mut bench);
    put(&bench, &log, "a", Some("0"));
    record(&bench, &log);
    let reader = attach(&bench);
    assert_eq!(read_to_end(&reader, 0).len(), 1);
    for n in 1..60 {
        put(&bench, &log, &format!("k{}", n % 3), Some(&format!("v{n}")));
    }
    bench.run_work();
    let mut checkpoint = None;
    for _ in 0..3 {
        let done = round(&log, checkpoint, bench.now_ms(), CONFIG).unwrap().unwrap();
        checkpoint = Some(done.end_offset);
    }
    let names = bench.names();
    assert_eq!(read_to_end(&reader, 1), values(&log, 1), "{names:?}");
}
