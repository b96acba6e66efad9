//! Reading a partition without owning it: beside a running owner, or what a killed one left.
//!
//! Everything is read by pread and copied, so that whatever the owner does to a file, nothing
//! here faults. Behind the border that opening proved, each batch is believed once its CRC holds;
//! bytes that are no batch are "the end for now", and the next look may see more. A file that has
//! vanished means that retention went on: the folder is listed again. A folder of another topic
//! means that this one was deleted, and its name given away.

mod cleaning;
mod fetch;
mod opening;
mod owner;
mod producers;
mod range;
mod tail;
mod time_search;
mod view;

use crate::config::IsolationLevel;
use crate::error::{Error, Result};
use crate::log::finding::Finding;
use crate::log::producers::transactions::{self, AbortedTransaction};
use crate::log::segment::state::{LogState, Trust};
use crate::record::DECOMPRESSED_MAX;
use crate::storage::Storage;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, OnceLock, Rank, ranked_mutex};
use crate::topic::{TopicId, TopicPartition};
use std::path::PathBuf;

pub(crate) use owner::LookAgain;
use owner::StartingPoint;
use view::{AttachedSegment, AttachedView};

/// How often the folder is listed again because a file vanished, before it is an error.
const LISTINGS_MAX: usize = 16;

/// A partition that somebody else owns.
#[derive(Debug)]
pub(crate) struct AttachedLog {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    partition: TopicPartition,
    start: Mutex<StartingPoint>,
    /// A file was opened by its name since the owner was asked last.
    opened: AtomicBool,
    /// How many views of it there were.
    views: AtomicU64,
    seen: Mutex<Option<AttachedView>>,
    /// The topic's id as its folder had it when files of it were first looked at.
    topic_id: OnceLock<TopicId>,
    /// The id of the topic that what is recorded is of, where that is known.
    wanted_id: Option<TopicId>,
    look_again: Option<LookAgain>,
    uncompressed_max: usize,
}

impl AttachedLog {
    /// A reader that touches nothing yet. `state` is what the owner's state file says, `trust`
    /// how much of it holds: [`Trust::SameBoot`] beside a running owner, or after a kill.
    pub fn new(
        storage: Arc<dyn Storage>,
        folder: PathBuf,
        partition: TopicPartition,
        state: LogState,
        trust: Trust,
        (log_start_checkpoint, recovery_checkpoint): (Option<i64>, Option<i64>),
    ) -> AttachedLog {
        let start = StartingPoint { state, trust, log_start_checkpoint, recovery_checkpoint };
        let topic_id = OnceLock::new();
        let seen = ranked_mutex(Rank::AttachedLog, None);
        AttachedLog {
            storage,
            folder,
            partition,
            start: Mutex::new(start),
            opened: AtomicBool::new(false),
            views: AtomicU64::new(0),
            seen,
            topic_id,
            wanted_id: None,
            look_again: None,
            uncompressed_max: DECOMPRESSED_MAX,
        }
    }

    /// What the records of one batch may decompress to, in bytes.
    pub fn uncompressed_max(&self) -> usize {
        self.uncompressed_max
    }

    /// The same with another limit.
    pub fn with_uncompressed_max(self, uncompressed_max: usize) -> AttachedLog {
        AttachedLog { uncompressed_max, ..self }
    }

    /// What is recorded is of the topic with this id: a folder of another one, which took its
    /// place before the first look, is not that.
    pub fn of_topic(self, id: TopicId) -> AttachedLog {
        AttachedLog { wanted_id: Some(id), ..self }
    }

    /// Damage is believed only of what the owner records at present.
    pub fn with_look_again(self, look_again: LookAgain) -> AttachedLog {
        AttachedLog { look_again: Some(look_again), ..self }
    }

    /// The first offset that can be read.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn log_start_offset(&self) -> Result<i64> {
        self.with(|log, seen| {
            log.notice_retention(seen)?;
            Ok(seen.log_start_offset)
        })
    }

    /// The offset of the next record, as of this moment.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn log_end_offset(&self) -> Result<i64> {
        self.end_for(IsolationLevel::ReadUncommitted)
    }

    /// The end as a reader of this isolation sees it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn end_for(&self, isolation: IsolationLevel) -> Result<i64> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            Ok(seen.end_for(isolation))
        })
    }

    /// The epoch of the life that wrote `offset`, where that is known.
    ///
    /// # Errors
    /// Those of looking.
    pub fn leader_epoch_of(&self, offset: i64) -> Result<Option<i32>> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            Ok(seen.epochs.epoch_of(offset))
        })
    }

    /// What opening found, but for what turned out to be a batch in the making.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn findings(&self) -> Result<Vec<Finding>> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            Ok(seen.findings.clone())
        })
    }

    /// The end as a reader of this isolation sees it, of a log that is not damaged: nobody knows
    /// where a damaged one ends.
    ///
    /// # Errors
    /// The damage; [`ErrorKind::Io`].
    pub fn whole_end_for(&self, isolation: IsolationLevel) -> Result<i64> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            seen.damage.clone().map_or_else(|| Ok(seen.end_for(isolation)), Err)
        })
    }

    /// The damage at the log end, if there is any: why reading ends there.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn damage(&self) -> Result<Option<Error>> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            Ok(seen.damage.clone())
        })
    }

    /// The damage as of the last look.
    pub fn known_damage(&self) -> Option<Error> {
        self.seen.lock().as_ref().and_then(|seen| seen.damage.clone())
    }

    /// How many bytes of batches there are.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn size_bytes(&self) -> Result<u64> {
        self.with(|log, seen| {
            log.look_further(seen)?;
            Ok(seen.segments.iter().map(|segment| segment.summary.extent.size_bytes).sum())
        })
    }

    /// How many segments there are.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn segment_count(&self) -> Result<usize> {
        self.with(|_, seen| Ok(seen.segments.len()))
    }

    /// Aborted transactions that may touch offsets in `from..upto`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn aborted_transactions(&self, from: i64, upto: i64) -> Result<Vec<AbortedTransaction>> {
        self.with(|_, seen| {
            let rows = seen.segments.iter().flat_map(|segment| segment.summary.aborted.iter());
            Ok(transactions::collect_aborted(rows, from, upto))
        })
    }

    /// Runs `body` on what was seen; opens the partition first, and again where files vanished.
    fn with<T>(
        &self,
        mut body: impl FnMut(&AttachedLog, &mut AttachedView) -> Result<T>,
    ) -> Result<T>
    where
        T: Sized,
    {
        let mut guard = self.seen.lock();
        let mut listings = 0;
        loop {
            let opened = match &mut *guard {
                Some(seen) => Ok(seen),
                None => self.open().map(|seen| guard.insert(seen)),
            };
            let outcome = opened.and_then(|seen| body(self, seen));
            let again = listings < LISTINGS_MAX;
            listings += 1;
            // What was opened by its name may be what took its place.
            if again && guard.as_ref().is_some_and(|seen| self.is_replaced(seen)) {
                *guard = None;
                continue;
            }
            let vanished = match outcome {
                Err(error) if is_vanished(&error) && again => error,
                result => return result,
            };
            if let Some(seen) = &mut *guard
                && !self.list_again(seen)?
            {
                // Nothing that is known is left, or nothing is missing: look at it afresh.
                self.ask_owner();
                *guard = None;
            }
            drop(vanished);
        }
    }

    fn here(&self, error: Error) -> Error {
        error.with_partition(self.partition.topic(), self.partition.partition())
    }
}

fn is_vanished(error: &Error) -> bool {
    error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
