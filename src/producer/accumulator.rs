//! Sending later: batches that fill up, their deadlines, memory, retries.

use super::ProducerCore;
use super::batch::{Batch, PartitionQueue, QueueState, batch_charge};
use super::completion::{Completion, Records};
use super::future::{BatchResult, Outcome, SendFuture};
use super::record::size_upper_bound;
use super::storing::Stored;
use super::topics::Found;
use crate::error::{Error, ErrorKind, Result};
use crate::record::RecordInput;
use crate::sync::{Arc, Mutex, Rank, Weak, ranked_mutex};
use crate::time::{Now, Signal, TimerKey, TimerQueue};
use std::collections::VecDeque;
use std::time::Duration;

/// What lingers, over all partitions.
pub(super) struct Accumulator(Mutex<State>);

impl Default for Accumulator {
    fn default() -> Accumulator {
        Accumulator(ranked_mutex(Rank::Accumulator, State::default()))
    }
}

#[derive(Default)]
struct State {
    /// Lanes by when their oldest batch is due. An entry that finds nothing due is stale.
    due: TimerQueue<Weak<PartitionQueue>>,
    /// The timer of the broker that is set.
    armed: Option<TimerKey>,
    /// Bytes of `buffer.memory` that open and waiting batches take.
    used: usize,
    /// Sends that wait for memory.
    waiting: Vec<Arc<Signal>>,
    /// Batches that may not be over.
    flights: Vec<Weak<BatchResult>>,
}

impl ProducerCore {
    pub(super) fn count_sticky(&self, topic: &Found<'_>, bytes: usize, batch_open: bool) {
        topic.sticky.count(bytes, self.settings.batch_size, batch_open, topic.count, || {
            self.broker.random()
        });
    }

    /// Puts a record into the open batch of its lane, and sends the batch when it is full.
    ///
    /// # Errors
    /// `BufferExhausted` when there was no memory for `max.block.ms`; `IllegalState` when the
    /// producer was closed meanwhile. The callback was not taken then.
    pub(super) fn linger(
        self: &Arc<Self>,
        topic: &Found<'_>,
        queue: &Arc<PartitionQueue>,
        input: &RecordInput<'_>,
        sticky: bool,
        callback: &mut Option<impl FnOnce(&Outcome) + Send + 'static>,
    ) -> Result<SendFuture> {
        let (future, full) = self.enqueue(queue, input, callback)?;
        if sticky {
            let size = size_upper_bound(input);
            self.count_sticky(topic, size, !full);
        }
        if full {
            self.drain(queue, false);
            self.run_completions(false);
        }
        Ok(future)
    }

    /// Returns the future, and whether the lane has something to send at once.
    fn enqueue(
        self: &Arc<Self>,
        queue: &Arc<PartitionQueue>,
        input: &RecordInput<'_>,
        callback: &mut Option<impl FnOnce(&Outcome) + Send + 'static>,
    ) -> Result<(SendFuture, bool)> {
        let charge = batch_charge(input, self.settings.batch_size);
        let mut reserved = 0;
        loop {
            let mut state = queue.lock();
            // Under the lock that a close drains under: a record is refused, or sent by it.
            if let Err(error) = self.check_open().and_then(|()| self.check_transaction()) {
                drop(state);
                self.release(reserved);
                return Err(error);
            }
            let room = state.batches.back().is_some_and(|batch| batch.has_room(input));
            let outgrows = state.batches.back().is_some_and(|batch| batch.outgrows(input));
            if (!room || outgrows) && reserved == 0 {
                drop(state);
                self.reserve(charge)?;
                reserved = charge;
                continue;
            }
            if room && outgrows {
                // Records that compress well are held as they are until the batch is full.
                if let Some(batch) = state.batches.back_mut() {
                    batch.charge += reserved;
                }
            } else if room {
                self.release(reserved);
            }
            if !room {
                self.open_batch(queue, &mut state, charge);
            }
            let waiting = state.batches.len() > 1;
            let Some(batch) = state.batches.back_mut() else { continue };
            let index = batch.push(input);
            if let Some(callback) = callback.take() {
                batch.callbacks.push((index, Box::new(callback)));
            }
            let future = SendFuture::batched(batch.flight.clone(), index);
            return Ok((future, batch.closed || waiting));
        }
    }

    /// Opens a batch behind the others of the lane.
    fn open_batch(
        self: &Arc<Self>,
        queue: &Arc<PartitionQueue>,
        state: &mut QueueState,
        charge: usize,
    ) {
        if let Some(last) = state.batches.back_mut() {
            last.closed = true;
        }
        let now = self.clock().monotonic();
        let due = now.saturating_add(self.settings.linger);
        let flight = BatchResult::new(Arc::downgrade(self));
        let mut lingering = self.lingering.0.lock();
        lingering.flights.retain(|flight| flight.strong_count() > 0);
        lingering.flights.push(Arc::downgrade(&flight));
        drop(lingering);
        let ratio = queue.ratios.estimate(self.settings.codec);
        state.batches.push_back(Batch::new(charge, ratio, now, due, flight));
        self.wake_at(due, queue);
    }

