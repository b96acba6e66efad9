//! The suites themselves are tested: each bug that is planted here must be caught by the crash
//! images within a bound, and the seed that caught it passes without it.

use crate::{PLANTED, images, scale};
use topiclite::storage::planted::Planted;

/// So many images are enough to catch any of the bugs.
const BOUND: u64 = 20_000;

fn caught(bug: Planted) {
    let _turn = scale::turn();
    PLANTED.with_borrow_mut(|bugs| bugs.push(bug));
    let (tally, failure) = images::run(0, BOUND, 2);
    PLANTED.with_borrow_mut(Vec::clear);
    let Some((seed, broken)) = failure else {
        panic!("{bug:?} was not caught in {} images", tally.images);
    };
    let line = broken.lines().next().unwrap_or_default();
    println!("{bug:?}: caught after {} images by seed {seed}: {line}", tally.images);
    let (_, failure) = images::run(seed, 1, 1);
    assert_eq!(failure, None, "the seed passes without the bug");
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
