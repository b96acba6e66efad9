//! Many assigned partitions of which few go on: a turn looks at those alone, and misses none.

use super::*;
use crate::admin::Admin;
use crate::config::{ProducerConfig, TopicConfig};
use crate::error::ErrorKind;
use crate::log::AppendOptions;
use crate::producer::ProducerRecord;
use std::thread;

/// Enough that a look at all of them would be seen.
const PARTITIONS: i32 = 300;

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("t", number)
}

fn broker() -> Broker {
    let broker = BrokerOptions::new().clock(VirtualClock::stepping().clock()).in_memory().unwrap();
    broker.admin().create_topic("t", PARTITIONS, TopicConfig::default()).unwrap();
    broker
}

fn send(broker: &Broker, number: i32) -> i64 {
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let record = ProducerRecord::new("t").partition(number).value("v");
    producer.send(record).unwrap().wait().unwrap().offset()
}

/// A consumer of all partitions that has seen them empty, so that none is looked at any more.
fn idle(broker: &Broker, properties: &[(&str, &str)]) -> Consumer {
    let first = [("auto.offset.reset", "earliest")];
    let properties = first.iter().chain(properties).copied();
    let config = ConsumerConfig::from_properties(properties).unwrap();
    let mut consumer = broker.consumer(config).unwrap();
    let all: Vec<_> = (0..PARTITIONS).map(partition).collect();
    consumer.assign(&all).unwrap();
    assert_eq!(awake(&consumer), PARTITIONS as usize);
    assert_eq!(polled(&mut consumer), []);
    assert_eq!(awake(&consumer), 0);
    consumer
}

fn awake(consumer: &Consumer) -> usize {
    consumer.subscription.awake().count()
}

fn polled(consumer: &mut Consumer) -> Vec<(i32, i64)> {
    let records = consumer.poll(Duration::ZERO).unwrap();
    records.iter().map(|record| (record.partition(), record.offset())).collect()
}

