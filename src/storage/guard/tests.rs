//! Faults of every kind, and where each of them goes. What ends a process, or changes its
//! handlers, runs in a child.

use super::*;
use crate::storage::{File, Fs, Region, Storage};
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

const ROLE: &str = "TOPICLITE_GUARD_CHILD";
const PAGE: usize = 4096;

/// A mapped file of four pages, of which the first `published` bytes are.
fn file(
    dir: &Path,
    published: usize,
) -> (crate::sync::Arc<dyn File>, crate::storage::RegionWriter) {
    let file = Fs::new().create(&dir.join("a.log"), 8 * PAGE as u64, 4 * PAGE as u64).unwrap();
    let mut writer = file.region().unwrap().writer().unwrap();
    writer.write(0, &vec![7; published]);
    writer.publish(published);
    (file, writer)
}

fn cut(dir: &Path, len: u64) {
    OpenOptions::new().write(true).open(dir.join("a.log")).unwrap().set_len(len).unwrap();
}

#[test]
fn a_store_without_a_page_marks_the_region_and_keeps_what_is_published() {
    let home = tempfile::tempdir().unwrap();
    let (file, mut writer) = file(home.path(), PAGE + 10);
    cut(home.path(), PAGE as u64 + 10);
    writer.write(PAGE + 10, &[9; PAGE * 2]);
    assert!(writer.has_failed());
    let region = file.region().unwrap();
    assert_eq!(region.lost_from(), usize::MAX, "the page of the border is still there");
    assert!(region.read(0..PAGE + 10).iter().all(|byte| *byte == 7));
    // The rest of the region takes stores without a fault, and none of them gets anywhere.
    writer.write(PAGE * 4 - 1, &[9]);
    let why = file.store_error(PAGE as u64 + 10);
    assert!(crate::storage::CutByAnother::is_in(&why), "{why}");
    assert!(file.allocate(5 * PAGE as u64).is_err(), "zeros would take the place of what was cut");
}

#[test]
fn a_read_without_a_page_is_told_and_the_page_is_no_zeros_for_others() {
    let home = tempfile::tempdir().unwrap();
    let (file, writer) = file(home.path(), PAGE * 3);
    let region = file.region().unwrap();
    let sum = |range: std::ops::Range<usize>| {
        let read = || region.read(range.clone()).iter().map(|byte| u64::from(*byte)).sum::<u64>();
        region.reading(read)
    };
    assert_eq!(sum(0..PAGE * 3), Some(7 * 3 * PAGE as u64));
    cut(home.path(), PAGE as u64);
    assert_eq!(sum(0..PAGE), Some(7 * PAGE as u64));
    assert!(!writer.has_failed());
    assert_eq!(sum(PAGE * 2..PAGE * 2 + 1), None);
    assert_eq!(region.lost_from(), PAGE * 2);
    assert_eq!(sum(PAGE..PAGE * 3), None, "also once more, and over several pages");
    assert_eq!(region.lost_from(), PAGE);
    assert!(region.touch(0..PAGE) && !region.touch(0..PAGE + 1));
    let held = SECTION.with(|section| (section.start.get(), section.count.get()));
    assert_eq!(held, (0, 0), "nothing is left of the sections");
}

#[test]
fn more_lost_runs_than_are_noted_are_no_zeros_either() {
    let home = tempfile::tempdir().unwrap();
    let pages = RUNS * 3;
    let file = Fs::new().create(&home.path().join("a.log"), 1 << 20, (pages * PAGE) as u64);
    let file = file.unwrap();
    let region = file.region().unwrap();
    let mut writer = region.writer().unwrap();
    writer.write(0, &vec![7; pages * PAGE]);
    writer.publish(pages * PAGE);
    let lost = || (1..pages).step_by(2);
    let base = region.read(0..1).as_ptr().addr();
    let noted = region.reading(|| {
        SECTION.with(|section| assert!(lost().all(|page| section.note(base + page * PAGE, PAGE))));
    });
    assert_eq!(noted, None);
    for page in lost() {
        let at = page * PAGE;
        assert_eq!(region.reading(|| region.read(at..at + 1).first().copied()), None, "{page}");
    }
    assert_eq!(region.read(0..PAGE), [7; PAGE], "what was not lost is still there");
    assert_eq!(region.read(PAGE * 2..PAGE * 3), [7; PAGE]);
}

