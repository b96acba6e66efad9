//! A real Apache Kafka reads what is written here: its dump tool finds no fault in the files, and a
//! real broker serves every record, under both isolation levels, with the committed offsets.
//!
//! Needs `$TOPICLITE_KAFKA_TOOLS` (a folder with `kafka-dump`, `kafka-opens` and `ask-kafka`), Java
//! and Maven; prints a line and passes without.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "kafka/alike.rs"]
mod alike;
#[path = "kafka/cleaning.rs"]
mod cleaning;
mod judge;
#[path = "kafka/steps.rs"]
mod steps;

use judge::manifest::{Committed, Contents, Row};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use topiclite::{
    Broker, Codec, ConsumerConfig, GroupMetadata, IsolationLevel, OffsetAndMetadata, OffsetReset,
    OffsetSpec, Producer, ProducerConfig, ProducerRecord, TopicConfig, TopicPartition,
};

/// The tools, or why there are none.
fn tools() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("TOPICLITE_KAFKA_TOOLS").map(PathBuf::from) else {
        println!("skip: TOPICLITE_KAFKA_TOOLS is not set, no real Kafka judges what is written");
        return None;
    };
    for program in ["java", "mvn", "python3"] {
        let answers = Command::new(program).arg("--version").output();
        if !answers.is_ok_and(|output| output.status.success()) {
            println!("skip: there is no {program} here, no real Kafka judges what is written");
            return None;
        }
    }
    Some(folder)
}

/// What is written: a topic per codec, one of many segments, one with odd records, one trimmed.
const TOPICS: &[(&str, i32)] = &[
    ("plain", 3),
    ("gzip", 1),
    ("snappy", 1),
    ("lz4", 1),
    ("zstd", 1),
    ("segments", 2),
    ("odd", 1),
    ("trimmed", 1),
    ("durable", 1),
    ("compacted", 1),
];

fn config_of(topic: &str) -> TopicConfig {
    let config = TopicConfig::default().retention_ms(-1);
    match topic {
        "segments" | "trimmed" => {
            let mut config = config.index_interval_bytes(512);
            config.set("internal.segment.bytes", "8192").unwrap();
            config
        }
        "durable" => config.flush_messages(1),
        "compacted" => config.cleanup_policy(&["compact"]).segment_bytes(8192),
        _ => config,
    }
}

fn producer_of(topic: &str) -> ProducerConfig {
    let codec = match topic {
        "gzip" => Codec::Gzip,
        "snappy" => Codec::Snappy,
        "lz4" => Codec::Lz4,
        "zstd" => Codec::Zstd,
        _ => Codec::None,
    };
    ProducerConfig::default().compression_type(codec).batch_size(4096)
}

/// One life: records to every topic, a group that reads some of them and commits.
fn live(dir: &Path, life: i64) {
    let broker = Broker::open(dir).unwrap();
    if life == 0 {
        for (topic, partitions) in TOPICS {
            broker.admin().create_topic(topic, *partitions, config_of(topic)).unwrap();
        }
    }
    for (topic, partitions) in TOPICS {
        let producer = broker.producer(producer_of(topic)).unwrap();
        let count = if *topic == "segments" { 400 } else { 60 };
        let texts: Vec<String> =
            (0..count).map(|n| format!("{topic} life {life} record {n} ").repeat(4)).collect();
        let records = texts.iter().enumerate().map(|(n, text)| {
            let n = n as i64;
            let record = ProducerRecord::new(*topic)
                .partition(i32::try_from(n).unwrap() % partitions)
                .timestamp(1_790_000_000_000 + life * 1_000_000 + n * 1000)
                .value(text.as_str());
            match (*topic, n % 4) {
                ("odd", 0) => record.key("").header("null", None::<&str>).header("null", "twice"),
                ("odd", 1) => record.value(None::<&str>).key("tombstone"),
                ("odd", 2) => record.header("\u{e9}", "\u{fc}ber").header("", ""),
                ("compacted", 2) if n % 5 == 0 => record.key("gone").value(None::<&str>),
                ("compacted", _) => record.key(["a", "b", "c", "d", "e"][n as usize % 5]),
                (_, 3) => record,
                _ => record.key(&text[..text.len().min(12)]),
            }
        });
        let (one_by_one, batched): (Vec<_>, Vec<_>) =
            records.enumerate().partition(|(n, _)| n % 7 == 0);
        for (_, record) in one_by_one {
            producer.send(record).unwrap().wait().unwrap();
        }
        let batched: Vec<ProducerRecord<'_>> = batched.into_iter().map(|(_, r)| r).collect();
        for future in producer.send_all(batched).unwrap() {
            future.wait().unwrap();
        }
        producer.close().unwrap();
    }
    if life == 1 {
        broker.admin().delete_records("trimmed", 0, 45).unwrap();
    }
    commit(&broker);
    let cleaned = broker.admin().compact_now("compacted").unwrap();
    assert!(cleaned[0].records_removed() > 0);
    broker.close().unwrap();
}

