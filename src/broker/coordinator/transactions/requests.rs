//! The requests of producers: an identity, partitions, offsets, and an end.

use super::Transactions;
use super::markers::Lock;
use crate::broker::coordinator::steps::About;
use crate::broker::core::BrokerCore;
use crate::coordinator::{CoordinatorResult, TransactionStamp};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::group::{MemberRef, OffsetToCommit, PartitionOutcomes};
use crate::probe::TransactionStep;
use crate::storage::planted::{Planted, planted};
use crate::time::Now;
use crate::topic::{OFFSETS_TOPIC, TopicPartition};
use crate::transaction::{
    EndAnswer, EndOfTransaction, InitAnswer, ProducerIdentity, TransactionAppend,
    TransactionCoordinator, TransactionState, TransactionValue,
};
use std::time::Duration;

#[allow(dead_code, reason = "the seam of transactional producers")]
impl Transactions {
    /// InitProducerId: who the next producer of a transactional id is. Those before it are fenced,
    /// and what they left open is aborted.
    ///
    /// # Errors
    /// Those of [`TransactionCoordinator::init`], of the appends and of the markers.
    pub fn init(&self, transactional_id: &str, timeout: Duration) -> Result<ProducerIdentity> {
        let core = &self.0;
        core.transactions_topic()?;
        if planted(Planted::EpochReused)
            && let Ok(value) = self.describe(transactional_id)
        {
            let TransactionValue { producer_id, producer_epoch, .. } = value;
            return Ok(ProducerIdentity { producer_id, producer_epoch });
        }
        loop {
            // What is open is aborted first, and the epoch raised by the next turn.
            let step = match core.probe.is_on() && self.is_open(transactional_id)? {
                true => TransactionStep::Prepare,
                false => TransactionStep::Init,
            };
            let mut fresh_id = || core.new_producer_id();
            let answer = core.decide(step, transactional_id, |transactions, now| {
                let result = transactions.init(transactional_id, timeout, &mut fresh_id, now);
                let end = match &result.response {
                    Ok(InitAnswer::EndFirst(end)) => Some(end.clone()),
                    _ => None,
                };
                (result, end)
            })?;
            match answer {
                InitAnswer::Ready(identity) => {
                    core.probe.note(|| Event::ProducerInitialized {
                        transactional_id: transactional_id.into(),
                        producer_epoch: identity.producer_epoch,
                    });
                    return Ok(identity);
                }
                InitAnswer::EndFirst(end) => {
                    core.note_decided(&end);
                    core.finish(&end)?;
                }
            }
        }
    }

    fn is_open(&self, transactional_id: &str) -> Result<bool> {
        self.0.transactions.read_of(transactional_id, |transactions, _| {
            let value = transactions.get(transactional_id);
            Ok(value.is_some_and(|value| value.state == TransactionState::Ongoing))
        })
    }

    /// AddPartitionsToTxn, before the first record of a transaction in a partition. As a partition
    /// leader has it, a stale epoch is `InvalidProducerEpoch`.
    ///
    /// # Durability
    /// With the first partition that is durable at each append, that the transaction is open is
    /// durable, too.
    ///
    /// # Errors
    /// Those of [`TransactionCoordinator::add_partition`], and of the append.
    pub fn add_partition(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        partition: &TopicPartition,
    ) -> Result<()> {
        let (step, about) = (TransactionStep::AddPartition, About::partition(partition));
        let added = self.0.step(step, transactional_id, about, || {
            self.add(transactional_id, producer, partition)
        });
        added.map_err(|error| match error.kind() {
            ErrorKind::ProducerFenced => {
                Error::new(ErrorKind::InvalidProducerEpoch, error.message())
                    .with_partition(partition.topic(), partition.partition())
                    .with_source(error)
            }
            _ => error,
        })?;
        self.0.probe.note(|| Event::PartitionAdded {
            transactional_id: transactional_id.into(),
            partition: partition.clone(),
        });
        Ok(())
    }

    fn add(&self, id: &str, producer: ProducerIdentity, partition: &TopicPartition) -> Result<()> {
        let core = &self.0;
        core.transactions_topic()?;
        let waits = |partitions: &[TopicPartition]| {
            core.logs_of(partitions).iter().any(|log| log.waits_for_sync())
        };
        let is_durable = waits(std::slice::from_ref(partition));
        let mut before = Vec::new();
        core.transactions.write_of(id, |transactions, now| {
            if is_durable {
                before = transactions.partitions(id);
            }
            transactions.add_partition(id, producer, partition, now)
        })??;
        if is_durable && !waits(&before) {
            // Else a power cut could keep records and markers of an epoch that nobody knows of: the
            // next producer would have it again, and its records would be taken for those.
            core.flush_transaction(id)?;
        }
        Ok(())
    }

