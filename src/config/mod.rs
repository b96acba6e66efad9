//! Settings under Kafka's property names, with Kafka's defaults and refusals, and typed setters.
//!
//! [`BrokerConfig`], [`TopicConfig`], [`ProducerConfig`] and [`ConsumerConfig`] each hold what a
//! user set, checked against a table (`property.rs`). A setting is its row in the file of its kind
//! (`settings.rs` tells what stands in one). An unknown key is an error that names the
//! nearest one. Keys that only a network, a replica or another virtual machine needs are checked,
//! kept and listed by `ignored()`. Defaults are those of Kafka 4; where one differs, the setter
//! says `Departure:` and why. Nothing here reads a clock or a file.
//!
//! Departure: D87. Kafka's clients and brokers warn of an unknown key, and go on.
//!
//! In code, prefer the typed setters, and for times those that take a
//! [`Duration`](std::time::Duration): `linger(Duration::from_millis(5))`. `linger_ms(5)`, by the
//! name that Kafka gives it, with its unit, and `with` or `set`, by that name as text, set the same
//! property: they are for numbers and texts that come from a file. The last call counts.

mod broker;
mod broker_kept;
mod by_name;
mod changes;
mod client;
mod consumer;
mod describe;
#[cfg(test)]
mod documented;
mod librdkafka;
mod log;
mod producer;
mod property;
mod settings;
mod topic;
mod values;

pub use broker::BrokerConfig;
pub use changes::ConfigChange;
pub use consumer::ConsumerConfig;
pub(crate) use consumer::ConsumerSettings;
pub use describe::{ConfigEntry, ConfigSource};
pub(crate) use log::Compression;
pub use producer::ProducerConfig;
pub(crate) use producer::ProducerSettings;
pub(crate) use property::trimmed;
pub(crate) use topic::LogConfig;
pub use topic::TopicConfig;
pub use values::{Acks, Durability, IsolationLevel, OffsetReset};

pub use crate::record::{Codec, TimestampType};
