//! Transactions as a producer has them: what each call says in each state, what failures make of a
//! transaction, and that threads never leave one hanging.

use super::*;
use crate::admin::OffsetSpec;
use crate::consumer::{GroupMetadata, OffsetAndMetadata};
use crate::storage::faults::{Call, Failure, Rule};
use crate::sync::thread;
use crate::topic::TopicPartition;
use std::collections::BTreeMap;

const ID: &str = "transactional.id";

fn transactional(world: &World, more: &[(&str, &str)]) -> Producer {
    let config: Vec<_> = [(ID, "x")].into_iter().chain(more.iter().copied()).collect();
    let producer = world.producer(&config);
    producer.init_transactions().unwrap();
    producer
}

fn offsets(topic: &str, offset: i64) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
    BTreeMap::from([(TopicPartition::new(topic, 0), OffsetAndMetadata::new(offset))])
}

/// The end that `read_committed` readers see, and the log's.
fn ends(world: &World, partition: i32) -> (i64, i64) {
    let log = world.log("t", partition);
    (log.last_stable_offset().unwrap(), log.log_end_offset().unwrap())
}

/// The values that a `read_committed` reader gets.
fn committed(world: &World) -> Vec<String> {
    let mut reader = world.broker.reader("t", 0, crate::ReadFrom::Beginning).unwrap();
    reader = reader.isolation_level(IsolationLevel::ReadCommitted);
    let mut values = Vec::new();
    while reader.position() < ends(world, 0).0 {
        for record in &reader.read(Duration::ZERO).unwrap() {
            values.push(text(record.value()).unwrap_or_default());
        }
    }
    values
}

/// What each call says now: Kafka's name, and that of the cause.
fn answers(producer: &Producer) -> Vec<(&'static str, &'static str)> {
    let name = |outcome: Result<(), Error>| match outcome {
        Ok(()) => "ok",
        Err(error) => error.kafka_name(),
    };
    let send = producer.send(to(0, "v")).and_then(|future| future.wait()).map(|_| ());
    let group = GroupMetadata::new("g");
    vec![
        ("send", name(send)),
        ("offsets", name(producer.send_offsets_to_transaction(&offsets("t", 1), &group))),
        ("init", name(producer.init_transactions())),
        ("begin", name(producer.begin_transaction())),
    ]
}

#[test]
fn calls_out_of_turn_are_refused_and_leave_nothing_behind() {
    const ILLEGAL: &str = "IllegalStateException";
    let world = World::new();
    world.topic("t", 1, &[]);
    let plain = world.producer(&[]);
    for refused in [
        plain.init_transactions(),
        plain.begin_transaction(),
        plain.commit_transaction(),
        plain.abort_transaction(),
    ] {
        assert_eq!(kind(refused), ErrorKind::IllegalState);
    }
    let producer = world.producer(&[(ID, "x")]);
    assert_eq!(kind(producer.begin_transaction()), ErrorKind::IllegalState);
    // Departure: D71. Kafka's client keeps the record, and sends it with the next transaction.
    let early = producer.send(to(0, "early")).unwrap_err();
    assert_eq!((early.kind(), early.record().is_some()), (ErrorKind::IllegalState, true));
    producer.init_transactions().unwrap();
    assert_eq!(kind(producer.init_transactions()), ErrorKind::IllegalState);
    assert_eq!(kind(producer.send_all([to(0, "between")])), ErrorKind::IllegalState);
    for _ in 0..2 {
        assert_eq!(producer.commit_transaction().unwrap_err().kafka_name(), ILLEGAL);
        assert_eq!(producer.abort_transaction().unwrap_err().kafka_name(), ILLEGAL);
    }
    producer.begin_transaction().unwrap();
    assert_eq!(producer.begin_transaction().unwrap_err().kafka_name(), ILLEGAL);
    producer.commit_transaction().unwrap();
    assert_eq!(ends(&world, 0), (0, 0), "nothing was sent");
    producer.close().unwrap();
    assert!(answers(&producer).iter().all(|(_, said)| *said == ILLEGAL));
}

