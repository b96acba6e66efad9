//! What an actor may do in a step and inside a callback alike, and the listener that tells events
//! and runs the actions a scenario puts into callbacks.

use super::events::Events;
use super::script::text_of;
use super::values::{
    Thrown, partition_of, partitions_of, show_error, show_map, show_metadata, show_partitions,
};
use super::world::{not_built, number, text};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use topiclite::time::VirtualClock;
use topiclite::{
    Consumer, ConsumerContext, GroupMetadata, ListenerError, OffsetAndMetadata, OffsetAndTimestamp,
    RebalanceListener, TopicPartition, WakeupHandle,
};
use topiclite::{Error, ErrorKind, Result};

type Offsets = BTreeMap<TopicPartition, OffsetAndMetadata>;
type CommitOutcome = Box<dyn FnOnce(&Offsets, Result<()>) + Send>;

macro_rules! acts {
    ($($(#[$doc:meta])* fn $name:ident(&mut self $(, $arg:ident: $type:ty)*) -> $out:ty;)*) => {
        /// The calls that a consumer allows both outside and inside a callback.
        pub(super) trait Acts {
            $(fn $name(&mut self $(, $arg: $type)*) -> $out;)*
            fn commit_async_told(&mut self, offsets: Option<Offsets>, told: CommitOutcome)
                -> Result<()>;
        }

        impl Acts for Consumer {
            $(fn $name(&mut self $(, $arg: $type)*) -> $out { Consumer::$name(self $(, $arg)*) })*
            fn commit_async_told(&mut self, offsets: Option<Offsets>, told: CommitOutcome)
                -> Result<()> {
                match offsets {
                    Some(offsets) => self.commit_async_offsets(offsets, told),
                    None => self.commit_async_with(told),
                }
            }
        }

        impl Acts for ConsumerContext<'_> {
            $(fn $name(&mut self $(, $arg: $type)*)
                -> $out { ConsumerContext::$name(self $(, $arg)*) })*
            fn commit_async_told(&mut self, offsets: Option<Offsets>, told: CommitOutcome)
                -> Result<()> {
                match offsets {
                    Some(offsets) => self.commit_async_offsets(offsets, told),
                    None => self.commit_async_with(told),
                }
            }
        }
    };
}

acts! {
    fn commit_sync(&mut self) -> Result<()>;
    fn commit_sync_offsets(&mut self, offsets: &Offsets) -> Result<()>;
    fn position(&mut self, partition: &TopicPartition) -> Result<i64>;
    fn committed(&mut self, partitions: &[TopicPartition])
        -> Result<BTreeMap<TopicPartition, Option<OffsetAndMetadata>>>;
    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<()>;
    fn seek_to_beginning(&mut self, partitions: &[TopicPartition]) -> Result<()>;
    fn seek_to_end(&mut self, partitions: &[TopicPartition]) -> Result<()>;
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()>;
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()>;
    fn paused(&mut self) -> Result<BTreeSet<TopicPartition>>;
    fn assignment(&mut self) -> Result<BTreeSet<TopicPartition>>;
    fn subscription(&mut self) -> Result<BTreeSet<Arc<str>>>;
    fn assign(&mut self, partitions: &[TopicPartition]) -> Result<()>;
    fn beginning_offsets(&mut self, partitions: &[TopicPartition])
        -> Result<BTreeMap<TopicPartition, i64>>;
    fn end_offsets(&mut self, partitions: &[TopicPartition])
        -> Result<BTreeMap<TopicPartition, i64>>;
    fn offsets_for_times(&mut self, times: &BTreeMap<TopicPartition, i64>)
        -> Result<BTreeMap<TopicPartition, Option<OffsetAndTimestamp>>>;
    fn current_lag(&mut self, partition: &TopicPartition) -> Result<Option<i64>>;
    fn enforce_rebalance(&mut self) -> Result<()>;
    fn group_metadata(&mut self) -> Result<GroupMetadata>;
    fn wakeup_handle(&mut self) -> WakeupHandle;
}

/// What a step needs beside the consumer.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) actor: String,
    pub(super) events: Events,
    pub(super) clock: VirtualClock,
    /// The generation that `group_metadata` told last.
    pub(super) last_generation: SharedGeneration,
}

/// A generation that a step and a callback of one actor both compare with.
pub(super) type SharedGeneration = Arc<AtomicI32>;

