//! Settings of a consumer, and the typed form that it works with.

use super::by_name::{by_property_name, each_alone};
use super::client::{NETWORK, SECURITY};
use super::property::{Kind, Properties, Property, Role, Schema, int_from, long_from, split_list};
use super::settings::settings;
use super::{IsolationLevel, OffsetReset};
use crate::error::{Error, ErrorKind, Result};
use std::time::Duration;

/// A member id is the client id, a hyphen and 36 letters, and Kafka reads strings of 32,767 bytes.
const CLIENT_ID_BYTES_MAX: usize = i16::MAX as usize - 37;

/// What `partition.assignment.strategy` is when nobody sets it. The second name only serves to
/// move a group to cooperative rebalancing; a group of such members works with the first.
const DEFAULT_STRATEGY: &str = "range,cooperative-sticky";
const ASSIGNORS: [&str; 2] = ["range", "roundrobin"];

const NO_CLASSES: &str = "classes of a Java client cannot run here";
const NO_SHARE: &str = "it is for share groups, which a classic group is not";
const NO_STATIC: &str = "static membership is not built; leave it out";
const NO_NEW_PROTOCOL: &str = "the protocol of KIP-848 is not built; leave it at classic";

settings! {
    ConsumerConfig {
        /// The settings in effect, checked against each other.
        #[derive(Debug, Clone)]
        struct ConsumerSettings from Properties
    }

    GROUP_ID "group.id": text, null {
        /// None: no group.
        get group_id: Option<String>;
    }
    "group.instance.id": non_empty, null, refused(NO_STATIC);
    "group.protocol": any_case("classic", "consumer"), "classic", refused(NO_NEW_PROTOCOL);
    "group.remote.assignor": text, null, refused(NO_NEW_PROTOCOL);

    /// the beginning of the member id. `consumer-<group>-<number>` where it is not set.
    "client.id": text, "" {
        set client_id(id: impl AsRef<str>) = id.as_ref();
        /// Empty where none was set.
        get client_id: String;
    }

    /// whether polls commit what earlier polls returned. Without a group it is false unless it is
    /// set.
    ENABLE_AUTO_COMMIT "enable.auto.commit": bool, "true" {
        set enable_auto_commit(enable: bool);
        get auto_commit: bool = auto_commit;
    }

    /// the least time between two automatic commits.
    ///
    /// Departure: D10. 0 commits once in every poll. Kafka's client then commits without pause
    /// while it waits.
    "auto.commit.interval.ms": int(0), "5000" {
        set auto_commit_interval_ms(ms: u32), auto_commit_interval;
        get auto_commit_interval: Duration;
    }

    /// where reading starts without a committed offset, or when the offset is out of range.
    AUTO_OFFSET_RESET "auto.offset.reset": rule(reset_policy), "latest" {
        set auto_offset_reset(reset: OffsetReset);
        get offset_reset: OffsetReset;
        /// The policy was chosen, and is not the default.
        get offset_reset_is_set: bool = reset_is_set;
    }

    /// the most records that one poll returns.
    "max.poll.records": int(1), "500" {
        set max_poll_records(count: u32);
        get max_poll_records: usize;
    }

    /// a member that does not poll for this long is put out of its group; also how long a
    /// rebalance waits for it.
    "max.poll.interval.ms": int(1), "300000" {
        set max_poll_interval_ms(ms: u32), max_poll_interval;
        get max_poll_interval: Duration;
    }

    /// how long a member that vanished counts as present.
    ///
    /// A member of a process that died is known to be gone when the directory is opened again,
    /// and a dropped consumer leaves at once, so this matters for simulated deaths only.
    "session.timeout.ms": int, "45000" {
        set session_timeout_ms(ms: u32), session_timeout;
        /// May be outside of what the broker takes; it says so at the join.
        get session_timeout_ms: i32;
    }

    /// must be below the session timeout.
    ///
    /// Departure: D41. Nothing is sent at this interval. A handle that exists counts as beating.
    "heartbeat.interval.ms": int, "3000" {
        set heartbeat_interval_ms(ms: u32), heartbeat_interval;
        get heartbeat_interval_ms: i32;
    }

    /// the assignors, `range` and `roundrobin`, in order of preference. By default the group works
    /// with `range`.
    STRATEGY "partition.assignment.strategy": rule(strategy), "range,cooperative-sticky" {
        set partition_assignment_strategy(names: &[&str]) = names.join(",");
        get assignors: Vec<&'static str> = assignors;
    }

    /// a poll waits for this many bytes, at most `fetch.max.wait.ms`.
    "fetch.min.bytes": int(0), "1" {
        set fetch_min_bytes(bytes: u32);
        get fetch_min_bytes: usize;
    }

    /// the most bytes of batches in one fetch, whose records one poll or several return. The first
    /// batch of a fetch may be larger, the others have to fit into what is left and wait for the
    /// next fetch if they do not. 50 MiB by default.
    ///
    /// Departure: D38. What compressed batches beyond the first of a poll decompress to is bounded
    /// by it, too, but not below 64 KiB.
    "fetch.max.bytes": int(0), "52428800" {
        set fetch_max_bytes(bytes: u32);
        get fetch_max_bytes: usize;
    }

    /// the same for one partition; of several partitions, only the first batch of all may be
    /// larger. 1 MiB by default.
    "max.partition.fetch.bytes": int(0), "1048576" {
        set max_partition_fetch_bytes(bytes: u32);
        get max_partition_fetch_bytes: usize;
    }

    /// how long a poll waits for `fetch.min.bytes`.
    "fetch.max.wait.ms": int(0), "500" {
        set fetch_max_wait_ms(ms: u32), fetch_max_wait;
        get fetch_max_wait: Duration;
    }

    /// which records are seen.
    "isolation.level": one_of("read_committed", "read_uncommitted"), "read_uncommitted" {
        set isolation_level(level: IsolationLevel);
        get isolation_level: IsolationLevel;
    }

    /// whether a subscription makes a missing topic, where the broker allows it
    /// (`auto.create.topics.enable`).
    "allow.auto.create.topics": bool, "true" {
        set allow_auto_create_topics(allow: bool);
        get auto_create_topics: bool;
    }

    /// how long a call without a timeout of its own waits at most.
    "default.api.timeout.ms": int(0), "60000" {
        set default_api_timeout_ms(ms: u32), default_api_timeout;
        get api_timeout: Duration;
    }

    "request.timeout.ms": int(0), "30000";
    "retry.backoff.ms": long(0), "100" { get retry_backoff: Duration; }
    "internal.leave.group.on.close": bool, "true" { get leave_on_close: bool; }
    // A segment's checksums are checked once per open, whoever reads it.
    "check.crcs": bool, "true", kept;
    "exclude.internal.topics": bool, "true", kept;
    "retry.backoff.max.ms": long(0), "1000", kept;
    "interceptor.classes": list, "", refused(NO_CLASSES);
    "key.deserializer": text, null, kept;
    "value.deserializer": text, null, kept;
    "internal.throw.on.fetch.stable.offset.unsupported": bool, "false", kept;
    "share.acknowledgement.mode": text, null, refused(NO_SHARE);
    "share.acquire.mode": text, null, refused(NO_SHARE);
}

