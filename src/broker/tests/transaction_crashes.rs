//! Crashes between any two steps of transactions.
//!
//! Fault: the process is killed, or the power goes, before any step that reaches the disk. Path:
//! commits and aborts over two topics and the offsets of a group, on the simulated disk, replayed
//! step by step; each state is opened again. What must hold: a transaction is there in all its
//! partitions and in the group, or nowhere; it is there once its commit was answered, and not
//! before it was asked for, nor after an abort; nothing is left open once the next life writes; and
//! the transactional id goes on. With a power cut that is promised for topics that are durable at
//! each append.

use super::transactions::{MINUTE, World};
use crate::storage::sim::{Entries, Pages, PowerCut, Sim};
use crate::sync::Arc;
use crate::topic::TopicPartition;
use crate::transaction::ProducerIdentity;
use crate::{
    Broker, ConsumerConfig, Durability, ErrorKind, IsolationLevel, OffsetReset, OffsetSpec,
    ProducerConfig, ProducerRecord, Result, TopicConfig,
};
use std::path::Path;
use std::time::Duration;

/// A transaction of the script, by the steps that the disk had taken.
#[derive(Debug)]
struct Scripted {
    /// Its records, in `t-0` and in `u-0`.
    at: (i64, i64),
    offset: i64,
    commit: bool,
    /// When its end was asked for, and when it was answered.
    asked: u64,
    answered: u64,
}

/// Four transactions under one id, and one that is left open.
fn script(sim: &Sim, durable: bool) -> Vec<Scripted> {
    let world = World::on(Arc::new(sim.clone()));
    for topic in ["t", "u"] {
        let config = match durable {
            true => TopicConfig::default().durability(Durability::Power),
            false => TopicConfig::default(),
        };
        world.broker.admin().create_topic(topic, 1, config).unwrap();
    }
    let mut producer = world.init("x").unwrap();
    let mut out = Vec::new();
    for (number, commit) in [(1, true), (2, false), (3, true), (4, true)] {
        let at = work(&world, producer, number);
        let asked = sim.steps();
        producer = world.end("x", producer, commit).unwrap();
        let answered = sim.steps();
        out.push(Scripted { at, offset: number, commit, asked, answered });
    }
    work(&world, producer, 0);
    out
}

fn work(world: &World, producer: ProducerIdentity, offset: i64) -> (i64, i64) {
    let t = world.send("x", producer, "t-0").unwrap();
    world.commit_offset_of("g", "x", producer, offset).unwrap();
    (t, world.send("x", producer, "u-0").unwrap())
}

fn check(found: Sim, script: &[Scripted], step: u64, what: &str) {
    let world = World::on(Arc::new(found));
    if world.broker.inner().topic("u").is_err() {
        return;
    }
    // The first write of the life.
    world.init("y").unwrap();
    for topic in ["t", "u"] {
        world.broker.inner().topic_to_append(topic).unwrap();
    }
    let seen = (world.read("t-0"), world.read("u-0"));
    let offset = world.committed_of("g").unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut last = None;
    for scripted in script {
        let (t, u) = (seen.0.contains(&scripted.at.0), seen.1.contains(&scripted.at.1));
        assert_eq!(t, u, "{what}: {scripted:?} is there in part: {seen:?}");
        let must = scripted.commit && scripted.answered <= step;
        let may = scripted.commit && scripted.asked <= step;
        assert!(t || !must, "{what}: {scripted:?} is lost: {seen:?}");
        assert!(may || !t, "{what}: {scripted:?} was never committed: {seen:?}");
        if t {
            last = Some(scripted.offset);
        }
    }
    assert_eq!(offset, last, "{what}: the group stands elsewhere than the records: {seen:?}");
    assert!(seen.0.is_sorted() && seen.1.is_sorted(), "{what}: {seen:?}");
    // The id goes on, and nothing holds its records back.
    let producer = world.init("x").unwrap();
    let at = world.send("x", producer, "t-0").unwrap();
    world.end("x", producer, true).unwrap();
    assert_eq!(world.read("t-0").last(), Some(&at), "{what}: it hangs behind something open");
    world.broker.close().unwrap();
}

fn every_kill(durable: bool) {
    let sim = Sim::new();
    sim.record();
    let script = script(&sim, durable);
    let mut replay = sim.replay();
    loop {
        let step = replay.step();
        check(replay.kill(), &script, step, &format!("kill at step {step}"));
        if !replay.advance() {
            break;
        }
    }
}

#[test]
fn a_transaction_is_whole_or_not_there_whenever_the_process_is_killed() {
    every_kill(false);
    every_kill(true);
}

