//! One reading pass over the segments of a partition: what recovery and adoption share.
//!
//! A pass collects segments, findings and repair steps, and knows where the log ends so far
//! (`rules.next_offset`). What an end means is decided by its callers.
//!
//! Departure: D31. Offsets that step back end the log there; Kafka serves some of them twice.

use crate::error::{Error, ErrorKind, Result};
use crate::log::files::leader_epochs::EpochChain;
use crate::log::finding::{Finding, FindingKind};
use crate::log::load::compacted_aborts::RememberedAborts;
use crate::log::load::folder::{Folder, FolderFile};
use crate::log::load::lost_markers::LostMarkers;
use crate::log::load::repair::Repairs;
use crate::log::load::{OpenReport, OpenedPartition, OpenedSegment};
use crate::log::producers::entries::ProducerEntries;
use crate::log::producers::transactions::{AbortedTransaction, TransactionTracker};
use crate::log::scan::{
    BatchCursor, BatchExpectations, FoundBatch, Invalid, SCAN_WINDOW_BYTES, Scanned, Stop,
    WALK_WINDOW_BYTES, continuation,
};
use crate::log::segment::state::{LastBatch, SegmentLayout, SegmentOrigin, SegmentState};
use crate::log::segment::summary::SegmentSummary;
use crate::storage::Storage;
use crate::sync::Arc;

/// How often progress is told: after so many bytes.
const PROGRESS_BYTES: u64 = 8 << 20;

/// A reading pass over the segments of a partition.
pub(in crate::log) struct Pass<'a> {
    pub storage: &'a dyn Storage,
    pub folder: &'a Folder,
    pub rules: BatchExpectations,
    pub transactions: TransactionTracker,
    /// The producers of all batches, where all are read.
    pub producers: Option<ProducerEntries>,
    /// The proof of markers that are missing, where whole batches may be.
    pub lost_markers: Option<LostMarkers>,
    pub epochs: EpochChain,
    /// What is recorded of epochs, for segments of our own.
    pub recorded_epochs: EpochChain,
    pub segments: Vec<OpenedSegment>,
    pub last_batch: Option<LastBatch>,
    /// The last batch of those that were known before.
    pub known_last: Option<LastBatch>,
    pub recovery_point: i64,
    /// Offsets below it are known to be there, however far from their segment's base.
    pub far_upto: i64,
    pub findings: Vec<Finding>,
    pub repairs: Repairs,
    pub report: OpenReport,
    pub read_only: Option<Error>,
    /// How far zeros are followed before they count as zeros to the end.
    pub zeros_max_bytes: u64,
    pub progress: Option<&'a mut dyn FnMut(u64)>,
    pub interval_bytes: u64,
}

/// The end of a file's valid batches, and why it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::log) struct SegmentEnd {
    pub position: u64,
    pub stop: Stop,
}

/// The place from which one file is read.
pub(in crate::log) enum Begin {
    FirstByte(SegmentLayout, SegmentOrigin),
    /// As another program's, though its offsets may be known to be dense.
    Contradicted {
        dense: bool,
    },
    /// Behind what is recorded of it.
    Border(SegmentState, Vec<AbortedTransaction>),
}

/// A segment that is being read, with what is known of it.
struct Beginning {
    summary: SegmentSummary,
    layout: SegmentLayout,
    origin: SegmentOrigin,
    /// All of it is read.
    whole: bool,
}

