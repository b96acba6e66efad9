//! Arbitrary bytes as stored records, for the fuzzer and the tests: nothing panics, what decodes is
//! encoded again to bytes that decode alike, and the transactions that come of them end.

use super::{EndAnswer, InitAnswer, TransactionConfig, TransactionCoordinator, TransactionRecord};
use crate::coordinator::CoordinatorShard;
use crate::time::Now;
use std::sync::Arc;
use std::time::Duration;

/// Takes `bytes` as a sequence of records (length of the key, key, length of the value plus one,
/// value), replays them, and has every transaction that comes of them end.
pub fn replay_arbitrary_transactions(bytes: &[u8]) {
    let mut shard = TransactionCoordinator::new(TransactionConfig::default());
    let mut rest = bytes;
    while let Some((key, tail)) = piece(rest, 0) {
        let (value, tail) = match piece(tail, 1) {
            Some((value, tail)) => (Some(value), tail),
            None => (None, tail.get(2..).unwrap_or_default()),
        };
        rest = tail;
        let Ok(record) = TransactionRecord::decode(key, value) else { continue };
        decodes_alike(&record);
        shard.replay(record);
    }
    let mut now = Now { wall_ms: 1, mono: Duration::from_secs(1) };
    shard.begin_life(&Vec::from_iter(0..shard.config.topic_partitions), now);
    let ids: Vec<Arc<str>> = shard.all().map(|(id, _)| id.clone()).collect();
    for id in ids.iter().filter(|id| !id.is_empty()) {
        end_all(&mut shard, id, now);
    }
    // Checks while something is open, and the expiry of all ids.
    for _ in 0..1000 {
        let Some(due) = shard.next_deadline() else { break };
        now = now.plus(due.saturating_sub(now.mono));
        for append in shard.expire(now).appends {
            shard.applied(append, 0, now);
        }
        shard.take_events();
    }
}

fn piece(bytes: &[u8], bias: usize) -> Option<(&[u8], &[u8])> {
    let (&[high, low], rest) = bytes.split_first_chunk()?;
    let len = usize::from(u16::from_be_bytes([high, low])).checked_sub(bias)?;
    Some(rest.split_at(len.min(rest.len())))
}

fn decodes_alike(record: &TransactionRecord) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    record.encode_key(&mut key);
    let value = record.encode_value(&mut value).then_some(&value[..]);
    let mut expected = record.clone();
    if let TransactionRecord::State { value: Some(value), .. } = &mut expected
        && value.state == super::TransactionState::Empty
    {
        value.partitions.clear();
    }
    assert_eq!(TransactionRecord::decode(&key, value).as_ref(), Ok(&expected));
}

/// A producer takes over, and commits a transaction of one partition.
fn end_all(shard: &mut TransactionCoordinator, id: &Arc<str>, now: Now) {
    let mut fresh_id = || Ok(1_000_000);
    let producer = loop {
        let result = shard.init(id, Duration::from_secs(60), &mut fresh_id, now);
        result.appends.into_iter().for_each(|append| shard.applied(append, 0, now));
        match result.response {
            Ok(InitAnswer::Ready(identity)) => break identity,
            Ok(InitAnswer::EndFirst(end)) => {
                let result = shard.marked(&end, &end.partitions, now);
                result.appends.into_iter().for_each(|append| shard.applied(append, 0, now));
            }
            Err(error) => panic!("{error}"),
        }
    };
    let added = shard.add_partition(id, producer, &crate::TopicPartition::new("t", 0), now);
    assert!(added.response.is_ok());
    added.appends.into_iter().for_each(|append| shard.applied(append, 0, now));
    let result = shard.end(id, producer, true, &mut fresh_id, now);
    result.appends.into_iter().for_each(|append| shard.applied(append, 0, now));
    let Ok(EndAnswer::Decided(end, next)) = result.response else { panic!("it was open") };
    let result = shard.marked(&end, &end.partitions, now);
    result.appends.into_iter().for_each(|append| shard.applied(append, 0, now));
    let left = shard.get(id).map(|value| (value.state, value.producer_id, value.producer_epoch));
    let expected = super::TransactionState::CompleteCommit;
    assert_eq!(left, Some((expected, next.producer_id, next.producer_epoch)));
}
