//! A broker for tests: in memory, under a virtual clock, with a disk that survives it.

use super::fault::Fault;
use super::journal::Journal;
use super::watch::{Injected, Watch};
use crate::admin::TransactionDescription;
use crate::broker::{Broker, BrokerOptions};
use crate::config::{BrokerConfig, IsolationLevel, ProducerConfig};
use crate::consumer::{OwnedConsumerRecord, ReadFrom};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::probe::{Probe, Watcher};
use crate::producer::{ProducerRecord, RecordMetadata};
use crate::storage::faults::{Call, Failure, Fault as Disk, Rule};
use crate::storage::sim::{Entries, Pages, PowerCut, Sim};
use crate::storage::{Fs, Storage};
use crate::sync::Arc;
use crate::time::VirtualClock;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

/// Where the directory lies on the simulated disk.
const DIR: &str = "/topiclite";

/// How a broker dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Crash {
    /// `kill -9`: the process is gone, the machine runs on. Everything acknowledged survives.
    Kill,
    /// The power goes. What was not synced may survive or not, page by page, torn or out of order;
    /// the seed draws it. The same seed after the same calls gives the same disk.
    PowerCut(u64),
    /// The power goes, and nothing survives that was not synced.
    PowerCutAtWorst,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Crash::Kill => f.write_str("process killed"),
            Crash::PowerCut(seed) => write!(f, "power cut, seed {seed}"),
            Crash::PowerCutAtWorst => f.write_str("power cut, nothing unsynced survives"),
        }
    }
}

/// What a [`TestBroker`] is made with.
///
/// # Examples
/// ```
/// use topiclite::testing::TestBroker;
/// let test = TestBroker::builder()
///     .properties([("auto.create.topics.enable", "true"), ("num.partitions", "3")])?
///     .starting_at(1_700_000_000_000)
///     .seed(7)
///     .start()?;
/// assert_eq!(test.clock().now().wall_ms, 1_700_000_000_000);
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "nothing runs before `start`"]
pub struct TestBrokerBuilder {
    options: BrokerOptions,
    clock: Option<VirtualClock>,
    start_ms: Option<i64>,
    silent: bool,
}

impl TestBrokerBuilder {
    /// Takes broker properties by Kafka's names, in place of those before.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for an unknown key or a refused value.
    pub fn properties<K, V>(
        mut self,
        properties: impl IntoIterator<Item = (K, V)>,
    ) -> Result<TestBrokerBuilder>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        self.options = self.options.config(BrokerConfig::from_properties(properties)?);
        Ok(self)
    }

    /// The seed of everything random: topic ids, member ids, jitter. 0 unless it is set.
    pub fn seed(mut self, seed: u64) -> TestBrokerBuilder {
        self.options = self.options.seed(seed);
        self
    }

    /// For tests with several threads: a call that waits does so until something happens or some
    /// thread calls [`TestBroker::advance`]. Otherwise the clock is a stepping one, which jumps
    /// whenever a call would wait, and everything is done by one thread.
    pub fn manual_clock(mut self) -> TestBrokerBuilder {
        self.clock = Some(VirtualClock::manual());
        self
    }

    /// When virtual time begins, in milliseconds since 1970. Else it begins with the year 2027.
    pub fn starting_at(mut self, wall_ms: i64) -> TestBrokerBuilder {
        self.start_ms = Some(wall_ms);
        self
    }

    /// Keeps no journal: for tests of many millions of calls.
    pub fn without_journal(mut self) -> TestBrokerBuilder {
        self.silent = true;
        self
    }

    /// Opens the broker on an empty disk.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for settings that are refused.
    pub fn start(self) -> Result<TestBroker> {
        let clock = self.clock.unwrap_or_else(VirtualClock::stepping);
        let clock = match self.start_ms {
            Some(start_ms) => clock.starting_at(start_ms),
            None => clock,
        };
        let journal = Journal::default();
        let kept = (!self.silent).then(|| journal.clone());
        let watch = Arc::new(Watch::new(clock.clock(), clock.is_stepping(), kept));
        let options = self.options.clock(clock.clock()).probe(Probe::new(watch.clone()));
        let sim = Sim::with_clock(clock.clock());
        let disk = Disk::new(Arc::new(sim.clone()));
        let broker = options.clone().storage(Arc::new(disk.clone())).open(DIR)?;
        watch.opened(broker.inner());
        Ok(TestBroker { broker, options, clock, watch, journal, sim, disk, is_full: false })
    }
}

