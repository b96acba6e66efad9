//! Groups under their administrators: offsets set, deleted and forgotten, with members, without, in
//! transactions, and where a topic goes and comes again.

use super::Theme;
use super::consuming::produce_to;
use super::script::{Script, Stage, Standing};
use serde_json::{Map, Value, json};

pub const OFFSETS: Theme = Theme {
    name: "offsets",
    about: "What administrators do to groups and their offsets, drawn at random.",
    features: &["C4", "C10", "A1"],
    length: (9, 16),
    begin,
    moves: &[
        (10, join),
        (7, leave),
        (3, kill),
        (9, commit),
        (10, alter_offsets),
        (8, delete_offsets),
        (5, delete_group),
        (3, remove_members),
        (8, list_offsets),
        (6, describe),
        (4, list_groups),
        (5, transact),
        (3, remake_topic),
        (3, grow),
        (5, committed),
        (4, read_on),
    ],
    end,
};

const MEMBERS: &[&str] = &["a", "b"];
/// The members' group, one that is only ever committed for, and one that nobody uses.
const GROUPS: &[&str] = &["g", "g", "g", "s", "s", "n"];

fn begin(script: &mut Script) {
    let partitions = script.rng.between(1, 3);
    script.topic("t", partitions, json!({}));
    let partitions = script.rng.between(1, 2);
    script.topic("u", partitions, json!({}));
    script.actor("p", "producer", json!({"linger.ms": "50000"}));
    script.actor("x", "producer", json!({"transactional.id": "x"}));
    script.producers.insert("x", Stage::New);
    let assignor = script.rng.pick(&["range", "roundrobin"]);
    let reset = script.rng.pick(&["earliest", "latest", "none"]);
    for name in MEMBERS {
        let config = json!({"group.id": "g", "session.timeout.ms": "1500",
                            "default.api.timeout.ms": "3000", "metadata.max.age.ms": "400",
                            "auto.offset.reset": reset,
                            "partition.assignment.strategy": assignor});
        script.actor(name, "consumer", config);
    }
    script.actor("s", "consumer", json!({"group.id": "s", "default.api.timeout.ms": "3000"}));
    script.step(json!({"do": "assign", "by": "s", "partitions": ["t-0"]}));
    for partition in script.partitions() {
        produce_to(script, &partition);
    }
}

/// A partition, now and then one that is not there.
fn partition(script: &mut Script) -> String {
    match script.rng.between(0, 19) {
        0 => "t-9".into(),
        1 => "nowhere-0".into(),
        _ => script.any_partition(),
    }
}

fn offsets(script: &mut Script) -> Value {
    let mut given = Map::new();
    for _ in 0..script.rng.between(1, 3) {
        let offset = script.rng.pick(&[0, 1, 2, 5, 1000]);
        given.insert(partition(script), json!(offset));
    }
    Value::Object(given)
}

fn with_metadata(script: &mut Script, step: &mut Value) {
    match script.rng.between(0, 5) {
        0 => step["metadata"] = json!("m"),
        1 => step["metadata_length"] = json!(script.rng.pick(&[4096, 4097])),
        _ => {}
    }
}

fn settle(script: &mut Script) {
    let members: Vec<&str> = script.consumers.keys().copied().collect();
    if !members.is_empty() {
        script.step(json!({"do": "settle", "members": members, "cover": false,
                           "ignore_empty": true, "limit_ms": 5000}));
    }
}

fn join(script: &mut Script) {
    let member = script.rng.pick(MEMBERS);
    let topics = script.rng.pick(&[json!(["t"]), json!(["t"]), json!(["u"]), json!(["t", "u"])]);
    script.step(json!({"do": "subscribe", "by": member, "topics": topics, "listener": []}));
    script.consumers.insert(member, Standing::Subscribed);
    settle(script);
}

fn leave(script: &mut Script) {
    if let Some(member) = script.any_consumer(|_| true) {
        let doing = script.rng.pick(&["close", "unsubscribe"]);
        script.step(json!({"do": doing, "by": member}));
        script.consumers.remove(member);
        settle(script);
    }
}

fn kill(script: &mut Script) {
    if let Some(member) = script.any_consumer(|_| true) {
        script.step(json!({"do": "kill", "by": member}));
        script.consumers.remove(member);
        // Before its session is over, or after it.
        if script.rng.chance(60) {
            script.step(json!({"do": "sleep", "ms": 3000}));
            settle(script);
        }
    }
}

