//! Settings of a consumer, and the typed form that it works with.

use super::by_name::{by_property_name, each_alone};
use super::client::{NETWORK, SECURITY};
use super::property::{Kind, Properties, Property, Schema, split_list};
use super::{IsolationLevel, OffsetReset};
use crate::error::{Error, ErrorKind, Result};
use std::time::Duration;

const GROUP_ID: &str = "group.id";
const CLIENT_ID: &str = "client.id";
const ENABLE_AUTO_COMMIT: &str = "enable.auto.commit";
const AUTO_COMMIT_INTERVAL_MS: &str = "auto.commit.interval.ms";
const AUTO_OFFSET_RESET: &str = "auto.offset.reset";
const MAX_POLL_RECORDS: &str = "max.poll.records";
const MAX_POLL_INTERVAL_MS: &str = "max.poll.interval.ms";
/// A member id is the client id, a hyphen and 36 letters, and Kafka reads strings of 32,767 bytes.
const CLIENT_ID_BYTES_MAX: usize = i16::MAX as usize - 37;
const SESSION_TIMEOUT_MS: &str = "session.timeout.ms";
const HEARTBEAT_INTERVAL_MS: &str = "heartbeat.interval.ms";
const ASSIGNMENT_STRATEGY: &str = "partition.assignment.strategy";
const FETCH_MIN_BYTES: &str = "fetch.min.bytes";
const FETCH_MAX_BYTES: &str = "fetch.max.bytes";
const MAX_PARTITION_FETCH_BYTES: &str = "max.partition.fetch.bytes";
const FETCH_MAX_WAIT_MS: &str = "fetch.max.wait.ms";
const ISOLATION_LEVEL: &str = "isolation.level";
const AUTO_CREATE_TOPICS: &str = "allow.auto.create.topics";
const DEFAULT_API_TIMEOUT_MS: &str = "default.api.timeout.ms";
const REQUEST_TIMEOUT_MS: &str = "request.timeout.ms";
const RETRY_BACKOFF_MS: &str = "retry.backoff.ms";
const LEAVE_ON_CLOSE: &str = "internal.leave.group.on.close";

/// What `partition.assignment.strategy` is when nobody sets it. The second name only serves to
/// move a group to cooperative rebalancing; a group of such members works with the first.
const DEFAULT_STRATEGY: &str = "range,cooperative-sticky";
const ASSIGNORS: [&str; 2] = ["range", "roundrobin"];

const NO_CLASSES: &str = "classes of a Java client cannot run here";
const NO_STATIC: &str = "static membership is not built; leave it out";
const NO_NEW_PROTOCOL: &str = "the protocol of KIP-848 is not built; leave it at classic";

const TABLE: &[Property] = &[
    Property::null(GROUP_ID, Kind::Text),
    Property::null("group.instance.id", Kind::NonEmpty).refused(NO_STATIC),
    Property::new("group.protocol", Kind::OneOfAnyCase(&["classic", "consumer"]), "classic")
        .refused(NO_NEW_PROTOCOL),
    Property::null("group.remote.assignor", Kind::Text).refused(NO_NEW_PROTOCOL),
    Property::new(CLIENT_ID, Kind::Text, ""),
    Property::bool(ENABLE_AUTO_COMMIT, "true"),
    Property::int(AUTO_COMMIT_INTERVAL_MS, "5000", 0),
    Property::new(AUTO_OFFSET_RESET, Kind::Rule(reset_policy), "latest"),
    Property::int(MAX_POLL_RECORDS, "500", 1),
    Property::int(MAX_POLL_INTERVAL_MS, "300000", 1),
    Property::int(SESSION_TIMEOUT_MS, "45000", i32::MIN),
    Property::int(HEARTBEAT_INTERVAL_MS, "3000", i32::MIN),
    Property::new(ASSIGNMENT_STRATEGY, Kind::Rule(strategy), DEFAULT_STRATEGY),
    Property::int(FETCH_MIN_BYTES, "1", 0),
    Property::int(FETCH_MAX_BYTES, "52428800", 0),
    Property::int(MAX_PARTITION_FETCH_BYTES, "1048576", 0),
    Property::int(FETCH_MAX_WAIT_MS, "500", 0),
    Property::new(
        ISOLATION_LEVEL,
        Kind::OneOf(&["read_committed", "read_uncommitted"]),
        "read_uncommitted",
    ),
    Property::bool(AUTO_CREATE_TOPICS, "true"),
    Property::int(DEFAULT_API_TIMEOUT_MS, "60000", 0),
    Property::int(REQUEST_TIMEOUT_MS, "30000", 0),
    Property::long(RETRY_BACKOFF_MS, "100", 0),
    Property::bool(LEAVE_ON_CLOSE, "true"),
    // A segment's checksums are checked once per open, whoever reads it.
    Property::bool("check.crcs", "true").kept(),
    Property::bool("exclude.internal.topics", "true").kept(),
    Property::long("retry.backoff.max.ms", "1000", 0).kept(),
    Property::new("interceptor.classes", Kind::List(&[]), "").refused(NO_CLASSES),
    Property::null("key.deserializer", Kind::Text).kept(),
    Property::null("value.deserializer", Kind::Text).kept(),
    Property::bool("internal.throw.on.fetch.stable.offset.unsupported", "false").kept(),
    Property::new("share.acknowledgement.mode", Kind::OneOf(&["implicit", "explicit"]), "implicit")
        .kept(),
];

