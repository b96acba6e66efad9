//! Reading beside a running owner, and what a dead one left.

use crate::config::IsolationLevel;
use crate::group::{MemberRef, OffsetToCommit};
use crate::log::{AppendOptions, Cursor, FetchLimits};
use crate::record::RecordInput;
use crate::storage::{Heap, Storage};
use crate::sync::Arc;
use crate::time::{Signal, VirtualClock};
use crate::topic::TopicPartition;
use crate::{
    Broker, BrokerOptions, ConfigChange, ConsumerConfig, ErrorKind, ReadFrom, TopicConfig,
};
use std::path::Path;
use std::time::Duration;

fn options(storage: &Arc<dyn Storage>) -> BrokerOptions {
    BrokerOptions::new().clock(VirtualClock::stepping().clock()).storage(storage.clone())
}

fn owner(storage: &Arc<dyn Storage>) -> Broker {
    options(storage).open("/data").unwrap()
}

fn attach(storage: &Arc<dyn Storage>) -> Broker {
    options(storage).attach("/data").unwrap()
}

fn append(broker: &Broker, value: &str) -> i64 {
    let partition = broker.inner().topic("t").unwrap().partition(0).unwrap();
    let record =
        RecordInput { timestamp: 5, value: Some(value.as_bytes()), ..RecordInput::default() };
    partition.log().unwrap().append(&record, AppendOptions::client(5)).unwrap().base_offset
}

fn commit(broker: &Broker, offset: i64) {
    let member = MemberRef {
        group_id: "g".into(),
        member_id: "".into(),
        group_instance_id: None,
        generation_id: -1,
    };
    let commit = OffsetToCommit {
        partition: TopicPartition::new("t", 0),
        offset,
        leader_epoch: -1,
        metadata: "".into(),
    };
    let outcomes = broker.inner().groups().unwrap().commit(&member, &[commit]).unwrap();
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
}

fn committed(broker: &Broker) -> Vec<i64> {
    let offsets = broker.admin().list_group_offsets("g").unwrap();
    offsets.values().map(|offset| offset.offset()).collect()
}

#[test]
fn an_attached_broker_follows_what_its_owner_does() {
    let storage: Arc<dyn Storage> = Arc::new(Heap::new());
    let owner = owner(&storage);
    let reader = attach(&storage);
    assert_eq!(reader.admin().list_topics().unwrap(), []);
    owner.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let names: Vec<_> =
        reader.admin().list_topics().unwrap().iter().map(|t| t.name().to_owned()).collect();
    assert_eq!(names, ["t"]);
    let partition = reader.inner().topic("t").unwrap().partition(0).unwrap();
    assert_eq!(partition.log_end_offset().unwrap(), 0);
    append(&owner, "a");
    append(&owner, "b");
    assert_eq!(partition.log_end_offset().unwrap(), 2);
    let mut cursor = Cursor::new(1);
    let limits = FetchLimits::bytes(1 << 20);
    let chunk = partition.fetch(&mut cursor, IsolationLevel::ReadUncommitted, limits).unwrap();
    assert_eq!(chunk.upto(), 2);
    commit(&owner, 1);
    assert_eq!(committed(&reader), [1]);
    commit(&owner, 2);
    assert_eq!(committed(&reader), [2]);
    owner.admin().grow_topic("t", 4).unwrap();
    let change = ConfigChange::Set("retention.ms".into(), "7".into());
    owner.admin().alter_topic("t", &[change]).unwrap();
    let seen = reader.admin().describe_topic("t").unwrap();
    assert_eq!((seen.partition_count(), seen.config_value("retention.ms")), (4, Some("7")));
    owner.admin().delete_topic("t").unwrap();
    let gone = reader.admin().describe_topic("t").unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::UnknownTopicOrPartition);
    assert!(committed(&reader).is_empty());
}

