//! A compaction of our own that ends at any of its steps.

use super::*;
use crate::log::finding::FindingKind;
use crate::log::segment::state::{SegmentLayout, SegmentOrigin};
use crate::record::{ControlType, Stamp};

const LEN: usize = 60;

/// What the compaction leaves of offsets 0 to 19, which were two segments: not the last ones.
fn compacted() -> Vec<u8> {
    (0..18).step_by(3).flat_map(|offset| run(offset..offset + 1, LEN)).collect()
}

fn kept() -> Vec<i64> {
    (0..18).step_by(3).chain(20..40).collect()
}

/// Four segments of ten offsets, as they are recorded before the compaction.
pub(super) fn before<S: Storage>(shelf: &Shelf<S>) {
    for base in [0, 10, 20, 30] {
        shelf.put_log(base, &run(base..base + 10, LEN));
    }
}

/// The results, at this stage.
pub(super) fn put_results<S: Storage>(shelf: &Shelf<S>, stage: &str) {
    shelf.put(&format!("00000000000000000000.log{stage}"), &compacted());
    shelf.put(&format!("00000000000000000000.index{stage}"), b"");
    shelf.put(&format!("00000000000000000000.timeindex{stage}"), b"");
}

/// What is recorded before it, and once its results are `.swap`.
pub(super) fn states() -> (LogState, LogState) {
    let shelf = Shelf::new();
    before(&shelf);
    let old = shelf.state();
    put_results(&shelf, ".swap");
    let new = shelf.open(&old, Trust::SameBoot).state();
    (old, new)
}

