//! What the benches share: brokers in folders of their own, payloads, topics filled and read back.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use topiclite::{
    Broker, BrokerConfig, BrokerOptions, IsolationLevel, OffsetSpec, Producer, ProducerConfig,
    ProducerRecord, ReadFrom, Reader, TopicConfig,
};

/// The topic that the benches use.
pub const TOPIC: &str = "work";

/// Payload sizes, each with its name.
pub const SIZES: [(usize, &str); 2] = [(100, "100 B"), (1024, "1 KiB")];

/// Bytes of payload a round.
pub const ROUND_BYTES: usize = 48 << 20;

/// Whether `cargo bench` runs this, and not a test run that only wants to see it build.
pub fn is_asked_for() -> bool {
    let asked = std::env::args().any(|arg| arg == "--bench");
    if asked {
        println!("machine | {}", super::limits::machine());
    }
    asked
}

/// A folder on the disk under test: the one of `TMPDIR`.
pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A broker that syncs when it is asked to, so that unsynced work is measured as such.
pub fn options() -> BrokerOptions {
    BrokerOptions::new().config(BrokerConfig::default().log_flush_interval_ms(3_600_000))
}

pub fn open(dir: &TempDir) -> Broker {
    options().open(dir.path().join("broker")).unwrap()
}

pub fn create(broker: &Broker, partitions: i32) {
    broker.admin().create_topic(TOPIC, partitions, TopicConfig::default()).unwrap();
}

pub fn producer(broker: &Broker) -> Producer {
    broker.producer(ProducerConfig::default()).unwrap()
}

/// A producer whose batches have no sequence.
pub fn plain_producer(broker: &Broker) -> Producer {
    broker.producer(ProducerConfig::default().enable_idempotence(false)).unwrap()
}

/// Bytes that no codec and no checksum finds easy.
pub fn payload(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// Bytes that a record of [`append`] or [`append_batches`] takes in the log, at least.
pub fn batch_bytes(size: usize, batched: bool) -> usize {
    // Lengths, deltas, attributes and the key; a header of 61 bytes for each batch.
    size + 17 + if batched { 0 } else { 61 }
}

pub fn records_a_round(size: usize) -> usize {
    ROUND_BYTES / size
}

/// Sends `records` in batches of 100, or one a call.
pub fn fill(producer: &Producer, value: &[u8], records: usize, batched: bool) {
    match batched {
        true => append_batches(producer, value, records),
        false => append(producer, value, records),
    }
}

/// One record a call, each waited for.
pub fn append(producer: &Producer, value: &[u8], records: usize) {
    for n in 0..records as u64 {
        let key = n.to_be_bytes();
        let record = ProducerRecord::new(TOPIC).key(key).value(value).partition(0);
        producer.send(record).unwrap().wait().unwrap();
    }
}

/// Batches of 100.
pub fn append_batches(producer: &Producer, value: &[u8], records: usize) {
    let keys: Vec<[u8; 8]> = (0..100u64).map(u64::to_be_bytes).collect();
    for _ in 0..records / 100 {
        let batch =
            keys.iter().map(|k| ProducerRecord::new(TOPIC).key(k).value(value).partition(0));
        for future in producer.send_all(batch).unwrap() {
            future.wait().unwrap();
        }
    }
}

pub fn reader(broker: &Broker) -> Reader {
    broker.reader(TOPIC, 0, ReadFrom::Beginning).unwrap().max_records(5_000)
}

/// Reads all records, checks their order and touches both ends of each value.
pub fn consume(reader: &mut Reader, records: usize) {
    consume_on(reader, 0, records);
}

/// As [`consume`], from the offset `next` on, at least `records` of them; where that ends.
pub fn consume_on(reader: &mut Reader, mut next: i64, records: usize) -> i64 {
    let (end, mut sum) = (next + records as i64, 0u64);
    while next < end {
        let polled = reader.read(Duration::from_secs(5)).unwrap();
        assert!(!polled.is_empty(), "{next} of {end} records");
        for record in &polled {
            assert_eq!(record.offset(), next);
            let value = record.value().unwrap();
            sum += u64::from(value[0]) + u64::from(value[value.len() - 1]) + value.len() as u64;
            next += 1;
        }
    }
    std::hint::black_box(sum);
    next
}

/// The end of a partition, for which its log has to be opened.
pub fn end_offset(broker: &Broker, partition: i32) -> i64 {
    let isolation = IsolationLevel::ReadUncommitted;
    let listed = broker.admin().list_offsets(TOPIC, partition, OffsetSpec::Latest, isolation);
    listed.unwrap().offset().unwrap()
}

/// The first segment of the topic's first partition.
pub fn segment(dir: &TempDir) -> PathBuf {
    dir.path().join("broker").join(format!("{TOPIC}-0")).join("00000000000000000000.log")
}
