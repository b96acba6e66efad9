//! Tests of the simulated disk: it can produce each state of the fault model, and no other.

use super::super::faults::{Call, Failure, Rule};
use super::super::{Fault, RegionWriter};
use super::*;
use std::collections::BTreeSet;

const SEEDS: u64 = 400;
const PAGE: usize = disk::PAGE_BYTES;

fn path(name: &str) -> &Path {
    Path::new(name)
}

/// A file of `pages` pages of `byte`, durable with its name, and its writer.
fn settled(sim: &Sim, name: &str, pages: usize, byte: u8) -> (Arc<dyn File>, RegionWriter) {
    let len = (pages * PAGE) as u64;
    let file = sim.create(path(name), len * 2, len).unwrap();
    let mut writer = file.region().unwrap().writer().unwrap();
    writer.write(0, &vec![byte; pages * PAGE]);
    file.sync_data().unwrap();
    sim.sync_dir(path("/")).unwrap();
    (file, writer)
}

fn images(sim: &Sim, pages: Pages, entries: Entries) -> impl Iterator<Item = Sim> {
    (0..SEEDS).map(move |seed| sim.power_cut(&PowerCut::new(seed, pages, entries)))
}

fn read(sim: &Sim, name: &str) -> Option<Vec<u8>> {
    sim.read_file(path(name), u64::MAX).ok()
}

fn names(sim: &Sim) -> Vec<String> {
    sim.list(path("/")).unwrap().into_iter().map(|entry| entry.name).collect()
}

/// The first byte of each page.
fn heads(sim: &Sim, name: &str) -> Vec<u8> {
    read(sim, name).unwrap().chunks(PAGE).map(|page| page[0]).collect()
}

#[test]
fn what_was_synced_survives_every_cut() {
    let sim = Sim::new();
    settled(&sim, "/f", 3, b'd');
    assert_eq!(sim.units(), 0);
    for seed in 0..SEEDS {
        let after = sim.power_cut(&PowerCut::drawn(seed));
        assert_eq!(read(&after, "/f").unwrap(), vec![b'd'; 3 * PAGE]);
    }
}

#[test]
fn unsynced_pages_are_lost_kept_and_reordered() {
    let sim = Sim::new();
    let (_file, mut writer) = settled(&sim, "/f", 2, b'o');
    writer.write(0, &[b'n'; PAGE]);
    writer.write(PAGE, &[b'n'; PAGE]);
    for pages in [Pages::Subset, Pages::Versions] {
        let seen: BTreeSet<_> =
            images(&sim, pages, Entries::All).map(|after| heads(&after, "/f")).collect();
        for outcome in ["oo", "no", "on", "nn"] {
            assert!(seen.contains(outcome.as_bytes()), "{pages:?} never gave {outcome}");
        }
    }
    let prefixes: BTreeSet<_> =
        images(&sim, Pages::Prefix, Entries::All).map(|after| heads(&after, "/f")).collect();
    let expected: BTreeSet<_> = ["oo", "no", "nn"].map(|s| s.as_bytes().to_vec()).into();
    assert_eq!(prefixes, expected, "what came later is never there alone");
}

#[test]
fn pages_are_torn_by_sectors_and_only_there() {
    let sim = Sim::new();
    let (_file, mut writer) = settled(&sim, "/f", 1, b'o');
    writer.write(0, &[b'n'; PAGE]);
    let mut torn = 0;
    for after in images(&sim, Pages::Versions, Entries::All) {
        let bytes = read(&after, "/f").unwrap();
        for sector in bytes.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is written whole");
        }
        torn += usize::from(bytes.contains(&b'o') && bytes.contains(&b'n'));
    }
    assert!(torn > 20, "{torn} of {SEEDS} images are torn");
}

#[test]
fn every_version_of_a_page_can_be_the_one_that_was_written_back() {
    let sim = Sim::new();
    let (_file, mut writer) = settled(&sim, "/f", 1, b'0');
    for version in b'1'..=b'5' {
        writer.write(0, &[version; 100]);
    }
    let seen: BTreeSet<u8> =
        images(&sim, Pages::Versions, Entries::All).flat_map(|after| heads(&after, "/f")).collect();
    assert_eq!(seen, (b'0'..=b'5').collect());
}

