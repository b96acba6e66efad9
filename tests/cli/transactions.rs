//! `transactions`: what a Kafka left open is listed, described and ended.

use crate::files::{copy, golden};
use crate::shell::Shell;
use serde_json::json;

fn opened_by_kafka() -> Shell {
    let shell = Shell::new();
    copy(&golden("transactions-open").join("data"), shell.dir());
    shell
}

fn committed(shell: &Shell) -> usize {
    let words = ["consume", "t", "--isolation", "read_committed"];
    shell.ok(&words).lines().count()
}

#[test]
fn transactions_are_listed_and_described_without_the_lock() {
    let shell = opened_by_kafka();
    let rows = shell.json(&["transactions", "list"]);
    let told: Vec<_> = rows.iter().map(|row| (&row["transactional_id"], &row["state"])).collect();
    let expected =
        [("tx-a", "Ongoing"), ("tx-b", "CompleteAbort")].map(|(a, b)| (json!(a), json!(b)));
    assert_eq!(told, expected.iter().map(|(a, b)| (a, b)).collect::<Vec<_>>());
    assert!(shell.ok(&["transactions", "list"]).contains("tx-a"));
    let described = shell.json(&["transactions", "describe", "tx-a"]).remove(0);
    assert_eq!((&described["producer_id"], &described["producer_epoch"]), (&json!(0), &json!(3)));
    assert_eq!(described["timeout_ms"], 900_000);
    let partitions: Vec<String> = described["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tp| format!("{}-{}", tp["topic"].as_str().unwrap(), tp["partition"]))
        .collect();
    assert_eq!(partitions, ["__consumer_offsets-25", "t-0", "t-1"]);
    assert!(shell.ok(&["transactions", "describe", "tx-a"]).contains("t-0 t-1"));
    let missing = shell.run(&["--json", "transactions", "describe", "nobody"], b"");
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("TRANSACTIONAL_ID_NOT_FOUND"), "{missing:?}");
}

#[test]
fn an_open_transaction_is_aborted_by_its_id() {
    let shell = opened_by_kafka();
    let before = committed(&shell);
    let all = shell.ok(&["consume", "t"]).lines().count();
    let told = shell.json(&["transactions", "abort", "tx-a"]);
    assert_eq!(told, [json!({"transactional_id": "tx-a"})]);
    let described = shell.json(&["transactions", "describe", "tx-a"]).remove(0);
    assert_eq!((&described["state"], &described["producer_epoch"]), (&json!("Empty"), &json!(5)));
    // The producer without transactions wrote behind it, which can be read now.
    let after = committed(&shell);
    assert!(before < after && after < all, "{before} {after} {all}");
    let offsets = shell.json(&["offsets", "t"]);
    for row in offsets {
        assert_eq!(row["last_stable_offset"], row["log_end_offset"], "{row}");
    }
}

#[test]
fn a_hanging_transaction_is_aborted_in_its_partition() {
    let shell = opened_by_kafka();
    let words = ["transactions", "abort", "--topic", "t", "-p", "0", "--producer-id", "0"];
    assert!(shell.ok(&words).contains("t-0"));
    let offsets = shell.json(&["offsets", "t"]);
    assert_eq!(offsets[0]["last_stable_offset"], offsets[0]["log_end_offset"]);
    let again = shell.run(&[&["--json"], &words[..]].concat(), b"");
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("INVALID_TXN_STATE"), "{again:?}");
}

/// What `find-hanging` tells: the partition, and where the transaction begins there.
fn hanging(shell: &Shell, words: &[&str]) -> Vec<(String, i64)> {
    let rows = shell.json(&[&["transactions", "find-hanging"], words].concat());
    let place = |row: &serde_json::Value| {
        format!("{}-{}", row["topic"].as_str().unwrap(), row["partition"])
    };
    rows.iter().map(|row| (place(row), row["start_offset"].as_i64().unwrap())).collect()
}

