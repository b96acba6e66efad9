//! Transactions a second by size, beside the same records sent without, and durable ones beside the
//! bare syncs that they wait for; reading what was committed by both isolation levels; and the
//! first write of a life in which many transactional ids are known.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use limits::{Pair, cpu_per_unit, held_against, in_turns, median, per_unit};
use std::hint::black_box;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use topiclite::{
    Broker, Durability, IsolationLevel, Producer, ProducerConfig, ProducerRecord, ReadFrom,
    TopicConfig,
};
use workload::TOPIC;

/// Records a transaction, and how many transactions a round has.
const SIZES: [(usize, usize); 3] = [(1, 5_000), (10, 5_000), (1_000, 200)];
const VALUE_BYTES: usize = 100;
/// The same of transactions that survive a power cut: each waits for several syncs.
const DURABLE_SIZES: [(usize, usize); 3] = [(1, 100), (10, 100), (1_000, 50)];
/// Syncs that a durable transaction of one partition cannot do without, one behind the other: its
/// records, the decision, the marker, and that it is complete.
const SYNCS_LEAST: f64 = 4.0;
/// Records of a log that is read.
const READ: usize = 500_000;
/// Transactional ids that a life knows of.
const IDS: usize = 10_000;
/// A topic that no transaction is in.
const OTHER: &str = "other";

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    let dir = workload::folder();
    cost("a directory", &workload::open(&dir));
    cost("memory", &Broker::in_memory().unwrap());
    for (records, count) in DURABLE_SIZES {
        durable(records, count);
    }
    durable_sends();
    for per_transaction in [10, 1_000] {
        isolation(per_transaction);
    }
    first_write(1);
    first_write(IDS);
}

/// A producer whose turn it is to begin a transaction.
fn transactional(broker: &Broker, id: &str) -> Producer {
    let producer = broker.producer(ProducerConfig::default().transactional_id(id)).unwrap();
    producer.init_transactions().unwrap();
    producer
}

/// Sends records, several of them in one call, and waits for each.
fn send(producer: &Producer, value: &[u8], records: usize) {
    let record = || ProducerRecord::new(TOPIC).value(value).partition(0);
    if records == 1 {
        producer.send(record()).unwrap().wait().unwrap();
        return;
    }
    for sent in producer.send_all((0..records).map(|_| record())).unwrap() {
        sent.wait().unwrap();
    }
}

fn commit(producer: &Producer, value: &[u8], records: usize) {
    producer.begin_transaction().unwrap();
    send(producer, value, records);
    producer.commit_transaction().unwrap();
}

/// What a transaction costs, by size, beside its records alone. In CPU time of the sending thread,
/// which writes the markers as well: nothing waits here.
fn cost(place: &str, broker: &Broker) {
    workload::create(broker, 1);
    let value = workload::payload(VALUE_BYTES);
    let (inside, outside) = (transactional(broker, "id"), workload::producer(broker));
    for (records, count) in SIZES {
        let ours = || {
            cpu_per_unit(count, || {
                (0..count).for_each(|_| commit(&inside, black_box(&value), records))
            })
        };
        let limit = || {
            cpu_per_unit(count, || {
                (0..count).for_each(|_| send(&outside, black_box(&value), records))
            })
        };
        let Pair { ours, limit } = in_turns(ours, limit);
        println!(
            "figure | transactions of {records} records, 100 B, in {place} | {:.0} a second | \
             {ours:.0} ns | its records alone {limit:.0} ns | {:.2}",
            1e9 / ours,
            ours / limit
        );
    }
    drop((inside, outside));
    broker.close().unwrap();
}

/// A broker in a folder of its own, and its topic, which syncs before each answer.
fn durable_broker(dir: &tempfile::TempDir) -> Broker {
    let broker = workload::open(dir);
    let config = TopicConfig::default().durability(Durability::Power);
    broker.admin().create_topic(TOPIC, 1, config).unwrap();
    broker
}

/// Transactions that survive a power cut, held against the syncs that they cannot do without. By
/// the clock: they wait for the disk.
fn durable(records: usize, count: usize) {
    let dir = workload::folder();
    let broker = durable_broker(&dir);
    let value = workload::payload(VALUE_BYTES);
    let producer = transactional(&broker, "id");
    let syncs = || broker.health().counter("syncs") as f64;
    let (before, mut done) = (syncs(), 0);
    let mut ours = || {
        done += count;
        per_unit(count, || (0..count).for_each(|_| commit(&producer, black_box(&value), records)))
    };
    let limit = || SYNCS_LEAST * limits::bare_fdatasync(dir.path(), count);
    let what = format!("durable transaction of {records} records, 100 B / {SYNCS_LEAST} fdatasync");
    held_against(&what, 1.0 / 0.95, &mut ours, limit);
    println!("figure | {what}, syncs a transaction | {:.2}", (syncs() - before) / done as f64);
    drop(producer);
    broker.close().unwrap();
}

