//! The requests of transactional producers and administrators, and the running of markers.
//!
//! A commit goes in this order: what its partitions have is durable, where their settings want
//! that; the prepare record, which decides; the markers; the complete record. Whoever decides an
//! end writes its markers on the same thread, and answers when they are written. An end whose
//! markers could not be written stays decided: the next request of its id, the next check or the
//! next life goes on with it.

use super::runtime::Settling;
use super::steps::About;
use super::writer::{InternalTopic, PendingSync};
use crate::broker::core::BrokerCore;
use crate::broker::topics::Topic;
use crate::broker::topics::partition::Partition;
use crate::config::TopicConfig;
use crate::coordinator::hash::partition_for;
use crate::coordinator::{CoordinatorResult, TransactionStamp};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::group::{MemberRef, OffsetToCommit, PartitionOutcomes};
use crate::log::{Log, Marker};
use crate::probe::TransactionStep;
use crate::record::ControlType;
use crate::storage::planted::{Planted, planted};
use crate::sync::Arc;
use crate::time::Now;
use crate::topic::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC, TopicPartition};
use crate::transaction::{
    EndAnswer, EndOfTransaction, InitAnswer, ProducerIdentity, TransactionAppend,
    TransactionCoordinator, TransactionState, TransactionValue,
};
use std::time::Duration;

/// Transactions, as producers and administrators use them.
#[derive(Debug, Clone)]
pub(crate) struct Transactions(Arc<BrokerCore>);

#[allow(dead_code, reason = "the seam of transactional producers")]
impl Transactions {
    pub(in crate::broker) fn new(shared: Arc<BrokerCore>) -> Transactions {
        Transactions(shared)
    }

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

    /// Aborts what a producer has open in one partition, and there alone: its coordinator is not
    /// told, as in Kafka.
    ///
    /// # Errors
    /// `InvalidTxnState` where it has nothing open there, `UnknownTopicOrPartition`, and those of
    /// the append.
    pub fn abort_in(&self, partition: &TopicPartition, producer_id: i64) -> Result<()> {
        let core = &self.0;
        core.owner()?;
        core.settle()?;
        let topic = core.topics.get(partition.topic())?;
        let log = topic.partition(partition.partition())?.log()?.clone();
        let Some(producer_epoch) = log.open_transaction(producer_id)? else {
            let why = format!("producer id {producer_id} has no transaction open there");
            return Err(Error::new(ErrorKind::InvalidTxnState, why)
                .with_partition(partition.topic(), partition.partition()));
        };
        let marker = end_of_hanging(producer_id, producer_epoch);
        let mut syncs = Vec::new();
        core.write_marker(partition, marker, &mut syncs)?;
        syncs.into_iter().try_for_each(|(log, upto)| log.make_durable(upto))
    }

    /// What is stored of a transactional id.
    ///
    /// # Errors
    /// `TransactionalIdNotFound`, and those of loading.
    pub fn describe(&self, transactional_id: &str) -> Result<TransactionValue> {
        self.look_again()?;
        self.0.transactions.read_of(transactional_id, |transactions, _| {
            transactions.get(transactional_id).cloned().ok_or_else(|| {
                let why = format!("no transactional id {transactional_id}");
                Error::new(ErrorKind::TransactionalIdNotFound, why)
            })
        })
    }

    /// Every transactional id with what is stored of it, by id.
    ///
    /// # Errors
    /// Those of loading.
    pub fn list(&self) -> Result<Vec<(Arc<str>, TransactionValue)>> {
        self.look_again()?;
        self.0.transactions.read(|transactions, _| {
            transactions.all().map(|(id, value)| (id.clone(), value.clone())).collect()
        })
    }

    /// Beside an owner, which may have made the topic since.
    fn look_again(&self) -> Result<()> {
        self.0.check_open()?;
        self.0.refresh(self.0.topics.get(TRANSACTIONS_TOPIC).is_err()).map(drop)
    }
}

impl BrokerCore {
    /// The topic of transactional ids, made if it is missing.
    fn transactions_topic(&self) -> Result<()> {
        self.owner()?;
        self.settle()?;
        if self.topics.get(TRANSACTIONS_TOPIC).is_ok() {
            return Ok(());
        }
        let partitions = self.config.transactions_topic_partitions();
        let config = TopicConfig::of_transactions_topic(&self.config);
        self.internal_topic(TRANSACTIONS_TOPIC, partitions, config).map(drop)
    }

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

