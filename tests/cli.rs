//! The command line end to end: the real program, its text, its `--json`, its exit codes, beside a
//! running owner, and the demo with its kill.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "cli/bombs.rs"]
mod bombs;
#[cfg(unix)]
#[path = "cli/denied.rs"]
mod denied;
#[path = "cli/ending.rs"]
mod ending;
#[path = "cli/files.rs"]
mod files;
#[path = "cli/groups.rs"]
mod groups;
#[path = "cli/records.rs"]
mod records;
#[path = "cli/shell.rs"]
mod shell;
#[path = "cli/swaps.rs"]
mod swaps;
#[path = "cli/transactions.rs"]
mod transactions;
#[path = "cli/usage.rs"]
mod usage;

use serde_json::{Value, json};
use shell::Shell;
use topiclite::{Broker, ProducerConfig, ProducerRecord, TopicConfig};

#[test]
fn topics_are_created_listed_described_altered_grown_and_deleted() {
    let shell = Shell::new();
    let made =
        shell.ok(&["topics", "create", "t", "--partitions", "2", "--config", "retention.ms=5"]);
    assert_eq!(made, "topic t created, 2 partitions\n");
    shell.ok(&["topics", "create", "u", "--partitions", "1"]);
    assert_eq!(shell.ok(&["topics", "list"]), "t\nu\n");
    let listed = &shell.json(&["topics", "list"])[0];
    assert_eq!((&listed["topic"], &listed["partitions"]), (&json!("t"), &json!(2)));
    assert_eq!(listed["internal"], false);
    assert_eq!(listed["config"], json!({"retention.ms": "5"}));
    shell.ok(&["topics", "alter", "t", "--config", "retention.ms=", "--config", "segment.ms=9"]);
    shell.ok(&["topics", "grow", "t", "--partitions", "3"]);
    let described = &shell.json(&["topics", "describe", "t"])[0];
    assert_eq!((&described["topic"], &described["partitions"]), (&json!("t"), &json!(3)));
    assert_eq!(described["internal"], false);
    assert_eq!(described["config"], json!({"segment.ms": "9"}));
    let table = shell.ok(&["topics", "describe"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["t", "3", "false", "0", "B", "segment.ms=9"]);
    assert_eq!(shell.ok(&["topics", "delete", "u"]), "topic u deleted\n");
    assert_eq!(shell.ok(&["topics", "list"]), "t\n");
}

#[test]
fn records_come_out_as_json_the_way_they_go_in() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "2"]);
    let lines = concat!(
        concat!(
            r#"{"partition":1,"timestamp":7,"key":"k","value":"v","#,
            r#""headers":[{"name":"h","value":null}]}"#
        ),
        "\n",
        r#"{"partition":1,"timestamp":8,"key":null,"value_base64":"/w==","headers":[]}"#,
        "\n"
    );
    let sent = shell.feed(&["--json", "produce", "t", "--input-format", "json"], lines.as_bytes());
    let sent: Vec<Value> = sent.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(sent[1], json!({"topic": "t", "partition": 1, "offset": 1, "timestamp": 8}));
    let records = shell.json(&["consume", "t"]);
    assert_eq!(
        records[0],
        json!({
            "topic": "t", "partition": 1, "offset": 0, "timestamp": 7, "timestamp_type": "create",
            "key": "k", "value": "v", "headers": [{"name": "h", "value": null}],
        })
    );
    assert_eq!(records[1]["value_base64"], "/w==");
    assert!(records[1]["key"].is_null() && records[1].get("value").is_none());
    // What consume prints, produce reads: both topics hold the same.
    shell.ok(&["topics", "create", "copy", "--partitions", "2"]);
    let printed = shell.ok(&["--json", "consume", "t"]);
    shell.feed(&["produce", "copy", "--input-format", "json"], printed.as_bytes());
    let copied = shell.ok(&["--json", "consume", "copy"]).replace("\"copy\"", "\"t\"");
    assert_eq!(copied, printed);
}

