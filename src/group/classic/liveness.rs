//! Liveness without threads: until when each member counts as alive, and what happens then.
//!
//! A live handle counts as beating until its last poll plus `max.poll.interval.ms`; a killed one
//! falls silent at once and leaves `session.timeout.ms` later. A timer that was set stays when
//! the deadline moves back; it sets itself anew when it fires too early.

use super::{ClassicGroup, GroupState, Heartbeats};
use crate::events::RemovalReason;
use crate::group::coordinator::{Context, Due, GroupCoordinator, Timer};
use crate::time::Now;
use std::sync::Arc;
use std::time::Duration;

impl GroupCoordinator {
    /// A poll of the member's handle: it counts as live until `poll_deadline`, which is the poll
    /// plus `max.poll.interval.ms` on the monotonic scale. Unknown members are ignored.
    pub(crate) fn touch(&mut self, group: &str, member: &str, poll_deadline: Duration, now: Now) {
        if let Some((group, mut context)) = self.enter(group, now) {
            group.renew(member, Some(poll_deadline), &mut context);
        }
    }

    /// The member's handle was killed: no heartbeat after `now`. An id that has not joined stays
    /// on the list for the session timeout it was given.
    pub(crate) fn stop_beating(&mut self, group: &str, member: &str, now: Now) {
        if let Some((group, mut context)) = self.enter(group, now) {
            if let Some(member) = group.members.get_mut(member) {
                member.heartbeats = Heartbeats::Stopped { at: now.mono };
            }
            group.arm(member, &mut context);
        }
    }
}

impl ClassicGroup {
    /// A sign of life.
    pub(in crate::group) fn renew(
        &mut self,
        id: &str,
        poll_deadline: Option<Duration>,
        context: &mut Context<'_>,
    ) {
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(until) = poll_deadline {
            member.heartbeats = Heartbeats::Live { until };
        }
        member.renewed_at = member.renewed_at.max(context.now.mono);
        self.arm(id, context);
    }

    /// Makes sure that a timer fires no later than the member's deadline.
    pub(in crate::group) fn arm(&mut self, id: &str, context: &mut Context<'_>) {
        let Some((id, member)) = self.members.get_key_value(id) else { return };
        let Some(deadline) = member.deadline() else { return };
        if member.timer.is_some_and(|timer| timer.deadline() <= deadline) {
            return;
        }
        let timer = Timer { group: self.id.clone(), due: Due::Member(id.clone()) };
        let id = id.clone();
        let key = context.timers.insert(deadline, timer);
        let Some(member) = self.members.get_mut(&id) else { return };
        if let Some(earlier) = member.timer.replace(key) {
            context.timers.cancel(earlier);
        }
    }

    pub(in crate::group) fn arm_all(&mut self, context: &mut Context<'_>) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            self.arm(&id, context);
        }
    }

    pub(in crate::group) fn member_due(&mut self, id: &Arc<str>, context: &mut Context<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.timer = None;
        if member.deadline().is_some_and(|deadline| deadline <= context.now.mono) {
            let why = member.overdue();
            self.remove_member(id, Some(why), context);
            self.rebalance_or_complete(context);
        } else {
            self.arm(id, context);
        }
    }

    pub(in crate::group) fn pending_due(&mut self, id: &str, context: &mut Context<'_>) {
        if self.pending.remove(id).is_some() {
            self.complete_join_if_all_came(context);
        }
    }

    pub(in crate::group) fn phase_due(&mut self, context: &mut Context<'_>) {
        self.phase_timer = None;
        match self.state {
            GroupState::PreparingRebalance => match self.initial {
                Some(initial) => self.initial_delay_due(initial, context),
                None => self.complete_join(context),
            },
            GroupState::CompletingRebalance | GroupState::Stable => {
                let silent = std::mem::take(&mut self.unsynced);
                if silent.is_empty() {
                    return;
                }
                for id in &silent {
                    self.remove_member(id, Some(RemovalReason::DidNotSync), context);
                }
                self.rebalance_or_complete(context);
            }
            GroupState::Empty | GroupState::Dead => {}
        }
    }
}
