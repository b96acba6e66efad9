//! The life cycle of a directory: opening writes nothing, every way to end a life is told from the
//! others at the next open, and what was acknowledged is there.

use crate::broker::directory::life::{CLEAN_MARK, LastStop};
use crate::log::AppendOptions;
use crate::record::RecordInput;
use crate::storage::faults::{Call, Failure, Rule};
use crate::storage::{Fault, Heap, Storage};
use crate::sync::{Arc, AtomicBool, Ordering};
use crate::time::VirtualClock;
use crate::{Broker, BrokerOptions, ErrorKind, TopicConfig};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const DIR: &str = "/data";

fn open(storage: &Arc<dyn Storage>) -> Broker {
    try_open(storage).unwrap()
}

fn try_open(storage: &Arc<dyn Storage>) -> crate::Result<Broker> {
    BrokerOptions::new().clock(VirtualClock::stepping().clock()).storage(storage.clone()).open(DIR)
}

fn heap() -> Arc<dyn Storage> {
    Arc::new(Heap::new())
}

/// Every file with its length, every folder.
fn content(storage: &dyn Storage) -> BTreeMap<PathBuf, u64> {
    fn walk(storage: &dyn Storage, dir: &Path, out: &mut BTreeMap<PathBuf, u64>) {
        for entry in storage.list(dir).unwrap() {
            let path = dir.join(&entry.name);
            if entry.is_dir {
                walk(storage, &path, out);
            }
            out.insert(path, entry.len);
        }
    }
    let mut out = BTreeMap::new();
    walk(storage, Path::new(DIR), &mut out);
    out
}

fn append(broker: &Broker, topic: &str, partition: i32, value: &str) -> i64 {
    let partition = broker.inner().topic(topic).unwrap().partition(partition).unwrap();
    let record =
        RecordInput { timestamp: 5, value: Some(value.as_bytes()), ..RecordInput::default() };
    let options = AppendOptions::client(5);
    partition.log().unwrap().append(&record, options).unwrap().base_offset
}

fn end(broker: &Broker, topic: &str, partition: i32) -> i64 {
    let partition = broker.inner().topic(topic).unwrap().partition(partition).unwrap();
    partition.log_end_offset().unwrap()
}

fn ended(broker: &Broker) -> LastStop {
    broker.inner().owner.as_ref().unwrap().life.ended()
}

fn incarnation(broker: &Broker) -> Option<i32> {
    broker.inner().owner.as_ref().unwrap().life.incarnation()
}

fn mark(storage: &dyn Storage) -> bool {
    storage.exists(&Path::new(DIR).join(CLEAN_MARK)).unwrap()
}

#[test]
fn opening_writes_nothing_but_the_lock_file() {
    let storage = heap();
    let broker = open(&storage);
    let names: Vec<_> = content(&*storage).into_keys().collect();
    assert_eq!(names, [Path::new("/data/.lock")]);
    broker.close().unwrap();
    let broker = open(&storage);
    broker.admin().create_topic("t", 2, TopicConfig::default()).unwrap();
    append(&broker, "t", 0, "a");
    broker.close().unwrap();
    let before = content(&*storage);
    let broker = open(&storage);
    assert_eq!(broker.admin().list_topics().unwrap().len(), 1);
    assert_eq!(end(&broker, "t", 0), 1);
    assert_eq!(content(&*storage), before);
    broker.close().unwrap();
    assert_eq!(content(&*storage), before, "a life without an append leaves no trace");
}

#[test]
fn a_life_begins_with_its_first_append_and_each_has_its_own_incarnation() {
    let storage = heap();
    let broker = open(&storage);
    assert_eq!(ended(&broker), LastStop::Never);
    broker.admin().create_topic("t", 2, TopicConfig::default()).unwrap();
    assert_eq!(incarnation(&broker), None);
    append(&broker, "t", 0, "a");
    append(&broker, "t", 1, "b");
    assert_eq!(incarnation(&broker), Some(0));
    assert!(!mark(&*storage));
    broker.close().unwrap();
    assert!(mark(&*storage));

    let broker = open(&storage);
    assert_eq!(ended(&broker), LastStop::Clean);
    assert!(mark(&*storage));
    assert_eq!(append(&broker, "t", 0, "c"), 1);
    assert_eq!(incarnation(&broker), Some(1));
    assert!(!mark(&*storage), "the clean mark goes before the first append");
    drop(broker);

    let broker = open(&storage);
    assert_eq!(ended(&broker), LastStop::SameBoot);
    assert_eq!((end(&broker, "t", 0), end(&broker, "t", 1)), (2, 1));
    assert_eq!(append(&broker, "t", 1, "d"), 1);
    assert_eq!(incarnation(&broker), Some(2));
    broker.close().unwrap();
    let broker = open(&storage);
    assert_eq!(ended(&broker), LastStop::Clean);
    assert_eq!((end(&broker, "t", 0), end(&broker, "t", 1)), (2, 2));
}

