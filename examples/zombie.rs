//! A program that stalls, and another that takes over its work: the first one comes back, and can
//! do no harm.
//!
//! Both have the same `transactional.id`. The second one's `init_transactions` fences the first,
//! and aborts what it left open. Run with `cargo run --example zombie`.

use std::time::Duration;
use topiclite::{
    Broker, ErrorKind, IsolationLevel, Producer, ProducerConfig, ProducerRecord, ReadFrom,
    TopicConfig,
};

fn main() -> topiclite::Result<()> {
    let broker = Broker::in_memory()?;
    broker.admin().create_topic("transfers", 1, TopicConfig::default())?;
    let instance = || -> topiclite::Result<Producer> {
        let producer = broker.producer(ProducerConfig::default().transactional_id("teller-1"))?;
        producer.init_transactions()?;
        Ok(producer)
    };
    let record = |value| ProducerRecord::new("transfers").value(value);

    let a = instance()?;
    a.begin_transaction()?;
    a.send_sync(record("100 from alice, by A"))?;
    println!("A has sent, and stalls before its commit");

    let b = instance()?;
    b.begin_transaction()?;
    b.send_sync(record("100 from alice, by B"))?;
    b.commit_transaction()?;
    println!("B took over, and committed the same transfer");

    let late = refusal(a.send(record("100 to bob, by A"))?.wait());
    println!("A is back, its send is refused: {late}");
    let refused = refusal(a.commit_transaction());
    println!("A's commit is refused: {refused}");
    let fenced = refusal(a.abort_transaction());
    println!("A learns why: {fenced}");
    assert_eq!(fenced.kind(), ErrorKind::ProducerFenced);
    assert!(fenced.is_fatal());

    let reader = broker.reader("transfers", 0, ReadFrom::Beginning)?;
    let mut reader = reader.isolation_level(IsolationLevel::ReadCommitted);
    let records = reader.read(Duration::ZERO)?;
    for record in &records {
        println!("a reader sees: {}", String::from_utf8_lossy(record.value().unwrap_or_default()));
    }
    assert_eq!(records.len(), 1);
    Ok(())
}

/// What a producer that was replaced is told.
fn refusal<T>(outcome: topiclite::Result<T>) -> topiclite::Error {
    match outcome {
        Err(refused) => refused,
        Ok(_) => panic!("A was replaced, and may do nothing"),
    }
}
