//! What users call: transactions over records of many partitions and the offsets of a group.

use super::Producer;
use super::transactions::Operation;
use crate::consumer::{GroupMetadata, OffsetAndMetadata};
use crate::error::Result;
use crate::topic::TopicPartition;
use std::collections::BTreeMap;

/// # Transactions
///
/// A producer with a [`transactional_id`](crate::ProducerConfig::transactional_id) sends inside
/// transactions, and nowhere else. What it sends between [`Producer::begin_transaction`] and
/// [`Producer::commit_transaction`] is seen by `read_committed` readers as a whole or not at all,
/// in every partition and in the committed offsets of groups, also after a crash at any moment.
///
/// The states are those of the Java client (`TransactionManager`). After an error the transaction
/// can be aborted, and the producer goes on ([`Error::requires_abort`](crate::Error)), or the
/// producer can only be closed ([`Error::is_fatal`](crate::Error::is_fatal)): a newer producer with
/// the same id took over.
///
/// ```
/// use std::collections::BTreeMap;
/// use topiclite::*;
/// let broker = Broker::in_memory()?;
/// for topic in ["orders", "bills"] {
///     broker.admin().create_topic(topic, 1, TopicConfig::default())?;
/// }
/// let producer = broker.producer(ProducerConfig::default().transactional_id("billing-1"))?;
/// producer.init_transactions()?;
///
/// producer.begin_transaction()?;
/// producer.send_sync(ProducerRecord::new("bills").key("alice").value("3.20"))?;
/// let done = BTreeMap::from([(TopicPartition::new("orders", 0), OffsetAndMetadata::new(1))]);
/// producer.send_offsets_to_transaction(&done, &GroupMetadata::new("billing"))?;
/// producer.commit_transaction()?;
///
/// producer.begin_transaction()?;
/// producer.send_sync(ProducerRecord::new("bills").key("bob").value("-1"))?;
/// producer.abort_transaction()?;
///
/// let mut committed = broker.consumer(
///     ConsumerConfig::without_group().isolation_level(IsolationLevel::ReadCommitted),
/// )?;
/// committed.assign(&[TopicPartition::new("bills", 0)])?;
/// committed.seek_to_beginning(&[])?;
/// assert_eq!(committed.poll(std::time::Duration::ZERO)?.len(), 1);
/// # Ok::<(), topiclite::Error>(())
/// ```
impl Producer {
    /// Takes over the `transactional.id`: producers that had it are fenced, and what the last of
    /// them left open is aborted. It comes first, and once; after
    /// [`Timeout`](crate::ErrorKind::Timeout) it is called again.
    ///
    /// # Durability
    /// As the settings of `__transaction_state` say; by default as a send.
    ///
    /// # Errors
    /// [`IllegalState`](crate::ErrorKind::IllegalState) without a `transactional.id`, and where it
    /// is not its turn; [`Timeout`](crate::ErrorKind::Timeout) after `max.block.ms`;
    /// [`Kafka`](crate::ErrorKind::Kafka), fatal, for a `transaction.timeout.ms` above the broker's
    /// `transaction.max.timeout.ms`; [`ProducerFenced`](crate::ErrorKind::ProducerFenced);
    /// [`StorageFailed`](crate::ErrorKind::StorageFailed), fatal, with partition and path, where
    /// the disk does not take what is to be stored, or the end of what the last one left: another
    /// producer of the id goes on once it does.
    pub fn init_transactions(&self) -> Result<()> {
        self.0.init_transactions()
    }

    /// Begins a transaction. Nobody else learns of it before the first record.
    ///
    /// # Errors
    /// [`IllegalState`](crate::ErrorKind::IllegalState) before [`Producer::init_transactions`] and
    /// while a transaction is open; in an error state [`Kafka`](crate::ErrorKind::Kafka) over the
    /// reason, or the fencing itself.
    pub fn begin_transaction(&self) -> Result<()> {
        self.0.begin_transaction()
    }

