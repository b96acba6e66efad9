//! The time index of a segment: from timestamps to offsets, sparse.
//!
//! ```text
//! entry  timestamp        i64  big-endian  largest timestamp of all batches up to the offset
//!        relative offset  i32  big-endian  last offset of the first batch that reached it,
//!                                          minus the segment's base
//! ```
//! Timestamps ascend strictly, offsets never fall. Timestamps of batches may jump back, so an
//! entry says nothing about the order of records: it says that no earlier batch is as late.
//! Source: Kafka's TimeIndex.

use crate::log::index::offset_index::{IndexFault, thin};

/// Bytes of one entry.
pub(crate) const ENTRY_SIZE: usize = 12;

/// The entries of one segment, in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TimeIndex {
    entries: Vec<TimeEntry>,
}

/// The largest timestamp up to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The batch's last offset, relative to the segment's base offset.
    pub relative_offset: u32,
}

impl TimeIndex {
    /// An index without an entry.
    #[cfg(test)]
    pub fn new() -> TimeIndex {
        TimeIndex::default()
    }

    /// Reads a file of a segment whose last offset is `last_relative` and whose largest timestamp
    /// is `max_timestamp`.
    ///
    /// # Errors
    /// What is wrong with it: the caller rebuilds the index. Zeros behind the entries (a file that
    /// was preallocated and not cut) are wrong too.
    pub fn parse(
        bytes: &[u8],
        last_relative: u32,
        max_timestamp: i64,
    ) -> Result<TimeIndex, IndexFault> {
        let (chunks, rest) = bytes.as_chunks::<ENTRY_SIZE>();
        if !rest.is_empty() {
            return Err(IndexFault("its length is not a multiple of 12"));
        }
        let mut index = TimeIndex { entries: Vec::with_capacity(chunks.len()) };
        for &[t0, t1, t2, t3, t4, t5, t6, t7, o0, o1, o2, o3] in chunks {
            let timestamp = i64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
            let Ok(relative_offset) = u32::try_from(i32::from_be_bytes([o0, o1, o2, o3])) else {
                return Err(IndexFault("an entry is negative"));
            };
            if relative_offset > last_relative || timestamp > max_timestamp {
                return Err(IndexFault("an entry points behind the last batch"));
            }
            let ascends = index.entries.last().is_none_or(|last| last.timestamp < timestamp);
            if !ascends || !index.push(timestamp, relative_offset) {
                return Err(IndexFault("its entries do not ascend"));
            }
        }
        Ok(index)
    }

    /// Takes any bytes for entries, as the planted bug does.
    #[cold]
    pub(in crate::log) fn believe(bytes: &[u8]) -> TimeIndex {
        let (chunks, _) = bytes.as_chunks::<ENTRY_SIZE>();
        let entry = |&[a, b, c, d, e, f, g, h, i, j, k, l]: &[u8; ENTRY_SIZE]| TimeEntry {
            timestamp: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            relative_offset: u32::from_be_bytes([i, j, k, l]),
        };
        TimeIndex { entries: chunks.iter().map(entry).collect() }
    }

    /// Adds an entry if its timestamp is above the last one's; `false` if it was not added.
    ///
    /// A timestamp that is no news is the normal case and not a fault: nothing later came.
    pub fn push(&mut self, timestamp: i64, relative_offset: u32) -> bool {
        let ascends = match self.entries.last() {
            None => true,
            Some(last) => last.timestamp < timestamp && last.relative_offset <= relative_offset,
        };
        if ascends {
            self.entries.push(TimeEntry { timestamp, relative_offset });
        }
        ascends
    }

    /// Where a search for the first record at or after `timestamp` may begin: no batch whose last
    /// offset lies below the answer (relative) reaches `timestamp`. 0 if nothing is known.
    pub fn lookup(&self, timestamp: i64) -> u32 {
        let after = self.entries.partition_point(|entry| entry.timestamp <= timestamp);
        after
            .checked_sub(1)
            .and_then(|at| self.entries.get(at))
            .map_or(0, |entry| entry.relative_offset)
    }

    /// The entry with the largest timestamp.
    pub fn last(&self) -> Option<TimeEntry> {
        self.entries.last().copied()
    }

    /// The entries, ascending.
    pub fn entries(&self) -> &[TimeEntry] {
        &self.entries
    }

    /// How many bytes the file of this index has.
    pub fn size_bytes(&self) -> usize {
        self.entries.len() * ENTRY_SIZE
    }

