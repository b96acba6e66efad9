//! What the suites do to a broker, and what its callers know of it afterwards.
//!
//! A [`World`] is the callers' knowledge: records in the order of their appends, borders, commits,
//! topics. [`World::run`] makes one call and takes note of its outcome; nothing else is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use topiclite::storage::Storage;
use topiclite::storage::sim::Random;
use topiclite::time::VirtualClock;
use topiclite::{
    Broker, BrokerOptions, ConfigChange, Error, GroupOffset, IsolationLevel, OffsetSpec, Producer,
    ProducerConfig, ProducerRecord, TopicConfig, TopicPartition,
};

/// The directory on a simulated disk.
pub const DIR: &str = "/data";
/// The group that commits.
pub const GROUP: &str = "g";
/// When virtual time begins; each life begins an hour later.
const START_MS: i64 = 1_800_000_000_000;

/// A record as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub header: Option<Vec<u8>>,
}

/// What is known of one partition. Offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Borders {
    /// The log start that was reported.
    pub start: i64,
    /// The log start that a call promised for good.
    pub start_durable: i64,
    /// Everything below it survives a power cut.
    pub durable: i64,
    /// Everything below it was acknowledged.
    pub end: i64,
}

/// What is known of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Tells topics of one name apart.
    pub incarnation: u64,
    pub flavour: u64,
    pub altered: bool,
    pub partitions: Vec<Borders>,
}

/// Committed offsets, by topic, incarnation and partition.
pub type Commits = BTreeMap<(String, u64, i32), i64>;

/// What is known at one moment.
#[derive(Debug, Clone, Default)]
pub struct Shot {
    /// How many steps the disk had taken.
    pub at: u64,
    pub topics: BTreeMap<String, Topic>,
    pub commits: Commits,
    /// Everything that was committed until then survives a power cut.
    pub commits_durable: bool,
    /// A call of this life was acknowledged that made the topics durable.
    pub topics_durable: bool,
    /// The call that led here.
    pub call: String,
}

/// All records of one partition that were ever sent, by offset. Unknown outcomes are there too.
pub type Records = BTreeMap<i64, Arc<Sent>>;

/// The callers' knowledge.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub now: Shot,
    /// By incarnation of the topic and partition.
    pub records: BTreeMap<(u64, i32), Records>,
    /// Numbers incarnations and values.
    pub next: u64,
    /// How many lives there were.
    pub lives: i64,
    /// After kills: the topics as they may be again after a power cut, because the call that
    /// changed them was not over, and none that made topics durable was after it.
    pub alternatives: Vec<BTreeMap<String, Topic>>,
    /// After a kill: the commits as they may be again after a power cut.
    pub older_commits: Vec<Commits>,
    /// What the last append took the places of: appends whose outcome is unknown.
    overwritten: Vec<(i64, Option<Arc<Sent>>)>,
}

/// One call. Partitions are taken modulo what there is; names index [`NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Append {
        topic: usize,
        partition: u64,
        bytes: usize,
    },
    /// Several records in one call, which share batches.
    AppendMany {
        topic: usize,
        partition: u64,
        bytes: usize,
        count: usize,
    },
    Flush,
    /// Lets time pass, and everything that is due then.
    Tick {
        ms: u64,
    },
    /// Commits the offset at so many percent of the way to the end.
    Commit {
        topic: usize,
        partition: u64,
        percent: i64,
    },
    DeleteRecords {
        topic: usize,
        partition: u64,
        percent: i64,
    },
    Create {
        topic: usize,
        partitions: i32,
        flavour: u64,
    },
    Grow {
        topic: usize,
    },
    Alter {
        topic: usize,
    },
    Delete {
        topic: usize,
    },
    Close,
}

