//! Counters, gauges and times for whoever collects them, through the `metrics` facade.
//!
//! Handles are taken once, when what they belong to is made, so that counting costs one
//! comparison where no recorder is installed, and one call of the recorder's where one is. A
//! recorder has to be installed before the broker is opened. Names are Kafka's nouns, units and
//! `_total` are Prometheus'; `docs/metrics.md` lists them all.

use crate::sync::Arc;
use metrics::{Counter, Histogram, IntoF64, Key, Label, Level, Metadata, SharedString};
use std::cell::Cell;
use std::time::Duration;

/// Everything here says that it comes from the crate.
static METADATA: Metadata<'static> = Metadata::new("topiclite", Level::INFO, Some("topiclite"));

fn counter(name: &'static str, labels: Vec<Label>) -> Counter {
    let key = Key::from_parts(name, labels);
    metrics::with_recorder(|recorder| recorder.register_counter(&key, &METADATA))
}

fn label(name: &'static str, value: &Arc<str>) -> Label {
    Label::new(name, SharedString::from_shared(value.clone()))
}

fn labels_of(topic: &Arc<str>, partition: i32) -> Vec<Label> {
    vec![label("topic", topic), Label::new("partition", partition.to_string())]
}

fn set(name: &'static str, labels: Vec<Label>, value: f64) {
    let key = Key::from_parts(name, labels);
    metrics::with_recorder(|recorder| recorder.register_gauge(&key, &METADATA)).set(value);
}

/// Tells the present value of a whole broker's. Gauges are told rarely, so they are looked up at
/// each use.
pub(crate) fn gauge(name: &'static str, value: f64) {
    set(name, Vec::new(), value);
}

/// Tells the present value of a partition's.
#[allow(clippy::cast_precision_loss)] // Whoever shows it rounds it anyway.
pub(crate) fn gauge_of(name: &'static str, topic: &Arc<str>, partition: i32, value: i64) {
    set(name, labels_of(topic, partition), value as f64);
}

/// Tells how long something took that a sync, or more, is part of.
pub(crate) fn took(name: &'static str, time: Duration) {
    histogram(name, Vec::new()).record(time.as_secs_f64());
}

/// A group has completed a rebalance.
pub(crate) fn rebalanced(group: &Arc<str>, time: Duration) {
    histogram("topiclite_group_rebalance_seconds", vec![label("group", group)])
        .record(time.as_secs_f64());
}

fn histogram(name: &'static str, labels: Vec<Label>) -> Histogram {
    let key = Key::from_parts(name, labels);
    metrics::with_recorder(|recorder| recorder.register_histogram(&key, &METADATA))
}

/// Whether a recorder is told of what goes into a histogram: a value that is recorded no times is
/// asked for only then.
fn is_listened_to(histogram: &Histogram) -> bool {
    struct Asked<'a>(&'a Cell<bool>);
    impl IntoF64 for Asked<'_> {
        fn into_f64(self) -> f64 {
            self.0.set(true);
            0.0
        }
    }
    let asked = Cell::new(false);
    histogram.record_many(Asked(&asked), 0);
    asked.get()
}

/// A counter of a whole broker.
pub(crate) fn of_broker(name: &'static str) -> Counter {
    counter(name, Vec::new())
}

/// A counter of a group's. Groups change rarely, so it is looked up at each use.
pub(crate) fn of_group(name: &'static str, group: &Arc<str>) -> Counter {
    counter(name, vec![label("group", group)])
}

/// Members put out of a group, by reason.
pub(crate) fn of_removals(group: &Arc<str>, reason: &'static str) -> Counter {
    let reason = Label::from_static_parts("reason", reason);
    counter("topiclite_group_members_removed_total", vec![label("group", group), reason])
}

/// What goes into a partition.
pub(crate) struct PartitionMeter {
    messages_in: Counter,
    bytes_in: Counter,
}

impl PartitionMeter {
    pub fn new(topic: &Arc<str>, partition: i32) -> PartitionMeter {
        let labels = || labels_of(topic, partition);
        PartitionMeter {
            messages_in: counter("topiclite_messages_in_total", labels()),
            bytes_in: counter("topiclite_bytes_in_total", labels()),
        }
    }

    /// A batch was appended.
    #[inline]
    pub fn appended(&self, records: u64, bytes: usize) {
        self.messages_in.increment(records);
        self.bytes_in.increment(bytes as u64);
    }
}

/// What a consumer does.
pub(crate) struct ConsumerMeter {
    records_consumed: Counter,
    commits: Counter,
    commit_failures: Counter,
    /// Where somebody listens to it.
    commit_seconds: Option<Histogram>,
}

impl ConsumerMeter {
    /// `group` is empty for a consumer without one.
    pub fn new(group: &Arc<str>, client_id: &Arc<str>) -> ConsumerMeter {
        let labels = || vec![label("group", group), label("client_id", client_id)];
        let commit_seconds = histogram("topiclite_commit_seconds", labels());
        ConsumerMeter {
            records_consumed: counter("topiclite_records_consumed_total", labels()),
            commits: counter("topiclite_commits_total", labels()),
            commit_failures: counter("topiclite_commit_failures_total", labels()),
            commit_seconds: is_listened_to(&commit_seconds).then_some(commit_seconds),
        }
    }

    /// A poll returned records.
    #[inline]
    pub fn consumed(&self, records: usize) {
        self.records_consumed.increment(records as u64);
    }

    /// Whether somebody wants to know how long commits take.
    #[inline]
    pub fn times_commits(&self) -> bool {
        self.commit_seconds.is_some()
    }

    /// A commit came to an end; `took` is the time of one that was timed.
    #[inline]
    pub fn committed(&self, succeeded: bool, took: Option<Duration>) {
        if let (Some(histogram), Some(took)) = (&self.commit_seconds, took) {
            histogram.record(took.as_secs_f64());
        }
        match succeeded {
            true => self.commits.increment(1),
            false => self.commit_failures.increment(1),
        }
    }
}

impl std::fmt::Debug for PartitionMeter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PartitionMeter")
    }
}

impl std::fmt::Debug for ConsumerMeter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConsumerMeter")
    }
}
