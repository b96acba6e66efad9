//! What the log knows of transactions.

pub(crate) mod transactions;
