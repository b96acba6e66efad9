//! Transactions from the request to the marker, over the handle that producers use: what they
//! commit is seen at once, what they abort never, and whoever was replaced stores nothing more.

use crate::coordinator::hash::partition_for;
use crate::group::{MemberRef, OffsetToCommit};
use crate::log::{AppendOptions, NEXT_SEQUENCE, ProducerStamp};
use crate::record::RecordInput;
use crate::storage::faults::{Call, Failure, Rule};
use crate::storage::{Fault, Heap, Sim, Storage};
use crate::sync::Arc;
use crate::time::VirtualClock;
use crate::topic::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC, TopicPartition};
use crate::transaction::{ProducerIdentity, TransactionState};
use crate::{
    Broker, BrokerConfig, BrokerOptions, ErrorKind, IsolationLevel, ProducerConfig, ProducerRecord,
    Result, TopicConfig,
};
use std::path::Path;
use std::time::Duration;

pub(super) const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A broker, its disk and its clock.
pub(super) struct World {
    storage: Arc<dyn Storage>,
    pub(super) clock: VirtualClock,
    pub(super) broker: Broker,
}

impl World {
    fn new() -> World {
        World::with_topics(&["t", "u"])
    }

    pub(super) fn with_topics(topics: &[&str]) -> World {
        let world = World::on(Arc::new(Heap::new()));
        for topic in topics {
            world.broker.admin().create_topic(topic, 2, TopicConfig::default()).unwrap();
        }
        world
    }

    /// A life over what a disk holds.
    pub(super) fn on(storage: Arc<dyn Storage>) -> World {
        let clock = VirtualClock::stepping();
        let broker = open(&storage, &clock);
        World { storage, clock, broker }
    }

    /// Ends the life as a kill does, or by a close, and begins the next.
    pub(super) fn restart(self, clean: bool) -> World {
        let World { storage, clock, broker } = self;
        if clean {
            broker.close().unwrap();
        }
        drop(broker);
        let broker = open(&storage, &clock);
        World { storage, clock, broker }
    }

    pub(super) fn init(&self, id: &str) -> Result<ProducerIdentity> {
        self.broker.inner().transactions()?.init(id, MINUTE)
    }

    /// What a producer does with one record: the partition takes part, then the record is stored.
    pub(super) fn send(&self, id: &str, producer: ProducerIdentity, to: &str) -> Result<i64> {
        let to = TopicPartition::parse(to).unwrap();
        self.broker.inner().transactions()?.add_partition(id, producer, &to)?;
        self.append(producer, &to)
    }

    fn append(&self, producer: ProducerIdentity, to: &TopicPartition) -> Result<i64> {
        let topic = self.broker.inner().topic_to_append(to.topic())?;
        let partition = topic.partition(to.partition())?;
        let now_ms = self.clock.now().wall_ms;
        let stamp = ProducerStamp {
            producer_id: producer.producer_id,
            producer_epoch: producer.producer_epoch,
            base_sequence: NEXT_SEQUENCE,
            transactional: true,
        };
        let options = AppendOptions { producer: Some(stamp), ..AppendOptions::client(now_ms) };
        let record = RecordInput { timestamp: now_ms, value: Some(b"v"), ..RecordInput::default() };
        let log = partition.log()?;
        let appended = log.append(&record, options)?;
        if appended.must_sync {
            log.make_durable(appended.last_offset + 1)?;
        }
        Ok(appended.base_offset)
    }

    pub(super) fn end(
        &self,
        id: &str,
        producer: ProducerIdentity,
        commit: bool,
    ) -> Result<ProducerIdentity> {
        self.broker.inner().transactions()?.end(id, producer, commit)
    }

    fn commit_offset(&self, id: &str, producer: ProducerIdentity, offset: i64) -> Result<()> {
        self.commit_offset_of("g", id, producer, offset)
    }

    /// Commits an offset of `t-0` for a group with the transaction.
    pub(super) fn commit_offset_of(
        &self,
        group: &str,
        id: &str,
        producer: ProducerIdentity,
        offset: i64,
    ) -> Result<()> {
        let commit = OffsetToCommit {
            partition: TopicPartition::new("t", 0),
            offset,
            leader_epoch: -1,
            metadata: "".into(),
        };
        let transactions = self.broker.inner().transactions()?;
        let outcomes = transactions.commit_offsets(id, producer, &bare(group), &[commit])?;
        outcomes.into_iter().try_for_each(|(_, outcome)| outcome)
    }

