//! Whole directories, ours and a real Kafka's, that are changed at random: bytes, files, folders,
//! links, names. Whatever is done to them: nothing panics and nothing hangs, no door gives a record
//! that was not written or gives one twice, what is missing is told by an error or a warning, and
//! `verify` tells what a reader is told. A failing round is named by its seed.

#![cfg(all(unix, not(loom)))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "mutants/doors.rs"]
mod doors;
mod judge;
#[path = "mutants/mutations.rs"]
mod mutations;
#[path = "mutants/worlds.rs"]
mod worlds;

use doors::read;
use mutations::{Trace, mutate};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use topiclite::storage::sim::Random;
use topiclite::{Broker, ErrorKind, IsolationLevel, TopicPartition};
use worlds::World;

/// A record: time, key and value.
type Row = (i64, Option<Vec<u8>>, Option<Vec<u8>>);
/// Records by their offsets.
type Rows = BTreeMap<i64, Row>;

const LEVELS: [IsolationLevel; 2] =
    [IsolationLevel::ReadUncommitted, IsolationLevel::ReadCommitted];

/// What a door gave of a partition, and the kind of what ended it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Seen {
    rows: Rows,
    told: Option<ErrorKind>,
}

/// What all partitions gave at both levels.
type AllSeen = BTreeMap<TopicPartition, [Seen; 2]>;

/// Whether the broker says that something is not as it should be.
fn has_told(broker: &Broker, world: &World) -> bool {
    let health = broker.health();
    health.warning_count() > 0
        || health.first_error().is_some()
        || health.failed_partitions().next().is_some()
        || (world.ours && broker.adoption().is_some())
}

/// That what was seen is the truth, and all of it or that there is more.
fn compare(seen: &AllSeen, truth: &AllSeen, (world, trace, told): (&World, Trace, bool)) {
    let anywhere = |row: &Row| world.written.contains(row);
    for (place, seen) in seen {
        for (number, level) in LEVELS.into_iter().enumerate() {
            let (seen, truth) = (&seen[number], &truth[place][number]);
            for (offset, row) in &seen.rows {
                let known = truth.rows.get(offset) == Some(row);
                // A marker that is gone without a trace takes its transaction with it.
                let moved = trace.moves && anywhere(row);
                let unmarked = !world.ours && trace.hides && anywhere(row);
                assert!(known || moved || unmarked, "{place}, {level:?}: {offset} is made up");
            }
            let all = truth.rows.keys().all(|offset| seen.rows.contains_key(offset));
            let hidden = trace.hides && !world.ours;
            assert!(
                all || hidden || told || seen.told.is_some(),
                "{place}, {level:?}: {} of {} records, in silence",
                seen.rows.len(),
                truth.rows.len()
            );
        }
    }
}