#[test]
fn an_attached_broker_writes_nothing_and_needs_no_lock() {
    let storage: Arc<dyn Storage> = Arc::new(Heap::new());
    let owner = owner(&storage);
    owner.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    append(&owner, "a");
    let reader = attach(&storage);
    let admin = reader.admin();
    let read_only = Err(ErrorKind::ReadOnly);
    let create = admin.create_topic("u", 1, TopicConfig::default());
    assert_eq!(create.map_err(|e| e.kind()), read_only);
    assert_eq!(admin.delete_topic("t").map_err(|e| e.kind()), read_only);
    assert_eq!(admin.grow_topic("t", 2).map_err(|e| e.kind()), read_only);
    assert_eq!(admin.delete_records("t", 0, 1).map_err(|e| e.kind()).map(drop), read_only);
    assert_eq!(admin.delete_group("g").map_err(|e| e.kind()), read_only);
    let partition = reader.inner().topic("t").unwrap().partition(0).unwrap();
    assert_eq!(partition.log().map_err(|e| e.kind()).map(drop), read_only);
    drop(owner);
    assert_eq!(partition.log_end_offset().unwrap(), 1, "also what a killed owner left");
    reader.close().unwrap();
    assert!(!storage.exists(Path::new("/data/.kafka_cleanshutdown")).unwrap());
}

#[test]
fn who_waits_at_the_end_of_an_attached_partition_is_woken() {
    let storage: Arc<dyn Storage> = Arc::new(Heap::new());
    let owner = owner(&storage);
    owner.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    append(&owner, "a");
    let reader = attach(&storage);
    let partition = reader.inner().topic("t").unwrap().partition(0).unwrap();
    let signal = Arc::new(Signal::new());
    let isolation = IsolationLevel::ReadUncommitted;
    assert!(partition.watch(&signal, 0, isolation).unwrap());
    assert!(!partition.watch(&signal, 1, isolation).unwrap());
    let clock = reader.clock();
    let soon = clock.monotonic() + Duration::from_millis(100);
    assert!(!clock.park(&signal, Some(soon)), "nothing was appended");
    append(&owner, "b");
    assert!(clock.park(&signal, Some(soon + Duration::from_millis(100))));
}

#[test]
fn a_topic_made_anew_is_not_read_through_what_was_opened_of_the_old_one() {
    let storage: Arc<dyn Storage> = Arc::new(Heap::new());
    let owner = owner(&storage);
    let make = |values: &[&str]| {
        owner.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
        for value in values {
            append(&owner, value);
        }
    };
    make(&["a", "b", "c"]);
    let attached = attach(&storage);
    let mut reader = attached.reader("t", 0, ReadFrom::Offset(2)).unwrap();
    assert_eq!(reader.next(Duration::ZERO).unwrap().unwrap().value(), Some(&b"c"[..]));
    let mut consumer = attached.consumer(ConsumerConfig::without_group()).unwrap();
    consumer.assign(&[TopicPartition::new("t", 0)]).unwrap();
    consumer.seek(&TopicPartition::new("t", 0), 2).unwrap();
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().count(), 1);
    owner.admin().delete_topic("t").unwrap();
    let gone = ErrorKind::UnknownTopicOrPartition;
    assert_eq!(reader.read(Duration::ZERO).unwrap_err().kind(), gone);
    assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
    make(&["d", "e", "f", "g", "h"]);
    assert_eq!(reader.read(Duration::ZERO).unwrap_err().kind(), gone, "it stays gone");
    // The consumer follows the name, by its policy for resets: to the end.
    assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
    assert_eq!(append(&owner, "i"), 5);
    let records = consumer.poll(Duration::ZERO).unwrap();
    assert_eq!(records.iter().map(|record| record.offset()).collect::<Vec<_>>(), [5]);
    let mut reader = attached.reader("t", 0, ReadFrom::Beginning).unwrap();
    assert_eq!(reader.next(Duration::ZERO).unwrap().unwrap().value(), Some(&b"d"[..]));
}

#[test]
fn attaching_needs_a_directory() {
    let storage: Arc<dyn Storage> = Arc::new(Heap::new());
    let error = options(&storage).attach("/nowhere").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}
