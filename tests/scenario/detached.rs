//! Steps that nobody waits for: a poll or a drain goes on while others take their steps.
//!
//! On one thread it does so in turns, polls of no time, before and after each step and as time
//! passes. Whatever else is detached never waits for others here, and is made at once.

use super::settle::sorted;
use super::values::show_error;
use super::world::{World, millis, not_built, number, text};
use serde_json::{Map, Value, json};
use std::time::Duration;
use topiclite::Result;

/// How much time passes between two turns.
const TURN: Duration = Duration::from_millis(20);
/// How long a `drain` waits for its count.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// Turns without an outcome: a member's exchanges with its group are not seen from outside.
const TURNS: usize = 5;

/// A step that is under way.
pub(super) struct Detached {
    actor: String,
    drains: bool,
    /// How many records are enough.
    enough: usize,
    /// How long it goes on: a poll from its beginning, a drain from its last record.
    patience: Duration,
    since: Duration,
    records: Vec<Value>,
    /// What it came to.
    saw: Option<Map<String, Value>>,
}

impl World {
    /// Begins a detached step.
    pub(super) fn detach(&mut self, doing: &str, actor: &str, step: &Value) {
        let drains = doing == "drain";
        let mut begun = Detached {
            actor: actor.to_owned(),
            drains,
            enough: usize::try_from(number(step, "count").unwrap_or(0)).unwrap_or(0),
            patience: millis(step, "ms").unwrap_or(if drains { DRAIN_LIMIT } else { TURN }),
            since: self.now().mono,
            records: Vec::new(),
            saw: None,
        };
        if drains && begun.enough == 0 {
            begun.enough = usize::MAX;
        }
        if !drains && doing != "poll" {
            begun.saw = Some(match self.actor_step(doing, actor, step) {
                Ok(seen) => seen,
                Err(error) => show_error(&error).as_object().cloned().unwrap_or_default(),
            });
        }
        self.detached.insert(actor.to_owned(), begun);
        self.turn_detached();
    }

    /// Gives a turn to every step that is under way.
    pub(super) fn turn_detached(&mut self) {
        for _ in 0..TURNS {
            for mut under_way in std::mem::take(&mut self.detached).into_values() {
                if under_way.saw.is_none() {
                    let polled = self.poll_records(&under_way.actor, Duration::ZERO);
                    under_way.take(polled, self.now().mono);
                }
                self.detached.insert(under_way.actor.clone(), under_way);
            }
        }
    }

    /// Lets time pass, in which detached steps go on.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now().mono + time;
        while self.detached.values().any(|one| one.saw.is_none()) && self.now().mono < end {
            self.clock.advance(TURN.min(end - self.now().mono));
            self.turn_detached();
        }
        let rest = end.saturating_sub(self.now().mono);
        if !rest.is_zero() {
            self.clock.advance(rest);
        }
    }

    /// Waits until an actor has its hands free.
    pub(super) fn wait_for(&mut self, actor: &str) {
        while self.detached.get(actor).is_some_and(|one| one.saw.is_none()) {
            self.pass(TURN);
        }
    }

    /// Waits for the step of an actor, and tells what it saw.
    pub(super) fn finish_detached(&mut self, step: &Value) -> Result<Map<String, Value>> {
        let actor = text(step, "by");
        self.wait_for(actor);
        let ended = self.detached.remove(actor).and_then(|one| one.saw);
        ended.ok_or_else(|| not_built("a step to wait for that was not detached"))
    }
}

impl Detached {
    fn take(&mut self, polled: Result<Vec<Value>>, now: Duration) {
        let came = match polled {
            Ok(came) => came,
            Err(error) => {
                self.saw = Some(show_error(&error).as_object().cloned().unwrap_or_default());
                return;
            }
        };
        let some = !came.is_empty();
        if some && self.drains {
            self.since = now;
        }
        self.records.extend(came);
        let ends = if self.drains { self.records.len() >= self.enough } else { some };
        if ends || now.saturating_sub(self.since) >= self.patience {
            let records = sorted(&self.records);
            self.saw = Some(Map::from_iter([("records".to_owned(), json!(records))]));
        }
    }
}
