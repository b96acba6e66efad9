//! Settings of a broker: what applies to every topic and group, and what its own tasks obey.

use super::Durability;
use super::broker_kept::KEPT;
use super::by_name::{by_property_name, each_alone};
use super::client::SECURITY;
use super::property::{Kind, Properties, Property, Role, Schema, int_from, long_from};
use super::settings::settings;
use crate::error::{ErrorKind, Result};
use std::time::Duration;

const FLUSH_INTERVAL_MESSAGES: &str = "log.flush.interval.messages";

const ANY_DECIMAL: Kind = Kind::Decimal { min: f64::MIN, max: f64::MAX };

settings! {
    BrokerConfig { methods of BrokerConfig }

    /// the partitions of a topic made without a number.
    "num.partitions": int(1), "1" {
        set num_partitions(count: u32);
        get default_partitions: i32;
    }

    /// whether a send or a subscription makes a missing topic.
    ///
    /// Departure: D4. False, Kafka's default is true. A typo must not make a topic.
    "auto.create.topics.enable": bool, "false" {
        set auto_create_topics_enable(enable: bool);
        get auto_create_topics: bool;
    }
    "delete.topic.enable": bool, "true" { get delete_topics: bool; }

    /// looked at when the offsets topic is made.
    "offsets.topic.num.partitions": int(1), "50" {
        set offsets_topic_num_partitions(count: u32);
        get offsets_topic_partitions: i32;
    }
    /// how large a segment of the offsets topic grows.
    ///
    /// Departure: D115. 256 KiB, Kafka's default is 100 MiB. The active segment of a partition is
    /// never cleaned, and a group's first use reads it: 50 of this size take 12.5 MiB, and reading
    /// one takes a millisecond or two.
    "offsets.topic.segment.bytes": int(1), "262144" {
        set offsets_topic_segment_bytes(bytes: u32);
        get offsets_segment_bytes: i64;
    }
    "offset.metadata.max.bytes": int, "4096" {
        /// In UTF-16 units, as Kafka counts; negative allows none.
        get offset_metadata_max_bytes: usize;
    }
    /// how long the offsets of a group stay once it is empty, and those that were committed
    /// without a group's protocol. 7 days by default.
    OFFSETS_RETENTION_MINUTES "offsets.retention.minutes": int(1), "10080" {
        set offsets_retention_minutes(minutes: u32);
        get offsets_retention: Duration = offsets_retention;
    }
    "offsets.retention.check.interval.ms": long(1), "600000" {
        get offsets_retention_check_interval: Duration;
    }

    /// looked at when the topic of transactional ids is made.
    "transaction.state.log.num.partitions": int(1), "50" {
        get transactions_topic_partitions: i32;
    }
    /// how large a segment of the topic of transactional ids grows.
    ///
    /// Departure: D116. 256 KiB, Kafka's default is 100 MiB. The first append of a life reads all
    /// of this topic.
    "transaction.state.log.segment.bytes": int(1), "262144" {
        set transaction_state_log_segment_bytes(bytes: u32);
        get transactions_segment_bytes: i64;
    }
    "transaction.state.log.min.isr": int(1), "2" { get transactions_topic_min_isr: i64; }
    "transaction.max.timeout.ms": int(1), "900000" { get transaction_max_timeout: Duration; }
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": int(1), "10000" {
        get transaction_check_interval: Duration;
    }
    "transactional.id.expiration.ms": int(1), "604800000" {
        get transactional_id_expiration: Duration;
    }
    "transaction.remove.expired.transaction.cleanup.interval.ms": int(1), "3600000" {
        get transactional_id_check_interval: Duration;
    }

    /// how long a producer that sends nothing is remembered, by the times of its records.
    "producer.id.expiration.ms": int(1), "86400000" {
        set producer_id_expiration_ms(ms: u32), producer_id_expiration;
        get producer_expiration_ms: i64;
    }
    "producer.id.expiration.check.interval.ms": int(1), "600000" {
        get producer_expiration_check_interval: Duration;
    }

    "group.min.session.timeout.ms": int, "6000" { get group_min_session_timeout: Duration; }
    "group.max.session.timeout.ms": int, "1800000" { get group_max_session_timeout: Duration; }

    /// how long a new group waits for more members.
    ///
    /// Departure: D2. 0, Kafka's default is 3000. Members of one process need no rolling start.
    "group.initial.rebalance.delay.ms": int, "0" {
        set group_initial_rebalance_delay_ms(ms: u32), group_initial_rebalance_delay;
        get initial_rebalance_delay: Duration;
    }
    "group.max.size": int(1), "2147483647" { get group_max_size: usize; }

    /// how often retention runs.
    "log.retention.check.interval.ms": long(1), "300000" {
        set log_retention_check_interval_ms(ms: u64), log_retention_check_interval;
        get retention_check_interval: Duration;
    }
    "log.initial.task.delay.ms": long(0), "30000" { get initial_task_delay: Duration; }

    "log.cleaner.enable": bool, "true" { get cleaner_enabled: bool; }
    /// how much memory the keys of one round of cleaning may take: 24 bytes each. Keys that do not
    /// fit are cleaned in several rounds.
    "log.cleaner.dedupe.buffer.size": long, "134217728" {
        set log_cleaner_dedupe_buffer_size(bytes: u64);
        get cleaner_dedupe_buffer_bytes: usize;
    }
    "log.cleaner.io.buffer.load.factor": of(ANY_DECIMAL), "0.9" { get cleaner_load_factor: f64; }
    "log.cleaner.io.buffer.size": int(0), "524288" { get cleaner_io_buffer_bytes: usize; }
    /// how many bytes the cleaner may read and write in a second. Without limit by default.
    "log.cleaner.io.max.bytes.per.second": of(ANY_DECIMAL), "1.7976931348623157e308" {
        get cleaner_bytes_per_second: f64;
    }
    /// how long the cleaner waits where there is nothing to clean.
    "log.cleaner.backoff.ms": long(0), "15000" {
        set log_cleaner_backoff_ms(ms: u64), log_cleaner_backoff;
        get cleaner_backoff: Duration;
    }
    "log.batch.uncompressed.max.bytes": int(1 << 16), "268435456" {
        /// What the records of one batch may decompress to, in bytes.
        get batch_uncompressed_max: usize;
    }
    // The defaults of topics' properties come from the rows of those, in `topic.rs`.
}

