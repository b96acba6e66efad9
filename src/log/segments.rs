//! The segments of one partition, ascending by base offset: Kafka's `LogSegments`.
//!
//! The list is locked only in here, and never for longer than a look or a change takes: who works
//! on a segment holds it by itself. A segment that left the list stays as it was for everybody who
//! has its bytes in place; who has not is told that it is gone, and looks the list up again.

use std::collections::VecDeque;
use std::ops::Range;

use crate::log::producers::transactions::AbortedTransaction;
use crate::log::segment::{Segment, Stage};
use crate::sync::{Arc, Rank, RwLock, ranked_lock};

/// The segments of one partition.
#[derive(Debug)]
pub(in crate::log) struct Segments {
    list: RwLock<VecDeque<Arc<Segment>>>,
}

impl Segments {
    pub fn new() -> Segments {
        Segments { list: ranked_lock(Rank::LogSegments, VecDeque::new()) }
    }

    /// All of them, as they are at this moment.
    pub fn all(&self) -> Vec<Arc<Segment>> {
        self.list.read().iter().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.list.read().len()
    }

    /// The one at this place of the list.
    pub fn nth(&self, at: usize) -> Option<Arc<Segment>> {
        self.list.read().get(at).cloned()
    }

    /// The youngest one.
    pub fn last(&self) -> Option<Arc<Segment>> {
        self.list.read().back().cloned()
    }

    /// The one with the greatest base offset that is not above `offset`.
    pub fn floor(&self, offset: i64) -> Option<Arc<Segment>> {
        let list = self.list.read();
        let above = list.partition_point(|segment| segment.base_offset <= offset);
        list.get(above.checked_sub(1)?).cloned()
    }

    /// The one with the least base offset above `offset`.
    pub fn higher(&self, offset: i64) -> Option<Arc<Segment>> {
        let list = self.list.read();
        let above = list.partition_point(|segment| segment.base_offset <= offset);
        list.get(above).cloned()
    }

    /// The floor of `offset`, and all above.
    pub fn floor_and_above(&self, offset: i64) -> Vec<Arc<Segment>> {
        let list = self.list.read();
        let above = list.partition_point(|segment| segment.base_offset <= offset);
        list.iter().skip(above.saturating_sub(1)).cloned().collect()
    }

    /// The first one of which this is true. Under the lock: `wanted` does no more than look.
    pub fn find(&self, wanted: impl Fn(&Arc<Segment>) -> bool) -> Option<Arc<Segment>> {
        self.list.read().iter().find(|segment| wanted(segment)).cloned()
    }

    /// The oldest one whose file a writer has left and nobody has sealed.
    pub fn oldest_retired(&self) -> Option<Arc<Segment>> {
        self.find(|segment| segment.stage() == Stage::Retired)
    }

    /// Whether this very segment is in the list.
    pub fn holds(&self, segment: &Arc<Segment>) -> bool {
        self.floor(segment.base_offset).is_some_and(|held| Arc::ptr_eq(&held, segment))
    }

    /// Adds a segment above all others.
    pub fn push(&self, segment: Arc<Segment>) {
        let mut list = self.list.write();
        debug_assert!(list.back().is_none_or(|last| last.base_offset < segment.base_offset));
        list.push_back(segment);
    }

    /// Takes the youngest one out.
    pub fn pop_last(&self) -> Option<Arc<Segment>> {
        let last = self.list.write().pop_back();
        last.inspect(|segment| segment.leave())
    }

    /// Takes the oldest `count` out.
    pub fn drop_front(&self, count: usize) -> Vec<Arc<Segment>> {
        let mut list = self.list.write();
        let count = count.min(list.len());
        let dropped: Vec<_> = list.drain(..count).collect();
        drop(list);
        dropped.iter().for_each(|segment| segment.leave());
        dropped
    }

    /// Has these in the place of all that there were, which are returned.
    pub fn reset(&self, segments: Vec<Arc<Segment>>) -> Vec<Arc<Segment>> {
        let before: Vec<_> = std::mem::replace(&mut *self.list.write(), segments.into()).into();
        before.iter().for_each(|segment| segment.leave());
        before
    }

    /// Puts `new` in the place of `old`, neighbours of each other and older than the youngest one:
    /// what a compaction made of them. Readers of an old one go on in it as long as they have its
    /// bytes in place; all others find the new ones by offset, and so do those once they come to
    /// the end of what they have. Returns whether that was done: not where the old ones are the
    /// list's no more, or the new ones do not fit into their place.
    ///
    /// Once this returned, no file is opened for an old one: its name may be a new one's. The new
    /// ones know of every aborted transaction that the old ones knew of, for who still reads those,
    /// and stand for all offsets that the old ones had: each reaches to the next.
    #[allow(dead_code, reason = "the seam of the cleaner")]
    #[must_use]
    pub fn replace(&self, old: &[Arc<Segment>], new: &[Arc<Segment>]) -> bool {
        let mut list = self.list.write();
        let Some(range) = place_of(&list, old, new) else { return false };
        let rows: Vec<_> = old.iter().flat_map(|old| old.aborted().to_vec()).collect();
        let end = old.iter().map(|old| old.extent().next_offset).max().unwrap_or(0);
        for (at, segment) in new.iter().enumerate() {
            let from = if at == 0 { i64::MIN } else { segment.base_offset };
            let upto = new.get(at + 1).map_or(end, |next| next.base_offset);
            let inside = |row: &&AbortedTransaction| (from..upto).contains(&row.last_offset);
            segment.remember_aborted(rows.iter().filter(inside).copied());
            segment.reach(upto);
            // What was known of producers before it does not change with what it holds.
            if let Some(old) = old.iter().find(|old| old.base_offset == segment.base_offset) {
                segment.set_snapshot(old.snapshot());
            }
        }
        let younger = list.split_off(range.end);
        list.truncate(range.start);
        list.extend(new.iter().cloned());
        list.extend(younger);
        old.iter().for_each(|segment| segment.leave());
        true
    }
}

