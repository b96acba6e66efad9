//! Logs that are read-only up to their damage: whoever stands there, or behind, is told, by every
//! call and every time, and nothing moves a reader over it.

use super::*;
use crate::config::IsolationLevel;
use crate::consumer::{OffsetAndMetadata, ReadFrom};
use crate::error::{Error, ErrorKind};
use crate::{OffsetSpec, Result};
use std::collections::BTreeMap;

fn u0() -> TopicPartition {
    TopicPartition::new("u", 0)
}

/// Three good records, one whose checksum does not hold, and more behind it; another topic is as it
/// should be.
fn world() -> World {
    let world = World::new();
    let mut flipped = batch(3);
    *flipped.last_mut().unwrap() ^= 4;
    world.put("t-0", 0, &[batch(0), batch(1), batch(2), flipped, batch(4), batch(5)]);
    world.put("u-0", 0, &(0..6).map(batch).collect::<Vec<_>>());
    world
}

/// The owner, and a broker that is attached.
fn both(world: &World) -> [Broker; 2] {
    [world.attach(), world.open()]
}

#[track_caller]
fn told<T: std::fmt::Debug>(outcome: Result<T>) -> Error {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptRecord, "{error}");
    assert_eq!((error.topic(), error.partition(), error.offset()), (Some("t"), Some(0), Some(3)));
    assert!(error.path().is_some() && error.position().is_some(), "{error}");
    error
}

#[test]
fn the_damage_is_the_answer_at_it_and_anywhere_behind_it() {
    for broker in both(&world()) {
        for isolation in ["read_committed", "read_uncommitted"] {
            for reset in ["earliest", "latest", "none", "by_duration:PT1H"] {
                let properties = [("auto.offset.reset", reset), ("isolation.level", isolation)];
                let mut consumer = assigned(&broker, &properties);
                for offset in [3, 4, 5, 6, 7, 1 << 40] {
                    consumer.seek(&t0(), offset).unwrap();
                    for timeout in [Duration::ZERO, LONG, Duration::ZERO] {
                        told(consumer.poll(timeout));
                        assert_eq!(consumer.position(&t0()).unwrap(), offset, "it stays");
                        told(consumer.current_lag(&t0()));
                    }
                }
                consumer.seek(&t0(), 1).unwrap();
                assert_eq!(offsets(&consumer.poll(Duration::ZERO).unwrap()), [1, 2]);
                told(consumer.poll(LONG));
                told(consumer.end_offsets(&[t0()]));
                assert_eq!(consumer.beginning_offsets(&[t0()]).unwrap()[&t0()], 0);
            }
        }
        for offset in [3, 4, 1 << 40] {
            let mut reader = broker.reader("t", 0, ReadFrom::Offset(offset)).unwrap();
            for timeout in [Duration::ZERO, LONG] {
                told(reader.read(timeout));
                told(reader.next(timeout).map(|_| ()));
            }
            assert_eq!(reader.position(), offset);
            told(reader.end_offset());
        }
    }
}

#[test]
fn what_depends_on_the_end_is_not_made_up() {
    for broker in both(&world()) {
        let admin = broker.admin();
        let listed = |spec| admin.list_offsets("t", 0, spec, IsolationLevel::ReadCommitted);
        told(listed(OffsetSpec::Latest));
        told(listed(OffsetSpec::MaxTimestamp));
        told(listed(OffsetSpec::Timestamp(1)));
        assert_eq!(listed(OffsetSpec::Timestamp(0)).unwrap().offset(), Some(0));
        assert_eq!(listed(OffsetSpec::Earliest).unwrap().offset(), Some(0));
        for from in [ReadFrom::End, ReadFrom::Last(2), ReadFrom::Timestamp(1)] {
            told(broker.reader("t", 0, from).map(|_| ()));
        }
        for reset in ["latest", "by_duration:PT1H"] {
            let mut consumer = assigned(&broker, &[("auto.offset.reset", reset)]);
            for _ in 0..3 {
                told(consumer.poll(Duration::ZERO));
                told(consumer.position(&t0()));
            }
            told(consumer.offsets_for_times(&BTreeMap::from([(t0(), 1)])));
            let found = consumer.offsets_for_times(&BTreeMap::from([(t0(), 0)])).unwrap();
            assert_eq!(found[&t0()].map(|found| found.offset()), Some(0));
            // Another partition is read all the same.
            consumer.assign(&[t0(), u0()]).unwrap();
            consumer.seek(&u0(), 4).unwrap();
            assert_eq!(offsets(&consumer.poll(Duration::ZERO).unwrap()), [4, 5]);
            told(consumer.poll(Duration::ZERO));
        }
    }
}

