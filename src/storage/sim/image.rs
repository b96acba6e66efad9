//! What a disk may hold after the power went: one draw from the states that the fault model
//! allows.
//!
//! Each page that was written since its file's last completed sync holds any of its versions, or
//! two of them mixed by sectors of 512 bytes. Each file has any of its lengths since then,
//! whatever its pages hold. Each directory has any subset of its unsynced edits, or a prefix.
//! A sync in flight needs no case of its own: until it has completed it has applied any subset.

use super::super::names::{Edit, Ino, Node, ROOT, Tree};
use super::disk::{DirState, Disk, FileState, PAGE_BYTES, Page};
use super::random::Random;
use crate::sync::Arc;
use std::collections::BTreeMap;

/// The unit that a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Which unsynced pages and lengths the disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pages {
    /// None: exactly what was synced.
    None,
    /// All: as if everything had been synced.
    All,
    /// Everything up to a moment, over all files, and nothing after it.
    Prefix,
    /// Each page and each length is there or not.
    Subset,
    /// Each page holds any version, perhaps torn; each file has any length.
    Versions,
    /// All but one page.
    OneMissing,
    /// One page only.
    OnePresent,
    /// Bit `i` says whether unit `i` is there: see [`super::Sim::units`].
    Mask(u64),
}

/// Which unsynced edits of directories the disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entries {
    /// None of them.
    None,
    /// All of them.
    All,
    /// Of each directory any subset, in order: more than any file system does.
    Subset,
    /// Of each directory a prefix, as a journal keeps them.
    Prefix,
}

/// How the power goes: what is drawn, and the seed of the draw. The same cut of the same state
/// gives the same image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerCut {
    /// The seed of all choices.
    pub seed: u64,
    /// What becomes of bytes.
    pub pages: Pages,
    /// What becomes of names.
    pub entries: Entries,
}

impl PowerCut {
    /// A cut of the given kind.
    pub const fn new(seed: u64, pages: Pages, entries: Entries) -> PowerCut {
        PowerCut { seed, pages, entries }
    }

    /// A cut whose kind is drawn from the seed, the rich kinds more often.
    pub fn drawn(seed: u64) -> PowerCut {
        let mut random = Random::new(seed);
        let pages = match random.below(10) {
            0 => Pages::None,
            1 => Pages::All,
            2 => Pages::Prefix,
            3 | 4 => Pages::Subset,
            5 => Pages::OneMissing,
            6 => Pages::OnePresent,
            _ => Pages::Versions,
        };
        let entries = match random.below(8) {
            0 => Entries::None,
            1 => Entries::All,
            2..=4 => Entries::Prefix,
            _ => Entries::Subset,
        };
        PowerCut::new(random.next(), pages, entries)
    }
}

/// Choices that hold for the whole image.
struct Draw<'a> {
    cut: &'a PowerCut,
    random: Random,
    /// The last step that counts, under `Pages::Prefix`.
    moment: u64,
    /// The unit that is missing or present alone.
    chosen: usize,
    /// Units seen so far.
    unit: usize,
}

impl Disk {
    /// How many pages and lengths are not durable.
    pub(super) fn units(&self) -> usize {
        self.files().map(FileState::units).sum()
    }

    fn files(&self) -> impl Iterator<Item = &FileState> {
        self.tree.nodes.values().filter_map(|node| match node {
            Node::File(file) => Some(file),
            Node::Dir(..) => None,
        })
    }

    /// The first step whose outcome is not durable everywhere.
    fn oldest_step(&self) -> Option<u64> {
        let deltas = self.files().filter_map(|file| Some(file.deltas.first()?.step));
        let lens = self.files().filter_map(|file| Some(file.lens.first()?.0));
        deltas.chain(lens).min()
    }

