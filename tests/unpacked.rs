//! Small files that decompress to much: what a poll holds is bounded by `fetch.max.bytes` and its
//! first batch, whatever lies in the log.
#![cfg(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use topiclite::{
    Broker, Codec, ConsumerConfig, IsolationLevel, OffsetSpec, ProducerConfig, ProducerRecord,
    ReadFrom, TopicConfig, TopicPartition,
};

/// The system's allocator, which counts the bytes that are held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(held, Ordering::Relaxed);
}

// SAFETY: everything is passed on to the system's allocator as it came; the counters are atomics,
// for which nothing is allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is that of the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above; what is freed came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        took(size);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The tests count for the whole process, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What `work` returns, and the most bytes that were held meanwhile beyond those before.
fn most_held<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let done = work();
    (done, MOST.load(Ordering::Relaxed) - before)
}

const CODECS: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
/// What each batch decompresses to.
const BATCH: usize = 1 << 20;
const BATCHES: usize = 10;
const FETCH_MAX: usize = 2 << 20;
/// What a batch takes while it is decompressed: a buffer of up to four times its size, and one of
/// its size, which is what stays.
const GROWING: usize = 5 * BATCH;
/// Runs, cursors, the tables of a decoder.
const SLACK: usize = 512 << 10;

/// A directory with a topic of a few KiB a batch, each of `records` records.
fn bombs(codec: Codec, partitions: i32, records: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path()).unwrap();
    broker.admin().create_topic("bombs", partitions, TopicConfig::default()).unwrap();
    let config = ProducerConfig::from_properties([
        ("compression.type", codec.name()),
        ("max.request.size", "67108864"),
        ("batch.size", "67108864"),
    ]);
    let producer = broker.producer(config.unwrap()).unwrap();
    let value = vec![0; BATCH / records];
    for partition in 0..partitions {
        for _ in 0..BATCHES {
            let record = || ProducerRecord::new("bombs").value(&value).partition(partition);
            for sent in producer.send_all((0..records).map(|_| record())).unwrap() {
                sent.wait().unwrap();
            }
        }
    }
    broker.close().unwrap();
    dir
}

fn config(properties: &[(&str, &str)]) -> ConsumerConfig {
    let all = [("fetch.max.bytes", "2097152"), ("auto.offset.reset", "earliest")];
    ConsumerConfig::from_properties(all.iter().chain(properties).copied()).unwrap()
}

fn all(partitions: i32) -> Vec<TopicPartition> {
    (0..partitions).map(|partition| TopicPartition::new("bombs", partition)).collect()
}

#[test]
fn a_poll_holds_what_its_fetch_allows_beyond_the_first_batch() {
    let _turn = turn();
    for codec in CODECS {
        let dir = bombs(codec, 2, 1);
        for attached in [false, true] {
            let broker = match attached {
                true => Broker::attach(dir.path()).unwrap(),
                false => Broker::open(dir.path()).unwrap(),
            };
            let mut consumer = broker.consumer(config(&[])).unwrap();
            consumer.assign(&all(2)).unwrap();
            let (mut read, mut polls) = (0, 0);
            while read < 2 * BATCHES {
                let (records, most) = most_held(|| consumer.poll(Duration::from_secs(5)).unwrap());
                assert!(!records.is_empty(), "{codec}: {read} records");
                read += records.count();
                polls += 1;
                assert!(most <= GROWING + FETCH_MAX + SLACK, "{codec}: {most} bytes in a poll");
                let values: usize = records.iter().map(|r| r.value().unwrap().len()).sum();
                assert!(values <= BATCH + FETCH_MAX, "{codec}: {values} bytes returned");
            }
            assert!(polls >= 2 * BATCHES * BATCH / (BATCH + FETCH_MAX), "{codec}: {polls} polls");
        }
    }
}

#[test]
fn a_first_batch_beyond_the_limit_is_returned_alone() {
    let _turn = turn();
    for codec in CODECS {
        let dir = bombs(codec, 1, 1);
        let broker = Broker::open(dir.path()).unwrap();
        let mut consumer = broker.consumer(config(&[("fetch.max.bytes", "1")])).unwrap();
        consumer.assign(&all(1)).unwrap();
        for _ in 0..BATCHES {
            let (records, most) = most_held(|| consumer.poll(Duration::ZERO).unwrap());
            assert_eq!(records.count(), 1, "{codec}");
            assert!(most <= GROWING + SLACK, "{codec}: {most} bytes");
        }
    }
}

#[test]
fn one_record_a_poll_decompresses_one_batch_and_pausing_lets_go_of_it() {
    let _turn = turn();
    for codec in CODECS {
        let dir = bombs(codec, 4, 4);
        let broker = Broker::open(dir.path()).unwrap();
        let mut consumer = broker.consumer(config(&[("max.poll.records", "1")])).unwrap();
        consumer.assign(&all(4)).unwrap();
        let before = HELD.load(Ordering::Relaxed);
        // Each poll leaves its partition in the middle of a batch.
        for _ in 0..4 {
            let (records, most) = most_held(|| consumer.poll(Duration::from_secs(5)).unwrap());
            assert_eq!(records.count(), 1, "{codec}");
            assert!(most <= GROWING + SLACK, "{codec}: {most} bytes");
            let partitions: Vec<_> = records.partitions().cloned().collect();
            drop(records);
            consumer.pause(&partitions).unwrap();
        }
        let held = HELD.load(Ordering::Relaxed).saturating_sub(before);
        assert!(held <= SLACK, "{codec}: {held} bytes are held for paused partitions");
        consumer.resume(&all(4)).unwrap();
        let mut read = 4;
        while read < 4 * 4 * BATCHES {
            let records = consumer.poll(Duration::from_secs(5)).unwrap();
            assert_eq!(records.count(), 1, "{codec}: {read}");
            read += 1;
        }
    }
}

