//! Producers whose batches have numbers: what is refused between batches that are stored, alone
//! and with others in one batch, and what the partition remembers of each producer.

use super::Theme;
use super::script::Script;
use serde_json::{Value, json};

pub const NUMBERS: Theme = Theme {
    name: "number",
    about: "Batches with numbers, refused and stored, drawn at random.",
    features: &["A3", "B1", "B2", "B3"],
    length: (12, 24),
    begin,
    moves: &[
        (16, send),
        (20, send_async),
        (6, send_large),
        (8, flush),
        (4, send_many),
        (3, callbacks),
        (10, describe_producers),
        (2, close_and_open),
        (2, close_at_once),
        (2, kill_and_open),
        (2, partitions_for),
        (1, grow),
        (4, alter),
        (3, trim),
        (3, list_offsets),
        (3, read),
    ],
    end: finish,
};

const PRODUCERS: &[&str] = &["p", "q", "r"];

fn begin(script: &mut Script) {
    let mut config = json!({"retention.ms": "-1"});
    let mut set = |percent: u64, key: &str, of: &[&str]| {
        if script.rng.chance(percent) {
            config[key] = json!(script.rng.pick(of));
        }
    };
    set(40, "max.message.bytes", &["200", "300"]);
    set(30, "message.timestamp.before.max.ms", &["100000"]);
    set(25, "cleanup.policy", &["compact", "compact,delete"]);
    set(15, "message.timestamp.type", &["LogAppendTime"]);
    set(20, "compression.type", &["gzip", "lz4", "uncompressed"]);
    let compacted = config.get("cleanup.policy").is_some();
    // What is sealed is cleaned, sooner or later.
    if !compacted && script.rng.chance(30) {
        config["internal.segment.bytes"] = json!("500");
    }
    let partitions = script.rng.between(1, 2);
    script.topic("t", partitions, config);
    for name in PRODUCERS {
        let mut config = json!({"max.block.ms": "1500", "request.timeout.ms": "1000",
                                "delivery.timeout.ms": "60000"});
        let mut set = |percent: u64, key: &str, of: &[&str]| {
            if script.rng.chance(percent) {
                config[key] = json!(script.rng.pick(of));
            }
        };
        // How full a small batch is depends on how much later its second record is sent.
        set(30, "batch.size", &["1000"]);
        set(30, "compression.type", &["gzip", "snappy", "lz4", "zstd"]);
        set(20, "max.in.flight.requests.per.connection", &["1"]);
        set(15, "enable.idempotence", &["false"]);
        set(10, "retries", &["0"]);
        set(10, "acks", &["1"]);
        // What is sent without lingering shares a batch by chance, unless it is flushed.
        config["linger.ms"] = json!(if *name == "r" { "0" } else { "50000" });
        script.actor(name, "producer", config);
    }
}

fn producer(script: &mut Script) -> &'static str {
    script.rng.pick(PRODUCERS)
}

fn flush_one(script: &mut Script, by: &'static str) {
    script.step(json!({"do": "flush", "by": by}));
    script.sent.retain(|(name, _)| *name != by);
}

/// A record, small enough for every limit, that the topic may refuse for its time or its key. In
/// which order two partitions are told of is chance, so that one is sent to at a time.
fn record(script: &mut Script, by: &'static str) -> Value {
    let (topic, partition) = script.any_place();
    let place = format!("{topic}-{partition}");
    if script.sent.iter().any(|(name, other)| *name == by && *other != place) {
        flush_one(script, by);
    }
    script.sent.insert((by, place));
    let mut step = json!({"by": by, "topic": topic, "partition": partition});
    match script.rng.chance(50) {
        true => step["value_size"] = json!(script.rng.pick(&[0, 10, 40])),
        false => step["value"] = script.rng.pick(&[json!("v"), Value::Null]),
    }
    if script.rng.chance(75) {
        step["key"] = json!(script.rng.pick(&["k", "l"]));
    }
    let times = [(10, "now"), (3, "now-1000"), (2, "now-600000"), (1, "now+7200000")];
    step["timestamp"] = json!(script.rng.weighted(&times));
    step
}

fn send(script: &mut Script) {
    let by = producer(script);
    let mut step = record(script, by);
    step["do"] = json!("send");
    step["flush"] = json!(true);
    script.step(step);
}

fn send_async(script: &mut Script) {
    let by = producer(script);
    for _ in 0..script.rng.between(1, 3) {
        let mut step = record(script, by);
        step["do"] = json!("send_async");
        step["tag"] = json!(script.tag());
        script.step(step);
        if by == "r" {
            flush_one(script, by);
        }
    }
}

