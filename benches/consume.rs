//! Reading everything back in order, held against one pass over the same mapped bytes: with the
//! checksums proven before, and with the check in the reading.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use limits::{held_against, per_unit};
use workload::SIZES;

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    for (size, name) in SIZES {
        for (batched, shape) in [(false, "single"), (true, "batches of 100")] {
            let (dir, value) = (workload::folder(), workload::payload(size));
            let records = workload::records_a_round(size) / 100 * 100;
            {
                let broker = workload::open(&dir);
                workload::create(&broker, 1);
                let producer = workload::producer(&broker);
                match batched {
                    true => workload::append_batches(&producer, &value, records),
                    false => workload::append(&producer, &value, records),
                }
                broker.close().unwrap();
            }
            let path = workload::segment(&dir);
            let bytes = std::fs::metadata(&path).unwrap().len() as usize;
            let pass = || limits::one_pass(&path, bytes, records);
            let broker = workload::open(&dir);
            let what = format!("consume, {shape}, {name}, CRC proven before / one pass");
            let again = || {
                let mut reader = workload::reader(&broker);
                per_unit(records, || workload::consume(&mut reader, records))
            };
            held_against(&what, 1.5, again, pass);
            broker.close().unwrap();
            let what = format!("consume, {shape}, {name}, with the CRC / one pass");
            let first = || {
                let broker = workload::open(&dir);
                let mut reader = workload::reader(&broker);
                let time = per_unit(records, || workload::consume(&mut reader, records));
                broker.close().unwrap();
                time
            };
            held_against(&what, 2.0, first, pass);
        }
    }
}