#[test]
fn size_and_bytes_are_kept_apart() {
    let sim = Sim::new();
    let file = sim.create_cold(path("/f")).unwrap();
    sim.sync_dir(path("/")).unwrap();
    file.write_at(0, b"abc").unwrap();
    let seen: BTreeSet<_> = images(&sim, Pages::Subset, Entries::All)
        .map(|after| read(&after, "/f").unwrap())
        .collect();
    let expected = BTreeSet::from([vec![], b"abc".to_vec(), vec![0; 3]]);
    assert_eq!(seen, expected, "nothing, all, or a size without bytes");
}

#[test]
fn a_moment_holds_over_all_files() {
    let sim = Sim::new();
    let (_a, mut a) = settled(&sim, "/a", 1, b'0');
    let (_b, mut b) = settled(&sim, "/b", 1, b'0');
    for round in b'1'..=b'9' {
        a.write(0, &[round]);
        b.write(0, &[round]);
    }
    let mut seen = BTreeSet::new();
    for after in images(&sim, Pages::Prefix, Entries::All) {
        let (a, b) = (heads(&after, "/a")[0], heads(&after, "/b")[0]);
        assert!(a == b || a == b + 1, "{a} was written before {b}");
        seen.insert((a, b));
    }
    assert_eq!(seen.len(), 19, "every moment is drawn");
}

#[test]
fn one_page_is_missing_or_there_alone() {
    let sim = Sim::new();
    let (_file, mut writer) = settled(&sim, "/f", 4, b'o');
    writer.write(0, &[b'n'; 4 * PAGE]);
    for (pages, news) in [(Pages::OneMissing, 3), (Pages::OnePresent, 1)] {
        let seen: BTreeSet<_> =
            images(&sim, pages, Entries::All).map(|after| heads(&after, "/f")).collect();
        assert_eq!(seen.len(), 4);
        assert!(seen.iter().all(|h| h.iter().filter(|b| **b == b'n').count() == news));
    }
}

#[test]
fn a_mask_enumerates_all_subsets() {
    let sim = Sim::new();
    let (file, mut writer) = settled(&sim, "/f", 3, b'o');
    writer.write(0, &[b'n'; 3 * PAGE]);
    file.allocate(5 * PAGE as u64).unwrap();
    assert_eq!(sim.units(), 4, "three pages and a length");
    let seen: BTreeSet<_> = (0..1 << sim.units())
        .map(|mask| {
            let cut = PowerCut::new(0, Pages::Mask(mask), Entries::All);
            heads(&sim.power_cut(&cut), "/f")
        })
        .collect();
    assert_eq!(seen.len(), 16);
}

#[test]
fn unsynced_names_are_lost_kept_and_reordered() {
    let sim = Sim::new();
    settled(&sim, "/old", 1, b'x');
    sim.create_cold(path("/new")).unwrap();
    sim.rename(path("/old"), path("/moved")).unwrap();
    sim.create_cold(path("/newer")).unwrap();
    let seen = |entries| -> BTreeSet<_> {
        images(&sim, Pages::All, entries).map(|after| names(&after).join(" ")).collect()
    };
    let subset = seen(Entries::Subset);
    assert_eq!(subset.len(), 8, "any subset of three edits: {subset:?}");
    assert!(subset.contains("newer old"), "a later edit without the earlier ones");
    let prefix: BTreeSet<_> =
        ["old", "new old", "moved new", "moved new newer"].map(str::to_owned).into();
    assert_eq!(seen(Entries::Prefix), prefix);
    assert_eq!(seen(Entries::None), ["old".to_owned()].into());
    sim.sync_dir(path("/")).unwrap();
    assert_eq!(seen(Entries::Subset), ["moved new newer".to_owned()].into());
}

#[test]
fn an_unsynced_removal_may_come_back_with_its_content() {
    let sim = Sim::new();
    settled(&sim, "/f", 1, b'x');
    sim.remove(path("/f")).unwrap();
    let after = sim.power_cut(&PowerCut::new(0, Pages::None, Entries::None));
    assert_eq!(read(&after, "/f").unwrap(), vec![b'x'; PAGE]);
}

#[test]
fn a_file_that_is_renamed_over_another_leaves_one_of_the_two() {
    let sim = Sim::new();
    settled(&sim, "/f", 1, b'o');
    let tmp = sim.create_cold(path("/f.tmp")).unwrap();
    tmp.write_at(0, b"new").unwrap();
    tmp.sync_data().unwrap();
    sim.rename(path("/f.tmp"), path("/f")).unwrap();
    for after in images(&sim, Pages::Versions, Entries::Subset) {
        let found = read(&after, "/f").unwrap();
        assert!(found == b"new" || found == vec![b'o'; PAGE]);
    }
}

