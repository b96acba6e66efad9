//! What must hold after a crash, by the names of the invariants (`H-..`): a directory that was
//! found is compared with what callers had been told by the moment of the crash.

use crate::workload::{Borders, Commits, GROUP, Records, Sent, Shot, Topic, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use topiclite::storage::sim::Random;
use topiclite::{Broker, Error, IsolationLevel, OffsetSpec, ReadFrom};

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    Kill,
    Power,
}

/// One life: what was known after each of its calls.
#[derive(Debug)]
pub struct History {
    pub shots: Vec<Shot>,
    pub world: World,
    /// Topics that a call failed to change: they may be either way.
    pub unsure: BTreeSet<String>,
}

/// A broken promise, in words that begin with the name of the invariant.
pub type Verdict<T> = Result<T, String>;

/// Makes an error of a call a broken promise.
pub fn told<T>(outcome: Result<T, Error>, what: &str) -> Verdict<T> {
    outcome.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{what}: {error} ({:?}), from {cause:?}", error.kind())
    })
}

/// A partition as it is found.
struct Found {
    start: i64,
    end: i64,
    records: Vec<(i64, Sent)>,
}

/// Reads a partition from its start to its end.
fn read(broker: &Broker, topic: &str, partition: i32) -> Verdict<Found> {
    let admin = broker.admin();
    let place = format!("{topic}-{partition}");
    let listed = |spec, isolation| {
        let listed = told(admin.list_offsets(topic, partition, spec, isolation), &place)?;
        listed.offset().ok_or_else(|| format!("{place}: no {spec:?}"))
    };
    let start = listed(OffsetSpec::Earliest, IsolationLevel::ReadUncommitted)?;
    let end = listed(OffsetSpec::Latest, IsolationLevel::ReadUncommitted)?;
    let stable = listed(OffsetSpec::Latest, IsolationLevel::ReadCommitted)?;
    if !(start <= stable && stable <= end) {
        return Err(format!("H-O4 {place}: start {start}, stable {stable}, end {end}"));
    }
    let mut reader = told(broker.reader(topic, partition, ReadFrom::Beginning), &place)?;
    let mut records = Vec::new();
    loop {
        let some = told(reader.read(Duration::ZERO), &format!("H-D1 reading {place}"))?;
        if some.is_empty() {
            break;
        }
        for record in &some {
            let header = record.header("h").map(|header| header.value().unwrap().to_vec());
            let sent = Sent {
                timestamp: record.timestamp(),
                key: record.key().map(<[u8]>::to_vec),
                value: record.value().unwrap_or_default().to_vec(),
                header,
            };
            records.push((record.offset(), sent));
        }
    }
    for (expected, (offset, _)) in (start..).zip(&records) {
        if *offset != expected {
            return Err(format!("H-O1 {place}: offset {offset} where {expected} should be"));
        }
    }
    if start + records.len() as i64 != end {
        let count = records.len();
        return Err(format!("H-D2 {place}: {count} records between {start} and {end}"));
    }
    Ok(Found { start, end, records })
}

/// Lookups by offset and by time against a scan.
fn look_up(broker: &Broker, topic: &str, partition: i32, found: &Found, seed: u64) -> Verdict<()> {
    let Some((first, _)) = found.records.first() else { return Ok(()) };
    let mut random = Random::new(seed);
    let chosen = random.below(found.records.len() as u64) as usize;
    let (offset, sent) = &found.records[chosen];
    let place = format!("{topic}-{partition}");
    let from = ReadFrom::Offset(*offset);
    let mut reader = told(broker.reader(topic, partition, from), &place)?;
    let next = told(reader.next(Duration::ZERO), &format!("H-S2 reading {place} at {offset}"))?;
    if next.map(|next| (next.offset(), next.value().unwrap_or_default() == sent.value))
        != Some((*offset, true))
    {
        return Err(format!("H-S2 {place}: a read at {offset} does not begin with that record"));
    }
    let time = sent.timestamp;
    let scan = found.records.iter().find(|(_, sent)| sent.timestamp >= time).map(|(at, _)| *at);
    let isolation = IsolationLevel::ReadUncommitted;
    let spec = OffsetSpec::Timestamp(time);
    let listed = told(broker.admin().list_offsets(topic, partition, spec, isolation), &place)?;
    // Kafka looks only in the first segment that reaches the time, also where its records that do
    // lie below the log start.
    let beheaded = found.start > 0 && listed.offset().is_none();
    if listed.offset() != scan && !beheaded {
        let answer = listed.offset();
        return Err(format!("H-R3 {place} from {first}: time {time} is {answer:?}, not {scan:?}"));
    }
    Ok(())
}

