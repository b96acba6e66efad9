//! Random histories against a plain map: whatever is written, in transactions or not, trimmed,
//! cleaned, deleted by age, closed, killed or cut off from power, what a reader from the beginning
//! ends with is the latest committed value of each key, and no offset changes what it says.

use super::world::{Step, Stop, World, step};
use crate::storage::Storage;
use crate::storage::sim::Sim;
use proptest::prelude::*;
use std::path::Path;

fn stop() -> BoxedStrategy<Stop> {
    prop_oneof![
        2 => Just(Stop::Close),
        2 => Just(Stop::Kill),
        3 => any::<u64>().prop_map(Stop::PowerCut),
    ]
    .boxed()
}

/// How many histories, each of up to 50 steps.
fn rounds() -> u32 {
    match std::env::var("TOPICLITE_SCALE").as_deref() {
        Ok("ci") => 500,
        Ok("long") => 1_000_000,
        _ => 500,
    }
}

/// Takes a history step by step, and then cleans until nothing is left to do.
pub(super) fn run(steps: &[Step]) {
    let sim = Sim::new();
    sim.create_dir(Path::new("/logs")).unwrap();
    sim.sync_dir(Path::new("/")).unwrap();
    let mut world = World::new(&sim);
    steps.iter().for_each(|step| world.take(step));
    world.settle();
}

/// Takes `histories` of them; always the same ones where `seed` is given.
pub(super) fn run_many(histories: u32, seed: Option<u8>) {
    let mut config = ProptestConfig::with_cases(histories);
    config.failure_persistence = None;
    let steps = prop::collection::vec(step(stop()), 1..50);
    let mut runner = match seed {
        Some(seed) => {
            let algorithm = proptest::test_runner::RngAlgorithm::ChaCha;
            let rng = proptest::test_runner::TestRng::from_seed(algorithm, &[seed; 32]);
            config.max_shrink_iters = 0;
            proptest::test_runner::TestRunner::new_with_rng(config, rng)
        }
        None => proptest::test_runner::TestRunner::new(config),
    };
    let outcome = runner.run(&steps, |steps| {
        run(&steps);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn any_history_ends_with_what_a_plain_map_holds() {
    std::thread::scope(|scope| {
        for seed in [1, 2] {
            scope.spawn(move || run_many(rounds() / 2, Some(seed)));
        }
    });
}

/// A trim and retention removed all that an open transaction had: only what was recorded tells of
/// it after a power cut.
#[test]
fn an_open_transaction_whose_batches_were_removed_outlives_a_power_cut() {
    let send = |producer, lengths: &[u8]| Step::Send {
        producer,
        codec: crate::record::Codec::None,
        records: lengths.iter().map(|&length| (0, Some(length))).collect(),
    };
    run(&[
        send(4, &[43]),
        send(3, &[17, 38]),
        Step::End { producer: 3, commits: false },
        send(0, &[3]),
        send(0, &[7, 7, 7]),
        send(0, &[36, 36, 19]),
        Step::Trim(187),
        Step::Retain,
        Step::Stop(Stop::Close),
        send(0, &[1]),
        Step::Trim(0),
        Step::Stop(Stop::PowerCut(0)),
    ]);
}