static SCHEMA: Schema = Schema {
    of: "consumer",
    error: ErrorKind::InvalidConfig,
    tables: &[TABLE, NETWORK, SECURITY],
    prefixes: &["metrics.context."],
};

fn reset_policy(text: &str) -> Result<String, String> {
    text.parse::<OffsetReset>().map(|_| text.to_owned())
}

/// Names of assignors, or of Kafka's classes for them. The list may be empty: then `subscribe`
/// is refused.
fn strategy(text: &str) -> Result<String, String> {
    // Kafka passes empty items over here.
    let names: Vec<&str> = split_list(text)
        .filter(|name| !name.is_empty())
        .map(|name| match name.strip_prefix("org.apache.kafka.clients.consumer.") {
            Some("RangeAssignor") => "range",
            Some("RoundRobinAssignor") => "roundrobin",
            Some("StickyAssignor") => "sticky",
            Some("CooperativeStickyAssignor") => "cooperative-sticky",
            _ => name,
        })
        .collect();
    let joined = names.join(",");
    if joined == DEFAULT_STRATEGY {
        return Ok(joined);
    }
    match names.iter().find(|name| !ASSIGNORS.contains(name)) {
        Some(name @ &("sticky" | "cooperative-sticky")) => {
            Err(format!("the assignor {name} is not built; range and roundrobin are"))
        }
        Some(name) => Err(format!("there is no assignor \"{name}\"; use range or roundrobin")),
        None => Ok(joined),
    }
}

/// Settings of a consumer, under Kafka's names.
///
/// # Examples
/// ```
/// use topiclite::{ConsumerConfig, OffsetReset};
/// let config = ConsumerConfig::new("billing").auto_offset_reset(OffsetReset::Earliest);
/// assert_eq!(config.get("group.id"), Some("billing"));
/// assert_eq!(config.get("auto.offset.reset"), Some("earliest"));
/// let config = config.with("fetch.min.bytes", 1000)?.with("isolation.level", "read_committed")?;
/// assert_eq!(config.get("fetch.min.bytes"), Some("1000"));
/// let error = ConsumerConfig::from_properties([("max.poll.record", "5")]).unwrap_err();
/// assert!(error.to_string().ends_with("the nearest name is \"max.poll.records\""));
/// let error = ConsumerConfig::default().with("enable.partition.eof", true).unwrap_err();
/// assert!(error.to_string().contains("is a property of librdkafka"));
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerConfig(Properties);

by_property_name! {
    ConsumerConfig, InvalidConfig, each_alone,
    /// What was set and has no effect here, such as `bootstrap.servers` or `key.deserializer`.
}

impl ConsumerConfig {
    /// A consumer of the group `group_id`.
    pub fn new(group_id: impl AsRef<str>) -> ConsumerConfig {
        ConsumerConfig::default().put(GROUP_ID, group_id.as_ref())
    }

    /// A consumer without a group: it can `assign` and read, not subscribe and not commit.
    pub fn without_group() -> ConsumerConfig {
        ConsumerConfig::default()
    }

