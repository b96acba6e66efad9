//! What all parts of a producer use: its broker, its settings, its name, and whether it is closed.

use super::batch::PartitionQueue;
use super::record::size_upper_bound;
use super::topics::missing_topic;
use crate::broker::BrokerInner;
use crate::config::{Acks, ProducerSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::log::Appended;
use crate::probe::Point;
use crate::record::RecordInput;
use crate::sync::{Arc, AtomicBool, Ordering};
use crate::time::{Clock, Signal};
use std::time::Duration;

/// See the module. Of all this only `closed` changes, once.
pub(super) struct ProducerEnv {
    pub broker: Arc<BrokerInner>,
    pub settings: ProducerSettings,
    pub client_id: String,
    closed: AtomicBool,
}

impl ProducerEnv {
    pub fn new(broker: Arc<BrokerInner>, settings: ProducerSettings) -> ProducerEnv {
        // The Java client counts in a process; a number of the broker's seed repeats with it.
        let client_id = settings.client_id.clone();
        let client_id = client_id.unwrap_or_else(|| match &settings.transactional_id {
            Some(id) => format!("producer-{id}"),
            None => format!("producer-{}", broker.random() >> 40),
        });
        ProducerEnv { broker, settings, client_id, closed: AtomicBool::new(false) }
    }

    pub fn clock(&self) -> &Clock {
        self.broker.clock()
    }

    /// # Errors
    /// `IllegalState` after a close; that of a broker that is closed.
    #[inline]
    pub fn check_open(&self) -> Result<()> {
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

    /// From here on nothing is sent. Returns whether it is the first close.
    pub fn close(&self) -> bool {
        // Release: pairs with the Acquire in `check_open`. Whoever sees it open under the lock of
        // a queue is ahead of the draining that follows. Acquire: behind another close.
        !self.closed.swap(true, Ordering::AcqRel)
    }

    /// The size of a record against the limits of the client.
    ///
    /// # Errors
    /// `RecordTooLarge`.
    #[inline]
    pub fn check_size(&self, record: &RecordInput<'_>) -> Result<usize> {
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

    /// Waits where a test wants a send to wait, before any lock is taken.
    #[inline]
    pub fn pause(&self, queue: &PartitionQueue) -> Result<()> {
        let probe = self.broker.probe();
        match probe.is_on() {
            true => probe.pause(Point::Append { topic: &queue.topic, partition: queue.partition }),
            false => Ok(()),
        }
    }

    /// Learns from a batch how well the topic's batches compress.
    pub fn note_ratio(&self, queue: &PartitionQueue, appended: &Appended) {
        if let Some(ratio) = appended.ratio {
            queue.ratios.observe(self.settings.codec, ratio);
        }
    }

    /// What a producer makes of an error of the log.
    ///
    /// # Errors
    /// The error, unless `acks=0` says that nobody wants to know.
    #[cold]
    pub fn append_failed(&self, error: Error) -> Result<()> {
        let error = missing_topic(error);
        if self.settings.acks == Acks::None && !is_thrown(&error) {
            tracing::warn!(client_id = %self.client_id, %error, "a record with acks=0 is lost");
            return Ok(());
        }
        Err(error)
    }

    /// The pause behind an attempt: doubled each time, with a fifth of jitter either way, and never
    /// above `retry.backoff.max.ms`. A first pause that is at the limit has no jitter. Source:
    /// Kafka, `ExponentialBackoff`.
    pub fn backoff(&self, attempts: u32) -> Duration {
        let s = &self.settings;
        let (first, limit) = (s.retry_backoff, s.retry_backoff_max);
        if first >= limit {
            return limit;
        }
        let doubled = 2u32.saturating_pow(attempts.saturating_sub(1));
        let jitter = 0.8 + 0.4 * (self.broker.random() % 1024) as f64 / 1024.0;
        first.saturating_mul(doubled).min(limit).mul_f64(jitter).min(limit)
    }

    /// When `max.block.ms` is over for a call that begins at this moment.
    pub fn block_limit(&self) -> Duration {
        self.clock().monotonic().saturating_add(self.settings.max_block)
    }

    /// Repeats a call that fails in a way that may pass, with the pauses of a send, until `limit`.
    ///
    /// # Errors
    /// `Timeout`; every error of the call that does not pass.
    pub fn repeat<T>(&self, limit: Duration, mut call: impl FnMut() -> Result<T>) -> Result<T> {
        let mut attempts = 0;
        loop {
            let error = match call() {
                Err(error) if error.is_retriable() => error,
                outcome => return outcome,
            };
            let now = self.clock().monotonic();
            if now >= limit {
                let ms = self.settings.max_block.as_millis();
                let message = format!("not done within max.block.ms={ms}: {}", error.message());
                return Err(Error::new(ErrorKind::Timeout, message).with_source(error));
            }
            attempts += 1;
            let at = now.saturating_add(self.backoff(attempts)).min(limit);
            self.clock().park(&Arc::new(Signal::new()), Some(at));
        }
    }
}

/// Whether an error is the call's fault, and not the topic's or its log's.
#[inline]
pub(super) fn is_thrown(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Closed | ErrorKind::IllegalState | ErrorKind::IllegalArgument | ErrorKind::Kafka
    )
}
