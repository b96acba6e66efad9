//! Transactions as a producer runs them: its calls in their order, and what becomes of a
//! transaction when something fails. What a transaction is, the coordinator decides.

use super::super::ProducerCore;
use super::super::batch::PartitionQueue;
use super::super::identity::Identity;
use super::transaction_state::{Operation, TransactionPhase, TransactionState};
use crate::consumer::{GroupMetadata, OffsetAndMetadata};
use crate::error::{Error, ErrorKind, Result};
use crate::group::OffsetToCommit;
use crate::log::ProducerStamp;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};
use crate::time::Signal;
use crate::topic::TopicPartition;
use crate::transaction::ProducerIdentity;
use std::collections::BTreeMap;
use std::time::Duration;

/// No transaction takes records at present.
const NONE: u64 = 0;

/// The transactions of one producer.
pub(in crate::producer) struct Transactional {
    id: String,
    timeout: Duration,
    /// The number of the transaction that takes records: what a send looks at without a lock.
    open: AtomicU64,
    /// A call is under way.
    busy: AtomicBool,
    state: Mutex<TransactionState>,
}

/// One call on the transactions of a producer, which has them to itself.
struct Call<'a>(&'a Transactional);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

impl Transactional {
    pub fn new(id: String, timeout: Duration) -> Transactional {
        Transactional {
            id,
            timeout,
            open: AtomicU64::new(NONE),
            busy: AtomicBool::new(false),
            state: Mutex::new(TransactionState::new()),
        }
    }

    /// The transaction that takes records.
    ///
    /// # Errors
    /// Those of [`TransactionState::check_open`].
    #[inline]
    pub fn check_send(&self) -> Result<u64> {
        match self.open.load(Ordering::Acquire) {
            NONE => self.refuse_send(),
            open => Ok(open),
        }
    }

    #[cold]
    fn refuse_send(&self) -> Result<u64> {
        let state = self.state.lock();
        state.check_open("send")?;
        // It was opened a moment ago.
        Ok(state.number)
    }

    /// The transaction can only be aborted, unless the error is worse.
    #[cold]
    fn fail(&self, error: &Error) {
        self.open.store(NONE, Ordering::Release);
        let mut state = self.state.lock();
        match error.kind() {
            ErrorKind::ProducerFenced | ErrorKind::UnsupportedVersion => {
                state.fail_fatally(error.clone());
            }
            // What a later attempt might have cured is over with the last one.
            _ if error.is_retriable() || is_retried_by_kafka(error) => {
                let message = format!("sending was given up: {}", error.message());
                state.fail(Error::new(ErrorKind::TransactionAbortable, message));
            }
            _ => state.fail(error.clone()),
        }
        if state.state() == TransactionPhase::InTransaction {
            self.open.store(state.number, Ordering::Release);
        }
    }

    fn fail_fatally(&self, error: &Error) {
        self.open.store(NONE, Ordering::Release);
        self.state.lock().fail_fatally(error.clone());
    }

