//! What a table is made with.

use crate::config::IsolationLevel;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// How a [`Table`](crate::Table) is made.
///
/// # Examples
/// ```
/// use topiclite::{IsolationLevel, TableOptions};
/// let options = TableOptions::new()
///     .isolation_level(IsolationLevel::ReadUncommitted)
///     .partitions([0, 2])
///     .snapshot("/var/lib/shop/prices.table");
/// ```
#[derive(Debug, Clone)]
pub struct TableOptions {
    pub(super) isolation: IsolationLevel,
    /// None: all that there are, and those that come.
    pub(super) partitions: Option<BTreeSet<i32>>,
    pub(super) snapshot: Option<PathBuf>,
}

impl Default for TableOptions {
    fn default() -> TableOptions {
        TableOptions::new()
    }
}

impl TableOptions {
    /// All partitions, committed records only, no snapshot.
    pub fn new() -> TableOptions {
        TableOptions { isolation: IsolationLevel::ReadCommitted, partitions: None, snapshot: None }
    }

    /// Which records to see. [`IsolationLevel::ReadCommitted`] unless it is set: a table holds no
    /// value of a transaction that is open, or that was aborted.
    ///
    /// Departure: D110. A consumer's default is `read_uncommitted`, as in Kafka.
    pub fn isolation_level(mut self, isolation: IsolationLevel) -> TableOptions {
        self.isolation = isolation;
        self
    }

    /// Follows these partitions alone. Without it, all that the topic has and gets.
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = i32>) -> TableOptions {
        self.partitions = Some(partitions.into_iter().collect());
        self
    }

    /// The file from which the table begins where it is there and proven, and into which
    /// [`Table::save`](crate::Table::save) writes it. It lies outside of any broker's directory,
    /// in a folder that is there, and belongs to one table at a time.
    pub fn snapshot(mut self, path: impl Into<PathBuf>) -> TableOptions {
        self.snapshot = Some(path.into());
        self
    }
}
