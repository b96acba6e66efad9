//! Sampled corruptions: directories that were closed, killed or cut off from power are damaged at
//! random, opened, read whole, appended to, and opened once more.
//!
//! Fault: flipped bits, changed, zeroed, cut and added bytes, sectors in each other's place, files
//! that are missing or hold another's bytes, in any file. What must hold: every record that is
//! read is the one that was sent there (H-O2), a commit is one that was made (H-G3), what is
//! missing was told by an error or a warning or was never durable (H-D1), and nothing panics.

use crate::damage::damage;
use crate::history::{Verdict, told};
use crate::scale;
use crate::stock::{Shelf, files, stock};
use crate::sweep::{THREADS, sweep};
use crate::workload::{GROUP, Sent, World, open};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use topiclite::storage::Sim;
use topiclite::storage::sim::Random;
use topiclite::{
    Broker, Error, IsolationLevel, OffsetSpec, ProducerConfig, ProducerRecord, ReadFrom,
};

/// How often each kind of damage was done, and what came of it.
#[derive(Default)]
pub struct Tally {
    refused: AtomicU64,
    told: AtomicU64,
    whole: AtomicU64,
}

/// What a broker gives of a partition.
#[derive(Debug, Default)]
struct Read {
    start: i64,
    end: i64,
    records: BTreeMap<i64, Sent>,
    /// The first error of a read.
    error: Option<Error>,
}

/// Reads a partition as far as it goes, past what cannot be read too.
fn read(broker: &Broker, topic: &str, partition: i32) -> Result<Read, Error> {
    let admin = broker.admin();
    let listed = |spec| admin.list_offsets(topic, partition, spec, IsolationLevel::ReadUncommitted);
    let mut read = Read {
        start: listed(OffsetSpec::Earliest)?.offset().unwrap_or(0),
        end: listed(OffsetSpec::Latest)?.offset().unwrap_or(0),
        ..Read::default()
    };
    let mut reader = broker.reader(topic, partition, ReadFrom::Offset(read.start))?;
    let mut at = read.start;
    loop {
        match reader.next(Duration::ZERO) {
            Ok(Some(record)) => {
                at = record.offset() + 1;
                let header = record.header("h").map(|h| h.value().unwrap_or_default().to_vec());
                let sent = Sent {
                    timestamp: record.timestamp(),
                    key: record.key().map(<[u8]>::to_vec),
                    value: record.value().unwrap_or_default().to_vec(),
                    header,
                };
                if read.records.insert(record.offset(), sent).is_some() {
                    panic!("H-O1 {topic}-{partition}: offset {} is read twice", record.offset());
                }
            }
            Ok(None) => return Ok(read),
            Err(error) => {
                read.error.get_or_insert(error);
                at += 1;
                if at >= read.end {
                    return Ok(read);
                }
                reader.seek(ReadFrom::Offset(at))?;
            }
        }
    }
}

/// Lookups by offset and by time against what was read, where all of it could be.
fn look_up(broker: &Broker, place: (&str, i32), read: &Read) -> Verdict<()> {
    let whole = read.error.is_none() && read.records.len() as i64 == read.end - read.start;
    let found = read.records.iter().filter(|_| whole);
    found.into_iter().try_for_each(|(at, sent)| look_up_one(broker, place, read, *at, sent))
}

fn look_up_one(
    broker: &Broker,
    (topic, partition): (&str, i32),
    read: &Read,
    offset: i64,
    sent: &Sent,
) -> Verdict<()> {
    let place = (topic, partition);
    let from = ReadFrom::Offset(offset);
    let mut reader = told(broker.reader(topic, partition, from), "H-S2")?;
    let next = told(reader.next(Duration::ZERO), "H-S2")?.map(|next| next.offset());
    if next != Some(offset) {
        return Err(format!("H-S2 {place:?}: a read at {offset} begins at {next:?}"));
    }
    let time = sent.timestamp;
    let scan = read.records.iter().find(|(_, sent)| sent.timestamp >= time).map(|(at, _)| *at);
    let spec = OffsetSpec::Timestamp(time);
    let isolation = IsolationLevel::ReadUncommitted;
    let listed = told(broker.admin().list_offsets(topic, partition, spec, isolation), "H-R3")?;
    let beheaded = read.start > 0 && listed.offset().is_none();
    if listed.offset() != scan && !beheaded {
        return Err(format!("H-R3 {place:?}: time {time} is {:?}, not {scan:?}", listed.offset()));
    }
    Ok(())
}