    pub(super) fn power_cut(&self, cut: &PowerCut) -> Disk {
        let mut random = Random::new(cut.seed);
        let moment = match (cut.pages, self.oldest_step()) {
            (Pages::Prefix, Some(oldest)) => oldest - 1 + random.below(self.steps - oldest + 2),
            _ => self.steps,
        };
        let chosen = match (cut.pages, self.units()) {
            (Pages::OneMissing | Pages::OnePresent, units @ 1..) => {
                random.below(units as u64) as usize
            }
            _ => usize::MAX,
        };
        let mut draw = Draw { cut, random, moment, chosen, unit: 0 };
        // Files in the order of their numbers, so that units are numbered alike in each image.
        let mut files: BTreeMap<Ino, FileState> = BTreeMap::new();
        for (ino, node) in &self.tree.nodes {
            if let Node::File(file) = node {
                files.insert(*ino, draw.file(file));
            }
        }
        let mut tree = Tree::new();
        self.keep_dir(ROOT, &mut draw, &mut files, &mut tree);
        Disk { tree, steps: self.steps }
    }

    /// Copies the directory and what it names, as far as the disk has it, into `tree`.
    fn keep_dir(
        &self,
        ino: Ino,
        draw: &mut Draw<'_>,
        files: &mut BTreeMap<Ino, FileState>,
        tree: &mut super::disk::Names,
    ) {
        let Some(Node::Dir(_, dir)) = self.tree.nodes.get(&ino) else { return };
        let entries = draw.entries(dir);
        let mut kept = BTreeMap::new();
        for (name, child) in entries {
            if let Some(file) = files.remove(&child) {
                tree.insert(child, Node::File(file));
            } else if matches!(self.tree.nodes.get(&child), Some(Node::Dir(..))) {
                if child == ROOT || tree.nodes.contains_key(&child) {
                    continue;
                }
                self.keep_dir(child, draw, files, tree);
            } else if let Some(Node::File(twin)) = tree.nodes.get(&child) {
                // Half of a rename: two names of one file. Both keep the content.
                let twin = twin.clone();
                let other = tree.next_ino().max(self.tree.next_ino());
                tree.insert(other, Node::File(twin));
                kept.insert(name, other);
                continue;
            } else {
                continue;
            }
            kept.insert(name, child);
        }
        let state = DirState { durable: kept.clone(), pending: Vec::new() };
        tree.insert(ino, Node::Dir(kept, state));
    }
}

impl FileState {
    fn units(&self) -> usize {
        self.pages.len() + usize::from(!self.lens.is_empty())
    }
}

impl Draw<'_> {
    fn entries(&mut self, dir: &DirState) -> BTreeMap<Arc<str>, Ino> {
        let mut entries = dir.durable.clone();
        let count = dir.pending.len();
        let prefix = match self.cut.entries {
            Entries::None => 0,
            Entries::All | Entries::Subset => count,
            Entries::Prefix => self.random.below(count as u64 + 1) as usize,
        };
        for edit in &dir.pending[..prefix] {
            if self.cut.entries == Entries::Subset && self.random.coin() {
                continue;
            }
            match edit {
                Edit::Link { name, ino, .. } => {
                    entries.insert(Arc::clone(name), *ino);
                }
                Edit::Unlink { name, .. } => {
                    entries.remove(name);
                }
                Edit::Rename { from, to, ino } => {
                    entries.remove(&from.1);
                    entries.insert(Arc::clone(&to.1), *ino);
                }
            }
        }
        entries
    }

    fn file(&mut self, file: &FileState) -> FileState {
        if file.units() == 0 {
            // Clones of the reference, not of the bytes.
            return FileState::settled(
                Arc::clone(&file.durable),
                file.durable_len,
                file.modified_ms,
            );
        }
        let pages: Vec<_> =
            file.pages.iter().map(|(n, page)| (*n, self.page(page, file))).collect();
        let len = self.len(file);
        let bytes = build(file, &pages, len);
        FileState::settled(Arc::new(bytes), len, file.modified_ms)
    }

    /// Whether the next unit is there, where a cut knows only that.
    fn is_there(&mut self) -> bool {
        let unit = self.unit;
        self.unit += 1;
        match self.cut.pages {
            Pages::None => false,
            Pages::All | Pages::Prefix => true,
            Pages::Subset | Pages::Versions => self.random.coin(),
            Pages::OneMissing => unit != self.chosen,
            Pages::OnePresent => unit == self.chosen,
            Pages::Mask(mask) => unit < 64 && mask >> unit & 1 == 1,
        }
    }

    fn page(&mut self, page: &Page, file: &FileState) -> Content {
        let newest = page.deltas.len();
        if page.lost {
            self.unit += 1;
            return Content::whole(0);
        }
        match self.cut.pages {
            Pages::Prefix => {
                self.unit += 1;
                let moment = self.moment;
                Content::whole(
                    page.deltas.partition_point(|&i| file.deltas[i as usize].step <= moment),
                )
            }
            Pages::Versions => {
                self.unit += 1;
                let newer = self.random.below(newest as u64 + 1) as usize;
                // A torn page: what was on the disk, partly overwritten. The version before is
                // as likely as all older ones, since that is where a record is cut in two.
                if newer == 0 || self.random.coin() {
                    return Content::whole(newer);
                }
                let older = match self.random.coin() {
                    true => newer - 1,
                    false => self.random.below(newer as u64) as usize,
                };
                Content { version: newer, under: older, sectors: self.random.next() as u8 }
            }
            _ => Content::whole(if self.is_there() { newest } else { 0 }),
        }
    }

    fn len(&mut self, file: &FileState) -> usize {
        if file.lens.is_empty() {
            return file.durable_len;
        }
        match self.cut.pages {
            Pages::Prefix => {
                self.unit += 1;
                let known = file.lens.partition_point(|(step, _)| *step <= self.moment);
                known.checked_sub(1).map_or(file.durable_len, |last| file.lens[last].1)
            }
            Pages::Versions => {
                self.unit += 1;
                match self.random.below(file.lens.len() as u64 + 1) as usize {
                    0 => file.durable_len,
                    nth => file.lens[nth - 1].1,
                }
            }
            _ => [file.durable_len, file.len][usize::from(self.is_there())],
        }
    }
}

