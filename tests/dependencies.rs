//! What the default features pull in: no C source, no network, and only licences that go together
//! with ours. Read from `cargo metadata`, offline.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crates that compile or look for sources of another language.
const BUILDERS: &[&str] =
    &["cc", "cmake", "bindgen", "pkg-config", "vcpkg", "autotools", "nasm-rs"];
/// Crates that open sockets, or exist to serve one that does.
const NETWORK: &[&str] = &[
    "mio",
    "tokio",
    "async-std",
    "async-io",
    "smol",
    "socket2",
    "hyper",
    "h2",
    "reqwest",
    "ureq",
    "rustls",
    "openssl",
    "native-tls",
    "quinn",
    "curl",
    "rdkafka",
    "trust-dns-resolver",
];
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "Zlib",
    "Unicode-3.0",
    "0BSD",
    "Unlicense",
    "BSL-1.0",
    "ISC",
    "CC0-1.0",
];

struct Metadata(Value);

impl Metadata {
    fn read(features: &[&str]) -> Metadata {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let output = Command::new(cargo)
            .args(["metadata", "--offline", "--locked", "--format-version", "1"])
            .args(["--manifest-path", manifest, "--filter-platform", "x86_64-unknown-linux-gnu"])
            .args(features)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Metadata(serde_json::from_slice(&output.stdout).unwrap())
    }

    /// What a program that uses the crate compiles, without its dev-dependencies.
    fn compiled(&self) -> Vec<&Value> {
        let rows = |value: &'static str, within: &'static str| {
            self.0
                .pointer(within)
                .unwrap()
                .as_array()
                .unwrap()
                .iter()
                .map(move |row| (row[value].as_str().unwrap(), row))
        };
        let nodes: BTreeMap<&str, &Value> = rows("id", "/resolve/nodes").collect();
        let packages: BTreeMap<&str, &Value> = rows("id", "/packages").collect();
        let mut found = BTreeSet::new();
        let mut open = vec![self.0["resolve"]["root"].as_str().unwrap()];
        while let Some(id) = open.pop() {
            if !found.insert(id) {
                continue;
            }
            for needed in nodes[id]["deps"].as_array().unwrap() {
                let kinds = needed["dep_kinds"].as_array().unwrap();
                if kinds.iter().any(|kind| kind["kind"] != "dev") {
                    open.push(needed["pkg"].as_str().unwrap());
                }
            }
        }
        found.into_iter().map(|id| packages[id]).collect()
    }
}

fn names(packages: &[&Value]) -> BTreeSet<String> {
    packages.iter().map(|package| package["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn default_features_pull_no_c_source_and_no_network() {
    let metadata = Metadata::read(&[]);
    let packages = metadata.compiled();
    let names = names(&packages);
    assert!(names.contains("memmap2"), "{names:?}");
    for banned in BUILDERS.iter().chain(NETWORK) {
        assert!(!names.contains(*banned), "{banned} is pulled in by the default features");
    }
    for package in packages {
        assert!(package["links"].is_null(), "{} links a library", package["name"]);
    }
}

#[test]
fn no_feature_pulls_in_a_network() {
    let metadata = Metadata::read(&["--features", "full"]);
    let names = names(&metadata.compiled());
    assert!(names.contains("clap") && names.contains("zstd-sys"), "{names:?}");
    for banned in NETWORK {
        assert!(!names.contains(*banned), "{banned} is pulled in");
    }
}

#[test]
fn every_licence_goes_together_with_ours() {
    let metadata = Metadata::read(&["--features", "full"]);
    for package in metadata.compiled() {
        let text = package["license"].as_str().unwrap_or("none");
        let offered = |choice: &str| {
            let bare = choice.trim().trim_matches(['(', ')']);
            LICENCES.contains(&bare)
        };
        // Each part of an AND must hold; of an OR, one choice is enough.
        let holds = text
            .split(" AND ")
            .all(|part| part.split(" OR ").flat_map(|choice| choice.split('/')).any(offered));
        assert!(holds, "{} {} is {text}", package["name"], package["version"]);
    }
}
