//! What a consumer knows of its membership, and the one exchange that a turn makes.
//!
//! ```text
//!            join          all joined         sync answered
//! Unjoined ------> Preparing ------> Completing ------> Stable
//!    ^                 ^                                  |
//!    |                 +------- rebalance, rejoin --------+
//!    +------- put out: session, poll interval, administrator (from any state)
//! ```
//! The states are those of Kafka's client. While `Stable` the generation may commit, also when
//! the coordinator is rebalancing already; the rejoin is what ends that.

mod exchange;

use crate::broker::Groups;
use crate::consumer::env::ConsumerEnv;
use crate::consumer::offsets::GroupMetadata;
use crate::error::{Error, ErrorKind, Result};
use crate::group::assignor::Assignors;
use crate::group::{JoinAnswer, Joined, LeavingMember, MemberRef, SyncAnswer};
use crate::sync::Arc;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What every consumer calls the protocol of its group.
const PROTOCOL_TYPE: &str = "consumer";

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberState {
    Unjoined,
    Preparing,
    Completing,
    Stable,
}

/// What the coordinator gave.
#[derive(Debug, Clone)]
struct Generation {
    /// -1 for none.
    pub id: i32,
    /// Empty for none.
    pub member_id: Arc<str>,
}

impl Generation {
    fn none() -> Generation {
        Generation { id: -1, member_id: "".into() }
    }

    /// The member was never in the group, or was put out.
    pub fn is_lost(&self) -> bool {
        self.id < 0 || self.member_id.is_empty()
    }
}

/// How far a rejoin has come, between two turns.
#[derive(Debug, Clone)]
enum Rejoin {
    /// JoinGroup is to be sent.
    Idle,
    /// JoinGroup was sent; others are waited for.
    Joining,
    /// SyncGroup is to be sent.
    Joined(Joined),
    /// SyncGroup was sent; the leader is waited for.
    Syncing,
    /// The assignment is here, and the listener was not told, or failed.
    Assigned(Arc<[u8]>),
}

/// The outcome of one exchange with the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::consumer) enum ExchangeOutcome {
    /// Others have to move first.
    Waiting,
    /// An exchange was made; there is more to do.
    Moved,
    /// The generation is complete, with this share.
    Assigned(Arc<[u8]>),
}

/// The membership of one consumer.
#[derive(Debug)]
pub(in crate::consumer) struct Membership {
    group_id: Option<Arc<str>>,
    assignors: Assignors,
    state: MemberState,
    generation: Generation,
    /// Of the last completed rebalance.
    known_as: Generation,
    rejoin: Rejoin,
    rejoin_needed: bool,
    /// The listener is to be told before the next join.
    prepare_needed: bool,
    /// The topics that the last join named.
    joined_topics: Option<BTreeSet<Arc<str>>>,
    /// The version of the subscription that is known to name the same topics.
    compared_topics: Option<u64>,
    /// For a leader: what it assigned from.
    shape: Option<GroupShape>,
    leading: bool,
    /// A call has found the coordinator. Nothing has to be found here, but in Kafka a wakeup
    /// interrupts the first commit before it is made, a later one while it is under way.
    coordinator_known: bool,
    /// The coordinator rings the consumer's signal.
    signal_known: bool,
}

/// The topics of a group and their partition counts, as the leader saw them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct GroupShape {
    pub topics: BTreeMap<Arc<str>, i32>,
    /// The version of the metadata that the counts are from.
    pub version: u64,
}

impl Membership {
    /// `group_id` may be empty: everything that needs a group is refused then.
    pub fn new(group_id: Option<Arc<str>>, assignors: Assignors) -> Membership {
        Membership {
            group_id: group_id.filter(|id| !id.is_empty()),
            assignors,
            state: MemberState::Unjoined,
            generation: Generation::none(),
            known_as: Generation::none(),
            rejoin: Rejoin::Idle,
            rejoin_needed: true,
            prepare_needed: true,
            joined_topics: None,
            compared_topics: None,
            shape: None,
            leading: false,
            coordinator_known: false,
            signal_known: false,
        }
    }

    /// Whether a call has found the coordinator.
    pub fn knows_coordinator(&self) -> bool {
        self.coordinator_known
    }

    pub fn know_coordinator(&mut self) {
        self.coordinator_known = true;
    }

