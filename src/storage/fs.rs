//! Real files: mapped for appending, read by `pread`, synced by `fdatasync`.
//!
//! Blocks are allocated before the memory above them may be touched, so a full disk is an error
//! value and never a signal; what that does not cover, `guard` turns into one. Descriptors are
//! closed once a file is mapped; a bounded cache holds those that syncs and reads need. Renames
//! done through the same [`Fs`] are followed.

mod descriptors;
mod lock;
mod open;
mod pages;
mod place;
#[cfg(test)]
#[allow(clippy::disallowed_methods)] // Other hands than the storage's.
mod tests;

use super::planted::{Planted, planted};
use super::region::{Counted, Region};
use super::{
    CutByAnother, DirEntry, FileIdentity, Lock, Mode, NotBegun, Storage, invalid, read_only,
    to_usize,
};
use crate::sync::{
    Arc, AtomicBool, AtomicUsize, Mutex, OnceLock, Ordering, Rank, RwLock, Weak, ranked_lock,
    ranked_mutex,
};
use descriptors::{Descriptor, Descriptors, Identity};
use memmap2::MmapOptions;
use pages::PageFaults;
use rustix::fs::{
    Advice, FallocateFlags, IFlags, fadvise, fallocate, fstatfs, ioctl_getflags, ioctl_setflags,
};
use rustix::process::{Resource, getrlimit};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// How many descriptors stay open between uses. A broker syncs its active segments in turn, and
/// the usual limit of a process is 1,024 descriptors, which its host needs too.
const DESCRIPTORS_MAX: usize = 256;

/// A file system with less free than this is full where a store failed without another reason.
const FREE_BYTES_MIN: u64 = 1 << 20;

/// The storage of real files. Clones share their caches and counts.
///
/// # Examples
/// ```
/// use topiclite::storage::{Fs, Storage};
/// # let dir = tempfile::tempdir().unwrap();
/// let fs = Fs::new();
/// let file = fs.create(&dir.path().join("a.log"), 1 << 20, 4096).unwrap();
/// let mut writer = file.region().unwrap().writer().unwrap();
/// writer.write(0, b"hello");
/// writer.publish(5);
/// file.sync_data().unwrap();
/// fs.sync_dir(dir.path()).unwrap();
/// assert_eq!(fs.mappings(), 1);
/// ```
#[derive(Clone)]
pub struct Fs {
    shared: Arc<Shared>,
}

struct Shared {
    mappings: Arc<AtomicUsize>,
    descriptors: Descriptors,
    /// Every file that is open, so that renames reach it.
    open: Mutex<Vec<Weak<FsFile>>>,
    /// Held for writing while a name changes, so that a file is opened again by its right name.
    names: RwLock<()>,
    /// Faults in mappings are answered for.
    guarded: bool,
    faults: PageFaults,
}

impl Default for Fs {
    fn default() -> Fs {
        Fs::new()
    }
}

impl Fs {
    /// A storage with an empty cache of descriptors.
    pub fn new() -> Fs {
        Fs::with_descriptors_max(DESCRIPTORS_MAX)
    }

    /// A storage that keeps at most `descriptors_max` descriptors open between uses.
    pub fn with_descriptors_max(descriptors_max: usize) -> Fs {
        Fs::with(descriptors_max, true)
    }

    /// A storage that installs no handler of SIGBUS: where a mapped page cannot be had, the
    /// signal does what it does in the program otherwise, which is to end it.
    pub fn without_guard() -> Fs {
        Fs::with(DESCRIPTORS_MAX, false)
    }

    fn with(descriptors_max: usize, guarded: bool) -> Fs {
        Fs {
            shared: Arc::new(Shared {
                mappings: Arc::default(),
                descriptors: Descriptors::new(descriptors_max),
                open: Mutex::default(),
                names: ranked_lock(Rank::FileNames, ()),
                guarded,
                faults: PageFaults::default(),
            }),
        }
    }

    /// How many files are mapped. Linux allows a process 65,530 areas in all.
    pub fn mappings(&self) -> usize {
        self.shared.mappings.load(Ordering::Relaxed)
    }

