//! Values of a table as JSON, through serde. Other formats read the bytes: they are there.

use super::change::{TableChange, TableEntry};
use super::view::TableView;
use crate::error::{Error, ErrorKind, Result};
use crate::topic::TopicPartition;
use serde::de::DeserializeOwned;

impl TableView {
    /// The latest value of a key, read as JSON (feature `json`).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecord`] with the place of a record that is no such value.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use topiclite::{Broker, ProducerConfig, ProducerRecord, TableOptions, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// # broker.admin().create_topic("stock", 1, TopicConfig::default())?;
    /// # let producer = broker.producer(ProducerConfig::default())?;
    /// producer.send_sync(ProducerRecord::new("stock").key("tea").value(r#"{"boxes": 7}"#))?;
    /// let mut table = broker.table("stock", TableOptions::new())?;
    /// table.catch_up(Duration::from_secs(10))?;
    /// let stock: serde_json::Value = table.get_json("tea")?.expect("it was sent");
    /// assert_eq!(stock["boxes"], 7);
    /// assert!(table.get_json::<u32>("tea").is_err());
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    pub fn get_json<T: DeserializeOwned>(&self, key: impl AsRef<[u8]>) -> Result<Option<T>> {
        let read = |place: &TopicPartition, latest: &super::entries::Latest| {
            from_json(place, latest.offset, &latest.value)
        };
        self.0.find(key.as_ref(), read).transpose()
    }
}

impl TableEntry {
    /// The value, read as JSON (feature `json`).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecord`] with the place of a record that is no such value.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        from_json(&self.place, self.offset, &self.value)
    }
}

impl TableChange {
    /// The value from here on, read as JSON (feature `json`); None where the key is gone.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecord`] with the place of a record that is no such value.
    pub fn new_json<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        self.new.as_ref().map(|value| from_json(&self.place, self.offset, value)).transpose()
    }
}

fn from_json<T: DeserializeOwned>(place: &TopicPartition, offset: i64, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|error| {
        Error::new(
            ErrorKind::InvalidRecord,
            format!("its value is not the JSON asked for: {error}"),
        )
        .with_partition(place.topic(), place.partition())
        .with_offset(offset)
    })
}
