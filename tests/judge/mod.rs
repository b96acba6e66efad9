//! What the suites that judge by a real Kafka share: where the files are, manifests, copies.

#[allow(dead_code)] // Not every suite reads manifests.
pub mod ended;
#[allow(dead_code)] // Not every suite reads manifests.
pub mod manifest;

use std::path::{Path, PathBuf};

#[allow(dead_code)] // Not every suite looks for folders.
/// The folders named by an environment variable, separated by `:`, after the repository's own.
pub fn folders(own: &str, variable: &str) -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(own);
    let mut out: Vec<PathBuf> = own.is_dir().then_some(own).into_iter().collect();
    if let Some(value) = std::env::var_os(variable) {
        out.extend(std::env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()));
    }
    out
}

#[allow(dead_code)] // Not every suite copies directories.
/// Copies a directory with everything in it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}
