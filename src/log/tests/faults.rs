//! Failed syncs, damaged bytes, waiting and waking, threads.

use super::*;
use crate::log::files::names::FileKind;
use crate::storage::Fault;
use crate::storage::faults::{Call, Failure, Rule};
use crate::sync::thread;

fn faulty() -> (Fault, Bench) {
    let heap = Heap::new();
    heap.create_dir(Path::new("/logs")).unwrap();
    let fault = Fault::new(Arc::new(heap));
    let bench = Bench::on(Arc::new(fault.clone()), PathBuf::from("/logs"), None);
    (fault, bench)
}

#[test]
fn a_failed_sync_is_final_for_writers_and_not_for_readers() {
    for call in [Call::SyncData, Call::SyncDir] {
        let (fault, bench) = faulty();
        let log = bench.new_log();
        bench.append(&log, b"v");
        let event = Arc::new(Signal::new());
        assert!(!log.watch(&event, 1, IsolationLevel::ReadUncommitted).unwrap());
        fault.fail(Rule::nth(0, Failure::Io).of(&[call]));
        let error = log.flush().unwrap_err();
        assert_eq!((error.kind(), error.is_fatal()), (ErrorKind::StorageFailed, true), "{call:?}");
        assert!(event.take(), "who waits is told");
        let syncs = fault.calls_of(Call::SyncData);
        assert_eq!(log.flush().unwrap_err().kind(), ErrorKind::StorageFailed, "not tried again");
        assert_eq!(log.make_durable(1).unwrap_err().kind(), ErrorKind::StorageFailed);
        assert_eq!(fault.calls_of(Call::SyncData), syncs);
        let record = RecordInput { timestamp: START_MS, ..RecordInput::default() };
        let refused = log.append(&record, bench.options()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageFailed);
        assert_eq!(log.recovery_point().unwrap(), 0);
        assert_eq!(read_all(&log, 0).len(), 1);
        assert_eq!(log.close().unwrap_err().kind(), ErrorKind::StorageFailed);
    }
}

/// The lock of a directory may be lost at any moment, also in the middle of what the first append
/// does before it stores anything.
#[test]
fn a_log_that_is_given_up_while_it_is_made_ready_takes_no_append() {
    let bench = Bench::heap();
    let log = bench.new_log();
    bench.gate.given_up.set(Arc::downgrade(&log)).unwrap();
    let record = RecordInput { timestamp: START_MS, ..RecordInput::default() };
    for _ in 0..2 {
        let refused = log.append(&record, bench.options()).unwrap_err();
        assert_eq!(refused.kind(), lock_lost().kind());
    }
    assert!(log.writer.lock().active.is_none() && !log.is_writable());
    assert_eq!(log.log_end_offset().unwrap(), 0);
    assert_eq!(log.flush().unwrap_err().kind(), lock_lost().kind());
    assert_eq!(log.close().unwrap_err().kind(), lock_lost().kind());
}

/// A segment that was made while the log failed gets no writer, and nothing goes into one that was
/// opened anew.
#[test]
fn a_log_that_fails_while_its_segment_is_made_does_not_go_on() {
    let bench = Bench::heap();
    let log = bench.new_log();
    bench.append(&log, b"v");
    let made = log.create_segment(&bench.config, 1, 4096, bench.now_ms()).unwrap();
    log.give_up(&lock_lost());
    let mut writer = log.writer.lock();
    assert_eq!(log.install(&mut writer, made).unwrap_err().kind(), lock_lost().kind());
    assert!(writer.active.is_none());
    drop(writer);
    assert_eq!(log.segment_count().unwrap(), 1);
    assert_eq!(read_all(&log, 0).len(), 1, "reads go on");
}

