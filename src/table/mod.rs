//! A compacted topic as a table: of each key its latest value, in memory.
//!
//! A [`Table`] reads the partitions of its topic from their beginnings, or from where its own
//! snapshot ends, and goes on as its owner asks it to; there is no thread. What it holds is what a
//! reader of the whole log would end with, so it is a function of the log alone, however it came
//! to it: that is what the tests hold it to. Kafka Streams' `GlobalKTable` is its model.
//!
//! `entries` is what is held, `view` reads it from other threads, `typed` with types instead of
//! bytes; `lapse` holds it to tombstones that went; `snapshot` keeps it over restarts, `format` is
//! the snapshot's bytes.

mod change;
mod entries;
mod follow;
mod format;
#[cfg(any(all(test, not(loom)), fuzzing))]
pub mod fuzzing;
#[cfg(feature = "json")]
mod json;
mod lapse;
mod options;
mod snapshot;
#[cfg(all(test, not(loom)))]
mod tests;
mod typed;
mod view;

pub use change::{ChangeCause, TableChange, TableEntry, TableRecord};
#[cfg(feature = "json")]
pub use json::Json;
pub use options::TableOptions;
pub use typed::{Serde, SerdeError, Text, TypedChange, TypedIter, TypedView};
pub use view::{TableIter, TableView};

use crate::broker::{Broker, BrokerInner, Topic};
use crate::config::IsolationLevel;
use crate::consumer::{Reader, Wakeup, WakeupHandle};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Arc;
use crate::topic::TopicPartition;
use entries::{Entries, Held, HeldPartition};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

/// A topic followed into memory: of each key its latest value. Made by
/// [`Broker::table`](crate::Broker::table), over an attached directory, too.
///
/// It moves in its own calls alone: [`Table::catch_up`] at the start, [`Table::update`] from then
/// on, which may wait for news. [`Table::view`] gives handles that read it from any thread
/// meanwhile; the table itself reads as a [`TableView`] does.
///
/// # What it holds
/// What a reader of the log from its beginning would end with: a tombstone removes its key, and an
/// entry whose record was removed by retention, or by `delete_records`, goes with it. Compaction
/// changes nothing, even where the table reads on only after tombstones went that it has not read:
/// where `delete.retention.ms` may have passed (half of it, to be sure), the partition is gone
/// through once more, within the call, and what has no record any more is dropped. Records without
/// a key are counted and left out. A topic that is not compacted can be followed, too.
///
/// # Memory
/// All keys and values, and 130 to 200 bytes an entry for the table itself, by how full its hash
/// tables are. While a snapshot is written half a megabyte more. [`Table::update`] returns what
/// was replaced together with what replaced it, of up to 1 MiB of records a partition;
/// [`Table::catch_up`] keeps no changes.
///
/// # Restarts
/// Without a snapshot the topic is read again. With [`TableOptions::snapshot`] and
/// [`Table::save`] a table begins where it was saved last, if the file is whole and the log is the
/// one that it was made of: the topic of that id, which still has what was read, by the leader
/// epochs of its lives and by the newest record of each partition, and where no tombstone can have
/// gone unread. Else it is read again, and [`Table::origin`] says why.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use topiclite::{Broker, ProducerConfig, ProducerRecord, TableOptions, TopicConfig};
/// let broker = Broker::in_memory()?;
/// let compacted = TopicConfig::default().cleanup_policy(&["compact"]);
/// broker.admin().create_topic("prices", 3, compacted)?;
/// let producer = broker.producer(ProducerConfig::default())?;
/// let price = |of: &'static str| ProducerRecord::new("prices").key(of);
/// producer.send_sync(price("tea").value("1.20"))?;
/// producer.send_sync(price("tea").value("1.25"))?;
/// producer.send_sync(price("milk").value("0.90"))?;
///
/// let mut table = broker.table("prices", TableOptions::new())?;
/// assert!(table.catch_up(Duration::from_secs(10))?);
/// assert_eq!(table.get("tea").as_deref(), Some(&b"1.25"[..]));
/// assert_eq!(table.len(), 2);
///
/// producer.send_sync(price("milk"))?; // no value: a tombstone
/// let changes = table.update(Duration::ZERO)?;
/// assert_eq!(changes[0].key(), "milk");
/// assert_eq!((changes[0].old_value().is_some(), changes[0].new_value()), (true, None));
/// assert!(!table.contains_key("milk"));
/// # Ok::<(), topiclite::Error>(())
/// ```
pub struct Table {
    broker: Arc<BrokerInner>,
    options: TableOptions,
    topic: Arc<Topic>,
    /// The version of the broker's topics that was looked at last.
    metadata: u64,
    view: TableView,
    followed: Vec<Followed>,
    /// Which partition is read first in the next round.
    turn: usize,
    origin: TableOrigin,
    wakeup: Arc<Wakeup>,
    listener: Option<Listener>,
}

