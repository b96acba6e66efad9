//! The consumer protocol: what members tell the leader, and what the leader tells them.
//!
//! Version 3 is written; every version from 0 is read, and one above 3 by the fields known here.
//! Decoding never panics and allocates no more than the input is long.

use crate::coordinator::wire::{Put, Reader, Wire, WireFault, shared};
use crate::topic::TopicPartition;
use std::sync::Arc;

const WRITTEN_VERSION: i16 = 3;

/// A member's subscription: the metadata of a protocol in JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// Sorted when it was made here; in the order of the bytes when it was read.
    pub(crate) topics: Vec<Arc<str>>,
    pub(crate) user_data: Option<Vec<u8>>,
    /// What the member owns at the moment it joins (version 1 and later).
    pub(crate) owned: Vec<TopicPartition>,
    /// The generation in which it owns that, -1 for none (version 2 and later).
    pub(crate) generation_id: i32,
    pub(crate) rack_id: Option<Arc<str>>,
}

impl Default for Subscription {
    fn default() -> Self {
        Subscription {
            topics: Vec::new(),
            user_data: None,
            owned: Vec::new(),
            generation_id: -1,
            rack_id: None,
        }
    }
}

impl Subscription {
    /// The bytes of version 3. `topics` and `owned` are written in the order given; partitions
    /// of one topic have to stand together.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.put_int16(WRITTEN_VERSION);
        out.put_count(self.topics.len());
        for topic in &self.topics {
            out.put_string(topic);
        }
        out.put_nullable_bytes(self.user_data.as_deref());
        put_partitions(&mut out, &self.owned);
        out.put_int32(self.generation_id);
        out.put_nullable_string(self.rack_id.as_deref());
        out
    }

    /// Reads any version from 0.
    ///
    /// # Errors
    /// [`WireFault`] when the bytes are no subscription.
    pub(crate) fn decode(bytes: &[u8]) -> Wire<Subscription> {
        let mut reader = Reader::new(bytes);
        let version = read_version(&mut reader)?;
        let mut out = Subscription { topics: read_topics(&mut reader)?, ..Default::default() };
        out.user_data = reader.nullable_bytes()?.map(<[u8]>::to_vec);
        if version >= 1 {
            out.owned = read_partitions(&mut reader)?;
        }
        if version >= 2 {
            out.generation_id = reader.int32()?;
        }
        if version >= 3 {
            out.rack_id = reader.nullable_string()?.map(shared);
        }
        Ok(out)
    }

    /// Reads only the topics, which every version has in front.
    pub(crate) fn decode_topics(bytes: &[u8]) -> Wire<Vec<Arc<str>>> {
        let mut reader = Reader::new(bytes);
        read_version(&mut reader)?;
        read_topics(&mut reader)
    }
}

/// A member's share: what the leader sends in SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Assignment {
    pub(crate) partitions: Vec<TopicPartition>,
    pub(crate) user_data: Option<Vec<u8>>,
}

impl Assignment {
    /// The bytes of version 3. Partitions of one topic have to stand together.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.put_int16(WRITTEN_VERSION);
        put_partitions(&mut out, &self.partitions);
        out.put_nullable_bytes(self.user_data.as_deref());
        out
    }

    /// Reads any version from 0. No bytes at all are the empty assignment.
    ///
    /// # Errors
    /// [`WireFault`] when the bytes are no assignment.
    pub(crate) fn decode(bytes: &[u8]) -> Wire<Assignment> {
        if bytes.is_empty() {
            return Ok(Assignment::default());
        }
        let mut reader = Reader::new(bytes);
        read_version(&mut reader)?;
        let partitions = read_partitions(&mut reader)?;
        let user_data = reader.nullable_bytes()?.map(<[u8]>::to_vec);
        Ok(Assignment { partitions, user_data })
    }
}

fn read_version(reader: &mut Reader<'_>) -> Wire<i16> {
    match reader.int16()? {
        version if version < 0 => Err(WireFault::UnknownVersion(version)),
        version => Ok(version),
    }
}