/// Compares a partition with what was sent to it.
fn compare(place: &str, found: &Found, records: Option<&Records>) -> Verdict<()> {
    let nothing = Records::new();
    let records = records.unwrap_or(&nothing);
    for (offset, sent) in &found.records {
        match records.get(offset) {
            Some(known) if **known == *sent => {}
            Some(known) => {
                let (was, is) = (head(&known.value), head(&sent.value));
                let dead = !records.values().any(|known| known.value == sent.value);
                let name = if dead { "H-D3" } else { "H-O2" };
                return Err(format!("{name} {place}: offset {offset} holds {is:?}, not {was:?}"));
            }
            None => {
                let is = head(&sent.value);
                return Err(format!("H-D3 {place}: {is:?} at {offset}, which was never there"));
            }
        }
    }
    Ok(())
}

fn head(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(9)]).into_owned()
}

/// The topics, by what can be asked about them: partitions, and the setting that is altered.
fn topics_of(broker: &Broker) -> Verdict<BTreeMap<String, (i32, bool)>> {
    let admin = broker.admin();
    let mut topics = BTreeMap::new();
    for listed in told(admin.list_topics(), "listing topics")? {
        let topic = told(admin.describe_topic(listed.name()), "describing a topic")?;
        let altered = topic.config_value("segment.ms") == Some("12345");
        topics.insert(listed.name().to_owned(), (topic.partition_count(), altered));
    }
    Ok(topics)
}

fn shape(topics: &BTreeMap<String, Topic>) -> BTreeMap<String, (i32, bool)> {
    let shape = |topic: &Topic| (topic.partitions.len() as i32, topic.altered);
    topics.iter().map(|(name, topic)| (name.clone(), shape(topic))).collect()
}

impl History {
    /// A history of a life that begins with what `world` knows.
    pub fn new(world: World) -> History {
        let shots = vec![Shot { at: 0, ..world.now.clone() }];
        History { shots, world, unsure: BTreeSet::new() }
    }

    /// Takes note that a call was acknowledged when the disk had taken `at` steps.
    pub fn acknowledged(&mut self, at: u64) {
        self.world.now.at = at;
        self.shots.push(self.world.now.clone());
    }

    /// The last call that was acknowledged when the disk had taken `step` steps.
    fn last_at(&self, step: u64) -> usize {
        self.shots.iter().rposition(|shot| shot.at <= step).unwrap_or(0)
    }

