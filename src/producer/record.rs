//! What a producer sends, what comes back, and what comes back when it does not work.

use super::payload::{IntoPayload, Payload};
use crate::consumer::{ConsumerRecord, OwnedConsumerRecord, SharedRecord};
use crate::error::{Error, ErrorKind};
use crate::record::{HeaderInput, Headers, OwnedHeader, RecordInput, varint};
use std::borrow::Cow;
use std::fmt;

/// A record to send. Topic, key, value and headers are borrowed or owned, as they are given: a
/// `ProducerRecord<'static>` can be kept in a struct and go through a queue.
///
/// # Examples
/// ```
/// use std::collections::VecDeque;
/// use topiclite::ProducerRecord;
/// let record = ProducerRecord::new("orders").key("alice").value("one tea").header("trace", "7");
/// assert_eq!(record.topic(), "orders");
/// assert_eq!(record.key_bytes(), Some(&b"alice"[..]));
///
/// let mut later: VecDeque<ProducerRecord<'static>> = VecDeque::new();
/// let customer = String::from("bob");
/// later.push_back(ProducerRecord::new("orders").key(customer).value(vec![1, 2, 3]));
/// later.push_back(record.into_owned());
/// ```
///
/// A consumed record is passed on as it is, headers included:
/// ```
/// use topiclite::{ConsumerRecord, Producer, ProducerRecord};
/// fn forward(producer: &Producer, record: ConsumerRecord<'_>) -> topiclite::Result<()> {
///     let copy = ProducerRecord::from(&record).with_topic("copies").header("via", "forward");
///     producer.send_sync(copy)?;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct ProducerRecord<'a> {
    topic: Cow<'a, str>,
    partition: Option<i32>,
    timestamp: Option<i64>,
    key: Payload<'a>,
    value: Payload<'a>,
    headers: RecordHeaders<'a>,
}

/// Headers as the encoder takes them, as long as all are borrowed.
#[derive(Clone)]
enum RecordHeaders<'a> {
    Borrowed(Vec<HeaderInput<'a>>),
    Owned(Vec<OwnedHeader>),
}

impl<'a> ProducerRecord<'a> {
    /// A record for `topic` with neither key nor value.
    #[inline]
    pub fn new(topic: impl Into<Cow<'a, str>>) -> ProducerRecord<'a> {
        ProducerRecord {
            topic: topic.into(),
            partition: None,
            timestamp: None,
            key: Payload::NULL,
            value: Payload::NULL,
            headers: RecordHeaders::Borrowed(Vec::new()),
        }
    }

    /// The copy of a record on its way to a log.
    pub(super) fn copied(
        topic: &str,
        partition: Option<i32>,
        record: &RecordInput<'_>,
    ) -> ProducerRecord<'static> {
        let headers = record.headers.iter().map(|header| OwnedHeader {
            name: header.name.to_owned(),
            value: header.value.map(<[u8]>::to_vec),
        });
        ProducerRecord {
            topic: Cow::Owned(topic.to_owned()),
            partition,
            timestamp: Some(record.timestamp),
            key: record.key.into_payload().into_owned(),
            value: record.value.into_payload().into_owned(),
            headers: RecordHeaders::Owned(headers.collect()),
        }
    }

    /// Sends it to another topic.
    #[inline]
    pub fn with_topic(mut self, topic: impl Into<Cow<'a, str>>) -> ProducerRecord<'a> {
        self.topic = topic.into();
        self
    }

    /// Chooses the partition, from 0. It wins over the key. None has one chosen.
    #[inline]
    pub fn partition(mut self, partition: impl Into<Option<i32>>) -> ProducerRecord<'a> {
        self.partition = partition.into();
        self
    }

