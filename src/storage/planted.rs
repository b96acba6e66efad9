//! Bugs planted on purpose, so that the suites can prove that they would catch them.
//!
//! The place of each bug asks [`planted`]. Without feature `planted-bugs` the answer is a
//! constant `false` and the bug is not compiled in; with it, a test switches a bug on for as long
//! as it holds a guard: `enable` for its own thread, so that tests of one process do not infect
//! each other, `enable_everywhere` for threads that the tested code starts.

/// The bugs, in the words of the testing documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Planted {
    /// A durable append is acknowledged before its sync.
    AckBeforeSync,
    /// Directory syncs do nothing.
    NoDirectorySync,
    /// A failed sync is repeated, and the second answer believed.
    RetryAfterEio,
    /// The torn tail is not zeroed before the first append.
    NoTailZero,
    /// The leader epoch of a life comes from the batches that survived.
    EpochFromPrefix,
    /// The log end moves before the bytes are written.
    PublishBeforeWrite,
    /// The recovery point moves before the sync.
    RecoveryPointBeforeSync,
    /// Indexes are believed after a crash.
    IndexTrustedAfterCrash,
    /// Files are grown without blocks behind them.
    SparseFile,
    /// The lock file is opened but not locked.
    LockNotHeld,
    /// Recovery and reads believe the base offset, which the checksum does not cover.
    CrcWithoutBaseOffset,
    /// The log end offset after recovery is one too far.
    OffByOneInLeo,
    /// A consumer that starts to wait is not woken.
    LostWakeUp,
    /// Recovery deletes the segments behind an uncut seal.
    LaterSegmentsDeleted,
    /// A cleaning drops tombstones the first time it meets them.
    TombstoneDroppedEarly,
    /// A cleaning drops the latest record of a key.
    LastValueDropped,
    /// A cleaned segment takes its place before it is synced.
    SwapBeforeSync,
    /// A cleaned segment takes its place before the markers that it goes by are synced.
    SwapBeforeMarkers,
    /// A cleaning keeps records that were aborted.
    AbortedRecordKept,
    /// A cleaning drops a marker while records of its transaction are left.
    MarkerDroppedBeforeData,
    /// A cleaning goes on where its map of keys is full.
    OffsetMapOverflowIgnored,
    /// The cleaner's progress is kept before the cleaned segment has its name.
    CheckpointBeforeRename,
    /// The snapshot of a table is believed, whatever became of its log.
    TableSnapshotTrusted,
    /// A producer's sequence is checked before the partition's lock is taken for the append.
    SequenceNotChecked,
    /// A segment that is sealed loses its aborted transactions.
    AbortIndexLost,
    /// A producer snapshot is believed unproven.
    SnapshotTrustedUnproven,
    /// A marker moves the last stable offset to the end, whatever else is open.
    StableOffsetTooEarly,
    /// A transaction's end is answered before its markers are written.
    AnswerBeforeMarkers,
    /// The markers of a commit are written before the record that decides it.
    MarkersBeforeDecision,
    /// A producer that takes over has the epoch of the one before it.
    EpochReused,
    /// A close says that no transaction is open.
    UnfinishedForgotten,
    /// Offsets of an open transaction count at once.
    PendingOffsetsVisible,
    /// An abort leaves one partition without its marker.
    AbortForgetsPartition,
}

#[cfg(feature = "planted-bugs")]
mod switches {
    use super::Planted;
    use std::cell::Cell;
    // Plain atomics: a model checker has no business with switches that are thrown before it runs.
    use std::sync::atomic::{AtomicU64, Ordering};

    static EVERYWHERE: AtomicU64 = AtomicU64::new(0);

    thread_local! {
        static HERE: Cell<u64> = const { Cell::new(0) };
    }

    fn bit(bug: Planted) -> u64 {
        1 << bug as u64
    }

    /// Whether `bug` is switched on for this thread.
    pub fn planted(bug: Planted) -> bool {
        // Relaxed: the switch is thrown before the threads that look at it are started.
        (HERE.get() | EVERYWHERE.load(Ordering::Relaxed)) & bit(bug) != 0
    }

    /// Switches `bug` on for this thread until the guard is dropped.
    pub fn enable(bug: Planted) -> Guard {
        HERE.set(HERE.get() | bit(bug));
        Guard { bug, everywhere: false, _here: std::marker::PhantomData }
    }

    /// Switches `bug` on for all threads until the guard is dropped. Tests that use it need a
    /// process of their own.
    pub fn enable_everywhere(bug: Planted) -> Guard {
        EVERYWHERE.fetch_or(bit(bug), Ordering::Relaxed);
        Guard { bug, everywhere: true, _here: std::marker::PhantomData }
    }

    /// Keeps one bug switched on. Stays on its thread.
    #[derive(Debug)]
    #[must_use = "the bug is switched off when the guard is dropped"]
    pub struct Guard {
        bug: Planted,
        everywhere: bool,
        _here: std::marker::PhantomData<*const ()>,
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            if self.everywhere {
                EVERYWHERE.fetch_and(!bit(self.bug), Ordering::Relaxed);
            } else {
                HERE.set(HERE.get() & !bit(self.bug));
            }
        }
    }
}

#[cfg(feature = "planted-bugs")]
pub use switches::{Guard, enable, enable_everywhere, planted};

/// Whether `bug` is switched on: never, in this build.
#[cfg(not(feature = "planted-bugs"))]
#[inline]
pub const fn planted(_: Planted) -> bool {
    false
}

#[cfg(all(test, feature = "planted-bugs"))]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_on_while_its_guard_lives() {
        let guard = enable(Planted::OffByOneInLeo);
        assert!(planted(Planted::OffByOneInLeo));
        assert!(!planted(Planted::SparseFile));
        drop(guard);
        assert!(!planted(Planted::OffByOneInLeo));
    }

    #[test]
    fn a_bug_of_one_thread_does_not_infect_another() {
        let _guard = enable(Planted::OffByOneInLeo);
        let there = crate::sync::thread::spawn_named("other", || planted(Planted::OffByOneInLeo));
        assert!(!there.unwrap().join().unwrap());
    }
}
