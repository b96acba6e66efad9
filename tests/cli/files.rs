//! `dump`, `verify` and `repair` on files that a real Apache Kafka wrote, and on damaged ones.

use crate::shell::Shell;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dirs").join(case)
}

fn manifest(case: &str) -> Value {
    let text = std::fs::read_to_string(golden(case).join("manifest.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn logs(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<String> = entries
        .filter(|path| path.extension().is_some_and(|ending| ending == "log"))
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();
    logs.sort();
    logs
}

#[test]
fn dump_shows_the_batches_that_kafka_shows() {
    let shell = Shell::new();
    for case in ["plain", "transactions", "idempotent"] {
        let manifest = manifest(case);
        let mut compared = 0;
        for (name, partition) in manifest["partitions"].as_object().unwrap() {
            let files = logs(&golden(case).join("data").join(name));
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            let dumped = shell.json(&[&["dump", "--batches"], &files[..]].concat());
            let expected = partition["batches"].as_array().unwrap();
            assert_eq!(dumped.len(), expected.len(), "{case} {name}");
            for (batch, kafka) in dumped.iter().zip(expected) {
                assert_eq!(batch["isvalid"], true);
                assert_eq!(batch["position"], kafka["position"], "{case} {name} {kafka}");
                assert_eq!(batch["size"], kafka["size"], "{case} {name} {kafka}");
                compared += 1;
            }
        }
        assert!(compared > 0, "{case}");
    }
}

/// The lines of kafka-dump-log about one file; none about an empty one.
fn kafka_dump(case: &str, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(golden(case).join("dump.txt")).unwrap();
    let mut lines = text.lines().skip_while(|line| *line != format!("==== {file}"));
    lines.next();
    let section = lines.take_while(|line| !line.starts_with("==== "));
    section.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn dump_shows_the_index_rows_that_kafka_shows() {
    let shell = Shell::new();
    let case = "plain";
    let mut compared = 0;
    for entry in std::fs::read_dir(golden(case).join("data")).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        for ending in ["index", "timeindex"] {
            let file = folder.join(format!("{:020}.{ending}", 0));
            let name =
                format!("{}/{:020}.{ending}", folder.file_name().unwrap().to_str().unwrap(), 0);
            if !file.exists() {
                continue;
            }
            let shown = shell.ok(&["dump", file.to_str().unwrap()]);
            let row = |line: &&str| line.starts_with("offset: ") || line.starts_with("timestamp: ");
            let ours: Vec<&str> = shown.lines().filter(row).collect();
            let kafka = kafka_dump(case, &name);
            let kafka: Vec<&str> = kafka.iter().map(String::as_str).filter(row).collect();
            assert_eq!(ours, kafka, "{name}");
            compared += ours.len();
        }
    }
    assert!(compared > 0);
}

#[test]
fn dump_shows_the_producers_and_the_aborts_that_kafka_shows() {
    let shell = Shell::new();
    let (mut producers, mut aborts) = (0, 0);
    for case in ["idempotent", "transactions", "transactions-open", "producer-expired"] {
        for (name, partition) in manifest(case)["partitions"].as_object().unwrap() {
            let folder = golden(case).join("data").join(name);
            let mut aborted = Vec::new();
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let file = path.file_name().unwrap().to_str().unwrap().to_owned();
                if file.ends_with(".txnindex") {
                    aborted.extend(shell.json(&["dump", path.to_str().unwrap()]));
                }
                let Some(told) = partition["snapshots"].get(&file) else { continue };
                let shown = shell.json(&["dump", path.to_str().unwrap()]);
                let told = told.as_array().unwrap();
                assert_eq!(shown.len(), told.len(), "{case} {name} {file}");
                for kafka in told {
                    let id = &kafka["producer_id"];
                    let ours = shown.iter().find(|row| row["producerId"] == *id).unwrap();
                    for (ours_name, name) in [
                        ("producerEpoch", "producer_epoch"),
                        ("coordinatorEpoch", "coordinator_epoch"),
                        ("currentTxnFirstOffset", "current_txn_first_offset"),
                        ("firstSequence", "first_sequence"),
                        ("lastSequence", "last_sequence"),
                        ("lastOffset", "last_offset"),
                        ("offsetDelta", "offset_delta"),
                        ("timestamp", "last_timestamp"),
                    ] {
                        // What is not there is null in the one, and -1 or 0 in the other.
                        let nothing = if name == "offset_delta" { 0 } else { -1 };
                        let number = |value: &Value| value.as_i64().unwrap_or(nothing);
                        let (ours, kafka) = (number(&ours[ours_name]), number(&kafka[name]));
                        assert_eq!(ours, kafka, "{case} {name} {file}");
                    }
                    producers += 1;
                }
            }
            for kafka in partition["aborted"].as_array().into_iter().flatten() {
                let same = |row: &&Value| row["lastOffset"] == kafka["last_offset"];
                let ours = aborted.iter().find(same).unwrap();
                assert_eq!(ours["producerId"], kafka["producer_id"]);
                assert_eq!(ours["firstOffset"], kafka["first_offset"]);
                assert_eq!(ours["lastStableOffset"], kafka["last_stable_offset"]);
                aborts += 1;
            }
        }
    }
    assert!(producers > 8 && aborts > 0, "{producers} producers, {aborts} aborts");
}

#[test]
fn producers_are_told_with_their_last_sequences() {
    let shell = Shell::new();
    let dir = shell.dir();
    copy(&golden("transactions-open").join("data"), dir);
    let told = manifest("transactions-open");
    let mut topics = std::collections::BTreeSet::new();
    for name in told["partitions"].as_object().unwrap().keys() {
        topics.insert(name.rsplit_once('-').unwrap().0.to_owned());
    }
    let mut shown = 0;
    for topic in topics {
        for row in shell.json(&["producers", &topic]) {
            let partition = format!("{topic}-{}", row["partition"]);
            let known = told["partitions"][&partition]["producers"].as_array().unwrap();
            let same = |known: &&Value| known["producer_id"] == row["producer_id"];
            let known = known.iter().find(same).unwrap();
            assert_eq!(row["producer_epoch"], known["producer_epoch"]);
            assert_eq!(row["last_timestamp"], known["last_timestamp"]);
            let start = |row: &Value| row["current_transaction_start_offset"].as_i64();
            assert_eq!(start(&row), start(known).filter(|at| *at >= 0));
            shown += 1;
        }
    }
    // Those of which no transaction is open may be older than a day.
    assert!(shown > 0);
}

#[test]
fn dump_decodes_the_offsets_topic_and_control_records() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "1"]);
    shell.feed(&["produce", "t"], b"0\n1\n");
    shell.ok(&["consume", "t", "--group", "g"]);
    let folders = std::fs::read_dir(shell.dir()).unwrap().map(|entry| entry.unwrap().path());
    let mut commits = Vec::new();
    for folder in folders.filter(|path| path.to_str().unwrap().contains("__consumer_offsets-")) {
        for log in logs(&folder) {
            let rows = shell.json(&["dump", "--offsets", &log]);
            commits.extend(rows.into_iter().filter(|row| row["key"]["type"] == "offset"));
        }
    }
    let last = commits.last().unwrap();
    assert_eq!(last["key"]["data"]["group"], "g");
    assert_eq!(last["payload"]["offset"], 2);
    let mut markers = 0;
    for name in manifest("transactions")["partitions"].as_object().unwrap().keys() {
        for log in logs(&golden("transactions").join("data").join(name)) {
            let rows = shell.json(&["dump", &log]);
            markers += rows.iter().filter(|row| row["endTxnMarker"] == "ABORT").count();
        }
    }
    assert!(markers > 0);
}

