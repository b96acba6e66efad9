//! Random histories against a plain map: whatever is sent, aborted, deleted, compacted, saved,
//! damaged and opened again, a table ends with what the log says, however it came to it.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u16),
    Tombstone(u8),
    /// A transaction over so many keys.
    Transaction(u8, u16, bool),
    Trim(u8, u8),
    Compact,
    /// Two hours, in which tombstones go that were cleaned before.
    Pass,
    Update,
    CatchUp,
    Save,
    /// Another table, from the file.
    Reload,
    Damage(u16),
    Reopen,
    Grow,
    Recreate,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0u8..12, any::<u16>()).prop_map(|(key, value)| Step::Put(key, value)),
        4 => (0u8..12).prop_map(Step::Tombstone),
        3 => (1u8..5, any::<u16>(), any::<bool>())
            .prop_map(|(count, value, commits)| Step::Transaction(count, value, commits)),
        1 => (0u8..3, any::<u8>()).prop_map(|(partition, part)| Step::Trim(partition, part)),
        3 => Just(Step::Compact),
        2 => Just(Step::Pass),
        3 => Just(Step::Update),
        2 => Just(Step::CatchUp),
        2 => Just(Step::Save),
        2 => Just(Step::Reload),
        1 => any::<u16>().prop_map(Step::Damage),
        1 => Just(Step::Reopen),
        1 => Just(Step::Grow),
        1 => Just(Step::Recreate),
    ]
}

/// Tombstones go an hour after the first cleaning.
fn forgetting() -> TopicConfig {
    compacted().delete_retention_ms(3_600_000)
}

/// What was committed of a partition, by offset, and its log start.
type Written = BTreeMap<i32, (i64, BTreeMap<i64, (String, Option<String>)>)>;

struct Model {
    world: World,
    broker: Broker,
    producer: Producer,
    transactional: Producer,
    table: Table,
    written: Written,
}

impl Model {
    fn new() -> Model {
        let world = World::new();
        let broker = world.open();
        broker.admin().create_topic("t", 2, forgetting()).unwrap();
        let (producer, transactional) = producers(&broker);
        let table = broker.table("t", kept()).unwrap();
        Model { world, broker, producer, transactional, table, written: Written::new() }
    }

    fn send(&mut self, by: Producer, key: u8, value: Option<String>) -> (i32, i64) {
        let record = ProducerRecord::new("t").key(format!("k{key}"));
        let record = match &value {
            Some(value) => record.value(value.clone()),
            None => record,
        };
        let sent = by.send_sync(record).unwrap();
        (sent.partition(), sent.offset())
    }

