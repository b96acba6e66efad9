//! A real node goes on compacting what was written and compacted here, and what it leaves, closed
//! or killed at a step of its own, is gone on with here.

use super::{dump, tools};
use crate::judge;
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use topiclite::{
    Broker, BrokerOptions, Codec, ConfigChange, IsolationLevel, OffsetSpec, ProducerConfig,
    ProducerRecord, ReadFrom, TopicConfig,
};

/// The last committed value of each key that has one.
type Latest = BTreeMap<Vec<u8>, Vec<u8>>;

/// Offset, key, and whether there is a value, of every committed record.
type Rows = Vec<(i64, Vec<u8>, bool)>;

fn read(data: &Path) -> (Latest, Rows) {
    let broker = Broker::attach(data).unwrap();
    let reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    let mut reader = reader.isolation_level(IsolationLevel::ReadCommitted);
    let (mut latest, mut rows) = (Latest::new(), Rows::new());
    while reader.position() < reader.end_offset().unwrap() {
        for record in &reader.read(Duration::ZERO).unwrap() {
            let key = record.key().unwrap().to_vec();
            rows.push((record.offset(), key.clone(), record.value().is_some()));
            match record.value() {
                Some(value) => drop(latest.insert(key, value.to_vec())),
                None => drop(latest.remove(&key)),
            }
        }
    }
    (latest, rows)
}

/// The first dirty offset that a directory keeps for the topic.
fn first_dirty(data: &Path) -> i64 {
    let kept = std::fs::read_to_string(data.join("cleaner-offset-checkpoint")).unwrap();
    kept.lines().find_map(|line| line.strip_prefix("t 0 ")).unwrap_or("0").parse().unwrap()
}

/// Keys again and again, plain and compressed, in committed and aborted transactions, some deleted.
fn write(broker: &Broker, round: usize) {
    for (number, codec) in [Codec::None, Codec::Zstd, Codec::Gzip].into_iter().enumerate() {
        let config = ProducerConfig::default().compression_type(codec).batch_size(2000);
        let plain = broker.producer(config.clone()).unwrap();
        let transactional = config.transactional_id(format!("id-{number}"));
        let transactional = broker.producer(transactional).unwrap();
        transactional.init_transactions().unwrap();
        for turn in 0..30 {
            let value = |n: usize| format!("{round}.{number}.{turn}.{n} ").repeat(40);
            let send = |producer: &topiclite::Producer, from: usize| {
                let texts: Vec<_> = (from..from + 5)
                    .map(|n| (format!("k{}", (n * 3 + turn) % 23), value(n)))
                    .collect();
                let records = texts.iter().enumerate().map(|(n, (key, value))| {
                    let value = (!(n + turn).is_multiple_of(5)).then_some(value.as_str());
                    ProducerRecord::new("t").key(key).value(value)
                });
                let sent = producer.send_all(records.collect::<Vec<_>>()).unwrap();
                for future in sent {
                    future.wait().unwrap();
                }
            };
            send(&plain, turn);
            transactional.begin_transaction().unwrap();
            send(&transactional, turn + 7);
            match turn % 3 {
                0 => transactional.abort_transaction().unwrap(),
                _ => transactional.commit_transaction().unwrap(),
            }
        }
    }
}

/// The largest file that a node may write which is to stop in the middle of one: no index of its
/// own metadata is larger.
const FILE_BYTES_MAX: usize = 12 << 20;

/// A directory of ours that was compacted, and written to since: one large segment and many small
/// ones behind it, of which the last are dirty.
fn written(data: &Path) {
    let options = BrokerOptions::from_properties([("log.cleaner.enable", "false")]).unwrap();
    let broker = options.open(data).unwrap();
    let config = TopicConfig::from_properties([("cleanup.policy", "compact")]).unwrap();
    broker.admin().create_topic("t", 1, config).unwrap();
    let producer = broker.producer(ProducerConfig::default().batch_size(2000)).unwrap();
    let value = "copied ".repeat(2000);
    for number in 0..(FILE_BYTES_MAX + (2 << 20)) / value.len() {
        let key = format!("copied {number}");
        producer.send_sync(ProducerRecord::new("t").key(&key).value(value.as_str())).unwrap();
    }
    let small = ConfigChange::Set("internal.segment.bytes".into(), "20000".into());
    broker.admin().alter_topic("t", &[small]).unwrap();
    write(&broker, 0);
    assert!(broker.admin().compact_now("t").unwrap()[0].records_removed() > 0);
    write(&broker, 1);
    broker.close().unwrap();
}

/// A real node that has the directory.
pub(super) struct Node<'a> {
    tools: &'a Path,
    /// `node` in it is the node's folder.
    root: &'a Path,
    /// The name of a partition's folder.
    folder: String,
}

