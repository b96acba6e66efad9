//! A marker that is missing: the records of its transaction are neither committed nor aborted.

use crate::doors::{Truth, by_all};
use crate::drawn::batches;
use crate::place::*;
use std::ops::Range;
use topiclite::storage::Sim;
use topiclite::{
    Broker, ErrorKind, IsolationLevel, ProducerConfig, ProducerRecord, ReadFrom, TopicConfig,
};

/// Offset 0 is aborted by the marker at 1, 2 is of no transaction, 3 is committed by that at 4.
fn aborted_and_committed() -> Sim {
    let sim = Sim::new();
    let broker = open(&sim);
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let config = ProducerConfig::default().transactional_id("id");
    let producer = broker.producer(config).unwrap();
    producer.init_transactions().unwrap();
    for commit in [false, true] {
        producer.begin_transaction().unwrap();
        let record = ProducerRecord::new("t").partition(0).value(if commit { "c" } else { "a" });
        producer.send(record).unwrap().wait().unwrap();
        match commit {
            true => producer.commit_transaction().unwrap(),
            false => {
                producer.abort_transaction().unwrap();
                send_without_id(&broker, "t", "p").unwrap();
            }
        }
    }
    broker.flush().unwrap();
    let sim = sim.kill();
    // Else offsets are known to be dense, and a hole is damage without any marker.
    put(&sim, &path("topiclite.state"), b"garbage");
    sim
}

/// Takes batches out of the only segment.
fn take_out(sim: &Sim, gone: Range<usize>) {
    let file = segment(0, "log");
    let bytes = get(sim, &file);
    let starts = batches(&bytes);
    let (from, to) = (starts[gone.start], starts[gone.end]);
    sim.damage(&file, |bytes| drop(bytes.drain(from..to))).unwrap();
}

/// That the damage begins at this batch of those that are left, behind these records.
fn told_at(broker: &Broker, (batch, records): (usize, &[(i64, &str)]), sim: &Sim, owned: bool) {
    let all: Truth = records.iter().map(|(at, value)| (*at, value.as_bytes().to_vec())).collect();
    for (isolation, records) in
        [(IsolationLevel::ReadUncommitted, all), (IsolationLevel::ReadCommitted, Truth::new())]
    {
        let found = by_all(broker, isolation, owned, "a marker is missing");
        assert_eq!((found.records, found.told), (records, Some(ErrorKind::CorruptRecord)));
    }
    let from = ReadFrom::Offset(records.last().unwrap().0 + 1);
    let error = broker.reader("t", 0, from).unwrap().next(std::time::Duration::ZERO).unwrap_err();
    let file = segment(0, "log").display().to_string();
    told(&error, ErrorKind::CorruptRecord, &["t-0", &file, "has no marker"]);
    let position = batches(&get(sim, &segment(0, "log")))[batch];
    assert_eq!(error.position(), Some(position as u64));
}

#[test]
fn a_marker_that_is_missing_is_damage_to_every_reader() {
    // The marker, so that the later epoch stands where the next offset is; with what is behind it,
    // so that records or the next marker follow at once.
    let (first, both) = ([(0, "a")].as_slice(), [(0, "a"), (2, "p")].as_slice());
    for (gone, at) in [(1..2, (2, both)), (1..3, (1, first)), (1..4, (1, first))] {
        let sim = aborted_and_committed();
        take_out(&sim, gone);
        told_at(&attach(&sim), at, &sim, false);
        let broker = open(&sim);
        told_at(&broker, at, &sim, true);
        let refused = send(&broker, "t", "more").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ReadOnly);
        broker.close().ok();
        told_at(&open(&sim), at, &sim, true);
    }
}

#[test]
fn what_is_missing_beside_markers_proves_nothing() {
    // The records that were aborted; those that were committed; both, with the first marker.
    for (gone, all, committed) in [
        (0..1, vec![2, 3], vec![2, 3]),
        (3..4, vec![0, 2], vec![2]),
        (0..2, vec![2, 3], vec![2, 3]),
        (0..4, vec![], vec![]),
    ] {
        let sim = aborted_and_committed();
        take_out(&sim, gone);
        for (isolation, offsets) in
            [(IsolationLevel::ReadUncommitted, all), (IsolationLevel::ReadCommitted, committed)]
        {
            let found = by_all(&open(&sim), isolation, true, "records are missing");
            assert_eq!(found.records.into_keys().collect::<Vec<_>>(), offsets);
            assert_eq!(found.told, None);
        }
    }
}
