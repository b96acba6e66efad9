//! A producer with a name, killed between the append of a record and its answer: whoever sends the
//! record again under its number finds it stored once.
//!
//! Children are this very binary. Each acknowledgement is one unbuffered write on a pipe, after the
//! answer was there; what the parent did not read was not answered. The number of a record is its
//! sequence, its value and its offset, so that one stored twice, left out or out of turn shows.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use topiclite::storage::Sim;
use topiclite::storage::sim::{PowerCut, Random};
use topiclite::time::VirtualClock;
use topiclite::{
    Broker, BrokerOptions, ErrorKind, Producer, ProducerConfig, ProducerRecord, ReadFrom,
    SendFuture, TopicConfig,
};

const DIR: &str = "TOPICLITE_NAMES_DIR";
const WAY: &str = "TOPICLITE_NAMES_WAY";
const FROM: &str = "TOPICLITE_NAMES_FROM";
const NAME: &str = "import";
const TOPIC: &str = "lines";

/// How a program sends its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Each under its number, the next one after its answer.
    OneByOne,
    /// Eight under their numbers, each a batch, before their answers are waited for.
    Several,
    /// Batches that linger, of a producer that goes on behind what the log has.
    Lingering,
}

impl Way {
    const ALL: [Way; 3] = [Way::OneByOne, Way::Several, Way::Lingering];

    fn named(name: &str) -> Way {
        Way::ALL.into_iter().find(|way| format!("{way:?}") == name).expect("a way")
    }

    fn in_flight(self) -> i32 {
        match self {
            Way::OneByOne => 1,
            Way::Several => 8,
            Way::Lingering => 20,
        }
    }

    fn producer(self, broker: &Broker) -> Producer {
        let config = ProducerConfig::default().name(NAME);
        let config = match self {
            Way::Lingering => config.linger(Duration::from_millis(1)).batch_size(200),
            _ => config,
        };
        broker.producer(config).unwrap()
    }

    /// Sends a record without waiting for its answer.
    fn send(self, producer: &Producer, number: i32) -> SendFuture {
        let value = number.to_string();
        let record = ProducerRecord::new(TOPIC).partition(0).value(&value);
        match self {
            Way::Lingering => producer.send(record).unwrap(),
            _ => producer.send_numbered(record, number).unwrap(),
        }
    }

    /// The first record that a program sends which has the answers of all before `from`.
    fn first(self, producer: &Producer, from: i32) -> i32 {
        match self {
            Way::Lingering => producer.last_sequence(TOPIC, 0).unwrap().map_or(0, |last| last + 1),
            _ => from,
        }
    }
}

/// A topic of small segments, so that its producer's state is in snapshots, too.
fn create_topic(broker: &Broker, durable: bool) {
    let set = [("internal.segment.bytes", "4000")];
    let config = TopicConfig::from_properties(set).unwrap();
    let config = if durable { config.flush_messages(1) } else { config };
    match broker.admin().create_topic(TOPIC, 1, config) {
        Err(error) if error.kind() == ErrorKind::TopicExists => {}
        made => made.unwrap(),
    }
}

/// Checks that the log has records 0, 1, 2 and so on, each once. Returns how many.
fn numbers(broker: &Broker, what: &str) -> i32 {
    let mut reader = broker.reader(TOPIC, 0, ReadFrom::Beginning).unwrap();
    let mut next = 0;
    loop {
        let records = reader.read(Duration::ZERO).unwrap();
        if records.is_empty() {
            return next;
        }
        for record in &records {
            let value = std::str::from_utf8(record.value().unwrap()).unwrap().to_owned();
            let expected = (i64::from(next), next.to_string());
            assert_eq!((record.offset(), value), expected, "{what}");
            next += 1;
        }
    }
}

/// Does nothing unless this process was started to be killed.
#[test]
fn a_child_sends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let way = Way::named(&std::env::var(WAY).unwrap());
    let from: i32 = std::env::var(FROM).unwrap().parse().unwrap();
    // The pipe itself, without the buffer and the lock of the standard library's handle.
    let mut out = std::fs::OpenOptions::new().write(true).open("/proc/self/fd/1").unwrap();
    let options = BrokerOptions::from_properties([("log.flush.interval.ms", "3")]).unwrap();
    let broker = options.open(Path::new(&dir)).unwrap();
    create_topic(&broker, true);
    let producer = way.producer(&broker);
    let mut next = way.first(&producer, from);
    loop {
        let sent: Vec<_> = (next..next + way.in_flight())
            .map(|number| (number, way.send(&producer, number)))
            .collect();
        for (number, future) in sent {
            let offset = future.wait().unwrap().offset();
            // A batch that more than five came behind is known to be there, and not where.
            assert!(offset == i64::from(number) || offset == -1, "{number} is at {offset}");
            writeln!(out, "has {number}").unwrap();
            next = number + 1;
        }
    }
}

