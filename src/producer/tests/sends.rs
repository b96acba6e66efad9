//! Sends that complete on the caller's thread.

use super::*;
use crate::config::Acks;
use crate::storage::faults::{Call, Failure, Rule};
use std::collections::HashSet;

#[test]
fn a_send_is_in_the_log_when_it_returns() {
    let world = World::new();
    world.topic("t", 2, &[]);
    let producer = world.producer(&[]);
    let future = producer.send(to(1, "a").key("k").timestamp(1000)).unwrap();
    assert!(future.is_done());
    assert_eq!(world.end("t", 1), 1);
    let metadata = future.wait().unwrap();
    assert_eq!((metadata.partition(), metadata.offset()), (1, 0));
    assert_eq!(metadata.timestamp(), 1000);
    assert_eq!((metadata.serialized_key_size(), metadata.serialized_value_size()), (1, 1));
    let metadata = producer.send(ProducerRecord::new("t").partition(1)).unwrap().wait().unwrap();
    assert_eq!((metadata.serialized_key_size(), metadata.serialized_value_size()), (-1, -1));
    assert_eq!(metadata.timestamp(), world.clock.now().wall_ms, "the time of the send");
    let stored = world.read("t", 1);
    assert_eq!((stored[0].key.as_deref(), stored[0].value.as_deref()), (Some("k"), Some("a")));
    assert_eq!((stored[1].key.as_deref(), stored[1].value.as_deref()), (None, None));
}

#[test]
fn keys_choose_the_partition_and_an_explicit_one_wins() {
    let world = World::new();
    world.topic("t", 10, &[]);
    let producer = world.producer(&[]);
    let sent = |record: ProducerRecord<'_>| producer.send(record).unwrap().wait().unwrap();
    let keyed = |key: &'static str| ProducerRecord::new("t").key(key);
    for (key, partition) in [("", 1), ("a", 4), ("abc", 7), ("foobar", 6), ("key", 1)] {
        assert_eq!(sent(keyed(key)).partition(), partition, "{key}");
    }
    assert_eq!(sent(keyed("foobar").partition(2)).partition(), 2);
    let ignores = world.producer(&[("partitioner.ignore.keys", "true")]);
    let chosen: HashSet<i32> = (0..20)
        .map(|i| {
            let key = format!("k{i}");
            let record = ProducerRecord::new("t").key(&key);
            ignores.send(record).unwrap().wait().unwrap().partition()
        })
        .collect();
    assert_eq!(chosen.len(), 1, "keys are ignored, so the records stick to one partition");
}

#[test]
fn records_without_a_key_stay_in_a_partition_for_about_a_batch() {
    let world = World::new();
    world.topic("t", 8, &[]);
    let producer = world.producer(&[("batch.size", "1000")]);
    let value = "v".repeat(100);
    let mut runs: Vec<(i32, usize)> = Vec::new();
    for _ in 0..400 {
        let record = ProducerRecord::new("t").value(&value);
        let partition = producer.send(record).unwrap().wait().unwrap().partition();
        match runs.last_mut() {
            Some((last, count)) if *last == partition => *count += 1,
            _ => runs.push((partition, 1)),
        }
    }
    // Upper bound of a record: 61 + 21 + 1 + 2 + 100 + 1.
    let per_batch = 1000usize.div_ceil(186);
    assert!(runs.iter().all(|(_, count)| count % per_batch == 0 || *count < per_batch), "{runs:?}");
    let used: HashSet<i32> = runs.iter().map(|(partition, _)| *partition).collect();
    assert_eq!(used.len(), 8, "all partitions get their share");
}