    fn put(mut self, key: &'static str, value: impl std::fmt::Display) -> ConsumerConfig {
        self.0.put(key, value);
        self
    }

    /// `client.id`: the beginning of the member id. Default `consumer-<group>-<number>`.
    pub fn client_id(self, id: impl AsRef<str>) -> ConsumerConfig {
        self.put(CLIENT_ID, id.as_ref())
    }

    /// `enable.auto.commit`: whether polls commit what earlier polls returned. Default true;
    /// false without a group.
    pub fn enable_auto_commit(self, enable: bool) -> ConsumerConfig {
        self.put(ENABLE_AUTO_COMMIT, enable)
    }

    /// `auto.commit.interval.ms`: the least time between two automatic commits. Default 5000.
    ///
    /// Departure: 0 commits once in every poll. Kafka's client then commits without pause while
    /// it waits.
    pub fn auto_commit_interval_ms(self, ms: u32) -> ConsumerConfig {
        self.put(AUTO_COMMIT_INTERVAL_MS, ms)
    }

    /// [`ConsumerConfig::auto_commit_interval_ms`] as a duration, in whole milliseconds.
    pub fn auto_commit_interval(self, time: Duration) -> ConsumerConfig {
        self.put(AUTO_COMMIT_INTERVAL_MS, time.as_millis())
    }

    /// `auto.offset.reset`: where reading starts without a committed offset, or when the offset
    /// is out of range. Default [`OffsetReset::Latest`].
    pub fn auto_offset_reset(self, reset: OffsetReset) -> ConsumerConfig {
        self.put(AUTO_OFFSET_RESET, reset)
    }

    /// `max.poll.records`: the most records that one poll returns, at least 1. Default 500.
    pub fn max_poll_records(self, count: u32) -> ConsumerConfig {
        self.put(MAX_POLL_RECORDS, count)
    }

    /// `max.poll.interval.ms`: a member that does not poll for this long is put out of its group;
    /// also how long a rebalance waits for it. Default 300000.
    pub fn max_poll_interval_ms(self, ms: u32) -> ConsumerConfig {
        self.put(MAX_POLL_INTERVAL_MS, ms)
    }

    /// [`ConsumerConfig::max_poll_interval_ms`] as a duration, in whole milliseconds.
    pub fn max_poll_interval(self, time: Duration) -> ConsumerConfig {
        self.put(MAX_POLL_INTERVAL_MS, time.as_millis())
    }

    /// `session.timeout.ms`: how long a member that vanished counts as present. Default 45000.
    ///
    /// A member of a process that died is known to be gone when the directory is opened again,
    /// and a dropped consumer leaves at once, so this matters for simulated deaths only.
    pub fn session_timeout_ms(self, ms: u32) -> ConsumerConfig {
        self.put(SESSION_TIMEOUT_MS, ms)
    }

    /// [`ConsumerConfig::session_timeout_ms`] as a duration, in whole milliseconds.
    pub fn session_timeout(self, time: Duration) -> ConsumerConfig {
        self.put(SESSION_TIMEOUT_MS, time.as_millis())
    }

    /// `heartbeat.interval.ms`: must be below the session timeout. Default 3000.
    ///
    /// Departure: nothing is sent at this interval. A handle that exists counts as beating.
    pub fn heartbeat_interval_ms(self, ms: u32) -> ConsumerConfig {
        self.put(HEARTBEAT_INTERVAL_MS, ms)
    }

    /// [`ConsumerConfig::heartbeat_interval_ms`] as a duration, in whole milliseconds.
    pub fn heartbeat_interval(self, time: Duration) -> ConsumerConfig {
        self.put(HEARTBEAT_INTERVAL_MS, time.as_millis())
    }

    /// `partition.assignment.strategy`: the assignors, `range` and `roundrobin`, in order of
    /// preference. By default the group works with `range`.
    pub fn partition_assignment_strategy(self, names: &[&str]) -> ConsumerConfig {
        self.put(ASSIGNMENT_STRATEGY, names.join(","))
    }

