//! The members of a group of the classic protocol: who is in it, in which state it is, and the
//! record that describes it.
//!
//! `join` and `sync` are the two phases of a rebalance, `generation` is what ends the first one,
//! `members` is who comes and goes, `liveness` until when each counts as alive.

mod generation;
mod join;
mod liveness;
mod members;
mod sync;

use crate::error::Result;
use crate::events::RemovalReason;
use crate::group::coordinator::Timer;
use crate::group::records::protocol::Assignment;
use crate::group::records::{GroupRecord, GroupValue, MemberValue};
use crate::group::request::{DescribedGroup, DescribedMember, GroupType, Joined, Protocol};
use crate::time::{TimerKey, TimerQueue};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a member that joins for the first time may wait for the others, whatever its
/// session timeout.
pub(in crate::group) const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// Where a classic group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupState {
    /// No members; offsets may be stored.
    Empty,
    /// Waiting for the members to join.
    PreparingRebalance,
    /// A generation is made; waiting for the leader's assignments.
    CompletingRebalance,
    /// Every member has, or can fetch, its assignment.
    Stable,
    /// Deleted.
    Dead,
}

impl GroupState {
    /// The name that administrators see.
    pub(crate) fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }

    /// Whether the step from here to `next` exists.
    pub(crate) fn can_become(self, next: GroupState) -> bool {
        use GroupState::*;
        match next {
            Empty => self == PreparingRebalance,
            PreparingRebalance => matches!(self, Stable | CompletingRebalance | Empty),
            CompletingRebalance => self == PreparingRebalance,
            Stable => self == CompletingRebalance,
            Dead => true,
        }
    }
}

/// What a member waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::group) enum Awaiting {
    Nothing,
    Join,
    Sync,
}

/// The heartbeats of a member, which its handle sends or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::group) enum Heartbeats {
    /// It does until this moment, its last poll plus `max.poll.interval.ms`. Then a dynamic
    /// member leaves by itself, and a static one falls silent.
    Live { until: Duration },
    /// It has been silent since this moment.
    Stopped { at: Duration },
}

#[derive(Debug)]
pub(in crate::group) struct Member {
    pub(in crate::group) group_instance_id: Option<Arc<str>>,
    pub(in crate::group) client_id: Arc<str>,
    pub(in crate::group) client_host: Arc<str>,
    pub(in crate::group) session_timeout: Duration,
    pub(in crate::group) rebalance_timeout: Duration,
    /// Most preferred first.
    pub(in crate::group) protocols: Vec<Protocol>,
    pub(in crate::group) assignment: Arc<[u8]>,
    pub(in crate::group) awaiting: Awaiting,
    /// Kept until the member asks. A member of Kafka sends no heartbeats from its JoinGroup until a
    /// poll has read the answer, so until then its session runs.
    pub(in crate::group) join_answer: Option<Result<Joined>>,
    /// Kept until the member asks.
    pub(in crate::group) sync_answer: Option<Result<Arc<[u8]>>>,
    /// It has not been part of a generation.
    pub(in crate::group) is_new: bool,
    pub(in crate::group) heartbeats: Heartbeats,
    /// When the coordinator last began its session anew: at a join, a sync, an answer.
    pub(in crate::group) renewed_at: Duration,
    pub(in crate::group) timer: Option<TimerKey>,
}

impl Member {
    pub(in crate::group) fn is_static(&self) -> bool {
        self.group_instance_id.is_some()
    }

    pub(in crate::group) fn metadata(&self, protocol: &str) -> Option<&Arc<[u8]>> {
        self.protocols.iter().find(|p| &*p.name == protocol).map(|p| &p.metadata)
    }