#[test]
fn a_lingering_record_is_committed_with_its_transaction_or_dropped() {
    for linger in ["0", "1000"] {
        let world = World::new();
        world.topic("t", 1, &[]);
        let producer = transactional(&world, &[("linger.ms", linger)]);
        producer.begin_transaction().unwrap();
        let told = Told::default();
        drop(producer.send_with(to(0, "a"), told.callback()).unwrap());
        drop(producer.send_all([to(0, "b"), to(0, "c")]).unwrap());
        assert_eq!(ends(&world, 0).0, 0);
        producer.commit_transaction().unwrap();
        assert_eq!((told.take(), ends(&world, 0)), (vec![Ok(0)], (4, 4)));
        producer.begin_transaction().unwrap();
        let dropped = producer.send(to(0, "d")).unwrap();
        producer.abort_transaction().unwrap();
        assert_eq!(committed(&world), ["a", "b", "c"]);
        match linger {
            "0" => assert_eq!((dropped.wait().unwrap().offset(), ends(&world, 0)), (4, (6, 6))),
            _ => {
                let dropped = dropped.wait().unwrap_err();
                assert_eq!(dropped.kind(), ErrorKind::TransactionAborted);
                assert!(dropped.record().is_some());
                assert_eq!(ends(&world, 0), (4, 4), "the partition was not in it");
            }
        }
    }
}

#[test]
fn a_failed_send_is_told_by_every_call_until_the_abort() {
    let world = World::new();
    world.topic("t", 1, &[("max.message.bytes", "300")]);
    let producer = transactional(&world, &[("max.block.ms", "1000")]);
    for value in ["v".repeat(400), "v".repeat(2 << 20)] {
        producer.begin_transaction().unwrap();
        producer.send_sync(to(0, "first")).unwrap();
        assert_eq!(failure(&producer, to(0, &value)).kind(), ErrorKind::RecordTooLarge);
        assert!(answers(&producer).iter().all(|(_, said)| *said == "KafkaException"));
        let told = producer.commit_transaction().unwrap_err();
        assert_eq!(told.root_kind(), ErrorKind::RecordTooLarge);
        assert_eq!(told.kafka_name(), "KafkaException", "the sends told it");
        producer.abort_transaction().unwrap();
    }
    producer.begin_transaction().unwrap();
    // A record that was refused for the topic's absence could have been stored later.
    let missing = failure(&producer, ProducerRecord::new("nowhere").value("v"));
    assert_eq!(missing.kind(), ErrorKind::UnknownTopicOrPartition);
    let told = producer.commit_transaction().unwrap_err();
    assert_eq!(told.root_kind(), ErrorKind::TransactionAbortable);
    producer.abort_transaction().unwrap();
    producer.begin_transaction().unwrap();
    producer.send_sync(to(0, "last")).unwrap();
    producer.commit_transaction().unwrap();
    assert_eq!(committed(&world), ["last"]);
}

#[test]
fn offsets_of_an_unknown_partition_and_odd_metadata_are_refused_at_once() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = transactional(&world, &[]);
    let group = GroupMetadata::new("g");
    let send = |offsets: &BTreeMap<_, _>, group: &GroupMetadata| {
        producer.send_offsets_to_transaction(offsets, group)
    };
    assert!(send(&BTreeMap::new(), &group).is_ok(), "nothing is no matter");
    producer.begin_transaction().unwrap();
    let nobody = GroupMetadata::new("g").as_member("", 3);
    assert_eq!(kind(send(&offsets("t", 1), &nobody)), ErrorKind::IllegalArgument);
    assert_eq!(kind(send(&offsets("t", -1), &group)), ErrorKind::IllegalArgument);
    send(&offsets("t", 1), &group).unwrap();
    // Departure: D70.
    let unknown = send(&offsets("nowhere", 1), &group).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::UnknownTopicOrPartition);
    assert_eq!(unknown.kafka_name(), "REQUEST_TIMED_OUT");
    assert_eq!(kind(producer.commit_transaction()), ErrorKind::Kafka);
    producer.abort_transaction().unwrap();
    producer.begin_transaction().unwrap();
    send(&offsets("t", 1), &group).unwrap();
    producer.commit_transaction().unwrap();
    let stored = world.broker.admin().list_group_offsets("g").unwrap();
    assert_eq!(stored[&TopicPartition::new("t", 0)].offset(), 1);
    let empty = GroupMetadata::new("");
    producer.begin_transaction().unwrap();
    assert_eq!(kind(send(&offsets("t", 2), &empty)), ErrorKind::Kafka);
    assert_eq!(kind(producer.abort_transaction()), ErrorKind::Kafka, "it is fatal");
}

