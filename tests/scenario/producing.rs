//! The steps of producers.

use super::script::text_of;
use super::values::{bytes_of, show_error, timestamp_of};
use super::world::{World, millis, not_built, number, number32, text};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use topiclite::ProducerConfig;
use topiclite::{Error, ErrorKind, Result};
use topiclite::{Producer, ProducerRecord, RecordMetadata};

/// A producer and what is left of it after `close` or `kill`.
pub(super) struct ProducerActor {
    producer: Producer,
}

/// A record as a step gives it.
struct Given {
    topic: String,
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp: Option<i64>,
}

impl Given {
    fn of(step: &Value, now_ms: i64) -> Given {
        let value = match number(step, "value_size").and_then(|n| usize::try_from(n).ok()) {
            Some(size) => Some(vec![b'v'; size]),
            None => bytes_of(step.get("value")),
        };
        let headers = step.get("headers").and_then(Value::as_array);
        Given {
            topic: text(step, "topic").to_owned(),
            partition: number32(step, "partition"),
            key: bytes_of(step.get("key")),
            value,
            headers: headers
                .into_iter()
                .flatten()
                .map(|header| {
                    let name = header.get(0).and_then(Value::as_str).unwrap_or_default();
                    (name.to_owned(), bytes_of(header.get(1)))
                })
                .collect(),
            timestamp: timestamp_of(step.get("timestamp"), now_ms),
        }
    }

    fn record(&self) -> ProducerRecord<'_> {
        let mut record = ProducerRecord::new(self.topic.as_str());
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        if let Some(key) = &self.key {
            record = record.key(key.as_slice());
        }
        if let Some(value) = &self.value {
            record = record.value(value.as_slice());
        }
        if let Some(timestamp) = self.timestamp {
            record = record.timestamp(timestamp);
        }
        for (name, value) in &self.headers {
            record = record.header(name.as_str(), value.as_deref());
        }
        record
    }
}

impl World {
    pub(super) fn producer_step(
        &mut self,
        doing: &str,
        actor: &str,
        step: &Value,
    ) -> Result<Map<String, Value>> {
        match doing {
            "open" => {
                self.producers.remove(actor);
                self.open_producer(actor, step)?;
                Ok(Map::new())
            }
            "kill" => {
                self.producers.remove(actor);
                Ok(Map::new())
            }
            "send" => self.send(actor, step),
            "send_async" => self.send_async(actor, step),
            "send_many" => self.send_many(actor, step),
            "flush" => {
                self.producer(actor, step)?.producer.flush()?;
                Ok(Map::new())
            }
            "partitions_for" => {
                let topic = text(step, "topic");
                let found = self.producer(actor, step)?.producer.partitions_for(topic)?;
                Ok(Map::from_iter([("partitions".to_owned(), json!(found.len()))]))
            }
            "callbacks" => {
                self.clock.advance(millis(step, "ms").unwrap_or_default());
                Ok(Map::new())
            }
            "close" => {
                let producer = self.producer(actor, step)?.producer.clone();
                match number(step, "ms") {
                    Some(ms) if ms < 0 => {
                        let fault = "a timeout is not negative";
                        return Err(Error::new(ErrorKind::IllegalArgument, fault));
                    }
                    Some(_) => producer.close_timeout(millis(step, "ms").unwrap_or_default())?,
                    None => producer.close()?,
                }
                Ok(Map::new())
            }
            other => {
                let producer = self.producer(actor, step)?.producer.clone();
                self.transaction_step(other, &producer, step)
                    .unwrap_or_else(|| Err(not_built(&format!("the step {other} of a producer"))))
            }
        }
    }

    fn open_producer(&mut self, actor: &str, step: &Value) -> Result<()> {
        let settings = self.settings(actor, step)?;
        let mut pairs: Vec<(String, String)> =
            settings.iter().map(|(key, value)| (key.clone(), text_of(value))).collect();
        // The recordings were made with Kafka's default, which this crate departs from.
        if !settings.contains_key("linger.ms") {
            pairs.push(("linger.ms".into(), "5".into()));
        }
        if !settings.contains_key("client.id") {
            pairs.push(("client.id".into(), actor.into()));
        }
        let config = ProducerConfig::from_properties(pairs)?;
        let producer = self.broker.producer(config)?;
        self.producers.insert(actor.to_owned(), ProducerActor { producer });
        Ok(())
    }

    fn producer(&mut self, actor: &str, step: &Value) -> Result<&ProducerActor> {
        if !self.producers.contains_key(actor) {
            self.open_producer(actor, step)?;
        }
        self.producers.get(actor).ok_or_else(|| not_built("a producer that was not made"))
    }

