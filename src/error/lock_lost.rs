//! The reason why a change of a directory is refused when its lock file is gone.

use super::Error;
use std::fmt;

/// Why a change of a directory was refused: its lock file is not the one that its owner locked. It
/// is the payload of an [`std::io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockLost;

impl LockLost {
    /// Whether `error`, or a cause of it, says so.
    pub(crate) fn caused(error: &Error) -> bool {
        let refused = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<std::io::Error>().is_some_and(LockLost::is_in)
        };
        error.causes().any(refused)
    }

    /// Whether that is the reason inside `error`.
    pub fn is_in(error: &std::io::Error) -> bool {
        error.get_ref().is_some_and(|reason| reason.is::<LockLost>())
    }

    /// The error that carries the reason.
    pub(crate) fn refuse() -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::ResourceBusy, LockLost)
    }
}

impl fmt::Display for LockLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the lock file was removed or replaced, so that another process may own the \
             directory: nothing more is written",
        )
    }
}

impl std::error::Error for LockLost {}