/// The topics' names.
pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// The settings of a topic: tiny segments, and what differs.
pub fn config_of(flavour: u64) -> TopicConfig {
    let mut set = vec![("internal.segment.bytes", "1200"), ("index.interval.bytes", "100")];
    match flavour % 5 {
        0 => {}
        1 => set.push(("flush.messages", "1")),
        2 => set.extend([("retention.bytes", "2500"), ("file.delete.delay.ms", "0")]),
        3 => set.extend([("internal.segment.bytes", "20000"), ("compression.type", "lz4")]),
        _ => set.extend([("retention.ms", "20000"), ("flush.messages", "3")]),
    }
    TopicConfig::from_properties(set).unwrap()
}

fn flush_messages(flavour: u64) -> Option<i64> {
    match flavour % 5 {
        1 => Some(1),
        4 => Some(3),
        _ => None,
    }
}

/// A broker of a new life of `storage`, and its clock.
pub fn open(storage: Arc<dyn Storage>, life: i64) -> Result<(Broker, VirtualClock), Error> {
    let clock = VirtualClock::stepping().starting_at(START_MS + life * 3_600_000);
    let options = BrokerOptions::from_properties([
        ("offsets.topic.num.partitions", "1"),
        ("offsets.topic.segment.bytes", "2000"),
        ("log.initial.task.delay.ms", "1000"),
        ("log.retention.check.interval.ms", "1000"),
    ])?;
    let seed = u64::try_from(life).unwrap();
    let broker = options.clock(clock.clock()).seed(seed).storage(storage).open(DIR)?;
    Ok((broker, clock))
}

/// One life of the broker, under way.
pub struct Life {
    pub broker: Broker,
    pub clock: VirtualClock,
    producer: Producer,
}

impl Life {
    /// Opens a new life of what `world` knows.
    pub fn begin(storage: Arc<dyn Storage>, world: &mut World) -> Result<Life, Error> {
        world.lives += 1;
        let (broker, clock) = open(storage, world.lives)?;
        let producer = broker.producer(ProducerConfig::default())?;
        Ok(Life { broker, clock, producer })
    }
}

impl World {
    /// A random call that makes sense here.
    pub fn draw(&self, random: &mut Random) -> Op {
        let topic = random.below(NAMES.len() as u64) as usize;
        let partition = random.below(4);
        let percent = random.below(101) as i64;
        // Few sizes, so that new records fill the holes of lost ones exactly.
        let bytes = [40, 40, 40, 300, 900][random.below(5) as usize];
        let create = Op::Create {
            topic,
            partitions: 1 + random.below(2) as i32,
            flavour: partition + random.below(2),
        };
        if !self.now.topics.contains_key(NAMES[topic]) {
            return create;
        }
        match random.below(40) {
            0..=15 => Op::Append { topic, partition, bytes },
            16..=20 => {
                let count = 2 + random.below(4) as usize;
                Op::AppendMany { topic, partition, bytes: bytes.min(100), count }
            }
            21..=24 => Op::Flush,
            25..=27 => Op::Tick { ms: [10, 1100, 30_000][random.below(3) as usize] },
            28..=31 => Op::Commit { topic, partition, percent },
            32 | 33 => Op::DeleteRecords { topic, partition, percent },
            34 => Op::Grow { topic },
            35 => Op::Alter { topic },
            36 => Op::Delete { topic },
            _ => Op::Append { topic, partition, bytes },
        }
    }

    fn place(&self, topic: usize, partition: u64) -> Option<(&'static str, i32, u64)> {
        let known = self.now.topics.get(NAMES[topic])?;
        let number = (partition % known.partitions.len() as u64) as i32;
        Some((NAMES[topic], number, known.incarnation))
    }

    fn borders(&mut self, topic: &str, partition: i32) -> &mut Borders {
        &mut self.now.topics.get_mut(topic).unwrap().partitions[partition as usize]
    }

    fn sent(&mut self, bytes: usize) -> Sent {
        self.next += 1;
        let n = self.next;
        let mut value = format!("{n:08}-").into_bytes();
        let fill = Random::new(n).next().to_le_bytes();
        value.extend(fill.iter().cycle().take(bytes.saturating_sub(value.len())));
        // Mostly rising, with steps back, so that lookups by time have something to get wrong.
        let wave = [0, 7, -900, 30][(n % 4) as usize];
        let timestamp = START_MS + self.lives * 3_600_000 + n as i64 % 3000 + wave;
        let key = (!n.is_multiple_of(3)).then(|| format!("k{}", n % 5).into_bytes());
        let header = n.is_multiple_of(4).then(|| n.to_le_bytes().to_vec());
        Sent { timestamp, key, value, header }
    }

