//! The tree of names of the storages that live in memory.
//!
//! A call is planned first, with the errors that a file system would give, and then applied as
//! an [`Edit`] on numbered nodes, so that the simulator can record it and replay it.

use super::{DirEntry, invalid};
use crate::sync::Arc;
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

/// Number of a file or directory, never used twice.
pub(super) type Ino = u64;

/// The directory that everything is in.
pub(super) const ROOT: Ino = 0;

/// A file, or a directory with `D` beside its entries.
#[derive(Debug, Clone)]
pub(super) enum Node<F, D> {
    File(F),
    Dir(BTreeMap<Arc<str>, Ino>, D),
}

/// A change of names.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    Link { dir: Ino, name: Arc<str>, ino: Ino },
    Unlink { dir: Ino, name: Arc<str> },
    Rename { from: (Ino, Arc<str>), to: (Ino, Arc<str>), ino: Ino },
}

#[derive(Debug, Clone)]
pub(super) struct Tree<F, D> {
    pub(super) nodes: BTreeMap<Ino, Node<F, D>>,
    next: Ino,
}

fn name_of(component: Component<'_>) -> io::Result<Option<&str>> {
    match component {
        Component::RootDir | Component::CurDir | Component::Prefix(_) => Ok(None),
        Component::ParentDir => Err(invalid("a path in memory goes up")),
        Component::Normal(name) => {
            name.to_str().map(Some).ok_or_else(|| invalid("a path in memory is UTF-8"))
        }
    }
}

impl<F, D: Default> Tree<F, D> {
    pub(super) fn new() -> Tree<F, D> {
        let root = Node::Dir(BTreeMap::new(), D::default());
        Tree { nodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1 }
    }

    /// A number that no node has had.
    pub(super) fn next_ino(&self) -> Ino {
        self.next
    }

    pub(super) fn insert(&mut self, ino: Ino, node: Node<F, D>) {
        self.next = self.next.max(ino + 1);
        self.nodes.insert(ino, node);
    }

    pub(super) fn entries(&self, dir: Ino) -> io::Result<&BTreeMap<Arc<str>, Ino>> {
        match self.nodes.get(&dir) {
            Some(Node::Dir(entries, _)) => Ok(entries),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Ino> {
        let mut at = ROOT;
        for component in path.components() {
            if let Some(name) = name_of(component)? {
                at = *self.entries(at)?.get(name).ok_or(io::ErrorKind::NotFound)?;
            }
        }
        Ok(at)
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<(Ino, &F)> {
        let ino = self.find(path)?;
        match self.nodes.get(&ino) {
            Some(Node::File(file)) => Ok((ino, file)),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The directory of `path`, and the last name.
    fn split(&self, path: &Path) -> io::Result<(Ino, Arc<str>)> {
        let last = path.components().next_back().ok_or_else(|| invalid("an empty path"))?;
        let name = name_of(last)?.ok_or(io::ErrorKind::AlreadyExists)?;
        let dir = self.find(path.parent().unwrap_or(Path::new("")))?;
        self.entries(dir)?;
        Ok((dir, name.into()))
    }

    pub(super) fn plan_link(&self, path: &Path) -> io::Result<Edit> {
        let (dir, name) = self.split(path)?;
        if self.entries(dir)?.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(Edit::Link { dir, name, ino: self.next_ino() })
    }

    pub(super) fn plan_unlink(&self, path: &Path, is_dir: bool) -> io::Result<Edit> {
        let (dir, name) = self.split(path)?;
        let ino = self.entries(dir)?.get(&name).ok_or(io::ErrorKind::NotFound)?;
        match (self.nodes.get(ino), is_dir) {
            (Some(Node::Dir(..)), false) => Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(_)), true) => Err(io::ErrorKind::NotADirectory.into()),
            (Some(Node::Dir(entries, _)), true) if !entries.is_empty() => {
                Err(io::ErrorKind::DirectoryNotEmpty.into())
            }
            _ => Ok(Edit::Unlink { dir, name }),
        }
    }

    pub(super) fn plan_rename(&self, from: &Path, to: &Path) -> io::Result<Edit> {
        let source = self.split(from)?;
        let target = self.split(to)?;
        let ino = *self.entries(source.0)?.get(&source.1).ok_or(io::ErrorKind::NotFound)?;
        let is_dir = matches!(self.nodes.get(&ino), Some(Node::Dir(..)));
        if is_dir && to.starts_with(from) && from != to {
            return Err(invalid("a directory moved into itself"));
        }
        if let Some(replaced) = self.entries(target.0)?.get(&target.1) {
            match self.nodes.get(replaced) {
                Some(Node::Dir(..)) if !is_dir => {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                Some(Node::File(_)) if is_dir => {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
                Some(Node::Dir(entries, _)) if !entries.is_empty() && *replaced != ino => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                _ => {}
            }
        }
        Ok(Edit::Rename { from: source, to: target, ino })
    }

    /// Carries out a planned edit on the entries. Returns the node that lost its name.
    pub(super) fn apply(&mut self, edit: &Edit) -> Option<Ino> {
        match edit {
            Edit::Link { dir, name, ino } => self.set_entry(*dir, name, Some(*ino)),
            Edit::Unlink { dir, name } => self.set_entry(*dir, name, None),
            Edit::Rename { from, to, ino } => {
                self.set_entry(from.0, &from.1, None);
                self.set_entry(to.0, &to.1, Some(*ino)).filter(|replaced| replaced != ino)
            }
        }
    }

    fn set_entry(&mut self, dir: Ino, name: &Arc<str>, ino: Option<Ino>) -> Option<Ino> {
        let Some(Node::Dir(entries, _)) = self.nodes.get_mut(&dir) else { return None };
        match ino {
            Some(ino) => entries.insert(Arc::clone(name), ino),
            None => entries.remove(name),
        }
    }

    /// What stands at `path`; `describe` gives length and time of a file.
    pub(super) fn metadata(
        &self,
        path: &Path,
        describe: impl Fn(&F) -> (u64, i64),
    ) -> io::Result<DirEntry> {
        let ino = self.find(path)?;
        let name = match path.components().next_back() {
            Some(last) => name_of(last)?.unwrap_or(""),
            None => "",
        };
        Ok(self.describe(name, ino, &describe))
    }

    /// The entries of `dir`, sorted by name.
    pub(super) fn list(
        &self,
        dir: &Path,
        describe: impl Fn(&F) -> (u64, i64),
    ) -> io::Result<Vec<DirEntry>> {
        let entries = self.entries(self.find(dir)?)?;
        Ok(entries.iter().map(|(name, ino)| self.describe(name, *ino, &describe)).collect())
    }

    fn describe(&self, name: &str, ino: Ino, file: &impl Fn(&F) -> (u64, i64)) -> DirEntry {
        let (is_dir, (len, modified_ms)) = match self.nodes.get(&ino) {
            Some(Node::File(node)) => (false, file(node)),
            _ => (true, (0, 0)),
        };
        let name = name.to_owned();
        DirEntry {
            name,
            is_dir,
            is_link: false,
            is_special: false,
            len,
            allocated: len,
            modified_ms,
        }
    }
}
