//! The offsets that the batches of a segment may have, which no checksum covers (rule R3).

use crate::log::segment::extent::SegmentExtent;
use crate::log::segment::state::SegmentLayout;
use crate::record::BatchHeader;
use crate::storage::planted::{Planted, planted};

/// The order that the batches of one segment are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) enum BatchOrder {
    /// Each batch begins where the one before it ends, the first one at `begin`.
    Dense { begin: i64 },
    /// Some offsets may be missing: each batch begins where the one before it ends, or later, and
    /// ends where the one behind it begins, or earlier. All lie from `begin` up to `end`.
    Sparse { begin: i64, end: i64 },
    /// Base offsets are believed, as the planted bug does.
    Any,
}

impl BatchOrder {
    /// That of a segment of this layout which goes so far.
    #[inline]
    pub fn of(layout: SegmentLayout, extent: &SegmentExtent) -> BatchOrder {
        let begin = extent.base_offset;
        match layout {
            SegmentLayout::Dense => BatchOrder::dense(begin),
            _ if planted(Planted::CrcWithoutBaseOffset) => BatchOrder::Any,
            SegmentLayout::Sparse => BatchOrder::Sparse { begin, end: extent.next_offset },
        }
    }

    /// That of a segment whose first batch begins at `begin`, and without a hole.
    #[inline]
    pub fn dense(begin: i64) -> BatchOrder {
        match planted(Planted::CrcWithoutBaseOffset) {
            true => BatchOrder::Any,
            false => BatchOrder::Dense { begin },
        }
    }

    #[inline]
    pub fn is_dense(self) -> bool {
        matches!(self, BatchOrder::Dense { .. })
    }

    /// Where the first batch begins, or the lowest offset at which it may.
    pub fn begin(self) -> Option<i64> {
        match self {
            BatchOrder::Dense { begin } | BatchOrder::Sparse { begin, .. } => Some(begin),
            BatchOrder::Any => None,
        }
    }

    /// Where the last batch ends at the latest, where that is known.
    pub fn end(self) -> Option<i64> {
        match self {
            BatchOrder::Sparse { end, .. } => Some(end),
            BatchOrder::Dense { .. } | BatchOrder::Any => None,
        }
    }

    /// The base offset that is due, or the lowest that is, where a batch is not at its own place.
    /// `expected` is where the batch before it ends, as far as that is known, and `following`
    /// the base offset of the one behind it.
    ///
    /// Of two batches that overlap it is the first one, unless that begins where the one before it
    /// ends, or the second one begins even before that.
    #[inline]
    pub fn due_instead(
        self,
        header: &BatchHeader,
        expected: Option<i64>,
        following: impl FnOnce() -> Option<i64>,
    ) -> Option<i64> {
        let (base, next) = (header.base_offset, header.next_offset());
        match self {
            BatchOrder::Any => None,
            BatchOrder::Dense { .. } => expected.filter(|expected| *expected != base),
            BatchOrder::Sparse { begin, .. } => {
                let lowest = expected.unwrap_or(begin);
                let is_behind = |following| following >= next || following < lowest;
                let holds = self.has_inside(header, expected)
                    && (base == lowest || following().is_none_or(is_behind));
                (!holds).then_some(lowest)
            }
        }
    }

    /// Whether a batch lies in its segment, and behind the one before it.
    #[inline]
    pub fn has_inside(self, header: &BatchHeader, expected: Option<i64>) -> bool {
        let (base, next) = (header.base_offset, header.next_offset());
        match self {
            BatchOrder::Sparse { begin, end } => {
                expected.unwrap_or(begin) <= base && base < next && next <= end
            }
            BatchOrder::Dense { .. } | BatchOrder::Any => true,
        }
    }
}
