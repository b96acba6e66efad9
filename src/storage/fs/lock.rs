//! The lock of a directory, held twice through one descriptor: by `flock`, and by a lock of the
//! open file description (`F_OFD_SETLK`).
//!
//! A running Kafka holds a POSIX lock (`FileChannel.tryLock`), which excludes the second of ours
//! and is excluded by it; other programs see only the first. A lock of the description is dropped
//! by nobody else's `close`, as a POSIX lock is by every `close` of the file in the process. Where
//! a system has no such locks (others than Linux on 64 bits) a POSIX lock stands in for it, and a
//! register of the files that this process has locked refuses a second one before it opens
//! anything. Network file systems that turn one lock into the other refuse the pair; they are not
//! supported.

use super::super::planted::{Planted, planted};
use super::super::{HeldElsewhere, Lock, LockLost};
use super::descriptors::Identity;
use super::open;
use crate::sync::{Mutex, OnceLock};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How often a file that was replaced while it was being locked is looked up again.
const REPLACED_MAX: usize = 16;

/// The lock files that this process holds, by whatever path.
fn held() -> &'static Mutex<HashSet<Identity>> {
    static HELD: OnceLock<Mutex<HashSet<Identity>>> = OnceLock::new();
    HELD.get_or_init(Mutex::default)
}

