//! Ten thousand partitions: what a poll costs when few or all of them have records, what the first
//! append in each takes, the disk that they hold while they are open, and closing them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use limits::{cpu_per_unit, held_against, per_unit};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use topiclite::{
    Broker, Consumer, ConsumerConfig, OffsetReset, Producer, ProducerRecord, TopicConfig,
    TopicPartition,
};
use workload::TOPIC;

const PARTITIONS: i32 = 10_000;
/// Another topic, of one partition.
const ALONE: &str = "alone";
const RECORDS: usize = 1_000_000;
/// What a record takes in a batch of 100.
const RECORD_BYTES: usize = 117;
/// What is mapped for a log.
const SEGMENT_BYTES: usize = 1 << 30;
/// Threads of a close.
const CLOSERS: i32 = 32;

fn consumer(broker: &Broker, topic: &str, partitions: i32) -> Consumer {
    let config = ConsumerConfig::default().auto_offset_reset(OffsetReset::Latest);
    let mut consumer = broker.consumer(config).unwrap();
    let all: Vec<_> = (0..partitions).map(|number| TopicPartition::new(topic, number)).collect();
    consumer.assign(&all).unwrap();
    consumer.poll(Duration::ZERO).unwrap();
    consumer
}

/// Sends so many records in batches of 100, in turn to the first `among` partitions.
fn send(producer: &Producer, topic: &str, among: usize, records: usize) {
    let value = workload::payload(100);
    for batch in 0..records / 100 {
        let number = (batch % among) as i32;
        let record = || ProducerRecord::new(topic).value(&value).partition(number);
        for sent in producer.send_all((0..100).map(|_| record())).unwrap() {
            sent.wait().unwrap();
        }
    }
}

/// Reads so many records, and touches each.
fn read(consumer: &mut Consumer, records: usize) {
    let (mut left, mut sum) = (records, 0);
    while left > 0 {
        let polled = consumer.poll(Duration::from_secs(5)).unwrap();
        assert!(!polled.is_empty(), "{left} of {records} records are left");
        left -= polled.count();
        sum += polled.iter().map(|record| record.value().unwrap().len()).sum::<usize>();
    }
    std::hint::black_box(sum);
}

/// What a record, and an empty poll, cost a consumer of all partitions, held against one of one.
fn polls(broker: &Broker) {
    broker.admin().create_topic(ALONE, 1, TopicConfig::default()).unwrap();
    let producer = workload::producer(broker);
    send(&producer, ALONE, 1, 100);
    let (mut all, mut one) = (consumer(broker, TOPIC, PARTITIONS), consumer(broker, ALONE, 1));
    for among in [1, 100, PARTITIONS as usize] {
        held_against(
            &format!("consume 10,000 assigned partitions of which {among} have records / one"),
            1.5,
            || {
                send(&producer, TOPIC, among, RECORDS);
                cpu_per_unit(RECORDS, || read(&mut all, RECORDS))
            },
            || {
                send(&producer, ALONE, 1, RECORDS);
                cpu_per_unit(RECORDS, || read(&mut one, RECORDS))
            },
        );
    }
    // The records of 10,000 logs lie in as many places, which is not the consumer's doing.
    let mut scattered = limits::Scattered::new(PARTITIONS as usize, SEGMENT_BYTES);
    held_against(
        "consume 10,000 partitions of which all have records / one pass over as many mappings",
        1.5,
        || {
            send(&producer, TOPIC, PARTITIONS as usize, RECORDS);
            cpu_per_unit(RECORDS, || read(&mut all, RECORDS))
        },
        || scattered.one_pass(RECORD_BYTES, RECORDS / PARTITIONS as usize),
    );
    let empty = |consumer: &mut Consumer| {
        cpu_per_unit(100_000, || {
            for _ in 0..100_000 {
                assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
            }
        })
    };
    let what = "an empty poll of 10,000 assigned partitions / of one";
    held_against(what, 1.5, || empty(&mut all), || empty(&mut one));
}

