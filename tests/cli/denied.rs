//! Directories in which something may not be read or written, and logs without the files that are
//! derived from them.

use crate::files::{copy, golden};
use crate::shell::{Ended, Shell};
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Every file below a folder, and the folders.
fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(all_below(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

fn allow(path: &Path, mode: u32) {
    set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A directory with two topics of two partitions, which everybody may read and write.
fn open_to_all() -> Shell {
    let shell = Shell::new();
    for topic in ["t", "u"] {
        shell.ok(&["topics", "create", topic, "--partitions", "2"]);
        for partition in ["0", "1"] {
            shell.feed(&["produce", topic, "--partition", partition], b"one\ntwo\n");
        }
    }
    shell.ok(&["consume", "t", "--group", "g"]);
    allow(shell.dir().parent().unwrap(), 0o755);
    for path in all_below(shell.dir()) {
        allow(&path, if path.is_dir() { 0o777 } else { 0o666 });
    }
    shell
}

/// Runs the program as somebody whom permissions bind.
fn as_nobody(shell: &Shell, arguments: &[&str], stdin: &[u8]) -> Ended {
    let other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    match rustix::process::geteuid().is_root() {
        true => shell.run_under(&other, arguments, stdin),
        false => shell.run(arguments, stdin),
    }
}

/// Whether anybody can be nobody here.
fn can_be_nobody(shell: &Shell) -> bool {
    let there = std::process::Command::new("setpriv").arg("--version").output().is_ok();
    let able = there && as_nobody(shell, &["topics", "list"], b"").code == 0;
    if !able {
        println!("skip: the program cannot be run as another user here");
    }
    able
}

/// What was refused is told with its path and the reason.
fn refused(ended: &Ended, path: &Path) {
    assert_eq!(ended.code, 1, "{ended:?}");
    let told = [&ended.stdout[..], &ended.stderr].concat();
    assert!(told.contains(path.to_str().unwrap()), "{}: {ended:?}", path.display());
    assert!(told.to_lowercase().contains("permission denied"), "{ended:?}");
}

#[test]
fn what_may_not_be_read_is_told_and_hides_nothing_else() {
    let shell = open_to_all();
    if !can_be_nobody(&shell) {
        return;
    }
    let run = |words: &[&str]| as_nobody(&shell, words, b"");
    let produce = |words: &[&str]| as_nobody(&shell, &[&["produce", "t"], words].concat(), b"x\n");
    let log = shell.dir().join(format!("t-0/{:020}.log", 0));
    let folder = shell.dir().join("t-0");
    for (path, mode) in [(&log, 0o666), (&folder, 0o777)] {
        allow(path, 0);
        for words in [&["consume", "t"][..], &["consume", "t", "--partition", "0"]] {
            refused(&run(words), path);
        }
        refused(&run(&["verify"]), path);
        refused(&produce(&["--partition", "0"]), path);
        for words in [&["consume", "t", "--partition", "1"], &["consume", "u", "--partition", "0"]]
        {
            let ended = run(words);
            assert_eq!((ended.code, &ended.stdout[..]), (0, "one\ntwo\n"), "{ended:?}");
        }
        allow(path, mode);
        assert_eq!(run(&["consume", "t", "--partition", "0"]).stdout, "one\ntwo\n");
    }
    assert_eq!(run(&["verify"]).code, 0);
}

#[test]
fn a_directory_that_may_not_be_listed_or_written_is_named() {
    let shell = open_to_all();
    if !can_be_nobody(&shell) {
        return;
    }
    let run = |words: &[&str]| as_nobody(&shell, words, b"");
    let produce = |words: &[&str]| as_nobody(&shell, &[&["produce", "t"], words].concat(), b"x\n");
    let dir = shell.dir().to_owned();
    allow(&dir, 0);
    for words in [&["consume", "t"][..], &["verify"], &["topics", "list"], &["groups", "list"]] {
        refused(&run(words), &dir);
    }
    refused(&produce(&[]), &dir);
    // What may only be read can be read, as by who attaches.
    for path in all_below(&dir) {
        allow(&path, if path.is_dir() { 0o555 } else { 0o444 });
    }
    allow(&dir, 0o555);
    let ended = run(&["consume", "t", "--partition", "1"]);
    assert_eq!((ended.code, &ended.stdout[..]), (0, "one\ntwo\n"), "{ended:?}");
    assert_eq!(run(&["verify"]).code, 0);
    assert_eq!(run(&["groups", "describe", "g"]).code, 0);
    refused(&run(&["consume", "t", "--group", "g"]), &dir);
    refused(&produce(&[]), &dir);
    refused(&run(&["topics", "create", "v", "--partitions", "1"]), &dir);
    for path in all_below(&dir) {
        allow(&path, if path.is_dir() { 0o777 } else { 0o666 });
    }
    for name in ["topiclite.state", "topiclite.registry", ".lock"] {
        let file = dir.join(name);
        allow(&file, 0);
        refused(&produce(&["--partition", "0"]), &file);
        allow(&file, 0o666);
    }
    assert_eq!(run(&["consume", "t", "--partition", "0"]).stdout, "one\ntwo\n");
}

/// Takes away what is derived from the logs of user topics.
fn drop_derived(dir: &Path) -> usize {
    let derived = |path: &PathBuf| {
        let ending = path.extension().is_some_and(|ending| {
            ["index", "timeindex", "txnindex", "snapshot"].iter().any(|known| ending == *known)
        });
        ending && !path.to_str().unwrap().contains("/__")
    };
    let found: Vec<PathBuf> = all_below(dir).into_iter().filter(derived).collect();
    for path in &found {
        std::fs::remove_file(path).unwrap();
    }
    found.len()
}

#[test]
fn a_log_without_its_indexes_is_read_and_searched_as_with_them() {
    for case in ["plain", "transactions", "compact-transactions", "roll-by-time"] {
        let shell = Shell::new();
        copy(&golden(case).join("data"), shell.dir());
        let topics = shell.ok(&["topics", "list"]);
        let look = || {
            let one = |topic: &str| {
                let isolation = ["--isolation", "read_committed"];
                let all = shell.ok(&["consume", topic, "--format", "%p %o %T %k %s\\n"]);
                let committed = shell.ok(&[&["consume", topic][..], &isolation].concat());
                let from = shell.ok(&["consume", topic, "--from", "5", "--format", "%p %o\\n"]);
                let ends = shell.ok(&["offsets", topic]);
                [all, committed, from, ends]
            };
            topics.lines().map(one).collect::<Vec<_>>()
        };
        let before = look();
        assert_eq!(shell.run(&["verify"], b"").code, 0, "{case}");
        assert!(drop_derived(shell.dir()) > 2, "{case}");
        assert_eq!(look(), before, "{case}: attached");
        let verified = shell.run(&["verify"], b"");
        assert_eq!(verified.code, 1, "{case}: {verified:?}");
        let told = |line: &str| line.starts_with("derived-file: ") || line.contains(" findings");
        assert!(verified.stdout.lines().all(told), "{case}: {verified:?}");
        // The owner writes them anew.
        for topic in topics.lines() {
            shell.ok(&["consume", topic, "--group", "g"]);
        }
        assert_eq!(look(), before, "{case}: behind an owner");
    }
}
