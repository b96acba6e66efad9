//! `range`: each topic by itself, in contiguous runs over its subscribers.

use super::{Assignor, MemberSubscription, TopicCounts, assignments, subscribers};
use crate::group::protocol::Assignment;
use crate::topic::TopicPartition;

/// With n partitions and k subscribers, the first n mod k get one more than n div k. Topics with
/// equally many partitions and the same subscribers are thus cut at the same numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct RangeAssignor;

impl Assignor for RangeAssignor {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(&self, topics: &TopicCounts, members: &[MemberSubscription]) -> Vec<Assignment> {
        let mut shares = vec![Vec::new(); members.len()];
        for (topic, partitions, subscribers) in subscribers(topics, members) {
            let count = i32::try_from(subscribers.len()).unwrap_or(i32::MAX).max(1);
            let (least, one_more) = (partitions / count, partitions % count);
            let mut next = 0;
            // With fewer partitions than subscribers those beyond get none.
            for (place, &member) in (0..count.min(partitions)).zip(&subscribers) {
                let end = next + least + i32::from(place < one_more);
                if let Some(share) = shares.get_mut(member) {
                    share.extend((next..end).map(|p| TopicPartition::new(topic.clone(), p)));
                }
                next = end;
            }
        }
        assignments(shares)
    }
}