fn commit(broker: &Broker) {
    let config = ConsumerConfig::new("readers").auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config.max_poll_records(20)).unwrap();
    consumer.subscribe(&["plain", "segments"]).unwrap();
    let mut seen = 0;
    while seen < 40 {
        seen += consumer.poll(Duration::from_millis(200)).unwrap().count();
        consumer.commit_sync().unwrap();
    }
    consumer.close().unwrap();
}

fn rows(broker: &Broker, tp: &TopicPartition, isolation: IsolationLevel) -> Vec<Row> {
    let config = ConsumerConfig::without_group()
        .auto_offset_reset(OffsetReset::Earliest)
        .isolation_level(isolation);
    let mut consumer = broker.consumer(config).unwrap();
    consumer.assign(std::slice::from_ref(tp)).unwrap();
    let end = consumer.end_offsets(std::slice::from_ref(tp)).unwrap()[tp];
    let mut out = Vec::new();
    while consumer.position(tp).unwrap() < end {
        for record in &consumer.poll(Duration::ZERO).unwrap() {
            out.push(Row {
                offset: record.offset(),
                timestamp: record.timestamp(),
                key: record.key().map(<[u8]>::to_vec),
                value: record.value().map(<[u8]>::to_vec),
                headers: record
                    .headers()
                    .iter()
                    .map(|h| (h.name().into_owned(), h.value().map(<[u8]>::to_vec)))
                    .collect(),
            });
        }
    }
    out
}

/// Our own reading of one partition against Kafka's.
fn compare(broker: &Broker, kafka: &Contents, tp: &TopicPartition) -> Result<(), String> {
    let told = kafka.partitions.get(&tp.to_string()).ok_or("Kafka does not see it")?;
    told.uncommitted.matches(&rows(broker, tp, IsolationLevel::ReadUncommitted))?;
    let border = |spec| {
        let admin = broker.admin();
        let isolation = IsolationLevel::ReadUncommitted;
        admin.list_offsets(tp.topic(), tp.partition(), spec, isolation).unwrap().offset()
    };
    let ours = (border(OffsetSpec::Earliest), border(OffsetSpec::Latest));
    let theirs = (Some(told.log_start_offset), Some(told.log_end_offset));
    if ours != theirs {
        return Err(format!("start and end: Kafka {theirs:?}, ours {ours:?}"));
    }
    for &(asked, offset, _) in told.offsets_for_times.iter().flatten() {
        let found = border(OffsetSpec::Timestamp(asked));
        if found != offset {
            return Err(format!("offset for time {asked}: Kafka {offset:?}, ours {found:?}"));
        }
    }
    Ok(())
}

/// Kafka's dump tool finds no fault in any file of a directory that was closed.
fn dump(tools: &Path, data: &Path) {
    let dump = Command::new(tools.join("kafka-dump")).arg("--quiet").arg(data).output().unwrap();
    let text = String::from_utf8_lossy(&dump.stdout);
    println!("kafka-dump: {}", text.lines().last().unwrap_or_default());
    assert!(dump.status.success(), "{text}\n{}", String::from_utf8_lossy(&dump.stderr));
}

/// What a real broker sees in a directory, and what it complains of.
fn opened(tools: &Path, data: &Path, topics: &[(&str, i32)]) -> (Contents, Vec<String>) {
    opened_and_kept(tools, data, topics, None)
}

