//! `producers`: which producers each partition of a topic knows.

use crate::args::{Options, Producers};
use crate::failure::Outcome;
use crate::output::{Output, or_dash};
use serde_json::json;
use std::process::ExitCode;
use topiclite::{Admin, Result};

pub fn run(options: &Options, producers: &Producers, output: &Output) -> Outcome {
    options.reading(output, |broker| Ok(show(&broker.admin(), producers, output)?))?;
    Ok(ExitCode::SUCCESS)
}

fn show(admin: &Admin, producers: &Producers, output: &Output) -> Result<()> {
    let topic = admin.describe_topic(&producers.topic)?;
    let mut rows = Vec::new();
    for partition in 0..topic.partition_count() {
        for known in admin.describe_producers(&producers.topic, partition)? {
            if output.json {
                output.object(&json!({
                    "topic": producers.topic,
                    "partition": partition,
                    "producer_id": known.producer_id(),
                    "producer_epoch": known.producer_epoch(),
                    "last_sequence": known.last_sequence(),
                    "last_timestamp": known.last_timestamp(),
                    "coordinator_epoch": known.coordinator_epoch(),
                    "current_transaction_start_offset": known.current_transaction_start_offset(),
                }))?;
            }
            rows.push(vec![
                partition.to_string(),
                known.producer_id().to_string(),
                known.producer_epoch().to_string(),
                or_dash(known.last_sequence()),
                known.last_timestamp().to_string(),
                or_dash(known.coordinator_epoch()),
                or_dash(known.current_transaction_start_offset()),
            ]);
        }
    }
    if !output.json {
        let heading = [
            "PARTITION",
            "PRODUCER-ID",
            "EPOCH",
            "LAST-SEQUENCE",
            "LAST-TIMESTAMP",
            "COORDINATOR-EPOCH",
            "TRANSACTION-START",
        ];
        output.table(&heading, rows)?;
    }
    Ok(())
}
