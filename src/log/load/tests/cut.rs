//! Giving up what lies behind damage: what is kept, and crashes in between.

use super::*;
use crate::storage::sim::{Entries, Pages, PowerCut, Sim};

const LEN: usize = 60;

/// A log of three files, 30 records, with a flipped bit in record 14, and an index.
fn damaged<S: Storage>(shelf: &Shelf<S>) {
    shelf.put_log(0, &run(0..10, LEN));
    let mut second = run(10..20, LEN);
    second[4 * size_of(LEN) + size_of(LEN) / 2] ^= 1;
    shelf.put_log(10, &second);
    shelf.put_log(20, &run(20..30, LEN));
    shelf.put("00000000000000000020.index", &[0; 8]);
    shelf.put("00000000000000000025.snapshot", b"beyond");
}

fn give_up<S: Storage>(shelf: &Shelf<S>, state: &LogState, trust: Trust) -> OpenedPartition {
    let mut opened = shelf.open(state, trust);
    opened.end_before_damage(&shelf.storage, &shelf.folder, &shelf.partition).unwrap();
    assert!(opened.read_only.is_none());
    opened
}

#[test]
fn what_is_behind_damage_is_kept_beside_the_log() {
    // All of it was synced, so that after another boot the damage is no torn tail.
    for trust in [Trust::Foreign, Trust::OtherBoot] {
        let shelf = Shelf::new();
        damaged(&shelf);
        let second = shelf.get_log(10).unwrap();
        // An earlier copy of the same name stays.
        shelf.put("00000000000000000020.log.cut", b"earlier");
        let state = LogState { recovery_point: 30, ..LogState::default() };
        assert!(shelf.open(&state, trust).read_only.is_some());
        let mut opened = give_up(&shelf, &state, trust);
        assert_eq!(opened.log_end_offset, 14);
        opened.finish(&shelf.storage).unwrap();
        assert_eq!(shelf.offsets(&opened), (0..14).collect::<Vec<_>>(), "{trust:?}");
        let cut = 4 * size_of(LEN);
        assert_eq!(shelf.get_log(10).unwrap(), second[..cut]);
        assert_eq!(shelf.get("00000000000000000010.log.cut").unwrap(), second[cut..]);
        assert_eq!(shelf.get("00000000000000000020.log.cut").unwrap(), b"earlier");
        let aside = shelf.get("00000000000000000020.log.cut.1").unwrap();
        assert_eq!(aside, run(20..30, LEN));
        assert_eq!(shelf.get("00000000000000000025.snapshot"), None);
        // Opened again, it is a log like any other.
        let again = shelf.open(&opened.state(), Trust::SameBoot);
        assert!(again.read_only.is_none() && again.findings.is_empty(), "{again:?}");
        assert_eq!(shelf.offsets(&again).len(), 14);
    }
}

#[test]
fn records_that_are_gone_altogether_are_given_up() {
    let shelf = Shelf::new();
    shelf.put_log(0, &run(0..10, LEN));
    let state = LogState { log_end_offset: 20, recovery_point: 20, ..LogState::default() };
    assert!(shelf.open(&state, Trust::Foreign).read_only.is_some());
    let mut opened = give_up(&shelf, &state, Trust::Foreign);
    opened.finish(&shelf.storage).unwrap();
    assert_eq!((opened.log_end_offset, opened.recovery_point), (10, 10));
    assert_eq!(shelf.offsets(&opened).len(), 10);
}

/// What a compaction of Kafka's leaves before the old files go, and what is wrong with its result.
fn damaged_result<S: Storage>(shelf: &Shelf<S>, result: &[u8]) {
    shelf.put("00000000000000000000.log.deleted", &run(0..10, LEN));
    shelf.put_log(10, &run(10..20, LEN));
    shelf.put_log(20, &run(20..30, LEN));
    shelf.put_log(30, &run(30..40, LEN));
    shelf.put("00000000000000000010.log.swap", result);
    shelf.put("00000000000000000010.index.swap", b"");
    // Another one, which is whole, and goes with what lies behind the damage.
    shelf.put("00000000000000000020.log.swap", &run(25..28, LEN));
}

#[test]
fn what_a_damaged_result_of_a_compaction_was_made_of_is_kept() {
    let whole = run(12..15, LEN);
    let mut flipped = whole.clone();
    flipped[size_of(LEN) + size_of(LEN) / 2] ^= 1;
    let torn_at_once = whole[..size_of(LEN) / 2].to_vec();
    for (result, end) in [(flipped, 13), (torn_at_once, 10)] {
        let shelf = Shelf::on(Sim::new());
        shelf.storage.sync_dir(Path::new("/")).unwrap();
        damaged_result(&shelf, &result);
        shelf.storage.record();
        let mut opened = give_up(&shelf, &LogState::default(), Trust::Foreign);
        assert_eq!(opened.log_end_offset, end);
        opened.finish(&shelf.storage).unwrap();
        let mut replay = shelf.storage.replay();
        loop {
            let after = Shelf::on(replay.power_cut(&PowerCut::new(0, Pages::All, Entries::Subset)));
            let mut again = give_up(&after, &LogState::default(), Trust::Foreign);
            again.finish(&after.storage).unwrap();
            assert_eq!(again.log_end_offset, end, "step {}", replay.step());
            let kept = |offsets: std::ops::Range<i64>| {
                let bytes = run(offsets, LEN);
                let is_it = |name: &String| after.get(name).is_some_and(|of| of == bytes);
                after.names().iter().any(is_it)
            };
            let sources = [kept(0..10), kept(10..20), kept(20..30), kept(30..40)];
            let all = sources == [true; 4] && kept(25..28);
            assert!(all, "{end}, step {}: {:?}", replay.step(), after.names());
            if !replay.advance() {
                break;
            }
        }
    }
}

#[test]
fn giving_up_survives_power_cuts_at_every_step() {
    let shelf = Shelf::on(Sim::new());
    shelf.storage.sync_dir(Path::new("/")).unwrap();
    damaged(&shelf);
    let state = LogState::default();
    shelf.storage.record();
    let mut opened = give_up(&shelf, &state, Trust::Foreign);
    let expected = shelf.offsets(&opened);
    opened.finish(&shelf.storage).unwrap();
    let mut replay = shelf.storage.replay();
    let mut crashes = 0;
    loop {
        for seed in 0..8 {
            let cut = match seed {
                0 => PowerCut::new(0, Pages::None, Entries::None),
                1 => PowerCut::new(0, Pages::All, Entries::Subset),
                seed => PowerCut::drawn(seed),
            };
            let after = Shelf::on(replay.power_cut(&cut));
            let mut again = give_up(&after, &state, Trust::Foreign);
            again.finish(&after.storage).unwrap();
            assert_eq!(after.offsets(&again), expected, "step {}, {cut:?}", replay.step());
            let kept = |base: i64| {
                let name = format!("{base:020}.log.cut");
                after.names().iter().any(|found| found.starts_with(&name))
            };
            assert!(kept(10) && kept(20), "step {}: {:?}", replay.step(), after.names());
            crashes += 1;
        }
        if !replay.advance() {
            break;
        }
    }
    assert!(crashes > 80, "{crashes} crashes");
}
