//! A table with types instead of bytes: what its keys and values are is the program's, and so is
//! the format that they are written in. A record that is no such value is an error of its own, with
//! its place, and hides no other.

use super::change::{TableChange, TableRecord};
use super::entries::Latest;
use super::view::{TableIter, TableView};
use crate::error::{Error, ErrorKind, Result};
use crate::topic::TopicPartition;
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

/// Why bytes are no value, or a value has no bytes, in the words of its format.
pub type SerdeError = Box<dyn std::error::Error + Send + Sync>;

/// A format: how values of the type `T` become bytes, and bytes values again. Kafka's word.
///
/// [`Text`] reads strings, `Json` (feature `json`) whatever serde does. Another format of serde is
/// a few lines:
///
/// ```
/// use serde::{Serialize, de::DeserializeOwned};
/// use topiclite::{Serde, SerdeError};
///
/// /// Stands for any format: postcard, CBOR, MessagePack.
/// struct Compact;
///
/// impl<T: Serialize + DeserializeOwned> Serde<T> for Compact {
///     fn serialize(&self, value: &T) -> Result<Vec<u8>, SerdeError> {
///         Ok(serde_json::to_vec(value)?)
///     }
///
///     fn deserialize(&self, bytes: &[u8]) -> Result<T, SerdeError> {
///         Ok(serde_json::from_slice(bytes)?)
///     }
/// }
/// # let seven = Compact.serialize(&7).unwrap();
/// # let read: u32 = Compact.deserialize(&seven).unwrap();
/// # assert_eq!(read, 7);
/// ```
pub trait Serde<T> {
    /// The bytes of a value. Equal keys have equal bytes: a table finds them by these.
    ///
    /// # Errors
    /// Why it has none.
    fn serialize(&self, value: &T) -> Result<Vec<u8>, SerdeError>;

    /// The value of bytes that anybody may have sent.
    ///
    /// # Errors
    /// Why they are no such value.
    fn deserialize(&self, bytes: &[u8]) -> Result<T, SerdeError>;
}

/// Strings, as UTF-8.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Text;

impl Serde<String> for Text {
    fn serialize(&self, value: &String) -> Result<Vec<u8>, SerdeError> {
        Ok(value.clone().into_bytes())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<String, SerdeError> {
        Ok(std::str::from_utf8(bytes)?.to_owned())
    }
}

/// A [`TableView`] whose keys and values have types, from [`TableView::typed`].
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use topiclite::{Broker, ProducerConfig, ProducerRecord, TableOptions, Text, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// # let compacted = TopicConfig::default().cleanup_policy(&["compact"]);
/// # broker.admin().create_topic("capitals", 1, compacted)?;
/// # let producer = broker.producer(ProducerConfig::default())?;
/// producer.send_sync(ProducerRecord::new("capitals").key("France").value("Paris"))?;
/// let mut table = broker.table("capitals", TableOptions::new())?;
/// table.catch_up(Duration::from_secs(10))?;
///
/// let capitals = table.typed::<String, String, _, _>(Text, Text);
/// assert_eq!(capitals.get(&"France".to_owned())?.as_deref(), Some("Paris"));
///
/// producer.send_sync(ProducerRecord::new("capitals").key("Peru").value(b"\xff"))?;
/// let changes = table.update(Duration::ZERO)?;
/// let error = capitals.change(&changes[0]).unwrap_err();
/// assert_eq!((error.kind().name(), error.offset()), ("InvalidRecord", Some(1)));
/// assert_eq!(capitals.iter().filter(Result::is_ok).count(), 1);
/// # Ok::<(), topiclite::Error>(())
/// ```
pub struct TypedView<K, V, KS, VS> {
    view: TableView,
    keys: KS,
    values: VS,
    types: PhantomData<fn() -> (K, V)>,
}

/// A [`TableChange`] with types, from [`TypedView::change`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TypedChange<K, V> {
    /// The key.
    pub key: K,
    /// The value before; None where there was none.
    pub old: Option<V>,
    /// The value from here on; None where the key is gone.
    pub new: Option<V>,
}

impl TableView {
    /// The same with types: keys and values in these formats.
    pub fn typed<K, V, KS: Serde<K>, VS: Serde<V>>(
        &self,
        keys: KS,
        values: VS,
    ) -> TypedView<K, V, KS, VS> {
        TypedView { view: self.clone(), keys, values, types: PhantomData }
    }
}

impl<K, V, KS: Serde<K>, VS: Serde<V>> TypedView<K, V, KS, VS> {
    /// The latest value of a key, as [`TableView::get`] finds it.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalArgument`] for a key that its format refuses;
    /// [`ErrorKind::InvalidRecord`] with the place of a record whose value is none.
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        let key = self.key_bytes(key)?;
        let read = |place: &TopicPartition, latest: &Latest| {
            let read = self.values.deserialize(&latest.value);
            read.map_err(|why| no_value("value", place, latest.offset, why))
        };
        self.view.0.find(&key, read).transpose()
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalArgument`] for a key that its format refuses.
    pub fn contains_key(&self, key: &K) -> Result<bool> {
        Ok(self.view.contains_key(self.key_bytes(key)?))
    }

    /// All entries, as [`TableView::iter`] gives them. One whose key or value is none is an error
    /// with its place ([`ErrorKind::InvalidRecord`]), and the others follow.
    pub fn iter(&self) -> TypedIter<'_, K, V, KS, VS> {
        TypedIter { view: self, entries: self.view.iter() }
    }

    /// A change with types.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecord`] with the place of the change, where the key or one of the
    /// values is none.
    pub fn change(&self, change: &TableChange) -> Result<TypedChange<K, V>> {
        let value = |bytes: &bytes::Bytes| self.value_of(change, bytes);
        Ok(TypedChange {
            key: self.key_of(change)?,
            old: change.old_value().map(value).transpose()?,
            new: change.new_value().map(value).transpose()?,
        })
    }

