//! What a disk that fails does to a producer, plain, idempotent or with transactions: the class of
//! the error, whether the record may be there, the record itself, and what goes on.

use crate::place::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use topiclite::storage::faults::{Call, Failure, Rule};
use topiclite::storage::{Fault, Sim};
use topiclite::time::VirtualClock;
use topiclite::{
    Broker, BrokerOptions, Error, ErrorKind, GroupMetadata, IsolationLevel, OffsetAndMetadata,
    Producer, ProducerConfig, ProducerRecord, ReadFrom, TopicConfig, TopicPartition,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sends {
    Plain,
    Idempotent,
    Transactional,
}

const ALL: [Sends; 3] = [Sends::Plain, Sends::Idempotent, Sends::Transactional];

/// A disk whose calls can fail, and a broker on it with a topic of small segments.
struct World {
    fault: Fault,
    broker: Broker,
}

/// The coordinator's segments hold one record each, so that each of its records needs room.
fn open_small(fault: &Fault) -> Broker {
    let properties = [
        ("offsets.topic.num.partitions", "1"),
        ("transaction.state.log.num.partitions", "1"),
        ("transaction.state.log.segment.bytes", "200"),
    ];
    let options = BrokerOptions::from_properties(properties).unwrap();
    let options = options.clock(VirtualClock::stepping().clock()).seed(1);
    options.storage(Arc::new(fault.clone())).open(DIR).unwrap()
}

impl World {
    fn new(durable: bool) -> World {
        let fault = Fault::new(Arc::new(Sim::new()));
        let broker = open_small(&fault);
        let set = [("internal.segment.bytes", "600")];
        let config = TopicConfig::from_properties(set).unwrap();
        let config = if durable { config.flush_messages(1) } else { config };
        broker.admin().create_topic("t", 2, config).unwrap();
        World { fault, broker }
    }

    /// A producer that has sent a few records, each stored, and is inside a transaction.
    fn producer(&self, sends: Sends, linger: u64) -> Producer {
        let config = ProducerConfig::default().linger(Duration::from_millis(linger));
        let config = match sends {
            Sends::Plain => config.enable_idempotence(false),
            Sends::Idempotent => config,
            Sends::Transactional => config.transactional_id("x"),
        };
        let producer = self.broker.producer(config).unwrap();
        if sends == Sends::Transactional {
            producer.init_transactions().unwrap();
            producer.begin_transaction().unwrap();
        }
        for number in 0..3 {
            producer.send_sync(record(&value(number))).unwrap();
        }
        producer
    }

    /// The records that a reader of this isolation gets, in order.
    fn values(&self, isolation: IsolationLevel) -> Vec<String> {
        let reader = self.broker.reader("t", 0, ReadFrom::Beginning).unwrap();
        let mut reader = reader.isolation_level(isolation);
        let mut values = Vec::new();
        loop {
            let records = reader.read(Duration::ZERO).unwrap();
            if records.is_empty() {
                return values;
            }
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
            values.extend(records.iter().map(|record| text(record.value().unwrap())));
        }
    }
}

fn record(value: &str) -> ProducerRecord<'_> {
    ProducerRecord::new("t").partition(0).value(value)
}

/// Sends until a record is refused; returns its number and the error.
fn send_until_refused(producer: &Producer) -> (usize, Error) {
    for number in 3..50 {
        match producer.send_sync(record(&value(number))) {
            Ok(metadata) => assert_eq!(metadata.offset(), number as i64),
            Err(error) => return (number, error),
        }
    }
    panic!("nothing is refused");
}

/// What an error has to say of itself.
struct Told {
    kind: ErrorKind,
    retriable: bool,
    fatal: bool,
    possibly_written: bool,
}

fn is_told(error: &Error, told: &Told, number: usize, what: &str) {
    let seen = (error.root_kind(), error.is_retriable(), error.is_fatal());
    assert_eq!(seen, (told.kind, told.retriable, told.fatal), "{what}: {error}");
    assert!(error.requires_abort(), "{what}: {error}");
    assert_eq!(error.possibly_written(), told.possibly_written, "{what}: {error}");
    let record = error.record().expect("the record comes back");
    assert_eq!((record.topic(), record.value_bytes()), ("t", Some(value(number).as_bytes())));
}

/// Faults that strike an append which needs room, and how it is told.
fn faults() -> Vec<(&'static str, Rule, Told)> {
    let growing = [Call::Create, Call::Allocate];
    let told = |kind, retriable| Told { kind, retriable, fatal: false, possibly_written: false };
    let rule = |failure| Rule::nth(0, failure).sticky();
    vec![
        ("a full disk", rule(Failure::Full).of(&growing), told(ErrorKind::StorageFull, true)),
        ("EIO on write", rule(Failure::Io).of(&growing), told(ErrorKind::Io, true)),
        ("EROFS", rule(Failure::ReadOnly).of(Call::CHANGES), told(ErrorKind::Io, false)),
        ("ENODEV", rule(Failure::NoDevice), told(ErrorKind::Io, false)),
        ("ENXIO", rule(Failure::NoDeviceOrAddress), told(ErrorKind::Io, false)),
    ]
}