/// Lives that end with a close and leave a transaction of one id open, and one of another id that
/// ends it: what a close says of the partitions of `__transaction_state` is what the next life
/// goes by.
fn closed_lives(sim: &Sim) {
    let world = World::on(Arc::new(sim.clone()));
    for topic in ["t", "u"] {
        world.broker.admin().create_topic(topic, 1, TopicConfig::default()).unwrap();
    }
    let a = world.init("a").unwrap();
    let b = world.init("b").unwrap();
    world.send("b", b, "u-0").unwrap();
    let world = world.restart(true);
    world.send("a", a, "t-0").unwrap();
    let world = world.restart(true);
    world.end("b", b, true).unwrap();
    let world = world.restart(true);
    let c = world.init("c").unwrap();
    world.send("c", c, "t-0").unwrap();
    world.restart(true).broker.close().unwrap();
}

/// A life after any kill in the script ends all that is open: after a close by its timeout.
fn check_closed(found: Sim, what: &str) {
    let world = World::on(Arc::new(found));
    if world.broker.inner().topic("u").is_err() {
        return;
    }
    for topic in ["t", "u"] {
        world.broker.inner().topic_to_append(topic).unwrap();
    }
    world.clock.advance(MINUTE * 2);
    for topic in ["t", "u"] {
        let end = |isolation| {
            world.broker.admin().list_offsets(topic, 0, OffsetSpec::Latest, isolation).unwrap()
        };
        let stable = end(IsolationLevel::ReadCommitted).offset();
        let all = end(IsolationLevel::ReadUncommitted).offset();
        assert_eq!(stable, all, "{what}: something hangs in {topic}");
    }
    world.broker.close().unwrap();
}

fn every_kill_of_closed_lives() {
    let sim = Sim::new();
    sim.record();
    closed_lives(&sim);
    let mut replay = sim.replay();
    loop {
        check_closed(replay.kill(), &format!("kill at step {}", replay.step()));
        if !replay.advance() {
            break;
        }
    }
}

#[test]
fn what_a_close_left_open_ends_whenever_a_later_life_is_killed() {
    every_kill_of_closed_lives();
}

/// How many power cuts are drawn at each step.
fn cuts() -> u64 {
    match std::env::var("TOPICLITE_SCALE").as_deref() {
        Ok("ci") => 12,
        Ok("long") => 1000,
        _ => 2,
    }
}

fn every_power_cut(cuts: u64) {
    let sim = Sim::new();
    sim.record();
    let script = script(&sim, true);
    let mut replay = sim.replay();
    loop {
        let step = replay.step();
        for seed in 0..cuts {
            let cut = PowerCut::drawn(step * 1000 + seed);
            check(replay.power_cut(&cut), &script, step, &format!("{cut:?} at step {step}"));
        }
        if !replay.advance() {
            break;
        }
    }
}

#[test]
fn a_durable_transaction_is_whole_or_not_there_whenever_the_power_goes() {
    every_power_cut(cuts());
}

/// A transaction of a record, over the API of users.
fn commit_value(broker: &Broker, value: &str) -> Result<i64> {
    let config = ProducerConfig::default().transactional_id("x");
    let producer = broker.producer(config)?;
    producer.init_transactions()?;
    producer.begin_transaction()?;
    let sent = producer.send_sync(ProducerRecord::new("t").value(value))?;
    producer.commit_transaction()?;
    Ok(sent.offset())
}

fn committed_values(broker: &Broker) -> Vec<String> {
    let config = ConsumerConfig::without_group()
        .auto_offset_reset(OffsetReset::Earliest)
        .isolation_level(IsolationLevel::ReadCommitted);
    let mut consumer = broker.consumer(config).unwrap();
    consumer.assign(&[TopicPartition::new("t", 0)]).unwrap();
    let mut out = Vec::new();
    for _ in 0..20 {
        let polled = consumer.poll(Duration::ZERO).unwrap();
        out.extend(polled.iter().map(|r| String::from_utf8_lossy(r.value().unwrap()).into_owned()));
    }
    out
}

/// Damages what `__transaction_state` says of `x` last but one, and so hides what it says last;
/// false where there is not as much.
fn hide_the_decision(found: &Sim) -> bool {
    // Java's hash of "x" is 120.
    let log = Path::new("/data/__transaction_state-20/00000000000000000000.log");
    let mut hidden = false;
    let change = |bytes: &mut Vec<u8>| {
        let (mut at, mut starts) = (0, Vec::new());
        while let Some(&[0, 0, high, low]) =
            bytes.get(at + 8..at + 12).and_then(|b| b.first_chunk())
            && (high, low) != (0, 0)
        {
            starts.push(at);
            at += 12 + usize::from(u16::from_be_bytes([high, low]));
        }
        if let [.., before, last] = starts[..] {
            bytes[last - 5] ^= 1;
            hidden = before > 0;
        }
    };
    found.damage(log, change).unwrap();
    hidden
}