    fn send(&mut self, actor: &str, step: &Value) -> Result<Map<String, Value>> {
        let now_ms = self.now().wall_ms;
        let given = Given::of(step, now_ms);
        let flush = step.get("flush").and_then(Value::as_bool) == Some(true);
        let producer = self.producer(actor, step)?.producer.clone();
        let future = match producer.send(given.record()) {
            Ok(future) => future,
            Err(refused) => {
                let mut seen = shown(&refused);
                seen.insert("thrown".into(), json!(true));
                return Ok(seen);
            }
        };
        if flush {
            producer.flush()?;
        }
        Ok(match future.wait() {
            Ok(metadata) => {
                let mut seen = show_metadata(&given.topic, &metadata);
                if step.get("want_timestamp").is_some() {
                    let kept = given.timestamp == Some(metadata.timestamp());
                    let word = if kept { "kept" } else { "clock" };
                    seen.insert("timestamp".into(), json!(word));
                }
                seen
            }
            Err(error) => shown(&error),
        })
    }

    fn send_async(&mut self, actor: &str, step: &Value) -> Result<Map<String, Value>> {
        let now_ms = self.now().wall_ms;
        let given = Given::of(step, now_ms);
        let events = self.events.clone();
        let name = actor.to_owned();
        let tag = step.get("tag").cloned();
        let flush = step.get("flush").and_then(Value::as_bool) == Some(true);
        let producer = self.producer(actor, step)?.producer.clone();
        let topic = given.topic.clone();
        let callback = move |outcome: &Result<RecordMetadata>| {
            events.tell(&name, sent_event(&topic, outcome, tag.as_ref()));
        };
        if let Err(refused) = producer.send_with(given.record(), callback) {
            return Ok(shown(&refused));
        }
        if flush {
            producer.flush()?;
        }
        Ok(Map::new())
    }

    fn send_many(&mut self, actor: &str, step: &Value) -> Result<Map<String, Value>> {
        let count = number(step, "count").unwrap_or(0);
        let prefix = |key: &str, default: &str| match step.get(key) {
            Some(Value::Null) => None,
            Some(value) => value.as_str().map(str::to_owned),
            None => Some(default.to_owned()),
        };
        let (keys, values) = (prefix("key_prefix", "k"), prefix("value_prefix", "v"));
        let mut given = Given::of(step, self.now().wall_ms);
        let flush = step.get("flush").and_then(Value::as_bool) == Some(true);
        let producer = self.producer(actor, step)?.producer.clone();
        let mut futures = Vec::new();
        for n in 0..count {
            given.key = keys.as_ref().map(|prefix| format!("{prefix}{n}").into_bytes());
            given.value = values.as_ref().map(|prefix| format!("{prefix}{n}").into_bytes());
            let future = producer.send(given.record())?;
            futures.push(future);
        }
        if flush {
            producer.flush()?;
        }
        let mut offsets = Vec::new();
        let mut partitions = BTreeSet::new();
        for future in futures {
            let metadata = future.wait()?;
            offsets.push(metadata.offset());
            partitions.insert(metadata.partition());
        }
        let mut seen = Map::new();
        if given.partition.is_some() {
            seen.insert("first".into(), json!(offsets.first()));
            seen.insert("last".into(), json!(offsets.last()));
        }
        if step.get("want_partitions").is_some() {
            seen.insert("distinct_partitions".into(), json!(partitions.len()));
        }
        Ok(seen)
    }
}

fn shown(error: &Error) -> Map<String, Value> {
    show_error(error).as_object().cloned().unwrap_or_default()
}

fn show_metadata(topic: &str, metadata: &RecordMetadata) -> Map<String, Value> {
    let mut seen = Map::new();
    seen.insert("partition".into(), json!(format!("{topic}-{}", metadata.partition())));
    seen.insert("offset".into(), json!(metadata.offset()));
    seen
}

fn sent_event(topic: &str, outcome: &Result<RecordMetadata>, tag: Option<&Value>) -> Value {
    let (partition, offset, error) = match outcome {
        Ok(metadata) => {
            // With acks=0 there is none.
            let offset = Some(metadata.offset()).filter(|offset| *offset >= 0);
            (metadata.partition(), json!(offset), Value::Null)
        }
        Err(error) => {
            let partition = error.partition().unwrap_or(-1);
            (partition, Value::Null, json!(error.kafka_name()))
        }
    };
    let mut event = vec![json!("sent"), json!(format!("{topic}-{partition}")), offset, error];
    event.extend(tag.cloned());
    Value::from(event)
}
