//! Timeouts, checks, the expiry of ids, and lives.

use super::*;
use TransactionState::*;

const CHECK: Duration = Duration::from_secs(10);

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut world = World::new();
    let who = world.fresh("x");
    assert!(world.shard.next_deadline().is_some_and(|due| due > world.now.mono + MINUTE));
    world.add("x", who, "t-0").unwrap();
    for _ in 0..6 {
        assert_eq!(world.pass(CHECK), []);
    }
    let told = world.pass(CHECK);
    let x = name("x");
    assert_eq!(told, [TransactionEvent::TimedOut(x.clone()), TransactionEvent::Unfinished(x)]);
    assert_eq!(world.state("x"), (PrepareAbort, who.producer_id, 1));
    let end = world.shard.take_end("x").unwrap();
    assert_eq!(world.shard.take_end("x"), None, "it is held");
    world.finish(&end);
    assert_eq!(world.state("x"), (CompleteAbort, who.producer_id, 1));
    // The abort of the producer is answered, its commit is not; then it goes on.
    assert_eq!(kind(world.end("x", who, true)), ErrorKind::InvalidTxnState);
    assert_eq!(kind(world.add("x", who, "t-0")), ErrorKind::ProducerFenced);
    let next = world.end_whole("x", who, false).unwrap();
    assert_eq!(next, producer(who.producer_id, 1));
    world.add("x", next, "t-0").unwrap();
}

#[test]
fn an_end_that_nobody_finishes_is_told_at_each_check() {
    let mut world = World::new();
    let who = world.fresh("x");
    world.add("x", who, "t-0").unwrap();
    let (end, _) = decided(world.end("x", who, true));
    assert_eq!(world.pass(CHECK), [], "it is held");
    assert!(world.shard.marked(&end, &[], world.now).appends.is_empty());
    for _ in 0..2 {
        assert_eq!(world.pass(CHECK), [TransactionEvent::Unfinished(name("x"))]);
    }
    let end = world.shard.take_end("x").unwrap();
    world.finish(&end);
    assert_eq!(world.pass(CHECK), []);
    assert!(world.shard.next_deadline().is_some_and(|due| due > world.now.mono + MINUTE));
}

#[test]
fn a_timeout_that_cannot_be_stored_is_tried_again_under_the_same_epoch() {
    let mut world = World::new();
    let who = world.fresh("x");
    world.add("x", who, "t-0").unwrap();
    for _ in 0..3 {
        world.now = world.now.plus(MINUTE + CHECK);
        let result = world.shard.expire(world.now);
        assert_eq!(result.appends.len(), 1);
        drop(result);
        assert_eq!(world.state("x"), (Ongoing, who.producer_id, 0));
    }
    world.pass(CHECK);
    assert_eq!(world.state("x"), (PrepareAbort, who.producer_id, 1));
}

#[test]
fn a_life_gives_a_transaction_the_time_that_it_has_left() {
    let mut world = World::new();
    let who = world.fresh("x");
    world.add("x", who, "t-0").unwrap();
    world.now = world.now.plus(Duration::from_secs(45));
    world.reload();
    world.pass(CHECK);
    assert_eq!(world.state("x").0, Ongoing);
    world.pass(CHECK);
    assert_eq!(world.state("x").0, PrepareAbort);
}

#[test]
fn a_clock_that_was_set_back_gives_no_more_than_the_timeout() {
    let mut world = World::new();
    let who = world.fresh("x");
    world.add("x", who, "t-0").unwrap();
    world.now.wall_ms -= 86_400_000;
    world.reload();
    world.pass(MINUTE);
    world.pass(CHECK);
    assert_eq!(world.state("x").0, PrepareAbort);
}

#[test]
fn what_is_open_at_the_beginning_of_a_life_can_be_aborted() {
    let mut world = World::new();
    let who = world.fresh("x");
    assert!(world.shard.abort_open("x", world.now).is_none());
    world.add("x", who, "t-0").unwrap();
    world.reload();
    let (end, append) = world.shard.abort_open("x", world.now).unwrap();
    world.store(CoordinatorResult { response: Ok(()), appends: vec![append] }).unwrap();
    assert_eq!(end.producer, producer(who.producer_id, 1));
    world.finish(&end);
    assert_eq!(world.state("x").0, CompleteAbort);
}

#[test]
fn ids_expire_when_nothing_happened_for_long() {
    let week = TransactionConfig::default().expiration;
    let mut world = World::new();
    let open = world.fresh("open");
    world.fresh("idle");
    world.add("open", open, "t-0").unwrap();
    world.now = world.now.plus(week);
    let told = world.pass(Duration::ZERO);
    assert!(told.contains(&TransactionEvent::Expired(name("idle"))));
    assert!(world.shard.get("idle").is_none());
    // What was open is aborted by then, and expires a week after that.
    let end = world.shard.take_end("open").unwrap();
    world.finish(&end);
    world.pass(week);
    assert!(world.shard.get("open").is_none());
    assert_eq!(world.shard.next_deadline().filter(|due| *due <= world.now.mono), None);
    world.reload();
    assert_eq!(world.shard.all().count(), 0);
    assert_eq!(world.fresh("idle").producer_epoch, 0);
}

#[test]
fn a_life_knows_what_the_log_says() {
    let mut world = World::new();
    for (number, commit) in [(0, true), (1, false), (2, true)] {
        let id = format!("id-{number}");
        let who = world.fresh(&id);
        world.add(&id, who, "t-0").unwrap();
        world.end_whole(&id, who, commit).unwrap();
    }
    let all = |world: &World| -> Vec<_> {
        world.shard.all().map(|(id, value)| (id.clone(), value.clone())).collect()
    };
    let before = all(&world);
    world.reload();
    assert_eq!(all(&world), before);
    let said: usize = (0..50).map(|partition| world.shard.state_of(partition).len()).sum();
    assert_eq!(said, 3);
}

#[test]
fn what_is_read_later_leaves_what_was_read_before_as_it_is() {
    let mut world = World::new();
    let (early, late) = (world.fresh("x"), world.fresh("y"));
    world.add("x", early, "t-0").unwrap();
    world.add("y", late, "t-1").unwrap();
    let log = std::mem::take(&mut world.log);
    let of = |id: &str| world.shard.partition_of(id);
    let (x, y) = (of("x"), of("y"));
    assert_ne!(x, y);
    world.shard = TransactionCoordinator::new(TransactionConfig::default());
    let read = |shard: &mut TransactionCoordinator, id: &str, now| {
        let is_its = |record: &&TransactionRecord| {
            let TransactionRecord::State { transactional_id, .. } = record else { return false };
            **transactional_id == *id
        };
        log.iter().filter(is_its).for_each(|record| shard.replay(record.clone()));
        shard.begin_life(&[shard.partition_of(id)], now);
    };
    read(&mut world.shard, "x", world.now);
    assert_eq!(world.shard.unfinished(), [x].into());
    let (end, _) = decided(world.end("x", early, true));
    world.now = world.now.plus(MINUTE * 30);
    read(&mut world.shard, "y", world.now);
    assert_eq!(world.shard.unfinished(), [x, y].into());
    assert_eq!(world.shard.take_end("x"), None, "it is held");
    world.finish(&end);
    assert_eq!(world.state("x").0, CompleteCommit);
    // Its time was over when it was read.
    assert!(world.pass(CHECK * 2).contains(&TransactionEvent::TimedOut(name("y"))));
    assert_eq!(world.shard.unfinished(), [y].into());
}
