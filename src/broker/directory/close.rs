//! Ending a life: every log is closed, what Kafka expects of a directory that was stopped in good
//! order is written, and only then the directory is claimed to be clean.

use crate::broker::background::steps::key_of;
use crate::broker::core::{BrokerCore, Owner};
use crate::broker::directory::life::{CLEAN_MARK, DirectoryLife, LastStop, read_mark};
use crate::broker::meta::state_file::{CleanEnd, PartitionKey};
use crate::broker::topics::partition::Partition;
use crate::error::{Error, ErrorKind, Result};
use crate::log::files::checkpoint::{
    CLEANER_CHECKPOINT, HIGH_WATERMARK_CHECKPOINT, LOG_START_CHECKPOINT, RECOVERY_POINT_CHECKPOINT,
    replace_file, write_offsets,
};
use crate::log::files::partition_metadata::{META_PROPERTIES, MetaProperties};
use crate::log::{EpochGate, FolderStamp, Log, LogState};
use crate::storage::Storage;
use crate::sync::thread::spawn_named;
use crate::sync::{Arc, Ordering};
use crate::topic::TopicPartition;
use std::collections::BTreeMap;
use std::path::Path;

/// How many threads close logs: they wait for syncs most of the time, and a file system that
/// keeps a journal serves all who wait by one commit of it.
const CLOSERS_MAX: usize = 32;
/// Fewer logs than this are not worth a thread.
const CLOSE_SHARE_MIN: usize = 8;
/// From so many logs on one call writes everything back before the first sync. Each sync of a file
/// that is not on the disk waits for a commit of the file system's journal, and after that call it
/// finds nothing to write. The call waits for what other programs wrote to the file system, too, so
/// it is no gain for a few.
const WRITE_BACK_LOGS_MIN: usize = 64;

/// No file system's clock goes by longer ticks than this: what changed more recently could change
/// once more, and bear the same time.
const TICK_MS_MAX: i64 = 20;

/// What closing the logs gave.
struct Closed {
    states: Vec<(PartitionKey, LogState)>,
    /// Kafka may take every partition as one that was closed.
    presentable: bool,
    /// The logs that this life had, as far as they are whole.
    whole: Vec<Arc<Log>>,
    /// The others.
    damaged: Vec<Arc<Log>>,
}

impl BrokerCore {
    /// Makes every record durable.
    ///
    /// # Durability
    /// Everything appended before the call survives power loss.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFailed`](crate::ErrorKind::StorageFailed) of the first partition whose
    /// sync failed; the others are flushed all the same.
    pub fn flush(&self) -> Result<()> {
        let owner = self.owner()?;
        // What a process that died appended is not known to be synced, wherever it is.
        let sweep = owner.life.ended().is_unclean() && !self.swept.load(Ordering::Acquire);
        let mut outcome = Ok(());
        for topic in self.topics.all() {
            for number in 0..topic.partition_count() {
                if !sweep && !topic.is_opened(number) {
                    continue;
                }
                let Ok(Partition::Live(log)) = topic.partition(number) else { continue };
                outcome = outcome.and(log.flush());
            }
        }
        self.swept.fetch_or(sweep && outcome.is_ok(), Ordering::AcqRel);
        outcome
    }

    /// Ends the life of the directory, unless it has none that has to be ended. `settled` is what
    /// became of [`BrokerCore::settle_before_close`].
    ///
    /// # Errors
    /// The first one. Whatever happens, every log refuses everything afterwards; a clean stop is
    /// claimed only when all of them were closed.
    pub(in crate::broker) fn close_directory(&self, settled: Result<()>) -> Result<()> {
        let Some(owner) = &self.owner else { return Ok(()) };
        self.queue.run_calls();
        self.finish_deletions(owner)?;
        if let Err(error) = settled {
            owner.life.shut();
            return Err(error);
        }
        if owner.life.incarnation().is_none() {
            match owner.life.ended() {
                // Nothing was appended and nothing is to be repaired.
                LastStop::Never | LastStop::Clean => {
                    owner.life.shut();
                    return Ok(());
                }
                LastStop::Foreign { .. } => {
                    owner.life.shut();
                    let mark = read_mark(&*self.storage, &self.dir)?;
                    return owner.life.keep_adopted(mark);
                }
                // What a crash left is put in order, which is a change like others.
                LastStop::SameBoot | LastStop::OtherBoot => owner.life.enter().map(drop)?,
            }
        }
        let closed = self.close_logs(owner);
        owner.life.shut();
        let closed = closed?;
        let mut states = owner.life.recorded();
        states.extend(closed.states.iter().map(|(key, state)| (*key, Arc::new(state.clone()))));
        self.write_kafka_files(&states)?;
        let mark = match closed.presentable {
            true => Some(self.write_mark(owner)?),
            false => None,
        };
        let unfinished = self.unfinished_transactions(owner.life.left_unfinished());
        owner.life.end(closed.states, CleanEnd { mark, unfinished })?;
        self.stamp(owner, closed.whole, &closed.damaged);
        Ok(())
    }

