//! `groups`: which there are, and where each stands.

use crate::args::{Groups, GroupsAction, Options};
use crate::offsets::{Borders, borders};
use crate::output::{Output, or_dash};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;
use topiclite::{Admin, Error, ErrorKind, Result, TopicPartition};

pub fn run(options: &Options, groups: &Groups, output: &Output) -> Result<ExitCode> {
    let broker = options.attach()?;
    match &groups.action {
        GroupsAction::List => list(&broker.admin(), output)?,
        GroupsAction::Describe { group } => describe(&broker.admin(), group, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(admin: &Admin, output: &Output) -> Result<()> {
    let mut rows = Vec::new();
    for group in admin.list_groups()? {
        let members = admin.describe_group(group.group_id()).map_or(0, |g| g.members().len());
        if output.json {
            output.object(&json!({
                "group": group.group_id(),
                "state": group.state(),
                "type": group.group_type(),
                "protocol": group.protocol_type(),
                "members": members,
            }))?;
        }
        rows.push(vec![
            group.group_id().to_owned(),
            group.state().to_owned(),
            group.group_type().to_owned(),
            group.protocol_type().to_owned(),
            members.to_string(),
        ]);
    }
    match output.json {
        true => Ok(()),
        false => output.table(&["GROUP", "STATE", "TYPE", "PROTOCOL", "MEMBERS"], rows),
    }
}

/// One partition of a group: its commit, its owner.
#[derive(Default)]
struct Row {
    committed: Option<(i64, String)>,
    owner: Option<(String, String)>,
}

fn describe(admin: &Admin, group: &str, output: &Output) -> Result<()> {
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
        }
        Err(error) if offsets.is_empty() => {
            return Err(Error::new(error.kind(), format!("group {group}: {}", error.message())));
        }
        Err(_) => {}
    }
    print(admin, group, &rows, output)
}

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
            "-".to_owned(),
            "-".to_owned(),
            or_dash(member),
            or_dash(client),
        ]);
    }
    // The rows are complete, and a lag that nobody knows is told.
    let outcome = damaged.map_or(Ok(()), Err);
    if output.json {
        return outcome;
    }
    let heading = [
        "GROUP",
        "TOPIC",
        "PARTITION",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "TIME-LAG",
        "STATUS",
        "CONSUMER-ID",
        "CLIENT-ID",
    ];
    output.table(&heading, table)?;
    outcome
}