    /// Compares what `broker` found with what was known when the disk had taken `step` steps.
    /// Returns what is known from there on.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn check(&self, broker: &Broker, step: u64, crash: Crash, seed: u64) -> Verdict<World> {
        let last = self.last_at(step);
        let upto = (last + 2).min(self.shots.len());
        let seen = topics_of(broker)?;
        let (before, after) = (&self.shots[last], &self.shots[upto - 1]);
        // The later of two that look alike admits more.
        let mut possible = vec![&after.topics, &before.topics];
        if crash == Crash::Power && !before.topics_durable {
            possible.extend(&self.world.alternatives);
        }
        let Some(matching) = possible.iter().find(|topics| shape(topics) == seen) else {
            let was = shape(&before.topics);
            return Err(format!("H-D1: topics are {seen:?}, not {was:?}"));
        };
        let alternative = self.world.alternatives.contains(matching);
        let mut world = self.world.clone();
        world.now = Shot { topics: BTreeMap::new(), ..Shot::default() };
        world.records.clear();
        world.alternatives = Vec::new();
        for (name, topic) in *matching {
            // A call under way may have moved borders whose topics it left alone.
            let known = |topics: &BTreeMap<String, Topic>, number: usize| {
                let topic = topics.get(name).filter(|t| t.incarnation == topic.incarnation);
                topic.and_then(|topic| topic.partitions.get(number)).copied()
            };
            let mut partitions = Vec::new();
            for number in 0..topic.partitions.len() {
                let least = known(&before.topics, number).unwrap_or(if alternative {
                    topic.partitions[number]
                } else {
                    Borders::default()
                });
                let most = known(&after.topics, number).unwrap_or(topic.partitions[number]);
                let key = (topic.incarnation, number as i32);
                let sent = self.world.records.get(&key);
                let place = format!("{name}-{number}");
                let found = read(broker, name, number as i32)?;
                let bounds = Bounds { least, most, crash };
                let borders = bounds.judge(&place, &found)?;
                compare(&place, &found, sent)?;
                look_up(broker, name, number as i32, &found, seed)?;
                partitions.push(borders);
                let kept = sent.into_iter().flatten().filter(|(at, _)| **at < found.end);
                let kept = kept.map(|(at, sent)| (*at, Arc::clone(sent))).collect();
                world.records.insert(key, kept);
            }
            world.now.topics.insert(name.clone(), Topic { partitions, ..topic.clone() });
        }
        let candidates = self.commits_since(last, upto, crash);
        world.now.commits = check_commits(broker, &candidates, &world)?;
        world.older_commits = Vec::new();
        if crash == Crash::Kill {
            world.older_commits = self.commits_since(last, upto, Crash::Power);
            if !before.topics_durable {
                world.alternatives.clone_from(&self.world.alternatives);
            }
            // A change of topics that was under way and is visible may be gone after a power cut.
            if shape(&before.topics) != seen {
                world.alternatives.push(before.topics.clone());
            }
            self.keep_records(&mut world);
        }
        Ok(world)
    }

    /// Compares what `broker` found with what is known at the end of a life in which calls
    /// failed. What failed may have been done, unless the records say that it was refused.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn check_faulty(&self, broker: &Broker, crash: Crash) -> Verdict<World> {
        let seen = topics_of(broker)?;
        let mut world = self.world.clone();
        for (name, topic) in &self.world.now.topics {
            if !seen.contains_key(name) && !self.unsure.contains(name) {
                return Err(format!("H-D1: topic {name} is gone"));
            }
            if !seen.contains_key(name) {
                world.now.topics.remove(name);
            }
            let count = topic.partitions.len() as i32;
            if seen.get(name).is_some_and(|(seen, _)| *seen < count) {
                return Err(format!("H-D1: topic {name} has not {count} partitions"));
            }
        }
        for (name, (count, _)) in &seen {
            let unsure = self.unsure.contains(name);
            let known = self.world.now.topics.get(name);
            if known.is_none() && !unsure {
                return Err(format!("H-D3: topic {name}, which was never made or is deleted"));
            }
            for number in 0..*count {
                let found = read(broker, name, number)?;
                look_up(broker, name, number, &found, 3)?;
                let Some(topic) = known else { continue };
                let Some(least) = topic.partitions.get(number as usize) else { continue };
                let sent = self.world.records.get(&(topic.incarnation, number));
                let last = sent.and_then(|sent| sent.keys().next_back());
                let end = least.end.max(last.map_or(0, |last| last + 1));
                // A log start that was seen, and that no call promised, may be forgotten.
                let least = &Borders { start: least.start_durable, ..*least };
                let most = Borders { start: end, end, ..*least };
                let place = format!("{name}-{number}");
                // A topic of the name that was made or deleted in vain has other records.
                if !unsure {
                    let borders = Bounds { least: *least, most, crash }.judge(&place, &found)?;
                    compare(&place, &found, sent)?;
                    world.now.topics.get_mut(name).unwrap().partitions[number as usize] = borders;
                }
            }
        }
        let listed = told(broker.admin().list_group_offsets(GROUP), "H-D1 listing offsets")?;
        for (place, offset) in &listed {
            let Some(topic) = world.now.topics.get(place.topic()) else { continue };
            let end = topic.partitions.get(place.partition() as usize).map_or(0, |p| p.end);
            if offset.offset() > end && !self.unsure.contains(place.topic()) {
                return Err(format!("H-G3 {place}: committed beyond the end {end}"));
            }
        }
        Ok(world)
    }

    /// Keeps the records of topics that may be there again.
    fn keep_records(&self, world: &mut World) {
        for topic in world.alternatives.iter().flat_map(BTreeMap::values) {
            for number in 0..topic.partitions.len() as i32 {
                let key = (topic.incarnation, number);
                let Some(records) = self.world.records.get(&key) else { continue };
                world.records.entry(key).or_insert_with(|| records.clone());
            }
        }
    }

    /// What may be committed, if the calls of the life up to `last` are over.
    fn commits_since(&self, last: usize, upto: usize, crash: Crash) -> Vec<Commits> {
        let shots = &self.shots[..upto];
        let first = match crash {
            Crash::Kill => Some(last),
            Crash::Power => shots[..=last].iter().rposition(|shot| shot.commits_durable),
        };
        let older = if first.is_none() { self.world.older_commits.as_slice() } else { &[] };
        let shots = &shots[first.unwrap_or(0)..];
        older.iter().chain(shots.iter().map(|shot| &shot.commits)).cloned().collect()
    }
}

