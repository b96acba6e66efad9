//! Which commits are accepted, and what is told about them.

use super::*;

fn world() -> World {
    World::new(GroupConfig::default())
}

#[test]
fn a_commit_without_a_member_makes_a_group_that_only_committed() {
    let mut world = world();
    world.commit(&nobody("s"), &[("t-1", 5), ("u-0", 0)]).unwrap();
    let listed = world.groups.list();
    assert_eq!(
        (&*listed[0].group_id, listed[0].state, &*listed[0].protocol_type),
        ("s", "Empty", "")
    );
    assert_eq!(world.committed("s", "t-1"), Some(5));
    assert_eq!(world.committed("s", "t-0"), None);
    assert_eq!(world.committed("other", "t-1"), None);
    let all = world.groups.list_offsets("s");
    let all: Vec<_> = all.iter().map(|(tp, offset)| (tp.to_string(), offset.offset)).collect();
    assert_eq!(all, [("t-1".to_owned(), 5), ("u-0".to_owned(), 0)]);
    assert!(world.groups.list_offsets("other").is_empty());
}

#[test]
fn a_commit_in_a_generation_of_a_missing_group_is_refused() {
    let mut world = world();
    let mut stranger = nobody("s");
    stranger.generation_id = 0;
    assert_eq!(kind(world.commit(&stranger, &[("t-0", 1)])), ErrorKind::GroupIdNotFound);
    assert_eq!(world.state("s"), "absent");
}

#[test]
fn an_empty_group_takes_any_commit_without_a_generation() {
    let mut world = world();
    let mut a = Client::new("a");
    world.stable(&mut [(&mut a, "t-0")]);
    world.leave(&a).unwrap();
    a.generation = -1;
    world.commit(&a.reference(), &[("t-0", 1)]).unwrap();
    world.commit(&nobody("g"), &[("t-0", 2)]).unwrap();
    assert_eq!(world.committed("g", "t-0"), Some(2));
    a.generation = 1;
    assert_eq!(kind(world.commit(&a.reference(), &[("t-0", 3)])), ErrorKind::UnknownMemberId);
}

#[test]
fn a_live_group_takes_commits_of_its_members_only() {
    let mut world = world();
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    world.stable(&mut [(&mut a, "t-0"), (&mut b, "t-1")]);
    assert_eq!(kind(world.commit(&nobody("g"), &[("t-0", 1)])), ErrorKind::UnknownMemberId);
    world.commit(&a.reference(), &[("t-0", 1)]).unwrap();
    let mut late = a.reference();
    late.generation_id -= 1;
    assert_eq!(kind(world.commit(&late, &[("t-0", 9)])), ErrorKind::IllegalGeneration);
    let mut fenced = a.reference();
    fenced.group_instance_id = Some("i".into());
    assert_eq!(kind(world.commit(&fenced, &[("t-0", 9)])), ErrorKind::UnknownMemberId);
    assert_eq!(world.committed("g", "t-0"), Some(1));
}

#[test]
fn the_old_generation_may_commit_until_the_new_one_is_made() {
    let mut world = world();
    let (mut a, mut b, mut c) = (Client::new("a"), Client::new("b"), Client::new("c"));
    world.stable(&mut [(&mut a, "t-0"), (&mut b, "t-1")]);
    world.enter(&mut c);
    world.commit(&a.reference(), &[("t-0", 4)]).unwrap();
    let old = a.reference();
    world.join(&a).unwrap();
    world.join(&b).unwrap();
    assert_eq!(world.state("g"), "CompletingRebalance");
    assert_eq!(kind(world.commit(&old, &[("t-0", 5)])), ErrorKind::IllegalGeneration);
    world.joined(&mut a);
    assert_eq!(kind(world.commit(&a.reference(), &[("t-0", 5)])), ErrorKind::RebalanceInProgress);
    assert_eq!(world.committed("g", "t-0"), Some(4));
}

