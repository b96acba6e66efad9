//! Batches on their way into a log: how they are numbered, what is tried again, what is taken
//! apart.
//!
//! A batch that is sent once is numbered by the log, under the log's lock. One that may be tried
//! again gets its sequence at the first attempt, under the lock of its queue, and keeps it, so that
//! the log stores it once however often its answer is lost.

use super::batch::{Batch, PartitionQueue, QueueState, metadata_of, refused_batch};
use super::env::ProducerEnv;
use super::future::Outcome;
use super::record::RecordMetadata;
use super::stamper::Stamper;
use crate::config::Acks;
use crate::error::{Error, ErrorKind, Result};
use crate::log::{AppendOptions, Appended, ProducerStamp};
use crate::record::{Codec, RecordInput};
use std::time::Duration;

/// How a batch went.
pub(super) struct Stored {
    pub outcomes: Vec<Outcome>,
    /// The log end that has to be durable before the outcomes hold.
    pub sync: Option<i64>,
    /// The error that may pass, where nothing of the batch is stored.
    pub retriable: Option<Error>,
}

impl Stored {
    pub fn over(outcomes: Vec<Outcome>) -> Stored {
        Stored { outcomes, sync: None, retriable: None }
    }

    /// Makes room for the outcomes of another batch.
    pub fn clear(&mut self, records: usize) {
        self.outcomes.clear();
        self.outcomes.reserve(records);
        (self.sync, self.retriable) = (None, None);
    }
}

/// Where one record was stored. By numbers of their own: the whole of what a log answers would go
/// through memory, from where it is read before it is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    /// -1: with `acks=0` nobody asks where, nor whether.
    offset: i64,
    timestamp: i64,
    /// The answer waits for a sync.
    pub must_sync: bool,
}

impl Placed {
    /// Behind the record.
    pub fn end(&self) -> i64 {
        self.offset + 1
    }

    #[inline(always)]
    fn untold(input: &RecordInput<'_>) -> Placed {
        Placed { offset: -1, timestamp: input.timestamp, must_sync: false }
    }
}

impl From<&Appended> for Placed {
    #[inline(always)]
    fn from(appended: &Appended) -> Placed {
        let (offset, timestamp) = (appended.base_offset, appended.timestamp);
        Placed { offset, timestamp, must_sync: appended.must_sync }
    }
}

/// Appends to logs, with what that takes of a producer: its settings and its stamps.
#[derive(Clone, Copy)]
pub(super) struct Appender<'a> {
    env: &'a ProducerEnv,
    stamper: &'a Stamper,
}

