//! The runtime over a toy shard, which adds numbers up, and a topic in memory: what a coordinator
//! may rely on, whatever it coordinates.

use super::runtime::{CoordinatorHost, CoordinatorRuntime, RuntimeParts, Scope};
use super::writer::{Begun, Durable, PartitionWriter, PendingSync, Stored};
use crate::broker::background::Timers;
use crate::broker::health::HealthLog;
use crate::coordinator::{
    CoordinatorResult, CoordinatorShard, EncodedRecords, ShardAppend, TransactionStamp,
};
use crate::error::{Error, ErrorKind, Result};
use crate::log::Marker;
use crate::record::{BatchBuilder, BatchFault, Codec, RecordBatch, RecordInput, Stamp};
use crate::sync::{Arc, Mutex, Rank};
use crate::time::{Now, Signal, VirtualClock};
use std::collections::BTreeMap;
use std::time::Duration;

/// One number more for a key.
#[derive(Debug)]
struct Add(Arc<str>, i64);

impl ShardAppend for Add {
    fn partition(&self) -> i32 {
        i32::from(&*self.0 == "other")
    }

    fn subject(&self) -> String {
        format!("key {}", self.0)
    }

    fn encode(&self, into: &mut EncodedRecords) {
        let value = self.1.to_string();
        into.push(
            |key| key.extend_from_slice(self.0.as_bytes()),
            |out| {
                out.extend_from_slice(value.as_bytes());
                true
            },
        );
    }
}

/// Sums by key, one more of which falls due.
#[derive(Debug, Default)]
struct Sums {
    sums: BTreeMap<Arc<str>, i64>,
    due: Option<Duration>,
    moved: Vec<Arc<str>>,
    events: Vec<String>,
}

impl Sums {
    fn add(&mut self, key: &str, by: i64) -> CoordinatorResult<i64, Add> {
        let sum = self.sums.get(key).copied().unwrap_or(0) + by;
        CoordinatorResult { response: sum, appends: vec![Add(key.into(), by)] }
    }
}

impl CoordinatorShard for Sums {
    type Append = Add;
    type Event = String;

    fn partition_of(&self, key: &str) -> i32 {
        i32::from(key == "other")
    }

    fn state_of(&self, partition: i32) -> Vec<Add> {
        let kept = self.sums.iter().filter(|(key, _)| self.partition_of(key) == partition);
        kept.map(|(key, sum)| Add(key.clone(), *sum)).collect()
    }

    fn replay_batch(
        &mut self,
        _: i32,
        batch: &RecordBatch<'_>,
        scratch: &mut Vec<u8>,
    ) -> std::result::Result<Vec<(i64, String)>, BatchFault> {
        let mut unreadable = Vec::new();
        for record in batch.records(scratch)? {
            let record = record?;
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let key = text(record.key().unwrap_or_default());
            match text(record.value().unwrap_or_default()).parse::<i64>() {
                Ok(by) => *self.sums.entry(key.into()).or_default() += by,
                Err(fault) => unreadable.push((record.offset(), fault.to_string())),
            }
        }
        Ok(unreadable)
    }

    fn applied(&mut self, append: Add, base_offset: i64, _: Now) {
        self.events.push(format!("{} by {} at {base_offset}", append.0, append.1));
        *self.sums.entry(append.0.clone()).or_default() += append.1;
        self.moved.push(append.0);
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.due
    }

    fn expire(&mut self, now: Now) -> CoordinatorResult<(), Add> {
        let due = self.due.take_if(|due| *due <= now.mono);
        CoordinatorResult {
            response: (),
            appends: due.map(|_| Add("due".into(), 1)).into_iter().collect(),
        }
    }

    fn take_moved(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.moved)
    }

    fn take_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }
}

/// Two partitions that outlive their runtime.
#[derive(Debug, Default)]
struct Disk {
    batches: [Vec<Vec<u8>>; 2],
    full: bool,
    must_sync: bool,
    durable: [i64; 2],
}

#[derive(Debug, Clone)]
struct Memory {
    disk: Arc<Mutex<Disk>>,
    read: [usize; 2],
}

#[derive(Debug)]
struct Partition(Arc<Mutex<Disk>>, usize);

impl Durable for Partition {
    fn make_durable(&self, upto: i64) -> Result<()> {
        self.0.lock().durable[self.1] = upto;
        Ok(())
    }
}

impl PartitionWriter for Memory {
    fn topic(&self) -> &str {
        "sums"
    }

    fn begin_reading(&mut self) -> Result<Option<Begun>> {
        Ok(Some(Begun { partitions: 2, anew: self.read == [0, 0] }))
    }

