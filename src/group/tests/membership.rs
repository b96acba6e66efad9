//! Joining, syncing, leaving: the states and what each request answers in them.

use super::*;

fn world() -> World {
    World::new(GroupConfig::default())
}

fn group_value(record: &GroupRecord) -> &super::GroupValue {
    match record {
        GroupRecord::Group { value: Some(value), .. } => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_member_is_given_an_id_made_of_its_client_id() {
    let mut world = world();
    let answer = world.join(&Client::new("a")).unwrap();
    let JoinAnswer::MemberIdRequired(id) = answer else { panic!("{answer:?}") };
    let parts: Vec<&str> = id.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [1, 8, 4, 4, 4, 12]);
    assert!(id.starts_with("a-"));
    assert!(parts[3].starts_with('4'), "{id}");
    assert!(matches!(parts[4].as_bytes()[0], b'8' | b'9' | b'a' | b'b'), "{id}");
}

#[test]
fn a_new_group_is_recorded_when_it_is_made_and_when_its_leader_has_assigned() {
    let mut world = world();
    let mut a = Client::new("a");
    world.stable(&mut [(&mut a, "t-0 t-1")]);
    assert_eq!(world.log.len(), 2);
    let made = group_value(&world.log[0]);
    assert_eq!((made.generation_id, &*made.protocol_type), (0, ""));
    assert_eq!((made.state_timestamp, made.members.len()), (START_MS, 0));
    let stable = group_value(&world.log[1]);
    assert_eq!((stable.generation_id, &*stable.protocol_type), (1, "consumer"));
    assert_eq!(stable.protocol.as_deref(), Some("range"));
    assert_eq!(stable.leader_id.as_deref(), Some(a.id()));
    let member = &stable.members[0];
    assert_eq!(&*member.member_id, a.id());
    assert_eq!((member.session_timeout_ms, member.rebalance_timeout_ms), (10_000, 60_000));
    assert_eq!(member.subscription, a.request.protocols[0].metadata);
    let share = Assignment::decode(&member.assignment).unwrap().partitions;
    assert_eq!(share, [tp("t-0"), tp("t-1")]);
}

#[test]
fn a_new_group_is_not_made_when_its_record_cannot_be_stored() {
    let mut world = world();
    world.refuse = true;
    assert_eq!(kind(world.join(&Client::new("a"))), ErrorKind::StorageFull);
    assert_eq!(world.state("g"), "absent");
    assert_eq!(world.groups.next_deadline(), None);
}

#[test]
fn only_the_leader_is_told_the_members() {
    let mut world = world();
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    let first = world.enter(&mut a);
    assert_eq!(a.took(first).members.len(), 1);
    assert_eq!(world.enter(&mut b), JoinAnswer::Pending);
    let answer = world.join(&a).unwrap();
    let (for_a, for_b) = (a.took(answer), world.joined(&mut b));
    assert_eq!((for_a.generation_id, for_b.generation_id), (2, 2));
    assert_eq!((&*for_a.leader_id, &*for_b.leader_id), (a.id(), a.id()));
    assert!(for_a.is_leader() && !for_b.is_leader());
    let told: Vec<&str> = for_a.members.iter().map(|member| &*member.member_id).collect();
    assert_eq!(told, [a.id(), b.id()]);
    assert_eq!(for_a.members[1].metadata, b.request.protocols[0].metadata);
    assert_eq!(for_b.members, []);
}

#[test]
fn an_id_that_the_coordinator_did_not_give_is_refused() {
    let mut world = world();
    let mut stranger = Client::new("x");
    stranger.request.member_id = "x-1".into();
    assert_eq!(kind(world.join(&stranger)), ErrorKind::UnknownMemberId);
    assert_eq!(world.state("g"), "absent");
    world.stable(&mut [(&mut Client::new("a"), "t-0")]);
    assert_eq!(kind(world.join(&stranger)), ErrorKind::UnknownMemberId);
    stranger.generation = 1;
    assert_eq!(kind(world.heartbeat(&stranger)), ErrorKind::UnknownMemberId);
    assert_eq!(kind(world.sync(&stranger, &[])), ErrorKind::UnknownMemberId);
    assert_eq!(kind(world.leave(&stranger)), ErrorKind::UnknownMemberId);
    assert_eq!(kind(world.commit(&stranger.reference(), &[])), ErrorKind::UnknownMemberId);
}

#[test]
fn an_empty_group_id_and_a_session_timeout_out_of_bounds_are_refused() {
    let mut world = world();
    let mut client = Client::new("a");
    client.request.session_timeout = Duration::from_millis(5999);
    assert_eq!(kind(world.join(&client)), ErrorKind::InvalidSessionTimeout);
    client.request.session_timeout = Duration::from_millis(1_800_001);
    assert_eq!(kind(world.join(&client)), ErrorKind::InvalidSessionTimeout);
    client.request.session_timeout = SESSION;
    client.request.group_id = "g".repeat(32_768).into();
    assert_eq!(kind(world.join(&client)), ErrorKind::InvalidGroupId);
    let commit = world.commit(&nobody(&client.request.group_id), &[("t-0", 1)]);
    assert_eq!(kind(commit), ErrorKind::InvalidGroupId);
    client.request.group_id = "".into();
    for error in [
        kind(world.join(&client)),
        kind(world.sync(&client, &[])),
        kind(world.heartbeat(&client)),
        kind(world.leave(&client)),
    ] {
        assert_eq!(error, ErrorKind::InvalidGroupId);
    }
}

#[test]
fn a_member_that_shares_no_assignor_with_all_others_is_refused() {
    let mut world = world();
    let mut a = Client::with("a", &["range", "x"], &["t"]);
    let mut b = Client::with("b", &["roundrobin", "range"], &["t"]);
    world.stable(&mut [(&mut a, "t-0"), (&mut b, "t-1")]);
    // `x` and `roundrobin` are each supported by one of the two only.
    let stranger = Client::with("c", &["roundrobin", "x"], &["t"]);
    assert_eq!(kind(world.join(&stranger)), ErrorKind::InconsistentGroupProtocol);
    let mut other = Client::new("d");
    other.request.protocol_type = "connect".into();
    assert_eq!(kind(world.join(&other)), ErrorKind::InconsistentGroupProtocol);
    let empty = Client::with("e", &[], &["t"]);
    assert_eq!(kind(world.join(&empty)), ErrorKind::InconsistentGroupProtocol);
    assert_eq!(world.state("g"), "Stable");
}

#[test]
fn the_assignor_that_most_members_prefer_among_the_common_ones_wins() {
    let mut world = world();
    let mut a = Client::with("a", &["range", "roundrobin"], &["t"]);
    let mut b = Client::with("b", &["sticky", "roundrobin", "range"], &["t"]);
    let mut c = Client::with("c", &["roundrobin", "range"], &["t"]);
    world.stable(&mut [(&mut a, ""), (&mut b, "")]);
    // One vote each: the leader's preference decides.
    assert_eq!(&*world.groups.describe("g", &|_| None).unwrap().protocol, "range");
    world.enter(&mut c);
    for member in [&a, &b] {
        world.join(member).unwrap();
    }
    assert_eq!(&*world.joined(&mut c).protocol, "roundrobin");
}

#[test]
fn a_rebalance_ends_when_the_last_member_has_joined_again() {
    let mut world = world();
    let (mut a, mut b, mut c) = (Client::new("a"), Client::new("b"), Client::new("c"));
    world.stable(&mut [(&mut a, "t-0"), (&mut b, "t-1")]);
    assert_eq!(world.enter(&mut c), JoinAnswer::Pending);
    assert_eq!(world.state("g"), "PreparingRebalance");
    for member in [&a, &b] {
        assert_eq!(kind(world.heartbeat(member)), ErrorKind::RebalanceInProgress);
        assert_eq!(kind(world.sync(member, &[])), ErrorKind::RebalanceInProgress);
    }
    assert_eq!(world.join(&b).unwrap(), JoinAnswer::Pending);
    let group = c.request.group_id.clone();
    assert_eq!(world.groups.poll_join(&group, c.id(), world.now).unwrap(), JoinAnswer::Pending);
    let answer = world.join(&a).unwrap();
    assert_eq!(a.took(answer).generation_id, world.generation("g"));
    assert_eq!(world.joined(&mut b).members, []);
    assert_eq!(world.joined(&mut c).members, []);
    assert_eq!(world.state("g"), "CompletingRebalance");
}

#[test]
fn an_id_that_was_given_holds_up_the_others_until_it_is_used_given_back_or_too_old() {
    for end in ["used", "given back", "too old"] {
        let mut world = world();
        let (mut a, mut b) = (Client::new("a"), Client::new("b"));
        world.stable(&mut [(&mut a, "t-0")]);
        let JoinAnswer::MemberIdRequired(id) = world.join(&b).unwrap() else { panic!() };
        b.request.member_id = id;
        // Nothing has begun: the group is as it was.
        assert_eq!(world.state("g"), "Stable");
        assert_eq!(world.join(&a).unwrap(), JoinAnswer::Pending, "{end}");
        match end {
            "used" => assert_eq!(world.join(&b).unwrap(), JoinAnswer::Joined(world_joined(&b, &a))),
            "given back" => world.leave(&b).unwrap(),
            _ => {
                world.pass(SESSION - Duration::from_millis(1));
                assert_eq!(world.state("g"), "PreparingRebalance");
                world.pass(Duration::from_millis(1));
            }
        }
        assert_eq!(world.joined(&mut a).generation_id, 2, "{end}");
    }
}

fn world_joined(member: &Client, leader: &Client) -> Joined {
    Joined {
        generation_id: 2,
        member_id: member.request.member_id.clone(),
        leader_id: leader.request.member_id.clone(),
        protocol: "range".into(),
        members: vec![],
    }
}

#[test]
fn a_full_group_refuses_a_newcomer_and_keeps_its_members() {
    let mut world = World::new(GroupConfig { max_size: 2, ..Default::default() });
    let (mut a, mut b, mut c) = (Client::new("a"), Client::new("b"), Client::new("c"));
    world.stable(&mut [(&mut a, "t-0"), (&mut b, "t-1")]);
    assert_eq!(kind(world.join(&c)), ErrorKind::GroupMaxSizeReached);
    assert_eq!(world.state("g"), "Stable");
    world.join(&a).unwrap();
    assert_eq!(world.state("g"), "PreparingRebalance");
    // One of two has joined again, so there is still a place; the late one finds it taken.
    assert_eq!(world.enter(&mut c), JoinAnswer::Pending);
    assert_eq!(kind(world.join(&b)), ErrorKind::GroupMaxSizeReached);
    // It is out then, and nobody waits for it.
    assert_eq!(kind(world.leave(&b)), ErrorKind::UnknownMemberId);
    assert_eq!(world.joined(&mut a).members.len(), 2);
    assert_eq!(world.joined(&mut c).leader_id, a.request.member_id);
}

#[test]
fn a_follower_that_joins_again_unchanged_is_given_the_present_generation() {
    let mut world = world();
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    world.stable(&mut [(&mut a, "t-0"), (&mut b, "t-1")]);
    let answer = world.join(&b).unwrap();
    assert_eq!(b.took(answer), world_joined(&b, &a));
    assert_eq!(world.state("g"), "Stable");
    // With another subscription it makes the group rebalance.
    let changed = Client::with("b", &["range"], &["t", "u"]).request.protocols;
    b.request.protocols = changed;
    assert_eq!(world.join(&b).unwrap(), JoinAnswer::Pending);
    assert_eq!(world.state("g"), "PreparingRebalance");
}

#[test]
fn a_leader_that_joins_again_always_makes_the_group_rebalance() {
    let mut world = world();
    let mut a = Client::new("a");
    world.stable(&mut [(&mut a, "t-0")]);
    let answer = world.join(&a).unwrap();
    assert_eq!(a.took(answer).generation_id, 2);
    assert_eq!(world.state("g"), "CompletingRebalance");
    // While the group waits for its assignments the same join only repeats the answer.
    let answer = world.join(&a).unwrap();
    assert_eq!((a.took(answer.clone()).generation_id, a.took(answer).members.len()), (2, 1));
}

#[test]
fn a_changed_join_before_the_assignments_refuses_the_syncs_that_wait() {
    let mut world = world();
    let (mut a, mut b, mut c) = (Client::new("a"), Client::new("b"), Client::new("c"));
    world.stable(&mut [(&mut a, "t-0"), (&mut b, "t-1")]);
    world.enter(&mut c);
    for member in [&mut b, &mut a] {
        if let JoinAnswer::Joined(joined) = world.join(member).unwrap() {
            member.generation = joined.generation_id;
        }
    }
    world.joined(&mut b);
    world.joined(&mut c);
    assert_eq!(world.sync(&c, &[]).unwrap(), SyncAnswer::Pending);
    b.request.protocols = Client::with("b", &["range"], &["u"]).request.protocols;
    assert_eq!(world.join(&b).unwrap(), JoinAnswer::Pending);
    assert_eq!(kind(world.poll_sync(&c)), ErrorKind::RebalanceInProgress);
    assert_eq!(kind(world.sync(&a, &[(&a, "t-0")])), ErrorKind::RebalanceInProgress);
    // The shares of the former generation are forgotten.
    assert!(world.shares("g").iter().all(|(_, share)| share.is_empty()));
}

#[test]
fn followers_have_their_share_once_the_leader_has_assigned() {
    let mut world = world();
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    world.enter(&mut a);
    world.enter(&mut b);
    let answer = world.join(&a).unwrap();
    a.took(answer);
    world.joined(&mut b);
    assert_eq!(kind(world.commit(&a.reference(), &[("t-0", 1)])), ErrorKind::RebalanceInProgress);
    assert_eq!(world.sync(&b, &[]).unwrap(), SyncAnswer::Pending);
    assert_eq!(world.poll_sync(&b).unwrap(), SyncAnswer::Pending);
    let answer = world.sync(&a, &[(&a, "t-0 t-1"), (&b, "t-2")]).unwrap();
    let SyncAnswer::Assigned(bytes) = answer else { panic!("{answer:?}") };
    assert_eq!(Assignment::decode(&bytes).unwrap().partitions, [tp("t-0"), tp("t-1")]);
    let SyncAnswer::Assigned(bytes) = world.poll_sync(&b).unwrap() else { panic!() };
    assert_eq!(Assignment::decode(&bytes).unwrap().partitions, [tp("t-2")]);
    // A repeated sync in a stable group gives the same.
    assert_eq!(world.sync(&b, &[]).unwrap(), SyncAnswer::Assigned(bytes));
}

#[test]
fn a_member_that_the_leader_left_out_has_the_empty_assignment() {
    let mut world = world();
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    world.enter(&mut a);
    world.enter(&mut b);
    let answer = world.join(&a).unwrap();
    a.took(answer);
    world.joined(&mut b);
    world.sync(&a, &[(&a, "t-0")]).unwrap();
    let SyncAnswer::Assigned(bytes) = world.sync(&b, &[]).unwrap() else { panic!() };
    assert!(bytes.is_empty());
}

#[test]
fn assignments_that_cannot_be_stored_change_nothing_and_may_be_sent_again() {
    let mut world = world();
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    world.enter(&mut a);
    world.enter(&mut b);
    let answer = world.join(&a).unwrap();
    a.took(answer);
    world.joined(&mut b);
    world.sync(&b, &[]).unwrap();
    world.refuse = true;
    assert_eq!(kind(world.sync(&a, &[(&a, "t-0"), (&b, "t-1")])), ErrorKind::StorageFull);
    assert_eq!(world.state("g"), "CompletingRebalance");
    assert_eq!(world.poll_sync(&b).unwrap(), SyncAnswer::Pending);
    assert!(world.shares("g").iter().all(|(_, share)| share.is_empty()));
    world.refuse = false;
    world.sync(&a, &[(&a, "t-0"), (&b, "t-1")]).unwrap();
    assert!(matches!(world.poll_sync(&b), Ok(SyncAnswer::Assigned(_))));
}

#[test]
fn a_request_of_another_generation_or_protocol_is_refused() {
    let mut world = world();
    let mut a = Client::new("a");
    world.stable(&mut [(&mut a, "t-0")]);
    let mut request = SyncRequest {
        member: a.reference(),
        protocol_type: None,
        protocol: Some("roundrobin".into()),
        assignments: vec![],
    };
    let step = world.groups.sync(&request, world.now);
    assert_eq!(kind(world.store(step)), ErrorKind::InconsistentGroupProtocol);
    request.protocol = None;
    request.protocol_type = Some("connect".into());
    let step = world.groups.sync(&request, world.now);
    assert_eq!(kind(world.store(step)), ErrorKind::InconsistentGroupProtocol);
    a.generation = 0;
    assert_eq!(kind(world.heartbeat(&a)), ErrorKind::IllegalGeneration);
    assert_eq!(kind(world.sync(&a, &[])), ErrorKind::IllegalGeneration);
    assert_eq!(kind(world.commit(&a.reference(), &[("t-0", 1)])), ErrorKind::IllegalGeneration);
}

#[test]
fn the_last_member_that_leaves_makes_the_group_empty_with_the_next_generation() {
    let mut world = world();
    let mut a = Client::new("a");
    world.stable(&mut [(&mut a, "t-0")]);
    world.commit(&a.reference(), &[("t-0", 7)]).unwrap();
    world.leave(&a).unwrap();
    assert_eq!((world.state("g"), world.generation("g")), ("Empty", 2));
    let empty = group_value(world.log.last().unwrap());
    assert_eq!((empty.generation_id, &*empty.protocol_type), (2, "consumer"));
    assert_eq!((&empty.protocol, &empty.leader_id, empty.members.len()), (&None, &None, 0));
    assert_eq!(world.committed("g", "t-0"), Some(7));
    assert_eq!(kind(world.leave(&a)), ErrorKind::UnknownMemberId);
    assert_eq!(kind(world.join(&a)), ErrorKind::UnknownMemberId);
    assert_eq!(kind(world.heartbeat(&a)), ErrorKind::UnknownMemberId);
    let mut b = Client::new("b");
    let answer = world.enter(&mut b);
    assert_eq!(b.took(answer).generation_id, 3);
}

#[test]
fn a_group_whose_last_record_could_not_be_stored_owes_it_with_its_next_one() {
    let mut world = world();
    let mut a = Client::new("a");
    world.stable(&mut [(&mut a, "t-0")]);
    world.refuse = true;
    assert_eq!(kind(world.leave(&a)), ErrorKind::StorageFull);
    assert_eq!((world.state("g"), world.generation("g")), ("Empty", 2));
    let before = world.log.len();
    world.refuse = false;
    world.commit(&nobody("g"), &[("t-0", 3)]).unwrap();
    assert_eq!(world.log.len(), before + 2);
    assert_eq!(group_value(&world.log[before]).generation_id, 2);
    assert!(matches!(world.log[before + 1], GroupRecord::Offset { .. }));
    world.commit(&nobody("g"), &[("t-0", 4)]).unwrap();
    assert_eq!(world.log.len(), before + 3);
    assert!(world.groups.owed().is_empty());
}

#[test]
fn a_member_that_leaves_frees_its_place_at_once() {
    let mut world = world();
    let (mut a, mut b, mut c) = (Client::new("a"), Client::new("b"), Client::new("c"));
    world.stable(&mut [(&mut a, "t-0"), (&mut b, "t-1"), (&mut c, "t-2")]);
    world.leave(&a).unwrap();
    assert_eq!(world.state("g"), "PreparingRebalance");
    assert_eq!(world.join(&b).unwrap(), JoinAnswer::Pending);
    // The last one that was waited for leaves as well: the wait is over, and there is a leader.
    world.leave(&c).unwrap();
    let joined = world.joined(&mut b);
    assert!(joined.is_leader());
    assert_eq!(joined.members.len(), 1);
}

#[test]
fn every_member_of_one_leave_request_has_its_own_outcome() {
    let mut world = world();
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    world.stable(&mut [(&mut a, "t-0"), (&mut b, "t-1")]);
    let named = |id: &str, instance: Option<&str>| LeavingMember {
        member_id: id.into(),
        group_instance_id: instance.map(Into::into),
    };
    let leaving =
        [named("x", None), named(a.id(), None), named("", Some("i")), named(b.id(), None)];
    let step = world.groups.leave("g", &leaving, world.now);
    let outcomes = world.store(step).unwrap();
    let kinds: Vec<_> = outcomes.into_iter().map(|o| o.map_err(|e| e.kind())).collect();
    let unknown = Err(ErrorKind::UnknownMemberId);
    assert_eq!(kinds, [unknown, Ok(()), unknown, Ok(())]);
    assert_eq!(world.state("g"), "Empty");
    assert!(world.groups.member_ids("g").is_empty());
}

#[test]
fn groups_that_moved_are_told_once() {
    let mut world = world();
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    world.stable(&mut [(&mut a, "t-0")]);
    assert_eq!(world.groups.take_moved(), ["g".into()]);
    assert!(world.groups.take_moved().is_empty());
    world.heartbeat(&a).unwrap();
    world.touch(&a);
    assert!(world.groups.take_moved().is_empty());
    world.enter(&mut b);
    assert_eq!(world.groups.take_moved(), ["g".into()]);
}

#[test]
fn describe_shows_members_and_shares_by_state() {
    let mut world = world();
    let (mut a, mut b, mut c) = (Client::new("a"), Client::new("b"), Client::new("c"));
    assert_eq!(kind(world.groups.describe("g", &|_| None)), ErrorKind::GroupIdNotFound);
    world.stable(&mut [(&mut a, "t-0"), (&mut b, "t-1")]);
    let stable = world.groups.describe("g", &|_| None).unwrap();
    assert_eq!(
        (stable.state, &*stable.protocol, &*stable.protocol_type),
        ("Stable", "range", "consumer")
    );
    world.enter(&mut c);
    // What each had, the newcomer nothing; no assignor is chosen.
    let preparing = world.groups.describe("g", &|_| None).unwrap();
    assert_eq!((preparing.state, &*preparing.protocol), ("PreparingRebalance", ""));
    let had: Vec<(String, String)> = [("a", "t-0"), ("b", "t-1"), ("c", "")]
        .map(|(name, share)| (name.to_owned(), share.to_owned()))
        .into();
    assert_eq!(world.shares("g"), had);
    let listed = world.groups.list();
    assert_eq!((listed.len(), listed[0].state, listed[0].members), (1, "PreparingRebalance", 3));
    assert_eq!(listed[0].group_type.name(), "Classic");
}