    /// Leaves the stamps of the logs that were closed, for who asks the next life for their ends.
    /// Those that nobody looked at keep theirs.
    fn stamp(&self, owner: &Owner, whole: Vec<Arc<Log>>, damaged: &[Arc<Log>]) {
        let now_ms = self.clock.coarse_wall_ms();
        let mut stamps = owner.life.stamps().clone();
        stamps.retain(|partition, _| self.topics.get(partition.topic()).is_ok());
        let partition_of = |log: &Log| {
            let id = log.identity();
            TopicPartition::new(id.topic.clone(), id.partition)
        };
        for log in damaged {
            stamps.remove(&partition_of(log));
        }
        let opened: Vec<_> = whole.into_iter().filter(|log| log.is_opened()).collect();
        let found = self.on_closers(&opened, Log::folder_stamp);
        for (log, stamp) in opened.iter().zip(found) {
            let settled = |stamp: &FolderStamp| stamp.changed_ms + TICK_MS_MAX < now_ms;
            match stamp.flatten().filter(settled) {
                Some(stamp) => stamps.insert(partition_of(log), stamp.value),
                None => stamps.remove(&partition_of(log)),
            };
        }
        owner.life.keep_stamps(&stamps);
    }

    /// Makes what groups stored durable.
    ///
    /// # Errors
    /// As [`BrokerCore::flush`].
    pub(in crate::broker) fn flush_offsets(&self) -> Result<()> {
        let Ok(topic) = self.topics.get(crate::topic::OFFSETS_TOPIC) else { return Ok(()) };
        for (_, partition) in topic.opened() {
            if let Ok(log) = partition.log() {
                log.flush()?;
            }
        }
        Ok(())
    }

