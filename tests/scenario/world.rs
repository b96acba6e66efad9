//! The broker, the clock and the actors of one replay, and the dispatch of its steps.

use super::consuming::ConsumerActor;
use super::detached::Detached;
use super::events::Events;
use super::producing::ProducerActor;
use super::script::{NodeProperties, Scenario, text_of};
use super::values::show_error;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use topiclite::time::{Now, VirtualClock};
use topiclite::{Broker, BrokerOptions, GroupMetadata};
use topiclite::{BrokerConfig, TopicConfig};
use topiclite::{Error, ErrorKind, Result};

/// Steps that tell no events: what was called meanwhile is told by the next step that does.
const QUIET: &[&str] = &[
    "commit_async",
    "sleep",
    "stall",
    "assignment",
    "subscription",
    "paused",
    "group_metadata",
    "lag",
    "describe_group",
    "list_group_offsets",
    "list_groups",
];

/// Everything one replay works on.
pub(super) struct World {
    pub(super) broker: Broker,
    pub(super) clock: VirtualClock,
    pub(super) events: Events,
    pub(super) producers: BTreeMap<String, ProducerActor>,
    pub(super) consumers: BTreeMap<String, ConsumerActor>,
    /// Consumers whose actor was opened anew: nobody uses them, and they stay members.
    pub(super) left_open: Vec<ConsumerActor>,
    /// Steps that nobody waited for, by actor.
    pub(super) detached: BTreeMap<String, Detached>,
    /// What `hold_metadata` kept, by actor.
    pub(super) held_metadata: BTreeMap<String, GroupMetadata>,
    /// Actor -> kind and configuration, as the scenario's head gives them.
    cast: BTreeMap<String, (String, Map<String, Value>)>,
}

