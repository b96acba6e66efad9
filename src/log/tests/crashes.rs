//! A log under kills and power cuts at every step of its life.
//!
//! Fault: the process dies, or the power goes, between any two changes of the disk while records
//! are appended, flushed, sealed, trimmed and deleted. What must hold: the log that opens is a
//! prefix of what was appended, with everything whose durability was acknowledged (after a kill:
//! everything whose append returned); what was lost never comes back behind new records; and the
//! next life's records survive in their turn.

use super::*;
use crate::storage::sim::{Entries, Pages, PowerCut, Random, Sim};
use crate::time::Now;

/// What was acknowledged, and when, in steps of the disk.
#[derive(Default)]
struct Acks {
    /// Each record's value, and the step at which its append had returned.
    appended: Vec<(u64, Vec<u8>)>,
    /// Steps from which on everything below an offset is durable.
    durable: Vec<(u64, i64)>,
    /// Steps from which on the log start may have moved there.
    starts: Vec<(u64, i64)>,
    /// States that were written to the state file.
    states: Vec<(u64, LogState)>,
}

impl Acks {
    fn at<T: Clone + Default>(rows: &[(u64, T)], step: u64) -> T {
        rows.iter().rev().find(|row| row.0 <= step).map(|row| row.1.clone()).unwrap_or_default()
    }

    fn appended_at(&self, step: u64) -> i64 {
        self.appended.iter().take_while(|row| row.0 <= step).count() as i64
    }
}

fn bench_on(sim: &Sim, epoch: i64) -> Bench {
    let mut bench = Bench::on(Arc::new(sim.clone()), PathBuf::from("/logs"), None);
    bench.config.segment_bytes = 1500;
    bench.config.retention_ms = 1_000_000_000;
    bench.config.index_interval_bytes = 200;
    bench.gate.epoch.store(epoch, Ordering::SeqCst);
    assert!(bench.gate.disk.set(sim.clone()).is_ok());
    bench
}

fn value(random: &mut Random, number: usize) -> Vec<u8> {
    let mut value = format!("{number:05}").into_bytes();
    value.resize(5 + random.below(120) as usize, b'.');
    value
}

/// Runs a random life on `sim` and notes what was promised.
fn live(sim: &Sim, seed: u64) -> Acks {
    let mut random = Random::new(seed);
    let bench = bench_on(sim, 0);
    let log = bench.new_log();
    let mut acks = Acks::default();
    let record = |acks: &mut Acks, log: &Log| {
        let state = log.state().unwrap();
        acks.durable.push((sim.steps(), log.recovery_point().unwrap()));
        acks.states.push((sim.steps(), state));
    };
    for _ in 0..50 {
        match random.below(20) {
            0..=9 => {
                for _ in 0..1 + random.below(4) {
                    let value = value(&mut random, acks.appended.len());
                    bench.append(&log, &value);
                    acks.appended.push((sim.steps(), value));
                }
            }
            10..=12 => {
                log.flush().unwrap();
                record(&mut acks, &log);
            }
            13 => {
                log.make_durable(log.log_end_offset().unwrap()).unwrap();
                let end = log.log_end_offset().unwrap();
                acks.durable.push((sim.steps(), end));
            }
            14 | 15 => drop(log.prepare_step().unwrap()),
            16 | 17 => drop(log.seal_step().unwrap()),
            18 => {
                let end = log.log_end_offset().unwrap();
                let start = log.log_start_offset().unwrap();
                let before = start + random.below((end - start) as u64 + 1) as i64;
                acks.starts.push((sim.steps(), before));
                log.delete_records(before).unwrap();
                record(&mut acks, &log);
            }
            _ => {
                // Behind everything that was appended, now and then.
                let ms = if random.below(3) == 0 { 2_000_000_000 } else { 0 };
                acks.starts.push((sim.steps(), log.log_end_offset().unwrap()));
                let now = Now { wall_ms: START_MS + ms, ..Now::default() };
                log.retention_step(now).unwrap();
                for (step, state) in std::mem::take(&mut *bench.gate.recorded.lock()) {
                    acks.durable.push((step, state.recovery_point));
                    acks.states.push((step, state));
                }
                record(&mut acks, &log);
            }
        }
    }
    if random.coin() {
        let state = log.close().unwrap();
        acks.durable.push((sim.steps(), state.recovery_point));
        acks.states.push((sim.steps(), state));
    }
    acks
}

/// Opens what a crash left, checks it, goes on, and checks that too.
fn check(after: &Sim, acks: &Acks, step: u64, trust: Trust, what: &str) {
    let bench = bench_on(after, 1);
    let state = Acks::at(&acks.states, step);
    let log = bench.open(state, trust);
    let (start, end) = (log.log_start_offset().unwrap(), log.log_end_offset().unwrap());
    let (findings, report) = log.opening();
    assert!(log.refusal().is_none() && !report.foreign, "{what}: {findings:?}");
    let durable = match trust {
        Trust::SameBoot => acks.appended_at(step),
        _ => Acks::at(&acks.durable, step),
    };
    // The append that was under way may be there or not.
    let most = acks.appended_at(step) + 1;
    assert!((durable..=most).contains(&end), "{what}: ends at {end}, not in {durable}..={most}");
    let moved = acks.starts.iter().filter(|row| row.0 <= step).map(|row| row.1).max();
    assert!(start <= moved.unwrap_or(0), "{what}: starts at {start}, not {moved:?}");
    let mut expected: Vec<(i64, Vec<u8>)> =
        (start..end).map(|offset| (offset, acks.appended[offset as usize].1.clone())).collect();
    let values = |log: &Log, from: i64| -> Vec<(i64, Vec<u8>)> {
        read_all(log, from).into_iter().map(|(offset, _, value)| (offset, value)).collect()
    };
    assert_eq!(values(&log, start), expected, "{what}");
    for number in 0..3 {
        let value = format!("of the next life {number}").into_bytes();
        assert_eq!(bench.append(&log, &value).base_offset, end + number, "{what}");
        expected.push((end + number, value));
    }
    let synced = log.flush().and_then(|()| log.state());
    let state = synced.unwrap();
    // Nothing of the lost records may come back once the power goes again.
    for (pages, entries) in [(Pages::None, Entries::None), (Pages::Versions, Entries::Subset)] {
        let later = after.power_cut(&PowerCut::new(step, pages, entries));
        let bench = bench_on(&later, 2);
        let log = bench.open(state.clone(), Trust::OtherBoot);
        assert_eq!(values(&log, start), expected, "{what}, and cut once more");
    }
}

fn crash_everywhere(seeds: std::ops::Range<u64>) -> usize {
    cuts::crash_everywhere(seeds, 2, live, check)
}

#[test]
fn a_log_is_a_prefix_with_all_that_was_promised_wherever_it_crashes() {
    let checked = crash_everywhere(0..3);
    assert!(checked > 1500, "{checked} crashes");
}

#[test]
#[ignore = "the same with more seeds: minutes"]
fn a_log_is_a_prefix_wherever_it_crashes_at_length() {
    crash_everywhere(3..60);
}
