//! The step `settle`: members are polled in turn until their assignment stands.
//!
//! In a round every member takes turns, polls of no time, in the listed order, until none of them
//! moves; then a little time passes. It ends when every partition of the subscribed topics has one
//! owner and nothing changed for a while, as long as in the recordings.

use super::values::{show_error, show_partitions};
use super::world::World;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use topiclite::Result;
use topiclite::TopicPartition;

/// How much time passes between two rounds.
const ROUND: Duration = Duration::from_millis(70);
/// How long it may take unless the step says otherwise.
const LIMIT_MS: u64 = 25_000;
/// How long nothing must change unless the step says otherwise.
const QUIET_MS: u64 = 700;
/// Turns of one member in one round; a member that moves forever would never end otherwise.
const TURNS_MAX: usize = 1000;

/// A new member's exchanges (its id, the join, the sync) that nothing outside shows, and one more.
const STILL_ROUNDS: usize = 4;

/// What the rounds gathered.
#[derive(Default)]
struct Gathered {
    records: BTreeMap<String, Vec<Value>>,
    errors: BTreeMap<String, Value>,
}

impl World {
    pub(super) fn settle(&mut self, step: &Value) -> Result<Map<String, Value>> {
        let members: Vec<String> = step
            .get("members")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|member| member.as_str().map(str::to_owned))
            .collect();
        let cover = step.get("cover").and_then(Value::as_bool) != Some(false);
        let limit =
            Duration::from_millis(step.get("limit_ms").and_then(Value::as_u64).unwrap_or(LIMIT_MS));
        let until = self.now().mono + limit;
        let mut gathered = Gathered::default();
        let quiet =
            Duration::from_millis(step.get("quiet_ms").and_then(Value::as_u64).unwrap_or(QUIET_MS));
        let mut before = None;
        let mut quiet_since = self.now().mono;
        let settled = loop {
            let moved = self.round(&members, &mut gathered)?;
            let standing = self.standing(&members, &gathered);
            let now = self.now().mono;
            if moved || before.as_ref() != Some(&standing) {
                quiet_since = now;
            } else if now - quiet_since >= quiet && (!cover || self.covered(&members, &gathered)) {
                break true;
            }
            if standing.is_empty() {
                break true; // There is nobody left to poll.
            }
            if now >= until {
                break false;
            }
            before = Some(standing);
            self.clock.advance(ROUND);
        };
        Ok(self.tell_settled(&members, gathered, settled))
    }

    /// Everybody takes turns until nobody moves; whether anybody moved.
    ///
    /// A turn of the group protocol can be invisible from outside (a member id, a join that waits),
    /// so several still rounds in a row count as standing still.
    fn round(&mut self, members: &[String], gathered: &mut Gathered) -> Result<bool> {
        let mut moved_at_all = false;
        let mut still = 0;
        for _ in 0..TURNS_MAX {
            let mut moved = false;
            for member in members {
                if !gathered.errors.contains_key(member) {
                    moved |= self.turn(member, gathered)?;
                }
            }
            moved_at_all |= moved;
            still = if moved { 0 } else { still + 1 };
            if still == STILL_ROUNDS {
                break;
            }
        }
        Ok(moved_at_all)
    }

    /// One poll of no time; whether it changed anything that can be seen.
    fn turn(&mut self, member: &str, gathered: &mut Gathered) -> Result<bool> {
        let events_before = self.events.count(member);
        match self.poll_records(member, Duration::ZERO) {
            Ok(records) => {
                let moved = !records.is_empty() || self.events.count(member) != events_before;
                gathered.records.entry(member.to_owned()).or_default().extend(records);
                Ok(moved)
            }
            Err(error) => {
                gathered.errors.insert(member.to_owned(), show_error(&error));
                Ok(true)
            }
        }
    }

    /// Who owns what.
    fn standing(
        &mut self,
        members: &[String],
        gathered: &Gathered,
    ) -> BTreeMap<String, BTreeSet<TopicPartition>> {
        members
            .iter()
            .filter(|member| !gathered.errors.contains_key(*member))
            .map(|member| (member.clone(), self.assignment_of(member)))
            .collect()
    }

    /// Whether every partition of the subscribed topics has exactly one owner among the members of
    /// each group.
    fn covered(&mut self, members: &[String], gathered: &Gathered) -> bool {
        let mut groups: BTreeMap<String, (BTreeSet<_>, BTreeSet<_>)> = BTreeMap::new();
        for member in members.iter().filter(|m| !gathered.errors.contains_key(*m)) {
            let (owned, wanted) = groups.entry(self.group_of(member)).or_default();
            for partition in self.assignment_of(member) {
                if !owned.insert(partition) {
                    return false;
                }
            }
            for topic in self.subscription_of(member) {
                let described = self.broker.admin().describe_topic(&topic);
                let count = described.map_or(0, |described| described.partition_count());
                wanted.extend((0..count).map(|p| TopicPartition::new(topic.as_str(), p)));
            }
        }
        groups.values().all(|(owned, wanted)| owned.is_superset(wanted))
    }

    fn group_of(&self, member: &str) -> String {
        let settings = self.role(member).map(|(_, config)| config.get("group.id"));
        settings.ok().flatten().map_or_else(String::new, super::script::text_of)
    }

    fn tell_settled(
        &mut self,
        members: &[String],
        gathered: Gathered,
        settled: bool,
    ) -> Map<String, Value> {
        let standing = self.standing(members, &gathered);
        let assignments: Map<String, Value> =
            standing.into_iter().map(|(member, owned)| (member, show_partitions(&owned))).collect();
        let mut seen = Map::new();
        seen.insert("assignments".into(), Value::Object(assignments));
        let records: BTreeMap<&String, Value> = gathered
            .records
            .iter()
            .filter(|(_, records)| !records.is_empty())
            .map(|(member, records)| (member, sorted(records)))
            .collect();
        if !records.is_empty() {
            seen.insert("records".into(), json!(records));
        }
        if !gathered.errors.is_empty() {
            seen.insert("errors".into(), json!(gathered.errors));
        }
        if !settled {
            seen.insert("settled".into(), json!(false));
        }
        seen
    }
}

/// Records by partition, then offset, in the order of arrival within one place.
pub(super) fn sorted(records: &[Value]) -> Value {
    let mut records = records.to_vec();
    records.sort_by_key(|record| {
        let partition =
            super::values::partition_of(record.get(0).and_then(Value::as_str).unwrap_or_default());
        (partition, record.get(1).and_then(Value::as_i64))
    });
    Value::from(records)
}
