//! Our cleaner and a real one leave the same of the same directory: the same batches with the same
//! headers and records, the same empty ones, the same delete horizons, the same aborted rows and
//! the same progress. What the real one left is written to here, and cleaned by both once more.

use super::cleaning::Node;
use super::{dump, tools};
use crate::judge;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use topiclite::{
    Broker, BrokerOptions, Codec, ConfigChange, IsolationLevel, OffsetSpec, Producer,
    ProducerConfig, ProducerRecord, ReadFrom, TopicConfig,
};

const HOUR_MS: i64 = 3_600_000;
/// How many turns a topic is written to in a round; they lie over the last two hours.
const TURNS: i64 = 60;

/// One topic: its settings, and who writes to it.
struct Case {
    topic: &'static str,
    settings: &'static [(&'static str, &'static str)],
    /// Whether the settings have it cleaned.
    cleaned: bool,
    writers: &'static [Writer],
}

impl Case {
    fn all_settings(&self) -> Vec<(&'static str, &'static str)> {
        let often = [("min.cleanable.dirty.ratio", "0.01"), ("internal.segment.bytes", "4000")];
        let own = |name: &str| self.settings.iter().any(|(own, _)| *own == name);
        let often = often.into_iter().filter(|(name, _)| !own(name));
        self.settings.iter().copied().chain(often).collect()
    }
}

fn set(name: &str, value: &str) -> ConfigChange {
    ConfigChange::Set(name.into(), value.into())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// Without numbers.
    Plain(Codec),
    /// With numbers.
    Numbered(Codec),
    Committing(Codec),
    Aborting(Codec),
    /// Begins a transaction in the middle and does not end it.
    Open,
    /// Writes records without keys.
    Keyless,
}

use Writer::{Aborting, Committing, Keyless, Numbered, Open, Plain};

const COMPACT: (&str, &str) = ("cleanup.policy", "compact");
const BOTH: (&str, &str) = ("cleanup.policy", "compact,delete");
const KEPT: (&str, &str) = ("retention.ms", "-1");
const AT_ONCE: (&str, &str) = ("delete.retention.ms", "0");
const NEVER_BY_RATIO: (&str, &str) = ("min.cleanable.dirty.ratio", "1.0");
const MIXED: &[Writer] =
    &[Plain(Codec::None), Numbered(Codec::None), Committing(Codec::None), Aborting(Codec::None)];
const UNMARKED: &[Writer] = &[Plain(Codec::None), Numbered(Codec::None), Plain(Codec::Gzip)];
const PACKED: &[Writer] = &[
    Plain(Codec::Gzip),
    Numbered(Codec::Snappy),
    Committing(Codec::Lz4),
    Aborting(Codec::Zstd),
    Plain(Codec::Zstd),
    Numbered(Codec::Lz4),
];

const fn case(
    topic: &'static str,
    settings: &'static [(&'static str, &'static str)],
    writers: &'static [Writer],
) -> Case {
    Case { topic, settings, cleaned: true, writers }
}

const CASES: &[Case] = &[
    case("plain", &[COMPACT], &[Plain(Codec::None)]),
    case("plain-soon", &[COMPACT, AT_ONCE], &[Plain(Codec::None)]),
    case("numbered", &[COMPACT, AT_ONCE], &[Numbered(Codec::None), Numbered(Codec::None)]),
    case("mixed", &[COMPACT], MIXED),
    case("mixed-soon", &[COMPACT, AT_ONCE], MIXED),
    case("packed", &[COMPACT], PACKED),
    case("packed-soon", &[COMPACT, AT_ONCE], PACKED),
    case("only-aborts", &[COMPACT, AT_ONCE], &[Aborting(Codec::None), Aborting(Codec::Gzip)]),
    case("open", &[COMPACT, AT_ONCE], &[Numbered(Codec::None), Open, Committing(Codec::None)]),
    case("keyless", &[COMPACT, AT_ONCE], &[Keyless, Plain(Codec::None), Plain(Codec::Lz4)]),
    case("stamped", &[COMPACT, ("message.timestamp.type", "LogAppendTime")], PACKED),
    // No markers, which carry the clock.
    case("young", &[COMPACT, AT_ONCE, ("min.compaction.lag.ms", "3600000")], UNMARKED),
    case("late", &[COMPACT, NEVER_BY_RATIO, ("max.compaction.lag.ms", "3600000")], MIXED),
    Case {
        cleaned: false,
        ..case("waits", &[COMPACT, NEVER_BY_RATIO, ("max.compaction.lag.ms", "36000000")], MIXED)
    },
    case("both", &[BOTH, KEPT], MIXED),
];

/// Numbers that look like chance, and are the same each time.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}

