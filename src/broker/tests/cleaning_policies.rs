//! What the settings of a topic say of its cleaning, over time: lags, policies and their changes.

use super::compaction::{fill, heap, open};
use crate::time::VirtualClock;
use crate::{
    Broker, ConfigChange, ErrorKind, IsolationLevel, OffsetSpec, ProducerConfig, ProducerRecord,
    ReadFrom, TopicConfig,
};
use std::collections::BTreeSet;
use std::time::Duration;

fn topic(set: &[(&str, &str)]) -> TopicConfig {
    let mut all = vec![("cleanup.policy", "compact"), ("internal.segment.bytes", "2000")];
    all.extend(set);
    TopicConfig::from_properties(all).unwrap()
}

fn cleanings(broker: &Broker) -> u64 {
    broker.health().counter("cleanings")
}

/// Offsets and keys.
fn records(broker: &Broker) -> Vec<(i64, Option<Vec<u8>>)> {
    let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    let mut found = Vec::new();
    while reader.position() < reader.end_offset().unwrap() {
        let read = reader.read(Duration::ZERO).unwrap();
        found.extend(read.iter().map(|r| (r.offset(), r.key().map(<[u8]>::to_vec))));
    }
    found
}

fn start(broker: &Broker) -> i64 {
    let isolation = IsolationLevel::ReadUncommitted;
    broker.admin().list_offsets("t", 0, OffsetSpec::Earliest, isolation).unwrap().offset().unwrap()
}

fn alter(broker: &Broker, key: &str, value: &str) {
    let change = ConfigChange::Set(key.into(), value.into());
    broker.admin().alter_topic("t", &[change]).unwrap();
}

#[test]
fn young_records_wait_until_their_lag_is_over() {
    let clock = VirtualClock::stepping();
    let broker = open(&heap(), &clock, &[]);
    let config = topic(&[("min.compaction.lag.ms", "600000")]);
    broker.admin().create_topic("t", 1, config).unwrap();
    fill(&broker, "t", 100);
    clock.advance(Duration::from_secs(590));
    assert_eq!((cleanings(&broker), records(&broker).len()), (0, 100));
    clock.advance(Duration::from_secs(20));
    assert!(cleanings(&broker) > 0 && records(&broker).len() < 100);
    // What was written since waits in its turn, and holds nothing else back.
    let before = cleanings(&broker);
    fill(&broker, "t", 100);
    clock.advance(Duration::from_secs(300));
    let since = records(&broker).iter().filter(|row| row.0 >= 100).count();
    assert_eq!((cleanings(&broker), since), (before, 100));
}

#[test]
fn old_records_are_cleaned_whatever_the_ratio() {
    let clock = VirtualClock::stepping();
    let broker = open(&heap(), &clock, &[]);
    let lag = [("min.cleanable.dirty.ratio", "1.0"), ("max.compaction.lag.ms", "60000")];
    broker.admin().create_topic("t", 1, topic(&lag)).unwrap();
    fill(&broker, "t", 100);
    clock.advance(Duration::from_secs(55));
    assert_eq!(cleanings(&broker), 0, "no more than all of it is dirty");
    clock.advance(Duration::from_secs(10));
    assert_eq!(cleanings(&broker), 1);
    // A quiet topic's active segment is closed by the next record, for it is due as well.
    let before = broker.admin().cleaning_status("t", 0).unwrap();
    clock.advance(Duration::from_secs(120));
    fill(&broker, "t", 1);
    let after = broker.admin().cleaning_status("t", 0).unwrap();
    assert!(after.first_uncleanable_offset() > before.first_uncleanable_offset());
    clock.advance(Duration::from_secs(5));
    assert_eq!(cleanings(&broker), 2);
}

#[test]
fn a_lag_that_cannot_be_kept_is_refused() {
    let broker = Broker::in_memory().unwrap();
    let lags = [("min.compaction.lag.ms", "600000"), ("max.compaction.lag.ms", "60000")];
    let refused = TopicConfig::from_properties(lags)
        .and_then(|config| broker.admin().create_topic("t", 1, config));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidTopicConfig);
}

