//! Files that live in memory, on the same region code as real ones: for brokers in memory, for
//! fuzzing and for sanitizers. Syncs succeed and mean nothing; nothing survives the process.

use super::names::{Edit, Node, Tree};
use super::region::Region;
use super::{
    DirEntry, File, HeldElsewhere, Lock, Mode, Storage, busy, invalid, read_only, to_usize,
};
use crate::sync::{Arc, Mutex, OnceLock, Rank, ranked_mutex};
use crate::time::Clock;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A storage in memory. Clones share their files.
///
/// # Examples
/// ```
/// use std::path::Path;
/// use topiclite::storage::{Heap, Storage};
/// let storage = Heap::new();
/// storage.create_dir(Path::new("/logs")).unwrap();
/// storage.create_cold(Path::new("/logs/a")).unwrap().write_at(0, b"abc").unwrap();
/// assert_eq!(storage.list(Path::new("/logs")).unwrap()[0].len, 3);
/// ```
#[derive(Clone)]
pub struct Heap {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    tree: Mutex<Tree<Arc<Content>, ()>>,
    locks: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// One file's bytes, shared by all its handles.
struct Content {
    state: Mutex<State>,
}

struct State {
    body: Body,
    modified_ms: i64,
}

enum Body {
    Cold(Vec<u8>),
    Mapped(Region),
}

impl Default for Heap {
    fn default() -> Heap {
        Heap::new()
    }
}

impl Heap {
    /// An empty storage whose modification times are the system clock's.
    pub fn new() -> Heap {
        Heap::with_clock(Clock::system())
    }

    /// An empty storage whose modification times are those of `clock`.
    pub fn with_clock(clock: Clock) -> Heap {
        Heap {
            shared: Arc::new(Shared {
                clock,
                tree: ranked_mutex(Rank::FileNames, Tree::new()),
                locks: Arc::new(Mutex::new(BTreeSet::new())),
            }),
        }
    }

    fn handle(&self, content: Arc<Content>, mode: Mode, own: Option<Region>) -> Arc<dyn File> {
        let region = OnceLock::new();
        if let Some(own) = own {
            region.get_or_init(|| own);
        }
        Arc::new(HeapFile { content, region, mode, clock: self.shared.clock.clone() })
    }

    fn now_ms(&self) -> i64 {
        self.shared.clock.now().wall_ms
    }

    fn add(&self, path: &Path, body: Body) -> io::Result<Arc<Content>> {
        let modified_ms = self.now_ms();
        let content =
            Arc::new(Content { state: ranked_mutex(Rank::FileBytes, State { body, modified_ms }) });
        let mut tree = self.shared.tree.lock();
        let edit = tree.plan_link(path)?;
        let ino = tree.next_ino();
        tree.insert(ino, Node::File(Arc::clone(&content)));
        tree.apply(&edit);
        Ok(content)
    }

    fn edit(&self, edit: &Edit, tree: &mut Tree<Arc<Content>, ()>) {
        let nameless = match edit {
            Edit::Unlink { dir, name } => {
                let ino = tree.entries(*dir).ok().and_then(|entries| entries.get(name).copied());
                tree.apply(edit);
                ino
            }
            _ => tree.apply(edit),
        };
        if let Some(ino) = nameless {
            tree.nodes.remove(&ino);
        }
    }
}

impl State {
    fn len(&self) -> u64 {
        match &self.body {
            Body::Cold(bytes) => bytes.len() as u64,
            Body::Mapped(region) => region.prepared() as u64,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match &self.body {
            Body::Cold(bytes) => bytes.clone(),
            Body::Mapped(region) => {
                let mut bytes = vec![0; region.prepared()];
                let read = region.copy_out(0, &mut bytes);
                bytes.truncate(read);
                bytes
            }
        }
    }
}

fn describe(content: &Arc<Content>) -> (u64, i64) {
    let state = content.state.lock();
    (state.len(), state.modified_ms)
}

impl Storage for Heap {
    fn create(&self, path: &Path, map_bytes: u64, first_bytes: u64) -> io::Result<Arc<dyn File>> {
        let region = Region::zeroed(to_usize(map_bytes)?, to_usize(first_bytes)?, None)?;
        let content = self.add(path, Body::Mapped(region.clone()))?;
        Ok(self.handle(content, Mode::Append, Some(region)))
    }

    fn create_cold(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let found = self.shared.tree.lock().find_file(path).map(|(_, file)| Arc::clone(file));
        let content = match found {
            Ok(content) => {
                let mut state = content.state.lock();
                state.body = Body::Cold(Vec::new());
                state.modified_ms = self.now_ms();
                drop(state);
                content
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.add(path, Body::Cold(Vec::new()))?
            }
            Err(error) => return Err(error),
        };
        Ok(self.handle(content, Mode::Cold, None))
    }

    fn open_cold(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let content = Arc::clone(self.shared.tree.lock().find_file(path)?.1);
        Ok(self.handle(content, Mode::Cold, None))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let content = Arc::clone(self.shared.tree.lock().find_file(path)?.1);
        Ok(self.handle(content, Mode::Read, None))
    }

