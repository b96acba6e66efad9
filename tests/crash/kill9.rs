//! kill -9: a child appends, commits and changes topics on real files; the parent kills it at a
//! random moment and opens what it left, again and again on the same directory.
//!
//! Each acknowledgement goes out by one unbuffered write on a pipe, after the call returned. What
//! must hold after each kill: H-D1 and H-D2 for every record that was acknowledged, byte for byte;
//! H-O1, offsets are dense; H-G3, the last acknowledged commit; and a new member of the dead one's
//! group has its partitions at once.

use crate::scale;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use topiclite::storage::sim::Random;
use topiclite::{
    Broker, BrokerOptions, ConsumerConfig, ErrorKind, IsolationLevel, OffsetReset, OffsetSpec,
    ProducerConfig, ProducerRecord, ReadFrom, TopicConfig,
};

const ROLE: &str = "TOPICLITE_KILL9_DIR";
const SEED: &str = "TOPICLITE_KILL9_SEED";
const TOPICS: [&str; 2] = ["plain", "trimmed"];
const PARTITIONS: i32 = 2;
const GROUP: &str = "workers";

fn config(topic: &str) -> TopicConfig {
    let mut set = vec![("internal.segment.bytes", "3000"), ("index.interval.bytes", "200")];
    if topic == "trimmed" {
        set.extend([("retention.bytes", "9000"), ("file.delete.delay.ms", "0")]);
    }
    TopicConfig::from_properties(set).unwrap()
}

fn open(dir: &Path) -> topiclite::Result<Broker> {
    BrokerOptions::from_properties([
        ("offsets.topic.num.partitions", "1"),
        ("log.retention.check.interval.ms", "5"),
        ("log.initial.task.delay.ms", "1"),
        ("log.flush.interval.ms", "3"),
    ])?
    .open(dir)
}

/// The value of a record follows from its place, so that the parent knows every byte.
fn value(topic: usize, partition: i32, offset: i64) -> Vec<u8> {
    let seed = offset as u64 * 1000 + partition as u64 * 10 + topic as u64;
    let mut random = Random::new(seed);
    let len = 10 + random.below(400) as usize;
    let mut value = format!("{topic}-{partition}-{offset}:").into_bytes();
    value.resize(value.len() + len, seed as u8);
    value
}

/// One acknowledgement: kind, topic, partition, offset.
const ACK_BYTES: usize = 12;

fn ack(out: &mut impl Write, kind: u8, topic: usize, partition: i32, offset: i64) {
    let mut bytes = [0; ACK_BYTES];
    bytes[0] = kind;
    bytes[1] = topic as u8;
    bytes[2] = partition as u8;
    bytes[4..].copy_from_slice(&offset.to_le_bytes());
    out.write_all(&bytes).unwrap();
}

/// Does nothing unless this process was started to be killed.
#[test]
fn a_child_works_until_it_is_killed() {
    let Some(dir) = std::env::var_os(ROLE) else { return };
    let mut random = Random::new(std::env::var(SEED).unwrap().parse().unwrap());
    // The pipe itself, without the buffer and the lock of the standard library's handle.
    let mut out = std::fs::OpenOptions::new().write(true).open("/proc/self/fd/1").unwrap();
    let broker = open(Path::new(&dir)).unwrap();
    let admin = broker.admin();
    for topic in TOPICS {
        match admin.create_topic(topic, PARTITIONS, config(topic)) {
            Err(error) if error.kind() == ErrorKind::TopicExists => {}
            made => made.unwrap(),
        }
    }
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let group = ConsumerConfig::new(GROUP)
        .enable_auto_commit(false)
        .auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(group).unwrap();
    consumer.subscribe(&TOPICS).unwrap();
    let mut ends = BTreeMap::new();
    for (number, topic) in TOPICS.iter().enumerate() {
        for partition in 0..PARTITIONS {
            let reader = broker.reader(topic, partition, ReadFrom::End).unwrap();
            ends.insert((number, partition), reader.position());
        }
    }
    ack(&mut out, b'r', 0, 0, 0);
    loop {
        let (topic, partition) = (random.below(2) as usize, random.below(2) as i32);
        match random.below(20) {
            0..=14 => {
                let end = ends.get_mut(&(topic, partition)).unwrap();
                let value = value(topic, partition, *end);
                let record = ProducerRecord::new(TOPICS[topic]).partition(partition).value(&value);
                let metadata = producer.send(record).unwrap().wait().unwrap();
                assert_eq!(metadata.offset(), *end, "H-O1");
                ack(&mut out, b'a', topic, partition, *end);
                *end += 1;
            }
            15 | 16 => {
                let records = consumer.poll(Duration::ZERO).unwrap();
                let next = records.next_offsets();
                consumer.commit_sync().unwrap();
                for (place, committed) in next {
                    let topic = TOPICS.iter().position(|topic| *topic == place.topic()).unwrap();
                    ack(&mut out, b'c', topic, place.partition(), committed.offset());
                }
            }
            17 => broker.flush().unwrap(),
            18 => {
                let before = ends[&(topic, partition)] / 2;
                let start = admin.delete_records(TOPICS[topic], partition, before).unwrap();
                ack(&mut out, b'd', topic, partition, start);
            }
            _ => {
                let name = format!("passing-{}", random.below(2));
                match admin.delete_topic(&name) {
                    Ok(()) => ack(&mut out, b'g', name.ends_with('1').into(), 0, 0),
                    Err(_) => {
                        admin.create_topic(&name, 1, config("plain")).unwrap();
                        let record = ProducerRecord::new(&name).value("passing");
                        producer.send(record).unwrap().wait().unwrap();
                        ack(&mut out, b'n', name.ends_with('1').into(), 0, 0);
                    }
                }
            }
        }
    }
}

