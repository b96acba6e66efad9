//! The offset index of a segment: from offsets to byte positions, sparse.
//!
//! ```text
//! entry  relative offset  i32  big-endian  last offset of a batch, minus the segment's base
//!        position         i32  big-endian  where that batch begins in the .log file
//! ```
//! Entries ascend strictly in both fields. The file is derived: whatever does not hold in it is
//! rebuilt from the batches, so parsing refuses instead of guessing. Source: Kafka's OffsetIndex.

/// Bytes of one entry.
pub(crate) const ENTRY_SIZE: usize = 8;

/// The entries of one segment, in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OffsetIndex {
    entries: Vec<OffsetEntry>,
}

/// A batch that the index points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    /// The batch's last offset, relative to the segment's base offset.
    pub relative_offset: u32,
    /// Where the batch begins, in bytes.
    pub position: u32,
}

/// The reason why the bytes of an index are not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexFault(pub &'static str);

impl std::fmt::Display for IndexFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl OffsetIndex {
    /// An index without an entry.
    #[cfg(test)]
    pub fn new() -> OffsetIndex {
        OffsetIndex::default()
    }

    /// Reads a file of a segment whose batches end at `size_bytes` and `last_offset` (relative).
    ///
    /// # Errors
    /// What is wrong with it: the caller rebuilds the index. A file that was preallocated and not
    /// cut ends in zeros; it is refused too, because an entry of zeros is one that was never
    /// written or one that got lost.
    pub fn parse(
        bytes: &[u8],
        size_bytes: u64,
        last_relative: u32,
    ) -> Result<OffsetIndex, IndexFault> {
        let (chunks, rest) = bytes.as_chunks::<ENTRY_SIZE>();
        if !rest.is_empty() {
            return Err(IndexFault("its length is not a multiple of 8"));
        }
        let mut index = OffsetIndex { entries: Vec::with_capacity(chunks.len()) };
        for &[a, b, c, d, e, f, g, h] in chunks {
            let relative = i32::from_be_bytes([a, b, c, d]);
            let position = i32::from_be_bytes([e, f, g, h]);
            let (Ok(relative_offset), Ok(position)) =
                (u32::try_from(relative), u32::try_from(position))
            else {
                return Err(IndexFault("an entry is negative"));
            };
            if u64::from(position) >= size_bytes || relative_offset > last_relative {
                return Err(IndexFault("an entry points behind the last batch"));
            }
            if !index.push(relative_offset, position) {
                return Err(IndexFault("its entries do not ascend"));
            }
        }
        Ok(index)
    }

    /// Takes any bytes for entries, as the planted bug does.
    #[cold]
    pub(in crate::log) fn believe(bytes: &[u8]) -> OffsetIndex {
        let (chunks, _) = bytes.as_chunks::<ENTRY_SIZE>();
        let entry = |&[a, b, c, d, e, f, g, h]: &[u8; ENTRY_SIZE]| OffsetEntry {
            relative_offset: u32::from_be_bytes([a, b, c, d]),
            position: u32::from_be_bytes([e, f, g, h]),
        };
        OffsetIndex { entries: chunks.iter().map(entry).collect() }
    }

    /// Adds an entry behind the last one; `false`, and nothing done, if it does not ascend.
    pub fn push(&mut self, relative_offset: u32, position: u32) -> bool {
        let ascends = match self.entries.last() {
            None => true,
            Some(last) => last.relative_offset < relative_offset && last.position < position,
        };
        if ascends {
            self.entries.push(OffsetEntry { relative_offset, position });
        }
        ascends
    }

    /// The greatest entry not above `relative_offset`: the batch there is at or before the one
    /// that holds it.
    pub fn floor(&self, relative_offset: u32) -> Option<OffsetEntry> {
        self.within(relative_offset, u32::MAX)
    }

    /// The greatest entry whose batch ends at or before `relative_offset` and begins at or before
    /// `position`.
    pub fn within(&self, relative_offset: u32, position: u32) -> Option<OffsetEntry> {
        let inside = |entry: &OffsetEntry| {
            entry.relative_offset <= relative_offset && entry.position <= position
        };
        let after = self.entries.partition_point(inside);
        after.checked_sub(1).and_then(|at| self.entries.get(at)).copied()
    }

    /// The position of a batch at or before the one that holds `relative_offset`: that of the
    /// greatest entry not above it, or 0.
    pub fn lookup(&self, relative_offset: u32) -> u32 {
        self.floor(relative_offset).map_or(0, |entry| entry.position)
    }