#[test]
fn readers_and_lookups_hold_little() {
    let _turn = turn();
    const READER_MAX: usize = 50 << 20;
    for codec in CODECS {
        let dir = bombs(codec, 1, 1);
        for attached in [false, true] {
            let broker = match attached {
                true => Broker::attach(dir.path()).unwrap(),
                false => Broker::open(dir.path()).unwrap(),
            };
            let mut reader = broker.reader("bombs", 0, ReadFrom::Beginning).unwrap();
            let mut read = 0;
            while read < BATCHES {
                let (records, most) = most_held(|| reader.read(Duration::from_secs(5)).unwrap());
                assert!(!records.is_empty(), "{codec}");
                read += records.count();
                assert!(most <= READER_MAX + GROWING + SLACK, "{codec}: {most} bytes in a read");
            }
            reader.seek(ReadFrom::Beginning).unwrap();
            for _ in 0..3 {
                let (_, most) = most_held(|| reader.next(Duration::ZERO).unwrap().is_some());
                assert!(most <= GROWING + SLACK, "{codec}: {most} bytes for one record");
            }
            let spec = OffsetSpec::Timestamp(i64::MAX - 1);
            let isolation = IsolationLevel::ReadUncommitted;
            let admin = broker.admin();
            for spec in [spec, OffsetSpec::Timestamp(1), OffsetSpec::MaxTimestamp] {
                let look = || admin.list_offsets("bombs", 0, spec, isolation).unwrap();
                let (_, most) = most_held(look);
                assert!(most <= GROWING + SLACK, "{codec}: {most} bytes for a lookup");
            }
        }
    }
}

#[test]
fn a_member_of_a_group_and_its_lookups_hold_no_more() {
    /// What a group takes beside the records: its coordinator, the logs of its partitions.
    const GROUP: usize = 2 << 20;
    let _turn = turn();
    for codec in CODECS {
        let dir = bombs(codec, 2, 1);
        let broker = Broker::open(dir.path()).unwrap();
        let mut member = broker.consumer(config(&[("group.id", "g")])).unwrap();
        member.subscribe(&["bombs"]).unwrap();
        let times: BTreeMap<_, _> = all(2).into_iter().map(|partition| (partition, 1)).collect();
        let mut read = 0;
        while read < 2 * BATCHES {
            let (records, most) = most_held(|| member.poll(Duration::from_secs(5)).unwrap());
            assert!(!records.is_empty(), "{codec}: {read} records");
            read += records.count();
            let bound = GROWING + FETCH_MAX + SLACK + GROUP;
            assert!(most <= bound, "{codec}: {most} bytes in a poll");
            drop(records);
            let (_, most) = most_held(|| member.commit_sync().unwrap());
            assert!(most <= SLACK, "{codec}: {most} bytes for a commit");
            let (found, most) = most_held(|| member.offsets_for_times(&times).unwrap());
            assert!(found.values().all(|found| found.as_ref().unwrap().offset() == 0), "{codec}");
            assert!(most <= GROWING + SLACK, "{codec}: {most} bytes for a lookup");
        }
        member.close().unwrap();
    }
}

/// Records that compress well wait as they are: what is estimated to fit into a batch may be far
/// more than `batch.size`.
#[test]
fn what_lingers_is_bounded_by_buffer_memory_however_it_compresses() {
    const BUFFER: usize = 1 << 20;
    const SENT: usize = 12 << 20;
    let _turn = turn();
    for codec in Codec::ALL {
        for compressible in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let broker = Broker::open(dir.path()).unwrap();
            broker.admin().create_topic("t", 4, TopicConfig::default()).unwrap();
            let config = ProducerConfig::from_properties([
                ("compression.type", codec.name()),
                ("buffer.memory", "1048576"),
                ("linger.ms", "600000"),
                ("delivery.timeout.ms", "1200000"),
            ]);
            let producer = broker.producer(config.unwrap()).unwrap();
            let mut noise = 1_u64;
            let mut value = vec![0; 1000];
            let (_, most) = most_held(|| {
                for n in 0..SENT / value.len() {
                    if !compressible {
                        value.iter_mut().for_each(|byte| {
                            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                            *byte = (noise >> 56) as u8;
                        });
                    }
                    let partition = i32::try_from(n % 4).unwrap();
                    let record = ProducerRecord::new("t").value(&value).partition(partition);
                    drop(producer.send(record).unwrap());
                }
            });
            // The records, the room that their buffers grew to, and a batch on its way to the log.
            let bound = 8 * BUFFER;
            assert!(most <= bound, "{codec}, compressible {compressible}: {most} bytes");
            producer.close().unwrap();
            let sent: i64 = (0..4)
                .map(|partition| {
                    let isolation = IsolationLevel::ReadUncommitted;
                    let end =
                        broker.admin().list_offsets("t", partition, OffsetSpec::Latest, isolation);
                    end.unwrap().offset().unwrap()
                })
                .sum();
            assert_eq!(sent, (SENT / 1000) as i64, "{codec}");
        }
    }
}
