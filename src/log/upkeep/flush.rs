//! Making a log durable.
//!
//! A flush syncs what is not durable yet, oldest first: small files of a new folder, retired
//! segments, the folder's entries, the active segment. Only then does the recovery point move.
//! No lock that an appender needs is held across a sync. A sync that fails is final: the pages it
//! was to write may be gone from memory and marked clean, so a second one would prove nothing.

use crate::error::{Error, ErrorKind, LockLost, Result};
use crate::log::DELETED;
use crate::log::append::place::After;
use crate::log::lifecycle::close::Synced;
use crate::log::phase::Phase;
use crate::log::producers::transactions::OpenTransaction;
use crate::log::read::lookup::LastExtent;
use crate::log::segment::Segment;
use crate::log::segment::state::LastBatch;
use crate::log::{Log, UnsyncedNames};
use crate::storage::planted::{Planted, planted};
use crate::storage::{File, NotBegun};
use crate::sync::Arc;
use std::path::Path;
use std::time::Duration;

/// The work of one flush, as it was under the lock.
struct Unsynced {
    /// The log end and the last segment: what is durable afterwards.
    extents: LastExtent,
    last_batch: Option<LastBatch>,
    open_transactions: Vec<OpenTransaction>,
    names: UnsyncedNames,
    active: Option<(Arc<Segment>, Arc<dyn File>)>,
}

impl Log {
    /// Makes everything appended so far durable, and moves the recovery point behind it.
    ///
    /// # Durability
    /// Survives power loss.
    ///
    /// # Errors
    /// `StorageFailed` if a sync fails or failed before: the partition takes no more appends.
    /// `Io` if it could not begin for want of a descriptor or of memory: the same call may
    /// succeed later.
    pub fn flush(&self) -> Result<()> {
        let end = self.log_end_offset()?;
        if end > self.commit.durable() {
            return self.make_durable(end);
        }
        if self.writer.lock().names.is_empty() {
            return self.commit.failure().map_or(Ok(()), Err);
        }
        self.sync_alone()
    }

    /// Makes the folders of new logs durable in their directory, by one sync for all of them. A log
    /// alone does it with its own flush.
    pub fn sync_parents(logs: &[Arc<Log>]) {
        let is_new = |log: &&Arc<Log>| log.writer.lock().names.parent;
        let new: Vec<_> = logs.iter().filter(is_new).collect();
        let [first, _, ..] = new.as_slice() else { return };
        let Some(parent) = first.id.dir.parent() else { return };
        let synced = first.env.storage.sync_dir(parent);
        let failed = synced.err().map(|error| Error::io(error, "cannot sync", parent));
        for log in new.iter().filter(|log| log.id.dir.parent() == Some(parent)) {
            match &failed {
                None => log.writer.lock().names.parent = false,
                Some(cause) => drop(log.sync_failed(cause.clone())),
            }
        }
    }

    /// Whether each append is durable before it is acknowledged.
    pub fn waits_for_sync(&self) -> bool {
        self.writer.lock().rules.flush_messages <= 1
    }

    /// Waits until everything below `upto` is durable. Of all threads that wait, one syncs.
    ///
    /// # Durability
    /// What lies below `upto` survives power loss.
    ///
    /// # Errors
    /// As [`Log::flush`]; whoever waited for the sync that failed gets its error.
    pub fn make_durable(&self, upto: i64) -> Result<()> {
        if planted(Planted::AckBeforeSync) {
            return Ok(());
        }
        self.pause_sync(upto)?;
        self.commit.wait_for(upto, || self.sync_now())
    }

    /// Syncs names and bytes, also where the log's end is durable, as the one who does.
    pub(in crate::log) fn sync_alone(&self) -> Result<()> {
        self.commit.lead(|| self.sync_now())
    }

    /// Syncs what is not durable and returns how far the log reached. Runs as the leader of the
    /// group commit: names that it takes are nobody else's to sync.
    fn sync_now(&self) -> Result<i64> {
        let began = self.env.clock.monotonic();
        let outcome = self.sync_work();
        let took = self.env.clock.monotonic().saturating_sub(began);
        crate::meter::took("topiclite_log_sync_seconds", took);
        self.note_sync(&outcome);
        outcome
    }

    fn sync_work(&self) -> Result<i64> {
        let work = self.take_work();
        if planted(Planted::RecoveryPointBeforeSync) {
            self.commit.advance_unchecked(work.extents.end());
            self.note_synced(&work);
        }
        let mut outcome = self.check_sync().and_then(|()| self.sync(&work));
        if outcome.is_err() && planted(Planted::RetryAfterEio) {
            outcome = self.sync(&work);
        }
        match outcome {
            Ok(()) => {
                let end = work.extents.end();
                self.note_synced(&work);
                Ok(end)
            }
            // The topic was deleted, and its files with it: there is nothing to be durable.
            Err(_) if self.refusal().is_some_and(|refusal| refusal.kind() == DELETED) => {
                Ok(work.extents.end())
            }
            Err(error) if NotBegun::caused(&error) => Err(self.sync_not_begun(work, error)),
            Err(error) => Err(self.sync_failed(error)),
        }
    }