    /// AddOffsetsToTxn and TxnOffsetCommit, one outcome a partition: the offsets of a group are
    /// committed with the transaction. Until it ends they are pending.
    ///
    /// # Errors
    /// Those of [`TransactionCoordinator::add_partition`], `InvalidGroupId`, those of
    /// [`GroupCoordinator::commit_in_transaction`](crate::group::GroupCoordinator), and of the
    /// appends.
    pub fn commit_offsets(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        member: &MemberRef,
        offsets: &[OffsetToCommit],
    ) -> Result<PartitionOutcomes> {
        let core = &self.0;
        if member.group_id.is_empty() {
            let why = "offsets are committed in the name of a group";
            return Err(Error::new(ErrorKind::InvalidGroupId, why));
        }
        core.transactions_topic()?;
        core.offsets_topic()?;
        let number = core.groups.partition_of(&member.group_id)?;
        let partition = TopicPartition::new(OFFSETS_TOPIC, number);
        // What takes no offsets takes no marker either, and must not join.
        core.groups.read_of(&member.group_id, |_, _| Ok(()))?;
        for log in core.logs_of(std::slice::from_ref(&partition)) {
            log.check_takes_appends()?;
        }
        let about = About { partition: Some(&partition), group: Some(&member.group_id) };
        core.step(TransactionStep::AddOffsets, transactional_id, about, || {
            self.add(transactional_id, producer, &partition)
        })?;
        let stamp = TransactionStamp {
            producer_id: producer.producer_id,
            producer_epoch: producer.producer_epoch,
        };
        let shape = |name: &str| core.topic_shape(name);
        if planted(Planted::PendingOffsetsVisible) {
            return core.groups.write_of(&member.group_id, |groups, now| {
                groups.commit(member, offsets, &shape, now)
            })?;
        }
        let about = About::group(&member.group_id);
        let outcomes =
            core.step(TransactionStep::CommitOffsets, transactional_id, about, || {
                core.groups.write_of(&member.group_id, |groups, now| {
                    groups.commit_in_transaction(member, stamp, offsets, &shape, now)
                })?
            })?;
        core.probe.note(|| Event::OffsetsPending {
            transactional_id: transactional_id.into(),
            group: member.group_id.clone(),
        });
        Ok(outcomes)
    }

    /// EndTxn: commits or aborts, and answers when the markers are written. Who the producer is
    /// for its next transaction.
    ///
    /// # Durability
    /// Where a partition of a committed transaction is durable at each append, the whole
    /// transaction is when this returns, and no power cut leaves a part of it.
    ///
    /// # Errors
    /// Those of [`TransactionCoordinator::end`], of the appends and syncs; `TransactionAbortable`
    /// where a sync of its records failed before it was decided. An error of a marker leaves the
    /// end decided: the same call goes on with it.
    pub fn end(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        commit: bool,
    ) -> Result<ProducerIdentity> {
        let core = &self.0;
        core.transactions_topic()?;
        if commit {
            let partitions = core.transactions.read_of(transactional_id, |transactions, _| {
                Ok(transactions.partitions(transactional_id))
            })?;
            core.make_records_durable(&partitions).map_err(not_committed)?;
            if planted(Planted::MarkersBeforeDecision) {
                let end = EndOfTransaction {
                    transactional_id: transactional_id.into(),
                    producer: ProducerIdentity {
                        producer_epoch: producer.producer_epoch.saturating_add(1),
                        ..producer
                    },
                    committed: true,
                    transaction_version: 2,
                    partitions,
                };
                core.write_markers(&end, &mut Vec::new(), Lock::Free)?;
            }
        }
        match self.decide_end(transactional_id, producer, commit)? {
            EndAnswer::Ended(next) => Ok(next),
            EndAnswer::Decided(end, next) if planted(Planted::AnswerBeforeMarkers) => {
                let given_back =
                    core.transactions.write_of(transactional_id, |t, now| t.marked(&end, &[], now));
                given_back.map(|()| next)
            }
            EndAnswer::Decided(end, next) => core.finish(&end).map(|()| next),
        }
    }

    fn decide_end(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        commit: bool,
    ) -> Result<EndAnswer> {
        let core = &self.0;
        let mut fresh_id = || core.new_producer_id();
        let step = TransactionStep::Prepare;
        let answer = core.decide(step, transactional_id, |transactions, now| {
            let result = transactions.end(transactional_id, producer, commit, &mut fresh_id, now);
            let end = match &result.response {
                Ok(EndAnswer::Decided(end, _)) => Some(end.clone()),
                _ => None,
            };
            (result, end)
        })?;
        if let EndAnswer::Decided(end, _) = &answer {
            core.note_decided(end);
        }
        Ok(answer)
    }
}

impl BrokerCore {
    /// Runs a handler that may take the end of a transaction. Where its answer is lost, to an
    /// error of the append or of a sync, the end is given back.
    fn decide<R>(
        &self,
        step: TransactionStep,
        id: &str,
        handler: impl FnOnce(&mut TransactionCoordinator, Now) -> Deciding<R>,
    ) -> Result<R> {
        let mut taken = None;
        let outcome = self.step(step, id, About::default(), || {
            self.transactions.write_of(id, |transactions, now| {
                let (result, end) = handler(transactions, now);
                taken = end;
                result
            })?
        });
        if let (Err(_), Some(end)) = (&outcome, &taken) {
            self.transactions.write_of(id, |t, now| t.marked(end, &[], now))?;
        }
        outcome
    }

    /// Has what a transaction stored survive a power cut before its commit is decided, where one
    /// of its partitions is durable at each append. Else a part of it could be lost that a durable
    /// decision commits.
    fn make_records_durable(&self, partitions: &[TopicPartition]) -> Result<()> {
        let logs = self.logs_of(partitions);
        if logs.iter().any(|log| log.waits_for_sync()) {
            for log in &logs {
                log.make_durable(log.log_end_offset()?)?;
            }
        }
        Ok(())
    }
}

/// A sync of what a transaction stored failed for good, so that nothing was decided.
fn not_committed(error: Error) -> Error {
    if error.is_retriable() {
        return error;
    }
    let why = "what was sent may not survive a power cut, so that it is not committed";
    Error::new(ErrorKind::TransactionAbortable, why).with_source(error)
}

/// What a handler answers, and the end that it gave out with the answer.
type Deciding<R> = (CoordinatorResult<Result<R>, TransactionAppend>, Option<EndOfTransaction>);
