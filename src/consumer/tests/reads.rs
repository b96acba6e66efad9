//! What polls make of batches: cut by `max.poll.records`, damaged, of transactions.

use super::*;
use crate::config::{IsolationLevel, ProducerConfig, TopicConfig};
use crate::consumer::ReadFrom;
use crate::consumer::reading::GIVEN_UP;
use crate::error::{Error, ErrorKind};
use crate::producer::ProducerRecord;
use crate::record::{BatchBuilder, Codec, crc32c};

/// One compressed batch of the records `first..first + count`.
fn packed(codec: Codec, first: i64, count: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec, None).unwrap();
    for offset in first..first + count {
        let value = offset.to_string();
        let record = RecordInput { value: Some(value.as_bytes()), ..RecordInput::default() };
        builder.append(&record).unwrap();
    }
    builder.finish(&Stamp::plain(first, 0)).unwrap().to_vec()
}

fn values(records: &ConsumerRecords) -> Vec<String> {
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    records.iter().map(|record| text(record.value().unwrap())).collect()
}

#[test]
#[cfg_attr(not(feature = "gzip"), ignore = "needs the feature gzip")]
fn a_compressed_batch_is_cut_by_max_poll_records_and_gone_on_with() {
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let world = World::new();
        world.put("t-0", 0, &[packed(codec, 0, 10), packed(codec, 10, 2)]);
        for broker in [world.attach(), world.open()] {
            let mut consumer = assigned(&broker, &[("max.poll.records", "4")]);
            let mut polls = Vec::new();
            loop {
                let records = consumer.poll(Duration::ZERO).unwrap();
                let offsets = offsets(&records);
                assert_eq!(
                    values(&records),
                    offsets.iter().map(i64::to_string).collect::<Vec<_>>()
                );
                if offsets.is_empty() {
                    break;
                }
                assert_eq!(consumer.position(&t0()).unwrap(), offsets[offsets.len() - 1] + 1);
                polls.push(offsets);
            }
            assert_eq!(polls.concat(), (0..12).collect::<Vec<_>>(), "{codec:?}");
            assert_eq!(polls[0], [0, 1, 2, 3], "{codec:?}");
            assert!(polls.iter().all(|poll| poll.len() <= 4), "{codec:?} {polls:?}");
            // Into the middle, back, and on.
            for from in [7, 3, 11, 5] {
                consumer.seek(&t0(), from).unwrap();
                let records = consumer.poll(Duration::ZERO).unwrap();
                let upto = (from + 4).min(12);
                assert!(offsets(&records).starts_with(&[from]), "{codec:?}");
                assert!(offsets(&records).iter().all(|offset| (from..upto).contains(offset)));
                let mut reader = broker.reader("t", 0, ReadFrom::Offset(from)).unwrap();
                let record = reader.next(Duration::ZERO).unwrap().unwrap();
                assert_eq!(
                    (record.offset(), record.value()),
                    (from, Some(from.to_string().as_bytes()))
                );
            }
        }
    }
}

/// What is there of an error: kind, partition and offset.
fn place(error: &Error) -> (ErrorKind, Option<&str>, Option<i32>, Option<i64>) {
    (error.kind(), error.topic(), error.partition(), error.offset())
}

/// Polls up to the damage at `at`, is refused there as often as it asks, and goes on behind it.
fn stops_at_and_goes_on_behind(broker: &Broker, at: i64, end: i64) {
    let expected = (ErrorKind::CorruptRecord, Some("t"), Some(0), Some(at));
    let mut consumer = assigned(broker, &[]);
    let mut found = Vec::new();
    let error = loop {
        match consumer.poll(LONG) {
            Ok(records) => found.extend(offsets(&records)),
            Err(error) => break error,
        }
    };
    assert_eq!((found, place(&error)), ((0..at).collect(), expected), "{error}");
    for _ in 0..2 {
        let again = consumer.poll(Duration::ZERO).unwrap_err();
        assert_eq!(place(&again), expected, "{again}");
        assert_eq!(consumer.position(&t0()).unwrap(), at, "the position stays");
    }
    consumer.seek(&t0(), at + 1).unwrap();
    assert_eq!(poll_all(&mut consumer), (at + 1..end).collect::<Vec<_>>());

    let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    let mut found = Vec::new();
    let error = loop {
        match reader.read(LONG) {
            Ok(records) => found.extend(offsets(&records)),
            Err(error) => break error,
        }
    };
    assert_eq!((found, place(&error)), ((0..at).collect(), expected), "{error}");
    assert_eq!((place(&reader.read(LONG).unwrap_err()), reader.position()), (expected, at));
    reader.seek(ReadFrom::Offset(at + 1)).unwrap();
    assert_eq!(reader.next(Duration::ZERO).unwrap().unwrap().offset(), at + 1);
}

