//! What goes at the old end: retention by time and by size, and records deleted on request.
//!
//! Whole segments go, from the front, by Kafka's rules; the active one too, behind a new empty
//! one. Files are unlinked at once, and readers that have them mapped keep them.

use crate::config::LogConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::log::Log;
use crate::log::files::names::FileKind;
use crate::log::lifecycle::open::Upkeep;
use crate::log::segment::Segment;
use crate::log::segment::active::FIRST_STEP_BYTES;
use crate::sync::Arc;
use crate::time::Now;

/// The outcome of a pass of retention.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Retained {
    pub segments_deleted: usize,
    pub bytes_deleted: u64,
    pub log_start_offset: i64,
    /// Segments that are old, or too many, and are held back by who has not read them.
    pub segments_held: usize,
    pub bytes_held: u64,
}

/// A segment as the rules look at it.
#[derive(Debug, Clone, Copy)]
struct HeldSegment {
    size_bytes: u64,
    /// The base offset of the next segment, or the log end.
    upto: i64,
    max_timestamp: i64,
}

/// How many of the oldest segments go, by all three rules: age and size take none with a record
/// at or behind `protected`.
fn expired(
    held: &[HeldSegment],
    start: i64,
    config: &LogConfig,
    now_ms: i64,
    protected: i64,
) -> usize {
    let last = held.len().saturating_sub(1);
    // A last segment without a record is what is left when all others went.
    let may_go = |at: usize| {
        held.get(at)
            .is_some_and(|held| (at < last || held.size_bytes > 0) && held.upto <= protected)
    };
    let breach = held.iter().take(last).take_while(|held| held.upto <= start).count();
    if !config.cleanup_delete {
        return breach;
    }
    let mut gone = breach;
    if let Ok(limit) = u64::try_from(config.retention_bytes) {
        let total: u64 = held.iter().skip(gone).map(|held| held.size_bytes).sum();
        if let Some(mut excess) = total.checked_sub(limit) {
            while let Some(oldest) = held.get(gone).filter(|_| may_go(gone)) {
                let Some(rest) = excess.checked_sub(oldest.size_bytes) else { break };
                excess = rest;
                gone += 1;
            }
        }
    }
    if config.retention_ms >= 0 {
        while let Some(oldest) = held.get(gone).filter(|_| may_go(gone)) {
            // Departure: D15. Kafka takes the file's modification time for the time of records that
            // have none. A copied directory then loses or keeps them by chance, so here only the
            // size counts for them. A segment that compaction emptied holds nothing back.
            let age = now_ms.saturating_sub(oldest.max_timestamp);
            let old = oldest.max_timestamp >= 0 && age > config.retention_ms;
            if !old && oldest.size_bytes > 0 {
                break;
            }
            gone += 1;
        }
    }
    gone
}

impl Log {
    /// Removes the segments that retention and deleted records allow to go. Age and size take
    /// nothing from `protected` on.
    ///
    /// # Durability
    /// The removal survives power loss, oldest first.
    ///
    /// # Errors
    /// `Io`, and those of opening. What was removed until then stays removed.
    pub fn retain_below(&self, protected: i64, now: Now) -> Result<Retained> {
        let mut upkeep = self.upkeep.lock();
        let unchanged = |log: &Log| Retained {
            log_start_offset: log.borders.start.load(),
            ..Retained::default()
        };
        if self.has_ended() {
            return Ok(unchanged(self));
        }
        self.open_locked(&mut upkeep)?;
        let (config, refused) = {
            let writer = self.writer.lock();
            (writer.config.clone(), writer.phase.refusal().is_some())
        };
        let (count, held) = match refused {
            true => (0, (0, 0)),
            false => self.count_expired(&config, now.wall_ms, protected),
        };
        let told = |done: Retained| Retained { segments_held: held.0, bytes_held: held.1, ..done };
        if count == 0 && upkeep.doomed.is_empty() {
            return Ok(told(unchanged(self)));
        }
        self.begin_epoch(&mut upkeep)?;
        self.finish_swaps(&mut upkeep)?;
        if count > 0 {
            let doomed = self.take_expired(&config, now.wall_ms, protected)?;
            upkeep.doomed.extend(doomed);
        }
        // What the batches tell of their producers is nowhere else once they are gone.
        self.take_first_snapshot();
        self.write_snapshots(&mut upkeep)?;
        let mut done = self.remove_doomed(&mut upkeep)?;
        done.log_start_offset = self.borders.start.load();
        Ok(told(done))
    }

    /// As [`Log::retain_below`], where nobody holds anything back.
    ///
    /// # Errors
    /// As [`Log::retain_below`].
    #[cfg(all(test, not(loom)))]
    pub fn retention_step(&self, now: Now) -> Result<Retained> {
        self.retain_below(i64::MAX, now)
    }

