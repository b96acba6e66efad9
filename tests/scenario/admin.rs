//! The steps of administrators, and reading a whole topic.

use super::script::text_of;
use super::values::{show_map, show_metadata, show_partitions, show_record};
use super::world::{World, not_built, number, number32, text, topic_config};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use topiclite::ConsumerConfig;
use topiclite::Result;
use topiclite::{IsolationLevel, NewTopic, OffsetReset, OffsetSpec, TopicPartition};

type Seen = Result<Map<String, Value>>;

/// Timestamps within this many milliseconds of the clock are written `clock`.
const AROUND_CLOCK_MS: i64 = 120_000;

impl World {
    /// The step, if it is an administrator's.
    pub(super) fn admin_step(&mut self, doing: &str, step: &Value) -> Option<Seen> {
        Some(match doing {
            "create_topic" => self.create_topic(step, false),
            "check_topic" => self.create_topic(step, true),
            "delete_topic" => {
                self.broker.admin().delete_topic(text(step, "topic")).map(|()| Map::new())
            }
            "create_partitions" => {
                let total = number32(step, "partitions").unwrap_or(0);
                self.broker.admin().grow_topic(text(step, "topic"), total).map(|()| Map::new())
            }
            "delete_records" => self.delete_records(step),
            "alter_config" | "append_config" | "subtract_config" => self.alter(doing, step),
            "describe_topic" => self.describe_topic(step),
            "describe_config" => self.describe_config(step),
            "list_offsets" => self.list_offsets(step),
            "describe_group" => self.describe_group(step),
            "list_groups" => self.list_groups(),
            "list_group_offsets" => self.list_group_offsets(step),
            "describe_transaction" => self.describe_transaction(step),
            "fence_producers" => self.fence_producers(step),
            "describe_producers" => self.describe_producers(step),
            "abort_transaction" => self.abort_transaction(step),
            other => return self.group_step(other, step),
        })
    }

    fn create_topic(&mut self, step: &Value, check_only: bool) -> Seen {
        let name = text(step, "topic");
        let partitions = number32(step, "partitions").unwrap_or(1);
        let replicas = number32(step, "replicas").unwrap_or(1);
        let admin = self.broker.admin();
        let config = topic_config(step.get("config")).map_err(|refused| {
            // A broker looks at the name before it looks at the settings.
            match admin.check(&NewTopic::new(name, 1)) {
                Err(error) => error,
                Ok(()) => refused,
            }
        })?;
        let replicas = i16::try_from(replicas).unwrap_or(i16::MAX);
        let topic = NewTopic::new(name, partitions).replication_factor(replicas).config(config);
        match check_only {
            true => admin.check(&topic)?,
            false => admin.create(&topic)?,
        }
        Ok(Map::new())
    }

    fn delete_records(&mut self, step: &Value) -> Seen {
        let (topic, partition) = (text(step, "topic"), number32(step, "partition").unwrap_or(0));
        let before = number(step, "before").unwrap_or(0);
        let low = self.broker.admin().delete_records(topic, partition, before)?;
        Ok(one("low_watermark", json!(low)))
    }

    fn alter(&mut self, doing: &str, step: &Value) -> Seen {
        if step.get("group").is_some() {
            return Err(not_built("settings of a group"));
        }
        let topic = text(step, "topic");
        let mut changes = Vec::new();
        for (key, value) in step.get("config").and_then(Value::as_object).into_iter().flatten() {
            let value = (!value.is_null()).then(|| text_of(value));
            changes.push(match (doing, value) {
                ("append_config", Some(value)) => {
                    topiclite::ConfigChange::Append(key.clone(), value)
                }
                ("subtract_config", Some(value)) => {
                    topiclite::ConfigChange::Subtract(key.clone(), value)
                }
                (_, Some(value)) => topiclite::ConfigChange::Set(key.clone(), value),
                (_, None) => topiclite::ConfigChange::Delete(key.clone()),
            });
        }
        self.broker.admin().alter_topic(topic, &changes)?;
        Ok(Map::new())
    }

    fn describe_topic(&mut self, step: &Value) -> Seen {
        let topic = self.broker.admin().describe_topic(text(step, "topic"))?;
        let mut seen = one("partitions", json!(topic.partition_count()));
        seen.insert("internal".into(), json!(topic.is_internal()));
        Ok(seen)
    }

    fn describe_config(&mut self, step: &Value) -> Seen {
        let topic = self.broker.admin().describe_topic(text(step, "topic"))?;
        let (mut config, mut sources) = (Map::new(), Map::new());
        for key in step.get("keys").and_then(Value::as_array).into_iter().flatten() {
            let key = key.as_str().unwrap_or_default();
            let entry = topic.config().iter().find(|entry| entry.name() == key);
            config.insert(key.into(), json!(entry.map(|e| e.value())));
            sources.insert(key.into(), json!(entry.map(|e| e.source().kafka_name())));
        }
        let mut seen = one("config", Value::Object(config));
        seen.insert("sources".into(), Value::Object(sources));
        Ok(seen)
    }

