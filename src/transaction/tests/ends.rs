//! EndTxn in every state, repeated, refused, and at the last epoch.

use super::*;
use TransactionState::*;

#[test]
fn an_end_raises_the_epoch_and_completes_when_all_markers_are_written() {
    for (commit, prepared, complete) in
        [(true, PrepareCommit, CompleteCommit), (false, PrepareAbort, CompleteAbort)]
    {
        let mut world = World::new();
        let who = world.fresh("x");
        world.add("x", who, "t-0").unwrap();
        world.add("x", who, "u-1").unwrap();
        let (end, next) = decided(world.end("x", who, commit));
        assert_eq!(next, producer(who.producer_id, 1));
        assert_eq!((end.producer, end.committed), (next, commit));
        assert_eq!(end.partitions, [tp("t-0"), tp("u-1")]);
        assert_eq!(world.state("x"), (prepared, who.producer_id, 1));
        world.finish(&end);
        assert_eq!(world.state("x"), (complete, who.producer_id, 1));
        assert!(world.value("x").partitions.is_empty());
    }
}

#[test]
fn markers_that_could_not_be_written_are_left_and_no_others() {
    let mut world = World::new();
    let who = world.fresh("x");
    world.add("x", who, "t-0").unwrap();
    world.add("x", who, "t-1").unwrap();
    let (end, next) = decided(world.end("x", who, true));
    assert!(world.shard.marked(&end, &[tp("t-1")], world.now).appends.is_empty());
    assert_eq!(world.state("x").0, PrepareCommit);
    // The producer asks again, and its request goes on.
    let (rest, again) = decided(world.end("x", who, true));
    assert_eq!((&rest.partitions[..], again), (&[tp("t-0")][..], next));
    assert_eq!(kind(world.end("x", who, true)), ErrorKind::ConcurrentTransactions, "it is held");
    world.finish(&rest);
    assert_eq!(world.state("x").0, CompleteCommit);
    // What was held before means nothing any more.
    world.add("x", next, "t-0").unwrap();
    let (_, _) = decided(world.end("x", next, true));
    assert!(world.shard.marked(&end, &end.partitions, world.now).appends.is_empty());
    assert_eq!(world.state("x").0, PrepareCommit);
}

#[test]
fn the_answer_to_a_repeated_end_is_the_first_one() {
    for commit in [true, false] {
        let mut world = World::new();
        let who = world.fresh("x");
        world.add("x", who, "t-0").unwrap();
        let next = world.end_whole("x", who, commit).unwrap();
        assert_eq!(world.end("x", who, commit).unwrap(), EndAnswer::Ended(next));
        assert_eq!(kind(world.end("x", who, !commit)), ErrorKind::InvalidTxnState);
        // Another producer took over since.
        world.fresh("x");
        assert_eq!(kind(world.end("x", who, commit)), ErrorKind::ProducerFenced);
    }
}

#[test]
fn a_prepared_end_cannot_be_turned() {
    for commit in [true, false] {
        let mut world = World::new();
        let who = world.fresh("x");
        world.add("x", who, "t-0").unwrap();
        let (_, next) = decided(world.end("x", who, commit));
        assert_eq!(kind(world.end("x", who, !commit)), ErrorKind::InvalidTxnState);
        assert_eq!(kind(world.end("x", next, commit)), ErrorKind::ProducerFenced);
        let other = producer(77, 0);
        assert_eq!(kind(world.end("x", other, commit)), ErrorKind::InvalidProducerIdMapping);
    }
}

#[test]
fn nothing_is_committed_where_nothing_is_open_and_an_abort_is_no_error() {
    let mut world = World::new();
    assert_eq!(kind(world.end("x", producer(0, 0), true)), ErrorKind::InvalidProducerIdMapping);
    let mut who = world.fresh("x");
    for state in [Empty, CompleteAbort] {
        assert_eq!(world.state("x").0, state);
        assert_eq!(kind(world.end("x", who, true)), ErrorKind::InvalidTxnState);
        let (end, next) = decided(world.end("x", who, false));
        assert!(end.partitions.is_empty());
        world.finish(&end);
        assert_eq!(next, producer(who.producer_id, who.producer_epoch + 1));
        who = next;
    }
    world.add("x", who, "t-0").unwrap();
    who = world.end_whole("x", who, true).unwrap();
    assert_eq!(kind(world.end("x", who, true)), ErrorKind::InvalidTxnState);
    who = world.end_whole("x", who, false).unwrap();
    assert_eq!(world.state("x"), (CompleteAbort, who.producer_id, who.producer_epoch));
}

/// The epoch of a producer that was replaced is one below, as that of one that ended its
/// transaction.
#[test]
fn a_producer_that_was_replaced_ends_nothing() {
    for commit in [true, false] {
        let mut world = World::new();
        let old = world.fresh("x");
        let new = world.fresh("x");
        assert_eq!(new.producer_epoch, old.producer_epoch + 1);
        assert_eq!(kind(world.end("x", old, commit)), ErrorKind::ProducerFenced);
        world.add("x", new, "t-0").unwrap();
        assert_eq!(kind(world.end("x", old, commit)), ErrorKind::ProducerFenced);
        assert_eq!(world.state("x"), (Ongoing, new.producer_id, new.producer_epoch));
    }
}

#[test]
fn the_last_transaction_of_a_producer_id_ends_under_the_highest_epoch() {
    for commit in [true, false] {
        let mut world = World::new();
        let mut who = world.fresh("x");
        while who.producer_epoch < i16::MAX - 1 {
            who = world.fresh("x");
        }
        world.add("x", who, "t-0").unwrap();
        let (end, next) = decided(world.end("x", who, commit));
        assert_eq!(end.producer, producer(who.producer_id, i16::MAX));
        assert_eq!(next, producer(who.producer_id + 1, 0));
        assert_eq!(world.value("x").next_producer_id, next.producer_id);
        // A process that dies here leaves it to the next one.
        world.reload();
        let (end, again) = decided(world.end("x", who, commit));
        assert_eq!(again, next);
        world.finish(&end);
        assert_eq!((world.state("x").1, world.state("x").2), (next.producer_id, 0));
        assert_eq!(world.end("x", who, commit).unwrap(), EndAnswer::Ended(next));
        assert_eq!(kind(world.end("x", who, !commit)), ErrorKind::InvalidTxnState);
        world.add("x", next, "t-0").unwrap();
        world.end_whole("x", next, true).unwrap();
    }
}

#[test]
fn what_is_open_at_the_highest_client_epoch_is_fenced_by_the_one_above() {
    let mut world = World::new();
    let mut who = world.fresh("x");
    while who.producer_epoch < i16::MAX - 1 {
        who = world.fresh("x");
    }
    world.add("x", who, "t-0").unwrap();
    let end = end_first(world.init("x"));
    assert_eq!(end.producer, producer(who.producer_id, i16::MAX));
    world.finish(&end);
    assert_eq!(world.fresh("x"), producer(who.producer_id + 1, 0));
}

#[test]
fn an_end_is_given_back_when_its_complete_record_is_refused() {
    let mut world = World::new();
    let who = world.fresh("x");
    world.add("x", who, "t-0").unwrap();
    let (end, _) = decided(world.end("x", who, true));
    let result = world.shard.marked(&end, &end.partitions, world.now);
    assert_eq!(result.appends.len(), 1);
    drop(result);
    let (rest, _) = decided(world.end("x", who, true));
    assert!(rest.partitions.is_empty(), "the markers are written");
    world.finish(&rest);
    assert_eq!(world.state("x").0, CompleteCommit);
}
