//! Compactions and deletions that a kill left half done, ours and Kafka's, before `verify` and
//! `repair`: what is told is done, nothing is lost, and the next compaction goes on.

use crate::files::{copy, golden};
use crate::shell::Shell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use topiclite::storage::{Sim, Storage};
use topiclite::{
    Broker, BrokerOptions, IsolationLevel, Producer, ProducerConfig, ProducerRecord, ReadFrom,
    TopicConfig,
};

/// The last committed value of each key that has one.
type Latest = BTreeMap<Vec<u8>, Vec<u8>>;

fn latest(broker: &Broker) -> Latest {
    let reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    let mut reader = reader.isolation_level(IsolationLevel::ReadCommitted);
    let mut latest = Latest::new();
    while reader.position() < reader.end_offset().unwrap() {
        for record in &reader.read(std::time::Duration::ZERO).unwrap() {
            let key = record.key().unwrap().to_vec();
            match record.value() {
                Some(value) => drop(latest.insert(key, value.to_vec())),
                None => drop(latest.remove(&key)),
            }
        }
    }
    latest
}

/// The names in the partition's folder, with the sizes of their files.
fn names(shell: &Shell) -> BTreeMap<String, u64> {
    let entries = std::fs::read_dir(shell.dir().join("t-0")).unwrap();
    let row = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())
    };
    entries.map(row).collect()
}

/// What tells of a segment, and is no part of the log without one.
const ORPHANS: [&str; 4] = ["index", "timeindex", "txnindex", "snapshot"];

/// The file of a kind of no segment: of one behind the last one's first record, or, since the last
/// snapshot is the log end's, behind the first one's.
fn orphan(folder: &Path, kind: &str) -> PathBuf {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let bases = names.filter_map(|name| name.split_once(".log")?.0.parse::<i64>().ok());
    let base = if kind == "snapshot" { bases.min() } else { bases.max() }.unwrap();
    folder.join(format!("{:020}.{kind}", base + 1))
}

fn is_half_done(name: &str) -> bool {
    [".cleaned", ".swap", ".deleted"].iter().any(|ending| name.ends_with(ending))
}

/// Whether a file is of no segment among these.
fn is_orphan(name: &str, names: &BTreeMap<String, u64>) -> bool {
    let (base, kind) = name.split_once('.').unwrap_or_default();
    let alone =
        |base: &str| ["", ".swap"].iter().all(|e| !names.contains_key(&format!("{base}.log{e}")));
    let newest = names.keys().rev().find(|name| name.ends_with(".snapshot"));
    ORPHANS.contains(&kind) && alone(base) && newest.map(String::as_str) != Some(name)
}

/// Tells and mends what is there, which holds `expected`, and goes on.
fn mends(shell: &Shell, expected: &Latest, what: &str) {
    let before = names(shell);
    let is_left_over = |name: &&String| is_half_done(name) || is_orphan(name, &before);
    let left_over: Vec<&String> = before.keys().filter(is_left_over).collect();
    let what = format!("{what}: {left_over:?}");
    assert_eq!(latest(&Broker::attach(shell.dir()).unwrap()), *expected, "{what}");
    let verified = shell.run(&["verify"], b"");
    assert_eq!(verified.code, 0, "{what}: a kill is no damage: {verified:?}");
    let planned = shell.json(&["repair"]);
    for name in &left_over {
        let told = planned.iter().any(|step| step["path"].as_str().unwrap().ends_with(*name));
        assert!(told, "{what}: {name} is not in {planned:?}");
    }
    assert_eq!(names(shell), before, "{what}: a dry run");
    assert_eq!(shell.json(&["repair", "--execute"]), planned, "{what}");
    let after = names(shell);
    let left_over = |name: &String| is_half_done(name) || is_orphan(name, &after);
    assert!(!after.keys().any(left_over), "{what}: {after:?}");
    assert_eq!(shell.ok(&["repair"]), "nothing is to be repaired\n", "{what}");
    let verified = shell.ok(&["verify"]);
    assert!(verified.contains("0 findings, 0 notes"), "{what}: {verified}");
    assert_eq!(latest(&Broker::attach(shell.dir()).unwrap()), *expected, "{what}");
    // What Kafka knew of the topic's settings is not in the directory.
    shell.ok(&["topics", "alter", "t", "-X", "cleanup.policy=compact"]);
    shell.ok(&["compact", "t", "--now"]);
    assert_eq!(latest(&Broker::attach(shell.dir()).unwrap()), *expected, "{what}, cleaned");
    assert!(shell.ok(&["verify"]).contains("0 findings, 0 notes"), "{what}");
}

/// Writes what a simulated disk has to a real one.
fn export(storage: &dyn Storage, from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in storage.list(from).unwrap() {
        let (source, target) = (from.join(&entry.name), to.join(&entry.name));
        match entry.is_dir {
            true => export(storage, &source, &target),
            false => std::fs::write(target, storage.read_file(&source, 1 << 26).unwrap()).unwrap(),
        }
    }
}

