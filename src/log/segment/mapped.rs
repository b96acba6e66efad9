//! How many sealed segments stay mapped, over all logs of a broker.
//!
//! A sealed segment is mapped when it is read and stays so until so many others were read since.
//! Cursors and chunks hold the mapping on their own: what is evicted here is unmapped with the
//! last of them.

use std::collections::BTreeMap;

use crate::log::segment::Segment;
use crate::sync::{Arc, Mutex, Weak};

/// Mappings kept without a reader. Linux allows 65,530 areas a process; active segments take one
/// each, so sealed ones are kept to a small share.
const MAPPED_MAX: usize = 1024;

/// An LRU over sealed segments.
#[derive(Debug)]
pub(crate) struct MappedLimit {
    max: usize,
    order: Mutex<Order>,
}

#[derive(Debug, Default)]
struct Order {
    next_ticket: u64,
    by_ticket: BTreeMap<u64, Weak<Segment>>,
}

impl Default for MappedLimit {
    fn default() -> MappedLimit {
        MappedLimit::new(MAPPED_MAX)
    }
}

impl MappedLimit {
    /// Keeps at most `max` segments, at least one.
    pub fn new(max: usize) -> MappedLimit {
        MappedLimit { max: max.max(1), order: Mutex::new(Order::default()) }
    }

    /// Moves a segment to the young end, and lets the oldest go where there are too many. Called
    /// with no segment's lock held.
    pub fn touch(&self, segment: &Arc<Segment>) {
        let mut evicted = Vec::new();
        {
            let mut order = self.order.lock();
            let ticket = order.next_ticket;
            order.next_ticket += 1;
            if let Some(old) = segment.swap_ticket(ticket) {
                order.by_ticket.remove(&old);
            }
            order.by_ticket.insert(ticket, Arc::downgrade(segment));
            while order.by_ticket.len() > self.max {
                evicted.extend(order.by_ticket.pop_first().map(|(_, segment)| segment));
            }
        }
        for segment in evicted.iter().filter_map(Weak::upgrade) {
            segment.unmap();
        }
    }

    /// Forgets a segment that is deleted.
    pub fn forget(&self, segment: &Segment) {
        let mut order = self.order.lock();
        if let Some(ticket) = segment.take_ticket() {
            order.by_ticket.remove(&ticket);
        }
    }

    /// How many are kept.
    #[cfg(all(test, not(loom)))]
    pub fn len(&self) -> usize {
        self.order.lock().by_ticket.len()
    }
}