/// What hears of each change.
type Listener = Box<dyn FnMut(&TableChange) + Send>;

/// One partition that is followed.
struct Followed {
    held: Arc<HeldPartition>,
    reader: Reader,
    /// Where the log began when it was looked at last: nothing is held of what lies below.
    start: i64,
    /// When nothing behind the position had been cleaned, in ms since 1970.
    fresh_ms: i64,
    /// Tombstones may have gone before they were read, and it was not looked into yet.
    lapsed: bool,
}

/// What a round over the partitions has in hand for each.
struct Followers<'t> {
    broker: &'t Arc<BrokerInner>,
    held: &'t Held,
    isolation: IsolationLevel,
    delete_retention_ms: i64,
    now_ms: i64,
}

/// The most records that one read takes; its bytes are bounded besides.
const RECORDS_MAX: usize = 10_000;

/// How a [`Table`] began, from [`Table::origin`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableOrigin {
    /// With nothing: the topic is read from its beginning.
    Replay,
    /// With the entries of a snapshot, so many.
    Snapshot(usize),
    /// As [`TableOrigin::Replay`], because the snapshot could not be used, for this reason.
    Rebuilt(String),
}

impl Broker {
    /// A table over a topic, usually a compacted one. It holds nothing, or what its snapshot says,
    /// until [`Table::catch_up`] or [`Table::update`] is called.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTopicOrPartition`] for the topic or one of the partitions of the
    /// options, [`ErrorKind::InvalidTopic`], [`ErrorKind::Closed`]; those of opening a partition.
    /// A snapshot that cannot be used is none: see [`Table::origin`].
    pub fn table(&self, topic: &str, options: TableOptions) -> Result<Table> {
        Table::new(self.inner().clone(), topic, options)
    }
}

impl Table {
    fn new(broker: Arc<BrokerInner>, name: &str, options: TableOptions) -> Result<Table> {
        let metadata = broker.metadata_version();
        let topic = broker.topic(name)?;
        let mut table = Table {
            view: TableView(Arc::new(Held::new(topic.name().clone()))),
            broker,
            options,
            topic,
            metadata,
            followed: Vec::new(),
            turn: 0,
            origin: TableOrigin::Replay,
            wakeup: Wakeup::new(),
            listener: None,
        };
        if let Some(wanted) = &table.options.partitions {
            for number in wanted {
                table.topic.partition(*number)?;
            }
        }
        let mut begun = BTreeMap::new();
        if let Some(path) = table.options.snapshot.clone() {
            match snapshot::load(&table.broker, &table.topic, &table.options, &path) {
                Ok(None) => {}
                Ok(Some(loaded)) => {
                    let entries = loaded.values().map(|part| part.entries.len()).sum();
                    table.origin = TableOrigin::Snapshot(entries);
                    begun = loaded;
                }
                Err(why) => {
                    let name = table.topic.name();
                    tracing::warn!(topic = %name, path = %path.display(), why, "table rebuilt");
                    table.origin = TableOrigin::Rebuilt(why);
                }
            }
        }
        table.take_partitions(begun)?;
        Ok(table)
    }

    /// How it began.
    pub fn origin(&self) -> &TableOrigin {
        &self.origin
    }

    /// A handle that reads the table from any thread.
    pub fn view(&self) -> TableView {
        self.view.clone()
    }

    /// A handle that interrupts [`Table::update`] and [`Table::catch_up`] from any thread.
    pub fn wakeup_handle(&self) -> WakeupHandle {
        self.wakeup.handle()
    }

    /// Has `listener` called with each change from here on, by the call that applied it, on its
    /// thread, once readers can see it. It takes the place of the one before.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use topiclite::{Broker, ProducerConfig, ProducerRecord, TableOptions, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// # broker.admin().create_topic("prices", 1, TopicConfig::default())?;
    /// # let producer = broker.producer(ProducerConfig::default())?;
    /// # producer.send_sync(ProducerRecord::new("prices").key("tea").value("1.20"))?;
    /// let mut table = broker.table("prices", TableOptions::new())?;
    /// let (told, heard) = std::sync::mpsc::channel();
    /// table.listen(move |change| {
    ///     told.send((change.key().clone(), change.new_value().cloned())).ok();
    /// });
    /// table.catch_up(Duration::from_secs(10))?;
    /// assert_eq!(heard.try_recv(), Ok(("tea".into(), Some("1.20".into()))));
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    pub fn listen(&mut self, listener: impl FnMut(&TableChange) + Send + 'static) {
        self.listener = Some(Box::new(listener));
    }

