//! The transaction index of a segment: the aborted transactions whose marker lies in it.
//!
//! ```text
//! entry  version             i16  big-endian  0
//!        producer id         i64  big-endian
//!        first offset        i64  big-endian  first batch of the transaction
//!        last offset         i64  big-endian  the abort marker; ascends strictly
//!        last stable offset  i64  big-endian  as of the marker
//! ```
//! The file exists only where a transaction was aborted. Source: Kafka's TransactionIndex.

use crate::log::index::offset_index::IndexFault;
use crate::log::producers::transactions::AbortedTransaction;

/// Bytes of one entry.
pub(crate) const ENTRY_SIZE: usize = 34;

/// Reads a file of a segment with this base offset whose batches end below `next_offset`.
///
/// # Errors
/// What is wrong with it: the caller rebuilds it by reading the segment.
pub(crate) fn parse(
    bytes: &[u8],
    base_offset: i64,
    next_offset: i64,
) -> Result<Vec<AbortedTransaction>, IndexFault> {
    let (chunks, rest) = bytes.as_chunks::<ENTRY_SIZE>();
    if !rest.is_empty() {
        return Err(IndexFault("its length is not a multiple of 34"));
    }
    let mut rows: Vec<AbortedTransaction> = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let (version, fields) = chunk.split_at(2);
        if version != [0, 0] {
            return Err(IndexFault("an entry has an unknown version"));
        }
        let (words, _) = fields.as_chunks::<8>();
        let [producer_id, first_offset, last_offset, last_stable_offset] = words else {
            return Err(IndexFault("an entry is cut off"));
        };
        let row = AbortedTransaction {
            producer_id: i64::from_be_bytes(*producer_id),
            first_offset: i64::from_be_bytes(*first_offset),
            last_offset: i64::from_be_bytes(*last_offset),
            last_stable_offset: i64::from_be_bytes(*last_stable_offset),
        };
        if row.producer_id < 0 || row.first_offset < 0 || row.first_offset >= row.last_offset {
            return Err(IndexFault("an entry has an impossible offset or producer"));
        }
        if !(0..=row.last_offset.saturating_add(1)).contains(&row.last_stable_offset) {
            return Err(IndexFault("an entry has an impossible last stable offset"));
        }
        if row.last_offset < base_offset || row.last_offset >= next_offset {
            return Err(IndexFault("an entry names a marker outside the segment"));
        }
        if rows.last().is_some_and(|last| last.last_offset >= row.last_offset) {
            return Err(IndexFault("its entries do not ascend"));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The bytes of the file.
pub(crate) fn to_bytes(rows: &[AbortedTransaction]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * ENTRY_SIZE);
    for row in rows {
        out.extend_from_slice(&[0, 0]);
        let words = [row.producer_id, row.first_offset, row.last_offset, row.last_stable_offset];
        for word in words {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(producer_id: i64, first: i64, last: i64, stable: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id,
            first_offset: first,
            last_offset: last,
            last_stable_offset: stable,
        }
    }

    #[test]
    fn the_bytes_are_kafkas() {
        let rows = [row(77, 3, 10, 11)];
        let bytes = to_bytes(&rows);
        let mut expected = vec![0; ENTRY_SIZE];
        for (at, value) in [(9, 77), (17, 3), (25, 10), (33, 11)] {
            expected[at] = value;
        }
        assert_eq!(bytes, expected);
        assert_eq!(parse(&bytes, 0, 11), Ok(rows.to_vec()));
        assert_eq!(parse(&[], 0, 0), Ok(Vec::new()));
    }

    #[test]
    fn what_cannot_be_an_index_is_refused() {
        let good = to_bytes(&[row(1, 100, 110, 111), row(2, 90, 120, 121)]);
        assert!(parse(&good, 105, 121).is_ok(), "a transaction may begin in an earlier segment");
        assert!(parse(&good[..40], 105, 121).is_err(), "cut off");
        assert!(parse(&good, 111, 121).is_err(), "a marker below the segment");
        assert!(parse(&good, 105, 120).is_err(), "a marker behind the segment");
        let bad = [
            to_bytes(&[row(1, 100, 110, 111), row(2, 90, 110, 121)]),
            to_bytes(&[row(1, 110, 110, 111)]),
            to_bytes(&[row(-1, 100, 110, 111)]),
            to_bytes(&[row(1, 100, 110, 112)]),
            to_bytes(&[row(1, 100, 110, -1)]),
            vec![0; ENTRY_SIZE],
        ];
        for bytes in bad {
            assert!(parse(&bytes, 0, 1000).is_err());
        }
        let mut version = good.clone();
        version[1] = 1;
        assert!(parse(&version, 105, 121).is_err());
    }
}
