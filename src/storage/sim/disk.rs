//! The state of a simulated disk: what is durable, and everything since that might not be.
//!
//! Per file: the durable bytes and length; each later write as a delta, and per page of 4 KiB
//! the deltas that touch it, so that a page has as many versions as it was written plus one.
//! Per directory: the durable entries, and the edits since. A [`Step`] changes the state; the
//! same steps applied to the same state give the same state.

use super::super::names::{Edit, Ino, Node, Tree};
use crate::sync::Arc;
use std::collections::BTreeMap;
use std::ops::Range;

/// The unit in which the page cache is written back.
pub(super) const PAGE_BYTES: usize = 4096;

/// One change of the disk.
#[derive(Debug, Clone)]
pub(super) enum Step {
    NewFile(Edit),
    NewDir(Edit),
    Names(Edit),
    SyncDir(Ino),
    Write {
        ino: Ino,
        at: usize,
        bytes: Arc<[u8]>,
    },
    Zero {
        ino: Ino,
        at: usize,
        len: usize,
    },
    /// The file has at least `len` bytes.
    Grow {
        ino: Ino,
        len: usize,
    },
    Cut {
        ino: Ino,
        len: usize,
    },
    /// A sync starts. It changes nothing by itself, but a crash may strike while it runs.
    SyncStart(Ino),
    /// A sync ended well: what was written up to step `upto` is durable.
    SyncEnd {
        ino: Ino,
        upto: u64,
    },
    /// A sync failed and its pages count as clean.
    Lose(Ino),
}

/// Entries of a directory that the disk is sure to have, and the edits that it may have.
#[derive(Debug, Clone, Default)]
pub(super) struct DirState {
    pub(super) durable: BTreeMap<Arc<str>, Ino>,
    pub(super) pending: Vec<Edit>,
}

/// A write since the last completed sync.
#[derive(Debug, Clone)]
pub(super) struct Delta {
    pub(super) step: u64,
    at: usize,
    len: usize,
    /// Where the bytes stand in the arena; `None` for zeros.
    source: Option<usize>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Page {
    /// Numbers of the deltas that touch the page, oldest first.
    pub(super) deltas: Vec<u32>,
    /// A failed sync has marked the page clean: it is not written until it changes again.
    pub(super) lost: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct FileState {
    /// What a reader sees. Shorter than the length where the rest is zeros; so is `durable`.
    pub(super) current: Arc<Vec<u8>>,
    pub(super) len: usize,
    pub(super) durable: Arc<Vec<u8>>,
    pub(super) durable_len: usize,
    /// Lengths since the last completed sync, with the step that set them.
    pub(super) lens: Vec<(u64, usize)>,
    pub(super) deltas: Vec<Delta>,
    arena: Vec<u8>,
    /// The end of the stored bytes in any version, durable, current or between.
    pub(super) extent: usize,
    pub(super) pages: BTreeMap<usize, Page>,
    pub(super) modified_ms: i64,
}

pub(super) type Names = Tree<FileState, DirState>;

#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) tree: Names,
    /// How many steps led here.
    pub(super) steps: u64,
}

impl Disk {
    pub(super) fn new() -> Disk {
        Disk { tree: Tree::new(), steps: 0 }
    }