#[test]
fn faults_of_the_call_are_returned_with_the_record() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(&[]);
    for record in [to(-1, "v"), to(0, "v").timestamp(-1)] {
        let refused = producer.send(record.clone()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::IllegalArgument);
        assert_eq!(refused.into_record().unwrap().value_bytes(), Some(&b"v"[..]));
        let told = Told::default();
        producer.send_with(record, told.callback()).unwrap_err();
        assert!(told.take().is_empty(), "no callback for what was thrown");
    }
    producer.send(to(0, "v").timestamp(0)).unwrap().wait().unwrap();
    world.broker.close().unwrap();
    assert_eq!(producer.send(to(0, "v")).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_missing_topic_or_partition_is_known_at_once_with_kafkas_error() {
    let world = World::new();
    world.topic("t", 2, &[]);
    let producer = world.producer(&[]);
    let before = world.clock.now();
    let failed = failure(&producer, ProducerRecord::new("nope").key("k").value("v").timestamp(7));
    assert_eq!(failed.kafka_name(), "REQUEST_TIMED_OUT");
    assert_eq!(failed.root_kind(), ErrorKind::UnknownTopicOrPartition);
    assert_eq!((failed.topic(), failed.partition()), (Some("nope"), None));
    assert!(!failed.is_retriable(), "a typo stays one");
    let record = failed.into_record().unwrap();
    assert_eq!((record.key_bytes(), record.chosen_timestamp()), (Some(&b"k"[..]), Some(7)));
    let failed = failure(&producer, to(2, "v"));
    assert_eq!((failed.kind(), failed.partition()), (ErrorKind::UnknownTopicOrPartition, Some(2)));
    assert_eq!(kind(producer.partitions_for("nope")), ErrorKind::UnknownTopicOrPartition);
    assert_eq!(world.clock.now(), before, "nothing waited");
    // Creating the topic heals the producer.
    world.topic("nope", 1, &[]);
    producer.send(ProducerRecord::new("nope").value("v")).unwrap().wait().unwrap();
    assert_eq!(producer.partitions_for("t").unwrap().len(), 2);
}

#[test]
fn a_topic_is_made_by_the_first_send_where_the_broker_allows_it() {
    let world = World::with(&[("auto.create.topics.enable", "true"), ("num.partitions", "3")]);
    let producer = world.producer(&[]);
    let send = |value| producer.send(ProducerRecord::new("made").key("k").value(value)).unwrap();
    assert_eq!(send("a").wait().unwrap().offset(), 0);
    assert_eq!(send("b").wait().unwrap().offset(), 1);
    assert_eq!(producer.partitions_for("made").unwrap().len(), 3);
    // A topic that is deleted is made anew, and offsets start at 0 again.
    world.broker.admin().delete_topic("made").unwrap();
    assert_eq!(send("c").wait().unwrap().offset(), 0);
    assert_eq!(send("d").wait().unwrap().offset(), 1);
}

#[test]
fn names_that_no_topic_can_have_and_internal_topics_are_refused() {
    let world = World::with(&[("auto.create.topics.enable", "true")]);
    let producer = world.producer(&[]);
    let long = "x".repeat(250);
    let internal = ["__consumer_offsets", "__transaction_state", "__share_group_state"];
    for name in ["a b", "a/b", "..", "", &long].into_iter().chain(internal) {
        let failed = failure(&producer, ProducerRecord::new(name).partition(0).value("v"));
        assert_eq!(failed.kafka_name(), "INVALID_TOPIC_EXCEPTION", "{name}");
    }
}

#[test]
fn a_grown_topic_gives_its_new_partitions_to_a_running_producer() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(&[]);
    producer.send(to(0, "a")).unwrap().wait().unwrap();
    assert_eq!(failure(&producer, to(3, "b")).kind(), ErrorKind::UnknownTopicOrPartition);
    world.broker.admin().grow_topic("t", 4).unwrap();
    producer.send(to(3, "b")).unwrap().wait().unwrap();
    let metadata = producer.send(ProducerRecord::new("t").key("abc")).unwrap().wait().unwrap();
    assert_eq!(metadata.partition(), 479_470_107 % 4);
}

#[test]
fn many_topics_are_found_however_their_names_collide_in_the_table() {
    let world = World::new();
    let names: Vec<String> = (0..150).map(|i| format!("topic-{i:03}")).collect();
    for name in &names {
        world.topic(name, 1, &[]);
    }
    let producer = world.producer(&[]);
    for round in 0..3 {
        for name in &names {
            let metadata = producer.send(ProducerRecord::new(name)).unwrap().wait().unwrap();
            assert_eq!(metadata.offset(), round, "{name}");
        }
    }
}

