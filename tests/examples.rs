//! Every example is built, run as a process of its own, and held to what it prints.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Each takes about a second; what takes so long hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// An example, and what it prints, in this order; other things may stand in between.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "at_least_once",
        &[
            "a life billed 130 orders, and died\n",
            "a life billed 77 orders, and died\n",
            "a life billed 501 orders, and died\n",
            "a life billed 350 orders\n",
            "58 orders were billed twice, 0 never\n",
        ],
    ),
    (
        "at_most_once",
        &[
            "a life billed 130 orders, and died\n",
            "a life billed 77 orders, and died\n",
            "a life billed 501 orders, and died\n",
            "a life billed 200 orders\n",
            "0 orders were billed twice, 92 never\n",
        ],
    ),
    (
        "exactly_once",
        &[
            "a life ended in the middle of a transaction\n",
            "a life ended in the middle of a transaction\n",
            "a life ended in the middle of a transaction\n",
            "a life came to its end, 350 orders billed\n",
            "1000 bills are seen, 1055 were written\n",
        ],
    ),
    (
        "zombie",
        &[
            "A has sent, and stalls before its commit\n",
            "B took over, and committed the same transfer\n",
            "A is back, its send is refused: invalid producer epoch transfers-0",
            "A's commit is refused: invalid producer epoch",
            "A learns why: producer fenced",
            "a reader sees: 100 from alice, by B\n",
        ],
    ),
    (
        "transaction_errors",
        &[
            "The disk is full while the commit is decided",
            "  the same call again: timeout: not done within max.block.ms=1000",
            "The disk is full at the second record",
            "  abort: storage full accounts-1",
            "A record is larger than its topic takes",
            "  abort: record too large accounts-0",
            "  put aside\n",
            "Another program takes over, and is gone again",
            "  fatal, another producer: producer fenced",
            "A transaction takes longer than transaction.timeout.ms",
            "  fatal, another producer: ",
            "both sides of 4 transfers are seen, once each: -1 -2 -4 -5 +1 +2 +4 +5\n",
        ],
    ),
    (
        "event_bus",
        &[
            "6 events, of order a: placed, paid, sent\n",
            "6 events, of order a: placed, paid, sent\n",
        ],
    ),
    (
        "table",
        &[
            "life 1 begins with 0 prices, by Replay\n",
            "  1001 changes; 3 goods have a price:\n",
            "life 2 begins with 3 prices, by Snapshot(3)\n",
            "  1001 changes; 3 goods have a price:\n",
            "life 3 begins with 0 prices, by Rebuilt(",
            "  1001 changes; 3 goods have a price:\n",
            "3.249",
        ],
    ),
    (
        "test_double",
        &[
            "fault: fails with StorageFull, at append jobs-",
            "killed consumer two",
            "crashed: process killed",
            "every job was done: dry, fold, iron, mend, starch, wash\n",
        ],
    ),
];

/// Builds the examples as `cargo test` does, which leaves nothing to be done where all targets were
/// built; returns their folder.
fn folder() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        // TARGET/debug/deps/this
        let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
        let features = if cfg!(feature = "cli") { "full" } else { "testing" };
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let output = Command::new(cargo)
            .args(["build", "--examples", "--profile", "test", "--offline", "--quiet"])
            .args(["--features", features, "--manifest-path"])
            .arg(root.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        target.join("debug/examples")
    })
}

/// Everything that a process says, and whether it ended well.
fn run(path: &Path) -> (String, bool) {
    let mut command = Command::new(path);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (said, heard) = channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        let mut errors = String::new();
        stderr.read_to_string(&mut errors).unwrap();
        said.send((text, errors)).unwrap();
    });
    match heard.recv_timeout(LIMIT) {
        Ok((text, errors)) => {
            let success = child.wait().unwrap().success();
            (if success { text } else { text + &errors }, success)
        }
        Err(_) => {
            child.kill().unwrap();
            panic!("{} takes longer than {LIMIT:?}", path.display());
        }
    }
}

fn is_as_it_says(name: &str) {
    let (_, expected) = EXAMPLES.iter().find(|(known, _)| *known == name).unwrap();
    let (said, success) = run(&folder().join(name));
    assert!(success, "{name} failed:\n{said}");
    let mut rest = said.as_str();
    for line in *expected {
        match rest.find(line) {
            Some(at) => rest = &rest[at + line.len()..],
            None => panic!("{name} does not say {line:?} at its place:\n{said}"),
        }
    }
}

#[test]
fn every_example_is_held_to_what_it_prints() {
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap();
    let files: BTreeSet<String> = files
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let held: BTreeSet<String> = EXAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(files, held);
    let readme = include_str!("../README.md");
    let unnamed: Vec<_> = held.iter().filter(|name| !readme.contains(name.as_str())).collect();
    assert!(unnamed.is_empty(), "the readme does not name {unnamed:?}");
}

#[test]
fn deliveries_of_each_kind_print_their_losses_and_duplicates() {
    for name in ["at_least_once", "at_most_once", "exactly_once"] {
        is_as_it_says(name);
    }
}

#[test]
fn a_producer_that_was_replaced_does_no_harm() {
    is_as_it_says("zombie");
}

#[test]
fn each_class_of_errors_of_transactions_is_met_and_treated() {
    is_as_it_says("transaction_errors");
}

#[test]
fn the_bus_the_table_and_the_double_do_what_they_show() {
    for name in ["event_bus", "table", "test_double"] {
        is_as_it_says(name);
    }
}
