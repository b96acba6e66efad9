//! How much of a log there is to clean, and whether it is time for it (`LogCleanerManager`).

use crate::config::LogConfig;

/// One segment as the choice looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) struct SegmentToClean {
    pub base_offset: i64,
    pub size_bytes: u64,
    /// The largest timestamp of its batches, -1 without one.
    pub max_timestamp: i64,
    /// The largest timestamp of its first batch, -1 without one.
    pub first_timestamp: i64,
    /// A cleaning may have written it; false for one that is as its writer left it.
    pub is_cleaned: bool,
}

/// The borders of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) struct LogBorders {
    pub log_start_offset: i64,
    pub last_stable_offset: i64,
    pub log_end_offset: i64,
}

/// Which bounds a cleaning that an administrator asks for goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CleaningScope {
    /// What the settings let it: `min.compaction.lag.ms`.
    Settings,
    /// Everything but the active segment and open transactions.
    AllClosed,
}

/// The part of a log that there is to clean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LogToClean {
    /// The first offset that no cleaning has looked at.
    pub first_dirty_offset: i64,
    /// The base offset of the first segment that may not be cleaned.
    pub first_uncleanable_offset: i64,
    /// Bytes of the segments that begin below the first dirty offset.
    pub clean_bytes: u64,
    /// Bytes from the segment of the first dirty offset on that may be cleaned.
    pub cleanable_bytes: u64,
    /// How many segments that are.
    pub cleanable_segments: usize,
    /// Bytes of the active segment.
    pub active_bytes: u64,
    /// How long the oldest dirty record has been older than `max.compaction.lag.ms`; 0 where none
    /// is.
    pub compaction_delay_ms: i64,
    /// What was kept of the first dirty offset does not fit the log.
    pub was_reset: bool,
}

impl LogToClean {
    /// What there is to clean in a log whose last cleaning ended at `checkpoint`. The last of
    /// `segments` is the active one.
    pub(in crate::log) fn of(
        segments: &[SegmentToClean],
        borders: LogBorders,
        checkpoint: Option<i64>,
        config: &LogConfig,
        (scope, now_ms): (CleaningScope, i64),
    ) -> LogToClean {
        let start = borders.log_start_offset;
        let kept = checkpoint.unwrap_or(start);
        let active = segments.last().map_or(borders.log_end_offset, |last| last.base_offset);
        let closed = segments.split_last().map_or(&[][..], |(_, closed)| closed);
        // A round writes anew all that it cleans: behind a segment as its writer left it, nothing
        // was. Of a log that is believed to be, a tombstone would go without what it deletes.
        //
        // Departure: D125. Kafka believes what lies within the log.
        let as_written = closed.iter().find(|segment| !segment.is_cleaned);
        let cleaned_max = as_written.map_or(borders.log_end_offset, |segment| segment.base_offset);
        let was_reset = kept < start || kept > cleaned_max.max(start);
        let first_dirty_offset = if was_reset { start } else { kept };
        let dirty = closed.get(floor(closed, first_dirty_offset)..).unwrap_or_default();
        let dirty = if first_dirty_offset >= active { &[] } else { dirty };

        let mut bound = borders.last_stable_offset.min(active);
        if scope == CleaningScope::Settings && config.min_compaction_lag_ms > 0 {
            // Departure: D89. Kafka takes the file's modification time for that of records which
            // have none.
            let young = now_ms.saturating_sub(config.min_compaction_lag_ms);
            let first = dirty.iter().find(|segment| segment.max_timestamp > young);
            bound = bound.min(first.map_or(i64::MAX, |segment| segment.base_offset));
        }
        let first_uncleanable_offset = match closed.get(floor(closed, bound)) {
            Some(segment) if bound < active => segment.base_offset,
            _ => active,
        };
        let below = |segment: &&SegmentToClean| segment.base_offset < first_uncleanable_offset;
        let earliest = dirty.iter().map(|segment| segment.first_timestamp).filter(|at| *at > 0);
        let overdue = now_ms.saturating_sub(config.max_compaction_lag_ms.max(0));
        LogToClean {
            first_dirty_offset,
            first_uncleanable_offset,
            clean_bytes: closed
                .iter()
                .filter(|segment| segment.base_offset < first_dirty_offset)
                .map(|segment| segment.size_bytes)
                .sum(),
            cleanable_bytes: dirty.iter().filter(below).map(|segment| segment.size_bytes).sum(),
            cleanable_segments: dirty.iter().filter(below).count(),
            active_bytes: segments.last().map_or(0, |active| active.size_bytes),
            compaction_delay_ms: earliest.min().map_or(0, |at| overdue.saturating_sub(at).max(0)),
            was_reset,
        }
    }

