//! Appending with a sync before each answer, one thread and eight, held against a bare fdatasync
//! and against group commit over one.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use limits::{held_against, per_unit};
use topiclite::{Durability, Producer, TopicConfig};
use workload::TOPIC;

const THREADS: usize = 8;
const SINGLE: usize = 400;
const SHARED: usize = 3_200;

fn from_threads(producer: &Producer, value: &[u8], records: usize) {
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| workload::append(producer, value, records / THREADS));
        }
    });
}

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    let (dir, value) = (workload::folder(), workload::payload(100));
    let broker = workload::open(&dir);
    let config = TopicConfig::default().durability(Durability::Power);
    broker.admin().create_topic(TOPIC, 1, config).unwrap();
    let producer = workload::producer(&broker);
    held_against(
        "durable append, 1 thread, 100 B / bare fdatasync",
        1.0 / 0.95,
        || per_unit(SINGLE, || workload::append(&producer, &value, SINGLE)),
        || limits::bare_fdatasync(dir.path(), SINGLE),
    );
    held_against(
        "durable append, 8 threads, 100 B / bare group commit",
        1.0 / 0.95,
        || per_unit(SHARED, || from_threads(&producer, &value, SHARED)),
        || limits::bare_group_commit(dir.path(), THREADS, SHARED),
    );
    broker.close().unwrap();
}
