//! Records that linger: batches, deadlines, memory, splits, refusals, retries.

use super::*;
use crate::config::ConfigChange;
use crate::storage::faults::{Call, Failure, Rule};

const SLOW: &[(&str, &str)] = &[("linger.ms", "5000")];

#[test]
fn lingering_records_are_sent_by_the_timer_at_their_deadline() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(SLOW);
    let first = producer.send(to(0, "a")).unwrap();
    world.clock.advance(ms(3000));
    let second = producer.send(to(0, "b")).unwrap();
    world.clock.advance(ms(1999));
    assert!(!first.is_done());
    assert_eq!(world.end("t", 0), 0);
    world.clock.advance(ms(1));
    assert!(first.is_done() && second.is_done());
    assert_eq!((first.wait().unwrap().offset(), second.wait().unwrap().offset()), (0, 1));
    assert_eq!(world.read("t", 0).iter().map(|r| r.batch).collect::<Vec<_>>(), [0, 0]);
}

#[test]
fn waiting_lets_time_pass_to_the_deadline_and_no_further() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(SLOW);
    let start = world.clock.now().mono;
    assert_eq!(producer.send(to(0, "a")).unwrap().wait().unwrap().offset(), 0);
    assert_eq!(world.clock.now().mono, start + ms(5000));
}

#[test]
fn a_full_batch_is_sent_at_once_and_the_next_one_is_open() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(&[("linger.ms", "5000"), ("batch.size", "1000")]);
    let value = "v".repeat(200);
    let futures: Vec<_> = (0..5).map(|_| producer.send(to(0, &value)).unwrap()).collect();
    assert_eq!(world.end("t", 0), 4, "four records of 209 bytes fit into 1000");
    assert!(futures[3].is_done() && !futures[4].is_done());
    // A batch that is filled to the last byte does not wait for the next record: the open one has
    // 61 bytes of header and a record of 209, and 721 bytes of value take 730.
    let exact = "v".repeat(721);
    assert!(producer.send(to(0, &exact)).unwrap().is_done());
    assert_eq!(world.end("t", 0), 6);
    // Without room for more than one record each is sent by the next one.
    let single = world.producer(&[("linger.ms", "5000"), ("batch.size", "0")]);
    let first = single.send(to(0, &value)).unwrap();
    assert!(!first.is_done());
    let second = single.send(to(0, &value)).unwrap();
    assert!(first.is_done() && !second.is_done());
}

#[test]
fn flush_sends_what_lingers_and_callbacks_run_in_the_order_of_the_sends() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(&[("linger.ms", "60000"), ("delivery.timeout.ms", "120000")]);
    let told = Told::default();
    for i in 0..10 {
        drop(producer.send_with(to(0, &i.to_string()), told.callback()).unwrap());
    }
    world.clock.advance(ms(500));
    assert!(told.take().is_empty());
    let before = world.clock.now();
    producer.flush().unwrap();
    assert_eq!(world.clock.now(), before, "flushing takes no time");
    assert_eq!(told.take(), (0..10).map(Ok).collect::<Vec<_>>());
    producer.flush().unwrap();
    assert_eq!(world.values("t", 0).concat(), "0123456789");
}

#[test]
fn records_without_a_key_share_the_partition_of_their_batch() {
    let world = World::new();
    world.topic("t", 6, &[]);
    let producer = world.producer(SLOW);
    let futures: Vec<_> =
        (0..40).map(|_| producer.send(ProducerRecord::new("t").value("v")).unwrap()).collect();
    producer.flush().unwrap();
    let mut used: Vec<_> =
        futures.into_iter().map(|future| future.wait().unwrap().partition()).collect();
    used.dedup();
    assert_eq!(used.len(), 1);
}

