//! Topiclite
#[allow(dead_code)] // Used as the calls behind it are added.
mod admin;
#[allow(dead_code, unused_imports)] // Used as the handles above it are added.
mod broker;
#[allow(dead_code)] // Used as the modules above it are added.
mod config;
mod consumer;
mod error;
mod group;
mod log;
mod producer;
pub mod record;
#[doc(hidden)]
pub mod storage;
#[allow(missing_docs, dead_code, unused_imports)]
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod topic;
pub use admin::{
    AbortedRange, Admin, GroupDescription, GroupListing, GroupOffset, ListedOffset,
    MemberDescription, OffsetSpec, PartitionResults, TopicDescription, TopicListing,
};
pub use broker::{AdoptionProgress, AdoptionReport, Broker, BrokerOptions, Health, NewTopic};
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
pub use group::{GroupRecord, GroupValue, MemberValue, ModernKey, OffsetValue};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use log::fuzzing as log_fuzzing;
pub use log::{Finding, FindingKind, PlannedRepair};
pub use producer::{
    DeliveryError, Producer, ProducerRecord, RecordMetadata, SendError, SendFuture,
};
pub use record::{Codec, OwnedHeader, OwnedRecord, TimestampType};
pub use topic::TopicPartition;
