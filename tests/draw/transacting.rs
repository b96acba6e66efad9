//! Transactions of several producers that share partitions, a group's offsets and now and then an
//! id: calls in the right order most of the time, fences, timeouts, kills, trims and deletions.

use super::Theme;
use super::script::{Script, Stage};
use serde_json::{Value, json};

pub const TRANSACTIONS: Theme = Theme {
    name: "transaction",
    about: "Transactions of several producers, offsets, fences and timeouts, drawn at random.",
    features: &["B4", "B5"],
    length: (16, 30),
    begin,
    moves: &[
        (18, go_on),
        (22, send),
        (5, send_async),
        (3, send_outside),
        (16, end),
        (7, send_offsets),
        (3, any_call),
        (2, kill_and_open),
        (1, close_and_open),
        (1, fence),
        (1, wait),
        (3, trim),
        (1, delete_topic),
        (6, read),
        (5, list_offsets),
        (4, describe_transaction),
        (4, describe_producers),
        (4, committed),
        (3, poll),
    ],
    end: finish,
};

/// The first two share an id.
const PRODUCERS: &[(&str, &str)] = &[("p", "x"), ("z", "x"), ("q", "y")];

fn begin(script: &mut Script) {
    let partitions = script.rng.between(1, 2);
    script.topic("t", partitions, json!({"retention.ms": "-1"}));
    let mut config = json!({"retention.ms": "-1"});
    if script.rng.chance(20) {
        config["max.message.bytes"] = json!("300");
    }
    if script.rng.chance(20) {
        config["message.timestamp.type"] = json!("LogAppendTime");
    }
    script.topic("u", 1, config);
    for (name, id) in PRODUCERS {
        let mut config = json!({"transactional.id": id, "linger.ms": "0"});
        // Far above what the other steps take on a real node, and below what [`wait`] takes.
        if script.rng.chance(25) {
            config["transaction.timeout.ms"] = json!("9000");
        }
        if script.rng.chance(20) {
            config["compression.type"] = json!(script.rng.pick(&["lz4", "zstd", "gzip"]));
        }
        if script.rng.chance(15) {
            config["linger.ms"] = json!("5000");
        }
        script.actor(name, "producer", config);
        script.producers.insert(name, Stage::New);
    }
    // One outside all transactions, and one without a producer id.
    script.actor("o", "producer", json!({"linger.ms": "0"}));
    script.actor("n", "producer", json!({"linger.ms": "0", "enable.idempotence": "false"}));
    let isolation = script.rng.pick(&["read_committed", "read_committed", "read_uncommitted"]);
    script.actor(
        "c",
        "consumer",
        json!({"group.id": "g", "isolation.level": isolation, "default.api.timeout.ms": "2000"}),
    );
    go_on(script);
}

/// Whoever takes the id of another fences it, so that is rare.
fn anyone(script: &mut Script) -> &'static str {
    script.rng.weighted(&[(8, "p"), (7, "q"), (1, "z")])
}

/// A producer at this stage, if there is one.
pub(super) fn at_stage(script: &mut Script, stage: Stage) -> Option<&'static str> {
    let names: Vec<&'static str> =
        script.producers.iter().filter(|(_, at)| **at == stage).map(|(name, _)| *name).collect();
    (!names.is_empty()).then(|| script.rng.pick(&names))
}

pub(super) fn call(script: &mut Script, doing: &str, by: &'static str) {
    script.step(json!({"do": doing, "by": by}));
}

/// The next call of a producer that has no transaction open.
fn go_on(script: &mut Script) {
    let by = anyone(script);
    let (doing, next) = match script.producers[by] {
        Stage::New => ("init_transactions", Stage::Ready),
        Stage::Ready => ("begin", Stage::Open),
        Stage::Open => return,
    };
    call(script, doing, by);
    script.producers.insert(by, next);
}

fn record(script: &mut Script, by: &'static str) -> Value {
    let (topic, partition) = script.any_place();
    let mut step = json!({"by": by, "topic": topic, "partition": partition});
    match script.rng.chance(50) {
        true => step["value_size"] = json!(script.rng.pick(&[0, 1, 60, 150, 400])),
        false => step["value"] = json!(script.rng.pick(&["v", "w"])),
    }
    if script.rng.chance(50) {
        step["key"] = json!(script.rng.pick(&["k", "l"]));
    }
    step
}

fn send(script: &mut Script) {
    let Some(by) = at_stage(script, Stage::Open) else { return go_on(script) };
    for _ in 0..script.rng.between(1, 3) {
        let mut step = record(script, by);
        step["do"] = json!("send");
        step["flush"] = json!(true);
        script.step(step);
    }
}

fn send_async(script: &mut Script) {
    let Some(by) = at_stage(script, Stage::Open) else { return go_on(script) };
    let mut step = record(script, by);
    step["do"] = json!("send_async");
    step["tag"] = json!(script.tag());
    script.step(step);
    // What is not sent yet when the transaction ends is sent or dropped by chance.
    script.step(json!({"do": "flush", "by": by}));
}

fn send_outside(script: &mut Script) {
    let by = script.rng.pick(&["o", "n"]);
    let mut step = record(script, by);
    step["do"] = json!("send");
    step["flush"] = json!(true);
    script.step(step);
}

