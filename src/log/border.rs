//! A border that one thread moves at a time and any thread reads without a lock.

use crate::sync::{AtomicI64, Ordering};

/// An offset that others may act on.
#[derive(Debug)]
pub(crate) struct Border(AtomicI64);

impl Border {
    pub fn new(offset: i64) -> Border {
        Border(AtomicI64::new(offset))
    }

    /// The border; what was done before it was moved there is seen too.
    #[inline]
    pub fn load(&self) -> i64 {
        // Acquire: pairs with the Release in `publish` and `raise`.
        self.0.load(Ordering::Acquire)
    }

    /// Moves it, wherever to. The caller holds the lock of those who move it.
    #[inline]
    pub fn publish(&self, offset: i64) {
        // Release: pairs with the Acquire in `load`.
        self.0.store(offset, Ordering::Release);
    }

    /// Moves it up to `offset`, never back, and returns where it is.
    pub fn raise(&self, offset: i64) -> i64 {
        self.0.fetch_max(offset, Ordering::AcqRel).max(offset)
    }
}
