//! Reading a partition without owning it: beside a running owner, or what a killed one left.
//!
//! Everything is read by pread and copied, so that whatever the owner does to a file, nothing
//! here faults. Behind the border that opening proved, each batch is believed once its CRC holds;
//! bytes that are no batch are "the end for now", and the next look may see more. A file that has
//! vanished means that retention went on: the folder is listed again. A folder of another topic
//! means that this one was deleted, and its name given away.

mod cleaning;
mod owner;
mod producers;
mod range;

use std::path::PathBuf;

use crate::config::IsolationLevel;
use crate::error::{Error, ErrorKind, Result};
use crate::log::files::names::{FileKind, file_name};
use crate::log::files::partition_metadata::read_partition_metadata;
use crate::log::finding::Finding;
use crate::log::load::opening::{OpenOptions, OpenedPartition, OpenedSegment, open_partition};
use crate::log::producers::transactions::{self, AbortedTransaction, TransactionTracker};
use crate::log::read::cursor::{Chunk, Cursor, Spot};
use crate::log::read::plain::FetchLimits;
use crate::log::read::{Steps, cut_short, is_held_dense, misplaced};
use crate::log::scan::{BatchCursor, BatchExpectations, LOOKUP_WINDOW_BYTES, SCAN_WINDOW_BYTES};
use crate::log::segment::extent::SegmentExtent;
use crate::log::segment::indexes::load_indexes;
use crate::log::segment::state::{LogState, SegmentOrigin, SegmentState, Trust};
use crate::log::segment::summary::{INDEX_INTERVAL_BYTES, SegmentIndexes, SegmentSummary};
use crate::log::segment::times::{self, TimedSegment, TimestampAndOffset, Visit};
use crate::record::{BatchHeader, DECOMPRESSED_MAX, RecordBatch};
use crate::storage::{File, Storage};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, OnceLock, Ordering, Rank, ranked_mutex};
use crate::topic::{TopicId, TopicPartition};

pub(crate) use owner::LookAgain;
use owner::StartingPoint;
use range::{FetchRange, Foothold};

/// How often the folder is listed again because a file vanished, before it is an error.
const LISTINGS_MAX: usize = 16;
/// How many files are kept open.
const FILES_MAX: usize = 4;

/// A partition that somebody else owns.
#[derive(Debug)]
pub(crate) struct AttachedLog {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    partition: TopicPartition,
    start: Mutex<StartingPoint>,
    /// A file was opened by its name since the owner was asked last.
    opened: AtomicBool,
    /// How many views of it there were.
    views: AtomicU64,
    seen: Mutex<Option<AttachedView>>,
    /// The topic's id as its folder had it when files of it were first looked at.
    topic_id: OnceLock<TopicId>,
    look_again: Option<LookAgain>,
    uncompressed_max: usize,
}

/// What was seen of the partition so far.
#[derive(Debug)]
struct AttachedView {
    /// Another one for each view of the partition: places in one are none in the next.
    number: u64,
    segments: Vec<AttachedSegment>,
    log_start_offset: i64,
    rules: BatchExpectations,
    transactions: TransactionTracker,
    /// Damage at the log end, as opening found it. A later look may find a valid batch there:
    /// then it was one in the making.
    damage: Option<Error>,
    /// Files that opening left out, by base offset and length: they are not the next segment.
    left_out: Vec<(i64, u64)>,
    findings: Vec<Finding>,
    files: Vec<(i64, Arc<dyn File>)>,
}

#[derive(Debug)]
struct AttachedSegment {
    path: PathBuf,
    /// What was vouched for when it was opened; its borders are those of `summary`.
    recorded: SegmentState,
    /// What was seen so far. Its lookups cover only what lies behind the recorded border.
    summary: SegmentSummary,
    below: Below,
}

/// The lookups of what lies below the recorded border, once they were needed.
type Below = Arc<OnceLock<Arc<SegmentIndexes>>>;

