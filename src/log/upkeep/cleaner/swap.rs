//! A cleaned segment takes the place of those that it was made of.
//!
//! Its files are complete and durable under names that end in `.cleaned`; then, in this order:
//! they are named `.swap`, durably; the list of segments changes; the state file is told; the old
//! files go, durably; the new ones get their names. A crash before all of them are `.swap` leaves
//! the old segments, one behind it the new one, whatever else it interrupts
//! (`LocalLog.replaceSegments`). Readers of the old segments keep what they have open.

use std::path::Path;

use super::cleaned::{FinishedSegment, staged_path};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::log::files::names::{FileKind, FileStage};
use crate::log::lifecycle::open::Upkeep;
use crate::log::segment::state::LastBatch;
use crate::log::segment::swap::Swap;
use crate::log::segment::{Segment, Stage};
use crate::sync::Arc;

impl Log {
    /// Puts a cleaned segment in the place of `old`. False, and nothing is changed, where these
    /// are not all there any more. What it lacks is gone on the word of what the log has below
    /// `vouched_end`.
    ///
    /// # Durability
    /// After `Ok(true)` the change survives power loss.
    ///
    /// # Errors
    /// `Io`; `StorageFailed` for a failed sync. [`Log::is_swapping`] says whether the change has
    /// happened for readers, and is only to be finished.
    pub(in crate::log) fn swap_in(
        &self,
        old: &[Arc<Segment>],
        finished: FinishedSegment,
        vouched_end: i64,
    ) -> Result<bool> {
        let mut upkeep = self.upkeep.lock();
        let held = old.iter().all(|segment| self.segments.holds(segment));
        if !self.is_writable() || !held {
            return Ok(false);
        }
        self.finish_swaps(&mut upkeep)?;
        // What is kept of the log reaches behind the segments that it names, and no marker or batch
        // may be lost because of which another one went.
        let end = old.last().map_or(0, |last| last.extent().next_offset).max(vouched_end);
        if self.commit.durable() < end {
            self.make_durable(end)?;
        }
        // A crash from here on finds the old segments recorded whole.
        self.env.gate.record(self)?;
        self.name_swap(&finished)?;
        let new = self.cleaned_segment(&finished)?;
        // The producers before it are who they were.
        if let Some(first) = old.first().filter(|first| first.base_offset == new.base_offset) {
            new.set_snapshot(first.snapshot());
        }
        if !self.replace(old, &new, finished.last_batch) {
            self.remove_staged(&finished, FileStage::Swap);
            return Ok(false);
        }
        upkeep.swaps.push_back(Swap { new, old: old.to_vec(), kinds: finished.kinds });
        self.finish_swaps(&mut upkeep)?;
        // That of the segment behind waited for what lay before it to be durable.
        self.write_snapshots(&mut upkeep)?;
        Ok(true)
    }

    /// Whether the names of a cleaned segment are still to be changed.
    pub(in crate::log) fn is_swapping(&self, base_offset: i64) -> bool {
        self.upkeep.lock().swaps.iter().any(|swap| swap.new.base_offset == base_offset)
    }

    /// Names the cleaned files `.swap`, durably. Where that fails, none of them stays.
    fn name_swap(&self, finished: &FinishedSegment) -> Result<()> {
        let storage = &*self.env.storage;
        let dir = &self.id.dir;
        let base = finished.state.extent.base_offset;
        let path = |kind, stage| staged_path(dir, base, kind, stage);
        for kind in &finished.kinds {
            let (from, to) = (path(*kind, FileStage::Cleaned), path(*kind, FileStage::Swap));
            if let Err(error) = storage.rename(&from, &to) {
                let error = Error::io(error, "cannot rename", &from);
                // As long as one file is `.cleaned`, those that are `.swap` do not count.
                self.remove_staged(finished, FileStage::Swap);
                return Err(error);
            }
        }
        let synced = storage.sync_dir(dir);
        synced.map_err(|e| self.sync_failed(Error::io(e, "cannot sync", dir)))
    }

    /// Removes files that do not count, as far as that is possible: an opening leaves them out.
    fn remove_staged(&self, finished: &FinishedSegment, stage: FileStage) {
        for kind in &finished.kinds {
            let path = staged_path(&self.id.dir, finished.state.extent.base_offset, *kind, stage);
            drop(self.env.storage.remove(&path));
        }
    }

