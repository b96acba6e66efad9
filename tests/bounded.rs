//! What a broker takes of its process stays bounded: mappings and descriptors by the number of
//! partitions in use, resident memory by how much is kept mapped and not by how much is read.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use topiclite::storage::Fs;
use topiclite::{
    Broker, BrokerConfig, BrokerOptions, IsolationLevel, OffsetSpec, ProducerConfig,
    ProducerRecord, ReadFrom, TopicConfig,
};

const PARTITIONS: i32 = 10_000;
/// Descriptors kept between uses, and those in use at one moment.
const DESCRIPTORS_MAX: usize = 256 + 16;

/// Both tests look at the whole process, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn options() -> BrokerOptions {
    BrokerOptions::new().config(BrokerConfig::default().log_flush_interval_ms(3_600_000))
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn areas() -> usize {
    std::fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count())
}

fn end_offset(broker: &Broker, topic: &str, partition: i32) -> i64 {
    let isolation = IsolationLevel::ReadUncommitted;
    let listed = broker.admin().list_offsets(topic, partition, OffsetSpec::Latest, isolation);
    listed.unwrap().offset().unwrap()
}

#[test]
fn ten_thousand_partitions_take_a_mapping_each_once_written_and_few_descriptors() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let (areas_before, descriptors_before) = (areas(), open_descriptors());
    let fs = Fs::new();
    let broker = options().storage(Arc::new(fs.clone())).open(dir.path()).unwrap();
    let config = TopicConfig::default().segment_bytes(1 << 20);
    broker.admin().create_topic("idle", PARTITIONS, config.clone()).unwrap();
    for partition in (0..PARTITIONS).step_by(100) {
        assert_eq!(end_offset(&broker, "idle", partition), 0);
    }
    assert_eq!(fs.mappings(), 0, "a partition without records takes no mapping");

    broker.admin().create_topic("busy", PARTITIONS, config).unwrap();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let mut descriptors_most = 0;
    for partition in 0..PARTITIONS {
        let record = ProducerRecord::new("busy").value("one").partition(partition);
        assert_eq!(producer.send(record).unwrap().wait().unwrap().offset(), 0);
        descriptors_most = descriptors_most.max(fs.descriptors());
    }
    assert!(fs.mappings() <= PARTITIONS as usize, "{} mappings", fs.mappings());
    assert!(descriptors_most <= DESCRIPTORS_MAX, "{descriptors_most} descriptors");
    let (areas, descriptors) = (areas() - areas_before, open_descriptors() - descriptors_before);
    assert!(areas <= PARTITIONS as usize + 1_000, "{areas} areas of 65,530");
    assert!(descriptors <= DESCRIPTORS_MAX + 16, "{descriptors} descriptors in the process");

    drop((producer, broker));
    assert_eq!((fs.mappings(), fs.descriptors()), (0, 0), "all were let go of");
    let broker = options().storage(Arc::new(fs.clone())).open(dir.path()).unwrap();
    assert_eq!(fs.mappings(), 0, "opening maps no partition");
    for partition in (0..PARTITIONS).step_by(10) {
        assert_eq!(end_offset(&broker, "busy", partition), 1);
    }
    assert!(fs.mappings() <= PARTITIONS as usize / 10, "{} mappings", fs.mappings());
    assert!(fs.descriptors() <= DESCRIPTORS_MAX, "{} descriptors", fs.descriptors());
}

/// Resident bytes of this process, shared file pages included.
fn resident_bytes() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

#[test]
fn resident_memory_stays_flat_while_a_large_log_is_read() {
    const SEGMENT_BYTES: usize = 4 << 20;
    const LOG_BYTES: usize = 256 << 20;
    const MAPPED_MAX: usize = 4;
    const GROWTH_MAX: usize = 64 << 20;
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let value = vec![7u8; 16 << 10];
    let records = LOG_BYTES / value.len();
    {
        let broker = options().open(dir.path()).unwrap();
        let config = TopicConfig::default().segment_bytes(SEGMENT_BYTES as u32);
        broker.admin().create_topic("large", 1, config).unwrap();
        let producer = broker.producer(ProducerConfig::default()).unwrap();
        for _ in 0..records {
            producer.send(ProducerRecord::new("large").value(&value)).unwrap().wait().unwrap();
        }
        broker.close().unwrap();
    }
    let fs = Fs::new();
    let options = options().storage(Arc::new(fs.clone())).mapped_segments_max(MAPPED_MAX);
    let broker = options.open(dir.path()).unwrap();
    let mut reader = broker.reader("large", 0, ReadFrom::Beginning).unwrap().max_records(64);
    let (mut read, mut sum) = (0, 0u64);
    let (mut start, mut most, mut mapped_most) = (None, 0usize, 0);
    while read < records {
        let polled = reader.read(Duration::from_secs(10)).unwrap();
        assert!(!polled.is_empty(), "{read} of {records} records");
        read += polled.count();
        let bytes = polled.iter().filter_map(|record| record.value()).flatten();
        sum += bytes.map(|byte| u64::from(*byte)).sum::<u64>();
        mapped_most = mapped_most.max(fs.mappings());
        let Some(resident) = resident_bytes() else { continue };
        most = most.max(resident.saturating_sub(*start.get_or_insert(resident)));
    }
    assert_eq!(sum, 7 * (records * value.len()) as u64);
    assert!(mapped_most <= MAPPED_MAX + 4, "{mapped_most} mappings");
    assert!(most <= GROWTH_MAX, "resident memory grew by {most} bytes over {LOG_BYTES}");
}
