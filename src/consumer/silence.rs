//! What is told once because it would otherwise look like silence: a poll returns nothing, and
//! nothing is wrong. Each text is a warning of the `tracing` facade and of
//! [`Broker::health`](crate::Broker::health), and no text twice, whoever would tell it.
//!
//! The moments are rare: the metadata or the assignment changed, a position was looked up.

use super::env::ConsumerEnv;
use super::subscription::{Mode, Position, ResetTo, SubscriptionState};
use crate::error::ErrorKind;
use crate::topic::TopicPartition;

/// Topics and partitions that are read and do not exist.
pub(super) fn tell_of_missing(env: &ConsumerEnv, subscription: &SubscriptionState) {
    for topic in subscription.topics() {
        let found = env.broker.topic(topic);
        if found.is_err_and(|error| error.kind() == ErrorKind::UnknownTopicOrPartition) {
            env.broker.warn_once(format!(
                "{} is subscribed to the topic {topic:?}, which does not exist: nothing is \
                 read of it until it is made",
                env.reader_name()
            ));
        }
    }
    if subscription.mode() != Mode::Partitions {
        return;
    }
    for (partition, state) in subscription.states() {
        // What is wrong with a name that no topic can have is an error of the poll.
        if state.source.is_none() && crate::topic::check_topic_name(partition.topic()).is_ok() {
            env.broker.warn_once(format!(
                "{} was assigned {partition}, which does not exist: nothing is read of it \
                 until it is made",
                env.reader_name()
            ));
        }
    }
}

/// A share of nothing, although there are partitions.
pub(super) fn tell_of_share(env: &ConsumerEnv, subscription: &SubscriptionState) {
    if subscription.partitions().next().is_some() {
        return;
    }
    let topics = subscription.topics();
    let there: Vec<&str> =
        topics.iter().map(|topic| &**topic).filter(|t| env.broker.topic(t).is_ok()).collect();
    if !there.is_empty() {
        env.broker.warn_once(format!(
            "{} has more members than its topics have partitions ({}): a member without any \
             reads nothing until another one leaves",
            env.reader_name(),
            there.join(", ")
        ));
    }
}

/// Records before the end, where reading begins there because nobody chose a policy.
pub(super) fn tell_of_passed_over(
    env: &ConsumerEnv,
    subscription: &SubscriptionState,
    begun: &[TopicPartition],
) {
    if ResetTo::policy(env.settings.offset_reset) != Some(ResetTo::End) {
        return;
    }
    for partition in begun {
        let Ok(state) = subscription.assigned(partition) else { continue };
        let (Position::At(position), Some(source)) = (state.position, &state.source) else {
            continue;
        };
        if source.partition.log_start_offset().is_ok_and(|start| start < position) {
            env.broker.warn_once(format!(
                "{} begins at the end of {:?}, as auto.offset.reset is not set and latest is \
                 its default: the records that are there are not read; earliest reads them",
                env.reader_name(),
                partition.topic()
            ));
        }
    }
}

/// A position that the log does not have, and where reading goes on instead.
pub(super) fn tell_of_reset(env: &ConsumerEnv, partition: &TopicPartition) {
    env.broker.warn_once(format!(
        "{} had a position in {partition} that the log does not have any more, or not yet: \
         auto.offset.reset decided where it reads on",
        env.reader_name()
    ));
}
