//! Fault sites: every call on the storage that a workload makes fails once, in every way, and once
//! for good.
//!
//! What must hold, whichever call fails: no panic; errors are typed; what a call refused never
//! appears (H-D3); what was acknowledged durable survives a power cut (H-D1); a failed sync of a
//! partition is final (`StorageFailed`), a full disk is not; and once the fault is over and the
//! directory opened again, everything works.

use crate::history::{Crash, History, Verdict, told};
use crate::workload::{Life, NAMES, Op, World, open};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use topiclite::storage::faults::{Call, Failure, Rule};
use topiclite::storage::sim::{PowerCut, Sim};
use topiclite::storage::{Fault, Storage};
use topiclite::{Error, ErrorKind};

const APPEND: Op = Op::Append { topic: 0, partition: 0, bytes: 40 };
const DURABLE: Op = Op::Append { topic: 1, partition: 0, bytes: 40 };
const BIG: Op = Op::Append { topic: 0, partition: 0, bytes: 900 };
const COMMIT: Op = Op::Commit { topic: 0, partition: 0, percent: 50 };

/// What is there before a workload begins; made without faults.
fn prepare(sim: &Sim) -> World {
    let mut world = World::default();
    let life = Life::begin(Arc::new(sim.clone()), &mut world).unwrap();
    let create = |topic, flavour| Op::Create { topic, partitions: 1, flavour };
    for op in [create(0, 0), create(1, 1), APPEND, APPEND, DURABLE, COMMIT, BIG, APPEND] {
        world.run(&life, op).unwrap();
    }
    world
}

/// A workload: its name, whether it begins on what a power cut left, and its calls.
pub const WORKLOADS: [(&str, bool, &[Op]); 5] = [
    ("append", false, &[APPEND, DURABLE, APPEND, Op::Flush, DURABLE]),
    ("roll", false, &[BIG, BIG, DURABLE, BIG, Op::Tick { ms: 1100 }, Op::Flush, APPEND]),
    ("commit", false, &[COMMIT, APPEND, COMMIT, Op::Flush, COMMIT, Op::Close]),
    ("recover", true, &[APPEND, COMMIT, DURABLE, Op::Flush, Op::Close]),
    (
        "topics",
        false,
        &[
            Op::Create { topic: 2, partitions: 2, flavour: 1 },
            Op::Append { topic: 2, partition: 1, bytes: 40 },
            Op::Grow { topic: 2 },
            Op::Alter { topic: 2 },
            Op::DeleteRecords { topic: 0, partition: 0, percent: 60 },
            Op::Tick { ms: 1100 },
            Op::Delete { topic: 2 },
            Op::Create { topic: 2, partitions: 1, flavour: 0 },
            Op::Append { topic: 2, partition: 0, bytes: 40 },
        ],
    ),
];

/// The disk that a workload begins on, and what is known of it.
pub fn begin(recovering: bool) -> Verdict<(Sim, World)> {
    let sim = Sim::new();
    let history = History::new(prepare(&sim));
    let (image, crash) = match recovering {
        true => (sim.power_cut(&PowerCut::drawn(5)), Crash::Power),
        false => (sim.kill(), Crash::Kill),
    };
    let (broker, _) = told(open(Arc::new(image.clone()), history.world.lives + 1), "opening")?;
    Ok((image, history.check_faulty(&broker, crash)?))
}

/// Kinds that a fault of the disk may show as.
fn is_typed(error: &Error) -> bool {
    use ErrorKind::{
        Closed, CoordinatorNotAvailable, Io, ReadOnly, StorageFailed, StorageFull, Timeout,
        UnknownTopicOrPartition,
    };
    let kind = error.kind();
    matches!(kind, Io | StorageFull | StorageFailed | ReadOnly | CoordinatorNotAvailable)
        || matches!(kind, Closed | Timeout | UnknownTopicOrPartition)
}

/// Whether a record may be in the log although its append failed. A dead process tells nothing.
fn may_be_there(error: &Error) -> bool {
    error.possibly_written() || error.to_string().contains("crashed, as planned")
}