/// What was sent to a partition that is not there is tried for as long as a call may take.
fn commit(script: &mut Script) {
    let by = script.any_consumer(|_| true).unwrap_or("s");
    let by = if script.rng.chance(40) { "s" } else { by };
    let mut step = json!({"do": "commit_sync", "by": by});
    if script.rng.chance(70) {
        let partition = script.any_partition();
        let offset = script.rng.between(0, 6);
        step["offsets"] = json!({partition: offset});
        with_metadata(script, &mut step);
    }
    script.step(step);
}

fn alter_offsets(script: &mut Script) {
    let group = script.rng.pick(GROUPS);
    let offsets = offsets(script);
    let mut step = json!({"do": "alter_group_offsets", "group": group, "offsets": offsets});
    with_metadata(script, &mut step);
    script.step(step);
}

fn delete_offsets(script: &mut Script) {
    let group = script.rng.pick(GROUPS);
    let mut partitions = vec![partition(script)];
    if script.rng.chance(50) {
        let another = partition(script);
        if another != partitions[0] {
            partitions.push(another);
        }
    }
    script.step(json!({"do": "delete_group_offsets", "group": group, "partitions": partitions}));
    list_offsets(script);
}

fn delete_group(script: &mut Script) {
    let group = script.rng.pick(GROUPS);
    script.step(json!({"do": "delete_group", "group": group}));
    list_groups(script);
}

fn remove_members(script: &mut Script) {
    let group = script.rng.pick(&["g", "g", "s", "n"]);
    let mut step = json!({"do": "remove_members", "group": group});
    if script.rng.chance(30) {
        step["instances"] = json!(["i"]);
    }
    script.step(step);
    describe(script);
    settle(script);
}

fn list_offsets(script: &mut Script) {
    let group = script.rng.pick(GROUPS);
    script.step(json!({"do": "list_group_offsets", "group": group}));
}

fn describe(script: &mut Script) {
    let group = script.rng.pick(GROUPS);
    script.step(json!({"do": "describe_group", "group": group}));
}

fn list_groups(script: &mut Script) {
    script.step(json!({"do": "list_groups"}));
}

/// Offsets in a transaction, looked at and deleted while it is open.
fn transact(script: &mut Script) {
    if script.producers.insert("x", Stage::Ready) == Some(Stage::New) {
        script.step(json!({"do": "init_transactions", "by": "x"}));
    }
    script.step(json!({"do": "begin", "by": "x"}));
    let group = script.rng.pick(&["g", "s"]);
    let (place, offset) = (script.any_partition(), script.rng.between(0, 6));
    script.step(json!({"do": "send_offsets", "by": "x", "offsets": {place: offset},
                       "group": {"group_id": group}}));
    for _ in 0..script.rng.between(0, 2) {
        let next = script.rng.pick(&[
            list_offsets as super::Move,
            delete_offsets,
            delete_group,
            alter_offsets,
            describe,
        ]);
        next(script);
    }
    let doing = script.rng.pick(&["commit", "commit", "abort"]);
    script.step(json!({"do": doing, "by": "x"}));
    script.step(json!({"do": "list_group_offsets", "group": group}));
}

/// The offsets of a topic go with it, in every group.
fn remake_topic(script: &mut Script) {
    script.step(json!({"do": "delete_topic", "topic": "u"}));
    script.step(json!({"do": "sleep", "ms": 1500}));
    settle(script);
    script.step(json!({"do": "list_group_offsets", "group": "g"}));
    script.step(json!({"do": "list_group_offsets", "group": "s"}));
    let partitions = script.topics[1].partitions;
    script.step(json!({"do": "create_topic", "topic": "u", "partitions": partitions}));
    script.step(json!({"do": "sleep", "ms": 1500}));
    settle(script);
}

fn grow(script: &mut Script) {
    script.topics[0].partitions += 1;
    let partitions = script.topics[0].partitions;
    script.step(json!({"do": "create_partitions", "topic": "t", "partitions": partitions}));
    script.step(json!({"do": "sleep", "ms": 1500}));
    settle(script);
}

fn committed(script: &mut Script) {
    let by = script.any_consumer(|_| true).unwrap_or("s");
    let all = script.partitions();
    script.step(json!({"do": "committed", "by": by, "partitions": all}));
}

/// One that is assigned begins at what is committed by then.
fn read_on(script: &mut Script) {
    let all = script.partitions();
    let partitions = script.rng.some(&all);
    script.step(json!({"do": "assign", "by": "s", "partitions": partitions}));
    script.step(json!({"do": "drain", "by": "s", "ms": 800}));
    script.step(json!({"do": "position", "by": "s", "partitions": partitions}));
}

fn end(script: &mut Script) {
    settle(script);
    for group in ["g", "s", "n"] {
        script.step(json!({"do": "describe_group", "group": group}));
        script.step(json!({"do": "list_group_offsets", "group": group}));
    }
    list_groups(script);
}
