//! The batches of a closed segment, whole and checked, one after the other, by pread: what a
//! cleaning reads is not to push what others read out of memory, and a bad sector is an error.

use crate::error::{Error, ErrorKind, Result};
use crate::log::read::misplaced;
use crate::log::segment::Segment;
use crate::record::{BATCH_OVERHEAD, BatchHeader, Codec, RecordBatch};
use crate::storage::{File, Storage};
use crate::sync::Arc;

/// The bytes ahead of the next batch in which keys are shown: what is read of two dozen records
/// sent alone takes as long as memory does.
const AHEAD_BYTES: u64 = 4 << 10;

/// The batches of one closed segment, read from its first to its last.
#[derive(Debug)]
pub(super) struct SegmentSource {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    /// Where the batches of the segment end.
    end: u64,
    /// Where the next batch begins.
    position: u64,
    /// The least offset that it may have.
    next_offset: i64,
    buffer: Vec<u8>,
    /// Where `buffer` begins in the file.
    buffer_at: u64,
    /// Up to here keys were shown before their batches.
    ahead: u64,
    window_bytes: usize,
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
            position: 0,
            next_offset: segment.base_offset,
            buffer: Vec::new(),
            buffer_at: 0,
            ahead: 0,
            window_bytes: window_bytes.max(BATCH_OVERHEAD),
            segment: segment.clone(),
        })
    }

    /// The next batch, with its checksum checked; `None` behind the last one.
    ///
    /// # Errors
    /// `CorruptRecord` with path and position for bytes that are not what was written, `Io`.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch<'_>>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let at = self.position;
        self.fill(BATCH_OVERHEAD)?;
        let header = BatchHeader::parse(self.window());
        let header = header.map_err(|fault| self.placed(at, fault.into()))?;
        self.fill(header.size())?;
        let (base, next) = (header.base_offset, header.next_offset());
        if base < self.next_offset || next <= base {
            return Err(self.placed(at, misplaced(base, self.next_offset)));
        }
        self.position += header.size() as u64;
        self.next_offset = next;
        let placed = |error: Error| self.placed(at, error);
        let skip = usize::try_from(at - self.buffer_at).unwrap_or(usize::MAX);
        let batch = RecordBatch::parse(self.buffer.get(skip..).unwrap_or_default());
        let batch = batch.map_err(|fault| placed(fault.into()))?;
        batch.check_crc().map_err(|fault| placed(fault.into()))?;
        if self.position > self.end {
            let message = "the last batch reaches beyond the segment";
            return Err(placed(Error::new(ErrorKind::CorruptRecord, message)));
        }
        Ok(Some(batch))
    }

    /// Shows the keys of batches that come soon, each once, as far as they were read already. They
    /// are not checked yet.
    pub fn keys_ahead(&mut self, mut visit: impl FnMut(&[u8])) {
        self.ahead = self.ahead.max(self.position);
        let mut unused = Vec::new();
        while self.ahead < self.position.saturating_add(AHEAD_BYTES) {
            let skip = usize::try_from(self.ahead - self.buffer_at).unwrap_or(usize::MAX);
            let rest = self.buffer.get(skip..).unwrap_or_default();
            let Ok(batch) = RecordBatch::parse(rest) else { return };
            self.ahead += batch.bytes().len() as u64;
            if batch.header().is_control() || batch.header().codec() != Ok(Codec::None) {
                continue;
            }
            for record in batch.records(&mut unused).into_iter().flatten() {
                let Ok(record) = record else { break };
                record.key().into_iter().for_each(&mut visit);
            }
        }
    }

    /// An error of the batch that begins at a position.
    #[cold]
    fn placed(&self, at: u64, error: Error) -> Error {
        error.with_path(self.segment.path()).with_position(at)
    }

    /// What was read from the next batch on.
    fn window(&self) -> &[u8] {
        let skip = usize::try_from(self.position - self.buffer_at).unwrap_or(usize::MAX);
        self.buffer.get(skip..).unwrap_or_default()
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
        let skip = usize::try_from(self.position - self.buffer_at).unwrap_or(usize::MAX);
        self.buffer.drain(..skip.min(self.buffer.len()));
        self.buffer_at = self.position;
        let have = self.buffer.len();
        let most = wanted.max(self.window_bytes.min(left));
        self.buffer.resize(most, 0);
        let mut done = have;
        while let Some(rest) = self.buffer.get_mut(done..most).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(self.position + done as u64, rest) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.buffer.clear();
                    return Err(error);
                }
            }
        }
        self.buffer.truncate(done);
        Ok(())
    }
}
