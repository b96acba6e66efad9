//! FIFOs, sockets and devices in the place of files and folders: an error at once, or, where the
//! file decides nothing, none. Nobody waits for the other end.

use crate::place::{filled, letters, send, topiclite};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;
use topiclite::{Broker, Error, ErrorKind, ProducerConfig, ProducerRecord, TopicConfig};

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

/// What stands in the place of one file hides neither the others of its partition nor those of
/// the partitions behind it.
#[test]
fn a_check_and_a_repair_go_on_behind_a_special_file() {
    for (name, kind) in
        [("b-0/00000000000000000000.log", "FIFO"), ("b-0/00000000000000000000.index", "socket")]
    {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let broker = Broker::open(&dir).unwrap();
        for topic in ["a", "b", "c"] {
            let config = TopicConfig::default().segment_bytes(1 << 20);
            broker.admin().create_topic(topic, 1, config).unwrap();
            let producer = broker.producer(ProducerConfig::default()).unwrap();
            let value = vec![b'x'; 100_000];
            for _ in 0..12 {
                producer.send(ProducerRecord::new(topic).value(&value)).unwrap().wait().unwrap();
            }
        }
        broker.close().unwrap();
        std::fs::remove_file(dir.join(name)).unwrap();
        assert!(put(kind, &dir.join(name)));
        let flipped = ["b-0/00000000000000000010.log", "c-0/00000000000000000000.log"];
        for path in flipped {
            let mut bytes = std::fs::read(dir.join(path)).unwrap();
            bytes[50_000] ^= 1;
            std::fs::write(dir.join(path), bytes).unwrap();
        }

        let broker = Broker::attach(&dir).unwrap();
        let found = broker.admin().verify_partition("b", 0).unwrap();
        let found: Vec<_> = found.iter().map(|found| (found.kind.name(), &found.path)).collect();
        assert!(found.contains(&("unreadable", &dir.join(name))), "{found:?}");
        assert!(found.contains(&("corrupt", &dir.join(flipped[0]))), "{found:?}");

        let Some(verified) = topiclite(&["verify"], &dir) else { return };
        let said = String::from_utf8(verified.stdout).unwrap();
        assert_eq!(verified.status.code(), Some(1), "{said}");
        for path in flipped.iter().chain([&name]) {
            assert!(said.contains(path), "{path}: {said}");
        }
        assert!(said.contains("3 partitions of 3 topics read"), "{said}");

        for args in [&["repair"][..], &["repair", "--execute"]] {
            let repaired = topiclite(args, &dir).unwrap();
            let said = String::from_utf8(repaired.stdout).unwrap();
            assert_eq!(repaired.status.code(), Some(1), "{said}");
            assert!(said.contains("b-0 stays as it is"), "{said}");
            // The partitions behind it are looked at too: what they need is counted.
            assert!(said.contains("0 changes "), "{said}");
        }
    }
}

/// A file system lets a hole be larger than any memory.
#[test]
fn a_dump_of_a_file_longer_than_any_segment_is_an_error_at_once() {
    let home = tempfile::tempdir().unwrap();
    for ending in ["log", "index", "timeindex", "txnindex", "snapshot"] {
        let path = home.path().join(format!("00000000000000000000.{ending}"));
        // As long as the file system of this test lets a file be.
        let file = std::fs::File::create(&path).unwrap();
        let Some(_) = [1 << 43, 1 << 40, 1 << 32].iter().find(|len| file.set_len(**len).is_ok())
        else {
            println!("skipped: no file of 4 GiB");
            return;
        };
        let (dir, file) = (home.path().to_owned(), path.display().to_string());
        let dumped = at_once("dump", move || topiclite(&["dump", &file], &dir));
        let Some(dumped) = dumped else { return };
        let said = String::from_utf8(dumped.stderr).unwrap();
        assert_eq!(dumped.status.code(), Some(1), "{said}");
        assert!(said.contains("more than 2147483648"), "{said}");
    }
}
