//! Compares what a step saw with what is recorded.
//!
//! Outcomes of sends are compared in order at the next `flush`, `commit`, `abort` or `close` of
//! the producer, not per step: an inline engine calls back earlier than Kafka does. What Kafka told
//! on the caller's thread, though, is recorded with its step and has to be seen there.

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
        let doing = step.get("do").and_then(Value::as_str).unwrap_or_default();
        let ends = SENT_ENDS_AT.contains(&doing);
        let told = take_sent(&mut recorded);
        let mut sent = take_sent(&mut seen);
        for (actor, outcomes) in told {
            if ends {
                self.recorded.entry(actor).or_default().extend(outcomes);
                continue;
            }
            let of_actor = sent.entry(actor).or_default();
            if let Some(missing) = take_out(of_actor, &outcomes) {
                return Err(difference(missing, &Value::from(of_actor.clone())));
            }
        }
        for (actor, outcomes) in sent {
            self.seen.entry(actor).or_default().extend(outcomes);
        }
        for side in [&mut recorded, &mut seen] {
            tidy_events(side, ignore_empty, ignore_all);
        }
        if ends && let Some(actor) = step.get("by").and_then(Value::as_str) {
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

/// Takes the outcomes of sends out of a step's events, per actor.
fn take_sent(side: &mut Map<String, Value>) -> BTreeMap<String, Vec<Value>> {
    let mut taken = BTreeMap::new();
    let Some(events) = side.get_mut("events").and_then(Value::as_object_mut) else { return taken };
    for (actor, list) in events.iter_mut() {
        let Some(list) = list.as_array_mut() else { continue };
        let (sent, rest): (Vec<Value>, Vec<Value>) =
            std::mem::take(list).into_iter().partition(is_sent);
        *list = rest;
        taken.insert(actor.clone(), sent);
    }
    taken
}

/// Removes `wanted`, in its order, from what was seen; the first that is not there, if any.
fn take_out<'w>(seen: &mut Vec<Value>, wanted: &'w [Value]) -> Option<&'w Value> {
    let mut from = 0;
    for event in wanted {
        let Some(at) = seen.iter().skip(from).position(|one| one == event) else {
            return Some(event);
        };
        from += at;
        seen.remove(from);
    }
    None
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
    fn what_the_callers_thread_was_told_is_seen_in_its_step() {
        let mut expected = Expected::default();
        let none = json!({});
        let (stored, refused) =
            (json!(["sent", "t-0", 0, null]), json!(["sent", "t-0", null, "MESSAGE_TOO_LARGE"]));
        let told = |events: &[&Value]| json!({"events": {"p": events}});
        let send = json!({"do": "send_async", "by": "p"});
        let flush = json!({"do": "flush", "by": "p"});
        expected.compare(&send, &none, &told(&[&stored])).unwrap();
        expected.compare(&send, &told(&[&refused]), &told(&[&refused])).unwrap();
        expected.compare(&flush, &told(&[&stored]), &none).unwrap();
        assert!(expected.compare(&send, &told(&[&refused]), &told(&[&stored])).is_err());
        assert!(Expected::default().compare(&send, &told(&[&refused]), &none).is_err());
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
