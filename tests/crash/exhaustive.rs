//! Bounded exhaustive workloads: all sequences of at most two calls from a fixed set, on
//! directories that a close, a kill and a power cut left, each crashed at every step of the disk.
//!
//! Fault: a kill, or a power cut in each of a few modes, at every step. What must hold: as in
//! `images`, which draws longer lives at random.

use crate::history::{Crash, History, Verdict, told};
use crate::images::{call, judge};
use crate::scale;
use crate::sweep::{THREADS, sweep};
use crate::workload::{Life, Op, World};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use topiclite::storage::sim::{Entries, Pages, PowerCut, Sim};

/// The calls. Topic 0 syncs when it is told to, topic 1 with every record.
const CALLS: [Op; 14] = [
    Op::Append { topic: 0, partition: 0, bytes: 40 },
    Op::Append { topic: 0, partition: 0, bytes: 900 },
    Op::Append { topic: 1, partition: 0, bytes: 40 },
    Op::AppendMany { topic: 0, partition: 0, bytes: 100, count: 3 },
    Op::Flush,
    // What is due: segments are sealed, retention deletes.
    Op::Tick { ms: 1100 },
    Op::DeleteRecords { topic: 0, partition: 0, percent: 60 },
    Op::Create { topic: 2, partitions: 1, flavour: 2 },
    Op::Delete { topic: 0 },
    Op::Grow { topic: 1 },
    Op::Alter { topic: 0 },
    Op::Commit { topic: 0, partition: 0, percent: 100 },
    Op::Append { topic: 2, partition: 0, bytes: 40 },
    Op::Close,
];

/// How the power goes, at each step.
const CUTS: [(Pages, Entries); 8] = [
    (Pages::None, Entries::None),
    (Pages::All, Entries::All),
    (Pages::All, Entries::None),
    (Pages::None, Entries::All),
    (Pages::OneMissing, Entries::All),
    (Pages::OnePresent, Entries::All),
    (Pages::Prefix, Entries::Prefix),
    (Pages::Versions, Entries::Subset),
];

/// How the directory was left before.
#[derive(Debug, Clone, Copy)]
enum Left {
    Closed,
    Killed,
    PowerLost,
}

/// A directory, and what is known of it.
pub struct Start {
    left: Left,
    disk: Sim,
    world: World,
}

/// The directories on which the sequences begin.
pub fn starts() -> Vec<Start> {
    [Left::Closed, Left::Killed, Left::PowerLost].into_iter().map(start).collect()
}

fn start(left: Left) -> Start {
    let sim = Sim::new();
    let mut history = History::new(World::default());
    let life = Life::begin(Arc::new(sim.clone()), &mut history.world).unwrap();
    let create = |topic, flavour| Op::Create { topic, partitions: 1, flavour };
    let append = |topic, bytes| Op::Append { topic, partition: 0, bytes };
    let commit = Op::Commit { topic: 0, partition: 0, percent: 50 };
    let mut ops = vec![create(0, 0), create(1, 1), append(0, 40), append(0, 900), append(1, 40)];
    ops.extend([Op::Flush, append(0, 900), append(0, 40), commit, append(1, 40)]);
    if matches!(left, Left::Closed) {
        ops.push(Op::Close);
    }
    for op in ops {
        call(&sim, &mut history, &life, op).unwrap();
    }
    let (disk, crash) = match left {
        Left::Closed | Left::Killed => (sim.kill(), Crash::Kill),
        Left::PowerLost => {
            (sim.power_cut(&PowerCut::new(1, Pages::OneMissing, Entries::All)), Crash::Power)
        }
    };
    let world = judge(&disk.kill(), &history, sim.steps(), crash, 1).unwrap();
    Start { left, disk, world }
}

/// How many sequences there are from one start.
const SEQUENCES: u64 = (CALLS.len() + CALLS.len() * CALLS.len()) as u64;

fn sequence(number: u64) -> Vec<Op> {
    let (number, count) = (number as usize, CALLS.len());
    match number.checked_sub(count) {
        None => vec![CALLS[number]],
        Some(pair) => vec![CALLS[pair / count], CALLS[pair % count]],
    }
}

/// Makes the calls, in another life behind a close.
fn live(sim: &Sim, history: &mut History, ops: &[Op]) -> Verdict<()> {
    for ops in ops.split_inclusive(|op| *op == Op::Close) {
        let life = Life::begin(Arc::new(sim.clone()), &mut history.world);
        let life = told(life, "H-D1 opening")?;
        for &op in ops {
            call(sim, history, &life, op)?;
        }
    }
    Ok(())
}

/// One sequence on one directory, crashed everywhere.
pub fn case(starts: &[Start], number: u64, images: &AtomicU64) -> Verdict<()> {
    let start = &starts[(number % starts.len() as u64) as usize];
    let ops = sequence(number / starts.len() as u64);
    let explain = |broken| format!("{broken}\n  {:?} and then {ops:?}", start.left);
    let sim = start.disk.kill();
    let mut history = History::new(start.world.clone());
    sim.record();
    live(&sim, &mut history, &ops).map_err(explain)?;
    let mut replay = sim.replay();
    loop {
        let step = replay.step();
        let check = |image: Sim, crash, what: &str| {
            images.fetch_add(1, Ordering::Relaxed);
            let found = judge(&image, &history, step, crash, step);
            found.map(drop).map_err(|broken| {
                let next = replay.next_step().unwrap_or_default();
                explain(format!("{broken}\n  {what} at step {step}, before {next}"))
            })
        };
        check(replay.kill(), Crash::Kill, "kill")?;
        // More of a kind where there is more to choose from.
        for (pages, entries) in CUTS {
            let cut = PowerCut::new(step, pages, entries);
            check(replay.power_cut(&cut), Crash::Power, &format!("{cut:?}"))?;
        }
        if !replay.advance() {
            return Ok(());
        }
    }
}

#[test]
fn every_crash_of_every_short_workload_keeps_what_was_promised() {
    const TEST: &str = "exhaustive::every_crash_of_every_short_workload_keeps_what_was_promised";
    let _turn = scale::turn();
    let starts = starts();
    let all = SEQUENCES * starts.len() as u64;
    // A plain run takes every so many of them; the step has no divisor in common with the rest.
    let share = scale::rounds(37, 1, 1);
    let (first, count) = match scale::only_seed() {
        Some(number) => (number, 1),
        None => (0, all.div_ceil(share)),
    };
    let share = if scale::only_seed().is_some() { 1 } else { share };
    let images = AtomicU64::new(0);
    let started = Instant::now();
    let broken = sweep(first, count, THREADS, |number| case(&starts, number * share, &images));
    let seconds = started.elapsed().as_secs_f64();
    let images = images.into_inner();
    println!(
        "short workloads: {count} of {all} sequences, {images} images in {seconds:.1} s, {:.0} per \
         second and thread; checks as crash images",
        images as f64 / seconds / THREADS as f64
    );
    if let Some((number, broken)) = broken {
        let number = number * share;
        panic!("workload {number}: {broken}\nreplay: {}", scale::replay_command(TEST, number));
    }
}
