//! Symbolic links in the place of a partition's folder or of a file: what is behind one is read,
//! and never written, cut, emptied or removed. A removal removes the link.

use crate::place::{
    Elsewhere, create, filled, letters, link_away, read, send, snapshot, topiclite,
};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use topiclite::storage::faults::{Call, Failure, Rule};
use topiclite::storage::{Fault, Fs};
use topiclite::{Broker, BrokerOptions, ErrorKind};

fn segment(dir: &Path, base: i64, ending: &str) -> PathBuf {
    dir.join("t-0").join(format!("{base:020}.{ending}"))
}

/// Reads go on, everything else is refused, and what is behind the link stays as it is.
fn is_read_only(dir: &Path, elsewhere: &Elsewhere, records: &str) {
    is_only_read(dir, elsewhere, records);
    let Some(verified) = topiclite(&["verify"], dir) else { return };
    assert!(verified.status.success(), "{verified:?}");
    let said = String::from_utf8(verified.stdout).unwrap();
    assert!(said.contains("link: ") && said.contains("0 findings, "), "{said}");
}

fn is_only_read(dir: &Path, elsewhere: &Elsewhere, records: &str) {
    assert_eq!(letters(dir).unwrap(), records);
    let broker = Broker::open(dir).unwrap();
    assert_eq!(read(&broker).unwrap(), records);
    let refused = send(&broker, 'B', 1).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{refused}");
    assert!(refused.to_string().contains("symbolic link"), "{refused}");
    assert!(broker.health().failed_partitions().next().is_some());
    broker.flush().unwrap();
    broker.close().unwrap();
    elsewhere.untouched();
    let Some(planned) = topiclite(&["repair"], dir) else { return };
    assert_eq!(planned.status.code(), Some(1));
    let said = String::from_utf8(planned.stdout).unwrap();
    assert!(said.contains("stays read-only") && said.contains("symbolic link"), "{said}");
    elsewhere.untouched();
}

#[test]
fn a_partition_behind_a_link_is_read_and_only_its_link_is_removed() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    filled(&dir, 'A', 25);
    let elsewhere = link_away(home.path(), &dir.join("t-0"));
    is_read_only(&dir, &elsewhere, &"A".repeat(25));
    // What is trimmed is not read any more, and its segments stay.
    let broker = Broker::open(&dir).unwrap();
    assert_eq!(broker.admin().delete_records("t", 0, 12).unwrap(), 12);
    broker.close().unwrap();
    elsewhere.untouched();
    let broker = Broker::open(&dir).unwrap();
    broker.admin().delete_topic("t").unwrap();
    broker.close().unwrap();
    elsewhere.untouched();
    let left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("t-0")), "{left:?}");
    // The name is free again.
    let broker = Broker::open(&dir).unwrap();
    create(&broker);
    send(&broker, 'C', 12).unwrap();
    broker.close().unwrap();
    elsewhere.untouched();
}

/// The same after a kill, when there is a tail to cut and indexes are to be written.
#[test]
fn nothing_is_repaired_through_a_link() {
    for file in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let broker = Broker::open(&dir).unwrap();
        create(&broker);
        send(&broker, 'A', 12).unwrap();
        broker.flush().unwrap();
        drop(broker);
        let elsewhere = match file {
            true => link_away(home.path(), &segment(&dir, 10, "log")),
            false => link_away(home.path(), &dir.join("t-0")),
        };
        is_read_only(&dir, &elsewhere, &"A".repeat(12));
    }
}

#[test]
fn a_half_done_deletion_removes_the_link_alone() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let fault = Fault::new(Arc::new(Fs::new()));
    fault.fail(Rule::nth(0, Failure::Io).of(&[Call::Remove]).on("-delete").sticky());
    let broker = BrokerOptions::new().storage(Arc::new(fault)).open(&dir).unwrap();
    create(&broker);
    send(&broker, 'A', 12).unwrap();
    broker.admin().delete_topic("t").unwrap();
    drop(broker);
    let entries = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let doomed = entries.filter(|path| path.to_string_lossy().ends_with("-delete"));
    let doomed: Vec<_> = doomed.collect();
    let [doomed] = &doomed[..] else { panic!("{doomed:?}") };
    let elsewhere = link_away(home.path(), doomed);
    let broker = Broker::open(&dir).unwrap();
    create(&broker);
    assert!(!doomed.is_symlink(), "the link is gone");
    elsewhere.untouched();
    broker.close().unwrap();
}