#[test]
fn one_bad_record_fails_its_batch_and_each_is_told_its_own_part() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(SLOW);
    let told = Told::default();
    let late = world.clock.now().wall_ms + 7_200_000;
    let send = |record| drop(producer.send_with(record, told.callback()).unwrap());
    send(to(0, "a"));
    send(to(0, "b").timestamp(late));
    send(to(0, "c"));
    producer.flush().unwrap();
    let (innocent, late_name) = (Err("KafkaException"), Err("INVALID_TIMESTAMP"));
    assert_eq!(told.take(), [innocent, late_name, innocent]);
    assert_eq!(world.end("t", 0), 0);
    // Of several bad ones each is an invalid record, whatever is wrong.
    send(to(0, "a").timestamp(late));
    send(to(0, "b"));
    send(to(0, "c").timestamp(late));
    producer.flush().unwrap();
    let bad = Err("INVALID_RECORD");
    assert_eq!(told.take(), [bad, innocent, bad]);
    send(to(0, "d").timestamp(late));
    producer.flush().unwrap();
    assert_eq!(told.take(), [late_name], "alone it gets the batch's error");
    send(to(0, "e"));
    producer.flush().unwrap();
    assert_eq!(world.values("t", 0), ["e"]);
}

#[test]
fn a_compacted_topic_refuses_the_record_without_a_key() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let compact = ConfigChange::Set("cleanup.policy".to_owned(), "compact".to_owned());
    world.broker.inner().store_unbuilt("t", &[compact]).unwrap();
    let producer = world.producer(SLOW);
    let told = Told::default();
    drop(producer.send_with(to(0, "a").key("k"), told.callback()).unwrap());
    drop(producer.send_with(to(0, "b"), told.callback()).unwrap());
    producer.flush().unwrap();
    assert_eq!(told.take(), [Err("KafkaException"), Err("INVALID_RECORD")]);
}

#[test]
fn a_batch_above_the_topics_limit_is_split_and_stored_in_order() {
    let world = World::new();
    world.topic("t", 1, &[("max.message.bytes", "400")]);
    let producer = world.producer(SLOW);
    let told = Told::default();
    let values: Vec<String> = (0..12).map(|i| format!("{}{i}", "0123456789".repeat(4))).collect();
    for value in &values {
        drop(producer.send_with(to(0, value), told.callback()).unwrap());
    }
    producer.flush().unwrap();
    assert_eq!(told.take(), (0..12).map(Ok).collect::<Vec<_>>());
    assert_eq!(world.values("t", 0), values);
}

#[test]
fn a_record_that_is_too_large_alone_fails_alone() {
    let world = World::new();
    world.topic("t", 1, &[("max.message.bytes", "200")]);
    let producer = world.producer(SLOW);
    let told = Told::default();
    let large = "v".repeat(300);
    for value in ["a", &large, "b", "c"] {
        drop(producer.send_with(to(0, value), told.callback()).unwrap());
    }
    producer.flush().unwrap();
    assert_eq!(told.take(), [Ok(0), Err("MESSAGE_TOO_LARGE"), Ok(1), Ok(2)]);
    assert_eq!(world.values("t", 0), ["a", "b", "c"]);
}

#[test]
fn a_batch_that_meets_a_full_disk_is_tried_again_until_there_is_room() {
    let (world, fault) = World::faulty();
    world.topic("t", 1, &[]);
    let producer = world.producer(&[("linger.ms", "10")]);
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Create]).on("t-0").sticky());
    let first = producer.send(to(0, "a")).unwrap();
    world.clock.advance(ms(10));
    assert!(!first.is_done(), "the error may pass");
    let second = producer.send(to(0, "b")).unwrap();
    world.clock.advance(ms(5000));
    assert!(!first.is_done() && !second.is_done());
    fault.heal();
    assert_eq!(first.wait().unwrap().offset(), 0, "the older batch goes first");
    assert_eq!(second.wait().unwrap().offset(), 1);
}

#[test]
fn the_delivery_timeout_ends_the_attempts() {
    let (world, fault) = World::faulty();
    world.topic("t", 1, &[]);
    let producer = world.producer(&[
        ("linger.ms", "10"),
        ("request.timeout.ms", "1000"),
        ("delivery.timeout.ms", "3000"),
    ]);
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Create]).on("t-0").sticky());
    let start = world.clock.now().mono;
    let failed = failure(&producer, to(0, "a").key("k"));
    assert_eq!(failed.kafka_name(), "REQUEST_TIMED_OUT");
    assert_eq!(failed.root_kind(), ErrorKind::StorageFull);
    assert_eq!(failed.record().unwrap().key_bytes(), Some(&b"k"[..]));
    assert_eq!(world.clock.now().mono, start + ms(3000));
}