#[test]
fn closing_what_a_crash_left_puts_it_in_order() {
    let storage = heap();
    let broker = open(&storage);
    broker.admin().create_topic("t", 2, TopicConfig::default()).unwrap();
    append(&broker, "t", 0, "a");
    drop(broker);
    let log = Path::new("/data/t-0/00000000000000000000.log");
    let uncut = content(&*storage)[log];
    open(&storage).close().unwrap();
    assert!(mark(&*storage));
    let cut = content(&*storage)[log];
    assert!(cut < uncut, "zeros are cut off before a clean stop is claimed: {cut} of {uncut}");
    let broker = open(&storage);
    assert_eq!(ended(&broker), LastStop::Clean);
    assert_eq!(end(&broker, "t", 0), 1);
}

#[test]
fn a_second_owner_is_refused_and_told_who_is_the_first() {
    let storage = heap();
    let first = open(&storage);
    let error = try_open(&storage).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    first.close().unwrap();
    let second = open(&storage);
    assert_eq!(first.close().map_err(|e| e.kind()), Ok(()), "closing twice does nothing");
    assert_eq!(try_open(&storage).unwrap_err().kind(), ErrorKind::Locked);
    drop(second);
    drop(open(&storage));
}

#[test]
fn after_the_close_everything_is_refused() {
    let storage = heap();
    let broker = open(&storage);
    let admin = broker.admin();
    admin.create_topic("t", 1, TopicConfig::default()).unwrap();
    let log = broker.inner().topic("t").unwrap().partition(0).unwrap().log().unwrap().clone();
    append(&broker, "t", 0, "a");
    broker.close().unwrap();
    let closed = Err(ErrorKind::Closed);
    assert_eq!(admin.list_topics().map_err(|e| e.kind()).map(drop), closed);
    assert_eq!(admin.delete_topic("t").map_err(|e| e.kind()), closed);
    assert_eq!(broker.flush().map_err(|e| e.kind()), closed);
    assert_eq!(broker.inner().groups().map_err(|e| e.kind()).map(drop), closed);
    let outcome = log.append(&RecordInput::default(), AppendOptions::client(0));
    assert_eq!(outcome.map_err(|e| e.kind()).map(drop), closed);
}

