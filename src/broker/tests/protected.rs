//! Groups that retention waits for: `retention.protected.groups`.

use super::{commit, committed};
use crate::storage::{Heap, Storage};
use crate::sync::Arc;
use crate::time::VirtualClock;
use crate::{
    Broker, BrokerOptions, ConfigChange, ErrorKind, ProducerConfig, ProducerRecord, TopicConfig,
};
use std::time::Duration;

struct World {
    storage: Arc<dyn Storage>,
    clock: VirtualClock,
    broker: Broker,
}

impl World {
    /// A topic `t` of two partitions with segments of five records, ten in each partition, which
    /// `config` retains.
    fn new(config: TopicConfig) -> World {
        let storage: Arc<dyn Storage> = Arc::new(Heap::new());
        let clock = VirtualClock::stepping();
        let broker = open(&storage, &clock);
        broker.admin().create_topic("t", 2, config.segment_bytes(400)).unwrap();
        let world = World { storage, clock, broker };
        world.send(10);
        world
    }

    fn send(&self, records: usize) {
        let producer = self.broker.producer(ProducerConfig::default()).unwrap();
        for n in 0..2 * records {
            let record = ProducerRecord::new("t").partition((n % 2) as i32).key("k").value("v");
            producer.send_sync(record).unwrap();
        }
    }

    /// Lets a pass of retention go by, and returns where both partitions begin.
    fn retain(&self) -> [i64; 2] {
        self.clock.advance(Duration::from_secs(301));
        self.starts()
    }

    fn starts(&self) -> [i64; 2] {
        let topic = self.broker.inner().topic("t").unwrap();
        [0, 1].map(|number| topic.partition(number).unwrap().log_start_offset().unwrap())
    }

    fn reopen(self) -> World {
        self.broker.close().unwrap();
        let World { storage, clock, .. } = self;
        let broker = open(&storage, &clock);
        World { storage, clock, broker }
    }

    /// Group, committed offset and partition of what is held back.
    fn held(&self) -> Vec<(i32, String, Option<i64>)> {
        let health = self.broker.health();
        assert!(health.is_ok(), "{health:?}");
        let row = |(place, held): (&crate::TopicPartition, &crate::HeldRetention)| {
            assert!(held.segments() > 0 && held.bytes() > 0);
            (place.partition(), held.group().to_owned(), held.committed_offset())
        };
        health.held_retention().map(row).collect()
    }

    fn alter(&self, key: &str, value: &str) {
        let change = ConfigChange::Set(key.into(), value.into());
        self.broker.admin().alter_topic("t", &[change]).unwrap();
    }
}

fn open(storage: &Arc<dyn Storage>, clock: &VirtualClock) -> Broker {
    let options = BrokerOptions::from_properties([("offsets.retention.minutes", "60")]).unwrap();
    options.clock(clock.clock()).storage(storage.clone()).open("/data").unwrap()
}

fn by_size() -> TopicConfig {
    TopicConfig::default().retention_bytes(0)
}

fn by_age() -> TopicConfig {
    TopicConfig::default().retention_ms(1000)
}

fn protected(config: TopicConfig) -> TopicConfig {
    config.retention_protected_groups(&["billing", "audit"])
}

#[test]
fn without_the_option_everything_goes_and_with_it_nothing_that_was_not_committed() {
    for config in [by_size(), by_age(), by_size().cleanup_policy(&["compact", "delete"])] {
        let world = World::new(config.clone());
        assert_eq!(world.retain(), [10, 10]);
        assert_eq!(world.held(), []);
        let world = World::new(protected(config));
        assert_eq!(world.retain(), [0, 0], "nobody has committed anything");
        let nobody = |number| (number, "billing".to_owned(), None);
        assert_eq!(world.held(), [nobody(0), nobody(1)]);
        let warnings = world.broker.health();
        assert!(warnings.warnings().any(|text| {
            text.contains("t-0") && text.contains("\"billing\", which has committed nothing")
        }));
    }
}

#[test]
fn retention_follows_the_slowest_protected_group_in_each_partition() {
    let world = World::new(protected(by_size()));
    commit(&world.broker, "billing", 0, 10);
    commit(&world.broker, "audit", 0, 7);
    commit(&world.broker, "billing", 1, 3);
    commit(&world.broker, "somebody", 1, 10);
    let starts = world.retain();
    assert!((1..=7).contains(&starts[0]) && starts[1] == 0, "{starts:?}");
    let held = world.held();
    assert_eq!(held[0], (0, "audit".to_owned(), Some(7)));
    assert_eq!(held[1], (1, "audit".to_owned(), None), "no commit is less than any");
    let world = world.reopen();
    assert_eq!(world.retain(), starts, "what is committed is kept over restarts");
    assert_eq!(world.held(), held);
    commit(&world.broker, "audit", 0, 10);
    commit(&world.broker, "audit", 1, 10);
    assert_eq!(world.retain()[0], 10, "the active segment goes, too");
    assert_eq!(world.held(), [(1, "billing".to_owned(), Some(3))]);
    world.send(5);
    let beyond = world.retain();
    assert_eq!(beyond[0], 10);
    assert_eq!(world.held()[0], (0, "billing".to_owned(), Some(10)));
    let told = world.broker.admin().protected_offset("t", 1).unwrap().unwrap();
    assert_eq!((told.group(), told.committed_offset()), ("billing", Some(3)));
    // Beside the owner, too.
    let attached = BrokerOptions::new().clock(world.clock.clock()).storage(world.storage.clone());
    let attached = attached.attach("/data").unwrap();
    assert_eq!(attached.admin().protected_offset("t", 1).unwrap(), Some(told));
}

