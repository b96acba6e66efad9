//! Scenarios recorded on a real Apache Kafka, replayed on an in-memory broker under a stepping
//! clock.
//!
//! One line per scenario and totals: ok, failed, departs, not built yet. A scenario departs when
//! its file names an accident of Kafka's network, threads or caches; it runs all the same. It is
//! not built when it fails and needs something of the lists below, which is all that this version
//! does not claim.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod judge;
#[allow(dead_code)] // Not every suite needs all of it.
mod scenario;

use scenario::recorded::{self, Recorded};
use scenario::{NodeProperties, Scenario, Verdict};
use std::collections::BTreeMap;
use std::path::Path;

/// Features of the log, the producers and the groups that are not there yet.
const FEATURES_NOT_BUILT: &[&str] = &["C12", "C14"];
/// Kinds of actors that are not there yet.
const ACTORS_NOT_BUILT: &[&str] = &["share"];
/// Ways of a step that are not there yet: subscriptions by pattern, the choice of `close`.
const FIELDS_NOT_BUILT: &[&str] = &["pattern", "re2j", "membership"];
/// Settings that are not there yet, with the value they must contain to count.
const SETTINGS_NOT_BUILT: &[(&str, &str)] = &[
    ("group.instance.id", ""),
    ("group.protocol", "consumer"),
    // Refused, as nobody would do what they say.
    ("preallocate", "true"),
    ("unclean.leader.election.enable", "true"),
];
/// Assignors that are not there yet.
const ASSIGNORS_NOT_BUILT: &[&str] = &["sticky", "cooperative-sticky"];

/// What a scenario needs that is not there yet.
fn needs(scenario: &Scenario) -> Option<String> {
    if scenario.protocol() == "consumer" {
        return Some("the new group protocol".into());
    }
    let feature = scenario.features().iter().find(|f| FEATURES_NOT_BUILT.contains(&f.as_str()));
    if let Some(feature) = feature {
        return Some(format!("feature {feature}"));
    }
    if let Some(kind) = scenario.actor_kinds().find(|kind| ACTORS_NOT_BUILT.contains(kind)) {
        return Some(format!("an actor of kind {kind}"));
    }
    if let Some(field) = scenario.step_fields().find(|field| FIELDS_NOT_BUILT.contains(field)) {
        return Some(format!("a step with {field}"));
    }
    for (key, value) in scenario.settings() {
        let unbuilt = |(name, part): &(&str, &str)| *name == key && value.contains(part);
        if SETTINGS_NOT_BUILT.iter().any(unbuilt) {
            return Some(format!("{key}={value}"));
        }
        if key == "partition.assignment.strategy" {
            let mut names = value.split(',').map(str::trim);
            if let Some(name) = names.find(|name| ASSIGNORS_NOT_BUILT.contains(name)) {
                return Some(format!("the assignor {name}"));
            }
        }
    }
    None
}

#[test]
fn recorded_scenarios_replay_with_the_same_outcomes() {
    let departing =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kafka.md"))
            .unwrap();
    let only = std::env::var("TOPICLITE_SCENARIO").ok();
    let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut roots = judge::folders("scenarios", "TOPICLITE_SCENARIOS");
    // Drawn at random or written for corners, and recorded on the same Kafka; what chance or time
    // decides was left out.
    roots.push(recorded::own());
    for root in roots {
        for Recorded { place, text, node } in recorded::below(&root) {
            if !seen.insert((place, text.clone())) {
                continue; // The repository's own copy of the same file.
            }
            let scenario = Scenario::parse(&text).unwrap();
            if only.as_ref().is_some_and(|only| !scenario.name().contains(only.as_str())) {
                continue;
            }
            let verdict = replay(&scenario, &node);
            let (word, why) = match (verdict, scenario.accident(), needs(&scenario)) {
                (Verdict::Ok, Some(_), _)
                    if departing.contains(&format!("`{}`", scenario.name())) =>
                {
                    ("failed", "agrees, but docs/kafka.md lists it as departing".to_owned())
                }
                (Verdict::Ok, _, _) => ("ok", String::new()),
                (Verdict::Failed(_), Some(accident), _) => ("departs", accident.to_owned()),
                (Verdict::Failed(_), None, Some(needs)) => ("not built", needs),
                (Verdict::Failed(difference), None, None) => ("failed", difference),
            };
            println!("{word:9} {} {why}", scenario.name());
            *totals.entry(word).or_default() += 1;
            if word == "failed" {
                failures.push(format!("{}: {why}", scenario.name()));
            }
        }
    }
    let count = |word| totals.get(word).copied().unwrap_or(0);
    println!(
        "scenarios: {} ok, {} failed, {} depart, {} not built yet",
        count("ok"),
        count("failed"),
        count("departs"),
        count("not built")
    );
    assert!(totals.values().sum::<usize>() > 0, "no scenario was found");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A panic is a difference like any other, so that one scenario does not hide the rest.
fn replay(scenario: &Scenario, node: &NodeProperties) -> Verdict {
    let replay = std::panic::AssertUnwindSafe(|| scenario.replay(node));
    std::panic::catch_unwind(replay).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Verdict::Failed(format!("panicked: {}", text.unwrap_or_default()))
    })
}
