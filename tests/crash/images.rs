//! Crash images: random lives on the simulated disk, killed or cut off at random steps, opened,
//! judged, lived on in, and crashed again, up to three deep, in recovery too.
//!
//! Fault: a kill at any store, a power cut in any mode of the simulator. Path: append, roll, seal,
//! flush, retention, deletion of records, changes of topics, commits, close, recovery. What must
//! hold: H-D1 to H-D3, H-O1 to H-O4, H-G3, H-R3, H-S2 of `docs/testing.md`.

use crate::history::{Crash, History, Verdict, told};
use crate::scale;
use crate::sweep::{self, ImageTally};
use crate::workload::{Life, Op, World, open};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use topiclite::storage::Storage;
use topiclite::storage::sim::{PowerCut, Random, Sim};

/// How many images there were of each kind.
#[derive(Debug, Default)]
pub struct Tally {
    pub images: u64,
    pub kinds: BTreeMap<String, u64>,
}

impl Tally {
    fn count(&mut self, kind: String) {
        self.images += 1;
        *self.kinds.entry(kind).or_default() += 1;
    }
}

impl ImageTally for Tally {
    fn images(&self) -> u64 {
        self.images
    }

    fn add(&mut self, other: Tally) {
        self.images += other.images;
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
    }
}

/// How many calls and images a life gets, by how many crashes there were before it.
const CALLS: [u64; 3] = [16, 5, 4];
const IMAGES: [usize; 3] = [24, 5, 3];

/// All images of one seed.
///
/// # Errors
/// The first broken promise, with the steps that lead there.
pub fn seed(seed: u64, tally: &mut Tally) -> Verdict<()> {
    let mut random = Random::new(seed);
    explore(&Sim::new(), World::default(), 0, &mut random, tally)
}

/// Lives one life on `sim` and looks at crashes of it.
fn explore(
    sim: &Sim,
    world: World,
    depth: usize,
    random: &mut Random,
    tally: &mut Tally,
) -> Verdict<()> {
    let mut history = History::new(world);
    sim.record();
    live(sim, &mut history, depth, random)?;
    let mut replay = sim.replay();
    let (first, steps) = (replay.step(), replay.steps_left() as u64);
    let mut chosen: Vec<u64> =
        (0..IMAGES[depth]).map(|_| first + random.below(steps + 1)).collect();
    chosen.sort_unstable();
    for step in chosen {
        replay.advance_to(step);
        let cut = PowerCut::drawn(random.next());
        let (image, crash, kind) = match random.below(8) {
            0 => (replay.kill(), Crash::Kill, "kill".to_owned()),
            1 => {
                let bytes = random.below(90) as usize;
                let image = replay.kill_inside(bytes).unwrap_or_else(|| replay.kill());
                (image, Crash::Kill, "kill inside a store".to_owned())
            }
            _ => (replay.power_cut(&cut), Crash::Power, format!("{:?}", cut.pages)),
        };
        tally.count(kind.clone());
        let found = judge(&image, &history, step, crash, random.next());
        let found = found.map_err(|broken| {
            let next = replay.next_step().unwrap_or_default();
            let calls: Vec<_> = history.shots.iter().map(|s| (s.at, s.call.as_str())).collect();
            let crash = if crash == Crash::Power { format!("{cut:?}") } else { kind };
            format!("{broken}\n  {crash} at step {step}, before {next}, life {depth}\n  {calls:?}")
        })?;
        if depth + 1 < CALLS.len() && random.below(3) == 0 {
            let below = explore(&image, found, depth + 1, random, tally);
            below.map_err(|broken| {
                let calls: Vec<_> = history.shots.iter().map(|s| (s.at, s.call.as_str())).collect();
                format!("{broken}\n  after {crash:?} at step {step} of life {depth}: {calls:?}")
            })?;
        }
    }
    Ok(())
}