#[test]
fn half_done_swaps_and_deletions_of_files_act_on_the_links() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    filled(&dir, 'A', 25);
    let foreign = home.path().join("foreign");
    std::fs::write(&foreign, b"precious").unwrap();
    for ending in ["index.deleted", "timeindex.cleaned", "index.swap"] {
        symlink(&foreign, segment(&dir, 0, ending)).unwrap();
    }
    // Half-done work makes the partition a foreign one, and is finished before the next append.
    let broker = Broker::open(&dir).unwrap();
    send(&broker, 'B', 1).unwrap();
    broker.close().unwrap();
    assert_eq!(std::fs::read(&foreign).unwrap(), b"precious");
    assert_eq!(letters(&dir).unwrap(), "A".repeat(25) + "B");
    // A whole segment that a link swaps in makes it read-only.
    let elsewhere = link_away(home.path(), &segment(&dir, 0, "log"));
    std::fs::rename(segment(&dir, 0, "log"), segment(&dir, 0, "log.swap")).unwrap();
    is_only_read(&dir, &elsewhere, &("A".repeat(25) + "B"));
}

/// Every small file in turn stands elsewhere, with a link in its place: it is read there, and a
/// file of ours takes the place of the link when it is written.
#[test]
fn small_files_behind_links_are_replaced_and_not_written() {
    let names = [
        "topiclite.state",
        "topiclite.registry",
        ".kafka_cleanshutdown",
        "meta.properties",
        "recovery-point-offset-checkpoint",
        "replication-offset-checkpoint",
        "cleaner-offset-checkpoint",
        "t-0/partition.metadata",
        "t-0/leader-epoch-checkpoint",
        "t-0/00000000000000000010.index",
        "t-0/00000000000000000010.timeindex",
    ];
    for (name, killed) in names.into_iter().flat_map(|name| [(name, false), (name, true)]) {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        filled(&dir, 'A', 12);
        if killed {
            let broker = Broker::open(&dir).unwrap();
            send(&broker, 'K', 1).unwrap();
        }
        if !dir.join(name).exists() {
            continue;
        }
        let elsewhere = link_away(home.path(), &dir.join(name));
        let before = if killed { "A".repeat(12) + "K" } else { "A".repeat(12) };
        assert_eq!(letters(&dir).unwrap(), before, "{name}");
        let broker = Broker::open(&dir).unwrap();
        assert_eq!(read(&broker).unwrap(), before, "{name}");
        send(&broker, 'B', 9).unwrap();
        broker.admin().grow_topic("t", 2).unwrap();
        broker.close().unwrap();
        elsewhere.untouched();
        assert_eq!(letters(&dir).unwrap(), before + &"B".repeat(9), "{name}");
    }
}

/// Temporary names and names that are written anew may be taken by links, and by second names.
#[test]
fn a_file_made_anew_empties_nothing_behind_its_name() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    filled(&dir, 'A', 5);
    let foreign = home.path().join("foreign");
    std::fs::write(&foreign, b"precious").unwrap();
    let names = [
        "topiclite.state.tmp",
        "topiclite.registry.tmp",
        ".kafka_cleanshutdown.tmp",
        "recovery-point-offset-checkpoint.tmp",
        "t-0/leader-epoch-checkpoint.tmp",
    ];
    for (at, name) in names.iter().enumerate() {
        match at % 2 {
            0 => symlink(&foreign, dir.join(name)).unwrap(),
            _ => std::fs::hard_link(&foreign, dir.join(name)).unwrap(),
        }
    }
    let broker = Broker::open(&dir).unwrap();
    send(&broker, 'B', 7).unwrap();
    // Of the segment that is sealed next.
    symlink(&foreign, segment(&dir, 0, "index.tmp")).unwrap();
    broker.admin().create_topic("u", 1, Default::default()).unwrap();
    broker.close().unwrap();
    assert_eq!(std::fs::read(&foreign).unwrap(), b"precious");
    assert_eq!(letters(&dir).unwrap(), "AAAAABBBBBBB");
}

