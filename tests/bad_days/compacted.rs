//! Logs whose offsets may leave some out, because a compaction took records, or because another
//! program wrote them: where a batch begins is covered by no checksum there, and follows from the
//! batch before it only in part.

use crate::doors::{Truth, by_all, by_reader, is_true};
use crate::drawn::batches;
use crate::place::*;
use std::path::PathBuf;
use std::time::Duration;
use topiclite::storage::{Sim, Storage};
use topiclite::{
    Broker, ErrorKind, IsolationLevel, ProducerConfig, ProducerRecord, ReadFrom, TopicConfig,
};

/// A compacted log in two segments and an active one, and what is left in it; some of its batches
/// have lost records, and some are gone.
fn compacted() -> (Sim, Truth) {
    let sim = Sim::new();
    let broker = open(&sim);
    let config = [
        ("cleanup.policy", "compact"),
        ("internal.segment.bytes", "1400"),
        ("index.interval.bytes", "200"),
    ];
    broker.admin().create_topic("t", 1, TopicConfig::from_properties(config).unwrap()).unwrap();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let record = |key: usize, value: usize| {
        let record = ProducerRecord::new("t").partition(0).timestamp(10 * value as i64);
        record.key(format!("key {key}")).value(format!("{value:070}"))
    };
    for batch in 0..14 {
        let records = (0..3).map(|n| record((batch * 5 + n * 3) % 17, batch * 3 + n));
        producer.send_all(records).unwrap().into_iter().for_each(|sent| {
            sent.wait().unwrap();
        });
    }
    assert!(broker.admin().compact_now("t").unwrap()[0].records_removed() > 10);
    for number in 50..53 {
        producer.send_sync(record(number, number)).unwrap();
    }
    let truth = by_reader(&broker, IsolationLevel::ReadUncommitted).records;
    broker.close().unwrap();
    (sim, truth)
}

/// The same, and nothing that says whose it is.
fn adopted() -> (Sim, Truth) {
    let (sim, truth) = compacted();
    for name in ["topiclite.state", "topiclite.registry", "topiclite.cleaned"] {
        sim.remove(&path(name)).ok();
    }
    sim.sync_dir(&path("")).unwrap();
    (sim, truth)
}

/// The same, once it was opened: it is known how far its files go, and they are not read again.
fn adopted_before() -> (Sim, Truth) {
    let (sim, truth) = adopted();
    let broker = open(&sim);
    send(&broker, "t", "more").unwrap();
    let truth_now = by_reader(&broker, IsolationLevel::ReadUncommitted).records;
    assert_eq!(truth_now.len(), truth.len() + 1);
    broker.close().unwrap();
    (sim, truth_now)
}

/// The times of the records are tens, below this many.
const TIMES: i64 = 54;

/// A batch in a file of the log: where it lies, its offsets, and those that it may have been moved
/// to without a trace, between the batches around it.
struct Placed {
    file: PathBuf,
    at: usize,
    base: i64,
    next: i64,
    free: std::ops::Range<i64>,
}

fn placed(sim: &Sim) -> Vec<Placed> {
    let mut all: Vec<Placed> = Vec::new();
    for file in crate::drawn::files(sim, "log") {
        let bytes = get(sim, &file);
        let name: i64 = file.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let mut lowest = name;
        for at in batches(&bytes).into_iter().filter(|at| at + 61 <= bytes.len()) {
            let number = |at: usize, len: usize| {
                bytes[at..at + len].iter().fold(0_i64, |n, byte| n << 8 | i64::from(*byte))
            };
            if number(at + 8, 4) == 0 {
                break;
            }
            let base = number(at, 8);
            let next = base + number(at + 23, 4) + 1;
            if let Some(last) = all.last_mut() {
                last.free.end = last.free.end.min(base.max(name));
            }
            all.push(Placed { file: file.clone(), at, base, next, free: lowest..i64::MAX });
            lowest = next;
        }
    }
    all
}

/// Each bit of a base offset that matters, and offsets around it.
fn others(batch: &Placed) -> impl Iterator<Item = i64> {
    let bits = (0..64).map(|bit| batch.base ^ (1 << bit));
    let near = [-3, -2, -1, 1, 2, 3, 5, 9].map(|by| batch.base + by);
    let (base, len, free) = (batch.base, batch.next - batch.base, batch.free.clone());
    bits.chain(near).filter(move |other| {
        // Nothing can tell it from a batch that was written there.
        let hidden = free.contains(other) && other.saturating_add(len) <= free.end;
        *other != base && !hidden
    })
}

/// The offset of the record that a lookup by time finds.
fn found_by_time(broker: &Broker, time: i64) -> Result<Option<i64>, ErrorKind> {
    let mut reader = broker.reader("t", 0, ReadFrom::Timestamp(time)).map_err(|e| e.kind())?;
    let record = reader.next(Duration::ZERO).map_err(|error| error.kind())?;
    Ok(record.map(|record| record.offset()))
}

/// What lookups by time find in a log without damage.
fn times(sim: &Sim) -> Vec<Option<i64>> {
    let broker = attach(sim);
    (0..TIMES).map(|time| found_by_time(&broker, time * 10 - 5).unwrap()).collect()
}

