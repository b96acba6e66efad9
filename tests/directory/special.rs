//! FIFOs, sockets and devices in the place of files and folders: an error at once, or, where the
//! file decides nothing, none. Nobody waits for the other end.

use crate::place::{filled, letters, send, topiclite};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;
use topiclite::{Broker, Error, ErrorKind};

/// Fails if `body` waits: far longer than anything here takes.
fn at_once<T: Send + 'static>(what: &str, body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, over) = channel();
    std::thread::spawn(move || done.send(body()));
    over.recv_timeout(Duration::from_secs(120)).unwrap_or_else(|_| panic!("{what} waits"))
}

const KINDS: [&str; 3] = ["FIFO", "socket", "device"];

/// Puts a special file there; false where this user may not.
fn put(kind: &str, path: &Path) -> bool {
    let mode = Mode::RUSR | Mode::WUSR;
    match kind {
        "FIFO" => mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap(),
        "socket" => drop(UnixListener::bind(path).unwrap()),
        // The one that gives zeros without an end.
        _ => return mknodat(CWD, path, FileType::CharacterDevice, mode, makedev(1, 5)).is_ok(),
    }
    true
}

/// The outcome of opening, appending and closing; of attaching and reading.
fn used(dir: &Path) -> [Result<(), Error>; 2] {
    let (owned, attached) = (dir.to_owned(), dir.to_owned());
    let owner = move || {
        let broker = Broker::open(owned)?;
        let sent = send(&broker, 'B', 11);
        let closed = broker.close();
        sent.and(closed)
    };
    let attached = at_once("attach", move || letters(&attached).map(drop));
    [at_once("open", owner), attached]
}

#[test]
fn a_special_file_in_the_place_of_any_file_is_told_at_once() {
    // Whether what stands there is needed by an owner, and by who attaches.
    let places = [
        (".lock", true, false),
        ("topiclite.state", true, true),
        ("topiclite.registry", true, true),
        (".kafka_cleanshutdown", true, true),
        ("meta.properties", false, false),
        ("recovery-point-offset-checkpoint", false, false),
        ("t-0", true, true),
        ("t-0/00000000000000000000.log", true, true),
        ("t-0/00000000000000000010.log", true, true),
        ("t-0/00000000000000000000.index", true, true),
        ("t-0/00000000000000000000.txnindex", true, true),
        ("t-0/00000000000000000099.log.swap", true, true),
    ];
    for kind in KINDS {
        for (name, owner, attached) in places {
            let home = tempfile::tempdir().unwrap();
            let dir = home.path().join("data");
            filled(&dir, 'A', 12);
            let path = dir.join(name);
            if path.is_dir() {
                std::fs::remove_dir_all(&path).unwrap();
            } else if path.exists() {
                std::fs::remove_file(&path).unwrap();
            }
            if !put(kind, &path) {
                println!("skipped: this user makes no devices");
                return;
            }
            let needed = [owner, attached];
            for (outcome, needed) in used(&dir).into_iter().zip(needed) {
                match (outcome, needed) {
                    (Ok(()), false) => {}
                    (Err(error), true) => {
                        let told = matches!(error.kind(), ErrorKind::Io | ErrorKind::CorruptRecord);
                        assert!(told, "{kind} at {name}: {error}");
                    }
                    (outcome, _) => panic!("{kind} at {name}: {outcome:?}"),
                }
            }
            let verify = dir.clone();
            at_once("verify", move || topiclite(&["verify"], &verify));
            let repair = dir.clone();
            at_once("repair", move || topiclite(&["repair"], &repair));
        }
    }
}

/// The files that are read and written beside the batches.
#[test]
fn a_special_file_in_the_place_of_a_small_one_never_waits() {
    for name in ["t-0/partition.metadata", "t-0/leader-epoch-checkpoint", "topiclite.state.tmp"] {
        for kind in ["FIFO", "socket"] {
            let home = tempfile::tempdir().unwrap();
            let dir = home.path().join("data");
            filled(&dir, 'A', 12);
            std::fs::remove_file(dir.join(name)).ok();
            put(kind, &dir.join(name));
            let _outcomes = used(&dir);
        }
    }
}

#[test]
fn a_dump_of_a_special_file_is_an_error_at_once() {
    let home = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let path = home.path().join(format!("{kind}-00000000000000000000.log"));
        if !put(kind, &path) {
            println!("skipped: this user makes no devices");
            return;
        }
        let (dir, file) = (home.path().to_owned(), path.display().to_string());
        let dumped = at_once("dump", move || topiclite(&["dump", &file], &dir));
        let Some(dumped) = dumped else { return };
        assert_eq!(dumped.status.code(), Some(1));
        let said = String::from_utf8(dumped.stderr).unwrap();
        assert!(said.contains(kind), "{said}");
    }
}
