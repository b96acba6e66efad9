//! The records of `__consumer_offsets`: typed, and as Kafka writes their keys and values.
//!
//! A key begins with its type (16 bits), a value with its version. Offsets are written as value
//! version 4 with the topic's id in a tagged field, groups as version 3; all versions that Kafka
//! has are read. Records of the newer protocol (types 3 to 8 and 16) are kept as bytes. Decoding
//! never panics and allocates no more than the input is long.

#[cfg(any(test, fuzzing))]
pub(in crate::group) mod arbitrary;
pub(crate) mod protocol;

use crate::coordinator::EncodedRecords;
use crate::coordinator::wire::{Put, Reader, Wire, WireFault, shared};
use crate::topic::TopicId;
use std::sync::Arc;

const OFFSET_KEY: i16 = 1;
const OFFSET_VALUE: i16 = 4;
const GROUP_KEY: i16 = 2;
const GROUP_VALUE: i16 = 3;
const TOPIC_ID_TAG: u32 = 0;

/// One record of `__consumer_offsets`. A value of `None` is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRecord {
    /// A committed offset (key types 0 and 1).
    Offset { group: Arc<str>, topic: Arc<str>, partition: i32, value: Option<OffsetValue> },
    /// A classic group in one generation (key type 2).
    Group { group: Arc<str>, value: Option<GroupValue> },
    /// A part of a group of the newer protocol, its value as bytes.
    Modern { key: ModernKey, value: Option<Arc<[u8]>> },
    /// A key type that is not known here; it is skipped.
    Unknown(i16),
}

/// The key of a record of the newer group protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModernKey {
    /// Type 3 (group), 4 (partition metadata), 5 (member), 6 (target assignment), 7 (target
    /// assignment of a member), 8 (current assignment of a member), 16 (regular expression).
    pub kind: i16,
    pub group: Arc<str>,
    /// The member id, or the expression; absent in types 3, 4 and 6.
    pub part: Option<Arc<str>>,
}

/// The value of a committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetValue {
    pub offset: i64,
    /// -1 is none.
    pub leader_epoch: i32,
    pub metadata: Arc<str>,
    pub commit_timestamp: i64,
    /// Only version 1 has one.
    pub expire_timestamp: Option<i64>,
    /// Only version 4 has one.
    pub topic_id: Option<TopicId>,
}

/// The value of a classic group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupValue {
    /// Empty for a group that nobody has joined yet.
    pub protocol_type: Arc<str>,
    pub generation_id: i32,
    pub protocol: Option<Arc<str>>,
    pub leader_id: Option<Arc<str>>,
    /// Milliseconds since 1970, -1 where the version has none.
    pub state_timestamp: i64,
    pub members: Vec<MemberValue>,
}

/// One member of a classic group. The timeouts are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberValue {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Arc<[u8]>,
    pub assignment: Arc<[u8]>,
}

impl GroupRecord {
    /// Reads a record from its key and value; `None` when the bytes are not what the key's type
    /// or the value's version says.
    pub fn read(key: &[u8], value: Option<&[u8]>) -> Option<GroupRecord> {
        GroupRecord::decode(key, value).ok()
    }

    /// Reads a record from its key and value.
    ///
    /// # Errors
    /// [`WireFault`] when the bytes are not what the key's type or the value's version says.
    pub(crate) fn decode(key: &[u8], value: Option<&[u8]>) -> Wire<GroupRecord> {
        let mut reader = Reader::new(key);
        match reader.int16()? {
            0 | OFFSET_KEY => Ok(GroupRecord::Offset {
                group: shared(reader.string()?),
                topic: shared(reader.string()?),
                partition: reader.int32()?,
                value: value.map(OffsetValue::decode).transpose()?,
            }),
            GROUP_KEY => Ok(GroupRecord::Group {
                group: shared(reader.string()?),
                value: value.map(GroupValue::decode).transpose()?,
            }),
            3..=8 | 16 => Ok(GroupRecord::Modern {
                key: ModernKey::decode(key)?,
                value: value.map(Arc::from),
            }),
            kind => Ok(GroupRecord::Unknown(kind)),
        }
    }

