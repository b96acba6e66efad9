//! The search for a batch that goes on behind damage.

use std::io;

use super::{BatchCursor, BatchExpectations, FoundBatch, SCAN_WINDOW_BYTES, Scanned, Stop};
use crate::record::{BATCH_OVERHEAD, BatchHeader};
use crate::storage::File;

/// How much the search behind damage may cost: bytes of CRC per byte that is searched. Candidates
/// that are none pass the cheap checks about once in 2^40 positions of random bytes, so this
/// bounds only files that were made to be slow.
const SEARCH_CRC_FACTOR: u64 = 16;

/// Looks for the first valid batch behind `position` that continues a log which ought to go on at
/// `rules.next_offset`: its offsets are not lower, its CRC holds, and what follows it is another
/// such batch, zeros, or the end of the file.
///
/// The last condition keeps the payload of a torn batch from being taken for the log: a value
/// may well contain a copy of a batch.
///
/// # Errors
/// Only those of the operating system.
pub(crate) fn continuation(
    file: &dyn File,
    position: u64,
    end: u64,
    rules: &BatchExpectations,
) -> io::Result<Option<FoundBatch>> {
    let rules = BatchExpectations { exact: false, crc: true, ..*rules };
    let mut cursor = BatchCursor::new(file, end, SCAN_WINDOW_BYTES);
    let mut budget = end.saturating_sub(position).saturating_mul(SEARCH_CRC_FACTOR);
    // Usually the damaged batch's own length is right.
    if let Scanned::Found(header) = cursor.header_at(position)? {
        let next = position + header.size() as u64;
        if let Some(found) = continues_at(&mut cursor, next, &rules, &mut budget)? {
            return Ok(Some(found));
        }
    }
    let mut search = BatchCursor::new(file, end, SCAN_WINDOW_BYTES);
    let mut at = position + 1;
    while at + (BATCH_OVERHEAD as u64) <= end {
        let bytes = search.bytes_at(at, SCAN_WINDOW_BYTES, BATCH_OVERHEAD)?;
        if bytes.len() < BATCH_OVERHEAD {
            break;
        }
        let candidate = bytes.windows(BATCH_OVERHEAD).position(|window| {
            // Magic and the highest byte of the length: most positions end here.
            window.get(16) == Some(&2)
                && BatchHeader::parse(window).is_ok_and(|header| rules.check(&header).is_ok())
        });
        let Some(skip) = candidate else {
            at += (bytes.len() - BATCH_OVERHEAD + 1) as u64;
            continue;
        };
        at += skip as u64;
        if let Some(found) = continues_at(&mut cursor, at, &rules, &mut budget)? {
            return Ok(Some(found));
        }
        if budget == 0 {
            break;
        }
        at += 1;
    }
    Ok(None)
}

fn continues_at(
    cursor: &mut BatchCursor<'_>,
    position: u64,
    rules: &BatchExpectations,
    budget: &mut u64,
) -> io::Result<Option<FoundBatch>> {
    let Scanned::Found(header) = cursor.header_at(position)? else {
        return Ok(None);
    };
    *budget = budget.saturating_sub(header.size() as u64);
    let Scanned::Found(found) = cursor.batch_at(position, rules)? else {
        return Ok(None);
    };
    let mut rules = *rules;
    rules.advance(&found.header);
    let follows = match cursor.batch_at(found.end(), &rules)? {
        Scanned::Found(_) | Scanned::Stopped(Stop::End | Stop::Zeros) => true,
        Scanned::Stopped(_) => false,
    };
    Ok(follows.then_some(found))
}
