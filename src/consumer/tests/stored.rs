//! What a group's stored offsets mean to a consumer.

use super::*;
use crate::config::TopicConfig;
use crate::error::ErrorKind;
use crate::group::{MemberRef, OffsetToCommit};

/// A broker with twenty records in `t-0` and a negative offset for it, as old clients left them.
fn negative(offset: i64) -> Broker {
    let world = World::new();
    world.put("t-0", 0, &(0..20).map(batch).collect::<Vec<_>>());
    let broker = world.open();
    broker.admin().create_topic("u", 1, TopicConfig::default()).unwrap();
    let member = MemberRef {
        group_id: "g".into(),
        member_id: "".into(),
        group_instance_id: None,
        generation_id: -1,
    };
    let commit = |partition, offset| OffsetToCommit {
        partition,
        offset,
        leader_epoch: -1,
        metadata: "".into(),
    };
    let offsets = [commit(t0(), offset), commit(TopicPartition::new("u", 0), 0)];
    let outcomes = broker.inner().groups().unwrap().commit(&member, &offsets).unwrap();
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
    broker
}

fn member(broker: &Broker, reset: &str) -> Consumer {
    let properties =
        [("group.id", "g"), ("auto.offset.reset", reset), ("enable.auto.commit", "false")];
    broker.consumer(ConsumerConfig::from_properties(properties).unwrap()).unwrap()
}

#[test]
fn a_negative_committed_offset_is_none_through_every_door() {
    for offset in [-1, -5, i64::MIN] {
        let broker = negative(offset);
        let mut none = member(&broker, "none");
        none.assign(&[t0()]).unwrap();
        assert_eq!(none.committed(&[t0()]).unwrap()[&t0()], None);
        let error = none.poll(Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoOffsetForPartition);
        let error = none.position(&t0()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoOffsetForPartition);
        assert_eq!(none.current_lag(&t0()).unwrap(), None);
        none.unsubscribe().unwrap();
        none.subscribe(&["t"]).unwrap();
        let error = none.poll(LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoOffsetForPartition);
        none.close().unwrap();

        let mut earliest = member(&broker, "earliest");
        earliest.assign(&[t0()]).unwrap();
        assert_eq!(earliest.position(&t0()).unwrap(), 0);
        assert_eq!(offsets(&earliest.poll(LONG).unwrap()), (0..20).collect::<Vec<_>>());
        let mut latest = member(&broker, "latest");
        latest.assign(&[t0()]).unwrap();
        assert_eq!(latest.position(&t0()).unwrap(), 20);

        let listed = broker.admin().list_group_offsets("g").unwrap();
        assert_eq!(listed.keys().collect::<Vec<_>>(), [&TopicPartition::new("u", 0)]);
    }
}

#[test]
fn nobody_stores_a_negative_offset() {
    let broker = negative(3);
    let refused = [(t0(), crate::OffsetAndMetadata::new(-1))].into();
    let mut consumer = member(&broker, "none");
    let error = consumer.commit_sync_offsets(&refused).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IllegalArgument);
    let error = crate::GroupOffset::new(-1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IllegalArgument);
    assert_eq!(consumer.committed(&[t0()]).unwrap()[&t0()].as_ref().unwrap().offset(), 3);
}

#[test]
fn names_that_no_record_can_hold_are_refused_where_they_come_in() {
    let broker = negative(0);
    let named = |bytes: usize| {
        let client_id = "x".repeat(bytes);
        let properties = [("group.id", "g"), ("client.id", client_id.as_str())];
        broker.consumer(ConsumerConfig::from_properties(properties).unwrap())
    };
    assert_eq!(named(32_731).unwrap_err().kind(), ErrorKind::InvalidConfig);
    let mut longest = named(32_730).unwrap();
    let long = "t".repeat(32_768);
    assert_eq!(longest.subscribe(&[&long, "t"]).unwrap_err().kind(), ErrorKind::InvalidTopic);
    longest.subscribe(&["t"]).unwrap();
    longest.poll(LONG).unwrap();
    let described = broker.admin().describe_group("g").unwrap();
    let member = &described.members()[0];
    assert_eq!((member.client_id().len(), member.member_id().len()), (32_730, 32_767));

    let mut other = broker.consumer(ConsumerConfig::new("g".repeat(32_768))).unwrap();
    other.subscribe(&["t"]).unwrap();
    assert_eq!(other.poll(LONG).unwrap_err().kind(), ErrorKind::InvalidGroupId);
}

/// Kafka's client makes such a commit when a later call finds its coordinator.
#[test]
fn an_asynchronous_commit_before_all_else_is_made_at_once() {
    let broker = Broker::in_memory().unwrap();
    broker.admin().create_topic("t", 1, crate::TopicConfig::default()).unwrap();
    let mut consumer = broker.consumer(ConsumerConfig::new("g")).unwrap();
    consumer.assign(&[t0()]).unwrap();
    consumer.seek(&t0(), 5).unwrap();
    consumer.commit_async().unwrap();
    let stored = broker.admin().list_group_offsets("g").unwrap();
    assert_eq!(stored[&t0()].offset(), 5);
}