#[test]
fn a_producer_that_outlives_many_topics_keeps_none_of_them() {
    let world = World::new();
    let producer = world.producer(&[]);
    let mut logs = Vec::new();
    for round in 0..200 {
        world.topic("t", 1, &[]);
        assert_eq!(producer.send(to(0, "v")).unwrap().wait().unwrap().offset(), 0, "{round}");
        logs.push(Arc::downgrade(&world.log("t", 0)));
        world.broker.admin().delete_topic("t").unwrap();
    }
    let alive = logs.iter().filter(|log| log.strong_count() > 0).count();
    assert!(alive <= 3, "{alive} deleted logs are still held");
}

#[test]
fn the_largest_record_is_bounded_as_in_the_java_client() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(&[("max.request.size", "1000")]);
    let value = "v".repeat(2000);
    let sized = |n: usize| producer.send(to(0, &value[..n])).unwrap().wait();
    assert_eq!(sized(913).unwrap().offset(), 0);
    assert_eq!(sized(914).unwrap().offset(), 1);
    for n in [915, 916, 1000] {
        assert_eq!(kind(sized(n)), ErrorKind::RecordTooLarge);
    }
    let small = world.producer(&[
        ("buffer.memory", "32768"),
        ("max.request.size", "1000000"),
        ("batch.size", "1000"),
    ]);
    let value = "v".repeat(33_000);
    small.send(to(0, &value[..32_000])).unwrap().wait().unwrap();
    assert_eq!(failure(&small, to(0, &value)).kind(), ErrorKind::RecordTooLarge);
}

#[test]
fn the_topics_limit_counts_the_batch_with_its_header() {
    let world = World::new();
    world.topic("t", 1, &[("max.message.bytes", "200")]);
    for config in [&[][..], &[("linger.ms", "5")]] {
        let producer = world.producer(config);
        let value = "v".repeat(200);
        let base = world.end("t", 0);
        for (i, n) in [128, 129, 130].into_iter().enumerate() {
            let metadata = producer.send(to(0, &value[..n])).unwrap().wait().unwrap();
            assert_eq!(metadata.offset(), base + i as i64);
        }
        for n in [131, 132, 133, 134] {
            let failed = failure(&producer, to(0, &value[..n]));
            assert_eq!(failed.kafka_name(), "MESSAGE_TOO_LARGE");
            assert_eq!(failed.record().unwrap().value_bytes().map(<[u8]>::len), Some(n));
        }
        assert_eq!(world.end("t", 0), base + 3);
    }
}

#[test]
fn timestamps_outside_the_topics_bounds_are_refused() {
    let world = World::new();
    world.topic("t", 1, &[("retention.ms", "-1")]);
    let producer = world.producer(&[]);
    let now = world.clock.now().wall_ms;
    producer.send(to(0, "old").timestamp(0)).unwrap().wait().unwrap();
    producer.send(to(0, "soon").timestamp(now + 1_800_000)).unwrap().wait().unwrap();
    let failed = failure(&producer, to(0, "late").timestamp(now + 7_200_000));
    assert_eq!(failed.kafka_name(), "INVALID_TIMESTAMP");
}

