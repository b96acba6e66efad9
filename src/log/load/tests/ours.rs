//! The rules of opening what this crate wrote, one by one, on handmade files.

use super::*;

#[test]
fn after_a_clean_stop_nothing_is_read() {
    let (shelf, state) = shelf();
    let opened = shelf.open(&state, Trust::Clean);
    assert_eq!(opened.state(), state);
    assert_eq!((opened.report.bytes_read, opened.findings.len()), (0, 0));
    assert!(opened.resumable && !opened.needs_finish());
}

#[test]
fn after_a_clean_stop_any_difference_means_that_somebody_else_was_here() {
    let contradicted = |change: &dyn Fn(&Shelf)| {
        let (shelf, state) = shelf();
        change(&shelf);
        let opened = shelf.open(&state, Trust::Clean);
        assert_eq!(opened.findings.first().map(|f| f.kind), Some(StateContradicted));
        assert!(opened.report.foreign);
        opened
    };
    let longer = contradicted(&|shelf| shelf.put_log(20, &run(20..31, LEN)));
    assert_eq!((longer.log_end_offset, longer.read_only.is_none()), (31, true));
    let more = contradicted(&|shelf| shelf.put_log(30, &run(30..40, LEN)));
    assert_eq!((more.log_end_offset, more.read_only.is_none()), (40, true));
    let shorter = contradicted(&|shelf| shelf.put_log(20, &run(20..25, LEN)));
    assert_eq!(damage(&shorter).map(|d| (d.0, d.1)), Some((CorruptRecord, 25)));
    let missing = contradicted(&|shelf| shelf.storage.remove(&shelf.log_path(10)).unwrap());
    let told = damage(&missing).map(|d| (d.0, d.1));
    assert_eq!(told, Some((CorruptRecord, 10)), "no other program leaves our clean mark");
    contradicted(&|shelf| {
        let mut bytes = run(20..30, LEN);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        shelf.put_log(20, &bytes);
    });
    contradicted(&|shelf| shelf.put("00000000000000000000.log.swap", b""));
}

#[test]
fn after_a_kill_reading_begins_at_the_border_and_ends_at_zeros() {
    let (shelf, _) = shelf();
    shelf.put_log(20, &zeros(run(20..30, LEN), 5000));
    let state = state_at(&shelf, 20, 23);
    let opened = shelf.open(&state, Trust::SameBoot);
    assert_eq!((opened.log_end_offset, opened.recovery_point), (30, 23));
    assert_eq!(shelf.offsets(&opened), (0..30).collect::<Vec<_>>());
    assert_eq!(opened.report.batches, 7);
    assert_eq!(kinds(&opened), [UncutTail]);
    assert!(opened.resumable);
    let last = opened.segments.last().unwrap();
    assert_eq!(
        (last.state.extent.max_timestamp, last.state.extent.max_timestamp_offset),
        (290, 29)
    );
    assert_eq!(last.state.extent.first_timestamp, 200);
    assert!(last.indexes.is_none(), "what lies below the border was not read");
}

#[test]
fn after_a_kill_the_last_batch_may_be_torn() {
    for (what, torn) in [("its end", 40), ("its header", 100 + 30), ("its value", 10)] {
        let (shelf, _) = shelf();
        let mut bytes = run(20..30, LEN);
        let keep = bytes.len() - torn;
        bytes[keep..].fill(0);
        shelf.put_log(20, &zeros(bytes, 5000));
        let state = state_at(&shelf, 20, 23);
        let mut opened = shelf.open(&state, Trust::SameBoot);
        assert_eq!(opened.log_end_offset, 29, "{what}");
        assert_eq!(opened.read_only.as_ref().map(ToString::to_string), None, "{what}");
        assert_eq!(kinds(&opened), [TornTail], "{what}");
        opened.finish(&shelf.storage).unwrap();
        assert_eq!(shelf.get_log(20).unwrap(), run(20..29, LEN), "cut before the first append");
        assert_eq!(shelf.names().len(), 3, "our own torn bytes are not set aside");
    }
}

