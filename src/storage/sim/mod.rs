//! A simulated disk: memory that can tell what a machine would find after a crash.
//!
//! [`Sim`] is a storage like the others, on the same region code, whose every change is a
//! numbered step. [`Sim::kill`] gives what the next process finds when this one is killed: all
//! of it. [`Sim::power_cut`] gives one of the states that the disk may have when the power goes
//! (see [`Pages`] and [`Entries`] for which), and [`Sim::remount`] the same on a machine that runs
//! on. All give a `Sim`, so recovery can crash in turn.
//! A recorded run is replayed step by step with [`Sim::replay`], to crash it everywhere.

mod disk;
mod image;
mod random;
mod replay;
#[cfg(test)]
mod tests;

pub use image::{Entries, Pages, PowerCut};
pub use random::Random;
pub use replay::Replay;

use super::heap::HeldInMemory;
use super::names::{Edit, Ino, Node};
use super::planted::{Planted, planted};
use super::region::{Region, Trace};
use super::{DirEntry, File, Lock, Mode, Storage, invalid, read_only, to_usize};
use crate::sync::{Arc, Mutex, OnceLock, Rank, ranked_mutex};
use crate::time::{Clock, VirtualClock};
use disk::{Disk, FileState, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// After how many removals the simulator looks for files that nobody can reach.
const SWEEP_REMOVALS: usize = 64;

/// A storage on a simulated disk. Clones share it.
///
/// # Examples
/// ```
/// use std::path::Path;
/// use topiclite::storage::sim::{Entries, Pages, PowerCut, Sim};
/// use topiclite::storage::Storage;
/// let sim = Sim::new();
/// let file = sim.create_cold(Path::new("/a")).unwrap();
/// file.write_at(0, b"synced").unwrap();
/// file.sync_data().unwrap();
/// sim.sync_dir(Path::new("/")).unwrap();
/// file.write_at(0, b"SYNCED").unwrap();
/// let after = sim.power_cut(&PowerCut::new(1, Pages::None, Entries::None));
/// assert_eq!(after.read_file(Path::new("/a"), 100).unwrap(), b"synced");
/// assert_eq!(sim.kill().read_file(Path::new("/a"), 100).unwrap(), b"SYNCED");
/// ```
#[derive(Clone)]
pub struct Sim {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    boot: u64,
    mount: u64,
    capacity_bytes: Option<usize>,
    locks: Arc<Mutex<BTreeSet<PathBuf>>>,
    state: Mutex<State>,
}

struct State {
    disk: Disk,
    recording: Option<Recording>,
    /// Handles that are open, per file.
    handles: BTreeMap<Ino, usize>,
    removals: usize,
}

impl State {
    fn files(&self) -> impl Iterator<Item = (Ino, &FileState)> {
        self.disk.tree.nodes.iter().filter_map(|(ino, node)| match node {
            Node::File(file) => Some((*ino, file)),
            Node::Dir(..) => None,
        })
    }
}

struct Recording {
    base: Disk,
    steps: Vec<(Step, i64)>,
}

impl Default for Sim {
    fn default() -> Sim {
        Sim::new()
    }
}

impl Sim {
    /// An empty disk at the start of virtual time.
    pub fn new() -> Sim {
        Sim::with_clock(VirtualClock::manual().clock())
    }

    /// An empty disk whose modification times are those of `clock`.
    pub fn with_clock(clock: Clock) -> Sim {
        Sim::holding(Disk::new(), clock, (1, 1), None)
    }

    /// An empty disk with room for `bytes` of files.
    pub fn with_capacity(bytes: usize) -> Sim {
        Sim::holding(Disk::new(), VirtualClock::manual().clock(), (1, 1), Some(bytes))
    }

    fn holding(
        disk: Disk,
        clock: Clock,
        (boot, mount): (u64, u64),
        capacity_bytes: Option<usize>,
    ) -> Sim {
        let state = State { disk, recording: None, handles: BTreeMap::new(), removals: 0 };
        let locks = Arc::new(Mutex::new(BTreeSet::new()));
        Sim {
            shared: Arc::new(Shared {
                clock,
                boot,
                mount,
                capacity_bytes,
                locks,
                state: ranked_mutex(Rank::Simulation, state),
            }),
        }
    }

    /// How many steps the disk has taken, in this life and those before.
    pub fn steps(&self) -> u64 {
        self.shared.state.lock().disk.steps
    }

    /// How many units are not durable: pages, and lengths of files. The bits of
    /// [`Pages::Mask`], in an order that only depends on the steps.
    pub fn units(&self) -> usize {
        self.shared.state.lock().disk.units()
    }

    /// The disk after the process was killed at this moment: nothing is lost, nothing more is
    /// durable than before, the boot is the same, and locks are free.
    pub fn kill(&self) -> Sim {
        let disk = self.shared.state.lock().disk.clone();
        self.shared.after(disk, 0, 0)
    }

    /// The disk after the power went at this moment, in one of the states that it may have. The
    /// boot is another.
    pub fn power_cut(&self, cut: &PowerCut) -> Sim {
        let disk = self.shared.state.lock().disk.power_cut(cut);
        self.shared.after(disk, 1, 1)
    }

    /// The disk after it vanished at this moment from a machine that runs on, and was mounted
    /// again, in one of the states that it may have: the boot is the same, the mount another. So
    /// is a snapshot that is mounted on its own host.
    pub fn remount(&self, cut: &PowerCut) -> Sim {
        let disk = self.shared.state.lock().disk.power_cut(cut);
        self.shared.after(disk, 0, 1)
    }

    /// Begins to keep the steps for [`Sim::replay`], from the present state on.
    pub fn record(&self) {
        let mut state = self.shared.state.lock();
        state.recording = Some(Recording { base: state.disk.clone(), steps: Vec::new() });
    }

    /// The recorded steps, to be taken again one by one.
    ///
    /// # Panics
    /// If [`Sim::record`] was not called.
    #[allow(clippy::expect_used)] // A test that forgot to record must hear of it.
    pub fn replay(&self) -> Replay {
        let state = self.shared.state.lock();
        let recording = state.recording.as_ref().expect("record() comes before replay()");
        Replay::new(recording.base.clone(), recording.steps.clone(), Arc::clone(&self.shared))
    }

    /// Changes the stored bytes of a file behind the back of everybody, durably: rot, sectors
    /// written elsewhere, foreign hands.
    ///
    /// # Errors
    /// `NotFound` and `IsADirectory`.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let (ino, file) = state.disk.tree.find_file(path)?;
        let (mut bytes, modified_ms) = (file.bytes(), file.modified_ms);
        change(&mut bytes);
        let len = bytes.len();
        if let Some(file) = state.disk.file_mut(ino) {
            *file = FileState::settled(Arc::new(bytes), len, modified_ms);
        }
        Ok(())
    }

    fn handle(
        &self,
        ino: Ino,
        mode: Mode,
        map: Option<(usize, Option<Vec<u8>>)>,
    ) -> io::Result<Arc<dyn File>> {
        let region = OnceLock::new();
        if let Some((capacity, bytes)) = map {
            let trace: Arc<dyn Trace> =
                Arc::new(FileTrace { shared: Arc::clone(&self.shared), ino });
            let made = match bytes {
                Some(bytes) => Region::holding(&bytes, capacity, Some(trace))?,
                None => Region::zeroed(capacity, 0, Some(trace))?,
            };
            region.get_or_init(|| made);
        }
        *self.shared.state.lock().handles.entry(ino).or_default() += 1;
        Ok(Arc::new(SimFile { shared: Arc::clone(&self.shared), ino, mode, region }))
    }
}