    /// How many descriptors of files are open, those of locks aside.
    pub fn descriptors(&self) -> usize {
        self.shared.descriptors.count()
    }

    fn file(&self, path: &Path, file: fs::File, mode: Mode) -> io::Result<Arc<FsFile>> {
        let metadata = file.metadata()?;
        let identity = Identity::of(&metadata);
        let file = Arc::new(FsFile {
            shared: Arc::clone(&self.shared),
            place: Mutex::new(std::path::absolute(path)?),
            identity,
            mode,
            key: self.shared.descriptors.admit(file),
            region: OnceLock::new(),
            border: ranked_mutex(Rank::FileLength, ()),
            removed: AtomicBool::new(false),
        });
        let mut open = self.shared.open.lock();
        if open.len() == open.capacity() {
            open.retain(|file| file.strong_count() > 0);
        }
        open.push(Arc::downgrade(&file));
        Ok(file)
    }

    /// Maps `map_bytes` of `file`, of which `prepared` exist.
    fn map(&self, file: &FsFile, map_bytes: usize, prepared: usize) -> io::Result<Region> {
        if map_bytes == 0 {
            return Err(invalid("a mapping of no bytes"));
        }
        let descriptor = file.descriptor()?;
        let map =
            MmapOptions::new().len(map_bytes).map_raw(descriptor.file()).map_err(NotBegun::mark)?;
        let region = Region::mapped(map, prepared, Counted::new(&self.shared.mappings));
        Ok(file.guarded(region))
    }

    /// Runs `body` on each open file that lies at or below `path`.
    fn each_open(&self, path: &Path, body: impl Fn(&FsFile)) {
        let open: Vec<_> = self.shared.open.lock().iter().filter_map(Weak::upgrade).collect();
        for file in open {
            let hit = file.place.lock().starts_with(path);
            if hit {
                body(&file);
            }
        }
    }
}

impl Storage for Fs {
    #[allow(clippy::disallowed_methods)] // This is the door.
    fn create(
        &self,
        path: &Path,
        map_bytes: u64,
        first_bytes: u64,
    ) -> io::Result<Arc<dyn super::File>> {
        if first_bytes > map_bytes {
            return Err(invalid("more bytes to allocate than to map"));
        }
        let map_bytes = to_usize(map_bytes)?;
        let raw = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(NotBegun::mark)?;
        write_in_place(&raw);
        let made = allocate(&raw, 0, first_bytes).and_then(|()| {
            let file = self.file(path, raw, Mode::Append)?;
            let region = self.map(&file, map_bytes, to_usize(first_bytes)?)?;
            file.region.get_or_init(|| region);
            self.shared.descriptors.close(file.key);
            Ok(file)
        });
        match made {
            Ok(file) => Ok(file),
            Err(error) => {
                // The first error is the one to report; an empty file that stays behind is found
                // at the next start.
                fs::remove_file(path).ok();
                Err(error)
            }
        }
    }

    fn create_cold(&self, path: &Path) -> io::Result<Arc<dyn super::File>> {
        refuse_lock_file(path)?;
        Ok(self.file(path, open::to_empty(path)?, Mode::Cold)?)
    }