/// Whether the broker said anything about what it found.
fn has_told(broker: &Broker) -> bool {
    let health = broker.health();
    health.warning_count() > 0
        || health.first_error().is_some()
        || health.failed_partitions().next().is_some()
        || broker.adoption().is_some()
}

/// The partitions that are read as another program's, because what is recorded of them is lost or
/// contradicted: there offsets may be missing, so that only the bytes of records are sure. Such a
/// partition is told of.
fn taken_for_foreign(broker: &Broker, world: &World) -> BTreeSet<String> {
    let health = broker.health();
    let all = world.now.topics.iter().flat_map(|(name, topic)| {
        (0..topic.partitions.len()).map(move |number| format!("{name}-{number}"))
    });
    all.filter(|place| {
        let contradicted = format!("{place}: state-contradicted");
        broker.adoption().is_some() || health.warnings().any(|told| told.contains(&contradicted))
    })
    .collect()
}

/// What is missing, by the name of the invariant.
#[derive(Debug, Default, PartialEq, Eq)]
struct Missing {
    /// Without an error from the call that should have given it.
    silent: Vec<String>,
    /// With one.
    told: Vec<String>,
}

/// Compares what can be read with what was sent. Wrong records are errors at once.
fn compare(broker: &Broker, world: &World) -> Verdict<Missing> {
    let mut missing = Missing::default();
    let listed = match broker.admin().list_topics() {
        Ok(listed) => listed.iter().map(|topic| topic.name().to_owned()).collect(),
        Err(error) => {
            missing.told.push(format!("topics: {error}"));
            BTreeSet::new()
        }
    };
    if let Some(other) = listed.iter().find(|name| !world.now.topics.contains_key(*name)) {
        let wrong = format!("H-D3: a topic {other}, which is not there");
        // A directory that is taken over has the topics that its checkpoints name.
        if broker.adoption().is_none() {
            return Err(wrong);
        }
        missing.silent.push(wrong);
    }
    for (name, topic) in &world.now.topics {
        if !listed.contains(name) {
            missing.silent.push(format!("H-D1: topic {name}"));
            continue;
        }
        for (number, borders) in topic.partitions.iter().enumerate() {
            let number = number as i32;
            let place = format!("{name}-{number}");
            let read = match read(broker, name, number) {
                Ok(read) => read,
                Err(error) => {
                    missing.told.push(format!("H-D1 {place}: {error}"));
                    continue;
                }
            };
            let foreign = taken_for_foreign(broker, world);
            let sent = world.records.get(&(topic.incarnation, number));
            for (offset, found) in &read.records {
                let known = sent.and_then(|sent| sent.get(offset));
                if known.map(|known| &**known) == Some(found) {
                    continue;
                }
                let is = String::from_utf8_lossy(&found.value[..found.value.len().min(9)]);
                let wrong = format!("H-O2 {place}: offset {offset} holds {is:?}");
                let anywhere = world.records.values().flat_map(|sent| sent.values());
                if !foreign.contains(&place) || !anywhere.into_iter().any(|sent| **sent == *found) {
                    return Err(wrong);
                }
                missing.silent.push(wrong);
            }
            look_up(broker, (name, number), &read)?;
            if let Some(error) = &read.error {
                missing.told.push(format!("H-D1 {place}: {error}"));
                continue;
            }
            let (start, end) = (read.start, read.end);
            if end > borders.end || start < borders.start {
                missing.silent.push(format!("H-O4 {place}: {start} to {end}, not {borders:?}"));
            }
            // Above what was made durable, an end that comes too early looks like any other.
            let lost = (borders.start..borders.durable).find(|at| !read.records.contains_key(at));
            if let Some(lost) = lost {
                missing.silent.push(format!("H-D1 {place}: offset {lost} of {borders:?}"));
            }
            if (start..end).any(|at| !read.records.contains_key(&at)) {
                missing.silent.push(format!("H-D2 {place}: a hole between {start} and {end}"));
            }
        }
    }
    Ok(missing)
}

