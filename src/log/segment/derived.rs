//! The one writer of files that are made from batches: the indexes of a segment, and snapshots of
//! its producers. Nothing vouches for such a file before it is synced, and nothing is lost with it.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::log::files::checkpoint::replace_file;
use crate::log::files::names::FileKind;
use crate::log::index::transaction_index;
use crate::log::producers::transactions::AbortedTransaction;
use crate::log::segment::state::{FileProof, IndexProofs};
use crate::log::segment::summary::SegmentIndexes;
use crate::storage::{File, Storage};
use crate::sync::Arc;

/// The way of a derived file to the disk.
pub(in crate::log) enum Durability<'a> {
    /// Each takes the place of what is there, another program's perhaps, as a whole and durably.
    Replaced,
    /// Whoever collects them syncs them. An empty file where there was none, or an empty one, has
    /// only its name to be synced, which the folder's sync does.
    Collected(&'a mut Vec<Arc<dyn File>>),
}

/// The writer of derived files.
pub(in crate::log) struct DerivedFiles<'a> {
    pub storage: &'a dyn Storage,
    pub durability: Durability<'a>,
}

impl DerivedFiles<'_> {
    /// Writes one file.
    ///
    /// # Errors
    /// `Io`, `StorageFull`.
    pub fn write(&mut self, path: &Path, bytes: &[u8]) -> Result<FileProof> {
        let storage = self.storage;
        let create = || {
            let file = storage.create_cold(path)?;
            if !bytes.is_empty() {
                file.write_at(0, bytes)?;
            }
            Ok(file)
        };
        let failed = |error: io::Error| Error::io(error, "cannot write a derived file", path);
        match &mut self.durability {
            Durability::Replaced => replace_file(storage, path, bytes)?,
            Durability::Collected(unsynced) => {
                let was_filled = storage.metadata(path).is_ok_and(|found| found.len > 0);
                let file = create().map_err(failed)?;
                unsynced.extend((was_filled || !bytes.is_empty()).then_some(file));
            }
        }
        Ok(FileProof::of(bytes))
    }

    /// Writes the index files of a segment where `path_of` says. As in Kafka there is a transaction
    /// index where a transaction was aborted only: one that stands there is stale.
    ///
    /// # Errors
    /// `Io`, `StorageFull`.
    pub fn write_indexes(
        &mut self,
        path_of: impl Fn(FileKind) -> PathBuf,
        indexes: &SegmentIndexes,
        aborted: &[AbortedTransaction],
    ) -> Result<IndexProofs> {
        let index = self.write(&path_of(FileKind::OffsetIndex), &indexes.offsets.to_bytes())?;
        let time_index = self.write(&path_of(FileKind::TimeIndex), &indexes.times.to_bytes())?;
        let path = path_of(FileKind::TransactionIndex);
        let transaction_index = match aborted.is_empty() {
            false => self.write(&path, &transaction_index::to_bytes(aborted))?,
            true => match self.storage.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io(error, "cannot remove", &path));
                }
                _ => FileProof::of(&[]),
            },
        };
        Ok(IndexProofs {
            index: Some(index),
            time_index: Some(time_index),
            transaction_index: Some(transaction_index),
        })
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::storage::Heap;

    fn names(storage: &dyn Storage) -> Vec<String> {
        let mut names: Vec<_> = storage.list(Path::new("/t")).unwrap();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        names.into_iter().map(|entry| entry.name).collect()
    }

    fn path_of(kind: FileKind) -> PathBuf {
        Path::new("/t").join(crate::log::files::names::file_name(0, kind))
    }

    /// Each way leaves the same files, whatever stood there before.
    #[test]
    fn the_ways_to_the_disk_differ_in_nothing_else() {
        let row = AbortedTransaction {
            producer_id: 1,
            first_offset: 0,
            last_offset: 4,
            last_stable_offset: 5,
        };
        let mut indexes = SegmentIndexes::default();
        indexes.offsets.push(3, 77);
        for way in 0..2 {
            let storage = Heap::new();
            storage.create_dir(Path::new("/t")).unwrap();
            let mut unsynced = Vec::new();
            let mut files = DerivedFiles {
                storage: &storage,
                durability: match way {
                    0 => Durability::Replaced,
                    _ => Durability::Collected(&mut unsynced),
                },
            };
            let proofs = files.write_indexes(path_of, &indexes, &[row]).unwrap();
            assert_eq!(proofs.index, Some(FileProof::of(&indexes.offsets.to_bytes())), "{way}");
            assert_eq!(names(&storage).len(), 3, "{way}");
            let proofs = files.write_indexes(path_of, &SegmentIndexes::default(), &[]).unwrap();
            assert_eq!(proofs.transaction_index, Some(FileProof::of(&[])), "{way}");
            let kept = ["00000000000000000000.index", "00000000000000000000.timeindex"];
            assert_eq!(names(&storage), kept, "{way}");
            let len = storage.metadata(&path_of(FileKind::OffsetIndex)).unwrap().len;
            assert_eq!(len, 0, "{way}: nothing of the file before is left");
            // The first index and its aborts; the index that was emptied.
            let due = if way == 1 { 3 } else { 0 };
            assert_eq!(unsynced.len(), due, "{way}");
        }
    }
}