    /// How much of what may be cleaned is dirty, from 0 to 1 (Kafka's cleanable ratio).
    pub fn cleanable_ratio(&self) -> f64 {
        let total = self.clean_bytes.saturating_add(self.cleanable_bytes);
        #[allow(clippy::cast_precision_loss)]
        match total {
            0 => 0.0,
            total => self.cleanable_bytes as f64 / total as f64,
        }
    }

    /// Whether its active segment is larger than its settings let one become.
    pub fn is_overgrown(&self, config: &LogConfig) -> bool {
        self.active_bytes > config.segment_bytes
    }

    /// Whether its settings say that it is cleaned.
    pub fn is_due(&self, config: &LogConfig) -> bool {
        let by_ratio = self.cleanable_ratio() > config.min_cleanable_dirty_ratio;
        self.cleanable_bytes > 0 && (by_ratio || self.compaction_delay_ms > 0)
    }
}

/// The offset up to which a log was cleaned, as its segments show it, where that is behind `from`.
/// Of `segments`, which begin at the one that has `from`, each says where it begins, and whether
/// compaction may have taken anything from it: those of another program are held to be cleaned.
/// The active segment never is.
pub(in crate::log) fn cleaned_end(
    segments: impl DoubleEndedIterator<Item = (i64, bool)>,
    from: i64,
) -> Option<i64> {
    let mut behind = None;
    for (base_offset, is_cleaned) in segments.rev() {
        match behind {
            Some(end) if end <= from => return None,
            Some(end) if is_cleaned => return Some(end),
            _ => behind = Some(base_offset),
        }
    }
    None
}

/// The place of the segment that `offset` belongs to; the first one where all begin above it.
fn floor(segments: &[SegmentToClean], offset: i64) -> usize {
    segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1)
}

/// One segment as grouping looks at it, or what a group has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentToGroup {
    pub base_offset: i64,
    pub size_bytes: u64,
    pub index_bytes: u64,
    pub time_index_bytes: u64,
}

/// A group reads at most so many bytes, or so many times the size of a segment: what a crash, or
/// the end of the broker, makes a cleaning do again.
const GROUP_READS_MAX: u64 = 64 << 20;
const GROUP_READS_SEGMENTS_MAX: u64 = 8;