#[test]
fn a_commit_that_times_out_can_only_be_repeated() {
    let (world, fault) = World::faulty();
    world.topic("t", 1, &[("internal.segment.bytes", "4096")]);
    let more = [("linger.ms", "5"), ("max.block.ms", "500"), ("batch.size", "1000")];
    let producer = transactional(&world, &more);
    producer.begin_transaction().unwrap();
    producer.send_sync(to(0, "first")).unwrap();
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Create, Call::Allocate]).sticky());
    let value = "v".repeat(1500);
    for _ in 0..4 {
        drop(producer.send(to(0, &value)).unwrap());
    }
    let late = producer.commit_transaction().unwrap_err();
    assert_eq!((late.kind(), late.is_retriable()), (ErrorKind::Timeout, true));
    for refused in [producer.abort_transaction(), producer.begin_transaction()] {
        assert_eq!(kind(refused), ErrorKind::IllegalState);
    }
    assert_eq!(kind(producer.send(to(0, "more"))), ErrorKind::IllegalState);
    fault.heal();
    producer.commit_transaction().unwrap();
    assert_eq!(committed(&world).len(), 5);
    producer.begin_transaction().unwrap();
    producer.abort_transaction().unwrap();
}

#[test]
fn a_record_that_expires_leaves_a_transaction_that_can_only_be_aborted() {
    let (world, fault) = World::faulty();
    world.topic("t", 1, &[("internal.segment.bytes", "4096")]);
    let more = [
        ("linger.ms", "5"),
        ("delivery.timeout.ms", "1000"),
        ("request.timeout.ms", "900"),
        ("batch.size", "1000"),
    ];
    let producer = transactional(&world, &more);
    producer.begin_transaction().unwrap();
    producer.send_sync(to(0, "first")).unwrap();
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Create, Call::Allocate]).sticky());
    let value = "v".repeat(3000);
    let sends: Vec<_> = (0..3).map(|_| producer.send(to(0, &value)).unwrap()).collect();
    let expired = sends.into_iter().filter_map(|send| send.wait().err()).collect::<Vec<_>>();
    assert!(expired.iter().any(|error| error.kind() == ErrorKind::Timeout), "{expired:?}");
    fault.heal();
    let told = producer.commit_transaction().unwrap_err();
    assert_eq!((told.kafka_name(), told.root_kind()), ("KafkaException", ErrorKind::Kafka));
    producer.abort_transaction().unwrap();
    assert!(committed(&world).is_empty());
}

#[test]
fn after_a_fencing_every_call_says_so() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let old = transactional(&world, &[]);
    old.begin_transaction().unwrap();
    old.send_sync(to(0, "old")).unwrap();
    let new = transactional(&world, &[]);
    assert_eq!(failure(&old, to(0, "late")).kind(), ErrorKind::InvalidProducerEpoch);
    assert_eq!(kind(old.abort_transaction()), ErrorKind::ProducerFenced);
    assert!(answers(&old).iter().all(|(_, said)| *said == "PRODUCER_FENCED"));
    assert_eq!(kind(old.commit_transaction()), ErrorKind::ProducerFenced);
    old.close().unwrap();
    new.begin_transaction().unwrap();
    new.send_sync(to(0, "new")).unwrap();
    new.commit_transaction().unwrap();
    assert_eq!(committed(&world), ["new"]);
}

#[test]
fn a_record_that_fails_with_its_transaction_comes_back_with_its_own_place() {
    for linger in ["0", "1000"] {
        let world = World::new();
        world.topic("t", 2, &[]);
        world.topic("u", 1, &[]);
        let old = transactional(&world, &[("linger.ms", linger)]);
        old.begin_transaction().unwrap();
        old.send_sync(to(1, "old")).unwrap();
        drop(transactional(&world, &[]));
        let keyed = || ProducerRecord::new("t").key("foobar").value("keyed");
        let other = || ProducerRecord::new("u").partition(0).value("other");
        let sent = [to(1, "same"), other(), to(0, "next"), keyed()].map(|r| old.send(r));
        old.flush().unwrap();
        for (record, sent) in [to(1, "same"), other(), to(0, "next"), keyed()].iter().zip(sent) {
            let error = sent.and_then(|future| future.wait()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidProducerEpoch, "{error}");
            let place = |record: &ProducerRecord<'_>| {
                (record.topic().to_owned(), record.chosen_partition().unwrap_or(0))
            };
            assert_eq!(error.topic(), Some(record.topic()));
            assert_eq!(error.partition().unwrap_or(0), place(record).1, "{linger} {error}");
            let back = error.into_record().unwrap();
            assert_eq!(place(&back), place(record), "murmur2 has \"foobar\" in partition 0 of 2");
        }
    }
}

