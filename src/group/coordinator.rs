//! The coordinator of all groups: what a handler gives back, and how it comes true.
//!
//! The caller holds one lock around the coordinator. At every entry it runs what is due
//! ([`GroupCoordinator::expire`]), then the handler, then stores each [`RecordAppend`] of the
//! result and reports it ([`GroupCoordinator::applied`]). An append that failed is dropped: nothing
//! that it describes has happened, and the caller answers with the failure. Memberships are not in
//! the log, so members that left or ran out of time are gone either way; the record that says so is
//! owed then, and goes with the group's next append.

use super::Group;
use super::classic::{ClassicGroup, PendingMember};
use super::events::{Events, GroupEvent};
use super::records::GroupRecord;
use super::replay::RecordPosition;
use super::request::SyncAnswer;
use super::result::{AfterAppend, CoordinatorResult, RecordAppend};
use crate::coordinator::CoordinatorShard;
use crate::coordinator::hash::partition_for;
use crate::coordinator::wire::WireFault;
use crate::error::{Error, ErrorKind, Result};
use crate::record::{BatchFault, RecordBatch};
use crate::time::{Now, TimerQueue};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What the length of a string in a record's key can say.
const GROUP_ID_MAX_BYTES: usize = i16::MAX as usize;

/// The broker's settings for groups.
#[derive(Debug, Clone)]
pub(crate) struct GroupConfig {
    /// `group.min.session.timeout.ms`.
    pub(crate) min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`.
    pub(crate) max_session_timeout: Duration,
    /// `group.initial.rebalance.delay.ms`. At zero the first member's join is answered at once.
    pub(crate) initial_rebalance_delay: Duration,
    /// `group.max.size`.
    pub(crate) max_size: usize,
    /// `offset.metadata.max.bytes`, compared with the length in UTF-16 units.
    pub(crate) offset_metadata_max_bytes: usize,
    /// How many partitions `__consumer_offsets` has. At least 1.
    pub(crate) offsets_topic_partitions: i32,
}

impl Default for GroupConfig {
    fn default() -> Self {
        GroupConfig {
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_secs(1800),
            initial_rebalance_delay: Duration::ZERO,
            max_size: i32::MAX as usize,
            offset_metadata_max_bytes: 4096,
            offsets_topic_partitions: 50,
        }
    }
}

/// What falls due.
#[derive(Debug, Clone)]
pub(super) struct Timer {
    pub(super) group: Arc<str>,
    pub(super) due: Due,
}

#[derive(Debug, Clone)]
pub(super) enum Due {
    /// The rebalance timeout, the initial delay or the sync timeout.
    Phase,
    Member(Arc<str>),
    Pending(Arc<str>),
}

impl Timer {
    pub(super) fn phase(group: Arc<str>) -> Timer {
        Timer { group, due: Due::Phase }
    }
}

/// What a group needs of the coordinator while it changes.
pub(super) struct Context<'a> {
    pub(super) timers: &'a mut TimerQueue<Timer>,
    pub(super) config: &'a GroupConfig,
    pub(super) moved: &'a mut BTreeSet<Arc<str>>,
    pub(super) emptied: &'a mut BTreeSet<Arc<str>>,
    pub(super) events: &'a mut Events,
    pub(super) now: Now,
}

/// All groups of a broker.
#[derive(Debug)]
pub(crate) struct GroupCoordinator {
    pub(super) config: GroupConfig,
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    pub(super) timers: TimerQueue<Timer>,
    pub(super) moved: BTreeSet<Arc<str>>,
    /// Groups that became empty in the present entry.
    emptied: BTreeSet<Arc<str>>,
    events: Events,
    /// Groups with pending offsets, by partition of the offsets topic and producer id.
    pub(super) open_transactions: BTreeMap<(i32, i64), BTreeSet<Arc<str>>>,
}

impl GroupCoordinator {
    /// A coordinator without groups.
    pub(crate) fn new(config: GroupConfig) -> GroupCoordinator {
        GroupCoordinator {
            config,
            groups: BTreeMap::new(),
            timers: TimerQueue::new(),
            moved: BTreeSet::new(),
            emptied: BTreeSet::new(),
            events: Events::default(),
            open_transactions: BTreeMap::new(),
        }
    }

    /// The partition of `__consumer_offsets` that keeps a group.
    pub(crate) fn partition_of(&self, group: &str) -> i32 {
        partition_for(group, self.config.offsets_topic_partitions)
    }

    /// The partitions of `__consumer_offsets` with pending offsets, and the producers that have
    /// them open.
    pub(crate) fn open_transactions(&self) -> Vec<(i32, i64)> {
        self.open_transactions.keys().copied().collect()
    }

    /// When [`expire`](Self::expire) has something to do at the earliest, on the monotonic scale.
    /// May be early, never late.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.timers.next_deadline()
    }

    /// Runs everything that is due at `now`, each at the moment it was due: sessions, polls that
    /// did not come, rebalance and sync timeouts, initial delays.
    pub(crate) fn expire(&mut self, now: Now) -> CoordinatorResult<()> {
        while let Some((key, timer)) = self.timers.pop_due(now.mono) {
            let late = now.mono.saturating_sub(key.deadline());
            let late_ms = i64::try_from(late.as_millis()).unwrap_or(i64::MAX);
            let at = Now {
                wall_ms: now.wall_ms.saturating_sub(late_ms),
                mono: key.deadline().min(now.mono),
            };
            let Some((group, mut context)) = self.enter(&timer.group, at) else { continue };
            match timer.due {
                Due::Phase => group.phase_due(&mut context),
                Due::Member(member) => group.member_due(&member, &mut context),
                Due::Pending(member) => group.pending_due(&member, &mut context),
            }
        }
        self.step(())
    }

    /// The groups that moved since the last call: their members have an answer to fetch or a
    /// rebalance to learn of.
    pub(crate) fn take_moved(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.moved).into_iter().collect()
    }

    /// What happened since the last call, in order.
    pub(crate) fn take_events(&mut self) -> Vec<GroupEvent> {
        self.events.take()
    }

    /// Reports that an append was stored, its first record at `base_offset`.
    pub(crate) fn applied(&mut self, append: RecordAppend, base_offset: i64, now: Now) {
        if let AfterAppend::Stabilise { generation_id, leader_id } = &append.then
            && let Some((group, mut context)) = self.enter(&append.group, now)
        {
            for record in &append.records {
                if let GroupRecord::Group { value: Some(value), .. } = record {
                    group.stabilise(value, *generation_id, leader_id, &mut context);
                }
            }
        }
        let producer_id = append.transaction.map(|stamp| stamp.producer_id);
        for (record, offset) in append.records.into_iter().zip(base_offset..) {
            if let GroupRecord::Group { value: Some(_), .. } = record {
                let group = self.groups.get_mut(&append.group);
                if let Some(classic) = group.and_then(Group::classic_mut) {
                    classic.owed = false;
                }
            } else {
                let at = RecordPosition { partition: append.partition, offset, producer_id };
                self.replay(record, at);
            }
        }
        if let AfterAppend::Create { member_id, session_timeout } = append.then {
            self.create(append.group, member_id, session_timeout, now);
        }
    }

    fn create(&mut self, id: Arc<str>, member: Arc<str>, session_timeout: Duration, now: Now) {
        let group =
            self.groups.entry(id.clone()).or_insert_with(|| Group::new(id.clone(), now.wall_ms));
        let timer = Timer { group: id, due: Due::Pending(member.clone()) };
        let timer = self.timers.insert(now.mono.saturating_add(session_timeout), timer);
        if let Some(classic) = group.classic_mut() {
            classic.pending.insert(member, PendingMember { timer: Some(timer) });
        }
    }

    /// The records of offsets that were clamped, to be stored before the first append of a life,
    /// with what else their groups owe. That a group became empty without a record of it does not
    /// make one necessary: nothing but the group depends on it.
    pub(crate) fn owed(&self) -> Vec<RecordAppend> {
        let partitions = self.config.offsets_topic_partitions;
        let mut appends = Vec::new();
        for group in self.groups.values() {
            let offsets = group.offsets.owed_records(&group.id);
            if !offsets.is_empty() {
                let mut records: Vec<GroupRecord> = group.owed_record().into_iter().collect();
                records.extend(offsets);
                appends.push(RecordAppend {
                    group: group.id.clone(),
                    partition: partition_for(&group.id, partitions),
                    records,
                    transaction: None,
                    then: AfterAppend::Nothing,
                });
            }
        }
        appends
    }

    /// A classic group and what it needs of the coordinator; `None` when there is no such group.
    pub(super) fn enter(
        &mut self,
        group: &str,
        now: Now,
    ) -> Option<(&mut ClassicGroup, Context<'_>)> {
        let group = self.groups.get_mut(group)?.classic_mut()?;
        let context = Context {
            timers: &mut self.timers,
            config: &self.config,
            moved: &mut self.moved,
            emptied: &mut self.emptied,
            events: &mut self.events,
            now,
        };
        Some((group, context))
    }

    /// Wraps up a handler: groups that became empty in it get their record.
    pub(super) fn step<R>(&mut self, response: R) -> CoordinatorResult<R> {
        let mut appends = Vec::new();
        for id in std::mem::take(&mut self.emptied) {
            if let Some(record) = self.groups.get(&id).and_then(Group::owed_record) {
                appends.push(self.append(id, vec![record], AfterAppend::Nothing));
            }
        }
        CoordinatorResult { response, appends }
    }

    pub(super) fn append(
        &self,
        group: Arc<str>,
        records: Vec<GroupRecord>,
        then: AfterAppend,
    ) -> RecordAppend {
        let partition = self.partition_of(&group);
        RecordAppend { group, partition, records, transaction: None, then }
    }
}

/// A refusal that names the group.
pub(super) fn refusal(kind: ErrorKind, group: &str, why: &str) -> Error {
    Error::new(kind, format!("group {group}: {why}"))
}

pub(super) fn unknown_member(group: &str, member: &str) -> Error {
    let why = format!("no member {member:?}; join again");
    refusal(ErrorKind::UnknownMemberId, group, &why)
}

pub(super) fn rebalancing(group: &str) -> Error {
    refusal(ErrorKind::RebalanceInProgress, group, "it is rebalancing; join again")
}

pub(super) fn check_group_id(group: &str) -> Result<()> {
    if group.is_empty() {
        return Err(Error::new(ErrorKind::InvalidGroupId, "a group id has at least one character"));
    }
    check_group_length(group)
}

/// A commit may come from the group without a name, as in Kafka; no name may be too long for its
/// place in a record.
pub(super) fn check_group_length(group: &str) -> Result<()> {
    if group.len() > GROUP_ID_MAX_BYTES {
        let why = format!("a group id has at most {GROUP_ID_MAX_BYTES} bytes");
        return Err(Error::new(ErrorKind::InvalidGroupId, why));
    }
    Ok(())
}

impl SyncAnswer {
    pub(super) fn from_parked(answer: Result<Arc<[u8]>>) -> Result<SyncAnswer> {
        answer.map(SyncAnswer::Assigned)
    }
}

impl CoordinatorShard for GroupCoordinator {
    type Append = RecordAppend;
    type Event = GroupEvent;

    fn partition_of(&self, group: &str) -> i32 {
        GroupCoordinator::partition_of(self, group)
    }

    /// Of a group of the newer protocol the offsets: its members are gone with their process.
    fn state_of(&self, partition: i32) -> Vec<RecordAppend> {
        let kept = self.groups.values().filter(|group| self.partition_of(&group.id) == partition);
        let records = kept.map(|group| {
            let mut records: Vec<GroupRecord> =
                group.classic().map(|classic| classic.present_record()).into_iter().collect();
            records.extend(group.offsets.records(&group.id));
            (group.id.clone(), records)
        });
        records
            .filter(|(_, records)| !records.is_empty())
            .map(|(group, records)| self.append(group, records, AfterAppend::Nothing))
            .collect()
    }

    fn replay_batch(
        &mut self,
        partition: i32,
        batch: &RecordBatch<'_>,
        scratch: &mut Vec<u8>,
    ) -> std::result::Result<Vec<(i64, String)>, BatchFault> {
        let replayed = GroupCoordinator::replay_batch(self, partition, batch, scratch)?;
        let tell = |(offset, fault): (i64, WireFault)| (offset, fault.to_string());
        Ok(replayed.unreadable.into_iter().map(tell).collect())
    }

    fn applied(&mut self, append: RecordAppend, base_offset: i64, now: Now) {
        GroupCoordinator::applied(self, append, base_offset, now);
    }

    fn transaction_ended(
        &mut self,
        partition: i32,
        producer_id: i64,
        committed: bool,
    ) -> Vec<RecordAppend> {
        match self.replay_marker(partition, producer_id, committed) {
            true => self.owed(),
            false => Vec::new(),
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        GroupCoordinator::next_deadline(self)
    }

    fn expire(&mut self, now: Now) -> CoordinatorResult<()> {
        GroupCoordinator::expire(self, now)
    }

    fn take_moved(&mut self) -> Vec<Arc<str>> {
        GroupCoordinator::take_moved(self)
    }

    fn take_events(&mut self) -> Vec<GroupEvent> {
        GroupCoordinator::take_events(self)
    }
}
