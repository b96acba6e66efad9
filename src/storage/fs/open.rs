//! How files are opened: what is read may be reached through links, what is written may not, and
//! neither waits for what is no file.
//!
//! Opening a FIFO blocks until somebody opens its other end, and some devices act when they are
//! opened: everything is opened without blocking, and looked at before it is used.

use super::NotBegun;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Flags as the standard library takes them: all of ours are low bits.
fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

/// Opens a file to read it, through links.
pub(super) fn to_read(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(flags(OFlags::NONBLOCK)).open(path);
    let file = file.map_err(NotBegun::mark)?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// Opens the file itself, never one that a link leads to, to write it.
pub(super) fn to_write(path: &Path) -> io::Result<File> {
    own(OpenOptions::new().read(true).write(true), path)
}

/// Opens a directory to sync it.
pub(super) fn directory(path: &Path) -> io::Result<File> {
    let kind = flags(OFlags::NONBLOCK | OFlags::DIRECTORY);
    OpenOptions::new().read(true).custom_flags(kind).open(path).map_err(NotBegun::mark)
}

/// Opens the file itself, or makes it; its content stays. For the lock file.
pub(super) fn to_lock(path: &Path) -> io::Result<File> {
    own(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)
}

/// Makes an empty file, or empties the one that is there. A link gives way, and so does a file
/// with a second name: what the other name stands for is not ours to empty.
#[allow(clippy::disallowed_methods)] // This is the door.
pub(super) fn to_empty(path: &Path) -> io::Result<File> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() || (found.is_file() && found.nlink() > 1) => {
            fs::remove_file(path)?;
        }
        _ => {}
    }
    let file = to_lock(path)?;
    // Cutting an empty file is a change to it all the same, which a sync writes.
    if file.metadata()?.len() > 0 {
        file.set_len(0)?;
    }
    Ok(file)
}

fn own(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let kind = flags(OFlags::NONBLOCK | OFlags::NOFOLLOW);
    let file = options.custom_flags(kind).open(path).map_err(|error| {
        match error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
            true => io::Error::new(
                io::ErrorKind::InvalidInput,
                "a symbolic link, and nothing is written through links",
            ),
            false => NotBegun::mark(error),
        }
    })?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// Refuses what is no file.
fn check(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let name = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name}, where a file belongs")))
}
