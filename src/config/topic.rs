//! Settings of one topic: what a user overrides, on top of the broker's settings.

use super::by_name::by_property_name;
use super::log::{self, Compression, Effective};
use super::property::{
    Kind, OfBroker, Properties, Property, Role, Schema, int_from, long_from, split_list,
};
use super::settings::settings;
use super::{BrokerConfig, Codec, ConfigChange, Durability, TimestampType};
use crate::error::{Error, ErrorKind, Result};
use crate::topic::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC};

/// The smallest `segment.bytes` that a user may set (Kafka 4). Tests that want smaller segments
/// set `internal.segment.bytes`.
const SEGMENT_BYTES_MIN: i32 = 1 << 20;
/// `segment.bytes` that Kafka makes its internal topics with.
const KAFKA_INTERNAL_SEGMENT_BYTES: &str = "104857600";

const NO_PREALLOCATION: &str = "segments are always made ahead of the writer here; leave it false";
const NO_ELECTION: &str = "there is one replica and no election; leave it false";
const TIERED: &str = "there is no tiered storage; leave it false";

/// The word of a codec that is chosen for stored batches.
fn stored_word_of(codec: Codec) -> &'static str {
    match codec {
        Codec::None => "uncompressed",
        codec => codec.name(),
    }
}

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
const POLICIES: Kind = Kind::List(&["compact", "delete"]);
/// Kafka's `ThrottledReplicaListValidator`.
const REPLICAS: Kind = Kind::ListOf(are_replicas, "it is *, or a list of PARTITION:BROKER");
const TOPIC_CODECS: Kind =
    Kind::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);

fn are_replicas(list: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_pair = |item: &str| {
        let pair = item.split_once(':');
        item.is_empty() || pair.is_some_and(|(a, b)| is_number(a) && is_number(b))
    };
    split_list(list).all(is_pair) || split_list(list).collect::<String>() == "*"
}

const HOURS: i64 = 3_600_000;
const MINUTES: i64 = 60_000;

