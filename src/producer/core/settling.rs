//! Telling what became of records, waiting for all of them, and the end of a producer: flush,
//! close, and what happens when the last handle goes without one.

use super::ProducerCore;
use crate::error::{Error, ErrorKind, Result};
use crate::producer::completion::{Completion, Next, Records, Turn};
use crate::producer::future::{BatchResult, Unsynced};
use crate::sync::Arc;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

impl ProducerCore {
    /// Works off the line as far as it goes. With `may_sync` this thread leads, or joins, the
    /// syncs that answers wait for; without, they are left to the broker's flusher.
    /// Inside a callback this does nothing: whoever called it goes on behind it.
    pub(in crate::producer) fn run_completions(self: &Arc<Self>, may_sync: bool) {
        self.work_off(may_sync, false);
    }

    /// The same. With `nested` it works inside a callback too, where the callback waits for a
    /// record behind its own (the Java client would wait for ever). A callback that panics ends
    /// nobody else's: its panic goes on behind the line.
    pub(in crate::producer) fn work_off(self: &Arc<Self>, may_sync: bool, nested: bool) {
        let may_sync = may_sync || self.env.clock().is_virtual();
        let mut panic = None;
        while let Some(turn) = self.completions.enter(nested) {
            let waits_for_sync = loop {
                match self.completions.next(may_sync) {
                    Next::One(completion) => {
                        let told = catch_unwind(AssertUnwindSafe(|| completion.complete()));
                        panic = panic.or(told.err());
                    }
                    Next::Empty => break false,
                    Next::WaitsForSync => break true,
                }
            };
            drop(turn);
            if waits_for_sync {
                // Behind the turn: a flusher that finds it taken goes away.
                self.ask_for_sync();
                break;
            }
            // Whoever pushed after the last look, and before the turn was given back, saw it taken.
            if self.completions.is_empty() {
                break;
            }
        }
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Works off the line on a thread of the broker's, which a callback that panics does not end:
    /// other producers depend on it.
    pub(super) fn run_completions_for_others(self: &Arc<Self>, may_sync: bool) {
        self.contain(|| self.run_completions(may_sync));
    }

    /// Runs callbacks where nobody is who could be told of a panic; it is a warning.
    fn contain(&self, callbacks: impl FnOnce()) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(callbacks)) else { return };
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        self.env.broker.warn_once(format!(
            "a callback of producer {} panicked: {}",
            self.env.client_id,
            text.as_deref().unwrap_or("no message")
        ));
    }

    /// Works off the rest of the line, behind a completion that was told directly.
    pub(in crate::producer) fn end_turn(self: &Arc<Self>, turn: Turn<'_>) {
        drop(turn);
        if !self.completions.is_empty() {
            self.run_completions(false);
        }
    }

    /// Has the flusher's thread work off the line, syncs included.
    pub(in crate::producer) fn ask_for_sync(self: &Arc<Self>) {
        if !self.completions.asks_for_sync() {
            return;
        }
        // The task keeps the producer: an answer that was promised is given.
        let producer = self.clone();
        self.env.broker.call_flusher(Box::new(move || {
            producer.completions.begin_sync();
            producer.run_completions_for_others(true);
        }));
    }

    /// # Errors
    /// `Kafka` inside a callback of this producer.
    pub(in crate::producer) fn flush(self: &Arc<Self>) -> Result<()> {
        if self.completions.is_inside() {
            let message = "flush inside a callback of the same producer would wait for itself";
            return Err(Error::new(ErrorKind::Kafka, message));
        }
        self.settle(None);
        Ok(())
    }

    /// Sends what lingers and waits for it until `limit`. Returns whether everything is over.
    pub(in crate::producer) fn settle(self: &Arc<Self>, limit: Option<Duration>) -> bool {
        self.drain_all();
        self.run_completions(true);
        let over = self.accumulator.results().iter().all(|result| result.wait_until(limit));
        for queue in self.queues.all() {
            if let Err(error) = queue.pay_sync() {
                // The futures of the records tell it to those who want to know.
                tracing::warn!(client_id = %self.env.client_id, %error, "a sync failed");
                self.stamper.fail_transaction(&error);
            }
        }
        over
    }

    pub(in crate::producer) fn close(self: &Arc<Self>, timeout: Option<Duration>) {
        let first = self.env.close();
        let timeout = if self.completions.is_inside() { Some(Duration::ZERO) } else { timeout };
        let limit = timeout.map(|timeout| self.env.clock().monotonic().saturating_add(timeout));
        let over = timeout != Some(Duration::ZERO) && {
            let over = self.settle(limit);
            // As the Java client's, a close that had no time leaves what is open to the next
            // producer of the id; another close does not come back to it.
            if first {
                self.abort_at_close(limit);
            }
            over
        };
        if !over {
            let message = "the producer was closed before the record was stored";
            self.abandon(&Error::new(ErrorKind::Kafka, message));
            self.run_completions(true);
        }
        self.accumulator.disarm(&self.env.broker);
        self.stamper.release();
    }

    /// Puts a stored record into the line, for the flusher to sync.
    pub(in crate::producer) fn sync_later(
        self: &Arc<Self>,
        unsynced: Unsynced,
    ) -> Arc<BatchResult> {
        let result = BatchResult::new(Arc::downgrade(self));
        self.completions.push(Completion {
            sync: Some(unsynced.upto()),
            outcomes: vec![Ok(unsynced.metadata)],
            callbacks: Vec::new(),
            records: Records::One(Box::new(unsynced.record)),
            queue: unsynced.queue,
            result: result.clone(),
        });
        self.ask_for_sync();
        result
    }
}

impl Drop for ProducerCore {
    /// What lingers is appended, as the Java client's thread would do it, unless a transaction is
    /// needed for it. Nothing is waited for: a sync is left to the flusher, and a batch that cannot
    /// be stored at once has failed.
    fn drop(&mut self) {
        self.accumulator.disarm(&self.env.broker);
        let now_ms = self.env.clock().coarse_wall_ms();
        for queue in self.queues.all() {
            let mut state = queue.lock();
            for batch in std::mem::take(&mut state.batches) {
                match self.stamper.transactions() {
                    // Nobody is left who could commit it.
                    Some(_) => self.drop_last(&queue, batch),
                    None => self.store_last(&queue, &mut state, batch, now_ms),
                }
            }
        }
        for completion in self.completions.take_all() {
            match completion.waits() {
                true => self.env.broker.call_flusher(Box::new(move || completion.complete())),
                false => self.contain(|| completion.complete()),
            }
        }
    }
}
