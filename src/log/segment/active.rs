//! The segment that a writer appends to: the region, the position, the indexes, the borders that
//! a batch must stay within.
//!
//! All of it lies under the partition's lock. [`Active::fits`] is the whole check of an append
//! that needs nothing but stores; everything else is the slow path's.

use crate::config::LogConfig;
use crate::log::index::{offset_index, time_index};
use crate::log::segment::Segment;
use crate::log::segment::extent::SegmentExtent;
use crate::log::segment::summary::SegmentIndexes;
use crate::record::{BATCH_OVERHEAD, BatchHeader, Sink};
use crate::storage::{File, RegionWriter};
use crate::sync::Arc;

/// Bytes that an idle partition's first segment takes on disk. Kafka takes none, but a growing
/// file costs a system call each time; four pages hold the first records of most.
pub(crate) const FIRST_STEP_BYTES: u64 = 16 << 10;
/// What a writer makes of pages itself where none are ready, in one go: a quarter of a
/// millisecond's work at most where this was measured.
pub(crate) const WRITER_PART_BYTES: u64 = 256 << 10;
/// Where a step of so many bytes was asked for and did not come in time, the machine is busy: the
/// preparer's turns come late, and waiting for it takes longer than its work. Smaller steps are
/// outrun by any writer.
const LATE_BYTES_MIN: u64 = 512 << 10;
/// For so many bytes a writer makes its pages itself then. Few enough that one that sends in bursts
/// soon has its pages made in between.
const ALONE_BYTES: usize = 8 << 20;
/// The largest step by which a file grows: 16 MiB took 30 us to allocate where this was measured.
pub(crate) const STEP_BYTES_MAX: u64 = 16 << 20;
/// A file may be this much longer than what is stored in it, and by a quarter of that more: steps
/// that only double leave many partitions with a little each holding several times what they store.
const SLACK_BYTES: u64 = 1 << 20;

/// Base offset, length and leader epoch: the part of a batch that its checksum leaves out, and
/// that a log may write.
const STAMP_BYTES: usize = 16;

/// The numbers of a batch that an append adds to a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming {
    pub size: usize,
    pub last_offset: i64,
    pub max_timestamp: i64,
}

/// The content of a batch, as far as its writer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Records to return, one behind the other, and no offset without one: not compressed, no
    /// marker, of no transaction. A reader may count them without a look.
    PlainRecords,
    /// Whatever its header says.
    Anything,
}

/// The limits of the active segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub segment_bytes: usize,
    /// How far timestamps may run ahead of the first batch's; jitter is taken off already.
    pub segment_ms: i64,
    pub index_entries_max: usize,
    pub time_entries_max: usize,
    pub index_interval_bytes: usize,
}

impl Limits {
    /// The limits of one segment: each draws its own jitter.
    pub fn new(config: &LogConfig, random: u64) -> Limits {
        let segment_ms = if config.cleanup_compact {
            config.segment_ms.min(config.max_compaction_lag_ms)
        } else {
            config.segment_ms
        };
        let spread = config.segment_jitter_ms.min(segment_ms);
        let jitter = match u64::try_from(spread) {
            Ok(spread) if spread > 0 => i64::try_from(random % spread).unwrap_or(0),
            _ => 0,
        };
        // The bytes of an entry in Kafka's files decide when an index is full.
        let entries =
            |size| usize::try_from(config.segment_index_bytes).unwrap_or(usize::MAX) / size;
        Limits {
            segment_bytes: usize::try_from(config.segment_bytes)
                .unwrap_or(usize::MAX)
                .min(i32::MAX as usize),
            segment_ms: segment_ms - jitter,
            index_entries_max: entries(offset_index::ENTRY_SIZE).max(1),
            // Kafka keeps one slot for the entry that closing adds.
            time_entries_max: entries(time_index::ENTRY_SIZE).saturating_sub(1).max(1),
            index_interval_bytes: usize::try_from(config.index_interval_bytes)
                .unwrap_or(usize::MAX),
        }
    }
}

/// The active segment, as its writer has it.
#[derive(Debug)]
pub(crate) struct Active {
    pub segment: Arc<Segment>,
    pub file: Arc<dyn File>,
    pub region: RegionWriter,
    /// Where the next batch begins: the published length.
    pub position: usize,
    /// A batch that ends at or below it needs no system call and no announcement.
    soft_end: usize,
    /// From here on the next step is wanted.
    wake_at: usize,
    /// It was asked for, and whoever prepares ahead has not answered.
    asked: bool,
    /// Up to here the writer asks for nothing.
    alone_until: usize,
    pub step_bytes: u64,
    /// Bytes of the segment that this writer filled before.
    filled_before: u64,
    limits: Limits,
    /// The latest timestamp that belongs into this segment.
    roll_after_ms: i64,
    /// The time of creation, for segments whose first batch has no timestamp.
    created_ms: i64,
    /// What readers and the state file are told.
    extent: SegmentExtent,
    bytes_since_index: usize,
    /// Entries for what this writer appended.
    indexes: SegmentIndexes,
    /// An index is full: nothing more fits.
    full: bool,
}

