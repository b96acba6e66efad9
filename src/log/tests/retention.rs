//! Retention, deleted records and lookups by time.

use super::*;
use crate::time::Now;

fn filled(bench: &mut Bench, records: i64) -> Arc<Log> {
    bench.config.segment_bytes = 2000;
    bench.config.retention_ms = 1000;
    let log = bench.new_log();
    for i in 0..records {
        bench.append_at(&log, &[b'v'; 50], START_MS + i * 10);
    }
    bench.run_work();
    log
}

fn at(ms: i64) -> Now {
    Now { wall_ms: ms, ..Now::default() }
}

#[test]
fn old_segments_go_and_the_start_moves_behind_them() {
    Bench::both(|bench| {
        let log = filled(bench, 100);
        let second = log.segments.all()[1].base_offset;
        let newest = START_MS + (second - 1) * 10;
        assert_eq!(log.retention_step(at(newest + 1000)).unwrap().segments_deleted, 0);
        let retained = log.retention_step(at(newest + 1001)).unwrap();
        assert_eq!((retained.segments_deleted, retained.log_start_offset), (1, second));
        assert_eq!(log.log_start_offset().unwrap(), second);
        assert!(!bench.names().contains(&"00000000000000000000.log".to_owned()));
        assert!(!bench.names().contains(&"00000000000000000000.index".to_owned()));
        let error = log.read(&mut Cursor::new(0), 1, IsolationLevel::ReadUncommitted).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange);
        assert_eq!(read_all(&log, second).len() as i64, 100 - second);
    });
}

#[test]
fn the_active_segment_goes_too_and_the_log_keeps_its_end() {
    Bench::both(|bench| {
        let log = filled(bench, 100);
        let mut cursor = Cursor::new(0);
        let held = log.read(&mut cursor, 500, IsolationLevel::ReadUncommitted).unwrap();
        let before = held.bytes().to_vec();
        log.retention_step(at(START_MS + 1_000_000)).unwrap();
        assert_eq!(log.log_start_offset().unwrap(), 100);
        assert_eq!(log.log_end_offset().unwrap(), 100);
        assert_eq!(log.segment_count().unwrap(), 1);
        assert_eq!(held.bytes(), before, "readers keep what they have mapped");
        let again = log.retention_step(at(START_MS + 2_000_000)).unwrap();
        assert_eq!(again.segments_deleted, 0, "an empty segment stays");
        assert_eq!(bench.append(&log, b"on").base_offset, 100);
        let state = log.close().unwrap();
        let log = bench.open(state, Trust::Clean);
        assert_eq!((log.log_start_offset().unwrap(), log.log_end_offset().unwrap()), (100, 101));
        assert_eq!(read_all(&log, 100)[0].2, b"on");
    });
}

#[test]
fn a_log_without_a_writer_in_this_life_is_trimmed_too() {
    Bench::both(|bench| {
        let state = filled(bench, 100).close().unwrap();
        let log = bench.open(state, Trust::Clean);
        let entered = bench.gate.entered.load(Ordering::SeqCst);
        log.retention_step(at(START_MS + 5)).unwrap();
        assert_eq!(bench.gate.entered.load(Ordering::SeqCst), entered, "nothing to do");
        log.retention_step(at(START_MS + 1_000_000)).unwrap();
        assert_eq!(bench.gate.entered.load(Ordering::SeqCst), entered + 1);
        assert_eq!((log.log_start_offset().unwrap(), log.log_end_offset().unwrap()), (100, 100));
        assert_eq!(bench.append(&log, b"on").base_offset, 100);
        assert_eq!(read_all(&log, 100).len(), 1);
    });
}

#[test]
fn deleted_records_move_the_start_and_whole_segments_go_later() {
    Bench::both(|bench| {
        let log = filled(bench, 100);
        let files = log.segment_count().unwrap();
        assert_eq!(log.delete_records(50).unwrap(), 50);
        assert_eq!(log.delete_records(20).unwrap(), 50, "never back");
        assert!(log.recovery_point().unwrap() >= 50);
        assert_eq!(log.segment_count().unwrap(), files);
        assert_eq!(read_all(&log, 50)[0].0, 50);
        assert_eq!(log.delete_records(101).unwrap_err().kind(), ErrorKind::OffsetOutOfRange);
        assert_eq!(log.delete_records(-2).unwrap_err().kind(), ErrorKind::OffsetOutOfRange);
        let retained = log.retention_step(at(START_MS)).unwrap();
        assert!(retained.segments_deleted > 0);
        assert_eq!(log.log_start_offset().unwrap(), 50);
        assert!(log.segments.all()[0].base_offset <= 50);
        assert_eq!(log.delete_records(-1).unwrap(), 100);
        log.retention_step(at(START_MS)).unwrap();
        assert_eq!(log.segment_count().unwrap(), 1, "never the active one");
        assert!(read_all(&log, 100).is_empty());
    });
}

