//! Groups over the end of a process: members of a dead process are gone, commits are not, and no
//! committed offset lies beyond the end of its log.

use crate::group::{
    JoinAnswer, JoinRequest, MemberRef, OffsetToCommit, Protocol, SyncAnswer, SyncRequest,
    partition_for,
};
use crate::log::AppendOptions;
use crate::record::RecordInput;
use crate::storage::sim::{Entries, Pages, PowerCut, Sim};
use crate::storage::{Heap, Storage};
use crate::sync::Arc;
use crate::time::VirtualClock;
use crate::topic::{OFFSETS_TOPIC, TopicPartition};
use crate::{Broker, BrokerOptions, Durability, ErrorKind, TopicConfig};
use std::time::Duration;

fn open(storage: Arc<dyn Storage>, clock: &VirtualClock) -> Broker {
    BrokerOptions::new().clock(clock.clock()).storage(storage).open("/data").unwrap()
}

fn member(id: &str, generation_id: i32) -> MemberRef {
    let (group_id, member_id) = ("g".into(), id.into());
    MemberRef { group_id, member_id, group_instance_id: None, generation_id }
}

/// One member joins and gets everything; returns its id and generation.
fn join(broker: &Broker) -> (Arc<str>, i32) {
    let groups = broker.inner().groups().unwrap();
    let mut request = JoinRequest {
        group_id: "g".into(),
        member_id: "".into(),
        group_instance_id: None,
        client_id: "c".into(),
        client_host: "here".into(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(60),
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: Arc::from([0u8; 0]) }],
    };
    let JoinAnswer::MemberIdRequired(id) = groups.join(&request).unwrap() else { panic!() };
    request.member_id = id.clone();
    let joined = match groups.join(&request).unwrap() {
        JoinAnswer::Joined(joined) => joined,
        JoinAnswer::Pending => match groups.poll_join("g", &id).unwrap() {
            JoinAnswer::Joined(joined) => joined,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let synced = groups.sync(&SyncRequest {
        member: member(&id, joined.generation_id),
        protocol_type: None,
        protocol: None,
        assignments: vec![(id.clone(), Arc::from([1u8]))],
    });
    assert!(matches!(synced.unwrap(), SyncAnswer::Assigned(_)));
    (id, joined.generation_id)
}

fn commit(broker: &Broker, member: &MemberRef, offset: i64) -> crate::Result<()> {
    let commit = OffsetToCommit {
        partition: TopicPartition::new("t", 0),
        offset,
        leader_epoch: -1,
        metadata: "".into(),
    };
    broker.inner().groups()?.commit(member, &[commit])?.into_iter().try_for_each(|(_, o)| o)
}

fn committed(broker: &Broker) -> Vec<i64> {
    let offsets = broker.admin().list_group_offsets("g").unwrap();
    offsets.values().map(|offset| offset.offset()).collect()
}

fn append(broker: &Broker, count: usize) {
    let partition = broker.inner().topic_to_append("t").unwrap().partition(0).unwrap();
    for _ in 0..count {
        let record = RecordInput { timestamp: 5, value: Some(b"v"), ..RecordInput::default() };
        partition.log().unwrap().append(&record, AppendOptions::client(5)).unwrap();
    }
}

#[test]
fn members_of_a_dead_process_are_gone_and_their_commits_are_not() {
    let storage: Arc<dyn Storage> = Arc::new(Heap::new());
    for clean in [false, true] {
        let clock = VirtualClock::stepping();
        let broker = open(storage.clone(), &clock);
        if !clean {
            broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
        }
        append(&broker, 5);
        let (id, generation) = join(&broker);
        commit(&broker, &member(&id, generation), 3).unwrap();
        assert_eq!(broker.admin().describe_group("g").unwrap().state(), "Stable");
        match clean {
            true => broker.close().unwrap(),
            false => drop(broker),
        }
        let broker = open(storage.clone(), &clock);
        let group = broker.admin().describe_group("g").unwrap();
        assert_eq!((group.state(), group.members().len()), ("Empty", 0), "clean: {clean}");
        assert_eq!(group.generation_id(), generation + 1);
        assert_eq!(committed(&broker), [3]);
        let late = commit(&broker, &member(&id, generation), 4).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::UnknownMemberId);
        assert_eq!(join(&broker).1, generation + 2);
        broker.close().unwrap();
    }
}

