//! The end of a transaction that is decided: its markers, and the record that it is complete.

use crate::broker::coordinator::steps::About;
use crate::broker::core::BrokerCore;
use crate::coordinator::hash::partition_for;
use crate::error::{Error, ErrorKind, Result};
use crate::log::{Log, Marker};
use crate::probe::TransactionStep;
use crate::record::ControlType;
use crate::storage::planted::{Planted, planted};
use crate::sync::Arc;
use crate::topic::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC, TopicPartition};
use crate::transaction::EndOfTransaction;

/// Whether the coordinator's lock is held, so that nobody may be made to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    Free,
    Held,
}

impl BrokerCore {
    /// Writes the markers of a transaction that is decided, and then that it is complete.
    ///
    /// # Errors
    /// The first one. What has its marker has it; the end stays decided, and is there to be taken
    /// again.
    pub(super) fn finish(&self, end: &EndOfTransaction) -> Result<()> {
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
    ///
    /// Departure: D121. So does one that has failed, and has nothing of the transaction; in Kafka
    /// the marker waits until the partition is back.
    pub(super) fn write_markers(
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
            let noted = written.map(|()| self.note_marked(end, partition));
            match noted.or_else(|error| self.without_marker(end, partition, error)) {
                Ok(()) => marked.push(partition.clone()),
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

    /// Whether the end needs no marker in a partition that did not take it.
    ///
    /// # Errors
    /// The refusal, where it does.
    fn without_marker(
        &self,
        end: &EndOfTransaction,
        partition: &TopicPartition,
        refusal: Error,
    ) -> Result<()> {
        let id = &end.transactional_id;
        let logs = self.logs_of(std::slice::from_ref(partition));
        let why = match refusal.kind() {
            // It was deleted, and its records with it.
            ErrorKind::UnknownTopicOrPartition => return Ok(()),
            // Its producer went on there, which it does behind the marker only: a power cut took
            // back what is known of the transactions after this one.
            ErrorKind::InvalidProducerEpoch => {
                format!(
                    "{partition} has a later transaction of transactional id {id} than is known"
                )
            }
            // It failed before anything of the transaction was stored there, and until the
            // directory is opened again nothing more will be.
            _ if logs.iter().any(|log| log.has_failed_without(end.producer.producer_id)) => {
                format!(
                    "{partition} takes no marker of transactional id {id}, and has nothing of its \
                     transaction"
                )
            }
            _ => return Err(refusal),
        };
        self.health.warn(format!("{why}: {refusal}"));
        Ok(())
    }

    pub(super) fn write_marker(
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
        self.append_marker(partition, marker, syncs)
    }

    /// Writes a marker, whatever lies there.
    pub(super) fn append_marker(
        &self,
        partition: &TopicPartition,
        marker: Marker,
        syncs: &mut Vec<(Arc<Log>, i64)>,
    ) -> Result<()> {
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
    pub(super) fn flush_transaction(&self, id: &str) -> Result<()> {
        let number = partition_for(id, self.topics.get(TRANSACTIONS_TOPIC)?.partition_count());
        for log in self.logs_of(&[TopicPartition::new(TRANSACTIONS_TOPIC, number)]) {
            log.make_durable(log.log_end_offset()?)?;
        }
        Ok(())
    }
}
