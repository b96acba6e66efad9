//! Crashes, faults and damage: what a directory holds after them, judged from outside.
//!
//! `docs/testing.md` says how to run the suites at scale and how to replay a seed.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "crash/corruptions.rs"]
mod corruptions;
#[path = "crash/cycles.rs"]
mod cycles;
#[path = "crash/damage.rs"]
mod damage;
#[path = "crash/epochs.rs"]
mod epochs;
#[path = "crash/exhaustive.rs"]
mod exhaustive;
#[path = "crash/full_disk.rs"]
mod full_disk;
#[path = "crash/history.rs"]
mod history;
#[path = "crash/images.rs"]
mod images;
#[path = "crash/kill9.rs"]
mod kill9;
#[path = "crash/kill9_transactions.rs"]
mod kill9_transactions;
#[cfg(feature = "planted-bugs")]
#[path = "crash/planted.rs"]
mod planted;
#[path = "crash/scale.rs"]
mod scale;
#[path = "crash/sites.rs"]
mod sites;
#[path = "crash/stock.rs"]
mod stock;
#[path = "crash/sweep.rs"]
mod sweep;
#[path = "crash/transacted.rs"]
mod transacted;
#[path = "crash/transactions.rs"]
mod transactions;
#[path = "crash/workload.rs"]
mod workload;

#[cfg(feature = "planted-bugs")]
use topiclite::storage::planted::{Guard, Planted};

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::RefCell<Vec<Planted>> =
        const { std::cell::RefCell::new(Vec::new()) };
}

/// The bugs that this thread's test wants planted in the threads that it starts.
#[cfg(feature = "planted-bugs")]
fn planted_here() -> Vec<Planted> {
    PLANTED.with_borrow(Clone::clone)
}

#[cfg(feature = "planted-bugs")]
fn plant(bugs: &[Planted]) -> Vec<Guard> {
    bugs.iter().map(|bug| topiclite::storage::planted::enable(*bug)).collect()
}

/// What stands for the planted bugs in a build that has none.
#[cfg(not(feature = "planted-bugs"))]
struct NoBugs;

#[cfg(not(feature = "planted-bugs"))]
fn planted_here() -> NoBugs {
    NoBugs
}

#[cfg(not(feature = "planted-bugs"))]
fn plant(_: &NoBugs) -> NoBugs {
    NoBugs
}