    /// Sets the timestamp, in milliseconds since 1970 and not negative. Without it, the time of
    /// the send. A topic with `LogAppendTime` replaces it.
    #[inline]
    pub fn timestamp(mut self, ms: impl Into<Option<i64>>) -> ProducerRecord<'a> {
        self.timestamp = ms.into();
        self
    }

    /// Sets the key. An empty key is a key; `None` is none.
    #[inline]
    pub fn key(self, key: impl IntoPayload<'a>) -> ProducerRecord<'a> {
        let ProducerRecord { topic, partition, timestamp, key: before, value, headers } = self;
        before.discard();
        let key = key.into_payload();
        ProducerRecord { topic, partition, timestamp, key, value, headers }
    }

    /// Sets the value. A record without one (`None`) is a tombstone on a compacted topic.
    #[inline]
    pub fn value(self, value: impl IntoPayload<'a>) -> ProducerRecord<'a> {
        let ProducerRecord { topic, partition, timestamp, key, value: before, headers } = self;
        before.discard();
        let value = value.into_payload();
        ProducerRecord { topic, partition, timestamp, key, value, headers }
    }

    /// Adds a header behind the others; names may repeat, and the value may be `None`.
    pub fn header(
        mut self,
        name: impl Into<Cow<'a, str>>,
        value: impl IntoPayload<'a>,
    ) -> ProducerRecord<'a> {
        let (name, value) = (name.into(), value.into_payload());
        let owned = match (&mut self.headers, name) {
            (RecordHeaders::Borrowed(headers), Cow::Borrowed(name)) => {
                match value.into_borrowed() {
                    Ok(value) => {
                        headers.push(HeaderInput { name, value });
                        return self;
                    }
                    Err(value) => OwnedHeader { name: name.to_owned(), value: value.into_vec() },
                }
            }
            (_, name) => OwnedHeader { name: name.into_owned(), value: value.into_vec() },
        };
        let mut headers = self.headers.into_owned();
        headers.push(owned);
        self.headers = RecordHeaders::Owned(headers);
        self
    }

    /// The same, owning everything.
    pub fn into_owned(self) -> ProducerRecord<'static> {
        ProducerRecord {
            topic: Cow::Owned(self.topic.into_owned()),
            partition: self.partition,
            timestamp: self.timestamp,
            key: self.key.into_owned(),
            value: self.value.into_owned(),
            headers: match self.headers {
                RecordHeaders::Borrowed(headers) if headers.is_empty() => {
                    RecordHeaders::Borrowed(Vec::new())
                }
                headers => RecordHeaders::Owned(headers.into_owned()),
            },
        }
    }

    /// The topic.
    #[inline]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition, where one was chosen.
    #[inline]
    pub fn chosen_partition(&self) -> Option<i32> {
        self.partition
    }

    /// The timestamp, where one was set.
    #[inline]
    pub fn chosen_timestamp(&self) -> Option<i64> {
        self.timestamp
    }

    /// The key.
    #[inline]
    pub fn key_bytes(&self) -> Option<&[u8]> {
        self.key.as_bytes()
    }

    /// The value.
    #[inline]
    pub fn value_bytes(&self) -> Option<&[u8]> {
        self.value.as_bytes()
    }

    /// The headers, in order: name and value.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> {
        let count = self.headers.len();
        (0..count).map(|index| match &self.headers {
            RecordHeaders::Borrowed(headers) => {
                headers.get(index).map_or(("", None), |header| (header.name, header.value))
            }
            RecordHeaders::Owned(headers) => headers
                .get(index)
                .map_or(("", None), |header| (header.name.as_str(), header.value.as_deref())),
        })
    }

    /// Whether the encoder needs a list of headers made for it.
    #[inline]
    pub(super) fn owns_headers(&self) -> bool {
        matches!(&self.headers, RecordHeaders::Owned(headers) if !headers.is_empty())
    }

    /// The headers of a record that does not own them.
    #[inline]
    pub(super) fn lent_headers(&self) -> &[HeaderInput<'_>] {
        match &self.headers {
            RecordHeaders::Borrowed(headers) => headers,
            RecordHeaders::Owned(_) => &[],
        }
    }

    /// Drops the record. Most own nothing, which is a look at four tags; the compiler's own way is
    /// a call for each field.
    #[inline]
    pub(super) fn discard(self) {
        let has_headers = match &self.headers {
            RecordHeaders::Borrowed(headers) => headers.capacity() > 0,
            RecordHeaders::Owned(headers) => headers.capacity() > 0,
        };
        let has_topic = matches!(self.topic, Cow::Owned(_));
        match has_topic || has_headers || self.key.is_allocated() || self.value.is_allocated() {
            true => drop(self),
            // There is nothing to give back.
            false => std::mem::forget(self),
        }
    }

    /// The headers as the encoder takes them: lent, unless the record owns them.
    #[inline]
    pub(super) fn header_inputs(&self) -> Cow<'_, [HeaderInput<'_>]> {
        match &self.headers {
            RecordHeaders::Borrowed(headers) => Cow::Borrowed(headers),
            RecordHeaders::Owned(headers) => {
                Cow::Owned(headers.iter().map(OwnedHeader::input).collect())
            }
        }
    }

    /// The record as the log takes it, with `timestamp` where it has none of its own.
    #[inline]
    pub(super) fn input<'r>(
        &'r self,
        timestamp: i64,
        headers: &'r [HeaderInput<'r>],
    ) -> RecordInput<'r> {
        RecordInput {
            timestamp: self.timestamp.unwrap_or(timestamp),
            key: self.key.as_bytes(),
            value: self.value.as_bytes(),
            headers,
        }
    }

    /// What the client refuses before it looks at anything else.
    #[inline]
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.partition.is_some_and(|p| p < 0) || self.timestamp.is_some_and(|t| t < 0) {
            return Err(self.negative());
        }
        Ok(())
    }

    #[cold]
    fn negative(&self) -> Error {
        let message = match (self.partition, self.timestamp) {
            (Some(partition), _) if partition < 0 => {
                format!("partition {partition} is negative; leave it out to have one chosen")
            }
            (_, timestamp) => format!(
                "timestamp {} is negative; leave it out for the time of the send",
                timestamp.unwrap_or_default()
            ),
        };
        Error::new(ErrorKind::IllegalArgument, message).with_topic(self.topic())
    }
}