#[test]
fn consume_starts_where_it_is_told_and_ends_at_the_end() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "1"]);
    shell.feed(&["produce", "t", "--key-separator", ":"], b"a:0\nb:1\nc:2\n:no key\n");
    assert_eq!(shell.ok(&["consume", "t"]), "0\n1\n2\nno key\n");
    assert_eq!(shell.ok(&["consume", "t", "--from", "2"]), "2\nno key\n");
    assert_eq!(shell.ok(&["consume", "t", "--from", "-1"]), "no key\n");
    assert_eq!(shell.ok(&["consume", "t", "--from", "end"]), "");
    assert_eq!(shell.ok(&["consume", "t", "--from", "@0", "--count", "1"]), "0\n");
    assert_eq!(
        shell.ok(&["consume", "t", "--partition", "0", "--until", "end"]).lines().count(),
        4
    );
    let record = &shell.json(&["consume", "t", "--count", "1"])[0];
    assert_eq!(record["key"], "a");
    shell.feed(&["produce", "t", "--headers"], b"x:1,y:2\tvalue\n");
    let record = &shell.json(&["consume", "t", "--from", "4"])[0];
    assert_eq!(record["headers"][1], json!({"name": "y", "value": "2"}));
}

#[test]
fn a_group_goes_on_where_it_stopped_and_is_described() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "1"]);
    shell.feed(&["produce", "t"], b"0\n1\n2\n3\n");
    assert_eq!(shell.ok(&["consume", "t", "--group", "g", "--count", "3"]), "0\n1\n2\n");
    assert_eq!(
        shell.json(&["groups", "describe", "g"])[0],
        json!({
            "group": "g", "topic": "t", "partition": 0, "committed_offset": 3,
            "log_start_offset": 0, "log_end_offset": 4, "lag": 1, "time_lag_ms": null,
            "status": null, "member_id": null, "client_id": null, "metadata": "",
        })
    );
    assert_eq!(shell.ok(&["consume", "t", "--group", "g"]), "3\n");
    assert_eq!(shell.ok(&["consume", "t", "--group", "g"]), "");
    assert_eq!(shell.ok(&["consume", "t", "--group", "g", "--from", "-2"]), "2\n3\n");
    let groups = shell.json(&["groups", "list"]);
    assert_eq!(
        groups[0],
        json!({
            "group": "g", "state": "Empty", "type": "Classic", "protocol": "consumer", "members": 0,
        })
    );
    assert!(shell.ok(&["groups", "list"]).contains("Empty"));
}

#[test]
fn offsets_shows_the_borders() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "1"]);
    shell.feed(&["produce", "t"], b"0\n1\n");
    assert_eq!(
        shell.json(&["offsets", "t"]),
        [json!({
            "topic": "t", "partition": 0,
            "log_start_offset": 0, "last_stable_offset": 2, "log_end_offset": 2,
        })]
    );
    let table = shell.ok(&["offsets", "t"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["t", "0", "0", "2", "2"]);
}

#[test]
fn reading_works_beside_a_running_owner_and_writing_names_who_holds_the_lock() {
    let shell = Shell::new();
    let owner = Broker::open(shell.dir()).unwrap();
    owner.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let producer = owner.producer(ProducerConfig::default()).unwrap();
    for value in ["a", "b"] {
        producer.send(ProducerRecord::new("t").value(value)).unwrap().wait().unwrap();
    }
    assert_eq!(shell.ok(&["consume", "t"]), "a\nb\n");
    assert_eq!(shell.json(&["offsets", "t"])[0]["log_end_offset"], 2);
    assert_eq!(shell.ok(&["topics", "list"]), "t\n");
    assert_eq!(shell.run(&["verify"], b"").code, 0);
    let refused = shell.run(&["produce", "t"], b"c\n");
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains(&std::process::id().to_string()), "{refused:?}");
    assert!(refused.stderr.contains("stop it"), "{refused:?}");
    producer.send(ProducerRecord::new("t").value("c")).unwrap().wait().unwrap();
    assert_eq!(shell.ok(&["consume", "t", "--from", "2"]), "c\n");
    owner.close().unwrap();
}

