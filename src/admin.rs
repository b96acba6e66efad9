//! What administrators do: topics and their settings, borders of partitions, groups.
//!
//! Errors are Kafka's. A change of a topic is durable when the call returns. What is read works in
//! an attached directory too; what writes gives [`ReadOnly`](crate::ErrorKind::ReadOnly) there.

mod compaction;
mod groups;
mod producers;
mod retention;
mod size;
mod transactions;
mod verify;

pub use compaction::{CleaningStatus, Compaction};
pub use groups::{
    GroupDescription, GroupListing, GroupOffset, MemberDescription, PartitionResults,
};
pub use producers::ProducerState;
pub use retention::ProtectedOffset;
pub use size::PartitionSize;
pub use transactions::{AbortedRange, HangingTransaction, TransactionDescription};

use crate::broker::{BrokerInner, NewTopic, Topic};
use crate::config::{BrokerConfig, ConfigChange, ConfigEntry, IsolationLevel, TopicConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Arc;
use crate::topic::TopicId;

/// Topics, their settings and borders, groups. Cheap to clone.
///
/// # Examples
/// ```
/// use topiclite::{Broker, ConfigChange, TopicConfig};
/// let broker = Broker::in_memory()?;
/// let admin = broker.admin();
/// admin.create_topic("orders", 3, TopicConfig::default())?;
/// admin.alter_topic("orders", &[ConfigChange::Set("retention.ms".into(), "-1".into())])?;
/// let orders = admin.describe_topic("orders")?;
/// assert_eq!(orders.partition_count(), 3);
/// assert_eq!(orders.config_value("retention.ms"), Some("-1"));
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Clone)]
pub struct Admin(Arc<BrokerInner>);

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Admin({})", self.0.dir.display())
    }
}

impl Admin {
    pub(crate) fn new(inner: Arc<BrokerInner>) -> Admin {
        Admin(inner)
    }

    /// Makes a topic of `partitions` partitions; -1 is the broker's `num.partitions`.
    ///
    /// # Durability
    /// Survives power loss.
    ///
    /// # Errors
    /// [`TopicExists`](crate::ErrorKind::TopicExists);
    /// [`InvalidTopic`](crate::ErrorKind::InvalidTopic) for a name that no topic can have, or that
    /// equals another where `.` and `_` are the same;
    /// [`InvalidPartitions`](crate::ErrorKind::InvalidPartitions) for 0 and below -1;
    /// [`InvalidTopicConfig`](crate::ErrorKind::InvalidTopicConfig);
    /// [`ReadOnly`](crate::ErrorKind::ReadOnly) in an attached directory.
    pub fn create_topic(&self, name: &str, partitions: i32, config: TopicConfig) -> Result<()> {
        self.create(&NewTopic::new(name, partitions).config(config))
    }

    /// Makes a topic.
    ///
    /// # Durability
    /// Survives power loss.
    ///
    /// # Errors
    /// As [`Admin::create_topic`], and
    /// [`InvalidReplicationFactor`](crate::ErrorKind::InvalidReplicationFactor).
    pub fn create(&self, topic: &NewTopic) -> Result<()> {
        self.0.create_topic(topic).map(drop)
    }

    /// Says whether a topic could be made, and makes nothing.
    ///
    /// # Errors
    /// As [`Admin::create`].
    pub fn check(&self, topic: &NewTopic) -> Result<()> {
        self.0.check_topic(topic)
    }

    /// Deletes a topic with its records and the offsets that groups committed for it.
    ///
    /// # Durability
    /// Survives power loss.
    ///
    /// # Errors
    /// [`TopicDeletionDisabled`](crate::ErrorKind::TopicDeletionDisabled),
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition), also for a name that
    /// no topic can have; [`InvalidTopic`](crate::ErrorKind::InvalidTopic) for no name at all.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.0.delete_topic(name)
    }

    /// Gives a topic more partitions: `partitions` is the new total. Keys map to other partitions
    /// afterwards; records stay where they are.
    ///
    /// # Durability
    /// Survives power loss.
    ///
    /// # Errors
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition), also for a name that
    /// no topic can have;
    /// [`InvalidPartitions`](crate::ErrorKind::InvalidPartitions) unless it is more than before.
    pub fn grow_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.0.grow_topic(name, partitions).map(drop)
    }

    /// Changes what a topic overrides: all changes or none.
    ///
    /// # Durability
    /// Survives power loss.
    ///
    /// # Errors
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition);
    /// [`InvalidTopicConfig`](crate::ErrorKind::InvalidTopicConfig) for a refused setting;
    /// [`InvalidRequest`](crate::ErrorKind::InvalidRequest) when one is changed twice, and for no
    /// name; [`InvalidTopic`](crate::ErrorKind::InvalidTopic) for one that no topic can have.
    pub fn alter_topic(&self, name: &str, changes: &[ConfigChange]) -> Result<()> {
        self.0.alter_topic(name, changes)
    }

    /// The topics, in order of name, without the broker's own.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed).
    pub fn list_topics(&self) -> Result<Vec<TopicListing>> {
        let mut topics = self.list_all_topics()?;
        topics.retain(|topic| !topic.internal);
        Ok(topics)
    }

    /// The topics, in order of name, with the broker's own.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed).
    pub fn list_all_topics(&self) -> Result<Vec<TopicListing>> {
        self.0.check_open()?;
        Ok(self.0.topics().iter().map(|topic| TopicListing::of(topic)).collect())
    }

    /// One topic with every setting in effect.
    ///
    /// # Errors
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition),
    /// [`InvalidTopic`](crate::ErrorKind::InvalidTopic).
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        let topic = self.0.topic(name)?;
        Ok(TopicDescription::of(&topic, self.0.config()))
    }
}

