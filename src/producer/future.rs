//! The outcome of a send: known already, waiting for a sync, or of a batch that is not stored yet.

use super::ProducerCore;
use super::batch::PartitionQueue;
use super::record::{ProducerRecord, RecordMetadata};
use crate::error::Result;
use crate::sync::{Arc, Mutex, Weak};
use crate::time::Signal;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What became of one record.
pub(super) type Outcome = Result<RecordMetadata>;

/// The outcome of a send, to be waited for with [`SendFuture::wait`] or `.await`.
///
/// Without `linger.ms`, and on a topic that does not sync before it answers, it is complete when
/// `send` returns. Dropping it loses the outcome, not the record.
///
/// # Examples
/// ```
/// use topiclite::{Broker, Durability, ProducerConfig, ProducerRecord, TopicConfig};
/// let broker = Broker::in_memory()?;
/// let durable = TopicConfig::default().durability(Durability::Power);
/// broker.admin().create_topic("orders", 1, durable)?;
/// let producer = broker.producer(ProducerConfig::default())?;
/// // Send first and wait then: one sync serves all three.
/// let sent = ["tea", "milk", "sugar"].map(|order| {
///     producer.send(ProducerRecord::new("orders").value(order))
/// });
/// for (offset, future) in sent.into_iter().enumerate() {
///     assert_eq!(future?.wait()?.offset(), offset as i64);
/// }
///
/// // Inside async code it is awaited, on any executor.
/// let stored = futures_lite::future::block_on(async {
///     producer.send(ProducerRecord::new("orders").value("cake"))?.await
/// })?;
/// assert_eq!(stored.offset(), 3);
/// # Ok::<(), topiclite::Error>(())
/// ```
#[must_use = "a failure is told here: wait for it, await it, or drop it on purpose"]
pub struct SendFuture(Stage);

enum Stage {
    Done(Outcome),
    /// Stored; the answer waits for a sync.
    Unsynced(Box<Unsynced>),
    /// Part of a batch.
    Batched {
        result: Arc<BatchResult>,
        index: usize,
    },
    /// The outcome was taken.
    Spent,
}

/// A record that is stored and whose answer waits for a sync.
pub(super) struct Unsynced {
    pub producer: Arc<ProducerCore>,
    pub queue: Arc<PartitionQueue>,
    pub metadata: RecordMetadata,
    pub record: ProducerRecord<'static>,
}

impl Unsynced {
    /// The log end that has to be durable.
    pub fn upto(&self) -> i64 {
        self.metadata.offset() + 1
    }

    fn sync(self) -> Outcome {
        match self.queue.log.make_durable(self.upto()) {
            Ok(()) => Ok(self.metadata),
            Err(error) => {
                self.producer.fail_transaction(&error);
                Err(error.with_possibly_written().losing(self.record))
            }
        }
    }
}

impl SendFuture {
    #[inline]
    pub(super) fn done(outcome: Outcome) -> SendFuture {
        SendFuture(Stage::Done(outcome))
    }

    pub(super) fn unsynced(unsynced: Unsynced) -> SendFuture {
        SendFuture(Stage::Unsynced(Box::new(unsynced)))
    }

    pub(super) fn batched(result: Arc<BatchResult>, index: usize) -> SendFuture {
        SendFuture(Stage::Batched { result, index })
    }

    /// Whether the outcome is known, so that [`SendFuture::wait`] would not wait.
    pub fn is_done(&self) -> bool {
        match &self.0 {
            Stage::Done(_) | Stage::Spent => true,
            Stage::Unsynced(unsynced) => unsynced.queue.is_durable(unsynced.upto()),
            Stage::Batched { result, .. } => result.is_done(),
        }
    }

    /// Waits for the outcome. A lingering batch is sent at its deadline by this call, if nobody
    /// does so earlier, and a sync that the answer needs is led, or joined, by this thread.
    ///
    /// # Durability
    /// `Ok` survives the death of the process, and power loss where the topic has
    /// `flush.messages=1`.
    ///
    /// # Errors
    /// The reason, with the record ([`Error::record`](crate::Error::record)), such as
    /// [`RecordTooLarge`](crate::ErrorKind::RecordTooLarge),
    /// [`InvalidTimestamp`](crate::ErrorKind::InvalidTimestamp),
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition),
    /// [`StorageFull`](crate::ErrorKind::StorageFull).
    ///
    /// # Panics
    /// When the outcome was taken by polling.
    #[inline]
    pub fn wait(self) -> Result<RecordMetadata> {
        match self.0 {
            Stage::Done(outcome) => outcome,
            stage => SendFuture(stage).wait_on(),
        }
    }

    #[inline(never)]
    fn wait_on(self) -> Result<RecordMetadata> {
        match self.0 {
            Stage::Done(outcome) => outcome,
            Stage::Unsynced(unsynced) => unsynced.sync(),
            Stage::Batched { result, index } => result.wait(index),
            Stage::Spent => panic!("the outcome of this send was taken already"),
        }
    }
}

