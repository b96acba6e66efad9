//! Moving the committed offsets of a group, as kafka-consumer-groups does: a dry run unless it is
//! told to do it.

use crate::args::values::{Place, Scope};
use crate::args::{Options, Reset};
use crate::directory;
use crate::failure::Outcome;
use crate::offsets::{Borders, borders};
use crate::output::{Output, or_dash};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use topiclite::{
    Admin, Broker, Error, ErrorKind, GroupOffset, IsolationLevel, OffsetSpec, Result,
    TopicPartition,
};

/// Where one partition stands, and goes.
struct Move {
    committed: Option<i64>,
    to: i64,
}

pub fn run(options: &Options, reset: &Reset, output: &Output) -> Outcome<()> {
    if !reset.execute {
        options.reading(output, |broker| {
            let moves = plan(&broker.admin(), reset, output)?;
            Ok(show(reset, &moves, output)?)
        })?;
        if !output.json {
            output.note("a dry run: nothing was changed; --execute does it");
        }
        return Ok(());
    }
    let broker = options.open()?;
    let done = execute(&broker, reset, output);
    let closed = directory::close(&broker, output);
    let moves = done?;
    closed?;
    Ok(show(reset, &moves, output)?)
}

fn execute(
    broker: &Broker,
    reset: &Reset,
    output: &Output,
) -> Outcome<BTreeMap<TopicPartition, Move>> {
    let admin = broker.admin();
    let moves = plan(&admin, reset, output)?;
    let mut offsets = BTreeMap::new();
    for (partition, planned) in &moves {
        offsets.insert(partition.clone(), GroupOffset::new(planned.to)?);
    }
    for (partition, outcome) in admin.alter_group_offsets(&reset.of.group, &offsets)? {
        outcome.map_err(|error| error.with_partition(partition.topic(), partition.partition()))?;
    }
    Ok(moves)
}

/// Where each partition goes.
fn plan(admin: &Admin, reset: &Reset, output: &Output) -> Outcome<BTreeMap<TopicPartition, Move>> {
    let group = reset.of.group.as_str();
    let stored = admin.list_group_offsets(group)?;
    match admin.describe_group(group) {
        Ok(described) if !described.members().is_empty() => {
            let text = format!("group {group} has members; stop them first");
            return Err(Error::new(ErrorKind::NonEmptyGroup, text).into());
        }
        Err(error) if reset.all_topics && stored.is_empty() => {
            return Err(error.into());
        }
        _ => {}
    }
    let mut moves = BTreeMap::new();
    for partition in partitions(admin, reset, stored.keys())? {
        let committed = stored.get(&partition).map(GroupOffset::offset);
        let to = target(admin, &partition, committed, reset.place(), output)?;
        moves.insert(partition, Move { committed, to });
    }
    if stored.is_empty() && admin.describe_group(group).is_err() && !reset.execute {
        output.note(&format!("there is no group {group} so far; --execute makes it"));
    }
    Ok(moves)
}

/// The partitions that are asked for.
fn partitions<'a>(
    admin: &Admin,
    reset: &Reset,
    stored: impl Iterator<Item = &'a TopicPartition>,
) -> Outcome<BTreeSet<TopicPartition>> {
    if reset.all_topics {
        let topics: BTreeSet<&str> = stored.map(TopicPartition::topic).collect();
        let all = topics.into_iter().map(|topic| Scope { topic: topic.into(), partitions: None });
        // Offsets of a topic that is gone have no place to go to.
        let there = all.filter(|scope| admin.describe_topic(&scope.topic).is_ok());
        return of_scopes(admin, there);
    }
    of_scopes(admin, reset.topic.iter().cloned())
}

fn of_scopes(
    admin: &Admin,
    scopes: impl Iterator<Item = Scope>,
) -> Outcome<BTreeSet<TopicPartition>> {
    let mut found = BTreeSet::new();
    for scope in scopes {
        let count = admin.describe_topic(&scope.topic)?.partition_count();
        let numbers = scope.partitions.unwrap_or_else(|| (0..count).collect());
        for number in numbers {
            if number >= count {
                let text = format!("the topic has the partitions 0 to {}", count - 1);
                let error = Error::new(ErrorKind::UnknownTopicOrPartition, text);
                return Err(error.with_partition(scope.topic, number).into());
            }
            found.insert(TopicPartition::new(scope.topic.as_str(), number));
        }
    }
    Ok(found)
}

/// Where one partition goes. What lies outside the log is moved to its border, and told.
fn target(
    admin: &Admin,
    partition: &TopicPartition,
    committed: Option<i64>,
    place: Place,
    output: &Output,
) -> Outcome<i64> {
    let (topic, number) = (partition.topic(), partition.partition());
    let Borders { start, ends, damage } = borders(admin, topic, number)?;
    let end = match (ends, damage) {
        (Some((_, end)), _) => end,
        // A place before the damage can be told without the end.
        (None, _) if place == Place::Earliest => start,
        (None, Some(damage)) => return Err(damage.into()),
        (None, None) => start,
    };
    let wanted = match place {
        Place::Earliest => return Ok(start),
        Place::Latest => return Ok(end),
        Place::Current => return Ok(committed.unwrap_or(end)),
        Place::Time(time) => {
            let spec = OffsetSpec::Timestamp(time);
            let found = admin.list_offsets(topic, number, spec, IsolationLevel::ReadUncommitted)?;
            return Ok(found.offset().unwrap_or(end));
        }
        Place::Offset(offset) => offset,
        Place::Shift(by) => {
            let from = committed.ok_or_else(|| {
                let text = "the group has committed nothing that could be moved by an amount";
                Error::new(ErrorKind::IllegalArgument, text).with_partition(topic, number)
            })?;
            from.saturating_add(by)
        }
    };
    let inside = wanted.clamp(start, end);
    if inside != wanted {
        output
            .note(&format!("{partition} has offsets {start} to {end}; {wanted} becomes {inside}"));
    }
    Ok(inside)
}

fn show(reset: &Reset, moves: &BTreeMap<TopicPartition, Move>, output: &Output) -> Result<()> {
    let mut rows = Vec::new();
    for (partition, planned) in moves {
        if output.json {
            output.object(&json!({
                "group": reset.of.group,
                "topic": partition.topic(),
                "partition": partition.partition(),
                "committed_offset": planned.committed,
                "new_offset": planned.to,
                "executed": reset.execute,
            }))?;
        }
        rows.push(vec![
            reset.of.group.clone(),
            partition.topic().to_owned(),
            partition.partition().to_string(),
            or_dash(planned.committed),
            planned.to.to_string(),
        ]);
    }
    match output.json {
        true => Ok(()),
        false => {
            output.table(&["GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "NEW-OFFSET"], rows)
        }
    }
}
