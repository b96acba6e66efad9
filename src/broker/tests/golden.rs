//! Directories that a real Kafka wrote, adopted: borders, topics and groups as the manifests say.
//! Runs where `TOPICLITE_GOLDEN` names folders of such directories, separated by colons.

use crate::{Broker, ErrorKind, IsolationLevel};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn cases() -> Vec<PathBuf> {
    let Ok(folders) = std::env::var("TOPICLITE_GOLDEN") else {
        println!("skipped: TOPICLITE_GOLDEN is not set");
        return Vec::new();
    };
    let mut cases: Vec<PathBuf> = folders
        .split(':')
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("manifest.json").exists())
        .collect();
    cases.sort();
    cases
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[allow(clippy::disallowed_methods)] // The manifest is no file of a broker.
fn manifest(case: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(case.join("manifest.json")).unwrap()).unwrap()
}

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

/// What differs from the manifest, a line each.
fn differences(broker: &Broker, manifest: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for (name, topic) in manifest["topics"].as_object().unwrap() {
        let Ok(found) = broker.admin().describe_topic(name) else {
            if !topic["internal"].as_bool().unwrap() {
                out.push(format!("no topic {name}"));
            }
            continue;
        };
        let id = topic["topic_id"].as_str().unwrap();
        if found.id().to_string() != id && !topic["internal"].as_bool().unwrap() {
            out.push(format!("topic {name} has id {}, not {id}", found.id()));
        }
        if i64::from(found.partition_count()) != int(&topic["partitions"]) {
            out.push(format!("topic {name} has {} partitions", found.partition_count()));
        }
    }
    for (name, expected) in manifest["partitions"].as_object().unwrap() {
        let (topic, number) = name.rsplit_once('-').unwrap();
        let topic = broker.inner().topic(topic).unwrap();
        let partition = topic.partition(number.parse().unwrap()).unwrap();
        let found = [
            partition.log_start_offset().unwrap(),
            partition.log_end_offset().unwrap(),
            partition.readable_end(IsolationLevel::ReadCommitted).unwrap(),
        ];
        let wanted = ["log_start_offset", "log_end_offset", "last_stable_offset"]
            .map(|border| int(&expected[border]));
        if found != wanted {
            out.push(format!("{name}: borders {found:?}, not {wanted:?}"));
        }
    }
    for (name, group) in manifest["groups"].as_object().unwrap() {
        let found = broker.inner().groups().unwrap().list_offsets(name).unwrap();
        let found: Vec<String> =
            found.iter().map(|(p, o)| format!("{p} {} {}", o.offset, o.metadata)).collect();
        let mut wanted: Vec<String> = group["offsets"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(p, o)| format!("{p} {} {}", o[0], o[1].as_str().unwrap()))
            .collect();
        wanted.sort();
        let mut found = found;
        found.sort();
        if found != wanted {
            out.push(format!("group {name}: offsets {found:?}, not {wanted:?}"));
        }
    }
    out
}

/// What differs in the producer snapshots that Kafka wrote: as they are read, and as they would be
/// written again.
fn snapshot_differences(case: &Path, manifest: &Value) -> Vec<String> {
    use crate::log::producers::snapshot::{parse, to_bytes};
    use crate::storage::{Fs, Storage};
    let mut out = Vec::new();
    for (partition, told) in manifest["partitions"].as_object().unwrap() {
        for (file, rows) in told["snapshots"].as_object().into_iter().flatten() {
            let path = case.join("data").join(partition).join(file);
            let Ok(bytes) = Fs::new().read_file(&path, 1 << 20) else { continue };
            let offset = file.split_once('.').unwrap().0.parse().unwrap();
            let Ok(found) = parse(&bytes, offset) else {
                out.push(format!("{partition}/{file} is not read"));
                continue;
            };
            if to_bytes(&found).len() != bytes.len() {
                out.push(format!("{partition}/{file} would be written otherwise"));
            }
            let seen: Vec<[i64; 8]> = found
                .iter()
                .map(|row| {
                    [
                        row.producer_id,
                        row.producer_epoch.into(),
                        row.coordinator_epoch.into(),
                        row.transaction_start,
                        row.timestamp,
                        row.last_sequence.into(),
                        row.last_offset,
                        row.offset_delta.into(),
                    ]
                })
                .collect();
            let mut wanted: Vec<[i64; 8]> = rows
                .as_array()
                .unwrap()
                .iter()
                .map(|row| {
                    [
                        "producer_id",
                        "producer_epoch",
                        "coordinator_epoch",
                        "current_txn_first_offset",
                        "last_timestamp",
                        "last_sequence",
                        "last_offset",
                        "offset_delta",
                    ]
                    .map(|name| {
                        let nothing = if name == "offset_delta" { 0 } else { -1 };
                        row[name].as_i64().unwrap_or(nothing)
                    })
                })
                .collect();
            wanted.sort();
            if seen != wanted {
                out.push(format!("{partition}/{file}: {seen:?}, not {wanted:?}"));
            }
        }
    }
    out
}

/// The highest producer id in a batch, a snapshot or a transaction; -1 without one.
fn highest_id(manifest: &Value) -> i64 {
    match manifest {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match name.as_str() {
                "producer_id" => value.as_i64().unwrap_or(-1),
                _ => highest_id(value),
            })
            .max()
            .unwrap_or(-1),
        Value::Array(items) => items.iter().map(highest_id).max().unwrap_or(-1),
        _ => -1,
    }
}

#[test]
fn golden_directories_are_adopted_as_their_manifests_say() {
    let mut failed = Vec::new();
    for case in cases() {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let dir = tempfile::tempdir().unwrap();
        copy(&case.join("data"), dir.path());
        let manifest = manifest(&case);
        let attached = Broker::attach(dir.path()).unwrap();
        let seen = differences(&attached, &manifest);
        drop(attached);
        let broker = Broker::open(dir.path()).unwrap();
        let report = broker.adoption().expect("adopted");
        let damaged: Vec<String> = report.damaged().map(|(p, e)| format!("{p}: {e}")).collect();
        let mut differences = differences(&broker, &manifest);
        let (next, highest) = (broker.inner().new_producer_id().unwrap(), highest_id(&manifest));
        if next <= highest {
            differences.push(format!("a new producer has id {next}, and {highest} was given"));
        }
        differences.extend(seen.into_iter().map(|line| format!("attached: {line}")));
        differences.extend(snapshot_differences(&case, &manifest));
        // What Kafka does about damage is not what we do: tests/golden.rs has those.
        let intact = manifest.get("damage").is_none();
        if intact && (!damaged.is_empty() || !differences.is_empty()) {
            failed.push(format!("{name}: {damaged:?} {differences:#?}"));
        }
        let again = Broker::open(dir.path()).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Locked);
        broker.close().unwrap();
        let broker = Broker::open(dir.path()).unwrap();
        assert!(broker.adoption().is_none(), "{name} is read once");
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
