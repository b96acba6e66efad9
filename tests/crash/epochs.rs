//! Leader epochs: no two lives share one, whatever the crash between them lost. Only so is a batch
//! of a dead tail never taken for one of the life that appends in its place.
//!
//! Fault: kills and power cuts of several lives in a row. What must hold: every batch of a life
//! has a higher epoch than every batch that was in the page cache when an earlier life ended.

use crate::damage::batches;
use crate::history::{Verdict, told};
use crate::scale;
use crate::stock::files;
use crate::sweep::{THREADS, sweep};
use crate::workload::{Life, NAMES, Op, World};
use std::sync::Arc;
use topiclite::storage::Storage;
use topiclite::storage::sim::{PowerCut, Random, Sim};
use topiclite::{IsolationLevel, OffsetSpec, ProducerConfig, ProducerRecord};

/// Base offset and leader epoch of every batch of the partition.
fn epochs(disk: &Sim) -> Vec<(i64, i32)> {
    let mut found = Vec::new();
    for (path, _) in files(disk) {
        let folder = path.parent().and_then(|parent| parent.file_name()).unwrap();
        if folder != "a-0" || path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let bytes = disk.read_file(&path, 1 << 20).unwrap();
        for (at, _) in batches(&bytes) {
            let offset = i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
            let epoch = i32::from_be_bytes(bytes[at + 12..at + 16].try_into().unwrap());
            found.push((offset, epoch));
        }
    }
    found
}

/// Several lives, each crashed at some step.
pub fn case(seed: u64) -> Verdict<()> {
    let mut random = Random::new(seed);
    let mut disk = Sim::new();
    let mut highest = -1;
    for number in 0..5 {
        // What is acknowledged is nothing to this suite: each life knows only what it finds.
        let mut world = World::default();
        (world.lives, world.next) = (number, number as u64 * 100);
        disk.record();
        let life = told(Life::begin(Arc::new(disk.clone()), &mut world), "H-D1 opening")?;
        let admin = life.broker.admin();
        let (spec, isolation) = (OffsetSpec::Latest, IsolationLevel::ReadUncommitted);
        let end = match admin.list_offsets(NAMES[0], 0, spec, isolation) {
            Ok(listed) => listed.offset().unwrap_or(0),
            Err(_) => {
                let create = Op::Create { topic: 0, partitions: 1, flavour: 0 };
                told(world.run(&life, create), "create")?;
                0
            }
        };
        let producer = told(life.broker.producer(ProducerConfig::default()), "a producer")?;
        for at in 0..1 + random.below(4) {
            let record = ProducerRecord::new(NAMES[0]).partition(0).value("value");
            let future = told(producer.send(record), "append")?;
            told(future.wait(), "append")?;
            if at > 0 && random.below(4) == 0 {
                told(life.broker.flush(), "flush")?;
            }
        }
        let mut replay = disk.replay();
        let (first, steps) = (replay.step(), replay.steps_left() as u64);
        // Near the end, where there is something to lose.
        let back = random.below(steps.min(8) + 1);
        replay.advance_to(first + steps - back);
        let cached = epochs(&replay.kill());
        let own = cached.iter().filter(|(offset, _)| *offset >= end).map(|(_, epoch)| *epoch);
        let own: Vec<_> = own.collect();
        if let Some(epoch) = own.iter().find(|epoch| **epoch <= highest) {
            return Err(format!("R2: life {number} has epoch {epoch}, {highest} was before it"));
        }
        highest = highest.max(own.into_iter().max().unwrap_or(-1));
        disk = match random.below(4) {
            0 => replay.kill(),
            _ => replay.power_cut(&PowerCut::drawn(random.next())),
        };
    }
    Ok(())
}

#[test]
fn no_two_lives_share_an_epoch() {
    const TEST: &str = "epochs::no_two_lives_share_an_epoch";
    let _turn = scale::turn();
    let (first, count) = match scale::only_seed() {
        Some(seed) => (seed, 1),
        None => (0, scale::rounds(300, 10_000, 200_000)),
    };
    if let Some((seed, broken)) = sweep(first, count, THREADS, case) {
        panic!("seed {seed}: {broken}\nreplay: {}", scale::replay_command(TEST, seed));
    }
    println!("epochs: {count} times five lives, seeds from {first}");
}
