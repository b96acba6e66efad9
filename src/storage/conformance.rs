//! One suite that every storage passes: what the trait promises, on an empty directory.

use super::{File, Storage};
use crate::sync::Arc;
use std::io::ErrorKind;
use std::path::Path;

/// Runs all checks in `dir`, which exists and is empty.
pub(super) fn check(storage: &dyn Storage, dir: &Path) {
    type Check = fn(&dyn Storage, &Path);
    let checks: [(&str, Check); 13] = [
        ("names", names_come_and_go),
        ("errors", wrong_calls_are_refused_by_kind),
        ("append", an_appended_file_grows_under_its_mapping),
        ("prepare", a_file_is_prepared_up_to_a_border_that_lies_below_its_end),
        ("read", a_finished_file_is_mapped_for_reading),
        ("reopen", a_file_is_opened_again_for_appending),
        ("cold", a_cold_file_is_written_by_position),
        ("cut", a_file_is_cut_but_never_below_what_is_published),
        ("rename", open_files_follow_their_names),
        ("remove", a_removed_file_lives_on_in_its_readers),
        ("replace", a_rename_replaces_the_file_in_the_way),
        ("lock", a_lock_is_held_once),
        ("parents", missing_parents_are_made),
    ];
    for (name, check) in checks {
        let own = dir.join(name);
        storage.create_dir(&own).unwrap();
        check(storage, &own);
    }
    let listed: Vec<_> = storage.list(dir).unwrap().into_iter().map(|e| e.name).collect();
    let mut expected: Vec<_> = checks.iter().map(|(name, _)| (*name).to_owned()).collect();
    expected.sort();
    assert_eq!(listed, expected);
}

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("a call that must fail succeeded"),
        Err(error) => error.kind(),
    }
}

fn content(file: &Arc<dyn File>) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

fn names_come_and_go(storage: &dyn Storage, dir: &Path) {
    assert!(storage.list(dir).unwrap().is_empty());
    storage.create_dir(&dir.join("b-0")).unwrap();
    storage.create_cold(&dir.join("c")).unwrap().write_at(0, b"abc").unwrap();
    storage.create(&dir.join("a"), 4096, 512).unwrap();
    storage.sync_dir(dir).unwrap();
    let listed = storage.list(dir).unwrap();
    let seen: Vec<_> = listed.iter().map(|e| (e.name.as_str(), e.is_dir, e.len)).collect();
    assert_eq!(seen, [("a", false, 512), ("b-0", true, 0), ("c", false, 3)]);
    assert_eq!(storage.metadata(&dir.join("c")).unwrap(), listed[2]);
    assert!(listed[2].modified_ms > 1_600_000_000_000, "a time after 2020");
    assert!(storage.exists(&dir.join("b-0")).unwrap());
    storage.remove_dir(&dir.join("b-0")).unwrap();
    storage.remove(&dir.join("a")).unwrap();
    assert!(!storage.exists(&dir.join("b-0")).unwrap());
    assert_eq!(storage.list(dir).unwrap().len(), 1);
    assert!(storage.disk_free(dir).unwrap() > 0);
    assert_eq!(storage.boot_id(), storage.boot_id());
}

fn wrong_calls_are_refused_by_kind(storage: &dyn Storage, dir: &Path) {
    let (there, missing, sub) = (dir.join("there"), dir.join("missing"), dir.join("sub"));
    storage.create(&there, 4096, 0).unwrap();
    storage.create_dir(&sub).unwrap();
    storage.create_cold(&sub.join("f")).unwrap();
    assert_eq!(kind(storage.create(&there, 4096, 0)), ErrorKind::AlreadyExists);
    assert_eq!(kind(storage.create(&missing, 4096, 8192)), ErrorKind::InvalidInput);
    assert!(!storage.exists(&missing).unwrap());
    assert_eq!(kind(storage.create(&missing.join("f"), 4096, 0)), ErrorKind::NotFound);
    assert_eq!(kind(storage.create_dir(&sub)), ErrorKind::AlreadyExists);
    assert_eq!(kind(storage.create_dir(&missing.join("d"))), ErrorKind::NotFound);
    assert_eq!(kind(storage.open(&missing)), ErrorKind::NotFound);
    assert_eq!(kind(storage.open(&sub)), ErrorKind::IsADirectory);
    assert_eq!(kind(storage.open_append(&missing, 4096)), ErrorKind::NotFound);
    assert_eq!(kind(storage.metadata(&missing)), ErrorKind::NotFound);
    assert_eq!(kind(storage.list(&missing)), ErrorKind::NotFound);
    assert_eq!(kind(storage.list(&there)), ErrorKind::NotADirectory);
    assert_eq!(kind(storage.remove(&missing)), ErrorKind::NotFound);
    assert_eq!(kind(storage.remove_dir(&sub)), ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(storage.remove_dir(&missing)), ErrorKind::NotFound);
    assert_eq!(kind(storage.rename(&missing, &there)), ErrorKind::NotFound);
    assert_eq!(kind(storage.sync_dir(&missing)), ErrorKind::NotFound);
    assert_eq!(
        kind(storage.read_file(&sub.join("f"), 0).and(storage.read_file(&missing, 9))),
        ErrorKind::NotFound
    );
    storage.create_cold(&sub.join("f")).unwrap().write_at(0, b"abc").unwrap();
    assert_eq!(kind(storage.read_file(&sub.join("f"), 2)), ErrorKind::FileTooLarge);
    assert_eq!(storage.read_file(&sub.join("f"), 3).unwrap(), b"abc");
}

