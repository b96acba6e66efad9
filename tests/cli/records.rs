//! Records in and out: keys, headers, formats, filters, compression, and what is refused.

use crate::bombs::{batch, put, record};
use crate::shell::Shell;
use serde_json::{Value, json};
use std::time::Duration;
use topiclite::{Broker, ConsumerConfig, OffsetReset, ReadFrom, TopicPartition};

#[test]
fn a_format_shows_what_kcat_shows() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "1"]);
    let line = r#"{"timestamp":7,"key":"k","value":"v1","headers":[{"name":"a","value":"b"},
        {"name":"n","value":null}]}"#
        .replace('\n', "");
    shell.feed(&["produce", "t", "--input-format", "json"], line.as_bytes());
    let format = r"%t[%p]@%o\t%T %k(%K)=%s(%S) %h %%\x21\n";
    let shown = shell.ok(&["consume", "t", "--format", format]);
    assert_eq!(shown, "t[0]@0\t7 k(1)=v1(2) a=b,n=NULL %!\n");
    shell.feed(&["produce", "t", "--input-format", "json"], br#"{"timestamp":8,"key":null}"#);
    // Nothing is added, and a null has the size -1.
    assert_eq!(shell.ok(&["consume", "t", "-o", "-1", "-f", "%k|%K|%s|%S;"]), "|-1||-1;");
}

#[test]
fn keys_headers_and_settings_are_given_on_the_command_line() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "1"]);
    let words = ["produce", "t", "--key-separator", r"\t", "--header", "src=a", "--header", "x="];
    let sent = shell.run(&words, b"k1\tone\nk2\ttwo\n");
    assert_eq!((sent.code, sent.stderr.as_str()), (0, "2 records written to t\n"));
    let sent = shell.run(&["produce", "t", "--key", "fixed", "--config", "acks=0"], b"three\n");
    assert_eq!((sent.code, sent.stderr.as_str()), (0, "1 record written to t\n"));
    let shown = shell.ok(&["consume", "t", "-f", r"%k=%s %h\n"]);
    assert_eq!(shown, "k1=one src=a,x=\nk2=two src=a,x=\nfixed=three \n");
    assert_eq!(shell.ok(&["consume", "t", "--key", "k2"]), "two\n");
    assert_eq!(shell.ok(&["consume", "t", "--grep", "e"]), "one\nthree\n");
    assert_eq!(shell.ok(&["consume", "t", "--grep", "e", "--count", "1"]), "one\n");
    assert_eq!(shell.ok(&["consume", "t", "--header", "src=a", "--grep", "w"]), "two\n");
    assert_eq!(shell.ok(&["consume", "t", "--header", "src=b"]), "");
    let refused = shell.run(&["produce", "t", "--config", "max.request.size=100"], &[b'x'; 200]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("line 1: ") && refused.stderr.contains("; 0 records were"));
}

#[test]
fn compressed_lines_share_batches() {
    let shell = Shell::new();
    let lines: String = (0..5000).map(|n| format!("a line that repeats itself {n}\n")).collect();
    let mut sizes = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        shell.ok(&["topics", "create", codec, "--partitions", "1"]);
        shell.feed(&["produce", codec, "--compression", codec], lines.as_bytes());
        assert_eq!(shell.ok(&["consume", codec]), lines, "{codec}");
        let log = shell.dir().join(format!("{codec}-0/{:020}.log", 0));
        let batches = shell.json(&["dump", "--batches", log.to_str().unwrap()]);
        assert!(batches.iter().all(|batch| batch["compresscodec"] == codec), "{codec}");
        assert!(batches.len() < 500, "{codec}: {} batches", batches.len());
        sizes.push(batches.iter().map(|batch| batch["size"].as_u64().unwrap()).sum::<u64>());
    }
    assert!(sizes[1..].iter().all(|size| *size < sizes[0] / 2), "{sizes:?}");
}

