//! Topiclite
mod error;
mod log;
pub mod record;
#[allow(missing_docs, dead_code, unused_imports)]
mod sync;
pub mod time;
pub mod topic;
pub use error::{Error, ErrorKind, Result};
pub use topic::TopicPartition;
