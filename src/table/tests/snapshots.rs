//! Snapshots: what is saved is found again, and whatever is wrong with a file or its log makes the
//! table read everything anew.

use super::super::fuzzing;
use super::*;
use crate::storage::sim::Random;

fn bytes(world: &World) -> Vec<u8> {
    world.storage.read_file(Path::new(SNAPSHOT), 1 << 20).unwrap()
}

fn replace(world: &World, bytes: &[u8]) {
    world.storage.create_cold(Path::new(SNAPSHOT)).unwrap().write_at(0, bytes).unwrap();
}

/// Opens the table and holds it to a replay. Returns how it began.
fn begun(broker: &Broker, options: TableOptions) -> TableOrigin {
    let mut table = broker.table("t", options).unwrap();
    let origin = table.origin().clone();
    assert!(table.catch_up(LONG).unwrap());
    assert_eq!(held(&table), replayed(broker), "begun by {origin:?}");
    origin
}

fn saved(world: &World, broker: &Broker, partitions: i32) -> Producer {
    let producer = create(broker, partitions);
    for n in 0..30 {
        put(&producer, &format!("k{}", n % 12), (n % 7 > 0).then_some("value"));
    }
    let mut table = broker.table("t", kept()).unwrap();
    assert!(!matches!(table.origin(), TableOrigin::Snapshot(_)));
    table.catch_up(LONG).unwrap();
    table.save().unwrap();
    assert!(!world.storage.exists(Path::new("/tables/t.tmp")).unwrap());
    producer
}

#[test]
fn a_table_begins_where_it_was_saved() {
    let world = World::new();
    let broker = world.open();
    let producer = saved(&world, &broker, 3);
    let entries = replayed(&broker).len();
    let table = broker.table("t", kept()).unwrap();
    assert_eq!(table.origin(), &TableOrigin::Snapshot(entries));
    assert_eq!((held(&table), table.lag().unwrap()), (replayed(&broker), 0));
    let one = broker.table("t", kept().partitions([1])).unwrap();
    let of_one = replayed(&broker).into_iter().filter(|row| row.0 == 1).collect::<Vec<_>>();
    assert_eq!((one.origin(), held(&one)), (&TableOrigin::Snapshot(of_one.len()), of_one));
    put(&producer, "k1", None);
    put(&producer, "new", Some("1"));
    assert_eq!(begun(&broker, kept()), TableOrigin::Snapshot(entries));
    broker.admin().compact_now("t").unwrap();
    assert_eq!(begun(&broker, kept()), TableOrigin::Snapshot(entries));
    broker.close().unwrap();
    assert_eq!(begun(&world.attach(), kept()), TableOrigin::Snapshot(entries));
    let broker = world.open();
    broker.admin().grow_topic("t", 4).unwrap();
    assert_eq!(begun(&broker, kept()), TableOrigin::Snapshot(entries));
    // A life that was killed, of which nothing was lost.
    drop(broker);
    assert_eq!(begun(&world.open(), kept()), TableOrigin::Snapshot(entries));
    // One that is attached may save, too.
    let attached = world.attach();
    let mut table = attached.table("t", kept()).unwrap();
    table.catch_up(LONG).unwrap();
    table.save().unwrap();
    let entries = table.len();
    assert_eq!(begun(&world.open(), kept()), TableOrigin::Snapshot(entries));
}

#[test]
fn a_snapshot_of_something_else_is_told_and_not_used() {
    let world = World::new();
    let broker = world.open();
    saved(&world, &broker, 1);
    let rebuilt = |broker: &Broker, options: TableOptions, why: &str| {
        let origin = begun(broker, options);
        let TableOrigin::Rebuilt(found) = &origin else { panic!("{origin:?}") };
        assert!(found.contains(why), "{found}");
    };
    let dirty = kept().isolation_level(IsolationLevel::ReadUncommitted);
    rebuilt(&broker, dirty, "isolation");
    broker.admin().delete_records("t", 0, -1).unwrap();
    rebuilt(&broker, kept(), "begins at 30");
    broker.admin().delete_topic("t").unwrap();
    saved(&world, &broker, 1);
    let old = bytes(&world);
    broker.admin().delete_topic("t").unwrap();
    create(&broker, 1);
    rebuilt(&broker, kept(), "earlier topic of this name");
    let mut other = old.clone();
    other[8..12].copy_from_slice(&1u32.to_be_bytes());
    replace(&world, &other);
    rebuilt(&broker, kept(), "version 1");
    replace(&world, b"TLTABLES");
    rebuilt(&broker, kept(), "no snapshot");
    let mut table = broker.table("t", TableOptions::new()).unwrap();
    assert_eq!(table.save().unwrap_err().kind(), ErrorKind::IllegalState);
    let nowhere = TableOptions::new().snapshot("/nowhere/t");
    assert_eq!(broker.table("t", nowhere).unwrap().save().unwrap_err().kind(), ErrorKind::Io);
}

