//! What a producer sends, what comes back, and what comes back when it does not work.

use crate::error::{Error, ErrorKind};
use crate::record::{HeaderInput, OwnedRecord, RecordInput, varint};
use crate::sync::Arc;
use std::fmt;

/// A record to send. It borrows its topic, key, value and headers.
///
/// # Examples
/// ```
/// use topiclite::ProducerRecord;
/// let record = ProducerRecord::new("orders").key("alice").value("one tea").header("trace", "7");
/// assert_eq!(record.topic(), "orders");
/// assert_eq!(record.key_bytes(), Some(&b"alice"[..]));
/// ```
#[derive(Clone)]
pub struct ProducerRecord<'a> {
    topic: &'a str,
    partition: Option<i32>,
    timestamp: Option<i64>,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Vec<HeaderInput<'a>>,
}

impl<'a> ProducerRecord<'a> {
    /// A record for `topic` with neither key nor value.
    #[inline]
    pub fn new(topic: &'a str) -> ProducerRecord<'a> {
        ProducerRecord {
            topic,
            partition: None,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    /// The record that a late failure gave back, for `topic`.
    pub fn from_owned(topic: &'a str, record: &'a OwnedRecord) -> ProducerRecord<'a> {
        ProducerRecord {
            topic,
            partition: None,
            timestamp: (record.timestamp >= 0).then_some(record.timestamp),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: record.header_inputs(),
        }
    }

    /// Chooses the partition, from 0. It wins over the key.
    #[inline]
    pub fn partition(mut self, partition: i32) -> ProducerRecord<'a> {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp, in milliseconds since 1970 and not negative. Without it, the time of
    /// the send. A topic with `LogAppendTime` replaces it.
    #[inline]
    pub fn timestamp(mut self, ms: i64) -> ProducerRecord<'a> {
        self.timestamp = Some(ms);
        self
    }

    /// Sets the key. An empty key is a key.
    #[inline]
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> ProducerRecord<'a> {
        self.key = Some(key.as_ref());
        self
    }

    /// Sets the value. A record without one is a tombstone on a compacted topic.
    #[inline]
    pub fn value<V: AsRef<[u8]> + ?Sized>(mut self, value: &'a V) -> ProducerRecord<'a> {
        self.value = Some(value.as_ref());
        self
    }

    /// Sets the key, or takes it away.
    #[inline]
    pub fn key_or_null(mut self, key: Option<&'a [u8]>) -> ProducerRecord<'a> {
        self.key = key;
        self
    }

    /// Sets the value, or takes it away.
    #[inline]
    pub fn value_or_null(mut self, value: Option<&'a [u8]>) -> ProducerRecord<'a> {
        self.value = value;
        self
    }

    /// Adds a header behind the others; names may repeat.
    pub fn header<V: AsRef<[u8]> + ?Sized>(
        self,
        name: &'a str,
        value: &'a V,
    ) -> ProducerRecord<'a> {
        self.header_or_null(name, Some(value.as_ref()))
    }

    /// Adds a header whose value may be null.
    pub fn header_or_null(mut self, name: &'a str, value: Option<&'a [u8]>) -> ProducerRecord<'a> {
        self.headers.push(HeaderInput { name, value });
        self
    }

    /// The topic.
    #[inline]
    pub fn topic(&self) -> &'a str {
        self.topic
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
    pub fn key_bytes(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value.
    #[inline]
    pub fn value_bytes(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The headers, in order.
    #[inline]
    pub fn headers(&self) -> &[HeaderInput<'a>] {
        &self.headers
    }

    /// The record as the log takes it, with `timestamp` where it has none of its own.
    #[inline]
    pub(super) fn input(&self, timestamp: i64) -> RecordInput<'_> {
        RecordInput {
            timestamp: self.timestamp.unwrap_or(timestamp),
            key: self.key,
            value: self.value,
            headers: &self.headers,
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
        Error::new(ErrorKind::IllegalArgument, message).with_topic(self.topic)
    }
}

impl fmt::Debug for ProducerRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads may be large, or secret.
        f.debug_struct("ProducerRecord")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("timestamp", &self.timestamp)
            .field("key_size", &self.key.map(<[u8]>::len))
            .field("value_size", &self.value.map(<[u8]>::len))
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

/// A send that was refused on the spot, with the record.
///
/// These are faults of the call: an argument out of range, a closed producer. Everything that has
/// to do with the topic or its log comes through the [`SendFuture`](super::SendFuture).
pub struct SendError<'a>(Box<(Error, ProducerRecord<'a>)>);

impl<'a> SendError<'a> {
    #[cold]
    pub(super) fn new(error: Error, record: ProducerRecord<'a>) -> SendError<'a> {
        SendError(Box::new((error, record)))
    }

    /// What is wrong.
    pub fn error(&self) -> &Error {
        &self.0.0
    }

    /// The kind of [`SendError::error`].
    pub fn kind(&self) -> ErrorKind {
        self.0.0.kind()
    }

    /// The record.
    pub fn record(&self) -> &ProducerRecord<'a> {
        &self.0.1
    }

