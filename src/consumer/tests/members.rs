//! Members of groups: pausing, closing, listeners that panic.

use super::*;
use crate::config::{ProducerConfig, TopicConfig};
use crate::consumer::{ConsumerContext, ListenerError, RebalanceListener};
use crate::error::ErrorKind;
use crate::producer::ProducerRecord;
use crate::sync::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A broker with `t` of `partitions` partitions, each with the records `0..count`.
fn filled(partitions: i32, count: usize) -> Broker {
    let options = BrokerOptions::new().clock(VirtualClock::stepping().clock()).seed(1);
    let broker = options.in_memory().unwrap();
    broker.admin().create_topic("t", partitions, TopicConfig::default()).unwrap();
    for partition in 0..partitions {
        send(&broker, partition, count);
    }
    broker
}

fn send(broker: &Broker, partition: i32, count: usize) {
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    for number in 0..count {
        let value = number.to_string();
        let record = ProducerRecord::new("t").partition(partition).value(&value);
        producer.send(record).unwrap().wait().unwrap();
    }
}

fn member(broker: &Broker, properties: &[(&str, &str)]) -> Consumer {
    let first = [("group.id", "g"), ("auto.offset.reset", "earliest")];
    let config = ConsumerConfig::from_properties(first.iter().chain(properties).copied());
    broker.consumer(config.unwrap()).unwrap()
}

/// Polls until as many records are there.
fn take(consumer: &mut Consumer, count: usize) -> Vec<(i32, i64)> {
    let mut all = Vec::new();
    while all.len() < count {
        let records = consumer.poll(LONG).unwrap();
        assert!(!records.is_empty(), "{all:?}");
        all.extend(records.iter().map(|record| (record.partition(), record.offset())));
    }
    all.sort();
    all
}

fn committed(broker: &Broker) -> Vec<i64> {
    let offsets = broker.admin().list_group_offsets("g").unwrap();
    offsets.values().map(|offset| offset.offset()).collect()
}

#[test]
fn a_paused_partition_keeps_its_place_and_the_others_go_on() {
    let broker = filled(2, 3);
    let mut consumer = member(&broker, &[("max.poll.records", "2")]);
    consumer.subscribe(&["t"]).unwrap();
    while consumer.assignment().unwrap().is_empty() {
        consumer.poll(Duration::ZERO).unwrap();
    }
    for partition in 0..2 {
        consumer.seek(&TopicPartition::new("t", partition), 0).unwrap();
    }
    let paused = TopicPartition::new("t", 1);
    consumer.pause(std::slice::from_ref(&paused)).unwrap();
    assert_eq!(take(&mut consumer, 3), [(0, 0), (0, 1), (0, 2)]);
    assert!(consumer.poll(LONG).unwrap().is_empty());
    assert_eq!(consumer.position(&paused).unwrap(), 0);
    assert!(consumer.paused().unwrap().contains(&paused));
    // In the middle of a fetch, too.
    consumer.resume(std::slice::from_ref(&paused)).unwrap();
    assert_eq!(offsets(&consumer.poll(LONG).unwrap()), [0, 1]);
    consumer.pause(std::slice::from_ref(&paused)).unwrap();
    assert!(consumer.poll(LONG).unwrap().is_empty());
    consumer.seek(&paused, 1).unwrap();
    assert!(consumer.poll(LONG).unwrap().is_empty(), "a seek does not resume");
    consumer.resume(std::slice::from_ref(&paused)).unwrap();
    assert_eq!(take(&mut consumer, 2), [(1, 1), (1, 2)]);
    let other = consumer.pause(&[TopicPartition::new("t", 9)]).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::IllegalState);
    consumer.pause(std::slice::from_ref(&paused)).unwrap();
    consumer.enforce_rebalance().unwrap();
    send(&broker, 1, 1);
    assert_eq!(take(&mut consumer, 1), [(1, 3)], "a rebalance forgets it");
}

#[test]
fn a_close_commits_what_was_returned_and_a_drop_does_not() {
    let broker = filled(1, 5);
    let mut consumer = member(&broker, &[("max.poll.records", "3")]);
    consumer.subscribe(&["t"]).unwrap();
    assert_eq!(take(&mut consumer, 3).len(), 3);
    assert_eq!(committed(&broker), [] as [i64; 0], "the interval is not over");
    drop(consumer);
    assert_eq!(committed(&broker), [] as [i64; 0]);

    let mut consumer = member(&broker, &[("max.poll.records", "3")]);
    consumer.subscribe(&["t"]).unwrap();
    assert_eq!(take(&mut consumer, 3).len(), 3, "nothing was committed, so they come again");
    consumer.close().unwrap();
    assert_eq!(committed(&broker), [3]);

    let mut consumer = member(&broker, &[("enable.auto.commit", "false")]);
    consumer.subscribe(&["t"]).unwrap();
    assert_eq!(take(&mut consumer, 2), [(0, 3), (0, 4)]);
    consumer.close().unwrap();
    assert_eq!(committed(&broker), [3], "without auto-commit the caller commits");
}

