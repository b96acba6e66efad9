//! What all handles of a broker share.
//!
//! [`BrokerCore`] is everything; its threads hold it. [`BrokerInner`] is what the handles hold:
//! when the last one goes, its threads are stopped and joined and the lock is freed.

use crate::broker::attach::Attached;
use crate::broker::background::cleaner::Cleaner;
use crate::broker::background::threads::Threads;
use crate::broker::background::{FlushTask, TimerTask, Timers, WorkQueue};
use crate::broker::coordinator::{
    GroupHost, GroupRuntime, Groups, InternalTopic, RuntimeParts, TransactionHost,
    TransactionRuntime, Transactions,
};
use crate::broker::directory::adopt::AdoptionReport;
use crate::broker::directory::life::DirectoryLife;
use crate::broker::directory::ownership::Ownership;
use crate::broker::health::{BrokerCounters, Health, HealthLog};
use crate::broker::meta::producer_ids::{ProducerIds, PromisedId};
use crate::broker::meta::registry::Registry;
use crate::broker::producer_names::ProducerNames;
use crate::broker::random::Random;
use crate::broker::topics::deletion::Deletions;
use crate::broker::topics::{Opener, Topic, TopicTable};
use crate::config::BrokerConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::log::{LogEnv, PlannedRepair};
use crate::probe::Probe;
use crate::storage::Storage;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, OnceLock, Ordering, Rank, Weak};
use crate::time::{Clock, Signal, TimerKey};
use crate::topic::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC, TopicPartition};
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that a broker consists of.
pub(crate) struct BrokerCore {
    pub(crate) dir: PathBuf,
    pub(super) config: BrokerConfig,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) clock: Clock,
    pub(super) health: Arc<HealthLog>,
    pub(super) topics: Arc<TopicTable>,
    pub(super) timers: Arc<Timers>,
    pub(super) queue: Arc<WorkQueue>,
    pub(super) retention: crate::broker::background::steps::Schedule,
    pub(super) cleaner: Cleaner,
    pub(super) offsets_expiry: crate::broker::background::steps::Schedule,
    pub(super) transactional_ids: crate::broker::background::steps::Schedule,
    pub(super) transactional_ids_read: AtomicBool,
    pub(super) producer_expiry: crate::broker::background::steps::Schedule,
    pub(super) recorded: crate::broker::background::steps::Recorded,
    /// What only an owner has; `None` in an attached broker.
    pub(super) owner: Option<Owner>,
    /// What only an attached broker has.
    pub(super) attached: Option<Arc<Attached>>,
    pub(super) opener: Arc<dyn Opener>,
    pub(super) adoption: OnceLock<AdoptionReport>,
    pub(super) closed: AtomicBool,
    /// Everything that a process before this one appended is known to be durable.
    pub(super) swept: AtomicBool,
    pub(super) groups: Arc<GroupRuntime>,
    pub(super) transactions: Arc<TransactionRuntime>,
    pub(super) counters: Arc<BrokerCounters>,
    clients: AtomicU64,
    pub(super) producer_names: Arc<ProducerNames>,
    pub(super) random: Random,
    pub(super) probe: Probe,
}

/// What only the owner of a directory has.
#[derive(Debug)]
pub(super) struct Owner {
    pub env: Arc<LogEnv>,
    pub life: Arc<DirectoryLife>,
    pub registry: Arc<Registry>,
    pub producer_ids: Arc<ProducerIds>,
    /// Changes of topics are one at a time.
    pub changes: Mutex<Deletions>,
    pub ownership: Ownership,
}

