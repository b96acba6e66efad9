//! The cleaner: of each key in a compacted log the latest record stays.
//!
//! What is chosen is in `choice`, what survives in `filter`, a round over one log in `cleaning`,
//! how a cleaned segment takes the place of its old ones in `swap`. When a log's turn comes, and
//! how fast it goes, is the broker's to say.

mod choice;
mod cleaned;
mod cleaning;
mod filter;
mod marks;
mod offset_map;
mod source;
mod swap;
mod transactions;

#[cfg(test)]
#[cfg(not(loom))]
mod tests;

pub(crate) use choice::{CleaningScope, LogToClean};
pub(in crate::log) use choice::{LogBorders, SegmentToClean, cleaned_end};
pub(crate) use cleaning::{CleanedLog, CleanerConfig, Cleaning};

use crate::config::LogConfig;
use crate::error::Result;
use crate::log::Log;
use crate::log::segment::Segment;
use crate::log::segment::extent::SegmentExtent;
use crate::log::segment::state::{LogState, SegmentLayout};
use crate::sync::Arc;

impl SegmentToClean {
    fn new(base_offset: i64, extent: &SegmentExtent, layout: SegmentLayout) -> SegmentToClean {
        SegmentToClean {
            base_offset,
            size_bytes: extent.size_bytes,
            max_timestamp: extent.max_timestamp,
            first_timestamp: extent.first_timestamp,
            is_cleaned: !layout.is_dense(),
        }
    }
}

impl LogToClean {
    /// What there is to clean in a log that was not opened, as the state file keeps it.
    pub fn of_state(
        state: &LogState,
        checkpoint: Option<i64>,
        config: &LogConfig,
        how: (CleaningScope, i64),
    ) -> LogToClean {
        let segment = |s: &crate::log::segment::state::SegmentState| {
            SegmentToClean::new(s.extent.base_offset, &s.extent, s.layout)
        };
        let segments: Vec<_> = state.segments.iter().map(segment).collect();
        let open = state.open_transactions.iter().map(|open| open.first_offset).min();
        let borders = LogBorders {
            log_start_offset: state.log_start_offset,
            last_stable_offset: open.unwrap_or(state.log_end_offset),
            log_end_offset: state.log_end_offset,
        };
        LogToClean::of(&segments, borders, checkpoint, config, how)
    }
}

impl Log {
    /// What there is to clean, where the last cleaning ended at `checkpoint`.
    ///
    /// # Errors
    /// Those of opening the folder.
    pub fn log_to_clean(
        &self,
        checkpoint: Option<i64>,
        how: (CleaningScope, i64),
    ) -> Result<LogToClean> {
        let borders = LogBorders {
            log_start_offset: self.log_start_offset()?,
            last_stable_offset: self.last_stable_offset()?,
            log_end_offset: self.log_end_offset()?,
        };
        self.opened()?;
        let extents = self.last_extent();
        let config = self.writer.lock().config.clone();
        let segment = |segment: &Arc<Segment>| {
            SegmentToClean::new(segment.base_offset, &extents.of(segment), segment.layout)
        };
        let segments: Vec<_> = self.segments.all().iter().map(segment).collect();
        Ok(LogToClean::of(&segments, borders, checkpoint, &config, how))
    }

    /// The offset up to which the log was cleaned, by what its segments are, where that is behind
    /// `from`. No crash takes it back: a cleaned segment is known as one from its swap on.
    ///
    /// # Errors
    /// Those of opening the folder.
    pub fn cleaned_end(&self, from: i64) -> Result<Option<i64>> {
        self.opened()?;
        let segments = self.segments.floor_and_above(from);
        let seen = |segment: &Arc<Segment>| (segment.base_offset, !segment.layout.is_dense());
        Ok(cleaned_end(segments.iter().map(seen), from))
    }

    /// Begins a round of cleaning; `None` where there is no segment to clean.
    ///
    /// # Errors
    /// Why the log takes no changes: its damage, that it is closed, that its disk failed.
    pub fn begin_cleaning(
        self: &Arc<Self>,
        checkpoint: Option<i64>,
        (scope, now_ms): (CleaningScope, i64),
        config: CleanerConfig,
    ) -> Result<Option<Cleaning>> {
        {
            let mut upkeep = self.upkeep.lock();
            self.open_locked(&mut upkeep)?;
            if let Some(refusal) = self.refusal() {
                return Err(self.known_damage().unwrap_or(refusal));
            }
            self.begin_epoch(&mut upkeep)?;
            self.finish_swaps(&mut upkeep)?;
        }
        let to_clean = self.log_to_clean(checkpoint, (scope, now_ms))?;
        let mut aborted = Vec::new();
        let mut segments: Vec<Arc<Segment>> = Vec::new();
        for segment in self.segments.all() {
            aborted.extend(segment.aborted().iter().copied());
            // One that is not sealed yet needs no cut and no index files any more. What is cleaned
            // is durable before it is replaced.
            if segment.base_offset < to_clean.first_uncleanable_offset {
                segments.push(segment);
            }
        }
        if segments.is_empty() {
            return Ok(None);
        }
        let delete_retention_ms = self.writer.lock().config.delete_retention_ms;
        let round = (aborted, delete_retention_ms, now_ms);
        Ok(Some(Cleaning::new(self.clone(), to_clean, config, segments, round)))
    }
}