/// A record in the words of Kafka's dump tool: the number of its key's type, and its value.
fn kafka_record(line: &str) -> Option<(i64, Value)> {
    let (_, rest) = line.split_once(" key: ")?;
    let (key, payload) = rest.split_once(" payload: ")?;
    let key: Value = serde_json::from_str(key).ok()?;
    let kind = key["type"].as_str()?.parse().ok()?;
    if payload == "<DELETE>" {
        return Some((kind, Value::Null));
    }
    let payload: Value = serde_json::from_str(payload).ok()?;
    Some((kind, payload["data"].clone()))
}

#[test]
fn dump_decodes_the_groups_of_the_newer_protocol_as_kafka_does() {
    let shell = Shell::new();
    let case = "groups-consumer-protocol";
    let mut kinds = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(golden(case).join("data")).unwrap() {
        let folder = entry.unwrap().path();
        let folder_name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        if !folder_name.starts_with("__consumer_offsets-") {
            continue;
        }
        for log in logs(&folder) {
            let name = format!("{folder_name}/{}", Path::new(&log).file_name().unwrap().display());
            let rows = shell.json(&["dump", "--offsets", &log]);
            let ours = rows.iter().filter(|row| row.get("payload").is_some());
            let kafka = kafka_dump(case, &name);
            let kafka = kafka.iter().filter(|line| line.contains(" payload: "));
            let (ours, kafka): (Vec<_>, Vec<_>) = (ours.collect(), kafka.collect());
            assert_eq!(ours.len(), kafka.len(), "{name}");
            for (ours, line) in ours.into_iter().zip(kafka) {
                let (kind, expected) = kafka_record(line).unwrap();
                *kinds
                    .entry((kind, ours["key"]["type"].as_str().unwrap().to_owned()))
                    .or_insert(0) += 1;
                match &expected {
                    Value::Object(fields) => {
                        let same = |(field, value)| &ours["payload"][field] == value;
                        assert!(fields.iter().all(same), "{line}: {}", ours["payload"]);
                    }
                    _ => assert!(ours["payload"].is_null(), "{line}: {}", ours["payload"]),
                }
            }
        }
    }
    let kinds: Vec<_> = kinds.keys().map(|(kind, name)| (*kind, name.as_str())).collect();
    assert_eq!(
        kinds,
        [
            (1, "offset"),
            (3, "consumer-group-metadata"),
            (4, "consumer-group-partition-metadata"),
            (5, "consumer-group-member-metadata"),
            (6, "consumer-group-target-assignment-metadata"),
            (7, "consumer-group-target-assignment-member"),
            (8, "consumer-group-current-member-assignment"),
        ]
    );
}

