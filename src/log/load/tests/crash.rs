//! Opening survives crashes of its own repairs, and any damage.

use super::*;
use crate::log::files::names::{FileKind, SegmentFileName};
use crate::storage::Fault;
use crate::storage::faults::{Call, Failure, Rule};
use crate::storage::sim::{Entries, Pages, PowerCut, Sim};
use proptest::prelude::*;

const LEN: usize = 60;

/// What an opening says that a later one must say again.
fn outcome<S: Storage>(shelf: &Shelf<S>, opened: &OpenedPartition) -> (i64, i64, Vec<i64>) {
    (opened.log_start_offset, opened.log_end_offset, shelf.offsets(opened))
}

/// Crashes the repair steps of an opening after each step of the disk, in many ways, and opens
/// what is left: by then it may be half repaired, and says the same.
fn crash_everywhere(prepare: fn(&Shelf<Sim>), state: &LogState, trust: Trust) {
    let shelf = Shelf::on(Sim::new());
    shelf.storage.sync_dir(Path::new("/")).unwrap();
    prepare(&shelf);
    shelf.storage.record();
    let mut opened = shelf.open(state, trust);
    let expected = outcome(&shelf, &opened);
    opened.finish(&shelf.storage).unwrap();
    assert_eq!(outcome(&shelf, &shelf.open(state, trust)), expected);
    let mut replay = shelf.storage.replay();
    let mut crashes = 0;
    loop {
        for seed in 0..12 {
            let cut = match seed {
                0 => PowerCut::new(0, Pages::None, Entries::None),
                1 => PowerCut::new(0, Pages::All, Entries::Subset),
                seed => PowerCut::drawn(seed),
            };
            let after = Shelf::on(replay.power_cut(&cut));
            let mut again = after.open(state, trust);
            assert_eq!(outcome(&after, &again), expected, "step {}, {cut:?}", replay.step());
            again.finish(&after.storage).unwrap();
            // What finish left is durable: a cut right behind it changes nothing.
            let none = PowerCut::new(seed, Pages::None, Entries::None);
            let later = Shelf::on(after.storage.power_cut(&none));
            let opened = later.open(state, trust);
            assert_eq!(outcome(&later, &opened), expected, "finished, {cut:?}");
            assert_eq!(later.names(), after.names(), "finished, {cut:?}");
            crashes += 1;
        }
        if !replay.advance() {
            break;
        }
    }
    assert!(crashes > 80, "{crashes} crashes");
}

#[test]
fn a_half_done_compaction_and_a_torn_tail_survive_crashes_of_their_repair() {
    crash_everywhere(
        |shelf| {
            shelf.put_log(0, &run(0..10, LEN));
            shelf.put_log(10, &run(10..20, LEN));
            shelf.put("00000000000000000000.log.swap", &[batch(3, b"k"), batch(14, b"k")].concat());
            shelf.put("00000000000000000015.log.swap", &batch(19, b"k"));
            shelf.put("00000000000000000000.timeindex.swap", b"");
            shelf.put("00000000000000000090.log.cleaned", b"");
            shelf.put("00000000000000000095.log.swap", &batch(96, b"undone"));
            shelf.put("00000000000000000010.index", &[0; 8]);
            shelf.put_log(20, &[&run(20..30, LEN), &batch(30, &[9; 90])[..100]].concat());
        },
        &LogState::default(),
        Trust::Foreign,
    );
}

#[test]
fn a_compaction_of_our_own_survives_crashes_of_its_repair() {
    let (_, recorded) = swaps::states();
    for trust in [Trust::SameBoot, Trust::OtherBoot] {
        crash_everywhere(
            |shelf| {
                swaps::before(shelf);
                swaps::put_results(shelf, ".swap");
            },
            &recorded,
            trust,
        );
    }
}

#[test]
fn the_end_after_a_power_cut_survives_further_ones() {
    crash_everywhere(
        |shelf| {
            shelf.put_log(0, &run(0..10, LEN));
            let hole = [run(10..14, LEN), vec![0; size_of(LEN)], run(15..20, LEN)].concat();
            shelf.put_log(10, &hole);
            shelf.put_log(20, &run(20..30, LEN));
            shelf.put("00000000000000000020.index", &[0; 8]);
            shelf.put_log(30, &run(30..32, LEN));
        },
        &LogState { recovery_point: 10, ..LogState::default() },
        Trust::OtherBoot,
    );
}

#[test]
fn a_failed_sync_is_final_and_any_other_failure_is_tried_again() {
    let calls = [Call::Rename, Call::Remove, Call::SetLen, Call::WriteAt, Call::SyncData];
    for call in calls.into_iter().chain([Call::SyncDir]) {
        for nth in 0.. {
            let fault = Fault::new(Arc::new(crate::storage::Heap::new()));
            let shelf = Shelf::on(fault.clone());
            shelf.put_log(0, &run(0..10, LEN));
            shelf.put("00000000000000000000.log.swap", &[batch(3, b"k"), batch(9, b"k")].concat());
            shelf.put_log(10, &[&run(10..20, LEN), &[1; 30][..]].concat());
            let mut opened = shelf.adopt();
            let expected = outcome(&shelf, &opened);
            fault.fail(Rule::nth(nth, Failure::Io).of(&[call]));
            let first = opened.finish(&shelf.storage);
            let fired = fault.has_fired();
            fault.heal();
            let sync = matches!(call, Call::SyncData | Call::SyncDir);
            match first {
                Ok(()) => assert!(!fired, "{call:?} {nth} failed and nobody said so"),
                Err(error) if error.kind() == crate::ErrorKind::StorageFailed => {
                    assert!(sync, "{call:?} {nth}: {error}");
                    assert!(opened.finish(&shelf.storage).is_err(), "{call:?} {nth}");
                }
                Err(_) => opened.finish(&shelf.storage).unwrap(),
            }
            assert_eq!(outcome(&shelf, &shelf.adopt()), expected, "{call:?} {nth}");
            if !fired {
                assert!(nth > 0, "{call:?} is never called");
                break;
            }
        }
    }
}

