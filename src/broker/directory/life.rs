//! One life of a directory: from its first append to its close. Who it is (the incarnation that
//! batches carry as leader epoch), how the one before ended, and how much of what the state file
//! says may be believed.
//!
//! Nothing is written before the first append. Then, once per broker: the next incarnation goes
//! into the state file, synced, and only after that the clean mark is removed, durably. A crash
//! between the two leaves a mark that is known to be ours.

use crate::broker::background::WorkQueue;
use crate::broker::background::steps::key_of;
use crate::broker::meta::producer_ids::ProducerIds;
use crate::broker::meta::registry::Registry;
use crate::broker::meta::state_file::{
    CleanEnd, Life, PartitionKey, StateFile, StateImage, highest_epoch,
};
use crate::error::{Error, ErrorKind, Result};
use crate::log::files::checkpoint::{read_offsets, write_offsets};
use crate::log::{BackgroundWork, EpochGate, Log, LogIdentity, LogState, Trust};
use crate::storage::Storage;
use crate::storage::planted::{Planted, planted};
use crate::sync::{Arc, AtomicBool, Mutex, OnceLock, Ordering, Rank, ranked_mutex};
use crate::topic::{TopicId, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Stamps of the logs of a directory that was closed in good order, as a checkpoint file has
/// offsets: with them an end is known without opening a folder. A cache, which proves itself.
const STAMPS_FILE: &str = "topiclite.stamps";

/// The file that says that a directory was closed in good order (Kafka's name).
pub(in crate::broker) const CLEAN_MARK: &str = ".kafka_cleanshutdown";

/// Kafka's broker epochs count metadata records; ours begin far above, so that a mark tells who
/// left it. The incarnation is added.
const BROKER_EPOCH_BASE: i64 = 0x746c_0000_0000;

/// How the life before ended, as far as the directory's own files tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum LastStop {
    /// There was none: nothing was ever appended.
    Never,
    /// By `close`.
    Clean,
    /// Without it, since this machine started and the directory's file system was mounted.
    SameBoot,
    /// Without it, and the machine started since, or the file system was mounted since, or may
    /// have been.
    OtherBoot,
    /// Another program wrote here, or the files contradict the state file; `clean` if it left a
    /// clean mark.
    Foreign { clean: bool },
}

impl LastStop {
    /// Records may have been lost, or cut off, since they were acknowledged.
    pub fn is_unclean(self) -> bool {
        !matches!(self, LastStop::Never | LastStop::Clean | LastStop::Foreign { clean: true })
    }

    /// What is recorded of a partition, and how much of it may be believed. `beside_owner`: what is
    /// not recorded may have been made since.
    pub fn recorded_of(
        self,
        image: &StateImage,
        key: &PartitionKey,
        beside_owner: bool,
    ) -> (LogState, Trust) {
        let recorded = image.state_of(key);
        let known = recorded.as_deref();
        let trust = match self {
            // An entry that makes no sense is no reason to lose the partition.
            _ if image.is_foreign(key, known) => Trust::Foreign,
            LastStop::Foreign { .. } => Trust::Foreign,
            _ if image.is_held(key, known) => Trust::Clean,
            LastStop::Clean if known.is_some() => Trust::Clean,
            LastStop::OtherBoot => Trust::OtherBoot,
            LastStop::Never | LastStop::Clean if !beside_owner => Trust::New,
            LastStop::Never | LastStop::Clean | LastStop::SameBoot => Trust::SameBoot,
        };
        (known.cloned().unwrap_or_default(), trust)
    }
}

/// What adoption found of the partitions.
#[derive(Debug, Clone, Default)]
pub(in crate::broker) struct Adopted {
    pub states: Vec<(PartitionKey, LogState)>,
    /// Those that could not be read.
    pub unread: Vec<PartitionKey>,
}