/// A record that finds no room comes back, whatever the reason, and is stored once when it is sent
/// again once the disk takes it. What is retriable is retried by a producer that lingers.
#[test]
fn a_record_that_the_disk_does_not_take_comes_back_and_is_stored_once_when_sent_again() {
    for sends in ALL {
        for linger in [0, 5] {
            for (fault, rule, told) in faults() {
                let what = format!("{sends:?}, linger {linger}, {fault}");
                let world = World::new(false);
                let producer = world.producer(sends, linger);
                world.fault.fail(rule);
                let (number, error) = send_until_refused(&producer);
                is_told(&error, &told, number, &what);
                let gave_up = linger > 0 && told.retriable;
                assert_eq!(error.kind() == ErrorKind::Timeout, gave_up, "{what}: {error}");
                world.fault.heal();
                let first = if sends == Sends::Transactional {
                    for refused in [
                        producer.send(record("no")).map(drop),
                        producer.commit_transaction(),
                        producer.begin_transaction(),
                    ] {
                        let refused = refused.unwrap_err();
                        assert_eq!(refused.kind(), ErrorKind::Kafka, "{what}: {refused}");
                        assert!(refused.requires_abort() || gave_up || told.retriable, "{what}");
                    }
                    producer.abort_transaction().unwrap();
                    producer.begin_transaction().unwrap();
                    0
                } else {
                    number
                };
                for number in first..number + 5 {
                    producer.send_sync(record(&value(number))).unwrap();
                }
                if sends == Sends::Transactional {
                    producer.commit_transaction().unwrap();
                }
                let expected: Vec<_> = (0..number + 5).map(value).collect();
                assert_eq!(world.values(IsolationLevel::ReadCommitted), expected, "{what}");
                assert!(world.broker.health().failed_partitions().next().is_none(), "{what}");
            }
        }
    }
}

/// A failed sync is final for the partition, and the record may be there. Other partitions go on.
#[test]
fn a_record_whose_sync_fails_may_be_there_and_its_partition_takes_no_more() {
    let failures = [Failure::IoPagesLost, Failure::ReadOnly, Failure::NoDevice, Failure::Full];
    for (sends, linger) in ALL.into_iter().flat_map(|sends| [(sends, 0), (sends, 5)]) {
        for failure in failures {
            let what = format!("{sends:?}, linger {linger}, {failure:?}");
            let world = World::new(true);
            let producer = world.producer(sends, linger);
            world.fault.fail(Rule::nth(0, failure).of(&[Call::SyncData]).on("t-0").sticky());
            let error = producer.send_sync(record(&value(3))).unwrap_err();
            let kind = error.root_kind();
            assert_eq!(error.kind(), ErrorKind::StorageFailed, "{what}: {error}");
            is_told(
                &error,
                &Told { kind, retriable: false, fatal: true, possibly_written: true },
                3,
                &what,
            );
            world.fault.heal();
            if sends == Sends::Transactional {
                let refused = producer.commit_transaction().unwrap_err();
                assert!(refused.requires_abort(), "{what}: {refused}");
                // The abort is decided, and its marker is what the partition does not take.
                let unmarked = producer.abort_transaction().unwrap_err();
                let told = (unmarked.kind(), unmarked.is_fatal());
                assert_eq!(told, (ErrorKind::StorageFailed, true), "{what}: {unmarked}");
            } else {
                let error = producer.send_sync(record(&value(4))).unwrap_err();
                let told = Told { kind, retriable: false, fatal: true, possibly_written: false };
                assert_eq!(error.kind(), ErrorKind::StorageFailed, "{what}: {error}");
                is_told(&error, &told, 4, &what);
                let other = ProducerRecord::new("t").partition(1).value("goes on");
                assert_eq!(producer.send_sync(other).unwrap().offset(), 0, "{what}");
            }
            // A new life: what was answered is there, and what was not is there at most once.
            drop(producer);
            let World { fault, broker } = world;
            drop(broker);
            let world = World { broker: open_small(&fault), fault };
            let values = world.values(IsolationLevel::ReadUncommitted);
            let expected: Vec<_> = (0..values.len()).map(value).collect();
            assert!(values == expected && (3..=4).contains(&values.len()), "{what}: {values:?}");
            let producer = world.broker.producer(ProducerConfig::default()).unwrap();
            producer.send_sync(record("new")).unwrap();
            let committed = world.values(IsolationLevel::ReadCommitted);
            let seen = if sends == Sends::Transactional { 0 } else { values.len() };
            assert_eq!((committed.len(), committed.last().unwrap().as_str()), (seen + 1, "new"));
        }
    }
}

