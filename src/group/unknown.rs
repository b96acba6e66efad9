//! Commits for partitions that are not there.
//!
//! Kafka's broker looks for the partitions before it asks the group: those that it does not know
//! are told so ahead of the others, whatever the group thinks of who commits.

use super::request::{OffsetToCommit, PartitionOutcomes, TopicLookup, TopicShape};
use crate::error::{Error, ErrorKind, Result};
use crate::topic::TopicPartition;

/// The topic of a partition, where there is one.
///
/// # Errors
/// `UnknownTopicOrPartition`.
pub(super) fn existing(
    partition: &TopicPartition,
    shape: Option<TopicShape>,
) -> Result<TopicShape> {
    let why = match shape {
        None => "no such topic",
        Some(shape) if (0..shape.partitions).contains(&partition.partition()) => return Ok(shape),
        Some(_) => "the topic has no such partition",
    };
    Err(Error::new(ErrorKind::UnknownTopicOrPartition, why)
        .with_partition(partition.topic(), partition.partition()))
}

/// Whether a partition was refused because it is not there.
pub(super) fn is_of_unknown<T>(outcome: &Result<T>) -> bool {
    outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::UnknownTopicOrPartition)
}

/// What the commit of somebody who is no member comes to, which the group refuses with `error`:
/// that, or, beside partitions that are not there, one outcome each.
///
/// # Errors
/// `error`, where every partition is there.
pub(super) fn refused_beside(
    error: Error,
    offsets: &[OffsetToCommit],
    topics: TopicLookup<'_>,
) -> Result<PartitionOutcomes> {
    let outcome = |commit: &OffsetToCommit| {
        let partition = &commit.partition;
        (partition.clone(), existing(partition, topics(partition.topic())).map(drop))
    };
    let (unknown, known): (PartitionOutcomes, PartitionOutcomes) =
        offsets.iter().map(outcome).partition(|(_, outcome)| outcome.is_err());
    if unknown.is_empty() {
        return Err(error);
    }
    let refused = known.into_iter().map(|(partition, _)| (partition, Err(error.clone())));
    Ok(unknown.into_iter().chain(refused).collect())
}