    fn open_cold(&self, path: &Path) -> io::Result<Arc<dyn super::File>> {
        refuse_lock_file(path)?;
        Ok(self.file(path, open::to_write(path)?, Mode::Cold)?)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn super::File>> {
        refuse_lock_file(path)?;
        Ok(self.file(path, open::to_read(path)?, Mode::Read)?)
    }

    fn open_append(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn super::File>> {
        refuse_lock_file(path)?;
        let raw = open::to_write(path)?;
        let len = to_usize(raw.metadata()?.len())?;
        let map_bytes = to_usize(map_bytes)?.max(len);
        let file = self.file(path, raw, Mode::Append)?;
        let region = match map_bytes {
            0 => Region::empty(),
            _ => self.map(&file, map_bytes, len)?,
        };
        file.region.get_or_init(|| region);
        self.shared.descriptors.close(file.key);
        Ok(file)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(NotBegun::mark)? {
            let entry = entry?;
            // What vanished since the directory was read is left out.
            match look(&entry.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                found => entries.push(found?),
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn metadata(&self, path: &Path) -> io::Result<DirEntry> {
        look(path)
    }

    fn identity(&self, path: &Path) -> Option<FileIdentity> {
        place::identity(path)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    #[allow(clippy::disallowed_methods)] // This is the door.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _names = self.shared.names.write();
        fs::rename(from, to)?;
        let (from, to) = (&std::path::absolute(from)?, &std::path::absolute(to)?);
        self.each_open(from, |file| {
            let mut place = file.place.lock();
            let moved = match place.strip_prefix(from) {
                Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
                Ok(rest) => to.join(rest),
                Err(_) => return,
            };
            *place = moved;
        });
        Ok(())
    }

    #[allow(clippy::disallowed_methods)] // This is the door.
    fn remove(&self, path: &Path) -> io::Result<()> {
        // Where there is nothing, nobody has to wait for the names.
        fs::symlink_metadata(path)?;
        let _names = self.shared.names.write();
        fs::remove_file(path)?;
        self.each_open(&std::path::absolute(path)?, |file| {
            file.removed.store(true, Ordering::Release)
        });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if planted(Planted::NoDirectorySync) {
            return Ok(());
        }
        open::directory(dir)?.sync_all()
    }

    fn write_back(&self, dir: &Path) {
        #[cfg(target_os = "linux")]
        if let Ok(dir) = open::directory(dir) {
            // What fails is told by the syncs of the files: this marks no error of theirs as seen.
            rustix::fs::syncfs(dir).ok();
        }
        #[cfg(not(target_os = "linux"))]
        let _ = dir;
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        lock::take(path)
    }

    fn boot_id(&self) -> String {
        place::boot_id()
    }

    fn mount_id(&self, dir: &Path) -> String {
        place::mount_id(dir)
    }

    fn absolute(&self, dir: &Path) -> io::Result<PathBuf> {
        place::absolute(dir)
    }

    fn disk_free(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl fmt::Debug for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fs")
            .field("mappings", &self.mappings())
            .field("descriptors", &self.descriptors())
            .finish()
    }
}

/// What stands at `path`: the link itself where there is one, else as the file system has it.
fn look(path: &Path) -> io::Result<DirEntry> {
    let name = path.file_name().unwrap_or_default();
    let own = fs::symlink_metadata(path)?;
    if !own.is_symlink() {
        return Ok(describe(name, &own, false));
    }
    match fs::metadata(path) {
        Ok(target) => Ok(describe(name, &target, true)),
        // It leads nowhere, or nowhere that can be looked at.
        Err(_) => {
            Ok(DirEntry { len: 0, allocated: 0, is_special: false, ..describe(name, &own, true) })
        }
    }
}

/// The blocks of a file, which POSIX counts in units of 512 bytes.
fn allocated(metadata: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    metadata.blocks().saturating_mul(512)
}

fn describe(name: &std::ffi::OsStr, metadata: &fs::Metadata, is_link: bool) -> DirEntry {
    let modified_ms = match metadata.modified().map(|time| time.duration_since(UNIX_EPOCH)) {
        Ok(Ok(since)) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        // Before 1970, or unknown.
        _ => 0,
    };
    DirEntry {
        name: name.to_string_lossy().into_owned(),
        is_dir: metadata.is_dir(),
        is_link,
        is_special: !metadata.is_dir() && !metadata.is_file(),
        len: if metadata.is_dir() { 0 } else { metadata.len() },
        allocated: if metadata.is_dir() { 0 } else { allocated(metadata) },
        modified_ms,
    }
}

/// Opening and closing the lock file would free the lock (see `lock`).
fn refuse_lock_file(path: &Path) -> io::Result<()> {
    if path.file_name().is_some_and(|name| name == ".lock") && lock::is_held(path) {
        return Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "this process holds the file as its lock",
        ));
    }
    Ok(())
}

/// Gives the file blocks, and zeros to read, from `from` (its present length) to `to`. On an
/// error the file has its former length.
fn allocate(file: &fs::File, from: u64, to: u64) -> io::Result<()> {
    if to <= from {
        return Ok(());
    }
    if planted(Planted::SparseFile) {
        return file.set_len(to);
    }
    check_size_limit(to)?;
    let grown = loop {
        match fallocate(file, FallocateFlags::empty(), from, to - from) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                break pages::fill(file, from, to);
            }
            other => break other.map_err(io::Error::from),
        }
    };
    if grown.is_err() {
        // Best effort: blocks beyond the prepared border are harmless, and the first error is
        // the one to report.
        file.set_len(from).ok();
    }
    grown
}

/// Refuses a file of `len` bytes where the process may not have one so large: the operating
/// system would send SIGXFSZ, which ends the process, with its error.
pub(super) fn check_size_limit(len: u64) -> io::Result<()> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if len > limit => Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("files of this process may have {limit} bytes (RLIMIT_FSIZE, ulimit -f)"),
        )),
        _ => Ok(()),
    }
}