/// The gate through which every first change of a life goes.
///
/// Its locks, outermost first: the turn of recording, the state file, what was adopted, the
/// registry's own.
#[derive(Debug)]
pub(in crate::broker) struct DirectoryLife {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    page_cache: String,
    ended: LastStop,
    epoch_max: i32,
    left_unmarked: bool,
    left_unfinished: Option<BTreeSet<i32>>,
    ids_before_cut: i64,
    /// Held from the look at a log until what was seen is written.
    recording: Mutex<()>,
    state: Mutex<StateFile>,
    registry: Arc<Registry>,
    producer_ids: Arc<ProducerIds>,
    /// What adoption found; written with the beginning of the life.
    adopted: Mutex<Option<Adopted>>,
    incarnation: OnceLock<i32>,
    /// What the last close left, once somebody asked.
    stamps: OnceLock<BTreeMap<TopicPartition, i64>>,
    closed: AtomicBool,
    queue: Arc<WorkQueue>,
}

impl DirectoryLife {
    pub fn new(
        storage: Arc<dyn Storage>,
        dir: &Path,
        state: StateFile,
        ended: LastStop,
        registry: Arc<Registry>,
        producer_ids: Arc<ProducerIds>,
        queue: Arc<WorkQueue>,
    ) -> DirectoryLife {
        DirectoryLife {
            page_cache: page_cache_of(&*storage, dir),
            epoch_max: epoch_max(&state.image),
            left_unmarked: ended == LastStop::Clean && state.image.clean == Some(None),
            ids_before_cut: match ended {
                LastStop::OtherBoot => registry.unreserved_producer_id(),
                _ => state.image.ids_before_cut,
            },
            left_unfinished: match ended {
                LastStop::Never => Some(BTreeSet::new()),
                LastStop::Clean => state.image.unfinished.clone(),
                _ => None,
            },
            storage,
            dir: dir.to_owned(),
            ended,
            recording: ranked_mutex(Rank::Recording, ()),
            state: ranked_mutex(Rank::StateFile, state),
            registry,
            producer_ids,
            adopted: ranked_mutex(Rank::Adopted, None),
            incarnation: OnceLock::new(),
            stamps: OnceLock::new(),
            closed: AtomicBool::new(false),
            queue,
        }
    }

    /// In this life logs may end before what their partitions said last, as after a power cut.
    pub fn give_records_up(&mut self) {
        self.ids_before_cut = self.registry.unreserved_producer_id();
        self.left_unfinished = None;
    }

    /// How the life before ended.
    pub fn ended(&self) -> LastStop {
        self.ended
    }

    /// The leader epoch of this life, once something was appended.
    pub fn incarnation(&self) -> Option<i32> {
        self.incarnation.get().copied()
    }

    /// What is recorded of a partition, and how much of it may be believed.
    pub fn state_of(&self, key: PartitionKey) -> (LogState, Trust) {
        self.ended.recorded_of(&self.state.lock().image, &key, false)
    }

    /// Records what is known of logs that are opened, and which topics are gone. Writes nothing
    /// before the first append of this life.
    ///
    /// # Errors
    /// Those of the state file.
    pub fn record(&self, logs: &[&Log], gone: &[TopicId]) -> Result<()> {
        if self.incarnation().is_none() {
            return Ok(());
        }
        // Else what was seen earlier could be written later: a start that was moved and recorded
        // meanwhile would go back, and segments that were removed would be missed.
        let _turn = self.recording.lock();
        let mut states = Vec::with_capacity(logs.len());
        // Opening takes a lock that may be held by who waits for this turn. What was not opened
        // has nothing to tell.
        for log in logs.iter().filter(|log| log.is_opened()) {
            states.push((key_of(log), log.state()?));
        }
        self.producer_ids.keep()?;
        self.state.lock().record(states, gone)
    }

    /// Where the state file says that a partition begins; 0 if it says nothing.
    pub fn recorded_start(&self, key: &PartitionKey) -> i64 {
        self.state.lock().image.state_of(key).map_or(0, |state| state.log_start_offset)
    }

    /// Takes over what adoption found.
    pub fn adopt(&self, adopted: Adopted) {
        *self.adopted.lock() = Some(adopted);
    }

    /// Keeps what adoption found of a directory that nothing was appended to, so that the next
    /// open need not read it again. `mark` is the other program's clean mark.
    ///
    /// # Errors
    /// Those of the registry and of the state file.
    pub fn keep_adopted(&self, mark: Option<String>) -> Result<()> {
        let Some(adopted) = self.adopted.lock().clone() else { return Ok(()) };
        let mut state = self.state.lock();
        self.producer_ids.keep()?;
        self.registry.settle()?;
        let incarnation = self.next_incarnation(&state.image, &adopted).saturating_sub(1);
        let life = Life { incarnation, page_cache: self.page_cache.clone() };
        state.begin_adopted(life, &adopted.states, &adopted.unread)?;
        state.end(Vec::new(), CleanEnd { mark, unfinished: None })
    }

