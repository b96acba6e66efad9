//! A damaged partition of `__transaction_state`: where a transactional id stands behind the damage
//! cannot be known, so nothing is said of it, and no epoch is given twice.

use crate::doors::committed;
use crate::drawn::batches;
use crate::place::told;
use std::path::{Path, PathBuf};
use std::time::Duration;
use topiclite::{
    Broker, BrokerOptions, Error, ErrorKind, Producer, ProducerConfig, ProducerRecord, Result,
    TopicConfig, TopicPartition,
};

fn options() -> BrokerOptions {
    BrokerOptions::from_properties([("transaction.state.log.num.partitions", "2")]).unwrap()
}

fn producer(broker: &Broker, id: &str) -> Result<Producer> {
    let producer = broker.producer(ProducerConfig::default().transactional_id(id))?;
    producer.init_transactions().map(|()| producer)
}

fn send(producer: &Producer, partition: i32, value: &str) -> Result<()> {
    producer.begin_transaction()?;
    let record = ProducerRecord::new("t").partition(partition).value(value);
    producer.send_sync(record).map(drop)
}

/// A transaction of one record.
fn commit(broker: &Broker, id: &str, partition: i32, value: &str) -> Result<()> {
    let producer = producer(broker, id)?;
    send(&producer, partition, value)?;
    producer.commit_transaction()
}

/// Five transactions of each of two ids, which are kept in different partitions, the last of `a`
/// left open; and the segment that keeps what there is of `a`.
fn closed(dir: &Path) -> PathBuf {
    let broker = options().open(dir).unwrap();
    broker.admin().create_topic("t", 2, TopicConfig::default()).unwrap();
    let (a, b) = (producer(&broker, "a").unwrap(), producer(&broker, "b").unwrap());
    for number in 0..5 {
        for (place, producer) in [&a, &b].into_iter().enumerate() {
            send(producer, place as i32, &number.to_string()).unwrap();
            if number < 4 || place == 1 {
                producer.commit_transaction().unwrap();
            }
        }
    }
    drop((a, b));
    broker.close().unwrap();
    // Java's hash of "a" is 97.
    dir.join("__transaction_state-1/00000000000000000000.log")
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

fn is_told(error: &Error) {
    told(error, ErrorKind::CorruptRecord, &["__transaction_state-1", "topiclite repair"]);
    assert!(error.path().is_some(), "{error}");
}

/// What everybody is told who asks for `a`, while `b` goes on.
fn nothing_is_said_of_a(broker: &Broker, is_owner: bool) {
    let admin = broker.admin();
    is_told(&admin.describe_transaction("a").unwrap_err());
    assert!(admin.describe_transaction("b").is_ok());
    let listed = admin.list_transactions().unwrap();
    assert_eq!(listed.iter().map(|listed| listed.transactional_id()).collect::<Vec<_>>(), ["b"]);
    // What is open may be known there: nothing is said to hang.
    let places = [0, 1].map(|partition| TopicPartition::new("t", partition));
    let mut found = admin.find_hanging_transactions(&places, Duration::ZERO).unwrap();
    assert_eq!(found.pop().unwrap().unwrap(), []);
    is_told(&found.pop().unwrap().unwrap_err());
    assert_eq!(committed(broker, 0), ["0", "1", "2", "3"]);
    if is_owner {
        // The producer can only be closed.
        let refused = producer(broker, "a").unwrap_err();
        let names = ["__transaction_state-1", "init_transactions", "topiclite repair"];
        told(&refused, ErrorKind::StorageFailed, &names);
        assert!(refused.path().is_some(), "{refused}");
        is_told(admin.fence_producers(&["a"]).unwrap()[0].as_ref().unwrap_err());
        commit(broker, "b", 1, "more").unwrap();
        let plain = broker.producer(ProducerConfig::default()).unwrap();
        plain.send_sync(ProducerRecord::new("t").partition(1).value("plain")).unwrap();
    }
    let failed: Vec<_> =
        broker.health().failed_partitions().map(|(partition, _)| partition.to_string()).collect();
    assert_eq!(failed, ["__transaction_state-1"]);
}

#[test]
fn no_transactional_id_goes_back_in_silence() {
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
        it_is_told_and_repaired(&dir);
    }
}

/// As all that: it says nothing, where there is a folder that is empty no less than one that is
/// not there.
#[test]
fn a_partition_without_its_folder_is_made_anew() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().canonicalize().unwrap().join("data");
    closed(&dir);
    std::fs::remove_dir_all(dir.join("__transaction_state-1")).unwrap();
    it_is_told_and_repaired(&dir);
}

/// Who attaches is told, an owner in each life, and the command line, which repairs it.
fn it_is_told_and_repaired(dir: &Path) {
    nothing_is_said_of_a(&options().attach(dir).unwrap(), false);
    for _ in 0..2 {
        let broker = options().open(dir).unwrap();
        nothing_is_said_of_a(&broker, true);
        broker.close().unwrap();
    }
    #[cfg(feature = "cli")]
    the_command_line_tells_and_repairs(dir);
}

/// Both tell; afterwards the id goes on, under a producer id that no partition knows, and what it
/// left open can be ended.
#[cfg(feature = "cli")]
fn the_command_line_tells_and_repairs(dir: &Path) {
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_topiclite"));
        let ended = command.arg("--dir").arg(dir).args(words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        println!("{words:?} {ended:?}");
        (ended.status.code().unwrap(), text(ended.stdout), text(ended.stderr))
    };
    let find = ["transactions", "find-hanging", "--topic", "t", "--max-transaction-timeout", "0"];
    for words in [&["transactions", "list"][..], &["transactions", "describe", "a"], &find] {
        let (code, _, told) = run(words);
        assert_eq!(code, 1, "{words:?}");
        assert!(told.contains("__transaction_state-1"), "{words:?} {told}");
    }
    assert!(run(&["transactions", "list"]).1.contains('b'));
    assert_eq!(run(&["transactions", "describe", "b"]).0, 0);
    assert_eq!(run(&["transactions", "abort", "a"]).0, 1);
    let planned = run(&["repair"]).1;
    assert!(planned.contains("__transaction_state-1") && planned.contains("give up"), "{planned}");
    let (code, done, _) = run(&["repair", "--execute"]);
    assert_eq!(code, 0);
    assert!(done.contains("__transaction_state-1") && done.contains("give up"), "{done}");
    assert_eq!(run(&["transactions", "list"]).0, 0);
    let broker = options().open(dir).unwrap();
    let known = |broker: &Broker| broker.admin().describe_producers("t", 0).unwrap();
    let used = known(&broker)[0].producer_id();
    // What it had open is known, or found and ended.
    let places = [TopicPartition::new("t", 0)];
    let admin = broker.admin();
    commit(&broker, "a", 0, "next").unwrap();
    let found = admin.find_hanging_transactions(&places, Duration::ZERO).unwrap().remove(0);
    for hanging in found.unwrap() {
        println!("{hanging:?}");
        admin.abort_transaction("t", 0, hanging.producer().producer_id()).unwrap();
    }
    assert_eq!(committed(&broker, 0), ["0", "1", "2", "3", "next"]);
    assert_eq!(known(&broker).iter().filter(|known| known.producer_id() != used).count(), 1);
    broker.close().unwrap();
    let broker = options().open(dir).unwrap();
    commit(&broker, "a", 0, "last").unwrap();
    assert_eq!(committed(&broker, 0), ["0", "1", "2", "3", "next", "last"]);
    broker.close().unwrap();
}