    fn call(&self, name: &str) -> Result<Call<'_>> {
        if self.busy.swap(true, Ordering::AcqRel) {
            let message = format!("{name} is called while another call of its kind is under way");
            return Err(Error::new(ErrorKind::IllegalState, message));
        }
        Ok(Call(self))
    }

    /// A call ended in an error of the coordinator.
    fn ended(&self, operation: Operation, error: Error) -> Error {
        match error.kind() {
            ErrorKind::Timeout => self.state.lock().leave_pending(operation),
            // What keeps the broker from doing anything says nothing of the transaction.
            ErrorKind::Closed => {}
            ErrorKind::InvalidProducerEpoch | ErrorKind::ProducerFenced => {
                let message = format!(
                    "a newer producer with transactional.id {} took over: {}",
                    self.id,
                    error.message()
                );
                let fenced = Error::new(ErrorKind::ProducerFenced, message);
                self.fail_fatally(&fenced);
                return fenced;
            }
            ErrorKind::TransactionAbortable => self.state.lock().fail(error.clone()),
            ErrorKind::InvalidTransactionTimeout | ErrorKind::InvalidRequest => {
                // Kafka names no cause.
                let message = format!("{} failed: {}", operation.name(), error.message());
                let unexpected = Error::new(ErrorKind::Kafka, message);
                self.fail_fatally(&unexpected);
                return unexpected;
            }
            _ => self.fail_fatally(&error),
        }
        error
    }

    /// What offsets that were refused mean for the transaction.
    fn offsets_refused(&self, error: Error) -> Error {
        let abortable = match error.kind() {
            ErrorKind::Timeout | ErrorKind::Closed => return error,
            ErrorKind::FencedInstanceId | ErrorKind::TransactionAbortable => error,
            ErrorKind::UnknownMemberId
            | ErrorKind::IllegalGeneration
            | ErrorKind::FencedMemberEpoch => {
                let message = format!("the group does not know that member: {}", error.message());
                Error::new(ErrorKind::CommitFailed, message)
            }
            // Departure: D70. At once, and the transaction can be aborted.
            ErrorKind::UnknownTopicOrPartition => {
                error.with_kafka_name(ErrorKind::Timeout.kafka_name())
            }
            ErrorKind::InvalidProducerEpoch | ErrorKind::ProducerFenced => {
                return self.ended(Operation::Commit, error);
            }
            _ => {
                let message = format!("offsets were refused: {}", error.message());
                let unexpected = Error::new(ErrorKind::Kafka, message);
                self.fail_fatally(&unexpected);
                return unexpected;
            }
        };
        self.open.store(NONE, Ordering::Release);
        self.state.lock().fail(abortable.clone());
        abortable
    }
}

/// What the Java client repeats, and the crate tells at once.
fn is_retried_by_kafka(error: &Error) -> bool {
    error.kafka_name() == ErrorKind::Timeout.kafka_name()
}

impl ProducerCore {
    /// # Errors
    /// `IllegalState` without a `transactional.id`, and after a close.
    fn transactional(&self, name: &str) -> Result<&Transactional> {
        let Some(transactional) = &self.transactional else {
            let message = format!("{name} needs a producer with a transactional.id");
            return Err(Error::new(ErrorKind::IllegalState, message));
        };
        self.check_open()?;
        if self.line.is_inside() {
            let message =
                format!("{name} inside a callback of the same producer would wait for it");
            return Err(Error::new(ErrorKind::Kafka, message));
        }
        Ok(transactional)
    }

    fn identity(&self) -> Result<&Identity> {
        let missing = || Error::new(ErrorKind::IllegalState, "the producer has no id");
        self.identity.as_ref().ok_or_else(missing)
    }

    /// Who the producer is in its present transaction.
    fn producer_identity(&self) -> Result<ProducerIdentity> {
        let (producer_id, producer_epoch) = self.identity()?.stamp(&self.broker)?.producer();
        Ok(ProducerIdentity { producer_id, producer_epoch })
    }

    /// Repeats a call that fails in a way that may pass, with the pauses of a send, for
    /// `max.block.ms`.
    ///
    /// # Errors
    /// `Timeout`; every error of the call that does not pass.
    fn repeat<T>(&self, limit: Duration, mut call: impl FnMut() -> Result<T>) -> Result<T> {
        let mut attempts = 0;
        loop {
            let error = match call() {
                Err(error) if error.is_retriable() => error,
                outcome => return outcome,
            };
            let now = self.clock().monotonic();
            if now >= limit {
                let ms = self.settings.max_block.as_millis();
                let message = format!("not done within max.block.ms={ms}: {}", error.message());
                return Err(Error::new(ErrorKind::Timeout, message).with_source(error));
            }
            attempts += 1;
            let at = now.saturating_add(self.backoff(attempts)).min(limit);
            self.clock().park(&Arc::new(Signal::new()), Some(at));
        }
    }

    fn limit(&self) -> Duration {
        self.clock().monotonic().saturating_add(self.settings.max_block)
    }

