//! Where a group stands, and who is in it.

use crate::offsets::{Borders, borders};
use crate::output::{Output, or_dash};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use topiclite::{Admin, ErrorKind, Result, TopicPartition};

/// One partition of a group: its commit, its owner.
#[derive(Default)]
struct Row {
    committed: Option<(i64, String)>,
    owner: Option<(String, String)>,
}

/// Committed offsets, ends and lag, a row for each partition.
pub fn offsets(admin: &Admin, group: &str, output: &Output) -> Result<()> {
    let offsets = admin.list_group_offsets(group)?;
    let described = admin.describe_group(group);
    let mut rows: BTreeMap<TopicPartition, Row> = BTreeMap::new();
    for (partition, committed) in &offsets {
        let row = rows.entry(partition.clone()).or_default();
        row.committed = Some((committed.offset(), committed.metadata().to_owned()));
    }
    match &described {
        Ok(described) => {
            for member in described.members() {
                for partition in member.assignment() {
                    let owner = (member.member_id().to_owned(), member.client_id().to_owned());
                    rows.entry(partition.clone()).or_default().owner = Some(owner);
                }
            }
            if described.members().is_empty() && !output.json {
                output.note(&format!("group {group} has no members"));
            }
        }
        Err(error) if offsets.is_empty() => return Err(error.clone()),
        Err(_) => {}
    }
    print(admin, group, &rows, output)
}

/// The columns; the last two are the members'.
const HEADING: [&str; 8] = [
    "GROUP",
    "TOPIC",
    "PARTITION",
    "CURRENT-OFFSET",
    "LOG-END-OFFSET",
    "LAG",
    "CONSUMER-ID",
    "CLIENT-ID",
];

fn print(
    admin: &Admin,
    group: &str,
    rows: &BTreeMap<TopicPartition, Row>,
    output: &Output,
) -> Result<()> {
    let mut table = Vec::new();
    let mut damaged = None;
    for (partition, row) in rows {
        let found = match borders(admin, partition.topic(), partition.partition()) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == ErrorKind::UnknownTopicOrPartition => None,
            Err(error) => return Err(error),
        };
        let start = found.as_ref().map(|found| found.start);
        let end = found.as_ref().and_then(|found| found.ends).map(|(_, end)| end);
        if let Some(Borders { damage: Some(damage), .. }) = found {
            damaged.get_or_insert(damage);
        }
        let committed = row.committed.as_ref().map(|(offset, _)| *offset);
        let lag = committed.zip(end).map(|(committed, end)| end - committed);
        let metadata = row.committed.as_ref().map(|(_, text)| text.clone());
        let (member, client) = row.owner.clone().unzip();
        if output.json {
            output.object(&json!({
                "group": group,
                "topic": partition.topic(),
                "partition": partition.partition(),
                "committed_offset": committed,
                "log_start_offset": start,
                "log_end_offset": end,
                "lag": lag,
                "time_lag_ms": Value::Null,
                "status": Value::Null,
                "member_id": member,
                "client_id": client,
                "metadata": metadata,
            }))?;
        }
        table.push(vec![
            group.to_owned(),
            partition.topic().to_owned(),
            partition.partition().to_string(),
            or_dash(committed),
            or_dash(end),
            or_dash(lag),
            or_dash(member),
            or_dash(client),
        ]);
    }
    // The rows are complete, and a lag that nobody knows is told.
    let outcome = damaged.map_or(Ok(()), Err);
    if output.json {
        return outcome;
    }
    let mut heading = HEADING.to_vec();
    if rows.values().all(|row| row.owner.is_none()) {
        // Without members these two would be empty from top to bottom.
        heading.truncate(6);
        table.iter_mut().for_each(|row| row.truncate(6));
    }
    output.table(&heading, table)?;
    outcome
}

/// Who is in a group, a row for each member.
pub fn members(admin: &Admin, group: &str, output: &Output) -> Result<()> {
    let described = admin.describe_group(group)?;
    let mut table = Vec::new();
    for member in described.members() {
        let owned = member.assignment();
        if output.json {
            let partitions: Vec<Value> = owned
                .iter()
                .map(|tp| json!({"topic": tp.topic(), "partition": tp.partition()}))
                .collect();
            output.object(&json!({
                "group": group,
                "member_id": member.member_id(),
                "instance_id": member.group_instance_id(),
                "client_id": member.client_id(),
                "host": member.host(),
                "partitions": partitions,
            }))?;
        }
        let owned: Vec<String> = owned.iter().map(ToString::to_string).collect();
        table.push(vec![
            group.to_owned(),
            member.member_id().to_owned(),
            member.client_id().to_owned(),
            owned.len().to_string(),
            if owned.is_empty() { "-".to_owned() } else { owned.join(" ") },
        ]);
    }
    if output.json {
        return Ok(());
    }
    if table.is_empty() {
        output.note(&format!("group {group} has no members"));
    }
    output.table(&["GROUP", "CONSUMER-ID", "CLIENT-ID", "#PARTITIONS", "ASSIGNMENT"], table)
}