#[test]
fn retries_bound_the_attempts() {
    let (world, fault) = World::faulty();
    world.topic("t", 1, &[]);
    let producer = world.producer(&[("linger.ms", "10"), ("retries", "2")]);
    let mut rule = Rule::nth(0, Failure::Full).of(&[Call::Create]).on("t-0");
    rule = rule.sticky();
    fault.fail(rule);
    let before = fault.calls_of(Call::Create);
    assert_eq!(failure(&producer, to(0, "a")).kind(), ErrorKind::StorageFull);
    assert_eq!(fault.calls_of(Call::Create) - before, 3, "once, and two retries");
}

#[test]
fn pauses_between_attempts_double_with_jitter_and_stay_below_their_limit() {
    let time_of = |first: &str, most: &str, retries: &str| {
        let (world, fault) = World::faulty();
        world.topic("t", 1, &[]);
        let producer = world.producer(&[
            ("linger.ms", "10"),
            ("retry.backoff.ms", first),
            ("retry.backoff.max.ms", most),
            ("retries", retries),
        ]);
        fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Create]).on("t-0").sticky());
        let start = world.clock.now().mono;
        assert_eq!(failure(&producer, to(0, "a")).kind(), ErrorKind::StorageFull);
        world.clock.now().mono - start - ms(10)
    };
    let doubled = time_of("100", "10000", "4");
    assert!((ms(1200)..=ms(1800)).contains(&doubled), "{doubled:?}");
    assert_ne!(doubled, ms(1500), "there is jitter");
    let limited = time_of("100", "200", "40");
    assert!((ms(80 + 39 * 160)..ms(120 + 39 * 200)).contains(&limited), "{limited:?}");
    // Nothing can grow, and nothing varies.
    assert_eq!(time_of("100", "100", "5"), ms(500));
    assert_eq!(time_of("500", "100", "5"), ms(500));
}

#[test]
fn a_full_buffer_blocks_the_send_for_max_block_ms() {
    let (world, fault) = World::faulty();
    world.topic("t", 1, &[]);
    world.topic("u", 1, &[]);
    let producer = world.producer(&[
        ("buffer.memory", "32768"),
        ("batch.size", "1000"),
        ("linger.ms", "20000"),
        ("max.block.ms", "700"),
        ("delivery.timeout.ms", "22000"),
        ("request.timeout.ms", "2000"),
    ]);
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Create]).on("t-0").sticky());
    let told = Told::default();
    let value = "v".repeat(15_000);
    for _ in 0..2 {
        drop(producer.send_with(to(0, &value), told.callback()).unwrap());
    }
    let start = world.clock.now().mono;
    drop(producer.send_with(to(0, &value), told.callback()).unwrap());
    assert_eq!(world.clock.now().mono, start + ms(700));
    assert_eq!(told.take(), [Err("BufferExhaustedException")]);
    producer.flush().unwrap();
    assert_eq!(told.take(), [Err("REQUEST_TIMED_OUT"), Err("REQUEST_TIMED_OUT")]);
    let after = ProducerRecord::new("u").value(&value);
    producer.send(after).unwrap().wait().unwrap();
}

#[test]
fn a_full_buffer_sends_what_lingers_instead_of_blocking() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(&[
        ("buffer.memory", "32768"),
        ("batch.size", "1000"),
        ("linger.ms", "60000"),
    ]);
    let value = "v".repeat(15_000);
    let before = world.clock.now();
    for _ in 0..20 {
        drop(producer.send(to(0, &value)).unwrap());
    }
    assert_eq!(world.clock.now(), before);
    assert!(world.end("t", 0) >= 18);
}

#[test]
fn send_all_goes_behind_what_lingers_and_takes_it_along() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(SLOW);
    let first = producer.send(to(0, "a")).unwrap();
    let rest = producer.send_all([to(0, "b"), to(0, "c")]).unwrap();
    assert!(first.is_done() && rest.iter().all(super::super::SendFuture::is_done));
    assert_eq!(world.values("t", 0), ["a", "b", "c"]);
}

#[test]
fn a_topic_deleted_under_a_batch_fails_it_with_kafkas_error() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(SLOW);
    let future = producer.send(to(0, "a")).unwrap();
    world.broker.admin().delete_topic("t").unwrap();
    let failed = future.wait().unwrap_err();
    assert_eq!(failed.kafka_name(), "REQUEST_TIMED_OUT");
}
