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
use crate::log::segment::order::BatchOrder;
use crate::log::segment::state::SegmentLayout;
use crate::log::watch::WatchList;
use crate::log::{Log, Writer};
use crate::record::{BatchFault, BatchHeader, RecordBatch};
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
        fetch_part(&self.writer, 0, 1);
        self.fetch_of_writer(offset_of!(Writer, watchers), size_of::<WatchList>());
        self.fetch_of_writer(offset_of!(Writer, phase), size_of::<Phase>());
    }

    /// Asks the processor for a field of [`Writer`], which is `len` bytes from `at` on.
    #[inline(always)]
    pub(in crate::log) fn fetch_of_writer(&self, at: usize, len: usize) {
        // The lock stands before or behind what it guards.
        let lock = size_of_val(&self.writer) - size_of::<Writer>();
        fetch_part(&self.writer, at, len + lock);
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
        let order = order_of(&place.view);
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
            let (size, next) = (batch.bytes().len(), batch.header().next_offset());
            let expected = taken.next_offset.or(place.expected);
            let following = || base_at(rest, size);
            if let Some(due) = due_instead(order, batch.header(), expected, wanted, following) {
                if taken.next_offset.is_some() {
                    place.view.find_loss();
                    break;
                }
                return Err(self.misplaced(place, batch.header().base_offset, due));
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
    pub(in crate::log) fn misplaced(&self, place: &Place, found: i64, due: i64) -> Error {
        place.view.find_loss();
        if place.view.has_lost() {
            return self.lost(&place.view);
        }
        self.env.counters.corrupt_batches.one();
        let error = misplaced(order_of(&place.view), found, due)
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

/// The order that the batches of the segment are held to.
#[inline]
pub(in crate::log) fn order_of(view: &SegmentView) -> BatchOrder {
    let segment = view.segment();
    match segment.layout {
        // Its extent lies under a lock, and its end does not matter.
        SegmentLayout::Dense => BatchOrder::dense(segment.base_offset),
        SegmentLayout::Sparse => BatchOrder::of(segment.layout, &segment.extent()),
    }
}

/// The base offset of what begins `at` bytes behind the beginning of a batch, if that is one.
pub(in crate::log) fn base_at(bytes: &[u8], at: usize) -> Option<i64> {
    let header = BatchHeader::parse(bytes.get(at..)?);
    header.ok().map(|header| header.base_offset)
}

/// The error of a segment whose bytes from `at` on cannot be had any more. The caller adds whose it
/// is.
pub(in crate::log) fn cut_short(path: &Path, at: u64) -> Error {
    let message = "the segment cannot be read from here on: another program cut it, or its disk \
                   failed; open the directory again";
    Error::new(ErrorKind::StorageFailed, message).with_path(path).with_position(at)
}

/// The error of a batch that is not at its own place. The caller adds where that is.
pub(in crate::log) fn misplaced(order: BatchOrder, found: i64, due: i64) -> Error {
    let message = match order.is_dense() {
        true => format!("a batch with the base offset {found}, where {due} should be"),
        false => format!(
            "a batch with the base offset {found}, which is not between those of the batches \
             around it: {due} is the lowest that could be"
        ),
    };
    Error::new(ErrorKind::CorruptRecord, message)
}

/// The base offset that is due where a batch is not at its own place, as
/// [`BatchOrder::due_instead`]. Where nothing is known of what lies before, a batch that holds
/// `wanted`, or ends there, is at its own: a reader that has taken its last record still stands on
/// it.
#[inline]
pub(in crate::log) fn due_instead(
    order: BatchOrder,
    header: &BatchHeader,
    expected: Option<i64>,
    wanted: i64,
    following: impl FnOnce() -> Option<i64>,
) -> Option<i64> {
    let (base, next) = (header.base_offset, header.next_offset());
    let holds = base <= wanted && next >= wanted;
    let expected = expected.unwrap_or(if holds { base } else { wanted });
    order.due_instead(header, Some(expected), following)
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
