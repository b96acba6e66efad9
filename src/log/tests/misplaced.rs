//! Batches that are not at their own place, which no checksum tells, and files that contradict
//! what is recorded of them.

use super::*;
use crate::log::files::names::{FileKind, file_name};
use crate::log::finding::FindingKind;
use crate::log::segment::state::SegmentLayout;

const BATCHES: i64 = 12;

/// A closed log of batches of one size, and that size.
fn closed(bench: &mut Bench) -> (LogState, u64) {
    bench.config.index_interval_bytes = 300;
    let log = bench.new_log();
    for _ in 0..BATCHES {
        bench.append(&log, &[b'v'; 50]);
    }
    let state = log.close().unwrap();
    let size = state.segments[0].extent.size_bytes / BATCHES as u64;
    (state, size)
}

fn log_file(bench: &Bench, base_offset: i64) -> Arc<dyn crate::storage::File> {
    let path = bench.identity().dir.join(file_name(base_offset, FileKind::Log));
    bench.storage.open_cold(&path).unwrap()
}

fn first_at(log: &Log, offset: i64) -> Result<i64> {
    let chunk = log.read(&mut Cursor::new(offset), 1, IsolationLevel::ReadUncommitted)?;
    Ok(RecordBatch::parse(chunk.bytes()).unwrap().header().base_offset)
}

/// Gives each of the first batches each of some other base offsets: all others are read, it is
/// damage, and no cursor gets past it.
fn another_base_is_damage_at_its_own_offset_alone(
    bench: &Bench,
    (state, size): (LogState, u64),
    damaged: std::ops::Range<i64>,
    told: impl Fn(&Error, i64, u64, &str),
) {
    let file = log_file(bench, 0);
    for damaged in damaged {
        let at = damaged as u64 * size;
        for wrong in [0, damaged - 1, damaged + 1, damaged + 3, 40, i64::MAX - 1, -9] {
            if wrong == damaged {
                continue;
            }
            file.write_at(at, &wrong.to_be_bytes()).unwrap();
            let log = bench.open(state.clone(), Trust::Clean);
            for offset in 0..BATCHES {
                let what = format!("batch {damaged} says {wrong}, read at {offset}");
                match first_at(&log, offset) {
                    Ok(found) => assert!(found == offset && offset != damaged, "{what}: {found}"),
                    Err(error) => {
                        assert_eq!(offset, damaged, "{what}: {error}");
                        assert_eq!(error.kind(), ErrorKind::CorruptRecord, "{what}");
                        told(&error, damaged, at, &what);
                    }
                }
            }
            let mut cursor = Cursor::new(0);
            while cursor.offset() < damaged {
                log.read(&mut cursor, 1 << 16, IsolationLevel::ReadUncommitted).unwrap();
            }
            assert_eq!(cursor.offset(), damaged, "all before it is read, and nothing behind it");
        }
        file.write_at(at, &damaged.to_be_bytes()).unwrap();
    }
    assert_eq!(read_all(&bench.open(state, Trust::Clean), 0).len() as i64, BATCHES);
}

#[test]
fn a_batch_with_another_base_offset_is_damage_at_its_own_offset_alone() {
    let bench = &mut Bench::heap();
    let written = closed(bench);
    // The last one is known by what is recorded of it.
    let damaged = 0..BATCHES - 1;
    another_base_is_damage_at_its_own_offset_alone(
        bench,
        written,
        damaged,
        |error, due, at, what| {
            assert_eq!(error.position(), Some(at), "{what}");
            assert_eq!(error.offset(), Some(due), "{what}");
        },
    );
}

/// Where some may be missing, only what lies around a batch tells that it is not at its own place.
#[test]
fn a_batch_that_overlaps_others_is_damage_where_offsets_may_be_missing() {
    let bench = &mut Bench::heap();
    let (mut state, size) = closed(bench);
    for segment in &mut state.segments {
        segment.layout = SegmentLayout::Sparse;
        segment.sealed = true;
    }
    let damaged = 0..BATCHES;
    another_base_is_damage_at_its_own_offset_alone(bench, (state, size), damaged, |_, _, _, _| {});
}

/// A batch of several records that is moved back by one would hold the reader's offset too.
#[test]
fn a_batch_that_overlaps_the_one_before_is_not_read() {
    let bench = &mut Bench::heap();
    let log = bench.new_log();
    for base in [0, 3] {
        let record = |_| RecordInput { timestamp: 5, key: None, value: Some(b"v"), headers: &[] };
        let records: Vec<_> = (0..3).map(record).collect();
        let options = bench.options();
        let appended = log.append_records(&records, crate::record::Codec::None, None, options);
        assert_eq!(appended.unwrap().base_offset, base);
    }
    let state = log.close().unwrap();
    let at = state.segments[0].extent.size_bytes / 2;
    log_file(bench, 0).write_at(at, &2_i64.to_be_bytes()).unwrap();
    // So that it is not the last recorded batch that tells.
    let state = LogState { last_batch: None, ..state };
    let log = bench.open(state, Trust::Clean);
    let mut cursor = Cursor::new(0);
    let isolation = IsolationLevel::ReadUncommitted;
    assert_eq!(log.read(&mut cursor, 1, isolation).unwrap().upto(), 3);
    let error = log.read(&mut cursor, 1, isolation).unwrap_err();
    assert_eq!((error.kind(), error.position()), (ErrorKind::CorruptRecord, Some(at)));
}