#[test]
fn dump_decodes_transactional_ids_as_kafka_does() {
    let shell = Shell::new();
    let mut states = std::collections::BTreeSet::new();
    for case in ["transaction-ends", "transactions", "transactions-v0"] {
        for entry in std::fs::read_dir(golden(case).join("data")).unwrap() {
            let folder = entry.unwrap().path();
            let folder_name = folder.file_name().unwrap().to_str().unwrap().to_owned();
            if !folder_name.starts_with("__transaction_state-") {
                continue;
            }
            for log in logs(&folder) {
                let file = Path::new(&log).file_name().unwrap().display().to_string();
                let rows = shell.json(&["dump", "--transactions", &log]);
                // The middle of a long dump is not kept.
                for line in kafka_dump(case, &format!("{folder_name}/{file}")) {
                    let Some((kind, expected)) = kafka_record(&line) else { continue };
                    let offset: i64 = line.split_whitespace().nth(2).unwrap().parse().unwrap();
                    let is_it = |row: &&Value| row["kind"] == "record" && row["offset"] == offset;
                    let ours = rows.iter().find(is_it).unwrap();
                    assert_eq!((kind, &ours["key"]["type"]), (0, &json!("transaction")));
                    let same = |(field, value)| &ours["payload"][field] == value;
                    let fields = expected.as_object().unwrap();
                    assert!(fields.iter().all(same), "{line}: {}", ours["payload"]);
                    states.insert(ours["payload"]["transactionState"].to_string());
                }
            }
        }
    }
    assert_eq!(states.len(), 6, "{states:?}");
}

#[test]
fn verify_is_quiet_about_what_kafka_closed_and_about_zeros_after_a_kill() {
    for (case, note) in [("plain", None), ("preallocated-kill", Some("uncut-tail"))] {
        let shell = Shell::new();
        let data = golden(case).join("data");
        let dir = data.to_str().unwrap();
        let text = shell.ok(&["--dir", dir, "verify"]);
        assert!(text.contains("0 findings"), "{case}: {text}");
        let summary = shell.json(&["--dir", dir, "verify"]).pop().unwrap();
        assert_eq!((&summary["kind"], &summary["findings"]), (&json!("summary"), &json!(0)));
        if let Some(note) = note {
            let notes = shell.json(&["--dir", dir, "verify"]);
            assert!(notes.iter().any(|found| found["kind"] == note), "{case}: {notes:?}");
        }
    }
}

