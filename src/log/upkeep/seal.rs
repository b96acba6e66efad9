//! Sealing retired segments: the cut and the index files, then the syncs of segment, index files
//! and folder.
//!
//! A crash in between leaves what recovery knows: a file that is longer than its batches while
//! the next one begins where they end (an uncut seal), or index files that nothing vouches for.
//! All is written before the first sync: a file system with a journal then makes the names, the
//! lengths and the sizes durable by one commit of it, and by one for each otherwise. Never on an
//! appender's thread.

use crate::error::{Error, ErrorKind, Result};
use crate::log::Log;
use crate::log::lifecycle::close::UnsyncedSegment;
use crate::log::lifecycle::open::Upkeep;
use crate::log::segment::Segment;
use crate::log::segment::derived::{DerivedFiles, Durability};
use crate::log::segment::state::IndexProofs;
use crate::storage::File;
use crate::storage::planted::{Planted, planted};
use crate::sync::Arc;

impl Log {
    /// Seals the oldest retired segment. Returns whether more are left.
    ///
    /// # Errors
    /// `StorageFailed` if the segment's sync fails, which makes the partition read-only; `Io` and
    /// `StorageFull` for its index files: the segment stays retired, and a later step goes on.
    pub fn seal_step(&self) -> Result<bool> {
        let mut upkeep = self.upkeep.lock();
        if !self.is_writable() {
            return Ok(false);
        }
        if let Some(segment) = self.segments.oldest_retired() {
            let proofs = self.seal_files(&mut upkeep, &segment)?;
            segment.seal(proofs);
            self.env.mapped.touch(&segment);
            self.env.counters.seals.one();
        }
        self.write_snapshots(&mut upkeep)?;
        Ok(self.segments.oldest_retired().is_some())
    }

    /// Whether a segment waits to be sealed.
    pub fn has_retired(&self) -> bool {
        self.segments.oldest_retired().is_some()
    }

    /// Makes the files of a segment without a writer final, and durable.
    fn seal_files(&self, upkeep: &mut Upkeep, segment: &Arc<Segment>) -> Result<IndexProofs> {
        let finished = self.finish_files(upkeep, segment)?;
        self.sync_files(upkeep, finished)
    }

    /// Makes the files of a segment without a writer final. No sync is made.
    ///
    /// # Errors
    /// As [`Log::seal_step`].
    pub(in crate::log) fn finish_files(
        &self,
        _: &mut Upkeep,
        segment: &Arc<Segment>,
    ) -> Result<UnsyncedSegment> {
        // The page preparer has let go: it takes the active segment anew under this lock.
        drop(self.growing.lock());
        let extent = segment.extent();
        let file = match segment.appending_file() {
            Some(file) => file,
            None => self.open_to_cut(segment)?,
        };
        let failed = |error, doing| Error::io(error, doing, segment.path());
        let at_home = |error| self.at_home(error);
        let len = file.len().map_err(|e| at_home(failed(e, "cannot look at the segment")))?;
        if len < extent.size_bytes {
            let cut = "the segment is shorter than its batches: another program cut it";
            let cut = Error::new(ErrorKind::StorageFailed, cut).with_path(segment.path());
            return Err(self.storage_failed(cut));
        }
        if len > extent.size_bytes {
            file.set_len(extent.size_bytes)
                .map_err(|e| at_home(failed(e, "cannot cut the segment")))?;
        }
        let is_due = !segment.is_synced() || len > extent.size_bytes;
        let mut indexes = Vec::new();
        let proofs = self.write_indexes(segment, &mut indexes)?;
        let (segment, file) = (segment.clone(), is_due.then_some(file));
        Ok(UnsyncedSegment { segment, file, indexes, proofs })
    }

    /// Makes the files of a finished segment durable, and their names.
    ///
    /// # Errors
    /// As [`Log::seal_step`].
    pub(in crate::log) fn sync_files(
        &self,
        _: &mut Upkeep,
        finished: UnsyncedSegment,
    ) -> Result<IndexProofs> {
        let UnsyncedSegment { segment, file, indexes, proofs } = finished;
        let failed = |error, doing| Error::io(error, doing, segment.path());
        if let Some(file) = file {
            self.env.counters.syncs.one();
            file.sync_data().map_err(|e| self.sync_failed(failed(e, "cannot sync")))?;
            segment.set_synced();
        }
        for index in indexes {
            let synced = index.sync_data();
            synced.map_err(|e| self.at_home(failed(e, "cannot sync an index of")))?;
        }
        let dir = &self.id.dir;
        let synced = self.env.storage.sync_dir(dir);
        synced.map_err(|e| self.sync_failed(Error::io(e, "cannot sync", dir)))?;
        Ok(proofs)
    }

    fn open_to_cut(&self, segment: &Segment) -> Result<Arc<dyn File>> {
        let opened = self.env.storage.open_append(segment.path(), 0);
        opened.map_err(|e| self.at_home(Error::io(e, "cannot open the segment", segment.path())))
    }

    /// Writes the derived files of a segment without a writer; `unsynced` gets those that have
    /// something to be synced.
    fn write_indexes(
        &self,
        segment: &Arc<Segment>,
        unsynced: &mut Vec<Arc<dyn File>>,
    ) -> Result<IndexProofs> {
        let indexes = self.indexes_of(segment)?;
        if planted(Planted::AbortIndexLost) {
            segment.set_aborted(Vec::new());
        }
        let path_of = |kind| segment.path_of(kind);
        let written =
            self.derived_files(unsynced).write_indexes(path_of, &indexes, &segment.aborted());
        written.map_err(|error| self.at_home(error))
    }

    /// A writer of derived files that are synced later on: `unsynced` gets them.
    pub(in crate::log) fn derived_files<'a>(
        &'a self,
        unsynced: &'a mut Vec<Arc<dyn File>>,
    ) -> DerivedFiles<'a> {
        let durability = Durability::Collected(unsynced);
        DerivedFiles { storage: &*self.env.storage, durability }
    }
}
