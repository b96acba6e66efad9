//! Opening a log's folder, and what precedes the first change that a life makes to it.
//!
//! Opening only reads. The first append of a life enters it (clean mark, incarnation), takes the
//! repair steps that opening decided on, makes the folder if there is none, and takes the last
//! segment over, or begins a new one where the last is not ours to go on with.

use crate::config::LogConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::log::append::place::After;
use crate::log::append::roll::map_bytes;
use crate::log::files::leader_epochs::{EpochChain, LEADER_EPOCH_CHECKPOINT};
use crate::log::files::partition_metadata::{
    PARTITION_METADATA, format_partition_metadata, read_partition_metadata,
    write_partition_metadata,
};
use crate::log::finding::Finding;
use crate::log::lifecycle::close::Closing;
use crate::log::lifecycle::stamp::stamp_of;
use crate::log::load::verify::PlannedRepair;
use crate::log::load::{OpenOptions, OpenReport, OpenedPartition, OpenedSegment, open_partition};
use crate::log::phase::{Knowledge, Phase};
use crate::log::producers::ProducerStates;
use crate::log::segment::active::{Active, FIRST_STEP_BYTES};
use crate::log::segment::state::{LogState, Trust};
use crate::log::segment::swap::Swap;
use crate::log::segment::{Segment, Stage};
use crate::log::{Log, LogDamage, NO_OPEN_TRANSACTION};
use crate::storage::planted::{Planted, planted};
use crate::sync::Arc;
use crate::topic::TopicPartition;
use std::collections::VecDeque;

/// The state that slow work shares, under its lock.
#[derive(Debug)]
pub(in crate::log) struct Upkeep {
    /// What the broker knew when the log was made.
    pub state: LogState,
    pub trust: Trust,
    /// What opening found, until its repair steps were taken.
    opened: Option<OpenedPartition>,
    pub findings: Vec<Finding>,
    pub report: OpenReport,
    /// The folder exists.
    folder: bool,
    /// Segments that are not part of the log any more, and whose files are still to be removed.
    pub doomed: VecDeque<Arc<Segment>>,
    /// Cleaned segments that are in the list, and whose files have not their names yet.
    pub swaps: VecDeque<Swap>,
    /// What the first half of a close came to, for the second one.
    pub closing: Option<Result<Closing>>,
}

impl Upkeep {
    pub fn new(state: LogState, trust: Trust) -> Upkeep {
        Upkeep {
            state,
            trust,
            opened: None,
            findings: Vec::new(),
            report: OpenReport::default(),
            folder: false,
            doomed: VecDeque::new(),
            swaps: VecDeque::new(),
            closing: None,
        }
    }
}

impl Log {
    /// Opens the folder, unless that was done.
    #[cold]
    pub(in crate::log) fn open(&self) -> Result<()> {
        self.recover(OpenOptions::default())
    }

    /// Opens the folder, unless that was done: for what [`OpenOptions`] can say of a foreign
    /// directory. Every other use opens by itself.
    ///
    /// # Errors
    /// `Io` where the disk does not answer. Damage is no error: see [`Log::refusal`].
    pub fn recover(&self, options: OpenOptions<'_>) -> Result<()> {
        let mut upkeep = self.upkeep.lock();
        self.open_with(&mut upkeep, options)
    }

    /// Whether the files of a log that nobody opened in this life are those that a close left, so
    /// that opening would find nothing. The first answer holds for this life, as opening does.
    #[cold]
    pub(in crate::log) fn stands_as_closed(&self) -> bool {
        if self.has_ended() {
            return false;
        }
        if let Some(known) = self.as_closed.get() {
            return *known;
        }
        let upkeep = self.upkeep.lock();
        *self.as_closed.get_or_init(|| {
            let left = match upkeep.trust {
                Trust::Clean if !upkeep.state.suspect => self.env.gate.stamp_of(&self.id),
                _ => None,
            };
            let found = || stamp_of(&*self.env.storage, &self.id, &upkeep.state);
            left.is_some_and(|left| found().is_some_and(|found| found.value == left))
        })
    }

    /// What opening had to say, in the order it was found, and how much work it was.
    pub fn opening(&self) -> (Vec<Finding>, OpenReport) {
        let upkeep = self.upkeep.lock();
        (upkeep.findings.clone(), upkeep.report)
    }

    pub(in crate::log) fn open_locked(&self, upkeep: &mut Upkeep) -> Result<()> {
        self.open_with(upkeep, OpenOptions::default())
    }

