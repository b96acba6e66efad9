//! The producer: from a record to its place in a log.
//!
//! Without `linger.ms` a send is an append on the caller's thread, complete when it returns. With
//! it, records wait in one open batch for each partition (`batch.rs`), which is sent when it is
//! full, at its deadline by the broker's timers or by whoever waits, or by `flush` and `close`.
//! What became of a record is told in the order of the sends (`completion.rs`).
//! A producer is the parts that `core` holds. A part owns its fields and knows those below it:
//! `record`, `partitioner`, `identity`; `future`, `batch`; `topics`, `completion`, `accumulator`;
//! `env`, what all use; `transactions`; `stamper`; `storing`.
//! Order of locks: the list of queues, a queue, then the log, the completions, what lingers.

mod accumulator;
mod batch;
mod completion;
mod core;
mod env;
mod future;
mod identity;
mod named;
mod partitioner;
mod record;
mod stamper;
mod storing;
mod topics;
mod transacting;
mod transactions;

#[cfg(all(test, not(loom)))]
mod tests;

pub use future::SendFuture;
pub(crate) use partitioner::partition_of_key;
pub use record::{IntoPayload, Payload, ProducerRecord, RecordMetadata};

use self::core::ProducerCore;
use crate::broker::BrokerInner;
use crate::config::ProducerConfig;
use crate::error::Result;
use crate::sync::Arc;
use crate::topic::TopicPartition;
use std::fmt;
use std::time::Duration;

/// Sends records. Cheap to clone, and usable from any number of threads.
///
/// # Examples
/// ```
/// use topiclite::{Broker, ProducerConfig, ProducerRecord, TopicConfig};
/// let broker = Broker::in_memory()?;
/// broker.admin().create_topic("orders", 3, TopicConfig::default())?;
/// let producer = broker.producer(ProducerConfig::default())?;
/// let record = ProducerRecord::new("orders").key("alice").value("one tea");
/// let metadata = producer.send_sync(record)?;
/// assert_eq!(metadata.offset(), 0);
/// producer.close()?;
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Clone)]
pub struct Producer(Arc<ProducerCore>);

