//! Offsets as consumers commit and look them up, and a member's identity.

use crate::group::MemberRef;
use crate::sync::Arc;

/// A committed offset: the next record to read, and a text of the application's.
///
/// # Examples
/// ```
/// use topiclite::OffsetAndMetadata;
/// let committed = OffsetAndMetadata::new(5).metadata("checkpoint 3");
/// assert_eq!((committed.offset(), committed.text()), (5, "checkpoint 3"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    offset: i64,
    leader_epoch: Option<i32>,
    metadata: Arc<str>,
}

impl OffsetAndMetadata {
    /// `offset` is the next record to read: the last one that was processed, plus 1. A negative
    /// one is refused by the call that it is given to.
    pub fn new(offset: i64) -> OffsetAndMetadata {
        OffsetAndMetadata { offset, leader_epoch: None, metadata: Arc::from("") }
    }

    pub(crate) fn stored(offset: i64, leader_epoch: Option<i32>, metadata: Arc<str>) -> Self {
        OffsetAndMetadata { offset, leader_epoch, metadata }
    }

    /// Adds a text, of at most `offset.metadata.max.bytes` (4096) UTF-16 units.
    pub fn metadata(mut self, text: impl Into<Arc<str>>) -> OffsetAndMetadata {
        self.metadata = text.into();
        self
    }

    /// The next record to read.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The text, empty if none was given.
    pub fn text(&self) -> &str {
        &self.metadata
    }

    /// The leader epoch of the last record that was read, where another client stored one.
    ///
    /// Departure: D42. Consumers of this crate store none. A stored epoch above the one of a Kafka
    /// broker that later serves the directory would stall Java consumers.
    pub fn leader_epoch(&self) -> Option<i32> {
        self.leader_epoch
    }

    pub(crate) fn metadata_shared(&self) -> &Arc<str> {
        &self.metadata
    }
}

impl From<i64> for OffsetAndMetadata {
    fn from(offset: i64) -> OffsetAndMetadata {
        OffsetAndMetadata::new(offset)
    }
}

/// The answer to a lookup by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetAndTimestamp {
    offset: i64,
    timestamp: i64,
}

impl OffsetAndTimestamp {
    pub(crate) fn new(offset: i64, timestamp: i64) -> OffsetAndTimestamp {
        OffsetAndTimestamp { offset, timestamp }
    }

    /// The first offset whose record is not older than what was asked for.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// That record's timestamp, in milliseconds since 1970.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }
}

/// Who a consumer is in its group, as [`Consumer::group_metadata`](crate::Consumer::group_metadata)
/// tells it, or whoever commits offsets of a group without being a member.
///
/// It has no `group.instance.id`, as Kafka's has: static membership is not built, the setting is
/// refused, and so no member has one.
///
/// # Examples
/// ```
/// use topiclite::GroupMetadata;
/// let outsider = GroupMetadata::new("billing");
/// assert_eq!((outsider.group_id(), outsider.generation_id()), ("billing", -1));
/// let member = outsider.as_member("billing-1", 7);
/// assert_eq!((member.member_id(), member.generation_id()), ("billing-1", 7));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    group_id: Arc<str>,
    generation_id: i32,
    member_id: Arc<str>,
}

impl GroupMetadata {
    /// Of nobody in particular: offsets that are committed so are not checked against the members.
    pub fn new(group_id: impl Into<Arc<str>>) -> GroupMetadata {
        GroupMetadata { group_id: group_id.into(), generation_id: -1, member_id: Arc::from("") }
    }

    /// Of a member, in one generation.
    pub fn as_member(
        mut self,
        member_id: impl Into<Arc<str>>,
        generation_id: i32,
    ) -> GroupMetadata {
        self.member_id = member_id.into();
        self.generation_id = generation_id;
        self
    }

    /// As the coordinator of the group takes it. No consumer is a static member.
    pub(crate) fn member(&self) -> MemberRef {
        MemberRef {
            group_id: self.group_id.clone(),
            member_id: self.member_id.clone(),
            group_instance_id: None,
            generation_id: self.generation_id,
        }
    }

    /// The group.
    pub fn group_id(&self) -> &str {
        &self.group_id
    }

    /// The generation of the last rebalance that this member finished, -1 before the first.
    pub fn generation_id(&self) -> i32 {
        self.generation_id
    }

    /// The id that the coordinator gave, empty before the first rebalance.
    pub fn member_id(&self) -> &str {
        &self.member_id
    }
}
