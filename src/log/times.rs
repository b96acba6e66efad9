//! From timestamps to offsets, over any segments whose batches can be walked.
//!
//! Answers come from records alone: neither a file's modification time nor what a header claims
//! for records that compaction took is an answer. Timestamps need not ascend, so "the first" means
//! the lowest offset. The time index only says where a search may begin.

use super::summary::{SegmentIndexes, relative};
use crate::error::Result;
use crate::record::{BatchFault, BatchHeader, RecordBatch};
use crate::sync::Arc;

/// The borders of a segment that decide whether a search looks into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentTimes {
    pub base_offset: i64,
    pub next_offset: i64,
    /// The largest timestamp that any of its headers has, -1 if none has one.
    pub max_timestamp: i64,
    /// The last offset of the first batch that has it.
    pub max_timestamp_offset: i64,
}

/// A segment that can be searched by time.
pub(crate) trait TimedSegment {
    fn times(&self) -> SegmentTimes;

    /// # Errors
    /// Those of building them.
    fn indexes(&self) -> Result<Arc<SegmentIndexes>>;

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
pub(crate) type UseBatch<'u> = dyn FnMut(RecordBatch<'_>) -> Result<()> + 'u;

/// A record that a search by time found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimedOffset {
    pub offset: i64,
    pub timestamp: i64,
}

/// The record with the lowest offset in `from..upto` whose timestamp is at or after `timestamp`.
///
/// # Errors
/// Those of reading; [`crate::ErrorKind::CorruptRecord`] for records that cannot be read.
pub(crate) fn offset_for_time<S: TimedSegment>(
    segments: &[S],
    timestamp: i64,
    from: i64,
    upto: i64,
) -> Result<Option<TimedOffset>> {
    for segment in segments {
        let times = segment.times();
        if times.next_offset <= from || times.max_timestamp < timestamp {
            continue;
        }
        if times.base_offset >= upto {
            break;
        }
        let indexes = segment.indexes()?;
        let late_enough = indexes.times.lookup(timestamp);
        let from_relative = relative(from.max(times.base_offset), times.base_offset).unwrap_or(0);
        let position = indexes.offsets.lookup(late_enough.max(from_relative));
        let mut found = None;
        segment.walk(u64::from(position), &mut |header, bytes| {
            if header.base_offset >= upto {
                return Ok(false);
            }
            if header.max_timestamp >= timestamp && header.last_offset() >= from {
                bytes(&mut |batch| {
                    found = first_at_or_after(&batch, timestamp, from, upto)?;
                    Ok(())
                })?;
            }
            Ok(found.is_none())
        })?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The record with the largest timestamp; of several, the one with the lowest offset. Records
/// without a timestamp do not count. As in Kafka, records below the log start offset do, while
/// their segment is there.
///
/// # Errors
/// As [`offset_for_time`].
pub(crate) fn max_timestamp<S: TimedSegment>(segments: &[S]) -> Result<Option<TimedOffset>> {
    let mut by_time: Vec<(&S, SegmentTimes)> =
        segments.iter().map(|segment| (segment, segment.times())).collect();
    // Stable: of segments with the same largest timestamp the first one comes first.
    by_time.sort_by_key(|(_, times)| std::cmp::Reverse(times.max_timestamp));
    let mut best: Option<TimedOffset> = None;
    for (segment, times) in by_time {
        let least = best.map_or(0, |best| best.timestamp);
        if times.max_timestamp < least {
            break;
        }
        if times.max_timestamp < 0 {
            break;
        }
        // Usually the first header that has the segment's largest timestamp has the record, too.
        let indexes = segment.indexes()?;
        let at = relative(times.max_timestamp_offset, times.base_offset).unwrap_or(0);
        let position = u64::from(indexes.offsets.lookup(at));
        search(segment, position, &mut best, true)?;
        // Else the records of that header are gone; what a later segment has as late is no answer
        // while there may be one here.
        let may_be_better = |best: TimedOffset| {
            best.timestamp < times.max_timestamp || best.offset >= times.next_offset
        };
        if best.is_none_or(may_be_better) {
            search(segment, 0, &mut best, false)?;
        }
    }
    Ok(best)
}

/// Improves `best` by the batches from `position` on; `only_first` stops at the first batch with
/// the segment's largest timestamp.
fn search<S: TimedSegment>(
    segment: &S,
    position: u64,
    best: &mut Option<TimedOffset>,
    only_first: bool,
) -> Result<()> {
    let top = segment.times().max_timestamp;
    segment.walk(position, &mut |header, bytes| {
        let is_top = header.max_timestamp == top;
        let promising = match best {
            None => header.max_timestamp >= 0,
            Some(best) => {
                header.max_timestamp > best.timestamp
                    || (header.max_timestamp == best.timestamp && header.base_offset < best.offset)
            }
        };
        if promising && (is_top || !only_first) {
            bytes(&mut |batch| {
                if let Some(found) = latest(&batch)?
                    && best.is_none_or(|best| {
                        (found.timestamp, best.offset) > (best.timestamp, found.offset)
                    })
                {
                    *best = Some(found);
                }
                Ok(())
            })?;
        }
        Ok(!(only_first && is_top))
    })
}

/// The first record of a batch at or after `timestamp` with an offset in `from..upto`.
///
/// # Errors
/// The fault that ends the records before one was found.
pub(crate) fn first_at_or_after(
    batch: &RecordBatch<'_>,
    timestamp: i64,
    from: i64,
    upto: i64,
) -> Result<Option<TimedOffset>, BatchFault> {
    let mut scratch = Vec::new();
    for record in batch.records(&mut scratch)? {
        let record = record?;
        if record.timestamp() >= timestamp && (from..upto).contains(&record.offset()) {
            let (offset, timestamp) = (record.offset(), record.timestamp());
            return Ok(Some(TimedOffset { offset, timestamp }));
        }
    }
    Ok(None)
}

/// The first record with the batch's largest timestamp.
fn latest(batch: &RecordBatch<'_>) -> Result<Option<TimedOffset>, BatchFault> {
    let mut scratch = Vec::new();
    let mut best: Option<TimedOffset> = None;
    for record in batch.records(&mut scratch)? {
        let record = record?;
        let (offset, timestamp) = (record.offset(), record.timestamp());
        if timestamp >= 0 && best.is_none_or(|best| timestamp > best.timestamp) {
            best = Some(TimedOffset { offset, timestamp });
        }
    }
    Ok(best)
}