    fn read_on(
        &mut self,
        partition: i32,
        visit: &mut dyn FnMut(&RecordBatch<'_>) -> Result<()>,
    ) -> Result<()> {
        let batches = self.disk.lock().batches[partition as usize].clone();
        for bytes in &batches[self.read[partition as usize]..] {
            visit(&RecordBatch::parse(bytes).map_err(|fault| fault.into_error())?)?;
        }
        self.read[partition as usize] = batches.len();
        Ok(())
    }

    fn pass(&mut self, partition: i32, offset: i64) -> Result<bool> {
        self.read[partition as usize] = usize::try_from(offset).unwrap();
        Ok(true)
    }

    fn end_reading(&mut self, _: i32) {}

    fn append_marker(&mut self, _: i32, _: Marker, _: Now) -> Result<Stored> {
        Err(Error::new(ErrorKind::UnsupportedVersion, "numbers are in no transaction"))
    }

    fn append(
        &mut self,
        partition: i32,
        records: &EncodedRecords,
        _: Option<TransactionStamp>,
        _: Now,
    ) -> Result<Stored> {
        let mut disk = self.disk.lock();
        if disk.full {
            return Err(Error::new(ErrorKind::StorageFull, "no space left"));
        }
        let batches = &mut disk.batches[partition as usize];
        let mut builder = BatchBuilder::new(Codec::None, None)?;
        for (key, value) in records.iter() {
            builder.append(&RecordInput { key: Some(key), value, ..RecordInput::default() })?;
        }
        let base_offset = i64::try_from(batches.len()).unwrap();
        batches.push(builder.finish(&Stamp::plain(base_offset, 0))?.to_vec());
        let log = Arc::new(Partition(self.disk.clone(), partition as usize));
        let sync = PendingSync { log, upto: base_offset + 1 };
        Ok(Stored { base_offset, must_sync: disk.must_sync, sync })
    }

    fn forget(&mut self) {
        self.read = [0, 0];
    }
}

/// Keeps what it is told.
#[derive(Debug, Clone, Default)]
struct Host(Arc<Mutex<Vec<String>>>);

impl CoordinatorHost<Sums> for Host {
    fn new_shard(&self) -> Sums {
        Sums::default()
    }

    fn loaded(&self, shard: &mut Sums, _: &[i32], now: Now) {
        shard.due = Some(now.mono + Duration::from_secs(5));
    }

    fn show(&self, events: &[String]) {
        self.0.lock().extend(events.iter().map(|event| format!("shown {event}")));
    }

    fn tell(&self, events: &[String]) {
        self.0.lock().extend(events.iter().map(|event| format!("told {event}")));
    }
}

struct World {
    clock: VirtualClock,
    timers: Arc<Timers>,
    health: Arc<HealthLog>,
    host: Host,
    disk: Arc<Mutex<Disk>>,
}

impl World {
    fn new() -> World {
        World {
            clock: VirtualClock::manual(),
            timers: Arc::default(),
            health: Arc::default(),
            host: Host::default(),
            disk: Arc::default(),
        }
    }