#[test]
fn a_close_with_time_aborts_and_one_without_leaves_it_to_the_next_producer() {
    let world = World::new();
    world.topic("t", 1, &[]);
    for (timeout, stable) in [(None, true), (Some(ms(100)), true), (Some(Duration::ZERO), false)] {
        let producer = transactional(&world, &[("linger.ms", "5")]);
        producer.begin_transaction().unwrap();
        producer.send_sync(to(0, "open")).unwrap();
        match timeout {
            None => producer.close().unwrap(),
            Some(timeout) => producer.close_timeout(timeout).unwrap(),
        }
        let (stable_end, end) = ends(&world, 0);
        assert_eq!(stable_end == end, stable, "{timeout:?}");
    }
    let dropped = transactional(&world, &[]);
    dropped.begin_transaction().unwrap();
    dropped.send_sync(to(0, "open")).unwrap();
    drop(dropped);
    assert_ne!(ends(&world, 0).0, ends(&world, 0).1);
    transactional(&world, &[]);
    assert_eq!(ends(&world, 0).0, ends(&world, 0).1);
    assert!(committed(&world).is_empty());
}

#[test]
fn a_sync_that_fails_fails_the_transaction() {
    let (world, fault) = World::faulty();
    world.topic("t", 1, &[("flush.messages", "1")]);
    world.topic("u", 1, &[]);
    let producer = transactional(&world, &[]);
    producer.begin_transaction().unwrap();
    producer.send_sync(ProducerRecord::new("u").value("other")).unwrap();
    fault.fail(Rule::nth(0, Failure::Io).of(&[Call::SyncData]).on("t-0"));
    let failed = producer.send(to(0, "v")).unwrap().wait().unwrap_err();
    assert_eq!((failed.kind(), failed.possibly_written()), (ErrorKind::StorageFailed, true));
    assert_eq!(producer.commit_transaction().unwrap_err().root_kind(), ErrorKind::Io);
    let spec = OffsetSpec::Latest;
    let latest = |isolation| {
        let found = world.broker.admin().list_offsets("u", 0, spec, isolation).unwrap();
        found.offset().unwrap()
    };
    assert_eq!(latest(IsolationLevel::ReadCommitted), 0, "nothing of it is seen");
}