fn read_topics(reader: &mut Reader<'_>) -> Wire<Vec<Arc<str>>> {
    let count = reader.count(2)?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        topics.push(shared(reader.string()?));
    }
    Ok(topics)
}

/// Runs of partitions of one topic become one entry each, as Kafka groups them.
fn put_partitions(out: &mut Vec<u8>, partitions: &[TopicPartition]) {
    let runs = partitions.chunk_by(|a, b| a.topic() == b.topic());
    out.put_count(runs.clone().count());
    for run in runs {
        out.put_string(run.first().map_or("", |partition| partition.topic()));
        out.put_count(run.len());
        for partition in run {
            out.put_int32(partition.partition());
        }
    }
}

fn read_partitions(reader: &mut Reader<'_>) -> Wire<Vec<TopicPartition>> {
    let mut out = Vec::new();
    for _ in 0..reader.count(6)? {
        let topic = shared(reader.string()?);
        for _ in 0..reader.count(4)? {
            out.push(TopicPartition::new(topic.clone(), reader.int32()?));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition::new(topic, partition)
    }

    #[test]
    fn a_subscription_has_the_bytes_of_the_java_client() {
        // The subscription and assignment of a member of a real group, topic u, two partitions.
        let subscription = Subscription { topics: vec!["u".into()], ..Default::default() };
        assert_eq!(
            subscription.encode(),
            b"\0\x03\0\0\0\x01\0\x01u\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff\xff\xff"
        );
        let assignment =
            Assignment { partitions: vec![partition("u", 0), partition("u", 1)], user_data: None };
        assert_eq!(
            assignment.encode(),
            b"\0\x03\0\0\0\x01\0\x01u\0\0\0\x02\0\0\0\0\0\0\0\x01\xff\xff\xff\xff"
        );
    }

    #[test]
    fn every_version_of_a_subscription_is_read_by_the_fields_it_has() {
        let full = Subscription {
            topics: vec!["a".into(), "bb".into()],
            user_data: Some(vec![1, 2]),
            owned: vec![partition("a", 0), partition("a", 2), partition("bb", 1)],
            generation_id: 7,
            rack_id: Some("r".into()),
        };
        let bytes = full.encode();
        assert_eq!(Subscription::decode(&bytes).unwrap(), full);
        let cut = |version: u8, less: usize| {
            let mut bytes = bytes[..bytes.len() - less].to_vec();
            bytes[1] = version;
            Subscription::decode(&bytes).unwrap()
        };
        // The rack takes 3 bytes, the generation 4, the owned partitions 31.
        assert_eq!(cut(2, 3), Subscription { rack_id: None, ..full.clone() });
        assert_eq!(cut(1, 7), Subscription { rack_id: None, generation_id: -1, ..full.clone() });
        let v0 = Subscription { rack_id: None, generation_id: -1, owned: vec![], ..full.clone() };
        assert_eq!(cut(0, 38), v0);
        let mut later = bytes.clone();
        later[1] = 9;
        later.extend_from_slice(b"fields of a later version");
        assert_eq!(Subscription::decode(&later).unwrap(), full);
        assert_eq!(Subscription::decode_topics(&bytes).unwrap(), full.topics);
    }

    #[test]
    fn an_assignment_reads_back_and_no_bytes_are_the_empty_one() {
        let assignment = Assignment {
            partitions: vec![partition("x", 3), partition("y", 0)],
            user_data: Some(Vec::new()),
        };
        assert_eq!(Assignment::decode(&assignment.encode()).unwrap(), assignment);
        assert_eq!(Assignment::decode(&[]).unwrap(), Assignment::default());
    }

    #[test]
    fn cut_bytes_are_refused_at_every_length() {
        let bytes = Subscription {
            topics: vec!["topic".into()],
            owned: vec![partition("topic", 1)],
            ..Default::default()
        }
        .encode();
        for len in 0..bytes.len() {
            assert!(Subscription::decode(&bytes[..len]).is_err(), "{len}");
        }
        assert_eq!(Subscription::decode(&[0xff, 0xff]), Err(WireFault::UnknownVersion(-1)));
    }
}
