//! The cleaner as a broker runs it: on its own, within its limit, over internal topics, too.

mod years;

use super::{commit, committed};
use crate::group::{MemberRef, OffsetToCommit, partition_for};
use crate::storage::sim::Sim;
use crate::storage::{Heap, Storage};
use crate::sync::Arc;
use crate::time::VirtualClock;
use crate::topic::{OFFSETS_TOPIC, TopicPartition};
use crate::{
    Broker, BrokerOptions, ErrorKind, IsolationLevel, OffsetSpec, ProducerConfig, ProducerRecord,
    ReadFrom, TopicConfig,
};
use std::time::Duration;

pub(super) fn open(
    storage: &Arc<dyn Storage>,
    clock: &VirtualClock,
    properties: &[(&str, &str)],
) -> Broker {
    let own = [
        ("log.initial.task.delay.ms", "100"),
        ("log.cleaner.backoff.ms", "200"),
        ("offsets.topic.num.partitions", "1"),
        ("offsets.topic.segment.bytes", "4000"),
    ];
    let options = BrokerOptions::from_properties(own.iter().chain(properties).copied()).unwrap();
    options.clock(clock.clock()).storage(storage.clone()).open("/data").unwrap()
}

pub(super) fn heap() -> Arc<dyn Storage> {
    Arc::new(Heap::new())
}

pub(super) fn compacted() -> TopicConfig {
    TopicConfig::default().cleanup_policy(&["compact"]).segment_bytes(2000)
}

pub(super) fn fill(broker: &Broker, topic: &str, records: usize) {
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    for n in 0..records {
        let (key, value) = (format!("k{}", n % 7), format!("v{n}"));
        producer.send_sync(ProducerRecord::new(topic).key(&key).value(&value)).unwrap();
    }
}

#[test]
fn committed_offsets_take_what_they_take_once_and_survive() {
    let (storage, clock) = (heap(), VirtualClock::stepping());
    let broker = open(&storage, &clock, &[]);
    broker.admin().create_topic("t", 3, TopicConfig::default()).unwrap();
    for n in 0..600 {
        commit(&broker, ["g", "h", "i"][n % 3], (n % 2) as i32, n as i64);
        clock.advance(Duration::from_secs(1));
    }
    clock.advance(Duration::from_secs(60));
    let size =
        |broker: &Broker| broker.admin().partition_size(OFFSETS_TOPIC, 0).unwrap().batch_bytes();
    assert!(broker.health().counter("cleanings") > 0);
    assert!(size(&broker) < 12_000, "{} bytes of 600 commits", size(&broker));
    let expected = [("g", [(0, 594), (1, 597)]), ("h", [(0, 598), (1, 595)])];
    for (group, offsets) in expected {
        assert_eq!(committed(&broker, group), offsets);
    }
    broker.close().unwrap();
    let broker = open(&storage, &clock, &[]);
    for (group, offsets) in expected {
        assert_eq!(committed(&broker, group), offsets, "after a clean stop");
    }
    broker.close().unwrap();
}

/// Fault: whoever commits without a pause leaves the cleaner behind, and the topic grows for as
/// long as it does. Path: time stands still, so that nobody cleans but who commits.
#[test]
fn who_commits_faster_than_the_cleaner_cleans_itself() {
    let (storage, clock) = (heap(), VirtualClock::manual());
    let broker = open(&storage, &clock, &[]);
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let size = || broker.admin().partition_size(OFFSETS_TOPIC, 0).unwrap().batch_bytes();
    let mut most = 0;
    for n in 0..6_000 {
        commit(&broker, ["g", "h", "i"][n % 3], 0, n as i64);
        most = most.max(size());
    }
    // 48 segments, what is left of those before, and one that is written.
    assert!(most <= 50 * 4000, "{most} bytes of 6,000 commits");
    assert!(broker.health().counter("cleanings") > 1);
    assert_eq!(committed(&broker, "h"), [(0, 5998)]);
    broker.close().unwrap();
    let broker = open(&storage, &clock, &[]);
    assert_eq!(committed(&broker, "i"), [(0, 5999)], "after a clean stop");
    broker.close().unwrap();
}

