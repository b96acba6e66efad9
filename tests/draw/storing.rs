//! Producers, administrators and retention: what is stored, refused, removed and told of.

use super::Theme;
use super::consuming::{produce, trim};
use super::script::Script;
use serde_json::{Value, json};

pub const PRODUCERS: Theme = Theme {
    name: "producer",
    about: "Records and settings of producers, drawn at random.",
    features: &["A3", "B1", "B2", "B3"],
    length: (7, 14),
    begin: begin_producers,
    moves: &[
        (12, send),
        (16, send_async),
        (5, send_many),
        (6, flush),
        (2, close_and_open),
        (3, alter_topic),
        (3, trim),
        (4, list_offsets),
        (3, read),
    ],
    end: end_storing,
};

pub const ADMIN: Theme = Theme {
    name: "admin",
    about: "Topics and settings changed, rightly and wrongly, drawn at random.",
    features: &["A1", "A5"],
    length: (10, 20),
    begin: begin_admin,
    moves: &[
        (10, create),
        (4, delete),
        (6, grow),
        (14, alter),
        (8, describe),
        (6, list_offsets),
        (4, trim),
        (4, produce),
    ],
    end: end_storing,
};

pub const RETENTION: Theme = Theme {
    name: "retention",
    about: "Segments that age, fill and are trimmed, drawn at random.",
    features: &["A2", "A5"],
    length: (6, 12),
    begin: begin_retention,
    moves: &[
        (18, send_dated),
        (6, sleep),
        (4, trim),
        (6, list_ends),
        (2, alter_retention),
        (3, read),
    ],
    end: end_retention,
};

fn begin_producers(script: &mut Script) {
    let mut config = json!({});
    if script.rng.chance(30) {
        config["max.message.bytes"] = json!(script.rng.pick(&["150", "300", "700"]));
    }
    if script.rng.chance(30) {
        config["compression.type"] = json!(script.rng.pick(&["gzip", "lz4", "uncompressed"]));
    }
    if script.rng.chance(25) {
        config["message.timestamp.type"] = json!("LogAppendTime");
    }
    config["retention.ms"] = json!("-1");
    let partitions = script.rng.between(1, 3);
    script.topic("t", partitions, config);
    for name in ["p", "q"] {
        // A record that can never be stored is given up before long.
        let mut config = json!({"max.block.ms": "1500", "request.timeout.ms": "1000",
                                "delivery.timeout.ms": "6000"});
        let mut set = |percent: u64, key: &str, of: &[&str]| {
            if script.rng.chance(percent) {
                config[key] = json!(script.rng.pick(of));
            }
        };
        // The 5 ms of the default end between two steps by chance.
        set(100, "linger.ms", &["0", "5000", "5000", "5000"]);
        set(40, "batch.size", &["0", "100", "200", "400"]);
        set(30, "compression.type", &["gzip", "snappy", "lz4", "zstd"]);
        set(30, "acks", &["0", "1", "all"]);
        set(20, "max.request.size", &["100", "300", "1000"]);
        script.actor(name, "producer", config);
    }
}

fn producer(script: &mut Script) -> &'static str {
    script.rng.pick(&["p", "p", "q"])
}

/// A record and where it goes.
fn record(script: &mut Script) -> Value {
    let topic = match script.rng.chance(4) {
        true => "bad name",
        false => "t",
    };
    let by = producer(script);
    let mut step = json!({"by": by, "topic": topic});
    if script.rng.chance(85) {
        let partitions = script.topics[0].partitions;
        let beyond = script.rng.chance(3);
        let drawn = script.rng.between(0, partitions - 1);
        step["partition"] = json!(if beyond { partitions } else { drawn });
    }
    // Without partition and key, Kafka's choice is chance.
    let keyless = step.get("partition").is_some();
    match script.rng.between(0, 3) {
        0 if keyless => step["key"] = Value::Null,
        1 if keyless => {}
        _ => step["key"] = json!(script.rng.pick(&["k", "alice", "bob", ""])),
    }
    match script.rng.chance(60) {
        true => step["value_size"] = json!(script.rng.pick(&[0, 1, 39, 90, 180, 400, 1200])),
        false => step["value"] = [json!("v"), Value::Null, json!("")][drawn(script, 3)].clone(),
    }
    if script.rng.chance(15) {
        step["headers"] = json!([["h", "1"], ["", null]]);
    }
    if script.rng.chance(20) {
        step["timestamp"] = json!(script.rng.pick(&["now", "now-1000", "now+1000"]));
    }
    step
}

fn drawn(script: &mut Script, of: u64) -> usize {
    usize::try_from(script.rng.between(0, of - 1)).unwrap()
}

