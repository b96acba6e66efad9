//! A directory on some storage, and the few calls that the tests make to it.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use topiclite::storage::{Sim, Storage};
use topiclite::time::VirtualClock;
use topiclite::{
    Broker, BrokerOptions, Consumer, ConsumerConfig, Error, ErrorKind, OffsetReset, ProducerConfig,
    ProducerRecord, ReadFrom, Result, TopicConfig, TopicPartition,
};

/// The broker's directory.
pub const DIR: &str = "/data";
/// The group that commits.
pub const GROUP: &str = "g";

fn options(storage: &(impl Storage + Clone)) -> BrokerOptions {
    options_under(&VirtualClock::stepping(), storage)
}

fn options_under(clock: &VirtualClock, storage: &(impl Storage + Clone)) -> BrokerOptions {
    let properties = [("offsets.topic.num.partitions", "1")];
    let options = BrokerOptions::from_properties(properties).unwrap();
    options.clock(clock.clock()).seed(1).storage(Arc::new(storage.clone()))
}

pub fn try_open(storage: &(impl Storage + Clone)) -> Result<Broker> {
    options(storage).open(DIR)
}

pub fn open(storage: &(impl Storage + Clone)) -> Broker {
    try_open(storage).unwrap()
}

pub fn open_under(clock: &VirtualClock, storage: &(impl Storage + Clone)) -> Broker {
    options_under(clock, storage).open(DIR).unwrap()
}

pub fn attach(storage: &(impl Storage + Clone)) -> Broker {
    options(storage).attach(DIR).unwrap()
}

/// The path of a file in the directory.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// The path of a segment file of partition 0 of `t`.
pub fn segment(base: i64, extension: &str) -> PathBuf {
    path("t-0").join(format!("{base:020}.{extension}"))
}

pub fn put(storage: &impl Storage, path: &Path, bytes: &[u8]) {
    let file = storage.create_cold(path).unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync_data().unwrap();
    storage.sync_dir(path.parent().unwrap()).unwrap();
}

pub fn get(storage: &impl Storage, path: &Path) -> Vec<u8> {
    storage.read_file(path, 1 << 30).unwrap()
}

/// Every file with its bytes, every folder without.
pub fn snapshot(storage: &impl Storage) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    fn walk(storage: &impl Storage, dir: &Path, out: &mut Vec<(PathBuf, Option<Vec<u8>>)>) {
        for entry in storage.list(dir).unwrap() {
            let path = dir.join(&entry.name);
            match entry.is_dir {
                true => {
                    out.push((path.clone(), None));
                    walk(storage, &path, out);
                }
                false => out.push((path.clone(), Some(get(storage, &path)))),
            }
        }
    }
    let mut out = Vec::new();
    walk(storage, Path::new(DIR), &mut out);
    out.sort();
    out
}

/// A topic of one partition with segments of `segment_bytes`.
pub fn create(broker: &Broker, topic: &str, segment_bytes: &str) -> Result<()> {
    let set = [("internal.segment.bytes", segment_bytes), ("index.interval.bytes", "200")];
    broker.admin().create_topic(topic, 1, TopicConfig::from_properties(set).unwrap())
}

/// Sends one record to partition 0 and returns its offset.
pub fn send(broker: &Broker, topic: &str, value: &str) -> Result<i64> {
    send_by(broker, ProducerConfig::default(), topic, value)
}

/// The same by a producer without an id, which the registry would have to remember.
pub fn send_without_id(broker: &Broker, topic: &str, value: &str) -> Result<i64> {
    send_by(broker, ProducerConfig::default().enable_idempotence(false), topic, value)
}

fn send_by(broker: &Broker, config: ProducerConfig, topic: &str, value: &str) -> Result<i64> {
    let producer = broker.producer(config)?;
    let record = ProducerRecord::new(topic).partition(0).value(value).timestamp(5);
    Ok(producer.send_sync(record)?.offset())
}

/// The value of record `number`, 60 bytes.
pub fn value(number: usize) -> String {
    format!("{number:060}")
}

/// Records `numbers` of `t`, each a batch of its own.
pub fn fill(broker: &Broker, numbers: std::ops::Range<usize>) {
    for number in numbers {
        assert_eq!(send(broker, "t", &value(number)).unwrap(), number as i64);
    }
}

/// The bytes of one batch of [`fill`].
pub const BATCH_BYTES: usize = 129;

