//! Settings of one topic: what a user overrides, on top of the broker's settings.

use super::by_name::by_property_name;
use super::property::{Kind, Properties, Property, Schema, int_from, split_list, trimmed};
use super::{BrokerConfig, Codec, Durability, LogConfig, TimestampType};
use crate::error::{Error, ErrorKind, Result};
use std::time::Duration;

/// The smallest `segment.bytes` that a user may set (Kafka 4). Tests that want smaller segments
/// set `internal.segment.bytes`.
const SEGMENT_BYTES_MIN: i32 = 1 << 20;

pub(super) const SEGMENT_BYTES: &str = "segment.bytes";
pub(super) const INTERNAL_SEGMENT_BYTES: &str = "internal.segment.bytes";
pub(super) const SEGMENT_MS: &str = "segment.ms";
pub(super) const SEGMENT_JITTER_MS: &str = "segment.jitter.ms";
pub(super) const SEGMENT_INDEX_BYTES: &str = "segment.index.bytes";
pub(super) const INDEX_INTERVAL_BYTES: &str = "index.interval.bytes";
pub(super) const RETENTION_MS: &str = "retention.ms";
pub(super) const RETENTION_BYTES: &str = "retention.bytes";
pub(super) const CLEANUP_POLICY: &str = "cleanup.policy";
pub(super) const FLUSH_MESSAGES: &str = "flush.messages";
pub(super) const FLUSH_MS: &str = "flush.ms";
pub(super) const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
pub(super) const TIMESTAMP_TYPE: &str = "message.timestamp.type";
pub(super) const TIMESTAMP_BEFORE_MAX_MS: &str = "message.timestamp.before.max.ms";
pub(super) const TIMESTAMP_AFTER_MAX_MS: &str = "message.timestamp.after.max.ms";
pub(super) const COMPRESSION_TYPE: &str = "compression.type";
pub(super) const GZIP_LEVEL: &str = "compression.gzip.level";
pub(super) const LZ4_LEVEL: &str = "compression.lz4.level";
pub(super) const ZSTD_LEVEL: &str = "compression.zstd.level";
pub(super) const PREALLOCATE: &str = "preallocate";
pub(super) const FILE_DELETE_DELAY_MS: &str = "file.delete.delay.ms";
pub(super) const MIN_COMPACTION_LAG_MS: &str = "min.compaction.lag.ms";
pub(super) const MAX_COMPACTION_LAG_MS: &str = "max.compaction.lag.ms";
pub(super) const DELETE_RETENTION_MS: &str = "delete.retention.ms";
pub(super) const MIN_CLEANABLE_DIRTY_RATIO: &str = "min.cleanable.dirty.ratio";
pub(super) const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

const UNCLEAN_ELECTION: &str = "unclean.leader.election.enable";
pub(super) const NO_PREALLOCATION: &str =
    "segments are always made ahead of the writer here; leave it false";
pub(super) const NO_ELECTION: &str = "there is one replica and no election; leave it false";
const NO_CLEANER: &str = "there is no cleaner in this version, so nothing would be compacted; \
                          leave cleanup.policy at delete";
const TIERED: &str = "there is no tiered storage; leave it false";

/// Kafka allows -1 (the codec's own default) and 1 to 9.
pub(super) fn gzip_level(text: &str) -> std::result::Result<String, String> {
    match text.parse::<i32>() {
        Ok(n) if n == -1 || (1..=9).contains(&n) => Ok(n.to_string()),
        _ => Err("it is -1 or from 1 to 9".to_owned()),
    }
}

pub(super) const LZ4_LEVELS: Kind = Kind::Whole { min: 1, max: 17 };
/// `ZSTD_minCLevel` and `ZSTD_maxCLevel`.
pub(super) const ZSTD_LEVELS: Kind = Kind::Whole { min: -131_072, max: 22 };
pub(super) const TIMESTAMP_TYPES: Kind = Kind::OneOf(&["CreateTime", "LogAppendTime"]);
pub(super) const POLICIES: Kind = Kind::List(&["compact", "delete"]);
/// Kafka's `ThrottledReplicaListValidator`.
const REPLICAS: Kind = Kind::ListOf(is_replica, "it is *, or a list of PARTITION:BROKER");
pub(super) const TOPIC_CODECS: Kind =
    Kind::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);