impl AttachedLog {
    /// A reader that touches nothing yet. `state` is what the owner's state file says, `trust`
    /// how much of it holds: [`Trust::SameBoot`] beside a running owner, or after a kill.
    pub fn new(
        storage: Arc<dyn Storage>,
        folder: PathBuf,
        partition: TopicPartition,
        state: LogState,
        trust: Trust,
        (log_start_checkpoint, recovery_checkpoint): (Option<i64>, Option<i64>),
    ) -> AttachedLog {
        let start = StartingPoint { state, trust, log_start_checkpoint, recovery_checkpoint };
        let topic_id = OnceLock::new();
        let seen = ranked_mutex(Rank::AttachedLog, None);
        AttachedLog {
            storage,
            folder,
            partition,
            start: Mutex::new(start),
            opened: AtomicBool::new(false),
            views: AtomicU64::new(0),
            seen,
            topic_id,
            look_again: None,
            uncompressed_max: DECOMPRESSED_MAX,
        }
    }

    /// What the records of one batch may decompress to, in bytes.
    pub fn uncompressed_max(&self) -> usize {
        self.uncompressed_max
    }

    /// The same with another limit.
    pub fn with_uncompressed_max(self, uncompressed_max: usize) -> AttachedLog {
        AttachedLog { uncompressed_max, ..self }
    }

    /// Damage is believed only of what the owner records at present.
    pub fn with_look_again(self, look_again: LookAgain) -> AttachedLog {
        AttachedLog { look_again: Some(look_again), ..self }
    }

