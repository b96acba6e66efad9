//! The manifest of a golden directory: what a real Kafka said is in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One case: its folder and its manifest.
pub struct Case {
    pub name: String,
    pub data: PathBuf,
    pub clean: bool,
    pub captured_at_ms: i64,
    pub damage: Option<String>,
    /// What was there before the end.
    pub before: Contents,
    /// What a real Kafka found when it was started on a copy.
    pub reopened: Option<Contents>,
}

/// Partitions and groups, as Kafka's clients read them.
#[derive(Default)]
pub struct Contents {
    pub partitions: BTreeMap<String, Partition>,
    /// Group -> partition -> (offset, metadata).
    pub group_offsets: BTreeMap<String, BTreeMap<String, (i64, String)>>,
    /// By transactional id.
    pub transactions: BTreeMap<String, Transaction>,
    pub failed: bool,
}

/// What the coordinator said of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub state: String,
    pub producer_id: i64,
    pub producer_epoch: i64,
    pub timeout_ms: i64,
    pub start_time_ms: Option<i64>,
    /// Sorted.
    pub partitions: Vec<String>,
}

impl Transaction {
    fn parse(value: &Value) -> Transaction {
        let number = |key: &str| value[key].as_i64().unwrap();
        let names = value["partitions"].as_array().unwrap().iter();
        let mut partitions: Vec<String> =
            names.map(|name| name.as_str().unwrap().to_owned()).collect();
        partitions.sort();
        Transaction {
            state: value["state"].as_str().unwrap().to_owned(),
            producer_id: number("producer_id"),
            producer_epoch: number("producer_epoch"),
            timeout_ms: number("timeout_ms"),
            start_time_ms: value["start_time_ms"].as_i64(),
            partitions,
        }
    }
}

/// One partition of a manifest.
#[derive(Clone)]
pub struct Partition {
    pub log_start_offset: i64,
    pub log_end_offset: i64,
    pub last_stable_offset: i64,
    pub uncommitted: Records,
    pub committed: Committed,
    pub offsets_for_times: Option<Vec<AskedTime>>,
    pub max_timestamp: Option<(i64, i64)>,
    /// How many batches share the largest timestamp; with several, Kafka's choice is no promise.
    pub batches_at_max: usize,
    pub aborted: Vec<(i64, i64, i64, i64)>,
    /// By id.
    pub producers: Vec<Producer>,
    /// In the order of the files.
    pub batches: Vec<Batch>,
}

/// What the header of a batch says.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    pub base_offset: i64,
    pub last_offset: i64,
    pub producer_id: i64,
    pub is_transactional: bool,
    pub max_timestamp: i64,
}

/// A producer as DescribeProducers told of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    pub producer_id: i64,
    pub producer_epoch: i64,
    /// -1 behind a marker.
    pub last_sequence: i64,
    pub last_timestamp: i64,
    pub coordinator_epoch: Option<i64>,
    pub transaction_start: Option<i64>,
}

impl Producer {
    fn parse(value: &Value) -> Producer {
        let number = |key: &str| value[key].as_i64().unwrap();
        let some = |key: &str| value[key].as_i64().filter(|&found| found >= 0);
        Producer {
            producer_id: number("producer_id"),
            producer_epoch: number("producer_epoch"),
            last_sequence: number("last_sequence"),
            last_timestamp: number("last_timestamp"),
            coordinator_epoch: some("coordinator_epoch"),
            transaction_start: some("current_transaction_start_offset"),
        }
    }
}

/// The asked time, then offset and timestamp of what was found.
pub type AskedTime = (i64, Option<i64>, Option<i64>);

/// A record in the manifest's form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

#[derive(Clone)]
pub enum Records {
    Rows(Vec<Row>),
    Digest { count: usize, sha256: String },
}

#[derive(Clone)]
pub enum Committed {
    Same,
    Offsets(Vec<i64>),
    Digest { count: usize, sha256: String },
}

impl Case {
    pub fn load(folder: &Path) -> Case {
        let text = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
        let root: Value = serde_json::from_str(&text).unwrap();
        Case {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            data: folder.join("data"),
            clean: root["clean_shutdown"].as_bool().unwrap(),
            captured_at_ms: root["captured_at_ms"].as_i64().unwrap(),
            damage: root.get("damage").filter(|d| !d.is_null()).map(Value::to_string),
            before: Contents::parse(&root),
            reopened: root.get("reopened").map(Contents::parse),
        }
    }

    /// The cases of some folders, by name.
    pub fn all(folders: &[PathBuf]) -> Vec<Case> {
        let mut cases = BTreeMap::new();
        for folder in folders {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.join("manifest.json").is_file() {
                    let case = Case::load(&path);
                    cases.insert((case.name.clone(), path), case);
                }
            }
        }
        cases.into_values().collect()
    }
}

impl Contents {
    pub fn parse(root: &Value) -> Contents {
        let partitions = root.get("partitions").and_then(Value::as_object);
        let groups = root.get("groups").and_then(Value::as_object);
        let transactions = root.get("transactions").and_then(Value::as_object);
        Contents {
            transactions: transactions
                .into_iter()
                .flatten()
                .map(|(id, value)| (id.clone(), Transaction::parse(value)))
                .collect(),
            failed: root.get("failed").is_some_and(|f| !f.is_null()),
            partitions: partitions
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), Partition::parse(value)))
                .collect(),
            group_offsets: groups
                .into_iter()
                .flatten()
                .map(|(name, group)| (name.clone(), offsets(group)))
                .collect(),
        }
    }
}

