//! Reading the batches of a segment file by pread, in bounded memory.
//!
//! [`BatchCursor`] finds batches and proves them by their CRC; [`BatchExpectations`] says what else
//! a batch must satisfy, because the CRC covers neither base offset, length, leader epoch nor magic
//! (rule R3); [`continuation`] looks for a valid batch behind damage. Nothing is read through a
//! mapping, so a bad sector is an error value (rule R7), and no byte sequence makes this panic or
//! allocate more than the window and one control record.

mod search;

pub(crate) use search::continuation;

use std::io;

use crate::record::{
    BATCH_OVERHEAD, BatchFault, BatchHeader, CRC_FROM, ControlRecord, ControlType, LENGTH_PREFIX,
};
use crate::record::{RecordBatch, crc32c, crc32c_append};
use crate::storage::File;
use crate::storage::planted::{Planted, planted};

/// How much is read at once where every byte is looked at: large enough that the calls vanish
/// beside the CRC, small enough to stay in the second-level cache.
pub(crate) const SCAN_WINDOW_BYTES: usize = 256 * 1024;
/// How much is read at once where only headers are looked at, one after the other.
pub(crate) const WALK_WINDOW_BYTES: usize = 64 * 1024;
/// How much is read at once to find one batch from an index entry: twice the default interval.
pub(crate) const LOOKUP_WINDOW_BYTES: usize = 8 * 1024;
/// The largest control batch that is looked into; Kafka's have 78 bytes.
const CONTROL_BATCH_SIZE_MAX: usize = 4096;

/// The reason why no valid batch begins at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The file ends exactly here.
    End,
    /// Only zeros follow: the file was preallocated and not cut.
    Zeros,
    /// The file ends inside the batch, or inside its header.
    Torn,
    /// The bytes are not a batch, or not one that may stand here.
    Invalid(Invalid),
}

/// A position of a file, looked at.
#[derive(Debug, Clone)]
pub(crate) enum Scanned<T> {
    /// What begins there.
    Found(T),
    /// Nothing valid does.
    Stopped(Stop),
}

impl<T> Scanned<T> {
    /// What was found, where it does not matter why nothing was.
    pub fn found(self) -> Option<T> {
        match self {
            Scanned::Found(found) => Some(found),
            Scanned::Stopped(_) => None,
        }
    }
}

/// The control record of a batch, looked for.
enum ControlFound {
    /// The batch is one of records, or a control batch without a record or of an unknown kind.
    Absent,
    Record(ControlRecord),
    Faulty(BatchFault),
}

/// The fault of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// Its bytes.
    Fault(BatchFault),
    /// Its base offset does not follow from what comes before it.
    Offset { found: i64, expected: i64 },
    /// It reaches farther than a segment can, or its record count does not fit its offsets.
    Span,
    /// Its leader epoch is lower than one before it, or higher than any that was ever taken.
    Epoch { found: i32, lowest: i32, highest: i32 },
    /// It is a whole message of Kafka's old formats 0 or 1.
    OldFormat(i8),
    /// Its producer has a transaction open that ended before it: the marker is missing.
    LostMarker { producer_id: i64, open: i16, found: i16 },
}

impl Invalid {
    /// Whether the batch may be whole, and does not belong where it stands.
    pub fn is_of_place(&self) -> bool {
        !matches!(self, Invalid::Fault(_) | Invalid::OldFormat(_))
    }
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // Only a whole message of an old format is called one.
            Invalid::Fault(BatchFault::BadMagic(magic)) => {
                write!(f, "no batch begins here, its format byte would be {magic}")
            }
            Invalid::Fault(fault) => fault.fmt(f),
            Invalid::Offset { found, expected } => {
                write!(f, "base offset {found}, expected {expected}")
            }
            Invalid::Span => f.write_str("offsets that a segment cannot hold"),
            Invalid::Epoch { found, lowest, highest } => {
                write!(f, "leader epoch {found}, expected {lowest} to {highest}")
            }
            Invalid::OldFormat(magic) => BatchFault::BadMagic(*magic).fmt(f),
            Invalid::LostMarker { producer_id, open, found } => write!(
                f,
                "epoch {found} of producer id {producer_id}, whose transaction of epoch {open} has \
                 no marker: it is among what is missing before"
            ),
        }
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stop::End => f.write_str("the file ends"),
            Stop::Zeros => f.write_str("only zeros follow"),
            Stop::Torn => f.write_str("the last batch is cut off"),
            Stop::Invalid(invalid) => invalid.fmt(f),
        }
    }
}

