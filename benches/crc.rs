//! The checksum of a batch, at the sizes of small, middling and large ones, held against the faster
//! of the two crates that it chooses from. In CPU time: nothing waits here.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, dead_code)]

#[allow(unused_imports, reason = "its tests are not run here")]
#[path = "../src/record/crc.rs"]
mod crc;
mod limits;
mod workload;

use limits::{cpu_per_unit, held_against};
use std::hint::black_box;

/// Bytes of a round.
const ROUND_BYTES: usize = 64 << 20;

fn time(bytes: &[u8], checksum: impl Fn(&[u8]) -> u32) -> f64 {
    let calls = ROUND_BYTES / (bytes.len() + 256);
    cpu_per_unit(calls, || {
        for _ in 0..calls {
            black_box(checksum(black_box(bytes)));
        }
    })
}

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    for (size, name) in [(100, "100 B"), (1024, "1 KiB"), (1063, "1,063 B"), (65_536, "64 KiB")] {
        let bytes = workload::payload(size);
        let fast = || time(&bytes, crc_fast::crc32_iscsi);
        let instruction = || time(&bytes, crc32c::crc32c);
        held_against(
            &format!("checksum of {name} / the faster crate"),
            1.1,
            || time(&bytes, crc::crc32c),
            || fast().min(instruction()),
        );
        println!("figure | {name} | crc-fast {:.1} ns | crc32c {:.1} ns", fast(), instruction());
    }
}
