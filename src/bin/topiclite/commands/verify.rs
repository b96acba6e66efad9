//! `verify`: reads everything and tells damage.

use crate::args::Options;
use crate::failure::Outcome;
use crate::output::{Output, counted};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use topiclite::{ErrorKind, Result};

/// What was read, and what was found.
#[derive(Default)]
struct Counts {
    topics: u64,
    partitions: u64,
    /// Partitions of the broker's own topics, which no user made.
    internal: u64,
    findings: u64,
    notes: u64,
}

/// Findings make the exit code 1; notes, such as the uncut tail that a kill leaves, do not.
pub fn run(options: &Options, output: &Output) -> Outcome {
    let broker = options.attach()?;
    let admin = broker.admin();
    let mut counts = Counts::default();
    for topic in admin.list_all_topics()? {
        counts.topics += u64::from(!topic.is_internal());
        for partition in 0..topic.partition_count() {
            match topic.is_internal() {
                true => counts.internal += 1,
                false => counts.partitions += 1,
            }
            let found = match admin.verify_partition(topic.name(), partition) {
                Ok(found) => found,
                // The owner deleted it meanwhile.
                Err(error) if error.kind() == ErrorKind::UnknownTopicOrPartition => continue,
                // What cannot be looked at hides no other partition.
                Err(error) => {
                    counts.findings += 1;
                    let folder = options.dir()?.join(format!("{}-{partition}", topic.name()));
                    let kind = match error.kind() {
                        ErrorKind::ReadOnly => "missing-folder",
                        _ => "unreadable",
                    };
                    let path = error.path().unwrap_or(&folder);
                    tell(output, path, (error.position(), None), kind, error.message())?;
                    continue;
                }
            };
            for finding in found {
                match finding.is_note() {
                    true => counts.notes += 1,
                    false => counts.findings += 1,
                }
                let place = (finding.position, finding.offset);
                tell(output, &finding.path, place, finding.kind.name(), &finding.message)?;
            }
        }
    }
    counts.tell(output)?;
    Ok(ExitCode::from(u8::from(counts.findings > 0)))
}

impl Counts {
    fn tell(&self, output: &Output) -> Result<()> {
        let text = format!(
            "{} of {} read, and {} of the broker's own: {}, {}",
            counted(self.partitions, "partition"),
            counted(self.topics, "topic"),
            self.internal,
            counted(self.findings, "finding"),
            counted(self.notes, "note")
        );
        match output.json {
            true => output.object(&json!({
                "kind": "summary",
                "message": text,
                "topics": self.topics,
                "partitions": self.partitions,
                "internal_partitions": self.internal,
                "findings": self.findings,
                "notes": self.notes,
            })),
            false => output.line(&text),
        }
    }
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