impl Producer {
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) and others for settings that are refused,
    /// see [`ProducerConfig`]; those of taking a name; [`Closed`](crate::ErrorKind::Closed).
    pub(crate) fn new(broker: Arc<BrokerInner>, config: &ProducerConfig) -> Result<Producer> {
        broker.check_open()?;
        Ok(Producer(ProducerCore::new(broker, config.settings()?)?))
    }

    /// Another producer with the same settings, for whoever goes on where this one ended.
    ///
    /// # Errors
    /// As [`Producer::new`].
    pub(crate) fn another(&self) -> Result<Producer> {
        Ok(Producer(self.0.another()?))
    }

    /// `client.id`, or the name that was made up.
    pub fn client_id(&self) -> &str {
        self.0.client_id()
    }

    /// Sends a record. Without `linger.ms` it is in the log when this returns.
    ///
    /// What has to do with the topic or its log (a record that is too large, a topic that does not
    /// exist, a full disk) comes through the future, as in the Java client; what is returned here
    /// are faults of the call. Both are errors of the crate, with the record inside.
    ///
    /// Departure: D17. An append that fails is not tried again here. The error says whether it is
    /// [retriable](crate::Error::is_retriable), and
    /// [`Error::into_record`](crate::Error::into_record) gives the record back. A pause between two
    /// attempts is the caller's.
    ///
    /// Departure: D71. A record that is sent outside of a transaction, by a producer that has them,
    /// is refused as a whole. Kafka's client keeps it, and writes it with the next transaction.
    ///
    /// Unless `enable.idempotence` is off, each batch has a sequence, and is stored once however
    /// often its answer is lost (KIP-98). [`ProducerConfig::name`] keeps that over restarts.
    ///
    /// # Durability
    /// See [`SendFuture::wait`].
    ///
    /// # Errors
    /// [`IllegalArgument`](crate::ErrorKind::IllegalArgument) for a negative partition or
    /// timestamp; [`IllegalState`](crate::ErrorKind::IllegalState) or
    /// [`Closed`](crate::ErrorKind::Closed) after a close, and outside of a transaction where there
    /// is a `transactional.id`; [`Kafka`](crate::ErrorKind::Kafka) after another record of the
    /// transaction failed.
    #[inline]
    pub fn send(&self, record: ProducerRecord<'_>) -> Result<SendFuture> {
        let sent = self.0.send(&record);
        record.discard();
        sent
    }

    /// Sends a record and waits for the outcome: [`Producer::send`] and [`SendFuture::wait`].
    ///
    /// # Durability
    /// See [`SendFuture::wait`].
    ///
    /// # Errors
    /// Those of both, with the record ([`Error::record`](crate::Error::record)).
    #[inline]
    pub fn send_sync(&self, record: ProducerRecord<'_>) -> Result<RecordMetadata> {
        self.send(record)?.wait()
    }

    /// Sends a record, and has `callback` told what became of it, once, with no lock held.
    ///
    /// Callbacks of one partition run in the order of the sends, on the thread that completes the
    /// record: without `linger.ms` before this returns (unless another thread is inside a callback
    /// of this producer, which then runs this one too), else in `flush`, `close`, a `wait`, or
    /// on one of the broker's threads. A failure that `send` finds itself is told at once. The
    /// future is complete after the callback.
    ///
    /// A callback that panics keeps nobody else from being told: the panic goes on, behind them, in
    /// the call that ran it. On a thread of the broker's it is a warning of
    /// [`Broker::health`](crate::Broker::health).
    ///
    /// # Errors
    /// As [`Producer::send`]; the callback is not called then.
    pub fn send_with(
        &self,
        record: ProducerRecord<'_>,
        callback: impl FnOnce(&Result<RecordMetadata>) + Send + 'static,
    ) -> Result<SendFuture> {
        self.0.send_with(&record, callback)
    }

    /// Sends many records at once: those for one partition share batches of `batch.size`, and
    /// nothing lingers. The futures are in the order of the records.
    ///
    /// # Errors
    /// As [`Producer::send`], for the first record at fault; nothing is sent then.
    pub fn send_all<'a>(
        &self,
        records: impl IntoIterator<Item = ProducerRecord<'a>>,
    ) -> Result<Vec<SendFuture>> {
        let records: Vec<_> = records.into_iter().collect();
        let Some(first) = records.first() else { return Ok(Vec::new()) };
        self.0.check_open().map_err(|error| error.refusing(first))?;
        let mut own_headers = false;
        for record in &records {
            record.check().map_err(|error| error.refusing(record))?;
            own_headers |= record.owns_headers();
        }
        self.0.check_send_all().map_err(|error| error.refusing(first))?;
        let sent = self.0.send_all(&records, own_headers);
        // The compiler's own way of dropping them is four calls a record.
        records.into_iter().for_each(ProducerRecord::discard);
        Ok(sent)
    }

    /// Sends what lingers and waits until every record sent before is stored or has failed, also
    /// the syncs that answers wait for. What became of each is told by its future and callback.
    ///
    /// # Durability
    /// That of each send. As Kafka's, it asks for no sync of its own; [`crate::Broker::flush`]
    /// does.
    ///
    /// # Errors
    /// [`Kafka`](crate::ErrorKind::Kafka) inside a callback of this producer, where it would wait
    /// for itself.
    pub fn flush(&self) -> Result<()> {
        self.0.flush()
    }

    /// Closes the producer, with all its clones: sends what lingers, and waits for it without
    /// limit. Closing again does nothing. Inside a callback it is `close_timeout(ZERO)`.
    ///
    /// # Errors
    /// None. What became of each record is told by its future and callback.
    pub fn close(&self) -> Result<()> {
        self.0.close(None);
        Ok(())
    }

    /// The same, waiting for at most `timeout`; what is not stored by then fails with
    /// [`Kafka`](crate::ErrorKind::Kafka). With no time at all, what lingers is dropped so.
    ///
    /// # Errors
    /// None, as [`Producer::close`].
    pub fn close_timeout(&self, timeout: Duration) -> Result<()> {
        self.0.close(Some(timeout));
        Ok(())
    }

    /// The partitions of a topic, which is made where `auto.create.topics.enable` allows it.
    ///
    /// # Errors
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition). Departure: D9. At
    /// once, where the Java client waits `max.block.ms` and says that the time is up.
    /// [`InvalidTopic`](crate::ErrorKind::InvalidTopic);
    /// [`IllegalState`](crate::ErrorKind::IllegalState) and [`Closed`](crate::ErrorKind::Closed)
    /// after a close.
    pub fn partitions_for(&self, topic: &str) -> Result<Vec<TopicPartition>> {
        self.0.partitions_for(topic)
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("client_id", &self.0.client_id())
            .field("settings", self.0.settings())
            .finish_non_exhaustive()
    }
}
