//! What is kept of cleanings: how far partitions were cleaned, and when. The first is looked at
//! anew where it cannot be, the second is only told, and told as it was kept, or not at all.

use crate::place::*;
use std::path::PathBuf;
use std::time::Duration;
use topiclite::storage::{Sim, Storage};
use topiclite::time::VirtualClock;
use topiclite::{Broker, ProducerConfig, ProducerRecord, ReadFrom, TopicConfig};

fn file() -> PathBuf {
    path("topiclite.cleaned")
}

/// A compacted topic.
fn create(broker: &Broker, topic: &str, partitions: i32) {
    let config = TopicConfig::default().cleanup_policy(&["compact"]);
    broker.admin().create_topic(topic, partitions, config).unwrap();
}

/// Has all partitions of a topic cleaned.
fn clean(broker: &Broker, topic: &str, partitions: i32) {
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    for partition in 0..partitions {
        let record = ProducerRecord::new(topic).partition(partition).key("k").value("v");
        producer.send_sync(record).unwrap();
    }
    broker.admin().compact_now(topic).unwrap();
}

/// When a partition was cleaned last.
fn cleaned_at(broker: &Broker, topic: &str, partition: i32) -> Option<i64> {
    broker.admin().cleaning_status(topic, partition).unwrap().last_cleaned_ms()
}

/// The first dirty offset of partition 0.
fn first_dirty(broker: &Broker) -> i64 {
    broker.admin().cleaning_status("t", 0).unwrap().first_dirty_offset()
}

/// The bytes of the file with these rows.
fn proven(rows: &str) -> Vec<u8> {
    let rest = format!("0\n{}\n{rows}", rows.lines().count());
    let proof = topiclite::record::crc32c(rest.as_bytes());
    format!("crc32c {proof:08x}\n{rest}").into_bytes()
}

/// When a topic was cleaned is only told, and told as it was, or not at all.
#[test]
fn a_damaged_time_of_the_last_cleaning_is_left_out_and_made_anew() {
    let sim = Sim::new();
    let broker = open(&sim);
    create(&broker, "t", 1);
    clean(&broker, "t", 1);
    let cleaned = |broker: &Broker| cleaned_at(broker, "t", 0);
    let at = cleaned(&broker).expect("it was cleaned");
    broker.close().unwrap();
    let file = file();
    let whole = get(&sim, &file);
    let mut all: Vec<Vec<u8>> = (0..whole.len()).map(|len| whole[..len].to_vec()).collect();
    all.extend((0..whole.len()).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    }));
    all.extend([[&whole[..], b"t 0 7\n"].concat(), vec![0xff; 300], vec![0; 300]]);
    for bytes in all {
        let sim = sim.kill();
        put(&sim, &file, &bytes);
        let broker = attach(&sim);
        assert_eq!(cleaned(&broker), None, "{bytes:?}");
        drop(broker);
        let broker = open(&sim);
        assert_eq!(cleaned(&broker), None, "{bytes:?}");
        assert!(warned(&broker, &["topiclite.cleaned", "checksum"]), "{bytes:?}");
        assert_eq!(get(&sim, &file), bytes, "a look changes nothing");
        clean(&broker, "t", 1);
        let again = cleaned(&broker).expect("it was cleaned again");
        assert!(again >= at);
        broker.close().unwrap();
        assert_eq!(cleaned(&open(&sim)), Some(again));
    }
    let sim = sim.kill();
    sim.remove(&file).unwrap();
    assert_eq!(cleaned(&open(&sim)), None);
}

