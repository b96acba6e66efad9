//! A recorded run, taken again step by step, to crash at each of them.

use super::disk::{Disk, Step};
use super::image::PowerCut;
use super::{Shared, Sim};
use crate::sync::Arc;
use std::fmt;

/// The steps of a recorded run, and the disk after some of them.
///
/// # Examples
/// ```
/// use std::path::Path;
/// use topiclite::storage::sim::{PowerCut, Sim};
/// use topiclite::storage::Storage;
/// let sim = Sim::new();
/// sim.record();
/// sim.create_cold(Path::new("/a")).unwrap().write_at(0, b"abc").unwrap();
/// let mut replay = sim.replay();
/// while replay.advance() {
///     for seed in 0..10 {
///         let found = replay.power_cut(&PowerCut::drawn(seed));
///         assert!(found.list(Path::new("/")).unwrap().len() <= 1);
///     }
/// }
/// assert_eq!(replay.step(), sim.steps());
/// ```
pub struct Replay {
    disk: Disk,
    steps: Vec<(Step, i64)>,
    next: usize,
    shared: Arc<Shared>,
}

impl Replay {
    pub(super) fn new(disk: Disk, steps: Vec<(Step, i64)>, shared: Arc<Shared>) -> Replay {
        Replay { disk, steps, next: 0, shared }
    }

    /// How many steps the disk has taken, counted as [`Sim::steps`] counts them.
    pub fn step(&self) -> u64 {
        self.disk.steps
    }

    /// How many recorded steps are left.
    pub fn steps_left(&self) -> usize {
        self.steps.len() - self.next
    }

    /// Takes the next step; `false` when there is none.
    pub fn advance(&mut self) -> bool {
        let Some((step, now_ms)) = self.steps.get(self.next) else { return false };
        self.disk.apply(step, *now_ms);
        self.next += 1;
        true
    }

    /// Takes steps until `step` of them are taken, or none is left.
    pub fn advance_to(&mut self, step: u64) {
        while self.step() < step && self.advance() {}
    }

    /// How many units are not durable: see [`Sim::units`].
    pub fn units(&self) -> usize {
        self.disk.units()
    }

    /// The disk if the power goes here.
    pub fn power_cut(&self, cut: &PowerCut) -> Sim {
        self.shared.after(self.disk.power_cut(cut), 1, 1)
    }

    /// The disk if the process is killed here.
    pub fn kill(&self) -> Sim {
        self.shared.after(self.disk.clone(), 0, 0)
    }

    /// The disk if the process is killed inside the next step, after `bytes` of it: a store of
    /// many bytes is no single instruction. `None` if the next step is no write, or has no more
    /// bytes than that.
    pub fn kill_inside(&self, bytes: usize) -> Option<Sim> {
        let (Step::Write { ino, at, bytes: all }, now_ms) = self.steps.get(self.next)? else {
            return None;
        };
        let part = all.get(..bytes).filter(|part| part.len() < all.len())?;
        let mut disk = self.disk.clone();
        disk.write(*ino, *at, part, *now_ms);
        Some(self.shared.after(disk, 0, 0))
    }

    /// The next step in words, for the message of a failed test.
    pub fn next_step(&self) -> Option<String> {
        Some(match &self.steps.get(self.next)?.0 {
            Step::Write { ino, at, bytes } => {
                format!("write {} bytes at {at} of file {ino}", bytes.len())
            }
            Step::SyncStart(ino) => format!("start to sync file {ino}"),
            other => format!("{other:?}"),
        })
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("step", &self.step())
            .field("steps_left", &self.steps_left())
            .finish_non_exhaustive()
    }
}
