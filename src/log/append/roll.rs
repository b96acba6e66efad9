//! Making room for an append: the first segment, growth steps, rolls.
//!
//! All of it is the slow path of an append, on the appender's thread. Nothing here syncs or cuts:
//! a roll makes a file, hands the old one to the seal queue, and goes on.

use crate::config::LogConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::log::append::place::After;
use crate::log::files::names::{FileKind, file_name};
use crate::log::scan::SCAN_WINDOW_BYTES;
use crate::log::segment::active::{
    Active, FIRST_STEP_BYTES, Incoming, Limits, STEP_BYTES_MAX, WRITER_PART_BYTES,
};
use crate::log::segment::extent::SegmentExtent;
use crate::log::segment::state::{FileProof, LastBatch};
use crate::log::segment::{BaseSnapshot, Segment};
use crate::log::{Log, Writer};
use crate::record::BatchHeader;
use crate::storage::{CutByAnother, File, NotBegun, Storage};
use crate::sync::{Arc, MutexGuard};
use std::path::Path;

/// Mappings and allocations are made in whole pages.
pub(in crate::log) const PAGE_BYTES: u64 = 4096;

impl Writer {
    /// Whether the batch can be stored with no more than stores.
    #[inline]
    pub(in crate::log) fn fits(&self, incoming: Incoming) -> bool {
        self.active.as_ref().is_some_and(|active| active.fits(incoming))
    }

    /// The last batch below the end, if there is one.
    pub(in crate::log) fn find_last_batch(&self) -> Option<LastBatch> {
        let (Some(active), Some(position)) = (&self.active, self.last_position) else {
            return self.last_batch;
        };
        let region = active.region.region();
        let header = region.reading(|| BatchHeader::parse(region.read(position..active.position)));
        let header = header?.ok()?;
        Some(LastBatch {
            segment: active.segment.base_offset,
            position: position as u64,
            base_offset: header.base_offset,
            crc: header.crc,
        })
    }

    /// Lets the active segment go, if there is one.
    pub(in crate::log) fn retire(&mut self) -> Option<Arc<Segment>> {
        self.last_batch = self.find_last_batch();
        self.last_position = None;
        let active = self.active.take()?;
        Some(active.retire().0)
    }
}