#[test]
fn each_partition_of_a_commit_has_its_own_outcome() {
    let mut world = World::new(GroupConfig { offset_metadata_max_bytes: 4, ..Default::default() });
    let offsets = [
        commit_of("t-0", 1, "four"),
        commit_of("t-1", 2, "five!"),
        commit_of("t-4", 3, ""),
        commit_of("missing-0", 4, ""),
        commit_of("u-0", 5, "\u{e4}\u{e4}\u{e4}\u{e4}"),
        // Two characters, four UTF-16 units; one more is too much.
        commit_of("t-2", 6, "\u{1f600}\u{1f600}"),
        commit_of("t-3", 7, "\u{1f600}\u{1f600}."),
    ];
    let step = world.groups.commit(&nobody("s"), &offsets, &topics, world.now);
    let outcomes = world.store(step).unwrap();
    let kinds: Vec<_> = outcomes
        .into_iter()
        .map(|(tp, outcome)| (tp.to_string(), outcome.err().map(|error| error.kind())))
        .collect();
    let too_large = Some(ErrorKind::OffsetMetadataTooLarge);
    let unknown = Some(ErrorKind::UnknownTopicOrPartition);
    let expected = [
        ("t-4", unknown),
        ("missing-0", unknown),
        ("t-0", None),
        ("t-1", too_large),
        ("u-0", None),
        ("t-2", None),
        ("t-3", too_large),
    ];
    assert_eq!(kinds, expected.map(|(tp, kind)| (tp.to_owned(), kind)));
    assert_eq!(world.log.len(), 3);
    let found = world.groups.committed("s", &[tp("u-0")], true).remove(0).unwrap().unwrap();
    assert_eq!((&*found.metadata, found.leader_epoch), ("\u{e4}\u{e4}\u{e4}\u{e4}", None));
    assert_eq!(found.commit_timestamp, START_MS);
}

#[test]
fn commit_metadata_that_kafka_could_not_load_is_refused_whatever_the_setting() {
    let config = GroupConfig { offset_metadata_max_bytes: 200_000, ..Default::default() };
    let mut world = World::new(config);
    let euros = "\u{20ac}".repeat(10_922);
    for (text, taken) in [
        ("m".repeat(32_767), true),
        ("m".repeat(32_768), false),
        ("m".repeat(70_000), false),
        (euros.clone() + "m", true),
        (euros + "mm", false),
    ] {
        let offsets = [commit_of("t-0", 1, &text), commit_of("t-1", 2, "small")];
        let step = world.groups.commit(&nobody("s"), &offsets, &topics, world.now);
        let outcomes = world.store(step).unwrap();
        let kinds =
            outcomes.into_iter().map(|(_, outcome)| outcome.err().map(|error| error.kind()));
        let kinds: Vec<_> = kinds.collect();
        let expected = (!taken).then_some(ErrorKind::OffsetMetadataTooLarge);
        assert_eq!(kinds, [expected, None], "{} bytes", text.len());
        let found = world.groups.committed("s", &[tp("t-0")], true).remove(0).unwrap();
        assert!(found.is_some_and(|found| found.metadata.len() <= 32_767));
    }
}

#[test]
fn a_negative_offset_of_an_old_client_is_none() {
    let mut world = world();
    let offsets = [commit_of("t-0", -1, ""), commit_of("t-1", -5, "x"), commit_of("t-2", 0, "")];
    let step = world.groups.commit(&nobody("s"), &offsets, &topics, world.now);
    world.store(step).unwrap();
    for groups in [&world.groups, &world.reopened().groups] {
        let asked = [tp("t-0"), tp("t-1"), tp("t-2")];
        let found = groups.committed("s", &asked, true);
        let found: Vec<_> = found.into_iter().map(|c| c.unwrap().map(|c| c.offset)).collect();
        assert_eq!(found, [None, None, Some(0)]);
        let listed = groups.list_offsets("s");
        assert_eq!(listed.into_iter().map(|(tp, _)| tp).collect::<Vec<_>>(), [tp("t-2")]);
    }
}

#[test]
fn a_commit_of_nothing_that_exists_stores_nothing() {
    let mut world = world();
    let offsets = [commit_of("missing-0", 4, "")];
    let step = world.groups.commit(&nobody("s"), &offsets, &topics, world.now);
    assert!(step.appends.is_empty());
    assert_eq!(world.state("s"), "absent");
}

