//! `offsets`: the borders of a topic's partitions. `trim`: moves the first of them.

use crate::args::{Offsets, Options, Trim};
use crate::directory;
use crate::failure::Outcome;
use crate::output::{Output, or_dash};
use serde_json::json;
use std::process::ExitCode;
use topiclite::{Admin, Error, ErrorKind, IsolationLevel, OffsetSpec, Result};

pub fn run(options: &Options, offsets: &Offsets, output: &Output) -> Outcome {
    options.reading(output, |broker| Ok(show(&broker.admin(), offsets, output)?))?;
    Ok(ExitCode::SUCCESS)
}

fn show(admin: &Admin, offsets: &Offsets, output: &Output) -> Result<()> {
    let count = admin.describe_topic(&offsets.topic)?.partition_count();
    let mut rows = Vec::new();
    let mut damaged = None;
    for partition in 0..count {
        let Borders { start, ends, damage } = borders(admin, &offsets.topic, partition)?;
        damaged = damaged.or(damage);
        let (stable, end) = ends.unzip();
        if output.json {
            output.object(&json!({
                "topic": offsets.topic,
                "partition": partition,
                "log_start_offset": start,
                "last_stable_offset": stable,
                "log_end_offset": end,
            }))?;
        }
        rows.push(vec![
            offsets.topic.clone(),
            partition.to_string(),
            start.to_string(),
            or_dash(stable),
            or_dash(end),
        ]);
    }
    if !output.json {
        let heading = ["TOPIC", "PARTITION", "LOG-START", "LAST-STABLE", "LOG-END"];
        output.table(&heading, rows)?;
    }
    damaged.map_or(Ok(()), Err)
}

/// What can be told of where a partition begins and ends.
pub struct Borders {
    pub start: i64,
    /// Last stable and log end offset; none where the partition is damaged.
    pub ends: Option<(i64, i64)>,
    pub damage: Option<Error>,
}

/// The borders of one partition.
pub fn borders(admin: &Admin, topic: &str, partition: i32) -> Result<Borders> {
    let border = |spec, isolation| {
        admin
            .list_offsets(topic, partition, spec, isolation)
            .map(|found| found.offset().unwrap_or(0))
    };
    let start = border(OffsetSpec::Earliest, IsolationLevel::ReadUncommitted)?;
    let ends = border(OffsetSpec::Latest, IsolationLevel::ReadCommitted).and_then(|stable| {
        Ok((stable, border(OffsetSpec::Latest, IsolationLevel::ReadUncommitted)?))
    });
    match ends {
        Ok(ends) => Ok(Borders { start, ends: Some(ends), damage: None }),
        Err(error)
            if matches!(error.kind(), ErrorKind::CorruptRecord | ErrorKind::UnsupportedFormat) =>
        {
            Ok(Borders { start, ends: None, damage: Some(error) })
        }
        Err(error) => Err(error),
    }
}

/// Deletes the records before an offset, as kafka-delete-records.
pub fn trim(options: &Options, trim: &Trim, output: &Output) -> Outcome {
    let broker = options.open()?;
    let moved = broker.admin().delete_records(&trim.topic, trim.partition, trim.before);
    let closed = directory::close(&broker, output);
    let start = moved?;
    closed?;
    match output.json {
        true => output.object(&json!({
            "topic": trim.topic,
            "partition": trim.partition,
            "log_start_offset": start,
        }))?,
        false => {
            output.line(&format!("{}-{} begins at offset {start}", trim.topic, trim.partition))?
        }
    }
    Ok(ExitCode::SUCCESS)
}