/// Where `old` stands in the list, if `new` can take its place.
fn place_of(
    list: &VecDeque<Arc<Segment>>,
    old: &[Arc<Segment>],
    new: &[Arc<Segment>],
) -> Option<Range<usize>> {
    let first = old.first()?.base_offset;
    let start = list.partition_point(|segment| segment.base_offset < first);
    let end = start + old.len();
    let held = list.range(start..list.len().min(end));
    let same = held.len() == old.len() && held.zip(old).all(|(a, b)| Arc::ptr_eq(a, b));
    let behind = list.get(end)?.base_offset;
    let bases = || new.iter().map(|segment| segment.base_offset);
    let fits =
        bases().all(|base| (first..behind).contains(&base)) && bases().is_sorted_by(|a, b| a < b);
    (same && fits).then_some(start..end)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::log::segment::state::SegmentState;
    use std::path::PathBuf;

    fn segment(base_offset: i64) -> Arc<Segment> {
        let mut state = SegmentState::empty(base_offset);
        state.extent.next_offset = base_offset + 10;
        Arc::new(Segment::found(PathBuf::from("t-0/x.log"), &state, Stage::Sealed))
    }

    fn aborted(last_offset: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: 7,
            first_offset: last_offset - 1,
            last_offset,
            last_stable_offset: last_offset + 1,
        }
    }

    fn list(bases: &[i64]) -> (Segments, Vec<Arc<Segment>>) {
        let segments = Segments::new();
        let all: Vec<_> = bases.iter().map(|base| segment(*base)).collect();
        all.iter().for_each(|segment| segments.push(segment.clone()));
        (segments, all)
    }

    fn bases(segments: &Segments) -> Vec<i64> {
        segments.all().iter().map(|segment| segment.base_offset).collect()
    }

    #[test]
    fn floor_and_higher_are_kafkas() {
        let (segments, _) = list(&[10, 20, 30]);
        let base = |found: Option<Arc<Segment>>| found.map(|segment| segment.base_offset);
        let floors = [9, 10, 19, 20, 99].map(|offset| base(segments.floor(offset)));
        assert_eq!(floors, [None, Some(10), Some(10), Some(20), Some(30)]);
        let higher = [9, 10, 29, 30].map(|offset| base(segments.higher(offset)));
        assert_eq!(higher, [Some(10), Some(20), Some(30), None]);
        let from = |offset| segments.floor_and_above(offset).len();
        assert_eq!([0, 10, 25, 99].map(from), [3, 3, 2, 1]);
    }

    #[test]
    fn new_segments_take_the_place_of_old_ones_which_leave() {
        let (segments, all) = list(&[0, 10, 20, 30]);
        let (first, second) = (segment(0), segment(12));
        assert!(segments.replace(&all[..3], &[first.clone(), second.clone()]));
        assert_eq!(bases(&segments), [0, 12, 30]);
        let ends: Vec<_> = segments.all().iter().map(|s| s.extent().next_offset).collect();
        assert_eq!(ends, [12, 30, 40], "no offset is nobody's");
        assert!(segments.holds(&first) && segments.holds(&second) && segments.holds(&all[3]));
        let left: Vec<_> = all.iter().map(|segment| segment.has_left()).collect();
        assert_eq!(left, [true, true, true, false]);
        assert!(!segments.holds(&all[0]), "another one has its base offset");
        assert!(segments.replace(&[second], &[]), "nothing is left of it");
        assert_eq!(bases(&segments), [0, 30]);
    }

    #[test]
    fn what_is_not_in_the_list_or_does_not_fit_replaces_nothing() {
        let (segments, all) = list(&[0, 10, 20]);
        assert!(!segments.replace(&[], &[segment(0)]));
        assert!(!segments.replace(&[segment(10)], &[segment(10)]), "another one of that name");
        assert!(!segments.replace(&[all[0].clone(), all[2].clone()], &[segment(0)]), "a gap");
        assert!(!segments.replace(&all[2..], &[segment(20)]), "the youngest one has a writer");
        assert!(!segments.replace(&all[1..2], &[segment(9)]), "below its place");
        assert!(!segments.replace(&all[1..2], &[segment(20)]), "above its place");
        assert!(!segments.replace(&all[..2], &[segment(5), segment(5)]), "not ascending");
        assert_eq!(bases(&segments), [0, 10, 20]);
        assert!(all.iter().all(|segment| !segment.has_left()));
    }

    #[test]
    fn a_new_segment_knows_the_aborted_transactions_of_the_old_ones() {
        let (segments, all) = list(&[0, 10, 20]);
        all[0].add_aborted(aborted(5));
        all[1].add_aborted(aborted(12));
        all[1].add_aborted(aborted(15));
        let (first, second) = (segment(0), segment(14));
        first.add_aborted(aborted(5));
        assert!(segments.replace(&all[..2], &[first.clone(), second.clone()]));
        assert_eq!(*first.aborted(), [aborted(5), aborted(12)]);
        assert_eq!(*second.aborted(), [aborted(15)]);
    }

    #[test]
    fn what_is_dropped_has_left() {
        let (segments, all) = list(&[0, 10, 20]);
        assert_eq!(segments.drop_front(1).len(), 1);
        assert!(segments.pop_last().is_some_and(|last| Arc::ptr_eq(&last, &all[2])));
        assert_eq!(segments.reset(vec![segment(40)]).len(), 1);
        assert!(all.iter().all(|segment| segment.has_left()));
        assert_eq!(bases(&segments), [40]);
    }
}
