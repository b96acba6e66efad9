//! The latest offset of each key, in memory of a fixed size (Kafka's `SkimpyOffsetMap`).
//!
//! Keys are held as hashes of 128 bits, and equal hashes count as equal keys. The hash is SipHash
//! under a key of this process's own, so that nobody can choose keys that collide, and by chance
//! two of 10,000,000 keys do with a probability below 10^-24. Kafka takes MD5 for it.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::storage::planted::{Planted, planted};
use crate::storage::{ScratchMemory, fetch_value};

/// A slot of the map: two words of hash, and the offset plus one; 0 is a free one.
type Slot = [u64; 3];

/// The bytes that one slot takes.
pub(super) const SLOT_BYTES: usize = size_of::<Slot>();
/// The bytes of one of its words.
const WORD_BYTES: usize = size_of::<u64>();

/// The hash of a key, as one map knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyHash([u64; 2]);

/// The answer of a map to a key that is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotedKey {
    /// It was not known.
    New,
    /// It was, and this was the latest offset of it.
    Known { offset: i64 },
    /// There is no room for another key, and nothing is noted.
    NoRoom,
}

/// The least number of slots: a map that holds no key would never get anywhere.
const SLOTS_MIN: usize = 16;

/// The latest offset of each key of a log's dirty part, as far as they fit.
#[derive(Debug)]
pub(super) struct OffsetMap {
    /// The slots, their words as this machine has them.
    memory: ScratchMemory,
    slots: usize,
    used: usize,
    used_max: usize,
    seed: u64,
    latest_offset: i64,
}

impl OffsetMap {
    /// A map within `bytes` of memory, filled up to `load_factor`, and no larger than it takes for
    /// `keys_max` keys.
    pub fn new(bytes: usize, load_factor: f64, keys_max: u64, seed: u64) -> OffsetMap {
        let load_factor = load_factor.clamp(0.1, 0.95);
        let slots_max = (bytes / SLOT_BYTES).max(SLOTS_MIN);
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        #[allow(clippy::cast_sign_loss)]
        let wanted = (keys_max as f64 / load_factor).ceil() as usize;
        let slots = wanted.saturating_add(1).clamp(SLOTS_MIN, slots_max);
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        #[allow(clippy::cast_sign_loss)]
        let used_max = ((slots as f64 * load_factor) as usize).max(1);
        let memory = ScratchMemory::zeroed(slots * SLOT_BYTES);
        OffsetMap { memory, slots, used: 0, used_max, seed, latest_offset: -1 }
    }

    /// The hash of a key, for what the map is asked afterwards. Its place is asked for: a map that
    /// is larger than the caches is waited for once for several keys, and not at each of them.
    #[inline]
    pub fn expect(&self, key: &[u8]) -> KeyHash {
        let hash = self.hash(key);
        if let Some(slot) = self.bytes_of(self.home(hash)) {
            fetch_value(slot);
        }
        KeyHash(hash)
    }

    /// Notes that a key was written at `offset`, which is above all before.
    #[inline]
    pub fn put(&mut self, KeyHash(hash): KeyHash, offset: i64) -> NotedKey {
        let at = self.slot_of(hash);
        let full = self.used >= self.used_max;
        let Some([_, _, held]) = self.slot(at) else { return NotedKey::NoRoom };
        if held == 0 {
            if full {
                return match planted(Planted::OffsetMapOverflowIgnored) {
                    true => NotedKey::New,
                    false => NotedKey::NoRoom,
                };
            }
            self.used += 1;
        }
        self.set(at, [hash[0], hash[1], offset.cast_unsigned().wrapping_add(1)]);
        self.latest_offset = self.latest_offset.max(offset);
        match held.checked_sub(1) {
            None => NotedKey::New,
            Some(offset) => NotedKey::Known { offset: offset.cast_signed() },
        }
    }

    /// The latest offset of a key, if it is known.
    #[inline]
    pub fn get(&self, KeyHash(hash): KeyHash) -> Option<i64> {
        let [_, _, held] = self.slot(self.slot_of(hash))?;
        held.checked_sub(1).map(u64::cast_signed)
    }

    /// Everything up to `offset` was looked at.
    pub fn raise_latest_offset(&mut self, offset: i64) {
        self.latest_offset = self.latest_offset.max(offset);
    }

    /// Everything up to here was looked at; -1 before anything was.
    pub fn latest_offset(&self) -> i64 {
        self.latest_offset
    }

    /// How many keys are held.
    pub fn len(&self) -> usize {
        self.used
    }

    /// What it takes, in bytes.
    #[cfg(all(test, not(loom)))]
    pub fn size_bytes(&self) -> usize {
        self.memory.len()
    }

