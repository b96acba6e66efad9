//! Batches on their way into a log: how they are numbered, what is tried again, what is taken
//! apart.
//!
//! A batch that is sent once is numbered by the log, under the log's lock. One that may be tried
//! again gets its sequence at the first attempt, under the lane's lock, and keeps it, so that the
//! log stores it once however often its answer is lost.

use super::ProducerCore;
use super::batch::{Batch, PartitionQueue, QueueState, refused_batch};
use super::future::Outcome;
use super::identity::Identity;
use super::record::RecordMetadata;
use crate::config::Acks;
use crate::error::{Error, ErrorKind, Result};
use crate::log::{AppendOptions, Appended, ProducerStamp};
use crate::record::RecordInput;

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
}

impl ProducerCore {
    /// Appends a batch, stamped as at the first time. Under the lane's lock, so that sequences are
    /// given in the order of the batches.
    pub(super) fn try_batch(
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
        let Some(identity) = &self.identity else {
            return batch.with_inputs(|inputs| self.store(queue, inputs, now_ms, None));
        };
        let mut stamp = match batch.stamp {
            Some(stamp) => stamp,
            None => match self.next_stamp(identity, queue, state.next_stamp) {
                Ok(stamp) => stamp,
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
            false => self.fail_transaction(error),
        }
        stored
    }

    /// The stamp of a batch that is tried for the first time: behind the last one of the lane, or
    /// the first one of an identity. A name goes on behind what its log has.
    fn next_stamp(
        &self,
        identity: &Identity,
        queue: &PartitionQueue,
        behind: Option<ProducerStamp>,
    ) -> Result<ProducerStamp> {
        let mut stamp = identity.stamp(&self.broker)?;
        stamp.base_sequence = match behind {
            Some(last) if last.producer() == stamp.producer() => last.base_sequence,
            _ if identity.is_named() => queue.log.next_sequence(&stamp)?,
            _ => 0,
        };
        Ok(stamp)
    }

    /// A batch fails that may be stored all the same: its sequences are not used again.
    pub(super) fn leave_unresolved(&self, state: &mut QueueState, batch: &Batch, error: &Error) {
        if let (Some(identity), Some(stamp)) = (&self.identity, &batch.stamp) {
            identity.raise_epoch(stamp);
        }
        state.next_stamp = None;
        match error.kind() {
            ErrorKind::Timeout => self.leave_transaction_unresolved(error),
            _ => self.fail_transaction(error),
        }
    }

    /// Appends records of one partition as one batch, or as several where the topic allows
    /// smaller ones only. `stamp` is that of the first record, and becomes that of the record
    /// behind the last one; without it the log gives the sequences.
    pub(super) fn store(
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
    fn append_batch(
        &self,
        queue: &PartitionQueue,
        records: &[RecordInput<'_>],
        now_ms: i64,
        stamp: Option<&mut ProducerStamp>,
    ) -> Result<Appended> {
        let s = &self.settings;
        let append = |options| queue.log.append_records(records, s.codec, s.level, options);
        let Some(stamp) = stamp else {
            loop {
                let options = self.append_options(queue, now_ms)?;
                match append(options) {
                    Err(error) if self.is_outdated(options.producer.as_ref(), &error) => {}
                    appended => return appended,
                }
            }
        };
        let stamped =
            |stamp| AppendOptions { producer: Some(stamp), ..AppendOptions::client(now_ms) };
        let mut appended = append(stamped(*stamp));
        if let Err(error) = &appended
            && error.kind() == ErrorKind::OutOfOrderSequence
            && let Some(identity) = &self.identity
        {
            // What the log knew of this producer is not what it was sent: it begins anew.
            identity.raise_epoch(stamp);
            let next = identity.stamp(&self.broker)?;
            if next.producer() != stamp.producer() {
                *stamp = ProducerStamp { base_sequence: 0, ..next };
                appended = append(stamped(*stamp));
            }
        }
        if appended.is_ok() {
            *stamp = stamp.behind(records.len());
        }
        appended
    }

    /// What follows a batch that was refused for good begins under another epoch.
    fn renumber(&self, stamp: Option<&mut ProducerStamp>, error: &Error) {
        let Some(identity) = &self.identity else { return };
        let Ok(current) = identity.stamp(&self.broker) else { return };
        let failed = stamp.as_deref().copied().unwrap_or(current);
        self.note_refusal(Some(&failed), error);
        if let Some(stamp) = stamp
            && let Ok(next) = identity.stamp(&self.broker)
            && next.producer() != stamp.producer()
        {
            *stamp = ProducerStamp { base_sequence: 0, ..next };
        }
    }

    fn store_part(
        &self,
        queue: &PartitionQueue,
        records: &[RecordInput<'_>],
        now_ms: i64,
        mut stamp: Option<&mut ProducerStamp>,
        stored: &mut Stored,
    ) {
        let s = &self.settings;
        let error = match self.append_batch(queue, records, now_ms, stamp.as_deref_mut()) {
            Ok(appended) => {
                self.note_ratio(queue, &appended);
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
            self.renumber(stamp, &error);
            self.fail_transaction(&error);
        }
        let faulty = matches!(error.kind(), ErrorKind::InvalidTimestamp | ErrorKind::InvalidRecord);
        match self.append_failed(error) {
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
}
