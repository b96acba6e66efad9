//! Tests of the broker as its handles see it.

pub(in crate::broker) mod attach;
pub(in crate::broker) mod cleaned_reads;
pub(in crate::broker) mod cleaning_policies;
pub(in crate::broker) mod compaction;
pub(in crate::broker) mod crash;
pub(in crate::broker) mod golden;
pub(in crate::broker) mod groups;
pub(in crate::broker) mod health;
pub(in crate::broker) mod life;
pub(in crate::broker) mod producer_ids;
pub(in crate::broker) mod protected;
pub(in crate::broker) mod retention;
pub(in crate::broker) mod transaction_crashes;
pub(in crate::broker) mod transaction_model;
pub(in crate::broker) mod transactions;

use crate::broker::NewTopic;
use crate::group::{MemberRef, OffsetToCommit, partition_for};
use crate::log::AppendOptions;
use crate::record::RecordInput;
use crate::storage::{Heap, Storage};
use crate::sync::Arc;
use crate::time::VirtualClock;
use crate::topic::{OFFSETS_TOPIC, TopicPartition};
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
fn a_member_that_commits_what_is_committed_stores_nothing() {
    use crate::{ConsumerConfig, OffsetReset, ProducerConfig, ProducerRecord};
    use std::time::Duration;
    let broker = broker();
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let config = ConsumerConfig::new("g").auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config).unwrap();
    consumer.subscribe(&["t"]).unwrap();
    let stored = || -> i64 {
        let topic = broker.inner().topic(OFFSETS_TOPIC).unwrap();
        let ends = (0..topic.partition_count())
            .map(|number| topic.partition(number).unwrap().log_end_offset().unwrap());
        ends.sum()
    };
    for round in 1..=2 {
        producer.send_sync(ProducerRecord::new("t").value("v")).unwrap();
        while consumer.poll(Duration::from_secs(1)).unwrap().is_empty() {}
        consumer.commit_sync().unwrap();
        let before = stored();
        for _ in 0..20 {
            assert!(consumer.poll(Duration::from_secs(1)).unwrap().is_empty());
            consumer.commit_sync().unwrap();
        }
        assert_eq!(stored(), before, "round {round}: twenty seconds of nothing");
        let next = crate::OffsetAndMetadata::new(round).metadata("a note");
        let offsets = [(TopicPartition::new("t", 0), next)].into();
        consumer.commit_sync_offsets(&offsets).unwrap();
        assert_eq!(stored(), before + 1, "the text is another");
    }
    consumer.close().unwrap();
    // Without members the time of a commit counts: offsets expire by it.
    let admin = broker.admin();
    let offset = [(TopicPartition::new("t", 0), crate::GroupOffset::new(2).unwrap())].into();
    admin.alter_group_offsets("g", &offset).unwrap();
    let before = stored();
    admin.alter_group_offsets("g", &offset).unwrap();
    assert_eq!(stored(), before + 1);
}

#[test]
fn what_this_version_would_not_do_is_refused() {
    let broker = Broker::in_memory().unwrap();
    let admin = broker.admin();
    let config = |key, value| TopicConfig::default().with(key, value);
    for key in ["preallocate", "unclean.leader.election.enable"] {
        let made = |value| admin.create_topic(value, 1, config(key, value).unwrap());
        let error = made("true").unwrap_err();
        assert!(error.message().starts_with(key), "{error}");
        made("false").unwrap();
        admin.delete_topic("false").unwrap();
    }
    for property in [("log.preallocate", "true"), ("unclean.leader.election.enable", "true")] {
        let opened = BrokerOptions::from_properties([property]).and_then(BrokerOptions::in_memory);
        assert_eq!(opened.err().map(|error| error.kind()), Some(ErrorKind::InvalidConfig));
    }
}