/// A child that appends and has its answers told to nobody.
#[test]
fn a_child_appends_and_waits() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let way = Way::named(&std::env::var(WAY).unwrap());
    let broker = Broker::open(Path::new(&dir)).unwrap();
    create_topic(&broker, true);
    let producer = way.producer(&broker);
    let count = way.in_flight();
    let sent: Vec<_> = (0..count).map(|number| way.send(&producer, number)).collect();
    while producer.last_sequence(TOPIC, 0).unwrap() != Some(count - 1) {
        std::thread::yield_now();
    }
    let mut out = std::fs::OpenOptions::new().write(true).open("/proc/self/fd/1").unwrap();
    writeln!(out, "appended").unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    drop(sent);
}

fn child(test: &str, dir: &Path, way: Way, from: i32) -> (Child, ChildStdout) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "-q"])
        .env(DIR, dir)
        .env(WAY, format!("{way:?}"))
        .env(FROM, from.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = child.stdout.take().unwrap();
    (child, out)
}

#[test]
fn what_is_sent_again_after_a_kill_between_append_and_answer_is_stored_once() {
    for way in Way::ALL {
        let temp = tempfile::tempdir().unwrap();
        let (mut child, mut out) = child("a_child_appends_and_waits", temp.path(), way, 0);
        let (mut said, mut byte) = (Vec::new(), [0]);
        while !said.ends_with(b"appended\n") {
            assert_eq!(out.read(&mut byte).unwrap(), 1, "the child died by itself");
            said.push(byte[0]);
        }
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        let broker = Broker::open(temp.path()).unwrap();
        let producer = way.producer(&broker);
        let count = way.in_flight();
        assert_eq!(producer.last_sequence(TOPIC, 0).unwrap(), Some(count - 1), "{way:?}");
        let again = |number: i32| {
            let value = number.to_string();
            let record = ProducerRecord::new(TOPIC).partition(0).value(&value);
            producer.send_numbered(record, number).unwrap()
        };
        // All at once, as they were. The last five batches are told where they are, if they are
        // what is sent again: a batch of several is not.
        let sent: Vec<_> = (0..count).map(again).collect();
        for (number, future) in (0..).zip(sent) {
            let offset = future.wait().unwrap().offset();
            match way {
                Way::Lingering => assert!(offset == i64::from(number) || offset == -1),
                _ if number >= count - 5 => assert_eq!(offset, i64::from(number), "{way:?}"),
                _ => assert_eq!(offset, -1, "{way:?}"),
            }
        }
        assert_eq!(again(count).wait().unwrap().offset(), i64::from(count), "{way:?}");
        assert_eq!(numbers(&broker, &format!("{way:?}")), count + 1);
        println!("{way:?}: {count} records were sent again after the kill, and are stored once");
    }
}

#[test]
fn a_program_that_is_killed_at_any_moment_stores_each_number_once() {
    if std::env::var_os(DIR).is_some() {
        return;
    }
    let lives = if full() { 100 } else { 8 };
    for way in Way::ALL {
        let temp = tempfile::tempdir().unwrap();
        let mut random = Random::new(11);
        let mut next = 0;
        let mut again = 0;
        for _ in 0..lives {
            let test = "a_child_sends_until_it_is_killed";
            let (mut child, mut out) = child(test, temp.path(), way, next);
            let wanted = 1 + random.below(60);
            let (mut said, mut bytes, mut answers) = (String::new(), [0; 4096], 0);
            while answers < wanted {
                let read = out.read(&mut bytes).unwrap();
                assert!(read > 0, "the child died by itself: {said}");
                said.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
                answers = said.matches("has ").count() as u64;
            }
            child.kill().unwrap();
            assert!(!child.wait().unwrap().success());
            out.read_to_string(&mut said).unwrap();
            let answered = said.lines().filter_map(|line| line.strip_prefix("has "));
            // A line that the kill cut is no answer.
            let whole = said.ends_with('\n') as usize;
            let count = answered.clone().count() + whole - 1;
            let answered: Vec<i32> = answered.take(count).map(|n| n.parse().unwrap()).collect();
            let broker = Broker::open(temp.path()).unwrap();
            let stored = numbers(&broker, &format!("{way:?}"));
            next = answered.last().map_or(next, |last| last + 1);
            assert!(stored >= next, "{way:?}: {next} were answered, {stored} are there");
            again += stored - next;
            // Another kill follows: what this life read is left as a crash leaves it.
            drop(broker);
        }
        println!("{way:?}: {lives} kills, {next} answered, {again} were there without an answer");
        // Where each answer is waited for, the kill may come before every append.
        assert!(again > 0 || way == Way::OneByOne, "no kill came between append and answer");
    }
}