    /// When the member is put out unless something happens before; `None` while it waits for
    /// others, who have deadlines of their own.
    pub(in crate::group) fn deadline(&self) -> Option<Duration> {
        if self.awaiting == Awaiting::Join {
            return self.is_new.then(|| self.renewed_at.saturating_add(NEW_MEMBER_JOIN_TIMEOUT));
        }
        if self.join_answer.is_some() {
            return Some(self.renewed_at.saturating_add(self.session_timeout));
        }
        let silent_since = match self.heartbeats {
            // It leaves by itself, unless it was kept past that moment by a join that took long.
            Heartbeats::Live { until } if !self.is_static() && until >= self.renewed_at => {
                return Some(until);
            }
            Heartbeats::Live { until } => until,
            Heartbeats::Stopped { .. } if self.awaiting == Awaiting::Sync => return None,
            Heartbeats::Stopped { at } => at,
        };
        Some(silent_since.max(self.renewed_at).saturating_add(self.session_timeout))
    }
}

impl Member {
    /// Why its deadline matters, once it has passed.
    pub(in crate::group) fn overdue(&self) -> RemovalReason {
        match self.heartbeats {
            _ if self.awaiting == Awaiting::Join => RemovalReason::DidNotRejoin,
            _ if self.join_answer.is_some() => RemovalReason::SessionTimeout,
            Heartbeats::Live { until } if !self.is_static() && until >= self.renewed_at => {
                RemovalReason::PollInterval
            }
            Heartbeats::Live { .. } | Heartbeats::Stopped { .. } => RemovalReason::SessionTimeout,
        }
    }
}

/// A member id that was given out and has not joined.
#[derive(Debug)]
pub(in crate::group) struct PendingMember {
    pub(in crate::group) timer: Option<TimerKey>,
}

/// The wait for more members after a group was empty.
#[derive(Debug, Clone, Copy)]
pub(in crate::group) struct InitialDelay {
    /// How long the present wait is.
    pub(in crate::group) delay: Duration,
    /// How much of the rebalance timeout is left after it.
    pub(in crate::group) remaining: Duration,
    /// A member came during the present wait.
    pub(in crate::group) prolonged: bool,
}

/// The members of a classic group, and where they stand.
#[derive(Debug)]
pub(in crate::group) struct ClassicGroup {
    /// The group's name.
    pub(in crate::group) id: Arc<str>,
    /// `None` until a member has joined.
    pub(in crate::group) protocol_type: Option<Arc<str>>,
    pub(in crate::group) generation_id: i32,
    pub(in crate::group) protocol: Option<Arc<str>>,
    pub(in crate::group) leader_id: Option<Arc<str>>,
    pub(in crate::group) state: GroupState,
    pub(in crate::group) state_timestamp: i64,
    pub(in crate::group) members: BTreeMap<Arc<str>, Member>,
    /// Static members by instance id.
    pub(in crate::group) instances: BTreeMap<Arc<str>, Arc<str>>,
    pub(in crate::group) pending: BTreeMap<Arc<str>, PendingMember>,
    /// Members of this generation that have not sent SyncGroup.
    pub(in crate::group) unsynced: BTreeSet<Arc<str>>,
    pub(in crate::group) awaiting_join: usize,
    /// How many members support each protocol.
    pub(in crate::group) supported: BTreeMap<Arc<str>, usize>,
    pub(in crate::group) initial: Option<InitialDelay>,
    /// The rebalance timeout while preparing, the sync timeout after it.
    pub(in crate::group) phase_timer: Option<TimerKey>,
    /// Topics of this generation's members; `None` when there is none, or one cannot be read.
    pub(in crate::group) subscribed: Option<BTreeSet<Arc<str>>>,
    /// A record that describes the group as it is has still to be written.
    pub(in crate::group) owed: bool,
    /// When its members were first asked to join again, and not all have a share since.
    pub(in crate::group) rebalance_began: Option<Duration>,
}

impl ClassicGroup {
    /// One without members.
    pub(in crate::group) fn new(id: Arc<str>, wall_ms: i64) -> ClassicGroup {
        ClassicGroup {
            id,
            protocol_type: None,
            generation_id: 0,
            protocol: None,
            leader_id: None,
            state: GroupState::Empty,
            state_timestamp: wall_ms,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            awaiting_join: 0,
            supported: BTreeMap::new(),
            initial: None,
            phase_timer: None,
            subscribed: None,
            owed: false,
            rebalance_began: None,
        }
    }

