//! Text forms of bytes, partitions, records and errors.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use topiclite::TopicPartition;
use topiclite::{Error, ErrorKind};

/// Values above this many bytes are shown by their size.
const SHOWN_BYTES_MAX: usize = 200;

/// Null, the text, `size:N`, or `base64:...`.
pub(super) fn show_bytes(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) if bytes.len() > SHOWN_BYTES_MAX => json!(format!("size:{}", bytes.len())),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => json!(format!("base64:{}", STANDARD.encode(bytes))),
        },
    }
}

/// The text that was stored with an offset, or `size:N` by the UTF-16 units that Java counts.
pub(super) fn show_metadata(text: &str) -> Value {
    match text.encode_utf16().count() {
        units if units > SHOWN_BYTES_MAX => json!(format!("size:{units}")),
        _ => json!(text),
    }
}

/// The bytes of a field that holds text, `base64:...` or null.
pub(super) fn bytes_of(value: Option<&Value>) -> Option<Vec<u8>> {
    let text = value?.as_str()?;
    Some(match text.strip_prefix("base64:") {
        Some(encoded) => STANDARD.decode(encoded).ok()?,
        None => text.as_bytes().to_vec(),
    })
}

/// `t-0` -> the partition; the topic may contain hyphens, and be empty.
pub(super) fn partition_of(text: &str) -> TopicPartition {
    let found = text.rsplit_once('-').and_then(|(topic, n)| Some((topic, n.parse().ok()?)));
    found.map_or_else(|| TopicPartition::new(text, -1), |(topic, n)| TopicPartition::new(topic, n))
}

/// The partitions of a list field.
pub(super) fn partitions_of(value: Option<&Value>) -> Vec<TopicPartition> {
    let list = value.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(partition_of).collect()
}

/// Sorted names of partitions.
pub(super) fn show_partitions<'a>(list: impl IntoIterator<Item = &'a TopicPartition>) -> Value {
    let mut list: Vec<&TopicPartition> = list.into_iter().collect();
    list.sort();
    Value::from(list.iter().map(|tp| tp.to_string()).collect::<Vec<_>>())
}

/// `{"t-0": value}` from pairs.
pub(super) fn show_map(pairs: impl IntoIterator<Item = (TopicPartition, Value)>) -> Value {
    let map: BTreeMap<String, Value> =
        pairs.into_iter().map(|(tp, value)| (tp.to_string(), value)).collect();
    Value::Object(Map::from_iter(map))
}

/// One record: partition, offset, key, value, and headers when there are any.
pub(super) fn show_record(
    partition: &TopicPartition,
    offset: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(String, Option<Vec<u8>>)],
) -> Value {
    let mut out =
        vec![json!(partition.to_string()), json!(offset), show_bytes(key), show_bytes(value)];
    if !headers.is_empty() {
        let list: Vec<Value> = headers
            .iter()
            .map(|(name, value)| json!([name, show_bytes(value.as_deref())]))
            .collect();
        out.push(Value::from(list));
    }
    Value::from(out)
}

/// The error's name, and what goes with it: the cause of a plain KafkaException, and the
/// partitions of an error about offsets.
pub(super) fn show_error(error: &Error) -> Value {
    let mut out = Map::new();
    out.insert("error".into(), json!(error.kafka_name()));
    if matches!(error.kafka_name(), "KafkaException" | "RetriableCommitFailedException")
        && let Some(cause) = innermost(error)
    {
        out.insert("cause".into(), json!(cause));
    }
    let about_offsets =
        matches!(error.kind(), ErrorKind::NoOffsetForPartition | ErrorKind::OffsetOutOfRange);
    if about_offsets && !error.partitions().is_empty() {
        let list: Vec<TopicPartition> = error
            .partitions()
            .iter()
            .map(|(topic, partition)| TopicPartition::new(topic.as_str(), *partition))
            .collect();
        out.insert("partitions".into(), show_partitions(&list));
    }
    Value::Object(out)
}

/// The name of the innermost other error below `error`.
fn innermost(error: &Error) -> Option<String> {
    let mut found = None;
    for error in error.causes() {
        if let Some(error) = error.downcast_ref::<Error>() {
            found = Some(error.kafka_name().to_owned());
        } else if let Some(Thrown(name)) = error.downcast_ref::<Thrown>() {
            found = Some(name.clone());
        }
    }
    found
}

/// An exception that a scenario throws in a callback and that is not one of Kafka's.
#[derive(Debug)]
pub(super) struct Thrown(pub(super) String);

impl std::fmt::Display for Thrown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} thrown by the scenario", self.0)
    }
}

impl std::error::Error for Thrown {}

/// A timestamp field: a number, or `now`, `now+N`, `now-N`.
pub(super) fn timestamp_of(value: Option<&Value>, now_ms: i64) -> Option<i64> {
    match value? {
        Value::String(text) => {
            let rest = text.strip_prefix("now")?;
            Some(now_ms + rest.trim_start_matches('+').parse::<i64>().unwrap_or(0))
        }
        other => other.as_i64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_there_and_back() {
        for bytes in [&b""[..], b"a", b"\xff", b"\xff\x00", b"\xff\x00\x01", b"\xff\x00\x01\x02"] {
            let shown = show_bytes(Some(bytes));
            assert_eq!(bytes_of(Some(&shown)).as_deref(), Some(bytes));
        }
        assert_eq!(show_bytes(Some(&[0xff, 0xfe])), json!("base64://4="));
        assert_eq!(show_bytes(Some(&[b'x'; 201])), json!("size:201"));
        assert_eq!(show_bytes(None), Value::Null);
    }

    #[test]
    fn timestamps_may_be_around_the_clock() {
        assert_eq!(timestamp_of(Some(&json!("now+3600000")), 10), Some(3_600_010));
        assert_eq!(timestamp_of(Some(&json!("now-10")), 10), Some(0));
        assert_eq!(timestamp_of(Some(&json!(7)), 10), Some(7));
        assert_eq!(timestamp_of(None, 10), None);
    }
}
