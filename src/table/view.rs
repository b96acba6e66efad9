//! Reading a table, from any thread, while it follows its topic.

use super::change::{TableEntry, TableRecord};
use super::entries::{Entries, Held, HeldPartition, Latest};
use crate::sync::{Arc, Ordering};
use crate::topic::TopicPartition;
use bytes::Bytes;
use std::fmt;
use std::iter::FusedIterator;

/// A handle that reads a [`Table`](crate::Table) from any thread, also while it follows its topic.
/// Cheap to clone. It shows what the follower has applied, and goes on showing it when the table
/// is dropped.
///
/// What one read of one partition brought appears at once; partitions move one by one, so that a
/// transaction over several may be seen in parts.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use topiclite::{Broker, ProducerConfig, ProducerRecord, TableOptions, TopicConfig};
/// let broker = Broker::in_memory()?;
/// let compacted = TopicConfig::default().cleanup_policy(&["compact"]);
/// broker.admin().create_topic("prices", 1, compacted)?;
/// let mut table = broker.table("prices", TableOptions::new())?;
/// let view = table.view();
/// let reader = std::thread::spawn(move || {
///     while view.get("tea").is_none() {
///         std::thread::yield_now();
///     }
///     view.get("tea")
/// });
/// let producer = broker.producer(ProducerConfig::default())?;
/// producer.send_sync(ProducerRecord::new("prices").key("tea").value("1.20"))?;
/// table.update(Duration::from_secs(5))?;
/// assert_eq!(reader.join().unwrap().as_deref(), Some(&b"1.20"[..]));
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Clone)]
pub struct TableView(pub(super) Arc<Held>);

impl TableView {
    /// The latest value of a key.
    ///
    /// A key that was sent to several partitions is an entry of each. This answers from the one
    /// that the default partitioner chooses for it, else from the lowest that has it.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Bytes> {
        self.0.find(key.as_ref(), |_, latest| latest.value.clone())
    }

    /// The latest value of a key, with its place and time.
    pub fn entry(&self, key: impl AsRef<[u8]>) -> Option<TableEntry> {
        let key = key.as_ref();
        self.0.find(key, |place, latest| entry_of(place, &Bytes::copy_from_slice(key), latest))
    }

    /// Runs `body` on the latest value of a key, without copying or counting anything. The
    /// follower waits meanwhile, where it is about to write to that partition.
    pub fn with<T>(&self, key: impl AsRef<[u8]>, body: impl Fn(&[u8]) -> T) -> Option<T> {
        self.0.find(key.as_ref(), |_, latest| body(&latest.value))
    }

    /// Whether there is such a key.
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> bool {
        self.0.find(key.as_ref(), |_, _| ()).is_some()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.partitions().iter().map(|at| at.read(Entries::len)).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All entries, in no order. Those of one partition are taken at once, when the iterator comes
    /// to it: that part is what the table held at one moment.
    pub fn iter(&self) -> TableIter {
        let partitions = self.0.partitions().to_vec();
        TableIter { partitions: partitions.into_iter(), entries: Vec::new().into_iter() }
    }

    /// Whether the table had once applied everything up to the ends that it knew at the time, by
    /// [`Table::catch_up`](crate::Table::catch_up), or by an update that found nothing more.
    pub fn has_caught_up(&self) -> bool {
        self.0.caught_up.load(Ordering::Acquire)
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// Records without a key that were read, which no table can hold.
    pub fn dropped_records(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for TableView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableView")
            .field("topic", &self.0.topic)
            .field("len", &self.len())
            .field("has_caught_up", &self.has_caught_up())
            .finish()
    }
}

impl IntoIterator for &TableView {
    type Item = TableEntry;
    type IntoIter = TableIter;

    fn into_iter(self) -> TableIter {
        self.iter()
    }
}

fn entry_of(place: &TopicPartition, key: &Bytes, latest: &Latest) -> TableEntry {
    let (offset, timestamp) = (latest.offset, latest.timestamp);
    let record = TableRecord { place: place.clone(), offset, timestamp, key: key.clone() };
    TableEntry { record, value: latest.value.clone() }
}

/// Iterates over the entries of a table.
#[derive(Debug)]
pub struct TableIter {
    partitions: std::vec::IntoIter<Arc<HeldPartition>>,
    entries: std::vec::IntoIter<TableEntry>,
}

impl Iterator for TableIter {
    type Item = TableEntry;

    fn next(&mut self) -> Option<TableEntry> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Some(entry);
            }
            let at = self.partitions.next()?;
            let all = at.read(|entries| {
                let entry = |(key, latest)| entry_of(&at.place, key, latest);
                entries.iter().map(entry).collect::<Vec<_>>()
            });
            self.entries = all.into_iter();
        }
    }
}

impl FusedIterator for TableIter {}