/// A broker for tests of code that uses Kafka: in memory, under a virtual clock, with a journal,
/// and with faults, kills and crashes on demand. It is used as the [`Broker`] that it stands for.
///
/// Everything goes the way it goes in production: the same log, the same recovery, the same group
/// protocol. Only the disk is simulated, so that it can be full, or lose its power, and the time is
/// virtual, so that a session timeout of 45 seconds costs microseconds. A run with the same seed
/// and the same calls is the same run.
///
/// # Examples
/// A consumer dies without a word, and the journal tells what became of its group:
/// ```
/// use std::time::Duration;
/// use topiclite::testing::TestBroker;
/// use topiclite::{ConsumerConfig, TopicConfig};
///
/// let test = TestBroker::new()?;
/// test.admin().create_topic("jobs", 2, TopicConfig::default())?;
/// let member = |name: &str| -> topiclite::Result<_> {
///     let mut consumer = test.consumer(ConsumerConfig::new("workers").client_id(name))?;
///     consumer.subscribe(&["jobs"])?;
///     Ok(consumer)
/// };
/// let (mut one, mut two) = (member("one")?, member("two")?);
/// for _ in 0..10 {
///     one.poll(Duration::ZERO)?;
///     two.poll(Duration::ZERO)?;
/// }
/// assert_eq!(one.assignment()?.len(), 1);
///
/// test.kill_consumer("two")?;
/// one.poll(Duration::from_secs(60))?;
/// assert_eq!(one.assignment()?.len(), 2);
/// test.journal().assert_in_order(&[
///     "killed consumer two",
///     "workers: two kicked out: session timeout",
///     "workers: rebalancing",
///     "workers: one assigned jobs-0, jobs-1",
/// ]);
/// # Ok::<(), topiclite::Error>(())
/// ```
///
/// The process is killed after a send and the power goes after the next one:
/// ```
/// use topiclite::testing::{Crash, TestBroker};
/// use topiclite::{ErrorKind, ProducerConfig, ProducerRecord, ReadFrom, TopicConfig};
///
/// let mut test = TestBroker::new()?;
/// test.admin().create_topic("orders", 1, TopicConfig::default())?;
/// let producer = test.producer(ProducerConfig::default())?;
/// producer.send_sync(ProducerRecord::new("orders").value("one tea"))?;
///
/// test.crash(Crash::Kill)?;
/// let refused = producer.send(ProducerRecord::new("orders").value("late")).unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::Closed);
/// test.flush()?;
///
/// let producer = test.producer(ProducerConfig::default())?;
/// producer.send_sync(ProducerRecord::new("orders").value("unsynced"))?;
/// test.crash(Crash::PowerCutAtWorst)?;
/// assert_eq!(test.reader("orders", 0, ReadFrom::Beginning)?.end_offset()?, 1);
/// # Ok::<(), topiclite::Error>(())
/// ```
pub struct TestBroker {
    broker: Broker,
    options: BrokerOptions,
    clock: VirtualClock,
    watch: Arc<Watch>,
    journal: Journal,
    sim: Sim,
    disk: Disk,
    is_full: bool,
}

impl TestBroker {
    /// A broker on an empty disk, under a stepping clock, with Kafka's settings.
    ///
    /// # Errors
    /// None with these settings.
    pub fn new() -> Result<TestBroker> {
        TestBroker::builder().start()
    }

    /// A broker with settings.
    pub fn builder() -> TestBrokerBuilder {
        TestBrokerBuilder::default()
    }

    /// The broker of this life, for code that wants to own a handle.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The time that everything goes by.
    pub fn clock(&self) -> &VirtualClock {
        &self.clock
    }

    /// Lets time pass. What is due meanwhile is done at its own time.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// What happened, over all lives.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Has something go wrong, from here on, also after a crash.
    ///
    /// # Panics
    /// For a fault that can never strike as it says: a filter that does not apply to its operation
    /// (a commit is of no topic, an append of no group), a lost reply of what has none, 0 times.
    /// The message names the method and what to call instead.
    #[track_caller]
    pub fn inject(&self, fault: Fault) -> Injected {
        if let Some(why) = fault.contradiction() {
            panic!("the fault ({fault:?}) can never strike: {why}");
        }
        Injected { id: self.watch.inject(fault), watch: self.watch.clone() }
    }

