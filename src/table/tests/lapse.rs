//! Tombstones that went before a table has read them, also where what is known of the cleanings
//! was lost.

use super::*;
use crate::table::entries::Latest;

/// A topic whose tombstones go an hour after the cleaning that meets them.
fn forgetting(broker: &Broker) -> Producer {
    let config = compacted().delete_retention_ms(3_600_000);
    broker.admin().create_topic("t", 1, config).unwrap();
    broker.producer(ProducerConfig::default()).unwrap()
}

/// Deletes `key`, and has the cleaner remove the value, and later the tombstone, too.
fn forget(world: &World, broker: &Broker, producer: &Producer, key: &str) {
    put(producer, key, None);
    put(producer, "later", Some("1"));
    broker.admin().compact_now("t").unwrap();
    world.clock.advance(Duration::from_secs(2 * 3600));
    put(producer, "later", Some("2"));
    broker.admin().compact_now("t").unwrap();
    let reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    let mut reader = reader.isolation_level(IsolationLevel::ReadCommitted);
    while let Some(record) = reader.next(Duration::ZERO).unwrap() {
        assert_ne!(record.key(), Some(key.as_bytes()), "it is in the log");
    }
}

#[test]
fn a_tombstone_that_went_unread_still_deletes() {
    for attached in [false, true] {
        let world = World::new();
        let broker = world.open();
        let producer = forgetting(&broker);
        for key in ["a", "b", "c"] {
            put(&producer, key, Some("1"));
        }
        let follower = if attached { world.attach() } else { broker.clone() };
        let mut table = follower.table("t", kept()).unwrap();
        assert!(table.catch_up(LONG).unwrap());
        table.save().unwrap();
        // One that stands in the old segments reads the tombstone there.
        let mut reading = table;
        let mut table = follower.table("t", kept()).unwrap();
        assert!(matches!(table.origin(), TableOrigin::Snapshot(_)));
        forget(&world, &broker, &producer, "b");
        assert!(reading.catch_up(LONG).unwrap());
        assert_eq!(held(&reading), read_by_hand(&broker), "attached: {attached}");
        let mut changes = Vec::new();
        while table.lag().unwrap() > 0 {
            changes.extend(table.update(Duration::ZERO).unwrap());
        }
        assert_eq!(held(&table), read_by_hand(&broker), "attached: {attached}");
        let gone = changes.iter().find(|change| change.key() == "b").unwrap();
        assert_eq!((gone.cause(), gone.offset()), (ChangeCause::Compaction, 1));
        assert_eq!((gone.old_value().map(|of| &of[..]), gone.new_value()), (Some(&b"1"[..]), None));
        // The file is as late as the table was.
        let mut again = follower.table("t", kept()).unwrap();
        let TableOrigin::Rebuilt(why) = again.origin().clone() else {
            panic!("{:?}", again.origin())
        };
        assert!(why.contains("tombstones"), "{why}");
        assert!(again.catch_up(LONG).unwrap());
        assert_eq!(held(&again), read_by_hand(&broker));
        again.save().unwrap();
        let again = follower.table("t", kept()).unwrap();
        assert!(matches!(again.origin(), TableOrigin::Snapshot(_)));
    }
}

