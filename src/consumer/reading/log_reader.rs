//! One reader in one log: what it fetches, and where it goes on.

use super::aborted::AbortedFilter;
use super::records::ConsumerRecords;
use super::walk::{BatchWalk, ResumeHint, Unpack, WalkResult};
use crate::broker::Partition;
use crate::config::IsolationLevel;
use crate::error::{Error, Result};
use crate::log::{Chunk, Cursor, FetchLimits};
use crate::record::{BatchFault, BatchHeader};
use crate::topic::TopicPartition;

/// Where a reader of one partition stands in its log, and what it knows of what lies there.
#[derive(Debug, Clone)]
pub(in crate::consumer) struct LogReader {
    cursor: Cursor,
    /// The batch that the position is in the middle of.
    resume: Option<ResumeHint>,
    record_size: SizeHint,
}

impl LogReader {
    /// A reader at `offset`; whether the log has it is found out by the first read.
    pub fn new(offset: i64) -> LogReader {
        LogReader { cursor: Cursor::new(offset), resume: None, record_size: SizeHint::default() }
    }

    /// The place that it goes on from.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Goes elsewhere.
    pub fn seek(&mut self, offset: i64) {
        self.cursor = Cursor::new(offset);
        self.resume = None;
    }

    /// Gives back what is held of the batch that the position is in the middle of.
    pub fn forget_batch(&mut self) {
        self.resume = None;
    }

    /// What is wrong at `offset`, where this reader stands, with the file that has it.
    #[cold]
    pub fn unreadable(
        &self,
        fault: BatchFault,
        (log, partition): (&Partition, &TopicPartition),
        offset: i64,
    ) -> Error {
        let error: Error = fault.into();
        let error =
            error.with_partition(partition.topic(), partition.partition()).with_offset(offset);
        match log.file_at(&self.cursor) {
            Some((path, position)) => error.with_path(path).with_position(position),
            None => error,
        }
    }

    /// How many bytes of batches there are from here on below `upto`: all of them up to `enough`,
    /// and maybe more.
    ///
    /// # Errors
    /// Those of the log.
    pub fn bytes_ahead(
        &self,
        log: &Partition,
        isolation: IsolationLevel,
        upto: i64,
        enough: usize,
    ) -> Result<usize> {
        let mut cursor = self.cursor.clone();
        let mut bytes = 0;
        while bytes < enough && cursor.offset() < upto {
            let chunk = log.fetch(&mut cursor, isolation, FetchLimits::bytes(enough - bytes))?;
            let from = cursor.offset();
            let counted = chunk.reading(|| count_bytes(&chunk, from, enough - bytes));
            let Some((more @ 1.., next_offset)) = counted else { break };
            bytes += more;
            cursor.advance(more, next_offset, true);
        }
        Ok(bytes)
    }
}

/// How many bytes the first batches of a chunk take, up to the one that makes them `enough`, and
/// the offset behind them.
fn count_bytes(chunk: &Chunk, from: i64, enough: usize) -> (usize, i64) {
    let (mut at, mut next_offset) = (0, from);
    while let Some(rest) = chunk.bytes().get(at..).filter(|_| at < enough) {
        let Ok(header) = BatchHeader::parse(rest) else { break };
        if header.next_offset() > chunk.upto() {
            break;
        }
        at += header.size();
        next_offset = header.next_offset();
    }
    (at, next_offset)
}

/// What a record takes in the log, as far as it was seen.
#[derive(Debug, Clone, Copy)]
struct SizeHint(usize);

impl Default for SizeHint {
    /// A wrong guess costs another read.
    fn default() -> SizeHint {
        SizeHint(256)
    }
}

/// One read of one partition.
pub(in crate::consumer) struct Reading<'a> {
    pub partition: &'a TopicPartition,
    pub log: &'a Partition,
    pub isolation: IsolationLevel,
    /// At least 1.
    pub records_max: usize,
    pub bytes_max: usize,
    /// Whether the first batch may be larger: it is the first of its fetch.
    pub may_exceed: bool,
    /// Whether this may be the first read of a segment.
    pub may_open_segment: bool,
    /// What compressed batches may decompress to.
    pub unpack: Unpack,
}

impl Reading<'_> {
    /// Reads on from `position`, where the reader stands, and adds what may be returned to `out`.
    /// `None` if there is nothing. The reader moves along with the position.
    ///
    /// # Errors
    /// Those of the log. Nothing was added then, and nothing moved.
    pub fn go_on(
        &self,
        position: i64,
        reader: &mut LogReader,
        out: &mut ConsumerRecords,
    ) -> Result<Option<WalkResult>> {
        let partial = reader.resume.take();
        // In the middle of a segment's first batch a read goes on in that segment.
        let refused = !self.may_open_segment && partial.is_none();
        let wanted = self.records_max.saturating_mul(reader.record_size.0).max(READ_BYTES_MIN);
        let limits = FetchLimits {
            records_max: self.records_max,
            bytes_max: self.bytes_max,
            verify_bytes: wanted.min(self.bytes_max),
        };
        let chunk = self.log.fetch(&mut reader.cursor, self.isolation, limits)?;
        let upto = chunk.upto();
        if chunk.is_empty() {
            // Nothing is left from here to there, and there is nothing to wait for.
            return Ok((upto > position).then(|| WalkResult::nothing(upto)));
        }
        if chunk.opens_segment() && refused {
            return Ok(None);
        }
        let walk = BatchWalk {
            partition: self.partition,
            position,
            records_max: self.records_max,
            bytes_max: self.bytes_max,
            // A batch that was begun is gone on with.
            may_exceed: self.may_exceed || partial.is_some(),
            partial,
            unpack: self.unpack,
            upto,
            aborted: (self.isolation == IsolationLevel::ReadCommitted)
                .then(|| AbortedFilter::new(self.log, position, upto)),
            uncompressed_max: self.log.uncompressed_max(),
        };
        let Some(mut walked) = walk.over(&chunk, out)? else {
            reader.seek(position);
            return self.go_on(position, reader, out);
        };
        reader.resume = walked.partial.take();
        let whole = walked.position > position && reader.resume.is_none();
        reader.cursor.advance(walked.bytes, walked.position, whole);
        if let Some(bytes @ 1..) = walked.bytes.checked_div(walked.records) {
            reader.record_size = SizeHint(bytes);
        }
        Ok(walked.is_something(position).then_some(walked))
    }
}

/// A read asks for at least this much, so that small records do not make many reads.
const READ_BYTES_MIN: usize = 4096;
