//! Who is in a group: validation, removal, LeaveGroup.

use super::join::count_protocols;
use super::{Awaiting, ClassicGroup, GroupState};
use crate::error::{ErrorKind, Result};
use crate::events::RemovalReason;
#[cfg(test)]
use crate::group::Group;
use crate::group::coordinator::{
    Context, GroupCoordinator, check_group_id, refusal, unknown_member,
};
use crate::group::events::GroupEventKind;
use crate::group::request::{LeavingMember, MemberRef};
use crate::group::result::CoordinatorResult;
use crate::time::Now;
use std::sync::Arc;

impl GroupCoordinator {
    /// LeaveGroup: each member is removed at once, with one outcome each. A member that is named
    /// by its instance id alone is removed by an administrator.
    ///
    /// The outcomes hold also when an append of the step fails.
    ///
    /// # Errors
    /// `InvalidGroupId` as a whole; per member `UnknownMemberId` and `FencedInstanceId`.
    pub(crate) fn leave(
        &mut self,
        group: &str,
        leaving: &[LeavingMember],
        now: Now,
    ) -> CoordinatorResult<Result<Vec<Result<()>>>> {
        if let Err(error) = check_group_id(group) {
            return CoordinatorResult::done(Err(error));
        }
        let outcomes = leaving.iter().map(|member| match self.enter(group, now) {
            Some((group, mut context)) => group.leave(member, &mut context),
            None => Err(unknown_member(group, &member.member_id)),
        });
        let outcomes = outcomes.collect();
        self.step(Ok(outcomes))
    }

    /// The ids of a group's members.
    #[cfg(test)]
    pub(crate) fn member_ids(&self, group: &str) -> Vec<Arc<str>> {
        let classic = self.groups.get(group).and_then(Group::classic);
        classic.map(|classic| classic.members.keys().cloned().collect()).unwrap_or_default()
    }
}

impl ClassicGroup {
    /// The checks that all requests of a member share, in Kafka's order.
    pub(in crate::group) fn validate_member(&self, id: &str, instance: Option<&str>) -> Result<()> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(unknown_member(&self.id, instance)),
                Some(current) if **current != *id => {
                    let why = format!("another member has taken over group.instance.id {instance}");
                    return Err(refusal(ErrorKind::FencedInstanceId, &self.id, &why));
                }
                Some(_) => {}
            }
        }
        if !self.members.contains_key(id) {
            return Err(unknown_member(&self.id, id));
        }
        Ok(())
    }

    pub(in crate::group) fn validate_generation(&self, member: &MemberRef) -> Result<()> {
        self.validate_member(&member.member_id, member.group_instance_id.as_deref())?;
        if member.generation_id != self.generation_id {
            let why = format!(
                "generation {} is not the present one, {}; join again",
                member.generation_id, self.generation_id
            );
            return Err(refusal(ErrorKind::IllegalGeneration, &self.id, &why));
        }
        Ok(())
    }

    fn leave(&mut self, leaving: &LeavingMember, context: &mut Context<'_>) -> Result<()> {
        let mut id = leaving.member_id.clone();
        if id.is_empty() {
            let instance = leaving.group_instance_id.as_deref().unwrap_or_default();
            let current = self.instances.get(instance).cloned();
            id = current.ok_or_else(|| unknown_member(&self.id, instance))?;
        }
        if self.drop_pending(&id, context) {
            self.complete_join_if_all_came(context);
            return Ok(());
        }
        self.validate_member(&id, leaving.group_instance_id.as_deref())?;
        self.remove_member(&id, None, context);
        self.rebalance_or_complete(context);
        Ok(())
    }

    /// Takes an id that has not joined off the list; false when it was not on it.
    pub(in crate::group) fn drop_pending(&mut self, id: &str, context: &mut Context<'_>) -> bool {
        let Some(pending) = self.pending.remove(id) else { return false };
        if let Some(timer) = pending.timer {
            context.timers.cancel(timer);
        }
        true
    }

    /// Removes a member, which left by itself where there is no reason. The caller moves the group
    /// on.
    pub(in crate::group) fn remove_member(
        &mut self,
        id: &Arc<str>,
        why: Option<RemovalReason>,
        context: &mut Context<'_>,
    ) {
        let Some(member) = self.members.remove(id) else { return };
        let client_id = member.client_id.clone();
        context.events.push(&self.id, GroupEventKind::Removed { client_id, why });
        if let Some(timer) = member.timer {
            context.timers.cancel(timer);
        }
        count_protocols(&mut self.supported, &member, -1);
        self.supported.retain(|_, count| *count > 0);
        if let Some(instance) = &member.group_instance_id {
            self.instances.remove(instance);
        }
        if member.awaiting == Awaiting::Join {
            self.awaiting_join -= 1;
        }
        self.unsynced.remove(id);
        if self.leader_id.as_ref() == Some(id) {
            self.leader_id = self.members.keys().next().cloned();
        }
        context.moved.insert(self.id.clone());
    }

    /// Whether a member request can be served at all in this state.
    pub(in crate::group) fn has_generation(&self) -> bool {
        !matches!(self.state, GroupState::Empty | GroupState::Dead)
    }
}
