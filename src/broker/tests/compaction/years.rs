//! An event bus that is used for long: whatever was committed, sent and expired meanwhile, its
//! directory is no larger than it was after a few weeks, and no group reads more at its first use.
//!
//! Fault: something grows with time and not with what is kept. Path: commits, rolls, retention,
//! compaction and expiry, all by the broker's own schedules, with restarts in between.

use crate::broker::tests::commit;
use crate::group::partition_for;
use crate::storage::{Heap, Storage};
use crate::sync::Arc;
use crate::time::VirtualClock;
use crate::topic::OFFSETS_TOPIC;
use crate::{Broker, BrokerOptions, ProducerConfig, ProducerRecord, TopicConfig};
use std::path::Path;
use std::time::Duration;

const DAY: u64 = 86_400;
const GROUPS: usize = 20;
const PARTITIONS: i32 = 4;
/// An active segment, and one that was closed since the last look, of the default size.
const FIRST_USE_MAX: u64 = 512 << 10;

/// Six files for each of 50 partitions of the offsets topic, three more where a segment is closed,
/// eight days of four partitions, and what belongs to the directory.
const FILES_MAX: usize = 50 * 9 + 4 * 10 * 5 + 30;

/// How long it is used, in seconds, and how often each group commits.
fn scale() -> [(u64, u64); 2] {
    match std::env::var("TOPICLITE_SCALE").as_deref() {
        Ok("ci") => [(365 * DAY, 600), (DAY, 1)],
        Ok("long") => [(365 * DAY, 60), (7 * DAY, 1)],
        _ => [(100 * DAY, 4 * 3600), (1200, 1)],
    }
}

fn open(storage: &Heap, clock: &VirtualClock) -> Broker {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    let properties = [
        ("offsets.retention.minutes", "10080"),
        ("log.cleaner.backoff.ms", "3600000"),
        ("log.retention.check.interval.ms", "600000"),
    ];
    let options = BrokerOptions::from_properties(properties).unwrap();
    options.clock(clock.clock()).storage(storage).open("/bus").unwrap()
}

/// Bytes and files below a folder.
fn held(storage: &Heap, dir: &Path) -> (u64, usize) {
    let mut sum = (0, 0);
    for entry in storage.list(dir).unwrap() {
        let (bytes, files) = match entry.is_dir {
            true => held(storage, &dir.join(&entry.name)),
            false => (entry.len, 1),
        };
        sum = (sum.0 + bytes, sum.1 + files);
    }
    sum
}

struct Bus {
    storage: Heap,
    clock: VirtualClock,
    broker: Broker,
}

impl Bus {
    /// Events are kept for seven segments of `segment_ms`.
    fn new(segment_ms: u32) -> Bus {
        let (storage, clock) = (Heap::new(), VirtualClock::stepping());
        let broker = open(&storage, &clock);
        let kept = TopicConfig::default()
            .retention_ms(7 * i64::from(segment_ms))
            .segment_ms(segment_ms.into());
        broker.admin().create_topic("t", PARTITIONS, kept).unwrap();
        let states = TopicConfig::default().cleanup_policy(&["compact"]).segment_bytes(64 << 10);
        broker.admin().create_topic("states", 1, states).unwrap();
        Bus { storage, clock, broker }
    }

    fn size(&self) -> (u64, usize) {
        held(&self.storage, Path::new("/bus"))
    }

    /// Runs until `upto`, each group commits every `step` seconds, a group that is not heard of
    /// again once a day.
    fn run(&self, from: u64, upto: u64, step: u64) {
        let producer = self.broker.producer(ProducerConfig::default()).unwrap();
        for at in (from..upto).step_by(usize::try_from(step).unwrap()) {
            let n = at / step;
            let partition = i32::try_from(n % 4).unwrap();
            let event = ProducerRecord::new("t").value(vec![7; 200]).partition(partition);
            producer.send_sync(event).unwrap();
            let key = (n % 100).to_be_bytes();
            producer.send_sync(ProducerRecord::new("states").key(key).value("state")).unwrap();
            for group in 0..GROUPS {
                commit(&self.broker, &format!("g{group}"), partition, i64::try_from(n).unwrap());
            }
            if at / DAY != (at + step) / DAY {
                commit(&self.broker, &format!("once-{}", at / DAY), 0, 1);
            }
            self.clock.advance(Duration::from_secs(step));
        }
    }

    /// The broker is closed and opened; a first use reads what is left of one partition.
    fn reopened(self) -> Bus {
        self.broker.close().unwrap();
        let broker = open(&self.storage, &self.clock);
        let group = "g7";
        let known = broker.inner().groups().unwrap().list_offsets(group).unwrap();
        assert_eq!(known.len(), 4);
        let read = broker.health().counter("coordinator_bytes_loaded");
        let number = partition_for(group, 50);
        let stored = broker.admin().partition_size(OFFSETS_TOPIC, number).unwrap();
        assert_eq!(read, stored.batch_bytes());
        assert!(read <= FIRST_USE_MAX, "{read} bytes were read for one group");
        Bus { broker, ..self }
    }
}

fn stays_flat(length: u64, step: u64, segment_ms: u32) {
    let mut bus = Bus::new(segment_ms);
    let parts = 20;
    let mut sizes = Vec::new();
    for part in 0..parts {
        bus.run(length * part / parts, length * (part + 1) / parts, step);
        sizes.push(bus.size());
        bus = bus.reopened();
    }
    let most = |sizes: &[(u64, usize)]| {
        let bytes = sizes.iter().map(|(bytes, _)| *bytes).max().unwrap();
        (bytes, sizes.iter().map(|(_, files)| *files).max().unwrap())
    };
    // By then the first events are gone, and every partition that is used was rolled.
    let (early, late) = (most(&sizes[3..8]), most(&sizes[8..]));
    let active = 50 * (256 << 10);
    assert!(late.0 <= early.0 + active / 4, "bytes: {early:?}, then {late:?}, of {sizes:?}");
    // Groups of a day come to every partition by and by.
    assert!(late.1 < FILES_MAX, "files: {late:?}, of {sizes:?}");
    assert!(late.0 < 32 << 20, "{late:?}");
    let groups = bus.broker.admin().list_groups().unwrap().len();
    assert!(groups <= GROUPS + 9, "{groups} groups: those of more than a week ago are gone");
    assert!(bus.broker.health().is_ok(), "{:?}", bus.broker.health());
}

#[test]
fn a_year_of_an_event_bus_leaves_its_directory_as_small_as_a_month() {
    let [(length, step), _] = scale();
    stays_flat(length, step, 86_400_000);
}

#[test]
fn commits_each_second_leave_the_directory_small() {
    let [_, (length, step)] = scale();
    stays_flat(length, step, 600_000);
}