    #[inline]
    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let mut hasher = SipHasher13::new_with_keys(self.seed, !self.seed);
        hasher.write(key);
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }

    /// The slot that a hash takes if that is free.
    #[inline]
    fn home(&self, hash: [u64; 2]) -> usize {
        // The upper half of the product spreads over all slots without a division.
        let at = (u128::from(hash[0]) * self.slots as u128) >> 64;
        usize::try_from(at).unwrap_or(0)
    }

    /// Where the hash is, or the free slot that it would take. There always is a free one.
    #[inline]
    fn slot_of(&self, hash: [u64; 2]) -> usize {
        let mut at = self.home(hash);
        while let Some([first, second, held]) = self.slot(at) {
            if held == 0 || [first, second] == hash {
                break;
            }
            at = if at + 1 == self.slots { 0 } else { at + 1 };
        }
        at
    }

    #[inline]
    fn bytes_of(&self, at: usize) -> Option<&[u8; SLOT_BYTES]> {
        self.memory.get(at * SLOT_BYTES..)?.first_chunk()
    }

    #[inline]
    fn slot(&self, at: usize) -> Option<Slot> {
        let (words, _) = self.bytes_of(at)?.as_chunks::<WORD_BYTES>();
        let [first, second, held] = *words else { return None };
        Some([first, second, held].map(u64::from_ne_bytes))
    }

    #[inline]
    fn set(&mut self, at: usize, slot: Slot) {
        let bytes = self.memory.get_mut(at * SLOT_BYTES..).unwrap_or_default();
        for (place, word) in bytes.as_chunks_mut::<WORD_BYTES>().0.iter_mut().zip(slot) {
            *place = word.to_ne_bytes();
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use std::collections::HashMap;

    impl OffsetMap {
        fn put_key(&mut self, key: &[u8], offset: i64) -> bool {
            self.put(self.expect(key), offset) != NotedKey::NoRoom
        }

        fn get_key(&self, key: &[u8]) -> Option<i64> {
            self.get(self.expect(key))
        }
    }

    #[test]
    fn it_holds_what_a_plain_map_holds() {
        let mut map = OffsetMap::new(1 << 20, 0.9, 10_000, 7);
        let mut plain = HashMap::new();
        for offset in 0..20_000i64 {
            let key = (offset * 7919 % 5000).to_be_bytes();
            let known = plain.insert(key, offset);
            let expected = known.map_or(NotedKey::New, |offset| NotedKey::Known { offset });
            assert_eq!(map.put(map.expect(&key), offset), expected);
        }
        assert_eq!(map.len(), plain.len());
        for (key, offset) in &plain {
            assert_eq!(map.get_key(key), Some(*offset));
        }
        assert_eq!(map.get_key(b"never written"), None);
        assert_eq!(map.latest_offset(), 19_999);
        map.raise_latest_offset(10);
        assert_eq!(map.latest_offset(), 19_999);
    }

    #[test]
    fn a_full_map_takes_no_new_key_and_goes_on_with_those_it_has() {
        let mut map = OffsetMap::new(24 * 20, 0.9, u64::MAX, 7);
        let taken = (0..100i64).take_while(|n| map.put_key(&n.to_be_bytes(), *n)).count();
        assert_eq!(taken, 18, "nine tenths of 20 slots");
        assert_eq!(map.latest_offset(), 17);
        assert!(map.put_key(&0i64.to_be_bytes(), 50), "a key that is there already");
        assert!(!map.put_key(b"a new one", 51));
        assert_eq!((map.latest_offset(), map.get_key(b"a new one")), (50, None));
    }

    #[test]
    fn a_million_keys_fit_the_memory_that_is_configured() {
        let mut map = OffsetMap::new(32 << 20, 0.9, 1_000_000, 7);
        assert!(map.size_bytes() <= 32 << 20, "{}", map.size_bytes());
        for n in 0..1_000_000i64 {
            assert!(map.put_key(&n.to_be_bytes(), n));
        }
        assert_eq!(map.len(), 1_000_000, "no two were taken for one");
        assert_eq!(map.get_key(&999_999i64.to_be_bytes()), Some(999_999));
    }

    #[test]
    fn few_keys_take_little_and_an_empty_key_is_a_key() {
        let mut map = OffsetMap::new(128 << 20, 0.9, 3, 7);
        assert!(map.size_bytes() < 1024);
        assert!(map.put_key(b"", 0));
        assert_eq!(map.get_key(b""), Some(0));
        assert!(OffsetMap::new(0, 0.0, 0, 7).put_key(b"a", 1), "there is room for one at least");
    }
}
