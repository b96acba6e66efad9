//! What readers, lookups and administrators see of transactions that are open, aborted, trimmed,
//! timed out or ended from outside, in segments of a few batches. Two producers take an id from
//! each other.

use super::Theme;
use super::script::{Script, Stage, Standing};
use super::transacting::{at_stage, call};
use serde_json::{Value, json};

pub const STABLE: Theme = Theme {
    name: "stable",
    about: "Readers, lookups and administrators beside transactions, drawn at random.",
    features: &["B4", "B5", "C10"],
    length: (18, 34),
    begin,
    moves: &[
        (16, go_on),
        (22, send),
        (8, send_burst),
        (5, send_outside),
        (16, end),
        (2, any_call),
        (3, take_over),
        (2, kill_and_open),
        (1, close_at_once),
        (2, fence),
        (3, abort_from_outside),
        (1, wait),
        (5, trim),
        (1, make_again),
        (1, grow),
        (2, alter),
        (6, look_up),
        (4, offsets_for_times),
        (6, seek),
        (6, drain),
        (5, ends),
        (3, position),
        (5, read),
        (4, describe_producers),
        (3, describe_transaction),
    ],
    end: finish,
};

/// The first two share an id.
const PRODUCERS: &[(&str, &str)] = &[("p", "x"), ("z", "x"), ("q", "y"), ("r", "w")];
/// Those of them whose records share batches.
const LINGERING: &[&str] = &["q", "r"];
const READERS: &[&str] = &["c", "d"];
/// Times of records. Markers have the clock's, which is far behind them.
const TIMES: &[i64] = &[1_700_000_000_000, 1_700_000_001_000, 1_700_000_002_000];
const LATER: i64 = 1_700_000_005_000;

fn begin(script: &mut Script) {
    let mut config = json!({"retention.ms": "-1"});
    if script.rng.chance(50) {
        config["internal.segment.bytes"] = json!("400");
    }
    let partitions = script.rng.between(1, 2);
    script.topic("t", partitions, config);
    // Records with old times and markers with the clock's would roll it, and the cleaner come.
    let mut config = json!({"retention.ms": "-1", "segment.ms": "9000000000000000"});
    if script.rng.chance(30) {
        // A record without a key is refused, and so is a trim.
        config["cleanup.policy"] = json!("compact");
    }
    script.topic("u", 1, config);
    for (name, id) in PRODUCERS {
        let mut config = json!({"transactional.id": id, "linger.ms": "0", "max.block.ms": "5000"});
        // Far above what the other steps take on a real node, and below what [`wait`] takes.
        if script.rng.chance(25) {
            config["transaction.timeout.ms"] = json!("9000");
        }
        if script.rng.chance(20) {
            config["compression.type"] = json!(script.rng.pick(&["snappy", "zstd", "gzip"]));
        }
        if LINGERING.contains(name) {
            config["linger.ms"] = json!("50000");
        }
        script.actor(name, "producer", config);
        script.producers.insert(name, Stage::New);
    }
    script.actor("o", "producer", json!({"linger.ms": "0"}));
    script.actor("n", "producer", json!({"linger.ms": "0", "enable.idempotence": "false"}));
    let limit = json!({"default.api.timeout.ms": "2000"});
    for (name, isolation) in READERS.iter().zip(["read_committed", "read_uncommitted"]) {
        let mut config = limit.clone();
        config["isolation.level"] = json!(isolation);
        if script.rng.chance(30) {
            config["max.poll.records"] = json!(script.rng.pick(&["1", "2"]));
        }
        if script.rng.chance(20) {
            config["auto.offset.reset"] = json!("latest");
        }
        script.actor(name, "consumer", config);
    }
    go_on(script);
}

/// A marker has the time at which it is written, and no two have the same.
fn tick(script: &mut Script) {
    script.step(json!({"do": "sleep", "ms": 20}));
}

fn anyone(script: &mut Script) -> &'static str {
    script.rng.weighted(&[(7, "p"), (6, "q"), (4, "r"), (1, "z")])
}