/// A batch as a scan found it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundBatch {
    pub header: BatchHeader,
    /// Where it begins, in bytes.
    pub position: u64,
    /// Its control record, for control batches that have one.
    pub control: Option<ControlRecord>,
}

impl FoundBatch {
    /// The kind of its control record, if it has one.
    pub fn marker(&self) -> Option<ControlType> {
        self.control.map(|control| control.kind)
    }

    /// Where the next batch begins.
    pub fn end(&self) -> u64 {
        self.position + self.header.size() as u64
    }
}

/// The conditions that a batch must satisfy beside its CRC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchExpectations {
    /// Base offset of the segment.
    pub segment: i64,
    /// The offset behind the batch before.
    pub next_offset: i64,
    /// The base offset must be `next_offset`; otherwise it may be higher (compaction).
    pub exact: bool,
    /// The highest leader epoch of the batches before.
    pub epoch: i32,
    /// A lower epoch may follow: a partition moved into a new cluster of Kafka has such batches.
    pub epochs_fall: bool,
    /// The highest leader epoch that was ever taken.
    pub epoch_max: i32,
    /// Whether the CRC of every batch is computed.
    pub crc: bool,
    /// Offsets may be farther from the segment's base than an index can say, 2^31 - 1: such a
    /// batch is found by walking.
    pub far: bool,
}

impl BatchExpectations {
    /// For what another program wrote: offsets may leave gaps, any epoch may stand there.
    pub fn foreign(segment: i64, next_offset: i64, crc: bool) -> BatchExpectations {
        BatchExpectations {
            segment,
            next_offset,
            exact: false,
            epoch: -1,
            epochs_fall: true,
            epoch_max: i32::MAX,
            crc,
            far: false,
        }
    }

    /// Checks what a header says against what comes before it.
    #[inline]
    fn check(&self, header: &BatchHeader) -> Result<(), Invalid> {
        let (found, expected) = (header.base_offset, self.next_offset);
        let follows = if self.exact { found == expected } else { found >= expected };
        if !follows && !planted(Planted::CrcWithoutBaseOffset) {
            return Err(Invalid::Offset { found, expected });
        }
        let relative = i64::from(header.last_offset_delta)
            .checked_add(found)
            .and_then(|last| last.checked_sub(self.segment));
        let reach = if self.far && !self.exact { i64::MAX - 1 } else { i64::from(i32::MAX) };
        if header.last_offset_delta < 0
            || !relative.is_some_and(|relative| (0..=reach).contains(&relative))
            || header.records_count < 0
            || i64::from(header.records_count) > i64::from(header.last_offset_delta) + 1
        {
            return Err(Invalid::Span);
        }
        // -1 stands in batches that were copied from a log without epochs.
        let unknown = header.leader_epoch == -1 && !self.exact;
        let lowest = if self.epochs_fall { 0 } else { self.epoch.max(0) };
        if !unknown && !(lowest..=self.epoch_max).contains(&header.leader_epoch) {
            let (found, highest) = (header.leader_epoch, self.epoch_max);
            return Err(Invalid::Epoch { found, lowest, highest });
        }
        Ok(())
    }

    /// Moves on behind a batch that satisfied them.
    pub fn advance(&mut self, header: &BatchHeader) {
        self.next_offset = header.next_offset();
        self.epoch = self.epoch.max(header.leader_epoch);
    }
}

/// Whether there are only zeros. Blocks are compared whole, which is many bytes at a time in every
/// build: this looks at megabytes behind a kill, and at gigabytes of a file that goes on for ever.
pub(in crate::log) fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 1024] = [0; 1024];
    bytes.chunks(ZEROS.len()).all(|block| ZEROS.starts_with(block))
}

/// A reader of batches at byte positions of one file.
pub(crate) struct BatchCursor<'f> {
    file: &'f dyn File,
    /// Nothing at or above it is looked at: the length of the file when the reading began.
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    window_bytes: usize,
    /// How far to look before zeros count as zeros to the end.
    pub zeros_max_bytes: u64,
    /// How many bytes were read from the file.
    pub bytes_read: u64,
}