#[test]
fn a_table_that_reads_in_time_goes_through_nothing_twice() {
    let world = World::new();
    let broker = world.open();
    let producer = forgetting(&broker);
    put(&producer, "a", Some("1"));
    let mut table = broker.table("t", kept()).unwrap();
    table.catch_up(LONG).unwrap();
    // Whoever goes through the log once more finds nothing of it, and drops it.
    let nowhere = Latest { value: "of no record".into(), offset: 0, timestamp: 0 };
    let witness = Entries::from([("witness".into(), nowhere)]);
    let place = table.followed[0].held.place.clone();
    table.followed[0].held = Arc::new(HeldPartition::new(place, witness));
    table.view.0.replace(vec![table.followed[0].held.clone()], 1);
    for round in 0..40 {
        put(&producer, "a", (round % 3 > 0).then_some("2"));
        broker.admin().compact_now("t").unwrap();
        world.clock.advance(Duration::from_secs(20 * 60));
        let changes = table.update(Duration::ZERO).unwrap();
        assert!(changes.iter().all(|change| change.cause() == ChangeCause::Record));
        table.save().unwrap();
        let again = broker.table("t", kept()).unwrap();
        assert!(matches!(again.origin(), TableOrigin::Snapshot(_)), "{:?}", again.origin());
    }
    // Nothing is sent for long: what comes then is read in time, too.
    for _ in 0..100 {
        world.clock.advance(Duration::from_secs(20 * 60));
        assert!(table.update(Duration::ZERO).unwrap().is_empty());
    }
    put(&producer, "b", Some("1"));
    broker.admin().compact_now("t").unwrap();
    assert_eq!(table.update(Duration::ZERO).unwrap().len(), 1);
    let mut expected = read_by_hand(&broker);
    expected.push((0, "witness".into(), "of no record".into(), 0));
    assert_eq!(held(&table), expected);
}

/// What a kill leaves of the cleaner's progress if it comes between a swap and the next write.
struct KeptProgress(Vec<u8>);

impl KeptProgress {
    const FILE: &str = "/data/cleaner-offset-checkpoint";

    fn of(world: &World) -> KeptProgress {
        KeptProgress(world.storage.read_file(Path::new(Self::FILE), 1 << 20).unwrap())
    }

    /// Kills the broker there.
    fn kill(&self, world: &World, broker: Broker) {
        drop(broker);
        world.storage.create_cold(Path::new(Self::FILE)).unwrap().write_at(0, &self.0).unwrap();
        assert_eq!(KeptProgress::of(world).0, self.0);
    }
}

/// Two lives clean what lies behind the position of a table, and are killed before they have
/// written down how far they came: the first one gives the tombstone its horizon, the second one
/// drops it.
#[test]
fn a_tombstone_is_missed_also_where_kills_took_how_far_it_was_cleaned() {
    let world = World::new();
    let broker = world.open();
    let producer = forgetting(&broker);
    for key in ["a", "b", "c"] {
        put(&producer, key, Some("1"));
    }
    broker.admin().compact_now("t").unwrap();
    let attached = world.attach();
    let mut reading = attached.table("t", kept()).unwrap();
    assert!(reading.catch_up(LONG).unwrap());
    reading.save().unwrap();
    let progress = KeptProgress::of(&world);
    put(&producer, "b", None);
    drop(producer);
    let mut broker = broker;
    for later in ["1", "2"] {
        let producer = broker.producer(ProducerConfig::default()).unwrap();
        put(&producer, "later", Some(later));
        drop(producer);
        broker.admin().compact_now("t").unwrap();
        progress.kill(&world, broker);
        world.clock.advance(Duration::from_secs(2 * 3600));
        broker = world.open();
    }
    let status = broker.admin().cleaning_status("t", 0).unwrap();
    assert_eq!(status.first_dirty_offset(), 3, "nothing is known of what was cleaned since");
    let expected = read_by_hand(&broker);
    assert_eq!(expected.iter().map(|row| &*row.1).collect::<Vec<_>>(), ["a", "c", "later"]);
    let mut table = broker.table("t", kept()).unwrap();
    let TableOrigin::Rebuilt(why) = table.origin().clone() else { panic!("{:?}", table.origin()) };
    assert!(why.contains("tombstones"), "{why}");
    assert!(table.catch_up(LONG).unwrap());
    assert_eq!(held(&table), expected);
    let attached = world.attach().table("t", kept()).unwrap();
    assert!(matches!(attached.origin(), TableOrigin::Rebuilt(_)), "{:?}", attached.origin());
    assert!(reading.catch_up(LONG).unwrap());
    assert_eq!(held(&reading), expected, "the one that went on");
}
