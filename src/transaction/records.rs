//! The records of `__transaction_state`: typed, and as Kafka writes their keys and values.
//!
//! ```text
//! key      := type i16 (0) | transactional id string
//! value    := version i16 (1) | producer id i64 | producer epoch i16 | timeout in ms i32
//!             | state i8 | partitions compact array, null where the state is Empty
//!             | last update in ms i64 | start in ms i64, -1 where none | tagged fields
//! topic    := name compact string | partitions compact array of i32 | tagged fields
//! tagged   := 0 previous producer id i64 | 1 next producer id i64 | 2 version of the client i16
//!             | 3 next producer epoch i16
//! ```
//! A string has a length of 16 bits, a compact one a varint of its length plus 1. Version 0 has
//! plain arrays and strings and no tagged fields; it is read and not written. Decoding never
//! panics and allocates no more than the input is long.

use super::state::TransactionState;
use crate::coordinator::EncodedRecords;
use crate::coordinator::wire::{Put, Reader, Wire, WireFault, shared};
use crate::topic::TopicPartition;
use std::sync::Arc;

const TRANSACTION_KEY: i16 = 0;
const VALUE_VERSION: i16 = 1;
const PREVIOUS_PRODUCER_ID: u32 = 0;
const NEXT_PRODUCER_ID: u32 = 1;
const CLIENT_VERSION: u32 = 2;
const NEXT_PRODUCER_EPOCH: u32 = 3;
/// No id, no epoch, no time.
const NONE: i64 = -1;

/// One record of `__transaction_state`. A value of `None` is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionRecord {
    /// The state of a transactional id (key type 0).
    State {
        /// Whose state it is.
        transactional_id: Arc<str>,
        /// The state.
        value: Option<TransactionValue>,
    },
    /// A key type that is not known here; it is skipped.
    Unknown(i16),
}

/// What is stored of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionValue {
    /// The id that its batches carry.
    pub producer_id: i64,
    /// The producer id before the last change; -1 where none is told.
    pub previous_producer_id: i64,
    /// The producer id of the next transaction, where the epochs of this one are used up; else -1.
    pub next_producer_id: i64,
    /// Which of all producers that had the id it is.
    pub producer_epoch: i16,
    /// Only a transaction that was prepared by its client has one; else -1.
    pub next_producer_epoch: i16,
    /// How long a transaction may take, in milliseconds.
    pub timeout_ms: i32,
    /// Where it stands.
    pub state: TransactionState,
    /// The partitions with records of the transaction, by topic, in the order of the record.
    pub partitions: Vec<(Arc<str>, Vec<i32>)>,
    /// Milliseconds since 1970.
    pub last_update_ms: i64,
    /// Milliseconds since 1970; -1 before the first transaction.
    pub start_ms: i64,
    /// The version of the protocol that the client ends its transactions by: 2 has the epoch raised
    /// at each end.
    pub client_version: i16,
}

impl TransactionRecord {
    /// Reads a record from its key and value; `None` when the bytes are not what the key's type
    /// or the value's version says.
    pub fn read(key: &[u8], value: Option<&[u8]>) -> Option<TransactionRecord> {
        TransactionRecord::decode(key, value).ok()
    }

    /// Reads a record from its key and value.
    ///
    /// # Errors
    /// [`WireFault`] when the bytes are not what the key's type or the value's version says.
    pub(crate) fn decode(key: &[u8], value: Option<&[u8]>) -> Wire<TransactionRecord> {
        let mut reader = Reader::new(key);
        match reader.int16()? {
            TRANSACTION_KEY => Ok(TransactionRecord::State {
                transactional_id: shared(reader.string()?),
                value: value.map(TransactionValue::decode).transpose()?,
            }),
            kind => Ok(TransactionRecord::Unknown(kind)),
        }
    }

    /// Adds its bytes to `into`.
    pub(crate) fn encode(&self, into: &mut EncodedRecords) {
        into.push(|key| self.encode_key(key), |value| self.encode_value(value));
    }

    /// Appends the key's bytes.
    pub(crate) fn encode_key(&self, out: &mut Vec<u8>) {
        match self {
            TransactionRecord::State { transactional_id, .. } => {
                out.put_int16(TRANSACTION_KEY);
                out.put_string(transactional_id);
            }
            TransactionRecord::Unknown(kind) => out.put_int16(*kind),
        }
    }

    /// Appends the value's bytes; false for a tombstone, which has none.
    pub(crate) fn encode_value(&self, out: &mut Vec<u8>) -> bool {
        match self {
            TransactionRecord::State { value: Some(value), .. } => value.encode(out),
            _ => return false,
        }
        true
    }
}

