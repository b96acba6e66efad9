//! A record as one JSON object, printed by `consume --json` and read by `produce`.
//!
//! Keys, values and headers that are not UTF-8 stand in `key_base64`, `value_base64`,
//! `name_base64`; null is null. What is read is all understood: a field that is not known, that
//! comes twice or that is of another kind is an error that names it, never passed over.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};
use std::fmt;
use topiclite::{Error, ErrorKind, OwnedConsumerRecord, Result, TimestampType};

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
pub fn show(record: &OwnedConsumerRecord) -> Value {
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
            let mut shown = Map::new();
            put_bytes(&mut shown, "name", Some(header.name_bytes()));
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

/// Reads the object on a line. `topic`, `offset` and `timestamp_type`, which [`show`] tells, are
/// looked at and have no effect; a timestamp of -1 is none, as in a record.
///
/// # Errors
/// [`ErrorKind::IllegalArgument`] that says what is wrong with which field.
pub fn read(line: &str) -> Result<Given> {
    let mut reader = serde_json::Deserializer::from_str(line);
    let mut fields = Fields::read(&mut reader, "a record")?;
    reader.end().map_err(|error| bad(format!("not JSON: {error}")))?;
    if fields.rest.is_empty() {
        return Err(bad("a record has a \"value\"; null deletes its key".into()));
    }
    fields.take("topic", "text", |value| value.as_str().map(drop))?;
    fields.take("offset", "a whole number", |value| value.as_i64().map(drop))?;
    fields.take("timestamp_type", "create or append", |value| match value.as_str() {
        Some("create" | "append") => Some(()),
        _ => None,
    })?;
    let timestamp =
        fields.take("timestamp", "milliseconds since 1970, or -1 for none", |value| {
            value.as_i64().filter(|timestamp| *timestamp >= -1)
        })?;
    let partition = fields.take("partition", "a number from 0", |value| {
        value.as_i64().and_then(|n| i32::try_from(n).ok()).filter(|n| *n >= 0)
    })?;
    let headers = fields.take("headers", "an array", |value| value.as_array().cloned())?;
    let given = Given {
        partition,
        timestamp: timestamp.filter(|timestamp| *timestamp != -1),
        key: fields.take_bytes("key")?,
        value: fields.take_bytes("value")?,
        headers: headers.unwrap_or_default().into_iter().map(header).collect::<Result<_>>()?,
    };
    fields.end()?;
    Ok(given)
}

fn header(value: Value) -> Result<(String, Option<Vec<u8>>)> {
    let mut fields = Fields::read(value, "a header")?;
    let name = fields.take_bytes("name")?;
    let name = name.ok_or_else(|| bad("a header has a \"name\"".into()))?;
    let name = String::from_utf8(name)
        .map_err(|_| bad("\"name_base64\" is no UTF-8, which the name of a header is".into()))?;
    let value = fields.take_bytes("value")?;
    fields.end()?;
    Ok((name, value))
}

/// The fields of an object that were not taken yet.
struct Fields {
    /// What the object is.
    of: &'static str,
    rest: Vec<(String, Value)>,
}

impl Fields {
    fn read<'de>(from: impl Deserializer<'de>, of: &'static str) -> Result<Fields> {
        let rest = from.deserialize_any(FieldVisitor).map_err(|error| {
            let text = error.to_string();
            let found = text.strip_prefix("invalid type: ").and_then(|rest| rest.split(',').next());
            bad(match found {
                Some(found) => format!("{of} is a JSON object, not {found}"),
                None if text.contains(TWICE) => text,
                None => format!("not JSON: {text}"),
            })
        })?;
        for (at, (name, _)) in rest.iter().enumerate() {
            if rest.iter().take(at).any(|(earlier, _)| earlier == name) {
                return Err(bad(format!("\"{}\"{TWICE} in {of}", name.escape_debug())));
            }
        }
        Ok(Fields { of, rest })
    }

    /// Takes a field; null is as good as none.
    fn take<T>(
        &mut self,
        name: &str,
        what: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(at) = self.rest.iter().position(|(field, _)| field == name) else {
            return Ok(None);
        };
        match self.rest.swap_remove(at).1 {
            Value::Null => Ok(None),
            value => match read(&value) {
                Some(read) => Ok(Some(read)),
                None => Err(bad(format!("\"{name}\" is {what}, not {value}"))),
            },
        }
    }

    /// Takes bytes that are given as text or as base64.
    fn take_bytes(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let encoded_name = format!("{name}_base64");
        let has = |name: &str| self.rest.iter().any(|(field, _)| field == name);
        if has(name) && has(&encoded_name) {
            return Err(bad(format!("both \"{name}\" and \"{encoded_name}\" are given")));
        }
        let text = self.take(name, "text or null", |value| value.as_str().map(str::to_owned))?;
        if let Some(text) = text {
            return Ok(Some(text.into_bytes()));
        }
        self.take(&encoded_name, "base64", |value| STANDARD.decode(value.as_str()?).ok())
    }

    /// Refuses what is left.
    fn end(self) -> Result<()> {
        match self.rest.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name = name.escape_debug();
                Err(bad(format!("{} has no field \"{name}\"", self.of)))
            }
        }
    }
}