    /// Whether the assignors agree on how partitions change hands.
    pub fn has_protocol(&self) -> bool {
        self.assignors.protocol().is_some()
    }

    /// Whether the listener is to be told before the next join, which it is not a second time.
    pub fn take_prepare(&mut self) -> bool {
        std::mem::take(&mut self.prepare_needed)
    }

    /// Whether the member was never in the group, or was put out.
    pub fn is_lost(&self) -> bool {
        self.generation.is_lost()
    }

    /// The rebalance is over, or begins anew.
    pub fn end_rejoin(&mut self) {
        self.rejoin = Rejoin::Idle;
        self.prepare_needed = true;
    }

    pub fn metadata(&self, group_id: Arc<str>) -> GroupMetadata {
        let Generation { id, member_id } = self.known_as.clone();
        GroupMetadata::new(group_id).as_member(member_id, id)
    }

    pub fn request_rejoin(&mut self) {
        self.rejoin_needed = true;
    }

    /// A join is needed or under way.
    pub fn is_rejoining(&self) -> bool {
        self.rejoin_needed || !matches!(self.rejoin, Rejoin::Idle)
    }

    /// A join or a sync is under way: commits are refused, and leaving loses the partitions.
    pub fn is_rebalancing(&self) -> bool {
        matches!(self.state, MemberState::Preparing | MemberState::Completing)
    }

    /// The coordinator has this member on one of its lists.
    pub fn has_joined(&self) -> bool {
        self.state != MemberState::Unjoined && !self.generation.member_id.is_empty()
    }

    /// Forgets the generation: the partitions are lost at the next turn.
    pub fn reset_generation(&mut self, keep_member_id: bool) {
        self.state = MemberState::Unjoined;
        self.rejoin = Rejoin::Idle;
        self.generation = match keep_member_id {
            true => Generation { id: -1, member_id: self.generation.member_id.clone() },
            false => Generation::none(),
        };
        self.rejoin_needed = true;
        self.prepare_needed = true;
    }

    /// Takes the end of a rebalance as the identity to show.
    pub fn settle(&mut self) {
        self.known_as = self.generation.clone();
        if !self.leading {
            // Only the leader watches the topics of the whole group.
            self.shape = None;
        }
    }

    /// Whether the member's state lets it commit; the error if not.
    ///
    /// # Errors
    /// [`ErrorKind::RebalanceInProgress`], [`ErrorKind::CommitFailed`].
    pub fn check_may_commit(&self) -> Result<()> {
        match self.state {
            MemberState::Stable => Ok(()),
            MemberState::Preparing | MemberState::Completing => Err(Error::new(
                ErrorKind::RebalanceInProgress,
                "the group is rebalancing; poll until that is over, then commit again",
            )),
            MemberState::Unjoined => Err(commit_failed()),
        }
    }

    pub fn reference(&self) -> Option<MemberRef> {
        Some(MemberRef {
            group_id: self.group_id.clone()?,
            member_id: self.generation.member_id.clone(),
            group_instance_id: None,
            generation_id: self.generation.id,
        })
    }

    /// A commit from outside of any membership.
    pub fn outsider(&self) -> Option<MemberRef> {
        Some(MemberRef {
            group_id: self.group_id.clone()?,
            member_id: "".into(),
            group_instance_id: None,
            generation_id: -1,
        })
    }

    /// Asks whether the generation stands. With `poll_deadline` it is a sign of life until then.
    pub fn heartbeat(&mut self, groups: &Groups, poll_deadline: Option<Duration>) -> Result<()> {
        let Some(reference) = self.reference().filter(|_| self.has_joined()) else {
            return Ok(());
        };
        if self.state != MemberState::Stable {
            if let Some(deadline) = poll_deadline {
                groups.touch(&reference.group_id, &reference.member_id, deadline);
            }
            return Ok(());
        }
        let Err(error) = groups.heartbeat(&reference, poll_deadline) else { return Ok(()) };
        match error.kind() {
            ErrorKind::RebalanceInProgress => self.request_rejoin(),
            ErrorKind::UnknownMemberId => self.reset_generation(false),
            ErrorKind::IllegalGeneration => self.reset_generation(true),
            _ => return Err(error),
        }
        Ok(())
    }