    /// Commits offsets of a group with the transaction: each is the next record to read. They are
    /// seen once the transaction is committed; until then lookups of them wait. The metadata is
    /// that of the consumer ([`Consumer::group_metadata`](crate::Consumer::group_metadata)), so
    /// that a member which lost its partitions is refused. A map without entries does nothing.
    ///
    /// Departure: D70. An unknown topic or partition is told at once, and the transaction can be
    /// aborted. The Java client repeats it for `max.block.ms` and is of no use afterwards.
    ///
    /// Departure: D105. Offsets that ran out of time require an abort, as nobody goes on with them.
    /// The Java client does, and a commit waits for them.
    ///
    /// # Errors
    /// [`IllegalArgument`](crate::ErrorKind::IllegalArgument) for a negative offset, and for a
    /// generation without a member; [`IllegalState`](crate::ErrorKind::IllegalState) outside of a
    /// transaction; [`CommitFailed`](crate::ErrorKind::CommitFailed),
    /// [`FencedInstanceId`](crate::ErrorKind::FencedInstanceId),
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition), those of the disk,
    /// and [`Timeout`](crate::ErrorKind::Timeout) after `max.block.ms`, after which the transaction
    /// has to be aborted; [`ProducerFenced`](crate::ErrorKind::ProducerFenced), and
    /// [`Kafka`](crate::ErrorKind::Kafka) for every other refusal, after which the producer can
    /// only be closed.
    pub fn send_offsets_to_transaction(
        &self,
        offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
        group: &GroupMetadata,
    ) -> Result<()> {
        self.0.send_offsets(offsets, group)
    }

    /// Sends what lingers, and commits the transaction: when this returns, its records and offsets
    /// are seen. A transaction in which nothing was sent leaves no trace. After
    /// [`Timeout`](crate::ErrorKind::Timeout) it is called again: whether it is committed is then
    /// not known.
    ///
    /// Departure: D72. It returns when the markers are written. Kafka's client returns when the
    /// decision is stored, so that readers may have to wait for what was committed.
    ///
    /// # Durability
    /// Survives the death of the process. Where a partition is durable at each append
    /// (`flush.messages=1`), no power cut leaves a part of the transaction.
    ///
    /// # Errors
    /// That of a record that lingered and failed, or, where one had failed before,
    /// [`Kafka`](crate::ErrorKind::Kafka) over it: the transaction has to be aborted.
    /// [`IllegalState`](crate::ErrorKind::IllegalState) without a transaction;
    /// [`ProducerFenced`](crate::ErrorKind::ProducerFenced), and
    /// [`InvalidTxnState`](crate::ErrorKind::InvalidTxnState) where the coordinator aborted it
    /// after `transaction.timeout.ms`: both are fatal.
    /// [`TransactionAbortable`](crate::ErrorKind::TransactionAbortable) where its records cannot be
    /// made durable before the decision; [`StorageFailed`](crate::ErrorKind::StorageFailed), fatal,
    /// where the disk takes the decision, or a marker, neither now nor later.
    pub fn commit_transaction(&self) -> Result<()> {
        self.0.end_transaction(Operation::Commit)
    }

    /// Aborts the transaction: its records and offsets are never seen by `read_committed` readers.
    /// What lingers is dropped, with [`TransactionAborted`](crate::ErrorKind::TransactionAborted).
    ///
    /// # Durability
    /// As [`Producer::commit_transaction`].
    ///
    /// # Errors
    /// [`IllegalState`](crate::ErrorKind::IllegalState) without a transaction, and while a commit
    /// that timed out has to be repeated; [`Timeout`](crate::ErrorKind::Timeout);
    /// [`ProducerFenced`](crate::ErrorKind::ProducerFenced).
    pub fn abort_transaction(&self) -> Result<()> {
        self.0.end_transaction(Operation::Abort)
    }
}