fn go_on(script: &mut Script) {
    let by = anyone(script);
    let (doing, next) = match script.producers[by] {
        Stage::New => ("init_transactions", Stage::Ready),
        Stage::Ready => ("begin", Stage::Open),
        Stage::Open => return,
    };
    call(script, doing, by);
    if doing == "init_transactions" {
        // It may have aborted what another left.
        tick(script);
    }
    script.producers.insert(by, next);
}

/// A record for one of the places, which `by` remembers as part of its transaction.
fn record(script: &mut Script, by: &'static str) -> Option<Value> {
    let (topic, partition) = script.any_place();
    let place = format!("{topic}-{partition}");
    if script.made_again.contains(&(by, place.clone())) {
        // A client goes on with the numbers that it had in the topic of before.
        return None;
    }
    script.sent.insert((by, place));
    let mut step = json!({"by": by, "topic": topic, "partition": partition});
    match script.rng.chance(50) {
        true => step["value_size"] = json!(script.rng.pick(&[1, 60, 150, 400])),
        false => step["value"] = json!(script.rng.pick(&["v", "w"])),
    }
    if script.rng.chance(80) {
        step["key"] = json!(script.rng.pick(&["k", "l"]));
    }
    step["timestamp"] = json!(script.rng.pick(TIMES));
    Some(step)
}

fn send(script: &mut Script) {
    let Some(by) = at_stage(script, Stage::Open) else { return go_on(script) };
    for _ in 0..script.rng.between(1, 2) {
        let Some(mut step) = record(script, by) else { continue };
        step["do"] = json!("send");
        step["flush"] = json!(true);
        script.step(step);
    }
}

/// Several records that share a batch where they linger.
fn send_burst(script: &mut Script) {
    let Some(by) = at_stage(script, Stage::Open) else { return go_on(script) };
    let Some(first) = record(script, by) else { return };
    if script.rng.chance(50) {
        let mut many = first;
        let fields = many.as_object_mut().unwrap();
        fields.retain(|field, _| !["key", "value", "value_size"].contains(&field.as_str()));
        many["do"] = json!("send_many");
        many["count"] = json!(script.rng.between(2, 5));
        many["flush"] = json!(true);
        return script.step(many);
    }
    // In which order two partitions are told of is chance.
    for _ in 0..script.rng.between(2, 4) {
        let Some(mut step) = record(script, by) else { continue };
        for field in ["topic", "partition"] {
            step[field] = first[field].clone();
        }
        step["do"] = json!("send_async");
        step["tag"] = json!(script.tag());
        script.step(step);
        if !LINGERING.contains(&by) {
            script.step(json!({"do": "flush", "by": by}));
        }
    }
    script.step(json!({"do": "flush", "by": by}));
}

fn send_outside(script: &mut Script) {
    let by = script.rng.pick(&["o", "n"]);
    let Some(mut step) = record(script, by) else { return };
    step["do"] = json!("send");
    step["flush"] = json!(true);
    script.step(step);
}

fn is_over(script: &mut Script, by: &'static str, next: Stage) {
    script.producers.insert(by, next);
    script.sent.retain(|(name, _)| *name != by);
    script.made_again.retain(|(name, _)| *name != by);
    tick(script);
}

fn end(script: &mut Script) {
    let Some(by) = at_stage(script, Stage::Open) else { return go_on(script) };
    let doing = script.rng.pick(&["commit", "commit", "abort"]);
    call(script, doing, by);
    is_over(script, by, Stage::Ready);
}

fn any_call(script: &mut Script) {
    let by = anyone(script);
    let doing = script.rng.pick(&["init_transactions", "begin", "commit", "abort", "flush"]);
    call(script, doing, by);
    tick(script);
}

/// The one of two that has the id loses it to the other.
fn take_over(script: &mut Script) {
    let by = script.rng.pick(&["p", "z"]);
    if script.producers[by] != Stage::New {
        call(script, "kill", by);
        call(script, "open", by);
    }
    call(script, "init_transactions", by);
    is_over(script, by, Stage::Ready);
}

