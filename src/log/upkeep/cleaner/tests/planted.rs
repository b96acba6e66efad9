//! The suites themselves are tested: each bug of the cleaner that can be planted is caught.

use super::{crashes, filter, model, rounds};
use crate::storage::planted::{Planted, enable};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a suite with the bug, which it must fail by.
fn caught(bug: Planted, suite: impl Fn()) {
    let guard = enable(bug);
    let failed = catch_unwind(AssertUnwindSafe(&suite)).is_err();
    drop(guard);
    assert!(failed, "{bug:?} was not caught");
}

#[test]
fn planted_early_end_of_a_tombstone_is_caught() {
    caught(
        Planted::TombstoneDroppedEarly,
        filter::a_tombstone_stays_until_the_horizon_that_its_first_cleaning_sets,
    );
}

#[test]
fn planted_loss_of_the_latest_record_is_caught() {
    caught(Planted::LastValueDropped, filter::the_latest_record_of_each_key_stays_where_it_is);
    caught(Planted::LastValueDropped, || assert!(crashes::crash_everywhere(0..1) > 0));
}

#[test]
fn planted_swap_before_its_sync_is_caught() {
    caught(Planted::SwapBeforeSync, || assert!(crashes::crash_everywhere(0..4) > 0));
}

#[test]
fn planted_swap_before_the_markers_that_it_goes_by_is_caught() {
    caught(Planted::SwapBeforeMarkers, || assert!(crashes::crash_everywhere(0..4) > 0));
}

/// The model finds by itself what the tests of single rules are made for.
#[test]
fn planted_bugs_are_caught_by_random_histories() {
    for bug in [
        Planted::TombstoneDroppedEarly,
        Planted::LastValueDropped,
        Planted::AbortedRecordKept,
        Planted::MarkerDroppedBeforeData,
        Planted::OffsetMapOverflowIgnored,
        Planted::SwapBeforeMarkers,
    ] {
        caught(bug, || model::run_many(2000, 7, 0));
    }
    model::run_many(100, 7, 0);
}

#[test]
fn planted_aborted_record_is_caught() {
    caught(Planted::AbortedRecordKept, filter::aborted_records_go_and_hide_nothing);
}

#[test]
fn planted_loss_of_a_marker_is_caught() {
    caught(Planted::MarkerDroppedBeforeData, filter::aborted_records_go_and_hide_nothing);
    caught(
        Planted::MarkerDroppedBeforeData,
        filter::a_commit_marker_stays_while_a_record_of_its_transaction_is_met,
    );
}

#[test]
fn planted_overflow_of_the_map_is_caught() {
    caught(Planted::OffsetMapOverflowIgnored, rounds::keys_that_do_not_fit_are_cleaned_in_rounds);
}