    fn open(&self, writes: bool, settled: bool) -> Arc<CoordinatorRuntime<Sums, Memory>> {
        CoordinatorRuntime::new(RuntimeParts {
            rank: Rank::Groups,
            clock: self.clock.clock(),
            timers: self.timers.clone(),
            health: self.health.clone(),
            host: Box::new(self.host.clone()),
            writer: Memory { disk: self.disk.clone(), read: [0, 0] },
            writes,
            settled,
            counters: Arc::default(),
        })
    }
}

fn sum(runtime: &CoordinatorRuntime<Sums, Memory>, key: &str) -> Option<i64> {
    runtime.read(|sums, _| sums.sums.get(key).copied()).unwrap()
}

#[test]
fn what_was_stored_is_there_after_a_restart_and_what_was_not_never_was() {
    let world = World::new();
    let runtime = world.open(true, true);
    assert_eq!(runtime.write(|sums, _| sums.add("a", 2)).unwrap(), 2);
    assert_eq!(runtime.write(|sums, _| sums.add("other", 7)).unwrap(), 7);
    world.disk.lock().full = true;
    let refused = runtime.write(|sums, _| sums.add("a", 40)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    assert_eq!(sum(&runtime, "a"), Some(2));
    world.disk.lock().full = false;

    let again = world.open(true, true);
    assert_eq!((sum(&again, "a"), sum(&again, "other")), (Some(2), Some(7)));
    let told = world.host.0.lock().clone();
    let both =
        ["shown a by 2 at 0", "told a by 2 at 0", "shown other by 7 at 0", "told other by 7 at 0"];
    assert_eq!(told, both);
}

#[test]
fn an_answer_waits_for_its_sync_where_the_topic_wants_one() {
    let world = World::new();
    let runtime = world.open(true, true);
    runtime.write(|sums, _| sums.add("a", 1)).unwrap();
    assert_eq!(world.disk.lock().durable, [0, 0]);
    world.disk.lock().must_sync = true;
    runtime.write(|sums, _| sums.add("a", 1)).unwrap();
    assert_eq!(world.disk.lock().durable, [2, 0]);
}

#[test]
fn what_falls_due_is_stored_by_the_timer_or_stays_owed_and_is_told() {
    let world = World::new();
    let runtime = world.open(true, true);
    runtime.write(|sums, _| sums.add("a", 1)).unwrap();
    world.disk.lock().full = true;
    world.clock.advance(Duration::from_secs(6));
    world.timers.step(world.clock.now());
    assert_eq!(sum(&runtime, "due"), None);
    assert!(format!("{:?}", world.health.report(Vec::new())).contains("key due is not stored"));

    world.disk.lock().full = false;
    let again = world.open(true, true);
    assert_eq!(sum(&again, "a"), Some(1));
    world.clock.advance(Duration::from_secs(6));
    world.timers.step(world.clock.now());
    assert_eq!(sum(&again, "due"), Some(1));
}

#[test]
fn waiters_are_rung_under_their_key_alone() {
    let world = World::new();
    let runtime = world.open(true, true);
    let (a, b) = (Arc::new(Signal::new()), Arc::new(Signal::new()));
    runtime.watch(&"a".into(), &a);
    runtime.watch(&"b".into(), &b);
    runtime.write(|sums, _| sums.add("a", 1)).unwrap();
    assert_eq!((a.is_rung(), b.is_rung()), (true, false));
}

#[test]
fn a_reader_beside_the_owner_reads_on_and_stores_nothing() {
    let world = World::new();
    let owner = world.open(true, true);
    let reader = world.open(false, true);
    owner.write(|sums, _| sums.add("a", 1)).unwrap();
    assert_eq!(sum(&reader, "a"), Some(1));
    owner.write(|sums, _| sums.add("a", 5)).unwrap();
    assert_eq!(sum(&reader, "a"), Some(6));
}

#[test]
fn what_is_owed_is_durable_before_anybody_else_gets_in_and_a_failure_is_tried_again() {
    let world = World::new();
    let runtime = world.open(true, false);
    world.disk.lock().full = true;
    let owe = |runtime: &CoordinatorRuntime<Sums, Memory>| {
        runtime.settle(Scope::All, |settling| {
            let owed = settling.shard().add("a", 3).appends;
            settling.store(owed)
        })
    };
    assert_eq!(owe(&runtime).unwrap_err().kind(), ErrorKind::StorageFull);
    world.disk.lock().full = false;
    owe(&runtime).unwrap();
    owe(&runtime).unwrap();
    assert_eq!((sum(&runtime, "a"), world.disk.lock().durable), (Some(3), [1, 0]));
}

#[test]
fn what_is_asked_of_one_key_reads_its_partition_alone_and_each_is_read_once() {
    let world = World::new();
    let runtime = world.open(true, true);
    for n in 1..=3 {
        runtime.write(|sums, _| sums.add("a", n)).unwrap();
        runtime.write(|sums, _| sums.add("other", 10 * n)).unwrap();
    }
    let of = |runtime: &CoordinatorRuntime<Sums, Memory>, key: &str| {
        runtime.read_of(key, |sums, _| Ok(sums.sums.clone())).unwrap()
    };
    let again = world.open(true, true);
    assert_eq!(again.partition_of("other").unwrap(), 1);
    assert_eq!(of(&again, "a"), [("a".into(), 6)].into());
    again.write_of("a", |sums, _| sums.add("a", 1)).unwrap();
    assert_eq!(of(&again, "a"), [("a".into(), 7)].into(), "the other one is not read yet");
    let both: BTreeMap<Arc<str>, i64> = [("a".into(), 7), ("other".into(), 60)].into();
    assert_eq!(of(&again, "other"), both);
    again.load_all().unwrap();
    assert_eq!(again.read(|sums, _| sums.sums.clone()).unwrap(), both);

    let stepwise = world.open(true, true);
    stepwise.load_all().unwrap();
    assert_eq!(stepwise.read_of("a", |sums, _| Ok(sums.sums.clone())).unwrap(), both);
    let beside = world.open(false, true);
    assert_eq!(of(&beside, "a"), [("a".into(), 7)].into());
    again.write_of("a", |sums, _| sums.add("a", 1)).unwrap();
    assert_eq!(of(&beside, "a"), [("a".into(), 8)].into(), "it reads on");
}
