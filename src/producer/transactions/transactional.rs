//! Transactions as a producer runs them: its calls in their order, and what becomes of a
//! transaction when something fails. What a transaction is, the coordinator decides.

use super::transaction_state::{Operation, TransactionPhase, TransactionState};
use crate::consumer::{GroupMetadata, OffsetAndMetadata};
use crate::error::{Error, ErrorKind, Result};
use crate::group::OffsetToCommit;
use crate::log::ProducerStamp;
use crate::producer::batch::PartitionQueue;
use crate::producer::env::ProducerEnv;
use crate::producer::identity::Identity;
use crate::producer::topics::missing_topic;
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering};
use crate::topic::TopicPartition;
use crate::transaction::ProducerIdentity;
use std::collections::BTreeMap;
use std::time::Duration;

/// What sending offsets is called in errors.
pub(in crate::producer) const SEND_OFFSETS: &str = "send_offsets_to_transaction";

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
    /// Nobody is asking the coordinator to let a partition take part.
    joined: Condvar,
}

/// A partition is about to take part in a transaction, which does not end meanwhile.
struct Joining<'a> {
    transactional: &'a Transactional,
    number: u64,
}

impl Joining<'_> {
    /// The coordinator let it.
    fn done(self, queue: &PartitionQueue) {
        self.transactional.state.lock().started = true;
        queue.joined.store(self.number, Ordering::Release);
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        self.transactional.state.lock().joining -= 1;
        self.transactional.joined.notify_all();
    }
}

/// What was found out of a queue before its lock was taken.
pub(in crate::producer) struct Prepared {
    /// For which transaction.
    number: u64,
    pub outcome: Result<()>,
}

impl Prepared {
    /// Without a transaction.
    pub fn plain(outcome: Result<()>) -> Prepared {
        Prepared { number: NONE, outcome }
    }
}

