//! Reading a directory without owning it: beside its running owner, or what a killed one left.
//!
//! Nothing is locked and nothing is written. Topics come from the owner's registry, read again
//! when it changed, or from the folders of a directory that another program wrote. Who waits at
//! the end of a partition is woken by looking again at short intervals: the owner is another
//! process and rings no signal here.

use crate::broker::background::WorkQueue;
use crate::broker::core::{BrokerCore, BrokerInner, Parts};
use crate::broker::directory::adopt::Foreign;
use crate::broker::directory::life::{LastStop, page_cache_of, read_mark};
use crate::broker::directory::open::{Evidence, judge, settings_of};
use crate::broker::health::HealthLog;
use crate::broker::meta::registry::{REGISTRY_FILE, Registry, RegistryFound, TopicEntry};
use crate::broker::meta::state_file::{PartitionKey, STATE_FILE, StateFile, StateImage};
use crate::broker::options::BrokerOptions;
use crate::broker::random::Random;
use crate::broker::topics::partition::Partition;
use crate::broker::topics::{Opener, Topic};
use crate::config::{BrokerConfig, IsolationLevel};
use crate::error::{Error, ErrorKind, Result};
use crate::log::attached::{AttachedLog, LookAgain};
use crate::log::files::names::folder_name;
use crate::log::load::verify::Verification;
use crate::log::{LogState, Trust};
use crate::storage::Storage;
use crate::sync::{Arc, Mutex, Weak};
use crate::time::{Clock, Signal, TimerDriver};
use crate::topic::TopicPartition;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a partition that somebody waits at is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What an attached broker knows of its directory.
#[derive(Debug)]
pub(super) struct Attached {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    seen: Mutex<Seen>,
    uncompressed_max: usize,
    pub watches: Arc<Watches>,
}

#[derive(Debug)]
struct Seen {
    ended: LastStop,
    state: StateImage,
    log_starts: BTreeMap<TopicPartition, i64>,
    recovery_points: BTreeMap<TopicPartition, i64>,
    missing: BTreeMap<(Arc<str>, i32), Error>,
    /// Length and time of the registry when it was read; `None` where there is none.
    stamp: Option<(u64, i64)>,
    /// The same of the state file.
    state_stamp: Option<(u64, i64)>,
    foreign: bool,
}

/// A partition of an attached directory.
#[derive(Debug)]
pub(crate) struct AttachedPartition {
    pub log: AttachedLog,
    watches: Arc<Watches>,
}

/// Everybody who waits at the end of a partition.
#[derive(Debug, Default)]
pub(super) struct Watches {
    list: Mutex<Vec<Watch>>,
    pub signal: Signal,
}

/// Somebody who waits at the end of a partition.
#[derive(Debug)]
struct Watch {
    partition: Weak<AttachedPartition>,
    event: Arc<Signal>,
    beyond: i64,
    isolation: IsolationLevel,
}

impl BrokerInner {
    /// Opens a directory for reading.
    pub(super) fn attach(
        options: BrokerOptions,
        storage: Arc<dyn Storage>,
        dir: &Path,
    ) -> Result<Arc<BrokerInner>> {
        options.config.check()?;
        let failed = |e| Error::io(e, "cannot list the directory", dir);
        let dir = &storage.absolute(dir).map_err(failed)?;
        storage.list(dir).map_err(failed)?;
        let clock = options.clock.clone().unwrap_or_else(Clock::system);
        let random = Random::new(options.seed_under(&clock));
        let (seen, entries) = look(&storage, dir, &options.config, &random)?;
        let attached = Arc::new(Attached {
            storage: storage.clone(),
            dir: dir.to_owned(),
            seen: Mutex::new(seen),
            uncompressed_max: options.config.batch_uncompressed_max(),
            watches: Arc::default(),
        });
        let health = Arc::new(HealthLog::default());
        let parts = Parts {
            queue: Arc::new(WorkQueue::new(clock.clone(), health.clone(), false)),
            health,
            owner: None,
            attached: Some(attached.clone()),
            opener: attached,
            random,
            settled: true,
            probe: options.probe.clone(),
        };
        let shared = Arc::new_cyclic(|me| {
            BrokerCore::new(dir.to_owned(), options.config, storage, clock.clone(), parts, me)
        });
        shared.follow_topics(entries);
        let driver: Weak<dyn TimerDriver> = Arc::downgrade(&(shared.clone() as Arc<_>));
        clock.register(driver);
        BrokerInner::start(shared)
    }
}