/// What ends a log first is what its appends are told, but for its deletion.
#[test]
fn what_ended_a_log_stays_the_reason() {
    let (bench, error) = (Bench::heap(), lock_lost());
    let log = bench.new_log();
    bench.append(&log, b"v");
    log.give_up(&error);
    log.storage_failed(Error::new(ErrorKind::Io, "the disk is gone, too"));
    assert_eq!(log.refusal().unwrap().kind(), error.kind());
    assert_eq!(log.close().unwrap_err().kind(), error.kind());
    assert_eq!(log.refusal().unwrap().kind(), ErrorKind::Closed);
    log.give_up(&error);
    assert_eq!(log.refusal().unwrap().kind(), ErrorKind::Closed);
    log.delete().unwrap();
    assert_eq!(log.refusal().unwrap().kind(), DELETED);
    assert_eq!(log.close().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(log.refusal().unwrap().kind(), DELETED);
    // One that was given up before anybody looked at it is still read.
    let recorded = bench.open(LogState { log_end_offset: 3, ..LogState::default() }, Trust::New);
    recorded.give_up(&error);
    assert_eq!(recorded.log_end_offset().unwrap(), 3);
    assert_eq!(recorded.segment_count().unwrap(), 0);
    assert!(recorded.is_opened());
    assert_eq!(recorded.refusal().unwrap().kind(), error.kind());
}

#[test]
fn a_failed_sync_of_a_seal_is_final_too() {
    let (fault, mut bench) = faulty();
    bench.config.segment_bytes = 200;
    let log = bench.new_log();
    for _ in 0..3 {
        bench.append(&log, &[b'v'; 50]);
    }
    fault.fail(Rule::nth(0, Failure::Io).of(&[Call::SyncData]).on(".log"));
    assert_eq!(log.seal_step().unwrap_err().kind(), ErrorKind::StorageFailed);
    assert_eq!(log.refusal().unwrap().kind(), ErrorKind::StorageFailed);
    assert!(!log.seal_step().unwrap());
}

/// A roll that made the file and could not map it must not leave it in the way: the old segment
/// goes on only if the new file is gone.
#[test]
fn a_roll_that_cannot_map_its_file_leaves_nothing_that_contradicts() {
    for also_unremovable in [false, true] {
        let (fault, mut bench) = faulty();
        bench.config.segment_bytes = 400;
        let log = bench.new_log();
        bench.append(&log, &[b'v'; 200]);
        fault.fail(Rule::nth(0, Failure::Io).of(&[Call::Region]));
        if also_unremovable {
            fault.fail(Rule::nth(0, Failure::Io).of(&[Call::Remove]));
        }
        let record = |value: &'static [u8]| RecordInput {
            timestamp: START_MS,
            value: Some(value),
            ..RecordInput::default()
        };
        let refused = log.append(&record(&[b'w'; 200]), bench.options()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Io);
        let offsets: Vec<i64> = [&[b'x'; 10][..], &[b'y'; 200], &[b'z'; 10]]
            .map(|value| log.append(&record(value), bench.options()).unwrap().base_offset)
            .to_vec();
        assert_eq!(offsets, [1, 2, 3]);
        assert_eq!(read_all(&log, 0).len(), 4);
        drop(log);
        let log = bench.open(LogState::default(), Trust::SameBoot);
        assert_eq!(read_all(&log, 0).len(), 4, "also unremovable: {also_unremovable}");
    }
}

#[test]
fn an_index_that_cannot_be_written_is_written_by_a_later_step() {
    let (fault, mut bench) = faulty();
    bench.config.segment_bytes = 200;
    let log = bench.new_log();
    for _ in 0..3 {
        bench.append(&log, &[b'v'; 50]);
    }
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::CreateCold]).on(".index"));
    assert_eq!(log.seal_step().unwrap_err().kind(), ErrorKind::StorageFull);
    bench.append(&log, b"goes on");
    while log.seal_step().unwrap() {}
    let state = log.close().unwrap();
    assert!(state.segments[0].sealed);
    let path = log.segments.all()[0].path_of(FileKind::OffsetIndex);
    assert!(bench.storage.exists(&path).unwrap());
}

#[test]
fn damage_is_found_by_the_first_read_and_named() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 1000;
        let log = bench.new_log();
        for _ in 0..20 {
            bench.append(&log, &[b'v'; 50]);
        }
        let state = log.close().unwrap();
        drop(log);
        let path = bench.identity().dir.join("00000000000000000000.log");
        let size =
            state.segments[0].extent.size_bytes / state.segments[0].extent.next_offset as u64;
        let mut bytes = bench.storage.read_file(&path, 1 << 20).unwrap();
        bytes[(2 * size + 90) as usize] ^= 1;
        bench.storage.create_cold(&path).unwrap().write_at(0, &bytes).unwrap();
        let log = bench.open(state, Trust::Clean);
        let mut cursor = Cursor::new(0);
        let isolation = IsolationLevel::ReadUncommitted;
        let chunk = log.read(&mut cursor, 1 << 20, isolation).unwrap();
        assert_eq!(chunk.upto(), 2, "everything before the damage");
        for _ in 0..2 {
            let error = log.read(&mut cursor, 1 << 20, isolation).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CorruptRecord);
            assert_eq!((error.path(), error.position()), (Some(&*path), Some(2 * size)));
        }
        assert_eq!(log.env.counters.corrupt_batches.total(), 2);
        cursor = Cursor::new(3);
        let chunk = log.read(&mut cursor, 1, isolation).unwrap();
        assert_eq!(chunk.upto(), 4, "a seek passes over it");
    });
}

