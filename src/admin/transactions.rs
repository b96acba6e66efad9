//! Transactions: those that there are, by transactional id, and what a partition says of them.

use super::{Admin, ProducerState};
use crate::error::{Error, ErrorKind, Result};
use crate::log::AbortedTransaction;
use crate::sync::Arc;
use crate::topic::TopicPartition;
use crate::transaction::{TransactionState, TransactionValue};
use std::time::Duration;

/// What a producer's transactions may take where nobody said (`transaction.timeout.ms`).
const TIMEOUT: Duration = Duration::from_secs(60);

impl Admin {
    /// Every transactional id, by id. One whose partition of `__transaction_state` cannot be read
    /// whole is left out, as it may stand elsewhere than what can be read says;
    /// [`Broker::health`](crate::Broker::health) names the partition, and
    /// [`Admin::describe_transaction`] gives its damage.
    ///
    /// # Errors
    /// Those of reading `__transaction_state`.
    pub fn list_transactions(&self) -> Result<Vec<TransactionDescription>> {
        let listed = self.0.transactions()?.list()?;
        let describe = |(id, value)| TransactionDescription { id, value };
        Ok(listed.into_iter().map(describe).collect())
    }

    /// One transactional id.
    ///
    /// # Errors
    /// [`TransactionalIdNotFound`](crate::ErrorKind::TransactionalIdNotFound), and those of reading
    /// `__transaction_state`.
    pub fn describe_transaction(&self, transactional_id: &str) -> Result<TransactionDescription> {
        let value = self.0.transactions()?.describe(transactional_id)?;
        Ok(TransactionDescription { id: transactional_id.into(), value })
    }

    /// Fences the producers of transactional ids: what one of them has open is aborted, and its
    /// next call is refused with [`ProducerFenced`](crate::ErrorKind::ProducerFenced). One outcome
    /// an id, in their order. An id that nobody had is made, as in Kafka.
    ///
    /// Departure: D98. The id keeps its own transaction timeout; Kafka's administrator sets that of
    /// the request.
    ///
    /// # Durability
    /// As a send.
    ///
    /// # Errors
    /// [`ReadOnly`](crate::ErrorKind::ReadOnly) in an attached directory,
    /// [`Closed`](crate::ErrorKind::Closed). Per id
    /// [`InvalidRequest`](crate::ErrorKind::InvalidRequest) for one that cannot be, and those of
    /// the appends.
    pub fn fence_producers(&self, transactional_ids: &[&str]) -> Result<Vec<Result<()>>> {
        let transactions = self.0.transactions()?;
        let fence = |id: &&str| {
            let timeout = match transactions.describe(id) {
                Ok(value) => Duration::from_millis(u64::try_from(value.timeout_ms).unwrap_or(0)),
                Err(error) if error.kind() == ErrorKind::TransactionalIdNotFound => TIMEOUT,
                Err(error) => return Err(error),
            };
            transactions.init(id, timeout.min(self.0.config().transaction_max_timeout())).map(drop)
        };
        Ok(transactional_ids.iter().map(fence).collect())
    }

