//! Transactions: who may write under a transactional id, what is in its open transaction, and how
//! that ends.
//!
//! [`TransactionCoordinator`] is a pure state machine, as `group` is: a handler is given the
//! request and `now`, and answers with the response and the records to append to
//! `__transaction_state`. What the records describe becomes true when the caller reports that they
//! were stored. There is no I/O, no lock and no clock in here. What it does not do: append, sync,
//! write markers.
//!
//! A transaction ends in three steps. Its state is prepared: the record decides, once and for all,
//! whether it is committed. Then the markers are written into its partitions, by whoever holds its
//! [`EndOfTransaction`], and by nobody else meanwhile. Then its state is complete. A process that
//! dies in between leaves a prepared state, from which the next life goes on.
//!
//! Transactions are those of version 2 (KIP-890): each end raises the epoch, and its markers carry
//! the raised one, so that nothing that was sent before the end can be stored after it. Source:
//! Kafka, `TransactionCoordinator`, `TransactionMetadata`, `TransactionStateManager`.

#[cfg(any(test, fuzzing))]
mod arbitrary;
mod coordinator;
mod end;
mod records;
mod requests;
mod state;
#[cfg(test)]
mod tests;

#[cfg(fuzzing)]
pub use arbitrary::replay_arbitrary_transactions;
pub(crate) use coordinator::{
    TransactionAppend, TransactionConfig, TransactionCoordinator, TransactionEvent,
};
pub(crate) use end::{EndAnswer, EndOfTransaction};
pub use records::{TransactionRecord, TransactionValue};
pub(crate) use requests::InitAnswer;
pub use state::TransactionState;

/// Who a producer is: its id, and which of all that had the id it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerIdentity {
    pub producer_id: i64,
    pub producer_epoch: i16,
}
