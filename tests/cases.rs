//! Directories and inputs that were read wrongly once, as they were found (`tests/cases`), through
//! every door a user has: the owner, an attached broker, `Reader`, `Consumer` with a group and
//! without, the command line. A relative path is in `tests/directory.rs`.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "cli/shell.rs"]
#[allow(dead_code)]
mod shell;

use shell::Shell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use topiclite::{
    Broker, BrokerOptions, Codec, Consumer, ConsumerConfig, Error, ErrorKind, OffsetAndMetadata,
    OffsetReset, ProducerConfig, ProducerRecord, ReadFrom, TopicConfig, TopicPartition,
};

/// A shell on a copy of `tests/cases/NAME`.
fn case(name: &str) -> Shell {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let target = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => copy(&entry.path(), &target),
                false => std::fs::write(target, std::fs::read(entry.path()).unwrap()).unwrap(),
            }
        }
    }
    let shell = Shell::new();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name), shell.dir());
    shell
}

/// What a door gives: offsets, and how the reading ended.
type Given = (Vec<i64>, Option<ErrorKind>);

fn by_reader(broker: &Broker, topic: &str) -> Given {
    let mut offsets = Vec::new();
    let mut reader = broker.reader(topic, 0, ReadFrom::Beginning).unwrap();
    loop {
        match reader.read(Duration::ZERO) {
            Ok(records) if records.is_empty() => return (offsets, None),
            Ok(records) => offsets.extend(records.iter().map(|record| record.offset())),
            Err(error) => {
                let again = reader.read(Duration::ZERO).unwrap_err();
                assert_eq!(again.to_string(), error.to_string(), "told at every read");
                return (offsets, Some(error.kind()));
            }
        }
    }
}

/// Polls until nothing comes, or the same error did three times.
fn poll_all(consumer: &mut Consumer) -> (Vec<i64>, Option<Error>) {
    let (mut offsets, mut quiet, mut told) = (Vec::new(), 0, Vec::new());
    while quiet < 3 && told.len() < 3 {
        match consumer.poll(Duration::ZERO) {
            Ok(records) if records.is_empty() => quiet += 1,
            Ok(records) => offsets.extend(records.iter().map(|record| record.offset())),
            Err(error) => told.push(error),
        }
    }
    assert!(told.is_empty() || told.len() == 3, "told once and then not: {told:?}");
    (offsets, told.pop())
}

/// As polls of all topics that begin with `topic` alone, assigned or, by the owner, subscribed.
fn by_consumer(broker: &Broker, topic: &str, group: Option<&str>, subscribe: bool) -> Given {
    let config = group.map_or_else(ConsumerConfig::without_group, ConsumerConfig::new);
    let config = config.enable_auto_commit(false).auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config).unwrap();
    let partition = TopicPartition::new(topic, 0);
    match subscribe {
        true => {
            consumer.subscribe(&[topic]).unwrap();
            for _ in 0..100 {
                // What is told meanwhile is told again.
                drop(consumer.poll(Duration::from_millis(100)));
                if !consumer.assignment().unwrap().is_empty() {
                    break;
                }
            }
        }
        false => consumer.assign(std::slice::from_ref(&partition)).unwrap(),
    }
    consumer.seek_to_beginning(&[]).unwrap();
    let (offsets, error) = poll_all(&mut consumer);
    if let Some(error) = &error {
        assert!(error.path().is_some() && error.position().is_some(), "{error}");
    }
    (offsets, error.map(|error| error.kind()))
}

/// What `consume` prints of the offsets, and its exit code.
fn by_command(shell: &Shell, topic: &str, words: &[&str]) -> (Vec<i64>, i32) {
    let ended = shell.run(&[&["consume", topic, "--format", "%o\\n"], words].concat(), b"");
    assert_eq!(ended.code == 0, ended.stderr.is_empty(), "{ended:?}");
    (ended.stdout.lines().map(|line| line.parse().unwrap()).collect(), ended.code)
}

/// That every door gives `offsets`, and ends with `error`.
fn given(shell: &Shell, topic: &str, offsets: &[i64], error: Option<ErrorKind>) {
    let expected = (offsets.to_vec(), error);
    let printed = (offsets.to_vec(), i32::from(error.is_some()));
    let look = |broker: &Broker| {
        assert_eq!(by_reader(broker, topic), expected, "{topic}: a reader");
        for group in [None, Some("g")] {
            let polled = by_consumer(broker, topic, group, false);
            assert_eq!(polled, expected, "{topic}: a consumer, group {group:?}");
        }
    };
    look(&Broker::attach(shell.dir()).unwrap());
    assert_eq!(by_command(shell, topic, &[]), printed, "{topic}: consume");
    let owner = Broker::open(shell.dir()).unwrap();
    look(&owner);
    look(&Broker::attach(shell.dir()).unwrap());
    assert_eq!(by_consumer(&owner, topic, Some("members"), true), expected, "{topic}: a member");
    owner.close().unwrap();
    let in_group = ["--group", "printers", "--from", "beginning"];
    assert_eq!(by_command(shell, topic, &in_group), printed, "{topic}: consume --group");
    assert_eq!(by_command(shell, topic, &[]), printed, "{topic}: consume after all that");
}

