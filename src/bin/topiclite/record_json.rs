//! A record as one JSON object, printed by `consume --json` and read by `produce`.
//!
//! Keys, values and header values that are not UTF-8 stand in `key_base64`, `value_base64`; null is
//! null.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use topiclite::{ConsumerRecord, Error, ErrorKind, Result, TimestampType};

/// A record as `produce --input-format json` reads it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    pub partition: Option<i32>,
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// The object of a record.
pub fn show(record: &ConsumerRecord<'_>) -> Value {
    let mut out = Map::new();
    out.insert("topic".into(), json!(record.topic()));
    out.insert("partition".into(), json!(record.partition()));
    out.insert("offset".into(), json!(record.offset()));
    out.insert("timestamp".into(), json!(record.timestamp()));
    let kind = match record.timestamp_type() {
        TimestampType::CreateTime => "create",
        TimestampType::LogAppendTime => "append",
    };
    out.insert("timestamp_type".into(), json!(kind));
    put_bytes(&mut out, "key", record.key());
    put_bytes(&mut out, "value", record.value());
    let headers: Vec<Value> = record
        .headers()
        .iter()
        .map(|header| {
            let mut shown = Map::from_iter([("name".to_owned(), json!(header.name()))]);
            put_bytes(&mut shown, "value", header.value());
            Value::Object(shown)
        })
        .collect();
    out.insert("headers".into(), Value::from(headers));
    Value::Object(out)
}

fn put_bytes(out: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    let encoded = format!("{name}_base64");
    let (name, value) = bytes_value(name, &encoded, bytes);
    out.insert(name.to_owned(), value);
}

/// Bytes under the name that says how they are shown: as text, or as base64 if they are none.
pub fn bytes_value<'n>(
    text_name: &'n str,
    base64_name: &'n str,
    bytes: Option<&[u8]>,
) -> (&'n str, Value) {
    let Some(bytes) = bytes else { return (text_name, Value::Null) };
    match std::str::from_utf8(bytes) {
        Ok(text) => (text_name, json!(text)),
        Err(_) => (base64_name, json!(STANDARD.encode(bytes))),
    }
}

/// Reads the object on a line.
///
/// # Errors
/// [`ErrorKind::IllegalArgument`] that says what is wrong with which field.
pub fn read(line: &str) -> Result<Given> {
    let object: Value = serde_json::from_str(line).map_err(|e| bad(format!("not JSON: {e}")))?;
    let object = object.as_object().ok_or_else(|| bad("not a JSON object".into()))?;
    let partition = match object.get("partition") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let number = value.as_i64().and_then(|n| i32::try_from(n).ok());
            Some(number.ok_or_else(|| bad("\"partition\" is a number".into()))?)
        }
    };
    let timestamp = match object.get("timestamp") {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_i64().ok_or_else(|| bad("\"timestamp\" is a number".into()))?),
    };
    let mut headers = Vec::new();
    for header in object.get("headers").and_then(Value::as_array).into_iter().flatten() {
        let header = header.as_object().ok_or_else(|| bad("a header is an object".into()))?;
        let name = header
            .get("name")
            .and_then(Value::as_str)
            .ok_or_else(|| bad("a header has a \"name\"".into()))?;
        headers.push((name.to_owned(), take_bytes(header, "value")?));
    }
    Ok(Given {
        partition,
        timestamp,
        key: take_bytes(object, "key")?,
        value: take_bytes(object, "value")?,
        headers,
    })
}

fn take_bytes(object: &Map<String, Value>, name: &str) -> Result<Option<Vec<u8>>> {
    let encoded_name = format!("{name}_base64");
    if let Some(encoded) = object.get(&encoded_name) {
        let text = encoded.as_str().ok_or_else(|| bad(format!("\"{encoded_name}\" is text")))?;
        let bytes = STANDARD
            .decode(text)
            .map_err(|e| bad(format!("\"{encoded_name}\" is no base64: {e}")))?;
        return Ok(Some(bytes));
    }
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone().into_bytes())),
        Some(_) => Err(bad(format!("\"{name}\" is text or null"))),
    }
}

fn bad(why: String) -> Error {
    Error::new(ErrorKind::IllegalArgument, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_wrong_with_it() {
        let line = r#"{"key":null,"value_base64":"/w==","headers":[{"name":"a","value":"b"}]}"#;
        let given = read(line).unwrap();
        assert_eq!(given.key, None);
        assert_eq!(given.value, Some(vec![0xff]));
        assert_eq!(given.headers, [("a".to_owned(), Some(b"b".to_vec()))]);
        for (bad, why) in [
            ("x", "not JSON"),
            ("[]", "not a JSON object"),
            (r#"{"key":1}"#, "\"key\" is text or null"),
            (r#"{"partition":"x"}"#, "\"partition\" is a number"),
            (r#"{"headers":[{}]}"#, "\"name\""),
        ] {
            assert!(read(bad).unwrap_err().to_string().contains(why), "{bad}");
        }
    }
}
