//! What one poll brings: limits of bytes and records, waits, isolation, timestamps, and topics that
//! grow and go under their readers.

use super::Theme;
use super::script::{Script, Stage};
use serde_json::{Value, json};

pub const FETCH: Theme = Theme {
    name: "fetch",
    about: "Fetch limits, waits, isolation and lookups by time, drawn at random.",
    features: &["C1", "C7", "C11", "D1"],
    length: (10, 17),
    begin,
    moves: &[
        (20, poll),
        (10, produce),
        (8, transact),
        (5, end_transaction),
        (8, seek),
        (5, seek_to_time),
        (4, seek_lazily),
        (5, pause_or_resume),
        (5, position),
        (5, lag),
        (4, borders),
        (4, by_time),
        (3, list_offsets),
        (3, trim),
        (3, drain),
        (2, wake_up_later),
        (2, commit_and_reassign),
    ],
    end,
};

const READERS: &[&str] = &["a", "b"];
/// The timestamp of the first record; each has a later one.
const TIME: i64 = 1_700_000_000_000;

fn begin(script: &mut Script) {
    let partitions = script.rng.between(1, 3);
    let mut config = json!({"retention.ms": "-1"});
    if script.rng.chance(25) {
        config["internal.segment.bytes"] = json!(script.rng.pick(&["4200", "9000"]));
    }
    script.topic("t", partitions, config);
    let codec = script.rng.weighted(&[(5, "none"), (1, "gzip"), (1, "lz4"), (1, "zstd")]);
    script.actor("p", "producer", json!({"linger.ms": "50000", "compression.type": codec}));
    script.actor("x", "producer", json!({"linger.ms": "50000", "transactional.id": "x"}));
    script.producers.insert("x", Stage::New);
    for name in READERS {
        let config = reader(script);
        script.actor(name, "consumer", config);
    }
    for _ in 0..script.rng.between(2, 4) {
        produce(script);
    }
    for name in READERS {
        let all = script.partitions();
        let partitions = script.rng.some(&all);
        script.step(json!({"do": "assign", "by": name, "partitions": partitions}));
    }
}

fn reader(script: &mut Script) -> Value {
    let mut config = json!({"default.api.timeout.ms": "2000", "group.id": "g"});
    let mut set = |percent: u64, key: &str, of: &[&str]| {
        if script.rng.chance(percent) {
            config[key] = json!(script.rng.pick(of));
        }
    };
    set(40, "max.partition.fetch.bytes", &["1", "100", "300", "700", "2000"]);
    set(40, "fetch.max.bytes", &["1", "300", "700", "1500", "4000"]);
    set(25, "fetch.min.bytes", &["0", "200", "100000"]);
    set(25, "fetch.max.wait.ms", &["0", "100", "300"]);
    set(40, "max.poll.records", &["1", "2", "4", "9"]);
    set(50, "isolation.level", &["read_committed"]);
    set(25, "auto.offset.reset", &["latest", "none", "by_duration:P9999D", "by_duration:PT1H"]);
    config
}

fn next_time(script: &Script) -> i64 {
    TIME + 1000 * i64::try_from(script.len()).unwrap()
}

/// One batch of a few records.
fn batch(script: &mut Script, by: &str) {
    let (topic, partition) = script.any_place();
    for _ in 0..script.rng.between(1, 5) {
        let size = script.rng.pick(&[1, 20, 60, 200, 600, 1500]);
        let (time, tag) = (next_time(script), script.tag());
        script.step(json!({"do": "send_async", "by": by, "topic": topic, "partition": partition,
                           "value_size": size, "timestamp": time, "tag": tag}));
    }
    script.step(json!({"do": "flush", "by": by}));
}

fn produce(script: &mut Script) {
    batch(script, "p");
}

/// Begins one, or goes on with the one that is open.
fn transact(script: &mut Script) {
    match script.producers.insert("x", Stage::Open).unwrap() {
        Stage::New => {
            script.step(json!({"do": "init_transactions", "by": "x"}));
            script.step(json!({"do": "begin", "by": "x"}));
        }
        Stage::Ready => script.step(json!({"do": "begin", "by": "x"})),
        Stage::Open => {}
    }
    batch(script, "x");
}

fn end_transaction(script: &mut Script) {
    if script.producers["x"] == Stage::Open {
        let doing = script.rng.pick(&["commit", "commit", "abort"]);
        script.step(json!({"do": doing, "by": "x"}));
        script.producers.insert("x", Stage::Ready);
    }
}

fn anyone(script: &mut Script) -> &'static str {
    script.rng.pick(READERS)
}