fn is_replica(item: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let pair = item.split_once(':');
    matches!(item, "" | "*") || pair.is_some_and(|(a, b)| is_number(a) && is_number(b))
}

/// Departure: `flush.ms` is 1000 where Kafka's is unlimited. There is no replica to recover from,
/// so a loss window of a second is the honest default (blueprint, decision 10).
const TABLE: &[Property] = &[
    Property::int(SEGMENT_BYTES, "1073741824", SEGMENT_BYTES_MIN),
    Property::null(INTERNAL_SEGMENT_BYTES, int_from(1)),
    Property::long(SEGMENT_MS, "604800000", 1),
    Property::long(SEGMENT_JITTER_MS, "0", 0),
    Property::int(SEGMENT_INDEX_BYTES, "10485760", 4),
    Property::int(INDEX_INTERVAL_BYTES, "4096", 0),
    Property::long(RETENTION_MS, "604800000", -1),
    Property::long(RETENTION_BYTES, "-1", i64::MIN),
    Property::new(CLEANUP_POLICY, POLICIES, "delete"),
    Property::long(FLUSH_MESSAGES, "9223372036854775807", 1),
    Property::long(FLUSH_MS, "1000", 0),
    Property::int(MAX_MESSAGE_BYTES, "1048588", 0),
    Property::new(TIMESTAMP_TYPE, TIMESTAMP_TYPES, "CreateTime"),
    Property::long(TIMESTAMP_BEFORE_MAX_MS, "9223372036854775807", 0),
    Property::long(TIMESTAMP_AFTER_MAX_MS, "3600000", 0),
    Property::new(COMPRESSION_TYPE, TOPIC_CODECS, "producer"),
    Property::new(GZIP_LEVEL, Kind::Rule(gzip_level), "-1"),
    Property::new(LZ4_LEVEL, LZ4_LEVELS, "9"),
    Property::new(ZSTD_LEVEL, ZSTD_LEVELS, "3"),
    Property::bool(PREALLOCATE, "false").kept(),
    Property::long(FILE_DELETE_DELAY_MS, "60000", 0),
    // The cleaner's, which this version does not have.
    Property::long(MIN_COMPACTION_LAG_MS, "0", 0).kept(),
    Property::long(MAX_COMPACTION_LAG_MS, "9223372036854775807", 1).kept(),
    Property::long(DELETE_RETENTION_MS, "86400000", 0).kept(),
    Property::new(MIN_CLEANABLE_DIRTY_RATIO, Kind::Decimal { min: 0.0, max: 1.0 }, "0.5").kept(),
    Property::int(MIN_INSYNC_REPLICAS, "1", 1).kept(),
    Property::bool(UNCLEAN_ELECTION, "false").kept(),
    Property::new("leader.replication.throttled.replicas", REPLICAS, "").kept(),
    Property::new("follower.replication.throttled.replicas", REPLICAS, "").kept(),
    Property::bool("remote.storage.enable", "false").refused(TIERED),
    Property::bool("remote.log.copy.disable", "false").kept(),
    Property::bool("remote.log.delete.on.disable", "false").kept(),
    Property::long("local.retention.ms", "-2", -2).kept(),
    Property::long("local.retention.bytes", "-2", -2).kept(),
    Property::long("remote.copy.lag.ms", "0", -1).kept(),
    Property::long("remote.copy.lag.bytes", "0", -1).kept(),
];

pub(super) static SCHEMA: Schema =
    Schema { of: "topic", error: ErrorKind::InvalidTopicConfig, tables: &[TABLE], prefixes: &[] };

/// One step of altering a topic's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// Sets a property.
    Set(String, String),
    /// Takes an override back; one that is not there is no error.
    Delete(String),
    /// Adds items to a list property; those that are there stay as they are.
    Append(String, String),
    /// Takes items out of a list property; those that are not there are no error.
    Subtract(String, String),
}

