//! Behaviours of the coordinator, under a clock stepped by hand and a log that can refuse.

mod liveness;
mod membership;
mod model;
mod offsets;
mod stored;

use super::*;
use crate::error::{Error, ErrorKind, Result};
use crate::group::protocol::{Assignment, Subscription};
use crate::time::Now;
use crate::topic::{TopicId, TopicPartition};
use std::sync::Arc;
use std::time::Duration;

pub(super) const START_MS: i64 = 1_800_000_000_000;
pub(super) const SESSION: Duration = Duration::from_secs(10);
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(60);

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn tp(partition: &str) -> TopicPartition {
    TopicPartition::parse(partition).unwrap()
}

/// Topics `t` with four partitions and `u` with one exist.
pub(super) fn topics(name: &str) -> Option<TopicShape> {
    match name {
        "t" => Some(TopicShape { partitions: 4, id: TopicId([1; 16]) }),
        "u" => Some(TopicShape { partitions: 1, id: TopicId([2; 16]) }),
        _ => None,
    }
}

#[track_caller]
pub(super) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// A coordinator, its clock and its log.
pub(super) struct World {
    pub(super) groups: GroupCoordinator,
    pub(super) now: Now,
    pub(super) log: Vec<GroupRecord>,
    /// Appends fail.
    pub(super) refuse: bool,
    seed: u64,
}

impl World {
    pub(super) fn new(config: GroupConfig) -> World {
        World {
            groups: GroupCoordinator::new(config),
            now: Now { wall_ms: START_MS, mono: seconds(100) },
            log: Vec::new(),
            refuse: false,
            seed: 0,
        }
    }

    pub(super) fn store<R>(&mut self, step: CoordinatorResult<Result<R>>) -> Result<R> {
        self.store_appends(step.appends)?;
        step.response
    }

    fn store_appends(&mut self, appends: Vec<RecordAppend>) -> Result<()> {
        for append in appends {
            assert_eq!(append.partition, self.groups.partition_of(&append.group));
            assert!(!append.records.is_empty());
            if self.refuse {
                return Err(Error::new(ErrorKind::StorageFull, "refused by the test"));
            }
            let base = self.log.len() as i64;
            self.log.extend(append.records.iter().cloned());
            self.groups.applied(append, base, self.now);
        }
        Ok(())
    }

