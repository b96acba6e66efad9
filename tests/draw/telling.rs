//! Listeners that do much: each callback of a member runs several actions, through joins, leaves,
//! changes of the subscription, and the end of its time.

use super::Theme;
use super::consuming::{produce, produce_to};
use super::script::{Script, Standing};
use serde_json::{Value, json};

pub const CALLBACKS: Theme = Theme {
    name: "callbacks",
    about: "What members do inside their callbacks, drawn at random.",
    features: &["C4", "C5", "C6", "C8"],
    length: (7, 12),
    begin,
    moves: &[
        (16, subscribe),
        (8, poll_once),
        (8, settle),
        (6, unsubscribe),
        (5, close),
        (6, outlive),
        (3, enforce_rebalance),
        (5, commit),
        (4, wake),
        (4, produce),
        (4, place_it),
        (3, grow),
    ],
    end,
};

const MEMBERS: &[&str] = &["a", "b"];

fn begin(script: &mut Script) {
    let partitions = script.rng.between(2, 3);
    script.topic("t", partitions, json!({"retention.ms": "-1"}));
    script.topic("u", 1, json!({}));
    script.actor("p", "producer", json!({"linger.ms": "50000"}));
    let assignor = script.rng.pick(&["range", "roundrobin"]);
    let auto_commit = script.rng.chance(40);
    let reset = script.rng.weighted(&[(4, "earliest"), (2, "latest"), (2, "none")]);
    for name in MEMBERS {
        let mut config = json!({"group.id": "g", "default.api.timeout.ms": "1500",
                                "session.timeout.ms": "6000", "metadata.max.age.ms": "400",
                                "auto.offset.reset": reset,
                                "partition.assignment.strategy": assignor});
        if auto_commit {
            config["enable.auto.commit"] = json!("true");
            config["auto.commit.interval.ms"] = json!("60000");
        }
        if *name == "a" {
            config["max.poll.interval.ms"] = json!("2500");
        }
        script.actor(name, "consumer", config);
    }
    for partition in script.partitions() {
        if script.rng.chance(80) {
            produce_to(script, &partition);
        }
    }
    subscribe(script);
    settle(script);
}

fn member(script: &mut Script) -> &'static str {
    script.any_consumer(|_| true).unwrap_or("a")
}

/// What runs inside callbacks: one to four actions.
fn listener(script: &mut Script) -> Vec<Value> {
    (0..script.rng.between(1, 4)).map(|_| action(script)).collect()
}

fn action(script: &mut Script) -> Value {
    let partition = script.any_partition();
    let other = script.any_partition();
    let offset = script.rng.between(0, 4);
    let mut action = match script.rng.between(0, 25) {
        0 => json!({"do": "position", "partitions": [partition]}),
        1 => json!({"do": "seek", "partition": partition, "offset": offset}),
        2 => json!({"do": "seek_to_beginning", "partitions": []}),
        3 => json!({"do": "seek_to_end", "partitions": [partition]}),
        4 => json!({"do": "seek_to_end", "partitions": []}),
        5 | 6 => json!({"do": "pause", "partitions": [partition]}),
        7 => json!({"do": "resume", "partitions": [partition]}),
        8 => json!({"do": "paused"}),
        9 | 10 => json!({"do": "commit_sync"}),
        11 => json!({"do": "commit_sync", "offsets": {partition: offset, other: 1}}),
        12 => json!({"do": "commit_async", "tag": script.tag()}),
        13 => json!({"do": "commit_async", "offsets": {partition: offset}, "tag": script.tag()}),
        14 => json!({"do": "committed", "partitions": [partition, other]}),
        15 => json!({"do": "wakeup", "times": 1}),
        16 => json!({"do": "lag", "partition": partition}),
        17 => json!({"do": "end_offsets", "partitions": [partition]}),
        18 => json!({"do": "beginning_offsets", "partitions": [partition]}),
        19 => json!({"do": "offsets_for_times", "times": {partition: 4_102_444_800_000_i64}}),
        20 => json!({"do": "assignment"}),
        21 => json!({"do": "subscription"}),
        22 => json!({"do": "group_metadata"}),
        23 => json!({"do": "enforce_rebalance", "times": 1}),
        24 => json!({"do": "sleep", "ms": script.rng.pick(&[300, 3000]), "times": 1}),
        _ => json!({"do": "throw", "times": 1,
                    "error": script.rng.pick(&["RuntimeException", "KafkaException"])}),
    };
    action["on"] = json!(script.rng.pick(&["assigned", "assigned", "revoked", "revoked", "lost"]));
    if script.rng.chance(15) {
        action["also_empty"] = json!(true);
    }
    action
}

