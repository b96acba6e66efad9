//! What a recorder of the `metrics` facade is told: every counter, gauge and time with its labels.
//! And that `docs/metrics.md` lists these, and those of `Broker::health`, and no others.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
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

/// Keeps counters, gauges and times by name and labels.
#[derive(Default)]
struct Collected {
    counters: Mutex<BTreeMap<String, Arc<Total>>>,
    gauges: Mutex<BTreeMap<String, Arc<Last>>>,
    times: Mutex<BTreeMap<String, Arc<Count>>>,
}

#[derive(Default)]
struct Total(AtomicU64);

/// The last value of a gauge.
#[derive(Default)]
struct Last(AtomicU64);

/// How many times were recorded.
#[derive(Default)]
struct Count(AtomicU64);

impl GaugeFn for Last {
    fn increment(&self, _: f64) {}
    fn decrement(&self, _: f64) {}

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

impl HistogramFn for Count {
    fn record(&self, seconds: f64) {
        assert!(seconds >= 0.0);
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The name with its labels.
fn shown(key: &Key) -> String {
    let labels: Vec<String> =
        key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
    format!("{}{{{}}}", key.name(), labels.join(","))
}

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
        let mut counters = self.counters.lock().unwrap();
        Counter::from_arc(counters.entry(shown(key)).or_default().clone())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.gauges.lock().unwrap().entry(shown(key)).or_default().clone())
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.times.lock().unwrap().entry(shown(key)).or_default().clone())
    }
}

impl Collected {
    fn total(&self, name: &str) -> u64 {
        let totals = self.counters.lock().unwrap();
        totals.get(name).map_or(0, |total| total.0.load(Ordering::Relaxed))
    }

    fn last(&self, name: &str) -> Option<f64> {
        let gauges = self.gauges.lock().unwrap();
        gauges.get(name).map(|last| f64::from_bits(last.0.load(Ordering::Relaxed)))
    }

    fn times(&self, name: &str) -> u64 {
        let times = self.times.lock().unwrap();
        times.get(name).map_or(0, |count| count.0.load(Ordering::Relaxed))
    }
}

/// The names without labels.
fn names<T>(of: &Mutex<BTreeMap<String, T>>) -> BTreeSet<String> {
    let of = of.lock().unwrap();
    of.keys().map(|name| name.split('{').next().unwrap().to_owned()).collect()
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

    let counted = names(&collected.counters);
    assert_eq!(documented("Counters", 0), counted, "counters that a recorder is told of");
}

#[test]
fn the_document_lists_the_counters_of_a_health_report() {
    let broker = Broker::in_memory().unwrap();
    let health = broker.health();
    let counted: BTreeSet<String> = health.counters().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(documented("Counters", 2), counted, "counters of health()");
    for row in rows("Counters").filter(|row| !row[0].is_empty() && !row[2].is_empty()) {
        assert_eq!(row[0], format!("topiclite_log_{}_total", row[2]));
    }
}

