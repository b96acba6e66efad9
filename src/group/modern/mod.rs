//! Groups of the newer protocol (KIP-848), as far as a directory of Kafka's holds them: they are
//! listed and described, their offsets are served, and their records can be deleted. Nobody joins
//! them. A value that cannot be read counts as one without content.

#[allow(missing_docs)] // Not part of the documented API.
pub(in crate::group) mod schema;

use crate::group::records::{GroupRecord, ModernKey};
use crate::group::request::{DescribedGroup, DescribedMember, GroupType};
use crate::topic::{TopicId, TopicPartition};
use schema::{
    CURRENT, CurrentValue, GROUP, MEMBER, ModernMemberValue, ModernValue, TARGET, TARGET_OF_MEMBER,
    TopicShare,
};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(in crate::group) struct ModernGroup {
    /// Everything that is stored, so that it can be deleted.
    keys: BTreeMap<ModernKey, Arc<[u8]>>,
    pub(in crate::group) epoch: i32,
    assignment_epoch: i32,
    pub(in crate::group) members: BTreeMap<Arc<str>, ModernMember>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::group) struct ModernMember {
    pub(in crate::group) group_instance_id: Option<Arc<str>>,
    pub(in crate::group) client_id: Arc<str>,
    pub(in crate::group) client_host: Arc<str>,
    pub(in crate::group) assignor: Option<Arc<str>>,
    epoch: i32,
    /// 0 is stable.
    state: i8,
    pub(in crate::group) assigned: Vec<TopicShare>,
}

impl ModernMember {
    /// Takes over what the member says of itself.
    fn introduce(&mut self, value: ModernMemberValue) {
        self.group_instance_id = value.group_instance_id;
        self.client_id = value.client_id;
        self.client_host = value.client_host;
        self.assignor = value.assignor;
    }
}

impl ModernGroup {
    pub(in crate::group) fn replay(&mut self, key: &ModernKey, value: Option<&Arc<[u8]>>) {
        match value {
            Some(value) => self.keys.insert(key.clone(), value.clone()),
            None => self.keys.remove(key),
        };
        let member = key.part.clone().unwrap_or_default();
        let read = value.map(|value| ModernValue::read(key.kind, value));
        match (key.kind, read) {
            (GROUP, Some(Some(ModernValue::Group { epoch, .. }))) => self.epoch = epoch,
            (GROUP, Some(_)) => self.epoch = 0,
            (TARGET, Some(Some(ModernValue::Target { epoch, .. }))) => {
                self.assignment_epoch = epoch;
            }
            (TARGET, Some(_)) => self.assignment_epoch = 0,
            (MEMBER, Some(Some(ModernValue::Member(value)))) => {
                self.members.entry(member).or_default().introduce(value);
            }
            (MEMBER, Some(_)) => {
                let nothing = ModernMemberValue::default();
                self.members.entry(member).or_default().introduce(nothing);
            }
            (MEMBER, None) => {
                self.members.remove(&member);
            }
            (CURRENT, Some(Some(ModernValue::Current(value)))) => self.owns(&member, value),
            (CURRENT, None) => self.owns(&member, CurrentValue::default()),
            _ => {}
        }
    }

    fn owns(&mut self, member: &str, value: CurrentValue) {
        if let Some(member) = self.members.get_mut(member) {
            (member.epoch, member.state, member.assigned) =
                (value.epoch, value.state, value.assigned);
        }
    }

    /// Whether no record of it is left.
    pub(in crate::group) fn is_gone(&self) -> bool {
        self.keys.is_empty()
    }

    pub(in crate::group) fn state_name(&self) -> &'static str {
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
    pub(in crate::group) fn assignor(&self) -> Arc<str> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.assignor.as_ref()) {
            *votes.entry(assignor).or_default() += 1;
        }
        let most = votes.into_iter().max_by_key(|(_, count)| *count);
        most.map_or_else(|| Arc::from("uniform"), |(name, _)| name.clone())
    }

    /// What deletes every stored record, members first, the group itself last.
    pub(in crate::group) fn tombstones(&self) -> Vec<GroupRecord> {
        let mut keys: Vec<&ModernKey> = self.keys.keys().collect();
        let order = [CURRENT, TARGET_OF_MEMBER, MEMBER, 16, TARGET, 4, GROUP];
        keys.sort_by_key(|key| order.iter().position(|kind| *kind == key.kind));
        keys.into_iter().map(|key| GroupRecord::Modern { key: key.clone(), value: None }).collect()
    }

    /// What administrators see of it. `names` finds the topic of an id; what it does not find is
    /// left out.
    pub(in crate::group) fn describe(
        &self,
        id: &Arc<str>,
        names: &dyn Fn(&TopicId) -> Option<Arc<str>>,
    ) -> DescribedGroup {
        let members = self.members.iter().map(|(id, member)| {
            let mut assignment = Vec::new();
            for share in &member.assigned {
                if let Some(name) = names(&share.topic) {
                    let partitions = share.partitions.iter();
                    assignment.extend(partitions.map(|&p| TopicPartition::new(name.clone(), p)));
                }
            }
            let client = (&member.client_id, &member.client_host);
            DescribedMember::new(id, member.group_instance_id.as_ref(), client, assignment)
        });
        DescribedGroup {
            group_id: id.clone(),
            group_type: GroupType::Consumer,
            protocol_type: "consumer".into(),
            state: self.state_name(),
            generation_id: self.epoch,
            protocol: self.assignor(),
            leader_id: None,
            members: members.collect(),
        }
    }
}
