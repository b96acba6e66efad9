//! When a log rolls, and how its files grow.

use super::*;
use crate::storage::Fault;
use crate::storage::faults::{Call, Failure, Rule};

fn bases(log: &Log) -> Vec<i64> {
    log.segments.all().iter().map(|segment| segment.base_offset).collect()
}

#[test]
fn record_time_rolls_not_the_clock() {
    Bench::both(|bench| {
        bench.config.segment_ms = 1000;
        let log = bench.new_log();
        bench.append_at(&log, b"v", START_MS - 5000);
        bench.clock.advance(std::time::Duration::from_secs(3600));
        bench.append_at(&log, b"v", START_MS - 4000);
        assert_eq!(bases(&log), [0], "exactly segment.ms is not beyond it");
        bench.append_at(&log, b"v", START_MS - 3999);
        assert_eq!(bases(&log), [0, 2]);
        bench.append_at(&log, b"v", START_MS - 100_000);
        bench.append_at(&log, b"v", -1);
        assert_eq!(bases(&log), [0, 2], "older records and such without a time never roll");
        bench.append_at(&log, b"v", START_MS);
        assert_eq!(bases(&log), [0, 2, 5]);
    });
}

#[test]
fn without_timestamps_the_age_of_the_segment_counts() {
    let mut bench = Bench::heap();
    bench.config.segment_ms = 1000;
    let log = bench.new_log();
    bench.append_at(&log, b"v", -1);
    bench.clock.advance(std::time::Duration::from_millis(1000));
    bench.append_at(&log, b"v", -1);
    assert_eq!(bases(&log), [0]);
    bench.clock.advance(std::time::Duration::from_millis(1));
    bench.append_at(&log, b"v", -1);
    assert_eq!(bases(&log), [0, 2]);
}

#[test]
fn jitter_takes_off_from_the_time_and_is_the_segments_own() {
    let mut bench = Bench::heap();
    bench.config.segment_ms = 1000;
    bench.config.segment_jitter_ms = 900;
    let log = bench.new_log();
    let mut reach = Vec::new();
    for _ in 0..20 {
        let base = bench.append_at(&log, b"v", START_MS - 10_000).base_offset;
        let mut ms = 0;
        while bases(&log).last() == Some(&base) {
            ms += 1;
            bench.append_at(&log, b"v", START_MS - 10_000 + ms);
        }
        assert!((100..=1001).contains(&ms), "{ms}");
        reach.push(ms);
        // The roll itself stored a record: the next round begins behind it.
        bench.config.segment_bytes = 1 << 20;
        let end = log.log_end_offset().unwrap();
        log.roll(&mut log.writer.lock(), 0, START_MS).unwrap();
        assert_eq!(bases(&log).last(), Some(&end));
    }
    reach.dedup();
    assert!(reach.len() > 10, "{reach:?}");
}

#[test]
fn a_full_index_rolls() {
    let mut bench = Bench::heap();
    bench.config.segment_index_bytes = 40;
    bench.config.index_interval_bytes = 0;
    let log = bench.new_log();
    for i in 0..10 {
        bench.append_at(&log, b"v", START_MS - 100);
        assert!(log.segment_count().unwrap() as i64 <= 1 + i / 6);
    }
    // Five entries of eight bytes; the first batch has none. Times do not rise, so that one
    // entry is all that the other index gets.
    assert_eq!(bases(&log), [0, 6]);
    let log = bench.open(LogState::default(), Trust::New);
    bench.storage.remove(&bench.identity().dir.join("00000000000000000000.log")).unwrap();
    bench.storage.remove(&bench.identity().dir.join("00000000000000000006.log")).unwrap();
    for i in 0..8 {
        bench.append_at(&log, b"v", START_MS - 100 + i);
    }
    // Three entries of twelve bytes, one of them kept for the close.
    assert_eq!(bases(&log), [0, 3, 6]);
}

#[test]
fn offsets_beyond_31_bits_of_the_base_roll() {
    let mut bench = Bench::heap();
    bench.config.retention_ms = -1;
    let state = LogState { log_end_offset: 5, log_start_offset: 5, ..LogState::default() };
    let log = bench.open(state, Trust::New);
    bench.append(&log, b"v");
    log.writer.lock().next_offset = 5 + i64::from(i32::MAX);
    bench.append(&log, b"v");
    assert_eq!(bases(&log), [5]);
    bench.append(&log, b"v");
    assert_eq!(bases(&log), [5, 5 + (1 << 31)]);
}