    /// The first offset that can be read.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn log_start_offset(&self) -> Result<i64> {
        self.with(|log, seen| {
            log.notice_retention(seen)?;
            Ok(seen.log_start_offset)
        })
    }

    /// The offset of the next record, as of this moment.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn log_end_offset(&self) -> Result<i64> {
        self.end_for(IsolationLevel::ReadUncommitted)
    }

    /// The end as a reader of this isolation sees it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn end_for(&self, isolation: IsolationLevel) -> Result<i64> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            Ok(seen.end_for(isolation))
        })
    }

    /// What opening found.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn findings(&self) -> Result<Vec<Finding>> {
        self.with(|_, seen| Ok(seen.findings.clone()))
    }

    /// The end as a reader of this isolation sees it, of a log that is not damaged: nobody knows
    /// where a damaged one ends.
    ///
    /// # Errors
    /// The damage; [`ErrorKind::Io`].
    pub fn whole_end_for(&self, isolation: IsolationLevel) -> Result<i64> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            seen.damage.clone().map_or_else(|| Ok(seen.end_for(isolation)), Err)
        })
    }

    /// The damage at the log end, if there is any: why reading ends there.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn damage(&self) -> Result<Option<Error>> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            Ok(seen.damage.clone())
        })
    }

    /// The damage as of the last look.
    pub fn known_damage(&self) -> Option<Error> {
        self.seen.lock().as_ref().and_then(|seen| seen.damage.clone())
    }

    /// How many bytes of batches there are.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn size_bytes(&self) -> Result<u64> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            Ok(seen.segments.iter().map(|segment| segment.summary.extent.size_bytes).sum())
        })
    }

    /// How many segments there are.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    #[cfg(all(test, not(loom)))]
    pub fn segment_count(&self) -> Result<usize> {
        self.with(|_, seen| Ok(seen.segments.len()))
    }

    /// Gives whole batches of one segment from the cursor on, verified and copied: as many as
    /// `limits.verify_bytes` holds, at least one if there is one below the end that `isolation`
    /// sees. The cursor stays before them. An empty chunk is the end for now; the cursor is there,
    /// also where compaction left no batch before it.
    ///
    /// # Errors
    /// `OffsetOutOfRange` below the log start and above the log end; `CorruptRecord` where the
    /// stored bytes are damaged, once everything before was read; a damaged log's damage at its
    /// end and anywhere behind; `Io`.
    pub fn fetch(
        &self,
        cursor: &mut Cursor,
        isolation: IsolationLevel,
        limits: FetchLimits,
    ) -> Result<Chunk> {
        self.with(|log, seen| {
            if cursor.offset() >= seen.end_for(isolation) {
                log.look_further(seen)?;
            }
            let (start, end) = (seen.log_start_offset, seen.log_end());
            let upto = seen.end_for(isolation);
            if let Some(damage) = seen.damage.as_ref().filter(|_| cursor.offset() >= upto) {
                return Err(damage.clone());
            }
            if cursor.offset() < start || cursor.offset() > end {
                let message = format!("the log has the offsets {start} to {end}");
                return Err(log
                    .here(Error::new(ErrorKind::OffsetOutOfRange, message))
                    .with_offset(cursor.offset()));
            }
            if cursor.offset() >= upto {
                return Ok(Chunk::empty(cursor.offset()));
            }
            log.fetch_below(seen, cursor, limits.verify_bytes, upto)
        })
    }

    /// Aborted transactions that may touch offsets in `from..upto`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn aborted_transactions(&self, from: i64, upto: i64) -> Result<Vec<AbortedTransaction>> {
        self.with(|_, seen| {
            let rows = seen.segments.iter().flat_map(|segment| segment.summary.aborted.iter());
            Ok(transactions::collect_aborted(rows, from, upto))
        })
    }

    /// The first record at or after `timestamp` with an offset below `upto`.
    ///
    /// # Errors
    /// `Io`, `CorruptRecord`.
    pub fn offset_for_time(&self, timestamp: i64, upto: i64) -> Result<Option<TimestampAndOffset>> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            let from = seen.log_start_offset;
            let segments = log.timed(seen);
            times::offset_for_time(&segments, timestamp, from..upto, log.uncompressed_max)
        })
    }

    /// The record with the largest timestamp of all, also below the log start offset, if its
    /// offset is below `upto`.
    ///
    /// # Errors
    /// `Io`, `CorruptRecord`.
    pub fn max_timestamp(&self, upto: i64) -> Result<Option<TimestampAndOffset>> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            let latest = times::max_timestamp(&log.timed(seen), log.uncompressed_max)?;
            Ok(latest.filter(|latest| latest.offset < upto))
        })
    }

    /// Runs `body` on what was seen; opens the partition first, and again where files vanished.
    fn with<T>(
        &self,
        mut body: impl FnMut(&AttachedLog, &mut AttachedView) -> Result<T>,
    ) -> Result<T>
    where
        T: Sized,
    {
        let mut guard = self.seen.lock();
        let mut listings = 0;
        loop {
            let opened = match &mut *guard {
                Some(seen) => Ok(seen),
                None => self.open().map(|seen| guard.insert(seen)),
            };
            let outcome = opened.and_then(|seen| body(self, seen));
            let again = listings < LISTINGS_MAX;
            listings += 1;
            // What was opened by its name may be what took its place.
            if again && guard.as_ref().is_some_and(|seen| self.is_replaced(seen)) {
                *guard = None;
                continue;
            }
            let vanished = match outcome {
                Err(error) if is_vanished(&error) && again => error,
                result => return result,
            };
            if let Some(seen) = &mut *guard
                && !self.list_again(seen)?
            {
                // Nothing that is known is left, or nothing is missing: look at it afresh.
                self.ask_owner();
                *guard = None;
            }
            drop(vanished);
        }
    }

    fn open(&self) -> Result<AttachedView> {
        let mut opened = self.open_recorded()?;
        // An owner that went on since may have removed what is missed.
        for _ in 0..LISTINGS_MAX {
            if opened.read_only.is_none() || !self.ask_owner() {
                break;
            }
            opened = self.open_recorded()?;
        }
        self.check_identity()?;
        Ok(AttachedView::new(opened, self.views.fetch_add(1, Ordering::Relaxed)))
    }

    fn open_recorded(&self) -> Result<OpenedPartition> {
        let StartingPoint { state, trust, log_start_checkpoint, recovery_checkpoint } =
            self.start.lock().clone();
        let options = OpenOptions {
            log_start_checkpoint,
            recovery_checkpoint,
            beside_owner: true,
            ..OpenOptions::default()
        };
        open_partition(&*self.storage, &self.folder, &self.partition, &state, trust, options)
            .map_err(|error| self.here(error))
    }

    /// Fails once the folder is gone or another topic's: what was opened by its path just now may
    /// belong to that. An id never comes back, so a folder that has it now had it before.
    fn check_identity(&self) -> Result<()> {
        let (storage, folder) = (&*self.storage, &self.folder);
        let same = match read_partition_metadata(storage, folder) {
            Ok(Some(id)) => *self.topic_id.get_or_init(|| id) == id,
            // Another program's folder need not have a readable one.
            Ok(None) | Err(_) => {
                let exists = storage.exists(folder);
                self.topic_id.get().is_none()
                    || exists.map_err(|e| Error::io(e, "looking for", folder))?
            }
        };
        match same {
            true => Ok(()),
            false => {
                Err(self
                    .here(Error::new(ErrorKind::UnknownTopicOrPartition, "the topic was deleted")))
            }
        }
    }

    /// Takes in what was appended since the last look.
    fn look_further(&self, seen: &mut AttachedView) -> Result<()> {
        loop {
            self.read_tail(seen)?;
            if seen.damage.is_some() {
                return Ok(());
            }
            let next = seen.log_end();
            let last = seen.segments.last().map(|segment| segment.summary.extent.base_offset);
            let path = self.folder.join(file_name(next, FileKind::Log));
            let found = match self.storage.metadata(&path) {
                Ok(entry) => !seen.left_out.contains(&(next, entry.len)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
                Err(error) => return Err(Error::io(error, "looking for", &path)),
            };
            if !found || last == Some(next) {
                return self.check_last(seen);
            }
            let ours = |last: &AttachedSegment| last.recorded.origin == SegmentOrigin::Ours;
            let recorded = match seen.segments.last().is_none_or(ours) {
                true => SegmentState::empty(next),
                false => SegmentState::foreign(next),
            };
            seen.segments.push(AttachedSegment {
                path,
                recorded,
                summary: SegmentSummary::new(next, INDEX_INTERVAL_BYTES),
                below: Arc::new(OnceLock::from(Arc::default())),
            });
        }
    }

    fn read_tail(&self, seen: &mut AttachedView) -> Result<()> {
        let Some(at) = seen.segments.len().checked_sub(1) else {
            return Ok(());
        };
        let file = self.file(seen, at)?;
        let AttachedView { segments, rules, transactions, damage, .. } = seen;
        let Some(segment) = segments.get_mut(at) else {
            return Ok(());
        };
        let failed = |error| Error::io(error, "reading", &segment.path);
        let len = file.len().map_err(failed)?;
        if len < segment.summary.extent.size_bytes {
            damage.get_or_insert_with(|| self.here(cut_short(&segment.path, len)));
            return Ok(());
        }
        rules.segment = segment.summary.extent.base_offset;
        rules.exact = segment.recorded.layout.is_dense();
        rules.epochs_fall = segment.recorded.origin == SegmentOrigin::Foreign;
        // Only a batch in the making, whose offset is the next one, takes damage back.
        rules.exact |= damage.is_some();
        let mut cursor = BatchCursor::new(&*file, len, SCAN_WINDOW_BYTES);
        cursor.zeros_max_bytes = 0;
        // A stop of any kind is the end for now: the owner may be writing there.
        while let Ok(batch) =
            cursor.batch_at(segment.summary.extent.size_bytes, rules).map_err(failed)?
        {
            segment.summary.observe(&batch, transactions);
            rules.advance(&batch.header);
            *damage = None;
        }
        Ok(())
    }

    /// Moves the log start if the owner removed the first segment.
    fn notice_retention(&self, seen: &AttachedView) -> Result<()> {
        match seen.segments.first() {
            None => Ok(()),
            Some(first) => match self.storage.metadata(&first.path) {
                Ok(_) => Ok(()),
                Err(error) => Err(Error::io(error, "looking for", &first.path)),
            },
        }
    }

    /// Drops segments whose files are gone. Returns whether that explains what was missing.
    fn list_again(&self, seen: &mut AttachedView) -> Result<bool> {
        let mut gone = 0;
        for segment in &seen.segments {
            let is_there = self.storage.exists(&segment.path);
            if is_there.map_err(|e| Error::io(e, "looking for", &segment.path))? {
                break;
            }
            if segment.path.extension().is_some_and(|ending| ending == "swap") {
                // It has its own name by now.
                return Ok(false);
            }
            gone += 1;
        }
        let Some(first) = seen.segments.get(gone).filter(|_| gone > 0) else {
            return Ok(false);
        };
        seen.log_start_offset = seen.log_start_offset.max(first.summary.extent.base_offset);
        let first = first.summary.extent.base_offset;
        seen.files.retain(|(base, _)| *base >= first);
        seen.segments.drain(..gone);
        Ok(true)
    }

    /// The file of a segment, from the few that are kept open.
    fn file(&self, seen: &mut AttachedView, at: usize) -> Result<Arc<dyn File>> {
        let Some(segment) = seen.segments.get(at) else {
            return Err(self.here(Error::new(ErrorKind::OffsetOutOfRange, "no such segment")));
        };
        let base = segment.summary.extent.base_offset;
        if let Some(found) = seen.files.iter().position(|(open, _)| *open == base) {
            let entry = seen.files.remove(found);
            seen.files.push(entry.clone());
            return Ok(entry.1);
        }
        self.opened.store(true, Ordering::Relaxed);
        let file = self
            .storage
            .open(&segment.path)
            .map_err(|error| Error::io(error, "opening", &segment.path))?;
        self.check_identity()?;
        if seen.files.len() >= FILES_MAX {
            seen.files.remove(0);
        }
        seen.files.push((base, file.clone()));
        Ok(file)
    }

    fn fetch_below(
        &self,
        seen: &mut AttachedView,
        cursor: &mut Cursor,
        max_bytes: usize,
        upto: i64,
    ) -> Result<Chunk> {
        let offset = cursor.offset();
        let spot = cursor.spot.filter(|spot| spot.view == seen.number);
        let known = spot.and_then(|spot| Some((seen.segment_at(spot.segment)?, spot)));
        let (mut at, mut position, mut expected) = match known {
            Some((at, spot)) => (at, spot.position, spot.expected),
            None => self.locate(seen, offset)?,
        };
        while let Some(segment) = seen.segments.get(at) {
            if position >= segment.summary.extent.size_bytes {
                // The next segment, or an empty one that compaction left.
                at += 1;
                position = 0;
                expected = None;
                continue;
            }
            let dense = is_held_dense(segment.recorded.layout);
            let begins = segment.summary.extent.base_offset;
            let expected = expected.or((position == 0).then_some(begins)).filter(|_| dense);
            let (base, size) =
                (segment.summary.extent.base_offset, segment.summary.extent.size_bytes);
            let path = segment.path.clone();
            let file = self.file(seen, at)?;
            let place = Foothold { dense, expected, wanted: offset };
            let wanted = FetchRange { position, end: size, max_bytes, upto, place };
            let (bytes, next) = wanted
                .read(&*file)
                .map_err(|error| self.here(error.with_path(&path)).with_offset(offset))?;
            let view = seen.number;
            cursor.spot = Some(Spot { segment: base, position, expected, view });
            let Some(next_offset) = next else {
                // The next batch lies behind what the reader may see: there is none before it.
                cursor.offset = upto;
                return Ok(Chunk::empty(upto));
            };
            return Ok(Chunk::read(bytes, next_offset));
        }
        // Compaction took all that was below the end: there is nothing to wait for.
        cursor.offset = upto;
        Ok(Chunk::empty(upto))
    }

    /// The segment and the position of the batch that holds `offset`, or of the first behind it,
    /// and the base offset that it has to have, where what lies before tells.
    fn locate(&self, seen: &mut AttachedView, offset: i64) -> Result<(usize, u64, Option<i64>)> {
        let after = seen.segments.partition_point(|s| s.summary.extent.base_offset <= offset);
        let mut at = after.saturating_sub(1);
        while at < seen.segments.len() {
            let indexes = self.indexes(seen, at)?;
            let file = self.file(seen, at)?;
            let Some(segment) = seen.segments.get(at) else { break };
            let (base, size) =
                (segment.summary.extent.base_offset, segment.summary.extent.size_bytes);
            let failed = |error| Error::io(error, "reading", &segment.path);
            let relative = crate::log::segment::summary::relative(offset, base).unwrap_or(0);
            let mut steps = Steps::from_entry(indexes.offsets.floor(relative), &segment.recorded);
            let mut cursor = BatchCursor::new(&*file, size, LOOKUP_WINDOW_BYTES);
            while let Ok(header) = cursor.header_at(steps.position).map_err(failed)? {
                let own = steps.own_base(&header);
                let delta = i64::from(header.last_offset_delta);
                if own.saturating_add(delta).max(own) >= offset {
                    return Ok((at, steps.position, steps.expected));
                }
                steps.over(&header);
            }
            if steps.position < size {
                // The read there says what is wrong.
                return Ok((at, steps.position, steps.expected));
            }
            at += 1;
        }
        Ok((seen.segments.len(), 0, None))
    }

    fn indexes(&self, seen: &AttachedView, at: usize) -> Result<Arc<SegmentIndexes>> {
        match seen.segments.get(at) {
            Some(segment) => self.timed_one(segment).indexes(),
            None => Ok(Arc::default()),
        }
    }

    /// The segments as a search by time wants them.
    fn timed<'s>(&'s self, seen: &'s AttachedView) -> Vec<Timed<'s>> {
        seen.segments.iter().map(|segment| self.timed_one(segment)).collect()
    }

    fn timed_one<'s>(&'s self, segment: &'s AttachedSegment) -> Timed<'s> {
        Timed { log: self, segment }
    }

    fn here(&self, error: Error) -> Error {
        error.with_partition(self.partition.topic(), self.partition.partition())
    }
}