/// Another version took what this one refuses: such a topic lives on, and changes.
#[test]
fn a_topic_that_was_stored_with_what_is_refused_can_be_altered() {
    let storage: Arc<dyn Storage> = Arc::new(Heap::new());
    let open = || BrokerOptions::new().storage(storage.clone()).open("/stored").unwrap();
    let set = |key: &str, value: &str| ConfigChange::Set(key.to_owned(), value.to_owned());
    let broker = open();
    for topic in ["t", "u"] {
        broker.admin().create_topic(topic, 1, TopicConfig::default()).unwrap();
    }
    let unbuilt = [set("preallocate", "true"), set("unclean.leader.election.enable", "true")];
    broker.inner().store_unbuilt("t", &unbuilt).unwrap();
    broker.close().unwrap();
    let broker = open();
    let admin = broker.admin();
    admin.alter_topic("t", &[set("retention.ms", "5")]).unwrap();
    let told = admin.describe_topic("t").unwrap();
    assert_eq!(told.config_value("retention.ms"), Some("5"));
    assert_eq!(told.config_value("preallocate"), Some("true"));
    for change in unbuilt {
        let error = admin.alter_topic("u", &[change]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidTopicConfig);
    }
    admin.alter_topic("t", &[set("preallocate", "false")]).unwrap();
    let error = admin.alter_topic("t", &[set("preallocate", "true")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTopicConfig, "what it has no more is refused");
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

fn commit(broker: &Broker, group: &str, partition: i32, offset: i64) {
    let member = MemberRef {
        group_id: group.into(),
        member_id: "".into(),
        group_instance_id: None,
        generation_id: -1,
    };
    let offsets = [OffsetToCommit {
        partition: TopicPartition::new("t", partition),
        offset,
        leader_epoch: -1,
        metadata: "m".into(),
    }];
    let outcomes = broker.inner().groups().unwrap().commit(&member, &offsets).unwrap();
    outcomes.into_iter().for_each(|(_, outcome)| outcome.unwrap());
}

fn committed(broker: &Broker, group: &str) -> Vec<(i32, i64)> {
    let offsets = broker.inner().groups().unwrap().list_offsets(group).unwrap();
    offsets.iter().map(|(partition, stored)| (partition.partition(), stored.offset)).collect()
}

#[test]
fn commits_are_records_of_the_offsets_topic_and_go_with_their_topic() {
    let broker = broker();
    let admin = broker.admin();
    admin.create_topic("t", 2, TopicConfig::default()).unwrap();
    assert_eq!(committed(&broker, "g"), []);
    assert_eq!(admin.list_all_topics().unwrap().len(), 1, "reading makes no offsets topic");
    commit(&broker, "g", 0, 4);
    commit(&broker, "g", 1, 7);
    commit(&broker, "h", 1, 1);
    assert_eq!(committed(&broker, "g"), [(0, 4), (1, 7)]);
    let topic = broker.inner().topic(OFFSETS_TOPIC).unwrap();
    assert_eq!(topic.partition_count(), 50);
    let stored = |group: &str| {
        let partition = topic.partition(partition_for(group, 50)).unwrap();
        partition.log_end_offset().unwrap()
    };
    assert_eq!((stored("g"), stored("h")), (2, 1));
    admin.delete_topic("t").unwrap();
    assert_eq!(committed(&broker, "g"), []);
    assert_eq!((stored("g"), stored("h")), (4, 2));
}

#[test]
fn deleting_the_offsets_topic_forgets_every_group_and_a_commit_makes_it_anew() {
    let broker = broker();
    let admin = broker.admin();
    admin.create_topic("t", 2, TopicConfig::default()).unwrap();
    commit(&broker, "g", 0, 4);
    admin.delete_topic(OFFSETS_TOPIC).unwrap();
    assert_eq!(committed(&broker, "g"), []);
    commit(&broker, "g", 0, 1);
    assert_eq!(committed(&broker, "g"), [(0, 1)]);
    assert!(admin.describe_topic(OFFSETS_TOPIC).unwrap().is_internal());
    assert_eq!(broker.inner().groups().unwrap().list().unwrap().len(), 1);
}

#[test]
fn what_is_wrong_with_a_missing_topic_is_told_in_kafkas_order() {
    let broker = Broker::in_memory().unwrap();
    let admin = broker.admin();
    let alter = |name: &str, key: &str, value: &str| {
        let change = ConfigChange::Set(key.to_owned(), value.to_owned());
        admin.alter_topic(name, &[change]).unwrap_err().kind()
    };
    assert_eq!(alter("t", "min.insync.replicas", "0"), ErrorKind::InvalidTopicConfig);
    assert_eq!(alter("t", "retention.ms", "1"), ErrorKind::UnknownTopicOrPartition);
    assert_eq!(alter("bad name", "min.insync.replicas", "0"), ErrorKind::InvalidTopic);
    assert_eq!(alter("", "retention.ms", "1"), ErrorKind::InvalidRequest);
    let deleted = admin.delete_topic("bad name").unwrap_err().kind();
    assert_eq!(deleted, ErrorKind::UnknownTopicOrPartition);
}