fn kill_and_open(script: &mut Script) {
    let by = anyone(script);
    call(script, "kill", by);
    call(script, "open", by);
    if script.rng.chance(70) {
        call(script, "init_transactions", by);
        is_over(script, by, Stage::Ready);
    } else {
        is_over(script, by, Stage::New);
    }
}

/// A close without time leaves a transaction open.
fn close_at_once(script: &mut Script) {
    let by = anyone(script);
    script.step(json!({"do": "close", "by": by, "ms": 0}));
    call(script, "open", by);
    is_over(script, by, Stage::New);
}

fn fence(script: &mut Script) {
    let ids = match script.rng.chance(80) {
        true => vec![script.rng.pick(&["x", "y", "w"])],
        false => vec!["x", "y"],
    };
    script.step(json!({"do": "fence_producers", "transactional_ids": ids}));
    tick(script);
}

/// An administrator writes the marker of one partition.
fn abort_from_outside(script: &mut Script) {
    let open: Vec<(&'static str, String)> = script.sent.iter().cloned().collect();
    let of_transactions = |(by, _): &&(&str, String)| script.producers.contains_key(by);
    let open: Vec<_> = open.iter().filter(of_transactions).cloned().collect();
    if open.is_empty() {
        return;
    }
    let (by, place) = script.rng.pick(&open);
    let (topic, partition) = place.rsplit_once('-').unwrap();
    let partition: u64 = partition.parse().unwrap();
    let mut step = json!({"do": "abort_transaction", "topic": topic, "partition": partition});
    // Where its producer has nothing open, Kafka writes a marker that ends nothing.
    if script.rng.chance(50) {
        step["by"] = json!(by);
    }
    script.step(step);
    tick(script);
}

/// Longer than the short timeout, and far from the long one.
fn wait(script: &mut Script) {
    script.step(json!({"do": "sleep", "ms": 14000}));
}

fn trim(script: &mut Script) {
    let (topic, partition) = script.any_place();
    let before = script.rng.pick(&[-1, 0, 1, 2, 3, 4, 6, 9]);
    script.step(json!({"do": "delete_records", "topic": topic, "partition": partition,
                       "before": before}));
}

fn make_again(script: &mut Script) {
    script.step(json!({"do": "delete_topic", "topic": "u"}));
    script.step(json!({"do": "sleep", "ms": 1500}));
    script.step(json!({"do": "create_topic", "topic": "u", "partitions": 1}));
    script.step(json!({"do": "sleep", "ms": 500}));
    let sent: Vec<(&'static str, String)> =
        script.sent.iter().filter(|(_, place)| place == "u-0").cloned().collect();
    script.made_again.extend(sent);
}

fn grow(script: &mut Script) {
    let topic = script.topics.first_mut().unwrap();
    if topic.partitions == 3 {
        return;
    }
    topic.partitions += 1;
    let (name, partitions) = (topic.name, topic.partitions);
    script.step(json!({"do": "create_partitions", "topic": name, "partitions": partitions}));
    script.step(json!({"do": "sleep", "ms": 500}));
}

fn alter(script: &mut Script) {
    let changes = [
        ("internal.segment.bytes", "300"),
        ("internal.segment.bytes", "1000"),
        ("message.timestamp.before.max.ms", "100000"),
        ("message.timestamp.before.max.ms", "9000000000000000"),
        ("compression.type", "lz4"),
    ];
    let (key, value) = script.rng.pick(&changes);
    script.step(json!({"do": "alter_config", "topic": "t", "config": {key: value}}));
}

fn isolation(script: &mut Script) -> &'static str {
    script.rng.pick(&["read_committed", "read_committed", "read_uncommitted"])
}

fn look_up(script: &mut Script) {
    let (topic, partition) = script.any_place();
    let specs = [
        json!("latest"),
        json!("earliest"),
        json!("max_timestamp"),
        json!(TIMES[0]),
        json!(TIMES[1]),
        json!(TIMES[2]),
        json!(LATER),
    ];
    let spec = script.rng.pick(&specs);
    let isolation = isolation(script);
    script.step(json!({"do": "list_offsets", "topic": topic, "partition": partition,
                       "spec": spec, "isolation": isolation}));
}

/// A reader with all partitions of the first topic that there were at first.
fn reader(script: &mut Script) -> &'static str {
    let reader = script.rng.pick(READERS);
    if !script.consumers.contains_key(reader) {
        let all = watched(script);
        script.step(json!({"do": "assign", "by": reader, "partitions": all}));
        script.consumers.insert(reader, Standing::Assigned);
    }
    reader
}