impl Node<'_> {
    /// Makes it, and stops it. A group of its cleaner takes about three of our segments in.
    fn transplant<'a>(tools: &'a Path, ours: &Path, root: &'a Path) -> Node<'a> {
        let settings = [
            "t:cleanup.policy=compact",
            "t:min.cleanable.dirty.ratio=0.0001",
            "t:internal.segment.bytes=60000",
            "t:segment.bytes=1048576",
        ];
        Node::with(tools, ours, root, &["t:1".to_owned()], &settings.map(str::to_owned))
    }

    /// Makes it with these topics and settings of theirs, and stops it.
    pub(super) fn with<'a>(
        tools: &'a Path,
        ours: &Path,
        root: &'a Path,
        topics: &[String],
        settings: &[String],
    ) -> Node<'a> {
        let mut opens = Command::new(tools.join("kafka-opens"));
        opens.arg(ours).args(topics).arg("--no-dump").arg("--keep").arg(root);
        for setting in settings {
            opens.args(["--config", setting]);
        }
        let opened = opens.output().unwrap();
        assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
        let folder = topics[0].replace(":1", "-0");
        Node { tools, root, folder }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.join("node/data")
    }

    fn folder(&self) -> PathBuf {
        self.data().join(&self.folder)
    }

    /// The end of what it has logged.
    fn log(&self) -> String {
        let log = std::fs::read(self.root.join("node/server.log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(20_000)..]).into_owned()
    }

    fn start(&self) -> Command {
        let mut start = Command::new("timeout");
        start.arg("300").arg(self.tools.join("kafka-node")).arg(self.root.join("node"));
        // Old segments are not removed while anybody looks.
        for setting in [
            "transaction.abort.timed.out.transaction.cleanup.interval.ms=600000",
            "log.segment.delete.delay.ms=600000",
        ] {
            start.args(["--set", setting]);
        }
        start
    }

    /// Runs it until the shell's condition holds in the partition's folder, and ends it.
    pub(super) fn run(&self, until: &str, kill: bool) {
        let waits = format!("until {until}; do sleep 0.05; done");
        let mut wait = Command::new("timeout");
        wait.args(["300", "bash", "-c", &waits]).current_dir(self.folder());
        wait.stdout(Stdio::null()).stderr(Stdio::null());
        let started = self.start().arg("--background").status().unwrap();
        assert!(started.success(), "{}", self.log());
        let came = wait.status().unwrap().success();
        let mut stop = Command::new(self.tools.join("kafka-node"));
        stop.arg(self.root.join("node")).arg("--stop");
        if kill || !came {
            stop.arg("--kill");
        }
        assert!(stop.status().unwrap().success(), "{}", self.log());
        assert!(came, "it never came to {until}, {:?}: {}", self.names(), self.log());
    }

    /// Runs it until it throws this exception, at which it is killed, before anybody catches it:
    /// a Java machine can stop there and start a program that looks into it, which kills it.
    fn killed_at(&self, exception: &str, file_bytes_max: Option<usize>) {
        let kill = self.root.join("kill");
        std::fs::write(&kill, "#!/bin/sh\nexec kill -9 \"$PPID\"\n").unwrap();
        std::fs::set_permissions(&kill, Permissions::from_mode(0o755)).unwrap();
        let agent = "-agentlib:jdwp=transport=dt_socket,server=y";
        let agent = format!("{agent},onthrow={exception},launch={}", kill.display());
        // The limit counts in units of 1024 bytes.
        let limit = file_bytes_max.map_or("unlimited".into(), |most| (most / 1024).to_string());
        let node = self.start();
        let limited = "ulimit -f \"$1\" && shift && exec \"$@\"";
        let mut start = Command::new("bash");
        start.args(["-c", limited, "bash", &limit]).arg(node.get_program()).args(node.get_args());
        start.env("JAVA_TOOL_OPTIONS", agent).stdout(Stdio::null()).stderr(Stdio::null());
        // It may come to that while it starts, which is told as a failure.
        let ended = start.status().unwrap();
        assert!(ended.code() != Some(124), "{ended}, {:?}: {}", self.names(), self.log());
    }

    /// Runs it until it cannot give a file this name, because a folder has it, and kills it.
    fn killed_before(&self, name: &str) {
        let folder = self.folder().join(name);
        std::fs::create_dir_all(folder.join("not empty")).unwrap();
        self.killed_at("java.nio.file.DirectoryNotEmptyException", None);
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// The names in the partition's folder.
    fn names(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.folder()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The base offsets of the segments in use, with their zeros.
    fn bases(&self) -> Vec<String> {
        let names = self.names().into_iter();
        names.filter_map(|name| name.strip_suffix(".log").map(str::to_owned)).collect()
    }

    fn assert_has(&self, has: &[String], has_not: &[String]) {
        let names = self.names();
        let missing: Vec<_> = has.iter().filter(|name| !names.contains(name)).collect();
        let there: Vec<_> = has_not.iter().filter(|name| names.contains(name)).collect();
        assert!(missing.is_empty() && there.is_empty(), "no {missing:?}, {there:?} in {names:?}");
    }
}

/// Our own cleaning of what a node left, on a copy.
fn goes_on_here(data: &Path, expected: &Latest, what: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let copy = scratch.path().join("data");
    judge::copy_dir(data, &copy);
    let kept = first_dirty(&copy);
    let attached = Broker::attach(&copy).unwrap();
    let findings = attached.admin().verify_partition("t", 0).unwrap();
    assert!(findings.iter().all(|finding| finding.is_note()), "{what}: {findings:?}");
    assert_eq!(read(&copy).0, *expected, "{what}, attached");
    let broker = Broker::open(&copy).unwrap();
    let compact = ConfigChange::Set("cleanup.policy".into(), "compact".into());
    broker.admin().alter_topic("t", &[compact]).unwrap();
    let status = broker.admin().cleaning_status("t", 0).unwrap();
    assert_eq!(status.first_dirty_offset(), kept, "{what}: Kafka's progress counts");
    broker.admin().compact_now("t").unwrap();
    let isolation = IsolationLevel::ReadUncommitted;
    let end = broker.admin().list_offsets("t", 0, OffsetSpec::Latest, isolation).unwrap();
    broker.close().unwrap();
    let (latest, rows) = read(&copy);
    assert_eq!(latest, *expected, "{what}, cleaned here");
    let mut keys: Vec<&Vec<u8>> = rows.iter().map(|row| &row.1).collect();
    keys.sort_unstable();
    assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{what}: {rows:?}");
    assert!(end.offset().unwrap() >= kept);
    let names =
        std::fs::read_dir(copy.join("t-0")).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    let left = |name: &String| [".cleaned", ".swap", ".deleted"].iter().any(|e| name.ends_with(e));
    assert!(!names.iter().any(left), "{what}: {names:?}");
}

#[test]
fn a_real_kafka_goes_on_cleaning_and_so_is_what_it_leaves_at_each_step() {
    let Some(tools) = tools() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let ours = scratch.path().join("data");
    written(&ours);
    dump(&tools, &ours);
    let (expected, before) = read(&ours);
    let root = scratch.path().join("kafka");
    let node = Node::transplant(&tools, &ours, &root);
    let data = node.data();
    assert_eq!(first_dirty(&data), first_dirty(&ours));
    let name = |base: &str, ending: &str| format!("{base}.{ending}");

    // Killed while it writes: no file may be as large as what it has to copy.
    let first = node.bases()[0].clone();
    node.killed_at("java.io.IOException", Some(FILE_BYTES_MAX));
    node.assert_has(&[name(&first, "log.cleaned")], &[name(&first, "log.swap")]);
    let written = std::fs::metadata(node.folder().join(name(&first, "log.cleaned"))).unwrap().len();
    assert_eq!(written, FILE_BYTES_MAX as u64);
    goes_on_here(&data, &expected, "killed while it writes");

    // Killed when all is written, and one file of several is named a result.
    node.killed_before(&name(&first, "index.swap"));
    let has = [name(&first, "log.swap"), name(&first, "index.cleaned")];
    node.assert_has(&has, &[name(&first, "log.cleaned"), name(&first, "log.deleted")]);
    goes_on_here(&data, &expected, "killed while it names results");

    // Killed with one group done, and one old segment of the next named deleted.
    let bases = node.bases();
    node.killed_before(&name(&bases[2], "log.deleted"));
    let has = ["log.swap", "index.swap", "timeindex.swap", "log.deleted"];
    let mut has = has.map(|ending| name(&bases[1], ending)).to_vec();
    has.extend([name(&bases[2], "log"), name(&first, "log"), name(&first, "log.deleted")]);
    node.assert_has(&has, &[name(&bases[1], "log"), name(&first, "log.swap")]);
    goes_on_here(&data, &expected, "killed while it names old segments");

    // Killed when it is through: all old segments are named deleted.
    let active: i64 = node.bases().last().unwrap().parse().unwrap();
    node.run(&format!("grep -q '^t 0 {active}$' ../cleaner-offset-checkpoint"), true);
    assert!(node.names().iter().any(|name| name.ends_with(".log.deleted")), "{:?}", node.names());
    goes_on_here(&data, &expected, "killed when it is through");
    let (latest, after) = read(&data);
    assert_eq!(latest, expected, "cleaned by Kafka");
    assert!(after.len() < before.len(), "{} of {} records", after.len(), before.len());

    // And closed in good order: its own tools find no fault, and it is gone on with as well.
    node.run("true", false);
    dump(&tools, &data);
    goes_on_here(&data, &expected, "closed");
    println!("kafka cleaned {} records to {}", before.len(), after.len());
}
