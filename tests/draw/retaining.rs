//! Retention by age and by size at once, over many segments, under readers, changed settings,
//! deleted records, and topics that grow or are made again.

use super::Theme;
use super::script::Script;
use serde_json::{Value, json};

pub const RETAINED: Theme = Theme {
    name: "retained",
    about: "Many segments under retention by age and by size, with readers, drawn at random.",
    features: &["A2", "A5", "C1"],
    length: (6, 11),
    begin,
    moves: &[
        (16, send_dated),
        (8, send_batch),
        (6, let_it_work),
        (5, trim),
        (6, list_offsets),
        (6, alter),
        (6, read_on),
        (3, look),
        (2, remake),
        (2, grow),
        (3, read),
    ],
    end,
};

/// The timestamp of the oldest record, of those that have one of their own.
const TIME: i64 = 1_700_000_000_000;

fn begin(script: &mut Script) {
    let mut config = json!({"file.delete.delay.ms": "0"});
    let mut set = |percent: u64, key: &str, of: &[&str]| {
        if script.rng.chance(percent) {
            config[key] = json!(script.rng.pick(of));
        }
    };
    set(100, "internal.segment.bytes", &["150", "300", "800"]);
    set(60, "retention.ms", &["1500", "300000", "2000000", "-1"]);
    set(60, "retention.bytes", &["0", "1", "200", "600", "1500", "-1"]);
    set(20, "segment.ms", &["1500", "60000"]);
    set(15, "message.timestamp.type", &["LogAppendTime"]);
    set(15, "cleanup.policy", &["compact", "compact,delete", ""]);
    set(10, "compression.type", &["lz4", "gzip"]);
    let partitions = script.rng.between(1, 2);
    script.topic("t", partitions, config);
    script.actor("p", "producer", json!({"linger.ms": "0"}));
    script.actor("b", "producer", json!({"linger.ms": "50000"}));
    let reset = script.rng.pick(&["earliest", "latest", "none"]);
    script.actor(
        "c",
        "consumer",
        json!({"auto.offset.reset": reset, "group.id": "g",
                                         "default.api.timeout.ms": "2000"}),
    );
}

fn dated(script: &mut Script, by: &str, doing: &str, place: &(String, u64)) -> Value {
    let (topic, partition) = place;
    let size = script.rng.pick(&[10, 90, 150, 300]);
    let key = script.rng.pick(&["k", "l", "m"]);
    let mut step = json!({"do": doing, "by": by, "topic": topic, "partition": partition,
                          "key": key, "value_size": size});
    let times = ["now-100000", "now-1000000", "now-5000000", "now+1800000", "now+600000"];
    match script.rng.between(0, 5) {
        0 | 1 => step["timestamp"] = json!(script.rng.pick(&times)),
        2 => {
            let number = i64::try_from(script.len()).unwrap();
            step["timestamp"] = json!(TIME + 1000 * number);
        }
        _ => {}
    }
    step
}

fn send_dated(script: &mut Script) {
    for _ in 0..script.rng.between(1, 4) {
        let place = script.any_place();
        let mut step = dated(script, "p", "send", &place);
        step["flush"] = json!(true);
        script.step(step);
        script.step(json!({"do": "sleep", "ms": 20}));
    }
}

/// Of several partitions, which is told first is chance.
fn send_batch(script: &mut Script) {
    let place = script.any_place();
    for _ in 0..script.rng.between(2, 5) {
        let mut step = dated(script, "b", "send_async", &place);
        step["tag"] = json!(script.tag());
        script.step(step);
    }
    script.step(json!({"do": "flush", "by": "b"}));
}

/// Long enough that all that can be removed is, before anybody looks.
fn let_it_work(script: &mut Script) {
    script.step(json!({"do": "sleep", "ms": 4000}));
}

fn trim(script: &mut Script) {
    let (topic, partition) = script.any_place();
    let before = script.rng.pick(&[-1, 1, 2, 4, 7, 30]);
    script.step(json!({"do": "delete_records", "topic": topic, "partition": partition,
                       "before": before}));
}

