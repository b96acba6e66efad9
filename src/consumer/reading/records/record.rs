//! One record, as it lies in what a poll returned.

use super::RecordRun;
use super::kept::{OwnedConsumerRecord, Place, SharedRecord};
use crate::record::{Header, Headers, Record, TimestampType};
use crate::topic::TopicPartition;
use bytes::Bytes;
use std::fmt;

/// One record, borrowed from the [`ConsumerRecords`](crate::ConsumerRecords) that it came with.
#[derive(Clone, Copy)]
pub struct ConsumerRecord<'a> {
    pub(super) record: Record<'a>,
    pub(super) run: &'a RecordRun,
    pub(super) timestamp_type: TimestampType,
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
