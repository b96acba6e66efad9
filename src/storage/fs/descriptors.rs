//! A bounded cache of open descriptors: the one used longest ago is closed first. A descriptor
//! in use stays open until its user lets go, whatever the cache does.

use super::super::region::Counted;
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;

/// Which file of the machine it is, by whatever name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Identity {
        Identity { device: metadata.dev(), inode: metadata.ino() }
    }
}

#[derive(Debug)]
pub(super) struct Descriptor {
    file: File,
    _count: Counted,
}

impl Descriptor {
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

#[derive(Debug)]
pub(super) struct Descriptors {
    descriptors_max: usize,
    count: Arc<AtomicUsize>,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    next_key: u64,
    next_use: u64,
    held: HashMap<u64, (u64, Arc<Descriptor>)>,
    /// Use number to key, oldest first.
    order: BTreeMap<u64, u64>,
}

impl Descriptors {
    pub(super) fn new(descriptors_max: usize) -> Descriptors {
        Descriptors { descriptors_max, count: Arc::default(), cache: Mutex::default() }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Keeps the descriptor of a file seen for the first time; returns the file's key.
    pub(super) fn admit(&self, file: File) -> u64 {
        let mut cache = self.cache.lock();
        let key = cache.next_key;
        cache.next_key += 1;
        drop(cache);
        self.keep(key, file);
        key
    }

    /// Keeps a descriptor of the file `key`, and closes the oldest ones above the limit.
    pub(super) fn keep(&self, key: u64, file: File) -> Arc<Descriptor> {
        let descriptor = Arc::new(Descriptor { file, _count: Counted::new(&self.count) });
        let mut cache = self.cache.lock();
        cache.touch(key, Arc::clone(&descriptor));
        let mut closed = Vec::new();
        while cache.held.len() > self.descriptors_max.max(1) {
            let Some((_, oldest)) = cache.order.pop_first() else { break };
            closed.extend(cache.held.remove(&oldest));
        }
        drop(cache);
        descriptor
    }

    pub(super) fn find(&self, key: u64) -> Option<Arc<Descriptor>> {
        let mut cache = self.cache.lock();
        let (_, descriptor) = cache.held.get(&key)?;
        let descriptor = Arc::clone(descriptor);
        cache.touch(key, Arc::clone(&descriptor));
        Some(descriptor)
    }

    /// Takes the descriptor of `key` out of the cache.
    pub(super) fn close(&self, key: u64) {
        let mut cache = self.cache.lock();
        let closed = cache.held.remove(&key);
        if let Some((used, _)) = &closed {
            cache.order.remove(used);
        }
        // A close may take long on a network file system: not under the lock.
        drop(cache);
        drop(closed);
    }
}

impl Cache {
    fn touch(&mut self, key: u64, descriptor: Arc<Descriptor>) {
        let used = self.next_use;
        self.next_use += 1;
        if let Some((before, _)) = self.held.insert(key, (used, descriptor)) {
            self.order.remove(&before);
        }
        self.order.insert(used, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_used_longest_ago_is_closed_first() {
        let descriptors = Descriptors::new(2);
        let open = || tempfile::tempfile().unwrap();
        let (a, b) = (descriptors.admit(open()), descriptors.admit(open()));
        assert!(descriptors.find(a).is_some());
        let c = descriptors.admit(open());
        assert!(descriptors.find(b).is_none(), "b was used before a");
        assert!(descriptors.find(a).is_some() && descriptors.find(c).is_some());
        assert_eq!(descriptors.count(), 2);
    }

    #[test]
    fn a_descriptor_in_use_outlives_its_place_in_the_cache() {
        let descriptors = Descriptors::new(1);
        let key = descriptors.admit(tempfile::tempfile().unwrap());
        let used = descriptors.find(key).unwrap();
        descriptors.admit(tempfile::tempfile().unwrap());
        assert!(descriptors.find(key).is_none());
        assert_eq!(used.file().metadata().unwrap().len(), 0);
        assert_eq!(descriptors.count(), 2);
        drop(used);
        assert_eq!(descriptors.count(), 1);
    }
}