fn first_seed() -> u64 {
    std::env::var("TOPICLITE_FIRST_SEED").map_or(1, |seed| seed.parse().unwrap())
}

fn open(data: &Path) -> Broker {
    let still = [("log.cleaner.enable", "false"), ("log.initial.task.delay.ms", "3600000")];
    let broker = BrokerOptions::from_properties(still).unwrap().open(data).unwrap();
    for case in CASES {
        if broker.admin().describe_topic(case.topic).is_err() {
            let config = TopicConfig::default().retention_ms(-1);
            broker.admin().create_topic(case.topic, 1, config).unwrap();
        }
        // What has no key is written before a topic is compacted.
        let keyless = case.writers.contains(&Keyless);
        let settings = case.all_settings().into_iter();
        let settings = settings.filter(|(name, _)| *name != "cleanup.policy" || !keyless);
        let changes: Vec<_> = settings.map(|(name, value)| set(name, value)).collect();
        broker.admin().alter_topic(case.topic, &changes).unwrap();
    }
    broker
}

/// Writes to every topic. Returns the producers whose transactions are open.
fn write(broker: &Broker, round: u64) -> Vec<Producer> {
    let mut open = Vec::new();
    for case in CASES {
        let name = case.topic.bytes().fold(0, |all, byte| all * 31 + u64::from(byte));
        let mut rng = Rng(name ^ (first_seed() << 32) ^ round);
        let producers: Vec<(Writer, Producer)> = case
            .writers
            .iter()
            .enumerate()
            .map(|(n, writer)| {
                let config = ProducerConfig::default().batch_size(2000);
                let config = match *writer {
                    Plain(codec) => config.compression_type(codec).enable_idempotence(false),
                    Numbered(codec) => config.compression_type(codec),
                    Committing(codec) | Aborting(codec) => config
                        .compression_type(codec)
                        .transactional_id(format!("{}-{n}", case.topic)),
                    Open => config.transactional_id("open").transaction_timeout_ms(900_000),
                    Keyless => config,
                };
                let producer = broker.producer(config).unwrap();
                if matches!(writer, Committing(_) | Aborting(_) | Open) {
                    producer.init_transactions().unwrap();
                }
                (*writer, producer)
            })
            .collect();
        for turn in 0..TURNS {
            let (writer, producer) = &producers[rng.below(producers.len())];
            take_turn(case.topic, *writer, producer, turn, &mut rng);
        }
        open.extend(producers.into_iter().filter(|(writer, _)| *writer == Open).map(|(_, p)| p));
    }
    open
}

fn take_turn(topic: &str, writer: Writer, producer: &Producer, turn: i64, rng: &mut Rng) {
    match writer {
        Committing(_) | Aborting(_) => {
            producer.begin_transaction().unwrap();
            for _ in 0..rng.below(3) {
                send(topic, producer, (turn, true), rng);
            }
            send(topic, producer, (turn, true), rng);
            // Now and then one ends the other way.
            match (rng.below(5) == 0) == matches!(writer, Aborting(_)) {
                true => producer.commit_transaction().unwrap(),
                false => producer.abort_transaction().unwrap(),
            }
        }
        // A second one is refused as long as the first is open.
        Open if turn > TURNS / 2 => {
            drop(producer.begin_transaction());
            send(topic, producer, (turn, true), rng);
        }
        Open => {}
        Plain(_) | Numbered(_) | Keyless => send(topic, producer, (turn, writer != Keyless), rng),
    }
}

/// Sends some records, in one batch.
fn send(topic: &str, producer: &Producer, (turn, keyed): (i64, bool), rng: &mut Rng) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    let texts: Vec<(String, Option<String>, i64)> = (0..=rng.below(5))
        .map(|n| {
            let key = format!("k{}", rng.below(24));
            let value = format!("{topic} {turn} {n} ").repeat(1 + rng.below(9));
            let at = now - 2 * HOUR_MS + turn * (2 * HOUR_MS / TURNS) + rng.below(500) as i64;
            (key, (rng.below(4) > 0).then_some(value), at)
        })
        .collect();
    let records = texts.iter().map(|(key, value, at)| {
        let record = ProducerRecord::new(topic).partition(0).value(value.as_deref()).timestamp(*at);
        let record = if keyed { record.key(key) } else { record };
        if key == "k7" { record.header("why", "seven") } else { record }
    });
    for sent in producer.send_all(records.collect::<Vec<_>>()).unwrap() {
        sent.wait().unwrap();
    }
}

/// A batch as its header has it, but for its size and checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Batch {
    base_offset: i64,
    last_offset_delta: i32,
    leader_epoch: i32,
    attributes: i16,
    /// The delete horizon, where it has one, in place of the time.
    base_timestamp: i64,
    max_timestamp: i64,
    producer: (i64, i16, i32),
    records: i32,
    /// Key and value of a marker.
    marker: Vec<u8>,
}

