//! The lock of a directory, held twice through one descriptor: by `flock`, and by a POSIX lock.
//!
//! A running Kafka holds only the POSIX one (`FileChannel.tryLock`), other programs see only the
//! other. A POSIX lock belongs to the process and is gone when the process closes *any*
//! descriptor of the file, so the file is opened once, and a register of the files that this
//! process has locked refuses a second lock before it opens anything. Network file systems that
//! turn one lock into the other refuse the pair; they are not supported.

use super::super::planted::{Planted, planted};
use super::super::{HeldElsewhere, Lock};
use super::descriptors::Identity;
use crate::sync::{Mutex, OnceLock};
use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The lock files that this process holds, by whatever path.
fn held() -> &'static Mutex<HashSet<Identity>> {
    static HELD: OnceLock<Mutex<HashSet<Identity>>> = OnceLock::new();
    HELD.get_or_init(Mutex::default)
}

/// Takes the lock file at `path`, making it if it is missing.
pub(super) fn take(path: &Path) -> io::Result<Box<dyn Lock>> {
    // Held to the end: between the look at the register and the entry in it, nobody else of this
    // process may open the file, because closing it again would free the lock.
    let mut held = held().lock();
    match std::fs::metadata(path) {
        Ok(metadata) if held.contains(&Identity::of(&metadata)) => {
            return Err(HeldElsewhere::refuse(Some(std::process::id())));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let identity = Identity::of(&file.metadata()?);
    if held.contains(&identity) {
        // The file was put there since the look above, by a hand other than ours. Closing the
        // descriptor would free the lock that this process holds, so it stays open for good.
        std::mem::forget(file);
        return Err(HeldElsewhere::refuse(Some(std::process::id())));
    }
    if !planted(Planted::LockNotHeld) {
        lock_both(&file)?;
    }
    write_owner(&file)?;
    held.insert(identity);
    Ok(Box::new(Held { file: Some(file), identity }))
}

fn lock_both(file: &File) -> io::Result<()> {
    match fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::ACCESS | Errno::AGAIN) => return Err(HeldElsewhere::refuse(owner(file))),
        Err(error) => return Err(error.into()),
    }
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        // Held by a program that takes this lock only, which nobody can name.
        Err(Errno::WOULDBLOCK) => Err(HeldElsewhere::refuse(owner(file))),
        Err(error) => Err(error.into()),
    }
}

/// The process that holds the POSIX lock. What the file says is not asked: it may be the number
/// of a process that is long gone.
fn owner(file: &File) -> Option<u32> {
    let found = fcntl_getlk(file, &Flock::from(FlockType::WriteLock)).ok()??;
    // A holder in another pid namespace has no number here.
    u32::try_from(found.pid?.as_raw_nonzero().get()).ok()
}

/// Leaves this process's number in the file, for people. Kafka never reads the file.
fn write_owner(file: &File) -> io::Result<()> {
    let text = format!("{}\n", std::process::id());
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

/// Whether this process holds `path` as a lock file: then nobody else may open and close it.
pub(super) fn is_held(path: &Path) -> bool {
    let held = held().lock();
    !held.is_empty()
        && std::fs::metadata(path).is_ok_and(|metadata| held.contains(&Identity::of(&metadata)))
}

/// Both locks; dropping it frees them.
#[derive(Debug)]
struct Held {
    /// Always there until the drop.
    file: Option<File>,
    identity: Identity,
}

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = held().lock();
        if let Some(file) = self.file.take() {
            // The descriptor may live on in a forked child, so closing it would not be enough.
            // There is nobody to tell of an error, and closing frees both locks in any other case.
            flock(&file, FlockOperation::NonBlockingUnlock).ok();
            fcntl_lock(&file, FlockOperation::NonBlockingUnlock).ok();
            // Closed before the register lets another thread take the lock: a later close would
            // free that one.
            drop(file);
        }
        held.remove(&self.identity);
    }
}