impl RecordHeaders<'_> {
    fn len(&self) -> usize {
        match self {
            RecordHeaders::Borrowed(headers) => headers.len(),
            RecordHeaders::Owned(headers) => headers.len(),
        }
    }

    fn into_owned(self) -> Vec<OwnedHeader> {
        match self {
            RecordHeaders::Owned(headers) => headers,
            RecordHeaders::Borrowed(headers) => headers
                .into_iter()
                .map(|header| OwnedHeader {
                    name: header.name.to_owned(),
                    value: header.value.map(<[u8]>::to_vec),
                })
                .collect(),
        }
    }
}

macro_rules! forwarding {
    ($($(#[$doc:meta])+ $life:lifetime $record:ty;)*) => {$(
        $(#[$doc])+
        impl<$life> From<&$life $record> for ProducerRecord<$life> {
            fn from(record: &$life $record) -> ProducerRecord<$life> {
                let key = record.key().map(AsRef::<[u8]>::as_ref);
                let value = record.value().map(AsRef::<[u8]>::as_ref);
                let copy = ProducerRecord::new(record.topic()).key(key).value(value);
                copy.sent_at(record.timestamp()).with_headers(record.headers())
            }
        }
    )*};
}

forwarding! {
    /// The same record for another topic: key, value, headers and timestamp. The partition is left
    /// open, and the topic is that it came from.
    'a OwnedConsumerRecord;
    /// As from an owned record.
    'a SharedRecord;
}

/// The same record for another topic ([`ProducerRecord::with_topic`]): key, value, headers and
/// timestamp, borrowed from where they lie. The partition is left open.
impl<'a> From<&ConsumerRecord<'a>> for ProducerRecord<'a> {
    fn from(record: &ConsumerRecord<'a>) -> ProducerRecord<'a> {
        let copy = ProducerRecord::new(record.topic()).key(record.key()).value(record.value());
        copy.sent_at(record.timestamp()).with_headers(record.headers())
    }
}

impl<'a> ProducerRecord<'a> {
    fn sent_at(self, timestamp: i64) -> ProducerRecord<'a> {
        self.timestamp((timestamp >= 0).then_some(timestamp))
    }

    fn with_headers(self, headers: Headers<'a>) -> ProducerRecord<'a> {
        headers.iter().fold(self, |record, header| record.header(header.name(), header.value()))
    }
}

impl fmt::Debug for ProducerRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads may be large, or secret.
        f.debug_struct("ProducerRecord")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("timestamp", &self.timestamp)
            .field("key", &self.key)
            .field("value", &self.value)
            .field("headers", &self.headers.len())
            .finish()
    }
}

/// The header of a batch, and the most that a record adds beside its bytes and their lengths
/// (length, attributes, timestamp and offset delta: `MAX_RECORD_OVERHEAD` of the Java client).
const BATCH_HEADER: usize = 61;
const RECORD_OVERHEAD_MAX: usize = 21;

#[inline]
fn field_size(field: Option<&[u8]>) -> usize {
    match field {
        None => 1,
        Some(bytes) => varint::len_u64((bytes.len() as u64) << 1) + bytes.len(),
    }
}

