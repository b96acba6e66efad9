//! Ids of producers: each is given once, for as long as the directory lives.
//!
//! Ids are reserved in blocks, as Kafka's `ProducerIdsBlock`: the registry says, durably, which
//! ids are spoken for before the first of a block is given, so a crash wastes the rest of its
//! block and repeats none. What other programs gave is seen in what they wrote: whoever reads
//! another program's files tells [`ProducerIds::saw`], and [`ProducerIds::keep`] makes it durable
//! before the files are known, because those that are known are not read again.

use crate::broker::meta::registry::{Registry, RegistryEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, AtomicI64, Mutex, Ordering, Rank, ranked_mutex};

/// Ids that one sync reserves. Source: Kafka, `ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`.
pub(in crate::broker) const BLOCK_SIZE: i64 = 1000;

/// See the module.
#[derive(Debug)]
pub(in crate::broker) struct ProducerIds {
    registry: Arc<Registry>,
    /// No id below it is given: others gave these. 0 where none were seen.
    unseen: AtomicI64,
    block: Mutex<Block>,
}

/// An id that nobody else of this life is given.
#[derive(Debug)]
pub(crate) struct PromisedId(i64);

/// What is left of the block that was reserved last. What was promised may lie behind its end.
#[derive(Debug, Default)]
struct Block {
    next: i64,
    end: i64,
}

impl ProducerIds {
    pub fn new(registry: Arc<Registry>) -> ProducerIds {
        let block = ranked_mutex(Rank::ProducerIds, Block::default());
        ProducerIds { registry, unseen: AtomicI64::new(0), block }
    }

    /// An id that was never given in this directory.
    ///
    /// # Durability
    /// The id is reserved when this returns: no later life gives it, whatever becomes of this one.
    ///
    /// # Errors
    /// Those of writing the registry; `Kafka` when all ids are used up.
    pub fn next(&self) -> Result<i64> {
        let mut block = self.block.lock();
        let id = self.next_in(&block);
        self.reserve(&mut block, id)
    }

    /// The id that comes next, for a producer that may never need it: it is to be kept before it is
    /// used. Nothing is written.
    pub fn promise(&self) -> PromisedId {
        let mut block = self.block.lock();
        let id = self.next_in(&block);
        block.next = id.saturating_add(1);
        PromisedId(id)
    }

    /// A promised id, reserved; another one where somebody else was seen to have it.
    ///
    /// # Durability
    /// As [`ProducerIds::next`].
    ///
    /// # Errors
    /// As [`ProducerIds::next`].
    pub fn keep_promise(&self, PromisedId(id): PromisedId) -> Result<i64> {
        let mut block = self.block.lock();
        let id = match id >= self.unseen.load(Ordering::Acquire) {
            true => id,
            false => self.next_in(&block),
        };
        self.reserve(&mut block, id)
    }

    /// The lowest id that was neither given nor promised, nor seen.
    fn next_in(&self, block: &Block) -> i64 {
        let first = self.unseen.load(Ordering::Acquire).max(block.next);
        match first < block.end {
            true => first,
            false => first.max(self.registry.unreserved_producer_id()),
        }
    }

    /// Has no later life give `id`.
    fn reserve(&self, block: &mut Block, id: i64) -> Result<i64> {
        if id >= block.end {
            let Some(end) = id.checked_add(BLOCK_SIZE) else {
                // Kafka says UNKNOWN_SERVER_ERROR.
                let message = "all producer ids were given; begin a new directory";
                return Err(Error::new(ErrorKind::Kafka, message));
            };
            self.registry.write(&[RegistryEntry::ProducerIds(end)])?;
            block.end = end;
        }
        block.next = block.next.max(id + 1);
        Ok(id)
    }

    /// Another program, or an earlier life that the registry does not know of, gave this id.
    pub fn saw(&self, id: i64) {
        self.unseen.fetch_max(id.saturating_add(1), Ordering::AcqRel);
    }

