//! A bar on standard error for work that takes longer than a second.

use crate::interrupt::Interrupt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// Nothing is drawn before so much time went by.
const QUIET: Duration = Duration::from_secs(1);
/// How often progress and the end of the work are looked at, in records.
pub const LOOK_EVERY: u64 = 1024;

/// How far the work has come, and whether it is to go on.
pub struct Progress<'a> {
    bar: ProgressBar,
    start: Instant,
    interrupt: &'a Interrupt,
}

impl<'a> Progress<'a> {
    pub fn new(records: u64, what: &'static str, interrupt: &'a Interrupt) -> Progress<'a> {
        let bar = ProgressBar::with_draw_target(Some(records), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{msg} [{wide_bar}] {human_pos} {per_sec} {eta}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_message(what);
        Progress { bar, start: Instant::now(), interrupt }
    }

    /// Whether nobody interrupted the work.
    pub fn goes_on(&self) -> bool {
        !self.interrupt.is_asked()
    }

    pub fn advance(&self, records: u64) {
        if self.bar.is_hidden() && self.start.elapsed() > QUIET {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(records);
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