/// The bytes of key, value and headers with their lengths.
#[inline]
fn fields_size(record: &RecordInput<'_>) -> usize {
    let mut size = field_size(record.key) + field_size(record.value);
    size += varint::len_u64((record.headers.len() as u64) << 1);
    for header in record.headers {
        size += field_size(Some(header.name.as_bytes())) + field_size(header.value);
    }
    size
}

/// The size that `max.request.size` and `buffer.memory` are compared with: an upper bound of a
/// batch of this record alone, without compression.
#[inline]
pub(super) fn size_upper_bound(record: &RecordInput<'_>) -> usize {
    BATCH_HEADER + RECORD_OVERHEAD_MAX + fields_size(record)
}

/// The exact size of a record inside a batch.
#[inline]
pub(super) fn size_in_batch(
    record: &RecordInput<'_>,
    offset_delta: usize,
    timestamp_delta: i64,
) -> usize {
    let body = 1
        + varint::len_i64(timestamp_delta)
        + varint::len_u64((offset_delta as u64) << 1)
        + fields_size(record);
    varint::len_u64((body as u64) << 1) + body
}

/// Where a record was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordMetadata {
    offset: i64,
    timestamp: i64,
    partition: i32,
    key_size: i32,
    value_size: i32,
}

impl RecordMetadata {
    #[inline]
    pub(super) fn new(
        partition: i32,
        offset: i64,
        timestamp: i64,
        record: &RecordInput<'_>,
    ) -> RecordMetadata {
        let size = |field: Option<&[u8]>| match field {
            None => -1,
            Some(bytes) => i32::try_from(bytes.len()).unwrap_or(i32::MAX),
        };
        RecordMetadata {
            offset,
            timestamp,
            partition,
            key_size: size(record.key),
            value_size: size(record.value),
        }
    }

    /// The offset; -1 under `acks=0`.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The partition.
    #[inline]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The timestamp that was stored: the record's own, or the log's with `LogAppendTime`.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The size of the key in bytes, -1 for null.
    #[inline]
    pub fn serialized_key_size(&self) -> i32 {
        self.key_size
    }

    /// The size of the value in bytes, -1 for null.
    #[inline]
    pub fn serialized_value_size(&self) -> i32 {
        self.value_size
    }
}

