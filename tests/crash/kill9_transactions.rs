//! kill -9 in the midst of transactions: a child commits and aborts transactions over four
//! partitions and the offsets of a group on real files; the parent kills it at a random moment and
//! opens what it left, again and again on the same directory. One life in eight dies while it
//! opens, in the midst of ending what the one before it left.
//!
//! What must hold after each kill: H-T1, all records of a transaction and its offset are there, or
//! none; a commit that was answered is there, one that was not asked for is not; H-T2, one outcome
//! over all lives, and one marker a partition; H-R2, nothing hangs once a life has written.

use crate::kill9::home;
use crate::scale;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use topiclite::storage::sim::Random;
use topiclite::{
    Broker, BrokerOptions, ErrorKind, GroupMetadata, IsolationLevel, OffsetAndMetadata, Producer,
    ProducerConfig, ProducerRecord, ReadFrom, TopicConfig, TopicPartition,
};

const ROLE: &str = "TOPICLITE_KILL9_TRANSACTIONS_DIR";
const SEED: &str = "TOPICLITE_KILL9_TRANSACTIONS_SEED";
const LIFE: &str = "TOPICLITE_KILL9_TRANSACTIONS_LIFE";
const PLACES: [(&str, i32); 4] = [("left", 0), ("left", 1), ("right", 0), ("right", 1)];
const IDS: [&str; 2] = ["x", "y"];

fn open(dir: &Path) -> topiclite::Result<Broker> {
    BrokerOptions::from_properties([
        ("offsets.topic.num.partitions", "1"),
        ("transaction.state.log.num.partitions", "2"),
        ("log.flush.interval.ms", "3"),
    ])?
    .open(dir)
}

fn source() -> TopicPartition {
    TopicPartition::new("left", 0)
}

/// Does nothing unless this process was started to be killed.
#[test]
fn a_child_runs_transactions_until_it_is_killed() {
    let Some(dir) = std::env::var_os(ROLE) else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let mut random = Random::new(number(SEED));
    let mut next = number(LIFE) * 1_000_000;
    let mut out = std::fs::OpenOptions::new().write(true).open("/proc/self/fd/1").unwrap();
    // One write a line, so that a line is there whole or not at all.
    let mut tell = |word: char, number: u64| {
        out.write_all(format!("!{word} {number}\n").as_bytes()).unwrap();
    };
    let broker = open(Path::new(&dir)).unwrap();
    for (topic, durable) in [("left", false), ("right", number(SEED).is_multiple_of(3))] {
        let mut config = TopicConfig::default();
        config.set("internal.segment.bytes", "4000").unwrap();
        let config = if durable { config.flush_messages(1) } else { config };
        match broker.admin().create_topic(topic, 2, config) {
            Err(error) if error.kind() == ErrorKind::TopicExists => {}
            made => made.unwrap(),
        }
    }
    let mut producers: Vec<Producer> = IDS.iter().map(|id| begun(&broker, id)).collect();
    tell('r', 0);
    loop {
        next += 1;
        let id = random.below(2) as usize;
        if random.below(10) == 0 {
            // Another instance takes over, also in the midst of a transaction.
            producers[id].begin_transaction().unwrap();
            send(&producers[id], next, 0, 9, &mut random);
            producers[id] = begun(&broker, IDS[id]);
            continue;
        }
        let producer = &producers[id];
        producer.begin_transaction().unwrap();
        let count = 1 + random.below(6);
        for nth in 0..count {
            send(producer, next, nth, count, &mut random);
        }
        let at = OffsetAndMetadata::new(1).metadata(next.to_string());
        let offsets: BTreeMap<_, _> = [(source(), at)].into();
        let group = GroupMetadata::new(format!("group-{}", IDS[id]));
        producer.send_offsets_to_transaction(&offsets, &group).unwrap();
        match random.below(3) {
            0 => producer.abort_transaction().unwrap(),
            _ => {
                tell('c', next);
                producer.commit_transaction().unwrap();
                tell('C', next);
            }
        }
    }
}

fn begun(broker: &Broker, id: &str) -> Producer {
    let producer = broker.producer(ProducerConfig::default().transactional_id(id)).unwrap();
    producer.init_transactions().unwrap();
    producer
}

fn send(producer: &Producer, number: u64, nth: u64, count: u64, random: &mut Random) {
    let (topic, partition) = PLACES[random.below(4) as usize];
    let value = format!("{number} {nth} {count} {}", "v".repeat(random.below(200) as usize));
    producer.send_sync(ProducerRecord::new(topic).partition(partition).value(&value)).unwrap();
}

/// What was told over all lives, and what was found.
#[derive(Debug, Default)]
struct Told {
    asked: BTreeMap<u64, bool>,
    /// By transaction: whether it is there. It stays so.
    found: BTreeMap<u64, bool>,
}

