//! Settings of a broker: what applies to every topic and group, and what its own tasks obey.

use super::Durability;
use super::broker_kept::KEPT;
use super::by_name::{by_property_name, each_alone};
use super::client::SECURITY;
use super::property::{Kind, Properties, Property, Schema};
use crate::error::{Error, ErrorKind, Result};
use std::time::Duration;

const CLEANUP: &str = "log.cleanup.policy";
const UNBUILT: &str = "internal.unbuilt.topic.settings.enable";
const NUM_PARTITIONS: &str = "num.partitions";
const AUTO_CREATE: &str = "auto.create.topics.enable";
const DELETE_TOPIC: &str = "delete.topic.enable";
const OFFSETS_PARTITIONS: &str = "offsets.topic.num.partitions";
const OFFSETS_SEGMENT_BYTES: &str = "offsets.topic.segment.bytes";
const OFFSET_METADATA_MAX: &str = "offset.metadata.max.bytes";
const OFFSETS_RETENTION_MINUTES: &str = "offsets.retention.minutes";
const OFFSETS_RETENTION_CHECK_MS: &str = "offsets.retention.check.interval.ms";
const TRANSACTIONS_PARTITIONS: &str = "transaction.state.log.num.partitions";
const TRANSACTIONS_SEGMENT_BYTES: &str = "transaction.state.log.segment.bytes";
const TRANSACTIONS_MIN_ISR: &str = "transaction.state.log.min.isr";
const TRANSACTION_MAX_TIMEOUT_MS: &str = "transaction.max.timeout.ms";
const TRANSACTION_CHECK_MS: &str = "transaction.abort.timed.out.transaction.cleanup.interval.ms";
const GROUP_MIN_SESSION_MS: &str = "group.min.session.timeout.ms";
const GROUP_MAX_SESSION_MS: &str = "group.max.session.timeout.ms";
const GROUP_INITIAL_DELAY_MS: &str = "group.initial.rebalance.delay.ms";
const GROUP_MAX_SIZE: &str = "group.max.size";
const RETENTION_CHECK_MS: &str = "log.retention.check.interval.ms";
const INITIAL_TASK_DELAY_MS: &str = "log.initial.task.delay.ms";
const FLUSH_INTERVAL_MESSAGES: &str = "log.flush.interval.messages";
const UNCOMPRESSED_MAX: &str = crate::record::DECOMPRESSED_MAX_SETTING;

/// Departure: `auto.create.topics.enable` is false (a typo must not make a topic) and
/// `group.initial.rebalance.delay.ms` is 0 (there is no rolling start to wait for).
const TABLE: &[Property] = &[
    Property::int(NUM_PARTITIONS, "1", 1),
    // For replays of what a real broker did: topics take settings that have no effect here.
    Property::bool(UNBUILT, "false"),
    Property::bool(AUTO_CREATE, "false"),
    Property::bool(DELETE_TOPIC, "true"),
    Property::int(OFFSETS_PARTITIONS, "50", 1),
    Property::int(OFFSETS_SEGMENT_BYTES, "104857600", 1),
    Property::int(OFFSET_METADATA_MAX, "4096", i32::MIN),
    Property::int(OFFSETS_RETENTION_MINUTES, "10080", 1).kept(),
    Property::long(OFFSETS_RETENTION_CHECK_MS, "600000", 1).kept(),
    Property::int(TRANSACTIONS_PARTITIONS, "50", 1),
    Property::int(TRANSACTIONS_SEGMENT_BYTES, "104857600", 1),
    Property::int(TRANSACTIONS_MIN_ISR, "2", 1),
    Property::int(TRANSACTION_MAX_TIMEOUT_MS, "900000", 1).kept(),
    Property::int(TRANSACTION_CHECK_MS, "10000", 1).kept(),
    Property::int(GROUP_MIN_SESSION_MS, "6000", i32::MIN),
    Property::int(GROUP_MAX_SESSION_MS, "1800000", i32::MIN),
    Property::int(GROUP_INITIAL_DELAY_MS, "0", i32::MIN),
    Property::int(GROUP_MAX_SIZE, "2147483647", 1),
    Property::long(RETENTION_CHECK_MS, "300000", 1),
    Property::long(INITIAL_TASK_DELAY_MS, "30000", 0),
    Property::int(UNCOMPRESSED_MAX, "268435456", 1 << 16),
];

static SCHEMA: Schema = Schema {
    of: "broker",
    error: ErrorKind::InvalidConfig,
    tables: &[TABLE, KEPT, SECURITY],
    overridden: super::topic::TABLE,
    prefixes: &["listener.name.", "rsm.config.", "rlmm.config.", "metrics.context."],
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
    /// or to a task that this version does not run, such as the cleaner or the expiry of offsets.
}

impl BrokerConfig {
    /// Checks values that typed setters took, for every topic too.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] that names the setting.
    pub(crate) fn check(&self) -> Result<()> {
        self.0.check()?;
        if !self.takes_unbuilt() && self.0.list(CLEANUP).any(|policy| policy == "compact") {
            let why = "log.cleanup.policy: there is no cleaner in this version; leave it at delete";
            return Err(Error::new(ErrorKind::InvalidConfig, why));
        }
        Ok(())
    }

    /// Whether topics take settings that this version keeps without doing them.
    pub(crate) fn takes_unbuilt(&self) -> bool {
        self.0.flag(UNBUILT)
    }

    #[cfg(test)]
    pub(super) fn knows(key: &str) -> bool {
        SCHEMA.find(key).is_some()
    }

