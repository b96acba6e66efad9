//! InitProducerId and AddPartitionsToTxn in every state.

use super::*;
use TransactionState::*;

/// A transactional id in each state, with its present producer.
fn in_state(state: TransactionState) -> (World, ProducerIdentity) {
    let mut world = World::new();
    let who = world.fresh("x");
    if state == Empty {
        return (world, who);
    }
    world.add("x", who, "t-0").unwrap();
    if state == Ongoing {
        return (world, who);
    }
    let (end, next) = decided(world.end("x", who, matches!(state, PrepareCommit | CompleteCommit)));
    if state.is_idle() {
        world.finish(&end);
    }
    assert_eq!(world.state("x").0, state);
    (world, next)
}

#[test]
fn a_producer_begins_with_the_next_epoch() {
    for state in [Empty, CompleteCommit, CompleteAbort] {
        let (mut world, who) = in_state(state);
        let next = world.fresh("x");
        assert_eq!(next, producer(who.producer_id, who.producer_epoch + 1), "{state}");
        assert_eq!(world.state("x"), (Empty, next.producer_id, next.producer_epoch));
        assert_eq!((world.value("x").start_ms, world.value("x").partitions.len()), (-1, 0));
    }
}

#[test]
fn an_open_transaction_is_aborted_first() {
    let (mut world, who) = in_state(Ongoing);
    let end = end_first(world.init("x"));
    assert_eq!(end.producer, producer(who.producer_id, who.producer_epoch + 1));
    assert_eq!((end.committed, &end.partitions[..]), (false, &[tp("t-0")][..]));
    assert_eq!(world.state("x").0, PrepareAbort);
    // The end is held by the one who asked.
    assert_eq!(kind(world.init("x")), ErrorKind::ConcurrentTransactions);
    assert_eq!(kind(world.add("x", end.producer, "t-0")), ErrorKind::ConcurrentTransactions);
    world.finish(&end);
    assert_eq!(world.fresh("x"), producer(who.producer_id, who.producer_epoch + 2));
}

#[test]
fn an_end_that_nobody_finished_is_finished_first() {
    for (state, committed) in [(PrepareCommit, true), (PrepareAbort, false)] {
        let (mut world, who) = in_state(state);
        assert_eq!(kind(world.init("x")), ErrorKind::ConcurrentTransactions, "it is held");
        world.reload();
        let end = end_first(world.init("x"));
        assert_eq!((end.committed, end.producer), (committed, who));
        world.finish(&end);
        assert_eq!(world.fresh("x"), producer(who.producer_id, who.producer_epoch + 1));
    }
}

#[test]
fn the_last_epoch_is_followed_by_another_producer_id() {
    let mut world = World::new();
    let mut who = world.fresh("x");
    while who.producer_epoch < i16::MAX - 1 {
        who = world.fresh("x");
    }
    let next = world.fresh("x");
    assert_eq!(next, producer(who.producer_id + 1, 0));
    assert_eq!(world.value("x").previous_producer_id, who.producer_id);
    assert_eq!(kind(world.add("x", who, "t-0")), ErrorKind::InvalidProducerIdMapping);
}

#[test]
fn a_failed_append_changes_nothing() {
    let (mut world, who) = in_state(CompleteCommit);
    world.refuse = true;
    assert_eq!(kind(world.init("x")), ErrorKind::StorageFull);
    assert_eq!(kind(world.add("x", who, "t-0")), ErrorKind::StorageFull);
    assert_eq!(world.state("x"), (CompleteCommit, who.producer_id, who.producer_epoch));
    world.refuse = false;
    world.add("x", who, "t-0").unwrap();
    world.refuse = true;
    assert_eq!(kind(world.end("x", who, true)), ErrorKind::StorageFull);
    assert_eq!(kind(world.init("x")), ErrorKind::StorageFull);
    assert_eq!(world.state("x"), (Ongoing, who.producer_id, who.producer_epoch));
    world.refuse = false;
    world.end_whole("x", who, true).unwrap();
}

#[test]
fn partitions_are_added_where_there_is_a_producer() {
    for state in [Empty, Ongoing, CompleteCommit, CompleteAbort] {
        let (mut world, who) = in_state(state);
        let before = world.log.len();
        world.add("x", who, "u-3").unwrap();
        world.add("x", who, "u-3").unwrap();
        assert_eq!(world.log.len(), before + 1, "{state}: it is stored once");
        assert_eq!(world.state("x").0, Ongoing);
        let stale = producer(who.producer_id, who.producer_epoch - 1);
        assert_eq!(kind(world.add("x", stale, "u-3")), ErrorKind::ProducerFenced);
        let other = producer(who.producer_id + 9, who.producer_epoch);
        assert_eq!(kind(world.add("x", other, "u-3")), ErrorKind::InvalidProducerIdMapping);
    }
    for state in [PrepareCommit, PrepareAbort] {
        let (mut world, next) = in_state(state);
        assert_eq!(kind(world.add("x", next, "u-3")), ErrorKind::ConcurrentTransactions);
        let before = producer(next.producer_id, next.producer_epoch - 1);
        assert_eq!(kind(world.add("x", before, "u-3")), ErrorKind::ProducerFenced);
    }
    let mut world = World::new();
    assert_eq!(kind(world.add("x", producer(0, 0), "t-0")), ErrorKind::InvalidProducerIdMapping);
}

#[test]
fn a_transaction_starts_with_its_first_partition() {
    let (mut world, who) = in_state(CompleteAbort);
    world.pass(Duration::from_secs(5));
    world.add("x", who, "t-0").unwrap();
    world.pass(Duration::from_secs(5));
    world.add("x", who, "t-1").unwrap();
    let value = world.value("x");
    assert_eq!((value.start_ms, value.last_update_ms), (START_MS + 5000, START_MS + 10_000));
    assert_eq!(value.partitions, [(name("t"), vec![0, 1])]);
}

#[test]
fn timeouts_outside_the_bounds_are_refused() {
    let mut world = World::new();
    for timeout in [Duration::ZERO, Duration::from_micros(900), Duration::from_millis(900_001)] {
        let result = world.shard.init("x", timeout, &mut || Ok(0), world.now);
        assert_eq!(kind(result.response), ErrorKind::InvalidTransactionTimeout);
        assert!(result.appends.is_empty());
    }
    let result = world.shard.init("x", Duration::from_secs(900), &mut || Ok(0), world.now);
    world.store(result).unwrap();
    assert_eq!(world.value("x").timeout_ms, 900_000);
}
