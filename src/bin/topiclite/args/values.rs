//! What the words after options may be. A refusal here is bad usage: exit code 2.

use crate::escape::unescape;
use crate::moment;
use std::fmt;
use topiclite::Codec;
use topiclite::topic::check_topic_name;

/// Why a word is refused.
type Refused = String;

/// Where reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The log start offset.
    Beginning,
    /// The log end offset.
    End,
    /// What the group has committed.
    Stored,
    /// An offset, in each partition.
    Offset(i64),
    /// So many records before the end of each partition.
    Last(i64),
    /// The first record not before a time, in milliseconds since 1970.
    Time(i64),
}

/// Where a group's offsets are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The log start offset.
    Earliest,
    /// The log end offset.
    Latest,
    /// What is committed; the end where nothing is.
    Current,
    /// An offset, in each partition.
    Offset(i64),
    /// From what is committed, forwards or backwards.
    Shift(i64),
    /// The first record not before a time, in milliseconds since 1970.
    Time(i64),
}

/// A topic, or some of its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The topic.
    pub topic: String,
    /// None for all.
    pub partitions: Option<Vec<i32>>,
}

/// A text that may be any bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// A name that a topic can have.
pub fn topic(text: &str) -> Result<String, Refused> {
    check_topic_name(text).map_err(|error| error.message().to_owned())?;
    Ok(text.to_owned())
}

/// A name that a group can have.
pub fn group(text: &str) -> Result<String, Refused> {
    match text.is_empty() {
        true => Err("a group id has at least one character".into()),
        false => Ok(text.to_owned()),
    }
}

/// A number of a partition.
pub fn partition(text: &str) -> Result<i32, Refused> {
    let number = text.parse().ok().filter(|number: &i32| *number >= 0);
    number.ok_or_else(|| "a partition is a number from 0".into())
}

/// A number of partitions.
pub fn at_least_1(text: &str) -> Result<i32, Refused> {
    let number = text.parse().ok().filter(|number: &i32| *number >= 1);
    number.ok_or_else(|| "it is a number from 1".into())
}

/// An offset.
pub fn at_least_0(text: &str) -> Result<i64, Refused> {
    let number = text.parse().ok().filter(|number: &i64| *number >= 0);
    number.ok_or_else(|| "an offset is a number from 0".into())
}

/// How many, at least one.
pub fn count(text: &str) -> Result<u64, Refused> {
    let number = text.replace('_', "").parse().ok().filter(|number: &u64| *number >= 1);
    number.ok_or_else(|| "it is a number from 1".into())
}

/// How many, at least one, of what lies in memory.
pub fn small_count(text: &str) -> Result<usize, Refused> {
    let number = count(text)?;
    usize::try_from(number).map_err(|error| error.to_string())
}

/// An offset, or -1 for the end.
pub fn offset_or_end(text: &str) -> Result<i64, Refused> {
    match text {
        "end" | "-1" => Ok(-1),
        _ => at_least_0(text).map_err(|_| "it is an offset from 0, or end".into()),
    }
}

/// A codec by Kafka's name.
pub fn codec(text: &str) -> Result<Codec, Refused> {
    let found = Codec::ALL.into_iter().find(|codec| codec.to_string() == text);
    found.ok_or_else(|| "it is none, gzip, snappy, lz4 or zstd".into())
}

/// A setting.
pub fn pair(text: &str) -> Result<(String, String), Refused> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err("a setting is KEY=VALUE".into()),
    }
}

/// A header.
pub fn header(text: &str) -> Result<(String, String), Refused> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err("a header is NAME=VALUE".into()),
    }
}

/// What stands between key and value.
pub fn separator(text: &str) -> Result<Bytes, Refused> {
    let bytes = unescape(text)?;
    match bytes.is_empty() {
        true => Err("it has at least one character".into()),
        false => Ok(Bytes(bytes)),
    }
}

/// A time of the day, in milliseconds since 1970.
pub fn time(text: &str) -> Result<i64, Refused> {
    moment::parse(text, moment::now())
}

