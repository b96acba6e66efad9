//! What goes into the coordinator and what comes out: requests, answers, descriptions.
//!
//! The shapes follow Kafka's requests of the same names. JoinGroup and SyncGroup never block: they
//! answer `Pending`, and the caller asks again with `poll_join` and `poll_sync`.

use crate::error::Result;
use crate::topic::{TopicId, TopicPartition};
use std::sync::Arc;
use std::time::Duration;

/// One protocol (assignor) that a member can take part in, most preferred first in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: Arc<str>,
    /// An encoded subscription (`group::protocol`).
    pub(crate) metadata: Arc<[u8]>,
}

/// JoinGroup. The poll of the caller that sends it counts as a poll of the member.
#[derive(Debug, Clone)]
pub(crate) struct JoinRequest {
    pub(crate) group_id: Arc<str>,
    /// Empty at the first join; then the id that was given, for the whole life of the member.
    pub(crate) member_id: Arc<str>,
    pub(crate) group_instance_id: Option<Arc<str>>,
    pub(crate) client_id: Arc<str>,
    /// Where the client is, for descriptions only.
    pub(crate) client_host: Arc<str>,
    /// `session.timeout.ms`.
    pub(crate) session_timeout: Duration,
    /// `max.poll.interval.ms`.
    pub(crate) rebalance_timeout: Duration,
    /// `consumer` for consumers.
    pub(crate) protocol_type: Arc<str>,
    pub(crate) protocols: Vec<Protocol>,
}

/// Answer to JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JoinAnswer {
    /// MEMBER_ID_REQUIRED: join again at once with this id.
    MemberIdRequired(Arc<str>),
    /// The join phase is not over: ask again with `poll_join`.
    Pending,
    /// The join phase is over: send SyncGroup, as leader with the assignments.
    Joined(Joined),
}

/// The outcome of a join phase for one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) generation_id: i32,
    pub(crate) member_id: Arc<str>,
    pub(crate) leader_id: Arc<str>,
    /// The assignor that won the vote.
    pub(crate) protocol: Arc<str>,
    /// Every member, for the leader; empty for all others.
    pub(crate) members: Vec<JoinedMember>,
}

impl Joined {
    /// Whether this member makes the assignment.
    pub(crate) fn is_leader(&self) -> bool {
        self.member_id == self.leader_id
    }
}

/// One member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub(crate) member_id: Arc<str>,
    pub(crate) group_instance_id: Option<Arc<str>>,
    pub(crate) metadata: Arc<[u8]>,
}

/// Who asks: the part that SyncGroup, Heartbeat and OffsetCommit share.
#[derive(Debug, Clone)]
pub(crate) struct MemberRef {
    pub(crate) group_id: Arc<str>,
    pub(crate) member_id: Arc<str>,
    pub(crate) group_instance_id: Option<Arc<str>>,
    /// -1 when the caller has none.
    pub(crate) generation_id: i32,
}

/// SyncGroup.
#[derive(Debug, Clone)]
pub(crate) struct SyncRequest {
    pub(crate) member: MemberRef,
    /// Checked against the group's when given.
    pub(crate) protocol_type: Option<Arc<str>>,
    /// Checked against the group's when given.
    pub(crate) protocol: Option<Arc<str>>,
    /// The leader's encoded assignments by member id; empty for all others. A member that is
    /// missing is given the empty assignment.
    pub(crate) assignments: Vec<(Arc<str>, Arc<[u8]>)>,
}

/// Answer to SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SyncAnswer {
    /// The leader has not sent the assignments: ask again with `poll_sync`.
    Pending,
    /// The member's encoded assignment (`group::protocol`).
    Assigned(Arc<[u8]>),
}

/// One member in a LeaveGroup.
#[derive(Debug, Clone)]
pub(crate) struct LeavingMember {
    /// Empty when an administrator names a static member by its instance id.
    pub(crate) member_id: Arc<str>,
    pub(crate) group_instance_id: Option<Arc<str>>,
}

/// One offset of an OffsetCommit. `offset >= 0`.
#[derive(Debug, Clone)]
pub(crate) struct OffsetToCommit {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: i64,
    /// -1 is none, and what this crate writes.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Arc<str>,
}

/// What the coordinator has to know of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicShape {
    pub(crate) partitions: i32,
    pub(crate) id: TopicId,
}

/// Looks a topic up by name; `None` when it does not exist.
pub(crate) type TopicLookup<'a> = &'a dyn Fn(&str) -> Option<TopicShape>;

/// One outcome per partition, in the order of the request.
pub(crate) type PartitionOutcomes = Vec<(TopicPartition, Result<()>)>;

/// An offset as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    /// The next offset to read.
    pub(crate) offset: i64,
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) metadata: Arc<str>,
    /// Milliseconds since 1970.
    pub(crate) commit_timestamp: i64,
}

/// Whether a group is of the classic protocol or of the one of KIP-848 (stored only).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupType {
    Classic,
    Consumer,
}

impl GroupType {
    /// The name that administrators see.
    pub(crate) fn name(self) -> &'static str {
        match self {
            GroupType::Classic => "Classic",
            GroupType::Consumer => "Consumer",
        }
    }
}

/// A row of `list_groups`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedGroup {
    pub(crate) group_id: Arc<str>,
    pub(crate) group_type: GroupType,
    /// `consumer`, or empty for a group that only committed.
    pub(crate) protocol_type: Arc<str>,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`; for stored groups of the
    /// new protocol also `Assigning` and `Reconciling`.
    pub(crate) state: &'static str,
    pub(crate) members: usize,
}

/// A group in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DescribedGroup {
    pub(crate) group_id: Arc<str>,
    pub(crate) group_type: GroupType,
    pub(crate) protocol_type: Arc<str>,
    pub(crate) state: &'static str,
    pub(crate) generation_id: i32,
    /// The assignor; empty unless the group is stable.
    pub(crate) protocol: Arc<str>,
    /// The member that assigns; `None` while there is none.
    pub(crate) leader_id: Option<Arc<str>>,
    /// By member id.
    pub(crate) members: Vec<DescribedMember>,
}

/// A member of a described group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DescribedMember {
    pub(crate) member_id: Arc<str>,
    pub(crate) group_instance_id: Option<Arc<str>>,
    pub(crate) client_id: Arc<str>,
    pub(crate) client_host: Arc<str>,
    /// Sorted; what it had while a rebalance is under way.
    pub(crate) assignment: Vec<TopicPartition>,
}

impl DescribedMember {
    /// A member by its id, and who it says to be.
    pub(crate) fn new(
        member_id: &Arc<str>,
        group_instance_id: Option<&Arc<str>>,
        (client_id, client_host): (&Arc<str>, &Arc<str>),
        mut assignment: Vec<TopicPartition>,
    ) -> DescribedMember {
        assignment.sort();
        DescribedMember {
            member_id: member_id.clone(),
            group_instance_id: group_instance_id.cloned(),
            client_id: client_id.clone(),
            client_host: client_host.clone(),
            assignment,
        }
    }
}