fn subscribe(script: &mut Script) {
    let member = script.rng.pick(MEMBERS);
    let topics = script.rng.pick(&[json!(["t"]), json!(["t"]), json!(["t", "u"]), json!(["u"])]);
    let actions = listener(script);
    script.step(json!({"do": "subscribe", "by": member, "topics": topics, "listener": actions}));
    script.consumers.insert(member, Standing::Subscribed);
    if script.rng.chance(70) {
        settle(script);
    }
}

fn settle(script: &mut Script) {
    let members: Vec<&str> = script.consumers.keys().copied().collect();
    if !members.is_empty() {
        script.step(json!({"do": "settle", "members": members, "cover": false,
                           "ignore_empty": true, "limit_ms": 5000}));
    }
}

fn poll_once(script: &mut Script) {
    let by = member(script);
    script.step(json!({"do": "poll", "by": by, "ms": 800}));
}

fn unsubscribe(script: &mut Script) {
    let by = member(script);
    script.step(json!({"do": "unsubscribe", "by": by}));
    script.step(json!({"do": "assignment", "by": by}));
    script.consumers.remove(by);
}

fn close(script: &mut Script) {
    let by = member(script);
    script.step(json!({"do": "close", "by": by}));
    script.step(json!({"do": "open", "by": by}));
    script.consumers.remove(by);
}

/// Longer than the poll interval of one of them.
fn outlive(script: &mut Script) {
    script.step(json!({"do": "sleep", "ms": 3800}));
    if script.rng.chance(60) {
        script.step(json!({"do": "poll", "by": "a", "ms": 800}));
    }
}

fn enforce_rebalance(script: &mut Script) {
    let by = member(script);
    script.step(json!({"do": "enforce_rebalance", "by": by}));
    settle(script);
}

fn commit(script: &mut Script) {
    let by = member(script);
    let step = match script.rng.chance(50) {
        true => json!({"do": "commit_sync", "by": by, "ms": 2000}),
        false => json!({"do": "commit_async", "by": by, "tag": script.tag()}),
    };
    script.step(step);
}

fn wake(script: &mut Script) {
    let by = member(script);
    script.step(json!({"do": "wakeup", "by": by}));
}

/// Where a reader is when it is told to let go.
fn place_it(script: &mut Script) {
    let (by, partition) = (member(script), script.any_partition());
    let step = match script.rng.between(0, 3) {
        0 => json!({"do": "seek", "by": by, "partition": partition, "offset": 1}),
        1 => json!({"do": "seek_to_end", "by": by, "partitions": []}),
        2 => json!({"do": "pause", "by": by, "partitions": [partition]}),
        _ => json!({"do": "position", "by": by, "partitions": [partition], "ms": 1000}),
    };
    script.step(step);
}

fn grow(script: &mut Script) {
    let topic = script.topics.first_mut().unwrap();
    topic.partitions += 1;
    let (name, partitions) = (topic.name, topic.partitions);
    script.step(json!({"do": "create_partitions", "topic": name, "partitions": partitions}));
    script.step(json!({"do": "sleep", "ms": 1200}));
    settle(script);
}

fn end(script: &mut Script) {
    settle(script);
    for member in MEMBERS {
        script.step(json!({"do": "close", "by": member}));
    }
    script.step(json!({"do": "list_group_offsets", "group": "g"}));
    script.step(json!({"do": "describe_group", "group": "g"}));
}
