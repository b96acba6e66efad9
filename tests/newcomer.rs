//! What a new user writes: `tests/newcomer` is a crate of its own with `anyhow`. Its first hour is
//! compiled and run here too, and the crate is checked as a user's cargo checks it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "newcomer/src/first_hour.rs"]
mod first_hour;

use std::path::Path;
use std::process::Command;

#[test]
fn the_first_hour_works_as_it_is_written() {
    first_hour::all().unwrap();
}

/// Dependencies come from the registry's cache; where it lacks one, the line says so.
#[test]
fn the_crate_of_a_new_user_compiles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["check", "--offline", "--quiet", "--manifest-path"])
        .arg(root.join("tests/newcomer/Cargo.toml"))
        .arg("--target-dir")
        .arg(root.join("target/newcomer"))
        .env("CARGO_TERM_COLOR", "never")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    if told.contains("--offline was specified") || told.contains("no matching package named") {
        println!("skip: a dependency is not in the registry's cache\n{told}");
        return;
    }
    assert!(output.status.success(), "{told}");
}
