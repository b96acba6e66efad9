//! What a handler of the coordinator gives back.

use super::records::GroupRecord;
use std::sync::Arc;
use std::time::Duration;

/// What a handler gives back.
#[derive(Debug)]
#[must_use = "its records have to be stored, and reported with `applied`"]
pub(crate) struct CoordinatorResult<R> {
    /// True once the appends are stored. See the module about appends that fail.
    pub(crate) response: R,
    /// In order. More than one only where several groups changed.
    pub(crate) appends: Vec<RecordAppend>,
}

impl<R> CoordinatorResult<R> {
    /// A response that no record is needed for.
    pub(super) fn done(response: R) -> CoordinatorResult<R> {
        CoordinatorResult { response, appends: Vec::new() }
    }
}

/// Records of one group, to be stored as one batch.
#[derive(Debug)]
#[must_use = "records have to be stored, and reported with `applied`"]
pub(crate) struct RecordAppend {
    pub(crate) group: Arc<str>,
    /// The partition of `__consumer_offsets` that they belong into.
    pub(crate) partition: i32,
    /// Never empty.
    pub(crate) records: Vec<GroupRecord>,
    pub(super) then: AfterAppend,
}

/// What an append means beyond its records.
#[derive(Debug)]
pub(super) enum AfterAppend {
    Nothing,
    /// The group is made for a member that was given this id.
    Create {
        member_id: Arc<str>,
        session_timeout: Duration,
    },
    /// The leader's assignments count.
    Stabilise {
        generation_id: i32,
        leader_id: Arc<str>,
    },
}
