//! Reading: whole batches from a cursor on, borrowed from the mapping.
//!
//! A sequential read loads two borders and walks batch headers. Checksums and records are verified
//! once for each part of a segment per open; what this process appended counts as verified.

pub(in crate::log) mod cursor;
mod locate;
pub(in crate::log) mod lookup;
pub(in crate::log) mod plain;
pub(in crate::log) mod steps;
mod time_search;

use crate::config::IsolationLevel;
use crate::error::{Error, ErrorKind, Result};
use crate::log::phase::Phase;
use crate::log::read::cursor::{Chunk, Cursor, Place};
use crate::log::read::plain::{FetchLimits, PlainPrefix};
use crate::log::segment::SegmentView;
use crate::log::segment::state::SegmentLayout;
use crate::log::watch::WatchList;
use crate::log::{Log, Writer};
use crate::record::{BatchFault, BatchHeader, RecordBatch};
use crate::storage::planted::{Planted, planted};
use crate::storage::{fetch_ahead, fetch_part, fetch_value};
use std::mem::offset_of;
use std::ops::Range;
use std::path::Path;

/// From here on it pays to ask for all pages at once: a fault brings 64 KiB.
const PREFETCH_BYTES_MIN: usize = 128 << 10;

impl Log {
    /// Gives whole, verified batches of one segment from the cursor on, at least one if there is
    /// one below the end that `isolation` sees. The cursor stays before them:
    /// [`Cursor::advance`] moves it over what the caller is done with. An empty chunk means the
    /// end: the cursor is there, also where compaction left no batch before it.
    ///
    /// In the middle of what is known to be sound that is all of it, whatever `limits` say, and
    /// no header is looked at: who walks over the batches knows where to stop.
    ///
    /// # Errors
    /// `OffsetOutOfRange` below the log start and above the log end; `CorruptRecord` with path,
    /// position and the cursor's offset where the stored bytes are damaged, once everything
    /// before was read; a damaged log's damage at its end and anywhere behind; `Io` when a segment
    /// cannot be opened.
    pub fn fetch(
        &self,
        cursor: &mut Cursor,
        isolation: IsolationLevel,
        limits: FetchLimits,
    ) -> Result<Chunk> {
        match self.known_ahead(cursor, isolation, limits)? {
            Some(chunk) => Ok(chunk),
            None => self.verified_ahead(cursor, isolation, limits.verify_bytes),
        }
    }

    /// Asks the processor for what a look at the log's ends takes, and waits for nothing.
    #[inline]
    pub fn fetch_ends(&self) {
        fetch_value(&self.borders);
        fetch_value(&self.damage);
    }

    /// Asks the processor for what a registration takes, and waits for nothing. Of what lies under
    /// the lock that is little.
    #[inline]
    pub fn fetch_watchers(&self) {
        // The lock stands before or behind what it guards.
        let lock = size_of_val(&self.writer) - size_of::<Writer>();
        fetch_part(&self.writer, 0, 1);
        fetch_part(&self.writer, offset_of!(Writer, watchers), size_of::<WatchList>() + lock);
        fetch_part(&self.writer, offset_of!(Writer, phase), size_of::<Phase>() + lock);
    }

    /// [`Log::fetch`] by a walk over the headers, of at most `max_bytes` behind the first batch.
    pub(in crate::log) fn verified_ahead(
        &self,
        cursor: &mut Cursor,
        isolation: IsolationLevel,
        max_bytes: usize,
    ) -> Result<Chunk> {
        // The files may contradict what is known: then the log ends at its damage.
        let borders = self.opened()?;
        let end = borders.end.load();
        let upto = match isolation {
            IsolationLevel::ReadUncommitted => end,
            IsolationLevel::ReadCommitted => borders.stable(end),
        };
        let start = borders.start.load();
        if cursor.offset < start || cursor.offset >= upto {
            return self.nothing_there(cursor, start..upto, end);
        }
        let wanted = cursor.offset;
        let mut place = match cursor.place.take() {
            Some(place) => place,
            None => self.locate(wanted).map_err(|error| error.with_offset(wanted))?,
        };
        loop {
            let taken = self.reading(&place.view, place.position, || {
                self.take_readable(&place, max_bytes, wanted, upto)
            });
            if let Some(chunk) = taken.map_err(|error| error.with_offset(wanted))? {
                cursor.place = Some(place);
                return Ok(chunk);
            }
            match self.next_place(&place, cursor.offset)? {
                Some(next) => place = next,
                None => {
                    // Everything below the end was published before the end was: compaction left
                    // no batch from here to there, and there is none to wait for.
                    *cursor = Cursor::new(upto);
                    return Ok(Chunk::empty(upto));
                }
            }
        }
    }

