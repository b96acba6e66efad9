//! The worked examples of the two assignors, then what must hold for any input.

use super::*;
use proptest::prelude::*;

fn member(id: &str, topics: &[&str]) -> MemberSubscription {
    let (id, instance) = match id.split_once('/') {
        Some((id, instance)) => (id, Some(instance.into())),
        None => (id, None),
    };
    let topics = topics.iter().map(|&topic| topic.into()).collect();
    MemberSubscription {
        member_id: id.into(),
        group_instance_id: instance,
        subscription: Subscription { topics, ..Default::default() },
    }
}

fn counts(topics: &[(&str, i32)]) -> TopicCounts {
    topics.iter().map(|&(topic, count)| (topic.into(), count)).collect()
}

/// Assigns, and compares each member's share (space-separated `topic-partition`) as a set, which
/// is what Kafka promises of the order.
#[track_caller]
fn check(assignor: &str, topics: &[(&str, i32)], members: &[(&str, &[&str])], expected: &[&str]) {
    let assignor = assignor_by_name(assignor).unwrap();
    let members: Vec<_> = members.iter().map(|(id, topics)| member(id, topics)).collect();
    let shares = assignor.assign(&counts(topics), &members);
    assert_eq!(shares.len(), expected.len());
    for ((share, expected), member) in shares.iter().zip(expected).zip(&members) {
        let mut share: Vec<String> = share.partitions.iter().map(ToString::to_string).collect();
        let mut expected: Vec<&str> = expected.split_whitespace().collect();
        share.sort();
        expected.sort();
        assert_eq!(share, expected, "{}", member.member_id);
    }
}

fn range(topics: &[(&str, i32)], members: &[(&str, &[&str])], expected: &[&str]) {
    check("range", topics, members, expected);
}

fn roundrobin(topics: &[(&str, i32)], members: &[(&str, &[&str])], expected: &[&str]) {
    check("roundrobin", topics, members, expected);
}

const T1: &[&str] = &["t1"];
const T12: &[&str] = &["t1", "t2"];
const T123: &[&str] = &["t1", "t2", "t3"];
const T13: &[&str] = &["t1", "t3"];
const T34: &[&str] = &["t3", "t4"];
const T1234: &[&str] = &["t1", "t2", "t3", "t4"];

#[test]
fn range_r1_a_member_beyond_the_partitions_gets_none() {
    range(&[("t1", 1)], &[("c1", T1), ("c2", T1)], &["t1-0", ""]);
}

#[test]
fn range_r2_two_partitions_go_to_two_members() {
    range(&[("t1", 2)], &[("c1", T1), ("c2", T1)], &["t1-0", "t1-1"]);
}

#[test]
fn range_r3_counts_only_the_members_that_subscribe() {
    range(
        &[("t1", 3), ("t2", 2)],
        &[("c1", T1), ("c2", T12), ("c3", T1)],
        &["t1-0", "t1-1 t2-0 t2-1", "t1-2"],
    );
}

#[test]
fn range_r4_cuts_equal_topics_at_the_same_numbers() {
    range(
        &[("t1", 3), ("t2", 3)],
        &[("c1", T12), ("c2", T12)],
        &["t1-0 t1-1 t2-0 t2-1", "t1-2 t2-2"],
    );
}

#[test]
fn range_r5_static_members_go_by_instance_id() {
    range(
        &[("t1", 3), ("t2", 3)],
        &[("consumer-b/instance1", T12), ("consumer-a/instance2", T12)],
        &["t1-0 t1-1 t2-0 t2-1", "t1-2 t2-2"],
    );
}

#[test]
fn range_r6_static_members_come_before_dynamic_ones() {
    range(
        &[("t1", 3), ("t2", 3)],
        &[("consumer-a", T12), ("consumer-b/instance1", T12)],
        &["t1-2 t2-2", "t1-0 t1-1 t2-0 t2-1"],
    );
}

#[test]
fn range_r7_a_replaced_dynamic_member_leaves_the_static_ones_alone() {
    for dynamic in ["consumer4", "consumer5"] {
        range(
            &[("t1", 5), ("t2", 4)],
            &[
                ("consumer1/instance1", T12),
                ("consumer2/instance2", T12),
                ("consumer3/instance3", T12),
                (dynamic, T12),
            ],
            &["t1-0 t1-1 t2-0", "t1-2 t2-1", "t1-3 t2-2", "t1-4 t2-3"],
        );
    }
}