    /// Aborts a hanging transaction: what a producer id has open in one partition, and there alone.
    /// The rest of the transaction, and the producer, if there is one still, are not told: this is
    /// for what no coordinator knows any more. [`Admin::fence_producers`] ends the transaction of a
    /// transactional id.
    ///
    /// As in Kafka, it is a success too where the producer id has nothing open: the marker then
    /// ends nothing.
    ///
    /// # Durability
    /// As a send.
    ///
    /// # Errors
    /// [`InvalidTxnState`](crate::ErrorKind::InvalidTxnState) where the partition does not know
    /// the producer id,
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition),
    /// [`ReadOnly`](crate::ErrorKind::ReadOnly) in an attached directory.
    pub fn abort_transaction(&self, topic: &str, partition: i32, producer_id: i64) -> Result<()> {
        self.0.transactions()?.abort_in(&TopicPartition::new(topic, partition), producer_id)
    }

    /// The transactions that hang in partitions: what is open there, had its last batch longer ago
    /// than `max_transaction_timeout`, and belongs to no transaction that its coordinator knows to
    /// be open in the partition. Nothing ends them by itself, and whoever reads committed records
    /// waits in front of them; [`Admin::abort_transaction`] ends one. One outcome a partition, in
    /// their order. Kafka's tool takes 15 minutes, the default of `transaction.max.timeout.ms`.
    ///
    /// Source: `kafka-transactions.sh find-hanging`.
    ///
    /// # Errors
    /// Per partition [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition), and
    /// those of opening it; where something may hang,
    /// [`CorruptRecord`](crate::ErrorKind::CorruptRecord) if a partition of `__transaction_state`
    /// cannot be read: what is open may be known there.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// use topiclite::{Broker, TopicConfig, TopicPartition};
    /// let broker = Broker::in_memory()?;
    /// broker.admin().create_topic("orders", 1, TopicConfig::default())?;
    /// let orders = [TopicPartition::new("orders", 0)];
    /// let minutes = Duration::from_secs(15 * 60);
    /// for found in broker.admin().find_hanging_transactions(&orders, minutes)? {
    ///     assert!(found?.is_empty());
    /// }
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    pub fn find_hanging_transactions(
        &self,
        partitions: &[TopicPartition],
        max_transaction_timeout: Duration,
    ) -> Result<Vec<Result<Vec<HangingTransaction>>>> {
        self.0.check_open()?;
        let now_ms = self.0.clock().now().wall_ms;
        let timeout_ms = i64::try_from(max_transaction_timeout.as_millis()).unwrap_or(i64::MAX);
        let open = |partition: &TopicPartition| -> Result<Vec<ProducerState>> {
            let mut open = self.describe_producers(partition.topic(), partition.partition())?;
            open.retain(|producer| producer.current_transaction_start_offset().is_some());
            Ok(open)
        };
        let mut outcomes: Vec<Result<Vec<ProducerState>>> = partitions
            .iter()
            .map(|partition| {
                let is_old =
                    |of: &ProducerState| now_ms.saturating_sub(of.last_timestamp()) > timeout_ms;
                Ok(open(partition)?.into_iter().filter(is_old).collect())
            })
            .collect();
        if outcomes.iter().flatten().all(Vec::is_empty) {
            return Ok(outcomes.into_iter().map(|none| none.map(|_| Vec::new())).collect());
        }
        let known = self.0.transactions()?.open_partitions();
        let hanging = |partition: &TopicPartition, mut old: Vec<ProducerState>| {
            if old.is_empty() {
                return Ok(Vec::new());
            }
            let known = known.as_ref().map_err(Error::clone)?;
            old.retain(|producer| {
                let of = known.get(&producer.producer_id());
                !of.is_some_and(|partitions| partitions.contains(partition))
            });
            // What ended meanwhile is not known any more either.
            let still = open(partition)?;
            old.retain(|producer| still.contains(producer));
            let hanging = |producer| HangingTransaction { partition: partition.clone(), producer };
            Ok(old.into_iter().map(hanging).collect())
        };
        let old = partitions.iter().zip(outcomes.drain(..));
        Ok(old.map(|(partition, old)| hanging(partition, old?)).collect())
    }

    /// The aborted transactions of a partition, in the order of their markers.
    ///
    /// # Errors
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition), and what reading
    /// the log gives.
    pub fn aborted_transactions(&self, topic: &str, partition: i32) -> Result<Vec<AbortedRange>> {
        let found = self.0.topic(topic)?.partition(partition)?;
        let aborted = found.aborted_transactions(0, i64::MAX)?;
        Ok(aborted.into_iter().map(AbortedRange).collect())
    }
}

/// What is stored of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDescription {
    id: Arc<str>,
    value: TransactionValue,
}

impl TransactionDescription {
    /// The transactional id.
    pub fn transactional_id(&self) -> &str {
        &self.id
    }

    /// Where it stands.
    pub fn state(&self) -> TransactionState {
        self.value.state
    }

    /// The id that the batches of its producer carry.
    pub fn producer_id(&self) -> i64 {
        self.value.producer_id
    }

    /// Which of all producers that had the id it is: raised by each that takes over, and at the end
    /// of each transaction.
    pub fn producer_epoch(&self) -> i16 {
        self.value.producer_epoch
    }

    /// How long a transaction may take before it is aborted (`transaction.timeout.ms`).
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.value.timeout_ms).unwrap_or(0))
    }

    /// When its last transaction began, in milliseconds since 1970; `None` before the first of its
    /// present producer.
    pub fn start_timestamp(&self) -> Option<i64> {
        Some(self.value.start_ms).filter(|&at| at >= 0)
    }

    /// When anything of it changed last, in milliseconds since 1970.
    pub fn last_update_timestamp(&self) -> i64 {
        self.value.last_update_ms
    }

    /// The partitions that take part in what is open, or about to end: of topics, and of
    /// `__consumer_offsets` for the groups whose offsets it commits. Sorted.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.value.partitions()
    }
}

/// A transaction that is open in a partition, and that nothing ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HangingTransaction {
    partition: TopicPartition,
    producer: ProducerState,
}

impl HangingTransaction {
    /// Where it is open.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// Whose it is, as the partition knows it; with where the transaction began, and the time of
    /// its last batch.
    pub fn producer(&self) -> &ProducerState {
        &self.producer
    }
}

/// A transaction that ended in an abort, as a row of Kafka's transaction index tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedRange(AbortedTransaction);

impl AbortedRange {
    /// Whose transaction it was.
    pub fn producer_id(&self) -> i64 {
        self.0.producer_id
    }

    /// Where it began in this partition.
    pub fn first_offset(&self) -> i64 {
        self.0.first_offset
    }

    /// The offset of its marker.
    pub fn last_offset(&self) -> i64 {
        self.0.last_offset
    }

    /// The last stable offset once the marker was written.
    pub fn last_stable_offset(&self) -> i64 {
        self.0.last_stable_offset
    }
}
