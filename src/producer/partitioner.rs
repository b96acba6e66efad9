//! Which partition a record goes to: its own choice, else its key's hash, else a sticky one.
//!
//! The hash is the 32-bit murmur2 with Kafka's seed, so that a key finds its partition where a
//! Java client would. Without a key, records stay in one partition for about `batch.size` bytes
//! (KIP-794), which fills batches.

use crate::sync::{AtomicI32, AtomicUsize, Ordering};

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// Murmur2 with Kafka's seed.
#[inline]
pub(crate) fn murmur2(bytes: &[u8]) -> i32 {
    // Kafka xors the length as a 32-bit number.
    let mut h = SEED ^ bytes.len() as u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^= h >> 15;
    h.cast_signed()
}

/// The partition of a key among `count`, which is at least 1.
#[inline]
pub(crate) fn partition_of_key(key: &[u8], count: i32) -> i32 {
    (murmur2(key) & i32::MAX) % count
}

/// No partition is chosen yet.
const UNCHOSEN: i32 = -1;

/// The partition that records without a key of one topic go to at present.
///
/// Two threads may count into it at once and lose some bytes of the count; then a partition is
/// kept for a little longer, nothing else.
#[derive(Debug)]
pub(crate) struct Sticky {
    partition: AtomicI32,
    bytes: AtomicUsize,
}

impl Default for Sticky {
    fn default() -> Self {
        Sticky { partition: AtomicI32::new(UNCHOSEN), bytes: AtomicUsize::new(0) }
    }
}

impl Sticky {
    /// The partition for the next record among `count`. `random` is asked when there is none yet.
    #[inline]
    pub fn partition(&self, count: i32, random: impl FnOnce() -> u64) -> i32 {
        // Relaxed here and below: the numbers order nothing, see the type.
        match self.partition.load(Ordering::Relaxed) {
            partition if (0..count).contains(&partition) => partition,
            _ => self.choose(count, random),
        }
    }

    /// Takes note of a record of `bytes`. A full `limit` moves on to another partition, unless
    /// the open batch could take more (`batch_open`): then twice the limit does.
    #[inline]
    pub fn count(
        &self,
        bytes: usize,
        limit: usize,
        batch_open: bool,
        count: i32,
        random: impl FnOnce() -> u64,
    ) {
        let total = self.bytes.load(Ordering::Relaxed).saturating_add(bytes);
        if total >= limit && (!batch_open || total >= limit.saturating_mul(2)) {
            self.choose(count, random);
        } else {
            self.bytes.store(total, Ordering::Relaxed);
        }
    }

    #[cold]
    fn choose(&self, count: i32, random: impl FnOnce() -> u64) -> i32 {
        let count = u64::from(count.max(1).unsigned_abs());
        // Below `count`, which came from an i32.
        let partition = i32::try_from(random() % count).unwrap_or(0);
        self.bytes.store(0, Ordering::Relaxed);
        self.partition.store(partition, Ordering::Relaxed);
        partition
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_gives_kafkas_values() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
            ("", 275_646_681),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn keys_choose_the_partition_that_a_java_client_chooses() {
        for (key, partition) in [
            (&b""[..], 1),
            (b"a", 4),
            (b"abcd", 0),
            (b"abcdefg", 3),
            (b"foobar", 6),
            (b"key", 1),
            (b"\x80", 2),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", 7),
            (b"\0\0\0\0", 0),
        ] {
            assert_eq!(partition_of_key(key, 10), partition, "{key:?}");
        }
    }

    #[test]
    fn a_sticky_partition_changes_once_enough_bytes_went_to_it() {
        let sticky = Sticky::default();
        let mut next = 0;
        let mut random = || {
            next += 1;
            next
        };
        assert_eq!(sticky.partition(4, &mut random), 1);
        sticky.count(99, 100, false, 4, &mut random);
        assert_eq!(sticky.partition(4, &mut random), 1);
        sticky.count(1, 100, false, 4, &mut random);
        assert_eq!(sticky.partition(4, &mut random), 2);
        sticky.count(150, 100, true, 4, &mut random);
        assert_eq!(sticky.partition(4, &mut random), 2, "the open batch takes more");
        sticky.count(50, 100, true, 4, &mut random);
        assert_eq!(sticky.partition(4, &mut random), 3);
        assert_eq!(sticky.partition(2, &mut random), 0, "the topic has fewer partitions");
    }
}
