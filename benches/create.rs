//! Creating a topic, whatever its partitions, held against one bare fdatasync.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod limits;
mod workload;

use limits::{held_against, per_unit};
use topiclite::TopicConfig;

fn main() {
    if !workload::is_asked_for() {
        return;
    }
    let dir = workload::folder();
    let broker = workload::open(&dir);
    let mut made = 0;
    for (partitions, calls) in [(1, 100), (100, 100), (1_000, 20)] {
        held_against(
            &format!("create a topic of {partitions} partitions / bare fdatasync"),
            2.0,
            || {
                let from = made;
                made += calls;
                let time = per_unit(calls, || {
                    for n in from..made {
                        let name = format!("topic{n}");
                        let config = TopicConfig::default();
                        broker.admin().create_topic(&name, partitions, config).unwrap();
                    }
                });
                for n in from..made {
                    broker.admin().delete_topic(&format!("topic{n}")).unwrap();
                }
                time
            },
            || limits::bare_fdatasync(dir.path(), 100),
        );
    }
    broker.close().unwrap();
}
