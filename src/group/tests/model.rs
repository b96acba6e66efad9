//! Random lives of groups against what must always hold: no partition has two owners in one
//! generation, all are owned when a group is stable, only the owner's commit in the present
//! generation is accepted, and the records give back offsets and groups.

use crate::coordinator::EncodedRecords;
use crate::error::ErrorKind;
use crate::group::assignor::{MemberSubscription, TopicCounts, assignor_by_name};
use crate::group::protocol::{Assignment, Subscription};
use crate::group::*;
use crate::time::Now;
use crate::topic::{TopicId, TopicPartition};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const PARTITIONS: i32 = 4;
const MEMBERS: usize = 5;
const GROUPS: [&str; 3] = ["g0", "g1", "g2"];
const SESSION: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
enum Op {
    /// A turn of a handle: at most one exchange with the coordinator.
    Turn(usize),
    Commit(usize, i32, i64),
    /// A commit in a generation that is over.
    LateCommit(usize, i32),
    Subscribe(usize, Vec<&'static str>),
    Leave(usize),
    Kill(usize),
    Pass(u64),
    Restart,
    FailAppends(bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let handle = 0..MEMBERS * GROUPS.len();
    let topics = proptest::sample::subsequence(vec!["t", "u"], 1..=2);
    let op = prop_oneof![
        60 => handle.clone().prop_map(Op::Turn),
        10 => (handle.clone(), 0..PARTITIONS, 0..1000i64).prop_map(|(h, p, o)| Op::Commit(h, p, o)),
        3 => (handle.clone(), 0..PARTITIONS).prop_map(|(h, p)| Op::LateCommit(h, p)),
        2 => (handle.clone(), topics).prop_map(|(h, t)| Op::Subscribe(h, t)),
        3 => handle.clone().prop_map(Op::Leave),
        2 => handle.prop_map(Op::Kill),
        12 => (1..40_000u64).prop_map(Op::Pass),
        1 => Just(Op::Restart),
        2 => any::<bool>().prop_map(Op::FailAppends),
    ];
    proptest::collection::vec(op, 1..400)
}

/// What a handle does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Out,
    Joining,
    /// Has its generation, and the members if it leads.
    Syncing,
    Synced,
    Stable,
}

#[derive(Debug, Clone)]
struct Handle {
    group: Arc<str>,
    name: String,
    topics: Vec<Arc<str>>,
    member_id: Arc<str>,
    generation: i32,
    phase: Phase,
    plan: Vec<(Arc<str>, Arc<[u8]>)>,
    owned: Vec<TopicPartition>,
    last_poll: Option<Duration>,
}

impl Handle {
    fn reset(&mut self) {
        self.member_id = "".into();
        self.generation = -1;
        self.phase = Phase::Out;
        self.owned.clear();
    }

    fn reference(&self) -> MemberRef {
        MemberRef {
            group_id: self.group.clone(),
            member_id: self.member_id.clone(),
            group_instance_id: None,
            generation_id: self.generation,
        }
    }
}

struct Model {
    groups: GroupCoordinator,
    now: Now,
    log: Vec<GroupRecord>,
    refuse: bool,
    seed: u64,
    handles: Vec<Handle>,
    /// The last accepted commit.
    expected: BTreeMap<(Arc<str>, TopicPartition), i64>,
    /// Who was given what, by group and generation.
    history: BTreeMap<(Arc<str>, i32), BTreeMap<TopicPartition, Arc<str>>>,
}

fn topics(name: &str) -> Option<TopicShape> {
    let id = TopicId([name.as_bytes()[0]; 16]);
    matches!(name, "t" | "u").then_some(TopicShape { partitions: PARTITIONS, id })
}

impl Model {
    fn new() -> Model {
        let handle = |i: usize| Handle {
            group: GROUPS[i % GROUPS.len()].into(),
            name: format!("m{i}"),
            topics: vec!["t".into()],
            member_id: "".into(),
            generation: -1,
            phase: Phase::Out,
            plan: Vec::new(),
            owned: Vec::new(),
            last_poll: None,
        };
        Model {
            groups: GroupCoordinator::new(GroupConfig::default()),
            now: Now { wall_ms: 1_800_000_000_000, mono: Duration::ZERO },
            log: Vec::new(),
            refuse: false,
            seed: 1,
            handles: (0..MEMBERS * GROUPS.len()).map(handle).collect(),
            expected: BTreeMap::new(),
            history: BTreeMap::new(),
        }
    }