#[test]
fn a_directory_whose_clean_mark_is_not_ours_is_read_as_foreign() {
    let storage = heap();
    let broker = open(&storage);
    broker.admin().create_topic("t", 1, TopicConfig::default().retention_ms(7)).unwrap();
    append(&broker, "t", 0, "a");
    broker.close().unwrap();
    let mark = Path::new(DIR).join(CLEAN_MARK);
    storage.create_cold(&mark).unwrap().write_at(0, br#"{"version":0,"brokerEpoch":11}"#).unwrap();
    let broker = open(&storage);
    assert_eq!(ended(&broker), LastStop::Foreign { clean: true });
    let report = broker.adoption().unwrap();
    assert!(report.reason().contains("clean mark"), "{}", report.reason());
    assert_eq!(report.partitions_read(), 1);
    let topic = broker.admin().describe_topic("t").unwrap();
    assert_eq!(topic.config_value("retention.ms"), Some("7"), "what was set here is kept");
    assert_eq!(append(&broker, "t", 0, "b"), 1);
    assert_eq!(incarnation(&broker), Some(1));
    drop(broker);
    let broker = open(&storage);
    assert_eq!(ended(&broker), LastStop::SameBoot);
    assert_eq!(end(&broker, "t", 0), 2);
}

#[test]
fn a_directory_without_our_files_is_adopted_and_nothing_of_it_is_deleted() {
    let storage = heap();
    let broker = open(&storage);
    broker.admin().create_topic("t", 3, TopicConfig::default().retention_ms(1)).unwrap();
    append(&broker, "t", 0, "a");
    append(&broker, "t", 2, "b");
    broker.close().unwrap();
    for name in ["topiclite.registry", "topiclite.state"] {
        storage.remove(&Path::new(DIR).join(name)).unwrap();
    }
    let before = content(&*storage);
    let broker = open(&storage);
    assert_eq!(content(&*storage), before, "opening writes nothing here either");
    let report = broker.adoption().unwrap();
    assert_eq!(report.topics().collect::<Vec<_>>(), ["t"]);
    assert_eq!((report.partitions_read(), report.damaged().count()), (2, 0));
    assert!(report.bytes_read() > 0);
    let topic = broker.admin().describe_topic("t").unwrap();
    assert_eq!(topic.partition_count(), 3, "the checkpoint files name the unused one");
    assert_eq!(topic.config_value("retention.ms"), Some("-1"));
    assert_eq!((end(&broker, "t", 0), end(&broker, "t", 1), end(&broker, "t", 2)), (1, 0, 1));
    broker.close().unwrap();
    let broker = open(&storage);
    assert_eq!(ended(&broker), LastStop::Clean, "what was read once is not read again");
    assert_eq!(append(&broker, "t", 2, "c"), 1);
    assert_eq!(append(&broker, "t", 1, "d"), 0);
    drop(broker);
    let broker = open(&storage);
    assert_eq!((end(&broker, "t", 0), end(&broker, "t", 1), end(&broker, "t", 2)), (1, 1, 2));
}

#[test]
fn a_missing_partition_is_read_only_by_name() {
    let storage = heap();
    let broker = open(&storage);
    broker.admin().create_topic("t", 2, TopicConfig::default()).unwrap();
    append(&broker, "t", 0, "a");
    append(&broker, "t", 1, "b");
    broker.close().unwrap();
    for name in ["topiclite.registry", "topiclite.state"] {
        storage.remove(&Path::new(DIR).join(name)).unwrap();
    }
    let folder = Path::new("/data/t-1");
    for entry in storage.list(folder).unwrap() {
        storage.remove(&folder.join(entry.name)).unwrap();
    }
    storage.remove_dir(folder).unwrap();
    let broker = open(&storage);
    let report = broker.adoption().unwrap();
    let damaged: Vec<_> = report.damaged().map(|(p, e)| (p.to_string(), e.kind())).collect();
    assert_eq!(damaged, [("t-1".to_owned(), ErrorKind::ReadOnly)]);
    assert!(!broker.health().is_ok());
    let partition = broker.inner().topic("t").unwrap().partition(1).unwrap();
    assert_eq!(partition.log().unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(end(&broker, "t", 0), 1);
}

#[test]
fn records_deleted_right_after_an_open_stay_deleted() {
    for closed in [true, false] {
        let storage = heap();
        let broker = open(&storage);
        broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
        for value in ["a", "b", "c"] {
            append(&broker, "t", 0, value);
        }
        broker.close().unwrap();
        let broker = open(&storage);
        assert_eq!(broker.admin().delete_records("t", 0, 2).unwrap(), 2);
        match closed {
            true => broker.close().unwrap(),
            false => drop(broker),
        }
        let broker = open(&storage);
        let partition = broker.inner().topic("t").unwrap().partition(0).unwrap();
        assert_eq!(partition.log_start_offset().unwrap(), 2, "closed: {closed}");
        assert_eq!(partition.log_end_offset().unwrap(), 3);
    }
}

#[test]
fn a_deletion_that_could_not_be_recorded_is_recorded_by_the_next_one() {
    let fault = Fault::new(Arc::new(Heap::new()));
    let storage: Arc<dyn Storage> = Arc::new(fault.clone());
    let broker = open(&storage);
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    for value in ["a", "b", "c"] {
        append(&broker, "t", 0, value);
    }
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::WriteAt]).on("topiclite.state"));
    let refused = broker.admin().delete_records("t", 0, 2).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    assert_eq!(broker.admin().delete_records("t", 0, 2).unwrap(), 2);
    drop(broker);
    let broker = open(&storage);
    let partition = broker.inner().topic("t").unwrap().partition(0).unwrap();
    assert_eq!(partition.log_start_offset().unwrap(), 2);
}

/// The flusher records what it saw of a log beside a deletion that records the start it moved.
#[test]
fn a_start_that_was_recorded_does_not_go_back() {
    let storage = heap();
    let broker = open(&storage);
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    append(&broker, "t", 0, "a");
    let shared = broker.inner();
    let log = shared.topic("t").unwrap().partition(0).unwrap().log().unwrap().clone();
    let (key, life) =
        (crate::broker::background::steps::key_of(&log), &shared.owner.as_ref().unwrap().life);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                log.flush().unwrap();
                life.record(&[&log], &[]).unwrap();
            }
        });
        for before in 1..300 {
            append(&broker, "t", 0, "b");
            broker.admin().delete_records("t", 0, before).unwrap();
            append(&broker, "t", 0, "c");
            assert!(life.recorded_start(&key) >= before);
        }
        done.store(true, Ordering::Release);
    });
}