fn send(script: &mut Script) {
    let mut step = record(script);
    step["do"] = json!("send");
    step["flush"] = json!(true);
    script.step(step);
}

fn send_async(script: &mut Script) {
    let mut step = record(script);
    step["do"] = json!("send_async");
    step["tag"] = json!(script.tag());
    script.step(step);
}

fn send_many(script: &mut Script) {
    let by = producer(script);
    let (topic, partition) = script.any_place();
    let count = script.rng.between(1, 8);
    script.step(json!({"do": "send_many", "by": by, "topic": topic, "partition": partition,
                       "count": count, "flush": true}));
}

fn flush(script: &mut Script) {
    let by = producer(script);
    script.step(json!({"do": "flush", "by": by}));
}

fn close_and_open(script: &mut Script) {
    let by = producer(script);
    script.step(json!({"do": "close", "by": by}));
    script.step(json!({"do": "open", "by": by}));
}

fn alter_topic(script: &mut Script) {
    let changes = [
        ("max.message.bytes", "120"),
        ("max.message.bytes", "1000000"),
        ("compression.type", "snappy"),
        ("compression.type", "producer"),
        ("message.timestamp.type", "LogAppendTime"),
    ];
    let (key, value) = script.rng.pick(&changes);
    script.step(json!({"do": "alter_config", "topic": "t", "config": {key: value}}));
}

fn read(script: &mut Script) {
    let isolation = script.rng.pick(&["read_uncommitted", "read_committed"]);
    script.step(json!({"do": "read", "topic": "t", "isolation": isolation}));
}

/// The largest timestamp is left out: under a virtual clock records sent one after the other have
/// the same, on a real node they do not.
fn list_offsets(script: &mut Script) {
    let (topic, partition) = script.any_place();
    let specs = [
        json!("earliest"),
        json!("latest"),
        json!(0),
        json!(1_700_000_000_000_i64),
        json!(4_102_444_800_000_i64),
    ];
    let spec = script.rng.pick(&specs);
    script.step(json!({"do": "list_offsets", "topic": topic, "partition": partition,
                       "spec": spec, "isolation": "read_uncommitted"}));
}

fn end_storing(script: &mut Script) {
    for by in ["p", "q"] {
        script.step(json!({"do": "close", "by": by}));
    }
    script.step(json!({"do": "read", "topic": "t", "isolation": "read_uncommitted"}));
}

fn begin_admin(script: &mut Script) {
    let partitions = script.rng.between(1, 3);
    script.topic("t", partitions, json!({}));
    for name in ["p", "q"] {
        script.actor(name, "producer", json!({}));
    }
}

/// A name: good ones most of the time, but also what no topic is called.
fn name(script: &mut Script) -> String {
    let odd = ["", ".", "..", "a b", "no/good", "__consumer_offsets"];
    match script.rng.between(0, 9) {
        0..=4 => "t".into(),
        5..=6 => "v".into(),
        7 => "w.x_y-z".into(),
        _ => match script.rng.pick(&odd) {
            "a b" => "l".repeat(250),
            other => other.to_owned(),
        },
    }
}

