//! The directories that are changed: of ours one that was closed and one whose owner died, and
//! those that a real Kafka left.

use crate::doors::read;
use crate::judge::manifest::Case;
use crate::{AllSeen, Row, copied, judge};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use topiclite::time::VirtualClock;
use topiclite::{
    Broker, BrokerConfig, BrokerOptions, Codec, ConsumerConfig, OffsetReset, ProducerConfig,
    ProducerRecord, TopicConfig, TopicPartition,
};

/// A directory, and what is in it.
pub struct World {
    pub name: String,
    _home: tempfile::TempDir,
    dir: PathBuf,
    /// We wrote it, and closed it.
    pub ours: bool,
    wall_ms: i64,
    /// What is seen by who attaches.
    pub attached: AllSeen,
    /// What is seen by an owner, who ends what was open.
    pub owned: AllSeen,
    /// Every record that its files hold, those below the log starts included.
    pub written: BTreeSet<Row>,
}

impl World {
    fn of(name: &str, home: tempfile::TempDir, ours: bool, wall_ms: i64) -> World {
        let (attached, owned) = (AllSeen::new(), AllSeen::new());
        let (name, dir) = (name.to_owned(), home.path().join("data"));
        let written = BTreeSet::new();
        let mut world = World { name, _home: home, dir, ours, wall_ms, attached, owned, written };
        let copy = copied(world.dir());
        let data = copy.path().join("data");
        let places = || places(world.dir()).into_iter();
        let attached = read(&world.options().attach(&data).unwrap(), places(), false);
        let owned = read(&world.options().open(&data).unwrap(), places(), true);
        let copy = copied(world.dir());
        let data = copy.path().join("data");
        std::fs::remove_file(data.join("log-start-offset-checkpoint")).ok();
        let whole = read(&world.options().attach(&data).unwrap(), places(), false);
        world.written = whole.into_values().flat_map(|[all, _]| all.rows.into_values()).collect();
        (world.attached, world.owned) = (attached, owned);
        world
    }

    /// As it was left. Nobody opens it there.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn options(&self) -> BrokerOptions {
        let clock = VirtualClock::stepping().starting_at(self.wall_ms);
        // What is read is to stay.
        let config = BrokerConfig::default().producer_id_expiration_ms(u32::MAX >> 1);
        BrokerOptions::new().clock(clock.clock()).config(config)
    }
}

/// The partitions whose folders there are, but for those that change with each life.
fn places(dir: &Path) -> Vec<TopicPartition> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let names = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let names = names.map(|entry| entry.file_name().into_string().unwrap());
    let mut found: Vec<TopicPartition> = names
        .filter(|name| !name.starts_with("__") && !name.ends_with("-delete"))
        .filter_map(|name| TopicPartition::parse(&name))
        .collect();
    found.sort();
    found
}

/// All of them.
pub fn all() -> Vec<World> {
    let mut worlds = vec![ours(true), ours(false)];
    for case in Case::all(&judge::folders("dirs", "TOPICLITE_GOLDEN")) {
        if case.damage.is_none() && case.clean {
            let home = copied(&case.data);
            let world = World::of(&case.name, home, false, case.captured_at_ms);
            if world.attached.values().any(|seen| !seen[0].rows.is_empty()) {
                worlds.push(world);
            }
        }
    }
    worlds
}

const WALL_MS: i64 = 1_700_000_000_000;

fn ours(closed: bool) -> World {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let clock = VirtualClock::stepping().starting_at(WALL_MS);
    let broker = BrokerOptions::new().clock(clock.clock()).open(&dir).unwrap();
    create(&broker, "t", &[("internal.segment.bytes", "1500"), ("index.interval.bytes", "200")]);
    create(&broker, "x", &[("internal.segment.bytes", "1300"), ("index.interval.bytes", "200")]);
    let compact = [
        ("cleanup.policy", "compact"),
        ("internal.segment.bytes", "1400"),
        ("index.interval.bytes", "200"),
    ];
    create(&broker, "c", &compact);
    plain(&broker);
    transactions(&broker);
    keyed(&broker);
    commits(&broker);
    broker.flush().unwrap();
    let (name, home) = match closed {
        true => {
            broker.close().unwrap();
            ("ours, closed", home)
        }
        false => {
            // What was flushed is recorded as such at most a second later.
            clock.advance(std::time::Duration::from_secs(5));
            let copy = copied(&dir);
            drop(broker);
            ("ours, killed", copy)
        }
    };
    World::of(name, home, closed, WALL_MS + 10_000)
}

fn create(broker: &Broker, topic: &str, set: &[(&str, &str)]) {
    let config = TopicConfig::from_properties(set.iter().copied()).unwrap();
    broker.admin().create_topic(topic, 2, config).unwrap();
}

fn plain(broker: &Broker) {
    let codecs = [Codec::None, Codec::Gzip, Codec::Lz4, Codec::Snappy, Codec::Zstd];
    for number in 0..40 {
        let codec = codecs[number % codecs.len()];
        let producer = broker.producer(ProducerConfig::default().compression_type(codec)).unwrap();
        let records = (0..number % 4 + 1).map(|part| {
            let value = format!("{number:030} {part:030}");
            ProducerRecord::new("t").partition(number as i32 % 2).value(value).timestamp(WALL_MS)
        });
        for sent in producer.send_all(records).unwrap() {
            sent.wait().unwrap();
        }
    }
}

fn transactions(broker: &Broker) {
    let config = ProducerConfig::default().transactional_id("id");
    let producer = broker.producer(config).unwrap();
    producer.init_transactions().unwrap();
    for number in 0..14 {
        producer.begin_transaction().unwrap();
        for partition in [0, 1] {
            let value = format!("{number:070}");
            let record = ProducerRecord::new("x").partition(partition).value(value);
            producer.send(record.timestamp(WALL_MS)).unwrap().wait().unwrap();
        }
        match number % 3 {
            0 => producer.abort_transaction().unwrap(),
            _ => producer.commit_transaction().unwrap(),
        }
    }
    producer.close().unwrap();
}

fn keyed(broker: &Broker) {
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let send = |number: usize| {
        let record = ProducerRecord::new("c").partition(number as i32 % 2).timestamp(WALL_MS);
        let record = record.key(format!("key {}", number * 5 % 17)).value(format!("{number:070}"));
        producer.send_sync(record).unwrap();
    };
    (0..60).for_each(send);
    broker.admin().compact_now("c").unwrap();
    (60..64).for_each(send);
}

fn commits(broker: &Broker) {
    let config = ConsumerConfig::new("group").auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config.enable_auto_commit(false)).unwrap();
    let place = TopicPartition::new("t", 0);
    consumer.assign(std::slice::from_ref(&place)).unwrap();
    for offset in [3, 7, 9] {
        consumer.seek(&place, offset).unwrap();
        consumer.commit_sync().unwrap();
    }
}