    fn open_append(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn File>> {
        let content = Arc::clone(self.shared.tree.lock().find_file(path)?.1);
        let mut state = content.state.lock();
        // A new mapping has no published byte, and readers of an older one may still hold
        // slices: so this is a copy, where a real file would be mapped a second time.
        let region = Region::holding(&state.bytes(), to_usize(map_bytes)?, None)?;
        state.body = Body::Mapped(region.clone());
        drop(state);
        Ok(self.handle(content, Mode::Append, Some(region)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.shared.tree.lock().list(dir, describe)
    }

    fn metadata(&self, path: &Path) -> io::Result<DirEntry> {
        self.shared.tree.lock().metadata(path, describe)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut tree = self.shared.tree.lock();
        let edit = tree.plan_link(dir)?;
        let ino = tree.next_ino();
        tree.insert(ino, Node::Dir(Default::default(), ()));
        tree.apply(&edit);
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut tree = self.shared.tree.lock();
        let edit = tree.plan_unlink(dir, true)?;
        self.edit(&edit, &mut tree);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.shared.tree.lock();
        let edit = tree.plan_rename(from, to)?;
        self.edit(&edit, &mut tree);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.shared.tree.lock();
        let edit = tree.plan_unlink(path, false)?;
        self.edit(&edit, &mut tree);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let tree = self.shared.tree.lock();
        tree.entries(tree.find(dir)?).map(drop)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let path: PathBuf = path.components().collect();
        if !self.exists(&path)? {
            self.create_cold(&path)?;
        }
        HeldInMemory::take(&self.shared.locks, path)
    }

    fn boot_id(&self) -> String {
        "heap".to_owned()
    }

    fn mount_id(&self, _: &Path) -> String {
        "heap".to_owned()
    }

    fn disk_free(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").finish_non_exhaustive()
    }
}

/// A lock of a storage in memory: a path in a set.
#[derive(Debug)]
pub(super) struct HeldInMemory {
    locks: Arc<Mutex<BTreeSet<PathBuf>>>,
    path: PathBuf,
}

impl HeldInMemory {
    pub(super) fn take(
        locks: &Arc<Mutex<BTreeSet<PathBuf>>>,
        path: PathBuf,
    ) -> io::Result<Box<dyn Lock>> {
        if !locks.lock().insert(path.clone()) {
            return Err(HeldElsewhere::refuse(Some(std::process::id())));
        }
        Ok(Box::new(HeldInMemory { locks: Arc::clone(locks), path }))
    }
}

impl Lock for HeldInMemory {}

impl Drop for HeldInMemory {
    fn drop(&mut self) {
        self.locks.lock().remove(&self.path);
    }
}

struct HeapFile {
    content: Arc<Content>,
    region: OnceLock<Region>,
    mode: Mode,
    clock: Clock,
}

impl HeapFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.mode == Mode::Read { Err(read_only()) } else { Ok(()) }
    }

    /// The region that `allocate` and `set_len` are about.
    fn own_region(&self) -> Option<&Region> {
        self.region.get().filter(|_| self.mode == Mode::Append)
    }

    fn touch(&self, state: &mut State) {
        state.modified_ms = self.clock.now().wall_ms;
    }
}

impl File for HeapFile {
    fn region(&self) -> io::Result<&Region> {
        if let Some(region) = self.region.get() {
            return Ok(region);
        }
        let state = self.content.state.lock();
        let region = match &state.body {
            // A sealed segment is shared, not copied: it is never written again.
            Body::Mapped(region) if region.is_sealed() => region.clone(),
            _ => Region::copied(&state.bytes())?,
        };
        Ok(self.region.get_or_init(|| region))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.state.lock().len())
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        let at = to_usize(at)?;
        let state = self.content.state.lock();
        match &state.body {
            Body::Mapped(region) => Ok(region.copy_out(at, out)),
            Body::Cold(bytes) => {
                let rest = bytes.get(at..).unwrap_or(&[]);
                let count = rest.len().min(out.len());
                out[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
        }
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_writable()?;
        let at = to_usize(at)?;
        let end = at.checked_add(bytes.len()).ok_or_else(|| invalid("beyond all memory"))?;
        if self.region.get().is_some() {
            return Err(invalid("the file is mapped"));
        }
        let mut state = self.content.state.lock();
        if let Body::Mapped(region) = &state.body {
            if !region.is_sealed() {
                return Err(busy());
            }
            // Readers of the mapping keep what they have.
            state.body = Body::Cold(state.bytes());
        }
        if let Body::Cold(content) = &mut state.body {
            if content.len() < end {
                content.resize(end, 0);
            }
            content[at..end].copy_from_slice(bytes);
        }
        self.touch(&mut state);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let len = to_usize(len)?;
        let mut state = self.content.state.lock();
        if let Some(region) = self.own_region() {
            region.set_prepared(len)?;
        } else if let Body::Cold(bytes) = &mut state.body {
            if bytes.len() < len {
                bytes.resize(len, 0);
            }
        } else {
            return Err(invalid("the file is mapped elsewhere"));
        }
        self.touch(&mut state);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.content.state.lock();
        if len > state.len() {
            return Err(invalid("set_len only cuts"));
        }
        let len = to_usize(len)?;
        if let Some(region) = self.own_region() {
            region.cut(len, || Ok(()))?;
        } else if let Body::Cold(bytes) = &mut state.body {
            bytes.truncate(len);
        } else if let Body::Mapped(region) = &state.body {
            // Cutting a file that some older handle had mapped: its readers keep their memory.
            if !region.is_free() {
                return Err(busy());
            }
            let mut bytes = state.bytes();
            bytes.truncate(len);
            state.body = Body::Cold(bytes);
        }
        self.touch(&mut state);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    /// Memory has its pages at the first store; nothing is reserved.
    fn prepare(&self, len: u64, _: u64) -> io::Result<()> {
        self.allocate(len)
    }
}

impl fmt::Debug for HeapFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeapFile").field("region", &self.region.get()).finish_non_exhaustive()
    }
}
