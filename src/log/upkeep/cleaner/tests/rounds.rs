//! Rounds over logs: what readers see, what the files are, what others may do meanwhile.

use super::super::{CleanedLog, CleanerConfig, CleaningScope};
use crate::config::{IsolationLevel, LogConfig};
use crate::error::{ErrorKind, Result};
use crate::log::read::cursor::Cursor;
use crate::log::segment::state::{SegmentLayout, Trust};
use crate::log::tests::{Bench, read_all};
use crate::log::{AppendOptions, Log};
use crate::record::RecordInput;
use crate::sync::Arc;

pub(super) const CONFIG: CleanerConfig =
    CleanerConfig { dedupe_buffer_bytes: 1 << 20, load_factor: 0.9, io_buffer_bytes: 4096 };

/// A compacted log of small segments.
pub(super) fn compacted(bench: &mut Bench) -> Arc<Log> {
    bench.config = LogConfig {
        cleanup_compact: true,
        cleanup_delete: false,
        segment_bytes: 400,
        ..LogConfig::default()
    };
    bench.new_log()
}

pub(super) fn put(bench: &Bench, log: &Log, key: &str, value: Option<&str>) -> i64 {
    let record = RecordInput {
        timestamp: bench.now_ms(),
        key: Some(key.as_bytes()),
        value: value.map(str::as_bytes),
        headers: &[],
    };
    log.append(&record, AppendOptions::client(bench.now_ms())).unwrap().base_offset
}

/// One whole round.
pub(super) fn round(
    log: &Arc<Log>,
    checkpoint: Option<i64>,
    now_ms: i64,
    config: CleanerConfig,
) -> Result<Option<CleanedLog>> {
    let how = (CleaningScope::Settings, now_ms);
    let Some(mut cleaning) = log.begin_cleaning(checkpoint, how, config)? else {
        return Ok(None);
    };
    let mut cleaned = None;
    while !cleaning.is_over() {
        cleaned = cleaning.advance(512).1?;
    }
    Ok(cleaned)
}

pub(super) fn values(log: &Log, from: i64) -> Vec<(i64, String)> {
    let text = |(offset, _, value): (i64, i64, Vec<u8>)| {
        (offset, String::from_utf8_lossy(&value).into_owned())
    };
    read_all(log, from).into_iter().map(text).collect()
}

/// Fifty records of five keys; the last one of each is in the active segment or shortly before.
fn filled(bench: &mut Bench) -> Arc<Log> {
    let log = compacted(bench);
    for n in 0..50 {
        put(bench, &log, &format!("k{}", n % 5), Some(&format!("v{n}")));
    }
    bench.run_work();
    log
}

#[test]
fn a_round_leaves_the_latest_records_and_fewer_segments() {
    Bench::both(|bench| {
        let log = filled(bench);
        let before = log.segment_count().unwrap();
        let active = log.segments.last().unwrap().base_offset;
        let cleaned = round(&log, None, bench.now_ms(), CONFIG).unwrap().unwrap();
        assert_eq!(cleaned.end_offset, active);
        assert!(!cleaned.is_partial && cleaned.bytes_after < cleaned.bytes_before);
        let after = log.segment_count().unwrap();
        assert!(after < before / 2, "what is left of them fits into few: {after} of {before}");
        let left = values(&log, 0);
        let offsets: Vec<i64> = left.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, (active - 5..50).collect::<Vec<_>>());
        assert_eq!(left[0].1, format!("v{}", active - 5));
        assert_eq!((log.log_start_offset().unwrap(), log.log_end_offset().unwrap()), (0, 50));
        let names = bench.names();
        assert!(names.iter().all(|n| !n.contains(".swap") && !n.contains(".cleaned")), "{names:?}");
        assert!(names.contains(&"00000000000000000000.log".to_owned()));
        // Again, and nothing is left to do but to copy.
        let again = round(&log, Some(active), bench.now_ms(), CONFIG).unwrap().unwrap();
        assert_eq!(again.bytes_before, again.bytes_after);
        assert!(log.segment_count().unwrap() <= after);
        assert_eq!(values(&log, 0), left);
        // The log takes appends, and is the same after a clean stop.
        put(bench, &log, "k0", Some("new"));
        let state = log.close().unwrap();
        assert!(state.segments.iter().any(|s| s.layout == SegmentLayout::Sparse && s.sealed));
        let log = bench.open(state, Trust::Clean);
        assert_eq!(values(&log, 0).len(), left.len() + 1);
        assert_eq!(log.opening().0, []);
    });
}