/// Commits are some that were made.
fn compare_commits(broker: &Broker, shelf: &Shelf) -> Verdict<Vec<String>> {
    let mut missing = Vec::new();
    let Ok(listed) = broker.admin().list_group_offsets(GROUP) else { return Ok(missing) };
    let mut left = shelf.last_commits.clone();
    for (place, offset) in listed {
        let Some(topic) = shelf.world.now.topics.get(place.topic()) else { continue };
        let key = (place.topic().to_owned(), topic.incarnation, place.partition());
        let at = offset.offset();
        let known = shelf.commits.get(&key).is_some_and(|made| made.contains(&at));
        let end = topic.partitions.get(place.partition() as usize).map_or(0, |p| p.end);
        let first = shelf.commits.get(&key).and_then(|made| made.first().copied());
        // One beyond the end of a log that lost records is moved there.
        let moved = at <= end && first.is_some_and(|first| at <= first.max(end));
        let excused = moved && has_told(broker);
        if !known && !excused {
            return Err(format!("H-G3 {place}: committed {at}, which never was"));
        }
        if left.remove(&key).is_some_and(|last| !last.contains(&at)) {
            missing.push(format!("H-G3 {place}: committed {at}"));
        }
    }
    missing.extend(left.into_keys().map(|key| format!("H-G3: no commit of {key:?}")));
    Ok(missing)
}

/// Appends one record to each partition that takes it, closes, and opens again: what was there is
/// there, and what was appended too.
fn live_on(disk: &Sim, broker: &Broker, shelf: &Shelf) -> Verdict<()> {
    let mut before = BTreeMap::new();
    let producer = told(broker.producer(ProducerConfig::default()), "a producer")?;
    for (name, topic) in &shelf.world.now.topics {
        for number in 0..topic.partitions.len() as i32 {
            let place = (name.as_str(), number);
            let Ok(known) = read(broker, name, number) else { continue };
            let record = ProducerRecord::new(name).partition(number).value("behind");
            let sent = match producer.send(record) {
                Ok(future) => future.wait().map(|metadata| metadata.offset()).ok(),
                Err(_) => None,
            };
            if sent.is_some_and(|at| at < known.end) {
                return Err(format!("H-O1 {place:?}: {sent:?} is given below {}", known.end));
            }
            before.insert(place, (known, sent));
        }
    }
    drop(producer);
    let closed = broker.close();
    let (again, _) = match open(Arc::new(disk.kill()), shelf.world.lives + 2) {
        Ok(again) => again,
        Err(_) if closed.is_err() => return Ok(()),
        Err(error) => return Err(format!("H-D1 opening again: {error}")),
    };
    for ((topic, number), (known, sent)) in before {
        let found = match read(&again, topic, number) {
            Ok(found) => found,
            Err(_) if known.error.is_some() || sent.is_none() => continue,
            Err(error) => return Err(format!("H-D1 {topic}-{number} again: {error}")),
        };
        // Behind a batch whose length is not known any more nothing is found: that was told.
        let place = format!("{topic}-{number}");
        if found.error.is_some() || taken_for_foreign(&again, &shelf.world).contains(&place) {
            continue;
        }
        if let Some((lost, _)) = known
            .records
            .iter()
            .find(|(at, record)| found.start <= **at && found.records.get(at) != Some(*record))
        {
            let warnings: Vec<_> = again.health().warnings().map(str::to_owned).collect();
            let (start, end) = (found.start, found.end);
            return Err(format!(
                "H-D1 {topic}-{number}: {lost} was there before a close, now {start} to {end}, \
                 {:?}, \
                 {warnings:?}",
                found.records.keys()
            ));
        }
        let value = sent.and_then(|at| found.records.get(&at)).map(|sent| sent.value.as_slice());
        if sent.is_some() && value != Some(b"behind") {
            return Err(format!("H-D1 {topic}-{number}: {sent:?} holds {value:?} after a close"));
        }
    }
    Ok(())
}

/// Whether all that the file says is found otherwise. Not so the leader epochs of a partition: by
/// them a dead tail is told from a living one after a power cut.
fn is_derived(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.extension().is_some_and(|it| it == "index" || it == "timeindex")
        || ["partition.metadata", "meta.properties"].contains(&&*name)
        || name.ends_with("-offset-checkpoint")
}

