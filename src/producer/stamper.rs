//! The stamps of batches: who the producer is, and the transaction that it is in.

use super::batch::PartitionQueue;
use super::env::ProducerEnv;
use super::identity::Identity;
use super::transactions::{Prepared, Transactional};
use crate::broker::HeldName;
use crate::error::{Error, ErrorKind, Result};
use crate::log::{AppendOptions, ProducerStamp};

/// See the module. Without an identity no batch is stamped.
pub(super) struct Stamper {
    /// Who an idempotent producer is.
    identity: Option<Identity>,
    transactional: Option<Transactional>,
}

impl Stamper {
    pub fn new(env: &ProducerEnv, name: Option<HeldName>) -> Stamper {
        let settings = &env.settings;
        let transactional = settings.transactional_id.clone();
        let transactional =
            transactional.map(|id| Transactional::new(id, settings.transaction_timeout));
        let identity = settings.idempotent.then(|| {
            // Others are given theirs: by the name, by the coordinator.
            let asks = name.is_none() && transactional.is_none();
            let promised = if asks { env.broker.promise_producer_id() } else { None };
            Identity::new(name, transactional.is_some(), promised)
        });
        Stamper { identity, transactional }
    }

    /// Gives the name, if there is one, to the next producer that asks for it.
    pub fn release(&self) {
        if let Some(identity) = &self.identity {
            identity.release();
        }
    }

    /// Its transactions, with the identity that they are stamped with; `None` without a
    /// `transactional.id`.
    pub fn transactions(&self) -> Option<(&Transactional, &Identity)> {
        Some((self.transactional.as_ref()?, self.identity.as_ref()?))
    }

    /// The stamp of a producer with a name.
    ///
    /// # Errors
    /// `IllegalState` without one; those of taking an id.
    pub fn of_name(&self, env: &ProducerEnv) -> Result<ProducerStamp> {
        match self.identity.as_ref().filter(|identity| identity.is_named()) {
            Some(identity) => identity.stamp(&env.broker),
            None => {
                let message = "only a producer with a name has sequences that outlive it";
                Err(Error::new(ErrorKind::IllegalState, message))
            }
        }
    }

    /// How the next batch is appended that is sent once. The log gives it its sequence.
    ///
    /// # Errors
    /// Those of taking an id, and of joining the transaction.
    #[inline]
    pub fn append_options(
        &self,
        env: &ProducerEnv,
        queue: &PartitionQueue,
        now_ms: i64,
    ) -> Result<AppendOptions> {
        let mut options = AppendOptions::client(now_ms);
        if let Some(identity) = &self.identity {
            options.producer = Some(match &self.transactional {
                None => identity.stamp(&env.broker)?,
                Some(transactional) => transactional.stamp(env, identity, queue)?,
            });
        }
        Ok(options)
    }

    /// The stamp of a batch that is tried for the first time: behind the last one of the queue, or
    /// the first one of an identity. A name goes on behind what its log has. `None` where batches
    /// are not stamped.
    ///
    /// # Errors
    /// Those of taking an id, and of opening the log; the failure of a transaction that can only be
    /// aborted.
    pub fn next_stamp(
        &self,
        env: &ProducerEnv,
        queue: &PartitionQueue,
        behind: Option<ProducerStamp>,
    ) -> Result<Option<ProducerStamp>> {
        let Some(identity) = &self.identity else { return Ok(None) };
        self.transactional.as_ref().map_or(Ok(()), Transactional::check_unfailed)?;
        let mut stamp = identity.stamp(&env.broker)?;
        stamp.base_sequence = match behind {
            Some(last) if last.producer() == stamp.producer() => last.base_sequence,
            _ if identity.is_named() => queue.log.next_sequence(&stamp)?,
            _ => 0,
        };
        Ok(Some(stamp))
    }

