//! A marker that is missing or damaged: the records of its transaction are neither committed nor
//! aborted.

use crate::doors::{Truth, by_all};
use crate::drawn::{batches, files};
use crate::place::*;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use topiclite::storage::{Sim, Storage};
use topiclite::time::VirtualClock;
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
    let error = broker.reader("t", 0, from).unwrap().next(Duration::ZERO).unwrap_err();
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

/// Offset 0 is aborted by a marker in another segment, which is neither the first nor the last.
fn aborted_far_behind(closed: bool) -> Sim {
    let (sim, clock) = (Sim::new(), VirtualClock::stepping());
    let broker = open_under(&clock, &sim);
    let set = [("internal.segment.bytes", "300")];
    broker.admin().create_topic("t", 1, TopicConfig::from_properties(set).unwrap()).unwrap();
    let producer = broker.producer(ProducerConfig::default().transactional_id("id")).unwrap();
    producer.init_transactions().unwrap();
    producer.begin_transaction().unwrap();
    let record = ProducerRecord::new("t").partition(0).value("a").timestamp(5);
    producer.send(record).unwrap().wait().unwrap();
    for _ in 1..6 {
        send_without_id(&broker, "t", "p").unwrap();
    }
    producer.abort_transaction().unwrap();
    for _ in 7..16 {
        send_without_id(&broker, "t", "p").unwrap();
    }
    broker.flush().unwrap();
    if closed {
        broker.close().unwrap();
        return sim;
    }
    // What was flushed is recorded as such at most a second later.
    clock.advance(Duration::from_secs(5));
    sim.kill()
}

/// Where the segment of the marker has its batches, and the marker in it.
fn marker(sim: &Sim) -> (PathBuf, Range<usize>) {
    let index = files(sim, "txnindex").pop().expect("it lists the aborted transaction");
    let log = index.with_extension("log");
    let bytes = get(sim, &log);
    let starts = batches(&bytes);
    let is_control = |at: &usize| bytes[at + 22] & 0x20 != 0;
    let at = starts.iter().position(|start| *start < bytes.len() && is_control(start)).unwrap();
    let end = starts.get(at + 1).copied().unwrap_or(bytes.len());
    (log, starts[at]..end)
}

type Change = fn(&mut [u8]);

#[test]
fn a_damaged_marker_commits_nothing_where_its_index_is_gone_too() {
    let sound: Change = |_| {};
    // The kind of a control record is in its key, which nothing but the checksum covers.
    let changes: [(&str, Change); 4] = [
        ("sound", sound),
        ("zeros", |marker| marker.fill(0)),
        ("a commit", |marker| {
            // Behind the header, five bytes of the record, and a version of two.
            let kind = 61 + 5 + 3;
            assert_eq!(marker[kind - 4..=kind], [8, 0, 0, 0, 0], "an abort");
            marker[kind] = 1;
        }),
        ("elsewhere", |marker| marker[6] = 1),
    ];
    for (what, change) in changes {
        for (closed, gone) in [(false, false), (false, true), (true, false), (true, true)] {
            let sim = aborted_far_behind(closed);
            let (log, range) = marker(&sim);
            assert!(log != segment(0, "log") && files(&sim, "log").last() != Some(&log));
            sim.damage(&log, |bytes| change(&mut bytes[range])).unwrap();
            let index = log.with_extension("txnindex");
            match gone {
                true => sim.remove(&index).unwrap(),
                false => sim.damage(&index, |bytes| bytes.clear()).unwrap(),
            }
            sim.sync_dir(Path::new("/data/t-0")).unwrap();
            let what = format!("{what}, closed {closed}, gone {gone}");
            let seen = |broker: &Broker, owned| {
                let seen = by_all(broker, IsolationLevel::ReadCommitted, owned, &what);
                assert!(!seen.records.contains_key(&0), "{what}: 0 was never committed");
                let whole = seen.records.len() == 14;
                assert_eq!(whole, what.starts_with("sound"), "{what}: {seen:?}");
                let warned = broker.health().warnings().any(|warning| warning.contains("t-0"));
                assert!(whole || seen.told.is_some() || warned, "{what}: in silence");
                assert!(!whole || seen.told.is_none(), "{what}: {seen:?}");
            };
            seen(&attach(&sim), false);
            let broker = open(&sim);
            seen(&broker, true);
            broker.close().ok();
            seen(&open(&sim), true);
        }
    }
}
