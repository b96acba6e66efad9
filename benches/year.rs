//! A year of an event bus in virtual time, on the disk: events with a retention, a compacted topic
//! of the latest states, twenty groups that commit, one a day that is not heard of again. How large
//! the directory is, what opening it takes, and the first use of a group.
//!
//! `TOPICLITE_YEAR_STEP` is the time between two commits of a group in seconds, an hour by default;
//! `TOPICLITE_YEAR_DAYS` how long the year is.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use limits::{figure_against, per_unit};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};
use topiclite::time::VirtualClock;
use topiclite::{
    Broker, BrokerOptions, Consumer, ConsumerConfig, OffsetAndMetadata, Producer, ProducerConfig,
    ProducerRecord, TopicConfig, TopicPartition,
};

const GROUPS: usize = 20;
const PARTITIONS: i32 = 4;
const EVENTS: &str = "events";
const STATES: &str = "states";
const DAY: u64 = 86_400;
const OPEN_MAX: f64 = 5e6;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn open(place: &Path, clock: &VirtualClock) -> Broker {
    // Time passes faster than a disk could sync.
    let properties = [
        ("log.flush.interval.ms", "3600000"),
        ("log.cleaner.backoff.ms", "600000"),
        ("log.retention.check.interval.ms", "600000"),
    ];
    let options = BrokerOptions::from_properties(properties).unwrap();
    options.clock(clock.clock()).open(place).unwrap()
}

/// Who lives in one opening of the directory.
struct Bus {
    broker: Broker,
    producer: Producer,
    members: Vec<Consumer>,
}

impl Bus {
    fn new(place: &Path, clock: &VirtualClock) -> Bus {
        let broker = open(place, clock);
        let producer = broker.producer(ProducerConfig::default().enable_idempotence(false));
        let members = (0..GROUPS).map(|group| member(&broker, &format!("group-{group}")));
        Bus { producer: producer.unwrap(), members: members.collect(), broker }
    }

    fn step(&mut self, n: u64) {
        let partition = (n % PARTITIONS as u64) as i32;
        let value = [7; 200];
        let event = ProducerRecord::new(EVENTS).value(value).partition(partition);
        self.producer.send(event).unwrap().wait().unwrap();
        let key = (n % 500).to_be_bytes();
        let state = ProducerRecord::new(STATES).key(key).value(value);
        self.producer.send(state).unwrap().wait().unwrap();
        for consumer in &mut self.members {
            commit(consumer, partition, n);
        }
    }

    fn end(self) {
        drop((self.producer, self.members));
        self.broker.close().unwrap();
    }
}

fn member(broker: &Broker, group: &str) -> Consumer {
    broker.consumer(ConsumerConfig::new(group).enable_auto_commit(false)).unwrap()
}

fn commit(consumer: &mut Consumer, partition: i32, n: u64) {
    let place = TopicPartition::new(EVENTS, partition);
    let offset = OffsetAndMetadata::new((n / PARTITIONS as u64) as i64);
    consumer.commit_sync_offsets(&BTreeMap::from([(place, offset)])).unwrap();
}

/// Bytes on the disk below a folder.
fn held(place: &Path) -> u64 {
    let entries = std::fs::read_dir(place).unwrap().map(Result::unwrap);
    let sizes = entries.map(|entry| match entry.metadata().unwrap() {
        found if found.is_dir() => held(&entry.path()),
        found => found.blocks() * 512,
    });
    sizes.sum()
}

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    let (step, days) = (number("TOPICLITE_YEAR_STEP", 3600), number("TOPICLITE_YEAR_DAYS", 365));
    let steps_a_day = DAY / step;
    let dir = workload::folder();
    let (place, clock) = (dir.path().join("broker"), VirtualClock::stepping());
    let mut bus = Bus::new(&place, &clock);
    let week = TopicConfig::default().retention_ms(7 * 86_400_000).segment_ms(86_400_000);
    bus.broker.admin().create_topic(EVENTS, PARTITIONS, week).unwrap();
    let states = TopicConfig::default().cleanup_policy(&["compact"]).segment_bytes(256 << 10);
    bus.broker.admin().create_topic(STATES, 1, states).unwrap();
    let (mut early, mut late, mut longest_open, mut longest_use) = (0, 0, 0.0f64, 0.0f64);
    let (mut read, start, mut commits) = (0, Instant::now(), 0);
    for day in 0..days {
        for n in 0..steps_a_day {
            bus.step(day * steps_a_day + n);
            commits += GROUPS + 1;
            clock.advance(Duration::from_secs(step));
        }
        let once = format!("once-{day}");
        let mut consumer = member(&bus.broker, &once);
        commit(&mut consumer, 0, day);
        drop(consumer);
        let size = held(&place);
        match day < days / 4 {
            true if day > 9 => early = early.max(size),
            true => {}
            false => late = late.max(size),
        }
        if day % 30 == 29 {
            bus.end();
            let mut opened = None;
            longest_open = longest_open.max(per_unit(1, || opened = Some(open(&place, &clock))));
            let broker = opened.unwrap();
            let mut consumer = member(&broker, "group-7");
            longest_use = longest_use.max(per_unit(1, || {
                let known = consumer.committed(&[TopicPartition::new(EVENTS, 0)]).unwrap();
                assert_eq!(known.len(), 1);
            }));
            read = read.max(broker.health().counter("coordinator_bytes_loaded"));
            println!(
                "figure | day {day} | {} KiB on the disk, {} groups | after {} s",
                held(&place) / 1024,
                broker.admin().list_groups().unwrap().len(),
                start.elapsed().as_secs()
            );
            drop(consumer);
            broker.close().unwrap();
            bus = Bus::new(&place, &clock);
        }
    }
    bus.end();
    println!("figure | {days} days, {commits} commits | {} s", start.elapsed().as_secs());
    let what = "a year: the directory in its last three quarters / in its first, bytes";
    figure_against(what, 1.2, late as f64, early as f64);
    figure_against("a year: the longest opening, ns / 5 ms", 1.0, longest_open, OPEN_MAX);
    figure_against(
        "a year: the longest first use of a group, ns / 5 ms",
        1.0,
        longest_use,
        OPEN_MAX,
    );
    println!("figure | bytes read for a first use, at most | {read}");
}