    /// Gives the record back.
    pub fn into_record(self) -> ProducerRecord<'a> {
        self.0.1
    }
}

impl From<SendError<'_>> for Error {
    fn from(refused: SendError<'_>) -> Error {
        refused.0.0
    }
}

impl fmt::Debug for SendError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendError").field(self.error()).field(self.record()).finish()
    }
}

impl fmt::Display for SendError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.error(), f)
    }
}

impl std::error::Error for SendError<'_> {}

/// A record that was not stored, with the reason.
///
/// Where [`Error::possibly_written`] holds, it may be in the log all the same.
#[derive(Debug, Clone)]
pub struct DeliveryError(Box<Undelivered>);

#[derive(Debug, Clone)]
struct Undelivered {
    error: Error,
    topic: Arc<str>,
    partition: Option<i32>,
    record: OwnedRecord,
}

impl DeliveryError {
    #[cold]
    pub(super) fn new(
        error: Error,
        topic: impl Into<Arc<str>>,
        partition: Option<i32>,
        record: OwnedRecord,
    ) -> DeliveryError {
        DeliveryError(Box::new(Undelivered { error, topic: topic.into(), partition, record }))
    }

    /// What went wrong.
    pub fn error(&self) -> &Error {
        &self.0.error
    }

    /// The kind of [`DeliveryError::error`].
    pub fn kind(&self) -> ErrorKind {
        self.0.error.kind()
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// The partition, once one was chosen.
    pub fn partition(&self) -> Option<i32> {
        self.0.partition
    }

    /// The record.
    pub fn record(&self) -> &OwnedRecord {
        &self.0.record
    }

    /// Gives the record back, to be sent again with [`ProducerRecord::from_owned`].
    pub fn into_record(self) -> OwnedRecord {
        self.0.record
    }
}

impl From<DeliveryError> for Error {
    fn from(failed: DeliveryError) -> Error {
        failed.0.error
    }
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.error(), f)
    }
}

impl std::error::Error for DeliveryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::batch::owned;

    #[test]
    fn the_upper_bound_of_a_records_size_is_kafkas() {
        let sized = |n: usize| {
            let value = vec![0; n];
            let record = ProducerRecord::new("t").value(&value);
            size_upper_bound(&record.input(0))
        };
        assert_eq!((sized(914), sized(915)), (1000, 1001), "recorded from a real Kafka");
        let record = ProducerRecord::new("t").key("").header("ab", "c").header_or_null("", None);
        let fields = 1 + 1 + 1 + (3 + 2) + (1 + 1);
        assert_eq!(size_upper_bound(&record.input(0)), 61 + 21 + fields);
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
            let input = record.input(0);
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
        let record = ProducerRecord::new("t").key("k").header_or_null("h", None).timestamp(5);
        let owned = owned(&record.input(9));
        let again = ProducerRecord::from_owned("u", &owned);
        assert_eq!((again.topic(), again.chosen_timestamp()), ("u", Some(5)));
        assert_eq!((again.key_bytes(), again.value_bytes()), (Some(&b"k"[..]), None));
        assert_eq!(again.headers(), record.headers());
    }

    #[test]
    fn errors_turn_into_the_crates_error_and_keep_the_record() {
        let error = Error::new(ErrorKind::IllegalState, "the producer is closed");
        let refused = SendError::new(error.clone(), ProducerRecord::new("t").value("v"));
        assert_eq!(refused.record().value_bytes(), Some(&b"v"[..]));
        assert_eq!(Error::from(refused).kind(), ErrorKind::IllegalState);
        let owned = owned(&ProducerRecord::new("t").value("v").input(1));
        let failed = DeliveryError::new(error, "t", Some(2), owned);
        assert_eq!((failed.topic(), failed.partition()), ("t", Some(2)));
        assert_eq!(failed.clone().into_record().value.as_deref(), Some(&b"v"[..]));
        assert_eq!(Error::from(failed).kind(), ErrorKind::IllegalState);
    }
}