    /// Has the lane looked at when `due` comes.
    fn wake_at(self: &Arc<Self>, due: Duration, queue: &Arc<PartitionQueue>) {
        let mut state = self.lingering.0.lock();
        state.due.insert(due, Arc::downgrade(queue));
        self.arm(&mut state);
    }

    /// Sets the broker's timer to the earliest deadline.
    fn arm(self: &Arc<Self>, state: &mut State) {
        let Some(due) = state.due.next_deadline() else { return };
        if let Some(armed) = state.armed {
            if armed.deadline() <= due {
                return;
            }
            self.broker.cancel(armed);
        }
        let producer = Arc::downgrade(self);
        let task = move |now: Now| {
            if let Some(producer) = producer.upgrade() {
                producer.lingering.0.lock().armed = None;
                producer.send_due(now.mono);
                producer.run_completions_for_others(false);
                let mut state = producer.lingering.0.lock();
                producer.arm(&mut state);
            }
        };
        state.armed = Some(self.broker.schedule(due, Box::new(task)));
    }

    /// When something is due next.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.lingering.0.lock().due.next_deadline()
    }

    /// Sends every batch that is due at `mono`.
    fn send_due(self: &Arc<Self>, mono: Duration) {
        loop {
            let due = self.lingering.0.lock().due.pop_due(mono);
            let Some((_, queue)) = due else { return };
            if let Some(queue) = queue.upgrade() {
                self.drain(&queue, false);
            }
        }
    }

    /// What a waiter does before it sleeps: sends what is due, tells what is known.
    pub(super) fn move_on(self: &Arc<Self>) {
        self.send_due(self.clock().monotonic());
        self.work_off(true, true);
    }

    /// Sends records of one partition behind what lingers in it, with all of it.
    pub(super) fn linger_group(
        self: &Arc<Self>,
        queue: &Arc<PartitionQueue>,
        inputs: &[RecordInput<'_>],
        futures: &mut Vec<SendFuture>,
    ) {
        for input in inputs {
            futures.push(match self.enqueue(queue, input, &mut None::<fn(&Outcome)>) {
                Ok((future, _)) => future,
                Err(error) => SendFuture::done(Err(queue.failed(error, input))),
            });
        }
        self.drain(queue, true);
        self.run_completions(false);
    }

    /// Takes `bytes` of `buffer.memory`.
    ///
    /// # Errors
    /// `BufferExhausted` after `max.block.ms`.
    fn reserve(self: &Arc<Self>, bytes: usize) -> Result<()> {
        let limit = self.clock().monotonic().saturating_add(self.settings.max_block);
        let bell = Arc::new(Signal::new());
        let mut drained = false;
        loop {
            {
                let mut state = self.lingering.0.lock();
                if state.used.saturating_add(bytes) <= self.settings.buffer_memory {
                    state.used += bytes;
                    return Ok(());
                }
                if drained && !state.waiting.iter().any(|known| Arc::ptr_eq(known, &bell)) {
                    state.waiting.push(bell.clone());
                }
            }
            if !drained {
                // Somebody waits for memory: every batch is ready.
                self.drain_all();
                self.run_completions(false);
                drained = true;
                continue;
            }
            if !self.clock().park(&bell, Some(limit)) && self.clock().monotonic() >= limit {
                self.lingering.0.lock().waiting.retain(|known| !Arc::ptr_eq(known, &bell));
                let message = format!(
                    "buffer.memory={} stayed full for max.block.ms; what lingers cannot be stored",
                    self.settings.buffer_memory
                );
                return Err(Error::new(ErrorKind::BufferExhausted, message));
            }
        }
    }

    fn release(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let waiting = {
            let mut state = self.lingering.0.lock();
            state.used = state.used.saturating_sub(bytes);
            std::mem::take(&mut state.waiting)
        };
        waiting.iter().for_each(|bell| bell.ring());
    }

    /// Sends the batches of every lane, full or not.
    pub(super) fn drain_all(self: &Arc<Self>) {
        for queue in self.queues.all() {
            self.drain(&queue, true);
        }
    }

    /// Appends the batches of a lane that are full or due, with `force` the open one too, in
    /// order. A batch whose error may pass stays first and is tried again later.
    pub(super) fn drain(self: &Arc<Self>, queue: &Arc<PartitionQueue>, force: bool) {
        let now = self.clock().now();
        let mut released = 0;
        let prepared = match queue.is_due(force, now.mono) {
            true => self.prepare(queue),
            false => return,
        };
        let mut state = queue.lock();
        while let Some(batch) = state.batches.front() {
            let ready = force || batch.closed || batch.due <= now.mono;
            if !ready || state.not_before.is_some_and(|until| until > now.mono) {
                break;
            }
            let Some(mut batch) = state.batches.pop_front() else { break };
            // Nothing may join a batch that was tried.
            batch.closed = true;
            batch.attempts += 1;
            let mut stored = self.try_batch(queue, &mut state, &mut batch, now.wall_ms, &prepared);
            if let Some(error) = stored.retriable.take() {
                match self.next_attempt(&batch, now.mono) {
                    Some(at) => {
                        tracing::warn!(%error, "a batch is tried again later");
                        state.not_before = Some(at);
                        state.batches.push_front(batch);
                        self.wake_at(at, queue);
                        break;
                    }
                    None => {
                        let error = self.given_up(&batch, error, now.mono);
                        self.leave_unresolved(&mut state, &batch, &error);
                        stored.outcomes = batch.all_failed(queue, &error);
                    }
                }
            }
            state.not_before = None;
            released += batch.charge;
            self.push_completion(queue, batch, stored);
        }
        drop(state);
        self.release(released);
    }

    /// Fails the batches of a lane that `chosen` picks. Returns whether there were any.
    fn fail_batches(
        &self,
        queue: &Arc<PartitionQueue>,
        error: &Error,
        chosen: fn(&Batch) -> bool,
    ) -> bool {
        let mut released = 0;
        let mut state = queue.lock();
        let batches = std::mem::take(&mut state.batches);
        let (failing, staying) = batches.into_iter().partition(chosen);
        state.batches = staying;
        let failing: VecDeque<Batch> = failing;
        for batch in failing {
            released += batch.charge;
            let outcomes = batch.all_failed(queue, error);
            self.push_completion(queue, batch, Stored::over(outcomes));
        }
        drop(state);
        self.release(released);
        released > 0
    }

    /// Batches that were not over a moment ago.
    pub(super) fn flights(&self) -> Vec<Arc<BatchResult>> {
        let state = self.lingering.0.lock();
        state.flights.iter().filter_map(Weak::upgrade).filter(|f| !f.is_done()).collect()
    }

    /// Takes the broker's timer back.
    pub(super) fn disarm(&self) {
        let armed = self.lingering.0.lock().armed.take();
        if let Some(armed) = armed {
            self.broker.cancel(armed);
        }
    }

    /// Fails everything that is not stored. Returns whether there was anything.
    pub(super) fn abandon(&self, error: &Error) -> bool {
        let lanes = self.queues.all();
        lanes.iter().filter(|queue| self.fail_batches(queue, error, |_| true)).count() > 0
    }

    /// Fails every batch that was not tried.
    pub(super) fn abandon_untried(&self, error: &Error) {
        for queue in self.queues.all() {
            self.fail_batches(&queue, error, |batch| batch.attempts == 0);
        }
    }

    fn push_completion(&self, queue: &Arc<PartitionQueue>, mut batch: Batch, stored: Stored) {
        if let Some(upto) = stored.sync {
            queue.owes_sync(upto);
        }
        self.line.push(Completion {
            queue: queue.clone(),
            outcomes: stored.outcomes,
            callbacks: std::mem::take(&mut batch.callbacks),
            sync: stored.sync,
            flight: batch.flight.clone(),
            records: match stored.sync {
                Some(_) => Records::Batch(batch),
                None => Records::None,
            },
        });
    }

    /// Appends a batch that is not tried again.
    pub(super) fn store_last(
        &self,
        queue: &Arc<PartitionQueue>,
        state: &mut QueueState,
        mut batch: Batch,
        now_ms: i64,
    ) {
        let stored = self.try_batch(queue, state, &mut batch, now_ms, &Ok(()));
        self.push_completion(queue, batch, stored);
    }

    /// When a batch that failed is tried again; never when `retries` are used up, or the delivery
    /// timeout would be over, or the producer is closed for good.
    fn next_attempt(&self, batch: &Batch, now: Duration) -> Option<Duration> {
        let s = &self.settings;
        if batch.attempts > s.retries {
            return None;
        }
        let at = now.saturating_add(self.backoff(batch.attempts));
        let end = batch.created.saturating_add(s.delivery_timeout);
        // The last attempt is at the end itself.
        (now < end).then_some(at.min(end))
    }

    /// The pause behind an attempt: doubled each time, with a fifth of jitter either way, as the
    /// Java client has it.
    pub(super) fn backoff(&self, attempts: u32) -> Duration {
        let s = &self.settings;
        let doubled = 2u32.saturating_pow(attempts.saturating_sub(1));
        let backoff = s.retry_backoff.saturating_mul(doubled).min(s.retry_backoff_max);
        let jitter = 0.8 + 0.4 * (self.broker.random() % 1024) as f64 / 1024.0;
        backoff.mul_f64(jitter)
    }

    /// The error of a batch that is not tried again.
    fn given_up(&self, batch: &Batch, error: Error, now: Duration) -> Error {
        if now < batch.created.saturating_add(self.settings.delivery_timeout) {
            return error;
        }
        let ms = self.settings.delivery_timeout.as_millis();
        let message = format!("not stored within delivery.timeout.ms={ms}: {}", error.message());
        Error::new(ErrorKind::Timeout, message).with_source(error)
    }
}
