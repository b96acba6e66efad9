//! Each step of a transaction fails, stalls, loses its answer, or is the last thing that the
//! process does; the program goes on as programs do, and its work is there once.

use super::{Crash, Event, Fault, TestBroker, TransactionStep};
use crate::config::{IsolationLevel, ProducerConfig, TopicConfig};
use crate::consumer::{GroupMetadata, OffsetAndMetadata, ReadFrom};
use crate::error::{ErrorKind, Result};
use crate::producer::{Producer, ProducerRecord};
use crate::topic::TopicPartition;
use crate::transaction::TransactionState;
use std::collections::BTreeMap;
use std::time::Duration;

fn broker() -> TestBroker {
    let test = TestBroker::new().unwrap();
    test.admin().create_topic("orders", 1, TopicConfig::default()).unwrap();
    test.admin().create_topic("bills", 2, TopicConfig::default()).unwrap();
    for order in ["tea", "cake"] {
        test.put(ProducerRecord::new("orders").value(order)).unwrap();
    }
    test
}

fn billing(test: &TestBroker) -> Result<Producer> {
    let producer = test.producer(ProducerConfig::default().transactional_id("billing"))?;
    producer.init_transactions()?;
    Ok(producer)
}

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

/// Where the group stands: what a program that begins goes on from.
fn committed(test: &TestBroker) -> i64 {
    let offsets = test.admin().list_group_offsets("billing");
    offsets.ok().and_then(|offsets| offsets.get(&orders()).map(|at| at.offset())).unwrap_or(0)
}

/// One order: a bill in each partition, and the offset behind it.
fn bill(producer: &Producer, order: i64) -> Result<()> {
    producer.begin_transaction()?;
    for partition in 0..2 {
        let value = format!("{order}/{partition}");
        let record = ProducerRecord::new("bills").partition(partition).value(value);
        producer.send_sync(record)?;
    }
    let offsets: BTreeMap<_, _> = [(orders(), OffsetAndMetadata::new(order + 1))].into();
    producer.send_offsets_to_transaction(&offsets, &GroupMetadata::new("billing"))?;
    producer.commit_transaction()
}

fn work(test: &TestBroker) -> Result<()> {
    let producer = billing(test)?;
    loop {
        match committed(test) {
            2 => return Ok(()),
            order => bill(&producer, order)?,
        }
    }
}

/// Works until all is done, as a program that is started again after each error.
fn work_on(test: &mut TestBroker) -> Vec<ErrorKind> {
    let mut errors = Vec::new();
    while let Err(error) = work(test) {
        errors.push(error.kind());
        assert!(errors.len() < 5, "{errors:?}\n{}", test.journal());
        if error.kind() == ErrorKind::Closed {
            test.crash(Crash::Kill).unwrap();
        }
    }
    errors
}

#[track_caller]
fn check(test: &TestBroker, what: &str) {
    let mut bills = test.committed_values("bills").unwrap();
    bills.sort();
    assert_eq!(bills, ["0/0", "0/1", "1/0", "1/1"], "{what}\n{}", test.journal());
    assert_eq!(committed(test), 2, "{what}");
    assert!(test.open_transactions().unwrap().is_empty(), "{what}");
    for partition in 0..2 {
        let reader = test.reader("bills", partition, ReadFrom::Beginning).unwrap();
        let stable = reader.isolation_level(IsolationLevel::ReadCommitted).end_offset().unwrap();
        let end = test.reader("bills", partition, ReadFrom::End).unwrap().end_offset().unwrap();
        assert_eq!(stable, end, "{what}");
    }
}

/// The fault at each step, at its first time and at its second.
fn at_each_step(name: &str, as_it_is: fn(Fault) -> Fault) {
    let steps = TransactionStep::ALL.map(Fault::transaction);
    for fault in steps.into_iter().chain([Fault::append().on("bills")]) {
        for nth in 1..=3 {
            if nth > 1 && format!("{fault:?}").starts_with("init") {
                continue;
            }
            if nth == 3 && !format!("{fault:?}").starts_with("marker") {
                continue;
            }
            let fault = as_it_is(fault.clone().nth(nth));
            let what = format!("{name}: {fault:?}");
            let mut test = broker();
            let injected = test.inject(fault);
            let errors = work_on(&mut test);
            println!("{what}: {errors:?}");
            injected.assert_hit();
            check(&test, &what);
        }
    }
}