impl<'f> BatchCursor<'f> {
    /// Reads `file` up to `end`, `window_bytes` at a time.
    pub fn new(file: &'f dyn File, end: u64, window_bytes: usize) -> BatchCursor<'f> {
        BatchCursor {
            file,
            end,
            window: Vec::new(),
            window_at: 0,
            window_bytes: window_bytes.max(CONTROL_BATCH_SIZE_MAX),
            zeros_max_bytes: u64::MAX,
            bytes_read: 0,
        }
    }

    /// The batch at `position`, if it is valid by `rules`.
    ///
    /// # Errors
    /// Only those of the operating system.
    #[inline]
    pub fn batch_at(
        &mut self,
        position: u64,
        rules: &BatchExpectations,
    ) -> io::Result<Scanned<FoundBatch>> {
        match self.batch_in_window(position, rules) {
            Some(found) => Ok(Scanned::Found(found)),
            None => self.look_closely(position, rules),
        }
    }

    /// The usual case: a valid batch of records that lies in the window as a whole. `None` is no
    /// answer.
    #[inline]
    fn batch_in_window(&self, position: u64, rules: &BatchExpectations) -> Option<FoundBatch> {
        let skip = usize::try_from(position.checked_sub(self.window_at)?).ok()?;
        let bytes = self.window.get(skip..).filter(|bytes| bytes.len() >= BATCH_OVERHEAD)?;
        let header = BatchHeader::parse(bytes).ok()?;
        let batch = bytes.get(..header.size())?;
        let fits = !header.is_control()
            && rules.check(&header).is_ok()
            && (!rules.crc || crc32c(batch.get(CRC_FROM..)?) == header.crc);
        fits.then_some(FoundBatch { header, position, control: None })
    }

    #[cold]
    fn look_closely(
        &mut self,
        position: u64,
        rules: &BatchExpectations,
    ) -> io::Result<Scanned<FoundBatch>> {
        let header = match self.header_at(position)? {
            Scanned::Found(header) => header,
            Scanned::Stopped(stop) => return Ok(Scanned::Stopped(stop)),
        };
        if let Err(invalid) = rules.check(&header) {
            return Ok(Scanned::Stopped(Stop::Invalid(invalid)));
        }
        if rules.crc
            && let Some(fault) = self.crc_fault(position, &header)?
        {
            return Ok(Scanned::Stopped(Stop::Invalid(Invalid::Fault(fault))));
        }
        let control = match self.control_at(position, &header)? {
            ControlFound::Absent => None,
            ControlFound::Record(record) => Some(record),
            ControlFound::Faulty(fault) => {
                return Ok(Scanned::Stopped(Stop::Invalid(Invalid::Fault(fault))));
            }
        };
        Ok(Scanned::Found(FoundBatch { header, position, control }))
    }

    /// The batch at `position`, whatever it follows and without a look at its CRC.
    ///
    /// # Errors
    /// Only those of the operating system.
    pub fn any_batch_at(&mut self, position: u64) -> io::Result<Scanned<FoundBatch>> {
        let header = match self.header_at(position)? {
            Scanned::Found(header) => header,
            Scanned::Stopped(stop) => return Ok(Scanned::Stopped(stop)),
        };
        let control = match self.control_at(position, &header)? {
            ControlFound::Record(record) => Some(record),
            ControlFound::Absent | ControlFound::Faulty(_) => None,
        };
        Ok(Scanned::Found(FoundBatch { header, position, control }))
    }

    /// The header at `position` of a batch that ends inside the file. Its CRC is not looked at.
    ///
    /// # Errors
    /// Only those of the operating system.
    pub fn header_at(&mut self, position: u64) -> io::Result<Scanned<BatchHeader>> {
        let left = self.end.saturating_sub(position);
        if left == 0 {
            return Ok(Scanned::Stopped(Stop::End));
        }
        let bytes = self.bytes_at(position, BATCH_OVERHEAD, BATCH_OVERHEAD)?;
        let whole_header = bytes.len() == BATCH_OVERHEAD;
        let fault = match BatchHeader::parse(bytes) {
            Ok(header) if header.size() as u64 <= left => return Ok(Scanned::Found(header)),
            Ok(_) => return Ok(Scanned::Stopped(Stop::Torn)),
            Err(fault) => fault,
        };
        let stop = match fault {
            BatchFault::Zeros | BatchFault::Incomplete { .. } => {
                if self.zeros_from(position)? {
                    Stop::Zeros
                } else if whole_header && fault == BatchFault::Zeros {
                    Stop::Invalid(Invalid::Fault(fault))
                } else {
                    Stop::Torn
                }
            }
            BatchFault::BadMagic(magic @ (0 | 1)) if self.old_message_at(position)? => {
                Stop::Invalid(Invalid::OldFormat(magic))
            }
            fault => Stop::Invalid(Invalid::Fault(fault)),
        };
        Ok(Scanned::Stopped(stop))
    }

    /// The fault of the CRC of the batch at `position`, whose header was read before; `None` where
    /// it fits.
    ///
    /// # Errors
    /// Only those of the operating system.
    pub fn crc_fault(
        &mut self,
        position: u64,
        header: &BatchHeader,
    ) -> io::Result<Option<BatchFault>> {
        let end = position + header.size() as u64;
        let mut at = position + CRC_FROM as u64;
        let mut computed = None;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX);
            let bytes = self.bytes_at(at, want, 1)?;
            if bytes.is_empty() {
                return Ok(Some(BatchFault::Incomplete { needed: header.size() }));
            }
            computed = Some(match computed {
                None => crc32c(bytes),
                Some(crc) => crc32c_append(crc, bytes),
            });
            at += bytes.len() as u64;
        }
        let computed = computed.unwrap_or(0);
        let fits = computed == header.crc;
        Ok((!fits).then_some(BatchFault::BadCrc { stored: header.crc, computed }))
    }

    /// Looks for the control record in the batch at `position`.
    fn control_at(&mut self, position: u64, header: &BatchHeader) -> io::Result<ControlFound> {
        if !header.is_control() || header.size() > CONTROL_BATCH_SIZE_MAX {
            return Ok(ControlFound::Absent);
        }
        let bytes = self.bytes_at(position, header.size(), header.size())?;
        Ok(match RecordBatch::parse(bytes).and_then(|batch| batch.control()) {
            Ok(Some(record)) => ControlFound::Record(record),
            Ok(None) => ControlFound::Absent,
            Err(fault) => ControlFound::Faulty(fault),
        })
    }

    /// Whether a whole message of format 0 or 1 stands at `position`: its own CRC decides, so
    /// that garbage is not taken for an old format.
    fn old_message_at(&mut self, position: u64) -> io::Result<bool> {
        let bytes = self.bytes_at(position, 16, 16)?;
        let Some((&[_, _, _, _, _, _, _, _, l0, l1, l2, l3, c0, c1, c2, c3], _)) =
            bytes.split_first_chunk::<16>()
        else {
            return Ok(false);
        };
        let stored = u32::from_be_bytes([c0, c1, c2, c3]);
        let Ok(length) = u64::try_from(i32::from_be_bytes([l0, l1, l2, l3])) else {
            return Ok(false);
        };
        let end = position + LENGTH_PREFIX as u64 + length;
        if end > self.end {
            return Ok(false);
        }
        let mut hasher = crc32fast::Hasher::new();
        let mut at = position + 16;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX);
            let bytes = self.bytes_at(at, want, 1)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            hasher.update(bytes);
            at += bytes.len() as u64;
        }
        Ok(hasher.finalize() == stored)
    }

    /// Whether every byte from `position` on is zero, as far as `zeros_max_bytes` allows to look.
    pub fn zeros_from(&mut self, position: u64) -> io::Result<bool> {
        let mut at = position;
        let end = self.end.min(position.saturating_add(self.zeros_max_bytes));
        while at < end {
            let bytes = self.bytes_at(at, SCAN_WINDOW_BYTES, 1)?;
            if bytes.is_empty() {
                break;
            }
            if !is_zero(bytes) {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
        Ok(true)
    }

    /// Up to `want` bytes from `position` on, at most a window of them. They are fewer where the
    /// window ends, but at least `least` unless the file ends.
    fn bytes_at(&mut self, position: u64, want: usize, least: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let want = want.min(left).min(self.window_bytes);
        let skip = position
            .checked_sub(self.window_at)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| *skip <= self.window.len());
        let inside = skip.map(|skip| (skip, self.window.len() - skip));
        if let Some((skip, have)) = inside.filter(|(_, have)| *have >= least.min(want)) {
            return Ok(self.window.get(skip..skip + want.min(have)).unwrap_or_default());
        }
        self.fill(position, self.window_bytes.min(left))?;
        Ok(self.window.get(..want.min(self.window.len())).unwrap_or_default())
    }

    #[cold]
    fn fill(&mut self, position: u64, len: usize) -> io::Result<()> {
        self.window.resize(len, 0);
        self.window_at = position;
        let mut done = 0;
        while let Some(rest) = self.window.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(position + done as u64, rest) {
                // The file became shorter while it was read: what is missing is not there.
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.window.clear();
                    return Err(error);
                }
            }
        }
        self.window.truncate(done);
        self.bytes_read += done as u64;
        Ok(())
    }
}