/// What was acknowledged so far, over all lives.
#[derive(Debug, Default)]
struct Acked {
    ends: BTreeMap<(usize, i32), i64>,
    starts: BTreeMap<(usize, i32), i64>,
    commits: BTreeMap<(usize, i32), i64>,
    passing: BTreeMap<usize, bool>,
    records: u64,
    commit_count: u64,
}

impl Acked {
    fn take(&mut self, acks: &[u8]) {
        for ack in acks.chunks_exact(ACK_BYTES) {
            let place = (ack[1] as usize, i32::from(ack[2]));
            let offset = i64::from_le_bytes(ack[4..].try_into().unwrap());
            match ack[0] {
                b'a' => {
                    self.records += 1;
                    self.ends.insert(place, offset + 1);
                }
                b'c' => {
                    self.commit_count += 1;
                    self.commits.insert(place, offset);
                }
                b'd' => drop(self.starts.insert(place, offset)),
                b'g' => drop(self.passing.insert(place.0, false)),
                b'n' => drop(self.passing.insert(place.0, true)),
                _ => {}
            }
        }
    }
}

/// One life of a child: returns what it acknowledged before it was killed.
fn live_and_die(dir: &Path, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill9::a_child_works_until_it_is_killed", "--nocapture", "-q"])
        .env(ROLE, dir)
        .env(SEED, random.next().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut head = Vec::new();
    // The harness's own lines come first; the first acknowledgement says where they end.
    let mut byte = [0];
    let ready = [b'r', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // One life in eight dies while it opens.
    let early = random.below(8) == 0;
    while !head.ends_with(&ready) && !early {
        assert_eq!(out.read(&mut byte).unwrap(), 1, "the child died by itself: {seed}");
        head.push(byte[0]);
    }
    let wanted = random.below(200) as usize * ACK_BYTES;
    let mut acks = vec![0; if early { 0 } else { wanted }];
    out.read_exact(&mut acks).unwrap();
    if early {
        std::thread::park_timeout(Duration::from_micros(random.below(30_000)));
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(!status.success());
    // What was acknowledged between the last read and the kill counts too.
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).unwrap();
    if early {
        let begin = rest.windows(ACK_BYTES).position(|window| window == ready);
        rest.drain(..begin.map_or(rest.len(), |begin| begin + ACK_BYTES));
    }
    acks.extend(rest);
    acks
}

fn earliest(broker: &Broker, topic: &str, partition: i32) -> i64 {
    let isolation = IsolationLevel::ReadUncommitted;
    let listed = broker.admin().list_offsets(topic, partition, OffsetSpec::Earliest, isolation);
    listed.unwrap().offset().unwrap()
}

fn check(dir: &Path, acked: &mut Acked, life: &str) {
    let broker = open(dir).unwrap();
    let topics = broker.admin().list_topics().unwrap();
    let present = |name: &str| topics.iter().any(|topic| topic.name() == name);
    for (number, topic) in TOPICS.iter().enumerate() {
        if !present(topic) {
            assert!(acked.ends.keys().all(|key| key.0 != number), "H-D1 {life}: {topic} is gone");
            continue;
        }
        for partition in 0..PARTITIONS {
            let place = (number, partition);
            let mut reader = broker.reader(topic, partition, ReadFrom::Beginning).unwrap();
            let start = reader.position();
            let least = acked.starts.get(&place).copied().unwrap_or(0);
            assert!(start >= least, "H-O4 {life}: start {start}, {least} was acknowledged");
            let mut next = start;
            loop {
                let records = reader.read(Duration::ZERO).unwrap();
                if records.is_empty() {
                    break;
                }
                for record in &records {
                    // Retention runs here, too: what it has just removed is passed over.
                    if record.offset() != next && topic == &"trimmed" {
                        let start = earliest(&broker, topic, partition);
                        assert!(next < record.offset() && record.offset() <= start, "H-O1 {life}");
                        next = record.offset();
                    }
                    assert_eq!(record.offset(), next, "H-O1 {life}: {topic}-{partition}");
                    let expected = value(number, partition, next);
                    assert_eq!(record.value(), Some(&*expected), "H-D1 {life}: {topic} at {next}");
                    next += 1;
                }
            }
            let end = acked.ends.get(&place).copied().unwrap_or(0);
            // One append may have been under way.
            assert!(next >= end, "H-D1 {life}: {topic}-{partition} ends at {next}, not {end}");
            assert!(next <= end + 1, "H-D3 {life}: {topic}-{partition} ends at {next}, not {end}");
            acked.ends.insert(place, next);
        }
    }
    for (number, there) in &acked.passing {
        let name = format!("passing-{number}");
        // The call under way may be the one that changes it.
        if *there && present(&name) {
            let mut reader = broker.reader(&name, 0, ReadFrom::Beginning).unwrap();
            let first = reader.next(Duration::ZERO).unwrap();
            let value = first.map(|record| record.value().unwrap_or_default().to_vec());
            assert!(value.is_none_or(|value| value == b"passing"), "H-D2 {life}");
        }
    }
    if present(TOPICS[1]) {
        check_group(&broker, acked, life);
    }
    assert!(broker.health().is_ok(), "{life}: {:?}", broker.health());
}

/// A new member owns everything after its first poll, and goes on where the dead one committed.
fn check_group(broker: &Broker, acked: &mut Acked, life: &str) {
    let stored = broker.admin().list_group_offsets(GROUP).unwrap();
    for (&(number, partition), &committed) in &acked.commits {
        let place = topiclite::TopicPartition::new(TOPICS[number], partition);
        let found = stored.get(&place).map(|offset| offset.offset());
        // A commit under way moves forward.
        assert!(found >= Some(committed), "H-G3 {life}: {place} {found:?}, not {committed}");
        assert!(found <= acked.ends.get(&(number, partition)).copied(), "H-G3 {life}: {place}");
    }
    for (place, offset) in stored {
        let number = TOPICS.iter().position(|topic| *topic == place.topic()).unwrap();
        acked.commits.insert((number, place.partition()), offset.offset());
    }
    let group = ConsumerConfig::new(GROUP)
        .enable_auto_commit(false)
        .auto_offset_reset(OffsetReset::Earliest);
    let mut member = broker.consumer(group).unwrap();
    member.subscribe(&TOPICS).unwrap();
    let started = Instant::now();
    // Short waits, since there may be no record left to wait for.
    let mut owned = 0;
    while owned == 0 && started.elapsed() < Duration::from_secs(5) {
        member.poll(Duration::from_millis(1)).unwrap();
        owned = member.assignment().unwrap().len() as i32;
    }
    assert_eq!(owned, 2 * PARTITIONS, "H-G2 {life}: after {:?}", started.elapsed());
}

/// A directory in memory for three of four: a kill leaves files there as it leaves them in the page
/// cache, and syncs cost nothing. The others are on the disk, where a kill may strike in a sync.
pub fn home(seed: u64) -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if !seed.is_multiple_of(4) && memory.is_dir() {
        return tempfile::tempdir_in(memory).unwrap();
    }
    tempfile::tempdir().unwrap()
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    const TEST: &str = "kill9::what_was_acknowledged_survives_kill_9";
    const LIVES: u64 = 10;
    if std::env::var_os(ROLE).is_some() {
        return;
    }
    let _turn = scale::turn();
    let kills = scale::rounds(30, 500, 10_000);
    let first = scale::only_seed().unwrap_or(1);
    let started = Instant::now();
    let (mut done, mut records, mut commits) = (0, 0, 0);
    let mut seed = first;
    while done < kills {
        let temp = home(seed);
        let mut acked = Acked::default();
        for life in 0..LIVES.min(kills - done) {
            let acks = live_and_die(temp.path(), seed * 1000 + life);
            acked.take(&acks);
            let what = format!("seed {seed}, life {life}; {}", scale::replay_command(TEST, seed));
            check(temp.path(), &mut acked, &what);
            done += 1;
        }
        records += acked.records;
        commits += acked.commit_count;
        seed += 1;
        if scale::only_seed().is_some() {
            break;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "kill -9: {done} kills in {seconds:.1} s, {:.1} a second, {records} records and {commits} \
         commits acknowledged, seeds from {first}; H-D1 H-D2 H-D3 H-O1 H-O4 H-G2 H-G3",
        done as f64 / seconds
    );
    assert!(records > done, "the children got to work");
}