/// Has a copy-on-write file system write the blocks of an empty file in their place: else it needs
/// new ones for bytes that have some, and a full disk has none. btrfs alone knows the flag; there
/// the blocks have no checksums of the file system's then, but batches have their own.
fn write_in_place(file: &fs::File) {
    const BTRFS: u32 = 0x9123_683e;
    if fstatfs(file).is_ok_and(|stat| stat.f_type as u32 == BTRFS)
        && let Ok(flags) = ioctl_getflags(file)
    {
        // Without it a store may fail, which is answered for.
        ioctl_setflags(file, flags | IFlags::NOCOW).ok();
    }
}

struct FsFile {
    shared: Arc<Shared>,
    place: Mutex<PathBuf>,
    identity: Identity,
    mode: Mode,
    key: u64,
    region: OnceLock<Region>,
    /// Held while the length changes or the first mapping is made.
    border: Mutex<()>,
    removed: AtomicBool,
}

impl FsFile {
    fn guarded(&self, region: Region) -> Region {
        if !self.shared.guarded {
            return region;
        }
        let place = self.place.lock().clone();
        region.guarded(&place)
    }

    /// The file's length. Refuses a file that has fewer than `wanted` bytes, all of which were
    /// written to it.
    fn check_len(&self, file: &fs::File, wanted: usize) -> io::Result<u64> {
        let len = file.metadata()?.len();
        if len >= wanted as u64 {
            return Ok(len);
        }
        if let Some(region) = self.region.get() {
            // The rest of its last page reads as zeros without a fault.
            region.lose_from(len);
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, CutByAnother { len }))
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.mode == Mode::Read { Err(read_only()) } else { Ok(()) }
    }

    /// Has the operating system say why a byte at `at` cannot be stored.
    fn find_store_error(&self, at: u64) -> io::Result<()> {
        let descriptor = self.descriptor()?;
        let file = descriptor.file();
        self.check_len(file, self.region.get().map_or(0, Region::prepared))?;
        // A zero, where nothing is published: it is one already, or part of what is given up.
        file.write_all_at(&[0], at)?;
        // Some file systems take it although a mapped page needs a block that they do not have.
        let stat = rustix::fs::fstatvfs(file)?;
        if stat.f_bavail.saturating_mul(stat.f_frsize) < FREE_BYTES_MIN {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// A descriptor of this very file, from the cache or opened again.
    fn descriptor(&self) -> io::Result<Arc<Descriptor>> {
        if let Some(descriptor) = self.shared.descriptors.find(self.key) {
            return Ok(descriptor);
        }
        let _names = self.shared.names.read();
        let place = self.place.lock().clone();
        let file = match self.mode {
            Mode::Read => open::to_read(&place)?,
            Mode::Append | Mode::Cold => open::to_write(&place)?,
        };
        if Identity::of(&file.metadata()?) != self.identity {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{} is another file than the one that was opened", place.display()),
            ));
        }
        Ok(self.shared.descriptors.keep(self.key, file))
    }
}

