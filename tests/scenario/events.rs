//! What listeners and callbacks of the actors were told, collected per actor.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The events since they were last taken, shared with the callbacks that record them.
#[derive(Debug, Clone, Default)]
pub(super) struct Events(Arc<Mutex<BTreeMap<String, Vec<Value>>>>);

impl Events {
    pub(super) fn tell(&self, actor: &str, event: Value) {
        self.0.lock().unwrap().entry(actor.to_owned()).or_default().push(event);
    }

    /// Takes everything but the outcomes of sends, which have a pace of their own.
    pub(super) fn take(&self) -> BTreeMap<String, Vec<Value>> {
        let mut events = self.0.lock().unwrap();
        let mut out = BTreeMap::new();
        for (actor, list) in events.iter_mut() {
            let (sent, told) = std::mem::take(list).into_iter().partition(is_sent);
            *list = sent;
            let told: Vec<Value> = told;
            if !told.is_empty() {
                out.insert(actor.clone(), told);
            }
        }
        out
    }

    /// How many events of one actor wait.
    pub(super) fn count(&self, actor: &str) -> usize {
        self.0.lock().unwrap().get(actor).map_or(0, Vec::len)
    }

    /// Takes the outcomes of one actor's sends.
    pub(super) fn take_sent(&self, actor: &str) -> Vec<Value> {
        let mut events = self.0.lock().unwrap();
        let Some(list) = events.get_mut(actor) else { return Vec::new() };
        let (sent, rest) = std::mem::take(list).into_iter().partition(is_sent);
        *list = rest;
        sent
    }
}

/// Whether an event is the outcome of a send.
pub(super) fn is_sent(event: &Value) -> bool {
    event.get(0).and_then(Value::as_str) == Some("sent")
}