fn an_appended_file_grows_under_its_mapping(storage: &dyn Storage, dir: &Path) {
    let file = storage.create(&dir.join("f"), 1 << 20, 4096).unwrap();
    let region = file.region().unwrap();
    assert_eq!((region.capacity(), region.prepared(), region.published()), (1 << 20, 4096, 0));
    let mut writer = region.writer().unwrap();
    writer.write(0, b"first");
    writer.publish(5);
    let held = region.read(0..5);
    file.allocate(100).unwrap();
    assert_eq!(file.len().unwrap(), 4096, "allocate never shrinks");
    file.allocate(8192).unwrap();
    assert_eq!((file.len().unwrap(), region.prepared()), (8192, 8192));
    writer.write(4094, b"across");
    assert_eq!(writer.bytes(4094..4102), b"across\0\0", "new bytes are zeros");
    writer.publish(4100);
    assert_eq!(held, b"first");
    assert_eq!(region.read(4094..4100), b"across");
    assert_eq!(kind(file.allocate((1 << 20) + 1)), ErrorKind::InvalidInput);
    file.sync_data().unwrap();
    let mut out = [0; 6];
    file.read_exact_at(4094, &mut out).unwrap();
    assert_eq!(&out, b"across");
    assert_eq!(kind(file.write_at(0, b"x")), ErrorKind::InvalidInput);
    assert_eq!(file.read_at(8192, &mut out).unwrap(), 0, "the end of the file");
    assert_eq!(file.read_at(8190, &mut out).unwrap(), 2);
    assert_eq!(kind(file.read_exact_at(8190, &mut out)), ErrorKind::UnexpectedEof);
}

fn a_file_is_prepared_up_to_a_border_that_lies_below_its_end(storage: &dyn Storage, dir: &Path) {
    let file = storage.create(&dir.join("f"), 1 << 20, 4096).unwrap();
    let region = file.region().unwrap();
    let mut writer = region.writer().unwrap();
    writer.write(0, &[7; 4096]);
    file.prepare(12_288, 65_536).unwrap();
    assert_eq!(region.prepared(), 12_288);
    assert!((12_288..=65_536).contains(&file.len().unwrap()));
    file.prepare(8192, 8192).unwrap();
    assert_eq!(region.prepared(), 12_288, "prepare never shrinks");
    assert_eq!(kind(file.prepare((1 << 20) + 1, 0)), ErrorKind::InvalidInput);
    assert!(writer.bytes(0..4096).iter().all(|byte| *byte == 7));
    assert!(writer.bytes(4096..12_288).iter().all(|byte| *byte == 0));
    file.prepare(20_000, 20_000).unwrap();
    writer.write(19_999, b"x");
    writer.publish(20_000);
    drop(writer);
    file.set_len(20_000).unwrap();
    assert_eq!((file.len().unwrap(), region.prepared()), (20_000, 20_000));
    let sealed = storage.open(&dir.join("f")).unwrap();
    assert_eq!(kind(sealed.prepare(99, 99)), ErrorKind::PermissionDenied);
}

