//! What an append and a read cost. Not part of the suite: it prints and asserts nothing.
//!
//! `cargo test --release --lib log::tests::speed -- --ignored --nocapture`

use super::*;
use crate::record::{Sink, Stamp, encode_single, single_batch_size};
use crate::storage::RegionWriter;
use crate::time::Clock;
use std::hint::black_box;

const BYTES: usize = 200 << 20;

struct Bare<'a>(&'a mut RegionWriter, usize);

impl Sink for Bare<'_> {
    #[inline]
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0.write(self.1 + at, bytes);
    }
}

/// Processor time of this thread: the machine may be busy with something else.
fn ns_each(count: usize, body: impl FnOnce()) -> f64 {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
    };
    let begin = now();
    body();
    (now() - begin) / count as f64
}

fn touched(log: &Log) {
    let writer = log.writer.lock();
    let active = writer.active.as_ref().unwrap();
    let capacity = active.region.region().capacity();
    active.file.prepare(capacity as u64, capacity as u64).unwrap();
}

#[test]
#[ignore = "prints times"]
fn of_one_record_a_call() {
    for size in [100, 1024] {
        let value = vec![b'v'; size];
        let record = RecordInput {
            timestamp: START_MS,
            key: Some(b"the-key8"),
            value: Some(&value),
            headers: &[],
        };
        let batch = single_batch_size(&record);
        let count = BYTES / batch;
        for round in 0..3 {
            let heap = Heap::new();
            let file = heap.create(Path::new("/bare"), 256 << 20, 256 << 20).unwrap();
            let mut writer = file.region().unwrap().writer().unwrap();
            let floor = ns_each(count, || {
                for i in 0..count {
                    let stamp = Stamp::plain(i as i64, 0);
                    encode_single(&mut Bare(&mut writer, i * batch), black_box(&record), &stamp);
                    writer.publish((i + 1) * batch);
                }
            });
            drop(writer);
            for (name, mut bench) in [("memory", Bench::heap()), ("files", Bench::files())] {
                bench.config.segment_bytes = 256 << 20;
                let log = bench.new_log();
                let options = bench.options();
                log.append(&record, options).unwrap();
                touched(&log);
                let append = ns_each(count, || {
                    for _ in 0..count {
                        black_box(log.append(black_box(&record), options).unwrap());
                    }
                });
                let mut cursor = Cursor::new(0);
                let mut found = 0;
                let read = ns_each(count, || {
                    while cursor.offset() < count as i64 {
                        let isolation = IsolationLevel::ReadUncommitted;
                        let chunk = log.read(&mut cursor, 1 << 20, isolation).unwrap();
                        found += chunk.bytes().len();
                    }
                });
                println!(
                    "{size} B, round {round}, {name}: encode {floor:.1}, append {append:.1}, \
                     read {read:.1} ns each; {found} bytes"
                );
            }
        }
    }
}

#[test]
#[ignore = "prints times"]
fn of_a_durable_append() {
    const EACH: usize = 2000;
    for threads in [1, 8] {
        let bench = Bench::files();
        let log = bench.new_log();
        let options = bench.options();
        bench.append(&log, b"first");
        touched(&log);
        log.flush().unwrap();
        let syncs = log.env.counters.syncs.total();
        let clock = Clock::system();
        let begin = clock.monotonic();
        let writers: Vec<_> = (0..threads)
            .map(|_| {
                let log = log.clone();
                crate::sync::thread::spawn_named("writer", move || {
                    let value = [b'v'; 100];
                    for _ in 0..EACH {
                        let record = RecordInput {
                            timestamp: START_MS,
                            value: Some(&value),
                            ..RecordInput::default()
                        };
                        let appended = log.append(&record, options).unwrap();
                        log.make_durable(appended.last_offset + 1).unwrap();
                    }
                })
                .unwrap()
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let seconds = (clock.monotonic() - begin).as_secs_f64();
        let syncs = log.env.counters.syncs.total() - syncs;
        println!(
            "{threads} threads: {:.0} appends/s, {:.0} us a sync, {:.1} appends a sync",
            (threads * EACH) as f64 / seconds,
            seconds * 1e6 / syncs as f64,
            (threads * EACH) as f64 / syncs as f64
        );
    }
}