/// That `verify` tells of each partition whose readers are told of damage.
fn verified(broker: &Broker, seen: &AllSeen) {
    for (place, seen) in seen {
        let damaged = [ErrorKind::CorruptRecord, ErrorKind::UnsupportedFormat, ErrorKind::Io];
        let told = seen.iter().find_map(|seen| seen.told.filter(|kind| damaged.contains(kind)));
        match broker.admin().verify_partition(place.topic(), place.partition()) {
            Ok(found) => {
                let silent = found.is_empty();
                assert!(told.is_none() || !silent, "{place}: verify says nothing of {told:?}");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// A refusal names a file.
fn refused(error: &topiclite::Error) {
    assert!(error.path().is_some(), "a refusal without a path: {error}");
}

/// Changes a copy of one directory, and looks at it through every door. Whether it was refused.
fn round(world: &World, draw: &mut Random, said: &dyn Fn(&str)) -> bool {
    // Each command is a process.
    let by_program = cfg!(feature = "cli") && draw.below(8) == 0;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    judge::copy_dir(world.dir(), &dir);
    let (mut changes, mut trace) = (Vec::new(), Trace::default());
    for _ in 0..1 + draw.below(5) / 4 {
        let (what, left) = mutate(draw, &dir);
        // Where it is not known which topics there are, nobody can say which is missing.
        let hides = left.hides || what.starts_with("topiclite.registry");
        trace = Trace { hides: trace.hides | hides, moves: trace.moves | left.moves };
        changes.push(what);
    }
    // Two of them may hide each other.
    trace.moves |= changes.len() > 1;
    said(&changes.join(", and "));
    let places = || world.attached.keys().cloned();
    match world.options().attach(&dir) {
        Ok(broker) => {
            let seen = read(&broker, places(), false);
            let told = has_told(&broker, world) || changes.len() > 1;
            compare(&seen, &world.attached, (world, trace, told));
            verified(&broker, &seen);
            drop(broker);
            #[cfg(feature = "cli")]
            if by_program {
                doors::program::look(&dir, Some(&seen));
            }
        }
        Err(error) => {
            refused(&error);
            #[cfg(feature = "cli")]
            if by_program {
                doors::program::look(&dir, None);
            }
        }
    }
    let broker = match world.options().open(&dir) {
        Ok(broker) => broker,
        Err(error) => {
            refused(&error);
            return true;
        }
    };
    let seen = read(&broker, places(), true);
    let told = has_told(&broker, world) || changes.len() > 1;
    compare(&seen, &world.owned, (world, trace, told));
    broker.close().ok();
    match world.options().open(&dir) {
        Ok(broker) => {
            let again = read(&broker, places(), true);
            for (place, seen) in seen {
                let same = again[&place][0].rows == seen[0].rows;
                assert!(same, "{place}: the next life reads others");
            }
        }
        Err(error) => refused(&error),
    }
    false
}

/// Runs a round where a panic and a wait without an end are seen.
fn watched(world: Arc<World>, seed: u64) -> bool {
    let (done, over) = channel();
    let (say, said) = channel();
    let name = world.name.clone();
    let run = move || {
        let mut draw = Random::new(seed);
        let say = |what: &str| say.send(what.to_owned()).unwrap();
        done.send(round(&world, &mut draw, &say)).unwrap();
    };
    let thread = std::thread::Builder::new().name(format!("seed {seed}")).spawn(run).unwrap();
    let outcome = over.recv_timeout(Duration::from_secs(120));
    let what = || format!("seed {seed}, {name}: {}", said.try_iter().collect::<Vec<_>>().concat());
    match outcome {
        Ok(refused) => refused,
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("{}: it hangs", what()),
        Err(_) => {
            let cause = thread.join().unwrap_err();
            let cause = cause.downcast_ref::<String>().cloned().unwrap_or_default();
            panic!("{}: {cause}", what())
        }
    }
}

#[test]
fn no_change_of_a_directory_makes_a_record_up_or_goes_untold() {
    assert!(mutations::count() >= 40);
    let rounds = match std::env::var("TOPICLITE_SCALE").as_deref() {
        Ok("long") => 20_000,
        Ok("ci") => 300,
        _ => 60,
    };
    let first: u64 = std::env::var("TOPICLITE_SEED").map_or(0, |seed| seed.parse().unwrap());
    let rounds = if std::env::var("TOPICLITE_SEED").is_ok() { 1 } else { rounds };
    let first = std::env::var("TOPICLITE_FIRST_SEED").map_or(first, |seed| seed.parse().unwrap());
    let worlds: Vec<Arc<World>> = worlds::all().into_iter().map(Arc::new).collect();
    let (mut refused, mut broken) = (0, Vec::new());
    for seed in first..first + rounds {
        let world = worlds[seed as usize % worlds.len()].clone();
        match std::panic::catch_unwind(|| watched(world, seed)) {
            Ok(was_refused) => refused += u64::from(was_refused),
            Err(cause) => broken.push(*cause.downcast::<String>().unwrap()),
        }
        if broken.len() >= 40 {
            break;
        }
    }
    println!("{rounds} rounds over {} directories, {refused} refused", worlds.len());
    assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken.join("\n"));
}

/// What is not changed is whole.
#[test]
fn what_is_not_changed_is_whole() {
    for world in worlds::all() {
        let records: usize = world.attached.values().map(|seen| seen[0].rows.len()).sum();
        assert!(records > 0, "{}", world.name);
        for seen in [&world.attached, &world.owned] {
            let mut told = seen.iter().filter(|(_, seen)| seen.iter().any(|s| s.told.is_some()));
            assert!(told.next().is_none(), "{}: {:?}", world.name, told.next());
        }
    }
}

/// A copy of a directory.
fn copied(from: &Path) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    judge::copy_dir(from, &home.path().join("data"));
    home
}
