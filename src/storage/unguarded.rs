//! Stands in for `guard` where there is no handler: other systems than Linux, Miri and loom.

use crate::sync::AtomicUsize as Border;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What faults left of a region: nothing, but for what a test marks.
#[derive(Debug)]
pub(super) struct Faults(AtomicBool);

impl Faults {
    pub const fn new() -> Faults {
        Faults(AtomicBool::new(false))
    }

    #[inline]
    pub fn has_lost_stores(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn lost_from(&self) -> usize {
        usize::MAX
    }

    pub fn lose_from(&self, _: usize) {}

    pub fn lose_stores(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Nothing: regions are not registered.
#[derive(Debug)]
pub(super) struct Registration;

impl Registration {
    pub fn new(
        _: *const u8,
        _: usize,
        _: *const Faults,
        _: *const Border,
        _: &Path,
    ) -> Registration {
        Registration
    }
}

#[inline]
pub(super) fn reading<T>(_: *const u8, body: impl FnOnce() -> T) -> (T, bool) {
    (body(), false)
}
