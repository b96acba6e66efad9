//! A storage that fails on demand, around any other.
//!
//! Every call is counted. A [`Rule`] says which call fails, how, and whether all that follow do
//! too. Writes into a region are no calls and cannot fail, as stores into memory cannot.

use super::{DirEntry, File, Lock, NotBegun, Region, Storage};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

macro_rules! calls {
    ($($name:ident)*) => {
        /// The kinds of calls of [`Storage`] and [`File`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[allow(missing_docs)] // They are named after the methods.
        pub enum Call { $($name,)* }

        impl Call {
            /// All of them.
            pub const ALL: &'static [Call] = &[$(Call::$name,)*];
        }
    };
}

calls! {
    Create CreateCold OpenCold Open OpenAppend List Metadata CreateDir RemoveDir Rename Remove
    SyncDir Lock DiskFree Region Len ReadAt WriteAt Allocate SetLen SyncData
}

impl Call {
    /// Those that change something on the disk. Taking a lock may make its file, and is
    /// left out.
    pub const CHANGES: &'static [Call] = &[
        Call::Create,
        Call::CreateCold,
        Call::OpenCold,
        Call::OpenAppend,
        Call::CreateDir,
        Call::RemoveDir,
        Call::Rename,
        Call::Remove,
        Call::SyncDir,
        Call::WriteAt,
        Call::Allocate,
        Call::SetLen,
        Call::SyncData,
    ];
}

/// The way in which a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// `EIO`. A sync has written nothing, and its pages stay dirty.
    Io,
    /// `EIO`; a sync has written nothing and marked its pages clean, as Linux does. On the
    /// simulated disk they are lost when the power goes, whatever later syncs answer.
    IoPagesLost,
    /// `ENOSPC`.
    Full,
    /// `EROFS`: the file system was mounted again, read-only. For calls that change something.
    ReadOnly,
    /// `ENODEV`: the device is gone.
    NoDevice,
    /// `ENXIO`: the device is gone, as another driver says it.
    NoDeviceOrAddress,
    /// `EMFILE`: the call could not begin.
    Descriptors,
    /// `EINTR`.
    Interrupted,
    /// A read returns half of what it could; a write writes half and then finds the disk full;
    /// any other call finds the disk full.
    Short,
    /// The process is dead: this call and all calls after it fail.
    Crash,
}

impl Failure {
    /// All of them.
    pub const ALL: &'static [Failure] = &[
        Failure::Io,
        Failure::IoPagesLost,
        Failure::Full,
        Failure::ReadOnly,
        Failure::NoDevice,
        Failure::NoDeviceOrAddress,
        Failure::Descriptors,
        Failure::Interrupted,
        Failure::Short,
        Failure::Crash,
    ];

    fn error(self) -> io::Error {
        // Numbers that Linux and macOS agree on.
        match self {
            Failure::Io | Failure::IoPagesLost => io::Error::from_raw_os_error(5),
            Failure::Full | Failure::Short => io::Error::from_raw_os_error(28),
            Failure::ReadOnly => io::Error::from_raw_os_error(30),
            Failure::NoDevice => io::Error::from_raw_os_error(19),
            Failure::NoDeviceOrAddress => io::Error::from_raw_os_error(6),
            Failure::Descriptors => NotBegun::mark(io::Error::from_raw_os_error(24)),
            Failure::Interrupted => io::Error::from_raw_os_error(4),
            Failure::Crash => io::Error::other("the process crashed, as planned"),
        }
    }
}

/// Which calls fail, and how.
///
/// # Examples
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
/// use topiclite::storage::faults::{Call, Failure, Rule};
/// use topiclite::storage::{Fault, Heap, Storage};
/// let fault = Fault::new(Arc::new(Heap::new()));
/// fault.fail(Rule::nth(1, Failure::Full).of(&[Call::WriteAt]));
/// let file = fault.create_cold(Path::new("/a")).unwrap();
/// file.write_at(0, b"first").unwrap();
/// assert_eq!(file.write_at(5, b"second").unwrap_err().kind(), std::io::ErrorKind::StorageFull);
/// file.write_at(5, b"third").unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Rule {
    calls: Option<Vec<Call>>,
    path: Option<String>,
    skip: u64,
    failure: Failure,
    sticky: bool,
    fired: bool,
}

impl Rule {
    /// Fails call number `nth`, counted from 0 when the rule is given, among those it is about.
    pub fn nth(nth: u64, failure: Failure) -> Rule {
        let sticky = failure == Failure::Crash;
        Rule { calls: None, path: None, skip: nth, failure, sticky, fired: false }
    }

