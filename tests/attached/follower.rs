//! The attached broker, and what it may see.

use crate::owner::{Ends, Owner, PARTITIONS, PASSING, TOPICS, value};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use topiclite::storage::faults::{Call, Failure, Rule};
use topiclite::storage::{Fault, Fs};
use topiclite::{
    Broker, BrokerOptions, Consumer, ConsumerConfig, ConsumerRecord, ErrorKind, IsolationLevel,
    OffsetReset, OffsetSpec, ReadFrom, TopicPartition,
};

/// A broker that is attached, a consumer of it that goes on and on, and what was seen so far.
pub struct Follower {
    broker: Broker,
    disk: Fault,
    consumer: Consumer,
    /// Where the consumer goes on.
    next: BTreeMap<TopicPartition, i64>,
    ends: Ends,
    looks: u64,
    records: u64,
    trimmed: u64,
    gone: u64,
}

impl Follower {
    pub fn attach(dir: &Path) -> Follower {
        let disk = Fault::new(Arc::new(Fs::new()));
        for &call in Call::CHANGES {
            disk.fail(Rule::nth(0, Failure::Io).of(&[call]).sticky());
        }
        let options = BrokerOptions::new().storage(Arc::new(disk.clone()));
        let broker = options.attach(dir).unwrap();
        let config = ConsumerConfig::without_group().auto_offset_reset(OffsetReset::Earliest);
        let mut consumer = broker.consumer(config).unwrap();
        let all = TOPICS.iter().flat_map(|topic| {
            (0..PARTITIONS).map(|partition| TopicPartition::new(*topic, partition))
        });
        let next: BTreeMap<TopicPartition, i64> = all.map(|place| (place, 0)).collect();
        consumer.assign(&next.keys().cloned().collect::<Vec<_>>()).unwrap();
        Follower {
            broker,
            disk,
            consumer,
            next,
            ends: Ends::new(),
            looks: 0,
            records: 0,
            trimmed: 0,
            gone: 0,
        }
    }

    pub fn looks(&self) -> u64 {
        self.looks
    }

    /// Log ends as they were seen by the last look.
    pub fn ends(&self) -> Ends {
        self.ends.clone()
    }

    /// Reads every partition from its beginning, and lets the consumer go on.
    pub fn look(&mut self) {
        self.looks += 1;
        for (number, topic) in TOPICS.iter().enumerate() {
            for partition in 0..PARTITIONS {
                self.read(number, topic, partition);
            }
        }
        self.read_passing();
        self.go_on();
    }

    fn read(&mut self, number: usize, topic: &str, partition: i32) {
        let place = || format!("{topic}-{partition}, look {}", self.looks);
        let reader = self.broker.reader(topic, partition, ReadFrom::Beginning).unwrap();
        // Slowly, so that the owner trims under it.
        let mut reader = reader.max_records(5);
        let mut next = reader.position();
        if number == 0 {
            assert_eq!(next, 0, "{}", place());
        }
        loop {
            let records = match reader.read(Duration::ZERO) {
                Ok(records) => records,
                Err(error) => panic!("{}: {error}", place()),
            };
            if records.is_empty() {
                break;
            }
            for record in &records {
                if record.offset() != next {
                    // The owner trimmed the log under the reader, which goes on at its start.
                    assert!(number == 1 && record.offset() > next, "{} at {next}", place());
                    let start = earliest(&self.broker, topic, partition);
                    assert!(start >= record.offset(), "{} at {next}, start {start}", place());
                    self.trimmed += 1;
                }
                next = record.offset() + 1;
                self.records += 1;
                check(number, &record);
            }
        }
        // The position, where a trim took everything that was left to be read.
        let end = next.max(reader.position());
        let before = self.ends.insert((number, partition), end).unwrap_or(0);
        assert!(end >= before, "{}: the end went back from {before} to {end}", place());
    }

    /// A topic that comes and goes: records of one making, from 0 on, or that it is gone.
    fn read_passing(&mut self) {
        let is_gone = |error: &topiclite::Error| error.kind() == ErrorKind::UnknownTopicOrPartition;
        let mut reader = match self.broker.reader(PASSING, 0, ReadFrom::Beginning) {
            Ok(reader) => reader,
            Err(error) if is_gone(&error) => return,
            Err(error) => panic!("{PASSING}: {error}"),
        };
        let (mut number, mut mark) = (0, None);
        loop {
            let records = match reader.read(Duration::ZERO) {
                Ok(records) => records,
                Err(error) if is_gone(&error) => {
                    self.gone += 1;
                    return;
                }
                Err(error) => panic!("{PASSING}: {error}"),
            };
            if records.is_empty() {
                return;
            }
            for record in &records {
                let text = std::str::from_utf8(record.value().unwrap()).unwrap();
                let (found, place) = text.split_once(':').unwrap();
                assert_eq!((record.offset(), place), (number, &*number.to_string()));
                assert_eq!(mark.get_or_insert_with(|| found.to_owned()), found, "one making");
                number += 1;
            }
        }
    }

    fn go_on(&mut self) {
        loop {
            let records = self.consumer.poll(Duration::ZERO).unwrap();
            if records.is_empty() {
                break;
            }
            for record in &records {
                let number = TOPICS.iter().position(|topic| *topic == record.topic()).unwrap();
                let next = self.next.get_mut(record.topic_partition()).unwrap();
                let jumps = record.offset() > *next && number == 1;
                assert!(record.offset() == *next || jumps, "{record:?} instead of {next}");
                *next = record.offset() + 1;
                check(number, &record);
                self.records += 1;
            }
        }
    }

    /// What is seen now is what the owner has, and the consumer is at the end of it.
    pub fn sees_exactly(&self, owner: &Owner) {
        assert_eq!(&self.ends, owner.ends());
        for ((number, partition), end) in owner.ends() {
            let place = TopicPartition::new(TOPICS[*number], *partition);
            assert!(self.next[&place] == *end || *number == 1, "{place}");
        }
    }

    /// No call was made that could change a byte or a name.
    pub fn changed_nothing(&self) {
        let made: Vec<_> =
            self.disk.seen().into_iter().filter(|(call, _)| Call::CHANGES.contains(call)).collect();
        assert!(made.is_empty(), "{made:?}");
        assert_eq!(self.disk.calls_of(Call::Lock), 0);
        assert!(self.broker.health().is_ok(), "{:?}", self.broker.health());
    }
}

impl fmt::Display for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Follower { looks, records, trimmed, gone, .. } = self;
        write!(
            f,
            "{looks} looks, {records} records, {trimmed} trims and {gone} deletions under way"
        )
    }
}

fn check(topic: usize, record: &ConsumerRecord<'_>) {
    let expected = value(topic, record.partition(), record.offset());
    assert_eq!(record.value(), Some(&*expected), "{}", record.topic_partition());
}

fn earliest(broker: &Broker, topic: &str, partition: i32) -> i64 {
    let isolation = IsolationLevel::ReadUncommitted;
    let listed = broker.admin().list_offsets(topic, partition, OffsetSpec::Earliest, isolation);
    listed.unwrap().offset().unwrap()
}
