//! What an earlier life left of its transactions: ends that are decided are gone on with, and what
//! nobody can end any more is aborted.

use super::markers::Lock;
use crate::broker::coordinator::runtime::{Scope, Settling};
use crate::broker::coordinator::steps::About;
use crate::broker::coordinator::writer::{InternalTopic, PendingSync};
use crate::broker::core::BrokerCore;
use crate::broker::topics::Topic;
use crate::broker::topics::partition::Partition;
use crate::error::Result;
use crate::log::Marker;
use crate::probe::TransactionStep;
use crate::record::ControlType;
use crate::storage::planted::{Planted, planted};
use crate::sync::Arc;
use crate::topic::{OFFSETS_TOPIC, TopicPartition};
use crate::transaction::{EndOfTransaction, TransactionAppend, TransactionCoordinator};
use std::collections::BTreeSet;

impl BrokerCore {
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
        match self.is_known(place, producer_id, producer_epoch) {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                return self.health.warn(format!(
                    "what producer id {producer_id} left open in {place} stays open: whether it \
                     was committed cannot be known: {error}"
                ));
            }
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
    ///
    /// # Errors
    /// Those of loading, and the damage of a partition of `__transaction_state`: it may be decided
    /// behind that, and committed elsewhere.
    fn is_known(
        &self,
        place: &TopicPartition,
        producer_id: i64,
        producer_epoch: i16,
    ) -> Result<bool> {
        self.transactions.read_whole(|transactions| {
            transactions.all().any(|(_, value)| {
                value.producer_id == producer_id
                    && (value.state.is_prepared() || value.producer_epoch == producer_epoch)
                    && value.partitions().contains(place)
            })
        })
    }

    /// Ends that are decided are made known to their partitions. After an unclean stop, what is
    /// open is aborted: its producer is gone for certain. What a clean stop left open has until
    /// its timeout, and it said in which partitions of `__transaction_state` there is any: the
    /// others are read when somebody asks for what they keep.
    ///
    /// Departure: D7. Kafka waits for the timeout also after a crash.
    ///
    /// # Errors
    /// Those of loading the transactional ids and of storing their records. A partition that
    /// takes no marker is no error: its transaction stays decided, and is tried again.
    fn settle_transactions(&self) -> Result<()> {
        let left = self.owner.as_ref().and_then(|owner| owner.life.left_unfinished());
        self.transactions.settle(left.map_or(Scope::All, Scope::Partitions), |settling| {
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

    /// The partitions of `__transaction_state` that the next life has to read before its first
    /// append; `before` are those of this one. `None` for all of them.
    pub(in crate::broker) fn unfinished_transactions(
        &self,
        before: Option<&BTreeSet<i32>>,
    ) -> Option<BTreeSet<i32>> {
        if planted(Planted::UnfinishedForgotten) {
            return Some(BTreeSet::new());
        }
        self.transactions.unfinished(before, TransactionCoordinator::unfinished)
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

/// The marker that ends what no coordinator knows of: it has the epoch of what is open, as that of
/// Kafka's administrator.
pub(super) fn end_of_hanging(producer_id: i64, producer_epoch: i16) -> Marker {
    Marker {
        producer_id,
        producer_epoch,
        kind: ControlType::Abort,
        coordinator_epoch: 0,
        transaction_version: 0,
    }
}