    /// Stores the appends of a step; false when one was refused.
    fn store(&mut self, appends: Vec<RecordAppend>) -> bool {
        for append in appends {
            if self.refuse {
                return false;
            }
            let base = self.log.len() as i64;
            self.log.extend(append.records.iter().cloned());
            self.groups.applied(append, base, self.now);
        }
        true
    }

    fn expire(&mut self) {
        let step = self.groups.expire(self.now);
        self.store(step.appends);
        assert!(self.groups.next_deadline().is_none_or(|due| due > self.now.mono));
    }

    fn turn(&mut self, i: usize) {
        let now = self.now;
        let mut handle = self.handles[i].clone();
        if handle.last_poll.is_some_and(|last| last + POLL_INTERVAL <= now.mono) {
            // The handle itself has left.
            handle.reset();
        }
        handle.last_poll = Some(now.mono);
        let deadline = now.mono + POLL_INTERVAL;
        self.groups.touch(&handle.group, &handle.member_id, deadline, now);
        match handle.phase {
            Phase::Out => self.join(&mut handle),
            Phase::Joining => {
                let answer = self.groups.poll_join(&handle.group, &handle.member_id, now);
                self.took_join(&mut handle, answer);
            }
            Phase::Syncing => self.sync(&mut handle),
            Phase::Synced => {
                let answer = self.groups.poll_sync(&handle.group, &handle.member_id, now);
                self.took_sync(&mut handle, answer);
            }
            Phase::Stable => match self.groups.heartbeat(&handle.reference(), None, now) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::RebalanceInProgress => {
                    handle.phase = Phase::Out;
                }
                Err(_) => handle.reset(),
            },
        }
        self.handles[i] = handle;
    }

