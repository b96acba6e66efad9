//! Framed files: cut, flipped, stale, and of another version.

use super::*;
use crate::storage::Heap;

const PATH: &str = "/d/topiclite.test";

fn storage() -> Arc<dyn Storage> {
    let storage = Heap::new();
    storage.create_dir(Path::new("/d")).unwrap();
    Arc::new(storage)
}

fn load(storage: &Arc<dyn Storage>) -> (FramedFile, Contents) {
    FramedFile::load(storage.clone(), PATH.into(), FramedFileKind::State).unwrap()
}

fn frames(texts: &[&str]) -> Contents {
    Contents::Frames(texts.iter().map(|t| t.as_bytes().to_vec()).collect())
}

fn bytes_of(storage: &Arc<dyn Storage>) -> Vec<u8> {
    let file = storage.open(Path::new(PATH)).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

fn put(storage: &Arc<dyn Storage>, bytes: &[u8]) {
    let file = storage.create_cold(Path::new(PATH)).unwrap();
    file.write_at(0, bytes).unwrap();
}

fn three(storage: &Arc<dyn Storage>) -> Vec<u8> {
    let (mut journal, contents) = load(storage);
    assert_eq!(contents, Contents::Missing);
    journal.append(b"one", || b"one".to_vec()).unwrap();
    journal.append(b"two", || unreachable!()).unwrap();
    journal.append(b"three", || unreachable!()).unwrap();
    bytes_of(storage)
}

#[test]
fn what_was_appended_is_read_back_and_appended_to() {
    let storage = storage();
    three(&storage);
    let (mut journal, contents) = load(&storage);
    assert_eq!(contents, frames(&["one", "two", "three"]));
    journal.append(b"four", || unreachable!()).unwrap();
    assert_eq!(load(&storage).1, frames(&["one", "two", "three", "four"]));
}

#[test]
fn a_file_cut_anywhere_is_a_prefix_and_the_next_append_replaces_it() {
    let storage = storage();
    let whole = three(&storage);
    let first = HEADER_BYTES + FRAME_BYTES + 3;
    for cut in 0..whole.len() {
        put(&storage, &whole[..cut]);
        let (mut journal, contents) = load(&storage);
        match contents {
            Contents::Damaged(_) => assert!(cut < first, "{cut}"),
            Contents::Frames(frames) => {
                assert!(cut >= first && frames.len() < 3, "{cut}");
                let boundary = [first, first + FRAME_BYTES + 3].contains(&cut);
                assert_eq!(journal.will_replace(), !boundary, "{cut}");
                journal.append(b"next", || b"whole".to_vec()).unwrap();
                let after = load(&storage).1;
                let Contents::Frames(after) = after else { panic!("{after:?}") };
                assert_eq!(after.last().unwrap(), if boundary { b"next" } else { &b"whole"[..] });
            }
            Contents::Missing => panic!("{cut}"),
        }
    }
}

/// A kill leaves a frame in the page cache; the next process appends behind it; the power goes.
#[test]
#[cfg(feature = "testing")]
fn a_frame_that_a_kill_left_is_durable_before_the_next_one_is_written() {
    use crate::storage::sim::{Entries, Pages, PowerCut, Sim};
    let load = |sim: &Sim| {
        FramedFile::load(Arc::new(sim.clone()), PATH.into(), FramedFileKind::Registry).unwrap()
    };
    let sim = Sim::new();
    sim.create_dir(Path::new("/d")).unwrap();
    load(&sim).0.append(b"one", || b"one".to_vec()).unwrap();
    sim.record();
    let long = [7; 900];
    load(&sim).0.append(&long, || unreachable!()).unwrap();
    let mut replay = sim.replay();
    while !replay.next_step().unwrap().starts_with("write 912") {
        replay.advance();
    }
    replay.advance();
    let killed = replay.kill();
    let (mut journal, contents) = load(&killed);
    let Contents::Frames(found) = contents else { panic!("{contents:?}") };
    assert_eq!(found.len(), 2);
    killed.record();
    journal.append(b"three", || unreachable!()).unwrap();
    let all = [b"one".to_vec(), long.to_vec(), b"three".to_vec()];
    let mut replay = killed.replay();
    while replay.advance() {
        for seed in 0..50 {
            let cut = PowerCut::new(seed, Pages::Versions, Entries::None);
            let (_, contents) = load(&replay.power_cut(&cut));
            let Contents::Frames(found) = contents else { panic!("{contents:?}") };
            assert!(all.starts_with(&found), "{} frames", found.len());
        }
    }
    assert_eq!(load(&killed).1, Contents::Frames(all.to_vec()));
}

#[test]
fn a_flipped_bit_is_damage_or_a_lost_last_frame_and_never_another_content() {
    let storage = storage();
    let whole = three(&storage);
    let last = whole.len() - FRAME_BYTES - 5;
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        put(&storage, &bytes);
        match FramedFile::load(storage.clone(), PATH.into(), FramedFileKind::State) {
            Ok((_, Contents::Damaged(_))) => assert!(bit / 8 < last, "{bit}"),
            Ok((_, contents)) => {
                assert_eq!(contents, frames(&["one", "two"]), "{bit}");
                assert!(bit / 8 >= last);
            }
            Err(error) => panic!("{bit}: {error}"),
        }
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let storage = storage();
    let mut bytes = header(FramedFileKind::State, 1);
    bytes[11] = 2;
    let crc = crc32fast::hash(&bytes[..16]).to_be_bytes();
    bytes[16..20].copy_from_slice(&crc);
    put(&storage, &bytes);
    let error = FramedFile::load(storage, PATH.into(), FramedFileKind::State).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFormat);
}

#[test]
fn a_file_that_is_mostly_stale_is_replaced_and_stays_small() {
    let storage = storage();
    let (mut journal, _) = load(&storage);
    let payload = vec![7; 1000];
    for _ in 0..1000 {
        journal.append(&payload, || b"all of it".to_vec()).unwrap();
        assert!(journal.len <= COMPACT_BYTES_MIN);
    }
    let Contents::Frames(frames) = load(&storage).1 else { panic!() };
    assert_eq!(frames[0], b"all of it");
}
