//! What a member and its coordinator say to each other in one turn, and how a leader assigns. The
//! order of steps is that of Kafka's `ConsumerCoordinator`.

use super::{ExchangeOutcome, GroupShape, MemberState, Membership, PROTOCOL_TYPE, Rejoin};
use crate::broker::Groups;
use crate::consumer::env::ConsumerEnv;
use crate::consumer::subscription::SubscriptionState;
use crate::error::{Error, ErrorKind, Result};
use crate::group::assignor::MemberSubscription;
use crate::group::protocol::Subscription;
use crate::group::{JoinRequest, Joined, SyncRequest};
use crate::sync::Arc;
use std::collections::BTreeSet;
use std::time::Duration;

impl Membership {
    /// Whether topics or the subscription changed in a way that asks for a rebalance.
    pub fn notice_changes(&mut self, env: &ConsumerEnv, subscription: &SubscriptionState) {
        let topics_version = subscription.topics_version();
        if self.compared_topics != Some(topics_version) {
            let topics = subscription.topics();
            if self.joined_topics.as_ref().is_some_and(|joined| joined != topics) {
                self.request_rejoin();
            } else {
                self.compared_topics = Some(topics_version);
            }
        }
        let version = env.broker.metadata_version();
        if let Some(shape) = &self.shape
            && shape.version != version
        {
            let names: Vec<Arc<str>> = shape.topics.keys().cloned().collect();
            let current = shape_of(env, names, version);
            let Some(shape) = &mut self.shape else { return };
            if shape.topics == current.topics {
                shape.version = version;
            } else {
                self.request_rejoin();
            }
        }
    }

    /// Makes one exchange with the coordinator.
    ///
    /// # Errors
    /// As [`Membership::joined`].
    pub fn exchange(
        &mut self,
        env: &ConsumerEnv,
        subscription: &SubscriptionState,
    ) -> Result<ExchangeOutcome> {
        let groups = env.broker.groups()?;
        let Some(reference) = self.reference() else { return Ok(ExchangeOutcome::Waiting) };
        let (group, id) = (&reference.group_id, &reference.member_id);
        match std::mem::replace(&mut self.rejoin, Rejoin::Idle) {
            Rejoin::Idle => {
                let request = self.join_request(env, subscription, group.clone());
                self.joined_topics = Some(subscription.topics().clone());
                self.compared_topics = Some(subscription.topics_version());
                self.state = MemberState::Preparing;
                if !std::mem::replace(&mut self.signal_known, true) {
                    groups.watch(group, env.signal());
                }
                let answer = groups.join(&request);
                self.joined(answer, true)
            }
            Rejoin::Joining => {
                let answer = groups.poll_join(group, id);
                match self.joined(answer, false)? {
                    // The sync is what Kafka's client sends as soon as it has the answer.
                    ExchangeOutcome::Moved if matches!(self.rejoin, Rejoin::Joined(_)) => {
                        self.exchange(env, subscription)
                    }
                    step => Ok(step),
                }
            }
            Rejoin::Joined(joined) => {
                let assignments = match joined.is_leader() {
                    true => self.lead(env, &joined)?,
                    false => Vec::new(),
                };
                let answer = groups.sync(&SyncRequest {
                    member: reference,
                    protocol_type: Some(PROTOCOL_TYPE.into()),
                    protocol: Some(joined.protocol),
                    assignments,
                });
                self.synced(answer, true)
            }
            Rejoin::Syncing => {
                let answer = groups.poll_sync(group, id);
                self.synced(answer, false)
            }
            Rejoin::Assigned(share) => {
                self.rejoin = Rejoin::Assigned(share.clone());
                Ok(ExchangeOutcome::Assigned(share))
            }
        }
    }

    /// The leader's work: every member's share, encoded.
    #[allow(clippy::type_complexity)] // The shape of `SyncRequest::assignments`.
    fn lead(&mut self, env: &ConsumerEnv, joined: &Joined) -> Result<Vec<(Arc<str>, Arc<[u8]>)>> {
        let assignor = self.assignors.find(&joined.protocol).cloned().ok_or_else(|| {
            let message =
                format!("the group chose the assignor {}, which is not built", joined.protocol);
            Error::new(ErrorKind::InconsistentGroupProtocol, message)
        })?;
        let members: Vec<MemberSubscription> = joined
            .members
            .iter()
            .map(|member| MemberSubscription {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                // A member whose subscription is not readable wants nothing.
                subscription: Subscription::decode(&member.metadata).unwrap_or_default(),
            })
            .collect();
        // The version is read before the counts, so that a topic that grows in between is noticed
        // by the next turn.
        let version = env.broker.metadata_version();
        let names: BTreeSet<Arc<str>> =
            members.iter().flat_map(|member| member.subscription.topics.iter().cloned()).collect();
        let shape = shape_of(env, names, version);
        let shares = assignor.assign(&shape.topics, &members);
        self.shape = Some(shape);
        let ids = members.iter().map(|member| member.member_id.clone());
        Ok(ids.zip(shares).map(|(id, share)| (id, Arc::from(share.encode()))).collect())
    }

    fn join_request(
        &self,
        env: &ConsumerEnv,
        subscription: &SubscriptionState,
        group_id: Arc<str>,
    ) -> JoinRequest {
        let wanted = Subscription {
            topics: subscription.topics().iter().cloned().collect(),
            owned: subscription.partitions().cloned().collect(),
            generation_id: self.generation.id,
            ..Subscription::default()
        };
        JoinRequest {
            group_id,
            member_id: self.generation.member_id.clone(),
            group_instance_id: None,
            client_id: env.client_id.clone(),
            client_host: "localhost".into(),
            session_timeout: Duration::from_millis(
                u64::try_from(env.settings.session_timeout_ms).unwrap_or(0),
            ),
            rebalance_timeout: env.settings.max_poll_interval,
            protocol_type: PROTOCOL_TYPE.into(),
            protocols: self.assignors.offers(&wanted),
        }
    }

    /// The coordinator does not ring the consumer's signal any more.
    pub fn forget_signal(&mut self, env: &ConsumerEnv, groups: &Groups) {
        if std::mem::take(&mut self.signal_known)
            && let Some(group) = &self.group_id
        {
            groups.unwatch(group, env.signal());
        }
    }
}

/// The partition counts of these topics; 0 for those that do not exist.
fn shape_of(
    env: &ConsumerEnv,
    names: impl IntoIterator<Item = Arc<str>>,
    version: u64,
) -> GroupShape {
    let count = |name: &str| env.broker.topic(name).map_or(0, |topic| topic.partition_count());
    let topics = names.into_iter().map(|name| (name.clone(), count(&name))).collect();
    GroupShape { topics, version }
}
