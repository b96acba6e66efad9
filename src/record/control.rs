//! Control records: what coordinators write into a log beside the records of applications.
//!
//! ```text
//! key               := version i16 | type i16
//! value of a marker := version i16 | coordinator epoch i32
//! ```

use super::fault::BatchFault;
use super::records::Record;

/// The size of a transaction marker's batch in bytes.
pub const MARKER_BATCH_SIZE: usize = 78;

/// The statement of a control record. Kafka's class is `ControlRecordType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ControlType {
    /// The transaction of this producer id is aborted.
    Abort,
    /// The transaction of this producer id is committed.
    Commit,
    /// Raft: a leader took over.
    LeaderChange,
    /// Raft: a snapshot begins.
    SnapshotHeader,
    /// Raft: a snapshot ends.
    SnapshotFooter,
    /// Raft: the protocol version.
    KraftVersion,
    /// Raft: the set of voters.
    KraftVoters,
    /// A type of a later Kafka. Readers skip it.
    Unknown(i16),
}

impl ControlType {
    /// The number in the record's key.
    pub fn id(self) -> i16 {
        match self {
            ControlType::Abort => 0,
            ControlType::Commit => 1,
            ControlType::LeaderChange => 2,
            ControlType::SnapshotHeader => 3,
            ControlType::SnapshotFooter => 4,
            ControlType::KraftVersion => 5,
            ControlType::KraftVoters => 6,
            ControlType::Unknown(id) => id,
        }
    }

    /// The type of this number.
    pub fn from_id(id: i16) -> ControlType {
        match id {
            0 => ControlType::Abort,
            1 => ControlType::Commit,
            2 => ControlType::LeaderChange,
            3 => ControlType::SnapshotHeader,
            4 => ControlType::SnapshotFooter,
            5 => ControlType::KraftVersion,
            6 => ControlType::KraftVoters,
            id => ControlType::Unknown(id),
        }
    }

    /// The record ends a transaction.
    pub fn is_marker(self) -> bool {
        matches!(self, ControlType::Abort | ControlType::Commit)
    }
}

/// A decoded control record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlRecord {
    /// What it says.
    pub kind: ControlType,
    /// The epoch of the coordinator that decided, in transaction markers.
    pub coordinator_epoch: Option<i32>,
}

impl ControlRecord {
    /// Decodes a record of a control batch. Versions above 0 are read as 0, as Kafka does.
    ///
    /// # Errors
    /// [`BatchFault::BadRecords`] for a key of less than four bytes, a negative version, or a
    /// marker whose value is cut off.
    pub fn parse(record: &Record<'_>) -> Result<ControlRecord, BatchFault> {
        let Some(&[v0, v1, t0, t1, ..]) = record.key() else {
            return Err(BatchFault::BadRecords("the key of a control record is cut off"));
        };
        if i16::from_be_bytes([v0, v1]) < 0 {
            return Err(BatchFault::BadRecords("the version of a control record is negative"));
        }
        let kind = ControlType::from_id(i16::from_be_bytes([t0, t1]));
        if !kind.is_marker() {
            return Ok(ControlRecord { kind, coordinator_epoch: None });
        }
        let Some(&[v0, v1, a, b, c, d, ..]) = record.value() else {
            return Err(BatchFault::BadRecords("the value of a transaction marker is cut off"));
        };
        if i16::from_be_bytes([v0, v1]) < 0 {
            return Err(BatchFault::BadRecords("the version of a transaction marker is negative"));
        }
        Ok(ControlRecord { kind, coordinator_epoch: Some(i32::from_be_bytes([a, b, c, d])) })
    }
}