/// What became of a record that did not get into a log.
impl Error {
    /// The record of a send that failed, as it was to be stored: with the topic, the partition
    /// that was chosen, and the time of the send. Where [`Error::possibly_written`] holds, it may
    /// be in the log all the same.
    ///
    /// # Examples
    /// ```
    /// use topiclite::{Broker, ProducerConfig, ProducerRecord, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// let producer = broker.producer(ProducerConfig::default())?;
    /// let failed = producer.send_sync(ProducerRecord::new("orders").value("tea")).unwrap_err();
    /// assert_eq!(failed.topic(), Some("orders"));
    ///
    /// broker.admin().create_topic("orders", 1, TopicConfig::default())?;
    /// let record = failed.into_record().expect("the error is a send's");
    /// assert_eq!(producer.send_sync(record)?.offset(), 0);
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    pub fn record(&self) -> Option<&ProducerRecord<'static>> {
        self.attached()?.downcast_ref()
    }

    /// The same, to be sent again.
    pub fn into_record(self) -> Option<ProducerRecord<'static>> {
        let shared = self.into_attached()?.downcast::<ProducerRecord<'static>>().ok()?;
        Some(std::sync::Arc::unwrap_or_clone(shared))
    }

    /// The call's fault: the record comes back as it was given.
    #[cold]
    pub(super) fn refusing(self, record: &ProducerRecord<'_>) -> Error {
        self.with_attached(std::sync::Arc::new(record.clone().into_owned()))
    }

    /// The topic's fault, or its log's: the record comes back as it was to be stored.
    #[cold]
    pub(super) fn losing(self, record: ProducerRecord<'static>) -> Error {
        let error = match (self.topic(), self.partition(), record.partition) {
            (_, None, Some(partition)) => self.with_partition(record.topic(), partition),
            (None, None, None) => self.with_topic(record.topic()),
            _ => self,
        };
        error.with_attached(std::sync::Arc::new(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(record: &ProducerRecord<'_>) -> usize {
        size_upper_bound(&record.input(0, &record.header_inputs()))
    }

    #[test]
    fn the_upper_bound_of_a_records_size_is_kafkas() {
        let of = |n: usize| sized(&ProducerRecord::new("t").value(vec![0; n]));
        assert_eq!((of(914), of(915)), (1000, 1001), "recorded from a real Kafka");
        let record = ProducerRecord::new("t").key("").header("ab", "c").header("", None::<&str>);
        let fields = 1 + 1 + 1 + (3 + 2) + (1 + 1);
        assert_eq!(sized(&record), 61 + 21 + fields);
    }

    #[test]
    fn the_size_in_a_batch_is_what_the_encoder_writes() {
        use crate::record::{BatchBuilder, Codec, Stamp};
        let value = vec![7; 300];
        let records = [
            ProducerRecord::new("t").key("k").value(&value).timestamp(1000),
            ProducerRecord::new("t").timestamp(2_000_000).header("name", "value"),
            ProducerRecord::new("t").value("").timestamp(3),
        ];
        let mut builder = BatchBuilder::new(Codec::None, None).unwrap();
        let mut size = BATCH_HEADER;
        for (i, record) in records.iter().enumerate() {
            let headers = record.header_inputs();
            let input = record.input(0, &headers);
            size += size_in_batch(&input, i, input.timestamp - 1000);
            builder.append(&input).unwrap();
        }
        assert_eq!(builder.finish(&Stamp::plain(0, -1)).unwrap().len(), size);
    }

    #[test]
    fn negative_numbers_are_illegal_arguments() {
        for record in [
            ProducerRecord::new("t").partition(-1),
            ProducerRecord::new("t").timestamp(-1),
            ProducerRecord::new("t").partition(0).timestamp(-5),
        ] {
            assert_eq!(record.check().unwrap_err().kind(), ErrorKind::IllegalArgument);
        }
        ProducerRecord::new("t").partition(0).timestamp(0).check().unwrap();
    }

    #[test]
    fn a_record_that_came_back_can_be_sent_again() {
        let record = ProducerRecord::new("t").key("k").header("h", None::<&str>).timestamp(5);
        let copy = ProducerRecord::copied("t", Some(2), &record.input(9, &record.header_inputs()));
        let failed = Error::new(ErrorKind::StorageFull, "no room").losing(copy);
        assert_eq!((failed.topic(), failed.partition()), (Some("t"), Some(2)));
        let again = failed.clone().into_record().unwrap();
        assert_eq!((again.topic(), again.chosen_timestamp()), ("t", Some(5)));
        assert_eq!(again.chosen_partition(), Some(2));
        assert_eq!((again.key_bytes(), again.value_bytes()), (Some(&b"k"[..]), None));
        assert!(again.headers().eq(record.headers()));
        assert_eq!(failed.record().unwrap().chosen_timestamp(), Some(5));
        let refused = Error::new(ErrorKind::Closed, "closed").refusing(&ProducerRecord::new("t"));
        assert_eq!((refused.topic(), refused.record().unwrap().topic()), (None, "t"));
        assert!(Error::new(ErrorKind::Closed, "").into_record().is_none());
    }

    #[test]
    fn a_record_is_moved_without_a_call() {
        // The compiler copies up to 128 bytes by itself.
        assert!(size_of::<ProducerRecord<'_>>() <= 128, "{}", size_of::<ProducerRecord<'_>>());
    }

    #[test]
    fn headers_are_owned_as_soon_as_one_is() {
        let borrowed = ProducerRecord::new("t").header("a", "1").header("b", None::<&[u8]>);
        assert!(!borrowed.owns_headers());
        let mixed = borrowed.clone().header(String::from("c"), vec![3]).header("d", [4]);
        assert!(mixed.owns_headers());
        let expected =
            [("a", Some(&b"1"[..])), ("b", None), ("c", Some(&[3][..])), ("d", Some(&[4][..]))];
        assert!(mixed.headers().eq(expected));
        let inputs = mixed.header_inputs();
        assert!(inputs.iter().map(|header| (header.name, header.value)).eq(expected));
        assert!(mixed.clone().into_owned().headers().eq(expected));
        assert!(borrowed.into_owned().headers().eq(expected.into_iter().take(2)));
    }

    #[test]
    fn neither_a_record_nor_an_error_that_carries_it_shows_a_payload() {
        let record =
            ProducerRecord::new("t").key("hunter2").value("hunter2").header("h", "hunter2");
        let failed = Error::new(ErrorKind::Closed, "closed").refusing(&record);
        for text in [format!("{record:?}"), format!("{failed:?}"), format!("{failed:#?}")] {
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert!(format!("{record:?}").contains("key: 7 bytes"));
    }
}
