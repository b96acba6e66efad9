//! The suites themselves are tested: each bug that is planted here must be caught by the crash
//! images within a bound, and the seed that caught it passes without it.

use crate::history::History;
use crate::sweep::{THREADS, sweep};
use crate::{PLANTED, corruptions, epochs, full_disk, images, scale, sites, transactions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use topiclite::storage::Fault;
use topiclite::storage::faults::{Call, Failure};
use topiclite::storage::planted::{Planted, enable};

/// So many images are enough to catch any of the bugs.
const BOUND: u64 = 20_000;

/// Runs a suite with the bug, in the threads that it starts, and the seed that caught it without.
fn caught_by(bug: Planted, suite: impl Fn(u64, u64) -> Option<(u64, String)>) {
    let _turn = scale::turn();
    PLANTED.with_borrow_mut(|bugs| bugs.push(bug));
    let failure = suite(0, BOUND);
    PLANTED.with_borrow_mut(Vec::clear);
    let (seed, broken) = failure.unwrap_or_else(|| panic!("{bug:?} was not caught"));
    println!("{bug:?}: caught by seed {seed}: {}", broken.lines().next().unwrap_or_default());
    assert_eq!(suite(seed, 1), None, "the seed passes without the bug");
}

fn caught(bug: Planted) {
    // One seed has many images.
    let threads = |images| if images == 1 { 1 } else { THREADS };
    caught_by(bug, |first, images| images::run(first, images, threads(images)).1);
}

macro_rules! bugs {
    ($($test:ident $bug:ident;)*) => {
        $(
            #[test]
            fn $test() {
                caught(Planted::$bug);
            }
        )*
    };
}

bugs! {
    an_answer_before_its_sync_is_caught AckBeforeSync;
    a_directory_that_is_not_synced_is_caught NoDirectorySync;
    a_tail_that_is_not_zeroed_is_caught NoTailZero;
    a_log_end_that_is_one_too_far_is_caught OffByOneInLeo;
    segments_deleted_over_an_uncut_seal_are_caught LaterSegmentsDeleted;
}

/// What goes wrong with transactions, and with what is known of producers.
#[test]
fn planted_bugs_of_transactions_are_caught_by_crash_images() {
    for bug in [
        Planted::AnswerBeforeMarkers,
        Planted::MarkersBeforeDecision,
        Planted::StableOffsetTooEarly,
        Planted::AbortIndexLost,
        Planted::EpochReused,
        Planted::SnapshotTrustedUnproven,
        Planted::PendingOffsetsVisible,
        Planted::AbortForgetsPartition,
    ] {
        let threads = |images| if images == 1 { 1 } else { THREADS };
        caught_by(bug, |first, images| transactions::run(first, images, threads(images)).1);
    }
}

#[test]
fn an_epoch_of_what_survived_is_caught() {
    caught_by(Planted::EpochFromPrefix, |first, count| sweep(first, count, THREADS, epochs::case));
}

#[test]
fn an_index_that_is_trusted_after_a_crash_is_caught() {
    caught_by(Planted::IndexTrustedAfterCrash, |first, count| {
        corruptions::run(first, count, THREADS).1
    });
}

#[test]
fn a_recovery_point_before_its_sync_is_caught() {
    caught_by_failing_syncs(Planted::RecoveryPointBeforeSync);
}

#[test]
fn a_batch_whose_offset_nobody_checks_is_caught() {
    caught_by(Planted::CrcWithoutBaseOffset, |first, count| {
        corruptions::run(first, count, THREADS).1
    });
}

/// Every sync of a segment in every workload of the fault sites fails once, and its pages are lost.
fn caught_by_failing_syncs(bug: Planted) {
    let sites = || {
        for (name, recovering, ops) in &sites::WORKLOADS {
            let start = sites::begin(*recovering).unwrap();
            let fault = Fault::new(Arc::new(start.0.kill()));
            sites::live(&fault, &mut History::new(start.1.clone()), ops).unwrap();
            for (nth, (call, path)) in fault.seen().iter().enumerate() {
                if *call != Call::SyncData || path.extension().is_none_or(|it| it != "log") {
                    continue;
                }
                if let Err(broken) =
                    sites::site(&start, ops, nth as u64, Failure::IoPagesLost, false)
                {
                    return Some(format!("{name}, call {nth}: {broken}"));
                }
            }
        }
        None
    };
    assert_eq!(sites(), None, "nothing is found without the bug");
    let broken = {
        let _bug = enable(bug);
        sites()
    };
    let broken = broken.unwrap_or_else(|| panic!("{bug:?} was not caught"));
    println!("{bug:?}: caught: {}", broken.lines().next().unwrap_or_default());
}

#[test]
fn a_sync_that_is_repeated_after_an_error_is_caught() {
    caught_by_failing_syncs(Planted::RetryAfterEio);
}

/// A file without blocks behind it dies by a signal, which the simulated disk tells by a panic.
#[test]
fn a_file_without_blocks_is_caught() {
    let _bug = enable(Planted::SparseFile);
    let broken = full_disk::sizes().find_map(|bytes| {
        let life = || full_disk::life(bytes);
        match catch_unwind(AssertUnwindSafe(life)) {
            Ok(Ok(_)) => None,
            Ok(Err(broken)) => Some(broken),
            Err(panic) => panic.downcast_ref::<&str>().map(|text| (*text).to_owned()),
        }
    });
    let broken = broken.expect("SparseFile was not caught");
    assert!(broken.contains("SIGBUS"), "{broken}");
    println!("SparseFile: caught: {broken}");
}