#[test]
fn a_turn_looks_at_what_went_on_alone() {
    let broker = broker();
    let mut consumer = idle(&broker, &[]);
    for offset in 0..3 {
        let sent = [7, 299, 0].map(|number| (number, send(&broker, number)));
        assert_eq!(sent.map(|(_, sent)| sent), [offset; 3]);
        let mut found = polled(&mut consumer);
        found.sort_unstable();
        assert_eq!(found, [(0, offset), (7, offset), (299, offset)]);
        assert_eq!(awake(&consumer), 0, "what returned all there is sleeps at once");
        assert!(consumer.subscription.states().all(|(_, state)| state.watched));
        assert_eq!(polled(&mut consumer), []);
        assert_eq!(awake(&consumer), 0);
    }
    // Each wakes what it changes.
    consumer.seek(&partition(299), 1).unwrap();
    assert_eq!(polled(&mut consumer), [(299, 1), (299, 2)]);
    consumer.seek_to_end(&[partition(299)]).unwrap();
    consumer.seek_to_beginning(&[partition(0)]).unwrap();
    assert_eq!(polled(&mut consumer), [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(polled(&mut consumer), []);
    assert_eq!(awake(&consumer), 0);
    for lag in consumer.assignment().unwrap() {
        assert_eq!(consumer.current_lag(&lag).unwrap(), Some(0));
    }
}

#[test]
fn an_append_lists_its_partition_once_until_it_is_looked_at() {
    let broker = broker();
    let mut consumer = idle(&broker, &[("max.poll.records", "2")]);
    assert_eq!([0, 1, 2, 3, 4].map(|_| send(&broker, 3)), [0, 1, 2, 3, 4]);
    let mut listed = Vec::new();
    consumer.subscription.drain_ready(|id| listed.push(id));
    assert_eq!(listed.len(), 1);
    consumer.subscription.wake(listed[0]);
    let mut found = Vec::new();
    (0..3).for_each(|_| found.extend(polled(&mut consumer)));
    assert_eq!(found, (0..5).map(|offset| (3, offset)).collect::<Vec<_>>());
}

#[test]
fn a_paused_partition_sleeps_and_has_its_records_when_it_is_resumed() {
    let broker = broker();
    let mut consumer = idle(&broker, &[("max.poll.records", "2")]);
    // One that was empty when it was paused, and one whose fetch was begun.
    assert_eq!([0, 1, 2].map(|_| send(&broker, 2)), [0, 1, 2]);
    assert_eq!(polled(&mut consumer), [(2, 0), (2, 1)]);
    consumer.pause(&[partition(1), partition(2)]).unwrap();
    assert_eq!([1, 4].map(|number| send(&broker, number)), [0; 2]);
    assert_eq!(polled(&mut consumer), [(4, 0)]);
    assert_eq!(polled(&mut consumer), []);
    assert_eq!(awake(&consumer), 0);
    send(&broker, 4);
    consumer.resume(&[partition(1), partition(2)]).unwrap();
    assert_eq!(polled(&mut consumer), [(2, 2), (1, 0)], "what was begun goes on first");
    assert_eq!(polled(&mut consumer), [(4, 1)]);
    assert_eq!(polled(&mut consumer), []);
    assert_eq!(awake(&consumer), 0);
}

#[test]
fn a_trim_below_a_sleeping_consumer_is_heard_of() {
    for isolation in ["read_uncommitted", "read_committed"] {
        let world = World::new();
        // An open transaction keeps a reader of what is committed before the end.
        world.put("t-0", 0, &[batch(0), of_transaction(1, 7), batch(2)]);
        let broker = world.open();
        let mut consumer = assigned(&broker, &[("isolation.level", isolation)]);
        poll_all(&mut consumer);
        let position = consumer.position(&t0()).unwrap();
        assert_eq!(awake(&consumer), 0);
        let log = broker.inner().topic("t").unwrap().partition(0).unwrap().log().unwrap().clone();
        log.append(&RecordInput::default(), AppendOptions::client(5)).unwrap();
        if isolation == "read_uncommitted" {
            assert_eq!(poll_all(&mut consumer), [3]);
            assert_eq!((position, consumer.position(&t0()).unwrap()), (3, 4));
        } else {
            assert_eq!(poll_all(&mut consumer), [0; 0], "it stops at the transaction");
            assert_eq!((position, awake(&consumer)), (1, 0));
            log.delete_records(3).unwrap();
            assert_eq!(poll_all(&mut consumer), [0; 0]);
            let position = consumer.position(&t0()).unwrap();
            assert_eq!(position, 3, "the old one is gone, and was reset");
        }
    }
}

#[test]
fn a_position_beyond_the_end_is_told_by_every_poll() {
    let broker = broker();
    let mut consumer = assigned(&broker, &[("auto.offset.reset", "none")]);
    let both = [partition(8), partition(9)];
    consumer.assign(&both).unwrap();
    both.iter().for_each(|partition| consumer.seek(partition, 0).unwrap());
    assert_eq!(polled(&mut consumer), []);
    assert_eq!(awake(&consumer), 0);
    consumer.seek(&partition(9), 5).unwrap();
    for _ in 0..3 {
        let error = consumer.poll(Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange, "{error}");
        assert_eq!(error.partition(), Some(9));
    }
    consumer.seek(&partition(9), 0).unwrap();
    assert_eq!(polled(&mut consumer), []);
    assert_eq!(awake(&consumer), 0);
}

#[test]
fn what_is_not_there_sleeps_until_it_is_made_and_again_when_it_is_deleted() {
    let broker = BrokerOptions::new().clock(VirtualClock::stepping().clock()).in_memory().unwrap();
    let config = [("auto.offset.reset", "earliest"), ("allow.auto.create.topics", "false")];
    let mut consumer = broker.consumer(ConsumerConfig::from_properties(config).unwrap()).unwrap();
    consumer.assign(&[partition(0), partition(1)]).unwrap();
    let admin: &Admin = &broker.admin();
    for _ in 0..2 {
        assert_eq!(polled(&mut consumer), []);
        assert_eq!(awake(&consumer), 0);
        admin.create_topic("t", 2, TopicConfig::default()).unwrap();
        send(&broker, 1);
        assert_eq!(polled(&mut consumer), [(1, 0)]);
        assert_eq!(polled(&mut consumer), []);
        assert_eq!(awake(&consumer), 0);
        admin.delete_topic("t").unwrap();
    }
}

#[test]
fn a_reset_that_finds_no_record_sleeps_until_there_is_one() {
    let broker = broker();
    let mut consumer = idle(&broker, &[("auto.offset.reset", "by_duration:PT1H")]);
    assert!(consumer.subscription.states().all(|(_, state)| state.valid_position().is_none()));
    send(&broker, 8);
    assert_eq!(polled(&mut consumer), [(8, 0)]);
    assert_eq!(awake(&consumer), 0);
    send(&broker, 8);
    assert_eq!(polled(&mut consumer), [(8, 1)]);
}

#[test]
fn given_up_partitions_are_taken_off_and_their_places_given_again() {
    let broker = broker();
    let mut consumer = idle(&broker, &[("max.poll.records", "1")]);
    assert_eq!([0, 1, 2, 5].map(|number| send(&broker, number)), [0; 4]);
    assert_eq!(polled(&mut consumer), [(0, 0)], "the others have begun");
    let some: Vec<_> = [1, 5, 7].map(partition).into();
    consumer.assign(&some).unwrap();
    // Registered for nobody, and listed under a number that another one has.
    send(&broker, 3);
    consumer.assign(&[some, vec![partition(2), partition(3)]].concat()).unwrap();
    let mut found = Vec::new();
    (0..5).for_each(|_| found.extend(polled(&mut consumer)));
    assert_eq!(found, [(1, 0), (5, 0), (2, 0), (3, 0)]);
    assert_eq!(awake(&consumer), 0);
}

/// Whoever has sent finds its record by a poll without time, whatever other senders are doing.
#[test]
fn a_poll_behind_a_send_finds_its_record() {
    const ROUNDS: i64 = 2000;
    let broker = Broker::in_memory().unwrap();
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let noise = thread::spawn({
        let broker = broker.clone();
        move || {
            let producer = broker.producer(ProducerConfig::default()).unwrap();
            for _ in 0..ROUNDS {
                let record = ProducerRecord::new("t").value("noise");
                producer.send(record).unwrap().wait().unwrap();
            }
        }
    });
    let mut consumer = assigned(&broker, &[("max.poll.records", "100000")]);
    for _ in 0..ROUNDS {
        let offset = send(&broker, 0);
        consumer.poll(Duration::ZERO).unwrap();
        let position = consumer.position(&t0()).unwrap();
        assert!(position > offset, "{position} after the record at {offset} was sent");
    }
    noise.join().unwrap();
}