/// Fault: segments that are left to the cleaner are never sealed. Path: what is not worth a
/// cleaning, and a broker without a cleaner.
#[test]
fn segments_of_internal_topics_that_stay_are_sealed() {
    for (cleaner, cleanings) in [("true", 1), ("false", 0)] {
        let (storage, clock) = (heap(), VirtualClock::manual());
        let broker = open(&storage, &clock, &[("log.cleaner.enable", cleaner)]);
        broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
        // They are all kept, so what comes behind them makes less than half of the log dirty.
        for group in 0..300 {
            commit(&broker, &format!("group-{group}"), 0, 1);
        }
        clock.advance(Duration::from_secs(1));
        broker.inner().background_step(clock.clock().now());
        let before = broker.health().counter("seals");
        for n in 0..100 {
            commit(&broker, "group-1", 0, n);
        }
        clock.advance(Duration::from_secs(1));
        broker.inner().background_step(clock.clock().now());
        assert!(broker.health().counter("seals") > before, "with a cleaner: {cleaner}");
        assert_eq!(broker.health().counter("cleanings"), cleanings);
        broker.close().unwrap();
    }
}

/// A partition of the offsets topic that only its own groups make a broker read.
#[test]
fn the_first_use_of_a_group_reads_what_is_left_of_its_partition() {
    let (storage, clock) = (heap(), VirtualClock::stepping());
    let options = || {
        BrokerOptions::from_properties([("offsets.topic.num.partitions", "5")])
            .unwrap()
            .clock(clock.clock())
            .storage(storage.clone())
    };
    let broker = options().open("/data").unwrap();
    broker.admin().create_topic("t", 3, TopicConfig::default()).unwrap();
    for n in 0..30_000 {
        commit(&broker, &format!("g{}", n % 20), n % 3, i64::from(n));
        if n % 100 == 99 {
            clock.advance(Duration::from_secs(1));
        }
    }
    let size = |broker: &Broker, number| {
        broker.admin().partition_size(OFFSETS_TOPIC, number).unwrap().batch_bytes()
    };
    // An active segment, one that was closed since the last look, and sixty offsets.
    let most = (512 << 10) + 10_000;
    let all: u64 = (0..5).map(|number| size(&broker, number)).sum();
    assert!((0..5).all(|number| size(&broker, number) < most), "{all} bytes");
    broker.close().unwrap();
    let broker = options().open("/data").unwrap();
    let read = || broker.health().counter("coordinator_bytes_loaded");
    assert_eq!(committed(&broker, "g7").len(), 3);
    let own = size(&broker, partition_for("g7", 5));
    assert_eq!(read(), own, "of {all}");
    commit(&broker, "g7", 0, 1_000_000);
    assert_eq!(read(), own, "a commit asks for no more");
    assert_eq!(broker.admin().list_groups().unwrap().len(), 20);
    assert_eq!(read(), all);
}

#[test]
fn a_host_that_only_commits_has_its_offsets_cleaned_at_each_roll() {
    let (storage, clock) = (heap(), VirtualClock::stepping());
    let slow = [("log.initial.task.delay.ms", "3600000"), ("log.cleaner.backoff.ms", "3600000")];
    let broker = open(&storage, &clock, &slow);
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    broker.admin().create_topic("own", 1, compacted()).unwrap();
    fill(&broker, "own", 100);
    for n in 0..3_000 {
        commit(&broker, "g", 0, n);
        clock.advance(Duration::from_millis(10));
        let size = broker.admin().partition_size(OFFSETS_TOPIC, 0).unwrap();
        assert!(size.batch_bytes() < 8_500, "{size:?} after {n}");
    }
    let dirty = broker.admin().cleaning_status("own", 0).unwrap().first_dirty_offset();
    assert_eq!(dirty, 0, "other topics wait for their time");
}

