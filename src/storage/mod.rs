//! The only door to the disk: names, bytes, and what makes either of them durable.
//!
//! [`Storage`] names files, [`File`] holds bytes, [`Region`] is the mapped memory that the hot
//! path writes and reads without a virtual call. Implementations: [`Fs`] (real files), [`Heap`]
//! (memory), `Sim` (memory that yields crash images) and `Fault` (any of them, failing on
//! demand); the last two come with feature `testing`.
//! Every change of a name is volatile until [`Storage::sync_dir`], every byte until
//! [`File::sync_data`]. Nothing here knows what a log is.

mod ahead;
#[cfg(test)]
mod conformance;
#[cfg(any(test, feature = "testing"))]
pub mod faults;
mod fs;
#[cfg(all(target_os = "linux", not(any(loom, miri))))]
mod guard;
#[cfg(not(all(target_os = "linux", not(any(loom, miri)))))]
#[path = "unguarded.rs"]
mod guard;
mod heap;
mod names;
pub(crate) mod owned;
pub mod planted;
pub mod region;
mod scratch;
#[cfg(any(test, feature = "testing"))]
pub mod sim;
pub(crate) mod sync_latch;

pub use crate::error::LockLost;
pub use ahead::{fetch_ahead, fetch_ahead_into};
pub(crate) use ahead::{fetch_part, fetch_value};
#[cfg(any(test, feature = "testing"))]
pub use faults::Fault;
pub use fs::Fs;
pub use heap::Heap;
pub use region::{Region, RegionWriter};
pub(crate) use scratch::ScratchMemory;
#[cfg(any(test, feature = "testing"))]
pub use sim::Sim;

use crate::sync::Arc;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The file name without its directory. Bytes that are not UTF-8 are replaced: no file of
    /// Kafka's or of this crate has such a name.
    pub name: String,
    /// Whether it is a directory. Symbolic links are followed.
    pub is_dir: bool,
    /// Whether the name itself is a symbolic link. One that leads nowhere is told as a link, of
    /// length 0, that is no directory.
    pub is_link: bool,
    /// Whether it is neither a file nor a directory: a FIFO, a socket, a device. Links are
    /// followed.
    pub is_special: bool,
    /// Size in bytes; 0 for a directory.
    pub len: u64,
    /// Bytes that the disk holds for it; 0 for a directory. In memory, its size.
    pub allocated: u64,
    /// When it was last modified, in milliseconds since 1970.
    pub modified_ms: i64,
}

/// What a file, or a directory, is known by: two that are equal are of one and the same, and nobody
/// changed its bytes, its length, its names or, of a directory, its entries in between. Where the
/// clock of a file system goes by ticks, that holds of changes in later ticks than the first look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    /// Whether it is a directory; else it is a file.
    pub is_dir: bool,
    /// Size in bytes; 0 for a directory.
    pub len: u64,
    /// Its number in its file system.
    pub inode: u64,
    /// When anything of it last changed, in nanoseconds since 1970. The file system keeps it, and
    /// nobody can set it.
    pub changed_ns: i64,
}