impl BrokerCore {
    pub(super) fn new(
        dir: PathBuf,
        config: BrokerConfig,
        storage: Arc<dyn Storage>,
        clock: Clock,
        parts: Parts,
        me: &Weak<BrokerCore>,
    ) -> BrokerCore {
        let topics = Arc::new(TopicTable::default());
        let timers = Arc::new(Timers::default());
        let counters = Arc::new(BrokerCounters::default());
        let host = GroupHost {
            config: config.clone(),
            topics: topics.clone(),
            health: parts.health.clone(),
            counters: counters.clone(),
            probe: parts.probe.clone(),
            unclean: !parts.settled,
            broker: me.clone(),
        };
        let groups = GroupRuntime::new(RuntimeParts {
            rank: Rank::Groups,
            clock: clock.clone(),
            timers: timers.clone(),
            health: parts.health.clone(),
            host: Box::new(host),
            writer: InternalTopic::new(OFFSETS_TOPIC, topics.clone()),
            writes: parts.owner.is_some(),
            settled: parts.settled,
            counters: counters.clone(),
        });
        let transactions = TransactionRuntime::new(RuntimeParts {
            rank: Rank::Transactions,
            clock: clock.clone(),
            timers: timers.clone(),
            health: parts.health.clone(),
            host: Box::new(TransactionHost {
                config: config.clone(),
                topics: topics.clone(),
                broker: me.clone(),
                probe: parts.probe.clone(),
            }),
            writer: InternalTopic::new(TRANSACTIONS_TOPIC, topics.clone()),
            writes: parts.owner.is_some(),
            settled: false,
            counters: counters.clone(),
        });
        BrokerCore {
            transactions,
            retention: crate::broker::background::steps::Schedule::of_retention(&clock, &config),
            cleaner: Cleaner::new(&clock, &config),
            offsets_expiry: crate::broker::background::steps::Schedule::of_offsets(&clock, &config),
            transactional_ids: crate::broker::background::steps::Schedule::of_transactional_ids(
                &clock, &config,
            ),
            transactional_ids_read: AtomicBool::new(false),
            producer_expiry: crate::broker::background::steps::Schedule::of_producers(
                &clock, &config,
            ),
            recorded: crate::broker::background::steps::Recorded::default(),
            timers,
            topics,
            random: parts.random,
            closed: AtomicBool::new(false),
            swept: AtomicBool::new(false),
            groups,
            counters,
            clients: AtomicU64::new(0),
            producer_names: Arc::new(ProducerNames::default()),
            health: parts.health,
            queue: parts.queue,
            owner: parts.owner,
            attached: parts.attached,
            opener: parts.opener,
            adoption: OnceLock::new(),
            probe: parts.probe,
            dir,
            config,
            storage,
            clock,
        }
    }