    /// What administrators see of it.
    pub(in crate::group) fn describe(&self) -> DescribedGroup {
        let protocol = self.protocol.clone().filter(|_| self.state == GroupState::Stable);
        let members = self.members.iter().map(|(id, member)| {
            let assignment = Assignment::decode(&member.assignment).unwrap_or_default().partitions;
            let client = (&member.client_id, &member.client_host);
            DescribedMember::new(id, member.group_instance_id.as_ref(), client, assignment)
        });
        DescribedGroup {
            group_id: self.id.clone(),
            group_type: GroupType::Classic,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            state: self.state.name(),
            generation_id: self.generation_id,
            protocol: protocol.unwrap_or_default(),
            leader_id: self.leader_id.clone(),
            members: members.collect(),
        }
    }

    /// It is deleted, or gives way to a group of the newer protocol: no timer of it stays.
    pub(in crate::group) fn end(&mut self, timers: &mut TimerQueue<Timer>) {
        self.state = GroupState::Dead;
        let members = self.members.values_mut().filter_map(|member| member.timer.take());
        let pending = self.pending.values_mut().filter_map(|pending| pending.timer.take());
        for timer in members.chain(pending).chain(self.phase_timer.take()) {
            timers.cancel(timer);
        }
    }

    pub(in crate::group) fn become_state(&mut self, next: GroupState, wall_ms: i64) {
        debug_assert!(self.state.can_become(next), "{:?} to {next:?}", self.state);
        self.state = next;
        self.state_timestamp = wall_ms;
    }

    /// The group's rebalance timeout: the longest of its members'.
    pub(in crate::group) fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    pub(in crate::group) fn set_phase_timer(
        &mut self,
        timers: &mut TimerQueue<Timer>,
        deadline: Option<Duration>,
    ) {
        if let Some(key) = self.phase_timer.take() {
            timers.cancel(key);
        }
        self.phase_timer =
            deadline.map(|deadline| timers.insert(deadline, Timer::phase(self.id.clone())));
    }

    /// The record of the group as it is, with the members' assignments as `assignment` says.
    pub(in crate::group) fn record(
        &self,
        mut assignment: impl FnMut(&Arc<str>, &Member) -> Arc<[u8]>,
    ) -> GroupRecord {
        let members = self
            .members
            .iter()
            .map(|(id, member)| MemberValue {
                member_id: id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms: millis(member.rebalance_timeout),
                session_timeout_ms: millis(member.session_timeout),
                subscription: self
                    .protocol
                    .as_deref()
                    .and_then(|protocol| member.metadata(protocol))
                    .cloned()
                    .unwrap_or_else(no_bytes),
                assignment: assignment(id, member),
            })
            .collect();
        GroupRecord::Group {
            group: self.id.clone(),
            value: Some(GroupValue {
                protocol_type: self.protocol_type.clone().unwrap_or_default(),
                generation_id: self.generation_id,
                protocol: self.protocol.clone(),
                leader_id: self.leader_id.clone(),
                state_timestamp: self.state_timestamp,
                members,
            }),
        }
    }

    /// The record of the group as it is.
    pub(in crate::group) fn present_record(&self) -> GroupRecord {
        self.record(|_, member| member.assignment.clone())
    }
}

pub(in crate::group) fn no_bytes() -> Arc<[u8]> {
    Arc::from(&[][..])
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::GroupState::*;

    #[test]
    fn a_group_moves_only_between_the_states_that_follow_one_another() {
        let all = [Empty, PreparingRebalance, CompletingRebalance, Stable, Dead];
        let allowed: Vec<_> = all
            .iter()
            .flat_map(|&from| all.iter().map(move |&to| (from, to)))
            .filter(|(from, to)| from.can_become(*to))
            .collect();
        assert_eq!(
            allowed,
            [
                (Empty, PreparingRebalance),
                (Empty, Dead),
                (PreparingRebalance, Empty),
                (PreparingRebalance, CompletingRebalance),
                (PreparingRebalance, Dead),
                (CompletingRebalance, PreparingRebalance),
                (CompletingRebalance, Stable),
                (CompletingRebalance, Dead),
                (Stable, PreparingRebalance),
                (Stable, Dead),
                (Dead, Dead),
            ]
        );
    }
}
