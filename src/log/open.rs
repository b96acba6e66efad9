//! Opening a log's folder, and what precedes the first change that a life makes to it.
//!
//! Opening only reads. The first append of a life enters it (clean mark, incarnation), makes the
//! folder if there is none, finishes what recovery left open, and takes the last segment over, or
//! a new one where another program made the last.

use super::active::{Active, FIRST_STEP_BYTES};
use super::epochs::{EpochChain, LEADER_EPOCH_CHECKPOINT};
use super::partition_metadata::{PARTITION_METADATA, format_partition_metadata};
use super::roll::map_bytes;
use super::segment::{Segment, Stage};
use super::state::{LogState, Trust};
use super::{Log, STABLE};
use crate::config::LogConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::planted::{Planted, planted};
use crate::sync::{Arc, Ordering};

/// What lies under the lock of slow work.
#[derive(Debug)]
pub(super) struct Upkeep {
    /// What the broker knew when the log was made; its segments move into the list.
    pub state: LogState,
    pub trust: Trust,
    /// The folder exists and its parent has it.
    pub folder: bool,
    /// The leader epoch of this life, once it changed anything here.
    pub leader_epoch: Option<i32>,
    /// Bytes behind the last segment's batches that are not all zero.
    pub torn: Option<std::ops::Range<u64>>,
    pub closed: bool,
}

impl Upkeep {
    pub fn new(state: LogState, trust: Trust) -> Upkeep {
        Upkeep { state, trust, folder: false, leader_epoch: None, torn: None, closed: false }
    }
}

impl Log {
    /// Opens the folder, unless that was done.
    #[cold]
    pub(super) fn open(&self) -> Result<()> {
        let mut upkeep = self.upkeep.lock();
        self.open_locked(&mut upkeep)
    }

    pub(super) fn open_locked(&self, upkeep: &mut Upkeep) -> Result<()> {
        if self.borders.opened.load(Ordering::Acquire) {
            return Ok(());
        }
        if upkeep.closed {
            return Err(self.closed());
        }
        if !matches!(upkeep.trust, Trust::New | Trust::Clean) {
            let message = "recovery is not part of this slice";
            return Err(self.at_home(Error::new(ErrorKind::IllegalState, message)));
        }
        let storage = &self.env.storage;
        let dir = &self.id.dir;
        upkeep.folder = storage.exists(dir).map_err(|e| Error::io(e, "cannot look for", dir))?;
        let found = std::mem::take(&mut upkeep.state.segments);
        let last = found.len().saturating_sub(1);
        {
            let mut segments = self.segments.write();
            for (at, state) in found.iter().enumerate() {
                let stage = match state.sealed {
                    true => Stage::Sealed,
                    false if at == last => Stage::Found,
                    false => Stage::Retired,
                };
                segments.push_back(Arc::new(Segment::found(dir, state, stage)));
            }
        }
        if let Some(segment) = self.segments.read().back() {
            segment.set_aborted(std::mem::take(&mut upkeep.state.aborted));
        }
        let state = &upkeep.state;
        let mut end = state.log_end_offset;
        if planted(Planted::OffByOneInLeo) {
            end += 1;
        }
        let unstable = state.open_transactions.iter().map(|open| open.first_offset).min();
        self.borders.start.store(state.log_start_offset, Ordering::Release);
        self.borders.unstable.store(unstable.unwrap_or(STABLE), Ordering::Release);
        self.borders.end.store(end, Ordering::Release);
        self.commit.advance(state.recovery_point);
        let mut writer = self.writer.lock();
        writer.next_offset = end;
        writer.last_batch = state.last_batch;
        drop(writer);
        // Release: pairs with the Acquire in `known` and `opened`.
        self.borders.known.store(true, Ordering::Release);
        self.borders.opened.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes the log ready for its first append of this life.
    pub(super) fn make_ready(&self, now_ms: i64) -> Result<()> {
        let mut upkeep = self.upkeep.lock();
        self.open_locked(&mut upkeep)?;
        let config = {
            let writer = self.writer.lock();
            if let Some(refusal) = &writer.refusal {
                return Err(refusal.clone());
            }
            if writer.active.is_some() {
                return Ok(());
            }
            writer.config.clone()
        };
        self.enter_life(&mut upkeep)?;
        let active = self.take_over(&mut upkeep, &config, now_ms)?;
        let mut writer = self.writer.lock();
        writer.leader_epoch = upkeep.leader_epoch.unwrap_or(-1);
        let last = self.segments.read().back().map(|segment| segment.base_offset);
        if last == Some(active.segment.base_offset) {
            writer.active = Some(active);
        } else {
            self.install(&mut writer, active);
        }
        Ok(())
    }

    /// Precedes every change that this life makes to the partition's folder.
    pub(super) fn enter_life(&self, upkeep: &mut Upkeep) -> Result<()> {
        if upkeep.leader_epoch.is_some() {
            return Ok(());
        }
        let incarnation = self.env.gate.enter()?;
        let storage = &*self.env.storage;
        let dir = &self.id.dir;
        let end = self.borders.end.load(Ordering::Acquire);
        // Epochs never fall, also where another program's are higher than this life's.
        let mut epochs = self.writer.lock().epochs.clone();
        let latest = epochs.latest();
        let epoch = latest.map_or(incarnation, |latest| incarnation.max(latest.saturating_add(1)));
        epochs.assign(epoch, end);
        if upkeep.folder {
            // Durable before the first batch carries it.
            epochs.write(storage, dir)?;
        } else {
            self.make_folder(&epochs)?;
            upkeep.folder = true;
        }
        self.writer.lock().epochs = epochs;
        upkeep.leader_epoch = Some(epoch);
        Ok(())
    }

    /// Makes the folder and its two small files. Nothing is synced: there is no batch of another
    /// life in a new folder that could be taken for one of this, and a flush makes all of it
    /// durable before it claims anything.
    fn make_folder(&self, epochs: &EpochChain) -> Result<()> {
        let storage = &self.env.storage;
        let dir = &self.id.dir;
        match storage.create_dir(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(self.at_home(Error::io(error, "cannot make the folder", dir)));
            }
            _ => {}
        }
        let mut files = Vec::new();
        let metadata = format_partition_metadata(self.id.topic_id);
        let small = [(PARTITION_METADATA, metadata), (LEADER_EPOCH_CHECKPOINT, epochs.to_text())];
        for (name, text) in small {
            let path = dir.join(name);
            let file = storage.create_cold(&path).and_then(|file| {
                file.write_at(0, text.as_bytes())?;
                Ok(file)
            });
            files.push(file.map_err(|e| self.at_home(Error::io(e, "cannot write", &path)))?);
        }
        let mut writer = self.writer.lock();
        writer.names.files = files;
        writer.names.folder = true;
        writer.names.parent = true;
        Ok(())
    }

