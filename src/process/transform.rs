//! Read, transform, write: each record's outcome once.
//!
//! What a batch of records becomes, and the offsets behind them, are one transaction. A crash
//! before its commit leaves nothing that a `read_committed` reader sees, and the records are read
//! again; a crash behind it leaves everything. Source: KIP-98, KIP-447.

use crate::consumer::{Consumer, ConsumerRecord, ConsumerRecords};
use crate::error::{Error, ErrorKind, Result};
use crate::producer::{Producer, ProducerRecord};
use crate::topic::TopicPartition;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How often a commit that ran out of time is repeated.
const COMMITS_MAX: u32 = 3;
/// How many attempts in a row may come to nothing.
const ATTEMPTS_MAX: u32 = 10;

/// Makes a loop that reads with `consumer`, sends what `work` makes of each record with
/// `producer`, and commits both together, batch by batch.
///
/// The consumer is a member of a group (or has partitions assigned) and does not commit by itself.
/// The producer has a `transactional.id`, one for each instance of the program. Readers of the
/// outputs have `isolation.level=read_committed`; so should `consumer`, where its input is written
/// in transactions.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use topiclite::*;
/// let broker = Broker::in_memory()?;
/// for topic in ["numbers", "squares"] {
///     broker.admin().create_topic(topic, 1, TopicConfig::default())?;
/// }
/// let source = broker.producer(ProducerConfig::default())?;
/// for n in 1..=3 {
///     source.send_sync(ProducerRecord::new("numbers").value(n.to_string()))?;
/// }
///
/// let mut consumer = broker.consumer(
///     ConsumerConfig::new("squares")
///         .auto_offset_reset(OffsetReset::Earliest)
///         .enable_auto_commit(false),
/// )?;
/// consumer.subscribe(&["numbers"])?;
/// let producer = broker.producer(ProducerConfig::default().transactional_id("squares-1"))?;
/// let mut squares = process::transform(consumer, producer, |record| {
///     let n: u64 = std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap();
///     vec![ProducerRecord::new("squares").value((n * n).to_string())]
/// })?;
/// assert_eq!(squares.run_to_the_end(Duration::from_millis(10))?.records(), 3);
/// # Ok::<(), topiclite::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::IllegalArgument`] for a consumer that commits by itself, or that has no group;
/// those of [`Producer::init_transactions`].
pub fn transform<F, O>(consumer: Consumer, producer: Producer, work: F) -> Result<Transform<F>>
where
    F: FnMut(&ConsumerRecord<'_>) -> O,
    O: IntoIterator<Item = ProducerRecord<'static>>,
{
    if consumer.commits_by_itself() {
        let message = "the consumer commits by itself; set enable.auto.commit=false";
        return Err(Error::new(ErrorKind::IllegalArgument, message));
    }
    if consumer.group_metadata().is_err() {
        let message = "the offsets are those of a group; give the consumer a group.id";
        return Err(Error::new(ErrorKind::IllegalArgument, message));
    }
    producer.init_transactions()?;
    Ok(Transform { consumer, producer, work, failures: 0 })
}

/// A loop that [`transform`] made.
pub struct Transform<F> {
    consumer: Consumer,
    producer: Producer,
    work: F,
    /// Attempts in a row that came to nothing.
    failures: u32,
}

/// What a loop has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    records: u64,
    outputs: u64,
    recoveries: u64,
}

impl Progress {
    /// Records whose outcome is committed.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Records that were sent and committed.
    pub fn outputs(&self) -> u64 {
        self.outputs
    }

    /// Batches that were aborted and begun again.
    pub fn recoveries(&self) -> u64 {
        self.recoveries
    }

    /// Whether nothing came.
    pub fn is_idle(&self) -> bool {
        *self == Progress::default()
    }

    fn add(&mut self, other: Progress) {
        self.records += other.records;
        self.outputs += other.outputs;
        self.recoveries += other.recoveries;
    }
}

/// What can follow a failure.
enum Recovery {
    /// The transaction is aborted, and the batch is read again.
    Again,
    /// The producer is of no more use: another one takes over its name.
    AgainWithAnother,
    /// The same would fail again.
    Never,
}