    /// The offset that a consumer is told, which waits for open transactions.
    fn committed(&self) -> Result<Option<i64>> {
        self.committed_of("g")
    }

    pub(super) fn committed_of(&self, group: &str) -> Result<Option<i64>> {
        let groups = self.broker.inner().groups()?;
        let found = groups.committed(group, &[TopicPartition::new("t", 0)], true)?;
        Ok(found.into_iter().next().unwrap()?.map(|committed| committed.offset))
    }

    /// The log end of a partition.
    pub(super) fn end_offset(&self, of: &str) -> i64 {
        let of = TopicPartition::parse(of).unwrap();
        let topic = self.broker.inner().topic(of.topic()).unwrap();
        topic.partition(of.partition()).unwrap().log_end_offset().unwrap()
    }

    /// The offsets of the records that a reader of committed records sees.
    pub(super) fn read(&self, from: &str) -> Vec<i64> {
        let from = TopicPartition::parse(from).unwrap();
        let config = crate::ConsumerConfig::without_group()
            .isolation_level(IsolationLevel::ReadCommitted)
            .auto_offset_reset(crate::OffsetReset::Earliest);
        let mut consumer = self.broker.consumer(config).unwrap();
        consumer.assign(std::slice::from_ref(&from)).unwrap();
        let mut out = Vec::new();
        let mut position = -1;
        loop {
            let records = consumer.poll(Duration::ZERO).unwrap();
            out.extend(records.iter().map(|record| record.offset()));
            // A poll that passes over what was aborted returns nothing, as in Kafka.
            let before = std::mem::replace(&mut position, consumer.position(&from).unwrap());
            if position == before {
                return out;
            }
        }
    }

    pub(super) fn state(&self, id: &str) -> (TransactionState, i64, i16) {
        let value = self.broker.inner().transactions().unwrap().describe(id).unwrap();
        (value.state, value.producer_id, value.producer_epoch)
    }
}

fn open(storage: &Arc<dyn Storage>, clock: &VirtualClock) -> Broker {
    let options = BrokerOptions::new().clock(clock.clock()).storage(storage.clone());
    options.open("/data").unwrap()
}

fn bare(group: &str) -> MemberRef {
    MemberRef {
        group_id: group.into(),
        member_id: "".into(),
        group_instance_id: None,
        generation_id: -1,
    }
}

#[track_caller]
fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn a_transaction_is_seen_when_it_is_committed_and_not_before() {
    let world = World::new();
    let first = world.init("x").unwrap();
    assert_eq!(first.producer_epoch, 0);
    assert_eq!(world.send("x", first, "t-0").unwrap(), 0);
    world.send("x", first, "u-1").unwrap();
    assert_eq!(world.state("x").0, TransactionState::Ongoing);
    assert_eq!((world.read("t-0"), world.read("u-1")), (vec![], vec![]));
    let second = world.end("x", first, true).unwrap();
    assert_eq!((second.producer_id, second.producer_epoch), (first.producer_id, 1));
    assert_eq!((world.read("t-0"), world.read("u-1")), (vec![0], vec![0]));
    assert_eq!(world.state("x"), (TransactionState::CompleteCommit, first.producer_id, 1));
    // The next one begins at sequence 0, behind the marker.
    assert_eq!(world.send("x", second, "t-0").unwrap(), 2);
    world.end("x", second, false).unwrap();
    assert_eq!(world.read("t-0"), [0]);
    assert_eq!(world.state("x"), (TransactionState::CompleteAbort, first.producer_id, 2));
}

#[test]
fn a_late_record_of_an_ended_transaction_is_refused() {
    let world = World::new();
    let first = world.init("x").unwrap();
    world.send("x", first, "t-0").unwrap();
    world.end("x", first, true).unwrap();
    let to = TopicPartition::new("t", 0);
    assert_eq!(kind(world.append(first, &to)), ErrorKind::InvalidProducerEpoch);
    assert_eq!(kind(world.send("x", first, "t-0")), ErrorKind::InvalidProducerEpoch);
}