/// One case: a directory from the shelf, its damage, and what is found.
pub fn case(shelves: &[Shelf], seed: u64, tally: &Tally) -> Verdict<()> {
    let mut random = Random::new(seed);
    let shelf = &shelves[random.below(shelves.len() as u64) as usize];
    let disk = shelf.disk.kill();
    let count = if random.below(8) == 0 { 2 + random.below(3) } else { 1 };
    let mut swaps = 0;
    let damages: Vec<_> = (0..count).map(|_| damage(&disk, &mut swaps, &mut random)).collect();
    let explain = |broken: String| {
        let files: Vec<_> =
            files(&disk).iter().map(|(path, len)| format!("{} {len}", path.display())).collect();
        format!("{broken}\n  {}: {damages:?}\n  {files:?}", shelf.name)
    };
    let (broker, _) = match open(Arc::new(disk.clone()), shelf.world.lives + 1) {
        Ok(opened) => opened,
        Err(error) if error.path().is_some() => {
            tally.refused.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        Err(error) => return Err(explain(format!("a refusal without a path: {error}"))),
    };
    let warned = |broken: String| {
        let warnings: Vec<_> = broker.health().warnings().map(str::to_owned).collect();
        explain(format!("{broken}\n  warnings {warnings:?}, adopted {:?}", broker.adoption()))
    };
    let mut missing = compare(&broker, &shelf.world).map_err(warned)?;
    missing.silent.extend(compare_commits(&broker, shelf).map_err(warned)?);
    let has_told = has_told(&broker);
    let outcome = if has_told { &tally.told } else { &tally.whole };
    outcome.fetch_add(1, Ordering::Relaxed);
    let derived = damages.iter().all(|(path, what)| is_derived(path) && !what.starts_with("in "));
    if derived && missing != Missing::default() {
        return Err(warned(format!("only derived files are damaged: {missing:?}")));
    }
    // Two damages may hide each other.
    let silent = &missing.silent;
    if !silent.is_empty() && !has_told && count == 1 && !Shelf::hides(&damages[0].0, silent) {
        return Err(warned(format!("nothing was told of {silent:?}")));
    }
    if random.below(3) == 0 {
        live_on(&disk, &broker, shelf).map_err(warned)?;
    }
    Ok(())
}

/// Runs `count` cases from `first` on.
pub fn run(first: u64, count: u64, threads: u64) -> (Tally, Option<(u64, String)>) {
    let shelves = stock();
    let tally = Tally::default();
    let broken = sweep(first, count, threads, |seed| case(&shelves, seed, &tally));
    (tally, broken)
}

#[test]
fn no_damage_makes_a_wrong_record_or_goes_untold() {
    const TEST: &str = "corruptions::no_damage_makes_a_wrong_record_or_goes_untold";
    let _turn = scale::turn();
    let (first, count) = match scale::only_seed() {
        Some(seed) => (seed, 1),
        None => (0, scale::rounds(1_500, 50_000, 1_000_000)),
    };
    let started = Instant::now();
    let (tally, broken) = run(first, count, THREADS);
    let seconds = started.elapsed().as_secs_f64();
    let [refused, told, whole] =
        [&tally.refused, &tally.told, &tally.whole].map(|count| count.load(Ordering::Relaxed));
    println!(
        "corruptions: {} in {seconds:.1} s, {:.0} per second and thread, seeds from {first}: \
         {refused} refused to open, {told} told, {whole} harmless; checks H-O1 H-O2 H-D1 H-D2 \
         H-D3 H-G3 H-R3 H-S2",
        refused + told + whole,
        (refused + told + whole) as f64 / seconds / THREADS as f64,
    );
    if let Some((seed, broken)) = broken {
        panic!("seed {seed}: {broken}\nreplay: {}", scale::replay_command(TEST, seed));
    }
}

/// The stock is what it is taken for.
#[test]
fn what_is_not_damaged_is_whole() {
    for shelf in &stock() {
        let disk = shelf.disk.kill();
        let (broker, _) = open(Arc::new(disk.clone()), shelf.world.lives + 1).unwrap();
        assert_eq!(compare(&broker, &shelf.world), Ok(Missing::default()), "{}", shelf.name);
        assert_eq!(compare_commits(&broker, shelf), Ok(Vec::new()), "{}", shelf.name);
        live_on(&disk, &broker, shelf).unwrap();
        let logs = files(&shelf.disk);
        let logs =
            logs.iter().filter(|(path, _)| path.extension() == Some(Path::new("log").as_os_str()));
        assert!(logs.count() > 4, "{}: several segments", shelf.name);
    }
}