    /// Whether anything is recorded of a topic's partitions.
    pub fn knows_topic(&self, id: TopicId) -> bool {
        self.state.lock().image.knows_topic(id)
    }

    /// What is recorded of every partition.
    pub fn recorded(&self) -> BTreeMap<PartitionKey, Arc<LogState>> {
        self.state.lock().image.states()
    }

    /// The last close left no mark, because not every partition was in order for Kafka.
    pub fn left_unmarked(&self) -> bool {
        self.left_unmarked
    }

    /// The partitions of `__transaction_state` that the last close left something unfinished in:
    /// the others have nothing that a life has to begin with. `None` where nobody knows, and always
    /// after another end than a close.
    pub fn left_unfinished(&self) -> Option<&BTreeSet<i32>> {
        self.left_unfinished.as_ref()
    }

    /// Producer ids below it were given before `__transaction_state` may have lost records the last
    /// time, to a power cut or a repair: partitions may know later epochs of them than it does.
    pub fn ids_before_cut(&self) -> i64 {
        self.ids_before_cut
    }

    /// Ends the life: records the last states and that it ended in good order.
    ///
    /// # Errors
    /// Those of the state file.
    pub fn end(&self, states: Vec<(PartitionKey, LogState)>, end: CleanEnd) -> Result<()> {
        self.producer_ids.keep()?;
        self.state.lock().end(states, end)
    }

    /// The stamps that the last close left; none where the file cannot be read, as then every
    /// folder is opened.
    pub fn stamps(&self) -> &BTreeMap<TopicPartition, i64> {
        self.stamps.get_or_init(|| {
            let found = read_offsets(&*self.storage, &self.dir.join(STAMPS_FILE));
            found.unwrap_or_else(|error| {
                tracing::debug!(%error, "the stamps of the last close are ignored");
                BTreeMap::new()
            })
        })
    }

    /// Leaves stamps for the next life. Where that fails it opens the folders.
    pub fn keep_stamps(&self, stamps: &BTreeMap<TopicPartition, i64>) {
        if stamps == self.stamps() {
            return;
        }
        let path = self.dir.join(STAMPS_FILE);
        if let Err(error) = write_offsets(&*self.storage, &path, stamps) {
            tracing::debug!(%error, "no stamps are left");
        }
    }

    /// Refuses every first change from here on.
    pub fn shut(&self) {
        // Under the lock, so that an `enter` under way is over or sees it.
        let _state = self.state.lock();
        self.closed.store(true, Ordering::SeqCst);
    }

    /// The text of the clean mark that the life `incarnation` leaves.
    pub fn mark_of(incarnation: i32) -> String {
        let epoch = BROKER_EPOCH_BASE + i64::from(incarnation);
        format!("{{\"version\":0,\"brokerEpoch\":{epoch}}}")
    }

    /// The page cache that the next life compares its own with. After a power cut there may be
    /// partitions that this life never opens and that are as the cut left them: until a clean
    /// stop no life may take it that the page cache has everything.
    fn page_cache_to_record(&self) -> String {
        match self.ended {
            LastStop::OtherBoot => String::new(),
            _ => self.page_cache.clone(),
        }
    }

    fn next_incarnation(&self, image: &StateImage, adopted: &Adopted) -> i32 {
        let last = match planted(Planted::EpochFromPrefix) {
            true => highest_epoch(image.states().values().map(|state| &**state)),
            false => image.highest_epoch,
        };
        last.max(highest_epoch(adopted.states.iter().map(|(_, state)| state))).saturating_add(1)
    }