#[test]
fn a_batch_with_a_wrong_checksum_is_told_until_it_is_sought_past() {
    let world = World::new();
    let owner = world.open();
    owner.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let producer = owner.producer(ProducerConfig::default()).unwrap();
    for offset in 0..6 {
        let value = offset.to_string();
        producer.send(ProducerRecord::new("t").value(&value)).unwrap().wait().unwrap();
    }
    owner.close().unwrap();
    let file = Path::new(DIR).join("t-0/00000000000000000000.log");
    let mut bytes = world.storage.read_file(&file, 1 << 20).unwrap();
    let at = bytes.len() / 6 * 3 + 65;
    bytes[at] ^= 8;
    world.storage.create_cold(&file).unwrap().write_at(0, &bytes).unwrap();
    for broker in [world.attach(), world.open()] {
        stops_at_and_goes_on_behind(&broker, 3, 6);
    }
}

/// A batch whose checksum holds and whose records are not what the header says.
fn malformed(offset: i64) -> Vec<u8> {
    let mut bytes = batch(offset);
    let length = bytes.len() - 1;
    // The length of the record is beyond the batch.
    bytes[61] = 120;
    let crc = crc32c(&bytes[21..=length]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn records_that_make_no_sense_are_told_until_they_are_sought_past() {
    let world = World::new();
    world.put("t-0", 0, &[batch(0), batch(1), malformed(2), batch(3), batch(4)]);
    for broker in [world.attach(), world.open()] {
        stops_at_and_goes_on_behind(&broker, 2, 5);
    }
}

#[test]
fn aborted_records_are_passed_over_wherever_a_poll_ends() {
    let world = World::new();
    let (abort, commit) = (ControlType::Abort, ControlType::Commit);
    world.put(
        "t-0",
        0,
        &[
            of_transaction(0, 7),
            of_transaction(1, 8),
            batch(2),
            of_transaction(3, 7),
            marker(4, 7, abort),
            of_transaction(5, 8),
            // The producer's next transaction is another one.
            of_transaction(6, 7),
            marker(7, 8, commit),
            marker(8, 7, commit),
            of_transaction(9, 8),
            batch(10),
        ],
    );
    world.put("t-0", 11, &[marker(11, 8, abort), of_transaction(12, 9), batch(13)]);
    for broker in [world.attach(), world.open()] {
        for count in ["1", "2", "3", "500"] {
            let set = [("isolation.level", "read_committed"), ("max.poll.records", count)];
            let mut committed = assigned(&broker, &set);
            assert_eq!(poll_all(&mut committed), [1, 2, 5, 6, 10], "by {count}");
            assert_eq!(committed.position(&t0()).unwrap(), 12, "up to the open transaction");
            let mut all = assigned(&broker, &[("max.poll.records", count)]);
            assert_eq!(poll_all(&mut all), [0, 1, 2, 3, 5, 6, 9, 10, 12, 13]);
            // In the middle of what is aborted, and at a marker.
            for (from, first) in [(3, 5), (4, 5), (7, 10), (9, 10)] {
                committed.seek(&t0(), from).unwrap();
                assert_eq!(poll_all(&mut committed).first(), Some(&first), "from {from}");
            }
        }
        let reader = broker.reader("t", 0, ReadFrom::Offset(3)).unwrap();
        let mut reader = reader.isolation_level(IsolationLevel::ReadCommitted);
        assert_eq!(offsets(&reader.read(Duration::ZERO).unwrap())[0], 5);
        assert_eq!(reader.end_offset().unwrap(), 12);
    }
}

#[test]
fn a_consumer_of_an_attached_broker_reads_and_commits_nothing() {
    let world = World::new();
    let owner = world.open();
    owner.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let producer = owner.producer(ProducerConfig::default()).unwrap();
    let send = |value: &str| {
        producer.send(ProducerRecord::new("t").value(value)).unwrap().wait().unwrap();
    };
    send("a");
    let mut member = owner.consumer(ConsumerConfig::new("g")).unwrap();
    member.assign(&[t0()]).unwrap();
    member.seek(&t0(), 1).unwrap();
    member.commit_sync().unwrap();

    let attached = world.attach();
    let mut consumer = attached.consumer(ConsumerConfig::new("g")).unwrap();
    consumer.assign(&[t0()]).unwrap();
    assert_eq!(consumer.position(&t0()).unwrap(), 1, "where the owner's group stands");
    send("b");
    assert_eq!(values(&consumer.poll(LONG).unwrap()), ["b"]);
    let refused = consumer.commit_sync().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{refused}");
    assert_eq!(consumer.position(&t0()).unwrap(), 2, "it reads on all the same");
    send("c");
    assert_eq!(values(&consumer.poll(LONG).unwrap()), ["c"]);
    consumer.close().unwrap();
    let stored = owner.admin().list_group_offsets("g").unwrap();
    assert_eq!(stored[&t0()].offset(), 1);
    let mut subscriber = attached.consumer(ConsumerConfig::new("g")).unwrap();
    subscriber.subscribe(&["t"]).unwrap();
    let refused = subscriber.poll(Duration::ZERO).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{refused}");
}

/// Long enough that most of it is taken by what the index says.
#[test]
fn a_long_log_of_small_records_is_read_whole_whatever_a_poll_takes() {
    const RECORDS: i64 = 4000;
    let world = World::new();
    let owner = world.open();
    owner.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let producer = owner.producer(ProducerConfig::default()).unwrap();
    for offset in 0..RECORDS {
        let value = offset.to_string();
        producer.send(ProducerRecord::new("t").value(&value)).unwrap().wait().unwrap();
    }
    let read = |broker: &Broker, most: usize| {
        let mut consumer = assigned(broker, &[("max.poll.records", &most.to_string())]);
        let mut all = Vec::new();
        while all.len() < RECORDS as usize {
            let records = consumer.poll(Duration::ZERO).unwrap();
            assert!((1..=most).contains(&records.count()));
            assert_eq!(records.iter().count(), records.count());
            all.extend(values(&records));
            assert_eq!(consumer.position(&t0()).unwrap(), all.len() as i64);
        }
        let expected: Vec<_> = (0..RECORDS).map(|offset| offset.to_string()).collect();
        assert_eq!(all, expected, "by {most}");
    };
    [7, 500, 777, 5000].into_iter().for_each(|most| read(&owner, most));
    owner.close().unwrap();
    let broker = world.open();
    [500, 777, 500].into_iter().for_each(|most| read(&broker, most));
}

/// A batch that does not fit any more costs a part of its decompression, once.
#[test]
#[cfg_attr(not(feature = "gzip"), ignore = "needs the feature gzip")]
fn a_poll_begins_to_decompress_one_batch_for_nothing_at_most() {
    const LIMIT: usize = 64 << 10;
    let large = |offset: i64| {
        let mut builder = BatchBuilder::new(Codec::Gzip, None).unwrap();
        let value = [0; 40 << 10];
        builder.append(&RecordInput { value: Some(&value), ..RecordInput::default() }).unwrap();
        builder.finish(&Stamp::plain(offset, 0)).unwrap().to_vec()
    };
    let world = World::new();
    for folder in ["t-0", "t-1"] {
        world.put(folder, 0, &(0..6).map(large).collect::<Vec<_>>());
    }
    let given_up = |work: &mut dyn FnMut() -> usize| {
        GIVEN_UP.set(0);
        (work(), GIVEN_UP.get())
    };
    for broker in [world.attach(), world.open()] {
        let mut consumer = assigned(&broker, &[("fetch.max.bytes", "65536")]);
        consumer.assign(&[t0(), TopicPartition::new("t", 1)]).unwrap();
        let mut polls = Vec::new();
        while polls.iter().map(|(count, _)| count).sum::<usize>() < 12 {
            polls.push(given_up(&mut || consumer.poll(Duration::ZERO).unwrap().count()));
        }
        let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap().unpacked_max(LIMIT);
        for _ in 0..6 {
            polls.push(given_up(&mut || reader.read(Duration::ZERO).unwrap().count()));
        }
        assert!(polls.iter().all(|(count, given_up)| *count == 1 && *given_up <= 1), "{polls:?}");
    }
}
