//! The steps of consumers.

use super::admin::headers_of;
use super::listener::{Listener, Surroundings, act, offsets_of, show_committed};
use super::script::text_of;
use super::settle::sorted;
use super::values::{partitions_of, show_record};
use super::world::{World, millis, not_built, number, text};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicI32;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use topiclite::ConsumerConfig;
use topiclite::time::{Now, TimerDriver};
use topiclite::{Consumer, TopicPartition, WakeupHandle};
use topiclite::{Error, ErrorKind, GroupMetadata, Result};

/// A consumer and what the interpreter remembers of it.
pub(super) struct ConsumerActor {
    consumer: Consumer,
    around: Surroundings,
    /// Wakeups that its steps have set.
    alarms: Vec<Arc<Alarm>>,
}

/// How long one poll of `drain` may wait.
const DRAIN_POLL: Duration = Duration::from_millis(100);
/// How long `drain` waits for its count.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// How long nothing comes to a `drain` that names neither a count nor a time.
const DRAIN_QUIET: Duration = Duration::from_secs(1);

impl World {
    pub(super) fn consumer_step(
        &mut self,
        doing: &str,
        actor: &str,
        step: &Value,
    ) -> Result<Map<String, Value>> {
        match doing {
            "open" => {
                // A closed one is gone; one that nobody closed goes on as a member.
                let former = self.consumers.remove(actor);
                self.left_open.extend(former);
                self.open_consumer(actor, step)?;
                return Ok(Map::new());
            }
            "kill" => {
                if let Some(former) = self.consumers.remove(actor) {
                    former.consumer.kill();
                }
                return Ok(Map::new());
            }
            _ => {}
        }
        self.consumer(actor, step)?;
        if let Some(after) = millis(step, "wakeup_after_ms") {
            self.ring_after(actor, after);
        }
        match doing {
            "hold_metadata" => return self.hold_metadata(actor),
            "poll" => return self.poll(actor, step),
            "drain" => return self.drain(actor, step),
            _ => {}
        }
        let actor = self.consumer(actor, step)?;
        match doing {
            "subscribe" => subscribe(actor, step),
            "unsubscribe" => actor.consumer.unsubscribe().map(|()| Map::new()),
            "close" => close(actor, step),
            _ if number(step, "ms").is_some() => within(actor, step),
            other => act(&mut actor.consumer, &actor.around, step)
                .unwrap_or_else(|| Err(not_built(&format!("the step {other} of a consumer")))),
        }
    }

    fn open_consumer(&mut self, actor: &str, step: &Value) -> Result<()> {
        let mut settings = self.settings(actor, step)?;
        let mut default = |key: &str, value: &str| {
            settings.entry(key.to_owned()).or_insert_with(|| json!(value));
        };
        default("client.id", actor);
        default("enable.auto.commit", "false");
        default("auto.offset.reset", "earliest");
        default("heartbeat.interval.ms", "100");
        let pairs = settings.iter().map(|(key, value)| (key.clone(), text_of(value)));
        let consumer = self.broker.consumer(ConsumerConfig::from_properties(pairs)?)?;
        let around = Surroundings {
            actor: actor.to_owned(),
            events: self.events.clone(),
            clock: self.clock.clone(),
            last_generation: Arc::new(AtomicI32::new(-1)),
        };
        let made = ConsumerActor { consumer, around, alarms: Vec::new() };
        self.consumers.insert(actor.to_owned(), made);
        Ok(())
    }

    /// Who a consumer is in its group.
    pub(super) fn metadata_of(&mut self, actor: &str) -> Result<GroupMetadata> {
        self.consumer(actor, &Value::Null)?.consumer.group_metadata()
    }

    fn consumer(&mut self, actor: &str, step: &Value) -> Result<&mut ConsumerActor> {
        if !self.consumers.contains_key(actor) {
            self.open_consumer(actor, step)?;
        }
        self.consumers.get_mut(actor).ok_or_else(|| not_built("a consumer that was not made"))
    }

    /// One poll; the records in the form of the recordings, by partition, then offset.
    pub(super) fn poll_records(&mut self, actor: &str, timeout: Duration) -> Result<Vec<Value>> {
        let consumer = &mut self.consumer(actor, &Value::Null)?.consumer;
        let mut found = Vec::new();
        for record in &consumer.poll(timeout)? {
            let partition = TopicPartition::new(record.topic(), record.partition());
            let headers = headers_of(&record);
            found.push(show_record(
                &partition,
                record.offset(),
                record.key(),
                record.value(),
                &headers,
            ));
        }
        Ok(found)
    }

    fn poll(&mut self, actor: &str, step: &Value) -> Result<Map<String, Value>> {
        let timeout = match number(step, "ms") {
            Some(ms) if ms < 0 => {
                return Err(Error::new(ErrorKind::IllegalArgument, "a timeout is not negative"));
            }
            _ => millis(step, "ms").unwrap_or_default(),
        };
        let start = self.now().mono;
        let records = self.poll_records(actor, timeout);
        let took = self.now().mono - start;
        let mut seen = Map::new();
        match records {
            Ok(records) => seen.insert("records".into(), sorted(&records)),
            Err(error) => return Err(error),
        };
        if step.get("timed").is_some() {
            let less = took.as_secs_f64() < 0.7 * timeout.as_secs_f64();
            seen.insert("took".into(), json!(if less { "less" } else { "all" }));
        }
        Ok(seen)
    }

