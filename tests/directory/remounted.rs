//! A disk that vanished and came back while the machine ran on, and a snapshot of a disk that is
//! mounted on its own host: the boot is the same, and what was not synced is gone. What must hold
//! is what holds after a power cut.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use topiclite::storage::Storage;
use topiclite::storage::sim::{Entries, Pages, PowerCut, Sim};
use topiclite::time::VirtualClock;
use topiclite::{
    Broker, BrokerOptions, ConsumerConfig, OffsetReset, ProducerConfig, ProducerRecord, ReadFrom,
    TopicConfig, TopicPartition,
};

fn open(sim: &Sim) -> Broker {
    let options = BrokerOptions::from_properties([("offsets.topic.num.partitions", "1")]).unwrap();
    let clock = VirtualClock::stepping().clock();
    options.clock(clock).seed(1).storage(Arc::new(sim.clone())).open("/data").unwrap()
}

fn send(broker: &Broker, from: usize, count: usize) {
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    for number in from..from + count {
        let value = format!("{number} {}", "x".repeat(200));
        producer.send(ProducerRecord::new("t").value(&value)).unwrap().wait().unwrap();
    }
}

/// How many records there are. They are those that were sent, from the first on.
fn count(broker: &Broker) -> usize {
    let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    let mut count = 0;
    while let Some(record) = reader.next(Duration::ZERO).unwrap() {
        let text = std::str::from_utf8(record.value().unwrap()).unwrap();
        assert!(text.starts_with(&format!("{count} ")), "record {count} is {text:.8}");
        count += 1;
    }
    count
}

/// A broker that is killed with 10 records flushed and 40 not, of which a group committed 45.
fn killed() -> Sim {
    let sim = Sim::new();
    let broker = open(&sim);
    let config = TopicConfig::default().segment_bytes(2000);
    broker.admin().create_topic("t", 1, config).unwrap();
    send(&broker, 0, 10);
    broker.flush().unwrap();
    send(&broker, 10, 40);
    let config = ConsumerConfig::new("g").auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config.max_poll_records(45)).unwrap();
    consumer.subscribe(&["t"]).unwrap();
    while consumer.poll(Duration::from_secs(1)).unwrap().is_empty() {}
    consumer.commit_sync().unwrap();
    // The commit reached the disk, the records that it is about did not.
    let offsets = Path::new("/data/__consumer_offsets-0/00000000000000000000.log");
    sim.open_cold(offsets).unwrap().sync_data().unwrap();
    sim.sync_dir(Path::new("/data/__consumer_offsets-0")).unwrap();
    sim
}

#[test]
fn a_disk_that_came_back_is_recovered_as_after_a_power_cut() {
    let sim = killed();
    assert_eq!(count(&open(&sim.kill())), 50, "a kill alone loses nothing");
    let cuts = (0..40).map(PowerCut::drawn);
    let worst = PowerCut::new(0, Pages::None, Entries::None);
    for cut in cuts.chain([worst, PowerCut::new(0, Pages::None, Entries::All)]) {
        let back = sim.remount(&cut);
        assert_eq!(back.boot_id(), sim.boot_id());
        let broker = open(&back);
        let kept = count(&broker);
        assert!((10..=50).contains(&kept), "{cut:?}: {kept} records");
        let end = kept as i64;
        let partition = TopicPartition::new("t", 0);
        let committed = broker.admin().list_group_offsets("g").unwrap();
        let committed = committed.get(&partition).map_or(0, |committed| committed.offset());
        assert!(committed <= end, "{cut:?}: {committed} is committed and the log ends at {end}");
        send(&broker, kept, 1);
        assert_eq!(count(&broker), kept + 1, "{cut:?}");
        assert!(broker.health().is_ok(), "{cut:?}: {:?}", broker.health());
        broker.close().unwrap();
    }
}