/// One thing that happens to a file.
#[derive(Debug, Clone)]
enum Damage {
    Flip { at: usize, bit: u8 },
    Zero { at: usize, len: usize },
    Cut { at: usize },
    Garbage { at: usize, bytes: Vec<u8> },
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = || 0usize..6000;
    prop_oneof![
        (at(), 0u8..8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        (at(), 1usize..700).prop_map(|(at, len)| Damage::Zero { at, len }),
        at().prop_map(|at| Damage::Cut { at }),
        (at(), prop::collection::vec(any::<u8>(), 1..80))
            .prop_map(|(at, bytes)| Damage::Garbage { at, bytes }),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        if len == 0 {
            return;
        }
        match self {
            Damage::Flip { at, bit } => bytes[at % len] ^= 1 << bit,
            Damage::Zero { at, len: count } => {
                bytes[at % len..len.min(at % len + count)].fill(0);
            }
            Damage::Cut { at } => bytes.truncate(at % len),
            Damage::Garbage { at, bytes: garbage } => {
                for (byte, new) in bytes[at % len..].iter_mut().zip(garbage) {
                    *byte = *new;
                }
            }
        }
    }
}

/// The base offset (a gap is legal there) and the leader epoch are what no CRC covers, and what
/// a foreign log may have any of: such a change can pass for another log, not for other records.
fn values(records: &[(i64, Vec<u8>)]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.1.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_to_a_file_what_is_read_is_a_prefix(
        cuts in prop::collection::vec(1i64..12, 1..5),
        which in any::<prop::sample::Index>(),
        damages in prop::collection::vec(damage(), 1..3),
        ours in any::<bool>(),
    ) {
        let shelf = Shelf::new();
        let (mut base, mut bases) = (0, Vec::new());
        for count in cuts {
            shelf.put_log(base, &run(base..base + count, LEN));
            bases.push(base);
            base += count;
        }
        let whole = shelf.records(&shelf.adopt());
        let hurt = bases[which.index(bases.len())];
        let mut bytes = shelf.get_log(hurt).unwrap();
        for damage in &damages {
            damage.apply(&mut bytes);
        }
        shelf.put_log(hurt, &bytes);
        let trust = if ours { Trust::OtherBoot } else { Trust::Foreign };
        let mut opened = shelf.open(&LogState::default(), trust);
        let found = shelf.records(&opened);
        // A file that ends with a batch could always have ended there.
        let cut = damages.iter().any(|damage| matches!(damage, Damage::Cut { .. }));
        if ours {
            prop_assert_eq!(&found[..], &whole[..found.len()]);
        } else if cut {
            let whole = values(&whole);
            prop_assert!(values(&found).iter().all(|value| whole.contains(value)));
        } else {
            prop_assert_eq!(values(&found), values(&whole[..found.len()]));
        }
        if found.len() < whole.len() && !cut {
            prop_assert!(!opened.findings.is_empty(), "records are missing without a word");
        }
        let again = shelf.open(&LogState::default(), trust);
        prop_assert_eq!(again.state(), opened.state());
        let refused = opened.read_only.is_some();
        prop_assert_eq!(opened.finish(&shelf.storage).is_err(), refused);
        if !refused {
            let later = shelf.open(&LogState::default(), trust);
            prop_assert_eq!(shelf.records(&later), found.clone());
            prop_assert!(later.findings.is_empty(), "{:?}", later.findings);
            // What is kept for the next life opens without being read.
            let clean = shelf.open(&opened.state(), Trust::Clean);
            prop_assert_eq!(clean.report.bytes_read, 0);
            prop_assert_eq!(shelf.records(&clean), found);
        }
    }

    #[test]
    fn any_bytes_open_and_what_they_open_to_opens_again(
        files in prop::collection::vec(
            (0i64..40, 0usize..5, 0usize..4, prop::collection::vec(any::<u8>(), 0..300)), 0..8,
        ),
        ours in any::<bool>(),
    ) {
        let shelf = Shelf::new();
        for (offset, kind, stage, mut bytes) in files {
            let stages = ["", ".deleted", ".cleaned", ".swap"];
            let name = SegmentFileName::live(offset, FileKind::ALL[kind]);
            if bytes.len() % 2 == 0 {
                bytes.splice(0..0, run(offset..offset + 3, 20));
            }
            shelf.put(&format!("{name}{}", stages[stage]), &bytes);
        }
        let trust = if ours { Trust::SameBoot } else { Trust::Foreign };
        let mut opened = shelf.open(&LogState::default(), trust);
        let before = outcome(&shelf, &opened);
        // What a compaction has to do with it is finished, so a second look would trust more.
        let trust = if opened.report.foreign { Trust::Foreign } else { trust };
        // A result of a compaction is recorded before it takes its name.
        let recorded = if opened.swaps { opened.state() } else { LogState::default() };
        if opened.finish(&shelf.storage).is_ok() {
            let again = shelf.open(&recorded, trust);
            prop_assert!(again.read_only.is_none());
            prop_assert_eq!(outcome(&shelf, &again), before);
        }
    }
}
