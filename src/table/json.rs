//! JSON, through serde: a format of typed views, and single values of a table.

use super::change::{TableChange, TableEntry};
use super::typed::{Serde, SerdeError, no_value};
use super::view::TableView;
use crate::error::Result;
use crate::topic::TopicPartition;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// JSON (feature `json`), of whatever serde reads and writes.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use topiclite::{Broker, Json, ProducerConfig, ProducerRecord, TableOptions, Text};
/// # let broker = Broker::in_memory()?;
/// # broker.admin().create_topic("stock", 1, topiclite::TopicConfig::default())?;
/// # let producer = broker.producer(ProducerConfig::default())?;
/// type Stock = std::collections::BTreeMap<String, u32>; // or a type that derives from serde's
/// producer.send_sync(ProducerRecord::new("stock").key("tea").value(r#"{"boxes": 7}"#))?;
/// let mut table = broker.table("stock", TableOptions::new())?;
/// table.catch_up(Duration::from_secs(10))?;
/// let stock = table.typed::<String, Stock, _, _>(Text, Json);
/// assert_eq!(stock.get(&"tea".to_owned())?.map(|of| of["boxes"]), Some(7));
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json;

impl<T: Serialize + DeserializeOwned> Serde<T> for Json {
    fn serialize(&self, value: &T) -> Result<Vec<u8>, SerdeError> {
        Ok(serde_json::to_vec(value)?)
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<T, SerdeError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

impl TableView {
    /// The latest value of a key, read as JSON (feature `json`).
    ///
    /// # Errors
    /// [`InvalidRecord`](crate::ErrorKind::InvalidRecord) with the place of a record that is no
    /// such value.
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
    /// [`InvalidRecord`](crate::ErrorKind::InvalidRecord) with the place of a record that is no
    /// such value.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        from_json(&self.record.place, self.record.offset, &self.value)
    }
}

impl TableChange {
    /// The value from here on, read as JSON (feature `json`); None where the key is gone.
    ///
    /// # Errors
    /// [`InvalidRecord`](crate::ErrorKind::InvalidRecord) with the place of a record that is no
    /// such value.
    pub fn new_json<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let read = |value: &bytes::Bytes| from_json(&self.record.place, self.record.offset, value);
        self.new.as_ref().map(read).transpose()
    }
}

fn from_json<T: DeserializeOwned>(place: &TopicPartition, offset: i64, value: &[u8]) -> Result<T> {
    let read = serde_json::from_slice(value);
    read.map_err(|error| no_value("value", place, offset, error.into()))
}