/// Panics as often as it is told to, in the call that it is told.
struct Panics {
    told: Arc<Mutex<Vec<&'static str>>>,
    left: usize,
    when: &'static str,
}

impl Panics {
    fn hear(&mut self, what: &'static str) {
        self.told.lock().push(what);
        if what == self.when && self.left > 0 {
            self.left -= 1;
            panic!("planned: {what}");
        }
    }
}

impl RebalanceListener for Panics {
    fn on_partitions_revoked(
        &mut self,
        _: &mut ConsumerContext<'_>,
        _: &[TopicPartition],
    ) -> Result<(), ListenerError> {
        self.hear("revoked");
        Ok(())
    }

    fn on_partitions_assigned(
        &mut self,
        _: &mut ConsumerContext<'_>,
        _: &[TopicPartition],
    ) -> Result<(), ListenerError> {
        self.hear("assigned");
        Ok(())
    }
}

fn planned(outcome: std::thread::Result<impl Sized>) {
    let panic = outcome.err().expect("it panics");
    let text = panic.downcast_ref::<String>().expect("with a text");
    assert!(text.starts_with("planned"), "{text}");
}

#[test]
fn a_listener_that_panics_loses_nothing_and_harms_nobody_else() {
    for when in ["assigned", "revoked"] {
        let broker = filled(2, 3);
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut consumer = member(&broker, &[]);
        let listener = Panics { told: told.clone(), left: 1, when };
        consumer.subscribe_with(&["t"], listener).unwrap();
        let mut found = Vec::new();
        let mut panics = 0;
        let mut enforced = when == "assigned";
        while found.len() < 6 || panics == 0 {
            match catch_unwind(AssertUnwindSafe(|| consumer.poll(Duration::ZERO))) {
                Ok(records) => {
                    let records = records.unwrap();
                    found.extend(records.iter().map(|r| (r.partition(), r.offset())));
                }
                panic => {
                    planned(panic);
                    panics += 1;
                }
            }
            if !enforced && found.len() >= 3 {
                consumer.enforce_rebalance().unwrap();
                enforced = true;
            }
        }
        found.sort();
        let expected: Vec<(i32, i64)> = (0..2).flat_map(|p| (0..3).map(move |o| (p, o))).collect();
        assert_eq!((found, panics), (expected, 1), "{when}: {:?}", told.lock());
        // Others of the group and of the broker are served.
        send(&broker, 0, 1);
        assert_eq!(take(&mut consumer, 1), [(0, 3)]);
        consumer.close().unwrap();
        assert_eq!(committed(&broker), [4, 3], "{when}");
        let mut next = member(&broker, &[]);
        next.subscribe(&["t"]).unwrap();
        send(&broker, 1, 1);
        assert_eq!(take(&mut next, 1), [(1, 3)]);
        broker.close().unwrap();
    }
}

#[test]
fn a_listener_that_panics_in_the_close_leaves_the_group_and_a_committed_offset() {
    let broker = filled(1, 3);
    let mut consumer = member(&broker, &[]);
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Panics { told, left: usize::MAX, when: "revoked" };
    // The join tells `revoked` first, of nothing.
    consumer.subscribe_with(&["t"], listener).unwrap();
    let mut found = Vec::new();
    while found.len() < 3 {
        if let Ok(records) = catch_unwind(AssertUnwindSafe(|| consumer.poll(Duration::ZERO))) {
            found.extend(offsets(&records.unwrap()));
        }
    }
    assert_eq!(found, [0, 1, 2]);
    planned(catch_unwind(AssertUnwindSafe(|| consumer.close())));
    drop(consumer);
    assert_eq!(committed(&broker), [3]);
    let mut next = member(&broker, &[]);
    next.subscribe(&["t"]).unwrap();
    send(&broker, 0, 1);
    assert_eq!(take(&mut next, 1), [(0, 3)], "the partition is free at once");
}

/// A member that waits in a poll is polling: `max.poll.interval.ms` begins when the poll ends.
#[test]
fn the_poll_interval_begins_at_the_end_of_a_poll() {
    let clock = VirtualClock::stepping();
    let broker = BrokerOptions::new().clock(clock.clock()).seed(1).in_memory().unwrap();
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let mut consumer = member(&broker, &[("max.poll.interval.ms", "1000")]);
    consumer.subscribe(&["t"]).unwrap();
    while consumer.assignment().unwrap().is_empty() {
        consumer.poll(Duration::ZERO).unwrap();
    }
    for timeout in [600, 1000, 5000] {
        assert!(consumer.poll(Duration::from_millis(timeout)).unwrap().is_empty());
        clock.advance(Duration::from_millis(900));
        consumer.commit_sync().unwrap();
    }
    assert!(consumer.poll(Duration::from_millis(600)).unwrap().is_empty());
    clock.advance(Duration::from_millis(1100));
    assert_eq!(consumer.commit_sync().unwrap_err().kind(), ErrorKind::CommitFailed);
}
