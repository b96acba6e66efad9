//! A directory on some storage, and the few calls that the tests make to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use topiclite::storage::{Sim, Storage};
use topiclite::time::VirtualClock;
use topiclite::{
    Broker, BrokerOptions, ConsumerConfig, Error, ErrorKind, OffsetReset, ProducerConfig,
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
    let producer = broker.producer(ProducerConfig::default())?;
    let record = ProducerRecord::new(topic).partition(0).value(value).timestamp(5);
    let sent = producer.send(record)?.wait();
    Ok(sent.map_err(|failed| failed.error().clone())?.offset())
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

/// The values of partition 0 in order, whose offsets are dense, and what ended the reading.
pub fn read(broker: &Broker, topic: &str) -> (Vec<String>, Option<Error>) {
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
            Err(error) => return (values, Some(error)),
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