    fn open_with(&self, upkeep: &mut Upkeep, mut options: OpenOptions<'_>) -> Result<()> {
        if self.is_opened() {
            return Ok(());
        }
        if let Some(ended) = self.writer.lock().phase.end() {
            return Err(ended.clone());
        }
        let storage = &*self.env.storage;
        let dir = &self.id.dir;
        options.epoch_max = options.epoch_max.min(self.env.gate.epoch_max());
        options.index_interval_bytes = self.writer.lock().config.index_interval_bytes;
        let partition = TopicPartition::new(self.id.topic.clone(), self.id.partition);
        upkeep.folder = match upkeep.trust {
            Trust::New => false,
            _ => storage
                .exists(dir)
                .map_err(|e| self.at_home(Error::io(e, "cannot look for", dir)))?,
        };
        let (state, trust) = (&upkeep.state, upkeep.trust);
        let checkpoint = options.recovery_checkpoint;
        let mut opened = open_partition(storage, dir, &partition, state, trust, options)
            .map_err(|error| self.at_home(error))?;
        if self.env.cut_damage {
            let given_up = opened.end_before_damage(storage, dir, &partition);
            given_up.map_err(|error| self.at_home(error))?;
        }
        for finding in &opened.findings {
            if !finding.kind.is_note() {
                tracing::warn!("{finding}");
            }
        }
        if planted(Planted::OffByOneInLeo) {
            opened.log_end_offset += 1;
        }
        if upkeep.folder && matches!(trust, Trust::SameBoot | Trust::OtherBoot) {
            self.distrust_names()?;
        }
        upkeep.findings = std::mem::take(&mut opened.findings);
        upkeep.report = opened.report;
        if let Some(id) = opened.report.producer_id_max {
            self.env.gate.saw_producer_id(id);
        }
        if let Some(error) = &opened.read_only {
            let known_before = match trust {
                Trust::Foreign => LogState {
                    recovery_point: state.recovery_point.max(checkpoint.unwrap_or(0)),
                    ..opened.state()
                },
                _ => LogState {
                    recovery_point: state.proven_end(trust),
                    suspect: true,
                    settled: state.holds_whole(trust),
                    ..state.clone()
                },
            };
            self.damage.get_or_init(|| Box::new(LogDamage { error: error.clone(), known_before }));
        }
        self.adopt_opened(&opened, trust)?;
        upkeep.opened = Some(opened);
        Ok(())
    }

