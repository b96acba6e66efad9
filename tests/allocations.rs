//! How often the paths of produce and consume ask the allocator, counted on the calling thread: per
//! call and not per record, and not at all for a record sent alone.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;
use tempfile::TempDir;
use topiclite::{
    Broker, BrokerConfig, BrokerOptions, ConsumerConfig, ConsumerRecords, OffsetReset, Producer,
    ProducerConfig, ProducerRecord, ReadFrom, TopicConfig, TopicPartition,
};

/// For `send_all` into one partition: the records, as the log takes them, their groups, their
/// outcomes, their futures.
const BATCH_CALL: usize = 4;
/// For a poll of one partition: the runs that are returned, and the partitions.
const POLL_CALL: usize = 2;

/// The system's allocator, which counts how often each thread asks it.
struct Counting;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends may have given up its counter.
    ASKED.try_with(|asked| asked.set(asked.get() + 1)).unwrap_or_default();
}

// SAFETY: everything is passed on to the system's allocator as it came; the counter is a plain
// cell of the thread, for which nothing is allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is that of the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; what is freed came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` asks.
fn asked(work: impl FnOnce()) -> usize {
    let before = ASKED.get();
    work();
    ASKED.get() - before
}

/// The middle of what so many rounds ask: rounds in which an index or a file grows are few.
fn median_of_rounds(rounds: usize, mut round: impl FnMut()) -> usize {
    let mut counts: Vec<usize> = (0..rounds).map(|_| asked(&mut round)).collect();
    counts.sort_unstable();
    counts[rounds / 2]
}

fn broker(dir: &TempDir) -> Broker {
    let config = BrokerConfig::default().log_flush_interval_ms(3_600_000);
    let broker = BrokerOptions::new().config(config).open(dir.path()).unwrap();
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    broker
}

fn send(producer: &Producer, value: &[u8], records: usize) {
    for n in 0..records as u64 {
        let key = n.to_be_bytes();
        let record = ProducerRecord::new("t").key(key).value(value).partition(0);
        producer.send(record).unwrap().wait().unwrap();
    }
}

fn send_all(producer: &Producer, value: &[u8], records: usize) {
    let batch = (0..records).map(|_| ProducerRecord::new("t").value(value).partition(0));
    for sent in producer.send_all(batch).unwrap() {
        sent.wait().unwrap();
    }
}

fn touch(records: &ConsumerRecords) {
    let bytes: usize = records.iter().map(|record| record.value().unwrap().len()).sum();
    assert_eq!(bytes, 100 * records.count());
}

#[test]
fn a_record_sent_alone_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(&dir);
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    for size in [0, 100, 1024, 20_000] {
        let value = vec![7; size];
        send(&producer, &value, 100);
        let median = median_of_rounds(50, || send(&producer, &value, 20));
        assert_eq!(median, 0, "values of {size} bytes");
    }
}

#[test]
fn a_batch_allocates_for_the_call_and_not_for_records() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(&dir);
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    for records in [1, 10, 100] {
        send_all(&producer, &[7; 100], records);
        let median = median_of_rounds(50, || send_all(&producer, &[7; 100], records));
        assert_eq!(median, BATCH_CALL, "batches of {records}");
    }
}

/// Lists of the call ask each time they double, and so do the indexes of a few partitions.
#[test]
fn a_call_over_many_partitions_allocates_for_neither_records_nor_partitions() {
    const CALL_MAX: usize = 50;
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(&dir);
    broker.admin().create_topic("many", 200, TopicConfig::default()).unwrap();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let keys: Vec<[u8; 8]> = (0..4000u64).map(u64::to_be_bytes).collect();
    let send = |count: usize| {
        let records =
            keys[..count].iter().map(|key| ProducerRecord::new("many").key(key).value("v"));
        let sent = producer.send_all(records).unwrap();
        assert_eq!(sent.len(), count);
        sent.into_iter().for_each(|sent| assert!(sent.wait().is_ok()));
    };
    // Each partition has its file, and its list of batches' producers.
    (0..8).for_each(|_| send(4000));
    for records in [200, 1000, 4000] {
        let median = median_of_rounds(20, || send(records));
        assert!(median <= CALL_MAX, "{median} for {records} records");
    }
}

#[test]
fn a_poll_allocates_for_the_call_and_iterating_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(&dir);
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    send(&producer, &[7; 100], 40_000);
    for records in [1usize, 10, 500] {
        let config = ConsumerConfig::default()
            .auto_offset_reset(OffsetReset::Earliest)
            .max_poll_records(records as u32);
        let mut consumer = broker.consumer(config).unwrap();
        consumer.assign(&[TopicPartition::new("t", 0)]).unwrap();
        let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap().max_records(records);
        consumer.poll(Duration::ZERO).unwrap();
        reader.read(Duration::ZERO).unwrap();
        let mut polled = 0;
        let poll = median_of_rounds(50, || {
            let records = consumer.poll(Duration::ZERO).unwrap();
            polled += records.count();
            assert_eq!(asked(|| touch(&records)), 0);
        });
        let read = median_of_rounds(50, || {
            let records = reader.read(Duration::ZERO).unwrap();
            assert_eq!(asked(|| touch(&records)), 0);
        });
        // A poll may end at the bytes of a fetch.
        assert!(polled > 40 * records, "{polled} records by polls of {records}");
        assert_eq!((poll, read), (POLL_CALL, POLL_CALL), "polls of {records} records");
    }
}

/// A consumer that looked in vain has the next append put the partition on its list.
#[test]
fn telling_a_consumer_of_an_append_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(&dir);
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    send(&producer, &[7; 100], 100);
    let config = ConsumerConfig::default().auto_offset_reset(OffsetReset::Latest);
    let mut consumer = broker.consumer(config).unwrap();
    consumer.assign(&[TopicPartition::new("t", 0)]).unwrap();
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().count(), 0);
    let mut empty = 0;
    let median = median_of_rounds(50, || {
        let mine = asked(|| send(&producer, &[7; 100], 2));
        assert_eq!(consumer.poll(Duration::ZERO).unwrap().count(), 2);
        empty += asked(|| assert_eq!(consumer.poll(Duration::ZERO).unwrap().count(), 0));
        assert!(mine == 0 || mine < 10, "an index or a file grew: {mine}");
    });
    assert_eq!((median, empty), (POLL_CALL, 0), "one poll of one partition, and nothing else");
}