/// Of other partitions and topics, of a clock that was ahead, and of none: what is proven is told
/// of the partition that it names, keeps nothing from being cleaned, and is written anew with what
/// is.
#[test]
fn times_of_others_and_of_the_future_change_nothing() {
    let sim = Sim::new();
    let broker = open(&sim);
    create(&broker, "t", 2);
    clean(&broker, "t", 2);
    let own = cleaned_at(&broker, "t", 0).unwrap();
    broker.close().unwrap();
    assert_eq!(get(&sim, &file()), proven(&format!("t 0 {own}\nt 1 {own}\n")));

    let future = own + 400 * 86_400_000;
    for (rows, told) in [
        ("other 0 5\n".to_owned(), [None, None]),
        (format!("t 1 {own}\n"), [None, Some(own)]),
        (format!("t 0 {own}\nt 7 {own}\n"), [Some(own), None]),
        (format!("t 0 {future}\nt 1 {}\n", i64::MAX), [Some(future), Some(i64::MAX)]),
        ("t 0 -1\n".to_owned(), [Some(-1), None]),
        (String::new(), [None, None]),
    ] {
        let sim = sim.kill();
        put(&sim, &file(), &proven(&rows));
        let shown = |broker: &Broker| [0, 1].map(|number| cleaned_at(broker, "t", number));
        assert_eq!(shown(&attach(&sim)), told, "{rows}");
        let clock = VirtualClock::stepping().starting_at(own + 1000);
        let broker = open_under(&clock, &sim);
        assert_eq!(shown(&broker), told, "{rows}");
        assert_eq!(broker.health().warnings().count(), 0, "{rows}: it is whole");
        assert_eq!(first_dirty(&broker), 1, "{rows}");
        clean(&broker, "t", 2);
        assert_eq!(shown(&broker), [Some(own + 1000); 2], "{rows}");
        broker.close().unwrap();
        let now = own + 1000;
        let kept = String::from_utf8(get(&sim, &file())).unwrap();
        assert!(kept.contains(&format!("t 0 {now}\nt 1 {now}\n")), "{rows}: {kept}");
        assert!(!kept.contains("other"), "{rows}: {kept}");
    }
}

/// One digit of how far a log was cleaned is another: the file has no checksum. Of a log as its
/// writer left it no such number is believed: a tombstone behind which nothing was cleaned would
/// go, and what it deletes would be back.
#[test]
fn progress_that_a_log_cannot_have_made_brings_nothing_back() {
    let sim = Sim::new();
    let broker = open(&sim);
    let config = TopicConfig::default().cleanup_policy(&["compact"]).delete_retention_ms(0);
    broker.admin().create_topic("t", 1, config).unwrap();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let send = |key: &str, value: Option<&str>| {
        let record = ProducerRecord::new("t").partition(0).key(key);
        let record = value.map_or(record, |value| ProducerRecord::new("t").key(key).value(value));
        producer.send_sync(record).unwrap();
    };
    send("deleted", Some("v"));
    send("deleted", None);
    send("other", Some("v"));
    broker.close().unwrap();
    put(&sim, &path("cleaner-offset-checkpoint"), b"0\n1\nt 0 2\n");
    for life in 0..4 {
        let broker = open(&sim);
        clean(&broker, "t", 1);
        let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
        let mut last = None;
        while let Some(record) = reader.next(Duration::ZERO).unwrap() {
            if record.key() == Some(b"deleted") {
                last = record.value().map(<[u8]>::to_vec);
            }
        }
        assert_eq!(last, None, "life {life}");
        broker.close().unwrap();
    }
}

/// How far a partition was cleaned, from a directory in which the partitions of these names had
/// more in them, or less: what lies beyond the end counts for nothing, and what lies below it is
/// looked at once more.
#[test]
fn progress_of_other_partitions_is_looked_at_anew() {
    let sim = Sim::new();
    let broker = open(&sim);
    create(&broker, "t", 1);
    (0..3).for_each(|_| clean(&broker, "t", 1));
    assert_eq!(first_dirty(&broker), 3);
    broker.close().unwrap();
    let file = path("cleaner-offset-checkpoint");
    for (rows, first) in [
        ("0\n1\nt 0 3\n", 3),
        ("0\n1\nt 0 4\n", 0),
        ("0\n1\nt 0 9000000000000000000\n", 0),
        ("0\n1\nt 0 -9\n", 0),
        ("0\n1\nt 5 3\n", 0),
        ("0\n1\nother 0 3\n", 0),
        ("0\n2\nt 0 1\nt 0 2\n", 2),
    ] {
        let sim = sim.kill();
        put(&sim, &file, rows.as_bytes());
        assert_eq!(first_dirty(&attach(&sim)), first, "{rows}");
        let broker = open(&sim);
        assert_eq!(first_dirty(&broker), first, "{rows}");
        clean(&broker, "t", 1);
        let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
        let found = reader.next(Duration::ZERO).unwrap().map(|record| record.offset());
        assert_eq!((first_dirty(&broker), found), (4, Some(3)), "{rows}");
        broker.close().unwrap();
        assert_eq!(first_dirty(&open(&sim)), 4, "{rows}");
    }
}
