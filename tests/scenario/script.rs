//! The scenario file and the node's properties, as read.

use serde_json::{Map, Value};
use std::path::Path;
use topiclite::{Error, ErrorKind, Result};

/// One scenario, parsed.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub(super) name: String,
    pub(super) features: Vec<String>,
    pub(super) protocol: String,
    pub(super) accident: Option<String>,
    pub(super) broker: Map<String, Value>,
    pub(super) topics: Vec<Value>,
    pub(super) actors: Map<String, Value>,
    pub(super) steps: Vec<Value>,
    pub(super) newest_timestamp: Option<i64>,
}

impl Scenario {
    /// Parses the text of a scenario file.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalArgument`] when it is not JSON of that shape.
    pub fn parse(text: &str) -> Result<Scenario> {
        let bad = |why: String| Error::new(ErrorKind::IllegalArgument, why);
        let root: Value =
            serde_json::from_str(text).map_err(|e| bad(format!("not a scenario: {e}")))?;
        let list = |key: &str| root.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let map = |key: &str| root.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        let string = |key: &str| root.get(key).and_then(Value::as_str).map(str::to_owned);
        let steps = list("steps");
        if steps.is_empty() || steps.iter().any(|s| s.get("do").and_then(Value::as_str).is_none()) {
            return Err(bad("a scenario has steps, each with a \"do\"".into()));
        }
        Ok(Scenario {
            name: string("name").ok_or_else(|| bad("a scenario has a name".into()))?,
            features: list("features")
                .iter()
                .filter_map(|f| f.as_str().map(str::to_owned))
                .collect(),
            protocol: string("protocol").unwrap_or_else(|| "classic".into()),
            accident: string("accident"),
            broker: map("broker"),
            topics: list("topics"),
            actors: map("actors"),
            newest_timestamp: newest_timestamp(&root),
            steps,
        })
    }

    /// The scenario's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ids of the features it shows.
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// Why the outcome is an accident of Kafka's network, threads or caches, if it is one.
    pub fn accident(&self) -> Option<&str> {
        self.accident.as_deref()
    }

    /// The group protocol that its consumers use unless they say otherwise.
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// The names of the steps it uses.
    pub fn step_names(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| step.get("do").and_then(Value::as_str))
    }

    /// The fields of the steps that choose what a step does, such as `pattern`.
    pub fn step_fields(&self) -> impl Iterator<Item = &str> {
        self.steps
            .iter()
            .filter_map(Value::as_object)
            .flat_map(|step| step.keys().map(String::as_str))
    }

    /// Every setting of a client, a topic or the broker, as text.
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut add = |config: Option<&Map<String, Value>>| {
            for (key, value) in config.into_iter().flatten() {
                out.push((key.clone(), text_of(value)));
            }
        };
        add(Some(&self.broker));
        for actor in self.actors.values() {
            add(actor.get("config").and_then(Value::as_object));
        }
        for step in self.topics.iter().chain(&self.steps) {
            add(step.get("config").and_then(Value::as_object));
        }
        out
    }

    /// The kinds of its actors: `producer`, `consumer`, `share`.
    pub fn actor_kinds(&self) -> impl Iterator<Item = &str> {
        self.actors.values().filter_map(|actor| actor.get("kind").and_then(Value::as_str))
    }
}

/// A setting's value as a properties file would have it.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The newest explicit timestamp of a record, so that the clock can start there.
fn newest_timestamp(value: &Value) -> Option<i64> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter_map(|(key, value)| match value.as_i64() {
                Some(ms) if key == "timestamp" => Some(ms),
                _ => newest_timestamp(value),
            })
            .max(),
        Value::Array(items) => items.iter().filter_map(newest_timestamp).max(),
        _ => None,
    }
}

/// The properties that the recording's node was started with.
#[derive(Debug, Clone, Default)]
pub struct NodeProperties(Vec<(String, String)>);

impl NodeProperties {
    /// Parses the text of a properties file: `key=value` lines, `#` comments.
    pub fn parse(text: &str) -> NodeProperties {
        let pairs = text.lines().filter_map(|line| {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || line.starts_with('!') {
                return None;
            }
            let (key, value) = line.split_once('=')?;
            Some((key.trim().to_owned(), value.trim().to_owned()))
        });
        NodeProperties(pairs.collect())
    }

    /// The node of a theme's folder: one of the driver's two, of which copies stand beside the
    /// golden scenarios.
    pub fn of_folder(theme: &str) -> NodeProperties {
        let file = if theme == "groups" { "node.properties" } else { "node-producers.properties" };
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        NodeProperties::read(&golden.join(file)).unwrap()
    }

    /// Reads a properties file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] with the path.
    pub fn read(path: &Path) -> Result<NodeProperties> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::io(e, "reading the node's properties", path))?;
        Ok(NodeProperties::parse(&text))
    }

    /// The pairs, in the order of the file.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}
