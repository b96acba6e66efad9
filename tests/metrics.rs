//! What a recorder of the `metrics` facade is told: every counter with its labels. And that
//! `docs/metrics.md` lists these, and those of `Broker::health`, and no others.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use topiclite::time::VirtualClock;
use topiclite::{
    Broker, BrokerOptions, ConsumerConfig, ErrorKind, OffsetReset, ProducerConfig, ProducerRecord,
    TopicConfig,
};

/// Keeps counters by name and labels.
#[derive(Default)]
struct Collected(Mutex<BTreeMap<String, Arc<Total>>>);

#[derive(Default)]
struct Total(AtomicU64);

impl CounterFn for Total {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Recorder for Collected {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<String> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        Counter::from_arc(self.0.lock().unwrap().entry(name).or_default().clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl Collected {
    fn total(&self, name: &str) -> u64 {
        let totals = self.0.lock().unwrap();
        totals.get(name).map_or(0, |total| total.0.load(Ordering::Relaxed))
    }
}

#[test]
fn a_recorder_is_told_what_goes_in_and_out_and_what_groups_go_through() {
    let collected = Collected::default();
    metrics::with_local_recorder(&collected, || {
        let time = VirtualClock::stepping();
        let broker = BrokerOptions::new().clock(time.clock()).in_memory().unwrap();
        broker.admin().create_topic("orders", 1, TopicConfig::default()).unwrap();
        let producer = broker.producer(ProducerConfig::default()).unwrap();
        for _ in 0..3 {
            let record = ProducerRecord::new("orders").value("one tea");
            producer.send(record).unwrap().wait().unwrap();
        }
        let config = ConsumerConfig::new("billing")
            .client_id("clerk")
            .enable_auto_commit(false)
            .auto_offset_reset(OffsetReset::Earliest);
        let mut consumer = broker.consumer(config).unwrap();
        consumer.subscribe(&["orders"]).unwrap();
        assert_eq!(consumer.poll(Duration::from_secs(1)).unwrap().count(), 3);
        consumer.commit_sync().unwrap();
        // Five minutes without a poll end the membership.
        time.advance(Duration::from_secs(301));
        assert_eq!(consumer.commit_sync().unwrap_err().kind(), ErrorKind::CommitFailed);
        broker.flush().unwrap();
        let syncs = broker.health().counter("syncs");
        assert!(syncs > 0);
        assert_eq!(collected.total("topiclite_log_syncs_total{}"), syncs);
    });
    let clerk = "{group=billing,client_id=clerk}";
    let expected = [
        ("topiclite_messages_in_total{topic=orders,partition=0}", 3),
        ("topiclite_bytes_in_total{topic=orders,partition=0}", 3 * 75),
        (&format!("topiclite_records_consumed_total{clerk}"), 3),
        (&format!("topiclite_commits_total{clerk}"), 1),
        (&format!("topiclite_commit_failures_total{clerk}"), 1),
        ("topiclite_group_rebalances_total{group=billing}", 1),
        ("topiclite_group_members_removed_total{group=billing,reason=poll_interval}", 1),
    ];
    for (name, total) in expected {
        assert_eq!(collected.total(name), total, "{name}");
    }

    let counted = collected.0.lock().unwrap();
    let counted = counted.keys().map(|name| name.split('{').next().unwrap().to_owned());
    assert_eq!(documented(0), counted.collect(), "counters that a recorder is told of");
}

#[test]
fn the_document_lists_the_counters_of_a_health_report() {
    let broker = Broker::in_memory().unwrap();
    let health = broker.health();
    let counted: BTreeSet<String> = health.counters().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(documented(2), counted, "counters of health()");
    for row in rows().filter(|row| !row[0].is_empty() && !row[2].is_empty()) {
        assert_eq!(row[0], format!("topiclite_log_{}_total", row[2]));
    }
}

/// The names in a column of the table of `docs/metrics.md`.
fn documented(column: usize) -> BTreeSet<String> {
    rows().map(|mut row| row.swap_remove(column)).filter(|name| !name.is_empty()).collect()
}

/// The cells of each row of that table, without their backticks.
fn rows() -> impl Iterator<Item = Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let table = text.lines().filter_map(|line| line.strip_prefix('|')).skip(2);
    let cells = |row: &str| -> Vec<String> {
        row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    table.map(cells).collect::<Vec<_>>().into_iter()
}
