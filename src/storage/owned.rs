//! The storage of a directory's owner: once the lock is not ours, nothing is changed any more.
//!
//! Every change of a name, and every write that is not a store into mapped memory, asks the lock
//! first. So a lock file that was taken away ends the owner's work on files before another owner's
//! are harmed. Stores into memory ask nobody: the broker looks at the lock at intervals.

use super::{DirEntry, File, FileIdentity, Lock, LockLost, Region, Storage};
use crate::sync::{Arc, Mutex};
use std::io;
use std::path::{Path, PathBuf};

/// The lock of a directory for as long as it is held; what it guards asks it.
#[derive(Debug)]
pub(crate) struct DirectoryLock(Mutex<Option<Box<dyn Lock>>>);

impl DirectoryLock {
    pub fn new(lock: Box<dyn Lock>) -> DirectoryLock {
        DirectoryLock(Mutex::new(Some(lock)))
    }

    /// Whether there is a point in asking now and then.
    pub fn can_be_lost(&self) -> bool {
        self.0.lock().as_ref().is_some_and(|lock| lock.can_be_lost())
    }

    /// Looks whether the directory is ours.
    ///
    /// # Errors
    /// Those of [`Lock::check`]; the same once the lock was given back.
    pub fn check(&self) -> io::Result<()> {
        self.0.lock().as_ref().map_or_else(|| Err(LockLost::refuse()), |lock| lock.check())
    }

    /// Gives the lock back.
    pub fn release(&self) {
        let held = self.0.lock().take();
        drop(held); // Outside of our own lock.
    }
}

/// The storage of one directory, which asks its lock before each change.
#[derive(Debug)]
pub(crate) struct Owned {
    inner: Arc<dyn Storage>,
    lock: Arc<DirectoryLock>,
}

impl Owned {
    pub fn new(inner: Arc<dyn Storage>, lock: Arc<DirectoryLock>) -> Owned {
        Owned { inner, lock }
    }

    fn guard(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(OwnedFile { inner: file, lock: self.lock.clone() })
    }
}

impl Storage for Owned {
    fn create(&self, path: &Path, map_bytes: u64, first_bytes: u64) -> io::Result<Arc<dyn File>> {
        self.lock.check()?;
        Ok(self.guard(self.inner.create(path, map_bytes, first_bytes)?))
    }

    fn create_cold(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.lock.check()?;
        Ok(self.guard(self.inner.create_cold(path)?))
    }

    fn open_cold(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.lock.check()?;
        Ok(self.guard(self.inner.open_cold(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.inner.open(path)
    }

    fn open_append(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn File>> {
        self.lock.check()?;
        Ok(self.guard(self.inner.open_append(path, map_bytes)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<DirEntry> {
        self.inner.metadata(path)
    }

    fn identity(&self, path: &Path) -> Option<FileIdentity> {
        self.inner.identity(path)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.lock.check()?;
        self.inner.create_dir(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.lock.check()?;
        self.inner.remove_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.lock.check()?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.lock.check()?;
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn write_back(&self, dir: &Path) {
        self.inner.write_back(dir);
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.inner.lock(path)
    }

    fn boot_id(&self) -> String {
        self.inner.boot_id()
    }

    fn mount_id(&self, dir: &Path) -> String {
        self.inner.mount_id(dir)
    }

    fn absolute(&self, dir: &Path) -> io::Result<PathBuf> {
        self.inner.absolute(dir)
    }

    fn disk_free(&self, path: &Path) -> io::Result<u64> {
        self.inner.disk_free(path)
    }
}

/// A file that was opened to be written.
#[derive(Debug)]
struct OwnedFile {
    inner: Arc<dyn File>,
    lock: Arc<DirectoryLock>,
}

impl File for OwnedFile {
    fn region(&self) -> io::Result<&Region> {
        self.inner.region()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(at, out)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.lock.check()?;
        self.inner.write_at(at, bytes)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.lock.check()?;
        self.inner.allocate(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.lock.check()?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn begin_write_back(&self, at: u64, len: u64) {
        self.inner.begin_write_back(at, len);
    }

    fn store_error(&self, at: u64) -> io::Error {
        self.lock.check().err().unwrap_or_else(|| self.inner.store_error(at))
    }

    fn prepare(&self, len: u64, reserve: u64) -> io::Result<()> {
        self.lock.check()?;
        self.inner.prepare(len, reserve)
    }

    fn lose_unsynced(&self) {
        self.inner.lose_unsynced();
    }
}