    fn list_offsets(&mut self, step: &Value) -> Seen {
        let spec = match step.get("spec") {
            Some(Value::String(name)) if name == "earliest" => OffsetSpec::Earliest,
            Some(Value::String(name)) if name == "latest" => OffsetSpec::Latest,
            Some(Value::String(name)) if name == "max_timestamp" => OffsetSpec::MaxTimestamp,
            Some(Value::String(time)) if time.parse::<i64>().is_ok() => {
                OffsetSpec::Timestamp(time.parse().unwrap_or(0))
            }
            Some(value) if value.is_i64() => OffsetSpec::Timestamp(value.as_i64().unwrap_or(0)),
            other => return Err(not_built(&format!("the spec {other:?}"))),
        };
        let found = self.broker.admin().list_offsets(
            text(step, "topic"),
            number32(step, "partition").unwrap_or(0),
            spec,
            isolation(step),
        )?;
        let mut seen = one("offset", json!(found.offset().unwrap_or(-1)));
        seen.insert("timestamp".into(), self.around_clock(found.timestamp().unwrap_or(-1)));
        Ok(seen)
    }

    fn around_clock(&self, timestamp: i64) -> Value {
        if (timestamp - self.now().wall_ms).abs() < AROUND_CLOCK_MS {
            return json!("clock");
        }
        json!(timestamp)
    }

    fn describe_group(&mut self, step: &Value) -> Seen {
        let group = text(step, "group");
        self.until(step, |world| {
            // A group that is not there has the name of the error in the place of a state.
            Some(match world.broker.admin().describe_group(group) {
                Ok(described) => described.state().to_owned(),
                Err(error) => error.kafka_name().to_owned(),
            })
        });
        let described = self.broker.admin().describe_group(group)?;
        let mut members = BTreeMap::new();
        let mut instances = Map::new();
        for member in described.members() {
            let mut name = self.actor_of(member.client_id());
            while members.contains_key(&name) {
                name.push('+');
            }
            if let Some(instance) = member.group_instance_id() {
                instances.insert(name.clone(), json!(instance));
            }
            members.insert(name, show_partitions(member.assignment()));
        }
        let mut seen = one("state", json!(described.state()));
        seen.insert("assignor".into(), json!(described.assignor()));
        seen.insert("members".into(), json!(members));
        if !instances.is_empty() {
            seen.insert("instances".into(), Value::Object(instances));
        }
        Ok(seen)
    }

    fn list_groups(&mut self) -> Seen {
        let mut groups: Vec<Value> = Vec::new();
        for group in self.broker.admin().list_groups()? {
            groups.push(json!({
                "group": group.group_id(),
                "type": group.group_type(),
                "protocol": group.protocol_type(),
                "state": group.state(),
            }));
        }
        groups.sort_by_key(|group| text(group, "group").to_owned());
        Ok(one("groups", Value::from(groups)))
    }

    fn list_group_offsets(&mut self, step: &Value) -> Seen {
        let offsets = self.broker.admin().list_group_offsets(text(step, "group"))?;
        let mut metadata = BTreeMap::new();
        let mut pairs = Vec::new();
        for (partition, committed) in &offsets {
            pairs.push((partition.clone(), json!(committed.offset())));
            if !committed.metadata().is_empty() {
                metadata.insert(partition.to_string(), show_metadata(committed.metadata()));
            }
        }
        let mut seen = one("offsets", show_map(pairs));
        if !metadata.is_empty() {
            seen.insert("metadata".into(), json!(metadata));
        }
        Ok(seen)
    }

    /// Every record of a topic from its beginning to the end that this isolation sees.
    pub(super) fn read_topic(&mut self, step: &Value) -> Seen {
        let topic = text(step, "topic");
        // A topic that is not there has no partitions, and nothing to read is refused by the poll.
        let described = self.broker.admin().describe_topic(topic);
        let count = described.map_or(0, |described| described.partition_count());
        let config = ConsumerConfig::without_group()
            .auto_offset_reset(OffsetReset::Earliest)
            .isolation_level(isolation(step));
        let mut reader = self.broker.consumer(config)?;
        let partitions: Vec<TopicPartition> =
            (0..count).map(|p| TopicPartition::new(topic, p)).collect();
        reader.assign(&partitions)?;
        let ends = reader.end_offsets(&partitions)?;
        let mut found = Vec::new();
        let mut is_done = false;
        while !is_done {
            for record in &reader.poll(Duration::ZERO)? {
                let tp = TopicPartition::new(record.topic(), record.partition());
                let headers = headers_of(&record);
                let shown =
                    show_record(&tp, record.offset(), record.key(), record.value(), &headers);
                found.push(((record.partition(), record.offset()), record.timestamp(), shown));
            }
            is_done =
                !partitions.iter().any(|tp| reader.position(tp).is_ok_and(|at| at < ends[tp]));
        }
        found.sort_by_key(|(place, _, _)| *place);
        let records: Vec<Value> = found.iter().map(|(_, _, shown)| shown.clone()).collect();
        let mut seen = one("records", Value::from(records));
        seen.insert("end".into(), show_map(ends.into_iter().map(|(tp, end)| (tp, json!(end)))));
        if step.get("timestamps").is_some() {
            let timestamps: Vec<i64> = found.iter().map(|(_, timestamp, _)| *timestamp).collect();
            seen.insert("timestamps".into(), json!(timestamps));
        }
        Ok(seen)
    }
}

/// The headers of a record, owned.
pub(super) fn headers_of(record: &topiclite::ConsumerRecord<'_>) -> Vec<(String, Option<Vec<u8>>)> {
    record
        .headers()
        .iter()
        .map(|header| (header.name().into_owned(), header.value().map(<[u8]>::to_vec)))
        .collect()
}

fn isolation(step: &Value) -> IsolationLevel {
    match text(step, "isolation") {
        "read_committed" => IsolationLevel::ReadCommitted,
        _ => IsolationLevel::ReadUncommitted,
    }
}

fn one(key: &str, value: Value) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), value)])
}
