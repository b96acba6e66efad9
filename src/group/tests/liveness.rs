//! Who counts as alive until when, and what happens then.

use super::*;

const MS: Duration = Duration::from_millis(1);

fn world() -> World {
    World::new(GroupConfig::default())
}

fn two_members(world: &mut World) -> (Client, Client) {
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    world.stable(&mut [(&mut a, "t-0 t-1"), (&mut b, "t-2 t-3")]);
    (a, b)
}

#[test]
fn a_member_that_does_not_poll_is_out_at_its_last_poll_plus_the_poll_interval() {
    let mut world = world();
    let (a, b) = two_members(&mut world);
    world.pass(seconds(20));
    world.touch(&b);
    world.touch(&a);
    world.pass(seconds(30));
    world.touch(&b);
    world.pass(seconds(30) - MS);
    world.heartbeat(&a).unwrap();
    assert_eq!(world.state("g"), "Stable");
    world.pass(MS);
    assert_eq!(world.state("g"), "PreparingRebalance");
    assert_eq!(kind(world.heartbeat(&a)), ErrorKind::UnknownMemberId);
    assert_eq!(kind(world.commit(&a.reference(), &[("t-0", 1)])), ErrorKind::UnknownMemberId);
    assert!(matches!(world.join(&b), Ok(JoinAnswer::Joined(_))));
}

#[test]
fn a_member_that_polls_stays_however_long_it_lives() {
    let mut world = world();
    let (a, b) = two_members(&mut world);
    for _ in 0..1000 {
        world.pass(POLL_INTERVAL - MS);
        world.touch(&a);
        world.touch(&b);
    }
    assert_eq!(world.state("g"), "Stable");
    // One timer per member, however many polls there were.
    assert!(world.groups.timers.len() <= 2);
}

#[test]
fn a_killed_member_is_out_when_its_session_ends() {
    let mut world = world();
    let (a, b) = two_members(&mut world);
    world.pass(seconds(5));
    world.groups.stop_beating("g", a.id(), world.now);
    world.pass(SESSION - MS);
    assert_eq!(world.state("g"), "Stable");
    world.pass(MS);
    assert_eq!(world.state("g"), "PreparingRebalance");
    assert!(matches!(world.join(&b), Ok(JoinAnswer::Joined(_))));
}

#[test]
fn a_killed_member_that_waits_in_a_join_has_its_session_after_the_answer() {
    let mut world = world();
    let (mut a, mut b) = two_members(&mut world);
    let mut c = Client::new("c");
    world.enter(&mut c);
    assert_eq!(world.join(&b).unwrap(), JoinAnswer::Pending);
    world.groups.stop_beating("g", b.id(), world.now);
    world.pass(seconds(30));
    let answer = world.join(&a).unwrap();
    a.took(answer);
    world.joined(&mut c);
    world.joined(&mut b);
    world.sync(&a, &[(&a, "t-0"), (&b, "t-1"), (&c, "t-2")]).unwrap();
    world.sync(&c, &[]).unwrap();
    world.pass(SESSION - MS);
    assert_eq!(world.state("g"), "Stable");
    world.pass(MS);
    assert_eq!(world.state("g"), "PreparingRebalance");
    assert_eq!(kind(world.heartbeat(&b)), ErrorKind::UnknownMemberId);
}

#[test]
fn a_killed_leader_leaves_the_group_to_the_others() {
    let mut world = world();
    let (mut a, mut b) = two_members(&mut world);
    world.join(&a).unwrap();
    let answer = world.join(&b).unwrap();
    b.took(answer);
    world.joined(&mut a);
    world.groups.stop_beating("g", a.id(), world.now);
    assert_eq!(world.sync(&b, &[]).unwrap(), SyncAnswer::Pending);
    world.pass(SESSION);
    assert_eq!(kind(world.poll_sync(&b)), ErrorKind::RebalanceInProgress);
    let answer = world.join(&b).unwrap();
    assert!(b.took(answer).is_leader());
    world.sync(&b, &[(&b, "t-0 t-1 t-2 t-3")]).unwrap();
    assert_eq!(world.state("g"), "Stable");
}

