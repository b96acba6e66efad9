//! Exit codes, and what is said where: bad usage, failed operations, directories that are none.

use crate::shell::Shell;
use serde_json::Value;

/// Fails with the code, one line on stderr that has the part, and nothing on stdout.
fn refused(shell: &Shell, arguments: &[&str], code: i32, part: &str) {
    let ended = shell.run(arguments, b"");
    assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
    assert!(ended.stderr.contains(part), "{arguments:?}: {ended:?}");
    assert_eq!(ended.stdout, "", "{arguments:?}");
    if code == 1 {
        assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{arguments:?}: {ended:?}");
    }
    let ended = shell.run(&[&["--json"], arguments].concat(), b"");
    assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{arguments:?}: {ended:?}");
    let last = ended.stderr.lines().last().unwrap();
    let told: Value = serde_json::from_str(last).unwrap();
    assert!(told["error"].as_str().unwrap().contains(part), "{arguments:?}: {told}");
    assert!(told["kind"].is_string(), "{told}");
}

#[test]
fn what_fails_is_told_on_one_line_with_exit_code_1() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "1"]);
    let failures: &[(&[&str], &str)] = &[
        (&["topics", "create", "t", "--partitions", "1"], "exists"),
        (&["topics", "describe", "nope"], "nope"),
        (&["topics", "delete", "nope"], "topics list"),
        (&["topics", "alter", "nope", "--config", "retention.ms=1"], "nope"),
        (&["topics", "grow", "t", "--partitions", "1"], "partitions"),
        (&["produce", "nope"], "nope"),
        (&["produce", "t", "--partition", "9"], "partitions 0 to 0"),
        (&["consume", "nope"], "nope"),
        (&["consume", "nope", "--group", "g"], "nope"),
        (&["consume", "t", "--partition", "9"], "partition"),
        (&["groups", "describe", "nope"], "nope"),
        (&["groups", "members", "nope"], "nope"),
        (&["groups", "delete", "nope"], "nope"),
        (&["groups", "reset", "nope", "--all-topics", "--to", "earliest"], "nope"),
        (&["groups", "reset", "g", "--topic", "nope", "--to", "earliest"], "nope"),
        (&["groups", "reset", "g", "--topic", "t:3", "--to", "earliest"], "partitions 0 to 0"),
        (&["offsets", "nope"], "nope"),
        (&["trim", "nope", "--partition", "0", "--before", "1"], "nope"),
        (&["trim", "t", "--partition", "0", "--before", "9"], "9"),
        (&["dump", "nope.log"], "nope.log"),
        (&["demo", "--input", "nope.txt"], "nope.txt"),
        (&["man", "--out", "/nope"], "/nope"),
    ];
    for (arguments, part) in failures {
        refused(&shell, arguments, 1, part);
    }
}

#[test]
fn bad_usage_is_exit_code_2_whatever_the_directory_holds() {
    let shell = Shell::new();
    let usages: &[(&[&str], &str)] = &[
        (&["no-such-command"], "no-such-command"),
        (&["consume", "t", "--count", "x"], "--count"),
        (&["consume", "t", "--from", "yesterday"], "--from"),
        (&["consume", "t", "--from", "-1h"], "--from"),
        (&["consume", "t", "--from", "@2026-13-01"], "--from"),
        (&["consume", "t", "--from", "@-100000d"], "1970"),
        (&["consume", "t", "--from", "stored"], "--group"),
        (&["consume", "t", "--group", ""], "group"),
        (&["consume", "t", "--partition", "-1"], "--partition"),
        (&["consume", "t", "--format", "%q"], "--format"),
        (&["consume", "t", "--isolation", "dirty"], "--isolation"),
        (&["consume", "a/b"], "topic name"),
        (&["topics", "create", "a/b"], "topic name"),
        (&["topics", "create", "x", "--partitions", "0"], "--partitions"),
        (&["topics", "create", "x", "--partitions", "-1"], "--partitions"),
        (&["topics", "create", "x", "--config", "retention.m=1"], "retention.ms"),
        (&["topics", "create", "x", "--config", "retention.ms"], "KEY=VALUE"),
        (&["topics", "create", "x", "--config", "retention.ms=soon"], "soon"),
        (&["topics", "alter", "x", "--config", "retention.m=1"], "retention.ms"),
        (&["topics", "alter", "x", "--config", "retention.m="], "retention.ms"),
        (&["topics", "grow", "t", "--partitions", "0"], "--partitions"),
        (&["produce", "t", "--compression", "zst"], "zstd"),
        (&["produce", "t", "--config", "linger.mss=1"], "linger.ms"),
        (&["produce", "t", "--config", "acks=7"], "acks"),
        (&["produce", "t", "--key-separator", ""], "--key-separator"),
        (&["produce", "t", "--key-separator", "\\q"], "--key-separator"),
        (&["produce", "t", "--header", "name"], "NAME=VALUE"),
        (&["produce", "t", "--key", "k", "--key-separator", ":"], "--key"),
        (&["produce", "t", "--input-format", "json", "--key", "k"], "--key"),
        (&["groups", "reset", "g", "--to", "earliest"], "--topic"),
        (&["groups", "reset", "g", "--topic", "t"], "--to"),
        (&["groups", "reset", "g", "--topic", "t", "--to", "beginning"], "earliest"),
        (&["groups", "reset", "g", "--topic", "t", "--by-duration", "soon"], "--by-duration"),
        (&["trim", "t", "--partition", "0", "--before", "-2"], "--before"),
        (&["bench", "produce", "--records", "0"], "--records"),
        (&["bench", "produce", "--compression", "brotli"], "brotli"),
        (&["completions", "tcsh"], "tcsh"),
    ];
    for (arguments, part) in usages {
        refused(&shell, arguments, 2, part);
    }
    assert_eq!(shell.run(&["topics"], b"").code, 2);
    for arguments in [&["--help"][..], &["--version"], &["consume", "--help"]] {
        assert_eq!(shell.run(arguments, b"").code, 0);
    }
    assert_eq!(std::fs::read_dir(shell.dir()).unwrap().count(), 0, "bad usage made something");
}

