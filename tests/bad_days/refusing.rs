//! A partition that takes no records, damaged or failed, and transactions: it joins none, so that
//! none has to be ended there; and what one has there already is told until it is mended.

use crate::doors::committed;
use crate::place::{told, value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use topiclite::storage::faults::{Call, Failure, Rule};
use topiclite::storage::{Fault, Sim};
use topiclite::time::VirtualClock;
use topiclite::{
    Broker, BrokerOptions, Consumer, ConsumerConfig, ConsumerRecord, Error, ErrorKind,
    GroupMetadata, OffsetAndMetadata, OffsetReset, Producer, ProducerConfig, ProducerRecord,
    ReadFrom, Result, TopicConfig, TopicPartition, TransactionState, process,
};

fn options(clock: &VirtualClock) -> BrokerOptions {
    let properties =
        [("offsets.topic.num.partitions", "1"), ("transaction.state.log.num.partitions", "1")];
    BrokerOptions::from_properties(properties).unwrap().clock(clock.clock()).seed(1)
}

fn open(dir: &Path) -> Broker {
    options(&VirtualClock::stepping()).open(dir).unwrap()
}

fn producer(broker: &Broker, id: &str, linger: u64) -> Producer {
    let config = ProducerConfig::default().transactional_id(id);
    broker.producer(config.linger(Duration::from_millis(linger))).unwrap()
}

fn record(partition: i32, value: &str) -> ProducerRecord<'_> {
    ProducerRecord::new("t").partition(partition).value(value)
}

/// Cuts the first segment of a partition in the middle of what was made durable.
fn cut(dir: &Path, partition: &str) {
    let file = dir.join(partition).join("00000000000000000000.log");
    let bytes = std::fs::read(&file).unwrap();
    // A kill leaves the room behind the end.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    std::fs::write(&file, &bytes[..end / 2 + 7]).unwrap();
}

fn home() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().canonicalize().unwrap().join("data");
    (home, dir)
}

/// A directory whose `t-0` is damaged, and `t-1` is not.
fn damaged() -> (tempfile::TempDir, PathBuf) {
    let (home, dir) = home();
    let broker = open(&dir);
    broker.admin().create_topic("t", 2, TopicConfig::default()).unwrap();
    let plain = broker.producer(ProducerConfig::default()).unwrap();
    for _ in 0..20 {
        plain.send_sync(record(0, "plain")).unwrap();
    }
    broker.close().unwrap();
    cut(&dir, "t-0");
    (home, dir)
}

/// What the record of a damaged partition is told.
fn is_read_only(error: &Error, dir: &Path) {
    let path = dir.join("t-0").display().to_string();
    told(error, ErrorKind::ReadOnly, &["t-0", &path, "repair"]);
    assert!(error.requires_abort() && !error.is_fatal() && !error.possibly_written(), "{error}");
}

/// The partitions of what `x` has open.
fn joined(broker: &Broker) -> Vec<String> {
    let described = broker.admin().describe_transaction("x").unwrap();
    described.partitions().iter().map(ToString::to_string).collect()
}

#[test]
fn a_partition_that_is_damaged_joins_no_transaction() {
    for linger in [0, 5] {
        let (_home, dir) = damaged();
        for life in 0..2 {
            let broker = open(&dir);
            let producer = producer(&broker, "x", linger);
            producer.init_transactions().unwrap();
            for first in [true, false] {
                producer.begin_transaction().unwrap();
                if first {
                    producer.send_sync(record(1, "no")).unwrap();
                }
                let refused = producer.send_sync(record(0, "no")).unwrap_err();
                is_read_only(&refused, &dir);
                assert_eq!(refused.record().unwrap().value_bytes(), Some(&b"no"[..]));
                assert_eq!(joined(&broker), if first { vec!["t-1"] } else { vec![] });
                let refused = producer.commit_transaction().unwrap_err();
                assert_eq!(refused.root_kind(), ErrorKind::CorruptRecord, "{refused}");
                producer.abort_transaction().unwrap();
            }
            producer.begin_transaction().unwrap();
            producer.send_sync(record(1, "yes")).unwrap();
            producer.commit_transaction().unwrap();
            assert_eq!(committed(&broker, 1), vec!["yes"; life + 1]);
            // What it leaves behind is ended by whoever opens the directory next.
            producer.begin_transaction().unwrap();
            producer.send_sync(record(1, "no")).unwrap();
            is_read_only(&producer.send_sync(record(0, "no")).unwrap_err(), &dir);
            drop(producer);
            if life == 0 {
                broker.close().unwrap();
            }
        }
        #[cfg(feature = "cli")]
        {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_topiclite"));
            let ended = command.arg("--dir").arg(&dir).args(["transactions", "abort", "x"]);
            let ended = ended.output().unwrap();
            let said = String::from_utf8(ended.stdout).unwrap();
            assert!(said.contains("x has nothing open"), "{said} {:?}", ended.stderr);
        }
        let broker = open(&dir);
        producer(&broker, "x", linger).init_transactions().unwrap();
        assert_eq!(committed(&broker, 1), ["yes"; 2]);
    }
}

