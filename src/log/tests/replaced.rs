//! Readers of segments in whose place a compaction put others.

use super::*;
use crate::log::files::names::{FileKind, file_name};
use crate::log::segment::extent::SegmentExtent;
use crate::log::segment::state::{SegmentLayout, SegmentState};
use crate::log::segment::{Segment, Stage};
use crate::storage::Fault;
use crate::storage::faults::{Call, Failure, Rule};

const RECORDS: i64 = 40;

/// A log of several segments, the older ones sealed.
fn log_of_segments(bench: &mut Bench) -> Arc<Log> {
    bench.config.segment_bytes = 800;
    let log = bench.new_log();
    for i in 0..RECORDS {
        bench.append_at(&log, format!("value {i}").as_bytes(), START_MS + i);
    }
    bench.run_work();
    assert!(log.segments.len() >= 4, "{} segments", log.segments.len());
    log
}

/// The bytes of these segments without the batches of odd offsets.
fn compacted(bench: &Bench, old: &[Arc<Segment>]) -> Vec<u8> {
    let mut kept = Vec::new();
    for segment in old {
        let bytes = bench.storage.read_file(segment.path(), 1 << 20).unwrap();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let batch = RecordBatch::parse(rest).unwrap();
            if batch.header().base_offset % 2 == 0 {
                kept.extend_from_slice(batch.bytes());
            }
            rest = &rest[batch.bytes().len()..];
        }
    }
    kept
}

/// Puts one compacted segment in the place of the first `count`, as a finished compaction does.
fn replace_first(bench: &Bench, log: &Log, count: usize) -> Arc<Segment> {
    let old = log.segments.all()[..count].to_vec();
    let bytes = compacted(bench, &old);
    let dir = bench.identity().dir;
    let swap = dir.join("new");
    bench.storage.create_cold(&swap).unwrap().write_at(0, &bytes).unwrap();
    let last = old.last().unwrap().extent();
    let state = SegmentState {
        extent: SegmentExtent { base_offset: 0, size_bytes: bytes.len() as u64, ..last },
        layout: SegmentLayout::Sparse,
        sealed: true,
        ..SegmentState::empty(0)
    };
    let path = dir.join(file_name(0, FileKind::Log));
    let new = Arc::new(Segment::found(path.clone(), &state, Stage::Sealed));
    assert!(log.segments.replace(&old, std::slice::from_ref(&new)));
    for segment in &old {
        bench.storage.remove(segment.path()).unwrap();
    }
    bench.storage.rename(&swap, &path).unwrap();
    new
}

fn offsets(log: &Log, cursor: &mut Cursor) -> Vec<i64> {
    let mut found = Vec::new();
    loop {
        let chunk = log.read(cursor, 100, IsolationLevel::ReadUncommitted).unwrap();
        if chunk.is_empty() {
            return found;
        }
        let mut rest = chunk.bytes();
        while !rest.is_empty() {
            let batch = RecordBatch::parse(rest).unwrap();
            found.push(batch.header().base_offset);
            rest = &rest[batch.bytes().len()..];
        }
    }
}

#[test]
fn a_reader_goes_on_in_the_segment_it_has_and_finds_its_place_in_the_new_ones() {
    Bench::both(|bench| {
        let log = log_of_segments(bench);
        let bases: Vec<_> = log.segments.all().iter().map(|s| s.base_offset).collect();
        let (second, fourth) = (bases[1], bases[3]);
        let mut inside = Cursor::new(0);
        log.read(&mut inside, 200, IsolationLevel::ReadUncommitted).unwrap();
        let reached = inside.offset();
        assert!(reached < second);
        replace_first(bench, &log, 3);
        let expected: Vec<_> = (reached..RECORDS)
            .filter(|offset| *offset < second || *offset >= fourth || offset % 2 == 0)
            .collect();
        assert_eq!(offsets(&log, &mut inside), expected, "the old one first, then the new one");
        let expected: Vec<_> = (0..RECORDS).filter(|o| *o >= fourth || o % 2 == 0).collect();
        assert_eq!(offsets(&log, &mut Cursor::new(0)), expected);
        for offset in 0..fourth {
            let found = offsets(&log, &mut Cursor::new(offset));
            let first = offset + offset % 2;
            assert_eq!(found.first(), Some(&first), "from {offset}");
            assert!(found.iter().all(|found| *found >= offset), "from {offset}");
        }
    });
}

