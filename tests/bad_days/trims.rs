//! Records that an administrator deletes under transactions, one offset after the other: what is
//! left is the same through every door, to the end of the transaction that was open.

use crate::doors::{Truth, by_all};
use std::path::Path;
use topiclite::{
    Broker, BrokerOptions, IsolationLevel, Producer, ProducerConfig, ProducerRecord, ReadFrom,
    TopicConfig,
};

const LEVELS: [IsolationLevel; 2] =
    [IsolationLevel::ReadCommitted, IsolationLevel::ReadUncommitted];

/// What was written, and what a reader of committed records is to see of it.
#[derive(Default)]
struct Written {
    all: Truth,
    committed: Truth,
    /// Where the transaction begins that stays open.
    open: i64,
}

impl Written {
    fn send(&mut self, producer: &Producer, count: u8, committed: bool) {
        for at in 0..count {
            let value = vec![self.all.len() as u8, at];
            let record = ProducerRecord::new("t").partition(0).value(&value);
            let offset = producer.send(record).unwrap().wait().unwrap().offset();
            self.all.insert(offset, value.clone());
            if committed {
                self.committed.insert(offset, value);
            }
        }
    }

    /// From `start` on, by this level, while the last transaction is open or when it was ended.
    fn left(&self, start: i64, level: IsolationLevel, is_open: bool) -> Truth {
        let (from, below) = match level {
            IsolationLevel::ReadUncommitted => (&self.all, i64::MAX),
            // An open transaction holds back what is behind its first record, or behind the first
            // that is left.
            _ if is_open => (&self.committed, self.open.max(start)),
            _ => (&self.committed, i64::MAX),
        };
        from.range(start..below.max(start)).map(|(k, v)| (*k, v.clone())).collect()
    }
}

fn transactional(broker: &Broker, id: &str) -> Producer {
    let producer = broker.producer(ProducerConfig::default().transactional_id(id)).unwrap();
    producer.init_transactions().unwrap();
    producer
}

/// Commits, aborts, records of nobody's, and an open transaction with records behind it.
fn write(broker: &Broker) -> (Written, Producer) {
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let (x, open) = (transactional(broker, "x"), transactional(broker, "open"));
    let alone = broker.producer(ProducerConfig::default()).unwrap();
    let mut written = Written::default();
    for commits in [true, false, true, false] {
        x.begin_transaction().unwrap();
        written.send(&x, 2, commits);
        match commits {
            true => x.commit_transaction().unwrap(),
            false => x.abort_transaction().unwrap(),
        }
    }
    written.send(&alone, 1, true);
    open.begin_transaction().unwrap();
    written.send(&open, 2, false);
    written.open = *written.all.keys().nth_back(1).unwrap();
    written.send(&alone, 2, true);
    (written, open)
}

/// Every door of the library, of the owner and of who attaches.
fn is_seen(broker: &Broker, dir: &Path, written: &Written, start: i64, is_open: bool) {
    for level in LEVELS {
        let left = written.left(start, level, is_open);
        let seen = by_all(broker, level, true, "the owner");
        assert_eq!((seen.records, seen.told), (left.clone(), None), "from {start}, {level:?}");
        let attached = BrokerOptions::new().attach(dir).unwrap();
        let seen = by_all(&attached, level, false, "attached");
        assert_eq!((seen.records, seen.told), (left, None), "attached, from {start}, {level:?}");
    }
    let reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    assert_eq!(reader.position(), start);
}

fn end_offset(broker: &Broker) -> i64 {
    broker.reader("t", 0, ReadFrom::Beginning).unwrap().end_offset().unwrap()
}

#[test]
fn what_is_left_of_transactions_is_the_same_through_every_door() {
    for commits in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let broker = BrokerOptions::new().open(dir.path()).unwrap();
        let (mut written, open) = write(&broker);
        let end = end_offset(&broker);
        for start in 0..=end {
            assert_eq!(broker.admin().delete_records("t", 0, start).unwrap(), start);
            is_seen(&broker, dir.path(), &written, start, true);
        }
        // The transaction goes on, although nothing is left of it.
        written.send(&open, 1, commits);
        match commits {
            true => open.commit_transaction().unwrap(),
            false => open.abort_transaction().unwrap(),
        }
        is_seen(&broker, dir.path(), &written, end, false);
        broker.close().unwrap();
        let broker = BrokerOptions::new().open(dir.path()).unwrap();
        is_seen(&broker, dir.path(), &written, end, false);
        let again = transactional(&broker, "open");
        again.begin_transaction().unwrap();
        written.send(&again, 1, true);
        again.commit_transaction().unwrap();
        is_seen(&broker, dir.path(), &written, end, false);
        broker.close().unwrap();
    }
}

/// The command line deletes between two lives of an owner, and reads.
#[cfg(feature = "cli")]
#[test]
fn the_command_line_deletes_and_reads_what_is_left_of_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let broker = BrokerOptions::new().open(dir.path()).unwrap();
    let (written, open) = write(&broker);
    let end = end_offset(&broker);
    drop(open);
    broker.close().unwrap();
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_topiclite"));
        let ended = command.arg("--dir").arg(dir.path()).arg("--json").args(words).output();
        let ended = ended.unwrap();
        assert!(ended.status.success(), "{words:?}: {ended:?}");
        let lines: Vec<serde_json::Value> = String::from_utf8(ended.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        lines
    };
    let isolations = ["read_committed", "read_uncommitted"];
    for start in [0, 1, 4, 7, written.open, written.open + 1, end] {
        let told = run(&["trim", "t", "-p", "0", "--before", &start.to_string()]);
        assert_eq!(told[0]["log_start_offset"], start);
        for (level, isolation) in LEVELS.into_iter().zip(isolations) {
            let rows = run(&["consume", "t", "--isolation", isolation]);
            let seen: Vec<i64> = rows.iter().map(|row| row["offset"].as_i64().unwrap()).collect();
            let left: Vec<i64> = written.left(start, level, true).into_keys().collect();
            assert_eq!(seen, left, "from {start}, {isolation}");
        }
    }
    assert_eq!(run(&["transactions", "abort", "open"])[0]["transactional_id"], "open");
    let borders = &run(&["offsets", "t"])[0];
    assert_eq!(borders["last_stable_offset"], borders["log_end_offset"]);
}
