//! Transactions that are left at each of their steps: open, decided with no, some or all of their
//! markers, committed and aborted. A real Kafka reads them as this crate does, finishes what is
//! decided, goes on under the same transactional ids, and what it leaves is gone on with here.

use super::judge::manifest::{Committed, Contents};
use super::{dump, is_explained, rows, tools};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use topiclite::testing::{Fault, TestBroker, TransactionStep};
use topiclite::{
    Broker, ErrorKind, GroupMetadata, IsolationLevel, OffsetAndMetadata, Producer, ProducerConfig,
    ProducerRecord, Result, TopicConfig, TopicPartition,
};

/// Transactions that end write to the first two, those that stay open to the last.
const TOPICS: [(&str, i32); 3] = [("left", 1), ("right", 1), ("open", 1)];
const ENDED: [&str; 2] = ["left", "right"];
const OPEN: [&str; 3] = ["open-data", "open-offsets", "open-added"];
/// Of an end: no marker, one, two, all three and no complete record, all.
const STOPS: u64 = 5;

fn ended() -> impl Iterator<Item = (String, bool, u64)> {
    let ends = [("commit", true), ("abort", false)];
    ends.into_iter().flat_map(|(name, commit)| {
        (0..STOPS).map(move |stop| (format!("{name}-{stop}"), commit, stop))
    })
}

fn begun(broker: &Broker, id: &str) -> Result<Producer> {
    let config = ProducerConfig::default().transactional_id(id).transaction_timeout_ms(900_000);
    let producer = broker.producer(config)?;
    producer.init_transactions()?;
    producer.begin_transaction()?;
    Ok(producer)
}

fn send(producer: &Producer, topic: &str, value: &str) -> Result<i64> {
    let record = ProducerRecord::new(topic).partition(0).key("k").value(value);
    Ok(producer.send_sync(record)?.offset())
}

fn send_offsets(producer: &Producer, id: &str) {
    let at = TopicPartition::new("left", 0);
    let offsets: BTreeMap<_, _> = [(at, OffsetAndMetadata::new(1))].into();
    let group = GroupMetadata::new(format!("group-{id}"));
    producer.send_offsets_to_transaction(&offsets, &group).unwrap();
}

/// A broker in which each transaction has stopped at its step.
fn stopped() -> TestBroker {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let test = TestBroker::builder().starting_at(now.as_millis() as i64).start().unwrap();
    for (topic, partitions) in TOPICS {
        let config = TopicConfig::default().retention_ms(-1);
        test.admin().create_topic(topic, partitions, config).unwrap();
    }
    for (id, commit, stop) in ended() {
        let producer = begun(&test, &id).unwrap();
        for topic in ENDED {
            send(&producer, topic, &id).unwrap();
        }
        send_offsets(&producer, &id);
        let fault = match stop {
            0..=2 => Fault::transaction(TransactionStep::Marker).nth(stop + 1).always(),
            _ => Fault::transaction(TransactionStep::Complete),
        };
        let fault = fault.of_transactional_id(&id).fail(ErrorKind::StorageFailed);
        let fault = (stop + 1 < STOPS).then(|| test.inject(fault));
        let outcome = match commit {
            true => producer.commit_transaction(),
            false => producer.abort_transaction(),
        };
        assert_eq!(outcome.is_err(), fault.is_some(), "{id}");
        if let Some(fault) = fault {
            fault.assert_hit();
            fault.release();
        }
    }
    for id in OPEN {
        let producer = begun(&test, id).unwrap();
        let lost = test.inject(Fault::append().on("open").fail(ErrorKind::StorageFailed));
        if id == "open-added" {
            send(&producer, "open", id).unwrap_err();
            lost.assert_hit();
            continue;
        }
        lost.release();
        send(&producer, "open", id).unwrap();
        if id == "open-offsets" {
            send_offsets(&producer, id);
        }
    }
    let states: BTreeMap<String, String> =
        test.open_transactions().unwrap().iter().map(state).collect();
    assert_eq!(states.len(), OPEN.len() + 2 * (STOPS as usize - 1), "{states:?}");
    test
}

fn state(found: &topiclite::TransactionDescription) -> (String, String) {
    (found.transactional_id().to_owned(), found.state().name().to_owned())
}

fn copy(from: &Path, into: &Path) {
    std::fs::create_dir_all(into).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &into.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), into.join(entry.file_name())).unwrap()),
        }
    }
}

/// Kafka's reading of the topics against ours: every record, and those that are committed.
fn agree(broker: &Broker, kafka: &Contents, topics: &[&str], what: &str) {
    for topic in topics {
        let tp = TopicPartition::new(*topic, 0);
        let told = &kafka.partitions[&tp.to_string()];
        let all = rows(broker, &tp, IsolationLevel::ReadUncommitted);
        told.uncommitted.matches(&all).unwrap_or_else(|differs| panic!("{what}, {tp}: {differs}"));
        let committed = rows(broker, &tp, IsolationLevel::ReadCommitted);
        let offsets: Vec<i64> = committed.iter().map(|row| row.offset).collect();
        match &told.committed {
            Committed::Offsets(told) => assert_eq!(*told, offsets, "{what}, {tp}"),
            Committed::Same => assert_eq!(offsets.len(), all.len(), "{what}, {tp}"),
            Committed::Digest { .. } => panic!("{what}, {tp}: too many to list"),
        }
    }
}

