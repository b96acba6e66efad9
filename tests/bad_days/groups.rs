//! A damaged partition of `__consumer_offsets`: what a group committed behind the damage cannot be
//! known, so nothing is said of it, and no group goes back in silence.

use crate::place::{told, value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use topiclite::{
    Broker, BrokerOptions, ConsumerConfig, Error, ErrorKind, OffsetAndMetadata, OffsetReset,
    ProducerConfig, ProducerRecord, Result, TopicConfig, TopicPartition,
};

/// Two groups, kept in different ones of the two partitions.
const GROUPS: [&str; 2] = ["a", "b"];

fn options() -> BrokerOptions {
    BrokerOptions::from_properties([("offsets.topic.num.partitions", "2")]).unwrap()
}

fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn commit(broker: &Broker, group: &str, offset: i64) -> Result<()> {
    let mut consumer = broker.consumer(ConsumerConfig::new(group).enable_auto_commit(false))?;
    consumer.assign(&[partition()])?;
    consumer.commit_sync_offsets(&BTreeMap::from([(partition(), OffsetAndMetadata::new(offset))]))
}

fn committed(broker: &Broker, group: &str) -> Result<Option<i64>> {
    let offsets = broker.admin().list_group_offsets(group)?;
    Ok(offsets.get(&partition()).map(|offset| offset.offset()))
}

/// Commits 1 to 5 of both groups, and the segment that keeps those of `a`.
fn closed(dir: &Path) -> PathBuf {
    let broker = options().open(dir).unwrap();
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    for number in 0..9 {
        let record = ProducerRecord::new("t").partition(0).value(value(number));
        producer.send_sync(record).unwrap();
    }
    drop(producer);
    for offset in 1..6 {
        for group in GROUPS {
            commit(&broker, group, offset).unwrap();
        }
    }
    broker.close().unwrap();
    // Java's hash of "a" is 97.
    dir.join("__consumer_offsets-1/00000000000000000000.log")
}

/// Where the batches begin.
fn batches(bytes: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(size) = bytes.get(at + 8..at + 12) {
        let size = i32::from_be_bytes(size.try_into().unwrap()) as usize;
        if size == 0 {
            break;
        }
        starts.push(at);
        at += 12 + size;
    }
    starts
}

type Damage = (&'static str, fn(&mut Vec<u8>, &[usize]));

const DAMAGE: [Damage; 5] = [
    ("a value is another", |bytes, at| bytes[at[3] - 20] ^= 1),
    ("the last value is another", |bytes, _| {
        let end = bytes.len() - 20;
        bytes[end] ^= 1;
    }),
    ("a base offset is another", |bytes, at| bytes[at[3] + 7] ^= 1),
    ("cut between two batches", |bytes, at| bytes.truncate(at[4])),
    ("cut in a batch", |bytes, at| bytes.truncate(at[4] + 30)),
];

fn is_told(error: &Error, file: &Path) {
    told(error, ErrorKind::CorruptRecord, &["__consumer_offsets-1", "repair"]);
    // An end that is missing is no place in a file.
    let path = error.path().unwrap();
    assert!(path == file || Some(path) == file.parent(), "{error}");
    assert_eq!(error.position().is_some(), path == file, "{error}");
}

/// What everybody is told who asks for group `a`, while `b` goes on.
fn nothing_is_said_of_a(broker: &Broker, file: &Path, owner: bool) {
    let admin = broker.admin();
    is_told(&committed(broker, "a").unwrap_err(), file);
    is_told(&admin.describe_group("a").unwrap_err(), file);
    let config = |group: &str| {
        ConsumerConfig::new(group)
            .enable_auto_commit(false)
            .auto_offset_reset(OffsetReset::Earliest)
    };
    let mut consumer = broker.consumer(config("a")).unwrap();
    consumer.assign(&[partition()]).unwrap();
    is_told(&consumer.committed(&[partition()]).unwrap_err(), file);
    for _ in 0..3 {
        is_told(&consumer.poll(Duration::ZERO).unwrap_err(), file);
        is_told(&consumer.position(&partition()).unwrap_err(), file);
    }
    // Who says where to begin reads on.
    consumer.seek(&partition(), 8).unwrap();
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().count(), 1);
    drop(consumer);

    assert_eq!(committed(broker, "b").unwrap(), Some(5));
    let mut other = broker.consumer(config("b")).unwrap();
    other.assign(&[partition()]).unwrap();
    assert_eq!(other.position(&partition()).unwrap(), 5);
    if owner {
        is_told(&commit(broker, "a", 7).unwrap_err(), file);
        is_told(&admin.delete_group("a").unwrap_err(), file);
        let mut member = broker.consumer(config("a")).unwrap();
        member.subscribe(&["t"]).unwrap();
        is_told(&member.poll(Duration::ZERO).unwrap_err(), file);
        commit(broker, "b", 6).unwrap();
        commit(broker, "b", 5).unwrap();
    }
    let failed: Vec<_> =
        broker.health().failed_partitions().map(|(partition, _)| partition.to_string()).collect();
    assert_eq!(failed, ["__consumer_offsets-1"]);
}

#[test]
fn no_group_goes_back_in_silence() {
    for (what, damage) in DAMAGE {
        println!("{what}");
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().canonicalize().unwrap().join("data");
        let file = closed(&dir);
        let mut bytes = std::fs::read(&file).unwrap();
        let starts = batches(&bytes);
        assert!(starts.len() >= 5, "{starts:?}");
        damage(&mut bytes, &starts);
        std::fs::write(&file, bytes).unwrap();
        nothing_is_said_of_a(&options().attach(&dir).unwrap(), &file, false);
        for _ in 0..2 {
            let broker = options().open(&dir).unwrap();
            nothing_is_said_of_a(&broker, &file, true);
            nothing_is_said_of_a(&options().attach(&dir).unwrap(), &file, false);
            broker.close().unwrap();
        }
        #[cfg(feature = "cli")]
        the_command_line_tells_and_repairs(&dir, &file);
    }
}

/// Both tell; afterwards the group is what its other commits say, and goes on.
#[cfg(feature = "cli")]
fn the_command_line_tells_and_repairs(dir: &Path, file: &Path) {
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_topiclite"));
        let ended = command.arg("--dir").arg(dir).args(words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        println!("{words:?} {ended:?}");
        (ended.status.code().unwrap(), text(ended.stdout), text(ended.stderr))
    };
    for words in
        [&["groups", "list"][..], &["groups", "describe", "a"], &["groups", "members", "a"]]
    {
        let (code, _, told) = run(words);
        assert_eq!(code, 1, "{words:?}");
        let folder = file.parent().unwrap().display().to_string();
        assert!(told.contains(&folder), "{words:?} {told}");
    }
    let (code, listed, _) = run(&["groups", "describe", "b"]);
    assert_eq!(code, 0, "{listed}");
    assert!(run(&["groups", "list"]).1.contains('b'));
    let planned = run(&["repair"]).1;
    assert!(planned.contains("__consumer_offsets-1") && planned.contains("give up"), "{planned}");
    let (code, done, _) = run(&["repair", "--execute"]);
    assert_eq!(code, 0);
    assert!(done.contains("__consumer_offsets-1") && done.contains("give up"), "{done}");
    assert_eq!(run(&["groups", "list"]).0, 0);
    for _ in 0..2 {
        let broker = options().open(dir).unwrap();
        let left = committed(&broker, "a").unwrap();
        println!("{left:?} is left");
        assert!(left.is_some_and(|left| (2..6).contains(&left)), "{left:?}");
        assert_eq!(committed(&broker, "b").unwrap(), Some(5));
        broker.close().unwrap();
    }
    let broker = options().open(dir).unwrap();
    commit(&broker, "a", 7).unwrap();
    broker.close().unwrap();
    assert_eq!(committed(&options().attach(dir).unwrap(), "a").unwrap(), Some(7));
}

/// A partition of which nothing is left is made anew, and nothing is told of it afterwards.
#[cfg(feature = "cli")]
#[test]
fn a_partition_of_which_nothing_is_left_is_repaired_once() {
    let removals: [fn(&Path); 2] = [
        |folder| std::fs::remove_dir_all(folder).unwrap(),
        |folder| std::fs::remove_file(folder.join("00000000000000000000.log")).unwrap(),
    ];
    for (folder, remove) in
        ["t-0", "__consumer_offsets-1"].into_iter().flat_map(|folder| removals.map(|r| (folder, r)))
    {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().canonicalize().unwrap().join("data");
        closed(&dir);
        remove(&dir.join(folder));
        let run = |words: &[&str]| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_topiclite"));
            let ended = command.arg("--dir").arg(&dir).args(words).output().unwrap();
            let out = String::from_utf8(ended.stdout).unwrap();
            println!("{folder} {words:?} {out}");
            (ended.status.code().unwrap(), out)
        };
        assert_eq!(run(&["verify"]).0, 1);
        let (code, done) = run(&["repair", "--execute"]);
        assert_eq!(code, 0);
        assert!(done.contains(folder) && done.contains("give up"), "{done}");
        assert_eq!(run(&["repair"]), (0, "nothing is to be repaired\n".to_owned()));
        assert_eq!(run(&["verify"]).0, 0);
        for round in 0..2 {
            let broker = options().open(&dir).unwrap();
            // A group is set back to the end of what is left.
            let first = if folder == "t-0" { 0 } else { 9 };
            let kept = (folder == "t-0" || round > 0).then_some(first + round);
            assert_eq!(committed(&broker, "a").unwrap(), kept, "{folder}");
            let producer = broker.producer(ProducerConfig::default()).unwrap();
            let sent = producer.send_sync(ProducerRecord::new("t").partition(0).value("x"));
            assert_eq!(sent.unwrap().offset(), first + round, "{folder}");
            commit(&broker, "a", first + round + 1).unwrap();
            drop(producer);
            broker.close().unwrap();
        }
    }
}
