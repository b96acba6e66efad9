//! The end of a log in this process, and what the broker keeps of it.

use crate::error::{Error, Result};
use crate::log::DELETED;
use crate::log::Log;
use crate::log::lifecycle::open::Upkeep;
use crate::log::lifecycle::stamp::{FolderStamp, is_as_recorded, stamp_of};
use crate::log::phase::Phase;
use crate::log::producers::transactions::OpenTransaction;
use crate::log::read::lookup::LastExtent;
use crate::log::segment::state::{EndSnapshot, FileProof, IndexProofs, LogState, Trust};
use crate::log::segment::{Segment, Stage};
use crate::storage::File;
use crate::sync::Arc;

/// The extent of a successful sync: the state file is told this, not what was appended since.
#[derive(Debug)]
pub(in crate::log) struct Synced {
    pub last_batch: Option<crate::log::segment::state::LastBatch>,
    pub extents: LastExtent,
    pub open_transactions: Vec<OpenTransaction>,
}

/// The rest of a close, which its first half leaves to the second one.
#[derive(Debug)]
pub(in crate::log) enum Closing {
    /// The log is as it was, and nothing is to be done.
    Settled(Box<LogState>),
    /// What is to be synced, oldest first.
    Finished(Vec<UnsyncedSegment>, UnsyncedSnapshots),
}

/// Snapshots of the producers whose bytes are written, and not durable.
#[derive(Debug, Default)]
pub(in crate::log) struct UnsyncedSnapshots {
    pub files: Vec<Arc<dyn File>>,
    /// Those at the beginning of these segments.
    pub segments: Vec<(Arc<Segment>, FileProof)>,
    /// That at the log end.
    pub end: Option<EndSnapshot>,
}

/// A segment whose files are final, and not durable.
#[derive(Debug)]
pub(in crate::log) struct UnsyncedSegment {
    pub segment: Arc<Segment>,
    /// The segment's own, where a sync is due.
    pub file: Option<Arc<dyn File>>,
    /// Those of the index files that have anything to be synced.
    pub indexes: Vec<Arc<dyn File>>,
    pub proofs: IndexProofs,
}

impl Log {
    /// What the state file is to keep: the log as of the last sync of this life, or as it is
    /// where there was none.
    ///
    /// # Errors
    /// None at present; opening the folder is not part of it.
    pub fn state(&self) -> Result<LogState> {
        if !self.is_opened() {
            let upkeep = self.upkeep.lock();
            if !self.is_opened() {
                return Ok(upkeep.state.clone());
            }
        }
        if let Some(damage) = self.damage.get() {
            return Ok(damage.known_before.clone());
        }
        let synced = self.synced.lock();
        let now;
        // Which transactions are open is told as of the same end: a marker behind it is read again.
        let (end, last_batch, extents, open_transactions) = match &*synced {
            Some(synced) => {
                let (extents, open) = (&synced.extents, synced.open_transactions.clone());
                (extents.end(), synced.last_batch, extents, open)
            }
            None => {
                let writer = self.writer.lock();
                now = self.last_extent_in(&writer);
                (now.end(), writer.find_last_batch(), &now, writer.producers.open())
            }
        };
        let writer = self.writer.lock();
        // A roll meanwhile only added a segment that is not known; others are not exchanged as
        // long as what was synced is locked.
        let segments = self.segments.all();
        let start = self.borders.start.load();
        let mut state = LogState {
            log_start_offset: start,
            log_end_offset: end,
            recovery_point: self.commit.durable().min(end),
            last_batch,
            epochs: writer.epochs.starts().to_vec(),
            transactional: writer.producers.is_transactional(),
            open_transactions,
            producers: writer.producers.any(),
            end_snapshot: writer.end_snapshot,
            suspect: writer.suspect,
            ..LogState::default()
        };
        drop(writer);
        for segment in segments.iter().filter(|segment| extents.knows(segment)) {
            let row = segment.state(extents.noted(segment));
            if row.proofs.transaction_index.is_none() {
                let rows = segment.aborted();
                state.aborted.extend(rows.iter().filter(|row| row.last_offset < end));
            }
            state.segments.push(row);
        }
        Ok(state)
    }

    /// The first half of [`Log::close`]: nothing can be appended or waited for any more, and
    /// everything is written. Nothing is synced: whoever closes many logs has them all written
    /// before the first sync. What went wrong is told by the second half.
    pub fn begin_close(&self) {
        let mut upkeep = self.upkeep.lock();
        if !self.has_ended() {
            let closing = self.write_all(&mut upkeep);
            upkeep.closing = Some(closing);
            self.end_by_close();
        }
    }