    /// Forgets every entry of a batch whose last offset is at or above `relative_offset`.
    #[cfg(test)]
    pub fn truncate(&mut self, relative_offset: u32) {
        let keep = self.entries.partition_point(|entry| entry.relative_offset < relative_offset);
        self.entries.truncate(keep);
    }

    /// Keeps every second entry if there are more than `entries_max`. The last one always stays:
    /// it is the segment's largest timestamp. Returns whether it did.
    pub fn thin(&mut self, entries_max: usize) -> bool {
        let last = self.last();
        let thinned = thin(&mut self.entries, entries_max);
        if let Some(last) = last.filter(|_| self.last() != last) {
            self.entries.push(last);
        }
        thinned
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&entry.timestamp.to_be_bytes());
            out.extend_from_slice(&entry.relative_offset.to_be_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_are_kafkas() {
        let mut index = TimeIndex::new();
        assert!(index.push(1000, 4));
        assert!(!index.push(1000, 9), "no later than the last one");
        assert!(!index.push(900, 9));
        assert!(index.push(1001, 9));
        let bytes = index.to_bytes();
        assert_eq!(
            bytes,
            [0, 0, 0, 0, 0, 0, 3, 232, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 3, 233, 0, 0, 0, 9]
        );
        assert_eq!(TimeIndex::parse(&bytes, 9, 1001), Ok(index));
    }

    #[test]
    fn what_cannot_be_an_index_is_refused() {
        let bytes = |entries: &[(i64, i32)]| -> Vec<u8> {
            entries
                .iter()
                .flat_map(|(t, o)| [&t.to_be_bytes()[..], &o.to_be_bytes()[..]].concat())
                .collect()
        };
        let parse = |bytes: &[u8]| TimeIndex::parse(bytes, 99, 5000);
        assert!(parse(&bytes(&[(-1, 0), (10, 10), (5000, 99)])).is_ok());
        assert!(parse(&[0; 11]).is_err(), "half an entry");
        assert!(parse(&bytes(&[(10, 1), (0, 0)])).is_err(), "zeros behind the entries");
        assert!(parse(&bytes(&[(10, 1), (10, 2)])).is_err(), "the same time twice");
        assert!(parse(&bytes(&[(10, 3), (11, 2)])).is_err(), "a falling offset");
        assert!(parse(&bytes(&[(10, -1)])).is_err(), "a negative offset");
        assert!(parse(&bytes(&[(10, 100)])).is_err(), "behind the last offset");
        assert!(parse(&bytes(&[(5001, 10)])).is_err(), "later than the latest batch");
    }

    #[test]
    fn truncation_drops_what_came_after_the_cut() {
        let mut index = TimeIndex::new();
        for i in 1..=10 {
            index.push(i64::from(i) * 100, i * 10);
        }
        index.truncate(50);
        assert_eq!(index.last(), Some(TimeEntry { timestamp: 400, relative_offset: 40 }));
    }

    proptest! {
        /// Batches with any timestamps, an entry at each `every`-th: no batch before the answer
        /// of a lookup reaches the time, thinned or not.
        #[test]
        fn a_lookup_never_skips_a_batch_that_is_late_enough(
            batches in prop::collection::vec((1u32..5, 0i64..1000), 1..200),
            every in 1usize..8, target in -5i64..1005, entries_max in 1usize..100,
        ) {
            let mut index = TimeIndex::new();
            let (mut last_offset, mut max) = (0, (-1i64, 0));
            let mut ends = Vec::new();
            for (i, (count, timestamp)) in batches.into_iter().enumerate() {
                last_offset += count;
                ends.push((last_offset, timestamp));
                if timestamp > max.0 {
                    max = (timestamp, last_offset);
                }
                if i % every == 0 {
                    index.push(max.0, max.1);
                }
            }
            index.push(max.0, max.1);
            let first = ends.iter().find(|(_, t)| *t >= target).map_or(last_offset, |e| e.0);
            prop_assert!(index.lookup(target) <= first);
            let parsed = TimeIndex::parse(&index.to_bytes(), last_offset, max.0);
            prop_assert_eq!(parsed, Ok(index.clone()));
            index.thin(entries_max);
            prop_assert!(index.lookup(target) <= first);
            prop_assert_eq!(index.last().map(|e| e.timestamp), Some(max.0));
        }
    }
}
