//! The classes of errors as a producer tells them: what each kind makes of a transaction, and what
//! each call says once its transactions are over for good.

use super::*;

/// Whether a producer may tell a record of its own of this kind, by its future or its callback.
/// Without a rest: a new kind has to be put in its place.
fn is_told_of_a_record(kind: ErrorKind) -> bool {
    use ErrorKind::*;
    match kind {
        UnknownTopicOrPartition
        | InvalidTopic
        | RecordTooLarge
        | RecordBatchTooLarge
        | CorruptRecord
        | InvalidRecord
        | InvalidTimestamp
        | PolicyViolation
        | UnsupportedCompressionType
        | CoordinatorNotAvailable
        | ProducerFenced
        | InvalidProducerEpoch
        | OutOfOrderSequence
        | InvalidProducerIdMapping
        | TransactionAborted
        | TransactionAbortable
        | ConcurrentTransactions
        | Timeout
        | BufferExhausted
        | Io
        | StorageFull
        | StorageFailed
        | Locked
        | UnsupportedFormat
        | ReadOnly => true,
        // The call is at fault, or the handle is closed: nothing becomes of the transaction.
        IllegalState | IllegalArgument | Kafka | Closed => false,
        // Told by calls on transactions, and not of a record.
        TransactionCoordinatorFenced
        | TransactionalIdNotFound
        | InvalidTxnState
        | InvalidTransactionTimeout
        | UnsupportedVersion
        | InvalidRequest => false,
        // Of consumers and groups; some of them by offsets that are sent in a transaction.
        OffsetOutOfRange
        | NoOffsetForPartition
        | IllegalGeneration
        | UnknownMemberId
        | MemberIdRequired
        | RebalanceInProgress
        | FencedInstanceId
        | FencedMemberEpoch
        | InconsistentGroupProtocol
        | GroupMaxSizeReached
        | InvalidSessionTimeout
        | InvalidGroupId
        | GroupIdNotFound
        | NonEmptyGroup
        | GroupSubscribedToTopic
        | OffsetMetadataTooLarge
        | UnstableOffsetCommit
        | CommitFailed
        | RetriableCommitFailed
        | Wakeup => false,
        // Of administrators, and of what is opened.
        TopicExists
        | TopicDeletionDisabled
        | InvalidPartitions
        | InvalidReplicationFactor
        | InvalidTopicConfig
        | InvalidConfig => false,
    }
}

fn transactional(world: &World, id: &str) -> Producer {
    let producer = world.producer(&[("transactional.id", id)]);
    producer.init_transactions().unwrap();
    producer.begin_transaction().unwrap();
    producer.send_sync(to(0, "first")).unwrap();
    producer
}

#[test]
fn a_record_that_fails_leaves_its_transaction_as_its_class_says() {
    let world = World::new();
    world.topic("t", 1, &[]);
    for &kind in ErrorKind::ALL.iter().filter(|kind| is_told_of_a_record(**kind)) {
        let producer = transactional(&world, kind.name());
        let error = Error::new(kind, "made up");
        producer.0.fail_transaction(&error);
        let refused = producer.commit_transaction().unwrap_err();
        if error.requires_abort() {
            assert!(refused.requires_abort() && !refused.is_fatal(), "{kind:?}: {refused}");
            producer.abort_transaction().unwrap();
            producer.begin_transaction().unwrap();
            producer.send_sync(to(0, "again")).unwrap();
            producer.commit_transaction().unwrap();
            continue;
        }
        assert!(error.is_fatal(), "{kind:?} is neither");
        for told in [refused, producer.abort_transaction().unwrap_err()] {
            assert!(told.is_fatal() && !told.requires_abort(), "{kind:?}: {told}");
        }
    }
}

