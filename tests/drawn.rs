//! Scenarios drawn at random: the draw itself, and how drawn ones are recorded on a real Kafka.
//!
//! `TOPICLITE_DRAW_INTO=FOLDER` writes scenarios there: `TOPICLITE_DRAW` of each theme (50), from
//! the seed `TOPICLITE_FIRST_SEED` (0) on, of themes whose name contains `TOPICLITE_THEME`. With
//! `TOPICLITE_KAFKA_TOOLS` they are also run three times on a real node, and those whose outcome
//! was the same each time are added to `tests/recorded/drawn`, which `tests/scenarios.rs` replays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod draw;
#[allow(dead_code)] // Not every suite needs all of it.
mod scenario;

use draw::{THEMES, Theme};
use scenario::{NodeProperties, Scenario, recorded};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The properties of the node that all of them are recorded on.
const NODE: &str = "node.properties";

/// A number of the environment.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect(variable))
}

#[test]
fn a_seed_gives_one_scenario_and_another_seed_another() {
    for theme in THEMES {
        let texts: Vec<String> = (0..200).map(|seed| theme.draw(seed).to_string()).collect();
        let again: Vec<String> = (0..200).map(|seed| theme.draw(seed).to_string()).collect();
        assert_eq!(texts, again, "{}", theme.name);
        let differing: BTreeSet<&String> = texts.iter().collect();
        assert_eq!(differing.len(), texts.len(), "{}", theme.name);
        for text in &texts {
            let parsed = Scenario::parse(text).unwrap();
            assert!(parsed.name().starts_with("drawn_"), "{}", parsed.name());
        }
    }
}

/// What nobody recorded has no outcome to compare with, but it has one, the same each time.
#[test]
fn what_is_drawn_runs_to_its_end_the_same_way_twice() {
    let node = NodeProperties::read(&recorded::drawn().join(NODE)).unwrap();
    for theme in THEMES {
        for seed in 0..number("TOPICLITE_DRAW", 50) {
            let drawn = Scenario::parse(&theme.draw(seed).to_string()).unwrap();
            // A topic that cannot be made is an outcome, too.
            let play = || drawn.play(&node).map_err(|error| error.to_string());
            assert_eq!(play(), play(), "{}", drawn.name());
        }
    }
}

#[test]
fn scenarios_are_drawn_into_a_folder_and_recorded_on_a_real_node() {
    let Some(into) = std::env::var_os("TOPICLITE_DRAW_INTO").map(PathBuf::from) else {
        println!("skip: TOPICLITE_DRAW_INTO is not set, nothing is written");
        return;
    };
    let wanted = std::env::var("TOPICLITE_THEME").unwrap_or_default();
    let tools = std::env::var_os("TOPICLITE_KAFKA_TOOLS").map(PathBuf::from);
    for theme in THEMES.iter().filter(|theme| theme.name.contains(&wanted)) {
        let folder = into.join(theme.name);
        let files = write(theme, &folder);
        println!("{}: {} scenarios in {}", theme.name, files.len(), folder.display());
        if let Some(tools) = &tools {
            record(tools, &folder);
            keep(theme, &files);
        }
    }
}

fn write(theme: &Theme, folder: &Path) -> Vec<PathBuf> {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::copy(recorded::drawn().join(NODE), folder.join(NODE)).unwrap();
    let first = number("TOPICLITE_FIRST_SEED", 0);
    let seeds = first..first + number("TOPICLITE_DRAW", 50);
    seeds
        .map(|seed| {
            let path = folder.join(format!("{seed}.json"));
            std::fs::write(&path, theme.draw(seed).to_string()).unwrap();
            path
        })
        .collect()
}

/// Runs the folder's scenarios on a real node, three times each. The outcomes are written into the
/// files of those that agreed with themselves; that others did not is no failure.
fn record(tools: &Path, folder: &Path) {
    let jobs = number("TOPICLITE_DRAW_JOBS", 8).to_string();
    let run = Command::new(tools.join("ask-kafka"))
        .args(["--record", "--jobs", &jobs])
        .arg(folder)
        .output()
        .expect("the tools can be run");
    let text = String::from_utf8_lossy(&run.stdout);
    let last = text.lines().find(|line| line.ends_with(" fine"));
    println!("{}", last.expect("a node ran the scenarios"));
}

/// Adds what was recorded to the repository's own, sorted by name, one scenario a line.
fn keep(theme: &Theme, files: &[PathBuf]) {
    let kept = recorded::drawn().join(format!("{}.jsonl", theme.name));
    let before = std::fs::read_to_string(&kept).unwrap_or_default();
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap());
    // What the driver itself could not do says nothing of Kafka.
    let recorded = texts.filter(|text| text.contains("\"saw\"") && !text.contains("\"driver: "));
    let one_line = |text: String| {
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        (value["name"].as_str().unwrap().to_owned(), value.to_string())
    };
    let lines: BTreeMap<String, String> =
        before.lines().map(str::to_owned).chain(recorded).map(one_line).collect();
    let text: String = lines.values().map(|line| format!("{line}\n")).collect();
    std::fs::write(&kept, text).unwrap();
    println!("{}: {} scenarios in {}", theme.name, lines.len(), kept.display());
}