    /// The topic of that name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidTopic`] when no topic can have that name,
    /// [`ErrorKind::UnknownTopicOrPartition`] when none has, [`ErrorKind::Closed`].
    pub fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        self.check_open()?;
        if self.attached.is_none() {
            return self.topics.get(name);
        }
        self.refresh(false)?;
        self.topics.get(name).or_else(|_| {
            self.refresh(true)?;
            self.topics.get(name)
        })
    }

    /// As [`BrokerCore::topic_or_create`], for whoever is going to append to it.
    ///
    /// # Errors
    /// Also those of [`BrokerCore::settle`].
    pub fn topic_to_append(&self, name: &str) -> Result<Arc<Topic>> {
        self.check_open()?;
        self.settle()?;
        let topic = self.topic_or_create(name)?;
        self.end_hanging(&topic)?;
        Ok(topic)
    }

    /// The topic of that name, made with the broker's defaults where `auto.create.topics.enable`
    /// allows it.
    ///
    /// # Errors
    /// As [`BrokerCore::topic`], and those of creating a topic.
    pub fn topic_or_create(&self, name: &str) -> Result<Arc<Topic>> {
        match self.topic(name) {
            Err(error)
                if error.kind() == ErrorKind::UnknownTopicOrPartition
                    && self.config.auto_create_topics()
                    && self.owner.is_some() =>
            {
                match self.create_topic(&crate::broker::NewTopic::new(name, -1)) {
                    // Another thread was faster.
                    Err(error) if error.kind() == ErrorKind::TopicExists => self.topic(name),
                    created => created,
                }
            }
            found => found,
        }
    }

    /// All topics, internal ones too, in order of name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        if let Err(error) = self.refresh(true) {
            self.health.error(error);
        }
        self.topics.all()
    }

    /// Raised by each creation, growth, alteration and deletion of a topic.
    #[inline]
    pub fn metadata_version(&self) -> u64 {
        if self.attached.is_some() {
            // What cannot be looked at now is told by the call that needs it.
            drop(self.refresh(false));
        }
        self.topics.version()
    }

    /// Registers `event` to be rung by the next change of topics. Returns true, and registers
    /// nothing, when there was one beyond version `beyond` already.
    pub fn watch_metadata(&self, event: &Arc<Signal>, beyond: u64) -> bool {
        self.topics.watch(event, beyond)
    }

    /// Takes a registration back.
    pub fn unwatch_metadata(&self, event: &Arc<Signal>) {
        self.topics.unwatch(event);
    }

    /// The clock that everything goes by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The broker's settings.
    pub fn config(&self) -> &BrokerConfig {
        &self.config
    }

    /// Whether the directory is attached for reading.
    pub fn is_attached(&self) -> bool {
        self.owner.is_none()
    }

    /// What only an owner can do.
    ///
    /// # Errors
    /// [`ErrorKind::ReadOnly`] in an attached broker, [`ErrorKind::Closed`].
    pub(super) fn owner(&self) -> Result<&Owner> {
        self.check_open()?;
        self.owner.as_ref().ok_or_else(read_only)
    }

    /// Refuses calls after the close.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`].
    #[inline]
    pub fn check_open(&self) -> Result<()> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(closed()),
            false => Ok(()),
        }
    }

    /// The door to the disk.
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Where a test watches and steers.
    pub fn probe(&self) -> &Probe {
        &self.probe
    }

    /// The next number of the one random source.
    pub fn random(&self) -> u64 {
        self.random.next()
    }

    /// A number that no other client of this broker has, from 1.
    pub fn next_client_number(&self) -> u64 {
        self.clients.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A producer id that was never given in this directory, to be kept by one producer.
    ///
    /// # Durability
    /// The id is reserved when this returns: no later life gives it, whatever becomes of this one.
    /// The first id of a life, and then one in a thousand, costs a sync of the registry.
    ///
    /// # Errors
    /// [`ErrorKind::ReadOnly`] in an attached broker, [`ErrorKind::Closed`]; those of writing the
    /// registry.
    pub fn new_producer_id(&self) -> Result<i64> {
        self.owner()?.producer_ids.next()
    }

    /// The producer id that comes next, for somebody who may need one; `None` where no ids are
    /// given. See [`BrokerCore::keep_producer_id`].
    pub fn promise_producer_id(&self) -> Option<PromisedId> {
        self.owner().ok().map(|owner| owner.producer_ids.promise())
    }

    /// A promised producer id, before its first use.
    ///
    /// # Errors
    /// As [`BrokerCore::new_producer_id`].
    pub fn keep_producer_id(&self, promised: PromisedId) -> Result<i64> {
        self.owner()?.producer_ids.keep_promise(promised)
    }

    /// Runs `task` soon on the flusher's thread, for what has to wait for a sync; inside a call
    /// that lets time pass where time is virtual. After a close it is run here.
    pub fn call_flusher(&self, task: FlushTask) {
        if let Some(task) = self.queue.call(task) {
            task();
        }
    }

    /// Runs `task` once, on the timer thread or inside a call that lets virtual time pass.
    pub fn schedule(&self, deadline: Duration, task: TimerTask) -> TimerKey {
        self.timers.schedule(deadline, task)
    }

    /// Takes a timer back; false when it ran, or is about to.
    pub fn cancel(&self, key: TimerKey) -> bool {
        self.timers.cancel(key)
    }

    /// Tells, once for this text, what nothing else would show.
    pub fn warn_once(&self, text: String) {
        self.health.warn_once(text);
    }

    /// The report of what went wrong.
    pub fn health(&self) -> Health {
        let mut counters = self.counters.all();
        if let Some(owner) = &self.owner {
            counters.extend(owner.env.counters.all());
        }
        self.note_damage();
        self.health.report(counters)
    }

    /// Takes note of partitions that turned out damaged when they were first used.
    fn note_damage(&self) {
        for topic in self.topics.all() {
            for (number, partition) in topic.opened() {
                let place = TopicPartition::new(topic.name().clone(), number);
                for finding in partition.findings() {
                    self.health.warn_once(format!("{place}: {finding}"));
                }
                if let Some(error) = partition.damage() {
                    self.health.partition(place, error);
                }
            }
        }
    }

    /// What adoption found, if this open adopted the directory.
    pub fn adoption(&self) -> Option<&AdoptionReport> {
        self.adoption.get()
    }
}

impl fmt::Debug for BrokerCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("dir", &self.dir)
            .field("topics", &self.topics.len())
            .field("attached", &self.is_attached())
            .finish_non_exhaustive()
    }
}

/// What opening has put together.
pub(super) struct Parts {
    pub health: Arc<HealthLog>,
    pub queue: Arc<WorkQueue>,
    pub owner: Option<Owner>,
    pub attached: Option<Arc<Attached>>,
    pub opener: Arc<dyn Opener>,
    pub random: Random,
    /// No committed offset can lie beyond the end of its log.
    pub settled: bool,
    pub probe: Probe,
}

/// What every handle holds.
#[derive(Debug)]
pub(crate) struct BrokerInner {
    shared: Arc<BrokerCore>,
    groups: Groups,
    transactions: Transactions,
    threads: Threads,
}

impl BrokerInner {
    /// Starts the threads, unless time is virtual or there is nothing for them to do.
    pub(super) fn start(shared: Arc<BrokerCore>) -> Result<Arc<BrokerInner>> {
        let threads = Threads::start(&shared)?;
        let groups = Groups::new(shared.clone());
        let transactions = Transactions::new(shared.clone());
        Ok(Arc::new(BrokerInner { shared, groups, transactions, threads }))
    }

