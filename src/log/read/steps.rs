//! A walk over headers, one step a batch.

use crate::log::index::offset_index::OffsetEntry;
use crate::log::read::is_held_dense;
use crate::log::segment::state::SegmentState;
use crate::record::BatchHeader;

/// A walk over headers that knows, where offsets are dense, which base offset is due.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::log) struct Steps {
    pub position: u64,
    /// The base offset of the batch there, where that follows from what lies before.
    pub expected: Option<i64>,
    /// The last offset of the batch there, where an index says it.
    hinted: Option<i64>,
    dense: bool,
}

impl Steps {
    /// From where an entry of the segment's index leads, or from its beginning.
    pub fn from_entry(entry: Option<OffsetEntry>, segment: &SegmentState) -> Steps {
        let (base, dense) = (segment.extent.base_offset, is_held_dense(segment.layout));
        match entry {
            Some(entry) => Steps {
                position: entry.position.into(),
                expected: None,
                hinted: Some(base + i64::from(entry.relative_offset)).filter(|_| dense),
                dense,
            },
            None => Steps { expected: Some(base).filter(|_| dense), dense, ..Steps::default() },
        }
    }

    /// Where nothing tells which offset is due.
    pub fn unknown(position: u64) -> Steps {
        Steps { position, ..Steps::default() }
    }

    /// The base offset that the batch here ought to have; its own where nothing tells.
    pub fn own_base(&mut self, header: &BatchHeader) -> i64 {
        if let Some(hinted) = self.hinted.take() {
            let due = hinted.checked_sub(i64::from(header.last_offset_delta));
            self.expected = self.expected.or(due);
        }
        self.expected.unwrap_or(header.base_offset)
    }

    /// Goes on behind the batch.
    pub fn over(&mut self, header: &BatchHeader) {
        let own = self.own_base(header);
        let next = own.saturating_add(i64::from(header.last_offset_delta)).saturating_add(1);
        self.expected = Some(next).filter(|_| self.dense && self.expected.is_some());
        self.position += header.size() as u64;
    }
}