    /// Has the registry know what was seen, where it does not.
    ///
    /// # Durability
    /// It does, when this returns.
    ///
    /// # Errors
    /// Those of writing the registry.
    pub fn keep(&self) -> Result<()> {
        let unseen = self.unseen.load(Ordering::Acquire);
        if unseen <= self.registry.unreserved_producer_id() {
            return Ok(());
        }
        self.registry.write(&[RegistryEntry::ProducerIds(unseen)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::meta::registry::REGISTRY_FILE;
    use crate::storage::{Heap, Storage};
    use std::path::Path;

    const DIR: &str = "/d";

    fn storage() -> Arc<dyn Storage> {
        let storage: Arc<dyn Storage> = Arc::new(Heap::new());
        storage.create_dir(Path::new(DIR)).unwrap();
        storage
    }

    fn ids(storage: &Arc<dyn Storage>) -> ProducerIds {
        let (registry, _) = Registry::load(storage.clone(), Path::new(DIR)).unwrap();
        ProducerIds::new(Arc::new(registry))
    }

    #[test]
    fn a_life_begins_with_a_block_of_its_own() {
        let storage = storage();
        let first = ids(&storage);
        assert_eq!((first.next().unwrap(), first.next().unwrap()), (0, 1));
        for expected in 2..=BLOCK_SIZE {
            assert_eq!(first.next().unwrap(), expected);
        }
        let second = ids(&storage);
        assert_eq!(second.next().unwrap(), 2 * BLOCK_SIZE);
    }

    #[test]
    fn a_promise_writes_nothing_and_is_kept_in_any_order() {
        let storage = storage();
        let life = ids(&storage);
        let (first, second, third) = (life.promise(), life.promise(), life.promise());
        assert_eq!(life.registry.unreserved_producer_id(), 0);
        assert_eq!(life.keep_promise(second).unwrap(), 1);
        assert_eq!(life.next().unwrap(), 3);
        assert_eq!(life.keep_promise(first).unwrap(), 0);
        life.saw(7);
        assert_eq!(life.keep_promise(third).unwrap(), 8, "another program gave it");
        let behind: Vec<_> = (0..2 * BLOCK_SIZE).map(|_| life.promise()).collect();
        let last = behind.into_iter().last().map(|last| life.keep_promise(last).unwrap());
        assert_eq!(last, Some(8 + 2 * BLOCK_SIZE));
        assert!(ids(&storage).next().unwrap() > 8 + 2 * BLOCK_SIZE);
    }

    #[test]
    fn ids_that_others_gave_are_passed_over_and_kept() {
        let storage = storage();
        let first = ids(&storage);
        first.saw(7);
        first.keep().unwrap();
        assert_eq!(first.next().unwrap(), 8);
        first.saw(20);
        assert_eq!(first.next().unwrap(), 21, "of the same block");
        first.saw(5000);
        assert_eq!(first.next().unwrap(), 5001);
        first.saw(9000);
        first.keep().unwrap();
        drop(first);
        assert_eq!(ids(&storage).next().unwrap(), 9001);
    }

    #[test]
    fn the_last_id_is_followed_by_an_error() {
        let ids = ids(&storage());
        ids.saw(i64::MAX);
        ids.keep().unwrap();
        assert_eq!(ids.next().unwrap_err().kind(), ErrorKind::Kafka);
    }

    /// A change at the end of the file that does not check may have been acknowledged, and damaged
    /// later: it can have been a block.
    #[test]
    fn a_reservation_that_was_damaged_is_not_given_again() {
        let storage = storage();
        let given = ids(&storage);
        let last = (0..=BLOCK_SIZE).map(|_| given.next().unwrap()).last().unwrap();
        drop(given);
        let file = storage.open_cold(&Path::new(DIR).join(REGISTRY_FILE)).unwrap();
        let end = file.len().unwrap();
        file.write_at(end - 1, &[0xff]).unwrap();
        for _ in 0..2 {
            assert!(ids(&storage).registry.unreserved_producer_id() > last);
        }
        assert!(ids(&storage).next().unwrap() > last);
    }
}