#[test]
fn damage_is_seen_by_everybody_who_reads() {
    for (topic, error) in [
        ("structure", ErrorKind::CorruptRecord),
        ("crc", ErrorKind::CorruptRecord),
        ("cutmid", ErrorKind::CorruptRecord),
        // Only the byte says so: there is no message of format 1 behind it.
        ("magic1", ErrorKind::CorruptRecord),
    ] {
        given(&case("damage-seen-by-consumer"), topic, &[0], Some(error));
    }
}

/// A position behind the damage is neither out of range nor reset, whatever the policy.
#[test]
fn a_position_behind_damage_is_kept_and_told() {
    let shell = case("damage-seen-by-consumer");
    for broker in [Broker::attach(shell.dir()).unwrap(), Broker::open(shell.dir()).unwrap()] {
        for reset in [OffsetReset::None, OffsetReset::Earliest, OffsetReset::Latest] {
            let config = ConsumerConfig::without_group().auto_offset_reset(reset);
            for (topic, offset) in [("structure", 4), ("cutmid", 2)] {
                let mut consumer = broker.consumer(config.clone()).unwrap();
                let partition = TopicPartition::new(topic, 0);
                consumer.assign(std::slice::from_ref(&partition)).unwrap();
                consumer.seek(&partition, offset).unwrap();
                let (offsets, error) = poll_all(&mut consumer);
                assert_eq!((offsets, error.unwrap().kind()), (vec![], ErrorKind::CorruptRecord));
                assert_eq!(consumer.position(&partition).unwrap(), offset);
                let ends = consumer.end_offsets(std::slice::from_ref(&partition));
                assert_eq!(ends.unwrap_err().kind(), ErrorKind::CorruptRecord);
            }
        }
    }
}

/// A directory of our own, closed in good order, whose second segment was cut.
#[test]
fn a_cut_segment_of_our_own_is_damage_at_every_poll() {
    let shell = Shell::new();
    let broker = Broker::open(shell.dir()).unwrap();
    broker.admin().create_topic("t", 1, TopicConfig::default().segment_bytes(1 << 20)).unwrap();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    for _ in 0..35 {
        producer.send_sync(ProducerRecord::new("t").value([b'A'; 100_000])).unwrap();
    }
    drop(producer);
    broker.close().unwrap();
    let segment = shell.dir().join("t-0/00000000000000000010.log");
    std::fs::OpenOptions::new().write(true).open(segment).unwrap().set_len(500_000).unwrap();
    let whole: Vec<i64> = (0..14).collect();
    given(&shell, "t", &whole, Some(ErrorKind::CorruptRecord));

    let broker = Broker::open(shell.dir()).unwrap();
    let partition = TopicPartition::new("t", 0);
    let config = ConsumerConfig::new("h").auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config.enable_auto_commit(false)).unwrap();
    consumer.assign(std::slice::from_ref(&partition)).unwrap();
    consumer.seek(&partition, 25).unwrap();
    assert!(poll_all(&mut consumer).1.is_some());
    assert_eq!(consumer.position(&partition).unwrap(), 25);
    assert_eq!(consumer.current_lag(&partition).unwrap_err().kind(), ErrorKind::CorruptRecord);
    assert!(!broker.health().is_ok());
}

#[test]
fn batches_far_behind_their_segments_base_are_read_and_nothing_takes_their_place() {
    for name in ["far-offsets/far", "far-offsets/far2"] {
        let shell = case(name);
        given(&shell, "t", &[0, 3_000_000_000, 3_000_000_001], None);
        let broker = Broker::open(shell.dir()).unwrap();
        let producer = broker.producer(ProducerConfig::default()).unwrap();
        let sent = producer.send_sync(ProducerRecord::new("t").partition(0).value("on")).unwrap();
        assert_eq!(sent.offset(), 3_000_000_002, "{name}");
        drop(producer);
        broker.close().unwrap();
        let offsets = [0, 3_000_000_000, 3_000_000_001, 3_000_000_002];
        assert_eq!(by_command(&shell, "t", &[]), (offsets.to_vec(), 0), "{name}");
        assert_eq!(shell.run(&["verify"], b"").code, 0, "{name}");
    }
}

