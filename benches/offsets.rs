//! What commits leave behind: the size of the offsets topic while they are made, as fast as they
//! can be, and afterwards, and what the first use of a group costs after an open.
//!
//! `TOPICLITE_COMMITS` says how many are made; a million by default.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use limits::{figure_against, per_unit, percentile};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use topiclite::{
    Broker, BrokerOptions, Consumer, ConsumerConfig, OffsetAndMetadata, TopicPartition,
};
use workload::TOPIC;

const GROUPS: usize = 100;
/// Of each group, one after the other.
const BURST: usize = 100;
/// What the offsets topic is to stay below.
const SIZE_MAX: f64 = (32 << 20) as f64;
/// What the first use of a group is to take, in nanoseconds.
const FIRST_USE_MAX: f64 = 5e6;

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    let count = std::env::var("TOPICLITE_COMMITS").map_or(1_000_000, |text| text.parse().unwrap());
    let dir = workload::folder();
    let place = dir.path().join("broker");
    let broker = BrokerOptions::new().open(&place).unwrap();
    workload::create(&broker, 8);
    let mut largest = 0;
    let took = per_unit(count, || {
        let mut members: Vec<_> = (0..GROUPS).map(|group| member(&broker, group)).collect();
        for round in 0..count / (GROUPS * BURST) {
            for (group, consumer) in members.iter_mut().enumerate() {
                commit(consumer, group, round);
            }
            largest = largest.max(held(&place));
        }
    });
    let what = format!("offsets topic while {count} commits are made");
    figure_against(&format!("{what}, bytes / 32 MiB"), 1.0, largest as f64, SIZE_MAX);
    println!("figure | the same, a commit | {took:.0} ns");
    println!("figure | bytes at the end | {}", held(&place));
    broker.close().unwrap();
    println!("figure | bytes after the close | {}", held(&place));
    let (mut times, mut bytes) = (Vec::new(), 0);
    for group in 0..GROUPS {
        let broker = BrokerOptions::new().open(&place).unwrap();
        let mut consumer = member(&broker, group);
        times.push(per_unit(1, || {
            let asked = [partition_of(group)];
            let known = consumer.committed(&asked).unwrap();
            assert_eq!(known.len(), 1);
        }));
        bytes = bytes.max(broker.health().counter("coordinator_bytes_loaded"));
        broker.close().unwrap();
    }
    let median = percentile(&mut times, 0.5);
    figure_against("first use of a group, median / 5 ms", 1.0, median, FIRST_USE_MAX);
    let worst = percentile(&mut times, 1.0);
    figure_against("first use of a group, the longest / 5 ms", 1.0, worst, FIRST_USE_MAX);
    println!("figure | bytes read for it, at most | {bytes}");
}

fn partition_of(group: usize) -> TopicPartition {
    TopicPartition::new(TOPIC, (group % 8) as i32)
}

fn member(broker: &Broker, group: usize) -> Consumer {
    let config = ConsumerConfig::new(format!("group-{group}")).enable_auto_commit(false);
    broker.consumer(config).unwrap()
}

fn commit(consumer: &mut Consumer, group: usize, round: usize) {
    for n in 0..BURST {
        let next = OffsetAndMetadata::new((round * BURST + n) as i64);
        consumer.commit_sync_offsets(&BTreeMap::from([(partition_of(group), next)])).unwrap();
    }
}

/// Bytes on the disk of the partitions of the offsets topic.
fn held(place: &Path) -> u64 {
    let folders = std::fs::read_dir(place).unwrap().map(Result::unwrap);
    let folders = folders.filter(|f| f.file_name().to_string_lossy().starts_with("__consumer_off"));
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten());
    // The cleaner removes files meanwhile.
    files.filter_map(|file| Some(file.ok()?.metadata().ok()?.blocks() * 512)).sum()
}