/// Too large for some topics, and alone in its batch: with others a client would split for ever.
fn send_large(script: &mut Script) {
    let by = producer(script);
    flush_one(script, by);
    let mut step = record(script, by);
    step["do"] = json!("send");
    step["value_size"] = json!(script.rng.pick(&[170, 400]));
    step.as_object_mut().unwrap().remove("value");
    step["flush"] = json!(true);
    script.step(step);
}

fn flush(script: &mut Script) {
    let by = producer(script);
    flush_one(script, by);
}

fn send_many(script: &mut Script) {
    let by = producer(script);
    let (topic, partition) = script.any_place();
    let count = script.rng.between(1, 4);
    script.step(json!({"do": "flush", "by": by}));
    script.step(json!({"do": "send_many", "by": by, "topic": topic, "partition": partition,
                       "count": count, "flush": true}));
}

fn callbacks(script: &mut Script) {
    let by = producer(script);
    flush_one(script, by);
    script.step(json!({"do": "callbacks", "by": by, "ms": 50}));
}

fn describe_producers(script: &mut Script) {
    let by = producer(script);
    flush_one(script, by);
    let (topic, partition) = script.any_place();
    script.step(json!({"do": "describe_producers", "topic": topic, "partition": partition}));
}

fn close_and_open(script: &mut Script) {
    let by = producer(script);
    script.step(json!({"do": "close", "by": by}));
    if script.rng.chance(30) {
        send_to_closed(script, by);
    }
    script.step(json!({"do": "open", "by": by}));
    script.sent.retain(|(name, _)| *name != by);
}

fn send_to_closed(script: &mut Script, by: &'static str) {
    let mut step = record(script, by);
    step["do"] = json!("send");
    script.step(step);
    script.step(json!({"do": "flush", "by": by}));
}

fn close_at_once(script: &mut Script) {
    let by = producer(script);
    script.step(json!({"do": "close", "by": by, "ms": 0}));
    script.step(json!({"do": "open", "by": by}));
    script.sent.retain(|(name, _)| *name != by);
}

fn kill_and_open(script: &mut Script) {
    let by = producer(script);
    flush_one(script, by);
    script.step(json!({"do": "kill", "by": by}));
    script.step(json!({"do": "open", "by": by}));
    script.sent.retain(|(name, _)| *name != by);
}

fn partitions_for(script: &mut Script) {
    let by = producer(script);
    script.step(json!({"do": "partitions_for", "by": by, "topic": "t"}));
}

fn grow(script: &mut Script) {
    let topic = script.topics.first_mut().unwrap();
    topic.partitions += 1;
    let (name, partitions) = (topic.name, topic.partitions);
    script.step(json!({"do": "create_partitions", "topic": name, "partitions": partitions}));
    script.step(json!({"do": "sleep", "ms": 500}));
}

/// What lingers meanwhile meets the settings that it is sent under.
fn alter(script: &mut Script) {
    let changes = [
        ("max.message.bytes", "200"),
        ("max.message.bytes", "1000000"),
        ("compression.type", "snappy"),
        ("compression.type", "producer"),
        ("message.timestamp.type", "LogAppendTime"),
        ("message.timestamp.type", "CreateTime"),
        ("message.timestamp.before.max.ms", "100000"),
        ("message.timestamp.after.max.ms", "1000"),
        ("min.cleanable.dirty.ratio", "1"),
    ];
    let (key, value) = script.rng.pick(&changes);
    if key == "max.message.bytes" {
        for by in PRODUCERS {
            flush_one(script, by);
        }
    }
    script.step(json!({"do": "alter_config", "topic": "t", "config": {key: value}}));
}

fn trim(script: &mut Script) {
    let (topic, partition) = script.any_place();
    let before = script.rng.pick(&[-1, 1, 2, 4]);
    script.step(json!({"do": "delete_records", "topic": topic, "partition": partition,
                       "before": before}));
}

fn list_offsets(script: &mut Script) {
    let (topic, partition) = script.any_place();
    let spec = script.rng.pick(&["earliest", "latest"]);
    script.step(json!({"do": "list_offsets", "topic": topic, "partition": partition,
                       "spec": spec, "isolation": "read_uncommitted"}));
}

fn read(script: &mut Script) {
    script.step(json!({"do": "read", "topic": "t", "isolation": "read_committed"}));
}

fn finish(script: &mut Script) {
    for by in PRODUCERS {
        script.step(json!({"do": "close", "by": by}));
    }
    for place in script.partitions() {
        let (topic, partition) = place.rsplit_once('-').unwrap();
        let partition: u64 = partition.parse().unwrap();
        script.step(json!({"do": "describe_producers", "topic": topic, "partition": partition}));
    }
    read(script);
}