#[test]
fn a_group_stays_where_it_is() {
    let world = world();
    let broker = world.open();
    let config = |reset| {
        let set =
            [("group.id", "g"), ("auto.offset.reset", reset), ("auto.commit.interval.ms", "1")];
        ConsumerConfig::from_properties(set).unwrap()
    };
    for committed in [3, 5, 6, 9] {
        let mut consumer = broker.consumer(config("earliest")).unwrap();
        let at = OffsetAndMetadata::new(committed);
        consumer.commit_sync_offsets(&BTreeMap::from([(t0(), at)])).unwrap();
        drop(consumer);
        for reset in ["earliest", "latest", "none"] {
            let mut consumer = broker.consumer(config(reset)).unwrap();
            consumer.subscribe(&["t"]).unwrap();
            while consumer.assignment().unwrap().is_empty() {
                drop(consumer.poll(Duration::ZERO));
            }
            for _ in 0..3 {
                told(consumer.poll(LONG));
            }
            consumer.commit_sync().unwrap();
            consumer.close().unwrap();
            let offsets = broker.admin().list_group_offsets("g").unwrap();
            assert_eq!(offsets[&t0()].offset(), committed, "{reset}");
        }
    }
}

#[test]
fn the_others_are_read_and_the_damage_is_told_in_between() {
    for broker in both(&world()) {
        let mut consumer = assigned(&broker, &[("max.poll.records", "2")]);
        consumer.assign(&[t0(), u0()]).unwrap();
        consumer.seek(&t0(), 3).unwrap();
        let (mut read, mut errors) = (Vec::new(), 0);
        for _ in 0..8 {
            match consumer.poll(Duration::ZERO) {
                Ok(records) => read.extend(offsets(&records)),
                Err(error) => {
                    told::<()>(Err(error));
                    errors += 1;
                }
            }
        }
        assert_eq!((read.as_slice(), errors), ([0, 1, 2, 3, 4, 5].as_slice(), 5));
        consumer.pause(&[t0()]).unwrap();
        assert!(consumer.poll(Duration::ZERO).unwrap().is_empty(), "a pause ends it");
    }
}

/// The end of an open transaction lies in the damage, or behind it.
#[test]
fn who_waits_for_an_open_transaction_before_the_damage_is_told_too() {
    let world = World::new();
    let mut flipped = marker(3, 7, ControlType::Commit);
    *flipped.last_mut().unwrap() ^= 4;
    let open = [of_transaction(1, 7), batch(2), flipped, batch(4)];
    world.put("t-0", 0, &[vec![batch(0)], open.to_vec()].concat());
    for broker in both(&world) {
        let mut consumer = assigned(&broker, &[("isolation.level", "read_committed")]);
        assert_eq!(offsets(&consumer.poll(Duration::ZERO).unwrap()), [0]);
        told(consumer.poll(LONG));
        let reader = broker.reader("t", 0, ReadFrom::Offset(1)).unwrap();
        told(reader.isolation_level(IsolationLevel::ReadCommitted).read(LONG));
    }
}

#[test]
fn a_partition_without_its_folder_is_no_empty_one() {
    let world = World::new();
    world.put("t-1", 0, &[batch(0)]);
    for broker in both(&world) {
        let lost = |error: Error| {
            assert_eq!(error.kind(), ErrorKind::CorruptRecord, "{error}");
            assert!(error.to_string().contains("/data/t-0"), "{error}");
        };
        let mut consumer = assigned(&broker, &[]);
        for _ in 0..2 {
            lost(consumer.poll(LONG).unwrap_err());
        }
        lost(consumer.end_offsets(&[t0()]).unwrap_err());
        lost(consumer.current_lag(&t0()).unwrap_err());
        let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
        lost(reader.read(LONG).unwrap_err());
    }
}