/// Every command that works on a directory, with words that fit.
const ON_A_DIRECTORY: &[&[&str]] = &[
    &["topics", "list"],
    &["topics", "describe"],
    &["topics", "delete", "t"],
    &["topics", "alter", "t", "--config", "retention.ms=1"],
    &["topics", "grow", "t", "--partitions", "2"],
    &["produce", "t"],
    &["consume", "t"],
    &["consume", "t", "--group", "g"],
    &["groups", "list"],
    &["groups", "describe", "g"],
    &["groups", "members", "g"],
    &["groups", "delete", "g"],
    &["groups", "reset", "g", "--topic", "t", "--to", "earliest"],
    &["groups", "reset", "g", "--topic", "t", "--to", "earliest", "--execute"],
    &["offsets", "t"],
    &["trim", "t", "--partition", "0", "--before", "0"],
    &["verify"],
    &["repair"],
    &["repair", "--execute"],
];

#[test]
fn a_directory_that_is_none_is_told_and_stays_as_it_is() {
    let shell = Shell::new();
    let missing = shell.dir().join("typo");
    let other = shell.dir().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::create_dir(other.join("notes-2026")).unwrap();
    std::fs::write(other.join("a.txt"), "a").unwrap();
    for arguments in ON_A_DIRECTORY {
        for (dir, part) in [(&missing, "no such directory"), (&other, "no files of Kafka")] {
            let dir = dir.to_str().unwrap();
            refused(&shell, &[&["--dir", dir], *arguments].concat(), 1, part);
        }
        assert_eq!(Shell::without_dir(arguments).code, 2, "{arguments:?}");
    }
    assert!(!missing.exists());
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 2);
    // What it takes to begin: a topic.
    let made = shell.run(&["--dir", missing.to_str().unwrap(), "topics", "create", "t"], b"");
    assert_eq!(made.code, 0, "{made:?}");
    assert!(missing.exists());
}

#[test]
fn what_is_kept_without_effect_is_said() {
    let shell = Shell::new();
    let words = ["topics", "create", "t", "--config", "min.insync.replicas=2"];
    let made = shell.run(&words, b"");
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.stderr.contains("min.insync.replicas is kept without effect"), "{made:?}");
    // What is not there asks for a directory to be looked at, and is bad usage all the same.
    let asked = shell.run(&["produce", "t", "--config", "partitioner.class=x"], b"");
    assert_eq!(asked.code, 2, "{asked:?}");
    let words = ["--json", "topics", "alter", "t", "--config", "min.insync.replicas=3"];
    let altered = shell.run(&words, b"");
    assert_eq!(altered.code, 0, "{altered:?}");
    let note: Value = serde_json::from_str(altered.stderr.trim_end()).unwrap();
    assert!(note["note"].as_str().unwrap().contains("min.insync.replicas"), "{note}");
    let sent = shell.run(&["produce", "t", "--config", "bootstrap.servers=a:1"], b"");
    assert!(sent.stderr.contains("bootstrap.servers is kept without effect"), "{sent:?}");
    let described = &shell.json(&["topics", "describe", "t"])[0]["settings"];
    assert_eq!(described["min.insync.replicas"]["has_effect"], false);
    assert_eq!(described["retention.ms"]["has_effect"], true);
    assert_eq!(described["retention.ms"]["source"], "DEFAULT_CONFIG");
}

#[test]
fn completions_and_manual_pages_know_the_commands() {
    let shell = Shell::new();
    for name in ["bash", "zsh", "fish"] {
        let script = shell.ok(&["completions", name]);
        assert!(script.contains("reset") && script.contains("key-separator"), "{name}");
    }
    let page = shell.ok(&["man"]);
    assert!(page.contains(".TH topiclite") && page.contains("TOPICLITE_DIR"), "{page}");
    let out = shell.dir().to_str().unwrap();
    let written = shell.ok(&["man", "--out", out]);
    assert!(written.lines().any(|path| path.ends_with("/topiclite-groups-reset.1")), "{written}");
    assert!(written.lines().all(|path| std::fs::metadata(path).unwrap().len() > 100));
}