impl TransactionValue {
    /// The partitions with records of the transaction. Sorted.
    pub(crate) fn partitions(&self) -> Vec<TopicPartition> {
        let all = self.partitions.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(|&partition| TopicPartition::new(topic.clone(), partition))
        });
        let mut all: Vec<TopicPartition> = all.collect();
        all.sort();
        all
    }

    fn decode(bytes: &[u8]) -> Wire<TransactionValue> {
        let mut reader = Reader::new(bytes);
        let version = reader.int16()?;
        if !(0..=VALUE_VERSION).contains(&version) {
            return Err(WireFault::UnknownVersion(version));
        }
        let flexible = version >= 1;
        let producer_id = reader.int64()?;
        let producer_epoch = reader.int16()?;
        let timeout_ms = reader.int32()?;
        let state = reader.int8()?;
        let state = TransactionState::from_id(state).ok_or(WireFault::UnknownState(state))?;
        let partitions = match flexible {
            true => partitions_flexible(&mut reader)?,
            false => partitions_plain(&mut reader)?,
        };
        let mut value = TransactionValue {
            producer_id,
            previous_producer_id: NONE,
            next_producer_id: NONE,
            producer_epoch,
            next_producer_epoch: -1,
            timeout_ms,
            state,
            partitions,
            last_update_ms: reader.int64()?,
            start_ms: reader.int64()?,
            client_version: 0,
        };
        if flexible {
            reader.tagged(|tag, bytes| value.take_tagged(tag, &mut Reader::new(bytes)))?;
        }
        Ok(value)
    }

    fn take_tagged(&mut self, tag: u32, field: &mut Reader<'_>) -> Wire<()> {
        match tag {
            PREVIOUS_PRODUCER_ID => self.previous_producer_id = field.int64()?,
            NEXT_PRODUCER_ID => self.next_producer_id = field.int64()?,
            CLIENT_VERSION => self.client_version = field.int16()?,
            NEXT_PRODUCER_EPOCH => self.next_producer_epoch = field.int16()?,
            _ => {}
        }
        Ok(())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_int16(VALUE_VERSION);
        out.put_int64(self.producer_id);
        out.put_int16(self.producer_epoch);
        out.put_int32(self.timeout_ms);
        out.push(self.state.id().cast_unsigned());
        if self.state == TransactionState::Empty {
            out.put_uvarint(0);
        } else {
            self.encode_partitions(out);
        }
        out.put_int64(self.last_update_ms);
        out.put_int64(self.start_ms);
        self.encode_tagged(out);
    }

    fn encode_partitions(&self, out: &mut Vec<u8>) {
        out.put_compact_count(self.partitions.len());
        for (topic, partitions) in &self.partitions {
            out.put_compact_string(topic);
            out.put_compact_count(partitions.len());
            partitions.iter().for_each(|&partition| out.put_int32(partition));
            out.put_uvarint(0);
        }
    }

    /// Fields that have their default are left out.
    fn encode_tagged(&self, out: &mut Vec<u8>) {
        let ids = [
            (PREVIOUS_PRODUCER_ID, self.previous_producer_id),
            (NEXT_PRODUCER_ID, self.next_producer_id),
        ];
        let ids = ids.into_iter().filter(|(_, id)| *id != NONE);
        let numbers = [
            (CLIENT_VERSION, self.client_version, 0),
            (NEXT_PRODUCER_EPOCH, self.next_producer_epoch, -1),
        ];
        let numbers = numbers.into_iter().filter(|(_, number, default)| number != default);
        out.put_uvarint((ids.clone().count() + numbers.clone().count()) as u32);
        for (tag, id) in ids {
            out.put_uvarint(tag);
            out.put_uvarint(8);
            out.put_int64(id);
        }
        for (tag, number, _) in numbers {
            out.put_uvarint(tag);
            out.put_uvarint(2);
            out.put_int16(number);
        }
    }
}

fn partitions_flexible(reader: &mut Reader<'_>) -> Wire<Vec<(Arc<str>, Vec<i32>)>> {
    let mut topics = Vec::new();
    for _ in 0..reader.compact_count(3)? {
        let topic = shared(reader.compact_string()?);
        let count = reader.compact_count(4)?;
        let partitions = (0..count).map(|_| reader.int32()).collect::<Wire<Vec<i32>>>()?;
        reader.skip_tagged()?;
        topics.push((topic, partitions));
    }
    Ok(topics)
}

fn partitions_plain(reader: &mut Reader<'_>) -> Wire<Vec<(Arc<str>, Vec<i32>)>> {
    let mut topics = Vec::new();
    for _ in 0..reader.count(6)? {
        let topic = shared(reader.string()?);
        let count = reader.count(4)?;
        let partitions = (0..count).map(|_| reader.int32()).collect::<Wire<Vec<i32>>>()?;
        topics.push((topic, partitions));
    }
    Ok(topics)
}