fn watched(script: &Script) -> Vec<String> {
    script.partitions().into_iter().filter(|name| name == "t-0" || name == "t-1").collect()
}

/// A time below all others finds the first record; others may find a marker, whose time differs.
fn offsets_for_times(script: &mut Script) {
    let reader = reader(script);
    let time = script.rng.pick(&[0, TIMES[0], 4_102_444_800_000]);
    script.step(json!({"do": "offsets_for_times", "by": reader, "times": {"t-0": time}}));
}

fn seek(script: &mut Script) {
    let reader = reader(script);
    match script.rng.between(0, 5) {
        0 => script.step(json!({"do": "seek_to_beginning", "by": reader, "partitions": []})),
        1 => script.step(json!({"do": "seek_to_end", "by": reader, "partitions": ["t-0"]})),
        _ => {
            let offset = script.rng.between(0, 9);
            script.step(json!({"do": "seek", "by": reader, "partition": "t-0",
                               "offset": offset}));
        }
    }
    if script.rng.chance(60) {
        // A fetch that is on its way takes up to half a second, and the next one as long.
        script.step(json!({"do": "drain", "by": reader, "ms": 1600}));
    }
}

fn drain(script: &mut Script) {
    let reader = reader(script);
    script.step(json!({"do": "drain", "by": reader, "ms": 1600}));
    if script.rng.chance(50) {
        script.step(json!({"do": "position", "by": reader, "partitions": ["t-0"], "ms": 1000}));
    }
    if script.rng.chance(30) {
        script.step(json!({"do": "lag", "by": reader, "partition": "t-0"}));
    }
}

fn ends(script: &mut Script) {
    let reader = reader(script);
    let doing = script.rng.pick(&["end_offsets", "end_offsets", "beginning_offsets"]);
    let all = watched(script);
    script.step(json!({"do": doing, "by": reader, "partitions": all}));
}

fn position(script: &mut Script) {
    let reader = reader(script);
    script.step(json!({"do": "position", "by": reader, "partitions": ["t-0"], "ms": 1000}));
}

fn read(script: &mut Script) {
    let topic = script.rng.pick(&["t", "u"]);
    let isolation = isolation(script);
    script.step(json!({"do": "read", "topic": topic, "isolation": isolation}));
}

fn describe_producers(script: &mut Script) {
    let (topic, partition) = script.any_place();
    script.step(json!({"do": "describe_producers", "topic": topic, "partition": partition}));
}

fn describe_transaction(script: &mut Script) {
    let id = script.rng.pick(&["x", "x", "y", "w", "nobody"]);
    script.step(json!({"do": "describe_transaction", "transactional_id": id}));
}

fn finish(script: &mut Script) {
    for (name, _) in PRODUCERS {
        if script.producers[name] == Stage::Open && script.rng.chance(70) {
            let doing = script.rng.pick(&["commit", "abort", "close"]);
            call(script, doing, name);
            tick(script);
        }
    }
    for id in ["x", "y", "w"] {
        script.step(json!({"do": "describe_transaction", "transactional_id": id}));
    }
    for topic in ["t", "u"] {
        for isolation in ["read_uncommitted", "read_committed"] {
            script.step(json!({"do": "read", "topic": topic, "isolation": isolation}));
        }
    }
    for place in script.partitions() {
        let (topic, partition) = place.rsplit_once('-').unwrap();
        let partition: u64 = partition.parse().unwrap();
        script.step(json!({"do": "describe_producers", "topic": topic, "partition": partition}));
        for spec in ["earliest", "latest", "max_timestamp"] {
            script.step(json!({"do": "list_offsets", "topic": topic, "partition": partition,
                               "spec": spec, "isolation": "read_committed"}));
        }
    }
}
