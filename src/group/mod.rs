//! Consumer groups: who is in a group, who owns which partition, and how far a group has read.
//!
//! [`GroupCoordinator`] is a pure state machine. A handler is given the request and `now`, and
//! answers with a [`CoordinatorResult`]: the response and the records to append to
//! `__consumer_offsets`. What the records describe becomes true when the caller reports that they
//! were stored; a result that is dropped changed nothing of it. Loading goes through the same
//! records. There is no I/O, no lock and no clock in here. What it does not do: append, sync, wake
//! anybody, run assignors.
//!
//! `classic` and `modern` are the members under either protocol, `records` the bytes in the offsets
//! topic and in the requests of members, `assignor` who gets which partition.

mod admin;
pub(crate) mod assignor;
mod classic;
mod coordinator;
mod events;
mod expiry;
mod modern;
mod offsets;
#[allow(missing_docs)] // Not part of the documented API.
pub(crate) mod records;
mod replay;
pub(crate) mod request;
mod result;
#[cfg(test)]
mod tests;
mod unknown;

#[cfg(all(test, not(loom)))]
pub(crate) use crate::coordinator::hash::partition_for;
pub(crate) use coordinator::{GroupConfig, GroupCoordinator};
pub(crate) use events::{GroupEvent, GroupEventKind};
pub use modern::schema::{CurrentValue, ModernMemberValue, ModernValue, TopicShare};
#[cfg(fuzzing)]
pub use records::arbitrary::replay_arbitrary;
pub(crate) use records::protocol;
pub use records::{GroupRecord, GroupValue, MemberValue, ModernKey, OffsetValue};
#[cfg(any(test, fuzzing))]
pub(crate) use replay::RecordPosition;
pub(crate) use request::*;
pub(crate) use result::CoordinatorResult;
#[cfg(test)]
pub(crate) use result::RecordAppend;
#[cfg(test)]
pub(crate) use {crate::coordinator::wire::WireFault, replay::ReplayedBatch};

use classic::{ClassicGroup, GroupState};
use modern::ModernGroup;
use offsets::Offsets;
use std::sync::Arc;

/// A group: the offsets that were committed in its name, and its members under one protocol.
#[derive(Debug)]
struct Group {
    id: Arc<str>,
    offsets: Offsets,
    kind: GroupKind,
}

/// The protocol that a group's members follow. A group without members and without a record of
/// its own, which only has offsets, is a classic one.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // Nearly every group is a classic one.
enum GroupKind {
    /// Members that join in generations and let one of them assign.
    Classic(ClassicGroup),
    /// Members of the newer protocol (KIP-848).
    Consumer(ModernGroup),
}

impl Group {
    /// A classic group without members.
    fn new(id: Arc<str>, wall_ms: i64) -> Group {
        let kind = GroupKind::Classic(ClassicGroup::new(id.clone(), wall_ms));
        Group { id, offsets: Offsets::default(), kind }
    }

    /// Its members, where they follow the classic protocol.
    fn classic(&self) -> Option<&ClassicGroup> {
        match &self.kind {
            GroupKind::Classic(classic) => Some(classic),
            GroupKind::Consumer(_) => None,
        }
    }

    /// As [`Group::classic`], to change them.
    fn classic_mut(&mut self) -> Option<&mut ClassicGroup> {
        match &mut self.kind {
            GroupKind::Classic(classic) => Some(classic),
            GroupKind::Consumer(_) => None,
        }
    }

    /// Whether nobody is in it, under either protocol.
    fn has_no_members(&self) -> bool {
        match &self.kind {
            GroupKind::Consumer(modern) => modern.members.is_empty(),
            GroupKind::Classic(classic) => classic.state == GroupState::Empty,
        }
    }

    /// The record that the log lacks, if it lacks one. A group with members is described by the
    /// next leader's assignments, which makes it unnecessary.
    fn owed_record(&self) -> Option<GroupRecord> {
        let classic = self.classic()?;
        (classic.owed && classic.state == GroupState::Empty).then(|| classic.present_record())
    }
}
