//! A producer over an in-memory broker under a stepping clock: what spec sections 8.1 to 8.4 say,
//! and what a real Kafka was seen to do.

#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests.

mod batching;
mod classes;
mod closing;
mod durable;
mod idempotence;
mod sends;
mod threads;
mod transactions;

use super::{Producer, ProducerRecord};
use crate::broker::{Broker, BrokerOptions};
use crate::config::{IsolationLevel, ProducerConfig, TopicConfig};
use crate::error::{Error, ErrorKind};
use crate::log::{Cursor, Log};
use crate::record::{BatchHeader, Codec, RecordBatch};
use crate::storage::{Fault, Heap, Storage};
use crate::sync::{Arc, Mutex};
use crate::time::VirtualClock;
use std::time::Duration;

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A broker with its clock.
pub(super) struct World {
    pub clock: VirtualClock,
    pub broker: Broker,
}

impl World {
    pub fn new() -> World {
        World::over(Arc::new(Heap::new()), &[])
    }

    pub fn with(properties: &[(&str, &str)]) -> World {
        World::over(Arc::new(Heap::new()), properties)
    }

    /// A broker whose disk fails on demand.
    pub fn faulty() -> (World, Fault) {
        let fault = Fault::new(Arc::new(Heap::new()));
        (World::over(Arc::new(fault.clone()), &[]), fault)
    }

    pub fn over(storage: Arc<dyn Storage>, properties: &[(&str, &str)]) -> World {
        let clock = VirtualClock::stepping();
        let options = BrokerOptions::from_properties(properties.iter().copied()).unwrap();
        let broker = options.clock(clock.clock()).seed(1).storage(storage).in_memory().unwrap();
        World { clock, broker }
    }

    pub fn topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        let config = TopicConfig::from_properties(config.iter().copied()).unwrap();
        self.broker.admin().create_topic(name, partitions, config).unwrap();
    }

    pub fn producer(&self, config: &[(&str, &str)]) -> Producer {
        let config = ProducerConfig::from_properties(config.iter().copied()).unwrap();
        self.broker.producer(config).unwrap()
    }

    pub fn log(&self, topic: &str, partition: i32) -> Arc<Log> {
        let topic = self.broker.inner().topic(topic).unwrap();
        topic.partition(partition).unwrap().log().unwrap().clone()
    }

    pub fn end(&self, topic: &str, partition: i32) -> i64 {
        self.log(topic, partition).log_end_offset().unwrap()
    }

    /// Everything in a partition.
    pub fn read(&self, topic: &str, partition: i32) -> Vec<Stored> {
        let log = self.log(topic, partition);
        let mut cursor = Cursor::new(0);
        let mut all = Vec::new();
        loop {
            let chunk = log.read(&mut cursor, 1 << 20, IsolationLevel::ReadUncommitted).unwrap();
            if chunk.is_empty() {
                return all;
            }
            let mut bytes = chunk.bytes();
            while !bytes.is_empty() {
                let batch = RecordBatch::parse(bytes).unwrap();
                let mut scratch = Vec::new();
                for record in batch.records(&mut scratch).unwrap() {
                    let record = record.unwrap();
                    all.push(Stored {
                        offset: record.offset(),
                        timestamp: record.timestamp(),
                        key: text(record.key()),
                        value: text(record.value()),
                        batch: batch.header().base_offset,
                        codec: batch.header().codec().unwrap(),
                        producer: producer_of(batch.header()),
                    });
                }
                bytes = &bytes[batch.bytes().len()..];
            }
            cursor.seek(chunk.upto());
        }
    }

    /// The values of a partition, in order.
    pub fn values(&self, topic: &str, partition: i32) -> Vec<String> {
        self.read(topic, partition).into_iter().map(|r| r.value.unwrap_or_default()).collect()
    }
}

/// A record as it was found in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<String>,
    pub value: Option<String>,
    /// The base offset of its batch.
    pub batch: i64,
    pub codec: Codec,
    /// Id, epoch and sequence of the batch.
    pub producer: (i64, i16, i32),
}

fn producer_of(header: &BatchHeader) -> (i64, i16, i32) {
    (header.producer_id, header.producer_epoch, header.base_sequence)
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

pub(super) fn to(partition: i32, value: &str) -> ProducerRecord<'_> {
    ProducerRecord::new("t").partition(partition).value(value)
}

/// What callbacks were told: offset, or the name of the error.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<Mutex<Vec<Result<i64, &'static str>>>>);

impl Told {
    pub fn callback(&self) -> impl FnOnce(&Result<super::RecordMetadata, Error>) + Send + 'static {
        let told = self.clone();
        move |outcome| {
            let entry = match outcome {
                Ok(metadata) => Ok(metadata.offset()),
                Err(failed) => Err(failed.kafka_name()),
            };
            told.0.lock().push(entry);
        }
    }

    pub fn take(&self) -> Vec<Result<i64, &'static str>> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// The failure of a send, which has to come through its future.
pub(super) fn failure(producer: &Producer, record: ProducerRecord<'_>) -> Error {
    producer.send(record).unwrap().wait().unwrap_err()
}

pub(super) fn kind<T>(outcome: Result<T, impl Into<Error>>) -> ErrorKind {
    outcome.err().expect("an error").into().kind()
}
