//! Appending and reading: offsets, validation, rolls, wake-ups.

use super::*;
use crate::record::{BatchBuilder, Codec, Stamp, TimestampType};

#[test]
fn nothing_is_touched_before_the_first_append() {
    Bench::both(|bench| {
        let log = bench.new_log();
        assert_eq!(log.log_end_offset().unwrap(), 0);
        assert!(read_all(&log, 0).is_empty());
        assert!(bench.storage.list(&bench.root).unwrap().is_empty());
        assert_eq!(bench.gate.entered.load(Ordering::SeqCst), 0);
        bench.append(&log, b"one");
        assert_eq!(bench.gate.entered.load(Ordering::SeqCst), 1);
        assert_eq!(
            bench.names(),
            ["00000000000000000000.log", "leader-epoch-checkpoint", "partition.metadata"]
        );
    });
}

#[test]
fn records_come_back_in_order_with_dense_offsets() {
    Bench::both(|bench| {
        let log = bench.new_log();
        for i in 0..1000_i64 {
            let value = vec![b'v'; (i % 50) as usize];
            let appended = bench.append_at(&log, &value, START_MS + i);
            assert_eq!((appended.base_offset, appended.last_offset), (i, i));
            assert_eq!(appended.timestamp, START_MS + i);
            assert!(!appended.must_sync);
        }
        assert_eq!(log.log_end_offset().unwrap(), 1000);
        for from in [0, 1, 500, 999] {
            let found = read_all(&log, from);
            assert_eq!(found.len() as i64, 1000 - from);
            for (i, (offset, timestamp, value)) in (from..).zip(found) {
                assert_eq!((offset, timestamp), (i, START_MS + i));
                assert_eq!(value.len() as i64, i % 50);
            }
        }
    });
}

#[test]
fn segments_roll_by_size_and_none_exceeds_its_size() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 4000;
        let log = bench.new_log();
        for i in 0..200 {
            bench.append(&log, format!("{i:0100}").as_bytes());
        }
        assert!(log.segment_count().unwrap() > 8);
        let found = read_all(&log, 0);
        assert_eq!(found.len(), 200);
        for segment in log.segments.read().iter() {
            let size = log.last_extent().of(segment).size_bytes;
            assert!(size <= 4000 && size > 3500 || segment.stage() == segment::Stage::Active);
        }
        let batch = log.read(&mut Cursor::new(150), 1, IsolationLevel::ReadUncommitted).unwrap();
        assert_eq!(RecordBatch::parse(batch.bytes()).unwrap().header().base_offset, 150);
    });
}