    /// Removes the files of segments that are not part of the log any more, once the state file
    /// knows that they are not.
    pub(in crate::log) fn remove_doomed(&self, upkeep: &mut Upkeep) -> Result<Retained> {
        let mut done = Retained::default();
        if upkeep.doomed.is_empty() {
            return Ok(done);
        }
        self.env.gate.record(self)?;
        while let Some(segment) = upkeep.doomed.front() {
            let size_bytes = segment.extent().size_bytes;
            self.remove_files(segment)?;
            upkeep.doomed.pop_front();
            done.bytes_deleted += size_bytes;
            done.segments_deleted += 1;
            self.env.counters.segments_deleted.one();
            self.env.counters.bytes_deleted.add(size_bytes);
        }
        let start = self.borders.start.load();
        let epochs = {
            let mut writer = self.writer.lock();
            writer.epochs.truncate_start(start);
            writer.epochs.clone()
        };
        epochs.write(&*self.env.storage, &self.id.dir)?;
        Ok(done)
    }

    /// How many of the oldest segments go; and how many more would go, and their bytes, if nobody
    /// held them back.
    fn count_expired(
        &self,
        config: &LogConfig,
        now_ms: i64,
        protected: i64,
    ) -> (usize, (usize, u64)) {
        let extents = self.last_extent();
        let segments = self.segments.all();
        let held: Vec<HeldSegment> = segments
            .iter()
            .enumerate()
            .map(|(at, segment)| {
                let extent = extents.of(segment);
                HeldSegment {
                    size_bytes: extent.size_bytes,
                    upto: segments.get(at + 1).map_or(extents.end(), |next| next.base_offset),
                    max_timestamp: extent.max_timestamp,
                }
            })
            .collect();
        let start = self.borders.start.load();
        let count = expired(&held, start, config, now_ms, protected);
        if protected == i64::MAX {
            return (count, (0, 0));
        }
        let would_go = expired(&held, start, config, now_ms, i64::MAX);
        let kept = held.get(count..would_go).unwrap_or_default();
        (count, (kept.len(), kept.iter().map(|held| held.size_bytes).sum()))
    }

    /// Takes the expired segments out of the list, with the log start moved behind them. Where
    /// all go, a new segment at the log end comes first, durably: a log must not forget its end.
    fn take_expired(
        &self,
        config: &LogConfig,
        now_ms: i64,
        protected: i64,
    ) -> Result<Vec<Arc<Segment>>> {
        let (count, _) = self.count_expired(config, now_ms, protected);
        if count == self.segments.len() {
            self.open_empty_segment(config, now_ms)?;
        }
        // The start must not lie behind the end of what is durable.
        self.sync_alone()?;
        // First, so that nobody is led from an offset that is gone to the first one that is left.
        if let Some(first) = self.segments.nth(count) {
            self.borders.start.raise(first.base_offset);
        }
        let doomed = self.segments.drop_front(count);
        self.wake_watchers();
        Ok(doomed)
    }

    /// Has the records so far lie in closed segments, by a new empty one at the log end.
    ///
    /// # Errors
    /// Why the log takes no changes; those of making the file.
    pub fn close_active_segment(&self, now: Now) -> Result<()> {
        let mut upkeep = self.upkeep.lock();
        self.open_locked(&mut upkeep)?;
        let config = {
            let writer = self.writer.lock();
            if let Some(refusal) = writer.phase.refusal() {
                return Err(refusal.clone());
            }
            writer.config.clone()
        };
        self.begin_epoch(&mut upkeep)?;
        let extents = self.last_extent();
        let last = self.segments.last();
        if last.is_some_and(|last| extents.of(&last).size_bytes == 0) {
            return Ok(());
        }
        self.open_empty_segment(&config, now.wall_ms)
    }

    /// Rolls to an empty segment at the log end, whether the last one has a writer or not.
    fn open_empty_segment(&self, config: &LogConfig, now_ms: i64) -> Result<()> {
        let mut writer = self.writer.lock();
        let end = writer.next_offset;
        let made = self.create_segment(config, end, FIRST_STEP_BYTES, now_ms);
        // Also where a new file is there and could not be used: no record may go into the old one
        // behind the place where the new one begins.
        if (made.is_ok() || !self.take_back(end))
            && writer.retire().is_none()
            && let Some(last) = self.segments.last()
        {
            last.set_stage(crate::log::segment::Stage::Retired);
        }
        let active = made.map_err(|error| self.at_home(error))?;
        self.install(&mut writer, active)
    }