/// The files of a new partition, as a bare loop makes them: nothing is synced.
fn bare_folders(dir: &Path, count: i32) {
    for number in 0..count {
        let folder = dir.join(format!("bare-{number}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("a"), [7; 40]).unwrap();
        std::fs::write(folder.join("b"), [7; 40]).unwrap();
        let mut file = std::fs::File::options();
        let file = file.read(true).write(true).create_new(true).open(folder.join("log")).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 16 << 10).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 178], 0).unwrap();
    }
}

/// What closing such a partition for good takes where each is closed by itself: a cut, two more
/// files, and one sync of each of the five and of the folder. By as many threads as closing has.
fn bare_close(dir: &Path, count: i32) {
    by_all_closers(count, |number| {
        bare_finish(dir, number);
        bare_sync(dir, number);
    });
}

/// The same with all of them written, and written back at once, before the first sync.
fn bare_close_together(dir: &Path, count: i32) {
    by_all_closers(count, |number| bare_finish(dir, number));
    rustix::fs::syncfs(std::fs::File::open(dir).unwrap()).unwrap();
    by_all_closers(count, |number| bare_sync(dir, number));
}

fn bare_finish(dir: &Path, number: i32) {
    let folder = dir.join(format!("bare-{number}"));
    let log = std::fs::File::options().write(true).open(folder.join("log")).unwrap();
    log.set_len(178).unwrap();
    for index in ["c", "d"] {
        std::fs::write(folder.join(index), [7; 12]).unwrap();
    }
}

fn bare_sync(dir: &Path, number: i32) {
    let folder = dir.join(format!("bare-{number}"));
    for name in ["log", "a", "b", "c", "d", ""] {
        std::fs::File::open(folder.join(name)).unwrap().sync_all().unwrap();
    }
}

fn by_all_closers(count: i32, close: impl Fn(i32) + Sync) {
    let close = &close;
    std::thread::scope(|scope| {
        for share in 0..CLOSERS {
            scope.spawn(move || (share..count).step_by(CLOSERS as usize).for_each(close));
        }
    });
}

/// Bytes that the files below a folder hold on the disk.
fn held_on_disk(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => held_on_disk(&entry.path()),
            false => entry.metadata().unwrap().blocks() * 512,
        })
        .sum()
}

/// A hundred partitions with 1.3 MB each, sent at once.
fn growth() {
    let dir = workload::folder();
    let broker = workload::open(&dir);
    workload::create(&broker, 100);
    send(&workload::producer(&broker), TOPIC, 100, 1_300_000);
    let stored = 1_300_000 * RECORD_BYTES as u64;
    let held = held_on_disk(dir.path());
    let allowed = stored + stored / 4 + (100 << 20);
    println!("figure | disk held by 100 partitions of {stored} bytes | {held} | at most {allowed}");
    broker.close().unwrap();
}

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    growth();
    let dir = workload::folder();
    let broker = workload::open(&dir);
    workload::create(&broker, PARTITIONS);
    let producer = workload::producer(&broker);
    let bare = workload::folder();
    let limit = per_unit(PARTITIONS as usize, || bare_folders(bare.path(), PARTITIONS));
    let first = per_unit(PARTITIONS as usize, || {
        for number in 0..PARTITIONS {
            let record = ProducerRecord::new(TOPIC).value([7; 100]).partition(number);
            producer.send(record).unwrap().wait().unwrap();
        }
    });
    limits::figure("first append in each of 10,000 partitions / bare files", first, limit, 3.0);
    let limit = per_unit(PARTITIONS as usize, || bare_close(bare.path(), PARTITIONS));
    let close = per_unit(PARTITIONS as usize, || broker.close().unwrap());
    limits::figure("close 10,000 partitions / one sync a file", close, limit, 3.0);
    let together = workload::folder();
    bare_folders(together.path(), PARTITIONS);
    let limit = per_unit(PARTITIONS as usize, || bare_close_together(together.path(), PARTITIONS));
    limits::figure("close 10,000 partitions / written back together", close, limit, 3.0);
    let broker = Broker::in_memory().unwrap();
    workload::create(&broker, PARTITIONS);
    send(&workload::producer(&broker), TOPIC, PARTITIONS as usize, 1_000_000);
    polls(&broker);
}
