//! From the first member that joins to the next generation: the wait for all members, the leader,
//! the vote.

use super::{Awaiting, ClassicGroup, GroupState, InitialDelay, Member, no_bytes};
use crate::coordinator::hash::java_map_places;
use crate::events::RemovalReason;
use crate::group::coordinator::{Context, rebalancing};
use crate::group::events::GroupEventKind;
use crate::group::records::protocol::Subscription;
use crate::time::Now;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

impl ClassicGroup {
    pub(in crate::group) fn rebalance_or_complete(&mut self, context: &mut Context<'_>) {
        if self.state.can_become(GroupState::PreparingRebalance) {
            self.prepare_rebalance(context);
        } else {
            self.complete_join_if_all_came(context);
        }
    }

    pub(in crate::group) fn prepare_rebalance(&mut self, context: &mut Context<'_>) {
        if self.state == GroupState::CompletingRebalance {
            for member in self.members.values_mut() {
                member.assignment = no_bytes();
                if member.awaiting == Awaiting::Sync {
                    member.awaiting = Awaiting::Nothing;
                    member.sync_answer = Some(Err(rebalancing(&self.id)));
                    member.renewed_at = member.renewed_at.max(context.now.mono);
                }
            }
            self.arm_all(context);
        }
        self.unsynced.clear();
        let was_empty = self.state == GroupState::Empty;
        self.become_state(GroupState::PreparingRebalance, context.now.wall_ms);
        self.rebalance_began.get_or_insert(context.now.mono);
        context.events.push(&self.id, GroupEventKind::Rebalancing);
        context.moved.insert(self.id.clone());
        let now = context.now.mono;
        if !was_empty {
            let deadline = now.saturating_add(self.rebalance_timeout());
            self.set_phase_timer(context.timers, Some(deadline));
            self.complete_join_if_all_came(context);
            return;
        }
        let delay = context.config.initial_rebalance_delay;
        if delay.is_zero() {
            self.complete_join(context);
            return;
        }
        let remaining = self.rebalance_timeout().saturating_sub(delay);
        self.initial = Some(InitialDelay { delay, remaining, prolonged: false });
        self.set_phase_timer(context.timers, Some(now.saturating_add(delay)));
    }

    /// After a rebalance began with members, it ends as soon as all of them have joined.
    pub(in crate::group) fn complete_join_if_all_came(&mut self, context: &mut Context<'_>) {
        if self.state == GroupState::PreparingRebalance
            && self.initial.is_none()
            && self.awaiting_join == self.members.len()
            && self.pending.is_empty()
        {
            self.complete_join(context);
        }
    }

    pub(in crate::group) fn initial_delay_due(
        &mut self,
        initial: InitialDelay,
        context: &mut Context<'_>,
    ) {
        if !initial.prolonged || initial.remaining.is_zero() {
            self.complete_join(context);
            return;
        }
        let delay = context.config.initial_rebalance_delay.min(initial.remaining);
        let remaining = initial.remaining.saturating_sub(initial.delay);
        self.initial = Some(InitialDelay { delay, remaining, prolonged: false });
        let deadline = context.now.mono.saturating_add(delay);
        self.set_phase_timer(context.timers, Some(deadline));
    }

    /// Ends the join phase: dynamic members that did not come are gone, the generation rises.
    pub(in crate::group) fn complete_join(&mut self, context: &mut Context<'_>) {
        let absent: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(|(_, member)| member.awaiting != Awaiting::Join && !member.is_static())
            .map(|(id, _)| id.clone())
            .collect();
        for id in absent {
            self.remove_member(&id, Some(RemovalReason::DidNotRejoin), context);
        }
        let now = context.now;
        if !self.elect_leader() && !self.members.is_empty() {
            // Only static members are left and none came: the wait goes on, and nothing changes
            // before the first of their sessions ends.
            let again = now.mono.saturating_add(self.rebalance_timeout());
            let session = self.members.values().filter_map(Member::deadline).min();
            self.set_phase_timer(context.timers, Some(session.map_or(again, |at| at.max(again))));
            return;
        }
        self.initial = None;
        self.generation_id = self.generation_id.checked_add(1).unwrap_or(0);
        context.moved.insert(self.id.clone());
        if self.members.is_empty() {
            self.become_empty(now);
            self.set_phase_timer(context.timers, None);
            context.emptied.insert(self.id.clone());
            self.rebalance_began = None;
            context.events.push(&self.id, GroupEventKind::Emptied);
            return;
        }
        self.protocol = self.vote();
        self.subscribed = self.subscribed_topics();
        self.become_state(GroupState::CompletingRebalance, now.wall_ms);
        self.unsynced = self.members.keys().cloned().collect();
        let deadline = now.mono.saturating_add(self.rebalance_timeout());
        self.set_phase_timer(context.timers, Some(deadline));
        let (generation_id, members) = (self.generation_id, self.members.len());
        context.events.push(&self.id, GroupEventKind::GenerationBegan { generation_id, members });
        self.answer_joins(now.mono);
        self.arm_all(context);
    }

    /// Nobody is left; the generation was raised by the caller.
    pub(in crate::group) fn become_empty(&mut self, now: Now) {
        self.protocol = None;
        self.leader_id = None;
        self.subscribed = None;
        self.become_state(GroupState::Empty, now.wall_ms);
        self.owed = true;
    }

    fn answer_joins(&mut self, now: Duration) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            if member.awaiting == Awaiting::Join {
                member.awaiting = Awaiting::Nothing;
                member.join_answer = Some(Ok(joined));
                member.renewed_at = member.renewed_at.max(now);
                member.is_new = false;
            }
        }
        self.awaiting_join = 0;
    }

    /// Whether there is a leader among those that joined, electing one if need be.
    fn elect_leader(&mut self) -> bool {
        let came = |id: &Arc<str>| {
            self.members.get(id).is_some_and(|member| member.awaiting == Awaiting::Join)
        };
        if self.leader_id.as_ref().is_some_and(came) {
            return true;
        }
        let elected = self.members.keys().find(|id| came(id)).cloned();
        match elected {
            Some(id) => {
                self.leader_id = Some(id);
                true
            }
            None => false,
        }
    }

    /// Each member votes for the first of its protocols that all members support. Most votes
    /// win; among equals the first in the order of Java's `HashMap` over the names.
    fn vote(&self) -> Option<Arc<str>> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(choice) = member.protocols.iter().find(|p| self.is_candidate(&p.name)) {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        let names: Vec<&str> = votes.keys().map(|name| &***name).collect();
        let places = java_map_places(&names);
        let tied = votes.iter().zip(places).filter(|((_, count), _)| **count == most);
        tied.min_by_key(|(_, place)| *place).map(|((name, _), _)| (*name).clone())
    }

    /// The topics of all members under the chosen protocol; `None` when one cannot be read.
    pub(in crate::group) fn subscribed_topics(&self) -> Option<BTreeSet<Arc<str>>> {
        let protocol = self.protocol.as_deref()?;
        if self.protocol_type.as_deref() != Some("consumer") || self.members.is_empty() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(Subscription::decode_topics(member.metadata(protocol)?).ok()?);
        }
        Some(topics)
    }
}
