//! Tests of the broker as its handles see it.

use crate::broker::NewTopic;
use crate::log::AppendOptions;
use crate::record::RecordInput;
use crate::time::VirtualClock;
use crate::{Broker, BrokerOptions, ConfigChange, ErrorKind, TopicConfig};

fn broker() -> Broker {
    BrokerOptions::new().clock(VirtualClock::stepping().clock()).in_memory().unwrap()
}

#[test]
fn a_topic_is_made_appended_to_grown_and_deleted() {
    let broker = broker();
    let admin = broker.admin();
    admin.create_topic("t", 2, TopicConfig::default()).unwrap();
    let topic = broker.inner().topic("t").unwrap();
    let partition = topic.partition(1).unwrap();
    let record = RecordInput { timestamp: 5, value: Some(b"v"), ..RecordInput::default() };
    let log = partition.log().unwrap();
    let appended = log.append(&record, AppendOptions::client(5)).unwrap();
    assert_eq!(appended.base_offset, 0);
    assert_eq!(log.log_end_offset().unwrap(), 1);
    let error = topic.partition(2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTopicOrPartition);
    let version = broker.inner().metadata_version();
    admin.grow_topic("t", 3).unwrap();
    assert!(broker.inner().metadata_version() > version);
    topic.partition(2).unwrap();
    admin.delete_topic("t").unwrap();
    assert!(topic.is_deleted());
    assert_eq!(topic.partition(0).unwrap_err().kind(), ErrorKind::UnknownTopicOrPartition);
    assert_eq!(admin.list_topics().unwrap(), []);
    admin.create_topic("t", 1, TopicConfig::default()).unwrap();
    let again = broker.inner().topic("t").unwrap();
    assert_ne!(again.id(), topic.id());
    assert_eq!(again.partition(0).unwrap().log().unwrap().log_end_offset().unwrap(), 0);
}

#[test]
fn topics_are_refused_as_kafka_refuses_them() {
    let broker = broker();
    let admin = broker.admin();
    admin.create_topic("a.b", 1, TopicConfig::default()).unwrap();
    let kind = |topic: NewTopic| admin.create(&topic).unwrap_err().kind();
    assert_eq!(kind(NewTopic::new("a.b", 1)), ErrorKind::TopicExists);
    assert_eq!(kind(NewTopic::new("a_b", 1)), ErrorKind::InvalidTopic);
    assert_eq!(kind(NewTopic::new("a b", 1)), ErrorKind::InvalidTopic);
    assert_eq!(kind(NewTopic::new("c", 0)), ErrorKind::InvalidPartitions);
    assert_eq!(kind(NewTopic::new("c", -2)), ErrorKind::InvalidPartitions);
    let replicas = NewTopic::new("c", 1).replication_factor(2);
    assert_eq!(kind(replicas), ErrorKind::InvalidReplicationFactor);
    assert_eq!(admin.check(&NewTopic::new("a.b", 1)).unwrap_err().kind(), ErrorKind::TopicExists);
    admin.check(&NewTopic::new("c", 1)).unwrap();
    let missing = admin.describe_topic("c").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::UnknownTopicOrPartition);
    assert_eq!(admin.grow_topic("a.b", 1).unwrap_err().kind(), ErrorKind::InvalidPartitions);
    let twice = ["1", "2"].map(|v| ConfigChange::Set("retention.ms".into(), v.into()));
    let error = admin.alter_topic("a.b", &twice).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
}