const FAR: i64 = 3_000_000_000;

/// Farther from the segment's base than its index can say: they are read all the same.
#[test]
fn batches_far_from_the_base_of_their_segment_are_read_and_kept() {
    let cases: [(&[i64], &[i64]); 2] = [(&[0, FAR, FAR + 1], &[]), (&[0, FAR], &[FAR + 1])];
    for (first, second) in cases {
        let world = World::new();
        let batches = |offsets: &[i64]| offsets.iter().copied().map(batch).collect::<Vec<_>>();
        world.put("t-0", 0, &batches(first));
        if let Some(base) = second.first() {
            world.put("t-0", *base, &batches(second));
        }
        for life in 0..3 {
            let expected: Vec<i64> =
                [0, FAR, FAR + 1].into_iter().chain((0..life).map(|n| FAR + 2 + n)).collect();
            for broker in both(&world) {
                assert_eq!(poll_all(&mut assigned(&broker, &[])), expected, "{first:?} {life}");
                for offset in [1, FAR, FAR + 1] {
                    let from = ReadFrom::Offset(offset);
                    let mut reader = broker.reader("t", 0, from).unwrap();
                    let found = reader.next(Duration::ZERO).unwrap().unwrap().offset();
                    assert_eq!(found, offset.max(FAR));
                }
            }
            let broker = world.open();
            let log =
                broker.inner().topic("t").unwrap().partition(0).unwrap().log().unwrap().clone();
            let options = crate::log::AppendOptions::client(5);
            let appended = log.append(&RecordInput::default(), options).unwrap();
            assert_eq!(appended.base_offset, FAR + 2 + life);
            broker.close().unwrap();
        }
    }
}

/// No checksum covers a base offset: a last batch that is far away by nothing but its own word is
/// neither served nor written over.
#[test]
fn a_batch_that_nothing_else_vouches_for_is_never_overwritten() {
    let [zero, one, two] = [0, 1, 2].map(batch);
    let cases: [(&str, Vec<Vec<u8>>, i64); 3] = [
        ("far away", vec![zero.clone(), batch(FAR)], 1),
        ("steps back", vec![zero.clone(), one.clone(), two, one.clone()], 3),
        ("steps back and goes on", vec![zero, one.clone(), one, batch(2), batch(3)], 2),
    ];
    for (what, batches, end) in cases {
        let world = World::new();
        world.put("t-0", 0, &batches);
        for _ in 0..2 {
            for broker in both(&world) {
                let mut consumer = assigned(&broker, &[]);
                let read = offsets(&consumer.poll(Duration::ZERO).unwrap());
                assert_eq!(read, (0..end).collect::<Vec<_>>(), "{what}: each once");
                let error = consumer.poll(Duration::ZERO).unwrap_err();
                assert_eq!((error.kind(), error.offset()), (ErrorKind::CorruptRecord, Some(end)));
                if let Ok(log) = broker.inner().topic("t").unwrap().partition(0).unwrap().log() {
                    let options = crate::log::AppendOptions::client(5);
                    let refused = log.append(&RecordInput::default(), options).unwrap_err();
                    assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{what}");
                }
                broker.close().unwrap();
            }
        }
    }
}

/// A later segment that begins below the end of the one before it.
#[test]
fn overlapping_segments_are_read_once_and_up_to_the_overlap() {
    let world = World::new();
    world.put("t-0", 0, &(0..5).map(batch).collect::<Vec<_>>());
    world.put("t-0", 3, &(3..7).map(batch).collect::<Vec<_>>());
    for broker in both(&world) {
        let mut consumer = assigned(&broker, &[]);
        assert_eq!(offsets(&consumer.poll(Duration::ZERO).unwrap()), [0, 1, 2, 3, 4]);
        let error = consumer.poll(Duration::ZERO).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::CorruptRecord, Some(5)));
    }
}
