//! Bad days: what each of them gives, by its typed error (kind, path, and what to do) or by its
//! documented recovery. The table "Bad days" of `docs/guarantees.md` has a row for each test here.
//!
//! A second process that owns the directory, ours or one that locks as Kafka does, is in
//! `tests/lock.rs`; every call to the disk that can fail, in `tests/crash.rs`.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "bad_days/calls.rs"]
mod calls;
#[path = "bad_days/cleanings.rs"]
mod cleanings;
#[path = "bad_days/compacted.rs"]
mod compacted;
#[path = "bad_days/cut.rs"]
mod cut;
#[path = "bad_days/damage.rs"]
mod damage;
#[path = "bad_days/disk.rs"]
mod disk;
#[path = "bad_days/doors.rs"]
mod doors;
#[path = "bad_days/drawn.rs"]
mod drawn;
#[path = "bad_days/drawn_transactions.rs"]
mod drawn_transactions;
#[path = "bad_days/groups.rs"]
mod groups;
#[path = "bad_days/markers.rs"]
mod markers;
#[path = "bad_days/place.rs"]
mod place;
#[path = "bad_days/producers.rs"]
mod producers;
#[path = "bad_days/refusing.rs"]
mod refusing;
#[path = "bad_days/rlimits.rs"]
mod rlimits;
#[path = "bad_days/strangers.rs"]
mod strangers;
#[path = "bad_days/tmpfs.rs"]
mod tmpfs;
#[path = "bad_days/transactional_ids.rs"]
mod transactional_ids;
#[path = "bad_days/trims.rs"]
mod trims;
#[path = "bad_days/vanished.rs"]
mod vanished;
