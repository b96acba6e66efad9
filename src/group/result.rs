//! What a handler of the coordinator gives back.

use super::records::GroupRecord;
use crate::coordinator::{EncodedRecords, ShardAppend, TransactionStamp};
use std::sync::Arc;
use std::time::Duration;

/// What a handler of the groups' coordinator gives back.
pub(crate) type CoordinatorResult<R> = crate::coordinator::CoordinatorResult<R, RecordAppend>;

/// Records of one group, to be stored as one batch.
#[derive(Debug)]
#[must_use = "records have to be stored, and reported with `applied`"]
pub(crate) struct RecordAppend {
    pub(crate) group: Arc<str>,
    /// The partition of `__consumer_offsets` that they belong into.
    pub(crate) partition: i32,
    /// Never empty.
    pub(crate) records: Vec<GroupRecord>,
    /// The producer in whose open transaction they are; they are pending until it ends.
    pub(crate) transaction: Option<TransactionStamp>,
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

impl ShardAppend for RecordAppend {
    fn partition(&self) -> i32 {
        self.partition
    }

    fn subject(&self) -> String {
        format!("group {}", self.group)
    }

    fn encode(&self, into: &mut EncodedRecords) {
        for record in &self.records {
            record.encode(into);
        }
    }

    fn transaction(&self) -> Option<TransactionStamp> {
        self.transaction
    }
}
