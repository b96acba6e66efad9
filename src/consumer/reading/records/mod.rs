//! What a poll returns: batches held in place, and records decoded as they are looked at.
//!
//! Records that are not compressed are borrowed from the mapped segment, nothing is copied and
//! nothing is allocated per record. A compressed batch is decompressed once, by the poll. The
//! polls look at everything that could be malformed, so iterating cannot fail.

mod iter;
mod kept;
mod record;

pub use iter::RecordsIter;
pub use kept::{OwnedConsumerRecord, SharedRecord};
pub use record::ConsumerRecord;

use crate::consumer::offsets::OffsetAndMetadata;
use crate::log::Chunk;
use crate::record::BatchHeader;
use crate::topic::TopicPartition;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// The records of one poll, by partition, in the order of their offsets.
///
/// They keep the segments that hold them readable, also when retention deletes these meanwhile,
/// so they should not be kept for long: the disk space returns with the last of them.
///
/// # Examples
/// ```no_run
/// # use std::time::Duration;
/// # use topiclite::{Broker, ConsumerConfig};
/// # let broker = Broker::in_memory()?;
/// # let mut consumer = broker.consumer(ConsumerConfig::new("billing"))?;
/// let records = consumer.poll(Duration::from_secs(1))?;
/// for record in &records {
///     println!("{}-{} {:?}", record.topic(), record.partition(), record.value());
/// }
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Default)]
pub struct ConsumerRecords {
    runs: Vec<RecordRun>,
    count: usize,
    /// The position behind what was returned, per partition that returned something.
    next: Vec<(TopicPartition, i64)>,
}

impl ConsumerRecords {
    pub(in crate::consumer) fn new() -> ConsumerRecords {
        ConsumerRecords::default()
    }

    /// Adds records of a partition. Runs of one partition are added one after the other.
    pub(in crate::consumer) fn push(&mut self, run: RecordRun) {
        self.count += run.count;
        self.runs.push(run);
    }

    /// Makes room for so many partitions.
    pub(in crate::consumer) fn reserve(&mut self, partitions: usize) {
        self.runs.reserve(partitions);
        self.next.reserve(partitions);
    }

    /// How much there is.
    pub(in crate::consumer) fn mark(&self) -> RunMark {
        RunMark { runs: self.runs.len(), count: self.count }
    }

    /// Takes back what was added since.
    pub(in crate::consumer) fn cut(&mut self, mark: RunMark) {
        self.runs.truncate(mark.runs);
        self.count = mark.count;
    }

    /// Notes where a partition that returned records goes on.
    pub(in crate::consumer) fn set_next(&mut self, partition: &TopicPartition, offset: i64) {
        match self.next.last_mut() {
            Some((last, next)) if last == partition => *next = offset,
            _ => self.next.push((partition.clone(), offset)),
        }
    }

    /// How many records there are, as Kafka's clients say it.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The partitions that have records here, each once.
    pub fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.next.iter().map(|(partition, _)| partition)
    }

    /// The position behind what was returned, per partition.
    pub(in crate::consumer) fn next_positions(
        &self,
    ) -> impl Iterator<Item = (&TopicPartition, i64)> {
        self.next.iter().map(|(partition, next)| (partition, *next))
    }

    /// The records of one partition.
    pub fn records(&self, partition: &TopicPartition) -> RecordsIter<'_> {
        let of = |run: &RecordRun| run.partition == *partition;
        let start = self.runs.iter().position(of).unwrap_or(self.runs.len());
        let runs = self.runs.get(start..).unwrap_or_default();
        let end = runs.iter().position(|run| !of(run)).unwrap_or(runs.len());
        RecordsIter::new(runs.get(..end).unwrap_or_default())
    }

    /// All records.
    pub fn iter(&self) -> RecordsIter<'_> {
        RecordsIter::new(&self.runs)
    }

    /// The next offset to read, per partition that has records here: what `commit_sync_offsets`
    /// takes to commit exactly these records.
    pub fn next_offsets(&self) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        self.next
            .iter()
            .map(|(partition, offset)| (partition.clone(), OffsetAndMetadata::new(*offset)))
            .collect()
    }
}

impl<'a> IntoIterator for &'a ConsumerRecords {
    type Item = ConsumerRecord<'a>;
    type IntoIter = RecordsIter<'a>;

    fn into_iter(self) -> RecordsIter<'a> {
        self.iter()
    }
}

/// Records that own their bytes: copied, so that nothing keeps a segment readable. Iterate over
/// `&records` to borrow them instead.
impl IntoIterator for ConsumerRecords {
    type Item = OwnedConsumerRecord;
    type IntoIter = std::vec::IntoIter<OwnedConsumerRecord>;

    fn into_iter(self) -> std::vec::IntoIter<OwnedConsumerRecord> {
        self.iter().map(|record| record.to_owned()).collect::<Vec<_>>().into_iter()
    }
}

impl fmt::Debug for ConsumerRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerRecords")
            .field("count", &self.count)
            .field("next", &self.next)
            .finish()
    }
}

/// Records of one partition that lie together: whole batches of a chunk, all to be returned, but
/// for the beginning of the first batch and the end of the last.
pub(in crate::consumer) struct RecordRun {
    pub partition: TopicPartition,
    pub body: Body,
    /// How many records of the first batch come before the first to return, and how many bytes of
    /// its payload they take.
    pub skip: RecordPlace,
    /// How many records to return, over all batches.
    pub count: usize,
}

/// Where the runs of one read begin among those of a poll.
#[derive(Debug, Clone, Copy)]
pub(in crate::consumer) struct RunMark {
    runs: usize,
    count: usize,
}

/// A place between two records of one batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::consumer) struct RecordPlace {
    pub records: usize,
    pub bytes: usize,
}

/// Where the bytes of a [`RecordRun`] are.
pub(in crate::consumer) enum Body {
    /// Whole batches that are not compressed.
    Plain(Chunk, Range<usize>),
    /// One batch that was compressed.
    Decoded(BatchHeader, Bytes),
}

impl Body {
    /// The batches that lie in memory as they are returned.
    fn batches(&self) -> &[u8] {
        match self {
            Body::Plain(chunk, range) => chunk.bytes().get(range.clone()).unwrap_or_default(),
            Body::Decoded(..) => &[],
        }
    }

    fn share(&self, part: &[u8]) -> Bytes {
        match self {
            Body::Decoded(_, payload) => payload.slice_ref(part),
            Body::Plain(chunk, _) => {
                let from = part.as_ptr().addr().wrapping_sub(chunk.bytes().as_ptr().addr());
                chunk.share(from..from + part.len())
            }
        }
    }
}