/// A step that may stand in a callback; `None` if it is not one of those.
pub(super) fn act(
    consumer: &mut impl Acts,
    around: &Surroundings,
    step: &Value,
) -> Option<Result<Map<String, Value>>> {
    let partitions = || partitions_of(step.get("partitions"));
    Some(match text(step, "do") {
        "commit_sync" => match offsets_of(step) {
            Ok(Some(offsets)) => nothing(consumer.commit_sync_offsets(&offsets)),
            Ok(None) => nothing(consumer.commit_sync()),
            Err(error) => Err(error),
        },
        "commit_async" => commit_async(consumer, around, step),
        "position" => positions(consumer, &partitions()),
        "committed" => consumer.committed(&partitions()).map(|found| show_committed(&found)),
        "seek" => {
            let partition = partition_of(text(step, "partition"));
            nothing(consumer.seek(&partition, number(step, "offset").unwrap_or(0)))
        }
        "seek_to_beginning" => nothing(consumer.seek_to_beginning(&partitions())),
        "seek_to_end" => nothing(consumer.seek_to_end(&partitions())),
        "pause" => nothing(consumer.pause(&partitions())),
        "resume" => nothing(consumer.resume(&partitions())),
        "assign" => nothing(consumer.assign(&partitions())),
        "paused" => consumer.paused().map(|list| one("partitions", show_partitions(&list))),
        "assignment" => consumer.assignment().map(|list| one("partitions", show_partitions(&list))),
        "subscription" => consumer.subscription().map(|topics| {
            one("topics", json!(topics.iter().map(|t| t.to_string()).collect::<Vec<_>>()))
        }),
        "beginning_offsets" => {
            consumer.beginning_offsets(&partitions()).map(|found| one("offsets", numbers(found)))
        }
        "end_offsets" => {
            consumer.end_offsets(&partitions()).map(|found| one("offsets", numbers(found)))
        }
        "offsets_for_times" => offsets_for_times(consumer, step),
        "lag" => consumer
            .current_lag(&partition_of(text(step, "partition")))
            .map(|lag| one("lag", json!(lag))),
        "enforce_rebalance" => nothing(consumer.enforce_rebalance()),
        "group_metadata" => group_metadata(consumer, &around.last_generation),
        "wakeup" => {
            consumer.wakeup_handle().wakeup();
            Ok(Map::new())
        }
        _ => return None,
    })
}

fn nothing(outcome: Result<()>) -> Result<Map<String, Value>> {
    outcome.map(|()| Map::new())
}

fn one(key: &str, value: Value) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), value)])
}

fn numbers(found: BTreeMap<TopicPartition, i64>) -> Value {
    show_map(found.into_iter().map(|(partition, offset)| (partition, json!(offset))))
}

/// The offsets of a commit with their metadata, if the step names any.
pub(super) fn offsets_of(step: &Value) -> Result<Option<Offsets>> {
    let Some(given) = step.get("offsets").and_then(Value::as_object) else { return Ok(None) };
    let mut offsets = Offsets::new();
    for (name, offset) in given {
        let of = |key: &str| match step.get(key) {
            Some(Value::Object(each)) => each.get(name).cloned(),
            other => other.cloned(),
        };
        let metadata = match (step.get("metadata_length"), of("metadata")) {
            (Some(_), _) => {
                let length = of("metadata_length").and_then(|n| n.as_u64()).unwrap_or(0);
                "m".repeat(usize::try_from(length).unwrap_or(0))
            }
            (None, Some(text)) => text_of(&text),
            (None, None) => String::new(),
        };
        let offset = offset.as_i64().unwrap_or(0);
        if offset < 0 {
            return Err(Error::new(ErrorKind::IllegalArgument, "an offset is not negative"));
        }
        offsets.insert(partition_of(name), OffsetAndMetadata::new(offset).metadata(metadata));
    }
    Ok(Some(offsets))
}

fn commit_async(
    consumer: &mut impl Acts,
    around: &Surroundings,
    step: &Value,
) -> Result<Map<String, Value>> {
    let (events, actor) = (around.events.clone(), around.actor.clone());
    let tag = step.get("tag").cloned();
    let told = Box::new(move |offsets: &Offsets, outcome: Result<()>| {
        let offsets = offsets.iter().map(|(tp, o)| (tp.clone(), json!(o.offset())));
        let mut event = vec![
            json!("committed"),
            show_map(offsets),
            outcome.map_or_else(|error| json!(error.kafka_name()), |()| Value::Null),
        ];
        event.extend(tag);
        events.tell(&actor, Value::from(event));
    });
    nothing(consumer.commit_async_told(offsets_of(step)?, told))
}

fn positions(
    consumer: &mut impl Acts,
    partitions: &[TopicPartition],
) -> Result<Map<String, Value>> {
    let mut found = Vec::new();
    for partition in partitions {
        found.push((partition.clone(), json!(consumer.position(partition)?)));
    }
    Ok(one("offsets", show_map(found)))
}