#[test]
fn a_topic_goes_from_delete_to_compact_and_back() {
    let clock = VirtualClock::stepping();
    let broker = open(&heap(), &clock, &[("log.retention.check.interval.ms", "1000")]);
    let config = topic(&[("cleanup.policy", "delete"), ("retention.ms", "3600000")]);
    broker.admin().create_topic("t", 1, config).unwrap();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let keyless = || producer.send_sync(ProducerRecord::new("t").value("of no key"));
    for _ in 0..5 {
        fill(&broker, "t", 20);
        keyless().unwrap();
    }
    clock.advance(Duration::from_secs(60));
    assert_eq!((cleanings(&broker), records(&broker).len()), (0, 105));

    alter(&broker, "cleanup.policy", "compact");
    assert_eq!(keyless().unwrap_err().kind(), ErrorKind::InvalidRecord);
    clock.advance(Duration::from_secs(60));
    assert!(cleanings(&broker) > 0);
    let dirty = broker.admin().cleaning_status("t", 0).unwrap().first_dirty_offset();
    let below: Vec<_> = records(&broker).into_iter().filter(|row| row.0 < dirty).collect();
    let keys: BTreeSet<_> = below.iter().map(|row| row.1.clone().expect("keys")).collect();
    assert_eq!(keys.len(), below.len(), "{below:?}");
    // Nothing is too old for a topic that is only compacted.
    clock.advance(Duration::from_secs(7200));
    assert_eq!(start(&broker), 0);
    let kept = records(&broker);

    alter(&broker, "cleanup.policy", "delete");
    let before = cleanings(&broker);
    clock.advance(Duration::from_secs(10));
    assert_eq!((start(&broker), records(&broker).len()), (105, 0), "all of it is too old");
    assert!(!kept.is_empty());
    keyless().unwrap();
    fill(&broker, "t", 100);
    clock.advance(Duration::from_secs(60));
    assert_eq!((cleanings(&broker), records(&broker).len()), (before, 101));
    // What was kept of its cleaning lies before its start, and it is begun with anew.
    alter(&broker, "cleanup.policy", "compact");
    clock.advance(Duration::from_secs(60));
    assert!(cleanings(&broker) > before && records(&broker).len() < 101);
    broker.close().unwrap();
}

#[test]
fn a_topic_that_is_compacted_and_deleted_is_both() {
    let clock = VirtualClock::stepping();
    let broker = open(&heap(), &clock, &[("log.retention.check.interval.ms", "1000")]);
    let both = [("cleanup.policy", "compact,delete"), ("retention.ms", "600000")];
    broker.admin().create_topic("t", 1, topic(&both)).unwrap();
    fill(&broker, "t", 100);
    clock.advance(Duration::from_secs(60));
    assert!(cleanings(&broker) > 0);
    let left = records(&broker);
    let keys: BTreeSet<_> = left.iter().map(|row| row.1.clone()).collect();
    assert!(left.len() < 100 && keys.len() == 7, "compacted, and too young to go: {left:?}");
    clock.advance(Duration::from_secs(500));
    fill(&broker, "t", 100);
    clock.advance(Duration::from_secs(60));
    let left = records(&broker);
    assert!(left.iter().all(|row| row.0 >= 80), "{left:?}: what is too old went");
    assert!(start(&broker) > 0 && left.len() < 100, "{left:?}");
    let keys: BTreeSet<_> = left.iter().map(|row| row.1.clone()).collect();
    assert_eq!(keys.len(), 7, "every key was written since");
}

#[test]
fn the_dirtiest_log_is_cleaned_first() {
    let clock = VirtualClock::stepping();
    let broker = open(&heap(), &clock, &[("log.cleaner.io.max.bytes.per.second", "500")]);
    for name in ["a", "b"] {
        let config = topic(&[("min.cleanable.dirty.ratio", "0.1")]);
        broker.admin().create_topic(name, 1, config).unwrap();
        fill(&broker, name, 100);
    }
    // A part of one is clean.
    broker.admin().compact_now("a").unwrap();
    fill(&broker, "a", 100);
    let status = |name: &str| broker.admin().cleaning_status(name, 0).unwrap();
    let (a, b) = (status("a"), status("b"));
    assert!(a.dirty_ratio() < b.dirty_ratio() && a.dirty_ratio() > 0.1, "{a:?}, {b:?}");
    let seconds_until = |name: &str, before: Option<i64>| {
        let cleaned = |_: &i32| {
            clock.advance(Duration::from_secs(1));
            status(name).last_cleaned_ms() != before
        };
        (0..1000).find(cleaned).expect("it is cleaned")
    };
    seconds_until("b", None);
    assert_eq!(status("a").last_cleaned_ms(), a.last_cleaned_ms(), "not before the other");
    assert!(seconds_until("a", a.last_cleaned_ms()) > 0);
}