impl Active {
    /// Takes over a segment whose batches end at `extent`; the region is published up to there.
    pub fn new(
        segment: Arc<Segment>,
        file: Arc<dyn File>,
        region: RegionWriter,
        extent: SegmentExtent,
        limits: Limits,
        created_ms: i64,
    ) -> Active {
        let mut active = Active {
            position: region.region().published(),
            segment,
            file,
            region,
            soft_end: 0,
            wake_at: 0,
            asked: false,
            alone_until: 0,
            step_bytes: FIRST_STEP_BYTES,
            filled_before: 0,
            limits,
            roll_after_ms: i64::MAX,
            created_ms,
            extent,
            bytes_since_index: 0,
            indexes: SegmentIndexes::default(),
            full: false,
        };
        assert_eq!(active.position as u64, extent.size_bytes, "published is where batches end");
        active.set_limits(limits);
        active.refresh();
        active
    }

    /// Whether the batch can be stored with no more than stores.
    #[inline]
    pub fn fits(&self, incoming: Incoming) -> bool {
        self.position + incoming.size <= self.soft_end
            && incoming.max_timestamp <= self.roll_after_ms
            && incoming.last_offset - self.segment.base_offset <= i64::from(i32::MAX)
            && !self.full
    }

    /// Whether the batch opens a new segment. Kafka's rules (`LogSegment.shouldRoll`), except
    /// that an empty segment takes any batch that its size allows.
    pub fn must_roll(&self, incoming: Incoming, now_ms: i64) -> bool {
        let relative = incoming.last_offset - self.segment.base_offset;
        self.position + incoming.size > self.capacity()
            || (self.position > 0 && self.waited_too_long(incoming.max_timestamp, now_ms))
            || self.full
            || !(0..=i64::from(i32::MAX)).contains(&relative)
    }

    fn waited_too_long(&self, max_timestamp: i64, now_ms: i64) -> bool {
        let waited = if self.extent.first_timestamp >= 0 {
            max_timestamp.saturating_sub(self.extent.first_timestamp)
        } else {
            now_ms.saturating_sub(self.created_ms)
        };
        waited > self.limits.segment_ms
    }

    /// The most bytes that this segment takes. An empty one takes one batch of any size that its
    /// region has room for.
    pub fn capacity(&self) -> usize {
        let mapped = self.region.region().capacity();
        if self.position == 0 { mapped } else { self.limits.segment_bytes.min(mapped) }
    }

    /// Bytes that are backed by the file.
    pub fn prepared(&self) -> usize {
        self.region.region().prepared()
    }

    /// How far the file may be ahead of its batches by a step.
    pub fn ahead_max(&self) -> u64 {
        let filled = self.filled_before + self.position as u64;
        (SLACK_BYTES + filled / 4).min(self.step_bytes)
    }

    /// The size of steps, and what is filled, for the segment that follows this one.
    pub fn growth(&self) -> (u64, u64) {
        (self.step_bytes, self.position as u64)
    }

    /// Goes on growing as the segment before did.
    pub fn set_growth(&mut self, (step_bytes, filled_before): (u64, u64)) {
        self.step_bytes = step_bytes;
        self.filled_before = filled_before;
    }

    /// Whether the next step has to be asked for before a batch that ends at `end`; it counts as
    /// asked for then.
    pub fn asks_to_prepare(&mut self, end: usize) -> bool {
        let asks = !self.asked && end > self.wake_at && end > self.alone_until;
        if asks {
            (self.asked, self.wake_at) = (true, usize::MAX);
        }
        asks
    }

    /// The writer needs pages that are not there. Whoever was asked for them is late.
    pub fn note_late(&mut self) {
        if self.asked && self.ahead_max() >= LATE_BYTES_MIN {
            self.alone_until = self.position.saturating_add(ALONE_BYTES);
        }
    }

    /// Whether the writer makes its pages itself; what was asked for is taken back then.
    pub fn is_alone(&mut self) -> bool {
        let alone = self.position < self.alone_until;
        if alone {
            (self.asked, self.wake_at) = (false, self.alone_until);
        }
        alone
    }

    /// The next step is wanted once less than `ahead` prepared bytes are left.
    pub fn set_wake(&mut self, ahead: u64) {
        self.asked = false;
        let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
        let all = self.prepared() >= self.region.region().capacity();
        self.wake_at =
            if all { usize::MAX } else { self.prepared().saturating_sub(ahead).max(self.position) };
        self.refresh();
    }