#[test]
fn members_that_do_not_join_again_are_out_at_the_rebalance_timeout() {
    let mut world = world();
    let (a, mut b) = two_members(&mut world);
    let mut c = Client::new("c");
    c.request.rebalance_timeout = seconds(20);
    world.pass(seconds(10));
    assert_eq!(world.enter(&mut c), JoinAnswer::Pending);
    assert_eq!(world.join(&b).unwrap(), JoinAnswer::Pending);
    // It polls, yet it does not join: its handle is live, the rebalance goes on without it.
    for _ in 0..6 {
        world.pass(seconds(10) - MS);
        for member in [&a, &b, &c] {
            world.touch(member);
        }
    }
    assert_eq!(world.state("g"), "PreparingRebalance");
    world.pass(MS * 6);
    // The longest of the members' timeouts counted, and the leader was among those missing.
    assert_eq!(world.state("g"), "CompletingRebalance");
    assert!(world.joined(&mut b).is_leader());
    assert_eq!(kind(world.join(&a)), ErrorKind::UnknownMemberId);
}

#[test]
fn members_that_do_not_sync_are_out_at_the_sync_timeout() {
    let mut world = world();
    let (mut a, mut b) = two_members(&mut world);
    world.join(&a).unwrap();
    let answer = world.join(&b).unwrap();
    b.took(answer);
    world.joined(&mut a);
    world.sync(&a, &[(&a, "t-0"), (&b, "t-1")]).unwrap();
    world.pass(seconds(59));
    world.touch(&a);
    world.touch(&b);
    assert_eq!(world.state("g"), "Stable");
    world.pass(seconds(1));
    assert_eq!(world.state("g"), "PreparingRebalance");
    assert_eq!(kind(world.heartbeat(&b)), ErrorKind::UnknownMemberId);
}

#[test]
fn a_sync_in_time_ends_the_sync_timeout() {
    let mut world = world();
    let (mut a, mut b) = two_members(&mut world);
    world.join(&a).unwrap();
    let answer = world.join(&b).unwrap();
    b.took(answer);
    world.joined(&mut a);
    world.sync(&a, &[(&a, "t-0"), (&b, "t-1")]).unwrap();
    world.pass(seconds(59));
    world.sync(&b, &[]).unwrap();
    for member in [&a, &b] {
        world.touch(member);
    }
    world.pass(seconds(59));
    assert_eq!(world.state("g"), "Stable");
}

#[test]
fn a_member_that_waits_for_the_others_is_not_put_out() {
    let mut world = world();
    let (a, mut b) = two_members(&mut world);
    let mut c = Client::new("c");
    world.enter(&mut c);
    assert_eq!(world.join(&b).unwrap(), JoinAnswer::Pending);
    for _ in 0..5 {
        world.pass(seconds(11));
        world.touch(&a);
    }
    assert_eq!(world.shares("g").len(), 3);
    assert!(matches!(world.join(&a), Ok(JoinAnswer::Joined(_))));
    assert_eq!(world.joined(&mut b).generation_id, 3);
}

#[test]
fn a_newcomer_waits_five_minutes_at_most() {
    let mut world = world();
    let mut a = Client::new("a");
    a.request.rebalance_timeout = seconds(3600);
    world.stable(&mut [(&mut a, "t-0")]);
    let mut b = Client::new("b");
    assert_eq!(world.enter(&mut b), JoinAnswer::Pending);
    world.pass(seconds(300) - MS);
    assert_eq!(world.shares("g").len(), 2);
    world.pass(MS);
    assert_eq!(world.shares("g").len(), 1);
    let group = b.request.group_id.clone();
    let answer = world.groups.poll_join(&group, b.id(), world.now);
    assert_eq!(kind(answer), ErrorKind::UnknownMemberId);
}