    pub(super) fn init_transactions(self: &Arc<Self>) -> Result<()> {
        const OPERATION: Operation = Operation::Init;
        let transactional = self.transactional(OPERATION.name())?;
        let _call = transactional.call(OPERATION.name())?;
        transactional.state.lock().enter(OPERATION)?;
        let coordinator = self.broker.transactions()?;
        let init = || coordinator.init(&transactional.id, transactional.timeout);
        match self.repeat(self.limit(), init) {
            Ok(given) => {
                self.identity()?.replace(given.producer_id, given.producer_epoch);
                transactional.state.lock().complete();
                Ok(())
            }
            Err(error) => Err(transactional.ended(OPERATION, error)),
        }
    }

    pub(super) fn begin_transaction(&self) -> Result<()> {
        let transactional = self.transactional("begin_transaction")?;
        let _call = transactional.call("begin_transaction")?;
        let number = transactional.state.lock().begin()?;
        transactional.open.store(number, Ordering::Release);
        Ok(())
    }

    pub(super) fn send_offsets(
        &self,
        offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
        group: &GroupMetadata,
    ) -> Result<()> {
        const NAME: &str = "send_offsets_to_transaction";
        let illegal = |message: String| Err(Error::new(ErrorKind::IllegalArgument, message));
        if group.generation_id() > 0 && group.member_id().is_empty() {
            return illegal("the metadata has a generation and no member id".to_owned());
        }
        if let Some((partition, offset)) = offsets.iter().find(|(_, at)| at.offset() < 0) {
            return illegal(format!("offset {} of {partition} is negative", offset.offset()));
        }
        let transactional = self.transactional(NAME)?;
        if offsets.is_empty() {
            return Ok(());
        }
        let _call = transactional.call(NAME)?;
        {
            let mut state = transactional.state.lock();
            state.check_pending(NAME)?;
            state.check_open(NAME)?;
            state.started = true;
        }
        let offsets: Vec<OffsetToCommit> = offsets
            .iter()
            .map(|(partition, at)| OffsetToCommit {
                partition: partition.clone(),
                offset: at.offset(),
                leader_epoch: -1,
                metadata: at.metadata_shared().clone(),
            })
            .collect();
        let (coordinator, producer) = (self.broker.transactions()?, self.producer_identity()?);
        let member = group.member();
        let sent = self.repeat(self.limit(), || {
            let outcomes =
                coordinator.commit_offsets(&transactional.id, producer, &member, &offsets)?;
            outcomes.into_iter().try_for_each(|(_, outcome)| outcome)
        });
        sent.map_err(|error| transactional.offsets_refused(error))
    }

    pub(super) fn end_transaction(self: &Arc<Self>, operation: Operation) -> Result<()> {
        let transactional = self.transactional(operation.name())?;
        self.end_of(transactional, operation, self.limit())
    }

    fn end_of(
        self: &Arc<Self>,
        transactional: &Transactional,
        operation: Operation,
        limit: Duration,
    ) -> Result<()> {
        let _call = transactional.call(operation.name())?;
        let why = transactional.state.lock().last_error().cloned();
        // From here on no record joins: a lingering batch has it, or the transaction does not.
        transactional.state.lock().enter(operation)?;
        transactional.open.store(NONE, Ordering::Release);
        if operation == Operation::Abort {
            self.drop_unsent(why);
        }
        if !self.settle(Some(limit)) {
            transactional.state.lock().leave_pending(operation);
            let ms = self.settings.max_block.as_millis();
            let message = format!("records are not stored within max.block.ms={ms}; call it again");
            return Err(Error::new(ErrorKind::Timeout, message));
        }
        let started = {
            let state = transactional.state.lock();
            if let Some(failed) = state.last_error() {
                return Err(failed.clone());
            }
            state.started
        };
        if started {
            let (coordinator, producer) = (self.broker.transactions()?, self.producer_identity()?);
            let commit = operation == Operation::Commit;
            let end = || coordinator.end(&transactional.id, producer, commit);
            let next = self.repeat(limit, end);
            let next = next.map_err(|error| transactional.ended(operation, error))?;
            self.identity()?.replace(next.producer_id, next.producer_epoch);
        }
        transactional.state.lock().complete();
        Ok(())
    }