/// The decision lies behind damage, and one partition may have its marker already: nothing is
/// ended in the others before the damage is given up.
#[test]
fn nothing_is_aborted_that_may_be_committed_behind_damage() {
    let sim = Sim::new();
    sim.record();
    let world = World::on(Arc::new(sim.clone()));
    for topic in ["t", "u"] {
        world.broker.admin().create_topic(topic, 1, TopicConfig::default()).unwrap();
    }
    let producer = world.init("x").unwrap();
    world.send("x", producer, "t-0").unwrap();
    world.send("x", producer, "u-0").unwrap();
    let asked = sim.steps();
    world.end("x", producer, true).unwrap();
    let answered = sim.steps();
    let mut replay = sim.replay();
    replay.advance_to(asked);
    let (mut halves, mut repaired) = (0, 0);
    while replay.step() <= answered {
        let (step, found) = (replay.step(), replay.kill());
        if hide_the_decision(&found) {
            let world = World::on(Arc::new(found));
            let seen = |world: &World| {
                let one = |of: &str| (world.read(of), world.end_offset(of));
                (one("t-0"), one("u-0"))
            };
            let before = seen(&world);
            halves += usize::from(before.0.0.len() != before.1.0.len());
            let y = world.init("y").unwrap();
            world.send("y", y, "t-0").unwrap();
            let told = world.init("x").unwrap_err();
            assert_eq!(told.kind(), ErrorKind::CorruptRecord, "step {step}: {told}");
            assert_eq!(told.partition(), Some(20), "step {step}: {told}");
            assert!(told.path().is_some(), "step {step}: {told}");
            world.broker.inner().topic_to_append("u").unwrap();
            // What runs out meanwhile is ended by nobody either.
            world.clock.advance(MINUTE * 3);
            world.init("z").unwrap();
            let after = seen(&world);
            assert_eq!(after.1, before.1, "step {step}: u-0 was ended");
            assert_eq!(after.0.0, before.0.0, "step {step}: t-0 was ended");
            world.broker.close().unwrap();
            repaired += 1;
        }
        if !replay.advance() {
            break;
        }
    }
    println!("{halves} halves of {repaired}");
    assert!(halves > 0, "no kill was between two markers");
}

/// A disk on which a partition has, durably, what a transactional id sent in `later` transactions,
/// and in one that is open, while the power took from `__transaction_state` all but its beginning.
fn behind_its_partition(later: usize, open: bool) -> Sim {
    let sim = Sim::new();
    let world = World::on(Arc::new(sim.clone()));
    world.broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let mut producer = world.init("x").unwrap();
    world.broker.flush().unwrap();
    for _ in 0..later {
        world.send("x", producer, "t-0").unwrap();
        producer = world.end("x", producer, true).unwrap();
    }
    if open {
        world.send("x", producer, "t-0").unwrap();
    }
    let partition = world.broker.inner().topic("t").unwrap().partition(0).unwrap();
    partition.log().unwrap().flush().unwrap();
    sim.power_cut(&PowerCut::new(1, Pages::None, Entries::All))
}

#[test]
fn an_id_goes_on_whose_partition_kept_more_of_it_than_its_topic() {
    for (later, open) in (0..5).flat_map(|later| [(later, false), (later, true)]) {
        // The id is used at once, after a kill, and after a life that ended with a close.
        for restarts in [&[][..], &[false], &[true], &[true, true], &[false, true]] {
            let what = format!("{later} more transactions, open: {open}, restarts {restarts:?}");
            let mut world = World::on(Arc::new(behind_its_partition(later, open)));
            for clean in restarts {
                let plain = ProducerRecord::new("t").value("plain");
                let producer = world.broker.producer(ProducerConfig::default()).unwrap();
                producer.send_sync(plain).unwrap();
                drop(producer);
                world = world.restart(*clean);
            }
            let end = world.end_offset("t-0");
            for value in ["first", "second"] {
                let at = commit_value(&world.broker, value);
                let at = at.unwrap_or_else(|error| panic!("{what}: {value}: {error}"));
                assert!(at >= end, "{what}: {value} is taken for what lies at {at}");
            }
            let values = committed_values(&world.broker);
            assert!(values.ends_with(&["first".into(), "second".into()]), "{what}: {values:?}");
        }
    }
}

#[cfg(feature = "planted-bugs")]
mod planted_bugs {
    use crate::storage::planted::{Planted, enable};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Kills between the steps of a commit find each bug.
    #[test]
    fn planted_bugs_of_transactions_are_found_by_kills() {
        for bug in [Planted::MarkersBeforeDecision, Planted::AnswerBeforeMarkers] {
            let _guard = enable(bug);
            let caught = catch_unwind(AssertUnwindSafe(|| super::every_kill(false)));
            assert!(caught.is_err(), "{bug:?} was not found");
        }
        let _guard = enable(Planted::UnfinishedForgotten);
        let caught = catch_unwind(AssertUnwindSafe(super::every_kill_of_closed_lives));
        assert!(caught.is_err(), "what a close forgot was not found");
    }
}
