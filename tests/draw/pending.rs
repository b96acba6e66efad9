//! Offsets of a live group inside transactions: members that come, go and are replaced while they
//! are pending, commits beside them, administrators of the group.

use super::Theme;
use super::script::{Script, Stage, Standing};
use super::transacting::{at_stage, call};
use serde_json::{Value, json};

pub const PENDING: Theme = Theme {
    name: "pending",
    about: "Offsets of a live group in transactions, drawn at random.",
    features: &["B4", "B5", "C7"],
    length: (14, 26),
    begin,
    moves: &[
        (12, go_on),
        (22, send_offsets),
        (8, send),
        (14, end),
        (5, join),
        (3, leave),
        (2, kill_member),
        (2, remove_all),
        (6, hold),
        (8, commit),
        (4, drain),
        (8, committed),
        (4, position),
        (6, list),
        (3, describe),
        (4, change_offsets),
        (1, delete_group),
        (1, kill_and_open),
        (1, fence),
        (1, wait),
        (1, make_again),
        (2, describe_transaction),
    ],
    end: finish,
};

const MEMBERS: &[&str] = &["a", "b"];
const PRODUCERS: &[(&str, &str)] = &[("p", "x"), ("q", "y")];

fn begin(script: &mut Script) {
    let partitions = script.rng.between(1, 3);
    script.topic("t", partitions, json!({"retention.ms": "-1"}));
    script.topic("u", 1, json!({"retention.ms": "-1"}));
    for (name, id) in PRODUCERS {
        let mut config = json!({"transactional.id": id, "linger.ms": "0", "max.block.ms": "5000"});
        if script.rng.chance(20) {
            config["transaction.timeout.ms"] = json!("12000");
        }
        script.actor(name, "producer", config);
        script.producers.insert(name, Stage::New);
    }
    script.actor("o", "producer", json!({"linger.ms": "0"}));
    for member in MEMBERS {
        let mut config = json!({"group.id": "g", "session.timeout.ms": "1500",
                                "metadata.max.age.ms": "400", "default.api.timeout.ms": "1500"});
        if script.rng.chance(50) {
            config["isolation.level"] = json!("read_committed");
        }
        if script.rng.chance(20) {
            config["auto.offset.reset"] = json!(script.rng.pick(&["latest", "none"]));
        }
        script.actor(member, "consumer", config);
    }
    // One that looks at the group from outside, and one of another group.
    script.actor("c", "consumer", json!({"group.id": "g", "default.api.timeout.ms": "1500"}));
    script.actor("h", "consumer", json!({"group.id": "h", "default.api.timeout.ms": "1500"}));
    for partition in 0..partitions {
        script.step(json!({"do": "send_many", "by": "o", "topic": "t", "partition": partition,
                           "count": 3, "flush": true}));
    }
    if script.rng.chance(75) {
        join(script);
    }
    go_on(script);
}

fn settle(script: &mut Script) {
    let members: Vec<&str> =
        script.consumers.keys().copied().filter(|name| MEMBERS.contains(name)).collect();
    if members.is_empty() {
        return;
    }
    script.step(json!({"do": "settle", "members": members, "cover": false,
                       "ignore_empty": true, "limit_ms": 6000}));
}

fn join(script: &mut Script) {
    let member = script.rng.pick(MEMBERS);
    let topics = script.rng.weighted(&[(6, json!(["t"])), (1, json!(["t", "u"]))]);
    script.step(json!({"do": "subscribe", "by": member, "topics": topics}));
    script.consumers.insert(member, Standing::Subscribed);
    settle(script);
}

fn a_member(script: &mut Script) -> Option<&'static str> {
    script.any_consumer(|standing| standing == Standing::Subscribed)
}

fn leave(script: &mut Script) {
    let Some(member) = a_member(script) else { return join(script) };
    let doing = script.rng.pick(&["close", "unsubscribe"]);
    call(script, doing, member);
    if doing == "close" {
        call(script, "open", member);
    }
    script.consumers.remove(member);
    settle(script);
}

fn kill_member(script: &mut Script) {
    let Some(member) = a_member(script) else { return join(script) };
    call(script, "kill", member);
    call(script, "open", member);
    script.consumers.remove(member);
    script.step(json!({"do": "sleep", "ms": 2500}));
    settle(script);
}

fn remove_all(script: &mut Script) {
    script.step(json!({"do": "remove_members", "group": "g", "instances": []}));
    if script.rng.chance(50) {
        settle(script);
    }
}

fn anyone(script: &mut Script) -> &'static str {
    script.rng.weighted(&[(3, "p"), (2, "q")])
}

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

fn some_offsets(script: &mut Script) -> Value {
    let all = script.partitions();
    let chosen = script.rng.some(&all);
    chosen.into_iter().map(|tp| (tp, json!(script.rng.between(0, 9)))).collect()
}

fn group(script: &mut Script) -> Value {
    let member = script.rng.pick(MEMBERS);
    let held = script.held.iter().copied().collect::<Vec<_>>();
    match script.rng.between(0, 11) {
        0..=2 => json!(member),
        3 => json!({"member": member, "generation_shift": script.rng.pick(&[-1, 1])}),
        4..=5 if !held.is_empty() => json!({"held": script.rng.pick(&held)}),
        6 => json!({"group_id": "g", "generation": 1, "member_id": "nobody"}),
        7 => json!({"group_id": "h"}),
        8 => match script.rng.between(0, 4) {
            0 => Value::Null,
            1 => json!({"group_id": "g", "generation": 3, "member_id": ""}),
            2 => json!({"group_id": "g", "generation": -1, "member_id": "nobody"}),
            3 => json!({"group_id": "g", "generation": 0, "member_id": ""}),
            _ => json!("h"),
        },
        _ => json!({"group_id": "g"}),
    }
}

