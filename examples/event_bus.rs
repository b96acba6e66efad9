//! An event bus inside one application: one part publishes, two others each get every event.
//!
//! Groups are the subscribers. Each keeps its own place in the log, so a part that was away for a
//! while, or that died and came back, goes on where it stopped. Run with
//! `cargo run --example event_bus`.

use std::time::Duration;
use topiclite::{
    Broker, Consumer, ConsumerConfig, OffsetReset, ProducerConfig, ProducerRecord, TopicConfig,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Broker::open("events") keeps the events on disk; a kill then loses nothing that was sent.
    let broker = Broker::in_memory()?;
    broker.admin().create_topic("events", 3, TopicConfig::default())?;

    let publisher = broker.producer(ProducerConfig::default())?;
    std::thread::scope(|scope| {
        let billing = scope.spawn(|| collect(&broker, "billing", 6));
        let shipping = scope.spawn(|| collect(&broker, "shipping", 6));
        for (order, event) in
            [("a", "placed"), ("b", "placed"), ("a", "paid"), ("a", "sent"), ("b", "paid")]
        {
            // The key keeps the events of one order in order.
            publisher.send_sync(ProducerRecord::new("events").key(order).value(event))?;
        }
        publisher.send_sync(ProducerRecord::new("events").key("b").value("cancelled"))?;
        for subscriber in [billing, shipping] {
            let events = subscriber.join().map_err(|_| "a subscriber panicked")??;
            let of_a: Vec<&str> =
                events.iter().filter(|(order, _)| order == "a").map(|(_, e)| e.as_str()).collect();
            assert_eq!(of_a, ["placed", "paid", "sent"]);
            println!("{} events, of order a: {}", events.len(), of_a.join(", "));
        }
        Ok(())
    })
}

/// Reads as a member of `group` until `count` events came; order and event of each.
fn collect(broker: &Broker, group: &str, count: usize) -> topiclite::Result<Vec<(String, String)>> {
    let config = ConsumerConfig::new(group)
        .auto_offset_reset(OffsetReset::Earliest)
        .enable_auto_commit(false);
    let mut consumer: Consumer = broker.consumer(config)?;
    consumer.subscribe(&["events"])?;
    let mut events = Vec::new();
    let text =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    while events.len() < count {
        let records = consumer.poll(Duration::from_secs(1))?;
        for record in &records {
            events.push((text(record.key()), text(record.value())));
        }
        // Committed behind the work: an event is handled at least once.
        if !records.is_empty() {
            consumer.commit_sync()?;
        }
    }
    consumer.close()?;
    Ok(events)
}