    /// [`Log::fetch`] where the cursor is in the middle of what is known to be sound; `None` where
    /// that is not so.
    ///
    /// # Errors
    /// Those of opening the log.
    pub(in crate::log) fn known_ahead(
        &self,
        cursor: &Cursor,
        isolation: IsolationLevel,
        limits: FetchLimits,
    ) -> Result<Option<Chunk>> {
        let Some(place) = &cursor.place else { return Ok(None) };
        let borders = self.known()?;
        let end = borders.end.load();
        let (from, segment) = (place.position, place.view.segment());
        let upto = match isolation {
            IsolationLevel::ReadUncommitted => end,
            // What is not own may have transactions: a walk looks them up as far as its chunk
            // goes, so a short one is better.
            IsolationLevel::ReadCommitted if !segment.is_own(from) => return Ok(None),
            IsolationLevel::ReadCommitted => borders.stable(end),
        };
        let start = borders.start.load();
        if place.view.has_lost() {
            return Ok(None);
        }
        let limit = place.view.limit().min(segment.sound_end(from));
        let readable = start <= cursor.offset && cursor.offset < upto && from < limit;
        Ok(readable.then(|| {
            let region = place.view.region().clone();
            let ahead = || self.plain_ahead(place, cursor.offset, limit, upto, limits);
            let plain = region.reading(ahead).flatten();
            Chunk::known(region, from..limit, upto).with_plain(plain)
        }))
    }

    /// The answer where the cursor does not lie between the start and the reader's end.
    #[cold]
    fn nothing_there(&self, cursor: &mut Cursor, readable: Range<i64>, end: i64) -> Result<Chunk> {
        if let Some(damage) = self.damage.get().filter(|_| cursor.offset >= readable.end) {
            // Also where an open transaction holds a reader before the damage, which has its end.
            return Err(damage.error.clone());
        }
        let start = readable.start;
        if cursor.offset < start || cursor.offset > end {
            cursor.place = None;
            let message = format!("the log has the offsets {start} to {end}");
            let error = Error::new(ErrorKind::OffsetOutOfRange, message);
            return Err(self.at_home(error.with_offset(cursor.offset)));
        }
        Ok(Chunk::empty(cursor.offset))
    }

    /// Runs `body`, which reads bytes of the view from `position` on, as far as they are readable.
    /// Where some turn out not to be, it runs again up to there.
    ///
    /// # Errors
    /// Those of `body`; `StorageFailed` where nothing before the unreadable bytes is left.
    #[inline]
    pub(in crate::log) fn reading<T>(
        &self,
        view: &SegmentView,
        position: usize,
        mut body: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        loop {
            if view.has_lost() {
                view.find_loss();
            }
            if view.is_lost(position) {
                return Err(self.lost(view));
            }
            match view.region().reading(&mut body) {
                // What it fails for is what is missing.
                Some(Err(_)) if view.has_lost() => {
                    return Err(self.lost(view));
                }
                Some(outcome) => return outcome,
                None => {}
            }
        }
    }

    /// The error of bytes that the operating system cannot give any more.
    #[cold]
    pub(in crate::log) fn lost(&self, view: &SegmentView) -> Error {
        let lost_from = view.region().lost_from() as u64;
        self.at_home(cut_short(view.segment().path(), lost_from))
    }

    /// Batches from `place` on, which is where `wanted` is, below `upto`; `None` if the view has
    /// none.
    fn take_readable(
        &self,
        place: &Place,
        max_bytes: usize,
        wanted: i64,
        upto: i64,
    ) -> Result<Option<Chunk>> {
        let from = place.position;
        let bytes = place.view.bytes_from(from);
        if bytes.is_empty() {
            return Ok(None);
        }
        let segment = place.view.segment();
        let sound_end = segment.sound_end(from);
        let ahead = bytes.len().min(max_bytes);
        if sound_end == from && ahead >= PREFETCH_BYTES_MIN {
            place.view.region().prefetch(from..from + ahead);
        }
        let mut taken = TakenBatches { sound: true, plain: true, ..TakenBatches::default() };
        // Offsets are no part of the checksum (rule R3).
        let dense = is_dense(&place.view);
        while let Some(rest) = bytes.get(taken.bytes..).filter(|rest| !rest.is_empty()) {
            let batch = match next_batch(rest, sound_end.saturating_sub(from + taken.bytes)) {
                Ok(batch) => batch,
                Err(_) if taken.bytes > 0 => {
                    // If the file was cut, what was taken is read once more, up to there.
                    place.view.find_loss();
                    break;
                }
                Err(fault) => return Err(self.damaged(place, fault)),
            };
            let size = batch.bytes().len();
            let (base, next) = (batch.header().base_offset, batch.header().next_offset());
            let expected = taken.next_offset.or(place.expected);
            if dense && !follows(base, next, expected, wanted) {
                match taken.next_offset {
                    Some(_) => {
                        place.view.find_loss();
                        break;
                    }
                    None => {
                        return Err(self.misplaced(place, base, expected.unwrap_or(wanted)));
                    }
                }
            }
            if next > upto || (taken.bytes > 0 && taken.bytes + size > max_bytes) {
                break;
            }
            let is_new = from + taken.bytes + size > sound_end;
            if is_new && !batch.has_sound_records() {
                // It comes alone, so that what is around it is sound.
                if taken.bytes == 0 {
                    taken.sound = false;
                    taken.add(batch.header(), wanted);
                }
                break;
            }
            if is_new && !batch.header().is_simple() {
                segment.note_not_plain(from + taken.bytes + size);
            }
            taken.add(batch.header(), wanted);
        }
        Ok(taken.into_chunk(place, sound_end))
    }

