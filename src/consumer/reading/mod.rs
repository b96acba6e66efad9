//! Reading one log: what a fetch of it gives, and what of that a reader may see. Nothing here knows
//! of groups, subscriptions or time.
//!
//! A [`LogReader`] stands in one log. It has the log hand over verified bytes, walks over their
//! batches (`walk.rs`), leaves out what is hidden (`aborted.rs`), and makes runs of the rest
//! (`runs.rs`), which [`ConsumerRecords`] lend record by record (`records`).

mod aborted;
mod log_reader;
mod records;
mod runs;
mod walk;

pub(super) use log_reader::{LogReader, Reading};
pub use records::{
    ConsumerRecord, ConsumerRecords, OwnedConsumerRecord, RecordsIter, SharedRecord,
};
#[cfg(all(test, not(loom)))]
pub(super) use walk::GIVEN_UP;
pub(super) use walk::{Unpack, WalkResult};