/// The files of each step, and whether the results count at it.
type Step = (&'static str, bool, fn(&Shelf));

const STEPS: &[Step] = &[
    ("a result is being written", false, |shelf| {
        shelf.put("00000000000000000000.log.cleaned", &compacted()[..LEN]);
    }),
    ("the results are written", false, |shelf| put_results(shelf, ".cleaned")),
    ("some have the name of a result", false, |shelf| {
        put_results(shelf, ".cleaned");
        shelf.rename("00000000000000000000.log.cleaned", "00000000000000000000.log.swap");
    }),
    ("all have the name of a result", true, |shelf| put_results(shelf, ".swap")),
    ("an old one is gone", true, |shelf| {
        put_results(shelf, ".swap");
        shelf.storage.remove(&shelf.log_path(10)).unwrap();
    }),
    ("all old ones are gone", true, |shelf| {
        put_results(shelf, ".swap");
        shelf.storage.remove(&shelf.log_path(0)).unwrap();
        shelf.storage.remove(&shelf.log_path(10)).unwrap();
    }),
    ("the batches have their name", true, |shelf| {
        put_results(shelf, ".swap");
        shelf.storage.remove(&shelf.log_path(10)).unwrap();
        shelf.rename("00000000000000000000.log.swap", "00000000000000000000.log");
    }),
    ("all have their names", true, |shelf| {
        put_results(shelf, "");
        shelf.storage.remove(&shelf.log_path(10)).unwrap();
    }),
];

/// The steps up to which nothing of the old segments is gone: the state file may not know yet.
const UNRECORDED: usize = 4;

#[test]
fn each_step_is_finished_or_undone_and_makes_the_partition_nobody_elses() {
    let (old, new) = states();
    for trust in [Trust::SameBoot, Trust::OtherBoot] {
        for (number, (what, counts, prepare)) in STEPS.iter().enumerate() {
            for state in [&old, &new].into_iter().skip(usize::from(number >= UNRECORDED)) {
                if !counts && state == &new {
                    continue;
                }
                let shelf = Shelf::new();
                before(&shelf);
                prepare(&shelf);
                finishes(&shelf, (state, trust), *counts, what);
            }
        }
    }
}

fn finishes(shelf: &Shelf, (state, trust): (&LogState, Trust), counts: bool, what: &str) {
    let mut opened = shelf.open(state, trust);
    let at = format!("{what}, {trust:?}, {:?}", kinds(&opened));
    let expected = if counts { kept() } else { (0..40).collect() };
    assert_eq!(shelf.offsets(&opened), expected, "{at}");
    assert_eq!((opened.log_end_offset, opened.recovery_point), (40, 40), "{at}");
    assert!(!opened.report.foreign && opened.read_only.is_none() && opened.resumable, "{at}");
    let first = opened.segments[0].state;
    let layout = if counts { SegmentLayout::Sparse } else { SegmentLayout::Dense };
    assert_eq!((first.layout, first.origin), (layout, SegmentOrigin::Ours), "{at}");
    assert_eq!(first.extent.next_offset, if counts { 20 } else { 10 }, "{at}");
    let recorded = opened.state();
    opened.finish(&shelf.storage).unwrap();
    assert!(shelf.names().iter().all(|name| !name.contains(".log.")), "{at}: {:?}", shelf.names());
    assert_eq!(shelf.get_log(0).unwrap() == compacted(), counts, "{at}");
    assert_eq!(shelf.get_log(10).is_some(), !counts, "{at}");
    for trust in [trust, Trust::OtherBoot, Trust::Clean] {
        let again = shelf.open(&recorded, trust);
        assert_eq!((shelf.offsets(&again), kinds(&again)), (expected.clone(), vec![]), "{at}");
        assert_eq!(again.state(), recorded, "{at}");
    }
}

#[test]
fn what_was_not_synced_when_it_was_recorded_may_be_compacted_and_cut_off_from_its_record() {
    // Of a log of four segments only the beginning of the second is recorded.
    let shelf = Shelf::new();
    before(&shelf);
    let whole = shelf.get_log(10).unwrap();
    shelf.put_log(10, &run(10..13, LEN));
    for base in [20, 30] {
        shelf.storage.remove(&shelf.log_path(base)).unwrap();
    }
    let early = shelf.state();
    before(&shelf);
    shelf.put_log(10, &whole);
    for (result, replaced, trust) in [
        (0, [0, 10], Trust::SameBoot),
        (10, [10, 20], Trust::SameBoot),
        (20, [20, 20], Trust::SameBoot),
        (0, [0, 10], Trust::OtherBoot),
        (10, [10, 20], Trust::OtherBoot),
        (20, [20, 20], Trust::OtherBoot),
    ] {
        let shelf = Shelf::new();
        before(&shelf);
        let upto = replaced[1] + 10;
        let bytes = [run(result..result + 2, LEN), run(upto - 4..upto - 3, LEN)].concat();
        shelf.put(&format!("{result:020}.log.swap"), &bytes);
        let mut opened = shelf.open(&early, trust);
        let gone = |offset: &i64| (result + 2..upto).contains(offset) && *offset != upto - 4;
        let expected: Vec<i64> = (0..40).filter(|offset| !gone(offset)).collect();
        assert_eq!(shelf.offsets(&opened), expected, "{result}, {trust:?}: {:?}", kinds(&opened));
        let fine = !opened.report.foreign && opened.read_only.is_none();
        assert!(fine, "{result}, {trust:?}: {:?}", opened.findings);
        let recorded = opened.state();
        opened.finish(&shelf.storage).unwrap();
        let again = shelf.open(&recorded, trust);
        assert_eq!((shelf.offsets(&again), kinds(&again)), (expected, vec![]), "{result}");
    }
}

#[test]
fn a_result_that_does_not_hold_is_no_compaction_of_ours() {
    let (old, _) = states();
    let shelf = Shelf::new();
    before(&shelf);
    let mut bytes = compacted();
    bytes[100] ^= 1;
    shelf.put("00000000000000000000.log.swap", &bytes);
    let opened = shelf.open(&old, Trust::SameBoot);
    assert_eq!(kinds(&opened).first(), Some(&FindingKind::StateContradicted));
    assert!(opened.report.foreign);
}

#[test]
fn the_aborted_transactions_of_a_result_are_those_of_its_batches_and_its_own_index() {
    let of = |offset: i64| {
        batch_at(offset, b"t", 1, &Stamp::plain(offset, 0).producer(7, 0, 0).transactional())
    };
    let shelf = Shelf::new();
    shelf.put_log(0, &[of(0), batch(1, b"v"), marker(2, 7, ControlType::Commit), of(3)].concat());
    shelf.put_log(4, &[marker(4, 7, ControlType::Abort), batch(5, b"v")].concat());
    shelf.put_log(6, &run(6..9, LEN));
    let old = shelf.state();
    // The second one loses a record; its marker stays, and tells of what lies in the first one.
    shelf.put("00000000000000000004.log.swap", &marker(4, 7, ControlType::Abort));
    let opened = shelf.open(&old, Trust::SameBoot);
    let row = AbortedTransaction {
        producer_id: 7,
        first_offset: 3,
        last_offset: 4,
        last_stable_offset: 5,
    };
    assert_eq!(opened.segments[1].aborted, [row]);
    assert_eq!((opened.segments[1].state.extent.next_offset, opened.log_end_offset), (6, 9));
    // Where its records and the marker went, too, only the index remembers.
    shelf.put_log(0, &[of(0), batch(1, b"v"), marker(2, 7, ControlType::Commit)].concat());
    let first = old.segments[0];
    let size_bytes = shelf.get_log(0).unwrap().len() as u64;
    let mut first = SegmentState { layout: SegmentLayout::Sparse, ..first };
    first.extent.size_bytes = size_bytes;
    let old = LogState { segments: [&[first], &old.segments[1..]].concat(), ..old };
    let emptied = crate::log::index::transaction_index::to_bytes(&[row]);
    shelf.put("00000000000000000004.log.swap", b"");
    shelf.put("00000000000000000004.txnindex.swap", &emptied);
    let opened = shelf.open(&old, Trust::SameBoot);
    assert_eq!(opened.segments[1].aborted, [row]);
}
