//! What a log shares with its broker: storage, clock, the gate of this life, counters, limits.

use std::fmt;
use std::path::PathBuf;

use crate::error::Result;
use crate::log::Log;
use crate::log::counters::LogCounters;
use crate::log::segment::mapped::MappedLimit;
use crate::probe::Probe;
use crate::storage::Storage;
use crate::sync::{Arc, Weak};
use crate::time::Clock;
use crate::topic::TopicId;

/// The surroundings that all logs of one broker share.
#[derive(Debug)]
pub(crate) struct LogEnv {
    pub storage: Arc<dyn Storage>,
    pub gate: Arc<dyn EpochGate>,
    pub counters: Arc<LogCounters>,
    /// How many sealed segments stay mapped.
    pub mapped: MappedLimit,
    /// What lies behind damage is given up, so that a damaged partition can be written again.
    pub cut_damage: bool,
    /// Seeds the jitter of rolls by time, with the partition's name and the base offset.
    pub seed: u64,
    /// What the records of one batch may decompress to, in bytes.
    pub uncompressed_max: usize,
    /// A producer that was not heard of for so long is forgotten, in milliseconds.
    pub producer_expiration_ms: i64,
    /// Where a test watches and steers.
    pub probe: Probe,
    /// Tells how long syncs take.
    pub clock: Clock,
}

/// The name of a log, and its folder.
#[derive(Debug, Clone)]
pub(crate) struct LogIdentity {
    pub topic: Arc<str>,
    pub partition: i32,
    pub topic_id: TopicId,
    /// The partition's folder, `<directory>/<topic>-<partition>`.
    pub dir: PathBuf,
}

/// The broker, as a log sees it.
pub(crate) trait EpochGate: Send + Sync + fmt::Debug {
    /// Called before the first change that this life makes to any partition's folder: removes the
    /// clean mark and takes the next incarnation, durably, once per broker. Returns the leader
    /// epoch of this life.
    ///
    /// # Errors
    /// What kept the broker from making it durable. The log is unchanged, and asks again.
    fn enter(&self) -> Result<i32>;

    /// The highest leader epoch that was durably taken, in this life or before: recovery refuses
    /// batches of our own with a higher one.
    fn epoch_max(&self) -> i32 {
        i32::MAX
    }

    /// Takes note, durably, of a leader epoch above that of this life, before batches carry it:
    /// what another program left in a partition can be higher.
    ///
    /// # Errors
    /// As [`EpochGate::enter`].
    fn raise(&self, epoch: i32) -> Result<()> {
        let _ = epoch;
        Ok(())
    }

    /// The stamp that the last close left of the files of a log.
    fn stamp_of(&self, id: &LogIdentity) -> Option<i64> {
        let _ = id;
        None
    }

    /// Takes note of the highest producer id that the reading of a log came upon: none up to it
    /// may be given to another producer.
    fn saw_producer_id(&self, id: i64) {
        let _ = id;
    }

    /// Records the state of a log, durably: called before files are removed from its front.
    /// Otherwise nobody could tell, after a power cut, whether what is missing there was lost.
    ///
    /// # Errors
    /// Those of the state file. Nothing is removed then.
    fn record(&self, log: &Log) -> Result<()>;

    /// Takes note of background work, to be done by [`BackgroundWork::run`] on a thread of the
    /// broker, or by explicit steps where there is none. Called with no lock held; must not
    /// block. The same work may be announced again before it was done.
    fn work(&self, work: BackgroundWork);
}

/// Something that a log would like to have done off the appender's thread.
#[derive(Clone)]
pub(crate) enum BackgroundWork {
    /// [`Log::prepare_step`] until it returns false. Soon: the writer takes steps of its own
    /// where it arrives first.
    Prepare(Weak<Log>),
    /// [`Log::seal_step`] until it returns false.
    Seal(Weak<Log>),
    /// [`Log::flush`] within the log's flush interval: there are records that no sync covers.
    Flush(Weak<Log>),
}

impl BackgroundWork {
    /// Does the work. [`BackgroundWork::Flush`] flushes at once: waiting is the caller's.
    ///
    /// # Errors
    /// Those of the steps. The log has taken note of a failed sync already.
    pub fn run(&self) -> Result<()> {
        match self {
            BackgroundWork::Prepare(log) => {
                let Some(log) = log.upgrade() else { return Ok(()) };
                while log.prepare_step()? {}
            }
            BackgroundWork::Seal(log) => {
                let Some(log) = log.upgrade() else { return Ok(()) };
                while log.seal_step()? {}
            }
            BackgroundWork::Flush(log) => {
                let Some(log) = log.upgrade() else { return Ok(()) };
                log.flush()?;
            }
        }
        Ok(())
    }

    /// The log that the work is for, unless it is gone.
    pub fn log(&self) -> Option<Arc<Log>> {
        match self {
            BackgroundWork::Prepare(log)
            | BackgroundWork::Seal(log)
            | BackgroundWork::Flush(log) => log.upgrade(),
        }
    }
}

impl fmt::Debug for BackgroundWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BackgroundWork::Prepare(_) => "Prepare",
            BackgroundWork::Seal(_) => "Seal",
            BackgroundWork::Flush(_) => "Flush",
        })
    }
}