#[test]
fn a_move_between_directories_may_keep_both_names_or_none() {
    let sim = Sim::new();
    sim.create_dir(path("/a")).unwrap();
    sim.create_dir(path("/b")).unwrap();
    sim.sync_dir(path("/")).unwrap();
    let file = sim.create_cold(path("/a/f")).unwrap();
    file.write_at(0, b"abc").unwrap();
    file.sync_data().unwrap();
    sim.sync_dir(path("/a")).unwrap();
    sim.rename(path("/a/f"), path("/b/f")).unwrap();
    let seen: BTreeSet<_> = images(&sim, Pages::All, Entries::Subset)
        .map(|after| (read(&after, "/a/f"), read(&after, "/b/f")))
        .collect();
    let abc = Some(b"abc".to_vec());
    let all = [(abc.clone(), None), (None, abc.clone()), (abc.clone(), abc), (None, None)];
    assert_eq!(seen, all.into());
}

#[test]
fn a_directory_that_is_lost_takes_its_files_along() {
    let sim = Sim::new();
    sim.create_dir(path("/d")).unwrap();
    let file = sim.create_cold(path("/d/f")).unwrap();
    file.write_at(0, b"abc").unwrap();
    file.sync_data().unwrap();
    sim.sync_dir(path("/d")).unwrap();
    let after = sim.power_cut(&PowerCut::new(0, Pages::All, Entries::None));
    assert!(names(&after).is_empty());
    sim.sync_dir(path("/")).unwrap();
    let after = sim.power_cut(&PowerCut::new(0, Pages::None, Entries::None));
    assert_eq!(read(&after, "/d/f").unwrap(), b"abc");
}

#[test]
fn a_kill_keeps_everything_and_makes_nothing_durable() {
    let sim = Sim::new();
    let (_file, mut writer) = settled(&sim, "/f", 1, b'o');
    let _lock = sim.lock(path("/.lock")).unwrap();
    writer.write(0, b"n");
    let killed = sim.kill();
    assert_eq!(heads(&killed, "/f"), b"n");
    assert_eq!(killed.boot_id(), sim.boot_id());
    killed.lock(path("/.lock")).unwrap();
    let cut = killed.power_cut(&PowerCut::new(0, Pages::None, Entries::None));
    assert_eq!(heads(&cut, "/f"), b"o");
    assert_ne!(cut.boot_id(), sim.boot_id());
    assert_ne!(cut.power_cut(&PowerCut::drawn(0)).boot_id(), cut.boot_id());
}

#[test]
fn worlds_after_a_crash_do_not_touch_each_other() {
    let sim = Sim::new();
    let (_file, mut writer) = settled(&sim, "/f", 1, b'o');
    let killed = sim.kill();
    writer.write(0, b"1");
    let file = killed.open_append(path("/f"), 0).unwrap();
    file.region().unwrap().writer().unwrap().write(0, b"2");
    assert_eq!((heads(&sim, "/f"), heads(&killed, "/f")), (b"1".to_vec(), b"2".to_vec()));
}

#[test]
fn recovery_can_crash_too() {
    let sim = Sim::new();
    settled(&sim, "/f", 1, b'o');
    let mut seen = BTreeSet::new();
    for first in images(&sim, Pages::Versions, Entries::Subset).take(20) {
        let file = first.open_append(path("/f"), 0).unwrap();
        file.region().unwrap().writer().unwrap().write(0, &[b'n'; PAGE]);
        for seed in 0..20 {
            let second = first.power_cut(&PowerCut::drawn(seed));
            seen.insert(heads(&second, "/f"));
        }
    }
    assert_eq!(seen, [b"o".to_vec(), b"n".to_vec()].into());
}

#[test]
fn a_replay_gives_what_a_crash_at_that_moment_gave() {
    let sim = Sim::new();
    settled(&sim, "/before", 2, b'o');
    sim.record();
    let mut lived = Vec::new();
    let mut look = |sim: &Sim| {
        let image = sim.power_cut(&PowerCut::drawn(sim.steps()));
        lived.push((sim.steps(), names(&image), read(&image, "/before"), read(&image, "/f")));
    };
    let old = sim.open_append(path("/before"), 0).unwrap();
    old.region().unwrap().writer().unwrap().write(7, b"seven");
    look(&sim);
    let file = sim.create(path("/f"), 1 << 16, 1 << 13).unwrap();
    look(&sim);
    let mut writer = file.region().unwrap().writer().unwrap();
    for i in 0..50 {
        writer.write(i * 100, &[i as u8; 100]);
        writer.publish(i * 100);
        look(&sim);
    }
    file.sync_data().unwrap();
    look(&sim);
    sim.rename(path("/f"), path("/g")).unwrap();
    drop(writer);
    file.set_len(6000).unwrap();
    look(&sim);
    let mut replay = sim.replay();
    for (step, names_then, before_then, f_then) in lived {
        replay.advance_to(step);
        let image = replay.power_cut(&PowerCut::drawn(step));
        assert_eq!(replay.step(), step);
        assert_eq!(names(&image), names_then);
        assert_eq!((read(&image, "/before"), read(&image, "/f")), (before_then, f_then));
    }
    assert_eq!(replay.steps_left(), 0);
    assert_eq!(read(&replay.kill(), "/g"), read(&sim, "/g"));
}

