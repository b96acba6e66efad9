//! The doors: a reader, consumers alone, in a group, as its member, and the command line.

use crate::{AllSeen, LEVELS, Rows, Seen};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use topiclite::{
    Broker, Consumer, ConsumerConfig, ConsumerRecord, ErrorKind, IsolationLevel, OffsetReset,
    ReadFrom, TopicPartition,
};

fn add(rows: &mut Rows, record: &ConsumerRecord<'_>) {
    let behind = rows.last_key_value().is_none_or(|(last, _)| *last < record.offset());
    assert!(behind, "offset {} comes twice, or too late", record.offset());
    let bytes = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let row = (record.timestamp(), bytes(record.key()), bytes(record.value()));
    rows.insert(record.offset(), row);
}

/// What is there of these partitions. All doors give the same; an owner has groups, too.
pub fn read(
    broker: &Broker,
    places: impl Iterator<Item = TopicPartition>,
    is_owner: bool,
) -> AllSeen {
    let one = |place: TopicPartition| {
        let seen = LEVELS.map(|level| by_all(broker, &place, level, is_owner));
        (place, seen)
    };
    let seen: AllSeen = places.map(one).collect();
    if is_owner {
        by_members(broker, &seen);
    }
    seen
}

fn by_all(broker: &Broker, place: &TopicPartition, level: IsolationLevel, is_owner: bool) -> Seen {
    let seen = by_reader(broker, place, level);
    let mut configs = vec![ConsumerConfig::without_group()];
    if is_owner {
        configs.push(ConsumerConfig::new("assigned").enable_auto_commit(false));
    }
    for config in configs {
        let polled = by_consumer(broker, config, place, level);
        assert_eq!(polled.rows, seen.rows, "{place}: a consumer and a reader");
        // What is not there is no error of a consumer's.
        let absent = seen.told == Some(ErrorKind::UnknownTopicOrPartition);
        assert!(absent || polled.told == seen.told, "{place}: {polled:?}, {:?}", seen.told);
    }
    seen
}

fn by_reader(broker: &Broker, place: &TopicPartition, level: IsolationLevel) -> Seen {
    let mut seen = Seen::default();
    let reader = broker.reader(place.topic(), place.partition(), ReadFrom::Beginning);
    let mut reader = match reader {
        Ok(reader) => reader.isolation_level(level),
        Err(error) => return Seen { told: Some(error.kind()), ..seen },
    };
    loop {
        match reader.read(Duration::ZERO) {
            Ok(read) if read.is_empty() => return seen,
            Ok(read) => read.iter().for_each(|record| add(&mut seen.rows, &record)),
            Err(error) => {
                let again = reader.read(Duration::ZERO).map(drop).map_err(|error| error.kind());
                assert_eq!(again, Err(error.kind()), "an error is told again");
                seen.told = Some(error.kind());
                return seen;
            }
        }
    }
}

fn by_consumer(
    broker: &Broker,
    config: ConsumerConfig,
    place: &TopicPartition,
    level: IsolationLevel,
) -> Seen {
    let mut seen = Seen::default();
    let config = config.isolation_level(level).auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config).unwrap();
    let assigned = consumer.assign(std::slice::from_ref(place));
    if let Err(error) = assigned.and_then(|()| consumer.seek_to_beginning(&[])) {
        return Seen { told: Some(error.kind()), ..seen };
    }
    let mut quiet = 0;
    while quiet < 3 {
        let before = consumer.position(place).ok();
        match consumer.poll(Duration::ZERO) {
            Ok(read) if read.is_empty() => match consumer.position(place).ok() == before {
                true => quiet += 1,
                false => quiet = 0,
            },
            Ok(read) => {
                quiet = 0;
                read.iter().for_each(|record| add(&mut seen.rows, &record));
            }
            Err(error) => {
                seen.told = Some(error.kind());
                return seen;
            }
        }
    }
    seen
}

