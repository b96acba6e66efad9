//! commit_sync of one partition and of a hundred, per partition, held against a fixed bound.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use limits::{held_against, per_unit};
use std::collections::BTreeMap;
use topiclite::{ConsumerConfig, OffsetAndMetadata, TopicPartition};
use workload::TOPIC;

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    let dir = workload::folder();
    let broker = workload::open(&dir);
    workload::create(&broker, 100);
    let mut consumer = broker.consumer(ConsumerConfig::new("group")).unwrap();
    let all: Vec<_> = (0..100).map(|n| TopicPartition::new(TOPIC, n)).collect();
    for (count, bound_ns, calls) in [(1, 1000.0, 20_000), (100, 300.0, 1_000)] {
        consumer.assign(&all[..count]).unwrap();
        let mut offsets: BTreeMap<_, _> =
            all[..count].iter().map(|p| (p.clone(), OffsetAndMetadata::new(0))).collect();
        let mut next = 0;
        held_against(
            &format!("commit_sync, {count} partitions, per partition / the bound"),
            1.0,
            || {
                per_unit(calls * count, || {
                    for _ in 0..calls {
                        next += 1;
                        offsets.values_mut().for_each(|o| *o = OffsetAndMetadata::new(next));
                        consumer.commit_sync_offsets(&offsets).unwrap();
                    }
                })
            },
            || bound_ns,
        );
    }
    consumer.close().unwrap();
    broker.close().unwrap();
}
