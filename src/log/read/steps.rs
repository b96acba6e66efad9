//! A walk over headers, one step a batch.

use crate::log::index::offset_index::OffsetEntry;
use crate::log::segment::order::BatchOrder;
use crate::log::segment::state::SegmentState;
use crate::record::BatchHeader;

/// A walk over headers that knows, as far as that can be known, which base offset is due.
#[derive(Debug, Clone, Copy)]
pub(in crate::log) struct Steps {
    pub position: u64,
    /// The end of the batch before, where that is known.
    expected: Option<i64>,
    /// The last offset of the batch there, where an index says it.
    hinted: Option<i64>,
    order: BatchOrder,
    /// The end of the batch before, where that reaches into the one here: either of them may have
    /// been moved.
    reached: Option<i64>,
    /// The first batch that was not at its own place, in a walk that looks for an offset.
    passed: Option<StepPlace>,
}

/// The base offset that a batch ought to have, and whether nothing speaks against the one it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) struct OwnBase {
    pub offset: i64,
    pub holds: bool,
}

/// The place that a walk has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) struct StepPlace {
    pub position: u64,
    /// The base offset that is due there, or the lowest that is, where that is known.
    pub expected: Option<i64>,
}

impl Steps {
    /// From where an entry of the segment's index leads, or from its beginning.
    pub fn from_entry(entry: Option<OffsetEntry>, segment: &SegmentState) -> Steps {
        let order = BatchOrder::of(segment.layout, &segment.extent);
        let base = segment.extent.base_offset;
        let hint =
            entry.map(|entry| (entry.position.into(), base + i64::from(entry.relative_offset)));
        Steps::from_hint(hint, order)
    }

    /// From the position of a batch with this last offset, or from the beginning.
    pub fn from_hint(hint: Option<(u64, i64)>, order: BatchOrder) -> Steps {
        match hint {
            Some((position, last)) => {
                Steps { hinted: Some(last), ..Steps::unknown(position, order) }
            }
            None => Steps { expected: order.begin(), ..Steps::unknown(0, order) },
        }
    }

    /// Where nothing tells which offset is due.
    pub fn unknown(position: u64, order: BatchOrder) -> Steps {
        Steps { position, expected: None, hinted: None, order, reached: None, passed: None }
    }

    /// The base offset that the batch here ought to have: its own where nothing speaks against it.
    /// `following` is that of the batch behind it.
    pub fn own_base(
        &mut self,
        header: &BatchHeader,
        following: impl FnOnce() -> Option<i64>,
    ) -> OwnBase {
        if let Some(hinted) = self.hinted.take() {
            let due = match self.order {
                BatchOrder::Dense { .. } => hinted.checked_sub(header.last_offset_delta.into()),
                BatchOrder::Sparse { .. } => {
                    Some(header.base_offset).filter(|_| header.last_offset() == hinted)
                }
                BatchOrder::Any => None,
            };
            self.expected = self.expected.or(due);
        }
        let base = header.base_offset;
        let following = if self.order.is_dense() { None } else { following() };
        let due = self.order.due_instead(header, self.expected, || following);
        // Where there is no room for this one behind that one, it is that one that was moved.
        let may_be_behind = |reached: i64| {
            let len = header.next_offset().saturating_sub(base);
            following.or(self.order.end()).is_none_or(|end| end >= reached.saturating_add(len))
        };
        let doubtful = self.reached.is_some_and(may_be_behind);
        match due {
            Some(offset) => OwnBase { offset, holds: false },
            None if doubtful => OwnBase { offset: self.expected.unwrap_or(base), holds: false },
            None => OwnBase { offset: base, holds: true },
        }
    }

    /// Goes on behind the batch, which ought to have this base offset.
    pub fn over(&mut self, header: &BatchHeader, own: OwnBase) {
        let next = own.offset.saturating_add(i64::from(header.last_offset_delta)).saturating_add(1);
        let was_reached = self.reached.take().is_some();
        match self.order {
            BatchOrder::Dense { .. } => self.expected = self.expected.map(|_| next),
            BatchOrder::Sparse { .. } if own.holds => self.expected = Some(next),
            // One that may be elsewhere says nothing of those behind it.
            BatchOrder::Sparse { .. } => {
                let reaches = !was_reached && self.order.has_inside(header, self.expected);
                self.reached = reaches.then(|| header.next_offset());
            }
            BatchOrder::Any => self.expected = None,
        }
        self.position += header.size() as u64;
    }

    /// The place to read `offset` at, if the batch here holds it or is the first one behind it;
    /// else goes on.
    ///
    /// Where offsets may be missing, one that no batch holds may be that of a batch which is not
    /// at its own place: what is read then is that one, which tells it.
    pub fn find(
        &mut self,
        offset: i64,
        header: &BatchHeader,
        following: impl FnOnce() -> Option<i64>,
    ) -> Option<StepPlace> {
        let sparse = matches!(self.order, BatchOrder::Sparse { .. });
        if sparse && self.hinted.is_some_and(|hinted| hinted != header.last_offset()) {
            // This batch, or the entry that led to it, is not what it was.
            *self = Steps::from_hint(None, self.order);
            return None;
        }
        let own = self.own_base(header, following);
        let here = StepPlace { position: self.position, expected: self.expected };
        let base = own.offset;
        if sparse && !own.holds {
            self.passed.get_or_insert(here);
        } else if base.saturating_add(header.last_offset_delta.into()).max(base) >= offset {
            return Some(self.passed.filter(|_| base > offset).unwrap_or(here));
        }
        self.over(header, own);
        None
    }

    /// The place to read at, where the walk has come to the end without a batch for its offset.
    pub fn at_end(&self) -> Option<StepPlace> {
        self.passed
    }
}