#[test]
fn readers_in_flight_keep_their_segments_and_go_on_behind_them() {
    Bench::both(|bench| {
        let log = filled(bench);
        let mut cursor = Cursor::new(0);
        let first = log.read(&mut cursor, 1, IsolationLevel::ReadUncommitted).unwrap();
        assert_eq!(first.upto(), 1);
        round(&log, None, bench.now_ms(), CONFIG).unwrap().unwrap();
        let mut seen = Vec::new();
        loop {
            let chunk = log.read(&mut cursor, 100, IsolationLevel::ReadUncommitted).unwrap();
            if chunk.is_empty() {
                break;
            }
            seen.push(chunk.upto());
        }
        assert_eq!(seen.last(), Some(&50));
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
        assert!(seen.starts_with(&[2, 3]), "the segment that it was in is read to its end");
        let late = log.offset_for_time(bench.now_ms(), 50).unwrap();
        assert_eq!(late.map(|found| found.offset), Some(values(&log, 0)[0].0));
    });
}

#[test]
fn old_segments_go_with_the_last_bytes_that_are_held_of_them() {
    Bench::both(|bench| {
        let log = filled(bench);
        let mut old: Vec<_> = log.segments.all().iter().map(Arc::downgrade).collect();
        old.pop();
        let held = || old.iter().filter(|segment| segment.upgrade().is_some()).count();
        let mut cursor = Cursor::new(0);
        let chunk = log.read(&mut cursor, 1, IsolationLevel::ReadUncommitted).unwrap();
        let bytes = chunk.bytes().to_vec();
        round(&log, None, bench.now_ms(), CONFIG).unwrap().unwrap();
        assert_eq!(held(), 1, "of {}", old.len());
        assert_eq!(chunk.bytes(), bytes);
        drop(chunk);
        while !log.read(&mut cursor, 400, IsolationLevel::ReadUncommitted).unwrap().is_empty() {}
        assert_eq!(held(), 0);
    });
}

#[test]
fn what_an_open_transaction_or_a_young_segment_holds_back_is_not_cleaned() {
    let mut bench = Bench::heap();
    let log = filled(&mut bench);
    let lag = LogConfig { min_compaction_lag_ms: 1000, ..bench.config.clone() };
    log.apply_config(lag);
    assert!(round(&log, None, bench.now_ms() + 1000, CONFIG).unwrap().is_some());
    let young = filled(&mut Bench::heap());
    young.apply_config(LogConfig { min_compaction_lag_ms: 1000, ..bench.config.clone() });
    assert_eq!(round(&young, None, bench.now_ms() + 999, CONFIG).unwrap(), None);
}

#[test]
pub(super) fn keys_that_do_not_fit_are_cleaned_in_rounds() {
    let mut bench = Bench::heap();
    let log = compacted(&mut bench);
    for n in 0..300 {
        put(&bench, &log, &format!("key{}", n % 100), Some("v"));
    }
    bench.run_work();
    let small = CleanerConfig { dedupe_buffer_bytes: 24 * 20, ..CONFIG };
    let (mut checkpoint, mut rounds) = (None, 0);
    loop {
        let cleaned = round(&log, checkpoint, bench.now_ms(), small).unwrap().unwrap();
        assert!(checkpoint.is_none_or(|before| cleaned.end_offset > before));
        checkpoint = Some(cleaned.end_offset);
        rounds += 1;
        if !cleaned.is_partial {
            break;
        }
    }
    assert!(rounds > 10, "{rounds}");
    let left = values(&log, 0);
    assert!(left.len() <= 110, "{}: one of each key, and the active segment", left.len());
    let newest: Vec<i64> = left.iter().map(|(offset, _)| *offset).rev().take(100).collect();
    assert_eq!(newest, (200..300).rev().collect::<Vec<_>>());
}

