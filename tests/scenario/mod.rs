//! Replays recorded scenarios: a script of steps and what a real Apache Kafka was seen to do.
//!
//! A scenario is one JSON file. [`Scenario::replay`] runs its steps on an in-memory broker under a
//! stepping clock, on one thread, and compares what it saw with what is recorded, step by step.
//! Text forms: bytes that are not UTF-8 are `base64:...`, values above 200 bytes are `size:N`.

mod admin;
mod compare;
mod consuming;
mod detached;
mod events;
mod groups;
mod listener;
mod producing;
pub mod recorded;
mod script;
mod settle;
mod transactions;
mod values;
mod world;

pub use script::{NodeProperties, Scenario};

use serde_json::Value;

/// How a replay ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every step saw what is recorded.
    Ok,
    /// A step saw something else: which, what was expected and what was seen.
    Failed(String),
}

impl Scenario {
    /// Runs the steps on a fresh broker with the node's properties; what each of them saw.
    ///
    /// # Errors
    /// What kept the world of the scenario from being made.
    pub fn play(&self, node: &NodeProperties) -> topiclite::Result<Vec<Value>> {
        let mut world = world::World::new(self, node)?;
        Ok(self.steps.iter().map(|step| world.step(step)).collect())
    }

    /// Runs the steps on a fresh broker with the node's properties and compares the outcomes.
    pub fn replay(&self, node: &NodeProperties) -> Verdict {
        let outcomes = match self.play(node) {
            Ok(outcomes) => outcomes,
            Err(error) => return Verdict::Failed(format!("the world could not be made: {error}")),
        };
        let mut expected = compare::Expected::default();
        for (number, (step, seen)) in self.steps.iter().zip(&outcomes).enumerate() {
            let recorded =
                step.get("saw").cloned().unwrap_or_else(|| Value::Object(Default::default()));
            if let Err(difference) = expected.compare(step, &recorded, seen) {
                return Verdict::Failed(format!(
                    "step {}: {}: {difference}",
                    number + 1,
                    brief(step)
                ));
            }
        }
        Verdict::Ok
    }
}

/// A step without its outcome, on one line.
fn brief(step: &Value) -> String {
    let mut step = step.clone();
    if let Some(fields) = step.as_object_mut() {
        fields.remove("saw");
    }
    step.to_string()
}