/// A setting with a value, right or wrong.
fn setting(script: &mut Script) -> (&'static str, Value) {
    let table = [
        ("retention.ms", "1000"),
        ("retention.ms", "-2"),
        ("retention.bytes", "-1"),
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
        ("cleanup.policy", "sometimes"),
        ("segment.bytes", "1048576"),
        ("segment.bytes", "10"),
        ("max.message.bytes", "0"),
        ("max.message.bytes", "x"),
        ("compression.type", "none"),
        ("compression.type", "zstd"),
        ("message.timestamp.type", "NoTime"),
        ("min.insync.replicas", "2"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("leader.replication.throttled.replicas", "*"),
        ("leader.replication.throttled.replicas", ""),
        ("no.such.key", "1"),
        ("preallocate", "maybe"),
        ("flush.messages", "1"),
    ];
    let (key, value) = script.rng.pick(&table);
    (key, json!(value))
}

fn settings(script: &mut Script) -> Value {
    let mut out = json!({});
    for _ in 0..script.rng.between(1, 2) {
        let (key, value) = setting(script);
        out[key] = if script.rng.chance(15) { Value::Null } else { value };
    }
    out
}

fn create(script: &mut Script) {
    let doing = script.rng.pick(&["create_topic", "create_topic", "check_topic"]);
    let partitions = script.rng.weighted(&[(6, 1), (3, 3), (1, -1), (1, 0), (1, -2)]);
    let topic = name(script);
    let mut step = json!({"do": doing, "topic": topic, "partitions": partitions});
    if script.rng.chance(30) {
        let (key, value) = setting(script);
        step["config"] = json!({key: value});
    }
    if script.rng.chance(15) {
        step["replicas"] = json!(script.rng.pick(&[-1, 0, 2]));
    }
    script.step(step);
}

fn delete(script: &mut Script) {
    let topic = name(script);
    if topic != "__consumer_offsets" && topic != "t" {
        script.step(json!({"do": "delete_topic", "topic": topic}));
    }
}

fn grow(script: &mut Script) {
    let topic = name(script);
    let partitions = script.rng.pick(&[-1, 0, 1, 2, 4]);
    if topic != "__consumer_offsets" {
        script.step(json!({"do": "create_partitions", "topic": topic, "partitions": partitions}));
    }
}

fn alter(script: &mut Script) {
    let kinds = ["alter_config", "alter_config", "append_config", "subtract_config"];
    let doing = script.rng.pick(&kinds);
    let (topic, mut config) = (name(script), settings(script));
    if doing != "alter_config" {
        let values = config.as_object_mut().unwrap().values_mut();
        values.filter(|value| value.is_null()).for_each(|value| *value = json!("delete"));
    }
    if topic != "__consumer_offsets" {
        script.step(json!({"do": doing, "topic": topic, "config": config}));
    }
}

fn describe(script: &mut Script) {
    let topic = name(script);
    if topic == "__consumer_offsets" {
        return;
    }
    if script.rng.chance(40) {
        script.step(json!({"do": "describe_topic", "topic": topic}));
        return;
    }
    let keys = [setting(script).0, setting(script).0];
    script.step(json!({"do": "describe_config", "topic": topic, "keys": keys}));
}

fn begin_retention(script: &mut Script) {
    let mut config = json!({"file.delete.delay.ms": "0", "internal.segment.bytes": "300"});
    let mut set = |percent: u64, key: &str, of: &[&str]| {
        if script.rng.chance(percent) {
            config[key] = json!(script.rng.pick(of));
        }
    };
    set(60, "retention.ms", &["1500", "3000", "-1"]);
    set(50, "retention.bytes", &["0", "1", "500", "1000"]);
    set(20, "segment.ms", &["1500"]);
    set(20, "message.timestamp.type", &["LogAppendTime"]);
    let partitions = script.rng.between(1, 2);
    script.topic("t", partitions, config);
    script.actor("p", "producer", json!({"linger.ms": "0"}));
}

fn send_dated(script: &mut Script) {
    let (topic, partition) = script.any_place();
    for _ in 0..script.rng.between(1, 4) {
        let size = script.rng.pick(&[10, 90, 150]);
        let mut step = json!({"do": "send", "by": "p", "topic": topic, "partition": partition,
                              "value_size": size, "flush": true});
        if script.rng.chance(40) {
            let times = ["now-100000", "now-600000", "now+1800000", "now+600000"];
            step["timestamp"] = json!(script.rng.pick(&times));
        }
        script.step(step);
        script.step(json!({"do": "sleep", "ms": 20}));
    }
}

/// Timestamps are around the clock here, so none is told the same twice.
fn list_ends(script: &mut Script) {
    let (topic, partition) = script.any_place();
    let spec = script.rng.pick(&["earliest", "latest"]);
    script.step(json!({"do": "list_offsets", "topic": topic, "partition": partition,
                       "spec": spec, "isolation": "read_uncommitted"}));
}

fn sleep(script: &mut Script) {
    let ms = script.rng.pick(&[2500, 5000]);
    script.step(json!({"do": "sleep", "ms": ms}));
}

fn alter_retention(script: &mut Script) {
    let changes = [("retention.ms", "1500"), ("retention.bytes", "500"), ("retention.ms", "-1")];
    let (key, value) = script.rng.pick(&changes);
    // A change takes a real node some time, in which it may look at the old setting, and after it
    // soon at the new one.
    script.step(json!({"do": "sleep", "ms": 2500}));
    script.step(json!({"do": "alter_config", "topic": "t", "config": {key: value}}));
    script.step(json!({"do": "sleep", "ms": 2500}));
}

fn end_retention(script: &mut Script) {
    script.step(json!({"do": "sleep", "ms": 4500}));
    for partition in 0..script.topics[0].partitions {
        for spec in ["earliest", "latest"] {
            script.step(json!({"do": "list_offsets", "topic": "t", "partition": partition,
                               "spec": spec, "isolation": "read_uncommitted"}));
        }
    }
    script.step(json!({"do": "read", "topic": "t", "isolation": "read_uncommitted"}));
}