/// Runs the calls on a storage that fails as `rule` says. What was refused is struck from what
/// may be there, unless the error says that it may be.
pub fn live(fault: &Fault, history: &mut History, ops: &[Op]) -> Verdict<Vec<Error>> {
    let mut errors: Vec<Error> = Vec::new();
    let storage: Arc<dyn Storage> = Arc::new(fault.clone());
    let life = match Life::begin(storage, &mut history.world) {
        Ok(life) => life,
        Err(error) => {
            errors.push(error);
            return Ok(errors);
        }
    };
    for &op in ops {
        match history.world.run(&life, op) {
            Ok(()) => history.acknowledged(0),
            Err(error) => {
                if !is_typed(&error) {
                    return Err(format!("{op:?}: an error of no kind: {error} {:?}", error.kind()));
                }
                match op {
                    Op::Append { topic, partition, .. } if !may_be_there(&error) => {
                        history.world.strike(topic, partition);
                    }
                    Op::Create { topic, .. } | Op::Grow { topic } | Op::Delete { topic } => {
                        history.unsure.insert(NAMES[topic].to_owned());
                    }
                    _ => {}
                }
                errors.push(error);
            }
        }
    }
    Ok(errors)
}

/// One site: the workload with its `nth` call failing, then power off and on again.
pub fn site(
    (sim, world): &(Sim, World),
    ops: &[Op],
    nth: u64,
    failure: Failure,
    sticky: bool,
) -> Verdict<bool> {
    let (sim, world) = (sim.kill(), world.clone());
    let fault = Fault::new(Arc::new(sim.clone()));
    let rule = Rule::nth(nth, failure);
    fault.fail(if sticky { rule.sticky() } else { rule });
    let mut history = History::new(world);
    let errors = live(&fault, &mut history, ops)?;
    let fired = fault.has_fired();
    let seen = fault.seen();
    let at = seen.get(nth as usize).map(|(call, path)| format!("{call:?} {}", path.display()));
    let explain = |broken: String| format!("{broken}\n  {at:?}, errors {errors:?}");
    if matches!(failure, Failure::Io | Failure::IoPagesLost) && !sticky {
        check_finality(&seen, nth, &errors).map_err(explain)?;
    }
    for crash in [Crash::Kill, Crash::Power] {
        let image = match crash {
            Crash::Kill => sim.kill(),
            Crash::Power => sim.power_cut(&PowerCut::drawn(nth * 7 + failure as u64)),
        };
        let outcome = after(&image, &history, crash);
        outcome.map_err(|broken| explain(format!("{crash:?}: {broken}")))?;
    }
    Ok(fired)
}

/// A failed sync of a segment's file is told as `StorageFailed` by whoever waited for it.
fn check_finality(seen: &[(Call, std::path::PathBuf)], nth: u64, errors: &[Error]) -> Verdict<()> {
    let Some((Call::SyncData, path)) = seen.get(nth as usize) else { return Ok(()) };
    let segment = path.extension().is_some_and(|extension| extension == "log");
    let first = errors.first();
    if segment && first.is_some_and(|error| error.kind() != ErrorKind::StorageFailed) {
        return Err(format!("R4: a failed sync of a segment is told as {first:?}"));
    }
    Ok(())
}

/// Opens without faults: what was promised is there, and everything works.
fn after(image: &Sim, history: &History, crash: Crash) -> Verdict<()> {
    let opened = open(Arc::new(image.clone()), history.world.lives + 1);
    let (broker, _) = told(opened, "opening")?;
    let mut world = history.check_faulty(&broker, crash)?;
    drop(broker);
    let life = told(Life::begin(Arc::new(image.clone()), &mut world), "opening again")?;
    for op in [APPEND, DURABLE, COMMIT, Op::Flush, Op::Close] {
        told(world.run(&life, op), &format!("{op:?} once the disk is well again"))?;
    }
    Ok(())
}

