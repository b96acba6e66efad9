//! Where a producer stands with its transactions: the states of the Java client's
//! `TransactionManager`, what may follow what, and the error of each call that may not.

use crate::error::{Error, ErrorKind, Result};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::producer) enum TransactionPhase {
    /// Before `init_transactions`.
    Uninitialized,
    /// Inside it.
    Initializing,
    /// Between transactions.
    Ready,
    /// Between `begin_transaction` and its end.
    InTransaction,
    /// Inside `commit_transaction`.
    Committing,
    /// Inside `abort_transaction`.
    Aborting,
    /// Something failed: the transaction can only be aborted.
    AbortableError,
    /// The producer can only be closed.
    FatalError,
}

impl TransactionPhase {
    #[cfg(test)]
    pub const ALL: [TransactionPhase; 8] = [
        TransactionPhase::Uninitialized,
        TransactionPhase::Initializing,
        TransactionPhase::Ready,
        TransactionPhase::InTransaction,
        TransactionPhase::Committing,
        TransactionPhase::Aborting,
        TransactionPhase::AbortableError,
        TransactionPhase::FatalError,
    ];

    /// Whether `next` may follow. Source: Kafka, `TransactionManager.State.isTransitionValid`.
    ///
    /// | next | after |
    /// | --- | --- |
    /// | uninitialized | nothing |
    /// | initializing | uninitialized |
    /// | ready | initializing, committing, aborting |
    /// | in transaction | ready |
    /// | committing | in transaction |
    /// | aborting | in transaction, abortable error |
    /// | abortable error | initializing, in transaction, committing, abortable error |
    /// | fatal error | everything |
    pub fn can_become(self, next: TransactionPhase) -> bool {
        use TransactionPhase::*;
        match next {
            Uninitialized => false,
            Initializing => self == Uninitialized,
            Ready => matches!(self, Initializing | Committing | Aborting),
            InTransaction => self == Ready,
            Committing => self == InTransaction,
            Aborting => matches!(self, InTransaction | AbortableError),
            AbortableError => {
                matches!(self, Initializing | InTransaction | Committing | AbortableError)
            }
            FatalError => true,
        }
    }

    /// As a message says it.
    fn words(self) -> &'static str {
        match self {
            TransactionPhase::Uninitialized => "before init_transactions",
            TransactionPhase::Initializing => "inside init_transactions",
            TransactionPhase::Ready => "while no transaction is open",
            TransactionPhase::InTransaction => "while a transaction is open",
            TransactionPhase::Committing => "inside commit_transaction",
            TransactionPhase::Aborting => "inside abort_transaction",
            TransactionPhase::AbortableError => "while the transaction has failed",
            TransactionPhase::FatalError => "after a fatal error",
        }
    }
}

/// A call that may have to be repeated to come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::producer) enum Operation {
    Init,
    Commit,
    Abort,
}

impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Operation::Init => "init_transactions",
            Operation::Commit => "commit_transaction",
            Operation::Abort => "abort_transaction",
        }
    }

    fn state(self) -> TransactionPhase {
        match self {
            Operation::Init => TransactionPhase::Initializing,
            Operation::Commit => TransactionPhase::Committing,
            Operation::Abort => TransactionPhase::Aborting,
        }
    }
}

/// What a producer remembers of its transactions.
#[derive(Debug)]
pub(super) struct TransactionState {
    state: TransactionPhase,
    /// Why there is an error state.
    last_error: Option<Error>,
    /// A partition takes part, so that the coordinator is told of the end.
    pub started: bool,
    /// The coordinator was asked to let one take part, and may have done so.
    pub asked: bool,
    /// How many threads are asking it.
    pub joining: usize,
    /// The end goes to the coordinator, and nothing takes part any more.
    pub closed: bool,
    /// Of the transaction that is open, or was last; from 1.
    pub number: u64,
    /// It ran out of time and has to be called again.
    pending: Option<Operation>,
}

impl TransactionState {
    pub fn new() -> TransactionState {
        TransactionState {
            state: TransactionPhase::Uninitialized,
            last_error: None,
            started: false,
            asked: false,
            joining: 0,
            closed: false,
            number: 0,
            pending: None,
        }
    }

    pub fn state(&self) -> TransactionPhase {
        self.state
    }

    /// Why there is an error state, if there is one.
    pub fn last_error(&self) -> Option<&Error> {
        self.last_error.as_ref()
    }

    /// # Errors
    /// In an error state: the fencing itself, else `Kafka` over the reason.
    pub fn check_error(&self) -> Result<()> {
        let Some(last) = &self.last_error else { return Ok(()) };
        Err(match last.kind() {
            // Without the place: it is that of the record that failed, and not of this call.
            ErrorKind::ProducerFenced | ErrorKind::InvalidProducerEpoch => {
                last.clone().without_place()
            }
            _ => {
                let what = match self.state {
                    TransactionPhase::FatalError => "the producer can only be closed",
                    _ => "the transaction can only be aborted",
                };
                let message = format!("{what}: {}", last.message());
                let error = Error::new(ErrorKind::Kafka, message).with_source(last.clone());
                match self.state {
                    TransactionPhase::FatalError => error.ending_its_handle(),
                    _ => error,
                }
            }
        })
    }

    /// # Errors
    /// `IllegalState` while an earlier call has to be repeated.
    pub fn check_pending(&self, call: &str) -> Result<()> {
        match self.pending {
            None => Ok(()),
            Some(earlier) => Err(illegal(format!(
                "{call} has to wait: {} timed out, call it again",
                earlier.name()
            ))),
        }
    }

