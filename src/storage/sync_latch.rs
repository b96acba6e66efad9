//! A failed sync is final (rule R4): the pages it was to write may be gone from memory and marked
//! clean, so that a second one, which succeeds, would prove nothing.

use std::io;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::storage::NotBegun;

/// The first failed sync of something that is synced again and again: from then on it is the
/// outcome of every other. One that could not begin leaves everything as it was.
#[derive(Debug, Clone, Default)]
pub(crate) struct SyncLatch {
    failed: Option<Error>,
}

impl SyncLatch {
    /// The error of the sync that failed, if one did.
    pub fn failure(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    /// Whether no sync has failed.
    ///
    /// # Errors
    /// That of the one that did.
    pub fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Takes note of how something ended that may have been a sync.
    ///
    /// # Errors
    /// The outcome's.
    pub fn note<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome
            && error.kind() == ErrorKind::StorageFailed
        {
            self.fail(error.clone());
        }
        outcome
    }

    /// Makes `error` the outcome from here on, unless there is one.
    pub fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }
}

/// The error of a sync: `StorageFailed`, or `Io` for one that could not begin.
pub(crate) fn sync_error(error: io::Error, doing: &str, path: &Path) -> Error {
    if NotBegun::is_in(&error) {
        return Error::io(error, doing, path);
    }
    Error::new(ErrorKind::StorageFailed, format!("{doing}: {error}; open it again"))
        .with_path(path)
        .with_source(error)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn error(kind: ErrorKind, message: &'static str) -> Error {
        Error::new(kind, message)
    }

    #[test]
    fn the_first_failed_sync_is_the_outcome_of_every_other() {
        let mut latch = SyncLatch::default();
        latch.check().unwrap();
        latch.note(Ok(())).unwrap();
        let other = latch.note::<()>(Err(error(ErrorKind::Io, "no descriptor"))).unwrap_err();
        assert_eq!(other.kind(), ErrorKind::Io);
        latch.check().unwrap();
        latch.note::<()>(Err(error(ErrorKind::StorageFailed, "the first"))).unwrap_err();
        latch.fail(error(ErrorKind::StorageFailed, "the second"));
        latch.note(Ok(())).unwrap();
        assert_eq!(latch.check().unwrap_err().message(), "the first");
        assert_eq!(latch.failure().map(Error::kind), Some(ErrorKind::StorageFailed));
    }

    #[test]
    fn a_sync_that_failed_says_what_and_where() {
        let path = Path::new("t-0/00000000000000000000.log");
        let failed = sync_error(io::Error::other("bad sector"), "syncing", path);
        assert_eq!(failed.kind(), ErrorKind::StorageFailed);
        assert_eq!(
            (failed.path(), failed.message()),
            (Some(path), "syncing: bad sector; open it again")
        );
    }
}
