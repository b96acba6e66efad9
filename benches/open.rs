//! Opening a directory until the end of its partitions is known: after a clean stop and after a
//! process that died, each held against a fixed bound.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use limits::{held_against, per_unit};
use topiclite::ProducerRecord;
use workload::TOPIC;

const GIB: usize = 1 << 30;

/// One partition of 1 GiB in the default segment size.
fn one_large_partition() {
    let (dir, value) = (workload::folder(), workload::payload(1024));
    let records = GIB / 1024;
    let broker = workload::open(&dir);
    workload::create(&broker, 1);
    workload::append_batches(&workload::producer(&broker), &value, records);
    let end = workload::end_offset(&broker, 0);
    broker.close().unwrap();
    let opened = || {
        let mut broker = None;
        let time = per_unit(1, || {
            let opened = workload::open(&dir);
            assert_eq!(workload::end_offset(&opened, 0), end);
            broker = Some(opened);
        });
        broker.unwrap().close().unwrap();
        time
    };
    held_against("open, clean, 1 GiB in one partition / the bound", 1.0, opened, || 1e6);
    let mut end = end;
    let killed = || {
        let broker = workload::open(&dir);
        workload::append(&workload::producer(&broker), &value, 1_000);
        end += 1_000;
        drop(broker);
        let mut broker = None;
        let time = per_unit(1, || {
            let opened = workload::open(&dir);
            assert_eq!(workload::end_offset(&opened, 0), end);
            broker = Some(opened);
        });
        drop(broker);
        time
    };
    held_against("open, died, same boot, 1 GiB / the bound", 1.0, killed, || 2e6);
}

/// A thousand partitions with a record each.
fn many_partitions() {
    const PARTITIONS: i32 = 1_000;
    let dir = workload::folder();
    let broker = workload::open(&dir);
    workload::create(&broker, PARTITIONS);
    let producer = workload::producer(&broker);
    for partition in 0..PARTITIONS {
        let record = ProducerRecord::new(TOPIC).value("one").partition(partition);
        producer.send(record).unwrap().wait().unwrap();
    }
    drop(producer);
    broker.close().unwrap();
    let opened = |ends: bool| {
        let mut broker = None;
        let time = per_unit(1, || {
            let opened = workload::open(&dir);
            for partition in 0..if ends { PARTITIONS } else { 0 } {
                assert_eq!(workload::end_offset(&opened, partition), 1);
            }
            broker = Some(opened);
        });
        broker.unwrap().close().unwrap();
        time
    };
    held_against("open, clean, 1,000 partitions / the bound", 1.0, || opened(false), || 5e6);
    held_against("the same with all ends / the bound", 1.0, || opened(true), || 5e6);
}

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    one_large_partition();
    many_partitions();
}
