//! Who gets which partition: the assignors `range` and `roundrobin`, exactly as Kafka's.
//!
//! An assignor runs on the leader of a group, is given every member's subscription and the
//! topics that exist, and answers with one assignment per member. Racks are not looked at: a
//! broker inside one process has none.

mod range;
mod round_robin;

use super::protocol::{Assignment, Subscription};
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

/// A way to distribute partitions over members.
pub(crate) trait Assignor: Debug + Send + Sync {
    /// The name in the group protocol.
    fn name(&self) -> &'static str;

    /// One assignment per member, in the order of `members`. Every partition of a topic that
    /// exists and that somebody subscribes to goes to exactly one of its subscribers.
    fn assign(&self, topics: &TopicCounts, members: &[MemberSubscription]) -> Vec<Assignment>;
}

static BUILT_IN: [&dyn Assignor; 2] = [&range::RangeAssignor, &round_robin::RoundRobinAssignor];

/// The assignor of that name; `None` for one that is not built in.
pub(crate) fn assignor_by_name(name: &str) -> Option<&'static dyn Assignor> {
    BUILT_IN.iter().copied().find(|assignor| assignor.name() == name)
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