impl Log {
    /// Does what an append needs beside stores. `incoming` is given its offset anew, because the
    /// lock may be released in between.
    ///
    /// # Errors
    /// Those of [`Log::append`]. The log's content is unchanged.
    #[cold]
    #[inline(never)]
    pub(in crate::log) fn make_room<'a>(
        &'a self,
        mut writer: MutexGuard<'a, Writer>,
        incoming: &mut Incoming,
        last_offset_delta: i32,
        now_ms: i64,
        after: &mut After,
    ) -> Result<MutexGuard<'a, Writer>> {
        loop {
            incoming.last_offset = writer.next_offset + i64::from(last_offset_delta);
            if let Some(refusal) = writer.phase.refusal() {
                return Err(refusal.clone());
            }
            if writer.active.is_none() {
                drop(writer);
                self.prepare_to_append(now_ms)?;
                writer = self.writer.lock();
                continue;
            }
            let outcome = self.widen(&mut writer, *incoming, now_ms, after);
            if let Err(error) = outcome {
                drop(writer);
                self.announce(after);
                return Err(match error.kind() {
                    ErrorKind::StorageFailed => self.storage_failed(error),
                    _ => self.at_home(error),
                });
            }
            return Ok(writer);
        }
    }

    /// Rolls or grows, so that the batch fits the active segment.
    fn widen(
        &self,
        writer: &mut Writer,
        incoming: Incoming,
        now_ms: i64,
        after: &mut After,
    ) -> Result<()> {
        if writer.active.as_ref().is_some_and(|active| active.must_roll(incoming, now_ms)) {
            let rolled = self.roll(writer, incoming.size, now_ms);
            after.seal |= rolled.is_ok() || writer.active.is_none();
            rolled?;
        }
        let Some(active) = &mut writer.active else { return Ok(()) };
        let end = active.position + incoming.size;
        let is_short = end > active.prepared();
        if is_short {
            active.note_late();
        }
        after.prepare |= active.asks_to_prepare(end);
        if is_short {
            self.env.counters.writer_steps.one();
            active.grow(end).map_err(|error| {
                io_error(error, "cannot grow the segment", active.segment.path())
            })?;
        }
        active.refresh();
        Ok(())
    }

    /// Opens a new segment at the log end and retires the active one.
    ///
    /// # Errors
    /// Those of making the file. The old segment stays active then, unless the new file is there
    /// and stays: then there is no active one. `StorageFailed` where the old file was cut.
    pub(in crate::log) fn roll(&self, writer: &mut Writer, size: usize, now_ms: i64) -> Result<()> {
        let base_offset = writer.next_offset;
        let first_bytes = FIRST_STEP_BYTES.max(size as u64);
        let mut growth = None;
        if let Some(active) = &writer.active {
            growth = Some(active.growth());
            if active.segment.base_offset == base_offset {
                // An empty segment that is mapped too small for the batch makes way.
                return self.replace_empty(writer, (first_bytes, size), now_ms);
            }
            check_uncut(active)?;
        }
        let bytes = (first_bytes, size);
        let made = self.create_segment_for(&writer.config, base_offset, bytes, now_ms);
        if made.is_err() && !self.take_back(base_offset) {
            // No record may go into the old file behind the place where the new one begins.
            writer.retire();
        }
        let mut active = made?;
        if let Some(growth) = growth {
            active.set_growth(growth);
        }
        writer.retire();
        self.install(writer, active)?;
        self.env.counters.rolls.one();
        Ok(())
    }

    /// Removes what is left of a segment that could not be made; whether its name is free for
    /// certain.
    pub(in crate::log) fn take_back(&self, base_offset: i64) -> bool {
        let path = self.id.dir.join(file_name(base_offset, FileKind::Log));
        match remove_empty(&*self.env.storage, &path) {
            Ok(gone) => gone,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }

    fn replace_empty(&self, writer: &mut Writer, bytes: (u64, usize), now_ms: i64) -> Result<()> {
        let base_offset = writer.next_offset;
        writer.retire();
        if let Some(segment) = self.segments.pop_last() {
            remove_empty(&*self.env.storage, segment.path())
                .map_err(|e| Error::io(e, "cannot replace the segment", segment.path()))?;
        }
        let active = self.create_segment_for(&writer.config, base_offset, bytes, now_ms)?;
        self.install(writer, active)
    }

    /// Makes a new segment the active one.
    ///
    /// # Errors
    /// The refusal of a log that takes no appends any more.
    pub(in crate::log) fn install(&self, writer: &mut Writer, active: Active) -> Result<()> {
        if let Some(refusal) = writer.phase.refusal() {
            return Err(refusal.clone());
        }
        active.segment.set_snapshot(match writer.producers.snapshot() {
            Some(bytes) => BaseSnapshot::Taken(Arc::new(bytes)),
            None => BaseSnapshot::Written(FileProof::default()),
        });
        self.segments.push(active.segment.clone());
        writer.active = Some(active);
        writer.last_position = None;
        writer.names.folder = true;
        Ok(())
    }

    /// Makes the file of a new segment.
    pub(in crate::log) fn create_segment(
        &self,
        config: &LogConfig,
        base_offset: i64,
        first_bytes: u64,
        now_ms: i64,
    ) -> Result<Active> {
        self.create_segment_for(config, base_offset, (first_bytes, 0), now_ms)
    }

    /// Makes the file of a new segment that has room for a batch of `batch_bytes`, also where that
    /// is more than a segment's size.
    fn create_segment_for(
        &self,
        config: &LogConfig,
        base_offset: i64,
        (first_bytes, batch_bytes): (u64, usize),
        now_ms: i64,
    ) -> Result<Active> {
        let path = self.id.dir.join(file_name(base_offset, FileKind::Log));
        let map_bytes = map_bytes(config).max(whole_pages(batch_bytes as u64));
        let storage = &self.env.storage;
        let create =
            |first: u64| storage.create(&path, map_bytes, whole_pages(first).min(map_bytes));
        let mut file = create(first_bytes);
        if file.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::AlreadyExists) {
            // Left over from a segment that was never part of this log. One with a byte in it was
            // put here by another hand, and stays.
            let removed = remove_empty(&**storage, &path);
            if removed.map_err(|e| Error::io(e, "cannot remove left-over", &path))? {
                file = create(first_bytes);
            }
        }
        if file.as_ref().is_err_and(Error::is_full) && first_bytes > FIRST_STEP_BYTES {
            file = create(FIRST_STEP_BYTES);
        }
        let file = file.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                let doing = "cannot make a segment where another program's file is; move that away";
                Error::io(error, doing, &path)
            }
            _ => Error::io(error, "cannot make a segment", &path),
        })?;
        let segment = Arc::new(Segment::active(&self.id.dir, base_offset, file.clone()));
        let extent = SegmentExtent::empty(base_offset);
        self.activate(segment, file, extent, config, now_ms)
    }

    /// Takes the writer of a file whose batches end at `extent`.
    pub(in crate::log) fn activate(
        &self,
        segment: Arc<Segment>,
        file: Arc<dyn File>,
        extent: SegmentExtent,
        config: &LogConfig,
        now_ms: i64,
    ) -> Result<Active> {
        let path = segment.path().to_path_buf();
        let region =
            file.region().map_err(|e| Error::io(e, "cannot map the segment", &path))?.clone();
        let mut writer = region.writer().ok_or_else(|| {
            Error::new(ErrorKind::IllegalState, "the segment has a writer already").with_path(&path)
        })?;
        writer.publish(usize::try_from(extent.size_bytes).unwrap_or(usize::MAX));
        let limits = Limits::new(config, self.jitter(segment.base_offset));
        Ok(Active::new(segment, file, writer, extent, limits, now_ms))
    }
}

