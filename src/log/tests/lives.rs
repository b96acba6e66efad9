//! One life after another: kills, clean stops, directories that somebody else wrote.

use super::*;
use crate::log::segment::Stage;

/// Ends a life without a close.
fn kill(log: Arc<Log>) {
    assert_eq!(Arc::strong_count(&log), 1);
    drop(log);
}

#[test]
fn after_a_kill_everything_is_there_and_the_next_life_goes_on_in_place() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 20_000;
        let log = bench.new_log();
        for i in 0..100 {
            bench.append_at(&log, &[b'v'; 50], START_MS + i);
        }
        log.flush().unwrap();
        let state = log.state().unwrap();
        for i in 100..300 {
            bench.append_at(&log, &[b'v'; 50], START_MS + i);
        }
        kill(log);
        for trust in [Trust::SameBoot, Trust::OtherBoot] {
            let log = bench.open(state.clone(), trust);
            assert_eq!(log.log_end_offset().unwrap(), 300);
            assert_eq!(log.recovery_point().unwrap(), 100);
            let found = read_all(&log, 0);
            assert!(found.iter().enumerate().all(|(i, f)| f.0 == i as i64), "{trust:?}");
            assert_eq!(log.offset_for_time(START_MS + 250, 300).unwrap().unwrap().offset, 250);
        }
        bench.gate.epoch.store(1, Ordering::SeqCst);
        let log = bench.open(state, Trust::SameBoot);
        let count = log.segment_count().unwrap();
        assert_eq!(bench.append_at(&log, b"next", START_MS + 300).base_offset, 300);
        assert_eq!(log.segment_count().unwrap(), count, "the last segment goes on");
        for i in 301..500 {
            bench.append_at(&log, &[b'v'; 50], START_MS + i);
        }
        bench.run_work();
        let stages: Vec<_> = log.segments.all().iter().map(|s| s.stage()).collect();
        let (last, before) = stages.split_last().unwrap();
        assert!(before.iter().all(|stage| *stage == Stage::Sealed), "{stages:?}");
        assert_eq!(*last, Stage::Active);
        for i in (0..500).step_by(7) {
            assert_eq!(read_all(&log, i)[0].0, i);
            assert_eq!(log.offset_for_time(START_MS + i, 500).unwrap().unwrap().offset, i);
        }
    });
}

#[test]
fn a_resumed_segment_is_looked_up_in_both_its_parts() {
    Bench::both(|bench| {
        let log = bench.new_log();
        for i in 0..200 {
            bench.append_at(&log, &[b'v'; 100], START_MS + i);
        }
        let state = log.close().unwrap();
        let log = bench.open(state, Trust::Clean);
        for i in 200..400 {
            bench.append_at(&log, &[b'v'; 100], START_MS + i);
        }
        for round in 0..2 {
            for i in (0..400).step_by(3) {
                let place = log.locate(i).unwrap();
                let bytes = place.view.bytes_from(place.position);
                assert_eq!(RecordBatch::parse(bytes).unwrap().header().base_offset, i);
                assert_eq!(log.offset_for_time(START_MS + i, 400).unwrap().unwrap().offset, i);
            }
            if round == 0 {
                log.close().unwrap();
            }
        }
        let last = log.segments.all()[0].clone();
        let entries = log.indexes_of(&last).unwrap().offsets.entries().len();
        assert!((15..=18).contains(&entries), "{entries} entries in 68 KiB");
        assert_eq!(log.env.counters.index_rebuilds.total(), 0);
    });
}

#[test]
fn a_torn_last_batch_is_gone_and_its_place_is_used_again() {
    Bench::both(|bench| {
        let log = bench.new_log();
        for _ in 0..5 {
            bench.append(&log, b"vvvvvvvv");
        }
        log.flush().unwrap();
        let state = log.state().unwrap();
        let end = log.size_bytes().unwrap();
        bench.append(&log, b"the torn one");
        kill(log);
        let path = bench.identity().dir.join("00000000000000000000.log");
        let file = bench.storage.open_append(&path, 0).unwrap();
        file.set_len(end + 40).unwrap();
        drop(file);
        let log = bench.open(state, Trust::SameBoot);
        assert_eq!(log.log_end_offset().unwrap(), 5);
        assert_eq!(log.opening().1.bytes_lost, 40);
        bench.gate.epoch.store(1, Ordering::SeqCst);
        assert_eq!(bench.append(&log, b"another").base_offset, 5);
        assert_eq!(read_all(&log, 5), [(5, START_MS, b"another".to_vec())]);
        let state = log.close().unwrap();
        assert_eq!(read_all(&bench.open(state, Trust::Clean), 0).len(), 6);
    });
}