#[test]
fn a_watch_is_spent_by_the_append_that_it_hears_of() {
    let bench = Bench::heap();
    let log = bench.new_log();
    let event = Arc::new(Signal::new());
    let isolation = IsolationLevel::ReadUncommitted;
    assert!(!log.watch(&event, 0, isolation).unwrap());
    assert!(!log.watch(&event, 0, isolation).unwrap());
    bench.append(&log, b"v");
    assert!(event.take());
    bench.append(&log, b"v");
    assert!(!event.take());
    assert!(log.watch(&event, 1, isolation).unwrap(), "there is something already");
    assert!(!log.watch(&event, 2, isolation).unwrap());
    log.unwatch(&event);
    bench.append(&log, b"v");
    assert!(!event.take());
    assert!(!log.watch(&event, 3, isolation).unwrap());
    log.close().unwrap();
    assert!(event.take(), "the close ends every wait");
    assert_eq!(log.watch(&event, 3, isolation).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_deleted_log_says_so() {
    Bench::both(|bench| {
        let log = bench.new_log();
        bench.append(&log, b"v");
        let mut cursor = Cursor::new(0);
        let held = log.read(&mut cursor, 1, IsolationLevel::ReadUncommitted).unwrap();
        log.delete().unwrap();
        let record = RecordInput { timestamp: START_MS, ..RecordInput::default() };
        let gone = ErrorKind::UnknownTopicOrPartition;
        assert_eq!(log.append(&record, bench.options()).unwrap_err().kind(), gone);
        let mut fresh = Cursor::new(0);
        let read = log.read(&mut fresh, 1, IsolationLevel::ReadUncommitted);
        assert_eq!(read.unwrap_err().kind(), gone);
        assert!(!held.bytes().is_empty());
        let untouched = bench.new_log();
        untouched.delete().unwrap();
        assert_eq!(untouched.append(&record, bench.options()).unwrap_err().kind(), gone);
    });
}

#[test]
fn so_many_segments_stay_mapped_and_all_can_be_read() {
    let mut bench = Bench::files();
    bench.config.segment_bytes = 2000;
    let log = bench.new_log();
    for _ in 0..400 {
        bench.append(&log, &[b'v'; 50]);
    }
    bench.run_work();
    assert!(log.segment_count().unwrap() > 20);
    for _ in 0..2 {
        assert_eq!(read_all(&log, 0).len(), 400);
        assert!(bench.env.mapped.len() <= 4);
        let mapped = log.segments.all().iter().filter(|segment| segment.file().is_some()).count();
        assert!(mapped <= 4 + 1, "{mapped}");
    }
}

#[test]
fn shared_bytes_outlive_the_log() {
    Bench::both(|bench| {
        let log = bench.new_log();
        bench.append(&log, b"the value");
        let chunk = log.read(&mut Cursor::new(0), 1, IsolationLevel::ReadUncommitted).unwrap();
        let at = chunk.bytes().windows(9).position(|bytes| bytes == b"the value").unwrap();
        let shared = chunk.share(at..at + 9);
        drop(chunk);
        log.close().unwrap();
        drop(log);
        assert_eq!(shared, b"the value"[..]);
    });
}

#[test]
fn threads_append_durably_and_each_offset_is_given_once() {
    let bench = Bench::files();
    let log = bench.new_log();
    let options = bench.options();
    let writers: Vec<_> = (0..4)
        .map(|writer: u8| {
            let log = log.clone();
            thread::spawn_named("writer", move || {
                let mut offsets = Vec::new();
                for _ in 0..50 {
                    let value = [writer; 30];
                    let record = RecordInput {
                        timestamp: START_MS,
                        value: Some(&value),
                        ..RecordInput::default()
                    };
                    let appended = log.append(&record, options).unwrap();
                    log.make_durable(appended.last_offset + 1).unwrap();
                    assert!(log.recovery_point().unwrap() > appended.last_offset);
                    offsets.push(appended.base_offset);
                }
                (writer, offsets)
            })
            .unwrap()
        })
        .collect();
    let mut cursor = Cursor::new(0);
    let mut seen = 0;
    while seen < 200 {
        let isolation = IsolationLevel::ReadUncommitted;
        let chunk = log.read(&mut cursor, 1000, isolation).unwrap();
        assert!(chunk.upto() >= seen);
        seen = chunk.upto();
        crate::sync::spin_loop();
    }
    let found = read_all(&log, 0);
    for writer in writers {
        let (writer, offsets) = writer.join().unwrap();
        assert!(offsets.is_sorted());
        for offset in offsets {
            assert_eq!(found[offset as usize], (offset, START_MS, vec![writer; 30]));
        }
    }
    assert!(log.env.counters.syncs.total() <= 200);
}
