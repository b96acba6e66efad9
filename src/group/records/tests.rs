//! Records against bytes of a real Kafka and against the vectors of the format.

use super::*;
use crate::coordinator::EncodedRecords;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.bytes().filter_map(|b| (b as char).to_digit(16).map(|d| d as u8)).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn bytes(record: &GroupRecord) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut encoded = EncodedRecords::default();
    record.encode(&mut encoded);
    let (key, value) = encoded.iter().next().unwrap();
    (key.to_vec(), value.map(<[u8]>::to_vec))
}

fn offset(value: Option<OffsetValue>) -> GroupRecord {
    GroupRecord::Offset { group: "g".into(), topic: "t".into(), partition: 0, value }
}

fn plain_offset() -> OffsetValue {
    OffsetValue {
        offset: 42,
        leader_epoch: -1,
        metadata: "".into(),
        commit_timestamp: 1000,
        expire_timestamp: None,
        topic_id: None,
    }
}

#[test]
fn an_offset_is_written_as_version_4_with_its_topic_id() {
    let id = TopicId([7; 16]);
    let record =
        offset(Some(OffsetValue { metadata: "note".into(), topic_id: Some(id), ..plain_offset() }));
    let (key, value) = bytes(&record);
    assert_eq!(key, hex("0001 0001 67 0001 74 00000000"));
    let mut expected = hex("0004 000000000000002a ffffffff 05 6e6f7465 00000000000003e8 01 00 10");
    expected.extend_from_slice(&[7; 16]);
    assert_eq!(value.as_deref(), Some(&expected[..]));
    assert_eq!(GroupRecord::decode(&key, Some(&expected)).unwrap(), record);
}

#[test]
fn an_offset_of_a_topic_without_id_has_no_tagged_field() {
    let (_, value) = bytes(&offset(Some(plain_offset())));
    assert_eq!(value, Some(hex("0004 000000000000002a ffffffff 01 00000000000003e8 00")));
}

#[test]
fn every_version_of_an_offset_is_read() {
    let key = hex("0001 0001 67 0001 74 00000000");
    for value in [
        "0000 000000000000002a 0000 00000000000003e8",
        "0001 000000000000002a 0000 00000000000003e8 ffffffffffffffff",
        "0002 000000000000002a 0000 00000000000003e8",
        "0003 000000000000002a ffffffff 0000 00000000000003e8",
        "0004 000000000000002a ffffffff 01 00000000000003e8 00",
        "0004 000000000000002a ffffffff 01 00000000000003e8 01 05 02 aabb",
    ] {
        let read = GroupRecord::decode(&key, Some(&hex(value))).unwrap();
        assert_eq!(read, offset(Some(plain_offset())), "{value}");
    }
    let expiring = hex("0001 000000000000002a 0000 00000000000003e8 00000000000007d0");
    let read = GroupRecord::decode(&key, Some(&expiring)).unwrap();
    assert_eq!(read, offset(Some(OffsetValue { expire_timestamp: Some(2000), ..plain_offset() })));
    let mut old_key = key.clone();
    old_key[1] = 0;
    assert_eq!(GroupRecord::decode(&old_key, None).unwrap(), offset(None));
    assert_eq!(GroupRecord::decode(&key, Some(&hex("0005 00"))), Err(WireFault::UnknownVersion(5)));
}

fn member() -> MemberValue {
    MemberValue {
        member_id: "m-1".into(),
        group_instance_id: Some("i".into()),
        client_id: "m".into(),
        client_host: "/h".into(),
        rebalance_timeout_ms: 300_000,
        session_timeout_ms: 45_000,
        subscription: Arc::from(&[1u8, 2][..]),
        assignment: Arc::from(&[][..]),
    }
}

fn group() -> GroupValue {
    GroupValue {
        protocol_type: "consumer".into(),
        generation_id: 3,
        protocol: Some("range".into()),
        leader_id: Some("m-1".into()),
        state_timestamp: 1000,
        members: vec![member()],
    }
}

const HEAD: &str = "0008 636f6e73756d6572 00000003 0005 72616e6765 0003 6d2d31";
const TAIL: &str = "0000afc8 00000002 0102 00000000";

#[test]
fn a_group_without_members_has_kafkas_bytes() {
    let created = GroupRecord::Group {
        group: "g".into(),
        value: Some(GroupValue {
            protocol_type: "".into(),
            generation_id: 0,
            protocol: None,
            leader_id: None,
            state_timestamp: 1000,
            members: vec![],
        }),
    };
    let (key, value) = bytes(&created);
    assert_eq!(key, hex("0002 0001 67"));
    assert_eq!(value, Some(hex("0003 0000 00000000 ffff ffff 00000000000003e8 00000000")));
}