impl ConfigChange {
    fn key(&self) -> &str {
        match self {
            ConfigChange::Set(key, _)
            | ConfigChange::Delete(key)
            | ConfigChange::Append(key, _)
            | ConfigChange::Subtract(key, _) => key,
        }
    }
}

/// What a topic overrides. Everything else comes from the broker's settings.
///
/// # Examples
/// ```
/// use topiclite::{Durability, TopicConfig};
/// let config = TopicConfig::default().retention_ms(3_600_000).durability(Durability::Power);
/// assert_eq!(config.get("flush.messages"), Some("1"));
/// let config = TopicConfig::from_properties([("cleanup.policy", "compact")])?;
/// assert_eq!(config.entries().count(), 1);
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig(Properties);

by_property_name! {
    TopicConfig, InvalidTopicConfig, TopicConfig::check,
    /// The overrides that have no effect here, such as `min.insync.replicas` and, as this version
    /// has no cleaner, those of compaction.
}

impl TopicConfig {
    /// Looks at the changes alone: whatever topic they are for.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] when one key is changed twice;
    /// [`ErrorKind::InvalidTopicConfig`] for a list operation on what is no list.
    pub(crate) fn check_changes(changes: &[ConfigChange]) -> Result<()> {
        for (i, change) in changes.iter().enumerate() {
            let key = change.key();
            if changes.iter().take(i).any(|earlier| earlier.key() == key) {
                let message = format!("\"{key}\" is changed twice in one call; change it once");
                return Err(Error::new(ErrorKind::InvalidRequest, message));
            }
        }
        for change in changes {
            let (ConfigChange::Append(key, _) | ConfigChange::Subtract(key, _)) = change else {
                continue;
            };
            match SCHEMA.find(key) {
                Some(property) if property.kind.is_list() => {}
                Some(_) => {
                    let why = "is not a list; set it instead of adding or taking items";
                    let message = format!("\"{key}\" {why}");
                    return Err(Error::new(ErrorKind::InvalidTopicConfig, message));
                }
                // Setting it says that there is no such key.
                None => TopicConfig::default().set(key, "")?,
            }
        }
        Ok(())
    }

    /// The settings after `changes`, none of which is applied if one is refused.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidTopicConfig`] for a refused value and an unknown key (unless it is only
    /// deleted), and as [`TopicConfig::check_changes`].
    pub(crate) fn changed(
        &self,
        broker: &BrokerConfig,
        changes: &[ConfigChange],
    ) -> Result<TopicConfig> {
        TopicConfig::check_changes(changes)?;
        let mut next = self.clone();
        for change in changes {
            match change {
                ConfigChange::Set(key, value) => next.set(key, value)?,
                ConfigChange::Delete(key) => drop(next.0.unset(key)),
                ConfigChange::Append(key, items) => {
                    let mut list = self.list_of(broker, key);
                    for item in changed_items(items) {
                        if !list.iter().any(|present| present == item) {
                            list.push(item.to_owned());
                        }
                    }
                    next.set(key, &list.join(","))?;
                }
                ConfigChange::Subtract(key, items) => {
                    let mut list = self.list_of(broker, key);
                    list.retain(|present| !changed_items(items).any(|item| item == present));
                    next.set(key, &list.join(","))?;
                }
            }
        }
        next.check()?;
        Ok(next)
    }

    /// The items of a list property as they are in effect.
    fn list_of(&self, broker: &BrokerConfig, key: &str) -> Vec<String> {
        let value = self.describe_one(broker, key).map(|entry| entry.value().to_owned());
        split_list(&value.unwrap_or_default()).map(str::to_owned).collect()
    }