    /// Looks at how much is prepared by now.
    pub fn refresh(&mut self) {
        self.soft_end = self.prepared().min(self.capacity()).min(self.wake_at.max(self.position));
    }

    /// Takes over settings that were altered.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.roll_after_ms = if self.position == 0 {
            i64::MAX
        } else if self.extent.first_timestamp >= 0 {
            self.extent.first_timestamp.saturating_add(limits.segment_ms)
        } else {
            // Decided with the clock, on the slow path.
            i64::MIN
        };
        self.check_full();
        self.refresh();
    }

    /// Where the next batch goes.
    #[inline]
    pub fn sink(&mut self) -> RegionSink<'_> {
        RegionSink { at: self.position, region: &mut self.region }
    }

    /// Asks the processor for the next `bytes` bytes that are stored, and waits for nothing.
    #[inline]
    pub fn fetch_place(&self, bytes: usize) {
        self.region.fetch(self.position, bytes);
    }

    /// Stores a finished batch with this base offset and leader epoch, the header last.
    pub fn write(&mut self, batch: &[u8], base_offset: i64, leader_epoch: i32) {
        let mut stamp = [0; STAMP_BYTES];
        let Some((old, rest)) = batch.split_first_chunk::<STAMP_BYTES>() else { return };
        for (to, from) in stamp.iter_mut().zip(
            base_offset
                .to_be_bytes()
                .into_iter()
                .chain(old.iter().skip(8).take(4).copied())
                .chain(leader_epoch.to_be_bytes()),
        ) {
            *to = from;
        }
        self.region.fetch_ahead(self.position, batch.len());
        self.region.write(self.position + STAMP_BYTES, rest);
        self.region.write(self.position, &stamp);
    }

    /// Takes note of a batch that was stored at the position, and publishes its bytes.
    #[inline]
    pub fn stored(&mut self, incoming: Incoming, content: Content) {
        if content == Content::Anything {
            self.segment.note_not_plain(self.position + incoming.size);
        }
        let first = self.position == 0;
        let end = self.position + incoming.size;
        self.extent.observe(incoming.last_offset, incoming.max_timestamp, end as u64);
        if self.bytes_since_index > self.limits.index_interval_bytes {
            self.add_entries(incoming.last_offset);
        }
        self.bytes_since_index += incoming.size;
        self.position = end;
        if first {
            self.set_limits(self.limits);
        }
        self.region.publish(self.position);
    }

    /// An entry in both indexes for the batch that begins at the position.
    #[cold]
    fn add_entries(&mut self, last_offset: i64) {
        let relative = self.relative(last_offset);
        let position = u32::try_from(self.position).unwrap_or(u32::MAX);
        let ascends = self.indexes.offsets.push(relative, position);
        debug_assert!(ascends, "appends ascend");
        self.add_time_entry();
        self.bytes_since_index = 0;
        self.check_full();
    }

    fn add_time_entry(&mut self) {
        if self.extent.max_timestamp >= 0 {
            let relative = self.relative(self.extent.max_timestamp_offset);
            self.indexes.times.push(self.extent.max_timestamp, relative);
        }
    }

    fn check_full(&mut self) {
        self.full = self.indexes.offsets.entries().len() >= self.limits.index_entries_max
            || self.indexes.times.entries().len() >= self.limits.time_entries_max;
    }

    /// Offsets of a segment stay within 31 bits of its base: `fits` and `must_roll` see to it.
    fn relative(&self, offset: i64) -> u32 {
        u32::try_from(offset - self.segment.base_offset).unwrap_or(u32::MAX)
    }

    pub fn extent(&self) -> SegmentExtent {
        self.extent
    }

    pub fn indexes(&self) -> &SegmentIndexes {
        &self.indexes
    }

    /// Lets the writer go: the last time entry is added, and readers see the final extent.
    pub fn retire(mut self) -> (Arc<Segment>, Arc<dyn File>) {
        self.add_time_entry();
        let extent = self.extent;
        let Active { segment, file, region, indexes, .. } = self;
        drop(region);
        segment.retire(extent, indexes);
        (segment, file)
    }
}

/// A batch's place in the region.
pub(crate) struct RegionSink<'a> {
    at: usize,
    region: &'a mut RegionWriter,
}

impl Sink for RegionSink<'_> {
    #[inline]
    fn put(&mut self, at: usize, bytes: &[u8]) {
        // With the first bytes behind the header, for that as well.
        let from = if at == BATCH_OVERHEAD { 0 } else { at };
        self.region.fetch_ahead(self.at + from, at - from + bytes.len());
        self.region.write(self.at + at, bytes);
    }

    #[inline]
    fn put_header(&mut self, header: &BatchHeader) {
        self.region.write_numbers(self.at, BATCH_OVERHEAD, header.numbers());
    }
}