/// Written by Kafka, or under other settings: no append may ever roll it.
#[test]
fn an_active_segment_that_is_too_large_is_closed_and_cleaned() {
    let (storage, clock) = (heap(), VirtualClock::stepping());
    let large = [("offsets.topic.segment.bytes", "104857600")];
    let broker = open(&storage, &clock, &large);
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    (0..4_000).for_each(|n| commit(&broker, "g", 0, n));
    broker.close().unwrap();
    let small = [("offsets.topic.segment.bytes", "262144")];
    let broker = open(&storage, &clock, &small);
    let size = || broker.admin().partition_size(OFFSETS_TOPIC, 0).unwrap().batch_bytes();
    assert!(size() > 400_000);
    clock.advance(Duration::from_secs(2));
    assert!(size() < 1_000, "{} bytes", size());
    assert_eq!(committed(&broker, "g"), [(0, 3_999)]);
}

/// A group's record grows with its members, and no setting of segments may refuse it.
#[test]
fn a_batch_that_is_larger_than_a_segment_of_the_offsets_topic_has_one_to_itself() {
    let (storage, clock) = (heap(), VirtualClock::stepping());
    let broker = open(&storage, &clock, &[]);
    broker.admin().create_topic("t", 500, TopicConfig::default()).unwrap();
    commit(&broker, "g", 0, 1);
    let member = MemberRef {
        group_id: "g".into(),
        member_id: "".into(),
        group_instance_id: None,
        generation_id: -1,
    };
    for round in 0..3 {
        let offset = |partition| OffsetToCommit {
            partition: TopicPartition::new("t", partition),
            offset: round,
            leader_epoch: -1,
            metadata: "m".repeat(100).into(),
        };
        let offsets: Vec<_> = (0..500).map(offset).collect();
        let outcomes = broker.inner().groups().unwrap().commit(&member, &offsets).unwrap();
        outcomes.into_iter().for_each(|(_, outcome)| outcome.unwrap());
        commit(&broker, "g", 0, round);
    }
    clock.advance(Duration::from_secs(2));
    assert_eq!(committed(&broker, "g").len(), 500);
    broker.close().unwrap();
    let broker = open(&storage, &clock, &[]);
    assert_eq!(committed(&broker, "g")[499], (499, 2));
}

#[test]
fn offsets_that_nobody_needs_expire_and_are_cleaned_away() {
    let (storage, clock) = (heap(), VirtualClock::stepping());
    let broker = open(&storage, &clock, &[("offsets.retention.minutes", "60")]);
    broker.admin().create_topic("t", 3, TopicConfig::default()).unwrap();
    commit(&broker, "old", 0, 5);
    clock.advance(Duration::from_secs(50 * 60));
    commit(&broker, "young", 0, 6);
    clock.advance(Duration::from_secs(21 * 60));
    assert_eq!(committed(&broker, "old"), []);
    assert_eq!(committed(&broker, "young"), [(0, 6)]);
    let groups = broker.admin().list_groups().unwrap();
    assert_eq!(groups.len(), 1, "{groups:?}");
    broker.close().unwrap();
    let broker = open(&storage, &clock, &[]);
    assert_eq!(committed(&broker, "old"), []);
    assert_eq!(committed(&broker, "young"), [(0, 6)]);
}

#[test]
fn the_cleaner_keeps_to_its_bytes_per_second() {
    let clock = VirtualClock::stepping();
    let limit =
        [("log.cleaner.io.max.bytes.per.second", "100"), ("log.cleaner.backoff.ms", "1000")];
    let broker = open(&heap(), &clock, &limit);
    broker.admin().create_topic("t", 1, compacted()).unwrap();
    fill(&broker, "t", 100);
    let cleanings = || broker.health().counter("cleanings");
    clock.advance(Duration::from_secs(1));
    let first = cleanings();
    fill(&broker, "t", 200);
    clock.advance(Duration::from_secs(5));
    assert_eq!(cleanings(), first, "what was moved before has to be paid for");
    clock.advance(Duration::from_secs(3600));
    assert!(cleanings() > first);
}