    /// `fetch.min.bytes`: a poll waits for this many bytes, at most `fetch.max.wait.ms`.
    /// Default 1.
    pub fn fetch_min_bytes(self, bytes: u32) -> ConsumerConfig {
        self.put(FETCH_MIN_BYTES, bytes)
    }

    /// `fetch.max.bytes`: the most bytes of batches in one fetch, whose records one poll or several
    /// return. The first batch of a fetch may be larger, the others have to fit into what is left
    /// and wait for the next fetch if they do not. Default 50 MiB.
    ///
    /// Departure: what compressed batches beyond the first of a poll decompress to is bounded by
    /// it, too, but not below 64 KiB.
    pub fn fetch_max_bytes(self, bytes: u32) -> ConsumerConfig {
        self.put(FETCH_MAX_BYTES, bytes)
    }

    /// `max.partition.fetch.bytes`: the same for one partition; of several partitions, only the
    /// first batch of all may be larger. Default 1 MiB.
    pub fn max_partition_fetch_bytes(self, bytes: u32) -> ConsumerConfig {
        self.put(MAX_PARTITION_FETCH_BYTES, bytes)
    }

    /// `fetch.max.wait.ms`: how long a poll waits for `fetch.min.bytes`. Default 500.
    pub fn fetch_max_wait_ms(self, ms: u32) -> ConsumerConfig {
        self.put(FETCH_MAX_WAIT_MS, ms)
    }

    /// [`ConsumerConfig::fetch_max_wait_ms`] as a duration, in whole milliseconds.
    pub fn fetch_max_wait(self, time: Duration) -> ConsumerConfig {
        self.put(FETCH_MAX_WAIT_MS, time.as_millis())
    }

    /// `isolation.level`: which records are seen. Default [`IsolationLevel::ReadUncommitted`].
    pub fn isolation_level(self, level: IsolationLevel) -> ConsumerConfig {
        self.put(ISOLATION_LEVEL, level)
    }

    /// `allow.auto.create.topics`: whether a subscription makes a missing topic, where the broker
    /// allows it (`auto.create.topics.enable`). Default true.
    pub fn allow_auto_create_topics(self, allow: bool) -> ConsumerConfig {
        self.put(AUTO_CREATE_TOPICS, allow)
    }

    /// `default.api.timeout.ms`: how long a call without a timeout of its own waits at most.
    /// Default 60000.
    pub fn default_api_timeout_ms(self, ms: u32) -> ConsumerConfig {
        self.put(DEFAULT_API_TIMEOUT_MS, ms)
    }

    /// [`ConsumerConfig::default_api_timeout_ms`] as a duration, in whole milliseconds.
    pub fn default_api_timeout(self, time: Duration) -> ConsumerConfig {
        self.put(DEFAULT_API_TIMEOUT_MS, time.as_millis())
    }
}

/// The settings in effect, checked against each other.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerSettings {
    /// None: no group.
    pub group_id: Option<String>,
    /// Empty where none was set.
    pub client_id: String,
    pub auto_commit: bool,
    pub auto_commit_interval: Duration,
    pub offset_reset: OffsetReset,
    pub max_poll_records: usize,
    pub max_poll_interval: Duration,
    /// May be outside of what the broker takes; it says so at the join.
    pub session_timeout_ms: i32,
    pub assignors: Vec<&'static str>,
    pub fetch_min_bytes: usize,
    pub fetch_max_bytes: usize,
    pub max_partition_fetch_bytes: usize,
    pub fetch_max_wait: Duration,
    pub isolation_level: IsolationLevel,
    pub auto_create_topics: bool,
    pub api_timeout: Duration,
    pub retry_backoff: Duration,
    pub leave_on_close: bool,
}

