//! The topics of a broker: what exists, who is it, and how that changes.
//!
//! A change is durable in the registry before anybody can see it. A partition's log is made when
//! it is first asked for, and that touches nothing on the disk.

pub(in crate::broker) mod changes;
pub(in crate::broker) mod deletion;
pub(in crate::broker) mod new_topic;
pub(in crate::broker) mod partition;

use crate::broker::meta::registry::TopicEntry;
use crate::broker::topics::partition::Partition;
use crate::config::{BrokerConfig, LogConfig, TopicConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Codec, CompressionRatio};
use crate::sync::{
    Arc, AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering, Rank, RwLock, ranked_lock, ranked_mutex,
};
use crate::time::Signal;
use crate::topic::{TopicId, check_topic_name, is_internal};
use std::collections::BTreeMap;

/// Makes the log, or the reader, of a partition.
pub(in crate::broker) trait Opener: Send + Sync + std::fmt::Debug {
    fn open(&self, topic: &Topic, partition: i32) -> Result<Partition>;
}

/// One topic. A topic that is deleted and made again is another one, with another id.
#[derive(Debug)]
pub(crate) struct Topic {
    name: Arc<str>,
    id: TopicId,
    internal: bool,
    adopted: bool,
    deleted: AtomicBool,
    settings: RwLock<TopicSettings>,
    /// How well batches of each codec compressed so far: whoever fills one asks.
    ratios: Arc<CompressionRatios>,
    /// One slot a partition, filled when it is first asked for. Only ever grows.
    slots: RwLock<Vec<Option<Partition>>>,
    /// Nothing that a crash left open is left in it.
    settled: AtomicBool,
    settling: Mutex<()>,
    opener: Arc<dyn Opener>,
}

/// What a topic overrides, and what comes of it.
#[derive(Debug)]
struct TopicSettings {
    config: TopicConfig,
    /// The settings in effect, once somebody asked: they are read from text, which is not for
    /// every look at every topic.
    effective: Option<Arc<LogConfig>>,
}

impl Topic {
    pub(in crate::broker) fn new(
        entry: &TopicEntry,
        config: TopicConfig,
        opener: Arc<dyn Opener>,
    ) -> Topic {
        Topic {
            name: entry.name.clone(),
            id: entry.id,
            internal: is_internal(&entry.name),
            adopted: entry.adopted,
            deleted: AtomicBool::new(false),
            settings: RwLock::new(TopicSettings { config, effective: None }),
            ratios: Arc::default(),
            slots: ranked_lock(
                Rank::TopicSlots,
                vec![None; usize::try_from(entry.partitions).unwrap_or(0)],
            ),
            settled: AtomicBool::new(false),
            settling: ranked_mutex(Rank::TopicSettling, ()),
            opener,
        }
    }

    /// Runs `work` once, until it succeeds, before anything is appended to the topic in this life.
    ///
    /// # Errors
    /// Those of `work`.
    pub(in crate::broker) fn settle(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        // Acquire: pairs with the Release below.
        if self.settled.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one = self.settling.lock();
        if !self.settled.load(Ordering::Acquire) {
            work()?;
            self.settled.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// The name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The id, which no other topic ever has.
    pub fn id(&self) -> TopicId {
        self.id
    }

    /// One of the broker's own.
    pub fn is_internal(&self) -> bool {
        self.internal
    }

    /// How well its batches compress.
    pub fn compression_ratios(&self) -> &Arc<CompressionRatios> {
        &self.ratios
    }

    /// It was deleted; its partitions refuse everything.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// How many partitions it has; only ever more.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.slots.read().len()).unwrap_or(i32::MAX)
    }

    /// What it overrides.
    pub fn config(&self) -> TopicConfig {
        self.settings.read().config.clone()
    }

    /// The settings in effect under the broker's, which do not change.
    pub fn log_config(&self, broker: &BrokerConfig) -> Arc<LogConfig> {
        if let Some(known) = &self.settings.read().effective {
            return known.clone();
        }
        let mut settings = self.settings.write();
        let effective = Arc::new(settings.config.log_config(broker));
        settings.effective = Some(effective.clone());
        effective
    }

    /// One partition. Its folder is not touched before it is used.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTopicOrPartition`] for a number that the topic does not have, and when
    /// the topic was deleted.
    pub fn partition(&self, partition: i32) -> Result<Partition> {
        let unknown = |why: &str| {
            let error = Error::new(ErrorKind::UnknownTopicOrPartition, why);
            error.with_partition(&*self.name, partition)
        };
        if self.is_deleted() {
            return Err(unknown("the topic was deleted"));
        }
        let index = usize::try_from(partition).map_err(|_| unknown("partitions count from 0"))?;
        match self.slots.read().get(index) {
            None => return Err(unknown("the topic has no such partition")),
            Some(Some(open)) => return Ok(open.clone()),
            Some(None) => {}
        }
        let mut slots = self.slots.write();
        if self.is_deleted() {
            return Err(unknown("the topic was deleted"));
        }
        match slots.get_mut(index) {
            Some(Some(open)) => Ok(open.clone()),
            Some(slot) => Ok(slot.insert(self.opener.open(self, partition)?).clone()),
            None => Err(unknown("the topic has no such partition")),
        }
    }

    /// Whether a partition was asked for so far.
    pub fn is_opened(&self, partition: i32) -> bool {
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        matches!(self.slots.read().get(index), Some(Some(_)))
    }

    /// The partitions that were asked for so far, by number.
    pub fn opened(&self) -> Vec<(i32, Partition)> {
        let slots = self.slots.read();
        (0i32..).zip(slots.iter()).filter_map(|(i, slot)| Some((i, slot.clone()?))).collect()
    }

    /// What the registry keeps of it.
    pub(in crate::broker) fn entry(&self) -> TopicEntry {
        let partitions = self.partition_count();
        let settings = self.settings.read();
        TopicEntry {
            name: self.name.clone(),
            id: self.id,
            partitions,
            adopted: self.adopted,
            config: settings.config.entries().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        }
    }

    pub(in crate::broker) fn grow(&self, partitions: i32) {
        let mut slots = self.slots.write();
        let partitions = usize::try_from(partitions).unwrap_or(0).max(slots.len());
        slots.resize(partitions, None);
    }

    pub(in crate::broker) fn set_config(&self, config: TopicConfig, broker: &BrokerConfig) {
        let effective = config.log_config(broker);
        *self.settings.write() =
            TopicSettings { config, effective: Some(Arc::new(effective.clone())) };
        for (_, partition) in self.opened() {
            if let Ok(log) = partition.log() {
                log.apply_config(effective.clone());
            }
        }
    }

    /// Refuses everything from here on, and gives up the partitions.
    pub(in crate::broker) fn delete(&self) -> Vec<(i32, Partition)> {
        let mut slots = self.slots.write();
        self.deleted.store(true, Ordering::Release);
        (0i32..).zip(slots.iter_mut()).filter_map(|(i, slot)| Some((i, slot.take()?))).collect()
    }
}

/// How well the batches of a topic compress, by codec, as producers see it: all producers of a
/// process share it, as those of a Java virtual machine do.
#[derive(Debug)]
pub(crate) struct CompressionRatios([AtomicU32; Codec::ALL.len()]);

impl Default for CompressionRatios {
    fn default() -> CompressionRatios {
        let start = CompressionRatio::default().to_bits();
        CompressionRatios(Codec::ALL.map(|_| AtomicU32::new(start)))
    }
}

impl CompressionRatios {
    fn of(&self, codec: Codec) -> Option<&AtomicU32> {
        self.0.get(usize::try_from(codec.id()).unwrap_or(usize::MAX))
    }

