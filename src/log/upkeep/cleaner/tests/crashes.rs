//! A compacted log under kills and power cuts at every step of cleaning, swapping and deleting.
//!
//! Fault: the process dies, or the power goes, between any two changes of the disk while records
//! are sent, plain and compressed, by producers with sequences and in transactions, flushed,
//! trimmed, cleaned, swapped in and deleted. What must hold: a reader beside the dead owner, the
//! log that opens, and the one that opens where recovery is cut in its turn, say of each offset
//! what was written there; of each key the latest committed record below the end is there,
//! tombstones until their horizon; no record of an open transaction is missing, and no aborted one
//! is taken for committed; each producer's last batch is known; the first change leaves nothing of
//! an unfinished swap; and a cleaning goes on from there.

use super::history::{Found, History};
use super::world::{PRODUCERS, Policy, Stop, World, step};
use crate::config::IsolationLevel;
use crate::log::attached::AttachedLog;
use crate::log::read::cursor::Cursor;
use crate::log::read::plain::FetchLimits;
use crate::log::segment::state::{LogState, Trust};
use crate::log::tests::cuts;
use crate::record::Codec;
use crate::storage::Storage;
use crate::storage::sim::{Entries, Pages, PowerCut, Sim};
use crate::sync::Arc;
use crate::topic::TopicPartition;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::path::PathBuf;

/// What was so at one step of the disk.
struct Moment {
    step: u64,
    history: History,
    policy: Policy,
    now_ms: i64,
}

/// What was promised, and when, in steps of the disk.
struct Life {
    moments: Vec<Moment>,
    states: Vec<(u64, LogState)>,
    durable: Vec<(u64, i64)>,
}

impl Life {
    fn state_at(&self, step: u64) -> LogState {
        let known = self.states.iter().rev().find(|row| row.0 <= step);
        known.map(|row| row.1.clone()).unwrap_or_default()
    }

    fn durable_at(&self, step: u64) -> i64 {
        self.durable.iter().filter(|row| row.0 <= step).map(|row| row.1).max().unwrap_or(0)
    }
}

/// Runs a random life on `sim` and notes what was promised.
fn live(sim: &Sim, seed: u64) -> Life {
    let bytes: Vec<u8> = seed.to_le_bytes().repeat(4);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let steps = prop::collection::vec(step(Just(Stop::Close).boxed()), 60..80);
    let steps = steps.new_tree(&mut runner).unwrap().current();
    let mut world = World::new(sim);
    let mut life = Life { moments: Vec::new(), states: Vec::new(), durable: Vec::new() };
    let note = |world: &World, life: &mut Life| {
        life.moments.push(Moment {
            step: sim.steps(),
            history: world.history.clone(),
            policy: world.policy(),
            now_ms: world.bench.now_ms(),
        });
    };
    note(&world, &mut life);
    for step in &steps {
        world.take(step);
        note(&world, &mut life);
        life.states.append(&mut world.states);
        life.durable.append(&mut world.durable);
        world.states.extend(life.states.last().cloned());
        world.durable.extend(life.durable.last().copied());
    }
    life
}

/// What somebody reads beside an owner that was killed.
fn attached(after: &Sim, state: &LogState) -> (i64, Vec<Found>) {
    let storage: Arc<dyn Storage> = Arc::new(after.clone());
    let place = TopicPartition::new("orders", 0);
    let folder = PathBuf::from("/logs/orders-0");
    let log =
        AttachedLog::new(storage, folder, place, state.clone(), Trust::SameBoot, (None, None));
    let start = log.log_start_offset().unwrap();
    let (mut cursor, mut found) = (Cursor::new(start), Vec::new());
    loop {
        let limits = FetchLimits::bytes(1 << 16);
        let chunk = log.fetch(&mut cursor, IsolationLevel::ReadUncommitted, limits).unwrap();
        if chunk.size() == 0 {
            return (start, found);
        }
        Found::parse(chunk.bytes(), start, &mut found);
        cursor.advance(chunk.size(), chunk.upto(), true);
    }
}

/// Opens what a crash left, checks it, goes on, and checks that too.
fn check(after: &Sim, life: &Life, step: u64, trust: Trust, what: &str) {
    let at = life.moments.partition_point(|moment| moment.step <= step) - 1;
    let before = &life.moments[at];
    let next = life.moments.get(at + 1).unwrap_or(before);
    let state = life.state_at(step);
    let least = match trust {
        Trust::SameBoot => before.history.end(),
        _ => life.durable_at(step),
    };
    let ends = least..=next.history.end().max(before.history.end());
    if trust == Trust::SameBoot && step > 4 {
        let (start, found) = attached(after, &state);
        let mut seen = next.history.clone();
        let end = found.last().map_or(start, |last| last.offset + 1);
        seen.cut(seen.end().min(end.max(before.history.end())), what);
        seen.hold_found(&found, start, &format!("{what}, attached"));
    }
    let place = (next.policy, 90, next.now_ms);
    let what = format!("{what}, between {} and {}", before.history.end(), next.history.end());
    let recorded = (state, trust);
    let mut world = World::reopened(after, next.history.clone(), recorded, ends, place, &what);
    for producer in PRODUCERS {
        world.send_again(producer);
        world.send(producer, Codec::None, &[(0, Some(9))]);
        world.send_again(producer);
    }
    let names = world.bench.names();
    let left = |name: &String| name.contains(".swap") || name.contains(".cleaned");
    assert!(!names.iter().any(left), "{what}: {names:?}");
    world.take(&super::world::Step::Flush);
    world.clean(step.is_multiple_of(3), true);
    world.take(&super::world::Step::Flush);
    let recorded = world.states.last().unwrap().1.clone();
    let end = world.history.end();
    for (pages, entries) in [(Pages::None, Entries::None), (Pages::Versions, Entries::Subset)] {
        let later = after.power_cut(&PowerCut::new(step, pages, entries));
        let what = format!("{what}, and cut once more");
        let recorded = (recorded.clone(), Trust::OtherBoot);
        let place = (world.policy(), 91, next.now_ms);
        let history = world.history.clone();
        let again = World::reopened(&later, history, recorded, end..=end, place, &what);
        PRODUCERS.iter().for_each(|producer| again.send_again(*producer));
    }
}

pub(super) fn crash_everywhere(seeds: std::ops::Range<u64>) -> usize {
    cuts::crash_everywhere(seeds, 1, live, check)
}

#[test]
fn a_compacted_log_keeps_the_latest_record_of_each_key_wherever_it_crashes() {
    let checked = crash_everywhere(0..3);
    assert!(checked > 500, "{checked} crashes");
}

#[test]
#[ignore = "the same with more seeds: minutes"]
fn a_compacted_log_keeps_its_latest_records_wherever_it_crashes_at_length() {
    crash_everywhere(3..60);
}
