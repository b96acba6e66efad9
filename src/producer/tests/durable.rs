//! Topics that sync before they answer.

use super::*;
use crate::storage::faults::{Call, Failure, Rule};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const DURABLE: &[(&str, &str)] = &[("flush.messages", "1")];

#[test]
fn an_answer_waits_for_a_sync_that_covers_it() {
    let (world, fault) = World::faulty();
    world.topic("t", 1, DURABLE);
    let producer = world.producer(&[]);
    let first = producer.send(to(0, "a")).unwrap();
    let second = producer.send(to(0, "b")).unwrap();
    let before = fault.calls_of(Call::SyncData);
    assert!(!first.is_done() && !second.is_done());
    assert_eq!(second.wait().unwrap().offset(), 1);
    let after = fault.calls_of(Call::SyncData);
    assert!(after > before);
    assert!(first.is_done(), "one sync serves all before it");
    assert_eq!(first.wait().unwrap().offset(), 0);
    assert_eq!(fault.calls_of(Call::SyncData), after);
}

#[test]
fn flush_pays_the_syncs_that_answers_wait_for() {
    let world = World::new();
    world.topic("t", 2, DURABLE);
    let producer = world.producer(&[]);
    let futures: Vec<_> = (0..2).map(|p| producer.send(to(p, "a")).unwrap()).collect();
    assert!(futures.iter().all(|future| !future.is_done()));
    producer.flush().unwrap();
    assert!(futures.iter().all(|future| future.is_done()));
}

#[test]
fn callbacks_and_batches_are_told_after_their_sync() {
    let (world, fault) = World::faulty();
    world.topic("t", 1, DURABLE);
    let told = Told::default();
    for linger in ["0", "5"] {
        let before = fault.calls_of(Call::SyncData);
        let producer = world.producer(&[("linger.ms", linger)]);
        let first = producer.send_with(to(0, "a"), told.callback()).unwrap();
        producer.flush().unwrap();
        assert!(first.is_done());
        assert_eq!(told.take().len(), 1);
        assert!(fault.calls_of(Call::SyncData) > before);
        let many = producer.send_all([to(0, "b"), to(0, "c")]).unwrap();
        for future in many {
            future.wait().unwrap();
        }
    }
}

#[test]
fn a_failed_sync_is_told_with_the_record_which_may_be_written() {
    let (world, fault) = World::faulty();
    world.topic("t", 1, DURABLE);
    let producer = world.producer(&[]);
    producer.send(to(0, "a")).unwrap().wait().unwrap();
    let told = Told::default();
    let plain = producer.send(to(0, "b").key("k")).unwrap();
    fault.fail(Rule::nth(0, Failure::Io).of(&[Call::SyncData]).on("t-0"));
    let failed = plain.wait().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::StorageFailed);
    assert!(failed.possibly_written() && failed.is_fatal());
    assert_eq!(failed.record().unwrap().key_bytes(), Some(&b"k"[..]));
    // A failed sync is final for the partition.
    drop(producer.send_with(to(0, "c"), told.callback()).unwrap());
    assert_eq!(told.take(), [Err("KAFKA_STORAGE_ERROR")]);
}

#[test]
fn awaiting_is_ready_under_a_virtual_clock() {
    let world = World::new();
    world.topic("t", 1, DURABLE);
    let producer = world.producer(&[]);
    let mut context = Context::from_waker(Waker::noop());
    let mut future = pin!(producer.send(to(0, "a")).unwrap());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(outcome) => assert_eq!(outcome.unwrap().offset(), 0),
        Poll::Pending => panic!("there is no thread that could do it"),
    }
}

#[test]
fn awaiting_a_lingering_record_is_woken_by_the_timer() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(&[("linger.ms", "10")]);
    let mut context = Context::from_waker(Waker::noop());
    let mut future = pin!(producer.send(to(0, "a")).unwrap());
    assert!(future.as_mut().poll(&mut context).is_pending());
    world.clock.advance(ms(10));
    assert!(future.as_mut().poll(&mut context).is_ready());
}
