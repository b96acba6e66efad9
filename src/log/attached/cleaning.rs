//! What there is to clean in a partition that somebody else owns.

use super::{AttachedLog, AttachedSegment};
use crate::config::{IsolationLevel, LogConfig};
use crate::error::Result;
use crate::log::upkeep::cleaner::{
    CleaningScope, LogBorders, LogToClean, SegmentToClean, cleaned_end,
};

impl AttachedLog {
    /// What there is to clean as of now, and how many segments there are.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub fn log_to_clean(
        &self,
        checkpoint: Option<i64>,
        config: &LogConfig,
        how: (CleaningScope, i64),
    ) -> Result<(LogToClean, usize)> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            let borders = LogBorders {
                log_start_offset: seen.log_start_offset,
                last_stable_offset: seen.end_for(IsolationLevel::ReadCommitted),
                log_end_offset: seen.log_end(),
            };
            let segment = |segment: &AttachedSegment| SegmentToClean {
                base_offset: segment.summary.extent.base_offset,
                size_bytes: segment.summary.extent.size_bytes,
                max_timestamp: segment.summary.extent.max_timestamp,
                first_timestamp: segment.summary.extent.first_timestamp,
                is_cleaned: !segment.recorded.layout.is_dense(),
            };
            let segments: Vec<_> = seen.segments.iter().map(segment).collect();
            Ok((LogToClean::of(&segments, borders, checkpoint, config, how), segments.len()))
        })
    }

    /// The offset up to which the log was cleaned, by what its segments are as of now, where that
    /// is behind `from`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub fn cleaned_end(&self, from: i64) -> Result<Option<i64>> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            let shown = |segment: &AttachedSegment| {
                (segment.summary.extent.base_offset, !segment.recorded.layout.is_dense())
            };
            Ok(cleaned_end(seen.segments.iter().map(shown), from))
        })
    }
}
