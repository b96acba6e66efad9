//! The order of locks, asserted in tests that are built with debug assertions, ours and those with
//! the feature `testing`: a thread that holds a lock may only take locks of a higher rank. A lock
//! that is given no rank is a leaf: nothing is taken inside, but by the simulated disk. In other
//! builds a rank is forgotten at once, and the locks are parking_lot's own.

/// Ranks, outermost first. `broker/mod.rs` and `log/mod.rs` say why they stand in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// The entries of one partition of a table, which stay as they are while they are saved.
    TableEntries,
    /// The end of what a crash left open in one topic.
    TopicSettling,
    /// The coordinator of the transactions, whose markers end what groups have pending.
    Transactions,
    /// The coordinator of the groups.
    Groups,
    /// Changes of topics, one at a time.
    TopicChanges,
    /// What is cleaned.
    Cleaner,
    /// How far logs were cleaned.
    CleanerProgress,
    /// The topics that one producer knows.
    ProducerTopics,
    /// The queues of one producer.
    ProducerQueues,
    /// The partitions of one topic.
    TopicSlots,
    /// One partition as a producer sees it.
    ProducerQueue,
    /// Slow work on one log.
    LogUpkeep,
    /// The turn of writing down what logs have come to.
    Recording,
    /// What the last sync of a log covered.
    LogSynced,
    /// The growth of a log's active file ahead of its writer.
    LogGrowing,
    /// Appends to one log.
    LogWriter,
    /// The list of a log's segments.
    LogSegments,
    /// Where one segment lives.
    SegmentInner,
    /// What an attached reader knows of one log.
    AttachedLog,
    /// The state file.
    StateFile,
    /// What adoption found.
    Adopted,
    /// The producer ids that are left of a block.
    ProducerIds,
    /// The registry of topics.
    Registry,
    /// The table of topics.
    Topics,
    /// What lingers in one producer.
    Accumulator,
    /// Queues and timers.
    Queues,
    /// What went wrong.
    Health,
    /// The length of one file.
    FileLength,
    /// The names of a storage's files.
    FileNames,
    /// The bytes of one file in memory.
    FileBytes,
    /// Every lock that is not named here.
    #[cfg_attr(
        not(all(debug_assertions, any(test, feature = "testing"), not(loom))),
        expect(dead_code, reason = "given where ranks are kept")
    )]
    Leaf,
    /// The simulated disk, which is told of each write into a mapping.
    #[cfg(any(test, feature = "testing"))]
    Simulation,
}

#[cfg(all(debug_assertions, any(test, feature = "testing"), not(loom)))]
pub use checked::{Condvar, Mutex, MutexGuard, RwLock};

#[cfg(all(debug_assertions, any(test, feature = "testing"), not(loom)))]
mod checked {
    use super::Rank;
    use std::cell::RefCell;
    use std::fmt;
    use std::ops::{Deref, DerefMut};

    thread_local! {
        /// The ranks that this thread holds.
        static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
    }

    /// A rank while it is held; `None` in a thread that is ending.
    #[derive(Debug)]
    struct Hold(Option<Rank>);

    impl Hold {
        /// Checks before the lock is waited for, so that a test fails where it might hang.
        #[track_caller]
        fn take(rank: Rank) -> Hold {
            // A thread that is ending holds nothing that anybody could check.
            let checked = HELD.try_with(|held| {
                let mut held = held.borrow_mut();
                let innermost = held.iter().max().copied();
                let allowed = innermost.is_none_or(|innermost| innermost < rank);
                if allowed {
                    held.push(rank);
                }
                (allowed, innermost)
            });
            match checked {
                Ok((true, _)) => Hold(Some(rank)),
                Ok((false, innermost)) => {
                    panic!("locks out of order: {rank:?} is taken while {innermost:?} is held")
                }
                Err(_) => Hold(None),
            }
        }
    }

    impl Drop for Hold {
        fn drop(&mut self) {
            let Some(rank) = self.0 else { return };
            // See `take`.
            let _thread_is_ending = HELD.try_with(|held| {
                let mut held = held.borrow_mut();
                if let Some(at) = held.iter().rposition(|known| *known == rank) {
                    held.remove(at);
                }
            });
        }
    }

    /// parking_lot's mutex with a rank.
    pub struct Mutex<T> {
        rank: Rank,
        lock: parking_lot::Mutex<T>,
    }

