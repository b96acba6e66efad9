//! Faults, stalls and kills: each strikes where it says, and goes with its release.

use super::*;

#[test]
fn an_append_fails_the_nth_time_on_its_partition_alone_and_stores_nothing() {
    let test = broker(2);
    let producer = producer(&test);
    let fault = Fault::append().on_partition("t", 0).nth(2).times(2).fail(ErrorKind::StorageFailed);
    let fault = test.inject(fault);
    assert_eq!(send(&producer, 0, "a").unwrap(), 0);
    assert_eq!(send(&producer, 1, "x").unwrap(), 0);
    assert_eq!(kind(send(&producer, 0, "b")), ErrorKind::StorageFailed);
    assert_eq!(send(&producer, 1, "y").unwrap(), 1);
    assert_eq!(kind(send(&producer, 0, "c")), ErrorKind::StorageFailed);
    assert_eq!(send(&producer, 0, "d").unwrap(), 1);
    assert_eq!(fault.hits(), 2);
    assert_eq!(values(&test, 0), ["a", "d"]);
    assert_eq!(
        test.journal().lines()[2..],
        [
            "append t-0 at 0",
            "append t-1 at 0",
            "fault: fails with StorageFailed, at append t-0",
            "append t-0 failed: StorageFailed",
            "append t-1 at 1",
            "fault: fails with StorageFailed, at append t-0",
            "append t-0 failed: StorageFailed",
            "append t-0 at 1",
        ]
    );
}

#[test]
fn a_fault_that_is_always_there_goes_with_its_release() {
    let test = broker(1);
    let producer = producer(&test);
    let fault = test.inject(Fault::append().always());
    for _ in 0..5 {
        assert_eq!(kind(send(&producer, 0, "no")), ErrorKind::Io);
    }
    fault.release();
    assert_eq!(send(&producer, 0, "yes").unwrap(), 0);
    assert_eq!(fault.hits(), 5);
}

#[test]
fn an_append_whose_reply_is_lost_is_stored() {
    let test = broker(1);
    let producer = producer(&test);
    test.inject(Fault::append().lose_reply());
    let lost = send(&producer, 0, "a").unwrap_err();
    assert_eq!((lost.kind(), lost.possibly_written()), (ErrorKind::Timeout, true));
    assert_eq!(send(&producer, 0, "b").unwrap(), 1);
    assert_eq!(values(&test, 0), ["a", "b"]);
}

#[test]
fn a_batch_that_lingers_is_tried_again_after_a_fault_that_may_pass() {
    let test = broker(1);
    let config = ProducerConfig::default().linger_ms(5);
    let producer = test.producer(config).unwrap();
    let fault = test.inject(Fault::append().times(2));
    let record = ProducerRecord::new("t").value("a");
    assert_eq!(producer.send(record).unwrap().wait().unwrap().offset(), 0);
    assert_eq!(fault.hits(), 2);
    assert_eq!(values(&test, 0), ["a"]);
}

#[test]
fn a_batch_whose_answer_is_lost_is_stored_once_where_it_has_a_sequence() {
    for (idempotent, stored) in [(true, &["a", "b"][..]), (false, &["a", "a", "b"])] {
        let test = broker(1);
        let config = ProducerConfig::default().linger_ms(5).enable_idempotence(idempotent);
        let producer = test.producer(config).unwrap();
        let fault = test.inject(Fault::append().lose_reply());
        let sent = |value| producer.send(ProducerRecord::new("t").value(value)).unwrap().wait();
        let offset = sent("a").unwrap().offset();
        // Where it was stored first, or where it was stored once more.
        assert_eq!(offset, stored.len() as i64 - 2);
        sent("b").unwrap();
        assert_eq!(
            (values(&test, 0), fault.hits()),
            (stored.iter().map(|v| v.to_string()).collect(), 1)
        );
    }
}

/// Whatever ends a batch, and whatever its last attempt said: an earlier answer was lost.
#[test]
fn a_batch_whose_answer_was_lost_says_so_when_it_fails() {
    let second = |test: &TestBroker| {
        test.inject(Fault::append().lose_reply());
        test.inject(Fault::append().nth(2).always().fail(ErrorKind::StorageFull));
    };
    let ends = [
        ("delivery.timeout.ms", u32::MAX, ErrorKind::Timeout),
        ("retries", 1, ErrorKind::StorageFull),
    ];
    for (what, retries, ended_by) in ends {
        for idempotent in [true, false] {
            let test = broker(1);
            let config = ProducerConfig::default().linger_ms(5).enable_idempotence(idempotent);
            let config = if retries == u32::MAX { config } else { config.retries(retries) };
            let producer = test.producer(config).unwrap();
            second(&test);
            let sent = producer.send(ProducerRecord::new("t").value("a")).unwrap();
            let failed = sent.wait().unwrap_err();
            assert_eq!((failed.kind(), failed.possibly_written()), (ended_by, true), "{what}");
            assert_eq!(failed.record().unwrap().value_bytes(), Some(&b"a"[..]));
            assert_eq!(values(&test, 0), ["a"]);
        }
    }
    let test = broker(1);
    let producer = test.producer(ProducerConfig::default().linger_ms(5)).unwrap();
    second(&test);
    let sent = producer.send(ProducerRecord::new("t").value("a")).unwrap();
    let untried = producer.send(ProducerRecord::new("t").value("b")).unwrap();
    test.advance(Duration::from_millis(5));
    let behind = producer.send(ProducerRecord::new("t").value("c")).unwrap();
    producer.close_timeout(Duration::from_millis(50)).unwrap();
    let told = [sent, untried, behind].map(|future| {
        let failed = future.wait().unwrap_err();
        (failed.kind(), failed.possibly_written())
    });
    let closed = ErrorKind::Kafka;
    assert_eq!(told, [(closed, true), (closed, true), (closed, false)]);
    assert_eq!(values(&test, 0), ["a", "b"]);
}

