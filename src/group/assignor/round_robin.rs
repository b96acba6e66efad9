//! `roundrobin`: the partitions of all topics, dealt in one circle.

use super::{Assignor, MemberSubscription, TopicCounts, assignments, dealing_order, subscribers};
use crate::group::protocol::Assignment;
use crate::topic::TopicPartition;

/// One cursor goes round the members for all topics in the order of their names; members that do
/// not subscribe to a partition's topic are passed over.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoundRobinAssignor;

impl Assignor for RoundRobinAssignor {
    fn name(&self) -> &str {
        "roundrobin"
    }

    fn assign(&self, topics: &TopicCounts, members: &[MemberSubscription]) -> Vec<Assignment> {
        let mut shares = vec![Vec::new(); members.len()];
        // Where each member sits in the circle.
        let mut seat = vec![0; members.len()];
        for (place, member) in dealing_order(members).into_iter().enumerate() {
            if let Some(seat) = seat.get_mut(member) {
                *seat = place;
            }
        }
        let seat = |member: &usize| seat.get(*member).copied().unwrap_or(0);
        let mut cursor = 0;
        for (topic, partitions, subscribers) in subscribers(topics, members) {
            // Subscribers are in the order of their seats: the first at or behind the cursor is
            // found once per topic, after that each next one is simply the next.
            let first = subscribers.partition_point(|member| seat(member) < cursor);
            let circle = subscribers.iter().cycle().skip(first);
            for (partition, &member) in (0..partitions).zip(circle) {
                if let Some(share) = shares.get_mut(member) {
                    share.push(TopicPartition::new(topic.clone(), partition));
                }
                cursor = seat(&member) + 1;
            }
            if cursor == members.len() {
                cursor = 0;
            }
        }
        assignments(shares)
    }
}