    /// Restricts the rule to some kinds of calls.
    pub fn of(mut self, calls: &[Call]) -> Rule {
        self.calls = Some(calls.to_vec());
        self
    }

    /// Restricts the rule to paths that contain `part`.
    pub fn on(mut self, part: &str) -> Rule {
        self.path = Some(part.to_owned());
        self
    }

    /// Fails all calls that follow, too.
    pub fn sticky(mut self) -> Rule {
        self.sticky = true;
        self
    }

    fn is_about(&self, call: Call, path: &Path) -> bool {
        self.calls.as_ref().is_none_or(|calls| calls.contains(&call))
            && self.path.as_ref().is_none_or(|part| path.to_string_lossy().contains(part))
    }
}

/// A storage that fails as its rules say. Clones share rules and counts.
#[derive(Clone)]
pub struct Fault {
    inner: Arc<dyn Storage>,
    plan: Arc<Plan>,
}

#[derive(Default)]
struct Plan {
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<(Call, PathBuf)>>,
    fired: AtomicBool,
    crashed: AtomicBool,
}

impl Fault {
    /// `inner`, without any rule.
    pub fn new(inner: Arc<dyn Storage>) -> Fault {
        Fault { inner, plan: Arc::default() }
    }

    /// Adds a rule; it counts from here.
    pub fn fail(&self, rule: Rule) {
        self.plan.rules.lock().push(rule);
    }

    /// Takes all rules back, the crash too.
    pub fn heal(&self) {
        self.plan.rules.lock().clear();
        self.plan.crashed.store(false, Ordering::SeqCst);
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.plan.seen.lock().len()
    }

    /// How many calls of one kind there were.
    pub fn calls_of(&self, call: Call) -> usize {
        self.plan.seen.lock().iter().filter(|(seen, _)| *seen == call).count()
    }

    /// Every call so far with its path, in order: number `n` is what `Rule::nth(n, ..)` of a
    /// fresh plan fails.
    pub fn seen(&self) -> Vec<(Call, PathBuf)> {
        self.plan.seen.lock().clone()
    }

    /// Whether any rule has failed a call.
    pub fn has_fired(&self) -> bool {
        self.plan.fired.load(Ordering::SeqCst)
    }

    fn wrap(&self, path: &Path, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(FaultFile {
            inner: file,
            plan: Arc::clone(&self.plan),
            path: path.to_owned(),
            mapped: AtomicBool::new(false),
        })
    }
}

impl Plan {
    /// Counts the call and says whether it fails.
    fn consult(&self, call: Call, path: &Path) -> Option<Failure> {
        self.seen.lock().push((call, path.to_owned()));
        if self.crashed.load(Ordering::SeqCst) {
            return Some(Failure::Crash);
        }
        let mut failure = None;
        for rule in self.rules.lock().iter_mut() {
            if !rule.is_about(call, path) || (rule.fired && !rule.sticky) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.fired = true;
            failure = failure.or(Some(rule.failure));
        }
        if let Some(failure) = failure {
            self.fired.store(true, Ordering::SeqCst);
            self.crashed.fetch_or(failure == Failure::Crash, Ordering::SeqCst);
        }
        failure
    }

    fn check(&self, call: Call, path: &Path) -> io::Result<()> {
        self.consult(call, path).map_or(Ok(()), |failure| Err(failure.error()))
    }
}

impl Storage for Fault {
    fn create(&self, path: &Path, map_bytes: u64, first_bytes: u64) -> io::Result<Arc<dyn File>> {
        self.plan.check(Call::Create, path)?;
        Ok(self.wrap(path, self.inner.create(path, map_bytes, first_bytes)?))
    }

    fn create_cold(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.plan.check(Call::CreateCold, path)?;
        Ok(self.wrap(path, self.inner.create_cold(path)?))
    }

