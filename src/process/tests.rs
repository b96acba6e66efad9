//! The loop under failures of every kind: each record's outcome is committed once.
#![allow(clippy::unwrap_used)] // Tests.

use super::*;
use crate::broker::{Broker, BrokerOptions};
use crate::config::{ConsumerConfig, IsolationLevel, OffsetReset, ProducerConfig, TopicConfig};
use crate::consumer::{Consumer, ConsumerRecord, ReadFrom};
use crate::error::ErrorKind;
use crate::producer::{Producer, ProducerRecord};
use crate::time::VirtualClock;
use std::time::Duration;

const RECORDS: u64 = 100;

struct World {
    clock: VirtualClock,
    broker: Broker,
}

impl World {
    fn new() -> World {
        World::with(&[])
    }

    fn with(properties: &[(&str, &str)]) -> World {
        let clock = VirtualClock::stepping();
        let options = BrokerOptions::from_properties(properties.iter().copied()).unwrap();
        let broker = options.clock(clock.clock()).seed(1).in_memory().unwrap();
        for topic in ["in", "out"] {
            broker.admin().create_topic(topic, 2, TopicConfig::default()).unwrap();
        }
        let world = World { clock, broker };
        world.put(0..RECORDS);
        world
    }

    fn put(&self, numbers: std::ops::Range<u64>) {
        let source = self.broker.producer(ProducerConfig::default()).unwrap();
        for n in numbers {
            let record = ProducerRecord::new("in").key(n.to_string()).value(n.to_string());
            source.send_sync(record).unwrap();
        }
    }

    fn consumer(&self) -> Consumer {
        let config = ConsumerConfig::new("g")
            .auto_offset_reset(OffsetReset::Earliest)
            .max_poll_records(7)
            .enable_auto_commit(false);
        let mut consumer = self.broker.consumer(config).unwrap();
        consumer.subscribe(&["in"]).unwrap();
        consumer
    }

    fn producer(&self, id: &str) -> Producer {
        self.broker.producer(ProducerConfig::default().transactional_id(id)).unwrap()
    }

    /// What a reader of committed records finds, sorted.
    fn outputs(&self) -> Vec<u64> {
        let mut all = Vec::new();
        for partition in 0..2 {
            let reader = self.broker.reader("out", partition, ReadFrom::Beginning).unwrap();
            let mut reader = reader.isolation_level(IsolationLevel::ReadCommitted);
            loop {
                let records = reader.read(Duration::ZERO).unwrap();
                if records.is_empty() {
                    break;
                }
                for record in &records {
                    all.push(number(record.value()));
                }
            }
        }
        all.sort_unstable();
        all
    }
}

fn number(bytes: Option<&[u8]>) -> u64 {
    std::str::from_utf8(bytes.unwrap()).unwrap().parse().unwrap()
}

fn doubled(record: &ConsumerRecord<'_>) -> Vec<ProducerRecord<'static>> {
    let key = number(record.key()).to_string();
    vec![ProducerRecord::new("out").key(key).value((2 * number(record.value())).to_string())]
}

fn expected() -> Vec<u64> {
    (0..RECORDS).map(|n| 2 * n).collect()
}

const POLL: Duration = Duration::from_millis(10);

#[test]
fn every_record_has_its_outcome_once() {
    let world = World::new();
    let mut work = transform(world.consumer(), world.producer("x"), doubled).unwrap();
    let done = work.run_to_the_end(POLL).unwrap();
    assert_eq!((done.records(), done.outputs(), done.recoveries()), (RECORDS, RECORDS, 0));
    assert_eq!(world.outputs(), expected());
    let (mut consumer, producer) = work.into_parts();
    consumer.close().unwrap();
    producer.close().unwrap();
    let mut again = transform(world.consumer(), world.producer("x"), doubled).unwrap();
    assert!(again.run_to_the_end(POLL).unwrap().is_idle());
}

#[test]
fn a_consumer_or_a_producer_that_could_not_keep_the_promise_is_refused() {
    let world = World::new();
    let config = ConsumerConfig::new("g").enable_auto_commit(true);
    let commits = world.broker.consumer(config).unwrap();
    let alone = world.broker.consumer(ConsumerConfig::without_group()).unwrap();
    for consumer in [commits, alone] {
        let refused = transform(consumer, world.producer("x"), doubled).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::IllegalArgument);
    }
    let plain = world.broker.producer(ProducerConfig::default()).unwrap();
    let refused = transform(world.consumer(), plain, doubled).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::IllegalState);
}

#[test]
fn a_transaction_that_took_too_long_and_a_fenced_producer_are_begun_again() {
    let world = World::new();
    let (clock, broker) = (world.clock.clone(), world.broker.clone());
    let mut count = 0;
    let work = move |record: &ConsumerRecord<'_>| {
        count += 1;
        match count {
            // The coordinator aborts it after a minute.
            20 => clock.advance(Duration::from_secs(90)),
            // Somebody takes over the name.
            50 => broker.admin().fence_producers(&["x"]).map(drop).unwrap(),
            _ => {}
        }
        doubled(record)
    };
    let mut work = transform(world.consumer(), world.producer("x"), work).unwrap();
    let done = work.run_to_the_end(POLL).unwrap();
    assert_eq!((done.records(), world.outputs()), (RECORDS, expected()));
    assert_eq!(done.recoveries(), 2);
}

#[test]
fn an_id_that_expired_while_nothing_came_is_taken_anew() {
    let world = World::with(&[
        ("transactional.id.expiration.ms", "60000"),
        ("transaction.remove.expired.transaction.cleanup.interval.ms", "10000"),
    ]);
    let mut work = transform(world.consumer(), world.producer("x"), doubled).unwrap();
    work.run_to_the_end(POLL).unwrap();
    world.clock.advance(Duration::from_secs(120));
    world.put(RECORDS..RECORDS + 10);
    let done = work.run_to_the_end(POLL).unwrap();
    assert_eq!((done.records(), done.recoveries()), (10, 1));
    assert_eq!(world.outputs(), (0..RECORDS + 10).map(|n| 2 * n).collect::<Vec<_>>());
}

#[test]
fn partitions_that_go_to_another_member_are_done_by_one_of_the_two() {
    let world = World::new();
    let mut first = transform(world.consumer(), world.producer("x"), doubled).unwrap();
    let mut second = transform(world.consumer(), world.producer("y"), doubled).unwrap();
    let mut done = 0;
    for _ in 0..200 {
        done += first.step(POLL).unwrap().records();
        done += second.step(POLL).unwrap().records();
    }
    assert_eq!((done, world.outputs()), (RECORDS, expected()));
}

#[test]
fn an_output_that_is_refused_is_told_and_nothing_of_its_batch_is_committed() {
    let world = World::new();
    let mut refuse = true;
    let work = move |record: &ConsumerRecord<'_>| {
        let too_large = refuse && number(record.value()) == 40;
        refuse &= !too_large;
        match too_large {
            true => vec![ProducerRecord::new("out").value(vec![0; 2 << 20])],
            false => doubled(record),
        }
    };
    let mut work = transform(world.consumer(), world.producer("x"), work).unwrap();
    let refused = loop {
        match work.step(POLL) {
            Ok(step) => assert!(!step.is_idle()),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.root_kind(), ErrorKind::RecordTooLarge);
    work.run_to_the_end(POLL).unwrap();
    assert_eq!(world.outputs(), expected());
}