/// Looks at the directory's own files, and at its folders where those say nothing.
fn look(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    config: &BrokerConfig,
    random: &Random,
) -> Result<(Seen, Vec<TopicEntry>)> {
    let stamp = registry_stamp(&**storage, dir);
    let state_stamp = file_stamp(&**storage, dir, STATE_FILE);
    let (registry, registry_found) = Registry::load(storage.clone(), dir)?;
    let (state, state_found) = StateFile::load(storage.clone(), dir)?;
    let mark = read_mark(&**storage, dir)?;
    let evidence = Evidence { registry: &registry_found, state: &state_found, mark: &mark };
    let verdict = evidence.ended(&state.image, &page_cache_of(&**storage, dir));
    let (ended, foreign) = judge(&**storage, dir, verdict, &evidence)?;
    let mut seen = Seen {
        ended,
        state: state.image,
        log_starts: BTreeMap::new(),
        recovery_points: BTreeMap::new(),
        missing: BTreeMap::new(),
        stamp,
        state_stamp,
        foreign: foreign.is_some(),
    };
    let mut entries: Vec<TopicEntry> = registry.image().topics.into_values().collect();
    if let Some(Foreign { survey, .. }) = foreign {
        let known = match registry_found {
            RegistryFound::Image(image) => image.topics,
            RegistryFound::Missing | RegistryFound::Damaged(_) => BTreeMap::new(),
        };
        entries = survey.entries(&known, config, || random.topic_id());
        for entry in &entries {
            for (number, error) in survey.missing(entry) {
                seen.missing.insert((entry.name.clone(), number), error);
            }
        }
        seen.log_starts = survey.log_starts;
        seen.recovery_points = survey.recovery_points;
    }
    Ok((seen, entries))
}

/// What changes when the registry does. One that cannot be looked at counts as missing.
fn registry_stamp(storage: &dyn Storage, dir: &Path) -> Option<(u64, i64)> {
    file_stamp(storage, dir, REGISTRY_FILE)
}

/// Length and time of a file of the owner's.
fn file_stamp(storage: &dyn Storage, dir: &Path, name: &str) -> Option<(u64, i64)> {
    let entry = storage.metadata(&dir.join(name)).ok()?;
    Some((entry.len, entry.modified_ms))
}

impl BrokerCore {
    /// Takes over what the owner did to its topics since the last look; `thorough` also where
    /// that means to list the directory.
    ///
    /// # Errors
    /// Those of reading the registry.
    pub(super) fn refresh(&self, thorough: bool) -> Result<()> {
        let Some(attached) = &self.attached else { return Ok(()) };
        let stamp = registry_stamp(&*self.storage, &self.dir);
        {
            let seen = attached.seen.lock();
            // Without a registry all folders have to be looked at, which is not for every call.
            let same = seen.stamp == stamp && (!thorough || !seen.foreign);
            if same {
                return Ok(());
            }
        }
        let (seen, entries) = look(&self.storage, &self.dir, &self.config, &self.random)?;
        *attached.seen.lock() = seen;
        self.follow_topics(entries);
        Ok(())
    }

    /// Makes the table of topics say what `entries` say.
    fn follow_topics(&self, entries: Vec<TopicEntry>) {
        let mut changed = false;
        let mut present = self.topics.all();
        for entry in entries {
            let config = settings_of(&entry, &self.health).stored(&entry.name, &self.config);
            let known = present.iter().position(|topic| *topic.name() == entry.name);
            let known = known.map(|at| present.swap_remove(at));
            match &known {
                // A topic without an id in its folders got one that was made up.
                Some(topic) if topic.id() == entry.id || entry.adopted => {
                    changed |= topic.partition_count() < entry.partitions;
                    topic.grow(entry.partitions);
                    topic.set_config(config, &self.config);
                }
                _ => {
                    changed = true;
                    if let Some(old) = &known {
                        drop(old.delete());
                    }
                    let topic = Topic::new(&entry, config, self.opener.clone());
                    self.topics.insert(Arc::new(topic));
                }
            }
        }
        for gone in present {
            changed = true;
            self.topics.remove(gone.name());
            drop(gone.delete());
        }
        if changed {
            self.topics.changed();
        }
    }
}

impl AttachedPartition {
    /// Has `event` rung once there is something beyond `beyond`; true, and nothing registered, if
    /// there is already.
    ///
    /// # Errors
    /// Those of looking; the damage of a damaged log.
    pub fn watch(
        self: &Arc<Self>,
        event: &Arc<Signal>,
        beyond: i64,
        isolation: IsolationLevel,
    ) -> Result<bool> {
        if self.log.whole_end_for(isolation)? > beyond {
            return Ok(true);
        }
        self.unwatch(event);
        let partition = Arc::downgrade(self);
        self.watches.list.lock().push(Watch { partition, event: event.clone(), beyond, isolation });
        self.watches.signal.ring();
        Ok(false)
    }

    /// Takes a registration back.
    pub fn unwatch(self: &Arc<Self>, event: &Arc<Signal>) {
        let me = Arc::as_ptr(self);
        self.watches
            .list
            .lock()
            .retain(|watch| watch.partition.as_ptr() != me || !Arc::ptr_eq(&watch.event, event));
    }
}

impl Watches {
    /// Rings who waits at a partition that went on, or that can no longer be read.
    pub fn step(&self) {
        // Looking reads files, so it is done outside the lock.
        let watches = std::mem::take(&mut *self.list.lock());
        for watch in watches {
            let end =
                watch.partition.upgrade().map(|found| found.log.whole_end_for(watch.isolation));
            match end {
                Some(Ok(end)) if end <= watch.beyond => self.list.lock().push(watch),
                _ => watch.event.ring(),
            }
        }
    }