/// An abort needs room for its markers: without any it runs out of time, and goes on when it is
/// called again.
#[test]
fn an_abort_on_a_full_disk_is_called_again_once_there_is_room() {
    let world = World::new(false);
    let producer = world.producer(Sends::Transactional, 0);
    world.fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Create, Call::Allocate]).sticky());
    let (number, error) = send_until_refused(&producer);
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    // Whatever room is left in the segment, a marker may take.
    let mut aborted = producer.abort_transaction();
    if let Err(error) = &aborted {
        assert_eq!((error.kind(), error.root_kind()), (ErrorKind::Timeout, ErrorKind::StorageFull));
        let other = producer.commit_transaction().unwrap_err();
        assert_eq!(other.kind(), ErrorKind::IllegalState, "{other}");
        world.fault.heal();
        aborted = producer.abort_transaction();
    }
    aborted.unwrap();
    world.fault.heal();
    producer.begin_transaction().unwrap();
    for number in 0..number {
        producer.send_sync(record(&value(number))).unwrap();
    }
    producer.commit_transaction().unwrap();
    let expected: Vec<_> = (0..number).map(value).collect();
    assert_eq!(world.values(IsolationLevel::ReadCommitted), expected);
}

/// What strikes the coordinator's own partition. Calls repeat what may pass for `max.block.ms`;
/// then the same call goes on once it has passed. What does not pass ends the producer, and the
/// next one of its id finishes what was decided, or aborts.
#[test]
fn a_coordinator_whose_partition_fails_is_asked_again_or_its_producer_ends() {
    for (failure, passes) in
        [(Failure::Full, true), (Failure::Io, true), (Failure::ReadOnly, false)]
    {
        for commit in [true, false] {
            let what = format!("{failure:?}, commit {commit}");
            let world = World::new(false);
            let producer = world.producer(Sends::Transactional, 0);
            let end = || match commit {
                true => producer.commit_transaction(),
                false => producer.abort_transaction(),
            };
            // A failed sync would be final, whatever the reason.
            let calls = if passes { &[Call::Create, Call::Allocate] } else { Call::CHANGES };
            let rule = Rule::nth(0, failure).of(calls).on("__transaction_state");
            world.fault.fail(rule.sticky());
            let error = end().unwrap_err();
            let told = (error.kind(), error.is_fatal());
            world.fault.heal();
            match passes {
                true => {
                    assert_eq!(told, (ErrorKind::Timeout, false), "{what}: {error}");
                    end().unwrap();
                }
                false => {
                    assert_eq!(told, (ErrorKind::StorageFailed, true), "{what}: {error}");
                    assert!(end().unwrap_err().root_kind() == ErrorKind::Io, "{what}");
                }
            }
            let next = world.broker.producer(ProducerConfig::default().transactional_id("x"));
            let next = next.unwrap();
            next.init_transactions().unwrap();
            next.begin_transaction().unwrap();
            next.send_sync(record("next")).unwrap();
            next.commit_transaction().unwrap();
            let seen = world.values(IsolationLevel::ReadCommitted);
            assert_eq!(seen.last().unwrap(), "next", "{what}");
            let was_committed = commit && passes;
            assert_eq!(seen.len(), if was_committed { 4 } else { 1 }, "{what}: {seen:?}");
        }
    }
}

/// Offsets that the disk does not take leave a transaction that can be aborted.
#[test]
fn offsets_that_the_disk_does_not_take_leave_a_transaction_to_abort() {
    for (failure, kind) in [
        (Failure::Full, ErrorKind::Timeout),
        (Failure::Io, ErrorKind::Timeout),
        (Failure::ReadOnly, ErrorKind::Io),
        (Failure::NoDevice, ErrorKind::Io),
    ] {
        let world = World::new(false);
        let producer = world.producer(Sends::Transactional, 0);
        world.fault.fail(Rule::nth(0, failure).of(Call::CHANGES).on("__consumer_offsets").sticky());
        let offsets = BTreeMap::from([(TopicPartition::new("t", 1), OffsetAndMetadata::new(1))]);
        let group = GroupMetadata::new("g");
        let refused = producer.send_offsets_to_transaction(&offsets, &group).unwrap_err();
        assert_eq!(refused.kind(), kind, "{failure:?}: {refused}");
        assert!(refused.requires_abort() && !refused.is_fatal(), "{failure:?}: {refused}");
        assert!(producer.commit_transaction().unwrap_err().root_kind() != ErrorKind::IllegalState);
        world.fault.heal();
        producer.abort_transaction().unwrap();
        producer.begin_transaction().unwrap();
        producer.send_offsets_to_transaction(&offsets, &group).unwrap();
        producer.commit_transaction().unwrap();
        let stored = world.broker.admin().list_group_offsets("g").unwrap();
        assert_eq!(stored[&TopicPartition::new("t", 1)].offset(), 1, "{failure:?}");
        assert!(world.values(IsolationLevel::ReadCommitted).is_empty());
    }
}
