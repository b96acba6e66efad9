//! The core of a producer, which all its handles share: the parts, and what takes several of them.
//!
//! | file | what |
//! | --- | --- |
//! | `send.rs` | a record, or many, on the caller's thread |
//! | `numbered.rs` | records under numbers of the caller |
//! | `lingering.rs` | batches that are sent later |
//! | `settling.rs` | outcomes told, flush, close, the end |
//! | `transactions.rs` | the calls on transactions |

mod lingering;
mod numbered;
mod routes;
mod send;
mod settling;
mod transactions;

use super::accumulator::Accumulator;
use super::batch::PartitionQueue;
use super::completion::CompletionQueue;
use super::env::{ProducerEnv, is_thrown};
use super::partitioner::partition_of_key;
use super::stamper::Stamper;
use super::storing::Appender;
use super::topics::{Found, PartitionQueues, TopicCache, missing_topic};
use crate::broker::BrokerInner;
use crate::config::ProducerSettings;
use crate::error::{Error, Result};
use crate::record::RecordInput;
use crate::sync::Arc;
use crate::time::Clock;
use crate::topic::TopicPartition;
use std::fmt;
use std::time::Duration;

/// The parts of a producer.
pub(crate) struct ProducerCore {
    env: ProducerEnv,
    stamper: Stamper,
    topics: TopicCache,
    queues: PartitionQueues,
    completions: CompletionQueue,
    accumulator: Accumulator,
}

impl ProducerCore {
    /// # Errors
    /// Those of taking a name.
    pub(super) fn new(
        broker: Arc<BrokerInner>,
        settings: ProducerSettings,
    ) -> Result<Arc<ProducerCore>> {
        let env = ProducerEnv::new(broker, settings);
        let name = env.settings.name.as_deref().map(|name| env.broker.hold_producer_name(name));
        let stamper = Stamper::new(&env, name.transpose()?);
        Ok(Arc::new(ProducerCore {
            env,
            stamper,
            topics: TopicCache::default(),
            queues: PartitionQueues::default(),
            completions: CompletionQueue::default(),
            accumulator: Accumulator::default(),
        }))
    }

    /// Another one with the same settings.
    ///
    /// # Errors
    /// Those of [`ProducerCore::new`], and of a broker that is closed.
    pub(super) fn another(&self) -> Result<Arc<ProducerCore>> {
        self.env.broker.check_open()?;
        ProducerCore::new(self.env.broker.clone(), self.env.settings.clone())
    }

    pub(super) fn client_id(&self) -> &str {
        &self.env.client_id
    }

    pub(super) fn settings(&self) -> &ProducerSettings {
        &self.env.settings
    }

    pub(super) fn clock(&self) -> &Clock {
        self.env.clock()
    }

    pub(super) fn check_open(&self) -> Result<()> {
        self.env.check_open()
    }

    /// When something that lingers is due next.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.accumulator.next_due()
    }

    /// A record of the transaction is not stored: it can only be aborted.
    pub(super) fn fail_transaction(&self, error: &Error) {
        self.stamper.fail_transaction(error);
    }

    /// # Errors
    /// What is the fault of a call with many records; all else is told of each of them.
    pub(super) fn check_send_all(&self) -> Result<()> {
        match self.stamper.check_send() {
            Err(error) if is_thrown(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// Those of [`Producer::partitions_for`](crate::Producer::partitions_for).
    pub(super) fn partitions_for(&self, topic: &str) -> Result<Vec<TopicPartition>> {
        self.env.check_open()?;
        let topic = self.env.broker.topic_or_create(topic).map_err(missing_topic)?;
        let count = topic.partition_count();
        Ok((0..count).map(|i| TopicPartition::new(topic.name().clone(), i)).collect())
    }

    /// What appends to logs.
    #[inline]
    fn appender(&self) -> Appender<'_> {
        Appender::new(&self.env, &self.stamper)
    }

    /// The queue of the partition of a record, and whether the partition was the sticky one: that
    /// is told of the record after the append.
    #[inline]
    fn choose<'a>(
        &self,
        topic: &'a Found<'_>,
        partition: Option<i32>,
        record: &RecordInput<'_>,
    ) -> Result<(&'a Arc<PartitionQueue>, bool)> {
        let (partition, sticky) = match (partition, record.key) {
            (Some(partition), _) => (partition, false),
            (None, Some(key)) if !self.env.settings.ignore_keys => {
                (partition_of_key(key, topic.count.max(1)), false)
            }
            _ => (topic.sticky.partition(topic.count, || self.env.broker.random()), true),
        };
        Ok((topic.queue(partition, &self.queues)?, sticky))
    }
}

impl fmt::Debug for ProducerCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("client_id", &self.env.client_id).finish_non_exhaustive()
    }
}
