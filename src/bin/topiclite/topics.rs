//! `topics`: create, list, describe, alter, grow, delete.

use crate::args::{Options, Topics, TopicsAction};
use crate::output::Output;
use serde_json::{Map, Value, json};
use std::process::ExitCode;
use topiclite::{Admin, ConfigChange, ConfigSource, Result, TopicConfig, TopicDescription};

pub fn run(options: &Options, topics: &Topics, output: &Output) -> Result<ExitCode> {
    match &topics.action {
        TopicsAction::List { internal } => list(&options.attach()?.admin(), *internal, output)?,
        TopicsAction::Describe { name } => {
            describe(&options.attach()?.admin(), name.as_deref(), output)?;
        }
        change => {
            let broker = options.open()?;
            let changed = apply(&broker.admin(), change, output);
            let closed = broker.close();
            changed?;
            closed?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn apply(admin: &Admin, change: &TopicsAction, output: &Output) -> Result<()> {
    match change {
        TopicsAction::Create { name, partitions, config } => {
            let mut settings = TopicConfig::default();
            for (key, value) in config {
                settings.set(key, value)?;
            }
            admin.create_topic(name, *partitions, settings)?;
            tell(admin, name, "created", output)
        }
        TopicsAction::Alter { name, config } => {
            let changes: Vec<ConfigChange> = config
                .iter()
                .map(|(key, value)| match value.is_empty() {
                    true => ConfigChange::Delete(key.as_str().into()),
                    false => ConfigChange::Set(key.as_str().into(), value.as_str().into()),
                })
                .collect();
            admin.alter_topic(name, &changes)?;
            tell(admin, name, "altered", output)
        }
        TopicsAction::Grow { name, partitions } => {
            admin.grow_topic(name, *partitions)?;
            tell(admin, name, "grown", output)
        }
        TopicsAction::Delete { name } => {
            admin.delete_topic(name)?;
            match output.json {
                true => output.object(&json!({ "topic": name })),
                false => output.line(&format!("topic {name} deleted")),
            }
        }
        TopicsAction::List { .. } | TopicsAction::Describe { .. } => Ok(()),
    }
}

fn tell(admin: &Admin, name: &str, what: &str, output: &Output) -> Result<()> {
    let topic = admin.describe_topic(name)?;
    if output.json {
        return output.object(&show(&topic));
    }
    let count = topic.partition_count();
    let noun = if count == 1 { "partition" } else { "partitions" };
    output.line(&format!("topic {name} {what}, {count} {noun}"))
}

/// What the topic itself sets.
fn overrides(topic: &TopicDescription) -> impl Iterator<Item = (&str, &str)> {
    let own = topic.config().iter().filter(|entry| entry.source() == ConfigSource::DynamicTopic);
    own.map(|entry| (entry.name(), entry.value()))
}

fn show(topic: &TopicDescription) -> Value {
    let config: Map<String, Value> =
        overrides(topic).map(|(key, value)| (key.to_owned(), json!(value))).collect();
    json!({
        "topic": topic.name(),
        "partitions": topic.partition_count(),
        "internal": topic.is_internal(),
        "config": config,
    })
}

fn list(admin: &Admin, internal: bool, output: &Output) -> Result<()> {
    let topics = if internal { admin.list_all_topics()? } else { admin.list_topics()? };
    for topic in topics {
        match output.json {
            true => output.object(&show(&admin.describe_topic(topic.name())?))?,
            false => output.line(topic.name())?,
        }
    }
    Ok(())
}

fn describe(admin: &Admin, name: Option<&str>, output: &Output) -> Result<()> {
    let topics = match name {
        Some(name) => vec![admin.describe_topic(name)?],
        None => {
            let topics = admin.list_all_topics()?;
            topics.iter().map(|topic| admin.describe_topic(topic.name())).collect::<Result<_>>()?
        }
    };
    if output.json {
        return topics.iter().try_for_each(|topic| output.object(&show(topic)));
    }
    let rows = topics.iter().map(|topic| {
        let config: Vec<String> =
            overrides(topic).map(|(key, value)| format!("{key}={value}")).collect();
        vec![
            topic.name().to_owned(),
            topic.partition_count().to_string(),
            topic.is_internal().to_string(),
            config.join(" "),
        ]
    });
    output.table(&["TOPIC", "PARTITIONS", "INTERNAL", "CONFIG"], rows.collect())
}
