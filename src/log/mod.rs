//! One partition: its segments, its borders, and everything that happens to them.
//!
//! [`Log`] is made without touching the disk; its folder is opened at the first use that needs
//! it, and appears at the first append. Appends and everything that waits for them lie under one
//! lock, `writer`; reads take none, but for a look at its index now and then, if it is free.
//! Slow work (opening, sealing, retention, closing) is one at a time under `upkeep`, and no lock
//! that an appender needs is held across a sync.
//! Order of locks, as `sync::Rank` asserts it: upkeep, what was synced, growth ahead of the writer,
//! writer, segments, a segment's inner state.

mod append;
pub(crate) mod attached;
mod border;
mod counters;
mod env;
pub(crate) mod files;
pub(crate) mod finding;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod group_commit;
pub(crate) mod index;
mod lifecycle;
pub(crate) mod load;
mod phase;
mod probed;
pub(crate) mod producers;
mod read;
pub(crate) mod scan;
pub(crate) mod segment;
mod segments;
mod upkeep;
mod watch;

pub(crate) use crate::log::append::{AppendOptions, Appended};
pub(crate) use crate::log::lifecycle::stamp::FolderStamp;
pub use crate::log::load::verify::PlannedRepair;
pub(crate) use crate::log::producers::Marker;
pub(crate) use crate::log::producers::entry::{NEXT_SEQUENCE, ProducerStamp};
pub(crate) use crate::log::producers::transactions::AbortedTransaction;
pub(crate) use crate::log::read::cursor::{Chunk, Cursor};
pub(crate) use crate::log::read::plain::{FetchLimits, PlainPrefix};
pub(crate) use crate::log::segment::mapped::MappedLimit;
pub(crate) use crate::log::segment::state::{LogState, Trust};
pub(crate) use crate::log::segment::times::TimestampAndOffset;
pub(crate) use crate::log::upkeep::cleaner::{
    CleanedLog, CleanerConfig, Cleaning, CleaningScope, LogToClean,
};
pub(crate) use crate::log::upkeep::retention::Retained;
pub(crate) use counters::LogCounters;
pub(crate) use env::{BackgroundWork, EpochGate, LogEnv, LogIdentity};
pub use finding::{Finding, FindingKind};
pub(crate) use watch::{ReadyList, Watcher};

use crate::log::append::validator::AppendRules;
use crate::log::files::leader_epochs::EpochChain;
use crate::log::lifecycle::open::Upkeep;
use crate::log::producers::ProducerStates;
use crate::log::segment::active::Active;
use border::Border;
use group_commit::GroupCommit;
use phase::{Knowledge, KnowledgeView, Phase};
use segments::Segments;
use watch::WatchList;