/// One call on the transactions of a producer, which has them to itself.
pub(in crate::producer) struct Call<'a>(&'a Transactional);

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
            joined: Condvar::new(),
        }
    }

    /// Lets a partition begin to take part, unless it does: `None`. What lingers may do so while a
    /// commit waits for it; what is sent at once may not.
    ///
    /// # Errors
    /// Those of [`TransactionState::check_open`], and `TransactionAborted`.
    fn enter_join(&self, queue: &PartitionQueue, lingers: bool) -> Result<Option<Joining<'_>>> {
        let mut state = self.state.lock();
        let number = state.number;
        if queue.joined.load(Ordering::Acquire) == number {
            return Ok(None);
        }
        let is_open = match state.state() {
            TransactionPhase::InTransaction => true,
            TransactionPhase::Committing => lingers && !state.closed,
            _ => false,
        };
        if !is_open {
            match lingers {
                true => unfailed(&state)?,
                false => state.check_open("send")?,
            }
            state.check_error()?;
            let message = "the transaction was aborted before the record was sent";
            return Err(Error::new(ErrorKind::TransactionAborted, message));
        }
        state.asked = true;
        state.joining += 1;
        Ok(Some(Joining { transactional: self, number }))
    }

    /// Waits until every partition that was about to take part does, and lets no other. Returns
    /// whether the coordinator has to be told of the end, and whether any takes part for certain.
    ///
    /// # Errors
    /// That of a record that was not stored.
    fn close(&self) -> Result<(bool, bool)> {
        let mut state = self.state.lock();
        while state.joining > 0 {
            self.joined.wait(&mut state);
        }
        if let Some(failed) = state.last_error() {
            return Err(failed.clone());
        }
        state.closed = true;
        Ok((state.asked || state.started, state.started))
    }

    /// Has the partition of what lingers take part.
    pub fn prepare(
        &self,
        env: &ProducerEnv,
        identity: &Identity,
        queue: &PartitionQueue,
    ) -> Prepared {
        let number = self.state.lock().number;
        let is_in = queue.joined.load(Ordering::Acquire) == number;
        let taken = if is_in { Ok(()) } else { check_takes_appends(queue) };
        Prepared { number, outcome: taken.and_then(|()| self.join(env, identity, queue, true)) }
    }

    /// Whether that holds for what is in the queue, whose lock is held. Batches of the next
    /// transaction may be there instead of those that were looked at.
    pub fn is_prepared(&self, queue: &PartitionQueue, prepared: &Prepared) -> bool {
        let number = self.state.lock().number;
        queue.joined.load(Ordering::Acquire) == number || prepared.number == number
    }

    /// Whether a batch may be tried for the first time: one that has no sequence yet goes down with
    /// a transaction that can only be aborted. Source: Kafka, `Sender`, `abortUndrainedBatches`.
    ///
    /// # Errors
    /// The first failure of the transaction.
    pub fn check_unfailed(&self) -> Result<()> {
        unfailed(&self.state.lock())
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
    pub fn fail(&self, error: &Error) {
        self.open.store(NONE, Ordering::Release);
        let mut state = self.state.lock();
        match error.kind() {
            ErrorKind::ProducerFenced
            | ErrorKind::InvalidProducerIdMapping
            | ErrorKind::UnsupportedVersion => {
                state.fail_fatally(error.clone().ending_its_handle());
            }
            // What a later attempt might have cured is over with the last one.
            ErrorKind::InvalidTxnState => state.fail(given_up(error)),
            _ if error.is_retriable() || is_retried_by_kafka(error) => state.fail(given_up(error)),
            _ => state.fail(error.clone()),
        }
        if state.state() == TransactionPhase::InTransaction {
            self.open.store(state.number, Ordering::Release);
        }
    }

    /// Only closing is left to the producer. Returns the error, which says so.
    fn fail_fatally(&self, error: Error) -> Error {
        let error = error.ending_its_handle();
        self.open.store(NONE, Ordering::Release);
        self.state.lock().fail_fatally(error.clone());
        error
    }

    /// # Errors
    /// `IllegalState` while another call is under way.
    pub fn call(&self, name: &str) -> Result<Call<'_>> {
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
                return self.fail_fatally(Error::new(ErrorKind::ProducerFenced, message));
            }
            ErrorKind::TransactionAbortable => self.state.lock().fail(error.clone()),
            ErrorKind::InvalidTransactionTimeout | ErrorKind::InvalidRequest => {
                // Kafka names no cause.
                let message = format!("{} failed: {}", operation.name(), error.message());
                return self.fail_fatally(Error::new(ErrorKind::Kafka, message));
            }
            // What would pass was tried again. What of the end is stored, the next producer of the
            // id goes on with.
            ErrorKind::Io | ErrorKind::ReadOnly | ErrorKind::CorruptRecord => {
                let message = format!(
                    "{} cannot be stored, so that the producer can only be closed: {}",
                    operation.name(),
                    error.message()
                );
                let failed = Error::new(ErrorKind::StorageFailed, message).at_place_of(&error);
                return self.fail_fatally(failed.with_source(error));
            }
            _ => return self.fail_fatally(error),
        }
        error
    }

    /// What offsets that were refused mean for the transaction.
    fn offsets_refused(&self, error: Error) -> Error {
        let abortable = match error.kind() {
            ErrorKind::Closed => return error,
            // Whether they are pending is not known, or the disk of the group, or of the
            // coordinator, does not take them.
            ErrorKind::Timeout
            | ErrorKind::Io
            | ErrorKind::StorageFull
            | ErrorKind::StorageFailed
            | ErrorKind::ReadOnly
            | ErrorKind::CorruptRecord => error,
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
                return self.fail_fatally(Error::new(ErrorKind::Kafka, message));
            }
        };
        self.open.store(NONE, Ordering::Release);
        self.state.lock().fail(abortable.clone());
        abortable
    }

    /// Where the producer stands.
    pub fn phase(&self) -> TransactionPhase {
        self.state.lock().state()
    }

    /// The first call of all: takes the id over.
    ///
    /// # Errors
    /// Those of [`Producer::init_transactions`](crate::Producer::init_transactions).
    pub fn init(&self, env: &ProducerEnv, identity: &Identity) -> Result<()> {
        const OPERATION: Operation = Operation::Init;
        let _call = self.call(OPERATION.name())?;
        self.state.lock().enter(OPERATION)?;
        let coordinator = env.broker.transactions()?;
        match env.repeat(env.block_limit(), || coordinator.init(&self.id, self.timeout)) {
            Ok(given) => {
                identity.replace(given.producer_id, given.producer_epoch);
                self.state.lock().complete();
                Ok(())
            }
            Err(error) => Err(self.ended(OPERATION, error)),
        }
    }

    /// Opens a transaction.
    ///
    /// # Errors
    /// Those of [`TransactionState::begin`].
    pub fn begin(&self) -> Result<()> {
        let _call = self.call("begin_transaction")?;
        let number = self.state.lock().begin()?;
        self.open.store(number, Ordering::Release);
        Ok(())
    }

    /// Has offsets of a group committed with the transaction.
    ///
    /// # Errors
    /// Those of [`TransactionState::check_open`], and what the coordinators refuse.
    pub fn send_offsets(
        &self,
        env: &ProducerEnv,
        identity: &Identity,
        offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
        group: &GroupMetadata,
    ) -> Result<()> {
        let _call = self.call(SEND_OFFSETS)?;
        {
            let mut state = self.state.lock();
            state.check_pending(SEND_OFFSETS)?;
            state.check_open(SEND_OFFSETS)?;
            state.asked = true;
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
        let (coordinator, producer) = (env.broker.transactions()?, producer_of(env, identity)?);
        let member = group.member();
        let sent = env.repeat(env.block_limit(), || {
            let outcomes = coordinator.commit_offsets(&self.id, producer, &member, &offsets)?;
            outcomes.into_iter().try_for_each(|(_, outcome)| outcome)
        });
        sent.map_err(|error| self.offsets_refused(error))?;
        self.state.lock().started = true;
        Ok(())
    }

    /// Begins the end, or goes on with it. From here on no record joins: a lingering batch has it,
    /// or the transaction does not. Returns why it had failed before, if it had.
    ///
    /// # Errors
    /// Those of [`TransactionState::enter`].
    pub fn enter_end(&self, operation: Operation) -> Result<Option<Error>> {
        let mut state = self.state.lock();
        let why = state.last_error().cloned();
        state.enter(operation)?;
        drop(state);
        self.open.store(NONE, Ordering::Release);
        Ok(why)
    }

    /// The end ran out of time: it is called again.
    pub fn leave_pending(&self, operation: Operation) {
        self.state.lock().leave_pending(operation);
    }

    /// Ends the transaction at the coordinator, if it knows of it. All records are settled.
    ///
    /// # Errors
    /// The failure of one of them; those of the coordinator.
    pub fn end(
        &self,
        env: &ProducerEnv,
        identity: &Identity,
        operation: Operation,
        limit: Duration,
    ) -> Result<()> {
        let (is_told, started) = self.close()?;
        if is_told {
            let (coordinator, producer) = (env.broker.transactions()?, producer_of(env, identity)?);
            // Where no partition is known to take part no record is stored: there is nothing that
            // could be committed, and an abort is taken in every state.
            let commit = operation == Operation::Commit && started;
            let next = env.repeat(limit, || coordinator.end(&self.id, producer, commit));
            let next = next.map_err(|error| self.ended(operation, error))?;
            identity.replace(next.producer_id, next.producer_epoch);
        }
        self.state.lock().complete();
        Ok(())
    }

    /// Puts a partition into the present transaction, before its first batch.
    ///
    /// # Errors
    /// Those of the coordinator, an epoch that was replaced as `InvalidProducerEpoch`; those of a
    /// transaction that takes no partition any more.
    fn join(
        &self,
        env: &ProducerEnv,
        identity: &Identity,
        queue: &PartitionQueue,
        lingers: bool,
    ) -> Result<()> {
        let Some(joining) = self.enter_join(queue, lingers)? else { return Ok(()) };
        let producer = producer_of(env, identity)?;
        let partition = TopicPartition::new(queue.topic.clone(), queue.partition);
        env.broker.transactions()?.add_partition(&self.id, producer, &partition)?;
        joining.done(queue);
        Ok(())
    }

    /// The stamp of a batch that is sent once, inside the transaction that is open.
    ///
    /// # Errors
    /// Those of [`Transactional::check_send`], and of joining.
    #[inline]
    pub fn stamp(
        &self,
        env: &ProducerEnv,
        identity: &Identity,
        queue: &PartitionQueue,
    ) -> Result<ProducerStamp> {
        loop {
            let number = self.check_send()?;
            if queue.joined.load(Ordering::Acquire) != number {
                check_takes_appends(queue)?;
                env.repeat(env.block_limit(), || self.join(env, identity, queue, false))?;
            }
            let stamp = identity.stamp(&env.broker)?;
            // Numbers only rise, so the stamp is that of the transaction which the partition is
            // in; the log refuses it once the marker is there.
            if self.open.load(Ordering::Acquire) == number {
                return Ok(stamp);
            }
        }
    }
}