#[test]
fn who_looked_the_list_up_before_finds_the_new_segment_and_not_the_old_one_in_its_file() {
    Bench::both(|bench| {
        let log = log_of_segments(bench);
        let old = log.segments.all()[0].clone();
        log.env.mapped.forget(&old);
        old.unmap();
        replace_first(bench, &log, 2);
        let gone = log.view(&old).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::OffsetOutOfRange, "its name is the new one's");
        assert!(log.indexes_of(&old).is_err());
        assert_eq!(log.locate(2).unwrap().view.segment().layout, SegmentLayout::Sparse);
    });
}

#[test]
fn a_search_by_time_finds_what_a_compaction_left() {
    Bench::both(|bench| {
        let log = log_of_segments(bench);
        let third = log.segments.all()[2].base_offset;
        replace_first(bench, &log, 2);
        for offset in 0..third - 1 {
            let found = log.offset_for_time(START_MS + offset, RECORDS).unwrap().unwrap();
            assert_eq!(found.offset, offset + offset % 2, "{offset}");
        }
    });
}

#[test]
fn what_a_crash_left_of_a_compaction_is_recorded_before_its_results_get_their_names() {
    let fault = Fault::new(Arc::new(Heap::new()));
    fault.create_dir(Path::new("/logs")).unwrap();
    let mut bench = Bench::on(Arc::new(fault.clone()), PathBuf::from("/logs"), None);
    let log = log_of_segments(&mut bench);
    log.flush().unwrap();
    let (state, old) = (log.state().unwrap(), log.segments.all()[..2].to_vec());
    let third = log.segments.all()[2].base_offset;
    let bytes = compacted(&bench, &old);
    drop(log);
    let swap = bench.identity().dir.join("00000000000000000000.log.swap");
    bench.storage.create_cold(&swap).unwrap().write_at(0, &bytes).unwrap();

    let log = bench.open(state, Trust::SameBoot);
    let expected: Vec<_> = (0..RECORDS).filter(|o| *o >= third || o % 2 == 0).collect();
    assert_eq!(offsets(&log, &mut Cursor::new(0)), expected);
    let mut held = Cursor::new(0);
    log.read(&mut held, 100, IsolationLevel::ReadUncommitted).unwrap();
    fault.fail(Rule::nth(0, Failure::Io).of(&[Call::Rename]));
    let record = RecordInput { timestamp: START_MS, key: None, value: Some(b"v"), headers: &[] };
    log.append(&record, bench.options()).unwrap_err();
    let (_, recorded) = bench.gate.recorded.lock().pop().unwrap();
    assert_eq!(recorded.segments[0].layout, SegmentLayout::Sparse);
    assert_eq!(recorded.segments[1].extent.base_offset, third);
    assert!(bench.storage.exists(&swap).unwrap());
    assert_eq!(offsets(&log, &mut held.clone()), expected[1..], "{held:?}");

    fault.heal();
    bench.append(&log, b"v");
    assert!(!bench.storage.exists(&swap).unwrap());
    let expected = [expected, vec![RECORDS]].concat();
    assert_eq!(offsets(&log, &mut Cursor::new(0)), expected);
    bench.run_work();
    let state = log.close().unwrap();
    assert!(state.segments[0].sealed && state.segments[0].proofs.index.is_some());
    let log = bench.open(state, Trust::Clean);
    assert_eq!(offsets(&log, &mut Cursor::new(0)), expected);
}