/// A version of a page: the number of deltas applied, and those sectors (by bit) that have it;
/// the others have the version `under`.
#[derive(Debug, Clone, Copy)]
struct Content {
    version: usize,
    under: usize,
    sectors: u8,
}

impl Content {
    fn whole(version: usize) -> Content {
        Content { version, under: version, sectors: u8::MAX }
    }
}

/// The bytes of a file of which each dirty page has the given content.
fn build(file: &FileState, pages: &[(usize, Content)], len: usize) -> Vec<u8> {
    let all_new = pages.iter().all(|(n, content)| {
        content.sectors == u8::MAX
            && file.pages.get(n).is_some_and(|page| page.deltas.len() == content.version)
    });
    if all_new && file.durable.len() <= file.current.len() {
        let kept = file.current.len().min(len);
        return file.current[..kept].to_vec();
    }
    let stored = file.extent.min(len);
    let mut bytes = Vec::with_capacity(stored);
    bytes.extend_from_slice(&file.durable[..file.durable.len().min(stored)]);
    bytes.resize(stored, 0);
    for (number, content) in pages {
        let range = number * PAGE_BYTES..((number + 1) * PAGE_BYTES).min(stored);
        let Some(page) = file.pages.get(number) else { continue };
        if range.is_empty() {
            continue;
        }
        let out = &mut bytes[range.clone()];
        if content.sectors == u8::MAX {
            put_version(file, page, content.version, range, out);
            continue;
        }
        let mut newer = [0; PAGE_BYTES];
        let newer = &mut newer[..out.len()];
        newer.copy_from_slice(out);
        put_version(file, page, content.version, range.clone(), newer);
        put_version(file, page, content.under, range, out);
        let sectors = out.chunks_mut(SECTOR_BYTES).zip(newer.chunks(SECTOR_BYTES));
        for (i, (old, new)) in sectors.enumerate() {
            if content.sectors >> i & 1 == 1 {
                old.copy_from_slice(new);
            }
        }
    }
    bytes
}

/// Turns the durable bytes in `out` into a version of the page.
fn put_version(
    file: &FileState,
    page: &Page,
    version: usize,
    range: std::ops::Range<usize>,
    out: &mut [u8],
) {
    if version == page.deltas.len() {
        let stored = file.current.get(range.start..).unwrap_or(&[]);
        let (head, rest) = out.split_at_mut(stored.len().min(out.len()));
        head.copy_from_slice(&stored[..head.len()]);
        rest.fill(0);
    } else {
        file.replay(&page.deltas[..version], range, out);
    }
}
