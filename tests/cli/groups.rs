//! Groups: members, reset and delete, beside what kafka-consumer-groups does.

use crate::shell::Shell;
use serde_json::{Value, json};

fn committed(shell: &Shell, group: &str) -> Vec<Value> {
    let rows = shell.json(&["groups", "describe", group]);
    rows.iter().map(|row| row["committed_offset"].clone()).collect()
}

/// A topic of two partitions with five records each, at 1000 ms, 2000 ms and so on.
fn filled(shell: &Shell) {
    shell.ok(&["topics", "create", "t", "--partitions", "2"]);
    let lines: String = (0..10)
        .map(|n| {
            let record = json!({"partition": n % 2, "timestamp": 1000 * (1 + n / 2), "value": "v"});
            format!("{record}\n")
        })
        .collect();
    shell.feed(&["produce", "t", "--input-format", "json"], lines.as_bytes());
}

#[test]
fn reset_is_a_dry_run_unless_it_is_told_to_do_it() {
    let shell = Shell::new();
    filled(&shell);
    shell.ok(&["consume", "t", "--group", "g"]);
    assert_eq!(committed(&shell, "g"), [5, 5]);
    let words = ["groups", "reset", "g", "--topic", "t", "--to", "earliest"];
    let dry = shell.run(&words, b"");
    assert_eq!(dry.code, 0, "{dry:?}");
    assert!(dry.stderr.contains("dry run") && dry.stderr.contains("--execute"), "{dry:?}");
    let row: Vec<&str> = dry.stdout.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["g", "t", "0", "5", "0"]);
    assert_eq!(committed(&shell, "g"), [5, 5]);
    let places: &[(&[&str], [i64; 2])] = &[
        (&["--to", "earliest"], [0, 0]),
        (&["--to", "+2"], [2, 2]),
        (&["--to", "-1"], [1, 1]),
        (&["--to", "4"], [4, 4]),
        (&["--to", "@3000"], [2, 2]),
        (&["--to-latest"], [5, 5]),
        (&["--to-offset", "1"], [1, 1]),
        (&["--to-current"], [1, 1]),
        (&["--shift-by", "-9"], [0, 0]),
        (&["--shift-by", "99"], [5, 5]),
        (&["--to-earliest"], [0, 0]),
        (&["--to-datetime", "1970-01-01T00:00:04Z"], [3, 3]),
        (&["--by-duration", "PT1H"], [5, 5]),
    ];
    for (place, expected) in places {
        let words = [&["groups", "reset", "g", "--all-topics"], *place, &["--execute"]].concat();
        let told = shell.json(&words);
        let new: Vec<i64> = told.iter().map(|row| row["new_offset"].as_i64().unwrap()).collect();
        assert_eq!(new, expected, "{place:?}");
        assert!(told.iter().all(|row| row["executed"] == true), "{told:?}");
        assert_eq!(committed(&shell, "g"), expected, "{place:?}");
    }
    shell.ok(&["groups", "reset", "g", "--topic", "t:1", "--to", "3", "--execute"]);
    assert_eq!(committed(&shell, "g"), [5, 3]);
    assert_eq!(shell.ok(&["consume", "t", "--group", "g"]).lines().count(), 2);
    // What lies outside the log goes to its border, and that is said.
    let words = ["groups", "reset", "g", "--topic", "t:0", "--to", "77"];
    let outside = shell.run(&words, b"");
    assert!(outside.stderr.contains("77 becomes 5"), "{outside:?}");
}

#[test]
fn a_group_that_is_not_there_is_made_by_reset_and_deleted_again() {
    let shell = Shell::new();
    filled(&shell);
    let words = ["groups", "reset", "new", "--topic", "t", "--to", "2"];
    let dry = shell.run(&words, b"");
    assert!(dry.stderr.contains("no group new so far"), "{dry:?}");
    assert_eq!(shell.ok(&["groups", "list"]).lines().count(), 1, "a dry run made a group");
    let shift = shell.run(&["groups", "reset", "new", "--topic", "t", "--to", "+1"], b"");
    assert_eq!(shift.code, 1, "{shift:?}");
    shell.ok(&[&words[..], &["--execute"]].concat());
    assert_eq!(committed(&shell, "new"), [2, 2]);
    assert_eq!(shell.ok(&["groups", "delete", "new"]), "group new deleted\n");
    assert_eq!(shell.run(&["groups", "describe", "new"], b"").code, 1);
    filled_again_is_read_from_the_start(&shell);
}

fn filled_again_is_read_from_the_start(shell: &Shell) {
    assert_eq!(shell.ok(&["consume", "t", "--group", "new"]).lines().count(), 10);
    assert_eq!(shell.json(&["groups", "delete", "new"]), [json!({"group": "new"})]);
}

#[test]
fn describe_shows_no_column_that_is_always_empty_and_members_while_there_are_some() {
    let shell = Shell::new();
    filled(&shell);
    let mut member = shell.start(&["consume", "t", "--group", "g", "--follow", "-f", r"%o\n"]);
    (0..10).for_each(|_| drop(member.line()));
    // The member commits after it has printed; a look shows it at the latest in a later poll.
    let described = loop {
        let ended = shell.run(&["groups", "describe", "g"], b"");
        if ended.code == 0 && !ended.stdout.contains(" - ") {
            break ended.stdout;
        }
    };
    assert!(described.contains("CONSUMER-ID") && described.contains("topiclite-"), "{described}");
    let members = shell.json(&["groups", "members", "g"]);
    assert_eq!(members.len(), 1);
    assert_eq!(members[0]["client_id"], "topiclite");
    assert_eq!(members[0]["partitions"][1], json!({"topic": "t", "partition": 1}));
    assert!(shell.ok(&["groups", "members", "g"]).contains("t-0 t-1"));
    let dry = shell.run(&["groups", "reset", "g", "--topic", "t", "--to", "earliest"], b"");
    assert_eq!(dry.code, 1, "{dry:?}");
    assert!(dry.stderr.contains("has members"), "{dry:?}");
    assert_eq!(member.signal("INT").code, 130);
    let described = shell.ok(&["groups", "describe", "g"]);
    let heading: Vec<&str> = described.lines().next().unwrap().split_whitespace().collect();
    let columns = ["GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG"];
    assert_eq!(heading, columns);
    let shown = shell.run(&["groups", "members", "g"], b"");
    assert!(shown.stderr.contains("has no members"), "{shown:?}");
}

#[test]
fn a_member_that_waits_writes_nothing() {
    let shell = Shell::new();
    filled(&shell);
    shell.ok(&["consume", "t", "--group", "g"]);
    let size = || -> u64 {
        let rows = shell.json(&["topics", "list", "--internal"]);
        assert!(rows.iter().any(|row| row["topic"] == "__consumer_offsets"));
        let count = |partition: u32| {
            let words = ["offsets", "__consumer_offsets"];
            shell.json(&words)[partition as usize]["log_end_offset"].as_u64().unwrap()
        };
        (0..50).map(count).sum()
    };
    let before = size();
    // Nothing is left to read: the member joins, leaves, and has nothing to commit.
    for _ in 0..2 {
        assert_eq!(shell.ok(&["consume", "t", "--group", "g"]), "");
    }
    let commits = |text: &str| text.matches("\"type\":\"offset\"").count();
    let dumped = shell
        .script("topiclite --json dump --offsets $TOPICLITE_DIR/__consumer_offsets-*/*.log | cat");
    assert_eq!(commits(&dumped.stdout), 2, "{before} records before");
}
