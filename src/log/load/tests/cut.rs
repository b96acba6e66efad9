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