#[test]
fn range_r8_a_static_member_keeps_its_share_under_a_new_member_id() {
    for ids in [["a", "b", "c"], ["z", "y", "x"]] {
        let ids: Vec<String> =
            ids.iter().enumerate().map(|(i, id)| format!("{id}/instance{}", i + 1)).collect();
        range(
            &[("t1", 5), ("t2", 5)],
            &[(&ids[0], T12), (&ids[1], T12), (&ids[2], T12)],
            &["t1-0 t1-1 t2-0 t2-1", "t1-2 t1-3 t2-2 t2-3", "t1-4 t2-4"],
        );
    }
}

#[test]
fn range_r9_three_topics_of_different_size() {
    range(
        &[("t1", 6), ("t2", 7), ("t3", 2)],
        &[("c1", T123), ("c2", T123), ("c3", T123)],
        &["t1-0 t1-1 t2-0 t2-1 t2-2 t3-0", "t1-2 t1-3 t2-3 t2-4 t3-1", "t1-4 t1-5 t2-5 t2-6"],
    );
}

#[test]
fn range_r10_a_member_that_leaves_one_topic_out() {
    range(
        &[("t1", 6), ("t2", 7), ("t3", 2)],
        &[("c1", T123), ("c2", T123), ("c3", T13)],
        &["t1-0 t1-1 t2-0 t2-1 t2-2 t2-3 t3-0", "t1-2 t1-3 t2-4 t2-5 t2-6 t3-1", "t1-4 t1-5"],
    );
}

#[test]
fn range_r11_equal_topics_with_unequal_subscribers() {
    range(
        &[("t1", 5), ("t2", 5), ("t3", 5)],
        &[("c1", T123), ("c2", T123), ("c3", T13)],
        &["t1-0 t1-1 t2-0 t2-1 t2-2 t3-0 t3-1", "t1-2 t1-3 t2-3 t2-4 t3-2 t3-3", "t1-4 t3-4"],
    );
}

#[test]
fn range_r12_two_pairs_that_share_no_topic() {
    range(
        &[("t1", 6), ("t2", 6), ("t3", 2), ("t4", 2)],
        &[("a", T12), ("b", T12), ("c", T34), ("d", T34)],
        &[
            "t1-0 t1-1 t1-2 t2-0 t2-1 t2-2",
            "t1-3 t1-4 t1-5 t2-3 t2-4 t2-5",
            "t3-0 t4-0",
            "t3-1 t4-1",
        ],
    );
}

#[test]
fn range_r13_four_members_of_four_topics() {
    range(
        &[("t1", 6), ("t2", 6), ("t3", 2), ("t4", 2)],
        &[("a", T1234), ("b", T1234), ("c", T1234), ("d", T1234)],
        &[
            "t1-0 t1-1 t2-0 t2-1 t3-0 t4-0",
            "t1-2 t1-3 t2-2 t2-3 t3-1 t4-1",
            "t1-4 t2-4",
            "t1-5 t2-5",
        ],
    );
}

#[test]
fn range_r14_member_ids_are_ordered_as_text() {
    range(
        &[("t1", 10)],
        &[("m10", T1), ("m2", T1), ("m1", T1), ("m3", T1)],
        &["t1-3 t1-4 t1-5", "t1-6 t1-7", "t1-0 t1-1 t1-2", "t1-8 t1-9"],
    );
}

#[test]
fn range_r15_five_members_of_three_partitions() {
    range(
        &[("t1", 3)],
        &[("a", T1), ("b", T1), ("c", T1), ("d", T1), ("e", T1)],
        &["t1-0", "t1-1", "t1-2", "", ""],
    );
}

#[test]
fn range_r16_a_topic_that_does_not_exist_is_skipped() {
    range(&[], &[("c1", T1)], &[""]);
    range(&[("t1", 0)], &[("c1", T1)], &[""]);
    roundrobin(&[], &[("c1", T1)], &[""]);
}

