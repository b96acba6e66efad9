//! Crashes, and disks that are full or opened again.

use super::*;

#[test]
fn after_a_kill_everything_acknowledged_is_there_and_old_handles_are_closed() {
    let mut test = broker(1);
    let producer = producer(&test);
    let mut consumer = member(&test, "old");
    let mut reader = test.reader("t", 0, ReadFrom::Beginning).unwrap();
    let admin = test.admin();
    for value in ["a", "b", "c"] {
        send(&producer, 0, value).unwrap();
    }
    settle(&mut [&mut consumer]);
    consumer.commit_sync_offsets(&offsets(2)).unwrap();
    test.crash(Crash::Kill).unwrap();

    assert_eq!(kind(send(&producer, 0, "late")), ErrorKind::Closed);
    assert_eq!(kind(consumer.poll(seconds(1))), ErrorKind::Closed);
    assert_eq!(kind(consumer.commit_sync()), ErrorKind::Closed);
    assert_eq!(kind(reader.read(ZERO)), ErrorKind::Closed);
    assert_eq!(kind(admin.list_topics()), ErrorKind::Closed);
    drop(consumer);

    assert_eq!(values(&test, 0), ["a", "b", "c"]);
    let mut consumer = member(&test, "new");
    let records = consumer.poll(seconds(1)).unwrap();
    assert_eq!(records.iter().map(|r| r.offset()).collect::<Vec<_>>(), [2]);
    test.journal().assert_in_order(&[
        "g: old committed t-0 at 2",
        "crashed: process killed",
        "opened",
        "g: old kicked out: process gone",
        "g: new joined",
        "new polled 1 of t-0 up to 3",
    ]);
    assert!(test.health().is_ok(), "{:?}", test.health());
}

#[test]
fn a_power_cut_takes_what_was_not_synced_and_never_what_was() {
    let mut fewest = usize::MAX;
    let mut most = 0;
    for seed in 0..20 {
        let mut test = broker(1);
        let producer = producer(&test);
        send(&producer, 0, "a").unwrap();
        test.flush().unwrap();
        send(&producer, 0, "b").unwrap();
        send(&producer, 0, "c").unwrap();
        test.crash(Crash::PowerCut(seed)).unwrap();
        let found = values(&test, 0);
        assert!(
            ["a", "b", "c"].iter().map(|s| s.to_string()).collect::<Vec<_>>().starts_with(&found),
            "seed {seed}: {found:?}"
        );
        fewest = fewest.min(found.len());
        most = most.max(found.len());
    }
    assert_eq!((fewest, most), (1, 3));
}

#[test]
fn what_is_on_the_disk_can_be_opened_again_after_a_close() {
    let mut test = broker(1);
    send(&producer(&test), 0, "a").unwrap();
    assert_eq!(kind(test.reopen()), ErrorKind::Locked);
    test.close().unwrap();
    test.reopen().unwrap();
    assert_eq!(values(&test, 0), ["a"]);
}

#[test]
fn a_full_disk_refuses_what_needs_room_until_there_is_some() {
    let mut test = broker(1);
    test.fill_disk();
    let refused = test.admin().create_topic("u", 1, TopicConfig::default());
    assert_eq!(kind(refused), ErrorKind::StorageFull);
    // The first send of a producer with sequences takes an id, which needs room as well.
    assert_eq!(kind(send(&producer(&test), 0, "no")), ErrorKind::StorageFull);
    let plain = test.producer(ProducerConfig::default().enable_idempotence(false)).unwrap();
    assert_eq!(kind(send(&plain, 0, "no")), ErrorKind::StorageFull);
    test.free_disk();
    test.admin().create_topic("u", 1, TopicConfig::default()).unwrap();
    assert_eq!(send(&producer(&test), 0, "yes").unwrap(), 0);
    test.journal().assert_in_order(&[
        "disk full",
        "append t-0 failed: StorageFull",
        "disk freed",
        "append t-0 at 0",
    ]);
}

#[test]
fn changes_of_topics_can_be_the_first_calls_after_a_crash() {
    for change in 0..3 {
        let mut test = broker(1);
        send(&producer(&test), 0, "a").unwrap();
        let mut consumer = member(&test, "c");
        settle(&mut [&mut consumer]);
        consumer.commit_sync().unwrap();
        test.crash(Crash::PowerCutAtWorst).unwrap();
        let admin = test.admin();
        match change {
            0 => admin.delete_topic("t").unwrap(),
            1 => admin.grow_topic("t", 3).unwrap(),
            _ => {
                let set = ConfigChange::Set("retention.ms".into(), "99".into());
                admin.alter_topic("t", &[set]).unwrap();
            }
        }
        test.close().unwrap();
    }
}
