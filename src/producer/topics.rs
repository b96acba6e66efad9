//! Finding a topic by name without a lock or an allocation.
//!
//! A producer remembers the topics it sends to in a small table whose slots are filled once, so
//! that a look-up is a comparison of names and two loads. Topics that found no slot, and those
//! that changed since (grown, or deleted and made again), are in a map behind a lock.

use super::batch::PartitionQueue;
use super::partitioner::Sticky;
use crate::broker::{BrokerInner, Topic};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{
    Arc, AtomicU64, Mutex, OnceLock, Ordering, Rank, RwLock, ranked_lock, ranked_mutex,
};
use crate::topic::{TopicId, is_internal};
use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;

const SLOTS: usize = 64;
/// How many slots a name may stand in.
const PROBES: usize = 4;

/// Internal in Kafka, and not known to the broker here.
const SHARE_STATE_TOPIC: &str = "__share_group_state";

/// A topic as one producer sees it.
pub(super) struct TopicEntry {
    topic: Arc<Topic>,
    /// How many partitions it had when the entry was made.
    pub count: i32,
    pub sticky: Sticky,
    queues: Box<[OnceLock<Arc<PartitionQueue>>]>,
    /// The metadata version at which the entry was last known to be right.
    version: AtomicU64,
}

impl TopicEntry {
    fn new(topic: Arc<Topic>, version: u64) -> TopicEntry {
        let count = topic.partition_count();
        let queues = (0..count).map(|_| OnceLock::new()).collect();
        let version = AtomicU64::new(version);
        TopicEntry { topic, count, sticky: Sticky::default(), queues, version }
    }

    pub fn name(&self) -> &Arc<str> {
        self.topic.name()
    }

    /// Whether the topic is still this one, with as many partitions.
    #[inline]
    fn is_current(&self, broker: &BrokerInner) -> bool {
        let version = broker.metadata_version();
        self.version.load(Ordering::Relaxed) == version || self.revalidate(version)
    }

    #[cold]
    fn revalidate(&self, version: u64) -> bool {
        let current = !self.topic.is_deleted() && self.topic.partition_count() == self.count;
        if current {
            // Relaxed: the version was read before what it stands for was looked at.
            self.version.store(version, Ordering::Relaxed);
        }
        current
    }

    /// The queue of a partition below `count`.
    ///
    /// # Errors
    /// Those of opening the partition.
    #[inline]
    pub fn queue(&self, partition: i32, queues: &PartitionQueues) -> Result<&Arc<PartitionQueue>> {
        let slot = usize::try_from(partition).ok().and_then(|i| self.queues.get(i));
        match slot {
            Some(slot) => match slot.get() {
                Some(queue) => Ok(queue),
                None => self.open_queue(slot, partition, queues),
            },
            None => Err(self.no_partition(partition)),
        }
    }

    #[cold]
    fn open_queue<'a>(
        &self,
        slot: &'a OnceLock<Arc<PartitionQueue>>,
        partition: i32,
        queues: &PartitionQueues,
    ) -> Result<&'a Arc<PartitionQueue>> {
        // Relaxed: the look-up that found the entry raised it.
        let version = self.version.load(Ordering::Relaxed);
        let queue = queues.open(&self.topic, partition, version)?;
        Ok(slot.get_or_init(|| queue))
    }

    /// What a record for a partition that the topic does not have gets.
    ///
    /// Departure: D9. At once, and as what it is. The Java client waits `max.block.ms` for the
    /// partition to appear, and says that the time is up.
    #[cold]
    pub fn no_partition(&self, partition: i32) -> Error {
        let message = format!(
            "the topic has {} partitions, from 0; grow it, or choose another partition",
            self.count
        );
        Error::new(ErrorKind::UnknownTopicOrPartition, message)
            .with_partition(&**self.name(), partition)
            .with_kafka_name(ErrorKind::Timeout.kafka_name())
    }
}

/// Every queue that the producer opened, so that a partition has one whichever entry leads to it.
pub(super) struct PartitionQueues(Mutex<OpenQueues>);

#[derive(Default)]
struct OpenQueues {
    queues: BTreeMap<(TopicId, i32), OpenQueue>,
    /// The metadata version at which queues of deleted topics were last looked for.
    swept_of: u64,
}

struct OpenQueue {
    topic: Arc<Topic>,
    queue: Arc<PartitionQueue>,
}

impl Default for PartitionQueues {
    fn default() -> PartitionQueues {
        PartitionQueues(ranked_mutex(Rank::ProducerQueues, OpenQueues::default()))
    }
}

