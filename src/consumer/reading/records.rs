//! What a poll returns: batches held in place, and records decoded as they are looked at.
//!
//! Records that are not compressed are borrowed from the mapped segment, nothing is copied and
//! nothing is allocated per record. A compressed batch is decompressed once, by the poll. The
//! polls look at everything that could be malformed, so iterating cannot fail.

use crate::consumer::offsets::OffsetAndMetadata;
use crate::log::Chunk;
use crate::record::{BatchHeader, Header, Headers, Record, RecordBatch, Records, TimestampType};
use crate::storage::fetch_ahead;
use crate::topic::TopicPartition;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;
use std::slice;

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

/// Iterates over [`ConsumerRecords`].
#[derive(Clone)]
pub struct RecordsIter<'a> {
    runs: slice::Iter<'a, RecordRun>,
    run: Option<&'a RecordRun>,
    /// The batches of the run that were not begun.
    batches: &'a [u8],
    records: Records<'a>,
    timestamp_type: TimestampType,
    /// Records of the run that were not returned.
    left: usize,
}

impl<'a> RecordsIter<'a> {
    fn new(runs: &'a [RecordRun]) -> RecordsIter<'a> {
        RecordsIter {
            runs: runs.iter(),
            run: None,
            batches: &[],
            records: Records::EMPTY,
            timestamp_type: TimestampType::CreateTime,
            left: 0,
        }
    }

    /// Goes on to the next run; false behind the last.
    fn begin_run(&mut self) -> bool {
        let Some(run) = self.runs.next() else { return false };
        self.run = Some(run);
        self.left = run.count;
        match &run.body {
            Body::Plain(chunk, range) => {
                self.batches = chunk.bytes().get(range.clone()).unwrap_or_default();
                self.begin_batch(run.skip);
            }
            Body::Decoded(header, payload) => {
                self.batches = &[];
                self.begin_records(header, payload, run.skip);
            }
        }
        true
    }

    #[inline]
    fn begin_batch(&mut self, skip: RecordPlace) {
        match RecordBatch::parse(self.batches) {
            Ok(batch) => {
                self.batches = self.batches.get(batch.bytes().len()..).unwrap_or_default();
                self.begin_records(batch.header(), batch.payload(), skip);
            }
            Err(fault) => {
                // The poll parsed these bytes, and they do not change.
                debug_assert!(self.batches.is_empty(), "{fault}");
                self.left = 0;
            }
        }
    }

    #[inline]
    fn begin_records(&mut self, header: &BatchHeader, payload: &'a [u8], skip: RecordPlace) {
        self.records = Records::resume(header, payload, skip.records, skip.bytes);
        self.timestamp_type = header.timestamp_type();
    }
}

impl<'a> Iterator for RecordsIter<'a> {
    type Item = ConsumerRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<ConsumerRecord<'a>> {
        loop {
            if self.left == 0 {
                if !self.begin_run() {
                    return None;
                }
                continue;
            }
            if self.records.remaining() == 0 {
                self.begin_batch(RecordPlace::default());
                continue;
            }
            let Ok(record) = self.records.decode() else {
                debug_assert!(false, "the poll takes no batch that it could not decode");
                self.left = 0;
                continue;
            };
            self.left -= 1;
            fetch_ahead(self.records.rest(), record.encoded_size());
            let run = self.run?;
            return Some(ConsumerRecord { record, run, timestamp_type: self.timestamp_type });
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let rest = self.left + self.runs.as_slice().iter().map(|run| run.count).sum::<usize>();
        (rest, Some(rest))
    }
}

impl ExactSizeIterator for RecordsIter<'_> {}
impl FusedIterator for RecordsIter<'_> {}

impl fmt::Debug for RecordsIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordsIter({} left)", self.len())
    }
}

/// One record, borrowed from the [`ConsumerRecords`] that it came with.
#[derive(Clone, Copy)]
pub struct ConsumerRecord<'a> {
    record: Record<'a>,
    run: &'a RecordRun,
    timestamp_type: TimestampType,
}