#[test]
fn a_foreign_partition_is_read_whole_and_appended_to_in_a_new_segment() {
    Bench::both(|bench| {
        let log = bench.new_log();
        for i in 0..50 {
            bench.append_at(&log, &[b'v'; 50], START_MS + i);
        }
        log.close().unwrap();
        drop(log);
        let log = bench.open(LogState::default(), Trust::Foreign);
        let mut read = 0;
        let mut progress = |bytes| read += bytes;
        let options = crate::log::load::OpenOptions {
            progress: Some(&mut progress),
            ..crate::log::load::OpenOptions::default()
        };
        log.recover(options).unwrap();
        assert!(read > 0 && log.opening().1.foreign);
        assert_eq!(read_all(&log, 0).len(), 50);
        let mut cursor = Cursor::new(0);
        let held = log.read(&mut cursor, 1, IsolationLevel::ReadUncommitted).unwrap();
        bench.gate.epoch.store(3, Ordering::SeqCst);
        assert_eq!(bench.append(&log, b"ours").base_offset, 50);
        assert_eq!(log.segment_count().unwrap(), 2);
        assert_eq!(held.bytes().len(), cursor.place.as_ref().unwrap().position);
        assert_eq!(read_all(&log, 0).len(), 51);
        let mut rest = Vec::new();
        while cursor.offset() < 51 {
            let chunk = log.read(&mut cursor, 1, IsolationLevel::ReadUncommitted).unwrap();
            rest.push(chunk.upto());
        }
        assert_eq!(rest.last(), Some(&51), "a cursor from before goes on");
        let state = log.close().unwrap();
        assert!(!state.segments[0].is_resumable() && state.segments[1].is_resumable());
    });
}

/// Compaction leaves files without a byte. The life that took the partition over appends nothing
/// to it, so that a later one seals its segments.
#[test]
fn an_empty_foreign_segment_is_sealed_by_a_later_life() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 3000;
        let log = bench.new_log();
        for i in 0..80 {
            bench.append_at(&log, &[b'v'; 50], START_MS + i);
        }
        log.close().unwrap();
        drop(log);
        bench.storage.create_cold(&bench.identity().dir.join("00000000000000000000.log")).unwrap();
        let log = bench.open(LogState::default(), Trust::Foreign);
        let left = read_all(&log, 0).len();
        assert!((1..80).contains(&left));
        let state = log.close().unwrap();
        drop(log);
        let log = bench.open(state, Trust::Clean);
        bench.gate.epoch.store(3, Ordering::SeqCst);
        assert_eq!(bench.append(&log, b"ours").base_offset, 80);
        bench.run_work();
        assert_eq!(read_all(&log, 0).len(), left + 1);
        let state = log.close().unwrap();
        assert!(state.segments.iter().rev().skip(1).all(|segment| segment.sealed));
    });
}

#[test]
fn a_closed_life_without_an_append_leaves_a_cut_tail_behind_a_kill() {
    Bench::both(|bench| {
        let log = bench.new_log();
        bench.append(&log, b"v");
        log.flush().unwrap();
        let state = log.state().unwrap();
        kill(log);
        let log = bench.open(state, Trust::SameBoot);
        let closed = log.close().unwrap();
        let path = bench.identity().dir.join("00000000000000000000.log");
        assert_eq!(
            bench.storage.metadata(&path).unwrap().len,
            closed.segments[0].extent.size_bytes
        );
        assert_eq!(bench.gate.entered.load(Ordering::SeqCst), 1, "no new life for a cut");
        assert_eq!(bench.open(closed, Trust::Clean).log_end_offset().unwrap(), 1);
    });
}

#[test]
fn reading_ends_where_compaction_left_no_batch_before_the_end() {
    Bench::both(|bench| {
        let log = bench.new_log();
        for _ in 0..3 {
            bench.append(&log, b"v");
        }
        log.close().unwrap();
        let last = bench.identity().dir.join("00000000000000000010.log");
        bench.storage.create_cold(&last).unwrap();
        let log = bench.open(LogState::default(), Trust::Foreign);
        assert_eq!(log.log_end_offset().unwrap(), 10);
        let mut cursor = Cursor::new(0);
        let first = log.read(&mut cursor, 1 << 16, IsolationLevel::ReadUncommitted).unwrap();
        assert_eq!(first.upto(), 3);
        let rest = log.read(&mut cursor, 1 << 16, IsolationLevel::ReadUncommitted).unwrap();
        assert!(rest.is_empty());
        assert_eq!((rest.upto(), cursor.offset()), (10, 10));
        bench.gate.epoch.store(1, Ordering::SeqCst);
        assert_eq!(bench.append(&log, b"on").base_offset, 10);
        let more = log.read(&mut cursor, 1 << 16, IsolationLevel::ReadUncommitted).unwrap();
        assert_eq!((more.is_empty(), more.upto()), (false, 11));
    });
}