#[test]
fn what_fails_inside_a_file_names_the_line_and_what_was_written() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "1"]);
    let big = "x".repeat(2 << 20);
    type Case<'a> = (&'a [&'a str], String, u64, &'a str);
    let cases: &[Case<'_>] = &[
        (&["--key-separator", ":"], "a:1\nb:2\nno key\nc:3\n".into(), 3, "\":\""),
        (&["--key-separator", r"\t"], "a\t1\nb:2\n".into(), 2, r#""\t""#),
        (&["--headers"], "a:1\tv\nno tab\n".into(), 2, "no tab"),
        (&["--input-format", "json"], "{\"value\":\"v\"}\nx\n".into(), 2, "not JSON"),
        (&[], format!("a\nb\n{big}\nc\n"), 3, "record too large"),
        (&["--compression", "zstd"], format!("a\nb\n{big}\nc\n"), 3, "record too large"),
        (&["--config", "linger.ms=50"], format!("a\n{big}\nc\n"), 2, "record too large"),
    ];
    let mut before = 0;
    for (words, input, line, part) in cases {
        let ended = shell.run(&[&["produce", "t"], *words].concat(), input.as_bytes());
        assert_eq!(ended.code, 1, "{words:?}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.contains(part), "{words:?}: {ended:?}");
        let start = format!("topiclite: line {line}: ");
        assert!(ended.stderr.starts_with(&start), "{words:?}: {ended:?}");
        let count = shell.ok(&["consume", "t", "-f", r"%o\n"]).lines().count() as u64;
        let written = count - before;
        let were = if written == 1 { "record was" } else { "records were" };
        let end = format!("; {written} {were} written\n");
        assert!(ended.stderr.ends_with(&end) && written >= line - 1, "{words:?}: {ended:?}");
        before = count;
    }
    let words = ["--json", "produce", "t", "--key-separator", ":"];
    let ended = shell.run(&words, b"a:1\nno key\n");
    let told: Value = serde_json::from_str(ended.stderr.trim_end()).unwrap();
    assert_eq!((&told["line"], &told["written"]), (&json!(2), &json!(1)), "{told}");
    assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
}

#[test]
fn times_are_local_dates_and_how_long_ago_as_well() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "1"]);
    // Noon of two days in UTC, with the zone of the tests in between.
    let lines = concat!(
        r#"{"timestamp":1769860800000,"value":"31 January"}"#,
        "\n",
        r#"{"timestamp":1769947200000,"value":"1 February"}"#,
        "\n"
    );
    shell.feed(&["produce", "t", "--input-format", "json"], lines.as_bytes());
    shell.feed(&["produce", "t"], b"today\n");
    let zoned = |zone: &str, from: &str| {
        let ended = shell.script(&format!("TZ={zone} topiclite consume t --from '{from}'"));
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.stdout
    };
    assert_eq!(zoned("UTC", "@2026-01-31T12:00"), "31 January\n1 February\ntoday\n");
    assert_eq!(zoned("UTC", "@2026-01-31T12:01"), "1 February\ntoday\n");
    assert_eq!(zoned("UTC", "@2026-02-01"), "1 February\ntoday\n");
    // Noon in UTC is 13:00 in Berlin in winter, and 07:00 in New York.
    assert_eq!(zoned("Europe/Berlin", "@2026-01-31T12:59"), "31 January\n1 February\ntoday\n");
    assert_eq!(zoned("America/New_York", "@2026-01-31 07:01"), "1 February\ntoday\n");
    assert_eq!(zoned("UTC", "@-1h"), "today\n");
    assert_eq!(zoned("UTC", "@-20000d").lines().count(), 3);
}

#[test]
fn trim_moves_the_beginning_of_a_partition() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "2"]);
    shell.feed(&["produce", "t", "--partition", "1"], b"0\n1\n2\n3\n");
    let trim = ["trim", "t", "--partition", "1", "--before"];
    assert_eq!(shell.ok(&[&trim[..], &["2"]].concat()), "t-1 begins at offset 2\n");
    assert_eq!(shell.ok(&["consume", "t"]), "2\n3\n");
    assert_eq!(
        shell.json(&[&trim[..], &["end"]].concat()),
        [json!({"topic": "t", "partition": 1, "log_start_offset": 4})]
    );
    assert_eq!(shell.ok(&["consume", "t"]), "");
    // A topic that is never emptied keeps its records, and so does one that is compacted.
    shell.ok(&["topics", "alter", "t", "-X", "cleanup.policy=compact"]);
    let refused = shell.run(&[&trim[..], &["end"]].concat(), b"");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("cleanup.policy"), "{refused:?}");
}