/// That of a transaction that can only be aborted, as what is told of a record that it takes along.
fn unfailed(state: &TransactionState) -> Result<()> {
    match state.last_error() {
        Some(failed) if state.state() == TransactionPhase::AbortableError => {
            Err(failed.clone().without_place())
        }
        _ => Ok(()),
    }
}

/// Before a partition joins: one that takes no record of the transaction, damaged or failed, would
/// take no marker of it either. So does Kafka, whose partition leader has the coordinator add a
/// partition that is there.
///
/// # Errors
/// What the append would be refused for.
fn check_takes_appends(queue: &PartitionQueue) -> Result<()> {
    queue.log.check_takes_appends().map_err(missing_topic)
}

/// Who the producer is in its present transaction.
fn producer_of(env: &ProducerEnv, identity: &Identity) -> Result<ProducerIdentity> {
    let (producer_id, producer_epoch) = identity.stamp(&env.broker)?.producer();
    Ok(ProducerIdentity { producer_id, producer_epoch })
}

/// What a record failed for that could have been stored at another time.
fn given_up(error: &Error) -> Error {
    let message = format!("sending was given up: {}", error.message());
    Error::new(ErrorKind::TransactionAbortable, message)
}

/// What the Java client repeats, and the crate tells at once.
fn is_retried_by_kafka(error: &Error) -> bool {
    error.kafka_name() == ErrorKind::Timeout.kafka_name()
}