#[test]
fn after_a_kill_damage_that_the_log_goes_on_behind_is_corruption() {
    let (shelf, _) = shelf();
    let mut bytes = run(20..30, LEN);
    let at = 5 * size_of(LEN);
    bytes[at + 8..at + 12].fill(0);
    shelf.put_log(20, &zeros(bytes, 5000));
    let state = state_at(&shelf, 20, 23);
    let opened = shelf.open(&state, Trust::SameBoot);
    assert_eq!(damage(&opened), Some((CorruptRecord, 25, at as u64)));
    assert_eq!(shelf.offsets(&opened), (0..25).collect::<Vec<_>>());
    assert!(!opened.resumable);
}

#[test]
fn a_value_that_contains_a_batch_is_not_taken_for_the_log_going_on() {
    let (shelf, _) = shelf();
    let value = [batch(500, b"mirrored"), b"and more".to_vec()].concat();
    let mut torn = batch(30, &value);
    let size = torn.len();
    torn[8..12].fill(0);
    torn[size - 4..].fill(0);
    shelf.put_log(20, &[run(20..30, LEN), zeros(torn, 3000)].concat());
    let opened = shelf.open(&state_at(&shelf, 20, 23), Trust::SameBoot);
    assert_eq!((opened.log_end_offset, opened.read_only.is_none()), (30, true));
}

#[test]
fn a_power_cut_ends_the_log_before_the_first_lost_page_and_the_dead_stay_dead() {
    let (shelf, _) = shelf();
    shelf.put("00000000000000000020.index", b"stale");
    let mut bytes = run(10..20, LEN);
    let at = 5 * size_of(LEN);
    bytes[at..at + 50].fill(0);
    shelf.put_log(10, &bytes);
    let state = {
        let whole = (shelf.get_log(10).unwrap(), shelf.get_log(20).unwrap());
        shelf.put_log(10, &run(10..13, LEN));
        shelf.storage.remove(&shelf.log_path(20)).unwrap();
        let state = shelf.state();
        shelf.put_log(10, &whole.0);
        shelf.put_log(20, &whole.1);
        state
    };
    let mut opened = shelf.open(&state, Trust::OtherBoot);
    assert_eq!((opened.log_end_offset, opened.read_only.is_none()), (15, true));
    assert_eq!(kinds(&opened), [LostSegments, TornTail]);
    assert_eq!(opened.report.segments_lost, 1);
    // The last byte of the last batch is a zero itself.
    assert_eq!(opened.report.bytes_lost, 5 * size_of(LEN) as u64 - 1);
    assert!(opened.resumable);
    opened.finish(&shelf.storage).unwrap();
    assert_eq!(shelf.get_log(10).unwrap(), run(10..15, LEN));
    assert_eq!(shelf.names(), ["00000000000000000000.log", "00000000000000000010.log"]);
    let again = shelf.open(&state, Trust::OtherBoot);
    assert_eq!((again.log_end_offset, again.findings.len()), (15, 0));
}

#[test]
fn damage_below_the_recovery_point_is_corruption_on_any_boot() {
    for trust in [Trust::SameBoot, Trust::OtherBoot] {
        let (shelf, mut state) = shelf();
        // The border itself was not recorded: the segment is read from its first byte.
        state.log_end_offset = 30;
        state.recovery_point = 28;
        let mut bytes = run(20..30, LEN);
        let at = 5 * size_of(LEN);
        bytes[at + 70] ^= 4;
        shelf.put_log(20, &bytes);
        if trust == Trust::SameBoot {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            shelf.put_log(20, &bytes);
        }
        let opened = shelf.open(&state, trust);
        assert_eq!(damage(&opened), Some((CorruptRecord, 25, at as u64)), "{trust:?}");
        assert_eq!(shelf.offsets(&opened), (0..25).collect::<Vec<_>>(), "{trust:?}");
    }
}

#[test]
fn a_retired_file_that_was_not_cut_ends_nothing() {
    for trust in [Trust::SameBoot, Trust::OtherBoot, Trust::Foreign] {
        let (shelf, _) = shelf();
        shelf.put_log(10, &zeros(run(10..20, LEN), 4000));
        shelf.put_log(20, &zeros(run(20..30, LEN), 4000));
        let state = LogState { segments: Vec::new(), ..LogState::default() };
        let opened = shelf.open(&state, trust);
        assert_eq!(shelf.offsets(&opened), (0..30).collect::<Vec<_>>(), "{trust:?}");
        assert_eq!(kinds(&opened), [UncutTail, UncutTail], "{trust:?}");
        assert!(opened.read_only.is_none(), "{trust:?}");
    }
}