    /// Lets time pass, running what falls due at its moment.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while let Some(due) = self.groups.next_deadline().filter(|due| *due <= end.mono) {
            self.now = self.now.plus(due.saturating_sub(self.now.mono));
            self.run_due();
        }
        self.now = end;
    }

    pub(super) fn run_due(&mut self) {
        let step = self.groups.expire(self.now);
        // A failed append is the caller's to report; memberships have changed all the same.
        drop(self.store_appends(step.appends));
    }

    pub(super) fn join(&mut self, member: &Client) -> Result<JoinAnswer> {
        let seed = &mut self.seed;
        let step = self.groups.join(&member.request, self.now, &mut || {
            *seed += 1;
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        self.store(step)
    }

    /// Asks for a member id and keeps it; joins once with it.
    pub(super) fn enter(&mut self, member: &mut Client) -> JoinAnswer {
        match self.join(member).unwrap() {
            JoinAnswer::MemberIdRequired(id) => member.request.member_id = id,
            other => panic!("{other:?}"),
        }
        self.join(member).unwrap()
    }

    pub(super) fn joined(&mut self, member: &mut Client) -> Joined {
        let answer = self.groups.poll_join(&member.request.group_id, member.id(), self.now);
        member.took(answer.unwrap())
    }

    pub(super) fn sync(
        &mut self,
        member: &Client,
        shares: &[(&Client, &str)],
    ) -> Result<SyncAnswer> {
        let assignments = shares.iter().map(|(member, share)| {
            let partitions = share.split_whitespace().map(tp).collect();
            let bytes = Assignment { partitions, user_data: None }.encode();
            (member.request.member_id.clone(), bytes.into())
        });
        let request = SyncRequest {
            member: member.reference(),
            protocol_type: Some("consumer".into()),
            protocol: None,
            assignments: assignments.collect(),
        };
        let step = self.groups.sync(&request, self.now);
        self.store(step)
    }

    pub(super) fn poll_sync(&mut self, member: &Client) -> Result<SyncAnswer> {
        self.groups.poll_sync(&member.request.group_id, member.id(), self.now)
    }

    pub(super) fn heartbeat(&mut self, member: &Client) -> Result<()> {
        self.groups.heartbeat(&member.reference(), None, self.now)
    }

    /// A poll of the handle.
    pub(super) fn touch(&mut self, member: &Client) {
        let deadline = self.now.mono + member.request.rebalance_timeout;
        let group = member.request.group_id.clone();
        self.groups.touch(&group, member.id(), deadline, self.now);
    }

    pub(super) fn leave(&mut self, member: &Client) -> Result<()> {
        let leaving =
            LeavingMember { member_id: member.request.member_id.clone(), group_instance_id: None };
        let step = self.groups.leave(&member.request.group_id, &[leaving], self.now);
        self.store(step)?.remove(0)
    }

    pub(super) fn commit(&mut self, member: &MemberRef, offsets: &[(&str, i64)]) -> Result<()> {
        let offsets: Vec<OffsetToCommit> =
            offsets.iter().map(|&(partition, offset)| commit_of(partition, offset, "")).collect();
        let step = self.groups.commit(member, &offsets, &topics, self.now);
        for (_, outcome) in self.store(step)? {
            outcome?;
        }
        Ok(())
    }

    pub(super) fn committed(&self, group: &str, partition: &str) -> Option<i64> {
        let mut found = self.groups.committed(group, &[tp(partition)], false);
        found.remove(0).unwrap().map(|committed| committed.offset)
    }

    pub(super) fn state(&self, group: &str) -> &'static str {
        self.groups.describe(group, &|_| None).map_or("absent", |group| group.state)
    }

    pub(super) fn generation(&self, group: &str) -> i32 {
        self.groups.describe(group, &|_| None).unwrap().generation_id
    }

    /// Member ids with their shares.
    pub(super) fn shares(&self, group: &str) -> Vec<(String, String)> {
        let described = self.groups.describe(group, &|_| None).unwrap();
        let shares = described.members.iter().map(|member| {
            let share: Vec<String> = member.assignment.iter().map(ToString::to_string).collect();
            (member.client_id.to_string(), share.join(" "))
        });
        shares.collect()
    }

    /// A stable group `g` whose members have the given shares; the first one leads.
    pub(super) fn stable(&mut self, members: &mut [(&mut Client, &str)]) {
        let shares: Vec<(String, String)> = members
            .iter()
            .map(|(member, share)| (member.request.client_id.to_string(), (*share).to_owned()))
            .collect();
        for round in 0..members.len() {
            self.enter(members[round].0);
            // The newcomer's join makes the others join again.
            for (member, _) in &mut members[..round] {
                let answer = self.join(member).unwrap();
                assert!(matches!(answer, JoinAnswer::Pending | JoinAnswer::Joined(_)));
                if let JoinAnswer::Joined(joined) = answer {
                    member.generation = joined.generation_id;
                }
            }
        }
        let generation = self.generation("g");
        for (member, _) in members.iter_mut() {
            member.generation = generation;
        }
        for (member, _) in &members[1..] {
            assert_eq!(self.sync(member, &[]).unwrap(), SyncAnswer::Pending);
        }
        let plan: Vec<(&Client, &str)> = members.iter().map(|(m, share)| (&**m, *share)).collect();
        self.sync(plan[0].0, &plan).unwrap();
        for (member, _) in &members[1..] {
            assert!(matches!(self.poll_sync(member), Ok(SyncAnswer::Assigned(_))));
        }
        assert_eq!(self.shares("g"), shares);
        assert_eq!(self.state("g"), "Stable");
    }

    /// What a restart would know: the log replayed into a new coordinator.
    pub(super) fn reopened(&self) -> World {
        let mut world = World::new(self.groups.config.clone());
        world.now = self.now;
        for (record, offset) in self.log.iter().zip(0..) {
            let group = record.group().unwrap();
            let partition = world.groups.partition_of(group);
            let (mut key, mut value) = (Vec::new(), Vec::new());
            record.encode_key(&mut key);
            let value = record.encode_value(&mut value).then_some(&value[..]);
            let read = GroupRecord::decode(&key, value).unwrap();
            assert_eq!(read, *record);
            world.groups.replay(read, RecordPosition { partition, offset, producer_id: None });
        }
        world.log = self.log.clone();
        world
    }
}

pub(super) fn commit_of(partition: &str, offset: i64, metadata: &str) -> OffsetToCommit {
    OffsetToCommit { partition: tp(partition), offset, leader_epoch: -1, metadata: metadata.into() }
}

/// A member's side of the exchange.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) request: JoinRequest,
    pub(super) generation: i32,
}

impl Client {
    /// A consumer of topic `t` in group `g`, with the assignor `range`.
    pub(super) fn new(name: &str) -> Client {
        Client::with(name, &["range"], &["t"])
    }

    pub(super) fn with(name: &str, protocols: &[&str], topics: &[&str]) -> Client {
        let topics: Vec<Arc<str>> = topics.iter().map(|&topic| topic.into()).collect();
        let metadata: Arc<[u8]> = Subscription { topics, ..Default::default() }.encode().into();
        let protocols = protocols
            .iter()
            .map(|&name| Protocol { name: name.into(), metadata: metadata.clone() })
            .collect();
        Client {
            request: JoinRequest {
                group_id: "g".into(),
                member_id: "".into(),
                group_instance_id: None,
                client_id: name.into(),
                client_host: "/127.0.0.1".into(),
                session_timeout: SESSION,
                rebalance_timeout: POLL_INTERVAL,
                protocol_type: "consumer".into(),
                protocols,
            },
            generation: -1,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.request.member_id
    }

    pub(super) fn reference(&self) -> MemberRef {
        MemberRef {
            group_id: self.request.group_id.clone(),
            member_id: self.request.member_id.clone(),
            group_instance_id: None,
            generation_id: self.generation,
        }
    }

    #[track_caller]
    pub(super) fn took(&mut self, answer: JoinAnswer) -> Joined {
        match answer {
            JoinAnswer::Joined(joined) => {
                self.generation = joined.generation_id;
                joined
            }
            other => panic!("{}: {other:?}", self.request.client_id),
        }
    }
}

/// Who commits without being a member.
pub(super) fn nobody(group: &str) -> MemberRef {
    MemberRef {
        group_id: group.into(),
        member_id: "".into(),
        group_instance_id: None,
        generation_id: -1,
    }
}