#[test]
fn a_commit_that_cannot_be_stored_changes_nothing() {
    let mut world = world();
    world.commit(&nobody("s"), &[("t-0", 1)]).unwrap();
    world.refuse = true;
    assert_eq!(kind(world.commit(&nobody("s"), &[("t-0", 2)])), ErrorKind::StorageFull);
    assert_eq!(kind(world.commit(&nobody("new"), &[("t-0", 2)])), ErrorKind::StorageFull);
    assert_eq!(world.committed("s", "t-0"), Some(1));
    assert_eq!(world.state("new"), "absent");
}

#[test]
fn an_offset_record_carries_the_topic_id_and_no_leader_epoch() {
    let mut world = world();
    world.commit(&nobody("s"), &[("t-0", 1)]).unwrap();
    let GroupRecord::Offset { value: Some(value), .. } = &world.log[0] else { panic!() };
    assert_eq!(value.topic_id, Some(TopicId([1; 16])));
    assert_eq!(value.leader_epoch, -1);
    assert_eq!(value.commit_timestamp, START_MS);
}

#[test]
fn a_deleted_topic_takes_its_offsets_along_in_every_group() {
    let mut world = world();
    world.commit(&nobody("a"), &[("t-0", 1), ("t-3", 2), ("u-0", 3)]).unwrap();
    world.commit(&nobody("b"), &[("u-0", 4)]).unwrap();
    world.commit(&nobody("c"), &[("t-1", 5)]).unwrap();
    let step = world.groups.topic_deleted("t");
    assert_eq!(step.appends.len(), 2);
    world.store_appends(step.appends).unwrap();
    assert_eq!(world.committed("a", "t-0"), None);
    assert_eq!(world.committed("a", "u-0"), Some(3));
    assert_eq!(world.committed("b", "u-0"), Some(4));
    // The group stays, empty.
    assert_eq!(world.state("c"), "Empty");
    assert!(world.reopened().groups.list_offsets("a").iter().all(|(tp, _)| tp.topic() == "u"));
}

#[test]
fn a_group_with_members_cannot_be_deleted_nor_one_that_is_missing() {
    let mut world = world();
    let step = world.groups.delete_group("g");
    assert_eq!(kind(world.store(step)), ErrorKind::GroupIdNotFound);
    let mut a = Client::new("a");
    world.stable(&mut [(&mut a, "t-0")]);
    world.commit(&a.reference(), &[("t-0", 1)]).unwrap();
    let step = world.groups.delete_group("g");
    assert_eq!(kind(world.store(step)), ErrorKind::NonEmptyGroup);
    world.leave(&a).unwrap();
    let step = world.groups.delete_group("g");
    world.refuse = true;
    assert_eq!(kind(world.store(step)), ErrorKind::StorageFull);
    assert_eq!(world.committed("g", "t-0"), Some(1));
    world.refuse = false;
    let step = world.groups.delete_group("g");
    world.store(step).unwrap();
    assert_eq!(world.state("g"), "absent");
    assert_eq!(world.committed("g", "t-0"), None);
    assert_eq!(world.reopened().state("g"), "absent");
    // A group of that name begins anew.
    let mut b = Client::new("b");
    world.stable(&mut [(&mut b, "t-0")]);
    assert_eq!(world.generation("g"), 1);
}

#[test]
fn a_deleted_group_leaves_no_timer_behind() {
    let mut world = world();
    let JoinAnswer::MemberIdRequired(_) = world.join(&Client::new("a")).unwrap() else { panic!() };
    assert!(world.groups.next_deadline().is_some());
    let step = world.groups.delete_group("g");
    world.store(step).unwrap();
    assert_eq!(world.groups.next_deadline(), None);
}

#[test]
fn offsets_of_a_topic_that_a_member_reads_cannot_be_deleted() {
    let mut world = world();
    let mut a = Client::new("a");
    let step = world.groups.delete_offsets("g", &[tp("t-0")], &topics);
    assert_eq!(kind(world.store(step)), ErrorKind::GroupIdNotFound);
    world.stable(&mut [(&mut a, "t-0")]);
    world.commit(&a.reference(), &[("t-0", 1), ("u-0", 2)]).unwrap();
    let partitions = [tp("t-0"), tp("u-0"), tp("u-7"), tp("missing-0")];
    let step = world.groups.delete_offsets("g", &partitions, &topics);
    let outcomes = world.store(step).unwrap();
    let kinds: Vec<_> = outcomes.into_iter().map(|(_, o)| o.map_err(|e| e.kind())).collect();
    let unknown = Err(ErrorKind::UnknownTopicOrPartition);
    assert_eq!(kinds, [Err(ErrorKind::GroupSubscribedToTopic), Ok(()), unknown, unknown]);
    assert_eq!(world.committed("g", "u-0"), None);
    assert_eq!(world.committed("g", "t-0"), Some(1));
    world.leave(&a).unwrap();
    let step = world.groups.delete_offsets("g", &[tp("t-0"), tp("t-1")], &topics);
    assert!(world.store(step).unwrap().iter().all(|(_, outcome)| outcome.is_ok()));
    assert_eq!(world.committed("g", "t-0"), None);
    assert_eq!(world.state("g"), "Empty");
}

