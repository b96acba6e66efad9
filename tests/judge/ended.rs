//! What a killed broker left open, after a life that ended it: its producers are gone for certain,
//! so that a close, or the first append, aborts it (D7 in `docs/kafka.md`).

use super::manifest::{Contents, Records, Row, Transaction, sha256};
use std::collections::BTreeMap;

/// Every transactional id, those with an open transaction aborted; `None` where there is none.
pub fn transactions(told: &Contents) -> Option<BTreeMap<String, Transaction>> {
    let mut ended = told.transactions.clone();
    let mut any = false;
    for transaction in ended.values_mut().filter(|transaction| transaction.state == "Ongoing") {
        any = true;
        transaction.state = "CompleteAbort".to_owned();
        transaction.producer_epoch += 1;
        transaction.partitions.clear();
    }
    any.then_some(ended)
}

/// A partition as it was read.
pub struct Seen<'a> {
    pub name: &'a str,
    pub uncommitted: &'a [Row],
    pub committed: &'a [Row],
    /// Log start, last stable, log end.
    pub borders: (i64, i64, i64),
    /// Producer id, first offset, that of the marker, the last stable one.
    pub aborted: &'a [(i64, i64, i64, i64)],
}

/// Whether a partition is what it was, and one marker behind it for each transaction that was open,
/// also where it has nothing there: its topic was deleted and made again.
///
/// # Errors
/// What differs.
pub fn matches(contents: &Contents, seen: &Seen<'_>) -> Result<(), String> {
    let told = contents.partitions.get(seen.name).ok_or("it is not told of")?;
    if seen.name.starts_with("__transaction_state-") {
        return goes_on(&told.uncommitted, seen.uncommitted);
    }
    told.uncommitted.matches(seen.uncommitted)?;
    let open: Vec<(i64, i64)> = told
        .producers
        .iter()
        .filter_map(|producer| Some((producer.producer_id, producer.transaction_start?)))
        .collect();
    let ongoing: Vec<&Transaction> = contents
        .transactions
        .values()
        .filter(|one| one.state == "Ongoing" && one.partitions.iter().any(|p| p == seen.name))
        .collect();
    let is_known = |id: i64| ongoing.iter().any(|one| one.producer_id == id);
    let hanging = open.iter().filter(|(id, _)| !is_known(*id)).count();
    let markers = ongoing.len() + hanging;
    if markers == 0 {
        return Err("nothing was open".to_owned());
    }
    let end = told.log_end_offset + i64::try_from(markers).unwrap();
    if seen.borders != (told.log_start_offset, end, end) {
        return Err(format!("borders {:?}, with {markers} markers {end}", seen.borders));
    }
    let (before, added) = seen.aborted.split_at(told.aborted.len().min(seen.aborted.len()));
    let mut ended: Vec<(i64, i64)> = added.iter().map(|row| (row.0, row.1)).collect();
    ended.sort_unstable();
    let in_place = |row: &(i64, i64, i64, i64)| (told.log_end_offset..end).contains(&row.2);
    if before != told.aborted
        || ended != open
        || !added.iter().all(in_place)
        || !added.is_sorted_by(|one, next| one.2 < next.2 && one.3 <= next.3)
    {
        return Err(format!("aborted ranges {:?}, open were {open:?}", seen.aborted));
    }
    let is_aborted = |row: &Row| {
        let mut batches = told.batches.iter().filter(|batch| batch.is_transactional);
        batches.any(|batch| {
            (batch.base_offset..=batch.last_offset).contains(&row.offset)
                && seen.aborted.iter().any(|&(id, first, last, _)| {
                    id == batch.producer_id && (first..last).contains(&batch.base_offset)
                })
        })
    };
    let expected = seen.uncommitted.iter().filter(|row| !is_aborted(row));
    match expected.eq(seen.committed.iter()) {
        true => Ok(()),
        false => Err("read_committed saw other records than those that were not aborted".into()),
    }
}

/// Whether records begin with those that are told.
fn goes_on(told: &Records, seen: &[Row]) -> Result<(), String> {
    let begins = match told {
        Records::Rows(rows) => seen.starts_with(rows),
        Records::Digest { count, sha256: recorded } => {
            seen.get(..*count).is_some_and(|rows| sha256(rows) == *recorded)
        }
    };
    match begins {
        true => Ok(()),
        false => Err("the records do not begin with those that are recorded".to_owned()),
    }
}