    fn close_logs(&self, owner: &Owner) -> Result<Closed> {
        let ended = owner.life.ended();
        let (whole, found_damaged) = (Vec::new(), Vec::new());
        let mut closed =
            Closed { states: Vec::new(), presentable: true, whole, damaged: found_damaged };
        if let LastStop::Foreign { clean: false } = ended {
            // Partitions that nobody appended to are as another program's crash left them.
            closed.presentable = false;
        }
        if owner.life.left_unmarked() {
            closed.presentable = false;
        }
        let mut logs = Vec::new();
        for topic in self.topics.all() {
            for number in 0..topic.partition_count() {
                if !topic.is_opened(number) && !ended.is_unclean() {
                    continue;
                }
                if let Ok(Partition::Live(log)) = topic.partition(number) {
                    logs.push(log);
                }
            }
        }
        let mut outcome = Ok(());
        let recorded = owner.life.recorded();
        for (log, result) in self.close_all(logs) {
            match result {
                Ok((state, damaged)) => {
                    if damaged && !matches!(ended, LastStop::Foreign { .. }) {
                        closed.presentable = false;
                    }
                    // Of damage that nothing was recorded before, the next life has to be told;
                    // and that nothing is left of what was recorded, where that was given up.
                    let is_told = state.suspect
                        || state.log_end_offset > 0
                        || recorded.contains_key(&key_of(&log));
                    if is_told || !state.segments.is_empty() {
                        let settled = state.settled || !state.suspect;
                        closed.states.push((key_of(&log), LogState { settled, ..state }));
                    }
                    if damaged { &mut closed.damaged } else { &mut closed.whole }.push(log);
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome.map(|()| closed)
    }

    /// Closes logs, several at a time where time is real: most of it is waiting for syncs, which
    /// file systems serve together.
    fn close_all(&self, logs: Vec<Arc<Log>>) -> Vec<(Arc<Log>, Outcome)> {
        let is_damaged =
            |log: &Log| log.refusal().is_some_and(|error| error.kind() == ErrorKind::ReadOnly);
        let damaged: Vec<bool> = logs.iter().map(|log| is_damaged(log)).collect();
        self.on_closers(&logs, Log::begin_close);
        if logs.len() >= WRITE_BACK_LOGS_MIN {
            self.storage.write_back(&self.dir);
        }
        Log::sync_parents(&logs);
        let closed = self.on_closers(&logs, Log::close);
        let outcomes = closed.into_iter().zip(damaged).map(|(closed, damaged)| {
            closed.unwrap_or_else(|| Err(panicked())).map(|state| (state, damaged))
        });
        logs.into_iter().zip(outcomes).collect()
    }

    /// Runs `work` on each log, on several threads where time is real. `None` where it panicked.
    fn on_closers<T: Send + 'static>(
        &self,
        logs: &[Arc<Log>],
        work: fn(&Log) -> T,
    ) -> Vec<Option<T>> {
        let share = match self.clock.is_virtual() {
            true => logs.len(),
            false => logs.len().div_ceil(CLOSERS_MAX).max(CLOSE_SHARE_MIN),
        };
        let on_each = move |logs: &[Arc<Log>]| -> Vec<Option<T>> {
            logs.iter().map(|log| Some(work(log))).collect()
        };
        let mut shares = logs.chunks(share.max(1));
        let own = shares.next().unwrap_or_default();
        let closers: Vec<_> = shares
            .map(|share| {
                let shared = share.to_vec();
                (share, spawn_named("log-closer", move || on_each(&shared)))
            })
            .collect();
        let mut out = on_each(own);
        for (share, closer) in closers {
            match closer.map(|closer| closer.join()) {
                Ok(Ok(done)) => out.extend(done),
                Ok(Err(_)) => out.extend(share.iter().map(|_| None)),
                // Without another thread this one does it.
                Err(_) => out.extend(on_each(share)),
            }
        }
        out
    }

    /// The files that Kafka expects in a log directory.
    fn write_kafka_files(&self, states: &BTreeMap<PartitionKey, Arc<LogState>>) -> Result<()> {
        let (mut recovery, mut high, mut starts) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for topic in self.topics.all() {
            for number in 0..topic.partition_count() {
                let partition = TopicPartition::new(topic.name().clone(), number);
                let state = states.get(&(topic.id(), number));
                let offset = |of: fn(&LogState) -> i64| state.map_or(0, |state| of(state));
                let synced = |state: &LogState| state.recovery_point.min(state.log_end_offset);
                recovery.insert(partition.clone(), offset(synced));
                high.insert(partition.clone(), offset(|state| state.log_end_offset));
                // Implied by the first file's name where it is not above that.
                let start = offset(|state| state.log_start_offset);
                let first = state.and_then(|state| state.segments.first());
                if first.is_some_and(|first| start > first.extent.base_offset) {
                    starts.insert(partition, start);
                }
            }
        }
        let storage = &*self.storage;
        write_offsets(storage, &self.dir.join(RECOVERY_POINT_CHECKPOINT), &recovery)?;
        write_offsets(storage, &self.dir.join(HIGH_WATERMARK_CHECKPOINT), &high)?;
        write_offsets(storage, &self.dir.join(LOG_START_CHECKPOINT), &starts)?;
        let cleaner = self.dir.join(CLEANER_CHECKPOINT);
        if !exists(storage, &cleaner)? {
            write_offsets(storage, &cleaner, &BTreeMap::new())?;
        }
        self.write_meta_properties()
    }

    fn write_meta_properties(&self) -> Result<()> {
        let path = self.dir.join(META_PROPERTIES);
        if exists(&*self.storage, &path)? {
            return Ok(());
        }
        let meta = MetaProperties {
            cluster_id: self.random.topic_id().to_string(),
            node_id: 1,
            directory_id: Some(self.random.topic_id()),
        };
        replace_file(&*self.storage, &path, meta.to_text().as_bytes())
    }

    /// Claims the clean stop for Kafka's eyes. Zeros are cut off by now: Kafka does not start over
    /// them where it finds this mark.
    fn write_mark(&self, owner: &Owner) -> Result<String> {
        let text = DirectoryLife::mark_of(owner.life.incarnation().unwrap_or(0));
        replace_file(&*self.storage, &self.dir.join(CLEAN_MARK), text.as_bytes())?;
        Ok(text)
    }

    /// Frees the lock.
    pub(in crate::broker) fn release(&self) {
        self.timers.clear();
        if let Some(owner) = &self.owner {
            owner.ownership.lock.release();
        }
    }

    /// Ends without a close: nothing is written, nothing is claimed.
    pub(in crate::broker) fn abandon(&self) {
        if let Some(owner) = &self.owner {
            owner.life.shut();
        }
        self.release();
    }
}

/// The state of a closed log, and whether it was damaged.
type Outcome = Result<(LogState, bool)>;

fn panicked() -> Error {
    Error::new(ErrorKind::IllegalState, "a thread that closed logs panicked")
}

fn exists(storage: &dyn Storage, path: &Path) -> Result<bool> {
    storage.exists(path).map_err(|e| Error::io(e, "cannot look for", path))
}
