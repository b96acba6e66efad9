//! Tables over logs of every kind, held to what a reader of the whole log ends with.
#![allow(clippy::unwrap_used)] // Tests.

mod crashes;
mod follow;
mod lapse;
mod model;
mod snapshots;

use super::*;
use crate::broker::{Broker, BrokerOptions};
use crate::config::{IsolationLevel, ProducerConfig, TopicConfig};
use crate::consumer::ReadFrom;
use crate::producer::{Producer, ProducerRecord};
use crate::storage::{Heap, Storage};
use crate::sync::Arc;
use crate::time::VirtualClock;
use std::path::Path;
use std::time::Duration;

/// Long enough for everything. A stepping clock takes no time for it.
const LONG: Duration = Duration::from_secs(60);
/// Where snapshots are, outside of the broker's directory.
const SNAPSHOT: &str = "/tables/t";

/// A directory in memory, with its clock and a place for snapshots.
struct World {
    clock: VirtualClock,
    storage: Arc<dyn Storage>,
}

impl World {
    fn new() -> World {
        World::on(Arc::new(Heap::new()))
    }

    fn on(storage: Arc<dyn Storage>) -> World {
        for dir in ["/data", "/tables"] {
            if !storage.exists(Path::new(dir)).unwrap() {
                storage.create_dir(Path::new(dir)).unwrap();
                storage.sync_dir(Path::new("/")).unwrap();
            }
        }
        World { clock: VirtualClock::stepping(), storage }
    }

    fn options(&self) -> BrokerOptions {
        BrokerOptions::new().clock(self.clock.clock()).seed(1).storage(self.storage.clone())
    }

    fn open(&self) -> Broker {
        self.options().open("/data").unwrap()
    }

    fn attach(&self) -> Broker {
        self.options().attach("/data").unwrap()
    }
}

/// Small segments, so that there is something to compact and to retain.
fn compacted() -> TopicConfig {
    let config = TopicConfig::default().cleanup_policy(&["compact", "delete"]).retention_ms(-1);
    config.segment_bytes(400)
}

fn create(broker: &Broker, partitions: i32) -> Producer {
    broker.admin().create_topic("t", partitions, compacted()).unwrap();
    broker.producer(ProducerConfig::default()).unwrap()
}

fn put(producer: &Producer, key: &str, value: Option<&str>) {
    let record = ProducerRecord::new("t").key(key);
    let record = match value {
        Some(value) => record.value(value),
        None => record,
    };
    producer.send_sync(record).unwrap();
}

fn kept() -> TableOptions {
    TableOptions::new().snapshot(SNAPSHOT)
}

/// Everything that a table holds, sorted: partition, key, value, offset.
fn held(view: &TableView) -> Vec<(i32, String, String, i64)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let row = |entry: TableEntry| {
        let (key, value) = (text(entry.key()), text(entry.value()));
        (entry.topic_partition().partition(), key, value, entry.offset())
    };
    let mut rows: Vec<_> = view.iter().map(row).collect();
    rows.sort();
    assert_eq!(rows.len(), view.len());
    rows
}

/// What a table that reads everything anew holds.
fn replayed(broker: &Broker) -> Vec<(i32, String, String, i64)> {
    let mut table = broker.table("t", TableOptions::new()).unwrap();
    assert!(table.catch_up(LONG).unwrap());
    held(&table)
}

/// The same by a plain reader and a plain map.
fn read_by_hand(broker: &Broker) -> Vec<(i32, String, String, i64)> {
    let mut rows = Vec::new();
    for partition in 0..broker.admin().describe_topic("t").unwrap().partition_count() {
        let reader = broker.reader("t", partition, ReadFrom::Beginning).unwrap();
        let mut reader = reader.isolation_level(IsolationLevel::ReadCommitted);
        let mut map = BTreeMap::new();
        while let Some(record) = reader.next(Duration::ZERO).unwrap() {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let key = text(record.key().unwrap());
            match record.value() {
                Some(value) => map.insert(key, (text(value), record.offset())),
                None => map.remove(&key),
            };
        }
        rows.extend(map.into_iter().map(|(key, (value, at))| (partition, key, value, at)));
    }
    rows.sort();
    rows
}