#[test]
fn sections_nest_and_each_answers_for_its_own_region() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, _writer) = file(first.path(), PAGE * 2);
    let (two, _other) = file(second.path(), PAGE * 2);
    cut(second.path(), 0);
    let (one, two) = (one.region().unwrap(), two.region().unwrap());
    let read = |region: &Region| region.read(0..1).first().copied();
    let outer = one.reading(|| (two.reading(|| read(two)), read(one)));
    assert_eq!(outer, Some((None, Some(7))));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        one.reading(|| panic!("in a section"));
    }));
    assert!(panicked.is_err());
    assert_eq!(SECTION.with(|section| section.start.get()), 0);
}

#[test]
fn the_table_grows_and_slots_are_used_again() {
    let home = tempfile::tempdir().unwrap();
    let fs = Fs::new();
    for round in 0..2 {
        let files: Vec<_> = (0..SLOTS + 10)
            .map(|number| {
                let path = home.path().join(format!("{round}-{number}"));
                let file = fs.create(&path, PAGE as u64, PAGE as u64).unwrap();
                OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
                file
            })
            .collect();
        for file in &files {
            let mut writer = file.region().unwrap().writer().unwrap();
            writer.write(0, b"x");
            assert!(writer.has_failed());
        }
    }
}

/// Runs one of the tests below in a process of its own.
fn child(name: &str) -> (ExitStatus, String) {
    let home = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("storage::guard::tests::{name}"), "--nocapture"])
        .env(ROLE, home.path())
        .output()
        .unwrap();
    (child.status, String::from_utf8_lossy(&child.stderr).into_owned())
}

fn home_of_child() -> Option<std::path::PathBuf> {
    std::env::var_os(ROLE).map(std::path::PathBuf::from)
}

/// Reads a byte, without a section.
fn read_bare(region: &Region) -> u8 {
    // Else an optimized build reads nothing.
    std::hint::black_box(region.read(0..1).first().copied().unwrap_or(0))
}

/// Has `handler` answer for SIGBUS.
fn answer_with(handler: usize, flags: c_int) {
    // SAFETY: the address is that of a function with the signature that the flags say.
    unsafe {
        let mut action: sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        libc::sigaction(libc::SIGBUS, &action, null_mut());
    }
}

extern "C" fn exit_with_43(_: c_int) {
    // SAFETY: it ends the process, and is made for handlers.
    unsafe { libc::_exit(43) }
}

extern "C" fn exit_by_address(_: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: as above; the kernel gives a valid `info`.
    unsafe { libc::_exit(if (*info).si_addr().is_null() || context.is_null() { 1 } else { 42 }) }
}

#[test]
fn a_fault_of_others_goes_to_the_handler_that_was_there() {
    for (name, code) in [("a_child_with_a_long_handler", 42), ("a_child_with_a_short_handler", 43)]
    {
        let (status, said) = child(name);
        assert_eq!(status.code(), Some(code), "{status} {said}");
        assert!(said.contains("a.log") == (code == 42), "{said}");
    }
}

#[test]
fn a_child_with_a_long_handler() {
    let Some(home) = home_of_child() else { return };
    answer_with(exit_by_address as *const () as usize, libc::SA_SIGINFO);
    let (file, _writer) = file(&home, PAGE);
    cut(&home, 0);
    // It is ours, but nobody's business: it is told, and handed on.
    read_bare(file.region().unwrap());
}

#[test]
fn a_child_with_a_short_handler() {
    let Some(home) = home_of_child() else { return };
    answer_with(exit_with_43 as *const () as usize, 0);
    let (file, mut writer) = file(&home, PAGE);
    let foreign = Fs::without_guard().open(&home.join("a.log")).unwrap();
    foreign.region().unwrap();
    cut(&home, 0);
    writer.write(PAGE, b"x");
    assert!(writer.has_failed() && file.region().unwrap().reading(|| ()).is_some());
    read_bare(foreign.region().unwrap());
}

#[test]
fn a_signal_that_somebody_sends_ends_a_process_that_has_no_handler() {
    for name in ["a_child_that_is_sent_a_signal", "a_child_that_is_sent_a_signal_by_default"] {
        let (status, said) = child(name);
        assert_eq!(status.signal(), Some(libc::SIGBUS), "{status} {said}");
    }
}

#[test]
fn a_child_that_is_sent_a_signal() {
    let Some(home) = home_of_child() else { return };
    let _file = file(&home, PAGE);
    // SAFETY: a signal to this process.
    unsafe { libc::raise(libc::SIGBUS) };
    // The standard library's handler, which was there before, answers a second one.
    unsafe { libc::raise(libc::SIGBUS) }; // SAFETY: as above.
}

#[test]
fn a_child_that_is_sent_a_signal_by_default() {
    let Some(home) = home_of_child() else { return };
    answer_with(libc::SIG_DFL, 0);
    let _file = file(&home, PAGE);
    // SAFETY: a signal to this process.
    unsafe { libc::raise(libc::SIGBUS) };
}
