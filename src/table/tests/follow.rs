//! What a table shows as its topic changes under it.

use super::*;
use crate::config::ConfigChange;
use crate::producer::partition_of_key;
use crate::sync::thread;

#[test]
fn it_ends_with_the_latest_value_of_each_key_and_says_what_changed() {
    let world = World::new();
    let broker = world.open();
    let producer = create(&broker, 3);
    for (key, value) in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1")] {
        put(&producer, key, Some(value));
    }
    let mut table = broker.table("t", TableOptions::new()).unwrap();
    assert!(table.is_empty() && !table.has_caught_up());
    assert_eq!(table.lag().unwrap(), 4);
    assert!(table.catch_up(LONG).unwrap());
    assert!(table.has_caught_up());
    assert_eq!((table.lag().unwrap(), table.len()), (0, 3));
    assert_eq!(held(&table), read_by_hand(&broker));
    assert_eq!(table.get("a").as_deref(), Some(&b"2"[..]));
    assert_eq!(table.with("a", <[u8]>::len), Some(1));
    assert_eq!(table.entry("a").unwrap().offset(), table.entry("a").unwrap().offset());
    assert_eq!(table.get("z"), None);

    assert!(table.update(Duration::from_secs(1)).unwrap().is_empty(), "there is no news");
    put(&producer, "a", None);
    put(&producer, "z", None);
    put(&producer, "b", Some("2"));
    let mut changes = Vec::new();
    while table.lag().unwrap() > 0 {
        changes.extend(table.update(Duration::ZERO).unwrap());
    }
    let mut told: Vec<_> = changes
        .iter()
        .map(|of| (of.key().clone(), of.old_value().cloned(), of.new_value().cloned()))
        .collect();
    told.sort();
    let expected =
        [("a".into(), Some("2".into()), None), ("b".into(), Some("1".into()), Some("2".into()))];
    assert_eq!(told, expected, "a tombstone of nothing is no change");
    assert!(!table.contains_key("a"));
}

#[test]
fn an_update_waits_for_news_and_a_wakeup_ends_it() {
    let broker = Broker::in_memory().unwrap();
    broker.admin().create_topic("t", 2, TopicConfig::default()).unwrap();
    let mut table = broker.table("t", TableOptions::new()).unwrap();
    let (view, wakeup) = (table.view(), table.wakeup_handle());
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let follower = thread::spawn_named("follower", move || {
        let changes = table.update(Duration::from_secs(60)).unwrap();
        let error = table.update(Duration::MAX).unwrap_err();
        (changes.len(), error.kind())
    })
    .unwrap();
    put(&producer, "a", Some("1"));
    while view.get("a").is_none() {
        std::thread::yield_now();
    }
    wakeup.wakeup();
    assert_eq!(follower.join().unwrap(), (1, ErrorKind::Wakeup));
    assert_eq!(view.get("a").as_deref(), Some(&b"1"[..]), "a view outlives its table");
}

#[test]
fn open_and_aborted_transactions_are_not_seen() {
    let world = World::new();
    let broker = world.open();
    let producer = create(&broker, 1);
    put(&producer, "a", Some("1"));
    let config = ProducerConfig::default().transactional_id("x");
    let transactional = broker.producer(config).unwrap();
    transactional.init_transactions().unwrap();
    let mut table = broker.table("t", TableOptions::new()).unwrap();
    let dirty = TableOptions::new().isolation_level(IsolationLevel::ReadUncommitted);
    let mut dirty = broker.table("t", dirty).unwrap();
    let mut see = || {
        assert!(table.catch_up(LONG).unwrap() && dirty.catch_up(LONG).unwrap());
        let text = |of: &Table| of.get("a").map(|v| String::from_utf8(v.to_vec()).unwrap());
        (text(&table).unwrap(), text(&dirty).unwrap())
    };
    transactional.begin_transaction().unwrap();
    put(&transactional, "a", Some("2"));
    assert_eq!(see(), ("1".into(), "2".into()));
    transactional.abort_transaction().unwrap();
    assert_eq!(see(), ("1".into(), "2".into()));
    transactional.begin_transaction().unwrap();
    put(&transactional, "a", Some("3"));
    transactional.commit_transaction().unwrap();
    assert_eq!(see(), ("3".into(), "3".into()));
    assert_eq!(table.lag().unwrap(), 0, "the marker was passed");
}

