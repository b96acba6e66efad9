//! How commands end that are told to: signals, and pipes that nobody reads any more.

use crate::shell::Shell;
use serde_json::{Value, json};

fn filled(lines: u32) -> Shell {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "1"]);
    let lines: String = (0..lines).map(|n| format!("{n}\n")).collect();
    shell.feed(&["produce", "t"], lines.as_bytes());
    shell
}

#[test]
fn a_member_that_is_interrupted_leaves_its_group_and_says_what_it_read() {
    for signal in ["INT", "TERM"] {
        let shell = filled(3);
        let mut member = shell.start(&["consume", "t", "--group", "g", "--follow"]);
        assert_eq!(member.line(), "0\n");
        let ended = member.signal(signal);
        assert_eq!(ended.code, 130, "{ended:?}");
        assert_eq!(ended.stderr, "interrupted: 3 records read from t, group g left\n");
        let groups = shell.json(&["groups", "list"]);
        assert_eq!((&groups[0]["state"], &groups[0]["members"]), (&json!("Empty"), &json!(0)));
        assert_eq!(shell.json(&["groups", "describe", "g"])[0]["committed_offset"], 3);
    }
    let shell = filled(1);
    let mut reader = shell.start(&["--json", "consume", "t", "--follow"]);
    reader.line();
    let ended = reader.signal("TERM");
    assert_eq!(ended.code, 130, "{ended:?}");
    let note: Value = serde_json::from_str(ended.stderr.trim_end()).unwrap();
    assert_eq!(note["read"], 1);
}

/// A reader of its output that takes his time, and a file that is cut meanwhile: what was polled is
/// printed, and the next poll tells what is wrong.
#[test]
fn a_file_that_is_cut_while_its_records_are_printed_ends_nothing_by_a_signal() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "1"]);
    let line = |number: usize| format!("{number:01000}");
    let lines: String = (0..1000).map(|number| line(number) + "\n").collect();
    shell.feed(&["produce", "t"], lines.as_bytes());
    for words in
        [&["consume", "t", "--group", "g"][..], &["--json", "consume", "t", "--group", "j"]]
    {
        let log = shell.dir().join(format!("t-0/{:020}.log", 0));
        let whole = std::fs::read(&log).unwrap();
        let mut reader = shell.start(words);
        // More is polled at once than the pipe holds.
        assert!(reader.line().contains(&line(0)));
        let file = std::fs::File::options().write(true).open(&log).unwrap();
        file.set_len(0).unwrap();
        let ended = reader.ended();
        assert_eq!(ended.code, 1, "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("the segment cannot be read from here on"), "{ended:?}");
        let printed: Vec<&str> = ended.stdout.lines().collect();
        assert_eq!(printed.len(), 499, "{words:?}");
        assert!(printed.iter().zip(1..).all(|(text, number)| text.contains(&line(number))));
        std::fs::write(&log, whole).unwrap();
    }
}

#[test]
fn an_interrupted_producer_says_how_many_records_it_wrote() {
    for (signal, words) in [("INT", &["produce", "t"][..]), ("TERM", &["--json", "produce", "t"])] {
        let shell = filled(0);
        let mut producer = shell.start(words);
        producer.feed(b"one\ntwo\nhalf a li");
        let written = || shell.json(&["offsets", "t"])[0]["log_end_offset"] == 2;
        while !written() {}
        let ended = producer.signal(signal);
        assert_eq!(ended.code, 130, "{ended:?}");
        assert!(ended.stderr.contains("2 records written to t"), "{ended:?}");
        assert_eq!(shell.ok(&["consume", "t"]), "one\ntwo\n");
        // The directory was closed in good order: there is nothing to note.
        assert!(shell.ok(&["verify"]).contains("0 findings, 0 notes"));
    }
}

#[test]
fn an_interrupted_bench_leaves_nothing_behind() {
    let shell = Shell::new();
    let bench = shell.start(&["bench", "produce", "--records", "1000000000", "--durable"]);
    while std::fs::read_dir(shell.dir()).unwrap().count() == 0 {}
    let ended = bench.signal("INT");
    assert_eq!(ended.code, 130, "{ended:?}");
    assert_eq!(std::fs::read_dir(shell.dir()).unwrap().count(), 0);
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let shell = filled(20_000);
    for line in [
        "topiclite consume t | head -1",
        "topiclite --json consume t | head -1",
        "topiclite consume t --group g --count 15000 | head -1",
        "topiclite --json dump $TOPICLITE_DIR/t-0/*.log | head -1",
        "topiclite topics describe t | head -1",
        "topiclite --json topics list | head -1",
        "topiclite groups list | head -1",
        "topiclite offsets t | head -1",
        "topiclite verify | head -1",
        "topiclite repair | head -1",
        "topiclite completions bash | head -1",
        "topiclite man | head -1",
        "topiclite --help | head -1",
        "topiclite bench produce --records 10 | head -1",
    ] {
        let ended = shell.script(&format!("set -o pipefail; {line}"));
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{line}: {ended:?}");
        assert_eq!(ended.stdout.lines().count(), 1, "{line}: {ended:?}");
    }
    // Nobody reads where the records went; they are written all the same.
    let lines = "for n in $(seq 5000); do echo $n; done";
    let ended = shell.script(&format!("{lines} | topiclite --json produce t | head -1"));
    assert!(ended.stderr.contains("5000 records written to t"), "{ended:?}");
    assert_eq!(shell.json(&["offsets", "t"])[0]["log_end_offset"], 25_000);
    // Nobody is there to be told either.
    let ended = shell.script("topiclite consume nope 2>&-");
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let shell = filled(1);
    for line in ["topics list", "consume t", "verify", "offsets t", "groups list"] {
        let ended = shell.script(&format!("topiclite {line} > /dev/full"));
        assert_eq!(ended.code, 1, "{line}: {ended:?}");
        assert!(ended.stderr.contains("standard output"), "{line}: {ended:?}");
    }
    // Nor does one that may not grow end the program by a signal.
    let shell = filled(2000);
    for line in ["consume t", "--json consume t", "topics describe t"] {
        let ended = shell.script(&format!("ulimit -f 1; topiclite {line} > $TOPICLITE_DIR/../out"));
        assert_eq!(ended.code, 1, "{line}: {ended:?}");
        assert!(ended.stderr.contains("standard output"), "{line}: {ended:?}");
    }
}

/// The group's own log, not the partition that is read, is what cannot be opened.
#[test]
fn what_fails_for_want_of_descriptors_is_told_as_that() {
    let shell = filled(3);
    for limit in 6..24 {
        let ended = shell.script(&format!("ulimit -n {limit}; topiclite consume t --group g"));
        match ended.code {
            0 => assert_eq!(ended.stderr, "", "{limit}"),
            _ => assert!(ended.stderr.contains("Too many open files"), "{limit}: {ended:?}"),
        }
    }
}
