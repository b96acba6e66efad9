//! The batches of a closed segment, whole and checked, one after the other, by pread: what a
//! cleaning reads is not to push what others read out of memory, and a bad sector is an error.

use std::io::ErrorKind as IoErrorKind;
use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::log::read::{base_at, misplaced};
use crate::log::segment::Segment;
use crate::log::segment::order::BatchOrder;
use crate::record::{BATCH_OVERHEAD, BatchHeader, RecordBatch};
use crate::storage::{File, Storage};
use crate::sync::Arc;

/// Where keys are noted a run ends behind so many bytes: the places of its keys are waited for
/// once, and are in the nearest caches still when they are used.
pub(super) const NOTED_RUN_BYTES: u64 = 16 << 10;
/// A run that is copied may be longer: what stays of it may be written at once.
pub(super) const COPIED_RUN_BYTES: u64 = 64 << 10;

/// The batches of one closed segment, read from its first to its last.
#[derive(Debug)]
pub(super) struct SegmentSource {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    /// Where the batches of the segment end.
    end: u64,
    order: BatchOrder,
    /// Where the next batch begins.
    position: u64,
    /// The least offset that it may have.
    next_offset: i64,
    /// What was read fills the first `filled` bytes.
    buffer: Vec<u8>,
    filled: usize,
    /// Where `buffer` begins in the file.
    buffer_at: u64,
    window_bytes: usize,
    run: Vec<BatchOfRun>,
}

/// A batch of a run, and where it begins in the buffer.
#[derive(Debug, Clone, Copy)]
struct BatchOfRun {
    header: BatchHeader,
    at: usize,
}

/// Some batches of a segment, one behind the other, whole and checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    run: &'a [BatchOfRun],
    buffer: &'a [u8],
}

impl<'a> Run<'a> {
    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.run.is_empty()
    }

    /// The batches, in the order of the log.
    pub fn batches(&self) -> impl Iterator<Item = RecordBatch<'a>> + use<'a> {
        self.placed_batches().map(|(_, batch)| batch)
    }

    /// The same, each behind its place in [`Run::bytes`].
    pub fn placed_batches(&self) -> impl Iterator<Item = (usize, RecordBatch<'a>)> + use<'a> {
        let buffer = self.buffer;
        self.run.iter().filter_map(move |batch| {
            let bytes = buffer.get(batch.at..).unwrap_or_default();
            Some((batch.at, RecordBatch::of(&batch.header, bytes)?))
        })
    }

    /// The batches that lie at these places, as their bytes.
    pub fn bytes(&self, range: Range<usize>) -> &'a [u8] {
        self.buffer.get(range).unwrap_or_default()
    }

    /// The bytes that they take.
    pub fn size_bytes(&self) -> u64 {
        self.run.iter().map(|batch| batch.header.size() as u64).sum()
    }
}

impl SegmentSource {
    /// The batches from the first one on; `window_bytes` are read at once.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(
        storage: &dyn Storage,
        segment: &Arc<Segment>,
        window_bytes: usize,
    ) -> Result<SegmentSource> {
        let file = match segment.file() {
            Some(file) => file,
            None => storage
                .open(segment.path())
                .map_err(|e| Error::io(e, "cannot open the segment", segment.path()))?,
        };
        Ok(SegmentSource {
            file,
            end: segment.extent().size_bytes,
            order: BatchOrder::of(segment.layout, &segment.extent()),
            position: 0,
            next_offset: segment.base_offset,
            buffer: Vec::new(),
            filled: 0,
            buffer_at: 0,
            window_bytes: window_bytes.max(BATCH_OVERHEAD),
            run: Vec::new(),
            segment: segment.clone(),
        })
    }

    /// The next batches, about `run_bytes` of them, each with its checksum checked; none behind the
    /// last one.
    ///
    /// # Errors
    /// `CorruptRecord` with path and position for bytes that are not what was written, `Io`.
    pub fn next_run(&mut self, run_bytes: u64) -> Result<Run<'_>> {
        self.run.clear();
        let behind = self.position.saturating_add(run_bytes);
        while self.position < behind.min(self.end) {
            let is_first = self.run.is_empty();
            // The buffer stays as it is behind the first one.
            if is_first {
                self.fill_batch()?;
            }
            match self.take_batch() {
                Ok(batch) => self.run.push(batch),
                Err(error) if is_first => return Err(error),
                // It is not all there yet, or the next call tells what is wrong with it.
                Err(_) => break,
            }
        }
        let buffer = self.buffer.get(..self.filled).unwrap_or_default();
        Ok(Run { run: &self.run, buffer })
    }

    /// Has the next batch in the buffer.
    fn fill_batch(&mut self) -> Result<()> {
        self.fill(BATCH_OVERHEAD)?;
        match BatchHeader::parse(self.window()) {
            Ok(header) => self.fill(header.size()),
            Err(fault) => Err(self.placed(fault.into())),
        }
    }

    /// Checks the next batch and goes on behind it.
    fn take_batch(&mut self) -> Result<BatchOfRun> {
        let batch = RecordBatch::parse(self.window());
        let batch = batch.map_err(|fault| self.placed(fault.into()))?;
        let header = *batch.header();
        let expected = Some(self.next_offset);
        let following = || base_at(self.window(), header.size());
        if let Some(due) = self.order.due_instead(&header, expected, following) {
            return Err(self.placed(misplaced(self.order, header.base_offset, due)));
        }
        batch.check_crc().map_err(|fault| self.placed(fault.into()))?;
        let behind = self.position + header.size() as u64;
        if behind > self.end {
            let message = "the last batch reaches beyond the segment";
            return Err(self.placed(Error::new(ErrorKind::CorruptRecord, message)));
        }
        let at = self.skip();
        self.position = behind;
        self.next_offset = header.next_offset();
        Ok(BatchOfRun { header, at })
    }

    /// An error of the next batch.
    #[cold]
    fn placed(&self, error: Error) -> Error {
        error.with_path(self.segment.path()).with_position(self.position)
    }

    /// Where the next batch begins in the buffer.
    fn skip(&self) -> usize {
        usize::try_from(self.position - self.buffer_at).unwrap_or(usize::MAX)
    }

    /// What was read from the next batch on.
    fn window(&self) -> &[u8] {
        self.buffer.get(self.skip()..self.filled).unwrap_or_default()
    }

    /// Has `bytes` bytes from the next batch on in the buffer, or what there is.
    fn fill(&mut self, bytes: usize) -> Result<()> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let wanted = bytes.min(left);
        if self.window().len() >= wanted {
            return Ok(());
        }
        let filled = self.read_window(wanted, left);
        filled.map_err(|e| Error::io(e, "reading", self.segment.path()))
    }

    fn read_window(&mut self, wanted: usize, left: usize) -> std::io::Result<()> {
        let have = self.window().len();
        if have > 0 {
            let skip = self.skip();
            self.buffer.copy_within(skip..self.filled, 0);
        }
        (self.filled, self.buffer_at) = (have, self.position);
        let most = wanted.max(self.window_bytes.min(left));
        if self.buffer.len() < most {
            self.buffer.resize(most, 0);
        }
        while let Some(rest) = self.buffer.get_mut(self.filled..most).filter(|r| !r.is_empty()) {
            match self.file.read_at(self.position + self.filled as u64, rest) {
                Ok(0) => break,
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == IoErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