    pub(super) fn put(mut self, key: &'static str, value: impl std::fmt::Display) -> BrokerConfig {
        self.0.put(key, value);
        self
    }

    /// `auto.create.topics.enable`: whether a send or a subscription makes a missing topic.
    ///
    /// Departure: false, Kafka's default is true. A typo must not make a topic.
    pub fn auto_create_topics_enable(self, enable: bool) -> BrokerConfig {
        self.put(AUTO_CREATE, enable)
    }

    /// `num.partitions`: the partitions of a topic made without a number. Default 1.
    pub fn num_partitions(self, count: u32) -> BrokerConfig {
        self.put(NUM_PARTITIONS, count)
    }

    /// `offsets.topic.num.partitions`, looked at when the offsets topic is made. Default 50.
    pub fn offsets_topic_num_partitions(self, count: u32) -> BrokerConfig {
        self.put(OFFSETS_PARTITIONS, count)
    }

    /// `group.initial.rebalance.delay.ms`: how long a new group waits for more members.
    ///
    /// Departure: 0, Kafka's default is 3000. Members of one process need no rolling start.
    pub fn group_initial_rebalance_delay_ms(self, ms: u32) -> BrokerConfig {
        self.put(GROUP_INITIAL_DELAY_MS, ms)
    }

    /// [`BrokerConfig::group_initial_rebalance_delay_ms`] as a duration, in whole milliseconds.
    pub fn group_initial_rebalance_delay(self, time: Duration) -> BrokerConfig {
        self.put(GROUP_INITIAL_DELAY_MS, time.as_millis())
    }

    /// `log.retention.check.interval.ms`: how often retention runs. Default 300000.
    pub fn log_retention_check_interval_ms(self, ms: u64) -> BrokerConfig {
        self.put(RETENTION_CHECK_MS, ms)
    }

    /// [`BrokerConfig::log_retention_check_interval_ms`] as a duration, in whole milliseconds.
    pub fn log_retention_check_interval(self, time: Duration) -> BrokerConfig {
        self.put(RETENTION_CHECK_MS, time.as_millis())
    }

    /// What an acknowledged record survives, in topics that do not say it themselves: sets
    /// `log.flush.interval.messages`.
    pub fn durability(self, durability: Durability) -> BrokerConfig {
        self.put(FLUSH_INTERVAL_MESSAGES, durability.flush_messages())
    }
}

/// The values in effect.
impl BrokerConfig {
    pub(crate) fn default_partitions(&self) -> i32 {
        self.count(NUM_PARTITIONS)
    }

    pub(crate) fn auto_create_topics(&self) -> bool {
        self.0.flag(AUTO_CREATE)
    }

    pub(crate) fn delete_topics(&self) -> bool {
        self.0.flag(DELETE_TOPIC)
    }

    pub(crate) fn offsets_topic_partitions(&self) -> i32 {
        self.count(OFFSETS_PARTITIONS)
    }

    pub(crate) fn offsets_topic_segment_bytes(&self) -> i64 {
        self.0.whole(OFFSETS_SEGMENT_BYTES)
    }

    /// In UTF-16 units, as Kafka counts; negative allows none.
    pub(crate) fn offset_metadata_max_bytes(&self) -> usize {
        self.0.bytes(OFFSET_METADATA_MAX)
    }

    #[allow(dead_code, reason = "the seam of the expiry of offsets")]
    pub(crate) fn offsets_retention(&self) -> Duration {
        self.0.millis(OFFSETS_RETENTION_MINUTES).saturating_mul(60_000)
    }

    #[expect(dead_code, reason = "the seam of the expiry of offsets")]
    pub(crate) fn offsets_retention_check_interval(&self) -> Duration {
        self.0.millis(OFFSETS_RETENTION_CHECK_MS)
    }

    #[expect(dead_code, reason = "the seam of transactions")]
    pub(crate) fn transactions_topic_partitions(&self) -> i32 {
        self.count(TRANSACTIONS_PARTITIONS)
    }

    pub(crate) fn transactions_topic_segment_bytes(&self) -> i64 {
        self.0.whole(TRANSACTIONS_SEGMENT_BYTES)
    }

    pub(crate) fn transactions_topic_min_isr(&self) -> i64 {
        self.0.whole(TRANSACTIONS_MIN_ISR)
    }

    pub(crate) fn group_min_session_timeout(&self) -> Duration {
        self.0.millis(GROUP_MIN_SESSION_MS)
    }

    pub(crate) fn group_max_session_timeout(&self) -> Duration {
        self.0.millis(GROUP_MAX_SESSION_MS)
    }

    pub(crate) fn initial_rebalance_delay(&self) -> Duration {
        self.0.millis(GROUP_INITIAL_DELAY_MS)
    }

    pub(crate) fn group_max_size(&self) -> usize {
        self.0.bytes(GROUP_MAX_SIZE)
    }

    pub(crate) fn retention_check_interval(&self) -> Duration {
        self.0.millis(RETENTION_CHECK_MS)
    }

    /// What the records of one batch may decompress to, in bytes.
    pub(crate) fn batch_uncompressed_max(&self) -> usize {
        self.0.bytes(UNCOMPRESSED_MAX)
    }

    pub(crate) fn initial_task_delay(&self) -> Duration {
        self.0.millis(INITIAL_TASK_DELAY_MS)
    }

    fn count(&self, key: &str) -> i32 {
        i32::try_from(self.0.whole(key)).unwrap_or(i32::MAX)
    }
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