/// The values of partition 0 in order, whose offsets are dense, and what ended the reading:
/// whoever reads is given the same, and told the same every time.
pub fn read(broker: &Broker, topic: &str) -> (Vec<String>, Option<Error>) {
    let (values, error) = read_by_reader(broker, topic);
    let text = |error: &Option<Error>| error.as_ref().map(ToString::to_string);
    for group in [None, Some("readers")] {
        let (polled, failed) = read_by_consumer(broker, topic, group);
        assert_eq!(polled, values, "a consumer, group {group:?}");
        assert_eq!(text(&failed), text(&error), "a consumer, group {group:?}");
    }
    let look_only = LOOK_ONLY.with(Cell::get);
    if let Some((polled, failed)) = (!look_only).then(|| read_by_member(broker, topic)).flatten() {
        assert_eq!(polled, values, "a member");
        assert_eq!(text(&failed), text(&error), "a member");
    }
    (values, error)
}

thread_local! {
    static LOOK_ONLY: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, [`read`] does without a member of a group, which writes to the directory.
pub struct LookOnly(());

pub fn look_only() -> LookOnly {
    LOOK_ONLY.with(|look_only| look_only.set(true));
    LookOnly(())
}

impl Drop for LookOnly {
    fn drop(&mut self) {
        LOOK_ONLY.with(|look_only| look_only.set(false));
    }
}

/// The values that polls return, and what they fail with in the end, every time.
fn poll_all(consumer: &mut Consumer) -> (Vec<String>, Option<Error>) {
    let mut values = Vec::new();
    let (mut quiet, mut told) = (0, Vec::new());
    while quiet < 3 && told.len() < 3 {
        match consumer.poll(Duration::ZERO) {
            Ok(records) if records.is_empty() => quiet += 1,
            Ok(records) => {
                assert!(told.is_empty(), "nothing comes behind an error");
                quiet = 0;
                for record in &records {
                    values.push(String::from_utf8(record.value().unwrap().to_vec()).unwrap());
                }
            }
            Err(error) => told.push(error),
        }
    }
    assert!(told.is_empty() || told.len() == 3, "an error is told once and then not: {told:?}");
    let partitions: Vec<_> = consumer.assignment().unwrap().into_iter().collect();
    if let Some(partition) = partitions.first() {
        assert_eq!(partitions.len(), 1);
        let Ok(position) = consumer.position(partition) else {
            assert!(!told.is_empty(), "what cannot be opened is told");
            return (values, told.pop());
        };
        let lag = consumer.current_lag(partition);
        match (consumer.end_offsets(&partitions), told.first()) {
            (Ok(ends), None) => {
                assert_eq!(ends[partition], position);
                assert!(matches!(lag, Ok(Some(0) | None)), "{lag:?}");
            }
            // Damage that only the read meets does not end the log.
            (Ok(ends), Some(_)) => assert!(ends[partition] > position),
            (Err(damage), told) => {
                assert_eq!(Some(damage.to_string()), told.map(ToString::to_string));
                let text = |error: Error| error.to_string();
                let unopened = damage.kind() == ErrorKind::Io;
                assert!(unopened || lag.map_err(text) == Err(damage.to_string()));
            }
        }
    }
    (values, told.pop())
}

fn read_by_consumer(
    broker: &Broker,
    topic: &str,
    group: Option<&str>,
) -> (Vec<String>, Option<Error>) {
    let config = group.map_or_else(ConsumerConfig::without_group, ConsumerConfig::new);
    let config = config.enable_auto_commit(false).auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config).unwrap();
    let partition = TopicPartition::new(topic, 0);
    consumer.assign(std::slice::from_ref(&partition)).unwrap();
    consumer.seek_to_beginning(&[]).unwrap();
    poll_all(&mut consumer)
}

/// As a subscribed member of a group, where one can be stored.
fn read_by_member(broker: &Broker, topic: &str) -> Option<(Vec<String>, Option<Error>)> {
    let config = ConsumerConfig::new("members")
        .enable_auto_commit(false)
        .auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config).unwrap();
    consumer.subscribe(&[topic]).unwrap();
    for _ in 0..10 {
        let polled = consumer.poll(Duration::ZERO);
        if consumer.assignment().unwrap().is_empty() {
            match polled {
                Ok(_) => continue,
                // A full disk, a failed one, an attached directory: there is no group.
                Err(_) => return None,
            }
        }
        consumer.seek_to_beginning(&[]).unwrap();
        let all = poll_all(&mut consumer);
        consumer.close().ok();
        return Some(all);
    }
    None
}