#[test]
fn log_append_time_is_what_a_send_is_told() {
    let world = World::new();
    world.topic("t", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let now = world.clock.now().wall_ms;
    for config in [&[][..], &[("linger.ms", "0"), ("batch.size", "0")]] {
        let producer = world.producer(config);
        let far = producer.send(to(0, "a").timestamp(now + 7_200_000)).unwrap();
        assert_eq!(far.wait().unwrap().timestamp(), now);
        let both = producer.send_all([to(0, "b").timestamp(5), to(0, "c").timestamp(6)]).unwrap();
        for future in both {
            assert_eq!(future.wait().unwrap().timestamp(), now);
        }
    }
}

#[test]
fn acks_0_tells_no_offset_and_no_error_of_the_log() {
    let world = World::new();
    world.topic("t", 1, &[("max.message.bytes", "200"), ("flush.messages", "1")]);
    for linger in ["0", "5"] {
        let base = world.end("t", 0);
        let producer = world.producer(&[("acks", "0"), ("linger.ms", linger)]);
        let future = producer.send(to(0, "a")).unwrap();
        assert_eq!(future.wait().unwrap().offset(), -1);
        let large = "v".repeat(500);
        let metadata = producer.send(to(0, &large)).unwrap().wait().unwrap();
        assert_eq!(metadata.offset(), -1, "nobody wants to know");
        let many = producer.send_all([to(0, "b"), to(0, "c")]).unwrap();
        assert!(many.into_iter().all(|future| future.wait().unwrap().offset() == -1));
        assert_eq!(world.end("t", 0), base + 3);
        let missing = failure(&producer, ProducerRecord::new("nope"));
        assert_eq!(
            missing.kind(),
            ErrorKind::UnknownTopicOrPartition,
            "what the client finds it tells"
        );
    }
}

#[test]
fn every_codec_stores_batches_that_read_back() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let codecs: Vec<Codec> = Codec::ALL.into_iter().filter(|c| c.is_available()).collect();
    for codec in &codecs {
        for linger in [0, 20] {
            let config = ProducerConfig::default().compression_type(*codec).linger_ms(linger);
            let producer = world.broker.producer(config.acks(Acks::All)).unwrap();
            producer.send(to(0, codec.name())).unwrap().wait().unwrap();
        }
    }
    let stored = world.read("t", 0);
    let expected: Vec<_> = codecs.iter().flat_map(|codec| [*codec, *codec]).collect();
    assert_eq!(stored.iter().map(|r| r.codec).collect::<Vec<_>>(), expected);
    assert!(stored.iter().all(|r| r.value.as_deref() == Some(r.codec.name())));
}

#[test]
fn a_full_disk_fails_the_send_at_once_and_the_record_can_be_sent_again() {
    let (world, fault) = World::faulty();
    world.topic("t", 1, &[("internal.segment.bytes", "4096")]);
    let producer = world.producer(&[]);
    producer.send(to(0, "first")).unwrap().wait().unwrap();
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Create, Call::Allocate]).sticky());
    let value = "v".repeat(1000);
    let mut failed = None;
    for _ in 0..10 {
        if let Err(error) = producer.send(to(0, &value)).unwrap().wait() {
            failed = Some(error);
            break;
        }
    }
    let failed = failed.expect("the segment is full, and the next one cannot be made");
    assert_eq!(failed.kind(), ErrorKind::StorageFull);
    assert!(failed.is_retriable() && !failed.possibly_written());
    fault.heal();
    let end = world.end("t", 0);
    let record = failed.into_record().unwrap();
    assert_eq!(producer.send_sync(record).unwrap().offset(), end);
}

#[test]
fn callbacks_run_before_the_send_returns_and_failures_are_told_too() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(&[]);
    let told = Told::default();
    for i in 0..3 {
        let future = producer.send_with(to(0, "v"), told.callback()).unwrap();
        assert_eq!(told.take(), [Ok(i)]);
        assert_eq!(future.wait().unwrap().offset(), i);
    }
    let future = producer.send_with(ProducerRecord::new("nope"), told.callback()).unwrap();
    assert_eq!(told.take(), [Err("REQUEST_TIMED_OUT")]);
    assert_eq!(kind(future.wait()), ErrorKind::UnknownTopicOrPartition);
}

#[test]
fn a_callback_may_send_and_is_told_behind_the_one_it_is_in() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(&[]);
    let told = Told::default();
    let (inner, later) = (producer.clone(), told.clone());
    let future = producer
        .send_with(to(0, "a"), move |outcome| {
            let nested = inner.send_with(to(0, "b"), later.callback()).unwrap();
            assert!(later.take().is_empty(), "this callback is not over");
            assert_eq!(kind(inner.flush()), ErrorKind::Kafka);
            later.callback()(outcome);
            drop(nested);
        })
        .unwrap();
    assert_eq!(told.take(), [Ok(0), Ok(1)]);
    assert_eq!(future.wait().unwrap().offset(), 0);
}

