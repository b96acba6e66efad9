//! Groups of the newer protocol (KIP-848), as far as a directory of Kafka's holds them: they are
//! listed and described, their offsets are served, and their records can be deleted. Nobody joins
//! them. A value that cannot be read counts as one without content.

use super::schema::{GroupRecord, ModernKey};
use super::wire::{Reader, Wire, WireFault, shared};
use crate::topic::TopicId;
use std::collections::BTreeMap;
use std::sync::Arc;

const GROUP: i16 = 3;
const MEMBER: i16 = 5;
const TARGET: i16 = 6;
const CURRENT: i16 = 8;

/// Assigned partitions by topic id.
pub(super) type AssignedById = Vec<(TopicId, Vec<i32>)>;

#[derive(Debug, Default)]
pub(super) struct ModernGroup {
    /// Everything that is stored, so that it can be deleted.
    keys: BTreeMap<ModernKey, Arc<[u8]>>,
    pub(super) epoch: i32,
    assignment_epoch: i32,
    pub(super) members: BTreeMap<Arc<str>, ModernMember>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ModernMember {
    pub(super) group_instance_id: Option<Arc<str>>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) assignor: Option<Arc<str>>,
    epoch: i32,
    /// 0 is stable.
    state: i8,
    pub(super) assigned: AssignedById,
}

impl ModernGroup {
    pub(super) fn replay(&mut self, key: &ModernKey, value: Option<&Arc<[u8]>>) {
        match value {
            Some(value) => self.keys.insert(key.clone(), value.clone()),
            None => self.keys.remove(key),
        };
        let member = key.part.clone().unwrap_or_default();
        match (key.kind, value) {
            (GROUP, Some(value)) => self.epoch = read_epoch(value).unwrap_or(0),
            (TARGET, Some(value)) => self.assignment_epoch = read_epoch(value).unwrap_or(0),
            (MEMBER, Some(value)) => {
                let read = read_member(value).unwrap_or_default();
                let current = self.members.entry(member).or_default();
                *current = ModernMember {
                    epoch: current.epoch,
                    state: current.state,
                    assigned: std::mem::take(&mut current.assigned),
                    ..read
                };
            }
            (MEMBER, None) => {
                self.members.remove(&member);
            }
            (CURRENT, Some(value)) => {
                if let (Some(member), Ok((epoch, state, assigned))) =
                    (self.members.get_mut(&member), read_current(value))
                {
                    (member.epoch, member.state, member.assigned) = (epoch, state, assigned);
                }
            }
            (CURRENT, None) => {
                if let Some(member) = self.members.get_mut(&member) {
                    (member.epoch, member.state, member.assigned) = (0, 0, Vec::new());
                }
            }
            _ => {}
        }
    }

    /// Whether no record of it is left.
    pub(super) fn is_gone(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn state_name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members.values().any(|m| m.state != 0 || m.epoch != self.assignment_epoch) {
            "Reconciling"
        } else {
            "Stable"
        }
    }

    /// The assignor that most members ask for; Kafka's default when none asks.
    pub(super) fn assignor(&self) -> Arc<str> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.assignor.as_ref()) {
            *votes.entry(assignor).or_default() += 1;
        }
        let most = votes.into_iter().max_by_key(|(_, count)| *count);
        most.map_or_else(|| Arc::from("uniform"), |(name, _)| name.clone())
    }

    /// What deletes every stored record, members first, the group itself last.
    pub(super) fn tombstones(&self) -> Vec<GroupRecord> {
        let mut keys: Vec<&ModernKey> = self.keys.keys().collect();
        let order = [CURRENT, 7, MEMBER, 16, TARGET, 4, GROUP];
        keys.sort_by_key(|key| order.iter().position(|kind| *kind == key.kind));
        keys.into_iter().map(|key| GroupRecord::Modern { key: key.clone(), value: None }).collect()
    }
}

fn read_version<'a>(value: &'a [u8]) -> Wire<Reader<'a>> {
    let mut reader = Reader::new(value);
    match reader.int16()? {
        0 => Ok(reader),
        version => Err(WireFault::UnknownVersion(version)),
    }
}

fn read_epoch(value: &[u8]) -> Wire<i32> {
    read_version(value)?.int32()
}

fn read_member(value: &[u8]) -> Wire<ModernMember> {
    let mut reader = read_version(value)?;
    let group_instance_id = reader.nullable_compact_string()?.map(shared);
    reader.nullable_compact_string()?; // the rack
    let client_id = shared(reader.compact_string()?);
    let client_host = shared(reader.compact_string()?);
    for _ in 0..reader.compact_count(1)? {
        reader.compact_string()?; // a topic it subscribes to
    }
    reader.nullable_compact_string()?; // the expression it subscribes by
    reader.int32()?; // its rebalance timeout
    let assignor = reader.nullable_compact_string()?.map(shared);
    Ok(ModernMember { group_instance_id, client_id, client_host, assignor, ..Default::default() })
}

fn read_current(value: &[u8]) -> Wire<(i32, i8, AssignedById)> {
    let mut reader = read_version(value)?;
    let epoch = reader.int32()?;
    reader.int32()?; // the epoch before
    let state = reader.int8()?;
    let mut assigned = Vec::new();
    for _ in 0..reader.compact_count(18)? {
        let topic = TopicId(reader.uuid()?);
        let count = reader.compact_count(4)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(reader.int32()?);
        }
        reader.skip_tagged()?;
        assigned.push((topic, partitions));
    }
    Ok((epoch, state, assigned))
}
