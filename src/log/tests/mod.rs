//! Tests of the live log, on memory and on real files.

mod appends;
mod crashes;
pub(in crate::log) mod cuts;
mod durability;
mod faults;
mod lives;
mod misplaced;
mod plain;
mod producers;
mod replaced;
mod retention;
mod rolls;
mod speed;

use super::*;
use crate::log::attached::LookAgain;
use crate::record::{RecordBatch, RecordInput};
use crate::storage::sim::Sim;
use crate::storage::{Fs, Heap, Storage};
use crate::sync::{AtomicBool, AtomicI64, Ordering};
use crate::time::VirtualClock;
use crate::topic::TopicId;
use std::path::{Path, PathBuf};

/// The time at which test logs are made.
pub(super) const START_MS: i64 = 1_800_000_000_000;

/// A gate that counts entries and keeps the work for [`Bench::run_work`].
#[derive(Debug, Default)]
pub(super) struct TestGate {
    pub entered: AtomicI64,
    pub epoch: AtomicI64,
    pub refuse: AtomicBool,
    /// The log that is given up as soon as its life begins.
    pub given_up: OnceLock<Weak<Log>>,
    /// What was recorded before a removal, and at which step of this disk.
    pub recorded: Mutex<Vec<(u64, LogState)>>,
    pub disk: OnceLock<Sim>,
    pub queue: Mutex<Vec<BackgroundWork>>,
}

impl EpochGate for TestGate {
    fn enter(&self) -> Result<i32> {
        if self.refuse.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::StorageFull, "refused by the test"));
        }
        self.entered.fetch_add(1, Ordering::SeqCst);
        if let Some(log) = self.given_up.get().and_then(Weak::upgrade) {
            log.give_up(&lock_lost());
        }
        Ok(i32::try_from(self.epoch.load(Ordering::SeqCst)).unwrap())
    }

    fn record(&self, log: &Log) -> Result<()> {
        if self.refuse.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::StorageFull, "refused by the test"));
        }
        let step = self.disk.get().map_or(0, Sim::steps);
        let state = log.state()?;
        self.recorded.lock().push((step, state));
        Ok(())
    }

    fn work(&self, work: BackgroundWork) {
        self.queue.lock().push(work);
    }
}

pub(super) fn lock_lost() -> Error {
    Error::new(ErrorKind::Locked, "another program has the directory")
}

/// One log and all around it.
pub(super) struct Bench {
    pub storage: Arc<dyn Storage>,
    pub clock: VirtualClock,
    pub gate: Arc<TestGate>,
    pub env: Arc<LogEnv>,
    pub config: LogConfig,
    pub root: PathBuf,
    _temp: Option<tempfile::TempDir>,
}

impl Bench {
    pub fn heap() -> Bench {
        let storage: Arc<dyn Storage> = Arc::new(Heap::new());
        storage.create_dir(Path::new("/logs")).unwrap();
        Bench::on(storage, PathBuf::from("/logs"), None)
    }

    pub fn files() -> Bench {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().to_path_buf();
        Bench::on(Arc::new(Fs::new()), root, Some(temp))
    }

    /// The same test on memory and on real files.
    pub fn both(test: impl Fn(&mut Bench)) {
        test(&mut Bench::heap());
        test(&mut Bench::files());
    }

    pub fn on(storage: Arc<dyn Storage>, root: PathBuf, temp: Option<tempfile::TempDir>) -> Bench {
        let clock = VirtualClock::manual().starting_at(START_MS);
        let gate = Arc::new(TestGate::default());
        let env = Arc::new(LogEnv {
            producer_expiration_ms: 86_400_000,
            cut_damage: false,
            storage: storage.clone(),
            gate: gate.clone(),
            counters: Arc::new(LogCounters::default()),
            mapped: MappedLimit::new(4),
            seed: 7,
            uncompressed_max: crate::record::DECOMPRESSED_MAX,
            probe: crate::probe::Probe::default(),
            clock: clock.clock(),
        });
        let config = LogConfig { segment_bytes: 1 << 20, ..LogConfig::default() };
        Bench { storage, clock, gate, env, config, root, _temp: temp }
    }

    pub fn identity(&self) -> LogIdentity {
        LogIdentity {
            topic: "orders".into(),
            partition: 0,
            topic_id: TopicId::from_random([9; 16]),
            dir: self.root.join("orders-0"),
        }
    }

    /// What the owner's state file would tell a reader beside it.
    pub fn look_again(&self) -> LookAgain {
        let gate = self.gate.clone();
        let told = Mutex::new(0);
        LookAgain(Box::new(move || {
            let recorded: Vec<_> = gate.recorded.lock().clone();
            let before = std::mem::replace(&mut *told.lock(), recorded.len());
            let newest = recorded.get(before..)?.last()?;
            Some((newest.1.clone(), Trust::SameBoot))
        }))
    }

    /// A log without a folder.
    pub fn new_log(&self) -> Arc<Log> {
        self.open(LogState::default(), Trust::New)
    }

    pub fn open(&self, state: LogState, trust: Trust) -> Arc<Log> {
        Log::new(self.env.clone(), self.identity(), self.config.clone(), state, trust)
    }

    pub fn now_ms(&self) -> i64 {
        self.clock.now().wall_ms
    }

    pub fn options(&self) -> AppendOptions {
        AppendOptions::client(self.now_ms())
    }

    /// Does all announced work, and what that announces.
    pub fn run_work(&self) {
        loop {
            let work = std::mem::take(&mut *self.gate.queue.lock());
            if work.is_empty() {
                return;
            }
            for work in work {
                work.run().unwrap();
            }
        }
    }

    pub fn append(&self, log: &Log, value: &[u8]) -> Appended {
        self.append_at(log, value, self.now_ms())
    }

    pub fn append_at(&self, log: &Log, value: &[u8], timestamp: i64) -> Appended {
        let record = RecordInput { timestamp, key: Some(b"k"), value: Some(value), headers: &[] };
        log.append(&record, self.options()).unwrap()
    }

    /// The names in the partition's folder.
    pub fn names(&self) -> Vec<String> {
        let entries = self.storage.list(&self.identity().dir).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }
}

/// Every record from `from` on: offset, timestamp, value.
pub(super) fn read_all(log: &Log, from: i64) -> Vec<(i64, i64, Vec<u8>)> {
    let mut cursor = Cursor::new(from);
    let mut found = Vec::new();
    loop {
        let chunk = log.read(&mut cursor, 1 << 16, IsolationLevel::ReadUncommitted).unwrap();
        if chunk.is_empty() {
            return found;
        }
        let mut rest = chunk.bytes();
        while !rest.is_empty() {
            let batch = RecordBatch::parse(rest).unwrap();
            batch.check_crc().unwrap();
            let mut scratch = Vec::new();
            for record in batch.records(&mut scratch).unwrap() {
                let record = record.unwrap();
                if record.offset() >= from {
                    let value = record.value().unwrap_or(b"").to_vec();
                    found.push((record.offset(), record.timestamp(), value));
                }
            }
            rest = &rest[batch.bytes().len()..];
        }
    }
}