#[test]
fn a_compacted_topic_is_cleaned_on_request() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "-X", "cleanup.policy=compact"]);
    let lines = b"a:1\nb:1\na:2\nc:1\na:3\n";
    shell.feed(&["produce", "t", "--key-separator", ":"], lines);
    let done = shell.json(&["compact", "t"]);
    assert_eq!(done[0]["records_removed"], json!(0), "the active segment is left");
    let before = shell.json(&["topics", "describe", "t"]);
    let before = &before[0]["partition_details"][0];
    assert_eq!(before["first_dirty_offset"], json!(0));
    assert_eq!(before["last_cleaned_ms"], json!(null));
    let done = shell.json(&["compact", "t", "--now"]);
    assert_eq!(
        (&done[0]["records_removed"], &done[0]["end_offset"], &done[0]["partition"]),
        (&json!(2), &json!(5), &json!(0))
    );
    assert!(done[0]["bytes_after"].as_u64() < done[0]["bytes_before"].as_u64());
    assert_eq!(shell.ok(&["consume", "t"]), "1\n1\n3\n");
    let after = shell.json(&["topics", "describe", "t"]);
    let details = &after[0]["partition_details"][0];
    assert_eq!(details["first_dirty_offset"], json!(5));
    assert_eq!(details["dirty_ratio"], json!(0.0));
    assert!(details["last_cleaned_ms"].as_i64() > Some(1_700_000_000_000), "{details}");
    assert_eq!(details["segments"], json!(2));
    let text = shell.ok(&["topics", "describe", "t"]);
    for heading in ["LOG-START", "SEGMENTS", "FIRST-DIRTY", "DIRTY-RATIO", "LAST-CLEANED"] {
        assert!(text.contains(heading), "{heading}: {text}");
    }
    shell.ok(&["verify"]);
    let plain = shell.run(&["compact", "missing"], b"");
    assert_eq!(plain.code, 1, "{plain:?}");
    shell.ok(&["topics", "create", "u"]);
    let refused = shell.run(&["compact", "u"], b"");
    assert!(refused.stderr.contains("cleanup.policy"), "{refused:?}");
}

#[test]
fn a_topic_tells_for_which_group_its_records_stay() {
    let shell = Shell::new();
    let protected = "retention.protected.groups=billing,audit";
    shell.ok(&["topics", "create", "t", "-X", protected, "-X", "retention.bytes=0"]);
    shell.feed(&["produce", "t", "-p", "0"], b"0\n1\n2\n");
    shell.ok(&["consume", "t", "--group", "billing", "--from", "beginning"]);
    shell.ok(&["groups", "reset", "audit", "--topic", "t", "--to", "1", "--execute"]);
    let described = &shell.json(&["topics", "describe", "t"])[0]["partition_details"][0];
    assert_eq!(
        (&described["protected_group"], &described["protected_offset"]),
        (&json!("audit"), &json!(1))
    );
    let text = shell.ok(&["topics", "describe", "t"]);
    assert!(text.contains("PROTECTED") && text.contains("audit@1"), "{text}");
    shell.ok(&["topics", "alter", "t", "-X", "retention.protected.groups=nobody"]);
    assert!(shell.ok(&["topics", "describe", "t"]).contains("nobody@-"));
}

