//! A compacted log under kills and power cuts at every step of cleaning, swapping and deleting.
//!
//! Fault: the process dies, or the power goes, between any two changes of the disk while records
//! are appended, flushed, cleaned and swapped in. What must hold: the log that opens is no
//! stranger's and takes appends; each offset says what was written there; of each key the latest
//! record below the end is there, tombstones included, for no horizon is over; nothing of an
//! unfinished swap is left by the next change; and a cleaning goes on from there to one record
//! of each key. The same once more where recovery itself is cut.

use super::rounds::{CONFIG, put, round};
use crate::config::LogConfig;
use crate::log::segment::state::{LogState, Trust};
use crate::log::tests::{Bench, cuts, read_all};
use crate::log::{CleanerConfig, EpochGate, Log};
use crate::storage::sim::{Entries, Pages, PowerCut, Random, Sim};
use crate::sync::{Arc, Ordering};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What was promised, and when, in steps of the disk.
#[derive(Default)]
pub(super) struct Promises {
    /// Key and value of each record, and the step at which its append had returned.
    written: Vec<(u64, String, Option<String>)>,
    durable: Vec<(u64, i64)>,
    states: Vec<(u64, LogState)>,
}

impl Promises {
    fn state_at(&self, step: u64) -> LogState {
        let known = self.states.iter().filter(|row| row.0 <= step);
        known.max_by_key(|row| row.0).map(|row| row.1.clone()).unwrap_or_default()
    }

    fn durable_at(&self, step: u64) -> i64 {
        self.durable.iter().filter(|row| row.0 <= step).map(|row| row.1).max().unwrap_or(0)
    }

    fn written_at(&self, step: u64) -> i64 {
        self.written.iter().take_while(|row| row.0 <= step).count() as i64
    }
}

fn bench_on(sim: &Sim, epoch: i64) -> Bench {
    let mut bench = Bench::on(Arc::new(sim.clone()), PathBuf::from("/logs"), None);
    bench.config = LogConfig {
        cleanup_compact: true,
        cleanup_delete: false,
        segment_bytes: 500,
        index_interval_bytes: 150,
        ..LogConfig::default()
    };
    bench.gate.epoch.store(epoch, Ordering::SeqCst);
    assert!(bench.gate.disk.set(sim.clone()).is_ok());
    bench
}

/// Runs a random life on `sim` and notes what was promised.
fn live(sim: &Sim, seed: u64) -> Promises {
    let mut random = Random::new(seed);
    let bench = bench_on(sim, 0);
    let log = bench.new_log();
    let mut promises = Promises::default();
    let mut checkpoint = None;
    let note = |promises: &mut Promises, log: &Log| {
        for (step, state) in std::mem::take(&mut *bench.gate.recorded.lock()) {
            promises.durable.push((step, state.recovery_point));
            promises.states.push((step, state));
        }
        promises.durable.push((sim.steps(), log.recovery_point().unwrap()));
        promises.states.push((sim.steps(), log.state().unwrap()));
    };
    for turn in 0..26 {
        for _ in 0..1 + random.below(4) {
            let key = format!("key {}", random.below(5));
            let number = promises.written.len();
            let value = (random.below(4) > 0)
                .then(|| format!("{number:04}{}", ".".repeat(random.below(60) as usize)));
            assert_eq!(put(&bench, &log, &key, value.as_deref()), number as i64);
            promises.written.push((sim.steps(), key, value));
        }
        match random.below(4) {
            0 => {
                log.flush().unwrap();
                note(&mut promises, &log);
            }
            1 => while log.seal_step().unwrap() {},
            _ => {}
        }
        if turn % 6 == 5 {
            let small = random.coin();
            let bytes = if small { 24 * 4 } else { 1 << 16 };
            let config = CleanerConfig { dedupe_buffer_bytes: bytes, ..CONFIG };
            if let Some(done) = round(&log, checkpoint, bench.now_ms(), config).unwrap() {
                checkpoint = Some(done.end_offset);
            }
            note(&mut promises, &log);
        }
    }
    if random.coin() {
        let state = log.close().unwrap();
        promises.durable.push((sim.steps(), state.recovery_point));
        promises.states.push((sim.steps(), state));
    }
    promises
}

