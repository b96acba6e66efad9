//! From making a consumer of a group to its first record, held against a fixed bound; and one
//! rebalance as groups grow, of which the figures are published.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use limits::{held_against, per_unit};
use std::time::{Duration, Instant};
use topiclite::{
    Broker, BrokerConfig, BrokerOptions, Consumer, ConsumerConfig, OffsetReset, TopicConfig,
};
use workload::TOPIC;

fn member(broker: &Broker, group: &str) -> Consumer {
    let config = ConsumerConfig::new(group)
        .auto_offset_reset(OffsetReset::Earliest)
        .enable_auto_commit(false)
        .session_timeout_ms(300_000)
        .heartbeat_interval_ms(90_000);
    let mut consumer = broker.consumer(config).unwrap();
    consumer.subscribe(&[TOPIC]).unwrap();
    consumer
}

fn first_record() {
    let dir = workload::folder();
    let broker = workload::open(&dir);
    workload::create(&broker, 1);
    workload::append(&workload::producer(&broker), &workload::payload(100), 100);
    let (mut groups, calls) = (0, 50);
    let one = |group: String| {
        let mut consumer = member(&broker, &group);
        assert!(!consumer.poll(Duration::from_secs(5)).unwrap().is_empty());
        consumer
    };
    held_against(
        "group: consumer made to first record / the bound",
        1.0,
        || {
            let mut joined = Vec::new();
            let time = per_unit(calls, || {
                for _ in 0..calls {
                    groups += 1;
                    joined.push(one(format!("group{groups}")));
                }
            });
            joined.iter_mut().for_each(|consumer| consumer.close().unwrap());
            time
        },
        || 1_000_000.0,
    );
    broker.close().unwrap();
}

/// Polls all members in turn until every partition is assigned once more.
fn settle(members: &mut [Consumer], partitions: usize) -> bool {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        for consumer in members.iter_mut() {
            consumer.poll(Duration::ZERO).unwrap();
        }
        let held: Vec<usize> = members.iter().map(|m| m.assignment().unwrap().len()).collect();
        if held.iter().sum::<usize>() == partitions && held.iter().all(|count| *count > 0) {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
    }
}

/// One more member joins a group that has settled.
fn rebalance() {
    for members in [125usize, 250, 500, 1_000] {
        let partitions = members * 10;
        let config = BrokerConfig::default().offsets_topic_num_partitions(1);
        let broker = BrokerOptions::new().config(config).in_memory().unwrap();
        broker.admin().create_topic(TOPIC, partitions as i32, TopicConfig::default()).unwrap();
        let mut group: Vec<_> = (1..members).map(|_| member(&broker, "group")).collect();
        if !settle(&mut group, partitions) {
            println!("figure | rebalance, {members} members | did not settle in a minute");
            return;
        }
        group.push(member(&broker, "group"));
        let start = Instant::now();
        let settled = settle(&mut group, partitions);
        println!(
            "figure | rebalance, {members} members x {partitions} partitions | {:.1} ms{}",
            start.elapsed().as_secs_f64() * 1000.0,
            if settled { "" } else { " (not settled)" }
        );
        // Members of a closed broker leave nothing that others would have to rebalance for.
        broker.close().unwrap();
        drop(group);
    }
}

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    first_record();
    rebalance();
}