    /// The group it belongs to; `None` for an unknown type.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn group(&self) -> Option<&Arc<str>> {
        match self {
            GroupRecord::Offset { group, .. } | GroupRecord::Group { group, .. } => Some(group),
            GroupRecord::Modern { key, .. } => Some(&key.group),
            GroupRecord::Unknown(_) => None,
        }
    }

    /// Adds its bytes to `into`.
    pub(crate) fn encode(&self, into: &mut EncodedRecords) {
        into.push(|key| self.encode_key(key), |value| self.encode_value(value));
    }

    /// Appends the key's bytes.
    pub(crate) fn encode_key(&self, out: &mut Vec<u8>) {
        match self {
            GroupRecord::Offset { group, topic, partition, .. } => {
                out.put_int16(OFFSET_KEY);
                out.put_string(group);
                out.put_string(topic);
                out.put_int32(*partition);
            }
            GroupRecord::Group { group, .. } => {
                out.put_int16(GROUP_KEY);
                out.put_string(group);
            }
            GroupRecord::Modern { key, .. } => {
                out.put_int16(key.kind);
                out.put_string(&key.group);
                if let Some(part) = &key.part {
                    out.put_string(part);
                }
            }
            GroupRecord::Unknown(kind) => out.put_int16(*kind),
        }
    }

    /// Appends the value's bytes; false for a tombstone, which has none.
    pub(crate) fn encode_value(&self, out: &mut Vec<u8>) -> bool {
        match self {
            GroupRecord::Offset { value: Some(value), .. } => value.encode(out),
            GroupRecord::Group { value: Some(value), .. } => value.encode(out),
            GroupRecord::Modern { value: Some(value), .. } => out.extend_from_slice(value),
            _ => return false,
        }
        true
    }
}

impl ModernKey {
    /// Reads a key of one of its kinds, or of those of share groups and streams groups (10 to 15,
    /// 17 to 23), which are laid out alike; `None` for others.
    pub fn read(key: &[u8]) -> Option<ModernKey> {
        ModernKey::decode(key).ok()
    }

    fn decode(key: &[u8]) -> Wire<ModernKey> {
        let mut reader = Reader::new(key);
        let kind = reader.int16()?;
        let has_part = match kind {
            3 | 4 | 6 | 11 | 12 | 15 | 17 | 20 | 23 => false,
            5 | 7 | 8 | 10 | 13 | 14 | 16 | 19 | 21 | 22 => true,
            kind => return Err(WireFault::UnknownVersion(kind)),
        };
        let group = shared(reader.string()?);
        let part = has_part.then(|| reader.string().map(shared)).transpose()?;
        Ok(ModernKey { kind, group, part })
    }
}