#[test]
fn roundrobin_rr1_passes_over_members_that_do_not_subscribe() {
    roundrobin(
        &[("t1", 3), ("t2", 2)],
        &[("c1", T1), ("c2", T12), ("c3", T1)],
        &["t1-0", "t1-1 t2-0 t2-1", "t1-2"],
    );
}

#[test]
fn roundrobin_rr2_does_not_begin_anew_at_the_next_topic() {
    roundrobin(
        &[("t1", 3), ("t2", 3)],
        &[("c1", T12), ("c2", T12)],
        &["t1-0 t1-2 t2-1", "t1-1 t2-0 t2-2"],
    );
}

#[test]
fn roundrobin_rr3_static_members_go_by_instance_id_and_first() {
    for other in ["consumer-a/instance2", "consumer-a"] {
        roundrobin(
            &[("t1", 3), ("t2", 3)],
            &[(other, T12), ("consumer-b/instance1", T12)],
            &["t1-1 t2-0 t2-2", "t1-0 t1-2 t2-1"],
        );
    }
}

#[test]
fn roundrobin_rr4_a_replaced_dynamic_member_gets_the_same_share() {
    for dynamic in ["c4", "c5"] {
        roundrobin(
            &[("t1", 3), ("t2", 3)],
            &[("c1/i1", T12), ("c2/i2", T12), ("c3/i3", T12), (dynamic, T12)],
            &["t1-0 t2-1", "t1-1 t2-2", "t1-2", "t2-0"],
        );
    }
}

#[test]
fn roundrobin_rr5_three_static_members() {
    roundrobin(
        &[("t1", 5), ("t2", 5)],
        &[("z/i1", T12), ("y/i2", T12), ("x/i3", T12)],
        &["t1-0 t1-3 t2-1 t2-4", "t1-1 t1-4 t2-2", "t1-2 t2-0 t2-3"],
    );
}

#[test]
fn roundrobin_rr6_the_member_of_all_topics_gets_what_nobody_else_may() {
    roundrobin(
        &[("t0", 1), ("t1", 2), ("t2", 3)],
        &[("C0", &["t0"]), ("C1", &["t0", "t1"]), ("C2", &["t0", "t1", "t2"])],
        &["t0-0", "t1-0", "t1-1 t2-0 t2-1 t2-2"],
    );
}

#[test]
fn roundrobin_rr7_unequal_subscriptions_can_leave_a_member_idle() {
    let all: &[&str] = &["t1", "t2", "t3", "t4", "t5"];
    let odd: &[&str] = &["t1", "t3", "t5"];
    roundrobin(
        &[("t1", 2), ("t2", 1), ("t3", 2), ("t4", 1), ("t5", 2)],
        &[("1", all), ("2", odd), ("3", odd), ("4", all)],
        &["t1-0 t3-0 t5-0", "t1-1 t3-1 t5-1", "", "t2-0 t4-0"],
    );
}

#[test]
fn roundrobin_rr8_topics_are_ordered_as_text() {
    let all: &[&str] = &["t10", "t2", "t1"];
    roundrobin(
        &[("t10", 1), ("t2", 2), ("t1", 2)],
        &[("x", all), ("y", all)],
        &["t1-0 t10-0 t2-1", "t1-1 t2-0"],
    );
}

#[test]
fn roundrobin_rr9_five_members_of_four_partitions() {
    let both: &[&str] = &["t", "u"];
    roundrobin(
        &[("t", 3), ("u", 1)],
        &[("a", both), ("b", both), ("c", both), ("d", both), ("e", both)],
        &["t-0", "t-1", "t-2", "u-0", ""],
    );
}

#[test]
fn members_are_ordered_by_utf_16_units_as_in_java() {
    // U+1F600 begins with the unit d83d, which stands before U+FF21, though its bytes are larger.
    let (emoji, wide) = ("\u{1f600}", "\u{ff21}");
    assert!(emoji > wide);
    range(&[("t1", 1)], &[(wide, T1), (emoji, T1)], &["", "t1-0"]);
}

#[test]
fn only_the_built_in_names_are_known() {
    for name in ["range", "roundrobin"] {
        assert_eq!(assignor_by_name(name).unwrap().name(), name);
    }
    assert!(assignor_by_name("sticky").is_none());
}