/// Where what was proven ends, the batch behind it is checked against the ones before, though a
/// reader got there without a walk.
#[test]
fn a_batch_behind_a_window_is_held_against_its_end() {
    let bench = &mut Bench::heap();
    let log = bench.new_log();
    for _ in 0..3 {
        let record = RecordInput { timestamp: 5, key: None, value: Some(b"v"), headers: &[] };
        let codec = crate::record::Codec::None;
        log.append_records(&[record; 3], codec, None, bench.options()).unwrap();
    }
    let state = log.close().unwrap();
    let at = state.segments[0].extent.size_bytes / 3 * 2;
    // Moved back by one: it would hold the reader's offset.
    log_file(bench, 0).write_at(at, &5_i64.to_be_bytes()).unwrap();
    let log = bench.open(LogState { last_batch: None, ..state }, Trust::Clean);
    let isolation = IsolationLevel::ReadUncommitted;
    let (mut first, mut second) = (Cursor::new(0), Cursor::new(0));
    for next_offset in [3, 6] {
        assert_eq!(log.read(&mut first, 1, isolation).unwrap().upto(), next_offset);
    }
    assert_eq!(log.read(&mut second, 1, isolation).unwrap().upto(), 3);
    let chunk = log.fetch(&mut second, isolation, FetchLimits::bytes(1 << 20)).unwrap();
    assert!(!chunk.is_walked());
    let bytes = chunk.bytes().len();
    assert_eq!(bytes as u64, at / 2, "one batch is proven there");
    second.advance(bytes, 6, true);
    let error = log.read(&mut second, 1, isolation).unwrap_err();
    assert_eq!((error.kind(), error.position()), (ErrorKind::CorruptRecord, Some(at)));
}

/// The last batch is looked at by the opening: the log is taken for another program's then, whose
/// offsets may leave some out.
#[test]
fn the_last_batch_with_another_base_offset_is_damage_too() {
    let bench = &mut Bench::heap();
    let (state, size) = closed(bench);
    let file = log_file(bench, 0);
    let last = BATCHES - 1;
    for wrong in [0, last - 1, last + 1, last + 128, 1 << 30, i64::MAX - 1, -9] {
        file.write_at(last as u64 * size, &wrong.to_be_bytes()).unwrap();
        for trust in [Trust::Clean, Trust::SameBoot] {
            let log = bench.open(state.clone(), trust);
            assert_eq!(first_at(&log, last - 1).unwrap(), last - 1);
            let error = first_at(&log, last).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CorruptRecord, "{trust:?}, {wrong}: {error}");
            assert_eq!(log.log_end_offset().unwrap(), last, "{trust:?}, {wrong}");
        }
    }
}

#[test]
fn the_first_read_of_a_contradicted_log_tells_its_damage() {
    let bench = &mut Bench::heap();
    let (state, size) = closed(bench);
    let file = log_file(bench, 0);
    file.write_at(0, &vec![0; size as usize]).unwrap();
    file.write_at(state.segments[0].extent.size_bytes, &[0; 100]).unwrap();
    let log = bench.open(state, Trust::Clean);
    assert_eq!(log.log_end_offset().unwrap(), BATCHES, "as it is recorded");
    let error = first_at(&log, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptRecord);
    assert_eq!(log.log_end_offset().unwrap(), 0, "as it is found");
}

#[test]
fn a_sealed_file_that_has_grown_contradicts_the_state() {
    for trust in [Trust::Clean, Trust::SameBoot, Trust::OtherBoot] {
        let bench = &mut Bench::heap();
        bench.config.segment_bytes = 400;
        let log = bench.new_log();
        for _ in 0..BATCHES {
            bench.append(&log, &[b'v'; 50]);
        }
        bench.run_work();
        log.flush().unwrap();
        let state = log.state().unwrap();
        assert!(state.segments[0].sealed);
        let len = state.segments[0].extent.size_bytes;
        log_file(bench, 0).write_at(len, &[7; 30]).unwrap();
        let log = bench.open(state, trust);
        assert_eq!(first_at(&log, 0).unwrap(), 0);
        let kinds: Vec<_> = log.opening().0.iter().map(|finding| finding.kind).collect();
        assert!(kinds.contains(&FindingKind::StateContradicted), "{trust:?}: {kinds:?}");
        let first = log.segments.all()[0].extent();
        assert_eq!(first.size_bytes, len, "{trust:?}: the garbage is none of it");
        assert_eq!(log.log_end_offset().unwrap(), first.next_offset, "{trust:?}");
    }
}
