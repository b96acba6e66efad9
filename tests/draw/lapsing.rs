//! Members that run out of time: sessions, poll intervals, slow callbacks, and what each may still
//! do afterwards.

use super::Theme;
use super::consuming::{produce, produce_to};
use super::script::{Script, Standing};
use serde_json::{Value, json};

pub const LAPSES: Theme = Theme {
    name: "lapses",
    about: "Members whose session or poll interval ends, drawn at random.",
    features: &["C2", "C3", "C5", "C6", "C8"],
    length: (7, 12),
    begin,
    moves: &[
        (14, join),
        (12, let_time_pass),
        (10, poll_once),
        (8, settle),
        (6, kill),
        (4, leave),
        (10, use_it),
        (4, commit_async),
        (5, describe),
        (4, produce),
        (3, remake_topic),
        (3, enforce_rebalance),
        (3, pause),
    ],
    end,
};

const MEMBERS: &[&str] = &["a", "b", "c"];

fn begin(script: &mut Script) {
    let partitions = script.rng.between(1, 4);
    script.topic("t", partitions, json!({}));
    script.topic("u", 1, json!({}));
    script.actor("p", "producer", json!({"linger.ms": "50000"}));
    let assignor = script.rng.pick(&["range", "range", "roundrobin"]);
    let auto_commit = script.rng.chance(35);
    for name in MEMBERS {
        let mut config = json!({"group.id": "g", "default.api.timeout.ms": "4000",
                                "partition.assignment.strategy": assignor,
                                "metadata.max.age.ms": "400"});
        config["session.timeout.ms"] = json!(script.rng.pick(&["1000", "3000", "6000"]));
        if script.rng.chance(60) {
            config["max.poll.interval.ms"] = json!(script.rng.pick(&["1200", "3000"]));
        }
        if auto_commit {
            config["enable.auto.commit"] = json!("true");
            config["auto.commit.interval.ms"] = json!("60000");
        }
        if script.rng.chance(20) {
            config["auto.offset.reset"] = json!(script.rng.pick(&["latest", "none"]));
        }
        script.actor(name, "consumer", config);
    }
    for partition in script.partitions() {
        produce_to(script, &partition);
    }
    join(script);
}

fn member(script: &mut Script) -> &'static str {
    script.any_consumer(|_| true).unwrap_or("a")
}

/// What a member does in its callbacks: nothing, or it takes its time, or it commits.
fn listener(script: &mut Script) -> Vec<Value> {
    let mut actions = Vec::new();
    if script.rng.chance(35) {
        let on = script.rng.pick(&["assigned", "revoked", "lost"]);
        let partition = script.any_partition();
        let mut action = match script.rng.between(0, 5) {
            0 | 1 => json!({"do": "sleep", "ms": 2000, "times": 1}),
            2 => json!({"do": "commit_sync"}),
            3 => json!({"do": "commit_async", "tag": script.tag()}),
            4 => json!({"do": "pause", "partitions": [partition]}),
            _ => json!({"do": "seek_to_beginning", "partitions": [partition]}),
        };
        action["on"] = json!(on);
        actions.push(action);
    }
    actions
}

fn join(script: &mut Script) {
    let member = script.rng.pick(MEMBERS);
    let topics = script.rng.pick(&[json!(["t"]), json!(["t"]), json!(["t", "u"]), json!(["u"])]);
    let actions = listener(script);
    script.step(json!({"do": "subscribe", "by": member, "topics": topics, "listener": actions}));
    script.consumers.insert(member, Standing::Subscribed);
    settle(script);
}

fn settle(script: &mut Script) {
    let members: Vec<&str> = script.consumers.keys().copied().collect();
    if !members.is_empty() {
        script.step(json!({"do": "settle", "members": members, "cover": false,
                           "ignore_empty": true, "limit_ms": 6000}));
    }
}

/// Nobody polls meanwhile; heartbeats go on.
fn let_time_pass(script: &mut Script) {
    let ms = script.rng.pick(&[500, 2100, 4500]);
    script.step(json!({"do": "sleep", "ms": ms}));
    if script.rng.chance(50) {
        describe(script);
    }
}

fn poll_once(script: &mut Script) {
    let member = member(script);
    let ms = script.rng.pick(&[500, 1000]);
    script.step(json!({"do": "poll", "by": member, "ms": ms}));
}

fn kill(script: &mut Script) {
    let member = member(script);
    script.step(json!({"do": "kill", "by": member}));
    script.consumers.remove(member);
    if script.rng.chance(60) {
        script.step(json!({"do": "sleep", "ms": 7500}));
    }
    settle(script);
}

fn leave(script: &mut Script) {
    let member = member(script);
    let doing = script.rng.pick(&["close", "unsubscribe"]);
    script.step(json!({"do": doing, "by": member}));
    script.consumers.remove(member);
    settle(script);
}

/// What a member asks and does, put out or not.
fn use_it(script: &mut Script) {
    let member = member(script);
    let partition = script.any_partition();
    let mut step = match script.rng.between(0, 6) {
        0 | 1 => json!({"do": "commit_sync"}),
        2 => json!({"do": "commit_sync", "offsets": {partition: 1}}),
        3 => json!({"do": "assignment"}),
        4 => json!({"do": "position", "partitions": [partition], "ms": 1000}),
        5 => json!({"do": "group_metadata"}),
        _ => json!({"do": "committed", "partitions": [partition]}),
    };
    step["by"] = json!(member);
    script.step(step);
}

fn commit_async(script: &mut Script) {
    let (member, tag) = (member(script), script.tag());
    script.step(json!({"do": "commit_async", "by": member, "tag": tag}));
    script.step(json!({"do": "poll", "by": member, "ms": 500}));
}

fn describe(script: &mut Script) {
    script.step(json!({"do": "describe_group", "group": "g"}));
}

fn remake_topic(script: &mut Script) {
    script.step(json!({"do": "delete_topic", "topic": "u"}));
    script.step(json!({"do": "sleep", "ms": 1000}));
    settle(script);
    script.step(json!({"do": "create_topic", "topic": "u", "partitions": 2}));
    script.topics[1].partitions = 2;
    script.step(json!({"do": "sleep", "ms": 1000}));
    settle(script);
}

fn enforce_rebalance(script: &mut Script) {
    let member = member(script);
    script.step(json!({"do": "enforce_rebalance", "by": member}));
    settle(script);
}

/// A pause ends with the rebalance that takes the partition away.
fn pause(script: &mut Script) {
    let (member, partition) = (member(script), script.any_partition());
    script.step(json!({"do": "pause", "by": member, "partitions": [partition]}));
    settle(script);
    script.step(json!({"do": "paused", "by": member}));
}

fn end(script: &mut Script) {
    settle(script);
    describe(script);
    let members: Vec<&str> = script.consumers.keys().copied().collect();
    for member in members {
        script.step(json!({"do": "close", "by": member}));
    }
    script.step(json!({"do": "list_group_offsets", "group": "g"}));
}