    /// The greatest position of an entry that is not above `position`, or 0: a batch begins there.
    #[cfg(test)]
    pub fn floor_position(&self, position: u32) -> u32 {
        let after = self.entries.partition_point(|entry| entry.position <= position);
        after.checked_sub(1).and_then(|at| self.entries.get(at)).map_or(0, |entry| entry.position)
    }

    /// The entries, ascending.
    pub fn entries(&self) -> &[OffsetEntry] {
        &self.entries
    }

    /// How many bytes the file of this index has.
    pub fn size_bytes(&self) -> usize {
        self.entries.len() * ENTRY_SIZE
    }

    /// Forgets every entry that points at or above `position`.
    #[cfg(test)]
    pub fn truncate(&mut self, position: u64) {
        let keep = self.entries.partition_point(|entry| u64::from(entry.position) < position);
        self.entries.truncate(keep);
    }

    /// Keeps every second entry if there are more than `entries_max`: a lookup then walks twice as
    /// far. Returns whether it did.
    pub fn thin(&mut self, entries_max: usize) -> bool {
        thin(&mut self.entries, entries_max)
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&entry.relative_offset.to_be_bytes());
            out.extend_from_slice(&entry.position.to_be_bytes());
        }
        out
    }
}

/// Drops every second entry, the first one included, if there are more than `entries_max`.
pub(in crate::log) fn thin<T>(entries: &mut Vec<T>, entries_max: usize) -> bool {
    if entries.len() <= entries_max.max(1) {
        return false;
    }
    let mut number = 0;
    entries.retain(|_| {
        number += 1;
        number % 2 == 0
    });
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_are_kafkas() {
        let mut index = OffsetIndex::new();
        assert!(index.push(3, 100));
        assert!(index.push(258, 70_000));
        let bytes = index.to_bytes();
        assert_eq!(bytes, [0, 0, 0, 3, 0, 0, 0, 100, 0, 0, 1, 2, 0, 1, 0x11, 0x70]);
        assert_eq!(OffsetIndex::parse(&bytes, 70_001, 258), Ok(index));
    }

    #[test]
    fn what_cannot_be_an_index_is_refused() {
        let bytes = |entries: &[(i32, i32)]| -> Vec<u8> {
            entries.iter().flat_map(|(o, p)| [o.to_be_bytes(), p.to_be_bytes()].concat()).collect()
        };
        let parse = |bytes: &[u8]| OffsetIndex::parse(bytes, 1000, 99);
        assert!(parse(&bytes(&[(1, 10), (99, 999)])).is_ok());
        assert!(parse(&[0; 7]).is_err(), "half an entry");
        assert!(parse(&bytes(&[(1, 10), (0, 0)])).is_err(), "zeros behind the entries");
        assert!(parse(&bytes(&[(1, 10), (2, 10)])).is_err(), "the same position twice");
        assert!(parse(&bytes(&[(-1, 10)])).is_err(), "a negative offset");
        assert!(parse(&bytes(&[(1, -10)])).is_err(), "a negative position");
        assert!(parse(&bytes(&[(1, 1000)])).is_err(), "behind the last byte");
        assert!(parse(&bytes(&[(100, 10)])).is_err(), "behind the last offset");
    }

    #[test]
    fn truncation_drops_what_points_behind_the_cut() {
        let mut index = OffsetIndex::new();
        for i in 1..=10 {
            index.push(i * 10, i * 100);
        }
        index.truncate(500);
        assert_eq!(index.entries().len(), 4);
        assert_eq!(index.lookup(1000), 400);
        assert_eq!(index.floor_position(399), 300);
        assert_eq!(index.floor_position(99), 0);
    }

    proptest! {
        #[test]
        fn a_lookup_is_what_a_linear_search_finds(
            steps in prop::collection::vec((1u32..50, 1u32..5000), 0..200),
            target in 0u32..12_000,
            entries_max in 1usize..300,
        ) {
            let mut index = OffsetIndex::new();
            let (mut offset, mut position) = (0, 0);
            for (o, p) in steps {
                offset += o;
                position += p;
                prop_assert!(index.push(offset, position));
            }
            let linear = |index: &OffsetIndex| {
                index.entries().iter().rev().find(|e| e.relative_offset <= target)
                    .map_or(0, |e| e.position)
            };
            prop_assert_eq!(index.lookup(target), linear(&index));
            let parsed = OffsetIndex::parse(&index.to_bytes(), u64::from(position) + 1, offset);
            prop_assert_eq!(parsed, Ok(index.clone()));
            let exact = index.lookup(target);
            index.thin(entries_max);
            prop_assert_eq!(index.lookup(target), linear(&index));
            prop_assert!(index.lookup(target) <= exact);
        }
    }
}