impl ConsumerSettings {
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a value that a typed setter took, and for
    /// `enable.auto.commit` without a group; [`ErrorKind::Kafka`] for an empty or blank group id,
    /// and when the heartbeat interval is negative or not below the session timeout.
    pub fn resolve(config: &ConsumerConfig) -> Result<ConsumerSettings> {
        let p = &config.0;
        p.check()?;
        let group_id = p.text(GROUP_ID).map(str::to_owned);
        let auto_commit = match (&group_id, p.is_set(ENABLE_AUTO_COMMIT)) {
            (None, false) => false,
            _ => p.flag(ENABLE_AUTO_COMMIT),
        };
        if auto_commit && group_id.is_none() {
            let fault = "enable.auto.commit cannot be true without a group.id";
            return Err(
                Error::new(ErrorKind::InvalidConfig, fault).with_kafka_name("INVALID_CONFIG")
            );
        }
        check_group(group_id.as_deref(), p)?;
        let built = |name: &str| ASSIGNORS.into_iter().find(|built| *built == name);
        Ok(ConsumerSettings {
            group_id,
            client_id: p.text(CLIENT_ID).unwrap_or_default().to_owned(),
            auto_commit,
            auto_commit_interval: p.millis(AUTO_COMMIT_INTERVAL_MS),
            // The rule of the table parsed it before.
            offset_reset: p
                .text(AUTO_OFFSET_RESET)
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
            max_poll_records: p.bytes(MAX_POLL_RECORDS),
            max_poll_interval: p.millis(MAX_POLL_INTERVAL_MS),
            session_timeout_ms: i32::try_from(p.whole(SESSION_TIMEOUT_MS)).unwrap_or(i32::MAX),
            assignors: p.list(ASSIGNMENT_STRATEGY).filter_map(built).collect(),
            fetch_min_bytes: p.bytes(FETCH_MIN_BYTES),
            fetch_max_bytes: p.bytes(FETCH_MAX_BYTES),
            max_partition_fetch_bytes: p.bytes(MAX_PARTITION_FETCH_BYTES),
            fetch_max_wait: p.millis(FETCH_MAX_WAIT_MS),
            isolation_level: match p.text(ISOLATION_LEVEL) {
                Some("read_committed") => IsolationLevel::ReadCommitted,
                _ => IsolationLevel::ReadUncommitted,
            },
            auto_create_topics: p.flag(AUTO_CREATE_TOPICS),
            api_timeout: p.millis(DEFAULT_API_TIMEOUT_MS),
            retry_backoff: p.millis(RETRY_BACKOFF_MS),
            leave_on_close: p.flag(LEAVE_ON_CLOSE),
        })
    }
}

