//! What a broker that opens makes of the records it finds.

use super::*;
use crate::coordinator::EncodedRecords;
use crate::record::{
    BatchBuilder, Codec, ControlType, RecordBatch, RecordInput, Stamp, encode_marker,
};

fn world() -> World {
    World::new(GroupConfig::default())
}

fn at(offset: i64, producer_id: Option<i64>) -> RecordPosition {
    RecordPosition { partition: 0, offset, producer_id }
}

fn offset(partition: i32, offset: i64) -> GroupRecord {
    GroupRecord::Offset {
        group: "x".into(),
        topic: "t".into(),
        partition,
        value: Some(OffsetValue {
            offset,
            leader_epoch: -1,
            metadata: "".into(),
            commit_timestamp: START_MS,
            expire_timestamp: None,
            topic_id: None,
        }),
    }
}

#[test]
fn a_stored_group_is_shown_as_it_was_and_loses_its_members_when_writing_begins() {
    let mut world = world();
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    world.stable(&mut [(&mut a, "t-0"), (&mut b, "t-1")]);
    world.commit(&a.reference(), &[("t-0", 5)]).unwrap();
    let mut opened = world.reopened();
    assert_eq!((opened.state("g"), opened.generation("g")), ("Stable", 2));
    assert_eq!(opened.shares("g"), world.shares("g"));
    assert_eq!(opened.groups.next_deadline(), None);

    opened.groups.begin_life(opened.now);
    assert_eq!((opened.state("g"), opened.generation("g")), ("Empty", 3));
    assert_eq!(opened.committed("g", "t-0"), Some(5));
    assert_eq!(opened.groups.next_deadline(), None);
    assert_eq!(kind(opened.commit(&a.reference(), &[("t-0", 6)])), ErrorKind::UnknownMemberId);
    // Its record is written with the group's next one.
    assert!(opened.groups.owed().is_empty());
    let before = opened.log.len();
    opened.commit(&nobody("g"), &[("t-0", 6)]).unwrap();
    assert_eq!(opened.log.len(), before + 2);
    let again = opened.reopened();
    assert_eq!((again.state("g"), again.generation("g")), ("Empty", 3));
    assert_eq!(again.committed("g", "t-0"), Some(6));
}

#[test]
fn the_first_member_after_a_restart_gets_a_generation_of_its_own() {
    let mut world = world();
    world.stable(&mut [(&mut Client::new("a"), "t-0")]);
    let mut opened = world.reopened();
    opened.groups.begin_life(opened.now);
    let mut b = Client::new("b");
    opened.stable(&mut [(&mut b, "t-0")]);
    assert_eq!(opened.generation("g"), 3);
    assert!(opened.groups.owed().is_empty());
    let again = opened.reopened();
    assert_eq!((again.state("g"), again.generation("g")), ("Stable", 3));
}

fn stored_group(instances: [Option<&str>; 2]) -> GroupRecord {
    let members = instances.iter().zip(["m0", "m1"]).map(|(instance, id)| MemberValue {
        member_id: id.into(),
        group_instance_id: instance.map(Into::into),
        client_id: id.into(),
        client_host: "/h".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        subscription: Subscription { topics: vec!["t".into()], ..Default::default() }
            .encode()
            .into(),
        assignment: Assignment { partitions: vec![tp("t-0")], user_data: None }.encode().into(),
    });
    GroupRecord::Group {
        group: "g".into(),
        value: Some(GroupValue {
            protocol_type: "consumer".into(),
            generation_id: 8,
            protocol: Some("range".into()),
            leader_id: Some("m0".into()),
            state_timestamp: START_MS,
            members: members.collect(),
        }),
    }
}

#[test]
fn static_members_keep_their_session_over_a_restart() {
    let mut world = world();
    world.groups.replay(stored_group([Some("i0"), Some("i1")]), at(0, None));
    world.groups.begin_life(world.now);
    assert_eq!((world.state("g"), world.generation("g")), ("Stable", 8));
    world.pass(SESSION - Duration::from_millis(1));
    assert_eq!(world.state("g"), "Stable");
    world.pass(Duration::from_millis(1));
    assert_eq!((world.state("g"), world.generation("g")), ("Empty", 9));
    assert_eq!(world.log.len(), 1);
}

#[test]
fn a_dynamic_member_beside_a_static_one_is_gone_and_makes_the_group_rebalance() {
    let mut world = world();
    world.groups.replay(stored_group([Some("i0"), None]), at(0, None));
    world.groups.begin_life(world.now);
    assert_eq!(world.state("g"), "PreparingRebalance");
    assert_eq!(world.shares("g"), [("m0".to_owned(), "t-0".to_owned())]);
    let mut fenced = nobody("g");
    (fenced.member_id, fenced.group_instance_id) = ("other".into(), Some("i0".into()));
    assert_eq!(kind(world.commit(&fenced, &[("t-0", 1)])), ErrorKind::FencedInstanceId);
}