#[test]
fn an_end_that_is_asked_for_again_is_answered_again() {
    let world = World::new();
    let first = world.init("x").unwrap();
    world.send("x", first, "t-0").unwrap();
    let second = world.end("x", first, true).unwrap();
    assert_eq!(world.end("x", first, true).unwrap(), second);
    assert_eq!(kind(world.end("x", first, false)), ErrorKind::InvalidTxnState);
    assert_eq!(kind(world.end("x", second, true)), ErrorKind::InvalidTxnState, "nothing in it");
    assert_eq!(world.read("t-0"), [0]);
}

#[test]
fn a_new_producer_fences_the_old_one_and_aborts_what_it_left() {
    let world = World::new();
    let old = world.init("x").unwrap();
    world.send("x", old, "t-0").unwrap();
    world.commit_offset("x", old, 7).unwrap();
    let new = world.init("x").unwrap();
    assert_eq!(new.producer_epoch, old.producer_epoch + 2);
    assert_eq!(kind(world.send("x", old, "t-0")), ErrorKind::InvalidProducerEpoch);
    assert_eq!(kind(world.end("x", old, true)), ErrorKind::ProducerFenced);
    assert_eq!(kind(world.commit_offset("x", old, 8)), ErrorKind::ProducerFenced);
    assert_eq!(world.committed().unwrap(), None);
    world.send("x", new, "t-0").unwrap();
    world.end("x", new, true).unwrap();
    assert_eq!(world.read("t-0"), [2]);
}

#[test]
fn offsets_are_pending_until_the_end() {
    let world = World::new();
    let p = world.init("x").unwrap();
    world.commit_offset("x", p, 5).unwrap();
    assert_eq!(kind(world.committed()), ErrorKind::UnstableOffsetCommit);
    let p = world.end("x", p, false).unwrap();
    assert_eq!(world.committed().unwrap(), None);
    world.commit_offset("x", p, 5).unwrap();
    world.commit_offset("x", p, 6).unwrap();
    let p = world.end("x", p, true).unwrap();
    assert_eq!(world.committed().unwrap(), Some(6));
    world.commit_offset("x", p, 9).unwrap();
    // A clean stop leaves it pending, and it is committed by the next life's producer.
    let world = world.restart(true);
    assert_eq!(kind(world.committed()), ErrorKind::UnstableOffsetCommit);
    world.end("x", p, true).unwrap();
    assert_eq!(world.committed().unwrap(), Some(9));
    let world = world.restart(true);
    assert_eq!(world.committed().unwrap(), Some(9));
}

#[test]
fn a_deleted_topic_disturbs_no_commit() {
    let world = World::new();
    let p = world.init("x").unwrap();
    world.send("x", p, "t-0").unwrap();
    world.send("x", p, "u-0").unwrap();
    world.broker.admin().delete_topic("u").unwrap();
    world.end("x", p, true).unwrap();
    assert_eq!(world.read("t-0"), [0]);
}

#[test]
fn what_takes_too_long_is_aborted() {
    let world = World::new();
    let p = world.init("x").unwrap();
    world.send("x", p, "t-0").unwrap();
    world.clock.advance(MINUTE);
    assert_eq!(world.state("x").0, TransactionState::Ongoing);
    world.clock.advance(Duration::from_secs(11));
    assert_eq!(world.state("x"), (TransactionState::CompleteAbort, p.producer_id, 1));
    assert_eq!(kind(world.send("x", p, "t-0")), ErrorKind::InvalidProducerEpoch);
    assert_eq!(kind(world.end("x", p, true)), ErrorKind::InvalidTxnState);
    // An abort says what has happened, and the producer goes on.
    let next = world.end("x", p, false).unwrap();
    world.send("x", next, "t-0").unwrap();
    world.end("x", next, true).unwrap();
    assert_eq!(world.read("t-0"), [2]);
}