#[test]
fn the_first_member_waits_the_initial_delay() {
    let mut world =
        World::new(GroupConfig { initial_rebalance_delay: seconds(3), ..Default::default() });
    let mut a = Client::new("a");
    assert_eq!(world.enter(&mut a), JoinAnswer::Pending);
    world.pass(seconds(3) - MS);
    assert_eq!(world.state("g"), "PreparingRebalance");
    world.pass(MS);
    assert_eq!(world.joined(&mut a).generation_id, 1);
    // Again after the group was empty, but not for a rebalance among members.
    world.leave(&a).unwrap();
    let (mut b, mut c) = (Client::new("b"), Client::new("c"));
    assert_eq!(world.enter(&mut b), JoinAnswer::Pending);
    world.pass(seconds(3));
    assert_eq!(world.joined(&mut b).generation_id, 3);
    assert_eq!(world.enter(&mut c), JoinAnswer::Pending);
    let answer = world.join(&b).unwrap();
    assert_eq!(b.took(answer).generation_id, 4);
}

#[test]
fn each_newcomer_prolongs_the_initial_delay_up_to_the_rebalance_timeout() {
    let mut world =
        World::new(GroupConfig { initial_rebalance_delay: seconds(3), ..Default::default() });
    let mut members: Vec<Client> = (0..3).map(|i| Client::new(&format!("m{i}"))).collect();
    for member in &mut members {
        member.request.rebalance_timeout = seconds(7);
    }
    // The waits are 3, 3 and 1 seconds, each prolonged by a newcomer.
    for member in &mut members {
        assert_eq!(world.enter(member), JoinAnswer::Pending);
        world.pass(seconds(2));
    }
    for member in &members {
        world.touch(member);
    }
    world.pass(seconds(1) - MS);
    assert_eq!(world.state("g"), "PreparingRebalance");
    world.pass(MS);
    assert_eq!(world.joined(&mut members[0]).members.len(), 3);
}

#[test]
fn a_member_that_leaves_during_the_initial_delay_does_not_end_it() {
    let mut world =
        World::new(GroupConfig { initial_rebalance_delay: seconds(3), ..Default::default() });
    let mut a = Client::new("a");
    world.enter(&mut a);
    world.leave(&a).unwrap();
    assert_eq!(world.state("g"), "PreparingRebalance");
    world.pass(seconds(3));
    assert_eq!((world.state("g"), world.generation("g")), ("Empty", 1));
}

#[test]
fn what_falls_due_late_happens_as_if_it_had_been_in_time() {
    let story = |in_time: bool| {
        let mut world = world();
        let (a, b) = two_members(&mut world);
        world.groups.stop_beating("g", a.id(), world.now);
        world.groups.stop_beating("g", b.id(), world.now);
        if in_time {
            world.pass(seconds(500));
        } else {
            world.now = world.now.plus(seconds(500));
            world.run_due();
        }
        (world.generation("g"), world.log)
    };
    let (generation, log) = story(true);
    assert_eq!((generation, log.len()), (3, 3));
    assert_eq!((generation, log), story(false));
}

#[test]
fn nothing_is_due_once_everybody_is_gone() {
    let mut world = world();
    let (a, b) = two_members(&mut world);
    world.leave(&a).unwrap();
    world.leave(&b).unwrap();
    assert_eq!(world.groups.next_deadline(), None);
}

#[test]
fn a_joiner_has_no_heartbeats_until_it_has_read_the_answer() {
    let mut world = world();
    let (mut a, mut b) = two_members(&mut world);
    let mut c = Client::new("c");
    assert_eq!(world.enter(&mut c), JoinAnswer::Pending);
    let answer = world.join(&a).unwrap();
    assert_eq!(answer, JoinAnswer::Pending);
    let answer = world.join(&b).unwrap();
    b.took(answer);
    world.joined(&mut a);
    // Its session runs from the answer on, and while it waited for the others it did not.
    world.pass(SESSION - MS);
    assert_eq!(world.state("g"), "CompletingRebalance");
    world.pass(MS);
    assert_eq!(world.state("g"), "PreparingRebalance");
    assert_eq!(kind(world.groups.poll_join("g", c.id(), world.now)), ErrorKind::UnknownMemberId);
    assert!(matches!(world.join(&a), Ok(JoinAnswer::Pending)));
}
