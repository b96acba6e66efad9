//! Waking a consumer that is blocked in a poll, held against handing a word to a parked thread:
//! median and 99th percentile, at two gaps between the records.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use limits::{held_against, percentile};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use topiclite::{Broker, Producer, ProducerRecord, ReadFrom};
use workload::TOPIC;

/// From just before the send until the reader has the record, in microseconds each.
fn wake(broker: &Broker, producer: &Producer, count: usize, gap: Duration) -> Vec<f64> {
    let (start, seen) = (Instant::now(), AtomicU64::new(0));
    let mut reader = broker.reader(TOPIC, 0, ReadFrom::End).unwrap();
    std::thread::scope(|scope| {
        let (seen, start) = (&seen, &start);
        let receiving = scope.spawn(move || {
            let mut taken = Vec::with_capacity(count);
            while taken.len() < count {
                let records = reader.read(Duration::from_secs(5)).unwrap();
                let at = start.elapsed().as_nanos() as u64;
                for record in &records {
                    let sent = u64::from_be_bytes(record.value().unwrap().try_into().unwrap());
                    taken.push((at - sent) as f64 / 1000.0);
                }
                seen.store(taken.len() as u64, Ordering::Release);
            }
            taken
        });
        for n in 1..=count as u64 {
            limits::wait(gap);
            let sent = (start.elapsed().as_nanos() as u64).to_be_bytes();
            producer.send(ProducerRecord::new(TOPIC).value(sent)).unwrap().wait().unwrap();
            while seen.load(Ordering::Acquire) < n {
                std::thread::yield_now();
            }
        }
        receiving.join().unwrap()
    })
}

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    let dir = workload::folder();
    let broker = workload::open(&dir);
    workload::create(&broker, 1);
    let producer = workload::producer(&broker);
    for (gap_us, count) in [(20, 5_000), (1_000, 300)] {
        let gap = Duration::from_micros(gap_us);
        for (fraction, name) in [(0.5, "p50"), (0.99, "p99")] {
            held_against(
                &format!("wake a blocked reader, {name}, gap {gap_us} us / futex hand-off"),
                1.3,
                || 1000.0 * percentile(&mut wake(&broker, &producer, count, gap), fraction),
                || 1000.0 * percentile(&mut limits::park_hand_off(count, gap), fraction),
            );
        }
    }
    broker.close().unwrap();
}