#[test]
fn what_no_transactional_id_knows_of_is_found_and_ended() {
    let shell = opened_by_kafka();
    // Its coordinator knows of it.
    assert_eq!(hanging(&shell, &[]), []);
    // The directory without the topic, and without the files that say that there was one.
    for entry in std::fs::read_dir(shell.dir()).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("__transaction_state-") {
            std::fs::remove_dir_all(entry.path()).unwrap();
        } else if name.ends_with("-checkpoint") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let all = [("__consumer_offsets-25", 6), ("t-0", 21), ("t-1", 21)];
    let all: Vec<_> = all.map(|(place, at)| (place.to_owned(), at)).into();
    assert_eq!(hanging(&shell, &[]), all);
    assert_eq!(hanging(&shell, &["--topic", "t", "-p", "1"]), all[2..]);
    assert_eq!(hanging(&shell, &["--max-transaction-timeout", "4294967295"]), []);
    assert!(shell.ok(&["transactions", "find-hanging", "--topic", "t"]).contains("START-OFFSET"));
    let abort = |at: &str| {
        let words = ["transactions", "abort", "--topic", "t", "-p", "0", "--start-offset", at];
        shell.run(&[&["--json"], &words[..]].concat(), b"")
    };
    let missed = abort("20");
    assert_eq!(missed.code, 1);
    assert!(missed.stderr.contains("INVALID_TXN_STATE"), "{missed:?}");
    let done = abort("21");
    assert_eq!((done.code, done.stdout.contains("\"producer_id\":0")), (0, true), "{done:?}");
    assert_eq!(hanging(&shell, &[]), [all[0].clone(), all[2].clone()]);
    assert_eq!(hanging(&shell, &["--topic", "t"]), all[2..]);
    let missing = shell.run(&["transactions", "find-hanging", "--topic", "t", "-p", "7"], b"");
    assert_eq!(missing.code, 1);
}

#[test]
fn what_may_hang_is_not_told_where_a_transactional_id_cannot_be_read() {
    let shell = opened_by_kafka();
    for folder in ["__transaction_state-18", "__transaction_state-19"] {
        let log = shell.dir().join(folder).join(format!("{:020}.log", 0));
        let mut bytes = std::fs::read(&log).unwrap();
        bytes[30] ^= 1;
        std::fs::write(&log, bytes).unwrap();
    }
    let told = shell.run(&["--json", "transactions", "find-hanging", "--topic", "t"], b"");
    assert_eq!((told.code, told.stdout.as_str()), (1, ""), "{told:?}");
    assert!(told.stderr.contains("topiclite repair") && told.stderr.contains("CORRUPT_MESSAGE"));
}

#[test]
fn half_a_description_of_what_to_abort_is_bad_usage() {
    let shell = Shell::new();
    for words in [
        &["transactions", "abort"][..],
        &["transactions", "abort", "x", "--producer-id", "1", "--topic", "t", "-p", "0"],
        &["transactions", "abort", "--producer-id", "1"],
        &["transactions", "abort", "--topic", "t", "-p", "0"],
        &["transactions", "abort", "--start-offset", "1", "--topic", "t"],
        &["transactions", "abort", "x", "--topic", "t", "-p", "0"],
        &[
            "transactions",
            "abort",
            "--start-offset",
            "1",
            "--producer-id",
            "1",
            "--topic",
            "t",
            "-p",
            "0",
        ],
        &["transactions", "find-hanging", "-p", "0"],
    ] {
        assert_eq!(shell.run(words, b"").code, 2, "{words:?}");
    }
}

#[test]
fn a_run_of_produce_is_one_transaction() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "3"]);
    let produce = ["produce", "t", "--transactional-id", "loader"];
    let seen =
        |isolation: &str| shell.ok(&["consume", "t", "--isolation", isolation]).lines().count();
    let done = shell.run(&produce, b"a\nb\nc\n");
    assert_eq!((done.code, done.stderr.as_str()), (0, "3 records written to t\n"));
    assert_eq!((seen("read_committed"), seen("read_uncommitted")), (3, 3));
    let done = shell.run(&[&produce[..], &["--abort"]].concat(), b"d\ne\n");
    assert_eq!((done.code, done.stderr.as_str()), (0, "2 records written to t, and aborted\n"));
    assert_eq!((seen("read_committed"), seen("read_uncommitted")), (3, 5));
    // A line that fails takes those before it along.
    let separated = [&produce[..], &["-K", ":"]].concat();
    let failed = shell.run(&separated, b"k:f\nno separator\n");
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("line 2") && failed.stderr.contains("0 records"), "{failed:?}");
    assert_eq!((seen("read_committed"), seen("read_uncommitted")), (3, 6));
    let described = shell.json(&["transactions", "describe", "loader"]).remove(0);
    assert_eq!(
        (&described["state"], &described["partitions"]),
        (&json!("CompleteAbort"), &json!([]))
    );
    assert_eq!(shell.run(&["produce", "t", "--abort"], b"").code, 2);
}