#[test]
fn offsets_of_a_transaction_count_from_its_marker_on() {
    let mut world = world();
    world.groups.replay(offset(0, 1), at(0, None));
    world.groups.replay(offset(0, 5), at(1, Some(9)));
    world.groups.replay(offset(1, 6), at(2, Some(9)));
    assert_eq!(world.committed("x", "t-0"), Some(1));
    assert_eq!(world.committed("x", "t-1"), None);
    let mut stable = world.groups.committed("x", &[tp("t-0"), tp("t-2")], true);
    assert_eq!(stable.remove(1).unwrap(), None);
    assert_eq!(kind(stable.remove(0)), ErrorKind::UnstableOffsetCommit);
    // A marker of another producer, or in another partition, is not meant.
    world.groups.replay_marker(0, 8, true);
    world.groups.replay_marker(1, 9, true);
    assert_eq!(world.committed("x", "t-0"), Some(1));
    world.groups.replay_marker(0, 9, true);
    assert_eq!(world.committed("x", "t-0"), Some(5));
    assert_eq!(world.committed("x", "t-1"), Some(6));
    assert!(world.groups.committed("x", &[tp("t-0")], true)[0].is_ok());
}

#[test]
fn offsets_of_an_aborted_transaction_never_count() {
    let mut world = world();
    world.groups.replay(offset(0, 5), at(0, Some(9)));
    world.groups.replay_marker(0, 9, false);
    world.groups.replay_marker(0, 9, true);
    assert_eq!(world.committed("x", "t-0"), None);
}

#[test]
fn a_pending_offset_beyond_its_log_is_brought_back_and_its_record_owed_once_it_counts() {
    for committed in [true, false] {
        let mut world = world();
        world.groups.replay(offset(0, 5), at(0, None));
        world.groups.replay(offset(0, 10), at(1, Some(9)));
        let all: Vec<i32> = (0..50).collect();
        let clamped = world.groups.clamp_offsets(&all, &|_| Some(6));
        assert_eq!((clamped.len(), clamped[0].committed), (1, 10));
        assert!(world.groups.owed().is_empty(), "nothing counts so far");
        assert_eq!(world.groups.replay_marker(0, 9, committed), committed);
        assert_eq!(world.groups.owed().len(), usize::from(committed));
        assert_eq!(world.committed("x", "t-0"), Some(if committed { 6 } else { 5 }));
    }
}

#[test]
fn a_commit_that_stands_later_in_the_log_than_a_transaction_s_wins() {
    let mut world = world();
    world.groups.replay(offset(0, 5), at(0, Some(9)));
    world.groups.replay(offset(1, 5), at(1, Some(9)));
    world.groups.replay(offset(0, 3), at(2, None));
    world.groups.replay_marker(0, 9, true);
    assert_eq!(world.committed("x", "t-0"), Some(3));
    assert_eq!(world.committed("x", "t-1"), Some(5));
}

#[test]
fn a_deleted_group_with_an_open_transaction_keeps_the_pending_offsets() {
    let mut world = world();
    world.groups.replay(stored_group([None, None]), at(0, None));
    let GroupRecord::Offset { topic, partition, value, .. } = offset(0, 5) else { panic!() };
    let pending = GroupRecord::Offset { group: "g".into(), topic, partition, value };
    world.groups.replay(pending, at(1, Some(9)));
    let gone = GroupRecord::Group { group: "g".into(), value: None };
    world.groups.replay(gone, at(2, None));
    assert_eq!((world.state("g"), world.generation("g")), ("Empty", 0));
    world.groups.replay_marker(0, 9, true);
    assert_eq!(world.committed("g", "t-0"), Some(5));
}

fn batch(records: &[(&[u8], Option<&[u8]>)], stamp: &Stamp) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None, None).unwrap();
    for &(key, value) in records {
        let headers = &[];
        builder
            .append(&RecordInput { timestamp: START_MS, key: Some(key), value, headers })
            .unwrap();
    }
    builder.finish(stamp).unwrap().to_vec()
}

#[test]
fn batches_are_applied_with_their_producer_and_their_markers() {
    let mut encoded = EncodedRecords::default();
    [offset(0, 5), offset(1, 6)].iter().for_each(|record| record.encode(&mut encoded));
    let records: Vec<_> = encoded.iter().collect();
    let stamp = Stamp::plain(0, 0).producer(9, 0, 0).transactional();
    let bytes = batch(&records, &stamp);
    let marker =
        encode_marker(ControlType::Commit, 0, START_MS, &Stamp { base_offset: 2, ..stamp });
    let mut world = world();
    let applied = world
        .groups
        .replay_batch(0, &RecordBatch::parse(&bytes).unwrap(), &mut Vec::new())
        .unwrap();
    assert_eq!(applied, ReplayedBatch { applied: 2, unreadable: vec![] });
    assert_eq!(world.committed("x", "t-0"), None);
    world.groups.replay_batch(0, &RecordBatch::parse(&marker).unwrap(), &mut Vec::new()).unwrap();
    assert_eq!(world.committed("x", "t-0"), Some(5));
}

