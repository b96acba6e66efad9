//! What the first pass of a round has learned of single records, two bits an offset: most batches
//! are decided about without a look at their records again, or at their keys.

use std::ops::RangeInclusive;

/// The bits of 64 offsets: of records with a value that no later one of their key hides, and of
/// those that are hidden.
type Word = [u64; 2];

/// The bytes for the marks of a round are at most those of its map over this. A map that is full
/// then has marks for more than three records a key.
const SHARE_OF_MAP: usize = 32;

/// The outcome of the first pass for one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordMark {
    /// It has a value, and is the latest of its key.
    Latest,
    /// A later one has its key.
    Hidden,
    /// Nothing: a tombstone that nothing hides, one without a key, one that was not noted.
    None,
}

/// The marks of the records of a log's dirty part, as far as there is memory for them.
#[derive(Debug, Default)]
pub(super) struct RecordMarks {
    /// The offset of the first bit.
    first: i64,
    words: Vec<Word>,
    /// Above the last one that was noted.
    next: i64,
}

impl RecordMarks {
    /// Marks for `offsets` offsets from `first` on, beside a map of `map_bytes`.
    pub fn new(first: i64, offsets: u64, map_bytes: usize) -> RecordMarks {
        let words_max = map_bytes / SHARE_OF_MAP / size_of::<Word>();
        let words = usize::try_from(offsets.div_ceil(64)).unwrap_or(usize::MAX).min(words_max);
        RecordMarks { first, words: vec![[0; 2]; words], next: first }
    }

    /// Notes a record that hides the one at `hidden`, if there is one.
    #[inline]
    pub fn note(&mut self, offset: i64, has_value: bool, hidden: Option<i64>) {
        if offset < self.next {
            // Where two records may have one offset, no bit speaks for either.
            self.words = Vec::new();
        }
        self.next = offset.saturating_add(1);
        if let Some((word, bit)) = hidden.and_then(|hidden| self.place(hidden))
            && let Some([latest, hidden]) = self.words.get_mut(word)
        {
            *latest &= !bit;
            *hidden |= bit;
        }
        if let Some((word, bit)) = self.place(offset).filter(|_| has_value)
            && let Some([latest, _]) = self.words.get_mut(word)
        {
            *latest |= bit;
        }
    }

    /// What is known of the record at an offset.
    #[inline]
    pub fn of(&self, offset: i64) -> RecordMark {
        let place = self.place(offset);
        let bits = place.and_then(|(word, bit)| Some((self.words.get(word)?, bit)));
        match bits {
            Some(([latest, _], bit)) if latest & bit != 0 => RecordMark::Latest,
            Some(([_, hidden], bit)) if hidden & bit != 0 => RecordMark::Hidden,
            _ => RecordMark::None,
        }
    }

    /// How many records of these offsets are the latest of their key, and how many are hidden.
    #[inline]
    pub fn count(&self, offsets: RangeInclusive<i64>) -> [u32; 2] {
        let (start, end) = offsets.into_inner();
        let (Some((first, from)), true) = (self.place(start), end >= start) else { return [0; 2] };
        let Some((last, upto)) = self.place(end) else { return [0; 2] };
        let mut counts = [0; 2];
        let mut mask = from.wrapping_neg();
        for (at, word) in (first..=last).zip(self.words.get(first..).unwrap_or_default()) {
            if at == last {
                mask &= upto | (upto - 1);
            }
            for (count, bits) in counts.iter_mut().zip(word) {
                *count += (bits & mask).count_ones();
            }
            mask = u64::MAX;
        }
        counts
    }

    /// The word and the bit of an offset that is not below the first one.
    #[inline]
    fn place(&self, offset: i64) -> Option<(usize, u64)> {
        let at = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        Some((at / 64, 1 << (at % 64)))
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const ROOM: usize = 1 << 20;

    #[test]
    fn a_record_is_the_latest_of_its_key_until_another_hides_it() {
        let mut marks = RecordMarks::new(100, 200, ROOM);
        marks.note(100, true, None);
        marks.note(163, true, None);
        marks.note(164, false, Some(100));
        marks.note(299, true, Some(164));
        let all = [100, 101, 163, 164, 299].map(|offset| marks.of(offset));
        let (latest, hidden, none) = (RecordMark::Latest, RecordMark::Hidden, RecordMark::None);
        assert_eq!(all, [hidden, none, latest, hidden, latest]);
        assert_eq!([99, 0, -1, i64::MIN, 300, i64::MAX].map(|at| marks.of(at)), [none; 6]);
        assert_eq!(marks.count(100..=299), [2, 2]);
        assert_eq!(marks.count(101..=163), [1, 0]);
        assert_eq!(marks.count(163..=164), [1, 1]);
        assert_eq!(marks.count(164..=298), [0, 1]);
        assert_eq!(marks.count(299..=299), [1, 0]);
        assert_eq!(marks.count(99..=299), [0, 0], "what lies before it is not known");
        assert_eq!(marks.count(RangeInclusive::new(299, 100)), [0, 0]);
        assert_eq!(marks.count(299..=i64::MAX), [1, 0]);
    }

    #[test]
    fn counts_are_those_of_single_offsets() {
        let mut marks = RecordMarks::new(7, 1000, ROOM);
        for offset in (7..1007).filter(|offset| offset % 5 != 0) {
            let hidden = (offset > 300 && offset % 7 == 0).then_some(offset - 290);
            marks.note(offset, offset % 3 != 0, hidden);
        }
        for start in (7..1007).step_by(13) {
            for end in (start..1007).step_by(11) {
                let of = |mark| (start..=end).filter(|at| marks.of(*at) == mark).count() as u32;
                let expected = [of(RecordMark::Latest), of(RecordMark::Hidden)];
                assert_eq!(marks.count(start..=end), expected, "{start} to {end}");
            }
        }
    }

    #[test]
    fn marks_are_bounded_by_the_memory_of_the_map() {
        let mut marks = RecordMarks::new(0, u64::MAX, 32 * 16 * 10);
        assert_eq!(marks.words.len(), 10);
        marks.note(639, true, None);
        marks.note(640, true, Some(639));
        marks.note(641, true, Some(640));
        assert_eq!(
            [639, 640, 641].map(|at| marks.of(at)),
            [RecordMark::Hidden, RecordMark::None, RecordMark::None]
        );
    }

    #[test]
    fn offsets_that_do_not_rise_have_no_marks() {
        let mut marks = RecordMarks::new(0, 100, ROOM);
        marks.note(5, true, None);
        marks.note(5, true, None);
        assert_eq!((marks.of(5), marks.count(0..=99)), (RecordMark::None, [0, 0]));
        marks.note(6, true, Some(5));
        assert_eq!((marks.of(5), marks.of(6)), (RecordMark::None, RecordMark::None));
    }
}
