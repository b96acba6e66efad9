//! The coordinator of all transactional ids: what it keeps of each, what falls due, and how stored
//! records come true.

use super::ProducerIdentity;
use super::records::{TransactionRecord, TransactionValue};
use super::state::TransactionState;
use crate::coordinator::hash::partition_for;
use crate::coordinator::{CoordinatorResult, CoordinatorShard, EncodedRecords, ShardAppend};
use crate::record::{BatchFault, RecordBatch};
use crate::time::Now;
use crate::topic::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The broker's settings for transactions.
#[derive(Debug, Clone)]
pub(crate) struct TransactionConfig {
    /// `transaction.max.timeout.ms`.
    pub max_timeout: Duration,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`.
    pub check_interval: Duration,
    /// `transactional.id.expiration.ms`.
    pub expiration: Duration,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub expiration_interval: Duration,
    /// How many partitions `__transaction_state` has. At least 1.
    pub topic_partitions: i32,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        TransactionConfig {
            max_timeout: Duration::from_secs(900),
            check_interval: Duration::from_secs(10),
            expiration: Duration::from_secs(7 * 24 * 3600),
            expiration_interval: Duration::from_secs(3600),
            topic_partitions: 50,
        }
    }
}

/// What is kept of one transactional id.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) id: Arc<str>,
    pub(super) value: TransactionValue,
    /// When the open transaction has taken too long, on the monotonic scale.
    pub(super) deadline: Option<Duration>,
    /// Somebody holds its end, and writes the markers.
    pub(super) is_ending: bool,
    /// The partitions that have their marker already, of an end that was given back unfinished.
    pub(super) marked: BTreeSet<TopicPartition>,
}

impl Transaction {
    fn new(id: Arc<str>, value: TransactionValue, now: Now) -> Transaction {
        let deadline = (value.state == TransactionState::Ongoing).then(|| {
            let timeout = i64::from(value.timeout_ms).max(0);
            // A clock that was set back gives it no more time than it asked for.
            let left = value.start_ms.saturating_add(timeout).saturating_sub(now.wall_ms);
            let left = u64::try_from(left.clamp(0, timeout)).unwrap_or(0);
            now.mono.saturating_add(Duration::from_millis(left))
        });
        Transaction { id, value, deadline, is_ending: false, marked: BTreeSet::new() }
    }

    /// Who its producer is.
    pub(super) fn identity(&self) -> ProducerIdentity {
        ProducerIdentity {
            producer_id: self.value.producer_id,
            producer_epoch: self.value.producer_epoch,
        }
    }

    /// Whether it may be looked at by the next check: for its timeout, or for its markers.
    fn wants_checks(&self) -> bool {
        !self.value.state.is_idle()
    }
}

/// The next record of one transactional id.
#[derive(Debug)]
#[must_use = "records have to be stored, and reported with `applied`"]
pub(crate) struct TransactionAppend {
    pub(super) id: Arc<str>,
    /// The partition of `__transaction_state` that it belongs into.
    pub(super) partition: i32,
    pub(super) value: Option<TransactionValue>,
    /// Whoever asked for it goes on to write the markers.
    pub(super) is_ending: bool,
}

impl ShardAppend for TransactionAppend {
    fn partition(&self) -> i32 {
        self.partition
    }

    fn subject(&self) -> String {
        format!("transactional id {}", self.id)
    }

    fn encode(&self, into: &mut EncodedRecords) {
        let (transactional_id, value) = (self.id.clone(), self.value.clone());
        TransactionRecord::State { transactional_id, value }.encode(into);
    }
}

/// Something that happened to a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TransactionEvent {
    /// Its end is decided, and nobody writes the markers.
    Unfinished(Arc<str>),
    /// Its transaction took too long.
    TimedOut(Arc<str>),
    /// It was not used for long, and is forgotten.
    Expired(Arc<str>),
}

/// All transactional ids of a broker.
#[derive(Debug)]
pub(crate) struct TransactionCoordinator {
    pub(super) config: TransactionConfig,
    pub(super) transactions: BTreeMap<Arc<str>, Transaction>,
    /// Producer ids below it have epochs that are not known here.
    pub(super) distrusted_below: i64,
    /// When open transactions are looked at next; `None` while there is nothing to look at.
    next_check: Option<Duration>,
    /// When idle ids are looked at next.
    next_expiry: Option<Duration>,
    pub(super) events: Vec<TransactionEvent>,
}

impl TransactionCoordinator {
    /// A coordinator that knows no transactional id.
    pub(crate) fn new(config: TransactionConfig) -> TransactionCoordinator {
        TransactionCoordinator {
            config,
            transactions: BTreeMap::new(),
            distrusted_below: 0,
            next_check: None,
            next_expiry: None,
            events: Vec::new(),
        }
    }

    /// Every transactional id with what is stored of it, by id.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Arc<str>, &TransactionValue)> {
        self.transactions.values().map(|transaction| (&transaction.id, &transaction.value))
    }

    /// What is stored of a transactional id.
    pub(crate) fn get(&self, id: &str) -> Option<&TransactionValue> {
        self.transactions.get(id).map(|transaction| &transaction.value)
    }

    /// The partitions of its transaction.
    pub(crate) fn partitions(&self, id: &str) -> Vec<TopicPartition> {
        self.get(id).map(TransactionValue::partitions).unwrap_or_default()
    }

    /// Of producer ids below `id` partitions may know later epochs than are stored here: the next
    /// producer of their transactional id gets another one.
    pub(crate) fn distrust_epochs_of_ids_below(&mut self, id: i64) {
        self.distrusted_below = id;
    }

    /// The partitions of `__transaction_state` that keep more than idle ids.
    pub(crate) fn unfinished(&self) -> BTreeSet<i32> {
        let unfinished =
            self.transactions.values().filter(|transaction| transaction.wants_checks());
        unfinished.map(|transaction| self.partition_of(&transaction.id)).collect()
    }

    /// All records of these partitions, which ascend, were replayed: the time that their open
    /// transactions have left begins to run.
    pub(crate) fn begin_life(&mut self, partitions: &[i32], now: Now) {
        let is_loaded =
            |t: &&Transaction| partitions.binary_search(&self.partition_of(&t.id)).is_ok();
        let loaded: Vec<_> = self
            .transactions
            .values()
            .filter(is_loaded)
            .map(|transaction| (transaction.id.clone(), transaction.value.clone()))
            .collect();
        // Some were idle for long already.
        if !loaded.is_empty() {
            let soon = now.mono.saturating_add(self.config.expiration_interval);
            self.next_expiry = Some(self.next_expiry.map_or(soon, |next| next.min(soon)));
        }
        for (id, value) in loaded {
            self.put(id, value, false, now);
        }
    }

    /// Takes over what a record says.
    fn put(&mut self, id: Arc<str>, value: TransactionValue, is_ending: bool, now: Now) {
        let mut transaction = Transaction::new(id.clone(), value, now);
        transaction.is_ending = is_ending;
        if transaction.wants_checks() {
            self.next_check.get_or_insert(now.mono.saturating_add(self.config.check_interval));
        }
        self.next_expiry.get_or_insert(now.mono.saturating_add(self.config.expiration));
        self.transactions.insert(id, transaction);
    }

    /// Applies a stored record.
    pub(super) fn replay(&mut self, record: TransactionRecord) {
        let TransactionRecord::State { transactional_id: id, value } = record else { return };
        match value.filter(|value| value.state != TransactionState::Dead) {
            // Times begin to run with the life.
            Some(mut value) => {
                // It is never stored: whatever it was to become, a transaction is open.
                if value.state == TransactionState::PrepareEpochFence {
                    value.state = TransactionState::Ongoing;
                }
                let transaction = Transaction::new(id.clone(), value, Now::default());
                self.transactions.insert(id, transaction);
            }
            None => {
                self.transactions.remove(&id);
            }
        }
    }

    /// The record that takes a transactional id to its next state.
    pub(super) fn append(
        &self,
        id: &Arc<str>,
        value: Option<TransactionValue>,
        is_ending: bool,
    ) -> TransactionAppend {
        let before = self.transactions.get(id).map(|transaction| transaction.value.state);
        let next = value.as_ref().map_or(TransactionState::Dead, |value| value.state);
        debug_assert!(before.is_none_or(|before| before.can_become(next)), "{before:?} to {next}");
        let partition = partition_for(id, self.config.topic_partitions);
        TransactionAppend { id: id.clone(), partition, value, is_ending }
    }

    /// Aborts what took too long, and has ends that nobody finishes told anew.
    fn check(&mut self, now: Now, appends: &mut Vec<TransactionAppend>) {
        let mut wants_checks = false;
        let mut told = Vec::new();
        for transaction in self.transactions.values() {
            wants_checks |= transaction.wants_checks();
            if transaction.value.state.is_prepared() && !transaction.is_ending {
                told.push(TransactionEvent::Unfinished(transaction.id.clone()));
            }
            if transaction.deadline.is_some_and(|deadline| deadline < now.mono) {
                told.push(TransactionEvent::TimedOut(transaction.id.clone()));
                let aborted = transaction.fenced(now);
                appends.push(self.append(&transaction.id, Some(aborted), false));
            }
        }
        self.events.append(&mut told);
        let next = now.mono.saturating_add(self.config.check_interval);
        self.next_check = wants_checks.then_some(next);
    }

    /// Forgets ids that were not used for long.
    fn expire_ids(&mut self, now: Now, appends: &mut Vec<TransactionAppend>) {
        let expiration = i64::try_from(self.config.expiration.as_millis()).unwrap_or(i64::MAX);
        let mut next: Option<i64> = None;
        let mut told = Vec::new();
        for transaction in self.transactions.values() {
            let value = &transaction.value;
            let left = value.last_update_ms.saturating_add(expiration).saturating_sub(now.wall_ms);
            if value.state.is_idle() && left <= 0 {
                told.push(TransactionEvent::Expired(transaction.id.clone()));
                appends.push(self.append(&transaction.id, None, false));
            }
            next = Some(next.map_or(left, |next| next.min(left)));
        }
        self.events.append(&mut told);
        self.next_expiry = next.map(|left| {
            let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
            now.mono.saturating_add(left.max(self.config.expiration_interval))
        });
    }
}

impl CoordinatorShard for TransactionCoordinator {
    type Append = TransactionAppend;
    type Event = TransactionEvent;

    fn partition_of(&self, id: &str) -> i32 {
        partition_for(id, self.config.topic_partitions)
    }

    fn state_of(&self, partition: i32) -> Vec<TransactionAppend> {
        let kept = self.transactions.values().filter(|t| self.partition_of(&t.id) == partition);
        kept.map(|transaction| TransactionAppend {
            id: transaction.id.clone(),
            partition,
            value: Some(transaction.value.clone()),
            is_ending: false,
        })
        .collect()
    }

    fn replay_batch(
        &mut self,
        _: i32,
        batch: &RecordBatch<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<Vec<(i64, String)>, BatchFault> {
        let mut unreadable = Vec::new();
        if batch.control()?.is_some() {
            return Ok(unreadable);
        }
        for record in batch.records(scratch)? {
            let record = record?;
            match TransactionRecord::decode(record.key().unwrap_or_default(), record.value()) {
                Ok(read) => self.replay(read),
                Err(fault) => unreadable.push((record.offset(), fault.to_string())),
            }
        }
        Ok(unreadable)
    }

    fn applied(&mut self, append: TransactionAppend, _: i64, now: Now) {
        let Some(value) = append.value else {
            self.transactions.remove(&append.id);
            return;
        };
        if value.state.is_prepared() && !append.is_ending {
            self.events.push(TransactionEvent::Unfinished(append.id.clone()));
        }
        self.put(append.id, value, append.is_ending, now);
    }

    /// Else what is open by it would be aborted, and what is decided be ended, in a transaction
    /// that went on behind the damage.
    fn drop_damaged(&mut self, partition: i32) {
        let partitions = self.config.topic_partitions;
        self.transactions.retain(|id, _| partition_for(id, partitions) != partition);
    }

    fn next_deadline(&self) -> Option<Duration> {
        match (self.next_check, self.next_expiry) {
            (Some(check), Some(expiry)) => Some(check.min(expiry)),
            (check, expiry) => check.or(expiry),
        }
    }

    fn expire(&mut self, now: Now) -> CoordinatorResult<(), TransactionAppend> {
        let mut appends = Vec::new();
        if self.next_check.is_some_and(|due| due <= now.mono) {
            self.check(now, &mut appends);
        }
        if self.next_expiry.is_some_and(|due| due <= now.mono) {
            self.expire_ids(now, &mut appends);
        }
        CoordinatorResult { response: (), appends }
    }

    /// Nobody waits for a transactional id: whoever ends a transaction writes its markers.
    fn take_moved(&mut self) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn take_events(&mut self) -> Vec<TransactionEvent> {
        std::mem::take(&mut self.events)
    }
}