use crate::config::{IsolationLevel, LogConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::meter::PartitionMeter;
use crate::storage::File;
use crate::storage::planted::{Planted, planted};
use crate::sync::{Arc, Mutex, MutexGuard, OnceLock, Rank, Weak, ranked_mutex};
use crate::time::Signal;

/// The kind of what a deleted topic's log answers.
const DELETED: ErrorKind = ErrorKind::UnknownTopicOrPartition;

/// No open transaction.
const NO_OPEN_TRANSACTION: i64 = i64::MAX;

/// One partition.
#[derive(Debug)]
pub(crate) struct Log {
    env: Arc<LogEnv>,
    id: LogIdentity,
    me: Weak<Log>,
    borders: Borders,
    commit: GroupCommit,
    writer: Mutex<Writer>,
    segments: Segments,
    upkeep: Mutex<Upkeep>,
    /// Held while the active segment's file grows ahead of its writer.
    growing: Mutex<()>,
    /// Why the log ends before records that were in it, as opening found.
    damage: OnceLock<Box<LogDamage>>,
    /// Whether its files are those that a close left, as found before the folder was opened.
    as_closed: OnceLock<bool>,
    /// What the last sync of this life covered.
    synced: Mutex<Option<crate::log::lifecycle::close::Synced>>,
    meter: PartitionMeter,
}

/// The borders that readers look at without a lock.
#[derive(Debug)]
struct Borders {
    /// Whether the borders below hold, and whether the segments are listed: the phase's.
    knowledge: KnowledgeView,
    start: Border,
    /// Moves after the bytes were published.
    end: Border,
    /// The first offset of the earliest open transaction, or [`NO_OPEN_TRANSACTION`].
    first_unstable_offset: Border,
}

/// The damage of a log.
#[derive(Debug)]
struct LogDamage {
    /// What a read at the log's end, or behind it, is answered.
    error: Error,
    /// What the state file keeps: what was known before, so that each later life finds the same.
    known_before: LogState,
}

/// The state of a log that its appends share, under the partition's lock.
#[derive(Debug)]
struct Writer {
    phase: Phase,
    /// In the phase [`Phase::Writable`] alone.
    active: Option<Active>,
    /// The next offset; `Borders::end` follows it.
    next_offset: i64,
    /// The leader epoch of this life; -1 before its first change.
    leader_epoch: i32,
    /// Another program's bytes wait to be set aside, by the first change.
    suspect: bool,
    rules: AppendRules,
    config: LogConfig,
    watchers: WatchList,
    /// There are bytes that no flush was announced for.
    dirty: bool,
    names: UnsyncedNames,
    /// Where the last batch begins in the active segment, if one was appended there.
    last_position: Option<usize>,
    /// The last batch of the segments before.
    last_batch: Option<crate::log::segment::state::LastBatch>,
    epochs: EpochChain,
    producers: ProducerStates,
    /// The snapshot of the producers that a close left behind the last batch of that time.
    end_snapshot: Option<crate::log::segment::state::EndSnapshot>,
}

/// Names that a flush has to make durable before it may move the recovery point.
#[derive(Debug, Default)]
struct UnsyncedNames {
    /// Small files of a new folder.
    files: Vec<Arc<dyn File>>,
    /// The partition's folder has entries that no sync covers.
    folder: bool,
    /// The folder itself is such an entry.
    parent: bool,
}

impl Log {
    /// A log that touches nothing yet. `state` is what is known of it, `trust` how much of that
    /// may be believed.
    pub fn new(
        env: Arc<LogEnv>,
        id: LogIdentity,
        config: LogConfig,
        state: LogState,
        trust: Trust,
    ) -> Arc<Log> {
        let knowledge = match trust {
            Trust::New | Trust::Clean => Knowledge::Borders,
            Trust::SameBoot | Trust::OtherBoot | Trust::Foreign => Knowledge::Nothing,
        };
        let first_unstable_offset =
            state.open_transactions.iter().map(|open| open.first_offset).min();
        let meter = PartitionMeter::new(&id.topic, id.partition);
        let rules = AppendRules::new(&id.topic, &config);
        Arc::new_cyclic(|me| Log {
            meter,
            env,
            id,
            me: me.clone(),
            borders: Borders {
                knowledge: KnowledgeView::new(knowledge),
                start: Border::new(state.log_start_offset),
                end: Border::new(state.log_end_offset),
                first_unstable_offset: Border::new(
                    first_unstable_offset.unwrap_or(NO_OPEN_TRANSACTION),
                ),
            },
            commit: GroupCommit::new(state.recovery_point),
            writer: ranked_mutex(
                Rank::LogWriter,
                Writer {
                    phase: Phase::Recorded(knowledge),
                    active: None,
                    next_offset: state.log_end_offset,
                    leader_epoch: -1,
                    suspect: false,
                    rules,
                    config,
                    watchers: WatchList::default(),
                    dirty: false,
                    names: UnsyncedNames::default(),
                    last_position: None,
                    last_batch: state.last_batch,
                    epochs: EpochChain::from_starts(&state.epochs),
                    producers: ProducerStates::resume(
                        &state.open_transactions,
                        state.transactional,
                        state.producers,
                    ),
                    end_snapshot: state.end_snapshot,
                },
            ),
            segments: Segments::new(),
            upkeep: ranked_mutex(Rank::LogUpkeep, Upkeep::new(state, trust)),
            growing: ranked_mutex(Rank::LogGrowing, ()),
            damage: OnceLock::new(),
            as_closed: OnceLock::new(),
            synced: ranked_mutex(Rank::LogSynced, None),
        })
    }

    /// The topic and the partition, and where they live.
    pub fn identity(&self) -> &LogIdentity {
        &self.id
    }

    /// The first offset that can be read.
    ///
    /// # Errors
    /// Those of opening the folder, where the borders are not known without.
    pub fn log_start_offset(&self) -> Result<i64> {
        Ok(self.known()?.start.load())
    }

    /// The offset of the next record.
    ///
    /// # Errors
    /// As [`Log::log_start_offset`].
    pub fn log_end_offset(&self) -> Result<i64> {
        Ok(self.known()?.end.load())
    }

    /// The border that read_committed readers stop at.
    ///
    /// # Errors
    /// As [`Log::log_start_offset`].
    pub fn last_stable_offset(&self) -> Result<i64> {
        let borders = self.known()?;
        let end = borders.end.load();
        Ok(borders.stable(end))
    }

    /// The epoch of the life that wrote `offset`, where that is known. Opens the folder.
    ///
    /// # Errors
    /// Those of opening the folder.
    pub fn leader_epoch_of(&self, offset: i64) -> Result<Option<i32>> {
        self.opened()?;
        Ok(self.writer.lock().epochs.epoch_of(offset))
    }

    /// Everything below it is known to have been synced.
    ///
    /// # Errors
    /// As [`Log::log_start_offset`].
    pub fn recovery_point(&self) -> Result<i64> {
        self.known()?;
        Ok(self.commit.durable())
    }

    /// The end as a reader of this isolation sees it.
    ///
    /// # Errors
    /// As [`Log::log_start_offset`].
    #[inline]
    pub fn end_for(&self, isolation: IsolationLevel) -> Result<i64> {
        match isolation {
            IsolationLevel::ReadUncommitted => self.log_end_offset(),
            IsolationLevel::ReadCommitted => self.last_stable_offset(),
        }
    }

    /// Why the log ends before records that were in it, if it is damaged. Opens the folder, unless
    /// nobody was in it since a close left it whole.
    ///
    /// # Errors
    /// Those of opening the folder.
    pub fn damage(&self) -> Result<Option<Error>> {
        if !self.is_opened() && self.stands_as_closed() {
            return Ok(None);
        }
        self.opened()?;
        Ok(self.known_damage())
    }

    /// What the records of one batch may decompress to, in bytes.
    pub fn uncompressed_max(&self) -> usize {
        self.env.uncompressed_max
    }

    /// The damage, where the folder was opened.
    pub fn known_damage(&self) -> Option<Error> {
        self.damage.get().map(|damage| damage.error.clone())
    }

    /// Registers `watcher` to be told of the next append, whatever it appends, and of whatever else
    /// moves a border; a registration is spent by that. Returns whether a reader at `beyond` has
    /// something to hear of already, more to read or that its place is gone: then nothing is
    /// registered.
    ///
    /// # Errors
    /// As [`Log::log_start_offset`].
    pub fn watch(
        &self,
        watcher: impl Into<Watcher>,
        beyond: i64,
        isolation: IsolationLevel,
    ) -> Result<bool> {
        let borders = self.known()?;
        let moved = || {
            self.end_for(isolation).map(|end| {
                end > beyond || borders.end.load() < beyond || beyond < borders.start.load()
            })
        };
        let lost = planted(Planted::LostWakeUp);
        if lost && moved()? {
            return Ok(true);
        }
        let mut writer = self.writer.lock();
        if !lost && moved()? {
            return Ok(true);
        }
        if let Phase::Closed(refusal, _) = &writer.phase {
            return Err(refusal.clone());
        }
        writer.watchers.add(watcher.into());
        Ok(false)
    }

    /// Tells whoever waits that a border moved without an append.
    fn wake_watchers(&self) {
        let woken = self.writer.lock().watchers.take();
        woken.ring();
    }

    /// Takes the registration of `signal` back, if it was not spent.
    pub fn unwatch(&self, signal: &Arc<Signal>) {
        self.writer.lock().watchers.remove(signal);
    }

    /// Takes over altered settings, from the next append and the next upkeep on.
    pub fn apply_config(&self, config: LogConfig) {
        let mut writer = self.writer.lock();
        writer.rules = AppendRules::new(&self.id.topic, &config);
        let limits =
            |log: &Log, base| crate::log::segment::active::Limits::new(&config, log.jitter(base));
        if let Some(active) = &mut writer.active {
            active.set_limits(limits(self, active.segment.base_offset));
        }
        writer.config = config;
    }

    /// How many bytes of batches there are.
    ///
    /// # Errors
    /// As [`Log::log_start_offset`].
    pub fn size_bytes(&self) -> Result<u64> {
        self.opened()?;
        let extents = self.last_extent();
        Ok(self.segments.all().iter().map(|segment| extents.of(segment).size_bytes).sum())
    }

    /// How many segments there are.
    ///
    /// # Errors
    /// As [`Log::log_start_offset`].
    pub fn segment_count(&self) -> Result<usize> {
        self.opened()?;
        Ok(self.segments.len())
    }

    /// The borders, once they hold.
    #[inline]
    fn known(&self) -> Result<&Borders> {
        if !self.borders.knowledge.reaches(Knowledge::Borders) {
            self.open()?;
        }
        Ok(&self.borders)
    }

    /// The borders, once the segments are listed.
    #[inline]
    fn opened(&self) -> Result<&Borders> {
        if !self.is_opened() {
            self.open()?;
        }
        Ok(&self.borders)
    }

    /// What the writer knows, once the partition is opened and its producers are known.
    fn known_writer(&self) -> Result<MutexGuard<'_, Writer>> {
        self.opened()?;
        let writer = self.writer.lock();
        if writer.producers.is_known() {
            return Ok(writer);
        }
        drop(writer);
        let mut upkeep = self.upkeep.lock();
        self.learn_producers(&mut upkeep)?;
        Ok(self.writer.lock())
    }

    /// Names the partition in an error.
    fn at_home(&self, error: Error) -> Error {
        error.with_partition(self.id.topic.to_string(), self.id.partition)
    }

    /// A random number that belongs to one segment of this partition.
    fn jitter(&self, base_offset: i64) -> u64 {
        // FNV-1a over what names the segment: a jitter needs spread, not secrecy.
        let mut hash = 0xcbf2_9ce4_8422_2325 ^ self.env.seed;
        let partition = self.id.partition.to_be_bytes();
        let base = base_offset.to_be_bytes();
        for byte in self.id.topic.bytes().chain(partition).chain(base) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash ^ hash >> 32
    }
}

impl Borders {
    #[inline]
    fn stable(&self, end: i64) -> i64 {
        let first_unstable_offset = self.first_unstable_offset.load();
        if first_unstable_offset == NO_OPEN_TRANSACTION {
            return end;
        }
        end.min(first_unstable_offset.max(self.start.load()))
    }
}
#[cfg(test)]
#[cfg(loom)]
mod models;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