/// The end of the partition that keeps the group.
fn stored(broker: &Broker) -> i64 {
    let topic = broker.inner().topic(OFFSETS_TOPIC).unwrap();
    topic.partition(partition_for("g", 50)).unwrap().log_end_offset().unwrap()
}

#[test]
fn a_look_at_what_a_crash_left_writes_no_record() {
    let storage: Arc<dyn Storage> = Arc::new(Heap::new());
    let clock = VirtualClock::stepping();
    let broker = open(storage.clone(), &clock);
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    append(&broker, 5);
    let (id, generation) = join(&broker);
    commit(&broker, &member(&id, generation), 3).unwrap();
    let before = stored(&broker);
    drop(broker);
    let broker = open(storage, &clock);
    let mut reader = broker.reader("t", 0, crate::ReadFrom::Beginning).unwrap();
    assert_eq!(reader.read(Duration::ZERO).unwrap().count(), 5);
    assert_eq!(broker.admin().describe_group("g").unwrap().state(), "Empty");
    assert_eq!(stored(&broker), before);
    append(&broker, 1);
    assert_eq!(stored(&broker), before, "nothing but the group depends on it");
    commit(&broker, &member("", -1), 4).unwrap();
    assert_eq!(stored(&broker), before + 2, "that it is empty, and the offset");
}

#[test]
fn a_silent_member_is_put_out_by_the_timer_of_the_broker() {
    let clock = VirtualClock::stepping();
    let broker = open(Arc::new(Heap::new()), &clock);
    join(&broker);
    broker
        .inner()
        .groups()
        .unwrap()
        .stop_beating("g", broker.admin().describe_group("g").unwrap().members()[0].member_id());
    let before = stored(&broker);
    clock.advance(Duration::from_secs(9));
    assert_eq!(stored(&broker), before);
    clock.advance(Duration::from_secs(2));
    assert_eq!(stored(&broker), before + 1, "the group's end is stored without anybody asking");
    assert_eq!(broker.admin().describe_group("g").unwrap().state(), "Empty");
}

const NOTHING_UNSYNCED: PowerCut = PowerCut::new(1, Pages::None, Entries::None);

/// What a power cut leaves of a topic with 4 flushed records and 6 others, and of a commit of the
/// ninth that reached the disk.
fn cut_behind_a_commit(clock: &VirtualClock) -> Sim {
    let sim = Sim::new();
    let broker = open(Arc::new(sim.clone()), clock);
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    append(&broker, 4);
    broker.flush().unwrap();
    append(&broker, 6);
    commit(&broker, &member("", -1), 9).unwrap();
    let offsets = broker.inner().topic(OFFSETS_TOPIC).unwrap();
    offsets.partition(partition_for("g", 50)).unwrap().log().unwrap().flush().unwrap();
    sim.power_cut(&NOTHING_UNSYNCED)
}

/// Fault: the power goes after a commit reached the disk and before the records that it is about
/// did. Path: the log of the topic is not flushed, that of the group is. What must hold: the
/// commit is set back to the end of the log, before anything is appended there, and for good.
#[test]
fn a_commit_beyond_the_end_of_a_log_that_lost_records_is_set_back_for_good() {
    let clock = VirtualClock::stepping();
    let sim = cut_behind_a_commit(&clock);
    let broker = open(Arc::new(sim.clone()), &clock);
    let before = stored(&broker);
    assert_eq!((committed(&broker), stored(&broker)), (vec![4], before), "a look writes nothing");
    append(&broker, 8);
    assert_eq!((committed(&broker), stored(&broker)), (vec![4], before + 1));
    assert_eq!(broker.health().counter("clamped_offsets"), 1);
    assert!(broker.health().warnings().any(|warning| warning.contains("set back")));
    broker.inner().topic("t").unwrap().partition(0).unwrap().log().unwrap().flush().unwrap();
    let sim = sim.power_cut(&NOTHING_UNSYNCED);
    drop(broker);

    let broker = open(Arc::new(sim), &clock);
    let partition = broker.inner().topic("t").unwrap().partition(0).unwrap();
    assert_eq!(partition.log_end_offset().unwrap(), 12);
    assert_eq!(
        committed(&broker),
        [4],
        "a group must not skip what took the place of what is lost"
    );
    assert_eq!(broker.health().counter("clamped_offsets"), 0);
}

