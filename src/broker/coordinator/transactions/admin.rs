//! The requests of administrators: what is stored of transactional ids, and ending what hangs.

use super::Transactions;
use super::recovery::end_of_hanging;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Arc;
use crate::topic::{TRANSACTIONS_TOPIC, TopicPartition};
use crate::transaction::TransactionValue;
use std::collections::BTreeMap;

#[allow(dead_code, reason = "the seam of transactional producers")]
impl Transactions {
    /// Aborts what a producer has open in one partition, and there alone: its coordinator is not
    /// told, as in Kafka.
    ///
    /// # Errors
    /// `InvalidTxnState` where the partition does not know it, `UnknownTopicOrPartition`, and
    /// those of the append.
    pub fn abort_in(&self, partition: &TopicPartition, producer_id: i64) -> Result<()> {
        let core = &self.0;
        core.owner()?;
        core.settle()?;
        let topic = core.topics.get(partition.topic())?;
        let log = topic.partition(partition.partition())?.log()?.clone();
        let Some(producer_epoch) = log.producer_epoch(producer_id)? else {
            let why = format!("producer id {producer_id} is not known there");
            return Err(Error::new(ErrorKind::InvalidTxnState, why)
                .with_partition(partition.topic(), partition.partition()));
        };
        let marker = end_of_hanging(producer_id, producer_epoch);
        let mut syncs = Vec::new();
        core.append_marker(partition, marker, &mut syncs)?;
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

    /// Every transactional id with what is stored of it, by id; those whose partition could not be
    /// read whole are left out.
    ///
    /// # Errors
    /// Those of loading.
    pub fn list(&self) -> Result<Vec<(Arc<str>, TransactionValue)>> {
        self.look_again()?;
        self.0.transactions.read_told(|transactions, is_whole| {
            let known = transactions.all().filter(|(id, _)| is_whole(id));
            known.map(|(id, value)| (id.clone(), value.clone())).collect()
        })
    }

    /// The partitions of every transaction that is open, or about to end, by producer id.
    ///
    /// # Errors
    /// Those of loading; the damage where not all transactional ids could be read.
    pub fn open_partitions(&self) -> Result<BTreeMap<i64, Vec<TopicPartition>>> {
        self.look_again()?;
        self.0.transactions.read_whole(|transactions| {
            let open = transactions.all().filter(|(_, value)| !value.state.is_idle());
            open.map(|(_, value)| (value.producer_id, value.partitions())).collect()
        })
    }

    /// Beside an owner, which may have made the topic since.
    fn look_again(&self) -> Result<()> {
        self.0.check_open()?;
        self.0.refresh(self.0.topics.get(TRANSACTIONS_TOPIC).is_err()).map(drop)
    }
}