#[test]
fn what_a_killed_process_left_open_is_aborted_before_the_next_append() {
    let world = World::new();
    let p = world.init("x").unwrap();
    world.send("x", p, "t-0").unwrap();
    world.commit_offset("x", p, 3).unwrap();
    let world = world.restart(false);
    assert_eq!(world.state("x").0, TransactionState::Ongoing, "nothing is written by an open");
    let q = world.init("y").unwrap();
    assert_eq!(world.state("x"), (TransactionState::CompleteAbort, p.producer_id, 1));
    assert_eq!(world.committed().unwrap(), None);
    world.send("y", q, "t-0").unwrap();
    world.end("y", q, true).unwrap();
    assert_eq!(world.read("t-0"), [2]);
    assert_ne!(q.producer_id, p.producer_id);
}

#[test]
fn what_a_clean_stop_left_open_waits_for_its_timeout() {
    let world = World::new();
    let p = world.init("x").unwrap();
    world.send("x", p, "t-0").unwrap();
    world.clock.advance(Duration::from_secs(30));
    let world = world.restart(true);
    let to = TopicPartition::new("u", 0);
    let plain = ProducerIdentity { producer_id: 5000, producer_epoch: 0 };
    world.append(plain, &to).unwrap();
    world.clock.advance(Duration::from_secs(20));
    assert_eq!(world.state("x").0, TransactionState::Ongoing);
    world.clock.advance(Duration::from_secs(21));
    assert_eq!(world.state("x").0, TransactionState::CompleteAbort);
}

#[test]
fn ids_that_nobody_uses_expire() {
    let mut world = World::new();
    let open = |world: &World| {
        let config = [
            ("transactional.id.expiration.ms", "600000"),
            ("transaction.remove.expired.transaction.cleanup.interval.ms", "60000"),
        ];
        let config = BrokerConfig::from_properties(config).unwrap();
        let options = BrokerOptions::new().clock(world.clock.clock()).config(config);
        options.storage(world.storage.clone()).open("/data").unwrap()
    };
    world.broker.close().unwrap();
    world.broker = open(&world);
    world.init("x").unwrap();
    world.clock.advance(MINUTE * 9);
    world.init("y").unwrap();
    world.clock.advance(MINUTE * 2);
    let transactions = world.broker.inner().transactions().unwrap();
    assert_eq!(kind(transactions.describe("x")), ErrorKind::TransactionalIdNotFound);
    assert_eq!(world.state("y").0, TransactionState::Empty);
    world.broker.close().unwrap();
    world.broker = open(&world);
    let listed = world.broker.inner().transactions().unwrap().list().unwrap();
    assert_eq!(listed.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ["y".into()]);
    // What a life does not use expires, too.
    world.broker.close().unwrap();
    world.broker = open(&world);
    let plain = ProducerIdentity { producer_id: 5000, producer_epoch: 0 };
    world.append(plain, &TopicPartition::new("t", 0)).unwrap();
    assert_eq!(world.broker.health().counter("coordinator_bytes_loaded"), 0);
    world.clock.advance(MINUTE * 13);
    let listed = world.broker.inner().transactions().unwrap().list().unwrap();
    assert_eq!(listed, []);
}

/// What a life reads of `__transaction_state` before its first append.
fn bytes_read(world: &World) -> u64 {
    world.broker.inner().topic_to_append("t").unwrap();
    world.broker.health().counter("coordinator_bytes_loaded")
}

