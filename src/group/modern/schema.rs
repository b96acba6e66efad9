//! The values of records of the newer group protocol (KIP-848), as Kafka's coordinator writes
//! them: version 0 of each. Reading never panics and allocates no more than the input is long.

use crate::coordinator::wire::{Reader, Wire, WireFault, shared};
use crate::topic::TopicId;
use std::sync::Arc;

pub(in crate::group) const GROUP: i16 = 3;
pub(in crate::group) const MEMBER: i16 = 5;
pub(in crate::group) const TARGET: i16 = 6;
pub(in crate::group) const TARGET_OF_MEMBER: i16 = 7;
pub(in crate::group) const CURRENT: i16 = 8;

/// What a value says, by the kind of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModernValue {
    /// Kind 3. The hash is of the topics that the group reads; 0 is none.
    Group { epoch: i32, metadata_hash: i64 },
    /// Kind 5.
    Member(ModernMemberValue),
    /// Kind 6. The timestamp is in milliseconds since 1970; 0 is none.
    Target { epoch: i32, timestamp: i64 },
    /// Kind 7.
    TargetOfMember(Vec<TopicShare>),
    /// Kind 8.
    Current(CurrentValue),
}

/// A member as it introduced itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModernMemberValue {
    pub group_instance_id: Option<Arc<str>>,
    pub rack_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub topics: Vec<Arc<str>>,
    /// The expression that it subscribes by.
    pub pattern: Option<Arc<str>>,
    pub rebalance_timeout_ms: i32,
    pub assignor: Option<Arc<str>>,
    /// What a member that speaks the classic protocol brought along, undecoded.
    pub classic: Option<Arc<[u8]>>,
}

/// What a member owns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CurrentValue {
    pub epoch: i32,
    pub previous_epoch: i32,
    /// 0 is stable.
    pub state: i8,
    pub assigned: Vec<TopicShare>,
    /// What it has yet to give up.
    pub revoking: Vec<TopicShare>,
}

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicShare {
    pub topic: TopicId,
    pub partitions: Vec<i32>,
    /// The epoch at which each was assigned, where it is stored.
    pub epochs: Option<Vec<i32>>,
}

impl ModernValue {
    /// Reads a value from the kind of its key; `None` for another kind, and for bytes that are
    /// not what the kind says.
    pub fn read(kind: i16, value: &[u8]) -> Option<ModernValue> {
        ModernValue::decode(kind, value).ok().flatten()
    }

    fn decode(kind: i16, value: &[u8]) -> Wire<Option<ModernValue>> {
        if !matches!(kind, GROUP | MEMBER | TARGET | TARGET_OF_MEMBER | CURRENT) {
            return Ok(None);
        }
        let mut reader = Reader::new(value);
        match reader.int16()? {
            0 => {}
            version => return Err(WireFault::UnknownVersion(version)),
        }
        Ok(Some(match kind {
            GROUP => {
                let epoch = reader.int32()?;
                ModernValue::Group { epoch, metadata_hash: tagged_int64(&mut reader)? }
            }
            TARGET => {
                let epoch = reader.int32()?;
                ModernValue::Target { epoch, timestamp: tagged_int64(&mut reader)? }
            }
            MEMBER => ModernValue::Member(ModernMemberValue::decode(&mut reader)?),
            CURRENT => ModernValue::Current(CurrentValue::decode(&mut reader)?),
            _ => ModernValue::TargetOfMember(shares(&mut reader)?),
        }))
    }
}

impl ModernMemberValue {
    fn decode(reader: &mut Reader<'_>) -> Wire<ModernMemberValue> {
        let group_instance_id = reader.nullable_compact_string()?.map(shared);
        let rack_id = reader.nullable_compact_string()?.map(shared);
        let client_id = shared(reader.compact_string()?);
        let client_host = shared(reader.compact_string()?);
        let count = reader.compact_count(1)?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            topics.push(shared(reader.compact_string()?));
        }
        let mut member = ModernMemberValue {
            group_instance_id,
            rack_id,
            client_id,
            client_host,
            topics,
            pattern: reader.nullable_compact_string()?.map(shared),
            rebalance_timeout_ms: reader.int32()?,
            assignor: reader.nullable_compact_string()?.map(shared),
            classic: None,
        };
        reader.tagged(|tag, field| {
            // A lone 0 is the null of a structure.
            if tag == 0 && field != [0] {
                member.classic = Some(Arc::from(field));
            }
            Ok(())
        })?;
        Ok(member)
    }
}

impl CurrentValue {
    fn decode(reader: &mut Reader<'_>) -> Wire<CurrentValue> {
        Ok(CurrentValue {
            epoch: reader.int32()?,
            previous_epoch: reader.int32()?,
            state: reader.int8()?,
            assigned: shares(reader)?,
            revoking: shares(reader)?,
        })
    }
}

fn shares(reader: &mut Reader<'_>) -> Wire<Vec<TopicShare>> {
    let count = reader.compact_count(18)?;
    let mut shares = Vec::with_capacity(count);
    for _ in 0..count {
        let topic = TopicId(reader.uuid()?);
        let partitions = numbers(reader)?;
        let mut epochs = None;
        reader.tagged(|tag, field| {
            if tag == 0 {
                epochs = Some(numbers(&mut Reader::new(field))?);
            }
            Ok(())
        })?;
        shares.push(TopicShare { topic, partitions, epochs });
    }
    Ok(shares)
}

fn numbers(reader: &mut Reader<'_>) -> Wire<Vec<i32>> {
    let count = reader.compact_count(4)?;
    let mut numbers = Vec::with_capacity(count);
    for _ in 0..count {
        numbers.push(reader.int32()?);
    }
    Ok(numbers)
}

/// The tagged field 0 of a value, a number; 0 where there is none.
fn tagged_int64(reader: &mut Reader<'_>) -> Wire<i64> {
    let mut number = 0;
    reader.tagged(|tag, field| {
        if tag == 0 {
            number = Reader::new(field).int64()?;
        }
        Ok(())
    })?;
    Ok(number)
}
