//! What a coordinator is: a state machine whose state is what the records of its internal topic
//! say, as `CoordinatorShard` of Kafka's `coordinator-common`.
//!
//! A handler is given the request and `now`, and answers with a [`CoordinatorResult`]: a response,
//! and records. What the records describe becomes true when they are stored and the shard is told
//! so; a result that is dropped changed nothing. There is no I/O, no lock and no clock in a shard.
//! Whoever runs one (`broker::coordinator`) loads it by replay, stores its records, and waits.

pub(crate) mod hash;
pub(crate) mod wire;

use crate::record::{BatchFault, RecordBatch};
use crate::time::Now;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// What a handler gives back.
#[derive(Debug)]
#[must_use = "its records have to be stored, and reported with `applied`"]
pub(crate) struct CoordinatorResult<R, A> {
    /// True once the appends are stored.
    pub(crate) response: R,
    /// In order. More than one only where several keys changed.
    pub(crate) appends: Vec<A>,
}

impl<R, A> CoordinatorResult<R, A> {
    /// A response that no record is needed for.
    pub(crate) fn done(response: R) -> CoordinatorResult<R, A> {
        CoordinatorResult { response, appends: Vec::new() }
    }
}

/// Records that are stored as one batch, and what they mean beyond their bytes.
pub(crate) trait ShardAppend: fmt::Debug {
    /// The partition of the internal topic that they belong into.
    fn partition(&self) -> i32;

    /// Whom they are about, for messages: `group billing`.
    fn subject(&self) -> String;

    /// Writes key and value of each record; there is at least one.
    fn encode(&self, into: &mut EncodedRecords);

    /// The producer in whose open transaction they are stored; `None` where they count at once.
    fn transaction(&self) -> Option<TransactionStamp> {
        None
    }
}

/// The producer in whose transaction records of a coordinator are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TransactionStamp {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
}

/// The state machine of a coordinator.
pub(crate) trait CoordinatorShard: fmt::Debug + Send + 'static {
    /// The records of one key, as its handlers give them.
    type Append: ShardAppend;
    /// Something that happened, for logs, counters and tests.
    type Event;

    /// The partition of the internal topic that keeps everything of `key`.
    fn partition_of(&self, key: &str) -> i32;

    /// Everything that a partition keeps, as records that say it anew.
    fn state_of(&self, partition: i32) -> Vec<Self::Append>;

    /// Applies a stored batch. Batches of a partition come in the order of the log; `scratch` is
    /// memory for compressed ones. Returns the records that could not be read, with what is wrong
    /// with each; they are passed over.
    ///
    /// # Errors
    /// [`BatchFault`] when the batch itself cannot be read.
    fn replay_batch(
        &mut self,
        partition: i32,
        batch: &RecordBatch<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<Vec<(i64, String)>, BatchFault>;

    /// An append was stored, its first record at `base_offset`.
    fn applied(&mut self, append: Self::Append, base_offset: i64, now: Now);

    /// The marker of a producer's transaction was stored in a partition: what was stored there in
    /// it counts from now on, or never. What is returned is to be stored behind the marker,
    /// durably. Of a coordinator whose records are in no transaction, nothing.
    fn transaction_ended(
        &mut self,
        partition: i32,
        producer_id: i64,
        committed: bool,
    ) -> Vec<Self::Append> {
        let _ = (partition, producer_id, committed);
        Vec::new()
    }

    /// The reading of a partition ended at damage, for good: what was applied of it may be older
    /// than what it said last. Where the shard would act on that by itself, it is dropped.
    fn drop_damaged(&mut self, partition: i32) {
        let _ = partition;
    }

    /// When [`CoordinatorShard::expire`] has something to do at the earliest, on the monotonic
    /// scale. May be early, never late.
    fn next_deadline(&self) -> Option<Duration>;

    /// Runs everything that is due at `now`.
    fn expire(&mut self, now: Now) -> CoordinatorResult<(), Self::Append>;

    /// The keys that moved since the last call: whoever waits for one of them has an answer.
    fn take_moved(&mut self) -> Vec<Arc<str>>;

    /// What happened since the last call, in order.
    fn take_events(&mut self) -> Vec<Self::Event>;
}

/// The bytes of several records in one buffer, which can be used again.
#[derive(Debug, Default)]
pub(crate) struct EncodedRecords {
    bytes: Vec<u8>,
    spans: Vec<(Range<usize>, Option<Range<usize>>)>,
}

impl EncodedRecords {
    /// Forgets what is in it.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    /// Adds a record: `key` and `value` write behind what the buffer holds, and `value` returns
    /// false for a tombstone.
    pub(crate) fn push(
        &mut self,
        key: impl FnOnce(&mut Vec<u8>),
        value: impl FnOnce(&mut Vec<u8>) -> bool,
    ) {
        let start = self.bytes.len();
        key(&mut self.bytes);
        let middle = self.bytes.len();
        let value = value(&mut self.bytes).then_some(middle..self.bytes.len());
        self.spans.push((start..middle, value));
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Key and value of each record; a value of `None` is a tombstone.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> {
        self.spans.iter().map(|(key, value)| {
            // The spans were measured on this buffer, so the defaults are never taken.
            let slice = |span: &Range<usize>| self.bytes.get(span.clone()).unwrap_or_default();
            (slice(key), value.as_ref().map(slice))
        })
    }
}
