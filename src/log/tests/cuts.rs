//! The one loop of the crash suites: a random life on a recorded disk, ended by a kill and by power
//! cuts between any two changes of it.

use crate::log::segment::state::Trust;
use crate::storage::Storage;
use crate::storage::sim::{Entries, Pages, PowerCut, Sim};
use std::ops::Range;
use std::path::Path;

/// Has `live` run a life for each seed, which returns what was promised when, and `check` look at
/// what each crash leaves of it: the disk, the promises, the step of the crash, what the next
/// opening knows of it, and what happened, in words. At each step there is a kill, a power cut
/// that keeps only what was synced, and `drawn` cuts that keep more. Returns how many crashes.
pub(in crate::log) fn crash_everywhere<P>(
    seeds: Range<u64>,
    drawn: u64,
    live: impl Fn(&Sim, u64) -> P,
    check: impl Fn(&Sim, &P, u64, Trust, &str),
) -> usize {
    let mut checked = 0;
    for seed in seeds {
        let sim = Sim::new();
        sim.create_dir(Path::new("/logs")).unwrap();
        sim.sync_dir(Path::new("/")).unwrap();
        sim.record();
        let promises = live(&sim, seed);
        let mut replay = sim.replay();
        loop {
            let step = replay.step();
            let next = replay.next_step().unwrap_or_default();
            let at = format!("seed {seed}, step {step}, before {next:?}");
            check(&replay.kill(), &promises, step, Trust::SameBoot, &format!("{at}, kill"));
            let mut cuts = vec![PowerCut::new(step, Pages::None, Entries::None)];
            let draw = |n: u64| PowerCut::drawn(seed * 1_000_003 + step + n * 500_000);
            cuts.extend((0..drawn).map(draw));
            checked += 1 + cuts.len();
            for cut in cuts {
                let after = replay.power_cut(&cut);
                check(&after, &promises, step, Trust::OtherBoot, &format!("{at}, {cut:?}"));
            }
            if !replay.advance() {
                break;
            }
        }
    }
    checked
}
