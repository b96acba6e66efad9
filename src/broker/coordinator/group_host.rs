//! What the groups' coordinator takes from the broker around it, and what becomes of its events:
//! settings, the ends of logs, counts, lines of the log, a test's journal.

use super::runtime::CoordinatorHost;
use crate::broker::core::BrokerCore;
use crate::broker::health::{BrokerCounters, HealthLog};
use crate::broker::topics::TopicTable;
use crate::config::BrokerConfig;
use crate::events::Event;
use crate::group::protocol::Assignment;
use crate::group::{GroupConfig, GroupCoordinator, GroupEvent, GroupEventKind};
use crate::meter;
use crate::probe::Probe;
use crate::sync::{Arc, Ordering, Weak};
use crate::time::Now;
use crate::topic::{OFFSETS_TOPIC, TopicPartition};

/// The broker as its groups see it.
#[derive(Debug)]
pub(in crate::broker) struct GroupHost {
    pub config: BrokerConfig,
    pub topics: Arc<TopicTable>,
    pub health: Arc<HealthLog>,
    pub counters: Arc<BrokerCounters>,
    pub probe: Probe,
    /// The former process, or a log that gives records up, may have left offsets beyond the end.
    pub unclean: bool,
    pub broker: Weak<BrokerCore>,
}

impl CoordinatorHost<GroupCoordinator> for GroupHost {
    fn new_shard(&self) -> GroupCoordinator {
        GroupCoordinator::new(self.settings())
    }

    fn loaded(&self, groups: &mut GroupCoordinator, partitions: &[i32], now: Now) {
        groups.begin_life_in(partitions, now);
        if self.unclean {
            self.clamp_offsets(groups, partitions);
        }
    }

    fn show(&self, events: &[GroupEvent]) {
        if self.probe.is_on() {
            events.iter().for_each(|event| self.show_group_event(event));
        }
    }

    fn stored(&self) {
        if let Some(broker) = self.broker.upgrade() {
            broker.relieve_cleaner();
        }
    }

    fn tell(&self, events: &[GroupEvent]) {
        for event in events {
            let group = &*event.group;
            match &event.kind {
                GroupEventKind::Joined { client_id } => {
                    tracing::debug!(group, %client_id, "a member joined");
                }
                GroupEventKind::Removed { client_id, why: None } => {
                    tracing::debug!(group, %client_id, "a member left");
                }
                GroupEventKind::Removed { client_id, why: Some(why) } => {
                    meter::of_removals(&event.group, why.label()).increment(1);
                    tracing::warn!(group, %client_id, ?why, "a member was put out");
                }
                GroupEventKind::Rebalancing => tracing::debug!(group, "rebalancing"),
                GroupEventKind::GenerationBegan { generation_id, members } => {
                    tracing::debug!(group, generation_id, members, "a generation began");
                }
                GroupEventKind::Stable { generation_id, shares, took } => {
                    let members = shares.len();
                    meter::rebalanced(&event.group, *took);
                    meter::of_group("topiclite_group_rebalances_total", &event.group).increment(1);
                    tracing::info!(group, generation_id, members, "the group is stable");
                }
                GroupEventKind::Emptied => tracing::info!(group, "the group is empty"),
            }
        }
    }
}

impl GroupHost {
    /// What the broker's settings say about groups.
    fn settings(&self) -> GroupConfig {
        let topic = self.topics.get(OFFSETS_TOPIC).map(|topic| topic.partition_count());
        GroupConfig {
            min_session_timeout: self.config.group_min_session_timeout(),
            max_session_timeout: self.config.group_max_session_timeout(),
            initial_rebalance_delay: self.config.initial_rebalance_delay(),
            max_size: self.config.group_max_size(),
            offset_metadata_max_bytes: self.config.offset_metadata_max_bytes(),
            offsets_topic_partitions: topic
                .unwrap_or_else(|_| self.config.offsets_topic_partitions()),
        }
    }

    fn clamp_offsets(&self, groups: &mut GroupCoordinator, partitions: &[i32]) {
        let end = |partition: &TopicPartition| {
            let topic = self.topics.get(partition.topic()).ok()?;
            let source = topic.partition(partition.partition()).ok()?;
            match source.log_end_offset() {
                // Of a damaged partition nothing is lost yet, and nothing can be written.
                Ok(_) if source.log().is_ok_and(|log| log.refusal().is_some()) => None,
                Ok(end) => Some(end),
                Err(error) => {
                    self.health.partition(partition.clone(), error);
                    None
                }
            }
        };
        for clamped in groups.clamp_offsets(partitions, &end) {
            self.counters.clamped_offsets.fetch_add(1, Ordering::Relaxed);
            self.health.warn(format!(
                "group {} had committed offset {} of {}, whose log ends at {}: set back",
                clamped.group, clamped.committed, clamped.partition, clamped.log_end_offset
            ));
        }
    }

    fn show_group_event(&self, event: &GroupEvent) {
        let group = event.group.clone();
        match &event.kind {
            GroupEventKind::Joined { client_id } => {
                self.probe.note(|| Event::Joined { group, client_id: client_id.clone() });
            }
            GroupEventKind::Removed { client_id, why } => self.probe.note(|| {
                let client_id = client_id.clone();
                match *why {
                    Some(reason) => Event::KickedOut { group, client_id, reason },
                    None => Event::Left { group, client_id },
                }
            }),
            GroupEventKind::Rebalancing => self.probe.note(|| Event::Rebalancing { group }),
            GroupEventKind::GenerationBegan { generation_id, members } => {
                let (generation, members) = (*generation_id, *members);
                self.probe.note(|| Event::GenerationBegan { group, generation, members });
            }
            GroupEventKind::Stable { generation_id, shares, .. } => {
                for (client_id, share) in shares {
                    self.show_share(&event.group, *generation_id, client_id, share);
                }
            }
            GroupEventKind::Emptied => self.probe.note(|| Event::Emptied { group }),
        }
    }

    fn show_share(&self, group: &Arc<str>, generation: i32, client_id: &Arc<str>, share: &[u8]) {
        let mut partitions = Assignment::decode(share).unwrap_or_default().partitions;
        partitions.sort();
        self.probe.note(|| Event::Assigned {
            group: group.clone(),
            generation,
            client_id: client_id.clone(),
            partitions,
        });
    }
}
