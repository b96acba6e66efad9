//! Read, transform, write, each once: a program that dies in the middle of a batch, three times.
//!
//! What a batch becomes and the offsets behind it are one transaction. A death before its commit
//! leaves records in the log that no reader of committed records sees, and the batch is read
//! again. Run with `cargo run --example exactly_once`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;
use topiclite::{
    Broker, ConsumerConfig, IsolationLevel, OffsetReset, ProducerConfig, ProducerRecord, ReadFrom,
    TopicConfig, process,
};

const RECORDS: u32 = 1000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let broker = Broker::open(dir.path())?;
    for topic in ["orders", "bills"] {
        broker.admin().create_topic(topic, 1, TopicConfig::default())?;
    }
    let source = broker.producer(ProducerConfig::default())?;
    for n in 0..RECORDS {
        source.send_sync(ProducerRecord::new("orders").value(n.to_string()))?;
    }
    drop((source, broker));
    std::panic::set_hook(Box::new(|_| {}));
    for dies_at in [Some(130), Some(77), Some(501), None] {
        // A panic stands for the death of the process: nothing is closed.
        match catch_unwind(AssertUnwindSafe(|| live(dir.path(), dies_at))) {
            Ok(lived) => println!("a life came to its end, {} orders billed", lived?),
            Err(_) => println!("a life ended in the middle of a transaction"),
        }
    }
    let broker = Broker::open(dir.path())?;
    let committed = bills(&broker, IsolationLevel::ReadCommitted)?;
    let all = bills(&broker, IsolationLevel::ReadUncommitted)?;
    println!("{} bills are seen, {} were written", committed.len(), all.len());
    assert!(committed.iter().copied().eq(0..RECORDS), "each order has one bill");
    Ok(())
}

/// One life of the program: it dies at its order number `dies_at`.
fn live(dir: &Path, dies_at: Option<u32>) -> topiclite::Result<u64> {
    let broker = Broker::open(dir)?;
    let config = ConsumerConfig::new("billing")
        .auto_offset_reset(OffsetReset::Earliest)
        .max_poll_records(50)
        .enable_auto_commit(false);
    let mut consumer = broker.consumer(config)?;
    consumer.subscribe(&["orders"])?;
    let producer = broker.producer(ProducerConfig::default().transactional_id("billing-1"))?;
    let mut seen = 0;
    let mut billing = process::transform(consumer, producer, |order| {
        seen += 1;
        assert!(dies_at != Some(seen), "it dies here");
        vec![ProducerRecord::new("bills").value(order.value().unwrap_or_default().to_vec())]
    })?;
    let done = billing.run_to_the_end(Duration::from_secs(1))?.records();
    broker.close()?;
    Ok(done)
}

/// The orders that have a bill, as a reader of this isolation sees them.
fn bills(broker: &Broker, isolation: IsolationLevel) -> topiclite::Result<Vec<u32>> {
    let mut reader = broker.reader("bills", 0, ReadFrom::Beginning)?.isolation_level(isolation);
    let mut orders = Vec::new();
    loop {
        let records = reader.read(Duration::ZERO)?;
        if records.is_empty() {
            return Ok(orders);
        }
        for record in &records {
            let text = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
            orders.extend(text.parse::<u32>());
        }
    }
}