fn a_finished_file_is_mapped_for_reading(storage: &dyn Storage, dir: &Path) {
    let path = dir.join("f");
    let file = storage.create(&path, 1 << 20, 4096).unwrap();
    let mut writer = file.region().unwrap().writer().unwrap();
    writer.write(0, b"sealed");
    writer.publish(6);
    drop(writer);
    file.set_len(6).unwrap();
    drop(file);
    let sealed = storage.open(&path).unwrap();
    let region = sealed.region().unwrap().clone();
    assert_eq!(region.read(0..region.published()), b"sealed");
    assert_eq!(kind(sealed.write_at(0, b"x")), ErrorKind::PermissionDenied);
    assert_eq!(kind(sealed.allocate(99)), ErrorKind::PermissionDenied);
    assert_eq!(kind(sealed.set_len(0)), ErrorKind::PermissionDenied);
    drop(sealed);
    assert_eq!(region.read(0..6), b"sealed", "the region outlives its file");
    storage.create_cold(&dir.join("empty")).unwrap();
    let empty = storage.open(&dir.join("empty")).unwrap();
    assert_eq!(empty.region().unwrap().published(), 0);
    assert!(empty.region().unwrap().writer().is_none());
}

fn a_file_is_opened_again_for_appending(storage: &dyn Storage, dir: &Path) {
    let path = dir.join("f");
    storage.create_cold(&path).unwrap().write_at(0, b"old torn").unwrap();
    let file = storage.open_append(&path, 4096).unwrap();
    let region = file.region().unwrap();
    assert_eq!((region.prepared(), region.published()), (8, 0));
    let mut writer = region.writer().unwrap();
    assert_eq!(writer.bytes(0..8), b"old torn");
    writer.publish(4);
    writer.zero(4..8);
    writer.write(4, b"new");
    writer.publish(7);
    assert_eq!(region.read(0..7), b"old new");
    file.sync_data().unwrap();
    drop(writer);
    drop(file);
    assert_eq!(storage.read_file(&path, 100).unwrap(), b"old new\0");
    let shorter = storage.open_append(&path, 1).unwrap();
    assert_eq!(shorter.region().unwrap().prepared(), 8, "at least its length is mapped");
    storage.create_cold(&dir.join("empty")).unwrap();
    let empty = storage.open_append(&dir.join("empty"), 0).unwrap();
    assert_eq!(empty.region().unwrap().prepared(), 0);
    empty.set_len(0).unwrap();
    empty.sync_data().unwrap();
}

fn a_cold_file_is_written_by_position(storage: &dyn Storage, dir: &Path) {
    let path = dir.join("f");
    let file = storage.create_cold(&path).unwrap();
    file.write_at(2, b"cd").unwrap();
    file.write_at(0, b"ab").unwrap();
    assert_eq!(content(&file), b"abcd");
    file.write_at(6, b"gh").unwrap();
    assert_eq!(content(&file), b"abcd\0\0gh");
    file.set_len(3).unwrap();
    assert_eq!(kind(file.set_len(4)), ErrorKind::InvalidInput);
    assert_eq!(content(&file), b"abc");
    file.allocate(5).unwrap();
    assert_eq!(content(&file), b"abc\0\0");
    file.sync_data().unwrap();
    storage.open_cold(&path).unwrap().write_at(5, b"f").unwrap();
    assert_eq!(storage.read_file(&path, 99).unwrap(), b"abc\0\0f");
    assert_eq!(kind(storage.open_cold(&dir.join("missing"))), ErrorKind::NotFound);
    let again = storage.create_cold(&path).unwrap();
    assert_eq!(again.len().unwrap(), 0, "made again, it is empty");
}

fn a_file_is_cut_but_never_below_what_is_published(storage: &dyn Storage, dir: &Path) {
    let file = storage.create(&dir.join("f"), 1 << 16, 1 << 16).unwrap();
    let region = file.region().unwrap();
    let mut writer = region.writer().unwrap();
    writer.write(0, b"abcdef");
    writer.publish(3);
    assert_eq!(kind(file.set_len(4)), ErrorKind::ResourceBusy);
    drop(writer);
    assert_eq!(kind(file.set_len(2)), ErrorKind::InvalidInput);
    file.set_len(5).unwrap();
    assert_eq!((file.len().unwrap(), region.prepared()), (5, 5));
    assert_eq!(content(&file), b"abcde");
    file.allocate(8).unwrap();
    assert_eq!(content(&file), b"abcde\0\0\0");
}

