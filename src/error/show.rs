//! The text of an error: the kind in words, the place, the reason.

use super::{Error, ErrorKind};
use std::fmt;

/// `UnknownTopicOrPartition` -> `unknown topic or partition`.
fn words(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    for (i, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push(' ');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &*self.0;
        f.write_str(&words(e.kind.name()))?;
        match (&e.topic, e.partition) {
            (Some(topic), Some(partition)) => write!(f, " {topic}-{partition}")?,
            (Some(topic), None) => write!(f, " {topic}")?,
            _ => {}
        }
        if let Some(offset) = e.offset {
            write!(f, " at offset {offset}")?;
        }
        match (e.position, &e.path) {
            (Some(position), Some(path)) => {
                write!(f, " at position {position} of {}", path.display())?;
            }
            (None, Some(path)) => write!(f, " in {}", path.display())?,
            (Some(position), None) => write!(f, " at position {position}")?,
            (None, None) => {}
        }
        if !e.message.is_empty() {
            write!(f, ": {}", e.message)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.kind())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause().filter(|_| self.0.cause.as_ref().is_some_and(|cause| !cause.is_told))
    }
}

/// The kind in words, as the text of an error begins with it.
impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words(self.name()))
    }
}
