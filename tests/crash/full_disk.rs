//! A disk of every size: a workload on a disk that is full sooner or later.
//!
//! Fault: no room, for any file. What must hold: every error is `StorageFull`, nothing dies by a
//! store into a hole of a file, and what was acknowledged is there when there is room again.

use crate::history::{Crash, History, Verdict, told};
use crate::workload::{Life, Op, World, open};
use std::sync::Arc;
use topiclite::ErrorKind;
use topiclite::storage::sim::Sim;

const SMALL: Op = Op::Append { topic: 0, partition: 0, bytes: 40 };
const LARGE: Op = Op::Append { topic: 0, partition: 0, bytes: 900 };
const DURABLE: Op = Op::Append { topic: 1, partition: 0, bytes: 40 };
const TICK: Op = Op::Tick { ms: 1100 };
const CREATE: [Op; 2] = [
    Op::Create { topic: 0, partitions: 1, flavour: 0 },
    Op::Create { topic: 1, partitions: 1, flavour: 1 },
];
const CALLS: [Op; 9] = [SMALL, LARGE, DURABLE, LARGE, TICK, Op::Flush, LARGE, SMALL, LARGE];

/// One life on a disk of `bytes`. Returns how many calls were refused.
pub fn life(bytes: usize) -> Verdict<usize> {
    let sim = Sim::with_capacity(bytes);
    let mut history = History::new(World::default());
    let Ok(life) = Life::begin(Arc::new(sim.clone()), &mut history.world) else { return Ok(0) };
    let mut refused = 0;
    for op in CREATE.into_iter().chain(CALLS) {
        match history.world.run(&life, op) {
            Ok(()) => history.acknowledged(0),
            Err(error) if error.kind() == ErrorKind::StorageFull => {
                refused += 1;
                match op {
                    Op::Append { topic, partition, .. } => history.world.strike(topic, partition),
                    Op::Create { topic, .. } => {
                        history.unsure.insert(crate::workload::NAMES[topic].to_owned());
                    }
                    _ => {}
                }
            }
            Err(error) => return Err(format!("{op:?} on a full disk: {error}")),
        }
    }
    drop(life);
    let (broker, _) = told(open(Arc::new(sim.kill()), history.world.lives + 1), "H-D1 opening")?;
    history.check_faulty(&broker, Crash::Kill)?;
    Ok(refused)
}

/// Sizes in bytes from nothing to more than the workload needs.
pub fn sizes() -> impl Iterator<Item = usize> {
    (0..160).map(|step| step * 512)
}

#[test]
fn a_disk_of_any_size_is_full_and_never_deadly() {
    let refused: Vec<_> = sizes()
        .map(|bytes| match life(bytes) {
            Ok(refused) => refused,
            Err(broken) => panic!("a disk of {bytes} bytes: {broken}"),
        })
        .collect();
    assert!(refused.iter().filter(|refused| **refused > 0).count() > 20, "{refused:?}");
    assert_eq!(refused.last(), Some(&0), "the largest has room for all");
}