impl super::File for FsFile {
    fn region(&self) -> io::Result<&Region> {
        if let Some(region) = self.region.get() {
            return Ok(region);
        }
        let _border = self.border.lock();
        let descriptor = self.descriptor()?;
        let len = to_usize(descriptor.file().metadata()?.len())?;
        let region = if len == 0 {
            Region::empty()
        } else {
            let map = MmapOptions::new()
                .len(len)
                .map_raw_read_only(descriptor.file())
                .map_err(NotBegun::mark)?;
            self.guarded(Region::mapped_read_only(map, Counted::new(&self.shared.mappings)))
        };
        self.shared.descriptors.close(self.key);
        Ok(self.region.get_or_init(|| region))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.descriptor()?.file().metadata()?.len())
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        let descriptor = self.descriptor()?;
        loop {
            match descriptor.file().read_at(out, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_writable()?;
        if self.region.get().is_some() {
            return Err(invalid("the file is mapped"));
        }
        check_size_limit(at.saturating_add(bytes.len() as u64))?;
        self.descriptor()?.file().write_all_at(bytes, at)
    }

    fn begin_write_back(&self, at: u64, len: u64) {
        // What is not on the disk yet cannot be given up: Linux begins to write it.
        if let (Ok(descriptor), Some(len)) = (self.descriptor(), NonZeroU64::new(len)) {
            fadvise(descriptor.file(), at, Some(len), Advice::DontNeed).ok();
        }
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let _border = self.border.lock();
        let descriptor = self.descriptor()?;
        match self.region.get() {
            Some(region) if self.mode == Mode::Append => {
                let prepared = to_usize(len)?;
                if prepared > region.capacity() {
                    return Err(invalid("beyond the mapping"));
                }
                // Growing one that was cut would make zeros of what was cut off.
                let present = self.check_len(descriptor.file(), region.prepared())?;
                allocate(descriptor.file(), present, len)?;
                region.set_prepared(prepared)
            }
            Some(_) => Err(invalid("the file is mapped for reading")),
            None => allocate(descriptor.file(), descriptor.file().metadata()?.len(), len),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let _border = self.border.lock();
        let descriptor = self.descriptor()?;
        if len > descriptor.file().metadata()?.len() {
            return Err(invalid("set_len only cuts"));
        }
        match self.region.get() {
            Some(region) => region.cut(to_usize(len)?, || descriptor.file().set_len(len)),
            None => descriptor.file().set_len(len),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        // A descriptor opened after a write-back error still reports that error, unless someone
        // saw it before: the mapping keeps the inode, and with it the error, in memory.
        match self.descriptor() {
            Ok(descriptor) => {
                descriptor.file().sync_data()?;
                match self.region.get() {
                    Some(region) if self.mode == Mode::Append => {
                        self.check_len(descriptor.file(), region.published()).map(drop)
                    }
                    _ => Ok(()),
                }
            }
            // A file without a name has nothing to make durable, and cannot be opened again.
            // Acquire: pairs with the Release in `remove`.
            Err(_) if self.removed.load(Ordering::Acquire) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn store_error(&self, at: u64) -> io::Error {
        self.find_store_error(at).err().unwrap_or_else(|| {
            io::Error::other("the page cannot be had, and the file system does not say why")
        })
    }

    fn prepare(&self, len: u64, reserve: u64) -> io::Result<()> {
        let Some(region) = self.region.get().filter(|_| self.mode == Mode::Append) else {
            return self.allocate(len);
        };
        if to_usize(reserve.max(len))? > region.capacity() {
            return Err(invalid("beyond the mapping"));
        }
        let _border = self.border.lock();
        let (from, to) = (region.prepared(), to_usize(len)?);
        if from >= to {
            return Ok(());
        }
        let descriptor = self.descriptor()?;
        let present = self.check_len(descriptor.file(), from)?;
        if present < len {
            allocate(descriptor.file(), present, reserve.max(len))?;
        }
        if !planted(Planted::SparseFile) {
            // A limit that was lowered since would end the process by a signal.
            check_size_limit(len)?;
            pages::fill(descriptor.file(), from as u64, len)?;
            self.shared.faults.spare(region, from..to)?;
        }
        region.set_prepared(to)
    }
}

impl Drop for FsFile {
    fn drop(&mut self) {
        self.shared.descriptors.close(self.key);
    }
}

impl fmt::Debug for FsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FsFile")
            .field("place", &*self.place.lock())
            .field("mode", &self.mode)
            .field("region", &self.region.get())
            .finish_non_exhaustive()
    }
}