    /// The logs of those partitions that exist.
    fn logs_of(&self, partitions: &[TopicPartition]) -> Vec<Arc<Log>> {
        let log = |partition: &TopicPartition| {
            let topic = self.topics.get(partition.topic()).ok()?;
            match topic.partition(partition.partition()) {
                Ok(Partition::Live(log)) => Some(log),
                _ => None,
            }
        };
        partitions.iter().filter_map(log).collect()
    }

    /// Writes the markers of a transaction that is decided, and then that it is complete.
    ///
    /// # Errors
    /// The first one. What has its marker has it; the end stays decided, and is there to be taken
    /// again.
    fn finish(&self, end: &EndOfTransaction) -> Result<()> {
        let mut marked = Vec::new();
        let written = self.write_markers(end, &mut marked, Lock::Free);
        let give_back = |marked: &[TopicPartition]| {
            self.transactions.write_of(&end.transactional_id, |t, now| t.marked(end, marked, now))
        };
        if let Err(error) = written {
            give_back(&marked)?;
            return Err(error);
        }
        let mut tried = false;
        let step = TransactionStep::Complete;
        let outcome = self.step(step, &end.transactional_id, About::default(), || {
            tried = true;
            give_back(&marked)?;
            self.note_ended(end);
            if self.is_durable(end) {
                // Else a power cut could bring the decision back without it, and the markers of a
                // second life would end the transaction after this one.
                self.flush_transaction(&end.transactional_id)?;
            }
            Ok(())
        });
        if !tried {
            give_back(&[])?;
        }
        outcome
    }

    /// Whether no power cut may leave a part of a transaction that is committed.
    fn is_durable(&self, end: &EndOfTransaction) -> bool {
        end.committed && self.logs_of(&end.partitions).iter().any(|log| log.waits_for_sync())
    }

    /// Goes on with an end that nobody holds; what fails is told.
    pub(in crate::broker) fn finish_unfinished(&self, id: &str) {
        let outcome = self.owner().and_then(|_| {
            let end = self.transactions.read_of(id, |t, _| Ok(t.take_end(id)))?;
            end.map_or(Ok(()), |end| self.finish(&end))
        });
        match outcome {
            Err(error) if error.kind() != ErrorKind::Closed => self.health.warn_once(format!(
                "the transaction of transactional id {id} is decided, and not all of its \
                 partitions can be told: {error}"
            )),
            _ => {}
        }
    }

