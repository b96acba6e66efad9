//! Whoever reads a topic while it is compacted, or asks of it, by every door there is.

use super::compaction::{compacted, open};
use crate::log::{CleanerConfig, CleaningScope};
use crate::storage::{Heap, Storage};
use crate::sync::Arc;
use crate::time::VirtualClock;
use crate::topic::TopicPartition;
use crate::{
    Broker, BrokerOptions, ConsumerConfig, ConsumerRecord, ErrorKind, IsolationLevel, OffsetReset,
    OffsetSpec, ProducerConfig, ProducerRecord, ReadFrom,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// The latest value of each key.
type Latest = BTreeMap<Vec<u8>, Vec<u8>>;

const CONFIG: CleanerConfig =
    CleanerConfig { dedupe_buffer_bytes: 1 << 20, load_factor: 0.9, io_buffer_bytes: 4096 };

fn tp() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn put(latest: &mut Latest, record: &ConsumerRecord<'_>) {
    let key = record.key().unwrap().to_vec();
    match record.value() {
        Some(value) => drop(latest.insert(key, value.to_vec())),
        None => drop(latest.remove(&key)),
    }
}

fn end(broker: &Broker) -> i64 {
    let isolation = IsolationLevel::ReadCommitted;
    broker.admin().list_offsets("t", 0, OffsetSpec::Latest, isolation).unwrap().offset().unwrap()
}

/// What a consumer ends with, in a group or without one.
fn by_consumer(broker: &Broker, group: Option<&str>) -> Latest {
    let config = match group {
        Some(group) => ConsumerConfig::new(group),
        None => ConsumerConfig::without_group(),
    };
    let config = config.auto_offset_reset(OffsetReset::Earliest);
    let config = config.isolation_level(IsolationLevel::ReadCommitted).max_poll_records(7);
    let mut consumer = broker.consumer(config).unwrap();
    match group {
        Some(_) => consumer.subscribe(&["t"]).unwrap(),
        None => consumer.assign(&[tp()]).unwrap(),
    }
    let (mut latest, end) = (Latest::new(), end(broker));
    while consumer.position(&tp()).ok().is_none_or(|position| position < end) {
        for record in &consumer.poll(Duration::from_millis(1)).unwrap() {
            put(&mut latest, &record);
        }
    }
    consumer.close().unwrap();
    latest
}

fn by_reader(broker: &Broker) -> Latest {
    let reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    let mut reader = reader.isolation_level(IsolationLevel::ReadCommitted).max_records(7);
    let mut latest = Latest::new();
    while reader.position() < reader.end_offset().unwrap() {
        for record in &reader.read(Duration::ZERO).unwrap() {
            put(&mut latest, &record);
        }
    }
    latest
}

/// Keys written again and again, plain and in transactions, committed and aborted, some deleted.
fn fill(broker: &Broker, rounds: usize, clock: &VirtualClock) -> Latest {
    let plain = broker.producer(ProducerConfig::default()).unwrap();
    let id = ProducerConfig::default().transactional_id("x");
    let transactional = broker.producer(id).unwrap();
    transactional.init_transactions().unwrap();
    let mut latest = Latest::new();
    for round in 0..rounds {
        let commits = round % 3 > 0;
        transactional.begin_transaction().unwrap();
        for n in 0..4 {
            let (key, value) = (format!("k{}", (round + n * 5) % 11), format!("v{round}.{n}"));
            let value = (!(round + n).is_multiple_of(6)).then_some(value);
            let record = ProducerRecord::new("t").key(&key);
            let in_transaction = n % 2 == 0;
            let producer = if in_transaction { &transactional } else { &plain };
            producer.send_sync(record.value(value.as_deref())).unwrap();
            match value {
                _ if in_transaction && !commits => {}
                Some(value) => drop(latest.insert(key.into_bytes(), value.into_bytes())),
                None => drop(latest.remove(key.as_bytes())),
            }
            clock.advance(Duration::from_millis(10));
        }
        match commits {
            true => transactional.commit_transaction().unwrap(),
            false => transactional.abort_transaction().unwrap(),
        }
    }
    latest
}

#[test]
fn whoever_reads_from_the_beginning_ends_with_the_same_at_every_piece_of_a_round() {
    let (storage, clock): (Arc<dyn Storage>, _) = (Arc::new(Heap::new()), VirtualClock::stepping());
    let broker = open(&storage, &clock, &[("log.cleaner.enable", "false")]);
    broker.admin().create_topic("t", 1, compacted()).unwrap();
    let expected = fill(&broker, 60, &clock);
    let beside = BrokerOptions::new().clock(clock.clock()).storage(storage.clone());
    let beside = beside.attach("/data").unwrap();
    let log = broker.inner().topic("t").unwrap().partition(0).unwrap().log().unwrap().clone();
    log.close_active_segment(clock.now()).unwrap();

    // Members and readers that go on while the log changes under them.
    let mut on_their_way = Vec::new();
    for from in [&broker, &beside] {
        let reader = from.reader("t", 0, ReadFrom::Beginning).unwrap();
        let reader = reader.isolation_level(IsolationLevel::ReadCommitted).max_records(3);
        on_their_way.push((reader, Latest::new()));
    }
    let config = ConsumerConfig::new("slow").auto_offset_reset(OffsetReset::Earliest);
    let config = config.isolation_level(IsolationLevel::ReadCommitted).max_poll_records(2);
    let mut member = broker.consumer(config).unwrap();
    member.subscribe(&["t"]).unwrap();
    let mut met = Latest::new();

    let (mut pieces, mut checkpoint) = (0, None);
    for _ in 0..2 {
        let how = (CleaningScope::AllClosed, clock.now().wall_ms);
        let mut round = log.begin_cleaning(checkpoint, how, CONFIG).unwrap().unwrap();
        while !round.is_over() {
            if let Some(done) = round.advance(700).1.unwrap() {
                checkpoint = Some(done.end_offset);
            }
            pieces += 1;
            for (reader, latest) in &mut on_their_way {
                reader.read(Duration::ZERO).unwrap().iter().for_each(|r| put(latest, &r));
            }
            let polled = member.poll(Duration::from_millis(1)).unwrap();
            polled.iter().for_each(|record| put(&mut met, &record));
            for (broker, what) in [(&broker, "the owner"), (&beside, "beside it")] {
                assert_eq!(by_consumer(broker, None), expected, "{what}, piece {pieces}");
                assert_eq!(by_reader(broker), expected, "{what}, piece {pieces}");
            }
            let group = format!("g{pieces}");
            assert_eq!(by_consumer(&broker, Some(&group)), expected, "{group}");
            let findings = beside.admin().verify_partition("t", 0).unwrap();
            assert!(findings.iter().all(|finding| finding.is_note()), "{findings:?}");
            look_ups_agree(&broker, &beside);
        }
        clock.advance(Duration::from_secs(1));
    }
    assert!(pieces > 20, "{pieces}");
    let stable = end(&broker);
    for (mut reader, mut latest) in on_their_way {
        while reader.position() < stable {
            reader.read(Duration::ZERO).unwrap().iter().for_each(|r| put(&mut latest, &r));
        }
        assert_eq!(latest, expected);
    }
    while member.position(&tp()).unwrap() < stable {
        let polled = member.poll(Duration::from_millis(1)).unwrap();
        polled.iter().for_each(|record| put(&mut met, &record));
    }
    assert_eq!(met, expected);
    broker.close().unwrap();
}

/// The owner and who reads beside it find the same by time.
fn look_ups_agree(broker: &Broker, beside: &Broker) {
    let find = |broker: &Broker, time: i64| {
        let isolation = IsolationLevel::ReadCommitted;
        let spec = OffsetSpec::Timestamp(time);
        let found = broker.admin().list_offsets("t", 0, spec, isolation).unwrap();
        found.offset().zip(found.timestamp())
    };
    let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    let times: Vec<i64> =
        reader.read(Duration::ZERO).unwrap().iter().map(|record| record.timestamp()).collect();
    for time in times {
        let (ours, theirs) = (find(broker, time), find(beside, time));
        assert_eq!(ours, theirs, "time {time}");
        assert!(ours.is_none_or(|(_, found)| found >= time), "{ours:?} for {time}");
    }
}

/// A closed log of which one byte is another.
fn damaged(storage: &Arc<dyn Storage>, clock: &VirtualClock) -> std::path::PathBuf {
    let broker = open(storage, clock, &[]);
    for topic in ["t", "u"] {
        broker.admin().create_topic(topic, 1, compacted()).unwrap();
        let producer = broker.producer(ProducerConfig::default()).unwrap();
        for n in 0..100 {
            let (key, value) = (format!("k{}", n % 7), format!("v{n}"));
            producer.send_sync(ProducerRecord::new(topic).key(&key).value(&value)).unwrap();
        }
    }
    broker.close().unwrap();
    let path = std::path::PathBuf::from("/data/t-0/00000000000000000000.log");
    let mut bytes = storage.read_file(&path, 1 << 20).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 4;
    storage.create_cold(&path).unwrap().write_at(0, &bytes).unwrap();
    path
}

#[test]
fn a_damaged_log_is_not_cleaned_and_says_so_to_everybody() {
    let (storage, clock): (Arc<dyn Storage>, _) = (Arc::new(Heap::new()), VirtualClock::stepping());
    let path = damaged(&storage, &clock);
    let broker = open(&storage, &clock, &[]);
    let listed = || {
        let entries = storage.list(std::path::Path::new("/data/t-0")).unwrap();
        entries.into_iter().map(|entry| (entry.name, entry.len)).collect::<Vec<_>>()
    };
    let before = listed();
    clock.advance(Duration::from_secs(60));
    let health = broker.health();
    assert_eq!(health.counter("cleaner_failures"), 1, "it is not tried again and again");
    assert!(!health.is_ok());
    let failed: Vec<_> = health.failed_partitions().collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!((failed[0].0, failed[0].1.kind()), (&tp(), ErrorKind::CorruptRecord));
    assert_eq!(failed[0].1.path(), Some(&*path));
    assert_eq!(broker.admin().cleaning_status("u", 0).unwrap().dirty_ratio(), 0.0, "others are");
    let status = broker.admin().cleaning_status("t", 0).unwrap();
    assert_eq!((status.first_dirty_offset(), status.last_cleaned_ms()), (0, None));
    let refused = broker.admin().compact_now("t").unwrap_err();
    assert_eq!((refused.kind(), refused.path()), (ErrorKind::CorruptRecord, Some(&*path)));
    assert_eq!(broker.health().counter("cleaner_failures"), 2, "on request is a round, too");
    let whole = |rows: &[(String, u64)]| {
        rows.iter().filter(|row| row.0.ends_with(".log")).cloned().collect::<Vec<_>>()
    };
    assert!(whole(&listed()).starts_with(&whole(&before)), "{:?}, was {before:?}", listed());
    let beside = BrokerOptions::new().clock(clock.clock()).storage(storage.clone());
    let findings = beside.attach("/data").unwrap().admin().verify_partition("t", 0).unwrap();
    assert!(findings.iter().any(|finding| finding.path == path), "{findings:?}");
    // What is written is still taken and read.
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    producer.send_sync(ProducerRecord::new("t").key("k").value("v")).unwrap();
    assert!(broker.close().is_err(), "the close tells it once more");
}
