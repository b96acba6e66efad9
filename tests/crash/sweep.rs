//! Runs numbered cases on several threads until one of them breaks a promise.

use crate::history::Verdict;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many threads a suite uses.
pub const THREADS: u64 = 2;

/// Runs the cases `first..first + count`. Returns the one with the lowest number that broke a
/// promise or panicked, and how: those below it have all been run.
pub fn sweep(
    first: u64,
    count: u64,
    threads: u64,
    case: impl Fn(u64) -> Verdict<()> + Sync,
) -> Option<(u64, String)> {
    let next = AtomicU64::new(first);
    let broken: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let bugs = crate::planted_here();
    // For whoever looks for the causes of many failures at once.
    let trace = std::env::var_os("TOPICLITE_TRACE").is_some();
    let work = || {
        let _bugs = crate::plant(&bugs);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= first + count || broken.lock().unwrap().is_some() {
                return;
            }
            let text = match catch_unwind(AssertUnwindSafe(|| case(number))) {
                Ok(Ok(())) => continue,
                Ok(Err(text)) => text,
                Err(panic) => {
                    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
                        (Some(text), _) => format!("a panic: {text}"),
                        (_, Some(text)) => format!("a panic: {text}"),
                        _ => "a panic".to_owned(),
                    }
                }
            };
            if trace {
                println!("case {number}: {text}");
                continue;
            }
            let mut lowest = broken.lock().unwrap();
            if lowest.as_ref().is_none_or(|(other, _)| number < *other) {
                *lowest = Some((number, text));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    broken.into_inner().unwrap()
}
