//! Work behind the appender: flushes, seals, pages ahead, retention, cleaning.

pub(in crate::log) mod cleaner;
pub(in crate::log) mod flush;
pub(in crate::log) mod prepare;
pub(in crate::log) mod retention;
pub(in crate::log) mod seal;
pub(in crate::log) mod snapshots;