settings! {
    TopicConfig {
        /// What one partition's log needs to know: a topic's overrides over the broker's settings.
        /// `Default` is a topic without overrides under a broker without settings.
        #[derive(Debug, Clone, PartialEq)]
        struct LogConfig from Effective<'_>
    }

    SEGMENT_BYTES "segment.bytes": int(SEGMENT_BYTES_MIN), "1073741824" {
        /// A segment is closed before it would exceed this.
        get segment_bytes: u64 = log::segment_bytes;
        broker "log.segment.bytes";
    }
    INTERNAL_SEGMENT_BYTES "internal.segment.bytes": int(1), null;

    /// the age, by record timestamps, at which a segment is closed. 7 days by default.
    "segment.ms": long(1), "604800000" {
        set segment_ms(ms: u64), segment_time;
        get segment_ms: i64;
        broker "log.roll.ms": long, null;
        broker "log.roll.hours" in HOURS: int(1), "168";
    }
    "segment.jitter.ms": long(0), "0" {
        get segment_jitter_ms: i64;
        broker "log.roll.jitter.ms": long, null;
        broker "log.roll.jitter.hours" in HOURS: int(0), "0";
    }
    "segment.index.bytes": int(4), "10485760" {
        get segment_index_bytes: u64;
        broker "log.index.size.max.bytes";
    }

    /// bytes of the log between two index entries.
    "index.interval.bytes": int(0), "4096" {
        set index_interval_bytes(bytes: u32);
        get index_interval_bytes: u64;
        broker "log.index.interval.bytes";
    }

    /// how long records stay at least, by the largest timestamp of their segment. -1 is without
    /// limit. 7 days by default.
    "retention.ms": long(-1), "604800000" {
        set retention_ms(ms: i64), retention;
        /// -1: without limit.
        get retention_ms: i64;
        broker "log.retention.ms": long, null;
        broker "log.retention.minutes" in MINUTES: int, null;
        broker "log.retention.hours" in HOURS: int, "168";
    }

    /// how many bytes of a partition stay at least. -1 is without limit.
    "retention.bytes": long, "-1" {
        set retention_bytes(bytes: i64);
        /// Negative: without limit.
        get retention_bytes: i64;
        broker "log.retention.bytes";
    }

    /// groups whose reading retention waits for: age and size remove nothing that one of them has
    /// not committed yet, in a partition without a commit nothing at all. Names with a comma, or
    /// with blanks at an end, cannot be listed.
    ///
    /// Their committed offsets in this topic do not expire. `delete_records`, compaction and the
    /// deletion of the topic ask nobody.
    ///
    /// Departure: D111. Kafka has no such property: retention there removes what nobody has read.
    "retention.protected.groups": list, "" {
        set retention_protected_groups(groups: &[&str]) = groups.join(",");
        get protected_groups: Vec<String> = log::protected_groups;
        broker "log.retention.protected.groups";
    }

    /// what becomes of old records: `delete` (by age and size), `compact` (of each key the latest
    /// record stays), both, or none.
    CLEANUP_POLICY "cleanup.policy": of(POLICIES), "delete" {
        set cleanup_policy(policies: &[&str]) = policies.join(",");
        get cleanup_delete: bool = log::deletes;
        get cleanup_compact: bool = log::compacts;
        broker "log.cleanup.policy";
    }

    /// how many records may be unsynced before an append waits for a sync; 1 is
    /// [`Durability::Power`]. The default is without limit.
    FLUSH_MESSAGES "flush.messages": long(1), "9223372036854775807" {
        set flush_messages(count: u64);
        /// 1: an append is answered after a sync. `i64::MAX`: never by count.
        get flush_messages: i64;
        broker "log.flush.interval.messages";
    }

    /// how long a record may stay unsynced.
    ///
    /// Departure: D5. The default is 1000, Kafka's is without limit. There is no replica to recover
    /// from, so the window of loss is bounded.
    "flush.ms": long(0), "1000" {
        set flush_ms(ms: u64), flush_interval;
        /// `i64::MAX`: never by time.
        get flush_ms: i64;
        broker "log.flush.interval.ms": long, null {
            /// how long a record may stay unsynced.
            ///
            /// Departure: D5. 1000, Kafka's default is without limit. There is no replica to
            /// recover from.
            set log_flush_interval_ms(ms: u64), log_flush_interval;
        }
        broker "log.flush.scheduler.interval.ms": long, null;
    }

    /// the largest batch, with its header.
    "max.message.bytes": int(0), "1048588" {
        set max_message_bytes(bytes: u32);
        /// The largest batch with its header.
        get max_message_bytes: usize;
        broker "message.max.bytes";
    }

    /// whose clock stamps records.
    "message.timestamp.type": one_of("CreateTime", "LogAppendTime"), "CreateTime" {
        set message_timestamp_type(timestamp_type: TimestampType);
        get timestamp_type: TimestampType;
        broker "log.message.timestamp.type";
    }
    "message.timestamp.before.max.ms": long(0), "9223372036854775807" {
        get timestamp_before_max_ms: i64;
        broker "log.message.timestamp.before.max.ms";
    }
    "message.timestamp.after.max.ms": long(0), "3600000" {
        get timestamp_after_max_ms: i64;
        broker "log.message.timestamp.after.max.ms";
    }

    /// the codec of stored batches, `None` being `uncompressed`. Without this, `producer`: batches
    /// are stored as the producer sent them.
    COMPRESSION_TYPE "compression.type": of(TOPIC_CODECS), "producer" {
        set compression_type(codec: Codec) = stored_word_of(codec);
        get compression: Compression = log::compression;
        broker "compression.type";
    }
    GZIP_LEVEL "compression.gzip.level": rule(gzip_level), "-1" { broker "compression.gzip.level"; }
    LZ4_LEVEL "compression.lz4.level": of(LZ4_LEVELS), "9" { broker "compression.lz4.level"; }
    ZSTD_LEVEL "compression.zstd.level": of(ZSTD_LEVELS), "3" { broker "compression.zstd.level"; }

    PREALLOCATE "preallocate": bool, "false", kept {
        broker "log.preallocate": bool, null, refused(NO_PREALLOCATION);
    }
    // Departure: D112. Files are removed at once, and readers that have them mapped keep them;
    // Kafka keeps them for so long, for readers that have not opened them yet.
    "file.delete.delay.ms": long(0), "60000", kept { broker "log.segment.delete.delay.ms"; }

    /// how long a record is not compacted at least, by the timestamps of its segment.
    MIN_COMPACTION_LAG_MS "min.compaction.lag.ms": long(0), "0" {
        set min_compaction_lag_ms(ms: u64), min_compaction_lag;
        get min_compaction_lag_ms: i64;
        broker "log.cleaner.min.compaction.lag.ms";
    }
    /// how long a record may stay uncompacted, whatever the dirty ratio.
    MAX_COMPACTION_LAG_MS "max.compaction.lag.ms": long(1), "9223372036854775807" {
        set max_compaction_lag_ms(ms: u64), max_compaction_lag;
        get max_compaction_lag_ms: i64;
        broker "log.cleaner.max.compaction.lag.ms";
    }
    /// how long a tombstone stays, from the first cleaning that meets it. 1 day by default.
    "delete.retention.ms": long(0), "86400000" {
        set delete_retention_ms(ms: u64), delete_retention;
        get delete_retention_ms: i64;
        broker "log.cleaner.delete.retention.ms";
    }
    /// the share of bytes that were never cleaned above which a log is cleaned, 0 to 1.
    "min.cleanable.dirty.ratio": ratio, "0.5" {
        set min_cleanable_dirty_ratio(ratio: f64) = format!("{ratio:?}");
        get min_cleanable_dirty_ratio: f64;
        broker "log.cleaner.min.cleanable.ratio";
    }

    // What replicas and remote tiers would need.
    MIN_INSYNC_REPLICAS "min.insync.replicas": int(1), "1", kept {
        broker "min.insync.replicas": int(1), null, kept;
    }
    UNCLEAN_ELECTION "unclean.leader.election.enable": bool, "false", kept {
        broker "unclean.leader.election.enable": bool, null, refused(NO_ELECTION);
    }
    "leader.replication.throttled.replicas": of(REPLICAS), "", kept;
    "follower.replication.throttled.replicas": of(REPLICAS), "", kept;
    "remote.storage.enable": bool, "false", refused(TIERED);
    "remote.log.copy.disable": bool, "false", kept;
    "remote.log.delete.on.disable": bool, "false", kept;
    "local.retention.ms": long(-2), "-2", kept {
        broker "log.local.retention.ms": long(-2), null, kept;
    }
    "local.retention.bytes": long(-2), "-2", kept {
        broker "log.local.retention.bytes": long(-2), null, kept;
    }
}