fn committed_values(broker: &Broker, topic: &str) -> Vec<String> {
    let found = rows(broker, &TopicPartition::new(topic, 0), IsolationLevel::ReadCommitted);
    found.iter().map(|row| String::from_utf8(row.value.clone().unwrap()).unwrap()).collect()
}

/// What has to be committed of the transactions that ended.
fn check_ended(broker: &Broker, kafka: &Contents, what: &str) {
    for topic in ENDED {
        let expected: Vec<String> = ended().filter(|row| row.1).map(|row| row.0).collect();
        assert_eq!(committed_values(broker, topic), expected, "{what}, {topic}");
    }
    for (id, commit, _) in ended() {
        let group = kafka.group_offsets.get(&format!("group-{id}"));
        let offset = group.and_then(|group| group.get("left-0")).map(|at| at.0);
        assert_eq!(offset, commit.then_some(1), "{what}, {id}");
        let ours = broker.admin().list_group_offsets(&format!("group-{id}")).unwrap_or_default();
        let ours = ours.values().next().map(|at| at.offset());
        assert_eq!(ours, commit.then_some(1), "{what}, {id}");
        let told = &kafka.transactions[&id].state;
        assert_eq!(told, if commit { "CompleteCommit" } else { "CompleteAbort" }, "{what}, {id}");
    }
}

/// Kafka opens the directory, finishes what is decided, and runs a transaction under each id.
fn kafka_goes_on(tools: &Path, kept: &Path) -> (Contents, Contents) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/go_on.py");
    let mut run = Command::new("python3");
    run.arg(script).arg(tools).arg(kept.join("node")).arg(ENDED.join(","));
    run.args(ended().map(|row| row.0)).args(OPEN);
    let run = run.output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let told: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    (Contents::parse(&told["before"]), Contents::parse(&told["after"]))
}

fn go_on(tools: &Path, data: &Path, scratch: &Path, what: &str) {
    let kept = scratch.join(format!("{what}-kafka"));
    let (kafka, complaints) = super::opened_and_kept(tools, data, &TOPICS, Some(&kept));
    let attached = Broker::attach(data).unwrap();
    for (topic, _) in TOPICS {
        let tp = TopicPartition::new(topic, 0);
        let all = rows(&attached, &tp, IsolationLevel::ReadUncommitted);
        kafka.partitions[&tp.to_string()].uncommitted.matches(&all).unwrap();
    }
    drop(attached);
    for line in &complaints {
        // Without a clean stop the zeros that a file grew by stand behind its last batch.
        let found = ["Found invalid messages in log segment", "Corruption found in segment"];
        let zeros = what == "killed" && found.iter().any(|found| line.contains(found));
        assert!(zeros || is_explained(line), "a complaint of what is {what}: {line}");
    }
    let (before, after) = kafka_goes_on(tools, &kept);
    // What this crate makes of the same directory.
    let ours = scratch.join(format!("{what}-ours"));
    copy(data, &ours);
    let broker = Broker::open(&ours).unwrap();
    begun(&broker, "judge").unwrap().abort_transaction().unwrap();
    agree(&broker, &before, &ENDED, what);
    check_ended(&broker, &before, what);
    for id in OPEN {
        assert_eq!(before.transactions[id].state, "Ongoing", "{what}, {id}");
    }
    drop(broker);
    // And of what Kafka went on to write.
    let theirs = scratch.join(format!("{what}-theirs"));
    copy(&kept.join("node/data"), &theirs);
    let broker = Broker::open(&theirs).unwrap();
    agree(&broker, &after, &ENDED.map(|topic| topic), what);
    agree(&broker, &after, &["open"], what);
    let ids: Vec<String> = ended().map(|row| row.0).chain(OPEN.map(str::to_owned)).collect();
    for (number, id) in ids.iter().enumerate() {
        let told = &after.transactions[id];
        let found = broker.admin().describe_transaction(id).unwrap();
        assert_eq!(found.state().name(), told.state, "{what}, {id}");
        assert_eq!(i64::from(found.producer_epoch()), told.producer_epoch, "{what}, {id}");
        let producer = begun(&broker, id).unwrap();
        send(&producer, "left", &format!("here {id}")).unwrap();
        match number % 2 {
            0 => producer.commit_transaction().unwrap(),
            _ => producer.abort_transaction().unwrap(),
        }
    }
    let here: Vec<String> = committed_values(&broker, "left").split_off(STOPS as usize);
    let of = |word: &str| ids.iter().step_by(2).map(move |id| format!("{word} {id}")).collect();
    let expected: [Vec<String>; 2] = [of("again"), of("here")];
    assert_eq!(here, expected.concat(), "{what}");
    broker.close().unwrap();
    dump(tools, &theirs);
    println!(
        "kafka-opens, {what}: {} transactional ids at all steps, gone on with by Kafka and back",
        ids.len()
    );
}

#[test]
fn a_real_kafka_goes_on_from_each_step_of_a_transaction() {
    let Some(tools) = tools() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let test = stopped();
    let killed = scratch.path().join("killed");
    test.save_disk(&killed).unwrap();
    go_on(&tools, &killed, scratch.path(), "killed");
    // The same after a clean stop, which ends nothing.
    test.close().unwrap();
    let closed = scratch.path().join("closed");
    test.save_disk(&closed).unwrap();
    dump(&tools, &closed);
    go_on(&tools, &closed, scratch.path(), "closed");
}