    /// Checks values that typed setters took, and rules between settings.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidTopicConfig`] that names the setting.
    pub(crate) fn check(&self) -> Result<()> {
        self.0.check()?;
        if self.0.whole(MIN_COMPACTION_LAG_MS) > self.0.whole(MAX_COMPACTION_LAG_MS) {
            return Err(Error::new(
                ErrorKind::InvalidTopicConfig,
                format!(
                    "{MIN_COMPACTION_LAG_MS} is {}, above {MAX_COMPACTION_LAG_MS}, which is {}",
                    self.0.whole(MIN_COMPACTION_LAG_MS),
                    self.0.whole(MAX_COMPACTION_LAG_MS)
                ),
            ));
        }
        Ok(())
    }

    /// Refuses what this version would keep without doing it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidTopicConfig`].
    pub(crate) fn check_built(&self, broker: &BrokerConfig) -> Result<()> {
        let compacts = self.0.is_set(CLEANUP_POLICY)
            && self.0.list(CLEANUP_POLICY).any(|policy| policy == "compact");
        let why = match () {
            () if broker.takes_unbuilt() => return Ok(()),
            () if compacts => NO_CLEANER.to_owned(),
            () if self.0.flag(PREALLOCATE) => format!("{PREALLOCATE}: {NO_PREALLOCATION}"),
            () if self.0.flag(UNCLEAN_ELECTION) => format!("{UNCLEAN_ELECTION}: {NO_ELECTION}"),
            () => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidTopicConfig, why))
    }

    /// What the offsets topic is made with.
    pub(crate) fn of_offsets_topic(broker: &BrokerConfig) -> TopicConfig {
        TopicConfig::default()
            .internal(broker.offsets_topic_segment_bytes())
            .put(COMPRESSION_TYPE, "producer")
    }

    /// What the transactions topic is made with.
    pub(crate) fn of_transactions_topic(broker: &BrokerConfig) -> TopicConfig {
        TopicConfig::default()
            .internal(broker.transactions_topic_segment_bytes())
            .put(COMPRESSION_TYPE, "uncompressed")
            .put(MIN_INSYNC_REPLICAS, broker.transactions_topic_min_isr())
    }

    /// What an adopted topic starts with: nothing of it is deleted until its settings are altered.
    pub(crate) fn of_adopted_topic() -> TopicConfig {
        TopicConfig::default().retention_ms(-1).retention_bytes(-1)
    }

    fn internal(self, segment_bytes: i64) -> TopicConfig {
        let config = self.put(CLEANUP_POLICY, "compact");
        match segment_bytes >= i64::from(SEGMENT_BYTES_MIN) {
            true => config.put(SEGMENT_BYTES, segment_bytes),
            false => config.put(INTERNAL_SEGMENT_BYTES, segment_bytes),
        }
    }

    fn put(mut self, key: &'static str, value: impl std::fmt::Display) -> TopicConfig {
        self.0.put(key, value);
        self
    }

    /// `retention.ms`: how long records stay at least, by the largest timestamp of their segment.
    /// -1 is without limit. Default 604800000 (7 days).
    pub fn retention_ms(self, ms: i64) -> TopicConfig {
        self.put(RETENTION_MS, ms)
    }

    /// [`TopicConfig::retention_ms`] as a duration, in whole milliseconds.
    pub fn retention(self, time: Duration) -> TopicConfig {
        self.put(RETENTION_MS, time.as_millis())
    }

    /// `retention.bytes`: how many bytes of a partition stay at least. -1, the default, is
    /// without limit.
    pub fn retention_bytes(self, bytes: i64) -> TopicConfig {
        self.put(RETENTION_BYTES, bytes)
    }

    /// `segment.bytes`: how large a segment file grows. Default 1 GiB. Below 1 MiB this sets
    /// `internal.segment.bytes`, which exists for tests.
    pub fn segment_bytes(mut self, bytes: u32) -> TopicConfig {
        match i32::try_from(bytes).is_ok_and(|bytes| bytes < SEGMENT_BYTES_MIN) {
            true => self.put(INTERNAL_SEGMENT_BYTES, bytes),
            false => {
                self.0.unset(INTERNAL_SEGMENT_BYTES);
                self.put(SEGMENT_BYTES, bytes)
            }
        }
    }

    /// `segment.ms`: the age, by record timestamps, at which a segment is closed. Default 7 days.
    pub fn segment_ms(self, ms: u64) -> TopicConfig {
        self.put(SEGMENT_MS, ms)
    }

    /// [`TopicConfig::segment_ms`] as a duration, in whole milliseconds.
    pub fn segment_time(self, time: Duration) -> TopicConfig {
        self.put(SEGMENT_MS, time.as_millis())
    }

    /// `index.interval.bytes`: bytes of the log between two index entries. Default 4096.
    pub fn index_interval_bytes(self, bytes: u32) -> TopicConfig {
        self.put(INDEX_INTERVAL_BYTES, bytes)
    }

    /// `cleanup.policy`: any of `delete` and `compact`, or none. Default `[delete]`.
    pub fn cleanup_policy(self, policies: &[&str]) -> TopicConfig {
        self.put(CLEANUP_POLICY, policies.join(","))
    }

    /// `max.message.bytes`: the largest batch, with its header. Default 1048588.
    pub fn max_message_bytes(self, bytes: u32) -> TopicConfig {
        self.put(MAX_MESSAGE_BYTES, bytes)
    }

    /// `message.timestamp.type`: whose clock stamps records. Default `CreateTime`.
    pub fn message_timestamp_type(self, timestamp_type: TimestampType) -> TopicConfig {
        let word = match timestamp_type {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        };
        self.put(TIMESTAMP_TYPE, word)
    }

    /// `compression.type`: the codec of stored batches, `None` being `uncompressed`. Without
    /// this, `producer`: batches are stored as the producer sent them.
    pub fn compression_type(self, codec: Codec) -> TopicConfig {
        match codec {
            Codec::None => self.put(COMPRESSION_TYPE, "uncompressed"),
            codec => self.put(COMPRESSION_TYPE, codec.name()),
        }
    }

    /// `flush.messages`: how many records may be unsynced before an append waits for a sync; 1 is
    /// [`Durability::Power`]. Default: without limit.
    pub fn flush_messages(self, count: u64) -> TopicConfig {
        self.put(FLUSH_MESSAGES, count)
    }

    /// `flush.ms`: how long a record may stay unsynced.
    ///
    /// Departure: the default is 1000, Kafka's is without limit. There is no replica to recover
    /// from, so the window of loss is bounded.
    pub fn flush_ms(self, ms: u64) -> TopicConfig {
        self.put(FLUSH_MS, ms)
    }

    /// [`TopicConfig::flush_ms`] as a duration, in whole milliseconds.
    pub fn flush_interval(self, time: Duration) -> TopicConfig {
        self.put(FLUSH_MS, time.as_millis())
    }

    /// What an acknowledged record survives: sets `flush.messages`.
    pub fn durability(self, durability: Durability) -> TopicConfig {
        self.put(FLUSH_MESSAGES, durability.flush_messages())
    }

    /// The typed settings of a log under this topic and `broker`.
    pub(crate) fn log_config(&self, broker: &BrokerConfig) -> LogConfig {
        LogConfig::effective(broker, self)
    }
}