#[test]
fn verify_finds_a_flipped_bit_and_says_where() {
    let shell = Shell::new();
    copy(&golden("plain").join("data"), shell.dir());
    let name = manifest("plain")["partitions"].as_object().unwrap().keys().next().unwrap().clone();
    let log = logs(&shell.dir().join(name)).remove(0);
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[100] ^= 4;
    std::fs::write(&log, &bytes).unwrap();
    let ended = shell.run(&["--json", "verify"], b"");
    assert_eq!(ended.code, 1, "{ended:?}");
    let findings = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let found: Vec<Value> = findings.filter(|found| found["kind"] == "corrupt").collect();
    assert_eq!(found.len(), 1, "{ended:?}");
    assert!(found[0]["path"].as_str().unwrap().ends_with(".log"), "{ended:?}");
    assert_eq!(found[0]["position"], 0);
    assert!(found[0]["message"].is_string() && found[0].get("offset").is_some());
    let dumped = shell.run(&["dump", "--batches", &log], b"");
    assert_eq!(dumped.code, 1);
    assert!(dumped.stdout.contains("isvalid: false"));
    let repair = shell.run(&["repair"], b"");
    assert_eq!(repair.code, 0, "{repair:?}");
    assert!(repair.stdout.contains("give up the records from offset 0 on"), "{repair:?}");
    assert_eq!(std::fs::read(&log).unwrap(), bytes);
    let repair = shell.run(&["repair", "--execute"], b"");
    assert_eq!(repair.code, 0, "{repair:?}");
    assert_eq!(std::fs::read(format!("{log}.cut")).unwrap(), bytes);
    assert_eq!(shell.run(&["verify"], b"").code, 0);
}

#[test]
fn verify_compares_kafkas_indexes_with_the_batches() {
    let shell = Shell::new();
    let data = golden("transactions").join("data");
    copy(&data, shell.dir());
    assert_eq!(shell.run(&["verify"], b"").code, 0);
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 3] = [
        (".timeindex", |bytes| bytes[7] ^= 1),
        (".txnindex", |bytes| bytes.truncate(bytes.len() - 34)),
        (".txnindex", |bytes| bytes[9] ^= 1),
    ];
    for (suffix, damage) in damages {
        let folders = std::fs::read_dir(shell.dir()).unwrap().map(|entry| entry.unwrap().path());
        let mut files = folders.filter(|path| path.is_dir()).flat_map(|path| files_of(&path));
        let holds = |path: &PathBuf| {
            path.to_str().unwrap().ends_with(suffix) && path.metadata().unwrap().len() > 0
        };
        let path = files.find(holds).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        damage(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let ended = shell.run(&["--json", "verify"], b"");
        assert_eq!(ended.code, 1, "{ended:?}");
        let found: Value = serde_json::from_str(ended.stdout.lines().next().unwrap()).unwrap();
        assert_eq!(found["kind"], "derived-file");
        assert_eq!(found["path"].as_str(), path.to_str(), "{ended:?}");
        std::fs::write(&path, whole).unwrap();
        assert_eq!(shell.run(&["verify"], b"").code, 0);
    }
}

#[test]
fn repair_tells_what_the_next_append_does_and_does_nothing() {
    let shell = Shell::new();
    copy(&golden("kill-torn").join("data"), shell.dir());
    let verified = shell.run(&["verify"], b"");
    assert_eq!(verified.code, 1);
    assert!(verified.stdout.contains("torn-tail"), "{verified:?}");
    let planned = shell.json(&["repair"]);
    assert!(
        planned.iter().any(|step| step["action"].as_str().unwrap().contains("cut it off")),
        "{planned:?}"
    );
    let again = shell.ok(&["repair"]);
    assert!(again.contains("a dry run"), "{again}");
    assert_eq!(shell.json(&["repair"]), planned);
    // It is done as it was told, and then there is nothing left to do.
    assert_eq!(shell.json(&["repair", "--execute"]), planned);
    assert_eq!(shell.ok(&["repair"]), "nothing is to be repaired\n");
    assert_eq!(shell.ok(&["repair", "--execute"]), "nothing is to be repaired\n");
    assert!(shell.json(&["repair"]).is_empty());
    assert!(shell.ok(&["verify"]).contains("0 findings, 0 notes"));
    let kept = std::fs::read_dir(shell.dir()).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.filter(|path| path.is_dir()).flat_map(|path| files_of(&path));
    assert!(kept.into_iter().any(|path| path.to_str().unwrap().ends_with(".log.cut")));
}