/// Fault: the same, and then a life that is closed without a look at any topic. What must hold: the
/// clean stop that it claims does not hide what the cut left.
#[test]
fn a_life_that_does_nothing_leaves_no_commit_beyond_its_log() {
    let clock = VirtualClock::stepping();
    let sim = cut_behind_a_commit(&clock);
    open(Arc::new(sim.clone()), &clock).close().unwrap();
    let broker = open(Arc::new(sim), &clock);
    append(&broker, 8);
    assert_eq!(committed(&broker), [4]);
}

/// Fault: the power goes right after a commit was answered. What must hold: where the broker's
/// settings make appends wait for a sync, that holds for commits too.
#[test]
fn a_commit_survives_power_loss_where_the_broker_says_so() {
    let clock = VirtualClock::stepping();
    let sim = Sim::new();
    let broker = BrokerOptions::new()
        .durability(Durability::Power)
        .clock(clock.clock())
        .storage(Arc::new(sim.clone()))
        .open("/data")
        .unwrap();
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    append(&broker, 3);
    broker.flush().unwrap();
    commit(&broker, &member("", -1), 2).unwrap();
    let sim = sim.power_cut(&PowerCut::new(1, Pages::None, Entries::None));
    drop(broker);
    assert_eq!(committed(&open(Arc::new(sim), &clock)), [2]);
}

#[test]
fn a_commit_that_cannot_be_stored_changes_nothing() {
    use crate::storage::Fault;
    use crate::storage::faults::{Call, Failure, Rule};
    let clock = VirtualClock::stepping();
    let fault = Fault::new(Arc::new(Heap::new()));
    let broker = open(Arc::new(fault.clone()), &clock);
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    append(&broker, 3);
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Create]).on(OFFSETS_TOPIC));
    let refused = commit(&broker, &member("", -1), 1).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    assert_eq!(committed(&broker), [] as [i64; 0]);
    commit(&broker, &member("", -1), 2).unwrap();
    assert_eq!(committed(&broker), [2]);
}

/// The offsets topic is damaged, and an offset has to be set back, which cannot be stored.
#[test]
fn damage_of_the_offsets_topic_does_not_keep_anybody_from_other_topics() {
    use std::path::Path;
    let clock = VirtualClock::stepping();
    let sim = Sim::new();
    let broker = open(Arc::new(sim.clone()), &clock);
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    append(&broker, 4);
    for offset in [2, 3, 4] {
        commit(&broker, &member("", -1), offset).unwrap();
    }
    let killed = sim.kill();
    drop(broker);
    let file = |folder: &str| format!("/data/{folder}/00000000000000000000.log");
    killed.remove(Path::new(&file("t-0"))).unwrap();
    let place = TopicPartition::new(OFFSETS_TOPIC, partition_for("g", 50));
    let log = file(&place.to_string());
    // The format byte of the second batch.
    let flip = |bytes: &mut Vec<u8>| {
        let first = u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
        bytes[12 + first + 16] ^= 64;
    };
    killed.damage(Path::new(&log), flip).unwrap();

    let broker = open(Arc::new(killed), &clock);
    append(&broker, 1);
    // What it committed last cannot be known.
    let unknown = broker.admin().list_group_offsets("g").unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::CorruptRecord, "{unknown}");
    let health = broker.health();
    let (failed, error) = health.failed_partitions().next().unwrap();
    assert_eq!(failed, &place, "{error}");
    assert!(health.warnings().any(|warning| warning.contains("is not stored")));
    assert!(commit(&broker, &member("", -1), 1).is_err());
}