/// One life of a child.
fn live_and_die(dir: &Path, seed: u64, life: u64, told: &mut Told) {
    let mut random = Random::new(seed);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill9_transactions::a_child_runs_transactions_until_it_is_killed"])
        .args(["--nocapture", "-q"])
        .env(ROLE, dir)
        .env(SEED, random.next().to_string())
        .env(LIFE, life.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
    let early = random.below(8) == 0;
    let mut left = if early { 0 } else { 1 + random.below(60) };
    if early {
        std::thread::park_timeout(Duration::from_micros(random.below(30_000)));
    }
    let mut killed = false;
    loop {
        if left == 0 && !killed {
            child.kill().unwrap();
            killed = true;
        }
        // What was told between the last line and the kill counts too.
        let Some(line) = lines.next() else { break };
        left = left.saturating_sub(1);
        let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
        let Some((_, line)) = line.rsplit_once('!') else { continue };
        let (word, number) = line.split_once(' ').unwrap();
        match word {
            "c" => drop(told.asked.insert(number.parse().unwrap(), false)),
            "C" => drop(told.asked.insert(number.parse().unwrap(), true)),
            _ => {}
        }
    }
    assert!(killed, "the child died by itself: {seed}");
    assert!(!child.wait().unwrap().success());
}

/// The records of a partition, as transaction and how many it has, and its end.
fn read(broker: &Broker, place: (&str, i32), isolation: IsolationLevel) -> (Vec<(u64, u64)>, i64) {
    let reader = broker.reader(place.0, place.1, ReadFrom::Beginning).unwrap();
    let mut reader = reader.isolation_level(isolation);
    let mut out = Vec::new();
    loop {
        let records = reader.read(Duration::ZERO).unwrap();
        if records.is_empty() {
            return (out, reader.end_offset().unwrap());
        }
        for record in &records {
            let value = String::from_utf8_lossy(record.value().unwrap()).into_owned();
            let numbers: Vec<u64> =
                value.split(' ').take(3).filter_map(|word| word.parse().ok()).collect();
            if let [number, _, count] = numbers[..] {
                out.push((number, count));
            }
        }
    }
}

fn check(dir: &Path, told: &mut Told, life: &str) {
    let broker = open(dir).unwrap();
    if broker.admin().describe_topic("right").is_err() {
        return;
    }
    begun(&broker, "judge");
    // The first append to a topic ends what nobody knows of.
    let plain = broker.producer(ProducerConfig::default()).unwrap();
    for topic in ["left", "right"] {
        plain.send_sync(ProducerRecord::new(topic).partition(0).value("plain")).unwrap();
    }
    let mut seen: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for place in PLACES {
        let (committed, stable) = read(&broker, place, IsolationLevel::ReadCommitted);
        let (_, end) = read(&broker, place, IsolationLevel::ReadUncommitted);
        assert_eq!(stable, end, "H-R2 {life}: {place:?} hangs");
        for (number, count) in committed {
            seen.entry(number).or_insert((0, count)).0 += 1;
        }
    }
    for (number, (records, count)) in &seen {
        assert_eq!(records, count, "H-T1 {life}: transaction {number} is there in part");
        assert!(told.asked.contains_key(number), "H-T1 {life}: nobody commits {number}");
    }
    for (number, answered) in &told.asked {
        let is_there = seen.contains_key(number);
        assert!(is_there || !answered, "H-T1 {life}: transaction {number} is lost");
        let before = *told.found.entry(*number).or_insert(is_there);
        assert_eq!(before, is_there, "H-T2 {life}: transaction {number} has two outcomes");
    }
    for id in IDS {
        let offsets = broker.admin().list_group_offsets(&format!("group-{id}"));
        let Ok(offsets) = offsets else { continue };
        if let Some(at) = offsets.get(&source()) {
            let number: u64 = at.metadata().parse().unwrap();
            assert!(seen.contains_key(&number), "H-T1 {life}: offsets of {number}, no records");
        }
    }
    assert!(broker.health().is_ok(), "{life}: {:?}", broker.health());
}

#[test]
fn transactions_survive_kill_9_whole_or_not_at_all() {
    const TEST: &str = "kill9_transactions::transactions_survive_kill_9_whole_or_not_at_all";
    const LIVES: u64 = 10;
    if std::env::var_os(ROLE).is_some() {
        return;
    }
    let _turn = scale::turn();
    let kills = scale::rounds(20, 300, 10_000);
    let first = scale::only_seed().unwrap_or(1);
    let started = Instant::now();
    let (mut done, mut committed, mut unknown) = (0, 0, 0);
    let mut seed = first;
    while done < kills {
        let temp = home(seed);
        let mut told = Told::default();
        for life in 0..LIVES.min(kills - done) {
            live_and_die(temp.path(), seed * 1000 + life, life, &mut told);
            let what = format!("seed {seed}, life {life}; {}", scale::replay_command(TEST, seed));
            check(temp.path(), &mut told, &what);
            done += 1;
        }
        committed += told.asked.values().filter(|answered| **answered).count();
        unknown += told.asked.values().filter(|answered| !**answered).count();
        seed += 1;
        if scale::only_seed().is_some() {
            break;
        }
    }
    println!(
        "kill -9 in transactions: {done} kills in {:.1} s, {committed} commits answered, {unknown} \
         under way, seeds from {first}; H-T1 H-T2 H-R2",
        started.elapsed().as_secs_f64()
    );
    assert!(committed > 0, "the children got to work");
}