/// One life: random calls, acknowledged one by one, and perhaps a close.
fn live(sim: &Sim, history: &mut History, depth: usize, random: &mut Random) -> Verdict<()> {
    let life = Life::begin(Arc::new(sim.clone()), &mut history.world);
    let life = told(life, "H-D1 opening")?;
    for _ in 0..CALLS[depth] {
        let op = history.world.draw(random);
        call(sim, history, &life, op)?;
    }
    if random.below(4) == 0 {
        call(sim, history, &life, Op::Close)?;
    }
    Ok(())
}

/// One call on a disk without faults, which has to succeed.
pub fn call(sim: &Sim, history: &mut History, life: &Life, op: Op) -> Verdict<()> {
    let done = told(history.world.run(life, op), &format!("{op:?}"));
    done.map_err(|broken| {
        format!(
            "{broken}\n  {:?}\n  files {:?}",
            history.shots.iter().map(|s| s.call.as_str()).collect::<Vec<_>>(),
            files(sim)
        )
    })?;
    history.acknowledged(sim.steps());
    Ok(())
}

/// Opens what a crash left and compares.
pub fn judge(image: &Sim, history: &History, step: u64, crash: Crash, seed: u64) -> Verdict<World> {
    let opened = open(Arc::new(image.clone()), history.world.lives + 1);
    let (broker, _) = told(opened, "H-D1 opening")?;
    let world = history.check(&broker, step, crash, seed).map_err(|broken| {
        let warnings: Vec<_> = broker.health().warnings().map(str::to_owned).collect();
        format!("{broken}\n  files {:?}\n  warnings {warnings:?}", files(image))
    })?;
    if let Some(error) = broker.health().first_error() {
        return Err(format!("H-D1: health reports {error}"));
    }
    Ok(world)
}

/// The files and their sizes, for the message of a failed test.
fn files(image: &Sim) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![std::path::PathBuf::from(crate::workload::DIR)];
    while let Some(dir) = dirs.pop() {
        for entry in image.list(&dir).unwrap_or_default() {
            let path = dir.join(&entry.name);
            if entry.is_dir {
                dirs.push(path);
            } else {
                found.push(format!("{} {}", path.display(), entry.len));
            }
        }
    }
    found.sort();
    found
}

/// Runs seeds from `first` on until `images` were judged; the failure names the seed.
pub fn run(first: u64, images: u64, threads: u64) -> (Tally, Option<(u64, String)>) {
    sweep::seeds(first, images, threads, seed)
}

/// Seeds that found a bug once, whatever the size of the run.
const FORMER: [u64; 5] = [130, 193, 412, 621, 1_001_351];

#[test]
fn seeds_that_found_a_bug_find_none() {
    let _turn = scale::turn();
    for number in FORMER {
        seed(number, &mut Tally::default()).unwrap_or_else(|broken| panic!("{number}: {broken}"));
    }
}

#[test]
fn every_crash_image_keeps_what_was_promised() {
    const TEST: &str = "images::every_crash_image_keeps_what_was_promised";
    let _turn = scale::turn();
    let (first, images, threads) = match scale::only_seed() {
        Some(seed) => (seed, 1, 1),
        None => (scale::first_seed(), scale::rounds(3_000, 200_000, 4_000_000), 2),
    };
    let started = Instant::now();
    let (tally, failure) = run(first, images, threads);
    let seconds = started.elapsed().as_secs_f64();
    let rate = tally.images as f64 / seconds / threads as f64;
    println!(
        "crash images: {} in {seconds:.1} s, {rate:.0} per second and thread, seeds from {first}, \
         checks H-D1 H-D2 H-D3 H-O1 H-O2 H-O3 H-O4 H-G3 H-R3 H-S2",
        tally.images
    );
    for (kind, count) in &tally.kinds {
        println!("  {kind}: {count}");
    }
    if let Some((seed, broken)) = failure {
        panic!("seed {seed}: {broken}\nreplay: {}", scale::replay_command(TEST, seed));
    }
}