impl Shared {
    /// The next life of the disk, after so many boots and mounts.
    fn after(&self, disk: Disk, boots: u64, mounts: u64) -> Sim {
        let next = (self.boot + boots, self.mount + mounts);
        Sim::holding(disk, self.clock.clone(), next, self.capacity_bytes)
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().wall_ms
    }

    fn step(&self, state: &mut State, step: Step) {
        let now_ms = self.now_ms();
        state.disk.apply(&step, now_ms);
        if let Some(recording) = &mut state.recording {
            recording.steps.push((step, now_ms));
        }
    }

    fn write(&self, state: &mut State, ino: Ino, at: usize, bytes: &[u8]) {
        let now_ms = self.now_ms();
        state.disk.write(ino, at, bytes, now_ms);
        if let Some(recording) = &mut state.recording {
            recording.steps.push((Step::Write { ino, at, bytes: bytes.into() }, now_ms));
        }
    }

    /// Fails if the file cannot grow to `len` on a disk of limited size.
    fn admit(&self, state: &State, ino: Ino, len: usize) -> io::Result<()> {
        let Some(capacity) = self.capacity_bytes else { return Ok(()) };
        let others: usize = state.files().filter(|(other, _)| *other != ino).map(|f| f.1.len).sum();
        match others.checked_add(len) {
            Some(used) if used <= capacity => Ok(()),
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    /// A store into a page that the full disk has no block for kills the process. Only a file
    /// that was grown without allocation has such pages.
    fn bus_error(&self, state: &State) {
        let Some(capacity) = self.capacity_bytes else { return };
        let stored: usize = state.files().map(|(_, file)| file.current.len()).sum();
        assert!(stored <= capacity, "SIGBUS: a store into a hole of a file on a full disk");
    }

    fn unlink(&self, state: &mut State, edit: Edit) {
        self.step(state, Step::Names(edit));
        state.removals += 1;
        if state.removals >= SWEEP_REMOVALS {
            state.removals = 0;
            let State { disk, handles, .. } = state;
            disk.sweep(|ino| handles.contains_key(&ino));
        }
    }
}

fn describe(file: &FileState) -> (u64, i64) {
    (file.len as u64, file.modified_ms)
}

impl Storage for Sim {
    fn create(&self, path: &Path, map_bytes: u64, first_bytes: u64) -> io::Result<Arc<dyn File>> {
        if first_bytes > map_bytes {
            return Err(invalid("more bytes to allocate than to map"));
        }
        let mut state = self.shared.state.lock();
        let edit = state.disk.tree.plan_link(path)?;
        let ino = state.disk.tree.next_ino();
        if !planted(Planted::SparseFile) {
            self.shared.admit(&state, ino, to_usize(first_bytes)?)?;
        }
        self.shared.step(&mut state, Step::NewFile(edit));
        drop(state);
        let file = self.handle(ino, Mode::Append, Some((to_usize(map_bytes)?, None)))?;
        file.allocate(first_bytes)?;
        Ok(file)
    }

    fn create_cold(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.shared.state.lock();
        let ino = match state.disk.tree.find_file(path) {
            Ok((ino, _)) => {
                self.shared.step(&mut state, Step::Cut { ino, len: 0 });
                ino
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let edit = state.disk.tree.plan_link(path)?;
                let ino = state.disk.tree.next_ino();
                self.shared.step(&mut state, Step::NewFile(edit));
                ino
            }
            Err(error) => return Err(error),
        };
        drop(state);
        self.handle(ino, Mode::Cold, None)
    }

    fn open_cold(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let ino = self.shared.state.lock().disk.tree.find_file(path)?.0;
        self.handle(ino, Mode::Cold, None)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let ino = self.shared.state.lock().disk.tree.find_file(path)?.0;
        self.handle(ino, Mode::Read, None)
    }

    fn open_append(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn File>> {
        let state = self.shared.state.lock();
        let (ino, file) = state.disk.tree.find_file(path)?;
        let bytes = file.bytes();
        drop(state);
        self.handle(ino, Mode::Append, Some((to_usize(map_bytes)?, Some(bytes))))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.shared.state.lock().disk.tree.list(dir, describe)
    }

    fn metadata(&self, path: &Path) -> io::Result<DirEntry> {
        self.shared.state.lock().disk.tree.metadata(path, describe)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let edit = state.disk.tree.plan_link(dir)?;
        self.shared.step(&mut state, Step::NewDir(edit));
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let edit = state.disk.tree.plan_unlink(dir, true)?;
        self.shared.unlink(&mut state, edit);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let edit = state.disk.tree.plan_rename(from, to)?;
        self.shared.unlink(&mut state, edit);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let edit = state.disk.tree.plan_unlink(path, false)?;
        self.shared.unlink(&mut state, edit);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let ino = state.disk.tree.find(dir)?;
        state.disk.tree.entries(ino)?;
        if !planted(Planted::NoDirectorySync) {
            self.shared.step(&mut state, Step::SyncDir(ino));
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let path: PathBuf = path.components().collect();
        if !self.exists(&path)? {
            self.create_cold(&path)?;
        }
        HeldInMemory::take(&self.shared.locks, path)
    }

    fn boot_id(&self) -> String {
        format!("sim-boot-{}", self.shared.boot)
    }

    fn mount_id(&self, _: &Path) -> String {
        format!("sim-mount-{}", self.shared.mount)
    }

    fn disk_free(&self, _: &Path) -> io::Result<u64> {
        let state = self.shared.state.lock();
        let Some(capacity) = self.shared.capacity_bytes else { return Ok(u64::MAX) };
        let used: usize = state.files().map(|(_, file)| file.len).sum();
        Ok(capacity.saturating_sub(used) as u64)
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim")
            .field("boot", &self.shared.boot)
            .field("steps", &self.steps())
            .finish_non_exhaustive()
    }
}

/// Carries the writes of a region to the disk.
struct FileTrace {
    shared: Arc<Shared>,
    ino: Ino,
}

impl Trace for FileTrace {
    fn wrote(&self, at: usize, bytes: &[u8]) {
        let mut state = self.shared.state.lock();
        self.shared.write(&mut state, self.ino, at, bytes);
        self.shared.bus_error(&state);
    }

    fn zeroed(&self, at: usize, len: usize) {
        let step = Step::Zero { ino: self.ino, at, len };
        self.shared.step(&mut self.shared.state.lock(), step);
    }
}

impl fmt::Debug for FileTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileTrace").field("ino", &self.ino).finish_non_exhaustive()
    }
}

struct SimFile {
    shared: Arc<Shared>,
    ino: Ino,
    mode: Mode,
    region: OnceLock<Region>,
}

impl SimFile {
    fn with<T>(&self, body: impl FnOnce(&FileState) -> T) -> io::Result<T> {
        let state = self.shared.state.lock();
        state.disk.file(self.ino).map(body).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl File for SimFile {
    fn region(&self) -> io::Result<&Region> {
        if let Some(region) = self.region.get() {
            return Ok(region);
        }
        let region = Region::copied(&self.with(FileState::bytes)?)?;
        Ok(self.region.get_or_init(|| region))
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|file| file.len as u64)
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        let at = to_usize(at)?;
        self.with(|file| file.read(at, out))
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if self.mode == Mode::Read {
            return Err(read_only());
        }
        if self.region.get().is_some() {
            return Err(invalid("the file is mapped"));
        }
        let at = to_usize(at)?;
        let end = at.checked_add(bytes.len()).ok_or_else(|| invalid("beyond all memory"))?;
        let mut state = self.shared.state.lock();
        self.shared.admit(&state, self.ino, end)?;
        self.shared.write(&mut state, self.ino, at, bytes);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.prepare(len, len)
    }

    fn prepare(&self, len: u64, reserve: u64) -> io::Result<()> {
        if self.mode == Mode::Read {
            return Err(read_only());
        }
        let (len, reserve) = (to_usize(len)?, to_usize(reserve.max(len))?);
        if self.region.get().is_some_and(|region| reserve > region.capacity()) {
            return Err(invalid("beyond the mapping"));
        }
        let mut state = self.shared.state.lock();
        if state.disk.file(self.ino).is_some_and(|file| file.len < len) {
            if !planted(Planted::SparseFile) {
                self.shared.admit(&state, self.ino, reserve)?;
            }
            self.shared.step(&mut state, Step::Grow { ino: self.ino, len: reserve });
        }
        drop(state);
        self.region.get().map_or(Ok(()), |region| region.set_prepared(len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.mode == Mode::Read {
            return Err(read_only());
        }
        if len > self.len()? {
            return Err(invalid("set_len only cuts"));
        }
        let len = to_usize(len)?;
        let cut = || {
            let step = Step::Cut { ino: self.ino, len };
            self.shared.step(&mut self.shared.state.lock(), step);
            Ok(())
        };
        match self.region.get() {
            Some(region) => region.cut(len, cut),
            None => cut(),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        self.shared.step(&mut state, Step::SyncStart(self.ino));
        let upto = state.disk.steps;
        // Others write while a sync runs; what they write is not covered by it.
        drop(state);
        let step = Step::SyncEnd { ino: self.ino, upto };
        self.shared.step(&mut self.shared.state.lock(), step);
        Ok(())
    }

    fn lose_unsynced(&self) {
        self.shared.step(&mut self.shared.state.lock(), Step::Lose(self.ino));
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if let Some(count) = state.handles.get_mut(&self.ino) {
            *count -= 1;
            if *count == 0 {
                state.handles.remove(&self.ino);
            }
        }
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("ino", &self.ino).finish_non_exhaustive()
    }
}