pub(super) static SCHEMA: Schema = Schema {
    of: "topic",
    error: ErrorKind::InvalidTopicConfig,
    tables: &[TABLE],
    overridden: &[],
    prefixes: &[],
    keeps_lists: true,
};

/// What a topic overrides. Everything else comes from the broker's settings.
///
/// # Examples
/// ```
/// use topiclite::{Durability, TopicConfig};
/// let config = TopicConfig::default().retention_ms(3_600_000).durability(Durability::Power);
/// assert_eq!(config.get("flush.messages"), Some("1"));
/// let config = TopicConfig::from_properties([("cleanup.policy", "delete")])?;
/// assert_eq!(config.entries().count(), 1);
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig(pub(super) Properties);

by_property_name! {
    TopicConfig, InvalidTopicConfig, TopicConfig::check,
    /// The overrides that have no effect here, such as `min.insync.replicas`.
}

impl TopicConfig {
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

    /// Refuses what this version would keep without doing it. What `stored` has already, a topic
    /// that another version made, does not stand in the way of other changes.
    ///
    /// Departure: D52. Kafka takes it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidTopicConfig`].
    pub(crate) fn check_built(&self, stored: &TopicConfig) -> Result<()> {
        let sets = |key| self.0.flag(key) && !stored.0.flag(key);
        let why = match () {
            () if sets(PREALLOCATE) => format!("{PREALLOCATE}: {NO_PREALLOCATION}"),
            () if sets(UNCLEAN_ELECTION) => format!("{UNCLEAN_ELECTION}: {NO_ELECTION}"),
            () => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidTopicConfig, why))
    }

    /// What the offsets topic is made with.
    pub(crate) fn of_offsets_topic(broker: &BrokerConfig) -> TopicConfig {
        TopicConfig::default()
            .internal(broker.offsets_segment_bytes())
            .put(COMPRESSION_TYPE, "producer")
    }

    /// What the transactions topic is made with.
    pub(crate) fn of_transactions_topic(broker: &BrokerConfig) -> TopicConfig {
        TopicConfig::default()
            .internal(broker.transactions_segment_bytes())
            .put(COMPRESSION_TYPE, "uncompressed")
            .put(MIN_INSYNC_REPLICAS, broker.transactions_topic_min_isr())
    }

    /// What an adopted topic starts with: nothing of it is deleted until its settings are altered.
    pub(crate) fn of_adopted_topic() -> TopicConfig {
        TopicConfig::default().retention_ms(-1).retention_bytes(-1)
    }

    /// The settings of a topic of this name as they were stored. An internal one that was made
    /// with Kafka's size of a segment, which nobody chooses, goes by the broker's.
    pub(crate) fn stored(self, topic: &str, broker: &BrokerConfig) -> TopicConfig {
        let segment_bytes = match topic {
            OFFSETS_TOPIC => broker.offsets_segment_bytes(),
            TRANSACTIONS_TOPIC => broker.transactions_segment_bytes(),
            _ => return self,
        };
        match self.get(SEGMENT_BYTES) == Some(KAFKA_INTERNAL_SEGMENT_BYTES) {
            true => self.internal(segment_bytes),
            false => self,
        }
    }

    /// After changes to an internal topic: a size of its segments that was set takes the place of
    /// the one that it was made with.
    pub(crate) fn with_chosen_segments(mut self, changes: &[ConfigChange]) -> TopicConfig {
        let chosen =
            |change: &ConfigChange| matches!(change, ConfigChange::Set(k, _) if k == SEGMENT_BYTES);
        if changes.iter().any(chosen) {
            self.0.unset(INTERNAL_SEGMENT_BYTES);
        }
        self
    }

    fn internal(mut self, segment_bytes: i64) -> TopicConfig {
        self.0.unset(SEGMENT_BYTES);
        let config = self.put(CLEANUP_POLICY, "compact");
        match segment_bytes >= i64::from(SEGMENT_BYTES_MIN) {
            true => config.put(SEGMENT_BYTES, segment_bytes),
            false => config.put(INTERNAL_SEGMENT_BYTES, segment_bytes),
        }
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

    /// What an acknowledged record survives: sets `flush.messages`.
    pub fn durability(self, durability: Durability) -> TopicConfig {
        self.put(FLUSH_MESSAGES, durability.flush_messages())
    }

    /// The typed settings of a log under this topic and `broker`.
    pub(crate) fn log_config(&self, broker: &BrokerConfig) -> LogConfig {
        LogConfig::effective(broker, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(config: &[(&str, &str)]) -> Option<ErrorKind> {
        TopicConfig::from_properties(config.iter().copied()).err().map(|error| error.kind())
    }

    #[test]
    fn internal_topics_roll_by_the_broker_unless_someone_chose_a_size() {
        let broker = BrokerConfig::default();
        let size = |config: &TopicConfig| config.log_config(&broker).segment_bytes;
        assert_eq!(size(&TopicConfig::of_offsets_topic(&broker)), 256 << 10);
        assert_eq!(size(&TopicConfig::of_transactions_topic(&broker)), 256 << 10);
        let kafkas = BrokerConfig::default().offsets_topic_segment_bytes(104_857_600);
        let made = TopicConfig::of_offsets_topic(&kafkas);
        assert_eq!(made.get("segment.bytes"), Some("104857600"));
        assert_eq!(size(&made.clone().stored(OFFSETS_TOPIC, &broker)), 256 << 10);
        assert_eq!(made.clone().stored(OFFSETS_TOPIC, &kafkas), made);
        assert_eq!(made.clone().stored("mine", &broker), made);
        let chosen = [ConfigChange::Set("segment.bytes".into(), "2097152".into())];
        let small = TopicConfig::of_offsets_topic(&broker);
        let altered = small.changed(&broker, &chosen).unwrap().with_chosen_segments(&chosen);
        assert_eq!(size(&altered.stored(OFFSETS_TOPIC, &broker)), 2 << 20);
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
            &[("remote.copy.lag.ms", "0")],
            &[("leader.replication.throttled.replicas", "*,0:1")],
            &[("min.cleanable.dirty.ratio", "nan")],
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
            &[("leader.replication.throttled.replicas", " * ,")],
            &[("min.cleanable.dirty.ratio", "NaN")],
        ] {
            assert_eq!(kind_of(good), None, "{good:?}");
        }
        let twice = TopicConfig::from_properties([("cleanup.policy", "delete, delete")]).unwrap();
        assert_eq!(twice.get("cleanup.policy"), Some("delete, delete"), "as it was set");
        let shown = twice.describe_one(&BrokerConfig::default(), "cleanup.policy").unwrap();
        assert_eq!(shown.value(), "delete");
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