    /// The segment that this life appends to.
    fn take_over(&self, upkeep: &mut Upkeep, config: &LogConfig, now_ms: i64) -> Result<Active> {
        let end = self.borders.end.load(Ordering::Acquire);
        let last = self.segments.read().back().cloned();
        match last {
            Some(last) if last.by_us && last.stage() == Stage::Found => {
                self.resume(upkeep, last, config, now_ms)
            }
            Some(last) if last.base_offset == end => {
                // Empty, and not ours to go on with: a file of ours takes its place.
                self.segments.write().pop_back();
                self.create_segment(config, end, FIRST_STEP_BYTES, now_ms)
            }
            Some(last) => {
                if last.stage() == Stage::Found {
                    last.set_stage(Stage::Retired);
                }
                self.create_segment(config, end, FIRST_STEP_BYTES, now_ms)
            }
            None => self.create_segment(config, end, FIRST_STEP_BYTES, now_ms),
        }
        .map_err(|error| self.at_home(error))
    }

    /// Goes on with the last segment of an earlier life of ours.
    fn resume(
        &self,
        upkeep: &mut Upkeep,
        segment: Arc<Segment>,
        config: &LogConfig,
        now_ms: i64,
    ) -> Result<Active> {
        let extent = segment.extent();
        let indexes = (*self.indexes_of(&segment)?).clone();
        let path = segment.path().to_path_buf();
        let failed = |error, doing: &str| Error::io(error, doing, &path);
        let map = map_bytes(config).max(extent.size_bytes);
        let file = self
            .env
            .storage
            .open_append(&path, map)
            .map_err(|error| failed(error, "cannot open the segment"))?;
        let mut active =
            self.activate(segment.clone(), file.clone(), extent, indexes, config, now_ms)?;
        if let Some(torn) = &upkeep.torn
            && !planted(Planted::NoTailZero)
        {
            // What a power cut left behind the end must not come back behind new batches: R2.
            let from = active.position;
            let to = active.prepared().max(from);
            active.region.zero(from..to);
            file.sync_data().map_err(|error| failed(error, "cannot sync the zeroed tail"))?;
            self.env.counters.torn_bytes_zeroed.add(torn.end - torn.start);
        }
        upkeep.torn = None;
        segment.resume(file);
        Ok(active)
    }

    /// Makes the files what opening decided they are.
    pub(super) fn finish_repairs(&self, _: &mut Upkeep) -> Result<()> {
        Ok(())
    }

    pub(super) fn closed(&self) -> Error {
        self.at_home(Error::new(ErrorKind::Closed, "the log is closed"))
    }
}