    fn begin(&self) -> Result<i32> {
        let mut state = self.state.lock();
        if let Some(incarnation) = self.incarnation() {
            return Ok(incarnation);
        }
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed, "the broker is closed"));
        }
        let mut adopted = self.adopted.lock();
        let found = adopted.clone().unwrap_or_default();
        let incarnation = self.next_incarnation(&state.image, &found);
        let life = Life { incarnation, page_cache: self.page_cache_to_record() };
        // Records are of no use without their topic. Also after a clean stop: topics may have been
        // made since, by a process that was killed before it appended anything.
        self.registry.confirm()?;
        self.producer_ids.keep()?;
        if adopted.is_some() {
            // The topics first: partitions are recorded by their topics' ids.
            self.registry.settle()?;
            state.begin_adopted(life, &found.states, &found.unread)?;
            *adopted = None;
        } else if !planted(Planted::EpochFromPrefix) {
            state.begin(life, self.ids_before_cut)?;
        }
        drop(adopted);
        self.remove_mark()?;
        tracing::debug!(incarnation, "a new life of the directory begins");
        // Only the holder of the state's lock sets it.
        Ok(*self.incarnation.get_or_init(|| incarnation))
    }

    /// The directory is synced also when there is no mark: an earlier attempt may have got as far
    /// as the removal.
    fn remove_mark(&self) -> Result<()> {
        if self.ended == LastStop::Never {
            return Ok(());
        }
        let mark = self.dir.join(CLEAN_MARK);
        match self.storage.remove(&mark) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(error, "cannot remove the clean mark", &mark));
            }
            _ => {}
        }
        self.storage
            .sync_dir(&self.dir)
            .map_err(|e| Error::io(e, "cannot sync the directory", &self.dir))
    }
}

impl EpochGate for DirectoryLife {
    fn enter(&self) -> Result<i32> {
        match self.incarnation() {
            Some(incarnation) => Ok(incarnation),
            None => self.begin(),
        }
    }

    fn raise(&self, epoch: i32) -> Result<()> {
        self.state.lock().raise(epoch)
    }

    fn epoch_max(&self) -> i32 {
        self.epoch_max
    }

    fn stamp_of(&self, id: &LogIdentity) -> Option<i64> {
        if self.ended != LastStop::Clean {
            return None;
        }
        self.stamps().get(&TopicPartition::new(id.topic.clone(), id.partition)).copied()
    }

    fn saw_producer_id(&self, id: i64) {
        self.producer_ids.saw(id);
    }

    fn record(&self, log: &Log) -> Result<()> {
        DirectoryLife::record(self, &[log], &[])
    }

    fn work(&self, work: BackgroundWork) {
        self.queue.push(work);
    }
}

/// What tells whether the page cache over `dir` is the one that a former process wrote into: the
/// boot of the machine, and the mount of the file system, behind a blank. A device that vanished
/// and came back, and a snapshot mounted on its own host, have the boot and not what was unsynced.
/// Empty where either is unknown, which equals nothing.
pub(in crate::broker) fn page_cache_of(storage: &dyn Storage, dir: &Path) -> String {
    let (boot, mount) = (storage.boot_id(), storage.mount_id(dir));
    if boot.is_empty() || mount.is_empty() { String::new() } else { format!("{boot} {mount}") }
}

/// Whether a mark was left by a life of ours, whichever.
pub(in crate::broker) fn is_ours(mark: &str) -> bool {
    let Some(epoch) = mark
        .strip_prefix("{\"version\":0,\"brokerEpoch\":")
        .and_then(|rest| rest.strip_suffix('}'))
        .and_then(|epoch| epoch.parse::<i64>().ok())
    else {
        return false;
    };
    (BROKER_EPOCH_BASE..=BROKER_EPOCH_BASE + i64::from(i32::MAX)).contains(&epoch)
}

/// The highest leader epoch that a life of ours can have written before this one.
fn epoch_max(image: &StateImage) -> i32 {
    let Some(life) = &image.life else { return i32::MAX };
    // A partition that another program wrote to may have higher epochs than our lives.
    if image.highest_epoch > life.incarnation { i32::MAX } else { life.incarnation }
}

/// What the clean mark says; `None` when there is none. Never longer than any that Kafka writes.
pub(in crate::broker) fn read_mark(storage: &dyn Storage, dir: &Path) -> Result<Option<String>> {
    const MARK_BYTES_MAX: u64 = 4096;
    let path = dir.join(CLEAN_MARK);
    match storage.read_file(&path, MARK_BYTES_MAX) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        // A mark that is no small file is nobody's.
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => Ok(Some(String::new())),
        Err(error) => Err(Error::io(error, "cannot read the clean mark", &path)),
    }
}