    /// Writes markers, one a partition; those that have one afterwards are added to `marked`.
    ///
    /// Departure: D106. A partition that refuses one, as its producer has a later transaction open
    /// there, counts as marked; in Kafka the transaction stays prepared.
    fn write_markers(
        &self,
        end: &EndOfTransaction,
        marked: &mut Vec<TopicPartition>,
        lock: Lock,
    ) -> Result<()> {
        let is_durable = self.is_durable(end);
        if is_durable {
            // Else a power cut could keep a marker and lose the decision.
            self.flush_transaction(&end.transactional_id)?;
        }
        let marker = Marker {
            producer_id: end.producer.producer_id,
            producer_epoch: end.producer.producer_epoch,
            kind: if end.committed { ControlType::Commit } else { ControlType::Abort },
            coordinator_epoch: 0,
            transaction_version: end.transaction_version,
        };
        let mut outcome = Ok(());
        let mut syncs = Vec::new();
        for (number, partition) in end.partitions.iter().enumerate() {
            if !end.committed && number > 0 && planted(Planted::AbortForgetsPartition) {
                marked.push(partition.clone());
                continue;
            }
            let (id, about) = (&end.transactional_id, About::partition(partition));
            let write = || self.write_marker(partition, marker, &mut syncs);
            let written = match lock {
                Lock::Free => self.step(TransactionStep::Marker, id, about, write),
                Lock::Held => self.locked_step(TransactionStep::Marker, id, about, write),
            };
            match written {
                Ok(()) => {
                    self.note_marked(end, partition);
                    marked.push(partition.clone());
                }
                // It was deleted, and its records with it.
                Err(error) if error.kind() == ErrorKind::UnknownTopicOrPartition => {
                    marked.push(partition.clone());
                }
                // Its producer went on there, which it does behind the marker only: a power cut
                // took back what is known of the transactions after this one.
                Err(error) if error.kind() == ErrorKind::InvalidProducerEpoch => {
                    self.health.warn(format!(
                        "{partition} has a later transaction of transactional id {} than is \
                         known: {error}",
                        end.transactional_id
                    ));
                    marked.push(partition.clone());
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        for (log, upto) in syncs {
            outcome = outcome.and(log.make_durable(upto));
        }
        if is_durable {
            // Else a power cut could keep the complete record, and lose a marker that nobody writes
            // again.
            for log in self.logs_of(&end.partitions) {
                outcome = outcome.and(log.log_end_offset().and_then(|end| log.make_durable(end)));
            }
        }
        if outcome.is_err() && is_durable {
            marked.clear();
        }
        outcome
    }

    fn write_marker(
        &self,
        partition: &TopicPartition,
        marker: Marker,
        syncs: &mut Vec<(Arc<Log>, i64)>,
    ) -> Result<()> {
        // Whoever wrote it did not come to tell. A second one would do no harm, as in Kafka.
        if let Some(log) = self.logs_of(std::slice::from_ref(partition)).pop()
            && log.has_marker(&marker)?
        {
            if log.waits_for_sync() {
                let end = log.log_end_offset()?;
                syncs.push((log, end));
            }
            return Ok(());
        }
        if partition.topic() == OFFSETS_TOPIC {
            return self.groups.mark(partition.partition(), marker);
        }
        let topic = self.topics.get(partition.topic())?;
        let log = topic.partition(partition.partition())?.log()?.clone();
        let appended = log.append_marker(marker, self.clock.now().wall_ms)?;
        if appended.must_sync {
            syncs.push((log, appended.last_offset + 1));
        }
        Ok(())
    }

    /// Makes durable what is stored of a transactional id. The coordinator's lock may be held.
    fn flush_transaction(&self, id: &str) -> Result<()> {
        let number = partition_for(id, self.topics.get(TRANSACTIONS_TOPIC)?.partition_count());
        for log in self.logs_of(&[TopicPartition::new(TRANSACTIONS_TOPIC, number)]) {
            log.make_durable(log.log_end_offset()?)?;
        }
        Ok(())
    }

    /// Before anything is appended to any log of this life: what others would be misled by is
    /// stored, durably.
    ///
    /// # Errors
    /// Those of [`BrokerCore::settle_groups`] and [`BrokerCore::settle_transactions`].
    pub(in crate::broker) fn settle(&self) -> Result<()> {
        self.settle_groups()?;
        self.settle_transactions()?;
        match self.topics.get(OFFSETS_TOPIC) {
            Ok(topic) => self.end_hanging(&topic),
            Err(_) => Ok(()),
        }
    }

    /// What a crash left is put in order before it can look like what a clean stop left.
    ///
    /// # Errors
    /// As [`BrokerCore::settle`].
    pub(in crate::broker) fn settle_before_close(&self) -> Result<()> {
        self.settle_groups()?;
        match &self.owner {
            Some(owner) if owner.life.ended().is_unclean() => {
                self.settle_transactions()?;
                self.topics.all().iter().try_for_each(|topic| self.end_hanging(topic))
            }
            _ => Ok(()),
        }
    }

    /// After an unclean stop, before the first append to a topic: what is open in its partitions
    /// and what no transactional id knows of is aborted. The record of the transaction was lost,
    /// and its producer is gone.
    ///
    /// # Errors
    /// Those of opening the partitions. One that takes no marker is none, and is told.
    pub(in crate::broker) fn end_hanging(&self, topic: &Topic) -> Result<()> {
        let is_unclean = self.owner.as_ref().is_some_and(|owner| owner.life.ended().is_unclean());
        if !is_unclean {
            return Ok(());
        }
        topic.settle(|| {
            if **topic.name() == *OFFSETS_TOPIC {
                return self.end_hanging_offsets();
            }
            for number in 0..topic.partition_count() {
                let Partition::Live(log) = topic.partition(number)? else { continue };
                // What is damaged tells whoever uses it.
                let Ok(open) = log.open_transactions() else { continue };
                let place = TopicPartition::new(topic.name().clone(), number);
                for (producer_id, producer_epoch) in open {
                    self.abort_hanging(&place, producer_id, producer_epoch);
                }
            }
            Ok(())
        })
    }

    fn abort_hanging(&self, place: &TopicPartition, producer_id: i64, producer_epoch: i16) {
        if self.is_known(place, producer_id, producer_epoch) {
            return;
        }
        let marker = end_of_hanging(producer_id, producer_epoch);
        match self.write_marker(place, marker, &mut Vec::new()) {
            Ok(()) => self.health.warn(format!(
                "what producer id {producer_id} left open in {place} is aborted: no transactional \
                 id knows of it"
            )),
            Err(error) => self.health.warn(format!(
                "what producer id {producer_id} left open in {place} cannot be aborted: {error}"
            )),
        }
    }

    /// Whether what a producer has open in a partition is of a transaction that is known: its end
    /// is decided, and its marker could not be written so far, or this life began it. One of
    /// another epoch than that has nothing to do with it.
    fn is_known(&self, place: &TopicPartition, producer_id: i64, producer_epoch: i16) -> bool {
        let known = self.transactions.read(|transactions, _| {
            transactions.all().any(|(_, value)| {
                value.producer_id == producer_id
                    && (value.state.is_prepared() || value.producer_epoch == producer_epoch)
                    && value.partitions().contains(place)
            })
        });
        known.unwrap_or(true)
    }

    /// Ends that are decided are made known to their partitions. After an unclean stop, what is
    /// open is aborted: its producer is gone for certain. What a clean stop left open has until
    /// its timeout.
    ///
    /// Departure: D7. Kafka waits for the timeout also after a crash.
    ///
    /// # Errors
    /// Those of loading the transactional ids and of storing their records. A partition that
    /// takes no marker is no error: its transaction stays decided, and is tried again.
    fn settle_transactions(&self) -> Result<()> {
        self.transactions.settle(|settling| {
            let owner = self.owner()?;
            let now = settling.now();
            let mut ends: Vec<EndOfTransaction> = Vec::new();
            let mut fenced = Vec::new();
            let ids: Vec<Arc<str>> = settling.shard().all().map(|(id, _)| id.clone()).collect();
            for id in &ids {
                ends.extend(settling.shard().take_end(id));
                if owner.life.ended().is_unclean()
                    && let Some((end, append)) = settling.shard().abort_open(id, now)
                {
                    fenced.push((end, append));
                }
            }
            let outcome = self.fence_all(settling, fenced, &mut ends);
            if outcome.is_err() {
                // Else nobody could finish them in this life.
                for end in &ends {
                    let _owed = settling.shard().marked(end, &[], now);
                }
                return outcome;
            }
            let mut completes = Vec::new();
            for end in &ends {
                let mut marked = Vec::new();
                if let Err(error) = self.write_markers(end, &mut marked, Lock::Held) {
                    self.health.warn(format!(
                        "the transaction of transactional id {} is not ended everywhere: {error}",
                        end.transactional_id
                    ));
                }
                let appends = settling.shard().marked(end, &marked, now).appends;
                if !appends.is_empty() {
                    completes.push((end.clone(), appends));
                }
            }
            let mut syncs = Vec::new();
            for (end, appends) in completes {
                let (id, about) = (&end.transactional_id, About::default());
                self.locked_step(TransactionStep::Complete, id, about, || {
                    settling.append(appends, &mut syncs)?;
                    self.note_ended(&end);
                    Ok(())
                })?;
            }
            syncs.into_iter().try_for_each(PendingSync::wait)
        })
    }

    /// Stores that transactions are aborted, durably, and adds their ends to `ends`.
    fn fence_all(
        &self,
        settling: &mut Settling<'_, TransactionCoordinator, InternalTopic>,
        fenced: Vec<(EndOfTransaction, TransactionAppend)>,
        ends: &mut Vec<EndOfTransaction>,
    ) -> Result<()> {
        let mut syncs = Vec::new();
        for (end, append) in fenced {
            let (id, about) = (&end.transactional_id, About::default());
            let step = TransactionStep::Prepare;
            let stored =
                self.locked_step(step, id, about, || settling.append(Some(append), &mut syncs));
            self.note_decided(&end);
            ends.push(end);
            stored?;
        }
        syncs.into_iter().try_for_each(PendingSync::wait)
    }

    /// As [`BrokerCore::end_hanging`], of offsets that are pending in groups.
    fn end_hanging_offsets(&self) -> Result<()> {
        for (number, producer_id) in self.groups.read(|groups, _| groups.open_transactions())? {
            let place = TopicPartition::new(OFFSETS_TOPIC, number);
            let epoch = match self.logs_of(std::slice::from_ref(&place)).first() {
                Some(log) => log.open_transaction(producer_id)?.unwrap_or(0),
                None => continue,
            };
            self.abort_hanging(&place, producer_id, epoch);
        }
        Ok(())
    }
}

/// Whether the coordinator's lock is held, so that nobody may be made to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    Free,
    Held,
}

/// The marker that ends what no coordinator knows of: it has the epoch of what is open, as that of
/// Kafka's administrator.
fn end_of_hanging(producer_id: i64, producer_epoch: i16) -> Marker {
    Marker {
        producer_id,
        producer_epoch,
        kind: ControlType::Abort,
        coordinator_epoch: 0,
        transaction_version: 0,
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
