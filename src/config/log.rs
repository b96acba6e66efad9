//! The typed settings that one log works with, after the topic's overrides and the broker's.

use super::property::split_list;
use super::settings::FromText;
use super::topic as key;
use super::{BrokerConfig, Codec, LogConfig, TopicConfig};

/// The codec of stored batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// As the producer sent them.
    Producer,
    /// With this codec and level (`None`: the codec's own), re-encoding what came otherwise.
    Stored(Codec, Option<i32>),
}

/// A topic's overrides over the broker's settings, both checked before.
pub(super) struct Effective<'a> {
    broker: &'a BrokerConfig,
    topic: &'a TopicConfig,
}

impl Effective<'_> {
    fn text(&self, name: &str) -> String {
        let entry = self.topic.describe_one(self.broker, name);
        entry.map(|entry| entry.value().to_owned()).unwrap_or_default()
    }

    pub fn value<T: FromText>(&self, name: &str) -> T {
        T::from_text(&self.text(name)).unwrap_or(T::NONE)
    }
}

impl LogConfig {
    /// The settings of a topic with `topic`'s overrides under `broker`. Both were checked before.
    pub fn effective(broker: &BrokerConfig, topic: &TopicConfig) -> LogConfig {
        LogConfig::read(&Effective { broker, topic })
    }
}

pub(super) fn segment_bytes(from: &Effective<'_>) -> u64 {
    let internal = from.topic.get(key::INTERNAL_SEGMENT_BYTES).and_then(|text| text.parse().ok());
    internal.unwrap_or_else(|| from.value(key::SEGMENT_BYTES))
}

pub(super) fn deletes(from: &Effective<'_>) -> bool {
    has_policy(from, "delete")
}

pub(super) fn compacts(from: &Effective<'_>) -> bool {
    has_policy(from, "compact")
}

fn has_policy(from: &Effective<'_>, policy: &str) -> bool {
    from.text(key::CLEANUP_POLICY).split(',').any(|item| item == policy)
}

pub(super) fn protected_groups(from: &Effective<'_>) -> Vec<String> {
    let text = from.text("retention.protected.groups");
    split_list(&text).filter(|group| !group.is_empty()).map(str::to_owned).collect()
}

pub(super) fn compression(from: &Effective<'_>) -> Compression {
    match from.text(key::COMPRESSION_TYPE).as_str() {
        "producer" => Compression::Producer,
        "uncompressed" => Compression::Stored(Codec::None, None),
        word => {
            let codec = Codec::from_name(word).unwrap_or(Codec::None);
            Compression::Stored(codec, codec_level(codec, |name| from.value(name)))
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
    use super::super::TimestampType;
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
                protected_groups: Vec::new(),
                cleanup_delete: true,
                cleanup_compact: false,
                flush_messages: i64::MAX,
                flush_ms: 1000,
                max_message_bytes: 1_048_588,
                timestamp_type: TimestampType::CreateTime,
                timestamp_before_max_ms: i64::MAX,
                timestamp_after_max_ms: 3_600_000,
                compression: Compression::Producer,
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
