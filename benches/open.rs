//! Opening a directory until the end of its partitions is known: after a clean stop and after a
//! process that died, each held against a fixed bound, and after a power cut, held against one
//! pass of the checksum over what was not flushed.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use limits::{held_against, per_unit};
use std::path::Path;
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

/// A round of records of 1 KiB that no flush has covered, found in another boot of the machine:
/// nothing of it may be believed.
fn after_a_power_cut() {
    let (dir, value) = (workload::folder(), workload::payload(1024));
    let records = workload::records_a_round(1024);
    for (batched, shape) in [(false, "alone"), (true, "batches of 100")] {
        let broker = workload::open(&dir);
        workload::create(&broker, 1);
        let producer = workload::producer(&broker);
        workload::fill(&producer, &value, records, batched);
        let end = workload::end_offset(&broker, 0);
        drop((producer, broker));
        another_boot(&dir.path().join("broker").join("topiclite.state"));
        // Opening writes nothing, so every round finds the same.
        let opened = || {
            per_unit(1, || {
                let opened = workload::open(&dir);
                assert_eq!(workload::end_offset(&opened, 0), end);
            })
        };
        let bytes = workload::batch_bytes(1024, batched) * end as usize;
        let pass = || limits::crc_pass(&workload::segment(&dir), bytes);
        let what = format!("open, other boot, tail of 48 MiB, {shape} / one CRC pass");
        held_against(&what, 1.5, opened, pass);
        let broker = workload::open(&dir);
        broker.admin().delete_topic(TOPIC).unwrap();
        broker.close().unwrap();
    }
}

/// Changes the boot that the state file names, and the checksums of its frames (docs/format.md).
fn another_boot(path: &Path) {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let boot = boot.trim().as_bytes();
    let mut bytes = std::fs::read(path).unwrap();
    let word = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let generation = word(&bytes, 12);
    let (mut at, mut changed) = (20, 0);
    while at + 12 <= bytes.len() {
        let (length, sequence) = (word(&bytes, at), word(&bytes, at + 4));
        let frame = &mut bytes[at + 8..at + 12 + length as usize];
        let (crc, payload) = frame.split_at_mut(4);
        let places = payload.windows(boot.len()).enumerate();
        let named: Vec<usize> =
            places.filter(|(_, w)| *w == boot).map(|(place, _)| place).collect();
        for place in named {
            payload[place] ^= 1;
            changed += 1;
        }
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc);
        for part in [generation, sequence, length] {
            digest.update(&part.to_be_bytes());
        }
        digest.update(payload);
        crc.copy_from_slice(&(digest.finalize() as u32).to_be_bytes());
        at += 12 + length as usize;
    }
    assert!(changed > 0, "the state names this boot");
    std::fs::write(path, bytes).unwrap();
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
    after_a_power_cut();
    many_partitions();
}
