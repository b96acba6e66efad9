//! Group commit: one sync serves everybody who waits for it.
//!
//! Whoever finds nobody syncing becomes the leader, syncs with no lock held, and wakes the others.
//! The leader reads how far the log reaches only after it became one, so its sync covers all who
//! appended before. A failed sync is final: everybody who waits, and everybody later, gets it.
//! One that could not begin is told to its leader alone, and the next who waits leads another.

use crate::error::{Error, Result};
use crate::storage::sync_latch::SyncLatch;
use crate::sync::{AtomicI64, Condvar, Mutex, Ordering};

/// The durable border of one log, and who is moving it.
#[derive(Debug)]
pub(crate) struct GroupCommit {
    /// Everything below it survives a power cut. Written with Release under `turn`.
    durable: AtomicI64,
    turn: Mutex<Turn>,
    over: Condvar,
}

#[derive(Debug, Default)]
struct Turn {
    leading: bool,
    syncs: SyncLatch,
}

impl GroupCommit {
    /// A log that is durable up to `durable`.
    pub fn new(durable: i64) -> GroupCommit {
        GroupCommit {
            durable: AtomicI64::new(durable),
            turn: Mutex::new(Turn::default()),
            over: Condvar::new(),
        }
    }

    /// Everything below it survives a power cut.
    #[inline]
    pub fn durable(&self) -> i64 {
        // Acquire: pairs with the Release in `advance`, so that whoever saw the border also sees
        // what was done before the sync ended.
        self.durable.load(Ordering::Acquire)
    }

    /// Moves the border without a sync: recovery vouches for what lies below.
    pub fn advance(&self, upto: i64) {
        let _turn = self.turn.lock();
        self.raise(upto);
    }

    /// The planted bug of a border that moves before the sync that it stands for.
    pub fn advance_unchecked(&self, upto: i64) {
        self.durable.fetch_max(upto, Ordering::Release);
    }

    /// The error of the sync that failed, if one did.
    pub fn failure(&self) -> Option<Error> {
        self.turn.lock().syncs.failure().cloned()
    }

    /// Makes `fail` the outcome of everything from here on, and wakes all who wait.
    pub fn fail(&self, error: Error) {
        self.turn.lock().syncs.fail(error);
        self.over.notify_all();
    }

    /// Runs `sync` as the leader, whatever is durable already, once nobody else leads.
    ///
    /// # Errors
    /// That of the sync, or of the one that failed before.
    pub fn lead(&self, sync: impl FnOnce() -> Result<i64>) -> Result<()> {
        let mut turn = self.turn.lock();
        while turn.leading && turn.syncs.failure().is_none() {
            self.over.wait(&mut turn);
        }
        turn.syncs.check()?;
        turn.leading = true;
        drop(turn);
        let outcome = sync();
        let mut turn = self.turn.lock();
        self.end_turn(&mut turn, outcome)?;
        turn.syncs.check()
    }

    /// Lets the next one lead.
    ///
    /// # Errors
    /// That of a sync that could not begin, which is nobody's but the leader's.
    fn end_turn(&self, turn: &mut Turn, outcome: Result<i64>) -> Result<()> {
        turn.leading = false;
        let outcome = match turn.syncs.note(outcome) {
            Ok(reached) => {
                self.raise(reached);
                Ok(())
            }
            // Whoever waits finds it there, the leader too.
            Err(_) if turn.syncs.failure().is_some() => Ok(()),
            Err(error) => Err(error),
        };
        self.over.notify_all();
        outcome
    }

    /// Returns once everything below `upto` is durable. `sync` makes the log durable as far as it
    /// reaches when it is called, and returns how far that was; it runs on the leader's thread
    /// with no lock of this type held.
    ///
    /// # Errors
    /// That of the sync that failed, whichever thread led it.
    pub fn wait_for(&self, upto: i64, mut sync: impl FnMut() -> Result<i64>) -> Result<()> {
        if self.durable() >= upto {
            return Ok(());
        }
        let mut turn = self.turn.lock();
        loop {
            if self.durable() >= upto {
                return Ok(());
            }
            turn.syncs.check()?;
            if turn.leading {
                self.over.wait(&mut turn);
                continue;
            }
            turn.leading = true;
            drop(turn);
            let outcome = sync();
            turn = self.turn.lock();
            self.end_turn(&mut turn, outcome)?;
        }
    }

    /// The turn's lock is held by the caller, so that a load and a store are enough.
    fn raise(&self, upto: i64) {
        if upto > self.durable.load(Ordering::Relaxed) {
            // Release: pairs with the Acquire in `durable`.
            self.durable.store(upto, Ordering::Release);
        }
    }
}
