//! What is known of the batches of a segment without another look: which are sound, and which hold
//! nothing but records to return.

use crate::log::segment::Segment;
use crate::storage::fetch_value;
use crate::sync::Ordering;

impl Segment {
    /// Asks the processor for what a reader in the middle of the segment looks at.
    #[inline]
    pub fn fetch_known(&self) {
        fetch_value(&self.base_offset);
        fetch_value(&self.layout);
        fetch_value(&self.own_from);
        fetch_value(&self.proven);
        fetch_value(&self.not_plain_end);
    }

    /// Whether this process appended everything from this position on.
    #[inline]
    pub fn is_own(&self, from: usize) -> bool {
        from as u64 >= self.own_from.load(Ordering::Relaxed)
    }

    /// The end of the batches from this position on that are known to be sound: this process
    /// appended them, or found their checksums right and their records well-formed. `from` itself
    /// if nothing is known.
    #[inline]
    pub fn sound_end(&self, from: usize) -> usize {
        // Relaxed: the bytes themselves come with the published border. Whoever reads a stale
        // value checks once more. Acquire: `not_plain_end` comes with the proof.
        let own_from = self.own_from.load(Ordering::Relaxed);
        if from as u64 >= own_from {
            return usize::MAX;
        }
        let proven = self.proven.load(Ordering::Acquire);
        let (begin, end) = (proven >> 32, proven & u64::from(u32::MAX));
        match begin <= from as u64 && end > from as u64 {
            true if end >= own_from => usize::MAX,
            true => usize::try_from(end).unwrap_or(from),
            false => from,
        }
    }

    /// Notes that all batches in these positions are sound.
    pub fn prove(&self, from: usize, to: usize) {
        let (from, to) = (from as u64, to as u64);
        let merge = |proven: u64| {
            let (begin, end) = (proven >> 32, proven & u64::from(u32::MAX));
            let touches = from <= end && begin <= to && end != 0;
            let (begin, end) = if touches {
                (begin.min(from), end.max(to))
            } else if to - from > end - begin {
                (from, to)
            } else {
                return None;
            };
            (end <= u64::from(u32::MAX)).then_some(begin << 32 | end)
        };
        // An outcome that is lost to another thread only means one more check.
        let proven = self.proven.load(Ordering::Acquire);
        if let Some(next) = merge(proven) {
            self.proven.store(next, Ordering::Release);
        }
    }

    /// Notes a batch that is not plain and ends at `end`, before its bytes are published or
    /// proven.
    pub fn note_not_plain(&self, end: usize) {
        // Relaxed: it is seen by whoever sees the border, or the proof, that comes after it.
        self.not_plain_end.fetch_max(end as u64, Ordering::Relaxed);
    }

    /// Whether batches that are not plain may lie behind `from`, among those that are sound.
    #[inline]
    pub fn has_not_plain(&self, from: usize) -> bool {
        self.not_plain_end.load(Ordering::Relaxed) > from as u64
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::log::segment::Stage;
    use crate::log::segment::extent::SegmentExtent;
    use crate::log::segment::state::SegmentState;
    use std::path::PathBuf;

    fn segment(size_bytes: u64) -> Segment {
        let extent = SegmentExtent { size_bytes, ..SegmentExtent::empty(0) };
        let state = SegmentState { extent, ..SegmentState::empty(0) };
        Segment::found(PathBuf::from("t-0/00000000000000000000.log"), &state, Stage::Closed)
    }

    #[test]
    fn proven_ranges_grow_where_they_touch() {
        let segment = segment(1000);
        assert_eq!(segment.sound_end(0), 0);
        segment.prove(100, 200);
        assert_eq!([100, 120, 199].map(|from| segment.sound_end(from)), [200; 3]);
        assert_eq!([0, 99, 200].map(|from| segment.sound_end(from)), [0, 99, 200]);
        segment.prove(200, 300);
        segment.prove(0, 100);
        assert_eq!(segment.sound_end(0), 300);
        segment.prove(900, 950);
        assert_eq!(segment.sound_end(0), 300, "the longer range stays");
        assert_eq!(segment.sound_end(900), 900);
        segment.prove(500, 900);
        assert_eq!((segment.sound_end(500), segment.sound_end(0)), (900, 0));
    }

    #[test]
    fn own_appends_are_sound_and_the_rest_is_not_by_them() {
        let segment = segment(1000);
        assert_eq!(segment.sound_end(1000), usize::MAX);
        assert_eq!(segment.sound_end(999), 999);
        segment.prove(0, 990);
        assert_eq!(segment.sound_end(10), 990);
        segment.prove(990, 1000);
        assert_eq!(segment.sound_end(10), usize::MAX, "what was found goes on in what is own");
    }
}