#[test]
fn a_failed_sync_is_final_for_its_partition_until_it_is_opened_anew() {
    let mut test = broker(2);
    let producer = producer(&test);
    send(&producer, 0, "a").unwrap();
    send(&producer, 1, "x").unwrap();
    test.inject(Fault::sync().on_partition("t", 0));
    assert_eq!(kind(test.flush()), ErrorKind::StorageFailed);
    assert_eq!(kind(send(&producer, 0, "b")), ErrorKind::StorageFailed);
    assert_eq!(send(&producer, 1, "y").unwrap(), 1);
    test.journal().assert_in_order(&[
        "fault: fails with Io, at sync t-0",
        "sync t-0 failed: StorageFailed",
        "sync t-1 up to 1",
        "append t-0 failed: StorageFailed",
    ]);
    test.crash(Crash::Kill).unwrap();
    let producer = self::producer(&test);
    assert_eq!(send(&producer, 0, "c").unwrap(), 1);
    test.flush().unwrap();
    test.journal().assert_in_order(&["crashed: process killed", "opened", "sync t-0 up to 2"]);
}

#[test]
fn a_commit_fails_and_the_next_one_does_not() {
    let test = broker(1);
    send(&producer(&test), 0, "a").unwrap();
    let mut consumer = member(&test, "c");
    settle(&mut [&mut consumer]);
    let place = TopicPartition::new("t", 0);
    test.inject(Fault::commit().of_group("other").always());
    test.inject(Fault::commit().of_client("c").fail(ErrorKind::CoordinatorNotAvailable));
    assert_eq!(kind(consumer.commit_sync()), ErrorKind::CoordinatorNotAvailable);
    assert!(consumer.committed(std::slice::from_ref(&place)).unwrap()[&place].is_none());
    consumer.commit_sync().unwrap();
    test.inject(Fault::commit().fail(ErrorKind::CoordinatorNotAvailable));
    let told = Arc::new(Mutex::new(None));
    let heard = told.clone();
    consumer.commit_async_with(move |_, outcome| *heard.lock() = Some(kind(outcome))).unwrap();
    consumer.poll(ZERO).unwrap();
    assert_eq!(*told.lock(), Some(ErrorKind::RetriableCommitFailed));
    test.journal().assert_in_order(&[
        "g: commit of c failed: CoordinatorNotAvailable",
        "g: c committed t-0 at 1",
        "fault: fails with CoordinatorNotAvailable, at commit of c in g",
    ]);
}

#[test]
fn a_fetch_fails_where_there_is_nothing_else_and_loses_no_record() {
    let test = broker(1);
    send(&producer(&test), 0, "a").unwrap();
    let mut consumer = member(&test, "c");
    test.inject(Fault::fetch().fail(ErrorKind::CorruptRecord));
    assert_eq!(kind(consumer.poll(seconds(1))), ErrorKind::CorruptRecord);
    assert_eq!(consumer.poll(seconds(1)).unwrap().count(), 1);
}

#[test]
fn a_partition_whose_fetch_stalls_looks_empty_and_the_others_do_not() {
    let test = broker(2);
    let producer = producer(&test);
    send(&producer, 0, "a").unwrap();
    send(&producer, 1, "x").unwrap();
    let mut consumer = member(&test, "c");
    test.inject(Fault::fetch().on_partition("t", 0).stall_for(seconds(3)));
    let start = test.clock().now().mono;
    let first = consumer.poll(seconds(1)).unwrap();
    assert_eq!(first.partitions().map(TopicPartition::partition).collect::<Vec<_>>(), [1]);
    assert!(consumer.poll(seconds(1)).unwrap().is_empty());
    let second = consumer.poll(seconds(60)).unwrap();
    assert_eq!(second.iter().next().unwrap().value(), Some(&b"a"[..]));
    assert_eq!(test.clock().now().mono - start, seconds(3));
    test.journal().assert_in_order(&[
        "stalled: fetch t-0",
        "c polled 1 of t-1 up to 1",
        "resumed: fetch t-0",
        "c polled 1 of t-0 up to 1",
    ]);
}

