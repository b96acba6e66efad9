//! What the stamps of a close are for: ends that are known without opening a folder, and which
//! nothing that happened to a file gets past.

#![allow(clippy::disallowed_methods)] // What happens to files does not come through our door.

use crate::storage::{Fs, Storage};
use crate::sync::Arc;
use crate::time::VirtualClock;
use crate::{
    Broker, BrokerOptions, ErrorKind, IsolationLevel, OffsetSpec, ProducerConfig, ProducerRecord,
    TopicConfig,
};
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

const STAMPS: &str = "topiclite.stamps";
const RECORDS: i64 = 40;
/// 2100: whatever the files say of their times is long ago.
const NOW_MS: i64 = 4_102_444_800_000;

fn open(dir: &Path) -> Broker {
    open_at(dir, NOW_MS)
}

fn open_at(dir: &Path, wall_ms: i64) -> Broker {
    let clock = VirtualClock::stepping().starting_at(wall_ms).clock();
    let storage: Arc<dyn Storage> = Arc::new(Fs::new());
    BrokerOptions::new().clock(clock).storage(storage).open(dir).unwrap()
}

/// A directory with a topic of two partitions, the first of several segments, closed.
fn closed() -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let broker = open(&dir);
    let small = TopicConfig::default().segment_bytes(1 << 20);
    broker.admin().create_topic("t", 2, small).unwrap();
    fill(&broker, 0);
    fill(&broker, 1);
    broker.close().unwrap();
    (temp, dir)
}

fn fill(broker: &Broker, partition: i32) {
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    for _ in 0..RECORDS {
        let record = ProducerRecord::new("t").value(vec![7; 50_000]).partition(partition);
        producer.send_sync(record).unwrap();
    }
    producer.close().unwrap();
}

fn end(broker: &Broker, partition: i32) -> crate::Result<i64> {
    let isolation = IsolationLevel::ReadUncommitted;
    let listed = broker.admin().list_offsets("t", partition, OffsetSpec::Latest, isolation)?;
    Ok(listed.offset().unwrap_or(-1))
}

fn is_opened(broker: &Broker, partition: i32) -> bool {
    let found = broker.inner().topic("t").unwrap().partition(partition).unwrap();
    found.log().unwrap().is_opened()
}

/// The segments of a partition, oldest first.
fn segments(dir: &Path, partition: i32) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join(format!("t-{partition}"))).unwrap();
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
    found.sort();
    found
}

#[test]
fn an_end_is_known_without_opening_what_nobody_was_in_since_a_close() {
    let (_temp, dir) = closed();
    assert!(segments(&dir, 0).len() > 1);
    // Also where a life looked at nothing, or at one of them, or wrote to the other.
    for round in 0..3 {
        let broker = open(&dir);
        assert_eq!(end(&broker, 0).unwrap(), RECORDS);
        assert!(!is_opened(&broker, 0), "round {round}");
        if round == 1 {
            fill(&broker, 1);
            assert_eq!(end(&broker, 1).unwrap(), 2 * RECORDS);
        }
        broker.close().unwrap();
    }
    let broker = open(&dir);
    assert_eq!(end(&broker, 1).unwrap(), 2 * RECORDS);
    assert!(!is_opened(&broker, 1), "what was written and closed is known, too");
    broker.close().unwrap();
}

#[test]
fn nothing_that_happens_to_a_file_gets_past_a_stamp() {
    type Change = fn(&Path, &[PathBuf]);
    let damages: [(&str, Change); 5] = [
        ("a cut", |_, segments| {
            let last = fs::File::options().write(true).open(segments.last().unwrap()).unwrap();
            last.set_len(last.metadata().unwrap().len() - 1).unwrap();
        }),
        ("a cut of an older one", |_, segments| {
            fs::File::options().write(true).open(&segments[0]).unwrap().set_len(50_100).unwrap();
        }),
        ("a segment that is gone", |_, segments| fs::remove_file(&segments[0]).unwrap()),
        ("the last batch overwritten, in the same length", |_, segments| {
            let last = fs::File::options().write(true).open(segments.last().unwrap()).unwrap();
            let len = last.metadata().unwrap().len();
            last.write_all_at(&[0; 50_000], len - 50_000).unwrap();
            last.write_all_at(&[0xff; 60], len - 50_000 - 70).unwrap();
        }),
        ("an empty folder", |folder, _| {
            for entry in fs::read_dir(folder).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }),
    ];
    for (what, damage) in damages {
        let (_temp, dir) = closed();
        damage(&dir.join("t-0"), &segments(&dir, 0));
        for life in 0..2 {
            let broker = open(&dir);
            let told = end(&broker, 0).unwrap_err();
            assert_eq!(told.kind(), ErrorKind::CorruptRecord, "{what}, life {life}: {told}");
            assert_eq!(end(&broker, 1).unwrap(), RECORDS, "{what}");
            broker.close().unwrap();
        }
    }
}

#[test]
fn what_a_close_did_not_leave_is_opened() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("no stamps", |dir| fs::remove_file(dir.join(STAMPS)).unwrap()),
        ("stamps that cannot be read", |dir| fs::write(dir.join(STAMPS), b"\xff\0").unwrap()),
        ("stamps of other files", |dir| {
            let text = fs::read_to_string(dir.join(STAMPS)).unwrap();
            let rows: Vec<_> = text.lines().skip(2).map(|row| format!("{row}7\n")).collect();
            fs::write(dir.join(STAMPS), format!("0\n{}\n{}", rows.len(), rows.concat())).unwrap();
        }),
        ("a file of a compaction", |dir| {
            fs::write(dir.join("t-0/00000000000000000000.log.cleaned"), b"").unwrap();
        }),
        ("a folder behind a link", |dir| {
            fs::rename(dir.join("t-0"), dir.join("elsewhere")).unwrap();
            symlink(dir.join("elsewhere"), dir.join("t-0")).unwrap();
        }),
    ];
    for (what, change) in changes {
        let (_temp, dir) = closed();
        change(&dir);
        let broker = open(&dir);
        assert_eq!(end(&broker, 0).unwrap(), RECORDS, "{what}");
        assert!(is_opened(&broker, 0), "{what}");
        broker.close().unwrap();
    }
}

#[test]
fn what_changed_within_a_tick_of_the_clock_is_left_no_stamp() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let broker = open_at(&dir, 1_000);
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    fill(&broker, 0);
    broker.close().unwrap();
    assert!(!dir.join(STAMPS).exists());
    let broker = open(&dir);
    assert_eq!(end(&broker, 0).unwrap(), RECORDS);
    assert!(is_opened(&broker, 0));
    broker.close().unwrap();
}

#[test]
fn a_life_that_was_killed_is_no_business_of_stamps() {
    let (_temp, dir) = closed();
    let broker = open(&dir);
    fill(&broker, 1);
    drop(broker);
    let broker = open(&dir);
    assert_eq!((end(&broker, 0).unwrap(), end(&broker, 1).unwrap()), (RECORDS, 2 * RECORDS));
    assert!(is_opened(&broker, 0) && is_opened(&broker, 1));
    broker.close().unwrap();
}