/// Keys written again and again, in committed and aborted transactions too, some deleted.
fn fill(broker: &Broker) {
    let id = ProducerConfig::default().transactional_id("x");
    let transactional = broker.producer(id).unwrap();
    transactional.init_transactions().unwrap();
    let plain = broker.producer(ProducerConfig::default()).unwrap();
    let send = |producer: &Producer, n: usize| {
        let (key, value) = (format!("k{}", n % 7), format!("v{n}").repeat(9));
        let value = (!n.is_multiple_of(10)).then_some(value);
        producer.send_sync(ProducerRecord::new("t").key(&key).value(value.as_deref())).unwrap();
    };
    for round in 0..9 {
        (0..3).for_each(|n| send(&plain, round * 7 + n));
        transactional.begin_transaction().unwrap();
        (3..6).for_each(|n| send(&transactional, round * 7 + n));
        match round % 2 {
            0 => transactional.commit_transaction().unwrap(),
            _ => transactional.abort_transaction().unwrap(),
        }
    }
}

#[test]
fn what_a_kill_leaves_of_our_compaction_is_told_and_finished() {
    let sim = Sim::new();
    let options = BrokerOptions::from_properties([("log.cleaner.enable", "false")]).unwrap();
    let broker = options.storage(Arc::new(sim.clone())).open("/data").unwrap();
    let config = [("cleanup.policy", "compact"), ("internal.segment.bytes", "1500")];
    let config = TopicConfig::from_properties(config).unwrap();
    broker.admin().create_topic("t", 1, config).unwrap();
    fill(&broker);
    let expected = latest(&broker);
    sim.record();
    assert!(broker.admin().compact_now("t").unwrap()[0].records_removed() > 20);
    let mut replay = sim.replay();
    let (mut seen, mut stages) = (BTreeSet::new(), BTreeSet::new());
    while replay.advance() {
        let image = replay.kill();
        let listed = image.list(Path::new("/data/t-0")).unwrap();
        let listed: BTreeSet<String> = listed.into_iter().map(|entry| entry.name).collect();
        let half_done = listed.iter().filter(|name| is_half_done(name));
        stages.extend(half_done.map(|name| name.split_once('.').unwrap().1.to_owned()));
        if seen.insert(listed) {
            let shell = Shell::new();
            export(&image, Path::new("/data"), shell.dir());
            mends(&shell, &expected, &format!("step {}", replay.step()));
        }
    }
    for stage in ["log.cleaned", "index.cleaned", "txnindex.cleaned", "log.swap", "txnindex.swap"] {
        assert!(stages.contains(stage), "{stage} is not among {stages:?}");
    }
    assert!(seen.len() > 20, "{} stages", seen.len());
}

#[test]
fn what_tells_of_a_segment_that_is_gone_is_told_and_removed() {
    for is_closed in [true, false] {
        let sim = Sim::new();
        let options = BrokerOptions::from_properties([("log.cleaner.enable", "false")]).unwrap();
        let broker = options.storage(Arc::new(sim.clone())).open("/data").unwrap();
        let config = [("cleanup.policy", "compact"), ("internal.segment.bytes", "1500")];
        let config = TopicConfig::from_properties(config).unwrap();
        broker.admin().create_topic("t", 1, config).unwrap();
        fill(&broker);
        let expected = latest(&broker);
        if is_closed {
            broker.close().unwrap();
        }
        let image = sim.kill();
        // Of several snapshots the newest counts without its segment, so another one has to be
        // there. A kill comes before or after those of the rolls are written.
        let files = image.list(Path::new("/data/t-0")).unwrap();
        let has_snapshot = files.iter().any(|file| file.name.ends_with(".snapshot"));
        let kinds = ORPHANS.into_iter().filter(|kind| *kind != "snapshot" || has_snapshot);
        let kinds: Vec<&str> = kinds.collect();
        for orphans in kinds.iter().map(|kind| vec![*kind]).chain([kinds.clone()]) {
            let shell = Shell::new();
            export(&image, Path::new("/data"), shell.dir());
            for kind in &orphans {
                std::fs::write(orphan(&shell.dir().join("t-0"), kind), [0; 34]).unwrap();
            }
            let names = names(&shell);
            let found = names.keys().filter(|name| is_orphan(name, &names)).count();
            assert_eq!(found, orphans.len(), "{names:?}");
            mends(&shell, &expected, &format!("closed {is_closed}"));
        }
    }
}

/// What a compaction of Kafka's does to a partition's folder, step by step. `new` are the files
/// that it has written, `old` the base offsets of the segments that these replace.
struct Kafkas<'a> {
    folder: &'a Path,
    new: &'a BTreeMap<String, Vec<u8>>,
    old: &'a [String],
}

