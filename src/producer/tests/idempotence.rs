//! Ids, epochs and sequences of producers, as batches in the log have them, and what is stored
//! once because of them.

use super::*;
use crate::producer::RecordMetadata;
use crate::storage::faults::{Call, Failure, Rule};
use crate::sync::thread;

const IDEMPOTENCE: &str = "enable.idempotence";

/// Epoch and sequence of each batch.
fn numbers(world: &World, partition: i32) -> Vec<(i16, i32)> {
    let mut batches: Vec<_> = world.read("t", partition);
    batches.dedup_by_key(|record| record.batch);
    batches.into_iter().map(|record| (record.producer.1, record.producer.2)).collect()
}

fn sent(producer: &Producer, record: ProducerRecord<'_>) -> RecordMetadata {
    producer.send(record).unwrap().wait().unwrap()
}

#[test]
fn batches_are_numbered_by_their_records_in_each_partition() {
    for linger in ["0", "5"] {
        for codec in Codec::ALL.into_iter().filter(|codec| codec.is_available()) {
            let world = World::new();
            world.topic("t", 2, &[]);
            let config = [("linger.ms", linger), ("compression.type", codec.name())];
            let producer = world.producer(&config);
            sent(&producer, to(0, "a"));
            producer.send_all([to(0, "b"), to(1, "c"), to(0, "d")]).unwrap();
            let callback = Told::default();
            drop(producer.send_with(to(0, "e"), callback.callback()).unwrap());
            producer.flush().unwrap();
            sent(&producer, to(1, "f"));
            let at = format!("linger {linger}, {codec}");
            assert_eq!(numbers(&world, 0), [(0, 0), (0, 1), (0, 3)], "{at}");
            assert_eq!(numbers(&world, 1), [(0, 0), (0, 1)], "{at}");
            assert_eq!(world.values("t", 0), ["a", "b", "d", "e"], "{at}");
            let producers = world.read("t", 0).into_iter().map(|record| record.producer.0);
            assert!(producers.clone().all(|id| id >= 0 && Some(id) == producers.clone().next()));
        }
    }
}

#[test]
fn a_topic_that_packs_batches_itself_numbers_them_all_the_same() {
    let world = World::new();
    let Some(codec) = Codec::ALL.into_iter().find(|c| c.is_available() && *c != Codec::None) else {
        return;
    };
    world.topic("t", 1, &[("compression.type", codec.name())]);
    let producer = world.producer(&[]);
    sent(&producer, to(0, "a"));
    sent(&producer, to(0, "b"));
    assert_eq!(numbers(&world, 0), [(0, 0), (0, 1)]);
    assert!(world.read("t", 0).iter().all(|record| record.codec == codec));
    world.log("t", 0);
}

#[test]
fn what_idempotence_needs_decides_where_it_was_not_chosen() {
    for (key, value) in [("acks", "1"), ("acks", "0"), ("retries", "0"), (IDEMPOTENCE, "false")] {
        let world = World::new();
        world.topic("t", 1, &[]);
        sent(&world.producer(&[(key, value)]), to(0, "a"));
        assert_eq!(world.read("t", 0)[0].producer, (-1, -1, -1), "{key}={value}");
    }
}

#[test]
fn each_producer_has_an_id_of_its_own_and_they_rise_as_producers_are_made() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let (first, second) = (world.producer(&[]), world.producer(&[]));
    let plain = world.producer(&[(IDEMPOTENCE, "false")]);
    let third = world.producer(&[]);
    sent(&third, to(0, "a"));
    sent(&plain, to(0, "b"));
    sent(&second, to(0, "c"));
    sent(&first, to(0, "d"));
    let ids: Vec<i64> = world.read("t", 0).iter().map(|record| record.producer.0).collect();
    assert!(ids[3] < ids[2] && ids[2] < ids[0] && ids[1] == -1, "{ids:?}");
}

#[test]
fn a_refused_batch_raises_the_epoch_and_every_partition_begins_at_0() {
    for linger in ["0", "5"] {
        let world = World::new();
        world.topic("t", 2, &[("max.message.bytes", "300")]);
        let producer = world.producer(&[("linger.ms", linger)]);
        sent(&producer, to(0, "a"));
        sent(&producer, to(1, "b"));
        let refused = failure(&producer, to(0, &"v".repeat(400)));
        assert_eq!(refused.kind(), ErrorKind::RecordTooLarge);
        sent(&producer, to(1, "c"));
        sent(&producer, to(0, "d"));
        sent(&producer, to(0, "e"));
        assert_eq!(numbers(&world, 0), [(0, 0), (1, 0), (1, 1)], "linger {linger}");
        assert_eq!(numbers(&world, 1), [(0, 0), (1, 0)], "linger {linger}");
        // What the client refuses never had a number.
        let huge = failure(&producer, to(0, &"v".repeat(2 << 20)));
        assert_eq!(huge.kind(), ErrorKind::RecordTooLarge);
        sent(&producer, to(0, "f"));
        assert_eq!(numbers(&world, 0).last(), Some(&(1, 2)), "linger {linger}");
    }
}

