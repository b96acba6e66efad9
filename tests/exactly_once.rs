//! A program that reads, transforms and writes, killed again and again at random disk operations:
//! a reader of committed records finds each outcome once.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use topiclite::process::{self, Transform};
use topiclite::storage::Sim;
use topiclite::storage::sim::{PowerCut, Random};
use topiclite::time::VirtualClock;
use topiclite::{
    Broker, BrokerOptions, ConsumerConfig, ConsumerRecord, IsolationLevel, OffsetReset,
    ProducerConfig, ProducerRecord, ReadFrom, TopicConfig,
};

type Work = fn(&ConsumerRecord<'_>) -> [ProducerRecord<'static>; 1];

fn open(sim: &Sim) -> Broker {
    let clock = VirtualClock::stepping();
    let options = BrokerOptions::new().clock(clock.clock()).seed(1);
    options.storage(Arc::new(sim.clone())).open("/data").unwrap()
}

fn billed(order: &ConsumerRecord<'_>) -> [ProducerRecord<'static>; 1] {
    let order = order.value().unwrap().to_vec();
    let partition = i32::from(order.last().unwrap() % 2);
    [ProducerRecord::new("bills").partition(partition).value(order)]
}

fn billing(broker: &Broker) -> Transform<Work> {
    let config = ConsumerConfig::new("billing")
        .auto_offset_reset(OffsetReset::Earliest)
        .enable_auto_commit(false)
        .max_poll_records(200);
    let mut consumer = broker.consumer(config).unwrap();
    consumer.subscribe(&["orders"]).unwrap();
    let producer = ProducerConfig::default().transactional_id("billing-1");
    process::transform(consumer, broker.producer(producer).unwrap(), billed as Work).unwrap()
}

/// A disk with that many orders, and no bill.
fn ordered(count: usize, durable: bool) -> Sim {
    let sim = Sim::new();
    let broker = open(&sim);
    let config = TopicConfig::default();
    let config = if durable { config.flush_messages(1) } else { config };
    broker.admin().create_topic("orders", 3, TopicConfig::default()).unwrap();
    broker.admin().create_topic("bills", 2, config).unwrap();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let orders: Vec<String> = (0..count).map(|number| format!("order {number}")).collect();
    let records = orders.iter().enumerate().map(|(number, order)| {
        ProducerRecord::new("orders").partition((number % 3) as i32).value(order)
    });
    for sent in producer.send_all(records).unwrap() {
        sent.wait().unwrap();
    }
    broker.close().unwrap();
    sim
}

/// How often each bill is seen.
fn bills(broker: &Broker, isolation: IsolationLevel) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for partition in 0..2 {
        let reader = broker.reader("bills", partition, ReadFrom::Beginning).unwrap();
        let mut reader = reader.isolation_level(isolation);
        loop {
            let records = reader.read(Duration::ZERO).unwrap();
            if records.is_empty() {
                break;
            }
            for record in &records {
                let bill = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
                *seen.entry(bill).or_default() += 1;
            }
        }
    }
    seen
}

/// What a crash leaves, from what the disk was asked for.
type Crash = fn(&Sim, &mut Random) -> Sim;

fn is_done_once(count: usize, crashes: usize, durable: bool, crash: Crash) {
    let mut random = Random::new(7);
    let mut sim = ordered(count, durable);
    for _ in 0..crashes {
        let broker = open(&sim);
        sim.record();
        let mut billing = billing(&broker);
        for _ in 0..=random.below(4) {
            billing.step(Duration::from_secs(1)).unwrap();
        }
        // Whatever the disk was asked for behind that moment did not happen.
        sim = crash(&sim, &mut random);
    }
    let broker = open(&sim);
    let last = billing(&broker).run_to_the_end(Duration::from_secs(1)).unwrap();
    assert!(last.records() > 0, "the crashes left nothing to do");
    let committed = bills(&broker, IsolationLevel::ReadCommitted);
    let twice: Vec<_> = committed.iter().filter(|(_, count)| **count > 1).take(3).collect();
    assert_eq!(committed.len(), count, "every order is billed");
    assert!(twice.is_empty(), "billed twice: {twice:?}");
    let written: usize = bills(&broker, IsolationLevel::ReadUncommitted).values().sum();
    println!("{count} bills are seen, {written} were written, {crashes} crashes");
    assert!(written > count, "no crash fell into a transaction");
}

/// A number of steps between the first and the last.
fn drawn(sim: &Sim, random: &mut Random) -> topiclite::storage::sim::Replay {
    let mut replay = sim.replay();
    let steps = replay.steps_left() as u64;
    let step = replay.step() + random.below(steps + 1);
    replay.advance_to(step);
    replay
}

fn full() -> bool {
    std::env::var("TOPICLITE_SCALE").is_ok_and(|scale| scale == "ci" || scale == "long")
}

#[test]
fn fifty_kills_leave_each_outcome_once() {
    let (count, kills) = if full() { (100_000, 50) } else { (10_000, 20) };
    is_done_once(count, kills, false, |sim, random| drawn(sim, random).kill());
}

#[test]
fn power_cuts_leave_each_outcome_once_where_a_topic_is_durable() {
    let (count, cuts) = if full() { (20_000, 50) } else { (3_000, 10) };
    is_done_once(count, cuts, true, |sim, random| {
        let replay = drawn(sim, random);
        replay.power_cut(&PowerCut::drawn(random.next()))
    });
}
