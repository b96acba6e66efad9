//! What keeps retention from removing records.

use super::Admin;
use crate::error::Result;
use crate::topic::TopicPartition;

impl Admin {
    /// The group of the topic's `retention.protected.groups` that is the furthest behind in a
    /// partition: retention removes nothing that it has not committed. None where no group is
    /// protected. Works beside an owner, too.
    ///
    /// # Errors
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition),
    /// [`InvalidTopic`](crate::ErrorKind::InvalidTopic); those of reading what groups committed.
    ///
    /// # Examples
    /// ```
    /// use topiclite::{Broker, GroupOffset, TopicConfig, TopicPartition};
    /// let broker = Broker::in_memory()?;
    /// let config = TopicConfig::default().retention_protected_groups(&["billing"]);
    /// broker.admin().create_topic("orders", 1, config)?;
    /// let slowest = broker.admin().protected_offset("orders", 0)?.expect("it is named");
    /// assert_eq!((slowest.group(), slowest.committed_offset()), ("billing", None));
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    pub fn protected_offset(&self, topic: &str, partition: i32) -> Result<Option<ProtectedOffset>> {
        let found = self.0.topic(topic)?;
        found.partition(partition)?;
        let place = [TopicPartition::new(found.name().clone(), partition)];
        let mut slowest: Option<ProtectedOffset> = None;
        for group in &found.log_config(self.0.config()).protected_groups {
            let committed = self.0.groups()?.committed(group, &place, false)?.pop().transpose()?;
            let committed_offset = committed.flatten().map(|committed| committed.offset);
            let behind =
                slowest.as_ref().is_none_or(|other| committed_offset < other.committed_offset);
            if behind {
                slowest = Some(ProtectedOffset { group: group.clone(), committed_offset });
            }
        }
        Ok(slowest)
    }
}

/// The answer to [`Admin::protected_offset`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtectedOffset {
    group: String,
    committed_offset: Option<i64>,
}

impl ProtectedOffset {
    /// The group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The next offset that it reads; None where it has committed nothing of the partition, which
    /// then keeps all its records.
    pub fn committed_offset(&self) -> Option<i64> {
        self.committed_offset
    }
}