#[test]
fn records_that_cannot_be_read_are_passed_over_and_told() {
    let mut encoded = EncodedRecords::default();
    offset(0, 5).encode(&mut encoded);
    let (key, value) = encoded.iter().next().unwrap();
    let bytes = batch(
        &[(b"\0\x01\0\x09", None), (key, Some(b"\0\x09")), (key, value), (b"\0\x63x", None)],
        &Stamp::plain(100, 0),
    );
    let mut world = world();
    let told = world
        .groups
        .replay_batch(0, &RecordBatch::parse(&bytes).unwrap(), &mut Vec::new())
        .unwrap();
    assert_eq!(told.applied, 2);
    assert_eq!(told.unreadable, [(100, WireFault::Short), (101, WireFault::UnknownVersion(9))]);
    assert_eq!(world.committed("x", "t-0"), Some(5));
}

/// Records of a group of the newer protocol, as a real broker wrote them: `n0` joined and owns
/// partitions 0 to 3 of one topic.
fn modern_records() -> Vec<GroupRecord> {
    let topic = [0x20, 0x58, 0xef, 0x71, 0x7e, 0x61, 0x41, 0x73, 0x9b, 0xf3, 0x7a, 0x20, 0x42];
    let mut id = topic.to_vec();
    id.extend_from_slice(&[0xf5, 0x91, 0x18]);
    let mut member = b"\0\0\0\0\x03n0\x0b/127.0.0.1\x02\x02t\x01\0\x04\x93\xe0\x08uniform".to_vec();
    member.extend_from_slice(&[1, 0, 1, 0]);
    let mut current = vec![0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 2];
    current.extend_from_slice(&id);
    current.extend_from_slice(&[5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 1, 0]);
    let modern = |kind: i16, part: Option<&str>, value: &[u8]| GroupRecord::Modern {
        key: ModernKey { kind, group: "n".into(), part: part.map(Into::into) },
        value: Some(value.into()),
    };
    vec![
        modern(5, Some("m"), &member),
        modern(3, None, b"\0\0\0\0\0\x02\0"),
        modern(7, Some("m"), b"\0\0\x01\0"),
        modern(6, None, b"\0\0\0\0\0\x02\0"),
        modern(8, Some("m"), &current),
    ]
}

#[test]
fn a_group_of_the_newer_protocol_is_listed_and_described() {
    let mut world = world();
    for (record, offset) in modern_records().into_iter().zip(0..) {
        world.groups.replay(record, at(offset, None));
    }
    let listed = world.groups.list();
    assert_eq!((listed[0].group_type.name(), &*listed[0].protocol_type), ("Consumer", "consumer"));
    assert_eq!((listed[0].state, listed[0].members), ("Stable", 1));
    let described = world.groups.describe("n", &|_| Some("t".into())).unwrap();
    assert_eq!((&*described.protocol, described.generation_id), ("uniform", 2));
    assert_eq!(&*described.members[0].client_id, "n0");
    let share: Vec<String> =
        described.members[0].assignment.iter().map(ToString::to_string).collect();
    assert_eq!(share, ["t-0", "t-1", "t-2", "t-3"]);
    let mut client = Client::new("c");
    client.request.group_id = "n".into();
    assert_eq!(kind(world.join(&client)), ErrorKind::InconsistentGroupProtocol);
    assert_eq!(kind(world.commit(&nobody("n"), &[("t-0", 1)])), ErrorKind::UnknownMemberId);
}

#[test]
fn an_empty_group_of_the_newer_protocol_becomes_classic_with_the_first_join() {
    let mut world = world();
    world.log = modern_records();
    let mut opened = world.reopened();
    opened.groups.begin_life(opened.now);
    assert_eq!(opened.state("n"), "Empty");
    opened.commit(&nobody("n"), &[("t-0", 3)]).unwrap();
    let mut client = Client::new("c");
    client.request.group_id = "n".into();
    let answer = opened.enter(&mut client);
    assert_eq!(client.took(answer).generation_id, 1);
    assert_eq!(opened.groups.list()[0].group_type.name(), "Classic");
    // Its old records are deleted, its offsets stay.
    let again = opened.reopened();
    assert_eq!(again.groups.list()[0].group_type.name(), "Classic");
    assert_eq!(again.committed("n", "t-0"), Some(3));
}

#[test]
fn a_deleted_group_of_the_newer_protocol_leaves_nothing() {
    let mut world = world();
    world.log = modern_records();
    let mut opened = world.reopened();
    let step = opened.groups.delete_group("n");
    assert_eq!(kind(opened.store(step)), ErrorKind::NonEmptyGroup);
    opened.groups.begin_life(opened.now);
    let step = opened.groups.delete_group("n");
    opened.store(step).unwrap();
    assert!(opened.groups.list().is_empty());
    assert!(opened.reopened().groups.list().is_empty());
}