impl Admin {
    /// Makes `before` the first offset of a partition that can be read; -1 is its end. Returns the
    /// log start offset, which never moves back: a smaller `before` is no error. Segments that lie
    /// below it go with the next pass of retention.
    ///
    /// # Durability
    /// Survives power loss.
    ///
    /// # Errors
    /// [`OffsetOutOfRange`](crate::ErrorKind::OffsetOutOfRange) above the end and below -1;
    /// [`PolicyViolation`](crate::ErrorKind::PolicyViolation) when the topic's `cleanup.policy`
    /// does not delete; [`InvalidTopic`](crate::ErrorKind::InvalidTopic) for the broker's own
    /// topics; [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition).
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<i64> {
        self.0.delete_records(topic, partition, before).map_err(|error| match error.kind() {
            // The protocol's error, where a consumer has an exception of its own for it.
            ErrorKind::OffsetOutOfRange => error.with_kafka_name("OFFSET_OUT_OF_RANGE"),
            _ => error,
        })
    }

    /// An offset of a partition: a border, or where a time begins.
    ///
    /// Under [`IsolationLevel::ReadCommitted`] the latest offset is the last stable one, and what
    /// lies above it is not found.
    ///
    /// # Errors
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition),
    /// [`InvalidTopic`](crate::ErrorKind::InvalidTopic);
    /// [`UnsupportedVersion`](crate::ErrorKind::UnsupportedVersion) for a time below -6.
    pub fn list_offsets(
        &self,
        topic: &str,
        partition: i32,
        spec: OffsetSpec,
        isolation: IsolationLevel,
    ) -> Result<ListedOffset> {
        let found = self.0.topic(topic)?.partition(partition)?;
        let (offset, timestamp) = match spec.named() {
            OffsetSpec::Earliest => (Some(found.log_start_offset()?), None),
            OffsetSpec::Latest => (Some(found.end_for(isolation)?), None),
            OffsetSpec::MaxTimestamp => match found.max_timestamp(isolation)? {
                Some(found) => (Some(found.offset), Some(found.timestamp)),
                None => (None, None),
            },
            OffsetSpec::Timestamp(EARLIEST_PENDING_UPLOAD..=LATEST_TIERED) => (None, None),
            OffsetSpec::Timestamp(time) if time < 0 => {
                let why = format!("no special offset has the number {time}");
                let error = Error::new(ErrorKind::UnsupportedVersion, why);
                return Err(error.with_partition(topic, partition));
            }
            OffsetSpec::Timestamp(time) => match found.offset_for_time(time, isolation)? {
                Some(found) => (Some(found.offset), Some(found.timestamp)),
                None => (None, None),
            },
        };
        Ok(ListedOffset { offset, timestamp })
    }
}

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OffsetSpec {
    /// The log start offset.
    Earliest,
    /// The end, as the isolation level sees it.
    Latest,
    /// The first record with the largest timestamp.
    MaxTimestamp,
    /// The first record whose timestamp is not before this one, in milliseconds since 1970. As in
    /// Kafka's protocol (`ListOffsetsRequest`) negative numbers are special: -1 is the end, -2 and
    /// -4 the beginning, -3 the largest timestamp; -5 and -6 are about tiered storage, which finds
    /// nothing; below, there is no such offset.
    Timestamp(i64),
}

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

impl OffsetSpec {
    /// The same, by name where a number is that of a border.
    fn named(self) -> OffsetSpec {
        match self {
            OffsetSpec::Timestamp(LATEST) => OffsetSpec::Latest,
            OffsetSpec::Timestamp(EARLIEST | EARLIEST_LOCAL) => OffsetSpec::Earliest,
            OffsetSpec::Timestamp(MAX_TIMESTAMP) => OffsetSpec::MaxTimestamp,
            other => other,
        }
    }
}

/// The answer to [`Admin::list_offsets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    offset: Option<i64>,
    timestamp: Option<i64>,
}

impl ListedOffset {
    /// The offset; None when no record was found.
    pub fn offset(&self) -> Option<i64> {
        self.offset
    }

    /// The timestamp of the record that was found, in milliseconds since 1970; None for borders.
    pub fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }
}

/// A topic in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicListing {
    name: Arc<str>,
    id: TopicId,
    partitions: i32,
    internal: bool,
}

impl TopicListing {
    fn of(topic: &Topic) -> TopicListing {
        TopicListing {
            name: topic.name().clone(),
            id: topic.id(),
            partitions: topic.partition_count(),
            internal: topic.is_internal(),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id, which no other topic ever has.
    pub fn id(&self) -> TopicId {
        self.id
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> i32 {
        self.partitions
    }

    /// Whether it is one of the broker's own.
    pub fn is_internal(&self) -> bool {
        self.internal
    }
}

/// A topic with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    listing: TopicListing,
    config: Vec<ConfigEntry>,
}

impl TopicDescription {
    fn of(topic: &Topic, broker: &BrokerConfig) -> TopicDescription {
        TopicDescription {
            listing: TopicListing::of(topic),
            config: topic.config().describe(broker),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.listing.name()
    }

    /// The id, which no other topic ever has.
    pub fn id(&self) -> TopicId {
        self.listing.id()
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> i32 {
        self.listing.partition_count()
    }

    /// Whether it is one of the broker's own.
    pub fn is_internal(&self) -> bool {
        self.listing.is_internal()
    }

    /// Every setting in effect, in order of name, each with its source.
    pub fn config(&self) -> &[ConfigEntry] {
        &self.config
    }

    /// The value in effect of one setting; None for a name that no topic has.
    pub fn config_value(&self, name: &str) -> Option<&str> {
        self.config.iter().find(|entry| entry.name() == name).map(ConfigEntry::value)
    }
}