fn send_offsets(script: &mut Script) {
    let Some(by) = at_stage(script, Stage::Open) else { return go_on(script) };
    let offsets = match script.rng.chance(6) {
        true => json!({}),
        false => some_offsets(script),
    };
    let group = group(script);
    script.step(json!({"do": "send_offsets", "by": by, "offsets": offsets, "group": group}));
}

fn send(script: &mut Script) {
    let Some(by) = at_stage(script, Stage::Open) else { return go_on(script) };
    if script.made_again.contains(&(by, "u-0".to_owned())) {
        return;
    }
    script.sent.insert((by, "u-0".to_owned()));
    script.step(json!({"do": "send", "by": by, "topic": "u", "partition": 0, "value": "v",
                       "flush": true}));
}

fn is_over(script: &mut Script, by: &'static str, next: Stage) {
    script.producers.insert(by, next);
    script.sent.retain(|(name, _)| *name != by);
    script.made_again.retain(|(name, _)| *name != by);
}

fn end(script: &mut Script) {
    let Some(by) = at_stage(script, Stage::Open) else { return go_on(script) };
    let doing = script.rng.pick(&["commit", "commit", "abort"]);
    call(script, doing, by);
    is_over(script, by, Stage::Ready);
}

fn hold(script: &mut Script) {
    let member = script.rng.pick(MEMBERS);
    call(script, "hold_metadata", member);
    script.held.insert(member);
}

fn commit(script: &mut Script) {
    let by = script.rng.weighted(&[(4, "a"), (2, "b"), (2, "c"), (1, "h")]);
    let offsets = some_offsets(script);
    script.step(json!({"do": "commit_sync", "by": by, "offsets": offsets, "ms": 1500}));
}

fn drain(script: &mut Script) {
    let Some(member) = a_member(script) else { return };
    script.step(json!({"do": "drain", "by": member, "ms": 1600}));
}

fn committed(script: &mut Script) {
    let by = script.rng.weighted(&[(2, "a"), (1, "b"), (3, "c"), (1, "h")]);
    let all = script.partitions();
    let partitions = script.rng.some(&all);
    script.step(json!({"do": "committed", "by": by, "partitions": partitions, "ms": 1000}));
}

fn position(script: &mut Script) {
    let by = script.rng.pick(MEMBERS);
    script.step(json!({"do": "position", "by": by, "partitions": ["t-0"], "ms": 1000}));
}

fn list(script: &mut Script) {
    let group = script.rng.weighted(&[(5, "g"), (1, "h")]);
    script.step(json!({"do": "list_group_offsets", "group": group}));
}

fn describe(script: &mut Script) {
    match script.rng.chance(60) {
        true => script.step(json!({"do": "describe_group", "group": "g"})),
        false => script.step(json!({"do": "list_groups"})),
    }
}

fn change_offsets(script: &mut Script) {
    let group = script.rng.weighted(&[(5, "g"), (1, "h")]);
    let offsets = some_offsets(script);
    let step = match script.rng.chance(50) {
        true => json!({"do": "alter_group_offsets", "group": group, "offsets": offsets}),
        false => {
            let partitions: Vec<&String> = offsets.as_object().unwrap().keys().collect();
            json!({"do": "delete_group_offsets", "group": group, "partitions": partitions})
        }
    };
    script.step(step);
}

fn delete_group(script: &mut Script) {
    let group = script.rng.pick(&["g", "h"]);
    script.step(json!({"do": "delete_group", "group": group}));
}

fn kill_and_open(script: &mut Script) {
    let by = anyone(script);
    call(script, "kill", by);
    call(script, "open", by);
    call(script, "init_transactions", by);
    is_over(script, by, Stage::Ready);
}

fn fence(script: &mut Script) {
    let ids = vec![script.rng.pick(&["x", "y"])];
    script.step(json!({"do": "fence_producers", "transactional_ids": ids}));
}

/// Longer than the short timeout, and far from the long one.
fn wait(script: &mut Script) {
    script.step(json!({"do": "sleep", "ms": 18000}));
}

/// Its pending offsets are dropped, and so are those that the group had.
fn make_again(script: &mut Script) {
    script.step(json!({"do": "delete_topic", "topic": "u"}));
    script.step(json!({"do": "sleep", "ms": 1500}));
    script.step(json!({"do": "create_topic", "topic": "u", "partitions": 1}));
    script.step(json!({"do": "sleep", "ms": 1000}));
    let sent: Vec<(&'static str, String)> = script.sent.iter().cloned().collect();
    script.made_again.extend(sent);
}

fn describe_transaction(script: &mut Script) {
    let id = script.rng.pick(&["x", "y"]);
    script.step(json!({"do": "describe_transaction", "transactional_id": id}));
}

fn finish(script: &mut Script) {
    for (name, _) in PRODUCERS {
        if script.producers[name] == Stage::Open && script.rng.chance(70) {
            let doing = script.rng.pick(&["commit", "abort", "close"]);
            call(script, doing, name);
        }
    }
    for id in ["x", "y"] {
        script.step(json!({"do": "describe_transaction", "transactional_id": id}));
    }
    for group in ["g", "h"] {
        script.step(json!({"do": "list_group_offsets", "group": group}));
    }
    let all = script.partitions();
    script.step(json!({"do": "committed", "by": "c", "partitions": all, "ms": 1000}));
    script.step(json!({"do": "read", "topic": "u", "isolation": "read_committed"}));
}
