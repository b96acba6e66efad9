//! Records that linger: one open batch for each partition, and those that could not be stored yet.
//!
//! A [`PartitionQueue`] is one partition as one producer sees it. Its lock is held while a batch
//! goes into the log, so that batches arrive in the order in which they were filled. Records are
//! copied into one buffer for each batch and encoded once, at the append.

use super::future::{BatchResult, Outcome};
use super::record::{ProducerRecord, RecordMetadata, size_in_batch, size_upper_bound};
use crate::broker::CompressionRatios;
use crate::error::{Error, ErrorKind};
use crate::log::{Log, ProducerStamp};
use crate::record::{BATCH_OVERHEAD, CompressionRatio, HeaderInput, RecordInput};
use crate::sync::{Arc, AtomicI64, AtomicU64, Mutex, MutexGuard, Ordering, Rank, ranked_mutex};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// What a user wants to be told: called once, with no lock held.
pub(super) type Callback = Box<dyn FnOnce(&Outcome) + Send>;

/// One partition as a producer sees it.
pub(super) struct PartitionQueue {
    pub topic: Arc<str>,
    pub partition: i32,
    pub log: Arc<Log>,
    /// How well the topic's batches compress.
    pub ratios: Arc<CompressionRatios>,
    state: Mutex<QueueState>,
    /// The log end that answers wait for a sync of.
    unsynced: AtomicI64,
    /// The number of the transaction that the partition is in, or was in last.
    pub joined: AtomicU64,
}

/// The batches of one partition that are not stored.
#[derive(Default)]
pub(super) struct QueueState {
    /// The oldest first. Only the last one may be open.
    pub batches: VecDeque<Batch>,
    /// The first batch failed, and is not tried again before this.
    pub not_before: Option<Duration>,
    /// What the next batch that is tried for the first time is stamped with.
    pub next_stamp: Option<ProducerStamp>,
}