impl AttachedView {
    fn new(opened: OpenedPartition, number: u64) -> AttachedView {
        let mut rules = BatchExpectations::foreign(0, opened.log_end_offset, true);
        rules.epoch = opened.epochs.latest().unwrap_or(-1);
        AttachedView {
            number,
            log_start_offset: opened.log_start_offset,
            rules,
            transactions: opened.transactions,
            damage: opened.read_only,
            left_out: opened.left_out,
            findings: opened.findings,
            files: Vec::new(),
            segments: opened.segments.into_iter().map(AttachedSegment::new).collect(),
        }
    }

    fn log_end(&self) -> i64 {
        self.rules.next_offset
    }

    fn end_for(&self, isolation: IsolationLevel) -> i64 {
        match isolation {
            IsolationLevel::ReadUncommitted => self.log_end(),
            IsolationLevel::ReadCommitted => {
                self.transactions.last_stable_offset(self.log_start_offset, self.log_end())
            }
        }
    }

    fn segment_at(&self, base_offset: i64) -> Option<usize> {
        self.segments.binary_search_by_key(&base_offset, |s| s.summary.extent.base_offset).ok()
    }
}

impl AttachedSegment {
    fn new(opened: OpenedSegment) -> AttachedSegment {
        let mut summary = SegmentSummary::resume(&opened.state, None, INDEX_INTERVAL_BYTES);
        summary.aborted = opened.aborted;
        let below = match opened.indexes {
            Some(indexes) => OnceLock::from(indexes),
            None if opened.state.extent.size_bytes == 0 => OnceLock::from(Arc::default()),
            None => OnceLock::new(),
        };
        AttachedSegment {
            path: opened.path,
            recorded: opened.state,
            summary,
            below: Arc::new(below),
        }
    }
}

