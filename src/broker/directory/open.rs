//! Opening a directory: who owns it, how its last life ended, which topics there are. Nothing is
//! written but the lock file, and no partition's folder is touched.

use crate::broker::background::WorkQueue;
use crate::broker::core::{BrokerCore, BrokerInner, Owner, Parts};
use crate::broker::directory::adopt::Foreign;
use crate::broker::directory::folders::Survey;
use crate::broker::directory::life::{DirectoryLife, LastStop, is_ours, page_cache_of, read_mark};
use crate::broker::directory::ownership::Ownership;
use crate::broker::health::HealthLog;
use crate::broker::meta::producer_ids::ProducerIds;
use crate::broker::meta::registry::{Registry, RegistryFound, RegistryImage, TopicEntry};
use crate::broker::meta::state_file::{PartitionKey, StateFile, StateFound, StateImage};
use crate::broker::options::BrokerOptions;
use crate::broker::random::Random;
use crate::broker::topics::deletion::Deletions;
use crate::broker::topics::partition::Partition;
use crate::broker::topics::{Opener, Topic};
use crate::config::{BrokerConfig, TopicConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::log::files::names::folder_name;
use crate::log::{Log, LogCounters, LogEnv, LogIdentity, MappedLimit};
use crate::storage::owned::{DirectoryLock, Owned};
use crate::storage::{HeldElsewhere, Lock, Storage};
use crate::sync::{Arc, Rank, Weak, ranked_mutex};
use crate::time::{Clock, TimerDriver};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The lock file (Kafka's name).
pub(in crate::broker) const LOCK_FILE: &str = ".lock";

impl BrokerInner {
    /// Opens a directory for reading and writing.
    pub(in crate::broker) fn open(
        options: BrokerOptions,
        storage: Arc<dyn Storage>,
        dir: &Path,
    ) -> Result<Arc<BrokerInner>> {
        options.config.check()?;
        let clock = options.clock.clone().unwrap_or_else(Clock::system);
        let seed = options.seed_under(&clock);
        let dir = &make_directory(&*storage, dir)?;
        let lock = Arc::new(DirectoryLock::new(take_lock(&*storage, dir)?));
        let storage: Arc<dyn Storage> = Arc::new(Owned::new(storage, lock.clone()));
        let health = Arc::new(HealthLog::default());
        let cleans = options.config.cleaner_enabled();
        let queue = Arc::new(WorkQueue::new(clock.clone(), health.clone(), cleans));
        let (registry, registry_found) = Registry::load(storage.clone(), dir)?;
        let registry = Arc::new(registry);
        let (state, state_found) = StateFile::load(storage.clone(), dir)?;
        let mark = read_mark(&*storage, dir)?;
        let evidence = Evidence { registry: &registry_found, state: &state_found, mark: &mark };
        let mut verdict = evidence.ended(&state.image, &page_cache_of(&*storage, dir));
        if let (Ok(_), RegistryFound::Image(image)) = (&verdict, &registry_found)
            && registry.is_torn()
            && let Some(why) = lost_change(&*storage, dir, image)?
        {
            verdict = Err(why);
        }
        let (ended, foreign) = judge(&*storage, dir, verdict, &evidence)?;
        // Another life of a seeded broker draws other numbers.
        let lives = state.image.highest_epoch.saturating_add(1).unsigned_abs();
        let random = Random::new(seed).skip(u64::from(lives));
        let producer_ids = Arc::new(ProducerIds::new(registry.clone()));
        let mut life = DirectoryLife::new(
            storage.clone(),
            dir,
            state,
            ended,
            registry.clone(),
            producer_ids.clone(),
            queue.clone(),
        );
        if options.cut_damage {
            life.give_records_up();
        }
        let life = Arc::new(life);
        let missing = match &foreign {
            Some(foreign) => {
                foreign.take_over(&registry, &registry_found, &options.config, &random)
            }
            None => BTreeMap::new(),
        };
        let env = Arc::new(LogEnv {
            storage: storage.clone(),
            gate: life.clone(),
            counters: Arc::new(LogCounters::default()),
            mapped: options.mapped_segments_max.map_or_else(MappedLimit::default, MappedLimit::new),
            cut_damage: options.cut_damage,
            seed,
            producer_expiration_ms: options.config.producer_expiration_ms(),
            uncompressed_max: options.config.batch_uncompressed_max(),
            probe: options.probe.clone(),
            clock: clock.clone(),
        });
        let opener = Arc::new(LiveOpener {
            env: env.clone(),
            life: life.clone(),
            dir: dir.to_owned(),
            config: options.config.clone(),
            missing,
        });
        let image = registry.image();
        let changes = ranked_mutex(Rank::TopicChanges, Deletions::new(storage.clone(), dir));
        let ownership = Ownership::new(lock, &options.config);
        let owner = Owner { env, life, registry, producer_ids, changes, ownership };
        // Where a log gives records up, a group may have committed beyond its end.
        let settled = !ended.is_unclean() && !options.cut_damage;
        let owner = Some(owner);
        let probe = options.probe.clone();
        let parts = Parts { health, queue, owner, attached: None, opener, random, settled, probe };
        let shared = Arc::new_cyclic(|me| {
            BrokerCore::new(dir.to_owned(), options.config, storage, clock.clone(), parts, me)
        });
        shared.take_topics(&image);
        if let Some(foreign) = foreign {
            shared.adopt(&foreign, options.progress.as_ref())?;
        }
        let driver: Weak<dyn TimerDriver> = Arc::downgrade(&(shared.clone() as Arc<_>));
        clock.register(driver);
        BrokerInner::start(shared)
    }
}

/// How the last life ended, and what a directory that is not ours holds. One without a trace of a
/// partition is new, whatever else lies in it.
pub(in crate::broker) fn judge(
    storage: &dyn Storage,
    dir: &Path,
    verdict: Result<LastStop, String>,
    evidence: &Evidence<'_>,
) -> Result<(LastStop, Option<Foreign>)> {
    let reason = match verdict {
        Ok(ended) => return Ok((ended, None)),
        Err(reason) => reason,
    };
    let survey = Survey::of(storage, dir)?;
    if survey.is_empty() && !evidence.knows_records() {
        return Ok((LastStop::Never, None));
    }
    let clean = evidence.mark.is_some();
    Ok((LastStop::Foreign { clean }, Some(Foreign { survey, reason })))
}

/// A change at the end of the registry that is not whole was under way at a crash, or it was made
/// and is damaged. No folder is made before the change is durable: one that no topic has tells
/// that it is damaged.
fn lost_change(storage: &dyn Storage, dir: &Path, image: &RegistryImage) -> Result<Option<String>> {
    let survey = Survey::of(storage, dir)?;
    let lost = survey.topics.iter().find(|(name, found)| {
        let was_deleted = |id| image.deleted.contains_key(&id);
        let name_was_deleted = || image.deleted.values().any(|topic| topic.name == **name);
        let (known, partitions) = match image.topics.get(*name) {
            Some(entry) => {
                let same = |id| id == entry.id || was_deleted(id);
                (found.id.is_none_or(same), entry.partitions)
            }
            None => (found.id.map_or_else(name_was_deleted, was_deleted), i32::MAX),
        };
        found.folders.iter().any(|number| !known || *number >= partitions)
    });
    Ok(lost.map(|(name, _)| {
        format!("the registry: its last change is damaged, and does not know all folders of {name}")
    }))
}

impl BrokerCore {
    /// Fills the table of topics from the registry.
    fn take_topics(&self, image: &RegistryImage) {
        for entry in image.topics.values() {
            let config = settings_of(entry, &self.health).stored(&entry.name, &self.config);
            self.topics.insert(Arc::new(Topic::new(entry, config, self.opener.clone())));
        }
    }
}

/// The settings of a topic as the registry has them. Only another version can have accepted what
/// this one refuses: that is reported and left out.
pub(in crate::broker) fn settings_of(entry: &TopicEntry, health: &HealthLog) -> TopicConfig {
    let config = TopicConfig::from_properties(entry.config.iter().map(|(k, v)| (k, v)));
    config.unwrap_or_else(|error| {
        health.warn(format!("settings of topic {}: {error}", entry.name));
        let mut config = TopicConfig::default();
        for (key, value) in &entry.config {
            config.set(key, value).ok();
        }
        config
    })
}

/// Makes the directory, if it is missing. The path that comes back leads to it for as long as it
/// is there, wherever the process goes and whatever becomes of links.
fn make_directory(storage: &dyn Storage, dir: &Path) -> Result<PathBuf> {
    let failed = |e| Error::io(e, "cannot make the directory", dir);
    let absolute = storage.absolute(dir).map_err(failed)?;
    storage.create_dir_all(&absolute).map_err(failed)?;
    // Links in it can be followed once it is there.
    storage.absolute(&absolute).map_err(failed)
}

fn take_lock(storage: &dyn Storage, dir: &Path) -> Result<Box<dyn Lock>> {
    let path = dir.join(LOCK_FILE);
    storage.lock(&path).map_err(|error| match HeldElsewhere::of(&error) {
        Some(held) => {
            let message = format!("{held}; stop it, or attach for reading");
            Error::new(ErrorKind::Locked, message).with_path(&path).with_source(error)
        }
        None => Error::io(error, "cannot take the lock", &path),
    })
}

/// What a directory's own files say about it.
pub(in crate::broker) struct Evidence<'a> {
    pub registry: &'a RegistryFound,
    pub state: &'a StateFound,
    pub mark: &'a Option<String>,
}

impl Evidence<'_> {
    /// There is a state file, so that records were appended once.
    fn knows_records(&self) -> bool {
        !matches!(self.state, StateFound::Missing)
    }

    /// How the last life ended, or why the directory is not ours as it is. `page_cache` is that of
    /// this machine, see [`page_cache_of`].
    pub fn ended(&self, image: &StateImage, page_cache: &str) -> Result<LastStop, String> {
        match (self.registry, self.state) {
            (RegistryFound::Damaged(why), _) => return Err(format!("the registry: {why}")),
            (_, StateFound::Damaged(why)) => return Err(format!("the state file: {why}")),
            (_, StateFound::Missing) => {
                return Err("there is no state file".to_owned());
            }
            (RegistryFound::Missing, StateFound::Image) => {
                return Err("there is no registry of topics".to_owned());
            }
            (RegistryFound::Image(_), StateFound::Image) => {}
        }
        match (&image.clean, self.mark) {
            (Some(left), found) if left == found => return Ok(LastStop::Clean),
            (Some(_), _) => return Err("the clean mark is not the one that was left".to_owned()),
            (None, None) => {}
            (None, Some(mark)) if is_ours(mark) => {}
            (None, Some(_)) => return Err("the clean mark is another program's".to_owned()),
        }
        let same = image
            .life
            .as_ref()
            .is_some_and(|life| !life.page_cache.is_empty() && life.page_cache == page_cache);
        Ok(if same { LastStop::SameBoot } else { LastStop::OtherBoot })
    }
}

/// Makes the logs of a broker that owns its directory.
#[derive(Debug)]
struct LiveOpener {
    env: Arc<LogEnv>,
    life: Arc<DirectoryLife>,
    dir: PathBuf,
    config: BrokerConfig,
    missing: BTreeMap<PartitionKey, Error>,
}

impl Opener for LiveOpener {
    fn open(&self, topic: &Topic, partition: i32) -> Result<Partition> {
        if let Some(error) = self.missing.get(&(topic.id(), partition)) {
            let folder = self.dir.join(folder_name(topic.name(), partition));
            return Ok(Partition::Missing(error.clone().with_path(folder)));
        }
        let id = LogIdentity {
            topic: topic.name().clone(),
            partition,
            topic_id: topic.id(),
            dir: self.dir.join(folder_name(topic.name(), partition)),
        };
        let config = topic.log_config(&self.config);
        let (state, trust) = self.life.state_of((topic.id(), partition));
        Ok(Partition::Live(Log::new(self.env.clone(), id, (*config).clone(), state, trust)))
    }
}
