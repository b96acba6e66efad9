//! Flush, close, and what happens when the last handle goes without one.

use super::ProducerCore;
use super::completion::{Completion, Records};
use super::future::{BatchResult, Unsynced};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, Ordering};
use std::time::Duration;

impl ProducerCore {
    /// # Errors
    /// `Kafka` inside a callback of this producer.
    pub(super) fn flush(self: &Arc<Self>) -> Result<()> {
        if self.line.is_inside() {
            let message = "flush inside a callback of the same producer would wait for itself";
            return Err(Error::new(ErrorKind::Kafka, message));
        }
        self.settle(None);
        Ok(())
    }

    /// Sends what lingers and waits for it until `limit`. Returns whether everything is over.
    pub(super) fn settle(self: &Arc<Self>, limit: Option<Duration>) -> bool {
        self.drain_all();
        self.run_completions(true);
        let over = self.flights().iter().all(|flight| flight.wait_until(limit));
        for queue in self.queues.all() {
            if let Err(error) = queue.pay_sync() {
                // The futures of the records tell it to those who want to know.
                tracing::warn!(client_id = %self.client_id, %error, "a sync failed");
                self.fail_transaction(&error);
            }
        }
        over
    }

    pub(super) fn close(self: &Arc<Self>, timeout: Option<Duration>) {
        // Release: pairs with the Acquire in `check_open`. Whoever sees it open under a lane's
        // lock is ahead of the draining below.
        self.closed.store(true, Ordering::Release);
        let timeout = if self.line.is_inside() { Some(Duration::ZERO) } else { timeout };
        let limit = timeout.map(|timeout| self.clock().monotonic().saturating_add(timeout));
        let over = timeout != Some(Duration::ZERO) && {
            let over = self.settle(limit);
            self.abort_at_close(limit);
            over
        };
        if !over {
            let message = "the producer was closed before the record was stored";
            self.abandon(&Error::new(ErrorKind::Kafka, message));
            self.run_completions(true);
        }
        self.disarm();
        if let Some(identity) = &self.identity {
            identity.release();
        }
    }

    /// Puts a stored record into the line, for the flusher to sync.
    pub(super) fn sync_later(self: &Arc<Self>, unsynced: Unsynced) -> Arc<BatchResult> {
        let flight = BatchResult::new(Arc::downgrade(self));
        self.line.push(Completion {
            sync: Some(unsynced.upto()),
            outcomes: vec![Ok(unsynced.metadata)],
            callbacks: Vec::new(),
            records: Records::One(Box::new(unsynced.record)),
            queue: unsynced.queue,
            flight: flight.clone(),
        });
        self.ask_for_sync();
        flight
    }
}

impl Drop for ProducerCore {
    /// What lingers is appended, as the Java client's thread would do it. Nothing is waited for:
    /// a sync is left to the flusher, and a batch that cannot be stored at once has failed.
    fn drop(&mut self) {
        self.disarm();
        let now_ms = self.clock().coarse_wall_ms();
        for queue in self.queues.all() {
            let mut state = queue.lock();
            for batch in std::mem::take(&mut state.batches) {
                self.store_last(&queue, &mut state, batch, now_ms);
            }
        }
        for completion in self.line.take_all() {
            match completion.waits() {
                true => self.broker.call_flusher(Box::new(move || completion.complete())),
                false => self.contain(|| completion.complete()),
            }
        }
    }
}