#[test]
fn a_topic_of_a_deleted_ones_name_is_cleaned_from_its_beginning() {
    let (storage, clock) = (heap(), VirtualClock::stepping());
    let broker = open(&storage, &clock, &[]);
    let admin = broker.admin();
    admin.create_topic("t", 1, compacted()).unwrap();
    fill(&broker, "t", 100);
    assert!(admin.compact_now("t").unwrap()[0].records_removed() > 0);
    assert_eq!(admin.cleaning_status("t", 0).unwrap().first_dirty_offset(), 100);
    admin.delete_topic("t").unwrap();
    admin.create_topic("t", 1, compacted()).unwrap();
    fill(&broker, "t", 30);
    assert_eq!(admin.cleaning_status("t", 0).unwrap().first_dirty_offset(), 0);
    assert!(admin.compact_now("t").unwrap()[0].records_removed() > 0);
    broker.close().unwrap();
    let broker = open(&storage, &clock, &[]);
    let status = broker.admin().cleaning_status("t", 0).unwrap();
    assert_eq!((status.first_dirty_offset(), status.dirty_ratio()), (30, 0.0));
    let listed = broker.admin().list_offsets("t", 0, OffsetSpec::Latest, IsolationLevel::default());
    assert_eq!(listed.unwrap().offset(), Some(30));
}

/// Fault: a topic is deleted, and another takes its name, before anybody looked at what is kept of
/// cleanings; the process dies at any step of that, or goes on to a close. What must hold: how far
/// the first was cleaned counts for nothing in the second. Else a key that is there twice stays so,
/// and a tombstone goes one day without what it deletes.
#[test]
fn what_is_kept_of_a_deleted_topic_counts_for_none_that_takes_its_name() {
    let sim = Sim::new();
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    let still = [("log.cleaner.enable", "false")];
    let broker = open(&storage, &VirtualClock::stepping(), &still);
    broker.admin().create_topic("t", 1, compacted()).unwrap();
    fill(&broker, "t", 20);
    broker.admin().compact_now("t").unwrap();
    broker.close().unwrap();
    let broker = open(&storage, &VirtualClock::stepping(), &still);
    sim.record();
    broker.admin().delete_topic("t").unwrap();
    broker.admin().create_topic("t", 1, compacted()).unwrap();
    // Of most keys nothing lies behind what was cleaned of the first.
    fill(&broker, "t", 22);
    broker.close().unwrap();
    let mut replay = sim.replay();
    loop {
        let storage: Arc<dyn Storage> = Arc::new(replay.kill());
        // One life more: what the last one has not written may not come back.
        for _ in 0..2 {
            let broker = open(&storage, &VirtualClock::stepping(), &still);
            if broker.admin().describe_topic("t").is_err() {
                broker.admin().create_topic("t", 1, compacted()).unwrap();
                fill(&broker, "t", 22);
            }
            broker.close().unwrap();
        }
        let broker = open(&storage, &VirtualClock::stepping(), &still);
        broker.admin().compact_now("t").unwrap();
        assert_eq!(twice(&broker), Vec::<Vec<u8>>::new(), "step {}", replay.step());
        if !replay.advance() {
            return;
        }
    }
}

#[test]
fn only_what_is_compacted_is_cleaned() {
    let broker = Broker::in_memory().unwrap();
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let refused = broker.admin().compact("t").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PolicyViolation);
    let missing = broker.admin().compact("missing").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::UnknownTopicOrPartition);
}

/// The keys that are there twice below the first dirty offset.
fn twice(broker: &Broker) -> Vec<Vec<u8>> {
    let dirty = broker.admin().cleaning_status("t", 0).unwrap().first_dirty_offset();
    let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    let mut keys = Vec::new();
    for record in &reader.read(Duration::ZERO).unwrap() {
        if record.offset() < dirty {
            keys.push(record.key().unwrap_or_default().to_vec());
        }
    }
    keys.sort();
    let again = keys.windows(2).filter(|pair| pair[0] == pair[1]);
    again.map(|pair| pair[0].clone()).collect()
}