impl<F, O> Transform<F>
where
    F: FnMut(&ConsumerRecord<'_>) -> O,
    O: IntoIterator<Item = ProducerRecord<'static>>,
{
    /// Polls for up to `timeout`, and handles what comes in one transaction.
    ///
    /// A failure that may pass (a rebalance that took the partitions, a transaction that took too
    /// long, a full disk) is no error: the transaction is aborted, and the records are read again
    /// by the next step, by whoever has their partitions then. A producer that was fenced is
    /// replaced by another of its `transactional.id`.
    ///
    /// # Errors
    /// What would fail again: the output that is refused, the topic that is missing, the broker
    /// that is closed, ten failures in a row. Nothing of the batch is committed then; a next step
    /// reads it again.
    pub fn step(&mut self, timeout: Duration) -> Result<Progress> {
        let records = self.consumer.poll(timeout)?;
        if records.is_empty() {
            return Ok(Progress::default());
        }
        let starts = starts_of(&records);
        let failed = match self.handle(&records) {
            Ok(outputs) => {
                self.failures = 0;
                let records = records.len() as u64;
                return Ok(Progress { records, outputs, recoveries: 0 });
            }
            Err(failed) => failed,
        };
        drop(records);
        self.failures += 1;
        let recovery = recovery_from(&failed);
        let ended = match recovery {
            Recovery::AgainWithAnother => self.replace_producer(),
            Recovery::Again | Recovery::Never => match self.producer.abort_transaction() {
                // It ended while it failed, or never began.
                Err(error) if error.kind() == ErrorKind::IllegalState => Ok(()),
                Err(error) if error.is_fatal() => self.replace_producer(),
                ended => ended,
            },
        };
        self.rewind(&starts);
        ended?;
        if matches!(recovery, Recovery::Never) || self.failures >= ATTEMPTS_MAX {
            self.failures = 0;
            return Err(failed);
        }
        tracing::warn!(error = %failed, "a batch was aborted, and is read again");
        Ok(Progress { recoveries: 1, ..Progress::default() })
    }

    /// Steps until a poll of `timeout` brings nothing.
    ///
    /// # Errors
    /// Those of [`Transform::step`].
    pub fn run_to_the_end(&mut self, timeout: Duration) -> Result<Progress> {
        let mut all = Progress::default();
        loop {
            let step = self.step(timeout)?;
            if step.is_idle() {
                return Ok(all);
            }
            all.add(step);
        }
    }

    /// One transaction. Returns how many records were sent.
    fn handle(&mut self, records: &ConsumerRecords) -> Result<u64> {
        self.producer.begin_transaction()?;
        let mut outputs = 0;
        for record in records {
            for output in (self.work)(&record) {
                // What becomes of it, the commit tells.
                drop(self.producer.send(output)?);
                outputs += 1;
            }
        }
        let group = self.consumer.group_metadata()?;
        self.producer.send_offsets_to_transaction(&records.next_offsets(), &group)?;
        let mut commits = 1;
        loop {
            match self.producer.commit_transaction() {
                Err(error) if error.kind() == ErrorKind::Timeout && commits < COMMITS_MAX => {
                    commits += 1;
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(outputs),
            }
        }
    }

    /// Another producer takes over the `transactional.id`, which aborts what is open.
    fn replace_producer(&mut self) -> Result<()> {
        let another = self.producer.another()?;
        another.init_transactions()?;
        self.producer = another;
        Ok(())
    }

    /// The next poll begins where the batch began, in the partitions that are still ours; those
    /// of others begin at what is committed.
    fn rewind(&mut self, starts: &BTreeMap<TopicPartition, i64>) {
        for (partition, offset) in starts {
            let ours = self.consumer.assignment().is_ok_and(|ours| ours.contains(partition));
            if ours && let Err(error) = self.consumer.seek(partition, *offset) {
                tracing::warn!(%partition, %error, "a position could not be set back");
            }
        }
    }
}

impl<F> Transform<F> {
    /// The consumer, to pause or to look at.
    pub fn consumer(&mut self) -> &mut Consumer {
        &mut self.consumer
    }

    /// The producer of the present transactions.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Both, to be closed.
    pub fn into_parts(self) -> (Consumer, Producer) {
        (self.consumer, self.producer)
    }
}

impl<F> fmt::Debug for Transform<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transform").field("producer", &self.producer).finish_non_exhaustive()
    }
}

/// The first offset of each partition in a batch.
fn starts_of(records: &ConsumerRecords) -> BTreeMap<TopicPartition, i64> {
    let mut starts = BTreeMap::new();
    for record in records {
        starts.entry(record.topic_partition().clone()).or_insert_with(|| record.offset());
    }
    starts
}

/// What the failure of a batch asks for. The kind at its root decides: most calls tell the first
/// failure of the transaction as their cause.
fn recovery_from(failed: &Error) -> Recovery {
    match failed.root_kind() {
        // The last one: its id expired while nothing was to be done.
        ErrorKind::ProducerFenced
        | ErrorKind::InvalidTxnState
        | ErrorKind::InvalidProducerIdMapping => Recovery::AgainWithAnother,
        ErrorKind::CommitFailed
        | ErrorKind::FencedInstanceId
        | ErrorKind::InvalidProducerEpoch
        | ErrorKind::OutOfOrderSequence
        | ErrorKind::TransactionAbortable
        | ErrorKind::TransactionAborted
        | ErrorKind::ConcurrentTransactions
        | ErrorKind::Timeout
        | ErrorKind::BufferExhausted
        | ErrorKind::CoordinatorNotAvailable
        | ErrorKind::StorageFull => Recovery::Again,
        ErrorKind::Io if failed.is_retriable() => Recovery::Again,
        _ => Recovery::Never,
    }
}
