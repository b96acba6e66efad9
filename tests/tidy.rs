//! The rules of the source tree that a machine can check: layering, ASCII, lengths, module heads,
//! where `unsafe` and clocks may stand, and that documents keep up with the code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "tidy/house.rs"]
mod house;

use std::fs;
use std::path::{Path, PathBuf};

/// Each layer and the layers it may name. A module may always name itself.
const LEAVES: &[&str] = &["error", "time", "sync", "topic", "config"];
const LAYERS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("sync", &[]),
    ("topic", &["error"]),
    ("time", &["error", "sync"]),
    ("config", &["error", "time", "sync", "topic", "record"]),
    ("meter", &["sync"]),
    ("events", &["error", "sync", "topic"]),
    ("probe", &["error", "events", "time", "sync", "topic"]),
    ("record", LEAVES),
    ("storage", LEAVES),
    (
        "log",
        &[
            "error", "events", "time", "sync", "topic", "config", "meter", "probe", "record",
            "storage",
        ],
    ),
    ("coordinator", &["error", "time", "record"]),
    ("group", &["coordinator", "error", "events", "time", "sync", "topic", "config", "record"]),
    (
        "transaction",
        &["coordinator", "error", "events", "time", "sync", "topic", "config", "record"],
    ),
];
/// Folders that nothing below them may name.
const UPPER: &[&str] = &["broker", "producer", "consumer", "admin", "table", "process", "testing"];

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, out: &mut Vec<(PathBuf, String)>) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target" && name != "golden") {
                    walk(&path, out);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                out.push((path, text));
            }
        }
    }
    let mut out = Vec::new();
    walk(&root().join(dir), &mut out);
    out.sort();
    out
}

fn all_sources() -> Vec<(PathBuf, String)> {
    ["src", "tests", "benches", "examples", "fuzz"].iter().flat_map(|dir| sources(dir)).collect()
}

/// `src/log/append/mod.rs` -> `log`, `src/error.rs` -> `error`.
fn layer(path: &Path) -> String {
    let relative = path.strip_prefix(root().join("src")).unwrap();
    let first = relative.iter().next().unwrap().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

pub(crate) fn report(rule: &str, faults: Vec<String>) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

pub(crate) fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[test]
fn dependencies_go_one_way() {
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        let from = layer(&path);
        if from == "lib" || from == "bin" {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for named in crate_modules(line) {
                let allowed = match LAYERS.iter().find(|(name, _)| *name == from) {
                    Some((_, allowed)) => named == from || allowed.contains(&named.as_str()),
                    None if from == "broker" => {
                        named == from
                            || !UPPER.contains(&named.as_str())
                            || is_handle_constructor(&path)
                    }
                    None if from == "testing" || from == "process" => true,
                    None if named == "table" => from == "table",
                    None => named != "process" && named != "testing",
                };
                if !allowed {
                    faults.push(format!("{}:{}: {from} names {named}", short(&path), number + 1));
                }
            }
        }
    }
    report("a layer names only the layers below it", faults);
}

/// The one file in which a broker makes the handles that stand above it.
fn is_handle_constructor(path: &Path) -> bool {
    path.ends_with("src/broker/handles.rs")
}

fn crate_modules(line: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("crate::") {
        rest = &rest[at + "crate::".len()..];
        let name: String =
            rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
        let known =
            LAYERS.iter().any(|(layer, _)| *layer == name) || UPPER.contains(&name.as_str());
        if known {
            out.push(name);
        }
    }
    out
}

#[test]
fn lines_are_ascii_and_at_most_100_columns() {
    let mut faults = Vec::new();
    for (path, text) in all_sources() {
        for (number, line) in text.lines().enumerate() {
            if !line.is_ascii() {
                faults.push(format!("{}:{}: not ASCII", short(&path), number + 1));
            }
            if line.len() > 100 {
                faults.push(format!("{}:{}: {} columns", short(&path), number + 1, line.len()));
            }
        }
    }
    report("lines are ASCII, 100 columns", faults);
}

#[test]
fn files_are_at_most_800_lines() {
    let long = all_sources()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > 800)
        .map(|(path, text)| format!("{}: {} lines", short(&path), text.lines().count()))
        .collect();
    report("files of at most 800 lines", long);
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let bare = all_sources()
        .into_iter()
        .filter(|(path, text)| {
            let body = text.trim_start_matches("#![no_main]").trim_start();
            !body.starts_with("//!") && path.file_name().is_some_and(|name| name != "build.rs")
        })
        .map(|(path, _)| short(&path))
        .collect();
    report("every file has a head comment", bare);
}