/// Two copies of a directory went apart: both lives have the same epoch, and wrote other records
/// at the same offsets.
#[test]
fn a_snapshot_of_another_copy_of_the_directory_is_not_used() {
    let world = World::new();
    let broker = world.open();
    let producer = create(&broker, 1);
    put(&producer, "a", Some("1"));
    broker.close().unwrap();
    let folder = Path::new("/data/t-0");
    let copy: Vec<_> = [Path::new("/data"), folder]
        .iter()
        .flat_map(|dir| {
            let files = world.storage.list(dir).unwrap();
            files.into_iter().filter(|entry| !entry.is_dir).map(|entry| dir.join(entry.name))
        })
        .map(|path| (path.clone(), world.storage.read_file(&path, 1 << 24).unwrap()))
        .collect();
    let live = |value: &str| {
        let broker = world.open();
        let producer = broker.producer(ProducerConfig::default()).unwrap();
        put(&producer, "a", Some(value));
        let mut table = broker.table("t", kept()).unwrap();
        table.catch_up(LONG).unwrap();
        (broker, table)
    };
    let (broker, mut table) = live("2");
    table.save().unwrap();
    drop(table);
    broker.close().unwrap();
    for dir in [Path::new("/data"), folder] {
        for entry in world.storage.list(dir).unwrap().iter().filter(|entry| !entry.is_dir) {
            world.storage.remove(&dir.join(&entry.name)).unwrap();
        }
    }
    for (path, bytes) in copy {
        world.storage.create_cold(&path).unwrap().write_at(0, &bytes).unwrap();
    }
    let (_broker, table) = live("3");
    let TableOrigin::Rebuilt(why) = table.origin() else { panic!("{:?}", table.origin()) };
    assert!(why.contains("another record at 1"), "{why}");
    assert_eq!(table.get("a").as_deref(), Some(&b"3"[..]));
}

#[test]
fn no_damage_to_a_snapshot_is_believed() {
    let world = World::new();
    let broker = world.open();
    saved(&world, &broker, 2);
    let whole = bytes(&world);
    let mut random = Random::new(5);
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1 << random.below(8);
        replace(&world, &changed);
        assert!(matches!(begun(&broker, kept()), TableOrigin::Rebuilt(_)), "byte {at}");
    }
    for len in 0..whole.len() {
        replace(&world, &whole[..len]);
        assert!(matches!(begun(&broker, kept()), TableOrigin::Rebuilt(_)), "{len} bytes");
    }
    let longer = [&whole[..], b"x"].concat();
    replace(&world, &longer);
    assert!(matches!(begun(&broker, kept()), TableOrigin::Rebuilt(_)));
    replace(&world, &whole);
    assert!(matches!(begun(&broker, kept()), TableOrigin::Snapshot(_)));
}

#[test]
fn large_entries_and_many_blocks_are_written_and_read() {
    let world = World::new();
    let broker = world.open();
    broker.admin().create_topic("t", 2, TopicConfig::default()).unwrap();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    for n in 0..40 {
        let value = "x".repeat(n * 7_000);
        put(&producer, &format!("k{n}"), Some(&value));
    }
    let mut table = broker.table("t", kept()).unwrap();
    while table.lag().unwrap() > 0 {
        table.catch_up(LONG).unwrap();
    }
    table.save().unwrap();
    assert_eq!(begun(&broker, kept()), TableOrigin::Snapshot(40));
    let bytes = world.storage.read_file(Path::new(SNAPSHOT), 1 << 24).unwrap();
    fuzzing::table_snapshot(&bytes);
}

#[test]
fn arbitrary_and_mutated_bytes_are_read_without_a_panic() {
    let world = World::new();
    saved(&world, &world.open(), 2);
    let whole = bytes(&world);
    fuzzing::table_snapshot(&whole);
    let mut random = Random::new(9);
    for _ in 0..2000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.below(256) as u8;
        }
        bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
        fuzzing::table_snapshot(&bytes);
        let any: Vec<u8> = (0..random.below(99)).map(|_| random.below(256) as u8).collect();
        fuzzing::table_snapshot(&any);
    }
}