    /// # Errors
    /// Of a send, and of offsets: those above, and `IllegalState` outside of a transaction.
    pub fn check_open(&self, call: &str) -> Result<()> {
        self.check_error()?;
        self.check_pending(call)?;
        match self.state {
            TransactionPhase::InTransaction => Ok(()),
            state => Err(illegal(format!(
                "{call} needs an open transaction, and is called {} \
                (begin_transaction opens one)",
                state.words()
            ))),
        }
    }

    /// Opens a transaction. Returns its number.
    ///
    /// # Errors
    /// As [`TransactionState::check_open`], where there is none to open.
    pub fn begin(&mut self) -> Result<u64> {
        self.check_pending("begin_transaction")?;
        self.check_error()?;
        self.become_("begin_transaction", TransactionPhase::InTransaction)?;
        self.forget_transaction();
        self.number += 1;
        Ok(self.number)
    }

    /// Begins an operation, or goes on with it where it timed out.
    ///
    /// # Errors
    /// `IllegalState` where it is not its turn; those of an error state.
    pub fn enter(&mut self, operation: Operation) -> Result<()> {
        if self.pending == Some(operation) {
            return Ok(());
        }
        self.check_pending(operation.name())?;
        let may_abort =
            operation == Operation::Abort && self.state == TransactionPhase::AbortableError;
        if !may_abort {
            self.check_error()?;
        }
        self.become_(operation.name(), operation.state())
    }

    /// It ran out of time: only the same call can follow.
    pub fn leave_pending(&mut self, operation: Operation) {
        self.pending = Some(operation);
    }

    /// The operation is over, and the next transaction may begin.
    pub fn complete(&mut self) {
        self.pending = None;
        if self.state.can_become(TransactionPhase::Ready) {
            self.state = TransactionPhase::Ready;
            self.last_error = None;
            self.forget_transaction();
        }
    }

    fn forget_transaction(&mut self) {
        (self.started, self.asked, self.closed) = (false, false, false);
    }

    /// The transaction can only be aborted, if one is open that is not being aborted.
    pub fn fail(&mut self, error: Error) {
        if self.state.can_become(TransactionPhase::AbortableError) {
            self.state = TransactionPhase::AbortableError;
            self.last_error = Some(error);
            self.pending = None;
        }
    }

    /// The producer can only be closed.
    pub fn fail_fatally(&mut self, error: Error) {
        self.state = TransactionPhase::FatalError;
        self.last_error = Some(error);
        self.pending = None;
    }

    fn become_(&mut self, call: &str, next: TransactionPhase) -> Result<()> {
        if !self.state.can_become(next) {
            let message = format!("{call} is called {}", self.state.words());
            return Err(illegal(message));
        }
        self.state = next;
        // As in Kafka: an abort forgets why.
        self.last_error = None;
        Ok(())
    }
}

fn illegal(message: String) -> Error {
    Error::new(ErrorKind::IllegalState, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_follow_each_other_as_in_kafka() {
        use TransactionPhase::*;
        let allowed: &[(TransactionPhase, &[TransactionPhase])] = &[
            (Uninitialized, &[Initializing, FatalError]),
            (Initializing, &[Ready, AbortableError, FatalError]),
            (Ready, &[InTransaction, FatalError]),
            (InTransaction, &[Committing, Aborting, AbortableError, FatalError]),
            (Committing, &[Ready, AbortableError, FatalError]),
            (Aborting, &[Ready, FatalError]),
            (AbortableError, &[Aborting, AbortableError, FatalError]),
            (FatalError, &[FatalError]),
        ];
        for (from, to) in allowed {
            for next in TransactionPhase::ALL {
                assert_eq!(from.can_become(next), to.contains(&next), "{from:?} to {next:?}");
            }
        }
    }

    #[test]
    fn a_call_that_timed_out_is_the_only_one_that_may_follow() {
        let mut state = TransactionState::new();
        state.enter(Operation::Init).unwrap();
        state.leave_pending(Operation::Init);
        assert_eq!(state.begin().unwrap_err().kind(), ErrorKind::IllegalState);
        state.enter(Operation::Init).unwrap();
        state.complete();
        state.begin().unwrap();
        state.enter(Operation::Commit).unwrap();
        state.leave_pending(Operation::Commit);
        for refused in
            [state.enter(Operation::Abort).unwrap_err(), state.check_open("send").unwrap_err()]
        {
            assert_eq!(refused.kind(), ErrorKind::IllegalState);
            assert!(refused.message().contains("commit_transaction"), "{refused}");
        }
        state.enter(Operation::Commit).unwrap();
        state.complete();
        assert_eq!((state.state(), state.begin().unwrap()), (TransactionPhase::Ready, 2));
    }

    #[test]
    fn an_error_is_told_by_every_call_until_the_abort() {
        let mut state = TransactionState::new();
        state.enter(Operation::Init).unwrap();
        state.complete();
        state.fail(Error::new(ErrorKind::RecordTooLarge, "too large"));
        assert_eq!(state.state(), TransactionPhase::Ready, "there is nothing to abort");
        state.begin().unwrap();
        state.fail(Error::new(ErrorKind::RecordTooLarge, "too large"));
        for told in [
            state.check_open("send").unwrap_err(),
            state.begin().unwrap_err(),
            state.enter(Operation::Commit).unwrap_err(),
            state.enter(Operation::Init).unwrap_err(),
        ] {
            let seen = (told.kind(), told.root_kind());
            assert_eq!(seen, (ErrorKind::Kafka, ErrorKind::RecordTooLarge));
        }
        state.enter(Operation::Abort).unwrap();
        state.complete();
        state.begin().unwrap();
        state.fail_fatally(Error::new(ErrorKind::ProducerFenced, "fenced"));
        for told in [state.begin().unwrap_err(), state.enter(Operation::Abort).unwrap_err()] {
            assert_eq!(told.kind(), ErrorKind::ProducerFenced);
        }
    }
}
