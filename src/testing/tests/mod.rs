//! The test double, tested: each fault strikes where and when it says, what it stops goes on as it
//! says, and the journal tells it in order.

mod crashes;
mod faults;

use super::{Crash, Event, Fault, RemovalReason, TestBroker};
use crate::config::{ConfigChange, ConsumerConfig, OffsetReset, ProducerConfig, TopicConfig};
use crate::consumer::{Consumer, OffsetAndMetadata, ReadFrom};
use crate::error::{ErrorKind, Result};
use crate::producer::{Producer, ProducerRecord};
use crate::sync::thread::spawn_named;
use crate::sync::{Arc, Mutex};
use crate::topic::TopicPartition;
use std::collections::BTreeMap;
use std::time::Duration;

const ZERO: Duration = Duration::ZERO;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn broker(partitions: i32) -> TestBroker {
    let test = TestBroker::new().unwrap();
    test.admin().create_topic("t", partitions, TopicConfig::default()).unwrap();
    test
}

fn producer(test: &TestBroker) -> Producer {
    test.producer(ProducerConfig::default()).unwrap()
}

fn send(producer: &Producer, partition: i32, value: &str) -> Result<i64> {
    let record = ProducerRecord::new("t").partition(partition).value(value);
    Ok(producer.send_sync(record)?.offset())
}

fn member(test: &TestBroker, client_id: &str) -> Consumer {
    let config = ConsumerConfig::new("g")
        .client_id(client_id)
        .enable_auto_commit(false)
        .auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = test.consumer(config).unwrap();
    consumer.subscribe(&["t"]).unwrap();
    consumer
}

/// Polls members in turn until each has its share.
fn settle(members: &mut [&mut Consumer]) {
    for _ in 0..20 {
        members.iter_mut().for_each(|member| drop(member.poll(ZERO).unwrap()));
    }
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.err().expect("a failure").kind()
}

fn values(test: &TestBroker, partition: i32) -> Vec<String> {
    let mut reader = test.reader("t", partition, ReadFrom::Beginning).unwrap();
    let records = reader.read(ZERO).unwrap();
    records.iter().map(|r| String::from_utf8(r.value().unwrap().to_vec()).unwrap()).collect()
}

fn offsets(offset: i64) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
    [(TopicPartition::new("t", 0), OffsetAndMetadata::new(offset))].into()
}

/// A life with everything in it.
fn eventful() -> String {
    let mut test = broker(3);
    let producer = producer(&test);
    let (mut one, mut two) = (member(&test, "one"), member(&test, "two"));
    for n in 0..20 {
        drop(producer.send(ProducerRecord::new("t").key(n.to_string()).value("v")));
        settle(&mut [&mut one, &mut two]);
    }
    test.kill_consumer("two").unwrap();
    one.poll(seconds(100)).unwrap();
    test.crash(Crash::PowerCut(3)).unwrap();
    settle(&mut [&mut member(&test, "three")]);
    test.journal().to_string()
}

#[test]
fn the_same_calls_are_the_same_run() {
    let first = eventful();
    assert!(first.lines().count() > 50, "{first}");
    assert_eq!(first, eventful());
}

#[test]
fn without_a_journal_nothing_is_kept() {
    let test = TestBroker::builder().without_journal().start().unwrap();
    test.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    send(&producer(&test), 0, "a").unwrap();
    assert!(test.journal().entries().is_empty());
}

#[test]
fn a_fault_that_can_never_strike_is_refused_where_it_is_given() {
    let refusals = [
        (Fault::commit().on("t"), "on does not apply to a fault of commit"),
        (Fault::commit().on_partition("t", 0), "on does not apply to a fault of commit"),
        (Fault::append().of_group("g"), "of_group does not apply to a fault of append"),
        (Fault::sync().of_group("g"), "of_group does not apply to a fault of sync"),
        (Fault::fetch().of_client("c"), "of_client does not apply to a fault of fetch"),
        (Fault::sync().lose_reply(), "lose_reply does not apply to a fault of sync"),
        (Fault::fetch().lose_reply(), "lose_reply does not apply to a fault of fetch"),
        (Fault::append().on_partition("t", -1), "there is no partition -1"),
        (Fault::append().nth(0), "nth counts from 1"),
        (Fault::append().times(0), "it would strike 0 times"),
    ];
    for (fault, why) in refusals {
        let test = broker(1);
        let shown = format!("{fault:?}");
        let given = std::panic::AssertUnwindSafe(|| test.inject(fault));
        let refused = std::panic::catch_unwind(given).expect_err(why);
        let told = refused.downcast_ref::<String>().expect("a text");
        assert!(told.contains(why) && told.contains(&shown), "{told}");
        assert_eq!(send(&producer(&test), 0, "a").unwrap(), 0);
    }
}

#[test]
fn what_a_test_prints_is_a_line() {
    let test = broker(1);
    let fault = Fault::append().on_partition("t", 0).nth(2).times(3).fail(ErrorKind::StorageFull);
    assert_eq!(format!("{fault:?}"), "append t-0 at times 2 to 4 fails with StorageFull");
    let lost = Fault::commit().of_group("g").of_client("c").lose_reply();
    assert_eq!(format!("{lost:#?}"), "commit of c in g at time 1 loses the reply");
    let always = Fault::fetch().on("t").always().stall_for(seconds(3));
    assert_eq!(format!("{always:?}"), "fetch t from time 1 on stalls for 3s");
    let injected = test.inject(fault);
    let missed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| injected.assert_hit()));
    let told = missed.expect_err("it has not struck");
    let told = told.downcast_ref::<String>().expect("a text");
    assert!(told.ends_with("append t-0 at times 2 to 4 fails with StorageFull, 0 hits"), "{told}");
    assert_eq!(format!("{test:?}"), "TestBroker(/topiclite)");
}

#[test]
fn records_are_put_in_and_looked_at_without_a_consumer() {
    let test = broker(2);
    let struck = test.inject(Fault::append().nth(2).fail(ErrorKind::StorageFailed));
    let stalled = test.inject(Fault::fetch().always().stall());
    let put = |partition, value| {
        test.put(ProducerRecord::new("t").partition(partition).key("k").value(value))
    };
    assert_eq!(put(1, Some("late")).unwrap().offset(), 0);
    assert_eq!(kind(put(0, Some("no"))), ErrorKind::StorageFailed);
    struck.assert_hit();
    put(0, Some("first")).unwrap();
    put(0, None).unwrap();
    assert_eq!(test.values("t").unwrap(), ["first", "", "late"]);
    let records = test.records("t").unwrap();
    let places: Vec<_> = records.iter().map(|r| (r.partition(), r.offset(), r.key())).collect();
    let key = Some(&b"k"[..]);
    assert_eq!(places, [(0, 0, key), (0, 1, key), (1, 0, key)]);
    assert_eq!(stalled.hits(), 0);
    assert_eq!(kind(test.values("nosuch")), ErrorKind::UnknownTopicOrPartition);
    let none = ProducerRecord::new("nosuch").value("a");
    assert_eq!(kind(test.put(none)), ErrorKind::UnknownTopicOrPartition);
}