#[test]
fn new_partitions_are_followed_and_keys_that_moved_are_found() {
    let world = World::new();
    let broker = world.open();
    let producer = create(&broker, 1);
    for n in 0..20 {
        put(&producer, &format!("k{n}"), Some("old"));
    }
    let mut table = broker.table("t", TableOptions::new()).unwrap();
    table.catch_up(LONG).unwrap();
    broker.admin().grow_topic("t", 4).unwrap();
    let moved = |n: &i32| partition_of_key(format!("k{n}").as_bytes(), 4) != 0;
    let moves: Vec<i32> = (0..20).filter(moved).collect();
    for n in moves.iter().filter(|n| **n % 2 == 0) {
        put(&producer, &format!("k{n}"), Some("new"));
    }
    table.catch_up(LONG).unwrap();
    assert_eq!(table.positions().len(), 4);
    for n in 0..20 {
        let expected = if moves.contains(&n) && n % 2 == 0 { "new" } else { "old" };
        assert_eq!(table.get(format!("k{n}")).as_deref(), Some(expected.as_bytes()), "k{n}");
    }
    assert_eq!(held(&table), replayed(&broker));
    assert_eq!(held(&table), read_by_hand(&broker));
    let one = TableOptions::new().partitions([0]);
    let mut one = broker.table("t", one).unwrap();
    one.catch_up(LONG).unwrap();
    assert_eq!(one.len(), 20);
    let unknown = broker.table("t", TableOptions::new().partitions([4])).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::UnknownTopicOrPartition);
}

#[test]
fn what_retention_removes_goes_from_the_table_too() {
    let world = World::new();
    let broker = world.open();
    let producer = create(&broker, 1);
    for n in 0..6 {
        put(&producer, &format!("k{}", n % 4), Some(&n.to_string()));
    }
    let mut table = broker.table("t", TableOptions::new()).unwrap();
    table.catch_up(LONG).unwrap();
    broker.admin().delete_records("t", 0, 3).unwrap();
    put(&producer, "k9", Some("9"));
    let changes = table.update(LONG).unwrap();
    let causes: Vec<_> = changes.iter().map(|of| (of.offset(), of.cause())).collect();
    assert_eq!(causes, [(2, ChangeCause::Retention), (6, ChangeCause::Record)]);
    assert_eq!(held(&table), replayed(&broker));
    // Past what was read.
    put(&producer, "k8", Some("8"));
    broker.admin().delete_records("t", 0, -1).unwrap();
    table.catch_up(LONG).unwrap();
    assert!(table.is_empty());
}

#[test]
fn a_topic_that_is_deleted_and_made_again_is_told_until_the_table_is_rebuilt() {
    let world = World::new();
    let broker = world.open();
    let producer = create(&broker, 2);
    put(&producer, "a", Some("1"));
    for attached in [false, true] {
        let reading = if attached { world.attach() } else { broker.clone() };
        let mut table = reading.table("t", TableOptions::new()).unwrap();
        table.catch_up(LONG).unwrap();
        broker.admin().delete_topic("t").unwrap();
        let told = |table: &mut Table| {
            let error = table.update(Duration::ZERO).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnknownTopicOrPartition, "{error}");
            error.to_string()
        };
        assert!(!told(&mut table).contains("rebuild"));
        assert!(table.rebuild().is_err());
        let producer = create(&broker, 1);
        put(&producer, "b", Some("2"));
        for _ in 0..2 {
            assert!(told(&mut table).contains("rebuild the table"));
        }
        assert_eq!(table.get("a").as_deref(), Some(&b"1"[..]), "until then it is as it was");
        table.rebuild().unwrap();
        assert!(!table.has_caught_up());
        table.catch_up(LONG).unwrap();
        assert_eq!(held(&table), replayed(&broker));
        assert_eq!(table.get("a"), None);
        put(&producer, "a", Some("1"));
    }
}

