//! Apache Kafka's topics, producers and consumer groups as a library: inside the host process,
//! durable on local disk, in Kafka's own file format, with no network.
//!
//! ```
//! use std::time::Duration;
//! use topiclite::{Broker, ConsumerConfig, OffsetReset};
//! use topiclite::{ProducerConfig, ProducerRecord, TopicConfig};
//!
//! # fn main() -> topiclite::Result<()> {
//! let broker = Broker::in_memory()?; // or Broker::open("data")?
//! broker.admin().create_topic("orders", 3, TopicConfig::default())?;
//!
//! let producer = broker.producer(ProducerConfig::default())?;
//! producer.send_sync(ProducerRecord::new("orders").key("alice").value("one tea"))?;
//!
//! let config = ConsumerConfig::new("billing").auto_offset_reset(OffsetReset::Earliest);
//! let mut consumer = broker.consumer(config)?;
//! consumer.subscribe(&["orders"])?;
//! for record in &consumer.poll(Duration::from_secs(1))? {
//!     assert_eq!(record.value(), Some(&b"one tea"[..]));
//! }
//! consumer.commit_sync()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where to begin
//! - [`Broker`]: a data directory that this process owns ([`Broker::open`]), one that it reads
//!   beside its owner ([`Broker::attach`]), or none at all ([`Broker::in_memory`]).
//! - [`Producer`], [`Consumer`], [`Admin`]: Kafka's methods in snake case, Kafka's property names
//!   and defaults ([`ProducerConfig`], [`ConsumerConfig`], [`TopicConfig`], [`BrokerConfig`]).
//!   [`Reader`] reads a partition without any group, and [`Table`] keeps of each key the latest
//!   value.
//! - [`ErrorKind`]: Kafka's names, each retriable, fatal or neither.
//! - [`time`]: the system's clock, or a virtual one under which every timeout can be tested
//!   without waiting.
//!
//! # What an `Ok` survives
//! A record that was sent survives the kill of the process always. It survives a power cut after
//! [`Broker::flush`], with its own send on a topic with `flush.messages=1`
//! ([`Durability::Power`]), or else after the flush that runs every second; what a cut leaves is a
//! prefix of what was sent, never a log with holes. Changes of topics survive both at once.
//!
//! # Threads
//! Every call completes on the thread that makes it. [`Broker`], [`Producer`] and [`Admin`] are
//! shared freely; a [`Consumer`] belongs to one thread at a time, as in Kafka, and the compiler
//! sees to it. A few threads of the broker flush, roll and delete; under a virtual clock there are
//! none.
//!
//! # Features
//! The default features pull in no C source and no network. `gzip`, `snappy`, `lz4`, `zstd` (or
//! `codecs`) add Kafka's codecs, `json` the values of a [`Table`] read through serde, `cli` the
//! command line, `testing` what tests need, `full` all.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admin;
mod broker;
mod config;
mod consumer;
mod coordinator;
mod error;
mod events;
mod group;
mod log;
mod meter;
mod probe;
pub mod process;
mod producer;
pub mod record;
#[doc(hidden)]
pub mod storage;
mod sync;
mod table;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod topic;
mod transaction;
pub use admin::{
    AbortedRange, Admin, CleaningStatus, Compaction, GroupDescription, GroupListing, GroupOffset,
    HangingTransaction, ListedOffset, MemberDescription, OffsetSpec, PartitionResults,
    PartitionSize, ProducerState, ProtectedOffset, TopicDescription, TopicListing,
    TransactionDescription,
};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use broker::fuzzing as broker_fuzzing;
pub use broker::{
    AdoptionProgress, AdoptionReport, Broker, BrokerOptions, Health, HeldRetention, NewTopic,
};
pub use config::{
    Acks, BrokerConfig, ConfigChange, ConfigEntry, ConfigSource, ConsumerConfig, Durability,
    IsolationLevel, OffsetReset, ProducerConfig, TopicConfig,
};
pub use consumer::{
    Consumer, ConsumerContext, ConsumerRecord, ConsumerRecords, GroupMetadata, ListenerError,
    OffsetAndMetadata, OffsetAndTimestamp, OwnedConsumerRecord, ReadFrom, Reader,
    RebalanceListener, RecordsIter, SharedRecord, WakeupHandle,
};
pub use error::{Error, ErrorKind, Result};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use group::replay_arbitrary;
#[doc(hidden)]
pub use group::{
    CurrentValue, GroupRecord, GroupValue, MemberValue, ModernKey, ModernMemberValue, ModernValue,
    OffsetValue, TopicShare,
};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use log::fuzzing as log_fuzzing;
pub use log::{Finding, FindingKind, PlannedRepair};
pub use producer::{IntoPayload, Payload, Producer, ProducerRecord, RecordMetadata, SendFuture};
pub use record::{Codec, OwnedHeader, OwnedRecord, TimestampType};
#[cfg(feature = "json")]
pub use table::Json;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use table::fuzzing as table_fuzzing;
pub use table::{
    ChangeCause, Serde, SerdeError, Table, TableChange, TableEntry, TableIter, TableOptions,
    TableOrigin, TableRecord, TableView, Text, TypedChange, TypedIter, TypedView,
};
pub use topic::TopicPartition;
pub use transaction::TransactionState;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use transaction::replay_arbitrary_transactions;
#[doc(hidden)]
pub use transaction::{TransactionRecord, TransactionValue};

/// The programs in the documents, compiled and run.
#[cfg(all(doctest, feature = "testing"))]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/cookbook.md")]
    struct Cookbook;
    #[doc = include_str!("../docs/from-rdkafka.md")]
    struct FromRdkafka;
}
