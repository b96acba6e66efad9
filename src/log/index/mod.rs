//! Index files: offsets, times, aborted transactions. Caches, never believed unproven.

pub(crate) mod offset_index;
pub(crate) mod time_index;
pub(crate) mod transaction_index;