impl<'a> ConsumerRecord<'a> {
    /// The topic.
    #[inline]
    pub fn topic(&self) -> &'a str {
        self.run.partition.topic()
    }

    /// The partition's number.
    #[inline]
    pub fn partition(&self) -> i32 {
        self.run.partition.partition()
    }

    /// The topic and the partition.
    #[inline]
    pub fn topic_partition(&self) -> &'a TopicPartition {
        &self.run.partition
    }

    /// The offset in the partition.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.record.offset()
    }

    /// Milliseconds since 1970, -1 if there is none.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.record.timestamp()
    }

    /// Who gave the timestamp.
    #[inline]
    pub fn timestamp_type(&self) -> TimestampType {
        self.timestamp_type
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.record.key()
    }

    /// The value. `None` is a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.record.value()
    }

    /// The headers, in order, repeated names included.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use topiclite::{Broker, ProducerConfig, ProducerRecord, ReadFrom, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// # broker.admin().create_topic("orders", 1, TopicConfig::default())?;
    /// let producer = broker.producer(ProducerConfig::default())?;
    /// let order = ProducerRecord::new("orders").value("one tea");
    /// producer.send_sync(order.header("trace", "7").header("note", None::<&str>))?;
    ///
    /// let mut reader = broker.reader("orders", 0, ReadFrom::Beginning)?;
    /// let record = reader.next(Duration::ZERO)?.expect("it was sent");
    /// let names: Vec<_> = record.headers().iter().map(|h| h.name().into_owned()).collect();
    /// assert_eq!(names, ["trace", "note"]);
    /// assert_eq!(record.header("trace").and_then(|h| h.value()), Some(&b"7"[..]));
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    #[inline]
    pub fn headers(&self) -> Headers<'a> {
        self.record.headers()
    }

    /// The last header of this name.
    pub fn header(&self, name: &str) -> Option<Header<'a>> {
        self.record.headers().last(name)
    }

    /// A copy that lives on its own.
    pub fn to_owned(&self) -> OwnedConsumerRecord {
        let (bytes, count) = self.headers().raw();
        OwnedConsumerRecord {
            place: self.place(),
            key: self.key().map(<[u8]>::to_vec),
            value: self.value().map(<[u8]>::to_vec),
            headers: (bytes.to_vec(), count),
        }
    }

    /// The key, the value and the headers without copying them, for another thread or a while
    /// longer.
    ///
    /// Each [`Bytes`] keeps the whole segment mapped, also when retention has deleted it: copy
    /// what is kept for long. How many segments are held is counted by the broker.
    ///
    /// # Examples
    /// ```
    /// use topiclite::{ConsumerRecord, SharedRecord};
    /// fn to_a_worker(record: ConsumerRecord<'_>, queue: &std::sync::mpsc::Sender<SharedRecord>) {
    ///     queue.send(record.share()).ok();
    /// }
    /// ```
    pub fn share(&self) -> SharedRecord {
        let share = |field: Option<&[u8]>| field.map(|bytes| self.run.body.share(bytes));
        let (bytes, count) = self.headers().raw();
        SharedRecord {
            place: self.place(),
            key: share(self.key()),
            value: share(self.value()),
            headers: match count {
                0 => (Bytes::new(), 0),
                _ => (self.run.body.share(bytes), count),
            },
        }
    }

    fn place(&self) -> Place {
        Place {
            partition: self.run.partition.clone(),
            offset: self.offset(),
            timestamp: self.timestamp(),
            timestamp_type: self.timestamp_type,
        }
    }
}

impl fmt::Debug for ConsumerRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerRecord")
            .field("partition", &self.run.partition)
            .field("offset", &self.offset())
            .field("timestamp", &self.timestamp())
            .field("key_size", &self.key().map(<[u8]>::len))
            .field("value_size", &self.value().map(<[u8]>::len))
            .finish_non_exhaustive()
    }
}

/// Where a record stands, and when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    partition: TopicPartition,
    offset: i64,
    timestamp: i64,
    timestamp_type: TimestampType,
}

/// A record with its place, that owns its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedConsumerRecord {
    place: Place,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// As they are stored, and how many there are.
    headers: (Vec<u8>, u32),
}

/// A record whose key, value and headers are shared with the segment they lie in.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedRecord {
    place: Place,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: (Bytes, u32),
}

/// What every kept record tells.
macro_rules! kept_record {
    ($($record:ident)*) => {$(
        impl $record {
            /// The topic.
            pub fn topic(&self) -> &str {
                self.place.partition.topic()
            }

            /// The partition's number.
            pub fn partition(&self) -> i32 {
                self.place.partition.partition()
            }

            /// The topic and the partition.
            pub fn topic_partition(&self) -> &TopicPartition {
                &self.place.partition
            }

            /// The offset in the partition.
            pub fn offset(&self) -> i64 {
                self.place.offset
            }

            /// Milliseconds since 1970, -1 if there is none.
            pub fn timestamp(&self) -> i64 {
                self.place.timestamp
            }

            /// Who gave the timestamp.
            pub fn timestamp_type(&self) -> TimestampType {
                self.place.timestamp_type
            }

            /// The headers, in order, repeated names included.
            pub fn headers(&self) -> Headers<'_> {
                Headers::from_raw(&self.headers.0, self.headers.1)
            }

            /// The last header of this name.
            pub fn header(&self, name: &str) -> Option<Header<'_>> {
                self.headers().last(name)
            }
        }

        /// Shows sizes: payloads may be large, or secret.
        impl fmt::Debug for $record {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($record))
                    .field("partition", &self.place.partition)
                    .field("offset", &self.place.offset)
                    .field("timestamp", &self.place.timestamp)
                    .field("key_size", &self.key.as_ref().map(|key| key.len()))
                    .field("value_size", &self.value.as_ref().map(|value| value.len()))
                    .field("headers", &self.headers.1)
                    .finish()
            }
        }
    )*};
}

kept_record! { OwnedConsumerRecord SharedRecord }

impl OwnedConsumerRecord {
    /// The key.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The value. `None` is a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// Key and value.
    pub fn into_parts(self) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        (self.key, self.value)
    }
}

impl SharedRecord {
    /// The key.
    pub fn key(&self) -> Option<&Bytes> {
        self.key.as_ref()
    }

    /// The value. `None` is a tombstone.
    pub fn value(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }
}