#[test]
fn the_option_can_be_set_and_taken_back_and_has_a_default_for_all_topics() {
    let world = World::new(by_size());
    world.alter("retention.protected.groups", " billing ,, audit");
    assert_eq!(world.retain(), [0, 0]);
    world.alter("retention.protected.groups", "");
    assert_eq!(world.retain(), [10, 10]);
    assert_eq!(world.held(), []);
    let property = [("log.retention.protected.groups", "everybody")];
    let options = BrokerOptions::from_properties(property).unwrap();
    let clock = VirtualClock::stepping();
    let broker = options.clock(clock.clock()).in_memory().unwrap();
    broker.admin().create_topic("t", 2, by_size().segment_bytes(400)).unwrap();
    let world = World { storage: world.storage, clock, broker };
    world.send(10);
    assert_eq!(world.retain(), [0, 0]);
    assert_eq!(world.held()[0], (0, "everybody".to_owned(), None));
    let own = TopicConfig::default().retention_protected_groups(&["a", "b"]);
    assert_eq!(own.get("retention.protected.groups"), Some("a,b"));
}

#[test]
fn a_protected_group_that_is_deleted_holds_everything_and_its_offsets_do_not_expire() {
    let world = World::new(protected(by_size()));
    for group in ["billing", "audit", "somebody"] {
        commit(&world.broker, group, 0, 10);
        commit(&world.broker, group, 1, 10);
    }
    world.clock.advance(Duration::from_secs(3 * 3600));
    assert_eq!(committed(&world.broker, "somebody"), [], "an hour is over");
    assert_eq!(committed(&world.broker, "audit"), [(0, 10), (1, 10)]);
    assert_eq!(world.starts(), [10, 10]);
    world.broker.admin().delete_group("audit").unwrap();
    world.send(10);
    assert_eq!(world.retain(), [10, 10]);
    assert_eq!(world.held()[0], (0, "audit".to_owned(), None));
    // Where the option goes, offsets expire again.
    world.alter("retention.protected.groups", "audit");
    world.clock.advance(Duration::from_secs(3 * 3600));
    assert_eq!(committed(&world.broker, "billing"), []);
}

#[test]
fn who_asks_for_a_deletion_gets_it_and_it_is_told() {
    let world = World::new(protected(by_size()));
    let admin = world.broker.admin();
    commit(&world.broker, "billing", 0, 10);
    commit(&world.broker, "audit", 0, 10);
    admin.delete_records("t", 0, 8).unwrap();
    let told = |world: &World| {
        let health = world.broker.health();
        health.warnings().filter(|text| text.contains("deleted on request")).count()
    };
    assert_eq!(told(&world), 0, "both had read it");
    admin.delete_records("t", 1, 7).unwrap();
    assert_eq!(told(&world), 1);
    assert_eq!(world.starts(), [8, 7]);
    let before = admin.partition_size("t", 1).unwrap().batch_bytes();
    assert_eq!(world.retain()[1], 7, "no more than was asked for");
    assert!(admin.partition_size("t", 1).unwrap().batch_bytes() < before, "segments went");
    admin.delete_topic("t").unwrap();
    assert_eq!(world.held(), []);
    let gone = admin.protected_offset("t", 0).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::UnknownTopicOrPartition);
}

#[test]
fn compaction_asks_nobody() {
    let policy = TopicConfig::default().cleanup_policy(&["compact", "delete"]);
    let world = World::new(protected(policy));
    let cleaned = world.broker.admin().compact_now("t").unwrap();
    assert_eq!(cleaned[0].records_removed(), 9);
    assert_eq!(world.starts(), [0, 0]);
}

/// What a transaction is about to commit is not committed: it counts once the transaction is, and
/// never where it is aborted.
#[test]
fn offsets_of_an_open_transaction_hold_until_it_is_committed() {
    for commits in [true, false] {
        let world = World::new(protected(by_size()));
        let config = ProducerConfig::default().transactional_id("x");
        let config = config.transaction_timeout_ms(900_000);
        let producer = world.broker.producer(config).unwrap();
        producer.init_transactions().unwrap();
        for group in ["billing", "audit"] {
            commit(&world.broker, group, 0, 2);
            commit(&world.broker, group, 1, 10);
        }
        producer.begin_transaction().unwrap();
        let at = crate::TopicPartition::new("t", 0);
        let offsets = [(at, crate::OffsetAndMetadata::new(10))].into_iter().collect();
        for group in ["billing", "audit"] {
            let group = crate::GroupMetadata::new(group);
            producer.send_offsets_to_transaction(&offsets, &group).unwrap();
        }
        world.retain();
        assert_eq!(world.starts(), [0, 10], "a segment of five goes by 5");
        assert_eq!(world.held(), [(0, "billing".to_owned(), Some(2))]);
        match commits {
            true => producer.commit_transaction().unwrap(),
            false => producer.abort_transaction().unwrap(),
        }
        assert_eq!(world.retain(), [if commits { 10 } else { 0 }, 10]);
        assert_eq!(world.held().is_empty(), commits);
    }
}
