//! The typed settings that one log works with, after the topic's overrides and the broker's.

use super::topic as key;
use super::{BrokerConfig, Codec, TimestampType, TopicConfig};

/// The codec of stored batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// As the producer sent them.
    Producer,
    /// With this codec and level (`None`: the codec's own), re-encoding what came otherwise.
    Stored(Codec, Option<i32>),
}

/// What one partition's log needs to know. `Default` is a topic without overrides under a broker
/// without settings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogConfig {
    /// A segment is closed before it would exceed this.
    pub segment_bytes: u64,
    pub segment_ms: i64,
    pub segment_jitter_ms: i64,
    pub segment_index_bytes: u64,
    pub index_interval_bytes: u64,
    /// -1: without limit.
    pub retention_ms: i64,
    /// Negative: without limit.
    pub retention_bytes: i64,
    pub cleanup_delete: bool,
    pub cleanup_compact: bool,
    /// 1: an append is answered after a sync. `i64::MAX`: never by count.
    pub flush_messages: i64,
    /// `i64::MAX`: never by time.
    pub flush_ms: i64,
    /// The largest batch with its header.
    pub max_message_bytes: usize,
    pub timestamp_type: TimestampType,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub compression: Compression,
    pub file_delete_delay_ms: i64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub delete_retention_ms: i64,
    pub min_cleanable_dirty_ratio: f64,
}

impl LogConfig {
    /// The settings of a topic with `topic`'s overrides under `broker`. Both were checked before.
    pub fn effective(broker: &BrokerConfig, topic: &TopicConfig) -> LogConfig {
        let text = |name: &str| {
            topic.describe_one(broker, name).map(|e| e.value().to_owned()).unwrap_or_default()
        };
        // The text was checked when it was set, so that a number parses.
        let whole = |name: &str| text(name).parse::<i64>().unwrap_or_default();
        let size = |name: &str| u64::try_from(whole(name)).unwrap_or(0);
        let policies = text(key::CLEANUP_POLICY);
        let has = |policy: &str| policies.split(',').any(|item| item == policy);
        let internal = topic.get(key::INTERNAL_SEGMENT_BYTES).and_then(|text| text.parse().ok());
        LogConfig {
            segment_bytes: internal.unwrap_or_else(|| size(key::SEGMENT_BYTES)),
            segment_ms: whole(key::SEGMENT_MS),
            segment_jitter_ms: whole(key::SEGMENT_JITTER_MS),
            segment_index_bytes: size(key::SEGMENT_INDEX_BYTES),
            index_interval_bytes: size(key::INDEX_INTERVAL_BYTES),
            retention_ms: whole(key::RETENTION_MS),
            retention_bytes: whole(key::RETENTION_BYTES),
            cleanup_delete: has("delete"),
            cleanup_compact: has("compact"),
            flush_messages: whole(key::FLUSH_MESSAGES),
            flush_ms: whole(key::FLUSH_MS),
            max_message_bytes: usize::try_from(whole(key::MAX_MESSAGE_BYTES)).unwrap_or(0),
            timestamp_type: match text(key::TIMESTAMP_TYPE).as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: whole(key::TIMESTAMP_BEFORE_MAX_MS),
            timestamp_after_max_ms: whole(key::TIMESTAMP_AFTER_MAX_MS),
            compression: compression(&text(key::COMPRESSION_TYPE), whole),
            file_delete_delay_ms: whole(key::FILE_DELETE_DELAY_MS),
            min_compaction_lag_ms: whole(key::MIN_COMPACTION_LAG_MS),
            max_compaction_lag_ms: whole(key::MAX_COMPACTION_LAG_MS),
            delete_retention_ms: whole(key::DELETE_RETENTION_MS),
            min_cleanable_dirty_ratio: text(key::MIN_CLEANABLE_DIRTY_RATIO).parse().unwrap_or(0.5),
        }
    }
}

fn compression(word: &str, whole: impl Fn(&str) -> i64) -> Compression {
    match word {
        "producer" => Compression::Producer,
        "uncompressed" => Compression::Stored(Codec::None, None),
        word => {
            let codec = Codec::from_name(word).unwrap_or(Codec::None);
            Compression::Stored(codec, codec_level(codec, whole))
        }
    }
}

/// The level that the settings give a codec; None where they leave it to the codec.
pub(super) fn codec_level(codec: Codec, whole: impl Fn(&str) -> i64) -> Option<i32> {
    let name = match codec {
        Codec::Gzip => key::GZIP_LEVEL,
        Codec::Lz4 => key::LZ4_LEVEL,
        Codec::Zstd => key::ZSTD_LEVEL,
        Codec::None | Codec::Snappy => return None,
    };
    let level = i32::try_from(whole(name)).ok()?;
    (codec != Codec::Gzip || level != -1).then_some(level)
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig::effective(&BrokerConfig::default(), &TopicConfig::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_kafkas_but_for_the_flush_interval() {
        let config = LogConfig::default();
        assert_eq!(
            config,
            LogConfig {
                segment_bytes: 1 << 30,
                segment_ms: 604_800_000,
                segment_jitter_ms: 0,
                segment_index_bytes: 10 << 20,
                index_interval_bytes: 4096,
                retention_ms: 604_800_000,
                retention_bytes: -1,
                cleanup_delete: true,
                cleanup_compact: false,
                flush_messages: i64::MAX,
                flush_ms: 1000,
                max_message_bytes: 1_048_588,
                timestamp_type: TimestampType::CreateTime,
                timestamp_before_max_ms: i64::MAX,
                timestamp_after_max_ms: 3_600_000,
                compression: Compression::Producer,
                file_delete_delay_ms: 60_000,
                min_compaction_lag_ms: 0,
                max_compaction_lag_ms: i64::MAX,
                delete_retention_ms: 86_400_000,
                min_cleanable_dirty_ratio: 0.5,
            }
        );
    }

    #[test]
    fn a_topic_wins_over_the_broker_and_the_first_synonym_over_the_next() {
        let broker = BrokerConfig::from_properties([
            ("log.retention.hours", "1"),
            ("log.retention.minutes", "2"),
            ("log.segment.bytes", "2097152"),
            ("message.max.bytes", "500"),
            ("log.cleanup.policy", "compact,delete"),
            ("log.flush.interval.messages", "1"),
            ("compression.type", "gzip"),
        ])
        .unwrap();
        let topic = TopicConfig::from_properties([
            ("max.message.bytes", "200"),
            ("internal.segment.bytes", "1000"),
            ("compression.gzip.level", "9"),
        ])
        .unwrap();
        let config = LogConfig::effective(&broker, &TopicConfig::default());
        assert_eq!(config.retention_ms, 120_000);
        assert_eq!((config.segment_bytes, config.max_message_bytes), (2 << 20, 500));
        assert!(config.cleanup_compact && config.cleanup_delete);
        assert_eq!(config.flush_messages, 1);
        assert_eq!(config.compression, Compression::Stored(Codec::Gzip, None));
        let config = LogConfig::effective(&broker, &topic);
        assert_eq!((config.segment_bytes, config.max_message_bytes), (1000, 200));
        assert_eq!(config.compression, Compression::Stored(Codec::Gzip, Some(9)));
    }
}
