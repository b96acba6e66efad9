//! Every call of a consumer, in whatever it is in the middle of, with arguments right and wrong.

use super::Theme;
use super::consuming::produce_to;
use super::script::Script;
use serde_json::{Value, json};

pub const CALLS: Theme = Theme {
    name: "calls",
    about: "Calls of a consumer in any state, with arguments right and wrong, drawn at random.",
    features: &["C1", "C4", "C7"],
    length: (14, 24),
    begin,
    moves: &[
        (5, subscribe),
        (7, assign),
        (2, unsubscribe),
        (10, poll),
        (10, wake),
        (9, position),
        (9, committed),
        (8, commit),
        (7, look_up),
        (6, seek),
        (5, seek_lazily),
        (6, pause_or_resume),
        (6, lag),
        (6, look),
        (3, close),
        (4, open_otherwise),
        (3, come_and_go),
        (2, trim),
    ],
    end,
};

/// Partitions that are there, and one each that its topic, or nobody, has.
const PLACES: &[&str] = &["t-0", "t-0", "t-1", "u-0", "t-9", "nowhere-0"];

fn begin(script: &mut Script) {
    script.topic("t", 2, json!({"retention.ms": "-1"}));
    script.topic("u", 1, json!({}));
    script.actor("p", "producer", json!({"linger.ms": "50000"}));
    let mut config = json!({"default.api.timeout.ms": "1500", "request.timeout.ms": "1200",
                            "session.timeout.ms": "6000"});
    let mut set = |percent: u64, key: &str, of: &[&str]| {
        if script.rng.chance(percent) {
            config[key] = json!(script.rng.pick(of));
        }
    };
    set(80, "group.id", &["g", "g", "g", "g", ""]);
    set(60, "auto.offset.reset", &["latest", "none", "earliest"]);
    set(20, "isolation.level", &["read_committed"]);
    set(25, "enable.auto.commit", &["true"]);
    if config.get("enable.auto.commit").is_some() {
        config["auto.commit.interval.ms"] = json!("60000");
    }
    script.actor("a", "consumer", config);
    let other = json!({"group.id": "g", "session.timeout.ms": "6000"});
    script.actor("b", "consumer", other);
    for partition in script.partitions() {
        if script.rng.chance(80) {
            produce_to(script, &partition);
        }
    }
}

/// None, one or two, the same twice now and then.
fn places(script: &mut Script) -> Vec<&'static str> {
    let count = script.rng.pick(&[0, 1, 1, 1, 2]);
    (0..count).map(|_| script.rng.pick(PLACES)).collect()
}

/// A call, with a timeout now and then: of its own, and below zero.
fn call(script: &mut Script, mut step: Value) {
    step["by"] = json!("a");
    match script.rng.between(0, 11) {
        0 => step["ms"] = json!(-1),
        1 | 2 => step["ms"] = json!(1200),
        _ => {}
    }
    script.step(step);
}

fn subscribe(script: &mut Script) {
    let topics = script.rng.weighted(&[
        (6, json!(["t"])),
        (4, json!(["t", "u"])),
        (2, json!(["u", "u"])),
        (1, json!([])),
        (1, json!([""])),
        (1, json!(["t", " "])),
        (1, json!([null])),
        (2, json!(["nowhere"])),
    ]);
    script.step(json!({"do": "subscribe", "by": "a", "topics": topics, "listener": []}));
    if script.rng.chance(60) {
        script.step(json!({"do": "settle", "members": ["a"], "cover": false,
                           "ignore_empty": true, "limit_ms": 4000}));
    }
}

fn assign(script: &mut Script) {
    let partitions = places(script);
    script.step(json!({"do": "assign", "by": "a", "partitions": partitions}));
}

fn unsubscribe(script: &mut Script) {
    script.step(json!({"do": "unsubscribe", "by": "a"}));
}

fn poll(script: &mut Script) {
    let ms = script.rng.weighted(&[(8, 600), (4, 1200), (1, -1)]);
    script.step(json!({"do": "poll", "by": "a", "ms": ms}));
}

fn wake(script: &mut Script) {
    script.step(json!({"do": "wakeup", "by": "a"}));
}

fn position(script: &mut Script) {
    let partitions = places(script);
    call(script, json!({"do": "position", "partitions": partitions}));
}

fn committed(script: &mut Script) {
    let partitions = places(script);
    call(script, json!({"do": "committed", "partitions": partitions}));
}