#[test]
fn after_a_clean_stop_only_what_it_left_unfinished_is_read_before_the_first_append() {
    let world = World::new();
    let mut open = None;
    for number in 0..200 {
        let id = format!("id-{number}");
        let producer = world.init(&id).unwrap();
        world.send(&id, producer, "t-0").unwrap();
        match number {
            77 => open = Some(producer),
            _ => drop(world.end(&id, producer, true).unwrap()),
        }
    }
    let world = world.restart(false);
    let all = bytes_read(&world);
    let after_kill = world.state("id-77").0;
    assert_eq!(after_kill, TransactionState::CompleteAbort, "a kill has all of it read");
    // Open again at a clean stop.
    let producer = world.init("id-77").unwrap();
    assert_ne!(Some(producer), open);
    world.send("id-77", producer, "t-1").unwrap();
    let world = world.restart(true);
    let one = bytes_read(&world);
    assert!(one > 0 && one * 10 < all, "{one} of {all} bytes");
    assert_eq!(world.state("id-77").0, TransactionState::Ongoing);
    world.end("id-77", producer, true).unwrap();
    let world = world.restart(true);
    assert_eq!(bytes_read(&world), 0);
    // A life that looks at nothing says of the next one what was said of it.
    let plain = ProducerIdentity { producer_id: 5000, producer_epoch: 0 };
    world.append(plain, &TopicPartition::new("u", 0)).unwrap();
    let world = world.restart(true);
    assert_eq!(bytes_read(&world), 0);
    assert_eq!(world.state("id-5").0, TransactionState::CompleteCommit);
    let listed = world.broker.inner().transactions().unwrap().list().unwrap();
    assert_eq!(listed.len(), 200);
    // Two producers in one life, in partitions that are read one after the other.
    let first = world.init("id-1").unwrap();
    world.send("id-1", first, "t-0").unwrap();
    let second = world.init("id-2").unwrap();
    world.send("id-2", second, "t-0").unwrap();
    world.end("id-1", first, true).unwrap();
    world.end("id-2", second, false).unwrap();
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let world = World::new();
    assert_eq!(kind(world.init("")), ErrorKind::InvalidRequest);
    assert_eq!(kind(world.init(&"x".repeat(40_000))), ErrorKind::InvalidRequest);
    let transactions = world.broker.inner().transactions().unwrap();
    assert_eq!(kind(transactions.init("x", HOUR)), ErrorKind::InvalidTransactionTimeout);
    assert_eq!(kind(transactions.init("x", Duration::ZERO)), ErrorKind::InvalidTransactionTimeout);
    let nobody = ProducerIdentity { producer_id: 77, producer_epoch: 0 };
    assert_eq!(kind(world.send("x", nobody, "t-0")), ErrorKind::InvalidProducerIdMapping);
    let p = world.init("x").unwrap();
    assert_eq!(kind(world.end("x", nobody, true)), ErrorKind::InvalidProducerIdMapping);
    assert_eq!(kind(world.end("x", p, true)), ErrorKind::InvalidTxnState);
    let commit = transactions.commit_offsets("x", p, &bare(""), &[]);
    assert_eq!(kind(commit), ErrorKind::InvalidGroupId);
    assert!(world.broker.inner().topic(OFFSETS_TOPIC).is_err());
}

#[test]
fn the_state_topic_is_made_with_the_settings_of_the_broker() {
    let mut config = BrokerConfig::default();
    config.set("transaction.state.log.num.partitions", "3").unwrap();
    let options = BrokerOptions::new().clock(VirtualClock::stepping().clock());
    let broker = options.config(config).in_memory().unwrap();
    broker.inner().transactions().unwrap().init("x", MINUTE).unwrap();
    let topic = broker.admin().describe_topic(crate::topic::TRANSACTIONS_TOPIC).unwrap();
    assert_eq!((topic.partition_count(), topic.is_internal()), (3, true));
}

#[test]
fn a_decision_that_outlived_what_came_after_it_ends_no_later_transaction() {
    let world = World::new();
    let p = world.init("x").unwrap();
    world.send("x", p, "t-0").unwrap();
    let q = world.end("x", p, true).unwrap();
    world.send("x", q, "t-0").unwrap();
    // The power goes: the partition has all of it, and the topic of the transactional ids its
    // first three records, the last of which decides the first transaction.
    let World { storage, clock, broker } = world;
    let topic = broker.inner().topic(TRANSACTIONS_TOPIC).unwrap();
    let number = partition_for("x", topic.partition_count());
    let log = topic.partition(number).unwrap().log().unwrap().clone();
    assert_eq!(log.log_end_offset().unwrap(), 5, "empty, open, decided, complete, open");
    drop((log, topic, broker));
    keep_batches(&storage, &TopicPartition::new(TRANSACTIONS_TOPIC, number), 3);
    let broker = open(&storage, &clock);
    let world = World { storage, clock, broker };
    assert_eq!(world.state("x").0, TransactionState::PrepareCommit);
    world.init("y").unwrap();
    assert_eq!(world.state("x").0, TransactionState::CompleteCommit);
    let next = world.init("x").unwrap();
    let at = world.send("x", next, "t-0").unwrap();
    world.end("x", next, true).unwrap();
    assert_eq!(world.read("t-0"), [0, at], "the second was never committed, and holds none back");
}

