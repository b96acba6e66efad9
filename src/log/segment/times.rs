//! From timestamps to offsets, over any segments whose batches can be walked.
//!
//! Timestamps need not ascend, so "the first" means the lowest offset. The time index only says
//! where a search may begin. Answers are Kafka's, odd ones included: segments are chosen by what
//! the headers of their batches say, of which one alone is looked into, and compaction leaves
//! headers whose records are gone. What Kafka takes from a file's modification time is not here.

use crate::error::Result;
use crate::log::segment::extent::SegmentExtent;
use crate::log::segment::summary::relative;
use crate::record::{BatchFault, BatchHeader, RecordBatch};
use std::ops::Range;

/// A segment that can be searched by time.
pub(crate) trait TimedSegment {
    /// Its borders and times decide whether a search looks into it.
    fn extent(&self) -> SegmentExtent;

    /// An offset, relative, at or before the first batch that reaches the time.
    ///
    /// # Errors
    /// Those of building the index.
    fn offset_at(&self, timestamp: i64) -> Result<u32>;

    /// The position of a batch at or before the one that holds the offset, relative.
    ///
    /// # Errors
    /// Those of building the index.
    fn position_of(&self, relative: u32) -> Result<u64>;

    /// Shows every batch from the one at `position` on, until `visit` answers false.
    ///
    /// # Errors
    /// Those of reading, and those of `visit`.
    fn walk(&self, position: u64, visit: &mut Visit<'_>) -> Result<()>;
}

/// What [`TimedSegment::walk`] calls: with a batch's header, and a way to its bytes. Returns
/// whether to go on.
pub(crate) type Visit<'v> =
    dyn FnMut(&BatchHeader, &mut dyn FnMut(&mut UseBatch<'_>) -> Result<()>) -> Result<bool> + 'v;

/// What a visitor does with the bytes of a batch, if it asks for them.
pub(crate) type UseBatch<'u> = dyn FnMut(&RecordBatch<'_>) -> Result<(), BatchFault> + 'u;

/// A record that a search by time found: Kafka's `TimestampAndOffset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimestampAndOffset {
    pub offset: i64,
    pub timestamp: i64,
}

/// The record with the lowest offset in `from..upto` whose timestamp is at or after `timestamp`, in
/// the first segment that has a header which reaches it.
///
/// # Errors
/// Those of reading; [`crate::ErrorKind::CorruptRecord`] for records that cannot be read.
pub(crate) fn offset_for_time<S: TimedSegment>(
    segments: &[S],
    timestamp: i64,
    offsets: Range<i64>,
    limit: usize,
) -> Result<Option<TimestampAndOffset>> {
    let (from, upto) = (offsets.start, offsets.end);
    let reaches =
        |extent: SegmentExtent| extent.size_bytes > 0 && extent.max_timestamp >= timestamp;
    let Some(segment) = segments.iter().find(|segment| reaches(segment.extent())) else {
        return Ok(None);
    };
    let times = segment.extent();
    let late_enough = segment.offset_at(timestamp)?;
    let from_relative = relative(from.max(times.base_offset), times.base_offset).unwrap_or(0);
    let position = segment.position_of(late_enough.max(from_relative))?;
    let mut found = None;
    segment.walk(position, &mut |header, bytes| {
        // Where bytes turned out not to be readable, the walk is another one.
        found = None;
        if header.base_offset >= upto {
            return Ok(false);
        }
        if header.max_timestamp >= timestamp && header.last_offset() >= from {
            bytes(&mut |batch| {
                found = first_at_or_after(batch, timestamp, from..upto, limit)?;
                Ok(())
            })?;
        }
        Ok(found.is_none())
    })?;
    Ok(found)
}

/// The first record with the largest timestamp that any header has; none where the first batch
/// with such a header has no such record. Records below the log start offset count while their
/// segment is there.
///
/// # Errors
/// As [`offset_for_time`].
pub(crate) fn max_timestamp<S: TimedSegment>(
    segments: &[S],
    limit: usize,
) -> Result<Option<TimestampAndOffset>> {
    let mut latest: Option<(&S, SegmentExtent)> = None;
    for segment in segments {
        let times = segment.extent();
        let least = latest.map_or(-1, |(_, latest)| latest.max_timestamp);
        if times.max_timestamp > least {
            latest = Some((segment, times));
        }
    }
    let Some((segment, times)) = latest else { return Ok(None) };
    let at = relative(times.max_timestamp_offset, times.base_offset).unwrap_or(0);
    let position = segment.position_of(at)?;
    let mut found = None;
    segment.walk(position, &mut |header, bytes| {
        found = None;
        if header.max_timestamp != times.max_timestamp {
            return Ok(true);
        }
        bytes(&mut |batch| {
            found = first_at_or_after(batch, times.max_timestamp, 0..i64::MAX, limit)?;
            Ok(())
        })?;
        Ok(false)
    })?;
    Ok(found.filter(|found| found.timestamp == times.max_timestamp))
}

/// The first record of a batch at or after `timestamp` with an offset in `from..upto`.
///
/// # Errors
/// The fault that ends the records before one was found.
pub(crate) fn first_at_or_after(
    batch: &RecordBatch<'_>,
    timestamp: i64,
    offsets: Range<i64>,
    limit: usize,
) -> Result<Option<TimestampAndOffset>, BatchFault> {
    let mut scratch = Vec::new();
    for record in batch.records_below(&mut scratch, limit)? {
        let record = record?;
        if record.timestamp() >= timestamp && offsets.contains(&record.offset()) {
            let (offset, timestamp) = (record.offset(), record.timestamp());
            return Ok(Some(TimestampAndOffset { offset, timestamp }));
        }
    }
    Ok(None)
}