    /// Puts a record in, as a producer with Kafka's settings does, and says where it lies. Faults
    /// strike it like any other.
    ///
    /// # Errors
    /// Those of [`Producer::send_sync`](crate::Producer::send_sync).
    ///
    /// # Examples
    /// ```
    /// use topiclite::testing::TestBroker;
    /// use topiclite::{ProducerRecord, TopicConfig};
    /// let test = TestBroker::new()?;
    /// test.admin().create_topic("orders", 1, TopicConfig::default())?;
    /// let placed = test.put(ProducerRecord::new("orders").key("table 4").value("one tea"))?;
    /// assert_eq!(placed.offset(), 0);
    /// assert_eq!(test.values("orders")?, ["one tea"]);
    /// assert_eq!(test.records("orders")?[0].key(), Some(&b"table 4"[..]));
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    pub fn put(&self, record: ProducerRecord<'_>) -> Result<RecordMetadata> {
        self.broker.producer(ProducerConfig::default())?.send_sync(record)
    }

    /// Every record that a topic holds: partition by partition, in order of offset. No consumer
    /// takes part, so no fault strikes and no group moves.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTopicOrPartition`], and those of [`Reader::read`](crate::Reader::read).
    pub fn records(&self, topic: &str) -> Result<Vec<OwnedConsumerRecord>> {
        self.read(topic, IsolationLevel::ReadUncommitted)
    }

    fn read(&self, topic: &str, isolation: IsolationLevel) -> Result<Vec<OwnedConsumerRecord>> {
        let mut records = Vec::new();
        for partition in 0..self.broker.admin().describe_topic(topic)?.partition_count() {
            let reader = self.broker.reader(topic, partition, ReadFrom::Beginning)?;
            let mut reader = reader.isolation_level(isolation);
            loop {
                let some = reader.read(Duration::ZERO)?;
                if some.is_empty() {
                    break;
                }
                records.extend(some.iter().map(|record| record.to_owned()));
            }
        }
        Ok(records)
    }

    /// The values of [`TestBroker::records`] as text. A tombstone is empty text, and bytes that
    /// are not UTF-8 are replaced.
    ///
    /// # Errors
    /// As there.
    pub fn values(&self, topic: &str) -> Result<Vec<String>> {
        Ok(self.records(topic)?.iter().map(text_of).collect())
    }

    /// The values that a reader of committed records sees, as [`TestBroker::values`] has them.
    ///
    /// # Errors
    /// As there.
    pub fn committed_values(&self, topic: &str) -> Result<Vec<String>> {
        Ok(self.read(topic, IsolationLevel::ReadCommitted)?.iter().map(text_of).collect())
    }

    /// The transactions that have not ended, by transactional id: those that take records, and
    /// those whose end is decided and not known to all their partitions. Nothing moves: what a
    /// crash left open is listed until the first write of the next life ends it.
    ///
    /// # Errors
    /// Those of [`Admin::list_transactions`](crate::Admin::list_transactions).
    pub fn open_transactions(&self) -> Result<Vec<TransactionDescription>> {
        let mut listed = self.broker.admin().list_transactions()?;
        listed.retain(|transaction| !transaction.state().is_idle());
        Ok(listed)
    }

    /// Writes the files of the simulated disk into a real directory, as a kill at this moment
    /// leaves them: for tools that read a directory, and for a look after a failed test.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    ///
    /// # Examples
    /// ```
    /// use topiclite::testing::TestBroker;
    /// use topiclite::{Broker, ProducerRecord, ReadFrom, TopicConfig};
    /// let test = TestBroker::new()?;
    /// test.admin().create_topic("orders", 1, TopicConfig::default())?;
    /// test.put(ProducerRecord::new("orders").value("one tea"))?;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let dir = dir.path();
    /// test.save_disk(dir)?;
    /// let broker = Broker::attach(dir)?;
    /// assert_eq!(broker.reader("orders", 0, ReadFrom::Beginning)?.end_offset()?, 1);
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    pub fn save_disk(&self, into: &Path) -> Result<()> {
        let saved = save(&self.sim, &Fs::new(), Path::new(DIR), into);
        saved.map_err(|error| Error::io(error, "save the simulated disk", into))
    }

    /// Has the disk take no more: appends fail with [`ErrorKind::StorageFull`] as soon as they need
    /// room that is not prepared.
    pub fn fill_disk(&mut self) {
        let calls =
            [Call::Create, Call::CreateCold, Call::CreateDir, Call::Allocate, Call::WriteAt];
        self.disk.fail(Rule::nth(0, Failure::Full).of(&calls).sticky());
        self.is_full = true;
        self.watch.note(Event::DiskFull);
    }

