//! Complaining of names that no topic can have.

use super::env::ConsumerEnv;
use super::subscription::{Mode, SubscriptionState};
use crate::error::Result;
use crate::topic::check_topic_name;

/// What is known of the names that a consumer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// A topic can have each of them.
    Sound,
    /// There is one that no topic can have, and a call has failed with it.
    Told,
}

/// Who looks at the names, and tells of a bad one when Kafka's client does. That hears of them with
/// the metadata, which it asks for when the names change, and with every call as long as a topic or
/// a partition is missing; the call before may then have been told the same.
#[derive(Debug, Default)]
pub(super) struct NameCheck {
    /// The version of the names, and what is known of them.
    seen: Option<(u64, Names)>,
}

impl NameCheck {
    /// Whether the names were not looked at since they changed.
    pub fn is_due(&self, subscription: &SubscriptionState) -> bool {
        self.seen.is_none_or(|(seen, _)| seen != subscription.names_version())
    }

    /// Looks at the names.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidTopic`](crate::ErrorKind::InvalidTopic), where it is to be told.
    pub fn check(
        &mut self,
        env: &ConsumerEnv,
        subscription: &SubscriptionState,
        begins_call: bool,
    ) -> Result<()> {
        let version = subscription.names_version();
        if self.seen == Some((version, Names::Sound)) {
            return Ok(());
        }
        let topics = subscription.topics().iter().map(|topic| &**topic);
        let assigned = match subscription.mode() {
            Mode::Partitions => Some(subscription.partitions().map(|tp| tp.topic())),
            Mode::Topics | Mode::None => None,
        };
        let mut names = topics.chain(assigned.into_iter().flatten());
        let Err(fault) = names.try_for_each(check_topic_name) else {
            self.seen = Some((version, Names::Sound));
            return Ok(());
        };
        let is_told = self.seen == Some((version, Names::Told));
        if is_told && !(begins_call && lacks_a_topic(env, subscription)) {
            return Ok(());
        }
        self.seen = Some((version, Names::Told));
        Err(fault)
    }
}

/// Whether there is something to ask the metadata for again. An assigned partition of an
/// impossible name is missing for ever.
fn lacks_a_topic(env: &ConsumerEnv, subscription: &SubscriptionState) -> bool {
    let is_missing = |name: &str| check_topic_name(name).is_ok() && env.broker.topic(name).is_err();
    let mut topics = subscription.topics().iter();
    subscription.mode() == Mode::Partitions || topics.any(|name| is_missing(name))
}
