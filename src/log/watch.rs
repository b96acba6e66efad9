//! Who wants to hear of the next append.
//!
//! The list lies under the partition's lock. A reader that finds nothing registers under that
//! lock and looks at the end once more; a writer takes the list under the lock in which it moves
//! the end, and rings behind it. So between the two none can miss the other. A reader of many
//! logs is also told which one it was, inside the lock: whoever appends finds its partition on the
//! list when its append returns, also where the append before it took the registration.

use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use crate::time::Signal;

/// Somebody who waits at the end of a log.
#[derive(Debug, Clone)]
pub(crate) enum Watcher {
    /// A reader of this log alone, by its signal.
    Signal(Arc<Signal>),
    /// A reader of many logs: its list, and what it knows this one by.
    Listed(Arc<ReadyList>, u32),
}

impl Watcher {
    pub fn signal(&self) -> &Arc<Signal> {
        match self {
            Watcher::Signal(signal) => signal,
            Watcher::Listed(list, _) => &list.signal,
        }
    }
}

impl From<&Arc<Signal>> for Watcher {
    fn from(signal: &Arc<Signal>) -> Watcher {
        Watcher::Signal(signal.clone())
    }
}

impl From<(&Arc<ReadyList>, u32)> for Watcher {
    fn from((list, key): (&Arc<ReadyList>, u32)) -> Watcher {
        Watcher::Listed(list.clone(), key)
    }
}

/// The logs that went on since a reader of many looked, each at most once: a registration is spent
/// by the append that puts its log here.
#[derive(Debug)]
pub(crate) struct ReadyList {
    signal: Arc<Signal>,
    /// Whether there is a key: looking at an empty list takes no lock.
    filled: AtomicBool,
    keys: Mutex<Vec<u32>>,
}

impl ReadyList {
    /// An empty list, whose reader waits on `signal`.
    pub fn new(signal: Arc<Signal>) -> ReadyList {
        ReadyList { signal, filled: AtomicBool::new(false), keys: Mutex::new(Vec::new()) }
    }

    /// Makes room for so many keys, so that no append has to.
    pub fn reserve(&self, count: usize) {
        let mut keys = self.keys.lock();
        let missing = count.saturating_sub(keys.len());
        keys.reserve(missing);
    }

    /// Hands all keys to `take`, in the order of their appends.
    #[inline]
    pub fn drain(&self, take: impl FnMut(u32)) {
        // Acquire: pairs with the Release in `push`.
        if self.filled.load(Ordering::Acquire) {
            let mut keys = self.keys.lock();
            self.filled.store(false, Ordering::Relaxed);
            keys.drain(..).for_each(take);
        }
    }

    fn push(&self, key: u32) {
        let mut keys = self.keys.lock();
        keys.push(key);
        // Release: pairs with the Acquire in `drain`.
        self.filled.store(true, Ordering::Release);
    }
}

/// The readers that wait at the end of one log. One alone takes no memory beside the list.
#[derive(Debug, Default)]
pub(crate) struct WatchList {
    first: Option<Watcher>,
    /// None without a first.
    more: Vec<Watcher>,
}

impl WatchList {
    /// Registers a reader, once however often it is asked to.
    pub fn add(&mut self, watcher: Watcher) {
        let known = |other: &&mut Watcher| Arc::ptr_eq(other.signal(), watcher.signal());
        if self.first.is_none() {
            self.first = Some(watcher);
        } else if let Some(known) = self.first.iter_mut().chain(&mut self.more).find(known) {
            *known = watcher;
        } else {
            self.more.push(watcher);
        }
    }

    /// Forgets the reader that waits on `signal`.
    pub fn remove(&mut self, signal: &Arc<Signal>) {
        self.more.retain(|known| !Arc::ptr_eq(known.signal(), signal));
        if self.first.as_ref().is_some_and(|first| Arc::ptr_eq(first.signal(), signal)) {
            self.first = self.more.pop();
        }
    }

    /// Takes everybody who waits, and puts the log on their lists. A watch is spent by that.
    #[inline]
    pub fn take(&mut self) -> Woken {
        match self.first.is_none() {
            true => Woken(None),
            false => self.take_all(),
        }
    }

    #[inline(never)]
    fn take_all(&mut self) -> Woken {
        let (first, more) = (self.first.take(), std::mem::take(&mut self.more));
        for watcher in first.iter().chain(&more) {
            if let Watcher::Listed(list, key) = watcher {
                list.push(*key);
            }
        }
        Woken(first.map(|first| (first, more)))
    }
}

/// Readers whose signals are to be rung once the lock is released.
#[derive(Debug)]
#[must_use]
pub(crate) struct Woken(Option<(Watcher, Vec<Watcher>)>);

impl Woken {
    /// Rings them all. Mostly nobody waits: who is dropped is dropped behind the call.
    #[inline(always)]
    pub fn ring(self) {
        if let Some((first, more)) = self.0 {
            ring_all(first, more);
        }
    }
}

#[inline(never)]
fn ring_all(first: Watcher, more: Vec<Watcher>) {
    for watcher in std::iter::once(first).chain(more) {
        watcher.signal().ring();
    }
}