const CONTROL: i16 = 0x20;
const HAS_HORIZON: i16 = 0x40;

impl Batch {
    fn has_horizon(&self) -> bool {
        self.attributes & HAS_HORIZON != 0
    }

    /// All of a partition, in the order of the files.
    fn all(folder: &Path) -> Vec<Batch> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|ending| ending == "log"));
        files.sort();
        let mut batches = Vec::new();
        for file in files {
            let bytes = std::fs::read(file).unwrap();
            let mut rest = &bytes[..];
            while rest.len() > 61 || (rest.len() == 61 && rest[8..12] != [0; 4]) {
                let size = 12 + i32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
                if size == 12 {
                    break;
                }
                batches.push(Batch::parse(&rest[..size]));
                rest = &rest[size..];
            }
        }
        batches
    }

    fn parse(bytes: &[u8]) -> Batch {
        let long = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        let int = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let short = |at: usize| i16::from_be_bytes(bytes[at..at + 2].try_into().unwrap());
        let (attributes, records) = (short(21), int(57));
        let marker = (attributes & CONTROL != 0 && records > 0).then(|| {
            // Size, attributes, and the differences of time and offset stand before the key.
            let varint = |at: usize| at + 1 + bytes[at..].iter().take_while(|b| **b > 127).count();
            bytes[varint(varint(varint(61) + 1))..].to_vec()
        });
        Batch {
            base_offset: long(0),
            last_offset_delta: int(23),
            leader_epoch: int(12),
            attributes,
            base_timestamp: long(27),
            max_timestamp: long(35),
            producer: (long(43), short(51), int(53)),
            records,
            marker: marker.unwrap_or_default(),
        }
    }
}

/// Offset, time, key, value and headers of a record.
type Row = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, usize);

/// A topic as a cleaning left it.
#[derive(Debug)]
struct Left {
    first_dirty: Option<i64>,
    borders: [Option<i64>; 3],
    batches: Vec<Batch>,
    rows: Vec<Row>,
    /// The entries of all indexes of aborted transactions.
    aborted: BTreeSet<Vec<u8>>,
}

impl Left {
    fn of(data: &Path, broker: &Broker, topic: &str) -> Left {
        let folder = data.join(format!("{topic}-0"));
        let border = |spec, isolation| {
            broker.admin().list_offsets(topic, 0, spec, isolation).unwrap().offset()
        };
        let mut reader = broker.reader(topic, 0, ReadFrom::Beginning).unwrap();
        let mut rows = Vec::new();
        while reader.position() < reader.end_offset().unwrap() {
            for record in &reader.read(std::time::Duration::ZERO).unwrap() {
                let bytes = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                let (key, value) = (bytes(record.key()), bytes(record.value()));
                let headers = record.headers().iter().count();
                rows.push((record.offset(), record.timestamp(), key, value, headers));
            }
        }
        let mut aborted = BTreeSet::new();
        for entry in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.extension().is_some_and(|ending| ending == "txnindex") {
                aborted.extend(std::fs::read(entry).unwrap().chunks(34).map(<[u8]>::to_vec));
            }
        }
        let (all, committed) = (IsolationLevel::ReadUncommitted, IsolationLevel::ReadCommitted);
        Left {
            first_dirty: first_dirty(data, topic),
            borders: [
                border(OffsetSpec::Earliest, all),
                border(OffsetSpec::Latest, committed),
                border(OffsetSpec::Latest, all),
            ],
            batches: Batch::all(&folder),
            rows,
            aborted,
        }
    }
}

/// How far a directory says that a topic was cleaned.
fn first_dirty(data: &Path, topic: &str) -> Option<i64> {
    let kept = std::fs::read_to_string(data.join("cleaner-offset-checkpoint")).ok()?;
    let row = format!("{topic} 0 ");
    kept.lines().find_map(|line| line.strip_prefix(&row)).map(|offset| offset.parse().unwrap())
}