/// Takes the lock file at `path`, making it if it is missing. A link in its place is refused.
pub(super) fn take(path: &Path) -> io::Result<Box<dyn Lock>> {
    // Held to the end: between the look at the register and the entry in it, nobody else of this
    // process may open the file, because closing it again would free a POSIX lock.
    let mut held = held().lock();
    for _ in 0..REPLACED_MAX {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if held.contains(&Identity::of(&metadata)) => {
                return Err(HeldElsewhere::refuse(Some(std::process::id())));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = open::to_lock(path)?;
        let identity = Identity::of(&file.metadata()?);
        if held.contains(&identity) {
            // The file was put there since the look above, by a hand other than ours. Closing the
            // descriptor would free a POSIX lock that this process holds, so it stays open for
            // good.
            std::mem::forget(file);
            return Err(HeldElsewhere::refuse(Some(std::process::id())));
        }
        if !planted(Planted::LockNotHeld) {
            lock_both(&file)?;
        }
        let lock = Held { path: std::path::absolute(path)?, file: Some(file), identity };
        // Its name may have been given to another file before it was locked.
        let written = lock.check().is_ok().then(|| lock.write_owner());
        match written {
            Some(Ok(())) => {
                held.insert(identity);
                return Ok(Box::new(lock));
            }
            Some(Err(error)) => {
                lock.free();
                return Err(error);
            }
            None => lock.free(),
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the lock file is replaced all the time"))
}

fn lock_both(file: &File) -> io::Result<()> {
    match range::lock(file) {
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

/// The process that holds the lock, if anybody can tell.
fn owner(file: &File) -> Option<u32> {
    match range::holder(file)? {
        range::Holder::Process(pid) => Some(pid),
        range::Holder::Description => written_owner(file),
    }
}

/// The process that wrote its number into the file, if it is the one that holds it: what the file
/// says may be the number of a process that is long gone.
fn written_owner(file: &File) -> Option<u32> {
    let mut text = [0; 16];
    let len = file.read_at(&mut text, 0).ok()?;
    let pid: u32 = std::str::from_utf8(text.get(..len)?).ok()?.trim().parse().ok()?;
    let inode = file.metadata().ok()?.ino().to_string();
    // One lock a line: number, kind, advisory, mode, process, device:inode, range.
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let holds = locks.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ends_in_inode = |place: &&str| place.rsplit(':').next() == Some(&*inode);
        words.get(1) == Some(&"FLOCK")
            && words.get(4) == Some(&&*pid.to_string())
            && words.get(5).is_some_and(ends_in_inode)
    });
    holds.then_some(pid)
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
    path: PathBuf,
    /// Always there until it is freed.
    file: Option<File>,
    identity: Identity,
}

impl Held {
    /// Leaves this process's number in the file, for people and for who is refused. Kafka never
    /// reads the file. One that has a second name stays as it is.
    fn write_owner(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if file.metadata()?.nlink() > 1 {
            return Ok(());
        }
        let text = format!("{}\n", std::process::id());
        super::check_size_limit(text.len() as u64)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)
    }

    /// Gives up a file that was never entered into the register, which the caller has locked.
    fn free(mut self) {
        self.unlock();
    }

    fn unlock(&mut self) {
        if let Some(file) = self.file.take() {
            // The descriptor may live on in a forked child, so closing it would not be enough.
            // There is nobody to tell of an error, and closing frees both locks in any other case.
            flock(&file, FlockOperation::NonBlockingUnlock).ok();
            range::unlock(&file).ok();
        }
    }
}

impl Lock for Held {
    fn can_be_lost(&self) -> bool {
        true
    }

    fn check(&self) -> io::Result<()> {
        use io::ErrorKind::{NotADirectory, NotFound};
        // As long as the descriptor is open nobody else gets the number of the inode.
        match std::fs::symlink_metadata(&self.path) {
            Ok(found) if Identity::of(&found) == self.identity => Ok(()),
            Err(error) if !matches!(error.kind(), NotFound | NotADirectory) => Ok(()),
            _ => Err(LockLost::refuse()),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.file.is_none() {
            return;
        }
        let mut held = held().lock();
        // Closed before the register lets another thread take the lock: a later close would free
        // that one, where it is a POSIX lock.
        self.unlock();
        held.remove(&self.identity);
    }
}

/// The lock on all bytes of the file that POSIX locks exclude.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod range {
    use nix::errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;
    use rustix::io::Errno;
    use std::fs::File;

    /// The holder of a lock.
    pub enum Holder {
        Process(u32),
        /// An open file description, which belongs to no process in particular.
        Description,
    }

    fn whole_file(kind: libc::c_int) -> libc::flock {
        // The constants are the kernel's small numbers; their types are C's, not the field's.
        let [l_type, l_whence] = [kind, libc::SEEK_SET].map(|small| small as libc::c_short);
        libc::flock { l_type, l_whence, l_start: 0, l_len: 0, l_pid: 0 }
    }

    fn set(file: &File, kind: libc::c_int) -> Result<(), Errno> {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file(kind))) {
            Ok(_) => Ok(()),
            Err(error) => Err(Errno::from_raw_os_error(error as i32)),
        }
    }

    pub fn lock(file: &File) -> Result<(), Errno> {
        set(file, libc::F_WRLCK)
    }

    pub fn unlock(file: &File) -> Result<(), Errno> {
        set(file, libc::F_UNLCK)
    }

    pub fn holder(file: &File) -> Option<Holder> {
        let mut found = whole_file(libc::F_WRLCK);
        let asked: Result<_, errno::Errno> = fcntl(file, FcntlArg::F_OFD_GETLK(&mut found));
        asked.ok()?;
        if libc::c_int::from(found.l_type) == libc::F_UNLCK {
            return None;
        }
        match u32::try_from(found.l_pid) {
            // A holder in another pid namespace has no number here.
            Ok(0) => None,
            Ok(pid) => Some(Holder::Process(pid)),
            Err(_) => Some(Holder::Description),
        }
    }
}

/// A POSIX lock stands in for it.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
mod range {
    use rustix::fs::{FlockOperation, fcntl_lock};
    use rustix::io::Errno;
    use rustix::process::{Flock, FlockType, fcntl_getlk};
    use std::fs::File;

    /// The holder of a lock.
    #[allow(dead_code)] // Locks of descriptions are other programs'.
    pub enum Holder {
        Process(u32),
        Description,
    }

    pub fn lock(file: &File) -> Result<(), Errno> {
        fcntl_lock(file, FlockOperation::NonBlockingLockExclusive)
    }

    pub fn unlock(file: &File) -> Result<(), Errno> {
        fcntl_lock(file, FlockOperation::NonBlockingUnlock)
    }

    pub fn holder(file: &File) -> Option<Holder> {
        let found = fcntl_getlk(file, &Flock::from(FlockType::WriteLock)).ok()??;
        u32::try_from(found.pid?.as_raw_nonzero().get()).ok().map(Holder::Process)
    }
}