/// The same of a partition of `__consumer_offsets`.
#[test]
fn a_damaged_partition_of_offsets_joins_no_transaction() {
    let (_home, dir) = home();
    let broker = open(&dir);
    broker.admin().create_topic("t", 2, TopicConfig::default()).unwrap();
    let offsets = BTreeMap::from([(TopicPartition::new("t", 0), OffsetAndMetadata::new(0))]);
    let group = GroupMetadata::new("g");
    let commit = |producer: &Producer| -> Result<()> {
        producer.begin_transaction()?;
        producer.send_offsets_to_transaction(&offsets, &group)?;
        producer.commit_transaction()
    };
    let first = producer(&broker, "x", 0);
    first.init_transactions().unwrap();
    (0..5).for_each(|_| commit(&first).unwrap());
    drop(first);
    broker.close().unwrap();
    cut(&dir, "__consumer_offsets-0");
    for _ in 0..2 {
        let broker = open(&dir);
        let producer = producer(&broker, "x", 0);
        producer.init_transactions().unwrap();
        let refused = commit(&producer).unwrap_err();
        told(&refused, ErrorKind::CorruptRecord, &["__consumer_offsets-0", "topiclite repair"]);
        assert!(refused.requires_abort() && refused.path().is_some(), "{refused}");
        assert!(joined(&broker).is_empty());
        producer.abort_transaction().unwrap();
        producer.begin_transaction().unwrap();
        producer.send_sync(record(1, "yes")).unwrap();
        producer.commit_transaction().unwrap();
        broker.close().unwrap();
    }
}

/// Damage is found where a transaction has records: its end waits until the partition is mended.
#[test]
fn what_is_open_in_a_partition_that_is_damaged_ends_once_that_is_mended() {
    let (_home, dir) = home();
    let broker = open(&dir);
    let small = TopicConfig::from_properties([("internal.segment.bytes", "600")]).unwrap();
    broker.admin().create_topic("t", 2, small).unwrap();
    let left = producer(&broker, "x", 0);
    left.init_transactions().unwrap();
    left.begin_transaction().unwrap();
    for partition in [0, 1] {
        for number in 0..10 {
            left.send_sync(record(partition, &value(number))).unwrap();
        }
    }
    broker.flush().unwrap();
    // As a kill leaves it.
    drop((left, broker));
    cut(&dir, "t-0");
    for _ in 0..2 {
        let broker = open(&dir);
        let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
        let read = [(); 3].map(|()| reader.next(Duration::ZERO).map(|found| found.is_some()));
        assert!(matches!(read, [Ok(true), Ok(true), Err(_)]), "{read:?}");
        let refused = producer(&broker, "x", 0).init_transactions().unwrap_err();
        let file = dir.join("t-0").display().to_string();
        told(&refused, ErrorKind::StorageFailed, &["t-0", &file, "init_transactions", "repair"]);
        assert!(refused.is_fatal(), "{refused}");
        let described = broker.admin().describe_transaction("x").unwrap();
        assert_eq!(described.state(), TransactionState::PrepareAbort);
        let fenced = broker.admin().fence_producers(&["x"]).unwrap().remove(0).unwrap_err();
        told(&fenced, ErrorKind::ReadOnly, &["t-0", &file, "repair"]);
        // Its other partition has its marker, and other ids go on.
        let other = producer(&broker, "y", 0);
        other.init_transactions().unwrap();
        other.begin_transaction().unwrap();
        other.send_sync(record(1, "yes")).unwrap();
        other.commit_transaction().unwrap();
        drop(other);
        broker.close().unwrap();
    }
    let mended = options(&VirtualClock::stepping()).cut_damage(true).open(&dir).unwrap();
    let next = producer(&mended, "x", 0);
    next.init_transactions().unwrap();
    next.begin_transaction().unwrap();
    for partition in [0, 1] {
        next.send_sync(record(partition, "next")).unwrap();
    }
    next.commit_transaction().unwrap();
    assert_eq!(committed(&mended, 0), ["next"]);
    assert_eq!(committed(&mended, 1), ["yes", "yes", "next"]);
    mended.close().unwrap();
}