/// What differs between what Kafka has left and what we have.
fn differences(topic: &str, kafka: &Left, ours: &Left) -> Vec<String> {
    let mut out = Vec::new();
    if (kafka.first_dirty, kafka.borders) != (ours.first_dirty, ours.borders) {
        let told = |left: &Left| format!("{:?} {:?}", left.first_dirty, left.borders);
        out.push(format!("{topic}: progress and borders {}, {}", told(kafka), told(ours)));
    }
    // A horizon tells when the cleaning was that set it.
    let near = |a: &Batch, b: &Batch| {
        let within = a.base_timestamp.abs_diff(b.base_timestamp) < 600_000;
        let same_time = Batch { base_timestamp: b.base_timestamp, ..a.clone() };
        if a.has_horizon() && within { same_time == *b } else { a == b }
    };
    let by_offset = |left: &Left| -> BTreeMap<i64, Batch> {
        left.batches.iter().map(|batch| (batch.base_offset, batch.clone())).collect()
    };
    let (theirs, mine) = (by_offset(kafka), by_offset(ours));
    let offsets: BTreeSet<i64> = theirs.keys().chain(mine.keys()).copied().collect();
    for offset in offsets {
        match (theirs.get(&offset), mine.get(&offset)) {
            (Some(a), Some(b)) if near(a, b) => {}
            (a, b) => out.push(format!("{topic}: batch\n  Kafka {a:?}\n  ours  {b:?}")),
        }
    }
    if kafka.rows != ours.rows {
        let differs = kafka.rows.iter().zip(&ours.rows).find(|(a, b)| a != b);
        out.push(format!(
            "{topic}: {} records, {}, from {differs:?}",
            kafka.rows.len(),
            ours.rows.len()
        ));
    }
    if kafka.aborted != ours.aborted {
        out.push(format!("{topic}: aborted\n  {:?}\n  {:?}", kafka.aborted, ours.aborted));
    }
    out
}

/// Cleans a copy of a directory here.
fn clean_here(written: &Path, ours: &Path) {
    judge::copy_dir(written, ours);
    let broker = open(ours);
    for case in CASES {
        if case.writers.contains(&Keyless) {
            broker.admin().alter_topic(case.topic, &[set("cleanup.policy", "compact")]).unwrap();
        }
        // A node looks at no log of which nothing is dirty, and leaves the tombstones there whose
        // horizons are over; on request they go.
        let status = broker.admin().cleaning_status(case.topic, 0).unwrap();
        if case.cleaned && status.cleanable_bytes() > 0 {
            broker.admin().compact(case.topic).unwrap();
        }
    }
    broker.close().unwrap();
}

/// Has a node clean it to the end. Returns the node's folder of it.
fn clean_there(tools: &Path, written: &Path, ours: &Path, root: &Path) -> PathBuf {
    let mut topics = Vec::new();
    let mut settings = Vec::new();
    for case in CASES {
        topics.push(format!("{}:1", case.topic));
        for (name, value) in case.all_settings() {
            settings.push(format!("{}:{name}={value}", case.topic));
        }
    }
    let node = Node::with(tools, written, root, &topics, &settings);
    let through = CASES.iter().filter(|case| case.cleaned).map(|case| {
        let end = first_dirty(ours, case.topic).unwrap_or_else(|| panic!("{}", case.topic));
        format!("grep -q '^{} 0 {end}$' ../cleaner-offset-checkpoint", case.topic)
    });
    node.run(&through.collect::<Vec<_>>().join(" && "), false);
    node.data()
}

#[test]
#[ignore = "a node cleans for minutes"]
fn a_real_kafka_and_our_cleaner_leave_the_same() {
    let Some(tools) = tools() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let mut written = scratch.path().join("written");
    let mut faults = Vec::new();
    for round in 0..2 {
        let broker = open(&written);
        let held = write(&broker, round);
        broker.close().unwrap();
        drop(held);
        let ours = scratch.path().join(format!("ours-{round}"));
        clean_here(&written, &ours);
        dump(&tools, &ours);
        let root = scratch.path().join(format!("kafka-{round}"));
        let theirs = clean_there(&tools, &written, &ours, &root);
        let (here, there) = (Broker::attach(&ours).unwrap(), Broker::attach(&theirs).unwrap());
        let before = Broker::attach(&written).unwrap();
        for case in CASES {
            let kafka = Left::of(&theirs, &there, case.topic);
            let mine = Left::of(&ours, &here, case.topic);
            let was = Left::of(&written, &before, case.topic);
            faults.extend(differences(case.topic, &kafka, &mine));
            let empty = mine.batches.iter().filter(|batch| batch.records == 0).count();
            let horizons = mine.batches.iter().filter(|batch| batch.has_horizon()).count();
            println!(
                "round {round}, {}: {} of {} records, {} of {} batches, {empty} empty, {horizons} \
                 with a horizon, {} of {} aborted",
                case.topic,
                mine.rows.len(),
                was.rows.len(),
                mine.batches.len(),
                was.batches.len(),
                mine.aborted.len(),
                was.aborted.len(),
            );
            let shrank = mine.batches.len() < was.batches.len();
            assert!(round > 0 || shrank == case.cleaned, "{}", case.topic);
        }
        assert!(faults.is_empty(), "round {round}: {}", faults.join("\n"));
        written = theirs;
    }
}