    /// The next offset to read, per partition.
    pub fn positions(&self) -> BTreeMap<TopicPartition, i64> {
        let position = |of: &Followed| (of.held.place.clone(), of.reader.position());
        self.followed.iter().map(position).collect()
    }

    /// How many offsets lie between what was applied and the ends of the partitions, as of now.
    ///
    /// # Errors
    /// The damage of a damaged partition, whose end nobody knows; those of opening it.
    pub fn lag(&self) -> Result<u64> {
        let mut lag = 0;
        for of in &self.followed {
            let behind = of.reader.end_offset()?.saturating_sub(of.reader.position());
            lag += u64::try_from(behind).unwrap_or(0);
        }
        Ok(lag)
    }

    /// Writes the table into the file of [`TableOptions::snapshot`], for the next one to begin
    /// from. What was applied by then is in it; readers go on meanwhile.
    ///
    /// # Durability
    /// When this returns the file survives power loss. Until then the one before stands: whatever
    /// happens, the file is the old one or the new one.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] without such a file; [`ErrorKind::StorageFull`] and
    /// [`ErrorKind::Io`], with the old file in place; [`ErrorKind::StorageFailed`] where a sync
    /// failed; those of opening a partition.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use topiclite::{Broker, ProducerConfig, ProducerRecord, TopicConfig};
    /// use topiclite::{TableOptions, TableOrigin};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let options = TableOptions::new().snapshot(dir.path().join("prices.table"));
    /// let broker = Broker::open(dir.path().join("data"))?;
    /// broker.admin().create_topic("prices", 1, TopicConfig::default())?;
    /// let producer = broker.producer(ProducerConfig::default())?;
    /// producer.send_sync(ProducerRecord::new("prices").key("tea").value("1.20"))?;
    /// let mut table = broker.table("prices", options.clone())?;
    /// table.catch_up(Duration::from_secs(10))?;
    /// table.save()?;
    ///
    /// let table = broker.table("prices", options)?;
    /// assert_eq!(table.origin(), &TableOrigin::Snapshot(1));
    /// assert_eq!(table.get("tea").as_deref(), Some(&b"1.20"[..]));
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    pub fn save(&mut self) -> Result<()> {
        let Some(path) = &self.options.snapshot else {
            let advice = "the table has no file; name one with TableOptions::snapshot";
            return Err(Error::new(ErrorKind::IllegalState, advice).with_topic(self.topic()));
        };
        self.broker.check_open()?;
        let fresh = |of: &Followed| if of.lapsed { lapse::NEVER_MS } else { of.fresh_ms };
        let followed = self.followed.iter().map(|of| (&*of.held, &of.reader, fresh(of)));
        let parts: Vec<_> = followed.collect();
        snapshot::save(&self.broker, &self.topic, &self.options, path, &parts)
    }

    /// Begins anew: forgets everything, and reads the topic of this name from its beginning. It is
    /// the way on where the topic was deleted and made again, or lost what was read of it.
    ///
    /// # Errors
    /// As [`Broker::table`].
    pub fn rebuild(&mut self) -> Result<()> {
        self.metadata = self.broker.metadata_version();
        let topic = self.broker.topic(self.view.topic())?;
        self.let_go();
        self.followed.clear();
        self.topic = topic;
        self.origin = TableOrigin::Replay;
        self.view.0.caught_up.store(false, crate::sync::Ordering::Release);
        self.take_partitions(BTreeMap::new())
    }

    fn let_go(&self) {
        for of in &self.followed {
            of.reader.unwatch(self.wakeup.signal());
        }
        self.broker.unwatch_metadata(self.wakeup.signal());
    }
}

/// A table reads as its view does.
impl Deref for Table {
    type Target = TableView;

    fn deref(&self) -> &TableView {
        &self.view
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("topic", &self.view.topic())
            .field("len", &self.view.len())
            .field("positions", &self.positions())
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// What a snapshot gives one partition to begin with.
#[derive(Debug)]
struct Begun {
    position: i64,
    entries: Entries,
    fresh_ms: i64,
}
