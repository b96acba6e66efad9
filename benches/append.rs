//! Appending, unsynced, through the whole public API: one record a call and batches of 100, on
//! fresh pages and on pages that the broker prepared before, held against a bare mapped log.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use criterion::{Criterion, Throughput};
use limits::{cpu_per_unit, held_against, per_unit};
use std::hint::black_box;
use std::time::{Duration, Instant};
use topiclite::ProducerRecord;
use workload::{SIZES, TOPIC};

/// Payload of one burst on prepared pages. The broker prepares at least this much ahead once
/// steps have grown to their full size.
const BURST_BYTES: usize = 4 << 20;
/// Between two bursts, so that the preparer catches up.
const GAP: Duration = Duration::from_millis(150);

type Append = fn(&topiclite::Producer, &[u8], usize);

/// A round in a new topic, which is deleted afterwards.
fn round(dir: &tempfile::TempDir, append: Append, value: &[u8], records: usize) -> f64 {
    let broker = workload::open(dir);
    workload::create(&broker, 1);
    let producer = workload::producer(&broker);
    let time = per_unit(records, || append(&producer, black_box(value), records));
    broker.admin().delete_topic(TOPIC).unwrap();
    broker.close().unwrap();
    time
}

fn fresh_pages() {
    for (size, name) in SIZES {
        let (dir, value) = (workload::folder(), workload::payload(size));
        let records = workload::records_a_round(size);
        let floor = || limits::floor_on_fresh_pages(dir.path(), &value, records);
        let what = format!("append, one a call, {name}, fresh pages / floor");
        held_against(&what, 1.5, || round(&dir, workload::append, &value, records), floor);
        let what = format!("append, one a call, {name} / crossbeam channel in memory");
        let channel = || limits::channel(&value, records);
        held_against(&what, 1.0, || round(&dir, workload::append, &value, records), channel);
        let what = format!("append, batches of 100, {name}, fresh pages / floor");
        held_against(&what, 1.0, || round(&dir, workload::append_batches, &value, records), floor);
    }
}

/// Bursts into what was prepared: between two of them the preparer catches up. In CPU time of the
/// sending thread: nothing waits here.
fn prepared_pages() {
    let shapes: [(&str, Append); 2] =
        [("one a call", workload::append), ("batches of 100", workload::append_batches)];
    for ((size, name), (shape, append)) in SIZES.into_iter().flat_map(|s| shapes.map(|a| (s, a))) {
        let (dir, value) = (workload::folder(), workload::payload(size));
        let broker = workload::open(&dir);
        workload::create(&broker, 1);
        let producer = workload::producer(&broker);
        let burst = BURST_BYTES / size / 100 * 100;
        append(&producer, &value, (64 << 20) / size);
        // Awake: a processor that slept is slow for longer than a burst takes.
        let ours = || {
            limits::wait(GAP);
            cpu_per_unit(burst, || append(&producer, black_box(&value), burst))
        };
        let what = format!("append, {shape}, {name}, prepared pages / format floor");
        let floor = || limits::format_floor_on_touched_pages(&value, burst);
        held_against(&what, 1.5, ours, floor);
        let what = format!("append, {shape}, {name}, prepared pages / bare stores on such pages");
        let bytes = workload::batch_bytes(size, shape != "one a call");
        let stores = || limits::stores_on_prepared_pages(dir.path(), bytes, burst, GAP);
        held_against(&what, 1.5, ours, stores);
        broker.close().unwrap();
    }
}

/// What it costs that the log knows each batch by its sequence, on prepared pages.
fn idempotence() {
    let shapes: [(&str, Append); 2] =
        [("one a call", workload::append), ("batches of 100", workload::append_batches)];
    for ((size, name), (shape, append)) in SIZES.into_iter().flat_map(|s| shapes.map(|a| (s, a))) {
        let (dir, value) = (workload::folder(), workload::payload(size));
        let broker = workload::open(&dir);
        workload::create(&broker, 1);
        let (idempotent, plain) = (workload::producer(&broker), workload::plain_producer(&broker));
        let burst = BURST_BYTES / size / 100 * 100;
        append(&plain, &value, (64 << 20) / size);
        let timed = |producer| {
            limits::wait(GAP);
            cpu_per_unit(burst, || append(producer, black_box(&value), burst))
        };
        let what = format!("append, {shape}, {name}, idempotent / plain");
        held_against(&what, 1.2, || timed(&idempotent), || timed(&plain));
        broker.close().unwrap();
    }
}

/// Records by key over many partitions: one call for many of them, and a call for each. In CPU
/// time of the sending thread: nothing waits here.
fn keyed_over_many_partitions() {
    const PARTITIONS: i32 = 1000;
    const RECORDS: usize = 20_000;
    let (dir, value) = (workload::folder(), workload::payload(100));
    let broker = workload::open(&dir);
    workload::create(&broker, PARTITIONS);
    let producer = workload::producer(&broker);
    let keys: Vec<[u8; 8]> = (0..RECORDS as u64).map(u64::to_be_bytes).collect();
    let record = |key| ProducerRecord::new(TOPIC).key(key).value(black_box(&value));
    let single = || {
        cpu_per_unit(RECORDS, || {
            for key in &keys {
                producer.send(record(key)).unwrap().wait().unwrap();
            }
        })
    };
    for call in [1000, 10_000] {
        let together = || {
            cpu_per_unit(RECORDS, || {
                for keys in keys.chunks(call) {
                    for sent in producer.send_all(keys.iter().map(record)).unwrap() {
                        sent.wait().unwrap();
                    }
                }
            })
        };
        let what = format!("append, {call} keyed a call over 1,000 partitions, 100 B / one a call");
        held_against(&what, 1.0, together, single);
    }
    broker.close().unwrap();
}

/// Absolute figures, with criterion's spread.
fn absolute(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for (size, name) in SIZES {
        let (dir, value) = (workload::folder(), workload::payload(size));
        let broker = workload::open(&dir);
        workload::create(&broker, 1);
        let producer = workload::producer(&broker);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let start = Instant::now();
                workload::append(&producer, &value, count as usize);
                start.elapsed()
            });
        });
        broker.close().unwrap();
    }
    group.finish();
}

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    fresh_pages();
    prepared_pages();
    idempotence();
    keyed_over_many_partitions();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args();
    absolute(&mut criterion);
}