/// As [`opened`], with the node left where it is told.
fn opened_and_kept(
    tools: &Path,
    data: &Path,
    topics: &[(&str, i32)],
    keep: Option<&Path>,
) -> (Contents, Vec<String>) {
    let mut opens = Command::new(tools.join("kafka-opens"));
    opens.arg(data);
    if let Some(keep) = keep {
        opens.arg("--keep").arg(keep);
    }
    for (topic, partitions) in topics {
        opens.arg(format!("{topic}:{partitions}"));
        opens.arg("--config").arg(format!("{topic}:retention.ms=-1"));
    }
    let opened = opens.output().unwrap();
    let errors = String::from_utf8_lossy(&opened.stderr);
    assert!(opened.status.success(), "kafka-opens: {errors}");
    let state: serde_json::Value = serde_json::from_slice(&opened.stdout).unwrap();
    let complaints = state["complaints"].as_array().into_iter().flatten();
    let complaints = complaints.filter_map(|line| line.as_str()).map(str::to_owned).collect();
    (Contents::parse(&state), complaints)
}

#[test]
fn a_real_kafka_reads_what_several_lives_wrote() {
    let Some(tools) = tools() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    for life in 0..3 {
        live(&data, life);
    }
    dump(&tools, &data);
    let (kafka, complaints) = opened(&tools, &data, TOPICS);

    let broker = Broker::attach(&data).unwrap();
    let mut faults = Vec::new();
    let mut count = 0;
    for (topic, partitions) in TOPICS {
        for partition in 0..*partitions {
            let tp = TopicPartition::new(*topic, partition);
            count += 1;
            if let Err(difference) = compare(&broker, &kafka, &tp) {
                faults.push(format!("{tp}: {difference}"));
            }
        }
    }
    let ours: BTreeMap<String, (i64, String)> = broker
        .admin()
        .list_group_offsets("readers")
        .unwrap()
        .iter()
        .map(|(tp, o)| (tp.to_string(), (o.offset(), o.metadata().to_owned())))
        .collect();
    if kafka.group_offsets.get("readers") != Some(&ours) {
        faults.push(format!("offsets: Kafka {:?}, ours {ours:?}", kafka.group_offsets));
    }
    for line in &complaints {
        if !is_explained(line) {
            faults.push(format!("a complaint: {line}"));
        }
    }
    println!("kafka-opens: {count} partitions, {} complaints, all explained", complaints.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Two topics and a group's offsets: transactions that are committed, aborted, and open, by ids of
/// their own. Whoever is to be found open is not closed.
fn live_in_transactions(dir: &Path, life: usize) -> Vec<Producer> {
    let broker = Broker::open(dir).unwrap();
    if life == 0 {
        for topic in TRANSACTED {
            let mut config = TopicConfig::default().retention_ms(-1);
            config.set("internal.segment.bytes", "2000").unwrap();
            broker.admin().create_topic(topic, 1, config).unwrap();
        }
    }
    let mut producers = Vec::new();
    for (id, end) in [("commits", Some(true)), ("aborts", Some(false)), ("opens", None)] {
        let producer = broker.producer(ProducerConfig::default().transactional_id(id)).unwrap();
        producer.init_transactions().unwrap();
        for round in 0..5 {
            producer.begin_transaction().unwrap();
            for number in 0..8 {
                let value = format!("{id} life {life} round {round} record {number}");
                let topic = TRANSACTED[number % 2];
                producer.send_sync(ProducerRecord::new(topic).key(id).value(value)).unwrap();
            }
            let offset = OffsetAndMetadata::new((life * 10 + round) as i64);
            let offsets = [(TopicPartition::new(TRANSACTED[0], 0), offset)].into_iter().collect();
            let group = GroupMetadata::new(format!("group-{id}"));
            producer.send_offsets_to_transaction(&offsets, &group).unwrap();
            match end {
                Some(true) => producer.commit_transaction().unwrap(),
                Some(false) => producer.abort_transaction().unwrap(),
                None if round < 2 => producer.abort_transaction().unwrap(),
                None => break,
            }
        }
        producers.push(producer);
    }
    if life != 2 {
        broker.close().unwrap();
    }
    producers
}

const TRANSACTED: [&str; 2] = ["left", "right"];

/// Kafka's reading of what is left after a clean stop, and after an end without one, under both
/// isolation levels, with what its coordinators say.
#[test]
fn a_real_kafka_goes_on_with_transactions() {
    let Some(tools) = tools() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    for life in 0..3 {
        let open = live_in_transactions(&data, life);
        if life == 1 {
            dump(&tools, &data);
        }
        if life == 0 {
            continue;
        }
        let (kafka, complaints) = opened(&tools, &data, &TRANSACTED.map(|topic| (topic, 1)));
        let broker = Broker::attach(&data).unwrap();
        for topic in TRANSACTED {
            let tp = TopicPartition::new(topic, 0);
            compare(&broker, &kafka, &tp).unwrap();
            let committed = rows(&broker, &tp, IsolationLevel::ReadCommitted);
            let offsets: Vec<i64> = committed.iter().map(|row| row.offset).collect();
            match &kafka.partitions[&tp.to_string()].committed {
                Committed::Offsets(told) => assert_eq!(*told, offsets, "{tp}"),
                _ => panic!("{tp}: Kafka sees no aborted transaction"),
            }
        }
        for (id, told) in &kafka.transactions {
            let ours = broker.admin().describe_transaction(id).unwrap();
            assert_eq!(ours.state().name(), told.state, "{id}");
            assert_eq!(i64::from(ours.producer_epoch()), told.producer_epoch, "{id}");
        }
        assert_eq!(kafka.transactions["opens"].state, "Ongoing");
        assert_eq!(kafka.transactions["commits"].state, "CompleteCommit");
        let committed = &kafka.group_offsets["group-commits"]["left-0"];
        assert_eq!(committed.0, (life * 10 + 4) as i64);
        let aborted = kafka.group_offsets.get("group-aborts");
        assert!(aborted.is_none_or(BTreeMap::is_empty), "{aborted:?}");
        for line in &complaints {
            // Without a clean stop the zeros that a file grew by stand behind its last batch.
            let found = ["Found invalid messages in log segment", "Corruption found in segment"];
            let zeros =
                life == 2 && line.contains("WARN") && found.iter().any(|f| line.contains(f));
            assert!(zeros || is_explained(line), "a complaint in life {life}: {line}");
        }
        println!("kafka-opens, life {life}: {} transactional ids", kafka.transactions.len());
        drop(open);
    }
}

/// The recorded scenarios once more on a real node: do they still tell what Kafka does? Minutes, so
/// only where `$TOPICLITE_KAFKA_SCENARIOS` is set: to `all`, or to a part of file names.
#[test]
fn a_real_kafka_does_what_the_scenarios_say() {
    let Ok(wanted) = std::env::var("TOPICLITE_KAFKA_SCENARIOS") else {
        println!("skip: TOPICLITE_KAFKA_SCENARIOS is not set, no scenario runs on a real Kafka");
        return;
    };
    let Some(tools) = tools() else { return };
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scenarios");
    let mut files = Vec::new();
    for theme in std::fs::read_dir(own).unwrap().map(|theme| theme.unwrap().path()) {
        if theme.is_dir() {
            files.extend(std::fs::read_dir(theme).unwrap().map(|file| file.unwrap().path()));
        }
    }
    files.retain(|file| {
        let name = file.file_name().unwrap().to_string_lossy();
        name.ends_with(".json") && (wanted == "all" || name.contains(&wanted))
    });
    files.sort();
    assert!(!files.is_empty(), "no scenario has {wanted} in its name");
    let run = Command::new(tools.join("ask-kafka")).arg("--check").args(&files).output().unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    println!("{text}{} scenarios ran on a real Kafka", files.len());
    assert!(run.status.success(), "{text}\n{}", String::from_utf8_lossy(&run.stderr));
}

/// Complaints that `docs/kafka.md` explains: the node's leader epoch is lower than that of our
/// later lives, which reads without harm.
fn is_explained(line: &str) -> bool {
    line.contains("WARN") && line.to_lowercase().contains("epoch")
}