/// How long ago, as milliseconds since 1970.
pub fn time_ago(text: &str) -> Result<i64, Refused> {
    moment::ago(text, moment::now())
}

/// Where reading starts.
pub fn from(text: &str) -> Result<From, Refused> {
    let number = |text: &str| {
        let whole = text.parse::<i64>().ok().filter(|number| *number >= 0);
        whole.filter(|_| text.bytes().all(|byte| byte.is_ascii_digit())).ok_or_else(|| {
            "it is beginning, end, stored, an offset, -N or @TIME such as @2026-01-31T12:00:00Z, \
             @2026-01-31, @-90m"
                .to_owned()
        })
    };
    Ok(match text {
        "beginning" => From::Beginning,
        "end" => From::End,
        "stored" => From::Stored,
        _ => match (text.strip_prefix('-'), text.strip_prefix('@')) {
            (Some(last), _) => From::Last(number(last)?),
            (_, Some(text)) => From::Time(time(text)?),
            _ => From::Offset(number(text)?),
        },
    })
}

/// Where a group's offsets are moved.
pub fn place(text: &str) -> Result<Place, Refused> {
    let number = |text: &str| {
        text.parse::<i64>().map_err(|_| {
            "it is earliest, latest, current, an offset, +N, -N or @TIME such as @2026-01-31, \
             @-90m"
                .to_owned()
        })
    };
    Ok(match text {
        "earliest" => Place::Earliest,
        "latest" => Place::Latest,
        "current" => Place::Current,
        _ if text.starts_with(['+', '-']) => Place::Shift(number(text)?),
        _ => match text.strip_prefix('@') {
            Some(text) => Place::Time(time(text)?),
            None => Place::Offset(number(text)?),
        },
    })
}

/// A topic, or `topic:0,2`.
pub fn scope(text: &str) -> Result<Scope, Refused> {
    let (name, partitions) = match text.split_once(':') {
        None => (text, None),
        Some((name, list)) => {
            (name, Some(list.split(',').map(partition).collect::<Result<_, _>>()?))
        }
    };
    Ok(Scope { topic: topic(name)?, partitions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_has_seven_forms() {
        assert_eq!(from("beginning"), Ok(From::Beginning));
        assert_eq!(from("end"), Ok(From::End));
        assert_eq!(from("stored"), Ok(From::Stored));
        assert_eq!(from("12"), Ok(From::Offset(12)));
        assert_eq!(from("-3"), Ok(From::Last(3)));
        assert_eq!(from("@1700000000000"), Ok(From::Time(1_700_000_000_000)));
        assert_eq!(from("@2023-11-14T22:13:20Z"), Ok(From::Time(1_700_000_000_000)));
        assert!(matches!(from("@-1h"), Ok(From::Time(_))));
        for bad in ["", "x", "--3", "+3", "@", "@x", "-", "-1h", "yesterday", "@1969-12-31T00:00Z"]
        {
            assert!(from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn place_has_six_forms() {
        assert_eq!(place("earliest"), Ok(Place::Earliest));
        assert_eq!(place("latest"), Ok(Place::Latest));
        assert_eq!(place("current"), Ok(Place::Current));
        assert_eq!(place("7"), Ok(Place::Offset(7)));
        assert_eq!((place("+7"), place("-7")), (Ok(Place::Shift(7)), Ok(Place::Shift(-7))));
        assert_eq!(place("@1700000000000"), Ok(Place::Time(1_700_000_000_000)));
        for bad in ["", "x", "@", "+", "--7", "beginning"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_scope_is_a_topic_or_some_of_its_partitions() {
        assert_eq!(scope("t"), Ok(Scope { topic: "t".into(), partitions: None }));
        assert_eq!(scope("t:0,2"), Ok(Scope { topic: "t".into(), partitions: Some(vec![0, 2]) }));
        for bad in ["", ":1", "t:", "t:x", "t:-1", "a/b"] {
            assert!(scope(bad).is_err(), "{bad}");
        }
    }
}