#[test]
fn repair_ends_a_log_before_its_damage_and_sets_groups_back() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "2"]);
    let lines: String = (0..1000).map(|n| format!("{n}\n")).collect();
    shell.feed(&["produce", "t", "--partition", "0"], lines.as_bytes());
    shell.feed(&["produce", "t", "--partition", "1"], b"whole\n");
    shell.ok(&["consume", "t", "--group", "g"]);
    let log = shell.dir().join(format!("t-0/{:020}.log", 0));
    let mut bytes = std::fs::read(&log).unwrap();
    let size = bytes.len() / 1000;
    bytes[size * 600] ^= 1;
    std::fs::write(&log, &bytes[..size * 900]).unwrap();
    let refused = shell.run(&["produce", "t", "--partition", "0"], b"more\n");
    assert_eq!(refused.code, 1, "{refused:?}");
    let planned = shell.json(&["repair"]);
    let told = planned[0]["action"].as_str().unwrap();
    let end: u64 = told.split_whitespace().nth(6).unwrap().parse().unwrap();
    assert!(told.starts_with("give up the records from offset ") && end < 700, "{told}");
    let done = shell.run(&["--json", "repair", "--execute"], b"");
    assert_eq!(done.stdout.lines().count(), planned.len(), "{done:?}");
    assert!(done.stderr.contains("group g had committed offset 1000"), "{done:?}");
    let copy = std::fs::read(log.with_extension("log.cut")).unwrap();
    let whole = std::fs::read(&log).unwrap();
    assert_eq!([whole, copy].concat(), bytes[..size * 900]);
    assert!(shell.ok(&["verify"]).contains("0 findings, 0 notes"));
    let expected: String = (0..end).map(|n| format!("{n}\n")).collect();
    assert_eq!(shell.ok(&["consume", "t", "--partition", "0"]), expected);
    // What is written in the place of lost records is not skipped by a group that had read them.
    shell.feed(&["produce", "t", "--partition", "0"], b"more\n");
    assert_eq!(shell.ok(&["consume", "t", "--group", "g"]), "more\n");
    assert_eq!(shell.ok(&["consume", "t", "--partition", "1"]), "whole\n");
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Records that are lost are told by whatever reads the partition, also where those that are left
/// can be read on.
#[test]
fn a_segment_that_is_missing_after_a_kill_is_told_beside_what_is_read() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "1", "-X", "segment.bytes=1048576"]);
    let lines: String = (0..35).map(|number| format!("{number:060000}{number:040000}\n")).collect();
    let mut producer = shell.start(&["produce", "t"]);
    producer.feed(lines.as_bytes());
    let end = |shell: &Shell| shell.json(&["offsets", "t"])[0]["log_end_offset"].as_i64();
    while end(&shell) != Some(35) {}
    producer.end();
    assert_eq!(shell.ok(&["consume", "t"]).lines().count(), 35);
    let first = logs(&shell.dir().join("t-0")).remove(0);
    std::fs::remove_file(first).unwrap();
    for words in [
        &["consume", "t"][..],
        &["consume", "t", "--from", "20"],
        &["offsets", "t"],
        &["topics", "describe", "t"],
        &["consume", "t", "--group", "g"],
    ] {
        let ended = shell.run(words, b"");
        assert!(ended.stderr.contains("t-0"), "{words:?}: {ended:?}");
        let lost = ["recorded and missing", "no file holds offsets 0 to"];
        assert!(lost.iter().any(|text| ended.stderr.contains(text)), "{words:?}: {ended:?}");
    }
}
