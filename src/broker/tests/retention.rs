//! Corners of retention, and of deleted records, as clients see them: rules that meet, policies
//! that exclude each other, and transactions that are open where records go.

use crate::storage::{Heap, Storage};
use crate::sync::Arc;
use crate::time::VirtualClock;
use crate::{
    Broker, BrokerOptions, ConfigChange, ErrorKind, IsolationLevel, OffsetSpec, ProducerConfig,
    ProducerRecord, ReadFrom, TopicConfig,
};
use std::time::Duration;

fn open(storage: &Arc<dyn Storage>, clock: &VirtualClock) -> Broker {
    BrokerOptions::new().clock(clock.clock()).storage(storage.clone()).open("/data").unwrap()
}

fn heap() -> (Arc<dyn Storage>, VirtualClock) {
    (Arc::new(Heap::new()), VirtualClock::stepping())
}

fn create(broker: &Broker, config: TopicConfig, records: usize) {
    broker.admin().create_topic("t", 1, config.segment_bytes(400)).unwrap();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    for n in 0..records {
        let record = ProducerRecord::new("t").key(n.to_string()).value("v");
        producer.send_sync(record).unwrap();
    }
}

fn start(broker: &Broker) -> i64 {
    let isolation = IsolationLevel::ReadUncommitted;
    let listed = broker.admin().list_offsets("t", 0, OffsetSpec::Earliest, isolation).unwrap();
    listed.offset().unwrap()
}

fn end(broker: &Broker, isolation: IsolationLevel) -> i64 {
    let listed = broker.admin().list_offsets("t", 0, OffsetSpec::Latest, isolation).unwrap();
    listed.offset().unwrap()
}

fn alter(broker: &Broker, key: &str, value: &str) {
    let change = ConfigChange::Set(key.into(), value.into());
    broker.admin().alter_topic("t", &[change]).unwrap();
}

/// How many bytes of batches are kept.
fn size(broker: &Broker) -> u64 {
    broker.admin().partition_size("t", 0).unwrap().batch_bytes()
}

const PASS: Duration = Duration::from_secs(301);

#[test]
fn the_rules_meet_in_one_pass_first_deleted_records_then_size_then_age() {
    let (storage, clock) = heap();
    let broker = open(&storage, &clock);
    create(&broker, TopicConfig::default().retention_ms(-1), 100);
    let whole = size(&broker);
    broker.admin().delete_records("t", 0, 30).unwrap();
    clock.advance(PASS);
    let without_deleted = size(&broker);
    assert!(without_deleted < whole && start(&broker) == 30);
    // What was deleted does not count for the size any more.
    alter(&broker, "retention.bytes", &without_deleted.to_string());
    clock.advance(PASS);
    assert_eq!((size(&broker), start(&broker)), (without_deleted, 30));
    alter(&broker, "retention.bytes", &(without_deleted / 2).to_string());
    clock.advance(PASS);
    assert!(size(&broker) >= without_deleted / 2, "never below the limit");
    let by_size = start(&broker);
    assert!(by_size > 30 && by_size < 100);
    alter(&broker, "retention.ms", "1000");
    clock.advance(PASS);
    assert_eq!((size(&broker), start(&broker)), (0, 100));
    // The last segment has no record, and stays.
    clock.advance(PASS);
    assert_eq!(start(&broker), 100);
    broker.close().unwrap();
    let broker = open(&storage, &clock);
    assert_eq!((start(&broker), end(&broker, IsolationLevel::ReadUncommitted)), (100, 100));
}

#[test]
fn records_ahead_of_the_clock_hold_back_themselves_and_all_behind_them() {
    let (storage, clock) = heap();
    let broker = open(&storage, &clock);
    create(&broker, TopicConfig::default().retention_ms(1000), 20);
    let ahead = clock.clock().now().wall_ms + 3_000_000;
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let stamped = ProducerRecord::new("t").key("ahead").value("v").timestamp(ahead);
    producer.send_sync(stamped).unwrap();
    for n in 0..20 {
        producer.send_sync(ProducerRecord::new("t").key(n.to_string()).value("v")).unwrap();
    }
    clock.advance(PASS);
    let held = start(&broker);
    assert!(held > 0 && held <= 20, "{held}");
    clock.advance(PASS);
    assert_eq!(start(&broker), held);
    clock.advance(Duration::from_secs(3600));
    assert_eq!(start(&broker), 41);
}

#[test]
fn without_the_delete_policy_only_deleted_records_go() {
    for policy in ["", "compact"] {
        let (storage, clock) = heap();
        let broker = open(&storage, &clock);
        let config = TopicConfig::default().retention_ms(1000).retention_bytes(0);
        create(&broker, config.with("min.cleanable.dirty.ratio", 1).unwrap(), 40);
        broker.admin().delete_records("t", 0, 20).unwrap();
        let before = size(&broker);
        alter(&broker, "cleanup.policy", policy);
        clock.advance(PASS);
        assert_eq!(start(&broker), 20, "policy {policy:?}");
        assert!(size(&broker) < before, "segments below the start go under {policy:?}");
        let refused = broker.admin().delete_records("t", 0, 30).map_err(|error| error.kind());
        match policy {
            "" => assert_eq!(refused, Ok(30)),
            _ => assert_eq!(refused, Err(ErrorKind::PolicyViolation)),
        }
        alter(&broker, "cleanup.policy", "delete");
        clock.advance(PASS);
        assert_eq!(start(&broker), 40, "policy {policy:?} and then delete");
    }
}

#[test]
fn records_of_an_open_transaction_can_be_deleted_and_its_end_is_none_of_theirs() {
    let (storage, clock) = heap();
    let broker = open(&storage, &clock);
    create(&broker, TopicConfig::default(), 0);
    let plain = broker.producer(ProducerConfig::default()).unwrap();
    let config = ProducerConfig::default().transactional_id("x");
    let transactional = broker.producer(config).unwrap();
    transactional.init_transactions().unwrap();
    transactional.begin_transaction().unwrap();
    let record = |key: &'static str| ProducerRecord::new("t").key(key).value("v");
    transactional.send_sync(record("a")).unwrap();
    plain.send_sync(record("b")).unwrap();
    transactional.send_sync(record("c")).unwrap();
    let committed = |broker: &Broker| end(broker, IsolationLevel::ReadCommitted);
    assert_eq!(committed(&broker), 0);
    broker.admin().delete_records("t", 0, 2).unwrap();
    assert_eq!((start(&broker), committed(&broker)), (2, 2), "it is not below the start");
    broker.admin().delete_records("t", 0, -1).unwrap();
    assert_eq!((start(&broker), committed(&broker)), (3, 3));
    plain.send_sync(record("d")).unwrap();
    assert_eq!(committed(&broker), 3, "the transaction is open all the same");
    transactional.commit_transaction().unwrap();
    assert_eq!(committed(&broker), 5);
    let reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    let mut reader = reader.isolation_level(IsolationLevel::ReadCommitted);
    let read = reader.read(Duration::ZERO).unwrap();
    let keys: Vec<_> = read.iter().map(|record| record.key().unwrap().to_vec()).collect();
    assert_eq!(keys, [b"d"]);
}