/// Commits are those after one of the calls that may be the last one that survived, except that
/// none lies beyond the end of its log.
fn check_commits(broker: &Broker, candidates: &[Commits], world: &World) -> Verdict<Commits> {
    let listed = told(broker.admin().list_group_offsets(GROUP), "H-D1 listing offsets")?;
    let topics = &world.now.topics;
    let end = |name: &str, partition: i32| {
        topics[name].partitions.get(partition as usize).map_or(0, |borders| borders.end)
    };
    let mut found = Commits::new();
    for (place, offset) in listed {
        let (name, at) = (place.topic(), offset.offset());
        // Of a topic that is gone, nobody can ask.
        let Some(topic) = topics.get(name) else { continue };
        let end = end(name, place.partition());
        if at > end {
            return Err(format!("H-G3 {place}: committed {at}, beyond the end {end}"));
        }
        found.insert((name.to_owned(), topic.incarnation, place.partition()), at);
    }
    let fits = candidates.iter().any(|commits| {
        let alive = commits.iter().filter(|((name, incarnation, _), _)| {
            topics.get(name).is_some_and(|topic| topic.incarnation == *incarnation)
        });
        let clamped = alive.map(|(key, offset)| (key.clone(), *offset.min(&end(&key.0, key.2))));
        clamped.collect::<Commits>() == found
    });
    if !fits {
        return Err(format!("H-G3: committed {found:?}, which is none of {candidates:?}"));
    }
    Ok(found)
}

/// Between what a partition has to be.
struct Bounds {
    least: Borders,
    most: Borders,
    crash: Crash,
}

impl Bounds {
    fn judge(&self, place: &str, found: &Found) -> Verdict<Borders> {
        let (least, most) = (&self.least, &self.most);
        let (start, end) = (found.start, found.end);
        let start_least = match self.crash {
            Crash::Kill => least.start,
            // What retention removed may be there again: nobody was promised that it is gone.
            Crash::Power => least.start_durable,
        };
        if start < start_least || start > most.start {
            let to = most.start;
            return Err(format!("H-O4 {place}: start {start}, not {start_least} to {to}"));
        }
        let end_least = match self.crash {
            Crash::Kill => least.end,
            Crash::Power => least.durable,
        };
        if end < end_least {
            return Err(format!("H-D1 {place}: end {end}, {end_least} were acknowledged"));
        }
        if end > most.end {
            return Err(format!("H-D3 {place}: end {end}, {} were sent", most.end));
        }
        let durable = match self.crash {
            Crash::Kill => least.durable.min(end),
            Crash::Power => end,
        };
        Ok(Borders { start, start_durable: least.start_durable, durable, end })
    }
}
