//! Consumer groups: who is in a group, who owns which partition, and how far a group has read.
//!
//! [`GroupCoordinator`] is a pure state machine. A handler is given the request and `now`, and
//! answers with a [`CoordinatorResult`]: the response and the records to append to
//! `__consumer_offsets`. What the records describe becomes true when the caller reports that they
//! were stored; a result that is dropped changed nothing of it. Loading goes through the same records. There is no I/O, no
//! lock and no clock in here. What it does not do: append, sync, wake anybody, run assignors.

mod admin;
#[cfg(any(test, fuzzing))]
mod arbitrary;
pub(crate) mod assignor;
mod coordinator;
mod events;
mod hash;
mod join;
mod liveness;
mod members;
mod modern;
#[allow(missing_docs)] // Not part of the documented API.
mod modern_schema;
mod offsets;
pub(crate) mod protocol;
mod replay;
pub(crate) mod request;
#[allow(missing_docs)] // Not part of the documented API.
pub(crate) mod schema;
mod state;
mod sync;
mod wire;

#[cfg(fuzzing)]
pub use arbitrary::replay_arbitrary;
pub(crate) use coordinator::{CoordinatorResult, GroupConfig, GroupCoordinator, RecordAppend};
pub(crate) use events::{GroupEvent, GroupEventKind};
#[cfg(all(test, not(loom)))]
pub(crate) use hash::partition_for;
pub use modern_schema::{CurrentValue, ModernMemberValue, ModernValue, TopicShare};
#[cfg(any(test, fuzzing))]
pub(crate) use replay::RecordPosition;
pub(crate) use request::*;
pub(crate) use schema::Encoded;
pub use schema::{GroupRecord, GroupValue, MemberValue, ModernKey, OffsetValue};
#[cfg(test)]
pub(crate) use {replay::ReplayedBatch, wire::WireFault};
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
