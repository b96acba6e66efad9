//! A topic as an administrator sees it: id, size, partitions, settings in effect.

use crate::moment;
use crate::offsets::borders;
use crate::output::{Output, or_dash, size};
use serde_json::{Map, Value, json};
use topiclite::{
    Admin, CleaningStatus, ConfigSource, PartitionSize, ProtectedOffset, Result, TopicConfig,
    TopicDescription,
};

/// Shows one topic in full, or a line for each.
pub fn run(admin: &Admin, name: Option<&str>, output: &Output) -> Result<()> {
    let topics = match name {
        Some(name) => vec![admin.describe_topic(name)?],
        None => {
            let topics = admin.list_all_topics()?;
            topics.iter().map(|topic| admin.describe_topic(topic.name())).collect::<Result<_>>()?
        }
    };
    if output.json {
        return topics.iter().try_for_each(|topic| {
            let mut shown = object(topic);
            shown["settings"] = settings(topic);
            let partitions: Vec<Partition> = partitions(admin, topic);
            shown["size_bytes"] = json!(total(&partitions));
            shown["partition_details"] = partitions.iter().map(Partition::object).collect();
            output.object(&shown)
        });
    }
    match (name, topics.as_slice()) {
        (Some(_), [topic]) => in_full(admin, topic, output),
        _ => {
            let rows = topics.iter().map(|topic| {
                vec![
                    topic.name().to_owned(),
                    topic.partition_count().to_string(),
                    topic.is_internal().to_string(),
                    size(total(&partitions(admin, topic))),
                    overrides_text(topic),
                ]
            });
            let heading = ["TOPIC", "PARTITIONS", "INTERNAL", "SIZE", "CONFIG"];
            output.table(&heading, rows.collect())
        }
    }
}

fn in_full(admin: &Admin, topic: &TopicDescription, output: &Output) -> Result<()> {
    let partitions = partitions(admin, topic);
    output.line(&format!("Topic       {}", topic.name()))?;
    output.line(&format!("Id          {}", topic.id()))?;
    output.line(&format!("Partitions  {}", topic.partition_count()))?;
    output.line(&format!("Internal    {}", topic.is_internal()))?;
    output.line(&format!("Size        {}", size(total(&partitions))))?;
    output.line("")?;
    let rows = partitions.iter().map(|found| {
        vec![
            found.number.to_string(),
            or_dash(found.start),
            or_dash(found.end),
            or_dash(found.size.map(|found| size(found.batch_bytes()))),
            or_dash(found.size.map(|found| size(found.disk_bytes()))),
            or_dash(found.segments),
            or_dash(found.cleaning.map(|status| status.first_dirty_offset())),
            or_dash(found.cleaning.map(|status| format!("{:.2}", status.dirty_ratio()))),
            or_dash(found.last_cleaned().map(moment::shown)),
            or_dash(found.protected.as_ref().map(protected_text)),
        ]
    });
    let heading = [
        "PARTITION",
        "LOG-START",
        "LOG-END",
        "BATCHES",
        "SIZE",
        "SEGMENTS",
        "FIRST-DIRTY",
        "DIRTY-RATIO",
        "LAST-CLEANED",
        "PROTECTED",
    ];
    output.table(&heading, rows.collect())?;
    output.line("")?;
    let ignored = ignored(topic);
    let rows = topic.config().iter().map(|entry| {
        let source = match entry.source() {
            ConfigSource::DynamicTopic => "topic",
            ConfigSource::Default => "default",
            _ => "broker",
        };
        let effect = if ignored.iter().any(|key| key == entry.name()) { "no effect" } else { "" };
        vec![entry.name().to_owned(), entry.value().to_owned(), source.to_owned(), effect.into()]
    });
    output.table(&["SETTING", "VALUE", "SET BY", "NOTE"], rows.collect())
}

/// The object of a topic in a list.
pub fn object(topic: &TopicDescription) -> Value {
    let config: Map<String, Value> =
        overrides(topic).map(|(key, value)| (key.to_owned(), json!(value))).collect();
    json!({
        "topic": topic.name(),
        "id": topic.id().to_string(),
        "partitions": topic.partition_count(),
        "internal": topic.is_internal(),
        "config": config,
    })
}

