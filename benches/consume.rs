//! Reading everything back in order, held against one pass over the same mapped bytes: what this
//! process appended, what another life appended and was proven before, and with the check in the
//! reading. In CPU time: nothing waits here.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use limits::{cpu_per_unit, held_against};
use workload::SIZES;

/// Reads all of it with a reader of its own.
fn again(broker: &topiclite::Broker, records: usize) -> f64 {
    let mut reader = workload::reader(broker);
    cpu_per_unit(records, || workload::consume(&mut reader, records))
}

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    for (size, name) in SIZES {
        for (batched, shape) in [(false, "single"), (true, "batches of 100")] {
            let (dir, value) = (workload::folder(), workload::payload(size));
            let records = workload::records_a_round(size) / 100 * 100;
            let path = workload::segment(&dir);
            let pass = || {
                // The file of a writer is longer than its batches.
                let bytes = workload::batch_bytes(size, batched) * records;
                limits::one_pass(&path, bytes, records)
            };
            let broker = workload::open(&dir);
            workload::create(&broker, 1);
            let producer = workload::producer(&broker);
            workload::fill(&producer, &value, records, batched);
            drop(producer);
            let what = format!("consume, {shape}, {name}, own / one pass");
            held_against(&what, 1.5, || again(&broker, records), pass);
            broker.close().unwrap();
            let broker = workload::open(&dir);
            let what = format!("consume, {shape}, {name}, CRC proven before / one pass");
            held_against(&what, 1.5, || again(&broker, records), pass);
            broker.close().unwrap();
            let what = format!("consume, {shape}, {name}, with the CRC / one pass");
            let first = || {
                let broker = workload::open(&dir);
                let mut reader = workload::reader(&broker);
                let time = cpu_per_unit(records, || workload::consume(&mut reader, records));
                broker.close().unwrap();
                time
            };
            held_against(&what, 2.0, first, pass);
        }
    }
}
