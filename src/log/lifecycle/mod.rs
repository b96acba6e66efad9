//! Opening a log for its first use, and closing it.

pub(in crate::log) mod close;
pub(in crate::log) mod open;
pub(in crate::log) mod stamp;
