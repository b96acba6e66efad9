//! How much of a suite is run: `TOPICLITE_SCALE` is unset, `ci` or `long`.

use std::sync::Mutex;

/// Suites that use both cores, or that plant bugs in the whole process, run one at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Waits until no other suite of this kind runs.
pub fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A number of rounds: for a plain run, in CI, and in a long run.
pub fn rounds(plain: u64, ci: u64, long: u64) -> u64 {
    match std::env::var("TOPICLITE_SCALE").as_deref() {
        Ok("ci") => ci,
        Ok("long") => long,
        Ok(other) => panic!("TOPICLITE_SCALE is {other}; leave it unset, or set ci or long"),
        Err(_) => plain,
    }
}

/// The only seed to run, if `TOPICLITE_SEED` names one.
pub fn only_seed() -> Option<u64> {
    let seed = std::env::var("TOPICLITE_SEED").ok()?;
    Some(seed.parse().expect("TOPICLITE_SEED is a number"))
}

/// Where a suite of many seeds begins: `TOPICLITE_FIRST_SEED`, or 0.
pub fn first_seed() -> u64 {
    let seed = std::env::var("TOPICLITE_FIRST_SEED").ok();
    seed.map_or(0, |seed| seed.parse().expect("TOPICLITE_FIRST_SEED is a number"))
}

/// The command that runs one seed of one test again.
pub fn replay_command(test: &str, seed: u64) -> String {
    format!("TOPICLITE_SEED={seed} cargo test --features full --test crash -- --exact {test}")
}
