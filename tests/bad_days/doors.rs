//! What the drawn damage is looked at through: every door that gives records, and the truth that
//! each of them is held to.

use std::collections::BTreeMap;
use std::time::Duration;
use topiclite::{
    Broker, Consumer, ConsumerConfig, ErrorKind, IsolationLevel, OffsetReset, ReadFrom,
    TopicPartition,
};

/// What was written: a value by offset.
pub type Truth = BTreeMap<i64, Vec<u8>>;

/// What a door gave, and the kind of what ended it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub records: Truth,
    pub told: Option<ErrorKind>,
}

/// A consumer's way to its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Assigned,
    AssignedInGroup,
    Member,
}

pub fn by_reader(broker: &Broker, isolation: IsolationLevel) -> Seen {
    let mut records = Truth::new();
    let mut reader = match broker.reader("t", 0, ReadFrom::Beginning) {
        Ok(reader) => reader.isolation_level(isolation),
        Err(error) => return Seen { records, told: Some(error.kind()) },
    };
    loop {
        match reader.read(Duration::ZERO) {
            Ok(read) if read.is_empty() => return Seen { records, told: None },
            Ok(read) => {
                for record in &read {
                    let value = record.value().unwrap().to_vec();
                    let behind = records.last_key_value().is_none_or(|(k, _)| *k < record.offset());
                    assert!(behind, "offsets rise");
                    records.insert(record.offset(), value);
                }
            }
            Err(error) => {
                assert_eq!(reader.read(Duration::ZERO).unwrap_err().kind(), error.kind());
                return Seen { records, told: Some(error.kind()) };
            }
        }
    }
}

/// The values that are committed in a partition of `t`, to a reader.
pub fn committed(broker: &Broker, partition: i32) -> Vec<String> {
    let reader = broker.reader("t", partition, ReadFrom::Beginning).unwrap();
    let mut reader = reader.isolation_level(IsolationLevel::ReadCommitted);
    let mut values = Vec::new();
    while let Some(record) = reader.next(Duration::ZERO).unwrap() {
        values.push(String::from_utf8(record.value().unwrap().to_vec()).unwrap());
    }
    values
}

fn polled(consumer: &mut Consumer) -> Seen {
    let (mut records, mut quiet) = (Truth::new(), 0);
    let partition = TopicPartition::new("t", 0);
    while quiet < 3 {
        let before = consumer.position(&partition).ok();
        match consumer.poll(Duration::ZERO) {
            // A poll may pass over records of aborted transactions alone.
            Ok(read) if read.is_empty() => match consumer.position(&partition).ok() == before {
                true => quiet += 1,
                false => quiet = 0,
            },
            Ok(read) => {
                quiet = 0;
                for record in &read {
                    let old = records.insert(record.offset(), record.value().unwrap().to_vec());
                    assert_eq!(old, None, "an offset comes once");
                }
            }
            Err(error) => {
                let again = consumer.poll(Duration::ZERO).unwrap_err();
                assert_eq!(again.kind(), error.kind());
                return Seen { records, told: Some(error.kind()) };
            }
        }
    }
    Seen { records, told: None }
}

pub fn by_consumer(broker: &Broker, isolation: IsolationLevel, way: Way) -> Seen {
    let config = match way {
        Way::Assigned => ConsumerConfig::without_group(),
        Way::AssignedInGroup => ConsumerConfig::new("assigned"),
        Way::Member => ConsumerConfig::new("members"),
    };
    let config = config
        .isolation_level(isolation)
        .enable_auto_commit(false)
        .auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config).unwrap();
    if way != Way::Member {
        consumer.assign(&[TopicPartition::new("t", 0)]).unwrap();
        consumer.seek_to_beginning(&[]).unwrap();
        return polled(&mut consumer);
    }
    consumer.subscribe(&["t"]).unwrap();
    // Member id, join and sync; then a poll that is told or empty.
    let mut seen = polled(&mut consumer);
    for _ in 0..3 {
        if seen.records.is_empty() && seen.told.is_none() {
            seen = polled(&mut consumer);
        }
    }
    consumer.close().ok();
    seen
}

/// What all doors of a broker give, which is the same. Groups are kept by an owner alone.
pub fn by_all(broker: &Broker, isolation: IsolationLevel, owned: bool, what: &str) -> Seen {
    let seen = by_reader(broker, isolation);
    let ways: &[Way] = match owned {
        true => &[Way::Assigned, Way::AssignedInGroup, Way::Member],
        false => &[Way::Assigned],
    };
    for way in ways {
        let by_consumer = by_consumer(broker, isolation, *way);
        assert_eq!(by_consumer, seen, "{what}, {isolation:?}: a consumer, {way:?}, and a reader");
    }
    seen
}

/// That a door told the truth, and the whole of it or that there is more.
pub fn is_true(seen: &Seen, truth: &Truth, broker: &Broker, what: &str) {
    for (offset, value) in &seen.records {
        assert_eq!(Some(value), truth.get(offset), "{what}: offset {offset} is made up");
    }
    if seen.records.len() == truth.len() {
        return;
    }
    // Whole batches that are missing after a kill may be another program's compaction: a warning
    // tells them.
    let warned = || broker.health().warnings().any(|warning| warning.contains("t-0"));
    assert!(
        seen.told.is_some() || warned(),
        "{what}: {} of {} records, in silence",
        seen.records.len(),
        truth.len()
    );
}