    /// Ends as the death of the process does: nothing is written, nothing is claimed, and whoever
    /// waits is refused.
    #[cfg(feature = "testing")]
    pub fn crash(&self) {
        if self.shared.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        for topic in self.shared.topics.all() {
            for (_, partition) in topic.opened() {
                if let Ok(log) = partition.log() {
                    log.abandon();
                }
            }
        }
        self.threads.stop(&self.shared);
        self.shared.queue.end_calls();
        self.shared.abandon();
        self.shared.groups.ring_all();
    }

    /// The groups.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`].
    pub fn groups(&self) -> Result<&Groups> {
        self.check_open()?;
        Ok(&self.groups)
    }

    /// The transactions.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`].
    pub fn transactions(&self) -> Result<&Transactions> {
        self.check_open()?;
        Ok(&self.transactions)
    }

    /// Deletes a topic with its records and the offsets that groups committed for it.
    ///
    /// # Errors
    /// Those of [`BrokerCore::remove_topic`], and of storing what the groups forget.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.shared.remove_topic(name)?;
        if name == TRANSACTIONS_TOPIC {
            self.shared.transactions.reset();
        }
        self.shared.groups_forget(name)?;
        // Else the offsets of this topic could be those of the next one of its name.
        self.shared.flush_offsets()
    }

    /// Repairs a partition's files. Of the topics of groups and of transactional ids also batches
    /// in their midst that cannot be read, where damage may be given up: they are what the others
    /// say.
    ///
    /// # Errors
    /// Those of [`Log::repair`](crate::log::Log::repair), and of the appends.
    pub fn repair_partition(&self, topic: &str, partition: i32) -> Result<Vec<PlannedRepair>> {
        let log = self.topic(topic)?.partition(partition)?.log()?.clone();
        let mut done = log.repair()?;
        let (groups, transactions) = (&self.shared.groups, &self.shared.transactions);
        if !done.is_empty() {
            // Their offsets are looked at once more: the log may end before them.
            groups.reset();
        }
        let restated = match topic {
            _ if !self.shared.owner()?.env.cut_damage => None,
            OFFSETS_TOPIC => groups.restate(partition)?,
            TRANSACTIONS_TOPIC => transactions.restate(partition)?,
            _ => None,
        };
        if let Some(begins) = restated {
            log.delete_records(begins.min(log.log_end_offset()?))?;
            groups.reset();
            done.push(self.restatement(topic, partition));
        }
        if topic == TRANSACTIONS_TOPIC && !done.is_empty() {
            // What is open there has its timeout to be watched.
            transactions.reset();
            transactions.load_all()?;
        }
        Ok(done)
    }

    /// What [`BrokerCore::repair_partition`] would do.
    ///
    /// # Errors
    /// Those of `Admin::planned_repairs`.
    pub fn planned_repairs(&self, topic: &str, partition: i32) -> Result<Vec<PlannedRepair>> {
        let mut planned = self.verify(topic, partition, |files| files.repairs())?;
        let damaged = match topic {
            OFFSETS_TOPIC => self.shared.groups.is_damaged(partition)?,
            TRANSACTIONS_TOPIC => self.shared.transactions.is_damaged(partition)?,
            _ => false,
        };
        if planned.is_empty() && damaged {
            planned.push(self.restatement(topic, partition));
        }
        Ok(planned)
    }

    fn restatement(&self, topic: &str, partition: i32) -> PlannedRepair {
        let action = "give up batches that cannot be read, and store anew what the others say";
        let path = self.shared.dir.join(format!("{topic}-{partition}"));
        PlannedRepair { path, action: action.to_owned() }
    }

    /// Closes the directory in good order.
    ///
    /// # Errors
    /// The first error of the close, else the first one that nobody waited for.
    pub fn close(&self) -> Result<()> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        // What a crash left beyond the end of its log is not to look like a clean stop's.
        let settled = self.shared.settle_before_close();
        if self.shared.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.threads.stop(&self.shared);
        self.shared.end_cleaning(None);
        // Whoever waits for a sync gets its answer.
        self.shared.queue.end_calls();
        if let Some(owner) = &self.shared.owner {
            self.shared.check_lock(owner);
        }
        let outcome = self.shared.close_directory(settled);
        self.shared.release();
        outcome?;
        self.shared.health.first_error().map_or(Ok(()), Err)
    }
}

impl Deref for BrokerInner {
    type Target = BrokerCore;

    fn deref(&self) -> &BrokerCore {
        &self.shared
    }
}

impl Drop for BrokerInner {
    /// Without a close before it, this claims nothing and writes nothing.
    fn drop(&mut self) {
        if !self.shared.closed.swap(true, Ordering::AcqRel) {
            self.threads.stop(&self.shared);
            self.shared.abandon();
        }
    }
}

#[cold]
pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the broker is closed")
}

pub(super) fn read_only() -> Error {
    Error::new(ErrorKind::ReadOnly, "the directory is attached for reading; open it to write")
}