    /// What a killed process left was perhaps never synced: names and small files are, with the
    /// next flush.
    fn distrust_names(&self) -> Result<()> {
        let mut files = Vec::new();
        for name in [PARTITION_METADATA, LEADER_EPOCH_CHECKPOINT] {
            let path = self.id.dir.join(name);
            match self.env.storage.open(&path) {
                Ok(file) => files.push(file),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.at_home(Error::io(error, "cannot open", &path))),
            }
        }
        let mut writer = self.writer.lock();
        writer.names.files = files;
        writer.names.folder = true;
        writer.names.parent = true;
        Ok(())
    }

    /// Takes the borders and the segments from what was opened, and enters the phase that follows.
    fn adopt_opened(&self, opened: &OpenedPartition, trust: Trust) -> Result<()> {
        let first_unstable_offset = opened.transactions.first_unstable_offset();
        self.borders.start.publish(opened.log_start_offset);
        self.borders
            .first_unstable_offset
            .publish(first_unstable_offset.unwrap_or(NO_OPEN_TRANSACTION));
        self.borders.end.publish(opened.log_end_offset);
        self.commit.advance(opened.recovery_point);
        let mut writer = self.writer.lock();
        writer.next_offset = opened.log_end_offset;
        writer.last_batch = opened.last_batch;
        writer.epochs = opened.epochs.clone();
        let found = opened.state();
        writer.producers =
            ProducerStates::resume(&found.open_transactions, found.transactional, found.producers);
        if let Some(producers) = &opened.producers {
            writer.producers.learn(producers.clone());
        }
        writer.end_snapshot = opened.end_snapshot;
        // What is behind a link stays as a crash left it, whatever the next close claims.
        let stays = opened.link.is_some() && trust != Trust::Clean;
        writer.suspect = stays || (opened.report.foreign && opened.report.bytes_lost > 0);
        self.segments.reset(found_segments(opened));
        let refusal = match &opened.read_only {
            Some(damage) => {
                let message = "the partition is read-only up to its damage; repair the directory";
                let refusal = Error::new(ErrorKind::ReadOnly, message).at_place_of(damage);
                Some(refusal.with_source(damage.clone()))
            }
            None => opened.refusal(),
        };
        let next = match (&writer.phase, refusal) {
            (Phase::Failed(error, _), _) => Phase::Failed(error.clone(), Knowledge::Segments),
            (_, Some(refusal)) => Phase::ReadOnly(self.at_home(refusal)),
            (_, None) => Phase::Opened,
        };
        // Who waits at the end that was recorded hears where it is.
        self.enter(writer, next)
    }

    /// Makes the log ready for its first append of this life.
    pub(in crate::log) fn prepare_to_append(&self, now_ms: i64) -> Result<()> {
        let mut upkeep = self.upkeep.lock();
        self.open_locked(&mut upkeep)?;
        let config = {
            let writer = self.writer.lock();
            if let Some(refusal) = writer.phase.refusal() {
                return Err(refusal.clone());
            }
            if writer.active.is_some() {
                return Ok(());
            }
            writer.config.clone()
        };
        self.begin_epoch(&mut upkeep)?;
        let active = self.open_active_segment(&config, now_ms)?;
        let mut writer = self.writer.lock();
        writer.producers.expire_learnt(now_ms, self.env.producer_expiration_ms);
        let last = self.segments.last().map(|segment| segment.base_offset);
        if last != Some(active.segment.base_offset) {
            return self.install(&mut writer, active);
        }
        if let Some(refusal) = writer.phase.refusal() {
            active.retire();
            return Err(refusal.clone());
        }
        writer.active = Some(active);
        Ok(())
    }

    /// Makes the files what opening decided they are, without an append. What was done, in order.
    ///
    /// # Errors
    /// Why the partition is read-only; what kept a step from being taken.
    pub fn repair(&self) -> Result<Vec<PlannedRepair>> {
        let mut upkeep = self.upkeep.lock();
        self.open_locked(&mut upkeep)?;
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let planned = match &upkeep.opened {
            Some(opened) => PlannedRepair::all(opened, &self.id.dir),
            None => Vec::new(),
        };
        if !planned.is_empty() {
            self.begin_epoch(&mut upkeep)?;
        }
        Ok(planned)
    }

    /// Whether this life has changed the partition's folder, or was about to.
    pub(in crate::log) fn has_begun(&self) -> bool {
        self.writer.lock().leader_epoch >= 0
    }

    /// Precedes every change that this life makes to the partition's folder.
    pub(in crate::log) fn begin_epoch(&self, upkeep: &mut Upkeep) -> Result<()> {
        if self.has_begun() {
            return Ok(());
        }
        let incarnation = self.env.gate.enter()?;
        self.finish_repairs(upkeep)?;
        self.learn_producers(upkeep)?;
        let end = self.borders.end.load();
        let mut epochs = self.writer.lock().epochs.clone();
        // Epochs never fall, also where another program's are higher than this life's.
        let latest = epochs.latest();
        let epoch = latest.map_or(incarnation, |latest| incarnation.max(latest.saturating_add(1)));
        if epoch > incarnation {
            self.env.gate.raise(epoch)?;
        }
        epochs.assign(epoch, end);
        if upkeep.folder {
            self.claim_names(upkeep)?;
            // Durable before the first batch carries it: R2, R3.
            epochs.write(&*self.env.storage, &self.id.dir)?;
        } else {
            self.make_folder(&epochs)?;
            upkeep.folder = true;
        }
        let mut writer = self.writer.lock();
        if let Some(refusal) = writer.phase.refusal() {
            return Err(refusal.clone());
        }
        writer.epochs = epochs;
        writer.leader_epoch = epoch;
        self.enter(writer, Phase::Writable)?;
        if self.segments.oldest_retired().is_some() || self.next_snapshot().is_some() {
            self.announce(&After { seal: true, ..After::default() });
        }
        Ok(())
    }

    /// Makes the files what opening decided they are.
    pub(in crate::log) fn finish_repairs(&self, upkeep: &mut Upkeep) -> Result<()> {
        let Some(mut opened) = upkeep.opened.take() else { return Ok(()) };
        self.writer.lock().suspect = false;
        if opened.needs_finish() {
            let recorded = if opened.swaps { self.env.gate.record(self) } else { Ok(()) };
            if let Err(error) = recorded.and_then(|()| opened.finish(&*self.env.storage)) {
                self.writer.lock().suspect = opened.report.foreign;
                upkeep.opened = Some(opened);
                let failed = error.kind() == ErrorKind::StorageFailed;
                return Err(if failed { self.sync_failed(error) } else { self.at_home(error) });
            }
            // Paths, lengths and index files are others now. Readers keep what they have mapped.
            let mut synced = self.synced.lock();
            // What a flush before this noted, it noted of segments that are no longer listed.
            *synced = None;
            let replaced = self.segments.reset(found_segments(&opened));
            drop(synced);
            for segment in replaced {
                self.env.mapped.forget(&segment);
            }
            self.commit.advance(opened.recovery_point);
        }
        Ok(())
    }

    /// Has the next sync make durable what a life that did not close may have left unsynced: the
    /// folder, what is in it, and the topic's id, which is written anew where it is damaged.
    pub(in crate::log) fn claim_names(&self, upkeep: &Upkeep) -> Result<()> {
        if !upkeep.folder || matches!(upkeep.trust, Trust::New | Trust::Clean) {
            return Ok(());
        }
        let storage = &*self.env.storage;
        let dir = &self.id.dir;
        let id = self.id.topic_id;
        let mut files = Vec::new();
        if read_partition_metadata(storage, dir).is_ok_and(|found| found == Some(id)) {
            let path = dir.join(PARTITION_METADATA);
            let file = storage.open(&path);
            files.push(file.map_err(|e| self.at_home(Error::io(e, "cannot open", &path)))?);
        } else {
            write_partition_metadata(storage, dir, id).map_err(|error| self.at_home(error))?;
        }
        let mut writer = self.writer.lock();
        writer.names.files.append(&mut files);
        writer.names.folder = true;
        writer.names.parent = true;
        Ok(())
    }

    /// Makes the folder and its two small files. Nothing is synced: there is no batch of another
    /// life in a new folder that could be taken for one of this, and a flush makes all of it
    /// durable before it claims anything.
    fn make_folder(&self, epochs: &EpochChain) -> Result<()> {
        let storage = &self.env.storage;
        let dir = &self.id.dir;
        match storage.create_dir(dir) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                self.check_left_folder()?;
            }
            Err(error) => {
                return Err(self.at_home(Error::io(error, "cannot make the folder", dir)));
            }
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

    /// Says whether a folder that is there, and that nothing is known of, is one that this topic
    /// began to make: it has the topic's id, or no more than the two small files without an id.
    fn check_left_folder(&self) -> Result<()> {
        let storage = &*self.env.storage;
        let dir = &self.id.dir;
        let failed = |error| self.at_home(Error::io(error, "cannot look at the folder", dir));
        let is_link = storage.metadata(dir).map_err(failed)?.is_link;
        let begun = match read_partition_metadata(storage, dir) {
            Ok(Some(id)) => id == self.id.topic_id,
            Ok(None) | Err(_) => {
                let small = |name: &str| {
                    let name = name.strip_suffix(".tmp").unwrap_or(name);
                    name == PARTITION_METADATA || name == LEADER_EPOCH_CHECKPOINT
                };
                storage.list(dir).map_err(failed)?.iter().all(|entry| small(&entry.name))
            }
        };
        if begun && !is_link {
            return Ok(());
        }
        let message = "something that is not of this topic stands where its folder belongs; \
                       move it away, then call again";
        Err(self.at_home(Error::new(ErrorKind::Io, message).with_path(dir.as_path())))
    }

    /// The segment that this life appends to.
    fn open_active_segment(&self, config: &LogConfig, now_ms: i64) -> Result<Active> {
        let end = self.borders.end.load();
        let last = self.segments.last();
        match last {
            Some(last) if last.stage() == Stage::Closed => self.resume(last, config, now_ms),
            Some(last) if last.base_offset == end => {
                // Empty, and not ours to go on with: a file of ours takes its place.
                self.segments.pop_last();
                self.env.mapped.forget(&last);
                self.create_segment(config, end, FIRST_STEP_BYTES, now_ms)
            }
            _ => self.create_segment(config, end, FIRST_STEP_BYTES, now_ms),
        }
        .map_err(|error| self.at_home(error))
    }

    /// Goes on with the last segment of an earlier life of ours.
    fn resume(&self, segment: Arc<Segment>, config: &LogConfig, now_ms: i64) -> Result<Active> {
        let extent = segment.extent();
        let path = segment.path();
        let map = map_bytes(config).max(extent.size_bytes);
        let file = self
            .env
            .storage
            .open_append(path, map)
            .map_err(|error| Error::io(error, "cannot open the segment", path))?;
        let active = self.activate(segment.clone(), file.clone(), extent, config, now_ms)?;
        self.env.mapped.forget(&segment);
        segment.resume(file);
        Ok(active)
    }

    pub(in crate::log) fn closed(&self) -> Error {
        self.at_home(Error::new(ErrorKind::Closed, "the log is closed"))
    }
}

/// The segments as opening left them: the last one may be appended to, if it is one of those.
fn found_segments(opened: &OpenedPartition) -> Vec<Arc<Segment>> {
    let last = opened.segments.len().saturating_sub(1);
    let found = opened.segments.iter().enumerate();
    found.map(|(at, found)| found_segment(found, at == last && opened.resumable)).collect()
}

fn found_segment(found: &OpenedSegment, resumable: bool) -> Arc<Segment> {
    let stage = match found.state.sealed {
        _ if resumable => Stage::Closed,
        true => Stage::Sealed,
        false => Stage::Retired,
    };
    let segment = Segment::found(found.path.clone(), &found.state, stage);
    segment.set_aborted(found.aborted.clone());
    if let Some(indexes) = &found.indexes {
        segment.set_indexes(indexes.clone());
    }
    Arc::new(segment)
}
