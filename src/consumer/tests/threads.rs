//! Consumers in threads of their own, under the real clock.

use super::*;
use crate::config::{ProducerConfig, TopicConfig};
use crate::error::ErrorKind;
use crate::producer::ProducerRecord;
use crate::sync::{AtomicUsize, Ordering};
use std::collections::BTreeMap;
use std::thread;

#[test]
fn members_in_several_threads_share_a_topic_and_miss_nothing() {
    const PARTITIONS: i32 = 6;
    const RECORDS: usize = 3000;
    let broker = Broker::in_memory().unwrap();
    broker.admin().create_topic("t", PARTITIONS, TopicConfig::default()).unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (broker, seen) = (broker.clone(), seen.clone());
            thread::spawn(move || {
                let config = [("group.id", "g"), ("auto.offset.reset", "earliest")];
                let config = ConsumerConfig::from_properties(config).unwrap();
                let mut consumer = broker.consumer(config).unwrap();
                consumer.subscribe(&["t"]).unwrap();
                let mut found = Vec::new();
                // A poll with time is woken by records and by the other members.
                while seen.load(Ordering::SeqCst) < RECORDS {
                    let records = consumer.poll(Duration::from_millis(20)).unwrap();
                    found.extend(records.iter().map(|r| (r.partition(), r.offset())));
                    seen.fetch_add(records.count(), Ordering::SeqCst);
                }
                consumer.close().unwrap();
                found
            })
        })
        .collect();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    for number in 0..RECORDS {
        let partition = (number % PARTITIONS as usize) as i32;
        let value = number.to_string();
        let record = ProducerRecord::new("t").partition(partition).value(&value);
        producer.send(record).unwrap().wait().unwrap();
    }
    let mut all: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for thread in threads {
        for (partition, offset) in thread.join().unwrap() {
            all.entry(partition).or_default().push(offset);
        }
    }
    let each = (RECORDS / PARTITIONS as usize) as i64;
    for (partition, mut offsets) in all {
        offsets.sort_unstable();
        // Whoever gives a partition up commits first, so nothing comes twice either.
        assert_eq!(offsets, (0..each).collect::<Vec<_>>(), "partition {partition}");
    }
    let stored = broker.admin().list_group_offsets("g").unwrap();
    assert!(stored.values().all(|offset| offset.offset() == each), "{stored:?}");
    assert_eq!(stored.len(), PARTITIONS as usize);
}

#[test]
fn a_wakeup_ends_a_poll_that_waits_and_only_one() {
    let broker = Broker::in_memory().unwrap();
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let mut consumer = assigned(&broker, &[]);
    let mut reader = broker.reader("t", 0, crate::consumer::ReadFrom::End).unwrap();
    let (wake_consumer, wake_reader) = (consumer.wakeup_handle(), reader.wakeup_handle());
    let waiting = thread::spawn(move || {
        // Without an end: only the wakeup ends them.
        let polled = consumer.poll(Duration::MAX).map(|_| ()).unwrap_err();
        let read = reader.read(Duration::MAX).map(|_| ()).unwrap_err();
        assert_eq!((polled.kind(), read.kind()), (ErrorKind::Wakeup, ErrorKind::Wakeup));
        (consumer, reader)
    });
    wake_consumer.wakeup();
    wake_reader.wakeup();
    let (mut consumer, mut reader) = waiting.join().unwrap();
    assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
    assert!(reader.read(Duration::ZERO).unwrap().is_empty());
    wake_consumer.wakeup();
    wake_consumer.wakeup();
    assert_eq!(consumer.poll(LONG).unwrap_err().kind(), ErrorKind::Wakeup, "kept for the next");
    assert!(consumer.poll(Duration::ZERO).unwrap().is_empty(), "two before it are one");
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    producer.send(ProducerRecord::new("t").value("v")).unwrap().wait().unwrap();
    assert_eq!(offsets(&consumer.poll(LONG).unwrap()), [0], "and nothing is lost by it");
    wake_consumer.wakeup();
    consumer.close().unwrap();
    wake_consumer.wakeup();
}

#[test]
fn records_wake_who_waits_for_them_in_other_threads() {
    let broker = Broker::in_memory().unwrap();
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let mut consumer = assigned(&broker, &[]);
            thread::spawn(move || {
                let mut found = Vec::new();
                while found.len() < 200 {
                    found.extend(offsets(&consumer.poll(Duration::MAX).unwrap()));
                }
                found
            })
        })
        .collect();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    for number in 0..200 {
        let value = number.to_string();
        producer.send(ProducerRecord::new("t").value(&value)).unwrap().wait().unwrap();
    }
    for thread in threads {
        assert_eq!(thread.join().unwrap(), (0..200).collect::<Vec<_>>());
    }
}
