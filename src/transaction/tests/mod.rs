//! Behaviours of the transactions' coordinator, under a clock stepped by hand and a log that can
//! refuse.

mod ends;
mod records;
mod requests;
mod times;

use super::*;
use crate::coordinator::{CoordinatorResult, CoordinatorShard};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Now;
use crate::topic::TopicPartition;
use std::sync::Arc;
use std::time::Duration;

pub(super) const START_MS: i64 = 1_800_000_000_000;
pub(super) const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn tp(partition: &str) -> TopicPartition {
    TopicPartition::parse(partition).unwrap()
}

pub(super) fn producer(producer_id: i64, producer_epoch: i16) -> ProducerIdentity {
    ProducerIdentity { producer_id, producer_epoch }
}

/// Of `__transaction_state`.
pub(super) fn all_partitions() -> Vec<i32> {
    (0..TransactionConfig::default().topic_partitions).collect()
}

#[track_caller]
pub(super) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// A coordinator, its clock, its log and the producer ids that were given.
pub(super) struct World {
    pub(super) shard: TransactionCoordinator,
    pub(super) now: Now,
    pub(super) log: Vec<TransactionRecord>,
    /// Appends fail.
    pub(super) refuse: bool,
    pub(super) next_id: i64,
}

impl World {
    pub(super) fn new() -> World {
        World {
            shard: TransactionCoordinator::new(TransactionConfig::default()),
            now: Now { wall_ms: START_MS, mono: Duration::from_secs(100) },
            log: Vec::new(),
            refuse: false,
            next_id: 0,
        }
    }

    /// Stores what a handler gave, as the runtime does.
    fn store<R>(&mut self, result: CoordinatorResult<Result<R>, TransactionAppend>) -> Result<R> {
        for append in result.appends {
            if self.refuse {
                return Err(Error::new(ErrorKind::StorageFull, "no space left"));
            }
            let (transactional_id, value) = (append.id.clone(), append.value.clone());
            self.log.push(TransactionRecord::State { transactional_id, value });
            self.shard.applied(append, 0, self.now);
        }
        result.response
    }

    pub(super) fn init(&mut self, id: &str) -> Result<InitAnswer> {
        let next_id = &mut self.next_id;
        let mut fresh_id = || {
            *next_id += 1;
            Ok(*next_id - 1)
        };
        let result = self.shard.init(id, MINUTE, &mut fresh_id, self.now);
        self.store(result)
    }

    /// A producer that nobody was before.
    pub(super) fn fresh(&mut self, id: &str) -> ProducerIdentity {
        match self.init(id).unwrap() {
            InitAnswer::Ready(identity) => identity,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn add(&mut self, id: &str, who: ProducerIdentity, to: &str) -> Result<()> {
        let result = self.shard.add_partition(id, who, &tp(to), self.now);
        self.store(result)
    }

    pub(super) fn end(
        &mut self,
        id: &str,
        who: ProducerIdentity,
        commit: bool,
    ) -> Result<EndAnswer> {
        let next_id = &mut self.next_id;
        let mut fresh_id = || {
            *next_id += 1;
            Ok(*next_id - 1)
        };
        let result = self.shard.end(id, who, commit, &mut fresh_id, self.now);
        self.store(result)
    }

    /// All markers of an end are written.
    pub(super) fn finish(&mut self, end: &EndOfTransaction) {
        let result = self.shard.marked(end, &end.partitions, self.now);
        self.store(CoordinatorResult { response: Ok(()), appends: result.appends }).unwrap();
    }

    /// An end with its markers.
    pub(super) fn end_whole(
        &mut self,
        id: &str,
        who: ProducerIdentity,
        commit: bool,
    ) -> Result<ProducerIdentity> {
        match self.end(id, who, commit)? {
            EndAnswer::Ended(next) => Ok(next),
            EndAnswer::Decided(end, next) => {
                self.finish(&end);
                Ok(next)
            }
        }
    }

    /// Time passes; what falls due is stored.
    pub(super) fn pass(&mut self, time: Duration) -> Vec<TransactionEvent> {
        self.now = self.now.plus(time);
        let result = self.shard.expire(self.now);
        self.store(CoordinatorResult { response: Ok(()), appends: result.appends }).unwrap();
        self.shard.take_events()
    }

    /// The next life, which knows what the log says.
    pub(super) fn reload(&mut self) {
        let mut shard = TransactionCoordinator::new(TransactionConfig::default());
        for record in &self.log {
            shard.replay(record.clone());
        }
        shard.begin_life(&all_partitions(), self.now);
        self.shard = shard;
    }

    pub(super) fn value(&self, id: &str) -> &TransactionValue {
        self.shard.get(id).unwrap()
    }

    pub(super) fn state(&self, id: &str) -> (TransactionState, i64, i16) {
        let value = self.value(id);
        (value.state, value.producer_id, value.producer_epoch)
    }
}

/// The end that an answer has with it.
#[track_caller]
pub(super) fn decided(answer: Result<EndAnswer>) -> (EndOfTransaction, ProducerIdentity) {
    match answer.unwrap() {
        EndAnswer::Decided(end, next) => (end, next),
        other => panic!("{other:?}"),
    }
}

/// The end that has to be finished before a producer begins.
#[track_caller]
pub(super) fn end_first(answer: Result<InitAnswer>) -> EndOfTransaction {
    match answer.unwrap() {
        InitAnswer::EndFirst(end) => end,
        other => panic!("{other:?}"),
    }
}

/// A shared name.
pub(super) fn name(text: &str) -> Arc<str> {
    Arc::from(text)
}