/// What a power cut leaves of a partition that has only so many of its batches on the disk.
fn keep_batches(storage: &Arc<dyn Storage>, of: &TopicPartition, count: usize) {
    let path = format!("/data/{of}/{:020}.log", 0);
    let file = storage.open_cold(Path::new(&path)).unwrap();
    let mut cut = 0;
    for _ in 0..count {
        let mut length = [0; 4];
        file.read_at(cut + 8, &mut length).unwrap();
        cut += 12 + u64::from(u32::from_be_bytes(length));
    }
    file.set_len(cut).unwrap();
}

/// Fault: the power goes after the decision to commit and the offsets of the transaction reached
/// the disk, and before the records did that the offsets are about. Path: the next life writes the
/// marker by which the offsets count. What must hold: they are set back to the end of the log, for
/// good.
#[test]
fn offsets_that_a_marker_of_the_next_life_commits_are_set_back_to_the_end_of_their_log() {
    let world = World::new();
    let plain = ProducerIdentity { producer_id: 5000, producer_epoch: 0 };
    let of = TopicPartition::new("t", 0);
    for _ in 0..10 {
        world.append(plain, &of).unwrap();
    }
    let p = world.init("x").unwrap();
    world.commit_offset("x", p, 9).unwrap();
    world.end("x", p, true).unwrap();
    let World { storage, clock, broker } = world;
    let state =
        partition_for("x", broker.inner().topic(TRANSACTIONS_TOPIC).unwrap().partition_count());
    let offsets =
        partition_for("g", broker.inner().topic(OFFSETS_TOPIC).unwrap().partition_count());
    drop(broker);
    keep_batches(&storage, &of, 4);
    keep_batches(&storage, &TopicPartition::new(TRANSACTIONS_TOPIC, state), 3);
    keep_batches(&storage, &TopicPartition::new(OFFSETS_TOPIC, offsets), 1);
    let broker = open(&storage, &clock);
    let mut world = World { storage, clock, broker };
    assert_eq!((world.state("x").0, world.end_offset("t-0")), (TransactionState::PrepareCommit, 4));
    assert_eq!(world.committed().unwrap_err().kind(), ErrorKind::UnstableOffsetCommit);
    world.init("y").unwrap();
    assert_eq!(world.state("x").0, TransactionState::CompleteCommit);
    assert_eq!(world.committed().unwrap(), Some(4));
    let other = ProducerIdentity { producer_id: 6000, producer_epoch: 0 };
    for _ in 0..8 {
        world.append(other, &of).unwrap();
    }
    for clean in [true, false] {
        world = world.restart(clean);
        assert_eq!(world.committed().unwrap(), Some(4), "a group must not skip what is new there");
    }
}

/// A partition fails between the two steps of a first record: it joined, and has nothing of the
/// transaction. Nothing has to be told to it.
#[test]
fn a_partition_that_failed_before_its_first_record_keeps_no_transaction_from_its_end() {
    let fault = Fault::new(Arc::new(Sim::new()));
    let world = World::on(Arc::new(fault.clone()));
    let durable = TopicConfig::default().flush_messages(1);
    world.broker.admin().create_topic("t", 2, durable).unwrap();
    world.broker.admin().create_topic("u", 1, TopicConfig::default()).unwrap();
    let producer = world.init("id").unwrap();
    let plain = world.broker.producer(ProducerConfig::default()).unwrap();
    world.send("id", producer, "u-0").unwrap();
    let to = TopicPartition::new("t", 0);
    world.broker.inner().transactions().unwrap().add_partition("id", producer, &to).unwrap();
    fault.fail(Rule::nth(0, Failure::Io).of(&[Call::SyncData]).on("t-0"));
    let record = ProducerRecord::new("t").partition(0).value("v");
    assert_eq!(kind(plain.send_sync(record)), ErrorKind::StorageFailed);
    assert_eq!(kind(world.append(producer, &to)), ErrorKind::StorageFailed);
    world.end("id", producer, false).unwrap();
    assert_eq!(world.state("id").0, TransactionState::CompleteAbort);
    assert!(world.broker.health().warnings().any(|told| told.to_string().contains("t-0")));
}
