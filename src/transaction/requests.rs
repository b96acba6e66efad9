//! What producers ask of their coordinator before they end a transaction: who they are, and which
//! partitions take part.

use super::ProducerIdentity;
use super::coordinator::{Transaction, TransactionAppend, TransactionCoordinator};
use super::end::{CLIENT_EPOCH_MAX, EndOfTransaction, ending};
use super::records::TransactionValue;
use super::state::TransactionState;
use crate::coordinator::CoordinatorResult;
use crate::coordinator::wire::STRING_BYTES_MAX;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Now;
use crate::topic::TopicPartition;
use std::sync::Arc;
use std::time::Duration;

/// What InitProducerId is answered with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InitAnswer {
    /// The producer is this; all before it are fenced.
    Ready(ProducerIdentity),
    /// The transaction of the producer before it has to end first. Then it asks again.
    EndFirst(EndOfTransaction),
}

impl TransactionCoordinator {
    /// InitProducerId: the next producer of a transactional id. `fresh_id` gives a producer id that
    /// nobody had.
    ///
    /// Departure: D120. Where a power cut, or a repair, may have taken epochs of its producer id
    /// that partitions still have, the transactional id gets another one; Kafka gives such an
    /// epoch once more.
    ///
    /// # Errors
    /// `InvalidRequest` for an id that is empty or longer than a record's key can say,
    /// `InvalidTransactionTimeout` for none and beyond `transaction.max.timeout.ms`,
    /// `ConcurrentTransactions` while a transaction of this id ends; those of `fresh_id`.
    pub(crate) fn init(
        &mut self,
        id: &str,
        timeout: Duration,
        fresh_id: &mut dyn FnMut() -> Result<i64>,
        now: Now,
    ) -> CoordinatorResult<Result<InitAnswer>, TransactionAppend> {
        match self.next_producer(id, timeout, fresh_id, now) {
            Ok((answer, appends)) => CoordinatorResult { response: Ok(answer), appends },
            Err(error) => CoordinatorResult::done(Err(error)),
        }
    }

    fn next_producer(
        &mut self,
        id: &str,
        timeout: Duration,
        fresh_id: &mut dyn FnMut() -> Result<i64>,
        now: Now,
    ) -> Result<(InitAnswer, Vec<TransactionAppend>)> {
        check_id(id)?;
        let timeout_ms = self.check_timeout(id, timeout)?;
        let value = match self.transactions.get_mut(id) {
            None => first_value(fresh_id()?, timeout_ms, now),
            Some(transaction) if transaction.value.state.is_prepared() => {
                let end = transaction.take_end().ok_or_else(|| ending(id))?;
                return Ok((InitAnswer::EndFirst(end), Vec::new()));
            }
            Some(transaction) if !transaction.value.state.is_idle() => {
                let id = transaction.id.clone();
                let Some((end, append)) = self.transactions.get(&id).map(|t| self.fence(t, now))
                else {
                    return Err(ending(&id));
                };
                return Ok((InitAnswer::EndFirst(end), vec![append]));
            }
            Some(transaction) => {
                let value = &transaction.value;
                let is_lost = value.producer_id < self.distrusted_below;
                let used_up = is_lost || value.producer_epoch >= CLIENT_EPOCH_MAX;
                let next_id = if used_up { Some(fresh_id()?) } else { None };
                transaction.begun(next_id, timeout_ms, now)
            }
        };
        let identity = ProducerIdentity {
            producer_id: value.producer_id,
            producer_epoch: value.producer_epoch,
        };
        let append = self.append(&Arc::from(id), Some(value), false);
        Ok((InitAnswer::Ready(identity), vec![append]))
    }

    fn check_timeout(&self, id: &str, timeout: Duration) -> Result<i32> {
        let ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        if ms > 0 && timeout <= self.config.max_timeout {
            return Ok(ms);
        }
        let limit = self.config.max_timeout.as_millis();
        let why = format!(
            "a transaction.timeout.ms of {ms} is not between 1 and transaction.max.timeout.ms, \
             which is {limit}"
        );
        Err(refusal(ErrorKind::InvalidTransactionTimeout, id, &why))
    }

