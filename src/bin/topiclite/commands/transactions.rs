//! `transactions`: which transactional ids there are, where each stands, and ending what hangs.

use crate::args::{Options, Transactions, TransactionsAction};
use crate::directory;
use crate::failure::Outcome;
use crate::output::{Output, or_dash};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;
use topiclite::{Admin, Broker, Error, ErrorKind, Result, TopicPartition, TransactionDescription};

const STATE_TOPIC: &str = "__transaction_state";

pub fn run(options: &Options, transactions: &Transactions, output: &Output) -> Outcome {
    match &transactions.action {
        TransactionsAction::List => {
            options.reading(output, |broker| {
                list(&broker.admin(), output)?;
                // What is listed is there, and that something may be missing is told.
                directory::damage_of(broker, STATE_TOPIC)
                    .map_or(Ok(()), |damage| Err(damage.into()))
            })?;
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
        TransactionsAction::Abort { producer_id, start_offset, topic, partition, .. } => {
            // The parser sees to it that there are a topic, a partition, and one of the two.
            let place =
                TopicPartition::new(topic.as_deref().unwrap_or_default(), partition.unwrap_or(-1));
            let wanted = match (producer_id, start_offset) {
                (Some(id), _) => Wanted::ProducerId(*id),
                (None, offset) => Wanted::StartOffset(offset.unwrap_or(-1)),
            };
            abort_in(options, output, &place, wanted)?;
        }
        TransactionsAction::FindHanging { topic, partition, max_transaction_timeout } => {
            let timeout = Duration::from_secs(u64::from(*max_transaction_timeout) * 60);
            options.reading(output, |broker| {
                let searched = searched(&broker.admin(), topic.as_deref(), *partition)?;
                Ok(find_hanging(&broker.admin(), &searched, timeout, output)?)
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Which of the transactions that are open in a partition.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    ProducerId(i64),
    StartOffset(i64),
}

/// Aborts what is open in one partition, and there alone.
fn abort_in(
    options: &Options,
    output: &Output,
    place: &TopicPartition,
    wanted: Wanted,
) -> Outcome<()> {
    let (topic, partition) = (place.topic(), place.partition());
    let mut producer_id = -1;
    end(&options.open()?, output, |admin| {
        let known = admin.describe_producers(topic, partition)?;
        let found = known.iter().find(|known| {
            known.current_transaction_start_offset().is_some_and(|start| match wanted {
                Wanted::ProducerId(id) => known.producer_id() == id,
                Wanted::StartOffset(offset) => start == offset,
            })
        });
        producer_id = found.ok_or_else(|| nothing_open(wanted))?.producer_id();
        admin.abort_transaction(topic, partition, producer_id)
    })?;
    match output.json {
        true => output.object(&json!({
            "topic": topic, "partition": partition, "producer_id": producer_id
        }))?,
        false => output
            .line(&format!("what producer id {producer_id} had open in {place} is aborted"))?,
    }
    Ok(())
}

fn nothing_open(wanted: Wanted) -> Error {
    let why = match wanted {
        Wanted::ProducerId(id) => format!("producer id {id} has no transaction open there"),
        Wanted::StartOffset(offset) => format!("no open transaction begins there at {offset}"),
    };
    Error::new(ErrorKind::InvalidTxnState, why)
}

/// The partitions that are looked through.
///
/// Departure: D118. Without a topic, Kafka leaves internal topics out.
fn searched(
    admin: &Admin,
    topic: Option<&str>,
    partition: Option<i32>,
) -> Result<Vec<TopicPartition>> {
    let topics = match topic {
        Some(topic) => vec![(topic.to_owned(), admin.describe_topic(topic)?.partition_count())],
        None => {
            let all = admin.list_all_topics()?;
            all.iter().map(|topic| (topic.name().to_owned(), topic.partition_count())).collect()
        }
    };
    let each = |(topic, count): (String, i32)| {
        let numbers = partition.map_or(0..count, |one| one..one.saturating_add(1));
        numbers.map(move |number| TopicPartition::new(topic.as_str(), number))
    };
    Ok(topics.into_iter().flat_map(each).collect())
}

/// Shows what hangs; a partition that cannot be looked at is the failure of the command, and
/// keeps none of the others back.
fn find_hanging(
    admin: &Admin,
    searched: &[TopicPartition],
    timeout: Duration,
    output: &Output,
) -> Result<()> {
    let (mut rows, mut failed) = (Vec::new(), Ok(()));
    for (place, found) in searched.iter().zip(admin.find_hanging_transactions(searched, timeout)?) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                failed = failed.and(Err(error.with_partition(place.topic(), place.partition())));
                continue;
            }
        };
        for hanging in &found {
            let producer = hanging.producer();
            if output.json {
                output.object(&json!({
                    "topic": place.topic(),
                    "partition": place.partition(),
                    "producer_id": producer.producer_id(),
                    "producer_epoch": producer.producer_epoch(),
                    "coordinator_epoch": producer.coordinator_epoch(),
                    "start_offset": producer.current_transaction_start_offset(),
                    "last_timestamp": producer.last_timestamp(),
                }))?;
            }
            rows.push(vec![
                place.topic().to_owned(),
                place.partition().to_string(),
                producer.producer_id().to_string(),
                producer.producer_epoch().to_string(),
                or_dash(producer.coordinator_epoch()),
                or_dash(producer.current_transaction_start_offset()),
                producer.last_timestamp().to_string(),
            ]);
        }
    }
    if !output.json {
        let heading = [
            "TOPIC",
            "PARTITION",
            "PRODUCER-ID",
            "EPOCH",
            "COORDINATOR-EPOCH",
            "START-OFFSET",
            "LAST-TIMESTAMP",
        ];
        output.table(&heading, rows)?;
    }
    failed
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
