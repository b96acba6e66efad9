//! `repair`: tells what it takes to make files what opening finds them to be, or does it.
//!
//! The next append would do most of it by itself. What it never does by itself is to give up what
//! lies behind damage; here that is done because the user says so, and everything that goes is
//! kept in files named `.cut`.

use super::lost_commits::{LostCommit, lost_commits};
use crate::args::{Options, Repair};
use crate::directory;
use crate::failure::Outcome;
use crate::output::{Output, counted};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use topiclite::{
    Admin, BrokerOptions, Error, ErrorKind, IsolationLevel, OffsetSpec, PlannedRepair, Result,
};

const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// What was told.
#[derive(Default)]
struct Counts {
    changes: u64,
    refused: u64,
}

pub fn run(options: &Options, repair: &Repair, output: &Output) -> Outcome {
    let mut counts = Counts::default();
    if repair.execute {
        let dir = options.present()?;
        let broker = BrokerOptions::new().cut_damage(true).open(dir)?;
        let admin = broker.admin();
        let done = counts.tell_all(&admin, dir, output, |topic, partition| {
            admin.repair_partition(topic, partition)
        });
        let closed = directory::close(&broker, output);
        done?;
        closed?;
    } else {
        let broker = options.attach()?;
        let admin = broker.admin();
        counts.tell_all(&admin, options.present()?, output, |topic, partition| {
            admin.planned_repairs(topic, partition)
        })?;
    }
    counts.conclude(repair.execute, output)?;
    Ok(ExitCode::from(u8::from(counts.refused > 0)))
}

impl Counts {
    /// Tells the changes of every partition.
    fn tell_all(
        &mut self,
        admin: &Admin,
        dir: &Path,
        output: &Output,
        mut changes: impl FnMut(&str, i32) -> Result<Vec<PlannedRepair>>,
    ) -> Result<()> {
        for topic in admin.list_all_topics()? {
            for partition in 0..topic.partition_count() {
                let lost = lost_of(admin, dir, topic.name(), partition)?;
                match changes(topic.name(), partition) {
                    Ok(changes) => {
                        if !changes.is_empty() {
                            lost.iter().try_for_each(|lost| show_lost(output, lost))?;
                        }
                        self.changes += changes.len() as u64;
                        for change in &changes {
                            show(output, topic.name(), partition, change)?;
                        }
                    }
                    Err(error) if is_refusal(error.kind()) => {
                        self.refused += 1;
                        show_refusal(output, topic.name(), partition, &error)?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn conclude(&self, executed: bool, output: &Output) -> Result<()> {
        if output.json {
            return Ok(());
        }
        if self.changes == 0 && self.refused == 0 {
            return output.line("nothing is to be repaired");
        }
        let changes = counted(self.changes, "change");
        output.line(&match executed {
            true => format!("{changes} made"),
            false => format!("a dry run: {changes} would be made, none was; --execute makes them"),
        })
    }
}

/// The commits behind the damage of a partition of `__consumer_offsets`.
fn lost_of(admin: &Admin, dir: &Path, topic: &str, partition: i32) -> Result<Vec<LostCommit>> {
    if topic != OFFSETS_TOPIC {
        return Ok(Vec::new());
    }
    let isolation = IsolationLevel::ReadUncommitted;
    let end = match admin.list_offsets(topic, partition, OffsetSpec::Latest, isolation) {
        Ok(found) => found.offset(),
        Err(error) if error.kind() == ErrorKind::CorruptRecord => error.offset(),
        // What the repair itself tells.
        Err(_) => None,
    };
    let folder = dir.join(format!("{topic}-{partition}"));
    end.map_or(Ok(Vec::new()), |end| lost_commits(&folder, end))
}

fn show_lost(output: &Output, commit: &LostCommit) -> Result<()> {
    let (group, topic, partition) = &commit.place;
    if output.json {
        return output.object(&json!({
            "group": &**group,
            "topic": &**topic,
            "partition": partition,
            "lost_offset": commit.lost,
            "committed_offset": commit.kept,
        }));
    }
    let offset = |offset: Option<i64>| offset.map_or_else(|| "none".to_owned(), |o| o.to_string());
    output.line(&format!(
        "group {group}: the committed offset of {topic}-{partition} goes back from {} to {}",
        offset(commit.lost),
        offset(commit.kept)
    ))
}

/// Whether it says something of this partition alone: the others are gone on with.
fn is_refusal(kind: ErrorKind) -> bool {
    use ErrorKind::{CorruptRecord, Io, ReadOnly, RecordTooLarge, UnsupportedFormat};
    matches!(kind, CorruptRecord | Io | UnsupportedFormat | ReadOnly | RecordTooLarge)
}

fn show(output: &Output, topic: &str, partition: i32, change: &PlannedRepair) -> Result<()> {
    match output.json {
        true => output.object(&json!({
            "topic": topic,
            "partition": partition,
            "path": change.path.display().to_string(),
            "action": change.action,
        })),
        false => output.line(&format!("{}: {}", change.path.display(), change.action)),
    }
}

/// A partition that stays as it is: its folder is missing, its format is not read, or a file of it
/// cannot be.
fn show_refusal(output: &Output, topic: &str, partition: i32, error: &Error) -> Result<()> {
    match output.json {
        true => output.object(&json!({
            "topic": topic,
            "partition": partition,
            "path": error.path().map(|path| path.display().to_string()),
            "action": Value::Null,
            "message": error.to_string(),
        })),
        false if error.kind() == ErrorKind::Io => {
            output.line(&format!("{topic}-{partition} stays as it is: {error}"))
        }
        false => output.line(&format!("{topic}-{partition} stays read-only: {error}")),
    }
}
