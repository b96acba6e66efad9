//! A test double for code that talks to Kafka: the same semantics, in memory, under a clock that
//! the
//! test moves, so that a session timeout of 45 seconds takes no time at all.
//!
//! Run with `cargo run --features testing --example test_double`.

use std::time::Duration;
use topiclite::time::VirtualClock;
use topiclite::{
    Broker, BrokerOptions, Consumer, ConsumerConfig, OffsetReset, ProducerConfig, ProducerRecord,
    Result, TopicConfig,
};

fn main() -> Result<()> {
    let time = VirtualClock::manual().starting_at(1_700_000_000_000);
    let broker = BrokerOptions::new().clock(time.clock()).in_memory()?;
    broker.admin().create_topic("jobs", 2, TopicConfig::default())?;
    let producer = broker.producer(ProducerConfig::default())?;
    for job in ["wash", "dry", "fold", "iron"] {
        producer.send(ProducerRecord::new("jobs").key(job).value(job))?.wait()?;
    }

    // Two workers share the partitions.
    let (mut one, mut two) = (worker(&broker)?, worker(&broker)?);
    let mut done = Vec::new();
    while one.assignment()?.len() != 1 || two.assignment()?.len() != 1 {
        work(&mut one, &mut done)?;
        work(&mut two, &mut done)?;
        time.advance(Duration::from_millis(100));
    }
    println!("{} jobs done by two workers", done.len());

    // One dies without a word. Nothing happens until its session is over.
    two.kill();
    time.advance(Duration::from_secs(30));
    work(&mut one, &mut done)?;
    assert_eq!(one.assignment()?.len(), 1);
    time.advance(Duration::from_secs(16));
    while one.assignment()?.len() != 2 {
        work(&mut one, &mut done)?;
        time.advance(Duration::from_millis(100));
    }
    println!("46 virtual seconds later the other one owns both partitions");

    // Time stands still unless it is moved: timestamps are exact.
    let sent = producer.send(ProducerRecord::new("jobs").value("starch"))?.wait()?;
    assert_eq!(sent.timestamp(), time.now().wall_ms);
    while !done.iter().any(|job| job == "starch") {
        work(&mut one, &mut done)?;
    }
    done.sort();
    done.dedup();
    assert_eq!(done, ["dry", "fold", "iron", "starch", "wash"]);
    println!("every job was done: {}", done.join(", "));
    one.close()
}

fn worker(broker: &Broker) -> Result<Consumer> {
    let config = ConsumerConfig::new("workers")
        .auto_offset_reset(OffsetReset::Earliest)
        .enable_auto_commit(false);
    let mut consumer = broker.consumer(config)?;
    consumer.subscribe(&["jobs"])?;
    Ok(consumer)
}

/// Takes what there is, without waiting.
fn work(worker: &mut Consumer, done: &mut Vec<String>) -> Result<()> {
    let records = worker.poll(Duration::ZERO)?;
    let values = records.iter().filter_map(|record| record.value());
    done.extend(values.map(|value| String::from_utf8_lossy(value).into_owned()));
    if !records.is_empty() {
        worker.commit_sync()?;
    }
    Ok(())
}
