//! A compacted topic as a table, over three lives of a program: the first fills the topic and saves
//! what it holds, the second begins there, and the third finds a snapshot that is damaged.
//!
//! Whatever the table begins with, it ends with what the log says. Run with
//! `cargo run --example table`.

use std::path::Path;
use std::time::Duration;
use topiclite::{
    Broker, ProducerConfig, ProducerRecord, Result, TableOptions, TableOrigin, TopicConfig,
};

const GOODS: [&str; 4] = ["tea", "milk", "sugar", "lemons"];

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let snapshot = dir.path().join("prices.table");
    let broker = Broker::open(dir.path().join("data"))?;
    let compacted = TopicConfig::default().cleanup_policy(&["compact"]);
    broker.admin().create_topic("prices", 2, compacted)?;
    broker.close()?;

    let first = live(&dir.path().join("data"), &snapshot, 1)?;
    assert_eq!(first, TableOrigin::Replay);
    let second = live(&dir.path().join("data"), &snapshot, 2)?;
    assert_eq!(second, TableOrigin::Snapshot(GOODS.len() - 1));
    damage(&snapshot)?;
    let third = live(&dir.path().join("data"), &snapshot, 3)?;
    assert!(matches!(third, TableOrigin::Rebuilt(_)));
    Ok(())
}

/// One life: it changes prices, and follows them. Returns how its table began.
fn live(data: &Path, snapshot: &Path, life: usize) -> Result<TableOrigin> {
    let broker = Broker::open(data)?;
    let mut table = broker.table("prices", TableOptions::new().snapshot(snapshot))?;
    let origin = table.origin().clone();
    println!("life {life} begins with {} prices, by {origin:?}", table.len());
    assert!(table.catch_up(Duration::from_secs(60))?);

    let producer = broker.producer(ProducerConfig::default())?;
    for price in 0..250 {
        for good in GOODS {
            let price = format!("{life}.{price:02}");
            producer.send_sync(ProducerRecord::new("prices").key(good).value(price))?;
        }
    }
    // Without a value it is a tombstone.
    producer.send_sync(ProducerRecord::new("prices").key("lemons"))?;
    let view = table.view();
    let mut changes = 0;
    while table.lag()? > 0 {
        changes += table.update(Duration::ZERO)?.len();
    }
    println!("  {changes} changes; {} goods have a price:", view.len());
    for entry in &view {
        println!("  {:?} {:?}", entry.key(), entry.value());
    }
    assert_eq!(view.get("tea").as_deref(), Some(format!("{life}.249").as_bytes()));
    assert!(!view.contains_key("lemons"));
    table.save()?;
    broker.close()?;
    Ok(origin)
}

/// Changes a byte in the middle of a file.
#[allow(clippy::disallowed_methods)] // The disk, of somebody else.
fn damage(path: &Path) -> std::io::Result<()> {
    let mut bytes = std::fs::read(path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes)
}
