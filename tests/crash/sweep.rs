//! Runs numbered cases, and seeds of crash images, on several threads until one of them breaks a
//! promise.

use crate::history::Verdict;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many threads a suite uses.
pub const THREADS: u64 = 2;

/// The promise that a case broke, or how it panicked.
fn outcome(case: impl FnOnce() -> Verdict<()>) -> Verdict<()> {
    catch_unwind(AssertUnwindSafe(case)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        Err(format!("a panic: {text}"))
    })
}

/// What is counted of the images that seeds give.
pub trait ImageTally: Default + Send {
    /// How many images there were.
    fn images(&self) -> u64;

    /// Adds what another thread counted.
    fn add(&mut self, other: Self);
}

/// Runs seeds from `first` on until `images` were judged. Returns what was counted, and the seed
/// with the lowest number that broke a promise or panicked, and how.
pub fn seeds<T: ImageTally>(
    first: u64,
    images: u64,
    threads: u64,
    seed: impl Fn(u64, &mut T) -> Verdict<()> + Sync,
) -> (T, Option<(u64, String)>) {
    let (next, judged) = (AtomicU64::new(first), AtomicU64::new(0));
    let total: Mutex<(T, Option<(u64, String)>)> = Mutex::default();
    let bugs = crate::planted_here();
    let work = || {
        let _bugs = crate::plant(&bugs);
        let (mut tally, mut failure) = (T::default(), None);
        while judged.load(Ordering::Relaxed) < images {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let before = tally.images();
            let told = outcome(|| seed(number, &mut tally));
            judged.fetch_add(tally.images() - before, Ordering::Relaxed);
            if let Err(broken) = told {
                judged.fetch_add(images, Ordering::Relaxed);
                failure = Some((number, broken));
                break;
            }
        }
        let mut total = total.lock().unwrap();
        total.0.add(tally);
        let failures = total.1.take().into_iter().chain(failure);
        total.1 = failures.min_by_key(|failure| failure.0);
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    total.into_inner().unwrap()
}

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
            let Err(text) = outcome(|| case(number)) else { continue };
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
