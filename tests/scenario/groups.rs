//! The steps of administrators that change groups: their offsets, their members, their end.

use super::listener::offsets_of;
use super::values::partitions_of;
use super::world::{World, text};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use topiclite::{GroupOffset, Result, TopicPartition};

type Seen = Result<Map<String, Value>>;
type Outcomes = BTreeMap<TopicPartition, Result<()>>;

/// How long `until` waits, and how often it looks.
const UNTIL_LIMIT: Duration = Duration::from_secs(15);
const UNTIL_PAUSE: Duration = Duration::from_millis(30);

impl World {
    /// The step, if it is one of these.
    pub(super) fn group_step(&mut self, doing: &str, step: &Value) -> Option<Seen> {
        Some(match doing {
            "alter_group_offsets" => self.alter_group_offsets(step),
            "delete_group_offsets" => {
                let partitions = partitions_of(step.get("partitions"));
                let admin = self.broker.admin();
                let outcome = admin.delete_group_offsets(text(step, "group"), &partitions);
                Ok(show_outcomes(&partitions, &outcome))
            }
            "delete_group" => {
                self.broker.admin().delete_group(text(step, "group")).map(|()| Map::new())
            }
            "remove_members" => self.remove_members(step),
            _ => return None,
        })
    }

    fn alter_group_offsets(&mut self, step: &Value) -> Seen {
        let mut offsets = BTreeMap::new();
        for (partition, committed) in offsets_of(step)?.into_iter().flatten() {
            let offset = GroupOffset::new(committed.offset())?.with_metadata(committed.text());
            offsets.insert(partition, offset);
        }
        let outcome = self.broker.admin().alter_group_offsets(text(step, "group"), &offsets);
        let partitions: Vec<TopicPartition> = offsets.into_keys().collect();
        Ok(show_outcomes(&partitions, &outcome))
    }

    fn remove_members(&mut self, step: &Value) -> Seen {
        let instances = step.get("instances").and_then(Value::as_array);
        let instances: Vec<&str> =
            instances.into_iter().flatten().filter_map(Value::as_str).collect();
        let admin = self.broker.admin();
        match instances.is_empty() {
            true => admin.remove_all_members(text(step, "group"))?,
            false => admin.remove_members(text(step, "group"), &instances)?,
        }
        Ok(Map::new())
    }

    /// Lets time pass until `state` is the one that the step waits for, if it waits for one.
    pub(super) fn until(&mut self, step: &Value, state: impl Fn(&World) -> Option<String>) {
        let Some(wanted) = step.get("until").and_then(Value::as_str) else { return };
        let end = self.now().mono + UNTIL_LIMIT;
        while state(self).as_deref() != Some(wanted) && self.now().mono < end {
            self.pass(UNTIL_PAUSE);
        }
    }
}

/// Every partition with its error, where there is one, and the last error of all: what a call as a
/// whole was refused for is told of each.
fn show_outcomes(partitions: &[TopicPartition], outcome: &Result<Outcomes>) -> Map<String, Value> {
    let mut sorted: Vec<&TopicPartition> = partitions.iter().collect();
    sorted.sort();
    sorted.dedup();
    let (mut errors, mut last) = (Map::new(), None);
    for partition in sorted {
        let error = match outcome {
            Ok(outcomes) => outcomes.get(partition).and_then(|outcome| outcome.as_ref().err()),
            Err(error) => Some(error),
        };
        let name = error.map(topiclite::Error::kafka_name);
        last = name.or(last);
        errors.insert(partition.to_string(), json!(name));
    }
    match last {
        None => Map::new(),
        Some(last) => {
            Map::from_iter([("error".into(), json!(last)), ("errors".into(), errors.into())])
        }
    }
}