    /// Makes room again.
    pub fn free_disk(&mut self) {
        self.disk.heal();
        self.is_full = false;
        self.watch.note(Event::DiskFreed);
    }

    /// Kills the consumers with this `client.id`: every further call of them is
    /// [`ErrorKind::Closed`], and their groups learn nothing until their sessions run out. A call
    /// that waits in another thread ends.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalArgument`] when there is none.
    pub fn kill_consumer(&self, client_id: &str) -> Result<()> {
        if !self.watch.kill(client_id) {
            return Err(self.no_consumer(client_id));
        }
        self.watch.note(Event::ConsumerKilled { client_id: client_id.into() });
        self.silence(client_id)
    }

    /// Stops the heartbeats of the consumers with this `client.id`, as if their processes stood
    /// still. The next poll of one starts them again; after the session timeout it has lost its
    /// membership, as its listener is told, and it joins anew.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalArgument`] when there is none.
    pub fn stall_consumer(&self, client_id: &str) -> Result<()> {
        if !self.watch.consumers().iter().any(|known| **known == *client_id) {
            return Err(self.no_consumer(client_id));
        }
        self.watch.note(Event::ConsumerStalled { client_id: client_id.into() });
        self.silence(client_id)
    }

    /// The coordinator hears no more of these members.
    fn silence(&self, client_id: &str) -> Result<()> {
        let groups = self.broker.inner().groups()?;
        for group in groups.list()? {
            for member in groups.describe(&group.group_id)?.members {
                if *member.client_id == *client_id {
                    groups.stop_beating(&group.group_id, &member.member_id);
                }
            }
        }
        Ok(())
    }

    fn no_consumer(&self, client_id: &str) -> Error {
        let consumers = self.watch.consumers();
        let message =
            format!("no consumer has the client.id {client_id:?}; there are {consumers:?}");
        Error::new(ErrorKind::IllegalArgument, message)
    }

    /// Crashes the broker, and opens what survived: [`TestBroker::kill`] and
    /// [`TestBroker::reopen`].
    ///
    /// # Errors
    /// Those of [`Broker::open`].
    pub fn crash(&mut self, how: Crash) -> Result<()> {
        self.kill(how);
        self.reopen()
    }

    /// Crashes the broker. All handles that were made from it, also those that wait in other
    /// threads, give [`ErrorKind::Closed`], until new ones are made after
    /// [`TestBroker::reopen`]. A broker that was closed is not alive to be crashed, but its disk
    /// can lose its power.
    pub fn kill(&mut self, how: Crash) {
        self.watch.note(Event::Crashed { how: how.to_string() });
        self.broker.inner().crash();
        // Nothing is acknowledged any more, so nothing can be that is not in here.
        let survived = match how {
            Crash::Kill => self.sim.kill(),
            Crash::PowerCut(seed) => self.sim.power_cut(&PowerCut::drawn(seed)),
            Crash::PowerCutAtWorst => {
                self.sim.power_cut(&PowerCut::new(0, Pages::None, Entries::None))
            }
        };
        self.watch.release_all();
        self.sim = survived;
        self.disk = Disk::new(Arc::new(self.sim.clone()));
        if self.is_full {
            self.fill_disk();
        }
    }

    /// Opens what is on the disk, after [`TestBroker::kill`] or [`Broker::close`].
    ///
    /// # Errors
    /// Those of [`Broker::open`]: [`ErrorKind::Locked`] while the broker is alive.
    pub fn reopen(&mut self) -> Result<()> {
        let options = self.options.clone().storage(Arc::new(self.disk.clone()));
        self.broker = options.open(DIR)?;
        self.watch.opened(self.broker.inner());
        Ok(())
    }
}

/// Copies a folder of the simulated disk.
fn save(sim: &Sim, disk: &Fs, from: &Path, into: &Path) -> io::Result<()> {
    disk.create_dir_all(into)?;
    for entry in sim.list(from)? {
        let (from, into) = (from.join(&entry.name), into.join(&entry.name));
        match entry.is_dir {
            true => save(sim, disk, &from, &into)?,
            false => disk.create_cold(&into)?.write_at(0, &sim.read_file(&from, u64::MAX)?)?,
        }
    }
    Ok(())
}

fn text_of(record: &OwnedConsumerRecord) -> String {
    String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned()
}

/// One line.
impl fmt::Debug for TestBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestBroker({DIR})")
    }
}

impl Deref for TestBroker {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}
