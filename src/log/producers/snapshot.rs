//! The bytes of a `.snapshot` file: what a partition knew of producers before one offset.
//!
//! ```text
//! file    version             i16  big-endian  1
//!         checksum            u32  CRC-32C of all bytes from 6 on
//!         count               i32
//!         row*
//! row     producer id         i64
//!         producer epoch      i16
//!         last sequence       i32  -1 where a marker was all that came under this epoch
//!         last offset         i64  of the last batch; -1 likewise
//!         offset delta        i32  last offset of that batch less its first
//!         timestamp           i64  of that batch, or of the marker behind it
//!         coordinator epoch   i32  -1 before the first marker
//!         open transaction    i64  first offset; -1 without one
//! ```
//! The offset is the file's name. Decoding never panics and reserves no more than the bytes hold.
//! Source: Kafka's `ProducerStateManager`.

use crate::log::producers::transactions::OpenTransaction;
use crate::record::crc32c;

/// What the file begins with.
const HEADER_SIZE: usize = 10;
/// Bytes of one row.
const ROW_SIZE: usize = 46;
/// The version that is written, and the only one there is.
const VERSION: i16 = 1;
/// What the checksum covers begins here.
const COVERED_FROM: usize = 6;

/// The largest file that is read: five million producers.
pub(crate) const SNAPSHOT_BYTES_MAX: u64 = 1 << 28;

/// The fault of a file that is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotFault(pub &'static str);

impl std::fmt::Display for SnapshotFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// One producer as a snapshot, and a description, has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotRow {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// -1 where a marker was all that came under the present epoch.
    pub last_sequence: i32,
    /// -1 likewise.
    pub last_offset: i64,
    pub offset_delta: i32,
    pub timestamp: i64,
    /// -1 before the first marker.
    pub coordinator_epoch: i32,
    /// -1 without an open transaction.
    pub transaction_start: i64,
}

/// Reads a file that is named by `offset`. Rows ascend by producer id, whatever their order was.
///
/// # Errors
/// What is wrong with it: the caller reads the log instead.
pub(crate) fn parse(bytes: &[u8], offset: i64) -> Result<Vec<SnapshotRow>, SnapshotFault> {
    let Some((head, body)) = bytes.split_first_chunk::<HEADER_SIZE>() else {
        return Err(SnapshotFault("it is cut off"));
    };
    let [v0, v1, c0, c1, c2, c3, n0, n1, n2, n3] = *head;
    if i16::from_be_bytes([v0, v1]) != VERSION {
        return Err(SnapshotFault("its version is unknown"));
    }
    let covered = bytes.get(COVERED_FROM..).unwrap_or_default();
    if crc32c(covered) != u32::from_be_bytes([c0, c1, c2, c3]) {
        return Err(SnapshotFault("its checksum does not fit"));
    }
    let (rows, rest) = body.as_chunks::<ROW_SIZE>();
    let count = i32::from_be_bytes([n0, n1, n2, n3]);
    if usize::try_from(count) != Ok(rows.len()) || !rest.is_empty() {
        return Err(SnapshotFault("its count does not fit its length"));
    }
    let mut rows: Vec<SnapshotRow> = rows.iter().map(SnapshotRow::of).collect();
    if !rows.iter().all(|row| row.is_possible_below(offset)) {
        return Err(SnapshotFault("a row has an impossible producer or offset"));
    }
    rows.sort_by_key(|row| row.producer_id);
    if !rows.is_sorted_by(|a, b| a.producer_id < b.producer_id) {
        return Err(SnapshotFault("a producer has two rows"));
    }
    Ok(rows)
}

/// The planted bug: whatever rows the bytes have room for.
#[cold]
pub(crate) fn believe(bytes: &[u8]) -> Vec<SnapshotRow> {
    let (rows, _) = bytes.get(HEADER_SIZE..).unwrap_or_default().as_chunks::<ROW_SIZE>();
    rows.iter().map(SnapshotRow::of).collect()
}

/// The open transactions that rows tell of.
pub(crate) fn open_transactions(rows: &[SnapshotRow]) -> Vec<OpenTransaction> {
    rows.iter()
        .filter(|row| row.transaction_start >= 0)
        .map(|row| OpenTransaction {
            producer_id: row.producer_id,
            first_offset: row.transaction_start,
        })
        .collect()
}

