//! The one seeded source of everything random in a broker.

use crate::sync::{AtomicU64, Ordering};
use crate::topic::TopicId;

/// SplitMix64 (Steele, Lea and Flood 2014) over a shared counter.
#[derive(Debug)]
pub(super) struct Random(AtomicU64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Random {
        Random(AtomicU64::new(seed))
    }

    /// The sequence far behind this one, another one for each number of lives.
    pub fn skip(self, lives: u64) -> Random {
        // Any odd number whose multiples are far from those of the step.
        const LIFE: u64 = 0xd134_2543_de82_ef95;
        self.0.fetch_add(lives.wrapping_mul(LIFE), Ordering::Relaxed);
        self
    }

    /// The next number, any of 2^64.
    pub fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A new id.
    pub fn topic_id(&self) -> TopicId {
        let wide = u128::from(self.next()) << 64 | u128::from(self.next());
        TopicId::from_random(wide.to_be_bytes())
    }
}