    /// Makes one call and takes note of it. A call that cannot be made here does nothing.
    ///
    /// # Errors
    /// The call's. What it may have done is in [`World::records`] all the same.
    pub fn run(&mut self, life: &Life, op: Op) -> Result<(), Error> {
        self.now.call = format!("{op:?}");
        self.now.commits_durable = false;
        let known = self.next;
        self.make(life, op)?;
        // Whatever was appended or changed.
        self.now.topics_durable |= self.next > known || op == Op::Close;
        Ok(())
    }

    fn make(&mut self, life: &Life, op: Op) -> Result<(), Error> {
        match op {
            Op::Append { topic, partition, bytes } => self.append(life, topic, partition, bytes, 1),
            Op::AppendMany { topic, partition, bytes, count } => {
                self.append(life, topic, partition, bytes, count)
            }
            Op::Flush => {
                life.broker.flush()?;
                let all = self.now.topics.values_mut().flat_map(|topic| &mut topic.partitions);
                all.for_each(|borders| borders.durable = borders.end);
                self.now.commits_durable = true;
                Ok(())
            }
            Op::Tick { ms } => {
                life.clock.advance(Duration::from_millis(ms));
                self.look_at_starts(life)
            }
            Op::Commit { topic, partition, percent } => {
                self.commit(life, topic, partition, percent)
            }
            Op::DeleteRecords { topic, partition, percent } => {
                let Some((name, number, _)) = self.place(topic, partition) else { return Ok(()) };
                let known = *self.borders(name, number);
                let before = known.start + (known.end - known.start) * percent / 100;
                let start = life.broker.admin().delete_records(name, number, before)?;
                let borders = self.borders(name, number);
                borders.start = start;
                borders.start_durable = borders.start_durable.max(before);
                borders.durable = borders.durable.max(before);
                Ok(())
            }
            _ => self.change(life, op),
        }
    }

    fn append(
        &mut self,
        life: &Life,
        topic: usize,
        partition: u64,
        bytes: usize,
        count: usize,
    ) -> Result<(), Error> {
        let Some((name, number, incarnation)) = self.place(topic, partition) else {
            return Ok(());
        };
        let end = self.borders(name, number).end;
        let sent: Vec<Arc<Sent>> = (0..count).map(|_| Arc::new(self.sent(bytes))).collect();
        let log = self.records.entry((incarnation, number)).or_default();
        let places = end..end + count as i64;
        self.overwritten = places.map(|at| (at, log.get(&at).cloned())).collect();
        log.extend((end..).zip(sent.iter().cloned()));
        let records = sent.iter().map(|sent| {
            let mut record = ProducerRecord::new(name)
                .partition(number)
                .timestamp(sent.timestamp)
                .key(sent.key.as_deref())
                .value(&sent.value);
            if let Some(header) = &sent.header {
                record = record.header("h", header);
            }
            record
        });
        let mut futures = Vec::new();
        if count == 1 {
            for record in records {
                futures.push(life.producer.send(record)?);
            }
        } else {
            futures = life.producer.send_all(records)?;
        }
        let mut outcome = Ok(());
        for future in futures {
            match future.wait() {
                Ok(metadata) if outcome.is_ok() => {
                    let borders = self.borders(name, number);
                    assert_eq!(metadata.offset(), borders.end, "H-O1: offsets are dense");
                    borders.end += 1;
                }
                Ok(metadata) => panic!("H-O3: {metadata:?} after a failure before it"),
                Err(error) => {
                    // It is in the log, and the log goes on behind it: only its sync could not
                    // be begun.
                    if error.possibly_written() && error.is_retriable() {
                        self.borders(name, number).end += 1;
                    }
                    outcome = outcome.and(Err(error));
                }
            }
        }
        outcome?;
        let flavour = self.now.topics[name].flavour;
        let borders = self.borders(name, number);
        if flush_messages(flavour) == Some(1) {
            borders.durable = borders.end;
        }
        Ok(())
    }