/// Names of files and directories, and the durability of names.
///
/// Paths are given in full by the caller. Calls that were interrupted by a signal are repeated
/// inside; a full disk is [`io::ErrorKind::StorageFull`] and leaves the file as it was.
///
/// Symbolic links are followed where something is read, and never where something is written, cut
/// or removed: [`Storage::create_cold`], [`Storage::rename`] and [`Storage::remove`] act on the
/// link itself, the others refuse it. What is neither a file nor a directory is refused at once.
pub trait Storage: Send + Sync + fmt::Debug + 'static {
    /// Makes a new file for appending: maps `map_bytes` once and allocates `first_bytes` of
    /// zeros. The mapping never moves, and [`File::allocate`] makes more of it usable.
    ///
    /// # Errors
    /// `AlreadyExists` if there is such a file, `StorageFull` if the first bytes do not fit (the
    /// file is removed again), `InvalidInput` if `first_bytes` exceeds `map_bytes`.
    fn create(&self, path: &Path, map_bytes: u64, first_bytes: u64) -> io::Result<Arc<dyn File>>;

    /// Makes a small file, or empties the one that is there, to be written with
    /// [`File::write_at`]. A link in its place is replaced, and so is a file that has a second
    /// name.
    ///
    /// # Errors
    /// Those of the operating system.
    fn create_cold(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens a small file to go on writing it with [`File::write_at`].
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, and those of the operating system.
    fn open_cold(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens a file for reading. [`File::region`] maps the length it has at the first call.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, and those of the operating system.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens a file to go on appending: maps `map_bytes`, or its length where that is more, and
    /// nothing where both are 0.
    /// All bytes of the file count as prepared and none as published: recovery decides, with
    /// [`RegionWriter::publish`], how many of them readers may see. A file has one such handle at
    /// a time: two mappings know nothing of each other's borders, so that bytes which readers of
    /// the one hold could be changed or cut through the other.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, and those of the operating system.
    fn open_append(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn File>>;

    /// The entries of a directory, sorted by name.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, and those of the operating system.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// What stands at `path`.
    ///
    /// # Errors
    /// `NotFound`, and those of the operating system.
    fn metadata(&self, path: &Path) -> io::Result<DirEntry>;

    /// What the file or the directory at `path` is known by. `None` for a symbolic link, for what
    /// is neither, for what is not there, and where the storage cannot tell.
    fn identity(&self, path: &Path) -> Option<FileIdentity> {
        let _ = path;
        None
    }

    /// Makes one directory; its parent must be there.
    ///
    /// # Errors
    /// `AlreadyExists`, `NotFound` for the parent, and those of the operating system.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `DirectoryNotEmpty`, `NotFound`, and those of the operating system.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Renames a file or a directory; a file in the way is replaced. Open files follow.
    ///
    /// # Errors
    /// `NotFound`, `DirectoryNotEmpty`, and those of the operating system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Mappings of it stay valid, and its space returns with the last of them.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, and those of the operating system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes every creation, renaming and removal in `dir` so far durable.
    ///
    /// # Errors
    /// Those of the operating system.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Has all that was written around `dir` on its way to the disk at once, before many files are
    /// synced one by one. Only a matter of speed: nothing counts as durable by it, and each sync
    /// tells its own errors afterwards.
    fn write_back(&self, dir: &Path) {
        let _ = dir;
    }

    /// Takes the lock file at `path`, for as long as the returned value lives.
    ///
    /// # Errors
    /// `WouldBlock` with a [`HeldElsewhere`] inside when another process, or another handle of
    /// this one, has it; those of the operating system otherwise.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;

    /// The boot of the machine that this storage lives on. Empty when it is unknown, which equals
    /// nothing.
    fn boot_id(&self) -> String;

    /// The mount of the file system that `dir` lies on, by a name that no other mount of the same
    /// boot has, had or gets: within a boot, equal strings mean that the page cache of `dir`
    /// survived in between. Empty when it is unknown, which equals nothing.
    fn mount_id(&self, dir: &Path) -> String {
        let _ = dir;
        String::new()
    }

    /// `dir` by a path that leads to the same directory whatever becomes of the working directory
    /// and of links on the way.
    ///
    /// # Errors
    /// Those of the operating system; that there is no such directory is none.
    fn absolute(&self, dir: &Path) -> io::Result<PathBuf> {
        Ok(dir.to_owned())
    }

    /// How many bytes this process may still allocate around `path`.
    ///
    /// # Errors
    /// Those of the operating system.
    fn disk_free(&self, path: &Path) -> io::Result<u64>;

    /// Whether something stands at `path`.
    ///
    /// # Errors
    /// Those of the operating system, except `NotFound`.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes `dir` and those of its parents that are missing, each durably in its own parent.
    ///
    /// # Errors
    /// Those of the operating system.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.as_os_str().is_empty() || self.exists(dir)? {
            return Ok(());
        }
        let parent = dir.parent().unwrap_or(Path::new(""));
        self.create_dir_all(parent)?;
        match self.create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
            }
        }
    }

    /// All bytes of the file at `path`, which must not be longer than `bytes_max`.
    ///
    /// # Errors
    /// `FileTooLarge`, `NotFound`, and those of the operating system.
    fn read_file(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let len = file.len()?;
        if len > bytes_max {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{} has {len} bytes, more than {bytes_max}", path.display()),
            ));
        }
        let mut bytes = vec![0; to_usize(len)?];
        file.read_exact_at(0, &mut bytes)?;
        Ok(bytes)
    }
}

/// Bytes of one file, and the durability of bytes.
///
/// A file that is mapped for appending has its bytes written through [`Region::writer`]; other
/// files have theirs written by [`File::write_at`].
#[allow(clippy::len_without_is_empty)] // A length that needs a system call is not a collection's.
pub trait File: Send + Sync + fmt::Debug {
    /// The mapping. A file from [`Storage::open`] is mapped whole, read-only and published, at
    /// the first call; one from [`Storage::create`] or [`Storage::open_append`] was mapped then.
    ///
    /// # Errors
    /// Those of the operating system, at the first call.
    fn region(&self) -> io::Result<&Region>;

    /// Length in bytes as the file system has it: prepared bytes count.
    ///
    /// # Errors
    /// Those of the operating system.
    fn len(&self) -> io::Result<u64>;

    /// Reads up to `out.len()` bytes from position `at`; 0 means the end of the file. May read
    /// fewer than asked for. Never goes through the mapping, so a bad sector is an error value.
    ///
    /// In memory, bytes above the published border of a region that has a writer read as zeros.
    ///
    /// # Errors
    /// Those of the operating system.
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize>;

