//! `repair`: tells what the next append would do to files before it writes, or does it.

use crate::args::{Options, Repair};
use crate::failure::Outcome;
use crate::output::{Output, counted};
use crate::verify::for_each_partition;
use serde_json::{Value, json};
use std::process::ExitCode;
use topiclite::{Error, ErrorKind, Result};

pub fn run(options: &Options, repair: &Repair, output: &Output) -> Outcome {
    if repair.execute {
        return Err(Error::new(ErrorKind::UnsupportedVersion, "not in this version").into());
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
        let changes = counted(count, "change");
        output.line(&format!("a dry run: {changes} would be made, none was"))?;
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