fn open_files_follow_their_names(storage: &dyn Storage, dir: &Path) {
    let (old, new) = (dir.join("t-0"), dir.join("t-0.gone"));
    storage.create_dir(&old).unwrap();
    let mapped = storage.create(&old.join("a"), 4096, 16).unwrap();
    let cold = storage.create_cold(&old.join("b")).unwrap();
    storage.rename(&old.join("b"), &old.join("c")).unwrap();
    storage.rename(&old, &new).unwrap();
    cold.write_at(0, b"cold").unwrap();
    cold.sync_data().unwrap();
    mapped.allocate(32).unwrap();
    mapped.sync_data().unwrap();
    assert!(!storage.exists(&old).unwrap());
    assert_eq!(storage.metadata(&new.join("a")).unwrap().len, 32);
    assert_eq!(storage.read_file(&new.join("c"), 99).unwrap(), b"cold");
}

fn a_removed_file_lives_on_in_its_readers(storage: &dyn Storage, dir: &Path) {
    let path = dir.join("f");
    let file = storage.create(&path, 4096, 16).unwrap();
    let mut writer = file.region().unwrap().writer().unwrap();
    writer.write(0, b"kept");
    writer.publish(4);
    storage.remove(&path).unwrap();
    assert_eq!(file.region().unwrap().read(0..4), b"kept");
    file.sync_data().unwrap();
    storage.create(&path, 4096, 16).unwrap();
    assert_eq!(storage.read_file(&path, 99).unwrap(), [0; 16], "another file of that name");
}

fn a_rename_replaces_the_file_in_the_way(storage: &dyn Storage, dir: &Path) {
    let (tmp, target) = (dir.join("f.tmp"), dir.join("f"));
    storage.create_cold(&target).unwrap().write_at(0, b"old").unwrap();
    let before = storage.open(&target).unwrap();
    let held = before.region().unwrap().clone();
    storage.create_cold(&tmp).unwrap().write_at(0, b"new!").unwrap();
    storage.rename(&tmp, &target).unwrap();
    storage.sync_dir(dir).unwrap();
    assert_eq!(storage.read_file(&target, 99).unwrap(), b"new!");
    assert_eq!(held.read(0..3), b"old");
    assert_eq!(storage.list(dir).unwrap().len(), 1);
}

fn a_lock_is_held_once(storage: &dyn Storage, dir: &Path) {
    let path = dir.join(".lock");
    let lock = storage.lock(&path).unwrap();
    let refused = storage.lock(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    let holder = super::HeldElsewhere::of(&refused).unwrap();
    assert_eq!(holder.pid, Some(std::process::id()));
    assert!(refused.to_string().contains(&std::process::id().to_string()));
    drop(lock);
    drop(storage.lock(&path).unwrap());
    drop(storage.lock(&path).unwrap());
    assert_eq!(kind(storage.lock(&dir.join("missing/.lock"))), ErrorKind::NotFound);
}

fn missing_parents_are_made(storage: &dyn Storage, dir: &Path) {
    storage.create_dir_all(&dir.join("a/b/c")).unwrap();
    storage.create_dir_all(&dir.join("a/b/c")).unwrap();
    assert!(storage.metadata(&dir.join("a/b/c")).unwrap().is_dir);
}

#[test]
fn real_files_conform() {
    let dir = tempfile::tempdir().unwrap();
    let fs = super::Fs::new();
    check(&fs, dir.path());
    assert_eq!((fs.mappings(), fs.descriptors()), (0, 0), "all were let go of");
}

#[test]
fn real_files_conform_with_one_descriptor_kept() {
    let dir = tempfile::tempdir().unwrap();
    check(&super::Fs::with_descriptors_max(1), dir.path());
}

#[test]
fn memory_conforms() {
    let heap = super::Heap::new();
    heap.create_dir(Path::new("/d")).unwrap();
    check(&heap, Path::new("/d"));
}

#[test]
fn the_simulated_disk_conforms() {
    let sim = super::Sim::new();
    sim.create_dir(Path::new("/d")).unwrap();
    check(&sim, Path::new("/d"));
}

#[test]
fn a_simulated_disk_after_a_crash_conforms() {
    let sim = super::Sim::new();
    check(&sim, Path::new("/"));
    for (after, dir) in [(sim.kill(), "/kill"), (sim.kill().kill(), "/again")] {
        after.create_dir(Path::new(dir)).unwrap();
        check(&after, Path::new(dir));
    }
}

#[test]
fn a_storage_under_a_fault_plan_without_rules_conforms() {
    let fault = super::Fault::new(Arc::new(super::Heap::new()));
    fault.create_dir(Path::new("/d")).unwrap();
    check(&fault, Path::new("/d"));
    assert!(fault.calls() > 100);
}