#[test]
fn offsets_of_our_own_are_dense_and_epochs_never_fall_or_rise_beyond_the_last_life() {
    let ends_at = |bad: Vec<u8>, state: LogState| {
        let shelf = Shelf::new();
        shelf.put_log(0, &[run(0..5, LEN), bad, run(6..9, LEN)].concat());
        let opened = shelf.open(&state, Trust::OtherBoot);
        assert!(opened.read_only.is_none());
        opened.log_end_offset
    };
    let new = LogState::default;
    let stamped = |offset, epoch| batch_at(offset, b"v", 1, &Stamp::plain(offset, epoch));
    assert_eq!(ends_at(stamped(5, 0), new()), 9);
    assert_eq!(ends_at(stamped(6, 0), new()), 5, "a hole");
    assert_eq!(ends_at(stamped(4, 0), new()), 5, "an offset that was there");
    assert_eq!(ends_at(stamped(5, 10), new()), 5, "an epoch that was never taken");
    assert_eq!(ends_at(stamped(5, 3), new()), 6, "the next one falls");
    assert_eq!(ends_at(stamped(5, -1), new()), 5);
    let recorded = LogState {
        log_end_offset: 8,
        epochs: vec![crate::log::files::leader_epochs::EpochStart { epoch: 2, start_offset: 5 }],
        ..new()
    };
    let shelf = Shelf::new();
    shelf.put_log(0, &[run(0..5, LEN), stamped(5, 0)].concat());
    let opened = shelf.open(&LogState { recovery_point: 5, ..recorded }, Trust::OtherBoot);
    assert_eq!(opened.log_end_offset, 8, "the border is above what the state lets be read");
}

/// Kafka's own files moved into a new cluster of Kafka's, which wrote on in them.
#[test]
fn epochs_of_another_program_may_fall() {
    let stamped = |offset, epoch| batch_at(offset, b"v", 1, &Stamp::plain(offset, epoch));
    let shelf = Shelf::new();
    shelf.put_log(0, &[run(0..5, LEN), stamped(5, 6), stamped(6, 2)].concat());
    shelf.put_log(7, &[stamped(7, 2), stamped(8, 1)].concat());
    let opened = shelf.open(&LogState::default(), Trust::Foreign);
    assert_eq!(shelf.offsets(&opened), (0..9).collect::<Vec<_>>());
    assert!(opened.read_only.is_none());
    assert_eq!((kinds(&opened), opened.epochs.latest()), (vec![], Some(6)));
}

#[test]
fn an_epoch_other_than_the_recorded_one_ends_the_log() {
    let (shelf, mut state) = shelf();
    state.recovery_point = 20;
    state.epochs.push(crate::log::files::leader_epochs::EpochStart { epoch: 2, start_offset: 25 });
    let opened = shelf.open(&state, Trust::OtherBoot);
    assert_eq!(opened.log_end_offset, 25, "offsets from 25 on were written under epoch 2");
    assert!(opened.read_only.is_none());
}

#[test]
fn the_epochs_that_a_life_wrote_before_its_first_batch_count_more_than_the_state() {
    let (shelf, mut state) = shelf();
    state.recovery_point = 20;
    shelf.put("leader-epoch-checkpoint", b"0\n2\n0 0\n12 25\n");
    let opened = shelf.open(&state, Trust::OtherBoot);
    assert_eq!(opened.log_end_offset, 25, "batches of a life before, which were lost once");
    let batches: Vec<u8> =
        (25..30).flat_map(|offset| batch_at(offset, b"v", 1, &Stamp::plain(offset, 12))).collect();
    shelf.put_log(20, &[run(20..25, LEN), batches].concat());
    let opened = shelf.open(&state, Trust::OtherBoot);
    assert_eq!(opened.log_end_offset, 30, "also above the epochs of this directory's lives");
    shelf.put("leader-epoch-checkpoint", b"garbage");
    let opened = shelf.open(&state, Trust::OtherBoot);
    assert_eq!((opened.log_end_offset, kinds(&opened)), (25, vec![DerivedFile, TornTail]));
}

#[test]
fn retention_may_have_removed_the_segments_below_the_start_that_it_had_recorded() {
    for trust in [Trust::SameBoot, Trust::OtherBoot] {
        let (shelf, mut state) = shelf();
        state.log_start_offset = 10;
        shelf.storage.remove(&shelf.log_path(0)).unwrap();
        let opened = shelf.open(&state, trust);
        assert_eq!((opened.log_start_offset, opened.log_end_offset), (10, 30), "{trust:?}");
        assert!(!opened.report.foreign && opened.read_only.is_none(), "{trust:?}");
    }
}