#[test]
fn an_append_that_stalls_takes_virtual_time_in_which_the_world_goes_on() {
    let test = broker(1);
    let (mut one, mut two) = (member(&test, "one"), member(&test, "two"));
    settle(&mut [&mut one, &mut two]);
    test.kill_consumer("one").unwrap();
    test.inject(Fault::append().stall_for(seconds(50)));
    let start = test.clock().now().mono;
    assert_eq!(send(&producer(&test), 0, "slow").unwrap(), 0);
    assert_eq!(test.clock().now().mono - start, seconds(50));
    test.journal().assert_in_order(&[
        "stalled: append t-0",
        "g: one kicked out: session timeout",
        "resumed: append t-0",
        "append t-0 at 0",
    ]);
}

#[test]
fn a_stall_that_nobody_can_end_is_a_timeout() {
    let test = broker(1);
    test.inject(Fault::append().stall());
    let start = test.clock().now().mono;
    assert_eq!(kind(send(&producer(&test), 0, "never")), ErrorKind::Timeout);
    assert_eq!(test.clock().now().mono - start, seconds(120));
    assert_eq!(values(&test, 0), [""; 0]);
}

fn manual() -> TestBroker {
    let test = TestBroker::builder().manual_clock().start().unwrap();
    test.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    test
}

#[test]
fn a_stalled_sync_holds_its_caller_until_it_is_released() {
    let test = manual();
    let producer = producer(&test);
    send(&producer, 0, "a").unwrap();
    let fault = test.inject(Fault::sync().on("t").stall());
    let handle = test.broker().clone();
    let flusher = spawn_named("flusher", move || handle.flush()).unwrap();
    fault.wait_for_hits(1);
    // The broker's own flush does not overtake it.
    test.advance(seconds(10));
    test.journal().assert_nowhere("sync t-0 up to");
    assert!(!flusher.is_finished());
    fault.release();
    flusher.join().unwrap().unwrap();
    test.journal().assert_in_order(&["stalled: sync t-0", "resumed: sync t-0", "sync t-0 up to 1"]);
}

#[test]
fn a_crash_ends_what_stalls_and_what_polls_in_other_threads() {
    let mut test = manual();
    let producer = producer(&test);
    let mut consumer = member(&test, "c");
    settle(&mut [&mut consumer]);
    let fault = test.inject(Fault::append().stall());
    let sender = spawn_named("sender", move || send(&producer, 0, "late")).unwrap();
    let poller = spawn_named("poller", move || consumer.poll(Duration::MAX).map(drop)).unwrap();
    fault.wait_for_hits(1);
    test.crash(Crash::Kill).unwrap();
    assert_eq!(kind(sender.join().unwrap()), ErrorKind::Closed);
    assert_eq!(kind(poller.join().unwrap()), ErrorKind::Closed);
    assert_eq!(values(&test, 0), [""; 0]);
}

#[test]
fn a_killed_consumer_is_dead_for_its_owner_at_once_and_for_its_group_after_the_session() {
    let test = manual();
    let (mut one, mut two) = (member(&test, "one"), member(&test, "two"));
    settle(&mut [&mut one, &mut two]);
    let poller = spawn_named("poller", move || {
        let outcome = two.poll(Duration::MAX).map(drop);
        assert_eq!(kind(two.commit_sync()), ErrorKind::Closed);
        assert_eq!(kind(two.poll(ZERO)), ErrorKind::Closed);
        two.close().unwrap();
        outcome
    })
    .unwrap();
    test.kill_consumer("two").unwrap();
    assert_eq!(kind(poller.join().unwrap()), ErrorKind::Closed);
    test.advance(seconds(44));
    test.journal().assert_nowhere("kicked out");
    test.advance(seconds(2));
    let gone = |event: &Event| {
        matches!(event, Event::KickedOut { client_id, reason: RemovalReason::SessionTimeout, .. }
            if **client_id == *"two")
    };
    let entry = test.journal().find(gone).unwrap();
    assert_eq!(entry.elapsed(), seconds(45));
    test.journal().assert_nowhere("two left");
    assert_eq!(kind(test.kill_consumer("three")), ErrorKind::IllegalArgument);
}

#[test]
fn a_consumer_that_stands_still_loses_its_partitions_and_joins_anew() {
    let test = broker(2);
    let (mut one, mut two) = (member(&test, "one"), member(&test, "two"));
    settle(&mut [&mut one, &mut two]);
    test.stall_consumer("two").unwrap();
    one.poll(seconds(60)).unwrap();
    assert_eq!(one.assignment().unwrap().len(), 2);
    assert_eq!(kind(two.commit_sync_offsets(&offsets(5))), ErrorKind::CommitFailed);
    settle(&mut [&mut two, &mut one]);
    assert_eq!(two.assignment().unwrap().len(), 1);
    test.journal().assert_in_order(&[
        "stalled consumer two",
        "g: two kicked out: session timeout",
        "g: one assigned t-0, t-1 in generation",
        "g: commit of two failed: CommitFailed",
        "g: two joined",
    ]);
}
