//! Tombstones that go before a table has read them.
//!
//! A tombstone stays for `delete.retention.ms` from the first cleaning that met it, and then goes,
//! as what it deleted went before. A table that reads on later than that would keep the key for
//! ever. So of each partition a moment is kept at which nothing behind the position had been
//! cleaned: no tombstone there had a horizon yet. Where a read finds that something was cleaned by
//! then, and the moment is too long ago, the partition is gone through once more, and what has no
//! record any more is dropped.

use super::change::{ChangeCause, TableChange};
use super::entries::{Held, Latest};
use super::{Followed, Followers};
use crate::consumer::{ReadFrom, Reader};
use crate::error::Result;
use std::collections::HashSet;
use std::time::Duration;

/// The kept moment of a partition of which nothing is known.
pub(super) const NEVER_MS: i64 = -1;

/// Whether a tombstone that was first met by a cleaning after `since_ms` is in the log at `now_ms`.
/// Half of the time is left for how long a cleaning takes, and for clocks that are set.
pub(super) fn is_fresh(since_ms: i64, now_ms: i64, delete_retention_ms: i64) -> bool {
    since_ms >= 0 && (0..delete_retention_ms / 2).contains(&now_ms.saturating_sub(since_ms))
}

impl Followed {
    /// What a read from `before` up to the position leaves to be found out. Returns whether it went
    /// through the partition once more.
    ///
    /// # Errors
    /// Those of [`Reader::read`]; the next call does it again.
    pub(super) fn keep_fresh(
        &mut self,
        with: &Followers<'_>,
        before: i64,
        had_entries: bool,
        changes: Option<&mut Vec<TableChange>>,
    ) -> Result<bool> {
        let position = self.reader.position();
        let retention = with.delete_retention_ms;
        // An idle partition is looked at now and then, so that its moment does not grow old.
        let is_young = is_fresh(self.fresh_ms, with.now_ms, retention / 8);
        if position == before && is_young && !self.lapsed {
            return Ok(false);
        }
        // After the read: what was gone by then was cleaned twice, and the first time is known.
        // How far a round came that a kill cut off, or did not write down, the segments say; where
        // they cannot be looked at, anything may have been cleaned.
        let noted = with.broker.cleaned_up_to(&self.held.place).unwrap_or(0);
        let shown = self.reader.partition().cleaned_end(before);
        let cleaned = shown.map_or(i64::MAX, |shown| shown.unwrap_or(0)).max(noted);
        let may_miss = had_entries && cleaned > before;
        self.lapsed |= may_miss && !is_fresh(self.fresh_ms, with.now_ms, retention);
        if cleaned > position {
            return Ok(false);
        }
        let sweeps = self.lapsed;
        if sweeps && !self.sweep(with, changes)? {
            return Ok(false);
        }
        self.lapsed = false;
        self.fresh_ms = with.now_ms;
        Ok(sweeps)
    }

    /// Drops the entries whose records are not in the log. False where it could not be told.
    fn sweep(&self, with: &Followers<'_>, changes: Option<&mut Vec<TableChange>>) -> Result<bool> {
        let upto = self.reader.position();
        let offset = |latest: &Latest| latest.offset;
        let mut gone: HashSet<i64> =
            self.held.read(|entries| entries.values().map(offset).collect());
        let (place, log) = (self.held.place.clone(), self.reader.partition().clone());
        let reader = Reader::of(with.broker.clone(), place, log, ReadFrom::Beginning)?;
        let mut reader = reader.isolation_level(with.isolation).max_records(super::RECORDS_MAX);
        while reader.position() < upto && !gone.is_empty() {
            let from = reader.position();
            let records = reader.read(Duration::ZERO)?;
            if records.is_empty() && reader.position() == from {
                return Ok(false);
            }
            for record in &records {
                gone.remove(&record.offset());
            }
        }
        let held: &Held = with.held;
        let is_gone = |latest: &Latest| gone.contains(&latest.offset);
        held.drop_gone(&self.held, ChangeCause::Compaction, is_gone, changes);
        Ok(true)
    }
}