/// Indexes of the segment in use do not exist yet: links that wait for them are replaced.
#[test]
fn an_index_is_not_written_through_a_link() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let foreign = home.path().join("foreign");
    std::fs::write(&foreign, b"precious").unwrap();
    let broker = Broker::open(&dir).unwrap();
    create(&broker);
    send(&broker, 'A', 1).unwrap();
    for ending in ["index", "timeindex", "txnindex"] {
        symlink(&foreign, segment(&dir, 0, ending)).unwrap();
    }
    send(&broker, 'A', 24).unwrap();
    broker.close().unwrap();
    assert_eq!(std::fs::read(&foreign).unwrap(), b"precious");
    assert!(!segment(&dir, 0, "index").is_symlink());
    assert_eq!(letters(&dir).unwrap(), "A".repeat(25));
}

/// A file with the name of the next segment was put there by another hand: it stays.
#[test]
fn a_file_in_the_place_of_the_next_segment_stays() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let broker = Broker::open(&dir).unwrap();
    create(&broker);
    send(&broker, 'A', 5).unwrap();
    let next = segment(&dir, 10, "log");
    let foreign = home.path().join("foreign");
    std::fs::write(&foreign, b"precious").unwrap();
    std::fs::copy(&foreign, &next).unwrap();
    let refused = send(&broker, 'A', 20).unwrap_err();
    assert_eq!((refused.kind(), refused.path()), (ErrorKind::Io, Some(&*next)), "{refused}");
    assert!(refused.to_string().contains("move that away"), "{refused}");
    assert_eq!(std::fs::read(&next).unwrap(), b"precious");
    std::fs::remove_file(&next).unwrap();
    symlink(&foreign, &next).unwrap();
    assert_eq!(send(&broker, 'A', 1).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(read(&broker).unwrap(), "A".repeat(10), "reads go on");
    std::fs::remove_file(&next).unwrap();
    // One without a byte other than zero is what a segment in the making leaves.
    std::fs::write(&next, [0; 5000]).unwrap();
    send(&broker, 'A', 12).unwrap();
    broker.close().unwrap();
    assert_eq!(letters(&dir).unwrap(), "A".repeat(22));
    assert_eq!(std::fs::read(&foreign).unwrap(), b"precious");
}

/// A folder with the name of a new partition holds another topic's files, or is a link.
#[test]
fn a_folder_in_the_place_of_a_new_one_stays() {
    for link in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let (dir, other) = (home.path().join("data"), home.path().join("other"));
        filled(&other, 'B', 12);
        filled(&dir, 'A', 1);
        let broker = Broker::open(&dir).unwrap();
        broker.admin().create_topic("u", 1, Default::default()).unwrap();
        let taken = dir.join("u-0");
        match link {
            true => symlink(other.join("t-0"), &taken).unwrap(),
            false => std::fs::rename(other.join("t-0"), &taken).unwrap(),
        }
        let before = snapshot(&taken);
        let producer = broker.producer(Default::default()).unwrap();
        let sent = producer.send(topiclite::ProducerRecord::new("u").value("x"));
        let refused = sent.and_then(|sent| sent.wait());
        let refused = refused.unwrap_err();
        assert_eq!((refused.kind(), refused.path()), (ErrorKind::Io, Some(&*taken)), "{refused}");
        assert_eq!(snapshot(&taken), before);
        std::fs::rename(&taken, home.path().join("away")).unwrap();
        producer.send(topiclite::ProducerRecord::new("u").value("x")).unwrap().wait().unwrap();
        broker.close().unwrap();
    }
}
