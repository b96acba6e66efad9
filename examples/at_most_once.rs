//! Committed before the work: a program that dies in between leaves some of it out.
//!
//! No order is billed twice. That an order may never be billed has to be no harm. Run with
//! `cargo run --example at_most_once`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use topiclite::{
    Broker, ConsumerConfig, OffsetReset, ProducerConfig, ProducerRecord, ReadFrom, TopicConfig,
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
    for dies_at in [Some(130), Some(77), Some(501), None] {
        let billed = live(dir.path(), dies_at)?;
        println!("a life billed {billed} orders{}", dies_at.map_or("", |_| ", and died"));
    }
    let bills = bills(&Broker::open(dir.path())?)?;
    let twice = bills.values().filter(|count| **count > 1).count();
    let never = RECORDS as usize - bills.len();
    println!("{twice} orders were billed twice, {never} never");
    assert!(twice == 0 && never > 0);
    Ok(())
}

/// One life of the program: it dies when it handled `dies_at` orders. Dropping everything stands
/// for the death of the process: nothing is closed.
fn live(dir: &Path, dies_at: Option<u32>) -> topiclite::Result<u32> {
    let broker = Broker::open(dir)?;
    let config = ConsumerConfig::new("billing")
        .auto_offset_reset(OffsetReset::Earliest)
        .max_poll_records(50)
        .enable_auto_commit(false);
    let mut consumer = broker.consumer(config)?;
    consumer.subscribe(&["orders"])?;
    let producer = broker.producer(ProducerConfig::default())?;
    let mut billed = 0;
    loop {
        let orders = consumer.poll(Duration::from_secs(1))?;
        if orders.is_empty() {
            broker.close()?;
            return Ok(billed);
        }
        consumer.commit_sync()?;
        for order in &orders {
            if dies_at == Some(billed) {
                return Ok(billed);
            }
            let bill = ProducerRecord::new("bills").value(order.value().unwrap_or_default());
            producer.send_sync(bill)?;
            billed += 1;
        }
    }
}

/// How many bills each order has.
fn bills(broker: &Broker) -> topiclite::Result<BTreeMap<String, u32>> {
    let mut reader = broker.reader("bills", 0, ReadFrom::Beginning)?;
    let mut bills = BTreeMap::new();
    loop {
        let records = reader.read(Duration::ZERO)?;
        if records.is_empty() {
            return Ok(bills);
        }
        for record in &records {
            let order = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
            *bills.entry(order).or_default() += 1;
        }
    }
}