pub(super) static SCHEMA: Schema = Schema {
    of: "broker",
    error: ErrorKind::InvalidConfig,
    tables: &[TABLE, KEPT, SECURITY],
    overridden: super::topic::TABLE,
    prefixes: &["listener.name.", "rsm.config.", "rlmm.config.", "metrics.context."],
    keeps_lists: false,
};

/// Settings of a broker, under Kafka's names (`server.properties`).
///
/// # Examples
/// ```
/// use topiclite::BrokerConfig;
/// let config = BrokerConfig::from_properties([
///     ("num.partitions", "3"),
///     ("listeners", "PLAINTEXT://127.0.0.1:9092"),
/// ])?;
/// assert_eq!(config.get("num.partitions"), Some("3"));
/// assert_eq!(config.ignored().collect::<Vec<_>>(), ["listeners"]);
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerConfig(Properties);

by_property_name! {
    BrokerConfig, InvalidConfig, each_alone,
    /// What was set and has no effect here: it belongs to the network, to replicas, to security,
    /// or to a task that this version does not run.
}

impl BrokerConfig {
    /// Checks values that typed setters took, for every topic too.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] that names the setting.
    pub(crate) fn check(&self) -> Result<()> {
        self.0.check()
    }

    #[cfg(test)]
    pub(super) fn knows(key: &str) -> bool {
        SCHEMA.find(key).is_some()
    }

    /// What an acknowledged record survives, in topics that do not say it themselves: sets
    /// `log.flush.interval.messages`.
    pub fn durability(self, durability: Durability) -> BrokerConfig {
        self.put(FLUSH_INTERVAL_MESSAGES, durability.flush_messages())
    }
}

fn offsets_retention(p: &Properties) -> Duration {
    p.value::<Duration>(OFFSETS_RETENTION_MINUTES).saturating_mul(60_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kraft_nodes_properties_are_taken_and_the_network_ones_listed() {
        let node = [
            ("process.roles", "broker,controller"),
            ("node.id", "1"),
            ("controller.quorum.voters", "1@127.0.0.1:19293"),
            ("listeners", "PLAINTEXT://127.0.0.1:19292,CONTROLLER://127.0.0.1:19293"),
            ("log.dirs", "data"),
            ("num.partitions", "1"),
            ("offsets.topic.num.partitions", "5"),
            ("group.initial.rebalance.delay.ms", "0"),
            ("group.share.min.record.lock.duration.ms", "1000"),
            ("log.cleaner.dedupe.buffer.size", "4194304"),
            ("log.cleaner.threads", "1"),
            ("listener.name.internal.ssl.keystore.location", "x"),
        ];
        let config = BrokerConfig::from_properties(node).unwrap();
        assert_eq!(config.offsets_topic_partitions(), 5);
        let ignored: Vec<_> = config.ignored().collect();
        assert!(ignored.contains(&"process.roles") && ignored.contains(&"log.dirs"));
        assert!(ignored.contains(&"listener.name.internal.ssl.keystore.location"));
        assert!(!ignored.contains(&"num.partitions"));
    }

    #[test]
    fn defaults_are_kafkas_or_marked_departures() {
        let config = BrokerConfig::default();
        assert!(!config.auto_create_topics() && config.delete_topics());
        assert_eq!(config.default_partitions(), 1);
        assert_eq!(config.offsets_topic_partitions(), 50);
        assert_eq!(config.initial_rebalance_delay(), Duration::ZERO);
        assert_eq!(config.group_min_session_timeout(), Duration::from_secs(6));
        assert_eq!(config.group_max_session_timeout(), Duration::from_secs(1800));
        assert_eq!(config.offset_metadata_max_bytes(), 4096);
        assert_eq!(config.offsets_retention(), Duration::from_secs(7 * 86_400));
        assert_eq!(config.retention_check_interval(), Duration::from_secs(300));
    }

    #[test]
    fn no_name_stands_twice_and_every_default_is_a_legal_value() {
        let mut names: Vec<_> = SCHEMA.all().map(|p| p.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for property in SCHEMA.all() {
            if let Some(default) = property.default {
                let kept = property.kind.normalise(default);
                assert_eq!(kept.as_deref(), Ok(default), "{}", property.name);
            }
        }
    }

    #[test]
    fn the_limit_that_decoders_name_is_the_brokers() {
        assert!(BrokerConfig::knows(crate::record::DECOMPRESSED_MAX_SETTING));
    }

    #[test]
    fn unknown_and_wrong_properties_are_refused() {
        for (key, value) in [
            ("num.partition", "1"),
            ("num.partitions", "0"),
            ("log.segment.bytes", "1000"),
            ("log.retention.check.interval.ms", "0"),
        ] {
            let error = BrokerConfig::from_properties([(key, value)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{key}");
        }
    }
}
