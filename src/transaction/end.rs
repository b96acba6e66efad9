//! How a transaction ends: the decision, who writes its markers, and what is told of it then.

use super::ProducerIdentity;
use super::coordinator::{Transaction, TransactionAppend, TransactionCoordinator};
use super::records::TransactionValue;
use super::requests::{check_identity, refusal, unknown_id};
use super::state::TransactionState;
use crate::coordinator::CoordinatorResult;
use crate::error::{ErrorKind, Result};
use crate::time::Now;
use crate::topic::TopicPartition;
use std::sync::Arc;

/// The highest epoch that a client is given; the one above it is for the markers of its last
/// transaction.
pub(super) const CLIENT_EPOCH_MAX: i16 = i16::MAX - 1;

/// The end of a transaction that is decided, to be made known to its partitions. There is one at a
/// time of a transactional id; whoever has it writes the markers and gives it back with
/// [`TransactionCoordinator::marked`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndOfTransaction {
    pub transactional_id: Arc<str>,
    /// Whose transaction it was, under the epoch of the markers.
    pub producer: ProducerIdentity,
    pub committed: bool,
    /// As its producer had it: from 2 on its markers have a higher epoch than its records.
    pub transaction_version: i16,
    /// The partitions that lack their marker.
    pub partitions: Vec<TopicPartition>,
}

/// What EndTxn is answered with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EndAnswer {
    /// It ended before. The producer goes on as this.
    Ended(ProducerIdentity),
    /// It is decided. The producer goes on as this once the markers are written.
    Decided(EndOfTransaction, ProducerIdentity),
}

impl Transaction {
    /// What is stored when an open transaction is aborted for its producer, which has a stale epoch
    /// from then on.
    pub(super) fn fenced(&self, now: Now) -> TransactionValue {
        TransactionValue {
            state: TransactionState::PrepareAbort,
            producer_epoch: self.value.producer_epoch.saturating_add(1),
            previous_producer_id: self.value.producer_id,
            last_update_ms: now.wall_ms,
            ..self.value.clone()
        }
    }

    /// What is stored when its producer ends a transaction.
    fn prepared(&self, committed: bool, next_producer_id: i64, now: Now) -> TransactionValue {
        let value = &self.value;
        // Where nothing was added, nobody knows when it began.
        let was_open = value.state == TransactionState::Ongoing;
        TransactionValue {
            state: match committed {
                true => TransactionState::PrepareCommit,
                false => TransactionState::PrepareAbort,
            },
            producer_epoch: value.producer_epoch.saturating_add(1),
            previous_producer_id: value.producer_id,
            next_producer_id,
            start_ms: if was_open { value.start_ms } else { now.wall_ms },
            last_update_ms: now.wall_ms,
            client_version: 2,
            ..value.clone()
        }
    }

    /// What is stored when all markers are written.
    fn completed(&self, now: Now) -> TransactionValue {
        let value = &self.value;
        let next = after_end(value);
        TransactionValue {
            state: match value.state {
                TransactionState::PrepareCommit => TransactionState::CompleteCommit,
                _ => TransactionState::CompleteAbort,
            },
            producer_id: next.producer_id,
            producer_epoch: next.producer_epoch,
            previous_producer_id: value.producer_id,
            next_producer_id: -1,
            next_producer_epoch: -1,
            partitions: Vec::new(),
            last_update_ms: now.wall_ms,
            ..value.clone()
        }
    }

    /// What is left to be done of its end.
    fn end(&self, value: &TransactionValue) -> EndOfTransaction {
        let mut lacking = value.partitions();
        lacking.retain(|partition| !self.marked.contains(partition));
        EndOfTransaction {
            transactional_id: self.id.clone(),
            producer: ProducerIdentity {
                producer_id: value.producer_id,
                producer_epoch: value.producer_epoch,
            },
            committed: value.state == TransactionState::PrepareCommit,
            transaction_version: value.client_version,
            partitions: lacking,
        }
    }

    /// Takes the end of a prepared transaction, where nobody has it.
    pub(super) fn take_end(&mut self) -> Option<EndOfTransaction> {
        if self.is_ending || !self.value.state.is_prepared() {
            return None;
        }
        self.is_ending = true;
        Some(self.end(&self.value))
    }
}

/// Who the producer is once a prepared transaction is complete.
fn after_end(value: &TransactionValue) -> ProducerIdentity {
    match value.next_producer_id {
        -1 => ProducerIdentity {
            producer_id: value.producer_id,
            producer_epoch: value.producer_epoch,
        },
        next => ProducerIdentity { producer_id: next, producer_epoch: 0 },
    }
}

impl TransactionCoordinator {
    /// EndTxn: commits or aborts. A request that is repeated, because its answer was lost, is
    /// answered as the first one. `fresh_id` gives a producer id that nobody had; it is asked where
    /// the epochs of the present one are used up.
    ///
    /// # Errors
    /// `InvalidProducerIdMapping` for an id that is not this producer's, `ProducerFenced` for an
    /// epoch that was replaced, `InvalidTxnState` where there is no transaction to commit or it
    /// ended the other way, `ConcurrentTransactions` while it ends already; those of `fresh_id`.
    pub(crate) fn end(
        &mut self,
        id: &str,
        producer: ProducerIdentity,
        commit: bool,
        fresh_id: &mut dyn FnMut() -> Result<i64>,
        now: Now,
    ) -> CoordinatorResult<Result<EndAnswer>, TransactionAppend> {
        match self.decide(id, producer, commit, fresh_id, now) {
            Ok((answer, appends)) => CoordinatorResult { response: Ok(answer), appends },
            Err(error) => CoordinatorResult::done(Err(error)),
        }
    }

