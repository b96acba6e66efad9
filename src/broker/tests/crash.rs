//! Crashes between any two steps of creating, growing, altering and deleting topics.
//!
//! Fault: the process is killed, or the power goes, before any step that reaches the disk. Path: a
//! script of changes and appends on the simulated disk, replayed step by step; each state is
//! opened again. What must hold: the topics are those after the last acknowledged change, or after
//! the one that was under way; no record of a deleted topic is in a new one of its name; what was
//! flushed is there; and the directory can be used and closed.

use crate::config::IsolationLevel;
use crate::log::{AppendOptions, Cursor, FetchLimits};
use crate::record::{RecordBatch, RecordInput, Stamp, encode_single};
use crate::storage::Storage;
use crate::storage::sim::{PowerCut, Sim};
use crate::sync::Arc;
use crate::time::VirtualClock;
use crate::{Broker, BrokerOptions, ConfigChange, TopicConfig};
use std::collections::BTreeMap;
use std::path::Path;

fn open(storage: Arc<dyn Storage>) -> Broker {
    BrokerOptions::new()
        .clock(VirtualClock::stepping().clock())
        .storage(storage)
        .open("/data")
        .unwrap()
}

/// Topics by name: how many partitions, and `retention.ms`.
type Topics = BTreeMap<String, (i32, String)>;

fn topics(broker: &Broker) -> Topics {
    let admin = broker.admin();
    let listed = admin.list_topics().unwrap();
    let described = listed.iter().map(|topic| admin.describe_topic(topic.name()).unwrap());
    described
        .map(|topic| {
            let retention = topic.config_value("retention.ms").unwrap().to_owned();
            (topic.name().to_owned(), (topic.partition_count(), retention))
        })
        .collect()
}

fn append(broker: &Broker, topic: &str, partition: i32, value: &str) {
    let partition = broker.inner().topic(topic).unwrap().partition(partition).unwrap();
    let value = Some(value.as_bytes());
    let record = RecordInput { timestamp: 5, value, ..RecordInput::default() };
    partition.log().unwrap().append(&record, AppendOptions::client(5)).unwrap();
}

fn read(broker: &Broker, topic: &str, partition: i32) -> Vec<String> {
    let partition = broker.inner().topic(topic).unwrap().partition(partition).unwrap();
    let mut cursor = Cursor::new(partition.log_start_offset().unwrap());
    let (mut out, mut scratch) = (Vec::new(), Vec::new());
    while cursor.offset() < partition.log_end_offset().unwrap() {
        let limits = FetchLimits::bytes(1 << 20);
        let chunk = partition.fetch(&mut cursor, IsolationLevel::ReadUncommitted, limits).unwrap();
        let mut bytes = chunk.bytes();
        while !bytes.is_empty() {
            let batch = RecordBatch::parse(bytes).unwrap();
            for record in batch.records(&mut scratch).unwrap() {
                out.push(String::from_utf8(record.unwrap().value().unwrap().to_vec()).unwrap());
            }
            cursor.advance(batch.bytes().len(), batch.header().next_offset(), true);
            bytes = &bytes[batch.bytes().len()..];
        }
    }
    out
}

/// The state of the world after a step of the script was acknowledged.
struct Acked {
    /// How many steps the disk had taken by then.
    at: u64,
    topics: Topics,
    /// By topic, what partition 0 holds and how much of that was flushed.
    records: BTreeMap<String, (Vec<String>, usize)>,
}

/// Runs the script and takes note of what was acknowledged when.
fn script(sim: &Sim) -> Vec<Acked> {
    let broker = open(Arc::new(sim.clone()));
    let admin = broker.admin();
    let mut records: BTreeMap<String, (Vec<String>, usize)> = BTreeMap::new();
    let mut acked = vec![Acked { at: 0, topics: Topics::new(), records: BTreeMap::new() }];
    let mut life = 0;
    for action in [
        "create a", "append a", "flush", "create b", "grow a", "append a", "alter a", "delete a",
        "create a", "append a", "append b", "flush", "delete a", "delete b", "create b",
        "append b", "create a", "append a", "flush",
    ] {
        let (verb, name) = action.split_once(' ').unwrap_or((action, ""));
        match verb {
            "create" => {
                admin.create_topic(name, 2, TopicConfig::default()).unwrap();
                life += 1;
            }
            "grow" => admin.grow_topic(name, 5).unwrap(),
            "alter" => {
                let change = ConfigChange::Set("retention.ms".into(), "99".into());
                admin.alter_topic(name, &[change]).unwrap();
            }
            "delete" => {
                admin.delete_topic(name).unwrap();
                records.remove(name);
            }
            "append" => {
                let (held, _) = records.entry(name.to_owned()).or_default();
                let value = format!("{name} {life} {}", held.len());
                append(&broker, name, 0, &value);
                held.push(value);
            }
            _ => {
                broker.flush().unwrap();
                records.values_mut().for_each(|(held, flushed)| *flushed = held.len());
            }
        }
        let records = records.clone();
        acked.push(Acked { at: sim.steps(), topics: topics(&broker), records });
    }
    acked
}