fn list_offsets(script: &mut Script) {
    let_it_work(script);
    let (topic, partition) = script.any_place();
    let specs = [
        json!("earliest"),
        json!("latest"),
        json!(0),
        json!(TIME + 5000),
        json!(4_102_444_800_000_i64),
    ];
    let spec = script.rng.pick(&specs);
    script.step(json!({"do": "list_offsets", "topic": topic, "partition": partition,
                       "spec": spec, "isolation": "read_uncommitted"}));
}

fn alter(script: &mut Script) {
    let changes = [
        ("retention.ms", json!("1500")),
        ("retention.ms", json!("300000")),
        ("retention.ms", json!("-1")),
        ("retention.ms", Value::Null),
        ("retention.bytes", json!("0")),
        ("retention.bytes", json!("400")),
        ("retention.bytes", Value::Null),
        ("segment.ms", json!("1500")),
        ("internal.segment.bytes", json!("400")),
        ("cleanup.policy", json!("delete")),
        ("cleanup.policy", json!("compact")),
        ("cleanup.policy", json!("compact,delete")),
        ("message.timestamp.type", json!("LogAppendTime")),
    ];
    let (key, value) = script.rng.pick(&changes);
    let_it_work(script);
    script.step(json!({"do": "alter_config", "topic": "t", "config": {key: value}}));
    script.step(json!({"do": "describe_config", "topic": "t", "keys": [key]}));
    let_it_work(script);
}

/// A reader stands before the beginning by then, or behind the end.
fn read_on(script: &mut Script) {
    let_it_work(script);
    let partition = script.any_partition();
    let standing = super::script::Standing::Assigned;
    if script.consumers.insert("c", standing).is_none() || script.rng.chance(20) {
        script.step(json!({"do": "assign", "by": "c", "partitions": [partition]}));
    }
    script.step(json!({"do": "drain", "by": "c", "ms": 800}));
    if script.rng.chance(50) {
        script.step(json!({"do": "commit_sync", "by": "c", "ms": 2000}));
    }
}

fn look(script: &mut Script) {
    let partition = script.any_partition();
    let doing = script.rng.pick(&["beginning_offsets", "end_offsets", "committed"]);
    let_it_work(script);
    script.step(json!({"do": doing, "by": "c", "partitions": [partition], "ms": 2000}));
}

fn remake(script: &mut Script) {
    let_it_work(script);
    script.step(json!({"do": "close", "by": "c"}));
    script.consumers.remove("c");
    script.step(json!({"do": "delete_topic", "topic": "t"}));
    script.step(json!({"do": "sleep", "ms": 1500}));
    let partitions = script.topics[0].partitions;
    script.step(json!({"do": "create_topic", "topic": "t", "partitions": partitions,
                       "config": {"internal.segment.bytes": "200", "retention.bytes": "300",
                                  "file.delete.delay.ms": "0"}}));
    script.step(json!({"do": "sleep", "ms": 1500}));
    script.step(json!({"do": "open", "by": "c"}));
    for by in ["p", "b"] {
        script.step(json!({"do": "close", "by": by}));
        script.step(json!({"do": "open", "by": by}));
    }
}

fn grow(script: &mut Script) {
    script.topics[0].partitions += 1;
    let partitions = script.topics[0].partitions;
    script.step(json!({"do": "create_partitions", "topic": "t", "partitions": partitions}));
    script.step(json!({"do": "sleep", "ms": 1500}));
    for by in ["p", "b"] {
        script.step(json!({"do": "close", "by": by}));
        script.step(json!({"do": "open", "by": by}));
    }
}

fn read(script: &mut Script) {
    let_it_work(script);
    script.step(json!({"do": "read", "topic": "t", "isolation": "read_uncommitted"}));
}

fn end(script: &mut Script) {
    let_it_work(script);
    for partition in 0..script.topics[0].partitions {
        for spec in ["earliest", "latest"] {
            script.step(json!({"do": "list_offsets", "topic": "t", "partition": partition,
                               "spec": spec, "isolation": "read_uncommitted"}));
        }
    }
    script.step(json!({"do": "read", "topic": "t", "isolation": "read_uncommitted"}));
    script.step(json!({"do": "list_group_offsets", "group": "g"}));
}
