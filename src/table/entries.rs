//! What a table holds: for each partition, of each key its latest value.
//!
//! One thread writes, the follower; any number reads meanwhile. Each partition has a lock of its
//! own, which the follower holds for what one read of the log brought.

use super::change::{ChangeCause, TableChange, TableRecord};
use crate::consumer::ConsumerRecords;
use crate::producer::partition_of_key;
use crate::sync::{
    Arc, AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering, Rank, RwLock, ranked_lock,
};
use crate::topic::TopicPartition;
use bytes::Bytes;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The latest record of a key.
#[derive(Debug, Clone)]
pub(super) struct Latest {
    pub value: Bytes,
    pub offset: i64,
    pub timestamp: i64,
}

/// The entries of one partition, by key.
pub(super) type Entries = HashMap<Bytes, Latest>;

/// What is shared between a table and its views.
#[derive(Debug)]
pub(super) struct Held {
    pub topic: Arc<str>,
    /// In order of their numbers. Replaced as a whole where there are more.
    partitions: RwLock<Arc<Vec<Arc<HeldPartition>>>>,
    /// How many partitions the topic has, followed or not: it decides where a key is at home.
    partition_count: AtomicI32,
    /// Entries that are not in the partition that their key is at home in.
    strays: AtomicUsize,
    pub caught_up: AtomicBool,
    /// Records without a key, which no table can hold.
    pub dropped: AtomicU64,
}

/// One partition of a table.
#[derive(Debug)]
pub(super) struct HeldPartition {
    pub place: TopicPartition,
    entries: RwLock<Entries>,
}

impl HeldPartition {
    pub fn new(place: TopicPartition, entries: Entries) -> HeldPartition {
        HeldPartition { place, entries: ranked_lock(Rank::TableEntries, entries) }
    }

    /// Runs `body` on the entries, which stay as they are meanwhile.
    pub fn read<T>(&self, body: impl FnOnce(&Entries) -> T) -> T {
        body(&self.entries.read())
    }
}

impl Held {
    pub fn new(topic: Arc<str>) -> Held {
        Held {
            topic,
            partitions: RwLock::new(Arc::default()),
            partition_count: AtomicI32::new(0),
            strays: AtomicUsize::new(0),
            caught_up: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        }
    }

    /// The partitions that are followed.
    pub fn partitions(&self) -> Arc<Vec<Arc<HeldPartition>>> {
        self.partitions.read().clone()
    }

    /// Holds these partitions from here on, of a topic that has `count`.
    pub fn replace(&self, partitions: Vec<Arc<HeldPartition>>, count: i32) {
        let stray = |at: &Arc<HeldPartition>| {
            let number = at.place.partition();
            at.read(|entries| entries.keys().filter(|key| !at_home(key, number, count)).count())
        };
        let strays = partitions.iter().map(stray).sum();
        // A reader in between looks everywhere, or at the old partitions.
        self.strays.fetch_add(strays, Ordering::AcqRel);
        self.partition_count.store(count, Ordering::Release);
        *self.partitions.write() = Arc::new(partitions);
        self.strays.store(strays, Ordering::Release);
    }

    /// Looks a key up: where it is at home, then in the other partitions, in order.
    pub fn find<T>(&self, key: &[u8], take: impl Fn(&TopicPartition, &Latest) -> T) -> Option<T> {
        let partitions = self.partitions();
        let count = self.partition_count.load(Ordering::Acquire);
        let home = (count > 0).then(|| partition_of_key(key, count));
        let look = |at: &Arc<HeldPartition>| {
            at.read(|entries| entries.get(key).map(|latest| take(&at.place, latest)))
        };
        let is_home = |at: &&Arc<HeldPartition>| Some(at.place.partition()) == home;
        let found = partitions.iter().find(is_home).and_then(look);
        if found.is_some() || self.strays.load(Ordering::Acquire) == 0 {
            return found;
        }
        partitions.iter().filter(|at| !is_home(at)).find_map(look)
    }

    fn count_stray(&self, key: &[u8], number: i32, comes: bool) {
        if !at_home(key, number, self.partition_count.load(Ordering::Relaxed)) {
            match comes {
                true => self.strays.fetch_add(1, Ordering::AcqRel),
                false => self.strays.fetch_sub(1, Ordering::AcqRel),
            };
        }
    }

    /// Takes what was read of a partition. Changes go to `changes`, if somebody wants them.
    pub fn apply(
        &self,
        to: &HeldPartition,
        records: &ConsumerRecords,
        mut changes: Option<&mut Vec<TableChange>>,
    ) {
        let number = to.place.partition();
        let mut entries = to.entries.write();
        for record in records {
            let Some(key) = record.key() else {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let (old, new) = match record.value() {
                Some(value) => {
                    let value = Bytes::copy_from_slice(value);
                    let new = changes.is_some().then(|| value.clone());
                    let (offset, timestamp) = (record.offset(), record.timestamp());
                    let latest = Latest { value, offset, timestamp };
                    (self.put(&mut entries, key, latest, number), new)
                }
                None => {
                    let gone = entries.remove(key);
                    if gone.is_some() {
                        self.count_stray(key, number, false);
                    }
                    (gone, None)
                }
            };
            // A tombstone of a key that is not there changes nothing.
            if let Some(changes) = changes.as_deref_mut().filter(|_| old.is_some() || new.is_some())
            {
                let (offset, timestamp) = (record.offset(), record.timestamp());
                let (place, key) = (to.place.clone(), Bytes::copy_from_slice(key));
                changes.push(TableChange {
                    record: TableRecord { place, offset, timestamp, key },
                    old: old.map(|old| old.value),
                    new,
                    cause: ChangeCause::Record,
                });
            }
        }
    }

    fn put(
        &self,
        entries: &mut Entries,
        key: &[u8],
        latest: Latest,
        number: i32,
    ) -> Option<Latest> {
        if let Some(known) = entries.get_mut(key) {
            return Some(std::mem::replace(known, latest));
        }
        self.count_stray(key, number, true);
        match entries.entry(Bytes::copy_from_slice(key)) {
            Entry::Occupied(mut known) => Some(known.insert(latest)),
            Entry::Vacant(vacant) => {
                vacant.insert(latest);
                None
            }
        }
    }

    /// Drops the entries whose records went from the log.
    pub fn drop_gone(
        &self,
        of: &HeldPartition,
        cause: ChangeCause,
        is_gone: impl Fn(&Latest) -> bool,
        mut changes: Option<&mut Vec<TableChange>>,
    ) {
        let number = of.place.partition();
        of.entries.write().retain(|key, latest| {
            if !is_gone(latest) {
                return true;
            }
            self.count_stray(key, number, false);
            if let Some(changes) = changes.as_deref_mut() {
                let (place, offset, timestamp) =
                    (of.place.clone(), latest.offset, latest.timestamp);
                changes.push(TableChange {
                    record: TableRecord { place, offset, timestamp, key: key.clone() },
                    old: Some(latest.value.clone()),
                    new: None,
                    cause,
                });
            }
            false
        });
    }
}

/// Whether the default partitioner sends a key to this partition.
fn at_home(key: &[u8], partition: i32, count: i32) -> bool {
    count > 0 && partition_of_key(key, count) == partition
}
