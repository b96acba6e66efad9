//! `topics`: create, list, describe, alter, grow, delete.

mod describe;

use crate::args::{Options, Topics, TopicsAction};
use crate::directory;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, counted};
use serde_json::json;
use std::process::ExitCode;
use topiclite::{Admin, ConfigChange, Result, TopicConfig};

pub fn run(options: &Options, topics: &Topics, output: &Output) -> Outcome {
    match &topics.action {
        TopicsAction::List { internal } => list(&options.attach()?.admin(), *internal, output)?,
        TopicsAction::Describe { name } => {
            options.reading(output, |broker| {
                Ok(describe::run(&broker.admin(), name.as_deref(), output)?)
            })?;
        }
        TopicsAction::Create { name, partitions, config } => {
            let settings = settings(config)?;
            let broker = options.open_or_make()?;
            let admin = broker.admin();
            let made = admin.create_topic(name, partitions.unwrap_or(-1), settings.clone());
            let told = made.and_then(|()| tell(&admin, name, "created", output));
            let closed = directory::close(&broker, output);
            told?;
            closed?;
            tell_ignored(&settings, output);
        }
        TopicsAction::Alter { name, config } => alter(options, name, config, output)?,
        TopicsAction::Grow { name, partitions } => {
            let broker = options.open()?;
            let admin = broker.admin();
            let grown = admin.grow_topic(name, *partitions);
            let told = grown.and_then(|()| tell(&admin, name, "grown", output));
            let closed = directory::close(&broker, output);
            told?;
            closed?;
        }
        TopicsAction::Delete { name } => {
            let broker = options.open()?;
            let deleted = broker.admin().delete_topic(name);
            let closed = directory::close(&broker, output);
            deleted?;
            closed?;
            match output.json {
                true => output.object(&json!({ "topic": name }))?,
                false => output.line(&format!("topic {name} deleted"))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Settings of a topic. What is wrong with them is bad usage.
fn settings<'a>(pairs: impl IntoIterator<Item = &'a (String, String)>) -> Outcome<TopicConfig> {
    TopicConfig::from_properties(pairs.into_iter().map(|(key, value)| (key, value)))
        .map_err(|error| Failure::Usage(error.to_string()))
}

fn alter(
    options: &Options,
    name: &str,
    config: &[(String, String)],
    output: &Output,
) -> Outcome<()> {
    let set = settings(config.iter().filter(|(_, value)| !value.is_empty()))?;
    for (key, _) in config.iter().filter(|(_, value)| value.is_empty()) {
        // Nobody can have set what there is not, so the name is a typo.
        known(key)?;
    }
    let changes: Vec<ConfigChange> = config
        .iter()
        .map(|(key, value)| match value.is_empty() {
            true => ConfigChange::Delete(key.as_str().into()),
            false => ConfigChange::Set(key.as_str().into(), value.as_str().into()),
        })
        .collect();
    let broker = options.open()?;
    let admin = broker.admin();
    let altered = admin.alter_topic(name, &changes);
    let told = altered.and_then(|()| tell(&admin, name, "altered", output));
    let closed = directory::close(&broker, output);
    told?;
    closed?;
    tell_ignored(&set, output);
    Ok(())
}

/// Refuses a setting that no topic has.
fn known(key: &str) -> Outcome<()> {
    // A known name with a value that no setting takes is refused for the value.
    match TopicConfig::default().set(key, "\u{0}") {
        Err(error) if error.message().starts_with("there is no") => {
            Err(Failure::Usage(error.to_string()))
        }
        _ => Ok(()),
    }
}

/// Says which settings are kept, and have no effect here.
fn tell_ignored(config: &TopicConfig, output: &Output) {
    for key in config.ignored() {
        output.note(&format!("{key} is kept without effect"));
    }
}

fn tell(admin: &Admin, name: &str, what: &str, output: &Output) -> Result<()> {
    let topic = admin.describe_topic(name)?;
    if output.json {
        return output.object(&describe::object(&topic));
    }
    let count = u64::from(topic.partition_count().unsigned_abs());
    output.line(&format!("topic {name} {what}, {}", counted(count, "partition")))
}

fn list(admin: &Admin, internal: bool, output: &Output) -> Result<()> {
    let topics = if internal { admin.list_all_topics()? } else { admin.list_topics()? };
    for topic in topics {
        match output.json {
            true => output.object(&describe::object(&admin.describe_topic(topic.name())?))?,
            false => output.line(topic.name())?,
        }
    }
    Ok(())
}