/// Members of a group of which each has one topic to itself: none is given anything else than a
/// reader, and each is given all of it that is not behind an error.
fn by_members(broker: &Broker, seen: &AllSeen) {
    let topics: BTreeSet<&str> = seen.keys().map(TopicPartition::topic).collect();
    for topic in topics {
        let config = ConsumerConfig::new(format!("members of {topic}"));
        let config = config.enable_auto_commit(false).auto_offset_reset(OffsetReset::Earliest);
        let mut consumer = broker.consumer(config).unwrap();
        consumer.subscribe(&[topic]).unwrap();
        let (rows, told) = by_member(&mut consumer);
        let has_all = told.is_none();
        for place in consumer.assignment().unwrap() {
            let Some([by_reader, _]) = seen.get(&place) else { continue };
            let rows = rows.get(&place).cloned().unwrap_or_default();
            let is_part = rows.iter().eq(by_reader.rows.iter().take(rows.len()));
            assert!(is_part, "{place}: a member and a reader");
            let all = rows.len() == by_reader.rows.len() && by_reader.told.is_none();
            assert!(all || !has_all, "{place}: a member is told {} in silence", rows.len());
        }
        consumer.close().ok();
    }
}

/// Records up to the first error, or to where there are no more.
fn by_member(consumer: &mut Consumer) -> (BTreeMap<TopicPartition, Rows>, Option<ErrorKind>) {
    let (mut rows, mut quiet) = (BTreeMap::new(), 0);
    // Member id, join and sync take some polls.
    while quiet < 12 {
        match consumer.poll(Duration::ZERO) {
            Ok(read) if read.is_empty() => quiet += 1,
            Ok(read) => {
                quiet = 0;
                for record in &read {
                    let place = TopicPartition::new(record.topic(), record.partition());
                    add(rows.entry(place).or_default(), &record);
                }
            }
            Err(error) => return (rows, Some(error.kind())),
        }
    }
    (rows, None)
}

/// The command line, which attaches, and what an attached reader saw.
#[cfg(feature = "cli")]
pub mod program {
    use super::{AllSeen, BTreeMap, BTreeSet, ErrorKind, TopicPartition};
    use std::path::Path;

    /// The exit code, what was printed, what was said.
    type Ended = (i32, String, String);

    fn run(dir: &Path, words: &[&str]) -> Ended {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_topiclite"));
        let ended = program.arg("--dir").arg(dir).args(words).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&ended.stderr);
        let code = ended.status.code().unwrap_or(-1);
        assert!((0..=2).contains(&code), "{words:?} ended with {code}: {said}");
        assert!(code == 0 || !said.is_empty() || !ended.stdout.is_empty(), "{words:?} is silent");
        (code, text(&ended.stdout), said)
    }

    /// That every command ends as it should. `seen` is what an attached reader saw, if one could
    /// attach.
    pub fn look(dir: &Path, seen: Option<&AllSeen>) {
        for words in [&["topics", "describe"][..], &["groups", "list"], &["transactions", "list"]] {
            run(dir, words);
        }
        for file in crate::mutations::files(dir) {
            let logs = file.extension().is_some_and(|extension| extension == "log");
            if logs {
                run(dir, &["dump", file.to_str().unwrap()]);
            }
        }
        let (code, printed, said) = run(dir, &["verify"]);
        let Some(seen) = seen else {
            assert_eq!(code, 1, "verify of what is refused: {printed}{said}");
            return;
        };
        let absent = Some(ErrorKind::UnknownTopicOrPartition);
        let damaged = |place: &TopicPartition| seen[place][0].told.filter(|k| Some(*k) != absent);
        let any = seen.keys().find_map(damaged);
        assert!(code == 1 || any.is_none(), "verify does not tell {any:?}: {printed}{said}");
        let there = seen.iter().filter(|(_, seen)| seen[0].told != absent);
        let topics: BTreeSet<&str> = there.map(|(place, _)| place.topic()).collect();
        for topic in topics {
            let (code, printed, said) = run(dir, &["consume", topic, "--format", "%p %o\\n"]);
            let mut offsets: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
            for line in printed.lines() {
                let (partition, offset) = line.split_once(' ').unwrap();
                let of = offsets.entry(partition.parse().unwrap()).or_default();
                of.push(offset.parse().unwrap());
            }
            let told = seen.keys().filter(|place| place.topic() == topic).find_map(damaged);
            assert_eq!(code, i32::from(told.is_some()), "consume {topic}: {told:?}, {said}");
            for (place, seen) in seen.iter().filter(|(place, _)| place.topic() == topic) {
                let printed = offsets.remove(&place.partition()).unwrap_or_default();
                let known = seen[0].rows.keys();
                assert!(known.clone().take(printed.len()).eq(&printed), "{place}: {printed:?}");
                assert!(told.is_some() || known.len() == printed.len(), "{place}: {printed:?}");
            }
        }
    }
}