#[test]
fn a_batch_may_decompress_to_more_than_sixteen_mebibytes() {
    let shell = case("zstd-over-16-mib");
    given(&shell, "zbig", &(0..360).collect::<Vec<_>>(), None);
    given(&shell, "zone", &[0, 1], None);
    assert_eq!(shell.run(&["verify"], b"").code, 0);
    // Such a batch is stored, too.
    let broker = Broker::open(shell.dir()).unwrap();
    let config = ProducerConfig::default().compression_type(Codec::Zstd).linger_ms(1);
    let producer = broker.producer(config.max_request_size(64 << 20)).unwrap();
    let value = vec![b'z'; 20 << 20];
    let sent = producer.send_sync(ProducerRecord::new("zone").partition(0).value(&value)).unwrap();
    assert_eq!(sent.offset(), 2);
    drop(producer);
    broker.close().unwrap();
    let broker = Broker::attach(shell.dir()).unwrap();
    let mut reader = broker.reader("zone", 0, ReadFrom::Offset(2)).unwrap();
    let record = reader.next(Duration::ZERO).unwrap().unwrap();
    assert!(record.value().unwrap() == value);
}

/// A position behind such a record would be outside of the log, where a reset leads back, for ever.
#[test]
fn a_record_whose_offset_is_outside_of_its_batch_is_damage() {
    for topic in ["behind", "before", "packed", "again"] {
        let shell = case("record-outside-its-batch");
        given(&shell, topic, &[0, 1], Some(ErrorKind::CorruptRecord));
        let verified = shell.run(&["verify"], b"");
        assert_eq!(verified.code, 1, "{verified:?}");
        assert!(verified.stdout.contains(&format!("{topic}-0/")), "{topic}: {verified:?}");
        assert_eq!(by_command(&shell, topic, &["--from", "3"]), (vec![3], 0), "behind it");
    }
}

#[test]
fn a_negative_committed_offset_is_none() {
    let shell = case("negative-commit");
    let partitions = [TopicPartition::new("t", 0), TopicPartition::new("t", 1)];
    for broker in [Broker::attach(shell.dir()).unwrap(), Broker::open(shell.dir()).unwrap()] {
        assert!(broker.admin().list_group_offsets("negative").unwrap().is_empty());
        let config = ConsumerConfig::new("negative").auto_offset_reset(OffsetReset::None);
        let mut consumer = broker.consumer(config.enable_auto_commit(false)).unwrap();
        let committed = consumer.committed(&partitions).unwrap();
        assert!(committed.values().all(Option::is_none), "{committed:?}");
        consumer.assign(&partitions[..1]).unwrap();
        let error = consumer.poll(Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoOffsetForPartition);
        // The other groups are what they were.
        let offset = |group: &str| {
            let offsets = broker.admin().list_group_offsets(group).unwrap();
            offsets.get(&partitions[0]).map(|offset| offset.offset())
        };
        let groups = ["reuse", "tombfirst", "unknown", "nullkey", "holes", "beyond", "twoempty"];
        let expected = [Some(7), Some(6), Some(5), Some(8), Some(11), Some(500), None];
        assert_eq!(groups.map(offset), expected);
    }
    let rows = shell.run(&["--json", "groups", "describe", "negative"], b"");
    assert!(!rows.stdout.contains("lag\":21"), "{rows:?}");
}

#[test]
fn commit_metadata_that_kafka_could_not_read_back_is_refused() {
    let shell = Shell::new();
    let settings = [("offset.metadata.max.bytes", "200000")];
    let options = || BrokerOptions::from_properties(settings).unwrap();
    let broker = options().open(shell.dir()).unwrap();
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let partition = TopicPartition::new("t", 0);
    let mut consumer = broker.consumer(ConsumerConfig::new("meta2")).unwrap();
    let mut commit = |offset: i64, bytes: usize| {
        let offset = OffsetAndMetadata::new(offset).metadata("m".repeat(bytes));
        consumer.commit_sync_offsets(&BTreeMap::from([(partition.clone(), offset)]))
    };
    commit(1, 32_767).unwrap();
    for bytes in [32_768, 70_000] {
        let error = commit(2, bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OffsetMetadataTooLarge, "{error}");
    }
    drop(consumer);
    broker.close().unwrap();
    for broker in [Broker::attach(shell.dir()).unwrap(), options().open(shell.dir()).unwrap()] {
        let offsets = broker.admin().list_group_offsets("meta2").unwrap();
        assert_eq!(offsets[&partition].offset(), 1);
    }
}

#[test]
fn json_that_is_not_all_understood_is_refused_and_what_was_printed_is_taken() {
    let lines = include_str!("cases/json-silence/lines.jsonl");
    for line in lines.lines() {
        let shell = Shell::new();
        shell.ok(&["topics", "create", "t", "--partitions", "1"]);
        let refused = shell.run(&["produce", "t", "--input-format", "json"], line.as_bytes());
        assert_eq!(refused.code, 1, "{line}: {refused:?}");
        assert!(refused.stderr.contains("line 1"), "{refused:?}");
        assert_eq!(by_command(&shell, "t", &[]), (vec![], 0), "{line}");
    }
    let shell = Shell::new();
    shell.ok(&["topics", "create", "no-timestamp", "--partitions", "1"]);
    let printed = include_str!("cases/json-silence/no-timestamp.jsonl");
    shell.feed(&["produce", "no-timestamp", "--input-format", "json"], printed.as_bytes());
    assert_eq!(by_command(&shell, "no-timestamp", &[]), (vec![0], 0));
}
