//! Members of a group that come, go, die, stall and change their topics, settled or turn by turn.

use super::Theme;
use super::consuming::{listener, produce, produce_to};
use super::script::{Script, Standing};
use serde_json::{Value, json};

pub const GROUPS: Theme = Theme {
    name: "group",
    about: "Members that come, go, die, stall and change their topics, drawn at random.",
    features: &["C2", "C3", "C4", "C5", "C6"],
    length: (6, 11),
    begin,
    moves: &[
        (20, join),
        (14, poll_once),
        (10, settle),
        (6, leave),
        (3, kill),
        (5, change_topics),
        (3, enforce_rebalance),
        (4, stall),
        (6, commit),
        (6, produce),
        (3, grow),
        (4, describe),
        (4, look),
    ],
    end,
};

const MEMBERS: &[&str] = &["a", "b", "c"];

fn begin(script: &mut Script) {
    let partitions = script.rng.between(1, 4);
    script.topic("t", partitions, json!({}));
    if script.rng.chance(50) {
        let partitions = script.rng.between(1, 3);
        script.topic("u", partitions, json!({}));
    }
    // The last of these are for what is built next: their outcomes are known before it.
    let modern = script.rng.chance(4);
    if modern {
        script.protocol("consumer");
    }
    script.actor("p", "producer", json!({}));
    let assignors: &[(u64, &str)] =
        &[(6, "range"), (3, "roundrobin"), (2, "range,roundrobin"), (1, "sticky,range")];
    let of_all = script.rng.weighted(assignors);
    let mixed = script.rng.chance(15);
    let auto_commit = script.rng.chance(25);
    for name in MEMBERS {
        let mut config = json!({"group.id": "g", "default.api.timeout.ms": "3000"});
        if !modern {
            let tie = ["roundrobin,range", "range,roundrobin"];
            let own = if mixed { script.rng.pick(&tie) } else { of_all };
            config["partition.assignment.strategy"] = json!(own);
            config["session.timeout.ms"] = json!("1500");
        }
        config["metadata.max.age.ms"] = json!("400");
        if auto_commit {
            config["enable.auto.commit"] = json!("true");
        }
        if script.rng.chance(25) {
            config["auto.offset.reset"] = json!(script.rng.pick(&["latest", "none"]));
        }
        script.actor(name, "consumer", config);
    }
    for partition in script.partitions() {
        if script.rng.chance(70) {
            produce_to(script, &partition);
        }
    }
    join(script);
    settle(script);
}

fn topics(script: &mut Script) -> Value {
    let names: Vec<&str> = script.topics.iter().map(|topic| topic.name).collect();
    let mut topics = script.rng.some(&names);
    if script.rng.chance(5) {
        topics.push(script.rng.pick(&["no/good", "nowhere"]));
    }
    json!(topics)
}

fn member(script: &mut Script) -> &'static str {
    script.any_consumer(|_| true).unwrap_or("a")
}

fn join(script: &mut Script) {
    let member = script.rng.pick(MEMBERS);
    let topics = topics(script);
    let mut step = json!({"do": "subscribe", "by": member, "topics": topics});
    step["listener"] = match script.rng.chance(5) {
        true => Value::Null,
        false => json!(listener(script)),
    };
    script.step(step);
    script.consumers.insert(member, Standing::Subscribed);
    if script.rng.chance(70) {
        settle(script);
    }
}

fn settle(script: &mut Script) {
    let members: Vec<&str> = script.consumers.keys().copied().collect();
    if members.is_empty() {
        return;
    }
    script.step(json!({"do": "settle", "members": members, "cover": false,
                       "ignore_empty": true, "limit_ms": 6000}));
}

/// One member's turn while the others stand still.
fn poll_once(script: &mut Script) {
    let member = member(script);
    let ms = script.rng.pick(&[500, 1000]);
    script.step(json!({"do": "poll", "by": member, "ms": ms}));
}

fn leave(script: &mut Script) {
    let member = member(script);
    let doing = script.rng.pick(&["close", "unsubscribe"]);
    script.step(json!({"do": doing, "by": member}));
    script.consumers.remove(member);
    settle(script);
}

fn kill(script: &mut Script) {
    let member = member(script);
    script.step(json!({"do": "kill", "by": member}));
    script.consumers.remove(member);
    script.step(json!({"do": "sleep", "ms": 2500}));
    settle(script);
}

fn change_topics(script: &mut Script) {
    let member = member(script);
    let topics = topics(script);
    let actions = listener(script);
    script.step(json!({"do": "subscribe", "by": member, "topics": topics, "listener": actions}));
    script.consumers.insert(member, Standing::Subscribed);
    if script.rng.chance(50) {
        settle(script);
    }
}

fn enforce_rebalance(script: &mut Script) {
    let member = member(script);
    script.step(json!({"do": "enforce_rebalance", "by": member}));
}

/// Everybody's process stands still for longer than a session, but heartbeats go on.
fn stall(script: &mut Script) {
    let ms = script.rng.pick(&[700, 3000]);
    script.step(json!({"do": "sleep", "ms": ms}));
}

fn commit(script: &mut Script) {
    let member = member(script);
    let mut step = match script.rng.chance(50) {
        true => json!({"do": "commit_sync", "ms": 2000}),
        false => json!({"do": "commit_async", "tag": script.tag()}),
    };
    step["by"] = json!(member);
    if script.rng.chance(30) {
        let partition = script.any_partition();
        step["offsets"] = json!({partition: script.rng.between(0, 4)});
    }
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

fn describe(script: &mut Script) {
    script.step(json!({"do": "describe_group", "group": "g"}));
}

fn look(script: &mut Script) {
    let (member, partition) = (member(script), script.any_partition());
    let mut step = match script.rng.between(0, 4) {
        0 => json!({"do": "position", "partitions": [partition], "ms": 1000}),
        1 => json!({"do": "lag", "partition": partition}),
        2 => json!({"do": "group_metadata"}),
        3 => json!({"do": "subscription"}),
        _ => json!({"do": "assignment"}),
    };
    step["by"] = json!(member);
    script.step(step);
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
