//! Topics that are compacted while they are written: keys, tombstones, transactions, trims.

use super::Theme;
use super::script::{Script, Stage};
use serde_json::json;

pub const COMPACTION: Theme = Theme {
    name: "compaction",
    about: "A compacted topic written and read at random.",
    features: &["A6"],
    length: (5, 10),
    begin,
    moves: &[
        (14, send_several),
        (8, send_batch),
        (4, transact),
        (6, clean),
        (3, read),
        (2, trim),
        (2, seek_and_drain),
        (2, list_offsets),
    ],
    end,
};

fn begin(script: &mut Script) {
    let mut config = json!({"cleanup.policy": "compact", "segment.ms": "1000",
                            "min.cleanable.dirty.ratio": "0.01"});
    let mut set = |percent: u64, key: &str, of: &[&str]| {
        if script.rng.chance(percent) {
            config[key] = json!(script.rng.pick(of));
        }
    };
    set(40, "delete.retention.ms", &["0", "1000"]);
    set(25, "cleanup.policy", &["compact,delete"]);
    set(15, "min.compaction.lag.ms", &["600000"]);
    set(20, "compression.type", &["lz4", "zstd", "gzip", "uncompressed"]);
    set(25, "internal.segment.bytes", &["400", "1000"]);
    set(10, "min.cleanable.dirty.ratio", &["0.5"]);
    script.topic("t", 1, config);
    script.actor("p", "producer", json!({"linger.ms": "0"}));
    script.actor("b", "producer", json!({"linger.ms": "50000"}));
    script.actor("x", "producer", json!({"linger.ms": "0", "transactional.id": "x"}));
    script.actor("c", "consumer", json!({"isolation.level": "read_committed"}));
    script.producers.insert("x", Stage::New);
}

/// Records rise in time, far in the past, so that a later one closes the segment by its time.
fn place(script: &mut Script, by: &str) -> serde_json::Value {
    let time = 1_700_000_000_000_i64 + 10_000 * i64::try_from(script.len()).unwrap();
    let key = script.rng.pick(&["a", "a", "b", "b", "c", "d", ""]);
    let mut step = json!({"by": by, "topic": "t", "partition": 0, "key": key, "timestamp": time});
    match script.rng.chance(20) {
        true => step["value"] = serde_json::Value::Null,
        false => {
            let (letter, times) = (script.rng.pick(&["v", "w"]), script.rng.pick(&[1, 20, 120]));
            step["value"] = json!(format!("{letter}{}", script.tag()).repeat(times));
        }
    }
    step
}

fn send_several(script: &mut Script) {
    for _ in 0..script.rng.between(1, 4) {
        let mut step = place(script, "p");
        step["do"] = json!("send");
        step["flush"] = json!(true);
        script.step(step);
    }
}

fn send_batch(script: &mut Script) {
    for _ in 0..script.rng.between(2, 6) {
        let mut step = place(script, "b");
        step["do"] = json!("send_async");
        script.step(step);
    }
    script.step(json!({"do": "flush", "by": "b"}));
}

fn transact(script: &mut Script) {
    if script.producers.insert("x", Stage::Ready) == Some(Stage::New) {
        script.step(json!({"do": "init_transactions", "by": "x"}));
    }
    script.step(json!({"do": "begin", "by": "x"}));
    for _ in 0..script.rng.between(1, 3) {
        let mut step = place(script, "x");
        step["do"] = json!("send");
        step["flush"] = json!(true);
        script.step(step);
    }
    let doing = script.rng.pick(&["commit", "commit", "abort"]);
    script.step(json!({"do": doing, "by": "x"}));
}

/// Closes the segment by a later record, and gives the cleaner its time.
fn clean(script: &mut Script) {
    let mut step = place(script, "p");
    step["do"] = json!("send");
    step["flush"] = json!(true);
    script.step(step);
    let ms = script.rng.pick(&[2500, 4000]);
    script.step(json!({"do": "sleep", "ms": ms}));
}

/// A real node cleans between any two steps; all that can be cleaned is, before it is looked at.
fn settle(script: &mut Script) {
    script.step(json!({"do": "sleep", "ms": 4000}));
}

fn read(script: &mut Script) {
    settle(script);
    let isolation = script.rng.pick(&["read_uncommitted", "read_committed"]);
    script.step(json!({"do": "read", "topic": "t", "isolation": isolation, "timestamps": true}));
}

fn trim(script: &mut Script) {
    let before = script.rng.pick(&[-1, 1, 3, 6]);
    script.step(json!({"do": "delete_records", "topic": "t", "partition": 0, "before": before}));
}

fn seek_and_drain(script: &mut Script) {
    if script.consumers.insert("c", super::script::Standing::Assigned).is_none() {
        script.step(json!({"do": "assign", "by": "c", "partitions": ["t-0"]}));
    }
    settle(script);
    let offset = script.rng.between(0, 6);
    script.step(json!({"do": "seek", "by": "c", "partition": "t-0", "offset": offset}));
    script.step(json!({"do": "drain", "by": "c", "ms": 800}));
    script.step(json!({"do": "position", "by": "c", "partitions": ["t-0"]}));
}

fn list_offsets(script: &mut Script) {
    let specs = [json!("earliest"), json!("latest"), json!(1_700_000_050_000_i64)];
    let spec = script.rng.pick(&specs);
    script.step(json!({"do": "list_offsets", "topic": "t", "partition": 0, "spec": spec,
                       "isolation": "read_uncommitted"}));
}

fn end(script: &mut Script) {
    clean(script);
    for isolation in ["read_uncommitted", "read_committed"] {
        script.step(json!({"do": "read", "topic": "t", "isolation": isolation,
                           "timestamps": true}));
    }
    for spec in ["earliest", "latest"] {
        script.step(json!({"do": "list_offsets", "topic": "t", "partition": 0, "spec": spec,
                           "isolation": "read_committed"}));
    }
}