#[test]
fn changes_of_topics_are_told_as_json_and_a_topic_is_described_in_full() {
    let shell = Shell::new();
    let made = shell.json(&["topics", "create", "t", "-p", "2", "-X", "retention.ms=5"]);
    assert_eq!(made[0]["config"], json!({"retention.ms": "5"}));
    assert_eq!(shell.json(&["topics", "grow", "t", "-p", "3"])[0]["partitions"], 3);
    assert_eq!(
        shell.json(&["topics", "alter", "t", "-X", "retention.ms="])[0]["config"],
        json!({})
    );
    shell.feed(&["produce", "t", "-p", "1"], b"0\n1\n");
    let described = &shell.json(&["topics", "describe", "t"])[0];
    assert_eq!(described["id"], made[0]["id"]);
    assert_eq!(described["settings"]["retention.ms"]["value"], "604800000");
    let sizes: Vec<u64> = described["partition_details"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["size_bytes"].as_u64().unwrap())
        .collect();
    assert!(sizes[0] == 0 && sizes[1] > 0 && sizes[2] == 0, "{described}");
    assert_eq!(described["size_bytes"], json!(sizes[1]));
    // As the file system counts, and as an owner is told.
    let files = std::fs::read_dir(shell.dir().join("t-1")).unwrap();
    let blocks = |file: std::io::Result<std::fs::DirEntry>| {
        std::os::unix::fs::MetadataExt::blocks(&file.unwrap().metadata().unwrap())
    };
    assert_eq!(sizes[1], files.map(blocks).sum::<u64>() * 512);
    let owner = topiclite::Broker::open(shell.dir()).unwrap();
    let size = owner.admin().partition_size("t", 1).unwrap();
    assert_eq!(json!(size.batch_bytes()), described["partition_details"][1]["batch_bytes"]);
    assert_eq!(size.batch_bytes(), 2 * (61 + 8), "two batches of one record");
    assert_eq!(size.disk_bytes(), sizes[1], "opening writes nothing into a partition");
    owner.close().unwrap();
    assert_eq!(described["partition_details"][1]["log_end_offset"], 2);
    let text = shell.ok(&["topics", "describe", "t"]);
    let id = described["id"].as_str().unwrap();
    assert!(text.contains(id) && text.contains("retention.ms") && text.contains("604800000"));
    assert_eq!(shell.json(&["topics", "delete", "t"]), [json!({"topic": "t"})]);
}

#[test]
fn what_consume_prints_as_json_produce_takes_back() {
    let shell = Shell::new();
    for topic in ["a", "b", "c"] {
        shell.ok(&["topics", "create", topic, "--partitions", "2"]);
    }
    let lines = [
        r#"{"partition":0,"timestamp":0,"key":"k","value":"v","headers":[]}"#,
        r#"{"partition":1,"timestamp":5,"key":null,"value":null,"headers":null}"#,
        r#"{"partition":0,"timestamp":6,"key":"","value":""}"#,
        r#"{"partition":1,"timestamp":7,"key_base64":"/w==","value_base64":"AP8="}"#,
        r#"{"partition":0,"timestamp":8,"value":"\u0000\u001b[2J\n\"\\\u20ac\ud83d\ude00"}"#,
        r#"{"partition":1,"timestamp":9,"value":"h","headers":[{"name":"a","value":"1"},
            {"name":"a","value":null},{"name":"","value":""},{"name":"b","value_base64":"gA=="}]}"#,
    ];
    let input: String = lines.iter().map(|line| line.replace('\n', "") + "\n").collect();
    let produce = |topic| ["produce", topic, "--input-format", "json"];
    shell.feed(&produce("a"), input.as_bytes());
    let printed = shell.ok(&["--json", "consume", "a"]);
    assert_eq!(printed.lines().count(), lines.len());
    shell.feed(&produce("b"), printed.as_bytes());
    let again = shell.ok(&["--json", "consume", "b"]);
    assert_eq!(again.replace(r#""topic":"b""#, r#""topic":"a""#), printed);

    // A timestamp of -1 is none; the clock gives one.
    let none = r#"{"headers":[],"key":"k","offset":0,"partition":0,"timestamp":-1,
        "timestamp_type":"create","topic":"no-timestamp","value":"none"}"#;
    shell.feed(&produce("c"), none.replace('\n', "").as_bytes());
    let found = &shell.json(&["consume", "c"])[0];
    assert_eq!((&found["key"], &found["value"]), (&json!("k"), &json!("none")));
    assert!(found["timestamp"].as_i64() > Some(1_700_000_000_000));
}