fn record(timestamp: i64, offset: i64) -> Option<TimestampAndOffset> {
    Some(TimestampAndOffset { offset, timestamp })
}

#[test]
fn a_time_finds_the_first_record_that_reaches_it() {
    Bench::both(|bench| {
        let log = filled(bench, 100);
        for closed in [false, true] {
            let log =
                if closed { bench.open(log.close().unwrap(), Trust::Clean) } else { log.clone() };
            for i in [0, 1, 49, 50, 99] {
                let time = START_MS + i * 10;
                assert_eq!(log.offset_for_time(time, 100).unwrap(), record(time, i));
                assert_eq!(log.offset_for_time(time - 9, 100).unwrap(), record(time, i));
            }
            assert_eq!(log.offset_for_time(START_MS + 991, 100).unwrap(), None);
            assert_eq!(log.offset_for_time(START_MS + 500, 50).unwrap(), None, "above the border");
            assert_eq!(log.max_timestamp(100).unwrap(), record(START_MS + 990, 99));
            assert_eq!(log.max_timestamp(99).unwrap(), None);
        }
    });
}

#[test]
fn times_out_of_order_are_found_by_offset_order() {
    let bench = &mut Bench::heap();
    let log = bench.new_log();
    for (i, time) in [500, 100, 900, 900, 300].into_iter().enumerate() {
        assert_eq!(bench.append_at(&log, b"v", START_MS - 1000 + time).base_offset, i as i64);
    }
    let find = |time: i64| {
        log.offset_for_time(START_MS - 1000 + time, 5).unwrap().map(|found| found.offset)
    };
    assert_eq!((find(0), find(101), find(501), find(901)), (Some(0), Some(0), Some(2), None));
    assert_eq!(log.max_timestamp(5).unwrap(), record(START_MS - 100, 2));
    log.delete_records(1).unwrap();
    assert_eq!((find(0), find(101)), (Some(1), Some(2)));
    log.delete_records(4).unwrap();
    assert_eq!(log.max_timestamp(5).unwrap(), record(START_MS - 100, 2), "below the start");
    assert_eq!(find(301), None);
    let empty = Bench::heap();
    let log = empty.new_log();
    assert_eq!(log.max_timestamp(0).unwrap(), None);
    assert_eq!(log.offset_for_time(0, 0).unwrap(), None);
}

#[test]
fn after_a_trim_only_the_first_segment_that_reaches_a_time_is_searched() {
    let bench = &mut Bench::heap();
    bench.config.segment_bytes = 400;
    let log = bench.new_log();
    for time in [900, 100, 100, 100, 950, 950] {
        bench.append_at(&log, &[b'v'; 50], START_MS - 1000 + time);
    }
    assert!(log.segment_count().unwrap() > 1);
    log.delete_records(1).unwrap();
    assert_eq!(log.offset_for_time(START_MS - 100, 6).unwrap(), None, "as Kafka answers");
    assert_eq!(log.offset_for_time(START_MS - 50, 6).unwrap().unwrap().offset, 4);
}

#[test]
fn nothing_is_removed_before_the_state_file_knows_the_start() {
    Bench::both(|bench| {
        let log = filled(bench, 100);
        let names = bench.names();
        bench.gate.refuse.store(true, Ordering::SeqCst);
        let error = log.retention_step(at(START_MS + 1_000_000)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(names.iter().all(|name| bench.names().contains(name)), "all files are there");
        assert_eq!(log.log_start_offset().unwrap(), 100);
        bench.gate.refuse.store(false, Ordering::SeqCst);
        let retained = log.retention_step(at(START_MS)).unwrap();
        assert!(retained.segments_deleted > 1);
        let (_, recorded) = bench.gate.recorded.lock().pop().unwrap();
        assert_eq!((recorded.log_start_offset, recorded.recovery_point), (100, 100));
        let logs = bench.names().iter().filter(|name| name.ends_with(".log")).count();
        assert_eq!(logs, 1);
    });
}
