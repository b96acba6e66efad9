//! Who wants to hear of the next append.
//!
//! The list lies under the partition's lock. A reader that finds nothing registers under that
//! lock and looks at the end once more; a writer takes the list under the lock in which it moves
//! the end, and rings behind it. So between the two none can miss the other.

use crate::sync::Arc;
use crate::time::Event;

/// The bells of the readers that wait at the end of one log.
#[derive(Debug, Default)]
pub(crate) struct WatchList {
    bells: Vec<Arc<Event>>,
}

impl WatchList {
    /// Registers a bell, once however often it is asked to.
    pub fn add(&mut self, bell: &Arc<Event>) {
        if !self.bells.iter().any(|known| Arc::ptr_eq(known, bell)) {
            self.bells.push(bell.clone());
        }
    }

    /// Forgets a bell.
    pub fn remove(&mut self, bell: &Arc<Event>) {
        self.bells.retain(|known| !Arc::ptr_eq(known, bell));
    }

    /// Takes everybody who waits. A watch is spent by the ring it causes.
    #[inline]
    pub fn take(&mut self) -> Woken {
        if self.bells.is_empty() {
            Woken(Vec::new())
        } else {
            Woken(std::mem::take(&mut self.bells))
        }
    }
}

/// Bells to be rung once the lock is released.
#[derive(Debug)]
#[must_use]
pub(crate) struct Woken(Vec<Arc<Event>>);

impl Woken {
    /// Rings them all.
    #[inline]
    pub fn ring(self) {
        for bell in &self.0 {
            bell.ring();
        }
    }
}
