//! JoinGroup: who may join, under which id, and what the answer says.

use super::{Awaiting, ClassicGroup, GroupState, Heartbeats, Member, PendingMember, no_bytes};
use crate::error::{ErrorKind, Result};
use crate::events::RemovalReason;
use crate::group::GroupKind;
use crate::group::coordinator::{
    Context, Due, GroupCoordinator, Timer, check_group_id, rebalancing, refusal, unknown_member,
};
use crate::group::events::GroupEventKind;
use crate::group::request::{JoinAnswer, JoinRequest, Joined, JoinedMember};
use crate::group::result::{AfterAppend, CoordinatorResult};
use crate::time::Now;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

impl GroupCoordinator {
    /// JoinGroup. `random` gives 64 random bits; a new member's id is made of them.
    ///
    /// # Errors
    /// In the response: `InvalidGroupId`, `InvalidSessionTimeout`, `GroupMaxSizeReached`,
    /// `InconsistentGroupProtocol`, `UnknownMemberId` (join again without an id),
    /// `FencedInstanceId`.
    pub(crate) fn join(
        &mut self,
        request: &JoinRequest,
        now: Now,
        random: &mut dyn FnMut() -> u64,
    ) -> CoordinatorResult<Result<JoinAnswer>> {
        if let Err(error) = self.check_join(request) {
            return CoordinatorResult::done(Err(error));
        }
        let answer = match self.enter(&request.group_id, now) {
            Some((group, mut context)) => group.join(request, random, &mut context),
            None => return self.join_new_group(request, now, random),
        };
        self.step(answer)
    }

    fn check_join(&self, request: &JoinRequest) -> Result<()> {
        check_group_id(&request.group_id)?;
        let bounds = self.config.min_session_timeout..=self.config.max_session_timeout;
        if !bounds.contains(&request.session_timeout) {
            let why = format!(
                "session.timeout.ms {} is outside the broker's {} to {}",
                request.session_timeout.as_millis(),
                bounds.start().as_millis(),
                bounds.end().as_millis()
            );
            return Err(refusal(ErrorKind::InvalidSessionTimeout, &request.group_id, &why));
        }
        if request.group_instance_id.is_some() {
            let why = "static membership (group.instance.id) is not supported";
            return Err(refusal(ErrorKind::UnsupportedVersion, &request.group_id, why));
        }
        Ok(())
    }

    /// A group that does not exist, or one of the newer protocol that nobody is in.
    fn join_new_group(
        &mut self,
        request: &JoinRequest,
        now: Now,
        random: &mut dyn FnMut() -> u64,
    ) -> CoordinatorResult<Result<JoinAnswer>> {
        let group = &request.group_id;
        if !request.member_id.is_empty() {
            return CoordinatorResult::done(Err(unknown_member(group, &request.member_id)));
        }
        let mut records = Vec::new();
        if let Some(GroupKind::Consumer(modern)) = self.groups.get(group).map(|g| &g.kind) {
            if !modern.members.is_empty() {
                let why = "its members use the newer group protocol";
                return CoordinatorResult::done(Err(refusal(
                    ErrorKind::InconsistentGroupProtocol,
                    group,
                    why,
                )));
            }
            records.extend(modern.tombstones());
        }
        let created = ClassicGroup::new(group.clone(), now.wall_ms);
        if !created.supports(request) {
            return CoordinatorResult::done(Err(inconsistent(group)));
        }
        records.push(created.present_record());
        let member_id = new_member_id(&request.client_id, random);
        let then = AfterAppend::Create {
            member_id: member_id.clone(),
            session_timeout: request.session_timeout,
        };
        let append = self.append(group.clone(), records, then);
        CoordinatorResult {
            response: Ok(JoinAnswer::MemberIdRequired(member_id)),
            appends: vec![append],
        }
    }