    /// The ratio to fill a batch by; none where nothing is compressed.
    pub fn estimate(&self, codec: Codec) -> Option<CompressionRatio> {
        // Relaxed, here and below: a number of its own, which orders nothing.
        let bits = self.of(codec).filter(|_| codec != Codec::None)?.load(Ordering::Relaxed);
        Some(CompressionRatio::from_bits(bits))
    }

    /// Takes note of a batch. Of two at once one may be lost, which is an estimate still.
    pub fn observe(&self, codec: Codec, observed: CompressionRatio) {
        if let (Some(slot), Some(ratio)) = (self.of(codec), self.estimate(codec)) {
            slot.store(ratio.after(observed).to_bits(), Ordering::Relaxed);
        }
    }

    /// Begins anew, once a batch by the estimate was larger than the topic allows.
    pub fn reset(&self, codec: Codec) {
        if let Some(slot) = self.of(codec) {
            slot.store(CompressionRatio::default().to_bits(), Ordering::Relaxed);
        }
    }
}

/// All topics by name, and who wants to hear of changes.
#[derive(Debug)]
pub(in crate::broker) struct TopicTable {
    topics: RwLock<BTreeMap<Arc<str>, Arc<Topic>>>,
    version: AtomicU64,
    watchers: Mutex<Vec<Arc<Signal>>>,
}

impl Default for TopicTable {
    fn default() -> TopicTable {
        TopicTable {
            topics: ranked_lock(Rank::Topics, BTreeMap::new()),
            version: AtomicU64::new(0),
            watchers: Mutex::default(),
        }
    }
}

impl TopicTable {
    /// The topic of that name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidTopic`] when no topic can have that name,
    /// [`ErrorKind::UnknownTopicOrPartition`] when none has.
    pub fn get(&self, name: &str) -> Result<Arc<Topic>> {
        if let Some(topic) = self.topics.read().get(name) {
            return Ok(topic.clone());
        }
        check_topic_name(name)?;
        Err(Error::new(ErrorKind::UnknownTopicOrPartition, "no such topic").with_topic(name))
    }

    /// All topics, in order of name.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.topics.read().values().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.topics.read().len()
    }

    /// Raised by every change that a client could see.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Registers `event` for the next change; true, and no registration, if there was one beyond
    /// `beyond` already.
    pub fn watch(&self, event: &Arc<Signal>, beyond: u64) -> bool {
        let mut watchers = self.watchers.lock();
        if self.version() > beyond {
            return true;
        }
        if !watchers.iter().any(|known| Arc::ptr_eq(known, event)) {
            watchers.push(event.clone());
        }
        false
    }

    /// Takes a registration back.
    pub fn unwatch(&self, event: &Arc<Signal>) {
        self.watchers.lock().retain(|known| !Arc::ptr_eq(known, event));
    }

    pub fn insert(&self, topic: Arc<Topic>) {
        self.topics.write().insert(topic.name.clone(), topic);
    }

    pub fn remove(&self, name: &str) {
        self.topics.write().remove(name);
    }

    /// Tells everybody that something changed.
    pub fn changed(&self) {
        let watchers = {
            let mut watchers = self.watchers.lock();
            self.version.fetch_add(1, Ordering::AcqRel);
            std::mem::take(&mut *watchers)
        };
        for event in watchers {
            event.ring();
        }
    }
}