#[test]
fn a_process_can_die_inside_a_store() {
    let sim = Sim::new();
    let (_file, mut writer) = settled(&sim, "/f", 1, b'o');
    sim.record();
    writer.write(0, b"new");
    let replay = sim.replay();
    assert_eq!(replay.next_step().unwrap(), "write 3 bytes at 0 of file 1");
    assert_eq!(&read(&replay.kill_inside(2).unwrap(), "/f").unwrap()[..4], b"neoo");
    assert!(replay.kill_inside(3).is_none());
}

#[test]
fn writes_beside_a_sync_are_not_covered_by_it() {
    let sim = Sim::new();
    let (_file, mut writer) = settled(&sim, "/f", 1, b'o');
    writer.write(0, b"1");
    let ino = 1;
    let shared = &sim.shared;
    shared.step(&mut shared.state.lock(), Step::SyncStart(ino));
    let upto = sim.steps();
    writer.write(1, b"2");
    shared.step(&mut shared.state.lock(), Step::SyncEnd { ino, upto });
    let after = sim.power_cut(&PowerCut::new(0, Pages::None, Entries::None));
    assert_eq!(&read(&after, "/f").unwrap()[..3], b"1oo");
    let after = sim.power_cut(&PowerCut::new(0, Pages::All, Entries::None));
    assert_eq!(&read(&after, "/f").unwrap()[..3], b"12o");
}

#[test]
fn pages_that_a_failed_sync_dropped_stay_lost_until_they_change() {
    let sim = Sim::new();
    settled(&sim, "/f", 2, b'o');
    let fault = Fault::new(Arc::new(sim.clone()));
    fault.fail(Rule::nth(0, Failure::IoPagesLost).of(&[Call::SyncData]));
    let file = fault.open_append(path("/f"), 0).unwrap();
    let mut writer = file.region().unwrap().writer().unwrap();
    writer.write(0, b"n");
    writer.write(PAGE, b"n");
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(heads(&sim, "/f"), b"nn", "the page cache has them");
    let after = sim.power_cut(&PowerCut::new(0, Pages::All, Entries::All));
    assert_eq!(heads(&after, "/f"), b"oo", "the disk does not, although a sync succeeded");
    writer.write(1, b"x");
    file.sync_data().unwrap();
    let after = sim.power_cut(&PowerCut::new(0, Pages::None, Entries::All));
    assert_eq!(heads(&after, "/f"), b"no", "a page that changes again is written whole");
}

#[test]
fn a_full_disk_refuses_and_leaves_the_file() {
    let sim = Sim::with_capacity(3 * PAGE);
    let file = sim.create(path("/f"), 1 << 20, 2 * PAGE as u64).unwrap();
    assert_eq!(sim.disk_free(path("/")).unwrap(), PAGE as u64);
    let full = file.allocate(4 * PAGE as u64).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 2 * PAGE as u64);
    assert_eq!(file.region().unwrap().prepared(), 2 * PAGE);
    let full = sim.create(path("/g"), 1 << 20, 2 * PAGE as u64).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(names(&sim), ["f"]);
    file.allocate(3 * PAGE as u64).unwrap();
}

#[test]
fn damage_is_durable_and_seen_by_readers() {
    let sim = Sim::new();
    settled(&sim, "/f", 1, b'o');
    sim.damage(path("/f"), |bytes| bytes[3] ^= 1).unwrap();
    let after = sim.power_cut(&PowerCut::drawn(3));
    assert_eq!(&read(&after, "/f").unwrap()[..5], b"ooono");
    assert_eq!(read(&sim, "/f"), read(&after, "/f"));
}