/// What a sequence costs a send that waits for a sync: nothing beside that.
fn durable_sends() {
    const COUNT: usize = 400;
    let dir = workload::folder();
    let broker = durable_broker(&dir);
    let value = workload::payload(VALUE_BYTES);
    let (idempotent, plain) = (workload::producer(&broker), workload::plain_producer(&broker));
    let sends = |producer: &Producer| {
        per_unit(COUNT, || (0..COUNT).for_each(|_| send(producer, &value, 1)))
    };
    let what = "durable send, 100 B, idempotent / plain";
    held_against(what, 1.05, || sends(&idempotent), || sends(&plain));
    drop((idempotent, plain));
    broker.close().unwrap();
}

/// The same log of committed transactions, read by both isolation levels.
fn isolation(per_transaction: usize) {
    let dir = workload::folder();
    let broker = workload::open(&dir);
    workload::create(&broker, 1);
    let value = workload::payload(VALUE_BYTES);
    let producer = transactional(&broker, "id");
    (0..READ / per_transaction).for_each(|_| commit(&producer, &value, per_transaction));
    drop(producer);
    let log = format!("consume, transactions of {per_transaction} records, 100 B");
    let what = format!("{log}, read_committed / read_uncommitted");
    let (committed, all) = (IsolationLevel::ReadCommitted, IsolationLevel::ReadUncommitted);
    held_against(&what, 1.1, || consume(&broker, committed), || consume(&broker, all));
    broker.close().unwrap();
}

/// Reads all records and touches both ends of each value.
fn consume(broker: &Broker, isolation: IsolationLevel) -> f64 {
    let reader = broker.reader(TOPIC, 0, ReadFrom::Beginning).unwrap();
    let mut reader = reader.isolation_level(isolation).max_records(5_000);
    cpu_per_unit(READ, || {
        let (mut left, mut sum) = (READ, 0);
        while left > 0 {
            let polled = reader.read(Duration::from_secs(5)).unwrap();
            assert!(!polled.is_empty(), "{left} of {READ} records are left");
            for record in &polled {
                let value = record.value().unwrap();
                sum += usize::from(value[0]) + usize::from(value[value.len() - 1]) + value.len();
                left -= 1;
            }
        }
        black_box(sum);
    })
}

/// What the first writes of a life take, after a clean stop, where so many transactional ids are
/// known, each with one transaction: of a record without a transaction, then of a known id. What
/// the syncs among it take is left out of the second time, which is that of the processor.
fn first_write(ids: usize) {
    let dir = workload::folder();
    let broker = workload::open(&dir);
    workload::create(&broker, 1);
    broker.admin().create_topic(OTHER, 1, TopicConfig::default()).unwrap();
    for id in 0..ids {
        commit(&transactional(&broker, &format!("id-{id}")), b"value", 1);
    }
    broker.close().unwrap();
    let mut writes = [("a record", Vec::new()), ("then a transaction", Vec::new())];
    let mut read = 0;
    for round in 0..limits::ROUNDS {
        let broker = workload::open(&dir);
        let other = workload::producer(&broker);
        writes[0].1.push(timed(|| {
            other.send_sync(ProducerRecord::new(OTHER).value("value")).unwrap();
        }));
        read = read.max(broker.health().counter("coordinator_bytes_loaded"));
        writes[1].1.push(timed(|| {
            commit(&transactional(&broker, &format!("id-{}", round % ids)), b"value", 1);
        }));
        drop(other);
        broker.close().unwrap();
    }
    let name = format!("first write of a life, {ids} transactional ids known");
    for (what, times) in writes {
        let (mut all, mut cpu): (Vec<_>, Vec<_>) = times.into_iter().unzip();
        let (all, cpu) = (median(&mut all) / 1e3, median(&mut cpu) / 1e3);
        println!("figure | {name}, {what} | {all:.0} us, of the processor {cpu:.0} us");
    }
    println!("figure | {name}, bytes read by the first | {read}");
    println!("figure | {name}, bytes of their topic on the disk | {}", held(dir.path()));
}

/// Nanoseconds, and those of the processor.
fn timed(work: impl FnOnce()) -> (f64, f64) {
    let mut cpu = 0.0;
    (per_unit(1, || cpu = cpu_per_unit(1, work)), cpu)
}

/// Bytes on the disk of the topic of transactional ids.
fn held(dir: &Path) -> u64 {
    let folders = std::fs::read_dir(dir.join("broker")).unwrap().map(Result::unwrap);
    let folders =
        folders.filter(|f| f.file_name().to_string_lossy().starts_with("__transaction_state"));
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).unwrap());
    files.map(|file| file.unwrap().metadata().unwrap().blocks() * 512).sum()
}
