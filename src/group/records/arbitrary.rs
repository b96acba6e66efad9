//! Arbitrary bytes as stored records, for the fuzzer and the property tests: nothing panics, and
//! what decodes is encoded again to bytes that decode alike.

use super::protocol::{Assignment, Subscription};
use crate::group::{GroupConfig, GroupCoordinator, GroupRecord, RecordPosition};
use crate::time::Now;
use std::time::Duration;

/// Takes `bytes` as a sequence of records (length of the key, key, length of the value plus one,
/// value), replays them, and lets the groups that come of it live.
pub fn replay_arbitrary(bytes: &[u8]) {
    let mut groups = GroupCoordinator::new(GroupConfig::default());
    let mut rest = bytes;
    let mut offset = 0;
    while let Some((key, tail)) = piece(rest, 0) {
        let (value, tail) = match piece(tail, 1) {
            Some((value, tail)) => (Some(value), tail),
            None => (None, tail.get(2..).unwrap_or_default()),
        };
        rest = tail;
        let Ok(record) = GroupRecord::decode(key, value) else { continue };
        decodes_alike(&record);
        let producer_id = (key.len() % 5 == 0).then_some(7);
        let partition = record.group().map_or(0, |group| groups.partition_of(group));
        groups.replay(record, RecordPosition { partition, offset, producer_id });
        if key.len() % 7 == 0 {
            groups.replay_marker(partition, 7, key.len() % 2 == 0);
        }
        offset += 1;
    }
    for listed in groups.list() {
        assert!(groups.describe(&listed.group_id, &|_| Some("t".into())).is_ok());
        groups.list_offsets(&listed.group_id);
    }
    let mut now = Now { wall_ms: 0, mono: Duration::from_secs(1) };
    groups.begin_life(now);
    while let Some(due) = groups.next_deadline() {
        now = now.plus(due.saturating_sub(now.mono));
        for append in groups.expire(now).appends {
            groups.applied(append, offset, now);
        }
    }
    assert!(groups.list().iter().all(|group| group.members == 0));
    for listed in groups.list() {
        for append in groups.delete_group(&listed.group_id).appends {
            groups.applied(append, offset, now);
        }
    }
    protocol_decodes_alike(bytes);
}

fn piece(bytes: &[u8], bias: usize) -> Option<(&[u8], &[u8])> {
    let (&[high, low], rest) = bytes.split_first_chunk()?;
    let len = usize::from(u16::from_be_bytes([high, low])).checked_sub(bias)?;
    Some(rest.split_at(len.min(rest.len())))
}

fn decodes_alike(record: &GroupRecord) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    record.encode_key(&mut key);
    let value = record.encode_value(&mut value).then_some(&value[..]);
    let again = GroupRecord::decode(&key, value);
    match (record, again) {
        // An expiry time is read, and never written.
        (
            GroupRecord::Offset { value: Some(one), .. },
            Ok(GroupRecord::Offset { value: Some(two), .. }),
        ) => {
            let mut one = one.clone();
            one.expire_timestamp = None;
            assert_eq!(one, two);
        }
        (one, two) => assert_eq!(Ok(one), two.as_ref()),
    }
}

fn protocol_decodes_alike(bytes: &[u8]) {
    if let Ok(subscription) = Subscription::decode(bytes) {
        assert_eq!(Subscription::decode(&subscription.encode()), Ok(subscription));
    }
    if let Ok(assignment) = Assignment::decode(bytes) {
        assert_eq!(Assignment::decode(&assignment.encode()), Ok(assignment));
    }
}

#[cfg(test)]
mod tests {
    use super::replay_arbitrary;
    use proptest::prelude::*;

    /// Bytes that begin as records do, so that the decoders get past their first fields.
    fn likely() -> impl Strategy<Value = Vec<u8>> {
        let field = prop_oneof![
            Just(vec![0, 1, b'g']),
            Just(vec![0, 1, b't']),
            Just(vec![0; 4]),
            Just(vec![0; 8]),
            Just(vec![0xff, 0xff]),
            Just(vec![0, 0, 0, 1]),
            proptest::collection::vec(any::<u8>(), 0..6),
        ];
        let body = |kinds: std::ops::Range<u8>| {
            (kinds, proptest::collection::vec(field.clone(), 0..14))
                .prop_map(|(kind, fields)| [vec![0, kind], fields.concat()].concat())
        };
        let record = (body(0..18), proptest::option::weighted(0.9, body(0..6)));
        proptest::collection::vec(record, 0..8).prop_map(|records| {
            let mut out = Vec::new();
            for (key, value) in records {
                out.extend_from_slice(&(key.len() as u16).to_be_bytes());
                out.extend_from_slice(&key);
                match value {
                    Some(value) => {
                        out.extend_from_slice(&(value.len() as u16 + 1).to_be_bytes());
                        out.extend_from_slice(&value);
                    }
                    None => out.extend_from_slice(&[0, 0]),
                }
            }
            out
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn no_sequence_of_stored_bytes_upsets_the_groups(bytes in likely()) {
            replay_arbitrary(&bytes);
        }

        #[test]
        fn nor_do_bytes_without_any_form(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            replay_arbitrary(&bytes);
        }
    }
}
