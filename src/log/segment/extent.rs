//! How far a segment goes: the one record of its borders and its times.

/// The borders of a segment and the times of its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentExtent {
    /// The number in the file's name: no batch begins below it.
    pub base_offset: i64,
    /// The length of its batches, in bytes. The file may be longer (zeros) while it is active.
    pub size_bytes: u64,
    /// The offset behind its last batch; its base offset while it is empty. A sparse one stands for
    /// offsets up to here, also where compaction took the last ones.
    pub next_offset: i64,
    /// The largest timestamp of its batches, -1 while it has none.
    pub max_timestamp: i64,
    /// The last offset of the first batch that reached `max_timestamp`.
    pub max_timestamp_offset: i64,
    /// The largest timestamp of its first batch, which decides about rolling by time; -1 without.
    pub first_timestamp: i64,
}

impl SegmentExtent {
    /// That of a segment without a batch.
    pub fn empty(base_offset: i64) -> SegmentExtent {
        SegmentExtent {
            base_offset,
            size_bytes: 0,
            next_offset: base_offset,
            max_timestamp: -1,
            max_timestamp_offset: base_offset,
            first_timestamp: -1,
        }
    }

    /// Takes note of a batch that ends at `end`, in bytes.
    #[inline]
    pub fn observe(&mut self, last_offset: i64, max_timestamp: i64, end: u64) {
        if self.size_bytes == 0 {
            self.first_timestamp = max_timestamp;
        }
        if max_timestamp > self.max_timestamp {
            self.max_timestamp = max_timestamp;
            self.max_timestamp_offset = last_offset;
        }
        self.next_offset = last_offset.wrapping_add(1);
        self.size_bytes = end;
    }
}