/// Committed offsets, null where there is none, and the texts that were stored with them.
pub(super) fn show_committed(
    found: &BTreeMap<TopicPartition, Option<OffsetAndMetadata>>,
) -> Map<String, Value> {
    let texts: Vec<_> = found
        .iter()
        .filter_map(|(tp, o)| Some((tp.clone(), o.as_ref()?.text())))
        .filter(|(_, text)| !text.is_empty())
        .map(|(tp, text)| (tp, show_metadata(text)))
        .collect();
    let offsets = found.iter().map(|(tp, o)| (tp.clone(), json!(o.as_ref().map(|o| o.offset()))));
    let mut seen = one("offsets", show_map(offsets));
    if !texts.is_empty() {
        seen.insert("metadata".into(), show_map(texts));
    }
    seen
}

fn offsets_for_times(consumer: &mut impl Acts, step: &Value) -> Result<Map<String, Value>> {
    let times = step.get("times").and_then(Value::as_object);
    let times: BTreeMap<TopicPartition, i64> = times
        .into_iter()
        .flatten()
        .map(|(name, time)| (partition_of(name), time.as_i64().unwrap_or(0)))
        .collect();
    let found = consumer.offsets_for_times(&times)?;
    let shown = found.into_iter().map(|(partition, found)| {
        let shown = found.map_or(Value::Null, |f| json!([f.offset(), f.timestamp()]));
        (partition, shown)
    });
    Ok(one("offsets", show_map(shown)))
}

fn group_metadata(consumer: &mut impl Acts, last: &AtomicI32) -> Result<Map<String, Value>> {
    let metadata = consumer.group_metadata()?;
    let generation = metadata.generation_id();
    let before = last.swap(generation, Ordering::Relaxed);
    let word = match generation {
        -1 => "none",
        g if g == before => "same",
        g if g > before => "raised",
        _ => "lowered",
    };
    let mut seen = one("generation", json!(word));
    seen.insert("has_member_id".into(), json!(!metadata.member_id().is_empty()));
    Ok(seen)
}

/// Tells what the group does to an actor, and runs the actions of its scenario.
pub(super) struct Listener {
    around: Surroundings,
    /// Each action, and how often it ran.
    actions: Vec<(Value, u64)>,
}

impl Listener {
    pub(super) fn new(around: Surroundings, actions: &[Value]) -> Listener {
        let actions = actions.iter().map(|action| (action.clone(), 0)).collect();
        Listener { around, actions }
    }

    fn told(
        &mut self,
        consumer: &mut ConsumerContext<'_>,
        what: &str,
        partitions: &[TopicPartition],
    ) -> std::result::Result<(), ListenerError> {
        let around = self.around.clone();
        around.events.tell(&around.actor, json!([what, show_partitions(partitions)]));
        for (action, runs) in &mut self.actions {
            let also_empty = action.get("also_empty").and_then(Value::as_bool) == Some(true);
            let limit = action.get("times").and_then(Value::as_u64).unwrap_or(u64::MAX);
            if text(action, "on") != what || partitions.is_empty() && !also_empty || *runs >= limit
            {
                continue;
            }
            *runs += 1;
            match text(action, "do") {
                "throw" => return Err(thrown(text(action, "error"))),
                "sleep" => {
                    let ms = action.get("ms").and_then(Value::as_u64).unwrap_or(0);
                    around.clock.advance(Duration::from_millis(ms));
                }
                other => {
                    let seen = act(consumer, &around, action)
                        .unwrap_or_else(|| Err(not_built(&format!("the action {other}"))));
                    let seen = seen.map_or_else(|error| show_error(&error), Value::Object);
                    around.events.tell(&around.actor, json!([format!("in_{what}"), seen]));
                }
            }
        }
        Ok(())
    }
}

/// What a `throw` action throws: Kafka's own exception, or any other.
fn thrown(name: &str) -> ListenerError {
    match name {
        "KafkaException" => Box::new(Error::new(ErrorKind::Kafka, "thrown by the scenario")),
        "" => Box::new(Thrown("RuntimeException".to_owned())),
        other => Box::new(Thrown(other.to_owned())),
    }
}

impl RebalanceListener for Listener {
    fn on_partitions_revoked(
        &mut self,
        consumer: &mut ConsumerContext<'_>,
        partitions: &[TopicPartition],
    ) -> std::result::Result<(), ListenerError> {
        self.told(consumer, "revoked", partitions)
    }

    fn on_partitions_assigned(
        &mut self,
        consumer: &mut ConsumerContext<'_>,
        partitions: &[TopicPartition],
    ) -> std::result::Result<(), ListenerError> {
        self.told(consumer, "assigned", partitions)
    }

    fn on_partitions_lost(
        &mut self,
        consumer: &mut ConsumerContext<'_>,
        partitions: &[TopicPartition],
    ) -> std::result::Result<(), ListenerError> {
        self.told(consumer, "lost", partitions)
    }
}