#[test]
fn a_file_grows_in_steps_that_double_and_never_beyond_its_segment() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 1_000_000;
        let log = bench.new_log();
        let mut sizes = Vec::new();
        while log.segment_count().map_or(0, |count| count) < 2 {
            bench.append(&log, &[b'v'; 1000]);
            let prepared = log.writer.lock().active.as_ref().unwrap().prepared() as u64;
            if sizes.last() != Some(&prepared) {
                sizes.push(prepared);
            }
        }
        assert_eq!(sizes[0], 16 << 10);
        assert!(sizes.len() <= 9, "{sizes:?}");
        assert!(sizes.iter().all(|size| *size <= 1_003_520 && size % 4096 == 0), "{sizes:?}");
    });
}

#[test]
fn a_file_is_ahead_of_its_batches_by_a_quarter_of_them_and_a_mebibyte_at_most() {
    for prepares in [false, true] {
        Bench::both(|bench| {
            let log = bench.new_log();
            for _ in 0..120 {
                bench.append(&log, &[b'v'; 50_000]);
                if prepares {
                    bench.run_work();
                }
                let writer = log.writer.lock();
                let active = writer.active.as_ref().unwrap();
                let (prepared, stored) = (active.prepared(), active.position);
                let allowed = stored + stored / 4 + (1 << 20) + 4096;
                assert!(prepared <= allowed, "{prepared} bytes for {stored}, by {prepares}");
            }
        });
    }
}

#[test]
fn pages_are_prepared_ahead_of_a_writer_that_is_announced() {
    Bench::both(|bench| {
        let log = bench.new_log();
        let steps = |log: &Log| {
            let counters = &log.env.counters;
            (counters.writer_steps.total(), counters.prepared_steps.total())
        };
        for _ in 0..500 {
            bench.append(&log, &[b'v'; 1000]);
            bench.run_work();
        }
        let (by_writer, ahead) = steps(&log);
        assert_eq!(by_writer, 0, "the preparer was always faster here");
        assert!((4..12).contains(&ahead), "{ahead} steps for 500 KB");
        assert!(!log.prepare_step().unwrap(), "nothing more to do");
    });
}

/// On a busy machine waiting for the preparer's turn takes longer than its work.
#[test]
fn a_writer_whose_preparer_is_late_makes_its_pages_itself_for_a_while() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 1 << 30;
        let log = bench.new_log();
        let value = [b'v'; 60_000];
        let steps = |log: &Log| {
            let counters = &log.env.counters;
            (counters.writer_steps.total(), counters.prepared_steps.total())
        };
        let ahead = |log: &Log| {
            let writer = log.writer.lock();
            let active = writer.active.as_ref().unwrap();
            active.prepared() - active.position
        };
        for _ in 0..50 {
            bench.append(&log, &value);
        }
        let (by_writer, _) = steps(&log);
        assert!(by_writer > 10, "a part at a time: {by_writer}");
        for _ in 0..80 {
            bench.append(&log, &value);
            bench.run_work();
            assert!(ahead(&log) <= 256 << 10, "no more than a part is made at once");
        }
        assert_eq!(steps(&log).1, 0, "nothing is made by anybody else");
        for _ in 0..150 {
            bench.append(&log, &value);
            bench.run_work();
        }
        let (by_writer, prepared) = steps(&log);
        assert!(prepared > 0 && ahead(&log) > 1 << 20, "asked again after a while");
        for _ in 0..300 {
            bench.append(&log, &value);
            bench.run_work();
        }
        assert_eq!(steps(&log).0, by_writer, "the preparer is in time now");
        assert_eq!(read_all(&log, 0).len(), 580);
    });
}

/// A storage that fails, below one log.
fn faulty(inner: Arc<dyn Storage>, root: &Path) -> (Fault, Bench) {
    let fault = Fault::new(inner);
    let bench = Bench::on(Arc::new(fault.clone()), root.to_path_buf(), None);
    (fault, bench)
}