#[test]
fn it_follows_beside_the_owner_of_a_directory() {
    let world = World::new();
    let broker = world.open();
    let producer = create(&broker, 2);
    let attached = world.attach();
    let mut table = attached.table("t", TableOptions::new()).unwrap();
    for n in 0..200 {
        put(&producer, &format!("k{}", n % 9), (n % 5 > 0).then_some("v").map(|_| "v"));
        if n % 20 == 0 {
            broker.admin().compact_now("t").unwrap();
            assert!(table.catch_up(LONG).unwrap());
            assert_eq!(held(&table), read_by_hand(&broker), "after {n}");
        }
    }
    broker.admin().grow_topic("t", 3).unwrap();
    put(&producer, "k1", Some("grown"));
    while table.lag().unwrap() > 0 || table.positions().len() < 3 {
        table.update(Duration::from_millis(20)).unwrap();
    }
    assert_eq!(held(&table), read_by_hand(&broker));
    assert_eq!(table.save().unwrap_err().kind(), ErrorKind::IllegalState);
}

#[test]
fn damage_is_told_by_every_call_and_the_other_partitions_go_on() {
    let world = World::new();
    let broker = world.open();
    let producer = create(&broker, 2);
    for n in 0..40 {
        put(&producer, &format!("k{n}"), Some("some value"));
    }
    broker.close().unwrap();
    let path = Path::new("/data/t-0/00000000000000000000.log");
    let file = world.storage.open_cold(path).unwrap();
    file.write_at(100, b"damage").unwrap();
    drop(file);
    let broker = world.open();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let mut table = broker.table("t", TableOptions::new()).unwrap();
    let whole = |key: &str| partition_of_key(key.as_bytes(), 2) == 1;
    let expected = (0..40).filter(|n| whole(&format!("k{n}"))).count();
    let mut errors = 0;
    for _ in 0..10 {
        match table.update(Duration::ZERO) {
            Ok(changes) => assert!(!changes.is_empty(), "damage is never silence"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::CorruptRecord, "{error}");
                assert_eq!((error.partition(), error.offset().is_some()), (Some(0), true));
                errors += 1;
            }
        }
    }
    assert!(errors >= 7, "{errors}");
    let rows = held(&table);
    assert_eq!(rows.iter().filter(|row| row.0 == 1).count(), expected);
    put(
        &producer,
        (0..).map(|n| format!("n{n}")).find(|key| whole(key)).unwrap().as_str(),
        Some("v"),
    );
    while table.update(Duration::ZERO).is_err() {}
    assert_eq!(table.len(), rows.len() + 1);
}

