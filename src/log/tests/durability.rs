//! Flush, group commit, seal, close and what comes after: borders, files, failures.

use super::*;
use crate::log::files::names::FileKind;
use crate::log::segment::Stage;

#[test]
fn a_flush_moves_the_recovery_point_to_the_end() {
    Bench::both(|bench| {
        let log = bench.new_log();
        for _ in 0..10 {
            bench.append(&log, b"v");
        }
        assert_eq!(log.recovery_point().unwrap(), 0);
        log.flush().unwrap();
        assert_eq!(log.recovery_point().unwrap(), 10);
        let state = log.state().unwrap();
        assert_eq!((state.recovery_point, state.log_end_offset), (10, 10));
        assert_eq!(state.last_batch.unwrap().base_offset, 9);
        bench.append(&log, b"v");
        let state = log.state().unwrap();
        assert_eq!(state.log_end_offset, 10, "as of the last sync");
        assert_eq!(state.segments[0].extent.next_offset, 10);
        log.make_durable(11).unwrap();
        assert_eq!(log.state().unwrap().log_end_offset, 11);
    });
}

#[test]
fn an_append_has_to_wait_for_a_sync_by_flush_messages() {
    Bench::both(|bench| {
        bench.config.flush_messages = 3;
        let log = bench.new_log();
        let waits: Vec<bool> = (0..6)
            .map(|_| {
                let appended = bench.append(&log, b"v");
                if appended.must_sync {
                    log.make_durable(appended.last_offset + 1).unwrap();
                }
                appended.must_sync
            })
            .collect();
        assert_eq!(waits, [false, false, true, false, false, true]);
    });
}

#[test]
fn a_flush_is_announced_once_until_it_is_done() {
    let bench = Bench::heap();
    let log = bench.new_log();
    let flushes = || {
        let work = std::mem::take(&mut *bench.gate.queue.lock());
        work.iter().filter(|work| matches!(work, BackgroundWork::Flush(_))).count()
    };
    bench.append(&log, b"v");
    bench.append(&log, b"v");
    assert_eq!(flushes(), 1);
    log.flush().unwrap();
    bench.append(&log, b"v");
    assert_eq!(flushes(), 1);
}

#[test]
fn retired_segments_are_cut_and_indexed_off_the_appenders_thread() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 40_000;
        let log = bench.new_log();
        for i in 0..1000 {
            bench.append_at(&log, &[b'v'; 50], START_MS + i);
        }
        let count = log.segment_count().unwrap();
        assert!(count > 2);
        let uncut = bench.storage.metadata(log.segments.all()[0].path()).unwrap().len;
        assert!(uncut > log.segments.all()[0].extent().size_bytes);
        bench.run_work();
        assert_eq!(log.env.counters.seals.total() as usize, count - 1);
        let segments: Vec<_> = log.segments.all();
        for segment in &segments[..count - 1] {
            assert_eq!(segment.stage(), Stage::Sealed);
            let extent = segment.extent();
            assert_eq!(bench.storage.metadata(segment.path()).unwrap().len, extent.size_bytes);
            let index = bench.storage.metadata(&segment.path_of(FileKind::OffsetIndex)).unwrap();
            assert!(index.len > 0);
            assert!(segment.indexes().is_none());
            for offset in segment.base_offset..extent.next_offset {
                let place = log.locate(offset).unwrap();
                let bytes = place.view.bytes_from(place.position);
                assert_eq!(RecordBatch::parse(bytes).unwrap().header().base_offset, offset);
            }
        }
        assert_eq!(log.env.counters.index_rebuilds.total(), 0);
        assert_eq!(read_all(&log, 0).len(), 1000);
    });
}

#[test]
fn a_closed_log_opens_as_it_was_and_goes_on_in_its_last_segment() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 20_000;
        let log = bench.new_log();
        for i in 0..300 {
            bench.append_at(&log, &[b'v'; 50], START_MS + i);
        }
        let state = log.close().unwrap();
        assert_eq!((state.log_end_offset, state.recovery_point), (300, 300));
        let record = RecordInput::default();
        assert_eq!(log.append(&record, bench.options()).unwrap_err().kind(), ErrorKind::Closed);
        let (last, before) = state.segments.split_last().unwrap();
        assert!(before.iter().all(|segment| segment.sealed && segment.proofs.index.is_some()));
        assert!(!last.sealed && last.is_resumable() && last.proofs.time_index.unwrap().len > 0);
        for segment in &state.segments {
            let path = bench.identity().dir.join(crate::log::files::names::file_name(
                segment.extent.base_offset,
                FileKind::Log,
            ));
            assert_eq!(bench.storage.metadata(&path).unwrap().len, segment.extent.size_bytes);
        }
        bench.gate.epoch.store(4, Ordering::SeqCst);
        let again = bench.open(state.clone(), Trust::Clean);
        assert_eq!(again.log_end_offset().unwrap(), 300);
        assert_eq!(read_all(&again, 0).len(), 300);
        assert_eq!(again.state().unwrap(), state, "reading changes nothing");
        assert_eq!(bench.append(&again, b"next").base_offset, 300);
        assert_eq!(again.segment_count().unwrap(), state.segments.len());
        let found = read_all(&again, 299);
        assert_eq!(found[1].2, b"next");
        let chunk = again.read(&mut Cursor::new(300), 1, IsolationLevel::ReadUncommitted).unwrap();
        assert_eq!(RecordBatch::parse(chunk.bytes()).unwrap().header().leader_epoch, 4);
        let state = again.close().unwrap();
        let epochs: Vec<_> = state.epochs.iter().map(|e| (e.epoch, e.start_offset)).collect();
        assert_eq!(epochs, [(0, 0), (4, 300)]);
    });
}

#[test]
fn a_log_that_nobody_touched_closes_without_a_write() {
    Bench::both(|bench| {
        let log = bench.new_log();
        assert_eq!(log.close().unwrap(), LogState::default());
        assert!(bench.storage.list(&bench.root).unwrap().is_empty());
    });
}

#[test]
fn a_refused_life_leaves_no_trace() {
    Bench::both(|bench| {
        let log = bench.new_log();
        bench.gate.refuse.store(true, Ordering::SeqCst);
        let record = RecordInput { timestamp: START_MS, ..RecordInput::default() };
        let error = log.append(&record, bench.options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(bench.storage.list(&bench.root).unwrap().is_empty());
        bench.gate.refuse.store(false, Ordering::SeqCst);
        assert_eq!(bench.append(&log, b"v").base_offset, 0);
    });
}