    /// The error of stored bytes that are not what was written.
    #[cold]
    pub(in crate::log) fn damaged(&self, place: &Place, fault: BatchFault) -> Error {
        place.view.find_loss();
        if place.view.has_lost() {
            return self.lost(&place.view);
        }
        self.env.counters.corrupt_batches.one();
        let error = fault
            .into_error()
            .with_path(place.view.segment().path())
            .with_position(place.position as u64);
        self.at_home(error)
    }

    /// The error of a batch that is not at its own place.
    #[cold]
    pub(in crate::log) fn misplaced(&self, place: &Place, found: i64, expected: i64) -> Error {
        place.view.find_loss();
        if place.view.has_lost() {
            return self.lost(&place.view);
        }
        self.env.counters.corrupt_batches.one();
        let error = misplaced(found, expected)
            .with_path(place.view.segment().path())
            .with_position(place.position as u64);
        self.at_home(error)
    }
}

/// The batch at the beginning of `rest`, checked where it does not lie within the first
/// `sound_bytes`.
#[inline]
fn next_batch(rest: &[u8], sound_bytes: usize) -> std::result::Result<RecordBatch<'_>, BatchFault> {
    let batch = RecordBatch::parse(rest)?;
    fetch_ahead(rest, batch.bytes().len());
    if batch.bytes().len() > sound_bytes {
        batch.check_crc()?;
    }
    Ok(batch)
}

/// The batches that a walk has taken so far.
#[derive(Debug, Default)]
struct TakenBatches {
    bytes: usize,
    records: usize,
    /// Behind the last batch, if there is one.
    next_offset: Option<i64>,
    /// The records of all batches are well-formed.
    sound: bool,
    /// All batches are plain, and begin at the wanted offset or behind it.
    plain: bool,
}

impl TakenBatches {
    /// The chunk of these batches, which count as proven from then on; `None` if there are none.
    #[inline]
    fn into_chunk(self, place: &Place, sound_end: usize) -> Option<Chunk> {
        let next_offset = self.next_offset?;
        let (from, upto) = (place.position, place.position + self.bytes);
        if self.sound && upto > sound_end {
            place.view.segment().prove(from, upto);
        }
        let region = place.view.region().clone();
        let chunk = Chunk::walked(region, from..upto, next_offset, self.sound);
        Some(chunk.with_plain(self.plain(next_offset)))
    }

    #[inline]
    fn add(&mut self, header: &BatchHeader, wanted: i64) {
        self.bytes += header.size();
        self.records += usize::try_from(header.records_count).unwrap_or(0);
        self.next_offset = Some(header.next_offset());
        self.plain &= header.is_simple() && header.base_offset >= wanted;
    }

    fn plain(&self, next_offset: i64) -> Option<PlainPrefix> {
        let plain = PlainPrefix { bytes: self.bytes, records: self.records, next_offset };
        (self.plain && self.sound).then_some(plain)
    }
}

/// Whether each batch of the segment begins where the one before it ends.
#[inline]
pub(in crate::log) fn is_dense(view: &SegmentView) -> bool {
    is_held_dense(view.segment().layout)
}

/// Whether batches of this layout are held to where they have to begin.
#[inline]
pub(in crate::log) fn is_held_dense(layout: SegmentLayout) -> bool {
    layout.is_dense() && !planted(Planted::CrcWithoutBaseOffset)
}

/// The error of a segment whose bytes from `at` on cannot be had any more. The caller adds whose it
/// is.
pub(in crate::log) fn cut_short(path: &Path, at: u64) -> Error {
    let message = "the segment cannot be read from here on: another program cut it, or its disk \
                   failed; open the directory again";
    Error::new(ErrorKind::StorageFailed, message).with_path(path).with_position(at)
}

/// The error of a batch that is not at its own place. The caller adds where that is.
pub(in crate::log) fn misplaced(found: i64, expected: i64) -> Error {
    let message = format!("a batch with the base offset {found}, where {expected} should be");
    Error::new(ErrorKind::CorruptRecord, message)
}

/// Whether a batch from `base` up to `next` is where `expected` should be, or, where that is not
/// known, holds `wanted` or ends there: a reader that has taken its last record still stands on it.
#[inline]
pub(in crate::log) fn follows(base: i64, next: i64, expected: Option<i64>, wanted: i64) -> bool {
    match expected {
        Some(expected) => base == expected,
        None => base <= wanted && next >= wanted,
    }
}

#[cfg(test)]
impl Log {
    /// What a walk of at most `max_bytes` verifies; the cursor goes on behind it.
    pub fn read(
        &self,
        cursor: &mut Cursor,
        max_bytes: usize,
        isolation: IsolationLevel,
    ) -> Result<Chunk> {
        let chunk = self.verified_ahead(cursor, isolation, max_bytes)?;
        cursor.advance(chunk.size(), chunk.upto(), true);
        Ok(chunk)
    }
}
