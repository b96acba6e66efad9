//! Batches of a producer with sequences, encoded in place: what readers of either isolation see of
//! them while their transaction is open, when it is aborted, and when it is committed.

use super::*;
use crate::config::IsolationLevel;
use crate::consumer::ReadFrom;
use crate::log::{AppendOptions, Log, Marker, ProducerStamp};
use crate::{NewTopic, TopicConfig};

/// Enough of them lie one behind the other that a reader takes them by the index.
const PLAIN: i64 = 400;
const VALUE: [u8; 100] = [b'v'; 100];

fn broker() -> Broker {
    let broker = BrokerOptions::new()
        .clock(crate::time::VirtualClock::stepping().clock())
        .in_memory()
        .unwrap();
    let config = TopicConfig::from_properties([("index.interval.bytes", "512")]).unwrap();
    broker.admin().create(&NewTopic::new("t", 1).config(config)).unwrap();
    broker
}

fn log(broker: &Broker) -> Arc<Log> {
    broker.inner().topic("t").unwrap().partition(0).unwrap().log().unwrap().clone()
}

fn append(log: &Log, producer: Option<ProducerStamp>) -> i64 {
    let record = RecordInput { value: Some(&VALUE), timestamp: 5, ..RecordInput::default() };
    let options = AppendOptions { producer, ..AppendOptions::client(5) };
    log.append(&record, options).unwrap().base_offset
}

fn of_transaction(base_sequence: i32) -> Option<ProducerStamp> {
    Some(ProducerStamp { producer_id: 7, producer_epoch: 0, base_sequence, transactional: true })
}

fn end(log: &Log, kind: ControlType) {
    let (producer_epoch, coordinator_epoch) = (1, 0);
    let marker =
        Marker { producer_id: 7, producer_epoch, kind, coordinator_epoch, transaction_version: 2 };
    log.append_marker(marker, 6).unwrap();
}

/// What a consumer and a reader of this isolation return.
fn read(broker: &Broker, isolation: IsolationLevel) -> Vec<i64> {
    let level = match isolation {
        IsolationLevel::ReadCommitted => "read_committed",
        IsolationLevel::ReadUncommitted => "read_uncommitted",
    };
    let mut consumer = assigned(broker, &[("isolation.level", level)]);
    let polled = poll_all(&mut consumer);
    let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap().isolation_level(isolation);
    let mut read = Vec::new();
    loop {
        let records = reader.read(Duration::ZERO).unwrap();
        if records.is_empty() {
            assert_eq!(read, polled, "the reader and the consumer agree");
            return polled;
        }
        read.extend(offsets(&records));
    }
}

/// Plain records, two of a transaction, plain records again. Returns the offsets of the two.
fn filled(log: &Log) -> [i64; 2] {
    for _ in 0..PLAIN {
        append(log, None);
    }
    let first = append(log, of_transaction(0));
    append(log, None);
    let second = append(log, of_transaction(1));
    for _ in 0..PLAIN {
        append(log, None);
    }
    [first, second]
}

#[test]
fn an_open_transaction_holds_readers_of_committed_records_back() {
    let broker = broker();
    let log = log(&broker);
    let [first, _] = filled(&log);
    assert_eq!(log.last_stable_offset().unwrap(), first);
    assert_eq!(read(&broker, IsolationLevel::ReadCommitted), (0..first).collect::<Vec<_>>());
    let all = read(&broker, IsolationLevel::ReadUncommitted);
    assert_eq!(all, (0..log.log_end_offset().unwrap()).collect::<Vec<_>>());
}

#[test]
fn an_aborted_transaction_is_passed_over_also_where_it_was_encoded_in_place() {
    let broker = broker();
    let log = log(&broker);
    let own = filled(&log);
    end(&log, ControlType::Abort);
    let marker = log.log_end_offset().unwrap() - 1;
    let last = append(&log, None);
    let committed: Vec<i64> =
        (0..=last).filter(|offset| !own.contains(offset) && *offset != marker).collect();
    assert_eq!(read(&broker, IsolationLevel::ReadCommitted), committed);
    let all: Vec<i64> = (0..=last).filter(|offset| *offset != marker).collect();
    assert_eq!(read(&broker, IsolationLevel::ReadUncommitted), all);
    assert_eq!(log.last_stable_offset().unwrap(), last + 1);
}

#[test]
fn a_committed_transaction_is_read_like_any_other_record() {
    let broker = broker();
    let log = log(&broker);
    filled(&log);
    end(&log, ControlType::Commit);
    let marker = log.log_end_offset().unwrap() - 1;
    let all: Vec<i64> = (0..marker).collect();
    assert_eq!(read(&broker, IsolationLevel::ReadCommitted), all);
    assert_eq!(read(&broker, IsolationLevel::ReadUncommitted), all);
}

#[test]
fn transactions_that_end_differently_lie_between_each_other() {
    let broker = broker();
    let log = log(&broker);
    let of = |producer_id: i64, base_sequence: i32| ProducerStamp {
        producer_id,
        ..of_transaction(base_sequence).unwrap()
    };
    let mut seen = Vec::new();
    for round in 0..60 {
        let mut own = [Vec::new(), Vec::new()];
        for at in 0..3 {
            own[0].push(append(&log, Some(of(7, round * 3 + at))));
            own[1].push(append(&log, Some(of(8, round * 3 + at))));
            seen.push(append(&log, None));
        }
        // Each of them is aborted in every third round, and both in every ninth.
        for (producer_id, own) in [(7, &own[0]), (8, &own[1])] {
            let is_aborted = if producer_id == 7 { round % 3 } else { round / 3 % 3 } == 0;
            let kind = if is_aborted { ControlType::Abort } else { ControlType::Commit };
            let marker = Marker {
                producer_id,
                producer_epoch: 0,
                kind,
                coordinator_epoch: 0,
                transaction_version: 1,
            };
            log.append_marker(marker, 6).unwrap();
            if !is_aborted {
                seen.extend(own);
            }
        }
    }
    seen.sort_unstable();
    assert_eq!(read(&broker, IsolationLevel::ReadCommitted), seen);
}

#[test]
fn a_batch_that_is_sent_again_is_stored_once_and_answered_with_its_offset() {
    let broker = broker();
    let log = log(&broker);
    append(&log, None);
    let stamp =
        ProducerStamp { producer_id: 9, producer_epoch: 0, base_sequence: 0, transactional: false };
    assert_eq!(append(&log, Some(stamp)), 1);
    assert_eq!(append(&log, Some(stamp)), 1);
    let next = ProducerStamp { base_sequence: 1, ..stamp };
    assert_eq!(append(&log, Some(next)), 2);
    assert_eq!(append(&log, Some(stamp)), 1);
    let gap = ProducerStamp { base_sequence: 3, ..stamp };
    let options = AppendOptions { producer: Some(gap), ..AppendOptions::client(5) };
    let refused = log.append(&RecordInput::default(), options).unwrap_err();
    assert_eq!(refused.kind(), crate::ErrorKind::OutOfOrderSequence);
    assert_eq!(read(&broker, IsolationLevel::ReadCommitted), [0, 1, 2]);
}