#[test]
fn first_segments_that_are_missing_above_the_recorded_start_are_told() {
    for trust in [Trust::SameBoot, Trust::OtherBoot] {
        let (shelf, state) = shelf();
        assert_eq!(state.log_start_offset, 0);
        shelf.storage.remove(&shelf.log_path(0)).unwrap();
        let opened = shelf.open(&state, trust);
        assert!(opened.report.foreign, "{trust:?}: everything is read anew");
        assert_eq!(kinds(&opened), [StateContradicted], "{trust:?}: and told");
    }
}

#[test]
fn a_folder_that_vanished_has_lost_what_was_synced() {
    for trust in [Trust::Clean, Trust::SameBoot, Trust::OtherBoot] {
        let (shelf, state) = shelf();
        for base in [0, 10, 20] {
            shelf.storage.remove(&shelf.log_path(base)).unwrap();
        }
        let opened = shelf.open(&state, trust);
        assert_eq!(damage(&opened).map(|d| (d.0, d.1)), Some((CorruptRecord, 0)), "{trust:?}");
    }
    let (shelf, mut state) = shelf();
    state.recovery_point = 0;
    for base in [0, 10, 20] {
        shelf.storage.remove(&shelf.log_path(base)).unwrap();
    }
    let opened = shelf.open(&state, Trust::OtherBoot);
    assert_eq!((opened.log_end_offset, opened.read_only.is_none()), (0, true), "never synced");
}

#[test]
fn a_log_that_ends_below_its_start_goes_on_at_its_start() {
    let (shelf, mut state) = shelf();
    state.recovery_point = 20;
    state.log_start_offset = 27;
    shelf.put_log(20, &run(20..24, LEN));
    let opened = shelf.open(&state, Trust::OtherBoot);
    assert_eq!((opened.log_start_offset, opened.log_end_offset), (27, 27));
    assert!(!opened.resumable, "the next append begins a segment at the log end");
    assert_eq!(kinds(&opened), [StartAboveEnd]);
}

#[cfg(feature = "planted-bugs")]
mod planted_bugs {
    use super::*;
    use crate::storage::planted::{Planted, enable};

    #[test]
    fn each_bug_of_recovery_shows() {
        let (shelf, _) = shelf();
        shelf.put_log(10, &zeros(run(10..20, LEN), 4000));
        let guard = enable(Planted::LaterSegmentsDeleted);
        let opened = shelf.open(&LogState::default(), Trust::OtherBoot);
        assert_eq!(opened.log_end_offset, 20, "what follows an uncut seal is lost");
        drop(guard);

        shelf.put_log(20, &[run(20..25, LEN), run(27..30, LEN)].concat());
        let guard = enable(Planted::CrcWithoutBaseOffset);
        let opened = shelf.open(&LogState::default(), Trust::OtherBoot);
        assert_eq!(opened.log_end_offset, 30, "a batch that does not belong there");
        drop(guard);

        let guard = enable(Planted::NoTailZero);
        let mut opened = shelf.open(&LogState::default(), Trust::OtherBoot);
        assert_eq!(opened.log_end_offset, 25);
        opened.finish(&shelf.storage).unwrap();
        assert_eq!(shelf.get_log(20).unwrap().len(), 8 * size_of(LEN), "the dead are still there");
        drop(guard);
    }

    #[test]
    fn an_index_that_is_believed_after_a_crash_hides_records() {
        let (shelf, state) = shelf();
        let path = shelf.log_path(0);
        shelf.put("00000000000000000000.index", &[0, 0, 0, 1, 0, 0, 4, 210]);
        shelf.put("00000000000000000000.timeindex", b"");
        let load = || {
            let found = crate::log::segment::indexes::load_indexes(
                &shelf.storage,
                &state.segments[0],
                &path,
                100,
            );
            found.unwrap().0.offsets.lookup(5)
        };
        assert_eq!(load() % size_of(LEN) as u32, 0, "rebuilt: it points at a batch");
        let _guard = enable(Planted::IndexTrustedAfterCrash);
        assert_eq!(load(), 4 * 256 + 210);
    }
}