/// Fault: the process dies at any step of a cleaning. What must hold: what counts as cleaned was;
/// who attaches sees the latest of each key, and a check finds nothing but notes.
fn killed_everywhere() {
    let sim = Sim::new();
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    let clock = VirtualClock::stepping();
    let broker = open(&storage, &clock, &[]);
    broker.admin().create_topic("t", 1, compacted()).unwrap();
    fill(&broker, "t", 60);
    sim.record();
    clock.advance(Duration::from_secs(5));
    assert!(broker.health().counter("cleanings") > 0);
    let mut replay = sim.replay();
    loop {
        let storage: Arc<dyn Storage> = Arc::new(replay.kill());
        let beside = BrokerOptions::new().clock(VirtualClock::stepping().clock());
        let beside = beside.storage(storage.clone()).attach("/data").unwrap();
        let newest = |broker: &Broker| {
            let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
            let read = reader.read(Duration::ZERO).unwrap();
            read.iter().map(|record| record.offset()).filter(|offset| *offset >= 53).count()
        };
        assert_eq!(newest(&beside), 7, "step {}", replay.step());
        let findings = beside.admin().verify_partition("t", 0).unwrap();
        assert!(findings.iter().all(|found| found.is_note()), "{findings:?}");
        let broker = open(&storage, &VirtualClock::stepping(), &[]);
        broker.admin().compact("t").unwrap();
        assert_eq!(twice(&broker), Vec::<Vec<u8>>::new(), "step {}", replay.step());
        if !replay.advance() {
            return;
        }
    }
}

#[test]
fn what_counts_as_cleaned_was_cleaned_wherever_the_process_dies() {
    killed_everywhere();
}

#[cfg(feature = "planted-bugs")]
#[test]
fn planted_progress_before_the_names_is_caught() {
    use crate::storage::planted::{Planted, enable};
    let guard = enable(Planted::CheckpointBeforeRename);
    let caught = std::panic::catch_unwind(killed_everywhere).is_err();
    drop(guard);
    assert!(caught, "CheckpointBeforeRename was not caught");
}

#[test]
fn a_look_of_the_cleaner_is_due_as_long_as_a_topic_is_compacted() {
    let (storage, clock) = (heap(), VirtualClock::stepping());
    let broker = open(&storage, &clock, &[]);
    let admin = broker.admin();
    let is_due = |broker: &Broker| broker.inner().next_cleaning().is_some();
    admin.create_topic("t", 1, TopicConfig::default()).unwrap();
    assert!(!is_due(&broker));
    for (policy, due) in [("compact", true), ("delete", false), ("compact,delete", true)] {
        let change = crate::ConfigChange::Set("cleanup.policy".into(), policy.into());
        admin.alter_topic("t", &[change]).unwrap();
        assert_eq!(is_due(&broker), due, "{policy}");
    }
    admin.delete_topic("t").unwrap();
    assert!(!is_due(&broker));
    admin.create_topic("u", 1, compacted()).unwrap();
    assert!(is_due(&broker));
    broker.close().unwrap();
    assert!(is_due(&open(&storage, &clock, &[])), "from the first moment of a life");
}

#[test]
fn a_damaged_partition_keeps_no_other_from_being_cleaned() {
    let (storage, clock) = (heap(), VirtualClock::stepping());
    let broker = open(&storage, &clock, &[("log.cleaner.enable", "false")]);
    broker.admin().create_topic("t", 3, compacted()).unwrap();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    for partition in 0..3 {
        for value in ["1", "2"] {
            let record = ProducerRecord::new("t").partition(partition).key("k").value(value);
            producer.send_sync(record).unwrap();
        }
    }
    broker.close().unwrap();
    let path = std::path::Path::new("/data/t-1/00000000000000000000.log");
    storage.open_cold(path).unwrap().write_at(65, b"\xff").unwrap();
    let broker = open(&storage, &clock, &[("log.cleaner.enable", "false")]);
    let error = broker.admin().compact_now("t").unwrap_err();
    assert_eq!((error.kind(), error.partition()), (ErrorKind::CorruptRecord, Some(1)));
    let end = |partition| {
        let status = broker.admin().cleaning_status("t", partition).unwrap();
        (status.first_dirty_offset(), status.last_cleaned_ms().is_some())
    };
    assert_eq!([end(0), end(2)], [(2, true), (2, true)]);
}
