//! A log that is much larger than the memory there is: it is written, and read from its beginning
//! to its end, and what of the process lies in memory meanwhile is looked at.
//!
//! `TOPICLITE_LONG_MIB` is its size, 1 GiB by default, and `TOPICLITE_LONG_READS` how often it is
//! read. `benches/in-little-memory` runs this under a limit.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use limits::figure_against;
use std::time::Instant;

const VALUE_BYTES: usize = 1024;
/// So often memory is looked at while the log is written, and while it is read.
const LOOKS: usize = 64;

/// What the process is to allocate, in KiB.
const ALLOCATED_MAX: f64 = (16 << 10) as f64;

/// Memory of the process in KiB, by the names of `/proc/self/status`.
#[derive(Debug, Clone, Copy, Default)]
struct Resident {
    /// What it allocated.
    anonymous: u64,
    /// Pages of files that are mapped; the system takes them back when it wants them.
    file: u64,
}

impl Resident {
    fn now() -> Resident {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let of = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Resident { anonymous: of("RssAnon:"), file: of("RssFile:") }
    }

    fn most(self, other: Resident) -> Resident {
        let anonymous = self.anonymous.max(other.anonymous);
        Resident { anonymous, file: self.file.max(other.file) }
    }
}

/// What was seen in the first quarter of the looks, and in all others.
#[derive(Debug, Default)]
struct Looks {
    first: Resident,
    later: Resident,
    count: usize,
}

impl Looks {
    fn look(&mut self, of: usize) {
        let now = Resident::now();
        match self.count < of / 4 {
            true => self.first = self.first.most(now),
            false => self.later = self.later.most(now),
        }
        self.count += 1;
    }

    fn tell(&self, what: &str, bytes: usize, start: Instant) {
        let rate = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
        println!("figure | {what}, {} MiB | {rate:.0} MB a second", bytes >> 20);
        let (first, later) = (self.first, self.later);
        let (early, late) = (first.file, later.file);
        println!("figure | {what}, mapped pages in memory | {early} KiB, then {late}");
        let (early, late) = (first.anonymous, later.anonymous);
        println!("figure | {what}, allocated memory | {early} KiB, then {late}");
        let most = first.most(later).anonymous as f64;
        figure_against(
            &format!("{what}, allocated memory, KiB / 16 MiB"),
            1.0,
            most,
            ALLOCATED_MAX,
        );
    }
}

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    let mib = std::env::var("TOPICLITE_LONG_MIB").map_or(1024, |text| text.parse().unwrap());
    let dir = workload::folder();
    let broker = topiclite::BrokerOptions::new().open(dir.path().join("broker")).unwrap();
    workload::create(&broker, 1);
    let producer = workload::plain_producer(&broker);
    let value = workload::payload(VALUE_BYTES);
    let records = (mib << 20) / VALUE_BYTES / (LOOKS * 100) * (LOOKS * 100);
    let (mut looks, start) = (Looks::default(), Instant::now());
    for _ in 0..LOOKS {
        workload::append_batches(&producer, &value, records / LOOKS);
        looks.look(LOOKS);
    }
    looks.tell("write", records * VALUE_BYTES, start);
    drop(producer);
    broker.close().unwrap();

    let broker = topiclite::BrokerOptions::new().open(dir.path().join("broker")).unwrap();
    let reads = std::env::var("TOPICLITE_LONG_READS").map_or(1, |text| text.parse().unwrap());
    let (mut looks, start) = (Looks::default(), Instant::now());
    for _ in 0..reads {
        let (mut reader, mut next) = (workload::reader(&broker), 0);
        for look in 1..=LOOKS {
            let upto = (records / LOOKS * look) as i64;
            next = workload::consume_on(&mut reader, next, (upto - next).max(0) as usize);
            looks.look(LOOKS * reads);
        }
        assert_eq!(next, records as i64);
    }
    looks.tell("read", records * VALUE_BYTES * reads, start);
    broker.close().unwrap();
}