#[test]
fn a_panic_of_a_callback_reaches_the_caller_and_leaves_the_producer_usable() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(&[]);
    let panicking = producer.clone();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        drop(panicking.send_with(to(0, "a"), |_| panic!("in a callback")));
    }));
    assert!(caught.is_err());
    let told = Told::default();
    producer.send_with(to(0, "b"), told.callback()).unwrap().wait().unwrap();
    assert_eq!(told.take(), [Ok(1)]);
}

#[test]
fn send_all_makes_batches_for_each_partition_in_order() {
    let world = World::new();
    world.topic("t", 3, &[]);
    let producer = world.producer(&[("batch.size", "1000")]);
    let value = "v".repeat(200);
    let records: Vec<_> = (0..12).map(|i| to(i % 2, &value)).collect();
    let futures = producer.send_all(records).unwrap();
    let seen: Vec<_> = futures
        .into_iter()
        .map(|future| future.wait().unwrap())
        .map(|metadata| (metadata.partition(), metadata.offset()))
        .collect();
    let expected: Vec<_> = (0..12).map(|i| (i % 2, i64::from(i / 2))).collect();
    assert_eq!(seen, expected);
    let batches: Vec<_> = world.read("t", 0).iter().map(|r| r.batch).collect();
    assert_eq!(batches, [0, 0, 0, 0, 4, 4], "four records of 209 bytes fit into 1000");
    assert!(producer.send_all([]).unwrap().is_empty());
}

#[test]
fn send_all_tells_each_record_its_own_outcome_however_partitions_are_mixed() {
    let world = World::new();
    world.topic("t", 90, &[]);
    world.topic("u", 3, &[]);
    for (batch_size, partitions, refused) in
        [("16384", 90, 5), ("100", 7, 2), ("16384", 2, 400), ("16384", 1, 3), ("16384", 1, 400)]
    {
        let producer = world.producer(&[("batch.size", batch_size)]);
        let values: Vec<String> =
            (0..300).map(|n| format!("{batch_size} {partitions} {n}")).collect();
        let partition = |n: usize| i32::try_from(n * n * 31 % partitions).unwrap();
        let records = values.iter().enumerate().map(|(n, value)| match n % refused {
            0 if refused < 300 => ProducerRecord::new("nope").value(value),
            1 if partitions > 10 => to(partition(n) % 3, value).with_topic("u"),
            _ => to(partition(n), value),
        });
        let sent = producer.send_all(records).unwrap();
        assert_eq!(sent.len(), values.len());
        for (n, future) in sent.into_iter().enumerate() {
            let outcome = future.wait();
            if n % refused == 0 && refused < 300 {
                let failed = outcome.unwrap_err();
                assert_eq!(failed.record().unwrap().value_bytes(), Some(values[n].as_bytes()));
                continue;
            }
            let topic = if n % refused == 1 && partitions > 10 { "u" } else { "t" };
            let metadata = outcome.unwrap();
            let stored = world.read(topic, metadata.partition());
            let record = &stored[usize::try_from(metadata.offset()).unwrap()];
            assert_eq!(record.value.as_deref(), Some(values[n].as_str()), "{n}");
        }
    }
}

#[test]
fn send_all_sends_nothing_when_a_record_is_refused_and_tells_each_failure_otherwise() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(&[("max.request.size", "500")]);
    let refused = producer.send_all([to(0, "a"), to(-2, "b"), to(0, "c")]).unwrap_err();
    assert_eq!(refused.record().unwrap().value_bytes(), Some(&b"b"[..]));
    assert_eq!(world.end("t", 0), 0);
    let large = "v".repeat(500);
    let records = [to(0, "a"), ProducerRecord::new("nope"), to(0, &large), to(0, "b")];
    let outcomes: Vec<_> =
        producer.send_all(records).unwrap().into_iter().map(|future| future.wait()).collect();
    let names: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Ok(metadata) => metadata.offset().to_string(),
            Err(failed) => failed.kafka_name().to_owned(),
        })
        .collect();
    assert_eq!(names, ["0", "REQUEST_TIMED_OUT", "MESSAGE_TOO_LARGE", "1"]);
}
