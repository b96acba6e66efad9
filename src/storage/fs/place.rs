//! Where a directory is: by a path that keeps its meaning, and on which mount of which boot.

use crate::storage::FileIdentity;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// See [`Storage::absolute`](crate::storage::Storage::absolute). Of a directory that is not there,
/// the path is only made absolute.
pub(super) fn absolute(dir: &Path) -> io::Result<PathBuf> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    match fs::canonicalize(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(dir),
        found => found,
    }
}

#[cfg(target_os = "linux")]
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn boot_id() -> String {
    String::new()
}

/// The kernel's number of the mount, which it gives only once in a boot: Linux 6.8 and later. The
/// mount ids before that are given again, as a rule to the very next mount, so they tell nothing.
#[cfg(target_os = "linux")]
pub(super) fn mount_id(dir: &Path) -> String {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    // `STATX_MNT_ID_UNIQUE` of linux/stat.h.
    let unique = StatxFlags::from_bits_retain(0x4000);
    match statx(CWD, dir, AtFlags::empty(), unique) {
        Ok(found) if found.stx_mask & unique.bits() != 0 => found.stx_mnt_id.to_string(),
        _ => String::new(),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn mount_id(_: &Path) -> String {
    String::new()
}

/// What stands at `path`, by one look that follows no link.
pub(super) fn identity(path: &Path) -> Option<FileIdentity> {
    use std::os::unix::fs::MetadataExt;
    let own = fs::symlink_metadata(path).ok().filter(|own| own.is_dir() || own.is_file())?;
    let seconds = own.ctime().checked_mul(1_000_000_000)?;
    Some(FileIdentity {
        is_dir: own.is_dir(),
        len: if own.is_dir() { 0 } else { own.len() },
        inode: own.ino(),
        changed_ns: seconds.checked_add(own.ctime_nsec())?,
    })
}
