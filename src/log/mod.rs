//! One partition: its files, and the log that lives in them.

#![allow(dead_code)]

pub(crate) mod names;
pub(crate) mod offset_index;
pub(crate) mod state;
pub(crate) mod time_index;
pub(crate) mod transaction_index;
pub(crate) mod transactions;
