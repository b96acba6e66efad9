//! What Apache Kafka wrote, against what opening and attaching make of it.
//!
//! Reads `tests/golden/dirs` and the folders in `$TOPICLITE_GOLDEN`; each folder there is a case
//! with `data/` and `manifest.json`. Damaged cases may end early, at a prefix, and must say so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::config::IsolationLevel::{ReadCommitted, ReadUncommitted};
use crate::log::attached::AttachedLog;
use crate::log::files::checkpoint::{
    LOG_START_CHECKPOINT, RECOVERY_POINT_CHECKPOINT, read_offsets,
};
use crate::log::read::cursor::Cursor;
use crate::record::{ControlType, RecordBatch};
use crate::storage::Fs;

/// Every case of every folder.
fn cases() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dirs")];
    if let Ok(given) = std::env::var("TOPICLITE_GOLDEN") {
        folders.extend(given.split(':').map(PathBuf::from));
    }
    let mut cases: Vec<PathBuf> = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("manifest.json").exists())
        .collect();
    cases.sort();
    cases
}

struct Case {
    name: String,
    data: PathBuf,
    manifest: Value,
    starts: BTreeMap<TopicPartition, i64>,
    points: BTreeMap<TopicPartition, i64>,
}

impl Case {
    fn read(path: &Path) -> Case {
        let text = std::fs::read_to_string(path.join("manifest.json")).unwrap();
        let data = path.join("data");
        let read = |name: &str| read_offsets(&Fs::new(), &data.join(name)).unwrap_or_default();
        Case {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            starts: read(LOG_START_CHECKPOINT),
            points: read(RECOVERY_POINT_CHECKPOINT),
            manifest: serde_json::from_str(&text).unwrap(),
            data,
        }
    }

    fn is_damaged(&self) -> bool {
        self.manifest.get("damage").is_some()
    }

    fn partitions(&self) -> Vec<(TopicPartition, &Value)> {
        let partitions = self.manifest["partitions"].as_object().unwrap();
        partitions.iter().map(|(k, v)| (TopicPartition::parse(k).unwrap(), v)).collect()
    }

    fn attach(&self, data: &Path, partition: &TopicPartition) -> AttachedLog {
        self.attach_as(data, partition, LogState::default(), Trust::Foreign)
    }

    fn attach_as(
        &self,
        data: &Path,
        partition: &TopicPartition,
        state: LogState,
        trust: Trust,
    ) -> AttachedLog {
        AttachedLog::new(
            Arc::new(Fs::new()),
            data.join(partition.to_string()),
            partition.clone(),
            state,
            trust,
            (self.starts.get(partition).copied(), self.points.get(partition).copied()),
        )
    }
}

/// A record as the manifest has it.
type Row = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

/// Everything a consumer gets, up to the end or to damage.
fn consume(
    log: &AttachedLog,
    isolation: crate::config::IsolationLevel,
) -> (Vec<Row>, Option<Error>) {
    let mut rows = Vec::new();
    let mut cursor = Cursor::new(log.log_start_offset().unwrap());
    let mut position = cursor.offset();
    loop {
        let chunk = match log.read(&mut cursor, 3000, isolation) {
            Ok(chunk) if chunk.is_empty() => return (rows, None),
            Ok(chunk) => chunk,
            Err(error) => return (rows, Some(error)),
        };
        let aborted = log.aborted_transactions(position, chunk.upto()).unwrap();
        let mut bytes = chunk.bytes();
        while !bytes.is_empty() {
            let batch = RecordBatch::parse(bytes).unwrap();
            batch.check_crc().unwrap();
            bytes = &bytes[batch.bytes().len()..];
            let header = *batch.header();
            let hidden = isolation == ReadCommitted
                && header.is_transactional()
                && aborted.iter().any(|t| {
                    t.producer_id == header.producer_id
                        && (t.first_offset..=t.last_offset).contains(&header.base_offset)
                });
            if header.is_control() || hidden {
                continue;
            }
            let mut scratch = Vec::new();
            for record in batch.records(&mut scratch).unwrap() {
                let record = record.unwrap();
                if record.offset() >= position {
                    rows.push((
                        record.offset(),
                        record.timestamp(),
                        record.key().map(<[u8]>::to_vec),
                        record.value().map(<[u8]>::to_vec),
                        record
                            .headers()
                            .iter()
                            .map(|h| (h.name().into_owned(), h.value().map(<[u8]>::to_vec)))
                            .collect(),
                    ));
                }
            }
        }
        position = chunk.upto();
    }
}

fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut out) = (0u32, 0, Vec::new());
    for letter in text.bytes().filter(|b| *b != b'=') {
        let digit = LETTERS.iter().position(|l| *l == letter).unwrap();
        bits = bits << 6 | u32::try_from(digit).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 255) as u8);
        }
    }
    out
}

fn to_base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |w, i| w << 8 | u32::from(*chunk.get(i).unwrap_or(&0)));
        for i in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= chunk.len() { letter } else { '=' });
        }
    }
    out
}

fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    value.as_str().map(base64)
}

fn rows_of(value: &Value) -> Option<Vec<Row>> {
    let rows = value.as_array()?;
    let row = |row: &Value| {
        let headers = row[4].as_array().unwrap().iter();
        (
            row[0].as_i64().unwrap(),
            row[1].as_i64().unwrap(),
            bytes_of(&row[2]),
            bytes_of(&row[3]),
            headers.map(|h| (h[0].as_str().unwrap().to_owned(), bytes_of(&h[1]))).collect(),
        )
    };
    Some(rows.iter().map(row).collect())
}

/// SHA-256 over the line form of the manifest, by `sha256sum`.
fn digest(rows: &[Row]) -> String {
    use std::io::Write;
    let field = |bytes: &Option<Vec<u8>>| match bytes {
        None => "null".to_owned(),
        Some(bytes) => format!("{}.", to_base64(bytes)),
    };
    let mut text = String::new();
    for (offset, timestamp, key, value, headers) in rows {
        text.push_str(&format!("{offset}\t{timestamp}\t{}\t{}", field(key), field(value)));
        for (name, value) in headers {
            text.push_str(&format!("\t{}={}", to_base64(name.as_bytes()), field(value)));
        }
        text.push('\n');
    }
    let mut child = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&out.stdout).split_whitespace().next().unwrap().to_owned()
}

/// Collects what differs.
struct Differences<'a> {
    place: &'a str,
    found: Vec<String>,
}

impl Differences<'_> {
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, ours: T, kafkas: T) {
        if ours != kafkas {
            self.found.push(format!("{}: {what}: {ours:?}, expected {kafkas:?}", self.place));
        }
    }

    fn check(&mut self, what: &str, holds: bool) {
        if !holds {
            self.found.push(format!("{}: {what}", self.place));
        }
    }
}

/// Compares a whole partition with what a live Kafka showed of it.
fn compare(log: &AttachedLog, expected: &Value, differ: &mut Differences<'_>) {
    let number = |name: &str| expected[name].as_i64().unwrap();
    differ.same("log start", log.log_start_offset().unwrap(), number("log_start_offset"));
    differ.same("log end", log.log_end_offset().unwrap(), number("log_end_offset"));
    differ.same("stable", log.end_for(ReadCommitted).unwrap(), number("last_stable_offset"));
    let (rows, error) = consume(log, ReadUncommitted);
    differ.same("read error", error.map(|e| e.to_string()), None);
    compare_rows(&rows, &expected["records_uncommitted"], "records", differ);
    let (committed, _) = consume(log, ReadCommitted);
    match &expected["records_committed"] {
        Value::String(_) => differ.check("committed: not the same", committed == rows),
        Value::Array(offsets) => {
            let ours: Vec<i64> = committed.iter().map(|row| row.0).collect();
            let kafkas: Vec<i64> = offsets.iter().map(|o| o.as_i64().unwrap()).collect();
            differ.same("committed", ours, kafkas);
        }
        long => compare_rows(&committed, long, "committed", differ),
    }
    compare_times(log, expected, &rows, differ);
    compare_batches(log, expected, differ);
}

fn compare_rows(rows: &[Row], expected: &Value, what: &str, differ: &mut Differences<'_>) {
    match rows_of(expected) {
        Some(kafkas) => {
            differ.same(&format!("{what} count"), rows.len(), kafkas.len());
            let first = rows.iter().zip(&kafkas).find(|(ours, kafkas)| ours != kafkas);
            differ.same(what, first.map(|f| f.0), None);
        }
        None => {
            let count = expected["count"].as_u64().unwrap();
            differ.same(&format!("{what} count"), rows.len() as u64, count);
            let sha = expected["sha256"].as_str().unwrap().to_owned();
            differ.same(&format!("{what} digest"), digest(rows), sha);
        }
    }
}