    fn note(&mut self, (partition, offset): (i32, i64), key: u8, value: Option<String>) {
        let (_, records) = self.written.entry(partition).or_default();
        records.insert(offset, (format!("k{key}"), value));
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Put(key, value) => {
                let value = Some(value.to_string());
                let place = self.send(self.producer.clone(), *key, value.clone());
                self.note(place, *key, value);
            }
            Step::Tombstone(key) => {
                let place = self.send(self.producer.clone(), *key, None);
                self.note(place, *key, None);
            }
            Step::Transaction(count, value, commits) => self.transact(*count, *value, *commits),
            Step::Trim(partition, part) => self.trim((*partition).into(), *part),
            Step::Compact => drop(self.broker.admin().compact_now("t").unwrap()),
            Step::Pass => self.world.clock.advance(Duration::from_secs(2 * 3600)),
            Step::Update => drop(self.table.update(Duration::ZERO).unwrap()),
            Step::CatchUp => self.check(),
            Step::Save => self.table.save().unwrap(),
            Step::Reload => self.table = self.broker.table("t", kept()).unwrap(),
            Step::Damage(at) => self.damage((*at).into()),
            Step::Reopen => {
                self.broker.close().unwrap();
                self.broker = self.world.open();
                (self.producer, self.transactional) = producers(&self.broker);
                self.table = self.broker.table("t", kept()).unwrap();
            }
            Step::Grow => {
                let count = self.broker.admin().describe_topic("t").unwrap().partition_count();
                if count < 3 {
                    self.broker.admin().grow_topic("t", count + 1).unwrap();
                }
            }
            Step::Recreate => {
                self.broker.admin().delete_topic("t").unwrap();
                self.broker.admin().create_topic("t", 2, forgetting()).unwrap();
                self.written.clear();
                let error = self.table.update(Duration::ZERO).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::UnknownTopicOrPartition);
                self.table.rebuild().unwrap();
            }
        }
    }

    fn transact(&mut self, count: u8, value: u16, commits: bool) {
        self.transactional.begin_transaction().unwrap();
        let mut sent = Vec::new();
        for key in 0..count {
            let value = (key != 2).then(|| format!("{value} in {key}"));
            let place = self.send(self.transactional.clone(), key, value.clone());
            sent.push((place, key, value));
        }
        // What is open is never seen.
        self.table.catch_up(LONG).unwrap();
        match commits {
            true => self.transactional.commit_transaction().unwrap(),
            false => self.transactional.abort_transaction().unwrap(),
        }
        for (place, key, value) in sent.into_iter().filter(|_| commits) {
            self.note(place, key, value);
        }
    }

    fn trim(&mut self, partition: i32, part: u8) {
        let Some((start, records)) = self.written.get_mut(&partition) else { return };
        let Some(last) = records.keys().last() else { return };
        let before = *start + (last + 1 - *start) * i64::from(part) / 256;
        self.broker.admin().delete_records("t", partition, before).unwrap();
        *start = before.max(*start);
    }

    fn damage(&mut self, at: u64) {
        let Ok(file) = self.world.storage.open_cold(Path::new(SNAPSHOT)) else { return };
        let len = file.len().unwrap();
        if len > 0 {
            let mut byte = [0];
            file.read_exact_at(at % len, &mut byte).unwrap();
            file.write_at(at % len, &[!byte[0]]).unwrap();
        }
    }

    fn check(&mut self) {
        assert!(self.table.catch_up(LONG).unwrap());
        let mut expected = Vec::new();
        for (partition, (start, records)) in &self.written {
            let mut map = BTreeMap::new();
            for (offset, (key, value)) in records.range(*start..) {
                match value {
                    Some(value) => map.insert(key.clone(), (value.clone(), *offset)),
                    None => map.remove(key),
                };
            }
            expected.extend(map.into_iter().map(|(k, (v, offset))| (*partition, k, v, offset)));
        }
        expected.sort();
        assert_eq!(held(&self.table), expected, "begun by {:?}", self.table.origin());
        assert_eq!(self.table.lag().unwrap(), 0);
        for (partition, key, value, _) in &expected {
            let count = self.broker.admin().describe_topic("t").unwrap().partition_count();
            if crate::producer::partition_of_key(key.as_bytes(), count) == *partition {
                assert_eq!(self.table.get(key).as_deref(), Some(value.as_bytes()));
            }
            assert!(self.table.contains_key(key));
        }
    }
}

fn producers(broker: &Broker) -> (Producer, Producer) {
    let config = ProducerConfig::default().transactional_id("x");
    let transactional = broker.producer(config).unwrap();
    transactional.init_transactions().unwrap();
    (broker.producer(ProducerConfig::default()).unwrap(), transactional)
}

/// How many histories, each of up to 60 steps.
fn rounds() -> u32 {
    match std::env::var("TOPICLITE_SCALE").as_deref() {
        Ok("ci") => 3000,
        Ok("long") => 200_000,
        _ => 100,
    }
}

#[test]
fn any_history_ends_with_what_a_plain_map_holds() {
    let mut config = ProptestConfig::with_cases(rounds());
    config.failure_persistence = None;
    proptest!(config, |(steps in prop::collection::vec(step(), 1..60))| {
        let mut model = Model::new();
        steps.iter().for_each(|step| model.take(step));
        model.check();
        let reloaded = model.broker.table("t", kept()).unwrap();
        model.table = reloaded;
        model.check();
        assert_eq!(held(&model.table), replayed(&model.broker));
    });
}