    fn decide(
        &mut self,
        id: &str,
        producer: ProducerIdentity,
        commit: bool,
        fresh_id: &mut dyn FnMut() -> Result<i64>,
        now: Now,
    ) -> Result<(EndAnswer, Vec<TransactionAppend>)> {
        let transaction = self.transactions.get_mut(id).ok_or_else(|| unknown_id(id))?;
        let state = transaction.value.state;
        let is_repeated = is_repeated(&transaction.value, producer);
        let decided = match state {
            TransactionState::PrepareCommit | TransactionState::CompleteCommit => Some(true),
            TransactionState::PrepareAbort | TransactionState::CompleteAbort => Some(false),
            _ => None,
        };
        // Where nothing was decided, an epoch before this one is that of a producer that was
        // replaced, and no repetition.
        if !is_repeated || decided.is_none() {
            check_identity(transaction, producer)?;
        }
        if is_repeated && decided.is_some() {
            if decided != Some(commit) {
                return Err(not_now(id, commit, state));
            }
            let next = after_end(&transaction.value);
            if !state.is_prepared() {
                return Ok((EndAnswer::Ended(next), Vec::new()));
            }
            let end = transaction.take_end().ok_or_else(|| ending(id))?;
            return Ok((EndAnswer::Decided(end, next), Vec::new()));
        }
        if state.is_prepared() {
            // Its producer is known by the epoch before this one.
            return Err(refusal(ErrorKind::ProducerFenced, id, "its epoch was replaced"));
        }
        if commit && state != TransactionState::Ongoing {
            return Err(not_now(id, commit, state));
        }
        let used_up = transaction.value.producer_epoch >= CLIENT_EPOCH_MAX;
        let next_id = if used_up { fresh_id()? } else { -1 };
        let value = transaction.prepared(commit, next_id, now);
        let answer = EndAnswer::Decided(transaction.end(&value), after_end(&value));
        let id = transaction.id.clone();
        Ok((answer, vec![self.append(&id, Some(value), true)]))
    }

    /// Aborts an open transaction for its producer, and takes its end.
    pub(super) fn fence(
        &self,
        transaction: &Transaction,
        now: Now,
    ) -> (EndOfTransaction, TransactionAppend) {
        let value = transaction.fenced(now);
        let end = transaction.end(&value);
        (end, self.append(&transaction.id, Some(value), true))
    }

    /// As [`TransactionCoordinator::fence`], for what is open when a life begins: its producer is
    /// gone. `None` where nothing is.
    pub(crate) fn abort_open(
        &self,
        id: &str,
        now: Now,
    ) -> Option<(EndOfTransaction, TransactionAppend)> {
        let transaction = self.transactions.get(id)?;
        let is_open = transaction.value.state == TransactionState::Ongoing;
        is_open.then(|| self.fence(transaction, now))
    }

    /// Takes the end of a transaction that is decided and that nobody finishes.
    pub(crate) fn take_end(&mut self, id: &str) -> Option<EndOfTransaction> {
        self.transactions.get_mut(id)?.take_end()
    }

    /// The markers of an end were written into the partitions of `marked`. With all of them written
    /// the transaction is complete; else its end is there to be taken again.
    pub(crate) fn marked(
        &mut self,
        end: &EndOfTransaction,
        marked: &[TopicPartition],
        now: Now,
    ) -> CoordinatorResult<(), TransactionAppend> {
        let id = &end.transactional_id;
        let Some(transaction) = self.transactions.get_mut(id) else {
            return CoordinatorResult::done(());
        };
        // Should the record that follows be lost, the end is not.
        transaction.is_ending = false;
        if transaction.identity() != end.producer || !transaction.value.state.is_prepared() {
            return CoordinatorResult::done(());
        }
        transaction.marked.extend(marked.iter().cloned());
        if !transaction.end(&transaction.value).partitions.is_empty() {
            return CoordinatorResult::done(());
        }
        let value = transaction.completed(now);
        CoordinatorResult { response: (), appends: vec![self.append(id, Some(value), false)] }
    }
}

/// Whether a producer asks for the end of a transaction that it asked to end before: the epoch was
/// raised then, or the producer id changed with the last of its epochs.
fn is_repeated(value: &TransactionValue, producer: ProducerIdentity) -> bool {
    let same_id = value.producer_id == producer.producer_id;
    let raised = producer.producer_epoch.checked_add(1) == Some(value.producer_epoch);
    let changed = value.previous_producer_id == producer.producer_id
        && producer.producer_epoch == CLIENT_EPOCH_MAX
        && value.producer_epoch == 0;
    (same_id && raised) || (!same_id && changed)
}

fn not_now(id: &str, commit: bool, state: TransactionState) -> crate::error::Error {
    let verb = if commit { "commit" } else { "abort" };
    refusal(ErrorKind::InvalidTxnState, id, &format!("there is nothing to {verb}: it is {state}"))
}

pub(super) fn ending(id: &str) -> crate::error::Error {
    let why = "its transaction is ending; call again";
    refusal(ErrorKind::ConcurrentTransactions, id, why)
}