fn offsets(group: &Value) -> BTreeMap<String, (i64, String)> {
    let offsets = group.get("offsets").and_then(Value::as_object);
    offsets
        .into_iter()
        .flatten()
        .map(|(partition, row)| {
            let metadata = row[1].as_str().unwrap_or_default().to_owned();
            (partition.clone(), (row[0].as_i64().unwrap(), metadata))
        })
        .collect()
}

impl Partition {
    fn parse(value: &Value) -> Partition {
        let number = |key: &str| value[key].as_i64().unwrap();
        let max_timestamp = value["max_timestamp"]
            .as_array()
            .map(|m| (m[0].as_i64().unwrap(), m[1].as_i64().unwrap()));
        let batches = value["batches"].as_array().cloned().unwrap_or_default();
        let at_max = |batch: &&Value| {
            Some(batch["max_timestamp"].as_i64().unwrap_or(-1)) == max_timestamp.map(|m| m.0)
        };
        let producers = value["producers"].as_array().into_iter().flatten();
        let mut producers: Vec<Producer> = producers.map(Producer::parse).collect();
        producers.sort();
        let header = |batch: &Value| Batch {
            base_offset: batch["base_offset"].as_i64().unwrap(),
            last_offset: batch["last_offset"].as_i64().unwrap(),
            producer_id: batch["producer_id"].as_i64().unwrap(),
            is_transactional: batch["is_transactional"].as_bool().unwrap(),
            max_timestamp: batch["max_timestamp"].as_i64().unwrap(),
        };
        Partition {
            batches: batches.iter().map(header).collect(),
            producers,
            log_start_offset: number("log_start_offset"),
            log_end_offset: number("log_end_offset"),
            last_stable_offset: number("last_stable_offset"),
            uncommitted: match digest(&value["records_uncommitted"]) {
                Some((count, sha256)) => Records::Digest { count, sha256 },
                None => Records::Rows(rows(&value["records_uncommitted"])),
            },
            committed: match &value["records_committed"] {
                Value::String(_) => Committed::Same,
                Value::Array(list) => {
                    Committed::Offsets(list.iter().map(|o| o.as_i64().unwrap()).collect())
                }
                other => {
                    let (count, sha256) = digest(other).unwrap();
                    Committed::Digest { count, sha256 }
                }
            },
            offsets_for_times: value.get("offsets_for_times").and_then(Value::as_array).map(
                |list| {
                    let row = |r: &Value| (r[0].as_i64().unwrap(), r[1].as_i64(), r[2].as_i64());
                    list.iter().map(row).collect()
                },
            ),
            batches_at_max: batches.iter().filter(at_max).count(),
            max_timestamp,
            aborted: value["aborted"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|a| {
                    let n = |key: &str| a[key].as_i64().unwrap();
                    (n("producer_id"), n("first_offset"), n("last_offset"), n("last_stable_offset"))
                })
                .collect(),
        }
    }
}

fn digest(value: &Value) -> Option<(usize, String)> {
    let count = value.get("count")?.as_u64()?;
    Some((usize::try_from(count).unwrap(), value["sha256"].as_str()?.to_owned()))
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    value.as_str().map(|text| STANDARD.decode(text).unwrap())
}

fn rows(value: &Value) -> Vec<Row> {
    let row = |r: &Value| Row {
        offset: r[0].as_i64().unwrap(),
        timestamp: r[1].as_i64().unwrap(),
        key: bytes(&r[2]),
        value: bytes(&r[3]),
        headers: r[4]
            .as_array()
            .into_iter()
            .flatten()
            .map(|h| (header_name(&h[0]), bytes(&h[1])))
            .collect(),
    };
    value.as_array().unwrap().iter().map(row).collect()
}

/// Header names are text; where the manifest shows bytes they are base64.
fn header_name(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The digest of records in the line form of the manifests.
pub fn sha256(rows: &[Row]) -> String {
    let text = |bytes: &Option<Vec<u8>>| match bytes {
        None => "null".to_owned(),
        Some(bytes) => format!("{}.", STANDARD.encode(bytes)),
    };
    let mut hash = Sha256::new();
    for row in rows {
        let mut line =
            format!("{}\t{}\t{}\t{}", row.offset, row.timestamp, text(&row.key), text(&row.value));
        for (name, value) in &row.headers {
            line.push_str(&format!("\t{}={}", STANDARD.encode(name), text(value)));
        }
        line.push('\n');
        hash.update(line.as_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Records {
    /// Whether `seen` is exactly what is recorded.
    pub fn matches(&self, seen: &[Row]) -> Result<(), String> {
        match self {
            Records::Rows(rows) if rows == seen => Ok(()),
            Records::Rows(rows) => Err(first_difference(rows, seen)),
            Records::Digest { count, sha256: recorded } => {
                if *count == seen.len() && *recorded == sha256(seen) {
                    return Ok(());
                }
                Err(format!("{} records, digest differs; recorded {count}", seen.len()))
            }
        }
    }

    /// Whether `seen` is a beginning of what is recorded. A digest cannot tell.
    pub fn begins_with(&self, seen: &[Row]) -> bool {
        match self {
            Records::Rows(rows) => rows.starts_with(seen),
            Records::Digest { .. } => false,
        }
    }
}

fn first_difference(recorded: &[Row], seen: &[Row]) -> String {
    let at = recorded.iter().zip(seen).position(|(a, b)| a != b);
    match at {
        Some(i) => format!("record {i}: recorded {:?}, seen {:?}", recorded[i], seen[i]),
        None => format!("recorded {} records, seen {}", recorded.len(), seen.len()),
    }
}
