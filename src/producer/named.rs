//! Producers that go on under their name: what of them a partition has, and records that are sent
//! again under the number that they had.

use super::Producer;
use super::future::SendFuture;
use super::record::ProducerRecord;
use crate::error::Result;

impl Producer {
    /// The sequence of the last record that this producer's name has in a partition, in this life
    /// or an earlier one; `None` where it has none. [`ProducerConfig::name`] makes a name.
    ///
    /// Sequences begin at 0, rise by one with each record of a partition, and go from 2^31 - 1 to
    /// 0. So a program whose records follow from their number goes on, after a crash, with the one
    /// behind it: what was stored is not sent again, whether it was acknowledged or not.
    ///
    /// What is known of a name in a partition is forgotten `producer.id.expiration.ms` (a day)
    /// after the time of its last record there, as that of every producer.
    ///
    /// [`ProducerConfig::name`]: crate::ProducerConfig::name
    ///
    /// # Examples
    /// ```
    /// use topiclite::{Broker, ProducerConfig, ProducerRecord, TopicConfig};
    /// let lines = ["one", "two", "three", "four"];
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let dir = dir.path();
    /// let import = |upto: usize| -> topiclite::Result<()> {
    ///     let broker = Broker::open(dir)?;
    ///     if broker.admin().list_topics()?.is_empty() {
    ///         broker.admin().create_topic("lines", 1, TopicConfig::default())?;
    ///     }
    ///     let producer = broker.producer(ProducerConfig::default().name("import"))?;
    ///     let next = producer.last_sequence("lines", 0)?.map_or(0, |last| last as usize + 1);
    ///     for line in &lines[next..upto] {
    ///         producer.send_sync(ProducerRecord::new("lines").partition(0).value(*line))?;
    ///     }
    ///     Ok(()) // Dropped without a close: the same as a crash.
    /// };
    /// import(3)?;
    /// import(4)?;
    /// let broker = Broker::open(dir)?;
    /// let mut reader = broker.reader("lines", 0, topiclite::ReadFrom::Beginning)?;
    /// assert_eq!(reader.read(std::time::Duration::ZERO)?.len(), 4);
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`IllegalState`](crate::ErrorKind::IllegalState) for a producer without a name;
    /// [`UnknownTopicOrPartition`](crate::ErrorKind::UnknownTopicOrPartition); those of opening the
    /// partition.
    pub fn last_sequence(&self, topic: &str, partition: i32) -> Result<Option<i32>> {
        self.0.last_sequence(topic, partition)
    }

    /// Sends a record under a sequence of the caller's choice, which has to be the one behind
    /// [`Producer::last_sequence`], or one that the partition has: then nothing is stored, and the
    /// answer is where the record is. The offset is -1 where that is not known any more: of each
    /// name a partition knows the last five batches. The first record of a name may have any
    /// sequence.
    ///
    /// That a sequence which is sent again has the same record is the caller's promise. What
    /// lingers in the partition is sent before.
    ///
    /// # Durability
    /// See [`SendFuture::wait`].
    ///
    /// # Errors
    /// [`IllegalState`](crate::ErrorKind::IllegalState) for a producer without a name;
    /// [`IllegalArgument`](crate::ErrorKind::IllegalArgument) for a negative sequence, and for a
    /// record that has neither partition nor key. Through the future:
    /// [`OutOfOrderSequence`](crate::ErrorKind::OutOfOrderSequence) for a sequence that leaves
    /// others out, and those of [`Producer::send`].
    pub fn send_numbered(&self, record: ProducerRecord<'_>, sequence: i32) -> Result<SendFuture> {
        self.0.send_numbered(&record, sequence)
    }
}