    /// When the next look is due.
    pub fn next_look(&self, mono: Duration) -> Option<Duration> {
        let waiting = !self.list.lock().is_empty();
        waiting.then(|| mono.saturating_add(LOOK_INTERVAL))
    }
}

impl Attached {
    fn state_of(&self, topic: &Topic, partition: i32) -> (LogState, Trust) {
        let seen = self.seen.lock();
        seen.ended.recorded_of(&seen.state, &(topic.id(), partition), true)
    }

    /// Reads the state file anew for one partition, if it is another one than before.
    fn look_again(&self, key: PartitionKey) -> LookAgain {
        let (storage, dir) = (self.storage.clone(), self.dir.clone());
        let stamp = move |storage: &dyn Storage, dir: &Path| file_stamp(storage, dir, STATE_FILE);
        let last = Mutex::new(self.seen.lock().state_stamp);
        LookAgain(Box::new(move || {
            let now = stamp(&*storage, &dir);
            // The disk is not looked at under a lock of this.
            if *last.lock() == now {
                return None;
            }
            let known = known_now(&storage, &dir, &key)?;
            *last.lock() = now;
            Some(known)
        }))
    }
}

/// What the state file says of a partition at this moment; `None` where it cannot be read, or is
/// another program's by now, which the next look at the directory finds.
fn known_now(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    key: &PartitionKey,
) -> Option<(LogState, Trust)> {
    let (_, registry) = Registry::load(storage.clone(), dir).ok()?;
    let (state, state_found) = StateFile::load(storage.clone(), dir).ok()?;
    let mark = read_mark(&**storage, dir).ok()?;
    let evidence = Evidence { registry: &registry, state: &state_found, mark: &mark };
    let ended = evidence.ended(&state.image, &page_cache_of(&**storage, dir)).ok()?;
    Some(ended.recorded_of(&state.image, key, true))
}

impl Attached {
    /// Runs `body` on a partition as it lies on the disk, with what is recorded of it by now: its
    /// owner may have put a cleaned segment in the place of others.
    fn on_disk<T>(
        &self,
        topic: &Topic,
        partition: i32,
        body: impl FnOnce(Verification<'_>) -> Result<T>,
    ) -> Result<T> {
        let known = known_now(&self.storage, &self.dir, &(topic.id(), partition));
        let (state, trust) = known.unwrap_or_else(|| self.state_of(topic, partition));
        let place = TopicPartition::new(topic.name().clone(), partition);
        let (start, recovery) = {
            let seen = self.seen.lock();
            (seen.log_starts.get(&place).copied(), seen.recovery_points.get(&place).copied())
        };
        body(Verification {
            storage: &*self.storage,
            folder: self.dir.join(folder_name(topic.name(), partition)),
            partition: &place,
            state: &state,
            trust,
            log_start_checkpoint: start,
            recovery_checkpoint: recovery,
            uncompressed_max: self.uncompressed_max,
        })
    }
}

impl BrokerInner {
    /// Runs `body` on a partition of an attached directory that has a folder.
    ///
    /// # Errors
    /// `IllegalState` in a broker that owns its directory, `UnknownTopicOrPartition`, the error
    /// of a folder that is missing, and those of `body`.
    pub fn verify<T>(
        &self,
        topic: &str,
        partition: i32,
        body: impl FnOnce(Verification<'_>) -> Result<T>,
    ) -> Result<T> {
        let Some(attached) = &self.attached else {
            let advice = "an owner changes its files all the time: attach to the directory";
            return Err(Error::new(ErrorKind::IllegalState, advice));
        };
        let topic = self.topic(topic)?;
        if let Partition::Missing(error) = topic.partition(partition)? {
            return Err(error);
        }
        attached.on_disk(&topic, partition, body)
    }
}

impl Opener for Attached {
    fn open(&self, topic: &Topic, partition: i32) -> Result<Partition> {
        let place = TopicPartition::new(topic.name().clone(), partition);
        let (state, trust) = self.state_of(topic, partition);
        let look_again = self.look_again((topic.id(), partition));
        let seen = self.seen.lock();
        let folder = self.dir.join(folder_name(topic.name(), partition));
        if let Some(error) = seen.missing.get(&(topic.name().clone(), partition)) {
            return Ok(Partition::Missing(error.clone().with_path(folder)));
        }
        let checkpoints =
            (seen.log_starts.get(&place).copied(), seen.recovery_points.get(&place).copied());
        let log = AttachedLog::new(self.storage.clone(), folder, place, state, trust, checkpoints)
            .with_look_again(look_again)
            .with_uncompressed_max(self.uncompressed_max);
        // Of another program's topics the id may be made up.
        let log = if trust == Trust::Foreign { log } else { log.of_topic(topic.id()) };
        let watches = self.watches.clone();
        Ok(Partition::Attached(Arc::new(AttachedPartition { log, watches })))
    }
}
