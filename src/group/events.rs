//! What the coordinator tells of its groups, beside answers and records: for logs, counters and
//! tests. Nothing depends on whether anybody takes it.

use crate::events::RemovalReason;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupEvent {
    pub(crate) group: Arc<str>,
    pub(crate) kind: GroupEventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GroupEventKind {
    /// A new member is in.
    Joined { client_id: Arc<str> },
    /// A member is gone: it left by itself where there is no reason.
    Removed { client_id: Arc<str>, why: Option<RemovalReason> },
    /// The members have to join again.
    Rebalancing,
    /// All have joined.
    GenerationBegan { generation_id: i32, members: usize },
    /// The leader's assignments count: each member's share, as it was encoded, and the time since
    /// the members were asked to join again.
    Stable { generation_id: i32, shares: Vec<(Arc<str>, Arc<[u8]>)>, took: Duration },
    /// Nobody is left.
    Emptied,
}

/// More than this is not kept for somebody who does not come.
const EVENTS_MAX: usize = 100_000;

/// Events that nobody took yet.
#[derive(Debug, Default)]
pub(super) struct Events(Vec<GroupEvent>);

impl Events {
    pub(super) fn push(&mut self, group: &Arc<str>, kind: GroupEventKind) {
        if self.0.len() < EVENTS_MAX {
            self.0.push(GroupEvent { group: group.clone(), kind });
        }
    }

    pub(super) fn take(&mut self) -> Vec<GroupEvent> {
        std::mem::take(&mut self.0)
    }
}
