//! The tests of opening, on handmade files, on recorded ones, and at every step of a disk.

use super::*;
use crate::ErrorKind::{CorruptRecord, UnsupportedFormat};
use crate::log::finding::FindingKind::{self, *};
use crate::log::segment::state::SegmentOrigin;
use crate::record::{ControlType, Stamp};
use bench::*;

mod bench;
#[cfg(feature = "testing")]
mod crash;
mod cut;
mod foreign;
mod golden;
mod ours;
mod swaps;

const LEN: usize = 100;

/// Offsets 0..30 in three segments of ten, the last one active with zeros behind its batches.
fn shelf() -> (Shelf, LogState) {
    let shelf = Shelf::new();
    shelf.put_log(0, &run(0..10, LEN));
    shelf.put_log(10, &run(10..20, LEN));
    shelf.put_log(20, &run(20..30, LEN));
    let state = shelf.state();
    (shelf, state)
}

fn zeros(mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
    bytes.resize(bytes.len() + len, 0);
    bytes
}

/// The state as it was when the log ended at `offset` inside the last segment.
fn state_at(shelf: &Shelf, last: i64, offset: i64) -> LogState {
    let whole = shelf.get_log(last).unwrap();
    shelf.put_log(last, &run(last..offset, LEN));
    let state = shelf.state();
    shelf.put_log(last, &whole);
    state
}