fn poll(script: &mut Script) {
    let by = anyone(script);
    script.step(json!({"do": "poll", "by": by, "ms": 1200}));
}

fn drain(script: &mut Script) {
    let by = anyone(script);
    script.step(json!({"do": "drain", "by": by, "ms": 900}));
}

fn seek(script: &mut Script) {
    let (by, partition) = (anyone(script), script.any_partition());
    let offset = script.rng.pick(&[0, 0, 1, 2, 3, 5, 8, 50]);
    script.step(json!({"do": "seek", "by": by, "partition": partition, "offset": offset}));
}

/// What a program does to begin at a time: it asks where that is, and goes there.
fn seek_to_time(script: &mut Script) {
    let (by, partition) = (anyone(script), script.any_partition());
    let time = TIME + 1000 * i64::try_from(script.rng.between(0, 40)).unwrap();
    script.step(json!({"do": "offsets_for_times", "by": by, "times": {&*partition: time}}));
    let offset = script.rng.between(0, 6);
    script.step(json!({"do": "seek", "by": by, "partition": partition, "offset": offset}));
    poll(script);
}

fn seek_lazily(script: &mut Script) {
    let (by, partition) = (anyone(script), script.any_partition());
    let doing = script.rng.pick(&["seek_to_beginning", "seek_to_end"]);
    script.step(json!({"do": doing, "by": by, "partitions": [partition]}));
}

fn pause_or_resume(script: &mut Script) {
    let (by, partition) = (anyone(script), script.any_partition());
    let doing = script.rng.pick(&["pause", "pause", "resume"]);
    script.step(json!({"do": doing, "by": by, "partitions": [partition]}));
}

fn position(script: &mut Script) {
    let (by, partition) = (anyone(script), script.any_partition());
    script.step(json!({"do": "position", "by": by, "partitions": [partition], "ms": 1000}));
}

fn lag(script: &mut Script) {
    let (by, partition) = (anyone(script), script.any_partition());
    script.step(json!({"do": "lag", "by": by, "partition": partition}));
}

fn borders(script: &mut Script) {
    let by = anyone(script);
    let all = script.partitions();
    let doing = script.rng.pick(&["end_offsets", "end_offsets", "beginning_offsets"]);
    script.step(json!({"do": doing, "by": by, "partitions": all}));
}

fn by_time(script: &mut Script) {
    let (by, partition) = (anyone(script), script.any_partition());
    let time = TIME + 1000 * i64::try_from(script.rng.between(0, 40)).unwrap();
    script.step(json!({"do": "offsets_for_times", "by": by, "times": {partition: time}}));
}

fn list_offsets(script: &mut Script) {
    let (topic, partition) = script.any_place();
    let time = TIME + 1000 * i64::try_from(script.rng.between(0, 40)).unwrap();
    let specs = [json!("earliest"), json!("latest"), json!("max_timestamp"), json!(time)];
    let spec = script.rng.pick(&specs);
    let isolation = script.rng.pick(&["read_uncommitted", "read_committed"]);
    script.step(json!({"do": "list_offsets", "topic": topic, "partition": partition,
                       "spec": spec, "isolation": isolation}));
}

fn trim(script: &mut Script) {
    let (topic, partition) = script.any_place();
    let before = script.rng.pick(&[-1, 1, 2, 4]);
    script.step(json!({"do": "delete_records", "topic": topic, "partition": partition,
                       "before": before}));
}

/// A poll that another thread ends, unless it ends by itself.
fn wake_up_later(script: &mut Script) {
    let by = anyone(script);
    script.step(json!({"do": "drain", "by": by, "ms": 900}));
    script.step(json!({"do": "poll", "by": by, "ms": 2500, "wakeup_after_ms": 900}));
    script.step(json!({"do": "poll", "by": by, "ms": 600}));
}

/// Partitions that stay keep their place, those that come begin at what is committed.
fn commit_and_reassign(script: &mut Script) {
    let by = anyone(script);
    script.step(json!({"do": "commit_sync", "by": by, "ms": 2000}));
    let all = script.partitions();
    let partitions = script.rng.some(&all);
    script.step(json!({"do": "assign", "by": by, "partitions": partitions}));
    script.step(json!({"do": "paused", "by": by}));
    poll(script);
}

fn end(script: &mut Script) {
    end_transaction(script);
    for by in READERS {
        script.step(json!({"do": "drain", "by": by, "ms": 900}));
        script.step(json!({"do": "close", "by": by}));
    }
    script.step(json!({"do": "list_group_offsets", "group": "g"}));
}
