//! A real node goes on compacting what was written and compacted here, and what it leaves, closed
//! or killed at a step of its own, is gone on with here.

use super::{dump, tools};
use crate::judge;
use std::collections::BTreeMap;
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

/// A directory of ours that was compacted, and written to since.
fn written(data: &Path) {
    let options = BrokerOptions::from_properties([("log.cleaner.enable", "false")]).unwrap();
    let broker = options.open(data).unwrap();
    let config = [("cleanup.policy", "compact"), ("internal.segment.bytes", "20000")];
    broker.admin().create_topic("t", 1, TopicConfig::from_properties(config).unwrap()).unwrap();
    write(&broker, 0);
    assert!(broker.admin().compact_now("t").unwrap()[0].records_removed() > 0);
    write(&broker, 1);
    broker.close().unwrap();
}

/// A node that has the directory, in `root/node`, stopped; the data directory of it.
fn transplant(tools: &Path, data: &Path, root: &Path) -> PathBuf {
    let mut opens = Command::new(tools.join("kafka-opens"));
    opens.arg(data).arg("t:1").arg("--keep").arg(root);
    for setting in [
        "cleanup.policy=compact",
        "min.cleanable.dirty.ratio=0.01",
        "internal.segment.bytes=20000",
        "segment.bytes=1048576",
    ] {
        opens.args(["--config", &format!("t:{setting}")]);
    }
    let opened = opens.output().unwrap();
    assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    root.join("node/data")
}

/// Runs the node with these settings until the shell's condition holds, then ends it. What it
/// logged last, where it never came to that.
fn node(
    tools: &Path,
    root: &Path,
    settings: &[&str],
    until: &str,
    kill: bool,
) -> Result<(), String> {
    let node = root.join("node");
    let mut start = Command::new(tools.join("kafka-node"));
    start.arg(&node).arg("--background");
    start.args(["--set", "transaction.abort.timed.out.transaction.cleanup.interval.ms=600000"]);
    for setting in settings {
        start.args(["--set", setting]);
    }
    assert!(start.status().unwrap().success());
    let waits = format!("until {until}; do sleep 0.05; done");
    let mut wait = Command::new("timeout");
    wait.args(["90", "bash", "-c", &waits]).current_dir(node.join("data/t-0"));
    wait.stdout(Stdio::null()).stderr(Stdio::null());
    let came = wait.status().unwrap().success();
    let mut stop = Command::new(tools.join("kafka-node"));
    stop.arg(&node).arg("--stop");
    if kill {
        stop.arg("--kill");
    }
    assert!(stop.status().unwrap().success());
    let log = std::fs::read_to_string(node.join("server.log")).unwrap();
    let last = || format!("it never came to {until}: {}", &log[log.len().saturating_sub(4000)..]);
    came.then_some(()).ok_or_else(last)
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

/// Whether the node's cleaner has come up to the active segment.
fn cleaned_up_to(active: i64) -> String {
    format!("grep -q '^t 0 {active}$' ../cleaner-offset-checkpoint && ls *.log.deleted")
}

/// The base offset of the last segment.
fn active(data: &Path) -> i64 {
    let names = std::fs::read_dir(data.join("t-0")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".log")?.parse().ok()).max().unwrap()
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
    let data = transplant(&tools, &ours, &root);
    assert_eq!(first_dirty(&data), first_dirty(&ours));
    let end = cleaned_up_to(active(&data));

    // Killed while it writes, so slowly that there is time for it.
    let slow = ["log.cleaner.io.max.bytes.per.second=40000", "log.cleaner.io.buffer.size=4096"];
    if let Err(why) = node(&tools, &root, &slow, "ls *.log.cleaned", true) {
        // It was through before anybody looked: its files of this life are gone.
        println!("skip: a node that is killed while it cleans: {why}");
        return;
    }
    goes_on_here(&data, &expected, "killed with .cleaned files");

    // Killed when it is through: the old segments are named deleted, and stay for a minute.
    if let Err(why) = node(&tools, &root, &[], &end, true) {
        println!("skip: a node that is killed behind a cleaning: {why}");
        return;
    }
    goes_on_here(&data, &expected, "killed with .deleted files");
    let (latest, after) = read(&data);
    assert_eq!(latest, expected, "cleaned by Kafka");
    assert!(after.len() < before.len(), "{} of {} records", after.len(), before.len());

    // As it was before the old ones were renamed: all results are .swap.
    let swapped = scratch.path().join("swapped");
    judge::copy_dir(&data, &swapped);
    let rename = "for old in *.log.deleted; do base=${old%%.*}; \
                  for kind in log index timeindex txnindex; do \
                  [ -e $base.$kind ] && mv $base.$kind $base.$kind.swap; done; done; \
                  for old in *.deleted; do mv $old ${old%.deleted}; done";
    let mut bash = Command::new("bash");
    bash.args(["-c", rename]).current_dir(swapped.join("t-0"));
    assert!(bash.status().unwrap().success());
    goes_on_here(&swapped, &expected, "killed with .swap files");

    // And closed in good order: its own tools find no fault, and it is gone on with as well.
    node(&tools, &root, &[], "! ls *.log.deleted", false).unwrap();
    dump(&tools, &data);
    goes_on_here(&data, &expected, "closed");
    println!("kafka cleaned {} records to {}", before.len(), after.len());
}