    /// What was not tried yet is not sent any more.
    fn drop_unsent(self: &Arc<Self>, why: Option<Error>) {
        let aborted = || {
            let message = "the transaction was aborted before the record was sent";
            Error::new(ErrorKind::TransactionAborted, message)
        };
        self.abandon_untried(&why.unwrap_or_else(aborted));
        self.run_completions(true);
    }

    /// A close that has time aborts what is open, as the Java client's does.
    pub(in crate::producer) fn abort_at_close(self: &Arc<Self>, limit: Option<Duration>) {
        let Some(transactional) = &self.transactional else { return };
        let state = transactional.state.lock().state();
        if matches!(state, TransactionPhase::InTransaction | TransactionPhase::AbortableError) {
            let limit = limit.unwrap_or_else(|| self.limit());
            if let Err(error) = self.end_of(transactional, Operation::Abort, limit) {
                tracing::warn!(client_id = %self.client_id, %error, "an abort at close failed");
            }
        }
    }

    /// Puts a partition into the present transaction, before its first batch.
    ///
    /// # Errors
    /// Those of the coordinator, an epoch that was replaced as `InvalidProducerEpoch`; those of a
    /// transaction that takes no partition any more.
    fn join(&self, transactional: &Transactional, queue: &PartitionQueue) -> Result<()> {
        let number = {
            let mut state = transactional.state.lock();
            if queue.joined.load(Ordering::Acquire) == state.number {
                return Ok(());
            }
            match state.state() {
                TransactionPhase::InTransaction | TransactionPhase::Committing => {}
                _ => {
                    state.check_error()?;
                    let message = "the transaction was aborted before the record was sent";
                    return Err(Error::new(ErrorKind::TransactionAborted, message));
                }
            }
            state.started = true;
            state.number
        };
        let producer = self.producer_identity()?;
        let partition = TopicPartition::new(queue.topic.clone(), queue.partition);
        self.broker.transactions()?.add_partition(&transactional.id, producer, &partition)?;
        queue.joined.store(number, Ordering::Release);
        Ok(())
    }

    /// The stamp of a batch that is sent once, inside the transaction that is open.
    ///
    /// # Errors
    /// Those of [`Transactional::check_send`], and of joining.
    #[inline]
    pub(in crate::producer) fn stamp_in_transaction(
        &self,
        transactional: &Transactional,
        identity: &Identity,
        queue: &PartitionQueue,
    ) -> Result<ProducerStamp> {
        loop {
            let number = transactional.check_send()?;
            if queue.joined.load(Ordering::Acquire) != number {
                self.repeat(self.limit(), || self.join(transactional, queue))?;
            }
            let stamp = identity.stamp(&self.broker)?;
            // Numbers only rise, so the stamp is that of the transaction which the partition is
            // in; the log refuses it once the marker is there.
            if transactional.open.load(Ordering::Acquire) == number {
                return Ok(stamp);
            }
        }
    }

    /// What has to be done before batches of a lane are tried, and before its lock.
    ///
    /// # Errors
    /// Those of taking an id, and of joining the transaction.
    pub(in crate::producer) fn prepare(&self, queue: &PartitionQueue) -> Result<()> {
        match (&self.transactional, &self.identity) {
            (Some(transactional), _) if queue.has_batches() => self.join(transactional, queue),
            (None, Some(identity)) => identity.stamp(&self.broker).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Whether a record may be sent at present.
    ///
    /// # Errors
    /// Those of [`Transactional::check_send`].
    #[inline]
    pub(in crate::producer) fn check_transaction(&self) -> Result<()> {
        match &self.transactional {
            None => Ok(()),
            Some(transactional) => transactional.check_send().map(|_| ()),
        }
    }

    /// A record of the transaction is not stored: it can only be aborted.
    #[cold]
    pub(in crate::producer) fn fail_transaction(&self, error: &Error) {
        if let Some(transactional) = &self.transactional {
            transactional.fail(error);
        }
    }

    /// A record of the transaction may be stored or not.
    #[cold]
    pub(in crate::producer) fn leave_transaction_unresolved(&self, error: &Error) {
        if let Some(transactional) = &self.transactional {
            let message = format!("a record may be stored or not: {}", error.message());
            transactional.fail(&Error::new(ErrorKind::Kafka, message));
        }
    }
}