#[test]
fn a_batch_that_is_taken_apart_is_numbered_in_its_parts() {
    let world = World::new();
    world.topic("t", 1, &[("max.message.bytes", "300")]);
    let producer = world.producer(&[("linger.ms", "1000")]);
    let (large, small) = ("v".repeat(150), "v".repeat(20));
    for value in [&large, &large, &small] {
        drop(producer.send(to(0, value)).unwrap());
    }
    producer.flush().unwrap();
    assert_eq!(world.values("t", 0).len(), 3);
    assert_eq!(numbers(&world, 0), [(0, 0), (0, 1)]);
    sent(&producer, to(0, "next"));
    assert_eq!(numbers(&world, 0).last(), Some(&(0, 3)));
}

#[test]
fn a_full_disk_takes_no_number() {
    for linger in ["0", "5"] {
        let (world, fault) = World::faulty();
        world.topic("t", 1, &[("internal.segment.bytes", "4096")]);
        let producer = world.producer(&[("linger.ms", linger), ("retry.backoff.ms", "10")]);
        fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Create, Call::Allocate]));
        let value = "v".repeat(1000);
        for _ in 0..10 {
            drop(producer.send(to(0, &value)).unwrap().wait());
        }
        let numbers = numbers(&world, 0);
        let expected: Vec<_> = (0..numbers.len() as i32).map(|n| (0, n)).collect();
        assert_eq!(numbers, expected, "linger {linger}");
    }
}

#[test]
fn threads_share_the_numbers_of_a_producer_while_its_epoch_rises() {
    const THREADS: usize = 4;
    const SENDS: usize = 200;
    let world = World::new();
    world.topic("t", 1, &[("max.message.bytes", "300")]);
    let producer = world.producer(&[]);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let producer = producer.clone();
            thread::spawn_named("sender", move || {
                for n in 0..SENDS {
                    let value = format!("{thread}:{n}");
                    sent(&producer, to(0, &value));
                    if thread == 0 && n % 10 == 0 {
                        failure(&producer, to(0, &"v".repeat(400)));
                    }
                }
            })
            .unwrap()
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let values = world.values("t", 0);
    assert_eq!(values.len(), THREADS * SENDS);
    for thread in 0..THREADS {
        let prefix = format!("{thread}:");
        let of_thread = values.iter().filter(|value| value.starts_with(&prefix));
        let expected: Vec<_> = (0..SENDS).map(|n| format!("{prefix}{n}")).collect();
        assert!(of_thread.eq(expected.iter()), "each once, in the order of its thread");
    }
    for (before, behind) in numbers(&world, 0).windows(2).map(|pair| (pair[0], pair[1])) {
        let follows = behind == (before.0, before.1 + 1) || behind.0 > before.0 && behind.1 == 0;
        assert!(follows, "{before:?} {behind:?}");
    }
}

#[test]
fn a_name_goes_on_where_it_stopped_and_stores_a_number_once() {
    let world = World::new();
    world.topic("t", 2, &[]);
    let open = || world.producer(&[("name", "importer")]);
    let first = open();
    assert_eq!(first.last_sequence("t", 0).unwrap(), None);
    let taken = ProducerConfig::default().name("importer");
    assert_eq!(kind(world.broker.producer(taken)), ErrorKind::IllegalState);
    sent(&first, to(0, "a"));
    sent(&first, to(0, "b"));
    assert_eq!(first.last_sequence("t", 0).unwrap(), Some(1));
    first.close().unwrap();
    let second = open();
    assert_eq!(second.last_sequence("t", 0).unwrap(), Some(1));
    assert_eq!(second.last_sequence("t", 1).unwrap(), None);
    let numbered = |value, sequence| second.send_numbered(to(0, value), sequence).unwrap().wait();
    assert_eq!(numbered("b", 1).unwrap().offset(), 1, "where it is");
    assert_eq!(numbered("c", 2).unwrap().offset(), 2);
    let gap = numbered("e", 4).unwrap_err();
    assert_eq!((gap.kind(), gap.record().is_some()), (ErrorKind::OutOfOrderSequence, true));
    for _ in 0..6 {
        sent(&second, to(0, "more"));
    }
    assert_eq!(numbered("a", 0).unwrap().offset(), -1, "five batches are known by their place");
    // A refusal takes no number and raises no epoch: the name goes on.
    assert!(second.send_numbered(to(0, "x"), -1).is_err());
    assert_eq!(second.last_sequence("t", 0).unwrap(), Some(8));
    drop(second);
    sent(&open(), to(0, "last"));
    assert_eq!(numbers(&world, 0), (0..10).map(|n| (0, n)).collect::<Vec<_>>());
    let other = world.producer(&[("name", "another")]);
    assert_eq!(other.last_sequence("t", 0).unwrap(), None);
    assert_eq!(kind(world.producer(&[]).last_sequence("t", 0)), ErrorKind::IllegalState);
}