/// What is fatal by its kind, and what is by where it was told.
#[test]
fn every_call_behind_a_fatal_one_is_fatal() {
    let world = World::with(&[("transaction.max.timeout.ms", "60000")]);
    world.topic("t", 1, &[]);
    let too_long = world.producer(&[
        ("transactional.id", "long"),
        ("transaction.timeout.ms", "60001"),
        ("max.block.ms", "1000"),
    ]);
    let late = transactional(&world, "late");
    world.clock.advance(Duration::from_secs(120));
    let odd = transactional(&world, "odd");
    let offsets = std::collections::BTreeMap::from([(
        crate::topic::TopicPartition::new("t", 0),
        crate::consumer::OffsetAndMetadata::new(1),
    )]);
    let empty = crate::consumer::GroupMetadata::new("");
    let calls = [
        (&too_long, too_long.init_transactions()),
        (&late, late.commit_transaction()),
        (&odd, odd.send_offsets_to_transaction(&offsets, &empty)),
    ];
    for (producer, ended) in calls {
        let ended = ended.unwrap_err();
        assert!(ended.is_fatal(), "{ended:?}");
        let record = to(0, "v");
        for told in [
            producer.send(record).map(drop).unwrap_err(),
            producer.begin_transaction().unwrap_err(),
            producer.commit_transaction().unwrap_err(),
            producer.abort_transaction().unwrap_err(),
        ] {
            assert!(told.is_fatal() && !told.requires_abort(), "{ended:?}, then {told:?}");
            assert!(!told.is_retriable(), "{told:?}");
        }
        producer.close().unwrap();
    }
}

/// A way to send records that fail, and what each of them is told.
type Sends<'a> = &'a dyn Fn(&Producer) -> Vec<Error>;

/// Records that a topic refuses for themselves, sent by a producer that was replaced: as a record,
/// with others, with a callback, lingering. As a Kafka broker does, the log says the latter.
#[test]
fn whoever_was_replaced_is_told_that_whatever_the_record_lacks() {
    let large = "v".repeat(400);
    for linger in ["0", "5"] {
        let world = World::new();
        world.topic("t", 1, &[("max.message.bytes", "300")]);
        world.topic("c", 1, &[("cleanup.policy", "compact")]);
        let to_c = || ProducerRecord::new("c").value("keyless");
        let early = || to(0, "v").timestamp(i64::MAX / 2);
        let sends: [Sends<'_>; 5] = [
            &|producer| vec![failure(producer, to(0, &large))],
            &|producer| vec![failure(producer, early())],
            &|producer| vec![failure(producer, to_c())],
            &|producer| {
                let sent = producer.send_all([to(0, "v"), to(0, &large), early()]).unwrap();
                sent.into_iter().map(|future| future.wait().unwrap_err()).collect()
            },
            &|producer| {
                let told = Told::default();
                let sent = producer.send_with(to(0, &large), told.callback()).unwrap();
                let error = sent.wait().unwrap_err();
                assert_eq!(told.take(), [Err(error.kafka_name())]);
                vec![error]
            },
        ];
        for (number, send) in sends.into_iter().enumerate() {
            let id = format!("id-{number}");
            let config = [("transactional.id", id.as_str()), ("linger.ms", linger)];
            let replaced = world.producer(&config);
            replaced.init_transactions().unwrap();
            replaced.begin_transaction().unwrap();
            replaced.send_sync(to(0, "first")).unwrap();
            replaced.send_sync(to_c().key("k")).unwrap();
            world.producer(&config).init_transactions().unwrap();
            for error in send(&replaced) {
                assert_eq!(error.kind(), ErrorKind::InvalidProducerEpoch, "{number}: {error}");
            }
            assert_eq!(kind(replaced.abort_transaction()), ErrorKind::ProducerFenced);
        }
    }
}

/// What lingers goes down with a transaction that can only be aborted, for what that failed for; a
/// second close does not come back to what the first one left open.
#[test]
fn what_lingers_behind_a_failure_and_a_second_close_leave_a_transaction_as_it_is() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let config = [("transactional.id", "x"), ("linger.ms", "60000")];
    let more = [("delivery.timeout.ms", "120000"), ("max.block.ms", "1000")];
    let config: Vec<_> = config.into_iter().chain(more).collect();
    let producer = world.producer(&config);
    producer.init_transactions().unwrap();
    producer.begin_transaction().unwrap();
    let told = Told::default();
    drop(producer.send_with(to(0, "lingers"), told.callback()).unwrap());
    let huge = "v".repeat(2 << 20);
    assert_eq!(failure(&producer, to(0, &huge)).kind(), ErrorKind::RecordTooLarge);
    producer.flush().unwrap();
    assert_eq!(told.take(), [Err("MESSAGE_TOO_LARGE")]);
    assert_eq!(world.end("t", 0), 0);
    producer.abort_transaction().unwrap();
    producer.begin_transaction().unwrap();
    drop(producer.send(to(0, "open")).unwrap());
    producer.flush().unwrap();
    producer.close_timeout(Duration::ZERO).unwrap();
    producer.close().unwrap();
    assert_eq!(world.log("t", 0).last_stable_offset().unwrap(), 0, "it is open");
    assert_eq!(world.end("t", 0), 1);
}