/// Keeps every field in its place: a map would drop all but the last of one name.
struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut map: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, Inner(value))) = map.next_entry()? {
            fields.push((name, value));
        }
        Ok(fields)
    }
}

/// What is said of a field that an object has twice.
const TWICE: &str = " comes twice";

/// The value of a field, in which no object has a field twice.
struct Inner(Value);

impl<'de> Deserialize<'de> for Inner {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Inner, D::Error> {
        from.deserialize_any(InnerVisitor).map(Inner)
    }
}

struct InnerVisitor;

impl<'de> Visitor<'de> for InnerVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Inner(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some((name, Inner(value))) = map.next_entry::<String, Inner>()? {
            if fields.contains_key(&name) {
                let text = format!("\"{}\"{TWICE}", name.escape_debug());
                return Err(A::Error::custom(text));
            }
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}

fn bad(why: String) -> Error {
    Error::new(ErrorKind::IllegalArgument, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_is_shown() {
        let line = r#"{"topic":"t","offset":7,"timestamp_type":"append","timestamp":-1,"key":null,
            "value_base64":"/w==","headers":[{"name":"a","value":"b"},{"name":"","value":null},
            {"name":"c","value_base64":""}],"partition":3}"#;
        let given = read(line).unwrap();
        assert_eq!((given.key, given.timestamp, given.partition), (None, None, Some(3)));
        assert_eq!(given.value, Some(vec![0xff]));
        let header =
            |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
        assert_eq!(
            given.headers,
            [header("a", Some(b"b")), header("", None), header("c", Some(b""))]
        );
        let given = read(r#"{"value":"","headers":null,"partition":null,"timestamp":0}"#).unwrap();
        assert_eq!((given.value, given.timestamp), (Some(Vec::new()), Some(0)));
        assert_eq!(read(r#"{"key":"k","value":null}"#).unwrap().value, None);
    }

    #[test]
    fn a_line_that_is_not_all_understood_says_what_is_wrong_with_it() {
        for (bad, why) in [
            ("x", "not JSON"),
            ("", "not JSON"),
            ("{", "not JSON"),
            (r#"{"value":"v"} x"#, "not JSON"),
            (r#"{"value":"v"}{"value":"w"}"#, "not JSON"),
            ("[]", "a record is a JSON object, not sequence"),
            ("5", "a record is a JSON object, not integer"),
            ("null", "a record is a JSON object, not null"),
            ("{}", "a record has a \"value\""),
            (r#"{"key":1}"#, "\"key\" is text or null, not 1"),
            (r#"{"value":{"a":1}}"#, "\"value\" is text or null, not {\"a\":1}"),
            (r#"{"value":true}"#, "\"value\" is text or null"),
            (r#"{"value_base64":"?"}"#, "\"value_base64\" is base64, not \"?\""),
            (r#"{"value_base64":7}"#, "\"value_base64\" is base64, not 7"),
            (r#"{"value":"a","value_base64":"YQ=="}"#, "both \"value\" and"),
            (r#"{"value":"a","value":"b"}"#, "\"value\" comes twice in a record"),
            (r#"{"key":"k2","payload":"v2"}"#, "a record has no field \"payload\""),
            (r#"{"value":"v3","ts":1700000000000}"#, "a record has no field \"ts\""),
            (r#"{"value":"v","Key":"k"}"#, "a record has no field \"Key\""),
            (r#"{"partition":"x"}"#, "\"partition\" is a number from 0, not \"x\""),
            (r#"{"partition":-1}"#, "\"partition\" is a number from 0, not -1"),
            (r#"{"partition":3000000000}"#, "\"partition\" is a number from 0"),
            (r#"{"partition":1.5}"#, "\"partition\" is a number from 0"),
            (r#"{"timestamp":-2}"#, "\"timestamp\" is milliseconds since 1970"),
            (r#"{"timestamp":1e300}"#, "\"timestamp\" is milliseconds since 1970"),
            (r#"{"timestamp":"now"}"#, "\"timestamp\" is milliseconds since 1970"),
            (r#"{"timestamp_type":"Create"}"#, "\"timestamp_type\" is create or append"),
            (r#"{"offset":"7"}"#, "\"offset\" is a whole number"),
            (r#"{"topic":7}"#, "\"topic\" is text"),
            (r#"{"value":"v1","headers":{"trace":"abc"}}"#, "\"headers\" is an array, not"),
            (r#"{"headers":[{}]}"#, "a header has a \"name\""),
            (r#"{"headers":[{"name":null}]}"#, "a header has a \"name\""),
            (r#"{"headers":[["a","b"]]}"#, "a header is a JSON object, not sequence"),
            (r#"{"headers":["a"]}"#, "a header is a JSON object, not string"),
            (r#"{"headers":[{"name":"a","val":"b"}]}"#, "a header has no field \"val\""),
            (r#"{"headers":[{"name":"a","value":5}]}"#, "\"value\" is text or null, not 5"),
            (r#"{"headers":[{"name":"a","name":"b","value":"c"}]}"#, "\"name\" comes twice"),
            (r#"{"headers":[{"name":"a","value":"b"},{"value":1,"value":2}]}"#, "comes twice"),
            (r#"{"value":{"a":{"b":1,"b":2}}}"#, "\"b\" comes twice"),
            (r#"{"headers":[{"name_base64":"/w=="}]}"#, "\"name_base64\" is no UTF-8"),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