impl Future for SendFuture {
    type Output = Result<RecordMetadata>;

    /// Never syncs and never appends on the system clock: both are left to the broker's threads.
    /// Under a virtual clock there is none, so that a sync is done here.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Stage::Unsynced(unsynced) = &self.0 {
            let now = unsynced.producer.clock().is_virtual()
                || unsynced.queue.is_durable(unsynced.upto());
            match std::mem::replace(&mut self.0, Stage::Spent) {
                Stage::Unsynced(unsynced) if now => return Poll::Ready(unsynced.sync()),
                Stage::Unsynced(unsynced) => {
                    let producer = unsynced.producer.clone();
                    self.0 = Stage::Batched { result: producer.sync_later(*unsynced), index: 0 };
                }
                other => self.0 = other,
            }
        }
        if let Stage::Batched { result, index } = &self.0 {
            match result.poll(*index, context.waker()) {
                None => return Poll::Pending,
                Some(outcome) => {
                    self.0 = Stage::Spent;
                    return Poll::Ready(outcome);
                }
            }
        }
        match std::mem::replace(&mut self.0, Stage::Spent) {
            Stage::Done(outcome) => Poll::Ready(outcome),
            _ => panic!("the outcome of this send was taken already"),
        }
    }
}

impl fmt::Debug for SendFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Stage::Done(outcome) => f.debug_tuple("SendFuture").field(outcome).finish(),
            Stage::Unsynced(_) => f.write_str("SendFuture(waits for a sync)"),
            Stage::Batched { .. } => f.write_str("SendFuture(in a batch)"),
            Stage::Spent => f.write_str("SendFuture(taken)"),
        }
    }
}

/// The outcomes of one batch, and who waits for them.
pub(super) struct BatchResult {
    producer: Weak<ProducerCore>,
    state: Mutex<FlightState>,
}

#[derive(Default)]
struct FlightState {
    /// One for each record, once the batch is over; each is taken once.
    outcomes: Option<Vec<Option<Outcome>>>,
    signals: Vec<Arc<Signal>>,
    wakers: Vec<Waker>,
}

impl BatchResult {
    pub fn new(producer: Weak<ProducerCore>) -> Arc<BatchResult> {
        Arc::new(BatchResult { producer, state: Mutex::new(FlightState::default()) })
    }

    pub fn is_done(&self) -> bool {
        self.state.lock().outcomes.is_some()
    }

    /// Whose batch it is, while somebody has the producer.
    pub fn producer(&self) -> Option<Arc<ProducerCore>> {
        self.producer.upgrade()
    }

    /// Ends it: whoever waits goes on.
    pub fn finish(&self, outcomes: Vec<Outcome>) {
        let (signals, wakers) = {
            let mut state = self.state.lock();
            state.outcomes = Some(outcomes.into_iter().map(Some).collect());
            (std::mem::take(&mut state.signals), std::mem::take(&mut state.wakers))
        };
        signals.iter().for_each(|signal| signal.ring());
        wakers.into_iter().for_each(Waker::wake);
    }

    fn take(&self, index: usize) -> Option<Outcome> {
        let mut state = self.state.lock();
        let outcomes = state.outcomes.as_mut()?;
        match outcomes.get_mut(index).and_then(Option::take) {
            Some(outcome) => Some(outcome),
            // Each index is handed out once, and its future takes it once.
            None => panic!("the outcome of record {index} was taken already"),
        }
    }

    fn wait(&self, index: usize) -> Outcome {
        loop {
            self.wait_until(None);
            if let Some(outcome) = self.take(index) {
                return outcome;
            }
        }
    }

    /// Waits until the batch is over, moving it on where nobody else does, or until the monotonic
    /// clock reaches `limit`. Returns whether the batch is over.
    pub fn wait_until(&self, limit: Option<Duration>) -> bool {
        let signal = Arc::new(Signal::new());
        while !self.is_done() {
            // Without its producer the batch is over: dropping the producer ends all batches.
            let Some(producer) = self.producer.upgrade() else { return self.is_done() };
            producer.move_on();
            {
                let mut state = self.state.lock();
                if state.outcomes.is_some() {
                    return true;
                }
                if !state.signals.iter().any(|known| Arc::ptr_eq(known, &signal)) {
                    state.signals.push(signal.clone());
                }
            }
            let due = producer.next_due();
            let deadline = match (due, limit) {
                (Some(due), Some(limit)) => Some(due.min(limit)),
                (one, other) => one.or(other),
            };
            producer.clock().park(&signal, deadline);
            if limit.is_some_and(|limit| producer.clock().monotonic() >= limit) {
                return self.is_done();
            }
        }
        true
    }

    fn poll(&self, index: usize, waker: &Waker) -> Option<Outcome> {
        {
            let mut state = self.state.lock();
            if state.outcomes.is_none() {
                if !state.wakers.iter().any(|known| known.will_wake(waker)) {
                    state.wakers.push(waker.clone());
                }
                return None;
            }
        }
        self.take(index)
    }
}
