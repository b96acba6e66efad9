//! No producer id is given twice, whatever ends a life.
//!
//! Fault: the process is killed, or the power goes, before any step that reaches the disk. Path:
//! ids asked for between changes of topics and appends on the simulated disk, replayed step by
//! step; each state is opened again. What must hold: an id that was given is never given again.

use crate::log::{AppendOptions, ProducerStamp};
use crate::record::RecordInput;
use crate::storage::sim::{PowerCut, Sim};
use crate::storage::{Heap, Storage};
use crate::sync::Arc;
use crate::time::VirtualClock;
use crate::{Broker, BrokerOptions, ErrorKind, TopicConfig};

fn open(storage: Arc<dyn Storage>) -> Broker {
    BrokerOptions::new()
        .clock(VirtualClock::stepping().clock())
        .storage(storage)
        .open("/data")
        .unwrap()
}

fn next(broker: &Broker) -> i64 {
    broker.inner().new_producer_id().unwrap()
}

/// Appends a batch of this producer.
fn append(broker: &Broker, producer_id: i64) {
    let topic = broker.inner().topic("t").unwrap();
    let log = topic.partition(0).unwrap().log().unwrap().clone();
    let record = RecordInput { timestamp: 5, value: Some(b"v"), ..RecordInput::default() };
    let options = AppendOptions::client(5);
    let producer =
        ProducerStamp { producer_id, producer_epoch: 0, base_sequence: 0, transactional: false };
    log.append(&record, AppendOptions { producer: Some(producer), ..options }).unwrap();
}

/// Asks for ids over two lives. Returns how many steps the disk had taken when each was given.
fn script(sim: &Sim) -> Vec<(u64, i64)> {
    let mut given = Vec::new();
    for life in 0..2 {
        let broker = open(Arc::new(sim.clone()));
        let mut give = || {
            let id = next(&broker);
            given.push((sim.steps(), id));
        };
        give();
        if life == 0 {
            broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
        }
        for _ in 0..1001 {
            give();
        }
        let (_, last) = given[given.len() - 1];
        append(&broker, last);
        let id = next(&broker);
        given.push((sim.steps(), id));
        broker.close().unwrap();
    }
    given
}

fn check(found: Sim, given: &[(u64, i64)], step: u64, what: &str) {
    let highest = given.iter().filter(|(at, _)| *at <= step).map(|(_, id)| *id).max();
    let broker = open(Arc::new(found));
    let id = next(&broker);
    assert!(highest.is_none_or(|highest| id > highest), "{what}: {id} behind {highest:?}");
    broker.close().unwrap();
}

#[test]
fn an_id_is_given_once_whatever_crash_comes_between() {
    let sim = Sim::new();
    sim.record();
    let given = script(&sim);
    let mut replay = sim.replay();
    loop {
        let step = replay.step();
        check(replay.kill(), &given, step, &format!("kill at step {step}"));
        for seed in 0..8 {
            let cut = PowerCut::drawn(step * 1000 + seed);
            check(replay.power_cut(&cut), &given, step, &format!("{cut:?} at step {step}"));
        }
        if !replay.advance() {
            break;
        }
    }
}

/// A directory that lost its own files is adopted: what its batches name was given.
#[test]
fn ids_in_batches_are_not_given_again_when_the_registry_is_lost() {
    let storage: Arc<dyn Storage> = Arc::new(Heap::new());
    let broker = open(storage.clone());
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    append(&broker, 77_777);
    broker.close().unwrap();
    for name in ["topiclite.registry", "topiclite.state"] {
        storage.remove(&std::path::Path::new("/data").join(name)).unwrap();
    }
    let broker = open(storage.clone());
    assert!(broker.adoption().is_some());
    broker.close().unwrap();
    // The partition is known, and is not read again.
    let broker = open(storage);
    assert!(broker.adoption().is_none());
    assert_eq!(next(&broker), 77_778);
    broker.close().unwrap();
}

#[test]
fn ids_are_given_in_memory_and_not_by_who_only_reads() {
    let broker = Broker::in_memory().unwrap();
    assert_eq!((next(&broker), next(&broker)), (0, 1));
    let dir = tempfile::tempdir().unwrap();
    Broker::open(dir.path()).unwrap().close().unwrap();
    let attached = Broker::attach(dir.path()).unwrap();
    let refused = attached.inner().new_producer_id().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnly);
}