/// One segment in a search.
struct Timed<'s> {
    log: &'s AttachedLog,
    segment: &'s AttachedSegment,
}

impl TimedSegment for Timed<'_> {
    fn extent(&self) -> SegmentExtent {
        self.segment.summary.extent
    }

    fn offset_at(&self, timestamp: i64) -> Result<u32> {
        Ok(self.indexes()?.times.lookup(timestamp))
    }

    fn position_of(&self, relative: u32) -> Result<u64> {
        Ok(self.indexes()?.offsets.lookup(relative).into())
    }

    fn walk(&self, position: u64, visit: &mut Visit<'_>) -> Result<()> {
        let path = &self.segment.path;
        let failed = |error| Error::io(error, "reading", path);
        self.log.opened.store(true, Ordering::Relaxed);
        let file = self.log.storage.open(path).map_err(failed)?;
        let size = self.segment.summary.extent.size_bytes;
        let mut cursor = BatchCursor::new(&*file, size, LOOKUP_WINDOW_BYTES);
        let mut at = position;
        let mut steps = self.steps_to(&mut cursor, position)?;
        while let Ok(header) = cursor.header_at(at).map_err(failed)? {
            let own = steps.own_base(&header);
            let placed_header = BatchHeader { base_offset: own, ..header };
            let go_on = visit(&placed_header, &mut |with| {
                let mut bytes = vec![0; header.size()];
                file.read_exact_at(at, &mut bytes).map_err(failed)?;
                let placed = |fault: crate::record::BatchFault| {
                    self.log.here(fault.into_error().with_path(path).with_position(at))
                };
                let batch = RecordBatch::parse(&bytes).map_err(placed)?;
                batch.check_crc().map_err(placed)?;
                if own != header.base_offset {
                    let error = misplaced(header.base_offset, own).with_offset(own);
                    return Err(self.log.here(error.with_path(path).with_position(at)));
                }
                with(&batch).map_err(placed)
            })?;
            if !go_on {
                break;
            }
            steps.over(&header);
            at = steps.position;
        }
        Ok(())
    }
}