    /// Takes the answer to JoinGroup, or to the question for it; `first` if it was just sent.
    ///
    /// # Errors
    /// What the application has to hear of; the next turn joins anew.
    pub fn joined(&mut self, answer: Result<JoinAnswer>, first: bool) -> Result<ExchangeOutcome> {
        match answer {
            Ok(JoinAnswer::MemberIdRequired(member_id)) => {
                self.generation = Generation { id: -1, member_id };
                self.rejoin = Rejoin::Idle;
                Ok(ExchangeOutcome::Moved)
            }
            Ok(JoinAnswer::Pending) => {
                self.rejoin = Rejoin::Joining;
                Ok(if first { ExchangeOutcome::Moved } else { ExchangeOutcome::Waiting })
            }
            Ok(JoinAnswer::Joined(joined)) => {
                self.state = MemberState::Completing;
                self.leading = joined.is_leader();
                self.generation =
                    Generation { id: joined.generation_id, member_id: joined.member_id.clone() };
                self.rejoin = Rejoin::Joined(joined);
                Ok(ExchangeOutcome::Moved)
            }
            Err(error) => self.failed(error),
        }
    }

    /// Takes the answer to SyncGroup, or to the question for it; `first` if it was just sent.
    ///
    /// # Errors
    /// As [`Membership::joined`].
    pub fn synced(&mut self, answer: Result<SyncAnswer>, first: bool) -> Result<ExchangeOutcome> {
        match answer {
            Ok(SyncAnswer::Pending) => {
                self.rejoin = Rejoin::Syncing;
                Ok(if first { ExchangeOutcome::Moved } else { ExchangeOutcome::Waiting })
            }
            Ok(SyncAnswer::Assigned(share)) => {
                self.state = MemberState::Stable;
                self.rejoin_needed = false;
                self.rejoin = Rejoin::Assigned(share.clone());
                Ok(ExchangeOutcome::Assigned(share))
            }
            Err(error) => self.failed(error),
        }
    }

    fn failed(&mut self, error: Error) -> Result<ExchangeOutcome> {
        self.rejoin = Rejoin::Idle;
        self.rejoin_needed = true;
        match error.kind() {
            ErrorKind::UnknownMemberId => self.reset_generation(false),
            ErrorKind::IllegalGeneration => self.reset_generation(true),
            ErrorKind::RebalanceInProgress | ErrorKind::MemberIdRequired => {}
            _ => {
                self.state = MemberState::Unjoined;
                return Err(error);
            }
        }
        Ok(ExchangeOutcome::Moved)
    }

    /// Leaves the group, if it is in one.
    pub fn leave(&mut self, env: &ConsumerEnv) {
        let Ok(groups) = env.broker.groups() else { return };
        if let Some(reference) = self.reference().filter(|_| self.has_joined()) {
            let leaving =
                LeavingMember { member_id: reference.member_id.clone(), group_instance_id: None };
            // Whoever is not in the group any more has nothing to leave, and a record that could
            // not be stored is owed by the coordinator.
            drop(groups.leave(&reference.group_id, &[leaving]));
        }
        self.reset_generation(false);
        self.joined_topics = None;
        self.shape = None;
        self.forget_signal(env, groups);
    }

    /// A poll that waits until `until` is polling all the while: its interval begins when it ends.
    /// One that ends earlier takes another turn, which says so.
    pub fn stay_alive(&self, env: &ConsumerEnv, until: Duration) {
        let interval = env.settings.max_poll_interval;
        if !self.has_joined() {
            return;
        }
        if let (Ok(groups), Some(member)) = (env.broker.groups(), self.reference()) {
            let deadline = until.saturating_add(interval);
            groups.touch(&member.group_id, &member.member_id, deadline);
        }
    }

    /// Stops counting as alive without leaving.
    pub fn stop_heartbeats(&mut self, env: &ConsumerEnv) {
        let Ok(groups) = env.broker.groups() else { return };
        if let Some(member) = self.reference().filter(|_| self.has_joined()) {
            groups.stop_beating(&member.group_id, &member.member_id);
        }
        self.forget_signal(env, groups);
    }
}

/// What a member that is out of its group is told.
pub(in crate::consumer) fn commit_failed() -> Error {
    Error::new(
        ErrorKind::CommitFailed,
        "this member is not in the group any more, its partitions may belong to others; poll more \
         often, or raise max.poll.interval.ms",
    )
}