pub(super) static SCHEMA: Schema = Schema {
    of: "consumer",
    error: ErrorKind::InvalidConfig,
    tables: &[TABLE, NETWORK, SECURITY],
    overridden: &[],
    prefixes: &["metrics.context."],
    keeps_lists: false,
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
}

impl ConsumerSettings {
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a value that a typed setter took, and for
    /// `enable.auto.commit` without a group; [`ErrorKind::Kafka`] for an empty or blank group id,
    /// and when the heartbeat interval is negative or not below the session timeout.
    pub fn resolve(config: &ConsumerConfig) -> Result<ConsumerSettings> {
        config.0.check()?;
        let settings = ConsumerSettings::read(&config.0);
        if settings.auto_commit && settings.group_id.is_none() {
            let fault = "enable.auto.commit cannot be true without a group.id";
            return Err(
                Error::new(ErrorKind::InvalidConfig, fault).with_kafka_name("INVALID_CONFIG")
            );
        }
        settings.check_group()?;
        Ok(settings)
    }

    /// What Kafka's client looks at once all values were read: with a group, in this order.
    ///
    /// # Errors
    /// [`ErrorKind::Kafka`], with the fault as its source; [`ErrorKind::InvalidConfig`] for a
    /// client id that makes no member id.
    fn check_group(&self) -> Result<()> {
        let Some(group_id) = &self.group_id else { return Ok(()) };
        if self.client_id.len() > CLIENT_ID_BYTES_MAX {
            let fault = format!("client.id is longer than {CLIENT_ID_BYTES_MAX} bytes");
            return Err(Error::new(ErrorKind::InvalidConfig, fault));
        }
        let (kind, fault) = if group_id.is_empty() {
            (ErrorKind::InvalidGroupId, "group.id is empty; leave it out to read without a group")
        } else if self.heartbeat_interval_ms >= self.session_timeout_ms {
            (ErrorKind::IllegalArgument, "heartbeat.interval.ms must be below session.timeout.ms")
        } else if self.heartbeat_interval_ms < 0 {
            (ErrorKind::IllegalArgument, "heartbeat.interval.ms is not negative")
        } else {
            return Ok(());
        };
        let refused =
            Error::new(ErrorKind::Kafka, format!("the consumer could not be made: {fault}"));
        Err(refused.with_source(Error::new(kind, fault)))
    }
}

fn reset_is_set(p: &Properties) -> bool {
    p.is_set(AUTO_OFFSET_RESET)
}

/// Without a group there is nothing to commit to, unless somebody asks for it.
fn auto_commit(p: &Properties) -> bool {
    let possible = p.text(GROUP_ID).is_some() || p.is_set(ENABLE_AUTO_COMMIT);
    possible && p.flag(ENABLE_AUTO_COMMIT)
}

/// The assignors of the strategy that are built.
fn assignors(p: &Properties) -> Vec<&'static str> {
    let built = |name: &str| ASSIGNORS.into_iter().find(|built| *built == name);
    p.list(STRATEGY).filter_map(built).collect()
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
        let error = strategy("ranges").unwrap_err();
        assert!(error.message().contains("there is no assignor"));
        assert_eq!(
            (error.kind(), error.kafka_name()),
            (ErrorKind::InvalidConfig, "KafkaException")
        );
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
