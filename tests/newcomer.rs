//! What a new user writes: `tests/newcomer` is a crate of its own with `anyhow`. Its first hour is
//! compiled and run here too, and the crate is checked as a user's cargo checks it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "newcomer/src/first_hour.rs"]
mod first_hour;

use std::path::Path;
use std::process::Command;

#[test]
fn the_first_hour_works_as_it_is_written() {
    first_hour::all().unwrap();
}

/// The crate lies below the target directory, with the versions that this build has: nothing is
/// looked up, and what both need is compiled once.
#[test]
fn the_crate_of_a_new_user_compiles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (own, made) = (root.join("tests/newcomer"), Path::new(env!("CARGO_TARGET_TMPDIR")));
    let made = made.join("newcomer");
    std::fs::create_dir_all(made.join("src")).unwrap();
    let manifest = std::fs::read_to_string(own.join("Cargo.toml")).unwrap();
    let there = format!("path = {:?}", root.to_str().unwrap());
    let manifest = manifest.replace("path = \"../..\"", &there);
    assert!(manifest.contains(&there), "{manifest}");
    std::fs::write(made.join("Cargo.toml"), manifest).unwrap();
    std::fs::copy(root.join("Cargo.lock"), made.join("Cargo.lock")).unwrap();
    for file in ["main.rs", "first_hour.rs"] {
        std::fs::copy(own.join("src").join(file), made.join("src").join(file)).unwrap();
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["check", "--offline", "--quiet", "--manifest-path"])
        .arg(made.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(made.ancestors().nth(2).unwrap())
        .env("CARGO_TERM_COLOR", "never")
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