    /// Whether the join that was answered `Pending` has an answer.
    ///
    /// # Errors
    /// `UnknownMemberId` when the member was put out meanwhile.
    pub(crate) fn poll_join(&mut self, group: &str, member: &str, now: Now) -> Result<JoinAnswer> {
        match self.enter(group, now) {
            Some((group, _)) => group.take_join_answer(member),
            None => Err(unknown_member(group, member)),
        }
    }
}

/// `<client id>-<UUID>`, as Kafka's coordinator makes them.
pub(in crate::group) fn new_member_id(
    client_id: &str,
    random: &mut dyn FnMut() -> u64,
) -> Arc<str> {
    let bits = (u128::from(random()) << 64) | u128::from(random());
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!(
        "{client_id}-{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
    .into()
}

fn inconsistent(group: &str) -> crate::error::Error {
    let why = "no assignor of partition.assignment.strategy is supported by every member";
    refusal(ErrorKind::InconsistentGroupProtocol, group, why)
}

impl ClassicGroup {
    fn join(
        &mut self,
        request: &JoinRequest,
        random: &mut dyn FnMut() -> u64,
        context: &mut Context<'_>,
    ) -> Result<JoinAnswer> {
        let id = &request.member_id;
        if !self.has_room(id, context.config.max_size) {
            self.drop_pending(id, context);
            self.remove_member(id, Some(RemovalReason::GroupFull), context);
            self.complete_join_if_all_came(context);
            let why = format!("it has group.max.size = {} members", context.config.max_size);
            return Err(refusal(ErrorKind::GroupMaxSizeReached, &self.id, &why));
        }
        if !self.supports(request) {
            return Err(inconsistent(&self.id));
        }
        if id.is_empty() {
            let id = new_member_id(&request.client_id, random);
            let deadline = context.now.mono.saturating_add(request.session_timeout);
            let due = Due::Pending(id.clone());
            let timer = context.timers.insert(deadline, Timer { group: self.id.clone(), due });
            self.pending.insert(id.clone(), PendingMember { timer: Some(timer) });
            return Ok(JoinAnswer::MemberIdRequired(id));
        }
        if self.pending.contains_key(id) {
            self.drop_pending(id, context);
            self.add_member(request, context);
            self.rebalance_or_complete(context);
            return self.take_join_answer(id);
        }
        self.validate_member(id, request.group_instance_id.as_deref())?;
        let same = self.members.get(id).is_some_and(|m| m.protocols == request.protocols);
        let leads = self.leader_id.as_ref() == Some(id);
        match self.state {
            GroupState::CompletingRebalance if same => {
                self.poll_came(id, request.rebalance_timeout, context);
                Ok(JoinAnswer::Joined(self.joined(id)))
            }
            GroupState::Stable if same && !leads => {
                self.poll_came(id, request.rebalance_timeout, context);
                Ok(JoinAnswer::Joined(self.joined(id)))
            }
            GroupState::Empty | GroupState::Dead => Err(unknown_member(&self.id, id)),
            _ => {
                self.update_member(request, context);
                self.rebalance_or_complete(context);
                self.take_join_answer(id)
            }
        }
    }

    fn poll_came(&mut self, id: &str, rebalance_timeout: Duration, context: &mut Context<'_>) {
        let now = context.now.mono;
        if let Some(member) = self.members.get_mut(id) {
            member.join_answer = None;
            member.heartbeats = Heartbeats::Live { until: now.saturating_add(rebalance_timeout) };
            member.renewed_at = member.renewed_at.max(now);
        }
        self.arm(id, context);
    }

    /// Whether a member of this id may join: those that are in may, and new ones while there is
    /// room among the members, or among those that have joined while a rebalance is prepared.
    fn has_room(&self, id: &str, max_size: usize) -> bool {
        let member = self.members.get(id);
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                member.is_some_and(|m| m.awaiting == Awaiting::Join)
                    || self.awaiting_join < max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                member.is_some() || self.members.len() < max_size
            }
        }
    }

    /// Whether the request's type is the group's and one of its protocols is every member's.
    fn supports(&self, request: &JoinRequest) -> bool {
        if self.state == GroupState::Empty {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request.protocols.iter().any(|p| self.is_candidate(&p.name))
    }

    pub(super) fn is_candidate(&self, protocol: &str) -> bool {
        self.supported.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    fn add_member(&mut self, request: &JoinRequest, context: &mut Context<'_>) {
        let id = request.member_id.clone();
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if self.leader_id.is_none() {
            self.leader_id = Some(id.clone());
        }
        if let Some(initial) = &mut self.initial {
            initial.prolonged = true;
        }
        let now = context.now.mono;
        for protocol in &request.protocols {
            *self.supported.entry(protocol.name.clone()).or_default() += 1;
        }
        if let Some(instance) = &request.group_instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.awaiting_join += 1;
        self.members.insert(
            id.clone(),
            Member {
                group_instance_id: request.group_instance_id.clone(),
                client_id: request.client_id.clone(),
                client_host: request.client_host.clone(),
                session_timeout: request.session_timeout,
                rebalance_timeout: request.rebalance_timeout,
                protocols: request.protocols.clone(),
                assignment: no_bytes(),
                awaiting: Awaiting::Join,
                join_answer: None,
                sync_answer: None,
                is_new: true,
                heartbeats: Heartbeats::Live {
                    until: now.saturating_add(request.rebalance_timeout),
                },
                renewed_at: now,
                timer: None,
            },
        );
        let client_id = request.client_id.clone();
        context.events.push(&self.id, GroupEventKind::Joined { client_id });
        self.arm(&id, context);
    }

    fn update_member(&mut self, request: &JoinRequest, context: &mut Context<'_>) {
        let Some(member) = self.members.get_mut(&request.member_id) else { return };
        if member.protocols != request.protocols {
            count_protocols(&mut self.supported, member, -1);
            member.protocols = request.protocols.clone();
            count_protocols(&mut self.supported, member, 1);
        }
        member.session_timeout = request.session_timeout;
        member.rebalance_timeout = request.rebalance_timeout;
        if member.awaiting != Awaiting::Join {
            member.awaiting = Awaiting::Join;
            self.awaiting_join += 1;
        }
        member.sync_answer = None;
        let id = request.member_id.clone();
        self.poll_came(&id, request.rebalance_timeout, context);
    }

    /// The answer to a join in the present generation.
    pub(super) fn joined(&self, id: &Arc<str>) -> Joined {
        let leader_id = self.leader_id.clone().unwrap_or_default();
        let protocol = self.protocol.clone().unwrap_or_default();
        let mut members = Vec::new();
        if leader_id == *id && self.state == GroupState::CompletingRebalance {
            members = self
                .members
                .iter()
                .map(|(id, member)| JoinedMember {
                    member_id: id.clone(),
                    group_instance_id: member.group_instance_id.clone(),
                    metadata: member.metadata(&protocol).cloned().unwrap_or_else(no_bytes),
                })
                .collect();
        }
        Joined {
            generation_id: self.generation_id,
            member_id: id.clone(),
            leader_id,
            protocol,
            members,
        }
    }

    fn take_join_answer(&mut self, id: &str) -> Result<JoinAnswer> {
        let Some(member) = self.members.get_mut(id) else {
            return Err(unknown_member(&self.id, id));
        };
        if member.awaiting == Awaiting::Join {
            return Ok(JoinAnswer::Pending);
        }
        match member.join_answer.take() {
            Some(answer) => answer.map(JoinAnswer::Joined),
            None => Err(rebalancing(&self.id)),
        }
    }
}

pub(in crate::group) fn count_protocols(
    supported: &mut BTreeMap<Arc<str>, usize>,
    member: &Member,
    by: isize,
) {
    for protocol in &member.protocols {
        let count = supported.entry(protocol.name.clone()).or_default();
        *count = count.saturating_add_signed(by);
    }
}
