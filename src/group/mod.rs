//! Consumer groups: who is in a group, who owns which partition, and how far a group has read.
//!
//! The coordinator is a pure state machine: a handler is given the request and `now`, and answers
//! with the response and the records to append to `__consumer_offsets`. There is no I/O, no lock
//! and no clock in here. What it does not do: append, sync, wake anybody, run assignors.

mod hash;
pub(crate) mod protocol;
pub(crate) mod request;
pub(crate) mod schema;
mod wire;

pub(crate) use hash::{java_hash, partition_for};
pub(crate) use request::*;
pub(crate) use schema::{Encoded, GroupRecord};