impl<'a> Pass<'a> {
    pub fn new(storage: &'a dyn Storage, folder: &'a Folder, interval_bytes: u64) -> Pass<'a> {
        Pass {
            storage,
            folder,
            rules: BatchExpectations::foreign(0, 0, true),
            transactions: TransactionTracker::default(),
            producers: None,
            lost_markers: None,
            epochs: EpochChain::default(),
            recorded_epochs: EpochChain::default(),
            segments: Vec::new(),
            last_batch: None,
            known_last: None,
            recovery_point: 0,
            far_upto: 0,
            findings: Vec::new(),
            repairs: Repairs::default(),
            report: OpenReport::default(),
            read_only: None,
            zeros_max_bytes: u64::MAX,
            progress: None,
            interval_bytes,
        }
    }

    /// Where the log ends so far.
    pub fn log_end(&self) -> i64 {
        self.rules.next_offset
    }

    /// Reads the batches of `file` and keeps it as the next segment.
    ///
    /// Without `rules.crc` only headers are read, and the CRC of the file's last batch: a batch
    /// that another follows was complete.
    pub fn read_segment(&mut self, file: &FolderFile, begin: Begin) -> Result<SegmentEnd> {
        let failed = |error| Error::io(error, "reading", &file.path);
        let open = self.storage.open(&file.path).map_err(failed)?;
        let base_offset = file.name.offset;
        let dense = matches!(begin, Begin::Contradicted { dense: true });
        let Beginning { mut summary, layout, origin, whole } = self.begin(base_offset, begin);
        let mut remembered = match layout.is_dense() || !whole {
            true => RememberedAborts::default(),
            false => RememberedAborts::of(self.storage, self.folder, file, &self.transactions)?,
        };
        self.rules.segment = base_offset;
        self.rules.exact = layout.is_dense() || dense;
        // What a compaction left may have been another program's.
        self.rules.epochs_fall = !layout.is_dense();
        self.rules.next_offset = self.log_end().max(summary.extent.next_offset);
        let window = if self.rules.crc { SCAN_WINDOW_BYTES } else { WALK_WINDOW_BYTES };
        let mut cursor = BatchCursor::new(&*open, file.len, window);
        cursor.zeros_max_bytes = self.zeros_max_bytes;
        let mut position = summary.extent.size_bytes;
        let mut held: Option<(FoundBatch, BatchExpectations)> = None;
        let mut told = 0;
        let mut stop = loop {
            let batch = match cursor.batch_at(position, &self.rules).map_err(failed)? {
                Scanned::Found(batch) => batch,
                Scanned::Stopped(Stop::Invalid(Invalid::Span))
                    if !self.rules.far && self.goes_far(file, &mut cursor, position)? =>
                {
                    self.rules.far = true;
                    continue;
                }
                Scanned::Stopped(stop) => break stop,
            };
            let invalid = self.contradiction(base_offset, &mut cursor, &batch).map_err(failed)?;
            if let Some(invalid) = invalid {
                break Stop::Invalid(invalid);
            }
            remembered.observe(&batch.header);
            if self.rules.crc {
                self.keep(&mut summary, &batch);
            } else if let Some((before, _)) = held.replace((batch, self.rules)) {
                self.keep(&mut summary, &before);
            }
            self.rules.advance(&batch.header);
            position = batch.end();
            if cursor.bytes_read - told >= PROGRESS_BYTES {
                self.tell(cursor.bytes_read - told);
                told = cursor.bytes_read;
            }
        };
        if let Some((last, before)) = held {
            match cursor.crc_fault(last.position, &last.header).map_err(failed)? {
                None => self.keep(&mut summary, &last),
                Some(fault) => {
                    self.rules = before;
                    position = last.position;
                    stop = Stop::Invalid(Invalid::Fault(fault));
                }
            }
        }
        self.tell(cursor.bytes_read - told);
        self.report.bytes_read += cursor.bytes_read;
        summary.finish();
        self.last_batch = summary.last_batch.or(self.last_batch);
        if stop == Stop::End {
            let next = self.next_base(base_offset).unwrap_or(summary.extent.next_offset);
            remembered.merge(&mut summary.aborted, next, &self.transactions.open());
        }
        self.push_summary(file, Beginning { summary, layout, origin, whole });
        Ok(SegmentEnd { position, stop })
    }

    /// The base offset of the segment behind one.
    fn next_base(&self, base_offset: i64) -> Option<i64> {
        self.folder.logs().map(|log| log.name.offset).find(|base| *base > base_offset)
    }

    fn begin(&self, base_offset: i64, begin: Begin) -> Beginning {
        let new = |layout, origin| {
            let summary = SegmentSummary::new(base_offset, self.interval_bytes);
            Beginning { summary, layout, origin, whole: true }
        };
        match begin {
            Begin::FirstByte(layout, origin) => new(layout, origin),
            Begin::Contradicted { .. } => new(SegmentLayout::Sparse, SegmentOrigin::Foreign),
            Begin::Border(state, aborted) => {
                let last = self.last_batch;
                let mut summary = SegmentSummary::resume(&state, last, self.interval_bytes);
                summary.aborted = aborted;
                let (layout, origin) = (state.layout, state.origin);
                Beginning { summary, layout, origin, whole: state.extent.size_bytes == 0 }
            }
        }
    }

    /// Whether the batch at `position` holds, but for its distance from the segment's base, and
    /// something else vouches for its offset, which no checksum covers: the next batch, the next
    /// file, or what is known of the log end.
    fn goes_far(
        &self,
        file: &FolderFile,
        cursor: &mut BatchCursor<'_>,
        position: u64,
    ) -> Result<bool> {
        let failed = |error| Error::io(error, "reading", &file.path);
        let mut rules = BatchExpectations { far: true, crc: true, ..self.rules };
        let Scanned::Found(batch) = cursor.batch_at(position, &rules).map_err(failed)? else {
            return Ok(false);
        };
        rules.advance(&batch.header);
        let next = rules.next_offset;
        Ok(match cursor.batch_at(batch.end(), &rules).map_err(failed)? {
            Scanned::Found(_) => true,
            Scanned::Stopped(Stop::End | Stop::Zeros) => {
                let mut later = self.folder.logs().map(|log| log.name.offset);
                let base = later.find(|base| *base > file.name.offset);
                base.map_or(next <= self.far_upto, |base| base >= next)
            }
            Scanned::Stopped(_) => false,
        })
    }

    /// Whether a whole batch stands at the end of what could be read, whatever its offsets.
    pub fn is_batch(&self, file: &FolderFile, end: &SegmentEnd) -> Result<bool> {
        let failed = |error| Error::io(error, "reading", &file.path);
        let open = self.storage.open(&file.path).map_err(failed)?;
        let mut cursor = BatchCursor::new(&*open, file.len, WALK_WINDOW_BYTES);
        match cursor.header_at(end.position).map_err(failed)? {
            Scanned::Found(header) => {
                Ok(cursor.crc_fault(end.position, &header).map_err(failed)?.is_none())
            }
            Scanned::Stopped(_) => Ok(false),
        }
    }

    fn keep(&mut self, summary: &mut SegmentSummary, batch: &FoundBatch) {
        summary.observe(batch, &mut self.transactions);
        self.epochs.assign(batch.header.leader_epoch, batch.header.base_offset);
        if batch.header.has_producer_id() {
            if let Some(producers) = &mut self.producers {
                producers.replay(&batch.header, batch.control);
            }
            self.report.producer_id_max =
                self.report.producer_id_max.max(Some(batch.header.producer_id));
        }
        self.report.batches += 1;
        self.report.records += u64::try_from(batch.header.records_count).unwrap_or(0);
    }

    /// What else is known, and speaks against a batch whose bytes hold.
    fn contradiction(
        &mut self,
        segment: i64,
        cursor: &mut BatchCursor<'_>,
        batch: &FoundBatch,
    ) -> std::io::Result<Option<Invalid>> {
        let moved = self.moved(segment, batch);
        match moved.or_else(|| self.unrecorded_epoch(batch)).or_else(|| self.lost_marker(batch)) {
            Some(invalid) => Ok(Some(invalid)),
            None => self.overlapping(segment, cursor, batch),
        }
    }

    /// Whether a batch that leaves offsets out reaches into the one behind it, which is where it
    /// may be: then it is this one that was moved.
    fn overlapping(
        &self,
        segment: i64,
        cursor: &mut BatchCursor<'_>,
        batch: &FoundBatch,
    ) -> std::io::Result<Option<Invalid>> {
        let (found, expected) = (batch.header.base_offset, self.rules.next_offset);
        if self.rules.exact || found == expected {
            return Ok(None);
        }
        let following = match cursor.header_at(batch.end())? {
            Scanned::Found(header) => Some(header.base_offset),
            Scanned::Stopped(Stop::End | Stop::Zeros) => self.next_base(segment),
            Scanned::Stopped(_) => None,
        };
        let reach = expected..batch.header.next_offset();
        let overlaps = following.is_some_and(|following| reach.contains(&following));
        Ok(overlaps.then_some(Invalid::Offset { found, expected }))
    }

    /// Whether this is the last batch that was known, and its base offset, which the checksum does
    /// not cover, is another one.
    fn moved(&self, segment: i64, batch: &FoundBatch) -> Option<Invalid> {
        let (last, header) = (self.known_last?, &batch.header);
        let same = (last.segment, last.position, last.crc) == (segment, batch.position, header.crc);
        (same && last.base_offset != header.base_offset)
            .then_some(Invalid::Offset { found: header.base_offset, expected: last.base_offset })
    }

    /// Whether the state knows that another epoch wrote this batch's offset (rule R3).
    fn unrecorded_epoch(&self, batch: &FoundBatch) -> Option<Invalid> {
        let header = &batch.header;
        let expected = self.recorded_epochs.epoch_of(header.base_offset)?;
        (self.rules.exact && header.leader_epoch != expected).then_some(Invalid::Epoch {
            found: header.leader_epoch,
            lowest: expected,
            highest: expected,
        })
    }

    /// Whether a marker before this batch is among what is missing.
    fn lost_marker(&mut self, batch: &FoundBatch) -> Option<Invalid> {
        self.lost_markers.as_mut()?.observe(&batch.header, batch.control).err()
    }

    fn push_summary(&mut self, file: &FolderFile, read: Beginning) {
        let Beginning { summary, layout, origin, whole } = read;
        self.segments.push(OpenedSegment {
            state: SegmentState {
                extent: summary.extent,
                layout,
                origin,
                ..SegmentState::empty(file.name.offset)
            },
            path: file.path.clone(),
            file_bytes: file.len,
            indexes: whole.then(|| Arc::new(summary.indexes)),
            aborted: summary.aborted,
        });
    }

    /// The segment that was read last stands for offsets up to `upto`, whatever compaction left of
    /// them.
    pub fn reach(&mut self, upto: i64) {
        self.rules.next_offset = self.rules.next_offset.max(upto);
        if let Some(last) = self.segments.last_mut() {
            last.state.extent.next_offset = last.state.extent.next_offset.max(upto);
        }
    }

    fn tell(&mut self, bytes: u64) {
        if bytes > 0
            && let Some(progress) = &mut self.progress
        {
            progress(bytes);
        }
    }

    /// Whether a valid batch goes on behind the end of `file`, at most `bytes_max` behind it.
    pub fn goes_on(&self, file: &FolderFile, end: &SegmentEnd, bytes_max: u64) -> Result<bool> {
        if matches!(end.stop, Stop::End | Stop::Zeros) {
            return Ok(false);
        }
        let failed = |error| Error::io(error, "reading", &file.path);
        let open = self.storage.open(&file.path).map_err(failed)?;
        let upto = file.len.min(end.position.saturating_add(bytes_max));
        let found = continuation(&*open, end.position, upto, &self.rules).map_err(failed)?;
        Ok(found.is_some())
    }

    /// Takes note of something about `file`.
    pub fn note(&mut self, kind: FindingKind, file: &FolderFile, position: u64, message: &str) {
        self.findings.push(Finding {
            kind,
            path: file.path.clone(),
            position: Some(position),
            offset: Some(self.log_end()),
            message: message.to_owned(),
        });
    }

    /// The log is damaged at `position`: it can be read up to there, and not be written.
    pub fn corrupt(&mut self, file: &FolderFile, position: u64, message: &str) {
        self.refuse(ErrorKind::CorruptRecord, FindingKind::Corrupt, file, position, message);
    }

    /// The log can be read up to `position`, and not be written.
    pub fn refuse(
        &mut self,
        kind: ErrorKind,
        finding: FindingKind,
        file: &FolderFile,
        position: u64,
        message: &str,
    ) {
        self.note(finding, file, position, message);
        let partition = &self.folder.partition;
        let error = Error::new(kind, message)
            .with_partition(partition.topic(), partition.partition())
            .with_offset(self.log_end())
            .with_path(&file.path)
            .with_position(position);
        self.read_only.get_or_insert(error);
    }

    /// Closes the pass.
    pub fn into_opened(mut self, log_start_offset: i64) -> OpenedPartition {
        let mut log_end_offset = self.log_end();
        let first = self.segments.first().map_or(log_end_offset, |s| s.state.extent.base_offset);
        let log_start_offset = log_start_offset.max(first);
        if log_end_offset < log_start_offset {
            self.findings.push(Finding {
                kind: FindingKind::StartAboveEnd,
                path: self.folder.path.clone(),
                position: None,
                offset: Some(log_start_offset),
                message: format!(
                    "the log ends at offset {log_end_offset}, below its start: it goes on there"
                ),
            });
            log_end_offset = log_start_offset;
        }
        self.epochs.truncate_end(log_end_offset);
        OpenedPartition {
            segments: self.segments,
            log_start_offset,
            log_end_offset,
            recovery_point: self.recovery_point.min(log_end_offset),
            epochs: self.epochs,
            transactions: self.transactions,
            lost_markers: self.lost_markers.unwrap_or_default(),
            transactional: false,
            producers: self.producers,
            any_producer: self.report.producer_id_max.is_some(),
            end_snapshot: None,
            last_batch: self.last_batch,
            resumable: false,
            read_only: self.read_only,
            link: None,
            swaps: false,
            given_up: None,
            left_out: Vec::new(),
            findings: self.findings,
            report: self.report,
            repairs: self.repairs,
        }
    }
}
