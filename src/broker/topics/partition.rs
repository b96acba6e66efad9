//! One partition as the broker's clients see it: the log of the owner, or the reader of an
//! attached directory. What only an owner can do is refused in one place.

use crate::broker::attach::AttachedPartition;
use crate::broker::core::read_only;
use crate::config::{IsolationLevel, LogConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::log::finding::Finding;
use crate::log::producers::snapshot::SnapshotRow;
use crate::log::{
    AbortedTransaction, Chunk, CleaningScope, Cursor, FetchLimits, Log, LogToClean,
    TimestampAndOffset, Watcher,
};
use crate::sync::Arc;
use crate::time::Signal;
use std::path::PathBuf;

/// One partition.
#[derive(Debug, Clone)]
pub(crate) enum Partition {
    /// Of a broker that owns its directory.
    Live(Arc<Log>),
    /// Of a directory that another process owns.
    Attached(Arc<AttachedPartition>),
    /// Whose folder is missing: nothing can be read of it, or written.
    Missing(Error),
}

/// What reading a partition without its folder answers.
fn lost(missing: &Error) -> Error {
    let mut error = Error::new(ErrorKind::CorruptRecord, missing.message());
    if let (Some(topic), Some(partition)) = (missing.topic(), missing.partition()) {
        error = error.with_partition(topic, partition);
    }
    if let Some(path) = missing.path() {
        error = error.with_path(path);
    }
    error.with_source(missing.clone())
}

impl Partition {
    /// The log, to be written.
    ///
    /// # Errors
    /// [`ErrorKind::ReadOnly`] in an attached directory.
    pub fn log(&self) -> Result<&Arc<Log>> {
        match self {
            Partition::Live(log) => Ok(log),
            Partition::Attached(_) => Err(read_only()),
            Partition::Missing(error) => Err(error.clone()),
        }
    }

    /// What there is to clean, and how many segments there are.
    ///
    /// # Errors
    /// Those of opening the partition.
    pub fn log_to_clean(
        &self,
        checkpoint: Option<i64>,
        config: &LogConfig,
        how: (CleaningScope, i64),
    ) -> Result<(LogToClean, usize)> {
        match self {
            Partition::Live(log) => Ok((log.log_to_clean(checkpoint, how)?, log.segment_count()?)),
            Partition::Attached(found) => found.log.log_to_clean(checkpoint, config, how),
            Partition::Missing(error) => Err(lost(error)),
        }
    }

    /// The offset up to which it was cleaned, by what its segments are, where that is behind
    /// `from`.
    ///
    /// # Errors
    /// Those of opening the partition.
    pub fn cleaned_end(&self, from: i64) -> Result<Option<i64>> {
        match self {
            Partition::Live(log) => log.cleaned_end(from),
            Partition::Attached(found) => found.log.cleaned_end(from),
            Partition::Missing(error) => Err(lost(error)),
        }
    }

    /// The file, and the position in it, that a read of `cursor` goes on at, where that is known.
    pub fn file_at(&self, cursor: &Cursor) -> Option<(PathBuf, u64)> {
        match self {
            Partition::Live(_) => cursor.file(),
            Partition::Attached(found) => found.log.file_at(cursor),
            Partition::Missing(_) => None,
        }
    }

    /// How many segments there are.
    ///
    /// # Errors
    /// Those of opening the partition.
    pub fn segment_count(&self) -> Result<usize> {
        match self {
            Partition::Live(log) => log.segment_count(),
            Partition::Attached(found) => found.log.segment_count(),
            Partition::Missing(_) => Ok(0),
        }
    }

    /// How many bytes of batches there are, up to its damage if it has some.
    ///
    /// # Errors
    /// Those of opening the partition.
    pub fn size_bytes(&self) -> Result<u64> {
        match self {
            Partition::Live(log) => log.size_bytes(),
            Partition::Attached(found) => found.log.size_bytes(),
            Partition::Missing(_) => Ok(0),
        }
    }

    /// Why the partition takes no more, or ends before records that were in it once, if it does.
    pub fn damage(&self) -> Option<Error> {
        let lasts =
            |error: &Error| matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::StorageFailed);
        match self {
            Partition::Live(log) => log.refusal().filter(lasts),
            Partition::Attached(found) => found.log.damage().ok().flatten(),
            Partition::Missing(error) => Some(error.clone()),
        }
    }

    /// What opening the partition found that an owner ought to know; nothing before its first use.
    pub fn findings(&self) -> Vec<Finding> {
        let mut found = match self {
            Partition::Live(log) => log.opening().0,
            Partition::Attached(found) => found.log.findings().unwrap_or_default(),
            Partition::Missing(_) => Vec::new(),
        };
        found.retain(|finding| !finding.kind.is_note());
        found
    }

    /// The producers, by id.
    ///
    /// # Errors
    /// Those of opening the partition, and of reading what its batches say.
    pub fn producers(&self, now_ms: i64, expiration_ms: i64) -> Result<Vec<SnapshotRow>> {
        match self {
            Partition::Live(log) => log.producers(now_ms),
            Partition::Attached(found) => found.log.producers(now_ms, expiration_ms),
            Partition::Missing(error) => Err(lost(error)),
        }
    }

    /// The first offset that can be read.
    ///
    /// # Errors
    /// Those of opening the partition.
    pub fn log_start_offset(&self) -> Result<i64> {
        match self {
            Partition::Live(log) => log.log_start_offset(),
            Partition::Attached(found) => found.log.log_start_offset(),
            Partition::Missing(_) => Ok(0),
        }
    }

    /// What the records of one batch may decompress to, in bytes.
    pub fn uncompressed_max(&self) -> usize {
        match self {
            Partition::Live(log) => log.uncompressed_max(),
            Partition::Attached(found) => found.log.uncompressed_max(),
            Partition::Missing(_) => 0,
        }
    }

    /// What is known of damage without another look.
    pub fn known_damage(&self) -> Option<Error> {
        match self {
            Partition::Live(log) => log.known_damage(),
            Partition::Attached(found) => found.log.known_damage(),
            Partition::Missing(error) => Some(lost(error)),
        }
    }

    /// The offset of the next record.
    ///
    /// # Errors
    /// Those of opening the partition.
    pub fn log_end_offset(&self) -> Result<i64> {
        match self {
            Partition::Live(log) => log.log_end_offset(),
            Partition::Attached(found) => found.log.log_end_offset(),
            Partition::Missing(_) => Ok(0),
        }
    }

    /// The end as a reader of this isolation sees it. Where a damaged log ends nobody knows: what
    /// can be read of it ends at [`Partition::readable_end`].
    ///
    /// # Errors
    /// The damage of a damaged log; those of opening the partition.
    pub fn end_for(&self, isolation: IsolationLevel) -> Result<i64> {
        match self {
            Partition::Live(log) => match log.damage()? {
                Some(damage) => Err(damage),
                None => log.end_for(isolation),
            },
            Partition::Attached(found) => found.log.whole_end_for(isolation),
            Partition::Missing(error) => Err(lost(error)),
        }
    }

    /// How far a reader of this isolation can read: to the end, or to the damage, which the read
    /// there tells.
    ///
    /// # Errors
    /// Those of opening the partition.
    pub fn readable_end(&self, isolation: IsolationLevel) -> Result<i64> {
        match self {
            Partition::Live(log) => {
                log.damage()?;
                log.end_for(isolation)
            }
            Partition::Attached(found) => found.log.end_for(isolation),
            Partition::Missing(_) => Ok(0),
        }
    }

    /// The epoch of the life that wrote `offset`, where that is known.
    ///
    /// # Errors
    /// Those of opening the partition.
    pub fn leader_epoch_of(&self, offset: i64) -> Result<Option<i32>> {
        match self {
            Partition::Live(log) => log.leader_epoch_of(offset),
            Partition::Attached(found) => found.log.leader_epoch_of(offset),
            Partition::Missing(_) => Ok(None),
        }
    }

    /// Asks the processor for what a look at the ends takes: see [`Log::fetch_ends`].
    #[inline]
    pub fn fetch_ends(&self) {
        if let Partition::Live(log) = self {
            log.fetch_ends();
        }
    }

    /// Asks the processor for what a registration takes: see [`Log::fetch_watchers`].
    #[inline]
    pub fn fetch_watchers(&self) {
        if let Partition::Live(log) = self {
            log.fetch_watchers();
        }
    }

    /// Whole, verified batches from the cursor on: see [`Log::fetch`].
    ///
    /// # Errors
    /// Those of [`Log::fetch`].
    pub fn fetch(
        &self,
        cursor: &mut Cursor,
        isolation: IsolationLevel,
        limits: FetchLimits,
    ) -> Result<Chunk> {
        match self {
            Partition::Live(log) => log.fetch(cursor, isolation, limits),
            Partition::Attached(found) => found.log.fetch(cursor, isolation, limits),
            Partition::Missing(error) => Err(lost(error)),
        }
    }

    /// Transactions that were aborted and have records from `from` on, below `upto`.
    ///
    /// # Errors
    /// Those of [`Log::aborted_transactions`].
    pub fn aborted_transactions(&self, from: i64, upto: i64) -> Result<Vec<AbortedTransaction>> {
        match self {
            Partition::Live(log) => log.aborted_transactions(from, upto),
            Partition::Attached(found) => found.log.aborted_transactions(from, upto),
            Partition::Missing(_) => Ok(Vec::new()),
        }
    }

    /// The first record that a reader of this isolation sees whose timestamp is not before
    /// `timestamp`.
    ///
    /// # Errors
    /// Those of [`Log::offset_for_time`]; the damage of a damaged log that has no such record
    /// before it, for there may be one behind.
    pub fn offset_for_time(
        &self,
        timestamp: i64,
        isolation: IsolationLevel,
    ) -> Result<Option<TimestampAndOffset>> {
        let upto = self.readable_end(isolation)?;
        let found = match self {
            Partition::Live(log) => log.offset_for_time(timestamp, upto)?,
            Partition::Attached(found) => found.log.offset_for_time(timestamp, upto)?,
            Partition::Missing(_) => None,
        };
        if found.is_none() {
            self.end_for(isolation)?;
        }
        Ok(found)
    }

    /// The first record with the largest timestamp that a reader of this isolation sees.
    ///
    /// # Errors
    /// Those of [`Log::max_timestamp`]; the damage of a damaged log, behind which there may be a
    /// larger one.
    pub fn max_timestamp(&self, isolation: IsolationLevel) -> Result<Option<TimestampAndOffset>> {
        let upto = self.end_for(isolation)?;
        match self {
            Partition::Live(log) => log.max_timestamp(upto),
            Partition::Attached(found) => found.log.max_timestamp(upto),
            Partition::Missing(_) => Ok(None),
        }
    }

    /// Whether a watcher is told of what happens here. The owner of an attached directory is
    /// another process, which tells nobody.
    pub fn tells(&self) -> bool {
        !matches!(self, Partition::Attached(_))
    }

    /// Registers `watcher` for the next append; true if there is something beyond `beyond` already.
    ///
    /// # Errors
    /// Those of opening the partition.
    pub fn watch(
        &self,
        watcher: impl Into<Watcher>,
        beyond: i64,
        isolation: IsolationLevel,
    ) -> Result<bool> {
        match self {
            Partition::Live(log) => log.watch(watcher, beyond, isolation),
            Partition::Attached(found) => found.watch(watcher.into().signal(), beyond, isolation),
            Partition::Missing(_) => Ok(false),
        }
    }

    /// Takes a registration back.
    pub fn unwatch(&self, event: &Arc<Signal>) {
        match self {
            Partition::Live(log) => log.unwatch(event),
            Partition::Attached(found) => found.unwatch(event),
            Partition::Missing(_) => {}
        }
    }
}