#[test]
fn records_without_a_key_are_counted_and_a_listener_hears_what_nobody_collects() {
    let world = World::new();
    let broker = world.open();
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    producer.send_sync(ProducerRecord::new("t").value("no key")).unwrap();
    put(&producer, "a", Some("1"));
    let mut table = broker.table("t", TableOptions::new()).unwrap();
    let heard: Arc<crate::sync::Mutex<Vec<i64>>> = Arc::default();
    let hears = heard.clone();
    table.listen(move |change| hears.lock().push(change.offset()));
    table.catch_up(LONG).unwrap();
    put(&producer, "a", Some("2"));
    assert_eq!(table.update(LONG).unwrap().len(), 1);
    assert_eq!(*heard.lock(), [1, 2]);
    assert_eq!(table.dropped_records(), 1);
    let alter = ConfigChange::Set("retention.ms".into(), "1".into());
    broker.admin().alter_topic("t", &[alter]).unwrap();
    table.update(Duration::ZERO).unwrap();
    broker.close().unwrap();
    assert_eq!(table.update(LONG).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_log_that_lost_what_was_read_of_it_is_told() {
    let world = World::new();
    let broker = world.open();
    let producer = create(&broker, 1);
    for n in 0..4 {
        put(&producer, &format!("k{n}"), Some("value"));
    }
    broker.close().unwrap();
    let attached = world.attach();
    let mut table = attached.table("t", kept()).unwrap();
    table.catch_up(LONG).unwrap();
    table.save().unwrap();
    let path = Path::new("/data/t-0/00000000000000000000.log");
    let file = world.storage.open_cold(path).unwrap();
    file.set_len(file.len().unwrap() - 30).unwrap();
    for _ in 0..2 {
        let error = table.update(Duration::ZERO).unwrap_err();
        assert_eq!(
            (error.kind(), error.partition()),
            (ErrorKind::StorageFailed, Some(0)),
            "{error}"
        );
    }
    assert_eq!(table.len(), 4, "until then it is as it was");
    let table = world.attach().table("t", kept()).unwrap();
    assert!(matches!(table.origin(), TableOrigin::Rebuilt(_)), "{:?}", table.origin());
}

#[test]
fn types_are_read_and_what_is_none_is_told_with_its_place() {
    let world = World::new();
    let broker = world.open();
    let producer = create(&broker, 3);
    for (key, value) in [("a", "1"), ("b", "two"), ("c", "3")] {
        put(&producer, key, Some(value));
    }
    producer.send_sync(ProducerRecord::new("t").key(b"\xff").value("4").partition(0)).unwrap();
    let mut table = broker.table("t", TableOptions::new()).unwrap();
    table.catch_up(LONG).unwrap();
    let typed = table.typed::<String, u32, _, _>(Text, Decimal);
    let key = |text: &str| text.to_owned();
    assert_eq!(typed.get(&key("a")).unwrap(), Some(1));
    assert_eq!(typed.get(&key("z")).unwrap(), None);
    assert!(typed.contains_key(&key("b")).unwrap());
    let error = typed.get(&key("b")).unwrap_err();
    assert_eq!((error.kind(), error.topic()), (ErrorKind::InvalidRecord, Some("t")));
    assert_eq!(error.offset(), table.entry("b").map(|entry| entry.offset()));
    let (mut good, mut bad): (Vec<_>, Vec<_>) = typed.iter().partition(Result::is_ok);
    good.sort_by_key(|row| row.as_ref().unwrap().0.clone());
    let good: Vec<_> = good.drain(..).map(Result::unwrap).collect();
    assert_eq!(good, [(key("a"), 1), (key("c"), 3)]);
    assert_eq!(
        bad.drain(..).filter(|of| of.as_ref().is_err_and(|e| e.offset().is_some())).count(),
        2
    );

    put(&producer, "a", None);
    let changes = table.update(Duration::ZERO).unwrap();
    let change = typed.change(&changes[0]).unwrap();
    assert_eq!((change.key, change.old, change.new), (key("a"), Some(1), None));
    // A key that the format refuses.
    let small = table.typed::<u32, u32, _, _>(Decimal, Decimal);
    assert_eq!(small.get(&1000).unwrap_err().kind(), ErrorKind::IllegalArgument);
}

/// Numbers below a thousand, in digits.
struct Decimal;

impl Serde<u32> for Decimal {
    fn serialize(&self, value: &u32) -> std::result::Result<Vec<u8>, SerdeError> {
        match value {
            0..1000 => Ok(value.to_string().into_bytes()),
            _ => Err("too large".into()),
        }
    }

    fn deserialize(&self, bytes: &[u8]) -> std::result::Result<u32, SerdeError> {
        Ok(std::str::from_utf8(bytes)?.parse()?)
    }
}

/// Two threads write, one has the topic cleaned, two read, all at once: no reader sees a key go
/// back, and all ends with what the log says.
#[test]
fn it_is_read_while_it_follows_a_topic_that_is_written_and_cleaned() {
    let broker = Broker::in_memory().unwrap();
    drop(create(&broker, 3));
    let mut table = broker.table("t", TableOptions::new()).unwrap();
    let writing = std::sync::atomic::AtomicUsize::new(2);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (broker, writing) = (&broker, &writing);
            scope.spawn(move || {
                let producer = broker.producer(ProducerConfig::default()).unwrap();
                for n in 0..600 {
                    let value = format!("{n}");
                    let value = (n % 7 > 0).then_some(value.as_str());
                    put(&producer, &format!("{writer}.{}", n % 11), value);
                }
                writing.fetch_sub(1, order);
            });
        }
        scope.spawn(|| {
            while writing.load(order) > 0 {
                broker.admin().compact_now("t").unwrap();
            }
        });
        for _ in 0..2 {
            let view = table.view();
            scope.spawn(|| {
                let (view, mut seen) = (view, BTreeMap::<bytes::Bytes, i64>::new());
                while writing.load(order) > 0 {
                    for entry in &view {
                        let number = std::str::from_utf8(entry.value()).unwrap();
                        assert!(number.parse::<usize>().unwrap() % 7 > 0);
                        let before = seen.insert(entry.key().clone(), entry.offset());
                        assert!(before <= Some(entry.offset()), "{entry:?} after {before:?}");
                    }
                }
            });
        }
        while writing.load(order) > 0 || table.lag().unwrap() > 0 {
            table.update(Duration::ZERO).unwrap();
        }
    });
    assert_eq!(held(&table), read_by_hand(&broker));
    assert_eq!(held(&table), replayed(&broker));
    assert!(table.len() > 10);
}