fn consumer(broker: &Broker) -> Consumer {
    let config = ConsumerConfig::new("g").auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config.enable_auto_commit(false)).unwrap();
    consumer.subscribe(&["in"]).unwrap();
    consumer
}

/// A loop of `transform` that writes into `t-0` until `t-1` is asked for, by the number that its
/// input holds.
fn copied(read: &ConsumerRecord<'_>, to: i32) -> Vec<ProducerRecord<'static>> {
    let value = String::from_utf8(read.value().unwrap().to_vec()).unwrap();
    vec![ProducerRecord::new("t").partition(to).value(value)]
}

/// Steps until there is something to tell.
fn step<F>(work: &mut process::Transform<F>) -> Result<process::Progress>
where
    F: FnMut(&ConsumerRecord<'_>) -> Vec<ProducerRecord<'static>>,
{
    for _ in 0..20 {
        let progress = work.step(Duration::from_millis(100))?;
        if !progress.is_idle() {
            return Ok(progress);
        }
    }
    panic!("nothing was read");
}

fn with_input(broker: &Broker) {
    broker.admin().create_topic("in", 1, TopicConfig::default()).unwrap();
    let source = broker.producer(ProducerConfig::default()).unwrap();
    source.send_sync(ProducerRecord::new("in").value("one")).unwrap();
}

#[test]
fn a_loop_whose_output_is_damaged_tells_it_and_goes_on_elsewhere() {
    let (_home, dir) = damaged();
    let broker = open(&dir);
    with_input(&broker);
    let to = std::cell::Cell::new(0);
    let work = |read: &ConsumerRecord<'_>| copied(read, to.get());
    let mut work = process::transform(consumer(&broker), producer(&broker, "x", 0), work).unwrap();
    for _ in 0..3 {
        let refused = step(&mut work).unwrap_err();
        assert_eq!(refused.root_kind(), ErrorKind::CorruptRecord, "{refused}");
    }
    to.set(1);
    assert_eq!(step(&mut work).unwrap().outputs(), 1);
    assert_eq!(committed(&broker, 1), ["one"]);
}

/// A sync of the output fails for good, and records of the transaction may be there: each step says
/// so, at once, and the next life goes on.
#[test]
fn a_loop_whose_output_failed_tells_it_at_once_until_the_directory_is_opened_again() {
    let (fault, clock) = (Fault::new(Arc::new(Sim::new())), VirtualClock::stepping());
    let open = || options(&clock).storage(Arc::new(fault.clone())).open("/data").unwrap();
    let broker = open();
    let durable = TopicConfig::default().flush_messages(1);
    broker.admin().create_topic("t", 2, durable).unwrap();
    with_input(&broker);
    let work = |read: &ConsumerRecord<'_>| copied(read, 0);
    let mut loops = process::transform(consumer(&broker), producer(&broker, "x", 0), work).unwrap();
    fault.fail(Rule::nth(0, Failure::Io).of(&[Call::SyncData]).on("t-0"));
    let begun = clock.clock().monotonic();
    for number in 0..5 {
        let failed = step(&mut loops).unwrap_err();
        let names: &[&str] = if number == 0 { &["t-0"] } else { &["t-0", "opened again"] };
        told(&failed, ErrorKind::StorageFailed, names);
    }
    let took = clock.clock().monotonic() - begun;
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop((loops, broker));
    let broker = open();
    let work = |read: &ConsumerRecord<'_>| copied(read, 0);
    let mut loops = process::transform(consumer(&broker), producer(&broker, "x", 0), work).unwrap();
    assert_eq!(step(&mut loops).unwrap().outputs(), 1);
    assert_eq!(committed(&broker, 0), ["one"]);
}
