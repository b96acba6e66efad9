//! What a table tells of itself: its entries, and how they change.

use crate::topic::TopicPartition;
use bytes::Bytes;
use std::fmt;
use std::ops::Deref;

/// Why an entry changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeCause {
    /// A record was read: a value, or a tombstone.
    Record,
    /// The record of the entry is not in the log any more: retention or `delete_records` went past
    /// it.
    Retention,
    /// The record of the entry is not in the log any more, and neither is the tombstone that took
    /// its place: the table was read again so late that compaction had removed both.
    Compaction,
}

/// The record behind a [`TableEntry`] or a [`TableChange`], both of which read as it does: its
/// place, time and key.
#[derive(Clone, PartialEq, Eq)]
pub struct TableRecord {
    pub(super) place: TopicPartition,
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) key: Bytes,
}

impl TableRecord {
    /// The topic and the partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.place
    }

    /// The offset of the record. Of a change that has another cause than a record that was read:
    /// the offset of the record that went.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The timestamp of the record, in milliseconds since 1970, -1 if it has none.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The key.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// Shows sizes: payloads may be large, or secret.
    fn show(&self, shown: &mut fmt::DebugStruct<'_, '_>) {
        shown
            .field("partition", &self.place)
            .field("offset", &self.offset)
            .field("key_size", &self.key.len());
    }
}

impl fmt::Debug for TableRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TableRecord");
        self.show(&mut shown);
        shown.finish()
    }
}

/// One change of one entry, from [`Table::update`](crate::Table::update).
#[derive(Clone, PartialEq, Eq)]
pub struct TableChange {
    pub(super) record: TableRecord,
    pub(super) old: Option<Bytes>,
    pub(super) new: Option<Bytes>,
    pub(super) cause: ChangeCause,
}

impl TableChange {
    /// The value before; None where there was none.
    pub fn old_value(&self) -> Option<&Bytes> {
        self.old.as_ref()
    }

    /// The value from here on; None where the key is gone.
    pub fn new_value(&self) -> Option<&Bytes> {
        self.new.as_ref()
    }

    /// Why.
    pub fn cause(&self) -> ChangeCause {
        self.cause
    }
}

impl Deref for TableChange {
    type Target = TableRecord;

    fn deref(&self) -> &TableRecord {
        &self.record
    }
}

impl fmt::Debug for TableChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TableChange");
        self.record.show(&mut shown);
        shown
            .field("old_size", &self.old.as_ref().map(Bytes::len))
            .field("new_size", &self.new.as_ref().map(Bytes::len))
            .field("cause", &self.cause)
            .finish()
    }
}

/// A key with its latest value, as a table held it when it was asked.
#[derive(Clone, PartialEq, Eq)]
pub struct TableEntry {
    pub(super) record: TableRecord,
    pub(super) value: Bytes,
}

impl TableEntry {
    /// The value.
    pub fn value(&self) -> &Bytes {
        &self.value
    }
}

impl Deref for TableEntry {
    type Target = TableRecord;

    fn deref(&self) -> &TableRecord {
        &self.record
    }
}

impl fmt::Debug for TableEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TableEntry");
        self.record.show(&mut shown);
        shown.field("value_size", &self.value.len()).finish()
    }
}
