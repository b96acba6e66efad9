//! Cleaning: its throughput, held against a copy of the same bytes to a file that is synced alike,
//! and what a writer of another topic notices of it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use limits::{held_against, per_unit, percentile};
use std::path::Path;
use std::time::{Duration, Instant};
use topiclite::{Broker, BrokerConfig, BrokerOptions, Producer, ProducerRecord, TopicConfig};
use workload::TOPIC;

const SEGMENT_BYTES: u32 = 32 << 20;
/// Another topic, which is cleaned while records are sent to the first one.
const DIRTY: &str = "dirty";
const KEYS: usize = 1_000_000;
/// What so many keys take: 24 bytes each, at a load of 0.9.
const KEYS_BYTES: u64 = (KEYS * 24) as u64 * 10 / 9 + 24;
/// The pause between two records of the writer that is looked at.
const GAP: Duration = Duration::from_micros(20);

/// A topic to be cleaned.
struct Shape {
    name: &'static str,
    value_bytes: usize,
    records: usize,
    keys: usize,
    batched: bool,
}

const SHAPES: [Shape; 4] = [
    Shape {
        name: "a million keys, batches of 100, 100 B",
        value_bytes: 100,
        records: KEYS,
        keys: KEYS,
        batched: true,
    },
    Shape {
        name: "each key twice, batches of 100, 100 B",
        value_bytes: 100,
        records: 800_000,
        keys: 400_000,
        batched: true,
    },
    Shape {
        name: "each key once, sent alone, 100 B",
        value_bytes: 100,
        records: 500_000,
        keys: 500_000,
        batched: false,
    },
    Shape {
        name: "each key twice, sent alone, 1 KiB",
        value_bytes: 1024,
        records: 90_000,
        keys: 45_000,
        batched: false,
    },
];

fn fill(producer: &Producer, topic: &str, shape: &Shape) {
    let value = workload::payload(shape.value_bytes);
    let keys: Vec<_> = (0..shape.keys as u64).map(u64::to_be_bytes).collect();
    let record =
        |n: usize| ProducerRecord::new(topic).key(keys[n % shape.keys]).value(&value).partition(0);
    match shape.batched {
        true => (0..shape.records / 100).for_each(|batch| {
            let sent = producer.send_all((0..100).map(|n| record(batch * 100 + n))).unwrap();
            for future in sent {
                future.wait().unwrap();
            }
        }),
        false => (0..shape.records).for_each(|n| {
            producer.send(record(n)).unwrap().wait().unwrap();
        }),
    }
}

fn compacted(broker: &Broker, topic: &str) {
    let config = TopicConfig::default().cleanup_policy(&["compact"]).segment_bytes(SEGMENT_BYTES);
    broker.admin().create_topic(topic, 1, config).unwrap();
}

/// Bytes of the batches of a topic.
fn stored(broker: &Broker, topic: &str) -> usize {
    broker.admin().partition_size(topic, 0).unwrap().batch_bytes() as usize
}

/// Cleans a topic that was filled for it; nanoseconds per KiB of it.
fn cleaning(broker: &Broker, producer: &Producer, shape: &Shape) -> f64 {
    compacted(broker, TOPIC);
    fill(producer, TOPIC, shape);
    // What was sent is not to be written to the disk on the cleaner's account.
    broker.flush().unwrap();
    let bytes = stored(broker, TOPIC);
    let rounds = || broker.health().counter("cleanings");
    let before = rounds();
    let time = per_unit(bytes / 1024, || drop(broker.admin().compact_now(TOPIC).unwrap()));
    assert_eq!(rounds() - before, 1, "the keys fit into the memory that there is for them");
    broker.admin().delete_topic(TOPIC).unwrap();
    time
}

/// Sends records, each after a pause, while `work` goes on; what each took, in nanoseconds.
fn sends_during(producer: &Producer, work: impl FnOnce() + Send) -> Vec<f64> {
    let value = workload::payload(100);
    std::thread::scope(|scope| {
        let working = scope.spawn(work);
        let mut times = Vec::new();
        while !working.is_finished() {
            let record = ProducerRecord::new(TOPIC).value(&value).partition(0);
            let start = Instant::now();
            producer.send(record).unwrap().wait().unwrap();
            times.push(start.elapsed().as_nanos() as f64);
            limits::wait(GAP);
        }
        times
    })
}

fn writer_beside_the_cleaner(broker: &Broker, producer: &Producer) {
    workload::create(broker, 1);
    let shape = &SHAPES[0];
    let mut took = Duration::from_millis(300);
    let beside = || {
        compacted(broker, DIRTY);
        fill(producer, DIRTY, shape);
        broker.flush().unwrap();
        let start = Instant::now();
        let clean = || drop(broker.admin().compact_now(DIRTY).unwrap());
        let mut times = sends_during(producer, clean);
        took = start.elapsed();
        broker.admin().delete_topic(DIRTY).unwrap();
        percentile(&mut times, 0.99)
    };
    let alone = || {
        // As long as a cleaning takes, in which nobody runs on the other core.
        let mut times = sends_during(producer, || std::thread::sleep(Duration::from_millis(300)));
        percentile(&mut times, 0.99)
    };
    held_against("a send beside the cleaner, p99 / alone", 1.5, beside, alone);
    println!("figure | a cleaning beside it took | {} ms", took.as_millis());
}

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    let dir = workload::folder();
    let config = BrokerConfig::default()
        .with("log.cleaner.enable", "false")
        .unwrap()
        .log_flush_interval_ms(3_600_000)
        .log_cleaner_dedupe_buffer_size(KEYS_BYTES);
    let broker = BrokerOptions::new().config(config).open(dir.path().join("broker")).unwrap();
    let producer = workload::plain_producer(&broker);
    for shape in &SHAPES {
        // What is copied, and never cleaned.
        compacted(&broker, DIRTY);
        fill(&producer, DIRTY, shape);
        broker.flush().unwrap();
        let source = dir.path().join("broker").join(format!("{DIRTY}-0"));
        let bytes = stored(&broker, DIRTY);
        held_against(
            &format!("clean, {}, a KiB / copy", shape.name),
            2.0,
            || cleaning(&broker, &producer, shape),
            || per_unit(bytes / 1024, || copy(&source, bytes, dir.path())),
        );
        broker.admin().delete_topic(DIRTY).unwrap();
        if shape.keys == KEYS {
            let times: Vec<f64> =
                (0..3).map(|_| per_unit(bytes / 1024, limits::bare_keys)).collect();
            let least = times.into_iter().fold(f64::INFINITY, f64::min);
            println!(
                "figure | their keys alone, hashed, placed and looked up, a KiB | {least:.1} ns"
            );
        }
    }
    println!("figure | memory for {KEYS} keys | {KEYS_BYTES} bytes");
    writer_beside_the_cleaner(&broker, &producer);
    broker.close().unwrap();
}

/// Copies the segments of a partition, each to a file that is synced.
fn copy(source: &Path, bytes: usize, to: &Path) {
    let mut files: Vec<_> = std::fs::read_dir(source).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    let mut left = bytes;
    for path in files {
        left -= limits::bare_copy(&path, left, &to.join("copy"));
        std::fs::remove_file(to.join("copy")).unwrap();
    }
    assert_eq!(left, 0);
}