#[test]
fn a_damaged_log_is_not_cleaned_and_says_so() {
    let mut bench = Bench::heap();
    let log = filled(&mut bench);
    let path = log.segments.nth(1).unwrap().path().to_path_buf();
    let mut bytes = bench.storage.read_file(&path, 1 << 20).unwrap();
    let at = bytes.len() - 3;
    bytes[at] ^= 4;
    let file = bench.storage.create_cold(&path).unwrap();
    file.write_at(0, &bytes).unwrap();
    let before = values_sizes(&log);
    let error = round(&log, None, bench.now_ms(), CONFIG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptRecord);
    assert_eq!(error.path(), Some(&*path));
    assert_eq!(values_sizes(&log), before, "nothing is changed");
    assert!(bench.names().iter().all(|name| !name.ends_with(".cleaned")));
}

fn values_sizes(log: &Log) -> Vec<(i64, u64)> {
    log.segments.all().iter().map(|s| (s.base_offset, s.extent().size_bytes)).collect()
}

#[test]
fn a_round_whose_segments_retention_took_ends_without_a_change() {
    let mut bench = Bench::heap();
    let log = filled(&mut bench);
    let how = (CleaningScope::Settings, bench.now_ms());
    let mut cleaning = log.begin_cleaning(None, how, CONFIG).unwrap().unwrap();
    cleaning.advance(1).1.unwrap();
    log.delete_records(20).unwrap();
    log.retention_step(bench.clock.now()).unwrap();
    let after = values(&log, 20);
    while !cleaning.is_over() {
        assert_eq!(cleaning.advance(1 << 20).1.unwrap(), None);
    }
    assert_eq!(values(&log, 20), after);
    assert!(bench.names().iter().all(|name| !name.ends_with(".cleaned")));
    assert_eq!(log.log_start_offset().unwrap(), 20);
}

#[test]
fn a_log_that_was_never_written_has_nothing_to_clean() {
    let mut bench = Bench::heap();
    let log = compacted(&mut bench);
    assert_eq!(round(&log, None, bench.now_ms(), CONFIG).unwrap(), None);
    put(&bench, &log, "a", Some("1"));
    assert_eq!(round(&log, None, bench.now_ms(), CONFIG).unwrap(), None, "the active one stays");
}

#[test]
fn a_segment_of_which_nothing_is_left_is_one_with_the_next_and_is_passed_over() {
    Bench::both(|bench| {
        let log = compacted(bench);
        // One segment of a key that later ones hide, between others.
        put(bench, &log, "first", Some(&"v".repeat(300)));
        put(bench, &log, "hidden", Some(&"v".repeat(300)));
        put(bench, &log, "hidden", Some(&"w".repeat(300)));
        put(bench, &log, "last", Some(&"v".repeat(300)));
        put(bench, &log, "active", Some("v"));
        bench.run_work();
        let done = round(&log, None, bench.now_ms(), CONFIG).unwrap().unwrap();
        let bases: Vec<i64> = values_sizes(&log).iter().map(|row| row.0).collect();
        assert_eq!(bases, [0, 1, 3, 4]);
        let offsets = |log: &Log, from| -> Vec<i64> {
            values(log, from).into_iter().map(|(offset, _)| offset).collect()
        };
        assert_eq!(offsets(&log, 0), [0, 2, 3, 4]);
        assert_eq!(offsets(&log, 1), [2, 3, 4], "a read that begins in it");
        round(&log, Some(done.end_offset), bench.now_ms(), CONFIG).unwrap();
        let state = log.close().unwrap();
        let log = bench.open(state, Trust::Clean);
        assert_eq!((offsets(&log, 0), log.opening().0), (vec![0, 2, 3, 4], vec![]));
    });
}