/// What must hold in a directory found after a crash.
fn check(found: Sim, acked: &[Acked], step: u64, power: bool, what: &str) {
    let broker = open(Arc::new(found.clone()));
    let last = acked.iter().rposition(|acked| acked.at <= step).unwrap();
    let possible = &acked[last..acked.len().min(last + 2)];
    let seen = topics(&broker);
    assert!(
        possible.iter().any(|acked| acked.topics == seen),
        "{what}: topics {seen:?}, not {:?}",
        possible.iter().map(|acked| &acked.topics).collect::<Vec<_>>()
    );
    for name in seen.keys() {
        let values = read(&broker, name, 0);
        let fits = possible.iter().any(|acked| {
            let empty = (Vec::new(), 0);
            let (held, flushed) = acked.records.get(name).unwrap_or(&empty);
            let least = if power { *flushed } else { held.len() };
            values.len() <= held.len() && held.starts_with(&values) && values.len() >= least
        });
        let least = &acked[last].records.get(name);
        assert!(fits, "{what}: topic {name} holds {values:?}, acknowledged {least:?}");
    }
    // The directory works on, also for topics that were deleted or are half made.
    for name in ["a", "b"] {
        if !seen.contains_key(name) {
            broker.admin().create_topic(name, 1, TopicConfig::default()).unwrap();
            assert_eq!(read(&broker, name, 0), [] as [&str; 0], "{what}: topic {name} made anew");
        }
        append(&broker, name, 0, "later");
    }
    let before = topics(&broker);
    broker.close().unwrap();
    let broker = open(Arc::new(found));
    assert_eq!(topics(&broker), before, "{what}");
    for name in ["a", "b"] {
        assert_eq!(read(&broker, name, 0).last().map(String::as_str), Some("later"), "{what}");
    }
    assert!(broker.health().is_ok(), "{what}: {:?}", broker.health());
}

#[test]
fn a_kill_between_any_two_steps_of_a_change_of_topics_leaves_it_done_or_undone() {
    let sim = Sim::new();
    sim.record();
    let acked = script(&sim);
    let mut replay = sim.replay();
    loop {
        let step = replay.step();
        check(replay.kill(), &acked, step, false, &format!("kill at step {step}"));
        if !replay.advance() {
            break;
        }
    }
}

#[test]
fn a_power_cut_between_any_two_steps_of_a_change_of_topics_leaves_it_done_or_undone() {
    let sim = Sim::new();
    sim.record();
    let acked = script(&sim);
    let mut replay = sim.replay();
    loop {
        let step = replay.step();
        for seed in 0..12 {
            let cut = PowerCut::drawn(step * 1000 + seed);
            check(replay.power_cut(&cut), &acked, step, true, &format!("{cut:?} at step {step}"));
        }
        if !replay.advance() {
            break;
        }
    }
}

