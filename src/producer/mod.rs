//! The producer: from a record to its place in a log.
//!
//! Without `linger.ms` a send is an append on the caller's thread, complete when it returns. With
//! it, records wait in one open batch for each partition (`batch.rs`), which is sent when it is
//! full, at its deadline by the broker's timers or by whoever waits, or by `flush` and `close`.
//! What became of a record is told in the order of the sends (`completion.rs`).
//! Order of locks: the list of lanes, a lane, then the log, the line of completions, what lingers.

mod accumulator;
mod batch;
mod closing;
mod completion;
mod future;
mod identity;
mod named;
mod partitioner;
mod record;
mod send;
mod storing;
mod topics;
mod transactions;

#[cfg(all(test, not(loom)))]
mod tests;

pub use future::SendFuture;
pub(crate) use partitioner::partition_of_key;
pub use record::{IntoPayload, Payload, ProducerRecord, RecordMetadata};

use crate::broker::BrokerInner;
use crate::config::{ProducerConfig, ProducerSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::log::{AppendOptions, ProducerStamp};
use crate::record::RecordInput;
use crate::sync::{Arc, AtomicBool, Ordering};
use crate::time::Clock;
use crate::topic::TopicPartition;
use accumulator::Accumulator;
use batch::PartitionQueue;
use completion::CompletionQueue;
use identity::Identity;
use record::size_upper_bound;
use std::fmt;
use std::time::Duration;
use topics::{Found, PartitionQueues, TopicCache};
use transactions::Transactional;

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

/// What all handles of a producer share.
pub(crate) struct ProducerCore {
    broker: Arc<BrokerInner>,
    settings: ProducerSettings,
    client_id: String,
    /// Who an idempotent producer is.
    identity: Option<Identity>,
    transactional: Option<Transactional>,
    closed: AtomicBool,
    topics: TopicCache,
    queues: PartitionQueues,
    line: CompletionQueue,
    lingering: Accumulator,
}

impl Producer {
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] and others for settings that are refused, see
    /// [`ProducerConfig`]; those of taking a name; [`ErrorKind::Closed`].
    pub(crate) fn new(broker: Arc<BrokerInner>, config: &ProducerConfig) -> Result<Producer> {
        broker.check_open()?;
        Producer::of(broker, config.settings()?)
    }

    /// Another producer with the same settings, for whoever goes on where this one ended.
    ///
    /// # Errors
    /// As [`Producer::new`].
    pub(crate) fn another(&self) -> Result<Producer> {
        self.0.broker.check_open()?;
        Producer::of(self.0.broker.clone(), self.0.settings.clone())
    }

    fn of(broker: Arc<BrokerInner>, settings: ProducerSettings) -> Result<Producer> {
        // The Java client counts in a process; a number of the broker's seed repeats with it.
        let client_id = settings.client_id.clone();
        let client_id = client_id.unwrap_or_else(|| match &settings.transactional_id {
            Some(id) => format!("producer-{id}"),
            None => format!("producer-{}", broker.random() >> 40),
        });
        let name = settings.name.as_deref().map(|name| broker.hold_producer_name(name));
        let name = name.transpose()?;
        let transactional = settings.transactional_id.clone();
        let transactional =
            transactional.map(|id| Transactional::new(id, settings.transaction_timeout));
        let identity = settings.idempotent.then(|| Identity::new(name, transactional.is_some()));
        Ok(Producer(Arc::new(ProducerCore {
            broker,
            settings,
            client_id,
            identity,
            transactional,
            closed: AtomicBool::new(false),
            topics: TopicCache::default(),
            queues: PartitionQueues::default(),
            line: CompletionQueue::default(),
            lingering: Accumulator::default(),
        })))
    }

    /// `client.id`, or the name that was made up.
    pub fn client_id(&self) -> &str {
        &self.0.client_id
    }

    /// Sends a record. Without `linger.ms` it is in the log when this returns.
    ///
    /// What has to do with the topic or its log (a record that is too large, a topic that does not
    /// exist, a full disk) comes through the future, as in the Java client; what is returned here
    /// are faults of the call. Both are errors of the crate, with the record inside.
    ///
    /// Departure: D17. An append that fails is not tried again here. The error says whether it is
    /// [retriable](Error::is_retriable), and [`Error::into_record`] gives the record back. A pause
    /// between two attempts is the caller's.
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
    /// [`ErrorKind::IllegalArgument`] for a negative partition or timestamp;
    /// [`ErrorKind::IllegalState`] or [`ErrorKind::Closed`] after a close, and outside of a
    /// transaction where there is a `transactional.id`; [`ErrorKind::Kafka`] after another record
    /// of the transaction failed.
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
    /// Those of both, with the record ([`Error::record`]).
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
        match self.0.check_transaction() {
            Err(error) if ProducerCore::is_thrown(&error) => return Err(error.refusing(first)),
            // Each record is told.
            _ => {}
        }
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
    /// [`ErrorKind::Kafka`] inside a callback of this producer, where it would wait for itself.
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
    /// [`ErrorKind::Kafka`]. With no time at all, what lingers is dropped so.
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
    /// [`ErrorKind::UnknownTopicOrPartition`]. Departure: D9. At once, where the Java client waits
    /// `max.block.ms` and says that the time is up. [`ErrorKind::InvalidTopic`];
    /// [`ErrorKind::IllegalState`] and [`ErrorKind::Closed`] after a close.
    pub fn partitions_for(&self, topic: &str) -> Result<Vec<TopicPartition>> {
        self.0.check_open()?;
        let topic = self.0.broker.topic_or_create(topic).map_err(topics::missing_topic)?;
        let count = topic.partition_count();
        Ok((0..count).map(|i| TopicPartition::new(topic.name().clone(), i)).collect())
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("client_id", &self.0.client_id)
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}

impl ProducerCore {
    pub(super) fn clock(&self) -> &Clock {
        self.broker.clock()
    }

    #[inline]
    fn check_open(&self) -> Result<()> {
        // Acquire: pairs with the Release in `close`.
        if self.closed.load(Ordering::Acquire) {
            return Err(self.closed_error());
        }
        self.broker.check_open()
    }

    #[cold]
    fn closed_error(&self) -> Error {
        Error::new(ErrorKind::IllegalState, format!("producer {} is closed", self.client_id))
    }

    /// The size of a record against the limits of the client.
    #[inline]
    fn check_size(&self, record: &RecordInput<'_>) -> Result<usize> {
        let size = size_upper_bound(record);
        if size > self.settings.max_request_size || size > self.settings.buffer_memory {
            return Err(self.too_large(size));
        }
        Ok(size)
    }

    #[cold]
    fn too_large(&self, size: usize) -> Error {
        let s = &self.settings;
        let (name, limit) = match size > s.max_request_size {
            true => ("max.request.size", s.max_request_size),
            false => ("buffer.memory", s.buffer_memory),
        };
        let message = format!("the record takes up to {size} bytes, {name} is {limit}");
        Error::new(ErrorKind::RecordTooLarge, message)
    }

    /// The partition of a record, and its lane. `batch_open` of the sticky partition is told
    /// after the append.
    #[inline]
    fn choose<'a>(
        &self,
        topic: &'a Found<'_>,
        partition: Option<i32>,
        record: &RecordInput<'_>,
    ) -> Result<(&'a Arc<PartitionQueue>, bool)> {
        let (partition, sticky) = match (partition, record.key) {
            (Some(partition), _) => (partition, false),
            (None, Some(key)) if !self.settings.ignore_keys => {
                (partitioner::partition_of_key(key, topic.count.max(1)), false)
            }
            _ => (topic.sticky.partition(topic.count, || self.broker.random()), true),
        };
        Ok((topic.queue(partition, &self.queues)?, sticky))
    }

    /// How the next batch is appended that is sent once. The log gives it its sequence.
    #[inline]
    fn append_options(&self, queue: &PartitionQueue, now_ms: i64) -> Result<AppendOptions> {
        let mut options = AppendOptions::client(now_ms);
        if let Some(identity) = &self.identity {
            options.producer = Some(match &self.transactional {
                None => identity.stamp(&self.broker)?,
                Some(open) => self.stamp_in_transaction(open, identity, queue)?,
            });
        }
        Ok(options)
    }

    /// Whether a batch was refused because another thread raised the epoch meanwhile, so that the
    /// same records can be sent again at once.
    #[cold]
    fn is_outdated(&self, stamp: Option<&ProducerStamp>, error: &Error) -> bool {
        let (Some(identity), Some(stamp)) = (&self.identity, stamp) else { return false };
        error.kind() == ErrorKind::InvalidProducerEpoch
            && !stamp.transactional
            && identity.has_changed(stamp)
    }

    /// A batch was refused for good: as in Kafka, the producer raises its epoch, and each
    /// partition begins at sequence 0.
    #[cold]
    fn note_refusal(&self, stamp: Option<&ProducerStamp>, error: &Error) {
        if let (Some(identity), Some(stamp)) = (&self.identity, stamp)
            && !error.is_retriable()
            && !error.is_fatal()
        {
            identity.raise_epoch(stamp);
        }
    }

    /// Whether an error is the call's fault, and not the topic's or its log's.
    #[inline]
    fn is_thrown(error: &Error) -> bool {
        matches!(
            error.kind(),
            ErrorKind::Closed
                | ErrorKind::IllegalState
                | ErrorKind::IllegalArgument
                | ErrorKind::Kafka
        )
    }
}

impl fmt::Debug for ProducerCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}