/// The items of a list operation, as Kafka splits them: no text is one empty item, which lists of
/// words refuse, and empty items at the end count for nothing.
fn changed_items(text: &str) -> impl Iterator<Item = &str> {
    let ended = text.trim_end_matches(',');
    let none = ended.is_empty() && !text.is_empty();
    ended.split(',').map(trimmed).filter(move |_| !none)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(config: &[(&str, &str)]) -> Option<ErrorKind> {
        TopicConfig::from_properties(config.iter().copied()).err().map(|error| error.kind())
    }

    #[test]
    fn values_are_refused_where_kafka_refuses_them() {
        for bad in [
            &[("no.such.config", "1")][..],
            &[("retention.ms", "soon")],
            &[("retention.ms", "-2")],
            &[("cleanup.policy", "shred")],
            &[("segment.bytes", "1024")],
            &[("compression.type", "brotli")],
            &[("compression.type", "none")],
            &[("min.cleanable.dirty.ratio", "1.5")],
            &[("min.compaction.lag.ms", "100"), ("max.compaction.lag.ms", "50")],
            &[("max.compaction.lag.ms", "0")],
            &[("message.timestamp.type", "Other")],
            &[("max.message.bytes", "-1")],
            &[("segment.ms", "0")],
            &[("min.insync.replicas", "0")],
            &[("flush.messages", "0")],
            &[("delete.retention.ms", "-1")],
            &[("compression.gzip.level", "0")],
            &[("remote.storage.enable", "true")],
        ] {
            assert_eq!(kind_of(bad), Some(ErrorKind::InvalidTopicConfig), "{bad:?}");
        }
        for good in [
            &[("retention.ms", "-1")][..],
            &[("retention.bytes", "-2")],
            &[("cleanup.policy", "")],
            &[("cleanup.policy", "delete,compact")],
            &[("cleanup.policy", " compact ")],
            &[("segment.bytes", "1048576")],
            &[("internal.segment.bytes", "200")],
            &[("min.insync.replicas", "2")],
            &[("local.retention.ms", "5"), ("retention.ms", "2")],
        ] {
            assert_eq!(kind_of(good), None, "{good:?}");
        }
    }

    #[test]
    fn lists_are_appended_to_and_subtracted_from_and_nothing_else_is() {
        let broker = BrokerConfig::default();
        let append = |c: &TopicConfig, key: &str, v: &str| {
            c.changed(&broker, &[ConfigChange::Append(key.into(), v.into())])
        };
        let subtract = |c: &TopicConfig, v: &str| {
            c.changed(&broker, &[ConfigChange::Subtract("cleanup.policy".into(), v.into())])
        };
        let start = TopicConfig::default();
        let both = append(&start, "cleanup.policy", "compact").unwrap();
        assert_eq!(both.get("cleanup.policy"), Some("delete,compact"));
        assert_eq!(append(&both, "cleanup.policy", "compact").unwrap(), both);
        let compact = subtract(&both, "delete").unwrap();
        assert_eq!(subtract(&compact, "delete").unwrap(), compact);
        assert_eq!(subtract(&compact, "compact").unwrap().get("cleanup.policy"), Some(""));
        for (key, value) in [("retention.ms", "1"), ("cleanup.policy", "shred"), ("no.such", "1")] {
            let error = append(&start, key, value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidTopicConfig, "{key}");
        }
    }

    #[test]
    fn changes_apply_as_a_whole_or_not_at_all() {
        let broker = BrokerConfig::default();
        let config = TopicConfig::default().retention_ms(1000);
        let set = |k: &str, v: &str| ConfigChange::Set(k.into(), v.into());
        let next = config
            .changed(&broker, &[set("flush.ms", "5"), ConfigChange::Delete("retention.ms".into())])
            .unwrap();
        assert_eq!(next.entries().collect::<Vec<_>>(), [("flush.ms", "5")]);
        assert!(config.changed(&broker, &[set("flush.ms", "5"), set("segment.ms", "0")]).is_err());
        let twice = [set("flush.ms", "5"), ConfigChange::Delete("flush.ms".into())];
        let error = config.changed(&broker, &twice).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        config.changed(&broker, &[ConfigChange::Delete("no.such".into())]).unwrap();
    }

    #[test]
    fn typed_setters_write_kafkas_names() {
        let config = TopicConfig::default()
            .segment_bytes(4096)
            .message_timestamp_type(TimestampType::LogAppendTime)
            .compression_type(Codec::None)
            .cleanup_policy(&["compact", "delete"]);
        config.check().unwrap();
        assert_eq!(config.get("internal.segment.bytes"), Some("4096"));
        assert_eq!(config.get("message.timestamp.type"), Some("LogAppendTime"));
        assert_eq!(config.get("compression.type"), Some("uncompressed"));
        assert_eq!(config.get("cleanup.policy"), Some("compact,delete"));
        assert!(TopicConfig::default().retention_ms(-2).check().is_err());
    }
}
