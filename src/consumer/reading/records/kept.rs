//! Records that outlive the poll that returned them: with bytes of their own, or shared ones.

use crate::record::{Header, Headers, TimestampType};
use crate::topic::TopicPartition;
use bytes::Bytes;
use std::fmt;

/// Where a record stands, and when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: TopicPartition,
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) timestamp_type: TimestampType,
}

/// A record with its place, that owns its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedConsumerRecord {
    pub(super) place: Place,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    /// As they are stored, and how many there are.
    pub(super) headers: (Vec<u8>, u32),
}

/// A record whose key, value and headers are shared with the segment they lie in.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedRecord {
    pub(super) place: Place,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: (Bytes, u32),
}

/// What every kept record tells.
macro_rules! kept_record {
    ($($record:ident)*) => {$(
        impl $record {
            /// The topic.
            pub fn topic(&self) -> &str {
                self.place.partition.topic()
            }

            /// The partition's number.
            pub fn partition(&self) -> i32 {
                self.place.partition.partition()
            }

            /// The topic and the partition.
            pub fn topic_partition(&self) -> &TopicPartition {
                &self.place.partition
            }

            /// The offset in the partition.
            pub fn offset(&self) -> i64 {
                self.place.offset
            }

            /// Milliseconds since 1970, -1 if there is none.
            pub fn timestamp(&self) -> i64 {
                self.place.timestamp
            }

            /// Who gave the timestamp.
            pub fn timestamp_type(&self) -> TimestampType {
                self.place.timestamp_type
            }

            /// The headers, in order, repeated names included.
            pub fn headers(&self) -> Headers<'_> {
                Headers::from_raw(&self.headers.0, self.headers.1)
            }

            /// The last header of this name.
            pub fn header(&self, name: &str) -> Option<Header<'_>> {
                self.headers().last(name)
            }
        }

        /// Shows sizes: payloads may be large, or secret.
        impl fmt::Debug for $record {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($record))
                    .field("partition", &self.place.partition)
                    .field("offset", &self.place.offset)
                    .field("timestamp", &self.place.timestamp)
                    .field("key_size", &self.key.as_ref().map(|key| key.len()))
                    .field("value_size", &self.value.as_ref().map(|value| value.len()))
                    .field("headers", &self.headers.1)
                    .finish()
            }
        }
    )*};
}

kept_record! { OwnedConsumerRecord SharedRecord }

impl OwnedConsumerRecord {
    /// The key.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The value. `None` is a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// Key and value.
    pub fn into_parts(self) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        (self.key, self.value)
    }
}

impl SharedRecord {
    /// The key.
    pub fn key(&self) -> Option<&Bytes> {
        self.key.as_ref()
    }

    /// The value. `None` is a tombstone.
    pub fn value(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }
}
