//! One or two readers, in a group and without: positions, seeks, pauses, lags, commits, fetch
//! limits, trims.

use super::Theme;
use super::script::{Script, Standing};
use serde_json::{Value, json};

pub const ALONE: Theme = Theme {
    name: "alone",
    about: "Readers by assign and by subscribe, with and without a group, drawn at random.",
    features: &["C1", "C4", "C7", "C11"],
    length: (10, 18),
    begin,
    moves: &[
        (8, assign),
        (4, subscribe),
        (22, poll),
        (6, seek),
        (4, seek_lazily),
        (6, pause_or_resume),
        (8, lag),
        (6, position),
        (6, borders),
        (4, offsets_for_times),
        (6, commit_sync),
        (6, commit_async),
        (4, committed),
        (5, look),
        (8, produce),
        (5, trim),
        (2, unsubscribe),
        (2, close_and_open),
        (3, wakeup),
    ],
    end,
};

const READERS: &[&str] = &["a", "b"];

fn begin(script: &mut Script) {
    let partitions = script.rng.between(1, 3);
    script.topic("t", partitions, json!({"retention.ms": "-1"}));
    if script.rng.chance(50) {
        let partitions = script.rng.between(1, 2);
        script.topic("u", partitions, json!({}));
    }
    // What is sent without lingering shares a batch by chance.
    script.actor("p", "producer", json!({"linger.ms": "50000"}));
    for name in READERS {
        let config = reader(script);
        script.actor(name, "consumer", config);
    }
    for partition in script.partitions() {
        if script.rng.chance(80) {
            produce_to(script, &partition);
        }
    }
    assign(script);
}

fn reader(script: &mut Script) -> Value {
    let mut config = json!({});
    let mut set = |key: &str, value: &str| config[key] = json!(value);
    if script.rng.chance(65) {
        set("group.id", "g");
    }
    let reset = [(5, "earliest"), (3, "latest"), (2, "none"), (1, "by_duration:PT1H")];
    set("auto.offset.reset", script.rng.weighted(&reset));
    if script.rng.chance(40) {
        set("max.poll.records", script.rng.pick(&["1", "2", "3", "7"]));
    }
    if script.rng.chance(30) {
        set("fetch.max.bytes", script.rng.pick(&["1", "150", "250", "400"]));
    }
    if script.rng.chance(30) {
        set("max.partition.fetch.bytes", script.rng.pick(&["1", "150", "250", "400"]));
    }
    if script.rng.chance(15) {
        set("isolation.level", "read_committed");
    }
    if script.rng.chance(20) {
        set("enable.auto.commit", "true");
        set("auto.commit.interval.ms", script.rng.pick(&["100", "60000"]));
    }
    set("default.api.timeout.ms", "2000");
    config
}

pub(super) fn produce(script: &mut Script) {
    let partition = script.any_partition();
    produce_to(script, &partition);
}

pub(super) fn produce_to(script: &mut Script, name: &str) {
    let (topic, partition) = name.rsplit_once('-').unwrap();
    let partition: u64 = partition.parse().unwrap();
    let place = json!({"by": "p", "topic": topic, "partition": partition, "flush": true});
    let with = |more: Value| {
        let mut step = place.clone();
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        step
    };
    if script.rng.chance(60) {
        let count = script.rng.between(1, 6);
        script.step(with(json!({"do": "send_many", "count": count})));
        return;
    }
    for _ in 0..script.rng.between(1, 3) {
        let size = script.rng.pick(&[1, 39, 39, 90, 200]);
        script.step(with(json!({"do": "send", "value_size": size})));
    }
}

fn someone(script: &mut Script) -> &'static str {
    let active = script.any_consumer(|standing| standing != Standing::Idle);
    active.unwrap_or("a")
}

fn assign(script: &mut Script) {
    let reader = script.rng.pick(READERS);
    let all = script.partitions();
    let partitions = script.rng.some(&all);
    script.step(json!({"do": "assign", "by": reader, "partitions": partitions}));
    script.consumers.entry(reader).or_insert(Standing::Assigned);
}

fn subscribe(script: &mut Script) {
    let reader = script.rng.pick(READERS);
    let topics = vec![script.any_topic()];
    let actions = listener(script);
    script.step(json!({"do": "subscribe", "by": reader, "topics": topics, "listener": actions}));
    script.step(json!({"do": "settle", "members": [reader], "cover": false,
                       "ignore_empty": true, "limit_ms": 4000}));
    script.consumers.entry(reader).or_insert(Standing::Subscribed);
}

/// What runs inside callbacks: often nothing.
pub(super) fn listener(script: &mut Script) -> Vec<Value> {
    let mut actions = Vec::new();
    while script.rng.chance(30) && actions.len() < 2 {
        let on = script.rng.pick(&["assigned", "assigned", "revoked", "lost"]);
        let partition = script.any_partition();
        let offset = script.rng.between(0, 5);
        let doing = script.rng.between(0, 14);
        let mut action = match doing {
            0 => json!({"do": "position", "partitions": [partition]}),
            1 => json!({"do": "seek", "partition": partition, "offset": offset}),
            2 => json!({"do": "seek_to_beginning", "partitions": [partition]}),
            3 => json!({"do": "pause", "partitions": [partition]}),
            4 => json!({"do": "commit_sync"}),
            5 => json!({"do": "commit_sync", "offsets": {partition: offset}}),
            6 => json!({"do": "commit_async", "tag": script.tag()}),
            7 => json!({"do": "commit_async", "offsets": {partition: offset},
                        "tag": script.tag()}),
            8 => json!({"do": "committed", "partitions": [partition]}),
            9 => json!({"do": "wakeup", "times": 1}),
            10 => json!({"do": "lag", "partition": partition}),
            11 => json!({"do": "end_offsets", "partitions": [partition]}),
            12 => json!({"do": "assignment"}),
            13 => json!({"do": "enforce_rebalance", "times": 1}),
            _ => json!({"do": "throw", "times": 1,
                        "error": script.rng.pick(&["RuntimeException", "KafkaException"])}),
        };
        action["on"] = json!(on);
        actions.push(action);
    }
    actions
}

