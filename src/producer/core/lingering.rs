//! Sending later: batches that fill up, are sent when they are due, and are tried again.

use super::ProducerCore;
use crate::error::{Error, ErrorKind, Result};
use crate::producer::batch::{Batch, PartitionQueue, QueueState, batch_charge};
use crate::producer::completion::{Completion, Records};
use crate::producer::future::{BatchResult, Outcome, SendFuture};
use crate::producer::record::size_upper_bound;
use crate::producer::storing::Stored;
use crate::producer::topics::Found;
use crate::record::RecordInput;
use crate::sync::Arc;
use crate::time::{Now, Signal};
use std::collections::VecDeque;
use std::time::Duration;

impl ProducerCore {
    pub(in crate::producer) fn count_sticky(
        &self,
        topic: &Found<'_>,
        bytes: usize,
        batch_open: bool,
    ) {
        topic.sticky.count(bytes, self.env.settings.batch_size, batch_open, topic.count, || {
            self.env.broker.random()
        });
    }

    /// Puts a record into the open batch of its queue, and sends the batch when it is full.
    ///
    /// # Errors
    /// `BufferExhausted` when there was no memory for `max.block.ms`; `IllegalState` when the
    /// producer was closed meanwhile. The callback was not taken then.
    pub(in crate::producer) fn linger(
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

    /// Returns the future, and whether the queue has something to send at once.
    fn enqueue(
        self: &Arc<Self>,
        queue: &Arc<PartitionQueue>,
        input: &RecordInput<'_>,
        callback: &mut Option<impl FnOnce(&Outcome) + Send + 'static>,
    ) -> Result<(SendFuture, bool)> {
        let charge = batch_charge(input, self.env.settings.batch_size);
        let mut reserved = 0;
        loop {
            let mut state = queue.lock();
            // Under the lock that a close drains under: a record is refused, or sent by it.
            if let Err(error) = self.env.check_open().and_then(|()| self.stamper.check_send()) {
                drop(state);
                self.accumulator.release(reserved);
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
                self.accumulator.release(reserved);
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
            let future = SendFuture::batched(batch.result.clone(), index);
            return Ok((future, batch.closed || waiting));
        }
    }

    /// Opens a batch behind the others of the queue.
    fn open_batch(
        self: &Arc<Self>,
        queue: &Arc<PartitionQueue>,
        state: &mut QueueState,
        charge: usize,
    ) {
        if let Some(last) = state.batches.back_mut() {
            last.closed = true;
        }
        let now = self.env.clock().monotonic();
        let due = now.saturating_add(self.env.settings.linger);
        let result = BatchResult::new(Arc::downgrade(self));
        self.accumulator.add_result(&result);
        let ratio = queue.ratios.estimate(self.env.settings.codec);
        state.batches.push_back(Batch::new(charge, ratio, now, due, result));
        self.wake_at(due, queue);
    }

    /// Has a queue looked at when `due` comes.
    fn wake_at(self: &Arc<Self>, due: Duration, queue: &Arc<PartitionQueue>) {
        self.accumulator.wake_at(due, queue);
        self.arm();
    }

    /// Sets the broker's timer to the earliest deadline.
    fn arm(self: &Arc<Self>) {
        let producer = Arc::downgrade(self);
        self.accumulator.arm(&self.env.broker, move |now: Now| {
            if let Some(producer) = producer.upgrade() {
                producer.accumulator.note_fired();
                producer.send_due(now.mono);
                producer.run_completions_for_others(false);
                producer.arm();
            }
        });
    }

    /// Sends every batch that is due at `mono`.
    fn send_due(self: &Arc<Self>, mono: Duration) {
        loop {
            let Some(queue) = self.accumulator.pop_due(mono) else { return };
            if let Some(queue) = queue.upgrade() {
                self.drain(&queue, false);
            }
        }
    }

    /// What a waiter does before it sleeps: sends what is due, tells what is known.
    pub(in crate::producer) fn move_on(self: &Arc<Self>) {
        self.send_due(self.env.clock().monotonic());
        self.work_off(true, true);
    }

    /// Sends records of one partition behind what lingers in it, with all of it.
    pub(in crate::producer) fn linger_group(
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
        let limit = self.env.block_limit();
        let memory = self.env.settings.buffer_memory;
        if self.accumulator.reserve(bytes, memory, None) {
            return Ok(());
        }
        // Somebody waits for memory: every batch is ready.
        self.drain_all();
        self.run_completions(false);
        let signal = Arc::new(Signal::new());
        while !self.accumulator.reserve(bytes, memory, Some(&signal)) {
            let clock = self.env.clock();
            if !clock.park(&signal, Some(limit)) && clock.monotonic() >= limit {
                self.accumulator.stop_waiting(&signal);
                let message = format!(
                    "buffer.memory={memory} stayed full for max.block.ms; what lingers cannot be \
                     stored"
                );
                return Err(Error::new(ErrorKind::BufferExhausted, message));
            }
        }
        Ok(())
    }

    /// Sends the batches of every queue, full or not.
    pub(in crate::producer) fn drain_all(self: &Arc<Self>) {
        for queue in self.queues.all() {
            self.drain(&queue, true);
        }
    }

    /// Appends the batches of a queue that are full or due, with `force` the open one too, in
    /// order. A batch whose error may pass stays first and is tried again later.
    pub(in crate::producer) fn drain(self: &Arc<Self>, queue: &Arc<PartitionQueue>, force: bool) {
        let now = self.env.clock().now();
        let mut released = 0;
        if !queue.is_due(force, now.mono) {
            return;
        }
        let appender = self.appender();
        let (prepared, mut state) = loop {
            let prepared = self.stamper.prepare(&self.env, queue);
            let state = queue.lock();
            if state.batches.is_empty() || self.stamper.is_prepared(queue, &prepared) {
                break (prepared.outcome, state);
            }
        };
        while let Some(batch) = state.batches.front() {
            let ready = force || batch.closed || batch.due <= now.mono;
            if !ready || state.not_before.is_some_and(|until| until > now.mono) {
                break;
            }
            let Some(mut batch) = state.batches.pop_front() else { break };
            // Nothing may join a batch that was tried.
            batch.closed = true;
            batch.attempts += 1;
            let mut stored =
                appender.try_batch(queue, &mut state, &mut batch, now.wall_ms, &prepared);
            if let Some(error) = stored.retriable.take() {
                match appender.next_attempt(&batch, now.mono) {
                    Some(at) => {
                        tracing::warn!(%error, "a batch is tried again later");
                        state.not_before = Some(at);
                        state.batches.push_front(batch);
                        self.wake_at(at, queue);
                        break;
                    }
                    None => {
                        let error = appender.given_up(&batch, error, now.mono);
                        appender.leave_unresolved(&mut state, &batch, &error);
                        stored.outcomes = batch.all_failed(queue, &error);
                    }
                }
            }
            state.not_before = None;
            released += batch.charge;
            self.push_completion(queue, batch, stored);
        }
        drop(state);
        self.accumulator.release(released);
    }

    /// Fails the batches of a queue that `chosen` picks. Returns whether there were any.
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
        self.accumulator.release(released);
        released > 0
    }

    /// Fails everything that is not stored. Returns whether there was anything.
    pub(in crate::producer) fn abandon(&self, error: &Error) -> bool {
        let queues = self.queues.all();
        queues.iter().filter(|queue| self.fail_batches(queue, error, |_| true)).count() > 0
    }

    /// Fails every batch that was not tried.
    pub(in crate::producer) fn abandon_untried(&self, error: &Error) {
        for queue in self.queues.all() {
            self.fail_batches(&queue, error, |batch| batch.attempts == 0);
        }
    }

    fn push_completion(&self, queue: &Arc<PartitionQueue>, mut batch: Batch, stored: Stored) {
        if let Some(upto) = stored.sync {
            queue.owes_sync(upto);
        }
        self.completions.push(Completion {
            queue: queue.clone(),
            outcomes: stored.outcomes,
            callbacks: std::mem::take(&mut batch.callbacks),
            sync: stored.sync,
            result: batch.result.clone(),
            records: match stored.sync {
                Some(_) => Records::Batch(batch),
                None => Records::None,
            },
        });
    }

    /// Fails a batch of a transaction that nobody ends.
    pub(in crate::producer) fn drop_last(&self, queue: &Arc<PartitionQueue>, batch: Batch) {
        let message = "the producer was dropped before the record was sent";
        let error = Error::new(ErrorKind::TransactionAborted, message);
        let outcomes = batch.all_failed(queue, &error);
        self.push_completion(queue, batch, Stored::over(outcomes));
    }

    /// Appends a batch that is not tried again.
    pub(in crate::producer) fn store_last(
        &self,
        queue: &Arc<PartitionQueue>,
        state: &mut QueueState,
        mut batch: Batch,
        now_ms: i64,
    ) {
        let stored = self.appender().try_batch(queue, state, &mut batch, now_ms, &Ok(()));
        self.push_completion(queue, batch, stored);
    }
}
