//! What goes wrong in the background is seen, kept, and told by the close.

use crate::log::AppendOptions;
use crate::record::RecordInput;
use crate::storage::faults::{Call, Failure, Rule};
use crate::storage::{Fault, Heap, Storage};
use crate::sync::Arc;
use crate::time::VirtualClock;
use crate::topic::TopicPartition;
use crate::{Broker, BrokerOptions, ErrorKind, TopicConfig};
use std::time::Duration;

fn append(broker: &Broker, topic: &str) -> crate::Result<i64> {
    let partition = broker.inner().topic(topic)?.partition(0)?;
    let record = RecordInput { timestamp: 5, value: Some(b"v"), ..RecordInput::default() };
    Ok(partition.log()?.append(&record, AppendOptions::client(5))?.base_offset)
}

fn faulty(clock: &VirtualClock) -> (Arc<Fault>, Broker) {
    let fault = Arc::new(Fault::new(Arc::new(Heap::new())));
    let storage: Arc<dyn Storage> = fault.clone();
    let broker = BrokerOptions::new().clock(clock.clock()).storage(storage).open("/data").unwrap();
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    broker.admin().create_topic("u", 1, TopicConfig::default()).unwrap();
    (fault, broker)
}

#[test]
fn a_failed_background_flush_stops_its_partition_and_is_told_by_the_close() {
    let clock = VirtualClock::stepping();
    let (fault, broker) = faulty(&clock);
    append(&broker, "t").unwrap();
    append(&broker, "u").unwrap();
    fault.fail(Rule::nth(0, Failure::Io).of(&[Call::SyncData]).on("t-0"));
    clock.advance(Duration::from_millis(1500));
    assert!(fault.has_fired());
    let health = broker.health();
    assert!(!health.is_ok());
    assert_eq!(health.first_error().unwrap().kind(), ErrorKind::StorageFailed);
    let failed: Vec<_> =
        health.failed_partitions().map(|(partition, _)| partition.clone()).collect();
    assert_eq!(failed, [TopicPartition::new("t", 0)]);
    assert_eq!(append(&broker, "t").unwrap_err().kind(), ErrorKind::StorageFailed);
    assert_eq!(append(&broker, "u").unwrap(), 1, "other partitions go on");
    assert_eq!(broker.close().unwrap_err().kind(), ErrorKind::StorageFailed);
    broker.close().unwrap();
    let storage: Arc<dyn Storage> = fault;
    let broker = BrokerOptions::new().clock(clock.clock()).storage(storage).open("/data").unwrap();
    assert!(broker.health().is_ok(), "opening again starts over");
    assert_eq!(append(&broker, "u").unwrap(), 2);
}

#[test]
fn a_full_disk_refuses_the_change_and_leaves_everything_as_it_was() {
    let clock = VirtualClock::stepping();
    let (fault, broker) = faulty(&clock);
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::WriteAt]).on("topiclite.registry"));
    let error = broker.admin().create_topic("v", 1, TopicConfig::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(error.is_retriable());
    assert_eq!(broker.admin().list_topics().unwrap().len(), 2);
    broker.admin().create_topic("v", 1, TopicConfig::default()).unwrap();
    assert_eq!(append(&broker, "v").unwrap(), 0);
}

#[test]
fn a_disk_that_is_full_for_work_in_the_background_is_a_warning() {
    let clock = VirtualClock::stepping();
    let (fault, broker) = faulty(&clock);
    append(&broker, "t").unwrap();
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Allocate]));
    let mut appended = 1;
    while !fault.has_fired() {
        assert_eq!(append(&broker, "t").unwrap(), appended);
        appended += 1;
        // Pages are prepared ahead of the writer.
        clock.advance(Duration::from_millis(1));
    }
    let health = broker.health();
    assert!(health.is_ok(), "{health:?}");
    assert!(health.warnings().any(|text| text.contains("t-0") && text.contains("free space")));
    for _ in 0..appended * 3 {
        append(&broker, "t").unwrap();
    }
    broker.close().unwrap();
}

#[test]
fn a_failed_sync_of_the_registry_is_final_for_changes_and_leaves_records_alone() {
    let clock = VirtualClock::stepping();
    let (fault, broker) = faulty(&clock);
    append(&broker, "t").unwrap();
    fault.fail(Rule::nth(0, Failure::Io).of(&[Call::SyncData]).on("topiclite.registry"));
    for _ in 0..2 {
        let error = broker.admin().create_topic("v", 1, TopicConfig::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFailed);
    }
    assert_eq!(append(&broker, "t").unwrap(), 1);
}

#[test]
fn a_life_that_cannot_begin_refuses_appends_and_begins_later() {
    let clock = VirtualClock::stepping();
    let (fault, broker) = faulty(&clock);
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::WriteAt]).on("topiclite.state"));
    assert_eq!(append(&broker, "t").unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(append(&broker, "t").unwrap(), 0);
    broker.close().unwrap();
}

#[test]
fn a_thread_that_panics_is_in_the_health_of_its_broker() {
    let broker = Broker::in_memory().unwrap();
    broker.inner().call_flusher(Box::new(|| panic!("as planned")));
    let deadline = broker.clock().monotonic() + Duration::from_secs(60);
    while broker.health().is_ok() && broker.clock().monotonic() < deadline {
        std::thread::yield_now();
    }
    let health = broker.health();
    let error = health.first_error().unwrap();
    assert!(error.to_string().contains("log-flusher panicked: as planned"), "{error}");
    assert_eq!(broker.close().unwrap_err().to_string(), error.to_string());
}

#[test]
fn dropping_the_last_handle_stops_the_threads_and_frees_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let broker = Broker::open(dir.path()).unwrap();
        let other = broker.clone();
        let admin = broker.admin();
        if round == 0 {
            admin.create_topic("t", 1, TopicConfig::default()).unwrap();
        }
        assert_eq!(append(&broker, "t").unwrap(), round);
        drop(broker);
        drop(other);
        let held = Broker::open(dir.path()).unwrap_err();
        assert_eq!(held.kind(), ErrorKind::Locked, "an Admin is a handle, too");
        drop(admin);
    }
    let names: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!names.iter().any(|name| name.contains("clean")), "nothing is claimed: {names:?}");
}