impl World {
    pub(super) fn new(scenario: &Scenario, node: &NodeProperties) -> Result<World> {
        let mut clock = VirtualClock::stepping();
        if let Some(newest) = scenario.newest_timestamp
            && newest > clock.now().wall_ms
        {
            clock = clock.starting_at(newest);
        }
        let mut pairs: Vec<(String, String)> = node.pairs().to_vec();
        pairs.retain(|(key, _)| !scenario.broker.contains_key(key));
        pairs.extend(scenario.broker.iter().map(|(key, value)| (key.clone(), text_of(value))));
        // Kafka's defaults, which the recordings were made under unless their node says otherwise.
        let defaults = [
            ("auto.create.topics.enable", "true"),
            ("log.flush.interval.ms", "9223372036854775807"),
            ("offsets.topic.segment.bytes", "104857600"),
            ("transaction.state.log.segment.bytes", "104857600"),
        ];
        for (key, default) in defaults {
            if !pairs.iter().any(|(known, _)| known == key) {
                pairs.push((key.into(), default.into()));
            }
        }
        let config = BrokerConfig::from_properties(pairs)?;
        let broker =
            BrokerOptions::new().config(config).clock(clock.clock()).seed(1).in_memory()?;
        let mut world = World {
            broker,
            clock,
            events: Events::default(),
            producers: BTreeMap::new(),
            consumers: BTreeMap::new(),
            left_open: Vec::new(),
            detached: BTreeMap::new(),
            held_metadata: BTreeMap::new(),
            cast: BTreeMap::new(),
        };
        for (name, actor) in &scenario.actors {
            let kind = actor.get("kind").and_then(Value::as_str).unwrap_or_default();
            let config = actor.get("config").and_then(Value::as_object).cloned();
            world.cast.insert(name.clone(), (kind.to_owned(), config.unwrap_or_default()));
        }
        for topic in &scenario.topics {
            let name = topic.get("name").and_then(Value::as_str).unwrap_or_default();
            let partitions = topic.get("partitions").and_then(Value::as_i64).unwrap_or(1);
            let config = topic_config(topic.get("config"))?;
            world.broker.admin().create_topic(
                name,
                i32::try_from(partitions).unwrap_or(1),
                config,
            )?;
        }
        Ok(world)
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Runs one step; what it saw, in the form of the recordings.
    pub(super) fn step(&mut self, step: &Value) -> Value {
        let doing = text(step, "do").to_owned();
        self.turn_detached();
        let outcome = self.act(&doing, step);
        self.turn_detached();
        let mut seen = match outcome {
            Ok(seen) => seen,
            Err(error) => show_error(&error).as_object().cloned().unwrap_or_default(),
        };
        let mut told =
            if QUIET.contains(&doing.as_str()) { BTreeMap::new() } else { self.events.take() };
        if let Some(actor) = step.get("by").and_then(Value::as_str) {
            let sent = self.events.take_sent(actor);
            if !sent.is_empty() {
                told.entry(actor.to_owned()).or_default().extend(sent);
            }
        }
        if !told.is_empty() {
            seen.insert("events".into(), json!(told));
        }
        Value::Object(seen)
    }

    fn act(&mut self, doing: &str, step: &Value) -> Result<Map<String, Value>> {
        if let Some(seen) = self.admin_step(doing, step) {
            return seen;
        }
        match doing {
            // Nobody does anything in a `stall`, and whoever is said to has its heartbeats made.
            "sleep" | "stall" => {
                self.pass(millis(step, "ms").unwrap_or_default());
                return Ok(Map::new());
            }
            "await" => return self.finish_detached(step),
            "settle" => return self.settle(step),
            "read" => return self.read_topic(step),
            _ => {}
        }
        let actor = text(step, "by").to_owned();
        if doing != "wakeup" {
            self.wait_for(&actor);
        }
        if step.get("detached").and_then(Value::as_bool) == Some(true) {
            self.role(&actor)?;
            self.detach(doing, &actor, step);
            return Ok(Map::new());
        }
        self.actor_step(doing, &actor, step)
    }

    /// A step that an actor makes itself.
    pub(super) fn actor_step(
        &mut self,
        doing: &str,
        actor: &str,
        step: &Value,
    ) -> Result<Map<String, Value>> {
        let kind = self.role(actor)?.0.clone();
        match kind.as_str() {
            "producer" => self.producer_step(doing, actor, step),
            "consumer" => self.consumer_step(doing, actor, step),
            other => Err(not_built(&format!("an actor of kind {other}"))),
        }
    }

    /// The kind and the configuration of an actor.
    pub(super) fn role(&self, actor: &str) -> Result<&(String, Map<String, Value>)> {
        self.cast.get(actor).ok_or_else(|| not_built(&format!("an actor named {actor}")))
    }

    /// The actor's configuration. The changes of an `open` step are made for good.
    pub(super) fn settings(&mut self, actor: &str, step: &Value) -> Result<Map<String, Value>> {
        self.role(actor)?;
        let config = self.cast.get_mut(actor).map(|(_, config)| config);
        let Some(config) = config else { return Ok(Map::new()) };
        if text(step, "do") == "open" {
            for (key, value) in step.get("config").and_then(Value::as_object).into_iter().flatten()
            {
                config.insert(key.clone(), value.clone());
            }
        }
        config.retain(|_, value| !value.is_null());
        Ok(config.clone())
    }

    /// The actor whose clients have this id.
    pub(super) fn actor_of(&self, client_id: &str) -> String {
        let mut actors = self.cast.iter().rev();
        let found = actors.find(|(name, (_, config))| {
            let own = config.get("client.id").map_or_else(|| (*name).clone(), text_of);
            own == client_id
        });
        found.map_or_else(|| client_id.to_owned(), |(name, _)| name.clone())
    }
}

/// A step, a field or a kind that this interpreter does not know.
pub(super) fn not_built(what: &str) -> Error {
    Error::new(ErrorKind::UnsupportedVersion, format!("the interpreter does not know {what}"))
        .with_kafka_name("NOT_BUILT")
}

/// A text field, empty where it is missing.
pub(super) fn text<'a>(step: &'a Value, key: &str) -> &'a str {
    step.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A number field.
pub(super) fn number(step: &Value, key: &str) -> Option<i64> {
    step.get(key).and_then(Value::as_i64)
}

/// A number field as a 32-bit number.
pub(super) fn number32(step: &Value, key: &str) -> Option<i32> {
    number(step, key).and_then(|n| i32::try_from(n).ok())
}

/// A field of milliseconds.
pub(super) fn millis(step: &Value, key: &str) -> Option<Duration> {
    number(step, key).and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis)
}

/// The overrides of a `config` field.
///
/// # Errors
/// What the topic's settings refuse.
pub(super) fn topic_config(value: Option<&Value>) -> Result<TopicConfig> {
    let mut config = TopicConfig::default();
    for (key, value) in value.and_then(Value::as_object).into_iter().flatten() {
        if value.is_null() {
            return Err(Error::new(ErrorKind::InvalidTopicConfig, format!("{key} has no value")));
        }
        config.set(key, &text_of(value))?;
    }
    Ok(config)
}