fn full() -> bool {
    std::env::var("TOPICLITE_SCALE").is_ok_and(|scale| scale == "ci" || scale == "long")
}

fn open(sim: &Sim) -> Broker {
    let clock = VirtualClock::stepping();
    let options = BrokerOptions::new().clock(clock.clock()).seed(1);
    options.storage(Arc::new(sim.clone())).open("/data").unwrap()
}

/// The answers that a run had at each moment of its disk: step, and how many.
type Answers = Arc<Mutex<Vec<(u64, i32)>>>;

/// A recorded run of `count` records, and when each had its answer.
fn run(way: Way, durable: bool, count: i32) -> (Sim, Answers) {
    let sim = Sim::new();
    let broker = open(&sim);
    create_topic(&broker, durable);
    broker.flush().unwrap();
    sim.record();
    let producer = way.producer(&broker);
    let answers = Answers::default();
    let mut next = 0;
    while next < count {
        let sent: Vec<_> = (next..(next + way.in_flight()).min(count))
            .map(|number| (number, way.send(&producer, number)))
            .collect();
        for (number, future) in sent {
            assert_eq!(future.wait().unwrap().offset(), i64::from(number));
            answers.lock().unwrap().push((sim.steps(), number + 1));
            next = number + 1;
        }
    }
    (sim, answers)
}

/// After `crash` at drawn steps: what was answered is there, as far as it was promised, and the
/// program that goes on stores each number once.
fn goes_on(way: Way, durable: bool, cut: bool, crashes: usize) {
    let count = 60;
    let (sim, answers) = run(way, durable, count);
    let mut random = Random::new(3);
    let (mut again, mut lost) = (0, 0);
    for _ in 0..crashes {
        let mut replay = sim.replay();
        let step = replay.step() + random.below(replay.steps_left() as u64 + 1);
        replay.advance_to(step);
        let seed = random.next();
        let left = if cut { replay.power_cut(&PowerCut::drawn(seed)) } else { replay.kill() };
        let answered = answers.lock().unwrap().iter().rev().find(|(at, _)| *at <= step).copied();
        let answered = answered.map_or(0, |(_, count)| count);
        let what = format!("{way:?}, durable {durable}, cut {cut}, step {step}, seed {seed}");
        let broker = open(&left);
        let stored = numbers(&broker, &what);
        let producer = way.producer(&broker);
        // Nothing is kept of a name in an empty log, which may be one that lost its first records.
        let last = (stored > 0).then_some(stored - 1);
        assert_eq!(producer.last_sequence(TOPIC, 0).unwrap(), last, "{what}");
        if durable || !cut {
            assert!(stored >= answered, "{what}: {answered} were answered, {stored} are there");
        }
        again += (stored - answered).max(0);
        lost += (answered - stored).max(0);
        // What a power cut took without being promised is sent again, too.
        let from = way.first(&producer, answered.min(stored));
        let sent: Vec<_> = (from..count).map(|n| (n, way.send(&producer, n))).collect();
        for (number, future) in sent {
            let offset = future.wait().unwrap().offset();
            assert!(offset == i64::from(number) || offset == -1, "{what}: {number} at {offset}");
        }
        assert_eq!(numbers(&broker, &what), count, "{what}");
    }
    println!(
        "{way:?}, durable {durable}, power cut {cut}: {crashes} crashes, {again} records were \
         there without an answer, {lost} answered ones were not"
    );
    assert!(!durable || lost == 0);
}

#[test]
fn images_of_kills_and_power_cuts_store_each_number_once() {
    if std::env::var_os(DIR).is_some() {
        return;
    }
    let crashes = if full() { 400 } else { 40 };
    for way in Way::ALL {
        for durable in [true, false] {
            for cut in [true, false] {
                goes_on(way, durable, cut, crashes);
            }
        }
    }
}
