//! Index files: offsets, times, aborted transactions. Caches, never believed unproven.

pub(crate) mod offset_index;
pub(crate) mod time_index;
pub(crate) mod transaction_index;

/// The largest index file that is read: an entry for each of 2^31 bytes would take more, but an
/// index of more entries than a segment has batches is no index.
pub(crate) const INDEX_SIZE_MAX: u64 = 1 << 29;