/// The bytes of the file.
pub(crate) fn to_bytes(rows: &[SnapshotRow]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_SIZE + rows.len() * ROW_SIZE);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    // A partition has less than 2^31 producers: their rows would not fit into memory.
    out.extend_from_slice(&i32::try_from(rows.len()).unwrap_or(i32::MAX).to_be_bytes());
    for row in rows {
        row.write(&mut out);
    }
    let crc = crc32c(out.get(COVERED_FROM..).unwrap_or_default()).to_be_bytes();
    if let Some(place) = out.get_mut(2..COVERED_FROM) {
        place.copy_from_slice(&crc);
    }
    out
}

impl SnapshotRow {
    fn of(row: &[u8; ROW_SIZE]) -> SnapshotRow {
        let mut rest: &[u8] = row;
        SnapshotRow {
            producer_id: i64::from_be_bytes(take(&mut rest)),
            producer_epoch: i16::from_be_bytes(take(&mut rest)),
            last_sequence: i32::from_be_bytes(take(&mut rest)),
            last_offset: i64::from_be_bytes(take(&mut rest)),
            offset_delta: i32::from_be_bytes(take(&mut rest)),
            timestamp: i64::from_be_bytes(take(&mut rest)),
            coordinator_epoch: i32::from_be_bytes(take(&mut rest)),
            transaction_start: i64::from_be_bytes(take(&mut rest)),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.producer_id.to_be_bytes());
        out.extend_from_slice(&self.producer_epoch.to_be_bytes());
        out.extend_from_slice(&self.last_sequence.to_be_bytes());
        out.extend_from_slice(&self.last_offset.to_be_bytes());
        out.extend_from_slice(&self.offset_delta.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.coordinator_epoch.to_be_bytes());
        out.extend_from_slice(&self.transaction_start.to_be_bytes());
    }

    /// Whether a log can have led to it before `offset`.
    fn is_possible_below(&self, offset: i64) -> bool {
        let below = |found: i64| (-1..offset).contains(&found);
        // A row without a batch has -1 and 0.
        let batch = i64::from(self.offset_delta) <= self.last_offset.max(0);
        self.producer_id >= 0
            && self.producer_epoch >= 0
            && self.last_sequence >= -1
            && self.offset_delta >= 0
            && batch
            && below(self.last_offset)
            && below(self.transaction_start)
    }
}

/// Takes the next bytes off the front. Those of a row never end early.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (head, tail) = rest.split_first_chunk().unwrap_or((&[0; N], &[]));
    *rest = tail;
    *head
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row() -> SnapshotRow {
        SnapshotRow {
            producer_id: 77,
            producer_epoch: 3,
            last_sequence: 24,
            last_offset: 14,
            offset_delta: 4,
            timestamp: 1000,
            coordinator_epoch: 5,
            transaction_start: -1,
        }
    }

    /// What a row becomes in bytes, from Kafka's own writer.
    const KAFKAS: &str = "000129ee32ad00000001000000000000004d000300000018000000000000000e\
                          0000000400000000000003e800000005ffffffffffffffff";

    #[test]
    fn the_bytes_are_kafkas() {
        let bytes: Vec<u8> = (0..KAFKAS.len() / 2)
            .map(|at| u8::from_str_radix(&KAFKAS[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        assert_eq!(to_bytes(&[row()]), bytes);
        assert_eq!(parse(&bytes, 15), Ok(vec![row()]));
        assert_eq!(bytes.len(), HEADER_SIZE + ROW_SIZE);
        assert_eq!(to_bytes(&[]).len(), HEADER_SIZE);
    }

    #[test]
    fn what_no_log_leads_to_is_refused() {
        let refused = |change: fn(&mut SnapshotRow)| {
            let mut row = row();
            change(&mut row);
            parse(&to_bytes(&[row]), 15).is_err()
        };
        assert!(parse(&to_bytes(&[row()]), 14).is_err(), "its last batch is not below the offset");
        assert!(refused(|row| row.producer_id = -1));
        assert!(refused(|row| row.producer_epoch = -1));
        assert!(refused(|row| row.last_sequence = -2));
        assert!(refused(|row| row.offset_delta = 15));
        assert!(refused(|row| row.offset_delta = -1));
        assert!(refused(|row| row.transaction_start = 15));
        let twice = to_bytes(&[row(), row()]);
        assert_eq!(parse(&twice, 15), Err(SnapshotFault("a producer has two rows")));
        let mut behind = to_bytes(&[row()]);
        behind.push(0);
        assert!(parse(&behind, 15).is_err());
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(at in 0usize..102, bit in 0u32..8) {
            let rows = [row(), SnapshotRow { producer_id: 78, ..row() }];
            let mut bytes = to_bytes(&rows);
            bytes[at] ^= 1 << bit;
            prop_assert!(parse(&bytes, 15).is_err());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(parse(&bytes, 100));
        }
    }
}
