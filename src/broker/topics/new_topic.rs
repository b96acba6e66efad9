//! What a topic is made of.

use crate::config::TopicConfig;

/// A topic to be created: its name, how many partitions, what it overrides.
///
/// # Examples
/// ```
/// use topiclite::{Broker, NewTopic, TopicConfig};
/// let broker = Broker::in_memory()?;
/// let orders = NewTopic::new("orders", 3).config(TopicConfig::default().retention_ms(-1));
/// broker.admin().create(&orders)?;
/// assert_eq!(broker.admin().describe_topic("orders")?.partition_count(), 3);
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NewTopic {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    pub(crate) replication_factor: i16,
    pub(crate) config: TopicConfig,
}

impl NewTopic {
    /// A topic of `partitions` partitions; -1 is the broker's `num.partitions`.
    pub fn new(name: impl Into<String>, partitions: i32) -> NewTopic {
        let config = TopicConfig::default();
        NewTopic { name: name.into(), partitions, replication_factor: -1, config }
    }

    /// Departure: D3. 1, or -1 for the default, which is 1: a directory has one owner.
    pub fn replication_factor(mut self, factor: i16) -> NewTopic {
        self.replication_factor = factor;
        self
    }

    /// What the topic overrides.
    pub fn config(mut self, config: TopicConfig) -> NewTopic {
        self.config = config;
        self
    }
}