impl<'a> Appender<'a> {
    pub fn new(env: &'a ProducerEnv, stamper: &'a Stamper) -> Appender<'a> {
        Appender { env, stamper }
    }

    /// Appends one record.
    #[inline(always)]
    pub fn append(
        &self,
        queue: &PartitionQueue,
        input: &RecordInput<'_>,
        now_ms: i64,
    ) -> Result<Placed> {
        let options = self.stamper.append_options(self.env, queue, now_ms)?;
        if self.env.settings.codec != Codec::None {
            return self.append_packed(queue, input, options);
        }
        match queue.log.append_on(input, &options) {
            Ok(ref appended) => Ok(self.placed(appended, input)),
            Err(error) => self.append_refused(queue, input, options, error),
        }
    }

    #[inline(always)]
    fn placed(&self, appended: &Appended, input: &RecordInput<'_>) -> Placed {
        match self.env.settings.acks {
            Acks::None => Placed::untold(input),
            _ => Placed::from(appended),
        }
    }

    #[inline(never)]
    fn append_packed(
        &self,
        queue: &PartitionQueue,
        input: &RecordInput<'_>,
        options: AppendOptions,
    ) -> Result<Placed> {
        let s = &self.env.settings;
        match queue.log.append_records(&[*input], s.codec, s.level, options) {
            Ok(appended) => {
                self.env.note_ratio(queue, &appended);
                Ok(self.placed(&appended, input))
            }
            Err(error) => self.append_refused(queue, input, options, error),
        }
    }

    #[cold]
    fn append_refused(
        &self,
        queue: &PartitionQueue,
        input: &RecordInput<'_>,
        options: AppendOptions,
        error: Error,
    ) -> Result<Placed> {
        if self.stamper.is_outdated(options.producer.as_ref(), &error) {
            return self.append(queue, input, options.now_ms);
        }
        let error = replaced_first(queue, options.producer.as_ref(), error);
        self.stamper.note_refusal(options.producer.as_ref(), &error);
        self.env.append_failed(error).map(|()| Placed::untold(input))
    }

    #[inline]
    pub fn metadata(
        &self,
        queue: &PartitionQueue,
        placed: Placed,
        input: &RecordInput<'_>,
    ) -> RecordMetadata {
        RecordMetadata::new(queue.partition, placed.offset, placed.timestamp, input)
    }

    /// Appends a batch, stamped as at the first time. Under the queue's lock, so that sequences are
    /// given in the order of the batches.
    pub fn try_batch(
        &self,
        queue: &PartitionQueue,
        state: &mut QueueState,
        batch: &mut Batch,
        now_ms: i64,
        prepared: &Result<()>,
    ) -> Stored {
        let mut stored = self.try_stamped(queue, state, batch, now_ms, prepared);
        if let Some(error) = &stored.retriable {
            batch.note_failure(error);
        }
        batch.tell_of_attempts(&mut stored.outcomes);
        stored
    }

    fn try_stamped(
        &self,
        queue: &PartitionQueue,
        state: &mut QueueState,
        batch: &mut Batch,
        now_ms: i64,
        prepared: &Result<()>,
    ) -> Stored {
        if let Err(error) = prepared {
            return self.unprepared(queue, batch, error);
        }
        let mut stamp = match batch.stamp {
            Some(stamp) => stamp,
            None => match self.stamper.next_stamp(self.env, queue, state.next_stamp) {
                Ok(Some(stamp)) => stamp,
                Ok(None) => {
                    return batch.with_inputs(|inputs| self.store(queue, inputs, now_ms, None));
                }
                Err(error) => return Stored::over(batch.all_failed(queue, &error)),
            },
        };
        batch.stamp = Some(stamp);
        let stored =
            batch.with_inputs(|inputs| self.store(queue, inputs, now_ms, Some(&mut stamp)));
        match stored.retriable {
            // It may have begun anew.
            Some(_) => batch.stamp = Some(stamp),
            None => state.next_stamp = Some(stamp),
        }
        stored
    }

    /// A batch without an id to stamp it with, or outside of the transaction.
    fn unprepared(&self, queue: &PartitionQueue, batch: &Batch, error: &Error) -> Stored {
        let mut stored = Stored::over(batch.all_failed(queue, error));
        match error.is_retriable() {
            true => stored.retriable = Some(error.clone()),
            false => self.stamper.fail_transaction(error),
        }
        stored
    }

    /// A batch fails that may be stored all the same: its sequences are not used again.
    pub fn leave_unresolved(&self, state: &mut QueueState, batch: &Batch, error: &Error) {
        self.stamper.leave_unresolved(batch.stamp.as_ref(), error);
        state.next_stamp = None;
    }

    /// Appends records of one partition as one batch, or as several where the topic allows
    /// smaller ones only. `stamp` is that of the first record, and becomes that of the record
    /// behind the last one; without it the log gives the sequences.
    pub fn store(
        &self,
        queue: &PartitionQueue,
        records: &[RecordInput<'_>],
        now_ms: i64,
        stamp: Option<&mut ProducerStamp>,
    ) -> Stored {
        let mut stored = Stored::over(Vec::with_capacity(records.len()));
        self.store_part(queue, records, now_ms, stamp, &mut stored);
        stored
    }

    /// One append. `stamp` moves behind the records that were stored.
    ///
    /// # Errors
    /// Those of the log, and of taking an id.
    pub fn append_batch(
        &self,
        queue: &PartitionQueue,
        records: &[RecordInput<'_>],
        now_ms: i64,
        stamp: Option<&mut ProducerStamp>,
    ) -> Result<Appended> {
        let s = &self.env.settings;
        let append = |options| match (records, s.codec) {
            // It is encoded without being measured before.
            ([record], Codec::None) => queue.log.append(record, options),
            _ => queue.log.append_records(records, s.codec, s.level, options),
        };
        let Some(stamp) = stamp else {
            loop {
                let options = self.stamper.append_options(self.env, queue, now_ms)?;
                let stamp = options.producer.as_ref();
                match append(options) {
                    Err(error) if self.stamper.is_outdated(stamp, &error) => {}
                    appended => {
                        return appended.map_err(|error| replaced_first(queue, stamp, error));
                    }
                }
            }
        };
        let stamped =
            |stamp| AppendOptions { producer: Some(stamp), ..AppendOptions::client(now_ms) };
        let refused = |error| replaced_first(queue, Some(&*stamp), error);
        let mut appended = append(stamped(*stamp)).map_err(refused);
        if let Err(error) = &appended
            && error.kind() == ErrorKind::OutOfOrderSequence
            && self.stamper.begin_anew(self.env, stamp)?
        {
            appended = append(stamped(*stamp));
        }
        if appended.is_ok() {
            *stamp = stamp.behind(records.len());
        }
        appended
    }

    /// [`Appender::store`], whose outcomes come behind those that are there.
    pub fn store_part(
        &self,
        queue: &PartitionQueue,
        records: &[RecordInput<'_>],
        now_ms: i64,
        mut stamp: Option<&mut ProducerStamp>,
        stored: &mut Stored,
    ) {
        let outcome = self.append_batch(queue, records, now_ms, stamp.as_deref_mut());
        self.settle(queue, records, now_ms, stamp, outcome, stored);
    }

    /// What became of records that were appended as one batch: a batch that is too large for its
    /// topic is taken apart.
    pub fn settle(
        &self,
        queue: &PartitionQueue,
        records: &[RecordInput<'_>],
        now_ms: i64,
        mut stamp: Option<&mut ProducerStamp>,
        outcome: Result<Appended>,
        stored: &mut Stored,
    ) {
        let s = &self.env.settings;
        let error = match outcome {
            Ok(appended) => {
                self.env.note_ratio(queue, &appended);
                self.stored(queue, records, appended, &mut stored.outcomes);
                if appended.must_sync && s.acks != Acks::None {
                    stored.sync = Some(appended.last_offset + 1);
                }
                return;
            }
            Err(error) => error,
        };
        // Departure: D14. Kafka 4.3 splits for ever when one record alone is too large.
        if error.kind() == ErrorKind::RecordTooLarge && records.len() > 1 {
            queue.ratios.reset(s.codec);
            let (first, second) = records.split_at(records.len() / 2);
            self.store_part(queue, first, now_ms, stamp.as_deref_mut(), stored);
            self.store_part(queue, second, now_ms, stamp, stored);
            return;
        }
        // With `acks=0` a producer does not learn that there is something to try again. As in
        // Kafka, a batch whose answer was lost is stored twice where it has no sequence.
        if stored.outcomes.is_empty() && s.acks != Acks::None && error.is_retriable() {
            stored.retriable = Some(error.clone());
        }
        if stored.retriable.is_none() {
            self.stamper.renumber(self.env, stamp, &error);
            self.stamper.fail_transaction(&error);
        }
        let faulty = matches!(error.kind(), ErrorKind::InvalidTimestamp | ErrorKind::InvalidRecord);
        match self.env.append_failed(error) {
            Ok(()) => stored.outcomes.extend(records.iter().map(|record| {
                Ok(RecordMetadata::new(queue.partition, -1, record.timestamp, record))
            })),
            Err(error) => {
                let fault = |record: &RecordInput<'_>| match faulty {
                    true => {
                        let has_key = record.key.is_some();
                        queue.log.check_record(has_key, record.timestamp, now_ms).err()
                    }
                    false => None,
                };
                stored.outcomes.extend(refused_batch(queue, records, &error, fault));
            }
        }
    }

    /// The outcomes of one appended batch.
    pub fn stored(
        &self,
        queue: &PartitionQueue,
        records: &[RecordInput<'_>],
        appended: Appended,
        outcomes: &mut Vec<Outcome>,
    ) {
        outcomes.extend(self.stored_at(queue, records, appended).map(Ok));
    }

    /// Where the records of one appended batch are.
    #[inline]
    pub fn stored_at(
        self,
        queue: &PartitionQueue,
        records: &[RecordInput<'_>],
        appended: Appended,
    ) -> impl Iterator<Item = RecordMetadata> {
        let known = self.env.settings.acks != Acks::None;
        let base_offset = if known { appended.base_offset } else { -1 };
        let append_time = appended.log_append_time.then_some(appended.timestamp);
        records.iter().enumerate().map(move |(i, record)| {
            let index = if known { i } else { 0 };
            metadata_of(queue, record, base_offset, index, append_time)
        })
    }

    /// When a batch that failed is tried again; never when `retries` are used up, or the delivery
    /// timeout would be over, or the producer is closed for good.
    pub fn next_attempt(&self, batch: &Batch, now: Duration) -> Option<Duration> {
        let s = &self.env.settings;
        if batch.attempts > s.retries {
            return None;
        }
        let at = now.saturating_add(self.env.backoff(batch.attempts));
        let end = batch.created.saturating_add(s.delivery_timeout);
        // The last attempt is at the end itself.
        (now < end).then_some(at.min(end))
    }

    /// The error of a batch that is not tried again.
    pub fn given_up(&self, batch: &Batch, error: Error, now: Duration) -> Error {
        if now < batch.created.saturating_add(self.env.settings.delivery_timeout) {
            return error;
        }
        let ms = self.env.settings.delivery_timeout.as_millis();
        let message = format!("not stored within delivery.timeout.ms={ms}: {}", error.message());
        Error::new(ErrorKind::Timeout, message).with_source(error)
    }
}

/// What a batch of a transaction was refused for. Whoever was replaced is told that, whatever else
/// the batch lacks: a Kafka broker asks the coordinator before it looks at what is in a batch.
#[cold]
fn replaced_first(queue: &PartitionQueue, stamp: Option<&ProducerStamp>, error: Error) -> Error {
    let Some(stamp) = stamp.filter(|stamp| stamp.transactional) else { return error };
    match queue.log.next_sequence(stamp) {
        Err(replaced) if replaced.kind() == ErrorKind::InvalidProducerEpoch => replaced,
        _ => error,
    }
}