fn poll(script: &mut Script) {
    let reader = someone(script);
    let ms = script.rng.pick(&[600, 600, 1200]);
    script.step(json!({"do": "poll", "by": reader, "ms": ms}));
}

fn seek(script: &mut Script) {
    let (reader, partition) = (someone(script), script.any_partition());
    let offset = script.rng.weighted(&[(20, 0), (10, 1), (10, 2), (5, 5), (4, 40), (1, -1)]);
    script.step(json!({"do": "seek", "by": reader, "partition": partition, "offset": offset}));
}

fn seek_lazily(script: &mut Script) {
    let reader = someone(script);
    let partitions = match script.rng.chance(30) {
        true => Vec::new(),
        false => vec![script.any_partition()],
    };
    let doing = script.rng.pick(&["seek_to_beginning", "seek_to_end"]);
    script.step(json!({"do": doing, "by": reader, "partitions": partitions}));
}

fn pause_or_resume(script: &mut Script) {
    let (reader, partition) = (someone(script), script.any_partition());
    let doing = script.rng.pick(&["pause", "pause", "resume"]);
    script.step(json!({"do": doing, "by": reader, "partitions": [partition]}));
}

fn lag(script: &mut Script) {
    let (reader, partition) = (someone(script), script.any_partition());
    script.step(json!({"do": "lag", "by": reader, "partition": partition}));
}

fn position(script: &mut Script) {
    let (reader, partition) = (someone(script), script.any_partition());
    script.step(json!({"do": "position", "by": reader, "partitions": [partition], "ms": 1000}));
}

fn borders(script: &mut Script) {
    let reader = someone(script);
    let all = script.partitions();
    let partitions = script.rng.some(&all);
    let doing = script.rng.weighted(&[(3, "end_offsets"), (1, "beginning_offsets")]);
    script.step(json!({"do": doing, "by": reader, "partitions": partitions}));
}

fn offsets_for_times(script: &mut Script) {
    let (reader, partition) = (someone(script), script.any_partition());
    // What the clock gave to a record differs from run to run.
    let time = script.rng.pick(&[4_102_444_800_000_i64, -1, -3]);
    script.step(json!({"do": "offsets_for_times", "by": reader, "times": {partition: time}}));
}

fn given_offsets(script: &mut Script) -> Value {
    let all = script.partitions();
    let chosen = script.rng.some(&all);
    chosen.into_iter().map(|tp| (tp, json!(script.rng.between(0, 6)))).collect()
}

fn commit_sync(script: &mut Script) {
    let reader = someone(script);
    let mut step = json!({"do": "commit_sync", "by": reader, "ms": 2000});
    if script.rng.chance(50) {
        step["offsets"] = given_offsets(script);
        if script.rng.chance(30) {
            step["metadata"] = json!("m");
        }
    }
    script.step(step);
}

fn commit_async(script: &mut Script) {
    let (reader, tag) = (someone(script), script.tag());
    let mut step = json!({"do": "commit_async", "by": reader, "tag": tag});
    if script.rng.chance(50) {
        step["offsets"] = given_offsets(script);
    }
    script.step(step);
}

fn committed(script: &mut Script) {
    let (reader, all) = (someone(script), script.partitions());
    script.step(json!({"do": "committed", "by": reader, "partitions": all, "ms": 2000}));
}

fn look(script: &mut Script) {
    let reader = someone(script);
    let doing = script.rng.pick(&["paused", "assignment", "subscription", "group_metadata"]);
    script.step(json!({"do": doing, "by": reader}));
}

pub(super) fn trim(script: &mut Script) {
    let (topic, partition) = script.any_place();
    let before = script.rng.pick(&[-1, 1, 1, 2, 3, 30]);
    script.step(json!({"do": "delete_records", "topic": topic, "partition": partition,
                       "before": before}));
}

fn unsubscribe(script: &mut Script) {
    let reader = someone(script);
    script.step(json!({"do": "unsubscribe", "by": reader}));
    script.consumers.remove(reader);
}

fn close_and_open(script: &mut Script) {
    let reader = someone(script);
    script.step(json!({"do": "close", "by": reader}));
    script.step(json!({"do": "open", "by": reader}));
    script.consumers.remove(reader);
}

fn wakeup(script: &mut Script) {
    let reader = someone(script);
    script.step(json!({"do": "wakeup", "by": reader}));
}

fn end(script: &mut Script) {
    for reader in READERS {
        script.step(json!({"do": "close", "by": reader}));
    }
    script.step(json!({"do": "list_group_offsets", "group": "g"}));
}