#[test]
fn a_follower_sees_what_is_written_after_it_began() {
    let shell = Shell::new();
    let owner = Broker::open(shell.dir()).unwrap();
    owner.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let producer = owner.producer(ProducerConfig::default()).unwrap();
    producer.send(ProducerRecord::new("t").value("before")).unwrap().wait().unwrap();
    let mut follower = shell.start(&["consume", "t", "--follow"]);
    assert_eq!(follower.line(), "before\n");
    producer.send(ProducerRecord::new("t").value("after")).unwrap().wait().unwrap();
    assert_eq!(follower.line(), "after\n");
    follower.end();
    owner.close().unwrap();
}

#[test]
fn bench_measures_all_three_and_leaves_nothing_behind() {
    let shell = Shell::new();
    for action in ["produce", "consume", "latency"] {
        let told = &shell.json(&["bench", action, "--records", "500", "--size", "10"])[0];
        assert_eq!((&told["bench"], &told["records"]), (&json!(action), &json!(500)));
        check_measured(told);
    }
    let durable = ["bench", "produce", "--records", "50", "--durable"];
    check_measured(&shell.json(&durable)[0]);
    let batched = ["bench", "produce", "--records", "500", "--batch", "50", "--threads", "2"];
    let more = ["--partitions", "3", "--compression", "lz4", "--durable"];
    let text = shell.ok(&[&batched[..], &more].concat());
    assert!(text.starts_with("produce: 500 records of 100 bytes in "), "{text}");
    assert!(text.contains("p99.9"), "{text}");
    assert_eq!(std::fs::read_dir(shell.dir()).unwrap().count(), 0);
    // A directory that was made for it goes, too.
    let deep = shell.dir().join("a/b");
    shell.ok(&["--dir", deep.to_str().unwrap(), "bench", "produce", "--records", "10"]);
    assert_eq!(std::fs::read_dir(shell.dir()).unwrap().count(), 0);
}

/// What holds for any measurement, however slow the machine: the order of percentiles, and that
/// the mean, which is counted apart, lies where they allow it.
fn check_measured(told: &Value) {
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&told["records_per_second"]) > 0.0, "{told}");
    let us = &told["call_us"];
    let order = ["p50", "p95", "p99", "p99_9", "max"].map(|name| number(&us[name]));
    assert!(order.windows(2).all(|pair| pair[0] <= pair[1]), "{told}");
    let (mean, calls) = (number(&us["mean"]), number(&told["calls"]));
    // Half of the calls took the median or longer; a twentieth the 95th percentile or longer.
    let least = (order[0] * 0.5).max(order[1] * 0.05) * 0.99;
    assert!(least <= mean && mean <= order[4], "{told}");
    let inside = mean * calls / 1e6;
    assert!(inside <= number(&told["seconds"]) * number(&told["threads"]) * 1.001, "{told}");
}

#[test]
fn the_demo_proves_that_a_kill_loses_nothing_on_any_text() {
    let shell = Shell::new();
    let readme = format!("{}/README.md", env!("CARGO_MANIFEST_DIR"));
    let text = shell.ok(&["demo", "--input", &readme]);
    let count = std::fs::read_to_string(&readme).unwrap().lines().count();
    for part in [
        "member \"third\" owns".to_owned(),
        "the child: signal: 9 (SIGKILL)".to_owned(),
        format!("{count} lines in, {count} delivered, none lost"),
        "order held within each of".to_owned(),
        "lag of the group \"readers\" over all partitions: 0".to_owned(),
    ] {
        assert!(text.contains(&part), "{part} in\n{text}");
    }
    assert!(text.contains("\n\n7. How fast") && !text.contains("\\n"), "{text}");
    // The directory that was given stays, and holds the lines.
    let lines = shell.json(&["consume", "lines"]);
    assert_eq!(lines.len(), count);
    assert_eq!(shell.run(&["verify"], b"").code, 0);
}

#[test]
fn the_demo_runs_on_a_single_line_and_tells_its_result_as_json() {
    let shell = Shell::new();
    let input = shell.dir().with_extension("txt");
    std::fs::write(&input, "one line without an end").unwrap();
    let told = shell.json(&["demo", "--input", input.to_str().unwrap()]);
    let result = told.last().unwrap();
    assert_eq!((&result["lines"], &result["delivered"]), (&json!(1), &json!(1)));
    std::fs::remove_file(&input).unwrap();
}