#[test]
fn live_members_that_are_no_consumers_refuse_the_deletion_of_offsets() {
    let mut world = world();
    let mut worker = Client::new("w");
    worker.request.protocol_type = "connect".into();
    world.enter(&mut worker);
    let step = world.groups.delete_offsets("g", &[tp("t-0")], &topics);
    assert_eq!(kind(world.store(step)), ErrorKind::NonEmptyGroup);
}

/// Of the offsets topic.
const ALL: [i32; 50] = {
    let mut all = [0; 50];
    let mut at = 0;
    while at < 50 {
        all[at] = at as i32;
        at += 1;
    }
    all
};

#[test]
fn an_offset_beyond_the_end_of_its_log_is_brought_back_and_its_record_is_owed() {
    let mut world = world();
    world.commit(&nobody("s"), &[("t-0", 10), ("t-1", 10), ("t-2", 10)]).unwrap();
    let clamped = world.groups.clamp_offsets(&ALL, &|partition| match partition.partition() {
        0 => Some(7),
        1 => Some(10),
        _ => None,
    });
    assert_eq!(clamped.len(), 1);
    assert_eq!((clamped[0].partition.clone(), clamped[0].committed), (tp("t-0"), 10));
    assert_eq!(clamped[0].log_end_offset, 7);
    let offsets = ["t-0", "t-1", "t-2"].map(|tp| world.committed("s", tp));
    assert_eq!(offsets, [Some(7), Some(10), Some(10)]);
    // Until the record is stored another life would find the old offset.
    assert_eq!(world.reopened().committed("s", "t-0"), Some(10));
    let owed = world.groups.owed();
    world.store_appends(owed).unwrap();
    assert_eq!(world.reopened().committed("s", "t-0"), Some(7));
    assert!(world.groups.owed().is_empty());
}

#[test]
fn a_commit_makes_a_clamped_offset_s_record_unnecessary() {
    let mut world = world();
    world.commit(&nobody("s"), &[("t-0", 10)]).unwrap();
    world.groups.clamp_offsets(&ALL, &|_| Some(7));
    world.commit(&nobody("s"), &[("t-0", 8)]).unwrap();
    assert!(world.groups.owed().is_empty());
}

#[test]
fn unknown_partitions_are_told_so_whatever_the_group_thinks_of_who_commits() {
    let mut world = world();
    let mut a = Client::new("a");
    world.enter(&mut a);
    let mut kinds = |partitions: &[&str]| {
        let offsets: Vec<_> = partitions.iter().map(|name| commit_of(name, 1, "")).collect();
        let step = world.groups.commit(&nobody("g"), &offsets, &topics, world.now);
        assert!(step.appends.is_empty());
        let told = step.response.map_err(|error| error.kind());
        told.map(|outcomes| {
            let shown = |(tp, outcome): (TopicPartition, Result<()>)| {
                (tp.to_string(), outcome.unwrap_err().kind())
            };
            outcomes.into_iter().map(shown).collect::<Vec<_>>()
        })
    };
    let (unknown, stranger) = (ErrorKind::UnknownTopicOrPartition, ErrorKind::UnknownMemberId);
    assert_eq!(kinds(&["t-0", "u-0"]), Err(stranger));
    let pair = |name: &str, kind| (name.to_owned(), kind);
    assert_eq!(kinds(&["t-9"]), Ok(vec![pair("t-9", unknown)]));
    let mixed = vec![pair("t-9", unknown), pair("t-0", stranger), pair("u-0", stranger)];
    assert_eq!(kinds(&["t-0", "t-9", "u-0"]), Ok(mixed));
}
