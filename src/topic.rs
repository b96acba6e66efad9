//! Names: topics, partitions, and the rules for them.

use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::sync::Arc;

/// The longest topic name (Kafka's `Topic.MAX_NAME_LENGTH`).
pub const TOPIC_NAME_LENGTH_MAX: usize = 249;
/// The topic that holds committed offsets and group metadata.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic that holds the state of transactions.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// A topic and one of its partitions, ordered by topic, then partition.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    topic: Arc<str>,
    partition: i32,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`; whether it exists is not looked at.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The topic's name, shared.
    pub fn topic_shared(&self) -> &Arc<str> {
        &self.topic
    }

    /// The partition's number, from 0.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Splits a directory name `topic-partition` at its last hyphen.
    pub fn parse(name: &str) -> Option<TopicPartition> {
        let (topic, partition) = name.rsplit_once('-')?;
        if topic.is_empty()
            || partition.is_empty()
            || !partition.bytes().all(|b| b.is_ascii_digit())
        {
            return None;
        }
        Some(TopicPartition::new(topic, partition.parse().ok()?))
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `orders-3`, as it is displayed.
///
/// # Examples
/// ```
/// use topiclite::TopicPartition;
/// let parsed: TopicPartition = "orders-3".parse()?;
/// assert_eq!((parsed.topic(), parsed.partition()), ("orders", 3));
/// # Ok::<(), topiclite::Error>(())
/// ```
impl std::str::FromStr for TopicPartition {
    type Err = Error;

    fn from_str(text: &str) -> Result<TopicPartition> {
        TopicPartition::parse(text).ok_or_else(|| {
            let fault =
                format!("\"{text}\" is not a topic, a hyphen and the number of a partition");
            Error::new(ErrorKind::IllegalArgument, fault)
        })
    }
}

impl<T: Into<Arc<str>>> From<(T, i32)> for TopicPartition {
    fn from((topic, partition): (T, i32)) -> TopicPartition {
        TopicPartition::new(topic, partition)
    }
}

/// Checks a topic name: 1 to 249 of `[a-zA-Z0-9._-]`, and not `.` or `..`.
///
/// # Errors
/// [`ErrorKind::InvalidTopic`] that says which rule the name breaks.
pub fn check_topic_name(name: &str) -> Result<()> {
    let fault = if name.is_empty() {
        "a topic name has at least one character"
    } else if name == "." || name == ".." {
        "a topic name is not \".\" or \"..\""
    } else if name.len() > TOPIC_NAME_LENGTH_MAX {
        "a topic name has at most 249 characters"
    } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        "a topic name consists of ASCII letters, digits, '.', '_' and '-'"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::InvalidTopic, fault).with_topic(name))
}

/// Two names collide when they are equal after each `.` became `_` (Kafka's metric names).
pub fn names_collide(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .all(|(x, y)| x == y || matches!((x, y), (b'.', b'_') | (b'_', b'.')))
}

/// Whether a topic is one of the broker's own.
pub fn is_internal(topic: &str) -> bool {
    topic == OFFSETS_TOPIC || topic == TRANSACTIONS_TOPIC
}

/// A topic's 16-byte id, written as Kafka writes UUIDs: 22 letters of URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct TopicId(pub [u8; 16]);

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl TopicId {
    /// The id that stands for none.
    pub const ZERO: TopicId = TopicId([0; 16]);

    /// A version-4 UUID from 16 random bytes.
    pub fn from_random(mut bytes: [u8; 16]) -> TopicId {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        TopicId(bytes)
    }

    /// Reads the 22-letter form.
    pub fn parse(text: &str) -> Option<TopicId> {
        if text.len() != 22 {
            return None;
        }
        let mut value: u128 = 0;
        for (i, c) in text.bytes().enumerate() {
            let digit = BASE64.iter().position(|&b| b == c)? as u128;
            if i == 21 {
                value = (value << 2) | (digit >> 4);
            } else {
                value = (value << 6) | digit;
            }
        }
        Some(TopicId(value.to_be_bytes()))
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        let mut text = String::with_capacity(22);
        for i in 0..21 {
            text.push(BASE64[((value >> (122 - 6 * i)) & 63) as usize] as char);
        }
        text.push(BASE64[((value << 4) & 63) as usize] as char);
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_name_splits_at_its_last_hyphen() {
        let tp = TopicPartition::parse("a-b-12").unwrap();
        assert_eq!((tp.topic(), tp.partition()), ("a-b", 12));
        for bad in ["", "a", "a-", "-1", "a-x", "a-1x", "a--"] {
            assert!(TopicPartition::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn topic_names_follow_kafkas_rules() {
        assert!(check_topic_name("A.b_c-9").is_ok());
        for bad in ["", ".", "..", "a b", "a/b", "\u{e4}", &"x".repeat(250)] {
            assert_eq!(check_topic_name(bad).unwrap_err().kind(), ErrorKind::InvalidTopic);
        }
        assert!(names_collide("a.b", "a_b"));
        assert!(!names_collide("a.b", "a-b"));
    }

    #[test]
    fn a_topic_id_is_written_as_kafka_writes_it() {
        let text = "v7NEmglTS0OZBZbVAm5Y8g";
        assert_eq!(TopicId::parse(text).unwrap().to_string(), text);
        assert_eq!(TopicId::parse("v7NE"), None);
    }
}
