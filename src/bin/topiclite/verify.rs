//! `verify` reads everything and tells damage; `repair` tells what the next append would do.

use crate::args::{Options, Repair};
use crate::output::Output;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use topiclite::{Admin, Error, ErrorKind, Result};

/// Findings make the exit code 1; notes, such as the uncut tail that a kill leaves, do not.
pub fn verify(options: &Options, output: &Output) -> Result<ExitCode> {
    let broker = options.attach()?;
    let admin = broker.admin();
    let (mut partitions, mut findings, mut notes) = (0u64, 0u64, 0u64);
    for_each_partition(&admin, |topic, partition| {
        partitions += 1;
        let found = match admin.verify_partition(topic, partition) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::ReadOnly => {
                findings += 1;
                let path = options.dir()?.join(format!("{topic}-{partition}"));
                return tell(output, &path, (None, None), "missing-folder", error.message());
            }
            Err(error) => return Err(error),
        };
        for finding in found {
            match finding.is_note() {
                true => notes += 1,
                false => findings += 1,
            }
            let place = (finding.position, finding.offset);
            tell(output, &finding.path, place, finding.kind.name(), &finding.message)?;
        }
        Ok(())
    })?;
    if !output.json {
        let noun = |count, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        output.line(&format!(
            "{} read: {}, {}",
            noun(partitions, "partition"),
            noun(findings, "finding"),
            noun(notes, "note")
        ))?;
    }
    Ok(ExitCode::from(u8::from(findings > 0)))
}

/// A dry run: the next append to a partition does by itself what is told here.
pub fn repair(options: &Options, repair: &Repair, output: &Output) -> Result<ExitCode> {
    if repair.execute {
        return Err(Error::new(
            ErrorKind::UnsupportedVersion,
            "repair --execute is not in this version; without --execute it says what the next \
             append to each partition does to its files",
        ));
    }
    let broker = options.attach()?;
    let admin = broker.admin();
    let (mut count, mut refused) = (0u64, 0u64);
    for_each_partition(&admin, |topic, partition| {
        let planned = match admin.planned_repairs(topic, partition) {
            Ok(planned) => planned,
            Err(error) if is_refusal(error.kind()) => {
                refused += 1;
                return show_refusal(output, topic, partition, &error);
            }
            Err(error) => return Err(error),
        };
        for step in planned {
            count += 1;
            match output.json {
                true => output.object(&json!({
                    "topic": topic,
                    "partition": partition,
                    "path": step.path.display().to_string(),
                    "action": step.action,
                }))?,
                false => output.line(&format!("{}: {}", step.path.display(), step.action))?,
            }
        }
        Ok(())
    })?;
    if !output.json {
        output.line(&format!("a dry run: {count} changes would be made, none was"))?;
    }
    Ok(ExitCode::from(u8::from(refused > 0)))
}

fn is_refusal(kind: ErrorKind) -> bool {
    use ErrorKind::{CorruptRecord, ReadOnly, UnsupportedFormat};
    matches!(kind, CorruptRecord | UnsupportedFormat | ReadOnly)
}

/// A partition that stays read-only, because nobody repairs it without losing records.
fn show_refusal(output: &Output, topic: &str, partition: i32, error: &Error) -> Result<()> {
    match output.json {
        true => output.object(&json!({
            "topic": topic,
            "partition": partition,
            "path": error.path().map(|path| path.display().to_string()),
            "action": Value::Null,
            "message": error.to_string(),
        })),
        false => output.line(&format!("{topic}-{partition} stays read-only: {error}")),
    }
}

fn for_each_partition(admin: &Admin, mut body: impl FnMut(&str, i32) -> Result<()>) -> Result<()> {
    for topic in admin.list_all_topics()? {
        for partition in 0..topic.partition_count() {
            body(topic.name(), partition)?;
        }
    }
    Ok(())
}

fn tell(
    output: &Output,
    path: &Path,
    (position, offset): (Option<u64>, Option<i64>),
    kind: &str,
    message: &str,
) -> Result<()> {
    if output.json {
        return output.object(&json!({
            "path": path.display().to_string(),
            "position": position,
            "offset": offset,
            "kind": kind,
            "message": message,
        }));
    }
    let mut line = format!("{kind}: {}", path.display());
    if let Some(position) = position {
        line.push_str(&format!(" at position {position}"));
    }
    if let Some(offset) = offset {
        line.push_str(&format!(", offset {offset}"));
    }
    output.line(&format!("{line}: {message}"))
}
