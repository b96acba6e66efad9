//! The transactions of a producer: the states that they go through, and the part that holds them.

mod transaction_state;
mod transactional;

pub(super) use transaction_state::{Operation, TransactionPhase};
pub(super) use transactional::{Prepared, SEND_OFFSETS, Transactional};