    /// The bytes behind it.
    pub fn view(&self) -> &TableView {
        &self.view
    }

    fn key_bytes(&self, key: &K) -> Result<Vec<u8>> {
        self.keys.serialize(key).map_err(|why| {
            let told = format!("the key cannot be written: {why}");
            Error::new(ErrorKind::IllegalArgument, told).with_topic(self.view.topic())
        })
    }

    fn key_of(&self, record: &TableRecord) -> Result<K> {
        let read = self.keys.deserialize(record.key());
        read.map_err(|why| no_value("key", record.topic_partition(), record.offset(), why))
    }

    fn value_of(&self, record: &TableRecord, bytes: &[u8]) -> Result<V> {
        let read = self.values.deserialize(bytes);
        read.map_err(|why| no_value("value", record.topic_partition(), record.offset(), why))
    }
}

impl<K, V, KS: Clone, VS: Clone> Clone for TypedView<K, V, KS, VS> {
    fn clone(&self) -> Self {
        let (view, keys, values) = (self.view.clone(), self.keys.clone(), self.values.clone());
        TypedView { view, keys, values, types: PhantomData }
    }
}

impl<K, V, KS, VS> fmt::Debug for TypedView<K, V, KS, VS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedView").field("view", &self.view).finish_non_exhaustive()
    }
}

/// Iterates over the entries of a table, with types.
pub struct TypedIter<'v, K, V, KS, VS> {
    view: &'v TypedView<K, V, KS, VS>,
    entries: TableIter,
}

impl<K, V, KS: Serde<K>, VS: Serde<V>> Iterator for TypedIter<'_, K, V, KS, VS> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Result<(K, V)>> {
        let entry = self.entries.next()?;
        let value = |key| Ok((key, self.view.value_of(&entry, entry.value())?));
        Some(self.view.key_of(&entry).and_then(value))
    }
}

impl<K, V, KS: Serde<K>, VS: Serde<V>> FusedIterator for TypedIter<'_, K, V, KS, VS> {}

impl<K, V, KS, VS> fmt::Debug for TypedIter<'_, K, V, KS, VS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedIter").field("view", &self.view).finish_non_exhaustive()
    }
}

impl<'v, K, V, KS: Serde<K>, VS: Serde<V>> IntoIterator for &'v TypedView<K, V, KS, VS> {
    type Item = Result<(K, V)>;
    type IntoIter = TypedIter<'v, K, V, KS, VS>;

    fn into_iter(self) -> TypedIter<'v, K, V, KS, VS> {
        self.iter()
    }
}

/// Bytes that are not what they were asked for as.
pub(super) fn no_value(what: &str, place: &TopicPartition, offset: i64, why: SerdeError) -> Error {
    let told = format!("its {what} is not what it was asked for as: {why}");
    Error::new(ErrorKind::InvalidRecord, told)
        .with_partition(place.topic(), place.partition())
        .with_offset(offset)
}
