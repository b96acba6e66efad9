//! What the four kinds of settings have in common.

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// The methods of a type that wraps [`Properties`](super::property::Properties) of the table
/// `SCHEMA` in its module: by Kafka's names, as text. The third argument looks at what
/// `from_properties` read as a whole.
macro_rules! by_property_name {
    ($config:ident, $kind:ident, $together:path, $(#[$ignored:meta])+) => {
        impl Default for $config {
            /// Kafka's defaults, but for the departures that the setters name.
            fn default() -> Self {
                $config(Properties::new(&SCHEMA))
            }
        }

        impl $config {
            /// Takes properties by Kafka's names.
            ///
            /// # Errors
            #[doc = concat!(
                "[`ErrorKind::", stringify!($kind), "`] for an unknown key or a refused value."
            )]
            pub fn from_properties<K, V>(from: impl IntoIterator<Item = (K, V)>) -> Result<$config>
            where
                K: AsRef<str>,
                V: AsRef<str>,
            {
                let mut config = $config::default();
                config.0.set_all(from)?;
                $together(&config)?;
                Ok(config)
            }

            /// Sets one property by Kafka's name.
            ///
            /// # Errors
            #[doc = concat!(
                "[`ErrorKind::", stringify!($kind), "`] for an unknown key or a refused value."
            )]
            pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
                self.0.set(key, value)
            }

            /// The same, as a step of a chain.
            ///
            /// # Errors
            /// As `set`.
            pub fn with(mut self, key: &str, value: impl std::fmt::Display) -> Result<$config> {
                self.0.set(key, &value.to_string())?;
                Ok(self)
            }

            /// What was set for `key`.
            pub fn get(&self, key: &str) -> Option<&str> {
                self.0.is_set(key).then(|| self.0.text(key)).flatten()
            }

            /// What was set, in order of name.
            pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
                self.0.entries()
            }

            $(#[$ignored])+
            pub fn ignored(&self) -> impl Iterator<Item = &str> {
                self.0.ignored()
            }
        }

        /// A map of what was set, by Kafka's names, all values as text.
        impl serde::Serialize for $config {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_map(self.entries())
            }
        }

        /// A map by Kafka's names; values may be text, whole numbers, decimals or booleans.
        impl<'de> serde::Deserialize<'de> for $config {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                crate::config::by_name::read(from, $config::from_properties)
            }
        }
    };
}

/// Reads a map of properties and makes settings of them.
pub(super) fn read<'de, D, T>(
    from: D,
    settings: impl FnOnce(BTreeMap<String, String>) -> crate::Result<T>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    let map = BTreeMap::<String, Scalar>::deserialize(from)?;
    settings(map.into_iter().map(|(key, Scalar(value))| (key, value)).collect())
        .map_err(D::Error::custom)
}

/// A value as the text that a properties file would have for it.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Scalar, D::Error> {
        from.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number or a boolean")
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar(value.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }
}

/// For settings whose conflicts are found where they are used.
pub(super) fn each_alone<T>(_: &T) -> crate::Result<()> {
    Ok(())
}

pub(super) use by_property_name;

#[cfg(test)]
mod tests {
    use crate::{BrokerConfig, ConsumerConfig, ProducerConfig, TopicConfig};
    use std::time::Duration;

    #[test]
    fn settings_are_maps_for_serde() {
        let text = r#"{"retention.ms": -1, "preallocate": false, "cleanup.policy": "compact",
            "min.cleanable.dirty.ratio": 0.25}"#;
        let config: TopicConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.get("retention.ms"), Some("-1"));
        assert_eq!(config.get("min.cleanable.dirty.ratio"), Some("0.25"));
        let written = serde_json::to_string(&config).unwrap();
        assert!(written.contains(r#""preallocate":"false""#), "{written}");
        assert_eq!(serde_json::from_str::<TopicConfig>(&written).unwrap(), config);
    }

    #[test]
    fn names_of_librdkafka_are_answered_by_who_has_them() {
        let (mut broker, mut topic) = (BrokerConfig::default(), TopicConfig::default());
        let (mut producer, mut consumer) = (ProducerConfig::default(), ConsumerConfig::default());
        let key = "message.timeout.ms";
        let own = producer.set(key, "1").unwrap_err();
        assert!(own.message().ends_with("librdkafka: set delivery.timeout.ms"), "{own}");
        for (of, other) in [
            ("broker", broker.set(key, "1")),
            ("topic", topic.set(key, "1")),
            ("consumer", consumer.set(key, "1")),
        ] {
            let told = other.unwrap_err();
            let why = format!("none of a {of}; at the producer: set delivery.timeout.ms");
            assert!(told.message().ends_with(&why), "{told}");
        }
        let told = producer.set("enable.partition.eof", "true").unwrap_err();
        assert!(told.message().contains("librdkafka's consumer, and none of a producer"), "{told}");
        let told = broker.set("debug", "all").unwrap_err();
        assert!(told.message().contains("librdkafka: leave it out"), "{told}");
    }

    #[test]
    fn a_duration_sets_what_its_milliseconds_set() {
        let time = Duration::from_millis(7_500);
        let topic = TopicConfig::default();
        let set = topic.clone().retention(time).segment_time(time).flush_interval(time);
        assert_eq!(set, topic.retention_ms(7_500).segment_ms(7_500).flush_ms(7_500));
        let broker = BrokerConfig::default();
        assert_eq!(
            broker
                .clone()
                .group_initial_rebalance_delay(time)
                .log_flush_interval(time)
                .log_retention_check_interval(time),
            broker
                .group_initial_rebalance_delay_ms(7_500)
                .log_flush_interval_ms(7_500)
                .log_retention_check_interval_ms(7_500)
        );
        let producer = ProducerConfig::default();
        assert_eq!(
            producer
                .clone()
                .linger(time)
                .max_block(time)
                .delivery_timeout(time)
                .request_timeout(time),
            producer
                .linger_ms(7_500)
                .max_block_ms(7_500)
                .delivery_timeout_ms(7_500)
                .request_timeout_ms(7_500)
        );
        let consumer = ConsumerConfig::default();
        assert_eq!(
            consumer
                .clone()
                .auto_commit_interval(time)
                .max_poll_interval(time)
                .session_timeout(time)
                .heartbeat_interval(time)
                .fetch_max_wait(time)
                .default_api_timeout(time),
            consumer
                .auto_commit_interval_ms(7_500)
                .max_poll_interval_ms(7_500)
                .session_timeout_ms(7_500)
                .heartbeat_interval_ms(7_500)
                .fetch_max_wait_ms(7_500)
                .default_api_timeout_ms(7_500)
        );
    }

    #[test]
    fn what_properties_refuse_serde_refuses() {
        let refused = serde_json::from_str::<ConsumerConfig>(r#"{"group.idd": "g"}"#).unwrap_err();
        assert!(refused.to_string().contains("group.id"), "{refused}");
        for text in [r#"{"num.partitions": [3]}"#, r#"{"num.partitions": null}"#, "3"] {
            assert!(serde_json::from_str::<BrokerConfig>(text).is_err(), "{text}");
        }
    }
}