/// What Kafka's client looks at once all values were read: with a group, in this order.
///
/// # Errors
/// [`ErrorKind::Kafka`], with the fault as its source; [`ErrorKind::InvalidConfig`] for a client id
/// that makes no member id.
fn check_group(group_id: Option<&str>, p: &Properties) -> Result<()> {
    let Some(group_id) = group_id else { return Ok(()) };
    let beat = p.whole(HEARTBEAT_INTERVAL_MS);
    if p.text(CLIENT_ID).is_some_and(|client_id| client_id.len() > CLIENT_ID_BYTES_MAX) {
        let fault = format!("client.id is longer than {CLIENT_ID_BYTES_MAX} bytes");
        return Err(Error::new(ErrorKind::InvalidConfig, fault));
    }
    let (kind, fault) = if group_id.is_empty() {
        (ErrorKind::InvalidGroupId, "group.id is empty; leave it out to read without a group")
    } else if beat >= p.whole(SESSION_TIMEOUT_MS) {
        (ErrorKind::IllegalArgument, "heartbeat.interval.ms must be below session.timeout.ms")
    } else if beat < 0 {
        (ErrorKind::IllegalArgument, "heartbeat.interval.ms is not negative")
    } else {
        return Ok(());
    };
    let refused = Error::new(ErrorKind::Kafka, format!("the consumer could not be made: {fault}"));
    Err(refused.with_source(Error::new(kind, fault)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(pairs: &[(&str, &str)]) -> Result<ConsumerSettings> {
        ConsumerSettings::resolve(&ConsumerConfig::from_properties(pairs.iter().copied())?)
    }

    #[test]
    fn defaults_are_kafkas() {
        let s = resolve(&[("group.id", "g")]).unwrap();
        assert!(s.auto_commit && s.auto_create_topics && s.leave_on_close);
        assert_eq!(s.assignors, ["range"]);
        assert_eq!((s.max_poll_records, s.session_timeout_ms), (500, 45_000));
        assert_eq!(s.offset_reset, OffsetReset::Latest);
        assert_eq!(s.isolation_level, IsolationLevel::ReadUncommitted);
        assert_eq!((s.fetch_min_bytes, s.fetch_max_bytes), (1, 52_428_800));
        assert_eq!(s.max_poll_interval, Duration::from_secs(300));
        assert_eq!(s.api_timeout, Duration::from_secs(60));
    }

    #[test]
    fn auto_commit_needs_a_group_only_when_it_is_asked_for() {
        assert!(!resolve(&[]).unwrap().auto_commit);
        assert!(resolve(&[("group.id", "g")]).unwrap().auto_commit);
        let error = resolve(&[("enable.auto.commit", "true")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert_eq!(error.kafka_name(), "INVALID_CONFIG");
    }

    #[test]
    fn a_heartbeat_interval_not_below_the_session_timeout_is_refused_in_a_group() {
        let beat = ("heartbeat.interval.ms", "1000");
        let session = ("session.timeout.ms", "1000");
        let error = resolve(&[("group.id", "g"), beat, session]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Kafka);
        assert_eq!(error.root_kind(), ErrorKind::IllegalArgument);
        resolve(&[beat, session]).unwrap();
        for bad in ["-1", "-2147483648"] {
            let beat = ("heartbeat.interval.ms", bad);
            let error = resolve(&[("group.id", "g"), beat]).unwrap_err();
            assert_eq!(error.kafka_name(), "KafkaException");
            assert_eq!(error.root_kind(), ErrorKind::IllegalArgument);
            resolve(&[beat]).unwrap();
        }
    }

    #[test]
    fn a_blank_group_id_is_refused_and_what_java_does_not_trim_is_a_name() {
        for blank in ["", " ", "\t\n ", "\u{1f}"] {
            let error = resolve(&[("group.id", blank)]).unwrap_err();
            assert_eq!(error.kafka_name(), "KafkaException");
            assert_eq!(error.root_kind(), ErrorKind::InvalidGroupId);
            let error = resolve(&[("group.id", blank), ("heartbeat.interval.ms", "-1")]);
            assert_eq!(error.unwrap_err().root_kind(), ErrorKind::InvalidGroupId);
        }
        for (given, kept) in [("  x  ", "x"), ("\u{a0}", "\u{a0}"), ("\u{3000}", "\u{3000}")] {
            let settings = resolve(&[("group.id", given)]).unwrap();
            assert_eq!(settings.group_id.as_deref(), Some(kept));
        }
    }

    #[test]
    fn assignors_are_names_or_kafkas_classes_and_may_be_none() {
        let strategy = |text| {
            resolve(&[("partition.assignment.strategy", text)]).map(|settings| settings.assignors)
        };
        assert_eq!(strategy("roundrobin, range").unwrap(), ["roundrobin", "range"]);
        let class = "org.apache.kafka.clients.consumer.RoundRobinAssignor";
        assert_eq!(strategy(class).unwrap(), ["roundrobin"]);
        assert_eq!(strategy("range,cooperative-sticky").unwrap(), ["range"]);
        assert!(strategy("").unwrap().is_empty());
        assert!(strategy("sticky").unwrap_err().message().contains("not built"));
        assert!(strategy("ranges").unwrap_err().message().contains("there is no assignor"));
    }

    #[test]
    fn words_of_librdkafka_are_answered_with_kafkas() {
        for (word, right) in [("smallest", "earliest"), ("end", "latest"), ("error", "none")] {
            let error = resolve(&[("auto.offset.reset", word)]).unwrap_err();
            assert!(error.message().contains(&format!("it is {right} here")), "{error}");
        }
    }

    #[test]
    fn values_are_refused_by_name() {
        for (key, bad) in [
            ("auto.offset.reset", "EARLIEST"),
            ("auto.offset.reset", "by_duration"),
            ("max.poll.records", "0"),
            ("isolation.level", "committed"),
            ("group.protocol", "consumer"),
            ("group.instance.id", "a"),
            ("fetch.min.bytes", "-1"),
        ] {
            let error = resolve(&[(key, bad)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{key}={bad}");
            assert!(error.message().contains(key), "{error}");
        }
        let zero = ConsumerConfig::new("g").max_poll_records(0);
        assert!(ConsumerSettings::resolve(&zero).is_err(), "typed setters are checked later");
    }
}