    /// Leaves what a sync that could not begin was to make durable to the next one.
    #[cold]
    fn sync_not_begun(&self, work: Unsynced, cause: Error) -> Error {
        let mut writer = self.writer.lock();
        let names = &mut writer.names;
        names.files.extend(work.names.files);
        names.folder |= work.names.folder;
        names.parent |= work.names.parent;
        writer.dirty = true;
        drop(writer);
        self.announce(&After { flush: true, ..After::default() });
        self.at_home(cause)
    }

    fn note_synced(&self, work: &Unsynced) {
        let (last_batch, extents) = (work.last_batch, work.extents.clone());
        let open_transactions = work.open_transactions.clone();
        let mut synced = self.synced.lock();
        // A segment that took the place of the one that was synced goes on behind this end.
        if extents.is_listed(&self.segments) {
            *synced = Some(Synced { last_batch, extents, open_transactions });
        }
    }

    fn take_work(&self) -> Unsynced {
        let mut writer = self.writer.lock();
        writer.dirty = false;
        Unsynced {
            extents: self.last_extent_in(&writer),
            last_batch: writer.find_last_batch(),
            open_transactions: writer.producers.open(),
            names: std::mem::take(&mut writer.names),
            active: writer.active.as_ref().map(|a| (a.segment.clone(), a.file.clone())),
        }
    }

    fn sync(&self, work: &Unsynced) -> Result<()> {
        let storage = &self.env.storage;
        let dir = &self.id.dir;
        let failed = |error, path: &Path| Error::io(error, "cannot sync", path);
        for file in &work.names.files {
            match file.sync_data() {
                // Another took its name since, and was synced before that.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                synced => synced.map_err(|error| failed(error, dir))?,
            }
        }
        for segment in self.segments.all() {
            if work.active.as_ref().is_some_and(|(active, _)| Arc::ptr_eq(active, &segment)) {
                break;
            }
            if !segment.is_synced() {
                self.sync_segment(&segment)?;
            }
        }
        if work.names.folder {
            storage.sync_dir(dir).map_err(|error| failed(error, dir))?;
        }
        if work.names.parent
            && let Some(parent) = dir.parent()
        {
            storage.sync_dir(parent).map_err(|error| failed(error, parent))?;
        }
        if let Some((segment, file)) = &work.active {
            self.env.counters.syncs.one();
            file.sync_data().map_err(|error| failed(error, segment.path()))?;
        }
        Ok(())
    }

    /// Syncs a segment without a writer.
    fn sync_segment(&self, segment: &Arc<Segment>) -> Result<()> {
        let failed = |error| Error::io(error, "cannot sync", segment.path());
        let file = match segment.file() {
            Some(file) => file,
            None => match self.env.storage.open(segment.path()) {
                // A retention removed it in the meantime: nothing is left to be durable.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                other => other.map_err(failed)?,
            },
        };
        self.env.counters.syncs.one();
        file.sync_data().map_err(failed)?;
        segment.set_synced();
        Ok(())
    }

    /// Makes the partition read-only after a sync failed: R4. One that could not begin changes
    /// nothing.
    #[cold]
    pub(in crate::log) fn sync_failed(&self, cause: Error) -> Error {
        if NotBegun::caused(&cause) {
            return self.at_home(cause);
        }
        self.env.counters.sync_failures.one();
        self.fail_storage("a sync failed", cause)
    }

    /// Makes the partition read-only after its file turned out to be cut, or its disk gone.
    #[cold]
    pub(in crate::log) fn storage_failed(&self, cause: Error) -> Error {
        self.fail_storage("the disk failed, or a file was cut by another program", cause)
    }

    /// Makes the partition read-only because its disk is gone, if it was appended to and goes on.
    pub fn disk_failed(&self, cause: &Error) {
        let appends = self.writer.lock().active.is_some();
        if appends {
            self.storage_failed(cause.clone());
        }
    }

    fn fail_storage(&self, what: &str, cause: Error) -> Error {
        // No fault of the disk: the whole broker stops.
        if LockLost::caused(&cause) {
            self.give_up(&cause);
            return self.at_home(cause);
        }
        let path = cause.path().map(Path::to_path_buf).unwrap_or_else(|| self.id.dir.clone());
        let message = format!(
            "{what}, and what was appended since the last sync may be lost: the partition is \
             read-only until the directory is opened again"
        );
        let error =
            Error::new(ErrorKind::StorageFailed, message).with_path(path).with_source(cause);
        let error = self.at_home(error);
        self.fail(error.clone());
        error
    }

    /// Ends the log for appends and for who waits for a sync. Reads go on.
    pub(in crate::log) fn fail(&self, error: Error) {
        self.end(|knowledge| Phase::Failed(error.clone(), knowledge));
        self.commit.fail(error);
    }

    /// How long a record may stay unsynced by `flush.ms`; `None` where it has no limit.
    pub fn flush_interval(&self) -> Option<Duration> {
        match u64::try_from(self.writer.lock().config.flush_ms) {
            Ok(ms) if ms < i64::MAX as u64 => Some(Duration::from_millis(ms)),
            _ => None,
        }
    }
}

impl UnsyncedNames {
    fn is_empty(&self) -> bool {
        self.files.is_empty() && !self.folder && !self.parent
    }
}