fn end(script: &mut Script) {
    let Some(by) = at_stage(script, Stage::Open) else { return go_on(script) };
    let doing = script.rng.pick(&["commit", "commit", "abort"]);
    call(script, doing, by);
    script.producers.insert(by, Stage::Ready);
}

fn send_offsets(script: &mut Script) {
    let Some(by) = at_stage(script, Stage::Open) else { return go_on(script) };
    let all = script.partitions();
    let chosen = script.rng.some(&all);
    let offsets: Value =
        chosen.into_iter().map(|tp| (tp, json!(script.rng.between(0, 9)))).collect();
    let group = match script.rng.between(0, 9) {
        0 => json!("c"),
        1 => json!({"group_id": "g", "generation": 1, "member_id": "nobody"}),
        _ => json!({"group_id": "g"}),
    };
    script.step(json!({"do": "send_offsets", "by": by, "offsets": offsets, "group": group}));
}

/// A call at any time.
fn any_call(script: &mut Script) {
    let by = anyone(script);
    let doing = script.rng.pick(&["init_transactions", "begin", "commit", "abort", "flush"]);
    call(script, doing, by);
}

fn kill_and_open(script: &mut Script) {
    let by = anyone(script);
    call(script, "kill", by);
    call(script, "open", by);
    call(script, "init_transactions", by);
    script.producers.insert(by, Stage::Ready);
}

fn close_and_open(script: &mut Script) {
    let by = anyone(script);
    call(script, "close", by);
    call(script, "open", by);
    script.producers.insert(by, Stage::New);
}

fn fence(script: &mut Script) {
    match script.rng.chance(50) {
        true => {
            let ids = vec![script.rng.pick(&["x", "y", "unknown"])];
            script.step(json!({"do": "fence_producers", "transactional_ids": ids}));
        }
        false => {
            let by = script.rng.pick(&["p", "z"]);
            if script.producers[by] == Stage::New {
                call(script, "init_transactions", by);
                script.producers.insert(by, Stage::Ready);
            }
        }
    }
}

/// Longer than the short timeout, and far from the long one.
fn wait(script: &mut Script) {
    script.step(json!({"do": "sleep", "ms": 14000}));
}

fn trim(script: &mut Script) {
    let (topic, partition) = script.any_place();
    let before = script.rng.pick(&[-1, 0, 1, 2, 4]);
    script.step(json!({"do": "delete_records", "topic": topic, "partition": partition,
                       "before": before}));
}

fn delete_topic(script: &mut Script) {
    script.step(json!({"do": "delete_topic", "topic": "u"}));
    script.step(json!({"do": "sleep", "ms": 1500}));
    script.step(json!({"do": "create_topic", "topic": "u", "partitions": 1}));
    script.step(json!({"do": "sleep", "ms": 500}));
}

fn read(script: &mut Script) {
    let topic = script.rng.pick(&["t", "u"]);
    let isolation = script.rng.pick(&["read_committed", "read_committed", "read_uncommitted"]);
    script.step(json!({"do": "read", "topic": topic, "isolation": isolation}));
}

fn list_offsets(script: &mut Script) {
    let (topic, partition) = script.any_place();
    let spec = script.rng.pick(&["latest", "latest", "earliest"]);
    let isolation = script.rng.pick(&["read_committed", "read_committed", "read_uncommitted"]);
    script.step(json!({"do": "list_offsets", "topic": topic, "partition": partition,
                       "spec": spec, "isolation": isolation}));
}

fn describe_transaction(script: &mut Script) {
    let id = script.rng.pick(&["x", "x", "y"]);
    script.step(json!({"do": "describe_transaction", "transactional_id": id}));
}

fn describe_producers(script: &mut Script) {
    let (topic, partition) = script.any_place();
    script.step(json!({"do": "describe_producers", "topic": topic, "partition": partition}));
}

fn committed(script: &mut Script) {
    match script.rng.chance(50) {
        true => {
            let all = script.partitions();
            script.step(json!({"do": "committed", "by": "c", "partitions": all, "ms": 1500}));
        }
        false => script.step(json!({"do": "list_group_offsets", "group": "g"})),
    }
}

fn poll(script: &mut Script) {
    if !script.consumers.contains_key("c") {
        let all = script.partitions();
        script.step(json!({"do": "assign", "by": "c", "partitions": all}));
        script.step(json!({"do": "seek_to_beginning", "by": "c", "partitions": all}));
        script.consumers.insert("c", super::script::Standing::Assigned);
    }
    script.step(json!({"do": "drain", "by": "c", "ms": 700}));
}

fn finish(script: &mut Script) {
    for (name, _) in PRODUCERS {
        if script.producers[name] == Stage::Open && script.rng.chance(60) {
            let doing = script.rng.pick(&["commit", "abort", "close"]);
            call(script, doing, name);
        }
    }
    for id in ["x", "y"] {
        script.step(json!({"do": "describe_transaction", "transactional_id": id}));
    }
    for topic in ["t", "u"] {
        for isolation in ["read_uncommitted", "read_committed"] {
            script.step(json!({"do": "read", "topic": topic, "isolation": isolation}));
        }
        script.step(json!({"do": "describe_producers", "topic": topic, "partition": 0}));
    }
    script.step(json!({"do": "list_group_offsets", "group": "g"}));
}