    fn open_cold(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.plan.check(Call::OpenCold, path)?;
        Ok(self.wrap(path, self.inner.open_cold(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.plan.check(Call::Open, path)?;
        Ok(self.wrap(path, self.inner.open(path)?))
    }

    fn open_append(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn File>> {
        self.plan.check(Call::OpenAppend, path)?;
        Ok(self.wrap(path, self.inner.open_append(path, map_bytes)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.plan.check(Call::List, dir)?;
        self.inner.list(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<DirEntry> {
        self.plan.check(Call::Metadata, path)?;
        self.inner.metadata(path)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.plan.check(Call::CreateDir, dir)?;
        self.inner.create_dir(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.plan.check(Call::RemoveDir, dir)?;
        self.inner.remove_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plan.check(Call::Rename, from)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.plan.check(Call::Remove, path)?;
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.plan.check(Call::SyncDir, dir)?;
        self.inner.sync_dir(dir)
    }

    fn write_back(&self, dir: &Path) {
        self.inner.write_back(dir);
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.plan.check(Call::Lock, path)?;
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
        self.plan.check(Call::DiskFree, path)?;
        self.inner.disk_free(path)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("inner", &self.inner)
            .field("rules", &*self.plan.rules.lock())
            .field("calls", &self.calls())
            .finish()
    }
}

struct FaultFile {
    inner: Arc<dyn File>,
    plan: Arc<Plan>,
    path: PathBuf,
    /// Whether `region` has succeeded once: after that it is no call.
    mapped: AtomicBool,
}

impl File for FaultFile {
    fn region(&self) -> io::Result<&Region> {
        if !self.mapped.load(Ordering::SeqCst) {
            self.plan.check(Call::Region, &self.path)?;
        }
        let region = self.inner.region()?;
        self.mapped.store(true, Ordering::SeqCst);
        Ok(region)
    }

    fn len(&self) -> io::Result<u64> {
        self.plan.check(Call::Len, &self.path)?;
        self.inner.len()
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        match self.plan.consult(Call::ReadAt, &self.path) {
            // One byte at least, since none would mean the end of the file.
            Some(Failure::Short) => {
                let half = out.len().div_ceil(2);
                self.inner.read_at(at, &mut out[..half])
            }
            Some(failure) => Err(failure.error()),
            None => self.inner.read_at(at, out),
        }
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self.plan.consult(Call::WriteAt, &self.path) {
            Some(Failure::Short) => {
                self.inner.write_at(at, &bytes[..bytes.len() / 2])?;
                Err(Failure::Short.error())
            }
            Some(failure) => Err(failure.error()),
            None => self.inner.write_at(at, bytes),
        }
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.plan.check(Call::Allocate, &self.path)?;
        self.inner.allocate(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.plan.check(Call::SetLen, &self.path)?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.plan.consult(Call::SyncData, &self.path) {
            Some(failure) => {
                if failure == Failure::IoPagesLost {
                    self.inner.lose_unsynced();
                }
                Err(failure.error())
            }
            None => self.inner.sync_data(),
        }
    }

    fn store_error(&self, at: u64) -> io::Error {
        self.inner.store_error(at)
    }

    fn prepare(&self, len: u64, reserve: u64) -> io::Result<()> {
        self.plan.check(Call::Allocate, &self.path)?;
        self.inner.prepare(len, reserve)
    }

    fn lose_unsynced(&self) {
        self.inner.lose_unsynced();
    }
}

impl fmt::Debug for FaultFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultFile").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Heap;
    use super::*;
    use std::io::ErrorKind;

    fn fault() -> Fault {
        Fault::new(Arc::new(Heap::new()))
    }

    fn file(fault: &Fault) -> Arc<dyn File> {
        let file = fault.create_cold(Path::new("/f")).unwrap();
        file.write_at(0, b"abcdef").unwrap();
        file
    }

    /// One call of each kind, in the order of `Call::ALL`.
    fn each_call(fault: &Fault) -> Vec<(Call, io::Result<()>)> {
        let at = Path::new;
        // Made behind the plan's back, so that a call that fails does not take others along.
        let inner = &fault.inner;
        inner.create_dir(at("/d")).unwrap();
        inner.create_cold(at("/f")).unwrap().write_at(0, b"abc").unwrap();
        inner.create_cold(at("/g")).unwrap();
        let file = fault.wrap(at("/f"), inner.open_cold(at("/f")).unwrap());
        let append = fault.wrap(at("/a"), inner.create(at("/a"), 64, 8).unwrap());
        let sealed = fault.wrap(at("/f"), inner.open(at("/f")).unwrap());
        Call::ALL
            .iter()
            .map(|&call| {
                let result = match call {
                    Call::Create => fault.create(at("/c"), 64, 8).map(drop),
                    Call::CreateCold => fault.create_cold(at("/h")).map(drop),
                    Call::OpenCold => fault.open_cold(at("/f")).map(drop),
                    Call::Open => fault.open(at("/f")).map(drop),
                    Call::OpenAppend => fault.open_append(at("/g"), 64).map(drop),
                    Call::List => fault.list(at("/")).map(drop),
                    Call::Metadata => fault.metadata(at("/f")).map(drop),
                    Call::CreateDir => fault.create_dir(at("/e")),
                    Call::RemoveDir => fault.remove_dir(at("/d")),
                    Call::Rename => fault.rename(at("/g"), at("/i")),
                    Call::Remove => fault.remove(at("/f")),
                    Call::SyncDir => fault.sync_dir(at("/")),
                    Call::Lock => fault.lock(at("/.lock")).map(drop),
                    Call::DiskFree => fault.disk_free(at("/")).map(drop),
                    Call::Region => sealed.region().map(drop),
                    Call::Len => file.len().map(drop),
                    Call::ReadAt => file.read_at(0, &mut [0]).map(drop),
                    Call::WriteAt => file.write_at(0, b"x"),
                    Call::Allocate => append.allocate(16),
                    Call::SetLen => append.set_len(4),
                    Call::SyncData => file.sync_data(),
                };
                (call, result)
            })
            .collect()
    }

    #[test]
    fn every_kind_of_call_is_counted_and_can_fail() {
        let quiet = fault();
        assert!(each_call(&quiet).iter().all(|(_, result)| result.is_ok()));
        let seen: Vec<_> = quiet.seen().into_iter().map(|(call, _)| call).collect();
        assert_eq!(seen, Call::ALL);
        for (nth, &call) in Call::ALL.iter().enumerate() {
            for rule in [Rule::nth(nth as u64, Failure::Io), Rule::nth(0, Failure::Io).of(&[call])]
            {
                let fault = fault();
                fault.fail(rule);
                for (other, result) in each_call(&fault) {
                    assert_eq!(result.is_err(), other == call, "{other:?} under {call:?}");
                }
                assert!(fault.has_fired());
            }
        }
    }

    #[test]
    fn a_rule_strikes_once_or_for_good() {
        let fault = fault();
        let file = file(&fault);
        fault.fail(Rule::nth(1, Failure::Io).of(&[Call::SyncData]));
        let once: Vec<_> = (0..4).map(|_| file.sync_data().is_ok()).collect();
        assert_eq!(once, [true, false, true, true]);
        fault.fail(Rule::nth(1, Failure::Io).of(&[Call::SyncData]).sticky());
        let sticky: Vec<_> = (0..4).map(|_| file.sync_data().is_ok()).collect();
        assert_eq!(sticky, [true, false, false, false]);
        fault.heal();
        file.sync_data().unwrap();
        assert_eq!(fault.calls_of(Call::SyncData), 9);
    }

    #[test]
    fn a_rule_may_be_about_some_paths_only() {
        let fault = fault();
        fault.fail(Rule::nth(0, Failure::Full).on(".log").sticky());
        fault.create_cold(Path::new("/a.index")).unwrap();
        let error = fault.create_cold(Path::new("/a.log")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn a_short_read_gives_half_and_reading_on_gives_the_rest() {
        let fault = fault();
        let file = file(&fault);
        fault.fail(Rule::nth(0, Failure::Short).of(&[Call::ReadAt]));
        let mut out = [0; 6];
        assert_eq!(file.read_at(0, &mut out).unwrap(), 3);
        fault.fail(Rule::nth(0, Failure::Short).of(&[Call::ReadAt]).sticky());
        file.read_exact_at(0, &mut out).unwrap();
        assert_eq!(&out, b"abcdef");
    }

    #[test]
    fn an_interrupted_read_is_repeated() {
        let fault = fault();
        let file = file(&fault);
        fault.fail(Rule::nth(0, Failure::Interrupted).of(&[Call::ReadAt]));
        let mut out = [0; 6];
        file.read_exact_at(0, &mut out).unwrap();
        assert_eq!(&out, b"abcdef");
        assert!(fault.has_fired());
    }

    #[test]
    fn a_short_write_leaves_half_and_a_full_disk() {
        let fault = fault();
        let file = file(&fault);
        fault.fail(Rule::nth(0, Failure::Short).of(&[Call::WriteAt]));
        assert_eq!(file.write_at(0, b"WXYZ").unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(fault.read_file(Path::new("/f"), 99).unwrap(), b"WXcdef");
    }

    #[test]
    fn after_a_crash_nothing_works() {
        let fault = fault();
        let file = file(&fault);
        fault.fail(Rule::nth(0, Failure::Crash).of(&[Call::SyncData]));
        file.len().unwrap();
        assert!(file.sync_data().is_err());
        assert!(file.len().is_err());
        assert!(fault.list(Path::new("/")).is_err());
        fault.heal();
        file.len().unwrap();
    }
}
