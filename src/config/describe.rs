//! The settings of a topic as an administrator sees them: each with its value and its source.

use super::property::{Kind, Property};
use super::topic::{MIN_INSYNC_REPLICAS, SCHEMA};
use super::{BrokerConfig, TopicConfig};
use std::fmt;

/// Where the value of a topic's setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigSource {
    /// The topic overrides it.
    DynamicTopic,
    /// A default of the whole cluster that was set at run time.
    DynamicDefaultBroker,
    /// The properties that the broker was opened with.
    StaticBroker,
    /// Nobody set it.
    Default,
}

impl ConfigSource {
    /// The protocol's word, such as `DYNAMIC_TOPIC_CONFIG`.
    pub fn kafka_name(self) -> &'static str {
        match self {
            ConfigSource::DynamicTopic => "DYNAMIC_TOPIC_CONFIG",
            ConfigSource::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            ConfigSource::StaticBroker => "STATIC_BROKER_CONFIG",
            ConfigSource::Default => "DEFAULT_CONFIG",
        }
    }
}

impl fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kafka_name())
    }
}

/// One setting of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    name: &'static str,
    value: String,
    source: ConfigSource,
}

impl ConfigEntry {
    /// The property's name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// The value in effect.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Where the value comes from.
    pub fn source(&self) -> ConfigSource {
        self.source
    }
}

/// The value that the broker's own properties give a topic property.
fn from_broker(broker: &BrokerConfig, property: &Property) -> Option<String> {
    property.of_broker.iter().find_map(|of_broker| {
        let text = broker.get(of_broker.property.name)?;
        match (property.kind, text.parse::<i64>()) {
            (Kind::Whole { .. }, Ok(n)) if n > 0 => {
                Some(n.saturating_mul(of_broker.factor).to_string())
            }
            _ => Some(text.to_owned()),
        }
    })
}

impl TopicConfig {
    /// One setting in effect under `broker`; None for a name that no topic has.
    pub(crate) fn describe_one(&self, broker: &BrokerConfig, name: &str) -> Option<ConfigEntry> {
        SCHEMA.find(name).and_then(|property| self.entry(broker, property))
    }

    /// Every setting in effect under `broker`, in order of name.
    pub(crate) fn describe(&self, broker: &BrokerConfig) -> Vec<ConfigEntry> {
        let mut entries: Vec<_> = SCHEMA.all().filter_map(|p| self.entry(broker, p)).collect();
        entries.sort_by_key(|entry| entry.name);
        entries
    }

    fn entry(&self, broker: &BrokerConfig, property: &Property) -> Option<ConfigEntry> {
        let name = property.name;
        let (value, source) = match (self.get(name), from_broker(broker, property)) {
            (Some(value), _) => {
                // Lists are kept as they were set.
                let shown = property.kind.normalise(value).unwrap_or_else(|_| value.to_owned());
                (shown, ConfigSource::DynamicTopic)
            }
            // A Kafka 4 cluster sets this one for the whole cluster when it is formatted.
            (None, set) if name == MIN_INSYNC_REPLICAS => {
                let value = set.unwrap_or_else(|| "1".to_owned());
                (value, ConfigSource::DynamicDefaultBroker)
            }
            (None, Some(value)) => (value, ConfigSource::StaticBroker),
            (None, None) => (property.default?.to_owned(), ConfigSource::Default),
        };
        Some(ConfigEntry { name, value, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_tells_its_source() {
        let broker = BrokerConfig::from_properties([("log.segment.delete.delay.ms", "1000")]);
        let broker = broker.unwrap();
        let topic = TopicConfig::default().retention_ms(1000);
        let seen = |name: &str| {
            topic.describe_one(&broker, name).map(|e| (e.value().to_owned(), e.source()))
        };
        let pair = |value: &str, source| Some((value.to_owned(), source));
        assert_eq!(seen("retention.ms"), pair("1000", ConfigSource::DynamicTopic));
        assert_eq!(seen("cleanup.policy"), pair("delete", ConfigSource::Default));
        assert_eq!(seen("file.delete.delay.ms"), pair("1000", ConfigSource::StaticBroker));
        assert_eq!(seen("min.insync.replicas"), pair("1", ConfigSource::DynamicDefaultBroker));
        assert_eq!(seen("no.such"), None);
        let names: Vec<_> = topic.describe(&broker).iter().map(|e| e.name).collect();
        assert!(names.is_sorted() && names.contains(&"segment.bytes"));
        assert!(!names.contains(&"internal.segment.bytes"), "shown only where it is set");
    }

    #[test]
    fn every_synonym_is_a_property_of_the_broker() {
        for property in SCHEMA.all() {
            for name in property.of_broker.iter().map(|of_broker| of_broker.property.name) {
                assert!(BrokerConfig::knows(name), "{name}");
            }
        }
    }
}