fn compare_times(log: &AttachedLog, expected: &Value, rows: &[Row], differ: &mut Differences<'_>) {
    let end = log.log_end_offset().unwrap();
    for asked in expected["offsets_for_times"].as_array().into_iter().flatten() {
        let time = asked[0].as_i64().unwrap();
        let ours = log.offset_for_time(time, end).unwrap().map(|t| (t.offset, t.timestamp));
        let kafkas = asked[1].as_i64().map(|offset| (offset, asked[2].as_i64().unwrap()));
        differ.same(&format!("offset for {time}"), ours, kafkas);
    }
    let ours = log.max_timestamp(end).unwrap().map(|t| (t.timestamp, t.offset));
    let kafkas = expected["max_timestamp"].as_array();
    let kafkas = kafkas.map(|m| (m[0].as_i64().unwrap(), m[1].as_i64().unwrap()));
    differ.same("max timestamp", ours.map(|m| m.0), kafkas.map(|m| m.0));
    // Which of several records with the largest time is named is not a promise.
    let last = rows.iter().filter(|row| Some(row.1) == kafkas.map(|m| m.0)).count();
    if last <= 1 {
        differ.same("max timestamp offset", ours, kafkas);
    }
}

fn compare_batches(log: &AttachedLog, expected: &Value, differ: &mut Differences<'_>) {
    let start = log.log_start_offset().unwrap();
    let mut cursor = Cursor::new(start);
    let mut ours = Vec::new();
    let mut aborted = BTreeSet::new();
    loop {
        let chunk = log.read(&mut cursor, 10_000, ReadUncommitted).unwrap();
        if chunk.is_empty() {
            break;
        }
        let mut bytes = chunk.bytes();
        while !bytes.is_empty() {
            let batch = RecordBatch::parse(bytes).unwrap();
            bytes = &bytes[batch.bytes().len()..];
            let h = batch.header();
            let marker = batch.control().unwrap().map(|c| c.kind);
            if marker == Some(ControlType::Abort) {
                aborted.insert(h.last_offset());
            }
            ours.push((h.base_offset, h.last_offset(), h.leader_epoch, h.crc, h.max_timestamp));
        }
    }
    let kafkas: Vec<_> = expected["batches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| {
            let number = |name: &str| b[name].as_i64().unwrap();
            (
                number("base_offset"),
                number("last_offset"),
                i32::try_from(number("leader_epoch")).unwrap(),
                u32::try_from(number("crc")).unwrap(),
                number("max_timestamp"),
            )
        })
        .filter(|batch| batch.1 >= start)
        .collect();
    differ.same("batches", ours, kafkas);
    compare_aborted(log, expected, differ);
}

fn compare_aborted(log: &AttachedLog, expected: &Value, differ: &mut Differences<'_>) {
    let end = log.log_end_offset().unwrap();
    let rows: Vec<_> = log
        .aborted_transactions(0, end)
        .unwrap()
        .iter()
        .map(|t| (t.producer_id, t.first_offset, t.last_offset, t.last_stable_offset))
        .collect();
    let kafkas: Vec<_> = expected["aborted"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| {
            let number = |name: &str| t[name].as_i64().unwrap();
            let (producer, first) = (number("producer_id"), number("first_offset"));
            (producer, first, number("last_offset"), number("last_stable_offset"))
        })
        .collect();
    // Compaction keeps the rows of transactions that it left no record of; those that hide
    // something must be there, and no other than Kafka's.
    let hides = |row: &(i64, i64, i64, i64)| {
        expected["batches"].as_array().unwrap().iter().any(|b| {
            b["producer_id"].as_i64() == Some(row.0)
                && b["is_transactional"] == true
                && b["is_control"] == false
                && (row.1..row.2).contains(&b["base_offset"].as_i64().unwrap())
        })
    };
    let foreign: Vec<_> = rows.iter().filter(|&row| !kafkas.contains(row)).collect();
    differ.check(&format!("aborted that Kafka has not: {foreign:?}"), foreign.is_empty());
    let lacking: Vec<_> = kafkas.iter().filter(|&row| hides(row) && !rows.contains(row)).collect();
    differ
        .check(&format!("aborted that hide records are lacking: {lacking:?}"), lacking.is_empty());
}

/// A damaged partition: a prefix of what was there, with a reason where it ends early.
fn compare_prefix(
    log: &AttachedLog,
    expected: &Value,
    reopened: Option<&Value>,
    differ: &mut Differences<'_>,
) -> String {
    // After an adoption the reason was told already.
    let adopted = reopened.is_none();
    let whole = rows_of(&expected["records_uncommitted"]).unwrap();
    let (rows, error) = consume(log, ReadUncommitted);
    let end = log.log_end_offset().unwrap();
    let prefix: Vec<_> = whole.iter().filter(|row| row.0 < end).cloned().collect();
    differ.same("records before the damage", &rows, &prefix);
    let recovered = reopened.map(|r| rows_of(&r["records_uncommitted"]).unwrap().len());
    let findings = log.findings().unwrap();
    if rows.len() < whole.len() && !adopted {
        differ.check("ends early without a word", !findings.is_empty());
    }
    let (committed, _) = consume(log, ReadCommitted);
    let offsets: Vec<i64> = match &expected["records_committed"] {
        Value::Array(offsets) => offsets.iter().map(|o| o.as_i64().unwrap()).collect(),
        _ => whole.iter().map(|row| row.0).collect(),
    };
    let stable = log.end_for(ReadCommitted).unwrap();
    let offsets: Vec<i64> = offsets.into_iter().filter(|o| *o < stable).collect();
    differ.same("committed", committed.iter().map(|r| r.0).collect::<Vec<_>>(), offsets);
    let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
    format!(
        "{}: {} of {} records, Kafka {recovered:?}, end {end}, error {:?}\n    {}",
        differ.place,
        rows.len(),
        whole.len(),
        error.map(|e| e.to_string()),
        shown.join("\n    ")
    )
}

