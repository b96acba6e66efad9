//! Consumers and readers over handmade logs and under a stepping clock: what no producer of this
//! crate writes (gaps, transactions, damage), and what goes wrong while they are used.

mod damaged;
mod gaps;
mod malformed;
mod members;
mod reads;
mod ready;
mod silence;
mod stored;
mod threads;
mod transactions;

use super::{Consumer, ConsumerRecords};
use crate::broker::{Broker, BrokerOptions};
use crate::config::ConsumerConfig;
use crate::record::{ControlType, RecordInput, Stamp, encode_marker, encode_single};
use crate::storage::{Heap, Storage};
use crate::sync::Arc;
use crate::time::VirtualClock;
use crate::topic::TopicPartition;
use std::path::Path;
use std::time::Duration;

/// Where the broker's directory is.
const DIR: &str = "/data";
/// Long enough for everything. A stepping clock takes no time for it, but an attached broker looks
/// a hundred times a second.
const LONG: Duration = Duration::from_secs(2);

/// A directory in memory, with its clock.
struct World {
    clock: VirtualClock,
    storage: Arc<dyn Storage>,
}

impl World {
    fn new() -> World {
        let storage: Arc<dyn Storage> = Arc::new(Heap::new());
        storage.create_dir(Path::new(DIR)).unwrap();
        World { clock: VirtualClock::stepping(), storage }
    }

    /// Writes a segment as another program would have left it.
    fn put(&self, folder: &str, base: i64, batches: &[Vec<u8>]) {
        let folder = Path::new(DIR).join(folder);
        if !self.storage.exists(&folder).unwrap() {
            self.storage.create_dir(&folder).unwrap();
        }
        let file = self.storage.create_cold(&folder.join(format!("{base:020}.log"))).unwrap();
        file.write_at(0, &batches.concat()).unwrap();
    }

    fn open(&self) -> Broker {
        self.options().open(DIR).unwrap()
    }

    fn attach(&self) -> Broker {
        self.options().attach(DIR).unwrap()
    }

    fn options(&self) -> BrokerOptions {
        BrokerOptions::new().clock(self.clock.clock()).seed(1).storage(self.storage.clone())
    }
}

/// A batch of one record with the text `offset`.
fn batch(offset: i64) -> Vec<u8> {
    stamped(offset, &Stamp::plain(offset, 0))
}

/// The same in a transaction of `producer`.
fn of_transaction(offset: i64, producer: i64) -> Vec<u8> {
    stamped(offset, &Stamp::plain(offset, 0).producer(producer, 0, 0).transactional())
}

fn stamped(offset: i64, stamp: &Stamp) -> Vec<u8> {
    let value = offset.to_string();
    let record = RecordInput { value: Some(value.as_bytes()), ..RecordInput::default() };
    let mut bytes = Vec::new();
    encode_single(&mut bytes, &record, stamp);
    bytes
}

/// What ends a transaction of `producer`.
fn marker(offset: i64, producer: i64, kind: ControlType) -> Vec<u8> {
    encode_marker(kind, 0, 0, &Stamp::plain(offset, 0).producer(producer, 0, -1)).to_vec()
}

fn t0() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// A consumer of `t-0` from its beginning, without a group.
fn assigned(broker: &Broker, properties: &[(&str, &str)]) -> Consumer {
    let first = [("auto.offset.reset", "earliest")];
    let properties = first.iter().chain(properties).copied();
    let config = ConsumerConfig::from_properties(properties).unwrap();
    let mut consumer = broker.consumer(config).unwrap();
    consumer.assign(&[t0()]).unwrap();
    consumer
}

fn offsets(records: &ConsumerRecords) -> Vec<i64> {
    records.iter().map(|record| record.offset()).collect()
}

/// What polls without waiting return until one brings nothing and moves nothing.
fn poll_all(consumer: &mut Consumer) -> Vec<i64> {
    let mut all = Vec::new();
    loop {
        let before = consumer.position(&t0()).unwrap();
        let records = consumer.poll(Duration::ZERO).unwrap();
        all.extend(offsets(&records));
        if records.is_empty() && consumer.position(&t0()).unwrap() == before {
            return all;
        }
    }
}