    fn cleaned_segment(&self, finished: &FinishedSegment) -> Result<Arc<Segment>> {
        let state = &finished.state;
        let dir = &self.id.dir;
        let path = staged_path(dir, state.extent.base_offset, FileKind::Log, FileStage::Live);
        let swap = staged_path(dir, state.extent.base_offset, FileKind::Log, FileStage::Swap);
        let file = self.env.storage.open(&swap);
        let file = file.map_err(|e| Error::io(e, "cannot open the cleaned segment", &swap))?;
        let segment = Segment::found(path, state, Stage::Sealed);
        segment.set_aborted(finished.aborted.clone());
        let mut indexes = finished.indexes.clone();
        indexes.thin(crate::log::segment::summary::INDEX_ENTRIES_MAX);
        segment.set_indexes(Arc::new(indexes));
        segment.pin(file);
        Ok(Arc::new(segment))
    }

    /// Changes the list, and what is known of the last batch if it lies there. False where the old
    /// segments are not in it any more.
    fn replace(
        &self,
        old: &[Arc<Segment>],
        new: &Arc<Segment>,
        last_batch: Option<LastBatch>,
    ) -> bool {
        let moved = |last: &mut Option<LastBatch>| {
            let inside = |last: &LastBatch| old.iter().any(|old| old.base_offset == last.segment);
            if last.as_ref().is_some_and(inside) {
                *last = last_batch;
            }
        };
        // Whoever writes down what the log has come to sees both, or neither.
        let mut synced = self.synced.lock();
        let mut writer = self.writer.lock();
        if !self.segments.replace(old, std::slice::from_ref(new)) {
            return false;
        }
        moved(&mut writer.last_batch);
        if let Some(synced) = &mut *synced {
            moved(&mut synced.last_batch);
        }
        drop(writer);
        drop(synced);
        for segment in old {
            self.env.mapped.forget(segment);
        }
        true
    }

    /// Finishes changes of names, oldest first.
    ///
    /// # Errors
    /// Those of the state file, of the removals and of the syncs: another call goes on.
    pub(in crate::log) fn finish_swaps(&self, upkeep: &mut Upkeep) -> Result<()> {
        while let Some(swap) = upkeep.swaps.front() {
            // Nothing of the old segments goes before the new one is known.
            self.env.gate.record(self)?;
            if self.remove_old(swap)? {
                self.sync_folder()?;
            }
            self.take_names(swap)?;
            swap.new.unpin();
            self.env.mapped.touch(&swap.new);
            upkeep.swaps.pop_front();
        }
        Ok(())
    }

    /// Removes the files that no file of the new segment replaces. Returns whether there were any.
    fn remove_old(&self, swap: &Swap) -> Result<bool> {
        let (dir, mut any) = (&self.id.dir, false);
        for old in &swap.old {
            let same = old.base_offset == swap.new.base_offset;
            for kind in FileKind::ALL {
                if same && (swap.kinds.contains(&kind) || kind == FileKind::Snapshot) {
                    continue;
                }
                any |=
                    self.remove_one(&staged_path(dir, old.base_offset, kind, FileStage::Live))?;
            }
        }
        Ok(any)
    }

    /// Gives the new segment's files their names, durably: another swap of this segment takes the
    /// names that they had.
    fn take_names(&self, swap: &Swap) -> Result<()> {
        let (dir, base) = (&self.id.dir, swap.new.base_offset);
        for kind in &swap.kinds {
            let from = staged_path(dir, base, *kind, FileStage::Swap);
            let to = staged_path(dir, base, *kind, FileStage::Live);
            match self.env.storage.rename(&from, &to) {
                // Renamed by an earlier call that failed later on.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io(error, "cannot rename", &from)),
                Ok(()) => {}
            }
        }
        self.sync_folder()
    }

    /// Removes a file. False where there was none.
    fn remove_one(&self, path: &Path) -> Result<bool> {
        match self.env.storage.remove(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(error, "cannot remove", path)),
        }
    }

    /// Makes the names in the folder durable.
    pub(in crate::log) fn sync_folder(&self) -> Result<()> {
        let dir = &self.id.dir;
        let synced = self.env.storage.sync_dir(dir);
        synced.map_err(|e| self.sync_failed(Error::io(e, "cannot sync", dir)))
    }
}