#[test]
fn a_program_gets_over_each_step_that_fails() {
    at_each_step("fails", |fault| fault.fail(ErrorKind::Io));
    at_each_step("fails", |fault| fault.fail(ErrorKind::StorageFailed));
    at_each_step("passes", |fault| fault.fail(ErrorKind::CoordinatorNotAvailable));
}

#[test]
fn a_program_gets_over_each_answer_that_is_lost() {
    at_each_step("no answer", Fault::lose_reply);
}

#[test]
fn a_program_gets_over_a_death_before_each_step() {
    at_each_step("dies before", Fault::kill);
}

#[test]
fn a_program_gets_over_a_death_behind_each_step() {
    at_each_step("dies behind", Fault::kill_after);
}

#[test]
fn a_step_that_stalls_is_waited_for() {
    at_each_step("stalls", |fault| fault.stall_for(Duration::from_secs(5)));
}

/// Whoever did not hear that a marker was written has it written again: one stands there.
#[test]
fn a_marker_whose_answer_was_lost_is_written_once() {
    for after_a_kill in [false, true] {
        let mut test = broker();
        let producer = billing(&test).unwrap();
        let marker = Fault::transaction(TransactionStep::Marker).on("bills");
        test.inject(if after_a_kill { marker.kill_after() } else { marker.lose_reply() });
        let ended = bill(&producer, 0);
        if after_a_kill {
            assert_eq!(ended.unwrap_err().kind(), ErrorKind::Closed);
            test.crash(Crash::Kill).unwrap();
            billing(&test).unwrap();
        }
        assert_eq!(test.committed_values("bills").unwrap(), ["0/0", "0/1"]);
        for partition in 0..2 {
            let reader = test.reader("bills", partition, ReadFrom::End).unwrap();
            assert_eq!(
                reader.end_offset().unwrap(),
                2,
                "a record and a marker\n{}",
                test.journal()
            );
        }
    }
}

/// Between two markers: one partition shows the transaction, the other does not yet, as in Kafka;
/// nobody can take the id over before both have it.
#[test]
fn a_stall_between_two_markers_is_seen_by_others() {
    let test = TestBroker::builder().manual_clock().start().unwrap();
    test.admin().create_topic("bills", 2, TopicConfig::default()).unwrap();
    let producer = billing(&test).unwrap();
    producer.begin_transaction().unwrap();
    for partition in 0..2 {
        let record = ProducerRecord::new("bills").partition(partition).value("a bill");
        producer.send_sync(record).unwrap();
    }
    let marker = Fault::transaction(TransactionStep::Marker).on_partition("bills", 1).stall();
    let fault = test.inject(marker);
    std::thread::scope(|scope| {
        let commit = scope.spawn(|| producer.commit_transaction());
        fault.wait_for_hits(1);
        assert_eq!(test.committed_values("bills").unwrap(), ["a bill"]);
        let open = test.open_transactions().unwrap();
        assert_eq!(open[0].state(), TransactionState::PrepareCommit);
        assert_eq!(open[0].partitions(), ["bills-0", "bills-1"].map(parsed));
        let fenced = test.broker().inner().transactions().unwrap();
        let taken = fenced.init("billing", Duration::from_secs(60)).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::ConcurrentTransactions);
        fault.release();
        commit.join().unwrap().unwrap();
    });
    assert_eq!(test.committed_values("bills").unwrap().len(), 2);
    test.journal().assert_in_order(&[
        "billing: producer of epoch 0",
        "billing: bills-0 takes part",
        "append bills-0 at 0",
        "billing: commit decided",
        "billing: commit marker in bills-0",
        "stalled: marker of billing in bills-1",
        "resumed: marker of billing in bills-1",
        "billing: commit marker in bills-1",
        "billing: committed",
    ]);
}