/// Threads send while another begins, commits and aborts: what a commit told is there, what an
/// abort took is not, and no partition is left in a transaction that nobody ends.
#[test]
fn threads_send_into_one_transaction_or_the_next_and_into_none_in_between() {
    const THREADS: i32 = 3;
    for linger in ["0", "1"] {
        let broker = Broker::in_memory().unwrap();
        broker.admin().create_topic("t", THREADS, TopicConfig::default()).unwrap();
        let config = [(ID, "x"), ("linger.ms", linger)];
        let config = ProducerConfig::from_properties(config).unwrap();
        let producer = broker.producer(config).unwrap();
        producer.init_transactions().unwrap();
        let over = Arc::new(crate::sync::AtomicBool::new(false));
        let threads: Vec<_> = (0..THREADS)
            .map(|partition| {
                let (producer, over) = (producer.clone(), over.clone());
                thread::spawn_named("sender", move || {
                    while !over.load(crate::sync::Ordering::Relaxed) {
                        if let Ok(sent) = producer.send(to(partition, "v")) {
                            drop(sent.wait());
                        }
                    }
                })
                .unwrap()
            })
            .collect();
        for round in 0..60 {
            producer.begin_transaction().unwrap();
            let ended = match round % 3 {
                0 => producer.abort_transaction(),
                _ => producer.commit_transaction(),
            };
            if let Err(failed) = ended {
                assert!(!failed.is_fatal(), "{failed}");
                producer.abort_transaction().unwrap();
            }
        }
        over.store(true, crate::sync::Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        for partition in 0..THREADS {
            let topic = broker.inner().topic("t").unwrap();
            let log = topic.partition(partition).unwrap().log().unwrap().clone();
            let (stable, end) = (log.last_stable_offset().unwrap(), log.log_end_offset().unwrap());
            assert_eq!(stable, end, "partition {partition}, linger {linger}");
        }
    }
}

/// Whoever has the last handle drops it with a record that lingers: nobody could end its
/// transaction, so it must not begin one.
#[test]
fn a_producer_that_is_dropped_opens_no_transaction_for_what_lingers() {
    let world = World::new();
    world.topic("t", 2, &[]);
    let producer = transactional(&world, &[("linger.ms", "1000")]);
    producer.begin_transaction().unwrap();
    let told = Told::default();
    drop(producer.send_with(to(0, "v"), told.callback()).unwrap());
    drop(producer);
    assert_eq!(told.take(), [Err("TransactionAbortedException")]);
    assert_eq!(ends(&world, 0), (0, 0));
}

/// A consumer of group `g` with both partitions of `t`.
fn of_group(world: &World, reset: &str) -> crate::Consumer {
    let config = [("group.id", "g"), ("auto.offset.reset", reset)];
    let config = crate::ConsumerConfig::from_properties(config).unwrap();
    let mut consumer = world.broker.consumer(config).unwrap();
    consumer.assign(&[TopicPartition::new("t", 0), TopicPartition::new("t", 1)]).unwrap();
    consumer
}

fn polled(consumer: &mut crate::Consumer) -> Result<Vec<(i32, i64)>, Error> {
    let mut found = Vec::new();
    loop {
        let records = consumer.poll(Duration::ZERO)?;
        if records.is_empty() {
            found.sort_unstable();
            return Ok(found);
        }
        found.extend(records.iter().map(|record| (record.partition(), record.offset())));
    }
}

#[test]
fn new_partitions_wait_together_for_an_offset_that_is_pending() {
    let world = World::new();
    world.topic("t", 2, &[]);
    let plain = world.producer(&[]);
    for partition in [0, 0, 1] {
        plain.send_sync(to(partition, "v")).unwrap();
    }
    let producer = transactional(&world, &[]);
    producer.begin_transaction().unwrap();
    let group = GroupMetadata::new("g");
    producer.send_offsets_to_transaction(&offsets("t", 1), &group).unwrap();
    let (mut earliest, mut none) = (of_group(&world, "earliest"), of_group(&world, "none"));
    assert_eq!(polled(&mut earliest).unwrap(), []);
    assert_eq!(polled(&mut none).unwrap(), [], "that there is none is not known yet");
    producer.commit_transaction().unwrap();
    assert_eq!(polled(&mut earliest).unwrap(), [(0, 1), (1, 0)]);
    assert_eq!(kind(none.poll(Duration::ZERO)), ErrorKind::NoOffsetForPartition);
}

#[test]
fn offsets_that_an_administrator_deletes_are_not_pending_any_more() {
    let world = World::new();
    world.topic("t", 2, &[]);
    world.producer(&[]).send_sync(to(0, "v")).unwrap();
    let producer = transactional(&world, &[]);
    producer.begin_transaction().unwrap();
    let group = GroupMetadata::new("g");
    producer.send_offsets_to_transaction(&offsets("t", 1), &group).unwrap();
    let admin = world.broker.admin();
    let deleted = admin.delete_group_offsets("g", &[TopicPartition::new("t", 0)]).unwrap();
    assert!(deleted.values().all(Result::is_ok), "{deleted:?}");
    assert_eq!(polled(&mut of_group(&world, "earliest")).unwrap(), [(0, 0)]);
    producer.commit_transaction().unwrap();
    assert!(admin.list_group_offsets("g").unwrap().is_empty());
}

#[test]
fn an_administrator_ends_one_partition_also_where_nothing_is_open() {
    let world = World::new();
    world.topic("t", 2, &[]);
    let producer = transactional(&world, &[]);
    producer.begin_transaction().unwrap();
    producer.send_sync(to(0, "a")).unwrap();
    producer.send_sync(to(1, "b")).unwrap();
    let admin = world.broker.admin();
    let id = admin.describe_producers("t", 0).unwrap()[0].producer_id();
    for end in [2, 3] {
        admin.abort_transaction("t", 0, id).unwrap();
        assert_eq!(ends(&world, 0), (end, end), "a second marker ends nothing");
    }
    assert_eq!(ends(&world, 1), (0, 1));
    assert_eq!(kind(admin.abort_transaction("t", 0, id + 1)), ErrorKind::InvalidTxnState);
    producer.send_sync(to(0, "c")).unwrap();
    producer.commit_transaction().unwrap();
    assert_eq!(committed(&world), ["c"]);
    admin.abort_transaction("t", 0, id).unwrap();
    assert_eq!(committed(&world), ["c"]);
}

#[test]
fn nobody_is_removed_from_a_group_without_members() {
    let world = World::new();
    let admin = world.broker.admin();
    let missing = admin.remove_all_members("g").unwrap_err();
    let seen = (missing.kind(), missing.root_kind());
    assert_eq!(seen, (ErrorKind::Kafka, ErrorKind::GroupIdNotFound));
    world.topic("t", 1, &[]);
    let offset = crate::GroupOffset::new(0).unwrap();
    let offsets = BTreeMap::from([(TopicPartition::new("t", 0), offset)]);
    admin.alter_group_offsets("g", &offsets).unwrap();
    assert_eq!(kind(admin.remove_all_members("g")), ErrorKind::IllegalArgument);
}
