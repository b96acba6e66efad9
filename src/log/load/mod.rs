//! From a folder to a log: opening, recovery, other programs' files, repairs, checks.

pub(in crate::log) mod compacted_aborts;
pub(in crate::log) mod cut;
pub(crate) mod folder;
pub(in crate::log) mod foreign;
pub(in crate::log) mod foreign_indexes;
pub(in crate::log) mod inspect;
pub(crate) mod opening;
pub(in crate::log) mod producers;
pub(in crate::log) mod reader;
pub(in crate::log) mod recovery;
pub(in crate::log) mod repair;
pub(in crate::log) mod swaps;
pub(crate) mod verify;