impl PartitionQueues {
    /// `version`: of the metadata, as they are known to the caller.
    fn open(
        &self,
        topic: &Arc<Topic>,
        partition: i32,
        version: u64,
    ) -> Result<Arc<PartitionQueue>> {
        let key = (topic.id(), partition);
        let mut open = self.0.lock();
        if let Some(open) = open.queues.get(&key) {
            return Ok(open.queue.clone());
        }
        let log = topic.partition(partition)?.log()?.clone();
        // A producer may outlive many topics. Their queues are looked for where topics changed, and
        // not by each of ten thousand partitions.
        if std::mem::replace(&mut open.swept_of, version) != version {
            open.queues.retain(|_, open| !open.topic.is_deleted() || open.queue.has_batches());
        }
        let ratios = topic.compression_ratios().clone();
        let queue = Arc::new(PartitionQueue::new(topic.name().clone(), partition, log, ratios));
        open.queues.insert(key, OpenQueue { topic: topic.clone(), queue: queue.clone() });
        Ok(queue)
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<PartitionQueue>> {
        self.0.lock().queues.values().map(|open| open.queue.clone()).collect()
    }
}

/// The topics that a producer knows.
pub(super) struct TopicCache {
    slots: [OnceLock<Arc<TopicEntry>>; SLOTS],
    others: RwLock<HashMap<Arc<str>, Arc<TopicEntry>>>,
}

impl Default for TopicCache {
    fn default() -> Self {
        TopicCache {
            slots: [const { OnceLock::new() }; SLOTS],
            others: ranked_lock(Rank::ProducerTopics, HashMap::new()),
        }
    }
}

/// An entry, borrowed from its slot or shared from the map.
pub(super) enum Found<'a> {
    Slot(&'a TopicEntry),
    Shared(Arc<TopicEntry>),
}

impl Deref for Found<'_> {
    type Target = TopicEntry;

    #[inline]
    fn deref(&self) -> &TopicEntry {
        match self {
            Found::Slot(entry) => entry,
            Found::Shared(entry) => entry,
        }
    }
}

/// Where the search for a name begins. Topic names are short, and differ at their ends.
#[inline]
fn first_slot(name: &str) -> usize {
    let bytes = name.as_bytes();
    let at = |i: usize| bytes.get(i).copied().map_or(0, usize::from);
    let last = at(bytes.len().wrapping_sub(1)) + 5 * at(bytes.len().wrapping_sub(2));
    bytes.len().wrapping_mul(31) ^ last ^ at(0).wrapping_mul(7)
}

impl TopicCache {
    /// The topic of that name; made where `auto.create.topics.enable` allows it.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidTopic`]: no topic can have that name, or it is internal.
    /// - [`ErrorKind::UnknownTopicOrPartition`]: there is no such topic. Departure: D9. At once,
    ///   and as what it is. The Java client waits `max.block.ms` for it to appear, and says that
    ///   the time is up.
    /// - [`ErrorKind::Closed`], [`ErrorKind::ReadOnly`], and those of creating a topic.
    #[inline]
    pub fn find(&self, name: &str, broker: &BrokerInner) -> Result<Found<'_>> {
        let first = first_slot(name);
        for slot in (first..first + PROBES).filter_map(|i| self.slots.get(i % SLOTS)) {
            match slot.get() {
                Some(entry) if **entry.name() == *name => {
                    if entry.is_current(broker) {
                        return Ok(Found::Slot(entry));
                    }
                    break;
                }
                Some(_) => {}
                None => break,
            }
        }
        self.find_slowly(name, broker)
    }

    #[cold]
    fn find_slowly(&self, name: &str, broker: &BrokerInner) -> Result<Found<'_>> {
        if let Some(entry) = self.others.read().get(name)
            && entry.is_current(broker)
        {
            return Ok(Found::Shared(entry.clone()));
        }
        if is_internal(name) || name == SHARE_STATE_TOPIC {
            let message = "the topic is the broker's own; producers may not write to it";
            return Err(Error::new(ErrorKind::InvalidTopic, message).with_topic(name));
        }
        // Before the topic is looked at, so that a change in between is seen by the next look-up.
        let version = broker.metadata_version();
        let topic = broker.topic_to_append(name).map_err(missing_topic)?;
        // Creating it raised the version: what was read before is at worst looked at once more.
        let entry = Arc::new(TopicEntry::new(topic, version));
        let first = first_slot(name);
        for slot in (first..first + PROBES).filter_map(|i| self.slots.get(i % SLOTS)) {
            let taken = slot.get_or_init(|| entry.clone());
            if Arc::ptr_eq(taken, &entry) {
                return Ok(Found::Slot(taken));
            }
            if **taken.name() == *name {
                if taken.is_current(broker) {
                    return Ok(Found::Slot(taken));
                }
                break;
            }
        }
        let mut others = self.others.write();
        others.retain(|_, other| !other.topic.is_deleted());
        others.insert(entry.name().clone(), entry.clone());
        Ok(Found::Shared(entry))
    }
}

/// What a record for a topic that does not exist gets.
#[cold]
pub(super) fn missing_topic(error: Error) -> Error {
    if error.kind() != ErrorKind::UnknownTopicOrPartition {
        return error;
    }
    let name = error.topic().unwrap_or_default().to_owned();
    let message = "there is no such topic; create it, or set auto.create.topics.enable";
    Error::new(ErrorKind::UnknownTopicOrPartition, message)
        .with_topic(name)
        .with_kafka_name(ErrorKind::Timeout.kafka_name())
}