impl Timed<'_> {
    /// Both lookups of what was seen of the segment.
    pub(super) fn indexes(&self) -> Result<Arc<SegmentIndexes>> {
        let AttachedSegment { path, recorded, summary, below } = self.segment;
        let below = match below.get() {
            Some(below) => below.clone(),
            None => {
                let storage = &*self.log.storage;
                self.log.opened.store(true, Ordering::Relaxed);
                let (loaded, _) = load_indexes(storage, recorded, path, INDEX_INTERVAL_BYTES)?;
                below.get_or_init(|| Arc::new(loaded)).clone()
            }
        };
        if summary.extent.size_bytes == recorded.extent.size_bytes {
            return Ok(below);
        }
        let mut all = Arc::unwrap_or_clone(below);
        all.extend(&summary.indexes);
        Ok(Arc::new(all))
    }

    /// A walk that has come to `position`, where an index leads, and knows which offset is due.
    fn steps_to(&self, cursor: &mut BatchCursor<'_>, position: u64) -> Result<Steps> {
        let AttachedSegment { path, recorded, .. } = self.segment;
        let upto = u32::try_from(position).unwrap_or(u32::MAX);
        let entry = self.indexes()?.offsets.within(u32::MAX, upto);
        let mut steps = Steps::from_entry(entry, recorded);
        while steps.position < position {
            let failed = |error| Error::io(error, "reading", path);
            let Ok(header) = cursor.header_at(steps.position).map_err(failed)? else { break };
            steps.own_base(&header);
            steps.over(&header);
        }
        match steps.position == position {
            true => Ok(steps),
            false => Ok(Steps::unknown(position)),
        }
    }
}

fn is_vanished(error: &Error) -> bool {
    error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
