//! `transactions`: which transactional ids there are, where each stands, and ending what hangs.

use crate::args::{Options, Transactions, TransactionsAction};
use crate::directory;
use crate::failure::Outcome;
use crate::output::{Output, or_dash};
use serde_json::{Value, json};
use std::process::ExitCode;
use topiclite::{Admin, Broker, Error, ErrorKind, Result, TransactionDescription};

pub fn run(options: &Options, transactions: &Transactions, output: &Output) -> Outcome {
    match &transactions.action {
        TransactionsAction::List => {
            options.reading(output, |broker| Ok(list(&broker.admin(), output)?))?;
        }
        TransactionsAction::Describe { id } => {
            options.reading(output, |broker| {
                Ok(describe(&broker.admin().describe_transaction(id)?, output)?)
            })?;
        }
        TransactionsAction::Abort { id: Some(id), .. } => {
            end(&options.open()?, output, |admin| {
                admin.fence_producers(&[id.as_str()])?.into_iter().collect::<Result<()>>()
            })?;
            match output.json {
                true => output.object(&json!({ "transactional_id": id }))?,
                false => output.line(&format!(
                    "transactional id {id} has nothing open, and its producer is fenced"
                ))?,
            }
        }
        TransactionsAction::Abort { producer_id, topic, partition, .. } => {
            // The parser sees to it that the three come together.
            let (producer_id, partition) = (producer_id.unwrap_or(-1), partition.unwrap_or(-1));
            let topic = topic.as_deref().unwrap_or_default();
            end(&options.open()?, output, |admin| {
                let known = admin.describe_producers(topic, partition)?;
                let is_open = |known: &topiclite::ProducerState| {
                    known.producer_id() == producer_id
                        && known.current_transaction_start_offset().is_some()
                };
                if !known.iter().any(is_open) {
                    let why = format!("producer id {producer_id} has no transaction open there");
                    return Err(Error::new(ErrorKind::InvalidTxnState, why));
                }
                admin.abort_transaction(topic, partition, producer_id)
            })?;
            match output.json {
                true => output.object(&json!({
                    "topic": topic, "partition": partition, "producer_id": producer_id
                }))?,
                false => output.line(&format!(
                    "what producer id {producer_id} had open in {topic}-{partition} is aborted"
                ))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends something, and closes the directory whatever came of it.
fn end(broker: &Broker, output: &Output, work: impl FnOnce(&Admin) -> Result<()>) -> Result<()> {
    let ended = work(&broker.admin());
    let closed = directory::close(broker, output);
    ended.and(closed)
}

fn list(admin: &Admin, output: &Output) -> Result<()> {
    let mut rows = Vec::new();
    for listed in admin.list_transactions()? {
        if output.json {
            output.object(&shown(&listed))?;
        }
        rows.push(vec![
            listed.transactional_id().to_owned(),
            listed.state().to_string(),
            listed.producer_id().to_string(),
            listed.producer_epoch().to_string(),
        ]);
    }
    match output.json {
        true => Ok(()),
        false => output.table(&["TRANSACTIONAL-ID", "STATE", "PRODUCER-ID", "EPOCH"], rows),
    }
}

/// A row with everything; the partitions of a transaction are few.
fn describe(described: &TransactionDescription, output: &Output) -> Result<()> {
    if output.json {
        return output.object(&shown(described));
    }
    let partitions: Vec<String> = described.partitions().iter().map(ToString::to_string).collect();
    let heading = [
        "TRANSACTIONAL-ID",
        "STATE",
        "PRODUCER-ID",
        "EPOCH",
        "TIMEOUT-MS",
        "START-MS",
        "PARTITIONS",
    ];
    output.table(
        &heading,
        vec![vec![
            described.transactional_id().to_owned(),
            described.state().to_string(),
            described.producer_id().to_string(),
            described.producer_epoch().to_string(),
            described.timeout().as_millis().to_string(),
            or_dash(described.start_timestamp()),
            if partitions.is_empty() { "-".to_owned() } else { partitions.join(" ") },
        ]],
    )
}

fn shown(described: &TransactionDescription) -> Value {
    let partitions: Vec<Value> = described
        .partitions()
        .iter()
        .map(|tp| json!({"topic": tp.topic(), "partition": tp.partition()}))
        .collect();
    json!({
        "transactional_id": described.transactional_id(),
        "state": described.state().name(),
        "producer_id": described.producer_id(),
        "producer_epoch": described.producer_epoch(),
        "timeout_ms": u64::try_from(described.timeout().as_millis()).unwrap_or(u64::MAX),
        "start_timestamp": described.start_timestamp(),
        "last_update_timestamp": described.last_update_timestamp(),
        "partitions": partitions,
    })
}