#[test]
fn nothing_is_left_unfinished() {
    let marks =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!("), "unimplemented!("];
    let mut faults = Vec::new();
    for (path, text) in all_sources() {
        if path.ends_with("tests/tidy.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                faults.push(format!("{}:{}: {}", short(&path), number + 1, line.trim()));
            }
        }
    }
    report("no unfinished marks", faults);
}

#[test]
fn unsafe_stands_in_the_region_and_its_guard_each_block_with_an_argument() {
    let confined = ["src/storage/region.rs", "src/storage/guard.rs", "src/storage/guard/tests.rs"];
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            let is_unsafe =
                ["unsafe {", "unsafe impl", "unsafe fn"].iter().any(|u| code.contains(u));
            if !is_unsafe {
                continue;
            }
            if !confined.iter().any(|file| path.ends_with(file)) {
                faults.push(format!("{}:{}: unsafe here", short(&path), number + 1));
                continue;
            }
            let argued = lines[number.saturating_sub(12)..=number]
                .iter()
                .any(|line| line.contains("SAFETY:") || line.contains("# Safety"));
            if !argued {
                faults.push(format!("{}:{}: no SAFETY argument", short(&path), number + 1));
            }
        }
    }
    report("unsafe is confined and argued", faults);
}

#[test]
fn clocks_and_sleeps_come_in_through_one_door() {
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        let door = layer(&path) == "time" || layer(&path) == "bin";
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let clock = line.contains("Instant::now()") || line.contains("SystemTime::now()");
            let sleep = line.contains("thread::sleep");
            if !line.starts_with("//") && ((clock && !door) || sleep) {
                faults.push(format!("{}:{}: {line}", short(&path), number + 1));
            }
        }
    }
    for (path, text) in sources("tests") {
        let sleeps = text.contains("thread::sleep(") && !path.ends_with("tests/tidy.rs");
        if sleeps {
            faults.push(format!("{}: sleeps", short(&path)));
        }
    }
    report("time comes in through src/time.rs", faults);
}

#[test]
fn locks_and_threads_come_in_through_one_door() {
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        let above = ["bin", "sync"].contains(&layer(&path).as_str());
        for (number, line) in text.lines().enumerate() {
            let code = line.trim_start();
            let direct =
                ["std::sync::Mutex", "std::sync::RwLock", "std::thread::spawn", "parking_lot::"]
                    .iter()
                    .any(|name| code.contains(name));
            if direct && !above && !code.starts_with("//") {
                faults.push(format!("{}:{}: {code}", short(&path), number + 1));
            }
        }
    }
    report("locks and threads come in through src/sync.rs", faults);
}

#[test]
fn every_error_kind_is_explained_in_the_guarantees() {
    let text = fs::read_to_string(root().join("docs/guarantees.md")).unwrap();
    let missing = topiclite::ErrorKind::ALL
        .iter()
        .filter(|kind| !text.contains(&format!("`{}`", kind.name())))
        .map(|kind| kind.name().to_owned())
        .collect();
    report("docs/guarantees.md names every error kind", missing);
}

#[test]
fn every_departure_in_the_code_is_listed_in_the_comparison() {
    let text = fs::read_to_string(root().join("docs/kafka.md")).unwrap();
    let listed = text.matches("| D").count();
    let marked: usize =
        sources("src").iter().map(|(_, text)| text.matches("`Departure:`").count()).sum();
    assert!(listed > 0, "docs/kafka.md lists departures as rows `| D.. |`");
    assert!(
        marked > 0 || sources("src").iter().any(|(_, text)| text.contains("Departure:")),
        "departures are marked in the rustdoc"
    );
}

#[test]
fn every_fuzz_target_is_run_by_ci() {
    let script = fs::read_to_string(root().join(".ci/run")).unwrap();
    let by_listing = script.contains("fuzz/fuzz_targets/*.rs");
    let missing = sources("fuzz/fuzz_targets")
        .into_iter()
        .map(|(path, _)| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|target| !by_listing && !script.contains(target))
        .collect();
    report("CI runs every fuzz target", missing);
}

#[test]
fn the_readme_shows_both_commands_and_ci_calls_the_test_command() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let script = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(readme.contains("cargo run --release --features cli -- demo"));
    assert!(readme.contains("cargo test --features full"));
    assert!(script.contains("cargo test --features full\n"));
}

#[test]
fn planted_bugs_are_for_their_own_suites_and_ci_runs_them() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let naming = |word: &str| manifest.lines().filter(|line| line.contains(word)).count();
    assert_eq!(naming("\"planted-bugs\""), 0, "no other feature switches the bugs on");
    let script = fs::read_to_string(root().join(".ci/run")).unwrap();
    let mut faults = Vec::new();
    for suite in ["--lib", "--test crash", "--test lock"] {
        let command = format!(" test --features full,planted-bugs {suite} planted\n");
        if !script.contains(&command) {
            faults.push(command);
        }
    }
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (number, pair) in lines.windows(2).enumerate() {
            let gated = pair[0] == "#[cfg(feature = \"planted-bugs\")]" && pair[1] == "#[test]";
            let name = lines.get(number + 2).copied().unwrap_or_default();
            if gated && !name.contains("planted") {
                faults.push(format!("{}: {name} does not say planted", short(&path)));
            }
        }
    }
    report("bugs are planted by suites of their own", faults);
}