#[test]
fn every_call_on_the_storage_may_fail_in_every_way() {
    let _turn = crate::scale::turn();
    let mut sites = BTreeMap::new();
    let mut failures = Vec::new();
    // A plain run takes one kind of failure for each call, in turn; larger ones take all.
    let share = crate::scale::rounds(11, 1, 1);
    for (name, recovering, ops) in &WORKLOADS {
        let start = begin(*recovering).unwrap();
        let fault = Fault::new(Arc::new(start.0.kill()));
        let mut history = History::new(start.1.clone());
        let errors = live(&fault, &mut history, ops).unwrap();
        assert!(errors.is_empty(), "{name} works on a disk that works: {errors:?}");
        let calls = fault.calls() as u64;
        for nth in 0..calls {
            for (kind, &failure) in Failure::ALL.iter().enumerate() {
                for sticky in [false, true] {
                    // A crash is for good anyway, and an interruption never is.
                    if sticky && matches!(failure, Failure::Crash | Failure::Interrupted) {
                        continue;
                    }
                    let turn = nth + 2 * kind as u64 + u64::from(sticky);
                    if !turn.is_multiple_of(share) {
                        continue;
                    }
                    let what = format!("{name}: call {nth} of {calls}, {failure:?}, {sticky}");
                    if std::env::var_os("TOPICLITE_TRACE").is_some() {
                        println!("{what}");
                    }
                    let run = || site(&start, ops, nth, failure, sticky);
                    match catch_unwind(AssertUnwindSafe(run)) {
                        Ok(Ok(true)) => *sites.entry(*name).or_insert(0) += 1,
                        Ok(Ok(false)) => failures.push(format!("{what}: the fault did not fire")),
                        Ok(Err(broken)) => failures.push(format!("{what}: {broken}")),
                        Err(panic) => {
                            let text = panic.downcast_ref::<String>().cloned();
                            failures.push(format!("{what}: a panic: {text:?}"));
                        }
                    }
                }
            }
        }
    }
    println!("fault sites, one failure in {share} of each call, once and sticky: {sites:?}");
    let shown: Vec<_> = failures.iter().take(10).cloned().collect();
    assert!(failures.is_empty(), "{} sites failed:\n{}", failures.len(), shown.join("\n"));
}

/// A full disk refuses an append, and takes it once there is room.
#[test]
fn a_full_disk_is_retriable() {
    let sim = Sim::new();
    let mut world = prepare(&sim);
    let fault = Fault::new(Arc::new(sim.kill()));
    let life = Life::begin(Arc::new(fault.clone()), &mut world).unwrap();
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Create, Call::Allocate]).sticky());
    let error = (0..40).find_map(|_| world.run(&life, BIG).err()).expect("a roll needs room");
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    assert!(error.is_retriable());
    fault.heal();
    // What was refused is not there: the same offset is given again.
    world.run(&life, BIG).unwrap();
    world.run(&life, Op::Flush).unwrap();
    world.run(&life, Op::Close).unwrap();
}

/// After a failed sync nothing is taken any more, whatever later syncs would answer; opening the
/// directory again makes it well.
#[test]
fn a_failed_sync_is_final_until_the_directory_is_opened_again() {
    for failure in [Failure::Io, Failure::IoPagesLost] {
        let sim = Sim::new();
        let mut world = prepare(&sim);
        let image = sim.kill();
        let fault = Fault::new(Arc::new(image.clone()));
        let life = Life::begin(Arc::new(fault.clone()), &mut world).unwrap();
        world.run(&life, DURABLE).unwrap();
        fault.fail(Rule::nth(0, failure).of(&[Call::SyncData]).on(".log"));
        let first = world.run(&life, DURABLE).unwrap_err();
        fault.heal();
        let second = world.run(&life, DURABLE).unwrap_err();
        let flushed = life.broker.flush().unwrap_err();
        for error in [first, second, flushed] {
            assert_eq!(error.kind(), ErrorKind::StorageFailed, "{error}");
            assert!(error.is_fatal());
        }
        drop(life);
        let life = Life::begin(Arc::new(image), &mut world).unwrap();
        let end = life.broker.reader("b", 0, topiclite::ReadFrom::End).unwrap().position();
        assert!(end >= world.now.topics["b"].partitions[0].durable);
    }
}
