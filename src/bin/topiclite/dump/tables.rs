//! The files of fixed rows: indexes, aborted transactions, producers.

use super::Dumped;
use serde_json::{Value, json};
use topiclite::Result;

/// Offset i32 relative to the base offset, position i32; zeros are not written yet.
pub fn offset_index(file: &Dumped<'_>) -> Result<bool> {
    let (rows, rest) = file.bytes.as_chunks::<8>();
    for row in rows {
        let [offset, position] = [i32_at(row, 0), i32_at(row, 4)];
        if (offset, position) == (0, 0) {
            break;
        }
        let offset = file.base_offset + i64::from(offset);
        file.row("offset_index", &[("offset", offset.into()), ("position", position.into())])?;
    }
    leftover(file, rest)
}

/// Timestamp i64, offset i32 relative to the base offset.
pub fn time_index(file: &Dumped<'_>) -> Result<bool> {
    let (rows, rest) = file.bytes.as_chunks::<12>();
    for row in rows {
        let [timestamp, offset] = [i64_at(row, 0), i32_at(row, 8).into()];
        if (timestamp, offset) == (0, 0) {
            break;
        }
        let offset = file.base_offset + offset;
        file.row("time_index", &[("timestamp", timestamp.into()), ("offset", offset.into())])?;
    }
    leftover(file, rest)
}

/// Version i16, producer id, first, last and last stable offset, i64 each.
pub fn transaction_index(file: &Dumped<'_>) -> Result<bool> {
    let (rows, rest) = file.bytes.as_chunks::<34>();
    for row in rows {
        let version = i16::from_be_bytes([row[0], row[1]]);
        file.row(
            "aborted_transaction",
            &[
                ("version", version.into()),
                ("producerId", i64_at(row, 2).into()),
                ("firstOffset", i64_at(row, 10).into()),
                ("lastOffset", i64_at(row, 18).into()),
                ("lastStableOffset", i64_at(row, 26).into()),
            ],
        )?;
    }
    leftover(file, rest)
}

/// Version i16, CRC-32C u32 over what follows it, count i32, then the producers.
pub fn snapshot(file: &Dumped<'_>) -> Result<bool> {
    const ROW: usize = 46;
    let Some((head, rows)) = file.bytes.split_first_chunk::<10>() else {
        return file.damage(0, "a snapshot has at least 10 bytes");
    };
    let [v0, v1, c0, c1, c2, c3, n0, n1, n2, n3] = *head;
    if i16::from_be_bytes([v0, v1]) != 1 {
        return file.damage(0, "the version is not 1");
    }
    let crc = u32::from_be_bytes([c0, c1, c2, c3]);
    let holds = topiclite::record::crc32c(file.bytes.get(6..).unwrap_or_default()) == crc;
    let count = i32::from_be_bytes([n0, n1, n2, n3]);
    if usize::try_from(count).ok().and_then(|n| n.checked_mul(ROW)) != Some(rows.len()) {
        return file.damage(6, "the count does not fit the length");
    }
    let (rows, _) = rows.as_chunks::<ROW>();
    for row in rows {
        let last_sequence = i32_at(row, 10);
        let offset_delta = i32_at(row, 22);
        let first_sequence = match last_sequence {
            -1 => -1,
            last => last.wrapping_sub(offset_delta) & i32::MAX,
        };
        let transaction = Some(i64_at(row, 38)).filter(|offset| *offset >= 0);
        file.row(
            "producer",
            &[
                ("producerId", i64_at(row, 0).into()),
                ("producerEpoch", i16::from_be_bytes([row[8], row[9]]).into()),
                ("coordinatorEpoch", i32_at(row, 34).into()),
                ("currentTxnFirstOffset", transaction.map_or(Value::Null, Value::from)),
                ("firstSequence", first_sequence.into()),
                ("lastSequence", last_sequence.into()),
                ("lastOffset", i64_at(row, 14).into()),
                ("offsetDelta", offset_delta.into()),
                ("timestamp", i64_at(row, 26).into()),
            ],
        )?;
    }
    match holds {
        true => Ok(false),
        false => file.damage(2, &format!("the checksum is not {}", json!(crc))),
    }
}

fn leftover(file: &Dumped<'_>, rest: &[u8]) -> Result<bool> {
    match rest.is_empty() {
        true => Ok(false),
        false => file.damage(file.bytes.len() - rest.len(), "the last row is cut off"),
    }
}

/// Four bytes of a row from `at`; bytes beyond it count as zero.
fn i32_at(row: &[u8], at: usize) -> i32 {
    let bytes = row.get(at..).and_then(|tail| tail.first_chunk()).copied();
    i32::from_be_bytes(bytes.unwrap_or_default())
}

/// Eight bytes of a row from `at`; bytes beyond it count as zero.
fn i64_at(row: &[u8], at: usize) -> i64 {
    let bytes = row.get(at..).and_then(|tail| tail.first_chunk()).copied();
    i64::from_be_bytes(bytes.unwrap_or_default())
}