/// Whether a group of which `so_far` is left takes the next segment in, whose offsets end before
/// `end`: the sizes of a segment and of its indexes leave room for all of it, and an index can say
/// its offsets. `read` is what the group has read.
///
/// Kafka's groups (`Cleaner.groupSegmentsBySize`) go by what segments were before the cleaning, so
/// that of many which hold little each stays one: there, each costs as many syncs as all of them.
pub(super) fn joins_group(
    so_far: &SegmentToGroup,
    read: u64,
    next: &SegmentToGroup,
    end: i64,
    config: &LogConfig,
) -> bool {
    let reach = end.saturating_sub(1).saturating_sub(so_far.base_offset);
    // A segment without a batch has no offset of its own.
    let in_reach = next.size_bytes == 0 || reach <= i64::from(i32::MAX);
    let fits = |held: u64, more: u64, most: u64| held.saturating_add(more) <= most;
    let reads_max = config.segment_bytes.saturating_mul(GROUP_READS_SEGMENTS_MAX);
    in_reach
        && fits(so_far.size_bytes, next.size_bytes, config.segment_bytes)
        && fits(so_far.index_bytes, next.index_bytes, config.segment_index_bytes)
        && fits(so_far.time_index_bytes, next.time_index_bytes, config.segment_index_bytes)
        && fits(read, next.size_bytes, reads_max.min(GROUP_READS_MAX).max(config.segment_bytes))
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn segment(base_offset: i64, size_bytes: u64, max_timestamp: i64) -> SegmentToClean {
        let first_timestamp = max_timestamp;
        let is_cleaned = true;
        SegmentToClean { base_offset, size_bytes, max_timestamp, first_timestamp, is_cleaned }
    }

    /// Three closed segments of ten offsets each, and an active one at 30.
    const LOG: [SegmentToClean; 4] =
        [of_log(0, 100, 1), of_log(10, 50, 11), of_log(20, 50, 21), of_log(30, 70, 31)];

    const fn of_log(base_offset: i64, size_bytes: u64, first_timestamp: i64) -> SegmentToClean {
        let max_timestamp = base_offset + 10;
        let is_cleaned = true;
        SegmentToClean { base_offset, size_bytes, max_timestamp, first_timestamp, is_cleaned }
    }

    fn config() -> LogConfig {
        LogConfig { cleanup_compact: true, cleanup_delete: false, ..LogConfig::default() }
    }

    fn borders(log_start_offset: i64, last_stable_offset: i64) -> LogBorders {
        LogBorders { log_start_offset, last_stable_offset, log_end_offset: 40 }
    }

    fn of(
        checkpoint: Option<i64>,
        borders: LogBorders,
        config: &LogConfig,
        now: i64,
    ) -> LogToClean {
        LogToClean::of(&LOG, borders, checkpoint, config, (CleaningScope::Settings, now))
    }

    fn offsets(of: LogToClean) -> (i64, i64, u64, u64) {
        let (dirty, clean) = (of.cleanable_bytes, of.clean_bytes);
        (of.first_dirty_offset, of.first_uncleanable_offset, clean, dirty)
    }

    #[test]
    fn everything_before_the_active_segment_is_dirty_at_first() {
        let all = of(None, borders(0, 40), &config(), 100);
        assert_eq!(offsets(all), (0, 30, 0, 200));
        assert_eq!(all.cleanable_ratio(), 1.0);
        assert!(all.is_due(&config()) && !all.was_reset);
    }

    #[test]
    fn the_ratio_is_strictly_above_the_setting() {
        let half = of(Some(10), borders(0, 40), &config(), 100);
        assert_eq!(offsets(half), (10, 30, 100, 100));
        assert_eq!(half.cleanable_ratio(), 0.5);
        assert!(!half.is_due(&config()), "one half is not more than one half");
        let less = LogConfig { min_cleanable_dirty_ratio: 0.49, ..config() };
        assert!(half.is_due(&less));
        let none = of(Some(30), borders(0, 40), &less, 100);
        assert_eq!(offsets(none), (30, 30, 200, 0));
        let zero = LogConfig { min_cleanable_dirty_ratio: 0.0, ..config() };
        assert!(!none.is_due(&zero), "there is nothing to clean");
    }

    #[test]
    fn the_segment_of_an_open_transaction_and_all_behind_it_are_left() {
        for (stable, first) in [(0, 0), (9, 0), (10, 10), (15, 10), (25, 20), (30, 30), (35, 30)] {
            let to_clean = of(None, borders(0, stable), &config(), 100);
            assert_eq!(to_clean.first_uncleanable_offset, first, "LSO {stable}");
        }
        assert_eq!(of(Some(20), borders(0, 15), &config(), 100).cleanable_bytes, 0);
    }

    #[test]
    fn young_segments_wait_and_old_ones_wait_no_longer() {
        let lag = LogConfig { min_compaction_lag_ms: 75, ..config() };
        assert_eq!(of(None, borders(0, 40), &lag, 100).first_uncleanable_offset, 20);
        let all = (CleaningScope::AllClosed, 100);
        let to_clean = LogToClean::of(&LOG, borders(0, 40), None, &lag, all);
        assert_eq!(to_clean.first_uncleanable_offset, 30);
        let overdue =
            LogConfig { max_compaction_lag_ms: 80, min_cleanable_dirty_ratio: 1.0, ..config() };
        assert!(of(Some(10), borders(0, 40), &overdue, 92).is_due(&overdue), "11 < 12");
        let delay = |now| of(Some(10), borders(0, 40), &overdue, now).compaction_delay_ms;
        assert_eq!([delay(91), delay(92), delay(191)], [0, 1, 100]);
        assert!(!of(Some(10), borders(0, 40), &overdue, 91).is_due(&overdue), "11 is not before");
        assert!(!of(Some(30), borders(0, 40), &overdue, 500).is_due(&overdue), "nothing is dirty");
    }

    #[test]
    fn a_checkpoint_outside_the_log_begins_at_its_start() {
        for (checkpoint, start, first, reset) in
            [(5, 10, 10, true), (41, 0, 0, true), (40, 0, 40, false), (10, 10, 10, false)]
        {
            let to_clean = of(Some(checkpoint), borders(start, 40), &config(), 100);
            assert_eq!((to_clean.first_dirty_offset, to_clean.was_reset), (first, reset));
        }
        let beyond = of(Some(35), borders(0, 40), &config(), 100);
        assert_eq!(beyond.cleanable_bytes, 0, "the active segment is not cleaned");
        let empty = LogBorders { log_start_offset: 0, last_stable_offset: 0, log_end_offset: 0 };
        let nothing = LogToClean::of(&[], empty, None, &config(), (CleaningScope::Settings, 100));
        assert_eq!(offsets(nothing), (0, 0, 0, 0));
        assert_eq!(
            offsets(LogToClean::of(
                &[segment(0, 10, 5)],
                LogBorders { log_end_offset: 3, ..empty },
                None,
                &config(),
                (CleaningScope::Settings, 100)
            )),
            (0, 0, 0, 0)
        );
    }

    fn sized(base_offset: i64, size_bytes: u64) -> SegmentToGroup {
        SegmentToGroup { base_offset, size_bytes, index_bytes: 8, time_index_bytes: 12 }
    }

    #[test]
    fn segments_are_grouped_within_the_sizes_of_one() {
        let config = LogConfig { segment_bytes: 100, ..config() };
        let joins = |held, read, more, config: &LogConfig| {
            joins_group(&sized(0, held), read, &sized(10, more), 1000, config)
        };
        assert!(joins(50, 50, 50, &config));
        assert!(!joins(50, 50, 51, &config), "it could become too large");
        assert!(joins(0, 500, 100, &config), "what is left counts, not what was read");
        assert!(!joins(0, 701, 100, &config), "all that was read would be read again");
        let narrow = LogConfig { segment_index_bytes: 20, ..config.clone() };
        assert!(!joins(1, 1, 1, &narrow));
    }

    #[test]
    fn a_group_reaches_no_farther_than_an_index_can_say() {
        let far = i64::from(i32::MAX);
        let joins = |more, end| joins_group(&sized(0, 1), 1, &sized(10, more), end, &config());
        assert!(joins(1, far + 1));
        assert!(!joins(1, far + 2));
        assert!(joins(0, far + 9), "it holds no offset");
    }

    #[test]
    fn segments_show_how_far_a_log_was_cleaned() {
        let log = [(0, true), (10, true), (20, false), (30, false)];
        let end = |log: &[(i64, bool)], from| cleaned_end(log.iter().copied(), from);
        assert_eq!([0, 15, 19].map(|from| end(&log, from)), [Some(20); 3]);
        assert_eq!([20, 25, 40].map(|from| end(&log, from)), [None; 3]);
        assert_eq!(end(&[(0, true), (10, false), (20, true), (30, true)], 12), Some(30));
        // Nobody cleans the active one, whoever wrote it.
        assert_eq!((end(&[(0, true)], 0), end(&[], 0)), (None, None));
    }

    #[test]
    fn progress_beyond_what_was_ever_written_anew_counts_for_nothing() {
        let mut log = LOG;
        log[1].is_cleaned = false;
        let first_dirty = |kept| {
            let how = (CleaningScope::Settings, 100);
            let found = LogToClean::of(&log, borders(0, 40), Some(kept), &config(), how);
            (found.first_dirty_offset, found.was_reset)
        };
        assert_eq!([0, 5, 10].map(first_dirty), [(0, false), (5, false), (10, false)]);
        assert_eq!([11, 20, 30, 40, 41].map(first_dirty), [(0, true); 5]);
    }
}
