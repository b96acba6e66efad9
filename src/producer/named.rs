//! Producers that go on under their name: what of them a partition has, and records that are sent
//! again under the number that they had.

use super::future::SendFuture;
use super::record::{ProducerRecord, RecordMetadata};
use super::{Producer, ProducerCore, topics};
use crate::error::{Error, ErrorKind, Result};
use crate::log::{AppendOptions, ProducerStamp};
use crate::sync::Arc;

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
    /// [`ErrorKind::IllegalState`] for a producer without a name;
    /// [`ErrorKind::UnknownTopicOrPartition`]; those of opening the partition.
    pub fn last_sequence(&self, topic: &str, partition: i32) -> Result<Option<i32>> {
        self.0.check_open()?;
        let stamp = self.0.name_stamp()?;
        let found = self.0.broker.topic(topic).map_err(topics::missing_topic)?;
        found.partition(partition)?.log()?.last_sequence(stamp.producer_id)
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
    /// [`ErrorKind::IllegalState`] for a producer without a name; [`ErrorKind::IllegalArgument`]
    /// for a negative sequence, and for a record that has neither partition nor key. Through the
    /// future: [`ErrorKind::OutOfOrderSequence`] for a sequence that leaves others out, and those
    /// of [`Producer::send`].
    pub fn send_numbered(&self, record: ProducerRecord<'_>, sequence: i32) -> Result<SendFuture> {
        self.0.send_numbered(&record, sequence)
    }
}

impl ProducerCore {
    /// Who the producers of this name are.
    fn name_stamp(&self) -> Result<ProducerStamp> {
        match self.identity.as_ref().filter(|identity| identity.is_named()) {
            Some(identity) => identity.stamp(&self.broker),
            None => {
                let message = "only a producer with a name has sequences that outlive it";
                Err(Error::new(ErrorKind::IllegalState, message))
            }
        }
    }

    fn send_numbered(
        self: &Arc<Self>,
        record: &ProducerRecord<'_>,
        sequence: i32,
    ) -> Result<SendFuture> {
        let checked = self.check_open().and_then(|()| record.check()).and_then(|()| {
            let stamp = self.name_stamp()?;
            let illegal = |message| Err(Error::new(ErrorKind::IllegalArgument, message));
            if sequence < 0 {
                return illegal(format!("sequence {sequence} is negative"));
            }
            if record.chosen_partition().is_none() && record.key_bytes().is_none() {
                let message = "a numbered record needs a partition, or a key that chooses it";
                return illegal(message.to_owned());
            }
            Ok(stamp)
        });
        let stamp = checked.map_err(|error| error.refusing(record))?;
        let now_ms = self.clock().coarse_wall_ms();
        let headers = record.header_inputs();
        let input = record.input(now_ms, &headers);
        let stamp = ProducerStamp { base_sequence: sequence, ..stamp };
        let numbered = || {
            let topic = self.topics.find(record.topic(), &self.broker)?;
            let (queue, _) = self.choose(&topic, record.chosen_partition(), &input)?;
            self.check_size(&input)?;
            self.pause(queue)?;
            self.drain(queue, true);
            let mut state = queue.lock();
            // What lingers later goes on behind what the log has then.
            state.next_stamp = None;
            let options = AppendOptions { producer: Some(stamp), ..AppendOptions::client(now_ms) };
            let s = &self.settings;
            let appended = queue.log.append_records(&[input], s.codec, s.level, options);
            drop(state);
            match appended {
                Ok(appended) if appended.must_sync => Ok(self.unsynced(queue, appended, &input)),
                Ok(appended) => {
                    Ok(SendFuture::done(Ok(self.metadata(queue, Some(appended), &input))))
                }
                Err(error) if error.kind() == ErrorKind::OutOfOrderSequence => {
                    match queue.log.last_sequence(stamp.producer_id)? {
                        Some(last) if is_behind(sequence, last) => {
                            let metadata =
                                RecordMetadata::new(queue.partition, -1, input.timestamp, &input);
                            Ok(SendFuture::done(Ok(metadata)))
                        }
                        _ => Err(error),
                    }
                }
                Err(error) => Err(error),
            }
        };
        let sent = numbered();
        self.run_completions(false);
        sent.or_else(|error| self.refuse(error, record, &input).map(SendFuture::done))
    }
}

/// Whether a sequence was given before `last`, or is that: sequences wrap, so the nearer way
/// round tells.
fn is_behind(sequence: i32, last: i32) -> bool {
    const HALF: i32 = 1 << 30;
    (last.wrapping_sub(sequence) & i32::MAX) < HALF
}

#[cfg(test)]
mod tests {
    use super::is_behind;

    #[test]
    fn a_sequence_is_behind_the_last_one_also_over_the_largest() {
        for (sequence, last, behind) in [
            (0, 0, true),
            (3, 7, true),
            (8, 7, false),
            (i32::MAX, 2, true),
            (3, i32::MAX, false),
            (0, i32::MAX, false),
        ] {
            assert_eq!(is_behind(sequence, last), behind, "{sequence} {last}");
        }
    }
}