#[test]
fn a_line_that_is_not_all_understood_writes_nothing() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "1"]);
    for (line, part) in [
        (r#"{"key":"k1","value":"v1","headers":{"trace":"abc"}}"#, "\"headers\" is an array"),
        (r#"{"key":"k2","payload":"v2"}"#, "no field \"payload\""),
        (r#"{"key":"k3","value":"v3","ts":1700000000000}"#, "no field \"ts\""),
        (r#"{"key":"k4","value":4}"#, "\"value\" is text or null, not 4"),
        (r#"{"key":"k5","value":"a","value":"b"}"#, "\"value\" comes twice"),
        ("{}", "a record has a \"value\""),
    ] {
        let words = ["produce", "t", "--input-format", "json"];
        let ended = shell.run(&words, line.as_bytes());
        assert_eq!(ended.code, 1, "{line}: {ended:?}");
        assert!(ended.stderr.starts_with("topiclite: line 1: "), "{ended:?}");
        assert!(ended.stderr.contains(part), "{line}: {ended:?}");
    }
    assert_eq!(shell.ok(&["consume", "t"]), "");
}

#[test]
fn control_characters_are_shown_where_people_read() {
    let shell = Shell::new();
    shell.ok(&["topics", "create", "t", "--partitions", "1"]);
    shell.feed(&["produce", "t", "--input-format", "json"], br#"{"key":"\u001b[2J","value":"v"}"#);
    let group = "g\u{1b}[2J\u{9b}\n\u{202e}";
    shell.ok(&["consume", "t", "--group", group]);
    let log = shell.dir().join("t-0/00000000000000000000.log");
    let dump = ["dump", log.to_str().unwrap(), "--records"];
    let mut shown = vec![
        shell.ok(&["groups", "list"]),
        shell.ok(&["groups", "describe", group]),
        shell.run(&["groups", "describe", "no\u{1b}[2J"], b"").stderr,
        shell.run(&["consume", "t\u{1b}[2J\n"], b"").stderr,
        {
            let member = shell.start(&["consume", "t", "--group", group, "--follow"]);
            while shell.json(&["groups", "members", group]).is_empty() {}
            let ended = member.signal("INT");
            assert_eq!(ended.code, 130, "{ended:?}");
            ended.stderr
        },
    ];
    let dumped = shell.run(&dump, b"");
    if dumped.code == 0 {
        shown.push(dumped.stdout);
    }
    for text in shown {
        let seen = |letter: char| !letter.is_control() && letter != '\u{202e}';
        assert!(text.lines().all(|line| line.chars().all(seen)), "{text:?}");
    }
    assert!(shell.ok(&["groups", "list"]).contains(r"g\u{1b}[2J\u{9b}\n\u{202e}"));
}

/// Old clients stored records without a timestamp. Everybody shows -1, and who sends such a record
/// on leaves the timestamp out: no producer of Kafka's sends one that is negative.
#[test]
fn a_record_without_a_timestamp_is_shown_with_minus_1_and_sent_on_without_one() {
    let shell = Shell::new();
    put(&shell, &batch(0, 0, -1, &record(b'a')));
    let broker = Broker::attach(shell.dir()).unwrap();
    let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    assert_eq!(reader.next(Duration::ZERO).unwrap().unwrap().timestamp(), -1);
    let config = ConsumerConfig::without_group().auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config).unwrap();
    let t0 = TopicPartition::new("t", 0);
    consumer.assign(std::slice::from_ref(&t0)).unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    assert_eq!(records.iter().map(|record| record.timestamp()).collect::<Vec<_>>(), [-1]);
    let found = consumer.offsets_for_times(&[(t0.clone(), 0)].into()).unwrap();
    assert_eq!(found[&t0], None, "no time finds it");
    assert_eq!(shell.ok(&["consume", "t", "-f", r"%T %s\n"]), "-1 a\n");
    let printed = shell.ok(&["--json", "consume", "t"]);
    assert!(printed.contains(r#""timestamp":-1"#), "{printed}");
    shell.ok(&["topics", "create", "copy", "--partitions", "1"]);
    shell.feed(&["produce", "copy", "--input-format", "json"], printed.as_bytes());
    let copied = &shell.json(&["consume", "copy"])[0];
    assert!(copied["timestamp"].as_i64().unwrap() > 1_600_000_000_000, "{copied}");
    assert_eq!(copied["value"], "a");
}