impl Log {
    /// Gives up a batch of `size` bytes whose stores did not all get to the active segment's
    /// file. What was stored of it is zeroed, so that nothing of it comes back; nothing more goes
    /// into that file. On a full disk the next append makes another one, and so it does where the
    /// reason cannot be asked for now; otherwise the partition
    /// takes no more.
    #[cold]
    #[inline(never)]
    pub(in crate::log) fn stores_lost(
        &self,
        mut writer: MutexGuard<'_, Writer>,
        size: usize,
        mut after: After,
    ) -> Error {
        let Some(active) = &mut writer.active else {
            return self.at_home(Error::new(ErrorKind::IllegalState, "there is no segment"));
        };
        let (position, path) = (active.position, active.segment.path().to_path_buf());
        active.region.zero(position..position + size);
        let cause = active.file.store_error(position as u64);
        let error = io_error(cause, "cannot store in the segment", &path);
        if error.kind() == ErrorKind::StorageFull || NotBegun::caused(&error) {
            writer.retire();
            if position == 0 {
                // It holds nothing, and the next one begins at the same offset.
                self.segments.pop_last();
                self.take_back(writer.next_offset);
            } else {
                after.seal = true;
            }
            drop(writer);
            self.announce(&after);
            return self.at_home(error);
        }
        drop(writer);
        self.announce(&after);
        self.storage_failed(error)
    }
}

/// Refuses to go on behind a segment whose file was cut: where all of it is gone, a file behind it
/// would have the next life take that for a compaction. What cannot be asked now is when it is
/// sealed.
fn check_uncut(active: &Active) -> Result<()> {
    let Ok(len) = active.file.len() else { return Ok(()) };
    if len >= active.position as u64 {
        return Ok(());
    }
    let cut = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, CutByAnother { len });
    Err(io_error(cut, "cannot go on behind the segment", active.segment.path()))
}

/// What a failed growth, or a failed store, of a mapped file is: final, unless the disk is full or
/// the call could not begin.
pub(in crate::log) fn io_error(error: std::io::Error, doing: &str, path: &Path) -> Error {
    let cut = CutByAnother::is_in(&error);
    match Error::io(error, doing, path) {
        error if cut => {
            Error::new(ErrorKind::StorageFailed, error.message()).with_path(path).with_source(error)
        }
        error => error,
    }
}

/// Removes a file that holds nothing: one by itself, no link, in which no byte is other than zero.
/// Returns false, and leaves it, for every other. The directory is ours as long as the storage
/// removes anything, and in a directory of ours such a file is what is left of a segment in the
/// making.
///
/// Departure: D36. Kafka deletes a file that has the name of a new segment: it may be the only copy
/// of something.
///
/// # Errors
/// `NotFound`, and those of the operating system.
fn remove_empty(storage: &dyn Storage, path: &Path) -> std::io::Result<bool> {
    let found = storage.metadata(path)?;
    if found.is_link || found.is_dir || found.is_special {
        return Ok(false);
    }
    let file = storage.open(path)?;
    let mut window = vec![0; SCAN_WINDOW_BYTES.min(usize::try_from(found.len).unwrap_or(0)).max(1)];
    let mut at = 0;
    loop {
        match file.read_at(at, &mut window)? {
            0 => break,
            read if window.iter().take(read).any(|byte| *byte != 0) => return Ok(false),
            read => at += read as u64,
        }
    }
    drop(file);
    storage.remove(path)?;
    Ok(true)
}

/// How much is mapped for a segment: its whole size, once.
pub(in crate::log) fn map_bytes(config: &LogConfig) -> u64 {
    whole_pages(config.segment_bytes.clamp(1, i32::MAX as u64))
}

pub(in crate::log) fn whole_pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE_BYTES)
}

/// Where the part ends that follows `at`: parts begin at multiples of their size, as the large
/// folios of a file do.
pub(in crate::log) fn part_end(at: u64, part_bytes: u64) -> u64 {
    (at + 1).next_multiple_of(part_bytes)
}

impl Active {
    /// Grows the file so that it reaches `end` at least: by a whole step, or, on a disk that has
    /// not so much left, by as much as is needed. Pages are made for a part of the step, so that
    /// no append waits for all of them: whoever prepares ahead of the writer makes the rest, or
    /// this again, where that comes late.
    pub(in crate::log) fn grow(&mut self, end: usize) -> std::io::Result<()> {
        let capacity = self.region.region().capacity() as u64;
        let prepared = self.prepared() as u64;
        let needed = whole_pages(end as u64).min(capacity);
        let step = whole_pages(prepared.saturating_add(self.ahead_max()));
        let reserve = needed.max(step).min(capacity);
        let part = needed.max(part_end(prepared, WRITER_PART_BYTES)).min(reserve);
        match self.file.prepare(part, reserve) {
            Err(error) if reserve > needed && Error::is_full(&error) => {
                self.file.prepare(needed, needed)?;
            }
            other => other?,
        }
        self.step_bytes = (self.step_bytes * 2).min(STEP_BYTES_MAX);
        self.refresh();
        Ok(())
    }
}
