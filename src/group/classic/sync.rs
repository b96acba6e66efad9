//! SyncGroup and Heartbeat.

use super::{Awaiting, ClassicGroup, GroupState, Member, no_bytes};
use crate::error::{ErrorKind, Result};
use crate::group::coordinator::{
    Context, GroupCoordinator, check_group_id, rebalancing, refusal, unknown_member,
};
use crate::group::events::GroupEventKind;
use crate::group::records::GroupValue;
use crate::group::request::{MemberRef, SyncAnswer, SyncRequest};
use crate::group::result::{AfterAppend, CoordinatorResult};
use crate::time::Now;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

impl GroupCoordinator {
    /// SyncGroup. The leader's assignments count once their record is stored; when that fails
    /// nothing has changed and the leader may send them again.
    ///
    /// # Errors
    /// In the response: `InvalidGroupId`, `UnknownMemberId`, `FencedInstanceId`,
    /// `IllegalGeneration`, `InconsistentGroupProtocol`, `RebalanceInProgress`.
    pub(crate) fn sync(
        &mut self,
        request: &SyncRequest,
        now: Now,
    ) -> CoordinatorResult<Result<SyncAnswer>> {
        let member = &request.member;
        if let Err(error) = check_group_id(&member.group_id) {
            return CoordinatorResult::done(Err(error));
        }
        let Some((group, mut context)) = self.enter(&member.group_id, now) else {
            return CoordinatorResult::done(Err(unknown_member(
                &member.group_id,
                &member.member_id,
            )));
        };
        if let Err(error) = group.check_sync(request) {
            return CoordinatorResult::done(Err(error));
        }
        group.knows_generation(&member.member_id);
        let id = &member.member_id;
        if group.state == GroupState::Stable {
            let assignment = group.synced(id, &mut context);
            return CoordinatorResult::done(Ok(SyncAnswer::Assigned(assignment)));
        }
        if group.leader_id.as_ref() != Some(id) {
            group.await_sync(id, &mut context);
            return CoordinatorResult::done(Ok(SyncAnswer::Pending));
        }
        let assignments: BTreeMap<&Arc<str>, &Arc<[u8]>> =
            request.assignments.iter().map(|(id, bytes)| (id, bytes)).collect();
        let share =
            |id: &Arc<str>| assignments.get(id).map_or_else(no_bytes, |&bytes| bytes.clone());
        let record = group.record(|id, _| share(id));
        let then =
            AfterAppend::Stabilise { generation_id: group.generation_id, leader_id: id.clone() };
        let append = self.append(member.group_id.clone(), vec![record], then);
        CoordinatorResult { response: Ok(SyncAnswer::Assigned(share(id))), appends: vec![append] }
    }

    /// Whether the sync that was answered `Pending` has an answer.
    ///
    /// # Errors
    /// `RebalanceInProgress` when another rebalance began before the leader's assignments came,
    /// `UnknownMemberId` when the member was put out.
    pub(crate) fn poll_sync(&mut self, group: &str, member: &str, now: Now) -> Result<SyncAnswer> {
        let Some((group, _)) = self.enter(group, now) else {
            return Err(unknown_member(group, member));
        };
        let Some(state) = group.members.get_mut(member) else {
            return Err(unknown_member(&group.id, member));
        };
        if state.awaiting == Awaiting::Sync {
            return Ok(SyncAnswer::Pending);
        }
        match state.sync_answer.take() {
            Some(answer) => SyncAnswer::from_parked(answer),
            None => Err(rebalancing(&group.id)),
        }
    }

    /// Heartbeat: whether the member's generation stands. With `poll_deadline`, the last poll
    /// plus `max.poll.interval.ms` on the monotonic scale, the member also counts as live until
    /// then.
    ///
    /// # Errors
    /// `InvalidGroupId`, `UnknownMemberId`, `FencedInstanceId`, `IllegalGeneration`,
    /// `RebalanceInProgress` (join again; the session is renewed all the same).
    pub(crate) fn heartbeat(
        &mut self,
        member: &MemberRef,
        poll_deadline: Option<Duration>,
        now: Now,
    ) -> Result<()> {
        check_group_id(&member.group_id)?;
        let Some((group, mut context)) = self.enter(&member.group_id, now) else {
            return Err(unknown_member(&member.group_id, &member.member_id));
        };
        group.validate_generation(member)?;
        if !group.has_generation() {
            return Err(unknown_member(&member.group_id, &member.member_id));
        }
        group.knows_generation(&member.member_id);
        group.renew(&member.member_id, poll_deadline, &mut context);
        match group.state {
            GroupState::PreparingRebalance => Err(rebalancing(&member.group_id)),
            _ => Ok(()),
        }
    }
}

impl ClassicGroup {
    fn check_sync(&self, request: &SyncRequest) -> Result<()> {
        self.validate_generation(&request.member)?;
        let differs =
            |given: &Option<Arc<str>>, ours: &Option<Arc<str>>| given.is_some() && given != ours;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            let why = "the protocol is not the one that was chosen in the join phase";
            return Err(refusal(ErrorKind::InconsistentGroupProtocol, &self.id, why));
        }
        match self.state {
            GroupState::Empty | GroupState::Dead => {
                Err(unknown_member(&self.id, &request.member.member_id))
            }
            GroupState::PreparingRebalance => Err(rebalancing(&self.id)),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }

    /// The member has read the answer to its join, however it came by it.
    fn knows_generation(&mut self, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.join_answer = None;
        }
    }

    fn await_sync(&mut self, id: &Arc<str>, context: &mut Context<'_>) {
        self.unsynced.remove(id);
        if let Some(member) = self.members.get_mut(id) {
            member.awaiting = Awaiting::Sync;
            member.sync_answer = None;
            member.renewed_at = member.renewed_at.max(context.now.mono);
        }
        self.arm(id, context);
    }

    /// Notes a sync in a stable group and gives the member's assignment.
    fn synced(&mut self, id: &Arc<str>, context: &mut Context<'_>) -> Arc<[u8]> {
        self.unsynced.remove(id);
        if self.unsynced.is_empty() {
            self.set_phase_timer(context.timers, None);
        }
        self.renew(id, None, context);
        self.members.get(id).map_or_else(no_bytes, |member| member.assignment.clone())
    }

    /// The leader's assignments are stored: every member that waits for its share has it.
    pub(in crate::group) fn stabilise(
        &mut self,
        value: &GroupValue,
        generation_id: i32,
        leader_id: &Arc<str>,
        context: &mut Context<'_>,
    ) {
        if self.state != GroupState::CompletingRebalance || self.generation_id != generation_id {
            return;
        }
        for stored in &value.members {
            let Some(member) = self.members.get_mut(&stored.member_id) else { continue };
            member.assignment = stored.assignment.clone();
            if member.awaiting == Awaiting::Sync {
                member.awaiting = Awaiting::Nothing;
                member.sync_answer = Some(Ok(stored.assignment.clone()));
                member.renewed_at = member.renewed_at.max(context.now.mono);
            }
        }
        self.become_state(GroupState::Stable, context.now.wall_ms);
        let share = |m: &Member| (m.client_id.clone(), m.assignment.clone());
        let shares = self.members.values().map(share).collect();
        let began = self.rebalance_began.take().unwrap_or(context.now.mono);
        let took = context.now.mono.saturating_sub(began);
        context.events.push(&self.id, GroupEventKind::Stable { generation_id, shares, took });
        context.moved.insert(self.id.clone());
        self.synced(leader_id, context);
        self.arm_all(context);
    }
}
