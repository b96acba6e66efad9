//! Compares what a step saw with what is recorded.
//!
//! Outcomes of sends are compared in order at the next `flush`, `commit`, `abort` or `close` of
//! the producer, not per step: an inline engine calls back earlier than Kafka does.

use super::events::is_sent;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Steps at which a producer has told all its outcomes.
const SENT_ENDS_AT: &[&str] = &["flush", "commit", "abort", "close", "callbacks"];

/// Expected and seen outcomes of sends that wait for their comparison.
#[derive(Debug, Default)]
pub(super) struct Expected {
    recorded: BTreeMap<String, Vec<Value>>,
    seen: BTreeMap<String, Vec<Value>>,
}

impl Expected {
    /// `Err` tells the first difference.
    pub(super) fn compare(
        &mut self,
        step: &Value,
        recorded: &Value,
        seen: &Value,
    ) -> Result<(), String> {
        let mut recorded = recorded.as_object().cloned().unwrap_or_default();
        let mut seen = seen.as_object().cloned().unwrap_or_default();
        let ignore_empty = step.get("ignore_empty").and_then(Value::as_bool) == Some(true);
        let ignore_all = step.get("ignore_events").and_then(Value::as_bool) == Some(true);
        take_sent(&mut recorded, &mut self.recorded);
        take_sent(&mut seen, &mut self.seen);
        for side in [&mut recorded, &mut seen] {
            tidy_events(side, ignore_empty, ignore_all);
        }
        let doing = step.get("do").and_then(Value::as_str).unwrap_or_default();
        if SENT_ENDS_AT.contains(&doing)
            && let Some(actor) = step.get("by").and_then(Value::as_str)
        {
            let recorded = self.recorded.remove(actor).unwrap_or_default();
            let seen = self.seen.remove(actor).unwrap_or_default();
            if recorded != seen {
                return Err(difference(&Value::from(recorded), &Value::from(seen)));
            }
        }
        if recorded == seen {
            return Ok(());
        }
        Err(difference(&Value::Object(recorded), &Value::Object(seen)))
    }
}

fn difference(recorded: &Value, seen: &Value) -> String {
    format!("recorded {recorded}, seen {seen}")
}

/// Moves the outcomes of sends out of a step's events.
fn take_sent(side: &mut Map<String, Value>, waiting: &mut BTreeMap<String, Vec<Value>>) {
    let Some(events) = side.get_mut("events").and_then(Value::as_object_mut) else { return };
    for (actor, list) in events.iter_mut() {
        let Some(list) = list.as_array_mut() else { continue };
        let (sent, rest): (Vec<Value>, Vec<Value>) =
            std::mem::take(list).into_iter().partition(is_sent);
        *list = rest;
        if !sent.is_empty() {
            waiting.entry(actor.clone()).or_default().extend(sent);
        }
    }
}

/// Drops what a step is told not to look at, and lists without an event.
fn tidy_events(side: &mut Map<String, Value>, ignore_empty: bool, ignore_all: bool) {
    let Some(events) = side.get_mut("events").and_then(Value::as_object_mut) else { return };
    for list in events.values_mut() {
        let Some(list) = list.as_array_mut() else { continue };
        list.retain(|event| {
            let kind = event.get(0).and_then(Value::as_str).unwrap_or_default();
            let membership = matches!(kind, "assigned" | "revoked" | "lost");
            let empty = event.get(1).and_then(Value::as_array).is_some_and(Vec::is_empty);
            !(ignore_all || ignore_empty && membership && empty)
        });
    }
    events.retain(|_, list| list.as_array().is_some_and(|list| !list.is_empty()));
    if events.is_empty() {
        side.remove("events");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn outcomes_of_sends_are_compared_in_order_at_the_flush() {
        let mut expected = Expected::default();
        let none = json!({});
        let sent = json!({"events": {"p": [["sent", "t-0", 0, null]]}});
        let send = json!({"do": "send_async", "by": "p"});
        let flush = json!({"do": "flush", "by": "p"});
        expected.compare(&send, &none, &sent).unwrap();
        expected.compare(&flush, &sent, &none).unwrap();
        expected.compare(&send, &none, &sent).unwrap();
        assert!(expected.compare(&flush, &none, &none).is_err());
    }

    #[test]
    fn empty_assignments_count_unless_the_step_ignores_them() {
        let mut expected = Expected::default();
        let seen = json!({"events": {"a": [["assigned", []]]}});
        let strict = json!({"do": "settle"});
        let lenient = json!({"do": "settle", "ignore_empty": true});
        assert!(expected.compare(&strict, &json!({}), &seen).is_err());
        expected.compare(&lenient, &json!({}), &seen).unwrap();
    }

    #[test]
    fn a_different_outcome_is_told_with_both_sides() {
        let told = Expected::default()
            .compare(&json!({"do": "poll"}), &json!({"records": [1]}), &json!({"records": []}))
            .unwrap_err();
        assert_eq!(told, r#"recorded {"records":[1]}, seen {"records":[]}"#);
    }
}