    /// What has to be done before batches of a queue are tried, and before its lock: an id is
    /// taken, the partition takes part in the transaction.
    pub fn prepare(&self, env: &ProducerEnv, queue: &PartitionQueue) -> Prepared {
        match (&self.transactional, &self.identity) {
            (Some(transactional), Some(identity)) if queue.has_batches() => {
                transactional.prepare(env, identity, queue)
            }
            (None, Some(identity)) => Prepared::plain(identity.stamp(&env.broker).map(|_| ())),
            _ => Prepared::plain(Ok(())),
        }
    }

    /// Whether that holds for what is in the queue, whose lock is held.
    pub fn is_prepared(&self, queue: &PartitionQueue, prepared: &Prepared) -> bool {
        self.transactional.as_ref().is_none_or(|t| t.is_prepared(queue, prepared))
    }

    /// Whether a record may be sent at present.
    ///
    /// # Errors
    /// Those of [`Transactional::check_send`].
    #[inline]
    pub fn check_send(&self) -> Result<()> {
        match &self.transactional {
            None => Ok(()),
            Some(transactional) => transactional.check_send().map(|_| ()),
        }
    }

    /// Whether a batch was refused because another thread raised the epoch meanwhile, so that the
    /// same records can be sent again at once.
    #[cold]
    pub fn is_outdated(&self, stamp: Option<&ProducerStamp>, error: &Error) -> bool {
        let (Some(identity), Some(stamp)) = (&self.identity, stamp) else { return false };
        error.kind() == ErrorKind::InvalidProducerEpoch
            && !stamp.transactional
            && identity.has_changed(stamp)
    }

    /// A batch was refused for good: as in Kafka, the producer raises its epoch, and each
    /// partition begins at sequence 0.
    #[cold]
    pub fn note_refusal(&self, stamp: Option<&ProducerStamp>, error: &Error) {
        if let (Some(identity), Some(stamp)) = (&self.identity, stamp)
            && !error.is_retriable()
            && !error.is_fatal()
        {
            identity.raise_epoch(stamp);
        }
    }

    /// What follows a batch that was refused for good begins under another epoch.
    pub fn renumber(&self, env: &ProducerEnv, stamp: Option<&mut ProducerStamp>, error: &Error) {
        let Some(identity) = &self.identity else { return };
        let Ok(current) = identity.stamp(&env.broker) else { return };
        let failed = stamp.as_deref().copied().unwrap_or(current);
        self.note_refusal(Some(&failed), error);
        if let Some(stamp) = stamp
            && let Ok(next) = identity.stamp(&env.broker)
            && next.producer() != stamp.producer()
        {
            *stamp = ProducerStamp { base_sequence: 0, ..next };
        }
    }

    /// The log does not go on from what this producer sent it before: the producer begins anew.
    /// Returns whether it did, and `stamp` is that of the beginning.
    ///
    /// # Errors
    /// Those of taking an id.
    pub fn begin_anew(&self, env: &ProducerEnv, stamp: &mut ProducerStamp) -> Result<bool> {
        let Some(identity) = &self.identity else { return Ok(false) };
        identity.raise_epoch(stamp);
        let next = identity.stamp(&env.broker)?;
        let changed = next.producer() != stamp.producer();
        if changed {
            *stamp = ProducerStamp { base_sequence: 0, ..next };
        }
        Ok(changed)
    }

    /// A batch may be stored or not: its sequences are not used again.
    pub fn leave_unresolved(&self, stamp: Option<&ProducerStamp>, error: &Error) {
        if let (Some(identity), Some(stamp)) = (&self.identity, stamp) {
            identity.raise_epoch(stamp);
        }
        let Some(transactional) = &self.transactional else { return };
        match error.kind() {
            ErrorKind::Timeout => {
                let message = format!("a record may be stored or not: {}", error.message());
                transactional.fail(&Error::new(ErrorKind::Kafka, message));
            }
            _ => transactional.fail(error),
        }
    }

    /// A record of the transaction is not stored: it can only be aborted.
    #[cold]
    pub fn fail_transaction(&self, error: &Error) {
        if let Some(transactional) = &self.transactional {
            transactional.fail(error);
        }
    }
}