/// Fault: a power cut, or a kill, between any two steps of a close. Path: all logs are written
/// before the first one is synced, and only then the clean stop is claimed. What must hold: what
/// was flushed is there at each step, and everything once the close returned.
#[test]
fn a_crash_between_any_two_steps_of_a_close_loses_nothing_that_was_flushed() {
    let sim = Sim::new();
    sim.record();
    let broker = open(Arc::new(sim.clone()));
    let mut held: BTreeMap<String, (Vec<String>, usize)> = BTreeMap::new();
    for name in ["a", "b"] {
        broker.admin().create_topic(name, 2, TopicConfig::default()).unwrap();
        let values: Vec<_> = (0..6).map(|n| format!("{name} {n}")).collect();
        for (n, value) in values.iter().enumerate() {
            append(&broker, name, 0, value);
            append(&broker, name, 1, value);
            if n == 2 && name == "a" {
                broker.flush().unwrap();
            }
        }
        held.insert(name.to_owned(), (values, if name == "a" { 3 } else { 0 }));
    }
    let topics = topics(&broker);
    let before = Acked { at: sim.steps(), topics: topics.clone(), records: held.clone() };
    broker.close().unwrap();
    held.values_mut().for_each(|(values, flushed)| *flushed = values.len());
    let acked = [before, Acked { at: sim.steps(), topics, records: held }];
    let mut replay = sim.replay();
    let mut closing = 0;
    loop {
        let step = replay.step();
        if step >= acked[0].at {
            closing += 1;
            check(replay.kill(), &acked, step, false, &format!("kill at step {step}"));
            for seed in 0..12 {
                let cut = PowerCut::drawn(step * 1000 + seed);
                check(replay.power_cut(&cut), &acked, step, true, &format!("{cut:?} at {step}"));
            }
        }
        if !replay.advance() {
            break;
        }
    }
    assert!(closing > 20, "{closing} steps of a close");
}

/// Makes one of Kafka's partitions in `/data`, durable: two segments with gaps, as compaction
/// leaves them. Returns what is in it.
fn put_compacted(sim: &Sim) -> Vec<String> {
    let folder = Path::new("/data/t-0");
    sim.create_dir(Path::new("/data")).unwrap();
    sim.create_dir(folder).unwrap();
    let mut values = Vec::new();
    for (base, offsets) in [(0, [3, 8]), (10, [17, 19])] {
        let file = sim.create_cold(&folder.join(format!("{base:020}.log"))).unwrap();
        let mut bytes = Vec::new();
        for offset in offsets {
            let value = format!("kept {offset}");
            let record = RecordInput { value: Some(value.as_bytes()), ..RecordInput::default() };
            let mut batch = Vec::new();
            encode_single(&mut batch, &record, &Stamp::plain(offset, 0));
            bytes.extend(batch);
            values.push(value);
        }
        file.write_at(0, &bytes).unwrap();
        file.sync_data().unwrap();
    }
    for dir in ["/data/t-0", "/data", "/"] {
        sim.sync_dir(Path::new(dir)).unwrap();
    }
    values
}

/// Fault: a power cut after a life that adopted a directory of Kafka's and wrote to another
/// topic. Path: recovery of a partition above its recovery point, whose segments have gaps. What
/// must hold: every record is there, before and after appends and a clean stop.
#[test]
fn an_adopted_partition_with_gaps_survives_power_cuts() {
    for seed in 0..20 {
        let sim = Sim::new();
        let mut values = put_compacted(&sim);
        let broker = open(Arc::new(sim.clone()));
        assert!(broker.adoption().is_some());
        broker.admin().create_topic("other", 1, TopicConfig::default()).unwrap();
        append(&broker, "other", 0, "begins the life");
        let sim = sim.power_cut(&PowerCut::drawn(seed));
        drop(broker);
        for later in ["appended", "appended later"] {
            let broker = open(Arc::new(sim.clone()));
            assert_eq!(read(&broker, "t", 0), values, "seed {seed}");
            append(&broker, "t", 0, later);
            values.push(later.to_owned());
            broker.close().unwrap();
        }
        let sim = sim.power_cut(&PowerCut::drawn(seed));
        let broker = open(Arc::new(sim));
        assert_eq!(read(&broker, "t", 0), values, "seed {seed}");
        assert!(broker.health().is_ok(), "seed {seed}: {:?}", broker.health());
    }
}

/// The suite itself is tested: without the syncs of directories it must find something.
#[cfg(feature = "planted-bugs")]
#[test]
fn a_planted_loss_of_directory_syncs_is_caught() {
    use crate::storage::planted::{Planted, enable};
    let sim = Sim::new();
    sim.record();
    let _bug = enable(Planted::NoDirectorySync);
    let acked = script(&sim);
    let mut replay = sim.replay();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        while replay.advance() {
            let step = replay.step();
            for seed in 0..12 {
                let cut = PowerCut::drawn(step * 1000 + seed);
                check(replay.power_cut(&cut), &acked, step, true, &format!("{cut:?}"));
            }
        }
    }));
    assert!(caught.is_err());
}