fn commit(script: &mut Script) {
    let mut step = match script.rng.chance(50) {
        true => json!({"do": "commit_sync"}),
        false => json!({"do": "commit_async", "tag": script.tag()}),
    };
    if script.rng.chance(60) {
        let chosen = places(script);
        let offsets = chosen.into_iter().map(|place| {
            let offset = script.rng.pick(&[0, 1, 2, 3, 1000, -1]);
            (place.to_owned(), json!(offset))
        });
        step["offsets"] = Value::Object(offsets.collect());
        match script.rng.between(0, 5) {
            0 => step["metadata"] = json!("m"),
            1 => step["metadata"] = json!({"t-0": "zero", "u-0": "other"}),
            2 => step["metadata_length"] = json!(script.rng.pick(&[0, 7, 201, 4096, 4097])),
            _ => {}
        }
    }
    // One that is not waited for has no timeout.
    match step["do"] == "commit_sync" {
        true => call(script, step),
        false => {
            step["by"] = json!("a");
            script.step(step);
        }
    }
}

fn look_up(script: &mut Script) {
    if script.rng.chance(60) {
        let partitions = places(script);
        let doing = script.rng.pick(&["end_offsets", "beginning_offsets"]);
        return call(script, json!({"do": doing, "partitions": partitions}));
    }
    let chosen = places(script);
    let times = chosen.into_iter().map(|place| {
        let time = script.rng.pick(&[4_102_444_800_000_i64, 4_102_444_800_000, -1]);
        (place.to_owned(), json!(time))
    });
    let times = Value::Object(times.collect());
    script.step(json!({"do": "offsets_for_times", "by": "a", "times": times}));
}

fn seek(script: &mut Script) {
    let partition = script.rng.pick(PLACES);
    let offset = script.rng.weighted(&[(5, 0), (5, 1), (3, 2), (2, 40), (1, -1)]);
    let mut step = json!({"do": "seek", "by": "a", "partition": partition, "offset": offset});
    if script.rng.chance(25) {
        step["metadata"] = json!("m");
    }
    script.step(step);
}

fn seek_lazily(script: &mut Script) {
    let partitions = places(script);
    let doing = script.rng.pick(&["seek_to_beginning", "seek_to_end"]);
    script.step(json!({"do": doing, "by": "a", "partitions": partitions}));
}

fn pause_or_resume(script: &mut Script) {
    let partitions = places(script);
    let doing = script.rng.pick(&["pause", "pause", "resume"]);
    script.step(json!({"do": doing, "by": "a", "partitions": partitions}));
    script.step(json!({"do": "paused", "by": "a"}));
}

fn lag(script: &mut Script) {
    let partition = script.rng.pick(PLACES);
    script.step(json!({"do": "lag", "by": "a", "partition": partition}));
}

fn look(script: &mut Script) {
    let doing = script.rng.pick(&[
        "paused",
        "assignment",
        "subscription",
        "group_metadata",
        "enforce_rebalance",
        "hold_metadata",
    ]);
    script.step(json!({"do": doing, "by": "a"}));
}

fn close(script: &mut Script) {
    let mut step = json!({"do": "close", "by": "a"});
    match script.rng.between(0, 5) {
        0 => step["ms"] = json!(-1),
        1 => step["ms"] = json!(2000),
        _ => {}
    }
    script.step(step);
    if script.rng.chance(70) {
        script.step(json!({"do": "open", "by": "a"}));
    }
}

/// Another consumer in the place of this one, from here on with other settings.
fn open_otherwise(script: &mut Script) {
    script.step(json!({"do": "close", "by": "a"}));
    let config = script.rng.pick(&[
        json!({"group.id": null}),
        json!({"group.id": "g"}),
        json!({"group.id": "h"}),
        json!({"auto.offset.reset": null}),
        json!({"auto.offset.reset": "none"}),
        json!({"auto.offset.reset": "latest"}),
        json!({"enable.auto.commit": "true"}),
        json!({"enable.auto.commit": "false"}),
        json!({"max.poll.records": "1"}),
        json!({"max.poll.records": "0"}),
    ]);
    script.step(json!({"do": "open", "by": "a", "config": config}));
}

/// Another member takes a share, or gives it back.
fn come_and_go(script: &mut Script) {
    if script.rng.chance(50) {
        script.step(json!({"do": "subscribe", "by": "b", "topics": ["t"], "listener": []}));
        script.step(json!({"do": "poll", "by": "b", "ms": 700}));
    } else {
        script.step(json!({"do": "unsubscribe", "by": "b"}));
    }
}

fn trim(script: &mut Script) {
    let before = script.rng.pick(&[-1, 1, 2]);
    script.step(json!({"do": "delete_records", "topic": "t", "partition": 0, "before": before}));
}

fn end(script: &mut Script) {
    poll(script);
    script.step(json!({"do": "close", "by": "a"}));
    script.step(json!({"do": "close", "by": "b"}));
    for group in ["g", "h"] {
        script.step(json!({"do": "list_group_offsets", "group": group}));
        script.step(json!({"do": "describe_group", "group": group}));
    }
}
