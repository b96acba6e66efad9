//! Who a producer is to the logs that it sends to: its producer id and its epoch.
//!
//! A send reads both without a lock. They change rarely: the id is taken at the first send, the
//! epoch is raised after a batch whose sequence is not to be used again, as the Java client's
//! `TransactionManager` does, and by the coordinator with each transaction.

use crate::broker::{BrokerInner, HeldName, PromisedId};
use crate::error::{Error, ErrorKind, Result};
use crate::log::{NEXT_SEQUENCE, ProducerStamp};
use crate::sync::{AtomicI32, AtomicI64, AtomicU64, Mutex, Ordering};

/// Nobody yet.
const NO_PRODUCER_ID: i64 = -1;

/// See the module.
pub(super) struct Identity {
    /// Odd while a change is under way.
    version: AtomicU64,
    producer_id: AtomicI64,
    producer_epoch: AtomicI32,
    changes: Mutex<()>,
    /// The first id, as long as it is not needed: ids rise in the order in which producers are
    /// made, as those that Java clients ask for.
    promised: Mutex<Option<PromisedId>>,
    /// Where the id outlives the producer.
    name: Option<HeldName>,
    transactional: bool,
}

impl Identity {
    /// Of a producer that takes its id at the first send, `promised` if there is one, or has that
    /// of its name.
    pub fn new(
        name: Option<HeldName>,
        transactional: bool,
        promised: Option<PromisedId>,
    ) -> Identity {
        Identity {
            version: AtomicU64::new(0),
            producer_id: AtomicI64::new(NO_PRODUCER_ID),
            producer_epoch: AtomicI32::new(0),
            changes: Mutex::new(()),
            promised: Mutex::new(promised),
            name,
            transactional,
        }
    }

    /// Whether the sequences of a partition go on from what its log knows, over restarts.
    pub fn is_named(&self) -> bool {
        self.name.is_some()
    }

    /// Gives the name, if there is one, to the next producer that asks for it.
    pub fn release(&self) {
        if let Some(name) = &self.name {
            name.release();
        }
    }

    /// The stamp of a batch that is sent once.
    ///
    /// # Errors
    /// Those of taking an id.
    #[inline]
    pub fn stamp(&self, broker: &BrokerInner) -> Result<ProducerStamp> {
        // Acquire: each load is before the second look at the version, which a change raises
        // before it stores and once more after.
        let version = self.version.load(Ordering::Acquire);
        let producer_id = self.producer_id.load(Ordering::Acquire);
        let epoch = self.producer_epoch.load(Ordering::Acquire);
        let is_one = version.is_multiple_of(2) && self.version.load(Ordering::Acquire) == version;
        if is_one && producer_id != NO_PRODUCER_ID {
            return Ok(self.stamp_of(producer_id, epoch));
        }
        self.take(broker)
    }

    fn stamp_of(&self, producer_id: i64, epoch: i32) -> ProducerStamp {
        ProducerStamp {
            producer_id,
            // An i16 was stored.
            producer_epoch: epoch as i16,
            base_sequence: NEXT_SEQUENCE,
            transactional: self.transactional,
        }
    }

    /// The coordinator says who the producer is in its next transaction.
    pub fn replace(&self, producer_id: i64, producer_epoch: i16) {
        let _changing = self.changes.lock();
        self.set(producer_id, producer_epoch);
    }

    #[cold]
    fn take(&self, broker: &BrokerInner) -> Result<ProducerStamp> {
        if self.producer_id.load(Ordering::Acquire) == NO_PRODUCER_ID {
            // Without the lock: a sync may be needed. Of two threads one takes an id in vain.
            let producer_id = match &self.name {
                Some(name) => name.producer_id(),
                None if self.transactional => {
                    let message = "init_transactions has to be called before";
                    return Err(Error::new(ErrorKind::IllegalState, message));
                }
                None => {
                    let promised = self.promised.lock().take();
                    match promised {
                        Some(promised) => broker.keep_producer_id(promised)?,
                        None => broker.new_producer_id()?,
                    }
                }
            };
            let _changing = self.changes.lock();
            if self.producer_id.load(Ordering::Relaxed) == NO_PRODUCER_ID {
                self.set(producer_id, 0);
            }
        }
        let _changing = self.changes.lock();
        let producer_id = self.producer_id.load(Ordering::Relaxed);
        Ok(self.stamp_of(producer_id, self.producer_epoch.load(Ordering::Relaxed)))
    }

    /// Whether the producer is not who it was when it made `stamp`.
    pub fn has_changed(&self, stamp: &ProducerStamp) -> bool {
        let _changing = self.changes.lock();
        self.producer_id.load(Ordering::Relaxed) != stamp.producer_id
            || self.producer_epoch.load(Ordering::Relaxed) != i32::from(stamp.producer_epoch)
    }

    /// Raises the epoch, so that each partition begins at sequence 0 again: the sequence of
    /// `failed` is not to be used twice. Not for names and transactions, whose batches were not
    /// stored at all, or are aborted.
    #[cold]
    pub fn raise_epoch(&self, failed: &ProducerStamp) {
        if self.is_named() || self.transactional {
            return;
        }
        let _changing = self.changes.lock();
        let same = self.producer_id.load(Ordering::Relaxed) == failed.producer_id
            && self.producer_epoch.load(Ordering::Relaxed) == i32::from(failed.producer_epoch);
        if !same {
            return;
        }
        match failed.producer_epoch.checked_add(1) {
            Some(epoch) => self.set(failed.producer_id, epoch),
            // The next send takes another id.
            None => self.set(NO_PRODUCER_ID, 0),
        }
    }

    /// With `changes` held.
    fn set(&self, producer_id: i64, producer_epoch: i16) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Release);
        // Release: whoever sees one of these sees the odd version, or a later one.
        self.producer_id.store(producer_id, Ordering::Release);
        self.producer_epoch.store(i32::from(producer_epoch), Ordering::Release);
        self.version.store(version + 2, Ordering::Release);
    }
}
