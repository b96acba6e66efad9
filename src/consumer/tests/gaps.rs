//! Offsets that hold nothing to return: compacted away, of aborted transactions, of markers. The
//! position moves over them, and a wait behind them is a wait for what comes next.

use super::*;
use crate::config::IsolationLevel::{self, ReadCommitted, ReadUncommitted};
use crate::consumer::ReadFrom;
use crate::error::ErrorKind;
use crate::log::AppendOptions;

/// Everything that a consumer and a reader make of `t-0`, and where they stand then. Both wait
/// for more at the end, which must come to an end by the clock.
fn read_both(broker: &Broker, isolation: IsolationLevel) -> (Vec<i64>, i64) {
    let level = match isolation {
        ReadCommitted => "read_committed",
        ReadUncommitted => "read_uncommitted",
    };
    let mut consumer = assigned(broker, &[("isolation.level", level)]);
    let all = poll_all(&mut consumer);
    assert!(consumer.poll(LONG).unwrap().is_empty());
    let position = consumer.position(&t0()).unwrap();
    assert_eq!(consumer.current_lag(&t0()).unwrap(), Some(0));

    let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap().isolation_level(isolation);
    let mut read = Vec::new();
    loop {
        let records = reader.read(LONG).unwrap();
        if records.is_empty() {
            break;
        }
        read.extend(offsets(&records));
    }
    assert_eq!((&read, reader.position()), (&all, position), "the reader");
    (all, position)
}

fn append(broker: &Broker) -> i64 {
    let log = broker.inner().topic("t").unwrap().partition(0).unwrap().log().unwrap().clone();
    log.append(&RecordInput::default(), AppendOptions::client(5)).unwrap().base_offset
}

/// The same for the owner and for a broker that is attached.
fn on_both(world: &World, check: impl Fn(&Broker)) {
    let attached = world.attach();
    check(&attached);
    let owner = world.open();
    check(&owner);
}

#[test]
fn a_gap_at_the_end_of_a_compacted_log_is_passed() {
    let world = World::new();
    world.put("t-0", 0, &[batch(2), batch(6)]);
    world.put("t-0", 10, &[]);
    on_both(&world, |broker| {
        for isolation in [ReadUncommitted, ReadCommitted] {
            assert_eq!(read_both(broker, isolation), (vec![2, 6], 10));
        }
    });
}

#[test]
fn what_is_appended_behind_a_gap_wakes_who_waits_there() {
    let world = World::new();
    world.put("t-0", 0, &[batch(2)]);
    world.put("t-0", 10, &[]);
    let owner = world.open();
    let mut consumer = assigned(&owner, &[]);
    assert_eq!(poll_all(&mut consumer), [2]);
    let mut reader = owner.reader("t", 0, ReadFrom::Offset(4)).unwrap();
    assert!(reader.read(Duration::ZERO).unwrap().is_empty());
    assert_eq!(reader.position(), 10);
    assert_eq!(append(&owner), 10);
    assert_eq!(offsets(&consumer.poll(Duration::ZERO).unwrap()), [10]);
    assert_eq!(offsets(&reader.read(Duration::ZERO).unwrap()), [10]);
}

#[test]
fn a_gap_before_an_open_transaction_is_passed_up_to_it() {
    let world = World::new();
    world.put("t-0", 0, &[batch(2), of_transaction(9, 7), batch(10)]);
    on_both(&world, |broker| {
        assert_eq!(read_both(broker, ReadCommitted), (vec![2], 9));
        assert_eq!(read_both(broker, ReadUncommitted), (vec![2, 9, 10], 11));
    });
}

#[test]
fn a_log_of_nothing_but_an_aborted_transaction_is_passed() {
    let world = World::new();
    let aborted = marker(3, 7, ControlType::Abort);
    world.put("t-0", 0, &[of_transaction(0, 7), of_transaction(1, 7), aborted]);
    world.put("t-0", 5, &[]);
    on_both(&world, |broker| {
        assert_eq!(read_both(broker, ReadCommitted), (vec![], 5));
        assert_eq!(read_both(broker, ReadUncommitted), (vec![0, 1], 5));
    });
}

#[test]
fn a_log_that_lost_all_its_records_is_passed() {
    let world = World::new();
    world.put("t-0", 0, &[]);
    world.put("t-0", 7, &[]);
    on_both(&world, |broker| {
        for isolation in [ReadUncommitted, ReadCommitted] {
            assert_eq!(read_both(broker, isolation), (vec![], 7));
        }
    });
}

#[test]
fn markers_at_the_end_are_passed() {
    let world = World::new();
    let committed = marker(1, 7, ControlType::Commit);
    world.put("t-0", 0, &[of_transaction(0, 7), committed, marker(2, 8, ControlType::Abort)]);
    on_both(&world, |broker| {
        for isolation in [ReadUncommitted, ReadCommitted] {
            assert_eq!(read_both(broker, isolation), (vec![0], 3));
        }
    });
}

#[test]
fn a_minimum_of_bytes_is_not_waited_for_in_a_gap() {
    let world = World::new();
    world.put("t-0", 0, &[batch(2)]);
    world.put("t-0", 10, &[]);
    let owner = world.open();
    let mut consumer = assigned(&owner, &[("fetch.min.bytes", "100000")]);
    consumer.seek(&t0(), 3).unwrap();
    assert!(consumer.poll(LONG).unwrap().is_empty());
    assert_eq!(consumer.position(&t0()).unwrap(), 10);
}

/// What is wrong with a partition is found out at once, however many bytes are waited for.
#[test]
fn a_minimum_of_bytes_is_not_waited_for_behind_the_end() {
    let world = World::new();
    world.put("t-0", 0, &[batch(0), batch(1)]);
    on_both(&world, |broker| {
        let more = [("fetch.min.bytes", "100"), ("auto.offset.reset", "earliest")];
        let mut consumer = assigned(broker, &more);
        consumer.seek(&t0(), 50).unwrap();
        assert_eq!(offsets(&consumer.poll(LONG).unwrap()), [0, 1]);
    });
    let owner = world.open();
    let none = [("fetch.min.bytes", "100000"), ("auto.offset.reset", "none")];
    let mut consumer = assigned(&owner, &none);
    consumer.seek(&t0(), 50).unwrap();
    let began = world.clock.now().mono;
    assert_eq!(consumer.poll(LONG).unwrap_err().kind(), ErrorKind::OffsetOutOfRange);
    assert_eq!(world.clock.now().mono, began, "it waited for bytes");
}
