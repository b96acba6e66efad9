//! Who gets which partition: the assignors `range` and `roundrobin`, exactly as Kafka's.
//!
//! An assignor runs on the leader of a group, is given every member's subscription and the
//! topics that exist, and answers with one assignment per member. Racks are not looked at: a
//! broker inside one process has none.

mod range;
mod round_robin;

use super::protocol::{Assignment, Subscription};
use super::request::Protocol;
use crate::topic::TopicPartition;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

/// A member as an assignor sees it.
#[derive(Debug, Clone)]
pub(crate) struct MemberSubscription {
    pub(crate) member_id: Arc<str>,
    pub(crate) group_instance_id: Option<Arc<str>>,
    pub(crate) subscription: Subscription,
}

/// The topics that exist and their numbers of partitions. Others are skipped.
pub(crate) type TopicCounts = BTreeMap<Arc<str>, i32>;

/// How partitions change hands in a rebalance (KIP-429).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RebalanceProtocol {
    /// Every member gives up everything before it joins.
    Eager,
    /// A member gives up what it has lost, and joins once more for it to be given on.
    #[cfg_attr(not(test), expect(dead_code, reason = "no built-in assignor supports it"))]
    Cooperative,
}

/// A way to distribute partitions over members.
pub(crate) trait Assignor: Debug + Send + Sync {
    /// The name in the group protocol.
    fn name(&self) -> &str;

    /// How partitions may change hands under it.
    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Eager]
    }

    /// One assignment per member, in the order of `members`. Every partition of a topic that
    /// exists and that somebody subscribes to goes to exactly one of its subscribers.
    fn assign(&self, topics: &TopicCounts, members: &[MemberSubscription]) -> Vec<Assignment>;
}

/// The assignor of that name; `None` for one that is not built in.
pub(crate) fn assignor_by_name(name: &str) -> Option<Arc<dyn Assignor>> {
    match name {
        "range" => Some(Arc::new(range::RangeAssignor)),
        "roundrobin" => Some(Arc::new(round_robin::RoundRobinAssignor)),
        _ => None,
    }
}

/// The assignors of one consumer, most preferred first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Assignors(Vec<Arc<dyn Assignor>>);

impl Assignors {
    /// The built-in ones of these names; others are left out.
    pub(crate) fn built_in(names: &[&str]) -> Assignors {
        names.iter().filter_map(|name| assignor_by_name(name)).collect()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<dyn Assignor>> {
        self.0.iter().find(|assignor| assignor.name() == name)
    }

    /// What a member tells of itself under each of them, for its JoinGroup.
    pub(crate) fn offers(&self, subscription: &Subscription) -> Vec<Protocol> {
        let metadata: Arc<[u8]> = subscription.encode().into();
        let offer = |assignor: &Arc<dyn Assignor>| Protocol {
            name: assignor.name().into(),
            metadata: metadata.clone(),
        };
        self.0.iter().map(offer).collect()
    }

    /// The highest protocol that all of them support, as the Java client chooses it; `None` where
    /// they have none in common.
    pub(crate) fn protocol(&self) -> Option<RebalanceProtocol> {
        let supported = |protocol: &&RebalanceProtocol| {
            self.0.iter().all(|assignor| assignor.protocols().contains(protocol))
        };
        self.0.first()?.protocols().iter().filter(supported).max().copied()
    }
}

impl FromIterator<Arc<dyn Assignor>> for Assignors {
    fn from_iter<I: IntoIterator<Item = Arc<dyn Assignor>>>(assignors: I) -> Assignors {
        Assignors(assignors.into_iter().collect())
    }
}

/// Java's order of strings, by UTF-16 units.
fn java_order(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

/// Indexes of `members` in the order that `range` and `roundrobin` deal in: static members by
/// instance id, then dynamic ones by member id.
fn dealing_order(members: &[MemberSubscription]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    let rank = |i: &usize| members.get(*i).map(|m| (m.group_instance_id.as_deref(), &*m.member_id));
    order.sort_by(|a, b| match (rank(a), rank(b)) {
        (Some((Some(a), _)), Some((Some(b), _))) => java_order(a, b),
        (Some((Some(_), _)), Some((None, _))) => Ordering::Less,
        (Some((None, _)), Some((Some(_), _))) => Ordering::Greater,
        (Some((None, a)), Some((None, b))) => java_order(a, b),
        _ => Ordering::Equal,
    });
    order
}

/// For each topic that exists and is subscribed to, in the order of names: its number of
/// partitions and the indexes of its subscribers in dealing order.
fn subscribers<'a>(
    topics: &'a TopicCounts,
    members: &[MemberSubscription],
) -> Vec<(&'a Arc<str>, i32, Vec<usize>)> {
    let mut out: Vec<(&Arc<str>, i32, Vec<usize>)> =
        topics.iter().map(|(topic, &count)| (topic, count, Vec::new())).collect();
    // Most groups subscribe alike, so what one member's topics are is kept for the next.
    let mut previous: Option<(&[Arc<str>], Vec<usize>)> = None;
    for index in dealing_order(members) {
        let Some(member) = members.get(index) else { continue };
        let names = &member.subscription.topics[..];
        let places = match previous.take() {
            Some((same, places)) if same == names => places,
            _ => names
                .iter()
                .filter_map(|name| out.binary_search_by(|(topic, ..)| (**topic).cmp(name)).ok())
                .collect(),
        };
        for &place in &places {
            if let Some((_, _, subscribed)) = out.get_mut(place)
                // A topic that a member names twice counts once.
                && subscribed.last() != Some(&index)
            {
                subscribed.push(index);
            }
        }
        previous = Some((names, places));
    }
    out.retain(|(_, count, subscribed)| *count > 0 && !subscribed.is_empty());
    out
}

/// Assignments out of lists of partitions.
fn assignments(shares: Vec<Vec<TopicPartition>>) -> Vec<Assignment> {
    shares.into_iter().map(|partitions| Assignment { partitions, user_data: None }).collect()
}

#[cfg(test)]
mod tests;
