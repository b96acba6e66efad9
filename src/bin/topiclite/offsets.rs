//! `offsets`: the borders of a topic's partitions.

use crate::args::{Offsets, Options};
use crate::output::Output;
use serde_json::json;
use std::process::ExitCode;
use topiclite::{Admin, IsolationLevel, OffsetSpec, Result};

pub fn run(options: &Options, offsets: &Offsets, output: &Output) -> Result<ExitCode> {
    let broker = options.attach()?;
    let admin = broker.admin();
    let count = admin.describe_topic(&offsets.topic)?.partition_count();
    let mut rows = Vec::new();
    for partition in 0..count {
        let (start, stable, end) = borders(&admin, &offsets.topic, partition)?;
        if output.json {
            output.object(&json!({
                "topic": offsets.topic,
                "partition": partition,
                "log_start_offset": start,
                "last_stable_offset": stable,
                "log_end_offset": end,
            }))?;
        }
        let cells = [i64::from(partition), start, stable, end].map(|n| n.to_string());
        rows.push([vec![offsets.topic.clone()], cells.to_vec()].concat());
    }
    if !output.json {
        let heading = ["TOPIC", "PARTITION", "LOG-START", "LAST-STABLE", "LOG-END"];
        output.table(&heading, rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Log start, last stable and log end offset.
pub fn borders(admin: &Admin, topic: &str, partition: i32) -> Result<(i64, i64, i64)> {
    let border = |spec, isolation| {
        admin
            .list_offsets(topic, partition, spec, isolation)
            .map(|found| found.offset().unwrap_or(0))
    };
    Ok((
        border(OffsetSpec::Earliest, IsolationLevel::ReadUncommitted)?,
        border(OffsetSpec::Latest, IsolationLevel::ReadCommitted)?,
        border(OffsetSpec::Latest, IsolationLevel::ReadUncommitted)?,
    ))
}