impl PartitionQueue {
    pub fn new(
        topic: Arc<str>,
        partition: i32,
        log: Arc<Log>,
        ratios: Arc<CompressionRatios>,
    ) -> PartitionQueue {
        PartitionQueue {
            topic,
            partition,
            log,
            ratios,
            state: ranked_mutex(Rank::ProducerQueue, QueueState::default()),
            unsynced: AtomicI64::new(0),
            joined: AtomicU64::new(0),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock()
    }

    /// Whether its first batch is sent at `mono`, or at once with `force`.
    pub fn is_due(&self, force: bool, mono: Duration) -> bool {
        let state = self.state.lock();
        state.batches.front().is_some_and(|batch| force || batch.closed || batch.due <= mono)
    }

    /// Whether anything waits in it.
    pub fn has_batches(&self) -> bool {
        !self.state.lock().batches.is_empty()
    }

    /// The failure of a record of this partition.
    #[cold]
    pub fn failed(&self, error: Error, record: &RecordInput<'_>) -> Error {
        error.losing(self.copied(record))
    }

    /// A copy of a record of this partition.
    pub fn copied(&self, record: &RecordInput<'_>) -> ProducerRecord<'static> {
        ProducerRecord::copied(&self.topic, Some(self.partition), record)
    }

    /// Whether everything below `upto` survives a power cut.
    pub fn is_durable(&self, upto: i64) -> bool {
        self.log.recovery_point().is_ok_and(|point| point >= upto)
    }

    /// Takes note of an answer that waits for a sync of everything below `upto`.
    pub fn owes_sync(&self, upto: i64) {
        // Relaxed: whoever flushes looks after the sends that it has to cover returned.
        self.unsynced.fetch_max(upto, Ordering::Relaxed);
    }

    /// Makes durable what answers wait for.
    ///
    /// # Errors
    /// That of the sync, which the waiting answers get too.
    pub fn pay_sync(&self) -> Result<(), Error> {
        let upto = self.unsynced.load(Ordering::Relaxed);
        if upto == 0 || self.is_durable(upto) {
            return Ok(());
        }
        self.log.make_durable(upto)
    }
}

/// Records that go into the log together.
pub(super) struct Batch {
    /// The bytes of keys, values, header names and header values.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<HeaderSpan>,
    /// What the encoded batch would take, without compression.
    size: usize,
    /// What it may take: `batch.size`, or its first record's bound where that is more.
    limit: usize,
    /// How well it will compress, where it is compressed.
    ratio: Option<CompressionRatio>,
    /// What it counts for in `buffer.memory`.
    pub charge: usize,
    /// When it was opened, on the monotonic scale: the delivery timeout counts from here.
    pub created: Duration,
    /// When it is sent at the latest.
    pub due: Duration,
    /// It takes no more records.
    pub closed: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// The answer to an attempt was lost: it may be stored, whatever a later one says.
    possibly_written: bool,
    /// What it was stamped with when it was tried first: it is the same each time.
    pub stamp: Option<ProducerStamp>,
    pub result: Arc<BatchResult>,
    pub callbacks: Vec<(usize, Callback)>,
}

struct Entry {
    timestamp: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
}

struct HeaderSpan {
    name: Range<usize>,
    value: Option<Range<usize>>,
}

/// The memory that a batch which `record` opens counts for, and its limit.
pub(super) fn batch_charge(record: &RecordInput<'_>, batch_size: usize) -> usize {
    size_upper_bound(record).max(batch_size)
}

/// What a batch of `size` bytes without compression is estimated to take.
pub(super) fn estimated_size(size: usize, ratio: Option<CompressionRatio>) -> usize {
    match ratio {
        None => size,
        Some(ratio) => BATCH_OVERHEAD + ratio.estimate(size.saturating_sub(BATCH_OVERHEAD)),
    }
}

impl Batch {
    pub fn new(
        charge: usize,
        ratio: Option<CompressionRatio>,
        created: Duration,
        due: Duration,
        result: Arc<BatchResult>,
    ) -> Batch {
        Batch {
            bytes: Vec::new(),
            entries: Vec::new(),
            headers: Vec::new(),
            size: BATCH_OVERHEAD,
            limit: charge,
            ratio,
            charge,
            created,
            due,
            closed: false,
            attempts: 0,
            possibly_written: false,
            stamp: None,
            result,
            callbacks: Vec::new(),
        }
    }

    fn size_of_next(&self, record: &RecordInput<'_>) -> usize {
        let base = self.entries.first().map_or(record.timestamp, |first| first.timestamp);
        size_in_batch(record, self.entries.len(), record.timestamp.wrapping_sub(base))
    }

    /// Whether `record` may join: as in Kafka, by what the records before it are estimated to take
    /// once they are compressed, and by all of its own bytes.
    pub fn has_room(&self, record: &RecordInput<'_>) -> bool {
        let estimated = estimated_size(self.size, self.ratio);
        !self.closed
            && (self.entries.is_empty() || estimated + self.size_of_next(record) <= self.limit)
    }

    /// Whether `record`, which may join, takes memory that the batch does not count for.
    pub fn outgrows(&self, record: &RecordInput<'_>) -> bool {
        self.size + self.size_of_next(record) > self.charge
    }

    /// Copies a record in and returns its place.
    pub fn push(&mut self, record: &RecordInput<'_>) -> usize {
        self.size += self.size_of_next(record);
        let index = self.entries.len();
        let key = record.key.map(|key| self.copy(key));
        let value = record.value.map(|value| self.copy(value));
        let first = self.headers.len();
        for header in record.headers {
            let name = self.copy(header.name.as_bytes());
            let value = header.value.map(|value| self.copy(value));
            self.headers.push(HeaderSpan { name, value });
        }
        let headers = first..self.headers.len();
        self.entries.push(Entry { timestamp: record.timestamp, key, value, headers });
        self.closed |= estimated_size(self.size, self.ratio) >= self.limit;
        index
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// The bytes of a span. Spans come from `copy`, and the buffer only grows.
    fn span(&self, span: &Range<usize>) -> &[u8] {
        self.bytes.get(span.clone()).unwrap_or_default()
    }

    fn name(&self, header: &HeaderSpan) -> &str {
        // It was copied from a str.
        std::str::from_utf8(self.span(&header.name)).unwrap_or_default()
    }

    /// Hands the records out as the log takes them.
    pub fn with_inputs<R>(&self, use_them: impl FnOnce(&[RecordInput<'_>]) -> R) -> R {
        let headers: Vec<HeaderInput<'_>> = self
            .headers
            .iter()
            .map(|header| HeaderInput {
                name: self.name(header),
                value: header.value.as_ref().map(|value| self.span(value)),
            })
            .collect();
        let inputs: Vec<RecordInput<'_>> = self
            .entries
            .iter()
            .map(|entry| RecordInput {
                timestamp: entry.timestamp,
                key: entry.key.as_ref().map(|key| self.span(key)),
                value: entry.value.as_ref().map(|value| self.span(value)),
                headers: headers.get(entry.headers.clone()).unwrap_or_default(),
            })
            .collect();
        use_them(&inputs)
    }

    /// All outcomes of a batch that failed as a whole.
    pub fn all_failed(&self, queue: &PartitionQueue, error: &Error) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = self.with_inputs(|inputs| {
            inputs.iter().map(|input| Err(queue.failed(error.clone(), input))).collect()
        });
        self.tell_of_attempts(&mut outcomes);
        outcomes
    }

    /// An attempt failed, and others may follow.
    pub fn note_failure(&mut self, error: &Error) {
        self.possibly_written |= error.possibly_written();
    }

    /// Has the failures say what is known of all attempts.
    pub fn tell_of_attempts(&self, outcomes: &mut [Outcome]) {
        if !self.possibly_written {
            return;
        }
        for outcome in outcomes {
            if let Err(error) = outcome {
                *error = error.clone().with_possibly_written();
            }
        }
    }
}

/// The answer to a record of a batch that was refused because of others.
fn innocent() -> Error {
    let message = "the record was in a batch with records that the topic refuses; send it again";
    Error::new(ErrorKind::Kafka, message)
}

/// The outcomes of a batch that the log refused for what is in it. `fault` tells what is wrong
/// with one record alone.
///
/// As Kafka answers: one bad record gets its own error; of several, each gets `InvalidRecord`,
/// whatever is wrong with it; the others are told that it was not them.
pub(super) fn refused_batch(
    queue: &PartitionQueue,
    records: &[RecordInput<'_>],
    error: &Error,
    fault: impl Fn(&RecordInput<'_>) -> Option<Error>,
) -> Vec<Outcome> {
    let faults: Vec<Option<Error>> = records.iter().map(fault).collect();
    let bad = faults.iter().flatten().count();
    let answers = faults.into_iter().map(|fault| match fault {
        _ if bad == 0 || records.len() == 1 => error.clone(),
        None => innocent(),
        Some(fault) if bad == 1 => fault,
        Some(fault) => {
            Error::new(ErrorKind::InvalidRecord, fault.message().to_owned()).with_source(fault)
        }
    });
    answers.zip(records).map(|(error, r)| Err(queue.failed(error, r))).collect()
}

/// The metadata of record `index` of an appended batch.
#[inline]
pub(super) fn metadata_of(
    queue: &PartitionQueue,
    record: &RecordInput<'_>,
    base_offset: i64,
    index: usize,
    append_time: Option<i64>,
) -> RecordMetadata {
    let offset = base_offset + index as i64;
    RecordMetadata::new(queue.partition, offset, append_time.unwrap_or(record.timestamp), record)
}
