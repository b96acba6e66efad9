//! What becomes of the coordinator's events: counts, lines of the log, a test's journal.

use super::super::inner::Shared;
use crate::events::Event;
use crate::group::protocol::Assignment;
use crate::group::{GroupEvent, GroupEventKind};
use crate::meter;
use crate::sync::Arc;

impl Shared {
    /// Shows events to a test, in the order in which they happened. The coordinator's lock is
    /// held.
    pub(super) fn show_group_events(&self, events: &[GroupEvent]) {
        if self.probe.is_on() {
            events.iter().for_each(|event| self.show_group_event(event));
        }
    }

    /// Counts events and tells them to the log. No lock is held.
    pub(super) fn tell_group_events(&self, events: &[GroupEvent]) {
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
                GroupEventKind::Stable { generation_id, shares } => {
                    let members = shares.len();
                    meter::of_group("topiclite_group_rebalances_total", &event.group).increment(1);
                    tracing::info!(group, generation_id, members, "the group is stable");
                }
                GroupEventKind::Emptied => tracing::info!(group, "the group is empty"),
            }
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
            GroupEventKind::Stable { generation_id, shares } => {
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
