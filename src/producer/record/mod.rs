//! What a producer sends: a record, made of borrowed or owned parts.
//!
//! What comes back is in `metadata.rs`, what comes back when it does not work in `lost.rs`, and
//! what a record takes in `size.rs`.

mod lost;
mod metadata;
mod payload;
mod size;

pub use metadata::RecordMetadata;
pub use payload::{IntoPayload, Payload};
pub(super) use size::{size_in_batch, size_upper_bound};

use crate::consumer::{ConsumerRecord, OwnedConsumerRecord, SharedRecord};
use crate::error::{Error, ErrorKind};
use crate::record::{HeaderInput, Headers, OwnedHeader, RecordInput};
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
    pub(in crate::producer) fn copied(
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
    pub(in crate::producer) fn owns_headers(&self) -> bool {
        matches!(&self.headers, RecordHeaders::Owned(headers) if !headers.is_empty())
    }

    /// The headers of a record that does not own them.
    #[inline]
    pub(in crate::producer) fn lent_headers(&self) -> &[HeaderInput<'_>] {
        match &self.headers {
            RecordHeaders::Borrowed(headers) => headers,
            RecordHeaders::Owned(_) => &[],
        }
    }

    /// Drops the record. Most own nothing, which is a look at four tags; the compiler's own way is
    /// a call for each field.
    #[inline]
    pub(in crate::producer) fn discard(self) {
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
    pub(in crate::producer) fn header_inputs(&self) -> Cow<'_, [HeaderInput<'_>]> {
        match &self.headers {
            RecordHeaders::Borrowed(headers) => Cow::Borrowed(headers),
            RecordHeaders::Owned(headers) => {
                Cow::Owned(headers.iter().map(OwnedHeader::input).collect())
            }
        }
    }

    /// The record as the log takes it, with `timestamp` where it has none of its own.
    #[inline]
    pub(in crate::producer) fn input<'r>(
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
    pub(in crate::producer) fn check(&self) -> Result<(), Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