    /// Fills `out` from position `at`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before, and those of the operating system.
    fn read_exact_at(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < out.len() {
            match self.read_at(at + done as u64, &mut out[done..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes `bytes` at position `at`, growing the file where needed. For files that are not
    /// mapped.
    ///
    /// # Errors
    /// `InvalidInput` if the file is mapped, `PermissionDenied` if it was opened for reading, and
    /// those of the operating system. After an error any part may have been written.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Grows the file to `len` bytes, backed by real blocks and read as zeros, and moves the
    /// prepared border of the region there. A shorter `len` changes nothing.
    ///
    /// # Errors
    /// `StorageFull`, with the file as it was; `InvalidInput` beyond the mapping;
    /// `PermissionDenied` if the file was opened for reading.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// `InvalidInput` if it would grow or lose published bytes, `ResourceBusy` while the region
    /// has a writer, `PermissionDenied` if the file was opened for reading, and those of the
    /// operating system.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes all bytes written before the call, and the length, durable.
    ///
    /// # Errors
    /// Those of the operating system. A failure is final: what was not durable before may be
    /// lost, and a second call that succeeds proves nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// Has the operating system begin to write a range to the disk, so that a sync finds it done.
    /// Nothing is durable by that, and nothing is told of what becomes of it. The range was
    /// written by [`File::write_at`].
    fn begin_write_back(&self, _at: u64, _len: u64) {}

    /// Why a store into the mapping at `at`, above the published border, did not get to the
    /// file, as [`RegionWriter::has_failed`] told.
    fn store_error(&self, _at: u64) -> io::Error {
        io::Error::other("a store into mapped memory failed")
    }

    /// Grows the file as [`File::allocate`] does, with the new bytes in memory, written as zeros,
    /// so that the writer's first stores to them find their pages. A file that has fewer than
    /// `len` bytes grows to `reserve` of them at once, where the storage can; the prepared border
    /// moves to `len` all the same.
    ///
    /// # Errors
    /// Those of [`File::allocate`], with the prepared border where it was.
    fn prepare(&self, len: u64, reserve: u64) -> io::Result<()>;

    /// Counts all unsynced bytes as clean without writing them, as Linux does when a sync fails:
    /// they stay readable until the power goes. Only the simulator can do that.
    #[doc(hidden)]
    fn lose_unsynced(&self) {}
}

/// A file that is shorter than what was written to it: another program cut it. The payload of the
/// `UnexpectedEof` errors of [`File::allocate`] and [`File::sync_data`], which are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutByAnother {
    /// Its length in bytes.
    pub len: u64,
}

impl CutByAnother {
    /// Whether `error` says so.
    pub fn is_in(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<CutByAnother>())
    }
}

impl fmt::Display for CutByAnother {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the file has only {} bytes: another program cut it", self.len)
    }
}

impl std::error::Error for CutByAnother {}

/// A call that was refused before it began, because the process or the machine had no descriptor,
/// or no memory, left for it: nothing is different, and the same call may succeed later. The
/// payload of such an error.
#[derive(Debug)]
pub struct NotBegun(io::Error);

impl NotBegun {
    /// Whether `error`, or a cause of it, says so.
    pub fn caused(error: &crate::error::Error) -> bool {
        let refused = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<io::Error>().is_some_and(NotBegun::is_in)
        };
        error.causes().any(refused)
    }

    /// Whether `error` says so.
    pub fn is_in(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<NotBegun>())
    }

    /// Marks the error of a call that opens or maps a file, if it is one of these.
    fn mark(error: io::Error) -> io::Error {
        use rustix::io::Errno;
        match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
                io::Error::new(error.kind(), NotBegun(error))
            }
            _ => error,
        }
    }
}

impl fmt::Display for NotBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; close some files, or raise the limit, and call again", self.0)
    }
}

impl std::error::Error for NotBegun {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// A lock that is held until it is dropped.
pub trait Lock: Send + Sync + fmt::Debug {
    /// Whether the lock file can be taken away under its holder, so that [`Lock::check`] has to be
    /// asked now and then.
    fn can_be_lost(&self) -> bool {
        false
    }

    /// Looks whether the lock file is still the one that was locked.
    ///
    /// # Errors
    /// `ResourceBusy` with a [`LockLost`] inside when it was removed, or
    /// another file has its name. One that cannot be looked at counts as still there.
    fn check(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The reason why a lock was refused: the payload of the `WouldBlock` error of [`Storage::lock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldElsewhere {
    /// The process that holds the lock, where the operating system tells.
    pub pid: Option<u32>,
}

impl HeldElsewhere {
    /// The reason inside `error`, if it is a refused lock.
    pub fn of(error: &io::Error) -> Option<HeldElsewhere> {
        error.get_ref()?.downcast_ref::<HeldElsewhere>().copied()
    }

    fn refuse(pid: Option<u32>) -> io::Error {
        io::Error::new(io::ErrorKind::WouldBlock, HeldElsewhere { pid })
    }
}

impl fmt::Display for HeldElsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) if pid == std::process::id() => {
                write!(f, "held by another handle of this process ({pid})")
            }
            Some(pid) => write!(f, "held by process {pid}"),
            None => f.write_str("held by another process"),
        }
    }
}

impl std::error::Error for HeldElsewhere {}

/// The purpose of a file's handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Append,
    Cold,
    Read,
}

/// A size in bytes as an index into memory.
fn to_usize(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| invalid("more bytes than this machine can address"))
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn busy() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "the region has a writer: drop it first")
}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the file was opened for reading")
}
