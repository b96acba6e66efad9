//! `groups`: which there are, who is in them, where each stands, and moving or deleting that.

mod describe;
mod reset;

use crate::args::{Groups, GroupsAction, OneGroup, Options};
use crate::directory;
use crate::failure::Outcome;
use crate::output::Output;
use serde_json::json;
use std::process::ExitCode;
use topiclite::{Admin, Broker, Result};

const OFFSETS_TOPIC: &str = "__consumer_offsets";

pub fn run(options: &Options, groups: &Groups, output: &Output) -> Outcome {
    match &groups.action {
        GroupsAction::List => {
            options.reading(output, |broker| {
                list(&broker.admin(), output)?;
                // What is listed stands, and that something may be missing is told.
                directory::damage_of(broker, OFFSETS_TOPIC)
                    .map_or(Ok(()), |damage| Err(damage.into()))
            })?;
        }
        GroupsAction::Describe(OneGroup { group }) => {
            let show = |broker: &Broker| describe::offsets(&broker.admin(), group, output);
            options.reading(output, |broker| Ok(show(broker)?))?;
        }
        GroupsAction::Members(OneGroup { group }) => {
            let show = |broker: &Broker| describe::members(&broker.admin(), group, output);
            options.reading(output, |broker| Ok(show(broker)?))?;
        }
        GroupsAction::Delete(OneGroup { group }) => {
            let broker = options.open()?;
            let deleted = broker.admin().delete_group(group);
            let closed = directory::close(&broker, output);
            deleted?;
            closed?;
            match output.json {
                true => output.object(&json!({ "group": group }))?,
                false => output.line(&format!("group {group} deleted"))?,
            }
        }
        GroupsAction::Reset(reset) => reset::run(options, reset, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(admin: &Admin, output: &Output) -> Result<()> {
    let mut rows = Vec::new();
    for group in admin.list_groups()? {
        let members = group.member_count();
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