#[allow(clippy::disallowed_methods)] // A copy takes permissions along.
fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::write(&to, std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

#[test]
#[cfg_attr(not(feature = "codecs"), ignore = "needs the codecs")]
fn attaching_shows_what_kafka_showed() {
    let mut found = Vec::new();
    let mut told = Vec::new();
    for case in cases().iter().map(|path| Case::read(path)) {
        for (partition, expected) in case.partitions() {
            let place = format!("{} {partition}", case.name);
            let mut differ = Differences { place: &place, found: Vec::new() };
            let log = case.attach(&case.data, &partition);
            if case.is_damaged() {
                let reopened = case.manifest["reopened"]["partitions"].get(partition.to_string());
                told.push(compare_prefix(&log, expected, reopened, &mut differ));
            } else {
                compare(&log, expected, &mut differ);
            }
            found.extend(differ.found);
        }
    }
    println!("{}", told.join("\n"));
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

#[test]
#[cfg_attr(not(feature = "codecs"), ignore = "needs the codecs")]
fn an_adopted_directory_opens_again_without_being_read() {
    let mut found = Vec::new();
    for case in cases().iter().map(|path| Case::read(path)) {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(&case.data, copy.path());
        let storage = Fs::new();
        for (partition, expected) in case.partitions() {
            let folder = copy.path().join(partition.to_string());
            let place = format!("{} {partition}", case.name);
            let mut differ = Differences { place: &place, found: Vec::new() };
            let options = || OpenOptions {
                log_start_checkpoint: case.starts.get(&partition).copied(),
                recovery_checkpoint: case.points.get(&partition).copied(),
                ..OpenOptions::default()
            };
            let open = |state: &LogState, trust| {
                open_partition(&storage, &folder, &partition, state, trust, options()).unwrap()
            };
            let mut opened = open(&LogState::default(), Trust::Foreign);
            let before = opened.state();
            let again = open(&LogState::default(), Trust::Foreign);
            differ.same("opened twice", again.state(), before.clone());
            // It was recorded, nothing was appended or synced, and then the power went.
            let cut = case.attach_as(copy.path(), &partition, before, Trust::OtherBoot);
            if case.is_damaged() {
                compare_prefix(&cut, expected, None, &mut differ);
            } else {
                compare(&cut, expected, &mut differ);
                let findings = cut.findings().unwrap();
                let told = findings.iter().filter(|finding| !finding.kind.is_note());
                let told: Vec<_> = told.map(ToString::to_string).collect();
                differ.same("findings after a power cut", told, Vec::new());
            }
            if let Err(error) = opened.finish(&storage) {
                differ.check("refused without damage", case.is_damaged());
                differ.same("kind", error.kind(), crate::ErrorKind::CorruptRecord);
                found.extend(differ.found);
                continue;
            }
            let state = opened.state();
            let clean = open(&state, Trust::Clean);
            let told: Vec<_> = clean.findings.iter().map(ToString::to_string).collect();
            differ.same("clean findings", told, Vec::new());
            differ.same("bytes read", clean.report.bytes_read, 0);
            differ.same("clean state", clean.state(), state.clone());
            for trust in [Trust::SameBoot, Trust::OtherBoot, Trust::Foreign] {
                let other = open(&state, trust);
                let ends = (other.log_start_offset, other.log_end_offset);
                let expected = (state.log_start_offset, state.log_end_offset);
                differ.same(&format!("{trust:?} borders"), ends, expected);
                differ.same(&format!("{trust:?} refuses"), other.read_only.is_some(), false);
            }
            let log = case.attach_as(copy.path(), &partition, state, Trust::Clean);
            if case.is_damaged() {
                compare_prefix(&log, expected, None, &mut differ);
            } else {
                compare(&log, expected, &mut differ);
            }
            found.extend(differ.found);
        }
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}