    /// Holds the lock, then its rank.
    pub struct MutexGuard<'a, T> {
        guard: parking_lot::MutexGuard<'a, T>,
        _hold: Hold,
    }

    impl<T> Mutex<T> {
        pub const fn new(value: T) -> Mutex<T> {
            Mutex { rank: Rank::Leaf, lock: parking_lot::Mutex::new(value) }
        }

        pub const fn ranked(rank: Rank, value: T) -> Mutex<T> {
            Mutex { rank, lock: parking_lot::Mutex::new(value) }
        }

        #[track_caller]
        pub fn lock(&self) -> MutexGuard<'_, T> {
            let hold = Hold::take(self.rank);
            MutexGuard { guard: self.lock.lock(), _hold: hold }
        }

        #[track_caller]
        pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            let hold = Hold::take(self.rank);
            self.lock.try_lock().map(|guard| MutexGuard { guard, _hold: hold })
        }
    }

    /// parking_lot's read-write lock with a rank.
    pub struct RwLock<T> {
        rank: Rank,
        lock: parking_lot::RwLock<T>,
    }

    /// Holds the lock for reading, then its rank.
    pub struct RwLockReadGuard<'a, T> {
        guard: parking_lot::RwLockReadGuard<'a, T>,
        _hold: Hold,
    }

    /// Holds the lock for writing, then its rank.
    pub struct RwLockWriteGuard<'a, T> {
        guard: parking_lot::RwLockWriteGuard<'a, T>,
        _hold: Hold,
    }

    impl<T> RwLock<T> {
        pub const fn new(value: T) -> RwLock<T> {
            RwLock { rank: Rank::Leaf, lock: parking_lot::RwLock::new(value) }
        }

        pub const fn ranked(rank: Rank, value: T) -> RwLock<T> {
            RwLock { rank, lock: parking_lot::RwLock::new(value) }
        }

        #[track_caller]
        pub fn read(&self) -> RwLockReadGuard<'_, T> {
            let hold = Hold::take(self.rank);
            RwLockReadGuard { guard: self.lock.read(), _hold: hold }
        }

        #[track_caller]
        pub fn write(&self) -> RwLockWriteGuard<'_, T> {
            let hold = Hold::take(self.rank);
            RwLockWriteGuard { guard: self.lock.write(), _hold: hold }
        }
    }

    /// parking_lot's condition variable for the mutex above. Who waits keeps its rank: it takes no
    /// lock meanwhile.
    #[derive(Debug, Default)]
    pub struct Condvar(parking_lot::Condvar);

    impl Condvar {
        pub const fn new() -> Condvar {
            Condvar(parking_lot::Condvar::new())
        }

        pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            self.0.wait(&mut guard.guard);
        }

        pub fn notify_all(&self) -> usize {
            self.0.notify_all()
        }
    }

    macro_rules! guards {
        ($($guard:ident: $($mutable:ident)?;)*) => {$(
            impl<T> Deref for $guard<'_, T> {
                type Target = T;

                fn deref(&self) -> &T {
                    &self.guard
                }
            }

            $(impl<T> DerefMut for $guard<'_, T> {
                fn deref_mut(&mut self) -> &$mutable T {
                    &mut self.guard
                }
            })?

            impl<T: fmt::Debug> fmt::Debug for $guard<'_, T> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    (**self).fmt(f)
                }
            }
        )*};
    }

    guards! {
        MutexGuard: mut;
        RwLockReadGuard: ;
        RwLockWriteGuard: mut;
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Mutex<T> {
            Mutex::new(T::default())
        }
    }

    impl<T: Default> Default for RwLock<T> {
        fn default() -> RwLock<T> {
            RwLock::new(T::default())
        }
    }

    impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.lock.fmt(f)
        }
    }

    impl<T: fmt::Debug> fmt::Debug for RwLock<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.lock.fmt(f)
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn locks_are_taken_in_their_order_and_one_without_a_rank_last() {
            let outer = Mutex::ranked(Rank::Groups, 1);
            let inner = RwLock::ranked(Rank::Topics, 2);
            let plain = Mutex::new(3);
            for _ in 0..2 {
                let (a, b) = (outer.lock(), inner.read());
                let c = plain.lock();
                // Given up in any order.
                drop(a);
                assert_eq!((*b, *c), (2, 3));
            }
            assert_eq!(*inner.write() + *plain.lock(), 5);
            assert_eq!(*outer.lock(), 1);
        }

        #[test]
        #[should_panic(expected = "Groups is taken while Some(Topics) is held")]
        fn a_lock_that_ought_to_be_outside_is_refused_inside() {
            let (outer, inner) =
                (Mutex::ranked(Rank::Groups, ()), RwLock::ranked(Rank::Topics, ()));
            let _inner = inner.read();
            drop(outer.lock());
        }

        #[test]
        #[should_panic(expected = "LogWriter is taken while Some(LogWriter) is held")]
        fn two_locks_of_one_rank_are_refused() {
            let (one, two) =
                (Mutex::ranked(Rank::LogWriter, ()), Mutex::ranked(Rank::LogWriter, ()));
            let _one = one.lock();
            drop(two.lock());
        }

        #[test]
        #[should_panic(expected = "Health is taken while Some(Leaf) is held")]
        fn nothing_is_taken_inside_a_lock_without_a_rank() {
            let (outer, inner) = (RwLock::new(()), Mutex::ranked(Rank::Health, ()));
            let _outer = outer.read();
            drop(inner.lock());
        }
    }
}

/// Locks that forget their rank.
#[cfg(all(not(all(debug_assertions, any(test, feature = "testing"), not(loom))), not(loom)))]
pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

#[cfg(loom)]
use super::{Mutex, RwLock};

/// A mutex with a rank.
pub fn ranked_mutex<T>(rank: Rank, value: T) -> Mutex<T> {
    #[cfg(all(debug_assertions, any(test, feature = "testing"), not(loom)))]
    return Mutex::ranked(rank, value);
    #[cfg(not(all(debug_assertions, any(test, feature = "testing"), not(loom))))]
    {
        let _forgotten = rank;
        Mutex::new(value)
    }
}

/// A read-write lock with a rank.
pub fn ranked_lock<T>(rank: Rank, value: T) -> RwLock<T> {
    #[cfg(all(debug_assertions, any(test, feature = "testing"), not(loom)))]
    return RwLock::ranked(rank, value);
    #[cfg(not(all(debug_assertions, any(test, feature = "testing"), not(loom))))]
    {
        let _forgotten = rank;
        RwLock::new(value)
    }
}
