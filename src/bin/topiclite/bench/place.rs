//! Where the work is done: a directory of its own, which goes afterwards.

use std::path::{Path, PathBuf};
use topiclite::{Error, Result};

/// A directory that goes, with those above it that were made for it.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
    /// Directories that were not there before, the innermost first.
    made: Vec<PathBuf>,
}

impl Place {
    /// Makes a directory below the given one, else below the temporary one.
    pub fn new(given: Option<&Path>) -> Result<Place> {
        let parent = given.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let missing =
            parent.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
        let made = missing.map(Path::to_path_buf).collect();
        let dir = parent.join(format!("topiclite-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|e| Error::io(e, "making a directory", &dir))?;
        Ok(Place { dir, made })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Removes it.
    pub fn remove(&self) {
        // A leftover of a bench harms nobody, and its name says what it is.
        let _left = std::fs::remove_dir_all(&self.dir);
        for dir in &self.made {
            let _in_use = std::fs::remove_dir(dir);
        }
    }
}