    /// Ends the log: nothing can be appended or waited for any more, its zeros are cut off, its
    /// index files are written, and all of it is synced. Readers keep what they have. A log that
    /// nobody touched in this life is left alone where a clean stop had closed it.
    ///
    /// # Durability
    /// After `Ok` the log survives power loss as the returned state describes it.
    ///
    /// # Errors
    /// What kept it from being opened, cut or synced. It is closed all the same, but the broker
    /// must not claim a clean stop.
    pub fn close(&self) -> Result<LogState> {
        let mut upkeep = self.upkeep.lock();
        let begun = match upkeep.closing.take() {
            Some(begun) => begun,
            None if self.has_ended() => return Err(self.closed()),
            None => self.write_all(&mut upkeep),
        };
        let outcome = match begun {
            Ok(Closing::Settled(state)) => Ok(*state),
            Ok(Closing::Finished(segments, snapshots)) => {
                self.sync_finished(&mut upkeep, segments, snapshots)
            }
            Err(error) => Err(error),
        };
        self.end_by_close();
        outcome
    }

    /// Writes what a close writes.
    fn write_all(&self, upkeep: &mut Upkeep) -> Result<Closing> {
        let opened = self.is_opened();
        let settled = matches!(upkeep.trust, Trust::New | Trust::Clean);
        if !opened && settled {
            return Ok(Closing::Settled(Box::new(upkeep.state.clone())));
        }
        self.open_locked(upkeep)?;
        self.write_opened(upkeep)
    }

    fn write_opened(&self, upkeep: &mut Upkeep) -> Result<Closing> {
        let refused = self.end_by_close();
        if let Some(failure) = self.commit.failure() {
            return Err(failure);
        }
        let touched = self.has_begun();
        let settled = matches!(upkeep.trust, Trust::New | Trust::Clean | Trust::Foreign);
        if !touched && (settled || refused.is_some()) {
            // As it was found: a directory that another program wrote stays as that left it.
            return Ok(Closing::Settled(Box::new(self.state()?)));
        }
        if !touched {
            self.finish_repairs(upkeep)?;
            self.claim_names(upkeep)?;
        }
        self.finish_swaps(upkeep)?;
        self.remove_doomed(upkeep)?;
        self.learn_producers(upkeep)?;
        let mut finished = Vec::new();
        for segment in self.segments.all() {
            if segment.stage() != Stage::Sealed {
                finished.push(self.finish_files(upkeep, &segment)?);
            }
        }
        let snapshots = self.write_last_snapshots(upkeep)?;
        Ok(Closing::Finished(finished, snapshots))
    }

    /// Makes durable what [`Log::write_all`] wrote.
    fn sync_finished(
        &self,
        upkeep: &mut Upkeep,
        finished: Vec<UnsyncedSegment>,
        snapshots: UnsyncedSnapshots,
    ) -> Result<LogState> {
        if let Some(failure) = self.commit.failure() {
            return Err(failure);
        }
        // Their names are durable with those of the segments.
        self.sync_snapshots(&snapshots, finished.is_empty())?;
        let last = self.segments.last();
        for finished in finished {
            let segment = finished.segment.clone();
            let proofs = self.sync_files(upkeep, finished)?;
            match last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &segment)) {
                // The sync of the folder that came last covered every name that is in it.
                true => {
                    segment.close(proofs);
                    self.writer.lock().names.folder = false;
                }
                false => segment.seal(proofs),
            }
        }
        self.sync_alone()?;
        self.vouch_for(snapshots)?;
        *self.synced.lock() = None;
        self.state()
    }

    /// The stamp of the files of a log that this life opened, and closed in good order; `None`
    /// where they are not as it recorded them, and where nothing can be told of them.
    pub fn folder_stamp(&self) -> Option<FolderStamp> {
        let state = self.state().ok().filter(|_| self.is_opened())?;
        let storage = &*self.env.storage;
        // First: what changes behind it changes the stamp.
        let stamp = stamp_of(storage, &self.id, &state)?;
        is_as_recorded(storage, &self.id, &state).then_some(stamp)
    }

    /// Refuses appends from here on. Returns the refusal that there was before.
    fn end_by_close(&self) -> Option<Error> {
        self.end(|knowledge| Phase::Closed(self.closed(), knowledge))
    }

    /// Stops because the directory may be another owner's: appends, and who waits for a sync, get
    /// `error`. Reads go on.
    pub fn give_up(&self, error: &Error) {
        let error = self.at_home(error.clone());
        if self.refusal().is_none_or(|refusal| refusal.kind() != error.kind()) {
            self.fail(error);
        }
    }

    /// Ends the log as the death of the process does: nothing is written, and whoever waits, or
    /// comes later, is refused.
    #[cfg(feature = "testing")]
    pub fn abandon(&self) {
        let upkeep = self.upkeep.lock();
        self.end_by_close();
        drop(upkeep);
        self.commit.fail(self.closed());
    }

    /// Ends the log because its topic is deleted: appends and reads say so. The folder is the
    /// caller's to remove; mapped bytes stay with their readers.
    ///
    /// # Errors
    /// None at present.
    pub fn delete(&self) -> Result<()> {
        let _upkeep = self.upkeep.lock();
        let deleted = self.at_home(Error::new(DELETED, "the topic was deleted"));
        self.end(|knowledge| Phase::Deleted(deleted, knowledge));
        for segment in self.segments.reset(Vec::new()) {
            self.env.mapped.forget(&segment);
        }
        Ok(())
    }
}