/// Every setting in effect, where it comes from, and whether it does anything here.
fn settings(topic: &TopicDescription) -> Value {
    let ignored = ignored(topic);
    let entries = topic.config().iter().map(|entry| {
        let shown = json!({
            "value": entry.value(),
            "source": entry.source().kafka_name(),
            "has_effect": !ignored.iter().any(|key| key == entry.name()),
        });
        (entry.name().to_owned(), shown)
    });
    Value::Object(entries.collect())
}

/// The settings that are kept without effect.
fn ignored(topic: &TopicDescription) -> Vec<String> {
    let mut config = TopicConfig::default();
    for entry in topic.config() {
        // What another version accepted and this one refuses has no effect of its own.
        let _refused = config.set(entry.name(), entry.value());
    }
    config.ignored().map(str::to_owned).collect()
}

/// What the topic itself sets.
fn overrides(topic: &TopicDescription) -> impl Iterator<Item = (&str, &str)> {
    let own = topic.config().iter().filter(|entry| entry.source() == ConfigSource::DynamicTopic);
    own.map(|entry| (entry.name(), entry.value()))
}

fn overrides_text(topic: &TopicDescription) -> String {
    let pairs: Vec<String> =
        overrides(topic).map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}

/// A partition and the room it takes.
struct Partition {
    number: i32,
    /// Log start and log end offset; none where that cannot be told.
    start: Option<i64>,
    end: Option<i64>,
    /// None where that cannot be told.
    size: Option<PartitionSize>,
    /// How far it was cleaned, of a topic that is compacted.
    cleaning: Option<CleaningStatus>,
    segments: Option<usize>,
    /// The protected group that is the furthest behind.
    protected: Option<ProtectedOffset>,
}

/// A group, and where it goes on reading.
fn protected_text(protected: &ProtectedOffset) -> String {
    format!("{}@{}", protected.group(), or_dash(protected.committed_offset()))
}

impl Partition {
    fn object(&self) -> Value {
        json!({
            "partition": self.number,
            "log_start_offset": self.start,
            "log_end_offset": self.end,
            "size_bytes": self.size.map(|size| size.disk_bytes()),
            "batch_bytes": self.size.map(|size| size.batch_bytes()),
            "segments": self.segments,
            "first_dirty_offset": self.cleaning.map(|status| status.first_dirty_offset()),
            "dirty_ratio": self.cleaning.map(|status| status.dirty_ratio()),
            "last_cleaned_ms": self.last_cleaned(),
            "protected_group": self.protected.as_ref().map(ProtectedOffset::group),
            "protected_offset":
                self.protected.as_ref().and_then(ProtectedOffset::committed_offset),
        })
    }

    fn last_cleaned(&self) -> Option<i64> {
        self.cleaning.and_then(|status| status.last_cleaned_ms())
    }
}

fn partitions(admin: &Admin, topic: &TopicDescription) -> Vec<Partition> {
    let name = topic.name();
    let policy = topic.config_value("cleanup.policy").unwrap_or_default();
    let compacts = policy.split(',').any(|word| word == "compact");
    let one = |number| {
        // A damaged partition has a beginning, and its size, all the same.
        let found = borders(admin, name, number).ok();
        let status = admin.cleaning_status(name, number).ok();
        Partition {
            number,
            start: found.as_ref().map(|found| found.start),
            end: found.and_then(|found| found.ends).map(|(_, end)| end),
            size: admin.partition_size(name, number).ok(),
            segments: status.map(|status| status.segments()),
            cleaning: status.filter(|_| compacts),
            protected: admin.protected_offset(name, number).ok().flatten(),
        }
    };
    (0..topic.partition_count()).map(one).collect()
}

fn total(partitions: &[Partition]) -> u64 {
    partitions.iter().filter_map(|found| found.size).map(|size| size.disk_bytes()).sum()
}