/// That every door tells the truth of a log with this damage, up to the damage and behind it.
fn all_doors(broker: &Broker, (truth, times): (&Truth, &[Option<i64>]), owned: bool, what: &str) {
    for (time, known) in (0..).zip(times) {
        let found = found_by_time(broker, time * 10 - 5);
        let right = found.is_ok_and(|found| found == *known);
        let told = found == Err(ErrorKind::CorruptRecord);
        assert!(right || told, "{what}: the time {time} is found at {found:?}, not {known:?}");
    }
    let seen = by_all(broker, IsolationLevel::ReadUncommitted, owned, what);
    is_true(&seen, truth, broker, what);
    assert_eq!(seen.told, Some(ErrorKind::CorruptRecord), "{what}");
    let kept = truth.iter().take(seen.records.len());
    assert!(kept.eq(seen.records.iter()), "{what}: what is before the damage is told in order");
    for offset in truth.keys() {
        let mut reader = broker.reader("t", 0, ReadFrom::Offset(*offset)).unwrap();
        match reader.next(Duration::ZERO) {
            Ok(record) => {
                let record = record.expect(what);
                let found = (record.offset(), record.value().unwrap().to_vec());
                assert_eq!(found, (*offset, truth[offset].clone()), "{what}, from {offset}");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::CorruptRecord, "{what}: {error}"),
        }
    }
}

/// That the batches which are not beside the damaged one are read, from each on.
fn apart(broker: &Broker, all: &[Placed], damaged: &Placed, what: &str) {
    let number = |batch: &Placed| all.iter().position(|other| other.base == batch.base).unwrap();
    let beside = number(damaged).saturating_sub(1)..=number(damaged) + 1;
    for batch in all.iter().filter(|batch| !beside.contains(&number(batch))) {
        let mut reader = broker.reader("t", 0, ReadFrom::Offset(batch.next - 1)).unwrap();
        let outcome = reader.next(Duration::ZERO).map(drop);
        assert!(outcome.is_ok(), "{what}, from {}: {outcome:?}", batch.next - 1);
    }
}

#[test]
fn a_base_offset_that_is_another_one_is_told_where_offsets_are_missing() {
    for (log, make) in [
        ("compacted", compacted as fn() -> (Sim, Truth)),
        ("adopted", adopted),
        ("adopted before", adopted_before),
    ] {
        let (sim, truth) = make();
        let (all, times) = (placed(&sim), times(&sim));
        assert!(all.len() > 6 && times.iter().flatten().count() > 40, "{log}");
        let known = (&truth, &times[..]);
        let every = match std::env::var("TOPICLITE_SCALE").as_deref() {
            Ok("long") => 1,
            Ok("ci") => 3,
            _ => 11,
        };
        let mut rounds = 0;
        let moves = all.iter().flat_map(|batch| others(batch).map(move |other| (batch, other)));
        for (batch, other) in moves.step_by(every) {
            let sim = sim.kill();
            let bytes = other.to_be_bytes();
            sim.damage(&batch.file, |old| old[batch.at..batch.at + 8].copy_from_slice(&bytes))
                .unwrap();
            let (file, at, base) = (batch.file.display(), batch.at, batch.base);
            let what = format!("{log}, {file} at {at}: {base} is {other}");
            let attached = attach(&sim);
            all_doors(&attached, known, false, &format!("{what}, attached"));
            let told = attached.admin().verify_partition("t", 0).unwrap();
            assert!(!told.is_empty(), "{what}: verify is silent");
            if log != "adopted" {
                apart(&attached, &all, batch, &what);
            }
            drop(attached);
            let owner = open(&sim);
            all_doors(&owner, known, true, &format!("{what}, owned"));
            if log != "adopted" {
                apart(&owner, &all, batch, &what);
            }
            rounds += 1;
        }
        println!("{log}: {rounds} rounds");
    }
}

/// `consume` prints what is before the damage and fails; `verify` and `dump` fail.
#[cfg(feature = "cli")]
#[test]
fn the_command_line_tells_a_base_offset_that_steps_back() {
    for make in [compacted as fn() -> (Sim, Truth), adopted_before] {
        let (sim, truth) = make();
        let all = placed(&sim);
        let batch = &all[all.len() / 2];
        let back = (batch.base - 7).to_be_bytes();
        sim.damage(&batch.file, |old| old[batch.at..batch.at + 8].copy_from_slice(&back)).unwrap();
        let home = copied(&sim);
        let run = |arguments: &[&str]| {
            let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_topiclite"));
            let ended = program
                .arg("--dir")
                .arg(home.path().join("data"))
                .args(arguments)
                .output()
                .unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            (ended.status.code(), text(ended.stdout), text(ended.stderr))
        };
        let (code, printed, said) = run(&["consume", "t", "--format", "%o\\n"]);
        assert_eq!(code, Some(1), "{said}");
        let offsets: Vec<i64> = printed.lines().map(|line| line.parse().unwrap()).collect();
        let before = truth.keys().copied().take_while(|offset| *offset < batch.base);
        assert_eq!(offsets, before.collect::<Vec<_>>(), "{said}");
        let name = batch.file.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(name) && said.contains(&batch.at.to_string()), "{said}");
        let (code, printed, said) = run(&["verify"]);
        assert_eq!(code, Some(1), "{printed}{said}");
        assert!(printed.contains(name), "{printed}{said}");
        let file = home.path().join(batch.file.strip_prefix("/").unwrap());
        let (code, printed, said) = run(&["dump", file.to_str().unwrap()]);
        assert_eq!(code, Some(1), "{printed}{said}");
        assert!(printed.contains("or more"), "{printed}{said}");
    }
}
