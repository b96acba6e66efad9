//! The record that an error of a send carries, so that it can be sent again.

use super::ProducerRecord;
use crate::error::Error;

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
    pub(in crate::producer) fn refusing(self, record: &ProducerRecord<'_>) -> Error {
        self.with_attached(std::sync::Arc::new(record.clone().into_owned()))
    }

    /// The topic's fault, or its log's: the record comes back as it was to be stored.
    #[cold]
    pub(in crate::producer) fn losing(self, record: ProducerRecord<'static>) -> Error {
        let error = match (self.topic(), record.partition) {
            // The cause may lie in another partition of the transaction.
            (_, Some(partition)) => self.with_partition(record.topic(), partition),
            (None, None) => self.with_topic(record.topic()),
            _ => self,
        };
        error.with_attached(std::sync::Arc::new(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

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
}