impl OffsetValue {
    fn decode(bytes: &[u8]) -> Wire<OffsetValue> {
        let mut reader = Reader::new(bytes);
        let version = reader.int16()?;
        if !(0..=4).contains(&version) {
            return Err(WireFault::UnknownVersion(version));
        }
        let offset = reader.int64()?;
        let leader_epoch = if version >= 3 { reader.int32()? } else { -1 };
        let metadata = if version >= 4 { reader.compact_string()? } else { reader.string()? };
        let commit_timestamp = reader.int64()?;
        let mut expire_timestamp = None;
        if version == 1 {
            expire_timestamp = Some(reader.int64()?).filter(|&at| at != -1);
        }
        let mut topic_id = None;
        if version >= 4 {
            reader.tagged(|tag, bytes| {
                if tag == TOPIC_ID_TAG {
                    topic_id = Some(TopicId(Reader::new(bytes).uuid()?));
                }
                Ok(())
            })?;
        }
        Ok(OffsetValue {
            offset,
            leader_epoch,
            metadata: shared(metadata),
            commit_timestamp,
            expire_timestamp,
            topic_id: topic_id.filter(|id| *id != TopicId::ZERO),
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_int16(OFFSET_VALUE);
        out.put_int64(self.offset);
        out.put_int32(self.leader_epoch);
        out.put_compact_string(&self.metadata);
        out.put_int64(self.commit_timestamp);
        match &self.topic_id {
            Some(id) => {
                out.put_uvarint(1);
                out.put_uvarint(TOPIC_ID_TAG);
                out.put_uvarint(16);
                out.extend_from_slice(&id.0);
            }
            None => out.put_uvarint(0),
        }
    }
}

impl GroupValue {
    fn decode(bytes: &[u8]) -> Wire<GroupValue> {
        let mut reader = Reader::new(bytes);
        let version = reader.int16()?;
        match version {
            0..=3 => GroupValue::decode_plain(&mut reader, version),
            4 => GroupValue::decode_flexible(&mut reader),
            _ => Err(WireFault::UnknownVersion(version)),
        }
    }

    fn decode_plain(reader: &mut Reader<'_>, version: i16) -> Wire<GroupValue> {
        let mut value = GroupValue {
            protocol_type: shared(reader.string()?),
            generation_id: reader.int32()?,
            protocol: reader.nullable_string()?.map(shared),
            leader_id: reader.nullable_string()?.map(shared),
            state_timestamp: if version >= 2 { reader.int64()? } else { -1 },
            members: Vec::new(),
        };
        let count = reader.count(18)?;
        value.members.reserve_exact(count);
        for _ in 0..count {
            let member_id = shared(reader.string()?);
            let group_instance_id =
                if version >= 3 { reader.nullable_string()?.map(shared) } else { None };
            let client_id = shared(reader.string()?);
            let client_host = shared(reader.string()?);
            let rebalance_timeout_ms = if version >= 1 { Some(reader.int32()?) } else { None };
            let session_timeout_ms = reader.int32()?;
            value.members.push(MemberValue {
                member_id,
                group_instance_id,
                client_id,
                client_host,
                rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
                session_timeout_ms,
                subscription: reader.nullable_bytes()?.unwrap_or_default().into(),
                assignment: reader.nullable_bytes()?.unwrap_or_default().into(),
            });
        }
        Ok(value)
    }

    fn decode_flexible(reader: &mut Reader<'_>) -> Wire<GroupValue> {
        let mut value = GroupValue {
            protocol_type: shared(reader.compact_string()?),
            generation_id: reader.int32()?,
            protocol: reader.nullable_compact_string()?.map(shared),
            leader_id: reader.nullable_compact_string()?.map(shared),
            state_timestamp: reader.int64()?,
            members: Vec::new(),
        };
        let count = reader.compact_count(15)?;
        value.members.reserve_exact(count);
        for _ in 0..count {
            value.members.push(MemberValue {
                member_id: shared(reader.compact_string()?),
                group_instance_id: reader.nullable_compact_string()?.map(shared),
                client_id: shared(reader.compact_string()?),
                client_host: shared(reader.compact_string()?),
                rebalance_timeout_ms: reader.int32()?,
                session_timeout_ms: reader.int32()?,
                subscription: reader.nullable_compact_bytes()?.unwrap_or_default().into(),
                assignment: reader.nullable_compact_bytes()?.unwrap_or_default().into(),
            });
            reader.skip_tagged()?;
        }
        reader.skip_tagged()?;
        Ok(value)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_int16(GROUP_VALUE);
        out.put_string(&self.protocol_type);
        out.put_int32(self.generation_id);
        out.put_nullable_string(self.protocol.as_deref());
        out.put_nullable_string(self.leader_id.as_deref());
        out.put_int64(self.state_timestamp);
        out.put_count(self.members.len());
        for member in &self.members {
            out.put_string(&member.member_id);
            out.put_nullable_string(member.group_instance_id.as_deref());
            out.put_string(&member.client_id);
            out.put_string(&member.client_host);
            out.put_int32(member.rebalance_timeout_ms);
            out.put_int32(member.session_timeout_ms);
            out.put_bytes(&member.subscription);
            out.put_bytes(&member.assignment);
        }
    }
}

#[cfg(test)]
mod tests;