fn parsed(name: &str) -> TopicPartition {
    TopicPartition::parse(name).unwrap()
}

#[test]
fn a_transaction_that_takes_too_long_is_told() {
    let test = broker();
    let producer = billing(&test).unwrap();
    producer.begin_transaction().unwrap();
    producer.send_sync(ProducerRecord::new("bills").partition(0).value("late")).unwrap();
    assert_eq!(test.open_transactions().unwrap()[0].transactional_id(), "billing");
    test.advance(Duration::from_secs(120));
    test.journal().assert_in_order(&[
        "billing: timed out",
        "billing: abort marker in bills-0",
        "billing: aborted",
    ]);
    assert!(test.open_transactions().unwrap().is_empty());
    let ended = |event: &Event| matches!(event, Event::TransactionEnded { committed: false, .. });
    assert_eq!(test.journal().count(ended), 1);
}

/// The next life dies, too, at each step by which it ends what was left.
#[test]
fn a_life_that_dies_while_it_ends_what_was_left_is_followed_by_one_that_does() {
    use TransactionStep::{Complete, Marker, Prepare};
    for (first, end) in [(Prepare, "aborted"), (Marker, "committed"), (Complete, "committed")] {
        for second in [Prepare, Marker, Complete] {
            if second == Prepare && end == "committed" {
                continue; // It is decided.
            }
            for after in [false, true] {
                let mut test = broker();
                test.inject(Fault::transaction(first).kill());
                let producer = billing(&test).unwrap();
                bill(&producer, 0).unwrap_err();
                test.crash(Crash::Kill).unwrap();
                let fault = Fault::transaction(second);
                let fault = test.inject(if after { fault.kill_after() } else { fault.kill() });
                let what = format!("{first:?}, then {second:?}, {after}");
                let died = work(&test);
                assert!(died.is_err(), "{what}");
                fault.assert_hit();
                test.crash(Crash::Kill).unwrap();
                billing(&test).unwrap();
                let is_there = end == "committed";
                let seen = test.committed_values("bills").unwrap();
                assert_eq!(seen.len(), if is_there { 2 } else { 0 }, "{what}\n{}", test.journal());
                assert_eq!(committed(&test), i64::from(is_there), "{what}");
                assert!(work_on(&mut test).is_empty());
                check(&test, &what);
            }
        }
    }
}

/// What a life could not store at its beginning it stores at the next call, and finishes what was
/// decided.
#[test]
fn ends_that_a_life_took_before_a_store_failed_are_finished_by_it() {
    let mut test = broker();
    let producer = billing(&test).unwrap();
    test.inject(Fault::transaction(TransactionStep::Marker).fail(ErrorKind::StorageFailed));
    bill(&producer, 0).unwrap_err();
    let other = test.producer(ProducerConfig::default().transactional_id("open")).unwrap();
    other.init_transactions().unwrap();
    other.begin_transaction().unwrap();
    other.send_sync(ProducerRecord::new("bills").partition(0).value("never")).unwrap();
    test.crash(Crash::Kill).unwrap();
    assert_eq!(test.open_transactions().unwrap().len(), 2);
    let prepare = Fault::transaction(TransactionStep::Prepare).of_transactional_id("open");
    let fault = test.inject(prepare.fail(ErrorKind::StorageFailed));
    assert_eq!(billing(&test).unwrap_err().kind(), ErrorKind::StorageFailed);
    fault.assert_hit();
    assert!(work_on(&mut test).is_empty());
    check(&test, "a store that failed at the beginning");
}

#[test]
fn a_fault_that_no_step_can_meet_is_refused() {
    let refused = |fault: Fault| fault.contradiction().unwrap();
    let at = Fault::transaction;
    assert!(refused(at(TransactionStep::Prepare).on("t")).contains("added or marked"));
    assert!(refused(at(TransactionStep::Marker).of_group("g")).contains("offsets"));
    assert!(refused(at(TransactionStep::Marker).of_client("c")).contains("of_transactional_id"));
    assert!(refused(Fault::append().of_transactional_id("x")).contains("steps"));
    assert!(refused(Fault::sync().kill()).contains("kill"));
}
