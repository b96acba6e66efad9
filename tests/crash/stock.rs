//! Directories to damage: closed, killed and cut off, each of several lives.

use crate::history::{Crash, History};
use crate::images;
use crate::workload::{DIR, Life, Op, World};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use topiclite::storage::sim::{Entries, Pages, PowerCut, Random};
use topiclite::storage::{Sim, Storage};

/// A directory, and what is known of it.
pub struct Shelf {
    pub name: String,
    pub disk: Sim,
    pub world: World,
    /// Every offset that was ever committed.
    pub commits: BTreeMap<(String, u64, i32), BTreeSet<i64>>,
    /// What may be committed: the last commit that survives a power cut, and those behind it.
    pub last_commits: BTreeMap<(String, u64, i32), BTreeSet<i64>>,
}

impl Shelf {
    /// Whether damage to this file may look like a crash that came before its last change: then
    /// the change is not there, and nobody can tell.
    pub fn hides(path: &Path, missing: &[String]) -> bool {
        let name = path.file_name().unwrap_or_default();
        // The state file keeps where logs start, and no record is lost with it.
        let starts = || missing.iter().all(|what| what.starts_with("H-O4"));
        name == "topiclite.registry" || (name == "topiclite.state" && starts())
    }
}

/// All files with their lengths, without the lock.
pub fn files(disk: &Sim) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::from(DIR)];
    while let Some(dir) = dirs.pop() {
        for entry in disk.list(&dir).unwrap_or_default() {
            let path = dir.join(&entry.name);
            match entry.is_dir {
                true => dirs.push(path),
                false if entry.name != ".lock" => found.push((path, entry.len)),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// How a directory was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Closed,
    Killed,
    PowerLost,
}

/// A directory that two lives wrote to, the first of which ended as `before` says.
fn shelf(seed: u64, before: Left, left: Left) -> Shelf {
    let mut random = Random::new(seed);
    let mut sim = Sim::new();
    let mut world = World::default();
    let mut commits: BTreeMap<_, BTreeSet<i64>> = BTreeMap::new();
    let mut last_commits: BTreeMap<_, BTreeSet<i64>> = BTreeMap::new();
    for (number, left) in [before, left].into_iter().enumerate() {
        let mut history = History::new(world);
        let life = Life::begin(Arc::new(sim.clone()), &mut history.world).unwrap();
        let mut ops = Vec::new();
        if number == 0 {
            ops.extend([(0, 0), (1, 1), (2, 3)].map(|(topic, flavour)| Op::Create {
                topic,
                partitions: 2,
                flavour,
            }));
        }
        for at in 0..26 {
            // Topics stay, so that there is much to damage.
            let drawn = history.world.draw(&mut random);
            ops.push(match drawn {
                Op::Delete { topic } => Op::Append { topic, partition: at % 2, bytes: 300 },
                other => other,
            });
        }
        if left == Left::Closed {
            ops.push(Op::Close);
        }
        for op in ops {
            images::call(&sim, &mut history, &life, op).unwrap();
            for (key, offset) in &history.world.now.commits {
                commits.entry(key.clone()).or_default().insert(*offset);
                if let Some(last) = last_commits.get_mut(key) {
                    last.insert(*offset);
                }
            }
            // As of records, only a close is sure to have had it recorded.
            if history.world.now.commits_durable && left == Left::Closed {
                let now = history.world.now.commits.iter();
                last_commits = now.map(|(key, at)| (key.clone(), BTreeSet::from([*at]))).collect();
            }
        }
        let (image, crash) = match left {
            Left::Closed | Left::Killed => (sim.kill(), Crash::Kill),
            Left::PowerLost => {
                let cut = PowerCut::new(seed, Pages::Versions, Entries::Prefix);
                (sim.power_cut(&cut), Crash::Power)
            }
        };
        drop(life);
        // What is there is found on a copy, so that the directory stays as it was left.
        world = images::judge(&image.kill(), &history, sim.steps(), crash, seed).unwrap();
        if left != Left::Closed {
            only_what_is_recorded(&mut world, &history);
        }
        sim = image;
    }
    let name = format!("{before:?} {left:?} {seed}");
    Shelf { name, disk: sim, world, commits, last_commits }
}

/// Only a close is sure to have had it recorded how far partitions reached, and which files they
/// have: of what came later nobody can tell damage from a crash that came before it.
fn only_what_is_recorded(found: &mut World, history: &History) {
    let before = &history.shots[0].topics;
    for (name, topic) in &mut found.now.topics {
        for (number, borders) in topic.partitions.iter_mut().enumerate() {
            let known = before.get(name).and_then(|topic| topic.partitions.get(number));
            borders.durable = known.map_or(0, |known| known.durable).min(borders.end);
        }
    }
}

/// All of them, the same in each run.
pub fn stock() -> Vec<Shelf> {
    let mut all = Vec::new();
    for (number, before) in [Left::Closed, Left::Killed, Left::PowerLost].into_iter().enumerate() {
        for left in [Left::Closed, Left::Killed, Left::PowerLost] {
            all.push(shelf(100 + number as u64, before, left));
        }
    }
    all
}