#[test]
fn a_recorder_is_told_present_values_and_how_long_things_took() {
    let collected = Collected::default();
    metrics::with_local_recorder(&collected, || {
        let time = VirtualClock::stepping();
        let broker = BrokerOptions::new().clock(time.clock()).in_memory().unwrap();
        let compacted = TopicConfig::default().cleanup_policy(&["compact"]).segment_bytes(2000);
        broker.admin().create_topic("prices", 1, compacted).unwrap();
        let kept = TopicConfig::default().segment_bytes(500).retention_bytes(0);
        let kept = kept.retention_protected_groups(&["billing"]);
        broker.admin().create_topic("orders", 2, kept).unwrap();
        let producer = broker.producer(ProducerConfig::default()).unwrap();
        for n in 0..100 {
            let price = ProducerRecord::new("prices").key((n % 3).to_string()).value("1.20");
            producer.send_sync(price).unwrap();
            producer.send_sync(ProducerRecord::new("orders").partition(1).value("tea")).unwrap();
        }
        time.advance(Duration::from_secs(600));
        let (held, group) = {
            let health = broker.health();
            assert!(health.is_ok());
            let (place, held) = health.held_retention().next().unwrap();
            assert_eq!(place.to_string(), "orders-1");
            (held.bytes(), held.group().to_owned())
        };
        assert_eq!(group, "billing");
        let size = broker.admin().partition_size("orders", 1).unwrap().batch_bytes();
        assert_eq!(held, size, "nobody has read any of it");
        let orders = |name: &str| collected.last(&format!("{name}{{topic=orders,partition=1}}"));
        assert_eq!(orders("topiclite_log_retention_held_bytes"), Some(size as f64));
        assert_eq!(orders("topiclite_log_size_bytes"), Some(size as f64));
        assert_eq!(orders("topiclite_log_end_offset"), Some(100.0));
        assert_eq!(orders("topiclite_log_start_offset"), Some(0.0));
        assert!(orders("topiclite_log_segments") > Some(10.0));

        let broker_wide = |name: &str| collected.last(&format!("{name}{{}}"));
        assert_eq!(broker_wide("topiclite_topics"), Some(2.0));
        assert_eq!(broker_wide("topiclite_partitions"), Some(3.0));
        assert_eq!(broker_wide("topiclite_log_cleaner_uncleanable_partitions"), Some(0.0));
        let recopied = broker_wide("topiclite_log_cleaner_recopy_percent").unwrap();
        assert!(recopied > 0.0 && recopied < 50.0, "{recopied}");
        assert!(broker_wide("topiclite_log_cleaner_buffer_utilization_percent") > Some(0.0));
        assert_eq!(broker_wide("topiclite_log_cleaner_max_dirty_percent"), Some(0.0));
        assert_eq!(broker_wide("topiclite_log_cleaner_max_compaction_delay_seconds"), Some(0.0));
        assert_eq!(broker_wide("topiclite_log_cleaner_cleanable_bytes"), Some(0.0));
        time.advance(Duration::from_millis(3500));
        broker.update_gauges();
        let since = broker_wide("topiclite_log_cleaner_time_since_last_run_seconds").unwrap();
        assert!(since > 0.0 && since <= 15.0, "{since}");
        let rounds = broker.health().counter("cleanings");
        assert!(rounds > 0);
        assert_eq!(collected.times("topiclite_log_cleaner_clean_seconds{}"), rounds);
        assert!(collected.times("topiclite_log_flush_seconds{}") > 0);
        assert!(collected.times("topiclite_log_sync_seconds{}") > 0);

        let config = ConsumerConfig::new("audit").client_id("clerk").enable_auto_commit(false);
        let mut consumer = broker.consumer(config).unwrap();
        consumer.subscribe(&["prices"]).unwrap();
        consumer.poll(Duration::from_secs(1)).unwrap();
        consumer.commit_sync().unwrap();
        assert_eq!(collected.times("topiclite_commit_seconds{group=audit,client_id=clerk}"), 1);
        assert_eq!(collected.times("topiclite_group_rebalance_seconds{group=audit}"), 1);
    });
    assert_eq!(documented("Gauges", 0), names(&collected.gauges), "gauges");
    assert_eq!(documented("Times", 0), names(&collected.times), "times");
}

/// The names in a column of a table of `docs/metrics.md`.
fn documented(section: &str, column: usize) -> BTreeSet<String> {
    rows(section).map(|mut row| row.swap_remove(column)).filter(|name| !name.is_empty()).collect()
}

/// The cells of each row of the table under a heading, without their backticks.
fn rows(section: &str) -> impl Iterator<Item = Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let heading = format!("## {section}\n");
    let behind = text.split_once(&heading).unwrap().1;
    let part = behind.split("\n## ").next().unwrap();
    let table = part.lines().filter_map(|line| line.strip_prefix('|')).skip(2);
    let cells = |row: &str| -> Vec<String> {
        row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    table.map(cells).collect::<Vec<_>>().into_iter()
}
