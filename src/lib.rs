//! Topiclite
pub mod topic;
mod error;
pub use error::{Error, ErrorKind, Result};
pub use topic::TopicPartition;