    /// Removes the files of a segment, durably before the next one's turn: whatever a crash
    /// leaves, the segments that are left follow each other.
    fn remove_files(&self, segment: &Arc<Segment>) -> Result<()> {
        self.env.mapped.forget(segment);
        let storage = &self.env.storage;
        for kind in FileKind::ALL {
            let path = segment.path_of(kind);
            match storage.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(self.at_home(Error::io(error, "cannot remove", &path)));
                }
                _ => {}
            }
        }
        let dir = &self.id.dir;
        storage.sync_dir(dir).map_err(|e| self.at_home(Error::io(e, "cannot sync", dir)))
    }

    /// Makes `before` the first offset that can be read; -1 stands for the high watermark. Whole
    /// segments below it go at the next pass of retention. Returns the log start offset.
    ///
    /// # Durability
    /// The deletion is kept by the state file, as of when the broker writes it next. Records
    /// below `before` are durable when this returns, so that no log starts behind its end.
    ///
    /// # Errors
    /// `OffsetOutOfRange` above the high watermark and below -1; those of [`Log::flush`].
    pub fn delete_records(&self, before: i64) -> Result<i64> {
        // A start that is only known would be taken from the state file again at the opening.
        self.opened()?;
        let end = self.log_end_offset()?;
        let before = if before == -1 { end } else { before };
        if before < 0 || before > end {
            let message = format!("records can be deleted up to the high watermark, {end}");
            let error = Error::new(ErrorKind::OffsetOutOfRange, message).with_offset(before);
            return Err(self.at_home(error));
        }
        let start = self.borders.start.load();
        if before <= start {
            return Ok(start);
        }
        self.make_durable(before)?;
        let start = self.borders.start.raise(before);
        self.wake_watchers();
        Ok(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(retention_bytes: i64, retention_ms: i64) -> LogConfig {
        LogConfig { retention_bytes, retention_ms, ..LogConfig::default() }
    }

    fn held(rows: &[(u64, i64, i64)]) -> Vec<HeldSegment> {
        rows.iter()
            .map(|&(size_bytes, upto, max_timestamp)| HeldSegment {
                size_bytes,
                upto,
                max_timestamp,
            })
            .collect()
    }

    #[test]
    fn size_never_takes_a_log_below_its_limit() {
        let log = held(&[(100, 10, 0), (100, 20, 0), (100, 30, 0)]);
        for (limit, gone) in [(-1, 0), (301, 0), (300, 0), (201, 0), (200, 1), (1, 2), (0, 3)] {
            assert_eq!(expired(&log, 0, &config(limit, -1), 0, i64::MAX), gone, "limit {limit}");
        }
    }

    #[test]
    fn time_is_strict_and_stops_at_the_first_young_segment() {
        let log = held(&[(10, 10, 100), (10, 20, 300), (10, 30, 200)]);
        for (now, gone) in [(1100, 0), (1101, 1), (1250, 1), (1300, 1), (1301, 3)] {
            assert_eq!(expired(&log, 0, &config(-1, 1000), now, i64::MAX), gone, "now {now}");
        }
        let future = held(&[(10, 10, i64::MAX), (10, 20, 0)]);
        assert_eq!(expired(&future, 0, &config(-1, 1000), 1_000_000, i64::MAX), 0);
    }

    #[test]
    fn segments_below_the_start_go_under_every_policy_but_never_the_last() {
        let log = held(&[(10, 10, 5), (10, 20, 5), (10, 30, 5)]);
        let compact = LogConfig { cleanup_delete: false, cleanup_compact: true, ..config(0, 0) };
        for (start, gone) in [(0, 0), (9, 0), (10, 1), (20, 2), (30, 2)] {
            assert_eq!(expired(&log, start, &compact, i64::MAX, 0), gone, "start {start}");
        }
    }

    #[test]
    fn an_empty_last_segment_stays_and_an_empty_one_before_holds_nothing_back() {
        assert_eq!(expired(&held(&[(10, 10, 5), (0, 10, -1)]), 0, &config(0, 0), 100, i64::MAX), 1);
        assert_eq!(
            expired(&held(&[(0, 10, -1), (10, 20, 5)]), 0, &config(-1, 0), 100, i64::MAX),
            2
        );
        assert_eq!(
            expired(&held(&[(10, 10, -1), (10, 20, 5)]), 0, &config(-1, 0), 100, i64::MAX),
            0
        );
        assert_eq!(expired(&[], 0, &config(0, 0), 100, i64::MAX), 0);
    }

    #[test]
    fn age_and_size_take_nothing_that_is_protected() {
        let log = held(&[(100, 10, 0), (100, 20, 0), (100, 30, 0)]);
        for (protected, gone) in [(0, 0), (9, 0), (10, 1), (19, 1), (20, 2), (29, 2), (30, 3)] {
            assert_eq!(expired(&log, 0, &config(0, -1), 0, protected), gone, "by size");
            assert_eq!(expired(&log, 0, &config(-1, 5), 6, protected), gone, "by age");
        }
        // What was deleted on request goes, and no more.
        assert_eq!(expired(&log, 20, &config(0, 0), 6, 0), 2);
    }
}
