//! One partition as the broker's clients see it: the log of the owner, or the reader of an
//! attached directory. What only an owner can do is refused in one place.

use crate::config::IsolationLevel;
use crate::error::{Error, ErrorKind, Result};
use crate::log::{AbortedTransaction, Chunk, Cursor, Log};
use crate::sync::Arc;
use crate::time::Event;

/// One partition.
#[derive(Debug, Clone)]
pub(crate) enum Partition {
    /// Of a broker that owns its directory.
    Live(Arc<Log>),
}

impl Partition {
    /// The log, to be written.
    ///
    /// # Errors
    /// [`ErrorKind::ReadOnly`] in an attached directory.
    pub fn log(&self) -> Result<&Arc<Log>> {
        match self {
            Partition::Live(log) => Ok(log),
        }
    }
}
