//! `compact`: cleans a topic on request, whatever its dirty ratio.

use crate::args::{Compact, Options};
use crate::directory;
use crate::failure::Outcome;
use crate::output::{Output, counted, or_dash, size};
use serde_json::json;
use std::process::ExitCode;
use topiclite::{Compaction, Result};

pub fn run(options: &Options, compact: &Compact, output: &Output) -> Outcome {
    let broker = options.open()?;
    let admin = broker.admin();
    let done = match compact.now {
        true => admin.compact_now(&compact.topic),
        false => admin.compact(&compact.topic),
    };
    let told = done.and_then(|done| tell(&compact.topic, &done, output));
    let closed = directory::close(&broker, output);
    told?;
    closed?;
    Ok(ExitCode::SUCCESS)
}

fn tell(topic: &str, done: &[Compaction], output: &Output) -> Result<()> {
    if output.json {
        return done.iter().try_for_each(|done| {
            output.object(&json!({
                "topic": topic,
                "partition": done.partition(),
                "end_offset": done.end_offset(),
                "bytes_before": done.bytes_before(),
                "bytes_after": done.bytes_after(),
                "records_removed": done.records_removed(),
            }))
        });
    }
    let rows = done.iter().map(|done| {
        vec![
            done.partition().to_string(),
            or_dash(done.end_offset()),
            size(done.bytes_before()),
            size(done.bytes_after()),
            counted(done.records_removed(), "record"),
        ]
    });
    output.table(&["PARTITION", "CLEANED-TO", "BEFORE", "AFTER", "REMOVED"], rows.collect())
}