fn read_by_reader(broker: &Broker, topic: &str) -> (Vec<String>, Option<Error>) {
    let mut values = Vec::new();
    let mut reader = match broker.reader(topic, 0, ReadFrom::Beginning) {
        Ok(reader) => reader,
        Err(error) => return (values, Some(error)),
    };
    let first = reader.position();
    loop {
        match reader.read(Duration::ZERO) {
            Ok(records) if records.is_empty() => return (values, None),
            Ok(records) => {
                for record in &records {
                    assert_eq!(record.offset(), first + values.len() as i64, "dense");
                    values.push(String::from_utf8(record.value().unwrap().to_vec()).unwrap());
                }
            }
            Err(error) => {
                let again = [Duration::ZERO, Duration::from_millis(50)];
                let again = again.map(|timeout| reader.read(timeout).unwrap_err().to_string());
                assert_eq!(again, [error.to_string(), error.to_string()], "it is told again");
                return (values, Some(error));
            }
        }
    }
}

/// That `t` holds exactly the records `0..count`, and can be written and read on.
pub fn holds(broker: &Broker, count: usize) {
    let (values, error) = read(broker, "t");
    assert_eq!(error.map(|error| error.to_string()), None);
    assert_eq!(values, (0..count).map(value).collect::<Vec<_>>());
}

/// That `t` holds exactly the records `0..count`, and what ended the reading.
pub fn holds_up_to(broker: &Broker, count: usize) -> Error {
    let (values, error) = read(broker, "t");
    assert_eq!(values, (0..count).map(value).collect::<Vec<_>>());
    error.expect("the reading ends with an error")
}

/// Commits `offset` of `t` for the group, as a consumer that was told its partition.
pub fn commit(broker: &Broker, offset: i64) -> Result<()> {
    let config = ConsumerConfig::new(GROUP)
        .enable_auto_commit(false)
        .auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config)?;
    let partition = TopicPartition::new("t", 0);
    consumer.assign(std::slice::from_ref(&partition))?;
    consumer.seek(&partition, offset)?;
    consumer.commit_sync()
}

pub fn committed(broker: &Broker) -> Option<i64> {
    let offsets = broker.admin().list_group_offsets(GROUP).unwrap();
    offsets.get(&TopicPartition::new("t", 0)).map(|offset| offset.offset())
}

/// That an error is of this kind and says all of `parts`.
pub fn told(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "nothing of {part:?} in: {text}");
    }
}

/// A disk with `count` records in `t`, in segments of four, closed in good order.
pub fn closed(count: usize) -> Sim {
    let sim = Sim::new();
    let broker = open(&sim);
    create(&broker, "t", "600").unwrap();
    fill(&broker, 0..count);
    broker.close().unwrap();
    sim
}

/// The same, not closed: `flushed` of the records were made durable, which was recorded, and then
/// the process died.
pub fn killed(count: usize, flushed: usize) -> Sim {
    let (sim, clock) = (Sim::new(), VirtualClock::stepping());
    let broker = options_under(&clock, &sim).open(DIR).unwrap();
    create(&broker, "t", "600").unwrap();
    fill(&broker, 0..flushed);
    clock.advance(Duration::from_secs(5));
    fill(&broker, flushed..count);
    sim.kill()
}

/// Whether the health report has a warning that contains all of `parts`.
pub fn warned(broker: &Broker, parts: &[&str]) -> bool {
    let holds = |text: &str| parts.iter().all(|part| text.contains(part));
    broker.health().warnings().any(holds)
}

/// A copy of the directory on a real disk.
#[cfg(feature = "cli")]
pub fn copied(sim: &Sim) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    for (path, bytes) in snapshot(sim) {
        let to = home.path().join(path.strip_prefix("/").unwrap());
        match bytes {
            Some(bytes) => {
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::write(to, bytes).unwrap();
            }
            None => std::fs::create_dir_all(to).unwrap(),
        }
    }
    home
}

/// That `consume`, with and without a group, prints the records `0..count` of a copy of the
/// directory, says what ends them, and fails. The copy is on a real disk, which is another boot's.
#[cfg(feature = "cli")]
pub fn printed_up_to(sim: &Sim, count: usize) {
    let home = copied(sim);
    let expected: String = (0..count).map(|number| value(number) + "\n").collect();
    // The owner's close between two of them is a life of the directory.
    let in_group = ["--group", "printers", "--from", "beginning"].as_slice();
    for arguments in [[].as_slice(), in_group, &[], in_group, &[]] {
        let ended = std::process::Command::new(env!("CARGO_BIN_EXE_topiclite"))
            .arg("--dir")
            .arg(home.path().join("data"))
            .args(["consume", "t"])
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(String::from_utf8_lossy(&ended.stdout), expected, "{arguments:?} {said}");
        assert_eq!(ended.status.code(), Some(1), "{arguments:?} {said}");
        assert!(said.contains("t-0"), "{arguments:?} {said}");
    }
}

#[cfg(not(feature = "cli"))]
pub fn printed_up_to(_: &Sim, _: usize) {}