    /// AddPartitionsToTxn: a partition takes part in the producer's transaction, which begins with
    /// its first one. Nothing is stored for a partition that takes part already.
    ///
    /// # Errors
    /// `InvalidProducerIdMapping` for an id that is not this producer's, `ProducerFenced` for an
    /// epoch that was replaced, `ConcurrentTransactions` while its last transaction ends.
    pub(crate) fn add_partition(
        &self,
        id: &str,
        producer: ProducerIdentity,
        partition: &TopicPartition,
        now: Now,
    ) -> CoordinatorResult<Result<()>, TransactionAppend> {
        let Some(transaction) = self.transactions.get(id) else {
            return CoordinatorResult::done(Err(unknown_id(id)));
        };
        if let Err(error) = check_identity(transaction, producer) {
            return CoordinatorResult::done(Err(error));
        }
        if transaction.value.state.is_prepared() {
            return CoordinatorResult::done(Err(ending(id)));
        }
        match transaction.with_partition(partition, now) {
            Some(value) => {
                let append = self.append(&transaction.id, Some(value), false);
                CoordinatorResult { response: Ok(()), appends: vec![append] }
            }
            None => CoordinatorResult::done(Ok(())),
        }
    }
}

/// What is stored of an id that nobody had.
fn first_value(producer_id: i64, timeout_ms: i32, now: Now) -> TransactionValue {
    TransactionValue {
        producer_id,
        previous_producer_id: producer_id,
        next_producer_id: -1,
        producer_epoch: 0,
        next_producer_epoch: -1,
        timeout_ms,
        state: TransactionState::Empty,
        partitions: Vec::new(),
        last_update_ms: now.wall_ms,
        start_ms: -1,
        client_version: 0,
    }
}

impl Transaction {
    /// What is stored when another producer takes over.
    fn begun(&self, next_id: Option<i64>, timeout_ms: i32, now: Now) -> TransactionValue {
        let value = &self.value;
        TransactionValue {
            producer_id: next_id.unwrap_or(value.producer_id),
            previous_producer_id: value.producer_id,
            next_producer_id: -1,
            producer_epoch: if next_id.is_some() { 0 } else { value.producer_epoch + 1 },
            next_producer_epoch: -1,
            timeout_ms,
            state: TransactionState::Empty,
            partitions: Vec::new(),
            last_update_ms: now.wall_ms,
            start_ms: -1,
            client_version: value.client_version,
        }
    }

    /// What is stored when a partition comes to take part; `None` where it does.
    fn with_partition(&self, added: &TopicPartition, now: Now) -> Option<TransactionValue> {
        let is_open = self.value.state == TransactionState::Ongoing;
        let mut value = TransactionValue {
            state: TransactionState::Ongoing,
            previous_producer_id: self.value.producer_id,
            start_ms: if is_open { self.value.start_ms } else { now.wall_ms },
            last_update_ms: now.wall_ms,
            client_version: 2,
            ..self.value.clone()
        };
        let topic = added.topic_shared();
        match value.partitions.iter_mut().find(|(name, _)| name == topic) {
            Some((_, numbers)) if numbers.contains(&added.partition()) => return None,
            Some((_, numbers)) => numbers.push(added.partition()),
            None => value.partitions.push((topic.clone(), vec![added.partition()])),
        }
        Some(value)
    }
}

/// That a request comes from the present producer of a transactional id.
pub(super) fn check_identity(transaction: &Transaction, producer: ProducerIdentity) -> Result<()> {
    let present = transaction.identity();
    if present.producer_id != producer.producer_id {
        let why = format!(
            "producer id {} is not its own, which is {}; init_transactions again",
            producer.producer_id, present.producer_id
        );
        return Err(refusal(ErrorKind::InvalidProducerIdMapping, &transaction.id, &why));
    }
    if present.producer_epoch != producer.producer_epoch {
        let why = format!(
            "epoch {} of producer {} was replaced by {}",
            producer.producer_epoch, present.producer_id, present.producer_epoch
        );
        return Err(refusal(ErrorKind::ProducerFenced, &transaction.id, &why));
    }
    Ok(())
}

fn check_id(id: &str) -> Result<()> {
    let why = match id.len() {
        0 => "a transactional id has at least one character".to_owned(),
        len if len > STRING_BYTES_MAX => {
            format!("a transactional id has at most {STRING_BYTES_MAX} bytes, not {len}")
        }
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::InvalidRequest, why))
}

/// A refusal that names the transactional id.
pub(super) fn refusal(kind: ErrorKind, id: &str, why: &str) -> Error {
    Error::new(kind, format!("transactional id {id}: {why}"))
}

pub(super) fn unknown_id(id: &str) -> Error {
    let why = "no producer has it; init_transactions first";
    refusal(ErrorKind::InvalidProducerIdMapping, id, why)
}
