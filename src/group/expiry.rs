//! Committed offsets that nobody has use for any more, and groups of which nothing is left
//! (Kafka's `OffsetMetadataManager.cleanupExpiredOffsets`).
//!
//! Offsets of a group that became empty expire together, so long after that; those of a group
//! without a protocol one by one, by the time of their commit; a stable group of consumers loses
//! those of topics that no member subscribes to. Each goes by a tombstone, and so does its group
//! where all of them went.

use super::classic::GroupState;
use super::coordinator::GroupCoordinator;
use super::offsets::StoredOffset;
use super::records::GroupRecord;
use super::result::{AfterAppend, CoordinatorResult};
use super::{Group, GroupKind};
use crate::time::Now;
use std::sync::Arc;

/// What the age of an offset counts from.
#[derive(Debug, Clone, Copy)]
enum AgeFrom {
    Commit,
    /// The time at which the group became empty.
    Emptied(i64),
}

impl GroupCoordinator {
    /// Has what is older than `retention_ms` go, but for the offsets of a group in a topic that
    /// `keeps` says. Returns how many offsets that are.
    pub(crate) fn expire_offsets(
        &mut self,
        now: Now,
        retention_ms: i64,
        keeps: &dyn Fn(&str, &str) -> bool,
    ) -> CoordinatorResult<usize> {
        let mut appends = Vec::new();
        let mut count = 0;
        for group in self.groups.values() {
            let (mut records, all) = group.expired(now.wall_ms, retention_ms, keeps);
            count += records.len();
            if all && group.has_no_members() && !group.offsets.has_pending() {
                records.extend(group.own_tombstones());
            }
            if !records.is_empty() {
                appends.push(self.append(group.id.clone(), records, AfterAppend::Nothing));
            }
        }
        CoordinatorResult { response: count, appends }
    }
}

impl Group {
    /// Tombstones of the offsets that expired, and whether no other is left.
    fn expired(
        &self,
        now_ms: i64,
        retention_ms: i64,
        keeps: &dyn Fn(&str, &str) -> bool,
    ) -> (Vec<GroupRecord>, bool) {
        let Some(from) = self.age_from() else { return (Vec::new(), false) };
        let mut all = true;
        let mut records = Vec::new();
        for (partition, stored) in self.offsets.iter() {
            let read = !self.has_no_members() && self.reads(partition.topic());
            let pending = self.offsets.is_pending(&partition);
            let kept = keeps(&self.id, partition.topic());
            if read || pending || kept || !is_old(stored, from, now_ms, retention_ms) {
                all = false;
                continue;
            }
            records.push(GroupRecord::Offset {
                group: self.id.clone(),
                topic: partition.topic_shared().clone(),
                partition: partition.partition(),
                value: None,
            });
        }
        (records, all)
    }

    /// `None` where no offset expires: the group is rebalancing, or its members are no consumers.
    fn age_from(&self) -> Option<AgeFrom> {
        let classic = match &self.kind {
            GroupKind::Consumer(_) => return Some(AgeFrom::Commit),
            GroupKind::Classic(classic) => classic,
        };
        match (classic.protocol_type.as_deref(), classic.state) {
            (_, GroupState::Empty) if !classic.pending.is_empty() => None,
            (None, _) => Some(AgeFrom::Commit),
            (Some(_), GroupState::Empty) if classic.state_timestamp >= 0 => {
                Some(AgeFrom::Emptied(classic.state_timestamp))
            }
            (Some(_), GroupState::Empty) => Some(AgeFrom::Commit),
            (Some("consumer"), GroupState::Stable) => {
                classic.subscribed.is_some().then_some(AgeFrom::Commit)
            }
            _ => None,
        }
    }

    fn own_tombstones(&self) -> Vec<GroupRecord> {
        match &self.kind {
            GroupKind::Consumer(modern) => modern.tombstones(),
            GroupKind::Classic(_) => {
                vec![GroupRecord::Group { group: Arc::clone(&self.id), value: None }]
            }
        }
    }
}

fn is_old(stored: &StoredOffset, from: AgeFrom, now_ms: i64, retention_ms: i64) -> bool {
    // Versions before 2 of the protocol could say when an offset expires.
    if let Some(at) = stored.value.expire_timestamp {
        return now_ms >= at;
    }
    let from = match from {
        AgeFrom::Commit => stored.value.commit_timestamp,
        AgeFrom::Emptied(at) => at,
    };
    now_ms.saturating_sub(from) >= retention_ms
}
