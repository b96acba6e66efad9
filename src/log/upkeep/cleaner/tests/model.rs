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
        Ok("ci") => 50_000,
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

/// The first seed; each thread has one.
fn first_seed() -> u8 {
    let seed = std::env::var("TOPICLITE_FIRST_SEED").ok();
    seed.map_or(1, |seed| seed.parse().expect("TOPICLITE_FIRST_SEED is a number below 255"))
}

/// Takes `histories` of them, always the same ones of a seed. One that fails is made smaller in so
/// many steps.
pub(super) fn run_many(histories: u32, seed: u8, max_shrink_iters: u32) {
    let mut config = ProptestConfig::with_cases(histories);
    config.failure_persistence = None;
    config.max_shrink_iters = max_shrink_iters;
    let steps = prop::collection::vec(step(stop()), 1..50);
    let algorithm = proptest::test_runner::RngAlgorithm::ChaCha;
    let rng = proptest::test_runner::TestRng::from_seed(algorithm, &[seed; 32]);
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(config, rng);
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
        for thread in 0..2 {
            scope.spawn(move || run_many(rounds() / 2, first_seed() + thread, 4_000));
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

/// A cleaning rolled to a segment that was recorded, empty, before its name was durable.
#[test]
fn an_empty_segment_whose_name_a_power_cut_took_is_not_missed() {
    for seed in 0..20 {
        run(&[
            send(3, &[(0, None)]),
            Step::Stop(Stop::Close),
            Step::Clean { small: false, all: true },
            Step::Trim(0),
            Step::Stop(Stop::PowerCut(seed)),
        ]);
    }
}

fn send(producer: i64, records: &[(u8, Option<u8>)]) -> Step {
    Step::Send { producer, codec: crate::record::Codec::None, records: records.to_vec() }
}

/// A marker whose record a cleaning took still tells the epoch that fences what came before it,
/// also where no snapshot does.
#[test]
fn a_marker_that_was_cleaned_away_still_fences_its_producer() {
    let commit = Step::End { producer: 3, commits: true };
    let clean = |all| Step::Clean { small: false, all };
    run(&[
        send(3, &[(6, Some(16))]),
        commit,
        send(2, &[(6, None), (1, Some(21))]),
        clean(true),
        clean(true),
        Step::Wait(1100),
        send(0, &[(8, Some(56))]),
        clean(true),
        send(1, &[(3, None)]),
        Step::Stop(Stop::Kill),
        send(0, &[(3, Some(20))]),
        clean(false),
        Step::Stop(Stop::PowerCut(12_972_514_269_238_333_603)),
        send(1, &[(3, Some(27))]),
        clean(true),
    ]);
}

/// A power cut took the first segment's name and left that of the second: nothing of the log is
/// left, nor what was recorded to be open in it.
#[test]
#[cfg(feature = "lz4")]
fn a_transaction_that_was_lost_with_the_first_segment_holds_nothing_back() {
    let end = |producer, commits| Step::End { producer, commits };
    let lz4 = |producer, records: &[(u8, Option<u8>)]| Step::Send {
        producer,
        codec: crate::record::Codec::Lz4,
        records: records.to_vec(),
    };
    run(&[
        send(0, &[(1, Some(9))]),
        lz4(4, &[(4, None), (5, Some(33))]),
        send(4, &[(4, Some(51))]),
        Step::Wait(973),
        send(1, &[(8, Some(17))]),
        send(2, &[(8, Some(57))]),
        lz4(3, &[(1, Some(37)), (9, Some(45))]),
        end(4, false),
        Step::Trim(24),
        Step::Stop(Stop::PowerCut(2_589_831_374_667_967_224)),
        send(1, &[(1, Some(21))]),
        send(0, &[(1, Some(14)), (2, None)]),
        send(0, &[(3, Some(57))]),
        send(4, &[(7, Some(55)), (7, Some(32))]),
        end(4, false),
        Step::Flush,
    ]);
}