#[test]
fn a_full_disk_refuses_appends_and_takes_them_again_once_there_is_room() {
    let heap = Heap::new();
    heap.create_dir(Path::new("/logs")).unwrap();
    let (fault, mut bench) = faulty(Arc::new(heap), Path::new("/logs"));
    bench.config.segment_bytes = 50_000;
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Create]).sticky());
    let log = bench.new_log();
    let record = RecordInput { timestamp: START_MS, value: Some(&[0; 1000]), ..Default::default() };
    let error = log.append(&record, bench.options()).unwrap_err();
    assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::StorageFull, true));
    assert_eq!(log.log_end_offset().unwrap(), 0);
    fault.heal();
    assert_eq!(log.append(&record, bench.options()).unwrap().base_offset, 0);
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Create, Call::Allocate]).sticky());
    let mut stored = 1;
    let error = loop {
        match log.append(&record, bench.options()) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!((stored, log.log_end_offset().unwrap()), (15, 15), "the first 16 KiB");
    assert_eq!(read_all(&log, 0).len(), 15);
    fault.heal();
    for _ in 0..100 {
        log.append(&record, bench.options()).unwrap();
    }
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Create]).sticky());
    let before = bases(&log);
    while log.append(&record, bench.options()).is_ok() {}
    assert_eq!(bases(&log), before, "no roll without a file");
    let end = log.log_end_offset().unwrap();
    fault.heal();
    assert_eq!(log.append(&record, bench.options()).unwrap().base_offset, end);
    assert_eq!(read_all(&log, 0).len() as i64, end + 1);
}

#[test]
fn a_smaller_step_is_taken_where_a_whole_one_does_not_fit() {
    let heap = Heap::new();
    heap.create_dir(Path::new("/logs")).unwrap();
    let (fault, bench) = faulty(Arc::new(heap), Path::new("/logs"));
    let log = bench.new_log();
    let record = RecordInput { timestamp: START_MS, value: Some(&[0; 1000]), ..Default::default() };
    for _ in 0..15 {
        log.append(&record, bench.options()).unwrap();
    }
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Allocate]));
    assert_eq!(log.append(&record, bench.options()).unwrap().base_offset, 15);
    let prepared = log.writer.lock().active.as_ref().unwrap().prepared();
    assert_eq!(prepared, 20 << 10, "one page more, not a step");
}

/// The removal of a file that a failed roll made need not have reached the disk.
#[test]
fn a_segment_that_was_never_used_is_passed_over_and_removed() {
    for trust in [Trust::SameBoot, Trust::OtherBoot, Trust::Foreign] {
        let mut bench = Bench::heap();
        bench.config.segment_bytes = 400;
        let log = bench.new_log();
        for _ in 0..5 {
            bench.append(&log, b"v");
        }
        drop(log);
        let unused = bench.identity().dir.join("00000000000000000003.log");
        let file = bench.storage.create_cold(&unused).unwrap();
        file.write_at(0, &[0; 4096]).unwrap();
        for _ in 0..2 {
            let log = bench.open(LogState::default(), trust);
            assert_eq!(read_all(&log, 0).len(), 5, "{trust:?}");
            assert!(bench.storage.exists(&unused).unwrap(), "opening only reads");
        }
        let log = bench.open(LogState::default(), trust);
        bench.append(&log, b"v");
        assert!(log.damage.get().is_none());
        assert!(!bench.storage.exists(&unused).unwrap());
        drop(log);
        let log = bench.open(LogState::default(), Trust::SameBoot);
        assert_eq!(read_all(&log, 0).len(), 6, "{trust:?}");
    }
}

/// Retention of a whole log rolls to an empty segment first: if that fails, the old one goes on, or
/// takes no more where the file of the new one stays.
#[test]
fn a_retention_whose_roll_fails_leaves_a_log_that_can_be_read() {
    for stays in [false, true] {
        let heap = Heap::new();
        heap.create_dir(Path::new("/logs")).unwrap();
        let (fault, mut bench) = faulty(Arc::new(heap), Path::new("/logs"));
        bench.config.retention_ms = 1000;
        let log = bench.new_log();
        for _ in 0..3 {
            bench.append(&log, b"v");
        }
        bench.clock.advance(std::time::Duration::from_secs(10));
        let new = "00000000000000000003.log";
        fault.fail(Rule::nth(0, Failure::Io).of(&[Call::Region]).on(new));
        if stays {
            fault.fail(Rule::nth(0, Failure::Io).of(&[Call::Remove]).on(new));
        }
        let error = log.retention_step(bench.clock.now()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        bench.append(&log, b"goes on");
        drop(log);
        let log = bench.open(LogState::default(), Trust::SameBoot);
        assert_eq!(read_all(&log, 0).len(), 4, "the new file stays: {stays}");
    }
}