    pub(super) fn file(&self, ino: Ino) -> Option<&FileState> {
        match self.tree.nodes.get(&ino) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    pub(super) fn file_mut(&mut self, ino: Ino) -> Option<&mut FileState> {
        match self.tree.nodes.get_mut(&ino) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    pub(super) fn dir_mut(&mut self, ino: Ino) -> Option<&mut DirState> {
        match self.tree.nodes.get_mut(&ino) {
            Some(Node::Dir(_, dir)) => Some(dir),
            _ => None,
        }
    }

    pub(super) fn apply(&mut self, step: &Step, now_ms: i64) {
        match step {
            Step::Write { ino, at, bytes } => return self.write(*ino, *at, bytes, now_ms),
            Step::NewFile(edit) => {
                let file = FileState { modified_ms: now_ms, ..FileState::default() };
                self.link(edit, Node::File(file));
            }
            Step::NewDir(edit) => self.link(edit, Node::Dir(BTreeMap::new(), DirState::default())),
            Step::Names(edit) => self.edit(edit),
            Step::SyncDir(ino) => self.sync_dir(*ino),
            Step::Zero { ino, at, len } => self.change(*ino, now_ms, |file, step| {
                file.put(step, *at, None, *len);
            }),
            Step::Grow { ino, len } => self.change(*ino, now_ms, |file, step| {
                if *len > file.len {
                    file.set_len(step, *len);
                }
            }),
            Step::Cut { ino, len } => self.change(*ino, now_ms, |file, step| file.cut(step, *len)),
            Step::SyncEnd { ino, upto } => {
                if let Some(file) = self.file_mut(*ino) {
                    file.sync(*upto);
                }
            }
            Step::Lose(ino) => {
                if let Some(file) = self.file_mut(*ino) {
                    file.pages.values_mut().for_each(|page| page.lost = true);
                }
            }
            Step::SyncStart(_) => {}
        }
        self.steps += 1;
    }

    /// A write, without a step of its own made first.
    pub(super) fn write(&mut self, ino: Ino, at: usize, bytes: &[u8], now_ms: i64) {
        self.change(ino, now_ms, |file, step| file.put(step, at, Some(bytes), bytes.len()));
        self.steps += 1;
    }

    fn change(&mut self, ino: Ino, now_ms: i64, body: impl FnOnce(&mut FileState, u64)) {
        let step = self.steps + 1;
        if let Some(file) = self.file_mut(ino) {
            body(file, step);
            file.modified_ms = now_ms;
        }
    }

    fn link(&mut self, edit: &Edit, node: Node<FileState, DirState>) {
        if let Edit::Link { ino, .. } = edit {
            self.tree.insert(*ino, node);
        }
        self.edit(edit);
    }

    fn edit(&mut self, edit: &Edit) {
        self.tree.apply(edit);
        match edit {
            Edit::Rename { from, to, ino } if from.0 != to.0 => {
                // Two directories are two places on the disk: each may keep its half.
                let leave = Edit::Unlink { dir: from.0, name: Arc::clone(&from.1) };
                let enter = Edit::Link { dir: to.0, name: Arc::clone(&to.1), ino: *ino };
                self.pend(from.0, leave);
                self.pend(to.0, enter);
            }
            Edit::Link { dir, .. } | Edit::Unlink { dir, .. } => self.pend(*dir, edit.clone()),
            Edit::Rename { from, .. } => self.pend(from.0, edit.clone()),
        }
    }

    fn pend(&mut self, dir: Ino, edit: Edit) {
        if let Some(dir) = self.dir_mut(dir) {
            dir.pending.push(edit);
        }
    }

    fn sync_dir(&mut self, ino: Ino) {
        if let Some(Node::Dir(entries, dir)) = self.tree.nodes.get_mut(&ino) {
            dir.durable.clone_from(entries);
            dir.pending.clear();
        }
    }

    /// Forgets nodes that no directory names any more, on the disk or in memory, except those
    /// for which `in_use` says otherwise.
    pub(super) fn sweep(&mut self, in_use: impl Fn(Ino) -> bool) {
        let mut named = std::collections::BTreeSet::from([super::super::names::ROOT]);
        for node in self.tree.nodes.values() {
            if let Node::Dir(entries, dir) = node {
                named.extend(entries.values().chain(dir.durable.values()));
                named.extend(dir.pending.iter().filter_map(|edit| match edit {
                    Edit::Link { ino, .. } | Edit::Rename { ino, .. } => Some(*ino),
                    Edit::Unlink { .. } => None,
                }));
            }
        }
        self.tree.nodes.retain(|ino, _| named.contains(ino) || in_use(*ino));
    }
}

impl FileState {
    /// A file of which everything is durable.
    pub(super) fn settled(bytes: Arc<Vec<u8>>, len: usize, modified_ms: i64) -> FileState {
        FileState {
            current: Arc::clone(&bytes),
            len,
            extent: bytes.len(),
            durable: bytes,
            durable_len: len,
            modified_ms,
            ..FileState::default()
        }
    }

    fn set_len(&mut self, step: u64, len: usize) {
        self.len = len;
        self.lens.push((step, len));
    }

    /// Writes `bytes`, or `len` zeros, and remembers it as a delta.
    fn put(&mut self, step: u64, at: usize, bytes: Option<&[u8]>, len: usize) {
        if len == 0 {
            return;
        }
        let end = at + len;
        if end > self.len {
            self.set_len(step, end);
        }
        self.extent = self.extent.max(end);
        let current = Arc::make_mut(&mut self.current);
        if current.len() < end {
            current.resize(end, 0);
        }
        let source = match bytes {
            Some(bytes) => {
                current[at..end].copy_from_slice(bytes);
                let source = self.arena.len();
                self.arena.extend_from_slice(bytes);
                Some(source)
            }
            None => {
                current[at..end].fill(0);
                None
            }
        };
        self.remember(Delta { step, at, len, source });
    }

    fn remember(&mut self, delta: Delta) {
        let number = u32::try_from(self.deltas.len()).unwrap_or(u32::MAX);
        for page in delta.at / PAGE_BYTES..=(delta.at + delta.len - 1) / PAGE_BYTES {
            let page = self.pages.entry(page).or_default();
            page.deltas.push(number);
            page.lost = false;
        }
        self.deltas.push(delta);
    }

    /// Cuts the file. What lay above is zero if the file grows again.
    fn cut(&mut self, step: u64, len: usize) {
        let end = self.current.len();
        if end > len {
            Arc::make_mut(&mut self.current).truncate(len);
            self.remember(Delta { step, at: len, len: end - len, source: None });
        }
        self.set_len(step, len);
    }

    fn sync(&mut self, upto: u64) {
        let mut pages = std::mem::take(&mut self.pages);
        let durable_end = self.extent;
        let mut durable = std::mem::take(&mut self.durable);
        let bytes = Arc::make_mut(&mut durable);
        bytes.resize(durable_end, 0);
        pages.retain(|number, page| {
            if page.lost {
                return true;
            }
            let done = page.deltas.partition_point(|&i| self.deltas[i as usize].step <= upto);
            let range = number * PAGE_BYTES..((number + 1) * PAGE_BYTES).min(durable_end);
            if done == page.deltas.len() && range.end <= self.current.len() {
                bytes[range.clone()].copy_from_slice(&self.current[range]);
            } else {
                self.replay(&page.deltas[..done], range.clone(), &mut bytes[range]);
            }
            page.deltas.drain(..done);
            !page.deltas.is_empty()
        });
        let known = self.lens.partition_point(|(step, _)| *step <= upto);
        if let Some((_, len)) = self.lens.drain(..known).next_back() {
            self.durable_len = len;
            bytes.truncate(len.max(self.len));
        }
        if pages.is_empty() {
            self.deltas.clear();
            self.arena.clear();
            self.extent = self.current.len().max(durable.len());
        }
        self.durable = durable;
        self.pages = pages;
    }

    /// Applies those parts of the deltas that fall into `range` to `out`, which holds the bytes
    /// of that range.
    pub(super) fn replay(&self, deltas: &[u32], range: Range<usize>, out: &mut [u8]) {
        for &number in deltas {
            let delta = &self.deltas[number as usize];
            let from = delta.at.max(range.start);
            let to = (delta.at + delta.len).min(range.end);
            if from >= to {
                continue;
            }
            let target = &mut out[from - range.start..to - range.start];
            match delta.source {
                Some(source) => {
                    let first = source + (from - delta.at);
                    target.copy_from_slice(&self.arena[first..first + (to - from)]);
                }
                None => target.fill(0),
            }
        }
    }

    /// Reads from the current bytes; what is not stored is zero.
    pub(super) fn read(&self, at: usize, out: &mut [u8]) -> usize {
        let count = out.len().min(self.len.saturating_sub(at));
        let stored = self.current.get(at..).unwrap_or(&[]);
        let copied = count.min(stored.len());
        out[..copied].copy_from_slice(&stored[..copied]);
        out[copied..count].fill(0);
        count
    }

    /// All bytes up to the length.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.current.as_ref().clone();
        bytes.resize(self.len, 0);
        bytes
    }
}