    /// Polls until so many records came, or until nothing came for so long.
    fn drain(&mut self, actor: &str, step: &Value) -> Result<Map<String, Value>> {
        let count = number(step, "count").and_then(|n| usize::try_from(n).ok());
        let default = if count.is_some() { DRAIN_LIMIT } else { DRAIN_QUIET };
        let quiet = millis(step, "ms").unwrap_or(default);
        let mut last = self.now().mono;
        let mut records = Vec::new();
        loop {
            let came = self.poll_records(actor, quiet.min(DRAIN_POLL))?;
            let now = self.now().mono;
            if !came.is_empty() {
                last = now;
            }
            records.extend(came);
            if count.is_some_and(|count| records.len() >= count) || now - last >= quiet {
                return Ok(Map::from_iter([("records".to_owned(), sorted(&records))]));
            }
        }
    }

    /// Sets a wakeup. It rings also when the step is over by then.
    fn ring_after(&mut self, actor: &str, after: Duration) {
        let deadline = self.now().mono + after;
        let Some(actor) = self.consumers.get_mut(actor) else { return };
        let handle = actor.consumer.wakeup_handle();
        let alarm = Arc::new(Alarm { deadline: Mutex::new(Some(deadline)), handle });
        let driver: Arc<dyn TimerDriver> = alarm.clone();
        self.clock.clock().register(Arc::downgrade(&driver));
        actor.alarms.push(alarm);
    }

    /// What an actor owns; nothing if it is closed.
    pub(super) fn assignment_of(&mut self, actor: &str) -> BTreeSet<TopicPartition> {
        let actor = self.consumers.get_mut(actor);
        actor.and_then(|actor| actor.consumer.assignment().ok()).unwrap_or_default()
    }

    /// What an actor subscribes to; nothing if it is closed.
    pub(super) fn subscription_of(&mut self, actor: &str) -> Vec<String> {
        let actor = self.consumers.get_mut(actor);
        let topics = actor.and_then(|actor| actor.consumer.subscription().ok()).unwrap_or_default();
        topics.iter().map(|topic| topic.to_string()).collect()
    }
}

/// A wakeup at a time of the clock.
struct Alarm {
    deadline: Mutex<Option<Duration>>,
    handle: WakeupHandle,
}

impl TimerDriver for Alarm {
    fn next_deadline(&self) -> Option<Duration> {
        *self.deadline.lock().unwrap()
    }

    fn run_due(&self, now: Now) {
        let mut deadline = self.deadline.lock().unwrap();
        if deadline.is_some_and(|deadline| deadline <= now.mono) {
            *deadline = None;
            self.handle.wakeup();
        }
    }
}

fn subscribe(actor: &mut ConsumerActor, step: &Value) -> Result<Map<String, Value>> {
    if step.get("pattern").is_some() || step.get("re2j").is_some() {
        return Err(not_built("a subscription by pattern"));
    }
    // No name at all is refused as a blank one is.
    let topics = step.get("topics").and_then(Value::as_array);
    let topics: Vec<&str> =
        topics.into_iter().flatten().map(|name| name.as_str().unwrap_or_default()).collect();
    if step.get("listener").is_some_and(Value::is_null) {
        actor.consumer.subscribe(&topics)?;
        return Ok(Map::new());
    }
    let actions = step.get("listener").and_then(Value::as_array).cloned().unwrap_or_default();
    let listener = Listener::new(actor.around.clone(), &actions);
    actor.consumer.subscribe_with(&topics, listener)?;
    Ok(Map::new())
}

fn close(actor: &mut ConsumerActor, step: &Value) -> Result<Map<String, Value>> {
    if step.get("membership").is_some() {
        return Err(not_built("the membership of close"));
    }
    match number(step, "ms") {
        None => actor.consumer.close()?,
        Some(ms) if ms < 0 => {
            return Err(Error::new(ErrorKind::IllegalArgument, "a timeout is not negative"));
        }
        Some(_) => actor.consumer.close_timeout(millis(step, "ms").unwrap_or_default())?,
    }
    Ok(Map::new())
}

/// A call with a timeout of its own; only `committed` ever waits for it.
fn within(actor: &mut ConsumerActor, step: &Value) -> Result<Map<String, Value>> {
    if number(step, "ms").is_some_and(|ms| ms < 0) {
        return Err(negative_timeout(actor, step));
    }
    let timeout = millis(step, "ms").unwrap_or_default();
    if text(step, "do") == "committed" {
        let partitions = partitions_of(step.get("partitions"));
        let found = actor.consumer.committed_timeout(&partitions, timeout)?;
        return Ok(show_committed(&found));
    }
    act(&mut actor.consumer, &actor.around, step)
        .unwrap_or_else(|| Err(not_built(text(step, "do"))))
}

/// What a call with a negative timeout, which this API cannot be given, is refused for: it is
/// looked at after the consumer, its group and its assignment.
fn negative_timeout(actor: &mut ConsumerActor, step: &Value) -> Error {
    let consumer = &mut actor.consumer;
    let partitions = partitions_of(step.get("partitions"));
    let refused = match text(step, "do") {
        "commit_sync" => offsets_of(step).and_then(|_| consumer.group_metadata().map(drop)),
        "committed" => consumer.group_metadata().map(drop),
        "position" => match consumer.assignment() {
            Ok(assigned) if partitions.first().is_none_or(|tp| assigned.contains(tp)) => Ok(()),
            Ok(_) => consumer.position(&partitions[0]).map(drop),
            Err(error) => Err(error),
        },
        _ => consumer.assignment().map(drop),
    };
    let negative = || Error::new(ErrorKind::IllegalArgument, "a timeout is not negative");
    refused.err().unwrap_or_else(negative)
}