    fn join(&mut self, handle: &mut Handle) {
        let metadata: Arc<[u8]> = Subscription {
            topics: handle.topics.clone(),
            owned: handle.owned.clone(),
            generation_id: handle.generation,
            ..Default::default()
        }
        .encode()
        .into();
        let protocols = ["range", "roundrobin"]
            .map(|name| Protocol { name: name.into(), metadata: metadata.clone() });
        let request = JoinRequest {
            group_id: handle.group.clone(),
            member_id: handle.member_id.clone(),
            group_instance_id: None,
            client_id: handle.name.as_str().into(),
            client_host: "/127.0.0.1".into(),
            session_timeout: SESSION,
            rebalance_timeout: POLL_INTERVAL,
            protocol_type: "consumer".into(),
            protocols: protocols.into(),
        };
        let seed = &mut self.seed;
        let step = self.groups.join(&request, self.now, &mut || {
            *seed += 1;
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        if self.store(step.appends) {
            self.took_join(handle, step.response);
        }
    }

    fn took_join(&mut self, handle: &mut Handle, answer: crate::Result<JoinAnswer>) {
        match answer {
            Ok(JoinAnswer::MemberIdRequired(id)) => handle.member_id = id,
            Ok(JoinAnswer::Pending) => handle.phase = Phase::Joining,
            Ok(JoinAnswer::Joined(joined)) => {
                handle.generation = joined.generation_id;
                handle.phase = Phase::Syncing;
                handle.owned.clear();
                handle.plan = if joined.is_leader() { plan(&joined) } else { Vec::new() };
            }
            Err(error) if error.kind() == ErrorKind::RebalanceInProgress => {
                handle.phase = Phase::Out;
            }
            Err(_) => handle.reset(),
        }
    }

    fn sync(&mut self, handle: &mut Handle) {
        let request = SyncRequest {
            member: handle.reference(),
            protocol_type: Some("consumer".into()),
            protocol: None,
            assignments: handle.plan.clone(),
        };
        let step = self.groups.sync(&request, self.now);
        if self.store(step.appends) {
            self.took_sync(handle, step.response);
        }
    }

    fn took_sync(&mut self, handle: &mut Handle, answer: crate::Result<SyncAnswer>) {
        match answer {
            Ok(SyncAnswer::Pending) => handle.phase = Phase::Synced,
            Ok(SyncAnswer::Assigned(bytes)) => {
                handle.owned = Assignment::decode(&bytes).unwrap().partitions;
                handle.phase = Phase::Stable;
                let key = (handle.group.clone(), handle.generation);
                let owners = self.history.entry(key).or_default();
                for partition in &handle.owned {
                    let before = owners.insert(partition.clone(), handle.member_id.clone());
                    assert!(
                        before.is_none_or(|before| before == handle.member_id),
                        "{partition} has two owners in generation {}",
                        handle.generation
                    );
                }
            }
            Err(error) if error.kind() == ErrorKind::RebalanceInProgress => {
                handle.phase = Phase::Out;
            }
            Err(_) => handle.reset(),
        }
    }

    fn commit(&mut self, member: &MemberRef, partition: &TopicPartition, offset: i64) -> bool {
        let offsets = [OffsetToCommit {
            partition: partition.clone(),
            offset,
            leader_epoch: -1,
            metadata: "".into(),
        }];
        let step = self.groups.commit(member, &offsets, &topics, self.now);
        let stored = self.store(step.appends);
        stored && step.response.is_ok_and(|outcomes| outcomes[0].1.is_ok())
    }

    /// The handle commits, if it believes that it owns the partition.
    fn commit_owned(&mut self, i: usize, partition: i32, offset: i64) {
        let handle = self.handles[i].clone();
        let partition = TopicPartition::new("t", partition);
        if handle.phase != Phase::Stable || !handle.owned.contains(&partition) {
            return;
        }
        if self.commit(&handle.reference(), &partition, offset) {
            let described = self.groups.describe(&handle.group, &|_| None).unwrap();
            assert_eq!(described.generation_id, handle.generation);
            let owners = described.members.iter().filter(|m| m.assignment.contains(&partition));
            let owners: Vec<&str> = owners.map(|m| &*m.member_id).collect();
            assert_eq!(owners, [&*handle.member_id]);
            self.expected.insert((handle.group.clone(), partition), offset);
        }
    }

    fn late_commit(&mut self, i: usize, partition: i32) {
        let handle = &self.handles[i];
        if handle.generation < 1 {
            return;
        }
        let mut member = handle.reference();
        member.generation_id -= 1;
        assert!(!self.commit(&member, &TopicPartition::new("t", partition), 5000));
    }

    fn restart(&mut self) {
        let before = describe_all(&self.groups);
        let mut replayed = GroupCoordinator::new(GroupConfig::default());
        replay_all(&mut replayed, &self.log);
        for group in GROUPS {
            assert_eq!(replayed.list_offsets(group), self.groups.list_offsets(group));
        }
        replayed.begin_life(self.now);
        for (group, described) in describe_all(&replayed) {
            assert_eq!((described.state, described.members.len()), ("Empty", 0));
            let lived = &before[&group];
            assert!(described.generation_id <= lived.generation_id + 1);
        }
        self.groups = replayed;
        for handle in &mut self.handles {
            handle.reset();
            handle.last_poll = None;
        }
        // Generations of which nothing was stored may come again with other members.
        self.history.clear();
    }

    fn check(&mut self) {
        for group in GROUPS {
            let stored: BTreeMap<TopicPartition, i64> = self
                .groups
                .list_offsets(group)
                .into_iter()
                .map(|(partition, committed)| (partition, committed.offset))
                .collect();
            let expected = self.expected.iter().filter(|((g, _), _)| &**g == group);
            let expected = expected.map(|((_, tp), offset)| (tp.clone(), *offset)).collect();
            assert_eq!(stored, expected);
            let Ok(described) = self.groups.describe(group, &|_| None) else { continue };
            if described.state != "Stable" {
                continue;
            }
            let mut owned = BTreeSet::new();
            for partition in described.members.iter().flat_map(|m| &m.assignment) {
                assert!(owned.insert(partition.clone()), "{partition} has two owners");
            }
            let subscribed =
                self.groups.groups[group].classic().unwrap().subscribed.clone().unwrap();
            let all = subscribed
                .iter()
                .flat_map(|topic| (0..PARTITIONS).map(|p| TopicPartition::new(topic.clone(), p)));
            assert_eq!(owned, all.collect());
        }
    }

    /// With everybody polling and nothing else happening, every group comes to rest.
    fn settle(&mut self) {
        self.refuse = false;
        for _ in 0..8 {
            for i in 0..self.handles.len() {
                self.now = self.now.plus(Duration::from_millis(1));
                self.expire();
                self.turn(i);
            }
        }
        self.now = self.now.plus(POLL_INTERVAL.max(SESSION) - Duration::from_secs(1));
        for _ in 0..12 {
            for i in 0..self.handles.len() {
                self.expire();
                self.turn(i);
            }
        }
        self.now = self.now.plus(Duration::from_secs(2));
        for _ in 0..12 {
            for i in 0..self.handles.len() {
                self.expire();
                self.turn(i);
            }
        }
        for group in GROUPS {
            let described = self.groups.describe(group, &|_| None).unwrap();
            assert_eq!((described.state, described.members.len()), ("Stable", MEMBERS));
        }
        assert!(self.handles.iter().all(|handle| handle.phase == Phase::Stable));
    }
}

/// The leader's work.
fn plan(joined: &Joined) -> Vec<(Arc<str>, Arc<[u8]>)> {
    let counts: TopicCounts = ["t", "u"].map(|topic| (topic.into(), PARTITIONS)).into();
    let members: Vec<MemberSubscription> = joined
        .members
        .iter()
        .map(|member| MemberSubscription {
            member_id: member.member_id.clone(),
            group_instance_id: None,
            subscription: Subscription::decode(&member.metadata).unwrap(),
        })
        .collect();
    let shares = assignor_by_name(&joined.protocol).unwrap().assign(&counts, &members);
    let ids = members.into_iter().map(|member| member.member_id);
    ids.zip(shares.iter().map(|share| Arc::from(share.encode()))).collect()
}

fn describe_all(groups: &GroupCoordinator) -> BTreeMap<Arc<str>, DescribedGroup> {
    let described = groups.list().into_iter().map(|listed| {
        let described = groups.describe(&listed.group_id, &|_| None).unwrap();
        (listed.group_id, described)
    });
    described.collect()
}

fn replay_all(groups: &mut GroupCoordinator, log: &[GroupRecord]) {
    let mut encoded = EncodedRecords::default();
    log.iter().for_each(|record| record.encode(&mut encoded));
    for ((key, value), offset) in encoded.iter().zip(0..) {
        let record = GroupRecord::decode(key, value).unwrap();
        let partition = groups.partition_of(record.group().unwrap());
        groups.replay(record, RecordPosition { partition, offset, producer_id: None });
    }
}

/// A group that is stable, or whose every member left, is what its records say.
fn check_replay(model: &Model) {
    let mut replayed = GroupCoordinator::new(GroupConfig::default());
    replay_all(&mut replayed, &model.log);
    let (lived, stored) = (describe_all(&model.groups), describe_all(&replayed));
    for (id, lived) in lived {
        if lived.state == "Stable" {
            assert_eq!(stored[&id], lived);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn groups_keep_their_promises_through_random_lives(ops in ops()) {
        let mut model = Model::new();
        for op in ops {
            model.expire();
            match op {
                Op::Turn(i) => model.turn(i),
                Op::Commit(i, partition, offset) => model.commit_owned(i, partition, offset),
                Op::LateCommit(i, partition) => model.late_commit(i, partition),
                Op::Subscribe(i, topics) => {
                    let handle = &mut model.handles[i];
                    handle.topics = topics.into_iter().map(Into::into).collect();
                    if handle.phase == Phase::Stable {
                        handle.phase = Phase::Out;
                    }
                }
                Op::Leave(i) => {
                    let leaving = LeavingMember {
                        member_id: model.handles[i].member_id.clone(),
                        group_instance_id: None,
                    };
                    let group = model.handles[i].group.clone();
                    let step = model.groups.leave(&group, &[leaving], model.now);
                    model.store(step.appends);
                    model.handles[i].reset();
                    model.handles[i].last_poll = None;
                }
                Op::Kill(i) => {
                    let handle = model.handles[i].clone();
                    model.groups.stop_beating(&handle.group, &handle.member_id, model.now);
                    model.handles[i].reset();
                    model.handles[i].last_poll = None;
                }
                Op::Pass(ms) => model.now = model.now.plus(Duration::from_millis(ms)),
                Op::Restart => model.restart(),
                Op::FailAppends(fail) => model.refuse = fail,
            }
            model.check();
        }
        check_replay(&model);
        model.settle();
        model.check();
        check_replay(&model);
    }
}