/// The circle as the definition has it: one step per member, for comparison.
fn dealt_one_by_one(topics: &TopicCounts, members: &[MemberSubscription]) -> Vec<Assignment> {
    let order = dealing_order(members);
    let mut shares = vec![Vec::new(); members.len()];
    let mut cursor = 0;
    for (topic, &count) in topics {
        let subscribes =
            |i: usize| members[order[i % order.len()]].subscription.topics.contains(topic);
        if !(0..order.len()).any(subscribes) {
            continue;
        }
        for partition in 0..count {
            while !subscribes(cursor) {
                cursor += 1;
            }
            shares[order[cursor % order.len()]].push(TopicPartition::new(topic.clone(), partition));
            cursor += 1;
        }
    }
    assignments(shares)
}

fn groups() -> impl Strategy<Value = (TopicCounts, Vec<MemberSubscription>)> {
    let topics = proptest::collection::btree_map("[a-f]", 0..9i32, 0..6);
    let drawn = (proptest::collection::btree_set("[a-g]", 0..7), proptest::option::of(0..50u8));
    (topics, proptest::collection::vec(drawn, 1..9)).prop_map(|(topics, members)| {
        let topics = topics.into_iter().map(|(topic, count)| (topic.into(), count)).collect();
        let members = members.into_iter().enumerate().map(|(i, (topics, instance))| {
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            let id = match instance {
                Some(instance) => format!("m{i}/i{instance}-{i}"),
                None => format!("m{i}"),
            };
            member(&id, &topics)
        });
        (topics, members.collect())
    })
}

proptest! {
    #[test]
    fn every_partition_goes_to_exactly_one_of_its_subscribers((topics, members) in groups()) {
        for name in ["range", "roundrobin"] {
            let shares = assignor_by_name(name).unwrap().assign(&topics, &members);
            prop_assert_eq!(shares.len(), members.len());
            let mut owners: BTreeMap<TopicPartition, usize> = BTreeMap::new();
            for (share, member) in shares.iter().zip(&members) {
                for partition in &share.partitions {
                    prop_assert!(
                        member.subscription.topics.contains(partition.topic_shared()));
                    *owners.entry(partition.clone()).or_default() += 1;
                }
            }
            for (topic, &count) in &topics {
                let wanted = members.iter().any(|m| m.subscription.topics.contains(topic));
                for partition in 0..count {
                    let partition = TopicPartition::new(topic.clone(), partition);
                    prop_assert_eq!(owners.remove(&partition), wanted.then_some(1));
                }
            }
            prop_assert!(owners.is_empty());
        }
    }

    #[test]
    fn roundrobin_is_the_circle_of_its_definition((topics, members) in groups()) {
        let quick = assignor_by_name("roundrobin").unwrap().assign(&topics, &members);
        prop_assert_eq!(quick, dealt_one_by_one(&topics, &members));
    }
}

/// An assignor that deals nothing.
#[derive(Debug)]
struct Supports(&'static str, &'static [RebalanceProtocol]);

impl Assignor for Supports {
    fn name(&self) -> &str {
        self.0
    }

    fn protocols(&self) -> &[RebalanceProtocol] {
        self.1
    }

    fn assign(&self, _: &TopicCounts, members: &[MemberSubscription]) -> Vec<Assignment> {
        members.iter().map(|_| Assignment::default()).collect()
    }
}

#[test]
fn members_rebalance_by_the_highest_protocol_that_all_their_assignors_support() {
    use RebalanceProtocol::{Cooperative, Eager};
    let protocol = |supported: &[&'static [RebalanceProtocol]]| {
        let assignors = supported.iter().map(|protocols| {
            let assignor: Arc<dyn Assignor> = Arc::new(Supports("toy", protocols));
            assignor
        });
        assignors.collect::<Assignors>().protocol()
    };
    assert_eq!(Assignors::built_in(&["range", "roundrobin"]).protocol(), Some(Eager));
    assert_eq!(protocol(&[&[Eager, Cooperative]]), Some(Cooperative));
    assert_eq!(protocol(&[&[Eager, Cooperative], &[Eager]]), Some(Eager));
    assert_eq!(protocol(&[&[Cooperative], &[Eager]]), None);
    assert_eq!(protocol(&[]), None);
}