    /// What the last append sent was refused: it is not there.
    pub fn strike(&mut self, topic: usize, partition: u64) {
        let Some((_, number, incarnation)) = self.place(topic, partition) else { return };
        let Some(records) = self.records.get_mut(&(incarnation, number)) else { return };
        for (at, before) in self.overwritten.drain(..) {
            match before {
                Some(sent) => drop(records.insert(at, sent)),
                None => drop(records.remove(&at)),
            }
        }
    }

    fn commit(
        &mut self,
        life: &Life,
        topic: usize,
        partition: u64,
        percent: i64,
    ) -> Result<(), Error> {
        let Some((name, number, incarnation)) = self.place(topic, partition) else {
            return Ok(());
        };
        let offset = self.borders(name, number).end * percent / 100;
        let place = TopicPartition::new(name, number);
        let offsets = BTreeMap::from([(place, GroupOffset::new(offset)?)]);
        for (_, outcome) in life.broker.admin().alter_group_offsets(GROUP, &offsets)? {
            outcome?;
        }
        self.now.commits.insert((name.to_owned(), incarnation, number), offset);
        Ok(())
    }

    /// Topics, and the end of the life.
    fn change(&mut self, life: &Life, op: Op) -> Result<(), Error> {
        let admin = life.broker.admin();
        match op {
            Op::Create { topic, partitions, flavour } => {
                let name = NAMES[topic];
                if self.now.topics.contains_key(name) {
                    return Ok(());
                }
                self.next += 1;
                let incarnation = self.next;
                admin.create_topic(name, partitions, config_of(flavour))?;
                let partitions = vec![Borders::default(); partitions as usize];
                let topic = Topic { incarnation, flavour, altered: false, partitions };
                self.now.topics.insert(name.to_owned(), topic);
            }
            Op::Grow { topic } => {
                let Some(known) = self.now.topics.get_mut(NAMES[topic]) else { return Ok(()) };
                let more = known.partitions.len() + 1;
                admin.grow_topic(NAMES[topic], more as i32)?;
                known.partitions.push(Borders::default());
            }
            Op::Alter { topic } => {
                let Some(known) = self.now.topics.get_mut(NAMES[topic]) else { return Ok(()) };
                let change = match known.altered {
                    true => ConfigChange::Delete("segment.ms".into()),
                    false => ConfigChange::Set("segment.ms".into(), "12345".into()),
                };
                admin.alter_topic(NAMES[topic], &[change])?;
                known.altered = !known.altered;
            }
            Op::Delete { topic } => {
                if !self.now.topics.contains_key(NAMES[topic]) {
                    return Ok(());
                }
                admin.delete_topic(NAMES[topic])?;
                self.now.topics.remove(NAMES[topic]);
                self.now.commits.retain(|(name, _, _), _| name != NAMES[topic]);
            }
            Op::Close => {
                life.broker.close()?;
                let all = self.now.topics.values_mut().flat_map(|topic| &mut topic.partitions);
                all.for_each(|borders| borders.durable = borders.end);
                self.now.commits_durable = true;
            }
            _ => unreachable!("the others are no changes of topics"),
        }
        Ok(())
    }

    /// Retention moves log starts without being asked.
    fn look_at_starts(&mut self, life: &Life) -> Result<(), Error> {
        let admin = life.broker.admin();
        for (name, topic) in &mut self.now.topics {
            for (number, borders) in topic.partitions.iter_mut().enumerate() {
                let isolation = IsolationLevel::ReadUncommitted;
                let spec = OffsetSpec::Earliest;
                let listed = admin.list_offsets(name, number as i32, spec, isolation)?;
                let start = listed.offset().unwrap();
                assert!(start >= borders.start, "H-O4: the log start went back");
                borders.start = start;
            }
        }
        Ok(())
    }
}
