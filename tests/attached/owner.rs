//! The owner: what it does follows from a seed, and the value of a record from its place.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use topiclite::storage::sim::Random;
use topiclite::{
    Admin, Broker, BrokerOptions, ErrorKind, Producer, ProducerConfig, ProducerRecord, ReadFrom,
    TopicConfig,
};

/// `plain` keeps everything, `trimmed` loses its oldest records by retention and by calls.
pub const TOPICS: [&str; 2] = ["plain", "trimmed"];
pub const PARTITIONS: i32 = 2;
/// A topic that comes and goes.
pub const PASSING: &str = "passing";

/// Log ends by number of the topic and partition.
pub type Ends = BTreeMap<(usize, i32), i64>;

fn config(topic: &str) -> TopicConfig {
    let mut set = vec![("internal.segment.bytes", "3000"), ("index.interval.bytes", "200")];
    if topic == "trimmed" {
        set.extend([("retention.bytes", "9000"), ("file.delete.delay.ms", "0")]);
    }
    TopicConfig::from_properties(set).unwrap()
}

/// The value of a record follows from its place, so that every byte of it is known.
pub fn value(topic: usize, partition: i32, offset: i64) -> Vec<u8> {
    let seed = offset as u64 * 1000 + partition as u64 * 10 + topic as u64;
    let mut value = format!("{topic}-{partition}-{offset}:").into_bytes();
    let len = value.len() + 10 + Random::new(seed).below(400) as usize;
    value.resize(len, seed as u8);
    value
}

/// A broker that owns the directory, and what it appended.
pub struct Owner {
    broker: Broker,
    admin: Admin,
    producer: Producer,
    random: Random,
    ends: Ends,
}

impl Owner {
    pub fn open(dir: &Path, seed: u64) -> Owner {
        let broker = BrokerOptions::from_properties([
            ("log.retention.check.interval.ms", "5"),
            ("log.initial.task.delay.ms", "1"),
            ("log.flush.interval.ms", "3"),
        ]);
        let broker = broker.unwrap().open(dir).unwrap();
        let admin = broker.admin();
        let mut ends = Ends::new();
        for (number, topic) in TOPICS.iter().enumerate() {
            match admin.create_topic(topic, PARTITIONS, config(topic)) {
                Err(error) if error.kind() == ErrorKind::TopicExists => {}
                made => made.unwrap(),
            }
            for partition in 0..PARTITIONS {
                let reader = broker.reader(topic, partition, ReadFrom::End).unwrap();
                ends.insert((number, partition), reader.position());
            }
        }
        let producer = broker.producer(ProducerConfig::default()).unwrap();
        Owner { broker, admin, producer, random: Random::new(seed), ends }
    }

    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    pub fn close(self) {
        self.broker.close().unwrap();
    }

    /// Makes one call. Each append is written to `acks` once it was acknowledged.
    pub fn call(&mut self, acks: &mut impl Write) {
        let (topic, partition) = (self.random.below(2) as usize, self.random.below(2) as i32);
        let end = self.ends.get_mut(&(topic, partition)).unwrap();
        match self.random.below(20) {
            0..=15 => {
                let value = value(topic, partition, *end);
                let record = ProducerRecord::new(TOPICS[topic]).partition(partition).value(&value);
                let sent = self.producer.send(record).unwrap().wait().unwrap();
                assert_eq!(sent.offset(), *end);
                let mut ack = [topic as u8, partition as u8, 0, 0, 0, 0, 0, 0, 0, 0];
                ack[2..].copy_from_slice(&end.to_le_bytes());
                acks.write_all(&ack).unwrap();
                *end += 1;
            }
            16 => self.broker.flush().unwrap(),
            17 => drop(self.admin.delete_records(TOPICS[1], partition, *end / 2)),
            _ => match self.admin.delete_topic(PASSING) {
                Ok(()) => {}
                Err(_) => {
                    self.admin.create_topic(PASSING, 1, config(PASSING)).unwrap();
                    // All records of one making have one mark.
                    let mark = self.random.next();
                    for number in 0..self.random.below(40) {
                        let value = format!("{mark}:{number}");
                        let record = ProducerRecord::new(PASSING).value(&value);
                        self.producer.send(record).unwrap().wait().unwrap();
                    }
                }
            },
        }
    }
}

const DIR: &str = "TOPICLITE_OWNER_DIR";
const SEED: &str = "TOPICLITE_OWNER_SEED";
const ACK_BYTES: usize = 10;

/// Whether this process was started to be killed.
pub fn is_child() -> bool {
    std::env::var_os(DIR).is_some()
}

/// Does nothing unless this process was started by [`Child::start`].
#[test]
fn a_child_owns_a_directory_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let mut owner = Owner::open(Path::new(&dir), seed);
    // The pipe itself, without the buffer and the lock of the standard library's handle.
    let mut out = std::fs::OpenOptions::new().write(true).open("/proc/self/fd/1").unwrap();
    out.write_all(&READY).unwrap();
    loop {
        owner.call(&mut out);
    }
}

/// What comes before the first acknowledgement.
const READY: [u8; ACK_BYTES] = [255; ACK_BYTES];

/// A process that owns the directory.
pub struct Child {
    process: std::process::Child,
    out: ChildStdout,
    acks: Vec<u8>,
}

impl Child {
    pub fn start(dir: &Path, seed: u64) -> Child {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "owner::a_child_owns_a_directory_until_it_is_killed", "-q"])
            .arg("--nocapture")
            .env(DIR, dir)
            .env(SEED, seed.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = process.stdout.take().unwrap();
        // The harness's own lines come first.
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(&READY) {
            assert_eq!(out.read(&mut byte).unwrap(), 1, "the child died by itself");
            head.push(byte[0]);
        }
        Child { process, out, acks: Vec::new() }
    }

    /// Waits until it has appended so many records.
    pub fn work(&mut self, appends: u64) {
        self.acks.resize(appends as usize * ACK_BYTES, 0);
        self.out.read_exact(&mut self.acks).unwrap();
    }

    /// Kills it, and returns the ends of what it acknowledged.
    pub fn kill(mut self) -> Ends {
        self.process.kill().unwrap();
        assert!(!self.process.wait().unwrap().success());
        self.out.read_to_end(&mut self.acks).unwrap();
        let mut ends = Ends::new();
        for ack in self.acks.chunks_exact(ACK_BYTES) {
            let offset = i64::from_le_bytes(ack[2..].try_into().unwrap());
            ends.insert((ack[0].into(), ack[1].into()), offset + 1);
        }
        ends
    }
}
