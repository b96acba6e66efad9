//! The steps of transactions: a producer's calls, and what administrators see and do.

use super::listener::offsets_of;
use super::world::{World, not_built, number, number32, text};
use serde_json::{Map, Value, json};
use topiclite::{Error, ErrorKind, GroupMetadata, Producer, Result};

type Seen = Result<Map<String, Value>>;

impl World {
    /// A step of the transactions of a producer, if it is one.
    pub(super) fn transaction_step(
        &mut self,
        doing: &str,
        producer: &Producer,
        step: &Value,
    ) -> Option<Seen> {
        let done = match doing {
            "init_transactions" => producer.init_transactions(),
            "begin" => producer.begin_transaction(),
            "commit" => producer.commit_transaction(),
            "abort" => producer.abort_transaction(),
            "send_offsets" => self.send_offsets(producer, step),
            _ => return None,
        };
        Some(done.map(|()| Map::new()))
    }

    fn send_offsets(&mut self, producer: &Producer, step: &Value) -> Result<()> {
        let group = self.metadata_in(step.get("group"));
        let offsets = offsets_of(step)?.unwrap_or_default();
        let group = group?;
        producer.send_offsets_to_transaction(&offsets, &group)
    }

    /// The metadata that a `group` field means.
    fn metadata_in(&mut self, group: Option<&Value>) -> Result<GroupMetadata> {
        match group {
            Some(Value::String(actor)) => self.metadata_of(actor),
            Some(fields) if fields.get("held").is_some() => {
                let held = self.held_metadata.get(text(fields, "held"));
                held.cloned().ok_or_else(|| not_built("metadata that was not held"))
            }
            Some(fields) if fields.get("member").is_some() => {
                let metadata = self.metadata_of(text(fields, "member"))?;
                let shift = number32(fields, "generation_shift").unwrap_or(0);
                let (member, generation) =
                    (metadata.member_id().to_owned(), metadata.generation_id() + shift);
                Ok(metadata.as_member(member, generation))
            }
            Some(Value::Object(_)) => {
                let fields = group.unwrap_or(&Value::Null);
                let metadata = GroupMetadata::new(text(fields, "group_id"));
                let generation = number32(fields, "generation").unwrap_or(-1);
                Ok(metadata.as_member(text(fields, "member_id"), generation))
            }
            // No metadata at all is an argument that this API cannot be given.
            _ => Err(Error::new(ErrorKind::IllegalArgument, "there is no metadata")),
        }
    }

    pub(super) fn hold_metadata(&mut self, actor: &str) -> Seen {
        let metadata = self.metadata_of(actor)?;
        self.held_metadata.insert(actor.to_owned(), metadata);
        Ok(Map::new())
    }

    pub(super) fn describe_transaction(&mut self, step: &Value) -> Seen {
        let id = text(step, "transactional_id");
        self.until(step, |world| {
            let described = world.broker.admin().describe_transaction(id).ok();
            described.map(|described| described.state().name().to_owned())
        });
        let described = self.broker.admin().describe_transaction(id)?;
        let mut partitions: Vec<String> = described
            .partitions()
            .iter()
            .map(|partition| match partition.topic() {
                // Where a group lives is a hash of a name that recordings had a suffix in.
                "__consumer_offsets" => "__consumer_offsets-0".to_owned(),
                _ => partition.to_string(),
            })
            .collect();
        partitions.dedup();
        let mut seen = Map::new();
        seen.insert("state".into(), json!(described.state().name()));
        seen.insert("partitions".into(), json!(partitions));
        seen.insert("epoch".into(), json!(described.producer_epoch()));
        Ok(seen)
    }

    pub(super) fn fence_producers(&mut self, step: &Value) -> Seen {
        let ids = step.get("transactional_ids").and_then(Value::as_array);
        let ids: Vec<&str> = ids.into_iter().flatten().filter_map(Value::as_str).collect();
        for outcome in self.broker.admin().fence_producers(&ids)? {
            outcome?;
        }
        Ok(Map::new())
    }

    pub(super) fn abort_transaction(&mut self, step: &Value) -> Seen {
        let (topic, partition) = (text(step, "topic"), number32(step, "partition").unwrap_or(0));
        let admin = self.broker.admin();
        let known = admin.describe_producers(topic, partition)?;
        let found = match step.get("by").and_then(Value::as_str) {
            Some(actor) => {
                let id = self.role(actor)?.1.get("transactional.id").map(super::script::text_of);
                let id = admin.describe_transaction(&id.unwrap_or_default())?.producer_id();
                known.iter().find(|producer| producer.producer_id() == id)
            }
            None => known.iter().find(|one| one.current_transaction_start_offset().is_some()),
        };
        match found {
            Some(producer) => admin.abort_transaction(topic, partition, producer.producer_id())?,
            None => return Err(not_built("a transaction to abort where none is open")),
        }
        Ok(Map::new())
    }

    pub(super) fn describe_producers(&mut self, step: &Value) -> Seen {
        let partition = number(step, "partition").and_then(|n| i32::try_from(n).ok());
        let admin = self.broker.admin();
        let producers = admin.describe_producers(text(step, "topic"), partition.unwrap_or(0))?;
        let shown: Vec<Value> = producers
            .iter()
            .map(|producer| {
                json!({
                    "last_sequence": producer.last_sequence().unwrap_or(-1),
                    "epoch": producer.producer_epoch(),
                    "has_open_transaction": producer.current_transaction_start_offset().is_some(),
                })
            })
            .collect();
        Ok(Map::from_iter([("producers".to_owned(), Value::from(shown))]))
    }
}