impl Kafkas<'_> {
    fn write(&self, ending: &str) {
        for (name, bytes) in self.new {
            std::fs::write(self.folder.join(format!("{name}{ending}")), bytes).unwrap();
        }
    }

    fn rename(&self, name: &str, from: &str, to: &str) {
        let path = |ending: &str| self.folder.join(format!("{name}{ending}"));
        std::fs::rename(path(from), path(to)).unwrap();
    }

    /// Names the first `count` of the old segments deleted.
    fn delete(&self, count: usize) {
        for base in self.old.iter().take(count) {
            for kind in ["log", "index", "timeindex", "txnindex"] {
                let path = self.folder.join(format!("{base}.{kind}"));
                if path.exists() {
                    let gone = self.folder.join(format!("{base}.{kind}.deleted"));
                    std::fs::rename(&path, gone).unwrap();
                }
            }
        }
    }
}

type KafkasStep = (&'static str, fn(&Kafkas<'_>));

const KAFKAS_STEPS: &[KafkasStep] = &[
    ("the batches are being written", |kafka| {
        let (name, bytes) = kafka.new.iter().find(|row| row.0.ends_with(".log")).unwrap();
        let path = kafka.folder.join(format!("{name}.cleaned"));
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }),
    ("all is written", |kafka| kafka.write(".cleaned")),
    ("one has the name of a result", |kafka| {
        kafka.write(".cleaned");
        let log = kafka.new.keys().find(|name| name.ends_with(".log")).unwrap();
        kafka.rename(log, ".cleaned", ".swap");
    }),
    ("all have the name of a result", |kafka| kafka.write(".swap")),
    ("an old segment is named deleted", |kafka| {
        kafka.write(".swap");
        kafka.delete(1);
    }),
    ("all old segments are named deleted", |kafka| {
        kafka.write(".swap");
        kafka.delete(usize::MAX);
    }),
    ("one result has its name", |kafka| {
        kafka.write(".swap");
        kafka.delete(usize::MAX);
        let log = kafka.new.keys().find(|name| name.ends_with(".log")).unwrap();
        kafka.rename(log, ".swap", "");
    }),
    ("all results have their names", |kafka| {
        kafka.delete(usize::MAX);
        kafka.write("");
    }),
    ("indexes of no segment lie about", |kafka| {
        for ending in ["index.deleted", "txnindex.cleaned", "timeindex.swap"] {
            let name = format!("00000000000000000001.{ending}");
            std::fs::write(kafka.folder.join(name), b"").unwrap();
        }
    }),
    ("what tells of a segment that is gone lies about", |kafka| {
        for kind in ORPHANS {
            std::fs::write(orphan(kafka.folder, kind), [0; 34]).unwrap();
        }
    }),
];

#[test]
fn what_kafka_left_of_its_compaction_is_told_and_finished() {
    for case in ["compact-transactions", "compact-clean", "compact-empty-batches"] {
        let source = golden(case).join("data");
        let expected = latest(&Broker::attach(&source).unwrap());
        // What a compaction makes of the first segments: ours of the same directory.
        let cleaned = Shell::new();
        copy(&source, cleaned.dir());
        cleaned.ok(&["topics", "alter", "t", "-X", "cleanup.policy=compact"]);
        cleaned.ok(&["compact", "t", "--now"]);
        let bases = |folder: PathBuf| -> Vec<String> {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
            let names = entries.map(|entry| entry.file_name().into_string().unwrap());
            let mut bases: Vec<String> =
                names.filter_map(|name| name.strip_suffix(".log").map(str::to_owned)).collect();
            bases.sort();
            bases
        };
        let (old, new) = (bases(source.join("t-0")), bases(cleaned.dir().join("t-0")));
        let (first, next) = (new[0].clone(), new[1].clone());
        let old: Vec<String> = old.into_iter().filter(|base| *base < next).collect();
        let files: BTreeMap<String, Vec<u8>> = ["log", "index", "timeindex", "txnindex"]
            .iter()
            .filter_map(|kind| {
                let name = format!("{first}.{kind}");
                let bytes = std::fs::read(cleaned.dir().join("t-0").join(&name)).ok()?;
                Some((name, bytes))
            })
            .collect();
        for (what, leave) in KAFKAS_STEPS {
            let shell = Shell::new();
            copy(&source, shell.dir());
            drop(std::fs::remove_file(shell.dir().join(".kafka_cleanshutdown")));
            leave(&Kafkas { folder: &shell.dir().join("t-0"), new: &files, old: &old });
            shell_mends_kafkas(&shell, &expected, &format!("{case}: {what}"));
        }
    }
}

/// As [`mends`], for a directory that is adopted first.
fn shell_mends_kafkas(shell: &Shell, expected: &Latest, what: &str) {
    let kept = std::fs::read_to_string(shell.dir().join("cleaner-offset-checkpoint")).unwrap();
    let first_dirty = kept.lines().find_map(|line| line.strip_prefix("t 0 ")).unwrap_or("0");
    let told = shell.json(&["topics", "describe", "t"]);
    let dirty = &told[0]["partition_details"][0]["first_dirty_offset"];
    if !dirty.is_null() {
        assert_eq!(dirty.to_string(), first_dirty, "{what}: Kafka's progress counts");
    }
    mends(shell, expected, what);
}