/// Key and value by offset.
type Written = Vec<(String, Option<String>)>;

/// Holds what the log has against what was written.
fn hold(log: &Log, written: &Written, what: &str) {
    let end = usize::try_from(log.log_end_offset().unwrap()).unwrap();
    let mut latest: BTreeMap<&str, i64> = BTreeMap::new();
    for (offset, (key, _)) in written.iter().take(end).enumerate() {
        latest.insert(key, offset as i64);
    }
    let found = read_all(log, 0);
    for (offset, _, value) in &found {
        let (_, expected) = &written[*offset as usize];
        assert_eq!(value, expected.as_deref().unwrap_or("").as_bytes(), "{what}: {offset}");
    }
    let offsets: Vec<i64> = found.iter().map(|row| row.0).collect();
    assert!(offsets.is_sorted_by(|a, b| a < b), "{what}: {offsets:?}");
    for (key, offset) in latest {
        assert!(offsets.contains(&offset), "{what}: the latest record of {key}, {offset}, is gone");
    }
}

/// The files of batches, if there is a folder.
fn log_names(bench: &Bench) -> Vec<String> {
    let entries = bench.storage.list(&bench.identity().dir).unwrap_or_default();
    let names = entries.into_iter().map(|entry| entry.name);
    names.filter(|name| name.contains(".log")).collect()
}

fn check(after: &Sim, promises: &Promises, step: u64, trust: Trust, what: &str) {
    let bench = bench_on(after, 1);
    let state = promises.state_at(step);
    let rows: Vec<_> =
        state.segments.iter().map(|s| (s.extent.base_offset, s.extent.next_offset)).collect();
    let what = format!("{what}, recorded {rows:?}, found {:?}", log_names(&bench));
    let what = what.as_str();
    let log = bench.open(state, trust);
    let end = log.log_end_offset().unwrap();
    let (findings, report) = log.opening();
    assert!(log.refusal().is_none() && !report.foreign, "{what}: {findings:?}");
    let least = match trust {
        Trust::SameBoot => promises.written_at(step),
        _ => promises.durable_at(step),
    };
    let most = promises.written_at(step) + 1;
    assert!((least..=most).contains(&end), "{what}: ends at {end}, not in {least}..={most}");
    let mut written: Written =
        promises.written.iter().map(|row| (row.1.clone(), row.2.clone())).collect();
    hold(&log, &written, what);
    written.truncate(end as usize);
    for number in 0..2 {
        assert_eq!(put(&bench, &log, "key 0", Some("of the next life")), end + number, "{what}");
        written.push(("key 0".to_owned(), Some("of the next life".to_owned())));
    }
    let names = bench.names();
    let left = |name: &String| name.contains(".swap") || name.contains(".cleaned");
    assert!(!names.iter().any(left), "{what}: {names:?}");
    log.flush().unwrap();
    bench.gate.record(&log).unwrap();
    round(&log, None, bench.now_ms(), CONFIG).unwrap();
    hold(&log, &written, what);
    let recorded = bench.gate.recorded.lock().last().unwrap().1.clone();
    for (pages, entries) in [(Pages::None, Entries::None), (Pages::Versions, Entries::Subset)] {
        let later = after.power_cut(&PowerCut::new(step, pages, entries));
        let bench = bench_on(&later, 2);
        let log = bench.open(recorded.clone(), Trust::OtherBoot);
        assert_eq!(log.log_end_offset().unwrap(), end + 2, "{what}, cut once more");
        assert!(!log.opening().1.foreign, "{what}, cut once more: {:?}", log.opening().0);
        hold(&log, &written, &format!("{what}, cut once more"));
    }
}

pub(super) fn crash_everywhere(seeds: std::ops::Range<u64>) -> usize {
    cuts::crash_everywhere(seeds, 1, live, check)
}

#[test]
fn a_compacted_log_keeps_the_latest_record_of_each_key_wherever_it_crashes() {
    let checked = crash_everywhere(0..2);
    assert!(checked > 500, "{checked} crashes");
}

#[test]
#[ignore = "the same with more seeds: minutes"]
fn a_compacted_log_keeps_its_latest_records_wherever_it_crashes_at_length() {
    crash_everywhere(2..40);
}