#[test]
fn removed_files_are_forgotten_once_nobody_can_reach_them() {
    let sim = Sim::new();
    let held = sim.create_cold(path("/held")).unwrap();
    held.write_at(0, b"held").unwrap();
    sim.remove(path("/held")).unwrap();
    for i in 0..10 * SWEEP_REMOVALS {
        let name = format!("/{i}");
        sim.create_cold(path(&name)).unwrap();
        sim.remove(path(&name)).unwrap();
        sim.sync_dir(path("/")).unwrap();
    }
    assert!(sim.shared.state.lock().disk.tree.nodes.len() < 2 * SWEEP_REMOVALS);
    let mut out = [0; 4];
    held.read_exact_at(0, &mut out).unwrap();
    assert_eq!(&out, b"held");
}

/// Random writes, cuts, growth and syncs on one file, watched by an oracle that keeps the whole
/// content after each change: each sector of each image must have been the disk's or the page
/// cache's since the last sync, and so must the length.
#[test]
fn no_image_holds_what_was_never_there() {
    for seed in 0..50 {
        let mut random = Random::new(seed);
        let sim = Sim::new();
        let file = sim.create_cold(path("/f")).unwrap();
        sim.sync_dir(path("/")).unwrap();
        let mut history: Vec<Vec<u8>> = vec![vec![]];
        for round in 0..200 {
            let mut content = history.last().cloned().unwrap();
            let len = content.len();
            match random.below(10) {
                0 => {
                    file.sync_data().unwrap();
                    history.clear();
                }
                1 => {
                    content.truncate(random.below(len as u64 + 1) as usize);
                    file.set_len(content.len() as u64).unwrap();
                }
                2 => {
                    content.resize(len + random.below(3000) as usize, 0);
                    file.allocate(content.len() as u64).unwrap();
                }
                _ => {
                    let at = random.below(20_000.min(len as u64 + 500)) as usize;
                    let bytes = vec![random.next() as u8; random.below(6000) as usize + 1];
                    content.resize(len.max(at + bytes.len()), 0);
                    content[at..at + bytes.len()].copy_from_slice(&bytes);
                    file.write_at(at as u64, &bytes).unwrap();
                }
            }
            history.push(content);
            let cut = PowerCut::drawn(seed << 32 | round);
            let found = read(&sim.power_cut(&cut), "/f").unwrap();
            check_against(&history, &found, &cut);
            assert_eq!(read(&sim.kill(), "/f").as_ref(), history.last());
        }
    }
}

fn check_against(history: &[Vec<u8>], found: &[u8], cut: &PowerCut) {
    let lens: BTreeSet<_> = history.iter().map(Vec::len).collect();
    assert!(lens.contains(&found.len()), "{cut:?}: a length the file never had");
    for (number, sector) in found.chunks(512).enumerate() {
        let at = number * 512;
        let known = history.iter().any(|version| {
            let stored = version.get(at..).unwrap_or(&[]);
            let common = stored.len().min(sector.len());
            stored[..common] == sector[..common] && sector[common..].iter().all(|b| *b == 0)
        });
        assert!(known, "{cut:?}: sector {number} was never like this");
    }
}

/// Reading a run backwards from its images must not depend on anything but seed and steps.
#[test]
fn the_same_cut_gives_the_same_image() {
    let run = || {
        let sim = Sim::new();
        let (_file, mut writer) = settled(&sim, "/f", 4, b'o');
        for i in 0..100 {
            writer.write(i * 130, &[i as u8; 130]);
        }
        sim.create_cold(path("/g")).unwrap();
        (0..50)
            .map(|seed| {
                let image = sim.power_cut(&PowerCut::drawn(seed));
                (read(&image, "/f"), names(&image))
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[cfg(feature = "planted-bugs")]
mod planted_bugs {
    use super::super::super::planted::enable;
    use super::*;

    #[test]
    fn without_directory_syncs_names_are_lost() {
        let _bug = enable(Planted::NoDirectorySync);
        let sim = Sim::new();
        sim.create_cold(path("/f")).unwrap();
        sim.sync_dir(path("/")).unwrap();
        let after = sim.power_cut(&PowerCut::new(0, Pages::All, Entries::None));
        assert!(names(&after).is_empty());
    }

    #[test]
    #[should_panic(expected = "SIGBUS")]
    fn a_store_into_a_sparse_file_on_a_full_disk_is_a_signal() {
        let _bug = enable(Planted::SparseFile);
        let sim = Sim::with_capacity(2 * PAGE);
        let file = sim.create(path("/f"), 1 << 20, 8 * PAGE as u64).unwrap();
        let mut writer = file.region().unwrap().writer().unwrap();
        writer.write(3 * PAGE, b"x");
    }
}