#[test]
fn every_version_of_a_group_is_read_by_the_fields_it_has() {
    let v3 = format!(
        "0003 {HEAD} 00000000000003e8 00000001 0003 6d2d31 0001 69 0001 6d 0002 2f68 000493e0 \
         {TAIL}"
    );
    let v2 = format!(
        "0002 {HEAD} 00000000000003e8 00000001 0003 6d2d31 0001 6d 0002 2f68 000493e0 {TAIL}"
    );
    let v1 = format!("0001 {HEAD} 00000001 0003 6d2d31 0001 6d 0002 2f68 000493e0 {TAIL}");
    let v0 = format!("0000 {HEAD} 00000001 0003 6d2d31 0001 6d 0002 2f68 {TAIL}");
    let v4 = "0004 09 636f6e73756d6572 00000003 06 72616e6765 04 6d2d31 00000000000003e8 02 \
              04 6d2d31 02 69 02 6d 03 2f68 000493e0 0000afc8 03 0102 01 00 00";
    let read =
        |text: &str| match GroupRecord::decode(&hex("0002 0001 67"), Some(&hex(text))).unwrap() {
            GroupRecord::Group { value: Some(value), .. } => value,
            other => panic!("{other:?}"),
        };
    let dynamic = MemberValue { group_instance_id: None, ..member() };
    assert_eq!(read(&v3), group());
    assert_eq!(read(v4), group());
    assert_eq!(read(&v2), GroupValue { members: vec![dynamic.clone()], ..group() });
    let v1_value = GroupValue { state_timestamp: -1, members: vec![dynamic.clone()], ..group() };
    assert_eq!(read(&v1), v1_value);
    // Version 0 has one timeout for both.
    let single = MemberValue { rebalance_timeout_ms: 45_000, ..dynamic };
    assert_eq!(read(&v0), GroupValue { members: vec![single], ..v1_value });

    let written = bytes(&GroupRecord::Group { group: "g".into(), value: Some(group()) });
    assert_eq!(written.1, Some(hex(&v3)));
}

#[test]
fn records_of_the_newer_protocol_keep_their_bytes() {
    let key = hex("0005 0001 67 0002 6d6d");
    let value = hex("0000 0102030405");
    let record = GroupRecord::decode(&key, Some(&value)).unwrap();
    let GroupRecord::Modern { key: modern, .. } = &record else { panic!("{record:?}") };
    assert_eq!((modern.kind, &*modern.group, modern.part.as_deref()), (5, "g", Some("mm")));
    assert_eq!(bytes(&record), (key, Some(value)));
    let epoch = GroupRecord::decode(&hex("0003 0001 67"), None).unwrap();
    assert!(matches!(&epoch, GroupRecord::Modern { value: None, .. }));
    assert_eq!(bytes(&epoch), (hex("0003 0001 67"), None));
}

#[test]
fn unknown_key_types_are_told_apart_from_damage() {
    assert_eq!(GroupRecord::decode(&hex("0011 ff"), None), Ok(GroupRecord::Unknown(17)));
    assert_eq!(GroupRecord::decode(&hex("0001 0005 67"), None), Err(WireFault::Short));
    assert_eq!(GroupRecord::decode(&[1], None), Err(WireFault::Short));
}

#[test]
fn a_count_of_members_beyond_the_bytes_reserves_nothing() {
    let value = hex("0003 0000 00000000 ffff ffff 00000000000003e8 7fffffff");
    assert_eq!(GroupRecord::decode(&hex("0002 0001 67"), Some(&value)), Err(WireFault::BadLength));
}

#[test]
fn values_cut_anywhere_are_refused() {
    let records = [
        GroupRecord::Group { group: "g".into(), value: Some(group()) },
        offset(Some(OffsetValue { topic_id: Some(TopicId([1; 16])), ..plain_offset() })),
    ];
    for record in records {
        let (key, value) = bytes(&record);
        let value = value.unwrap();
        for len in 0..value.len() {
            assert!(GroupRecord::decode(&key, Some(&value[..len])).is_err(), "{len}");
        }
        for len in 0..key.len() {
            assert!(GroupRecord::decode(&key[..len], Some(&value)).is_err(), "{len}");
        }
    }
}
